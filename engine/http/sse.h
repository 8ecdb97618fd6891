/*
 * sse.h - server-sent events of OpenAI-style streams: the writer of the API server and the scanner
 * of the load client.
 *
 * Writer: everything of an event that does not change within a request is rendered once by
 * sse_writer_open(); an event then is two copies and the escaped text between them, one HTTP chunk
 * an event. Order for a stream:
 *
 *     sse_write_head(&out, api_server, keep_alive);
 *     sse_write_role(&w, &out, index, prompt_tokens); // chat only, before the first delta
 *     sse_write_delta(&w, &out, &delta);              // each delta; the last has finish_reason
 *     sse_write_usage(&w, &out, prompt, completion);  // nothing unless include_usage
 *     sse_write_done(&out);                           // [DONE] and the last HTTP chunk
 *
 * Scanner: finds the events in body bytes as they come and reads from each only what a load client
 * records. It works in place; only an event that is split over two reads is copied.
 *
 *     size_t at = 0;
 *     while (sse_scanner_next(&s, data, bytes, &at, &event)) { ... }
 *
 * No I/O, no clock, no allocation for an event that came in one piece.
 */
#ifndef ENGINE_HTTP_SSE_H
#define ENGINE_HTTP_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/http/buffer.h"

enum {
    SSE_STOP_TOKEN_NONE = -1,
    SSE_EVENT_BYTES_MAX = 64 << 10, /* scanner: a longer split event is malformed */
};

struct sse_stream_options {
    bool chat;      /* chat.completion.chunk, else text_completion */
    const char *id; /* "cmpl-..." or "chatcmpl-..." */
    const char *model;
    int64_t created_s;     /* Unix seconds */
    bool include_usage;    /* a usage event behind the last delta */
    bool continuous_usage; /* usage in every delta too (only with include_usage) */
};

/* One writer a stream; zeroed before the first open; reused by opening it again. */
struct sse_writer {
    struct http_buffer pieces; /* the JSON up to a delta's text */
    size_t prefix_bytes;       /* all of it */
    size_t head_bytes;         /* up to and with "choices": */
    bool chat;
    bool include_usage;
    bool continuous_usage;
};

struct sse_delta {
    uint32_t index; /* of the choice */
    const char *text;
    size_t text_bytes;
    const char *finish_reason; /* "stop", "length", "abort", "error"; NULL: more to come */
    const char *stop_string;   /* stop_reason: the string that was hit, or NULL */
    int64_t stop_token_id;     /* stop_reason: the token that was hit, or SSE_STOP_TOKEN_NONE */
    uint64_t prompt_tokens;    /* for continuous usage */
    uint64_t completion_tokens;
};

void sse_writer_open(struct sse_writer *w, const struct sse_stream_options *options);
void sse_writer_free(struct sse_writer *w);

/* Status line and headers of a stream: chunked text/event-stream. */
void sse_write_head(struct http_buffer *out, int32_t api_server, bool keep_alive);
void sse_write_role(const struct sse_writer *w, struct http_buffer *out, uint32_t index,
                    uint64_t prompt_tokens);
void sse_write_delta(const struct sse_writer *w, struct http_buffer *out,
                     const struct sse_delta *delta);
void sse_write_usage(const struct sse_writer *w, struct http_buffer *out, uint64_t prompt_tokens,
                     uint64_t completion_tokens);
/* Any JSON as one event: errors in mid-stream (see openai_write_error()). */
void sse_write_event(struct http_buffer *out, const char *json, size_t json_bytes);
void sse_write_done(struct http_buffer *out);

/* What a load client needs of one `data:` event. */
struct sse_event {
    bool done;        /* [DONE] */
    bool malformed;   /* no JSON object, or longer than SSE_EVENT_BYTES_MAX over several reads; the
                         rest is zero */
    bool has_content; /* text, delta content, reasoning, tool calls or token ids that are not empty,
                         in any choice */
    bool has_finish;  /* a finish_reason that is a string, in any choice */
    bool has_error;   /* an "error" that is not null */
    bool has_usage;   /* a "usage" object; the counts below are 0 where it lacks them */
    uint32_t choices_count;
    uint32_t token_ids_count; /* elements of token_ids over all choices */
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
};

/* Zeroed before first use. */
struct sse_scanner {
    struct http_buffer carry; /* the data of an event that is not complete */
    struct http_buffer line;  /* the beginning of a line that is split over reads */
    bool oversized;
    bool has_data; /* carry holds at least one data line (which may be empty) */
};

/* Scans data[*at..bytes). True: *event is the next event, *at stands behind it. False: all was
 * used. */
bool sse_scanner_next(struct sse_scanner *s, const char *data, size_t bytes, size_t *at,
                      struct sse_event *event);
/* Forgets a half event; memory is kept: for the next response. */
void sse_scanner_reset(struct sse_scanner *s);
void sse_scanner_free(struct sse_scanner *s);

#endif
