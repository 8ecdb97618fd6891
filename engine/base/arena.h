/*
 * arena.h - memory for things that die together: all of it is reserved at start, none is freed
 * singly.
 *
 *     struct arena arena;
 *     TRY(arena_create(64 << 20, &arena, error));
 *     struct thing *t = ARENA_NEW(&arena, struct thing, 1000);   // zeroed, never NULL
 *     ...
 *     arena_destroy(&arena);
 *
 * The reservation is address space (MAP_NORESERVE): pages that are never touched cost nothing, so
 * callers may ask for generous maxima. That holds whatever the host does with huge pages: arenas
 * take none. Running past the reservation is a programmer error: creators
 * compute their size first (x_arena_bytes(options)).
 */
#ifndef ENGINE_BASE_ARENA_H
#define ENGINE_BASE_ARENA_H

#include <stddef.h>

#include "engine/base/status.h"

struct arena {
    unsigned char *base;
    size_t used_bytes;
    size_t cap_bytes;
};

MUST_CHECK enum status arena_create(size_t cap_bytes, struct arena *out, struct error *error);
void arena_destroy(struct arena *arena);
/* Zeroed memory aligned to 64 bytes. Never NULL. */
void *arena_alloc(struct arena *arena, size_t count, size_t item_bytes);

#define ARENA_NEW(arena, type, count) ((type *)arena_alloc((arena), (count), sizeof(type)))

/* What arena_alloc() takes for `count` items, padding included: for x_arena_bytes() functions. */
#define ARENA_BYTES(count, type) ((((size_t)(count) * sizeof(type)) + 63U) / 64U * 64U + 64U)

#endif
