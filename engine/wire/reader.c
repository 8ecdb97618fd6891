/*
 * reader.c - the decoder's memory and the reading of single MessagePack values (reader.h). Driven
 * by the decoders of this room; knows no message. Must not read a byte outside the body nor
 * allocate more than a fixed multiple of its length.
 */
#include "engine/wire/reader.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_BYTES_MIN = 4096,
    ALLOC_ALIGN = 16
};

/* Kinds of MessagePack values. */
enum kind {
    NIL,
    BOOLEAN,
    UINT,
    NEGATIVE,
    FLOAT32,
    FLOAT64,
    STR,
    BIN,
    ARRAY,
    MAP,
    EXT,
    BAD
};

/* A value's first bytes: all of a scalar, the header of the rest. */
struct head {
    enum kind kind;
    uint64_t
        bits; /* number, or count of bytes or elements; an EXT's count includes its type byte */
};

/* --- the decoder's memory: a chain of blocks, merged into one when the next message starts --- */

struct block {
    struct block *next;
    size_t used_bytes;
    size_t cap_bytes;
    _Alignas(ALLOC_ALIGN) unsigned char memory[];
};

struct wire_decoder {
    struct block *blocks; /* newest first */
};

static struct block *block_create(size_t cap_bytes, struct block *next)
{
    struct block *block = malloc(sizeof *block + cap_bytes);
    if (block != NULL) {
        block->next = next;
        block->used_bytes = 0;
        block->cap_bytes = cap_bytes;
    }
    return block;
}

enum status wire_decoder_create(struct wire_decoder **out, struct error *error)
{
    struct wire_decoder *d = malloc(sizeof *d);
    struct block *block = block_create(BLOCK_BYTES_MIN, NULL);
    if (d == NULL || block == NULL) {
        free(d);
        free(block);
        return error_set(error, STATUS_NOMEM, "no memory for a message decoder");
    }
    d->blocks = block;
    *out = d;
    return STATUS_OK;
}

static void blocks_free(struct block *block)
{
    while (block != NULL) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

void wire_decoder_free(struct wire_decoder *d)
{
    if (d != NULL) {
        blocks_free(d->blocks);
        free(d);
    }
}

static void decoder_reset(struct wire_decoder *d)
{
    if (d->blocks->next != NULL) {
        size_t cap_bytes = 0;
        for (const struct block *b = d->blocks; b != NULL; b = b->next) {
            cap_bytes += b->cap_bytes;
        }
        struct block *merged = block_create(cap_bytes, NULL);
        if (merged == NULL) { /* the newest block, the largest, is good enough */
            merged = d->blocks;
            blocks_free(merged->next);
            merged->next = NULL;
        } else {
            blocks_free(d->blocks);
        }
        d->blocks = merged;
    }
    d->blocks->used_bytes = 0;
}

void *wire_alloc(struct wire_reader *r, size_t count, size_t item_bytes)
{
    if (!wire_reader_ok(r)) {
        return NULL;
    }
    /* One byte at least, so that a pointer to nothing is still a pointer. */
    size_t bytes = (count * item_bytes + ALLOC_ALIGN) / ALLOC_ALIGN * ALLOC_ALIGN;
    struct block *block = r->decoder->blocks;
    if (bytes > block->cap_bytes - block->used_bytes) {
        size_t cap_bytes = block->cap_bytes * 2;
        block = block_create(cap_bytes > bytes ? cap_bytes : bytes, block);
        if (block == NULL) {
            wire_reader_fail(r, STATUS_NOMEM, "message", "no memory to decode it");
            return NULL;
        }
        r->decoder->blocks = block;
    }
    void *memory = block->memory + block->used_bytes;
    block->used_bytes += bytes;
    return memory;
}

/* --- reading --- */

void wire_reader_start(struct wire_reader *r, struct wire_decoder *d, const void *data,
                       size_t bytes)
{
    decoder_reset(d);
    r->at = data;
    r->end = data == NULL ? NULL : r->at + bytes;
    r->status = STATUS_OK;
    r->decoder = d;
}

void wire_reader_fail(struct wire_reader *r, enum status status, const char *field,
                      const char *text)
{
    if (wire_reader_ok(r)) {
        r->status = error_set(r->error, status, "%s: %s: %s", r->message, field, text);
    }
}

static void want(struct wire_reader *r, const char *field, const char *wanted, enum kind got)
{
    static const char *const names[] = {
        [NIL] = "nil",        [BOOLEAN] = "a bool",   [UINT] = "an integer",
        [BIN] = "bytes",      [STR] = "a string",     [NEGATIVE] = "a negative integer",
        [MAP] = "a map",      [FLOAT32] = "a float",  [FLOAT64] = "a float",
        [ARRAY] = "an array", [EXT] = "an extension", [BAD] = "no MessagePack",
    };
    if (wire_reader_ok(r)) {
        r->status = error_set(r->error, STATUS_PROTOCOL, "%s: %s: want %s, got %s", r->message,
                              field, wanted, names[got]);
    }
}

static void ends_early(struct wire_reader *r, const char *field)
{
    wire_reader_fail(r, STATUS_PROTOCOL, field, "the message ends too early");
}

enum status wire_reader_finish(struct wire_reader *r)
{
    if (r->at != r->end) {
        wire_reader_fail(r, STATUS_PROTOCOL, "message", "bytes behind its end");
    }
    return r->status;
}

static size_t left(const struct wire_reader *r)
{
    return (size_t)(r->end - r->at);
}

static uint64_t big_endian(const unsigned char *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static struct head signed_head(uint64_t bits, unsigned bytes)
{
    ASSERT(bytes > 0);
    if (((bits >> (8 * bytes - 1)) & 1) == 0) {
        return (struct head){UINT, bits};
    }
    return (struct head){NEGATIVE, bytes == 8 ? bits : bits | (UINT64_MAX << (8 * bytes))};
}

/* Kind of a lead byte from 0xc0 to 0xdf and how many bytes of number or count follow it. */
static const struct {
    unsigned char kind;
    unsigned char bytes;
} heads[32] = {
    {NIL, 0},   {BAD, 0},   {BOOLEAN, 0},  {BOOLEAN, 0},  {BIN, 1},      {BIN, 2},      {BIN, 4},
    {EXT, 1},   {EXT, 2},   {EXT, 4},      {FLOAT32, 4},  {FLOAT64, 8},  {UINT, 1},     {UINT, 2},
    {UINT, 4},  {UINT, 8},  {NEGATIVE, 1}, {NEGATIVE, 2}, {NEGATIVE, 4}, {NEGATIVE, 8}, {EXT, 0},
    {EXT, 0},   {EXT, 0},   {EXT, 0},      {EXT, 0},      {STR, 1},      {STR, 2},      {STR, 4},
    {ARRAY, 2}, {ARRAY, 4}, {MAP, 2},      {MAP, 4},
};

static struct head short_head(unsigned char lead)
{
    if (lead < 0x80) {
        return (struct head){UINT, lead};
    }
    if (lead < 0x90) {
        return (struct head){MAP, lead & 0x0fU};
    }
    if (lead < 0xa0) {
        return (struct head){ARRAY, lead & 0x0fU};
    }
    if (lead < 0xc0) {
        return (struct head){STR, lead & 0x1fU};
    }
    return signed_head(lead, 1);
}

/* Takes the head of the next value. At the end of the body, or after a failure: BAD, with the
 * failure set. */
static struct head get_head(struct wire_reader *r, const char *field)
{
    const struct head bad = {BAD, 0};
    if (!wire_reader_ok(r)) {
        return bad;
    }
    if (left(r) == 0) {
        ends_early(r, field);
        return bad;
    }
    unsigned char lead = *r->at;
    if (lead < 0xc0 || lead >= 0xe0) {
        r->at++;
        return short_head(lead);
    }
    unsigned bytes = heads[lead - 0xc0].bytes;
    if (left(r) < 1 + bytes) {
        ends_early(r, field);
        return bad;
    }
    struct head head = {heads[lead - 0xc0].kind, big_endian(r->at + 1, bytes)};
    r->at += 1 + bytes;
    if (head.kind == NEGATIVE) {
        return signed_head(head.bits, bytes);
    }
    if (head.kind == BOOLEAN) {
        head.bits = lead & 1;
    } else if (head.kind == EXT) {
        head.bits = (bytes == 0 ? 1ULL << (lead - 0xd4) : head.bits) + 1;
    } else if (head.kind == BAD) {
        want(r, field, "a value", BAD);
    }
    return head;
}

/* Takes a head of one kind; what it counts must fit into what is left, `unit` bytes an item. */
static uint64_t get_count(struct wire_reader *r, const char *field, enum kind kind,
                          const char *wanted)
{
    struct head head = get_head(r, field);
    if (head.kind != kind) {
        want(r, field, wanted, head.kind);
        return 0;
    }
    if (head.bits > left(r) / (kind == MAP ? 2 : 1)) {
        ends_early(r, field);
        return 0;
    }
    return head.bits;
}

uint32_t wire_get_array(struct wire_reader *r, const char *field, uint32_t min_count)
{
    uint32_t count = (uint32_t)get_count(r, field, ARRAY, "an array");
    if (count < min_count) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the array has too few elements");
        return 0;
    }
    return count;
}

uint32_t wire_get_map(struct wire_reader *r, const char *field)
{
    return (uint32_t)get_count(r, field, MAP, "a map");
}

uint32_t wire_get_key(struct wire_reader *r, const char *field, const char *const *keys)
{
    uint64_t bytes = get_count(r, field, STR, "a string as key");
    uint32_t i = 0;
    if (!wire_reader_ok(r)) {
        while (keys[i] != NULL) {
            i++;
        }
        return i;
    }
    while (keys[i] != NULL &&
           (strlen(keys[i]) != bytes || memcmp(keys[i], r->at, (size_t)bytes) != 0)) {
        i++;
    }
    r->at += bytes;
    return i;
}

void wire_require_keys(struct wire_reader *r, const char *const *keys, uint32_t wanted,
                       uint32_t seen)
{
    for (uint32_t i = 0; keys[i] != NULL; i++) {
        if (((wanted & ~seen) >> i & 1) != 0) {
            wire_reader_fail(r, STATUS_PROTOCOL, keys[i], "the key is missing");
        }
    }
}

bool wire_get_nil(struct wire_reader *r)
{
    if (wire_reader_ok(r) && left(r) > 0 && *r->at == 0xc0) {
        r->at++;
        return true;
    }
    return false;
}

bool wire_next_is_bool(const struct wire_reader *r)
{
    return wire_reader_ok(r) && left(r) > 0 && (*r->at == 0xc2 || *r->at == 0xc3);
}

bool wire_next_is_string(const struct wire_reader *r)
{
    return wire_reader_ok(r) && left(r) > 0 &&
           ((*r->at >= 0xa0 && *r->at < 0xc0) || (*r->at >= 0xd9 && *r->at <= 0xdb));
}

bool wire_next_is_int(const struct wire_reader *r)
{
    if (!wire_reader_ok(r) || left(r) == 0) {
        return false;
    }
    unsigned char type = *r->at;
    if (type == 0xcf) { /* 64 bits without sign: only those that fit with one */
        return left(r) > 1 && r->at[1] < 0x80;
    }
    return type < 0x80 || type >= 0xe0 || (type >= 0xcc && type <= 0xce) ||
           (type >= 0xd0 && type <= 0xd3);
}

bool wire_get_bool(struct wire_reader *r, const char *field)
{
    struct head head = get_head(r, field);
    if (head.kind != BOOLEAN) {
        want(r, field, "a bool", head.kind);
        return false;
    }
    return head.bits != 0;
}

uint64_t wire_get_uint(struct wire_reader *r, const char *field, uint64_t max)
{
    struct head head = get_head(r, field);
    if (head.kind != UINT) {
        want(r, field, "an integer of 0 or more", head.kind);
        return 0;
    }
    if (head.bits > max) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the integer is too large");
        return 0;
    }
    return head.bits;
}

uint32_t wire_get_u32(struct wire_reader *r, const char *field)
{
    return (uint32_t)wire_get_uint(r, field, UINT32_MAX);
}

int64_t wire_get_int(struct wire_reader *r, const char *field, int64_t min, int64_t max)
{
    struct head head = get_head(r, field);
    if (head.kind != UINT && head.kind != NEGATIVE) {
        want(r, field, "an integer", head.kind);
        return min;
    }
    int64_t value = (int64_t)head.bits;
    if ((head.kind == UINT && head.bits > INT64_MAX) || value < min || value > max) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the integer is out of range");
        return min;
    }
    return value;
}

const uint32_t *wire_get_uints(struct wire_reader *r, const char *field, uint32_t *count)
{
    uint32_t n = wire_get_array(r, field, 0);
    uint32_t *values = wire_alloc(r, n, sizeof *values);
    for (uint32_t i = 0; i < n && wire_reader_ok(r); i++) {
        values[i] = wire_get_u32(r, field);
    }
    *count = n;
    return values;
}

double wire_get_double(struct wire_reader *r, const char *field)
{
    struct head head = get_head(r, field);
    double value = 0.0;
    if (head.kind == FLOAT64) {
        memcpy(&value, &head.bits, sizeof value);
    } else if (head.kind == FLOAT32) {
        uint32_t bits = (uint32_t)head.bits;
        float narrow;
        memcpy(&narrow, &bits, sizeof narrow);
        value = (double)narrow;
    } else if (head.kind == UINT) {
        value = (double)head.bits;
    } else if (head.kind == NEGATIVE) {
        value = (double)(int64_t)head.bits;
    } else {
        want(r, field, "a number", head.kind);
    }
    if (!isfinite(value)) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the number is not finite");
        return 0.0;
    }
    return value;
}

float wire_get_float(struct wire_reader *r, const char *field)
{
    double value = wire_get_double(r, field);
    if (fabs(value) > (double)FLT_MAX) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the number is too large");
        return 0.0F;
    }
    return (float)value;
}

static const char *get_text(struct wire_reader *r, const char *field, size_t bytes_max)
{
    size_t bytes = (size_t)get_count(r, field, STR, "a string");
    if (bytes > bytes_max) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the id is too long");
    } else if (wire_reader_ok(r) && bytes > 0 && memchr(r->at, '\0', bytes) != NULL) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the string has a NUL byte");
    }
    char *text = wire_alloc(r, bytes + 1, 1);
    if (text == NULL) {
        return NULL;
    }
    memcpy(text, r->at, bytes);
    text[bytes] = '\0';
    r->at += bytes;
    return text;
}

const char *wire_get_string(struct wire_reader *r, const char *field)
{
    return get_text(r, field, SIZE_MAX);
}

const char *wire_get_string_or_nil(struct wire_reader *r, const char *field)
{
    return wire_get_nil(r) ? NULL : wire_get_string(r, field);
}

const char *wire_get_id(struct wire_reader *r, const char *field)
{
    return get_text(r, field, REQUEST_ID_BYTES_MAX - 1);
}

static const char *const *get_texts(struct wire_reader *r, const char *field, size_t bytes_max,
                                    uint32_t *count)
{
    uint32_t n = wire_get_array(r, field, 0);
    const char **texts = wire_alloc(r, n, sizeof *texts);
    for (uint32_t i = 0; i < n && wire_reader_ok(r); i++) {
        texts[i] = get_text(r, field, bytes_max);
    }
    *count = n;
    return texts;
}

const char *const *wire_get_ids(struct wire_reader *r, const char *field, uint32_t *count)
{
    return get_texts(r, field, REQUEST_ID_BYTES_MAX - 1, count);
}

const char *const *wire_get_strings(struct wire_reader *r, const char *field, uint32_t *count)
{
    return get_texts(r, field, SIZE_MAX, count);
}

uint32_t wire_get_rank(struct wire_reader *r, const char *field)
{
    struct head head = get_head(r, field);
    if (head.kind == UINT && head.bits <= INT32_MAX) {
        return (uint32_t)head.bits;
    }
    if (head.kind == BIN && head.bits == 2 && left(r) >= 2) {
        uint32_t rank = (uint32_t)r->at[0] | (uint32_t)r->at[1] << 8;
        r->at += 2;
        return rank;
    }
    if (head.kind == BIN && head.bits > left(r)) {
        ends_early(r, field);
    }
    want(r, field, "an engine's index or its 2 bytes", head.kind);
    return 0;
}

/* Whole seconds and fraction apart, so that only the fraction is rounded to a unit. */
static int64_t get_seconds(struct wire_reader *r, const char *field, int64_t per_second)
{
    double seconds = wire_get_double(r, field);
    double whole = trunc(seconds);
    if (fabs(whole) >= (double)(INT64_MAX / per_second)) {
        wire_reader_fail(r, STATUS_PROTOCOL, field, "the time is out of range");
        return 0;
    }
    return (int64_t)whole * per_second + llround((seconds - whole) * (double)per_second);
}

time_ps wire_get_time(struct wire_reader *r, const char *field)
{
    return get_seconds(r, field, PS_PER_S);
}

int64_t wire_get_wall(struct wire_reader *r, const char *field)
{
    return get_seconds(r, field, PS_PER_S / PS_PER_NS);
}

void wire_skip(struct wire_reader *r, const char *field, uint64_t count)
{
    /* No container counts more than the bytes behind it, so the sum of what is open stays far from
     * overflow. */
    while (count > 0 && wire_reader_ok(r)) {
        struct head head = get_head(r, field);
        count--;
        if (head.kind == STR || head.kind == BIN || head.kind == EXT) {
            if (head.bits > left(r)) {
                ends_early(r, field);
                return;
            }
            r->at += head.bits;
        } else if (head.kind == ARRAY || head.kind == MAP) {
            uint64_t children = head.kind == MAP ? 2 * head.bits : head.bits;
            if (children > left(r)) {
                ends_early(r, field);
                return;
            }
            count += children;
        }
    }
}

void wire_skip_rest(struct wire_reader *r, uint32_t count, uint32_t known_count)
{
    if (count > known_count) {
        wire_skip(r, "an ignored element", count - known_count);
    }
}
