/*
 * tape_frontend.c - the calls into a front end as frames: written beside the call, printed, and
 * played back. Driven by engine/node's API server and by tape_replay.c.
 */
#include "engine/tape/tape_frontend.h"

#include <string.h>

#include "engine/tape/tape_message.h"
#include "engine/tape/tape_object.h"

enum {
    FRONTEND_CREATE = TAPE_CREATE,
    FRONTEND_SUBMIT,
    FRONTEND_OUTPUTS_BEGIN,
    FRONTEND_OUTPUTS_SLICE,
    FRONTEND_TEXTS, /* no call: what the detokenizer gave during the slice */
    FRONTEND_TAKE,
    FRONTEND_TAKE_ABORT,
    FRONTEND_CANCEL,
    FRONTEND_FAIL_ALL,
    FRONTEND_COORDINATOR_STATE,
    FRONTEND_CALLS_COUNT
};

enum {
    TEXT_BYTES_MIN = 2 /* of one that was written */
};

static const struct tape_call calls[FRONTEND_CALLS_COUNT] = {
    [FRONTEND_CREATE] = {.name = "create", .asks = true, .answers = true},
    [FRONTEND_SUBMIT] = {.name = "submit", .asks = true, .answers = true},
    [FRONTEND_OUTPUTS_BEGIN] = {.name = "outputs_begin", .asks = true},
    [FRONTEND_OUTPUTS_SLICE] = {.name = "outputs_slice", .asks = true, .answers = true},
    [FRONTEND_TEXTS] = {.name = "texts", .answers = true, .within = true},
    [FRONTEND_TAKE] = {.name = "take", .answers = true},
    [FRONTEND_TAKE_ABORT] = {.name = "take_abort", .answers = true},
    [FRONTEND_CANCEL] = {.name = "cancel", .asks = true},
    [FRONTEND_FAIL_ALL] = {.name = "fail_all", .asks = true},
    [FRONTEND_COORDINATOR_STATE] = {.name = "coordinator_state", .asks = true},
};

/* What is asked or answered in one frame. */
union fields {
    struct {
        struct tape_owner owner;
        struct frontend_options options;
        bool detokenizer;
    } create;
    struct tape_result result;
    struct {
        time_ps now;
        struct frontend_request request;
    } submit;
    struct {
        struct tape_result result;
        struct frontend_send send;
        bool prompt_kept; /* the tokens to send are those that came */
    } sent;
    struct engine_outputs message;
    struct {
        time_ps now;
        uint32_t count;
    } slice;
    struct {
        uint32_t count;
        const struct tape_frontend_text *items;
    } texts;
    struct {
        bool there;
        struct frontend_delta delta;
    } take;
    struct {
        bool there;
        struct frontend_abort abort;
    } abort;
    int32_t handle;
    struct coordinator_state state;
};

/* ---- fields ---- */

static void options_walk(struct tape_code *c, union fields *f)
{
    static const char *const rules[] = {"score", "weighted_sum", "round_robin", "rust",
                                        "weighted_sum_fixed_start"};
    struct frontend_options *o = &f->create.options;
    tape_u32(c, "client", &o->client_index);
    tape_u32(c, "clients", &o->client_count);
    tape_u32(c, "engines_first", &o->engines_first);
    tape_u32(c, "engines", &o->engines_count);
    tape_u32(c, "group", &o->group_count);
    tape_u32(c, "requests_max", &o->requests_max);
    tape_u32(c, "max_model_len", &o->max_model_len);
    tape_u32(c, "text_bytes_max", &o->text_bytes_max);
    tape_bool(c, "detokenizer", &f->create.detokenizer);
    TAPE_ENUM(c, "router", o->router_rule, rules);
}

static void request_walk(struct tape_code *c, struct frontend_request *r)
{
    tape_text(c, "external_id", &r->external_id);
    tape_u32(c, "serial", &r->serial);
    tape_u32(c, "prompt_tokens", &r->prompt_tokens_count);
    uint32_t count = r->prompt_token_ids != NULL ? r->prompt_tokens_count : 0;
    tape_u32s(c, "prompt", &r->prompt_token_ids, &count);
    tape_hash(c, "prompt_hash", &r->prompt_hash);
    tape_sampling_walk(c, &r->sampling);
    tape_i64(c, "arrival_wall_ns", &r->arrival_wall_ns);
    tape_i32(c, "rank", &r->data_parallel_rank);
    tape_i32(c, "priority", &r->priority);
    tape_text(c, "cache_salt", &r->cache_salt);
    tape_bool(c, "stream", &r->stream);
    tape_u32(c, "stops", &r->stop_count);
    for (uint32_t i = 0; i < r->stop_count && i < FRONTEND_STOP_STRINGS_MAX; i++) {
        tape_text(c, "stop", &r->stop[i]);
        c->failed = c->failed || (c->reading && r->stop[i] == NULL);
    }
    tape_bool(c, "include_stop", &r->include_stop);
    bool same = count == 0 || count == r->prompt_tokens_count;
    if (c->reading && (r->external_id == NULL || !same)) {
        c->failed = true;
    }
}

static void sent_walk(struct tape_code *c, union fields *f)
{
    struct frontend_send *s = &f->sent.send;
    tape_result_walk(c, &f->sent.result);
    if (f->sent.result.status != STATUS_OK) {
        return;
    }
    tape_i32(c, "handle", &s->handle);
    tape_u32(c, "engine", &s->engine);
    tape_request_walk(c, &s->request, false);
    tape_bool(c, "prompt_kept", &f->sent.prompt_kept);
    tape_bool(c, "first_request", &s->first_request);
    tape_u32(c, "wave", &s->wave);
}

static void texts_walk(struct tape_code *c, union fields *f)
{
    tape_count(c, "texts", &f->texts.count, TEXT_BYTES_MIN);
    struct tape_frontend_text *room = tape_room(c, f->texts.count, sizeof *room);
    for (uint32_t i = 0; i < f->texts.count; i++) {
        struct tape_frontend_text one = {0};
        if (room == NULL) {
            one = f->texts.items[i];
        }
        tape_u32(c, "token", &one.token);
        tape_bytes(c, "text", &one.text, &one.bytes);
        if (room != NULL) {
            room[i] = one;
        }
    }
    f->texts.items = room != NULL ? room : f->texts.items;
}

static void delta_walk(struct tape_code *c, struct frontend_delta *d)
{
    tape_i32(c, "handle", &d->handle);
    tape_u32(c, "serial", &d->serial);
    tape_bytes(c, "text", &d->text, &d->text_bytes);
    tape_u32(c, "new_tokens", &d->new_tokens_count);
    tape_u32(c, "outputs", &d->outputs_count);
    tape_u32(c, "output_tokens", &d->output_tokens_count);
    tape_u32(c, "prompt_tokens", &d->prompt_tokens_count);
    tape_u32(c, "cached_tokens", &d->cached_tokens);
    tape_bool(c, "first", &d->first);
    tape_finish_walk(c, &d->finish);
    tape_text(c, "stop_string", &d->stop_string);
    tape_i32(c, "stop_token", &d->stop_token_id);
    tape_u32(c, "engine", &d->engine);
    tape_time(c, "queued_at", &d->queued_at);
    tape_time(c, "scheduled_at", &d->scheduled_at);
    tape_time(c, "first_token_at", &d->first_token_at);
    tape_time(c, "last_token_at", &d->last_token_at);
}

static void walk_question(struct tape_code *c, uint32_t call, union fields *f)
{
    switch (call) {
    case FRONTEND_CREATE:
        tape_owner_walk(c, &f->create.owner);
        options_walk(c, f);
        break;
    case FRONTEND_SUBMIT:
        tape_now(c, "now", &f->submit.now);
        request_walk(c, &f->submit.request);
        break;
    case FRONTEND_OUTPUTS_BEGIN:
        tape_outputs_walk(c, &f->message);
        break;
    case FRONTEND_OUTPUTS_SLICE:
        tape_now(c, "now", &f->slice.now);
        break;
    case FRONTEND_CANCEL:
        tape_i32(c, "handle", &f->handle);
        break;
    case FRONTEND_FAIL_ALL:
        break;
    case FRONTEND_COORDINATOR_STATE:
        tape_state_walk(c, &f->state);
        break;
    default:
        c->failed = true;
        break;
    }
}

static void walk_answer(struct tape_code *c, uint32_t call, union fields *f)
{
    switch (call) {
    case FRONTEND_CREATE:
        tape_result_walk(c, &f->result);
        break;
    case FRONTEND_SUBMIT:
        sent_walk(c, f);
        break;
    case FRONTEND_OUTPUTS_SLICE:
        tape_u32(c, "outputs", &f->slice.count);
        break;
    case FRONTEND_TEXTS:
        texts_walk(c, f);
        break;
    case FRONTEND_TAKE:
        tape_bool(c, "yes", &f->take.there);
        if (f->take.there) {
            delta_walk(c, &f->take.delta);
        }
        break;
    case FRONTEND_TAKE_ABORT:
        tape_bool(c, "yes", &f->abort.there);
        if (f->abort.there) {
            tape_u32(c, "engine", &f->abort.abort.engine);
            tape_text(c, "id", &f->abort.abort.id);
        }
        break;
    default:
        c->failed = true;
        break;
    }
}

static void walk(struct tape_code *c, uint32_t call, union fields *f)
{
    if ((call & TAPE_ANSWER) != 0) {
        walk_answer(c, call & ~(uint32_t)TAPE_ANSWER, f);
    } else {
        walk_question(c, call, f);
    }
}

static void walk_only(struct tape_code *c, uint32_t call)
{
    union fields f = {0};
    walk(c, call, &f);
}

/* ---- calls ---- */

static void put_frame(struct tape *t, uint32_t call, union fields f)
{
    walk(tape_begin(t, call), call, &f);
    tape_end(t);
}

static void answer(struct tape *t, uint32_t call, union fields f)
{
    put_frame(t, call | TAPE_ANSWER, f);
}

static uint32_t append_text(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap)
{
    struct tape_frontend *f = ctx;
    uint32_t bytes = f->inner.append(f->inner.ctx, state, token, out, cap);
    const char *text = out;
    uint32_t written = bytes;
    tape_u32(&f->texts, "token", &token);
    tape_bytes(&f->texts, "text", &text, &written);
    f->texts_count++;
    return bytes;
}

enum status tape_frontend_create(struct tape_frontend *f, struct arena *arena,
                                 const struct frontend_options *options, struct error *error)
{
    if (f->tape == NULL) {
        return frontend_create(arena, options, &f->frontend, error);
    }
    struct error why;
    struct frontend_options taped = *options;
    bool detokenizer = options->detokenizer != NULL;
    if (detokenizer) {
        f->inner = *options->detokenizer;
        f->outer = (struct detokenizer){.ctx = f, .append = append_text};
        taped.detokenizer = &f->outer;
    }
    put_frame(f->tape, FRONTEND_CREATE,
              (union fields){.create = {.owner = *tape_owner(f->tape),
                                        .options = *options,
                                        .detokenizer = detokenizer}});
    enum status status = frontend_create(arena, &taped, &f->frontend, &why);
    answer(f->tape, FRONTEND_CREATE,
           (union fields){.result = {.status = (uint32_t)status,
                                     .why = status != STATUS_OK ? why.text : NULL}});
    return status == STATUS_OK ? status : error_set(error, status, "%s", why.text);
}

enum status tape_frontend_submit(const struct tape_frontend *f,
                                 const struct frontend_request *request, time_ps now,
                                 struct frontend_send *send, struct error *error)
{
    if (f->tape == NULL) {
        return frontend_submit(f->frontend, request, now, send, error);
    }
    struct error why;
    put_frame(f->tape, FRONTEND_SUBMIT,
              (union fields){.submit = {.now = now, .request = *request}});
    enum status status = frontend_submit(f->frontend, request, now, send, &why);
    union fields sent = {.sent = {.result = {.status = (uint32_t)status}}};
    if (status == STATUS_OK) {
        sent.sent.send = *send;
        sent.sent.prompt_kept = send->request.prompt_token_ids == request->prompt_token_ids;
    } else {
        sent.sent.result.why = why.text;
    }
    answer(f->tape, FRONTEND_SUBMIT, sent);
    return status == STATUS_OK ? status : error_set(error, status, "%s", why.text);
}

void tape_frontend_outputs_begin(const struct tape_frontend *f,
                                 const struct engine_outputs *message)
{
    if (f->tape != NULL) {
        put_frame(f->tape, FRONTEND_OUTPUTS_BEGIN, (union fields){.message = *message});
    }
    frontend_outputs_begin(f->frontend, message);
}

/* As they were written one by one. */
static void write_texts(struct tape_frontend *f)
{
    struct tape_code *c = tape_begin(f->tape, FRONTEND_TEXTS | TAPE_ANSWER);
    tape_count(c, "texts", &f->texts_count, TEXT_BYTES_MIN);
    tape_code_append(c, &f->texts);
    tape_end(f->tape);
}

uint32_t tape_frontend_outputs_slice(struct tape_frontend *f, time_ps now)
{
    if (f->tape == NULL) {
        return frontend_outputs_slice(f->frontend, now);
    }
    f->texts_count = 0;
    tape_code_write(&f->texts);
    put_frame(f->tape, FRONTEND_OUTPUTS_SLICE, (union fields){.slice = {.now = now}});
    uint32_t count = frontend_outputs_slice(f->frontend, now);
    if (f->texts_count > 0) {
        write_texts(f);
    }
    answer(f->tape, FRONTEND_OUTPUTS_SLICE, (union fields){.slice = {.count = count}});
    return count;
}

bool tape_frontend_take(const struct tape_frontend *f, struct frontend_delta *delta)
{
    bool there = frontend_take(f->frontend, delta);
    if (f->tape != NULL) {
        union fields fields = {.take = {.there = there}};
        if (there) {
            fields.take.delta = *delta;
        }
        answer(f->tape, FRONTEND_TAKE, fields);
    }
    return there;
}

bool tape_frontend_take_abort(const struct tape_frontend *f, struct frontend_abort *abort)
{
    bool there = frontend_take_abort(f->frontend, abort);
    if (f->tape != NULL) {
        union fields fields = {.abort = {.there = there}};
        if (there) {
            fields.abort.abort = *abort;
        }
        answer(f->tape, FRONTEND_TAKE_ABORT, fields);
    }
    return there;
}

void tape_frontend_cancel(const struct tape_frontend *f, int32_t handle)
{
    if (f->tape != NULL) {
        put_frame(f->tape, FRONTEND_CANCEL, (union fields){.handle = handle});
    }
    frontend_cancel(f->frontend, handle);
}

void tape_frontend_fail_all(const struct tape_frontend *f)
{
    if (f->tape != NULL) {
        put_frame(f->tape, FRONTEND_FAIL_ALL, (union fields){.handle = 0});
    }
    frontend_fail_all(f->frontend);
}

void tape_frontend_coordinator_state(const struct tape_frontend *f,
                                     const struct coordinator_state *state)
{
    if (f->tape != NULL) {
        put_frame(f->tape, FRONTEND_COORDINATOR_STATE, (union fields){.state = *state});
    }
    frontend_coordinator_state(f->frontend, state);
}

/* ---- played back ---- */

/* The recorded texts in their order. Another token than recorded gets none: what is written of it
 * differs then. */
static uint32_t play_text(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap)
{
    struct tape_player *p = ctx;
    (void)state;
    if (p->texts_count == 0 || p->texts[0].token != token || p->texts[0].bytes > cap) {
        return 0;
    }
    const struct tape_frontend_text *text = p->texts++;
    p->texts_count--;
    if (text->bytes > 0) {
        memcpy(out, text->text, text->bytes);
    }
    return text->bytes;
}

static enum status play_create(struct tape_player *p, const union fields *f, struct error *error)
{
    struct frontend_options o = f->create.options;
    bool possible = p->arena.base == NULL && o.requests_max <= TAPE_REQUESTS_MAX &&
                    o.max_model_len <= TAPE_MODEL_LEN_MAX && o.engines_count <= TAPE_RANKS_MAX &&
                    o.engines_first <= TAPE_RANKS_MAX && o.client_count <= TAPE_RANKS_MAX &&
                    o.text_bytes_max <= (uint32_t)TAPE_MODEL_LEN_MAX * 16;
    TRY(tape_player_check(p, possible, "create", "its options are beyond what processes have",
                          error));
    p->detokenizer = (struct detokenizer){.ctx = p, .append = play_text};
    o.detokenizer = f->create.detokenizer ? &p->detokenizer : NULL;
    p->frontend_options = o;
    TRY(arena_create(frontend_arena_bytes(&o), &p->arena, error));
    if (tape_frontend_create(&p->frontend, &p->arena, &o, error) != STATUS_OK) {
        p->frontend.frontend = NULL; /* as recorded, or the difference is noted */
    }
    return STATUS_OK;
}

static void play_submit(struct tape_player *p, const union fields *f)
{
    struct frontend_send send;
    struct error why;
    tape_player_at(p, f->submit.now);
    if (tape_frontend_submit(&p->frontend, &f->submit.request, f->submit.now, &send, &why) ==
        STATUS_OK) {
        p->summary->out_count += send.first_request ? 2 : 1;
    }
}

/* The front end keeps a pointer to the message. */
static enum status play_begin(struct tape_player *p, struct error *error)
{
    union fields f = {0};
    TRY(tape_player_check(p, p->held_outputs == 0, "outputs_begin", "the one before is in work",
                          error));
    tape_code_read(&p->held, p->code.at, (size_t)(p->code.end - p->code.at));
    walk_question(&p->held, FRONTEND_OUTPUTS_BEGIN, &f);
    p->code.at = p->held.at;
    p->code.failed = p->held.failed;
    TRY(tape_player_read(p, "outputs_begin", error));
    p->held_message = f.message;
    p->held_outputs = f.message.outputs_count;
    p->summary->in_count++;
    tape_frontend_outputs_begin(&p->frontend, &p->held_message);
    return STATUS_OK;
}

/* Its texts stand behind it. */
static enum status read_texts(struct tape_player *p, struct error *error)
{
    struct tape_reader ahead = *p->reader;
    struct tape_frame frame;
    union fields f = {0};
    p->texts_count = 0;
    if (tape_read(&ahead, &frame, error) != STATUS_OK ||
        frame.data[0] != (FRONTEND_TEXTS | TAPE_ANSWER)) {
        return STATUS_OK; /* none, or the next look finds what is wrong */
    }
    tape_code_read(&p->texts_code, frame.data + 1, frame.bytes - 1);
    texts_walk(&p->texts_code, &f);
    TRY(tape_player_check(p, !p->texts_code.failed, "texts", "they cannot be read", error));
    p->texts = f.texts.items;
    p->texts_count = f.texts.count;
    return STATUS_OK;
}

static enum status play_slice(struct tape_player *p, time_ps now, struct error *error)
{
    TRY(read_texts(p, error));
    tape_player_at(p, now);
    uint32_t count = tape_frontend_outputs_slice(&p->frontend, now);
    p->held_outputs -= count;
    return STATUS_OK;
}

static enum status play_cancel(struct tape_player *p, int32_t handle, struct error *error)
{
    bool possible = handle >= 0 && (uint32_t)handle < p->frontend_options.requests_max;
    TRY(tape_player_check(p, possible, "cancel", "there is no such handle", error));
    tape_frontend_cancel(&p->frontend, handle);
    return STATUS_OK;
}

static void play_take(struct tape_player *p)
{
    struct frontend_delta delta;
    if (tape_frontend_take(&p->frontend, &delta)) {
        p->summary->out_count++;
        p->summary->tokens_count += delta.new_tokens_count;
    }
}

static enum status play_known(struct tape_player *p, uint32_t call, const union fields *f,
                              struct error *error)
{
    struct frontend_abort abort_request;
    switch (call) {
    case FRONTEND_SUBMIT:
        play_submit(p, f);
        break;
    case FRONTEND_OUTPUTS_BEGIN:
        return play_begin(p, error);
    case FRONTEND_OUTPUTS_SLICE:
        return play_slice(p, f->slice.now, error);
    case FRONTEND_TAKE:
        play_take(p);
        break;
    case FRONTEND_TAKE_ABORT:
        p->summary->out_count += tape_frontend_take_abort(&p->frontend, &abort_request) ? 1 : 0;
        break;
    case FRONTEND_CANCEL:
        return play_cancel(p, f->handle, error);
    case FRONTEND_FAIL_ALL:
        tape_frontend_fail_all(&p->frontend);
        break;
    case FRONTEND_COORDINATOR_STATE:
        p->summary->in_count++;
        tape_frontend_coordinator_state(&p->frontend, &f->state);
        break;
    default:
        return tape_player_check(p, false, calls[call].name, "it is out of place", error);
    }
    return STATUS_OK;
}

static enum status play(struct tape_player *p, uint32_t call, struct error *error)
{
    union fields f = {0};
    if (calls[call].asks && call != FRONTEND_OUTPUTS_BEGIN) {
        walk_question(&p->code, call, &f);
        TRY(tape_player_read(p, calls[call].name, error));
    }
    p->frontend.tape = p->tape;
    if (call == FRONTEND_CREATE) {
        return play_create(p, &f, error);
    }
    TRY(tape_player_check(p, p->frontend.frontend != NULL, calls[call].name,
                          "there is no front end", error));
    return play_known(p, call, &f, error);
}

const struct tape_object tape_frontend_object = {
    .calls = calls,
    .calls_count = FRONTEND_CALLS_COUNT,
    .walk = walk_only,
    .play = play,
};
