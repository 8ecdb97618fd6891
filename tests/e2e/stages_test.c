/*
 * stages_test.c - what stages.csv and launch.csv say of a run whose queue and whose limit were
 * planted: 20 users before 4 places, and an engine core whose three threads hold one interpreter
 * lock for more time than there is. Conservation and Little's law decide, not times of this
 * machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "helper_measure.h"
#include "helper_system.h"

enum {
    USERS = 20,
    PLACES = 4,
    TRIES = 4
};

static const char planted[] =
    "[scenario]\nname = planted\nschema = 1\nseed = 7\n"
    "[server s]\ntopology = api_servers=1 dp=1 tp=1\nhost_profile = native\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\nasync_depth = 2\n"
    "max_num_seqs = 4\nmax_model_len = 512\ninterpreter_lock = yes\nengine_step = 2ms\n"
    "engine_input_request = 1ms\nengine_output_message = 2ms\n"
    "[client]\nmax_cpu = 100%\n[workload w]\nprompt = 16tok\noutput = uniform lo=8tok hi=24tok\n"
    "[load l]\nmode = closed\nusers = 20\nwarmup = 500ms\nmeasure = 2s\nbatches = 8\n";

static const struct run_stage *row(const struct run_result *r, const char *instance)
{
    uint32_t i = 0;
    while (i < r->stages_count && strcmp(r->stages[i].instance, instance) != 0) {
        i++;
    }
    if (i == r->stages_count) {
        fail_msg("no row '%s'", instance);
    }
    return &r->stages[i];
}

static void measure(struct scenario *scenario, struct run_result *out)
{
    struct measure_options options = {
        .scenario = scenario, .run = &scenario->runs[0], .log_fd = -1, .host = &e2e_host};
    e2e_measure(&options, out);
    assert_int_equal(out->outcome, RUN_OK);
}

/* The length that the engine core counted against the stamps of the requests. */
static void assert_littles_law(const struct run_result *r)
{
    const struct run_stage *s = row(r, "EngineCore_DP0");
    double wait_ms = r->hops.mean_ms[PROBE_PART_QUEUE];
    double by_stamps = r->engines[0].finished_per_s * wait_ms / 1e3;
    if (!(fabs(s->queue_mean_count - by_stamps) <= 0.25 * by_stamps + 0.05)) {
        fail_msg("%f requests wait, by their stamps %f", s->queue_mean_count, by_stamps);
    }
    assert_true(s->wait_p50_us <= 1.0625 * 2 * wait_ms * 1e3);
}

/* Whoever has no place waits for one, but for those on their way there or back. */
static void assert_queue(const struct run_result *r)
{
    const struct run_stage *s = row(r, "EngineCore_DP0");
    double wait_s = s->queue_mean_count / r->engines[0].finished_per_s;
    if (!(s->queue_mean_count > 8 && s->queue_mean_count <= USERS - PLACES + 0.1)) {
        fail_msg("%f requests wait", s->queue_mean_count);
    }
    assert_true(s->queue_max_count >= s->queue_mean_count && s->queue_max_count <= USERS);
    assert_littles_law(r);
    /* The median of waits in a first-come queue is near the mean. */
    if (!(s->wait_p50_us / 1e6 > 0.6 * wait_s && s->wait_p50_us / 1e6 < 1.6 * wait_s)) {
        fail_msg("median wait %f us, by Little's law %f s", s->wait_p50_us, wait_s);
    }
    assert_true(row(r, "EngineCore_DP0 input")->wait_p50_us > 0);
    assert_true(row(r, "EngineCore_DP0 output")->wait_p50_us >= 0);
    assert_true(row(r, "ApiServer_0")->wait_p50_us > 0);
}

static void assert_lock(const struct run_result *r)
{
    const struct run_stage *lock = row(r, "EngineCore_DP0 lock");
    double booked = row(r, "EngineCore_DP0")->occupancy_frac +
                    row(r, "EngineCore_DP0 input")->occupancy_frac +
                    row(r, "EngineCore_DP0 output")->occupancy_frac;
    if (!(fabs(lock->busy_frac - booked) < 0.01)) { /* a thread may be between its two counters */
        fail_msg("the lock is held for %f, booked were %f", lock->busy_frac, booked);
    }
    assert_true(lock->queue_mean_count > 0 && lock->queue_mean_count <= 2.1);
    assert_true(row(r, "EngineCore_DP0")->use_frac < 0.5); /* its own CPU time, not the lock's */
}

static void assert_times(const struct run_result *r)
{
    const struct probe_rates *t = &r->launchers[0];
    double launch_max_us = (double)t->launch_max_ns / 1e3;
    assert_true(t->launch_p50_us > 0 && t->launch_p50_us <= t->launch_p99_us);
    assert_true(t->launch_p99_us <= 1.0625 * launch_max_us);
    /* No less than half of the times are beyond the median: it is at most twice the mean. */
    assert_true(r->engines[0].step_p50_us > 0);
    assert_true(r->engines[0].step_p50_us <= 1.0625 * 2 * r->engines[0].step_mean_us);
    assert_true(t->gpu_gap_p50_us > 0); /* the lock keeps the device waiting */
    for (uint32_t i = 0; i < r->stages_count; i++) {
        const struct run_stage *s = &r->stages[i];
        bool client = strcmp(s->stage, "client") == 0;
        assert_true(client ? isnan(s->busy_lo)
                           : s->busy_lo <= s->busy_frac && s->busy_frac <= s->busy_hi);
        assert_true(isnan(s->ctx_switches_per_s) || s->ctx_switches_per_s >= 0);
        assert_true(isnan(s->spin_frac) || (s->spin_frac >= 0 && s->spin_frac <= 0));
    }
}

static void a_planted_queue_and_lock_are_found(void **state)
{
    struct scenario *scenario = e2e_scenario(planted);
    struct run_result r;
    (void)state;
    measure(scenario, &r);
    /* Another chance if this machine did something else meanwhile. */
    for (int tries = 1; tries < TRIES && row(&r, "EngineCore_DP0 lock")->use_frac < 0.85; tries++) {
        result_free(&r);
        measure(scenario, &r);
    }
    assert_queue(&r);
    assert_lock(&r);
    assert_times(&r);
    assert_string_equal(r.verdict.text, "interpreter");
    result_free(&r);
    scenario_close(scenario);
}

/* As many users as places: a request waits for the step that runs, and for nothing else. */
static void few_users_hardly_wait(void **state)
{
    struct scenario *scenario = e2e_scenario(planted);
    struct run_result r;
    (void)state;
    scenario->cells[0].load.users_count = PLACES;
    /* The stamps begin before this cost, the queue behind it. */
    scenario->cells[0].topology.host.engine_input_request_ns = 0;
    measure(scenario, &r);
    assert_littles_law(&r);
    assert_true(row(&r, "EngineCore_DP0")->queue_mean_count < 0.5 * PLACES);
    result_free(&r);
    scenario_close(scenario);
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_planted_queue_and_lock_are_found),
        cmocka_unit_test(few_users_hardly_wait),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
