/*
 * reader.h - pulls MessagePack values out of a received body; inside this room only.
 *
 * The first thing that is wrong sticks: its status and a text naming message and field are kept,
 * and from then on every read gives 0, NULL or nil at once. A decoder reads straight through and
 * asks wire_reader_finish() once. Memory is bounded by the body's length: a header that promises
 * more elements than bytes are left is refused before anything is allocated, and skipping is a
 * loop, not a recursion. That is why this is not libmsgpack's unpacker, which believes such
 * headers.
 */
#ifndef ENGINE_WIRE_READER_H
#define ENGINE_WIRE_READER_H

#include "engine/wire/wire.h"

struct wire_reader {
    const unsigned char *at;
    const unsigned char *end;
    const char *message; /* first part of error texts */
    enum status status;
    struct error *error;
    struct wire_decoder *decoder;
};

/* Also frees what the decoder's last message held. */
void wire_reader_start(struct wire_reader *r, struct wire_decoder *d, const void *data,
                       size_t bytes);
/* The status, after refusing bytes behind the body. */
MUST_CHECK enum status wire_reader_finish(struct wire_reader *r);
static inline bool wire_reader_ok(const struct wire_reader *r)
{
    return r->status == STATUS_OK;
}
void wire_reader_fail(struct wire_reader *r, enum status status, const char *field,
                      const char *text);
/* Memory that lives until the next decode call; NULL only after a failure. */
void *wire_alloc(struct wire_reader *r, size_t count, size_t item_bytes);

/* The number of elements; fewer than min_count is an error. */
uint32_t wire_get_array(struct wire_reader *r, const char *field, uint32_t min_count);
/* The number of key/value pairs. */
uint32_t wire_get_map(struct wire_reader *r, const char *field);

/* A key's index in a NULL-terminated table. Unknown keys give the index of the NULL; their value
 * must be skipped. */
uint32_t wire_get_key(struct wire_reader *r, const char *field, const char *const *keys);

/* Complains about the first of `keys` (at most 31) whose bit is in `wanted` but not in `seen`. */
void wire_require_keys(struct wire_reader *r, const char *const *keys, uint32_t wanted,
                       uint32_t seen);

/* Takes a nil if one is next. */
bool wire_get_nil(struct wire_reader *r);
/* What kind of value is next; takes nothing. */
bool wire_next_is_bool(const struct wire_reader *r);
bool wire_next_is_string(const struct wire_reader *r);
/* Of those only what fits int64_t. */
bool wire_next_is_int(const struct wire_reader *r);
bool wire_get_bool(struct wire_reader *r, const char *field);
uint64_t wire_get_uint(struct wire_reader *r, const char *field, uint64_t max);
uint32_t wire_get_u32(struct wire_reader *r, const char *field);
int64_t wire_get_int(struct wire_reader *r, const char *field, int64_t min, int64_t max);
/* An array of uint32. Never NULL but after a failure. */
const uint32_t *wire_get_uints(struct wire_reader *r, const char *field, uint32_t *count);
/* Finite; also from float32 and integers. */
double wire_get_double(struct wire_reader *r, const char *field);
float wire_get_float(struct wire_reader *r, const char *field);
/* NUL-terminated copies. A string with a NUL inside is refused. */
const char *wire_get_string(struct wire_reader *r, const char *field);
const char *wire_get_string_or_nil(struct wire_reader *r, const char *field);
/* A string short enough for REQUEST_ID_BYTES_MAX. */
const char *wire_get_id(struct wire_reader *r, const char *field);
const char *const *wire_get_ids(struct wire_reader *r, const char *field, uint32_t *count);
const char *const *wire_get_strings(struct wire_reader *r, const char *field, uint32_t *count);
/* An engine as an integer or as 2 bytes of identity. */
uint32_t wire_get_rank(struct wire_reader *r, const char *field);
/* Seconds, as any number. */
time_ps wire_get_time(struct wire_reader *r, const char *field);
int64_t wire_get_wall(struct wire_reader *r, const char *field);

/* Over `count` values of any kind. */
void wire_skip(struct wire_reader *r, const char *field, uint64_t count);
/* Over what an array has behind the elements that are known here. */
void wire_skip_rest(struct wire_reader *r, uint32_t count, uint32_t known_count);

#endif
