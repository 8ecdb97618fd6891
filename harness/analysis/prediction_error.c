/*
 * prediction_error.c - signed errors and the distance between two sets of values. The distance is
 * the area between the two quantile functions, which are steps: it is summed from one step of
 * either to the next.
 */
#include "harness/analysis/prediction_error.h"

#include <math.h>

#include "harness/analysis/stats.h"

static double mean_of(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += values[i];
    }
    return count > 0 ? sum / (double)count : STATS_UNKNOWN;
}

static double relative(double predicted, double measured)
{
    return measured > 0 || measured < 0 ? (predicted - measured) / measured : STATS_UNKNOWN;
}

double prediction_distance(const double *a, size_t a_count, const double *b, size_t b_count)
{
    if (a_count == 0 || b_count == 0) {
        return STATS_UNKNOWN;
    }
    double area = 0;
    double at = 0; /* share of the distributions that is done */
    for (size_t i = 0, k = 0; i < a_count && k < b_count;) {
        double a_end = (double)(i + 1) / (double)a_count;
        double b_end = (double)(k + 1) / (double)b_count;
        double end = fmin(a_end, b_end);
        area += (end - at) * fabs(a[i] - b[k]);
        at = end;
        /* Compared as integers: rounded shares that ought to be equal might not be. */
        size_t a_place = (i + 1) * b_count;
        size_t b_place = (k + 1) * a_count;
        i += a_place <= b_place;
        k += b_place <= a_place;
    }
    return area;
}

double prediction_distance_of_counts(const double *values, const double *a_counts,
                                     const double *b_counts, size_t count)
{
    double a_total = 0;
    double b_total = 0;
    double a_below = 0;
    double b_below = 0;
    double area = 0;
    for (size_t i = 0; i < count; i++) {
        a_total += a_counts[i];
        b_total += b_counts[i];
    }
    if (!(a_total > 0 && b_total > 0)) {
        return STATS_UNKNOWN;
    }
    for (size_t i = 0; i + 1 < count; i++) {
        a_below += a_counts[i];
        b_below += b_counts[i];
        area += fabs(a_below / a_total - b_below / b_total) * (values[i + 1] - values[i]);
    }
    return area;
}

struct prediction_error prediction_error_of(double *predicted, size_t predicted_count,
                                            double *measured, size_t measured_count)
{
    static const double quantiles[] = {0.50, 0.90, 0.99};
    double errors[3];
    stats_sort(predicted, predicted_count);
    stats_sort(measured, measured_count);
    for (size_t i = 0; i < 3; i++) {
        errors[i] = relative(stats_quantile(predicted, predicted_count, quantiles[i]),
                             stats_quantile(measured, measured_count, quantiles[i]));
    }
    struct prediction_error e = {
        .predicted_mean = mean_of(predicted, predicted_count),
        .measured_mean = mean_of(measured, measured_count),
        .p50_frac = errors[0],
        .p90_frac = errors[1],
        .p99_frac = errors[2],
    };
    e.mean_frac = relative(e.predicted_mean, e.measured_mean);
    e.distance_frac =
        prediction_distance(predicted, predicted_count, measured, measured_count) / e.measured_mean;
    return e;
}

double prediction_error_over_spread(double predicted, const double *runs, size_t count)
{
    if (count < 2) {
        return STATS_UNKNOWN;
    }
    double mean = mean_of(runs, count);
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        squares += (runs[i] - mean) * (runs[i] - mean);
    }
    double deviation = sqrt(squares / (double)(count - 1));
    return deviation > 0 ? fabs(predicted - mean) / deviation : STATS_UNKNOWN;
}
