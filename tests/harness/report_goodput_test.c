/*
 * report_goodput_test.c - what becomes of an [slo] in a report: which cells keep, miss or leave it
 * undecided by all their runs together, the sentence and the flag of a miss, the merged columns of
 * points.csv, hist.csv, and the figures against the rate, drawn only where they have data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/report/summary.h"
#include "harness/report/verdict.h"
#include "helper_report.h"

#define SERVER                                                                                 \
    "[scenario]\nname = limits\nrepeats = 2\n[server s]\ntopology = api_servers=1 dp=1 tp=1\n" \
    "[workload w]\n"
#define SLO "[slo fast]\nttft_p99_max = 100ms\ntpot_p95_max = 20ms\nerror_max = 1%\n"

static const char open_text[] =
    SERVER SLO "[load l]\nmode = open\nrate = %{rate}/s\nmeasure = 4s\nwarmup = 1500ms\n"
               "[sweep]\naxis.rate = 50,100,200\n";
static const char closed_text[] = SERVER SLO "[load l]\nusers = 4\nmeasure = 4s\n";
static const char find_text[] =
    SERVER SLO "[load l]\nmode = open\nmeasure = 4s\n[find]\nwhat = slo_rate\n";

struct counts {
    uint64_t requests;
    uint64_t late; /* over the first limit */
    uint64_t slow; /* over the second */
    uint64_t failed;
};

static void set_slo(struct run_result *r, const struct counts *c)
{
    r->slo = (struct run_slo){.is_known = true,
                              .ttft = {c->requests, c->late + c->failed, 1},
                              .tpot = {c->requests, c->slow + c->failed, 1},
                              .any = {c->requests, c->late + c->slow + c->failed, 1},
                              .failed_count = c->failed};
    r->requests_count = c->requests;
    r->fail_count = c->failed;
    r->offered_rps = (double)c->requests / r->window_s;
}

/* The same numbers in both replicates of each of the cells. */
static struct sweep with_counts(const char *text, const struct counts *by_cell)
{
    struct sweep sweep = sweep_of(text);
    (void)snprintf(sweep.host.host.cpu_model, sizeof sweep.host.host.cpu_model, "no comma");
    for (uint32_t i = 0; i < sweep.count; i++) {
        set_slo(&sweep.results[i], &by_cell[sweep.results[i].cell - sweep.scenario->cells]);
    }
    return sweep;
}

static struct report_conclusion write_report(const struct sweep *sweep, const char *folder,
                                             uint32_t formats)
{
    struct report *report = NULL;
    struct error error;
    struct report_conclusion conclusion;
    char plots[512];
    const char *root = getenv("HARNESS_SOURCE_DIR"); // NOLINT(concurrency-mt-unsafe)
    (void)snprintf(plots, sizeof plots, "%s/plots", root != NULL ? root : ".");
    sweep->scenario->plot_formats = formats;
    const struct report_options options = {
        .folder = folder, .plots_folder = plots, .scenario = sweep->scenario, .host = &sweep->host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_OK);
    for (uint32_t i = 0; i < sweep->count; i++) {
        assert_int_equal(report_run(report, &sweep->results[i], &error), STATUS_OK);
    }
    assert_int_equal(
        report_conclude(report, sweep->results, sweep->count, false, &conclusion, &error),
        STATUS_OK);
    report_close(report);
    return conclusion;
}

static void expect_in(const char *text, const char *words)
{
    if (text == NULL || strstr(text, words) == NULL) {
        fail_msg("\"%s\" is not in:\n%s", words, text != NULL ? text : "(nothing)");
    }
}

/* Field `column` of the line that begins with `row`. */
static void field_of(const char *csv, const char *row, const char *column, char out[64])
{
    uint32_t at = 0;
    const char *head = csv;
    while (strncmp(head, column, strlen(column)) != 0 ||
           strchr(",\n", head[strlen(column)]) == NULL) {
        head += strcspn(head, ",\n");
        assert_true(*head == ',');
        head++;
        at++;
    }
    const char *line = strstr(csv, row);
    assert_non_null(line);
    while (at > 0) {
        line += strcspn(line, ",\n");
        assert_true(*line == ',');
        line++;
        at--;
    }
    (void)snprintf(out, 64, "%.*s", (int)strcspn(line, ",\n"), line);
}

static void expect_field(const char *csv, const char *row, const char *column, const char *want)
{
    char got[64];
    field_of(csv, row, column, got);
    if (strcmp(got, want) != 0) {
        fail_msg("%s %s: \"%s\", want \"%s\"", row, column, got, want);
    }
}

/* Two runs of 400 requests: together 800, of which up to 3 may be late (P(X <= 2 | .01) = .013,
 * P(X <= 3 | .01) = .042, P(X <= 4 | .01) = .099). 20 late are 2.5 %: P(X >= 20 | .01) = .0003. */
static void cells_are_judged_by_all_their_runs(void **state)
{
    static const struct counts by_cell[] = {{400, 1, 0, 0}, {400, 3, 0, 0}, {400, 10, 40, 2}};
    struct sweep sweep = with_counts(open_text, by_cell);
    char folder[256];
    (void)state;
    folder_make(folder);
    struct report_conclusion c = write_report(&sweep, folder, 0);
    char *points = file_text(folder, "points.csv");
    char *runs = file_text(folder, "runs.csv");
    char *markdown = file_text(folder, "report.md");
    expect_field(points, "rate=50,", "slo_status", "kept");
    expect_field(points, "rate=100,", "slo_status", "undecided");
    expect_field(points, "rate=200,", "slo_status", "missed");
    expect_field(points, "rate=200,", "slo", "fast");
    expect_field(points, "rate=200,", "goodput_rps", "87"); /* 2 x (400 - 52) / 8 s */
    expect_field(points, "rate=200,", "good_frac", "0.87");
    expect_field(runs, "1,r0000,", "slo", "fast");
    expect_field(runs, "1,r0000,", "goodput_rps", "99.75");
    expect_field(runs, "1,r0000,", "good_frac", "0.9975");
    assert_true(c.slo_missed);
    assert_true(c.undecided);
    expect_in(c.verdict,
              "rate=200 misses ttft_p99_max (3 % of 800 requests over 100 ms, 1 % may be) "
              "and tpot_p95_max (10.5 % of 800 requests over 20 ms, 5 % may be) of "
              "[slo fast].");
    assert_null(strstr(c.verdict, "rate=100 misses"));
    expect_in(c.caveat, "SLO undecided: rate=100 (too few requests to tell either way).");
    expect_in(markdown, "## Limits");
    expect_in(markdown, "| rate=200 | fast | 800 | 87.00 | 87.00 | ");
    free(points);
    free(runs);
    free(markdown);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void an_error_share_is_a_limit(void **state)
{
    static const struct counts by_cell[] = {{4000, 0, 0, 40}, {4000, 0, 0, 41}, {4000, 0, 0, 0}};
    struct sweep sweep = with_counts(open_text, by_cell);
    char folder[256];
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) { /* failures alone, no limit on latency */
        struct scenario_cell *cell =
            &sweep.scenario->cells[sweep.results[i].cell - sweep.scenario->cells];
        cell->slo.ttft_p99_max_ns = 0;
        cell->slo.tpot_p95_max_ns = 0;
    }
    folder_make(folder);
    struct report_conclusion c = write_report(&sweep, folder, 0);
    char *points = file_text(folder, "points.csv");
    expect_field(points, "rate=50,", "slo_status", "kept"); /* exactly 1 % */
    expect_field(points, "rate=100,", "slo_status", "missed");
    expect_field(points, "rate=200,", "slo_status", "kept");
    assert_true(c.slo_missed && !c.undecided);
    expect_in(c.verdict, "rate=100 misses error_max (82 of 8000 requests failed, 1 % may)");
    free(points);
    folder_remove(folder);
    sweep_free(&sweep);
}

/* A busy host can show that limits are kept, not that they are missed. */
static void a_busy_host_misses_nothing(void **state)
{
    static const struct counts by_cell[] = {{4000, 0, 0, 0}, {4000, 400, 0, 0}, {4000, 0, 0, 0}};
    struct sweep sweep = with_counts(open_text, by_cell);
    char folder[256];
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        sweep.results[i].host_limited = true;
    }
    folder_make(folder);
    struct report_conclusion c = write_report(&sweep, folder, 0);
    char *points = file_text(folder, "points.csv");
    assert_false(c.slo_missed);
    expect_in(c.caveat, "rate=100 (missed, but the host was busy)");
    expect_field(points, "rate=50,", "slo_status", "kept");
    expect_field(points, "rate=100,", "slo_status", "undecided");
    free(points);
    folder_remove(folder);
    sweep_free(&sweep);
}

/* A closed loop has no such requests; a search misses limits on purpose. */
static void closed_loops_and_searches_are_not_judged(void **state)
{
    static const struct counts bad = {4000, 4000, 0, 0};
    struct sweep closed = sweep_of(closed_text);
    struct sweep search = with_counts(find_text, &bad);
    char folder[256];
    (void)state;
    folder_make(folder);
    struct report_conclusion c = write_report(&closed, folder, 0);
    char *points = file_text(folder, "points.csv");
    char *markdown = file_text(folder, "report.md");
    assert_false(c.slo_missed);
    expect_field(points, "single,", "slo", "fast");
    expect_field(points, "single,", "goodput_rps", "");
    expect_field(points, "single,", "slo_status", "");
    assert_null(strstr(markdown, "## Limits"));
    free(points);
    free(markdown);
    struct summary *s = summary_build(search.scenario, search.results, search.count);
    struct report_conclusion found = {.slo_missed = false};
    verdict_write(s, false, &found);
    assert_false(found.slo_missed);
    assert_null(strstr(found.verdict, "misses"));
    summary_free(s);
    folder_remove(folder);
    sweep_free(&closed);
    sweep_free(&search);
}

/* ---- distributions and figures ---- */

static bool have_gnuplot(void)
{
    return access("/usr/bin/gnuplot", X_OK) == 0 || access("/usr/local/bin/gnuplot", X_OK) == 0;
}

static void add_bins(struct run_result *r)
{
    static const enum run_metric metrics[] = {RUN_TTFT, RUN_TTFT_SCHED, RUN_E2EL, RUN_E2EL_SCHED};
    r->bins = calloc(12, sizeof *r->bins);
    assert_non_null(r->bins);
    for (uint32_t k = 0; k < 4; k++) {
        for (uint32_t i = 0; i < 3; i++) {
            r->bins[r->bins_count++] = (struct run_bin){
                (uint32_t)metrics[k], histogram_bucket((10 + k + 30 * i) * 1000000),
                i == 0   ? 90
                : i == 1 ? 9
                         : 1};
        }
    }
    r->latency[RUN_TTFT].p50_ms = 10;
    for (int k = 0; k < RUN_METRICS_COUNT; k++) {
        r->latency[k].p50_ms = 10 + k;
        r->latency[k].p90_ms = 15 + k;
        r->latency[k].p95_ms = 18 + k;
        r->latency[k].p99_ms = 40 + k;
    }
}

static void distributions_and_figures_are_written(void **state)
{
    static const struct counts by_cell[] = {{400, 0, 0, 0}, {400, 0, 0, 0}, {400, 40, 0, 0}};
    static const char *const figures[] = {"06-percentiles", "07-goodput", "13-spectrum"};
    struct sweep sweep = with_counts(open_text, by_cell);
    char folder[256];
    char name[64];
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        add_bins(&sweep.results[i]);
        sweep.results[i].offered_rps = sweep.results[i].cell->load.rate_per_s;
    }
    folder_make(folder);
    (void)write_report(&sweep, folder, SCENARIO_PLOT_SVG);
    char *hist = file_text(folder, "hist.csv");
    char *spectrum = file_text(folder, "plot_spectrum.tsv");
    expect_in(hist, "run_id,metric,lo_us,hi_us,count\nr0000,ttft,9961.47,10027,90\n");
    /* Two runs of the cell with the greatest rate: 200 requests; 20 lie above the first bin. */
    expect_in(spectrum, "rate=200\te2el_sched\t1\t");
    expect_in(spectrum, "rate=200\te2el_sched\t10\t");
    expect_in(spectrum, "rate=200\tttft\t100\t");
    assert_null(strstr(spectrum, "rate=100"));
    for (size_t i = 0; i < 3 && have_gnuplot(); i++) {
        (void)snprintf(name, sizeof name, "figures/%s.svg", figures[i]);
        char *svg = file_text(folder, name);
        expect_in(svg, "</svg>");
        free(svg);
    }
    free(hist);
    free(spectrum);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void without_data_there_are_no_figures(void **state)
{
    struct sweep closed = sweep_of(closed_text);
    char folder[256];
    (void)state;
    folder_make(folder);
    (void)write_report(&closed, folder, SCENARIO_PLOT_SVG);
    assert_null(file_text(folder, "figures/06-percentiles.svg"));
    assert_null(file_text(folder, "figures/07-goodput.svg"));
    assert_null(file_text(folder, "figures/13-spectrum.svg"));
    folder_remove(folder);
    sweep_free(&closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_are_judged_by_all_their_runs),
        cmocka_unit_test(an_error_share_is_a_limit),
        cmocka_unit_test(a_busy_host_misses_nothing),
        cmocka_unit_test(closed_loops_and_searches_are_not_judged),
        cmocka_unit_test(distributions_and_figures_are_written),
        cmocka_unit_test(without_data_there_are_no_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
