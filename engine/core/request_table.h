/*
 * request_table.h - the requests one engine core holds: their state in slots, their tokens, blocks
 * and block hashes.
 *
 * What every step needs of a request is one cache line (struct request); everything else is struct
 * request_detail. The arrays behind a slot (tokens, blocks, hashes) are reserved for the longest
 * sequence and touched only as far as used; slots are given out last in, first out, so that the
 * touched part stays small. Driven by scheduler and engine_core.
 */
#ifndef ENGINE_CORE_REQUEST_TABLE_H
#define ENGINE_CORE_REQUEST_TABLE_H

#include "engine/base/id_map.h"
#include "engine/core/engine_core.h"

enum request_state {
    REQUEST_FREE,
    REQUEST_WAITING,
    REQUEST_RUNNING,
    REQUEST_FINISHED
};

struct request {
    uint64_t sample_key;
    uint64_t tag;             /* of its front end */
    uint32_t tokens_count;    /* known: prompt and confirmed outputs */
    uint32_t computed_tokens; /* in the KV cache once all submitted steps are done */
    uint32_t placeholders;    /* samples of submitted steps that are not known yet */
    uint32_t prompt_tokens;
    uint32_t limit_tokens;       /* ends with LENGTH at this many tokens */
    uint32_t stop_from_tokens;   /* below this many tokens nothing ends it: min_tokens, or the limit
                                    if nothing else could */
    uint32_t capacity_tokens;    /* what its blocks hold */
    uint32_t register_at_tokens; /* end of the first block not in the prefix cache; UINT32_MAX:
                                    caching is off */
    uint32_t blocks_count;
    uint32_t client_index;
    uint8_t state;     /* enum request_state */
    uint8_t in_flight; /* submitted steps it is part of */
    uint8_t stop_ids_count;
    bool ignore_eos;
    bool has_prompt; /* token ids are known */
    bool first_sent; /* its first output went out */
};

_Static_assert(sizeof(struct request) == 64, "a cache line");

struct request_detail {
    char id[REQUEST_ID_BYTES_MAX];
    uint32_t stop_token_ids[STOP_TOKENS_MAX];
    uint64_t prompt_hash;
    uint64_t hash_root; /* parent of the first block's hash */
    uint64_t order;     /* of arrival at this engine: the last tie-breaker */
    int64_t arrival_wall_ns;
    time_ps queued_at;
    time_ps scheduled_at;
    uint32_t hashes_count;
    uint32_t preemptions_count;
    uint32_t cached_tokens; /* prefix hits of the first admission */
    uint32_t queue_prev;    /* FCFS: neighbours in the waiting queue */
    uint32_t queue_next;
    uint32_t heap_index;   /* PRIORITY: place in the waiting heap */
    uint32_t sampled_pass; /* scheduling pass that last let it sample; only with a pipeline */
    int32_t eos_token_id;
    int32_t priority;
    bool admitted;   /* was scheduled once */
    bool on_workers; /* workers hold state for it */
    bool reported;   /* its client was told that it ended */
};

struct request_table {
    struct request *requests;
    struct request_detail *details;
    uint32_t *tokens; /* [slots][max_model_len] */
    uint32_t *blocks; /* [slots][blocks_max] */
    uint64_t *hashes; /* [slots][blocks_max] */
    uint32_t *free_slots;
    struct id_map ids; /* unfinished requests */
    uint64_t next_order;
    uint32_t free_slots_count;
    uint32_t fresh_slots; /* slots fresh_slots.. were never used */
    uint32_t slots_count;
    uint32_t max_model_len;
    uint32_t blocks_max; /* of one request */
    uint32_t block_tokens;
};

size_t request_table_arena_bytes(const struct engine_core_options *options);
void request_table_init(struct request_table *table, struct arena *arena,
                        const struct engine_core_options *options);
/* Slot for a validated request, entered under its id; ID_MAP_NONE if all are taken. The request is
 * WAITING, in no queue. */
uint32_t request_table_add(struct request_table *table, const struct engine_core_options *options,
                           const struct engine_request *request, time_ps now);
/* The slot may be given out again. */
void request_table_release(struct request_table *table, uint32_t slot);
/* Extends the request's block hashes to `blocks` full blocks, whose tokens must be known, and
 * returns them. */
const uint64_t *request_table_hashes(struct request_table *table, uint32_t slot, uint32_t blocks);

static inline uint32_t *request_table_blocks(const struct request_table *table, uint32_t slot)
{
    return table->blocks + (size_t)slot * table->blocks_max;
}

static inline uint32_t *request_table_tokens(const struct request_table *table, uint32_t slot)
{
    return table->tokens + (size_t)slot * table->max_model_len;
}

#endif
