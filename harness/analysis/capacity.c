/*
 * capacity.c - owns the rule that decides when throughput with a backlog is known (capacity.h).
 * Driven by the search for rates. Must not take batches for independent that are not.
 */
#include "harness/analysis/capacity.h"

#include <math.h>

enum capacity_verdict capacity_judge(const struct stats_mean *batches)
{
    if (!stats_mean_is_within(batches, CAPACITY_HALF_WIDTH_FRAC)) {
        return CAPACITY_WIDE;
    }
    return batches->lag1 > CAPACITY_LAG1_MAX ? CAPACITY_DEPENDENT : CAPACITY_KNOWN;
}

double capacity_overload_droop(double overloaded, double peak)
{
    if (isnan(overloaded) || !(peak > 0)) {
        return STATS_UNKNOWN;
    }
    return fmax(0, 1 - overloaded / peak);
}
