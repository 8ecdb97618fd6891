/* load_histogram_test.c - the log-linear histogram against sorted values: bucket edges, error
 * bound, quantiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/random.h"
#include "harness/load/histogram.h"

static void buckets_cover_all_values_without_gaps(void **state)
{
    (void)state;
    assert_int_equal(histogram_bucket(0), 0);
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS_COUNT - 1);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS_COUNT; i++) {
        uint64_t lo = histogram_bucket_lo(i);
        assert_int_equal(histogram_bucket(lo), i);
        if (i > 0) {
            assert_int_equal(histogram_bucket(lo - 1), i - 1);
        }
        if (i > 0 && i + 1 < HISTOGRAM_BUCKETS_COUNT && lo >= 128) {
            uint64_t width = histogram_bucket_lo(i + 1) - lo;
            assert_true(width <= lo / 128);
        }
    }
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static void quantiles_are_nearest_rank_within_the_bucket(void **state)
{
    (void)state;
    enum {
        COUNT = 5000
    };
    struct histogram *h = calloc(1, sizeof *h);
    uint64_t *values = malloc(COUNT * sizeof *values);
    assert_true(h != NULL && values != NULL);
    struct random r = random_stream(5, "values", 0);
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        values[i] = (uint64_t)(random_exponential(&r) * 1e7);
        sum += values[i];
        histogram_add(h, values[i], 1);
    }
    qsort(values, COUNT, sizeof *values, compare_u64);
    static const double points[] = {0.001, 0.5, 0.9, 0.99, 0.999, 1.0};
    static const uint32_t ranks[] = {5, 2500, 4500, 4950, 4995, 5000};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        uint64_t exact = values[ranks[i] - 1];
        uint64_t got = histogram_quantile(h, points[i]);
        assert_true(got >= exact && got - exact <= exact / 128);
    }
    assert_int_equal(histogram_quantile(h, 1.0), values[COUNT - 1]);
    assert_int_equal(atomic_load(&h->sum), sum);
    assert_int_equal(atomic_load(&h->total), COUNT);
    free(values);
    free(h);
}

static void weights_count_as_repetitions(void **state)
{
    (void)state;
    struct histogram *h = calloc(1, sizeof *h);
    assert_non_null(h);
    histogram_add(h, 10, 99);
    histogram_add(h, 100, 1);
    assert_int_equal(histogram_quantile(h, 0.99), 10);
    assert_int_equal(histogram_quantile(h, 1.0), 100);
    assert_int_equal(atomic_load(&h->sum), 1090);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_cover_all_values_without_gaps),
        cmocka_unit_test(quantiles_are_nearest_rank_within_the_bucket),
        cmocka_unit_test(weights_count_as_repetitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
