/*
 * simulate_pool.h - runs in virtual time, made ahead by several threads and taken in their order:
 * what is written of them does not depend on how many threads there are.
 */
#ifndef HARNESS_RUN_SIMULATE_POOL_H
#define HARNESS_RUN_SIMULATE_POOL_H

#include "harness/run/simulate.h"

enum {
    SIMULATE_THREADS_MAX = 256
};

struct simulate_pool_options {
    const struct scenario *scenario;
    const uint32_t *runs; /* indices of scenario->runs, in the order in which they are taken */
    uint32_t runs_count;
    uint32_t threads_count;    /* 1 .. SIMULATE_THREADS_MAX */
    bool (*interrupted)(void); /* asked by every thread */
};

struct simulate_pool;

/* Everything in the options must outlive the pool. NOMEM or FULL: no thread could be started. */
MUST_CHECK enum status simulate_pool_start(const struct simulate_pool_options *options,
                                           struct simulate_pool **out, struct error *error);
/* The next run's result, once it is there; one for each of options.runs. */
void simulate_pool_take(struct simulate_pool *p, struct run_result *out);
/* Ends all threads after the runs that they are at. Accepts NULL. */
void simulate_pool_stop(struct simulate_pool *p);

#endif
