/*
 * sse_test.c - the stream writer against json-c and the response parser (text that goes in comes
 * out), and the scanner against json-c as oracle over random chunk shapes, cut at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/http/http_parser.h"
#include "engine/http/sse.h"

/* --- reading back what the writer wrote --- */

static void collect_body(void *ctx, const char *data, size_t bytes)
{
    http_buffer_append(ctx, data, bytes);
}

/* The body of a complete chunked response. */
static struct http_buffer body_of(const struct http_buffer *response)
{
    struct http_buffer body = {0};
    struct http_client_handlers handlers = {&body, NULL, collect_body};
    struct http_client_parser *p;
    size_t used;
    assert_false(response->failed);
    assert_int_equal(http_client_create(&handlers, &p, NULL), STATUS_OK);
    assert_int_equal(http_client_feed(p, response->data, response->bytes, &used),
                     HTTP_FEED_COMPLETE);
    assert_int_equal(used, response->bytes);
    http_client_destroy(p);
    return body;
}

/* The data of the next event ("data: X\n\n") of a body; moves *at behind it. */
static struct json_object *event_at(const struct http_buffer *body, size_t *at)
{
    assert_memory_equal(body->data + *at, "data: ", 6);
    const char *from = body->data + *at + 6;
    const char *end = memmem(from, body->bytes - *at - 6, "\n\n", 2);
    assert_non_null(end);
    *at = (size_t)(end - body->data) + 2;
    struct json_tokener *tokener = json_tokener_new();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *json = json_tokener_parse_ex(tokener, from, (int)(end - from));
    assert_int_equal(json_tokener_get_error(tokener), json_tokener_success);
    json_tokener_free(tokener);
    return json;
}

/* Whether text[0..bytes) begins with a code point's only encoding; its length. Written from the
 * code point up, unlike the code under test, which goes by ranges of bytes. */
static size_t character_length(const unsigned char *text, size_t bytes)
{
    size_t length = text[0] < 0x80 ? 1 : text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : 2;
    if (length == 1) {
        return 1;
    }
    if (text[0] < 0xC0 || text[0] >= 0xF8 || length > bytes) {
        return 0;
    }
    uint32_t code = text[0] & (0xFFU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) {
            return 0;
        }
        code = code << 6 | (text[i] & 0x3FU);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool valid = code >= least[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    return valid ? length : 0;
}

/* Compares text with what a random byte string must have become: the valid characters in order, and
 * between them as many U+FFFD as there can be at all (one for each bad byte at most, one for each
 * bad run at least). */
static void assert_sanitised(const char *got, size_t got_bytes, const unsigned char *in,
                             size_t bytes)
{
    size_t at = 0;
    size_t i = 0;
    while (i < bytes) {
        size_t length = character_length(in + i, bytes - i);
        if (length > 0) {
            assert_true(at + length <= got_bytes);
            assert_memory_equal(got + at, in + i, length);
            at += length;
            i += length;
            continue;
        }
        size_t bad = 0;
        while (i < bytes && character_length(in + i, bytes - i) == 0) {
            i++;
            bad++;
        }
        size_t replaced = 0;
        while (at + 3 <= got_bytes && replaced < bad && memcmp(got + at, "\xEF\xBF\xBD", 3) == 0) {
            at += 3;
            replaced++;
        }
        assert_true(replaced >= (bad + 2) / 3);
    }
    assert_int_equal(at, got_bytes);
}

/* The validator of request bodies against the same oracle. */
static void utf8_check_agrees_with_the_definition(const unsigned char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes && character_length(text + at, bytes - at) > 0) {
        at += character_length(text + at, bytes - at);
    }
    assert_int_equal(http_utf8_valid((const char *)text, bytes), at == bytes);
}

/* Random bytes with many specials and pieces of multi-byte characters. */
static size_t random_text(struct random *random, unsigned char *text, size_t cap)
{
    static const unsigned char odd[] =
        "\"\\\n\r\t\b\f/\x01\x1F\x7F\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\xA0\x80\xC0\xFF";
    size_t bytes = (size_t)random_range(random, 0, (int64_t)cap);
    for (size_t i = 0; i < bytes; i++) {
        switch (random_range(random, 0, 3)) {
        case 0:
            text[i] = (unsigned char)random_range(random, 0, 255);
            break;
        case 1:
            text[i] = odd[random_range(random, 0, (int64_t)sizeof odd - 2)];
            break;
        default:
            text[i] = (unsigned char)random_range(random, 32, 126);
            break;
        }
    }
    return bytes;
}

static struct json_object *first_choice(struct json_object *json)
{
    struct json_object *choices = json_object_object_get(json, "choices");
    assert_int_equal(json_object_array_length(choices), 1);
    return json_object_array_get_idx(choices, 0);
}

static void text_comes_back_as_it_went_in(void **state)
{
    (void)state;
    struct random random = random_stream(1, "text", 0);
    struct sse_writer w = {0};
    struct http_buffer out = {0};
    for (uint32_t round = 0; round < 2000; round++) {
        unsigned char text[64];
        size_t bytes = random_text(&random, text, sizeof text);
        bool chat = round % 2 == 0;
        for (size_t n = 0; n <= bytes; n++) {
            utf8_check_agrees_with_the_definition(text, n);
            utf8_check_agrees_with_the_definition(text + n, bytes - n);
        }
        http_buffer_clear(&out);
        sse_writer_open(&w, &(struct sse_stream_options){chat, "id\"1", "m\\n", 17, false, false});
        sse_write_head(&out, 2, true);
        sse_write_delta(&w, &out,
                        &(struct sse_delta){.text = (const char *)text, .text_bytes = bytes});
        sse_write_done(&out);
        struct http_buffer body = body_of(&out);
        size_t at = 0;
        struct json_object *json = event_at(&body, &at);
        struct json_object *choice = first_choice(json);
        struct json_object *value =
            chat ? json_object_object_get(json_object_object_get(choice, "delta"), "content")
                 : json_object_object_get(choice, "text");
        assert_sanitised(json_object_get_string(value), (size_t)json_object_get_string_len(value),
                         text, bytes);
        assert_string_equal(json_object_get_string(json_object_object_get(json, "id")), "id\"1");
        assert_string_equal(json_object_get_string(json_object_object_get(json, "model")), "m\\n");
        json_object_put(json);
        http_buffer_free(&body);
    }
    sse_writer_free(&w);
    http_buffer_free(&out);
}

static void invalid_utf8_is_replaced_by_maximal_pieces(void **state)
{
    (void)state;
    /* Unicode standard, section 3.9, table 3-8 and its neighbours */
    static const struct {
        const char *in;
        const char *out;
    } cases[] = {
        {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
         "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
         "b\xEF\xBF\xBD"
         "c\xEF\xBF\xBD\xEF\xBF\xBD"
         "d"},
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF"
         "\xBF\xBD"
         "A"},
        {"\xED\xA0\x80\xF4\x91\x92\x93\xFF\x41",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF"
         "\xBF\xBD"
         "A"},
        {"\xE2\x82\xAC\xF0\x9F\x98\x80\xF0\x9F\x98", "\xE2\x82\xAC\xF0\x9F\x98\x80\xEF\xBF\xBD"},
        {"\"\\/\b\f\n\r\t\x01\x7F", "\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7F"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_buffer out = {0};
        http_buffer_json(&out, cases[i].in, strlen(cases[i].in));
        assert_int_equal(out.bytes, strlen(cases[i].out));
        assert_memory_equal(out.data, cases[i].out, out.bytes);
        http_buffer_free(&out);
    }
}

static void completion_stream_is_byte_exact(void **state)
{
    (void)state;
    struct sse_writer w = {0};
    struct http_buffer out = {0};
    sse_writer_open(&w,
                    &(struct sse_stream_options){false, "cmpl-1", "m", 1700000000, true, false});
    sse_write_head(&out, 3, false);
    sse_write_role(&w, &out, 0, 5);
    sse_write_delta(&w, &out,
                    &(struct sse_delta){.text = "Hi", .text_bytes = 2, .stop_token_id = -1});
    sse_write_delta(&w, &out,
                    &(struct sse_delta){.text = "!",
                                        .text_bytes = 1,
                                        .finish_reason = "length",
                                        .stop_token_id = SSE_STOP_TOKEN_NONE});
    sse_write_usage(&w, &out, 5, 2);
    sse_write_done(&out);
    static const char head[] = "HTTP/1.1 200 OK\r\n"
                               "Content-Type: text/event-stream; charset=utf-8\r\n"
                               "Cache-Control: no-cache\r\n"
                               "Transfer-Encoding: chunked\r\n"
                               "X-Api-Server: 3\r\n"
                               "Connection: close\r\n\r\n";
    assert_memory_equal(out.data, head, sizeof head - 1);
    struct http_buffer body = body_of(&out);
    http_buffer_append(&body, "", 1);
#define CHUNK_HEAD                                                                              \
    "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":" \
    "\"m\",\"choices\":"
    assert_string_equal(
        body.data, CHUNK_HEAD
        "[{\"index\":0,\"text\":\"Hi\",\"logprobs\":null,\"finish_reason\":null}]}\n\n" CHUNK_HEAD
        "[{\"index\":0,\"text\":\"!\",\"logprobs\":null,\"finish_reason\":\"length\","
        "\"stop_reason\":null}]}\n\n" CHUNK_HEAD
        "[],\"usage\":{\"prompt_tokens\":5,\"total_tokens\":7,"
        "\"completion_tokens\":2}}\n\n"
        "data: [DONE]\n\n");
    http_buffer_free(&body);
    http_buffer_free(&out);
    sse_writer_free(&w);
}

static void choices_are_told_apart_by_their_index(void **state)
{
    (void)state;
    struct sse_writer w = {0};
    struct http_buffer out = {0};
    sse_writer_open(&w, &(struct sse_stream_options){true, "chatcmpl-1", "m", 1, false, false});
    sse_write_head(&out, HTTP_API_SERVER_NONE, true);
    sse_write_role(&w, &out, 12, 9);
    sse_write_delta(
        &w, &out,
        &(struct sse_delta){.index = 12, .text = "a", .text_bytes = 1, .stop_token_id = -1});
    sse_writer_open(&w, &(struct sse_stream_options){false, "cmpl-1", "m", 1, false, false});
    sse_write_delta(&w, &out,
                    &(struct sse_delta){.index = 3,
                                        .text = "b",
                                        .text_bytes = 1,
                                        .finish_reason = "stop",
                                        .stop_token_id = -1});
    sse_write_done(&out);
    struct http_buffer body = body_of(&out);
    http_buffer_append(&body, "", 1);
    assert_non_null(strstr(body.data, "[{\"index\":12,\"delta\":{\"role\":\"assistant\""));
    assert_non_null(strstr(body.data, "[{\"index\":12,\"delta\":{\"content\":\"a\"},"
                                      "\"logprobs\":null,\"finish_reason\":null}]}\n\n"));
    assert_non_null(strstr(body.data, "[{\"index\":3,\"text\":\"b\",\"logprobs\":null,"
                                      "\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\n"));
    http_buffer_free(&body);
    http_buffer_free(&out);
    sse_writer_free(&w);
}

static void chat_stream_has_role_stop_reason_and_usage(void **state)
{
    (void)state;
    struct sse_writer w = {0};
    struct http_buffer out = {0};
    sse_writer_open(&w, &(struct sse_stream_options){true, "chatcmpl-1", "m", 1, true, true});
    sse_write_head(&out, HTTP_API_SERVER_NONE, true);
    sse_write_role(&w, &out, 0, 9);
    sse_write_delta(&w, &out,
                    &(struct sse_delta){.text = "a",
                                        .text_bytes = 1,
                                        .prompt_tokens = 9,
                                        .completion_tokens = 1,
                                        .stop_token_id = -1});
    sse_write_delta(&w, &out,
                    &(struct sse_delta){.text = "",
                                        .finish_reason = "stop",
                                        .stop_string = "\"E",
                                        .prompt_tokens = 9,
                                        .completion_tokens = 2,
                                        .stop_token_id = SSE_STOP_TOKEN_NONE});
    sse_write_delta(&w, &out,
                    &(struct sse_delta){.text = "", .finish_reason = "stop", .stop_token_id = 77});
    sse_write_event(&out, "{\"error\":{}}", 12);
    sse_write_done(&out);
    struct http_buffer body = body_of(&out);
    http_buffer_append(&body, "", 1);
    assert_non_null(strstr(body.data, "\"object\":\"chat.completion.chunk\""));
    assert_non_null(strstr(body.data, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"));
    assert_non_null(strstr(body.data, "\"usage\":{\"prompt_tokens\":9,\"total_tokens\":9,"
                                      "\"completion_tokens\":0}}\n\n"));
    assert_non_null(strstr(body.data, "\"delta\":{\"content\":\"a\"},\"logprobs\":null,"
                                      "\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":9,"
                                      "\"total_tokens\":10,\"completion_tokens\":1}}\n\n"));
    assert_non_null(strstr(body.data, "\"finish_reason\":\"stop\",\"stop_reason\":\"\\\"E\"}]"));
    assert_non_null(strstr(body.data, "\"finish_reason\":\"stop\",\"stop_reason\":77}]"));
    assert_non_null(strstr(body.data, "data: {\"error\":{}}\n\n"));
    http_buffer_free(&body);
    http_buffer_free(&out);
    sse_writer_free(&w);
}

/* --- scanner --- */

enum {
    EVENTS_MAX = 64
};

struct events {
    struct sse_event event[EVENTS_MAX];
    size_t count;
};

static void scan_piece(struct sse_scanner *s, const char *data, size_t bytes, struct events *events)
{
    char *piece = malloc(bytes > 0 ? bytes : 1);
    size_t at = 0;
    struct sse_event event;
    memcpy(piece, data, bytes);
    while (sse_scanner_next(s, piece, bytes, &at, &event)) {
        assert_true(events->count < EVENTS_MAX);
        events->event[events->count] = event;
        events->count++;
    }
    assert_int_equal(at, bytes);
    free(piece);
}

static void scan_split(const char *data, size_t bytes, size_t first, size_t step,
                       struct events *events)
{
    struct sse_scanner s = {0};
    events->count = 0;
    for (size_t at = 0; at < bytes;) {
        size_t want = at == 0 && first > 0 ? first : step;
        size_t piece = want < bytes - at ? want : bytes - at;
        scan_piece(&s, data + at, piece, events);
        at += piece;
    }
    sse_scanner_free(&s);
}

static void assert_events_equal(const struct events *got, const struct events *want)
{
    assert_int_equal(got->count, want->count);
    for (size_t i = 0; i < want->count; i++) {
        const struct sse_event *a = &got->event[i];
        const struct sse_event *b = &want->event[i];
        assert_int_equal(a->done, b->done);
        assert_int_equal(a->malformed, b->malformed);
        assert_int_equal(a->has_content, b->has_content);
        assert_int_equal(a->has_finish, b->has_finish);
        assert_int_equal(a->has_error, b->has_error);
        assert_int_equal(a->has_usage, b->has_usage);
        assert_int_equal(a->choices_count, b->choices_count);
        assert_int_equal(a->token_ids_count, b->token_ids_count);
        assert_int_equal(a->prompt_tokens, b->prompt_tokens);
        assert_int_equal(a->completion_tokens, b->completion_tokens);
    }
}

/* Scans every two-piece split and some many-piece ones against `want`. */
static void assert_scans_to(const char *data, size_t bytes, const struct events *want)
{
    struct events got;
    for (size_t first = 0; first <= bytes; first++) {
        scan_split(data, bytes, first, bytes, &got);
        assert_events_equal(&got, want);
    }
    for (size_t step = 1; step < 6; step++) {
        scan_split(data, bytes, 0, step, &got);
        assert_events_equal(&got, want);
    }
}

static bool long_string(struct json_object *object, const char *name)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(object, name, &value) &&
           json_object_is_type(value, json_type_string) && json_object_get_string_len(value) > 0;
}

static uint32_t list_length(struct json_object *object, const char *name)
{
    struct json_object *value = NULL;
    bool list = json_object_object_get_ex(object, name, &value) &&
                json_object_is_type(value, json_type_array);
    return list ? (uint32_t)json_object_array_length(value) : 0;
}

static void oracle_content(struct json_object *part, struct sse_event *event)
{
    static const char *const texts[] = {"content", "reasoning_content", "reasoning"};
    for (size_t i = 0; i < 3; i++) {
        event->has_content |= long_string(part, texts[i]);
    }
    uint32_t ids = list_length(part, "token_ids");
    event->has_content |= ids > 0 || list_length(part, "tool_calls") > 0;
    event->token_ids_count += ids;
}

/* What the scanner must say of one event, by a full parse. */
static struct sse_event oracle(const char *json_text)
{
    struct sse_event event = {0};
    struct json_object *json = json_tokener_parse(json_text);
    assert_non_null(json);
    struct json_object *choices = NULL;
    struct json_object *usage = NULL;
    struct json_object *value = NULL;
    event.choices_count = list_length(json, "choices");
    (void)json_object_object_get_ex(json, "choices", &choices);
    for (size_t i = 0; i < event.choices_count; i++) {
        struct json_object *choice = json_object_array_get_idx(choices, i);
        event.has_content |= long_string(choice, "text");
        uint32_t ids = list_length(choice, "token_ids");
        event.token_ids_count += ids;
        event.has_content |= ids > 0;
        if (json_object_object_get_ex(choice, "delta", &value) &&
            json_object_is_type(value, json_type_object)) {
            oracle_content(value, &event);
        }
        event.has_finish |= json_object_object_get_ex(choice, "finish_reason", &value) &&
                            json_object_is_type(value, json_type_string);
    }
    event.has_error = json_object_object_get_ex(json, "error", &value) && value != NULL;
    event.has_usage = json_object_object_get_ex(json, "usage", &usage) &&
                      json_object_is_type(usage, json_type_object);
    if (event.has_usage) {
        (void)json_object_object_get_ex(usage, "prompt_tokens", &value);
        event.prompt_tokens = (uint32_t)json_object_get_int64(value);
        (void)json_object_object_get_ex(usage, "completion_tokens", &value);
        event.completion_tokens = (uint32_t)json_object_get_int64(value);
    }
    json_object_put(json);
    return event;
}

static bool coin(struct random *random)
{
    return random_range(random, 0, 1) == 1;
}

/* Strings that try to look like structure. */
static struct json_object *random_string(struct random *random)
{
    static const char *const texts[] = {
        "",
        "a",
        "}",
        "]}\"",
        "\\",
        "\\\"",
        "\n\ndata: [DONE]\n\n",
        "\"finish_reason\":\"stop\"",
        " ",
        "\xE2\x82\xAC",
        "\\\\",
        ",",
        "{[",
        "\"text\":\"x\"",
    };
    return json_object_new_string(
        texts[random_range(random, 0, (int64_t)(sizeof texts / sizeof texts[0]) - 1)]);
}

static struct json_object *random_ids(struct random *random)
{
    struct json_object *list = json_object_new_array();
    for (int64_t n = random_range(random, 0, 3); n > 0; n--) {
        json_object_array_add(list, json_object_new_int64(random_range(random, 0, 99999)));
    }
    return list;
}

/* Members that mean nothing at their place, but hold names that mean something elsewhere. */
static void add_noise(struct random *random, struct json_object *object)
{
    if (coin(random)) {
        struct json_object *noise = json_object_new_object();
        struct json_object *list = json_object_new_array();
        json_object_object_add(noise, "finish_reason", random_string(random));
        json_object_object_add(noise, "content", random_string(random));
        json_object_array_add(list, noise);
        json_object_array_add(list, json_object_new_double(-1.5e-7));
        json_object_array_add(list, json_object_new_boolean(1));
        json_object_object_add(object, "noise", list);
    }
}

static struct json_object *random_delta(struct random *random)
{
    struct json_object *delta = json_object_new_object();
    static const char *const names[] = {"reasoning", "content", "role", "reasoning_content"};
    size_t from = (size_t)random_range(random, 0, 3);
    for (size_t i = 0; i < 4; i++) {
        if (coin(random)) {
            json_object_object_add(delta, names[(from + i) % 4],
                                   coin(random) ? random_string(random) : NULL);
        }
    }
    add_noise(random, delta);
    if (random_range(random, 0, 3) == 0) {
        json_object_object_add(delta, "tool_calls", random_ids(random));
    }
    if (random_range(random, 0, 3) == 0) {
        json_object_object_add(delta, "token_ids", coin(random) ? random_ids(random) : NULL);
    }
    return delta;
}

static struct json_object *random_choice(struct random *random)
{
    struct json_object *choice = json_object_new_object();
    bool finish_early = coin(random);
    if (finish_early) {
        json_object_object_add(choice, "finish_reason",
                               coin(random) ? random_string(random) : NULL);
    }
    add_noise(random, choice);
    if (coin(random)) {
        json_object_object_add(choice, "delta", coin(random) ? random_delta(random) : NULL);
    } else {
        json_object_object_add(choice, "text", coin(random) ? random_string(random) : NULL);
    }
    if (coin(random)) {
        json_object_object_add(choice, "token_ids", random_ids(random));
    }
    if (!finish_early) {
        json_object_object_add(choice, "finish_reason",
                               coin(random) ? random_string(random) : NULL);
    }
    return choice;
}

static struct json_object *random_usage(struct random *random)
{
    struct json_object *usage = json_object_new_object();
    json_object_object_add(usage, "completion_tokens",
                           json_object_new_int64(random_range(random, 0, 5000)));
    json_object_object_add(usage, "total_tokens", json_object_new_int64(1));
    json_object_object_add(usage, "prompt_tokens",
                           json_object_new_int64(random_range(random, 0, 500000)));
    add_noise(random, usage);
    return usage;
}

static struct json_object *random_chunk(struct random *random)
{
    struct json_object *chunk = json_object_new_object();
    add_noise(random, chunk);
    if (coin(random)) {
        json_object_object_add(chunk, "usage", coin(random) ? random_usage(random) : NULL);
    }
    json_object_object_add(chunk, "id", random_string(random));
    if (random_range(random, 0, 7) > 0) {
        struct json_object *choices = json_object_new_array();
        for (int64_t n = random_range(random, 0, 3); n > 0; n--) {
            json_object_array_add(choices, random_choice(random));
        }
        json_object_object_add(chunk, "choices", choices);
    }
    if (random_range(random, 0, 7) == 0) {
        json_object_object_add(chunk, "error", coin(random) ? json_object_new_object() : NULL);
    }
    return chunk;
}

static void scanner_agrees_with_a_full_parse(void **state)
{
    (void)state;
    struct random random = random_stream(2, "chunks", 0);
    struct http_buffer stream = {0};
    size_t with_content = 0;
    for (uint32_t round = 0; round < 150; round++) {
        struct events want = {0};
        http_buffer_clear(&stream);
        for (int64_t n = random_range(&random, 1, 3); n > 0; n--) {
            static const char *const before[] = {
                "data: ", "data:", ": ping\n\ndata: ", "event: x\nid: 1\ndata: "};
            struct json_object *chunk = random_chunk(&random);
            const char *text = json_object_to_json_string_ext(
                chunk, coin(&random) ? JSON_C_TO_STRING_PLAIN : JSON_C_TO_STRING_SPACED);
            want.event[want.count] = oracle(text);
            with_content += want.event[want.count].has_content;
            want.count++;
            http_buffer_text(&stream, before[random_range(&random, 0, 3)]);
            http_buffer_text(&stream, text);
            http_buffer_text(&stream, coin(&random) ? "\n\n" : "\r\n\r\n");
            json_object_put(chunk);
        }
        http_buffer_text(&stream, "data: [DONE]\n\n");
        want.event[want.count] = (struct sse_event){.done = true};
        want.count++;
        assert_scans_to(stream.data, stream.bytes, &want);
    }
    assert_true(with_content > 20);
    http_buffer_free(&stream);
}

static void scanner_reads_what_the_writer_writes(void **state)
{
    (void)state;
    struct sse_writer w = {0};
    struct http_buffer out = {0};
    sse_writer_open(&w, &(struct sse_stream_options){true, "chatcmpl-1", "m", 1, true, false});
    sse_write_head(&out, 0, true);
    sse_write_role(&w, &out, 0, 4);
    sse_write_delta(&w, &out, &(struct sse_delta){.text = "\"}\\", .text_bytes = 3});
    sse_write_delta(&w, &out,
                    &(struct sse_delta){.text = "", .finish_reason = "stop", .stop_token_id = -1});
    sse_write_usage(&w, &out, 4, 2);
    sse_write_done(&out);
    struct events want = {
        .event = {{.choices_count = 1},
                  {.choices_count = 1, .has_content = true},
                  {.choices_count = 1, .has_finish = true},
                  {.has_usage = true, .prompt_tokens = 4, .completion_tokens = 2},
                  {.done = true}},
        .count = 5,
    };
    struct http_buffer body = body_of(&out);
    assert_scans_to(body.data, body.bytes, &want);
    http_buffer_free(&body);
    http_buffer_free(&out);
    sse_writer_free(&w);
}

static void scanner_notices_broken_events(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "data: {\n\n",
        "data: \n\n",
        "data:\n\n",
        "data: [DONE] x\n\n",
        "data: [1]\n\n",
        "data: {\"choices\":[{\"text\":\"a\"}\n\n",
        "data: {\"choices\":[{\"text\":\"a\"}]} x\n\n",
        "data: {\"a\" 1}\n\n",
        "data: {\"a\":1 \"b\":2}\n\n",
        "data: {\"choices\":[{\"text\":\"a\\\"}]}\n\n",
        "data: {\"choices\":[,]}\n\n",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct events want = {.event = {{.malformed = true}}, .count = 1};
        assert_scans_to(broken[i], strlen(broken[i]), &want);
    }
    /* an event whose data is spread over lines is joined; what has no data line is no event */
    static const char joined[] =
        "retry: 1\n\ndata: {\"choices\":\ndata: [{\"text\":\ndata: \"x\"}]}\n\ndata: [DONE]";
    struct events want = {.event = {{.choices_count = 1, .has_content = true}}, .count = 1};
    assert_scans_to(joined, strlen(joined), &want);
}

static void scanner_limits_split_events_and_goes_on(void **state)
{
    (void)state;
    static const struct {
        size_t text_bytes;
        size_t step;
        bool malformed;
    } cases[] = {
        {60000, 1000, false},  {70000, 1000, true},  {200000, 1 << 20, false},
        {200000, 70000, true}, {66000, 65999, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_buffer stream = {0};
        http_buffer_text(&stream, "data: {\"choices\":[{\"text\":\"");
        for (size_t n = 0; n < cases[i].text_bytes; n++) {
            http_buffer_append(&stream, "x", 1);
        }
        http_buffer_text(&stream, "\"}]}\n\ndata: [DONE]\n\n");
        struct events want = {.event = {{.malformed = true}, {.done = true}}, .count = 2};
        if (!cases[i].malformed) {
            want.event[0] = (struct sse_event){.choices_count = 1, .has_content = true};
        }
        struct events got;
        scan_split(stream.data, stream.bytes, 0, cases[i].step, &got);
        assert_events_equal(&got, &want);
        http_buffer_free(&stream);
    }
}

static void reset_forgets_half_an_event(void **state)
{
    (void)state;
    struct sse_scanner s = {0};
    struct events events = {0};
    scan_piece(&s, "data: {\"x\":", 11, &events);
    sse_scanner_reset(&s);
    scan_piece(&s, "data: {\"y\":1}\n", 14, &events);
    sse_scanner_reset(&s);
    scan_piece(&s, "\ndata: [DONE]\n\n", 15, &events);
    assert_int_equal(events.count, 1);
    assert_true(events.event[0].done);
    sse_scanner_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_back_as_it_went_in),
        cmocka_unit_test(invalid_utf8_is_replaced_by_maximal_pieces),
        cmocka_unit_test(completion_stream_is_byte_exact),
        cmocka_unit_test(choices_are_told_apart_by_their_index),
        cmocka_unit_test(chat_stream_has_role_stop_reason_and_usage),
        cmocka_unit_test(scanner_agrees_with_a_full_parse),
        cmocka_unit_test(scanner_reads_what_the_writer_writes),
        cmocka_unit_test(scanner_notices_broken_events),
        cmocka_unit_test(scanner_limits_split_events_and_goes_on),
        cmocka_unit_test(reset_forgets_half_an_event),
    };
    return cmocka_run_group_tests_name("sse", tests, NULL, NULL);
}
