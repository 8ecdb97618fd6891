/*
 * random_test.c - random streams: the published sequences of xoshiro256++ and splitmix64,
 * independence of streams, bounds and shape of every distribution. Seeds are fixed, so each
 * statistical bound holds or fails for ever; the bounds are about five standard errors wide.
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

enum {
    DRAWS = 200000
};

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

/* Kolmogorov-Smirnov distance of sorted draws to a continuous distribution. */
static double ks_distance(const double *sorted, size_t count, double (*cdf)(double))
{
    double distance = 0.0;
    for (size_t i = 0; i < count; i++) {
        double p = cdf(sorted[i]);
        double below = fabs(p - (double)i / (double)count);
        double above = fabs((double)(i + 1) / (double)count - p);
        distance = fmax(distance, fmax(below, above));
    }
    return distance;
}

static double cdf_unit(double x)
{
    return x;
}

static double cdf_exponential(double x)
{
    return -expm1(-x);
}

static double cdf_normal(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

/* The reference sequence for state {1, 2, 3, 4}, as published with other implementations. */
static void xoshiro_known_answer(void **state)
{
    (void)state;
    static const uint64_t want[] = {
        41943041ULL,
        58720359ULL,
        3588806011781223ULL,
        3591011842654386ULL,
        9228616714210784205ULL,
        9973669472204895162ULL,
        14011001112246962877ULL,
        12406186145184390807ULL,
        15849039046786891736ULL,
        10450023813501588000ULL,
    };
    struct random r = {.s = {1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_true(random_u64(&r) == want[i]);
    }
}

static void streams_are_named_and_independent(void **state)
{
    (void)state;
    struct random a = random_stream(1, "arrivals", 0);
    struct random b = random_stream(1, "arrivals", 0);
    struct random others[] = {
        random_stream(2, "arrivals", 0),
        random_stream(1, "lengths", 0),
        random_stream(1, "arrivals", 1),
    };
    uint64_t first = random_u64(&a);
    assert_true(first == random_u64(&b));
    for (size_t i = 0; i < 3; i++) {
        /* No shared value and no correlation: uniform differences modulo 1. */
        struct random x = random_stream(1, "arrivals", 0);
        double sum = 0.0;
        for (int k = 0; k < DRAWS; k++) {
            double d = random_unit(&x) - random_unit(&others[i]);
            sum += d < 0.0 ? d + 1.0 : d;
        }
        assert_true(fabs(sum / DRAWS - 0.5) < 5.0 * sqrt(1.0 / 12.0 / DRAWS));
    }
}

static void unit_bounds_and_shape(void **state)
{
    (void)state;
    /* A draw of all ones but the last bit: still below 1. */
    struct random top = {.s = {UINT64_MAX, 0, 0, 0}};
    static double draws[DRAWS];
    struct random r = random_stream(3, "unit", 0);
    for (int i = 0; i < DRAWS; i++) {
        draws[i] = random_unit(&r);
        assert_true(draws[i] >= 0.0 && draws[i] < 1.0);
    }
    assert_true(random_unit(&top) < 1.0);
    qsort(draws, DRAWS, sizeof draws[0], compare_doubles);
    assert_true(ks_distance(draws, DRAWS, cdf_unit) < 1.95 / sqrt(DRAWS));
}

static void range_bounds(void **state)
{
    (void)state;
    struct random r = random_stream(4, "range", 0);
    assert_int_equal(random_range(&r, 5, 5), 5);
    assert_true(random_range(&r, INT64_MIN, INT64_MIN) == INT64_MIN);
    int negative = 0;
    for (int i = 0; i < 1000; i++) {
        negative += random_range(&r, INT64_MIN, INT64_MAX) < 0;
        int64_t x = random_range(&r, INT64_MAX - 1, INT64_MAX);
        assert_true(x >= INT64_MAX - 1);
    }
    assert_true(negative > 400 && negative < 600);
}

static void range_is_uniform(void **state)
{
    (void)state;
    struct random r = random_stream(5, "range", 0);
    int counts[7] = {0};
    for (int i = 0; i < DRAWS; i++) {
        int64_t x = random_range(&r, -3, 3);
        assert_true(x >= -3 && x <= 3);
        counts[x + 3]++;
    }
    double expected = DRAWS / 7.0;
    double chi2 = 0.0;
    for (int i = 0; i < 7; i++) {
        chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    assert_true(chi2 < 27.9); /* 6 degrees of freedom, p = 0.0001 */
}

/* With a span of 3/4 of 2^64 a plain remainder would give the lower third twice as often. */
static void range_has_no_modulo_bias(void **state)
{
    (void)state;
    struct random r = random_stream(6, "range", 0);
    int64_t lo = INT64_MIN;
    int64_t hi = INT64_MAX / 2;
    int lower = 0;
    for (int i = 0; i < DRAWS; i++) {
        int64_t x = random_range(&r, lo, hi);
        assert_true(x <= hi);
        lower += x < INT64_MIN / 2;
    }
    double share = (double)lower / DRAWS;
    assert_true(fabs(share - 1.0 / 3.0) < 5.0 * sqrt(2.0 / 9.0 / DRAWS));
}

static void normal_shape(void **state)
{
    (void)state;
    static double draws[DRAWS];
    struct random r = random_stream(7, "normal", 0);
    for (int i = 0; i < DRAWS; i++) {
        draws[i] = random_normal(&r);
        assert_true(isfinite(draws[i]));
    }
    qsort(draws, DRAWS, sizeof draws[0], compare_doubles);
    assert_true(ks_distance(draws, DRAWS, cdf_normal) < 1.95 / sqrt(DRAWS));
}

static void interval_mean_and_shape(void **state)
{
    (void)state;
    static const double rates[] = {0.01, 1.0, 37.5, 2000.0, 1e6};
    static double draws[DRAWS];
    for (size_t k = 0; k < sizeof rates / sizeof rates[0]; k++) {
        struct random r = random_stream(8, "arrivals", k);
        time_ps sum = 0;
        for (int i = 0; i < DRAWS; i++) {
            time_ps interval = random_interval_ps(&r, rates[k]);
            assert_true(interval >= 0);
            draws[i] = (double)interval * rates[k] / 1e12;
            sum += interval / 1000;
        }
        double mean_ps = (double)sum * 1000.0 / DRAWS;
        double want_ps = 1e12 / rates[k];
        assert_true(fabs(mean_ps - want_ps) < 5.0 * want_ps / sqrt(DRAWS) + 1000.0);
        qsort(draws, DRAWS, sizeof draws[0], compare_doubles);
        assert_true(ks_distance(draws, DRAWS, cdf_exponential) < 1.95 / sqrt(DRAWS));
    }
}

/* The largest possible draw, 53 ln 2 means, is still a time. */
static void exponential_is_finite(void **state)
{
    (void)state;
    struct random r = random_stream(9, "tail", 0);
    double most = 0.0;
    for (int i = 0; i < DRAWS; i++) {
        double x = random_exponential(&r);
        assert_true(x >= 0.0 && x < 36.8);
        most = fmax(most, x);
    }
    assert_true(most > 8.0);
}

/* Flipping any one bit of a key flips half the bits of the value, on average. */
static void stateless_draws_are_mixed(void **state)
{
    (void)state;
    assert_true(random_at(1, 2) == random_at(1, 2));
    assert_true(random_at(1, 2) != random_at(2, 1));
    double flipped = 0.0;
    int pairs = 0;
    for (uint64_t base = 0; base < 50; base++) {
        for (uint64_t bit = 0; bit < 64; bit++) {
            uint64_t mask = 1ULL << bit;
            uint64_t value = random_at(base, 1000 - base);
            int a = __builtin_popcountll(value ^ random_at(base ^ mask, 1000 - base));
            int b = __builtin_popcountll(value ^ random_at(base, (1000 - base) ^ mask));
            assert_true(a > 6 && b > 6);
            flipped += a + b;
            pairs += 2;
        }
    }
    assert_true(fabs(flipped / pairs - 32.0) < 5.0 * 4.0 / sqrt(pairs));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xoshiro_known_answer),
        cmocka_unit_test(streams_are_named_and_independent),
        cmocka_unit_test(unit_bounds_and_shape),
        cmocka_unit_test(range_bounds),
        cmocka_unit_test(range_is_uniform),
        cmocka_unit_test(range_has_no_modulo_bias),
        cmocka_unit_test(normal_shape),
        cmocka_unit_test(interval_mean_and_shape),
        cmocka_unit_test(exponential_is_finite),
        cmocka_unit_test(stateless_draws_are_mixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
