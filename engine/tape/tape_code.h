/*
 * tape_code.h - the fields of calls and messages as bytes, and back. One function for each struct
 * says its fields once; the same function writes them, reads them, and prints them for people:
 *
 *     struct tape_code c = {0};
 *     tape_code_write(&c);
 *     walk(&c, &message);                      // c.data, c.bytes
 *
 *     tape_code_read(&c, data, bytes);         // with c.print set, every field is printed too
 *     walk(&c, &message);                      // message.* points into `data` and into rooms of c
 *     if (c.failed || c.at != c.end) they are not the bytes of a message
 *
 * Integers take as many bytes as they need (7 bits in each), so that a token takes three. Bytes of
 * any origin may be read: what is out of range fails, and then everything reads as 0.
 */
#ifndef ENGINE_TAPE_TAPE_CODE_H
#define ENGINE_TAPE_TAPE_CODE_H

#include <stdbool.h>
#include <stdio.h>

#include "engine/base/status.h"
#include "engine/base/time.h"

/* No time of a run is later: sums of two of them stay in range. */
#define TAPE_TIME_MAX ((time_ps)1 << 61)

struct tape_code {
    unsigned char *data; /* writing: owned, grows */
    size_t bytes;
    size_t cap_bytes;
    const unsigned char *at; /* reading */
    const unsigned char *end;
    bool reading;
    bool failed;
    FILE *print;             /* NULL: nothing is printed. Fields that are 0 are left out */
    struct tape_room *rooms; /* of arrays that were read; until the next tape_code_read() */
};

void tape_code_write(struct tape_code *c);
void tape_code_read(struct tape_code *c, const void *data, size_t bytes);
void tape_code_free(struct tape_code *c);
/* Writing: what was written to `from` follows. */
void tape_code_append(struct tape_code *c, const struct tape_code *from);

void tape_u64(struct tape_code *c, const char *name, uint64_t *value);
void tape_i64(struct tape_code *c, const char *name, int64_t *value);
void tape_u32(struct tape_code *c, const char *name, uint32_t *value);
void tape_i32(struct tape_code *c, const char *name, int32_t *value);
void tape_bool(struct tape_code *c, const char *name, bool *value);
void tape_time(struct tape_code *c, const char *name, time_ps *value);
/* A time that a process had from its own clock or options: 0 .. TAPE_TIME_MAX. */
void tape_now(struct tape_code *c, const char *name, time_ps *value);
void tape_f64(struct tape_code *c, const char *name, double *value);
void tape_f32(struct tape_code *c, const char *name, float *value);
/* Eight bytes: small numbers are no likelier than others. */
void tape_hash(struct tape_code *c, const char *name, uint64_t *value);
/* One of `words`. */
void tape_word(struct tape_code *c, const char *name, uint32_t *value, const char *const *words,
               uint32_t words_count);
/* NULL is another text than "". */
void tape_text(struct tape_code *c, const char *name, const char **text);
/* Not NUL-terminated. */
void tape_bytes(struct tape_code *c, const char *name, const char **data, uint32_t *bytes);
void tape_u32s(struct tape_code *c, const char *name, const uint32_t **items, uint32_t *count);
/* Number of items that follow, each at least `item_bytes_min` bytes long. */
void tape_count(struct tape_code *c, const char *name, uint32_t *count, uint32_t item_bytes_min);
/* Reading: zeroed memory for them. NULL when writing, and for none. */
void *tape_room(struct tape_code *c, uint32_t count, size_t item_bytes);
/* Words between fields when printing, e.g. " [". */
void tape_mark(const struct tape_code *c, const char *text);

/* An enum whose values are indices of the array `words`. */
#define TAPE_ENUM(c, name, lvalue, words)                                          \
    do {                                                                           \
        uint32_t word_ = (uint32_t)(lvalue);                                       \
        tape_word((c), (name), &word_, (words), sizeof(words) / sizeof(*(words))); \
        (lvalue) = word_;                                                          \
    } while (0)

#endif
