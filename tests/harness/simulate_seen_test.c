/*
 * simulate_seen_test.c - what a run in virtual time keeps of its threads: times in the histogram of
 * their thread and kind, at their rank; events in a lane for each process, as many as a lane holds,
 * what is lost said at its end, the whole in the order of time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "engine/ledger/events.h"
#include "harness/run/simulate_load.h"
#include "harness/run/simulate_seen.h"

enum {
    FAR_THREAD = 1000, /* beyond the first room for threads */
};

static struct simulate_seen *seen_of(uint32_t api_servers, uint32_t engines)
{
    const struct topology t = {.api_servers_count = api_servers, .engines_count = engines};
    struct simulate_seen *seen = NULL;
    struct error error;
    assert_int_equal(simulate_seen_create(&t, &seen, &error), STATUS_OK);
    return seen;
}

static void happen(struct simulate_seen *seen, enum simulation_event_kind kind,
                   enum simulation_thread_kind by, uint32_t instance, time_ps at, int64_t value)
{
    struct simulation_witness w = simulate_seen_witness(seen);
    const struct simulation_event event = {
        .kind = kind, .by = by, .instance = instance, .at = at, .value = {value, 7}};
    w.happened(w.ctx, &event);
}

static struct run_result events_of(struct simulate_seen *seen)
{
    static struct load_header client; /* nothing began: no event of its own */
    struct run_result r = {.events = NULL};
    simulate_seen_events(seen, &client, &r);
    return r;
}

/* The only event of this kind and process; NULL: there is none. */
static const struct run_event *find(const struct run_result *r, enum event_kind what,
                                    enum ledger_thread_kind process, uint32_t instance)
{
    const struct run_event *found = NULL;
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        if (e->what == (uint32_t)what && e->process == (uint32_t)process &&
            e->instance == instance) {
            assert_null(found);
            found = e;
        }
    }
    return found;
}

static uint64_t at(const struct ledger_histogram *h, int64_t ns)
{
    return atomic_load(&h->counts[ledger_histogram_bucket(ns)]);
}

static uint64_t total(const struct ledger_histogram *h)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        sum += atomic_load(&h->counts[i]);
    }
    return sum;
}

static void times_are_those_of_their_thread(void **state)
{
    (void)state;
    struct simulate_seen *seen = seen_of(1, 1);
    struct simulation_witness w = simulate_seen_witness(seen);
    struct ledger_thread *t = aligned_alloc(_Alignof(struct ledger_thread), sizeof *t);
    assert_non_null(t);
    w.lasted(w.ctx, 2, SIMULATION_SPAN_WAIT, 5 * PS_PER_US, 3);
    w.lasted(w.ctx, 2, SIMULATION_SPAN_WAIT, 5 * PS_PER_US, 1);
    w.lasted(w.ctx, 2, SIMULATION_SPAN_STEP, 6 * PS_PER_MS, 1);
    w.lasted(w.ctx, 2, SIMULATION_SPAN_LAUNCH, 90 * PS_PER_NS, 2);
    w.lasted(w.ctx, 2, SIMULATION_SPAN_GAP, 700 * PS_PER_US, 6);
    w.lasted(w.ctx, FAR_THREAD, SIMULATION_SPAN_WAIT, PS_PER_S, 9);
    *t = (struct ledger_thread){.kind = 0};
    simulate_seen_times(seen, 2, t);
    assert_int_equal(at(&t->waits, 5000), 4);
    assert_int_equal(total(&t->waits), 4);
    assert_int_equal(at(&t->steps, 6000000), 1);
    assert_int_equal(total(&t->steps), 1);
    assert_int_equal(at(&t->launches, 90), 2);
    assert_int_equal(total(&t->launches), 2);
    assert_int_equal(at(&t->gaps, 700000), 6);
    assert_int_equal(total(&t->gaps), 6);
    *t = (struct ledger_thread){.kind = 0};
    simulate_seen_times(seen, FAR_THREAD, t);
    assert_int_equal(at(&t->waits, 1000000000), 9);
    assert_int_equal(total(&t->steps), 0);
    *t = (struct ledger_thread){.kind = 0};
    simulate_seen_times(seen, 3, t);               /* never heard of */
    simulate_seen_times(seen, 50 * FAR_THREAD, t); /* beyond all room */
    assert_int_equal(total(&t->waits) + total(&t->gaps), 0);
    free(t);
    simulate_seen_free(seen);
}

/* A coordinator, 2 API servers, 3 engine cores: all ready at 0; then one event of each. */
static void each_process_has_its_events(void **state)
{
    (void)state;
    struct simulate_seen *seen = seen_of(2, 3);
    happen(seen, SIMULATION_EVENT_WAVE_ENDED, SIMULATION_THREAD_ENGINE_MAIN, 2, 900 * PS_PER_NS, 5);
    happen(seen, SIMULATION_EVENT_FIRST_STATE, SIMULATION_THREAD_API, 1, 300 * PS_PER_NS, 4);
    happen(seen, SIMULATION_EVENT_PUBLISHED, SIMULATION_THREAD_COORDINATOR, 0, 200 * PS_PER_NS, 1);
    happen(seen, SIMULATION_EVENT_START_WAVE_SENT, SIMULATION_THREAD_COORDINATOR, 0,
           400 * PS_PER_NS, 2);
    happen(seen, SIMULATION_EVENT_WAVE_PUBLISHED, SIMULATION_THREAD_COORDINATOR, 0, 500 * PS_PER_NS,
           3);
    happen(seen, SIMULATION_EVENT_WAVE_BEGAN, SIMULATION_THREAD_ENGINE_MAIN, 0, 600 * PS_PER_NS, 6);
    struct run_result r = events_of(seen);
    assert_int_equal(r.events_count, 1 + 2 + 3 + 6);
    for (uint32_t i = 1; i < r.events_count; i++) {
        assert_true(r.events[i - 1].at_ns <= r.events[i].at_ns);
    }
    assert_non_null(find(&r, EVENT_READY, THREAD_COORDINATOR_MAIN, 0));
    assert_non_null(find(&r, EVENT_LISTENING, THREAD_API_MAIN, 1));
    assert_non_null(find(&r, EVENT_READY, THREAD_ENGINE_MAIN, 2));
    assert_null(find(&r, EVENT_READY, THREAD_ENGINE_MAIN, 3));
    const struct run_event *ended = find(&r, EVENT_WAVE_ENDED, THREAD_ENGINE_MAIN, 2);
    assert_true(ended != NULL && ended->at_ns == 900 && ended->number == 1);
    assert_true(ended->note.value[0] == 5 && ended->note.value[1] == 7);
    const struct run_event *state_1 = find(&r, EVENT_FIRST_STATE, THREAD_API_MAIN, 1);
    assert_true(state_1 != NULL && state_1->at_ns == 300 && state_1->note.value[0] == 4);
    const struct run_event *sent = find(&r, EVENT_START_WAVE_SENT, THREAD_COORDINATOR_MAIN, 0);
    assert_true(sent != NULL && sent->number == 2 && sent->note.value[0] == 2);
    const struct run_event *wave = find(&r, EVENT_WAVE_PUBLISHED, THREAD_COORDINATOR_MAIN, 0);
    assert_true(wave != NULL && wave->number == 3 && wave->note.value[0] == 3);
    assert_non_null(find(&r, EVENT_PUBLISHED, THREAD_COORDINATOR_MAIN, 0));
    assert_non_null(find(&r, EVENT_WAVE_BEGAN, THREAD_ENGINE_MAIN, 0));
    free(r.events);
    simulate_seen_free(seen);
}

/* One process with too many takes no place from another, nor from its own first ones. */
static void a_full_lane_says_what_it_lost(void **state)
{
    (void)state;
    struct simulate_seen *seen = seen_of(64, 64);
    const uint32_t all = EVENTS_PER_LANE + 10; /* besides the first: it is ready */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < all; i++) {
        happen(seen, SIMULATION_EVENT_WAVE_BEGAN, SIMULATION_THREAD_ENGINE_MAIN, 63,
               (time_ps)(i + 1) * PS_PER_NS, i);
    }
    happen(seen, SIMULATION_EVENT_WAVE_BEGAN, SIMULATION_THREAD_ENGINE_MAIN, 0, PS_PER_NS, 1);
    happen(seen, SIMULATION_EVENT_FIRST_STATE, SIMULATION_THREAD_API, 63, PS_PER_NS, 1);
    struct run_result r = events_of(seen);
    for (uint32_t i = 0; i < r.events_count; i++) {
        const struct run_event *e = &r.events[i];
        bool its = e->process == (uint32_t)THREAD_ENGINE_MAIN && e->instance == 63;
        kept += its && e->what != (uint32_t)EVENT_EVENTS_LOST ? 1 : 0;
        assert_true(!its || e->number <= EVENTS_PER_LANE);
    }
    assert_int_equal(kept, EVENTS_PER_LANE);
    const struct run_event *lost = find(&r, EVENT_EVENTS_LOST, THREAD_ENGINE_MAIN, 63);
    assert_non_null(lost);
    assert_int_equal(lost->note.value[0], all + 1 - EVENTS_PER_LANE);
    assert_int_equal(lost->at_ns, EVENTS_PER_LANE - 1); /* the last one that was kept */
    assert_int_equal(lost->number, EVENTS_PER_LANE);
    const struct run_event *first = find(&r, EVENT_WAVE_BEGAN, THREAD_ENGINE_MAIN, 0);
    const struct run_event *last = find(&r, EVENT_FIRST_STATE, THREAD_API_MAIN, 63);
    assert_true(first != NULL && first->number == 1 && last != NULL && last->number == 1);
    assert_null(find(&r, EVENT_EVENTS_LOST, THREAD_ENGINE_MAIN, 0));
    assert_null(find(&r, EVENT_EVENTS_LOST, THREAD_API_MAIN, 63));
    assert_null(find(&r, EVENT_EVENTS_LOST, THREAD_COORDINATOR_MAIN, 0));
    free(r.events);
    simulate_seen_free(seen);
}

/* Of more engine cores than a measured system has, the first ones have lanes. */
static void of_many_engine_cores_the_first_note(void **state)
{
    (void)state;
    struct simulate_seen *seen = seen_of(1, 100);
    happen(seen, SIMULATION_EVENT_WAVE_BEGAN, SIMULATION_THREAD_ENGINE_MAIN, 63, PS_PER_NS, 1);
    happen(seen, SIMULATION_EVENT_WAVE_BEGAN, SIMULATION_THREAD_ENGINE_MAIN, 64, PS_PER_NS, 1);
    happen(seen, SIMULATION_EVENT_WAVE_BEGAN, SIMULATION_THREAD_ENGINE_MAIN, 99, PS_PER_NS, 1);
    struct run_result r = events_of(seen);
    assert_int_equal(r.events_count, 1 + 1 + 64 + 1);
    assert_non_null(find(&r, EVENT_WAVE_BEGAN, THREAD_ENGINE_MAIN, 63));
    assert_null(find(&r, EVENT_WAVE_BEGAN, THREAD_ENGINE_MAIN, 64));
    assert_null(find(&r, EVENT_READY, THREAD_ENGINE_MAIN, 64));
    free(r.events);
    simulate_seen_free(seen);
}

/* The load's edges stand between them, by the clock of the simulated processes. */
static void the_load_has_its_events(void **state)
{
    (void)state;
    static struct load_header client;
    struct simulate_seen *seen = seen_of(1, 1);
    struct run_result r = {.events = NULL};
    happen(seen, SIMULATION_EVENT_FIRST_STATE, SIMULATION_THREAD_API, 0, 3 * PS_PER_MS, 0);
    atomic_store(&client.start_ns, SIMULATE_EPOCH_NS + 1000000);
    atomic_store(&client.window_start_ns, SIMULATE_EPOCH_NS + 2000000);
    atomic_store(&client.window_end_ns, SIMULATE_EPOCH_NS + 4000000);
    atomic_store(&client.end_ns, SIMULATE_EPOCH_NS + 5000000);
    simulate_seen_events(seen, &client, &r);
    static const enum event_kind order[] = {EVENT_LOAD_BEGAN, EVENT_WINDOW_BEGAN, EVENT_FIRST_STATE,
                                            EVENT_WINDOW_ENDED};
    assert_int_equal(r.events_count, 2 + 4); /* no coordinator with one engine core */
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(r.events[2 + i].what, order[i]);
        assert_int_equal(r.events[2 + i].at_ns, (i + 1) * 1000000);
    }
    free(r.events);
    simulate_seen_free(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_those_of_their_thread),
        cmocka_unit_test(each_process_has_its_events),
        cmocka_unit_test(a_full_lane_says_what_it_lost),
        cmocka_unit_test(of_many_engine_cores_the_first_note),
        cmocka_unit_test(the_load_has_its_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
