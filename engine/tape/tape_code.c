/*
 * tape_code.c - fields to bytes and back (tape_code.h). Driven by the walks of tape_message.c and
 * of the taped objects. It must not trust what it reads: no count and no length is believed before
 * it was held against the bytes that are there.
 */
#include "engine/tape/tape_code.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    VARINT_BITS = 7,
    VARINT_MORE = 0x80,
    VARINT_BYTES_MAX = 10,
    CAP_BYTES_FIRST = 4096,
    PRINTED_ITEMS_MAX = 16, /* of an array of numbers */
};

struct tape_room {
    struct tape_room *next;
    _Alignas(16) unsigned char data[];
};

static void free_rooms(struct tape_code *c)
{
    while (c->rooms != NULL) {
        struct tape_room *next = c->rooms->next;
        free(c->rooms);
        c->rooms = next;
    }
}

void tape_code_write(struct tape_code *c)
{
    c->reading = false;
    c->bytes = 0;
}

void tape_code_read(struct tape_code *c, const void *data, size_t bytes)
{
    free_rooms(c);
    c->reading = true;
    c->failed = false;
    c->at = data;
    c->end = c->at + bytes;
}

void tape_code_free(struct tape_code *c)
{
    free_rooms(c);
    free(c->data);
    *c = (struct tape_code){0};
}

/* ---- bytes ---- */

static unsigned char *put(struct tape_code *c, size_t bytes)
{
    if (c->cap_bytes - c->bytes < bytes) {
        size_t cap = c->cap_bytes == 0 ? CAP_BYTES_FIRST : c->cap_bytes;
        while (cap - c->bytes < bytes) {
            cap *= 2;
        }
        c->data = realloc(c->data, cap);
        ASSERT(c->data != NULL);
        c->cap_bytes = cap;
    }
    unsigned char *at = c->data + c->bytes;
    c->bytes += bytes;
    return at;
}

static void fail(struct tape_code *c)
{
    c->failed = true;
    c->at = c->end;
}

/* NULL: as many are not left. */
static const unsigned char *get(struct tape_code *c, size_t bytes)
{
    if ((size_t)(c->end - c->at) < bytes) {
        fail(c);
        return NULL;
    }
    const unsigned char *at = c->at;
    c->at += bytes;
    return at;
}

static void put_varint(struct tape_code *c, uint64_t value)
{
    unsigned char *at = put(c, VARINT_BYTES_MAX);
    size_t count = 0;
    while (value >= VARINT_MORE) {
        at[count++] = (unsigned char)(value | VARINT_MORE);
        value >>= VARINT_BITS;
    }
    at[count++] = (unsigned char)value;
    c->bytes -= VARINT_BYTES_MAX - count;
}

static uint64_t get_varint(struct tape_code *c)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < VARINT_BYTES_MAX && c->at < c->end; i++) {
        uint64_t byte = *c->at++;
        if (i + 1 == VARINT_BYTES_MAX && byte > 1) {
            break; /* more than 64 bits */
        }
        value |= (byte & (VARINT_MORE - 1)) << (i * VARINT_BITS);
        if (byte < VARINT_MORE) {
            return value;
        }
    }
    fail(c);
    return 0;
}

static uint64_t varint(struct tape_code *c, uint64_t value)
{
    if (c->reading) {
        return get_varint(c);
    }
    put_varint(c, value);
    return value;
}

static void raw(struct tape_code *c, void *value, size_t bytes)
{
    if (!c->reading) {
        memcpy(put(c, bytes), value, bytes);
        return;
    }
    const unsigned char *at = get(c, bytes);
    if (at != NULL) {
        memcpy(value, at, bytes);
    } else {
        memset(value, 0, bytes);
    }
}

void tape_code_append(struct tape_code *c, const struct tape_code *from)
{
    if (from->bytes > 0) {
        memcpy(put(c, from->bytes), from->data, from->bytes);
    }
}

/* ---- what people read ---- */

static bool prints(const struct tape_code *c)
{
    return c->reading && c->print != NULL && !c->failed;
}

void tape_mark(const struct tape_code *c, const char *text)
{
    if (prints(c)) {
        (void)fputs(text, c->print);
    }
}

/* As it is, but on one line and in ASCII. */
static void print_bytes(const struct tape_code *c, const char *name, const char *data, size_t bytes)
{
    (void)fprintf(c->print, " %s=\"", name);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)data[i];
        if (byte < ' ' || byte > '~' || byte == '"' || byte == '\\') {
            (void)fprintf(c->print, "\\x%02x", (unsigned)byte);
        } else {
            (void)fputc(byte, c->print);
        }
    }
    (void)fputc('"', c->print);
}

/* ---- fields ---- */

void tape_u64(struct tape_code *c, const char *name, uint64_t *value)
{
    *value = varint(c, *value);
    if (prints(c) && *value != 0) {
        (void)fprintf(c->print, " %s=%" PRIu64, name, *value);
    }
}

/* Small numbers of either sign are short: 0, -1, 1, -2, ... */
static int64_t signed_varint(struct tape_code *c, int64_t value)
{
    uint64_t sign = value < 0 ? UINT64_MAX : 0;
    uint64_t folded = varint(c, ((uint64_t)value << 1) ^ sign);
    return (int64_t)((folded >> 1) ^ (UINT64_MAX * (folded & 1)));
}

void tape_i64(struct tape_code *c, const char *name, int64_t *value)
{
    *value = signed_varint(c, *value);
    if (prints(c) && *value != 0) {
        (void)fprintf(c->print, " %s=%" PRId64, name, *value);
    }
}

void tape_u32(struct tape_code *c, const char *name, uint32_t *value)
{
    uint64_t wide = varint(c, *value);
    if (wide > UINT32_MAX) {
        fail(c);
        wide = 0;
    }
    *value = (uint32_t)wide;
    if (prints(c) && wide != 0) {
        (void)fprintf(c->print, " %s=%" PRIu64, name, wide);
    }
}

void tape_i32(struct tape_code *c, const char *name, int32_t *value)
{
    int64_t wide = *value;
    tape_i64(c, name, &wide);
    if (wide < INT32_MIN || wide > INT32_MAX) {
        fail(c);
        wide = 0;
    }
    *value = (int32_t)wide;
}

void tape_bool(struct tape_code *c, const char *name, bool *value)
{
    uint64_t wide = varint(c, *value ? 1 : 0);
    if (wide > 1) {
        fail(c);
        wide = 0;
    }
    *value = wide != 0;
    if (*value) {
        tape_mark(c, " ");
        tape_mark(c, name);
    }
}

void tape_time(struct tape_code *c, const char *name, time_ps *value)
{
    *value = signed_varint(c, *value);
    if (prints(c) && *value != 0) {
        const char *sign = *value < 0 ? "-" : "";
        uint64_t size = *value < 0 ? 0 - (uint64_t)*value : (uint64_t)*value;
        (void)fprintf(c->print, " %s=%s%" PRIu64 ".%012" PRIu64, name, sign,
                      size / (uint64_t)PS_PER_S, size % (uint64_t)PS_PER_S);
    }
}

void tape_now(struct tape_code *c, const char *name, time_ps *value)
{
    tape_time(c, name, value);
    if (c->reading && (*value < 0 || *value > TAPE_TIME_MAX)) {
        fail(c);
        *value = 0;
    }
}

void tape_f64(struct tape_code *c, const char *name, double *value)
{
    raw(c, value, sizeof *value);
    if (prints(c) && (*value < 0 || *value > 0)) {
        (void)fprintf(c->print, " %s=%.17g", name, *value);
    }
}

void tape_f32(struct tape_code *c, const char *name, float *value)
{
    raw(c, value, sizeof *value);
    if (prints(c) && (*value < 0 || *value > 0)) {
        (void)fprintf(c->print, " %s=%.9g", name, (double)*value);
    }
}

void tape_hash(struct tape_code *c, const char *name, uint64_t *value)
{
    raw(c, value, sizeof *value);
    if (prints(c) && *value != 0) {
        (void)fprintf(c->print, " %s=%016" PRIx64, name, *value);
    }
}

void tape_word(struct tape_code *c, const char *name, uint32_t *value, const char *const *words,
               uint32_t words_count)
{
    uint64_t wide = varint(c, *value);
    if (c->reading && wide >= words_count) {
        fail(c);
        wide = 0;
    }
    *value = (uint32_t)wide;
    if (prints(c)) {
        (void)fprintf(c->print, " %s=%s", name, words[wide]);
    }
}

void tape_text(struct tape_code *c, const char *name, const char **text)
{
    if (!c->reading) {
        size_t bytes = *text != NULL ? strlen(*text) + 1 : 0;
        put_varint(c, bytes);
        if (bytes > 0) {
            memcpy(put(c, bytes), *text, bytes);
        }
        return;
    }
    uint64_t bytes = get_varint(c);
    *text = NULL;
    if (bytes == 0) {
        return;
    }
    const unsigned char *at = bytes <= SIZE_MAX ? get(c, (size_t)bytes) : NULL;
    if (at == NULL || memchr(at, '\0', (size_t)bytes) != at + bytes - 1) {
        fail(c);
        return;
    }
    *text = (const char *)at;
    if (prints(c)) {
        print_bytes(c, name, *text, (size_t)bytes - 1);
    }
}

void tape_bytes(struct tape_code *c, const char *name, const char **data, uint32_t *bytes)
{
    uint32_t count = *bytes;
    tape_count(c, name, &count, 1);
    if (!c->reading) {
        if (count > 0) {
            memcpy(put(c, count), *data, count);
        }
        return;
    }
    *bytes = count;
    *data = (const char *)get(c, count);
    if (prints(c) && count > 0) {
        print_bytes(c, name, *data, count);
    }
}

void tape_count(struct tape_code *c, const char *name, uint32_t *count, uint32_t item_bytes_min)
{
    (void)name;
    uint64_t wide = varint(c, *count);
    if (c->reading && (wide > UINT32_MAX || wide * item_bytes_min > (size_t)(c->end - c->at))) {
        fail(c);
        wide = 0;
    }
    *count = (uint32_t)wide;
}

void *tape_room(struct tape_code *c, uint32_t count, size_t item_bytes)
{
    if (!c->reading || count == 0) {
        return NULL;
    }
    struct tape_room *room = calloc(1, sizeof *room + (size_t)count * item_bytes);
    ASSERT(room != NULL);
    room->next = c->rooms;
    c->rooms = room;
    return room->data;
}

void tape_u32s(struct tape_code *c, const char *name, const uint32_t **items, uint32_t *count)
{
    tape_count(c, name, count, 1);
    uint32_t *room = tape_room(c, *count, sizeof *room);
    uint64_t any = 0;
    for (uint32_t i = 0; i < *count; i++) {
        uint64_t value = varint(c, room != NULL ? 0 : (*items)[i]);
        any |= value;
        if (room != NULL) {
            room[i] = (uint32_t)value;
        }
    }
    if (any > UINT32_MAX) {
        fail(c);
    }
    if (c->reading) {
        *items = room;
    }
    if (!prints(c) || *count == 0) {
        return;
    }
    (void)fprintf(c->print, " %s=", name);
    for (uint32_t i = 0; i < *count && i < PRINTED_ITEMS_MAX; i++) {
        (void)fprintf(c->print, "%s%u", i > 0 ? "," : "", room[i]);
    }
    if (*count > PRINTED_ITEMS_MAX) {
        (void)fprintf(c->print, ",... (%u)", *count);
    }
}
