/*
 * id_map.c - the open-addressing table behind id_map.h. Owned by one state machine each; never
 * allocates after id_map_init() and keeps no key.
 */
#include "engine/base/id_map.h"

#include <string.h>

#include "engine/base/hash.h"

enum {
    FIRST_ENTRIES = 16
};

/* Of all tables that a map of this capacity may come to use. */
static size_t entries_for(uint32_t capacity)
{
    uint32_t entries = FIRST_ENTRIES;
    while (entries < capacity * 2) {
        entries *= 2;
    }
    return 2 * (size_t)entries - FIRST_ENTRIES;
}

size_t id_map_arena_bytes(uint32_t capacity)
{
    return ARENA_BYTES(entries_for(capacity), struct id_map_entry);
}

void id_map_init(struct id_map *map, struct arena *arena, uint32_t capacity, id_map_key_fn *key_of,
                 const void *ctx)
{
    ASSERT(capacity > 0 && capacity <= (1U << 30));
    *map = (struct id_map){
        .entries = ARENA_NEW(arena, struct id_map_entry, entries_for(capacity)),
        .mask = FIRST_ENTRIES - 1,
        .count = 0,
        .capacity = capacity,
        .key_of = key_of,
        .ctx = ctx,
    };
}

/* Moves all entries into the next table, which was never used. */
static void grow(struct id_map *map)
{
    const struct id_map_entry *old = map->entries;
    uint32_t old_count = map->mask + 1;
    map->entries += old_count;
    map->mask = 2 * old_count - 1;
    for (uint32_t k = 0; k < old_count; k++) {
        if (old[k].used) {
            uint32_t i = (uint32_t)old[k].hash & map->mask;
            while (map->entries[i].used) {
                i = (i + 1) & map->mask;
            }
            map->entries[i] = old[k];
        }
    }
}

/* Index of the entry that holds `id`, or of the empty entry where the search ended. */
static uint32_t find(const struct id_map *map, const char *id, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & map->mask;
    while (map->entries[i].used) {
        if (map->entries[i].hash == hash &&
            strcmp(map->key_of(map->ctx, map->entries[i].slot), id) == 0) {
            break;
        }
        i = (i + 1) & map->mask;
    }
    return i;
}

uint32_t id_map_get(const struct id_map *map, const char *id)
{
    uint32_t i = find(map, id, hash64(id, strlen(id), 0));
    return map->entries[i].used ? map->entries[i].slot : ID_MAP_NONE;
}

void id_map_put(struct id_map *map, const char *id, uint32_t slot)
{
    ASSERT(map->count < map->capacity);
    if (2 * (map->count + 1) > map->mask + 1) {
        grow(map);
    }
    uint64_t hash = hash64(id, strlen(id), 0);
    uint32_t i = find(map, id, hash);
    ASSERT(!map->entries[i].used);
    map->entries[i] = (struct id_map_entry){.hash = hash, .slot = slot, .used = 1};
    map->count++;
}

uint32_t id_map_remove(struct id_map *map, const char *id)
{
    uint32_t hole = find(map, id, hash64(id, strlen(id), 0));
    if (!map->entries[hole].used) {
        return ID_MAP_NONE;
    }
    uint32_t slot = map->entries[hole].slot;
    /* Backward shift: move up each follower whose home does not lie between the hole and itself. */
    uint32_t i = hole;
    for (;;) {
        i = (i + 1) & map->mask;
        if (!map->entries[i].used) {
            break;
        }
        uint32_t home = (uint32_t)map->entries[i].hash & map->mask;
        if (((i - home) & map->mask) >= ((i - hole) & map->mask)) {
            map->entries[hole] = map->entries[i];
            hole = i;
        }
    }
    map->entries[hole].used = 0;
    map->count--;
    return slot;
}
