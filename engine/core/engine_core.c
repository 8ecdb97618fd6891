/*
 * engine_core.c - the loop of one engine core: ids, order of steps in flight, messages for the
 * clients. What a step computes is the scheduler's business.
 */
#include "engine/core/engine_core.h"

#include <string.h>

#include "engine/core/scheduler.h"

enum {
    ASYNC_DEPTH_MAX = 2,
    BATCHES_MAX = ENGINE_PIPELINE_STAGES_MAX - 1 + ASYNC_DEPTH_MAX
};

#define MESSAGE_NONE 0xffffffffU

/* What one client gets from the step being completed. */
struct client_box {
    struct engine_output *outputs; /* its part of the step's */
    const char **finished_ids;     /* likewise */
    uint32_t sampled_count;        /* its sequences that sample and have no place yet */
    uint32_t outputs_count;
    uint32_t finished_count;
    uint32_t ended_count; /* its requests that ended and have no place in finished_ids yet */
    uint32_t message;     /* its place among the messages, MESSAGE_NONE: none yet */
};

struct engine_core {
    struct engine_core_options options;
    struct request_table table;
    struct scheduler scheduler;
    struct step_buffer buffers[BATCHES_MAX];
    uint64_t submitted_steps;
    uint64_t completed_steps;
    bool just_submitted; /* the last turn gave a plan */
    bool awaiting;       /* the last turn asked for a result */

    struct client_box *boxes;
    struct engine_output *outputs; /* [max_num_seqs] of the step being completed, by client */
    struct engine_client_message *messages;
    uint32_t messages_count;
    uint32_t *new_tokens;                    /* [max_num_seqs] of the step being completed */
    const char **finished_ids;               /* [requests_max] of ended requests, by client */
    char (*ended_ids)[REQUEST_ID_BYTES_MAX]; /* ids of ended requests: their slots are free for
                                                others already */
    struct scheduler_stats stats;

    uint32_t published_running;
    uint32_t published_waiting;

    struct wave wave;
    bool executed; /* this loop submitted a step with tokens */
};

/* ---- creation ---- */

static enum status check_sizes(const struct engine_core_options *o, struct error *error)
{
    if (o->clients_count < 1 || o->clients_count > 4096) {
        return error_set(error, STATUS_INVALID, "clients_count: want 1..4096, got %u",
                         o->clients_count);
    }
    if (o->requests_max < 1 || o->requests_max > 1U << 20) {
        return error_set(error, STATUS_INVALID, "requests_max: want 1..1048576, got %u",
                         o->requests_max);
    }
    if (o->max_model_len < 2 || o->max_model_len > 1U << 26) {
        return error_set(error, STATUS_INVALID, "max_model_len: want 2..67108864, got %u",
                         o->max_model_len);
    }
    if (o->max_num_seqs < 1 || o->max_num_seqs > 1U << 20) {
        return error_set(error, STATUS_INVALID, "max_num_seqs: want 1..1048576, got %u",
                         o->max_num_seqs);
    }
    if (o->num_gpu_blocks < 2 || o->num_gpu_blocks > 1U << 28) {
        return error_set(error, STATUS_INVALID, "num_gpu_blocks: want 2..268435456, got %u",
                         o->num_gpu_blocks);
    }
    if (o->block_tokens < 1 || o->block_tokens > 4096) {
        return error_set(error, STATUS_INVALID, "block_tokens: want 1..4096, got %u",
                         o->block_tokens);
    }
    return STATUS_OK;
}

static enum status check_rules(const struct engine_core_options *o, struct error *error)
{
    if (o->max_num_batched_tokens < o->max_num_seqs || o->max_num_batched_tokens > 1U << 26) {
        return error_set(error, STATUS_INVALID,
                         "max_num_batched_tokens: want max_num_seqs (%u)..67108864, got %u",
                         o->max_num_seqs, o->max_num_batched_tokens);
    }
    if (!o->chunked_prefill && o->max_num_batched_tokens < o->max_model_len) {
        return error_set(error, STATUS_INVALID,
                         "max_num_batched_tokens: without chunked prefill at least max_model_len "
                         "(%u) is needed, got %u",
                         o->max_model_len, o->max_num_batched_tokens);
    }
    if (!(o->watermark >= 0.0 && o->watermark < 1.0)) {
        return error_set(error, STATUS_INVALID, "watermark: want 0 <= watermark < 1, got %g",
                         o->watermark);
    }
    if (o->async_depth < 1 || o->async_depth > ASYNC_DEPTH_MAX) {
        return error_set(error, STATUS_INVALID, "async_depth: want 1 or 2, got %u", o->async_depth);
    }
    if (o->pipeline_stages > ENGINE_PIPELINE_STAGES_MAX) {
        return error_set(error, STATUS_INVALID, "pipeline_stages: want at most %d, got %u",
                         ENGINE_PIPELINE_STAGES_MAX, o->pipeline_stages);
    }
    if (o->policy != POLICY_FCFS && o->policy != POLICY_PRIORITY) {
        return error_set(error, STATUS_INVALID, "policy: unknown value %d", (int)o->policy);
    }
    return STATUS_OK;
}

size_t engine_core_arena_bytes(const struct engine_core_options *options)
{
    size_t seqs = options->max_num_seqs;
    size_t slots = options->requests_max;
    return ARENA_BYTES(1, struct engine_core) + request_table_arena_bytes(options) +
           scheduler_arena_bytes(options) +
           engine_core_batches_max(options) * step_buffer_arena_bytes(options) +
           ARENA_BYTES(options->clients_count, struct client_box) +
           ARENA_BYTES(options->clients_count, struct engine_client_message) +
           ARENA_BYTES(seqs, struct engine_output) + ARENA_BYTES(slots, const char *) +
           ARENA_BYTES(seqs, uint32_t) + ARENA_BYTES(slots, char[REQUEST_ID_BYTES_MAX]);
}

enum status engine_core_create(struct arena *arena, const struct engine_core_options *options,
                               struct engine_core **out, struct error *error)
{
    TRY(check_sizes(options, error));
    TRY(check_rules(options, error));
    struct engine_core *e = ARENA_NEW(arena, struct engine_core, 1);
    e->options = *options;
    TRY(wave_init(&e->wave, &options->wave, options->engine_index, error));
    request_table_init(&e->table, arena, options);
    scheduler_init(&e->scheduler, arena, options, &e->table);
    for (uint32_t i = 0; i < engine_core_batches_max(options); i++) {
        step_buffer_init(&e->buffers[i], arena, options);
    }
    e->boxes = ARENA_NEW(arena, struct client_box, options->clients_count);
    for (uint32_t i = 0; i < options->clients_count; i++) {
        e->boxes[i].message = MESSAGE_NONE;
    }
    e->outputs = ARENA_NEW(arena, struct engine_output, options->max_num_seqs);
    e->boxes[0].outputs = e->outputs; /* of an only client: all */
    e->messages = ARENA_NEW(arena, struct engine_client_message, options->clients_count);
    e->new_tokens = ARENA_NEW(arena, uint32_t, options->max_num_seqs);
    e->finished_ids = ARENA_NEW(arena, const char *, options->requests_max);
    e->ended_ids = arena_alloc(arena, options->requests_max, REQUEST_ID_BYTES_MAX);
    *out = e;
    return STATUS_OK;
}

/* ---- requests ---- */

static enum status check_request(const struct engine_core *e, const struct engine_request *request,
                                 struct error *error)
{
    const struct engine_core_options *o = &e->options;
    size_t id_bytes = strlen(request->id) + 1;
    if (id_bytes < 2 || id_bytes > REQUEST_ID_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "request id: want 1..%d bytes, got %zu",
                         REQUEST_ID_BYTES_MAX - 1, id_bytes - 1);
    }
    if (request->prompt_tokens_count < 1 || request->prompt_tokens_count >= o->max_model_len) {
        return error_set(error, STATUS_INVALID,
                         "request %s: prompt of %u tokens, want 1..%u (shorter than max_model_len)",
                         request->id, request->prompt_tokens_count, o->max_model_len - 1);
    }
    if (request->sampling.max_tokens < 1 ||
        request->sampling.stop_token_ids_count > STOP_TOKENS_MAX) {
        return error_set(error, STATUS_INVALID,
                         "request %s: want max_tokens >= 1 (got %u) and at most %d stop token ids "
                         "(got %u)",
                         request->id, request->sampling.max_tokens, STOP_TOKENS_MAX,
                         request->sampling.stop_token_ids_count);
    }
    if (request->client_index >= o->clients_count) {
        return error_set(error, STATUS_INVALID, "request %s: client %u of %u is unknown",
                         request->id, request->client_index, o->clients_count);
    }
    /* The last token is never computed. */
    uint64_t tokens = (uint64_t)request->prompt_tokens_count + request->sampling.max_tokens;
    tokens = (tokens < o->max_model_len ? tokens : o->max_model_len) - 1;
    uint64_t blocks = (tokens + o->block_tokens - 1) / o->block_tokens;
    if (blocks > o->num_gpu_blocks - 1) {
        return error_set(error, STATUS_INVALID,
                         "request %s: its %llu tokens need %llu KV blocks of %u", request->id,
                         (unsigned long long)tokens, (unsigned long long)blocks,
                         o->num_gpu_blocks - 1);
    }
    return STATUS_OK;
}

enum status engine_core_add(struct engine_core *e, const struct engine_request *request,
                            time_ps now, struct error *error)
{
    /* Also of a request that is refused: what its client knows of waves is true. */
    wave_request(&e->wave, request->current_wave, e->scheduler.pause != UNPAUSED);
    TRY(check_request(e, request, error));
    if (id_map_get(&e->table.ids, request->id) != ID_MAP_NONE) {
        return error_set(error, STATUS_INVALID, "request %s: an unfinished one has this id",
                         request->id);
    }
    uint32_t slot = request_table_add(&e->table, &e->options, request, now);
    if (slot == ID_MAP_NONE) {
        return error_set(error, STATUS_FULL, "request %s: requests_max (%u) are held", request->id,
                         e->options.requests_max);
    }
    scheduler_add(&e->scheduler, slot);
    if (request->abort_immediately) {
        engine_core_abort(e, request->id);
    }
    return STATUS_OK;
}

void engine_core_abort(struct engine_core *e, const char *id)
{
    uint32_t slot = id_map_remove(&e->table.ids, id);
    if (slot != ID_MAP_NONE) {
        scheduler_abort(&e->scheduler, slot);
    }
}

uint32_t engine_core_waiting(const struct engine_core *e)
{
    return e->scheduler.waiting.count;
}

uint32_t engine_core_unfinished(const struct engine_core *e)
{
    return scheduler_unfinished(&e->scheduler);
}

/* ---- steps ---- */

static uint32_t in_flight(const struct engine_core *e)
{
    return (uint32_t)(e->submitted_steps - e->completed_steps);
}

static struct step_buffer *buffer_of(struct engine_core *e, uint64_t step)
{
    return &e->buffers[step % engine_core_batches_max(&e->options)];
}

bool engine_core_has_work(const struct engine_core *e)
{
    return e->wave.engines_running || in_flight(e) > 0 || scheduler_wants_step(&e->scheduler);
}

/* Plans the next step; NULL if it would carry nothing that cannot ride on, or wait for, a step in
 * flight. */
static const struct step_plan *plan_step(struct engine_core *e, time_ps now)
{
    struct step_buffer *buffer = buffer_of(e, e->submitted_steps + 1);
    uint32_t passes = 0;
    /* A pass of a pipeline in which all requests were in later stages: some are not in the next. */
    do {
        scheduler_schedule(&e->scheduler, now, buffer);
        passes++;
    } while (buffer->plan.tokens_count == 0 && passes < e->options.pipeline_stages);
    if (buffer->plan.tokens_count == 0 && e->scheduler.worker_finished_count == 0 &&
        in_flight(e) > 0) {
        return NULL;
    }
    scheduler_attach_finished(&e->scheduler, buffer);
    e->submitted_steps++;
    buffer->plan.step = e->submitted_steps;
    return &buffer->plan;
}

/* After a submission: is there room to plan on, before waiting for a result? */
static bool fill_further(struct engine_core *e)
{
    return in_flight(e) < engine_core_batches_max(&e->options) &&
           (buffer_of(e, e->submitted_steps)->plan.tokens_count > 0 ||
            scheduler_active(&e->scheduler) > 0);
}

enum engine_turn engine_core_turn(struct engine_core *e, time_ps now, const struct step_plan **plan)
{
    if (e->awaiting) {
        return ENGINE_TURN_AWAIT;
    }
    if (e->just_submitted) {
        e->just_submitted = false;
        if (fill_further(e)) {
            return ENGINE_TURN_DONE;
        }
    } else if (in_flight(e) < engine_core_batches_max(&e->options) &&
               scheduler_wants_step(&e->scheduler)) {
        const struct step_plan *next = plan_step(e, now);
        if (next != NULL) {
            e->just_submitted = true;
            e->executed = next->tokens_count > 0;
            *plan = next;
            return ENGINE_TURN_SUBMIT;
        }
    }
    e->awaiting = in_flight(e) > 0;
    return e->awaiting ? ENGINE_TURN_AWAIT : ENGINE_TURN_DONE;
}

/* ---- messages ---- */

static void clear_messages(struct engine_core *e)
{
    for (uint32_t i = 0; i < e->messages_count; i++) {
        struct client_box *box = &e->boxes[e->messages[i].client_index];
        box->outputs_count = 0;
        box->finished_count = 0;
        box->message = MESSAGE_NONE;
    }
    e->messages_count = 0;
}

/* The client's box; its message is numbered when it first gets something. */
static struct client_box *box_of(struct engine_core *e, uint32_t client)
{
    struct client_box *box = &e->boxes[client];
    if (box->message == MESSAGE_NONE) {
        box->message = e->messages_count;
        e->messages[e->messages_count].client_index = client;
        e->messages_count++;
    }
    return box;
}

static void put_first_output(const struct engine_core *e, uint32_t slot,
                             struct engine_output *output)
{
    const struct request *r = &e->table.requests[slot];
    const struct request_detail *d = &e->table.details[slot];
    output->first = true;
    output->queued_at = d->queued_at;
    output->scheduled_at = d->scheduled_at;
    output->preemptions_count = d->preemptions_count;
    output->prefill = (struct prefill_stats){
        .prompt_tokens = r->prompt_tokens,
        .computed_tokens = r->prompt_tokens - d->cached_tokens,
        .cached_tokens = d->cached_tokens,
    };
}

/* Of a request that goes on. */
static inline struct engine_output *put_plain_output(struct engine_core *e, struct request *r,
                                                     uint32_t slot, const uint32_t *token)
{
    struct client_box *box = box_of(e, r->client_index);
    struct engine_output *output = &box->outputs[box->outputs_count++];
    output->id = e->table.details[slot].id;
    output->new_token_ids = token;
    output->new_tokens_count = 1;
    output->finish = FINISH_NONE;
    output->stop_token_id = TOKEN_NONE;
    output->tag = r->tag;
    output->first = false;
    if (r->tag == 0) {
        __builtin_prefetch(output->id); /* whoever takes the message copies it */
    }
    if (!r->first_sent) {
        r->first_sent = true;
        put_first_output(e, slot, output);
    }
    return output;
}

static void put_output(struct engine_core *e, uint32_t slot, const uint32_t *token,
                       const struct commit_outcome *outcome)
{
    struct engine_output *output = put_plain_output(e, &e->table.requests[slot], slot, token);
    output->finish = outcome->finish;
    output->stop_token_id = outcome->stop_token_id;
    if (outcome->finish != FINISH_NONE) {
        output->id = e->ended_ids[e->scheduler.unreported_count - 1];
        uint32_t removed = id_map_remove(&e->table.ids, e->table.details[slot].id);
        ASSERT(removed == slot);
    }
}

static void put_ended(struct engine_core *e)
{
    const struct scheduler *s = &e->scheduler;
    for (uint32_t i = 0; i < s->unreported_count; i++) {
        uint32_t slot = s->unreported[i];
        const char *id = e->table.details[slot].id;
        memcpy(e->ended_ids[i], id, strlen(id) + 1);
        box_of(e, e->table.requests[slot].client_index)->ended_count++;
    }
    uint32_t placed = 0;
    for (uint32_t i = 0; i < s->unreported_count; i++) {
        struct client_box *box = &e->boxes[e->table.requests[s->unreported[i]].client_index];
        if (box->ended_count > 0) {
            box->finished_ids = e->finished_ids + placed;
            placed += box->ended_count;
            box->ended_count = 0;
        }
        box->finished_ids[box->finished_count++] = e->ended_ids[i];
    }
    scheduler_reported(&e->scheduler);
}

static void fill_stats(struct engine_core *e)
{
    struct scheduler *s = &e->scheduler;
    e->stats = (struct scheduler_stats){
        .running_count = s->running_count,
        .waiting_count = s->waiting.count,
        .kv_cache_usage = block_pool_usage(&s->pool),
        .prefix_cache = s->prefix_cache,
        .preemptions_count = s->preemptions_count,
    };
    s->prefix_cache = (struct prefix_cache_stats){0};
}

static void seal_messages(struct engine_core *e, time_ps now)
{
    fill_stats(e);
    if (e->messages_count == 0) {
        (void)box_of(e, 0);
    }
    for (uint32_t i = 0; i < e->messages_count; i++) {
        const struct client_box *box = &e->boxes[e->messages[i].client_index];
        e->messages[i].outputs = (struct engine_outputs){
            .engine_index = e->options.engine_index,
            .outputs = box->outputs,
            .outputs_count = box->outputs_count,
            .stats = i == 0 ? &e->stats : NULL,
            .timestamp = now,
            .finished_ids = box->finished_ids,
            .finished_ids_count = box->finished_count,
            .wave_complete = -1,
            .start_wave = -1,
        };
    }
}

/* Each client's outputs stand together, and all of them close to each other, whatever the number of
 * clients. */
static void place_outputs(struct engine_core *e, const struct step_plan *plan)
{
    uint32_t placed = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        bool sampled = (seq->flags & STEP_SEQ_SAMPLES) != 0;
        e->boxes[e->table.requests[seq->slot].client_index].sampled_count += sampled;
    }
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        struct client_box *box = &e->boxes[e->table.requests[plan->seqs[i].slot].client_index];
        if (box->sampled_count > 0) {
            box->outputs = e->outputs + placed;
            placed += box->sampled_count;
            box->sampled_count = 0;
        }
    }
}

static void commit_plan(struct engine_core *e, const struct step_plan *plan,
                        const struct step_result *result)
{
    const struct step_seq *seqs = plan->seqs;
    uint32_t seqs_count = plan->seqs_count;
    struct request *requests = e->table.requests;
    const uint32_t *tokens = result->tokens;
    uint32_t *new_token = e->new_tokens;
    uint32_t samples = 0;
    for (uint32_t i = 0; i < seqs_count; i++) {
        const struct step_seq *seq = &seqs[i];
        struct request *r = &requests[seq->slot];
        bool sampled = (seq->flags & STEP_SEQ_SAMPLES) != 0;
        ASSERT(!sampled || samples < result->tokens_count);
        uint32_t token = sampled ? tokens[samples] : 0;
        samples += sampled;
        struct commit_outcome outcome;
        *new_token = token;
        if (scheduler_commit_plain(r, seq)) {
            (void)put_plain_output(e, r, seq->slot, new_token++);
        } else if (scheduler_commit(&e->scheduler, seq, token, &outcome)) {
            put_output(e, seq->slot, new_token++, &outcome);
        }
    }
    ASSERT(samples == result->tokens_count);
}

void engine_core_complete(struct engine_core *e, time_ps now, const struct step_result *result,
                          struct engine_core_messages *messages)
{
    ASSERT(in_flight(e) > 0 && result->step == e->completed_steps + 1);
    const struct step_plan *plan = &buffer_of(e, result->step)->plan;
    clear_messages(e);
    if (e->options.clients_count > 1) {
        place_outputs(e, plan);
    }
    commit_plan(e, plan, result);
    scheduler_commit_end(&e->scheduler);
    e->completed_steps++;
    e->just_submitted = false;
    e->awaiting = false;
    put_ended(e);
    seal_messages(e, now);
    *messages = (struct engine_core_messages){.items = e->messages, .count = e->messages_count};
}

/* ---- quiet steps ---- */

static uint32_t clients_of_running(struct engine_core *e)
{
    const struct scheduler *s = &e->scheduler;
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->running_count; i++) {
        struct client_box *box = &e->boxes[e->table.requests[s->running[i]].client_index];
        count += box->sampled_count == 0 ? 1 : 0;
        box->sampled_count = 1;
    }
    for (uint32_t i = 0; i < s->running_count; i++) {
        e->boxes[e->table.requests[s->running[i]].client_index].sampled_count = 0;
    }
    return count;
}

/* Between two loops, and what is in flight is the same sequences. */
static bool at_top(struct engine_core *e)
{
    const struct scheduler *s = &e->scheduler;
    uint32_t ahead = e->options.async_depth - 1;
    return !wave_lockstep(&e->wave) && e->options.pipeline_stages <= 1 && !e->awaiting &&
           !e->just_submitted && in_flight(e) == ahead &&
           s->running_count == e->published_running && s->waiting.count == e->published_waiting &&
           (ahead == 0 || buffer_of(e, e->submitted_steps)->plan.seqs_count == s->running_count);
}

void engine_core_quiet(struct engine_core *e, struct engine_core_quiet *quiet)
{
    *quiet = (struct engine_core_quiet){.steps_count = 0};
    if (!at_top(e)) {
        return;
    }
    scheduler_quiet(&e->scheduler, e->options.async_depth - 1, quiet);
    if (quiet->steps_count > 0) {
        quiet->clients_count = clients_of_running(e);
    }
}

/* All steps but the last at once; the last one as it is, so that what is left in flight is its
 * plan.
 */
void engine_core_advance(struct engine_core *e, uint64_t steps)
{
    uint32_t ahead = e->options.async_depth - 1;
    ASSERT(at_top(e));
    if (steps == 0) {
        return;
    }
    scheduler_advance(&e->scheduler, steps - 1);
    if (ahead == 1 && steps % 2 == 0) { /* the plan in flight stands in the other buffer */
        struct step_buffer buffer = e->buffers[0];
        e->buffers[0] = e->buffers[1];
        e->buffers[1] = buffer;
    }
    e->submitted_steps += steps - 1;
    e->completed_steps += steps - 1;
    (void)plan_step(e, 0);
    const struct step_plan *plan = &buffer_of(e, e->completed_steps + 1)->plan;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        struct commit_outcome outcome;
        bool sampled = scheduler_commit(&e->scheduler, &plan->seqs[i], 0, &outcome);
        ASSERT(sampled && outcome.finish == FINISH_NONE);
    }
    e->completed_steps++;
}

bool engine_core_counts_changed(struct engine_core *e, struct scheduler_stats *stats)
{
    const struct scheduler *s = &e->scheduler;
    if (s->running_count == e->published_running && s->waiting.count == e->published_waiting) {
        return false;
    }
    e->published_running = s->running_count;
    e->published_waiting = s->waiting.count;
    *stats = (struct scheduler_stats){
        .running_count = s->running_count,
        .waiting_count = s->waiting.count,
        .step_counter = e->wave.step_counter,
        .current_wave = e->wave.current_wave,
        .kv_cache_usage = block_pool_usage(&s->pool),
        .preemptions_count = s->preemptions_count,
    };
    return true;
}

/* ---- lock-step ---- */

void engine_core_start_wave(struct engine_core *e, const struct start_wave *start)
{
    wave_start(&e->wave, start);
}

enum wave_need engine_core_wave_next(struct engine_core *e, struct wave_ballot *ballot)
{
    enum wave_need need =
        wave_next(&e->wave, e->executed, scheduler_active(&e->scheduler) > 0, ballot);
    if (need == WAVE_NEED_NOTHING) {
        e->executed = false;
    }
    return need;
}

void engine_core_wave_checked(struct engine_core *e, const struct wave_ballot *sum)
{
    wave_checked(&e->wave, sum);
}

bool engine_core_take_notice(struct engine_core *e, time_ps now, struct engine_outputs *notice)
{
    struct wave_notice wave;
    if (!wave_take_notice(&e->wave, &wave)) {
        return false;
    }
    *notice = (struct engine_outputs){
        .engine_index = e->options.engine_index,
        .timestamp = now,
        .wave_complete = wave.wave_complete,
        .start_wave = wave.start_wave,
    };
    return true;
}

struct wave_forward engine_core_forward(const struct engine_core *e, const struct step_plan *plan)
{
    if (plan == NULL) {
        return wave_forward_dummy(&e->wave);
    }
    /* Each sequence has at least one token, so equal counts mean one each. */
    return wave_forward_step(&e->wave, plan->tokens_count, plan->tokens_count == plan->seqs_count);
}

const struct wave *engine_core_wave(const struct engine_core *e)
{
    return &e->wave;
}

/* ---- pause and resume ---- */

static void abort_all(struct engine_core *e)
{
    for (uint32_t slot = 0; slot < e->table.fresh_slots; slot++) {
        uint8_t state = e->table.requests[slot].state;
        if (state == REQUEST_WAITING || state == REQUEST_RUNNING) {
            engine_core_abort(e, e->table.details[slot].id);
        }
    }
}

void engine_core_pause(struct engine_core *e, enum pause_mode mode)
{
    if (mode == PAUSE_ABORT) {
        abort_all(e);
    }
    /* Once all ranks are frozen, none may go on alone: only a resume ends it. */
    if (!e->wave.ignore_start_dp_wave || e->scheduler.pause != PAUSED_ALL) {
        e->scheduler.pause = mode == PAUSE_KEEP ? PAUSED_ALL : PAUSED_NEW;
    }
    wave_pause(&e->wave);
}

enum pause_state engine_core_pause_state(const struct engine_core *e)
{
    return e->scheduler.pause;
}

bool engine_core_pause_done(const struct engine_core *e)
{
    return e->scheduler.pause != UNPAUSED && !engine_core_has_work(e);
}

bool engine_core_reset_prefix_cache(struct engine_core *e)
{
    return block_pool_reset(&e->scheduler.pool);
}

enum resume_outcome engine_core_resume(struct engine_core *e, bool *unfinished)
{
    if (e->scheduler.pause == UNPAUSED) {
        return RESUME_DONE;
    }
    bool over = engine_core_pause_done(e); /* not only the wave: also what this rank still tells */
    if (wave_lockstep(&e->wave) && (!over || !wave_resume(&e->wave))) {
        return RESUME_LATER;
    }
    e->scheduler.pause = UNPAUSED;
    *unfinished = scheduler_active(&e->scheduler) > 0;
    return wave_lockstep(&e->wave) ? RESUME_ALLREDUCE : RESUME_DONE;
}

void engine_core_resumed(struct engine_core *e, bool any_unfinished)
{
    wave_resumed(&e->wave, any_unfinished);
}

/* ---- invariants ---- */

static const char *check_plan(const struct engine_core *e, const struct step_plan *plan)
{
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        tokens += seq->scheduled_tokens;
        if (seq->scheduled_tokens == 0 ||
            seq->blocks_first + seq->blocks_count > plan->block_ids_count ||
            seq->tokens_first + seq->tokens_count > plan->token_ids_count) {
            return "plan: a sequence without tokens, or with blocks or tokens out of range";
        }
    }
    if (tokens != plan->tokens_count || tokens > e->options.max_num_batched_tokens) {
        return "plan: tokens differ from their sum or exceed the budget";
    }
    return plan->seqs_count <= e->options.max_num_seqs ? NULL : "plan: too many sequences";
}

/* Steps in flight that name a slot are what the request there counts. */
static const char *check_in_flight(const struct engine_core *e)
{
    uint64_t named = 0;
    for (uint64_t step = e->completed_steps + 1; step <= e->submitted_steps; step++) {
        const struct step_plan *plan =
            &e->buffers[step % engine_core_batches_max(&e->options)].plan;
        const char *broken = check_plan(e, plan);
        if (broken != NULL) {
            return broken;
        }
        named += plan->seqs_count;
    }
    uint64_t counted = 0;
    for (uint32_t slot = 0; slot < e->table.fresh_slots; slot++) {
        counted += e->table.requests[slot].in_flight;
    }
    return counted == named ? NULL : "requests count other steps in flight than there are";
}

const char *engine_core_check(const struct engine_core *e)
{
    if (in_flight(e) > engine_core_batches_max(&e->options)) {
        return "more steps in flight than the depth allows";
    }
    if (wave_check(&e->wave) != NULL) {
        return wave_check(&e->wave);
    }
    const char *broken = check_in_flight(e);
    return broken != NULL ? broken : scheduler_check(&e->scheduler);
}
