/*
 * histogram.h - log-linear histogram of non-negative 64-bit values: exact below 128, at most 0.8 %
 * wide buckets above (7 bits of mantissa). It lives in shared memory: one writer, any reader, no
 * locks. Adding is a few ns and never fails.
 */
#ifndef HARNESS_LOAD_HISTOGRAM_H
#define HARNESS_LOAD_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    HISTOGRAM_MANTISSA_BITS = 7,
    HISTOGRAM_BUCKETS_COUNT = (64 - HISTOGRAM_MANTISSA_BITS + 1) << HISTOGRAM_MANTISSA_BITS,
};

/* All zero is an empty histogram. */
struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS_COUNT];
    _Atomic uint64_t total;
    _Atomic uint64_t sum; /* of value x weight */
    _Atomic uint64_t max;
};

static inline uint32_t histogram_bucket(uint64_t value)
{
    if (value < (1U << HISTOGRAM_MANTISSA_BITS)) {
        return (uint32_t)value;
    }
    uint32_t exponent = 63U - (uint32_t)__builtin_clzll(value);
    uint32_t shift = exponent - HISTOGRAM_MANTISSA_BITS;
    return (shift << HISTOGRAM_MANTISSA_BITS) + (uint32_t)(value >> shift);
}

static inline void histogram_add(struct histogram *h, uint64_t value, uint64_t weight)
{
    _Atomic uint64_t *count = &h->counts[histogram_bucket(value)];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + weight,
                          memory_order_relaxed);
    atomic_store_explicit(&h->total, atomic_load_explicit(&h->total, memory_order_relaxed) + weight,
                          memory_order_relaxed);
    atomic_store_explicit(&h->sum,
                          atomic_load_explicit(&h->sum, memory_order_relaxed) + value * weight,
                          memory_order_relaxed);
    if (value > atomic_load_explicit(&h->max, memory_order_relaxed)) {
        atomic_store_explicit(&h->max, value, memory_order_relaxed);
    }
}

/* Smallest value of a bucket; histogram_bucket_lo(i + 1) is one above its greatest. */
uint64_t histogram_bucket_lo(uint32_t bucket);
/* Nearest rank: the greatest value of the bucket that holds the value of rank ceil(p * total),
 * never more than the greatest value added; 0 if the histogram is empty. 0 < p <= 1. */
uint64_t histogram_quantile(const struct histogram *h, double p);

#endif
