/*
 * engine_core.h - one engine core: continuous batching over a paged KV cache with prefix caching,
 * asynchronous depth 1 or 2, and a pipeline of GPUs that works on several batches at once.
 *
 * Sans-IO (law 1): no clock, no thread, no allocation after creation. The process in engine/node
 * and the simulator drive this same object:
 *
 *     for (;;) {
 *         if (!engine_core_has_work(e)) wait for input;
 *         drain input: engine_core_add(e, ...), engine_core_abort(e, ...);
 *         publish counts if engine_core_counts_changed(e, &stats);
 *         bool turn = true;
 *         while (turn) {
 *             switch (engine_core_turn(e, now, &plan)) {
 *             case ENGINE_TURN_SUBMIT: hand *plan to the executor without waiting for it; break;
 *             case ENGINE_TURN_AWAIT:  wait for the result of the oldest submitted plan;
 *                                      engine_core_complete(e, now, &result, &messages); send
 * messages; turn = false; break; case ENGINE_TURN_DONE:   turn = false; break;    // filled the
 * pipeline, or nothing to do
 *             }
 *         }
 *         publish counts again if they changed;
 *     }
 *
 * Lock-step (options.wave.ranks_count > 0) adds to this loop; an independent engine core may be
 * driven in the same way, it just never needs any of it:
 *
 *     - input may also be engine_core_start_wave(), engine_core_pause(), engine_core_resume();
 *     - after input was drained, before publishing counts: while (engine_core_take_notice(e, now,
 *       &outputs)) send outputs to the coordinator, in order with the counts;
 *     - a SUBMIT with tokens_count > 0 is a forward that waits for all ranks;
 *       engine_core_forward() is what this one brings to it;
 *     - after the last publish of the loop:
 *         while ((need = engine_core_wave_next(e, &ballot)) != WAVE_NEED_NOTHING)
 *             WAVE_NEED_DUMMY:     a dummy batch with all ranks, waited for to its end;
 *             WAVE_NEED_ALLREDUCE: sum of all ranks' ballots; engine_core_wave_checked(e, &sum);
 *         take notices again.
 *
 * No input may be fed between a need and its answer. has_work() stays true while a wave runs.
 *
 * Step rules are those of vLLM V1 (docs: protocol notes): a step first serves RUNNING requests in
 * order, preempting the last one when blocks run out, then admits WAITING requests while budgets
 * last; prompts longer than the budget are computed in chunks; a finished request's id reaches the
 * workers with the next step.
 */
#ifndef ENGINE_CORE_ENGINE_CORE_H
#define ENGINE_CORE_ENGINE_CORE_H

#include "engine/base/arena.h"
#include "engine/core/message.h"
#include "engine/core/wave.h"

enum {
    ENGINE_PIPELINE_STAGES_MAX = 16
};

enum scheduling_policy {
    POLICY_FCFS,
    POLICY_PRIORITY
};

enum pause_mode {
    PAUSE_ABORT, /* end all requests, hold new ones */
    PAUSE_WAIT,  /* let running ones finish, hold waiting and new ones */
    PAUSE_KEEP,  /* freeze all where they are */
};

enum pause_state {
    UNPAUSED,
    PAUSED_NEW, /* nothing is admitted; what runs goes on */
    PAUSED_ALL, /* nothing is scheduled */
};

struct engine_core_options {
    uint32_t engine_index;  /* true rank, 0.. */
    uint32_t clients_count; /* API servers; outputs are grouped by client */
    uint32_t requests_max;  /* held at once, running and waiting */
    uint32_t max_model_len; /* tokens of prompt + output */
    uint32_t max_num_seqs;  /* running at once */
    uint32_t max_num_batched_tokens;
    uint32_t long_prefill_token_threshold; /* 0: off */
    uint32_t num_gpu_blocks;               /* block 0 is the null block */
    uint32_t block_tokens;                 /* tokens a KV block */
    bool prefix_caching;
    bool chunked_prefill;
    bool reserve_full_isl;    /* admit only if the whole sequence fits now (vLLM default: true) */
    double watermark;         /* fraction of blocks kept free on admission */
    uint32_t async_depth;     /* steps of one request in flight that sample, 1 or 2 */
    uint32_t pipeline_stages; /* at most ENGINE_PIPELINE_STAGES_MAX; 0 and 1: none */
    enum scheduling_policy policy;
    uint64_t seed;            /* of the emulated sampling, for requests that bring none */
    struct wave_options wave; /* all zero: independent of other ranks */
};

/* One scheduled request in a step. */
struct step_seq {
    uint32_t slot;             /* < requests_max; stable while the request lives */
    uint32_t computed_tokens;  /* already in the KV cache before this step, hits included */
    uint32_t scheduled_tokens; /* computed by this step */
    uint32_t flags;            /* STEP_SEQ_* */
    uint64_t sample_key; /* hash of (sampling seed, prompt hash, choice): with a position it gives a
                            token */
    uint32_t position;   /* index of the output token that this step samples, 0 = first */
    uint32_t blocks_first; /* blocks newly given to the request: plan->block_ids[blocks_first ..] */
    uint32_t blocks_count;
    uint32_t tokens_first; /* STEP_SEQ_NEW: all known token ids, plan->token_ids[tokens_first ..] */
    uint32_t tokens_count;
};

enum {
    STEP_SEQ_NEW =
        1U << 0, /* first step of the request on the workers, or first after a preemption */
    STEP_SEQ_SAMPLES = 1U << 1,    /* the step completes the known tokens: it samples one */
    STEP_SEQ_IGNORE_EOS = 1U << 2, /* the emulated device draws no end */
};

/*
 * What the workers must do in one step: first forget finished_slots, then compute seqs; a slot may
 * be in both when a new request took it over. Borrowed until engine_core_complete() of the same
 * step.
 */
struct step_plan {
    uint64_t step; /* 1, 2, ... */
    const struct step_seq *seqs;
    uint32_t seqs_count;
    uint32_t
        tokens_count; /* sum of scheduled_tokens; 0 is a step that only brings finished slots */
    const uint32_t *block_ids;
    uint32_t block_ids_count;
    const uint32_t *token_ids;
    uint32_t token_ids_count;
    const uint32_t *finished_slots; /* requests whose worker state can go */
    uint32_t finished_slots_count;
};

/* What the workers sampled: one token for each seq with STEP_SEQ_SAMPLES, in the order of
 * plan->seqs. */
struct step_result {
    uint64_t step;
    const uint32_t *tokens;
    uint32_t tokens_count;
};

/* Messages for the clients, at most one each. Borrowed until the next engine_core_complete(). */
struct engine_core_messages {
    const struct engine_client_message {
        uint32_t client_index;
        struct engine_outputs outputs;
    } * items;
    uint32_t count;
};

enum engine_turn {
    ENGINE_TURN_DONE,
    ENGINE_TURN_SUBMIT,
    ENGINE_TURN_AWAIT
};

struct engine_core;

/* Batches in flight: one in each stage of the pipeline, and with asynchronous scheduling one that
 * waits before it. */
static inline uint32_t engine_core_batches_max(const struct engine_core_options *o)
{
    return o->async_depth + (o->pipeline_stages > 1 ? o->pipeline_stages - 1 : 0);
}

/* Bytes to reserve for engine_core_create() with these options. */
size_t engine_core_arena_bytes(const struct engine_core_options *options);
/* Takes all its memory from `arena` and lives as long. INVALID names the option that is out of
 * range. */
MUST_CHECK enum status engine_core_create(struct arena *arena,
                                          const struct engine_core_options *options,
                                          struct engine_core **out, struct error *error);

/*
 * ADD. Copies what it keeps. INVALID: prompt empty or not shorter than max_model_len, sequence that
 * can never fit in the KV cache, unknown client, duplicate id. FULL: requests_max are held; one
 * that has ended is held until its id went out and no step in flight computes it, so leave room for
 * max_num_seqs more than may be unfinished. The caller answers a failed ADD with an ERROR output to
 * the client.
 */
MUST_CHECK enum status engine_core_add(struct engine_core *e, const struct engine_request *request,
                                       time_ps now, struct error *error);
/* ABORT. Unknown ids are ignored (idempotent). The id comes back in finished_ids of the next
 * completed step. */
void engine_core_abort(struct engine_core *e, const char *id);

bool engine_core_has_work(const struct engine_core *e);
/* Unfinished requests (running + waiting). */
uint32_t engine_core_unfinished(const struct engine_core *e);
/* Of these, not running yet or not any more: they wait for a place. */
uint32_t engine_core_waiting(const struct engine_core *e);

/* See the loop above. *plan is written on ENGINE_TURN_SUBMIT. */
enum engine_turn engine_core_turn(struct engine_core *e, time_ps now,
                                  const struct step_plan **plan);
/*
 * The oldest submitted plan is done at `now`. Commits tokens, frees finished requests, gives the
 * messages of this step: outputs grouped by client, finished ids of every client that has some,
 * stats on the first message (or alone to client 0). The result must belong to the oldest plan in
 * flight (asserted).
 */
void engine_core_complete(struct engine_core *e, time_ps now, const struct step_result *result,
                          struct engine_core_messages *messages);

/*
 * Steps that bring nothing new: from now on, the requests that run compute a token each, none
 * begins, ends, waits or gives way, and no count changes. A driver that shows nobody the tokens
 * need not go through them one by one.
 */
struct engine_core_quiet {
    uint64_t steps_count;     /* 0: none */
    uint32_t seqs_count;      /* in each of these steps, all of which sample */
    uint32_t clients_count;   /* whose requests they are */
    uint64_t computed_tokens; /* by all sequences before the next step to be planned */
    const uint32_t
        *blocks; /* the i-th of them takes blocks[i % block_tokens]; until the next call */
};

/*
 * Looks ahead, with an independent engine core of one stage, at the top of the loop above: all
 * steps but depth - 1 are completed, counts are published. Tokens cannot be known to be harmless
 * where a request has stop tokens or an end of text, or is held with its prompt: then there are no
 * quiet steps. Costs about as much as a step.
 */
void engine_core_quiet(struct engine_core *e, struct engine_core_quiet *quiet);
/* As `steps` (at most quiet->steps_count, which nothing came behind) turns of the loop, each of
 * which submits and completes a step; their messages are not made. */
void engine_core_advance(struct engine_core *e, uint64_t steps);

/* True, and fills *stats, if (running, waiting) differ from what this function gave last. For the
 * coordinator. In lock-step they carry the wave and the step at which they were true. */
bool engine_core_counts_changed(struct engine_core *e, struct scheduler_stats *stats);

/* ---- lock-step; see the loop above and wave.h ---- */

/* START_DP_WAVE. Ignored by an independent engine core. */
void engine_core_start_wave(struct engine_core *e, const struct start_wave *start);
/* Always WAVE_NEED_NOTHING for an independent engine core. */
enum wave_need engine_core_wave_next(struct engine_core *e, struct wave_ballot *ballot);
void engine_core_wave_checked(struct engine_core *e, const struct wave_ballot *sum);
/* Next wave_complete or start_wave for the coordinator, as a message of its own. False: none. */
bool engine_core_take_notice(struct engine_core *e, time_ps now, struct engine_outputs *notice);
/* What this rank brings to the forward of `plan`; NULL: of a dummy batch. */
struct wave_forward engine_core_forward(const struct engine_core *e, const struct step_plan *plan);
/* The wave state, to look at. */
const struct wave *engine_core_wave(const struct engine_core *e);

/* ---- pause and resume, for weight updates; with and without lock-step ---- */

/*
 * May come at any time and more than once; in lock-step, once all ranks are paused, a pause can
 * only end more, not let more run. The call's reply is due when engine_core_pause_done(); until
 * then the engine core must go on being driven. In lock-step every rank must be paused.
 */
void engine_core_pause(struct engine_core *e, enum pause_mode mode);
/* Paused, by all ranks' consent, and nothing left to do. */
bool engine_core_pause_done(const struct engine_core *e);
enum pause_state engine_core_pause_state(const struct engine_core *e);

/* Forgets all known prefixes. False, and nothing changes, while any request holds blocks. */
bool engine_core_reset_prefix_cache(struct engine_core *e);

enum resume_outcome {
    RESUME_DONE,      /* answer the call with success */
    RESUME_LATER,     /* lock-step: a pause is pending; call again when engine_core_pause_done(),
                         and feed no pause that came behind this call before */
    RESUME_ALLREDUCE, /* lock-step: all-reduce (maximum) *unfinished over all ranks now, before
                         anything else, and call engine_core_resumed(); then answer */
};
/* Resuming what is not paused is RESUME_DONE and changes nothing. */
enum resume_outcome engine_core_resume(struct engine_core *e, bool *unfinished);
void engine_core_resumed(struct engine_core *e, bool any_unfinished);

/* Invariants (used + free = blocks - 1, ref counts, budgets, queues); for tests and the random
 * driver. NULL: all hold. */
const char *engine_core_check(const struct engine_core *e);

#endif
