/*
 * histogram.c - owns what the buckets of histogram.h mean when they are read. Pure functions on
 * counts that the reader has copied. Must not touch shared memory.
 */
#include "engine/ledger/histogram.h"

#include "engine/base/status.h"

/* Times are whole ns: the middle of 8 .. 8 is 8, of 16 .. 17 it is 16.5. */
static double middle_of(uint32_t bucket)
{
    const uint32_t split = 1U << LEDGER_HISTOGRAM_SPLIT_BITS;
    if (bucket < split) {
        return bucket;
    }
    uint32_t shift = bucket / split - 1;
    uint64_t least = (uint64_t)(split + bucket % split) << shift;
    return (double)least + (double)((UINT64_C(1) << shift) - 1) / 2;
}

uint64_t ledger_histogram_total(const uint64_t counts[LEDGER_HISTOGRAM_BUCKETS])
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        total += counts[i];
    }
    return total;
}

double ledger_histogram_quantile(const uint64_t counts[LEDGER_HISTOGRAM_BUCKETS], double p)
{
    ASSERT(p > 0 && p <= 1);
    /* A product such as .99 x 300 may come out a hair above the whole number that it is. */
    double rank = p * (double)ledger_histogram_total(counts) - 1e-6;
    double below = 0;
    for (uint32_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        below += (double)counts[i];
        if (counts[i] > 0 && below >= rank) {
            return middle_of(i);
        }
    }
    return __builtin_nan("");
}
