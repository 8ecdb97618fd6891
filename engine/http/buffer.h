/*
 * buffer.h - the growing byte buffer that every writer of this room appends to, and the few
 * renderers they share.
 *
 * A buffer is owned by one connection and reused: http_buffer_clear() keeps its memory. Running out
 * of memory is latched
 * (`failed`), so that writers return nothing and the driver looks once, before it sends. No I/O, no
 * JSON parsing here.
 *
 *     struct http_buffer out = {0};
 *     http_buffer_text(&out, "{\"text\":\"");
 *     http_buffer_json(&out, text, text_bytes);
 *     http_buffer_text(&out, "\"}");
 *     if (out.failed) ... else send(out.data, out.bytes)
 */
#ifndef ENGINE_HTTP_BUFFER_H
#define ENGINE_HTTP_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_buffer {
    char *data;
    size_t bytes;
    size_t cap_bytes;
    bool failed; /* memory ran out: what is in the buffer is incomplete */
};

void http_buffer_free(struct http_buffer *b);
/* Empties the buffer and forgets a failure; memory is kept. */
void http_buffer_clear(struct http_buffer *b);
/* Makes room for `bytes` more and returns where they go, NULL when memory ran out. Advances
 * nothing. */
char *http_buffer_reserve(struct http_buffer *b, size_t bytes);
void http_buffer_append(struct http_buffer *b, const void *data, size_t bytes);
void http_buffer_text(struct http_buffer *b, const char *text);
void http_buffer_u64(struct http_buffer *b, uint64_t value);
void http_buffer_i64(struct http_buffer *b, int64_t value);
/* The inside of a JSON string: quotes, backslashes and control characters escaped, each maximal
 * piece of invalid UTF-8 replaced by U+FFFD. */
void http_buffer_json(struct http_buffer *b, const char *text, size_t bytes);
/* Whether text[0..bytes) is UTF-8 throughout: no overlong forms, no surrogates. */
bool http_utf8_valid(const char *text, size_t bytes);

#endif
