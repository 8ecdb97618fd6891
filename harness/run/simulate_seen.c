/*
 * simulate_seen.c - owns the histograms and the events of a run in virtual time (simulate_seen.h).
 * Called by the simulation's threads through its witness, and read by simulate.c. Must not keep
 * more of a process than its lane in a ledger would.
 */
#include "harness/run/simulate_seen.h"

#include <stdlib.h>
#include <string.h>

#include "engine/ledger/events.h"
#include "harness/run/observe.h"
#include "harness/run/simulate_load.h"

enum {
    LANES = 1 + TOPOLOGY_API_SERVERS_MAX + TOPOLOGY_ENGINES_MAX,
    THREADS_FIRST = 64,
    EVENTS_FIRST = 64
};

struct times {
    struct ledger_histogram *of[SIMULATION_SPANS_COUNT]; /* NULL: none yet */
};

struct lane {
    uint32_t count;
    uint64_t lost_count;
    int64_t last_ns;
};

struct simulate_seen {
    struct times *threads;
    uint32_t threads_cap;
    struct run_event *events;
    uint32_t events_count;
    uint32_t events_cap;
    struct lane lanes[LANES];
};

/* ---- times ---- */

static void make_room(struct simulate_seen *seen, uint32_t thread)
{
    uint32_t cap = seen->threads_cap > 0 ? seen->threads_cap : (uint32_t)THREADS_FIRST;
    while (cap <= thread) {
        cap *= 2;
    }
    seen->threads = realloc(seen->threads, cap * sizeof *seen->threads);
    ASSERT(seen->threads != NULL);
    memset(&seen->threads[seen->threads_cap], 0, (cap - seen->threads_cap) * sizeof *seen->threads);
    seen->threads_cap = cap;
}

static void lasted(void *ctx, uint32_t thread, enum simulation_span what, time_ps time,
                   uint32_t count)
{
    struct simulate_seen *seen = ctx;
    if (thread >= seen->threads_cap) {
        make_room(seen, thread);
    }
    struct ledger_histogram **h = &seen->threads[thread].of[what];
    if (*h == NULL) {
        *h = calloc(1, sizeof **h);
        ASSERT(*h != NULL);
    }
    ledger_add(&(*h)->counts[ledger_histogram_bucket(ns_from_ps(time))], count);
}

void simulate_seen_times(const struct simulate_seen *seen, uint32_t thread,
                         struct ledger_thread *out)
{
    struct ledger_histogram *const to[SIMULATION_SPANS_COUNT] = {
        [SIMULATION_SPAN_WAIT] = &out->waits,
        [SIMULATION_SPAN_STEP] = &out->steps,
        [SIMULATION_SPAN_LAUNCH] = &out->launches,
        [SIMULATION_SPAN_GAP] = &out->gaps};
    for (int i = 0; thread < seen->threads_cap && i < SIMULATION_SPANS_COUNT; i++) {
        if (seen->threads[thread].of[i] != NULL) {
            memcpy(to[i], seen->threads[thread].of[i], sizeof *to[i]);
        }
    }
}

/* ---- events ---- */

static struct run_event *add(struct simulate_seen *seen, enum ledger_thread_kind process,
                             uint32_t instance, enum event_kind what)
{
    if (seen->events_count == seen->events_cap) {
        seen->events_cap = seen->events_cap > 0 ? 2 * seen->events_cap : (uint32_t)EVENTS_FIRST;
        seen->events = realloc(seen->events, seen->events_cap * sizeof *seen->events);
        ASSERT(seen->events != NULL);
    }
    struct run_event *e = &seen->events[seen->events_count++];
    *e = (struct run_event){
        .process = (uint32_t)process, .instance = instance, .what = (uint32_t)what};
    return e;
}

/* NULL: of so many engine cores only the first ones have a lane. */
static struct lane *lane_of(struct simulate_seen *seen, enum ledger_thread_kind process,
                            uint32_t instance)
{
    if (process == THREAD_COORDINATOR_MAIN) {
        return &seen->lanes[0];
    }
    if (process == THREAD_API_MAIN) {
        return &seen->lanes[1 + instance];
    }
    return instance < TOPOLOGY_ENGINES_MAX ? &seen->lanes[1 + TOPOLOGY_API_SERVERS_MAX + instance]
                                           : NULL;
}

/* NULL: it is not kept. */
static struct run_event *note(struct simulate_seen *seen, enum ledger_thread_kind process,
                              uint32_t instance, enum event_kind what, int64_t at_ns)
{
    struct lane *lane = lane_of(seen, process, instance);
    if (lane == NULL || lane->count == EVENTS_PER_LANE) {
        if (lane != NULL) {
            lane->lost_count++;
        }
        return NULL;
    }
    struct run_event *e = add(seen, process, instance, what);
    e->number = lane->count++;
    lane->last_ns = e->at_ns = at_ns;
    return e;
}

static enum ledger_thread_kind process_of(enum simulation_thread_kind kind)
{
    if (kind == SIMULATION_THREAD_COORDINATOR) {
        return THREAD_COORDINATOR_MAIN;
    }
    return kind == SIMULATION_THREAD_API ? THREAD_API_MAIN : THREAD_ENGINE_MAIN;
}

static void happened(void *ctx, const struct simulation_event *event)
{
    static const enum event_kind names[] = {
        [SIMULATION_EVENT_PUBLISHED] = EVENT_PUBLISHED,
        [SIMULATION_EVENT_START_WAVE_SENT] = EVENT_START_WAVE_SENT,
        [SIMULATION_EVENT_WAVE_PUBLISHED] = EVENT_WAVE_PUBLISHED,
        [SIMULATION_EVENT_FIRST_STATE] = EVENT_FIRST_STATE,
        [SIMULATION_EVENT_WAVE_BEGAN] = EVENT_WAVE_BEGAN,
        [SIMULATION_EVENT_WAVE_ENDED] = EVENT_WAVE_ENDED};
    struct simulate_seen *seen = ctx;
    enum ledger_thread_kind process = process_of(event->by);
    struct run_event *e =
        note(seen, process, event->instance, names[event->kind], ns_from_ps(event->at));
    if (e != NULL) {
        e->note.value[0] = event->value[0];
        e->note.value[1] = event->value[1];
    }
}

static void say_lost(struct simulate_seen *seen, enum ledger_thread_kind process, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct lane *lane = lane_of(seen, process, i);
        if (lane != NULL && lane->lost_count > 0) {
            struct run_event *e = add(seen, process, i, EVENT_EVENTS_LOST);
            e->at_ns = lane->last_ns;
            e->number = lane->count;
            e->note.value[0] = (int64_t)lane->lost_count;
        }
    }
}

void simulate_seen_events(struct simulate_seen *seen, const struct load_header *client,
                          struct run_result *r)
{
    say_lost(seen, THREAD_COORDINATOR_MAIN, 1);
    say_lost(seen, THREAD_API_MAIN, TOPOLOGY_API_SERVERS_MAX);
    say_lost(seen, THREAD_ENGINE_MAIN, TOPOLOGY_ENGINES_MAX);
    r->events = seen->events;
    r->events_count = seen->events_count;
    seen->events = NULL;
    seen->events_count = seen->events_cap = 0;
    observe_add_client_events(client, SIMULATE_EPOCH_NS, r);
}

/* ---- life ---- */

static void note_ready(struct simulate_seen *seen, const struct topology *t)
{
    for (uint32_t i = 0; i < topology_coordinators(t); i++) {
        (void)note(seen, THREAD_COORDINATOR_MAIN, i, EVENT_READY, 0);
    }
    for (uint32_t i = 0; i < t->engines_count; i++) {
        (void)note(seen, THREAD_ENGINE_MAIN, i, EVENT_READY, 0);
    }
    for (uint32_t i = 0; i < t->api_servers_count; i++) {
        (void)note(seen, THREAD_API_MAIN, i, EVENT_LISTENING, 0);
    }
}

enum status simulate_seen_create(const struct topology *topology, struct simulate_seen **out,
                                 struct error *error)
{
    struct simulate_seen *seen = calloc(1, sizeof *seen);
    if (seen == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for a simulated system's events");
    }
    note_ready(seen, topology);
    *out = seen;
    return STATUS_OK;
}

void simulate_seen_free(struct simulate_seen *seen)
{
    if (seen == NULL) {
        return;
    }
    for (uint32_t i = 0; i < seen->threads_cap; i++) {
        for (int k = 0; k < SIMULATION_SPANS_COUNT; k++) {
            free(seen->threads[i].of[k]);
        }
    }
    free(seen->threads);
    free(seen->events);
    free(seen);
}

struct simulation_witness simulate_seen_witness(struct simulate_seen *seen)
{
    return (struct simulation_witness){.ctx = seen, .lasted = lasted, .happened = happened};
}
