/*
 * observe_events.c - what happened in a run's processes, from the lanes of its ledger and the clock
 * of its load client, in the order of time. Called by measure.c once the system has ended, so that
 * the ends are in it. Must not leave out silently: what a lane had no place for is counted.
 */
#include <stdlib.h>

#include "engine/ledger/events.h"
#include "harness/run/observe.h"

static const enum ledger_thread_kind kinds[] = {THREAD_LAUNCHER_MAIN, THREAD_COORDINATOR_MAIN,
                                                THREAD_API_MAIN, THREAD_ENGINE_MAIN};

enum {
    LANE_KINDS = sizeof kinds / sizeof kinds[0],
    CLIENT_EVENTS = 3
};

static uint32_t instances_of(enum ledger_thread_kind kind)
{
    switch ((uint32_t)kind) {
    case THREAD_API_MAIN:
        return TOPOLOGY_API_SERVERS_MAX;
    case THREAD_ENGINE_MAIN:
        return TOPOLOGY_ENGINES_MAX;
    default:
        return TOPOLOGY_NODES_MAX;
    }
}

static int by_time(const void *a, const void *b)
{
    const struct run_event *x = a;
    const struct run_event *y = b;
    if (x->at_ns != y->at_ns) {
        return (x->at_ns > y->at_ns) - (x->at_ns < y->at_ns);
    }
    if (x->process != y->process) {
        return (x->process > y->process) - (x->process < y->process);
    }
    if (x->instance != y->instance) {
        return (x->instance > y->instance) - (x->instance < y->instance);
    }
    return (x->number > y->number) - (x->number < y->number);
}

static struct run_event *add(struct run_result *r, int64_t at_ns, uint32_t what)
{
    struct run_event *e = &r->events[r->events_count++];
    *e = (struct run_event){.at_ns = at_ns, .process = THREAD_KINDS_COUNT, .what = what};
    return e;
}

static void take_lane(const struct ledger *ledger, enum ledger_thread_kind kind, uint32_t instance,
                      struct run_result *r)
{
    const struct event_lane *lane = ledger_lane(ledger, kind, instance);
    int64_t epoch_ns = ledger_epoch_ns(ledger);
    uint32_t count = event_lane_count(lane);
    uint64_t lost = event_lane_lost(lane);
    int64_t last_ns = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct event event = event_lane_at(lane, i);
        struct run_event *e = add(r, event.note.at_ns - epoch_ns, event.what);
        e->process = (uint32_t)kind;
        e->instance = instance;
        e->number = i;
        e->note = event.note;
        last_ns = e->at_ns;
    }
    if (lost > 0) {
        struct run_event *e = add(r, last_ns, EVENT_EVENTS_LOST);
        e->process = (uint32_t)kind;
        e->instance = instance;
        e->number = count;
        e->note.value[0] = (int64_t)lost;
    }
}

void observe_add_client_events(const struct load_header *client, int64_t epoch_ns,
                               struct run_result *r)
{
    const struct {
        int64_t at_ns;
        enum event_kind what;
    } times[CLIENT_EVENTS] = {{atomic_load(&client->start_ns), EVENT_LOAD_BEGAN},
                              {atomic_load(&client->window_start_ns), EVENT_WINDOW_BEGAN},
                              {atomic_load(&client->window_end_ns), EVENT_WINDOW_ENDED}};
    int64_t end_ns = atomic_load(&client->end_ns);
    r->events = realloc(r->events, (r->events_count + CLIENT_EVENTS) * sizeof *r->events);
    ASSERT(r->events != NULL);
    for (uint32_t i = 0; i < CLIENT_EVENTS; i++) {
        /* The window's edges stand there before they happen. */
        if (times[i].at_ns > 0 && (end_ns == 0 || times[i].at_ns <= end_ns)) {
            add(r, times[i].at_ns - epoch_ns, (uint32_t)times[i].what)->number = i;
        }
    }
    qsort(r->events, r->events_count, sizeof *r->events, by_time);
}

static uint32_t count_all(const struct ledger *ledger)
{
    uint32_t count = 1; /* room for none may be NULL */
    for (uint32_t k = 0; k < LANE_KINDS; k++) {
        for (uint32_t i = 0; i < instances_of(kinds[k]); i++) {
            uint32_t noted = event_lane_count(ledger_lane(ledger, kinds[k], i));
            count += noted > 0 ? noted + 1 : 0; /* one to say what was lost */
        }
    }
    return count;
}

void observe_fill_events(const struct ledger *ledger, const struct load_shared *client,
                         struct run_result *r)
{
    r->events = calloc(count_all(ledger), sizeof *r->events);
    ASSERT(r->events != NULL);
    for (uint32_t k = 0; k < LANE_KINDS; k++) {
        for (uint32_t i = 0; i < instances_of(kinds[k]); i++) {
            take_lane(ledger, kinds[k], i, r);
        }
    }
    if (client->header != NULL) {
        observe_add_client_events(client->header, ledger_epoch_ns(ledger), r);
    } else {
        qsort(r->events, r->events_count, sizeof *r->events, by_time);
    }
}
