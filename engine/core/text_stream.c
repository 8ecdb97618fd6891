/*
 * text_stream.c - hold-back and stop-string search over the text of one request. Driven by
 * frontend.c; owns no memory (the buffer is lent), and must not depend on how the text is cut into
 * tokens or takes.
 */
#include "engine/core/text_stream.h"

#include <string.h>

#include "engine/base/status.h"

void text_stream_start(struct text_stream *t, char *buffer, uint32_t cap_bytes)
{
    /* Not a whole-struct assignment: the stop strings' bytes need no clearing. */
    t->buffer = buffer;
    t->cap_bytes = buffer == NULL ? 0 : cap_bytes;
    t->bytes = 0;
    t->taken = 0;
    t->released = 0;
    t->longest_stop_bytes = 0;
    t->stop_count = 0;
    t->include_stop = false;
    t->hit = NULL;
}

void text_stream_stops(struct text_stream *t, const char *const *stop, uint32_t stop_count,
                       bool include_stop)
{
    ASSERT(stop_count <= TEXT_STOPS_MAX);
    t->stop_count = stop_count;
    t->include_stop = include_stop;
    for (uint32_t i = 0; i < stop_count; i++) {
        size_t bytes = strlen(stop[i]);
        ASSERT(bytes > 0 && bytes < TEXT_STOP_BYTES_MAX);
        memcpy(t->stop[i], stop[i], bytes + 1);
        t->stop_bytes[i] = (uint32_t)bytes;
        if (t->stop_bytes[i] > t->longest_stop_bytes) {
            t->longest_stop_bytes = t->stop_bytes[i];
        }
    }
}

/* Bytes at the end of the text in which a stop string may have begun that has not ended. */
static uint32_t open_bytes(const struct text_stream *t)
{
    return t->longest_stop_bytes == 0 ? 0 : t->longest_stop_bytes - 1;
}

char *text_stream_room(struct text_stream *t, uint32_t *cap_bytes)
{
    /* Of the bytes taken, those in which an included stop string may have begun are still needed.
     */
    uint32_t keep = t->include_stop ? open_bytes(t) : 0;
    if (t->taken > keep) {
        uint32_t drop = t->taken - keep;
        memmove(t->buffer, t->buffer + drop, t->bytes - drop);
        t->bytes -= drop;
        t->taken -= drop;
        t->released -= drop;
    }
    *cap_bytes = t->cap_bytes - t->bytes;
    return t->buffer == NULL ? NULL : t->buffer + t->bytes;
}

/* The stop string that ends exactly at `end`, or STOPS_MAX. */
static uint32_t stop_at(const struct text_stream *t, uint32_t end)
{
    for (uint32_t i = 0; i < t->stop_count; i++) {
        uint32_t bytes = t->stop_bytes[i];
        if (bytes <= end && memcmp(t->buffer + end - bytes, t->stop[i], bytes) == 0) {
            return i;
        }
    }
    return TEXT_STOPS_MAX;
}

/* Releases up to `end`, drawn back to the beginning of a UTF-8 character. */
static void release(struct text_stream *t, uint32_t end)
{
    while (end > t->released && end < t->bytes &&
           ((unsigned char)t->buffer[end] & 0xc0U) == 0x80U) {
        end--;
    }
    if (end > t->released) {
        t->released = end;
    }
}

/* Ends the text at the first stop string that ends behind `from`; false if there is none. */
static bool stop_behind(struct text_stream *t, uint32_t from)
{
    for (uint32_t end = from + 1; end <= t->bytes; end++) {
        uint32_t i = stop_at(t, end);
        if (i == TEXT_STOPS_MAX) {
            continue;
        }
        t->hit = t->stop[i];
        t->bytes = t->include_stop ? end : end - t->stop_bytes[i];
        ASSERT(t->bytes >= t->taken);
        t->released = t->bytes;
        return true;
    }
    return false;
}

bool text_stream_added(struct text_stream *t, uint32_t bytes, bool search)
{
    ASSERT(bytes <= t->cap_bytes - t->bytes);
    uint32_t from = t->bytes;
    t->bytes += bytes;
    if (search && t->stop_count > 0 && stop_behind(t, from)) {
        return true;
    }
    uint32_t hold = t->include_stop ? 0 : open_bytes(t);
    if (t->bytes > hold) {
        release(t, t->bytes - hold);
    }
    return false;
}

void text_stream_end(struct text_stream *t)
{
    t->released = t->bytes;
}

const char *text_stream_take(struct text_stream *t, uint32_t *bytes)
{
    *bytes = t->released - t->taken;
    const char *text = t->buffer == NULL ? NULL : t->buffer + t->taken;
    t->taken = t->released;
    return text;
}
