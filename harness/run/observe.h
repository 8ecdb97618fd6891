/*
 * observe.h - the two looks at a running system between which a window is measured: ledger, /proc
 * of its tree, /proc/stat of the host; and what follows from the difference for a run's result.
 */
#ifndef HARNESS_RUN_OBSERVE_H
#define HARNESS_RUN_OBSERVE_H

#include "harness/report/result.h"
#include "harness/run/batches.h"
#include "harness/run/outside.h"
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
    const struct batches *between; /* of the last look: those since the first one; NULL: none */
};

void observe(const struct system *system, struct observation *out);
/* Of a host whose serving system is another's: what `observe` sees without a ledger. */
void observe_around(struct observation *out);
void observation_free(struct observation *o);

/* Of the ledger: stages, launching threads, engine cores, shares and the limiting stage. */
void observe_fill(const struct observation *a, const struct observation *b,
                  const struct topology *topology, struct run_result *r);
/* Of /proc: what the host's cores did, and the threads that were counted. */
void observe_fill_host(const struct observation *a, const struct observation *b,
                       const struct topology *topology, struct run_result *r);
/* The same of a system of others, as far as it can be seen from outside: stages with the quality of
 * each, engine cores' shares, the limiting stage. After outside_end(). */
void observe_fill_outside(const struct outside *o, struct run_result *r);
/* A row whose numbers are all unknown, in an array that has room for it; and that of the client. */
struct run_stage *observe_add_stage(struct run_result *r, const char *stage);
void observe_add_client(struct run_result *r);
/* The limiting stage by the rows that there are. */
void observe_judge(struct run_result *r);
/* What the client's shared region says: rates, counts, latencies, timeline. */
void observe_fill_client(const struct load_shared *client, struct run_result *r);
/* Bins of a distribution: of sorted values, and of gaps that the client counted. */
void observe_add_samples(struct run_result *r, enum run_metric metric, const double *sorted_ms,
                         size_t count);
void observe_add_gaps(struct run_result *r, enum run_metric metric, const struct histogram *gaps);
/* Whether the window, once its length is known, began in steady state. */
void observe_fill_steady(const struct load_shared *client, struct run_result *r);
/* Joins the client's records with what the serving system saw: hops, and the rows of requests.csv.
 */
void observe_fill_requests(const struct load_shared *client, const struct probe_requests *seen,
                           struct run_result *r);
/* What happened in the system's processes, once it has ended. `client` may have no header. */
void observe_fill_events(const struct ledger *ledger, const struct load_shared *client,
                         struct run_result *r);
/* The load client's besides those that are there, all in the order of time. */
void observe_add_client_events(const struct load_header *client, int64_t epoch_ns,
                               struct run_result *r);

#endif
