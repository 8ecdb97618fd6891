/*
 * tape_engine.c - the calls into an engine core as frames: written beside the call, printed, and
 * played back. Driven by engine/node/engine_process.c and engine_utility.c, and by tape_replay.c.
 */
#include "engine/tape/tape_engine.h"

#include "engine/base/hash.h"
#include "engine/tape/tape_message.h"
#include "engine/tape/tape_object.h"

enum {
    ENGINE_CREATE = TAPE_CREATE,
    ENGINE_ADD,
    ENGINE_ABORT,
    ENGINE_HAS_WORK,
    ENGINE_TURN,
    ENGINE_COMPLETE,
    ENGINE_COUNTS_CHANGED,
    ENGINE_START_WAVE,
    ENGINE_WAVE_NEXT,
    ENGINE_WAVE_CHECKED,
    ENGINE_TAKE_NOTICE,
    ENGINE_FORWARD,
    ENGINE_PAUSE,
    ENGINE_PAUSE_DONE,
    ENGINE_PAUSE_STATE,
    ENGINE_RESET_PREFIX_CACHE,
    ENGINE_RESUME,
    ENGINE_RESUMED,
    ENGINE_CALLS_COUNT
};

enum {
    SEQ_BYTES_MIN = 17, /* of one that was written */
    MESSAGE_BYTES_MIN = 9,
};

static const struct tape_call calls[ENGINE_CALLS_COUNT] = {
    [ENGINE_CREATE] = {.name = "create", .asks = true, .answers = true},
    [ENGINE_ADD] = {.name = "add", .asks = true, .answers = true},
    [ENGINE_ABORT] = {.name = "abort", .asks = true},
    [ENGINE_HAS_WORK] = {.name = "has_work", .answers = true},
    [ENGINE_TURN] = {.name = "turn", .asks = true, .answers = true},
    [ENGINE_COMPLETE] = {.name = "complete", .asks = true, .answers = true},
    [ENGINE_COUNTS_CHANGED] = {.name = "counts_changed", .answers = true},
    [ENGINE_START_WAVE] = {.name = "start_wave", .asks = true},
    [ENGINE_WAVE_NEXT] = {.name = "wave_next", .answers = true},
    [ENGINE_WAVE_CHECKED] = {.name = "wave_checked", .asks = true},
    [ENGINE_TAKE_NOTICE] = {.name = "take_notice", .asks = true, .answers = true},
    [ENGINE_FORWARD] = {.name = "forward", .asks = true, .answers = true},
    [ENGINE_PAUSE] = {.name = "pause", .asks = true},
    [ENGINE_PAUSE_DONE] = {.name = "pause_done", .answers = true},
    [ENGINE_PAUSE_STATE] = {.name = "pause_state", .answers = true},
    [ENGINE_RESET_PREFIX_CACHE] = {.name = "reset_prefix_cache", .answers = true},
    [ENGINE_RESUME] = {.name = "resume", .answers = true},
    [ENGINE_RESUMED] = {.name = "resumed", .asks = true},
};

/* What is asked or answered in one frame. */
union fields {
    struct {
        struct tape_owner owner;
        struct engine_core_options options;
    } create;
    struct tape_result result;
    struct {
        time_ps now;
        struct engine_request request;
    } add;
    const char *id;
    bool flag;
    struct {
        time_ps now;
        enum engine_turn turn;
        struct step_plan plan;
    } turn;
    struct {
        time_ps now;
        struct step_result result;
    } complete;
    struct engine_core_messages messages;
    struct {
        bool changed;
        struct scheduler_stats stats;
    } counts;
    struct start_wave start;
    struct {
        enum wave_need need;
        struct wave_ballot ballot;
    } wave;
    struct {
        time_ps now;
        bool there;
        struct engine_outputs outputs;
    } notice;
    struct {
        bool dummy;
        struct wave_forward forward;
    } forward;
    enum pause_mode mode;
    enum pause_state state;
    struct {
        enum resume_outcome outcome;
        bool unfinished;
    } resume;
};

/* ---- fields ---- */

static void wave_options_walk(struct tape_code *c, struct wave_options *o)
{
    tape_u32(c, "wave_ranks", &o->ranks_count);
    tape_u32(c, "check_interval_steps", &o->check_interval_steps);
    tape_bool(c, "check_first_step", &o->check_first_step);
    tape_bool(c, "confirm_running", &o->confirm_running);
    tape_bool(c, "announce_start", &o->announce_start);
    tape_u32(c, "graph_tokens_max", &o->graph_tokens_max);
    tape_bool(c, "dummy_graph", &o->dummy_graph);
}

static void options_walk(struct tape_code *c, struct engine_core_options *o)
{
    static const char *const policies[] = {"fcfs", "priority"};
    tape_u32(c, "engine", &o->engine_index);
    tape_u32(c, "clients", &o->clients_count);
    tape_u32(c, "requests_max", &o->requests_max);
    tape_u32(c, "max_model_len", &o->max_model_len);
    tape_u32(c, "max_num_seqs", &o->max_num_seqs);
    tape_u32(c, "max_num_batched_tokens", &o->max_num_batched_tokens);
    tape_u32(c, "long_prefill_token_threshold", &o->long_prefill_token_threshold);
    tape_u32(c, "num_gpu_blocks", &o->num_gpu_blocks);
    tape_u32(c, "block_tokens", &o->block_tokens);
    tape_bool(c, "prefix_caching", &o->prefix_caching);
    tape_bool(c, "chunked_prefill", &o->chunked_prefill);
    tape_bool(c, "reserve_full_isl", &o->reserve_full_isl);
    tape_f64(c, "watermark", &o->watermark);
    tape_u32(c, "async_depth", &o->async_depth);
    tape_u32(c, "pipeline_stages", &o->pipeline_stages);
    TAPE_ENUM(c, "policy", o->policy, policies);
    tape_u64(c, "seed", &o->seed);
    wave_options_walk(c, &o->wave);
}

static void seq_walk(struct tape_code *c, struct step_seq *s)
{
    tape_u32(c, "slot", &s->slot);
    tape_u32(c, "computed", &s->computed_tokens);
    tape_u32(c, "scheduled", &s->scheduled_tokens);
    tape_u32(c, "flags", &s->flags);
    tape_hash(c, "key", &s->sample_key);
    tape_u32(c, "position", &s->position);
    tape_u32(c, "blocks_first", &s->blocks_first);
    tape_u32(c, "blocks_count", &s->blocks_count);
    tape_u32(c, "tokens_first", &s->tokens_first);
    tape_u32(c, "tokens_count", &s->tokens_count);
}

/* The tokens of new sequences by their hash: what ADD brought has them. */
static void plan_walk(struct tape_code *c, struct step_plan *p)
{
    tape_u64(c, "step", &p->step);
    tape_u32(c, "tokens", &p->tokens_count);
    tape_count(c, "seqs", &p->seqs_count, SEQ_BYTES_MIN);
    struct step_seq *room = tape_room(c, p->seqs_count, sizeof *room);
    for (uint32_t i = 0; i < p->seqs_count; i++) {
        struct step_seq s = {0};
        if (room == NULL) {
            s = p->seqs[i];
        }
        tape_mark(c, " [");
        seq_walk(c, &s);
        tape_mark(c, "]");
        if (room != NULL) {
            room[i] = s;
        }
    }
    p->seqs = room != NULL ? room : p->seqs;
    tape_u32s(c, "blocks", &p->block_ids, &p->block_ids_count);
    tape_u32s(c, "finished_slots", &p->finished_slots, &p->finished_slots_count);
    uint64_t hash = c->reading || p->token_ids_count == 0
                        ? 0
                        : hash64(p->token_ids, p->token_ids_count * sizeof *p->token_ids, 0);
    tape_u32(c, "token_ids_count", &p->token_ids_count);
    if (p->token_ids_count > 0) {
        tape_hash(c, "token_ids_hash", &hash);
    }
}

static void turn_walk(struct tape_code *c, union fields *f)
{
    static const char *const words[] = {"done", "submit", "await"};
    TAPE_ENUM(c, "turn", f->turn.turn, words);
    if (f->turn.turn == ENGINE_TURN_SUBMIT) {
        plan_walk(c, &f->turn.plan);
    }
}

static void messages_walk(struct tape_code *c, struct engine_core_messages *m)
{
    tape_count(c, "messages", &m->count, MESSAGE_BYTES_MIN);
    struct engine_client_message *room = tape_room(c, m->count, sizeof *room);
    for (uint32_t i = 0; i < m->count; i++) {
        struct engine_client_message one = {0};
        if (room == NULL) {
            one = m->items[i];
        }
        tape_mark(c, " message");
        tape_u32(c, "client", &one.client_index);
        tape_outputs_walk(c, &one.outputs);
        if (room != NULL) {
            room[i] = one;
        }
    }
    m->items = room != NULL ? room : m->items;
}

static void walk_question(struct tape_code *c, uint32_t call, union fields *f)
{
    static const char *const modes[] = {"abort", "wait", "keep"};
    switch (call) {
    case ENGINE_CREATE:
        tape_owner_walk(c, &f->create.owner);
        options_walk(c, &f->create.options);
        break;
    case ENGINE_ADD:
        tape_now(c, "now", &f->add.now);
        tape_request_walk(c, &f->add.request, true);
        break;
    case ENGINE_ABORT:
        tape_text(c, "id", &f->id);
        break;
    case ENGINE_TURN:
        tape_now(c, "now", &f->turn.now);
        break;
    case ENGINE_COMPLETE:
        tape_now(c, "now", &f->complete.now);
        tape_u64(c, "step", &f->complete.result.step);
        tape_u32s(c, "tokens", &f->complete.result.tokens, &f->complete.result.tokens_count);
        break;
    case ENGINE_START_WAVE:
        tape_u32(c, "wave", &f->start.wave);
        tape_i32(c, "exclude", &f->start.exclude);
        break;
    case ENGINE_WAVE_CHECKED:
        tape_u32(c, "unfinished", &f->wave.ballot.unfinished);
        tape_u32(c, "pending_pause", &f->wave.ballot.pending_pause);
        break;
    case ENGINE_TAKE_NOTICE:
        tape_now(c, "now", &f->notice.now);
        break;
    case ENGINE_FORWARD:
        tape_bool(c, "dummy", &f->forward.dummy);
        break;
    case ENGINE_PAUSE:
        TAPE_ENUM(c, "mode", f->mode, modes);
        break;
    case ENGINE_RESUMED:
        tape_bool(c, "any_unfinished", &f->flag);
        break;
    default:
        c->failed = true;
        break;
    }
}

static void walk_answer(struct tape_code *c, uint32_t call, union fields *f)
{
    static const char *const needs[] = {"nothing", "dummy", "allreduce"};
    static const char *const states[] = {"unpaused", "paused_new", "paused_all"};
    static const char *const outcomes[] = {"done", "later", "allreduce"};
    switch (call) {
    case ENGINE_CREATE:
    case ENGINE_ADD:
        tape_result_walk(c, &f->result);
        break;
    case ENGINE_HAS_WORK:
    case ENGINE_PAUSE_DONE:
    case ENGINE_RESET_PREFIX_CACHE:
        tape_bool(c, "yes", &f->flag);
        break;
    case ENGINE_TURN:
        turn_walk(c, f);
        break;
    case ENGINE_COMPLETE:
        messages_walk(c, &f->messages);
        break;
    case ENGINE_COUNTS_CHANGED:
        tape_bool(c, "yes", &f->counts.changed);
        if (f->counts.changed) {
            tape_stats_walk(c, &f->counts.stats);
        }
        break;
    case ENGINE_WAVE_NEXT:
        TAPE_ENUM(c, "need", f->wave.need, needs);
        if (f->wave.need == WAVE_NEED_ALLREDUCE) {
            walk_question(c, ENGINE_WAVE_CHECKED, f);
        }
        break;
    case ENGINE_TAKE_NOTICE:
        tape_bool(c, "yes", &f->notice.there);
        if (f->notice.there) {
            tape_outputs_walk(c, &f->notice.outputs);
        }
        break;
    case ENGINE_FORWARD:
        tape_u32(c, "tokens", &f->forward.forward.tokens_count);
        tape_bool(c, "graph", &f->forward.forward.graph);
        break;
    case ENGINE_PAUSE_STATE:
        TAPE_ENUM(c, "state", f->state, states);
        break;
    case ENGINE_RESUME:
        TAPE_ENUM(c, "outcome", f->resume.outcome, outcomes);
        tape_bool(c, "unfinished", &f->resume.unfinished);
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

static void answer_status(struct tape *t, uint32_t call, enum status status,
                          const struct error *why)
{
    answer(t, call,
           (union fields){.result = {.status = (uint32_t)status,
                                     .why = status != STATUS_OK ? why->text : NULL}});
}

enum status tape_engine_create(struct tape_engine *e, struct arena *arena,
                               const struct engine_core_options *options, struct error *error)
{
    if (e->tape == NULL) {
        return engine_core_create(arena, options, &e->core, error);
    }
    struct error why;
    put_frame(e->tape, ENGINE_CREATE,
              (union fields){.create = {.owner = *tape_owner(e->tape), .options = *options}});
    enum status status = engine_core_create(arena, options, &e->core, &why);
    answer_status(e->tape, ENGINE_CREATE, status, &why);
    return status == STATUS_OK ? status : error_set(error, status, "%s", why.text);
}

enum status tape_engine_add(const struct tape_engine *e, const struct engine_request *request,
                            time_ps now, struct error *error)
{
    if (e->tape == NULL) {
        return engine_core_add(e->core, request, now, error);
    }
    struct error why;
    put_frame(e->tape, ENGINE_ADD, (union fields){.add = {.now = now, .request = *request}});
    enum status status = engine_core_add(e->core, request, now, &why);
    answer_status(e->tape, ENGINE_ADD, status, &why);
    return status == STATUS_OK ? status : error_set(error, status, "%s", why.text);
}

void tape_engine_abort(const struct tape_engine *e, const char *id)
{
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_ABORT, (union fields){.id = id});
    }
    engine_core_abort(e->core, id);
}

static bool answer_flag(const struct tape_engine *e, uint32_t call, bool flag)
{
    if (e->tape != NULL) {
        answer(e->tape, call, (union fields){.flag = flag});
    }
    return flag;
}

bool tape_engine_has_work(const struct tape_engine *e)
{
    return answer_flag(e, ENGINE_HAS_WORK, engine_core_has_work(e->core));
}

bool tape_engine_pause_done(const struct tape_engine *e)
{
    return answer_flag(e, ENGINE_PAUSE_DONE, engine_core_pause_done(e->core));
}

bool tape_engine_reset_prefix_cache(const struct tape_engine *e)
{
    return answer_flag(e, ENGINE_RESET_PREFIX_CACHE, engine_core_reset_prefix_cache(e->core));
}

enum engine_turn tape_engine_turn(const struct tape_engine *e, time_ps now,
                                  const struct step_plan **plan)
{
    if (e->tape == NULL) {
        return engine_core_turn(e->core, now, plan);
    }
    put_frame(e->tape, ENGINE_TURN, (union fields){.turn = {.now = now}});
    union fields f = {.turn = {.turn = engine_core_turn(e->core, now, plan)}};
    if (f.turn.turn == ENGINE_TURN_SUBMIT) {
        f.turn.plan = **plan;
    }
    answer(e->tape, ENGINE_TURN, f);
    return f.turn.turn;
}

void tape_engine_complete(const struct tape_engine *e, time_ps now,
                          const struct step_result *result, struct engine_core_messages *messages)
{
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_COMPLETE,
                  (union fields){.complete = {.now = now, .result = *result}});
    }
    engine_core_complete(e->core, now, result, messages);
    if (e->tape != NULL) {
        answer(e->tape, ENGINE_COMPLETE, (union fields){.messages = *messages});
    }
}

bool tape_engine_counts_changed(const struct tape_engine *e, struct scheduler_stats *stats)
{
    bool changed = engine_core_counts_changed(e->core, stats);
    if (e->tape != NULL) {
        union fields f = {.counts = {.changed = changed}};
        if (changed) {
            f.counts.stats = *stats;
        }
        answer(e->tape, ENGINE_COUNTS_CHANGED, f);
    }
    return changed;
}

void tape_engine_start_wave(const struct tape_engine *e, const struct start_wave *start)
{
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_START_WAVE, (union fields){.start = *start});
    }
    engine_core_start_wave(e->core, start);
}

enum wave_need tape_engine_wave_next(const struct tape_engine *e, struct wave_ballot *ballot)
{
    enum wave_need need = engine_core_wave_next(e->core, ballot);
    if (e->tape != NULL) {
        union fields f = {.wave = {.need = need}};
        if (need == WAVE_NEED_ALLREDUCE) {
            f.wave.ballot = *ballot;
        }
        answer(e->tape, ENGINE_WAVE_NEXT, f);
    }
    return need;
}

void tape_engine_wave_checked(const struct tape_engine *e, const struct wave_ballot *sum)
{
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_WAVE_CHECKED, (union fields){.wave = {.ballot = *sum}});
    }
    engine_core_wave_checked(e->core, sum);
}

bool tape_engine_take_notice(const struct tape_engine *e, time_ps now,
                             struct engine_outputs *notice)
{
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_TAKE_NOTICE, (union fields){.notice = {.now = now}});
    }
    bool there = engine_core_take_notice(e->core, now, notice);
    if (e->tape != NULL) {
        union fields f = {.notice = {.there = there}};
        if (there) {
            f.notice.outputs = *notice;
        }
        answer(e->tape, ENGINE_TAKE_NOTICE, f);
    }
    return there;
}

struct wave_forward tape_engine_forward(const struct tape_engine *e, const struct step_plan *plan)
{
    struct wave_forward forward = engine_core_forward(e->core, plan);
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_FORWARD, (union fields){.forward = {.dummy = plan == NULL}});
        answer(e->tape, ENGINE_FORWARD, (union fields){.forward = {.forward = forward}});
    }
    return forward;
}

void tape_engine_pause(const struct tape_engine *e, enum pause_mode mode)
{
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_PAUSE, (union fields){.mode = mode});
    }
    engine_core_pause(e->core, mode);
}

enum pause_state tape_engine_pause_state(const struct tape_engine *e)
{
    enum pause_state state = engine_core_pause_state(e->core);
    if (e->tape != NULL) {
        answer(e->tape, ENGINE_PAUSE_STATE, (union fields){.state = state});
    }
    return state;
}

enum resume_outcome tape_engine_resume(const struct tape_engine *e, bool *unfinished)
{
    enum resume_outcome outcome = engine_core_resume(e->core, unfinished);
    if (e->tape != NULL) {
        bool written = outcome == RESUME_ALLREDUCE && *unfinished;
        answer(e->tape, ENGINE_RESUME,
               (union fields){.resume = {.outcome = outcome, .unfinished = written}});
    }
    return outcome;
}

void tape_engine_resumed(const struct tape_engine *e, bool any_unfinished)
{
    if (e->tape != NULL) {
        put_frame(e->tape, ENGINE_RESUMED, (union fields){.flag = any_unfinished});
    }
    engine_core_resumed(e->core, any_unfinished);
}

/* ---- played back ---- */

static enum status play_create(struct tape_player *p, const struct engine_core_options *o,
                               struct error *error)
{
    bool possible = p->arena.base == NULL && o->requests_max <= TAPE_REQUESTS_MAX &&
                    o->max_model_len <= TAPE_MODEL_LEN_MAX &&
                    o->max_num_seqs <= TAPE_REQUESTS_MAX && o->clients_count <= TAPE_RANKS_MAX &&
                    o->block_tokens >= 1 && o->num_gpu_blocks <= TAPE_BLOCKS_MAX &&
                    o->async_depth <= TAPE_PLANS_MAX - ENGINE_PIPELINE_STAGES_MAX &&
                    o->pipeline_stages <= ENGINE_PIPELINE_STAGES_MAX;
    TRY(tape_player_check(p, possible, "create", "its options are beyond what processes have",
                          error));
    TRY(arena_create(engine_core_arena_bytes(o), &p->arena, error));
    if (tape_engine_create(&p->engine, &p->arena, o, error) != STATUS_OK) {
        p->engine.core = NULL; /* as recorded, or the difference is noted */
    }
    return STATUS_OK;
}

/* Samples of each submitted step: its result must have as many tokens. */
static enum status play_turn(struct tape_player *p, const union fields *f, struct error *error)
{
    const struct step_plan *plan = NULL;
    TRY(tape_player_check(p, p->plans_count < TAPE_PLANS_MAX, "turn", "too many steps", error));
    tape_player_at(p, f->turn.now);
    if (tape_engine_turn(&p->engine, f->turn.now, &plan) != ENGINE_TURN_SUBMIT) {
        return STATUS_OK;
    }
    struct tape_player_plan *next = &p->plans[p->plans_count++];
    *next = (struct tape_player_plan){.step = plan->step};
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        next->samples_count += (plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0 ? 1 : 0;
    }
    p->last_plan = plan;
    p->summary->out_count++;
    return STATUS_OK;
}

static enum status play_complete(struct tape_player *p, const union fields *f, struct error *error)
{
    const struct step_result *result = &f->complete.result;
    bool possible = p->plans_count > 0 && result->step == p->plans[0].step &&
                    result->tokens_count == p->plans[0].samples_count;
    TRY(tape_player_check(p, possible, "complete", "it is no result of the oldest step", error));
    p->plans_count--;
    for (uint32_t i = 0; i < p->plans_count; i++) {
        p->plans[i] = p->plans[i + 1];
    }
    p->last_plan = p->plans_count > 0 ? p->last_plan : NULL;
    tape_player_at(p, f->complete.now);
    struct engine_core_messages messages;
    tape_engine_complete(&p->engine, f->complete.now, result, &messages);
    p->summary->in_count++;
    p->summary->out_count += messages.count;
    for (uint32_t i = 0; i < messages.count; i++) {
        const struct engine_outputs *m = &messages.items[i].outputs;
        for (uint32_t k = 0; k < m->outputs_count; k++) {
            p->summary->tokens_count += m->outputs[k].new_tokens_count;
        }
    }
    return STATUS_OK;
}

static enum status play_forward(struct tape_player *p, bool dummy, struct error *error)
{
    TRY(tape_player_check(p, dummy || p->last_plan != NULL, "forward", "no step is submitted",
                          error));
    (void)tape_engine_forward(&p->engine, dummy ? NULL : p->last_plan);
    return STATUS_OK;
}

/* Input comes between two loops only, and what the wave has to tell was told. */
static bool may_come(const struct tape_player *p)
{
    const struct wave *w = engine_core_wave(p->engine.core);
    return !wave_lockstep(w) ||
           (w->phase == WAVE_PHASE_LOOP && w->notices_count < WAVE_NOTICES_MAX);
}

static enum status play_input(struct tape_player *p, uint32_t call, const union fields *f,
                              struct error *error)
{
    struct error why;
    bool unfinished = false;
    TRY(tape_player_check(p, may_come(p), calls[call].name, "it came while the ranks met", error));
    switch (call) {
    case ENGINE_ADD:
        p->summary->in_count++;
        tape_player_at(p, f->add.now);
        (void)!tape_engine_add(&p->engine, &f->add.request, f->add.now, &why);
        break;
    case ENGINE_START_WAVE:
        p->summary->in_count++;
        tape_engine_start_wave(&p->engine, &f->start);
        break;
    case ENGINE_PAUSE:
        tape_engine_pause(&p->engine, f->mode);
        break;
    default:
        (void)tape_engine_resume(&p->engine, &unfinished);
        break;
    }
    return STATUS_OK;
}

static enum status play_checked(struct tape_player *p, const struct wave_ballot *sum,
                                struct error *error)
{
    const struct wave *w = engine_core_wave(p->engine.core);
    bool possible =
        wave_lockstep(w) && w->phase == WAVE_PHASE_CHECK && w->notices_count < WAVE_NOTICES_MAX &&
        sum->unfinished <= w->options.ranks_count && sum->pending_pause <= w->options.ranks_count;
    TRY(tape_player_check(p, possible, "wave_checked", "no check was asked for", error));
    tape_engine_wave_checked(&p->engine, sum);
    p->summary->in_count++;
    return STATUS_OK;
}

static enum status play_wave_next(struct tape_player *p, struct error *error)
{
    const struct wave *w = engine_core_wave(p->engine.core);
    struct wave_ballot ballot;
    bool possible =
        !wave_lockstep(w) || (w->phase != WAVE_PHASE_CHECK && w->phase != WAVE_PHASE_RESUME &&
                              w->notices_count < WAVE_NOTICES_MAX);
    TRY(tape_player_check(p, possible, "wave_next", "it came while the ranks met", error));
    (void)tape_engine_wave_next(&p->engine, &ballot);
    return STATUS_OK;
}

static enum status play_resumed(struct tape_player *p, bool any_unfinished, struct error *error)
{
    const struct wave *w = engine_core_wave(p->engine.core);
    TRY(tape_player_check(p, wave_lockstep(w) && w->phase == WAVE_PHASE_RESUME, "resumed",
                          "nothing resumes", error));
    tape_engine_resumed(&p->engine, any_unfinished);
    p->summary->in_count++;
    return STATUS_OK;
}

/* Calls without a question, or that may come at any time. */
static enum status play_simple(struct tape_player *p, uint32_t call, const union fields *f,
                               struct error *error)
{
    struct scheduler_stats stats;
    struct engine_outputs notice;
    switch (call) {
    case ENGINE_ABORT:
        TRY(tape_player_check(p, f->id != NULL, "abort", "it names nobody", error));
        tape_engine_abort(&p->engine, f->id);
        p->summary->in_count++;
        break;
    case ENGINE_HAS_WORK:
        (void)tape_engine_has_work(&p->engine);
        break;
    case ENGINE_COUNTS_CHANGED:
        p->summary->out_count += tape_engine_counts_changed(&p->engine, &stats) ? 1 : 0;
        break;
    case ENGINE_TAKE_NOTICE:
        tape_player_at(p, f->notice.now);
        p->summary->out_count +=
            tape_engine_take_notice(&p->engine, f->notice.now, &notice) ? 1 : 0;
        break;
    case ENGINE_PAUSE_DONE:
        (void)tape_engine_pause_done(&p->engine);
        break;
    case ENGINE_PAUSE_STATE:
        (void)tape_engine_pause_state(&p->engine);
        break;
    default:
        (void)tape_engine_reset_prefix_cache(&p->engine);
        break;
    }
    return STATUS_OK;
}

static enum status play(struct tape_player *p, uint32_t call, struct error *error)
{
    union fields f = {0};
    if (calls[call].asks) {
        walk_question(&p->code, call, &f);
        TRY(tape_player_read(p, calls[call].name, error));
    }
    p->engine.tape = p->tape;
    if (call == ENGINE_CREATE) {
        return play_create(p, &f.create.options, error);
    }
    TRY(tape_player_check(p, p->engine.core != NULL, calls[call].name, "there is no engine core",
                          error));
    switch (call) {
    case ENGINE_TURN:
        return play_turn(p, &f, error);
    case ENGINE_COMPLETE:
        return play_complete(p, &f, error);
    case ENGINE_FORWARD:
        return play_forward(p, f.forward.dummy, error);
    case ENGINE_WAVE_NEXT:
        return play_wave_next(p, error);
    case ENGINE_WAVE_CHECKED:
        return play_checked(p, &f.wave.ballot, error);
    case ENGINE_RESUMED:
        return play_resumed(p, f.flag, error);
    case ENGINE_ADD:
    case ENGINE_START_WAVE:
    case ENGINE_PAUSE:
    case ENGINE_RESUME:
        return play_input(p, call, &f, error);
    default:
        return play_simple(p, call, &f, error);
    }
}

const struct tape_object tape_engine_object = {
    .calls = calls,
    .calls_count = ENGINE_CALLS_COUNT,
    .walk = walk_only,
    .play = play,
};
