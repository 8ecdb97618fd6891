/*
 * http_request_fuzz.c - the server parser: the first byte chooses how the rest is cut into reads;
 * the requests found must be those of the uncut input.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/http/http_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(struct http_buffer *log, const struct http_request *q)
{
    http_buffer_text(log, q->method);
    http_buffer_text(log, q->path);
    http_buffer_text(log, q->query);
    http_buffer_text(log, q->request_id == NULL ? "" : q->request_id);
    http_buffer_i64(log, q->data_parallel_rank);
    http_buffer_u64(log, q->keep_alive);
    http_buffer_append(log, q->body, q->body_bytes);
}

/* One read, in memory of its own. */
static enum http_feed feed_piece(struct http_server_parser *p, const char *data, size_t bytes,
                                 struct http_buffer *log)
{
    char *copy = malloc(bytes);
    enum http_feed feed = HTTP_FEED_MORE;
    ASSERT(copy != NULL);
    memcpy(copy, data, bytes);
    for (size_t done = 0; done < bytes && feed != HTTP_FEED_ERROR;) {
        size_t used;
        struct http_request request;
        feed = http_server_feed(p, copy + done, bytes - done, &used, &request);
        ASSERT(used <= bytes - done);
        done += used;
        if (feed == HTTP_FEED_COMPLETE) {
            note(log, &request);
        }
    }
    (void)http_server_take_continue(p);
    free(copy);
    return feed;
}

/* Feeds reads of `step` bytes and notes every request; ends at the first refusal. */
static struct http_buffer run(const char *text, size_t bytes, size_t step)
{
    struct http_limits limits = {4096, 1024};
    struct http_server_parser *p = NULL;
    struct http_buffer log = {0};
    enum http_feed feed = HTTP_FEED_MORE;
    ASSERT(http_server_create(&limits, &p, NULL) == STATUS_OK);
    for (size_t at = 0; at < bytes && feed != HTTP_FEED_ERROR;) {
        size_t piece = step < bytes - at ? step : bytes - at;
        feed = feed_piece(p, text + at, piece, &log);
        at += piece;
    }
    /* Trailers that are too large and also no HTTP may be refused for either reason, whichever a
     * read shows first. */
    if (feed == HTTP_FEED_ERROR) {
        bool large_body = http_server_error(p).http_status == 413;
        http_buffer_text(&log, large_body ? "413" : "refused");
    }
    http_server_destroy(p);
    return log;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    struct http_buffer whole = run(text, size - 1, size - 1);
    struct http_buffer cut = run(text, size - 1, (size_t)data[0] + 1);
    ASSERT(whole.bytes == cut.bytes);
    ASSERT(whole.bytes == 0 || memcmp(whole.data, cut.data, whole.bytes) == 0);
    http_buffer_free(&whole);
    http_buffer_free(&cut);
    return 0;
}
