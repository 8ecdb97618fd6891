/*
 * pipeline.h - what the workers of one engine core tell each other about their devices: of each
 * step, when each worker's device is done. It stands for the messages by which a pipeline stage
 * hands its activations to the next, tensor-parallel ranks wait for the slowest of them, and the
 * last stage's tokens come back to the first. It is a memfd passed by inheritance.
 *
 *     pipeline_create(workers_count, &pipeline, error);  // executor; pipeline.fd to the workers
 *     pipeline_open(fd, &pipeline, error);               // a worker
 *     pipeline_publish(&pipeline, worker, step, done_ns);
 *     pipeline_await(&pipeline, &wait, &done_ns);        // blocks until it is known
 *     pipeline_cancel(&pipeline);                        // nobody waits any more
 *
 * A worker publishes every step, in order, and no worker is PIPELINE_STEPS or more steps ahead of
 * one that still awaits: a step's answer, without which the engine core submits no more than
 * DEVICE_STEPS_IN_FLIGHT_MAX further ones, leaves when all have published it.
 */
#ifndef ENGINE_DEVICE_PIPELINE_H
#define ENGINE_DEVICE_PIPELINE_H

#include "engine/base/status.h"
#include "engine/ledger/topology.h"

enum {
    PIPELINE_STEPS = 64
};

struct pipeline_header;

struct pipeline {
    struct pipeline_header *header;
    int fd; /* close-on-exec */
};

struct pipeline_wait {
    uint32_t first_worker; /* and the `workers_count` from it on */
    uint32_t workers_count;
    uint64_t step;
    enum wait_mode mode;
};

MUST_CHECK enum status pipeline_create(uint32_t workers_count, struct pipeline *out,
                                       struct error *error);
/* Takes over `fd`, also on failure. PROTOCOL: not a pipeline. */
MUST_CHECK enum status pipeline_open(int fd, struct pipeline *out, struct error *error);
void pipeline_close(struct pipeline *p);

/* The device of `worker` is done with `step` at `done_ns` (CLOCK_MONOTONIC), which may be ahead. */
void pipeline_publish(struct pipeline *p, uint32_t worker, uint64_t step, int64_t done_ns);
/*
 * Blocks until all of these workers have published the step; gives the latest of their times, 0 if
 * the step is so old that it is long done. DIED: cancelled.
 */
MUST_CHECK enum status pipeline_await(struct pipeline *p, const struct pipeline_wait *wait,
                                      int64_t *done_ns, struct error *error);
/* From any process: every wait, now or later, ends with DIED. */
void pipeline_cancel(struct pipeline *p);

#endif
