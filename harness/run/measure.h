/*
 * measure.h - one run: start a serving system, drive it with the load client, read its counters at
 * the edges of the window, end it, and say what was seen.
 *
 * A run always gives a result. Whatever dies, what was measured so far is in it, with the outcome
 * and the reason.
 */
#ifndef HARNESS_RUN_MEASURE_H
#define HARNESS_RUN_MEASURE_H

#include "harness/report/progress.h"
#include "harness/report/result.h"

/* What a person may want to see while it runs; at most ten times a second. */
struct measure_progress {
    const char *phase;       /* "start", "warmup", "window", "drain", "stop" */
    double phase_s;          /* since the phase began */
    double phase_total_s;    /* NAN: unknown */
    double output_tok_per_s; /* over the last interval; NAN before the load */
    uint64_t sent_count;
    uint64_t done_count;
    uint64_t inflight;
    struct progress_client client;
};

struct system;

/* A running system, to be looked at. */
struct measure_look {
    const struct system *system;
    const struct load_shared *client;
    int32_t client_pid;
};

struct measure_options {
    const struct scenario *scenario;
    const struct scenario_run *run;
    uint32_t order_index;
    int log_fd;         /* stderr of the system's processes and of the client */
    const char *folder; /* of the results, for recordings; NULL: there are none, whatever the cell
                           says */
    const struct run_host *host; /* for the client's ceiling */
    void (*progress)(void *ctx, const struct measure_progress *progress);
    /* Of the project's own system, some 50 times a second while the window passes; NULL: nobody. */
    void (*look)(void *ctx, const struct measure_look *look);
    void *ctx;
    bool (*interrupted)(void);
};

/* The caller frees *out with result_free(). */
void measure_run(const struct measure_options *options, struct run_result *out);

/* A run that is not made, and why: no file but runs.csv has a row of it. */
void measure_skipped(const struct measure_options *options, const char *reason,
                     struct run_result *out);

/* A result in which nothing is known yet but which run it is of. */
void measure_begin(const struct measure_options *options, struct run_result *r);
/* The load of a cell; where its servers are is for the caller to say. */
struct load_options measure_load(const struct scenario_cell *cell, uint64_t seed);
/* The topology a cell stands for, with what the runner decides (listen address, seed, grace). */
struct topology measure_topology(const struct scenario_cell *cell, uint64_t seed);

#endif
