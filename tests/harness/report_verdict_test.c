/*
 * report_verdict_test.c - what a session is allowed to conclude: the sentence for a known sweep,
 * and what becomes of it when cells are host limited, runs fail, noise is wide or little was
 * measured.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/summary.h"
#include "harness/report/verdict.h"
#include "helper_report.h"

static struct report_conclusion conclude(const struct sweep *sweep, uint32_t count,
                                         bool interrupted)
{
    struct report_conclusion c = {.figures_count = 0};
    struct summary *s = summary_build(sweep->scenario, sweep->results, count);
    verdict_write(s, interrupted, &c);
    summary_free(s);
    return c;
}

static void expect(const char *text, const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", text, words);
    }
}

static void the_sweep_has_its_knees(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    assert_string_equal(
        c.verdict,
        "With 1 API server extra engine cores stop helping at 3 [3, 4): the API server limits "
        "(98 % in use); with 2 at 6 [6, 8): the API servers limit (95 % in use); with 4 they still "
        "help at 8 (> 8), no knee up to 8: the GPUs limit (96 % in use). At 8 engine cores 2 API "
        "servers carry 99 % more than 1 (the runs with 1 predicted +110 % [99, 113], the API "
        "servers limiting: inside), 4 carry 43 % more than 2 (the runs with 2 predicted +49 % [41, "
        "51], the GPUs limiting: inside).");
    assert_string_equal(c.caveat, "");
    assert_false(c.undecided);
    sweep_free(&sweep);
}

static void each_curve_has_its_answer(void **state)
{
    static const uint32_t last[SWEEP_SERVERS] = {3, 6, 8};
    static const uint32_t hi[SWEEP_SERVERS] = {4, 8, 0};
    struct sweep sweep = sweep_make();
    (void)state;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    assert_int_equal(s->curves_count, SWEEP_SERVERS);
    assert_int_equal(s->points_count, SWEEP_SERVERS * SWEEP_CORES);
    for (uint32_t i = 0; i < SWEEP_SERVERS; i++) {
        const struct summary_curve *c = &s->curves[i];
        assert_int_equal(c->api_servers_count, sweep_servers[i]);
        assert_int_equal(c->points_count, SWEEP_CORES);
        assert_true(c->decided);
        assert_int_equal(c->answer.last_helpful, last[i]);
        assert_int_equal(c->answer.hi, hi[i]);
        for (uint32_t k = 0; k < SWEEP_CORES; k++) {
            /* Within the noise that the helper puts on the table. */
            assert_true(fabs(c->points[k]->tok_per_s / (sweep_table[i][k] * 1e3) - 1) < 0.012);
        }
    }
    /* 52.0 / 36.7 and 36.7 / 18.4 of the table. */
    assert_true(fabs(s->curves[2].gain.gain - 0.417) < 0.02);
    assert_true(fabs(s->curves[1].gain.gain - 0.995) < 0.02);
    assert_null(s->curves[0].fewer);
    summary_free(s);
    sweep_free(&sweep);
}

static void the_closed_form_gives_both_ends(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    const struct summary_prediction *p = &s->curves[0].prediction;
    double slow = 1e6 / (46 + (1000 + 2 * 128.0) / 256 + 50.0 / 29);
    double fast = 1e6 / (9.7 + (1000 + 2 * 128.0) / 256 + 50.0 / 29);
    assert_true(p->known);
    assert_true(fabs(p->ceiling / slow - 1) < 1e-9);
    assert_true(fabs(p->ceiling_slow / slow - 1) < 1e-9);
    assert_true(fabs(p->ceiling_fast / fast - 1) < 1e-9);
    assert_true(fabs(p->knee - slow / s->curves[0].points[0]->tok_per_s) < 1e-9);
    summary_free(s);
    sweep_free(&sweep);
}

static void host_limited_cells_are_no_evidence(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        const struct topology *t = &sweep.results[i].cell->topology;
        sweep.results[i].host_limited = t->api_servers_count == 1 && t->engines_count > 3;
    }
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    /* The flat part is gone, and with it the knee. */
    expect(c.verdict, "With 1 API server extra engine cores still help at 3 (> 3)");
    expect(c.verdict, "with 2 they stop helping at 6 [6, 8)");
    expect(c.caveat, "Host limited, so no evidence for a knee: api_servers=1,dp=4 (0.8 cores");
    expect(c.caveat, "api_servers=1,dp=8 (1.6 cores");
    sweep_free(&sweep);
}

/* The largest cell of one curve is no evidence: its gain was measured at fewer engine cores. */
static void a_gain_says_where_it_was_measured(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        const struct topology *t = &sweep.results[i].cell->topology;
        sweep.results[i].host_limited = t->api_servers_count == 4 && t->engines_count == 8;
    }
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    expect(c.verdict, "At 8 engine cores 2 API servers carry 99 % more than 1");
    expect(c.verdict, "; at 6, 4 carry ");
    sweep_free(&sweep);
}

static void one_good_replicate_is_enough(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        if (sweep.results[i].replicate == 1) {
            sweep_fail(&sweep.results[i], RUN_INVALID, "client limited: it was too slow");
        }
    }
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    expect(c.verdict, "at 3 [3, 4)");
    expect(c.verdict, "with 2 at 6 [6, 8)");
    expect(c.caveat, "18 of 36 runs cannot be used, the first: api_servers=1,dp=1: client limited");
    sweep_free(&sweep);
}

static void wide_noise_is_undecided(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        double factor = sweep.results[i].replicate == 0 ? 0.5 : 1.5;
        sweep.results[i].output_tok_per_s.mean *= factor;
        sweep.results[i].output_tok_per_s.std_error *= 40;
    }
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    assert_true(c.undecided);
    expect(c.verdict, "too wide to tell");
    assert_null(strstr(c.verdict, "stop helping"));
    char title[128];
    struct summary *summary = summary_build(sweep.scenario, sweep.results, sweep.count);
    verdict_title(summary, title, sizeof title);
    assert_string_equal(title, "Where extra engine cores stop helping is undecided");
    summary_free(summary);
    sweep_free(&sweep);
}

static void a_native_host_has_no_knee(void **state)
{
    struct sweep sweep = sweep_of("[scenario]\nname = native\nrepeats = 2\n"
                                  "[server s]\ntopology = api_servers=4 dp=%{dp} tp=1\n"
                                  "[workload w]\n[load l]\nusers = 10\nmeasure = 2s\n"
                                  "[sweep]\naxis.dp = 1,2,4,8\n[scaling]\nalong = dp\n");
    (void)state;
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    assert_string_equal(c.verdict, "With 4 API servers extra engine cores still help at 8 (> 8), "
                                   "no knee up to 8: the GPUs limit (95 % in use).");
    assert_false(c.undecided);
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    assert_false(s->curves[0].prediction.known);
    summary_free(s);
    sweep_free(&sweep);
}

static void one_cell_is_too_few(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    struct report_conclusion c = conclude(&sweep, 1, true);
    expect(c.verdict, "Interrupted after 1 of 36 runs.");
    expect(c.verdict, "cannot be judged from 1 alone: the GPU limits (97 % in use)");
    assert_true(c.undecided);
    sweep_free(&sweep);
}

static void a_run_cut_short_says_so(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    struct report_conclusion c = conclude(&sweep, 20, false);
    expect(c.caveat, "Only 20 of 36 runs were made.");
    sweep_free(&sweep);
}

static void nothing_valid_is_said(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        sweep_fail(&sweep.results[i], RUN_SERVER_FAILED, "no model");
    }
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    assert_string_equal(c.verdict,
                        "None of 36 runs gave a usable number; the first reason: no model.");
    assert_true(c.undecided);
    c = conclude(&sweep, 0, true);
    expect(c.verdict, "Nothing was measured.");
    sweep_free(&sweep);
}

static void without_an_axis_the_point_is_told(void **state)
{
    struct sweep sweep = sweep_of("[scenario]\nname = point\n[server s]\n[workload w]\n[load l]\n"
                                  "users = 1\nmeasure = 1s\n");
    (void)state;
    sweep.results[0].fail_count = 4;
    for (uint32_t i = 1; i < sweep.count; i++) {
        sweep.results[i].fail_count = 0;
    }
    struct report_conclusion c = conclude(&sweep, sweep.count, false);
    expect(c.verdict, "6.6 k tokens/s [");
    expect(c.verdict, "the GPU limits (97 % in use)");
    expect(c.verdict, "4 of ");
    expect(c.verdict, "requests were lost");
    assert_false(c.undecided);
    sweep_free(&sweep);
}

static void the_table_has_a_row_a_cell(void **state)
{
    char *text = NULL;
    size_t bytes = 0;
    struct sweep sweep = sweep_make();
    (void)state;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    report_print_table(sweep.scenario, sweep.results, sweep.count, out);
    assert_int_equal(fclose(out), 0);
    uint32_t lines = 0; /* until the empty one */
    for (const char *at = text; strncmp(at, "\n\n", 2) != 0 && *at != '\0'; at++) {
        lines += *at == '\n' ? 1 : 0;
    }
    assert_int_equal(lines, SWEEP_SERVERS * SWEEP_CORES);
    expect(text, "\n\nPrediction and measurement\ncell ");
    expect(text, "api_servers=4,dp=8 tokens/s");
    expect(text, "\n\nWho launches kernels\nthread ");
    expect(text, "... report.md has 5 more rows");
    expect(text, "api_servers=4,dp=8  52.2 k +-");
    free(text);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sweep_has_its_knees),
        cmocka_unit_test(each_curve_has_its_answer),
        cmocka_unit_test(the_closed_form_gives_both_ends),
        cmocka_unit_test(host_limited_cells_are_no_evidence),
        cmocka_unit_test(a_gain_says_where_it_was_measured),
        cmocka_unit_test(one_good_replicate_is_enough),
        cmocka_unit_test(wide_noise_is_undecided),
        cmocka_unit_test(a_native_host_has_no_knee),
        cmocka_unit_test(one_cell_is_too_few),
        cmocka_unit_test(a_run_cut_short_says_so),
        cmocka_unit_test(nothing_valid_is_said),
        cmocka_unit_test(without_an_axis_the_point_is_told),
        cmocka_unit_test(the_table_has_a_row_a_cell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
