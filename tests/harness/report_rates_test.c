/*
 * report_rates_test.c - what a search found, in the report: means over the runs of a rate without
 * those that the client limited, statuses in words, the section in both reports, and figures that
 * hold limits, capacity and points.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/report/knees.h"
#include "helper_report.h"

static const char scenario_text[] = "[scenario]\nname = r\nrepeats = 1\n[server s]\n"
                                    "topology = api_servers=1 dp=2 tp=1\n[workload w]\n"
                                    "[load l]\nusers = 4\nmeasure = 1s\n";

/* Latencies that follow from the achieved rate, so that a mean can be told from it. */
static struct knees_point point(double per_s, uint32_t replicate, double achieved)
{
    const struct run_latency none = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                     STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                     STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    struct knees_point p = {.per_s = per_s,
                            .replicate = replicate,
                            .looks_count = 1,
                            .valid = true,
                            .offered_per_s = per_s,
                            .achieved_per_s = achieved,
                            .tok_per_s = achieved * 10,
                            .ttft = none,
                            .tpot = none,
                            .e2el = none};
    p.ttft.p50_ms = achieved / 2;
    p.ttft.p95_ms = achieved;
    p.tpot.p50_ms = 5;
    p.e2el.p50_ms = achieved * 2;
    p.use_frac[KNEES_STAGE_gpu] = achieved / 1000;
    p.use_frac[KNEES_STAGE_launch] = STATS_UNKNOWN;
    return p;
}

/* 100/s: 98 and 102 finished, and a run that the client limited. 200/s: the host was busy. */
static struct knees_row row_of(const struct scenario_cell *cell, struct knees_point points[4])
{
    static const struct scenario_slo limits = {.ttft_p99_max_ns = 150000000};
    points[0] = point(200, 0, 190);
    points[0].host_limited = true;
    points[1] = point(100, 1, 98);
    points[2] = point(100, 0, 50);
    points[2].valid = false;
    points[3] = point(100, 2, 102);
    return (struct knees_row){
        .cell = cell,
        .what = SCENARIO_FIND_STABLE_RATE | SCENARIO_FIND_SLO_RATE | SCENARIO_FIND_KNEE,
        .capacity_rps = 210,
        .capacity_lo = 205,
        .capacity_hi = 215,
        .capacity_verdict = CAPACITY_KNOWN,
        .overload_droop_frac = STATS_UNKNOWN,
        .stable = {.status = SEARCH_ABOVE_RANGE, .per_s = 200, .lo = 200, .hi = STATS_UNKNOWN},
        .slo = {.status = SEARCH_CLIFF, .per_s = 120, .lo = 110, .hi = 130},
        .limits = &limits,
        .binding = "ttft_p99_max",
        .knee = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN},
        .points = points,
        .points_count = 4,
        .runs_count = 5,
        .complete = true};
}

static void write_report(const char *folder, const struct sweep *sweep, const struct knees *knees)
{
    char plots[512];
    const char *root = getenv("HARNESS_SOURCE_DIR"); // NOLINT(concurrency-mt-unsafe)
    struct report *report = NULL;
    struct report_conclusion conclusion;
    struct error error;
    (void)snprintf(plots, sizeof plots, "%s/plots", root != NULL ? root : ".");
    sweep->scenario->plot_formats = SCENARIO_PLOT_SVG | SCENARIO_PLOT_DUMB;
    struct report_options options = {
        .folder = folder, .plots_folder = plots, .scenario = sweep->scenario, .host = &sweep->host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_OK);
    assert_int_equal(report_run(report, &sweep->results[0], &error), STATUS_OK);
    if (knees != NULL) {
        report_knees(report, knees);
    }
    assert_int_equal(report_conclude(report, sweep->results, 1, false, &conclusion, &error),
                     STATUS_OK);
    report_close(report);
}

static void expect_in(const char *folder, const char *name, const char *words)
{
    char *text = file_text(folder, name);
    if (text == NULL) {
        fail_msg("%s is missing", name);
    } else if (strstr(text, words) == NULL) {
        fail_msg("%s does not say \"%s\" in\n%s", name, words, text);
    }
    free(text);
}

static bool is_there(const char *folder, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, R_OK) == 0;
}

static void each_rate_has_its_mean_and_its_runs(void **state)
{
    (void)state;
    char folder[256];
    struct sweep sweep = sweep_of(scenario_text);
    struct knees_point points[4];
    struct knees_row row = row_of(sweep.results[0].cell, points);
    const struct knees knees = {.rows = &row, .count = 1};
    folder_make(folder);
    write_report(folder, &sweep, &knees);
    /* By rate, then by replicate; 100 is the mean of 98 and 102. */
    expect_in(
        folder, "plot_rates.tsv",
        "\n0\t1\t1\t100\t100\t100\t1000\t50\t100\t\t5\t\t\t200\t\t\t0\t0\t\t0.1\t0\t0\t0\t1\n"
        "0\t0\t0\t100\t100\t50\t500\t25\t50\t\t5\t\t\t100\t\t\t0\t0\t\t0.05\t0\t0\t0\t1\n"
        "0\t0\t1\t100\t100\t98\t980\t49\t98\t\t5\t\t\t196\t\t\t0\t0\t\t0.098\t0\t0\t0\t1\n"
        "0\t0\t1\t100\t100\t102\t1020\t51\t102\t\t5\t\t\t204\t\t\t0\t0\t\t0.102\t0\t0\t0\t1\n"
        "0\t1\t1\t200\t200\t190\t1900\t95\t190\t\t5\t\t\t380\t\t\t0\t0\t\t0.19\t0\t0\t0\t1\n"
        "0\t0\t0\t200\t200\t190\t1900\t95\t190\t\t5\t\t\t380\t\t\t0\t0\t\t0.19\t0\t0\t0\t1\n");
    expect_in(folder, "plot_knees.tsv", "\n0\tsingle\t210\t200\t120\t\t150\t\t1\n");
    folder_remove(folder);
    sweep_free(&sweep);
}

static void the_reports_say_what_was_found(void **state)
{
    (void)state;
    static const char *const words[] = {
        "Rates",
        "210 [205, 215]",
        "200 [200, -]",
        "120 [110, 130]",
        "ttft_p99_max",
        "single: capacity is known to 2 %; stable rate: at least this: even the greatest rate "
        "tried keeps it; SLO rate: the response jumps between two neighbouring rates, and this is "
        "the last one before; the limit that is missed first is ttft_p99_max; boundary: cliff."};
    char folder[256];
    struct sweep sweep = sweep_of(scenario_text);
    struct knees_point points[4];
    struct knees_row row = row_of(sweep.results[0].cell, points);
    const struct knees knees = {.rows = &row, .count = 1};
    folder_make(folder);
    write_report(folder, &sweep, &knees);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        expect_in(folder, "report.md", words[i]);
        expect_in(folder, "report.html", words[i]);
    }
    if (is_there(folder, "figures/04-rates.svg")) {
        expect_in(folder, "figures/04-rates.svg", "capacity 210/s, 120/s within the limits");
        expect_in(folder, "figures/04-rates.txt", "time to first token");
        expect_in(folder, "figures/05-rates.svg", "level: capacity");
        expect_in(folder, "figures/08-rates.svg", "GPU");
        expect_in(folder, "report.html", "<figure id=\"figure-04-rates\">");
        expect_in(folder, "report.md", "(figures/08-rates.svg)");
    } else { /* no gnuplot, which the report says */
        expect_in(folder, "report.md", "not every figure was drawn");
    }
    folder_remove(folder);
    sweep_free(&sweep);
}

static void without_points_nothing_is_drawn(void **state)
{
    (void)state;
    char folder[256];
    struct sweep sweep = sweep_of(scenario_text);
    struct knees_point points[4];
    struct knees_row row = row_of(sweep.results[0].cell, points);
    const struct knees knees = {.rows = &row, .count = 1};
    row.points_count = 0;
    folder_make(folder);
    write_report(folder, &sweep, &knees);
    assert_false(is_there(folder, "figures/04-rates.svg"));
    assert_true(is_there(folder, "plot_rates.tsv"));
    folder_remove(folder);
    folder_make(folder);
    write_report(folder, &sweep, NULL);
    assert_false(is_there(folder, "plot_rates.tsv"));
    assert_false(is_there(folder, "figures/05-rates.svg"));
    folder_remove(folder);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rate_has_its_mean_and_its_runs),
        cmocka_unit_test(the_reports_say_what_was_found),
        cmocka_unit_test(without_points_nothing_is_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
