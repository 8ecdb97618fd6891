/*
 * Statistics against published tables, brute force and simulation: t quantiles, the binomial,
 * coverage of intervals, percentiles with their availability rule.
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
#include "harness/analysis/stats.h"

static void close_to(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("got %.10g, want %.10g +- %g", got, want, tolerance);
    }
}

static void student_quantiles_match_the_tables(void **state)
{
    (void)state;
    static const struct {
        double p;
        double dof;
        double t;
    } TABLE[] = {
        {0.975, 1, 12.7062}, {0.975, 2, 4.30265},  {0.975, 3, 3.18245},  {0.975, 4, 2.77645},
        {0.975, 7, 2.36462}, {0.975, 10, 2.22814}, {0.975, 30, 2.04227}, {0.975, 120, 1.97993},
        {0.95, 1, 6.31375},  {0.95, 5, 2.01505},   {0.95, 24, 1.71088},  {0.995, 9, 3.24984},
        {0.90, 8, 1.39682},  {0.999, 6, 5.20763},
    };
    for (size_t i = 0; i < sizeof TABLE / sizeof TABLE[0]; i++) {
        close_to(stats_student_quantile(TABLE[i].p, TABLE[i].dof), TABLE[i].t, 6e-5);
        close_to(stats_student_quantile(1.0 - TABLE[i].p, TABLE[i].dof), -TABLE[i].t, 6e-5);
    }
    close_to(stats_student_quantile(0.975, (double)INFINITY), 1.959963985, 1e-8);
    close_to(stats_student_quantile(0.975, 1e7), 1.959963985, 1e-5);
    close_to(stats_student_quantile(0.5, 3), 0.0, 1e-9);
    /* Cauchy: tan(pi (p - 1/2)). */
    close_to(stats_student_quantile(0.9, 1), tan(M_PI * 0.4), 1e-9);
    close_to(stats_student_cdf(2.0, 2), 0.5 + 2.0 / (2.0 * sqrt(2.0 + 4.0)), 1e-12);
}

static double binomial_by_sum(int k, int n, double p)
{
    double sum = 0.0;
    double term = pow(1.0 - p, n);
    for (int i = 0; i <= k; i++) {
        sum += term;
        term *= (double)(n - i) / (i + 1) * p / (1.0 - p);
    }
    return sum;
}

static void binomial_equals_the_plain_sum(void **state)
{
    (void)state;
    static const double PROBABILITIES[] = {0.01, 0.3, 0.5, 0.9};
    for (int n = 1; n <= 60; n += 7) {
        for (size_t i = 0; i < 4; i++) {
            for (int k = 0; k < n; k++) {
                double want = binomial_by_sum(k, n, PROBABILITIES[i]);
                close_to(stats_binomial_cdf(k, n, PROBABILITIES[i]), want, 1e-9);
            }
        }
    }
    close_to(stats_binomial_cdf(-1, 5, 0.5), 0.0, 0.0);
    close_to(stats_binomial_cdf(5, 5, 0.5), 1.0, 0.0);
}

static void a_mean_by_hand(void **state)
{
    (void)state;
    static const double VALUES[] = {1, 2, 3, 4};
    struct stats_mean m = stats_mean_of(VALUES, 4);
    close_to(m.mean, 2.5, 1e-12);
    close_to(m.std_error, sqrt(5.0 / 3.0 / 4.0), 1e-12);
    close_to(m.half_width, 3.182446305 * m.std_error, 1e-6);
    close_to(m.lag1, (0.75 - 0.25 + 0.75) / 5.0, 1e-12);
    m = stats_mean_of(VALUES, 1);
    close_to(m.mean, 1.0, 0.0);
    assert_true(isnan(m.half_width) && isnan(m.lo) && isnan(m.lag1));
    assert_false(stats_mean_is_within(&m, 0.5));
    m = stats_mean_of(VALUES, 0);
    assert_true(isnan(m.mean));
}

/* 8 independent batches: 95 % of the intervals hold the truth, within what 4,000 trials can tell.
 */
static void intervals_cover(void **state)
{
    (void)state;
    enum {
        TRIALS = 4000,
        BATCHES = 8
    };
    struct random random = random_stream(1, "coverage", 0);
    int covered = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        double batches[BATCHES];
        for (int i = 0; i < BATCHES; i++) {
            batches[i] = 100.0 + 5.0 * random_normal(&random);
        }
        struct stats_mean m = stats_mean_of(batches, BATCHES);
        covered += m.lo <= 100.0 && 100.0 <= m.hi;
    }
    close_to((double)covered / TRIALS, 0.95, 4.0 * sqrt(0.95 * 0.05 / TRIALS));
}

/* The definition itself: smallest x such that at least a fraction p of the values is <= x. */
static double quantile_by_definition(const double *values, size_t n, double p)
{
    double best = (double)INFINITY;
    for (size_t i = 0; i < n; i++) {
        size_t below = 0;
        for (size_t j = 0; j < n; j++) {
            below += values[j] <= values[i];
        }
        if ((double)below / (double)n >= p - 1e-12 && values[i] < best) {
            best = values[i];
        }
    }
    return best;
}

static void quantiles_are_nearest_rank(void **state)
{
    (void)state;
    struct random random = random_stream(2, "quantiles", 0);
    static const double P[] = {0.001, 0.1, 0.25, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0};
    for (size_t n = 1; n <= 120; n++) {
        double values[120];
        for (size_t i = 0; i < n; i++) {
            values[i] = (double)random_range(&random, 0, 30);
        }
        for (size_t i = 0; i < sizeof P / sizeof P[0]; i++) {
            double want = quantile_by_definition(values, n, P[i]);
            double sorted[120];
            memcpy(sorted, values, sizeof sorted);
            stats_sort(sorted, n);
            close_to(stats_quantile(sorted, n, P[i]), want, 0.0);
        }
    }
    assert_true(isnan(stats_quantile(NULL, 0, 0.5)));
    double failed[] = {(double)INFINITY, 2.0, 1.0};
    stats_sort(failed, 3);
    close_to(failed[0], 1.0, 0.0);
    assert_true(isinf(stats_quantile(failed, 3, 0.99)));
}

static void percentiles_need_enough_samples(void **state)
{
    (void)state;
    assert_int_equal(stats_quantile_samples_needed(0.90), 29);
    assert_int_equal(stats_quantile_samples_needed(0.95), 59);
    assert_int_equal(stats_quantile_samples_needed(0.99), 299);
    assert_int_equal(stats_quantile_samples_needed(0.999), 2995);
    static double values[4000];
    for (size_t i = 0; i < 4000; i++) {
        values[i] = (double)i;
    }
    assert_true(isnan(stats_percentile_of(values, 298, 298, 0.99).value));
    struct stats_percentile p = stats_percentile_of(values, 299, 299, 0.99);
    close_to(p.value, 296.0, 0.0);
    assert_true(isnan(p.hi)); /* two-sided takes 368 */
    assert_true(isnan(stats_percentile_of(values, 367, 367, 0.99).hi));
    assert_true(!isnan(stats_percentile_of(values, 368, 368, 0.99).hi));
    /* Correlated samples count for less. */
    assert_true(isnan(stats_percentile_of(values, 4000, 290, 0.99).value));
    p = stats_percentile_of(values, 4000, 400, 0.99);
    struct stats_percentile independent = stats_percentile_of(values, 4000, 4000, 0.99);
    close_to(p.value, independent.value, 0.0);
    assert_true(p.lo < independent.lo && p.hi >= independent.hi);
    assert_true(isnan(stats_percentile_of(values, 0, 0, 0.5).value));
}

static void percentile_intervals_cover(void **state)
{
    (void)state;
    enum {
        TRIALS = 1500,
        SAMPLES = 400
    };
    struct random random = random_stream(3, "percentiles", 0);
    int covered = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        double values[SAMPLES];
        for (int i = 0; i < SAMPLES; i++) {
            values[i] = random_unit(&random);
        }
        stats_sort(values, SAMPLES);
        struct stats_percentile p = stats_percentile_of(values, SAMPLES, SAMPLES, 0.9);
        covered += p.lo <= 0.9 && 0.9 <= p.hi;
    }
    /* Order statistics are discrete: at least 95 %, and not much more. */
    double share = (double)covered / TRIALS;
    assert_true(share > 0.95 - 4.0 * sqrt(0.95 * 0.05 / TRIALS) && share < 0.98);
}

static void fairness_has_its_known_ends(void **state)
{
    (void)state;
    static const double EQUAL[] = {3, 3, 3, 3};
    static const double ONE[] = {0, 0, 7, 0};
    static const double ZERO[] = {0, 0};
    static const double MIXED[] = {1, 2, 3};
    close_to(stats_jain(EQUAL, 4), 1.0, 1e-12);
    close_to(stats_jain(ONE, 4), 0.25, 1e-12);
    close_to(stats_jain(MIXED, 3), 36.0 / 42.0, 1e-12);
    assert_true(isnan(stats_jain(ZERO, 2)));
}

/* The rule that says whether batch means are known well enough, and the sign that their batches are
 * too short. */
static void steady_and_unsteady_batches(void **state)
{
    (void)state;
    static const double STEADY[] = {2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000};
    static const double FIRST_HALF[] = {2000, 2000, 2000, 2000, 0, 0, 0, 0};
    struct stats_mean m = stats_mean_of(STEADY, 8);
    close_to(m.mean, 2000.0, 1e-6);
    assert_true(stats_mean_is_within(&m, 0.02));
    m = stats_mean_of(FIRST_HALF, 8);
    close_to(m.mean, 1000.0, 1e-6);
    assert_false(stats_mean_is_within(&m, 0.02));
    assert_true(m.lag1 > 0.4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(student_quantiles_match_the_tables),
        cmocka_unit_test(binomial_equals_the_plain_sum),
        cmocka_unit_test(a_mean_by_hand),
        cmocka_unit_test(intervals_cover),
        cmocka_unit_test(quantiles_are_nearest_rank),
        cmocka_unit_test(percentiles_need_enough_samples),
        cmocka_unit_test(percentile_intervals_cover),
        cmocka_unit_test(fairness_has_its_known_ends),
        cmocka_unit_test(steady_and_unsteady_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
