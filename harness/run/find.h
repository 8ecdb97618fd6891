/*
 * find.h - the rates of one cell: capacity with a closed loop, then searches with an open one,
 * run by run (analysis/search.h), as [find] says. Measures nothing itself: the caller runs what it
 * is asked for, so that a simulation can stand in for a serving system.
 *
 * The same seed at every rate: the same requests with the same gaps, scaled. A rate that both
 * searches ask for is measured once. What one window cannot tell is measured again with one twice
 * as long, twice at most.
 */
#ifndef HARNESS_RUN_FIND_H
#define HARNESS_RUN_FIND_H

#include "harness/report/knees.h"
#include "harness/report/result.h"

struct find_options {
    const struct scenario *scenario;
    /* One of the scenario's. Its load, which must be open, is replaced by the closed loop that
     * capacity is measured with: that is the run that stands for the cell. */
    struct scenario_cell *cell;
    /* One run of `cell`. False: stop; what was measured until then is concluded from. */
    bool (*measure)(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out);
    /* A line about what a rule did. */
    void (*note)(void *ctx, const char *text);
    void *ctx;
};

/* `capacity` is the run of the closed loop and is freed by the caller, as `row->points` is. */
void find_cell(const struct find_options *options, struct knees_row *row,
               struct run_result *capacity);

#endif
