/*
 * helper_queue.h - a queue whose capacity is known: Poisson arrivals, slots that each serve one
 * request at a time, lognormal service times. Tests of the stability test and of the search drive
 * it as the harness drives a serving system.
 */
#ifndef TESTS_HARNESS_HELPER_QUEUE_H
#define TESTS_HARNESS_HELPER_QUEUE_H

#include <stdint.h>

#include "harness/analysis/stability.h"

enum {
    QUEUE_SLOTS_MAX = 64
};

struct queue {
    uint32_t slots_count;
    double service_s; /* mean */
    double service_cv;
    double warmup_s; /* before the window */
    uint32_t batches_count;
};

/* Counts arrivals and ends in each batch of the window. The same seed gives the same arrivals at
 * every rate, scaled, and the same service times. */
void queue_run(const struct queue *queue, double per_s, double window_s, uint64_t seed,
               struct stability_batch *batches);

#endif
