/*
 * Errors of predictions against hand computation, and the distance between two distributions
 * against what it is by definition: the least total way of moving one into the other, found by
 * trying all ways.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/analysis/prediction_error.h"
#include "harness/analysis/stats.h"

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * fmax(1.0, fabs(want)))) {
        fail_msg("got %.17g, want %.17g", got, want);
    }
}

static void errors_are_those_worked_out_by_hand(void **state)
{
    (void)state;
    double predicted[] = {4, 1, 3, 2};   /* mean 2.5, p50 2, p90 and p99 4 */
    double measured[] = {2, 4, 5, 2, 5}; /* mean 3.6, p50 4, p90 and p99 5 */
    struct prediction_error e = prediction_error_of(predicted, 4, measured, 5);
    assert_near(e.predicted_mean, 2.5);
    assert_near(e.measured_mean, 3.6);
    assert_near(e.mean_frac, -1.1 / 3.6);
    assert_near(e.p50_frac, -0.5);
    assert_near(e.p90_frac, -0.2);
    assert_near(e.p99_frac, -0.2);
    /* In twentieths: 1 1 1 1 1 2 2 2 2 2 3 3 3 3 3 4 4 4 4 4 against 2 x 8, 4 x 4, 5 x 8. */
    assert_near(e.distance_frac, (5 * 1 + 3 * 0 + 2 * 2 + 2 * 1 + 3 * 2 + 5 * 1) / 20.0 / 3.6);
}

/* Least sum of |a[i] - b[p(i)]| over all permutations p. */
static double least_moving(const double *a, double *b, size_t count, size_t at)
{
    if (at == count) {
        return 0;
    }
    double least = HUGE_VAL;
    for (size_t i = at; i < count; i++) {
        double swapped = b[i];
        b[i] = b[at];
        b[at] = swapped;
        double rest = fabs(a[at] - b[at]) + least_moving(a, b, count, at + 1);
        least = fmin(least, rest);
        b[at] = b[i];
        b[i] = swapped;
    }
    return least;
}

/* Both sets are repeated until they have as many values: repeating changes no distribution. */
static void the_distance_is_the_least_way_of_moving(void **state)
{
    (void)state;
    struct random random = random_stream(1, "distance", 0);
    for (int round = 0; round < 200; round++) {
        double a[2];
        double b[3];
        double a_long[6];
        double b_long[6];
        for (size_t i = 0; i < 2; i++) {
            a[i] = random_unit(&random);
        }
        for (size_t i = 0; i < 3; i++) {
            b[i] = random_unit(&random);
        }
        stats_sort(a, 2);
        stats_sort(b, 3);
        for (size_t i = 0; i < 6; i++) {
            a_long[i] = a[i / 3];
            b_long[i] = b[i / 2];
        }
        assert_near(prediction_distance(a, 2, b, 3), least_moving(a_long, b_long, 6, 0) / 6);
        assert_near(prediction_distance(b, 3, a, 2), prediction_distance(a, 2, b, 3));
    }
}

static void what_cannot_be_told_is_unknown(void **state)
{
    (void)state;
    double none[1] = {0};
    double some[2] = {1, 2};
    assert_true(isnan(prediction_error_of(none, 0, some, 2).mean_frac));
    assert_true(isnan(prediction_error_of(some, 2, none, 0).distance_frac));
    assert_true(isnan(prediction_error_of(some, 2, none, 1).mean_frac)); /* a share of 0 */
    assert_true(isnan(prediction_error_over_spread(1, some, 1)));
    assert_near(prediction_error_over_spread(3.5, some, 2), 2 / sqrt(0.5));
}

static void counts_are_many_equal_values(void **state)
{
    (void)state;
    const double values[] = {1, 2, 4, 5};
    const double a_counts[] = {0, 2, 1, 2};
    const double b_counts[] = {1, 3, 0, 0};
    const double a[] = {2, 2, 4, 5, 5};
    const double b[] = {1, 2, 2, 2};
    assert_near(prediction_distance_of_counts(values, a_counts, b_counts, 4),
                prediction_distance(a, 5, b, 4));
    assert_true(isnan(prediction_distance_of_counts(values, a_counts, values, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_those_worked_out_by_hand),
        cmocka_unit_test(the_distance_is_the_least_way_of_moving),
        cmocka_unit_test(what_cannot_be_told_is_unknown),
        cmocka_unit_test(counts_are_many_equal_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
