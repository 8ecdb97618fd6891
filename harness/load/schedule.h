/*
 * schedule.h - which requests the client sends and when: a pure function of the options, the seed
 * and the trace. No clock, no sockets: what the client really did stands in its records.
 *
 * Every request's lengths and prompt depend on the seed and the request's number only, so equal
 * seeds give equal requests whatever the timing was.
 *
 * Closed loop from a standing start would let all users finish together and start together
 * (convoys). With `residual_first_outputs` the first output of each user is drawn from what is left
 * of a running one in the steady state: P(R = r) = P(L >= r) / E[L], the residual life of the
 * output length L.
 */
#ifndef HARNESS_LOAD_SCHEDULE_H
#define HARNESS_LOAD_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/random.h"
#include "engine/base/time.h"
#include "harness/load/options.h"
#include "harness/load/trace.h"

#define SCHEDULE_NO_TRACE UINT32_MAX

struct schedule_item {
    uint64_t number;
    int64_t offset_ns; /* open modes: intended send time since the start of the load; closed: 0 */
    uint32_t prompt_tokens;
    uint32_t output_tokens;
    uint32_t trace_index; /* SCHEDULE_NO_TRACE */
};

struct schedule {
    const struct load_options *options; /* borrowed, like the trace */
    const struct trace *trace;          /* NULL: none */
    struct random arrivals;
    time_ps at_ps; /* of the arrival that was handed out last */
    uint64_t next_number;
};

void schedule_init(struct schedule *s, const struct load_options *options,
                   const struct trace *trace);
/* The next request; false when there is none (the trace's end, requests_max). */
bool schedule_next(struct schedule *s, struct schedule_item *item);
/* Offset of the last arrival of a schedule that ends (requests_max or LOAD_TRACE). */
int64_t schedule_last_offset_ns(const struct load_options *options, const struct trace *trace);

#endif
