/*
 * random_driver.h - property test of one engine core: a seeded random workload under a virtual
 * clock.
 *
 * A seed fixes everything: the engine's options (tiny block pools, both policies, chunked or not,
 * depth 1 or 2), the requests (shared prefixes, salts, stop rules, priorities), when they arrive
 * and are aborted, and how long steps take. A model worker keeps the content of every KV block, so
 * a block that is shared, reused or evicted wrongly shows as wrong content. After every event the
 * engine's own invariants and the conservation laws are checked.
 *
 * The library prints nothing: a failure is in *error, and the events that led to it are in the
 * report.
 */
#ifndef SIM_RANDOM_DRIVER_H
#define SIM_RANDOM_DRIVER_H

#include <stdint.h>

#include "engine/base/status.h"

enum {
    RANDOM_DRIVER_TRACE_BYTES = 16384
};

struct random_driver_report {
    uint64_t digest; /* of all plans and messages: equal for equal seeds */
    uint64_t steps_count;
    uint64_t zero_token_steps_count;
    uint64_t tokens_count; /* delivered to clients */
    uint64_t requests_count;
    uint64_t aborted_count;
    uint64_t refused_count; /* FULL */
    uint64_t preemptions_count;
    uint64_t chunks_count;                 /* scheduled pieces of a prompt that sample nothing */
    uint64_t hit_tokens_count;             /* prefix cache, at admissions and readmissions */
    uint64_t wasted_seqs_count;            /* computed for a request that had ended */
    uint64_t overlapped_count;             /* plans submitted while another was in flight */
    char trace[RANDOM_DRIVER_TRACE_BYTES]; /* options and last events, one a line; complete with the
                                              seed */
};

/* STATUS_PROTOCOL: a property does not hold; the text names the seed, the event and the property.
 */
MUST_CHECK enum status random_driver_run(uint64_t seed, struct random_driver_report *out,
                                         struct error *error);

#endif
