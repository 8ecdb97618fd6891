/*
 * text_stream.h - the text of one request between detokenizer and client: a buffer from which
 * finished text is taken in pieces, with a search for stop strings across every border of tokens
 * and pieces. Driven by frontend.c. It must not hand out a byte that a stop string may yet take
 * back, and it cuts no UTF-8 character in two.
 *
 *     text_stream_start(t, buffer, cap);
 *     text_stream_stops(t, stop, stop_count, include_stop);
 *     char *out = text_stream_room(t, &cap); write n bytes there;
 *     if (text_stream_added(t, n, true)) the request ends: t->hit names the stop string;
 *     text_stream_end(t);                     // nothing more comes: what was held back is released
 *     text = text_stream_take(t, &bytes);     // may be called at any time
 */
#ifndef ENGINE_CORE_TEXT_STREAM_H
#define ENGINE_CORE_TEXT_STREAM_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TEXT_STOPS_MAX = 4,
    TEXT_STOP_BYTES_MAX = 64, /* the NUL included */
};

struct text_stream {
    char *buffer; /* NULL: a stream without text */
    uint32_t cap_bytes;
    uint32_t bytes;    /* in the buffer */
    uint32_t taken;    /* the bytes before this one were taken; they are kept only for the search */
    uint32_t released; /* the bytes before this one may be taken */
    uint32_t longest_stop_bytes;
    uint32_t stop_count;
    uint32_t stop_bytes[TEXT_STOPS_MAX];
    bool include_stop; /* the stop string that ends the text is part of it */
    const char *hit;   /* the stop string that ended the text, or NULL */
    char stop[TEXT_STOPS_MAX][TEXT_STOP_BYTES_MAX];
};

void text_stream_start(struct text_stream *t, char *buffer, uint32_t cap_bytes);
/* Stop strings are copied: at most TEXT_STOPS_MAX, none empty, each shorter than
 * TEXT_STOP_BYTES_MAX (asserted). */
void text_stream_stops(struct text_stream *t, const char *const *stop, uint32_t stop_count,
                       bool include_stop);
/* Where the next text goes and how much fits. Invalidates what text_stream_take() gave. */
char *text_stream_room(struct text_stream *t, uint32_t *cap_bytes);
/*
 * `bytes` were written at text_stream_room(). With `search`, true if a stop string ends within
 * them: the earliest end counts, and the order of the list if several end there. The text then ends
 * before (or, included, after) it.
 */
bool text_stream_added(struct text_stream *t, uint32_t bytes, bool search);
void text_stream_end(struct text_stream *t);
/* The text released since the last take; borrowed until the next text_stream_room(). NULL if there
 * is no buffer. */
const char *text_stream_take(struct text_stream *t, uint32_t *bytes);

#endif
