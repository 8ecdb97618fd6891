/*
 * simulation_law_test.c - what simulated systems carry, against formulas that know nothing of
 * events: closed_form.h, the mean wait of a queue, lock-step's steps a token, and the fall of
 * throughput when engine cores are added behind one API server.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/closed_form.h"
#include "tests/sim/helper_load.h"

static struct test_load closed(uint32_t users)
{
    return (struct test_load){
        .users_count = users, .prompt_tokens = 128, .output_lo = 128, .output_hi = 384, .seed = 5};
}

static struct closed_form formula(const struct simulation_options *o, uint32_t users)
{
    struct closed_form_system system = {
        .model = o->model->name,
        .gpu = o->gpu->name,
        .api_servers_count = o->api_servers_count,
        .engines_count = o->engines_count,
        .tp = o->tp,
        .engines_per_gpu = o->gpu_sharing == SIMULATION_GPU_OWN ? 1 : o->engines_per_gpu,
        .side_by_side = o->gpu_sharing == SIMULATION_GPU_SIDE_BY_SIDE,
        .lockstep = o->lockstep,
        .graphs = o->graphs,
        .dummy_graphs = true,
        .async = o->engine.async_depth > 1,
        .workers = o->workers || o->engines_count > 1,
        .max_num_seqs = o->engine.max_num_seqs,
        .launch_extra = o->launch_extra,
        .host = o->host,
    };
    struct closed_form_load load = {.prompt_tokens = 128,
                                    .output_tokens = 256,
                                    .output_variance_tokens = (257.0 * 257.0 - 1) / 12,
                                    .users_count = users};
    struct closed_form form;
    assert_true(closed_form_predict(&system, &load, &form));
    return form;
}

/* Throughput as the formula's, within `percent`, and limited by what it says. */
static double as_predicted(const struct simulation_options *o, enum closed_form_limit limit,
                           double percent)
{
    uint32_t users = 2 * o->engines_count * o->engine.max_num_seqs;
    struct closed_form form = formula(o, users);
    struct test_load load = closed(users);
    double tok_per_s = test_throughput(o, &load, 5 * PS_PER_S, 20 * PS_PER_S);
    print_message("simulated %.0f tok/s, formula %.0f\n", tok_per_s, form.tok_per_s);
    assert_int_equal(form.limit, limit);
    assert_true(fabs(tok_per_s / form.tok_per_s - 1) * 100 < percent);
    return tok_per_s;
}

static void gpus_limit_as_the_formula_says(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    (void)as_predicted(&o, CLOSED_FORM_GPU, 2);
    o = test_options(4, 4);
    (void)as_predicted(&o, CLOSED_FORM_GPU, 2);
    o.costs = simulation_costs_default();
    (void)as_predicted(&o, CLOSED_FORM_GPU, 3);
}

static void api_servers_limit_as_the_formula_says(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 4);
    o.host = *host_profile_find("vllm-python");
    (void)as_predicted(&o, CLOSED_FORM_API_SERVER, 3);
    o = test_options(2, 8);
    o.host = *host_profile_find("vllm-python");
    (void)as_predicted(&o, CLOSED_FORM_API_SERVER, 3);
}

static void launches_limit_as_the_formula_says(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    o.model = model_shape_find("qwen2.5-0.5b");
    o.graphs = false;
    o.workers = true;
    o.launch_extra = 20 * PS_PER_US;
    (void)as_predicted(&o, CLOSED_FORM_LAUNCH, 2);
}

static void shared_gpus_limit_as_the_formula_says(void **state)
{
    (void)state;
    struct simulation_options o = test_options(2, 4);
    o.engine.max_num_seqs = 8;
    o.engine.num_gpu_blocks = 2000;
    o.model = model_shape_find("qwen2.5-0.5b");
    o.engines_per_gpu = 4;
    o.gpu_sharing = SIMULATION_GPU_SIDE_BY_SIDE;
    (void)as_predicted(&o, CLOSED_FORM_GPU, 3);
}

/*
 * One server with one request time and Poisson arrivals: W = rho x s / (2 x (1 - rho)), the mean
 * wait of M/D/1 (Pollaczek-Khinchine). The standard error of the mean over n requests with rho 0.7
 * is about 2 % here (waits of one busy period are alike), so the bound is 3 of them.
 */
static void waits_are_those_of_an_md1_queue(void **state)
{
    (void)state;
    struct simulation_options o = test_options(1, 1);
    o.engine.max_num_seqs = 256;
    o.host.api_request = PS_PER_MS;
    struct test_load load = {.requests_count = 100000,
                             .requests_per_s = 700.0,
                             .prompt_tokens = 16,
                             .output_lo = 1,
                             .output_hi = 1,
                             .seed = 6};
    (void)test_run(&o, &load, TIME_NEVER);
    double mean_ms = load.wait_sum_s / (double)load.ended_count * 1e3;
    double want_ms = 0.7 * 1.0 / (2 * (1 - 0.7));
    print_message("mean wait %.4f ms, formula %.4f\n", mean_ms, want_ms);
    assert_true(fabs(mean_ms / want_ms - 1) < 0.06);
}

/* Every engine core's step is one more message to decode, with fewer tokens in it. */
static void throughput_falls_behind_one_api_server(void **state)
{
    (void)state;
    static const uint32_t engines[] = {3, 4, 8, 16};
    double before = 0;
    for (uint32_t i = 0; i < 4; i++) {
        struct simulation_options o = test_options(1, engines[i]);
        o.host = *host_profile_find("vllm-python");
        struct test_load load = closed(2 * engines[i] * o.engine.max_num_seqs);
        double tok_per_s = test_throughput(&o, &load, 5 * PS_PER_S, 10 * PS_PER_S);
        print_message("%u engine cores: %.0f tok/s\n", engines[i], tok_per_s);
        assert_true(i == 0 || tok_per_s < before * 0.995);
        before = tok_per_s;
    }
}

/* ---- what threads do with their time ---- */

struct observed {
    struct simulation *s;
    struct test_load load;
    const struct simulation_thread *threads;
    uint32_t count;
};

/* `users` closed users for so long. */
static void observe(const struct simulation_options *o, uint32_t users, time_ps until,
                    struct observed *out)
{
    struct simulation_source source;
    struct simulation_observer observer;
    struct error error;
    out->load = closed(users);
    out->load.requests_count = LOAD_REQUESTS_MAX;
    test_load_begin(&out->load, &source, &observer);
    assert_int_equal(simulation_create(o, &source, &observer, &out->s, &error), STATUS_OK);
    assert_int_equal(simulation_run(out->s, until, &error), STATUS_OK);
    assert_int_equal(out->load.wrong_count, 0);
    out->threads = simulation_threads(out->s, &out->count);
}

static void observed_end(struct observed *o)
{
    simulation_destroy(o->s);
    test_load_end(&o->load);
}

struct steps {
    double rank_steps; /* dummies included */
    double tokens;
};

static struct steps lockstep_steps(uint32_t ranks, uint32_t users)
{
    struct simulation_options o = test_options(1, ranks);
    struct observed seen;
    struct steps steps = {0};
    o.lockstep = true;
    observe(&o, users, 30 * PS_PER_S, &seen);
    for (uint32_t i = 0; i < seen.count; i++) {
        const struct simulation_thread *t = &seen.threads[i];
        if (t->kind == SIMULATION_THREAD_ENGINE_MAIN) {
            steps.rank_steps += (double)(t->steps_count + t->dummy_steps_count);
            steps.tokens += (double)t->output_tokens;
        }
    }
    observed_end(&seen);
    return steps;
}

/* All ranks step when any does: D / c rank-steps a token with c <= D requests in progress. */
static void lockstep_wastes_the_idle_ranks_steps(void **state)
{
    (void)state;
    struct steps one = lockstep_steps(8, 1);
    struct steps full = lockstep_steps(8, 8);
    print_message("rank-steps a token: %.2f with 1 request, %.2f with 8\n",
                  one.rank_steps / one.tokens, full.rank_steps / full.tokens);
    assert_true(fabs(one.rank_steps / one.tokens / 8 - 1) < 0.05);
    assert_true(fabs(full.rank_steps / full.tokens - 1) < 0.05);
}

/* Work is booked when it begins: what a reading may have too much or too little. */
#define PIECE (20 * PS_PER_MS)

/* A thread's times are all of its time, and a GPU's too. */
static void times_of_threads_add_up(void **state)
{
    (void)state;
    const time_ps until = 10 * PS_PER_S;
    struct simulation_options o = test_options(2, 2);
    struct observed seen;
    o.host = *host_profile_find("vllm-python");
    o.costs = simulation_costs_default();
    observe(&o, 80, until, &seen);
    assert_int_equal(seen.count, 1 + 2 + 1 + 2 * 3 + 2 * 2);
    for (uint32_t i = 0; i < seen.count; i++) {
        const struct simulation_thread *t = &seen.threads[i];
        assert_in_range(t->busy + t->idle + t->sync_wait + t->queue_full, until, until + PIECE);
        assert_true(t->cpu <= t->busy + PIECE);
        if (t->kind == SIMULATION_THREAD_WORKER) {
            time_ps gpu = t->gpu_busy + t->gpu_idle_late + t->gpu_idle_absent;
            assert_in_range(gpu, until - PIECE, until + PIECE);
        }
        if (t->kind == SIMULATION_THREAD_API) {
            assert_true(t->occupancy > o.host.api_output_token * (time_ps)t->output_tokens);
            assert_true(t->occupancy <= until + PIECE);
        }
    }
    observed_end(&seen);
}

static time_ps cpu_of(const struct observed *seen)
{
    time_ps cpu = 0;
    for (uint32_t i = 0; i < seen->count; i++) {
        cpu += seen->threads[i].cpu;
    }
    return cpu;
}

/* Few cores are used up and no more than that; spinning threads use up all there are. */
static void threads_use_no_more_than_the_cores(void **state)
{
    (void)state;
    const time_ps until = 3 * PS_PER_S;
    struct simulation_options o = test_options(2, 4);
    o.costs = simulation_costs_default();
    o.model = model_shape_find("qwen2.5-0.5b");
    time_ps all_tokens = 0;
    for (uint32_t cores = 1; cores <= 2; cores++) {
        struct observed seen;
        o.cores_count = cores;
        o.wait = SIMULATION_BLOCK;
        observe(&o, 320, until, &seen);
        time_ps tokens = (time_ps)simulation_totals(seen.s).output_tokens;
        print_message("%u cores: %.2f used, %lld tokens\n", cores,
                      (double)cpu_of(&seen) / (double)until, (long long)tokens);
        assert_in_range(cpu_of(&seen), cores * until * 9 / 10, cores * until + PIECE);
        assert_true(tokens > all_tokens);
        all_tokens = tokens;
        observed_end(&seen);
        o.wait = SIMULATION_SPIN;
        observe(&o, 320, until, &seen);
        assert_in_range(cpu_of(&seen), cores * until * 98 / 100, cores * until + PIECE);
        observed_end(&seen);
    }
}

/* The three threads of an engine core take turns: together they are occupied at most all the time.
 */
static void an_interpreter_lock_serialises(void **state)
{
    (void)state;
    const time_ps until = 5 * PS_PER_S;
    struct simulation_options o = test_options(1, 1);
    o.host.engine_step = 3 * PS_PER_MS;
    o.extra.engine_output_message = 5 * PS_PER_MS;
    for (uint32_t locked = 0; locked < 2; locked++) {
        struct observed seen;
        time_ps occupied = 0;
        o.interpreter_lock = locked == 1;
        observe(&o, 80, until, &seen);
        for (uint32_t i = 0; i < seen.count; i++) {
            occupied += seen.threads[i].occupancy;
        }
        print_message("lock %u: occupied %.3f of the time\n", locked,
                      (double)occupied / (double)until);
        assert_true(locked == 1 ? occupied <= until + PIECE : occupied > until * 12 / 10);
        observed_end(&seen);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_limit_as_the_formula_says),
        cmocka_unit_test(api_servers_limit_as_the_formula_says),
        cmocka_unit_test(launches_limit_as_the_formula_says),
        cmocka_unit_test(shared_gpus_limit_as_the_formula_says),
        cmocka_unit_test(waits_are_those_of_an_md1_queue),
        cmocka_unit_test(lockstep_wastes_the_idle_ranks_steps),
        cmocka_unit_test(throughput_falls_behind_one_api_server),
        cmocka_unit_test(times_of_threads_add_up),
        cmocka_unit_test(threads_use_no_more_than_the_cores),
        cmocka_unit_test(an_interpreter_lock_serialises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
