/*
 * tape_startup.c - the calls into a start-up barrier as frames: written beside the call, printed,
 * and played back. Driven by a launcher and its handshake, and by tape_replay.c.
 */
#include "engine/tape/tape_startup.h"

#include "engine/tape/tape_message.h"
#include "engine/tape/tape_object.h"

enum {
    STARTUP_CREATE = TAPE_CREATE,
    STARTUP_HEARD,
    STARTUP_BOUND,
    STARTUP_READY,
    STARTUP_TAKE_INIT,
    STARTUP_CALLS_COUNT
};

static const struct tape_call calls[STARTUP_CALLS_COUNT] = {
    [STARTUP_CREATE] = {.name = "create", .asks = true},
    [STARTUP_HEARD] = {.name = "heard", .asks = true, .answers = true},
    [STARTUP_BOUND] = {.name = "api_server_bound", .asks = true, .answers = true},
    [STARTUP_READY] = {.name = "api_server_ready", .asks = true, .answers = true},
    [STARTUP_TAKE_INIT] = {.name = "take_init", .answers = true},
};

/* What is asked or answered in one frame. */
union fields {
    struct {
        struct tape_owner owner;
        struct startup_options options;
    } create;
    struct {
        uint32_t rank;
        struct startup_message message;
    } heard;
    struct tape_result result;
    struct {
        bool there;
        uint32_t rank;
    } init;
};

static void options_walk(struct tape_code *c, struct startup_options *o)
{
    tape_u32(c, "engines_first", &o->engines_first);
    tape_u32(c, "engines", &o->engines_count);
    tape_u32(c, "local_first", &o->local_first);
    tape_u32(c, "local", &o->local_count);
    tape_bool(c, "remote_headless", &o->remote_headless);
    tape_text(c, "config_hash", &o->config_hash);
    tape_u32(c, "api_servers", &o->api_servers_count);
}

static void walk(struct tape_code *c, uint32_t call, union fields *f)
{
    switch (call) {
    case STARTUP_CREATE:
        tape_owner_walk(c, &f->create.owner);
        options_walk(c, &f->create.options);
        break;
    case STARTUP_HEARD:
        tape_u32(c, "rank", &f->heard.rank);
        tape_bool(c, "ready", &f->heard.message.ready);
        tape_bool(c, "local", &f->heard.message.local);
        tape_bool(c, "headless", &f->heard.message.headless);
        tape_text(c, "config_hash", &f->heard.message.config_hash);
        break;
    case STARTUP_BOUND:
    case STARTUP_READY:
        break;
    case STARTUP_HEARD | TAPE_ANSWER:
    case STARTUP_BOUND | TAPE_ANSWER:
    case STARTUP_READY | TAPE_ANSWER:
        tape_result_walk(c, &f->result);
        break;
    case STARTUP_TAKE_INIT | TAPE_ANSWER:
        tape_bool(c, "yes", &f->init.there);
        tape_u32(c, "rank", &f->init.rank);
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
    if (t != NULL) {
        walk(tape_begin(t, call), call, &f);
        tape_end(t);
    }
}

static enum status answer(const struct tape_startup *s, uint32_t call, const struct error *why,
                          struct error *error)
{
    bool failed = why->status != STATUS_OK;
    put_frame(s->tape, call | TAPE_ANSWER,
              (union fields){
                  .result = {.status = (uint32_t)why->status, .why = failed ? why->text : NULL}});
    return failed ? error_set(error, why->status, "%s", why->text) : STATUS_OK;
}

void tape_startup_create(struct tape_startup *s, struct arena *arena,
                         const struct startup_options *options)
{
    if (s->tape != NULL) {
        put_frame(s->tape, STARTUP_CREATE,
                  (union fields){.create = {.owner = *tape_owner(s->tape), .options = *options}});
    }
    s->startup = startup_create(arena, options);
}

enum status tape_startup_heard(const struct tape_startup *s, uint32_t rank,
                               const struct startup_message *message, struct error *error)
{
    struct error why = {0};
    put_frame(s->tape, STARTUP_HEARD, (union fields){.heard = {.rank = rank, .message = *message}});
    why.status = startup_heard(s->startup, rank, message, &why);
    return answer(s, STARTUP_HEARD, &why, error);
}

enum status tape_startup_api_server_bound(const struct tape_startup *s, struct error *error)
{
    struct error why = {0};
    put_frame(s->tape, STARTUP_BOUND, (union fields){.init = {0}});
    why.status = startup_api_server_bound(s->startup, &why);
    return answer(s, STARTUP_BOUND, &why, error);
}

enum status tape_startup_api_server_ready(const struct tape_startup *s, struct error *error)
{
    struct error why = {0};
    put_frame(s->tape, STARTUP_READY, (union fields){.init = {0}});
    why.status = startup_api_server_ready(s->startup, &why);
    return answer(s, STARTUP_READY, &why, error);
}

bool tape_startup_take_init(const struct tape_startup *s, uint32_t *rank)
{
    union fields f = {.init = {.there = startup_take_init(s->startup, rank)}};
    f.init.rank = f.init.there ? *rank : 0;
    put_frame(s->tape, STARTUP_TAKE_INIT | TAPE_ANSWER, f);
    return f.init.there;
}

/* ---- played back ---- */

static enum status play_create(struct tape_player *p, const struct startup_options *o,
                               struct error *error)
{
    bool possible = p->arena.base == NULL && o->engines_count <= TAPE_RANKS_MAX;
    TRY(tape_player_check(p, possible, "create", "its options are beyond what processes have",
                          error));
    TRY(arena_create(startup_arena_bytes(o), &p->arena, error));
    tape_startup_create(&p->startup, &p->arena, o);
    return STATUS_OK;
}

/* What a call failed with is an answer like any other. */
static enum status play(struct tape_player *p, uint32_t call, struct error *error)
{
    union fields f = {0};
    struct error why;
    uint32_t rank;
    if (calls[call].asks) {
        walk(&p->code, call, &f);
        TRY(tape_player_read(p, calls[call].name, error));
    }
    p->startup.tape = p->tape;
    if (call == STARTUP_CREATE) {
        return play_create(p, &f.create.options, error);
    }
    TRY(tape_player_check(p, p->startup.startup != NULL, calls[call].name, "there is no barrier",
                          error));
    switch (call) {
    case STARTUP_HEARD:
        (void)!tape_startup_heard(&p->startup, f.heard.rank, &f.heard.message, &why);
        p->summary->in_count++;
        break;
    case STARTUP_BOUND:
        (void)!tape_startup_api_server_bound(&p->startup, &why);
        p->summary->in_count++;
        break;
    case STARTUP_READY:
        (void)!tape_startup_api_server_ready(&p->startup, &why);
        p->summary->in_count++;
        break;
    default:
        p->summary->out_count += tape_startup_take_init(&p->startup, &rank) ? 1 : 0;
        break;
    }
    return STATUS_OK;
}

const struct tape_object tape_startup_object = {
    .calls = calls,
    .calls_count = STARTUP_CALLS_COUNT,
    .walk = walk_only,
    .play = play,
};
