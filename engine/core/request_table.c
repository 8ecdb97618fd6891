/* request_table.c - slots of requests; see the header. */
#include "engine/core/request_table.h"

#include <string.h>

#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "engine/core/block_pool.h"

static uint32_t blocks_per_request(const struct engine_core_options *options)
{
    return (options->max_model_len + options->block_tokens - 1) / options->block_tokens;
}

size_t request_table_arena_bytes(const struct engine_core_options *options)
{
    size_t slots = options->requests_max;
    size_t blocks = slots * blocks_per_request(options);
    return ARENA_BYTES(slots, struct request) + ARENA_BYTES(slots, struct request_detail) +
           ARENA_BYTES(slots * options->max_model_len, uint32_t) + ARENA_BYTES(blocks, uint32_t) +
           ARENA_BYTES(blocks, uint64_t) + ARENA_BYTES(slots, uint32_t) +
           id_map_arena_bytes(options->requests_max);
}

static const char *id_of(const void *ctx, uint32_t slot)
{
    const struct request_detail *details = ctx;
    return details[slot].id;
}

void request_table_init(struct request_table *table, struct arena *arena,
                        const struct engine_core_options *options)
{
    size_t slots = options->requests_max;
    uint32_t blocks_max = blocks_per_request(options);
    *table = (struct request_table){
        .requests = ARENA_NEW(arena, struct request, slots),
        .details = ARENA_NEW(arena, struct request_detail, slots),
        .tokens = ARENA_NEW(arena, uint32_t, slots * options->max_model_len),
        .blocks = ARENA_NEW(arena, uint32_t, slots * blocks_max),
        .hashes = ARENA_NEW(arena, uint64_t, slots * blocks_max),
        .free_slots = ARENA_NEW(arena, uint32_t, slots),
        .slots_count = options->requests_max,
        .max_model_len = options->max_model_len,
        .blocks_max = blocks_max,
        .block_tokens = options->block_tokens,
    };
    id_map_init(&table->ids, arena, options->requests_max, id_of, table->details);
}

static uint32_t sum_capped(uint32_t a, uint32_t b, uint32_t cap)
{
    uint64_t sum = (uint64_t)a + b;
    return sum < cap ? (uint32_t)sum : cap;
}

static uint64_t hash_root(const char *salt)
{
    return salt != NULL ? hash64(salt, strlen(salt), BLOCK_HASH_ROOT) : BLOCK_HASH_ROOT;
}

/*
 * Which of several choices of one prompt a request is: its id starts with "<index>_" then. Without
 * a seed of its own that is all that tells it from its siblings, which must not say the same.
 */
static uint64_t choice_of(const char *id)
{
    uint64_t choice = 0;
    while (*id >= '0' && *id <= '9') {
        choice = choice * 10 + (uint64_t)(*id++ - '0');
    }
    return *id == '_' ? choice : 0;
}

static void fill_request(struct request *r, const struct engine_core_options *options,
                         const struct engine_request *request)
{
    const struct sampling_params *sampling = &request->sampling;
    uint64_t seed = sampling->has_seed ? (uint64_t)sampling->seed : options->seed;
    uint64_t choice = sampling->has_seed ? 0 : choice_of(request->id);
    uint32_t limit =
        sum_capped(request->prompt_tokens_count, sampling->max_tokens, options->max_model_len);
    bool ignore_eos = sampling->eos_token_id == TOKEN_NONE;
    bool stops = !ignore_eos || sampling->stop_token_ids_count > 0;
    *r = (struct request){
        .tag = request->tag,
        .sample_key = random_at(random_at(seed, request->prompt_hash), choice),
        .tokens_count = request->prompt_tokens_count,
        .prompt_tokens = request->prompt_tokens_count,
        .limit_tokens = limit,
        .stop_from_tokens =
            stops ? sum_capped(request->prompt_tokens_count, sampling->min_tokens, limit) : limit,
        .register_at_tokens = options->prefix_caching ? options->block_tokens : UINT32_MAX,
        .client_index = request->client_index,
        .state = REQUEST_WAITING,
        .stop_ids_count = (uint8_t)sampling->stop_token_ids_count,
        .has_prompt = request->prompt_token_ids != NULL,
        .ignore_eos = ignore_eos,
    };
}

static void fill_detail(struct request_detail *d, const struct engine_request *request)
{
    const struct sampling_params *sampling = &request->sampling;
    memcpy(d->id, request->id, strlen(request->id) + 1);
    memcpy(d->stop_token_ids, sampling->stop_token_ids,
           sampling->stop_token_ids_count * sizeof d->stop_token_ids[0]);
    d->prompt_hash = request->prompt_hash;
    d->hash_root = hash_root(request->cache_salt);
    d->arrival_wall_ns = request->arrival_wall_ns;
    d->scheduled_at = 0;
    d->hashes_count = 0;
    d->preemptions_count = 0;
    d->cached_tokens = 0;
    d->sampled_pass = 0;
    d->eos_token_id = sampling->eos_token_id;
    d->priority = request->priority;
    d->admitted = false;
    d->on_workers = false;
    d->reported = false;
}

uint32_t request_table_add(struct request_table *table, const struct engine_core_options *options,
                           const struct engine_request *request, time_ps now)
{
    uint32_t slot;
    if (table->free_slots_count > 0) {
        slot = table->free_slots[--table->free_slots_count];
    } else if (table->fresh_slots < table->slots_count) {
        slot = table->fresh_slots++;
    } else {
        return ID_MAP_NONE;
    }
    struct request_detail *d = &table->details[slot];
    fill_request(&table->requests[slot], options, request);
    fill_detail(d, request);
    d->order = table->next_order++;
    d->queued_at = now;
    if (request->prompt_token_ids != NULL) {
        memcpy(request_table_tokens(table, slot), request->prompt_token_ids,
               request->prompt_tokens_count * sizeof(uint32_t));
    }
    id_map_put(&table->ids, d->id, slot);
    return slot;
}

void request_table_release(struct request_table *table, uint32_t slot)
{
    ASSERT(table->requests[slot].state == REQUEST_FINISHED);
    ASSERT(table->requests[slot].in_flight == 0 && table->requests[slot].blocks_count == 0);
    table->requests[slot].state = REQUEST_FREE;
    table->free_slots[table->free_slots_count++] = slot;
}

/*
 * Without token ids a block is named by what determines its content: the prompt's hash inside the
 * prompt, and the sampling key, which determines every output of the emulated device, where it
 * holds outputs.
 */
static uint64_t counted_hash(const struct request_table *table, uint32_t slot, uint32_t block)
{
    const struct request *r = &table->requests[slot];
    const struct request_detail *d = &table->details[slot];
    bool in_prompt = (uint64_t)(block + 1) * table->block_tokens <= r->prompt_tokens;
    uint64_t content = in_prompt ? d->prompt_hash : ~r->sample_key;
    return random_at(random_at(d->hash_root, content), block);
}

const uint64_t *request_table_hashes(struct request_table *table, uint32_t slot, uint32_t blocks)
{
    struct request_detail *d = &table->details[slot];
    uint64_t *hashes = table->hashes + (size_t)slot * table->blocks_max;
    const uint32_t *tokens = request_table_tokens(table, slot);
    for (uint32_t i = d->hashes_count; i < blocks; i++) {
        if (table->requests[slot].has_prompt) {
            uint64_t parent = i > 0 ? hashes[i - 1] : d->hash_root;
            hashes[i] =
                block_hash(parent, tokens + (size_t)i * table->block_tokens, table->block_tokens);
        } else {
            hashes[i] = counted_hash(table, slot, i);
        }
    }
    if (blocks > d->hashes_count) {
        d->hashes_count = blocks;
    }
    return hashes;
}
