/*
 * wave.h - lock-step of data-parallel ranks (mixture of experts): the wave state of one rank.
 *
 * Ranks whose forwards exchange data must all run the same number of forwards. While any rank has
 * work, all of them step; those with nothing to compute run a dummy batch. A wave is the time from
 * idle to idle. Ranks find its end by an all-reduce every check_interval_steps steps.
 *
 * One loop of an engine core, as engine_core.h shows it, ends with
 *
 *     while ((need = wave_next(w, executed, unfinished, &ballot)) != WAVE_NEED_NOTHING) {
 *         WAVE_NEED_DUMMY:     run one dummy batch to its end
 *         WAVE_NEED_ALLREDUCE: sum the ballots of all ranks; wave_checked(w, &sum)
 *     }
 *
 * The rule that all of this keeps: a loop either makes no collective call at all (idle), or exactly
 * one forward (a step with tokens or a dummy) and then, at the same step of the wave on every rank,
 * at most one all-reduce. Nothing else may be fed in between a need and its answer: the engine's
 * main thread is in the collective then.
 *
 * Sans-IO like everything in this room. engine_core.c drives it for a whole engine core; it also
 * works alone.
 */
#ifndef ENGINE_CORE_WAVE_H
#define ENGINE_CORE_WAVE_H

#include "engine/base/status.h"
#include "engine/core/message.h"

enum {
    WAVE_NOTICES_MAX = 2, /* wait at most at once, if they are taken where the loop says so */
    WAVE_DUMMY_TOKENS = 1,
};

struct wave_options {
    uint32_t ranks_count; /* 0: independent (dense) rank, nothing in this file happens */
    /* Ends are looked for when the step within the wave is a multiple of this: 32, or 16, or 1.
     * Must be equal on all ranks. */
    uint32_t check_interval_steps;
    bool check_first_step; /* also at the first step of a wave; equal on all ranks */
    /* Rank 0 tells the coordinator when it starts to run: the partner of the coordinator's
     * believe_engines_only. */
    bool confirm_running;
    /*
     * Off in vLLM. A rank that a request or START_DP_WAVE finds idle runs from then on and tells
     * the coordinator itself, also if the request is over before its first step. Without it others
     * may wait in a forward for a rank that has nothing to do: START_DP_WAVE left it out for the
     * sake of a request that was cancelled before its first step; or it dropped START_DP_WAVE while
     * paused, and another rank or a request was later than the resume.
     */
    bool announce_start;
    uint32_t graph_tokens_max; /* largest uniform decode step that has a graph; 0: always eager */
    bool dummy_graph;          /* dummy batches use a graph if real steps may */
};

/* What a rank votes, or the sum over all ranks: each field 0 or 1 a rank. */
struct wave_ballot {
    uint32_t unfinished;
    uint32_t pending_pause;
};

/* For the coordinator; exactly one is not -1. Goes out in order with the rank's counts. */
struct wave_notice {
    int64_t wave_complete;
    int64_t start_wave;
};

enum wave_need {
    WAVE_NEED_NOTHING, /* the loop is over */
    WAVE_NEED_DUMMY,
    WAVE_NEED_ALLREDUCE,
};

enum wave_phase {
    WAVE_PHASE_LOOP,    /* input is taken, a step may be executed */
    WAVE_PHASE_FORWARD, /* a dummy was asked for */
    WAVE_PHASE_CHECK,   /* an all-reduce was asked for */
    WAVE_PHASE_OVER,    /* its result is in */
    WAVE_PHASE_RESUME,  /* the all-reduce of a resume is under way */
};

struct wave {
    struct wave_options options;
    uint32_t rank;
    uint32_t current_wave;
    uint32_t step_counter; /* forwards of this wave */
    bool engines_running;
    bool was_running; /* engines_running when this loop began, that is when the last one ended */
    bool pending_pause;
    bool ignore_start_dp_wave; /* paused by consensus */
    enum wave_phase phase;
    uint32_t notices_count;
    struct wave_notice notices[WAVE_NOTICES_MAX];
};

/* INVALID: rank not below ranks_count, check_interval_steps of 0. */
MUST_CHECK enum status wave_init(struct wave *w, const struct wave_options *options, uint32_t rank,
                                 struct error *error);
static inline bool wave_lockstep(const struct wave *w)
{
    return w->options.ranks_count > 0;
}

/*
 * A request stamped `request_wave` came in. A later wave is believed. An earlier one while this
 * rank is idle means that nobody will wake the others: starts the wave and tells the coordinator,
 * unless `paused`. With the stamp of this wave somebody else has sent, or will send, a FIRST_REQ
 * for it.
 */
void wave_request(struct wave *w, uint32_t request_wave, bool paused);
/* START_DP_WAVE: dropped while paused, when it excludes this rank, or when it is of an old wave. */
void wave_start(struct wave *w, const struct start_wave *start);

/*
 * What the rest of the loop needs. `executed`: this loop submitted a step with tokens;
 * `unfinished`: something is left to compute, requests held back by a pause not counted. *ballot is
 * this rank's vote, written on WAVE_NEED_ALLREDUCE. Asking again after a dummy says that it is
 * done; the values must be the same then.
 */
enum wave_need wave_next(struct wave *w, bool executed, bool unfinished,
                         struct wave_ballot *ballot);
/* `sum` of all ranks' ballots. Afterwards wave_next() says that the loop is over. */
void wave_checked(struct wave *w, const struct wave_ballot *sum);
/* Oldest notice not taken yet. False: none. */
bool wave_take_notice(struct wave *w, struct wave_notice *notice);

/*
 * First phase of a pause: the rank steps, with dummies if need be, until a check shows that all
 * ranks have a pause pending. From that same step on all of them ignore START_DP_WAVE (second
 * phase), finish what still runs, and end the wave. Once all are paused, a further pause asks for
 * no other round: it may have reached some ranks before the consensus and others after it, and
 * those after it would wait for the rest for ever.
 */
void wave_pause(struct wave *w);
/*
 * False: not yet, a pause is pending or what ran before it is not over. To refuse the call then
 * would leave those ranks alone in the all-reduce that it reaches only after the pause. True: the
 * rank must now all-reduce (maximum) whether it has unfinished requests, with those that the pause
 * held back, and hand the result to wave_resumed(). All ranks must resume; the all-reduce is their
 * barrier.
 */
MUST_CHECK bool wave_resume(struct wave *w);
void wave_resumed(struct wave *w, bool any_unfinished);

/*
 * What a rank brings to the exchange before a forward, and, merged over all ranks, what they agree
 * on: the largest number of tokens, and a graph only if all can use one.
 */
struct wave_forward {
    uint32_t tokens_count;
    bool graph;
};
struct wave_forward wave_forward_merge(struct wave_forward a, struct wave_forward b);
/* Tokens that a rank runs: with graphs everybody pads to the largest, eager steps are not padded.
 */
uint32_t wave_forward_tokens(struct wave_forward own, struct wave_forward agreed);
/* A rank's part for a step of `tokens_count` tokens, one for each of its sequences or not. */
struct wave_forward wave_forward_step(const struct wave *w, uint32_t tokens_count,
                                      bool uniform_decode);
struct wave_forward wave_forward_dummy(const struct wave *w);

/* NULL, or the invariant that is broken; for tests and the random driver. */
const char *wave_check(const struct wave *w);

#endif
