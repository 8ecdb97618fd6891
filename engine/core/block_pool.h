/*
 * block_pool.h - the paged KV cache of one engine core: which blocks are free, who shares them, and
 * which of them hold a known prefix.
 *
 * Block 0 is the null block and never handed out. Free blocks stand in one list: taken from its
 * head, given back at the tail when they hold a cached prefix (so the list is LRU over prefixes)
 * and at the head when they do not. A block keeps its hash while it is free; taking it for
 * something else evicts the hash. Several blocks may stand under one hash: two requests that
 * compute the same block at the same time each keep theirs, and a lookup gives the oldest.
 *
 * Driven by the scheduler only. Every call is O(blocks it names), block_pool_reset() O(blocks ever
 * taken). Creation touches no block, so a pool that is never filled costs no memory, and a block
 * that never held a prefix costs 8 bytes.
 */
#ifndef ENGINE_CORE_BLOCK_POOL_H
#define ENGINE_CORE_BLOCK_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/arena.h"

enum {
    BLOCK_NULL = 0
};

/* Parent hash of the first block of a sequence without a cache salt. */
#define BLOCK_HASH_ROOT 0x6b76626c6f636b73ULL

struct block;

struct block_pool {
    uint32_t
        *states;     /* [count], holders of each block; top bits: it holds a hash, behind another */
    uint32_t *front; /* [count], front half of the free list, its head last: never with a hash */
    struct block *blocks; /* [count], of those that hold a hash, and of the back half */
    uint32_t *buckets;    /* hash -> first block of the first group in this bucket, 0: none */
    uint32_t bucket_mask; /* buckets - 1 */
    uint32_t count;       /* the null block included */
    uint32_t free_count;
    uint32_t front_count;
    uint32_t fresh;        /* blocks fresh.. were never taken: they stand between the two halves */
    uint32_t cached_count; /* blocks that hold a hash */
};

size_t block_pool_arena_bytes(uint32_t blocks_count);
/* `blocks_count` includes the null block and is at least 2. */
void block_pool_init(struct block_pool *pool, struct arena *arena, uint32_t blocks_count);

/* Hash of one full block of tokens after its parent's hash (BLOCK_HASH_ROOT or a salted root for
 * the first). */
uint64_t block_hash(uint64_t parent, const uint32_t *tokens, uint32_t tokens_count);

/* The oldest block under `hash`, free or in use, or BLOCK_NULL. */
uint32_t block_pool_lookup(const struct block_pool *pool, uint64_t hash);
/* Nobody holds the block: it stands in the free list. */
bool block_pool_is_free(const struct block_pool *pool, uint32_t id);
/* One more holder for each block: those that were free leave the free list. */
void block_pool_touch(struct block_pool *pool, const uint32_t *ids, uint32_t count);
/* Takes `count` blocks from the head of the free list (there must be as many), evicts their hashes,
 * one holder each. */
void block_pool_take(struct block_pool *pool, uint32_t count, uint32_t *ids_out);
/* These hashes are about to be registered: their places in the table, which are scattered over
 * memory, are fetched together. Changes nothing. */
void block_pool_prefetch(const struct block_pool *pool, const uint64_t *hashes, uint32_t count);
/* The same for one that is registered some steps later, which was `after` in the call before, and
 * for the one after it. */
void block_pool_prefetch_entry(const struct block_pool *pool, uint64_t hash, uint64_t after);
/* The block, which is held and has no hash yet, now holds the prefix `hash`. */
void block_pool_register(struct block_pool *pool, uint32_t id, uint64_t hash);
/* The block no longer holds a known prefix. It must be held. */
void block_pool_forget(struct block_pool *pool, uint32_t id);
/* No block holds a known prefix any more. False, and nothing changes, if a block is held. */
bool block_pool_reset(struct block_pool *pool);
/* One holder less for each block of a sequence; `ids` in sequence order, given back tail first. */
void block_pool_release(struct block_pool *pool, const uint32_t *ids, uint32_t count);
/* Fraction of blocks held, 0..1. */
double block_pool_usage(const struct block_pool *pool);

uint32_t block_pool_refs(const struct block_pool *pool, uint32_t id);
bool block_pool_hash_of(const struct block_pool *pool, uint32_t id, uint64_t *hash);
/* The free list from its head on; returns its length. For tests. */
uint32_t block_pool_free_list(const struct block_pool *pool, uint32_t *ids_out);
/* NULL, or what is wrong with the free list, the ref counts or the hash table. O(blocks), for
 * tests. */
const char *block_pool_check(const struct block_pool *pool);

#endif
