/*
 * threads.c - how many threads of each kind there should be, how many wrote to the ledger, and how
 * many the kernel knows: three counts from three sources, side by side.
 */
#include <string.h>

#include "harness/probe/proc.h"

enum {
    ROW_PROCESSES = THREAD_KINDS_COUNT,
    ROW_LAUNCHING,
    ROW_LIBRARY
};

_Static_assert((int)ROW_LIBRARY + 1 == (int)PROC_THREAD_ROWS, "rows");

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static enum ledger_thread_kind main_thread_kind(const char *comm)
{
    static const struct {
        const char *prefix;
        enum ledger_thread_kind kind;
    } processes[] = {
        {"launcher", THREAD_LAUNCHER_MAIN},
        {"ApiServer_", THREAD_API_MAIN},
        {"DPCoordinator", THREAD_COORDINATOR_MAIN},
        {"EngineCore", THREAD_ENGINE_MAIN},
        {"Worker_", THREAD_WORKER_MAIN},
    };
    for (size_t i = 0; i < sizeof processes / sizeof processes[0]; i++) {
        if (starts_with(comm, processes[i].prefix)) {
            return processes[i].kind;
        }
    }
    return THREAD_KINDS_COUNT;
}

enum ledger_thread_kind proc_thread_kind(const struct proc_thread *t)
{
    /* A thread inherits the name of its process until it takes its own, so names of processes count
     * for main threads. */
    if (t->pid == t->tid) {
        return main_thread_kind(t->comm);
    }
    static const enum ledger_thread_kind others[] = {THREAD_ENGINE_INPUT, THREAD_ENGINE_OUTPUT,
                                                     THREAD_WORKER_OUTPUT};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(t->comm, ledger_thread_kind_name(others[i])) == 0) {
            return others[i];
        }
    }
    return THREAD_KINDS_COUNT;
}

uint32_t proc_expected_threads(const struct topology *t, enum ledger_thread_kind kind)
{
    uint32_t workers = t->engines_count * topology_workers_per_engine(t);
    switch (kind) {
    case THREAD_LAUNCHER_MAIN:
        return topology_launchers(t);
    case THREAD_API_MAIN:
        return t->api_servers_count;
    case THREAD_COORDINATOR_MAIN:
        return topology_coordinators(t);
    case THREAD_ENGINE_MAIN:
    case THREAD_ENGINE_INPUT:
    case THREAD_ENGINE_OUTPUT:
        return t->engines_count;
    case THREAD_WORKER_MAIN:
        return workers;
    case THREAD_WORKER_OUTPUT:
        return t->async_depth > 1 ? workers : 0;
    case THREAD_KINDS_COUNT:
        break;
    }
    ASSERT(kind < THREAD_KINDS_COUNT);
    return 0;
}

static bool has_launched(const struct ledger_thread *t)
{
    return ledger_get(&t->launches_count[LAUNCH_CLASS_KERNEL]) > 0 ||
           ledger_get(&t->launches_count[LAUNCH_CLASS_GRAPH]) > 0;
}

static bool alive(const struct proc_tree *tree, const struct ledger_thread *t)
{
    for (size_t i = 0; i < tree->threads_count; i++) {
        if (tree->threads[i].pid == t->pid && tree->threads[i].tid == t->tid) {
            return proc_thread_kind(&tree->threads[i]) == (enum ledger_thread_kind)t->kind;
        }
    }
    return false;
}

static void count_ledger(const struct probe_snapshot *ledger, const struct proc_tree *tree,
                         struct proc_thread_row rows[PROC_THREAD_ROWS])
{
    for (uint32_t i = 0; i < ledger->threads_count; i++) {
        const struct ledger_thread *t = &ledger->threads[i];
        uint32_t state = atomic_load_explicit(&t->state, memory_order_relaxed);
        if (state != LEDGER_THREAD_LIVE || t->kind >= THREAD_KINDS_COUNT) {
            continue;
        }
        rows[t->kind].counted_ledger++;
        if (has_launched(t)) {
            rows[ROW_LAUNCHING].counted_ledger++;
            rows[ROW_LAUNCHING].counted_proc += alive(tree, t) ? 1 : 0;
        }
    }
}

void proc_thread_rows(const struct topology *t, const struct probe_snapshot *ledger,
                      const struct proc_tree *tree, struct proc_thread_row out[PROC_THREAD_ROWS])
{
    for (int k = 0; k < THREAD_KINDS_COUNT; k++) {
        enum ledger_thread_kind kind = (enum ledger_thread_kind)k;
        out[k] = (struct proc_thread_row){.kind = ledger_thread_kind_name(kind),
                                          .expected_count = proc_expected_threads(t, kind)};
    }
    out[ROW_PROCESSES] = (struct proc_thread_row){.kind = "processes",
                                                  .expected_count = topology_processes(t),
                                                  .counted_ledger = -1,
                                                  .counted_proc = (int64_t)tree->processes_count};
    out[ROW_LAUNCHING] = (struct proc_thread_row){.kind = "launching",
                                                  .expected_count = topology_launching_threads(t)};
    out[ROW_LIBRARY] =
        (struct proc_thread_row){.kind = "library", .expected_count = -1, .counted_ledger = -1};
    count_ledger(ledger, tree, out);
    for (size_t i = 0; i < tree->threads_count; i++) {
        enum ledger_thread_kind kind = proc_thread_kind(&tree->threads[i]);
        out[kind < THREAD_KINDS_COUNT ? (int)kind : (int)ROW_LIBRARY].counted_proc++;
    }
}

bool proc_thread_rows_agree(const struct proc_thread_row rows[PROC_THREAD_ROWS])
{
    for (int i = 0; i < PROC_THREAD_ROWS; i++) {
        const struct proc_thread_row *row = &rows[i];
        if (row->expected_count < 0) {
            continue;
        }
        if ((row->counted_ledger >= 0 && row->counted_ledger != row->expected_count) ||
            (row->counted_proc >= 0 && row->counted_proc != row->expected_count)) {
            return false;
        }
    }
    return true;
}
