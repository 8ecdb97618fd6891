/*
 * html.c - writes report.html (html.h): a head with the verdict and the answers, the figures, then
 * the sections of report.md, rendered from that very file, so that the two cannot differ. Every
 * text from a scenario, a run or a host goes through markup.h.
 */
#include "harness/report/html.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/data.h"
#include "harness/report/markup.h"
#include "harness/report/rows.h"
#include "harness/report/svg.h"
#include "harness/report/text.h"
#include "harness/report/verdict.h"

enum {
    PATH_BYTES = 640,
    ANSWERS_MAX = 12,
    INPUT_BYTES_MAX = 64 << 20
};

/* The colours are those of plots/style.gp: a topology has the same one everywhere. */
static const char style[] =
    ":root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--page:#fff;--box:#f6f8fa;"
    "--line:#d1d9e0;--link:#0969da;--note:#fff8c5}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b3;--page:#0d1117;"
    "--box:#161b22;--line:#3d444d;--link:#6cb6ff;--note:#3a2d00}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:72rem;color:var(--ink);"
    "background:var(--page);font:16px/1.5 system-ui,'DejaVu Sans',sans-serif;"
    "overflow-wrap:anywhere}\n"
    "h1{font-size:1.1rem;margin:0;color:var(--soft)}\n"
    "h2{font-size:1.25rem;margin:2.5rem 0 .5rem;padding-top:.75rem;"
    "border-top:1px solid var(--line)}\n"
    "a{color:var(--link)}\n"
    "code,pre{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:.85em}\n"
    "pre{overflow-x:auto;padding:.75rem;background:var(--box);line-height:1.25;"
    "overflow-wrap:normal}\n"
    ".question{color:var(--soft);margin:.25rem 0 1rem}\n"
    ".verdict{font-size:1.3rem;font-weight:600;line-height:1.4;margin:.5rem 0}\n"
    ".caveat{padding:.5rem .75rem;background:var(--note);border-left:4px solid #e69f00}\n"
    ".answers{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.75rem;"
    "padding:0;margin:1rem 0;list-style:none}\n"
    ".answers li{padding:.5rem .75rem;background:var(--box);border-left:5px solid #0072b2}\n"
    ".answers li.colour1{border-color:#d55e00}.answers li.colour2{border-color:#009e73}"
    ".answers li.colour3{border-color:#cc79a7}.answers li.colour4{border-color:#e69f00}"
    ".answers li.colour5{border-color:#56b4e9}.answers li.colour6{border-color:#808080}\n"
    ".answers b{display:block;font-size:1.15rem}.answers span{display:block;color:var(--soft);"
    "font-size:.9rem}\n"
    "nav ul{columns:3 15rem;column-gap:2rem;padding-left:1.25rem}\n"
    "figure{margin:1.5rem 0}\n"
    "figcaption{margin-top:.5rem;color:var(--soft);font-size:.95rem}"
    "figcaption b{color:var(--ink)}\n"
    ".card{padding:.5rem;background:#fff;border:1px solid var(--line);overflow-x:auto}\n"
    ".card svg,.card img{display:block;width:100%;height:auto;max-width:1000px;margin:0 auto}\n"
    ".zoom{display:none;font-size:.9rem}\n"
    ".table{width:fit-content;max-width:100%;max-height:48rem;overflow:auto;border:1px solid "
    "var(--line);"
    "margin:.75rem 0}\n"
    "table{border-collapse:collapse;font-size:.875rem;"
    "font-variant-numeric:tabular-nums;overflow-wrap:normal}\n"
    "th,td{padding:.3rem .6rem;text-align:left;white-space:nowrap;"
    "border-bottom:1px solid var(--line)}\n"
    "td{white-space:normal;min-width:4rem}.number{text-align:right}td.number{white-space:nowrap}\n"
    "thead th{position:sticky;top:0;background:var(--box);white-space:normal;vertical-align:bottom}"
    "\ntbody th{font-weight:400}\n"
    "@media(max-width:44rem){.zoom{display:block}.card{padding:.25rem}.verdict{font-size:1.1rem}"
    ".zoom:has(input:checked)+.card svg,.zoom:has(input:checked)+.card img{width:900px;"
    "max-width:none}}\n"
    "@media print{:root{color-scheme:light;--ink:#000;--soft:#333;--page:#fff;--box:#f6f8fa;"
    "--line:#999;--link:#000;--note:#fff}body{max-width:none;padding:0;font-size:10pt}"
    "nav,.zoom{display:none}.table{max-height:none;overflow:visible}table{font-size:7.5pt}"
    "figure,tr{break-inside:avoid}h2{break-after:avoid}}\n";

/* ---- files ---- */

/* `name` in the folder, whole and with a NUL behind it; NULL: not there, or too large for a page.
 */
static char *read_whole(const char *folder, const char *name, size_t *bytes)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    long size = 0;
    if (file == NULL) {
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) <= 0 || size > INPUT_BYTES_MAX ||
        fseek(file, 0, SEEK_SET) != 0) {
        (void)fclose(file);
        return NULL;
    }
    char *text = calloc(1, (size_t)size + 1);
    *bytes = text != NULL ? fread(text, 1, (size_t)size, file) : 0;
    (void)fclose(file);
    return text;
}

/* ---- a text in memory ---- */

struct buffer {
    char *text;
    size_t bytes;
    FILE *file;
};

static enum status buffer_open(struct buffer *b, struct error *error)
{
    *b = (struct buffer){.text = NULL};
    b->file = open_memstream(&b->text, &b->bytes);
    return b->file != NULL ? STATUS_OK : error_set(error, STATUS_NOMEM, "no memory for a report");
}

/* What was written is in `text` then, for the caller to free. */
static enum status buffer_close(struct buffer *b, struct error *error)
{
    if (fclose(b->file) == 0 && b->text != NULL) {
        return STATUS_OK;
    }
    free(b->text);
    b->text = NULL;
    return error_set(error, STATUS_NOMEM, "no memory for a report");
}

/* ---- head ---- */

static void write_answer(const struct summary *s, uint32_t index, FILE *out)
{
    const struct summary_curve *c = &s->curves[index];
    char limit[256] = "no evidence";
    if (c->deciding != NULL) {
        struct text t = text_into(limit, sizeof limit);
        verdict_stage(&t, c->deciding);
        text_add(&t, "; ");
        text_rate(&t, c->deciding->tok_per_s);
        text_add(&t, " tokens/s at %u", c->deciding->along);
    }
    (void)fprintf(out, "<li class=\"colour%u\"><span>", data_colour(c, index));
    markup_escape(c->label, out);
    (void)fputs("</span><b>", out);
    markup_escape(c->decided ? c->answer.text : "undecided", out);
    (void)fputs("</b><span>", out);
    markup_escape(limit, out);
    (void)fputs("</span></li>\n", out);
}

static void write_answers(const struct summary *s, FILE *out)
{
    uint32_t told = s->curves_count < ANSWERS_MAX ? s->curves_count : ANSWERS_MAX;
    if (told == 0) {
        return;
    }
    (void)fputs("<p>Extra ", out);
    markup_escape(s->plural, out);
    (void)fputs(" stop helping at:</p>\n<ul class=\"answers\">\n", out);
    for (uint32_t i = 0; i < told; i++) {
        write_answer(s, i, out);
    }
    (void)fputs("</ul>\n", out);
    if (told < s->curves_count) {
        (void)fprintf(out, "<p>%u more are in the tables below.</p>\n", s->curves_count - told);
    }
}

static void write_head(const struct markdown *m, FILE *out)
{
    const struct scenario_general *g = &m->summary->scenario->general;
    (void)fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                "style-src 'unsafe-inline'; img-src data:\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                out);
    markup_escape(g->name, out);
    (void)fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>", style);
    markup_escape(g->name, out);
    (void)fputs("</h1>\n<p class=\"question\">", out);
    markup_escape(g->question, out);
    (void)fputs("</p>\n<p class=\"verdict\">", out);
    markup_escape(m->conclusion->verdict, out);
    (void)fputs("</p>\n", out);
    if (m->conclusion->caveat[0] != '\0') {
        (void)fputs("<p class=\"caveat\" role=\"note\">", out);
        markup_escape(m->conclusion->caveat, out);
        (void)fputs("</p>\n", out);
    }
    write_answers(m->summary, out);
    (void)fputs("</header>\n", out);
}

/* ---- figures ---- */

static char *read_figure(const char *folder, const char *name, const char *suffix, size_t *bytes)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "figures/%s.%s", name, suffix);
    return read_whole(folder, path, bytes);
}

static void write_base64(const unsigned char *data, size_t bytes, FILE *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t left = bytes - i < 3 ? (uint32_t)(bytes - i) : 3;
        uint32_t group = (uint32_t)data[i] << 16;
        group |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        group |= left > 2 ? data[i + 2] : 0;
        for (uint32_t k = 0; k < 4; k++) {
            (void)fputc(k <= left ? digits[group >> (18 - 6 * k) & 63] : '=', out);
        }
    }
}

static bool write_svg(const struct figure *f, const char *folder, FILE *out)
{
    size_t bytes = 0;
    char *svg = read_figure(folder, f->name, "svg", &bytes);
    bool drawn = svg != NULL && svg_inline(svg, f->name, f->caption, out);
    free(svg);
    return drawn;
}

static bool write_png(const struct figure *f, const char *folder, FILE *out)
{
    size_t bytes = 0;
    char *png = read_figure(folder, f->name, "png", &bytes);
    if (png == NULL) {
        return false;
    }
    (void)fputs("<img alt=\"", out);
    markup_escape(f->caption, out);
    (void)fputs("\" src=\"data:image/png;base64,", out);
    write_base64((const unsigned char *)png, bytes, out);
    (void)fputs("\">\n", out);
    free(png);
    return true;
}

static void write_drawing(const struct figure *f, const char *folder, FILE *out)
{
    size_t bytes = 0;
    bool done = (f->formats & SCENARIO_PLOT_SVG) != 0 && write_svg(f, folder, out);
    done = done || ((f->formats & SCENARIO_PLOT_PNG) != 0 && write_png(f, folder, out));
    char *text = done ? NULL : read_figure(folder, f->name, "txt", &bytes);
    if (text != NULL) {
        (void)fputs("<pre>", out);
        markup_escape(text, out);
        (void)fputs("</pre>\n", out);
    } else if (!done) {
        (void)fputs("<p>The drawing cannot be read.</p>\n", out);
    }
    free(text);
}

static void write_figure(const struct figure *f, const char *folder, FILE *out)
{
    bool text = (f->formats & (SCENARIO_PLOT_SVG | SCENARIO_PLOT_PNG)) == 0;
    if (f->formats == 0) {
        return;
    }
    (void)fprintf(out, "<figure id=\"figure-%s\">\n", f->name);
    if (!text) {
        (void)fputs("<label class=\"zoom\"><input type=\"checkbox\"> large</label>\n", out);
    }
    (void)fputs(text ? "<div>\n" : "<div class=\"card\">\n", out);
    write_drawing(f, folder, out);
    (void)fputs("</div>\n<figcaption><b>", out);
    markup_escape(f->caption, out);
    (void)fputs(".</b> ", out);
    markup_escape(f->reading, out);
    (void)fputs("</figcaption>\n</figure>\n", out);
}

static enum status write_text_figure(const struct markdown *m, FILE *out, struct error *error)
{
    struct buffer b;
    TRY(buffer_open(&b, error));
    figures_write_text(m->summary, b.file);
    TRY(buffer_close(&b, error));
    (void)fputs("<figure id=\"figure-text\">\n<pre>", out);
    markup_escape(b.text, out);
    (void)fputs("</pre>\n<figcaption><b>", out);
    markup_escape(m->figures->list[0].caption, out);
    (void)fputs(".</b> A letter is a curve.</figcaption>\n</figure>\n", out);
    free(b.text);
    return STATUS_OK;
}

static enum status write_figures(const struct markdown *m, const char *folder, FILE *out,
                                 struct error *error)
{
    (void)fputs("<section id=\"figures\">\n<h2>Figures</h2>\n", out);
    for (size_t i = 0; i < FIGURES_COUNT; i++) {
        write_figure(&m->figures->list[i], folder, out);
    }
    if (m->figures->text_only) {
        TRY(write_text_figure(m, out, error));
    }
    if (m->figures->problem[0] != '\0') {
        (void)fputs("<p class=\"caveat\" role=\"note\">Not every figure was drawn: ", out);
        markup_escape(m->figures->problem, out);
        (void)fputs(".</p>\n", out);
    }
    (void)fputs("</section>\n", out);
    return STATUS_OK;
}

/* ---- the sections ---- */

/* What would end a cell or a row is taken out; the rest is escaped with everything else. */
static void run_cell(const char *text, FILE *out)
{
    (void)fputc(' ', out);
    for (; *text != '\0'; text++) {
        (void)fputs(*text == '|' ? "\\" : "", out);
        (void)fputc(*text == '\n' || *text == '\r' ? ' ' : *text, out);
    }
    (void)fputs(" |", out);
}

static void write_run(const struct run_result *r, FILE *out)
{
    char rate[32];
    struct text t = text_into(rate, sizeof rate);
    text_rate(&t, r->output_tok_per_s.mean);
    (void)fputc('|', out);
    run_cell(r->run_id, out);
    run_cell(r->cell->name, out);
    (void)fprintf(out, " %u | %s |", r->replicate, r->start_utc);
    run_cell(rows_outcome_name(r->outcome), out);
    run_cell(rate, out);
    (void)fprintf(out, " %llu | %llu | %llu |", (unsigned long long)r->ok_count,
                  (unsigned long long)r->fail_count, (unsigned long long)r->censored_count);
    run_cell(r->host_limited ? "host limited" : "", out);
    run_cell(r->reason, out);
    (void)fputc('\n', out);
}

static void write_runs(const struct markdown *m, FILE *out)
{
    (void)fputs("\n## Runs\n\nIn the order of running; runs.csv has every number.\n\n"
                "| run | cell | replicate | started | outcome | tokens/s | requests ok | failed | "
                "censored | host | reason |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
                out);
    for (uint32_t i = 0; i < m->results_count; i++) {
        write_run(&m->results[i], out);
    }
}

/* The sections before the figures, those behind them, with the list of runs before the provenance.
 */
static void write_sections(const struct markdown *m, const char *report, FILE *out)
{
    const char *figures = strstr(report, "\n## Figures\n");
    const char *first = strstr(report, "\n## ");
    if (figures != NULL && first < figures) {
        (void)fwrite(first, 1, (size_t)(figures - first), out);
    }
    const char *from = figures != NULL ? strstr(figures + 1, "\n## ") : NULL;
    from = from != NULL ? from : "";
    const char *provenance = strstr(from, "\n## Provenance\n");
    provenance = provenance != NULL ? provenance : from + strlen(from);
    (void)fwrite(from, 1, (size_t)(provenance - from), out);
    write_runs(m, out);
    (void)fputs(provenance, out);
}

/* The Markdown of everything behind the figures, for the caller to free. */
static enum status gather_sections(const struct markdown *m, const char *folder, char **sections,
                                   struct error *error)
{
    struct buffer b;
    size_t bytes = 0;
    char *report = read_whole(folder, "report.md", &bytes);
    if (report == NULL) {
        return error_set(error, STATUS_IO, "%s/report.md: cannot be read", folder);
    }
    enum status status = buffer_open(&b, error);
    if (status == STATUS_OK) {
        write_sections(m, report, b.file);
        status = buffer_close(&b, error);
        *sections = b.text;
    }
    free(report);
    return status;
}

static enum status write_page(const struct markdown *m, const char *folder, FILE *out,
                              struct error *error)
{
    char *sections = NULL;
    TRY(gather_sections(m, folder, &sections, error));
    write_head(m, out);
    (void)fputs("<nav aria-label=\"Sections\"><ul>\n<li><a href=\"#figures\">Figures</a></li>\n",
                out);
    markup_contents(sections, out);
    (void)fputs("</ul></nav>\n<main>\n", out);
    enum status status = write_figures(m, folder, out, error);
    markup_write(sections, out);
    (void)fputs("</main>\n</body>\n</html>\n", out);
    free(sections);
    return status;
}

enum status html_write(const struct markdown *m, const char *folder, struct error *error)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/report.html", folder);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    enum status status = write_page(m, folder, file, error);
    bool good = fflush(file) == 0 && ferror(file) == 0;
    int why = errno;
    good = fclose(file) == 0 && good;
    return status != STATUS_OK || good
               ? status
               : error_set(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(why));
}
