/*
 * live_test.c - what is said of a load client while it works, from a region with known requests:
 * rates over the time since the last look, tails of the newest 1,000 requests by nearest rank, none
 * of too few, and what a closed loop does not have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness/run/live.h"

#define SECOND INT64_C(1000000000)
#define MS     INT64_C(1000000)

enum {
    RECORDS = 4096
};

/* As much of a region as is read. */
static struct load_shared make_region(enum load_mode mode)
{
    struct load_shared shared = {.header = calloc(1, sizeof *shared.header),
                                 .records = calloc(RECORDS, sizeof *shared.records)};
    assert_non_null(shared.header);
    assert_non_null(shared.records);
    shared.header->options.mode = mode;
    shared.header->start_ns = SECOND;
    return shared;
}

static void free_region(struct load_shared *s)
{
    free(s->header);
    free(s->records);
}

/* Request i was due at i ms, sent `lag` later and answered `first` after that. */
static void add(struct load_shared *s, int64_t lag_ns, int64_t first_ns)
{
    uint64_t i = load_get(&s->header->offered_count);
    struct load_record *r = &s->records[i];
    r->t_sched_ns = SECOND + (int64_t)i * MS;
    r->t_sent_ns = r->t_sched_ns + lag_ns;
    r->t_first_ns = first_ns > 0 ? r->t_sent_ns + first_ns : 0;
    load_add(&s->header->offered_count, 1);
}

static void rates_and_tails_are_those_of_the_newest(void **unused)
{
    struct load_shared s = make_region(LOAD_OPEN_POISSON);
    struct live live;
    (void)unused;
    live_begin(&live, getpid(), 5 * SECOND);
    for (int64_t i = 0; i < 500; i++) { /* of long ago */
        add(&s, SECOND, 100 * SECOND);
    }
    for (int64_t i = 1; i <= 1000; i++) {
        add(&s, i * MS / 1000, i * MS);
    }
    for (int64_t i = 1; i <= 1000; i++) { /* they wait */
        add(&s, i * MS / 100, 0);
    }
    live_look(&live, &s, 700, 5 * SECOND + SECOND / 2);
    assert_true(isnan(live.seen.offered_per_s)); /* too early */
    s.header->start_ns = 0;
    live_look(&live, &s, 0, 6 * SECOND); /* it connects: that time does not count */
    s.header->start_ns = SECOND;
    live_look(&live, &s, 700, 8 * SECOND);
    assert_true(fabs(live.seen.offered_per_s - 1250) < 1e-9); /* 2,500 in 2 s */
    assert_true(fabs(live.seen.done_per_s - 350) < 1e-9);
    assert_true(fabs(live.seen.ttft_p99_ms - 990) < 1e-9); /* the 990th of 1,000 */
    assert_true(fabs(live.seen.lag_p99_ms - 9.9) < 1e-9);
    assert_true(live.seen.cpu_frac >= 0 && live.seen.cpu_frac < 1);
    live_look(&live, &s, 700, 10 * SECOND);
    assert_true(!(live.seen.offered_per_s > 0) && !(live.seen.done_per_s > 0));
    free_region(&s);
}

static void few_requests_have_no_tail(void **unused)
{
    struct load_shared s = make_region(LOAD_OPEN_CONSTANT);
    struct live live;
    (void)unused;
    live_begin(&live, getpid(), 0);
    for (int64_t i = 1; i <= 298; i++) {
        add(&s, MS, i * MS);
    }
    live_look(&live, &s, 0, SECOND);
    assert_true(isnan(live.seen.ttft_p99_ms) && isnan(live.seen.lag_p99_ms));
    add(&s, MS, 299 * MS);
    live_look(&live, &s, 0, 2 * SECOND);
    assert_true(fabs(live.seen.ttft_p99_ms - 297) < 1e-9); /* rank 296.01, rounded up */
    assert_true(fabs(live.seen.lag_p99_ms - 1) < 1e-9);
    free_region(&s);
}

static void a_closed_loop_offers_nothing_and_is_never_late(void **unused)
{
    struct load_shared s = make_region(LOAD_CLOSED);
    struct live live;
    (void)unused;
    live_begin(&live, getpid(), 0);
    for (int64_t i = 0; i < 400; i++) {
        add(&s, MS, 20 * MS);
    }
    live_look(&live, &s, 300, SECOND);
    assert_true(isnan(live.seen.offered_per_s) && isnan(live.seen.lag_p99_ms));
    assert_true(fabs(live.seen.done_per_s - 300) < 1e-9);
    assert_true(fabs(live.seen.ttft_p99_ms - 20) < 1e-9);
    free_region(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_and_tails_are_those_of_the_newest),
        cmocka_unit_test(few_requests_have_no_tail),
        cmocka_unit_test(a_closed_loop_offers_nothing_and_is_never_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
