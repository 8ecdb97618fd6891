/*
 * tally.c - owns the counts of one engine core. Driven by whoever simulates it.
 *
 * A request samples in each step from the one that computes the last of its known tokens to the one
 * that gives its last token; nothing of it changes in between but what follows from the step's
 * number. So those that decode are kept as sums: how many, their contexts, how many take a block in
 * which steps (modulo the tokens of a block), and a heap of their last steps. A preemption, which
 * depends on the order of all, goes through them one by one.
 */
#include "engine/core/tally.h"

enum {
    PLANS = 4, /* in flight: at most 2 */
    DEPTH_MAX = 2
};

#define SLOT_NONE 0xffffffffU

enum entry_state {
    ENTRY_FREE,
    ENTRY_WAITING,
    ENTRY_PREFILLING, /* some of its known tokens are computed; the last in the order */
    ENTRY_DECODING,
    ENTRY_ENDING /* its last step is planned */
};

/* A request. */
struct entry {
    uint64_t number;
    uint64_t order;      /* of its admission */
    uint64_t first_step; /* since its admission, that samples */
    uint64_t last_step;
    time_ps queued_at;
    time_ps scheduled_at;
    uint32_t prompt_tokens;
    uint32_t limit_tokens;
    uint32_t tokens;   /* known at its admission, or while it waits */
    uint32_t computed; /* while it prefills */
    uint32_t client;
    uint32_t preemptions_count;
    uint32_t prev; /* among those that run, or wait */
    uint32_t next;
    uint32_t next_first; /* in the lists of rows to come */
    uint32_t next_last;
    uint8_t state; /* enum entry_state */
    bool admitted;
    bool first_planned;
};

struct list {
    uint32_t head;
    uint32_t tail;
    uint32_t count;
};

struct ending {
    uint64_t last_step;
    uint64_t order;
    uint32_t slot;
};

struct tally {
    struct engine_core_options options;
    uint32_t watermark_blocks;
    uint32_t free_blocks;
    uint64_t submitted;
    uint64_t completed;
    bool just_submitted;
    bool awaiting;

    struct entry *entries; /* [requests_max] */
    uint32_t *free_slots;
    uint32_t free_slots_count;
    uint32_t fresh_slots;
    struct list running; /* by order */
    struct list waiting;
    struct list firsts; /* whose first token is in flight */
    struct list lasts;  /* whose last token is in flight */
    uint64_t next_order;
    uint32_t prefilling; /* SLOT_NONE: nobody */
    bool blocked;        /* too few free blocks for the first that waits */

    /* of those that decode */
    struct ending *heap; /* [max_num_seqs] */
    uint32_t decoding_count;
    uint64_t contexts;     /* modulo 2^64: + decoding_count x step = computed before that step */
    uint32_t *step_blocks; /* [block_tokens] */
    uint32_t *client_seqs; /* [clients_count] */
    uint32_t clients_count;

    uint32_t worker_finished_count;
    uint32_t preemptions_count;
    uint32_t published_running;
    uint32_t published_waiting;
    struct tally_plan plans[PLANS];
    struct tally_row *rows; /* [max_num_seqs] */
    uint32_t rows_count;
};

/* ---- creation ---- */

bool tally_fits(const struct engine_core_options *o)
{
    return o->wave.ranks_count == 0 && o->pipeline_stages <= 1 && o->policy == POLICY_FCFS &&
           !o->prefix_caching && o->long_prefill_token_threshold == 0 &&
           o->async_depth <= DEPTH_MAX;
}

size_t tally_arena_bytes(const struct engine_core_options *o)
{
    return ARENA_BYTES(1, struct tally) + ARENA_BYTES(o->requests_max, struct entry) +
           ARENA_BYTES(o->requests_max, uint32_t) + ARENA_BYTES(o->max_num_seqs, struct ending) +
           ARENA_BYTES(o->block_tokens, uint32_t) + ARENA_BYTES(o->clients_count, uint32_t) +
           ARENA_BYTES(o->max_num_seqs, struct tally_row);
}

static struct list empty_list(void)
{
    return (struct list){.head = SLOT_NONE, .tail = SLOT_NONE};
}

void tally_create(struct arena *arena, const struct engine_core_options *o, struct tally **out)
{
    ASSERT(tally_fits(o));
    struct tally *t = ARENA_NEW(arena, struct tally, 1);
    *t = (struct tally){
        .options = *o,
        .watermark_blocks = (uint32_t)(o->watermark * (double)o->num_gpu_blocks),
        .free_blocks = o->num_gpu_blocks - 1,
        .entries = ARENA_NEW(arena, struct entry, o->requests_max),
        .free_slots = ARENA_NEW(arena, uint32_t, o->requests_max),
        .running = empty_list(),
        .waiting = empty_list(),
        .firsts = empty_list(),
        .lasts = empty_list(),
        .prefilling = SLOT_NONE,
        .heap = ARENA_NEW(arena, struct ending, o->max_num_seqs),
        .step_blocks = ARENA_NEW(arena, uint32_t, o->block_tokens),
        .client_seqs = ARENA_NEW(arena, uint32_t, o->clients_count),
        .rows = ARENA_NEW(arena, struct tally_row, o->max_num_seqs),
    };
    *out = t;
}

/* ---- small ---- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t blocks_for(const struct tally *t, uint32_t tokens)
{
    return (tokens + t->options.block_tokens - 1) / t->options.block_tokens;
}

static uint32_t in_flight(const struct tally *t)
{
    return (uint32_t)(t->submitted - t->completed);
}

static struct tally_plan *plan_of(struct tally *t, uint64_t step)
{
    return &t->plans[step % PLANS];
}

static void list_append(struct tally *t, struct list *list, uint32_t slot)
{
    struct entry *e = &t->entries[slot];
    e->prev = list->tail;
    e->next = SLOT_NONE;
    if (list->tail != SLOT_NONE) {
        t->entries[list->tail].next = slot;
    } else {
        list->head = slot;
    }
    list->tail = slot;
    list->count++;
}

static void list_prepend(struct tally *t, struct list *list, uint32_t slot)
{
    struct entry *e = &t->entries[slot];
    e->prev = SLOT_NONE;
    e->next = list->head;
    if (list->head != SLOT_NONE) {
        t->entries[list->head].prev = slot;
    } else {
        list->tail = slot;
    }
    list->head = slot;
    list->count++;
}

static void list_remove(struct tally *t, struct list *list, uint32_t slot)
{
    const struct entry *e = &t->entries[slot];
    if (e->prev != SLOT_NONE) {
        t->entries[e->prev].next = e->next;
    } else {
        list->head = e->next;
    }
    if (e->next != SLOT_NONE) {
        t->entries[e->next].prev = e->prev;
    } else {
        list->tail = e->prev;
    }
    list->count--;
}

/* ---- those that decode ---- */

static bool ends_before(const struct ending *a, const struct ending *b)
{
    return a->last_step != b->last_step ? a->last_step < b->last_step : a->order < b->order;
}

static void heap_put(struct tally *t, uint32_t place, struct ending ending)
{
    while (place > 0 && ends_before(&ending, &t->heap[(place - 1) / 2])) {
        t->heap[place] = t->heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    t->heap[place] = ending;
}

/* Takes the entry at `place` out; decoding_count is its length afterwards. */
static void heap_remove(struct tally *t, uint32_t place)
{
    uint32_t count = t->decoding_count;
    struct ending last = t->heap[count];
    while (2 * place + 1 < count) {
        uint32_t child = 2 * place + 1;
        if (child + 1 < count && ends_before(&t->heap[child + 1], &t->heap[child])) {
            child++;
        }
        t->heap[place] = t->heap[child];
        place = child;
    }
    if (place < count) {
        heap_put(t, place, last);
    }
}

/* In which steps, modulo the tokens of a block, it takes one. */
static uint32_t block_phase(const struct tally *t, const struct entry *e)
{
    uint32_t period = t->options.block_tokens;
    return (uint32_t)((e->first_step + 1 + period - e->tokens % period) % period);
}

static void begin_decoding(struct tally *t, uint32_t slot, uint64_t step)
{
    struct entry *e = &t->entries[slot];
    e->state = ENTRY_DECODING;
    e->first_step = step;
    e->last_step = step + (e->limit_tokens - e->tokens) - 1;
    heap_put(t, t->decoding_count,
             (struct ending){.last_step = e->last_step, .order = e->order, .slot = slot});
    t->decoding_count++;
    t->contexts += e->tokens - step - 1;
    t->step_blocks[block_phase(t, e)]++;
    t->clients_count += t->client_seqs[e->client]++ == 0 ? 1 : 0;
    if (e->first_planned) {
        return;
    }
    e->first_planned = true;
    e->next_first = SLOT_NONE;
    if (t->firsts.tail != SLOT_NONE) {
        t->entries[t->firsts.tail].next_first = slot;
    } else {
        t->firsts.head = slot;
    }
    t->firsts.tail = slot;
}

/* It is in no step from now on; `place` is its place in the heap. */
static void leave_decoding(struct tally *t, uint32_t place)
{
    const struct entry *e = &t->entries[t->heap[place].slot];
    t->decoding_count--;
    heap_remove(t, place);
    t->contexts -= e->tokens - e->first_step - 1;
    t->step_blocks[block_phase(t, e)]--;
    t->clients_count -= --t->client_seqs[e->client] == 0 ? 1 : 0;
}

/* Those that get their last token in the step being planned. */
static void end_decoding(struct tally *t, uint64_t step)
{
    while (t->decoding_count > 0 && t->heap[0].last_step == step) {
        uint32_t slot = t->heap[0].slot;
        struct entry *e = &t->entries[slot];
        leave_decoding(t, 0);
        e->state = ENTRY_ENDING;
        e->next_last = SLOT_NONE;
        if (t->lasts.tail != SLOT_NONE) {
            t->entries[t->lasts.tail].next_last = slot;
        } else {
            t->lasts.head = slot;
        }
        t->lasts.tail = slot;
    }
}

/* ---- requests ---- */

enum status tally_add(struct tally *t, const struct tally_request *request, time_ps now,
                      struct error *error)
{
    uint32_t slot;
    if (t->free_slots_count > 0) {
        slot = t->free_slots[--t->free_slots_count];
    } else if (t->fresh_slots < t->options.requests_max) {
        slot = t->fresh_slots++;
    } else {
        return error_set(error, STATUS_FULL, "requests_max (%u) are held", t->options.requests_max);
    }
    uint64_t limit = (uint64_t)request->prompt_tokens + request->max_tokens;
    t->entries[slot] = (struct entry){
        .number = request->number,
        .queued_at = now,
        .prompt_tokens = request->prompt_tokens,
        .limit_tokens =
            limit < t->options.max_model_len ? (uint32_t)limit : t->options.max_model_len,
        .tokens = request->prompt_tokens,
        .client = request->client_index,
        .state = ENTRY_WAITING,
    };
    list_append(t, &t->waiting, slot);
    return STATUS_OK;
}

uint32_t tally_waiting(const struct tally *t)
{
    return t->waiting.count;
}

uint32_t tally_unfinished(const struct tally *t)
{
    return t->running.count + t->waiting.count;
}

static bool wants_step(const struct tally *t)
{
    return tally_unfinished(t) + t->worker_finished_count > 0;
}

bool tally_has_work(const struct tally *t)
{
    return in_flight(t) > 0 || wants_step(t);
}

/* ---- preemption ---- */

/* That a running request holds before the step. */
static uint32_t held_blocks(const struct tally *t, const struct entry *e, uint64_t step)
{
    if (e->state == ENTRY_PREFILLING) {
        return blocks_for(t, e->computed);
    }
    if (e->state == ENTRY_ENDING) {
        return blocks_for(t, e->limit_tokens - 1);
    }
    return blocks_for(t, e->tokens + (uint32_t)(step - e->first_step) - 1);
}

static uint32_t place_in_heap(const struct tally *t, uint32_t slot)
{
    uint32_t place = 0;
    while (t->heap[place].slot != slot) {
        place++;
    }
    return place;
}

/* Back to waiting, while `step` is being planned: everything is computed again. */
static void preempt(struct tally *t, uint32_t slot, uint64_t step)
{
    struct entry *e = &t->entries[slot];
    t->free_blocks += held_blocks(t, e, step);
    t->blocked = false;
    if (e->state == ENTRY_DECODING) {
        leave_decoding(t, place_in_heap(t, slot));
        e->tokens += (uint32_t)(step - e->first_step); /* with those in flight */
    } else if (e->state == ENTRY_PREFILLING) {
        t->prefilling = SLOT_NONE;
    }
    e->state = ENTRY_WAITING;
    e->preemptions_count++;
    t->preemptions_count++;
    list_remove(t, &t->running, slot);
    list_prepend(t, &t->waiting, slot);
}

/* Tokens of the request that prefills, after those that decode. */
static uint32_t chunk_tokens(const struct tally *t, const struct entry *e)
{
    uint32_t budget = t->options.max_num_batched_tokens - t->decoding_count;
    return min_u32(e->tokens - e->computed, budget);
}

static uint32_t chunk_blocks(const struct tally *t, const struct entry *e)
{
    return blocks_for(t, e->computed + chunk_tokens(t, e)) - blocks_for(t, e->computed);
}

/* Goes through all in order, as they take their blocks, and preempts from the end until those
 * before have theirs. */
static void make_room(struct tally *t, uint64_t step)
{
    uint32_t taken = 0;
    for (uint32_t slot = t->running.head; slot != SLOT_NONE; slot = t->entries[slot].next) {
        const struct entry *e = &t->entries[slot];
        uint32_t need = 0;
        if (e->state == ENTRY_PREFILLING) {
            need = chunk_blocks(t, e);
        } else if (e->state == ENTRY_DECODING) {
            need = step % t->options.block_tokens == block_phase(t, e) ? 1 : 0;
        }
        while (t->free_blocks < taken + need) {
            uint32_t victim = t->running.tail;
            preempt(t, victim, step);
            if (victim == slot) {
                return;
            }
        }
        taken += need;
    }
}

/* ---- planning ---- */

static void plan_prompt(struct tally *t, struct tally_plan *plan, uint32_t slot, uint32_t tokens)
{
    struct entry *e = &t->entries[slot];
    uint32_t blocks = blocks_for(t, e->computed + tokens) - blocks_for(t, e->computed);
    uint64_t computed = e->computed;
    plan->seqs_count++;
    plan->tokens_count += tokens;
    plan->blocks_count += blocks;
    plan->kv_read_tokens += computed + tokens;
    plan->attention_pairs += tokens * computed + (uint64_t)tokens * (tokens + 1ULL) / 2;
    t->free_blocks -= blocks;
    e->computed += tokens;
    t->prefilling = e->computed < e->tokens ? slot : SLOT_NONE;
    if (t->prefilling == SLOT_NONE) {
        plan->sampled_count++;
        begin_decoding(t, slot, plan->step);
    }
}

/* Those that run, in order. False: some had to give way. */
static bool serve_running(struct tally *t, struct tally_plan *plan)
{
    uint32_t preemptions_count = t->preemptions_count;
    const uint32_t *blocks = &t->step_blocks[plan->step % t->options.block_tokens];
    uint32_t need = *blocks;
    if (t->prefilling != SLOT_NONE) {
        need += chunk_blocks(t, &t->entries[t->prefilling]);
    }
    if (need > t->free_blocks) {
        make_room(t, plan->step);
    }
    uint64_t contexts = t->contexts + t->decoding_count * (plan->step + 1);
    plan->seqs_count = t->decoding_count;
    plan->tokens_count = t->decoding_count;
    plan->sampled_count = t->decoding_count;
    plan->blocks_count = *blocks;
    plan->kv_read_tokens = contexts;
    plan->attention_pairs = contexts;
    t->free_blocks -= *blocks;
    if (t->prefilling != SLOT_NONE) {
        plan_prompt(t, plan, t->prefilling, chunk_tokens(t, &t->entries[t->prefilling]));
    }
    return t->preemptions_count == preemptions_count;
}

/* False: it does not fit now, and those behind it must wait too. */
static bool admit(struct tally *t, struct tally_plan *plan, time_ps now, uint32_t slot)
{
    struct entry *e = &t->entries[slot];
    uint32_t budget = t->options.max_num_batched_tokens - plan->tokens_count;
    /* Whoever was preempted has no step in flight: not more than two are, and the second was the
     * one that had no room for it. */
    if (!t->options.chunked_prefill && e->tokens > budget) {
        return false;
    }
    uint32_t tokens = min_u32(e->tokens, budget);
    uint32_t gate = blocks_for(t, t->options.reserve_full_isl ? e->tokens : tokens);
    uint64_t wanted = (uint64_t)gate + (t->running.count > 0 ? t->watermark_blocks : 0);
    t->blocked = wanted > t->free_blocks;
    if (t->blocked) {
        return false;
    }
    list_remove(t, &t->waiting, slot);
    list_append(t, &t->running, slot);
    e->order = t->next_order++;
    e->state = ENTRY_PREFILLING;
    e->computed = 0;
    if (!e->admitted) {
        e->admitted = true;
        e->scheduled_at = now;
    }
    plan_prompt(t, plan, slot, tokens);
    return true;
}

/* NULL: it would carry nothing that cannot ride on, or wait for, a step in flight. */
static const struct tally_plan *plan_step(struct tally *t, time_ps now)
{
    const struct engine_core_options *o = &t->options;
    uint64_t step = t->submitted + 1;
    struct tally_plan *plan = plan_of(t, step);
    *plan = (struct tally_plan){.step = step};
    bool room = serve_running(t, plan);
    while (room && t->waiting.count > 0 && t->running.count < o->max_num_seqs &&
           plan->tokens_count < o->max_num_batched_tokens) {
        room = admit(t, plan, now, t->waiting.head);
    }
    plan->clients_count = t->clients_count;
    end_decoding(t, step);
    if (plan->tokens_count == 0 && t->worker_finished_count == 0 && in_flight(t) > 0) {
        return NULL;
    }
    t->worker_finished_count = 0;
    t->submitted++;
    return plan;
}

enum engine_turn tally_turn(struct tally *t, time_ps now, const struct tally_plan **plan)
{
    bool room = in_flight(t) < t->options.async_depth;
    if (t->awaiting) {
        return ENGINE_TURN_AWAIT;
    }
    if (t->just_submitted) {
        t->just_submitted = false;
        if (room && (plan_of(t, t->submitted)->tokens_count > 0 || tally_unfinished(t) > 0)) {
            return ENGINE_TURN_DONE;
        }
    } else if (room && wants_step(t)) {
        const struct tally_plan *next = plan_step(t, now);
        if (next != NULL) {
            t->just_submitted = true;
            *plan = next;
            return ENGINE_TURN_SUBMIT;
        }
    }
    t->awaiting = in_flight(t) > 0;
    return t->awaiting ? ENGINE_TURN_AWAIT : ENGINE_TURN_DONE;
}

/* ---- results ---- */

static void end_request(struct tally *t, uint32_t slot)
{
    struct entry *e = &t->entries[slot];
    if (e->state == ENTRY_WAITING) { /* preempted meanwhile */
        list_remove(t, &t->waiting, slot);
    } else {
        list_remove(t, &t->running, slot);
        t->free_blocks += blocks_for(t, e->limit_tokens - 1);
    }
    t->blocked = false;
    t->worker_finished_count++;
    e->state = ENTRY_FREE;
    t->free_slots[t->free_slots_count++] = slot;
}

static void put_row(struct tally *t, uint32_t slot, bool first, bool last)
{
    const struct entry *e = &t->entries[slot];
    uint32_t outputs = e->limit_tokens - e->prompt_tokens;
    t->rows[t->rows_count++] = (struct tally_row){
        .number = e->number,
        .client_index = e->client,
        .new_tokens_count = first && !last ? 1 : outputs - (first ? 0 : 1),
        .preemptions_count = e->preemptions_count,
        .first = first,
        .last = last,
        .queued_at = e->queued_at,
        .scheduled_at = e->scheduled_at,
    };
}

static bool first_is_due(const struct tally *t)
{
    return t->firsts.head != SLOT_NONE && t->entries[t->firsts.head].first_step <= t->completed;
}

static bool last_is_due(const struct tally *t)
{
    return t->lasts.head != SLOT_NONE && t->entries[t->lasts.head].last_step <= t->completed;
}

static void list_pop(struct list *list, uint32_t next)
{
    list->head = next;
    list->tail = next == SLOT_NONE ? SLOT_NONE : list->tail;
}

/* Both lists are in the order of the outputs. */
static void put_rows(struct tally *t, uint32_t *finished_count)
{
    for (;;) {
        bool first = first_is_due(t);
        bool last = last_is_due(t);
        if (!first && !last) {
            return;
        }
        const struct entry *f = first ? &t->entries[t->firsts.head] : NULL;
        const struct entry *l = last ? &t->entries[t->lasts.head] : NULL;
        if (first && last && f != l) {
            first = f->order < l->order;
            last = !first;
        }
        uint32_t slot = first ? t->firsts.head : t->lasts.head;
        put_row(t, slot, first, last);
        if (first) {
            list_pop(&t->firsts, f->next_first);
        }
        if (last) {
            list_pop(&t->lasts, l->next_last);
            end_request(t, slot);
            (*finished_count)++;
        }
    }
}

void tally_complete(struct tally *t, struct tally_result *result)
{
    ASSERT(in_flight(t) > 0);
    t->completed++;
    t->just_submitted = false;
    t->awaiting = false;
    t->rows_count = 0;
    *result = (struct tally_result){.plan = plan_of(t, t->completed), .rows = t->rows};
    put_rows(t, &result->finished_count);
    result->rows_count = t->rows_count;
}

void tally_stats(const struct tally *t, struct scheduler_stats *stats)
{
    *stats = (struct scheduler_stats){
        .running_count = t->running.count,
        .waiting_count = t->waiting.count,
        .kv_cache_usage = 1.0 - (double)t->free_blocks / (double)(t->options.num_gpu_blocks - 1),
        .preemptions_count = t->preemptions_count,
    };
}

bool tally_counts_changed(struct tally *t, struct scheduler_stats *stats)
{
    if (t->running.count == t->published_running && t->waiting.count == t->published_waiting) {
        return false;
    }
    t->published_running = t->running.count;
    t->published_waiting = t->waiting.count;
    tally_stats(t, stats);
    return true;
}

uint64_t tally_used_blocks(const struct tally *t)
{
    return t->options.num_gpu_blocks - 1 - t->free_blocks;
}

uint32_t tally_preemptions(const struct tally *t)
{
    return t->preemptions_count;
}

/* ---- quiet steps ---- */

/* Nobody can be admitted, as things stand. */
static bool admission_rests(const struct tally *t)
{
    return t->prefilling == SLOT_NONE &&
           (t->waiting.count == 0 || t->blocked || t->running.count == t->options.max_num_seqs);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t tally_next_row(const struct tally *t)
{
    uint64_t next = UINT64_MAX;
    if (t->firsts.head != SLOT_NONE) {
        next = t->entries[t->firsts.head].first_step;
    }
    if (t->lasts.head != SLOT_NONE) {
        next = min_u64(next, t->entries[t->lasts.head].last_step);
    }
    if (t->decoding_count > 0) {
        next = min_u64(next, t->heap[0].last_step);
    }
    bool published =
        t->running.count == t->published_running && t->waiting.count == t->published_waiting;
    uint64_t blocks_last = t->free_blocks / (t->decoding_count + 1ULL) * t->options.block_tokens;
    if (next == UINT64_MAX || !published || !admission_rests(t)) {
        return t->completed + 1;
    }
    return min_u64(next, t->completed + 1 + blocks_last);
}

void tally_quiet(const struct tally *t, struct tally_quiet *quiet)
{
    uint64_t row = tally_next_row(t);
    *quiet = (struct tally_quiet){
        .next_row = row,
        .next_step = t->submitted + 1,
        .seqs_count = t->decoding_count,
        .clients_count = t->clients_count,
        .kv_read_tokens = t->contexts + t->decoding_count * (t->submitted + 2),
        .step_blocks = t->step_blocks,
    };
    if (!t->awaiting || t->decoding_count == 0 || in_flight(t) < t->options.async_depth) {
        return;
    }
    quiet->steps_count = min_u64(row - t->completed - 1, t->heap[0].last_step - t->submitted - 1);
}

void tally_advance(struct tally *t, uint64_t steps)
{
    uint32_t period = t->options.block_tokens;
    uint64_t rounds = steps / period;
    uint32_t phase = (uint32_t)(t->submitted % period);
    uint32_t blocks = (uint32_t)rounds * t->decoding_count;
    for (uint64_t rest = steps - rounds * period; rest > 0; rest--) {
        phase = phase + 1 == period ? 0 : phase + 1;
        blocks += t->step_blocks[phase];
    }
    t->free_blocks -= blocks;
    t->submitted += steps;
    t->completed += steps;
    for (uint64_t i = 0; i < min_u64(steps, in_flight(t)); i++) {
        *plan_of(t, t->submitted - i) = (struct tally_plan){
            .step = t->submitted - i,
            .seqs_count = t->decoding_count,
            .tokens_count = t->decoding_count,
            .sampled_count = t->decoding_count,
            .clients_count = t->clients_count,
        };
    }
}

/* ---- invariants ---- */

const char *tally_check(const struct tally *t)
{
    uint64_t held = 0;
    uint32_t decoding = 0;
    uint32_t running = 0;
    uint64_t order = 0;
    for (uint32_t slot = t->running.head; slot != SLOT_NONE; slot = t->entries[slot].next) {
        const struct entry *e = &t->entries[slot];
        held += held_blocks(t, e, t->submitted + 1);
        decoding += e->state == ENTRY_DECODING ? 1 : 0;
        running++;
        if (e->state < ENTRY_PREFILLING || (running > 1 && e->order <= order)) {
            return "running requests: a state or the order is wrong";
        }
        order = e->order;
    }
    if (held != tally_used_blocks(t)) {
        return "blocks that requests hold differ from those that are used";
    }
    if (running != t->running.count || decoding != t->decoding_count ||
        running > t->options.max_num_seqs) {
        return "running requests are counted wrongly";
    }
    uint32_t phases = 0;
    for (uint32_t i = 0; i < t->options.block_tokens; i++) {
        phases += t->step_blocks[i];
    }
    for (uint32_t i = 1; i < t->decoding_count; i++) {
        if (ends_before(&t->heap[i], &t->heap[(i - 1) / 2])) {
            return "the heap of last steps is out of order";
        }
    }
    return phases == t->decoding_count ? NULL : "steps that take blocks are counted wrongly";
}
