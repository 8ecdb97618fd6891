/*
 * lockstep_test.c - engine cores that step together, as real processes: every request is answered
 * with the tokens that independent engine cores give, a wave ends when nobody has work (then no
 * rank steps any more and all sleep), ranks take equally many forwards, and one that dies or does
 * not come ends the whole system by its name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    USERS = 6,
    REQUESTS_EACH = 3,
    REQUESTS = USERS * REQUESTS_EACH,
    TEXT_BYTES = 256,
    QUIET_MS = 300,
};

static struct topology lockstep_topology(uint32_t api_servers, uint32_t engines)
{
    struct topology t = e2e_topology(api_servers, engines);
    t.lockstep = 1;
    return t;
}

/* ---- requests ---- */

struct user {
    uint32_t port;
    uint32_t index;
    char (*texts)[TEXT_BYTES]; /* [REQUESTS] of all users */
    bool well;
};

/* Lengths differ, so that ranks run out of work at different times; pauses, so that waves end. */
static void *user_main(void *context)
{
    struct user *u = context;
    u->well = true;
    for (uint32_t i = 0; i < REQUESTS_EACH; i++) {
        uint32_t number = u->index * REQUESTS_EACH + i;
        struct completion c;
        char json[200];
        (void)snprintf(
            json, sizeof json,
            "{\"prompt\":\"request %u\",\"max_tokens\":%u,\"ignore_eos\":true,\"seed\":%u,"
            "\"stream\":%s}",
            number, 1 + number * 7 % 60, number, number % 2 != 0 ? "true" : "false");
        completion_post(u->port, "/v1/completions", json, &c);
        u->well = u->well && c.status == 200 && strcmp(c.finish, "length") == 0 &&
                  c.text_bytes == 1 + number * 7 % 60;
        (void)snprintf(u->texts[number], TEXT_BYTES, "%.200s", c.text);
        e2e_sleep_ms(number * 13 % 80);
    }
    return NULL;
}

static void run_users(const struct system *s, char (*texts)[TEXT_BYTES])
{
    pthread_t threads[USERS];
    struct user users[USERS];
    for (uint32_t i = 0; i < USERS; i++) {
        users[i] = (struct user){.port = s->port, .index = i, .texts = texts};
        assert_int_equal(pthread_create(&threads[i], NULL, user_main, &users[i]), 0);
    }
    for (uint32_t i = 0; i < USERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(users[i].well);
    }
}

/* ---- what the ranks did ---- */

static uint64_t turns(const struct system *s)
{
    return E2E_SUM(s, THREAD_ENGINE_MAIN, steps_count) +
           E2E_SUM(s, THREAD_ENGINE_MAIN, dummy_steps_count);
}

static uint64_t last_turns;

static bool at_rest(void *ctx)
{
    uint64_t before = last_turns;
    last_turns = turns(ctx);
    return before == last_turns;
}

/* No rank steps any more, and they sleep: an idle loop turns twice a second. */
static void assert_idle(struct system *s)
{
    assert_true(e2e_wait(at_rest, s, HANG_MS));
    e2e_sleep_ms(QUIET_MS);
    uint64_t steps = turns(s);
    uint64_t loops = E2E_SUM(s, THREAD_ENGINE_MAIN, turns_count);
    e2e_sleep_ms(QUIET_MS);
    assert_int_equal(turns(s), steps);
    assert_true(E2E_SUM(s, THREAD_ENGINE_MAIN, turns_count) - loops <=
                2 * s->ledger.topology->engines_count);
}

/* The rule of lock-step: all ranks have seen the same waves. */
static void assert_same_waves(const struct system *s)
{
    const struct ledger_thread *first = e2e_thread(s, THREAD_ENGINE_MAIN, 0, 0);
    assert_non_null(first);
    assert_true(ledger_get(&first->waves_count) > 0);
    for (uint32_t rank = 1; rank < s->ledger.topology->engines_count; rank++) {
        const struct ledger_thread *t = e2e_thread(s, THREAD_ENGINE_MAIN, rank, 0);
        assert_non_null(t);
        assert_int_equal(ledger_get(&t->waves_count), ledger_get(&first->waves_count));
    }
}

static void check_answers(struct topology t)
{
    static char dense_texts[REQUESTS][TEXT_BYTES];
    static char texts[REQUESTS][TEXT_BYTES];
    struct system s;
    struct topology dense = t;
    dense.lockstep = 0;
    e2e_start(&dense, &s);
    run_users(&s, dense_texts);
    assert_int_equal(E2E_SUM(&s, THREAD_ENGINE_MAIN, dummy_steps_count), 0);
    assert_int_equal(E2E_SUM(&s, THREAD_ENGINE_MAIN, waves_count), 0);
    e2e_stop(&s);

    e2e_start(&t, &s);
    assert_idle(&s);
    assert_int_equal(turns(&s), 0);
    run_users(&s, texts);
    assert_idle(&s);
    assert_true(E2E_SUM(&s, THREAD_ENGINE_MAIN, dummy_steps_count) > 0);
    assert_same_waves(&s);
    /* And again from idle. */
    run_users(&s, texts);
    assert_idle(&s);
    assert_same_waves(&s);
    assert_false(system_failed(&s));
    for (uint32_t i = 0; i < REQUESTS; i++) {
        assert_string_equal(texts[i], dense_texts[i]);
    }
    e2e_stop(&s);
}

static void two_ranks_answer(void **state)
{
    (void)state;
    check_answers(lockstep_topology(1, 2));
}

static void four_ranks_and_two_api_servers_answer(void **state)
{
    (void)state;
    struct topology t = lockstep_topology(2, 4);
    t.finish_check_steps = 16;
    t.finish_check_first = 1;
    check_answers(t);
}

static void the_variants_answer(void **state)
{
    (void)state;
    struct topology t = lockstep_topology(2, 3);
    t.finish_check_steps = 1;
    t.async_depth = 1;
    t.launch = LAUNCH_EAGER;
    check_answers(t);
    t = lockstep_topology(1, 2);
    t.executor = EXECUTOR_UNIPROC;
    t.dummy_eager = 1;
    check_answers(t);
}

/* With one request all ranks step: as many dummies as steps, rounded up to the next check. */
static void one_request_costs_whole_checks(void **state)
{
    (void)state;
    struct topology t = lockstep_topology(1, 3);
    struct system s;
    struct completion c;
    t.async_depth = 1;
    e2e_start(&t, &s);
    completion_post(s.port, "/v1/completions",
                    "{\"prompt\":\"alone\",\"max_tokens\":40,\"ignore_eos\":true}", &c);
    assert_int_equal(c.status, 200);
    assert_idle(&s);
    uint64_t forwards = 0;
    for (uint32_t rank = 0; rank < 3; rank++) {
        const struct ledger_thread *e = e2e_thread(&s, THREAD_ENGINE_MAIN, rank, 0);
        uint64_t real = ledger_get(&e->step_seqs); /* one sequence a step */
        uint64_t all = real + ledger_get(&e->dummy_steps_count);
        assert_true(real == 0 || real == 40);
        assert_int_equal(all % 32, 0);
        assert_true(all >= 64 && (forwards == 0 || all == forwards));
        forwards = all;
    }
    e2e_stop(&s);
}

/* ---- failures ---- */

static bool failed(void *ctx)
{
    return system_failed(ctx);
}

static void open_long_request(const struct system *s, struct link *l)
{
    char *text = http_request_text("/v1/completions", NULL,
                                   "{\"prompt\":\"long\",\"max_tokens\":2000,\"ignore_eos\":true,"
                                   "\"stream\":true}");
    assert_true(link_open(l, s->port));
    assert_true(link_text(l, text));
    assert_true(link_more(l, HANG_MS));
    free(text);
}

static struct topology slow_topology(void)
{
    struct topology t = lockstep_topology(1, 3);
    (void)snprintf(t.model, sizeof t.model, "llama-3.1-8b");
    t.max_model_len = 2048;
    return t;
}

static void a_dead_rank_ends_all(void **state)
{
    (void)state;
    struct topology t = slow_topology();
    for (uint32_t rank = 0; rank < 3; rank += 2) {
        struct system s;
        struct link l;
        char victim[64];
        e2e_start(&t, &s);
        struct remains remains = remains_of(&s);
        open_long_request(&s, &l);
        const struct ledger_thread *e = e2e_thread(&s, THREAD_ENGINE_MAIN, rank, 0);
        assert_int_equal(kill(e->pid, SIGKILL), 0);
        assert_true(e2e_wait(failed, &s, GONE_MS));
        assert_true(link_drain(&l, GONE_MS));
        link_close(&l);
        remains_assert_none(&remains);
        (void)snprintf(victim, sizeof victim, "EngineCore_DP%u (pid %d", rank, (int)e->pid);
        if (strstr(s.reason, victim) == NULL || strstr(s.reason, "signal 9") == NULL) {
            fail_msg("'%s' does not name '%s' and signal 9", s.reason, victim);
        }
        system_stop(&s);
        system_free(&s);
    }
}

/* A rank that lives and does not come: the others name it. */
static void a_stopped_rank_is_missed(void **state)
{
    (void)state;
    struct topology t = slow_topology();
    struct system s;
    struct link l;
    t.collective_timeout_ns = 500000000;
    e2e_start(&t, &s);
    struct remains remains = remains_of(&s);
    open_long_request(&s, &l);
    assert_int_equal(kill(e2e_thread(&s, THREAD_ENGINE_MAIN, 1, 0)->pid, SIGSTOP), 0);
    assert_true(e2e_wait(failed, &s, GONE_MS));
    assert_true(link_drain(&l, GONE_MS));
    link_close(&l);
    if (strstr(s.reason, "for rank 1") == NULL) {
        fail_msg("'%s' does not name rank 1", s.reason);
    }
    system_stop(&s);
    system_free(&s);
    remains_assert_none(&remains);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ranks_answer),
        cmocka_unit_test(four_ranks_and_two_api_servers_answer),
        cmocka_unit_test(the_variants_answer),
        cmocka_unit_test(one_request_costs_whole_checks),
        cmocka_unit_test(a_dead_rank_ends_all),
        cmocka_unit_test(a_stopped_rank_is_missed),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
