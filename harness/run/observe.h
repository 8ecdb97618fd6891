/*
 * observe.h - the two looks at a running system between which a window is measured: ledger, /proc
 * of its tree, /proc/stat of the host; and what follows from the difference for a run's result.
 */
#ifndef HARNESS_RUN_OBSERVE_H
#define HARNESS_RUN_OBSERVE_H

#include "harness/report/result.h"
#include "harness/run/system.h"

struct observation {
    struct probe_snapshot ledger;
    struct proc_tree system;  /* the launcher's tree; empty when it could not be read */
    struct proc_tree harness; /* the harness's own, client and system left out */
    struct proc_cpu host;
    bool system_known;
    bool harness_known;
    bool host_known;
    bool taken;
};

void observe(const struct system *system, struct observation *out);
void observation_free(struct observation *o);

/* Stages, launching threads, engine cores, shares, host use and the limiting stage. */
void observe_fill(const struct observation *a, const struct observation *b,
                  const struct topology *topology, struct run_result *r);
/* What the client's shared region says: rates, counts, latencies, timeline. */
void observe_fill_client(const struct load_shared *client, struct run_result *r);
/* Joins the client's records with the ledger's: hops, and the rows of requests.csv. */
void observe_fill_requests(const struct load_shared *client, const struct ledger *ledger,
                           struct run_result *r);

#endif
