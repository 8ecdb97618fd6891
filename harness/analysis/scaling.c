/*
 * scaling.c - the marginal-gain test and what goes with it. Pure functions.
 *
 * Noise is taken as proportional to throughput, so the relative variance is pooled over all cells
 * of a series: two or three replicates a cell then still give a usable number of degrees of
 * freedom. Where the spread of batches within a run says that the noise is larger, that is taken
 * instead.
 */
#include "harness/analysis/scaling.h"

#include <math.h>
#include <stdio.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

/* A cell's mean with the variance of that mean (NAN: unknown). */
struct level {
    double mean;
    double variance;
    double dof;
};

struct pool {
    double relative_variance; /* of one replicate */
    double dof;
};

static double mean_of(const struct scaling_cell *cell)
{
    ASSERT(cell->replicates_count >= 1 && cell->replicates_count <= SCALING_REPLICATES_MAX);
    double sum = 0.0;
    for (uint32_t i = 0; i < cell->replicates_count; i++) {
        sum += cell->rates[i];
    }
    return sum / cell->replicates_count;
}

static struct pool pool_of(const struct scaling_cell *cells, size_t count)
{
    struct pool pool = {0};
    for (size_t k = 0; k < count; k++) {
        double mean = mean_of(&cells[k]);
        if (!(mean > 0.0)) {
            continue;
        }
        for (uint32_t i = 0; i < cells[k].replicates_count; i++) {
            double d = cells[k].rates[i] / mean - 1.0;
            pool.relative_variance += d * d;
        }
        pool.dof += cells[k].replicates_count - 1;
    }
    if (pool.dof > 0.0) {
        pool.relative_variance /= pool.dof;
    }
    return pool;
}

static struct level level_of(const struct scaling_cell *cell, const struct pool *pool)
{
    struct level level = {.mean = mean_of(cell), .variance = STATS_UNKNOWN, .dof = 1.0};
    double n = cell->replicates_count;
    if (pool->dof > 0.0) {
        level.variance = pool->relative_variance * level.mean * level.mean / n;
        level.dof = pool->dof;
    }
    if (cell->batch_std_error > 0.0 && cell->batches_count >= 2) {
        double variance = cell->batch_std_error * cell->batch_std_error / n;
        if (isnan(level.variance) || variance > level.variance) {
            level.variance = variance;
            level.dof = n * (cell->batches_count - 1);
        }
    }
    return level;
}

static void bound(struct scaling_gain *gain, double variance, double dof)
{
    if (isnan(variance)) {
        return;
    }
    double reach = stats_student_quantile(0.95, dof) * sqrt(variance);
    gain->lower = gain->gain - reach;
    gain->upper = gain->gain + reach;
}

/* Gain a core from one level to the next in units of `base` (throughput of one core), variance by
 * the delta method. */
static struct scaling_gain gain_of(const struct scaling_cell *from, const struct scaling_cell *to,
                                   const struct scaling_cell *first, const struct pool *pool)
{
    struct scaling_gain gain = {.cores_from = from->cores,
                                .cores_to = to->cores,
                                .lower = STATS_UNKNOWN,
                                .upper = STATS_UNKNOWN};
    struct level x = level_of(from, pool);
    struct level y = level_of(to, pool);
    struct level f = level_of(first, pool);
    double base = f.mean / first->cores;
    double scale = (to->cores - from->cores) * base;
    gain.gain = (y.mean - x.mean) / scale;
    double dof = fmin(fmin(x.dof, y.dof), f.dof);
    double base_share = f.variance / (f.mean * f.mean); /* relative variance of the unit */
    double variance;
    if (from == first) {
        /* Numerator and unit are the same measurement: only the ratio of the two is random. */
        double ratio = y.mean / scale;
        variance = y.variance / (scale * scale) + ratio * ratio * base_share;
    } else {
        variance = (x.variance + y.variance) / (scale * scale) + gain.gain * gain.gain * base_share;
    }
    bound(&gain, variance, dof);
    return gain;
}

static void summarise(struct scaling_last_helpful *out, const struct scaling_cell *cells,
                      size_t count)
{
    uint32_t largest = cells[count - 1].cores;
    switch (out->status) {
    case SCALING_FLAT:
        (void)snprintf(out->text, sizeof out->text, "%u [%u, %u)", out->last_helpful, out->lo,
                       out->hi);
        break;
    case SCALING_ABOVE_RANGE:
        (void)snprintf(out->text, sizeof out->text, "> %u", largest);
        break;
    case SCALING_NO_VARIANCE:
    case SCALING_TOO_FEW:
        (void)snprintf(out->text, sizeof out->text, "undecided");
        break;
    }
}

void scaling_last_helpful(const struct scaling_cell *cells, size_t count, double useful_gain,
                          struct scaling_last_helpful *out)
{
    ASSERT(count <= SCALING_CELLS_MAX);
    *out = (struct scaling_last_helpful){.status = SCALING_TOO_FEW};
    if (count == 0) {
        (void)snprintf(out->text, sizeof out->text, "undecided");
        return;
    }
    struct pool pool = pool_of(cells, count);
    bool proven = true; /* every step so far was shown to be useful */
    bool known = false;
    out->lo = cells[0].cores;
    for (size_t k = 0; k + 1 < count; k++) {
        ASSERT(cells[k + 1].cores > cells[k].cores);
        struct scaling_gain gain = gain_of(&cells[k], &cells[k + 1], &cells[0], &pool);
        out->gains[out->gains_count++] = gain;
        known = known || !isnan(gain.upper);
        proven = proven && gain.lower > useful_gain;
        if (out->hi == 0 && gain.upper < useful_gain) {
            out->last_helpful = gain.cores_from;
            out->hi = gain.cores_to;
        }
        if (proven && out->hi == 0) {
            out->lo = gain.cores_to;
        }
    }
    if (out->hi == 0) {
        out->last_helpful = cells[count - 1].cores;
    }
    if (count >= 2) {
        enum scaling_status open = known ? SCALING_ABOVE_RANGE : SCALING_NO_VARIANCE;
        out->status = out->hi != 0 ? SCALING_FLAT : open;
    }
    summarise(out, cells, count);
}

void scaling_efficiency_table(const struct scaling_cell *cells, size_t count,
                              struct scaling_efficiency *out)
{
    struct pool pool = pool_of(cells, count);
    for (size_t k = 0; k < count; k++) {
        struct level level = level_of(&cells[k], &pool);
        double base = mean_of(&cells[0]) / cells[0].cores;
        double reach = isnan(level.variance)
                           ? STATS_UNKNOWN
                           : stats_student_quantile(0.975, level.dof) * sqrt(level.variance);
        out[k] = (struct scaling_efficiency){
            .cores = cells[k].cores,
            .rate = level.mean,
            .lo = level.mean - reach,
            .hi = level.mean + reach,
            .speedup = level.mean / base,
            .efficiency = level.mean / (base * cells[k].cores),
        };
    }
}

struct scaling_gain scaling_relative_gain(const struct scaling_cell *fewer,
                                          const struct scaling_cell *more)
{
    struct pool a = pool_of(fewer, 1);
    struct pool b = pool_of(more, 1);
    struct pool both = {.dof = a.dof + b.dof};
    if (both.dof > 0.0) {
        both.relative_variance =
            (a.relative_variance * a.dof + b.relative_variance * b.dof) / both.dof;
    }
    struct level x = level_of(fewer, &both);
    struct level y = level_of(more, &both);
    double ratio = y.mean / x.mean;
    struct scaling_gain gain = {.cores_from = fewer->cores,
                                .cores_to = more->cores,
                                .gain = ratio - 1.0,
                                .lower = STATS_UNKNOWN,
                                .upper = STATS_UNKNOWN};
    double variance =
        y.variance / (x.mean * x.mean) + ratio * ratio * x.variance / (x.mean * x.mean);
    bound(&gain, variance, fmin(x.dof, y.dof));
    return gain;
}

double scaling_api_server_knee(double ceiling_tokens_per_s, uint32_t api_servers,
                               double rate_per_core)
{
    return ceiling_tokens_per_s * api_servers / rate_per_core;
}
