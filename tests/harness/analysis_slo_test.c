/*
 * The SLO test against published sample sizes and against brute-force binomial sums; the monotone
 * fit against a search over all ways to pool neighbours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/analysis/slo.h"

static void test_sample_sizes_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        double p;
        uint32_t needed[3];
    } rows[] = {{0.99, {459, 662, 838}}, {0.95, {90, 130, 165}}, {0.90, {44, 64, 81}}};
    for (size_t i = 0; i < 3; i++) {
        for (uint32_t over = 0; over < 3; over++) {
            uint32_t n = slo_requests_needed(over, rows[i].p, 0.99);
            assert_int_equal(n, rows[i].needed[over]);
            struct slo_test t;
            slo_judge(n, over, 1, rows[i].p, 0.99, &t);
            assert_int_equal(t.outcome, SLO_PASS);
            slo_judge(n - 1, over, 1, rows[i].p, 0.99, &t);
            assert_int_equal(t.outcome, SLO_UNDECIDED);
        }
    }
}

/* P(X <= k) by summing terms built from logarithms. */
static double binomial_sum(int k, int n, double p)
{
    double sum = 0;
    for (int i = 0; i <= k; i++) {
        sum += exp(lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(n - i + 1.0) + i * log(p) +
                   (n - i) * log1p(-p));
    }
    return sum;
}

static void test_bounds_have_the_tail_they_promise(void **state)
{
    (void)state;
    for (int n = 5; n <= 400; n += 79) {
        for (int k = 1; k < n; k += 1 + n / 7) {
            struct slo_test t;
            slo_judge(n, k, 1, 0.9, 0.95, &t);
            assert_true(fabs(binomial_sum(k, n, t.over_hi) - 0.05) < 1e-6);
            assert_true(fabs(1.0 - binomial_sum(k - 1, n, t.over_lo) - 0.05) < 1e-6);
            bool pass = t.over_hi <= 0.1;
            bool fail = t.over_lo > 0.1;
            assert_int_equal(t.outcome, pass ? SLO_PASS : fail ? SLO_FAIL : SLO_UNDECIDED);
        }
    }
}

static void test_correlated_requests_count_for_less(void **state)
{
    (void)state;
    struct slo_test t;
    slo_judge(459, 0, 1, 0.99, 0.99, &t);
    assert_int_equal(t.outcome, SLO_PASS);
    slo_judge(459, 0, 2, 0.99, 0.99, &t);
    assert_int_equal(t.outcome, SLO_UNDECIDED);
    slo_judge(918, 0, 2, 0.99, 0.99, &t);
    assert_int_equal(t.outcome, SLO_PASS);
    slo_judge(0, 0, 1, 0.99, 0.99, &t);
    assert_int_equal(t.outcome, SLO_UNDECIDED);
    slo_judge(100, 100, 1, 0.99, 0.99, &t);
    assert_int_equal(t.outcome, SLO_FAIL);
}

enum {
    POINTS = 7
};

/* Cost of the best non-decreasing fit: each bit of `cuts` ends a block of equal values. */
static double best_by_search(const double *values, const double *weights)
{
    double best = (double)INFINITY;
    for (unsigned cuts = 0; cuts < 1U << (POINTS - 1); cuts++) {
        double cost = 0;
        double previous = -(double)INFINITY;
        bool monotone = true;
        for (int from = 0; from < POINTS;) {
            int to = from;
            double sum = values[from] * weights[from];
            double weight = weights[from];
            while (to + 1 < POINTS && (cuts >> to & 1U) == 0) {
                to++;
                sum += values[to] * weights[to];
                weight += weights[to];
            }
            double mean = sum / weight;
            monotone = monotone && mean >= previous;
            previous = mean;
            for (int i = from; i <= to; i++) {
                cost += weights[i] * (values[i] - mean) * (values[i] - mean);
            }
            from = to + 1;
        }
        best = monotone && cost < best ? cost : best;
    }
    return best;
}

static void test_isotonic_fit_is_the_best_one(void **state)
{
    (void)state;
    struct random r = random_stream(1, "isotonic", 0);
    for (int round = 0; round < 300; round++) {
        double values[POINTS];
        double weights[POINTS];
        double fitted[POINTS];
        for (int i = 0; i < POINTS; i++) {
            values[i] = i * 0.3 + random_normal(&r);
            weights[i] = 0.5 + random_unit(&r);
        }
        memcpy(fitted, values, sizeof values);
        (void)slo_isotonic(fitted, weights, POINTS);
        double cost = 0;
        for (int i = 0; i < POINTS; i++) {
            cost += weights[i] * (values[i] - fitted[i]) * (values[i] - fitted[i]);
            assert_true(i == 0 || fitted[i] >= fitted[i - 1]);
        }
        assert_true(fabs(cost - best_by_search(values, weights)) < 1e-9);
    }
    double rising[3] = {1, 2, 3};
    double equal[3] = {1, 1, 1};
    assert_true(slo_isotonic(rising, equal, 3) <= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_sizes_are_the_published_ones),
        cmocka_unit_test(test_bounds_have_the_tail_they_promise),
        cmocka_unit_test(test_correlated_requests_count_for_less),
        cmocka_unit_test(test_isotonic_fit_is_the_best_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
