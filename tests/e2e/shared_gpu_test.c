/*
 * shared_gpu_test.c - engine cores that share one emulated GPU, as real processes: its memory is
 * divided among them, its time adds up to at most all there is, and more engine cores give more
 * while it has gaps. What the ways of sharing cost is asked in booked time of the GPU, which does
 * not depend on how fast this machine is: a step in turns takes all of the GPU for as long as a
 * step alone, and switching beside that; side by side it takes the share that it needs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    SEQUENCES = 4, /* of an engine core at once */
    ENGINES_MAX = 4,
    USERS_MAX = 2 * ENGINES_MAX * SEQUENCES,
    RAMP_MS = 400,
    WINDOW_MS = 1200,
    ENGINE_STEP_NS = 6000000,
};

/*
 * A step is 6 ms of the host, then 2.5 ms of the GPU, which reads weights of 16 GB and needs most
 * of its bandwidth for them, not all: alone the GPU is busy for less than a third of the time, and
 * four in turns nearly fill it.
 */
static struct topology shared_topology(enum gpu_sharing sharing, uint32_t engines)
{
    struct topology t = e2e_topology(1, engines);
    (void)snprintf(t.model, sizeof t.model, "llama-3.1-8b");
    (void)snprintf(t.gpu, sizeof t.gpu, "b200");
    t.gpu_sharing = sharing;
    t.engines_per_gpu = engines;
    t.async_depth = 1;
    t.max_num_seqs = SEQUENCES;
    t.engine_step_ns = ENGINE_STEP_NS;
    return t;
}

/* ---- a closed loop ---- */

struct user {
    uint32_t port;
    uint32_t index;
    atomic_bool *stop;
    bool well;
};

static void *user_main(void *context)
{
    struct user *u = context;
    struct link l;
    char json[160];
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"prompt of user %u\",\"max_tokens\":%u,\"ignore_eos\":true}",
                   u->index, 10 + u->index % 7);
    char *text = http_request_text("/v1/completions", NULL, json);
    u->well = link_open(&l, u->port);
    while (u->well && !atomic_load(u->stop)) {
        u->well = link_text(&l, text);
        struct answer a = link_answer(&l);
        u->well = u->well && a.status == 200;
        answer_free(&a);
    }
    link_close(&l);
    free(text);
    return NULL;
}

struct use {
    double steps_per_s;
    double busy_ms_a_step; /* of the GPU's time and capacity */
    double busy_frac;      /* of the GPU */
    double switch_frac;
    double lost_frac; /* idle: hosts late, or without work */
    double slack;     /* of the three above: their counters are not read at one moment */
};

struct look {
    int64_t begin_ns;
    int64_t end_ns;
    uint64_t steps_count;
    uint64_t busy_ns;
    uint64_t switch_ns;
    uint64_t idle_ns;
};

static struct look look_at(const struct system *s)
{
    struct look look = {
        .begin_ns = clock_now_ns(),
        .steps_count = E2E_SUM(s, THREAD_ENGINE_MAIN, steps_count),
        .busy_ns = E2E_SUM(s, THREAD_WORKER_MAIN, gpu_busy_ns) +
                   E2E_SUM(s, THREAD_ENGINE_MAIN, gpu_busy_ns),
        .switch_ns = E2E_SUM(s, THREAD_WORKER_MAIN, gpu_switch_ns) +
                     E2E_SUM(s, THREAD_ENGINE_MAIN, gpu_switch_ns),
        .idle_ns = E2E_SUM(s, THREAD_WORKER_MAIN, gpu_idle_late_ns) +
                   E2E_SUM(s, THREAD_ENGINE_MAIN, gpu_idle_late_ns) +
                   E2E_SUM(s, THREAD_WORKER_MAIN, gpu_idle_absent_ns) +
                   E2E_SUM(s, THREAD_ENGINE_MAIN, gpu_idle_absent_ns),
    };
    look.end_ns = clock_now_ns();
    return look;
}

static struct use measure(enum gpu_sharing sharing, uint32_t engines)
{
    struct topology t = shared_topology(sharing, engines);
    struct system s;
    pthread_t threads[USERS_MAX];
    struct user users[USERS_MAX];
    atomic_bool stop = false;
    uint32_t users_count = 2 * engines * SEQUENCES;
    e2e_start(&t, &s);
    for (uint32_t i = 0; i < users_count; i++) {
        users[i] = (struct user){.port = s.port, .index = i, .stop = &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, user_main, &users[i]), 0);
    }
    e2e_sleep_ms(RAMP_MS);
    struct look a = look_at(&s);
    e2e_sleep_ms(WINDOW_MS);
    struct look b = look_at(&s);
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < users_count; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(users[i].well);
    }
    assert_false(system_failed(&s));
    e2e_stop(&s);
    double wall_ns = (double)(b.end_ns - a.begin_ns);
    double steps = (double)(b.steps_count - a.steps_count);
    struct use use = {
        .steps_per_s = steps * 1e9 / wall_ns,
        .busy_ms_a_step = (double)(b.busy_ns - a.busy_ns) / 1e6 / steps,
        .slack = 0.1 + (double)(a.end_ns - a.begin_ns + b.end_ns - b.begin_ns) / wall_ns,
        .busy_frac = (double)(b.busy_ns - a.busy_ns) / wall_ns,
        .switch_frac = (double)(b.switch_ns - a.switch_ns) / wall_ns,
        .lost_frac = (double)(b.idle_ns - a.idle_ns) / wall_ns,
    };
    print_message("sharing %d, %u engine cores: %.1f steps/s, GPU busy %.3f (%.3f ms a step), "
                  "switching %.3f, idle %.3f\n",
                  (int)sharing, engines, use.steps_per_s, use.busy_frac, use.busy_ms_a_step,
                  use.switch_frac, use.lost_frac);
    return use;
}

/* A step in flight at an edge of the window is booked on one side of it. */
static void assert_adds_up(struct use u)
{
    double sum = u.busy_frac + u.switch_frac + u.lost_frac;
    if (!(sum > 1 - u.slack && sum < 1 + u.slack)) {
        fail_msg("the GPU's time adds up to %.3f, not 1 within %.3f", sum, u.slack);
    }
}

static void assert_about(double got, double want)
{
    if (!(got > 0.92 * want && got < 1.08 * want)) {
        fail_msg("%.3f ms of the GPU a step, want about %.3f", got, want);
    }
}

static void a_step_costs_what_the_model_says(void **state)
{
    (void)state;
    struct use own = measure(GPU_TIME_SLICED, 1);
    struct use sliced_two = measure(GPU_TIME_SLICED, 2);
    struct use sliced_four = measure(GPU_TIME_SLICED, 4);
    struct use beside_two = measure(GPU_SIDE_BY_SIDE, 2);
    struct use beside_four = measure(GPU_SIDE_BY_SIDE, 4);
    assert_adds_up(own);
    assert_adds_up(sliced_two);
    assert_adds_up(sliced_four);
    assert_adds_up(beside_two);
    assert_adds_up(beside_four);
    assert_true(own.switch_frac < 0.001);
    assert_true(sliced_four.switch_frac > 0.005);
    assert_true(beside_two.switch_frac < 0.001);
    assert_true(beside_four.switch_frac < 0.001);
    assert_about(sliced_two.busy_ms_a_step, own.busy_ms_a_step);
    assert_about(sliced_four.busy_ms_a_step, own.busy_ms_a_step);
    assert_about(beside_four.busy_ms_a_step, beside_two.busy_ms_a_step);
    /* The rest of each step's GPU is left to the others: 0.83 by the model. */
    assert_true(beside_four.busy_ms_a_step < 0.9 * own.busy_ms_a_step);
    assert_true(beside_two.busy_ms_a_step < 0.9 * own.busy_ms_a_step);
    /* By the model 1.9 and 2.5 to 3.1 times as much: sleeping hosts, so a busy machine gives less
     * of all of them. */
    assert_true(sliced_two.steps_per_s > 1.2 * own.steps_per_s);
    assert_true(beside_two.steps_per_s > 1.2 * own.steps_per_s);
    assert_true(sliced_four.steps_per_s > 1.3 * own.steps_per_s);
    assert_true(beside_four.steps_per_s > 1.3 * own.steps_per_s);
}

/* ---- memory ---- */

/* What the engine cores say there is room for, when asked for far too much. */
static uint64_t blocks_that_fit(uint32_t engines)
{
    static const char before[] = " only ";
    struct system s;
    struct error error = {.text = ""};
    struct topology t = shared_topology(GPU_SIDE_BY_SIDE, engines);
    t.num_gpu_blocks = 1 << 24;
    struct system_options options = {
        .topology = t, .log_fd = -1, .start_timeout_ns = (int64_t)60 * 1000000000};
    assert_int_not_equal(system_start(&options, &s, &error), STATUS_OK);
    const char *at = strstr(error.text, before);
    if (at == NULL) {
        fail_msg("'%s' says nothing of blocks", error.text);
        return 0;
    }
    return strtoull(at + strlen(before), NULL, 10);
}

/* Blocks and weights of all of them fill the same memory: b(n) = (M / n - W) / B, so that b(1) -
 * b(2) is half of what M holds and b(2) - b(4) is a quarter. */
static void memory_is_divided(void **state)
{
    (void)state;
    uint64_t one = blocks_that_fit(1);
    uint64_t two = blocks_that_fit(2);
    uint64_t four = blocks_that_fit(4);
    assert_true(two > 0 && one > 2 * two && two > 2 * four);
    assert_in_range(one - two, 2 * (two - four) - 3, 2 * (two - four) + 3);
}

/* Its context goes with it: the others' GPU is free again, and the whole system ends. */
static bool failed(void *ctx)
{
    return system_failed(ctx);
}

static void a_dead_sharer_ends_all(void **state)
{
    (void)state;
    struct topology t = shared_topology(GPU_TIME_SLICED, 2);
    struct system s;
    char victim[64];
    e2e_start(&t, &s);
    struct remains remains = remains_of(&s);
    const struct ledger_thread *w = e2e_thread(&s, THREAD_WORKER_MAIN, 1, 0);
    assert_int_equal(kill(w->pid, SIGKILL), 0);
    assert_true(e2e_wait(failed, &s, GONE_MS));
    (void)snprintf(victim, sizeof victim, "Worker_DP1_0 (pid %d", (int)w->pid);
    assert_non_null(strstr(s.reason, victim));
    system_stop(&s);
    system_free(&s);
    remains_assert_none(&remains);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_costs_what_the_model_says),
        cmocka_unit_test(memory_is_divided),
        cmocka_unit_test(a_dead_sharer_ends_all),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
