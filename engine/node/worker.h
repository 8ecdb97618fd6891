/*
 * worker.h - what the executor and its worker processes agree on: inherited descriptors, the
 * control socket's message. Private to these two files.
 */
#ifndef ENGINE_NODE_WORKER_H
#define ENGINE_NODE_WORKER_H

#include "engine/device/device.h"
#include "engine/node/process.h"

/* Inherited besides LEDGER_FD. */
enum {
    /* Descriptors 3 and 4 are the ledger and the event pipe, as in every process of the system. */
    WORKER_PLANS_FD = EVENT_FD + 1, /* ring: plans, broadcast to all workers of the engine core */
    WORKER_RESPONSES_FD,            /* ring: results of the output rank */
    /* Socket: one struct worker_report up; its end of file means that the engine core died. */
    WORKER_CONTROL_FD,
    WORKER_PIPELINE_FD, /* what the workers tell each other; closed if there is one */
    WORKER_GPU_FD, /* the GPU that it shares with other engine cores; closed if it has its own */
    WORKER_FDS_END,
};

/* Sent once when the worker is ready, and once more, with the reason, by a worker that gives up. */
struct worker_report {
    uint32_t status; /* enum status */
    uint32_t kv_blocks;
    char text[sizeof((struct error *)0)->text];
};

/* "Worker_DP3_0": at most 15 characters, as thread names are. */
void worker_name(uint32_t rank, uint32_t worker, char out[16]);
/* The worker that answers: the first tensor-parallel rank of the last pipeline stage. */
uint32_t worker_output_rank(const struct topology *t);

#endif
