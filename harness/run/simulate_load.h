/*
 * simulate_load.h - the load client of a run in virtual time: it gives a simulation its requests,
 * by the schedule that the real client follows, and writes down what the simulation's client sees
 * as the real one does. Private to simulate.c.
 */
#ifndef HARNESS_RUN_SIMULATE_LOAD_H
#define HARNESS_RUN_SIMULATE_LOAD_H

#include "harness/load/account.h"
#include "harness/probe/probe.h"
#include "sim/simulation.h"

/* Where virtual time begins on the clock of records and stamps, on which 0 is "never". */
#define SIMULATE_EPOCH_NS ((int64_t)1000000000)

struct simulate_user;

struct simulate_load {
    struct load_shared shared;
    const struct load_options *options; /* the region's */
    struct account account;
    struct trace trace;
    struct schedule schedule;
    struct simulate_user *users; /* closed loop */
    uint32_t *servers;           /* open modes, by connection: its API server */
    int64_t latest_end_ns;       /* nothing is sent from there on, however the window moves */
    bool exhausted;              /* the schedule has no more */
    struct schedule_item *items; /* by place: of requests that are under way */
    uint32_t *records;           /* by place: their records */
    struct probe_requests seen;  /* requests that ended, in that order until simulate_load_end() */
    size_t seen_cap;
};

MUST_CHECK enum status simulate_load_create(const struct load_options *options,
                                            struct simulate_load **out, struct error *error);
void simulate_load_free(struct simulate_load *l);

struct simulation_source simulate_load_source(struct simulate_load *l);
struct simulation_observer simulate_load_observer(struct simulate_load *l);

/* The load is over: what is still open ends with `outcome`. */
void simulate_load_end(struct simulate_load *l, enum load_outcome outcome, int64_t now_ns);

static inline int64_t simulate_ns(time_ps at)
{
    return SIMULATE_EPOCH_NS + ns_from_ps(at);
}

static inline time_ps simulate_ps(int64_t at_ns)
{
    return ps_from_ns(at_ns - SIMULATE_EPOCH_NS);
}

#endif
