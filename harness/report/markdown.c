/*
 * markdown.c - writes report.md (markdown.h). Every number comes from the summary or the results; a
 * number that is not known is a dash.
 */
#include "harness/report/markdown.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "harness/report/ceilings.h"
#include "harness/report/goodput.h"
#include "harness/report/launching.h"
#include "harness/report/plan.h"
#include "harness/report/processes.h"
#include "harness/report/rows.h"
#include "harness/report/shares.h"
#include "harness/report/text.h"
#include "harness/report/verdict.h"

enum {
    HOP_COLUMNS_MAX = 5
};

/* One cell of a table: "| " and what the text functions make of the value. */
static void rate_cell(FILE *out, double value)
{
    char buffer[32];
    struct text t = text_into(buffer, sizeof buffer);
    text_rate(&t, value);
    (void)fprintf(out, " %s |", buffer);
}

static void percent_cell(FILE *out, double value)
{
    char buffer[32];
    struct text t = text_into(buffer, sizeof buffer);
    text_percent(&t, value);
    (void)fprintf(out, " %s |", buffer);
}

static void number_cell(FILE *out, double value, int decimals)
{
    char buffer[48];
    struct text t = text_into(buffer, sizeof buffer);
    text_number(&t, value, decimals);
    (void)fprintf(out, " %s |", buffer);
}

/* A bar or a line break would end the table's cell. */
static void text_cell(FILE *out, const char *text)
{
    (void)fputc(' ', out);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '|') {
            (void)fputs("\\|", out);
        } else {
            (void)fputc(*at == '\n' || *at == '\r' ? ' ' : *at, out);
        }
    }
    (void)fputs(" |", out);
}

static void interval_cell(FILE *out, double lo, double hi)
{
    char buffer[64];
    struct text t = text_into(buffer, sizeof buffer);
    if (isnan(lo) || isnan(hi)) {
        text_add(&t, "-");
    } else {
        text_rate(&t, lo);
        text_add(&t, " .. ");
        text_rate(&t, hi);
    }
    (void)fprintf(out, " %s |", buffer);
}

static void head(FILE *out, const char *title, const char *intro, const char *columns)
{
    (void)fprintf(out, "\n## %s\n\n", title);
    if (intro[0] != '\0') {
        (void)fprintf(out, "%s\n\n", intro);
    }
    if (columns[0] == '\0') {
        return;
    }
    (void)fprintf(out, "%s\n|", columns);
    for (const char *at = columns + 1; *at != '\0'; at++) {
        if (*at == '|') {
            (void)fputs("---|", out);
        }
    }
    (void)fputc('\n', out);
}

/* ---- figures ---- */

static void link_figure(FILE *out, const struct figure *f)
{
    if ((f->formats & SCENARIO_PLOT_SVG) != 0) {
        (void)fprintf(out, "![%s](figures/%s.svg)\n\n", f->caption, f->name);
    } else if ((f->formats & SCENARIO_PLOT_PNG) != 0) {
        (void)fprintf(out, "![%s](figures/%s.png)\n\n", f->caption, f->name);
    } else if ((f->formats & SCENARIO_PLOT_DUMB) != 0) {
        (void)fprintf(out, "%s: [figures/%s.txt](figures/%s.txt)\n\n", f->caption, f->name,
                      f->name);
    }
}

static void write_figures(const struct markdown *m, FILE *out)
{
    (void)fprintf(out, "\n## Figures\n\n");
    for (size_t i = 0; i < FIGURES_COUNT; i++) {
        link_figure(out, &m->figures->list[i]);
    }
    if (m->figures->text_only) {
        (void)fprintf(out, "```\n");
        figures_write_text(m->summary, out);
        (void)fprintf(out, "```\n\n");
    }
    if (m->figures->problem[0] != '\0') {
        (void)fprintf(out, "Note: not every figure was drawn: %s.\n", m->figures->problem);
    }
    (void)fprintf(out, "Each figure is drawn from the CSV files here alone, for example "
                       "`gnuplot -e \"folder='.'\" PLOTS/01-capacity.gp`.\n");
}

/* ---- points and curves ---- */

static void write_points(const struct markdown *m, FILE *out)
{
    head(
        out, "Cells",
        "Means over the valid runs of a cell; intervals are 95 %, with the noise between runs "
        "pooled over a curve. Use is CPU time and emulated occupancy over wall time; of a GPU, the "
        "time it computed while requests waited for it, for the tokens that were really served.",
        "| cell | tokens/s | 95 % | limits | use | GPU busy | launching | cores in use | "
        "requests ok | failed | runs |");
    for (uint32_t i = 0; i < m->summary->points_count; i++) {
        const struct summary_point *p = &m->summary->points[i];
        (void)fputc('|', out);
        text_cell(out, p->cell->name);
        rate_cell(out, p->tok_per_s);
        interval_cell(out, p->tok_per_s_lo, p->tok_per_s_hi);
        text_cell(out, p->stages_count > 0 ? p->verdict.text : "-");
        percent_cell(out, p->verdict.first_frac);
        percent_cell(out, p->gpu_busy_frac);
        percent_cell(out, p->launch_busy_frac);
        number_cell(out, p->host_cores_used, 2);
        (void)fprintf(out, " %" PRIu64 " | %" PRIu64 " | %u of %u%s |\n", p->ok_count,
                      p->fail_count, p->valid_count, p->runs_count,
                      p->shown_count > 0 && !p->evidence ? ", host limited" : "");
    }
}

static void write_latencies(const struct markdown *m, FILE *out)
{
    bool any = false;
    for (uint32_t i = 0; i < m->summary->points_count; i++) {
        any = any || !isnan(m->summary->points[i].ttft_p50_ms);
    }
    if (!any) {
        return;
    }
    head(out, "Latencies",
         "In ms, from the sending of a request; p99 is empty below 299 samples. Of closed loops "
         "there are none: their queue is made by the users.",
         "| cell | requests/s | TTFT p50 | TTFT p99 | TPOT p50 | E2E p50 | E2E p99 |");
    for (uint32_t i = 0; i < m->summary->points_count; i++) {
        const struct summary_point *p = &m->summary->points[i];
        (void)fputc('|', out);
        text_cell(out, p->cell->name);
        number_cell(out, p->achieved_rps, 1);
        number_cell(out, p->ttft_p50_ms, 1);
        number_cell(out, p->ttft_p99_ms, 1);
        number_cell(out, p->tpot_p50_ms, 2);
        number_cell(out, p->e2el_p50_ms, 0);
        number_cell(out, p->e2el_p99_ms, 0);
        (void)fputc('\n', out);
    }
}

static void write_gains(const struct summary *s, const struct summary_curve *c, FILE *out)
{
    for (uint32_t i = 0; i < c->answer.gains_count; i++) {
        const struct scaling_gain *g = &c->answer.gains[i];
        const struct scaling_efficiency *e = &c->efficiency[i + 1];
        double useful = s->scenario->scaling.useful_gain_frac;
        const char *word = g->lower > useful ? "helps" : g->upper < useful ? "flat" : "open";
        (void)fputc('|', out);
        text_cell(out, c->label);
        (void)fprintf(out, " %u to %u |", g->cores_from, g->cores_to);
        percent_cell(out, g->gain);
        percent_cell(out, g->lower);
        percent_cell(out, g->upper);
        text_cell(out, isnan(g->upper) ? "unknown noise" : word);
        number_cell(out, e->speedup, 2);
        percent_cell(out, e->efficiency);
        (void)fputc('\n', out);
    }
}

static void write_curves(const struct markdown *m, FILE *out)
{
    char intro[640];
    const struct summary *s = m->summary;
    if (s->curves_count == 0) {
        return;
    }
    struct text t = text_into(intro, sizeof intro);
    text_add(
        &t,
        "Gain is what one more %s added, as a share of what one alone gives, with one-sided "
        "95 %% bounds. More stop helping at the first step whose upper bound is below %.0f %%; "
        "\"6 [6, 8)\" means that they help through 6, not at 8, and that 7 was not tested.",
        s->noun, s->scenario->scaling.useful_gain_frac * 100);
    head(out, "Where more stops helping", intro,
         "| curve | step | gain | lower | upper | verdict | speed-up | efficiency |");
    for (uint32_t i = 0; i < s->curves_count; i++) {
        write_gains(s, &s->curves[i], out);
    }
    (void)fprintf(out, "\n| curve | more stop helping at | limited there by | gain over fewer "
                       "API servers | lower | upper | predicted |\n"
                       "|---|---|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < s->curves_count; i++) {
        const struct summary_curve *c = &s->curves[i];
        char limit[256] = "-";
        if (c->deciding != NULL) {
            struct text l = text_into(limit, sizeof limit);
            verdict_stage(&l, c->deciding);
        }
        (void)fputc('|', out);
        text_cell(out, c->label);
        text_cell(out, c->decided ? c->answer.text : "undecided");
        text_cell(out, limit);
        percent_cell(out, c->fewer != NULL ? c->gain.gain : STATS_UNKNOWN);
        percent_cell(out, c->fewer != NULL ? c->gain.lower : STATS_UNKNOWN);
        percent_cell(out, c->fewer != NULL ? c->gain.upper : STATS_UNKNOWN);
        char foretold[160];
        struct text f = text_into(foretold, sizeof foretold);
        ceilings_tell_foretold(c, &f);
        text_cell(out, foretold);
        (void)fputc('\n', out);
    }
}

static void write_prediction(const struct markdown *m, FILE *out)
{
    const struct summary *s = m->summary;
    bool any = false;
    for (uint32_t i = 0; i < s->curves_count; i++) {
        any = any || s->curves[i].prediction.known;
    }
    if (!any) {
        return;
    }
    head(
        out, "Against the closed form",
        "What the host profile's constants predict before anything is run: an API server carries "
        "1 / (output token + (request + prompt tokens x prompt token) / output tokens + message / "
        "sequences a message) tokens/s. The cost of an output token is published between two ends, "
        "so the knee is given for both; the emulation uses the constant in the third column.",
        "| curve | profile | us a token in use | predicted tokens/s | predicted knee | knee at "
        "slow "
        "end | knee at fast end | measured knee |");
    for (uint32_t i = 0; i < s->curves_count; i++) {
        const struct summary_curve *c = &s->curves[i];
        const struct summary_prediction *p = &c->prediction;
        if (!p->known) {
            continue;
        }
        (void)fputc('|', out);
        text_cell(out, c->label);
        text_cell(out, p->profile);
        number_cell(out, p->token_us, 1);
        rate_cell(out, p->ceiling * c->api_servers_count);
        number_cell(out, p->knee, 1);
        (void)fprintf(out, " %.1f (%.1f us) | %.1f (%.1f us) |", p->knee_slow, p->token_hi_us,
                      p->knee_fast, p->token_lo_us);
        text_cell(out, c->decided ? c->answer.text : "undecided");
        (void)fputc('\n', out);
    }
}

/* ---- which stage limits where ---- */

static const struct summary_point *point_at(const struct summary *s, uint32_t curve, uint32_t along)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].along == along && s->points[i].shown_count > 0 &&
            summary_curve_of(s, &s->points[i]) == (int)curve) {
            return &s->points[i];
        }
    }
    return NULL;
}

/* Next greater value of the axis than `after` among the points, 0: none. */
static uint32_t next_along(const struct summary *s, uint32_t after)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        uint32_t along = s->points[i].along;
        if (along > after && (next == 0 || along < next)) {
            next = along;
        }
    }
    return next;
}

static void write_map(const struct markdown *m, FILE *out)
{
    const struct summary *s = m->summary;
    if (s->curves_count == 0) {
        return;
    }
    head(out, "Which stage limits where",
         "Tokens/s of each cell and what limits it. A stage is named when it is used at least 85 % "
         "of the time and leads by 5 points.",
         "");
    (void)fprintf(out, "| curve \\ %s |", s->plural);
    for (uint32_t x = next_along(s, 0); x > 0; x = next_along(s, x)) {
        (void)fprintf(out, " %u |", x);
    }
    (void)fprintf(out, "\n|---|");
    for (uint32_t x = next_along(s, 0); x > 0; x = next_along(s, x)) {
        (void)fprintf(out, "---|");
    }
    (void)fputc('\n', out);
    for (uint32_t i = 0; i < s->curves_count; i++) {
        (void)fputc('|', out);
        text_cell(out, s->curves[i].label);
        for (uint32_t x = next_along(s, 0); x > 0; x = next_along(s, x)) {
            const struct summary_point *p = point_at(s, i, x);
            char text[96] = "-";
            if (p != NULL) {
                struct text t = text_into(text, sizeof text);
                text_rate(&t, p->tok_per_s);
                text_add(&t, ": %s ",
                         p->verdict.kind == STAGE_NAMED   ? p->verdict.first
                         : p->verdict.kind == STAGE_MIXED ? "mixed"
                                                          : "unexplained");
                text_percent(&t, p->verdict.first_frac);
                text_add(&t, "%s", p->evidence ? "" : " (host limited)");
            }
            text_cell(out, text);
        }
        (void)fputc('\n', out);
    }
}

static void write_stages(const struct markdown *m, FILE *out)
{
    head(out, "Use of each stage",
         "Mean over the servers of a stage, and the busiest one; stages.csv has CPU time and "
         "occupancy of each. A GPU that computes with places free in its batches is not in use.",
         "| cell | stage | servers | use | busiest |");
    for (uint32_t i = 0; i < m->summary->points_count; i++) {
        const struct summary_point *p = &m->summary->points[i];
        for (uint32_t k = 0; k < p->stages_count; k++) {
            const struct stage_summary *stage = &p->stages[k];
            (void)fputc('|', out);
            text_cell(out, p->cell->name);
            text_cell(out, stage->stage);
            (void)fprintf(out, " %u |", stage->servers_count);
            if (stage->instrumented) {
                percent_cell(out, stage->use_frac);
                percent_cell(out, stage->max_frac);
            } else {
                (void)fprintf(out, " not instrumented | |");
            }
            (void)fputc('\n', out);
        }
    }
}

/* ---- ceilings ---- */

static void write_ceilings(const struct markdown *m, FILE *out)
{
    struct ceilings_of c;
    struct grid g = ceilings_grid(m->summary);
    head(out, "Ceilings",
         "What a token costs each stage and the throughput at which the stage would be full, by "
         "all runs of the curve (without curves: of comparable cells). \"regression\": slope of "
         "busy servers on tokens/s; \"one load\": busy servers / tokens/s. A step takes a GPU "
         "nearly as long with few sequences as with many, so its ceiling is the closed form for "
         "full batches, times what runs with full batches gave of it. It is in use while it "
         "computes and its engine core can take no more requests; in brackets, how long it "
         "computed where that is longer.",
         "");
    if (grid_rows(&g) > 0) {
        grid_markdown(&g, out);
    }
    grid_free(&g);
    for (uint32_t i = 0; ceilings_next(m->summary, i, &c); i++) {
        char line[512];
        struct text t = text_into(line, sizeof line);
        verdict_stage(&t, c.point);
        if (!isnan(c.attribution->verdict.explained_frac)) {
            text_add(&t, "; measured %.0f %% of the lowest ceiling",
                     c.attribution->verdict.explained_frac * 100);
        }
        if (c.relief->known) {
            text_add(&t, "; ");
            ceilings_tell_relief(&c, &t);
        }
        (void)fprintf(out, "\n- %s at %s: %s\n", c.label, c.point->cell->name, line);
    }
}

static void write_expected(const struct markdown *m, FILE *out)
{
    char errors[256];
    struct text t = text_into(errors, sizeof errors);
    struct grid g = ceilings_expected_grid(m->results, m->results_count);
    ceilings_tell_errors(m->results, m->results_count, &t);
    if (grid_rows(&g) > 0) {
        head(out, "Cells foretold by the runs before them",
             "Said before the first run of a cell, from the ceilings that the finished runs gave "
             "at its numbers of servers. With fewer than three loads there is no interval.",
             "");
        grid_markdown(&g, out);
        (void)fprintf(out, "\n%s.\n", errors);
    }
    grid_free(&g);
}

static void write_laws(const struct markdown *m, FILE *out)
{
    struct grid g = ceilings_laws_grid(m->summary);
    if (grid_rows(&g) > 0) {
        head(out, "Laws of scaling",
             "Fits to all runs of a curve, weighed by AICc; N* is where the chosen law's "
             "throughput is greatest or stops growing, told only up to 1.5 times the range "
             "tested. The answer above needs none of them.",
             "");
        grid_markdown(&g, out);
    }
    grid_free(&g);
}

/* ---- predictions ---- */

static void write_forecast(const struct markdown *m, FILE *out)
{
    char why[512];
    struct text t = text_into(why, sizeof why);
    struct grid g = forecast_grid(m->summary, true);
    forecast_missing(m->summary, &t);
    head(out, "Prediction and measurement",
         "Closed forms with the emulated device's costs, made before anything ran "
         "(sim/closed_form.h has the formulas). They know the emulated host only: what real "
         "threads take of real cores is in the difference.",
         "");
    if (grid_rows(&g) > 0) {
        grid_markdown(&g, out);
    }
    if (why[0] != '\0') {
        (void)fprintf(out, "\nNot predicted: %s.\n", why);
    }
    grid_free(&g);
}

/* ---- launching threads ---- */

static void write_launch(const struct markdown *m, FILE *out)
{
    enum {
        THREADS_TOLD = 8
    };
    struct grid g = launching_grid(m->summary, THREADS_TOLD);
    head(out, "Who launches kernels", launching_legend(), "");
    if (grid_rows(&g) > 0) {
        grid_markdown(&g, out);
    }
    (void)fprintf(out, "\nOf each cell's first run; launch.csv has every thread of every run.\n");
    grid_free(&g);
}

/* ---- threads ---- */

static void count_cell(FILE *out, int64_t value)
{
    if (value < 0) {
        (void)fprintf(out, " - |");
    } else {
        (void)fprintf(out, " %" PRId64 " |", value);
    }
}

static const struct run_result *threads_run(const struct markdown *m, uint32_t *known,
                                            uint32_t *wrong)
{
    const struct run_result *largest = NULL;
    for (uint32_t i = 0; i < m->results_count; i++) {
        const struct run_result *r = &m->results[i];
        if (!r->threads_known) {
            continue;
        }
        (*known)++;
        *wrong += proc_thread_rows_agree(r->threads) ? 0 : 1;
        if (largest == NULL ||
            topology_processes(&r->cell->topology) > topology_processes(&largest->cell->topology)) {
            largest = r;
        }
    }
    return largest;
}

static void write_threads(const struct markdown *m, FILE *out)
{
    uint32_t known = 0;
    uint32_t wrong = 0;
    const struct run_result *r = threads_run(m, &known, &wrong);
    head(out, "Processes and threads, expected and counted", "", "");
    if (r == NULL) {
        (void)fprintf(out, "Threads were not counted.\n");
        return;
    }
    (void)fprintf(out, "Counts agree in %u of %u runs. The largest topology, %s (run %s):\n\n",
                  known - wrong, known, r->cell->name, r->run_id);
    (void)fprintf(out, "| kind | expected | ledger | /proc |\n|---|---|---|---|\n");
    for (size_t i = 0; i < PROC_THREAD_ROWS; i++) {
        (void)fputc('|', out);
        text_cell(out, r->threads[i].kind);
        count_cell(out, r->threads[i].expected_count);
        count_cell(out, r->threads[i].counted_ledger);
        count_cell(out, r->threads[i].counted_proc);
        (void)fputc('\n', out);
    }
}

/* ---- processes ---- */

static void write_processes(const struct markdown *m, FILE *out)
{
    char text[1024];
    struct text t = text_into(text, sizeof text);
    const struct run_result *r = summary_timeline_run(m->summary, m->results, m->results_count);
    if (r == NULL || r->events_count == 0) {
        return;
    }
    text_add(&t, "Run %s (%s), %s", r->run_id, r->cell->name,
             r->simulated ? "ms of virtual time, at whose begin all are ready."
                          : "ms since the launcher was started. ");
    processes_tell(r, &t);
    head(out, "What launcher and coordinator do", text, "");
    struct grid g = processes_grid(r);
    grid_markdown(&g, out);
    (void)fprintf(out, "\nevents.jsonl has every event of every run, also of the other "
                       "processes.\n");
    grid_free(&g);
}

/* ---- shares ---- */

static void write_shares(const struct markdown *m, FILE *out)
{
    struct grid g = shares_grid(m->summary);
    head(out, "Shares of API servers and engine cores",
         "Of the tokens served in a cell's first run, in the order of their numbers. Jain's index "
         "is 1 when all are equal, 1/n when one does everything.",
         "");
    if (grid_rows(&g) > 0) {
        grid_markdown(&g, out);
    }
    grid_free(&g);
    for (uint32_t i = 0; i < m->summary->points_count; i++) {
        const struct run_result *r = m->summary->points[i].run;
        char alarm[512];
        struct text t = text_into(alarm, sizeof alarm);
        if (r == NULL) {
            continue;
        }
        shares_alarm(r, &t);
        if (alarm[0] != '\0') {
            (void)fprintf(out, "\n- %s: %s\n", r->cell->name, alarm);
        }
    }
}

/* ---- hops ---- */

static double hop_mean(const struct markdown *m, const struct summary_point *p, int part)
{
    double sum = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->results_count; i++) {
        const struct run_result *r = &m->results[i];
        if (r->cell == p->cell && r->outcome == RUN_OK && r->hops.requests_count > 0) {
            sum += r->hops.mean_ms[part];
            count++;
        }
    }
    return count > 0 ? sum / count : STATS_UNKNOWN;
}

/* The first cell and the one that decided each curve; without curves the first cells. */
static uint32_t hop_points(const struct summary *s, const struct summary_point *out[])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->points_count && count < HOP_COLUMNS_MAX; i++) {
        bool chosen = count == 0 || s->curves_count == 0;
        for (uint32_t k = 0; k < s->curves_count; k++) {
            chosen = chosen || s->curves[k].deciding == &s->points[i];
        }
        bool stamped = s->points[i].cell->foreign.kind == SCENARIO_SERVER_OWN;
        if (chosen && stamped && s->points[i].shown_count > 0) {
            out[count++] = &s->points[i];
        }
    }
    return count;
}

static void write_hops(const struct markdown *m, FILE *out)
{
    const struct summary_point *points[HOP_COLUMNS_MAX];
    uint32_t count = hop_points(m->summary, points);
    double residual = 0;
    for (uint32_t i = 0; i < m->results_count; i++) {
        if (m->results[i].hops.requests_count > 0) {
            residual = fmax(residual, m->results[i].hops.residual_max_ms);
        }
    }
    head(
        out, "Where a request's time goes",
        "Mean ms in each hop over the requests with all stamps. The first eight add up to the time "
        "to the first token; without first_* and with the last four they add up to the whole.",
        "");
    if (count == 0) {
        (void)fprintf(out, "No request has all its stamps.\n");
        return;
    }
    (void)fprintf(out, "| hop |");
    for (uint32_t i = 0; i < count; i++) {
        text_cell(out, points[i]->cell->name);
    }
    (void)fprintf(out, "\n|---|");
    for (uint32_t i = 0; i < count; i++) {
        (void)fprintf(out, "---|");
    }
    (void)fputc('\n', out);
    for (int part = 0; part < PROBE_PARTS_COUNT; part++) {
        (void)fprintf(out, "| %s |", probe_part_name((enum probe_part)part));
        for (uint32_t i = 0; i < count; i++) {
            number_cell(out, hop_mean(m, points[i], part), 3);
        }
        (void)fputc('\n', out);
    }
    (void)fprintf(out,
                  "\nGreatest difference between the sum of the hops and what the client saw: "
                  "%.3f ms.\n",
                  residual);
}

/* ---- provenance ---- */

static void write_problems(const struct markdown *m, FILE *out)
{
    bool any = false;
    for (uint32_t i = 0; i < m->results_count; i++) {
        const struct run_result *r = &m->results[i];
        if (r->outcome == RUN_OK) {
            continue;
        }
        if (!any) {
            head(out, "Runs that cannot be used", "", "| run | cell | outcome | reason |");
            any = true;
        }
        (void)fputc('|', out);
        text_cell(out, r->run_id);
        text_cell(out, r->cell->name);
        text_cell(out, rows_outcome_name(r->outcome));
        text_cell(out, r->reason);
        (void)fputc('\n', out);
    }
}

static void write_unobserved(const struct markdown *m, FILE *out)
{
    char seen[512] = "";
    struct text t = text_into(seen, sizeof seen);
    for (uint32_t i = 0; i < m->summary->points_count; i++) {
        const struct summary_point *p = &m->summary->points[i];
        for (uint32_t k = 0; k < p->stages_count; k++) {
            if (!p->stages[k].instrumented && strstr(seen, p->stages[k].stage) == NULL) {
                text_add(&t, "%s%s", seen[0] != '\0' ? ", " : "", p->stages[k].stage);
            }
        }
    }
    (void)fprintf(out, "\n## What was not instrumented\n\n");
    (void)fprintf(out,
                  "Stages: %s. Columns that are empty in the CSV files were not measured; a "
                  "zero was. Accepting connections and the loopback network are seen only as "
                  "the hops client_to_api, first_net_out and last_net_out.\n",
                  seen[0] != '\0' ? seen : "all were observed");
}

static void write_provenance(const struct markdown *m, FILE *out)
{
    const struct run_host *h = m->host;
    const struct scenario_cell *cell = &m->summary->scenario->cells[0];
    (void)fprintf(out, "\n## Provenance\n\n");
    (void)fprintf(out, "- command: `%s`\n", h->command);
    (void)fprintf(out, "- started: %s; scenario %s, configuration %s, revision %s\n",
                  h->started_utc, m->summary->scenario->general.name, h->config_hash,
                  h->git_rev[0] != '\0' ? h->git_rev : "unknown");
    (void)fprintf(out,
                  "- host: %s, %s, %u cores (%.1f usable), kernel %s, governor %s, load %.2f\n",
                  h->host.hostname, h->host.cpu_model, h->host.cores_count, h->host.usable_cores,
                  h->host.kernel, h->host.governor[0] != '\0' ? h->host.governor : "not told",
                  h->host.load[0]);
    if (cell->foreign.kind != SCENARIO_SERVER_OWN) {
        (void)fprintf(out, "- server: of others, %s, at http://%s:%u\n",
                      cell->foreign.kind == SCENARIO_SERVER_LAUNCHED ? "launched for each run"
                                                                     : "attached",
                      cell->foreign.url.host, cell->foreign.url.port);
    } else {
        (void)fprintf(out,
                      "- device: emulated %s, model %s; host profile %s; engine cores and workers "
                      "wait by %s\n",
                      cell->topology.gpu, cell->topology.model, cell->topology.host.name,
                      cell->topology.wait == WAIT_SPIN ? "spinning" : "blocking");
    }
    bool both = m->summary->scenario->general.mode == (uint32_t)SCENARIO_BOTH;
    (void)fprintf(out, "- runs: %u of %u planned%s; order, seeds and outcomes in manifest.json\n",
                  m->results_count, m->summary->planned_count,
                  both ? ", each of them simulated before" : "");
    (void)fprintf(out, "- columns and formulas of the CSV files: docs/results.md\n");
}

void markdown_write(const struct markdown *m, FILE *out)
{
    const struct scenario_general *g = &m->summary->scenario->general;
    (void)fprintf(out, "# %s\n\n", g->name);
    if (g->question[0] != '\0') {
        (void)fprintf(out, "%s\n\n", g->question);
    }
    (void)fprintf(out, "**%s**\n", m->conclusion->verdict);
    if (m->conclusion->caveat[0] != '\0') {
        (void)fprintf(out, "\n%s\n", m->conclusion->caveat);
    }
    if (m->knees != NULL) {
        knees_markdown(m->knees, out);
    }
    if (m->elasticity != NULL) {
        elasticity_markdown(m->elasticity, out);
    }
    if (m->confirmed != NULL) {
        confirmed_markdown(m->confirmed, out);
    }
    if (m->validation != NULL) {
        validation_markdown(m->validation, out);
    }
    write_figures(m, out);
    plan_markdown(m->summary, m->knees, out);
    write_points(m, out);
    write_forecast(m, out);
    write_latencies(m, out);
    goodput_markdown(m->summary, out);
    write_curves(m, out);
    write_prediction(m, out);
    write_map(m, out);
    write_ceilings(m, out);
    write_expected(m, out);
    write_laws(m, out);
    write_launch(m, out);
    write_threads(m, out);
    write_processes(m, out);
    write_shares(m, out);
    write_hops(m, out);
    write_stages(m, out);
    write_problems(m, out);
    write_provenance(m, out);
    write_unobserved(m, out);
}
