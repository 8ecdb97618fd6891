/*
 * An elasticity probe with arithmetic in place of a serving system: two stages whose service times
 * the test knows, so that the elasticities are known, too. Each stage is slowed by what was asked
 * for and no other is; pairs have one seed; what disagrees with the observation is said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/intervene.h"
#include "helper_report.h"
#include "helper_scenario.h"

#define TEXT_START                                                                            \
    "[scenario]\nname = p\nschema = 1\nseed = 7\nrepeats = 1\n"                               \
    "[server s]\ntopology = api_servers=1 dp=4 tp=1\nmax_num_seqs = 8\nmax_model_len = 512\n" \
    "host_profile = %s\n"                                                                     \
    "[workload w]\nprompt = 24tok\noutput = 10tok\n"                                          \
    "[load l]\nmode = closed\nusers = 64\nmeasure = 1s\n[probe]\n"

enum {
    RUNS_MAX = 64
};

static const double TOKEN_S = 46e-6; /* of the profile vllm-python; a message and a request: 0 */

/* A system of one API server and four GPUs. */
struct fake {
    bool native;
    double gpu_s; /* a token of one GPU */
    uint32_t runs;
    uint64_t replicates[RUNS_MAX];
    char names[RUNS_MAX][64];
    uint32_t fail_at; /* this run is no evidence; 0: none */
    uint32_t stop_after;
};

static struct scenario *open_text(const char *profile, const char *probe)
{
    static struct scenario_problems problems;
    static char text[2048];
    struct scenario *scenario = NULL;
    char all[2048];
    int used = snprintf(text, sizeof text, TEXT_START, profile);
    (void)snprintf(text + used, sizeof text - (size_t)used, "%s", probe);
    if (memory_open(text, NULL, &scenario, &problems) != STATUS_OK) {
        problems_join(&problems, all, sizeof all);
        fail_msg("%s", all);
    }
    return scenario;
}

static double api_seconds(const struct fake *f, const struct topology *t)
{
    double booked = (f->native ? 0 : TOKEN_S) + (double)t->added.api_output_token_ns / 1e9;
    return f->native ? fmax(TOKEN_S, booked) : booked; /* CPU time runs inside what is booked */
}

static void set_stage(struct run_stage *s, const char *stage, double use, double occupancy)
{
    *s = (struct run_stage){.use_frac = use, .occupancy_frac = occupancy, .source = "ledger"};
    (void)snprintf(s->stage, sizeof s->stage, "%s", stage);
}

static void fake_result(struct fake *f, const struct scenario_cell *cell, struct run_result *out)
{
    const struct topology *t = &cell->topology;
    double api_s = api_seconds(f, t);
    double gpu_s = f->gpu_s * (1 + t->gpu_slower_ppm / 1e6);
    double rate = fmin(1 / api_s, 4 / gpu_s);
    *out = (struct run_result){
        .cell = cell, .outcome = RUN_OK, .output_tok_per_s = {.mean = rate}, .window_s = 1};
    out->stages = calloc(6, sizeof *out->stages);
    assert_non_null(out->stages);
    set_stage(&out->stages[out->stages_count++], "api_server", rate * api_s,
              f->native ? 0 : rate * api_s);
    for (int i = 0; i < 4; i++) {
        set_stage(&out->stages[out->stages_count++], "gpu", rate / 4 * gpu_s, STATS_UNKNOWN);
    }
    set_stage(&out->stages[out->stages_count++], "client", 0.99, STATS_UNKNOWN);
    out->verdict.kind = STAGE_NAMED;
    const char *first = 1 / api_s < 4 / gpu_s ? "api_server" : "gpu";
    (void)snprintf(out->verdict.first, sizeof out->verdict.first, "%s", first);
    (void)snprintf(out->verdict.text, sizeof out->verdict.text, "%s", first);
}

static bool measure(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out)
{
    struct fake *f = ctx;
    assert_true(f->runs < RUNS_MAX);
    fake_result(f, cell, out);
    (void)snprintf(f->names[f->runs], sizeof f->names[0], "%.63s", cell->name);
    f->replicates[f->runs++] = replicate;
    if (f->runs == f->fail_at) {
        out->outcome = RUN_INVALID;
    }
    /* The machine slows by 0.2 % from run to run: pairs must not take that for an effect. */
    out->output_tok_per_s.mean *= 1 - 0.002 * f->runs;
    return f->stop_after == 0 || f->runs < f->stop_after;
}

static void probe_with(struct fake *f, const struct scenario *scenario, const char *observed,
                       struct elasticity *e)
{
    struct run_result seen;
    fake_result(f, &scenario->cells[0], &seen);
    if (observed != NULL) {
        (void)snprintf(seen.verdict.first, sizeof seen.verdict.first, "%s", observed);
        (void)snprintf(seen.verdict.text, sizeof seen.verdict.text, "%s", observed);
    }
    const struct intervene_options options = {
        .scenario = scenario, .results = &seen, .results_count = 1, .measure = measure, .ctx = f};
    intervene_probe(&options, e);
    result_free(&seen);
}

static const struct elasticity_row *row_of(const struct elasticity *e, const char *stage)
{
    uint32_t i = 0;
    while (i + 1 < e->rows_count && strcmp(e->rows[i].stage, stage) != 0) {
        i++;
    }
    assert_string_equal(e->rows[i].stage, stage);
    return &e->rows[i];
}

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("got %f, want %f", got, want);
    }
}

/* ---- tests ---- */

static void limiting_and_idle(bool native)
{
    struct fake f = {.native = native, .gpu_s = 2 * TOKEN_S}; /* GPUs are half as busy */
    struct scenario *scenario =
        open_text(native ? "native" : "vllm-python", "elasticity = top2 by=10%\npairs = 4\n");
    struct elasticity e;
    assert_int_equal(scenario_probe_runs(scenario), 12);
    probe_with(&f, scenario, NULL, &e);
    assert_int_equal(f.runs, 12);
    assert_true(e.complete);
    assert_int_equal(e.rows_count, 2);
    assert_string_equal(e.rows[0].stage, "api_server"); /* more used than the GPUs */
    const struct elasticity_row *api = row_of(&e, "api_server");
    const struct elasticity_row *gpu = row_of(&e, "gpu");
    assert_int_equal(api->pairs_count, 4);
    assert_near(api->elasticity.value, 1, 0.03);
    assert_near(gpu->elasticity.value, 0, 0.02);
    assert_int_equal(api->finding, ELASTICITY_LIMITS);
    assert_int_equal(gpu->finding, ELASTICITY_IDLE);
    assert_int_equal(api->agreement, ELASTICITY_CONFIRMED);
    assert_int_equal(gpu->agreement, ELASTICITY_CONFIRMED);
    char told[1024];
    struct text t = text_into(told, sizeof told);
    elasticity_tell(&e, &t);
    assert_non_null(strstr(told, "observed: API server; slowing the API server by 10 % costs 9."));
    assert_non_null(strstr(told, "): confirmed"));
    assert_non_null(strstr(told, "): it does not limit."));
    scenario_close(scenario);
}

static void a_limiting_stage_has_one_and_an_idle_one_none(void **state)
{
    (void)state;
    limiting_and_idle(false);
}

/* Without booked costs the measured time and a tenth must be booked, not the tenth alone. */
static void measured_time_stands_in_for_a_profile(void **state)
{
    (void)state;
    limiting_and_idle(true);
}

static void pairs_share_a_seed_and_change_their_order(void **state)
{
    (void)state;
    static const char *const names[] = {"none", "gpu", "gpu", "none", "none", "gpu"};
    struct fake f = {.gpu_s = 2 * TOKEN_S};
    struct scenario *scenario = open_text("vllm-python", "elasticity = gpu by=20%\n");
    struct elasticity e;
    probe_with(&f, scenario, NULL, &e);
    assert_int_equal(f.runs, 6);
    assert_near(e.by_frac, 0.2, 1e-9);
    for (uint32_t i = 0; i < f.runs; i++) {
        char want[64];
        (void)snprintf(want, sizeof want, "single slowed=%s", names[i]);
        assert_string_equal(f.names[i], want);
        assert_int_equal(f.replicates[i], i / 2);
    }
    scenario_close(scenario);
}

static void a_wrong_observation_is_contradicted(void **state)
{
    (void)state;
    struct fake f = {.gpu_s = 2 * TOKEN_S};
    struct scenario *scenario = open_text("vllm-python", "elasticity = top2 by=10%\n");
    struct elasticity e;
    char told[1024];
    probe_with(&f, scenario, "gpu", &e);
    assert_int_equal(row_of(&e, "gpu")->agreement, ELASTICITY_CONTRADICTED);
    assert_int_equal(row_of(&e, "api_server")->agreement, ELASTICITY_CONTRADICTED);
    struct text t = text_into(told, sizeof told);
    elasticity_tell(&e, &t);
    assert_non_null(strstr(told, "it limits, against what was observed: trust the probe"));
    assert_non_null(strstr(told, "it does not limit, against what was observed"));
    scenario_close(scenario);
}

static void runs_that_are_no_evidence_are_left_out(void **state)
{
    (void)state;
    struct fake f = {.gpu_s = 2 * TOKEN_S, .fail_at = 2}; /* the first slowed one */
    struct scenario *scenario = open_text("vllm-python", "elasticity = gpu by=10%\n");
    struct elasticity e;
    probe_with(&f, scenario, NULL, &e);
    assert_int_equal(row_of(&e, "gpu")->pairs_count, 2);
    assert_int_equal(e.unusable_count, 1);
    f = (struct fake){.gpu_s = 2 * TOKEN_S, .stop_after = 2}; /* after one pair */
    probe_with(&f, scenario, NULL, &e);
    assert_int_equal(f.runs, 2);
    assert_false(e.complete);
    assert_int_equal(row_of(&e, "gpu")->finding, ELASTICITY_OPEN); /* no interval of one pair */
    assert_int_equal(row_of(&e, "gpu")->agreement, ELASTICITY_UNDECIDED);
    scenario_close(scenario);
}

static void an_interval_decides(void **state)
{
    (void)state;
    static const struct {
        struct demand_elasticity e;
        enum elasticity_finding want;
    } rows[] = {
        {{1.0, 0.9, 1.1}, ELASTICITY_LIMITS}, {{0.6, 0.5, 0.7}, ELASTICITY_LIMITS},
        {{0.6, 0.4, 0.8}, ELASTICITY_OPEN},   {{0.1, -0.2, 0.4}, ELASTICITY_IDLE},
        {{0.1, -0.4, 0.5}, ELASTICITY_OPEN},  {{1, STATS_UNKNOWN, STATS_UNKNOWN}, ELASTICITY_OPEN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(elasticity_judge(&rows[i].e), rows[i].want);
    }
    struct elasticity e = {.observed = {.kind = STAGE_MIXED, .first = "gpu", .second = "launch"}};
    struct elasticity_row row = {.stage = "launch", .finding = ELASTICITY_IDLE};
    row.elasticity = (struct demand_elasticity){0.3, 0.2, 0.4};
    assert_int_equal(elasticity_compare(&e, &row), ELASTICITY_CONFIRMED);
    row.elasticity = (struct demand_elasticity){0.05, 0, 0.1};
    assert_int_equal(elasticity_compare(&e, &row), ELASTICITY_CONTRADICTED);
    e.load_limits = true; /* then nothing should limit */
    assert_int_equal(elasticity_compare(&e, &row), ELASTICITY_CONFIRMED);
    row.finding = ELASTICITY_LIMITS;
    assert_int_equal(elasticity_compare(&e, &row), ELASTICITY_CONTRADICTED);
}

static void the_file_has_a_row_a_stage(void **state)
{
    (void)state;
    char folder[256];
    struct error error;
    struct fake f = {.gpu_s = 2 * TOKEN_S};
    struct scenario *scenario = open_text("vllm-python", "elasticity = top2 by=10%\n");
    struct elasticity e;
    probe_with(&f, scenario, NULL, &e);
    folder_make(folder);
    assert_int_equal(elasticity_write(&e, folder, &error), STATUS_OK);
    char *csv = file_text(folder, "probe.csv");
    assert_non_null(csv);
    assert_true(strncmp(csv, "schema,cell,stage,observed_bottleneck,", 38) == 0);
    assert_non_null(strstr(csv, "\n1,single,api_server,api_server,1,0.1,3,"));
    assert_non_null(strstr(csv, ",limits,confirmed,9,0\n"));
    assert_non_null(strstr(csv, ",does_not_limit,confirmed,9,0\n"));
    free(csv);
    folder_remove(folder);
    scenario_close(scenario);
}

static void each_stage_is_slowed_by_its_own_cost(void **state)
{
    (void)state;
    struct fake f = {.gpu_s = 2 * TOKEN_S};
    struct scenario *scenario = open_text("vllm-python", "elasticity = launch, ipc by=10%\n");
    struct run_result r;
    struct scenario_cell cell;
    fake_result(&f, &scenario->cells[0], &r);
    assert_true(intervene_slow(&r, "api_server", 0.1, &cell));
    assert_int_equal(cell.topology.added.api_output_token_ns, 4600);
    assert_int_equal(cell.topology.added.api_request_ns, 100000);
    assert_int_equal(cell.topology.gpu_slower_ppm, 0);
    assert_true(intervene_slow(&r, "gpu", 0.1, &cell));
    assert_int_equal(cell.topology.gpu_slower_ppm, 100000);
    assert_int_equal(cell.topology.added.api_output_token_ns, 0);
    assert_false(intervene_slow(&r, "client", 0.1, &cell));
    assert_false(intervene_slow(&r, "launch", 0.1, &cell)); /* not seen in this run */
    set_stage(&r.stages[5], "launch", 0.5, STATS_UNKNOWN);
    struct probe_rates launcher = {.launches_per_s = {0}};
    launcher.launches_per_s[LAUNCH_CLASS_KERNEL] = 50000; /* 10 us each */
    r.launchers = &launcher;
    r.launchers_count = 1;
    assert_true(intervene_slow(&r, "launch", 0.1, &cell));
    assert_int_equal(cell.topology.launch_extra_ns, 1000);
    r.launchers = NULL;
    r.launchers_count = 0;
    set_stage(&r.stages[5], "scheduler", 0.5, 0.1); /* mostly not the profile's costs */
    struct probe_rates engine = {.steps_per_s = 1000};
    r.engines = &engine;
    r.engines_count = 1;
    assert_true(intervene_slow(&r, "scheduler", 0.1, &cell));
    assert_int_equal(cell.topology.added.engine_step_ns, 450000); /* 0.55 - 0.1 booked, in 1 ms */
    struct scenario_cell locked = *r.cell; /* all that is done while holding the lock */
    locked.topology.engine_step_ns = 3000000;
    locked.topology.host.engine_output_message_ns = 2000000;
    const struct scenario_cell *plain = r.cell;
    r.cell = &locked;
    set_stage(&r.stages[5], "interpreter", 0.9, 0.9);
    assert_true(intervene_slow(&r, "interpreter", 0.1, &cell));
    assert_int_equal(cell.topology.added.engine_step_ns, 300000);
    assert_int_equal(cell.topology.host.engine_output_message_ns, 2200000);
    r.cell = plain;
    r.engines = NULL;
    r.engines_count = 0;
    result_free(&r);
    scenario_close(scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limiting_stage_has_one_and_an_idle_one_none),
        cmocka_unit_test(measured_time_stands_in_for_a_profile),
        cmocka_unit_test(pairs_share_a_seed_and_change_their_order),
        cmocka_unit_test(a_wrong_observation_is_contradicted),
        cmocka_unit_test(runs_that_are_no_evidence_are_left_out),
        cmocka_unit_test(an_interval_decides),
        cmocka_unit_test(the_file_has_a_row_a_stage),
        cmocka_unit_test(each_stage_is_slowed_by_its_own_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
