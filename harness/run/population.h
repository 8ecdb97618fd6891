/*
 * population.h - what the requests that were due in a run's window say, batch by batch: how many
 * keep the limits of an [slo], whether the backlog grows, and how many independent requests they
 * are worth. Works on the rows of requests.csv (open and trace loads); closed loops have none.
 * Driven by the measuring of a run and by the search for rates. Pure but for scratch memory.
 */
#ifndef HARNESS_RUN_POPULATION_H
#define HARNESS_RUN_POPULATION_H

#include "harness/analysis/slo.h"
#include "harness/analysis/stability.h"
#include "harness/report/result.h"

/* What arrived and what was completed in each of `count` equal batches of the window. */
void population_backlog(const struct run_result *r, struct stability_batch *batches,
                        uint32_t count);

/* Requests that a limit is about, by batch, and those over it. One that failed, or did not end, is
 * over each limit; one with fewer than two tokens has no time per token to be over with. */
struct population_limits {
    struct slo_batch ttft[LOAD_BATCHES_MAX];
    struct slo_batch tpot[LOAD_BATCHES_MAX];
    struct slo_batch any[LOAD_BATCHES_MAX]; /* all requests; over at least one limit, or failed */
};

/* `count` <= LOAD_BATCHES_MAX. A limit of 0 is none: only requests that failed are over it. */
void population_limits_of(const struct run_result *r, const struct scenario_slo *slo,
                          uint32_t count, struct population_limits *out);

/* Fills what a run's result says of its population, with the [slo] of its cell. What cannot be told
 * stays unknown. */
void population_fill(struct run_result *r);

#endif
