/*
 * startup.h - the launcher's start-up barrier (vllm-topology 2.3): which engine cores said HELLO,
 * which may be told INIT, who is ready, and when the system serves.
 *
 * Order that it keeps: INIT to nobody before all API servers have reported their sockets; an engine
 * core is ready only after it was sent INIT; the system serves when all engine cores are ready and
 * all API servers have heard all of theirs. A message out of order, of an unknown rank, from the
 * wrong place, or of a rank that is configured differently is refused: start-up then fails.
 *
 * Pure: what the launcher hears goes in, what it must send comes out of startup_take_init().
 */
#ifndef ENGINE_CORE_STARTUP_H
#define ENGINE_CORE_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/status.h"

struct startup_options {
    uint32_t engines_first; /* ranks expected: [engines_first, engines_first + engines_count) */
    uint32_t engines_count;
    uint32_t local_first; /* those that this launcher started itself */
    uint32_t local_count;
    bool remote_headless; /* the others come from nodes without API servers (internal balancing) */
    const char *config_hash;    /* what ranks in lock-step must report at READY; NULL: nothing is
                                   compared. Borrowed for the barrier's life */
    uint32_t api_servers_count; /* of this launcher */
};

/* A HELLO or READY as it came over the handshake socket. */
struct startup_message {
    bool ready; /* false: HELLO */
    bool local;
    bool headless;
    const char *config_hash; /* NULL: not sent */
};

struct startup;

size_t startup_arena_bytes(const struct startup_options *options);
struct startup *startup_create(struct arena *arena, const struct startup_options *options);

/* PROTOCOL: refused, with the reason; the state is as before. */
MUST_CHECK enum status startup_heard(struct startup *s, uint32_t rank,
                                     const struct startup_message *message, struct error *error);
/* One more API server has bound and reported its sockets. PROTOCOL: more than there are. */
MUST_CHECK enum status startup_api_server_bound(struct startup *s, struct error *error);
/* One more API server has heard all engine cores it routes to. PROTOCOL: more than are bound. */
MUST_CHECK enum status startup_api_server_ready(struct startup *s, struct error *error);

/* The next engine core that must be sent INIT; each comes up once, lowest rank first. */
bool startup_take_init(struct startup *s, uint32_t *rank);
/* Everything is ready. */
bool startup_serving(const struct startup *s);
uint32_t startup_engines_ready(const struct startup *s);
uint32_t startup_api_servers_ready(const struct startup *s);

#endif
