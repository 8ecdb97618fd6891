/*
 * engine_utility.c - the table of UTILITY methods that an engine core serves. Driven by
 * engine_process.c; it sends nothing itself and knows no socket. What it does not know gets a
 * failure text, which a vLLM front end turns into an error of that one call.
 */
#include "engine/node/engine_utility.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/status.h"

struct answer {
    struct engine_utility *u;
    const struct tape_engine *core;
    const struct utility_call *call;
    struct utility_reply *reply;
};

static bool fail(const struct answer *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

static bool fail(const struct answer *a, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(a->u->failure, sizeof a->u->failure, fmt, args);
    va_end(args);
    a->reply->failure = a->u->failure;
    return true;
}

static bool give_bool(const struct answer *a, bool value)
{
    a->reply->kind = UTILITY_BOOL;
    a->reply->boolean = value;
    return true;
}

static bool nothing(const struct answer *a)
{
    a->reply->kind = UTILITY_NIL;
    return true;
}

static bool supported_tasks(const struct answer *a)
{
    static const char *const tasks[] = {"generate"};
    a->reply->kind = UTILITY_STRINGS;
    a->reply->strings = tasks;
    a->reply->strings_count = sizeof tasks / sizeof tasks[0];
    return true;
}

/* The bool at `index`; its default where the call ends before it. */
static bool bool_argument(const struct utility_call *call, uint32_t index, bool initial)
{
    return index < call->arguments_count ? call->arguments[index].boolean : initial;
}

/*
 * reset_running would preempt what runs: there is no such path, so a call that asks for it fails
 * while anything runs, and says why.
 */
static bool reset_prefix_cache(const struct answer *a)
{
    bool done = tape_engine_reset_prefix_cache(a->core);
    if (!done && bool_argument(a->call, 0, false)) {
        return fail(a, "reset_prefix_cache: running requests cannot be preempted for it");
    }
    return give_bool(a, done);
}

static bool parse_mode(const struct utility_call *call, enum pause_mode *mode)
{
    static const char *const names[] = {
        [PAUSE_ABORT] = "abort", [PAUSE_WAIT] = "wait", [PAUSE_KEEP] = "keep"};
    const char *name = call->arguments_count > 0 ? call->arguments[0].string : "abort";
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *mode = (enum pause_mode)i;
            return true;
        }
    }
    return false;
}

static bool resume_waits(const struct engine_utility *u)
{
    for (uint32_t i = 0; i < u->pending_count; i++) {
        if (u->pending[i].resume) {
            return true;
        }
    }
    return false;
}

static void feed_pause(const struct tape_engine *core, struct engine_utility_pending *pause)
{
    if (!pause->fed) {
        pause->fed = true;
        tape_engine_pause(core, pause->mode);
    }
}

/*
 * A rank that was slower than others must not pause again before it resumed as they did: calls
 * behind a resume that waits are not looked at, so that all ranks take all calls in one order.
 */
static bool put_off(const struct answer *a, const struct engine_utility_pending *pending)
{
    struct engine_utility *u = a->u;
    if (u->pending_count == ENGINE_UTILITY_PENDING_MAX) {
        return fail(a, "%.64s: %d calls wait already", a->call->method, ENGINE_UTILITY_PENDING_MAX);
    }
    bool waits = resume_waits(u);
    struct engine_utility_pending *last = &u->pending[u->pending_count++];
    *last = *pending;
    last->client_index = a->call->client_index;
    last->call_id = a->call->call_id;
    if (!last->resume && !waits) {
        feed_pause(a->core, last);
    }
    return false;
}

static bool pause_scheduler(const struct answer *a)
{
    enum pause_mode mode;
    if (!parse_mode(a->call, &mode)) {
        return fail(a, "pause_scheduler: unknown mode '%.32s', want abort, wait or keep",
                    a->call->arguments[0].string);
    }
    return put_off(a, &(struct engine_utility_pending){
                          .mode = mode, .clear_cache = bool_argument(a->call, 1, true)});
}

/* False: the ranks still pause. */
static bool try_resume(struct engine_utility *u, const struct tape_engine *core)
{
    bool unfinished = false;
    switch (tape_engine_resume(core, &unfinished)) {
    case RESUME_DONE:
        return true;
    case RESUME_LATER:
        return false;
    case RESUME_ALLREDUCE:
        ASSERT(u->any_unfinished != NULL);
        tape_engine_resumed(core, u->any_unfinished(u->ctx, unfinished));
        return true;
    }
    return true;
}

static bool resume_scheduler(const struct answer *a)
{
    if (!resume_waits(a->u) && try_resume(a->u, a->core)) {
        return nothing(a);
    }
    return put_off(a, &(struct engine_utility_pending){.resume = true});
}

static bool is_scheduler_paused(const struct answer *a)
{
    return give_bool(a, tape_engine_pause_state(a->core) != UNPAUSED);
}

/*
 * An independent rank makes its forward at once. In lock-step no rank may make one alone: the call
 * starts a wave if none runs, and each loop of a wave is a forward of all ranks, with dummies where
 * there is nothing to compute. The next comes before further input is taken.
 */
static bool execute_dummy_batch(const struct answer *a)
{
    const struct wave *wave = engine_core_wave(a->core->core);
    if (!wave_lockstep(wave)) {
        ASSERT(a->u->dummy_batch != NULL);
        a->u->dummy_batch(a->u->ctx);
        return nothing(a);
    }
    struct start_wave start = {.wave = wave->current_wave, .exclude = -1};
    tape_engine_start_wave(a->core, &start);
    if (!wave->engines_running) {
        return fail(a, "execute_dummy_batch: the ranks are paused");
    }
    return nothing(a);
}

/* No adapter was ever loaded: there is no call that does. */
static bool list_loras(const struct answer *a)
{
    a->reply->kind = UTILITY_STRINGS;
    a->reply->strings_count = 0;
    return true;
}

/* Nothing here sleeps: whatever its tags, a call finds the engine core awake. */
static bool wake_up(const struct answer *a)
{
    return give_bool(a, true);
}

static bool is_sleeping(const struct answer *a)
{
    return give_bool(a, false);
}

static const struct method {
    const char *name;
    const char *arguments; /* kinds: b bool, s string, * any; those at the end may be missing */
    bool (*answer)(const struct answer *a);
} methods[] = {
    {"get_supported_tasks", "", supported_tasks},
    {"reset_mm_cache", "", nothing},
    {"reset_encoder_cache", "", nothing},
    {"reset_prefix_cache", "bb", reset_prefix_cache},
    {"pause_scheduler", "sb", pause_scheduler},
    {"resume_scheduler", "", resume_scheduler},
    {"is_scheduler_paused", "", is_scheduler_paused},
    {"is_sleeping", "", is_sleeping},
    {"wake_up", "*", wake_up},
    {"execute_dummy_batch", "", execute_dummy_batch},
    {"list_loras", "", list_loras},
};

static bool arguments_fit(const struct utility_call *call, const char *kinds)
{
    if (call->arguments_count > strlen(kinds)) {
        return false;
    }
    for (uint32_t i = 0; i < call->arguments_count; i++) {
        enum utility_argument_kind want =
            kinds[i] == 'b' ? UTILITY_ARGUMENT_BOOL : UTILITY_ARGUMENT_STRING;
        if (kinds[i] != '*' && call->arguments[i].kind != want) {
            return false;
        }
    }
    return true;
}

bool engine_utility_call(struct engine_utility *u, const struct tape_engine *core,
                         const struct utility_call *call, struct utility_reply *reply)
{
    struct answer a = {.u = u, .core = core, .call = call, .reply = reply};
    *reply = (struct utility_reply){.call_id = call->call_id, .kind = UTILITY_NIL};
    for (uint32_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(call->method, methods[i].name) != 0) {
            continue;
        }
        if (!arguments_fit(call, methods[i].arguments)) {
            return fail(&a, "%s: wrong number or kinds of arguments", methods[i].name);
        }
        return methods[i].answer(&a);
    }
    return fail(&a, "unknown utility method '%.64s'", call->method);
}

static bool first_is_due(struct engine_utility *u, const struct tape_engine *core)
{
    struct engine_utility_pending *first = &u->pending[0];
    if (first->resume) {
        return try_resume(u, core);
    }
    feed_pause(core, first);
    return tape_engine_pause_state(core) == UNPAUSED || tape_engine_pause_done(core);
}

bool engine_utility_due(struct engine_utility *u, const struct tape_engine *core,
                        uint32_t *client_index, struct utility_reply *reply)
{
    if (u->pending_count == 0 || !first_is_due(u, core)) {
        return false;
    }
    struct engine_utility_pending first = u->pending[0];
    u->pending_count--;
    memmove(&u->pending[0], &u->pending[1], u->pending_count * sizeof u->pending[0]);
    *client_index = first.client_index;
    *reply = (struct utility_reply){.call_id = first.call_id, .kind = UTILITY_NIL};
    if (first.resume) {
        return true;
    }
    if (tape_engine_pause_state(core) == UNPAUSED) {
        struct answer a = {.u = u, .core = core, .reply = reply};
        (void)fail(&a, "pause_scheduler: resumed before the pause was complete");
    } else if (first.clear_cache) {
        /* A frozen engine core (mode keep) may hold blocks: then prefixes stay known. */
        (void)tape_engine_reset_prefix_cache(core);
    }
    return true;
}
