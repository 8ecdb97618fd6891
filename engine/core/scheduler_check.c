/* scheduler_check.c - the invariants of a scheduler and its requests, for tests; see
 * scheduler_check(). */
#include <string.h>

#include "engine/core/scheduler.h"

static const char *check_request(const struct scheduler *s, uint32_t slot)
{
    const struct request *r = &s->table->requests[slot];
    const struct request_detail *d = &s->table->details[slot];
    uint32_t block_tokens = s->options.block_tokens;
    if (r->capacity_tokens != r->blocks_count * block_tokens) {
        return "request: capacity differs from its blocks";
    }
    if (r->state == REQUEST_WAITING) {
        return r->blocks_count == 0 && r->computed_tokens == 0 && r->placeholders == 0
                   ? NULL
                   : "waiting request holds blocks, computed tokens or placeholders";
    }
    if (r->state != REQUEST_RUNNING) {
        return r->state == REQUEST_FREE && r->blocks_count > 0 ? "free slot holds blocks" : NULL;
    }
    if (r->computed_tokens >= r->tokens_count + r->placeholders) {
        return "request: computed reaches beyond its known tokens and placeholders";
    }
    if (r->computed_tokens > r->capacity_tokens) {
        return "request: computed tokens without a block";
    }
    if (r->tokens_count >= r->limit_tokens || r->tokens_count + r->placeholders > r->limit_tokens) {
        return "request: runs beyond its length limit";
    }
    if (r->placeholders > r->in_flight || r->placeholders > s->options.async_depth ||
        r->in_flight > engine_core_batches_max(&s->options)) {
        return "request: more placeholders or steps in flight than the depth allows";
    }
    return d->cached_tokens < r->prompt_tokens ? NULL : "prefix hits cover the last prompt token";
}

/* Full blocks of a running request carry its hash chain as far as it says. */
static const char *check_hashes(const struct scheduler *s, uint32_t slot)
{
    const struct request *r = &s->table->requests[slot];
    if (r->state != REQUEST_RUNNING || !s->options.prefix_caching) {
        return NULL;
    }
    uint32_t registered = r->register_at_tokens / s->options.block_tokens - 1;
    const uint32_t *blocks = request_table_blocks(s->table, slot);
    const uint64_t *hashes = s->table->hashes + (size_t)slot * s->table->blocks_max;
    if (registered > r->blocks_count || registered > s->table->details[slot].hashes_count) {
        return "request: more blocks in the prefix cache than it has";
    }
    for (uint32_t i = 0; i < r->blocks_count; i++) {
        uint64_t hash;
        bool hashed = block_pool_hash_of(&s->pool, blocks[i], &hash);
        if (hashed != (i < registered) || (hashed && hash != hashes[i])) {
            return "request: a block's hash is not that of its place in the sequence";
        }
    }
    return NULL;
}

/* Holders counted from the requests are the pool's ref counts. */
static const char *check_refs(const struct scheduler *s)
{
    uint32_t *refs = s->refs_scratch;
    memset(refs, 0, s->options.num_gpu_blocks * sizeof *refs);
    for (uint32_t slot = 0; slot < s->table->fresh_slots; slot++) {
        const uint32_t *blocks = request_table_blocks(s->table, slot);
        for (uint32_t i = 0; i < s->table->requests[slot].blocks_count; i++) {
            if (blocks[i] == BLOCK_NULL || blocks[i] >= s->options.num_gpu_blocks) {
                return "request: block number out of range";
            }
            refs[blocks[i]]++;
        }
    }
    for (uint32_t id = 0; id < s->options.num_gpu_blocks; id++) {
        if (refs[id] != block_pool_refs(&s->pool, id)) {
            return "a block's ref count differs from its holders";
        }
    }
    return NULL;
}

static const char *check_slots(const struct scheduler *s)
{
    uint32_t states[4] = {0};
    for (uint32_t slot = 0; slot < s->table->fresh_slots; slot++) {
        states[s->table->requests[slot].state]++;
        const char *broken = check_request(s, slot);
        if (broken == NULL) {
            broken = check_hashes(s, slot);
        }
        if (broken != NULL) {
            return broken;
        }
    }
    if (states[REQUEST_RUNNING] != s->running_count ||
        states[REQUEST_WAITING] != s->waiting.count) {
        return "slots: states differ from the queues";
    }
    if (states[REQUEST_FREE] != s->table->free_slots_count) {
        return "slots: free slots lost";
    }
    if (s->table->ids.count != s->running_count + s->waiting.count) {
        return "slots: ids differ from unfinished requests";
    }
    return NULL;
}

const char *scheduler_check(const struct scheduler *s)
{
    if (s->running_count > s->options.max_num_seqs || s->running_finished_count != 0) {
        return "running: more than max_num_seqs, or an ended request";
    }
    for (uint32_t i = 0; i < s->running_count; i++) {
        if (s->table->requests[s->running[i]].state != REQUEST_RUNNING) {
            return "running: a member is not running";
        }
        for (uint32_t j = 0; j < i; j++) {
            if (s->running[i] == s->running[j]) {
                return "running: a member is there twice";
            }
        }
    }
    const char *broken = wait_queue_check(&s->waiting, s->table->requests);
    if (broken == NULL) {
        broken = check_slots(s);
    }
    if (broken == NULL) {
        broken = block_pool_check(&s->pool);
    }
    if (broken == NULL) {
        broken = check_refs(s);
    }
    return broken;
}
