/*
 * trace_requests_test.c - requests as JSON lines: what is read from them, what is refused, what is
 * an error with its line, and the bytes that are sent, read back by a JSON parser.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "harness/load/client.h"
#include "harness/load/null_server.h"
#include "harness/load/request.h"
#include "harness/load/trace.h"

static enum status parse_limited(const char *text, const struct trace_limits *limits,
                                 struct trace *trace, struct error *error)
{
    struct trace_text source = {.name = "t", .data = text, .bytes = strlen(text)};
    return trace_parse(&source, TRACE_REQUESTS_JSONL, limits, trace, error);
}

static struct trace parse(const char *text)
{
    struct trace_limits limits = {0};
    struct trace trace;
    struct error error;
    if (parse_limited(text, &limits, &trace, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    return trace;
}

static void requests_are_read(void **state)
{
    (void)state;
    struct trace t =
        parse("{\"prompt\": \"Hello\", \"output_tokens\": 7}\r\n"
              "\n"
              "{\"output_tokens\": 9, \"prompt_tokens\": 300, \"id\": [1, {\"x\": 2}]}\n"
              "{\"prompt\": \"gr\\u00fcn\", \"prompt_tokens\": 2, \"output_tokens\": 1}");
    assert_int_equal(t.format, TRACE_REQUESTS_JSONL);
    assert_int_equal(t.requests_count, 3);
    assert_int_equal(t.requests[0].prompt_tokens, 5);
    assert_int_equal(t.requests[0].output_tokens, 7);
    assert_int_equal(t.requests[0].text_bytes, 5);
    assert_memory_equal(t.texts + t.requests[0].text_at, "Hello", 5);
    assert_int_equal(t.requests[1].prompt_tokens, 300);
    assert_int_equal(t.requests[1].text_bytes, 0);
    assert_int_equal(t.requests[1].line, 3);
    assert_int_equal(t.requests[2].prompt_tokens, 2); /* what is said wins over 5 bytes */
    assert_int_equal(t.requests[2].text_bytes, 5);
    assert_memory_equal(t.texts + t.requests[2].text_at, "gr\xc3\xbcn", 5);
    assert_int_equal(t.output_tokens_max, 9);
    trace_free(&t);
}

static void times_are_those_of_the_file(void **state)
{
    (void)state;
    struct trace t = parse("{\"prompt_tokens\":1,\"output_tokens\":1,\"timestamp_ms\":1000}\n"
                           "{\"prompt_tokens\":1,\"output_tokens\":1,\"timestamp_ms\":1250.5}\n"
                           "{\"prompt_tokens\":1,\"output_tokens\":1}\n"
                           "{\"prompt_tokens\":1,\"output_tokens\":1,\"timestamp_ms\":999}\n");
    assert_int_equal(t.requests_count, 3);
    assert_int_equal(t.requests[1].at_ns, 250500000);
    assert_int_equal(t.requests[2].at_ns, 250500000); /* none of its own: as the one before */
    assert_int_equal(t.refused_unsorted_count, 1);
    trace_free(&t);
    /* On the wall clock; a double holds such a time within 256 ns. */
    t = parse("{\"prompt_tokens\":1,\"output_tokens\":1,\"timestamp_ms\":1790000000000}\n"
              "{\"prompt_tokens\":1,\"output_tokens\":1,\"timestamp_ms\":1790000000250}\n");
    assert_in_range(t.requests[1].at_ns, 250000000 - 256, 250000000 + 256);
    trace_free(&t);
}

static void what_cannot_be_sent_is_refused_with_its_text(void **state)
{
    (void)state;
    struct trace_limits limits = {.max_model_len = 10};
    struct trace t;
    assert_int_equal(parse_limited("{\"prompt\":\"abcde\",\"output_tokens\":0}\n"
                                   "{\"prompt\":\"\",\"output_tokens\":1}\n"
                                   "{\"prompt\":\"\",\"prompt_tokens\":4,\"output_tokens\":1}\n"
                                   "{\"prompt\":\"0123456789\",\"output_tokens\":1}\n"
                                   "{\"prompt\":\"vwxyz\",\"output_tokens\":5}\n",
                                   &limits, &t, NULL),
                     STATUS_OK);
    assert_int_equal(t.requests_count, 1);
    assert_int_equal(t.refused_zero_count, 3);
    assert_int_equal(t.refused_length_count, 1);
    assert_int_equal(t.texts_bytes, 5);
    assert_memory_equal(t.texts + t.requests[0].text_at, "vwxyz", 5);
    trace_free(&t);
}

static void mistakes_name_their_line(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } rows[] = {
        {"{\"prompt\":\"a\",\"output_tokens\":1}\n{\"prompt\":\"a\"}",
         "t:2: output_tokens is missing"},
        {"{\"output_tokens\":1}", "t:1: want prompt or prompt_tokens, or both"},
        {"{\"prompt\":[1,2],\"output_tokens\":1}", "t:1: prompt: want a string"},
        {"{\"prompt_tokens\":1.5,\"output_tokens\":1}", "t:1: prompt_tokens: want a count"},
        {"{\"prompt_tokens\":-1,\"output_tokens\":1}", "t:1: prompt_tokens: want a count"},
        {"{\"prompt\":\"a\",\"output_tokens\":\"1\"}", "t:1: output_tokens: want a count"},
        {"{\"prompt_tokens\":1,\"output_tokens\":1,\"timestamp_ms\":\"x\"}",
         "t:1: timestamp_ms: want a number of milliseconds, 0..8e+12"},
        {"[1]", "t:1: want a JSON object"},
        {"{\"prompt\":\"a\xff\",\"output_tokens\":1}", "t:1: no JSON object: invalid utf-8 string"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct trace_limits limits = {0};
        struct trace t;
        struct error error;
        assert_int_equal(parse_limited(rows[i].text, &limits, &t, &error), STATUS_INVALID);
        assert_string_equal(error.text, rows[i].error);
    }
}

static void a_replay_needs_a_time_in_every_line(void **state)
{
    (void)state;
    struct trace_limits limits = {.timed = true};
    struct trace t;
    struct error error;
    assert_int_equal(parse_limited("{\"prompt_tokens\":1,\"output_tokens\":1,\"timestamp_ms\":1}\n"
                                   "{\"prompt_tokens\":1,\"output_tokens\":1}",
                                   &limits, &t, &error),
                     STATUS_INVALID);
    assert_string_equal(error.text, "t:2: timestamp_ms is missing, which mode = trace needs");
}

/* The first line tells requests from a trace of Mooncake's. */
static void the_format_is_seen(void **state)
{
    static const char requests[] = " \n{\"prompt_tokens\":1,\"output_tokens\":1}\n";
    static const char mooncake[] =
        "{\"timestamp\":0,\"input_length\":1,\"output_length\":1}\n{\"output_tokens\":1}";
    struct trace_text text = {.name = "t", .data = requests, .bytes = sizeof requests - 1};
    struct trace_limits limits = {.requests_max = 1};
    struct trace t;
    (void)state;
    assert_int_equal(trace_parse(&text, TRACE_AUTO, &limits, &t, NULL), STATUS_OK);
    assert_int_equal(t.format, TRACE_REQUESTS_JSONL);
    trace_free(&t);
    text = (struct trace_text){.name = "t", .data = mooncake, .bytes = sizeof mooncake - 1};
    assert_int_equal(trace_parse(&text, TRACE_AUTO, &limits, &t, NULL), STATUS_OK);
    assert_int_equal(t.format, TRACE_MOONCAKE_JSONL);
    trace_free(&t);
}

static struct load_options closed_options(void)
{
    return (struct load_options){.targets = {{.host = "127.0.0.1"}},
                                 .targets_count = 1,
                                 .model = "null",
                                 .mode = LOAD_CLOSED,
                                 .users_count = 1,
                                 .requests_max = 6,
                                 .seed = 1,
                                 .stream = 1,
                                 .window_ns = 60000000000,
                                 .batches_count = 4,
                                 .time_scale = 1};
}

/* The body of the request, parsed. */
static struct json_object *body_of(const struct load_options *o, const struct trace *t,
                                   struct schedule *s)
{
    struct http_buffer out = {0};
    struct schedule_item item;
    assert_true(schedule_next(s, &item));
    request_write(&out, o, t, &item);
    assert_false(out.failed);
    char *bytes = calloc(out.bytes + 1, 1);
    assert_non_null(bytes);
    memcpy(bytes, out.data, out.bytes);
    const char *length = strstr(bytes, "Content-Length: ");
    const char *body = strstr(bytes, "\r\n\r\n");
    assert_non_null(length);
    assert_non_null(body);
    assert_int_equal(strtoul(length + 16, NULL, 10), strlen(body + 4));
    struct json_object *object = json_tokener_parse(body + 4);
    assert_non_null(object);
    free(bytes);
    http_buffer_free(&out);
    return object;
}

static void prompts_are_sent_as_they_are(void **state)
{
    (void)state;
    static const char said[] = "say \"hi\"\n\t\\ \xe2\x82\xac";
    struct trace t = parse("{\"prompt\":\"say \\\"hi\\\"\\n\\t\\\\ \\u20ac\",\"output_tokens\":3}\n"
                           "{\"prompt_tokens\":4,\"output_tokens\":5}\n");
    struct load_options o = closed_options();
    struct schedule s;
    struct json_object *field = NULL;
    schedule_init(&s, &o, &t);
    struct json_object *body = body_of(&o, &t, &s);
    assert_true(json_object_object_get_ex(body, "prompt", &field));
    assert_string_equal(json_object_get_string(field), said);
    assert_true(json_object_object_get_ex(body, "max_tokens", &field));
    assert_int_equal(json_object_get_int(field), 3);
    (void)json_object_put(body);
    body = body_of(&o, &t, &s);
    assert_true(json_object_object_get_ex(body, "prompt", &field));
    assert_int_equal(json_object_array_length(field), 4);
    (void)json_object_put(body);
    body = body_of(&o, &t, &s); /* from its start again */
    assert_true(json_object_object_get_ex(body, "prompt", &field));
    assert_string_equal(json_object_get_string(field), said);
    (void)json_object_put(body);
    trace_free(&t);
}

static void a_load_takes_its_requests_from_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/trace_requests_test_XXXXXX";
    static const char text[] = "{\"prompt\":\"one\",\"output_tokens\":2}\n"
                               "{\"prompt\":\"three\",\"output_tokens\":4}\n";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), (int)sizeof text - 1);
    (void)close(fd);
    struct null_options none = {0};
    struct null_process server;
    assert_int_equal(null_start(&none, &server, NULL), STATUS_OK);
    struct load_options o = closed_options();
    o.targets[0].port = server.port;
    o.trace_format = TRACE_REQUESTS_JSONL;
    (void)snprintf(o.trace_path, sizeof o.trace_path, "%s", path);
    struct load_shared shared;
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_run(&shared.header->options, &shared, NULL), STATUS_OK);
    null_stop(&server);
    (void)unlink(path);
    assert_int_equal(load_get(&shared.header->outcome_count[LOAD_OUTCOME_OK]), 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(shared.records[i].trace_line, 1 + i % 2);
        assert_int_equal(shared.records[i].prompt_tokens_asked, i % 2 == 0 ? 3 : 5);
        assert_int_equal(shared.records[i].completion_tokens, i % 2 == 0 ? 2 : 4);
    }
    load_shared_close(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_read),
        cmocka_unit_test(times_are_those_of_the_file),
        cmocka_unit_test(what_cannot_be_sent_is_refused_with_its_text),
        cmocka_unit_test(mistakes_name_their_line),
        cmocka_unit_test(a_replay_needs_a_time_in_every_line),
        cmocka_unit_test(the_format_is_seen),
        cmocka_unit_test(prompts_are_sent_as_they_are),
        cmocka_unit_test(a_load_takes_its_requests_from_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
