/*
 * distribution.c - the distributions behind the intervals: regularised incomplete beta, binomial,
 * Student's t. Accurate to about 1e-12 for the sizes met here. Pure functions.
 */
#include <float.h>
#include <math.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

enum {
    FRACTION_STEPS_MAX = 10000,
    BISECTION_STEPS = 200
};

static double not_zero(double x)
{
    return fabs(x) < DBL_MIN * 4.0 ? DBL_MIN * 4.0 : x;
}

/* Continued fraction of the incomplete beta by the modified Lentz method; converges fast for x <
 * (a+1)/(a+b+2). */
static double beta_fraction(double x, double a, double b)
{
    double c = 1.0;
    double d = 1.0 / not_zero(1.0 - (a + b) * x / (a + 1.0));
    double f = d;
    for (int m = 1; m <= FRACTION_STEPS_MAX; m++) {
        double even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / not_zero(1.0 + even * d);
        c = not_zero(1.0 + even / c);
        f *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / not_zero(1.0 + odd * d);
        c = not_zero(1.0 + odd / c);
        double change = d * c;
        f *= change;
        if (fabs(change - 1.0) < 1e-15) {
            break;
        }
    }
    return f;
}

static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

double stats_beta_cdf(double x, double a, double b)
{
    ASSERT(a > 0.0 && b > 0.0);
    if (x <= 0.0) {
        return 0.0;
    }
    if (x >= 1.0) {
        return 1.0;
    }
    double log_front = log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x);
    double front = exp(log_front);
    if (x < (a + 1.0) / (a + b + 2.0)) {
        return front * beta_fraction(x, a, b) / a;
    }
    return 1.0 - front * beta_fraction(1.0 - x, b, a) / b;
}

double stats_binomial_cdf(double k, double n, double p)
{
    k = floor(k);
    if (k < 0.0) {
        return 0.0;
    }
    if (k >= n) {
        return 1.0;
    }
    return stats_beta_cdf(1.0 - p, n - k, k + 1.0);
}

double stats_student_cdf(double t, double dof)
{
    ASSERT(dof > 0.0);
    if (isinf(dof)) {
        return 0.5 * erfc(-t / sqrt(2.0));
    }
    double tail = 0.5 * stats_beta_cdf(dof / (dof + t * t), 0.5 * dof, 0.5);
    return t > 0.0 ? 1.0 - tail : tail;
}

double stats_student_quantile(double p, double dof)
{
    ASSERT(p > 0.0 && p < 1.0);
    /* The lower half keeps its relative accuracy in the tail, and the distribution is symmetric. */
    bool upper = p > 0.5;
    double tail = upper ? 1.0 - p : p;
    double lo = -1.0;
    double hi = 0.0;
    while (stats_student_cdf(lo, dof) > tail) {
        hi = lo;
        lo *= 2.0;
    }
    for (int i = 0; i < BISECTION_STEPS && hi - lo > 1e-14 * -lo; i++) {
        double middle = 0.5 * (lo + hi);
        if (stats_student_cdf(middle, dof) > tail) {
            hi = middle;
        } else {
            lo = middle;
        }
    }
    double t = 0.5 * (lo + hi);
    return upper ? -t : t;
}
