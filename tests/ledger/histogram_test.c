/*
 * Buckets of times against the times themselves: where each bucket begins, and quantiles of sorted
 * samples, which must agree within the error that histogram.h states.
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
#include "engine/ledger/histogram.h"

#define ERROR_FRAC 0.0625

/* A bucket begins at 0 .. 7, then at 8/8, 9/8, .. 15/8 of each power of two. */
static void buckets_are_eight_an_octave(void **state)
{
    (void)state;
    uint32_t bucket = 0;
    for (int64_t ns = 0; ns < 8; ns++) {
        assert_int_equal(ledger_histogram_bucket(ns), bucket++);
    }
    for (int64_t power = 8; power < (int64_t)1 << 40; power *= 2) {
        for (int64_t eighth = 8; eighth < 16; eighth++) {
            int64_t begin = power / 8 * eighth;
            assert_int_equal(ledger_histogram_bucket(begin - 1), bucket - 1);
            assert_int_equal(ledger_histogram_bucket(begin), bucket++);
        }
    }
    assert_int_equal(bucket, LEDGER_HISTOGRAM_BUCKETS);
    assert_int_equal(ledger_histogram_bucket((int64_t)1 << 40), bucket - 1);
    assert_int_equal(ledger_histogram_bucket(INT64_MAX), bucket - 1);
    assert_int_equal(ledger_histogram_bucket(-1), 0);
    assert_int_equal(ledger_histogram_bucket(INT64_MIN), 0);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void copy(const struct ledger_histogram *h, uint64_t out[LEDGER_HISTOGRAM_BUCKETS])
{
    for (uint32_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        out[i] = atomic_load(&h->counts[i]);
    }
}

static void quantiles_are_those_of_the_samples(void **state)
{
    enum {
        SAMPLES = 5000
    };
    static const double levels[] = {0.001, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1};
    static int64_t samples[SAMPLES];
    uint64_t counts[LEDGER_HISTOGRAM_BUCKETS];
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct ledger_histogram h = {0};
        uint32_t count = seed < 20 ? (uint32_t)seed + 1 : SAMPLES;
        for (uint32_t i = 0; i < count; i++) { /* e^0 .. e^25 ns: 1 ns to 72 s */
            uint64_t draw = random_at(seed, i);
            samples[i] = (int64_t)exp(25.0 * (double)(draw >> 11) / 9007199254740992.0);
            ledger_histogram_add(&h, samples[i]);
        }
        qsort(samples, count, sizeof samples[0], by_value);
        copy(&h, counts);
        assert_int_equal(ledger_histogram_total(counts), count);
        for (size_t k = 0; k < sizeof levels / sizeof levels[0]; k++) {
            uint32_t rank = 1; /* smallest r with r / count >= p, in whole numbers */
            while (rank * 1000 < (uint32_t)(levels[k] * 1000 + 0.5) * count) {
                rank++;
            }
            double want = (double)samples[rank - 1];
            double got = ledger_histogram_quantile(counts, levels[k]);
            if (!(fabs(got - want) <= ERROR_FRAC * want)) {
                fail_msg("quantile %g of %u: got %g, want %g", levels[k], count, got, want);
            }
        }
    }
}

/* The error that is stated is nearly reached: nobody reads more into it than there is. */
static void the_stated_error_is_that_of_a_bucket(void **state)
{
    uint64_t counts[LEDGER_HISTOGRAM_BUCKETS];
    double worst = 0;
    (void)state;
    for (int64_t ns = 1; ns < 100000; ns++) {
        memset(counts, 0, sizeof counts);
        counts[ledger_histogram_bucket(ns)] = 1;
        double got = ledger_histogram_quantile(counts, 0.5);
        worst = fmax(worst, fabs(got - (double)ns) / (double)ns);
    }
    assert_true(worst <= ERROR_FRAC);
    assert_true(worst > 0.06);
    memset(counts, 0, sizeof counts);
    assert_true(isnan(ledger_histogram_quantile(counts, 0.5)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_eight_an_octave),
        cmocka_unit_test(quantiles_are_those_of_the_samples),
        cmocka_unit_test(the_stated_error_is_that_of_a_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
