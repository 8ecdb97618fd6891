/*
 * host_profile.h - what the emulated host adds to each stage: pure data, read by the harness (which
 * puts it into a topology), the devices and the simulator.
 */
#ifndef ENGINE_MODEL_HOST_PROFILE_H
#define ENGINE_MODEL_HOST_PROFILE_H

#include <stdint.h>

#include "engine/base/time.h"

/* Added service times of an emulated host (decisions.md 18), in ps of thread occupancy. All zero:
 * `native`. */
struct host_profile {
    char name[32];
    time_ps api_request;      /* API server, a request */
    time_ps api_prompt_token; /* API server, a prompt token */
    time_ps api_message;      /* API server, an engine message */
    time_ps api_output_token; /* API server, an output token */
    time_ps engine_step;      /* engine core, a step */
    time_ps engine_seq;       /* engine core, a sequence in a step */
    time_ps coordinator_message;
    time_ps api_output_token_lo; /* published range of api_output_token, for the report */
    time_ps api_output_token_hi;
};

/* "native" or "vllm-python"; NULL if unknown. */
const struct host_profile *host_profile_find(const char *name);
const struct host_profile *host_profile_at(uint32_t index);

#endif
