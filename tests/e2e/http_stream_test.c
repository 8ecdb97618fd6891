/*
 * http_stream_test.c - many clients at once on a system of two API servers and two engine cores:
 * texts do not depend on batching or on who serves them, no token is lost or made twice, a client
 * that goes away frees its request, one that does not read holds up nobody.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/core/message.h"
#include "harness/probe/probe.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    CLIENTS = 12,
    REQUESTS_EACH = 6,
    LONG_TOKENS = 3900,
    RANKED_NUMBER = 900000, /* X-Request-Id, joins with the ledger's record */
    GONE_NUMBER = 910000,
    STALLED_NUMBER = 920000,
};

static struct system served;

static int start_system(void **state)
{
    (void)state;
    struct topology t = e2e_topology(2, 2);
    t.max_model_len = 4096;
    e2e_start(&t, &served);
    return 0;
}

/* In flight and in the batch nowhere: a condition for e2e_wait(). */
static bool all_quiet(void *ctx)
{
    (void)ctx;
    return E2E_SUM(&served, THREAD_ENGINE_MAIN, running_now) == 0 &&
           E2E_SUM(&served, THREAD_ENGINE_MAIN, waiting_now) == 0 &&
           E2E_SUM(&served, THREAD_ENGINE_MAIN, kv_used_blocks) == 0;
}

/* /load of the server that answers. */
static bool no_load(void *ctx)
{
    (void)ctx;
    struct answer a = http_get(served.port, "/load");
    bool none = a.status == 200 && strcmp(a.body, "{\"server_load\":0}") == 0;
    answer_free(&a);
    return none;
}

static int stop_system(void **state)
{
    (void)state;
    assert_true(e2e_wait(all_quiet, NULL, HANG_MS));
    for (int i = 0; i < 8; i++) { /* connections fall to either server */
        assert_true(e2e_wait(no_load, NULL, HANG_MS));
    }
    assert_false(system_failed(&served));
    assert_int_equal(served.warnings_count, 0);
    e2e_stop(&served);
    return 0;
}

/* ---- the same text, whoever serves it ---- */

struct client {
    pthread_t thread;
    uint32_t port;
    int index;
    char texts[REQUESTS_EACH][256];
    int64_t tokens;
    bool failed;
    bool seen_server[2];
};

static void *client_main(void *context)
{
    struct client *c = context;
    for (int i = 0; i < REQUESTS_EACH; i++) {
        static _Thread_local struct completion done;
        char json[256];
        (void)snprintf(json, sizeof json,
                       "{\"prompt\":\"request %d of client %d\",\"max_tokens\":%d,"
                       "\"ignore_eos\":true,\"stream\":%s%s}",
                       i, c->index, 20 + 15 * i, i % 2 == 0 ? "true" : "false",
                       i % 2 == 0 ? ",\"stream_options\":{\"include_usage\":true}" : "");
        completion_post(c->port, "/v1/completions", json, &done);
        c->failed |= done.status != 200 || done.malformed || strcmp(done.finish, "length") != 0 ||
                     done.completion_tokens != 20 + 15 * i;
        c->tokens += done.completion_tokens;
        (void)snprintf(c->texts[i], sizeof c->texts[i], "%.255s", done.text);
        if (done.api_server >= 0 && done.api_server < 2) {
            c->seen_server[done.api_server] = true;
        }
    }
    return NULL;
}

static void run_clients(struct client clients[CLIENTS], uint32_t port, bool together)
{
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.port = port, .index = i};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
        if (!together) {
            assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        assert_true(!together || pthread_join(clients[i].thread, NULL) == 0);
        assert_false(clients[i].failed);
    }
}

static void texts_do_not_depend_on_who_serves_them(void **state)
{
    (void)state;
    static struct client here[CLIENTS];
    static struct client alone[CLIENTS];
    uint64_t engine_before = E2E_SUM(&served, THREAD_ENGINE_MAIN, output_tokens);
    uint64_t api_before = E2E_SUM(&served, THREAD_API_MAIN, output_tokens);
    uint64_t requests_before = E2E_SUM(&served, THREAD_ENGINE_MAIN, finished_count);
    run_clients(here, served.port, true);
    assert_true(e2e_wait(all_quiet, NULL, HANG_MS));

    uint64_t tokens = 0;
    bool seen[2] = {false, false};
    for (int i = 0; i < CLIENTS; i++) {
        tokens += (uint64_t)here[i].tokens;
        seen[0] |= here[i].seen_server[0];
        seen[1] |= here[i].seen_server[1];
    }
    assert_true(seen[0] && seen[1]);
    assert_int_equal(E2E_SUM(&served, THREAD_ENGINE_MAIN, output_tokens) - engine_before, tokens);
    assert_int_equal(E2E_SUM(&served, THREAD_API_MAIN, output_tokens) - api_before, tokens);
    assert_int_equal(E2E_SUM(&served, THREAD_ENGINE_MAIN, finished_count) - requests_before,
                     CLIENTS * REQUESTS_EACH);

    struct topology t = e2e_topology(1, 1);
    struct system single;
    t.async_depth = 1;
    t.prefix_caching = 0;
    e2e_start(&t, &single);
    run_clients(alone, single.port, false);
    e2e_stop(&single);
    for (int i = 0; i < CLIENTS; i++) {
        for (int k = 0; k < REQUESTS_EACH; k++) {
            assert_string_equal(here[i].texts[k], alone[i].texts[k]);
        }
    }
}

/* ---- routing by header ---- */

static struct probe_request record_of(uint64_t number)
{
    struct probe_requests seen;
    struct probe_request out = {.engine = UINT32_MAX};
    assert_int_equal(probe_requests_read(&served.ledger, &seen, NULL), STATUS_OK);
    const struct probe_request *row = probe_requests_find(&seen, number);
    if (row != NULL) {
        out = *row;
    }
    probe_requests_free(&seen);
    return out;
}

static void a_rank_in_the_header_decides(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 8; i++) {
        char headers[128];
        struct completion c;
        uint32_t rank = i % 3 == 0 ? 1 : 0;
        (void)snprintf(headers, sizeof headers,
                       "X-data-parallel-rank: %u\r\nX-Request-Id: %llu\r\n", rank,
                       (unsigned long long)RANKED_NUMBER + i);
        struct answer a = http_post_with(served.port, "/v1/completions", headers,
                                         "{\"prompt\":\"rank\",\"max_tokens\":4}");
        completion_read(&a, &c);
        assert_int_equal(c.status, 200);
        char id[32];
        (void)snprintf(id, sizeof id, "cmpl-%llu", (unsigned long long)RANKED_NUMBER + i);
        assert_string_equal(c.id, id);
        answer_free(&a);
        assert_int_equal(record_of(RANKED_NUMBER + i).engine, rank);
    }
    struct answer a = http_post_with(served.port, "/v1/completions", "X-data-parallel-rank: 2\r\n",
                                     "{\"prompt\":\"rank\"}");
    assert_int_equal(a.status, 400);
    answer_free(&a);
}

/* ---- clients that go away or do not read ---- */

static char *long_request(uint64_t number, bool stream)
{
    char headers[64];
    char json[256];
    (void)snprintf(headers, sizeof headers, "X-Request-Id: %llu\r\n", (unsigned long long)number);
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"a long story\",\"max_tokens\":%d,\"ignore_eos\":true%s}",
                   (int)LONG_TOKENS,
                   stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true,"
                            "\"continuous_usage_stats\":true}"
                          : "");
    return http_request_text("/v1/completions", headers, json);
}

static bool one_runs(void *ctx)
{
    (void)ctx;
    return E2E_SUM(&served, THREAD_ENGINE_MAIN, running_now) > 0;
}

static void leave_in_the_middle(uint64_t number, bool stream)
{
    struct link l;
    char *text = long_request(number, stream);
    assert_true(e2e_wait(all_quiet, NULL, HANG_MS));
    assert_true(link_open(&l, served.port));
    assert_true(link_text(&l, text));
    if (stream) {
        assert_true(link_more(&l, HANG_MS)); /* the first tokens */
    } else {
        assert_true(e2e_wait(one_runs, NULL, HANG_MS));
    }
    link_close(&l);
    free(text);
    assert_true(e2e_wait(all_quiet, NULL, HANG_MS));
    struct probe_request record = record_of(number);
    assert_int_equal(record.finish, FINISH_ABORT + 1);
    assert_true(record.output_tokens < LONG_TOKENS);
}

static void a_client_that_leaves_frees_its_request(void **state)
{
    (void)state;
    uint64_t before = E2E_SUM(&served, THREAD_ENGINE_MAIN, output_tokens);
    for (uint64_t i = 0; i < 3; i++) {
        leave_in_the_middle(GONE_NUMBER + 2 * i, true);
        leave_in_the_middle(GONE_NUMBER + 2 * i + 1, false);
    }
    /* Stopped, not just no longer listened to. */
    uint64_t made = E2E_SUM(&served, THREAD_ENGINE_MAIN, output_tokens) - before;
    assert_true(made < (uint64_t)6 * LONG_TOKENS);
}

static bool stalled_is_made(void *ctx)
{
    const uint64_t *number = ctx;
    return record_of(*number).finish == FINISH_LENGTH + 1;
}

/*
 * Answers of 1 MB and more into receive buffers of a few KB. While nobody reads them others are
 * served by the same API servers; then they are read, and nothing is missing.
 */
static void a_client_that_does_not_read_holds_up_nobody(void **state)
{
    (void)state;
    enum {
        STALLED = 3
    };
    struct link links[STALLED];
    for (uint64_t i = 0; i < STALLED; i++) {
        char *text = long_request(STALLED_NUMBER + i, true);
        assert_true(link_open_narrow(&links[i], served.port));
        assert_true(link_text(&links[i], text));
        free(text);
    }
    static struct client others[CLIENTS];
    run_clients(others, served.port, true);
    for (uint64_t i = 0; i < STALLED; i++) {
        uint64_t number = STALLED_NUMBER + i;
        assert_true(e2e_wait(stalled_is_made, &number, HANG_MS));
    }
    for (int i = 0; i < STALLED; i++) {
        int waiting = 0;
        assert_int_equal(ioctl(links[i].fd, FIONREAD, &waiting), 0);
        link_widen(&links[i]);
        struct answer a = link_answer(&links[i]);
        struct completion c;
        completion_read(&a, &c);
        assert_int_equal(c.status, 200);
        assert_false(c.malformed);
        assert_int_equal(c.text_bytes, LONG_TOKENS);
        assert_int_equal(c.completion_tokens, LONG_TOKENS);
        assert_true(c.done);
        assert_true((size_t)waiting < a.body_bytes / 4); /* it was the server that kept it */
        answer_free(&a);
        link_close(&links[i]);
    }
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_do_not_depend_on_who_serves_them),
        cmocka_unit_test(a_rank_in_the_header_decides),
        cmocka_unit_test(a_client_that_leaves_frees_its_request),
        cmocka_unit_test(a_client_that_does_not_read_holds_up_nobody),
    };
    return e2e_end(cmocka_run_group_tests(tests, start_system, stop_system));
}
