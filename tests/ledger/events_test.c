/*
 * events_test.c - lanes of events: each process has its own, in the order of its notes; a full lane
 * keeps its first events, counts the others and takes no place from another lane; a reader in
 * another mapping never sees an event before it is whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/ledger/events.h"

enum {
    API_SERVERS = 3,
    ENGINES = 2,
    EXCESS = 77
};

static struct ledger make(void)
{
    struct topology t = {
        .api_servers_count = API_SERVERS, .engines_count = ENGINES, .tp = 1, .pp = 1};
    struct ledger l;
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    return l;
}

static void notes_come_back_in_their_order(void **state)
{
    (void)state;
    struct ledger l = make();
    struct ledger reader;
    assert_int_equal(ledger_open(dup(l.fd), &reader, NULL), STATUS_OK);
    struct event_lane *lane = ledger_lane(&l, THREAD_LAUNCHER_MAIN, 0);
    const struct event_lane *seen = ledger_lane(&reader, THREAD_LAUNCHER_MAIN, 0);
    assert_int_equal(event_lane_count(seen), 0);
    int64_t before_ns = clock_now_ns();
    for (int64_t i = 0; i < 10; i++) {
        const struct event_note note = {.at_ns = i == 5 ? clock_now_ns() : 0,
                                        .about = i % 2 == 0,
                                        .kind = THREAD_API_MAIN,
                                        .instance = (uint32_t)i,
                                        .value = {i * 3, -i}};
        ledger_note(lane, i % 2 == 0 ? EVENT_SPAWNED : EVENT_WAVE_PUBLISHED, &note);
    }
    ledger_note(lane, EVENT_DONE, NULL);
    int64_t after_ns = clock_now_ns();
    assert_int_equal(event_lane_count(seen), 11);
    int64_t last_ns = before_ns;
    for (uint32_t i = 0; i < 11; i++) {
        const struct event e = event_lane_at(seen, i);
        assert_true(e.note.at_ns >= last_ns && e.note.at_ns <= after_ns);
        last_ns = e.note.at_ns;
        if (i < 10) {
            assert_int_equal(e.what, i % 2 == 0 ? EVENT_SPAWNED : EVENT_WAVE_PUBLISHED);
            assert_int_equal(e.note.about, i % 2 == 0);
            assert_int_equal(e.note.kind, THREAD_API_MAIN);
            assert_int_equal(e.note.instance, i);
            assert_int_equal(e.note.value[0], (int64_t)i * 3);
            assert_int_equal(e.note.value[1], -(int64_t)i);
        } else {
            assert_int_equal(e.what, EVENT_DONE);
            assert_false(e.note.about);
            assert_int_equal(e.note.value[0], 0);
        }
    }
    ledger_close(&reader);
    ledger_close(&l);
}

/* As many lanes as processes could be, and none is another's. */
static void every_process_has_a_lane_of_its_own(void **state)
{
    (void)state;
    static const struct {
        enum ledger_thread_kind kind;
        uint32_t count;
    } kinds[] = {{THREAD_LAUNCHER_MAIN, TOPOLOGY_NODES_MAX},
                 {THREAD_COORDINATOR_MAIN, TOPOLOGY_NODES_MAX},
                 {THREAD_API_MAIN, TOPOLOGY_API_SERVERS_MAX},
                 {THREAD_ENGINE_MAIN, TOPOLOGY_ENGINES_MAX}};
    struct ledger l = make();
    uint32_t lanes = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (uint32_t i = 0; i < kinds[k].count; i++) {
            const struct event_note note = {.value = {(int64_t)k, i}};
            ledger_note(ledger_lane(&l, kinds[k].kind, i), EVENT_STARTED, &note);
            lanes++;
        }
    }
    assert_int_equal(lanes, EVENT_LANES);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (uint32_t i = 0; i < kinds[k].count; i++) {
            const struct event_lane *lane = ledger_lane(&l, kinds[k].kind, i);
            assert_int_equal(event_lane_count(lane), 1);
            assert_int_equal(event_lane_at(lane, 0).note.value[0], k);
            assert_int_equal(event_lane_at(lane, 0).note.value[1], i);
        }
    }
    ledger_close(&l);
}

static void a_full_lane_keeps_the_first_and_counts_the_rest(void **state)
{
    (void)state;
    struct ledger l = make();
    struct event_lane *full = ledger_lane(&l, THREAD_COORDINATOR_MAIN, 0);
    struct event_lane *other = ledger_lane(&l, THREAD_COORDINATOR_MAIN, 1);
    for (int64_t i = 0; i < EVENTS_PER_LANE + EXCESS; i++) {
        ledger_note(full, EVENT_PUBLISHED, &(struct event_note){.value = {0, i}});
    }
    assert_int_equal(event_lane_count(full), EVENTS_PER_LANE);
    assert_int_equal(event_lane_lost(full), EXCESS);
    for (uint32_t i = 0; i < EVENTS_PER_LANE; i++) {
        assert_int_equal(event_lane_at(full, i).note.value[1], i);
    }
    assert_int_equal(event_lane_count(other), 0);
    assert_int_equal(event_lane_lost(other), 0);
    ledger_note(other, EVENT_PUBLISHED, NULL);
    assert_int_equal(event_lane_count(other), 1);
    ledger_close(&l);
}

static void *write_all(void *context)
{
    for (int64_t i = 0; i < EVENTS_PER_LANE; i++) {
        ledger_note(context, EVENT_WAVE_BEGAN, &(struct event_note){.value = {i, ~i}});
    }
    return NULL;
}

static void a_reader_sees_whole_events_only(void **state)
{
    (void)state;
    struct ledger l = make();
    struct event_lane *lane = ledger_lane(&l, THREAD_ENGINE_MAIN, 1);
    pthread_t writer;
    uint32_t seen = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_all, lane), 0);
    while (seen < EVENTS_PER_LANE && event_lane_lost(lane) == 0) {
        uint32_t count = event_lane_count(lane);
        assert_true(count >= seen);
        for (; seen < count; seen++) {
            const struct event e = event_lane_at(lane, seen);
            assert_int_equal(e.what, EVENT_WAVE_BEGAN);
            assert_int_equal(e.note.value[0], seen);
            assert_int_equal(e.note.value[1], ~(int64_t)seen);
        }
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_int_equal(seen, EVENTS_PER_LANE);
    assert_int_equal(event_lane_lost(lane), 0);
    ledger_close(&l);
}

static void names_are_words_and_differ(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < EVENT_KINDS_COUNT; i++) {
        const char *name = event_name((enum event_kind)i);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
        assert_true(strlen(name) > 0);
        for (uint32_t k = 0; k < i; k++) {
            assert_string_not_equal(name, event_name((enum event_kind)k));
        }
        /* A second value only behind a first. */
        assert_true(event_value_name((enum event_kind)i, 1)[0] == '\0' ||
                    event_value_name((enum event_kind)i, 0)[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_come_back_in_their_order),
        cmocka_unit_test(every_process_has_a_lane_of_its_own),
        cmocka_unit_test(a_full_lane_keeps_the_first_and_counts_the_rest),
        cmocka_unit_test(a_reader_sees_whole_events_only),
        cmocka_unit_test(names_are_words_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
