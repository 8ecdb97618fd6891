/*
 * http_response_fuzz.c - the client parser with the event scanner behind it: the first byte chooses
 * how the rest is cut into reads; bodies and events must be those of the uncut input.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/http/http_parser.h"
#include "engine/http/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sink {
    struct http_buffer log;
    struct http_buffer events;
    struct sse_scanner scanner;
};

static void on_head(void *ctx, const struct http_response_head *head)
{
    struct sink *sink = ctx;
    sse_scanner_reset(&sink->scanner);
    http_buffer_i64(&sink->log, head->http_status);
    http_buffer_text(&sink->log, head->content_type);
    http_buffer_i64(&sink->log, head->api_server);
    http_buffer_i64(&sink->log, head->content_length);
}

static void on_body(void *ctx, const char *data, size_t bytes)
{
    struct sink *sink = ctx;
    size_t at = 0;
    struct sse_event event;
    http_buffer_append(&sink->log, data, bytes);
    while (sse_scanner_next(&sink->scanner, data, bytes, &at, &event)) {
        unsigned flags = (event.done ? 1U : 0U) | (event.malformed ? 2U : 0U) |
                         (event.has_content ? 4U : 0U) | (event.has_finish ? 8U : 0U) |
                         (event.has_error ? 16U : 0U) | (event.has_usage ? 32U : 0U);
        http_buffer_u64(&sink->events, flags);
        http_buffer_u64(&sink->events, event.choices_count);
        http_buffer_u64(&sink->events, event.token_ids_count);
        http_buffer_u64(&sink->events, event.prompt_tokens);
        http_buffer_u64(&sink->events, event.completion_tokens);
    }
    ASSERT(at == bytes);
}

/* One read, in memory of its own. */
static enum http_feed feed_piece(struct http_client_parser *p, const char *data, size_t bytes,
                                 struct sink *sink)
{
    char *copy = malloc(bytes);
    enum http_feed feed = HTTP_FEED_MORE;
    ASSERT(copy != NULL);
    memcpy(copy, data, bytes);
    for (size_t done = 0; done < bytes && feed != HTTP_FEED_ERROR;) {
        size_t used;
        feed = http_client_feed(p, copy + done, bytes - done, &used);
        ASSERT(used <= bytes - done);
        done += used;
        http_buffer_text(&sink->log, feed == HTTP_FEED_COMPLETE ? "|" : "");
    }
    free(copy);
    return feed;
}

static void run(struct sink *sink, const char *text, size_t bytes, size_t step)
{
    struct http_client_handlers handlers = {sink, on_head, on_body};
    struct http_client_parser *p = NULL;
    enum http_feed feed = HTTP_FEED_MORE;
    ASSERT(http_client_create(&handlers, &p, NULL) == STATUS_OK);
    for (size_t at = 0; at < bytes && feed != HTTP_FEED_ERROR;) {
        size_t piece = step < bytes - at ? step : bytes - at;
        feed = feed_piece(p, text + at, piece, sink);
        at += piece;
    }
    http_buffer_u64(&sink->log, http_client_eof(p));
    http_client_destroy(p);
}

static void compare(const struct http_buffer *a, const struct http_buffer *b)
{
    ASSERT(a->bytes == b->bytes);
    ASSERT(a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
}

static void sink_free(struct sink *sink)
{
    http_buffer_free(&sink->log);
    http_buffer_free(&sink->events);
    sse_scanner_free(&sink->scanner);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* beyond this a split event may be refused that a whole one is not */
    if (size < 2 || size > SSE_EVENT_BYTES_MAX) {
        return 0;
    }
    struct sink whole = {0};
    struct sink cut = {0};
    run(&whole, (const char *)data + 1, size - 1, size - 1);
    run(&cut, (const char *)data + 1, size - 1, (size_t)data[0] + 1);
    compare(&whole.log, &cut.log);
    compare(&whole.events, &cut.events);
    sink_free(&whole);
    sink_free(&cut);
    return 0;
}
