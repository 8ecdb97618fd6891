/*
 * random_driver_test.c - many random workloads against one engine core; every property is checked
 * inside the driver. Here: that all seeds hold, that the workloads reach the corners they are meant
 * to reach, that equal seeds repeat.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "sim/random_driver.h"

enum {
    SEEDS_COUNT = 3000
};

static const char *program; /* as it was called */

static void run_seed(uint64_t seed, struct random_driver_report *report)
{
    struct error error;
    if (random_driver_run(seed, report, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n%s\nreplay: HARNESS_DRIVER_SEED=%lu %s\n", error.text,
                      report->trace, (unsigned long)seed, program);
        fail_msg("%s", error.text);
    }
}

static void test_all_properties_hold_over_many_seeds(void **state)
{
    (void)state;
    static struct random_driver_report report;
    static struct random_driver_report sum;
    const char *first = getenv("HARNESS_DRIVER_SEED");
    const char *count = getenv("HARNESS_DRIVER_SEEDS");
    uint64_t seed = first != NULL ? strtoull(first, NULL, 10) : 0;
    uint64_t seeds = count != NULL ? strtoull(count, NULL, 10) : first != NULL ? 1 : SEEDS_COUNT;
    uint64_t end = seed + seeds;
    for (; seed < end; seed++) {
        run_seed(seed, &report);
        sum.steps_count += report.steps_count;
        sum.zero_token_steps_count += report.zero_token_steps_count;
        sum.tokens_count += report.tokens_count;
        sum.requests_count += report.requests_count;
        sum.aborted_count += report.aborted_count;
        sum.refused_count += report.refused_count;
        sum.preemptions_count += report.preemptions_count;
        sum.chunks_count += report.chunks_count;
        sum.hit_tokens_count += report.hit_tokens_count;
        sum.wasted_seqs_count += report.wasted_seqs_count;
        sum.overlapped_count += report.overlapped_count;
    }
    if (count == NULL && first == NULL) {
        /* A workload that reaches none of these proves nothing. */
        assert_true(sum.tokens_count > 10 * SEEDS_COUNT);
        assert_true(sum.aborted_count > SEEDS_COUNT);
        assert_true(sum.refused_count > SEEDS_COUNT / 10);
        assert_true(sum.preemptions_count > SEEDS_COUNT);
        assert_true(sum.chunks_count > SEEDS_COUNT);
        assert_true(sum.hit_tokens_count > 10 * SEEDS_COUNT);
        assert_true(sum.wasted_seqs_count > SEEDS_COUNT);
        assert_true(sum.overlapped_count > SEEDS_COUNT);
        assert_true(sum.zero_token_steps_count > SEEDS_COUNT);
    }
}

static void test_equal_seeds_repeat_event_for_event(void **state)
{
    (void)state;
    static struct random_driver_report a;
    static struct random_driver_report b;
    uint64_t last = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        run_seed(seed, &a);
        run_seed(seed, &b);
        assert_true(a.digest == b.digest && a.steps_count == b.steps_count);
        assert_true(a.digest != last);
        last = a.digest;
    }
}

int main(int argc, char **argv)
{
    program = argc > 0 ? argv[0] : "";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_properties_hold_over_many_seeds),
        cmocka_unit_test(test_equal_seeds_repeat_event_for_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
