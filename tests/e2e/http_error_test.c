/*
 * http_error_test.c - what a client gets for a bad request: the status, and the OpenAI error
 * object; and that the server serves the next one. The limits are the documented ones: body 32 MiB
 * (413), headers 64 KiB (431), 10 s (408).
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
    MEBIBYTE = 1 << 20
};

static struct system served;

static int start_system(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 1);
    t.max_model_len = 64;
    e2e_start(&t, &served);
    return 0;
}

static int stop_system(void **state)
{
    (void)state;
    struct completion c;
    completion_post(served.port, "/v1/completions", "{\"prompt\":\"x\",\"max_tokens\":3}", &c);
    assert_int_equal(c.status, 200);
    assert_false(system_failed(&served));
    e2e_stop(&served);
    return 0;
}

static void assert_error(struct answer *a, int status, const char *words)
{
    struct completion c;
    completion_read(a, &c);
    assert_int_equal(c.status, status);
    assert_false(c.malformed);
    assert_int_equal(c.error_code, status);
    assert_string_not_equal(c.error_type, "");
    if (strstr(c.error, words) == NULL) {
        fail_msg("'%s' does not say '%s'", c.error, words);
    }
    answer_free(a);
}

static void bad_bodies_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int status;
        const char *words;
    } cases[] = {
        {"", 400, "JSON"},
        {"{", 400, "JSON"},
        {"nonsense", 400, "JSON"},
        {"[1,2]", 400, "object"},
        {"{\"prompt\":\"x\"} trailing", 400, "JSON"},
        {"{\"prompt\":\"\xff\"}", 400, "UTF-8"},
        {"{\"max_tokens\":3}", 400, "prompt"},
        {"{\"prompt\":\"\"}", 400, "empty"},
        {"{\"prompt\":[]}", 400, "prompt"},
        {"{\"prompt\":[-1]}", 400, "prompt"},
        {"{\"prompt\":{}}", 400, "prompt"},
        {"{\"prompt\":\"x\",\"model\":\"gpt-5\"}", 404, "does not exist"},
        {"{\"prompt\":\"x\",\"max_tokens\":-1}", 400, "max_tokens"},
        {"{\"prompt\":\"x\",\"max_tokens\":\"many\"}", 400, "max_tokens"},
        {"{\"prompt\":\"x\",\"max_tokens\":64}", 400, "max_tokens"},
        {"{\"prompt\":\"x\",\"temperature\":-1}", 400, "temperature"},
        {"{\"prompt\":\"x\",\"top_p\":2}", 400, "top_p"},
        {"{\"prompt\":\"x\",\"n\":0}", 400, "n"},
        {"{\"prompt\":\"x\",\"stop\":7}", 400, "stop"},
        {"{\"prompt\":\"x\",\"stream\":\"yes\"}", 400, "stream"},
        {"{\"prompt\":\"x\",\"stream_options\":{\"include_usage\":true}}", 400, "stream"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer a = http_post(served.port, "/v1/completions", cases[i].json);
        assert_error(&a, cases[i].status, cases[i].words);
    }
    struct answer a = http_post(served.port, "/v1/chat/completions", "{\"messages\":[]}");
    assert_error(&a, 400, "messages");
    a = http_post(served.port, "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\"}]}");
    assert_error(&a, 400, "content");
}

static void long_prompts_are_refused(void **state)
{
    (void)state;
    char json[256];
    char prompt[128];
    memset(prompt, 'a', sizeof prompt);
    (void)snprintf(json, sizeof json, "{\"prompt\":\"%.64s\"}", prompt);
    struct answer a = http_post(served.port, "/v1/completions", json);
    assert_error(&a, 400, "maximum context length is 64");
    struct completion c;
    (void)snprintf(json, sizeof json, "{\"prompt\":\"%.63s\",\"ignore_eos\":true}", prompt);
    completion_post(served.port, "/v1/completions", json, &c);
    assert_int_equal(c.status, 200);
    assert_int_equal(c.completion_tokens, 1); /* what is left of max_model_len */
}

/* Far beyond every buffer of the server, which knows only max_model_len tokens. */
static void a_huge_prompt_is_counted_and_refused(void **state)
{
    (void)state;
    size_t bytes = 2 * MEBIBYTE;
    char *json = malloc(bytes + 64);
    assert_non_null(json);
    size_t at = (size_t)sprintf(json, "{\"prompt\":\"");
    memset(json + at, 'a', bytes);
    (void)strcpy(json + at + bytes, "\"}");
    struct answer a = http_post(served.port, "/v1/completions", json);
    assert_error(&a, 400, "2097152 input tokens");
    free(json);
}

static void routes_and_methods_are_checked(void **state)
{
    (void)state;
    struct answer a = http_get(served.port, "/v1/embeddings");
    assert_error(&a, 404, "/v1/embeddings");
    a = http_get(served.port, "/v1/completions");
    assert_error(&a, 405, "POST");
    a = http_get(served.port, "/");
    assert_error(&a, 404, "/");
    a = http_post(served.port, "/v1/nothing", "{}");
    assert_error(&a, 404, "/v1/nothing");
}

/* One request as raw bytes on a connection of its own; the server must close it after the error. */
static void assert_raw(const char *text, size_t bytes, int status)
{
    struct link l;
    assert_true(link_open(&l, served.port));
    /* The server may answer and close before it has read all. */
    (void)link_send(&l, text, bytes);
    struct answer a = link_answer(&l);
    assert_error(&a, status, "");
    assert_true(link_drain(&l, HANG_MS));
    link_close(&l);
}

static void limits_of_size_hold(void **state)
{
    (void)state;
    char head[256];
    (void)snprintf(head, sizeof head,
                   "POST /v1/completions HTTP/1.1\r\nHost: e2e\r\nContent-Length: %d\r\n\r\n",
                   32 * MEBIBYTE + 1);
    assert_raw(head, strlen(head), 413);
    size_t bytes = 80 << 10;
    char *text = malloc(bytes + 128);
    assert_non_null(text);
    size_t at = (size_t)sprintf(text, "GET /health HTTP/1.1\r\nHost: e2e\r\nX-Long: ");
    memset(text + at, 'h', bytes);
    assert_raw(text, at + bytes, 431);
    free(text);
    static const char nonsense[] = "\x16\x03\x01 this is no HTTP\r\n\r\n";
    assert_raw(nonsense, sizeof nonsense - 1, 400);
}

/* A body whose length is not said beforehand is counted as it comes. */
static void a_chunked_body_has_the_same_limit(void **state)
{
    (void)state;
    struct link l;
    char *chunk = malloc(MEBIBYTE + 16);
    assert_non_null(chunk);
    size_t at = (size_t)sprintf(chunk, "100000\r\n");
    memset(chunk + at, ' ', MEBIBYTE);
    memcpy(chunk + at + MEBIBYTE, "\r\n", 2);
    assert_true(link_open(&l, served.port));
    assert_true(link_text(&l, "POST /v1/completions HTTP/1.1\r\nHost: e2e\r\n"
                              "Transfer-Encoding: chunked\r\n\r\n"));
    for (int i = 0; i < 40 && link_send(&l, chunk, at + MEBIBYTE + 2); i++) {
    }
    /* Bytes that arrive after the server closed may destroy its answer: then the reset is all there
     * is. */
    struct answer a = link_answer(&l);
    if (a.status != 0) {
        assert_int_equal(a.status, 413);
    }
    assert_true(link_drain(&l, HANG_MS));
    answer_free(&a);
    link_close(&l);
    free(chunk);
}

static void ranks_are_checked(void **state)
{
    (void)state;
    static const char *const headers[] = {"X-data-parallel-rank: 1\r\n",
                                          "X-data-parallel-rank: 4000000000\r\n",
                                          "X-data-parallel-rank: -1\r\n"};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct answer a =
            http_post_with(served.port, "/v1/completions", headers[i], "{\"prompt\":\"x\"}");
        assert_error(&a, 400, "rank");
    }
}

/* 408 for half a head and for half a body; meanwhile others are served. */
static void half_a_request_times_out(void **state)
{
    (void)state;
    if (!e2e_full()) {
        skip(); /* it waits for the 10 s limit: only in ./dev test --full */
    }
    struct link head;
    struct link body;
    assert_true(link_open(&head, served.port));
    assert_true(link_open(&body, served.port));
    assert_true(link_text(&head, "POST /v1/completions HTTP/1.1\r\nHost: e"));
    assert_true(link_text(&body, "POST /v1/completions HTTP/1.1\r\nHost: e2e\r\n"
                                 "Content-Length: 100\r\n\r\n{\"prompt\""));
    struct answer a = http_get(served.port, "/health");
    assert_int_equal(a.status, 200);
    answer_free(&a);
    a = link_answer(&head);
    assert_error(&a, 408, "10 s");
    a = link_answer(&body);
    assert_error(&a, 408, "10 s");
    assert_true(link_drain(&head, HANG_MS));
    assert_true(link_drain(&body, HANG_MS));
    link_close(&head);
    link_close(&body);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_bodies_are_refused),
        cmocka_unit_test(long_prompts_are_refused),
        cmocka_unit_test(a_huge_prompt_is_counted_and_refused),
        cmocka_unit_test(routes_and_methods_are_checked),
        cmocka_unit_test(limits_of_size_hold),
        cmocka_unit_test(a_chunked_body_has_the_same_limit),
        cmocka_unit_test(ranks_are_checked),
        cmocka_unit_test(half_a_request_times_out),
    };
    return e2e_end(cmocka_run_group_tests(tests, start_system, stop_system));
}
