/*
 * report_attribution_test.c - demands, ceilings, gains and expectations, on the runs of
 * results/reference/saturation of revision 4a57ebd: what a part of them says of another part is
 * held against that other part. And loads that cannot show a limit, which are named as such.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/attribution.h"
#include "harness/report/ceilings.h"
#include "harness/report/summary.h"
#include "harness/report/verdict.h"
#include "helper_report.h"

/* In the order of running; busy: servers in use on average, as in stages.csv. */
struct measured {
    uint32_t servers;
    uint32_t cores;
    double rate;
    double half_width;
    double api_busy;
    double scheduler_busy;
    double gpu_busy;
};
static const struct measured reference[] = {
    {1, 1, 6536, 13, 0.369, 0.0694, 0.999},   {1, 2, 13079, 57, 0.711, 0.1107, 2.000},
    {1, 3, 19207, 165, 1.000, 0.1762, 2.939}, {1, 4, 19169, 143, 1.000, 0.1688, 2.560},
    {1, 6, 19197, 192, 1.000, 0.1980, 1.359}, {1, 8, 19148, 230, 1.000, 0.2165, 1.186},
    {2, 1, 6545, 36, 0.388, 0.0710, 1.001},   {2, 2, 13085, 42, 0.767, 0.1165, 1.999},
    {2, 3, 19612, 62, 1.122, 0.1687, 3.001},  {2, 4, 26142, 58, 1.470, 0.2349, 4.001},
    {2, 6, 37426, 335, 2.000, 0.3229, 5.723}, {2, 8, 37411, 359, 2.000, 0.3297, 4.736},
    {4, 1, 6535, 4, 0.448, 0.0724, 0.999},    {4, 2, 13078, 64, 0.921, 0.1169, 2.000},
    {4, 3, 19592, 62, 1.379, 0.1782, 2.998},  {4, 4, 26149, 59, 1.736, 0.2262, 4.000},
    {4, 6, 39223, 73, 2.502, 0.3391, 5.998},  {4, 8, 52293, 214, 3.213, 0.4619, 7.993},
    {1, 1, 6526, 38, 0.372, 0.0725, 0.998},   {1, 2, 13045, 34, 0.710, 0.1117, 2.000},
    {1, 3, 19220, 230, 1.000, 0.1631, 2.943}, {1, 4, 19154, 157, 1.000, 0.1670, 2.562},
    {1, 6, 19114, 246, 1.000, 0.1997, 1.339}, {1, 8, 19089, 223, 1.000, 0.2345, 1.076},
    {2, 1, 6537, 36, 0.396, 0.0723, 0.999},   {2, 2, 13050, 48, 0.766, 0.1121, 2.000},
    {2, 3, 19603, 65, 1.119, 0.1702, 3.000},  {2, 4, 26147, 70, 1.462, 0.2264, 3.999},
    {2, 6, 37398, 124, 2.000, 0.3253, 5.719}, {2, 8, 37390, 175, 2.000, 0.3344, 4.718},
    {4, 1, 6526, 45, 0.473, 0.0767, 0.999},   {4, 2, 13050, 28, 0.925, 0.1184, 1.999},
    {4, 3, 19574, 89, 1.427, 0.1832, 2.998},  {4, 4, 26144, 37, 1.829, 0.2401, 3.999},
    {4, 6, 39218, 94, 2.586, 0.3493, 5.995},  {4, 8, 52287, 153, 3.215, 0.4523, 8.000},
};

static double busy_per_server(const struct measured *m, const char *stage)
{
    if (strcmp(stage, "api_server") == 0) {
        return m->api_busy / m->servers;
    }
    if (strcmp(stage, "scheduler") == 0) {
        return m->scheduler_busy / m->cores;
    }
    return strcmp(stage, "gpu") == 0 ? m->gpu_busy / m->cores : 0.003;
}

static void measure(struct run_result *r, const struct measured *m)
{
    struct stage_use uses[64];
    struct stage_summary stages[STAGES_MAX];
    assert_int_equal(r->cell->topology.api_servers_count, m->servers);
    assert_int_equal(r->cell->topology.engines_count, m->cores);
    r->output_tok_per_s.mean = m->rate;
    r->output_tok_per_s.half_width = m->half_width;
    r->output_tok_per_s.std_error = m->half_width / 2.36;
    for (uint32_t i = 0; i < r->stages_count; i++) {
        r->stages[i].use_frac = busy_per_server(m, r->stages[i].stage);
        uses[i] = (struct stage_use){.stage = r->stages[i].stage,
                                     .busy_frac = r->stages[i].use_frac,
                                     .cpu_frac = STATS_UNKNOWN,
                                     .occupancy_frac = STATS_UNKNOWN};
    }
    stages_limiting(stages, stages_summarise(uses, r->stages_count, stages), &r->verdict);
}

static struct sweep reference_sweep(void)
{
    struct sweep s = sweep_make();
    assert_int_equal(s.count, sizeof reference / sizeof reference[0]);
    for (uint32_t i = 0; i < s.count; i++) {
        measure(&s.results[i], &reference[i]);
    }
    return s;
}

/* Of both replicates. */
static double measured_rate(uint32_t servers, uint32_t cores)
{
    double sum = 0;
    for (size_t i = 0; i < sizeof reference / sizeof reference[0]; i++) {
        if (reference[i].servers == servers && reference[i].cores == cores) {
            sum += reference[i].rate / 2;
        }
    }
    return sum;
}

static const struct scenario_cell *cell_of(const struct scenario *s, uint32_t servers,
                                           uint32_t cores)
{
    for (uint32_t i = 0; i < s->cells_count; i++) {
        if (s->cells[i].topology.api_servers_count == servers &&
            s->cells[i].topology.engines_count == cores) {
            return &s->cells[i];
        }
    }
    return NULL;
}

static const struct attribution_stage *stage_of(const struct attribution *a, const char *stage)
{
    for (uint32_t i = 0; i < a->stages_count; i++) {
        if (strcmp(a->stages[i].stage, stage) == 0) {
            return &a->stages[i];
        }
    }
    fail_msg("no stage %s", stage);
    return &a->stages[0];
}

static void expect(const char *text, const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", text, words);
    }
}

/* ---- ceilings and gains ---- */

static void an_api_server_costs_what_its_profile_says(void **state)
{
    struct sweep sweep = reference_sweep();
    (void)state;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    const struct attribution *a = &s->curves[0].attribution;
    const struct attribution_stage *api = stage_of(a, "api_server");
    /* 46 us a token, 1,256 us a request of 256 tokens, 50 us a message of 18 to 40 tokens. */
    double least = 46 + 1256.0 / 256 + 50.0 / 40;
    double idle_us = api->demand.idle_busy_count / measured_rate(1, 8) * 1e6;
    assert_true(fabs(api->demand.demand_s * 1e6 + idle_us - least) < 2.5);
    assert_true(fabs(api->demand.ceiling_rate / measured_rate(1, 8) - 1) < 0.01);
    assert_true(api->demand.ceiling_lo < measured_rate(1, 8) * 1.01);
    assert_string_equal(api->source, "regression");
    assert_true(fabs(api->use_frac - 1) < 1e-9 && api->use_lo > 0.99);
    assert_int_equal(a->verdict.kind, DEMAND_ONE);
    assert_string_equal(a->stages[a->verdict.first].stage, "api_server");
    assert_string_equal(a->stages[a->verdict.next].stage, "gpu");
    assert_true(fabs(a->verdict.explained_frac - 1) < 0.02);
    summary_free(s);
    sweep_free(&sweep);
}

/* Computing 98 % of the time for the sake of other ranks, with places free in every batch. */
static void a_gpu_may_compute_without_being_in_use(void **state)
{
    struct sweep sweep = reference_sweep();
    char *text = NULL;
    size_t bytes = 0;
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        for (uint32_t k = 0; k < sweep.results[i].stages_count; k++) {
            struct run_stage *s = &sweep.results[i].stages[k];
            bool gpu = strcmp(s->stage, "gpu") == 0;
            s->busy_frac = gpu ? 0.98 : s->use_frac;
            s->use_frac = gpu ? 0 : s->use_frac;
        }
    }
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    struct grid g = ceilings_grid(s);
    grid_markdown(&g, out);
    assert_int_equal(fclose(out), 0);
    expect(text, "| 0 % (computing 98 %) |");
    expect(text, "| 100 % |"); /* of the API server: it says nothing more */
    assert_null(strstr(text, "100 % (computing"));
    free(text);
    grid_free(&g);
    summary_free(s);
    sweep_free(&sweep);
}

/* A lock that three threads take in turn has servers, a demand and a ceiling like any stage. */
static void an_interpreter_lock_has_a_ceiling(void **state)
{
    struct sweep sweep = reference_sweep();
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        struct run_result *r = &sweep.results[i];
        for (uint32_t k = 0; k < r->stages_count; k++) {
            struct run_stage *s = &r->stages[k];
            if (strcmp(s->stage, "scheduler") == 0) { /* 100 us of each token */
                (void)snprintf(s->stage, sizeof s->stage, "interpreter");
                s->use_frac = 100e-6 * r->output_tok_per_s.mean / r->cell->topology.engines_count;
            }
        }
    }
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    const struct attribution *a = &s->curves[2].attribution; /* 4 API servers, 8 engine cores */
    const struct attribution_stage *lock = stage_of(a, "interpreter");
    assert_true(fabs(lock->demand.demand_s * 1e6 - 100) < 0.5);
    assert_true(fabs(lock->demand.ceiling_rate / 80000 - 1) < 0.01);
    summary_free(s);
    sweep_free(&sweep);
}

/* A GPU that is busy all the time with short batches has more to give than its busy time says: 8 of
 * them carry 52.3 k tokens/s once API servers let them, and the runs with one API server know. */
static void the_gpus_ceiling_is_that_of_full_batches(void **state)
{
    struct sweep sweep = reference_sweep();
    (void)state;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    const struct attribution_stage *gpu = stage_of(&s->curves[0].attribution, "gpu");
    assert_true(fabs(gpu->demand.ceiling_rate / measured_rate(4, 8) - 1) < 0.01);
    assert_true(gpu->demand.ceiling_lo <= measured_rate(4, 8));
    assert_true(gpu->demand.ceiling_hi >= measured_rate(4, 8));
    expect(gpu->source, "closed form x ");
    summary_free(s);
    sweep_free(&sweep);
}

static void gains_foretold_cover_gains_measured(void **state)
{
    struct sweep sweep = reference_sweep();
    struct report_conclusion verdict = {.figures_count = 0};
    (void)state;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    static const char *const then[] = {"", "api_server", "gpu"};
    for (uint32_t i = 1; i < s->curves_count; i++) {
        const struct summary_curve *c = &s->curves[i];
        double fewer = measured_rate(c->fewer->api_servers_count, 8);
        double gain = measured_rate(c->api_servers_count, 8) / fewer - 1;
        assert_true(c->foretold.known && c->foretold_holds);
        assert_true(c->foretold.lo <= gain && gain <= c->foretold.hi);
        assert_true(c->foretold.hi - c->foretold.lo < 0.25); /* and says something */
        assert_string_equal(c->foretold.then, then[i]);
    }
    /* From one API server alone: twice as many are the limit again, from two: the GPUs are. */
    assert_true(s->curves[0].relief.known && s->curves[1].relief.known);
    assert_string_equal(s->curves[0].relief.then, "api_server");
    assert_string_equal(s->curves[1].relief.then, "gpu");
    verdict_write(s, false, &verdict);
    expect(verdict.verdict, "2 API servers carry 96 % more than 1 (the runs with 1 predicted +");
    expect(verdict.verdict, "], the API servers limiting: inside), 4 carry 40 % more than 2 (the "
                            "runs with 2 predicted +");
    expect(verdict.verdict, "], the GPUs limiting: inside).");
    summary_free(s);
    sweep_free(&sweep);
}

static void a_relief_that_was_not_measured_is_told(void **state)
{
    struct sweep sweep = reference_sweep();
    struct report_conclusion verdict = {.figures_count = 0};
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        if (sweep.results[i].cell->topology.api_servers_count > 1) {
            sweep_fail(&sweep.results[i], RUN_INVALID, "not of this test");
        }
    }
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    verdict_write(s, false, &verdict);
    expect(verdict.verdict, " At 8 engine cores 2 API servers should carry +");
    expect(verdict.verdict, "], then the API servers limit again.");
    summary_free(s);
    sweep_free(&sweep);
}

static void laws_are_chosen_and_not_stretched(void **state)
{
    struct sweep sweep = reference_sweep();
    (void)state;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    const struct laws *one = &s->curves[0].laws;
    assert_true(one->chosen == LAW_PLATEAU || one->chosen == LAW_CONTENTION_PLATEAU);
    assert_true(one->best_known && fabs(one->best - 19.16 / 6.53) < 0.15);
    assert_false(s->curves[2].laws.best_known);
    summary_free(s);
    sweep_free(&sweep);
}

/* ---- expectations ---- */

static void cells_are_foretold_from_the_runs_before(void **state)
{
    struct sweep sweep = reference_sweep();
    char told[256];
    uint32_t known = 0;
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        struct run_result *r = &sweep.results[i];
        r->expected = attribution_expect(sweep.scenario, sweep.results, i, r->cell);
        known += r->expected.known ? 1 : 0;
        if (r->expected.known) {
            assert_true(fabs(r->output_tok_per_s.mean / r->expected.tok_per_s - 1) < 0.05);
        }
    }
    /* Every cell but the first, once. */
    assert_int_equal(known, sweep.scenario->cells_count - 1);
    assert_false(sweep.results[0].expected.known);
    assert_true(isnan(sweep.results[2].expected.lo));              /* of two loads */
    const struct run_expectation *e = &sweep.results[17].expected; /* 4 x 8 */
    assert_string_equal(e->stage, "gpu");
    assert_true(e->lo <= 52293 && e->hi >= 52293);
    struct text t = text_into(told, sizeof told);
    ceilings_tell_errors(sweep.results, sweep.count, &t);
    expect(told, "Cells foretold before they ran: 17, mean absolute error ");
    expect(told, ", 16 of the 16 with an interval inside it");
    double error = strtod(strstr(told, "error ") + 6, NULL);
    assert_true(error > 0 && error < 1);
    struct grid g = ceilings_expected_grid(sweep.results, sweep.count);
    assert_int_equal(grid_rows(&g), 17);
    grid_free(&g);
    sweep_free(&sweep);
}

/* What was measured later must not matter. */
static void an_expectation_knows_nothing_of_later_runs(void **state)
{
    struct sweep sweep = reference_sweep();
    (void)state;
    const struct scenario_cell *cell = cell_of(sweep.scenario, 2, 6);
    struct run_expectation before = attribution_expect(sweep.scenario, sweep.results, 6, cell);
    for (uint32_t i = 6; i < sweep.count; i++) {
        sweep.results[i].output_tok_per_s.mean *= 3;
    }
    struct run_expectation after = attribution_expect(sweep.scenario, sweep.results, 6, cell);
    assert_true(before.known && after.known);
    assert_true(fabs(before.tok_per_s - after.tok_per_s) < 1e-9);
    assert_string_equal(before.stage, "api_server");
    sweep_free(&sweep);
}

/* ---- loads that show no limit ---- */

static const char open_text[] = "[scenario]\nname = open\nrepeats = 1\n"
                                "[server s]\ntopology = api_servers=1 dp=4 tp=1\n"
                                "host_profile = vllm-python\nmax_num_seqs = 40\n"
                                "[workload w]\nprompt = 128tok\noutput = 256tok\n"
                                "[load l]\nmode = open\nrate = %{rate}\n"
                                "warmup = 1s\nmeasure = 4s\n"
                                "[sweep]\naxis.rate = 10/s,20/s,30/s\n";

static void point_load(struct run_result *r, double offered, double served, double use)
{
    struct stage_use uses[64];
    struct stage_summary stages[STAGES_MAX];
    r->offered_rps = offered;
    r->achieved_rps = served;
    r->output_tok_per_s.mean = served * 256;
    for (uint32_t i = 0; i < r->stages_count; i++) {
        bool api = strcmp(r->stages[i].stage, "api_server") == 0;
        r->stages[i].use_frac = api ? use : use / 10;
        uses[i] = (struct stage_use){.stage = r->stages[i].stage,
                                     .busy_frac = r->stages[i].use_frac,
                                     .cpu_frac = STATS_UNKNOWN,
                                     .occupancy_frac = STATS_UNKNOWN};
    }
    stages_limiting(stages, stages_summarise(uses, r->stages_count, stages), &r->verdict);
}

static void a_load_that_asks_for_no_more_is_named(void **state)
{
    struct sweep sweep = sweep_of(open_text);
    struct report_conclusion verdict = {.figures_count = 0};
    (void)state;
    point_load(&sweep.results[0], 10, 10, 0.15);
    point_load(&sweep.results[1], 20, 15, 0.22); /* served in part, and nothing is full */
    point_load(&sweep.results[2], 30, 29.5, 0.95);
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    assert_int_equal(s->points[0].load, SUMMARY_LOAD_SERVED);
    assert_int_equal(s->points[1].load, SUMMARY_LOAD_FULL);
    assert_int_equal(s->points[2].load, SUMMARY_LOAD_FULL);
    verdict_write(s, false, &verdict);
    expect(verdict.verdict,
           "The load asks for no more (rate=10/s): more engine cores cannot help there.");
    char told[256];
    struct text t = text_into(told, sizeof told);
    verdict_stage(&t, &s->points[0]);
    expect(told, "the load asks for no more: more engine cores cannot help");
    struct ceilings_of c;
    assert_true(ceilings_next(s, 2, &c));
    t = text_into(told, sizeof told);
    ceilings_tell_relief(&c, &t);
    expect(told, "2 API servers should carry +");
    summary_free(s);
    sweep_free(&sweep);
}

static const char few_text[] = "[scenario]\nname = few\nrepeats = 1\n"
                               "[server s]\ntopology = api_servers=1 dp=4 tp=1\n"
                               "[workload w]\nprompt = 128tok\noutput = 256tok\n"
                               "[load l]\nusers = %{users}\nwarmup = 1s\nmeasure = 4s\n"
                               "[sweep]\naxis.users = 1,3,4\n";

static void a_single_request_is_named(void **state)
{
    struct sweep sweep = sweep_of(few_text);
    struct report_conclusion verdict = {.figures_count = 0};
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        point_load(&sweep.results[i], STATS_UNKNOWN, 1.0 + i, 0.1);
    }
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    assert_int_equal(s->points[0].load, SUMMARY_LOAD_FEW);
    assert_int_equal(s->points[1].load, SUMMARY_LOAD_FEW);
    assert_int_equal(s->points[2].load, SUMMARY_LOAD_FULL);
    verdict_write(s, false, &verdict);
    expect(verdict.verdict, "The latency of single requests decides (users=1, users=3): more");
    char told[256];
    struct text t = text_into(told, sizeof told);
    verdict_stage(&t, &s->points[1]);
    expect(told, "3 requests at a time: the latency of a single request decides");
    summary_free(s);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_api_server_costs_what_its_profile_says),
        cmocka_unit_test(a_gpu_may_compute_without_being_in_use),
        cmocka_unit_test(an_interpreter_lock_has_a_ceiling),
        cmocka_unit_test(the_gpus_ceiling_is_that_of_full_batches),
        cmocka_unit_test(gains_foretold_cover_gains_measured),
        cmocka_unit_test(a_relief_that_was_not_measured_is_told),
        cmocka_unit_test(laws_are_chosen_and_not_stretched),
        cmocka_unit_test(cells_are_foretold_from_the_runs_before),
        cmocka_unit_test(an_expectation_knows_nothing_of_later_runs),
        cmocka_unit_test(a_load_that_asks_for_no_more_is_named),
        cmocka_unit_test(a_single_request_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
