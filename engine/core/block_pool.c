/*
 * block_pool.c - free list, ref counts and hash table of block_pool.h.
 *
 * The free list is kept as [front half][blocks never taken yet][back half]. Blocks come into the
 * front half without a hash, so that nobody finds them there: it is a stack. The back half is a
 * circular list through block 0, which a block that a lookup found can leave from anywhere. The
 * untouched middle is only a counter.
 *
 * The hash table's buckets chain groups: a group is the list of the blocks under one hash, oldest
 * first, and only its first block is in the bucket's chain.
 */
#include "engine/core/block_pool.h"

#include "engine/base/hash.h"

/* In states[]. */
#define HASHED  (1U << 31)
#define GROUPED (1U << 30) /* in a group, not as its head */

struct block {
    uint64_t hash;      /* valid while it has one */
    uint32_t free_prev; /* in the back half */
    uint32_t free_next;
    union {
        uint32_t bucket_prev; /* of a head: neighbouring groups of the bucket, 0: none */
        uint32_t group_prev;  /* of the others: blocks under the same hash */
    };
    uint32_t bucket_next; /* group heads only */
    uint32_t group_next;  /* 0: this is the tail */
    uint32_t group_tail;  /* group heads only */
};

_Static_assert(sizeof(struct block) == 32, "never in two cache lines");

static uint32_t buckets_for(uint32_t blocks_count)
{
    uint32_t buckets = 16;
    while (buckets < blocks_count) {
        buckets *= 2;
    }
    return buckets;
}

size_t block_pool_arena_bytes(uint32_t blocks_count)
{
    return 2 * ARENA_BYTES(blocks_count, uint32_t) + ARENA_BYTES(blocks_count, struct block) +
           ARENA_BYTES(buckets_for(blocks_count), uint32_t);
}

void block_pool_init(struct block_pool *pool, struct arena *arena, uint32_t blocks_count)
{
    ASSERT(blocks_count >= 2 && blocks_count <= (1U << 30));
    uint32_t buckets = buckets_for(blocks_count);
    *pool = (struct block_pool){
        .states = ARENA_NEW(arena, uint32_t, blocks_count),
        .front = ARENA_NEW(arena, uint32_t, blocks_count),
        .blocks = ARENA_NEW(arena, struct block, blocks_count),
        .buckets = ARENA_NEW(arena, uint32_t, buckets),
        .bucket_mask = buckets - 1,
        .count = blocks_count,
        .free_count = blocks_count - 1,
        .fresh = 1,
    };
    /* Zeroed memory already makes block 0 the empty back half. */
}

uint64_t block_hash(uint64_t parent, const uint32_t *tokens, uint32_t tokens_count)
{
    return hash64(tokens, (size_t)tokens_count * sizeof *tokens, parent);
}

/* ---- free list ---- */

static uint32_t refs_of(const struct block_pool *pool, uint32_t id)
{
    return pool->states[id] & ~(HASHED | GROUPED);
}

static bool has_hash(const struct block_pool *pool, uint32_t id)
{
    return (pool->states[id] & HASHED) != 0;
}

static void back_append(struct block_pool *pool, uint32_t id)
{
    struct block *blocks = pool->blocks;
    uint32_t last = blocks[BLOCK_NULL].free_prev;
    blocks[id].free_prev = last;
    blocks[id].free_next = BLOCK_NULL;
    blocks[last].free_next = id;
    blocks[BLOCK_NULL].free_prev = id;
    pool->free_count++;
}

static void back_remove(struct block_pool *pool, uint32_t id)
{
    struct block *blocks = pool->blocks;
    blocks[blocks[id].free_prev].free_next = blocks[id].free_next;
    blocks[blocks[id].free_next].free_prev = blocks[id].free_prev;
    pool->free_count--;
}

static uint32_t *bucket_of(const struct block_pool *pool, uint64_t hash)
{
    return &pool->buckets[(uint32_t)(hash ^ (hash >> 32)) & pool->bucket_mask];
}

/* What the next pops will touch, most of which was last used long ago: of the first block in the
 * list, which was fetched when it was the second, and of the second. */
static void prefetch_back(const struct block_pool *pool)
{
    const struct block *first = &pool->blocks[pool->blocks[BLOCK_NULL].free_next];
    __builtin_prefetch(&pool->blocks[first->free_next], 1);
    __builtin_prefetch(bucket_of(pool, first->hash), 1);
    __builtin_prefetch(&pool->blocks[first->bucket_next], 1);
    __builtin_prefetch(&pool->blocks[first->bucket_prev], 1);
}

static uint32_t free_pop(struct block_pool *pool)
{
    if (pool->front_count > 0) {
        pool->free_count--;
        return pool->front[--pool->front_count];
    }
    if (pool->fresh < pool->count) {
        pool->free_count--;
        return pool->fresh++;
    }
    uint32_t back = pool->blocks[BLOCK_NULL].free_next;
    ASSERT(back != BLOCK_NULL);
    back_remove(pool, back);
    prefetch_back(pool);
    return back;
}

/* ---- hash table ---- */

uint32_t block_pool_lookup(const struct block_pool *pool, uint64_t hash)
{
    uint32_t id = *bucket_of(pool, hash);
    while (id != BLOCK_NULL && pool->blocks[id].hash != hash) {
        id = pool->blocks[id].bucket_next;
    }
    return id;
}

static void hash_insert(struct block_pool *pool, uint32_t id, uint64_t hash)
{
    struct block *blocks = pool->blocks;
    struct block *block = &blocks[id];
    block->hash = hash;
    pool->states[id] |= HASHED;
    block->group_next = 0;
    pool->cached_count++;
    uint32_t head = block_pool_lookup(pool, hash);
    if (head != BLOCK_NULL) {
        pool->states[id] |= GROUPED;
        block->group_prev = blocks[head].group_tail;
        blocks[block->group_prev].group_next = id;
        blocks[head].group_tail = id;
        return;
    }
    uint32_t *bucket = bucket_of(pool, hash);
    block->group_tail = id;
    block->bucket_prev = 0;
    block->bucket_next = *bucket;
    if (*bucket != BLOCK_NULL) {
        blocks[*bucket].bucket_prev = id;
    }
    *bucket = id;
}

/* Puts `successor` (0: nothing) where the group head `id` stands in its bucket's chain. */
static void bucket_replace(struct block_pool *pool, uint32_t id, uint32_t successor)
{
    struct block *blocks = pool->blocks;
    const struct block *block = &blocks[id];
    uint32_t next = successor != 0 ? successor : block->bucket_next;
    if (block->bucket_prev != 0) {
        blocks[block->bucket_prev].bucket_next = next;
    } else {
        *bucket_of(pool, block->hash) = next;
    }
    if (successor != 0) {
        blocks[successor].bucket_prev = block->bucket_prev;
        blocks[successor].bucket_next = block->bucket_next;
    }
    if (block->bucket_next != 0) {
        blocks[block->bucket_next].bucket_prev = successor != 0 ? successor : block->bucket_prev;
    }
}

static void hash_remove(struct block_pool *pool, uint32_t id)
{
    struct block *blocks = pool->blocks;
    struct block *block = &blocks[id];
    if ((pool->states[id] & GROUPED) == 0) {
        uint32_t successor = block->group_next;
        bucket_replace(pool, id, successor);
        if (successor != 0) {
            pool->states[successor] &= ~GROUPED;
            blocks[successor].group_tail = block->group_tail;
        }
    } else {
        blocks[block->group_prev].group_next = block->group_next;
        if (block->group_next != 0) {
            blocks[block->group_next].group_prev = block->group_prev;
        } else {
            blocks[block_pool_lookup(pool, block->hash)].group_tail = block->group_prev;
        }
    }
    pool->states[id] &= ~(HASHED | GROUPED);
    pool->cached_count--;
}

/* ---- calls ---- */

bool block_pool_is_free(const struct block_pool *pool, uint32_t id)
{
    return refs_of(pool, id) == 0;
}

void block_pool_touch(struct block_pool *pool, const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (refs_of(pool, ids[i]) == 0) {
            ASSERT(has_hash(pool, ids[i]));
            back_remove(pool, ids[i]);
        }
        pool->states[ids[i]]++;
    }
}

void block_pool_take(struct block_pool *pool, uint32_t count, uint32_t *ids_out)
{
    uint32_t hashed = 0;
    ASSERT(count <= pool->free_count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = free_pop(pool);
        pool->states[id]++;
        ids_out[i] = id;
        if (has_hash(pool, id)) {
            const struct block *block = &pool->blocks[id];
            __builtin_prefetch(bucket_of(pool, block->hash), 1);
            __builtin_prefetch(&pool->blocks[block->bucket_next], 1);
            hashed++;
        }
    }
    for (uint32_t i = 0; i < count && hashed > 0; i++) {
        if (has_hash(pool, ids_out[i])) {
            hash_remove(pool, ids_out[i]);
            hashed--;
        }
    }
}

void block_pool_prefetch(const struct block_pool *pool, const uint64_t *hashes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        __builtin_prefetch(bucket_of(pool, hashes[i]), 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        __builtin_prefetch(&pool->blocks[*bucket_of(pool, hashes[i])], 1);
    }
}

void block_pool_prefetch_entry(const struct block_pool *pool, uint64_t hash, uint64_t after)
{
    __builtin_prefetch(&pool->blocks[*bucket_of(pool, hash)], 1);
    __builtin_prefetch(bucket_of(pool, after), 1);
}

void block_pool_register(struct block_pool *pool, uint32_t id, uint64_t hash)
{
    ASSERT(refs_of(pool, id) > 0 && !has_hash(pool, id));
    hash_insert(pool, id, hash);
}

void block_pool_forget(struct block_pool *pool, uint32_t id)
{
    ASSERT(refs_of(pool, id) > 0);
    if (has_hash(pool, id)) {
        hash_remove(pool, id);
    }
}

bool block_pool_reset(struct block_pool *pool)
{
    if (pool->free_count != pool->count - 1) {
        return false;
    }
    for (uint32_t id = 1; id < pool->fresh; id++) {
        if (has_hash(pool, id)) {
            hash_remove(pool, id);
        }
    }
    return true;
}

void block_pool_release(struct block_pool *pool, const uint32_t *ids, uint32_t count)
{
    /* Hashed blocks from the last one on, so that the ends of sequences are evicted before what
     * others may share. */
    uint32_t unhashed_count = 0;
    for (uint32_t i = count; i-- > 0;) {
        ASSERT(refs_of(pool, ids[i]) > 0);
        pool->states[ids[i]]--;
        if ((pool->states[ids[i]] & ~GROUPED) == HASHED) {
            back_append(pool, ids[i]);
        } else {
            unhashed_count += pool->states[ids[i]] == 0;
        }
    }
    /* The others as one group at the head, in the same order: the last pushed is the last of the
     * sequence. */
    for (uint32_t i = 0; i < count && unhashed_count > 0; i++) {
        if (pool->states[ids[i]] == 0) {
            pool->front[pool->front_count++] = ids[i];
            pool->free_count++;
            unhashed_count--;
        }
    }
}

double block_pool_usage(const struct block_pool *pool)
{
    return 1.0 - (double)pool->free_count / (double)(pool->count - 1);
}

uint32_t block_pool_refs(const struct block_pool *pool, uint32_t id)
{
    return refs_of(pool, id);
}

bool block_pool_hash_of(const struct block_pool *pool, uint32_t id, uint64_t *hash)
{
    *hash = pool->blocks[id].hash;
    return has_hash(pool, id);
}

uint32_t block_pool_free_list(const struct block_pool *pool, uint32_t *ids_out)
{
    const struct block *blocks = pool->blocks;
    uint32_t n = 0;
    for (uint32_t i = pool->front_count; i > 0; i--) {
        ids_out[n++] = pool->front[i - 1];
    }
    for (uint32_t id = pool->fresh; id < pool->count; id++) {
        ids_out[n++] = id;
    }
    for (uint32_t id = blocks[BLOCK_NULL].free_next; id != BLOCK_NULL && n < pool->count;
         id = blocks[id].free_next) {
        ids_out[n++] = id;
    }
    return n;
}

/* ---- invariants ---- */

/* Length of the back half of the free list, or UINT32_MAX if a link or a member is wrong. */
static uint32_t check_back(const struct block_pool *pool, uint64_t *ids_sum)
{
    const struct block *blocks = pool->blocks;
    uint32_t n = 0;
    uint32_t prev = BLOCK_NULL;
    for (uint32_t id = blocks[BLOCK_NULL].free_next; id != BLOCK_NULL; id = blocks[id].free_next) {
        bool usable = id < pool->fresh && refs_of(pool, id) == 0;
        if (!usable || blocks[id].free_prev != prev || n >= pool->count) {
            return UINT32_MAX;
        }
        prev = id;
        *ids_sum += id;
        n++;
    }
    return blocks[BLOCK_NULL].free_prev == prev ? n : UINT32_MAX;
}

static bool check_front(const struct block_pool *pool, uint64_t *ids_sum)
{
    for (uint32_t i = 0; i < pool->front_count; i++) {
        uint32_t id = pool->front[i];
        if (id == BLOCK_NULL || id >= pool->fresh || pool->states[id] != 0) {
            return false;
        }
        *ids_sum += id;
    }
    return true;
}

/* Members of the group headed by `head`, or UINT32_MAX if a link is wrong. */
static uint32_t check_group(const struct block_pool *pool, uint32_t head)
{
    const struct block *blocks = pool->blocks;
    uint32_t n = 0;
    uint32_t prev = 0;
    for (uint32_t id = head; id != 0; id = blocks[id].group_next) {
        bool grouped = (pool->states[id] & GROUPED) != 0;
        if (!has_hash(pool, id) || blocks[id].hash != blocks[head].hash ||
            grouped != (id != head) || (grouped && blocks[id].group_prev != prev) ||
            n >= pool->count) {
            return UINT32_MAX;
        }
        prev = id;
        n++;
    }
    return blocks[head].group_tail == prev ? n : UINT32_MAX;
}

static const char *check_table(const struct block_pool *pool)
{
    uint32_t members = 0;
    for (uint32_t b = 0; b <= pool->bucket_mask; b++) {
        uint32_t prev = 0;
        for (uint32_t id = pool->buckets[b]; id != 0; id = pool->blocks[id].bucket_next) {
            const struct block *block = &pool->blocks[id];
            uint32_t n = check_group(pool, id);
            if (n == UINT32_MAX || block->bucket_prev != prev || members > pool->count) {
                return "hash table: broken group or bucket chain";
            }
            if (bucket_of(pool, block->hash) != &pool->buckets[b]) {
                return "hash table: block in a foreign bucket";
            }
            prev = id;
            members += n;
        }
    }
    return members == pool->cached_count ? NULL : "hash table: members differ from cached blocks";
}

const char *block_pool_check(const struct block_pool *pool)
{
    uint64_t ids_sum = 0;
    uint32_t back = check_back(pool, &ids_sum);
    if (back == UINT32_MAX || !check_front(pool, &ids_sum)) {
        return "free list: broken link, or a held block in it";
    }
    uint32_t unreferenced = pool->count - pool->fresh;
    uint32_t hashed = 0;
    for (uint32_t id = 1; id < pool->fresh; id++) {
        bool unheld = refs_of(pool, id) == 0;
        unreferenced += unheld;
        ids_sum -= unheld ? id : 0;
        hashed += has_hash(pool, id);
    }
    if (pool->front_count + back + (pool->count - pool->fresh) != pool->free_count) {
        return "free list: length differs from the count of free blocks";
    }
    if (unreferenced != pool->free_count || ids_sum != 0) {
        return "a block without holders is not in the free list, or twice";
    }
    if (hashed != pool->cached_count || pool->states[BLOCK_NULL] != 0) {
        return "count of cached blocks is wrong, or the null block is held";
    }
    return check_table(pool);
}
