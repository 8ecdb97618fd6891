/*
 * slo.h - does a system meet a latency limit at one rate, and where along the rates does it stop?
 * An exact binomial test at one rate, and a monotone fit over several. Pure functions; the search
 * for the greatest rate within an SLO drives them.
 *
 * "p99 at most 500 ms" means that at most 1 % of the requests are over 500 ms; a failed request is
 * over. Passing needs evidence: as in MLPerf, with 99 % confidence a p99 takes 459, 662 or 838
 * requests with 0, 1 or 2 over the limit.
 */
#ifndef HARNESS_ANALYSIS_SLO_H
#define HARNESS_ANALYSIS_SLO_H

#include <stddef.h>
#include <stdint.h>

enum slo_outcome {
    SLO_UNDECIDED, /* more requests are needed */
    SLO_PASS,      /* upper bound of the share over the limit is at most 1 - p */
    SLO_FAIL,      /* its lower bound is above 1 - p */
};

struct slo_test {
    enum slo_outcome outcome;
    double over_frac;
    double over_lo; /* one-sided exact bounds (Clopper-Pearson) */
    double over_hi;
};

/*
 * Of `count` requests `over_count` were over the limit of quantile p (0.99). `inflation` >= 1:
 * requests that one independent request is worth, from batch means; 1 if independent. confidence
 * e.g. 0.95.
 */
void slo_judge(double count, double over_count, double inflation, double p, double confidence,
               struct slo_test *out);
/* Requests of one batch of a window, and those of them over a limit. */
struct slo_batch {
    double count;
    double over_count;
};

/* How much more the batches differ than those of independent requests would: the `inflation` of
 * slo_judge(). 1 where nothing is over, or everything. */
double slo_inflation(const struct slo_batch *batches, size_t batches_count);

/* Least number of independent requests that pass with over_count of them over the limit. */
uint32_t slo_requests_needed(uint32_t over_count, double p, double confidence);

/*
 * Non-decreasing weighted least-squares fit (pool adjacent violators), in place: values[i] at the
 * i-th smallest rate, weights > 0. Returns the greatest amount by which a value was moved.
 */
double slo_isotonic(double *values, const double *weights, size_t count);

#endif
