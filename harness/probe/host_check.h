/*
 * host_check.h - what on this host would spoil a measurement, and the command that mends it.
 *
 *     struct host_state state;
 *     host_state_read("", &state);         files of /proc and /sys, below any root
 *     host_state_measure(&state);          timers, a spinning thread, other users: about 2 s
 *     count = host_judge(&state, &needs, findings);
 *
 * Reading, measuring and judging are apart so that a made-up host can be judged. What could not be
 * read says so (HOST_UNKNOWN) and is never taken for fine. Only reads; driven by `harness doctor`.
 */
#ifndef HARNESS_PROBE_HOST_CHECK_H
#define HARNESS_PROBE_HOST_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "engine/ledger/topology.h"

#define HOST_NO_NUMBER ((int64_t)-1) /* could not be read */
#define HOST_NO_LIMIT  INT64_MAX     /* "max", "unlimited" */

enum {
    HOST_WORD_BYTES = 48,
    HOST_LINE_BYTES = 192,
    HOST_OTHERS = 3,
    HOST_FINDINGS_MAX = 32,
};

/* A process that used CPU time while the host was to be idle. */
struct host_other {
    int32_t pid;
    char comm[16];
    double cores;
};

/* Numbers: HOST_NO_NUMBER; fractions: NAN; words: "" where the host does not say. */
struct host_state {
    /* processor */
    char governor[HOST_WORD_BYTES]; /* of the first processor, */
    int64_t governors_count;        /* and how many different ones there are */
    int64_t turbo;                  /* 1: on */
    int64_t smt;                    /* 1: on */
    int64_t cpus_online;
    int64_t cpus_allowed; /* by affinity and cpuset */
    int64_t numa_nodes;
    double quota_cores;               /* of the control group; INFINITY: none */
    char quota_path[HOST_LINE_BYTES]; /* the file that says so */
    /* time */
    char clock_source[HOST_WORD_BYTES];
    char clock_sources[HOST_LINE_BYTES]; /* that there are */
    int64_t timer_slack_ns;
    double timer_late_p50_us; /* 1 ms sleeps, measured */
    double timer_late_p99_us;
    /* limits */
    int64_t memory_available_bytes;
    int64_t memory_limit_bytes; /* of the control group */
    int64_t memory_used_bytes;  /* of that */
    int64_t swap_bytes;
    int64_t swap_used_bytes;
    int64_t overcommit;               /* /proc/sys/vm/overcommit_memory */
    char huge_pages[HOST_WORD_BYTES]; /* "always", "madvise", "never" */
    int64_t files_soft;
    int64_t files_hard;
    int64_t tasks_max;     /* processes and threads: least of ulimit and pids.max */
    int64_t ports_count;   /* ephemeral */
    int64_t ports_waiting; /* in TIME_WAIT */
    int64_t ports_reused;  /* /proc/sys/net/ipv4/tcp_tw_reuse; 0: never */
    int64_t backlog_max;   /* somaxconn */
    /* others */
    double pressure_cpu_frac; /* "some" of the last 10 s */
    double pressure_memory_frac;
    double pressure_io_frac;
    double others_cores; /* used by all but this process, measured */
    double steal_frac;
    double spin_wait_frac; /* of a spinning thread's time: runnable, not running */
    struct host_other others[HOST_OTHERS];
    size_t others_count;
};

/* What one cell takes. Zeros: nothing is asked for. */
struct host_needs {
    uint32_t processes_count; /* client and harness included */
    uint32_t threads_count;
    uint32_t files_count; /* of the process that opens most */
    uint32_t connections_count;
    uint64_t memory_bytes;
    double cores; /* CPU time a second at the predicted rate; NAN: no prediction */
};

enum host_severity {
    HOST_SPOILS, /* numbers measured here would be wrong, or runs fail */
    HOST_NOTE,   /* to be known when reading them */
    HOST_UNKNOWN,
    HOST_OK
};

struct host_finding {
    const char *name;
    enum host_severity severity;
    char seen[HOST_LINE_BYTES];
    const char *why;            /* it matters here; "" when OK */
    char mend[HOST_LINE_BYTES]; /* command, or what to do; "" when there is nothing */
};

/* Everything that stands in files, below `root` ("" for this host). */
void host_state_read(const char *root, struct host_state *out);
/* Adds what has to be tried out on this host: takes about 2 s. */
void host_state_measure(struct host_state *state);

/* Of a topology on one host with so many client connections; `cores` stays NAN. */
void host_needs_of(const struct topology *topology, uint32_t connections_count,
                   struct host_needs *out);
/* The larger of each. */
void host_needs_merge(struct host_needs *into, const struct host_needs *other);

/* Most severe first. `needs` may be NULL. Returns how many. */
size_t host_judge(const struct host_state *state, const struct host_needs *needs,
                  struct host_finding out[HOST_FINDINGS_MAX]);

#endif
