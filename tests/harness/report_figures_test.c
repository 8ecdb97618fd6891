/*
 * report_figures_test.c - figures and report.md: what gnuplot draws holds the series it should, odd
 * data breaks no script, and without gnuplot the curves come as text with a note.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/report/elasticity.h"
#include "harness/report/figures.h"
#include "helper_report.h"

static bool have_gnuplot(void)
{
    static const char *const places[] = {"/usr/bin/gnuplot", "/usr/local/bin/gnuplot",
                                         "/bin/gnuplot"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (access(places[i], X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static struct report_conclusion write_probed(const char *folder, const struct sweep *sweep,
                                             uint32_t formats, const struct elasticity *probe)
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
    if (report_create(&options, &report, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    for (uint32_t i = 0; i < sweep->count; i++) {
        assert_int_equal(report_run(report, &sweep->results[i], &error), STATUS_OK);
    }
    if (probe != NULL) {
        report_elasticity(report, probe);
    }
    if (report_conclude(report, sweep->results, sweep->count, false, &conclusion, &error) !=
        STATUS_OK) {
        fail_msg("%s", error.text);
    }
    report_close(report);
    return conclusion;
}

static struct report_conclusion write_report(const char *folder, const struct sweep *sweep,
                                             uint32_t formats)
{
    return write_probed(folder, sweep, formats, NULL);
}

static void expect_in(const char *folder, const char *name, const char *words)
{
    char *text = file_text(folder, name);
    if (text == NULL) {
        fail_msg("%s is missing", name);
    } else if (strstr(text, words) == NULL) {
        fail_msg("%s does not say \"%s\"", name, words);
    }
    free(text);
}

static void figures_hold_their_series(void **state)
{
    char folder[256];
    char odd[512];
    struct sweep sweep = sweep_make();
    (void)state;
    if (!have_gnuplot()) {
        skip(); /* figures are text then, which another test checks */
    }
    folder_make(folder);
    (void)snprintf(odd, sizeof odd, "%s/it's a folder", folder);
    struct report_conclusion c = write_report(odd, &sweep, SCENARIO_PLOT_SVG | SCENARIO_PLOT_DUMB);
    assert_int_equal(c.figures_count, 10);
    expect_in(odd, "figures/01-capacity.svg", "1 API server: more stop helping at 3 [3, 4)");
    expect_in(odd, "figures/01-capacity.svg", "predicted by closed forms");
    expect_in(odd, "figures/01-capacity.svg", "2 API servers: more stop helping at 6 [6, 8)");
    expect_in(odd, "figures/01-capacity.svg", "4 API servers: more still help at 8");
    expect_in(odd, "figures/01-capacity.svg", "output tokens/s");
    expect_in(odd, "figures/01-capacity.svg", "abc123"); /* provenance */
    expect_in(odd, "figures/02-efficiency.svg", "parallel efficiency");
    expect_in(odd, "figures/03-limits.svg", "52.2 k");
    expect_in(odd, "figures/08-stages.svg", "API server");
    expect_in(odd, "figures/01-capacity.svg", "law of scaling");
    expect_in(odd, "figures/09-ceilings.svg", "1 API server, 8 engine cores");
    expect_in(odd, "figures/09-ceilings.svg", "measured: 18.4 k tokens/s");
    expect_in(odd, "figures/09-ceilings.svg", ">lowest<");
    expect_in(odd, "figures/09-ceilings.svg", ">next<");
    expect_in(odd, "figures/10-launch.svg", "waiting for results");
    expect_in(odd, "figures/12-timeline.svg", "in flight");
    expect_in(odd, "figures/01-capacity.txt", "engine cores");
    expect_in(odd, "report.md",
              "![Throughput against the number of engine cores]"
              "(figures/01-capacity.svg)");
    folder_remove(folder);
    sweep_free(&sweep);
}

static void odd_data_breaks_no_script(void **state)
{
    static const char one_cell[] = "[scenario]\nname = one\n[server s]\n"
                                   "topology = api_servers=1 dp=%{dp} tp=1\n[workload w]\n"
                                   "[load l]\nusers = 1\nmeasure = 1s\n"
                                   "[sweep]\naxis.dp = 2\n[scaling]\nalong = dp\n";
    char folder[256];
    struct sweep sweep = sweep_of(one_cell);
    (void)state;
    if (!have_gnuplot()) {
        skip(); /* figures are text then, which another test checks */
    }
    folder_make(folder);
    assert_int_equal(write_report(folder, &sweep, SCENARIO_PLOT_SVG).figures_count, 10);
    for (uint32_t i = 0; i < sweep.count; i++) {
        sweep_fail(&sweep.results[i], RUN_SERVER_FAILED, "no model");
    }
    assert_int_equal(write_report(folder, &sweep, SCENARIO_PLOT_SVG).figures_count, 0);
    expect_in(folder, "report.md", "None of ");
    expect_in(folder, "report.md", "| server_failed | no model |");
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
    struct report_conclusion c = write_report(folder, &sweep, SCENARIO_PLOT_SVG);
    assert_int_equal(setenv("PATH", kept, 1), 0);
    free(kept);
    assert_int_equal(c.figures_count, 0);
    expect_in(folder, "report.md", "gnuplot cannot be started");
    expect_in(folder, "report.md", "thousand tokens/s against engine cores");
    expect_in(folder, "figures/01-capacity.txt", "a  1 API server: 3 [3, 4)");
    /* 4 API servers at 8 engine cores are the highest point: top row, last column. */
    expect_in(folder, "figures/01-capacity.txt", "    52.2 |");
    expect_in(folder, "figures/01-capacity.txt", " c\n    49.1 |");
    folder_remove(folder);
    sweep_free(&sweep);
}

/* A session that ran where gnuplot was missing gets its figures later, from its folder alone. */
static void a_folder_is_drawn_again(void **state)
{
    char folder[256];
    char plots[512];
    struct figures figures;
    struct error error;
    struct sweep sweep = sweep_make();
    const char *root = getenv("HARNESS_SOURCE_DIR");
    const char *path = getenv("PATH");
    char *kept = strdup(path != NULL ? path : "/usr/bin");
    (void)state;
    assert_non_null(kept);
    (void)snprintf(plots, sizeof plots, "%s/plots", root != NULL ? root : ".");
    folder_make(folder);
    assert_int_equal(figures_redraw(folder, plots, SCENARIO_PLOT_DUMB, &figures, &error),
                     STATUS_NOT_FOUND);
    assert_int_equal(setenv("PATH", "/nowhere", 1), 0);
    assert_int_equal(write_report(folder, &sweep, SCENARIO_PLOT_SVG).figures_count, 0);
    assert_int_equal(setenv("PATH", kept, 1), 0);
    free(kept);
    assert_int_equal(figures_redraw(folder, plots, SCENARIO_PLOT_DUMB, &figures, &error),
                     STATUS_OK);
    for (size_t i = 0; i < FIGURES_COUNT && have_gnuplot(); i++) {
        /* Of this sweep, a closed loop, there are curves and no latencies. */
        bool latency = strcmp(figures.list[i].name, "04-latency") == 0;
        bool capacity = strcmp(figures.list[i].name, "01-capacity") == 0;
        assert_int_equal(figures.list[i].formats, figures.list[i].wanted ? SCENARIO_PLOT_DUMB : 0);
        assert_true(!capacity || figures.list[i].wanted);
        assert_false(latency && figures.list[i].wanted);
    }
    if (have_gnuplot()) {
        expect_in(folder, "figures/02-efficiency.txt", "engine cores");
        expect_in(folder, "figures/09-ceilings.txt", "lowest");
    }
    folder_remove(folder);
    sweep_free(&sweep);
}

/* ---- what the figures are drawn from ---- */

/* Field `column` of the row that begins with `row`, in a table apart by tabs. */
static void field_of(const char *folder, const char *name, const char *row, const char *column,
                     char out[64])
{
    char *text = file_text(folder, name);
    assert_non_null(text);
    const char *at = text;
    uint32_t index = 0;
    size_t bytes = 0;
    while (bytes = strcspn(at, "\t\n"), strncmp(at, column, bytes) != 0 || column[bytes] != '\0') {
        assert_int_equal(at[bytes], '\t');
        at += bytes + 1;
        index++;
    }
    at = strstr(text, row);
    assert_non_null(at);
    assert_int_equal(at[-1], '\n');
    for (; index > 0; index--) {
        at += strcspn(at, "\t\n");
        assert_int_equal(*at++, '\t');
    }
    (void)snprintf(out, 64, "%.*s", (int)strcspn(at, "\t\n"), at);
    free(text);
}

static void expect_near(const char *folder, const char *name, const char *row, const char *column,
                        double value)
{
    char field[64];
    field_of(folder, name, row, column, field);
    double found = strtod(field, NULL);
    if (field[0] == '\0' || fabs(found / value - 1) > 0.03) {
        fail_msg("%s, %s: \"%s\" instead of %g", row, column, field, value);
    }
}

static void expect_field(const char *folder, const char *name, const char *row, const char *column,
                         const char *value)
{
    char field[64];
    field_of(folder, name, row, column, field);
    assert_string_equal(field, value);
}

/* The sweep's rule: 6.6 k tokens/s an engine core, up to some 19 k an API server; its API servers
 * are full at 19.2 k. */
static void laws_and_ceilings_are_those_of_the_sweep(void **state)
{
    static const char one_cell[] = "[scenario]\nname = one\nrepeats = 6\n[server s]\n"
                                   "topology = api_servers=1 dp=%{dp} tp=1\n[workload w]\n"
                                   "[load l]\nusers = 1\nmeasure = 1s\n"
                                   "[sweep]\naxis.dp = 2\n[scaling]\nalong = dp\n";
    static const char four_cells[] = "[scenario]\nname = four\nrepeats = 3\n[server s]\n"
                                     "topology = api_servers=4 dp=%{dp} tp=1\n[workload w]\n"
                                     "[load l]\nusers = 1\nmeasure = 1s\n"
                                     "[sweep]\naxis.dp = 1,2,4,6\n[scaling]\nalong = dp\n";
    static const char curves[] = "plot_curves.tsv";
    static const char ceilings[] = "plot_ceilings.tsv";
    static const char api[] = "0\t1 API server, 8 engine cores\tapi_server\t";
    char folder[256];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    (void)write_report(folder, &sweep, 0);
    expect_field(folder, curves, "0\t1 API server\t", "law", "plateau");
    expect_near(folder, curves, "0\t1 API server\t", "law_gamma_tok_per_s", 6600);
    expect_near(folder, curves, "0\t1 API server\t", "law_plateau_tok_per_s", 18750);
    expect_field(folder, curves, "0\t1 API server\t", "law_from_cores", "1");
    expect_field(folder, curves, "0\t1 API server\t", "law_to_cores", "8");
    expect_near(folder, ceilings, api, "ceiling_tok_per_s", 19200);
    expect_near(folder, ceilings, api, "tok_per_s", 18400);
    expect_field(folder, ceilings, api, "place", "2");
    expect_near(folder, ceilings, "1\t2 API servers, 8 engine cores\tapi_server\t",
                "ceiling_tok_per_s", 38400);
    folder_remove(folder);
    sweep_free(&sweep);
    sweep = sweep_of(four_cells);
    folder_make(folder);
    (void)write_report(folder, &sweep, 0);
    expect_field(folder, curves, "0\t4 API servers\t", "law", "linear");
    expect_field(folder, curves, "0\t4 API servers\t", "law_plateau_tok_per_s", "");
    expect_field(folder, curves, "0\t4 API servers\t", "law_to_cores", "6");
    folder_remove(folder);
    sweep_free(&sweep);
    /* One count of engine cores follows any law. */
    sweep = sweep_of(one_cell);
    folder_make(folder);
    (void)write_report(folder, &sweep, 0);
    expect_field(folder, curves, "0\t1 API server\t", "law", "");
    folder_remove(folder);
    sweep_free(&sweep);
}

static struct elasticity probe_of(const struct scenario_cell *cell)
{
    return (struct elasticity){
        .cell = cell,
        .observed = {.kind = STAGE_NAMED, .first = "api_server", .second = "gpu"},
        .by_frac = 0.1,
        .complete = true,
        .rows = {{.stage = "api_server",
                  .use_frac = 0.99,
                  .slowable = true,
                  .pairs_count = 3,
                  .elasticity = {1.01, 0.88, 1.14},
                  .finding = ELASTICITY_LIMITS,
                  .agreement = ELASTICITY_CONFIRMED},
                 {.stage = "gpu",
                  .use_frac = 0.7,
                  .slowable = true,
                  .pairs_count = 1,
                  .elasticity = {0.625, STATS_UNKNOWN, STATS_UNKNOWN},
                  .finding = ELASTICITY_LIMITS,
                  .agreement = ELASTICITY_CONTRADICTED},
                 {.stage = "ipc", .use_frac = 0.1, .elasticity = {1, 2, 3}}},
        .rows_count = 3};
}

static void a_probe_is_drawn(void **state)
{
    static const char *const words[] = {
        "limits alone", "half: it limits", "API server",   "1.01",
        "0.62",         "does not limit",  "contradicted", "slowed on purpose"};
    char folder[256];
    struct sweep sweep = sweep_make();
    struct elasticity probe = probe_of(sweep.results[0].cell);
    (void)state;
    folder_make(folder);
    (void)write_probed(folder, &sweep, SCENARIO_PLOT_SVG | SCENARIO_PLOT_DUMB, &probe);
    expect_in(
        folder, "plot_probe.tsv",
        "api_servers=1,dp=1\tapi_server\t0.1\t1.01\t0.88\t1.14\tlimits\tlimits\tconfirmed\t1\n"
        "api_servers=1,dp=1\tgpu\t0.1\t0.625\t\t\tdoes not limit\tlimits\tcontradicted\t1\n"
        "api_servers=1,dp=1\tipc\t0.1\t\t\t\tdoes not limit\tcannot be slowed\t\t1\n");
    for (size_t i = 0; i < sizeof words / sizeof words[0] && have_gnuplot(); i++) {
        expect_in(folder, "figures/19-elasticity.svg", words[i]);
    }
    if (have_gnuplot()) {
        expect_in(folder, "figures/19-elasticity.txt", "contradicted");
        expect_in(folder, "report.html", "<figure id=\"figure-19-elasticity\">");
        expect_in(folder, "report.md", "(figures/19-elasticity.svg)");
    }
    folder_remove(folder);
    sweep_free(&sweep);
}

static void what_was_observed_is_said_for_each_stage(void **state)
{
    char folder[256];
    struct error error;
    struct sweep sweep = sweep_make();
    struct elasticity probe = probe_of(sweep.results[0].cell);
    (void)state;
    folder_make(folder);
    probe.observed.kind = STAGE_MIXED;
    assert_int_equal(elasticity_plot(&probe, folder, &error), STATUS_OK);
    expect_in(folder, "plot_probe.tsv", "\t1.14\tlimits with another\tlimits\t");
    expect_in(folder, "plot_probe.tsv", "\t0.625\t\t\tlimits with another\tlimits\t");
    expect_in(folder, "plot_probe.tsv", "\tdoes not limit\tcannot be slowed\t");
    probe.observed.kind = STAGE_UNEXPLAINED;
    assert_int_equal(elasticity_plot(&probe, folder, &error), STATUS_OK);
    expect_in(folder, "plot_probe.tsv", "\t1.14\tno stage is full\tlimits\t");
    probe.load_limits = true;
    assert_int_equal(elasticity_plot(&probe, folder, &error), STATUS_OK);
    expect_in(folder, "plot_probe.tsv", "\t1.14\tthe load limits\tlimits\t");
    /* Nothing could be slowed, or nothing was evidence: no figure. */
    probe.rows[0].pairs_count = 0;
    assert_true(elasticity_any(&probe));
    probe.rows[1].pairs_count = 0;
    assert_false(elasticity_any(&probe));
    assert_false(elasticity_any(NULL));
    folder_remove(folder);
    sweep_free(&sweep);
}

static void the_report_has_its_sections(void **state)
{
    static const char *const words[] = {
        "**With 1 API server extra engine cores stop helping at 3 [3, 4)",
        "| 1 API server | 3 to 4 | ",
        "| 1 API server | 6.6 k: gpu 97 % | 13.2 k: gpu 97 % | ",
        "## Ceilings",
        "| 2 API servers | plateau | ",
        "| api_servers=4,dp=8 |  |  |",
        " Worker_DP7_0 |",
        "| api_servers=4,dp=8 | tokens/s | 52.5 k | ",
        "| engine_core | 8 | 8 | 8 |",
        "| worker | 8 | 8 | 8 |",
        "Counts agree in 36 of 36 runs.",
        "| api_servers=4,dp=1 | 25/25/25/25 | 1.00 | 1.000 | 100 | 1.00 | 1.000 |",
        "| queue | 2.000 |",
        "command: `harness run fake.ini`",
        "## What was not instrumented",
        "| 1 API server | vllm-python | 46.0 | 19.0 k | 2.9 | 2.9 (46.0 us) | 9.2 (9.7 us) | 3 [3",
    };
    char folder[256];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    /* Not even one format: no figure, no process. */
    assert_int_equal(write_report(folder, &sweep, 0).figures_count, 0);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        expect_in(folder, "report.md", words[i]);
    }
    folder_remove(folder);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_hold_their_series),
        cmocka_unit_test(odd_data_breaks_no_script),
        cmocka_unit_test(without_gnuplot_there_is_text),
        cmocka_unit_test(a_folder_is_drawn_again),
        cmocka_unit_test(laws_and_ceilings_are_those_of_the_sweep),
        cmocka_unit_test(a_probe_is_drawn),
        cmocka_unit_test(what_was_observed_is_said_for_each_stage),
        cmocka_unit_test(the_report_has_its_sections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
