/*
 * events.c - the lanes of events in the ledger (events.h). Each is written by the main thread of
 * the process that it belongs to, and read by the harness. It never blocks, and never overwrites
 * what a reader may be looking at.
 */
#include "engine/ledger/events.h"

#include "engine/base/clock.h"

struct event_lane {
    _Alignas(64) _Atomic uint32_t count; /* stored after the event that it counts */
    ledger_counter lost_count;
    struct event events[EVENTS_PER_LANE];
};

size_t event_lane_bytes(void)
{
    return sizeof(struct event_lane);
}

/* Launchers, coordinators, API servers, engine cores: the order of lanes. */
static uint32_t lane_index(enum ledger_thread_kind kind, uint32_t instance)
{
    switch ((uint32_t)kind) {
    case THREAD_LAUNCHER_MAIN:
        ASSERT(instance < TOPOLOGY_NODES_MAX);
        return instance;
    case THREAD_COORDINATOR_MAIN:
        ASSERT(instance < TOPOLOGY_NODES_MAX);
        return TOPOLOGY_NODES_MAX + instance;
    case THREAD_API_MAIN:
        ASSERT(instance < TOPOLOGY_API_SERVERS_MAX);
        return 2 * TOPOLOGY_NODES_MAX + instance;
    default:
        ASSERT(kind == THREAD_ENGINE_MAIN && instance < TOPOLOGY_ENGINES_MAX);
        return 2 * TOPOLOGY_NODES_MAX + TOPOLOGY_API_SERVERS_MAX + instance;
    }
}

struct event_lane *ledger_lane(const struct ledger *l, enum ledger_thread_kind kind,
                               uint32_t instance)
{
    return &l->lanes[lane_index(kind, instance)];
}

void ledger_note(struct event_lane *lane, enum event_kind what, const struct event_note *note)
{
    uint32_t count = atomic_load_explicit(&lane->count, memory_order_relaxed);
    if (count == EVENTS_PER_LANE) {
        ledger_add(&lane->lost_count, 1);
        return;
    }
    struct event *event = &lane->events[count];
    *event = (struct event){.what = (uint32_t)what};
    if (note != NULL) {
        event->note = *note;
    }
    if (event->note.at_ns == 0) {
        event->note.at_ns = clock_now_ns();
    }
    atomic_store_explicit(&lane->count, count + 1, memory_order_release);
}

uint32_t event_lane_count(const struct event_lane *lane)
{
    uint32_t count = atomic_load_explicit(&lane->count, memory_order_acquire);
    return count < EVENTS_PER_LANE ? count : (uint32_t)EVENTS_PER_LANE;
}

uint64_t event_lane_lost(const struct event_lane *lane)
{
    return ledger_get(&lane->lost_count);
}

struct event event_lane_at(const struct event_lane *lane, uint32_t index)
{
    ASSERT(index < event_lane_count(lane));
    return lane->events[index];
}

const char *event_name(enum event_kind kind)
{
    static const char *const names[EVENT_KINDS_COUNT] = {
#define X(name, text, first, second) [EVENT_##name] = (text),
        LEDGER_EVENTS(X)
#undef X
    };
    ASSERT((unsigned)kind < EVENT_KINDS_COUNT);
    return names[kind];
}

const char *event_value_name(enum event_kind kind, uint32_t index)
{
    static const char *const names[EVENT_KINDS_COUNT][EVENT_VALUES] = {
#define X(name, text, first, second) [EVENT_##name] = {(first), (second)},
        LEDGER_EVENTS(X)
#undef X
    };
    ASSERT((unsigned)kind < EVENT_KINDS_COUNT && index < EVENT_VALUES);
    return names[kind][index];
}
