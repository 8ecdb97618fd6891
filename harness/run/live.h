/*
 * live.h - what the load client does right now, for the line of progress of a run: rates over the
 * last second, tails of the newest requests, its CPU time.
 *
 * It looks once a second, at no more than LIVE_LOOK_RECORDS of the newest records: that reads some
 * 600 kB and sorts 2,000 numbers, less than a thousandth of a core.
 */
#ifndef HARNESS_RUN_LIVE_H
#define HARNESS_RUN_LIVE_H

#include <sys/types.h>
#include <time.h>

#include "harness/load/shared.h"
#include "harness/report/progress.h"

enum {
    LIVE_TAIL_REQUESTS = 1000, /* a tail is of so many requests at most */
    LIVE_LOOK_RECORDS = 4096   /* at which it looks for them */
};

struct live {
    struct progress_client seen; /* by the last look */
    int64_t at_ns;
    int64_t cpu_ns; /* -1: not known */
    uint64_t offered_count;
    uint64_t done_count;
    clockid_t cpu_clock;
    bool cpu_known;
};

/* The client has just been started. */
void live_begin(struct live *live, pid_t client_pid, int64_t now_ns);
/* Looks again if a second has passed. `done_count`: requests that have ended. */
void live_look(struct live *live, const struct load_shared *client, uint64_t done_count,
               int64_t now_ns);

#endif
