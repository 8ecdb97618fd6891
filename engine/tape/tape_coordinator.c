/*
 * tape_coordinator.c - the calls into a coordinator as frames: written beside the call, printed,
 * and played back. Driven by engine/node/coordinator_process.c and by tape_replay.c.
 */
#include "engine/tape/tape_coordinator.h"

#include "engine/tape/tape_message.h"
#include "engine/tape/tape_object.h"

enum {
    COORDINATOR_CREATE = TAPE_CREATE,
    COORDINATOR_SUBSCRIBE,
    COORDINATOR_OUTPUTS,
    COORDINATOR_FIRST_REQUEST,
    COORDINATOR_TAKE_ACTION,
    COORDINATOR_DEADLINE,
    COORDINATOR_PUBLISH_CALL,
    COORDINATOR_CALLS_COUNT
};

static const struct tape_call calls[COORDINATOR_CALLS_COUNT] = {
    [COORDINATOR_CREATE] = {.name = "create", .asks = true, .answers = true},
    [COORDINATOR_SUBSCRIBE] = {.name = "subscribe", .asks = true},
    [COORDINATOR_OUTPUTS] = {.name = "outputs", .asks = true},
    [COORDINATOR_FIRST_REQUEST] = {.name = "first_request", .asks = true},
    [COORDINATOR_TAKE_ACTION] = {.name = "take_action", .answers = true},
    [COORDINATOR_DEADLINE] = {.name = "deadline", .answers = true},
    [COORDINATOR_PUBLISH_CALL] = {.name = "publish", .asks = true, .answers = true},
};

/* What is asked or answered in one frame. */
union fields {
    struct {
        struct tape_owner owner;
        struct coordinator_options options;
    } create;
    struct tape_result result;
    struct engine_outputs outputs;
    struct first_request first;
    struct {
        bool there;
        struct coordinator_action action;
    } action;
    time_ps deadline;
    struct {
        time_ps now;
        bool input_pending;
        bool there;
        struct coordinator_state state;
    } publish;
};

/* ---- fields ---- */

static void options_walk(struct tape_code *c, struct coordinator_options *o)
{
    static const char *const rules[] = {"when_due", "when_quiet"};
    tape_u32(c, "engines", &o->engines_count);
    tape_now(c, "publish_interval", &o->publish_interval);
    tape_now(c, "heartbeat_interval", &o->heartbeat_interval);
    TAPE_ENUM(c, "rule", o->rule, rules);
    tape_bool(c, "lockstep", &o->lockstep);
    tape_now(c, "settle_interval", &o->settle_interval);
    tape_bool(c, "believe_engines_only", &o->believe_engines_only);
}

static void action_walk(struct tape_code *c, struct coordinator_action *a)
{
    static const char *const kinds[] = {"ready", "start_wave", "publish"};
    TAPE_ENUM(c, "action", a->kind, kinds);
    switch (a->kind) {
    case COORDINATOR_READY:
        break;
    case COORDINATOR_START_WAVE:
        tape_u32(c, "wave", &a->start.wave);
        tape_i32(c, "exclude", &a->start.exclude);
        break;
    case COORDINATOR_PUBLISH:
        tape_state_walk(c, &a->state);
        break;
    }
}

static void walk(struct tape_code *c, uint32_t call, union fields *f)
{
    switch (call) {
    case COORDINATOR_CREATE:
        tape_owner_walk(c, &f->create.owner);
        options_walk(c, &f->create.options);
        break;
    case COORDINATOR_CREATE | TAPE_ANSWER:
        tape_result_walk(c, &f->result);
        break;
    case COORDINATOR_SUBSCRIBE:
        break;
    case COORDINATOR_OUTPUTS:
        tape_outputs_walk(c, &f->outputs);
        break;
    case COORDINATOR_FIRST_REQUEST:
        tape_u32(c, "engine", &f->first.engine);
        tape_u32(c, "wave", &f->first.wave);
        break;
    case COORDINATOR_TAKE_ACTION | TAPE_ANSWER:
        tape_bool(c, "yes", &f->action.there);
        if (f->action.there) {
            action_walk(c, &f->action.action);
        }
        break;
    case COORDINATOR_DEADLINE | TAPE_ANSWER:
        tape_time(c, "at", &f->deadline);
        break;
    case COORDINATOR_PUBLISH_CALL:
        tape_now(c, "now", &f->publish.now);
        tape_bool(c, "input_pending", &f->publish.input_pending);
        break;
    case COORDINATOR_PUBLISH_CALL | TAPE_ANSWER:
        tape_bool(c, "yes", &f->publish.there);
        if (f->publish.there) {
            tape_state_walk(c, &f->publish.state);
        }
        break;
    default:
        c->failed = true;
        break;
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

enum status tape_coordinator_create(struct tape_coordinator *k, struct arena *arena,
                                    const struct coordinator_options *options, struct error *error)
{
    if (k->tape == NULL) {
        return coordinator_create(arena, options, &k->coordinator, error);
    }
    struct error why;
    put_frame(k->tape, COORDINATOR_CREATE,
              (union fields){.create = {.owner = *tape_owner(k->tape), .options = *options}});
    enum status status = coordinator_create(arena, options, &k->coordinator, &why);
    put_frame(k->tape, COORDINATOR_CREATE | TAPE_ANSWER,
              (union fields){.result = {.status = (uint32_t)status,
                                        .why = status != STATUS_OK ? why.text : NULL}});
    return status == STATUS_OK ? status : error_set(error, status, "%s", why.text);
}

void tape_coordinator_subscribe(const struct tape_coordinator *k)
{
    if (k->tape != NULL) {
        put_frame(k->tape, COORDINATOR_SUBSCRIBE, (union fields){.deadline = 0});
    }
    coordinator_subscribe(k->coordinator);
}

void tape_coordinator_outputs(const struct tape_coordinator *k,
                              const struct engine_outputs *outputs)
{
    if (k->tape != NULL) {
        put_frame(k->tape, COORDINATOR_OUTPUTS, (union fields){.outputs = *outputs});
    }
    coordinator_outputs(k->coordinator, outputs);
}

void tape_coordinator_first_request(const struct tape_coordinator *k,
                                    const struct first_request *first)
{
    if (k->tape != NULL) {
        put_frame(k->tape, COORDINATOR_FIRST_REQUEST, (union fields){.first = *first});
    }
    coordinator_first_request(k->coordinator, first);
}

bool tape_coordinator_take_action(const struct tape_coordinator *k,
                                  struct coordinator_action *action)
{
    bool there = coordinator_take_action(k->coordinator, action);
    if (k->tape != NULL) {
        union fields f = {.action = {.there = there}};
        if (there) {
            f.action.action = *action;
        }
        put_frame(k->tape, COORDINATOR_TAKE_ACTION | TAPE_ANSWER, f);
    }
    return there;
}

time_ps tape_coordinator_deadline(const struct tape_coordinator *k)
{
    time_ps deadline = coordinator_deadline(k->coordinator);
    if (k->tape != NULL) {
        put_frame(k->tape, COORDINATOR_DEADLINE | TAPE_ANSWER,
                  (union fields){.deadline = deadline});
    }
    return deadline;
}

bool tape_coordinator_publish(const struct tape_coordinator *k, time_ps now, bool input_pending,
                              struct coordinator_state *state)
{
    if (k->tape == NULL) {
        return coordinator_publish(k->coordinator, now, input_pending, state);
    }
    put_frame(k->tape, COORDINATOR_PUBLISH_CALL,
              (union fields){.publish = {.now = now, .input_pending = input_pending}});
    union fields f = {
        .publish = {.there = coordinator_publish(k->coordinator, now, input_pending, state)}};
    if (f.publish.there) {
        f.publish.state = *state;
    }
    put_frame(k->tape, COORDINATOR_PUBLISH_CALL | TAPE_ANSWER, f);
    return f.publish.there;
}

/* ---- played back ---- */

static enum status play_create(struct tape_player *p, const struct coordinator_options *o,
                               struct error *error)
{
    bool possible = p->arena.base == NULL && o->engines_count <= TAPE_RANKS_MAX;
    TRY(tape_player_check(p, possible, "create", "its options are beyond what processes have",
                          error));
    TRY(arena_create(coordinator_arena_bytes(o), &p->arena, error));
    if (tape_coordinator_create(&p->coordinator, &p->arena, o, error) != STATUS_OK) {
        p->coordinator.coordinator = NULL; /* as recorded, or the difference is noted */
    }
    return STATUS_OK;
}

static enum status play_message(struct tape_player *p, uint32_t call, const union fields *f,
                                struct error *error)
{
    TRY(tape_player_check(p, !p->actions_wait, calls[call].name,
                          "what the message before asked for was not taken", error));
    p->actions_wait = true;
    p->summary->in_count++;
    if (call == COORDINATOR_SUBSCRIBE) {
        tape_coordinator_subscribe(&p->coordinator);
    } else if (call == COORDINATOR_OUTPUTS) {
        tape_coordinator_outputs(&p->coordinator, &f->outputs);
    } else {
        tape_coordinator_first_request(&p->coordinator, &f->first);
    }
    return STATUS_OK;
}

static enum status play(struct tape_player *p, uint32_t call, struct error *error)
{
    union fields f = {0};
    struct coordinator_action action;
    struct coordinator_state state;
    if (calls[call].asks) {
        walk(&p->code, call, &f);
        TRY(tape_player_read(p, calls[call].name, error));
    }
    p->coordinator.tape = p->tape;
    if (call == COORDINATOR_CREATE) {
        return play_create(p, &f.create.options, error);
    }
    TRY(tape_player_check(p, p->coordinator.coordinator != NULL, calls[call].name,
                          "there is no coordinator", error));
    switch (call) {
    case COORDINATOR_TAKE_ACTION:
        p->actions_wait = tape_coordinator_take_action(&p->coordinator, &action);
        p->summary->out_count += p->actions_wait ? 1 : 0;
        return STATUS_OK;
    case COORDINATOR_DEADLINE:
        (void)tape_coordinator_deadline(&p->coordinator);
        return STATUS_OK;
    case COORDINATOR_PUBLISH_CALL:
        tape_player_at(p, f.publish.now);
        p->summary->out_count += tape_coordinator_publish(&p->coordinator, f.publish.now,
                                                          f.publish.input_pending, &state)
                                     ? 1
                                     : 0;
        return STATUS_OK;
    default:
        return play_message(p, call, &f, error);
    }
}

const struct tape_object tape_coordinator_object = {
    .calls = calls,
    .calls_count = COORDINATOR_CALLS_COUNT,
    .walk = walk_only,
    .play = play,
};
