/*
 * proc.h - what the kernel says, against which everything the ledger says is checked: the threads
 * of a process tree, how many there are of each kind, CPU time, and the state of the host. Reads
 * /proc and /sys only; driven by the harness.
 */
#ifndef HARNESS_PROBE_PROC_H
#define HARNESS_PROBE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/ledger/ledger.h"
#include "harness/probe/probe.h"

enum {
    PROC_COMM_BYTES = 16
};

struct proc_thread {
    int32_t pid;
    int32_t tid;
    char comm[PROC_COMM_BYTES];
    uint64_t cpu_ns;       /* schedstat: exact; falls back to utime + stime */
    uint64_t runq_wait_ns; /* runnable but not running; 0 if the kernel has no schedstat */
    uint64_t user_ns;      /* clock ticks (10 ms) */
    uint64_t system_ns;
    int64_t voluntary_count;   /* times it left its CPU by itself; -1: the kernel does not say */
    int64_t involuntary_count; /* times it had to; -1 likewise */
    int64_t migrations_count;  /* times it went to another CPU; -1 likewise */
    int32_t last_cpu;
};

struct proc_process {
    int32_t pid;
    int32_t parent_pid;
    char comm[PROC_COMM_BYTES]; /* of its main thread: "ApiServer_0" */
    uint32_t threads_count;
    uint64_t cpu_ns; /* sum over living threads */
    uint64_t runq_wait_ns;
    uint64_t total_cpu_ns; /* clock ticks; ended threads included */
};

/* Processes and all their descendants, at one instant (as good as /proc gives). */
struct proc_tree {
    int64_t at_ns;
    struct proc_process *processes;
    size_t processes_count;
    struct proc_thread *threads; /* grouped by process, in the order of `processes` */
    size_t threads_count;
};

/* Several roots and all their descendants; a root that is not alive is left out, NOT_FOUND if none
 * is. Processes that end while it reads are left out. */
MUST_CHECK enum status proc_trees_read(const int32_t *root_pids, size_t roots_count,
                                       struct proc_tree *out, struct error *error);
/* Of one root. */
MUST_CHECK enum status proc_tree_read(int32_t root_pid, struct proc_tree *out, struct error *error);
void proc_tree_free(struct proc_tree *t);
/* NULL if not there. */
const struct proc_process *proc_tree_find(const struct proc_tree *t, int32_t pid);
/* CPU time of the whole tree between two readings, in cores (CPU seconds per second). Pids that
 * ended count until a. */
double proc_tree_cores_used(const struct proc_tree *a, const struct proc_tree *b);

/*
 * What a thread is by its name: main threads by the name of their process ("launcher",
 * "ApiServer_0", "DPCoordinator", "EngineCore_DP0", "Worker_DP0_0"), others by the kind's own name
 * ("engine_input"). THREAD_KINDS_COUNT: none of them (a library's thread).
 */
enum ledger_thread_kind proc_thread_kind(const struct proc_thread *t);

/* A row of threads.csv. */
struct proc_thread_row {
    const char *kind;       /* a thread kind, or "processes", "launching", "library" */
    int64_t expected_count; /* by the topology's formulas; -1: none */
    int64_t counted_ledger; /* -1: the ledger cannot tell */
    int64_t counted_proc;   /* -1: /proc cannot tell; of "launching": those of the ledger that
                               are alive under the name of their kind */
};

enum {
    PROC_THREAD_ROWS = THREAD_KINDS_COUNT + 3
};

/* Threads of `kind` that the configuration stands for. */
uint32_t proc_expected_threads(const struct topology *t, enum ledger_thread_kind kind);
/* All kinds, then processes, launching threads and library threads. The tree is the launchers'. */
void proc_thread_rows(const struct topology *t, const struct probe_snapshot *ledger,
                      const struct proc_tree *tree, struct proc_thread_row out[PROC_THREAD_ROWS]);
/* True when no row contradicts another. */
bool proc_thread_rows_agree(const struct proc_thread_row rows[PROC_THREAD_ROWS]);

/* The host a run ran on. */
struct proc_host {
    uint32_t cores_count; /* online */
    double usable_cores;  /* after affinity and cgroup quota */
    char cpu_model[96];
    char kernel[96];
    char hostname[64];
    char governor[24]; /* "" if the host does not say */
    double load[3];    /* 1, 5, 15 minutes */
    uint64_t memory_bytes;
    uint64_t memory_available_bytes;
};

MUST_CHECK enum status proc_host_read(struct proc_host *out, struct error *error);

/* CPU time of the whole host since boot, from /proc/stat. */
struct proc_cpu {
    int64_t at_ns;
    uint64_t busy_ns;  /* all cores, everything but idle and iowait; stolen time included */
    uint64_t steal_ns; /* the hypervisor gave it to others */
};

MUST_CHECK enum status proc_cpu_read(struct proc_cpu *out, struct error *error);
/*
 * Cores that others used between two readings: all that was busy less `own_cores` (the harness, the
 * client and the serving system), as a fraction of `cores_count`. Never negative.
 */
double proc_others_frac(const struct proc_cpu *a, const struct proc_cpu *b, double own_cores,
                        uint32_t cores_count);

#endif
