/*
 * processes.h - the life of a run's processes, from its events: when each was started, ready, told
 * to end and gone; how often and with what the coordinator published. Pure functions.
 */
#ifndef HARNESS_REPORT_PROCESSES_H
#define HARNESS_REPORT_PROCESSES_H

#include "harness/report/grid.h"
#include "harness/report/result.h"

/* Times in s since the launcher was started; NAN: it did not happen. */
struct process_span {
    uint32_t kind; /* enum ledger_thread_kind of its main thread */
    uint32_t instance;
    char name[32]; /* "EngineCore_DP3" */
    double spawned_s;
    double started_s; /* its main() runs */
    double ready_s;
    double stop_s; /* told to end */
    double ended_s;
};

enum {
    PROCESS_SPANS_MAX = EVENT_LANES
};

struct process_lives {
    struct process_span *spans; /* in the order in which they were started */
    uint32_t spans_count;
    double serving_s; /* the last launcher was told that all are ready */
    double window_s[2];
    double stop_s; /* the first signal */
    double done_s;
};

/* The caller frees it with process_lives_free(). */
struct process_lives process_lives_of(const struct run_result *r);
void process_lives_free(struct process_lives *lives);

/* A row for each sort of event of each kind of process, in the order in which they first happened.
 */
struct grid processes_grid(const struct run_result *r);
/* What launcher and coordinator did in the window, in some sentences; "" without events. */
void processes_tell(const struct run_result *r, struct text *t);

#endif
