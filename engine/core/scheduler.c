/* scheduler.c - planning of steps; see the header. */
#include "engine/core/scheduler.h"

#include <string.h>

/* One planning pass. */
struct pass {
    struct step_buffer *buffer;
    time_ps now;
    uint32_t budget_tokens;
    uint32_t seqs_count;
    uint32_t block_ids_count;
    uint32_t token_ids_count;
    bool preempted;
};

static size_t blocks_per_request(const struct engine_core_options *options)
{
    return (options->max_model_len + options->block_tokens - 1) / options->block_tokens;
}

size_t step_buffer_arena_bytes(const struct engine_core_options *options)
{
    size_t seqs = options->max_num_seqs;
    return ARENA_BYTES(seqs, struct step_seq) +
           ARENA_BYTES(seqs * blocks_per_request(options), uint32_t) +
           ARENA_BYTES(seqs * options->max_model_len, uint32_t) +
           ARENA_BYTES(options->requests_max, uint32_t);
}

void step_buffer_init(struct step_buffer *buffer, struct arena *arena,
                      const struct engine_core_options *options)
{
    size_t seqs = options->max_num_seqs;
    *buffer = (struct step_buffer){
        .seqs = ARENA_NEW(arena, struct step_seq, seqs),
        .block_ids = ARENA_NEW(arena, uint32_t, seqs * blocks_per_request(options)),
        .token_ids = ARENA_NEW(arena, uint32_t, seqs * options->max_model_len),
        .finished_slots = ARENA_NEW(arena, uint32_t, options->requests_max),
    };
}

size_t scheduler_arena_bytes(const struct engine_core_options *options)
{
    return block_pool_arena_bytes(options->num_gpu_blocks) + wait_queue_arena_bytes(options) +
           ARENA_BYTES(options->max_num_seqs, uint32_t) +
           ARENA_BYTES(options->num_gpu_blocks, uint32_t) +
           2 * ARENA_BYTES(options->requests_max, uint32_t) +
           ARENA_BYTES(options->block_tokens, uint32_t) +
           ARENA_BYTES((size_t)options->block_tokens + 1, uint32_t) +
           2 * ARENA_BYTES(options->max_num_seqs, uint32_t);
}

void scheduler_init(struct scheduler *s, struct arena *arena,
                    const struct engine_core_options *options, struct request_table *table)
{
    *s = (struct scheduler){
        .options = *options,
        .table = table,
        .running = ARENA_NEW(arena, uint32_t, options->max_num_seqs),
        .worker_finished = ARENA_NEW(arena, uint32_t, options->requests_max),
        .unreported = ARENA_NEW(arena, uint32_t, options->requests_max),
        .quiet_blocks = ARENA_NEW(arena, uint32_t, options->block_tokens),
        .quiet_first = ARENA_NEW(arena, uint32_t, (size_t)options->block_tokens + 1),
        .quiet_events = ARENA_NEW(arena, uint32_t, 2 * (size_t)options->max_num_seqs),
        .refs_scratch = ARENA_NEW(arena, uint32_t, options->num_gpu_blocks),
        .watermark_blocks = (uint32_t)(options->watermark * (double)options->num_gpu_blocks),
    };
    block_pool_init(&s->pool, arena, options->num_gpu_blocks);
    wait_queue_init(&s->waiting, arena, options, table->details);
}

void scheduler_add(struct scheduler *s, uint32_t slot)
{
    wait_queue_append(&s->waiting, slot);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t blocks_for(const struct scheduler *s, uint32_t tokens)
{
    return (tokens + s->options.block_tokens - 1) / s->options.block_tokens;
}

/* Enters the request's full blocks up to `tokens` into the prefix cache. */
static void register_full_blocks(struct scheduler *s, uint32_t slot, uint32_t tokens)
{
    struct request *r = &s->table->requests[slot];
    const uint32_t *blocks = request_table_blocks(s->table, slot);
    uint32_t full = tokens / s->options.block_tokens;
    const uint64_t *hashes = request_table_hashes(s->table, slot, full);
    uint32_t first = r->register_at_tokens / s->options.block_tokens - 1;
    if (full > first + 1) {
        block_pool_prefetch(&s->pool, hashes + first, full - first);
    }
    for (uint32_t i = first; i < full; i++) {
        block_pool_register(&s->pool, blocks[i], hashes[i]);
    }
    r->register_at_tokens = (full + 1) * s->options.block_tokens;
}

static void free_blocks(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->table->requests[slot];
    block_pool_release(&s->pool, request_table_blocks(s->table, slot), r->blocks_count);
    r->blocks_count = 0;
    r->capacity_tokens = 0;
}

/* ---- preemption ---- */

/* Takes back what this pass planned for `slot`, if anything: its tokens were never computed. */
static void undo_planned(struct scheduler *s, struct pass *pass, uint32_t slot)
{
    struct step_seq *seqs = pass->buffer->seqs;
    uint32_t i = 0;
    while (i < pass->seqs_count && seqs[i].slot != slot) {
        i++;
    }
    if (i == pass->seqs_count) {
        return;
    }
    struct request *r = &s->table->requests[slot];
    pass->budget_tokens += seqs[i].scheduled_tokens;
    r->in_flight--;
    if (s->options.prefix_caching) {
        /* Blocks that this pass entered into the prefix cache will not be filled. */
        const uint32_t *blocks = request_table_blocks(s->table, slot);
        uint32_t registered = r->register_at_tokens / s->options.block_tokens - 1;
        for (uint32_t b = seqs[i].computed_tokens / s->options.block_tokens; b < registered; b++) {
            block_pool_forget(&s->pool, blocks[b]);
        }
    }
    pass->seqs_count--;
    memmove(&seqs[i], &seqs[i + 1], (pass->seqs_count - i) * sizeof *seqs);
}

/* Index in running of the request that has to give way. */
static uint32_t victim_index(const struct scheduler *s)
{
    uint32_t worst = s->running_count - 1;
    if (s->options.policy == POLICY_FCFS) {
        return worst;
    }
    const struct request_detail *details = s->table->details;
    for (uint32_t i = 0; i < s->running_count; i++) {
        if (request_before(&details[s->running[worst]], &details[s->running[i]])) {
            worst = i;
        }
    }
    return worst;
}

static void running_remove(struct scheduler *s, uint32_t index)
{
    ASSERT(index < s->running_count);
    s->running_count--;
    memmove(&s->running[index], &s->running[index + 1],
            (s->running_count - index) * sizeof *s->running);
}

/* Back to waiting: everything is computed again, apart from what the prefix cache still holds then.
 */
static void preempt(struct scheduler *s, struct pass *pass, uint32_t index)
{
    uint32_t slot = s->running[index];
    struct request *r = &s->table->requests[slot];
    undo_planned(s, pass, slot);
    running_remove(s, index);
    free_blocks(s, slot);
    r->state = REQUEST_WAITING;
    r->computed_tokens = 0;
    r->placeholders = 0;
    if (s->options.prefix_caching) {
        r->register_at_tokens = s->options.block_tokens;
    }
    s->table->details[slot].preemptions_count++;
    s->preemptions_count++;
    pass->preempted = true;
    wait_queue_prepend(&s->waiting, slot);
}

/* ---- planning one request ---- */

/* Of a request that enters its blocks into the prefix cache one by one: where the last of them will
 * stand, and the one after it. Their tokens need not be known for their names, if nobody knows any.
 */
static void prefetch_entries(const struct scheduler *s, uint32_t slot)
{
    const struct request *r = &s->table->requests[slot];
    if (!s->options.prefix_caching || r->has_prompt || r->blocks_count >= s->table->blocks_max) {
        return;
    }
    const uint64_t *hashes = request_table_hashes(s->table, slot, r->blocks_count + 1);
    block_pool_prefetch_entry(&s->pool, hashes[r->blocks_count - 1], hashes[r->blocks_count]);
}

/* Gives the request `count` more blocks and names them in the plan. */
static void take_blocks(struct scheduler *s, struct pass *pass, uint32_t slot, uint32_t count)
{
    struct request *r = &s->table->requests[slot];
    uint32_t *blocks = request_table_blocks(s->table, slot) + r->blocks_count;
    block_pool_take(&s->pool, count, blocks);
    memcpy(pass->buffer->block_ids + pass->block_ids_count, blocks, count * sizeof *blocks);
    pass->block_ids_count += count;
    r->blocks_count += count;
    r->capacity_tokens += count * s->options.block_tokens;
    prefetch_entries(s, slot);
}

/* Books `tokens` for a request that has the blocks for them. */
static struct step_seq *plan_seq(struct scheduler *s, struct pass *pass, uint32_t slot,
                                 uint32_t tokens)
{
    struct request *r = &s->table->requests[slot];
    struct step_seq *seq = &pass->buffer->seqs[pass->seqs_count++];
    *seq = (struct step_seq){
        .slot = slot,
        .computed_tokens = r->computed_tokens,
        .scheduled_tokens = tokens,
        .flags = r->ignore_eos ? STEP_SEQ_IGNORE_EOS : 0,
        .sample_key = r->sample_key,
        .position = r->tokens_count - r->prompt_tokens + r->placeholders,
    };
    pass->budget_tokens -= tokens;
    r->in_flight++;
    r->computed_tokens += tokens;
    uint32_t known = min_u32(r->computed_tokens, r->tokens_count);
    if (known >= r->register_at_tokens) {
        register_full_blocks(s, slot, known);
    }
    if (r->computed_tokens == r->tokens_count + r->placeholders) {
        seq->flags |= STEP_SEQ_SAMPLES;
        r->placeholders++;
        if (s->options.pipeline_stages > 1) {
            s->table->details[slot].sampled_pass = s->passes_count;
        }
    }
    return seq;
}

/* ---- running requests ---- */

/*
 * The request's last token is not sampled yet and the pipeline must not wait for it: it samples
 * once in as many passes as there are stages, so that the requests fall into as many batches.
 */
static bool in_later_stages(const struct scheduler *s, uint32_t slot)
{
    uint32_t placeholders = s->table->requests[slot].placeholders;
    return s->options.pipeline_stages > 1 && placeholders > 0 &&
           (placeholders >= s->options.async_depth ||
            s->passes_count - s->table->details[slot].sampled_pass < s->options.pipeline_stages);
}

/* Tokens that a running request may get now, 0: none. */
static uint32_t running_tokens(const struct scheduler *s, const struct pass *pass, uint32_t slot)
{
    const struct request *r = &s->table->requests[slot];
    /* The token in flight will be its last: nothing may be computed after it. */
    if (r->placeholders > 0 && r->computed_tokens + 2 - r->placeholders >= r->limit_tokens) {
        return 0;
    }
    if (in_later_stages(s, slot)) {
        return 0;
    }
    uint32_t n = r->tokens_count + r->placeholders - r->computed_tokens;
    if (s->options.long_prefill_token_threshold > 0) {
        n = min_u32(n, s->options.long_prefill_token_threshold);
    }
    n = min_u32(n, pass->budget_tokens);
    return min_u32(n, s->options.max_model_len - r->computed_tokens - 1);
}

/*
 * Preempts until `need` blocks are free for the request at running[*index]; *index follows it.
 * False: it had to give way itself.
 */
static bool make_room(struct scheduler *s, struct pass *pass, uint32_t *index, uint32_t need)
{
    while (s->pool.free_count < need) {
        uint32_t victim = victim_index(s);
        preempt(s, pass, victim);
        if (victim == *index) {
            return false;
        }
        if (victim < *index) {
            (*index)--;
        }
    }
    return true;
}

/*
 * What most steps do for most requests, as running_tokens() and plan_seq() would: one more token,
 * which samples, in a block that is there, with no block to enter into the prefix cache. For all
 * from running[index] on until one wants something else: its index. Not for a pipeline.
 */
static uint32_t plan_decodes(struct scheduler *s, struct pass *pass, uint32_t index)
{
    struct request *requests = s->table->requests;
    const uint32_t *running = s->running;
    uint32_t max_model_len = s->options.max_model_len;
    uint32_t blocks_first = pass->block_ids_count;
    uint32_t end = index + min_u32(s->running_count - index, pass->budget_tokens);
    struct step_seq *seq = pass->buffer->seqs + pass->seqs_count;
    uint32_t i = index;
    for (; i < end; i++) {
        struct request *r = &requests[running[i]];
        uint32_t computed = r->computed_tokens + 1;
        if (computed != r->tokens_count + r->placeholders || computed > r->capacity_tokens ||
            computed >= max_model_len || r->tokens_count >= r->register_at_tokens ||
            (r->placeholders > 0 && r->tokens_count + 1 >= r->limit_tokens)) {
            break;
        }
        *seq++ = (struct step_seq){
            .slot = running[i],
            .computed_tokens = computed - 1,
            .scheduled_tokens = 1,
            .flags = STEP_SEQ_SAMPLES | (r->ignore_eos ? STEP_SEQ_IGNORE_EOS : 0),
            .sample_key = r->sample_key,
            .position = computed - r->prompt_tokens,
            .blocks_first = blocks_first,
        };
        r->in_flight++;
        r->computed_tokens = computed;
        r->placeholders++;
    }
    pass->seqs_count += i - index;
    pass->budget_tokens -= i - index;
    return i;
}

static void serve_running(struct scheduler *s, struct pass *pass)
{
    bool pipeline = s->options.pipeline_stages > 1;
    for (uint32_t i = 0;; i++) {
        i = pipeline ? i : plan_decodes(s, pass, i);
        if (i >= s->running_count || pass->budget_tokens == 0) {
            return;
        }
        uint32_t slot = s->running[i];
        const struct request *r = &s->table->requests[slot];
        uint32_t n = running_tokens(s, pass, slot);
        if (n == 0) {
            continue;
        }
        uint32_t blocks_first = pass->block_ids_count;
        uint32_t need = 0;
        if (r->computed_tokens + n > r->capacity_tokens) {
            need = blocks_for(s, r->computed_tokens + n) - r->blocks_count;
            if (!make_room(s, pass, &i, need)) {
                return;
            }
            take_blocks(s, pass, slot, need);
        }
        struct step_seq *seq = plan_seq(s, pass, slot, n);
        seq->blocks_first = blocks_first;
        seq->blocks_count = need;
    }
}

/* ---- admission ---- */

/* Looks the request's prefix up; its block list gets the hits, which are not held yet. */
static uint32_t find_hits(struct scheduler *s, uint32_t slot, uint32_t *free_hits)
{
    *free_hits = 0;
    if (!s->options.prefix_caching) {
        return 0;
    }
    /* At least one token is always computed: it gives the next one. */
    uint32_t limit = (s->table->requests[slot].tokens_count - 1) / s->options.block_tokens;
    const uint64_t *hashes = request_table_hashes(s->table, slot, limit);
    uint32_t *blocks = request_table_blocks(s->table, slot);
    for (uint32_t i = 0; i < limit; i++) {
        blocks[i] = block_pool_lookup(&s->pool, hashes[i]);
        if (blocks[i] == BLOCK_NULL) {
            return i;
        }
        *free_hits += block_pool_is_free(&s->pool, blocks[i]);
    }
    return limit;
}

/* Tokens to schedule for a waiting request of which `hit_tokens` are cached; 0: it has to wait for
 * a larger budget. */
static uint32_t admission_tokens(const struct scheduler *s, const struct pass *pass,
                                 const struct request *r, uint32_t hit_tokens)
{
    uint32_t n = r->tokens_count - hit_tokens;
    if (s->options.long_prefill_token_threshold > 0) {
        n = min_u32(n, s->options.long_prefill_token_threshold);
    }
    if (!s->options.chunked_prefill && n > pass->budget_tokens) {
        return 0;
    }
    return min_u32(n, pass->budget_tokens);
}

static void note_admission(struct scheduler *s, const struct pass *pass, uint32_t slot,
                           uint32_t hit_tokens)
{
    struct request_detail *d = &s->table->details[slot];
    d->on_workers = true;
    if (d->admitted) {
        return;
    }
    d->admitted = true;
    d->scheduled_at = pass->now;
    d->cached_tokens = hit_tokens;
    if (s->options.prefix_caching) {
        s->prefix_cache.requests_count++;
        s->prefix_cache.queries_tokens += s->table->requests[slot].tokens_count;
        s->prefix_cache.hits_tokens += hit_tokens;
    }
}

static void name_new(struct scheduler *s, struct pass *pass, uint32_t slot, struct step_seq *seq)
{
    seq->flags |= STEP_SEQ_NEW;
    if (!s->table->requests[slot].has_prompt) {
        return;
    }
    seq->tokens_first = pass->token_ids_count;
    seq->tokens_count = s->table->requests[slot].tokens_count;
    memcpy(pass->buffer->token_ids + pass->token_ids_count, request_table_tokens(s->table, slot),
           seq->tokens_count * sizeof(uint32_t));
    pass->token_ids_count += seq->tokens_count;
}

/* False: it does not fit now, and those behind it must wait too. */
static bool admit(struct scheduler *s, struct pass *pass, uint32_t slot)
{
    struct request *r = &s->table->requests[slot];
    if (r->in_flight > 0) {
        return false; /* preempted: first come the results of steps before that */
    }
    uint32_t free_hits;
    uint32_t hits = find_hits(s, slot, &free_hits);
    uint32_t hit_tokens = hits * s->options.block_tokens;
    uint32_t n = admission_tokens(s, pass, r, hit_tokens);
    if (n == 0) {
        return false;
    }
    uint32_t need = blocks_for(s, hit_tokens + n) - hits;
    uint32_t gate = s->options.reserve_full_isl ? blocks_for(s, r->tokens_count) - hits : need;
    /* Hits that nobody holds leave the free list too. */
    uint64_t wanted = (uint64_t)gate + free_hits;
    if (s->running_count > 0) {
        wanted += s->watermark_blocks;
    }
    if (wanted > s->pool.free_count) {
        return false;
    }
    wait_queue_remove(&s->waiting, slot);
    s->running[s->running_count++] = slot;
    r->state = REQUEST_RUNNING;
    const uint32_t *blocks = request_table_blocks(s->table, slot);
    uint32_t blocks_first = pass->block_ids_count;
    block_pool_touch(&s->pool, blocks, hits);
    memcpy(pass->buffer->block_ids + blocks_first, blocks, hits * sizeof *blocks);
    pass->block_ids_count += hits;
    r->blocks_count = hits;
    r->capacity_tokens = hit_tokens;
    r->computed_tokens = hit_tokens;
    if (s->options.prefix_caching) {
        r->register_at_tokens = hit_tokens + s->options.block_tokens;
    }
    note_admission(s, pass, slot, hit_tokens);
    take_blocks(s, pass, slot, need);
    struct step_seq *seq = plan_seq(s, pass, slot, n);
    seq->blocks_first = blocks_first;
    seq->blocks_count = hits + need;
    name_new(s, pass, slot, seq);
    return true;
}

void scheduler_schedule(struct scheduler *s, time_ps now, struct step_buffer *buffer)
{
    struct pass pass = {
        .buffer = buffer,
        .now = now,
        .budget_tokens = s->pause == PAUSED_ALL ? 0 : s->options.max_num_batched_tokens,
    };
    uint32_t budget_tokens = pass.budget_tokens;
    s->passes_count++;
    serve_running(s, &pass);
    while (s->pause == UNPAUSED && !pass.preempted && s->waiting.count > 0 &&
           pass.budget_tokens > 0 && s->running_count < s->options.max_num_seqs &&
           admit(s, &pass, wait_queue_peek(&s->waiting))) {
    }
    buffer->plan = (struct step_plan){
        .seqs = buffer->seqs,
        .seqs_count = pass.seqs_count,
        .tokens_count = budget_tokens - pass.budget_tokens,
        .block_ids = buffer->block_ids,
        .block_ids_count = pass.block_ids_count,
        .token_ids = buffer->token_ids,
        .token_ids_count = pass.token_ids_count,
        .finished_slots = buffer->finished_slots,
    };
}

void scheduler_attach_finished(struct scheduler *s, struct step_buffer *buffer)
{
    memcpy(buffer->finished_slots, s->worker_finished,
           s->worker_finished_count * sizeof *s->worker_finished);
    buffer->plan.finished_slots_count = s->worker_finished_count;
    s->worker_finished_count = 0;
}

/* ---- results ---- */

/* The request is over; the caller has taken it out of its queue. */
static void end_request(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->table->requests[slot];
    r->state = REQUEST_FINISHED;
    if (r->in_flight == 0) {
        free_blocks(s, slot);
    }
    if (s->table->details[slot].on_workers) {
        s->worker_finished[s->worker_finished_count++] = slot;
    }
    s->unreported[s->unreported_count++] = slot;
}

void scheduler_abort(struct scheduler *s, uint32_t slot)
{
    if (s->table->requests[slot].state == REQUEST_WAITING) {
        wait_queue_remove(&s->waiting, slot);
    } else {
        uint32_t index = 0;
        while (index < s->running_count && s->running[index] != slot) {
            index++;
        }
        running_remove(s, index);
    }
    end_request(s, slot);
}

/* vLLM's order: min_tokens (the caller asks from there on), end of sequence, stop ids, length. */
static void check_stop(const struct scheduler *s, uint32_t slot, uint32_t token,
                       struct commit_outcome *outcome)
{
    const struct request *r = &s->table->requests[slot];
    const struct request_detail *d = &s->table->details[slot];
    if (!r->ignore_eos && token == (uint32_t)d->eos_token_id) {
        outcome->finish = FINISH_STOP;
        return;
    }
    for (uint32_t i = 0; i < r->stop_ids_count; i++) {
        if (token == d->stop_token_ids[i]) {
            outcome->finish = FINISH_STOP;
            outcome->stop_token_id = (int32_t)token;
            return;
        }
    }
    if (r->tokens_count >= r->limit_tokens) {
        outcome->finish = FINISH_LENGTH;
    }
}

/* The last step in flight of a request that has ended meanwhile. */
static void commit_ended(struct scheduler *s, uint32_t slot)
{
    if (s->table->requests[slot].in_flight > 0) {
        return;
    }
    free_blocks(s, slot);
    if (s->table->details[slot].reported) {
        request_table_release(s->table, slot);
    }
}

bool scheduler_commit(struct scheduler *s, const struct step_seq *seq, uint32_t token,
                      struct commit_outcome *outcome)
{
    uint32_t slot = seq->slot;
    struct request *r = &s->table->requests[slot];
    ASSERT(r->in_flight > 0);
    r->in_flight--;
    if (r->state == REQUEST_FINISHED) {
        commit_ended(s, slot);
        return false;
    }
    if ((seq->flags & STEP_SEQ_SAMPLES) == 0) {
        return false;
    }
    if (r->has_prompt) {
        request_table_tokens(s->table, slot)[r->tokens_count] = token;
    }
    r->tokens_count++;
    *outcome = (struct commit_outcome){.finish = FINISH_NONE, .stop_token_id = TOKEN_NONE};
    if (r->tokens_count >= r->stop_from_tokens) {
        check_stop(s, slot, token, outcome);
    }
    bool running = r->state == REQUEST_RUNNING;
    if (running) {
        r->placeholders--;
        if (r->computed_tokens - r->placeholders >= r->register_at_tokens) {
            register_full_blocks(s, slot, r->computed_tokens - r->placeholders);
        }
    }
    if (outcome->finish != FINISH_NONE) {
        if (running) {
            s->running_finished_count++;
        } else {
            wait_queue_remove(&s->waiting, slot);
        }
        end_request(s, slot);
    }
    return true;
}

void scheduler_commit_end(struct scheduler *s)
{
    if (s->running_finished_count == 0) {
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->running_count; i++) {
        if (s->table->requests[s->running[i]].state == REQUEST_RUNNING) {
            s->running[kept++] = s->running[i];
        }
    }
    ASSERT(kept + s->running_finished_count == s->running_count);
    s->running_count = kept;
    s->running_finished_count = 0;
}

void scheduler_reported(struct scheduler *s)
{
    for (uint32_t i = 0; i < s->unreported_count; i++) {
        uint32_t slot = s->unreported[i];
        s->table->details[slot].reported = true;
        if (s->table->requests[slot].in_flight == 0) {
            request_table_release(s->table, slot);
        }
    }
    s->unreported_count = 0;
}

/* ---- quiet steps ---- */

/* Its next steps are all alike; `in_flight` of them are submitted. */
static bool decodes_quietly(const struct scheduler *s, const struct request *r, uint32_t in_flight)
{
    return r->in_flight == in_flight && r->placeholders == in_flight &&
           r->computed_tokens + 1 == r->tokens_count + in_flight && r->first_sent &&
           !r->has_prompt && r->ignore_eos && r->stop_ids_count == 0 &&
           r->capacity_tokens >= r->computed_tokens &&
           r->capacity_tokens - r->computed_tokens < s->options.block_tokens;
}

/* As many of `steps` as the free blocks last. */
static uint64_t steps_with_blocks(const struct scheduler *s, uint64_t steps)
{
    uint64_t left = s->pool.free_count;
    if (s->running_count * (steps / s->options.block_tokens + 1) <= left) {
        return steps;
    }
    for (uint64_t i = 0; i < steps; i++) {
        uint32_t need = s->quiet_blocks[i % s->options.block_tokens];
        if (need > left) {
            return i;
        }
        left -= need;
    }
    return steps;
}

void scheduler_quiet(struct scheduler *s, uint32_t in_flight, struct engine_core_quiet *quiet)
{
    *quiet = (struct engine_core_quiet){.blocks = s->quiet_blocks};
    if (s->running_count == 0 || s->waiting.count + s->unreported_count > 0 ||
        s->worker_finished_count > 0 || s->pause != UNPAUSED) {
        return;
    }
    uint64_t steps = UINT64_MAX;
    memset(s->quiet_blocks, 0, s->options.block_tokens * sizeof *s->quiet_blocks);
    for (uint32_t i = 0; i < s->running_count; i++) {
        const struct request *r = &s->table->requests[s->running[i]];
        if (!decodes_quietly(s, r, in_flight) || r->tokens_count + 1 >= r->limit_tokens) {
            return;
        }
        uint64_t own = r->limit_tokens - r->tokens_count - 1;
        steps = own < steps ? own : steps;
        quiet->computed_tokens += r->computed_tokens;
        s->quiet_blocks[r->capacity_tokens - r->computed_tokens]++;
    }
    quiet->seqs_count = s->running_count;
    quiet->steps_count = steps_with_blocks(s, steps);
}

/* In which step, modulo the tokens of a block, the request takes its next block, or its next full
 * block enters the prefix cache; block_tokens: never. */
static uint32_t event_step(const struct scheduler *s, uint32_t event)
{
    const struct request *r = &s->table->requests[s->running[event / 2]];
    if (event % 2 == 0) {
        return r->capacity_tokens - r->computed_tokens;
    }
    return r->register_at_tokens == UINT32_MAX ? s->options.block_tokens
                                               : r->register_at_tokens - r->tokens_count;
}

/* Events in the order in which steps make them: by step, then by request, blocks first. */
static void sort_events(struct scheduler *s)
{
    uint32_t period = s->options.block_tokens;
    uint32_t *first = s->quiet_first;
    memset(first, 0, ((size_t)period + 1) * sizeof *first);
    for (uint32_t event = 0; event < 2 * s->running_count; event++) {
        uint32_t step = event_step(s, event);
        ASSERT(step <= period);
        first[step]++;
    }
    uint32_t before = 0;
    for (uint32_t step = 0; step <= period; step++) {
        uint32_t count = first[step];
        first[step] = before;
        before += count;
    }
    for (uint32_t event = 0; event < 2 * s->running_count; event++) {
        s->quiet_events[first[event_step(s, event)]++] = event;
    }
    /* Each now is where the next step's begin. */
}

static void do_event(struct scheduler *s, uint32_t event)
{
    uint32_t slot = s->running[event / 2];
    struct request *r = &s->table->requests[slot];
    if (event % 2 == 1) {
        register_full_blocks(s, slot, r->register_at_tokens);
        return;
    }
    block_pool_take(&s->pool, 1, request_table_blocks(s->table, slot) + r->blocks_count);
    r->blocks_count++;
    r->capacity_tokens += s->options.block_tokens;
}

void scheduler_advance(struct scheduler *s, uint64_t steps)
{
    uint32_t period = s->options.block_tokens;
    sort_events(s);
    for (uint64_t i = 0; i < steps; i++) {
        uint32_t step = (uint32_t)(i % period);
        uint32_t end = s->quiet_first[step];
        for (uint32_t k = step > 0 ? s->quiet_first[step - 1] : 0; k < end; k++) {
            do_event(s, s->quiet_events[k]);
        }
    }
    s->passes_count += (uint32_t)steps;
    for (uint32_t i = 0; i < s->running_count; i++) {
        struct request *r = &s->table->requests[s->running[i]];
        r->tokens_count += (uint32_t)steps;
        r->computed_tokens += (uint32_t)steps;
    }
}
