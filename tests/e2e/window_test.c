/*
 * window_test.c - the window of measured runs: begun by itself once the load has settled, made
 * longer for the requests' own times, and what becomes of more requests than may be in flight. Load
 * and system are real processes; no absolute time is asserted but the least that a rule asks for.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "helper_measure.h"

#define SYSTEM                                                                        \
    "[scenario]\nname = windows\nschema = 1\nseed = 5\n"                              \
    "[server s]\ntopology = api_servers=1 dp=1 tp=1\nhost_profile = native\n"         \
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\nmax_num_seqs = 8\n" \
    "max_model_len = 512\n"                                                           \
    "[client]\nmax_cpu = 100%\n"                                                      \
    "[workload w]\nprompt = 24tok\noutput = uniform lo=8tok hi=40tok\n"

static void run(const char *text, struct run_result *out)
{
    struct scenario *scenario = e2e_scenario(text);
    struct measure_options options = {
        .scenario = scenario, .run = &scenario->runs[0], .log_fd = -1, .host = &e2e_host};
    e2e_measure(&options, out);
    out->cell = NULL; /* the scenario's */
    scenario_close(scenario);
}

static void a_warm_up_ends_when_the_load_has_settled(void **state)
{
    (void)state;
    struct run_result r;
    run(SYSTEM "[load l]\nmode = closed\nusers = 16\nwarmup = auto\nwarmup_max = 60s\n"
               "measure = 1s\nbatches = 4\n",
        &r);
    print_message("warm-up %.2f s\n", r.warmup_s);
    assert_int_equal(r.outcome, RUN_OK);
    /* 4 s to judge, and 1.5 s more of looks; a busy machine needs longer, not a minute. */
    assert_true(r.warmup_s > 5.5 && r.warmup_s < 59);
    assert_true(fabs(r.window_s - 1) < 1e-6);
    assert_true(r.output_tok_per_s.mean > 0 && r.ok_count > 0);
    result_free(&r);
}

static void a_window_has_its_request_times(void **state)
{
    (void)state;
    struct run_result r;
    run(SYSTEM "[load l]\nmode = open\nrate = 20/s\nwarmup = 500ms\nmeasure = 1s\nbatches = 4\n"
               "measure_min_cycles = 200\ndrain = 30s\n[defaults client]\nmax_lag = p99 60s\n",
        &r);
    double cycles = r.window_s * 1e3 / r.latency[RUN_E2EL_SCHED].mean_ms;
    print_message("window %.2f s, %.0f cycles\n", r.window_s, cycles);
    assert_int_equal(r.outcome, RUN_OK);
    /* Those that ended after the look may have been a little longer. */
    assert_true(r.window_s > 15.99 || cycles > 190);
    assert_true(fabs(r.window_s - round(r.window_s)) < 1e-6 && r.window_s < 16.01);
    assert_true((double)r.requests_count > 10 * r.window_s);
    assert_true(r.window_s < 1.5 || r.output_tok_per_s.count > 0);
    result_free(&r);
}

/* Two connections for a system that is asked for far more. */
#define CROWDED                                                                                  \
    "[load l]\nmode = open\nrate = 400/s\nwarmup = 0s\nmeasure = 1s\nbatches = 4\ndrain = 60s\n" \
    "inflight_max = 2\n[defaults client]\nmax_lag = p99 5ms\n"

static void too_many_in_flight_are_what_was_asked_for(void **state)
{
    (void)state;
    struct run_result r;
    run(SYSTEM CROWDED, &r);
    assert_int_equal(r.outcome, RUN_INVALID);
    assert_non_null(strstr(r.reason, "inflight_max is too low"));
    result_free(&r);
    run(SYSTEM CROWDED "[defaults load]\non_inflight_max = wait\n", &r);
    assert_int_equal(r.outcome, RUN_OK);
    assert_true(r.lag_max_ms > 5);
    assert_int_equal(r.dropped_count, 0);
    result_free(&r);
    run(SYSTEM CROWDED "[defaults load]\non_inflight_max = drop\n", &r);
    assert_true(r.dropped_count > 0 && r.dropped_count == r.fail_count);
    assert_true(r.ok_count > 0 && r.ok_count + r.fail_count == r.requests_count);
    assert_true(r.inflight_max <= 2);
    result_free(&r);
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_warm_up_ends_when_the_load_has_settled),
        cmocka_unit_test(a_window_has_its_request_times),
        cmocka_unit_test(too_many_in_flight_are_what_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
