/*
 * simulation_pipeline_test.c - pipelines of GPUs under the virtual clock: every request through
 * them, one step of two stages added up by hand, equal work of the stages, and what a full pipeline
 * carries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/helper_load.h"

enum {
    STEPS_MAX = 512,
    WORKERS_MAX = 16
};

#define SUBMIT_LATENCY (3 * PS_PER_US) /* of the emulated GPU */

static const struct test_load closed = {.requests_count = 200,
                                        .users_count = 24,
                                        .prompt_tokens = 100,
                                        .output_lo = 4,
                                        .output_hi = 40,
                                        .seed = 6};

static struct simulation_options pipeline(uint32_t api_servers, uint32_t engines, uint32_t pp)
{
    struct simulation_options o = test_options(api_servers, engines);
    o.pp = pp;
    return o;
}

/* ---- every request ---- */

static void goes_through(const struct simulation_options *o)
{
    struct test_load load = closed;
    struct simulation_totals totals = test_run(o, &load, TIME_NEVER);
    assert_int_equal(totals.ended_count, 200);
    assert_int_equal(totals.failed_count, 0);
    struct test_load open = closed;
    open.users_count = 0;
    open.requests_per_s = 80;
    totals = test_run(o, &open, TIME_NEVER);
    assert_int_equal(totals.ended_count, 200);
    assert_int_equal(totals.failed_count, 0);
}

static void every_request_ends_once(void **state)
{
    (void)state;
    for (uint32_t pp = 2; pp <= SIMULATION_PP_MAX; pp += 2) {
        struct simulation_options o = pipeline(1, 1, pp);
        goes_through(&o);
        o.engine.async_depth = 1;
        goes_through(&o);
        o.costs = simulation_costs_default();
        o.host = *host_profile_find("vllm-python");
        o.tp = 2;
        goes_through(&o);
        o.engine.async_depth = 2;
        goes_through(&o);
        o.wait = SIMULATION_SPIN;
        o.graphs = false;
        o.queue_depth = 16;
        goes_through(&o);
    }
}

static void every_request_ends_once_in_a_group(void **state)
{
    (void)state;
    struct simulation_options o = pipeline(2, 3, 3);
    o.costs = simulation_costs_default();
    o.host = *host_profile_find("vllm-python");
    goes_through(&o);
    o.lockstep = true;
    goes_through(&o);
    o.cores_count = 2;
    goes_through(&o);
    o.engine.async_depth = 1;
    o.wait = SIMULATION_SPIN;
    goes_through(&o);
}

/* ---- one request, by hand ---- */

struct seen {
    time_ps steps[STEPS_MAX];
    uint32_t steps_count;
};

static void lasted(void *ctx, uint32_t thread, enum simulation_span what, time_ps time,
                   uint32_t count)
{
    struct seen *seen = ctx;
    (void)thread;
    if (what == SIMULATION_SPAN_STEP) {
        assert_true(count == 1 && seen->steps_count < STEPS_MAX);
        seen->steps[seen->steps_count++] = time;
    }
}

static void happened(void *ctx, const struct simulation_event *event)
{
    (void)ctx;
    (void)event;
}

static time_ps copy_time(const struct simulation_options *o, uint32_t bytes)
{
    return (time_ps)((double)bytes / o->gpu->pcie_bytes_per_s * (double)PS_PER_S);
}

/*
 * A step of one sequence that has computed so many tokens. The first stage launches a wait for the
 * token of the step before, a copy and its graph; the second one begins to launch when the first
 * has, and its GPU when the first GPU is done and has sent. Then it copies and computes.
 */
static time_ps step_by_hand(const struct simulation_options *o, uint32_t computed_tokens)
{
    struct step_load load = {0};
    uint32_t kernels = (model_step_kernels(o->model) + 1) / 2;
    uint32_t bytes = 12 + 16 + (computed_tokens % o->engine.block_tokens == 0 ? 4 : 0);
    step_load_add(&load, computed_tokens, 1, true);
    time_ps stage = cost_step(o->gpu, o->model, 1, &load) / 2;
    time_ps launched = 2 * o->gpu->launch + o->gpu->graph_launch + o->gpu->graph_node * kernels;
    return launched + SUBMIT_LATENCY + stage + cost_handover(o->gpu, o->model, 1, 1) +
           copy_time(o, bytes) + stage;
}

static void a_step_is_its_two_stages_and_what_is_between(void **state)
{
    (void)state;
    struct seen seen = {.steps_count = 0};
    const struct simulation_witness witness = {
        .ctx = &seen, .lasted = lasted, .happened = happened};
    struct simulation_options o = pipeline(1, 1, 2);
    o.engine.async_depth = 1;
    o.witness = &witness;
    struct test_load load = closed;
    load.users_count = 0;
    load.requests_per_s = 1;
    load.requests_count = 1;
    load.output_lo = load.output_hi = 60;
    (void)test_run(&o, &load, TIME_NEVER);
    assert_int_equal(seen.steps_count, 61);
    assert_int_equal(seen.steps[60], 0); /* tells the workers that the request has ended */
    for (uint32_t i = 1; i < 60; i++) {  /* the first computes the prompt */
        assert_int_equal(seen.steps[i], step_by_hand(&o, load.prompt_tokens + i - 1));
    }
}

/* ---- a full pipeline ---- */

/* Output tokens a second, and the use of each GPU. */
static double carries(struct simulation_options o, double use[WORKERS_MAX])
{
    struct test_load load = {.requests_count = LOAD_REQUESTS_MAX,
                             .users_count = 120,
                             .prompt_tokens = 64,
                             .output_lo = 100,
                             .output_hi = 300,
                             .seed = 7};
    struct simulation_source source;
    struct simulation_observer observer;
    struct simulation *s;
    struct error error = {.text = ""};
    test_load_begin(&load, &source, &observer);
    load.count_from = 2 * PS_PER_S;
    if (simulation_create(&o, &source, &observer, &s, &error) != STATUS_OK ||
        simulation_run(s, 6 * PS_PER_S, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    uint32_t count;
    uint32_t next = 0;
    const struct simulation_thread *threads = simulation_threads(s, &count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t launches = threads[i].launches_count[SIMULATION_LAUNCH_COPY];
        if (launches > 0) {
            assert_true(next < WORKERS_MAX);
            assert_int_equal(threads[i].gpu, next);
            use[next++] = (double)threads[i].gpu_busy / (double)simulation_now(s);
        }
    }
    assert_int_equal(next, o.tp * o.pp);
    simulation_destroy(s);
    test_load_end(&load);
    return (double)load.counted_tokens / 4;
}

/* As many places for each stage: each GPU computes half the model for a batch of that size, and all
 * of them are busy, so that P stages carry P times as much as one. */
static void stages_are_busy_together(void **state)
{
    (void)state;
    double use[WORKERS_MAX] = {0};
    struct simulation_options o = pipeline(1, 1, 1);
    o.engine.max_num_seqs = 30;
    double one = carries(o, use);
    for (uint32_t pp = 2; pp <= 4; pp += 2) {
        o.pp = pp;
        o.engine.max_num_seqs = 30 * pp;
        double many = carries(o, use);
        for (uint32_t i = 0; i < pp; i++) {
            assert_true(use[i] > 0.9 && use[i] <= 1.0);
            assert_true(use[i] > 0.99 * use[0] && use[i] < 1.01 * use[0]);
        }
        if (!(many > 0.9 * pp * one && many < 1.1 * pp * one)) {
            fail_msg("%u stages: %.0f tokens/s, one: %.0f", pp, many, one);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_ends_once),
        cmocka_unit_test(every_request_ends_once_in_a_group),
        cmocka_unit_test(a_step_is_its_two_stages_and_what_is_between),
        cmocka_unit_test(stages_are_busy_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
