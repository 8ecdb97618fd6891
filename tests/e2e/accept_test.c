/*
 * accept_test.c - several API servers at one port, under both accept policies: a burst of
 * connections is answered to the last, each connection stays with the server that accepted it, and
 * what the servers counted adds up to what was asked. How evenly they share is not asked: the
 * shared queue promises nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "helper_http.h"
#include "helper_system.h"

enum {
    SERVERS = 4,
    CONNECTIONS = 96,
    REQUESTS_EACH = 4,
    SINGLES = 40
};

static struct system served;

struct user {
    pthread_t thread;
    uint32_t answers[SERVERS]; /* by API server */
    uint32_t failures;
};

static pthread_barrier_t burst;

static void ask(struct link *l, const char *text, struct user *u)
{
    struct completion c;
    bool sent = link_text(l, text);
    struct answer a = link_answer(l);
    completion_read(&a, &c);
    if (sent && c.status == 200 && c.text_bytes == 3 && c.api_server >= 0 &&
        c.api_server < SERVERS) {
        u->answers[c.api_server]++;
    } else {
        u->failures++;
    }
    answer_free(&a);
}

/* All connect at the same moment; each connection is used again and again. */
static void *user_main(void *context)
{
    struct user *u = context;
    struct link l;
    char *text = http_request_text("/v1/completions", NULL,
                                   "{\"prompt\":\"p\",\"max_tokens\":3,\"ignore_eos\":true}");
    (void)pthread_barrier_wait(&burst);
    if (!link_open(&l, served.port)) {
        u->failures++;
    }
    for (int i = 0; i < REQUESTS_EACH && u->failures == 0; i++) {
        ask(&l, text, u);
    }
    link_close(&l);
    free(text);
    return NULL;
}

static bool all_finished(void *ctx)
{
    const uint64_t *want = ctx;
    return E2E_SUM(&served, THREAD_API_MAIN, finished_count) >= *want;
}

static void burst_of_connections(uint64_t answered[SERVERS])
{
    static struct user users[CONNECTIONS];
    memset(users, 0, sizeof users);
    assert_int_equal(pthread_barrier_init(&burst, NULL, CONNECTIONS), 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(pthread_create(&users[i].thread, NULL, user_main, &users[i]), 0);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(pthread_join(users[i].thread, NULL), 0);
    }
    assert_int_equal(pthread_barrier_destroy(&burst), 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        uint32_t servers_count = 0;
        assert_int_equal(users[i].failures, 0);
        for (int s = 0; s < SERVERS; s++) {
            answered[s] += users[i].answers[s];
            servers_count += users[i].answers[s] > 0;
        }
        assert_int_equal(servers_count, 1);
    }
}

/* A connection for each request. */
static void connections_one_by_one(uint64_t answered[SERVERS])
{
    for (int i = 0; i < SINGLES; i++) {
        struct completion c;
        struct answer a = http_post_with(served.port, "/v1/completions", "Connection: close\r\n",
                                         "{\"prompt\":\"p\",\"max_tokens\":3,\"ignore_eos\":true}");
        completion_read(&a, &c);
        assert_int_equal(c.status, 200);
        assert_in_range(c.api_server, 0, SERVERS - 1);
        answered[c.api_server]++;
        answer_free(&a);
    }
}

static void nothing_is_lost_with(enum accept_policy policy)
{
    struct topology t = e2e_topology(SERVERS, 1);
    uint64_t answered[SERVERS] = {0};
    uint64_t want = (uint64_t)CONNECTIONS * REQUESTS_EACH + SINGLES;
    t.accept = (uint32_t)policy;
    e2e_start(&t, &served);
    burst_of_connections(answered);
    connections_one_by_one(answered);
    assert_true(e2e_wait(all_finished, &want, HANG_MS));
    uint64_t sum = 0;
    for (uint32_t s = 0; s < SERVERS; s++) {
        const struct ledger_thread *api = e2e_thread(&served, THREAD_API_MAIN, s, 0);
        assert_non_null(api);
        assert_int_equal(ledger_get(&api->requests_count), answered[s]);
        assert_int_equal(ledger_get(&api->finished_count), answered[s]);
        assert_int_equal(ledger_get(&api->output_tokens), 3 * answered[s]);
        sum += answered[s];
    }
    assert_int_equal(sum, want);
    assert_false(system_failed(&served));
    assert_int_equal(served.warnings_count, 0); /* a lost accept is one */
    e2e_stop(&served);
}

static void nothing_is_lost_in_a_shared_queue(void **state)
{
    (void)state;
    nothing_is_lost_with(ACCEPT_SHARED);
}

static void nothing_is_lost_with_a_queue_each(void **state)
{
    (void)state;
    nothing_is_lost_with(ACCEPT_REUSEPORT);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_in_a_shared_queue),
        cmocka_unit_test(nothing_is_lost_with_a_queue_each),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
