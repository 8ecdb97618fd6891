/*
 * foreign.h - a serving system that others wrote, seen from outside: whose processes are which
 * stage, and how much processor time each of their threads took between two looks.
 *
 *     TRY(foreign_by_port(8000, patterns, count, &system, error));  or foreign_by_title(...)
 *     TRY(foreign_look(&system, &from, error));  ...window...
 *     TRY(foreign_look(&system, &to, error));
 *     count = foreign_stages(&system, &(struct foreign_looks){.from = &from, .to = &to}, stages);
 *
 * Without instruments in the server, CPU time is all there is: a thread that waits by spinning
 * looks as busy as one that works, so every figure has a quality. Only reads /proc, which needs no
 * privilege for processes of the same user. Driven by harness/run.
 */
#ifndef HARNESS_PROBE_FOREIGN_H
#define HARNESS_PROBE_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    FOREIGN_PATTERNS_MAX = 16,
    FOREIGN_STAGES_MAX = FOREIGN_PATTERNS_MAX + 4,
    FOREIGN_TITLE_BYTES = 96,
    FOREIGN_STAGE_BYTES = 24,
    FOREIGN_PROCESSES_MAX = 1024,
    FOREIGN_COMM_BYTES = 16,
    FOREIGN_NAME_BYTES = 32,
};

/* Processes whose title or name is like `title` ('*', '?', [..]) are servers of `stage`. */
struct foreign_pattern {
    char title[FOREIGN_TITLE_BYTES];
    char stage[FOREIGN_STAGE_BYTES];
};

/* "TITLE=STAGE", cut at the last '='. False: one of them is missing or too long. */
bool foreign_pattern_parse(const char *text, struct foreign_pattern *out);
/* Titles of vLLM's processes and names of those of `harness serve`. Returns how many. */
size_t foreign_patterns_known(struct foreign_pattern out[FOREIGN_PATTERNS_MAX]);

struct foreign_process {
    int32_t pid;
    uint32_t stage;                 /* index into the system's */
    char title[FOREIGN_NAME_BYTES]; /* or its name, where it gave itself none */
};

struct foreign_system {
    char stages[FOREIGN_STAGES_MAX][FOREIGN_STAGE_BYTES];
    size_t stages_count;
    struct foreign_process processes[FOREIGN_PROCESSES_MAX];
    size_t processes_count;
    bool by_order; /* found by parents and children, not by name: stages are guessed */
};

/* The first pattern that fits decides. NOT_FOUND: no process fits any; FULL: too many do. */
MUST_CHECK enum status foreign_by_title(const struct foreign_pattern *patterns, size_t count,
                                        struct foreign_system *out, struct error *error);
/*
 * Of the processes round the one that listens on the TCP port, those that fit a pattern, and the
 * rest as "other". If none fits, by order: who listens is an "api_server", or the "launcher" if
 * children of it listen too; of the others below the top one, its children are "engine_core", or
 * "other" where siblings have children and they have none, and whoever is deeper "worker".
 * NOT_FOUND: nobody listens there who may be looked at.
 */
MUST_CHECK enum status foreign_by_port(uint32_t port, const struct foreign_pattern *patterns,
                                       size_t count, struct foreign_system *out,
                                       struct error *error);

struct foreign_thread {
    int32_t pid;
    int32_t tid;
    uint32_t stage;
    char comm[FOREIGN_COMM_BYTES];
    uint64_t cpu_ns;
    uint64_t wait_ns;         /* runnable, but another one had the processor */
    uint64_t voluntary_count; /* times it went to sleep by itself */
    uint64_t involuntary_count;
    int64_t migrations_count; /* -1: this kernel does not say */
};

struct foreign_look {
    int64_t at_ns;
    struct foreign_thread *threads;
    size_t threads_count;
    size_t processes_count; /* that were alive */
    bool exact;             /* schedstat in ns; otherwise clock ticks and no waiting times */
    int64_t pressure_us; /* since boot somebody on the host waited for a processor; -1: unknown */
};

/* Threads that end meanwhile are left out; NOT_FOUND if no process of it is alive. */
MUST_CHECK enum status foreign_look(const struct foreign_system *system, struct foreign_look *out,
                                    struct error *error);
void foreign_look_free(struct foreign_look *look);

enum foreign_quality {
    FOREIGN_GOOD,
    FOREIGN_TICKS, /* low: only clock ticks */
    FOREIGN_SPINS, /* low: its busiest thread was as busy before the load, or never slept */
    FOREIGN_ENDED, /* low: a process of it ended meanwhile */
};

/* "good", "low: spins", ... */
const char *foreign_quality_text(enum foreign_quality quality);

/* What one stage did between two looks; source "proc". */
struct foreign_stage {
    char stage[FOREIGN_STAGE_BYTES];
    uint32_t processes_count;
    uint32_t threads_count; /* alive at the second look */
    double cores;           /* CPU seconds a second, all of them */
    double use_frac;        /* mean over its processes of their busiest thread */
    double max_frac;        /* busiest thread of all */
    double idle_frac;       /* the same thread before the load; NAN: not looked at */
    double wait_frac;       /* the same thread, runnable but not running; NAN: unknown */
    char busiest_comm[FOREIGN_COMM_BYTES];
    int32_t busiest_pid;
    double voluntary_per_s; /* all threads */
    double involuntary_per_s;
    double migrations_per_s; /* NAN: unknown */
    enum foreign_quality quality;
};

/* Two looks round the window, and two at an idle system before the load, which show who waits by
 * spinning. Without the latter (NULL) a thread that never slept is taken to spin. */
struct foreign_looks {
    const struct foreign_look *idle_from;
    const struct foreign_look *idle_to;
    const struct foreign_look *from;
    const struct foreign_look *to;
};

/* Stages in the order of the system's. Returns how many; 0 when no time passed. */
size_t foreign_stages(const struct foreign_system *system, const struct foreign_looks *looks,
                      struct foreign_stage out[FOREIGN_STAGES_MAX]);
/* The same of the index-th process alone; false if it ended before the second look, or no time
 * passed. */
bool foreign_process_use(const struct foreign_system *system, const struct foreign_looks *looks,
                         size_t index, struct foreign_stage *out);
/* Share of the time in which somebody on the host waited for a processor; NAN: unknown. */
double foreign_pressure_frac(const struct foreign_look *from, const struct foreign_look *to);

#endif
