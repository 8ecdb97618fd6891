/*
 * utility_test.c - the routes that ask all engine cores: pause and resume in their modes, caches,
 * combined answers, with two API servers and two engine cores.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper_http.h"
#include "helper_system.h"

enum {
    STEP_NS = 4000000, /* so that a request of 400 tokens outlives the calls made meanwhile */
    QUIET_MS = 150
};

static struct system served;

static int start_with(bool lockstep)
{
    struct topology t = e2e_topology(2, 2);
    t.lockstep = lockstep ? 1 : 0;
    t.prefix_caching = 1;
    t.host.engine_step_ns = STEP_NS;
    e2e_start(&t, &served);
    return 0;
}

static int start_system(void **state)
{
    (void)state;
    return start_with(false);
}

/* Ranks that step together pause and resume by common consent. */
static int start_lockstep(void **state)
{
    (void)state;
    return start_with(true);
}

static int stop_system(void **state)
{
    (void)state;
    assert_false(system_failed(&served));
    assert_int_equal(served.warnings_count, 0);
    e2e_stop(&served);
    return 0;
}

static void assert_body(struct answer a, int status, const char *body)
{
    if (a.status != status || strstr(a.body, body) == NULL) {
        fail_msg("%d %s, want %d %s", a.status, a.body, status, body);
    }
    answer_free(&a);
}

static void post(const char *path, const char *body)
{
    assert_body(http_post(served.port, path, ""), 200, body);
}

/* Over several connections, so that both API servers are asked. */
static void assert_paused(bool paused)
{
    for (int i = 0; i < 8; i++) {
        assert_body(http_get(served.port, "/is_paused"), 200,
                    paused ? "{\"is_paused\":true}" : "{\"is_paused\":false}");
    }
}

static void send_stream(struct link *l, uint32_t max_tokens)
{
    char json[160];
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"pause\",\"max_tokens\":%u,\"ignore_eos\":true,\"stream\":true}",
                   max_tokens);
    char *text = http_request_text("/v1/completions", NULL, json);
    assert_true(link_open(l, served.port));
    assert_true(link_text(l, text));
    free(text);
}

static void take_stream(struct link *l, const char *finish, struct completion *c)
{
    struct answer a = link_answer(l);
    completion_read(&a, c);
    answer_free(&a);
    assert_int_equal(c->status, 200);
    assert_true(c->done);
    assert_string_equal(c->finish, finish);
    link_close(l);
}

static void requests_wait_while_paused(void **state)
{
    (void)state;
    struct link l;
    struct completion c;
    assert_paused(false);
    post("/pause?mode=wait", "{\"status\":\"paused\"}");
    assert_paused(true);
    send_stream(&l, 5);
    assert_false(link_more(&l, QUIET_MS));
    post("/resume", "{\"status\":\"resumed\"}");
    assert_paused(false);
    take_stream(&l, "length", &c);
    assert_int_equal(c.text_bytes, 5);
}

static void keep_freezes_and_abort_ends(void **state)
{
    (void)state;
    struct link l;
    struct completion c;
    send_stream(&l, 400);
    assert_true(link_more(&l, HANG_MS));
    post("/pause?mode=keep&clear_cache=false", "paused");
    /* What runs holds blocks: nothing can be forgotten. */
    post("/reset_prefix_cache", "{\"success\":false}");
    post("/resume", "resumed");
    assert_true(link_more(&l, HANG_MS));
    post("/pause", "paused"); /* abort is the default */
    take_stream(&l, "abort", &c);
    assert_true(c.text_bytes > 0 && c.text_bytes < 400);
    post("/reset_prefix_cache", "{\"success\":true}");
    post("/resume", "resumed");
}

static void wait_lets_requests_end_before_it_answers(void **state)
{
    (void)state;
    struct link l;
    struct completion c;
    send_stream(&l, 60);
    assert_true(link_more(&l, HANG_MS));
    post("/pause?mode=wait&clear_cache=0", "paused");
    for (uint32_t e = 0; e < 2; e++) {
        const struct ledger_thread *t = e2e_thread(&served, THREAD_ENGINE_MAIN, e, 0);
        assert_int_equal(ledger_get(&t->running_now), 0);
    }
    take_stream(&l, "length", &c);
    assert_int_equal(c.text_bytes, 60);
    post("/resume", "resumed");
}

static double cached_tokens(void)
{
    struct answer a = http_get(served.port, "/metrics");
    double value =
        metric_sum(a.body, "vllm:prompt_tokens_by_source_total", "source=\"local_cache_hit\"");
    assert_true(value - metric_sum(a.body, "vllm:prompt_tokens_cached_total", "") < 0.5);
    answer_free(&a);
    return value;
}

static double ask_cached(void)
{
    double before = cached_tokens();
    struct answer a = http_post_with(served.port, "/v1/completions", "X-data-parallel-rank: 1\r\n",
                                     "{\"prompt\":\"a prompt that is longer than a block of KV "
                                     "cache, and than two of them\",\"max_tokens\":1}");
    assert_int_equal(a.status, 200);
    answer_free(&a);
    return cached_tokens() - before;
}

static void a_reset_cache_knows_no_prefix(void **state)
{
    (void)state;
    assert_int_equal(ask_cached(), 0);
    assert_true(ask_cached() >= 16);
    post("/reset_prefix_cache?reset_running_requests=false", "{\"success\":true}");
    assert_int_equal(ask_cached(), 0);
    assert_true(ask_cached() >= 16);
    post("/pause", "paused"); /* clears caches unless told otherwise */
    post("/resume", "resumed");
    assert_int_equal(ask_cached(), 0);
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    assert_body(http_get(served.port, "/pause"), 405, "wants POST");
    assert_body(http_post(served.port, "/is_paused", ""), 405, "wants GET");
    assert_body(http_post(served.port, "/pause?mode=sleep", ""), 400, "abort, wait or keep");
    assert_body(http_post(served.port, "/pause?clear_cache=maybe", ""), 400, "true or false");
    assert_body(http_get(served.port, "/is_sleeping"), 200, "{\"is_sleeping\":false}");
    assert_body(http_post(served.port, "/reset_mm_cache", ""), 200, "");
    post("/resume", "resumed"); /* nothing was paused: nothing to do */
    assert_paused(false);
}

/* The call's client goes away before the answer: nobody is hurt. */
static void a_caller_may_go_away(void **state)
{
    (void)state;
    struct link l;
    struct link caller;
    struct completion c;
    send_stream(&l, 100);
    assert_true(link_more(&l, HANG_MS));
    char *text = http_request_text("/pause?mode=wait", NULL, "");
    assert_true(link_open(&caller, served.port));
    assert_true(link_text(&caller, text));
    free(text);
    e2e_sleep_ms(20);
    link_close(&caller);
    take_stream(&l, "length", &c);
    post("/pause?mode=wait", "paused"); /* answered behind the first: none is pending now */
    post("/resume", "resumed");
    assert_paused(false);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_wait_while_paused),
        cmocka_unit_test(keep_freezes_and_abort_ends),
        cmocka_unit_test(wait_lets_requests_end_before_it_answers),
        cmocka_unit_test(a_reset_cache_knows_no_prefix),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(a_caller_may_go_away),
    };
    int failures = cmocka_run_group_tests_name("independent", tests, start_system, stop_system);
    failures += cmocka_run_group_tests_name("lockstep", tests, start_lockstep, stop_system);
    return e2e_end(failures);
}
