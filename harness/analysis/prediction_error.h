/*
 * prediction_error.h - how far the values that a simulation gives lie from those that were
 * measured. Pure functions: no I/O, no clock; `harness validate` and the reports drive them.
 *
 * All errors are signed, (predicted - measured) / measured; NAN where the measured value is 0 or
 * there are no values. Percentiles are by nearest rank, as everywhere.
 */
#ifndef HARNESS_ANALYSIS_PREDICTION_ERROR_H
#define HARNESS_ANALYSIS_PREDICTION_ERROR_H

#include <stddef.h>

struct prediction_error {
    double predicted_mean;
    double measured_mean;
    double mean_frac;
    double p50_frac;
    double p90_frac;
    double p99_frac;
    /*
     * Wasserstein distance of order 1, as a share of the measured mean: what the values must be
     * moved by, on the average, to turn one distribution into the other. Never less than
     * |mean_frac|; 0 only when the distributions are equal.
     */
    double distance_frac;
};

/* Sorts both in place. The two may have different counts. */
struct prediction_error prediction_error_of(double *predicted, size_t predicted_count,
                                            double *measured, size_t measured_count);
/* The distance itself, of sorted values; NAN if one has none. */
double prediction_distance(const double *a, size_t a_count, const double *b, size_t b_count);
/* The same of two distributions over the same `values`, ascending: how often each value is there.
 */
double prediction_distance_of_counts(const double *values, const double *a_counts,
                                     const double *b_counts, size_t count);
/*
 * The error of a mean over the spread from run to run: |predicted - mean| / standard deviation of
 * `runs`. Below 2 the prediction is as good as another run would be. NAN with fewer than two runs
 * or equal ones.
 */
double prediction_error_over_spread(double predicted, const double *runs, size_t count);

#endif
