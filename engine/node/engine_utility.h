/*
 * engine_utility.h - what an engine core's process answers to UTILITY calls, on its main thread.
 *
 * A pause is answered when nothing is left to do, a resume behind it after it, in lock-step, with
 * the pauses behind that in turn; all other calls are answered at once:
 *
 *     if (engine_utility_call(&u, core, &call, &reply)) send reply to call.client_index;
 *     after each turn, before waiting for input:
 *         while (engine_utility_due(&u, core, &client, &reply)) send reply to client;
 */
#ifndef ENGINE_NODE_ENGINE_UTILITY_H
#define ENGINE_NODE_ENGINE_UTILITY_H

#include "engine/tape/tape_engine.h"

enum {
    ENGINE_UTILITY_PENDING_MAX = 256
};

struct engine_utility {
    /*
     * Lock-step only: all ranks' maximum of `unfinished`; every rank makes this call for its own
     * copy of the same resume_scheduler. NULL: ranks are independent.
     */
    bool (*any_unfinished)(void *ctx, bool unfinished);
    /* Independent ranks only: one forward without requests, to its end. NULL: no device. */
    void (*dummy_batch)(void *ctx);
    void *ctx;
    struct engine_utility_pending {
        uint32_t client_index;
        uint64_t call_id;
        bool resume; /* waits for the pauses before it; a pause if false */
        bool fed;    /* a pause that the engine core knows of */
        enum pause_mode mode;
        bool clear_cache;
    } pending[ENGINE_UTILITY_PENDING_MAX];
    uint32_t pending_count;
    char failure[160];
};

/* True: *reply is due now. Its texts are borrowed until the next call. */
bool engine_utility_call(struct engine_utility *u, const struct tape_engine *core,
                         const struct utility_call *call, struct utility_reply *reply);
/* The next reply that was put off and is due now. */
bool engine_utility_due(struct engine_utility *u, const struct tape_engine *core,
                        uint32_t *client_index, struct utility_reply *reply);

#endif
