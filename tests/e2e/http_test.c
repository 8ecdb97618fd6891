/*
 * http_test.c - what a client gets from a system of one API server and one engine core: completions
 * and chat, streamed and whole, stop strings, token ids, usage, counts in /metrics, several
 * requests on one connection.
 *
 * The text of the emulated device is one printable character a token, so character and token counts
 * must agree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "helper_http.h"
#include "helper_system.h"

static struct system served;

static int start_system(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 1);
    e2e_start(&t, &served);
    return 0;
}

static int stop_system(void **state)
{
    (void)state;
    assert_false(system_failed(&served));
    assert_int_equal(served.warnings_count, 0);
    e2e_stop(&served);
    return 0;
}

static void complete(const char *json, struct completion *out)
{
    completion_post(served.port, "/v1/completions", json, out);
    assert_false(out->malformed);
}

static void chat(const char *json, struct completion *out)
{
    completion_post(served.port, "/v1/chat/completions", json, out);
    assert_false(out->malformed);
}

static void assert_printable(const struct completion *c)
{
    for (size_t i = 0; i < c->text_bytes; i++) {
        assert_true(isprint((unsigned char)c->text[i]));
    }
}

static void completion_comes_whole(void **state)
{
    (void)state;
    struct completion c;
    complete(
        "{\"model\":\"qwen2.5-0.5b\",\"prompt\":\"hello\",\"max_tokens\":20,\"ignore_eos\":true}",
        &c);
    assert_int_equal(c.status, 200);
    assert_string_equal(c.object, "text_completion");
    assert_string_equal(c.finish, "length");
    assert_string_equal(c.stop_reason, "");
    assert_int_equal(c.text_bytes, 20);
    assert_printable(&c);
    assert_int_equal(c.prompt_tokens, 5);
    assert_int_equal(c.completion_tokens, 20);
    assert_int_equal(c.total_tokens, 25);
    assert_int_equal(c.events_count, 0);
    assert_int_equal(c.api_server, 0);
    assert_int_equal(strncmp(c.id, "cmpl-", 5), 0);
}

static void completion_stream_says_the_same(void **state)
{
    (void)state;
    struct completion whole;
    struct completion c;
    complete("{\"prompt\":\"hello\",\"max_tokens\":30,\"ignore_eos\":true}", &whole);
    complete("{\"prompt\":\"hello\",\"max_tokens\":30,\"ignore_eos\":true,\"stream\":true}", &c);
    assert_int_equal(c.status, 200);
    assert_string_equal(c.text, whole.text);
    assert_string_equal(c.finish, "length");
    assert_true(c.done);
    assert_true(c.events_count >= 1 && c.events_count <= 30);
    assert_false(c.has_usage);
    complete("{\"prompt\":\"hello\",\"max_tokens\":30,\"ignore_eos\":true,\"stream\":true,"
             "\"stream_options\":{\"include_usage\":true}}",
             &c);
    assert_string_equal(c.text, whole.text);
    assert_true(c.done);
    assert_int_equal(c.usage_events_count, 1);
    assert_int_equal(c.prompt_tokens, 5);
    assert_int_equal(c.completion_tokens, 30);
    assert_int_equal(c.total_tokens, 35);
    complete("{\"prompt\":\"hello\",\"max_tokens\":30,\"ignore_eos\":true,\"stream\":true,"
             "\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true}}",
             &c);
    assert_string_equal(c.text, whole.text);
    assert_int_equal(c.usage_events_count, c.events_count);
}

static void chat_comes_whole_and_streamed(void **state)
{
    (void)state;
    static const char body[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},"
                               "{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":12,"
                               "\"ignore_eos\":true%s}";
    char json[512];
    struct completion whole;
    struct completion c;
    (void)snprintf(json, sizeof json, body, "");
    chat(json, &whole);
    assert_int_equal(whole.status, 200);
    assert_string_equal(whole.object, "chat.completion");
    assert_string_equal(whole.role, "assistant");
    assert_int_equal(whole.text_bytes, 12);
    assert_int_equal(whole.completion_tokens, 12);
    assert_true(whole.prompt_tokens > 10); /* the template adds to the 10 bytes of content */
    assert_int_equal(strncmp(whole.id, "chatcmpl-", 9), 0);
    (void)snprintf(json, sizeof json, body,
                   ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    chat(json, &c);
    assert_string_equal(c.object, "chat.completion.chunk");
    assert_string_equal(c.role, "assistant");
    assert_string_equal(c.text, whole.text);
    assert_string_equal(c.finish, "length");
    assert_int_equal(c.prompt_tokens, whole.prompt_tokens);
    assert_true(c.done);
}

static void text_follows_from_seed_and_prompt(void **state)
{
    (void)state;
    struct completion a;
    struct completion b;
    complete("{\"prompt\":\"same\",\"seed\":7,\"max_tokens\":40,\"ignore_eos\":true}", &a);
    complete("{\"prompt\":\"same\",\"seed\":7,\"max_tokens\":40,\"ignore_eos\":true}", &b);
    assert_string_equal(a.text, b.text);
    complete("{\"prompt\":\"same\",\"seed\":8,\"max_tokens\":40,\"ignore_eos\":true}", &b);
    assert_string_not_equal(a.text, b.text);
    complete("{\"prompt\":\"sane\",\"seed\":7,\"max_tokens\":40,\"ignore_eos\":true}", &b);
    assert_string_not_equal(a.text, b.text);
    complete("{\"prompt\":\"same\",\"seed\":7,\"max_tokens\":20,\"ignore_eos\":true}", &b);
    assert_int_equal(strncmp(a.text, b.text, 20), 0);
}

static void token_ids_are_the_text(void **state)
{
    (void)state;
    struct completion text;
    struct completion ids;
    complete("{\"prompt\":\"hello\",\"max_tokens\":25,\"ignore_eos\":true}", &text);
    complete("{\"prompt\":[104,101,108,108,111],\"max_tokens\":25,\"ignore_eos\":true}", &ids);
    assert_int_equal(ids.status, 200);
    assert_int_equal(ids.prompt_tokens, 5);
    assert_string_equal(ids.text, text.text);
}

/* JSON text of `bytes` printable bytes. */
static void quote(const char *text, size_t bytes, char *out)
{
    *out++ = '"';
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '"' || text[i] == '\\') {
            *out++ = '\\';
        }
        *out++ = text[i];
    }
    *out++ = '"';
    *out = '\0';
}

/* The answer without a stop string says where each of its parts occurs first; the longest begins in
 * one token and ends several later. */
static void stop_strings_end_where_they_first_occur(void **state)
{
    (void)state;
    struct completion full;
    complete("{\"prompt\":\"stop\",\"max_tokens\":60,\"ignore_eos\":true}", &full);
    assert_int_equal(full.text_bytes, 60);
    for (size_t bytes = 1; bytes <= 7; bytes += 2) {
        char stop[8] = "";
        char quoted[32];
        char json[512];
        memcpy(stop, full.text + 20, bytes);
        size_t first = (size_t)(strstr(full.text, stop) - full.text);
        quote(stop, bytes, quoted);
        for (int variant = 0; variant < 4; variant++) {
            struct completion c;
            bool include = (variant & 1) != 0;
            (void)snprintf(json, sizeof json,
                           "{\"prompt\":\"stop\",\"max_tokens\":60,\"ignore_eos\":true,"
                           "\"stop\":[\"never in the text\",%s],\"include_stop_str_in_output\":%s,"
                           "\"stream\":%s,\"stream_options\":%s}",
                           quoted, include ? "true" : "false",
                           (variant & 2) != 0 ? "true" : "false",
                           (variant & 2) != 0 ? "{\"include_usage\":true}" : "null");
            complete(json, &c);
            assert_int_equal(c.status, 200);
            assert_string_equal(c.finish, "stop");
            assert_string_equal(c.stop_reason, stop);
            assert_int_equal(c.text_bytes, first + (include ? bytes : 0));
            assert_memory_equal(c.text, full.text, c.text_bytes);
            assert_int_equal(c.completion_tokens, first + bytes);
        }
    }
}

static void stop_token_ends_the_text(void **state)
{
    (void)state;
    struct completion full;
    struct completion c;
    char json[256];
    complete("{\"prompt\":\"token\",\"max_tokens\":60,\"ignore_eos\":true}", &full);
    unsigned char token = (unsigned char)full.text[15];
    size_t first = (size_t)(strchr(full.text, token) - full.text);
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"token\",\"max_tokens\":60,\"ignore_eos\":true,"
                   "\"stop_token_ids\":[%u]}",
                   token);
    complete(json, &c);
    assert_string_equal(c.finish, "stop");
    assert_int_equal(atoi(c.stop_reason), token);
    assert_int_equal(c.text_bytes, first);
    assert_memory_equal(c.text, full.text, first);
    assert_int_equal(c.completion_tokens, first + 1);
}

static void texts_end_by_themselves(void **state)
{
    (void)state;
    uint32_t stopped = 0;
    for (int seed = 0; seed < 8; seed++) {
        struct completion c;
        char json[128];
        (void)snprintf(json, sizeof json, "{\"prompt\":\"end\",\"max_tokens\":300,\"seed\":%d}",
                       seed);
        complete(json, &c);
        assert_int_equal(c.status, 200);
        bool stop = strcmp(c.finish, "stop") == 0;
        assert_true(stop ? c.completion_tokens <= 300 : c.completion_tokens == 300);
        /* The token that ends the text is counted and is no text. */
        assert_int_equal(c.text_bytes, c.completion_tokens - (stop ? 1 : 0));
        stopped += stop ? 1 : 0;
    }
    assert_true(stopped > 0);
}

static void information_is_served(void **state)
{
    (void)state;
    struct answer a = http_get(served.port, "/v1/models");
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"id\":\"qwen2.5-0.5b\""));
    assert_non_null(strstr(a.body, "\"max_model_len\":512"));
    answer_free(&a);
    a = http_get(served.port, "/health");
    assert_int_equal(a.status, 200);
    assert_int_equal(a.body_bytes, 0);
    answer_free(&a);
    a = http_get(served.port, "/version");
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"version\":\""));
    answer_free(&a);
    a = http_get(served.port, "/load");
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "{\"server_load\":0}");
    answer_free(&a);
}

struct counts {
    double prompt;
    double generation;
    double length;
    double stop;
    double e2e;
    double ttft;
    double itl;
    double e2e_s;
    double ttft_s;
};

static struct counts read_counts(void)
{
    struct answer a = http_get(served.port, "/metrics");
    assert_int_equal(a.status, 200);
    const char *reason = "vllm:request_success_total";
    struct counts c = {
        .prompt = metric_sum(a.body, "vllm:prompt_tokens_total", ""),
        .generation = metric_sum(a.body, "vllm:generation_tokens_total", ""),
        .length = metric_sum(a.body, reason, "finished_reason=\"length\""),
        .stop = metric_sum(a.body, reason, "finished_reason=\"stop\""),
        .e2e = metric_sum(a.body, "vllm:e2e_request_latency_seconds_count", ""),
        .ttft = metric_sum(a.body, "vllm:time_to_first_token_seconds_count", ""),
        .itl = metric_sum(a.body, "vllm:inter_token_latency_seconds_count", ""),
        .e2e_s = metric_sum(a.body, "vllm:e2e_request_latency_seconds_sum", ""),
        .ttft_s = metric_sum(a.body, "vllm:time_to_first_token_seconds_sum", ""),
    };
    answer_free(&a);
    return c;
}

static void metrics_count_what_was_served(void **state)
{
    (void)state;
    struct counts before = read_counts();
    for (int i = 0; i < 5; i++) {
        struct completion c;
        complete(
            i % 2 == 0
                ? "{\"prompt\":\"count me\",\"max_tokens\":11,\"ignore_eos\":true}"
                : "{\"prompt\":\"count me\",\"max_tokens\":11,\"ignore_eos\":true,\"stream\":true}",
            &c);
        assert_int_equal(c.status, 200);
    }
    struct counts after = read_counts();
    assert_int_equal((int)(after.prompt - before.prompt), 5 * 8);
    assert_int_equal((int)(after.generation - before.generation), 5 * 11);
    assert_int_equal((int)(after.length - before.length), 5);
    assert_int_equal((int)(after.stop - before.stop), 0);
    assert_int_equal((int)(after.e2e - before.e2e), 5);
    assert_int_equal((int)(after.ttft - before.ttft), 5);
    assert_int_equal((int)(after.itl - before.itl), 5 * 10);
}

/* A caller that waits for the whole answer got its first token as early as one that reads along:
 * a small part of 200 steps. */
static void whole_answers_have_a_first_token_too(void **state)
{
    (void)state;
    struct counts before = read_counts();
    struct completion c;
    complete("{\"prompt\":\"count me\",\"max_tokens\":200,\"ignore_eos\":true}", &c);
    assert_int_equal(c.status, 200);
    struct counts after = read_counts();
    assert_int_equal((int)(after.ttft - before.ttft), 1);
    assert_int_equal((int)(after.itl - before.itl), 199);
    assert_true(after.ttft_s - before.ttft_s < 0.5 * (after.e2e_s - before.e2e_s));
}

static void one_connection_serves_many_requests(void **state)
{
    (void)state;
    struct link l;
    char *text = http_request_text("/v1/completions", NULL,
                                   "{\"prompt\":\"again\",\"max_tokens\":6,\"ignore_eos\":true}");
    assert_true(link_open(&l, served.port));
    for (int i = 0; i < 3; i++) {
        struct completion c;
        assert_true(link_text(&l, text));
        struct answer a = link_answer(&l);
        completion_read(&a, &c);
        assert_int_equal(c.status, 200);
        assert_int_equal(c.text_bytes, 6);
        answer_free(&a);
    }
    assert_int_equal(l.bytes, 0);
    link_close(&l);
    free(text);
}

/* Streamed and whole requests and a GET in one write: answers come in order, none is lost. */
static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct link l;
    char *first = http_request_text(
        "/v1/completions", NULL,
        "{\"prompt\":\"p\",\"max_tokens\":30,\"ignore_eos\":true,\"stream\":true}");
    char *third = http_request_text("/v1/completions", NULL,
                                    "{\"prompt\":\"ppp\",\"max_tokens\":3,\"ignore_eos\":true}");
    char all[2048];
    (void)snprintf(all, sizeof all, "%sGET /health HTTP/1.1\r\nHost: e2e\r\n\r\n%s%s", first, third,
                   first);
    assert_true(link_open(&l, served.port));
    assert_true(link_text(&l, all));
    static const int64_t tokens[] = {30, 0, 3, 30};
    for (int i = 0; i < 4; i++) {
        struct answer a = link_answer(&l);
        struct completion c;
        assert_int_equal(a.status, 200);
        if (tokens[i] > 0) {
            completion_read(&a, &c);
            assert_int_equal(c.text_bytes, tokens[i]);
            assert_int_equal(c.events_count > 0, tokens[i] == 30);
        }
        answer_free(&a);
    }
    link_close(&l);
    free(first);
    free(third);
}

/* Each is served when the one before it has left, and not when a timer next looks. */
static void a_long_pipeline_does_not_stall(void **state)
{
    (void)state;
    enum {
        PIPELINED = 40
    };
    struct link l;
    char *text = http_request_text("/v1/completions", NULL, "{\"prompt\":\"p\",\"max_tokens\":1}");
    assert_true(link_open(&l, served.port));
    for (int i = 0; i < PIPELINED; i++) {
        assert_true(link_text(&l, text));
    }
    int64_t begin_ns = clock_now_ns();
    for (int i = 0; i < PIPELINED; i++) {
        struct answer a = link_answer(&l);
        assert_int_equal(a.status, 200);
        answer_free(&a);
    }
    assert_true(clock_now_ns() - begin_ns < (int64_t)HANG_MS * 1000000);
    link_close(&l);
    free(text);
}

/* One byte a send: the parser must not depend on where the bytes are cut. */
static void bytes_may_come_one_by_one(void **state)
{
    (void)state;
    struct link l;
    struct completion c;
    char *text = http_request_text("/v1/completions", NULL, "{\"prompt\":\"b\",\"max_tokens\":2}");
    assert_true(link_open(&l, served.port));
    for (const char *at = text; *at != '\0'; at++) {
        assert_true(link_send(&l, at, 1));
    }
    struct answer a = link_answer(&l);
    completion_read(&a, &c);
    assert_int_equal(c.status, 200);
    answer_free(&a);
    link_close(&l);
    free(text);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completion_comes_whole),
        cmocka_unit_test(completion_stream_says_the_same),
        cmocka_unit_test(chat_comes_whole_and_streamed),
        cmocka_unit_test(text_follows_from_seed_and_prompt),
        cmocka_unit_test(token_ids_are_the_text),
        cmocka_unit_test(stop_strings_end_where_they_first_occur),
        cmocka_unit_test(stop_token_ends_the_text),
        cmocka_unit_test(texts_end_by_themselves),
        cmocka_unit_test(information_is_served),
        cmocka_unit_test(metrics_count_what_was_served),
        cmocka_unit_test(whole_answers_have_a_first_token_too),
        cmocka_unit_test(one_connection_serves_many_requests),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_long_pipeline_does_not_stall),
        cmocka_unit_test(bytes_may_come_one_by_one),
    };
    return e2e_end(cmocka_run_group_tests(tests, start_system, stop_system));
}
