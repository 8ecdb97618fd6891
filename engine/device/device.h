/*
 * device.h - what an engine core needs from an accelerator: run steps, in order, asynchronously.
 * What is above this header does not know which device is behind it (law 2).
 *
 *     device_open(&options, &device, error);
 *     device_submit(device, plan, error);            // launches the step's work; returns while the
 * device computes device_wait(device, plan->step, &result);      // maybe on another thread; steps
 * are waited for in order device_close(device);
 *
 * One thread submits and one thread waits; they may be the same.
 */
#ifndef ENGINE_DEVICE_DEVICE_H
#define ENGINE_DEVICE_DEVICE_H

#include "engine/core/engine_core.h"
#include "engine/ledger/ledger.h"

enum {
    DEVICE_OPS_VERSION = 1,
    /* A batch in each stage of the longest pipeline, one before it, dummies; a power of two. */
    DEVICE_STEPS_IN_FLIGHT_MAX = 32
};

struct gpu_shared;
struct pipeline;

struct device_options {
    const struct topology *topology;
    uint32_t rank;                 /* engine core */
    uint32_t worker;               /* 0 .. W-1 within it */
    uint32_t requests_max;         /* slots that plans may name */
    struct ledger_thread *thread;  /* where the submitting thread's launches are counted */
    int64_t epoch_ns;              /* origin of the run clock */
    struct gpu_shared *gpu_shared; /* the GPU that the topology has this worker share
                                      (gpu_shared.h), kept by the caller; NULL: its own */
    struct pipeline *pipeline;     /* to the other workers, kept by the caller; NULL: none */
};

/* Sampled tokens of one step and when the device finished it. */
struct device_result {
    struct step_result step; /* tokens: valid until the step after the next is submitted */
    int64_t started_ns;      /* CLOCK_MONOTONIC: device began */
    int64_t done_ns;         /* device finished */
};

struct device {
    const struct device_ops *ops;
    void *state; /* owned by the implementation */
};

/* What ranks in lock-step agree on before a forward. */
struct device_lockstep {
    uint32_t tokens; /* that this rank computes: its own, or more as padding. With a plan without
                        tokens it is a dummy batch. */
    uint32_t all_tokens; /* of all ranks; 0: all compute as many as this one */
    bool graphs;         /* all can use a graph */
};

struct device_ops {
    const char *name;
    uint32_t version; /* DEVICE_OPS_VERSION */
    /* All required. */
    /* May wait for what the step needs of another worker; DIED: that wait was cancelled. */
    enum status (*submit)(void *state, const struct step_plan *plan, struct error *error);
    /* Blocks until `step` is done (sleeping, or spinning with wait = spin); fills *result. */
    void (*wait)(void *state, uint64_t step, struct device_result *result);
    /* True if `step` is done; does not block. */
    bool (*poll)(void *state, uint64_t step);
    /* KV blocks (null block included) that fit beside the weights in 90 % of the memory. */
    uint32_t (*kv_blocks)(void *state);
    void (*close)(void *state);
    /* Optional. */
    void (*lockstep)(void *state, const struct device_lockstep *agreed);
};

/* The emulated device. INVALID: model or GPU unknown, model larger than the GPU (the text says by
 * how much). */
MUST_CHECK enum status device_open(const struct device_options *options, struct device *out,
                                   struct error *error);
MUST_CHECK enum status device_submit(struct device *d, const struct step_plan *plan,
                                     struct error *error);
/* For the next submitted step; each call counts once. */
void device_lockstep(struct device *d, const struct device_lockstep *agreed);
void device_wait(struct device *d, uint64_t step, struct device_result *result);
bool device_poll(struct device *d, uint64_t step);
uint32_t device_kv_blocks(struct device *d);
void device_close(struct device *d);

/*
 * KV blocks that `topology` gives each engine core, from its own setting or from the GPU's memory:
 * what the harness prints and the engine core checks before anything starts.
 */
MUST_CHECK enum status device_plan_kv_blocks(const struct topology *topology, uint32_t *blocks,
                                             struct error *error);

/* The token that the emulated device samples: printable ASCII byte ids, or the EOS id.
 * decisions.md 11. */
uint32_t device_emulated_token(uint64_t sample_key, uint32_t position, bool ignore_eos);

#endif
