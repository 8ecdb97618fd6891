/*
 * frontend.h - the life of requests inside one API server, from "validated and tokenised" to "text
 * for the client".
 *
 * It assigns ids, routes (router.h), keeps the per-request state, turns engine outputs into text
 * deltas in slices of 128 outputs, merges deltas that the consumer has not taken yet, finds stop
 * strings, aborts, and follows the coordinator's state (the statistics task, FIRST_REQ). Sans-IO
 * like everything in this room; the driver does what the out-structs say:
 *
 *     frontend_submit(f, &request, now, &send)
 *         send ADD to engine send.engine; if send.first_request, tell the coordinator its wave
 *     frontend_outputs_begin(f, &message)
 *         once for each EngineCoreOutputs
 *     while (frontend_outputs_slice(f, now) > 0)
 *         at most 128 outputs a slice; other events may be served in between
 *     while (frontend_take(f, &delta)) write the delta to its client, after each slice
 *     while (frontend_take_abort(f, &abort)) send ABORT to abort.engine
 *     frontend_cancel(f, handle)
 *         the client went away
 *     frontend_coordinator_state(f, &state)
 *         the last of the states that were waiting (drain, keep the last)
 */
#ifndef ENGINE_CORE_FRONTEND_H
#define ENGINE_CORE_FRONTEND_H

#include "engine/base/arena.h"
#include "engine/core/message.h"
#include "engine/core/router.h"

enum {
    FRONTEND_SLICE_OUTPUTS = 128,
    FRONTEND_STOP_STRINGS_MAX = 4,
    FRONTEND_STOP_BYTES_MAX = 64, /* one stop string, the NUL included */
    FRONTEND_HANDLE_NONE = -1,
};

/* How token ids become text. A real tokenizer keeps state between the tokens of a request. */
struct detokenizer {
    void *ctx;
    /*
     * Writes the text of `token` to out[0..cap), whole UTF-8 characters only; returns the bytes
     * written (0 while a character is incomplete). *state is 0 before a request's first token.
     */
    uint32_t (*append)(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap);
};

struct frontend_options {
    uint32_t client_index;
    uint32_t client_count;
    /*
     * Managed engine cores: ranks [engines_first, engines_first + engines_count) of the
     * data-parallel group. Here engine cores are named by rank, except in data_parallel_rank, which
     * counts the managed ones from 0.
     */
    uint32_t engines_first;
    uint32_t engines_count;
    /* Ranks of the group, of all of which the coordinator publishes counts; 0: the managed ones are
     * all. A group of 1 has no coordinator and no FIRST_REQ. */
    uint32_t group_count;
    uint32_t requests_max;
    uint32_t max_model_len;
    /* Text that may wait in one request: at least what max_model_len tokens give. */
    uint32_t text_bytes_max;
    /* NULL: no text (simulation), deltas carry counts only. */
    const struct detokenizer *detokenizer;
    enum router_rule router_rule;
};

struct frontend_request {
    /* E.g. "cmpl-..."; the internal id is this + "-" + 8 hex digits of `serial`. */
    const char *external_id;
    /* Unique over all API servers of the topology (index of the request's ledger record). */
    uint32_t serial;
    const uint32_t *prompt_token_ids; /* NULL with prompt_hash in simulations */
    uint32_t prompt_tokens_count;
    uint64_t prompt_hash;
    struct sampling_params sampling;
    int64_t arrival_wall_ns;
    int32_t data_parallel_rank;
    int32_t priority;
    const char *cache_salt; /* NULL: none; borrowed like all pointers here */
    bool stream;            /* false: one delta at the end */
    uint32_t stop_count;
    const char *stop[FRONTEND_STOP_STRINGS_MAX];
    bool include_stop;
};

/* What frontend_submit() wants sent. `request` is borrowed until the next call. */
struct frontend_send {
    int32_t handle; /* names the request until its finished delta was taken */
    uint32_t engine;
    struct engine_request request;
    bool first_request; /* also send (engine, wave) to the coordinator */
    uint32_t wave;
};

/* Text and tokens that a consumer takes at once. What each one needs stands first. */
struct frontend_delta {
    int32_t handle;
    uint32_t serial;
    uint32_t new_tokens_count;    /* tokens merged into this delta */
    uint32_t outputs_count;       /* engine outputs merged into it */
    uint32_t output_tokens_count; /* of the request so far */
    /* FINISH_NONE: more to come; else the handle is free after this call. */
    enum finish_reason finish;
    bool first; /* holds the request's first token */
    int32_t stop_token_id;
    time_ps last_token_at; /* engine stamps of the request, for the metrics; 0 if not seen */
    time_ps first_token_at;
    time_ps queued_at;
    time_ps scheduled_at;
    const char *text;        /* borrowed until the next call; not NUL-terminated */
    const char *stop_string; /* the stop string that was hit, or NULL */
    uint32_t text_bytes;
    uint32_t prompt_tokens_count;
    uint32_t cached_tokens;
    uint32_t engine;
};

struct frontend_abort {
    uint32_t engine;
    const char *id;
};

struct frontend;

size_t frontend_arena_bytes(const struct frontend_options *options);
MUST_CHECK enum status frontend_create(struct arena *arena, const struct frontend_options *options,
                                       struct frontend **out, struct error *error);
/*
 * INVALID: rank out of range, id too long or in use, prompt empty or not shorter than
 * max_model_len, stop string empty or too long. FULL: requests_max are in flight or not yet taken
 * to their end.
 */
MUST_CHECK enum status frontend_submit(struct frontend *f, const struct frontend_request *request,
                                       time_ps now, struct frontend_send *send,
                                       struct error *error);
/*
 * Copies nothing: `message` and what it points to must live until the last slice is done. Books
 * finished ids at once, that is before any of the message's outputs. The message before must be
 * done (asserted). A request named in finished_ids that has no last output in this message either
 * (its engine dropped it) ends with FINISH_ABORT.
 */
void frontend_outputs_begin(struct frontend *f, const struct engine_outputs *message);
/*
 * Processes the next slice; returns how many outputs it processed, 0 when the message is done. An
 * output that brings its request's tag back is not looked up by its id. Unknown ids are dropped. A
 * stop string ends a request where it first ends in the text behind the first min_tokens tokens,
 * whatever the borders of tokens and messages are; tokens behind it are neither text nor counted.
 * The token that made the engine itself stop (end of text, a stop token) is counted, but is text
 * only with include_stop.
 */
uint32_t frontend_outputs_slice(struct frontend *f, time_ps now);
/* The handle of a request whose outputs still count; FRONTEND_HANDLE_NONE: over, or unknown. */
int32_t frontend_handle_of(const struct frontend *f, const char *id);
/* Next delta that is ready, in the order in which requests became ready. False: none. */
bool frontend_take(struct frontend *f, struct frontend_delta *delta);
/*
 * Slices and takes in one, for who serves nothing else in between: the next delta, after processing
 * so many outputs of the message as that needs; borrowed until the next call. NULL: the message is
 * done, and nothing is ready. The same deltas as by slices, but those of several outputs of one
 * request in one message are not merged.
 */
const struct frontend_delta *frontend_pull(struct frontend *f);
/* The serial in a request's tag (struct engine_request). */
static inline uint32_t frontend_tag_serial(uint64_t tag)
{
    return (uint32_t)tag;
}
/* Next ABORT to send (stop strings, cancels). False: none. */
bool frontend_take_abort(struct frontend *f, struct frontend_abort *abort);
/*
 * The client went away: drops its deltas and books an ABORT. The handle is free at once. Nothing
 * happens if the request is over already and no other has been given its handle.
 */
void frontend_cancel(struct frontend *f, int32_t handle);
/*
 * Ends every open request with FINISH_ERROR deltas and forgets what is in flight: an engine core
 * died, and with it the topology.
 */
void frontend_fail_all(struct frontend *f);
/*
 * The wave and who runs are believed as they come; counts, if there are any, replace those before.
 * Requests submitted from now on are stamped with this wave.
 */
void frontend_coordinator_state(struct frontend *f, const struct coordinator_state *state);
/* What this client believes: the stamp of its requests, and whether they need a FIRST_REQ. */
uint32_t frontend_current_wave(const struct frontend *f);
bool frontend_engines_running(const struct frontend *f);

/* Requests that no engine has reported finished yet. */
uint32_t frontend_inflight(const struct frontend *f);
/* Requests whose consumer still waits. */
uint32_t frontend_open(const struct frontend *f);
/* The routing state, to look at. */
const struct router *frontend_router(const struct frontend *f);
/* Bookkeeping invariants, for tests; NULL: all hold. */
const char *frontend_check(const struct frontend *f);

#endif
