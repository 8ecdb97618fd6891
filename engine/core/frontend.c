/*
 * frontend.c - request states of one API server. Driven by engine/node's API server and by the
 * simulator.
 *
 * A request has two lives that end apart: the engine holds it (in flight) until its id comes back
 * in finished_ids, and a consumer waits for it (open) until it took the last delta or went away.
 * The slot is free when both are over. Nothing here may scan the requests for the sake of one
 * output, read a clock, or allocate after creation.
 */
#include "engine/core/frontend.h"

#include <string.h>

#include "engine/base/id_map.h"
#include "engine/base/status.h"
#include "engine/core/router.h"
#include "engine/core/slot_queue.h"
#include "engine/core/text_stream.h"

enum {
    SERIAL_DIGITS = 8,
    ID_SUFFIX_BYTES = 1 + SERIAL_DIGITS,
    CACHE_LINE_BYTES = 64,
    REQUESTS_LIMIT = 1 << 24,
    OUTPUT_KIND_DELTA = 1,
    OUTPUT_KIND_FINAL_ONLY = 2,
};

_Static_assert((int)FRONTEND_STOP_STRINGS_MAX == (int)TEXT_STOPS_MAX, "one limit");
_Static_assert((int)FRONTEND_STOP_BYTES_MAX == (int)TEXT_STOP_BYTES_MAX, "one limit");

/* What every output needs stands first, in one cache line; with the beginning of the id in two. */
struct request {
    _Alignas(CACHE_LINE_BYTES) uint32_t follower; /* whose output once stood behind this one's */
    bool open;                                    /* a consumer waits */
    bool inflight;                                /* the engine holds it */
    bool stream;
    bool aborted;                /* an ABORT was booked: one is enough */
    bool taken;                  /* the delta was taken: the next output begins another */
    struct frontend_delta delta; /* what is not taken yet; its finish is the request's */
    char id[REQUEST_ID_BYTES_MAX];
    uint32_t min_tokens;
    uint32_t engine;    /* of those managed here */
    uint32_t next_free; /* while the slot is free */
    uint64_t detokenizer_state;
    struct text_stream text;
};

struct frontend {
    struct frontend_options options;
    struct router router;
    struct id_map ids;
    struct request *requests; /* [requests_max] */
    char *text;           /* [requests_max][text_bytes_max], touched only where text was written */
    uint32_t free_head;   /* last freed is used first: its memory is warm */
    uint32_t fresh_slots; /* slots fresh_slots.. were never used */
    uint32_t free_count;  /* these included */
    uint32_t inflight_count;
    uint32_t open_count;
    struct slot_queue ready;
    struct slot_queue aborts;
    const struct engine_outputs *message; /* being processed, NULL between messages */
    uint32_t next_output;
    uint32_t *guess;  /* where the next output's slot is expected, and noted if it is another */
    uint32_t *firsts; /* [engines_count], the slot of the first output of each one's last message */
    uint32_t wave;
    bool engines_running; /* the coordinator's word, or own belief since the last FIRST_REQ */
};

static const char *id_of(const void *ctx, uint32_t slot)
{
    const struct frontend *f = ctx;
    return f->requests[slot].id;
}

static size_t text_bytes(const struct frontend_options *options)
{
    return options->detokenizer == NULL ? 0 : options->text_bytes_max;
}

size_t frontend_arena_bytes(const struct frontend_options *options)
{
    return ARENA_BYTES(1, struct frontend) + router_arena_bytes(options->engines_count) +
           ARENA_BYTES(options->engines_count, uint32_t) +
           id_map_arena_bytes(options->requests_max) +
           ARENA_BYTES(options->requests_max, struct request) +
           ARENA_BYTES(options->requests_max * text_bytes(options), char) +
           2 * slot_queue_arena_bytes(options->requests_max);
}

enum status frontend_create(struct arena *arena, const struct frontend_options *options,
                            struct frontend **out, struct error *error)
{
    if (options->client_index >= options->client_count) {
        return error_set(error, STATUS_INVALID,
                         "client_index: want less than client_count %u, got %u",
                         options->client_count, options->client_index);
    }
    if (options->engines_count == 0) {
        return error_set(error, STATUS_INVALID, "engines_count: want at least 1, got 0");
    }
    if (options->group_count > 0 &&
        options->engines_first + options->engines_count > options->group_count) {
        return error_set(error, STATUS_INVALID,
                         "group_count: want at least engines_first %u + engines_count %u, got %u",
                         options->engines_first, options->engines_count, options->group_count);
    }
    if (options->requests_max == 0 || options->requests_max > REQUESTS_LIMIT) {
        return error_set(error, STATUS_INVALID, "requests_max: want 1..%d, got %u", REQUESTS_LIMIT,
                         options->requests_max);
    }
    if (options->max_model_len < 2) {
        return error_set(error, STATUS_INVALID, "max_model_len: want at least 2, got %u",
                         options->max_model_len);
    }
    if (options->detokenizer != NULL && options->text_bytes_max < TEXT_STOP_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "text_bytes_max: want at least %d, got %u",
                         TEXT_STOP_BYTES_MAX, options->text_bytes_max);
    }
    struct frontend *f = ARENA_NEW(arena, struct frontend, 1);
    f->options = *options;
    router_init(&f->router, arena, options->engines_count, options->client_index,
                options->client_count);
    router_set_rule(&f->router, options->router_rule);
    id_map_init(&f->ids, arena, options->requests_max, id_of, f);
    f->firsts = ARENA_NEW(arena, uint32_t, options->engines_count);
    f->requests = ARENA_NEW(arena, struct request, options->requests_max);
    if (options->detokenizer != NULL) {
        f->text = arena_alloc(arena, options->requests_max, options->text_bytes_max);
    }
    slot_queue_init(&f->ready, arena, options->requests_max);
    slot_queue_init(&f->aborts, arena, options->requests_max);
    f->free_head = SLOT_QUEUE_NONE;
    f->free_count = options->requests_max;
    *out = f;
    return STATUS_OK;
}

/* --- submit --- */

static enum status check_request(const struct frontend *f, const struct frontend_request *request,
                                 struct error *error)
{
    if (strlen(request->external_id) + ID_SUFFIX_BYTES >= REQUEST_ID_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "request id is longer than %d bytes",
                         REQUEST_ID_BYTES_MAX - 1 - ID_SUFFIX_BYTES);
    }
    int32_t rank = request->data_parallel_rank;
    if (rank != RANK_NONE && (rank < 0 || (uint32_t)rank >= f->options.engines_count)) {
        return error_set(error, STATUS_INVALID, "data parallel rank: want 0..%u, got %d",
                         f->options.engines_count - 1, rank);
    }
    if (request->prompt_tokens_count == 0 ||
        request->prompt_tokens_count >= f->options.max_model_len) {
        return error_set(error, STATUS_INVALID, "prompt: want 1..%u tokens, got %u",
                         f->options.max_model_len - 1, request->prompt_tokens_count);
    }
    if (request->stop_count > FRONTEND_STOP_STRINGS_MAX) {
        return error_set(error, STATUS_INVALID, "stop: want at most %d strings, got %u",
                         FRONTEND_STOP_STRINGS_MAX, request->stop_count);
    }
    for (uint32_t i = 0; i < request->stop_count; i++) {
        size_t bytes = strlen(request->stop[i]);
        if (bytes == 0 || bytes >= FRONTEND_STOP_BYTES_MAX) {
            return error_set(error, STATUS_INVALID, "stop: want strings of 1..%d bytes, got %zu",
                             FRONTEND_STOP_BYTES_MAX - 1, bytes);
        }
    }
    return STATUS_OK;
}

static void write_id(char *out, const char *external_id, uint32_t serial)
{
    static const char digits[] = "0123456789abcdef";
    size_t bytes = strlen(external_id);
    memcpy(out, external_id, bytes);
    out[bytes] = '-';
    for (size_t i = 0; i < SERIAL_DIGITS; i++) {
        out[bytes + SERIAL_DIGITS - i] = digits[(serial >> (4 * i)) & 0xfU];
    }
    out[bytes + ID_SUFFIX_BYTES] = '\0';
}

static uint32_t take_slot(struct frontend *f, const char *id)
{
    uint32_t slot = f->free_head;
    if (slot == SLOT_QUEUE_NONE) {
        slot = f->fresh_slots++;
    } else {
        f->free_head = f->requests[slot].next_free;
    }
    struct request *r = &f->requests[slot];
    f->free_count--;
    memcpy(r->id, id, strlen(id) + 1);
    id_map_put(&f->ids, r->id, slot);
    return slot;
}

static void start_request(struct frontend *f, uint32_t slot, const struct frontend_request *request)
{
    struct request *r = &f->requests[slot];
    r->delta = (struct frontend_delta){
        .handle = (int32_t)slot,
        .serial = request->serial,
        .finish = FINISH_NONE,
        .stop_token_id = TOKEN_NONE,
        .prompt_tokens_count = request->prompt_tokens_count,
        .engine = f->options.engines_first + r->engine,
    };
    r->min_tokens = request->sampling.min_tokens;
    r->stream = request->stream;
    r->open = true;
    r->inflight = true;
    r->aborted = false;
    r->taken = false;
    r->detokenizer_state = 0;
    size_t text_at = (size_t)slot * f->options.text_bytes_max;
    text_stream_start(&r->text, f->text == NULL ? NULL : f->text + text_at,
                      f->options.text_bytes_max);
    text_stream_stops(&r->text, request->stop, request->stop_count, request->include_stop);
    f->open_count++;
    f->inflight_count++;
}

static bool has_coordinator(const struct frontend *f)
{
    return f->options.group_count > 1 || f->options.engines_count > 1;
}

/* The slot, counted from 1, and the serial, by which it is known that the slot is still that
 * request's. */
static uint64_t tag_of(uint32_t slot, uint32_t serial)
{
    return (uint64_t)(slot + 1) << 32 | serial;
}

static void write_send(const struct frontend *f, const struct frontend_request *request,
                       uint32_t slot, struct frontend_send *send)
{
    const struct request *r = &f->requests[slot];
    *send = (struct frontend_send){
        .handle = (int32_t)slot,
        .engine = r->delta.engine,
        .request =
            {
                .tag = tag_of(slot, request->serial),
                .id = r->id,
                .prompt_token_ids = request->prompt_token_ids,
                .prompt_tokens_count = request->prompt_tokens_count,
                .prompt_hash = request->prompt_hash,
                .sampling = request->sampling,
                .arrival_wall_ns = request->arrival_wall_ns,
                .data_parallel_rank = request->data_parallel_rank,
                .client_index = f->options.client_index,
                .current_wave = f->wave,
                .priority = request->priority,
                .cache_salt = request->cache_salt,
                .external_id = request->external_id,
            },
        .wave = f->wave,
    };
    send->request.sampling.output_kind =
        request->stream ? OUTPUT_KIND_DELTA : OUTPUT_KIND_FINAL_ONLY;
}

enum status frontend_submit(struct frontend *f, const struct frontend_request *request, time_ps now,
                            struct frontend_send *send, struct error *error)
{
    (void)now;
    TRY(check_request(f, request, error));
    char id[REQUEST_ID_BYTES_MAX];
    write_id(id, request->external_id, request->serial);
    if (id_map_get(&f->ids, id) != ID_MAP_NONE) {
        return error_set(error, STATUS_INVALID, "request id %s is in use", id);
    }
    if (f->free_count == 0) {
        return error_set(error, STATUS_FULL, "%u requests are in flight", f->options.requests_max);
    }
    uint32_t slot = take_slot(f, id);
    f->requests[slot].engine = router_choose(&f->router, request->data_parallel_rank);
    start_request(f, slot, request);
    write_send(f, request, slot, send);
    if (has_coordinator(f) && !f->engines_running) {
        /* Believed from here on, so that a burst tells the coordinator once. */
        f->engines_running = true;
        send->first_request = true;
    }
    return STATUS_OK;
}

/* --- the two lives of a request --- */

static void free_if_over(struct frontend *f, uint32_t slot)
{
    struct request *r = &f->requests[slot];
    if (r->open || r->inflight) {
        return;
    }
    (void)id_map_remove(&f->ids, r->id);
    r->next_free = f->free_head;
    f->free_head = slot;
    f->free_count++;
}

/* The engine holds the request no more. */
static void leave_engine(struct frontend *f, uint32_t slot)
{
    struct request *r = &f->requests[slot];
    if (!r->inflight) {
        return;
    }
    r->inflight = false;
    f->inflight_count--;
    router_finished(&f->router, r->engine);
    slot_queue_remove(&f->aborts, slot);
    free_if_over(f, slot);
}

/* The consumer waits no more. */
static void leave_consumer(struct frontend *f, uint32_t slot)
{
    struct request *r = &f->requests[slot];
    r->open = false;
    f->open_count--;
    slot_queue_remove(&f->ready, slot);
    free_if_over(f, slot);
}

static void book_abort(struct frontend *f, uint32_t slot)
{
    struct request *r = &f->requests[slot];
    if (r->inflight && !r->aborted) {
        r->aborted = true;
        slot_queue_push(&f->aborts, slot);
    }
}

/* What comes now is not in the delta that was taken last. */
static void begin_delta(struct request *r)
{
    if (r->taken) {
        r->taken = false;
        r->delta.new_tokens_count = 0;
        r->delta.outputs_count = 0;
        r->delta.first = false;
    }
}

/* Decides the request's end; its consumer learns of it with the next delta. */
static void end_request(struct frontend *f, uint32_t slot, enum finish_reason finish)
{
    struct request *r = &f->requests[slot];
    begin_delta(r);
    r->delta.finish = finish;
    text_stream_end(&r->text);
    slot_queue_push(&f->ready, slot);
}

/* --- outputs --- */

/* True when a stop string ends within the token's text. */
static bool add_text(struct frontend *f, struct request *r, uint32_t token)
{
    const struct detokenizer *detokenizer = f->options.detokenizer;
    uint32_t cap;
    char *out = text_stream_room(&r->text, &cap);
    uint32_t bytes = detokenizer->append(detokenizer->ctx, &r->detokenizer_state, token, out, cap);
    return text_stream_added(&r->text, bytes, r->delta.output_tokens_count > r->min_tokens);
}

/* Counts the tokens and appends their text; true when a stop string was hit, and the tokens behind
 * it do not count. */
static bool add_tokens(struct frontend *f, struct request *r, const struct engine_output *output)
{
    struct frontend_delta *delta = &r->delta;
    if (f->options.detokenizer == NULL || output->new_token_ids == NULL) {
        delta->output_tokens_count += output->new_tokens_count;
        delta->new_tokens_count += output->new_tokens_count;
        return false;
    }
    /* The token that made the engine stop (end of text, a stop token) is counted but is no text. */
    uint32_t text_tokens = output->new_tokens_count;
    if (output->finish == FINISH_STOP && text_tokens > 0 && !r->text.include_stop) {
        text_tokens--;
    }
    for (uint32_t i = 0; i < output->new_tokens_count; i++) {
        delta->output_tokens_count++;
        delta->new_tokens_count++;
        if (i < text_tokens && add_text(f, r, output->new_token_ids[i])) {
            return true;
        }
    }
    return false;
}

int32_t frontend_handle_of(const struct frontend *f, const char *id)
{
    uint32_t slot = id_map_get(&f->ids, id);
    if (slot == ID_MAP_NONE || !f->requests[slot].open ||
        f->requests[slot].delta.finish != FINISH_NONE) {
        return FRONTEND_HANDLE_NONE;
    }
    return (int32_t)slot;
}

/* Whose tag it is; SLOT_QUEUE_NONE: nobody's, now. */
static uint32_t slot_of_tag(const struct frontend *f, uint64_t tag)
{
    uint32_t slot = (uint32_t)(tag >> 32) - 1;
    if (slot >= f->options.requests_max ||
        f->requests[slot].delta.serial != frontend_tag_serial(tag)) {
        return SLOT_QUEUE_NONE;
    }
    return slot;
}

/* The slot of an output of the message in work that says no tag. An engine's batch changes little
 * from step to step, so it mostly is the one that stood here the last time: then no id needs to be
 * looked up. */
static uint32_t slot_of_id(struct frontend *f, const char *id)
{
    uint32_t slot = *f->guess;
    struct request *r = &f->requests[slot];
    if (!(r->open || r->inflight) || strcmp(r->id, id) != 0) {
        slot = id_map_get(&f->ids, id);
        if (slot == ID_MAP_NONE) {
            return SLOT_QUEUE_NONE;
        }
        r = &f->requests[slot];
        *f->guess = slot;
    }
    f->guess = &r->follower;
    return slot;
}

/* The slot whose delta is ready and has to be queued, or handed out at once; SLOT_QUEUE_NONE:
 * none, or it is queued. */
static uint32_t process_output(struct frontend *f, const struct engine_output *output, time_ps at)
{
    uint32_t slot = output->tag != 0 ? slot_of_tag(f, output->tag) : slot_of_id(f, output->id);
    struct request *r = slot != SLOT_QUEUE_NONE ? &f->requests[slot] : NULL;
    if (r == NULL || !r->open || r->delta.finish != FINISH_NONE) {
        return SLOT_QUEUE_NONE;
    }
    begin_delta(r);
    if (output->first) {
        r->delta.queued_at = output->queued_at;
        r->delta.scheduled_at = output->scheduled_at;
        r->delta.cached_tokens = output->prefill.cached_tokens;
    }
    r->delta.outputs_count++;
    if (output->new_tokens_count > 0) {
        if (r->delta.output_tokens_count == 0) {
            r->delta.first = true;
            r->delta.first_token_at = at;
        }
        r->delta.last_token_at = at;
    }
    if (add_tokens(f, r, output)) {
        end_request(f, slot, FINISH_STOP);
        if (output->finish == FINISH_NONE) {
            book_abort(f, slot);
        }
    } else if (output->finish != FINISH_NONE) {
        r->delta.stop_token_id = output->stop_token_id;
        end_request(f, slot, output->finish);
    } else if (r->stream && output->new_tokens_count > 0) {
        return slot;
    }
    return SLOT_QUEUE_NONE;
}

/* A request that its engine dropped without a last output must not leave its consumer waiting for
 * ever. */
static void end_message(struct frontend *f)
{
    const struct engine_outputs *message = f->message;
    f->message = NULL;
    for (uint32_t i = 0; i < message->finished_ids_count; i++) {
        uint32_t slot = id_map_get(&f->ids, message->finished_ids[i]);
        if (slot != ID_MAP_NONE && f->requests[slot].open &&
            f->requests[slot].delta.finish == FINISH_NONE) {
            end_request(f, slot, FINISH_ABORT);
        }
    }
}

void frontend_outputs_begin(struct frontend *f, const struct engine_outputs *message)
{
    ASSERT(f->message == NULL);
    for (uint32_t i = 0; i < message->finished_ids_count; i++) {
        uint32_t slot = id_map_get(&f->ids, message->finished_ids[i]);
        if (slot != ID_MAP_NONE) {
            leave_engine(f, slot);
        }
    }
    if (message->stats != NULL) {
        router_stats(&f->router, message->engine_index - f->options.engines_first, message->stats);
    }
    f->message = message;
    f->next_output = 0;
    uint32_t engine = message->engine_index - f->options.engines_first;
    f->guess = &f->firsts[engine < f->options.engines_count ? engine : 0];
    if (message->outputs_count == 0) {
        end_message(f);
    }
}

uint32_t frontend_outputs_slice(struct frontend *f, time_ps now)
{
    (void)now;
    if (f->message == NULL) {
        return 0;
    }
    uint32_t left = f->message->outputs_count - f->next_output;
    uint32_t count = left < FRONTEND_SLICE_OUTPUTS ? left : FRONTEND_SLICE_OUTPUTS;
    for (uint32_t i = 0; i < count; i++) {
        const struct engine_output *output = &f->message->outputs[f->next_output + i];
        uint32_t slot = process_output(f, output, f->message->timestamp);
        if (slot != SLOT_QUEUE_NONE) {
            slot_queue_push(&f->ready, slot);
        }
    }
    f->next_output += count;
    if (count == left) {
        end_message(f);
    }
    return count;
}

/* --- what the driver takes --- */

static const struct frontend_delta *hand_out(struct frontend *f, uint32_t slot)
{
    struct request *r = &f->requests[slot];
    r->taken = true;
    if (f->text != NULL) {
        r->delta.stop_string = r->text.hit;
        r->delta.text = text_stream_take(&r->text, &r->delta.text_bytes);
    }
    if (r->delta.finish != FINISH_NONE) {
        leave_consumer(f, slot);
    }
    return &r->delta;
}

bool frontend_take(struct frontend *f, struct frontend_delta *delta)
{
    uint32_t slot = slot_queue_pop(&f->ready);
    if (slot == SLOT_QUEUE_NONE) {
        return false;
    }
    *delta = *hand_out(f, slot);
    return true;
}

/*
 * What most outputs are where there is no text: more tokens of a request that goes on, to be handed
 * out at once. As process_output() and hand_out() do. NULL: nothing was done.
 */
static const struct frontend_delta *pull_plain(struct frontend *f,
                                               const struct engine_output *output, time_ps at)
{
    uint32_t slot = (uint32_t)(output->tag >> 32) - 1;
    if (slot >= f->options.requests_max) {
        return NULL;
    }
    struct request *r = &f->requests[slot];
    struct frontend_delta *delta = &r->delta;
    if (delta->serial != frontend_tag_serial(output->tag) || !r->open || !r->stream || !r->taken ||
        delta->finish != FINISH_NONE || delta->output_tokens_count == 0 || output->first ||
        output->finish != FINISH_NONE || output->new_tokens_count == 0) {
        return NULL;
    }
    delta->new_tokens_count = output->new_tokens_count;
    delta->outputs_count = 1;
    delta->output_tokens_count += output->new_tokens_count;
    delta->first = false;
    delta->last_token_at = at;
    return delta;
}

static const struct frontend_delta *pull_any(struct frontend *f)
{
    while (f->ready.head == SLOT_QUEUE_NONE && f->message != NULL) {
        const struct engine_outputs *message = f->message;
        const struct engine_output *output = &message->outputs[f->next_output++];
        uint32_t slot = process_output(f, output, message->timestamp);
        if (f->next_output == message->outputs_count) {
            end_message(f);
        }
        if (slot != SLOT_QUEUE_NONE) {
            return hand_out(f, slot);
        }
    }
    uint32_t slot = slot_queue_pop(&f->ready);
    return slot != SLOT_QUEUE_NONE ? hand_out(f, slot) : NULL;
}

const struct frontend_delta *frontend_pull(struct frontend *f)
{
    const struct engine_outputs *message = f->message;
    if (message == NULL || f->ready.head != SLOT_QUEUE_NONE || f->options.detokenizer != NULL) {
        return pull_any(f);
    }
    const struct engine_output *output = &message->outputs[f->next_output];
    const struct frontend_delta *delta = pull_plain(f, output, message->timestamp);
    if (delta == NULL) {
        return pull_any(f);
    }
    f->next_output++;
    if (f->next_output == message->outputs_count) {
        end_message(f);
    }
    return delta;
}

bool frontend_take_abort(struct frontend *f, struct frontend_abort *abort)
{
    uint32_t slot = slot_queue_pop(&f->aborts);
    if (slot == SLOT_QUEUE_NONE) {
        return false;
    }
    const struct request *r = &f->requests[slot];
    *abort = (struct frontend_abort){.engine = r->delta.engine, .id = r->id};
    return true;
}

void frontend_cancel(struct frontend *f, int32_t handle)
{
    ASSERT(handle >= 0 && (uint32_t)handle < f->options.requests_max);
    uint32_t slot = (uint32_t)handle;
    if (f->requests[slot].open) {
        book_abort(f, slot);
        leave_consumer(f, slot);
    }
}

void frontend_fail_all(struct frontend *f)
{
    for (uint32_t slot = 0; slot < f->options.requests_max; slot++) {
        struct request *r = &f->requests[slot];
        if (r->open && r->delta.finish == FINISH_NONE) {
            end_request(f, slot, FINISH_ERROR);
        }
        leave_engine(f, slot);
    }
}

void frontend_coordinator_state(struct frontend *f, const struct coordinator_state *state)
{
    f->wave = state->wave;
    f->engines_running = state->running;
    uint32_t others = f->options.engines_first; /* whose counts come first */
    if (state->counts != NULL && state->counts_count > others) {
        router_publish(&f->router, &state->counts[others], state->counts_count - others);
    }
}

uint32_t frontend_current_wave(const struct frontend *f)
{
    return f->wave;
}

bool frontend_engines_running(const struct frontend *f)
{
    return f->engines_running;
}

uint32_t frontend_inflight(const struct frontend *f)
{
    return f->inflight_count;
}

uint32_t frontend_open(const struct frontend *f)
{
    return f->open_count;
}

const struct router *frontend_router(const struct frontend *f)
{
    return &f->router;
}

/* --- invariants --- */

static const char *check_slot(const struct frontend *f, uint32_t slot)
{
    const struct request *r = &f->requests[slot];
    bool queued_ready = f->ready.links[slot].queued;
    bool queued_abort = f->aborts.links[slot].queued;
    if ((r->open || r->inflight) != (id_map_get(&f->ids, r->id) == slot)) {
        return "the id map and a request's state disagree";
    }
    if (queued_ready && !r->open) {
        return "a delta is ready for nobody";
    }
    if (r->open && r->delta.finish != FINISH_NONE && !queued_ready) {
        return "a finished request's delta is not ready";
    }
    if (queued_abort && !(r->inflight && r->aborted)) {
        return "an abort waits for a request that no engine holds";
    }
    if (r->open && !r->inflight && r->delta.finish == FINISH_NONE && f->message == NULL) {
        return "a consumer waits for a request that no engine holds";
    }
    if (r->text.taken > r->text.released || r->text.released > r->text.bytes ||
        r->text.bytes > r->text.cap_bytes) {
        return "text marks are out of order";
    }
    return NULL;
}

const char *frontend_check(const struct frontend *f)
{
    uint32_t open = 0;
    uint32_t inflight = 0;
    uint32_t used = 0;
    for (uint32_t slot = 0; slot < f->options.requests_max; slot++) {
        const struct request *r = &f->requests[slot];
        const char *wrong = check_slot(f, slot);
        if (wrong != NULL) {
            return wrong;
        }
        open += r->open ? 1 : 0;
        inflight += r->inflight ? 1 : 0;
        used += r->open || r->inflight ? 1 : 0;
    }
    uint64_t routed = 0;
    for (uint32_t engine = 0; engine < f->options.engines_count; engine++) {
        routed += f->router.inflight[engine];
    }
    if (open != f->open_count || inflight != f->inflight_count || routed != inflight) {
        return "counts of open or in-flight requests are wrong";
    }
    if (used != f->ids.count || used + f->free_count != f->options.requests_max) {
        return "slots are lost or used twice";
    }
    return NULL;
}
