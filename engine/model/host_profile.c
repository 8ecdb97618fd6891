/*
 * host_profile.c - owns the table of host profiles. Driven by the harness and the simulator. Pure
 * data: no state, no clock.
 */
#include "engine/model/host_profile.h"

#include <string.h>

static const struct host_profile profiles[] = {
    {.name = "native"},
    {
        .name = "vllm-python",
        /* HTTP, JSON, chat template and routing of a request: an assumption of this project. */
        .api_request = PS_PER_MS,
        /* Hugging Face tokenizers encode about 500 k tokens/s on a core: 1.18 ms for 679 tokens
         * (andyluo7/cpu-gpu-codesign). */
        .api_prompt_token = 2 * PS_PER_US,
        /* Socket read, decode and task switch of one EngineCoreOutputs: an assumption; nothing is
         * published (vLLM issue 46121 asks for it). */
        .api_message = 50 * PS_PER_US,
        /* Detokenise, build and write one streamed token. 46 us is a latency fit (BLIS,
         * inference-sim: docs/guide/latency-models.md); 9.7 us follows from a published
         * throughput, if that ran 4 API servers. The report shows the knee at both ends. */
        .api_output_token = 46 * PS_PER_US,
        .api_output_token_lo = 9700000,
        .api_output_token_hi = 46 * PS_PER_US,
        /* Scheduler and output processing of a step: BLIS's fit to vLLM on H100, its part by layer
         * left out because that is the device's. Hidden by asynchronous scheduling while the device
         * step is longer. */
        .engine_step = 126 * PS_PER_US,
        .engine_seq = 4 * PS_PER_US,
        /* One message through the coordinator's poll loop: an assumption. */
        .coordinator_message = 50 * PS_PER_US,
        /* An engine core's input and output threads: nothing is published (issue 46121 again), so
         * they cost nothing here; a scenario can set what it assumes. */
    },
};

const struct host_profile *host_profile_at(uint32_t index)
{
    return index < sizeof profiles / sizeof profiles[0] ? &profiles[index] : NULL;
}

const struct host_profile *host_profile_find(const char *name)
{
    const struct host_profile *p = NULL;
    for (uint32_t i = 0; (p = host_profile_at(i)) != NULL; i++) {
        if (strcmp(p->name, name) == 0) {
            break;
        }
    }
    return p;
}
