/*
 * events.h - what happens now and then in the life of a serving system, each with its time:
 * processes that come and go, the steps of the start-up, publishes, waves. Part of the ledger.
 *
 * Each launcher, coordinator, API server and engine core has a lane that only its main thread
 * writes, in the order of time. A lane keeps the first EVENTS_PER_LANE events; what comes later is
 * counted and dropped, so that a process with many events takes no place from another. Nothing here
 * happens for every step or request: a note costs a look at the clock and one cache line.
 *
 *     struct event_lane *lane = ledger_lane(&ledger, THREAD_ENGINE_MAIN, rank);
 *     ledger_note(lane, EVENT_WAVE_BEGAN, &(struct event_note){.value = {wave}});
 */
#ifndef ENGINE_LEDGER_EVENTS_H
#define ENGINE_LEDGER_EVENTS_H

#include "engine/ledger/ledger.h"

enum {
    EVENTS_PER_LANE = 4096,
    EVENT_VALUES = 2,
    EVENT_LANES = 2 * TOPOLOGY_NODES_MAX + TOPOLOGY_API_SERVERS_MAX + TOPOLOGY_ENGINES_MAX,
};

/*
 * X(NAME, "name", "first value", "second value"), by who notes it. A value that is called "" is not
 * used. The load client's are added by the harness, which knows its clock; "events_lost" by whoever
 * reads a lane that was full.
 */
#define LEDGER_EVENTS(X)                                                                \
    X(STARTED, "started", "pid", "") /* its main() has mapped the ledger */             \
    /* launcher */                                                                      \
    X(HTTP_BOUND, "http_bound", "port", "")                                             \
    X(SPAWNED, "spawned", "pid", "")                                                    \
    X(ADDRESSES_HEARD, "addresses_heard", "", "")                                       \
    X(HELLO_HEARD, "hello_heard", "", "")                                               \
    X(INIT_SENT, "init_sent", "", "")                                                   \
    X(READY_HEARD, "ready_heard", "", "")                                               \
    X(SERVING, "serving", "port", "") /* all are ready: the harness is told */          \
    X(SIGNAL_SENT, "signal_sent", "signal", "")                                         \
    X(EXITED, "exited", "status", "signal")                                             \
    X(DONE, "done", "", "")                                                             \
    /* coordinator */                                                                   \
    X(SUBSCRIBED, "subscribed", "subscribers", "")   /* an engine core to broadcasts */ \
    X(PUBLISHED, "published", "changed", "messages") /* messages: since the last */     \
    X(START_WAVE_SENT, "start_wave_sent", "wave", "")                                   \
    X(WAVE_PUBLISHED, "wave_published", "wave", "running")                              \
    /* API server */                                                                    \
    X(ENGINES_HEARD, "engines_heard", "engines", "") /* each has announced itself */    \
    X(LISTENING, "listening", "", "")                                                   \
    X(FIRST_STATE, "first_state", "wave", "") /* from the coordinator */                \
    /* engine core */                                                                   \
    X(HELLO_SENT, "hello_sent", "", "")                                                 \
    X(INIT_HEARD, "init_heard", "", "")                                                 \
    X(DEVICE_READY, "device_ready", "", "") /* with its workers */                      \
    X(WAVE_BEGAN, "wave_began", "wave", "")                                             \
    X(WAVE_ENDED, "wave_ended", "wave", "")                                             \
    /* coordinator, engine core */                                                      \
    X(READY, "ready", "", "")                                                           \
    /* load client */                                                                   \
    X(LOAD_BEGAN, "load_began", "", "")                                                 \
    X(WINDOW_BEGAN, "window_began", "", "")                                             \
    X(WINDOW_ENDED, "window_ended", "", "")                                             \
    X(EVENTS_LOST, "events_lost", "count", "")

enum event_kind {
#define X(name, text, first, second) EVENT_##name,
    LEDGER_EVENTS(X)
#undef X
    EVENT_KINDS_COUNT
};

const char *event_name(enum event_kind kind);
/* "" if it is not used. */
const char *event_value_name(enum event_kind kind, uint32_t index);

/* What a note says besides its kind. */
struct event_note {
    int64_t at_ns; /* when it began, not before the note before; 0: now */
    bool about;    /* it is about another process, the one named by the next two */
    uint32_t kind; /* enum ledger_thread_kind of its main thread */
    uint32_t instance;
    int64_t value[EVENT_VALUES];
};

struct event {
    struct event_note note; /* its time is of CLOCK_MONOTONIC */
    uint32_t what;          /* enum event_kind */
};

/* The lane of a process, named by the kind of its main thread. Launchers and coordinators have the
 * number of their node. */
struct event_lane *ledger_lane(const struct ledger *l, enum ledger_thread_kind kind,
                               uint32_t instance);
/* Owner only. NULL in `note`: it says nothing more. */
void ledger_note(struct event_lane *lane, enum event_kind what, const struct event_note *note);

/* Any process, at any time. */
uint32_t event_lane_count(const struct event_lane *lane);
uint64_t event_lane_lost(const struct event_lane *lane);
/* `index` below event_lane_count(). */
struct event event_lane_at(const struct event_lane *lane, uint32_t index);
/* For the ledger's layout. */
size_t event_lane_bytes(void);

#endif
