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
    struct engine_core *core;
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
    bool done = engine_core_reset_prefix_cache(a->core);
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

static bool pause_scheduler(const struct answer *a)
{
    enum pause_mode mode;
    if (!parse_mode(a->call, &mode)) {
        return fail(a, "pause_scheduler: unknown mode '%.32s', want abort, wait or keep",
                    a->call->arguments[0].string);
    }
    if (a->u->pending_count == ENGINE_UTILITY_PENDING_MAX) {
        return fail(a, "pause_scheduler: %d calls wait already", ENGINE_UTILITY_PENDING_MAX);
    }
    engine_core_pause(a->core, mode);
    a->u->pending[a->u->pending_count++] =
        (struct engine_utility_pause){.client_index = a->call->client_index,
                                      .call_id = a->call->call_id,
                                      .clear_cache = bool_argument(a->call, 1, true)};
    return false;
}

static bool resume_scheduler(const struct answer *a)
{
    bool unfinished = false;
    switch (engine_core_resume(a->core, &unfinished)) {
    case RESUME_DONE:
        break;
    case RESUME_REFUSED:
        return fail(a, "resume_scheduler: a pause is pending");
    case RESUME_ALLREDUCE:
        ASSERT(a->u->any_unfinished != NULL);
        engine_core_resumed(a->core, a->u->any_unfinished(a->u->ctx, unfinished));
        break;
    }
    return nothing(a);
}

static bool is_scheduler_paused(const struct answer *a)
{
    return give_bool(a, engine_core_pause_state(a->core) != UNPAUSED);
}

static bool is_sleeping(const struct answer *a)
{
    return give_bool(a, false);
}

static const struct method {
    const char *name;
    const char *arguments; /* kinds: b bool, s string; those at the end may be missing */
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
};

static bool arguments_fit(const struct utility_call *call, const char *kinds)
{
    if (call->arguments_count > strlen(kinds)) {
        return false;
    }
    for (uint32_t i = 0; i < call->arguments_count; i++) {
        enum utility_argument_kind want =
            kinds[i] == 'b' ? UTILITY_ARGUMENT_BOOL : UTILITY_ARGUMENT_STRING;
        if (call->arguments[i].kind != want) {
            return false;
        }
    }
    return true;
}

bool engine_utility_call(struct engine_utility *u, struct engine_core *core,
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

bool engine_utility_due(struct engine_utility *u, struct engine_core *core, uint32_t *client_index,
                        struct utility_reply *reply)
{
    bool lifted = engine_core_pause_state(core) == UNPAUSED;
    if (u->pending_count == 0 || (!lifted && !engine_core_pause_done(core))) {
        return false;
    }
    struct engine_utility_pause pause = u->pending[0];
    u->pending_count--;
    memmove(&u->pending[0], &u->pending[1], u->pending_count * sizeof u->pending[0]);
    *client_index = pause.client_index;
    *reply = (struct utility_reply){.call_id = pause.call_id, .kind = UTILITY_NIL};
    if (lifted) {
        struct answer a = {.u = u, .core = core, .reply = reply};
        (void)fail(&a, "pause_scheduler: resumed before the pause was complete");
    } else if (pause.clear_cache) {
        /* A frozen engine core (mode keep) may hold blocks: then prefixes stay known. */
        (void)engine_core_reset_prefix_cache(core);
    }
    return true;
}
