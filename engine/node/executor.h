/*
 * executor.h - how an engine core's main thread reaches its workers: in its own thread (uniproc, D
 * = W = 1) or through shared-memory rings to W worker processes (one broadcast ring for plans, one
 * response ring from the output rank).
 *
 *     executor_start(&options, &x, error);     // starts workers and waits until all are ready
 *     executor_submit(x, plan, NULL, error);   // does not wait for the device
 *     executor_wait(x, step, &result, error);  // oldest step first; DIED if a worker went away,
 * TIMEOUT after 300 s executor_stop(x);
 */
#ifndef ENGINE_NODE_EXECUTOR_H
#define ENGINE_NODE_EXECUTOR_H

#include "engine/device/device.h"
#include "engine/ledger/ledger.h"

struct executor_options {
    struct ledger *ledger;
    struct ledger_thread *thread; /* the calling (engine main) thread's slot */
    uint32_t rank;
    uint32_t requests_max;
};

struct executor;

MUST_CHECK enum status executor_start(const struct executor_options *options, struct executor **out,
                                      struct error *error);
uint32_t executor_kv_blocks(const struct executor *x);
/* `agreed`: what ranks in lock-step will run this step with; NULL: each for itself. */
MUST_CHECK enum status executor_submit(struct executor *x, const struct step_plan *plan,
                                       const struct device_lockstep *agreed, struct error *error);
/* A step without tokens, for the sake of the other ranks: submits it and waits for its end. */
MUST_CHECK enum status executor_dummy(struct executor *x, const struct device_lockstep *agreed,
                                      struct error *error);
/* The result of the oldest submitted step is there: executor_wait() would not block. */
bool executor_ready(struct executor *x, uint64_t step);
/* result->tokens is valid until the next call. */
MUST_CHECK enum status executor_wait(struct executor *x, uint64_t step, struct step_result *result,
                                     struct error *error);
/* A descriptor that becomes readable when a worker dies; -1 in uniproc. */
int executor_death_fd(const struct executor *x);
/* Name of the worker that died, e.g. "Worker_DP3 (pid 4711, signal 9)". */
const char *executor_dead_worker(const struct executor *x);
void executor_stop(struct executor *x);

/* main of a worker process: `harness-node worker --rank R --worker W` with the inherited
 * descriptors. Exit status. */
int worker_main(int argc, char **argv);

#endif
