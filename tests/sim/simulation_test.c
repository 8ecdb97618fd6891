/*
 * simulation_test.c - whole systems under the virtual clock: every request through every topology,
 * equal runs to the byte, and the laws of queues. What they ought to carry: simulation_law_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/helper_load.h"

static struct test_load closed_load(uint32_t users, uint64_t requests)
{
    return (struct test_load){.requests_count = requests,
                              .users_count = users,
                              .prompt_tokens = 128,
                              .output_lo = 16,
                              .output_hi = 96,
                              .seed = 3};
}

static struct test_load open_load(double rate, uint64_t requests)
{
    return (struct test_load){.requests_count = requests,
                              .requests_per_s = rate,
                              .prompt_tokens = 200,
                              .output_lo = 1,
                              .output_hi = 64,
                              .seed = 4};
}

/* All that was sent ends, with all its tokens, in order, and nothing is left behind. */
static void goes_through(const struct simulation_options *options)
{
    struct test_load closed = closed_load(30, 300);
    struct test_load open = open_load(150.0, 300);
    struct simulation_totals totals = test_run(options, &closed, TIME_NEVER);
    assert_int_equal(totals.ended_count, 300);
    assert_int_equal(totals.failed_count, 0);
    totals = test_run(options, &open, TIME_NEVER);
    assert_int_equal(totals.ended_count, 300);
    assert_int_equal(totals.failed_count, 0);
    assert_true(open.residence == open.inflight_integral); /* Little's law, exactly */
    assert_true(closed.residence == closed.inflight_integral);
}

static struct simulation_options with_costs(uint32_t api_servers, uint32_t engines)
{
    struct simulation_options o = test_options(api_servers, engines);
    o.costs = simulation_costs_default();
    o.host = *host_profile_find("vllm-python");
    return o;
}

static void every_request_ends_once_alone(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    goes_through(&o);
    o.costs = simulation_costs_default();
    goes_through(&o);
    o.workers = true;
    goes_through(&o);
    o.engine.async_depth = 1;
    goes_through(&o);
    o.wait = SIMULATION_SPIN;
    goes_through(&o);
    o.workers = false;
    goes_through(&o);
    o.graphs = false;
    o.queue_depth = 16;
    goes_through(&o);
}

static void every_request_ends_once_in_a_group(void **state)
{
    (void)state;
    struct simulation_options o = with_costs(2, 3);
    goes_through(&o);
    o.tp = 2;
    goes_through(&o);
    o.engine.async_depth = 1;
    goes_through(&o);
    o.tp = 1;
    o.uniproc = true;
    goes_through(&o);
    o.interpreter_lock = true;
    o.extra.engine_input_request = 200 * PS_PER_US;
    o.extra.engine_output_message = 100 * PS_PER_US;
    goes_through(&o);
    o.publish_off = true;
    o.router_rule = ROUTER_RUST;
    goes_through(&o);
}

static void every_request_ends_once_on_few_cores(void **state)
{
    (void)state;
    struct simulation_options o = with_costs(2, 3);
    for (uint32_t cores = 1; cores <= 4; cores++) {
        o.cores_count = cores;
        o.wait = SIMULATION_BLOCK;
        goes_through(&o);
        o.wait = SIMULATION_SPIN;
        goes_through(&o);
    }
}

static void every_request_ends_once_on_shared_gpus(void **state)
{
    (void)state;
    struct simulation_options o = with_costs(1, 3);
    o.model = model_shape_find("qwen2.5-0.5b");
    o.engines_per_gpu = 2;
    o.gpu_sharing = SIMULATION_GPU_TIME_SLICED;
    goes_through(&o);
    o.gpu_sharing = SIMULATION_GPU_SIDE_BY_SIDE;
    goes_through(&o);
    o.uniproc = true;
    o.engine.async_depth = 1;
    o.cores_count = 2;
    goes_through(&o);
}

static void every_request_ends_once_in_lockstep(void **state)
{
    (void)state;
    struct simulation_options o = with_costs(2, 4);
    o.lockstep = true;
    goes_through(&o);
    o.engine.async_depth = 1;
    o.dummy_eager = true;
    goes_through(&o);
    o.uniproc = true;
    o.cores_count = 2;
    goes_through(&o);
    o.model = model_shape_find("qwen3-30b-a3b");
    assert_non_null(o.model);
    goes_through(&o);
}

static void shared_prompts_hit_the_prefix_cache(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    o.engine.prefix_caching = true;
    struct test_load load = closed_load(8, 200);
    load.prompts_count = 2;
    load.prompt_tokens = 160; /* 10 blocks, of which the last is always computed */
    (void)test_run(&o, &load, TIME_NEVER);
    /* All but the first requests of each prompt, which run at the same time. */
    assert_in_range(load.cached_tokens, (200 - 8) * 144, 200 * 144);
}

static void a_tight_kv_cache_preempts_and_loses_nothing(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 2);
    o.engine.max_model_len = 320;
    o.engine.num_gpu_blocks = 41;
    o.engine.reserve_full_isl = false;
    goes_through(&o);
}

/* ---- equal to the byte ---- */

static uint64_t hash_of(struct simulation_options o, time_ps until)
{
    struct test_load load = open_load(40.0, 400);
    o.engine.prefix_caching = true;
    load.prompts_count = 50;
    return test_run(&o, &load, until).log_hash;
}

static void equal_input_gives_the_same_log(void **state)
{
    (void)state;
    struct simulation_options o = with_costs(2, 3);
    uint64_t hash = hash_of(o, TIME_NEVER);
    assert_int_equal(hash_of(o, TIME_NEVER), hash);
    assert_int_not_equal(hash_of(o, PS_PER_S), hash);
    o.host.api_message++;
    assert_int_not_equal(hash_of(o, TIME_NEVER), hash);
}

static void lasted(void *ctx, uint32_t thread, enum simulation_span what, time_ps time,
                   uint32_t count)
{
    (void)ctx, (void)thread, (void)what, (void)time, (void)count;
}

static void happened(void *ctx, const struct simulation_event *event)
{
    (void)ctx, (void)event;
}

/* The same numbers with every compiler and on every machine; a change of anything that a simulation
 * does changes them. With a witness all segments are there; else those of workers and output
 * threads may be left out. */
static void the_log_is_the_same_everywhere(void **state)
{
    (void)state;
    const struct simulation_witness witness = {.lasted = lasted, .happened = happened};
    struct simulation_options o = with_costs(2, 3);
    assert_int_equal(hash_of(o, TIME_NEVER), 0x2dc0be23a1519506ULL);
    o.witness = &witness;
    assert_int_equal(hash_of(o, TIME_NEVER), 0x2ba2cd3e64f2b7c2ULL);
    o.lockstep = true;
    o.cores_count = 2;
    assert_int_equal(hash_of(o, TIME_NEVER), 0x36cae725ea1d8340ULL);
    o.witness = NULL; /* threads that have to wait for a core run one by one in any case */
    assert_int_equal(hash_of(o, TIME_NEVER), 0x36cae725ea1d8340ULL);
    o.costs = simulation_costs_none(); /* many things happen at the same time */
    o.host = *host_profile_find("native");
    o.cores_count = 0;
    assert_int_equal(hash_of(o, TIME_NEVER), 0x677ed3c1b4505169ULL);
    o.witness = &witness;
    assert_int_equal(hash_of(o, TIME_NEVER), 0x7ef0eab071cba549ULL);
}

/* ---- what is refused ---- */

static enum status create(const struct simulation_options *o, struct error *error)
{
    struct test_load load = closed_load(1, 1);
    struct simulation_source source;
    struct simulation_observer observer;
    struct simulation *s = NULL;
    test_load_begin(&load, &source, &observer);
    enum status status = simulation_create(o, &source, &observer, &s, error);
    simulation_destroy(s);
    test_load_end(&load);
    return status;
}

static void a_wrong_option_is_named(void **state)
{
    (void)state;
    struct error error;
    struct simulation_options o = test_options(1, 1);
    o.pp = SIMULATION_PP_MAX + 1;
    assert_int_equal(create(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "pp"));
    o = test_options(65, 1);
    assert_int_equal(create(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "api_servers_count"));
    o = test_options(1, 1);
    o.model = model_shape_find("llama-3.1-70b");
    assert_int_equal(create(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "larger than the GPU"));
    o = test_options(1, 1);
    o.lockstep = true;
    assert_int_equal(create(&o, &error), STATUS_INVALID);
    o = test_options(1, 1);
    o.engine.async_depth = 3;
    assert_int_equal(create(&o, &error), STATUS_INVALID);
}

static void a_prompt_that_cannot_be_served_ends_failed(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 2);
    struct test_load load = open_load(50.0, 20);
    load.prompt_tokens = o.engine.max_model_len;
    struct simulation_totals totals = test_run(&o, &load, TIME_NEVER);
    assert_int_equal(totals.failed_count, 20);
    o.engine.requests_max = 4; /* held at once: the rest is refused */
    load = closed_load(30, 100);
    totals = test_run(&o, &load, TIME_NEVER);
    assert_int_equal(totals.ended_count, 100);
    assert_in_range(totals.failed_count, 1, 99);
}

static bool backwards(void *ctx, struct simulation_request *request)
{
    time_ps *at = ctx;
    *request = (struct simulation_request){.at = *at, .prompt_tokens = 1, .output_tokens = 1};
    *at -= PS_PER_MS;
    return true;
}

static void a_source_that_goes_back_in_time_is_refused(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    time_ps at = PS_PER_S;
    struct simulation_source source = {.ctx = &at, .next = backwards};
    struct simulation *s;
    struct error error;
    assert_int_equal(simulation_create(&o, &source, NULL, &s, &error), STATUS_OK);
    assert_int_equal(simulation_run(s, TIME_NEVER, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "not before"));
    simulation_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_ends_once_alone),
        cmocka_unit_test(every_request_ends_once_in_a_group),
        cmocka_unit_test(every_request_ends_once_on_few_cores),
        cmocka_unit_test(every_request_ends_once_on_shared_gpus),
        cmocka_unit_test(every_request_ends_once_in_lockstep),
        cmocka_unit_test(shared_prompts_hit_the_prefix_cache),
        cmocka_unit_test(a_tight_kv_cache_preempts_and_loses_nothing),
        cmocka_unit_test(equal_input_gives_the_same_log),
        cmocka_unit_test(the_log_is_the_same_everywhere),
        cmocka_unit_test(a_wrong_option_is_named),
        cmocka_unit_test(a_prompt_that_cannot_be_served_ends_failed),
        cmocka_unit_test(a_source_that_goes_back_in_time_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
