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
 *
 * With several turns a user holds sessions. The requests of user u are numbered u, u + users,
 * u + 2 x users, ...; each `turns_count` of them are a session. A prompt is the one before it, as
 * many tokens as the answer to it was to have (made up: the answer's own are not repeated), and as
 * many new ones as the prompt length draws. So each prompt begins with the one before it.
 */
#ifndef HARNESS_LOAD_SCHEDULE_H
#define HARNESS_LOAD_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/random.h"
#include "engine/base/time.h"
#include "harness/load/options.h"
#include "harness/load/trace.h"

#define SCHEDULE_NO_TRACE     UINT32_MAX
#define SCHEDULE_BEFORE_FIRST ((uint64_t)1 << 63)

struct schedule_item {
    uint64_t number;
    int64_t offset_ns; /* open modes: intended send time since the start of the load; closed: 0 */
    uint32_t prompt_tokens;
    uint32_t output_tokens;
    uint32_t trace_index; /* SCHEDULE_NO_TRACE */
    uint64_t session;     /* load_has_sessions(): whose tokens the prompt is made of */
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
/* Request `rank` (from 0) of a user with sessions; false when there is none (requests_max). */
bool schedule_of_user(const struct schedule *s, uint32_t user, uint64_t rank,
                      struct schedule_item *item);
/* How long a user thinks after a request; before its first one: SCHEDULE_BEFORE_FIRST + user. */
int64_t schedule_think_ns(const struct load_options *options, uint64_t number);
/* Offset of the last arrival of a schedule that ends (requests_max or LOAD_TRACE). */
int64_t schedule_last_offset_ns(const struct load_options *options, const struct trace *trace);

#endif
