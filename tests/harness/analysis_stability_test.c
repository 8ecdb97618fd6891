/*
 * The stability test by simulation of a queue with 64 slots and a mean service time of 2 s: first
 * that the plain rules have the error rates published with the method, which shows that the queue
 * is the one they were found on; then that the test with three outcomes does better.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/analysis/stability.h"
#include "helper_queue.h"

enum {
    SLOTS = 64,
    BATCHES = 20,
    RUNS = 200,
    LOADS = 6,
};

static const struct queue queue = {.slots_count = SLOTS,
                                   .service_s = 2.0,
                                   .service_cv = 0.5,
                                   .warmup_s = 20.0,
                                   .batches_count = BATCHES};
static const double LOAD[LOADS] = {0.85, 0.95, 0.98, 1.02, 1.05, 1.10};

static void run_at(double load, double window_s, uint64_t seed,
                   struct stability_batch batches[BATCHES])
{
    queue_run(&queue, load * SLOTS / queue.service_s, window_s, seed, batches);
}

/* Shares of runs that each rule calls saturated, and that the test calls stable. */
struct shares {
    double ratio_98;
    double ratio_95;
    double slope;
    double saturated;
    double stable;
};

static struct shares measure(double load, double window_s, uint32_t look)
{
    struct shares s = {0};
    for (uint64_t seed = 0; seed < RUNS; seed++) {
        struct stability_batch batches[BATCHES];
        struct stability judged;
        run_at(load, window_s, seed, batches);
        stability_judge(batches, BATCHES, look, &judged);
        s.ratio_98 += judged.ratio < 0.98;
        s.ratio_95 += judged.ratio < 0.95;
        s.slope += judged.slope_p < 0.05;
        s.saturated += judged.outcome == STABILITY_SATURATED;
        s.stable += judged.outcome == STABILITY_STABLE;
    }
    s.ratio_98 /= RUNS;
    s.ratio_95 /= RUNS;
    s.slope /= RUNS;
    s.saturated /= RUNS;
    s.stable /= RUNS;
    return s;
}

/* Four standard errors of RUNS draws here and 100 there, and what rounding may hide. */
static void agree(const char *rule, double load, double got, double want)
{
    double p = (got + want) / 2.0;
    double tolerance = 4.0 * sqrt(p * (1.0 - p) * (1.0 / RUNS + 1.0 / 100.0)) + 0.015;
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s at %.2f: %.3f, published %.2f", rule, load, got, want);
    }
}

static void test_plain_rules_err_as_published(void **state)
{
    (void)state;
    static const double ratio_30[LOADS] = {.06, .20, .20, .56, .81, .98};
    static const double ratio_60[LOADS] = {.00, .02, .14, .56, .86, 1.0};
    static const double low_60[LOADS] = {.00, .00, .01, .10, .45, .96};
    static const double slope_60[LOADS] = {.00, .00, .02, .17, .52, .97};
    static const double ratio_120[LOADS] = {.00, .00, .03, .59, .95, 1.0};
    static const double slope_120[LOADS] = {.00, .00, .00, .29, .84, 1.0};
    for (int i = 0; i < LOADS; i++) {
        agree("30 s < 0.98", LOAD[i], measure(LOAD[i], 30, 0).ratio_98, ratio_30[i]);
        struct shares s = measure(LOAD[i], 60, 0);
        agree("60 s < 0.98", LOAD[i], s.ratio_98, ratio_60[i]);
        agree("60 s < 0.95", LOAD[i], s.ratio_95, low_60[i]);
        agree("60 s slope", LOAD[i], s.slope, slope_60[i]);
        s = measure(LOAD[i], 120, 0);
        agree("120 s < 0.98", LOAD[i], s.ratio_98, ratio_120[i]);
        agree("120 s slope", LOAD[i], s.slope, slope_120[i]);
    }
}

/* Doubling on "undecided", as the search does. */
static enum stability_outcome judge_with_looks(double load, uint64_t seed)
{
    struct stability judged = {0};
    for (uint32_t look = 0; look < STABILITY_LOOKS; look++) {
        struct stability_batch batches[BATCHES];
        run_at(load, 60.0 * (double)(1U << look), seed, batches);
        stability_judge(batches, BATCHES, look, &judged);
        if (judged.outcome != STABILITY_UNDECIDED) {
            break;
        }
    }
    return judged.outcome;
}

static void test_three_outcomes_are_seldom_wrong(void **state)
{
    (void)state;
    for (int i = 0; i < LOADS; i++) {
        int wrong = 0;
        int right = 0;
        for (uint64_t seed = 1000; seed < 1000 + RUNS / 3; seed++) {
            enum stability_outcome outcome = judge_with_looks(LOAD[i], seed);
            bool saturated = outcome == STABILITY_SATURATED;
            bool stable = outcome == STABILITY_STABLE;
            wrong += LOAD[i] < 1 ? saturated : stable && LOAD[i] > 1.03;
            right += LOAD[i] < 1 ? stable : saturated;
        }
        if (wrong > RUNS / 3 * 8 / 100) {
            fail_msg("load %.2f: %d of %d wrong", LOAD[i], wrong, RUNS / 3);
        }
        if ((LOAD[i] < 0.96 || LOAD[i] > 1.03) && right < RUNS / 3 * 85 / 100) {
            fail_msg("load %.2f: only %d of %d decided rightly", LOAD[i], right, RUNS / 3);
        }
    }
}

static void test_edges(void **state)
{
    (void)state;
    struct stability judged;
    struct stability_batch none[4] = {{0, 0}, {0, 0}, {0, 0}, {0, 0}};
    stability_judge(none, 4, 0, &judged);
    assert_int_equal(judged.outcome, STABILITY_UNDECIDED);
    assert_true(isnan(judged.ratio));
    struct stability_batch even[4] = {{5, 5}, {5, 5}, {5, 5}, {5, 5}};
    stability_judge(even, 4, 0, &judged);
    assert_int_equal(judged.outcome, STABILITY_STABLE);
    stability_judge(even, 2, 0, &judged);
    assert_int_equal(judged.outcome, STABILITY_UNDECIDED);
    struct stability_batch growing[4] = {{6, 5}, {6, 5}, {6, 5}, {6, 5}};
    stability_judge(growing, 4, 0, &judged);
    assert_int_equal(judged.outcome, STABILITY_SATURATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_rules_err_as_published),
        cmocka_unit_test(test_three_outcomes_are_seldom_wrong),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
