/*
 * report_plan_test.c - capacity planning against sums made by hand: systems, room, costs, which
 * rate is planned with, and what is not known.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/analysis/stats.h"
#include "harness/report/plan.h"
#include "helper_report.h"
#include "helper_scenario.h"

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * fmax(1, fabs(want)))) {
        fail_msg("got %.12g, want %.12g", got, want);
    }
}

static void a_row_by_hand(void **state)
{
    (void)state;
    const struct scenario_report report = {.price_per_gpu_hour = 2.5, .demand = {120, 35}};
    struct plan_row row = {.per_s = 41.3, .output_tokens = 256, .gpus_count = 4};
    plan_fill(&report, &row);
    near(row.systems, 3); /* 120 / 41.3 = 2.91 */
    near(row.headroom_frac, 3 * 41.3 / 120 - 1);
    near(row.mean_use_frac, 35 / (4 * 41.3));
    near(row.cost_per_hour, 40); /* 16 GPUs at 2.50 */
    /* 120 x 256 x 3600 = 110.592 million tokens an hour, 32.256 million at the mean. */
    near(row.cost_at_peak, 40 / 110.592);
    near(row.cost_at_mean, 40 / 32.256);
    row.per_s = 40; /* exactly three */
    plan_fill(&report, &row);
    near(row.systems, 3);
    near(row.headroom_frac, 0);
    const struct scenario_report tenths = {.demand = {2.1, 0}};
    struct plan_row third = {.per_s = 0.7}; /* 2.1 / 0.7 is a little more than 3 in doubles */
    plan_fill(&tenths, &third);
    near(third.systems, 3);
    row.per_s = 39.999;
    plan_fill(&report, &row);
    near(row.systems, 4);
}

static void what_is_not_known_stays_empty(void **state)
{
    (void)state;
    const struct scenario_report peak = {.demand = {120, 0}};
    struct plan_row row = {.per_s = 60, .output_tokens = 256, .gpus_count = 4};
    plan_fill(&peak, &row);
    near(row.systems, 2);
    assert_true(isnan(row.cost_per_hour) && isnan(row.cost_at_peak) && isnan(row.cost_at_mean));
    assert_true(isnan(row.mean_use_frac));
    const struct scenario_report all = {.price_per_gpu_hour = 2.5, .demand = {120, 35}};
    row = (struct plan_row){.per_s = STATS_UNKNOWN, .output_tokens = 256, .gpus_count = 4};
    plan_fill(&all, &row);
    assert_true(isnan(row.systems) && isnan(row.headroom_frac) && isnan(row.cost_per_hour));
    row = (struct plan_row){.per_s = 60, .output_tokens = 256}; /* GPUs are not known */
    plan_fill(&all, &row);
    near(row.systems, 2);
    assert_true(isnan(row.cost_per_hour));
    row = (struct plan_row){.per_s = 60, .output_tokens = STATS_UNKNOWN, .gpus_count = 1};
    plan_fill(&all, &row);
    near(row.cost_per_hour, 7.5);
    assert_true(isnan(row.cost_at_peak));
}

/* ---- which rate ---- */

static struct search_answer answer(enum search_status status, double per_s, double lo)
{
    return (struct search_answer){
        .status = status, .per_s = per_s, .lo = lo, .hi = per_s > 0 ? per_s * 1.1 : STATS_UNKNOWN};
}

/* The first cell's row, planned with what a search found. */
static struct plan_row planned(struct sweep *sweep, const struct knees_row *found)
{
    struct knees_row k = *found;
    k.cell = &sweep->scenario->cells[0];
    const struct knees knees = {.rows = &k, .count = 1};
    struct summary *s = summary_build(sweep->scenario, sweep->results, sweep->count);
    struct plan p = plan_of(s, &knees);
    struct plan_row row = p.rows[0];
    assert_ptr_equal(row.cell, k.cell);
    plan_free(&p);
    summary_free(s);
    return row;
}

static void rates_are_planned_with_at_their_lower_bounds(void **state)
{
    (void)state;
    struct sweep sweep = sweep_make();
    sweep.scenario->report.demand = (struct scenario_demand){100, 20};
    const struct search_answer stable = answer(SEARCH_OK, 50, 45);
    struct knees_row k = {.what = SCENARIO_FIND_CAPACITY,
                          .capacity_rps = 60,
                          .capacity_lo = 58,
                          .stable = stable,
                          .slo = answer(SEARCH_OK, 40, 35)};
    struct plan_row row = planned(&sweep, &k);
    assert_int_equal(row.basis, PLAN_CAPACITY);
    near(row.per_s, 58);
    k.what |= SCENARIO_FIND_STABLE_RATE;
    row = planned(&sweep, &k);
    assert_int_equal(row.basis, PLAN_STABLE_RATE);
    near(row.per_s, 45);
    k.what |= SCENARIO_FIND_SLO_RATE;
    row = planned(&sweep, &k);
    assert_int_equal(row.basis, PLAN_SLO_RATE);
    near(row.per_s, 35);
    near(row.systems, 3);
    k.slo = answer(SEARCH_CLIFF, 40, STATS_UNKNOWN);
    near(planned(&sweep, &k).per_s, 40);
    k.slo = answer(SEARCH_CLIENT_LIMITED, 40, 20); /* "at least" needs no interval */
    near(planned(&sweep, &k).per_s, 40);
    /* Even the least rate missed the limits: a stable rate is no answer to that. */
    k.slo = answer(SEARCH_BELOW_RANGE, STATS_UNKNOWN, STATS_UNKNOWN);
    row = planned(&sweep, &k);
    assert_int_equal(row.basis, PLAN_SLO_RATE);
    assert_true(isnan(row.systems));
    sweep_free(&sweep);
}

static char *written(void (*write)(const struct summary *s, FILE *out), const struct summary *s)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    write(s, file);
    assert_int_equal(fclose(file), 0);
    return text;
}

static void write_markdown(const struct summary *s, FILE *out)
{
    plan_markdown(s, NULL, out);
}

static void a_sweep_is_planned_by_its_capacity(void **state)
{
    (void)state;
    struct sweep sweep = sweep_make();
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    struct plan p = plan_of(s, NULL);
    assert_int_equal(p.count, 0); /* no demand, no plan */
    plan_free(&p);
    char *text = written(write_markdown, s);
    assert_string_equal(text, "");
    free(text);
    sweep.scenario->report =
        (struct scenario_report){.price_per_gpu_hour = 3, .demand = {1000, 250}};
    p = plan_of(s, NULL);
    assert_int_equal(p.count, s->points_count);
    double least = (double)INFINITY;
    for (uint32_t i = 0; i < p.count; i++) {
        const struct plan_row *row = &p.rows[i];
        const struct summary_point *point = &s->points[i];
        assert_int_equal(row->basis, PLAN_CAPACITY);
        near(row->per_s, point->achieved_rps * point->tok_per_s_lo / point->tok_per_s);
        near(row->output_tokens, point->tok_per_s / point->achieved_rps);
        near(row->systems, ceil(1000 / row->per_s));
        least = fmin(least, (row->systems + 1) * row->gpus_count);
    }
    assert_non_null(p.best);
    near((p.best->systems + 1) * p.best->gpus_count, least);
    text = written(write_markdown, s);
    assert_non_null(strstr(text, "## Capacity planning"));
    assert_non_null(strstr(text, "1000/s at the peak: "));
    assert_non_null(strstr(text, p.best->cell->name));
    free(text);
    plan_free(&p);
    summary_free(s);
    sweep_free(&sweep);
}

static void without_a_rate_it_says_how_to_get_one(void **state)
{
    (void)state;
    struct sweep sweep = sweep_make();
    sweep.scenario->report.demand.peak_per_s = 10;
    for (uint32_t i = 0; i < sweep.count; i++) {
        sweep_fail(&sweep.results[i], RUN_SERVER_FAILED, "gone");
    }
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    char *text = written(write_markdown, s);
    assert_non_null(strstr(text, "No rate is known to plan 10/s with: [find] what = slo_rate"));
    free(text);
    summary_free(s);
    sweep_free(&sweep);
}

/* Llama-3.1-8B on two GPUs has twice the predicted capacity of one: half the systems. */
static void predictions_need_no_run(void **state)
{
    static const char text[] =
        "[scenario]\nname = t\n[server s]\ntopology = api_servers=4 dp=%{dp}\n"
        "[workload w]\noutput = 200tok\n[load l]\nmode = open\nrate = 1/s\n"
        "[sweep]\naxis.dp = 1,2\n"
        "[report]\ndemand = 500/s peak\nprice = 2 per gpu-hour\n";
    struct scenario_problems problems;
    struct scenario *scenario = NULL;
    (void)state;
    assert_int_equal(memory_open(text, NULL, &scenario, &problems), STATUS_OK);
    struct plan p = plan_predicted(scenario);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.rows[0].basis, PLAN_PREDICTED);
    assert_true(p.rows[0].per_s > 0);
    near(p.rows[1].per_s / p.rows[0].per_s, 2);
    near(p.rows[0].output_tokens, 200);
    near(p.rows[0].systems, ceil(500 / p.rows[0].per_s));
    near(p.rows[1].cost_per_hour, (p.rows[1].systems + 1) * 2 * 2);
    plan_free(&p);
    scenario_close(scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_by_hand),
        cmocka_unit_test(what_is_not_known_stays_empty),
        cmocka_unit_test(rates_are_planned_with_at_their_lower_bounds),
        cmocka_unit_test(a_sweep_is_planned_by_its_capacity),
        cmocka_unit_test(without_a_rate_it_says_how_to_get_one),
        cmocka_unit_test(predictions_need_no_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
