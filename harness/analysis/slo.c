/*
 * slo.c - owns the tests of slo.h: Clopper-Pearson bounds from the binomial distribution, and pool
 * adjacent violators. Driven by the search for rates. Must not pass on too little evidence.
 */
#include "harness/analysis/slo.h"

#include <math.h>
#include <stdbool.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

enum {
    BISECTIONS = 60,
    BLOCKS_MAX = 256,
};

/* Share x with P(X <= over | x) = tail: bisection, since the distribution falls in x. */
static double share_at(double count, double over, double tail)
{
    double lo = 0;
    double hi = 1;
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = (lo + hi) / 2;
        if (stats_binomial_cdf(over, count, middle) > tail) {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    return (lo + hi) / 2;
}

void slo_judge(double count, double over_count, double inflation, double p, double confidence,
               struct slo_test *out)
{
    ASSERT(inflation >= 1 && over_count <= count);
    double n = floor(count / inflation);
    double k = ceil(over_count / inflation);
    *out = (struct slo_test){.over_frac = STATS_UNKNOWN, .over_lo = 0, .over_hi = 1};
    if (n < 1) {
        return;
    }
    k = fmin(k, n);
    double tail = 1.0 - confidence;
    out->over_frac = over_count / count;
    out->over_hi = k < n ? share_at(n, k, tail) : 1.0;
    out->over_lo = k > 0 ? share_at(n, k - 1.0, confidence) : 0.0;
    if (out->over_hi <= 1.0 - p) {
        out->outcome = SLO_PASS;
    } else if (out->over_lo > 1.0 - p) {
        out->outcome = SLO_FAIL;
    }
}

double slo_inflation(const struct slo_batch *batches, size_t batches_count)
{
    double count = 0;
    double over = 0;
    double sum = 0;
    for (size_t i = 0; i < batches_count; i++) {
        count += batches[i].count;
        over += batches[i].over_count;
    }
    double share = over / count;
    double expected = over / (double)batches_count * (1 - share);
    for (size_t i = 0; i < batches_count; i++) {
        double d = batches[i].over_count - share * batches[i].count;
        sum += d * d;
    }
    return batches_count >= 2 && expected > 0
               ? fmax(1, sum / (double)(batches_count - 1) / expected)
               : 1;
}

uint32_t slo_requests_needed(uint32_t over_count, double p, double confidence)
{
    uint32_t hi = over_count + 1;
    double tail = 1.0 - confidence;
    while (stats_binomial_cdf(over_count, hi, 1.0 - p) > tail) {
        hi *= 2;
    }
    uint32_t lo = hi / 2;
    while (lo + 1 < hi) {
        uint32_t middle = lo + (hi - lo) / 2;
        if (stats_binomial_cdf(over_count, middle, 1.0 - p) > tail) {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    return hi;
}

/* Neighbours that were pooled: they share one value. */
struct block {
    double value;
    double weight;
    size_t count;
};

double slo_isotonic(double *values, const double *weights, size_t count)
{
    struct block blocks[BLOCKS_MAX];
    size_t blocks_count = 0;
    ASSERT(count <= BLOCKS_MAX);
    for (size_t i = 0; i < count; i++) {
        blocks[blocks_count++] = (struct block){values[i], weights[i], 1};
        while (blocks_count > 1 &&
               blocks[blocks_count - 2].value > blocks[blocks_count - 1].value) {
            struct block *left = &blocks[blocks_count - 2];
            const struct block *right = &blocks[blocks_count - 1];
            double weight = left->weight + right->weight;
            left->value = (left->value * left->weight + right->value * right->weight) / weight;
            left->weight = weight;
            left->count += right->count;
            blocks_count--;
        }
    }
    double moved = 0;
    size_t at = 0;
    for (size_t b = 0; b < blocks_count; b++) {
        for (size_t i = 0; i < blocks[b].count; i++, at++) {
            moved = fmax(moved, fabs(values[at] - blocks[b].value));
            values[at] = blocks[b].value;
        }
    }
    return moved;
}
