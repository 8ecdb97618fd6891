/*
 * block_pool_test.c - the block pool against a naive one made of plain arrays, operation by
 * operation, and a few cases worked by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/random.h"
#include "engine/core/block_pool.h"

enum {
    BLOCKS_MAX = 40,
    HOLDERS_MAX = 12,
    SEQUENCE_MAX = 8
};

/* The free list is an array; a cached prefix remembers when it was registered, so that "oldest"
 * needs no structure. */
struct naive_pool {
    uint32_t count;
    uint32_t free_list[BLOCKS_MAX];
    uint32_t free_count;
    uint32_t refs[BLOCKS_MAX];
    uint64_t hash[BLOCKS_MAX];
    uint64_t registered_at[BLOCKS_MAX]; /* 0: no hash */
    uint64_t clock;
};

static void naive_init(struct naive_pool *pool, uint32_t count)
{
    *pool = (struct naive_pool){.count = count};
    for (uint32_t id = 1; id < count; id++) {
        pool->free_list[pool->free_count++] = id;
    }
}

static uint32_t naive_lookup(const struct naive_pool *pool, uint64_t hash)
{
    uint32_t best = BLOCK_NULL;
    for (uint32_t id = 1; id < pool->count; id++) {
        if (pool->registered_at[id] != 0 && pool->hash[id] == hash &&
            (best == BLOCK_NULL || pool->registered_at[id] < pool->registered_at[best])) {
            best = id;
        }
    }
    return best;
}

static void naive_unfree(struct naive_pool *pool, uint32_t id)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < pool->free_count; i++) {
        if (pool->free_list[i] != id) {
            pool->free_list[kept++] = pool->free_list[i];
        }
    }
    assert_int_equal(kept + 1, pool->free_count);
    pool->free_count = kept;
}

static uint32_t naive_take(struct naive_pool *pool)
{
    uint32_t id = pool->free_list[0];
    naive_unfree(pool, id);
    pool->registered_at[id] = 0;
    pool->refs[id] = 1;
    return id;
}

static void naive_release(struct naive_pool *pool, const uint32_t *ids, uint32_t count)
{
    uint32_t front[BLOCKS_MAX];
    uint32_t front_count = 0;
    for (uint32_t i = count; i-- > 0;) {
        pool->refs[ids[i]]--;
        if (pool->refs[ids[i]] > 0) {
            continue;
        }
        if (pool->registered_at[ids[i]] != 0) {
            pool->free_list[pool->free_count++] = ids[i];
        } else {
            front[front_count++] = ids[i];
        }
    }
    memmove(pool->free_list + front_count, pool->free_list,
            pool->free_count * sizeof pool->free_list[0]);
    memcpy(pool->free_list, front, front_count * sizeof front[0]);
    pool->free_count += front_count;
}

struct holder {
    uint32_t ids[SEQUENCE_MAX];
    uint32_t count;
};

struct fixture {
    struct arena arena;
    struct block_pool pool;
    struct naive_pool naive;
    struct holder holders[HOLDERS_MAX];
    struct random random;
};

static uint32_t draw(struct fixture *f, uint32_t lo, uint32_t hi)
{
    return (uint32_t)random_range(&f->random, lo, hi);
}

static void assert_same(const struct fixture *f)
{
    uint32_t ids[BLOCKS_MAX + 1];
    uint32_t count = block_pool_free_list(&f->pool, ids);
    assert_int_equal(count, f->naive.free_count);
    assert_int_equal(f->pool.free_count, f->naive.free_count);
    assert_memory_equal(ids, f->naive.free_list, count * sizeof ids[0]);
    for (uint32_t id = 1; id < f->naive.count; id++) {
        uint64_t hash;
        assert_int_equal(block_pool_refs(&f->pool, id), f->naive.refs[id]);
        assert_int_equal(block_pool_is_free(&f->pool, id), f->naive.refs[id] == 0);
        assert_int_equal(block_pool_hash_of(&f->pool, id, &hash), f->naive.registered_at[id] != 0);
    }
    for (uint64_t hash = 0; hash < 8; hash++) {
        assert_int_equal(block_pool_lookup(&f->pool, hash), naive_lookup(&f->naive, hash));
    }
    const char *broken = block_pool_check(&f->pool);
    if (broken != NULL) {
        fail_msg("%s", broken);
    }
}

/* An empty holder takes new blocks, after touching what a lookup gives. */
static void fill(struct fixture *f, struct holder *h)
{
    uint32_t hit = block_pool_lookup(&f->pool, draw(f, 0, 7));
    if (hit != BLOCK_NULL) {
        h->ids[h->count++] = hit;
        block_pool_touch(&f->pool, &hit, 1);
        if (f->naive.refs[hit] == 0) {
            naive_unfree(&f->naive, hit);
        }
        f->naive.refs[hit]++;
    }
    uint32_t wanted = draw(f, 0, SEQUENCE_MAX - 1);
    wanted = wanted < f->pool.free_count ? wanted : f->pool.free_count;
    block_pool_take(&f->pool, wanted, h->ids + h->count);
    for (uint32_t i = 0; i < wanted; i++) {
        assert_int_equal(h->ids[h->count++], naive_take(&f->naive));
    }
}

static void register_one(struct fixture *f, const struct holder *h)
{
    uint32_t id = h->ids[draw(f, 0, h->count - 1)];
    if (f->naive.registered_at[id] != 0) {
        return;
    }
    uint64_t hash = draw(f, 0, 7);
    block_pool_register(&f->pool, id, hash);
    f->naive.hash[id] = hash;
    f->naive.registered_at[id] = ++f->naive.clock;
}

static void one_operation(struct fixture *f)
{
    struct holder *h = &f->holders[draw(f, 0, HOLDERS_MAX - 1)];
    if (h->count == 0) {
        fill(f, h);
        return;
    }
    switch (draw(f, 0, 9)) {
    case 0:
    case 1:
    case 2:
        block_pool_release(&f->pool, h->ids, h->count);
        naive_release(&f->naive, h->ids, h->count);
        h->count = 0;
        break;
    case 3: {
        uint32_t id = h->ids[draw(f, 0, h->count - 1)];
        block_pool_forget(&f->pool, id);
        f->naive.registered_at[id] = 0;
        break;
    }
    default:
        register_one(f, h);
        break;
    }
}

/* Works only when nothing is held, and then leaves nothing known and the free list as it was. */
static bool try_reset(struct fixture *f)
{
    bool all_free = f->naive.free_count == f->naive.count - 1;
    assert_int_equal(block_pool_reset(&f->pool), all_free);
    for (uint32_t id = 1; all_free && id < f->naive.count; id++) {
        f->naive.registered_at[id] = 0;
    }
    assert_same(f);
    return all_free;
}

static void test_equals_a_naive_pool_over_random_operations(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 60; seed++) {
        struct fixture f = {.random = random_stream(seed, "block-pool-test", 0)};
        uint32_t blocks = draw(&f, 2, BLOCKS_MAX);
        assert_int_equal(arena_create(block_pool_arena_bytes(blocks), &f.arena, NULL), STATUS_OK);
        block_pool_init(&f.pool, &f.arena, blocks);
        naive_init(&f.naive, blocks);
        for (uint32_t i = 0; i < 400; i++) {
            one_operation(&f);
            assert_same(&f);
            if (i % 16 == 0) {
                (void)try_reset(&f);
            }
        }
        for (uint32_t i = 0; i < HOLDERS_MAX; i++) {
            block_pool_release(&f.pool, f.holders[i].ids, f.holders[i].count);
            naive_release(&f.naive, f.holders[i].ids, f.holders[i].count);
        }
        assert_true(try_reset(&f));
        assert_int_equal(f.pool.free_count, blocks - 1);
        assert_true(block_pool_usage(&f.pool) <= 0.0);
        arena_destroy(&f.arena);
    }
}

/* Pages of the arena that were ever touched. */
static size_t touched_pages(const struct arena *arena)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (arena->cap_bytes + page - 1) / page;
    unsigned char *resident = malloc(pages);
    assert_non_null(resident);
    assert_int_equal(mincore(arena->base, arena->cap_bytes, resident), 0);
    size_t touched = 0;
    for (size_t i = 0; i < pages; i++) {
        touched += resident[i] & 1U;
    }
    free(resident);
    return touched;
}

/* Sequences come and go in a pool of a million blocks; without hashes only the few blocks that are
 * held at once are ever touched: their states and their places in the free list. */
static void test_blocks_never_used_cost_nothing(void **state)
{
    (void)state;
    struct arena arena;
    struct block_pool pool;
    uint32_t ids[4][500];
    assert_int_equal(arena_create(block_pool_arena_bytes(1000000), &arena, NULL), STATUS_OK);
    block_pool_init(&pool, &arena, 1000000);
    for (uint32_t i = 0; i < 4000; i++) {
        if (i >= 4) {
            block_pool_release(&pool, ids[i % 4], 500);
        }
        block_pool_take(&pool, 500, ids[i % 4]);
    }
    assert_int_equal(pool.fresh, 2001);
    assert_in_range(touched_pages(&arena), 1, 8);
    arena_destroy(&arena);
}

/* By hand: 1 2 3 4 5 are free; a sequence 1 2 3 has two full blocks. */
static void test_order_of_freed_blocks(void **state)
{
    (void)state;
    struct arena arena;
    struct block_pool pool;
    uint32_t ids[6];
    assert_int_equal(arena_create(block_pool_arena_bytes(6), &arena, NULL), STATUS_OK);
    block_pool_init(&pool, &arena, 6);
    block_pool_take(&pool, 3, ids);
    assert_memory_equal(ids, ((uint32_t[]){1, 2, 3}), 3 * sizeof ids[0]);
    block_pool_register(&pool, 1, 100);
    block_pool_register(&pool, 2, 200);
    assert_true(block_pool_usage(&pool) > 0.59 && block_pool_usage(&pool) < 0.61);
    block_pool_release(&pool, ids, 3);

    uint32_t list[6];
    assert_int_equal(block_pool_free_list(&pool, list), 5);
    assert_memory_equal(list, ((uint32_t[]){3, 4, 5, 2, 1}), 5 * sizeof list[0]);

    /* The fourth taken is block 2: its prefix is gone, the shorter one stays. */
    block_pool_take(&pool, 4, ids);
    assert_int_equal(ids[3], 2);
    assert_int_equal(block_pool_lookup(&pool, 200), BLOCK_NULL);
    assert_int_equal(block_pool_lookup(&pool, 100), 1);
    arena_destroy(&arena);
}

static void test_hash_depends_on_parent_and_tokens(void **state)
{
    (void)state;
    const uint32_t a[] = {1, 2, 3, 4};
    const uint32_t b[] = {1, 2, 3, 5};
    uint64_t first = block_hash(BLOCK_HASH_ROOT, a, 4);
    assert_true(first == block_hash(BLOCK_HASH_ROOT, a, 4));
    assert_true(first != block_hash(BLOCK_HASH_ROOT, b, 4));
    assert_true(first != block_hash(first, a, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_a_naive_pool_over_random_operations),
        cmocka_unit_test(test_blocks_never_used_cost_nothing),
        cmocka_unit_test(test_order_of_freed_blocks),
        cmocka_unit_test(test_hash_depends_on_parent_and_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
