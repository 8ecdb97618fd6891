/*
 * histogram.c - reading a histogram. Pure functions; the counts may grow while they are read, so
 * the walk ends at the last bucket whatever the total says.
 */
#include "harness/load/histogram.h"

#include <math.h>

#include "engine/base/status.h"

uint64_t histogram_bucket_lo(uint32_t bucket)
{
    ASSERT(bucket < HISTOGRAM_BUCKETS_COUNT);
    if (bucket < (2U << HISTOGRAM_MANTISSA_BITS)) {
        return bucket;
    }
    uint32_t shift = (bucket >> HISTOGRAM_MANTISSA_BITS) - 1;
    uint64_t mantissa = bucket - ((uint64_t)shift << HISTOGRAM_MANTISSA_BITS);
    return mantissa << shift;
}

static uint64_t bucket_hi(uint32_t bucket)
{
    return bucket + 1 == HISTOGRAM_BUCKETS_COUNT ? UINT64_MAX : histogram_bucket_lo(bucket + 1) - 1;
}

uint64_t histogram_quantile(const struct histogram *h, double p)
{
    ASSERT(p > 0.0 && p <= 1.0);
    uint64_t total = atomic_load_explicit(&h->total, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&h->max, memory_order_relaxed);
    uint64_t rank = (uint64_t)ceil(p * (double)total);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS_COUNT; i++) {
        seen += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        if (seen >= rank && seen > 0) {
            uint64_t hi = bucket_hi(i);
            return hi < max ? hi : max;
        }
    }
    return max;
}
