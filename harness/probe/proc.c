/*
 * proc.c - a process and its descendants with all their threads, from /proc. Processes and threads
 * come and go while it reads: what has ended is left out, never an error.
 */
#include "harness/probe/proc.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/probe/proc_file.h"

enum {
    STAT_BYTES = 1024,
    STATUS_BYTES = 8192,
    PATH_BYTES = 96
};

/* Memory that grows; a failure is remembered and reported once at the end. */
struct reader {
    struct proc_tree tree;
    size_t processes_cap;
    size_t threads_cap;
    bool no_memory;
    uint64_t tick_ns;
};

static void *grown(void *items, size_t *cap, size_t item_bytes)
{
    size_t wanted = *cap == 0 ? 64 : *cap * 2;
    void *more = realloc(items, wanted * item_bytes);
    if (more != NULL) {
        *cap = wanted;
    }
    return more;
}

static struct proc_process *add_process(struct reader *r)
{
    if (r->tree.processes_count == r->processes_cap) {
        void *more = grown(r->tree.processes, &r->processes_cap, sizeof *r->tree.processes);
        if (more == NULL) {
            r->no_memory = true;
            return NULL;
        }
        r->tree.processes = more;
    }
    return &r->tree.processes[r->tree.processes_count++];
}

static struct proc_thread *add_thread(struct reader *r)
{
    if (r->tree.threads_count == r->threads_cap) {
        void *more = grown(r->tree.threads, &r->threads_cap, sizeof *r->tree.threads);
        if (more == NULL) {
            r->no_memory = true;
            return NULL;
        }
        r->tree.threads = more;
    }
    return &r->tree.threads[r->tree.threads_count++];
}

/* The number a directory entry is named by; -1 if it is not one. */
static int32_t number_of(const char *name)
{
    char *end = NULL;
    errno = 0;
    long value = strtol(name, &end, 10);
    return errno == 0 && end != name && *end == '\0' && value > 0 && value <= INT32_MAX
               ? (int32_t)value
               : -1;
}

static bool read_stat(const char *path, struct proc_stat *out)
{
    char text[STAT_BYTES];
    return proc_file_read(path, text, sizeof text) && proc_stat_parse(text, out);
}

/* Every process of the host: pid and parent are enough to find the descendants. */
static enum status read_processes(struct reader *r, struct error *error)
{
    DIR *dir = opendir("/proc");
    if (dir == NULL) {
        return error_set(error, STATUS_IO, "/proc: %s", strerror(errno));
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL && !r->no_memory) {
        int32_t pid = number_of(entry->d_name);
        char path[PATH_BYTES];
        struct proc_stat s;
        (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/stat", pid);
        if (pid < 0 || !read_stat(path, &s) || s.state == 'Z' || s.state == 'X') {
            continue;
        }
        struct proc_process *p = add_process(r);
        if (p != NULL) {
            *p = (struct proc_process){.pid = pid, .parent_pid = s.parent_pid};
            memcpy(p->comm, s.comm, sizeof p->comm);
            p->total_cpu_ns = (s.user_ticks + s.system_ticks) * r->tick_ns;
        }
    }
    (void)closedir(dir);
    return STATUS_OK;
}

static bool is_kept(const struct proc_process *p, size_t kept, int32_t pid)
{
    for (size_t i = 0; i < kept; i++) {
        if (p[i].pid == pid) {
            return true;
        }
    }
    return false;
}

static bool is_one_of(const int32_t *pids, size_t count, int32_t pid)
{
    for (size_t i = 0; i < count; i++) {
        if (pids[i] == pid) {
            return true;
        }
    }
    return false;
}

/* Moves the roots and their descendants to the front and drops the rest. Pids wrap: a child's may
 * be below its parent's. */
static void keep_descendants(struct proc_tree *tree, const int32_t *root_pids, size_t roots_count)
{
    struct proc_process *p = tree->processes;
    size_t kept = 0;
    bool moved = true;
    while (moved) {
        moved = false;
        for (size_t i = kept; i < tree->processes_count; i++) {
            if (is_one_of(root_pids, roots_count, p[i].pid) || is_kept(p, kept, p[i].parent_pid)) {
                struct proc_process found = p[i];
                p[i] = p[kept];
                p[kept++] = found;
                moved = true;
            }
        }
    }
    tree->processes_count = kept;
}

static void read_schedstat(const char *folder, struct proc_thread *t)
{
    char path[PATH_BYTES];
    char text[128];
    uint64_t cpu_ns = 0;
    uint64_t wait_ns = 0;
    t->cpu_ns = t->user_ns + t->system_ns;
    (void)snprintf(path, sizeof path, "%s/schedstat", folder);
    if (proc_file_read(path, text, sizeof text) &&
        sscanf(text, "%" SCNu64 " %" SCNu64, &cpu_ns, &wait_ns) == 2) {
        t->cpu_ns = cpu_ns;
        t->runq_wait_ns = wait_ns;
    }
}

static void read_switches(const char *folder, struct proc_thread *t)
{
    char path[PATH_BYTES];
    char text[STATUS_BYTES];
    t->voluntary_count = t->involuntary_count = t->migrations_count = -1;
    (void)snprintf(path, sizeof path, "%s/status", folder);
    if (proc_file_read(path, text, sizeof text)) {
        t->voluntary_count = proc_file_count(text, "voluntary_ctxt_switches");
        t->involuntary_count = proc_file_count(text, "nonvoluntary_ctxt_switches");
    }
    (void)snprintf(path, sizeof path, "%s/sched", folder);
    if (proc_file_read(path, text, sizeof text)) {
        t->migrations_count = proc_file_count(text, "se.nr_migrations");
    }
}

static void read_thread(struct reader *r, struct proc_process *p, int32_t tid)
{
    char folder[64];
    char path[PATH_BYTES];
    struct proc_stat s;
    (void)snprintf(folder, sizeof folder, "/proc/%" PRId32 "/task/%" PRId32, p->pid, tid);
    (void)snprintf(path, sizeof path, "%s/stat", folder);
    if (!read_stat(path, &s)) {
        return;
    }
    struct proc_thread *t = add_thread(r);
    if (t == NULL) {
        return;
    }
    *t = (struct proc_thread){.pid = p->pid,
                              .tid = tid,
                              .user_ns = s.user_ticks * r->tick_ns,
                              .system_ns = s.system_ticks * r->tick_ns,
                              .last_cpu = s.last_cpu};
    memcpy(t->comm, s.comm, sizeof t->comm);
    read_schedstat(folder, t);
    read_switches(folder, t);
    p->threads_count++;
    p->cpu_ns += t->cpu_ns;
    p->runq_wait_ns += t->runq_wait_ns;
}

static void read_threads(struct reader *r, struct proc_process *p)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/task", p->pid);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL && !r->no_memory) {
        int32_t tid = number_of(entry->d_name);
        if (tid > 0) {
            read_thread(r, p, tid);
        }
    }
    (void)closedir(dir);
}

enum status proc_trees_read(const int32_t *root_pids, size_t roots_count, struct proc_tree *out,
                            struct error *error)
{
    long ticks_per_s = sysconf(_SC_CLK_TCK);
    struct reader r = {.tick_ns = 1000000000U / (uint64_t)(ticks_per_s > 0 ? ticks_per_s : 100)};
    r.tree.at_ns = clock_now_ns();
    enum status status = read_processes(&r, error);
    keep_descendants(&r.tree, root_pids, roots_count);
    if (status == STATUS_OK && r.tree.processes_count == 0 && !r.no_memory) {
        status =
            error_set(error, STATUS_NOT_FOUND, "process %" PRId32 " is not alive", root_pids[0]);
    }
    for (size_t i = 0; i < r.tree.processes_count && status == STATUS_OK; i++) {
        read_threads(&r, &r.tree.processes[i]);
    }
    if (r.no_memory) {
        status = error_set(error, STATUS_NOMEM, "no memory for the process list");
    }
    if (status != STATUS_OK) {
        proc_tree_free(&r.tree);
        return status;
    }
    *out = r.tree;
    return STATUS_OK;
}

enum status proc_tree_read(int32_t root_pid, struct proc_tree *out, struct error *error)
{
    return proc_trees_read(&root_pid, 1, out, error);
}

void proc_tree_free(struct proc_tree *t)
{
    free(t->processes);
    free(t->threads);
    *t = (struct proc_tree){0};
}

const struct proc_process *proc_tree_find(const struct proc_tree *t, int32_t pid)
{
    for (size_t i = 0; i < t->processes_count; i++) {
        if (t->processes[i].pid == pid) {
            return &t->processes[i];
        }
    }
    return NULL;
}

/* CPU time of a process: exact for living threads; clock ticks know of ended ones too. */
static uint64_t cpu_of(const struct proc_process *p)
{
    return p->cpu_ns > p->total_cpu_ns ? p->cpu_ns : p->total_cpu_ns;
}

double proc_tree_cores_used(const struct proc_tree *a, const struct proc_tree *b)
{
    if (b->at_ns <= a->at_ns) {
        return PROBE_UNKNOWN;
    }
    double used_ns = 0.0;
    for (size_t i = 0; i < b->processes_count; i++) {
        const struct proc_process *before = proc_tree_find(a, b->processes[i].pid);
        uint64_t from = before != NULL ? cpu_of(before) : 0;
        uint64_t to = cpu_of(&b->processes[i]);
        used_ns += to > from ? (double)(to - from) : 0.0;
    }
    return used_ns / (double)(b->at_ns - a->at_ns);
}
