/*
 * rates_test.c - the emulated host: what is booked is exactly count times constant for each stage,
 * never more than the time there was, and a stage that has a backlog is busy all the time. One API
 * server in front of four engine cores is that stage here. How fast it is on this machine is not
 * asked: a busy machine wakes threads late, and what they owe then they book in a burst. Under an
 * interpreter lock the threads of an engine core are one such stage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    USERS = 48,
    RAMP_MS = 700,
    WINDOW_MS = 1500,
    REQUEST_NS = 1000000, /* vllm-python, as documented */
    PROMPT_TOKEN_NS = 2000,
    MESSAGE_NS = 50000,
    OUTPUT_TOKEN_NS = 46000,
    STEP_NS = 126000,
    SEQUENCE_NS = 4000,
    COORDINATOR_MESSAGE_NS = 50000,
    OWED_NS = 30000000, /* booked and not yet slept off: at most a message of each thread */
};

static struct system served;
static atomic_bool stop_users;
static atomic_uint failures;

/* A closed loop on one connection; the last answer is read to its end, nothing is aborted. */
static void *user_main(void *context)
{
    const int *index = context;
    struct link l;
    char json[160];
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"prompt of user %d\",\"max_tokens\":%d,\"ignore_eos\":true,"
                   "\"stream\":%s}",
                   *index, 30 + *index, *index % 4 != 0 ? "true" : "false");
    char *text = http_request_text("/v1/completions", NULL, json);
    bool well = link_open(&l, served.port);
    while (well && !atomic_load(&stop_users)) {
        well = link_text(&l, text);
        struct answer a = link_answer(&l);
        well = well && a.status == 200;
        answer_free(&a);
    }
    if (!well) {
        (void)atomic_fetch_add(&failures, 1);
    }
    link_close(&l);
    free(text);
    return NULL;
}

static bool all_quiet(void *ctx)
{
    (void)ctx;
    return E2E_SUM(&served, THREAD_ENGINE_MAIN, running_now) == 0 &&
           E2E_SUM(&served, THREAD_ENGINE_MAIN, waiting_now) == 0;
}

/* A thread's books at the end of one of its turns, by its own clock. */
struct look {
    const struct ledger_thread *thread;
    uint64_t beat_ns;
    uint64_t busy_ns;
};

/* False: in the middle of a turn, or of its wait. */
static bool look_once(void *ctx)
{
    struct look *l = ctx;
    const struct ledger_thread *t = l->thread;
    l->busy_ns = ledger_get(&t->busy_ns);
    uint64_t waited_ns = ledger_get(&t->idle_ns) + ledger_get(&t->sync_wait_ns);
    l->beat_ns = ledger_get(&t->beat_ns);
    return l->busy_ns + waited_ns == l->beat_ns - ledger_get(&t->started_ns);
}

static struct look look_at(const struct ledger_thread *t)
{
    struct look l = {.thread = t};
    assert_true(e2e_wait(look_once, &l, HANG_MS));
    return l;
}

/* Since it began, whatever the machine did in between. */
static void assert_not_booked_twice(uint64_t booked_ns, const struct ledger_thread *since)
{
    int64_t lived_ns = clock_now_ns() - (int64_t)ledger_get(&since->started_ns);
    if ((int64_t)booked_ns > lived_ns + OWED_NS) {
        fail_msg("%lld ns are booked in %lld ns", (long long)booked_ns, (long long)lived_ns);
    }
}

static void assert_booked(const struct ledger_thread *api)
{
    assert_int_equal(ledger_get(&api->occupancy_ns),
                     ledger_get(&api->requests_count) * REQUEST_NS +
                         ledger_get(&api->prompt_tokens) * PROMPT_TOKEN_NS +
                         ledger_get(&api->messages_in_count) * MESSAGE_NS +
                         ledger_get(&api->output_tokens) * OUTPUT_TOKEN_NS);
    for (uint32_t rank = 0; rank < 4; rank++) {
        const struct ledger_thread *engine = e2e_thread(&served, THREAD_ENGINE_MAIN, rank, 0);
        assert_non_null(engine);
        assert_true(ledger_get(&engine->steps_count) > 0);
        assert_int_equal(ledger_get(&engine->occupancy_ns),
                         ledger_get(&engine->steps_count) * STEP_NS +
                             ledger_get(&engine->step_seqs) * SEQUENCE_NS);
    }
    const struct ledger_thread *coordinator = e2e_thread(&served, THREAD_COORDINATOR_MAIN, 0, 0);
    assert_non_null(coordinator);
    assert_true(ledger_get(&coordinator->messages_in_count) > 0);
    assert_int_equal(ledger_get(&coordinator->occupancy_ns),
                     ledger_get(&coordinator->messages_in_count) * COORDINATOR_MESSAGE_NS);
}

static void occupancy_is_count_times_constant(void **state)
{
    (void)state;
    pthread_t users[USERS];
    int indices[USERS];
    struct topology t = e2e_topology(1, 4);
    (void)snprintf(t.host.name, sizeof t.host.name, "vllm-python");
    e2e_start(&t, &served);
    const struct ledger_thread *api = e2e_thread(&served, THREAD_API_MAIN, 0, 0);
    assert_non_null(api);
    for (int i = 0; i < USERS; i++) {
        indices[i] = i;
        assert_int_equal(pthread_create(&users[i], NULL, user_main, &indices[i]), 0);
    }
    e2e_sleep_ms(RAMP_MS);
    struct look a = look_at(api);
    e2e_sleep_ms(WINDOW_MS);
    struct look b = look_at(api);
    assert_not_booked_twice(ledger_get(&api->occupancy_ns), api);
    assert_true(ledger_get(&api->occupancy_ns) > 0);
    atomic_store(&stop_users, true);
    for (int i = 0; i < USERS; i++) {
        assert_int_equal(pthread_join(users[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&failures), 0);
    assert_true(e2e_wait(all_quiet, NULL, HANG_MS));
    e2e_sleep_ms(300); /* the last counts reach the coordinator */

    double busy = (double)(b.busy_ns - a.busy_ns) / (double)(b.beat_ns - a.beat_ns);
    if (!(busy >= 0.97 && busy <= 1.0)) {
        fail_msg("busy for %f of the time", busy);
    }
    assert_booked(api);
    assert_false(system_failed(&served));
    e2e_stop(&served);
}

/* ---- interpreter lock ---- */

enum {
    LOCK_STEP_NS = 1200000, /* of the main thread; the device takes less */
    LOCK_INPUT_NS = 500000,
    LOCK_MESSAGE_NS = 300000,
    LOCK_TOKEN_NS = 60000,
};

struct engine_threads {
    const struct ledger_thread *main;
    const struct ledger_thread *input;
    const struct ledger_thread *output;
};

static uint64_t booked_by(const struct engine_threads *e)
{
    return ledger_get(&e->main->occupancy_ns) + ledger_get(&e->input->occupancy_ns) +
           ledger_get(&e->output->occupancy_ns);
}

static uint64_t waits_of(const struct ledger_thread *t)
{
    uint64_t counts[LEDGER_HISTOGRAM_BUCKETS];
    for (uint32_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        counts[i] = ledger_get(&t->waits.counts[i]);
    }
    return ledger_histogram_total(counts);
}

/* Share of the time that the three threads of one engine core have booked, with a backlog. */
static double engine_booked_frac(bool interpreter_lock)
{
    pthread_t users[USERS];
    int indices[USERS];
    struct topology t = e2e_topology(1, 1);
    t.interpreter_lock = interpreter_lock ? 1 : 0;
    t.engine_step_ns = LOCK_STEP_NS;
    t.host.engine_input_request_ns = LOCK_INPUT_NS;
    t.host.engine_output_message_ns = LOCK_MESSAGE_NS;
    t.host.engine_output_token_ns = LOCK_TOKEN_NS;
    e2e_start(&t, &served);
    struct engine_threads e = {.main = e2e_thread(&served, THREAD_ENGINE_MAIN, 0, 0),
                               .input = e2e_thread(&served, THREAD_ENGINE_INPUT, 0, 0),
                               .output = e2e_thread(&served, THREAD_ENGINE_OUTPUT, 0, 0)};
    assert_true(e.main != NULL && e.input != NULL && e.output != NULL);
    atomic_store(&stop_users, false);
    for (int i = 0; i < USERS; i++) {
        indices[i] = i;
        assert_int_equal(pthread_create(&users[i], NULL, user_main, &indices[i]), 0);
    }
    e2e_sleep_ms(RAMP_MS);
    int64_t begin_ns = clock_now_ns();
    uint64_t before_ns = booked_by(&e);
    e2e_sleep_ms(WINDOW_MS);
    uint64_t after_ns = booked_by(&e);
    int64_t end_ns = clock_now_ns();
    if (interpreter_lock) {
        assert_not_booked_twice(after_ns, e.output); /* of the three it began first */
    }
    atomic_store(&stop_users, true);
    for (int i = 0; i < USERS; i++) {
        assert_int_equal(pthread_join(users[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&failures), 0);
    assert_true(e2e_wait(all_quiet, NULL, HANG_MS));
    e2e_sleep_ms(300);
    assert_int_equal(ledger_get(&e.main->occupancy_ns),
                     ledger_get(&e.main->steps_count) * LOCK_STEP_NS);
    assert_int_equal(ledger_get(&e.main->lock_held_ns),
                     interpreter_lock ? ledger_get(&e.main->occupancy_ns) : 0);
    assert_int_equal(ledger_get(&e.input->requests_count), ledger_get(&e.main->requests_count));
    assert_int_equal(ledger_get(&e.input->occupancy_ns),
                     ledger_get(&e.input->requests_count) * LOCK_INPUT_NS);
    /* Each request waits once for either thread, and twice, with its first and its last token, for
     * the API server. */
    const struct ledger_thread *api = e2e_thread(&served, THREAD_API_MAIN, 0, 0);
    assert_int_equal(waits_of(e.input), ledger_get(&e.input->requests_count));
    assert_int_equal(waits_of(e.main), ledger_get(&e.main->requests_count));
    assert_int_equal(waits_of(e.output), ledger_get(&e.main->messages_out_count));
    assert_int_equal(waits_of(api), 2 * ledger_get(&api->requests_count));
    assert_int_equal(ledger_get(&e.output->output_tokens), ledger_get(&e.main->output_tokens));
    assert_int_equal(ledger_get(&e.output->occupancy_ns),
                     ledger_get(&e.output->messages_out_count) * LOCK_MESSAGE_NS +
                         ledger_get(&e.output->output_tokens) * LOCK_TOKEN_NS);
    assert_false(system_failed(&served));
    e2e_stop(&served);
    return (double)(after_ns - before_ns) / (double)(end_ns - begin_ns);
}

/* Main thread and output thread have more than enough to do. With the lock they share one
 * interpreter, which is never idle and never used twice; without it they overlap. */
static void an_interpreter_is_used_by_one_thread_at_a_time(void **state)
{
    (void)state;
    double shared = 0;
    for (int tries = 0; tries < 4 && shared < 0.85; tries++) {
        shared = engine_booked_frac(true);
    }
    /* Nearly 1; less if the machine was late at the end of the window and not at its begin. */
    if (shared < 0.85) {
        fail_msg("the interpreter is booked for %f of the time", shared);
    }
    /* About 2.1 on a quiet machine; another chance if this one did something else meanwhile. */
    double apart = 0;
    for (int tries = 0; tries < 4 && apart < 1.2; tries++) {
        apart = engine_booked_frac(false);
    }
    if (apart < 1.2) {
        fail_msg("without a lock the threads are booked for %f of the time", apart);
    }
}

/* Profile native books nothing. */
static void native_books_nothing(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 1);
    struct completion c;
    e2e_start(&t, &served);
    completion_post(served.port, "/v1/completions", "{\"prompt\":\"p\",\"max_tokens\":20}", &c);
    assert_int_equal(c.status, 200);
    assert_int_equal(E2E_SUM(&served, THREAD_API_MAIN, occupancy_ns), 0);
    assert_int_equal(E2E_SUM(&served, THREAD_ENGINE_MAIN, occupancy_ns), 0);
    assert_int_equal(E2E_SUM(&served, THREAD_ENGINE_INPUT, occupancy_ns), 0);
    assert_int_equal(E2E_SUM(&served, THREAD_ENGINE_OUTPUT, occupancy_ns), 0);
    e2e_stop(&served);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(occupancy_is_count_times_constant),
        cmocka_unit_test(an_interpreter_is_used_by_one_thread_at_a_time),
        cmocka_unit_test(native_books_nothing),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
