/*
 * histogram.h - how long calls, steps, gaps and waits were, as counts in buckets that are eight an
 * octave: times up to 7 ns exactly, up to 2^40 ns (18 minutes) within a bucket that is at most 1/8
 * as wide as it is long. A bucket speaks by its middle, so a quantile is within 6.25 % of the time
 * that has its rank. Longer times count in the last bucket.
 *
 * One writer adds (owner-only, as all counters of a slot); readers subtract two snapshots and take
 * quantiles of the difference.
 */
#ifndef ENGINE_LEDGER_HISTOGRAM_H
#define ENGINE_LEDGER_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    LEDGER_HISTOGRAM_SPLIT_BITS = 3, /* 2^3 buckets an octave */
    LEDGER_HISTOGRAM_TIME_BITS = 40,
    LEDGER_HISTOGRAM_BUCKETS = (LEDGER_HISTOGRAM_TIME_BITS - LEDGER_HISTOGRAM_SPLIT_BITS + 1)
                               << LEDGER_HISTOGRAM_SPLIT_BITS,
};

struct ledger_histogram {
    _Atomic uint64_t counts[LEDGER_HISTOGRAM_BUCKETS];
};

/* Index of the bucket that `ns` falls into; a negative time (two processes' stamps) is 0. */
static inline uint32_t ledger_histogram_bucket(int64_t ns)
{
    const uint32_t split = 1U << LEDGER_HISTOGRAM_SPLIT_BITS;
    if (ns < (int64_t)split) {
        return ns > 0 ? (uint32_t)ns : 0;
    }
    uint32_t octave = 63U - (uint32_t)__builtin_clzll((unsigned long long)ns);
    if (octave >= LEDGER_HISTOGRAM_TIME_BITS) {
        return LEDGER_HISTOGRAM_BUCKETS - 1;
    }
    uint32_t shift = octave - LEDGER_HISTOGRAM_SPLIT_BITS;
    return (shift + 1) * split + ((uint32_t)((uint64_t)ns >> shift) & (split - 1));
}

static inline void ledger_histogram_add(struct ledger_histogram *h, int64_t ns)
{
    _Atomic uint64_t *count = &h->counts[ledger_histogram_bucket(ns)];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Times that were added. */
uint64_t ledger_histogram_total(const uint64_t counts[LEDGER_HISTOGRAM_BUCKETS]);
/* Middle of the bucket with the time of rank ceil(p x total), in ns; 0 < p <= 1. NAN: none. */
double ledger_histogram_quantile(const uint64_t counts[LEDGER_HISTOGRAM_BUCKETS], double p);

#endif
