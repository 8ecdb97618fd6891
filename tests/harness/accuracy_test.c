/*
 * accuracy_test.c - the load client's stamps against the mock's own. That each event is joined with
 * the one the mock sent, and was never read before it was sent, holds on any machine; how late a
 * read is depends on it, so that is held against a bare reader of the same streams.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "harness/load/accuracy.h"
#include "harness/load/client.h"
#include "harness/run/observe.h"
#include "helper_mock.h"

#define MS ((int64_t)1000000)

enum {
    TRIES = 4, /* a busy machine may spoil one */
};

static bool client_is_as_good_as_it_can_be(const struct accuracy *a)
{
    return a->client.ttft_p50_ms <= 3 * a->bare.ttft_p50_ms + 1 &&
           a->client.itl_p50_ms <= 3 * a->bare.itl_p50_ms + 1;
}

static void stamps_are_those_of_a_bare_reader(void **state)
{
    (void)state;
    struct accuracy_options options = {
        .streams_count = 50, .tokens = 40, .ttft_ns = 50 * MS, .itl_ns = 10 * MS};
    struct accuracy a = {.client_cpu_frac = 0};
    bool good = false;
    for (int i = 0; i < TRIES && !good; i++) {
        assert_int_equal(accuracy_measure(&options, &a, NULL), STATUS_OK);
        const struct accuracy_errors *both[] = {&a.bare, &a.client};
        for (size_t k = 0; k < 2; k++) {
            assert_int_equal(both[k]->events_count, 50 * 40);
            assert_int_equal(both[k]->missing_count, 0);
            assert_int_equal(both[k]->negative_count, 0);
            assert_true(both[k]->ttft_p50_ms > 0 && both[k]->ttft_p50_ms <= both[k]->ttft_p99_ms);
            assert_true(both[k]->itl_p50_ms <= both[k]->itl_p99_ms);
        }
        assert_true(a.client_cpu_frac > 0);
        good = client_is_as_good_as_it_can_be(&a);
    }
    assert_true(good);
}

/* ---- a stall ---- */

static uint32_t late_count(const struct load_shared *shared, bool by_schedule)
{
    uint32_t count = 0;
    for (uint64_t i = 0; i < load_get(&shared->header->offered_count); i++) {
        const struct load_record *r = &shared->records[i];
        assert_int_equal(atomic_load(&r->outcome), LOAD_OUTCOME_OK);
        count += r->t_last_ns - (by_schedule ? r->t_sched_ns : r->t_sent_ns) >= 500 * MS;
    }
    return count;
}

/*
 * 200 requests a second over 4 connections, and the server stands still for a second: 4 requests
 * wait inside of it, the others before it. A client that reads its clock when it sends sees the 4
 * only; those due in the first half of the stall, 100 of them, were late by half a second or more.
 */
static void a_stall_shows_on_the_clock_of_the_schedule(void **state)
{
    (void)state;
    enum {
        CONNECTIONS = 4,
        RATE = 200,
        REQUESTS = 600
    };
    struct mock m;
    struct load_shared shared;
    struct run_result r = {.token_basis = ""};
    mock_start(
        &m,
        (struct mock_options){
            .ttft_ns = MS, .itl_ns = MS, .stall_at_ns = 1000 * MS, .stall_for_ns = 1000 * MS},
        0);
    struct load_options o = {
        .targets = {{.host = "127.0.0.1", .port = m.port}},
        .targets_count = 1,
        .model = "mock",
        .mode = LOAD_OPEN_CONSTANT,
        .rate_per_s = RATE,
        .requests_max = REQUESTS,
        .connections_count = CONNECTIONS,
        .prompt_tokens = {.lo = 4, .hi = 4},
        .output_tokens = {.lo = 3, .hi = 3},
        .stream = 1,
        .drain_ns = 60000 * MS,
        .batches_count = 1,
        .time_scale = 1,
    };
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_run(&shared.header->options, &shared, NULL), STATUS_OK);
    mock_stop(&m);
    mock_forget(&m);
    observe_fill_client(&shared, &r);
    assert_int_equal(r.ok_count, REQUESTS);
    assert_true(r.latency[RUN_TTFT_SCHED].p99_ms >= 900);
    assert_true(r.latency[RUN_E2EL_SCHED].p99_ms >= 900);
    assert_true(r.latency[RUN_TTFT].p50_ms < r.latency[RUN_TTFT_SCHED].p99_ms / 4);
    assert_true(r.latency[RUN_E2EL].p50_ms < r.latency[RUN_E2EL_SCHED].p99_ms / 4);
    assert_true(late_count(&shared, true) >= RATE / 2 - CONNECTIONS);
    assert_true(late_count(&shared, false) < RATE / 2 - CONNECTIONS);
    result_free(&r);
    load_shared_close(&shared);
}

/* ---- kept events ---- */

static void kept_events_are_those_of_the_records(void **state)
{
    (void)state;
    struct mock m;
    struct load_shared shared;
    uint32_t count[8] = {0};
    uint32_t empty = 0;
    mock_start(&m, (struct mock_options){.ttft_ns = MS, .itl_ns = MS, .empty_share = 0.3}, 0);
    struct load_options o = {
        .targets = {{.host = "127.0.0.1", .port = m.port}},
        .targets_count = 1,
        .model = "mock",
        .mode = LOAD_CLOSED,
        .users_count = 3,
        .requests_max = 8,
        .prompt_tokens = {.lo = 4, .hi = 4},
        .output_tokens = {.lo = 9, .hi = 9},
        .stream = 1,
        .window_ns = 60000 * MS,
        .batches_count = 1,
        .events_max = 1000,
    };
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    struct load_shared client;
    assert_int_equal(load_shared_open(dup(shared.fd), &client, NULL), STATUS_OK);
    assert_int_equal(load_run(&client.header->options, &client, NULL), STATUS_OK);
    load_shared_close(&client);
    mock_stop(&m);
    mock_forget(&m);
    for (uint64_t i = 0; i < load_get(&shared.header->events_count); i++) {
        const struct load_event *e = &shared.events[i];
        assert_true(e->number < 8);
        const struct load_record *r = &shared.records[e->number];
        if (e->tokens == 0) {
            empty++;
            continue;
        }
        assert_int_equal(e->tokens, 1);
        if (count[e->number]++ == 0) {
            assert_int_equal(e->at_ns, r->t_first_ns);
        }
        if (count[e->number] == 9) {
            assert_int_equal(e->at_ns, r->t_last_ns);
        }
    }
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(count[i], 9);
    }
    assert_true(empty > 0);
    assert_int_equal(load_get(&shared.header->events_lost_count), 0);
    load_shared_close(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stamps_are_those_of_a_bare_reader),
        cmocka_unit_test(a_stall_shows_on_the_clock_of_the_schedule),
        cmocka_unit_test(kept_events_are_those_of_the_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
