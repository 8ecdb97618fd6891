/*
 * coordinator.h - the DP coordinator: collects every engine core's counts and publishes them to all
 * API servers.
 *
 * This is the part for independent (dense) ranks: no waves; a FIRST_REQ is decoded and dropped.
 * Publishing happens when counts changed and 100 ms passed since the last publish, else every 5 s.
 *
 *     deadline = coordinator_deadline(c);
 *     wait for a message or the deadline;
 *     message: coordinator_stats() / coordinator_first_request();
 *     if (coordinator_publish(c, now, input_pending, &state)) send state to all clients;
 */
#ifndef ENGINE_CORE_COORDINATOR_H
#define ENGINE_CORE_COORDINATOR_H

#include "engine/base/arena.h"
#include "engine/core/message.h"

enum coordinator_publish_rule {
    PUBLISH_WHEN_DUE,   /* newest vLLM: a due publish is not held up by a busy input */
    PUBLISH_WHEN_QUIET, /* before: only when a poll found no input */
};

struct coordinator_options {
    uint32_t engines_count;
    time_ps publish_interval;   /* 100 ms: counts changed */
    time_ps heartbeat_interval; /* 5 s: nothing changed */
    enum coordinator_publish_rule rule;
};

struct coordinator;

size_t coordinator_arena_bytes(const struct coordinator_options *options);
MUST_CHECK enum status coordinator_create(struct arena *arena,
                                          const struct coordinator_options *options,
                                          struct coordinator **out, struct error *error);
/* Counts of one engine core. Unknown engines are ignored. */
void coordinator_stats(struct coordinator *c, uint32_t engine, const struct scheduler_stats *stats);
/* FIRST_REQ from a client: without waves it changes nothing and is only counted. */
void coordinator_first_request(struct coordinator *c, const struct first_request *first);
/* When coordinator_publish() next wants to be called. */
time_ps coordinator_deadline(const struct coordinator *c);
/* `input_pending`: messages wait unread. True, and fills *state (borrowed until the next call), if
 * it is time to publish. */
bool coordinator_publish(struct coordinator *c, time_ps now, bool input_pending,
                         struct coordinator_state *state);

struct coordinator_counters {
    uint64_t stats_count;
    uint64_t first_requests_count;
    uint64_t publishes_count;
};
struct coordinator_counters coordinator_counters(const struct coordinator *c);

#endif
