/*
 * intervene.h - the elasticity probe of one cell: slows one stage at a time and runs the cell with
 * and without, in pairs of one seed, as [probe] says. Measures nothing itself: the caller runs what
 * it is asked for, so that arithmetic can stand in for a serving system.
 *
 * The runs without a slow-down serve all stages. The first of them says how long a stage's service
 * takes where no profile does. Every other time the order of a pair is turned round, so that a
 * machine that changes slowly does not look like an effect.
 */
#ifndef HARNESS_RUN_INTERVENE_H
#define HARNESS_RUN_INTERVENE_H

#include "harness/report/elasticity.h"
#include "harness/report/result.h"

struct intervene_options {
    const struct scenario *scenario;
    const struct run_result *results; /* of all runs: they say which cell decides, and what its
                                         stages are used */
    uint32_t results_count;
    /* One run of `cell`. False: stop; what was measured until then is concluded from. */
    bool (*measure)(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out);
    void *ctx;
};

void intervene_probe(const struct intervene_options *options, struct elasticity *out);

/*
 * The cell with a stage's service (1 + by) times as long as in `base`, a run of it: costs of the
 * host profile if they are what its threads do, else measured time as additional cost. False: this
 * stage cannot be slowed, or `base` does not tell how long it takes.
 */
bool intervene_slow(const struct run_result *base, const char *stage, double by,
                    struct scenario_cell *out);

#endif
