/*
 * The gate's tests against brute force over all sign patterns and all splits, its bounds against
 * the tests, and its verdicts against published error rates by simulation.
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
#include "harness/analysis/gate.h"
#include "harness/analysis/stats.h"

enum {
    TRIALS = 4000,
};

static void close_to(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("got %.10g, want %.10g +- %g", got, want, tolerance);
    }
}

/* Sum of the ranks of |d| over positive d. */
static uint32_t rank_sum(const double *d, uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < count && d[i] > 0; j++) {
            sum += fabs(d[j]) <= fabs(d[i]);
        }
    }
    return sum;
}

static double plain_sum(const double *d, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += d[i];
    }
    return sum;
}

static void flip(const double *d, uint32_t count, uint32_t pattern, double *out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = (pattern >> i & 1U) != 0 ? -fabs(d[i]) : fabs(d[i]);
    }
}

static void paired_tests_count_all_sign_patterns(void **state)
{
    (void)state;
    struct random r = random_stream(7, "gate", 0);
    for (uint32_t count = 1; count <= 9; count++) {
        double d[9];
        double other[9];
        for (uint32_t i = 0; i < count; i++) {
            d[i] = random_normal(&r) + 0.5;
        }
        uint32_t ranks_reached = 0;
        uint32_t sums_reached = 0;
        for (uint32_t pattern = 0; pattern < 1U << count; pattern++) {
            flip(d, count, pattern, other);
            ranks_reached += rank_sum(other, count) >= rank_sum(d, count);
            sums_reached += plain_sum(other, count) >= plain_sum(d, count) - 1e-12;
        }
        close_to(gate_signed_rank_p(d, count), ldexp(ranks_reached, -(int)count), 1e-14);
        close_to(gate_sign_flip_p(d, count), ldexp(sums_reached, -(int)count), 1e-14);
    }
}

/* Published critical values of signed ranks. */
static void critical_values_match_the_tables(void **state)
{
    (void)state;
    static const struct {
        uint32_t count;
        double alpha;
        uint32_t cut; /* the largest rank sum that is still significant, one-sided */
    } TABLE[] = {{5, 0.05, 0},   {6, 0.05, 2},   {7, 0.05, 3},   {8, 0.05, 5},
                 {9, 0.05, 8},   {10, 0.05, 10}, {20, 0.05, 60}, {6, 0.025, 0},
                 {10, 0.025, 8}, {10, 0.01, 5},  {25, 0.05, 100}};
    for (size_t i = 0; i < sizeof TABLE / sizeof TABLE[0]; i++) {
        /* Differences 1, 2, 4 ...: the averages are in a known order, so the bound names its rank.
         */
        double d[32];
        double averages[32 * 33 / 2];
        uint32_t used = 0;
        for (uint32_t k = 0; k < TABLE[i].count; k++) {
            d[k] = ldexp(1, (int)k);
        }
        for (uint32_t k = 0; k < TABLE[i].count; k++) { /* ascending within one k, and over all k */
            for (uint32_t j = 0; j <= k; j++) {
                averages[used++] = 0.5 * (d[k] + d[j]);
            }
        }
        struct gate_bounds b = gate_centre_bounds(d, TABLE[i].count, TABLE[i].alpha);
        close_to(b.lo, averages[TABLE[i].cut], 0);
        close_to(b.hi, averages[used - 1 - TABLE[i].cut], 0);
    }
}

static void bounds_exclude_zero_exactly_when_the_test_rejects(void **state)
{
    (void)state;
    struct random r = random_stream(7, "gate bounds", 0);
    uint32_t rejected = 0;
    for (uint32_t trial = 0; trial < 2000; trial++) {
        double d[12];
        double base[8];
        uint32_t count = 3 + trial % 10;
        for (uint32_t i = 0; i < count; i++) {
            d[i] = random_normal(&r) + 0.6;
        }
        for (uint32_t i = 0; i < 8; i++) {
            base[i] = random_normal(&r);
        }
        struct gate_bounds b = gate_centre_bounds(d, count, 0.05);
        assert_int_equal(b.lo > 0, gate_signed_rank_p(d, count) <= 0.05);
        struct gate_samples s = {base, 2 + trial % 7, d, count};
        b = gate_shift_bounds(&s, 0.05);
        assert_int_equal(b.lo > 0, gate_mann_whitney_p(&s) <= 0.05);
        rejected += b.lo > 0;
    }
    assert_in_range(rejected, 200, 1800);
}

static void two_samples_count_all_splits(void **state)
{
    (void)state;
    struct random r = random_stream(7, "gate splits", 0);
    for (uint32_t m = 1; m <= 5; m++) {
        for (uint32_t n = 1; n <= 5; n++) {
            double all[10];
            for (uint32_t i = 0; i < m + n; i++) {
                all[i] = random_normal(&r);
            }
            struct gate_samples seen = {all, m, all + m, n};
            uint32_t seen_wins = 0;
            for (uint32_t i = 0; i < m * n; i++) {
                seen_wins += all[m + i % n] > all[i / n];
            }
            uint32_t splits = 0;
            uint32_t reached = 0;
            for (uint32_t pattern = 0; pattern < 1U << (m + n); pattern++) {
                if (__builtin_popcount(pattern) != (int)n) {
                    continue;
                }
                uint32_t wins = 0;
                for (uint32_t i = 0; i < m + n; i++) {
                    for (uint32_t j = 0; j < m + n; j++) {
                        wins +=
                            (pattern >> i & 1U) == 0 && (pattern >> j & 1U) != 0 && all[j] > all[i];
                    }
                }
                splits++;
                reached += wins >= seen_wins;
            }
            close_to(gate_mann_whitney_p(&seen), (double)reached / splits, 1e-14);
        }
    }
}

/* Of the largest sizes the distribution still sums to 1 and is symmetric: no count wrapped. */
static void the_largest_samples_are_exact(void **state)
{
    (void)state;
    double low[GATE_RUNS_MAX];
    double high[GATE_RUNS_MAX];
    for (uint32_t i = 0; i < GATE_RUNS_MAX; i++) {
        low[i] = i;
        high[i] = 100.0 + i;
    }
    struct gate_samples s = {low, GATE_RUNS_MAX, high, GATE_RUNS_MAX};
    struct gate_samples back = {high, GATE_RUNS_MAX, low, GATE_RUNS_MAX};
    close_to(gate_mann_whitney_p(&s) * 1.832624140942590534e18, 1, 1e-9); /* 64 choose 32 */
    close_to(gate_mann_whitney_p(&back), 1, 0);
    close_to(gate_signed_rank_p(high, GATE_RUNS_MAX), ldexp(1, -GATE_RUNS_MAX), 0);
}

static void estimates_are_medians_of_averages(void **state)
{
    (void)state;
    /* Averages of 1, 2, 9: 1 1.5 2 5 5.5 9. Shifts of {1, 4} and {3, 5, 20}: -1 1 2 4 16 19. */
    const double d[] = {9, 1, 2};
    const double base[] = {4, 1};
    const double changed[] = {20, 3, 5};
    struct gate_samples s = {base, 2, changed, 3};
    close_to(gate_centre(d, 3), 3.5, 0);
    close_to(gate_shift(&s), 3, 0);
    assert_true(isnan(gate_centre(d, 0)));
}

static void fewer_than_five_pairs_have_no_bound(void **state)
{
    (void)state;
    const double d[] = {1, 2, 3, 4, 5};
    for (uint32_t count = 0; count <= 4; count++) {
        struct gate_bounds b = gate_centre_bounds(d, count, 0.05);
        assert_true(isnan(b.lo) && isnan(b.hi));
    }
    struct gate_bounds b = gate_centre_bounds(d, 5, 0.05);
    close_to(b.lo, 1, 0);
    close_to(b.hi, 5, 0);
    assert_true(isnan(gate_centre_bounds(d, 5, 0.025).lo)); /* two-sided it takes 6 */
    struct gate_rule rule = {.alpha = 0.05, .looks_count = 1};
    assert_int_equal(gate_pairs_needed(&rule, 1), 5);
    assert_int_equal(gate_pairs_needed(&rule, 3), 6); /* 3 / 64 < 0.05 < 3 / 32 */
    rule.looks_count = 2;
    assert_int_equal(gate_pairs_needed(&rule, 1), 6);
}

static void fisher_counts_all_ways_to_fail(void **state)
{
    (void)state;
    /* The lady who tasted tea: 3 or 4 of 4 right, (16 + 1) / 70. */
    const struct gate_failures tea = {1, 4, 3, 4};
    const struct gate_failures none = {0, 50, 0, 50};
    const struct gate_failures all = {0, 3, 3, 3};
    close_to(gate_fisher_p(&tea), 17.0 / 70, 1e-12);
    close_to(gate_fisher_p(&none), 1, 1e-12);
    close_to(gate_fisher_p(&all), 1.0 / 20, 1e-12);
}

static void holm_steps_down(void **state)
{
    (void)state;
    /* Sorted .005 .01 .03 .04: times 4, 3, 2, 1 and never below the one before. */
    const double p[] = {0.01, 0.04, STATS_UNKNOWN, 0.03, 0.005};
    const double want[] = {0.03, 0.06, STATS_UNKNOWN, 0.06, 0.02};
    double got[5];
    gate_holm(p, 5, got);
    for (size_t i = 0; i < 5; i++) {
        if (isnan(want[i])) {
            assert_true(isnan(got[i]));
        } else {
            close_to(got[i], want[i], 1e-15);
        }
    }
    const double equal[] = {0.02, 0.02};
    gate_holm(equal, 2, got);
    close_to(got[0], 0.04, 1e-15);
    close_to(got[1], 0.04, 1e-15);
}

/* ---- verdicts ---- */

struct world {
    uint32_t pairs;
    double cv;
    double worse_frac; /* true change of the throughput */
    double drift;      /* of the host between pairs: a standard deviation */
    bool paired;
};

struct shares {
    double regression;
    double ok;
    double improvement;
};

static const struct gate_rule throughput = {
    .higher_is_better = true, .tolerance_frac = 0.03, .alpha = 0.05, .looks_count = 1};

static struct shares simulate(const struct world *w, uint64_t stream)
{
    struct random r = random_stream(11, "gate verdicts", stream);
    struct shares s = {0};
    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        double base[GATE_RUNS_MAX];
        double changed[GATE_RUNS_MAX];
        struct gate_effect e;
        for (uint32_t i = 0; i < w->pairs; i++) {
            double host = 1 + w->drift * random_normal(&r);
            base[i] = 100 * host * (1 + w->cv * random_normal(&r));
            changed[i] = 100 * host * (1 - w->worse_frac) * (1 + w->cv * random_normal(&r));
        }
        struct gate_samples samples = {base, w->pairs, changed, w->pairs};
        if (w->paired) {
            gate_compare_pairs(base, changed, w->pairs, &throughput, &e);
        } else {
            gate_compare_unpaired(&samples, &throughput, &e);
        }
        enum gate_verdict v = gate_judge(&e, &throughput, e.p_worse, e.p_better);
        s.regression += v == GATE_REGRESSION;
        s.ok += v == GATE_OK;
        s.improvement += v == GATE_IMPROVEMENT;
    }
    s.regression /= TRIALS;
    s.ok /= TRIALS;
    s.improvement /= TRIALS;
    return s;
}

/* Published from 20 000 trials each; four standard errors of ours on top of the rounding. */
static void error_rates_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        uint32_t pairs;
        double worse_frac;
        double drift;
        double found;
    } TABLE[] = {{6, 0, 0, 0.005},   {6, 0, 0.03, 0.005}, {6, 0.05, 0, 0.94}, {6, 0.08, 0, 1},
                 {5, 0, 0, 0.004},   {5, 0.05, 0, 0.79},  {5, 0.08, 0, 0.99}, {8, 0, 0, 0.002},
                 {8, 0.05, 0, 0.97}, {8, 0.08, 0.03, 1}};
    for (size_t i = 0; i < sizeof TABLE / sizeof TABLE[0]; i++) {
        struct world w = {TABLE[i].pairs, 0.02, TABLE[i].worse_frac, TABLE[i].drift, true};
        double got = simulate(&w, i).regression;
        double p = TABLE[i].found;
        double error = 0.006 + 4 * sqrt(p * (1 - p) / TRIALS);
        if (fabs(got - p) > error) {
            fail_msg("%u pairs, %.0f %% worse: %.4f, published %.4f +- %.4f", w.pairs,
                     100 * w.worse_frac, got, p, error);
        }
    }
}

/* Without a change 31 % of 6 and 11 % of 10 pairs cannot exclude 3 %. */
static void ok_excludes_the_tolerance(void **state)
{
    (void)state;
    struct world w = {6, 0.02, 0, 0, true};
    close_to(simulate(&w, 100).ok, 0.69, 0.04);
    w.pairs = 10;
    close_to(simulate(&w, 101).ok, 0.89, 0.03);
    /* A worsening of just the tolerance is called ok in 5 % at most. */
    w.worse_frac = 0.03;
    assert_true(simulate(&w, 102).ok < 0.05 + 4 * sqrt(0.05 * 0.95 / TRIALS));
}

static void three_pairs_are_inconclusive_whatever_happens(void **state)
{
    (void)state;
    struct world w = {3, 0.001, 0.5, 0, true};
    struct shares s = simulate(&w, 103);
    assert_true(s.regression + s.ok + s.improvement <= 0);
    w.worse_frac = 0;
    s = simulate(&w, 104);
    assert_true(s.regression + s.ok + s.improvement <= 0);
}

static void an_improvement_is_one(void **state)
{
    (void)state;
    struct world w = {8, 0.01, -0.08, 0, true};
    close_to(simulate(&w, 105).improvement, 1, 0.01);
    w.paired = false;
    close_to(simulate(&w, 106).improvement, 1, 0.01);
}

static void unpaired_runs_keep_the_level_on_a_quiet_host(void **state)
{
    (void)state;
    struct world w = {8, 0.02, 0, 0, false};
    assert_true(simulate(&w, 107).regression < 0.05);
    w.worse_frac = 0.08;
    assert_true(simulate(&w, 108).regression > 0.98);
}

/* What is called detectable is found by four of five comparisons with that spread. */
static void detectable_changes_are_detected(void **state)
{
    (void)state;
    struct random r = random_stream(13, "gate detectable", 0);
    for (uint32_t pairs = 6; pairs <= 12; pairs += 3) {
        double sum = 0;
        for (uint32_t trial = 0; trial < TRIALS / 4; trial++) {
            double base[16];
            double changed[16];
            struct gate_effect e;
            for (uint32_t i = 0; i < pairs; i++) {
                base[i] = 1 + 0.02 * random_normal(&r);
                changed[i] = 1 + 0.02 * random_normal(&r);
            }
            gate_compare_pairs(base, changed, pairs, &throughput, &e);
            sum += e.detectable_frac;
        }
        struct world w = {pairs, 0.02, 4 * sum / TRIALS, 0, true};
        close_to(simulate(&w, 200 + pairs).regression, 0.8, 0.07);
    }
}

static void latencies_get_worse_upwards(void **state)
{
    (void)state;
    const struct gate_rule latency = {.tolerance_frac = 0.08, .alpha = 0.05, .looks_count = 1};
    double base[6];
    double changed[6];
    struct gate_effect e;
    for (uint32_t i = 0; i < 6; i++) {
        base[i] = 10 + 0.01 * i;
        changed[i] = 1.2 * base[i];
    }
    gate_compare_pairs(base, changed, 6, &latency, &e);
    close_to(e.change_frac, 0.2, 1e-12);
    close_to(e.p_worse, 1.0 / 64, 1e-15);
    assert_int_equal(gate_judge(&e, &latency, e.p_worse, e.p_better), GATE_REGRESSION);
    /* Four metrics together cannot be told with 6 pairs. */
    assert_int_equal(gate_judge(&e, &latency, 4 * e.p_worse, 1), GATE_INCONCLUSIVE);
    gate_compare_pairs(changed, base, 6, &latency, &e);
    close_to(e.change_frac, 1 / 1.2 - 1, 1e-12);
    assert_int_equal(gate_judge(&e, &latency, e.p_worse, e.p_better), GATE_IMPROVEMENT);
    for (uint32_t i = 0; i < 6; i++) {
        changed[i] = 1.05 * base[i]; /* worse for certain, within the tolerance */
    }
    gate_compare_pairs(base, changed, 6, &latency, &e);
    assert_int_equal(gate_judge(&e, &latency, e.p_worse, e.p_better), GATE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paired_tests_count_all_sign_patterns),
        cmocka_unit_test(critical_values_match_the_tables),
        cmocka_unit_test(bounds_exclude_zero_exactly_when_the_test_rejects),
        cmocka_unit_test(two_samples_count_all_splits),
        cmocka_unit_test(the_largest_samples_are_exact),
        cmocka_unit_test(estimates_are_medians_of_averages),
        cmocka_unit_test(fewer_than_five_pairs_have_no_bound),
        cmocka_unit_test(fisher_counts_all_ways_to_fail),
        cmocka_unit_test(holm_steps_down),
        cmocka_unit_test(error_rates_are_the_published_ones),
        cmocka_unit_test(ok_excludes_the_tolerance),
        cmocka_unit_test(three_pairs_are_inconclusive_whatever_happens),
        cmocka_unit_test(an_improvement_is_one),
        cmocka_unit_test(unpaired_runs_keep_the_level_on_a_quiet_host),
        cmocka_unit_test(detectable_changes_are_detected),
        cmocka_unit_test(latencies_get_worse_upwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
