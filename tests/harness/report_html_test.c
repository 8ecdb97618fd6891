/*
 * report_html_test.c - report.html: every element closed in its place, whatever a scenario says is
 * text, nothing is fetched from anywhere, every figure stands inside, and the drawings' names do
 * not meet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/report/markup.h"
#include "harness/report/svg.h"
#include "helper_report.h"

enum {
    DEPTH_MAX = 64,
    NAME_BYTES = 32
};

/* ---- a checker of its own: which elements are open, and which names are given ---- */

static bool is_void(const char *name)
{
    return strcmp(name, "meta") == 0 || strcmp(name, "input") == 0 || strcmp(name, "img") == 0;
}

static const char *end_of_tag(const char *at)
{
    char quote = '\0';
    for (; *at != '\0' && (quote != '\0' || *at != '>'); at++) {
        assert_true(quote != '\0' || *at != '<');
        if (quote != '\0' && *at == quote) {
            quote = '\0';
        } else if (quote != '\0') {
            continue;
        } else if (*at == '"') {
            quote = *at;
        }
    }
    assert_int_equal(*at, '>');
    return at;
}

/* Fails unless elements nest and every one that was opened is closed. Returns how many there are.
 */
static uint32_t expect_closed(const char *html)
{
    char open[DEPTH_MAX][NAME_BYTES];
    uint32_t depth = 0;
    uint32_t count = 0;
    const char *at = html;
    while ((at = strchr(at, '<')) != NULL) {
        char name[NAME_BYTES] = "";
        bool closing = at[1] == '/';
        const char *end = end_of_tag(at + 1);
        if (at[1] == '!') {
            at = end;
            continue;
        }
        const char *from = at + (closing ? 2 : 1);
        size_t bytes = strcspn(from, " />\n");
        assert_in_range(bytes, 1, NAME_BYTES - 1);
        memcpy(name, from, bytes);
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[depth - 1], name);
            depth--;
        } else if (end[-1] != '/' && !is_void(name)) {
            assert_true(depth < DEPTH_MAX);
            memcpy(open[depth++], name, sizeof name);
        }
        count += closing ? 0 : 1;
        at = end;
    }
    assert_int_equal(depth, 0);
    return count;
}

static uint32_t count_of(const char *text, const char *words)
{
    uint32_t count = 0;
    for (const char *at = strstr(text, words); at != NULL; at = strstr(at + 1, words)) {
        count++;
    }
    return count;
}

/* Each id="..." once, and each reference to one that is there. */
static void expect_names(const char *html)
{
    char words[160];
    uint32_t references = 0;
    for (const char *at = strstr(html, " id=\""); at != NULL; at = strstr(at + 1, " id=\"")) {
        size_t bytes = strcspn(at + 5, "\"");
        assert_in_range(bytes, 1, 120);
        (void)snprintf(words, sizeof words, " id=\"%.*s\"", (int)bytes, at + 5);
        assert_int_equal(count_of(html, words), 1);
    }
    for (const char *at = strstr(html, "href=\""); at != NULL; at = strstr(at + 1, "href=\"")) {
        size_t bytes = strcspn(at + 7, "\"");
        assert_int_equal(at[6], '#');
        (void)snprintf(words, sizeof words, " id=\"%.*s\"", (int)bytes, at + 7);
        if (strstr(html, words) == NULL) {
            fail_msg("nothing is called %s", words);
        }
        references++;
    }
    assert_true(references > 0);
}

static void expect_in(const char *text, const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("the page does not say \"%s\"", words);
    }
}

static void expect_not_in(const char *text, const char *words)
{
    const char *at = strstr(text, words);
    if (at != NULL) {
        fail_msg("the page says \"%.80s\"", at);
    }
}

/* ---- pages ---- */

static bool have_gnuplot(void)
{
    return access("/usr/bin/gnuplot", X_OK) == 0 || access("/usr/local/bin/gnuplot", X_OK) == 0;
}

static uint32_t write_report(const char *folder, const struct sweep *sweep, uint32_t formats)
{
    char plots[512];
    const char *root = getenv("HARNESS_SOURCE_DIR");
    struct report *report = NULL;
    struct error error;
    struct report_conclusion conclusion;
    (void)snprintf(plots, sizeof plots, "%s/plots", root != NULL ? root : ".");
    sweep->scenario->plot_formats = formats;
    struct report_options options = {
        .folder = folder, .plots_folder = plots, .scenario = sweep->scenario, .host = &sweep->host};
    if (report_create(&options, &report, &error) != STATUS_OK ||
        report_conclude(report, sweep->results, sweep->count, false, &conclusion, &error) !=
            STATUS_OK) {
        fail_msg("%s", error.text);
    }
    report_close(report);
    return conclusion.figures_count;
}

/* Latencies and lag as an open load has them: what the figures about single cells show. */
static void open_up(struct sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->count; i++) {
        struct run_result *r = &sweep->results[i];
        r->offered_rps = r->achieved_rps * 1.1;
        r->lag_p50_ms = 0.02;
        r->lag_p99_ms = 0.2;
        r->lag_max_ms = 0.9;
        r->latency[RUN_TTFT].p50_ms = 30 + i;
        r->latency[RUN_TTFT].p99_ms = 90 + 2 * i;
        r->latency[RUN_TPOT].p50_ms = 8;
    }
}

static void the_page_holds_everything(void **state)
{
    static const char *const words[] = {
        "<p class=\"verdict\">With 1 API server extra engine cores stop helping at 3 [3, 4)",
        "<p class=\"question\">Where do extra engine cores stop helping?</p>",
        "<span>2 API servers</span><b>6 [6, 8)</b>",
        "<th class=\"number\" scope=\"col\">tokens/s</th>",
        "<th scope=\"row\">api_servers=4,dp=8</th>",
        "<td class=\"number\">52.2 k</td>",
        "api_server 98 %</td>", /* the heat map as a table */
        "<h2>Runs</h2>",
        "<th scope=\"row\">r0035</th>",
        "<code>harness run fake.ini</code>",
        "<h2>What was not instrumented</h2>",
        "<a href=\"#what-was-not-instrumented\">",
        "default-src &#39;none&#39;",
        "prefers-color-scheme:dark",
        "@media print",
    };
    static const char *const figures[] = {
        "01-capacity",    "02-efficiency", "03-limits",   "04-latency",   "05-offered",
        "06-percentiles", "08-stages",     "09-ceilings", "10-launch",    "11-starved",
        "12-timeline",    "14-lag",        "15-pareto",   "16-imbalance", "20-predicted"};
    enum {
        FIGURES = sizeof figures / sizeof figures[0]
    };
    char folder[256];
    char name[128];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    open_up(&sweep);
    uint32_t drawn = write_report(folder, &sweep, SCENARIO_PLOT_SVG);
    char *html = file_text(folder, "report.html");
    assert_non_null(html);
    assert_true(expect_closed(html) > 500);
    expect_names(html);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], "default-src &#39;none&#39;") == 0) {
            expect_in(html, "default-src 'none'"); /* inside of double quotes */
        } else {
            expect_in(html, words[i]);
        }
    }
    expect_not_in(html, "http://");
    expect_not_in(html, "https://");
    expect_not_in(html, "<script");
    expect_not_in(html, "src=\"f");
    expect_not_in(html, "url(h");
    if (have_gnuplot()) {
        assert_int_equal(drawn, FIGURES);
        assert_int_equal(count_of(html, "<svg "), FIGURES);
        for (size_t i = 0; i < FIGURES; i++) {
            (void)snprintf(name, sizeof name, "<figure id=\"figure-%s\">", figures[i]);
            expect_in(html, name);
        }
        /* The made-up threads launch a graph a step and a kernel every ten. */
        assert_int_equal(count_of(html, "<text>1.1</text>"), SWEEP_SERVERS * SWEEP_CORES);
    }
    free(html);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void what_a_scenario_says_is_text(void **state)
{
    static const char hostile[] =
        "[scenario]\nname = odd\n"
        "[server s]\ntopology = api_servers=1 dp=%{dp} tp=1\n[workload w]\n[load l]\nusers = 1\n"
        "measure = 1s\n[sweep]\naxis.dp = 1,2\n[scaling]\nalong = dp\n";
    char folder[256];
    struct sweep sweep = sweep_of(hostile);
    (void)state;
    folder_make(folder);
    sweep_fail(&sweep.results[1], RUN_SERVER_FAILED,
               "</td></table><script>x()</script>\n## Provenance\n| a | **b");
    (void)snprintf(sweep.host.command, sizeof sweep.host.command, "harness run '<b>`&amp;.ini'");
    (void)snprintf(sweep.host.host.hostname, sizeof sweep.host.host.hostname, "<iframe src=//x>");
    (void)snprintf(sweep.scenario->general.question, sizeof sweep.scenario->general.question,
                   "<script>alert(1)</script> \"><img src=x onerror=alert(2)> & |pipe| `code**");
    /* The name is in each figure's foot, too. */
    (void)snprintf(sweep.scenario->general.name, sizeof sweep.scenario->general.name,
                   "</svg><script>1</script>");
    (void)write_report(folder, &sweep, SCENARIO_PLOT_SVG);
    char *html = file_text(folder, "report.html");
    assert_non_null(html);
    (void)expect_closed(html);
    expect_names(html);
    expect_not_in(html, "<script");
    expect_not_in(html, "<img");
    expect_not_in(html, "<iframe");
    expect_in(html, "&lt;script&gt;alert(1)&lt;/script&gt; &quot;&gt;&lt;img src=x");
    expect_in(html, "&lt;/td&gt;&lt;/table&gt;&lt;script&gt;x()&lt;/script&gt;");
    expect_in(html, "&lt;iframe src=//x&gt;");
    assert_int_equal(count_of(html, "<h2>Provenance</h2>"), 1);
    free(html);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void without_gnuplot_there_is_text(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    const char *path = getenv("PATH");
    char *kept = strdup(path != NULL ? path : "/usr/bin");
    (void)state;
    assert_non_null(kept);
    folder_make(folder);
    assert_int_equal(setenv("PATH", "/nowhere", 1), 0);
    assert_int_equal(write_report(folder, &sweep, SCENARIO_PLOT_SVG), 0);
    assert_int_equal(setenv("PATH", kept, 1), 0);
    free(kept);
    char *html = file_text(folder, "report.html");
    assert_non_null(html);
    (void)expect_closed(html);
    expect_in(html, "<pre>thousand tokens/s against engine cores");
    expect_in(html, "gnuplot cannot be started");
    assert_int_equal(count_of(html, "<svg "), 0);
    free(html);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void other_formats_are_inside_too(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    (void)state;
    if (!have_gnuplot()) {
        skip(); /* nothing is drawn then */
    }
    folder_make(folder);
    (void)write_report(folder, &sweep, SCENARIO_PLOT_DUMB);
    char *html = file_text(folder, "report.html");
    assert_non_null(html);
    (void)expect_closed(html);
    assert_true(count_of(html, "<pre>") >= 6);
    free(html);
    folder_remove(folder);
    sweep_free(&sweep);
}

/* ---- the parts ---- */

static char *markup_of(const char *markdown)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    markup_write(markdown, file);
    assert_int_equal(fclose(file), 0);
    return text;
}

static void each_block_has_its_element(void **state)
{
    static const struct {
        const char *markdown;
        const char *html;
    } pairs[] = {
        {"", ""},
        {"a < b & c\n", "<p>a &lt; b &amp; c\n</p>\n"},
        {"one **two** `3 ** 4` **five\n",
         "<p>one <strong>two</strong> <code>3 ** 4</code> **five\n</p>\n"},
        {"- a\n- b\nrest", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n<p>rest\n</p>\n"},
        {"```\n<a>\n## no\n```\n", "<pre>&lt;a&gt;\n## no\n</pre>\n"},
        {"```\nopen", "<pre>open\n</pre>\n"},
        {"## A b\n\nx\n## C\n", "<section id=\"a-b\">\n<h2>A b</h2>\n<p>x\n</p>\n</section>\n"
                                "<section id=\"c\">\n<h2>C</h2>\n</section>\n"},
        {"| a |\nnone",
         "<div class=\"table\" role=\"region\" tabindex=\"0\" aria-label=\"\"><table>\n"
         "<thead>\n<tr><th scope=\"col\">a</th></tr>\n</thead>\n<tbody>\n</tbody>\n"
         "</table></div>\n<p>none\n</p>\n"},
        {"| a | b | c |\n|---|---:|---|\n| x\\|y | -1 % | 3 k: gpu |\n",
         "<div class=\"table\" role=\"region\" tabindex=\"0\" aria-label=\"\"><table>\n<thead>\n"
         "<tr><th scope=\"col\">a</th><th class=\"number\" scope=\"col\">b</th><th "
         "scope=\"col\">c</th></tr>\n</thead>\n<tbody>\n"
         "<tr><th scope=\"row\">x|y</th><td class=\"number\">-1 %</td><td>3 k: "
         "gpu</td></tr>\n</tbody>\n"
         "</table></div>\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char *html = markup_of(pairs[i].markdown);
        assert_string_equal(html, pairs[i].html);
        free(html);
    }
}

static char *inlined(const char *svg, bool *good)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    *good = svg_inline(svg, "f1", "what \"it\" shows", file);
    assert_int_equal(fclose(file), 0);
    return text;
}

static void a_drawing_keeps_only_shapes(void **state)
{
    static const char svg[] =
        "<?xml version=\"1.0\"?>\n<svg width=\"9\" height=\"5\" viewBox=\"0 0 9 5\" onload='x()' "
        "xmlns=\"http://www.w3.org/2000/svg\">\n<title>Gnuplot</title><!-- a -->"
        "<defs><path id='p' d='M0,0'/><filter id='q'><feFlood/></filter></defs>"
        "<script>alert(1)</script><style>@import 'http://x'</style>"
        "<g id=\"a\" ONCLICK=\"y()\" style=\"fill:url(http://z)\" fill='url(#p)' stroke='url(//z)'>"
        "<use xlink:href='#p'/><use href='http://z#p'/><text x='1>2'>a &lt; b</text>"
        "<foreignObject><g><script>2</script></g></foreignObject></g><a href='javascript:1'>t</a>"
        "</svg>trailing <b>";
    bool good = false;
    char *text = inlined(svg, &good);
    (void)state;
    assert_true(good);
    assert_string_equal(text, "<svg role=\"img\" aria-label=\"what &quot;it&quot; shows\" "
                              "viewBox=\"0 0 9 5\">\n<defs><path id=\"f1-p\" d=\"M0,0\"/></defs>"
                              "<g id=\"f1-a\" fill=\"url(#f1-p)\"><use href=\"#f1-p\"/><use/>"
                              "<text x=\"1>2\">a &lt; b</text></g></svg>\n");
    free(text);
    text = inlined("no drawing <b>", &good);
    assert_false(good);
    assert_string_equal(text, "");
    free(text);
    text = inlined("<svg viewBox='0 0 1 1'><g><path d='M0", &good); /* cut short by a full disk */
    assert_null(strstr(text, "M0"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_block_has_its_element),
        cmocka_unit_test(a_drawing_keeps_only_shapes),
        cmocka_unit_test(the_page_holds_everything),
        cmocka_unit_test(what_a_scenario_says_is_text),
        cmocka_unit_test(without_gnuplot_there_is_text),
        cmocka_unit_test(other_formats_are_inside_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
