/*
 * capacity.h - what a system carries when there is always more to do, by batch means; and how much
 * of it is left when more is asked for than that. Pure functions; the search for rates drives them.
 *
 * A mean over a whole run of N requests counts the time in which the system fills and in which it
 * drains: of N = 10 requests for each slot it shows 84 % of what the system carries, and the more
 * slots there are, the less. A window inside the run has no such edges.
 */
#ifndef HARNESS_ANALYSIS_CAPACITY_H
#define HARNESS_ANALYSIS_CAPACITY_H

#include <stdbool.h>

#include "harness/analysis/stats.h"

#define CAPACITY_HALF_WIDTH_FRAC 0.02 /* an interval this narrow decides */
#define CAPACITY_LAG1_MAX        0.5  /* batches that depend on each other more are too short */

enum capacity_verdict {
    CAPACITY_KNOWN,
    CAPACITY_WIDE,      /* the interval is too wide: a longer window is needed */
    CAPACITY_DEPENDENT, /* the batches are too short to be told apart: a longer window is needed */
};

/* `batches`: the mean of a window's batches, all of equal length. */
enum capacity_verdict capacity_judge(const struct stats_mean *batches);

/* 1 - overloaded / peak, at least 0; NAN if one is not known. `overloaded`: throughput at 120 % of
 * capacity. `peak`: the greatest throughput at any load. */
double capacity_overload_droop(double overloaded, double peak);

#endif
