/*
 * http_parser_test.c - both HTTP parsers: every input gives the same events however it is cut into
 * reads (each piece in memory of its own, gone when the feed returns), limits are exact, and broken
 * input is refused with the right status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/http/http_parser.h"

static char *copy_of(const char *data, size_t bytes)
{
    char *piece = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(piece);
    memcpy(piece, data, bytes);
    return piece;
}

/* --- server --- */

static void log_request(struct http_buffer *log, const struct http_request *q)
{
    char line[256];
    (void)snprintf(line, sizeof line,
                   "%d %s %s ?%s id=%s rank=%d keep=%d chunked=%d body=%zu:", (int)q->verb,
                   q->method, q->path, q->query, q->request_id == NULL ? "-" : q->request_id,
                   q->data_parallel_rank, q->keep_alive, q->chunked_allowed, q->body_bytes);
    http_buffer_text(log, line);
    http_buffer_append(log, q->body, q->body_bytes);
    http_buffer_text(log, "\n");
}

/* Feeds one read and logs what comes of it. */
static void serve(struct http_server_parser *p, const char *data, size_t bytes,
                  struct http_buffer *log)
{
    char *piece = copy_of(data, bytes);
    size_t at = 0;
    enum http_feed feed;
    do {
        size_t used;
        struct http_request request;
        feed = http_server_feed(p, piece + at, bytes - at, &used, &request);
        assert_true(used <= bytes - at);
        at += used;
        if (feed == HTTP_FEED_COMPLETE) {
            assert_int_equal(http_server_stage(p), HTTP_STAGE_IDLE);
            log_request(log, &request);
        }
    } while (feed == HTTP_FEED_COMPLETE && at < bytes);
    if (feed == HTTP_FEED_MORE) {
        assert_int_equal(at, bytes);
    }
    if (feed == HTTP_FEED_ERROR && memmem(log->data, log->bytes, "error", 5) == NULL) {
        char line[32];
        (void)snprintf(line, sizeof line, "error %d\n", http_server_error(p).http_status);
        http_buffer_text(log, line);
        assert_true(strlen(http_server_error(p).message) > 0);
    }
    /* a terminating NUL behind the log, for comparison */
    http_buffer_append(log, "", 1);
    log->bytes--;
    free(piece);
}

static struct http_server_parser *server(size_t body_max, size_t head_max)
{
    struct http_limits limits = {body_max, head_max};
    struct http_server_parser *p;
    assert_int_equal(http_server_create(&limits, &p, NULL), STATUS_OK);
    return p;
}

/* The log of `text` cut into reads of `step` bytes behind a first one of `first` bytes. */
static char *server_log(const char *text, size_t bytes, size_t first, size_t step)
{
    struct http_buffer log = {0};
    struct http_server_parser *p = server(1000, 500);
    size_t at = 0;
    http_buffer_reserve(&log, 1);
    serve(p, text, 0, &log);
    while (at < bytes) {
        size_t want = at == 0 && first > 0 ? first : step;
        size_t piece = want < bytes - at ? want : bytes - at;
        serve(p, text + at, piece, &log);
        at += piece;
    }
    http_server_destroy(p);
    return log.data;
}

struct server_case {
    const char *text;
    const char *log;
};

static const struct server_case server_cases[] = {
    {"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
     "0 GET /health ? id=- rank=-1 keep=1 chunked=1 body=0:\n"},
    {"POST /v1/completions?x=1&y HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\n"
     "x-data-parallel-rank: 3\r\nContent-Length: 11\r\n\r\nhello\r\nfoo!",
     "1 POST /v1/completions ?x=1&y id=abc rank=3 keep=1 chunked=1 body=11:hello\r\nfoo!\n"},
    {"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5;ext=1\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\nX-Request-Id: trailer\r\n\r\n"
     "GET /b HTTP/1.1\r\nConnection: close\r\n\r\n",
     "1 POST /a ? id=- rank=-1 keep=1 chunked=1 body=12:hello, world\n"
     "0 GET /b ? id=- rank=-1 keep=0 chunked=1 body=0:\n"},
    {"POST /a HTTP/1.1\r\nContent-Length: 3\r\nX-Request-Id: one\r\n\r\nabc"
     "POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nde"
     "\r\nDELETE /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
     "1 POST /a ? id=one rank=-1 keep=1 chunked=1 body=3:abc\n"
     "1 POST /b ? id=- rank=-1 keep=1 chunked=1 body=2:de\n"
     "2 DELETE /c ? id=- rank=-1 keep=1 chunked=1 body=0:\n"},
    {"GET /old HTTP/1.0\r\n\r\n", "0 GET /old ? id=- rank=-1 keep=0 chunked=0 body=0:\n"},
    {"GET http://host:80/v1/models?q HTTP/1.1\r\nX-Data-Parallel-Rank: -1\r\n\r\n",
     "0 GET /v1/models ?q id=- rank=-2147483648 keep=1 chunked=1 body=0:\n"},
    {"GET http://host HTTP/1.1\r\nX-Data-Parallel-Rank: 99999999999999999999\r\n\r\n",
     "0 GET / ? id=- rank=2147483647 keep=1 chunked=1 body=0:\n"},
    {"GET / HTTP/1.1\r\nX-Data-Parallel-Rank: two\r\nX-Request-Id: 1\r\nX-Request-Id: 2\r\n\r\n",
     "0 GET / ? id=2 rank=-1 keep=1 chunked=1 body=0:\n"},
    {"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
     "GET /next HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
     "GET /last HTTP/1.1\r\n\r\n",
     "1 POST / ? id=- rank=-1 keep=1 chunked=1 body=2:ok\n"
     "0 GET /next ? id=- rank=-1 keep=1 chunked=1 body=0:\n"
     "0 GET /last ? id=- rank=-1 keep=1 chunked=1 body=0:\n"},
    {"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", "error 413\n"},
    {"POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", "error 400\n"},
    {"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "error 400\n"},
    {"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "error 400\n"},
    {"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nab", "error 400\n"},
    {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "error 400\n"},
    {"BREW / HTTP/1.1\r\n\r\n", "error 400\n"},
    {"GET / HTTP/2.0\r\n\r\n", "error 400\n"},
    {"GET /ok HTTP/1.1\r\n\r\n\x16\x03\x01", "0 GET /ok ? id=- rank=-1 keep=1 chunked=1 body=0:\n"
                                             "error 400\n"},
};

static void server_events_do_not_depend_on_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof server_cases / sizeof server_cases[0]; i++) {
        const char *text = server_cases[i].text;
        size_t bytes = strlen(text);
        for (size_t first = 0; first <= bytes; first++) {
            char *log = server_log(text, bytes, first, bytes);
            assert_string_equal(log, server_cases[i].log);
            free(log);
        }
        for (size_t step = 1; step < 8; step++) {
            char *log = server_log(text, bytes, 0, step);
            assert_string_equal(log, server_cases[i].log);
            free(log);
        }
    }
}

/* A request whose head has `head_bytes` bytes. */
static char *request_with_head(size_t head_bytes)
{
    static const char before[] = "GET / HTTP/1.1\r\nX: ";
    char *text = malloc(head_bytes + 1);
    assert_non_null(text);
    memset(text, 'x', head_bytes);
    memcpy(text, before, sizeof before - 1);
    memcpy(text + head_bytes - 4, "\r\n\r\n", 5);
    return text;
}

static void head_limit_is_exact(void **state)
{
    (void)state;
    for (size_t bytes = 490; bytes <= 510; bytes++) {
        const char *want =
            bytes <= 500 ? "0 GET / ? id=- rank=-1 keep=1 chunked=1 body=0:\n" : "error 431\n";
        char *text = request_with_head(bytes);
        for (size_t step = 1; step <= bytes; step += 101) {
            char *log = server_log(text, bytes, 0, step);
            assert_string_equal(log, want);
            free(log);
        }
        free(text);
    }
}

/* Status of a request with a body of `body_bytes`, 200 if it is complete. */
static int body_status(size_t body_bytes, bool chunked, size_t step)
{
    char head[128];
    (void)snprintf(head, sizeof head,
                   chunked ? "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n"
                           : "POST / HTTP/1.1\r\nContent-Length: %zu\r\n\r\n",
                   body_bytes);
    struct http_buffer text = {0};
    http_buffer_text(&text, head);
    for (size_t i = 0; i < body_bytes; i++) {
        http_buffer_text(&text, "b");
    }
    http_buffer_text(&text, chunked ? "\r\n0\r\n\r\n" : "");
    struct http_server_parser *p = server(1000, 500);
    struct http_request request;
    enum http_feed feed = HTTP_FEED_MORE;
    for (size_t at = 0; at < text.bytes && feed == HTTP_FEED_MORE;) {
        size_t used;
        size_t piece = step < text.bytes - at ? step : text.bytes - at;
        feed = http_server_feed(p, text.data + at, piece, &used, &request);
        at += used;
    }
    int status = feed == HTTP_FEED_COMPLETE ? 200 : http_server_error(p).http_status;
    if (status == 200) {
        assert_int_equal(request.body_bytes, body_bytes);
        for (size_t i = 0; i < body_bytes; i++) {
            assert_int_equal(request.body[i], 'b');
        }
    }
    http_server_destroy(p);
    http_buffer_free(&text);
    return status;
}

static void body_limit_is_exact(void **state)
{
    (void)state;
    for (size_t step = 1; step < 2000; step += 333) {
        assert_int_equal(body_status(1000, false, step), 200);
        assert_int_equal(body_status(1001, false, step), 413);
        assert_int_equal(body_status(1000, true, step), 200);
        assert_int_equal(body_status(1001, true, step), 413);
    }
}

static void trailers_and_extensions_have_an_end(void **state)
{
    (void)state;
    static const char *const fillers[] = {"0\r\nX: ", "1;x="};
    for (size_t i = 0; i < 2; i++) {
        struct http_server_parser *p = server(1000, 500);
        struct http_request request;
        size_t used;
        const char *head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_int_equal(http_server_feed(p, head, strlen(head), &used, &request), HTTP_FEED_MORE);
        assert_int_equal(http_server_feed(p, fillers[i], strlen(fillers[i]), &used, &request),
                         HTTP_FEED_MORE);
        enum http_feed feed = HTTP_FEED_MORE;
        size_t fed = 0;
        while (feed == HTTP_FEED_MORE && fed < 100000) {
            feed = http_server_feed(p, "yyyyyyyy", 8, &used, &request);
            fed += 8;
        }
        assert_int_equal(feed, HTTP_FEED_ERROR);
        assert_int_equal(http_server_error(p).http_status, 431);
        assert_true(fed < 600);
        http_server_destroy(p);
    }
}

static void body_in_one_read_is_not_copied(void **state)
{
    (void)state;
    const char *text = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    struct http_server_parser *p = server(0, 0);
    struct http_request request;
    size_t used;
    assert_int_equal(http_server_feed(p, text, strlen(text), &used, &request), HTTP_FEED_COMPLETE);
    assert_ptr_equal(request.body, text + strlen(text) - 4);
    http_server_destroy(p);
}

static void default_limits_are_those_documented(void **state)
{
    (void)state;
    struct http_server_parser *p = server(0, 0);
    struct http_request request;
    size_t used;
    const char *fits = "POST / HTTP/1.1\r\nContent-Length: 33554432\r\n\r\n";
    const char *over = "POST / HTTP/1.1\r\nContent-Length: 33554433\r\n\r\n";
    assert_int_equal(http_server_feed(p, fits, strlen(fits), &used, &request), HTTP_FEED_MORE);
    http_server_reset(p);
    assert_int_equal(http_server_feed(p, over, strlen(over), &used, &request), HTTP_FEED_ERROR);
    http_server_reset(p);
    char *text = request_with_head(65536);
    assert_int_equal(http_server_feed(p, text, 65536, &used, &request), HTTP_FEED_COMPLETE);
    free(text);
    text = request_with_head(65537);
    assert_int_equal(http_server_feed(p, text, 65537, &used, &request), HTTP_FEED_ERROR);
    free(text);
    http_server_destroy(p);
}

static void stage_and_continue_follow_the_request(void **state)
{
    (void)state;
    struct http_server_parser *p = server(0, 0);
    struct http_request request;
    size_t used;
    assert_int_equal(http_server_stage(p), HTTP_STAGE_IDLE);
    assert_int_equal(http_server_feed(p, "PO", 2, &used, &request), HTTP_FEED_MORE);
    assert_int_equal(http_server_stage(p), HTTP_STAGE_HEAD);
    assert_false(http_server_take_continue(p));
    const char *head = "ST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    assert_int_equal(http_server_feed(p, head, strlen(head), &used, &request), HTTP_FEED_MORE);
    assert_int_equal(http_server_stage(p), HTTP_STAGE_BODY);
    assert_true(http_server_take_continue(p));
    assert_false(http_server_take_continue(p));
    assert_int_equal(http_server_feed(p, "ab", 2, &used, &request), HTTP_FEED_COMPLETE);
    assert_int_equal(http_server_stage(p), HTTP_STAGE_IDLE);
    /* a client that sends the body at once waits for nothing */
    const char *all = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\na";
    assert_int_equal(http_server_feed(p, all, strlen(all), &used, &request), HTTP_FEED_MORE);
    assert_false(http_server_take_continue(p));
    http_server_destroy(p);
}

/* --- client --- */

struct sink {
    struct http_buffer log;
    struct http_buffer body;
};

static void sink_head(void *ctx, const struct http_response_head *head)
{
    struct sink *sink = ctx;
    char line[256];
    (void)snprintf(line, sizeof line, "%d type=%s api=%d length=%lld chunked=%d\n",
                   head->http_status, head->content_type, head->api_server,
                   (long long)head->content_length, head->chunked);
    http_buffer_text(&sink->log, line);
}

static void sink_body(void *ctx, const char *data, size_t bytes)
{
    struct sink *sink = ctx;
    http_buffer_append(&sink->body, data, bytes);
}

static void sink_end(struct sink *sink, const char *how, bool keep_alive)
{
    http_buffer_text(&sink->log, "body=");
    http_buffer_append(&sink->log, sink->body.data, sink->body.bytes);
    http_buffer_clear(&sink->body);
    http_buffer_text(&sink->log, how);
    http_buffer_text(&sink->log, keep_alive ? " keep\n" : "\n");
}

static void receive(struct http_client_parser *p, struct sink *sink, const char *data, size_t bytes)
{
    char *piece = copy_of(data, bytes);
    size_t at = 0;
    while (at < bytes) {
        size_t used;
        enum http_feed feed = http_client_feed(p, piece + at, bytes - at, &used);
        at += used;
        if (feed == HTTP_FEED_COMPLETE) {
            sink_end(sink, " end", http_client_keep_alive(p));
        } else if (feed == HTTP_FEED_ERROR) {
            break;
        } else {
            assert_int_equal(at, bytes);
        }
    }
    free(piece);
}

static char *client_log(const char *text, size_t bytes, size_t first, size_t step)
{
    struct sink sink = {0};
    struct http_client_handlers handlers = {&sink, sink_head, sink_body};
    struct http_client_parser *p;
    assert_int_equal(http_client_create(&handlers, &p, NULL), STATUS_OK);
    size_t at = 0;
    while (at < bytes) {
        size_t want = at == 0 && first > 0 ? first : step;
        size_t piece = want < bytes - at ? want : bytes - at;
        receive(p, &sink, text + at, piece);
        at += piece;
    }
    switch (http_client_eof(p)) {
    case HTTP_FEED_COMPLETE:
        sink_end(&sink, " eof", http_client_keep_alive(p));
        break;
    case HTTP_FEED_ERROR:
        assert_true(strlen(http_client_error(p)) > 0);
        sink_end(&sink, " error", false);
        break;
    case HTTP_FEED_MORE:
    default:
        break;
    }
    http_client_destroy(p);
    http_buffer_free(&sink.body);
    http_buffer_append(&sink.log, "", 1);
    return sink.log.data;
}

static const struct server_case client_cases[] = {
    {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Api-Server: 7\r\n"
     "Content-Length: 2\r\n\r\n{}"
     "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
     "200 type=application/json api=7 length=2 chunked=0\nbody={} end keep\n"
     "404 type= api=-1 length=0 chunked=0\nbody= end\n"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"
     "00000003\r\nabc\r\n2\r\nde\r\n0\r\nContent-Type: trailer\r\n\r\n",
     "200 type=text/event-stream api=-1 length=-1 chunked=1\nbody=abcde end keep\n"},
    {"HTTP/1.0 200 OK\r\nX-Api-Server: x\r\n\r\nuntil close",
     "200 type= api=-1 length=-1 chunked=0\nbody=until close eof\n"},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!",
     "200 type= api=-1 length=1 chunked=0\nbody=! end keep\n"},
    {"HTTP/1.1 204 No Content\r\n\r\n", "204 type= api=-1 length=-1 chunked=0\nbody= end keep\n"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
     "200 type= api=-1 length=5 chunked=0\nbody=abc error\n"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
     "200 type= api=-1 length=-1 chunked=1\nbody=abc error\n"},
    {"HTTP/1.1 200 OK\r\nContent-Le", "body= error\n"},
    {"SSH-2.0-OpenSSH\r\n", "body= error\n"},
    {"", ""},
};

static void client_events_do_not_depend_on_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof client_cases / sizeof client_cases[0]; i++) {
        const char *text = client_cases[i].text;
        size_t bytes = strlen(text);
        for (size_t first = 0; first <= bytes; first++) {
            char *log = client_log(text, bytes, first, bytes);
            assert_string_equal(log, client_cases[i].log);
            free(log);
        }
        for (size_t step = 1; step < 8; step++) {
            char *log = client_log(text, bytes, 0, step);
            assert_string_equal(log, client_cases[i].log);
            free(log);
        }
    }
}

static void written_responses_read_back(void **state)
{
    (void)state;
    struct http_buffer out = {0};
    http_write_response(&out, &(struct http_response){200, NULL, 3, true, "{\"a\":1}", 7});
    http_write_response(
        &out, &(struct http_response){431, "text/plain", HTTP_API_SERVER_NONE, false, "no", 2});
    assert_false(out.failed);
    char *log = client_log(out.data, out.bytes, 0, out.bytes);
    assert_string_equal(log, "200 type=application/json api=3 length=7 chunked=0\n"
                             "body={\"a\":1} end keep\n"
                             "431 type=text/plain api=-1 length=2 chunked=0\nbody=no end\n");
    free(log);
    http_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_events_do_not_depend_on_splits),
        cmocka_unit_test(head_limit_is_exact),
        cmocka_unit_test(body_limit_is_exact),
        cmocka_unit_test(trailers_and_extensions_have_an_end),
        cmocka_unit_test(body_in_one_read_is_not_copied),
        cmocka_unit_test(default_limits_are_those_documented),
        cmocka_unit_test(stage_and_continue_follow_the_request),
        cmocka_unit_test(client_events_do_not_depend_on_splits),
        cmocka_unit_test(written_responses_read_back),
    };
    return cmocka_run_group_tests_name("http_parser", tests, NULL, NULL);
}
