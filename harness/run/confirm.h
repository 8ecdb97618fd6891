/*
 * confirm.h - after a sweep: runs the configurations that its predictions are about and that are
 * not among its cells, so that each prediction can be seen to hold or fail. Measures nothing
 * itself: the caller runs what it is asked for.
 */
#ifndef HARNESS_RUN_CONFIRM_H
#define HARNESS_RUN_CONFIRM_H

#include "harness/report/confirmed.h"
#include "harness/report/result.h"

struct confirm_options {
    const struct scenario *scenario;
    const struct run_result *results; /* of the sweep */
    uint32_t results_count;
    double usable_cores; /* of the host; 0: not known */
    /* One run of `cell`, which is none of the scenario's. False: stop. */
    bool (*measure)(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out);
    void *ctx;
};

/* `out` is freed with confirmed_free(). */
void confirm_predictions(const struct confirm_options *options, struct confirmed *out);

#endif
