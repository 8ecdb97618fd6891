/*
 * The probe on a ledger that the test itself writes: what comes out must be what went in, divided
 * by the time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/probe/probe.h"

static void close_to(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * (1.0 + fabs(want)))) {
        fail_msg("got %.12g, want %.12g", got, want);
    }
}

static struct ledger make(uint32_t a, uint32_t d)
{
    struct topology t = {.api_servers_count = a, .engines_count = d, .tp = 1, .pp = 1};
    struct ledger l;
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    return l;
}

/* Every counter of a slot, as the test sees it: all 64-bit words from the first to the last. */
static uint64_t *words(struct ledger_thread *t, size_t *count)
{
    size_t first = offsetof(struct ledger_thread, started_ns);
    *count = (offsetof(struct ledger_thread, gaps) + sizeof t->gaps - first) / sizeof(uint64_t);
    void *at = (unsigned char *)t + first;
    return at;
}

static void a_snapshot_is_a_complete_copy(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    struct probe_snapshot s;
    assert_int_equal(probe_snapshot(&l, &s, NULL), STATUS_OK);
    assert_int_equal(s.threads_count, 0);
    probe_snapshot_free(&s);
    struct ledger_thread *t = ledger_thread_claim(&l, THREAD_WORKER_MAIN, 3, 1);
    size_t count;
    uint64_t *from = words(t, &count);
    assert_true(count > 35);
    for (size_t i = 0; i < count; i++) {
        from[i] = 1000 + i;
    }
    assert_int_equal(probe_snapshot(&l, &s, NULL), STATUS_OK);
    from[5] = 0;
    assert_int_equal(s.threads_count, 1);
    uint64_t *to = words(&s.threads[0], &count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(to[i], 1000 + i);
    }
    assert_int_equal(s.threads[0].kind, THREAD_WORKER_MAIN);
    assert_int_equal(s.threads[0].instance, 3);
    assert_int_equal(s.threads[0].sub, 1);
    assert_int_equal(s.threads[0].tid, t->tid);
    probe_snapshot_free(&s);
    ledger_close(&l);
}

static void rates_are_growth_over_time(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    struct ledger_thread *t = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, 0, 0);
    ledger_add(&t->steps_count, 100);
    ledger_add(&t->busy_ns, 77);
    struct probe_snapshot a;
    struct probe_snapshot b;
    assert_int_equal(probe_snapshot(&l, &a, NULL), STATUS_OK);
    ledger_add(&t->busy_ns, 1500000000);
    ledger_add(&t->occupancy_ns, 500000000);
    ledger_add(&t->cpu_ns, 250000000);
    ledger_add(&t->steps_count, 10);
    ledger_add(&t->step_seqs, 295);
    ledger_add(&t->step_ns, 20000000);
    ledger_add(&t->output_tokens, 4000);
    ledger_add(&t->launches_count[LAUNCH_CLASS_KERNEL], 1000);
    ledger_add(&t->launch_ns[LAUNCH_CLASS_KERNEL], 2000000);
    ledger_add(&t->launches_count[LAUNCH_CLASS_SYNC], 10);
    ledger_add(&t->launch_ns[LAUNCH_CLASS_SYNC], 1000000000);
    ledger_add(&t->gpu_busy_ns, 1000000000);
    ledger_add(&t->gpu_idle_ns, 200000000);
    ledger_set(&t->queue_max, 12);
    assert_int_equal(probe_snapshot(&l, &b, NULL), STATUS_OK);
    b.at_ns = a.at_ns + 2000000000;
    struct probe_rates r;
    assert_true(probe_diff(&a, &b, 0, &r));
    assert_int_equal(r.kind, THREAD_ENGINE_MAIN);
    assert_string_equal(r.stage, "scheduler");
    assert_true(r.live);
    close_to(r.wall_s, 2.0);
    close_to(r.busy_frac, 0.75);
    close_to(r.occupancy_frac, 0.25);
    close_to(r.cpu_frac, 0.125);
    close_to(r.steps_per_s, 5.0);
    close_to(r.batch_mean, 29.5);
    close_to(r.step_mean_us, 2000.0);
    close_to(r.output_tokens_per_s, 2000.0);
    close_to(r.launches_per_s[LAUNCH_CLASS_KERNEL], 500.0);
    close_to(r.launch_mean_us[LAUNCH_CLASS_KERNEL], 2.0);
    assert_true(isnan(r.launch_mean_us[LAUNCH_CLASS_GRAPH]));
    close_to(r.launch_frac, 0.001); /* waiting in a sync is no launching */
    close_to(r.gpu_busy_frac, 0.5);
    close_to(r.gpu_idle_frac, 0.1);
    assert_int_equal(r.queue_max, 12);
    assert_int_equal(r.output_tokens, 4000);
    assert_false(probe_diff(&b, &b, 0, &r)); /* no time passed */
    assert_false(probe_diff(&a, &b, 1, &r)); /* no such slot */
    probe_snapshot_free(&a);
    probe_snapshot_free(&b);
    ledger_close(&l);
}

/* Times of 1 .. 1000 ms in one window, after others that are no part of it. */
static void times_are_those_of_the_window(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    struct ledger_thread *t = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, 0, 0);
    struct probe_snapshot a;
    struct probe_snapshot b;
    struct probe_rates r;
    for (int i = 0; i < 5000; i++) {
        ledger_histogram_add(&t->steps, 17);
        ledger_histogram_add(&t->waits, 17);
    }
    assert_int_equal(probe_snapshot(&l, &a, NULL), STATUS_OK);
    for (int64_t ms = 1; ms <= 1000; ms++) {
        ledger_histogram_add(&t->steps, ms * 1000000);
        ledger_histogram_add(&t->launches, ms * 1000);
    }
    for (int64_t ms = 1; ms <= 298; ms++) {
        ledger_histogram_add(&t->waits, ms * 1000000);
    }
    for (int i = 0; i < 4; i++) {
        ledger_histogram_add(&t->gaps, 1000000);
    }
    ledger_add(&t->queue_length_ns, 7000000000);
    ledger_add(&t->lock_held_ns, 500000000);
    ledger_add(&t->lock_wait_ns, 3000000000);
    assert_int_equal(probe_snapshot(&l, &b, NULL), STATUS_OK);
    b.at_ns = a.at_ns + 2000000000;
    assert_true(probe_diff(&a, &b, 0, &r));
    assert_true(fabs(r.step_p50_us - 500e3) <= 0.0625 * 500e3);
    assert_true(fabs(r.step_p99_us - 990e3) <= 0.0625 * 990e3);
    assert_true(fabs(r.launch_p50_us - 500) <= 0.0625 * 500);
    assert_true(fabs(r.launch_p99_us - 990) <= 0.0625 * 990);
    assert_true(fabs(r.wait_p50_us - 149e3) <= 0.0625 * 149e3);
    assert_true(isnan(r.wait_p99_us)); /* of 299 samples on it has an upper bound */
    assert_true(isnan(r.gpu_gap_p50_us));
    close_to(r.queue_mean, 3.5);
    close_to(r.lock_held_frac, 0.25);
    close_to(r.lock_wait_frac, 1.5); /* of more than one thread, if the test wants it */
    ledger_histogram_add(&t->waits, 299000000);
    ledger_histogram_add(&t->gaps, 1000000);
    probe_snapshot_free(&b);
    assert_int_equal(probe_snapshot(&l, &b, NULL), STATUS_OK);
    assert_true(probe_diff(&a, &b, 0, &r));
    assert_true(fabs(r.wait_p99_us - 297e3) <= 0.0625 * 297e3);
    assert_true(fabs(r.gpu_gap_p50_us - 1e3) <= 0.0625 * 1e3);
    probe_snapshot_free(&a);
    probe_snapshot_free(&b);
    ledger_close(&l);
}

static void a_thread_that_came_later_counts_from_its_start(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    struct probe_snapshot a;
    struct probe_snapshot b;
    assert_int_equal(probe_snapshot(&l, &a, NULL), STATUS_OK);
    struct ledger_thread *t = ledger_thread_claim(&l, THREAD_API_MAIN, 0, 0);
    ledger_set(&t->started_ns, (uint64_t)a.at_ns + 1000000000);
    ledger_add(&t->busy_ns, 500000000);
    ledger_thread_end(t);
    assert_int_equal(probe_snapshot(&l, &b, NULL), STATUS_OK);
    b.at_ns = a.at_ns + 2000000000;
    struct probe_rates r;
    assert_true(probe_diff(&a, &b, 0, &r));
    close_to(r.wall_s, 1.0);
    close_to(r.busy_frac, 0.5);
    assert_false(r.live);
    probe_snapshot_free(&a);
    probe_snapshot_free(&b);
    ledger_close(&l);
}

static void a_slot_being_claimed_is_left_out(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    struct ledger_thread *t = ledger_thread_claim(&l, THREAD_API_MAIN, 0, 0);
    atomic_store(&t->state, LEDGER_THREAD_FREE);
    struct probe_snapshot s;
    assert_int_equal(probe_snapshot(&l, &s, NULL), STATUS_OK);
    struct probe_snapshot before = {0};
    struct probe_rates r;
    assert_false(probe_diff(&before, &s, 0, &r));
    probe_snapshot_free(&s);
    ledger_close(&l);
}

static void requests_are_joined_by_number(void **state)
{
    (void)state;
    struct ledger l = make(2, 3);
    /* Client numbers scattered over both servers; every fifth request came without one. */
    for (uint64_t i = 0; i < 1000; i++) {
        uint32_t serial = ledger_record_begin(&l, i % 2, i / 2);
        struct ledger_record *r = &l.records[serial];
        r->engine = (uint32_t)(i % 3);
        r->prompt_tokens = (uint32_t)i;
        r->output_tokens = (uint32_t)(2 * i);
        r->finish = 2;
        ledger_stamp(r, HOP_API_RECEIVED, 1000 + (int64_t)i);
        uint64_t number = (i * 337) % 1000;
        atomic_store(&r->client_number, i % 5 == 0 ? 0 : number + 1);
    }
    struct probe_requests rows;
    assert_int_equal(probe_requests_read(&l, &rows, NULL), STATUS_OK);
    assert_int_equal(rows.count, 800);
    assert_int_equal(rows.begun_count, 1000);
    assert_int_equal(rows.lost_count, 0);
    for (uint64_t i = 0; i < 1000; i++) {
        const struct probe_request *r = probe_requests_find(&rows, (i * 337) % 1000);
        if (i % 5 == 0) {
            assert_null(r);
            continue;
        }
        assert_non_null(r);
        assert_int_equal(r->api_server, i % 2);
        assert_int_equal(r->engine, i % 3);
        assert_int_equal(r->prompt_tokens, i);
        assert_int_equal(r->output_tokens, 2 * i);
        assert_int_equal(r->hop_ns[HOP_API_RECEIVED], 1000 + i);
        assert_int_equal(r->hop_ns[HOP_API_SENT], 0);
    }
    assert_null(probe_requests_find(&rows, 1000));
    probe_requests_free(&rows);
    ledger_close(&l);
}

static void an_overrun_ring_says_what_it_lost(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    enum {
        BEGUN = LEDGER_RECORDS_PER_API_SERVER + 10
    };
    for (uint64_t i = 0; i < BEGUN; i++) {
        struct ledger_record *record = ledger_record_of_serial(&l, ledger_record_begin(&l, 0, i));
        assert_non_null(record);
        atomic_store(&record->client_number, i + 1);
    }
    struct probe_requests rows;
    assert_int_equal(probe_requests_read(&l, &rows, NULL), STATUS_OK);
    assert_int_equal(rows.count, LEDGER_RECORDS_PER_API_SERVER);
    assert_int_equal(rows.begun_count, BEGUN);
    assert_int_equal(rows.lost_count, 10);
    assert_null(probe_requests_find(&rows, 9));
    assert_non_null(probe_requests_find(&rows, 10));
    probe_requests_free(&rows);
    ledger_close(&l);
}

static double sum_of(const struct probe_parts *parts, const enum probe_part *which, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += parts->us[which[i]];
    }
    return sum;
}

/* The hops add up to what the client saw, whatever the stamps are. */
static void hops_add_up_to_the_clients_times(void **state)
{
    (void)state;
    static const enum probe_part TTFT[] = {PROBE_PART_NET_IN,        PROBE_PART_API_IN,
                                           PROBE_PART_IPC_IN,        PROBE_PART_QUEUE,
                                           PROBE_PART_PREFILL,       PROBE_PART_FIRST_IPC_OUT,
                                           PROBE_PART_FIRST_API_OUT, PROBE_PART_FIRST_NET_OUT};
    static const enum probe_part E2E[] = {
        PROBE_PART_NET_IN,       PROBE_PART_API_IN,       PROBE_PART_IPC_IN,
        PROBE_PART_QUEUE,        PROBE_PART_PREFILL,      PROBE_PART_DECODE,
        PROBE_PART_LAST_IPC_OUT, PROBE_PART_LAST_API_OUT, PROBE_PART_LAST_NET_OUT};
    struct random random = random_stream(5, "hops", 0);
    for (int trial = 0; trial < 200; trial++) {
        struct probe_request r = {0};
        int64_t sent = 1000000000;
        int64_t now = sent;
        for (int hop = 0; hop <= HOP_API_FIRST_WRITE; hop++) {
            now += random_range(&random, -1000, 5000000);
            r.hop_ns[hop] = now;
        }
        int64_t first = now + random_range(&random, 1, 100000);
        now = r.hop_ns[HOP_ENGINE_FIRST_TOKEN] + random_range(&random, 1, 100000000);
        for (int hop = HOP_ENGINE_LAST_TOKEN; hop < HOPS_COUNT; hop++) {
            r.hop_ns[hop] = now;
            now += random_range(&random, 1, 100000);
        }
        struct probe_parts parts;
        probe_request_parts(&r, sent, first, now, &parts);
        assert_true(fabs(sum_of(&parts, TTFT, 8) - (double)(first - sent) / 1e3) < 1e-6);
        assert_true(fabs(sum_of(&parts, E2E, 9) - (double)(now - sent) / 1e3) < 1e-6);
    }
}

static void a_missing_stamp_is_unknown_not_zero(void **state)
{
    (void)state;
    struct probe_request r = {0};
    for (int hop = 0; hop < HOPS_COUNT; hop++) {
        r.hop_ns[hop] = 1000 * (hop + 1);
    }
    r.hop_ns[HOP_ENGINE_SCHEDULED] = 0;
    struct probe_parts parts;
    probe_request_parts(&r, 500, 9000, 0, &parts);
    assert_true(isnan(parts.us[PROBE_PART_QUEUE]) && isnan(parts.us[PROBE_PART_PREFILL]));
    assert_true(isnan(parts.us[PROBE_PART_LAST_NET_OUT]));
    close_to(parts.us[PROBE_PART_NET_IN], 0.5);
    close_to(parts.us[PROBE_PART_IPC_IN], 1.0);
    for (int part = 0; part < PROBE_PARTS_COUNT; part++) {
        assert_true(strlen(probe_part_name((enum probe_part)part)) > 0);
    }
    assert_string_equal(probe_part_name(PROBE_PART_DECODE), "decode");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_is_a_complete_copy),
        cmocka_unit_test(rates_are_growth_over_time),
        cmocka_unit_test(times_are_those_of_the_window),
        cmocka_unit_test(a_thread_that_came_later_counts_from_its_start),
        cmocka_unit_test(a_slot_being_claimed_is_left_out),
        cmocka_unit_test(requests_are_joined_by_number),
        cmocka_unit_test(an_overrun_ring_says_what_it_lost),
        cmocka_unit_test(hops_add_up_to_the_clients_times),
        cmocka_unit_test(a_missing_stamp_is_unknown_not_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
