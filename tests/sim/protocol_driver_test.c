/*
 * protocol_driver_test.c - many random topologies of the whole protocol; every invariant is checked
 * inside the driver. Here: that all seeds hold, that they reach the corners they are meant to
 * reach, that equal seeds repeat.
 *
 * HARNESS_PROTOCOL_SEEDS=n: how many seeds (3,000); HARNESS_PROTOCOL_SEED=n: only this one, or
 * where to begin if a count is given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "sim/protocol_driver.h"

enum {
    SEEDS_COUNT = 3000
};

static const char *program; /* as it was called */

static void run_seed(uint64_t seed, struct protocol_report *report)
{
    struct error error;
    if (protocol_driver_run(seed, report, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n%sreplay: HARNESS_PROTOCOL_SEED=%lu %s\n", error.text,
                      report->trace, (unsigned long)seed, program);
        fail_msg("%s", error.text);
    }
}

static void add(struct protocol_report *sum, const struct protocol_report *report)
{
    sum->events_count += report->events_count;
    sum->requests_count += report->requests_count;
    sum->tokens_count += report->tokens_count;
    sum->cancels_count += report->cancels_count;
    sum->strange_aborts_count += report->strange_aborts_count;
    sum->first_requests_count += report->first_requests_count;
    sum->stale_requests_count += report->stale_requests_count;
    sum->waves_count += report->waves_count;
    sum->forwards_count += report->forwards_count;
    sum->dummies_count += report->dummies_count;
    sum->checks_count += report->checks_count;
    sum->starts_count += report->starts_count;
    sum->publishes_count += report->publishes_count;
    sum->snapshots_count += report->snapshots_count;
    sum->pauses_count += report->pauses_count;
    sum->resumes_count += report->resumes_count;
    sum->quiet_count += report->quiet_count;
    sum->stalls_count += report->stalls_count;
    sum->refused_count += report->refused_count;
    sum->deaths_count += report->deaths_count;
    sum->errors_count += report->errors_count;
    for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
        sum->faults_count[k] += report->faults_count[k];
    }
}

static void print_sum(uint64_t seeds, const struct protocol_report *sum)
{
    (void)printf(
        "%lu seeds: %lu events, %lu requests, %lu tokens, %lu cancels, %lu forwards (%lu "
        "dummies), %lu checks, %lu waves, %lu starts, %lu first requests, %lu stale "
        "requests, %lu publishes (%lu snapshots), %lu pauses, %lu resumes, %lu stalls, %lu "
        "refused starts, %lu deaths, %lu requests that these ended\n",
        (unsigned long)seeds, (unsigned long)sum->events_count, (unsigned long)sum->requests_count,
        (unsigned long)sum->tokens_count, (unsigned long)sum->cancels_count,
        (unsigned long)sum->forwards_count, (unsigned long)sum->dummies_count,
        (unsigned long)sum->checks_count, (unsigned long)sum->waves_count,
        (unsigned long)sum->starts_count, (unsigned long)sum->first_requests_count,
        (unsigned long)sum->stale_requests_count, (unsigned long)sum->publishes_count,
        (unsigned long)sum->snapshots_count, (unsigned long)sum->pauses_count,
        (unsigned long)sum->resumes_count, (unsigned long)sum->stalls_count,
        (unsigned long)sum->refused_count, (unsigned long)sum->deaths_count,
        (unsigned long)sum->errors_count);
    for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
        (void)printf("  %s: %lu\n", protocol_fault_name((enum protocol_fault_kind)k),
                     (unsigned long)sum->faults_count[k]);
    }
}

/* A workload that reaches none of these proves nothing. */
static void check_corners(uint64_t seeds, const struct protocol_report *sum)
{
    assert_true(sum->requests_count > 5 * seeds);
    assert_true(sum->tokens_count > 10 * seeds);
    assert_true(sum->cancels_count > seeds / 4);
    assert_true(sum->strange_aborts_count > seeds / 4);
    assert_true(sum->first_requests_count > seeds);
    assert_true(sum->stale_requests_count > seeds / 4);
    assert_true(sum->waves_count > 2 * seeds);
    assert_true(sum->dummies_count > 20 * seeds);
    assert_true(sum->starts_count > 2 * seeds);
    assert_true(sum->snapshots_count > seeds / 2);
    assert_true(sum->pauses_count > seeds / 4);
    assert_true(sum->resumes_count > seeds / 4);
    assert_true(sum->stalls_count > seeds / 4);
    assert_true(sum->refused_count > seeds / 25);
    assert_true(sum->deaths_count > seeds / 25);
    assert_true(sum->errors_count > seeds / 40);
    for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
        assert_true(sum->faults_count[k] > seeds / 25);
    }
}

static void all_invariants_hold_over_many_seeds(void **state)
{
    (void)state;
    static struct protocol_report report;
    static struct protocol_report sum;
    const char *first = getenv("HARNESS_PROTOCOL_SEED");
    const char *count = getenv("HARNESS_PROTOCOL_SEEDS");
    uint64_t begin = first != NULL ? strtoull(first, NULL, 10) : 0;
    uint64_t seeds = count != NULL ? strtoull(count, NULL, 10) : first != NULL ? 1 : SEEDS_COUNT;
    for (uint64_t seed = begin; seed < begin + seeds; seed++) {
        run_seed(seed, &report);
        add(&sum, &report);
    }
    print_sum(seeds, &sum);
    if (seeds >= 1000) {
        check_corners(seeds, &sum);
    }
}

static void equal_seeds_repeat_event_for_event(void **state)
{
    (void)state;
    static struct protocol_report a;
    static struct protocol_report b;
    uint64_t last = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        run_seed(seed, &a);
        run_seed(seed, &b);
        assert_memory_equal(&a, &b, sizeof a);
        assert_true(a.digest != last);
        last = a.digest;
    }
}

int main(int argc, char **argv)
{
    program = argc > 0 ? argv[0] : "";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_invariants_hold_over_many_seeds),
        cmocka_unit_test(equal_seeds_repeat_event_for_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
