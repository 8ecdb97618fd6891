/*
 * stats.c - means with intervals, percentiles by order statistics, throughput by batch means,
 * fairness. Pure functions.
 */
#include "harness/analysis/stats.h"

#include <math.h>
#include <stdlib.h>

#include "engine/base/status.h"

static const double tail_frac = 0.025; /* either side of a two-sided 95 % interval */

struct stats_mean stats_mean_of(const double *values, size_t count)
{
    struct stats_mean m = {.count = (uint32_t)count,
                           .mean = STATS_UNKNOWN,
                           .lo = STATS_UNKNOWN,
                           .hi = STATS_UNKNOWN,
                           .half_width = STATS_UNKNOWN,
                           .std_error = STATS_UNKNOWN,
                           .lag1 = STATS_UNKNOWN};
    if (count == 0) {
        return m;
    }
    double n = (double)count;
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += values[i];
    }
    m.mean = sum / n;
    if (count < 2) {
        return m;
    }
    double squares = 0.0;
    double products = 0.0;
    for (size_t i = 0; i < count; i++) {
        double d = values[i] - m.mean;
        squares += d * d;
        products += i + 1 < count ? d * (values[i + 1] - m.mean) : 0.0;
    }
    m.std_error = sqrt(squares / (n - 1.0) / n);
    m.half_width = stats_student_quantile(1.0 - tail_frac, n - 1.0) * m.std_error;
    m.lo = m.mean - m.half_width;
    m.hi = m.mean + m.half_width;
    if (count >= 4 && squares > 0.0) {
        m.lag1 = products / squares;
    }
    return m;
}

bool stats_mean_is_within(const struct stats_mean *m, double frac)
{
    return m->half_width <= frac * fabs(m->mean);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

void stats_sort(double *values, size_t count)
{
    if (count > 1) {
        qsort(values, count, sizeof *values, compare_doubles);
    }
}

/* Smallest rank (1-based) that holds fraction p. The margin absorbs that p has no exact binary
 * form. */
static size_t nearest_rank(size_t count, double p)
{
    double rank = ceil((double)count * p - 1e-9);
    if (rank < 1.0) {
        return 1;
    }
    return rank < (double)count ? (size_t)rank : count;
}

double stats_quantile(const double *sorted, size_t count, double p)
{
    ASSERT(p > 0.0 && p <= 1.0);
    return count == 0 ? STATS_UNKNOWN : sorted[nearest_rank(count, p) - 1];
}

size_t stats_quantile_samples_needed(double p)
{
    ASSERT(p > 0.0 && p < 1.0);
    /* The largest of n samples lies above the quantile with probability 1 - p^n. */
    return (size_t)ceil(log(2.0 * tail_frac) / log(p));
}

/* Smallest k in 0..n with P(X <= k) >= level, X binomial(n, p). */
static double binomial_quantile(double level, double n, double p)
{
    double lo = -1.0;
    double hi = n;
    while (hi - lo > 1.0) {
        double middle = floor(0.5 * (lo + hi));
        if (stats_binomial_cdf(middle, n, p) >= level) {
            hi = middle;
        } else {
            lo = middle;
        }
    }
    return hi;
}

struct stats_percentile stats_percentile_of(const double *sorted, size_t count,
                                            double effective_count, double p)
{
    struct stats_percentile out = {
        .value = STATS_UNKNOWN, .lo = STATS_UNKNOWN, .hi = STATS_UNKNOWN};
    double total = (double)count;
    double n = floor(effective_count < total ? effective_count : total);
    if (!(n >= (double)stats_quantile_samples_needed(p))) {
        return out;
    }
    out.value = stats_quantile(sorted, count, p);
    /*
     * x(r) lies above the quantile with probability P(B < r), at or below it with P(B >= r), where
     * B counts the samples under the quantile. Each end of the interval is the nearest rank that
     * errs with no more than tail_frac.
     */
    double low_rank = binomial_quantile(tail_frac, n, p);
    if (stats_binomial_cdf(low_rank, n, p) <= tail_frac) {
        low_rank += 1.0;
    }
    double high_rank = binomial_quantile(1.0 - tail_frac, n, p) + 1.0;
    if (low_rank >= 1.0) {
        double rank = floor(low_rank * total / n);
        out.lo = sorted[(size_t)rank - 1];
    }
    if (high_rank <= n) {
        double rank = ceil(high_rank * total / n);
        out.hi = sorted[(size_t)(rank < total ? rank : total) - 1];
    }
    return out;
}

double stats_jain(const double *values, size_t count)
{
    double sum = 0.0;
    double squares = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += values[i];
        squares += values[i] * values[i];
    }
    return squares > 0.0 ? sum * sum / ((double)count * squares) : STATS_UNKNOWN;
}
