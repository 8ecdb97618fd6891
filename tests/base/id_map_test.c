/*
 * id_map_test.c - the id map against a plain array searched from end to end, over random operations
 * at several loads, and with ids that collide in the table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/hash.h"
#include "engine/base/id_map.h"
#include "engine/base/random.h"

enum {
    SLOTS_MAX = 256,
    IDS = 400,
    ID_BYTES = 24
};

/* The oracle: which id each slot holds, searched linearly. */
struct model {
    char ids[SLOTS_MAX][ID_BYTES];
    int used[SLOTS_MAX];
    uint32_t slots;
};

static const char *key_of(const void *ctx, uint32_t slot)
{
    const struct model *model = ctx;
    return model->ids[slot];
}

static uint32_t model_get(const struct model *model, const char *id)
{
    for (uint32_t slot = 0; slot < model->slots; slot++) {
        if (model->used[slot] && strcmp(model->ids[slot], id) == 0) {
            return slot;
        }
    }
    return ID_MAP_NONE;
}

static uint32_t model_free_slot(const struct model *model, struct random *r)
{
    uint32_t start = (uint32_t)random_range(r, 0, model->slots - 1);
    for (uint32_t k = 0; k < model->slots; k++) {
        uint32_t slot = (start + k) % model->slots;
        if (!model->used[slot]) {
            return slot;
        }
    }
    return ID_MAP_NONE;
}

/* One random put, get or remove of one of `ids`, on both. */
static void random_operation(struct id_map *map, struct model *model, struct random *r,
                             char ids[][ID_BYTES], uint32_t ids_count)
{
    const char *id = ids[random_range(r, 0, ids_count - 1)];
    uint32_t want = model_get(model, id);
    assert_int_equal(id_map_get(map, id), want);
    if (random_range(r, 0, 9) < 5) {
        uint32_t slot = model_free_slot(model, r);
        if (want == ID_MAP_NONE && slot != ID_MAP_NONE) {
            (void)snprintf(model->ids[slot], ID_BYTES, "%s", id);
            model->used[slot] = 1;
            id_map_put(map, id, slot);
        }
    } else {
        assert_int_equal(id_map_remove(map, id), want);
        if (want != ID_MAP_NONE) {
            model->used[want] = 0;
            memset(model->ids[want], 0, ID_BYTES);
        }
        assert_int_equal(id_map_remove(map, id), ID_MAP_NONE);
    }
}

static void check_all(const struct id_map *map, const struct model *model, char ids[][ID_BYTES],
                      uint32_t ids_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < ids_count; i++) {
        uint32_t want = model_get(model, ids[i]);
        assert_int_equal(id_map_get(map, ids[i]), want);
        count += want == ID_MAP_NONE ? 0 : 1;
    }
    assert_int_equal(map->count, count);
}

static void run_against_model(uint32_t slots, char ids[][ID_BYTES], uint32_t ids_count,
                              uint32_t seed)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    model.slots = slots;
    struct arena arena;
    assert_int_equal(arena_create(id_map_arena_bytes(slots), &arena, NULL), STATUS_OK);
    struct id_map map;
    id_map_init(&map, &arena, slots, key_of, &model);
    struct random r = random_stream(seed, "id_map", slots);
    for (int i = 0; i < 20000; i++) {
        random_operation(&map, &model, &r, ids, ids_count);
        if (i % 500 == 0) {
            check_all(&map, &model, ids, ids_count);
        }
    }
    check_all(&map, &model, ids, ids_count);
    arena_destroy(&arena);
}

static void equals_model(void **state)
{
    (void)state;
    static char ids[IDS][ID_BYTES];
    for (uint32_t i = 0; i < IDS; i++) {
        (void)snprintf(ids[i], ID_BYTES, "cmpl-%u-%08x", i, i * 2654435761U);
    }
    static const uint32_t capacities[] = {1, 2, 7, 8, 9, 64, 200, SLOTS_MAX};
    for (uint32_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        run_against_model(capacities[i], ids, IDS, i);
    }
}

/* Ids whose home is one of the last two entries of a table of 16: runs that wrap round its end. */
static void equals_model_where_ids_collide(void **state)
{
    (void)state;
    static char ids[20][ID_BYTES];
    uint32_t found = 0;
    for (uint32_t i = 0; found < 20; i++) {
        char id[ID_BYTES];
        (void)snprintf(id, sizeof id, "r%u", i);
        uint64_t home = hash64(id, strlen(id), 0) & 15U;
        if (home >= 14 || (found % 5 == 4 && home == 0)) {
            memcpy(ids[found], id, ID_BYTES);
            found++;
        }
    }
    for (uint32_t seed = 0; seed < 5; seed++) {
        run_against_model(8, ids, 20, seed);
    }
}

static const char *number_of(const void *ctx, uint32_t slot)
{
    const char *ids = ctx;
    return ids + (size_t)slot * ID_BYTES;
}

/* Thousands of ids pass through a map made for a million, eight at a time: it stays in the memory
 * of eight. */
static void few_ids_touch_little_of_a_large_map(void **state)
{
    (void)state;
    enum {
        CAPACITY = 1000000,
        HELD = 8
    };
    static char ids[HELD][ID_BYTES];
    struct arena arena;
    struct id_map map;
    assert_int_equal(arena_create(id_map_arena_bytes(CAPACITY), &arena, NULL), STATUS_OK);
    id_map_init(&map, &arena, CAPACITY, number_of, ids);
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t slot = i % HELD;
        if (i >= HELD) {
            assert_int_equal(id_map_remove(&map, ids[slot]), slot);
        }
        (void)snprintf(ids[slot], ID_BYTES, "r-%08x", i);
        id_map_put(&map, ids[slot], slot);
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static unsigned char resident[1 << 16];
    assert_true(arena.cap_bytes / page + 1 <= sizeof resident);
    assert_int_equal(mincore(arena.base, arena.cap_bytes, resident), 0);
    size_t touched = 0;
    for (size_t i = 0; i < sizeof resident; i++) {
        touched += resident[i] & 1U;
    }
    assert_int_equal(touched, 1);
    arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_model),
        cmocka_unit_test(equals_model_where_ids_collide),
        cmocka_unit_test(few_ids_touch_little_of_a_large_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
