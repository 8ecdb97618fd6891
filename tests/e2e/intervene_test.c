/*
 * intervene_test.c - an elasticity probe on a real serving system, as small as it can be. What
 * limits was planted as occupancy or as time of the emulated GPU, at rates that need little CPU, so
 * that a busy machine changes little: the planted stage must take throughput with it when it is
 * slowed, and one that waits must not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "harness/run/intervene.h"
#include "helper_measure.h"
#include "helper_system.h"

#define LOAD_AND_PROBE                                                                             \
    "[client]\nmax_cpu = 100%\n[workload w]\nprompt = 16tok\noutput = uniform lo=16tok hi=48tok\n" \
    "[load l]\nmode = closed\nusers = 16\nfirst_outputs = residual\nwarmup = 200ms\n"              \
    "measure = 700ms\nbatches = 4\n"

/* 8 sequences a step of about 6 ms: 1.3 k tokens/s, of which an API server could carry 14 times. */
static const char gpu_text[] =
    "[scenario]\nname = gpu\nschema = 1\nseed = 3\n"
    "[server s]\ntopology = api_servers=1 dp=1 tp=1\nhost_profile = vllm-python\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nwait = block\naccept = reuseport\n"
    "max_num_seqs = 8\nmax_model_len = 512\n" LOAD_AND_PROBE
    "[probe]\nelasticity = gpu, api_server by=40%\npairs = 2\n";

/* 10 ms of the engine core's time a step, then 0.7 ms of the GPU. */
static const char engine_text[] =
    "[scenario]\nname = engine\nschema = 1\nseed = 3\n"
    "[server s]\ntopology = api_servers=1 dp=1 tp=1\nhost_profile = native\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\naccept = reuseport\n"
    "engine_step = 10ms\nasync_depth = 1\n"
    "max_num_seqs = 8\nmax_model_len = 512\n" LOAD_AND_PROBE
    "[probe]\nelasticity = scheduler, gpu by=40%\npairs = 2\n";

static bool measure(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out)
{
    const struct scenario *scenario = ctx;
    struct scenario view = *scenario;
    const struct scenario_run run = {.replicate = replicate,
                                     .seed = scenario->general.seed + replicate};
    view.cells = cell;
    struct measure_options options = {
        .scenario = &view, .run = &run, .log_fd = -1, .host = &e2e_host};
    e2e_measure(&options, out);
    return true;
}

static void probe(const char *text, const char *limits, const char *waits)
{
    struct scenario *scenario = e2e_scenario(text);
    struct run_result seen;
    struct elasticity e;
    (void)measure(scenario, &scenario->cells[0], 0, &seen);
    seen.cell = &scenario->cells[0];
    assert_int_equal(seen.outcome, RUN_OK);
    const struct intervene_options options = {.scenario = scenario,
                                              .results = &seen,
                                              .results_count = 1,
                                              .measure = measure,
                                              .ctx = scenario};
    intervene_probe(&options, &e);
    assert_true(e.complete);
    assert_int_equal(e.rows_count, 2);
    assert_int_equal(e.runs_count, 6);
    for (uint32_t i = 0; i < e.rows_count; i++) {
        const struct elasticity_row *row = &e.rows[i];
        assert_true(row->slowable);
        assert_int_equal(row->pairs_count, 2);
        print_message("%s: use %.2f, elasticity %.2f\n", row->stage, row->use_frac,
                      row->elasticity.value);
        if (strcmp(row->stage, limits) == 0) {
            assert_true(row->elasticity.value > 0.5);
        } else {
            assert_string_equal(row->stage, waits);
            assert_true(row->elasticity.value < 0.3);
        }
    }
    result_free(&seen);
    scenario_close(scenario);
}

static void a_gpu_that_limits_takes_throughput_with_it(void **state)
{
    (void)state;
    probe(gpu_text, "gpu", "api_server");
}

static void an_engine_core_that_limits_takes_throughput_with_it(void **state)
{
    (void)state;
    probe(engine_text, "scheduler", "gpu");
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_that_limits_takes_throughput_with_it),
        cmocka_unit_test(an_engine_core_that_limits_takes_throughput_with_it),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
