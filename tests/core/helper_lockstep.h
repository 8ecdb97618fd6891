/*
 * helper_lockstep.h - a whole lock-step system in one thread: engine cores, coordinator and front
 * ends joined by links that hold each message until the test delivers it. Collectives block a rank
 * until all ranks have joined, and fail the test when ranks join different ones.
 */
#ifndef TESTS_CORE_HELPER_LOCKSTEP_H
#define TESTS_CORE_HELPER_LOCKSTEP_H

#include "engine/core/coordinator.h"
#include "engine/core/engine_core.h"
#include "engine/core/frontend.h"

enum {
    RANKS_MAX = 4,
    CLIENTS_MAX = 2,
    LINK_MAX = 256,
};

enum note_kind {
    NOTE_ADD,
    NOTE_ABORT,
    NOTE_START,
    NOTE_PAUSE,
    NOTE_RESUME,
    NOTE_OUTPUTS, /* stats or a wave notice, for the coordinator */
    NOTE_FIRST,
    NOTE_STATE,
};

struct note {
    enum note_kind kind;
    char id[REQUEST_ID_BYTES_MAX];
    struct engine_request add;
    struct start_wave start;
    enum pause_mode pause;
    struct engine_outputs outputs;
    struct scheduler_stats stats;
    struct first_request first;
    struct coordinator_state state;
    struct engine_counts counts[RANKS_MAX];
};

struct link {
    struct note notes[LINK_MAX];
    uint32_t first;
    uint32_t count;
};

enum rank_stage {
    STAGE_INPUT,
    STAGE_TURNS,
    STAGE_NEED,
    STAGE_DUMMY,
    STAGE_CHECK,
    STAGE_RESUME,
};

struct rank {
    struct engine_core *core;
    enum rank_stage stage;
    struct link inbox; /* delivered, read when the next loop begins */
    struct step_plan const *plans[2];
    uint64_t plan_forwards[2]; /* forwards joined when each was submitted */
    uint32_t plans_count;
    uint64_t forwards;   /* collective forwards joined */
    uint64_t reductions; /* all-reduces joined */
    uint64_t steps;      /* forwards with tokens */
    uint64_t dummies;
    struct wave_ballot ballot;
    bool unfinished; /* brought to the all-reduce of a resume */
    uint32_t pauses_waiting;
    uint32_t pauses_done;
    uint32_t resumes_done;
    uint32_t resumes_waiting; /* for the end of a pause */
};

struct lockstep_options {
    uint32_t ranks_count;
    uint32_t clients_count;
    uint32_t check_interval_steps;
    bool check_first_step;
    bool evidence; /* confirm_running and believe_engines_only */
    bool announce_start;
    uint32_t async_depth;
};

struct lockstep {
    struct lockstep_options options;
    struct arena arena;
    time_ps now;
    struct rank ranks[RANKS_MAX];
    struct coordinator *coordinator;
    struct frontend *frontends[CLIENTS_MAX];
    struct link to_rank[CLIENTS_MAX][RANKS_MAX]; /* ADD, ABORT, PAUSE, RESUME */
    struct link starts[RANKS_MAX];               /* START_DP_WAVE */
    struct link from_rank[RANKS_MAX];            /* to the coordinator */
    struct link firsts[CLIENTS_MAX];             /* FIRST_REQ */
    struct link states[CLIENTS_MAX];             /* to the front ends */
    struct wave_forward agreed[LINK_MAX];        /* of each forward, merged so far */
    uint32_t forward_step[LINK_MAX];             /* step of the wave, of each forward */
    enum rank_stage reduction_kind;              /* of the all-reduce under way */
    uint32_t reduction_joined;
    uint64_t reductions_done;
    struct wave_ballot sums[LINK_MAX]; /* of each all-reduce; a rank may read it late */
    bool any_unfinished[LINK_MAX];
    uint32_t next_serial;
    uint32_t first_requests; /* sent by all front ends */
    uint32_t finished[4];    /* requests ended for their consumer, by reason STOP .. ERROR */
};

void lockstep_open(struct lockstep *s, const struct lockstep_options *options);
void lockstep_close(struct lockstep *s);

/* A request of `max_tokens` from a client to a rank; returns its handle. */
int32_t lockstep_submit(struct lockstep *s, uint32_t client, uint32_t rank, uint32_t max_tokens);
void lockstep_cancel(struct lockstep *s, uint32_t client, int32_t handle);
/* To every rank, on client 0's links. */
void lockstep_pause(struct lockstep *s, enum pause_mode mode);
void lockstep_resume(struct lockstep *s);

/* Hands the oldest message of a link to its receiver; false if there is none. */
bool deliver_to_rank(struct lockstep *s, uint32_t client, uint32_t rank);
bool deliver_start(struct lockstep *s, uint32_t rank);
bool deliver_from_rank(struct lockstep *s, uint32_t rank);
bool deliver_first(struct lockstep *s, uint32_t client);
bool deliver_state(struct lockstep *s, uint32_t client);

/* One stage of a rank; false if it is idle or blocked. */
bool rank_step(struct lockstep *s, uint32_t rank);
/* Ranks run until all are idle or blocked; no message moves between processes. */
void ranks_run(struct lockstep *s);
/* Everything is delivered and run until nothing moves; the coordinator publishes when due. */
void lockstep_settle(struct lockstep *s);
/* The coordinator publishes as if its time had come. */
void coordinator_tick(struct lockstep *s);

uint32_t rank_wave(const struct lockstep *s, uint32_t rank);
bool rank_running(const struct lockstep *s, uint32_t rank);
/* Waits for other ranks in a collective. */
bool rank_blocked(const struct lockstep *s, uint32_t rank);
/* Nothing is left anywhere, and all agree on the wave. */
void lockstep_assert_quiet(const struct lockstep *s);

#endif
