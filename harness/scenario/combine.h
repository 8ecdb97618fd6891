/*
 * combine.h - which values of a sweep's axes meet: all with all (cross), first with first (zip), or
 * first with first within groups of axes only (link a:b).
 */
#ifndef HARNESS_SCENARIO_COMBINE_H
#define HARNESS_SCENARIO_COMBINE_H

#include "harness/scenario/scenario.h"

/* Axis i has in each combination the value of the same number as its leader, the first axis of its
 * group; one in no group leads itself. */
struct combine {
    uint32_t leader[SCENARIO_AXES_MAX];
};

/* Reads "cross", "zip" or "link a:b c:d:e". Axes of one group must be of equal length. */
enum status combine_read(const char *text, const struct scenario *scenario, struct combine *out,
                         struct error *error);
/* How many combinations there are; past SCENARIO_CELLS_MAX only that it is more. */
uint64_t combine_count(const struct combine *combine, const struct scenario *scenario);
/* Fills in the cell's axis values with the n-th combination; the first axis changes slowest. */
void combine_pick(const struct combine *combine, const struct scenario *scenario, uint64_t n,
                  struct scenario_cell *cell);

#endif
