/*
 * lengths.c - see lengths.h. Driven by schedule.c for each request, by the scenario's checks and by
 * the report's predictions; nothing here keeps state.
 */
#include "harness/load/lengths.h"

#include <math.h>

/* The normal distribution of the logarithm, and the limits in its standard deviations. */
struct log_normal {
    double mu;
    double sigma;
    double least;
    double greatest;
};

static struct log_normal log_normal_of(const struct load_range *range)
{
    double cv = (double)range->sd / range->mean;
    double sigma = sqrt(log1p(cv * cv));
    double mu = log(range->mean) - sigma * sigma / 2.0;
    return (struct log_normal){
        .mu = mu,
        .sigma = sigma,
        .least = (log(range->lo - 0.5) - mu) / sigma,
        .greatest = (log(range->hi + 0.5) - mu) / sigma,
    };
}

/* The share of a standard normal distribution between a and b. */
static double normal_between(double a, double b)
{
    return 0.5 * (erfc(-b / M_SQRT2) - erfc(-a / M_SQRT2));
}

uint32_t lengths_draw(const struct load_range *range, struct random *r)
{
    if (range->sd == 0) {
        return (uint32_t)random_range(r, range->lo, range->hi);
    }
    struct log_normal l = log_normal_of(range);
    double z;
    do {
        z = random_normal(r);
    } while (z < l.least || z >= l.greatest);
    double tokens = round(exp(l.mu + l.sigma * z));
    return (uint32_t)fmin(fmax(tokens, range->lo), range->hi);
}

double lengths_inside_frac(const struct load_range *range)
{
    if (range->sd == 0) {
        return 1.0;
    }
    struct log_normal l = log_normal_of(range);
    return normal_between(l.least, l.greatest);
}

double lengths_mean(const struct load_range *range)
{
    if (range->sd == 0) {
        return ((double)range->lo + range->hi) / 2.0;
    }
    /* Weighing by the length moves the logarithm's distribution up by sigma squared. */
    struct log_normal l = log_normal_of(range);
    return range->mean * normal_between(l.least - l.sigma, l.greatest - l.sigma) /
           normal_between(l.least, l.greatest);
}
