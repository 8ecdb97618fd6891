/*
 * regression.h - what one unit of each of several kinds of work costs, from sums over windows in
 * which they were done in different numbers: least squares with coefficients of at least 0, robust
 * against windows that something else disturbed, with intervals by bootstrap over the windows and
 * with the answer to whether the kinds can be told apart at all. Pure functions; calibration drives
 * them.
 */
#ifndef HARNESS_ANALYSIS_REGRESSION_H
#define HARNESS_ANALYSIS_REGRESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    REGRESSION_TERMS_MAX = 8,
    REGRESSION_ROWS_MAX = 4096,
};

/* Beyond it two or more terms move together so closely that only what they come to is known. */
#define REGRESSION_CONDITION_MAX 30.0

struct regression_rows {
    const double *x;    /* [rows_count][terms_count], at least 0 */
    const double *y;    /* [rows_count] */
    const double *size; /* [rows_count], at least 0: what the error of y grows with */
    size_t rows_count;
    uint32_t terms_count;
};

struct regression_term {
    double value; /* NAN: no window has any of it */
    double lo;    /* 95 %; NAN: too few windows */
    double hi;
    uint32_t confused; /* bit i: cannot be told from term i (Belsley's variance proportions) */
};

struct regression {
    struct regression_term terms[REGRESSION_TERMS_MAX];
    double condition;  /* of the scaled columns: greatest over least singular value; NAN: no fit */
    double error_frac; /* median over the windows of |fitted - y| / size; NAN: no fit */
};

/* Without more windows than terms everything is NAN. */
void regression_fit(const struct regression_rows *rows, uint64_t seed, struct regression *out);

/* How far the same fit is off, without intervals, to compare several: the mean over the rows of
 * |fitted - y| / (size + a tenth of the median size), so that no tiny row decides. NAN: no fit. */
double regression_distance(const struct regression_rows *rows);

/* Sum of the terms for one row of x; terms that are NAN count as 0. */
double regression_of(const struct regression *fit, const double *x, uint32_t terms_count);

#endif
