/*
 * validate.h - the simulator against a run that somebody else measured (harness/load/measured.h):
 * the same requests at the same times through the production engine core under the virtual clock,
 * and the device's coefficients fitted to a part of the run so that the rest can be scored.
 *
 * The measured system is one engine core without an API server, so the simulation's costs are all
 * zero but the device's and one delay from a request's arrival to the engine core.
 */
#ifndef HARNESS_RUN_VALIDATE_H
#define HARNESS_RUN_VALIDATE_H

#include "harness/load/measured.h"
#include "sim/simulation.h"

struct validate_system {
    const struct model_shape *model;
    const struct gpu_shape *gpu;
    uint32_t max_num_seqs;
    uint32_t max_num_batched_tokens;
    uint32_t async_depth;
    /* Called by a fit for each simulation; NULL: nobody. */
    void (*progress)(uint32_t simulations_count);
};

/* A request's latencies, from its arrival. */
struct validate_times {
    double ttft_s;
    double tpot_s; /* NAN with one output token */
    double e2el_s;
};

void validate_measured(const struct measured_run *run, struct validate_times *out);
/* What the simulation gives for each request of the run, in its order. `delay` is added to every
 * arrival. */
MUST_CHECK enum status validate_simulate(const struct validate_system *system,
                                         const struct measured_run *run, time_ps delay,
                                         struct validate_times *out, struct error *error);

/* X(FIELD, "name", "unit", ps in the unit) */
#define VALIDATE_COEFFICIENTS(X)               \
    X(base, "step", "ms", 1e9)                 \
    X(sequence, "sequence", "us", 1e6)         \
    X(kv_token, "KV token read", "ps", 1.0)    \
    X(prompt_token, "prompt token", "us", 1e6) \
    X(prompt_pair, "prompt token x context", "ps", 1.0)

enum {
    VALIDATE_COEFFICIENTS_COUNT = 6 /* the five of struct step_fit, and the delay */
};

struct validate_fit {
    struct step_fit step;
    time_ps delay;
    /* 95 % intervals, as factors on the coefficients, the delay's last; neighbouring requests are
     * taken to err together. */
    double factor_95[VALIDATE_COEFFICIENTS_COUNT];
    double condition; /* of the errors' derivatives by the logarithms of the coefficients: beyond
                         some 100 some coefficients cannot be told apart */
    uint32_t simulations_count;
};

/* Least squares on the latencies of the first `count` requests, relative to their means; starts at
 * the roofline. INVALID: fewer than 10 requests. */
MUST_CHECK enum status validate_fit(const struct validate_system *system,
                                    const struct measured_run *run, uint32_t count,
                                    struct validate_fit *out, struct error *error);

#endif
