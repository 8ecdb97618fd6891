/*
 * protocol_driver.h - property test of the whole protocol: random topologies of production engine
 * cores, front ends and a coordinator under a virtual clock, on one thread.
 *
 * A seed fixes everything: how many of each there are, lock-step or not, the variant of the wave
 * and publish rules, the links' delays (each link is first in first out, nothing is promised
 * between links), the requests, their aborts, pauses and resumes, how the system starts, in some
 * seeds what goes wrong then, and the plan of faults. Another plan may be given instead. Forwards
 * and all-reduces are rendezvous of all ranks. The invariants of the protocol (docs/planted-bugs.md
 * lists them) are checked after every event.
 *
 * The library prints nothing: a failure is in *error, the events that led to it are in the report.
 */
#ifndef SIM_PROTOCOL_DRIVER_H
#define SIM_PROTOCOL_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "sim/protocol_plan.h"

enum {
    PROTOCOL_TRACE_BYTES = 131072 /* all events that are kept */
};

struct protocol_report {
    uint64_t digest; /* of all events: equal for equal seeds */
    uint64_t events_count;
    uint64_t requests_count;
    uint64_t tokens_count; /* delivered to clients */
    uint64_t cancels_count;
    uint64_t strange_aborts_count; /* unknown or ended ids */
    uint64_t first_requests_count;
    uint64_t stale_requests_count; /* stamped with a wave before their engine core's */
    uint64_t waves_count;          /* ended, by rank 0's count */
    uint64_t forwards_count;       /* of all ranks together */
    uint64_t dummies_count;
    uint64_t checks_count;
    uint64_t starts_count; /* START_DP_WAVE broadcasts */
    uint64_t publishes_count;
    uint64_t snapshots_count; /* published counts that were set aside at a step boundary */
    uint64_t pauses_count;
    uint64_t resumes_count;
    uint64_t quiet_count;   /* times at which nothing was left to happen */
    uint64_t stalls_count;  /* of clients that stop reading */
    uint64_t refused_count; /* start-ups that failed as they must */
    uint64_t deaths_count;  /* of a process, not those that follow from it */
    uint64_t errors_count;  /* requests that ended with an error because of it */
    uint64_t faults_count[PROTOCOL_FAULT_KINDS]; /* that began */
    bool lockstep;
    struct protocol_plan plan; /* that was run; what it leaves out is not in the next three */
    uint32_t ranks_count;
    uint32_t clients_count;
    uint32_t requests;                /* that were to be sent, a bit each */
    uint32_t parts;                   /* enum protocol_part: that the seed has */
    uint32_t end_us;                  /* when the run ended */
    char invariant[16];               /* the one that broke: "I1" .. "I14", or "core" */
    char trace[PROTOCOL_TRACE_BYTES]; /* options and last events, one a line */
};

/* With the plan that the seed draws; a trace is written after a failure only. STATUS_PROTOCOL: an
 * invariant does not hold; the text names seed, event, invariant and rank. */
MUST_CHECK enum status protocol_driver_run(uint64_t seed, struct protocol_report *out,
                                           struct error *error);
/* With this plan (NULL: the seed's own) and always with its trace. STATUS_INVALID: the plan names
 * what the seed does not have. */
MUST_CHECK enum status protocol_driver_replay(uint64_t seed, const struct protocol_plan *plan,
                                              struct protocol_report *out, struct error *error);

#endif
