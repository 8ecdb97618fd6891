/*
 * id_map.h - fixed-capacity map from a request id (a string) to a 32-bit slot number. Open
 * addressing with linear probing and backward-shift deletion; no allocation after creation;
 * iteration order is never exposed.
 *
 * The table doubles when it is half full, into memory that was reserved for it and not touched
 * before: a map made for many ids that holds few stays in few cache lines and pages.
 *
 * The map does not copy keys: it stores their 64-bit hash and the slot, and asks `key_of(ctx,
 * slot)` for the text when two hashes agree, so a wrong match is impossible.
 */
#ifndef ENGINE_BASE_ID_MAP_H
#define ENGINE_BASE_ID_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/arena.h"

typedef const char *id_map_key_fn(const void *ctx, uint32_t slot);

struct id_map {
    struct id_map_entry {
        uint64_t hash;
        uint32_t slot;
        uint32_t used;
    } * entries;   /* the table in use; behind it the next ones: of 16 entries, of 32, ... */
    uint32_t mask; /* its entries - 1, a power of two at least twice the count */
    uint32_t count;
    uint32_t capacity;
    id_map_key_fn *key_of;
    const void *ctx;
};

#define ID_MAP_NONE UINT32_MAX

size_t id_map_arena_bytes(uint32_t capacity);
void id_map_init(struct id_map *map, struct arena *arena, uint32_t capacity, id_map_key_fn *key_of,
                 const void *ctx);
/* The slot of `id` (NUL-terminated), or ID_MAP_NONE. */
uint32_t id_map_get(const struct id_map *map, const char *id);
/* The id must not be present and the map not full. */
void id_map_put(struct id_map *map, const char *id, uint32_t slot);
/* Removes `id`; returns its slot or ID_MAP_NONE. key_of must still know the id. */
uint32_t id_map_remove(struct id_map *map, const char *id);

#endif
