/*
 * coordinator.h - the DP coordinator: collects every engine core's counts and publishes them to all
 * API servers; for ranks in lock-step it also starts waves and tells who runs.
 *
 * Publishing: 100 ms after the last publish when counts changed, else every 5 s. Independent
 * (dense) ranks have no waves; a FIRST_REQ is decoded and dropped. In lock-step the counts that are
 * published come from one step boundary: when the first counts of a later (wave, step) arrive,
 * those of the step before are set aside, and the copy is what goes out. Without such a copy a
 * publish waits for 50 ms of silence, so that counts of all ranks are in.
 *
 *     deadline = coordinator_deadline(c);
 *     wait for a message or the deadline;
 *     message: coordinator_outputs() / coordinator_first_request() / coordinator_subscribe();
 *     while (coordinator_take_action(c, &action)) send what it says, in this order;
 *     if (coordinator_publish(c, now, input_pending, &state)) send state to all clients;
 *
 * Call coordinator_publish() after every message, before the next coordinator_deadline(): it is
 * also how the coordinator learns the time. One message makes at most COORDINATOR_ACTIONS_MAX
 * actions, which must be taken before the next message comes in (asserted).
 */
#ifndef ENGINE_CORE_COORDINATOR_H
#define ENGINE_CORE_COORDINATOR_H

#include "engine/base/arena.h"
#include "engine/core/message.h"

enum {
    COORDINATOR_ACTIONS_MAX = 2
};

enum coordinator_publish_rule {
    PUBLISH_WHEN_DUE,   /* newest vLLM: a due publish is not held up by a busy input */
    PUBLISH_WHEN_QUIET, /* before: only when a poll found no input */
};

struct coordinator_options {
    uint32_t engines_count;
    time_ps publish_interval;   /* 100 ms: counts changed */
    time_ps heartbeat_interval; /* 5 s: nothing changed */
    enum coordinator_publish_rule rule;
    bool lockstep;           /* ranks run in waves */
    time_ps settle_interval; /* 50 ms; lock-step only */
    /*
     * True: a FIRST_REQ wakes the engine cores, but only their own notices make the coordinator
     * believe that they run (the default from 2026-08 on; wave_options.confirm_running is its
     * partner). False: a FIRST_REQ alone does.
     */
    bool believe_engines_only;
};

enum coordinator_action_kind {
    COORDINATOR_READY,      /* READY to all engine cores */
    COORDINATOR_START_WAVE, /* START_DP_WAVE to all engine cores */
    COORDINATOR_PUBLISH,    /* state to all clients at once; its counts are NULL */
};

struct coordinator_action {
    enum coordinator_action_kind kind;
    struct start_wave start;
    struct coordinator_state state;
};

struct coordinator;

size_t coordinator_arena_bytes(const struct coordinator_options *options);
MUST_CHECK enum status coordinator_create(struct arena *arena,
                                          const struct coordinator_options *options,
                                          struct coordinator **out, struct error *error);
/* An engine core subscribed: once all have, and again for each that comes late, READY goes out. */
void coordinator_subscribe(struct coordinator *c);
/* A message of an engine core: its counts first, then wave_complete, else start_wave. */
void coordinator_outputs(struct coordinator *c, const struct engine_outputs *outputs);
/* Counts of one engine core. Unknown engines are ignored. */
void coordinator_stats(struct coordinator *c, uint32_t engine, const struct scheduler_stats *stats);
/* FIRST_REQ from a client: without waves it changes nothing and is only counted. */
void coordinator_first_request(struct coordinator *c, const struct first_request *first);
/* What the last message made necessary, in the order to send it. False: nothing (more). */
bool coordinator_take_action(struct coordinator *c, struct coordinator_action *action);
/* When coordinator_publish() next wants to be called. */
time_ps coordinator_deadline(const struct coordinator *c);
/* `input_pending`: messages wait unread. True, and fills *state (borrowed until the next call), if
 * it is time to publish. */
bool coordinator_publish(struct coordinator *c, time_ps now, bool input_pending,
                         struct coordinator_state *state);
/* Counts came in that were not published as they are: what is published next is no heartbeat. */
bool coordinator_changed(const struct coordinator *c);
/* What the coordinator believes. */
uint32_t coordinator_current_wave(const struct coordinator *c);
bool coordinator_engines_running(const struct coordinator *c);

struct coordinator_counters {
    uint64_t stats_count;
    uint64_t first_requests_count;
    uint64_t publishes_count;    /* with counts */
    uint64_t wave_starts_count;  /* START_DP_WAVE sent */
    uint64_t wave_changes_count; /* publishes without counts */
    uint64_t late_stats_count;   /* counts of a step before one already seen */
};
struct coordinator_counters coordinator_counters(const struct coordinator *c);

/* Invariants, for tests and the random driver. NULL: all hold. */
const char *coordinator_check(const struct coordinator *c);

#endif
