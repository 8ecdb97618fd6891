/*
 * stats.h - from samples to numbers with intervals: quantiles, means by batches, Student's t,
 * counts of fairness. Pure functions: no I/O, no clock,
 * no allocation. The report and the commands drive them.
 *
 * NAN stands for "cannot be told" (too few samples, nothing to divide by) and becomes an empty CSV
 * field; INFINITY is a value. Intervals are two-sided 95 % unless a name says otherwise.
 */
#ifndef HARNESS_ANALYSIS_STATS_H
#define HARNESS_ANALYSIS_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATS_UNKNOWN __builtin_nan("") /* NAN as a double: the macro of math.h is a float */

/* A mean with its interval. */
struct stats_mean {
    uint32_t count; /* values it was made of (batches, replicates) */
    double mean;    /* NAN without values */
    double lo;      /* NAN with fewer than two values */
    double hi;
    double half_width; /* (hi - lo) / 2 */
    double std_error;  /* of the mean */
    double lag1; /* autocorrelation of neighbours; far from 0: the batches are too short. NAN below
                    4 values */
};

/* Mean of `values` taken as independent, with Student's t: replicates, or the means of batches of a
 * run. */
struct stats_mean stats_mean_of(const double *values, size_t count);

/* A percentile with an interval by order statistics. */
struct stats_percentile {
    double value; /* nearest rank; NAN when the one-sided upper 95 % bound does not exist (too few
                     samples) */
    double lo;    /* NAN when not known */
    double hi;    /* NAN when not known */
};

/* Sorts in place, ascending. Values must not be NAN; +INFINITY is allowed (failed requests). */
void stats_sort(double *values, size_t count);
/* Smallest x with F(x) >= p (nearest rank) of sorted values, 0 < p <= 1. NAN when there are none.
 */
double stats_quantile(const double *sorted, size_t count, double p);
/* Independent samples that an upper 95 % bound of quantile p takes: 29 for .90, 59 .95, 299 .99,
 * 2995 .999. */
size_t stats_quantile_samples_needed(double p);
/*
 * The same with availability rule and interval. `effective_count` <= count is the number of
 * independent samples that the `count` correlated ones are worth (batch means); pass count when
 * they are independent.
 */
struct stats_percentile stats_percentile_of(const double *sorted, size_t count,
                                            double effective_count, double p);

/* Cumulative distributions and quantiles. */
double stats_beta_cdf(double x, double a, double b); /* regularised incomplete beta, 0 <= x <= 1 */
double stats_binomial_cdf(double k, double n, double p); /* P(X <= k) */
double stats_student_cdf(double t, double dof);
double stats_student_quantile(double p,
                              double dof); /* 0 < p < 1, dof > 0, INFINITY for the normal */

/* Jain's fairness index (sum x)^2 / (n sum x^2): 1 all equal, 1/n one has all. NAN without values
 * or all zero. */
double stats_jain(const double *values, size_t count);

/* True when the interval is within `frac` of the mean: half-width <= frac * mean. */
bool stats_mean_is_within(const struct stats_mean *m, double frac);

#endif
