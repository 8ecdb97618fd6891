/*
 * histogram.c - log-linear histogram of unsigned 64-bit values with a relative error of at most
 * 1/256. No allocation.
 */
#include <math.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

enum {
    SUB_BITS = 7,
    SUB_CELLS = 1 << SUB_BITS
};

_Static_assert((int)STATS_HISTOGRAM_CELLS == SUB_CELLS + (64 - SUB_BITS) * SUB_CELLS, "cells");

static uint32_t cell_of(uint64_t value)
{
    if (value < SUB_CELLS) {
        return (uint32_t)value;
    }
    uint32_t exponent = 63U - (uint32_t)__builtin_clzll(value);
    uint32_t shift = exponent - SUB_BITS;
    return SUB_CELLS * (shift + 1) + (uint32_t)((value >> shift) - SUB_CELLS);
}

void stats_histogram_cell_bounds(uint32_t cell, uint64_t *lo, uint64_t *hi)
{
    ASSERT(cell < STATS_HISTOGRAM_CELLS);
    if (cell < SUB_CELLS) {
        *lo = cell;
        *hi = cell;
        return;
    }
    uint32_t shift = cell / SUB_CELLS - 1;
    *lo = (uint64_t)(SUB_CELLS + cell % SUB_CELLS) << shift;
    *hi = *lo + (((uint64_t)1 << shift) - 1);
}

void stats_histogram_add(struct stats_histogram *h, uint64_t value, uint64_t times)
{
    if (times == 0) {
        return;
    }
    if (h->count == 0 || value < h->min) {
        h->min = value;
    }
    if (h->count == 0 || value > h->max) {
        h->max = value;
    }
    h->cells[cell_of(value)] += times;
    h->count += times;
    h->sum += (double)value * (double)times;
}

void stats_histogram_merge(struct stats_histogram *to, const struct stats_histogram *from)
{
    if (from->count == 0) {
        return;
    }
    if (to->count == 0 || from->min < to->min) {
        to->min = from->min;
    }
    if (to->count == 0 || from->max > to->max) {
        to->max = from->max;
    }
    for (uint32_t i = 0; i < STATS_HISTOGRAM_CELLS; i++) {
        to->cells[i] += from->cells[i];
    }
    to->count += from->count;
    to->sum += from->sum;
}

double stats_histogram_quantile(const struct stats_histogram *h, double p)
{
    ASSERT(p > 0.0 && p <= 1.0);
    if (h->count == 0) {
        return STATS_UNKNOWN;
    }
    double rank = ceil((double)h->count * p - 1e-9);
    uint64_t seen = 0;
    uint32_t cell = 0;
    while (cell + 1 < STATS_HISTOGRAM_CELLS && (double)(seen + h->cells[cell]) < rank) {
        seen += h->cells[cell];
        cell++;
    }
    uint64_t lo = 0;
    uint64_t hi = 0;
    stats_histogram_cell_bounds(cell, &lo, &hi);
    double middle = (double)lo + 0.5 * (double)(hi - lo);
    if (middle < (double)h->min) {
        return (double)h->min;
    }
    return middle > (double)h->max ? (double)h->max : middle;
}

double stats_histogram_mean(const struct stats_histogram *h)
{
    return h->count == 0 ? STATS_UNKNOWN : h->sum / (double)h->count;
}
