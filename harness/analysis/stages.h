/*
 * stages.h - which stage limits throughput: from how busy each thread was to a verdict that may
 * also be "two at once" or "none of them". Pure functions; the report drives them with what the
 * probe measured.
 *
 * A thread's use of its time is CPU time and emulated occupancy together, over wall time. The CPU
 * time of emulated work runs inside its occupancy, so both may overlap: the ledger's busy time,
 * where there is one, says by how much.
 */
#ifndef HARNESS_ANALYSIS_STAGES_H
#define HARNESS_ANALYSIS_STAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STAGES_MAX = 16,
    STAGE_NAME_BYTES = 24
};

#define STAGE_LIMIT_FRAC      0.85 /* busier than this, a stage can be the limit */
#define STAGE_LEAD_FRAC       0.05 /* and this much ahead of the next it is */
#define STAGE_HOST_LIMIT_FRAC 0.75 /* more of the host's cores in use: no evidence for a knee */

/* One thread (or device) of a stage. Fractions of wall time; NAN: not measured. */
struct stage_use {
    const char
        *stage; /* "api_server", "scheduler", "launch", "gpu", "coordinator", "ipc", "client" */
    double busy_frac; /* wall time between waits; for a device, time it computed */
    double cpu_frac;
    double occupancy_frac; /* emulated host time booked */
    bool spins;            /* waits by spinning: its CPU time is no sign of work */
};

struct stage_summary {
    char stage[STAGE_NAME_BYTES];
    uint32_t servers_count;
    bool instrumented; /* false: not one of its threads could be observed; the fractions are NAN */
    double use_frac;   /* mean over the servers */
    double max_frac;   /* busiest server */
    double cpu_frac;
    double occupancy_frac;
};

enum stage_verdict_kind {
    STAGE_NAMED,
    STAGE_MIXED,
    STAGE_UNEXPLAINED
};

struct stage_verdict {
    enum stage_verdict_kind kind;
    char first[STAGE_NAME_BYTES];  /* busiest stage, "" when none was instrumented */
    char second[STAGE_NAME_BYTES]; /* next busiest, "" when there is none */
    double first_frac;
    double second_frac;
    double headroom; /* throughput after doubling the first stage's servers, as a multiple: where
                        the next one limits */
    char text[160];  /* "api_server", "mixed(gpu, api_server)", "unexplained"; then "; not
                        instrumented: ipc" */
};

/* What fraction of its time a thread or device worked, 0..1; NAN when not measured. */
double stage_use_frac(const struct stage_use *use);
/* Threads to stages, in the order of first appearance. At most STAGES_MAX stages. Returns their
 * number. */
size_t stages_summarise(const struct stage_use *uses, size_t count,
                        struct stage_summary out[STAGES_MAX]);
void stages_limiting(const struct stage_summary *stages, size_t count, struct stage_verdict *out);
/* True when a cell's CPU use (all processes on the host, CPU seconds per second) leaves too little
 * of the host's cores. */
bool stages_host_limited(double cpu_cores_used, double host_cores);

#endif
