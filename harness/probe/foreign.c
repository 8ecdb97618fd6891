/*
 * foreign.c - looks at the threads of a foreign serving system and what each stage did between two
 * looks (foreign.h).
 */
#include "harness/probe/foreign.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "harness/probe/proc.h"
#include "harness/probe/proc_file.h"

/* Running or wanting to for more than this without load, or without ever sleeping: it waits by
 * spinning. */
#define SPIN_FRAC         0.90
#define SPIN_SLEEPS_PER_S 1.0

/* ---- a look ---- */

static int64_t read_pressure_us(void)
{
    char text[256];
    int64_t total = -1;
    const char *at =
        proc_file_read("/proc/pressure/cpu", text, sizeof text) ? strstr(text, "total=") : NULL;
    return at != NULL && sscanf(at, "total=%" SCNd64, &total) == 1 ? total : -1;
}

static const struct foreign_process *member(const struct foreign_system *s, int32_t pid)
{
    for (size_t i = 0; i < s->processes_count; i++) {
        if (s->processes[i].pid == pid) {
            return &s->processes[i];
        }
    }
    return NULL;
}

/* What a kernel does not tell stays 0. */
static uint64_t known(int64_t count)
{
    return count > 0 ? (uint64_t)count : 0;
}

/* The members' threads of a tree that may hold children of theirs, too. */
static enum status take_threads(const struct foreign_system *system, const struct proc_tree *tree,
                                struct foreign_look *look, struct error *error)
{
    look->threads = calloc(tree->threads_count + 1, sizeof *look->threads);
    if (look->threads == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for %zu threads", tree->threads_count);
    }
    for (size_t i = 0; i < tree->processes_count; i++) {
        look->processes_count += member(system, tree->processes[i].pid) != NULL ? 1 : 0;
    }
    for (size_t i = 0; i < tree->threads_count; i++) {
        const struct proc_thread *from = &tree->threads[i];
        const struct foreign_process *process = member(system, from->pid);
        if (process == NULL) {
            continue;
        }
        struct foreign_thread *t = &look->threads[look->threads_count++];
        *t = (struct foreign_thread){.pid = from->pid,
                                     .tid = from->tid,
                                     .stage = process->stage,
                                     .cpu_ns = from->cpu_ns,
                                     .wait_ns = from->runq_wait_ns,
                                     .voluntary_count = known(from->voluntary_count),
                                     .involuntary_count = known(from->involuntary_count),
                                     .migrations_count = from->migrations_count};
        memcpy(t->comm, from->comm, sizeof t->comm);
    }
    return STATUS_OK;
}

enum status foreign_look(const struct foreign_system *system, struct foreign_look *out,
                         struct error *error)
{
    int32_t pids[FOREIGN_PROCESSES_MAX];
    char text[128];
    struct proc_tree tree;
    for (size_t i = 0; i < system->processes_count; i++) {
        pids[i] = system->processes[i].pid;
    }
    if (system->processes_count == 0) {
        return error_set(error, STATUS_NOT_FOUND, "no process to look at");
    }
    TRY(proc_trees_read(pids, system->processes_count, &tree, error));
    struct foreign_look look = {
        .at_ns = tree.at_ns,
        .exact = proc_file_read("/proc/self/schedstat", text, sizeof text),
        .pressure_us = read_pressure_us(),
    };
    enum status status = take_threads(system, &tree, &look, error);
    proc_tree_free(&tree);
    if (status == STATUS_OK) {
        *out = look;
    }
    return status;
}

void foreign_look_free(struct foreign_look *look)
{
    free(look->threads);
    *look = (struct foreign_look){.pressure_us = -1};
}

/* ---- between two looks ---- */

const char *foreign_quality_text(enum foreign_quality quality)
{
    static const char *const texts[] = {"good", "low: clock ticks", "low: spins",
                                        "low: a process ended"};
    return texts[quality];
}

static const struct foreign_thread *thread_of(const struct foreign_look *look,
                                              const struct foreign_thread *like)
{
    for (size_t i = 0; i < look->threads_count; i++) {
        const struct foreign_thread *t = &look->threads[i];
        if (t->tid == like->tid && t->pid == like->pid) {
            return t;
        }
    }
    return NULL;
}

/* A thread that began in between counts from zero. */
static double since(uint64_t before, uint64_t after)
{
    return after > before ? (double)(after - before) : 0;
}

/* CPU time of a thread between two looks, in cores. */
static double used(const struct foreign_look *from, const struct foreign_look *to,
                   const struct foreign_thread *t)
{
    const struct foreign_thread *before = thread_of(from, t);
    return since(before != NULL ? before->cpu_ns : 0, t->cpu_ns) /
           (double)(to->at_ns - from->at_ns);
}

/* Adds what one thread did; returns its share of a core. */
static double add_thread(struct foreign_stage *s, const struct foreign_look *from,
                         const struct foreign_look *to, const struct foreign_thread *t)
{
    static const struct foreign_thread none = {.pid = 0};
    const struct foreign_thread *before = thread_of(from, t);
    before = before != NULL ? before : &none;
    double seconds = (double)(to->at_ns - from->at_ns) / 1e9;
    double frac = used(from, to, t);
    s->threads_count++;
    s->cores += frac;
    s->voluntary_per_s += since(before->voluntary_count, t->voluntary_count) / seconds;
    s->involuntary_per_s += since(before->involuntary_count, t->involuntary_count) / seconds;
    s->migrations_per_s +=
        t->migrations_count >= 0
            ? since((uint64_t)(before->migrations_count > 0 ? before->migrations_count : 0),
                    (uint64_t)t->migrations_count) /
                  seconds
            : (double)NAN;
    if (s->busiest_pid == 0 || frac > s->max_frac) {
        s->max_frac = frac;
        s->busiest_pid = t->pid;
        memcpy(s->busiest_comm, t->comm, sizeof s->busiest_comm);
    }
    return frac;
}

/* Its quality, from the busiest thread before the load and in it. */
static void judge_stage(struct foreign_stage *s, const struct foreign_looks *l,
                        const struct foreign_thread *busiest)
{
    const struct foreign_thread *before = thread_of(l->from, busiest);
    const struct foreign_thread *idle =
        l->idle_from != NULL ? thread_of(l->idle_to, busiest) : NULL;
    double seconds = (double)(l->to->at_ns - l->from->at_ns) / 1e9;
    bool spins = false;
    if (l->to->exact) {
        s->wait_frac =
            since(before != NULL ? before->wait_ns : 0, busiest->wait_ns) / 1e9 / seconds;
    }
    if (idle != NULL && l->idle_to->at_ns > l->idle_from->at_ns) {
        const struct foreign_thread *first = thread_of(l->idle_from, busiest);
        double idle_ns = (double)(l->idle_to->at_ns - l->idle_from->at_ns);
        s->idle_frac = used(l->idle_from, l->idle_to, idle);
        spins = s->idle_frac + since(first != NULL ? first->wait_ns : 0, idle->wait_ns) / idle_ns >=
                SPIN_FRAC;
    } else {
        double sleeps =
            since(before != NULL ? before->voluntary_count : 0, busiest->voluntary_count);
        spins = s->max_frac + (isnan(s->wait_frac) ? 0 : s->wait_frac) >= SPIN_FRAC &&
                sleeps / seconds < SPIN_SLEEPS_PER_S;
    }
    if (!l->to->exact) {
        s->quality = FOREIGN_TICKS;
    }
    if (spins) {
        s->quality = FOREIGN_SPINS;
    }
}

/* Of all its processes, or of one (`only`; 0: all). Threads are grouped by process. */
static void sum_stage(const struct foreign_looks *l, uint32_t stage, int32_t only,
                      struct foreign_stage *s)
{
    const struct foreign_thread *busiest = NULL;
    double of_process = 0; /* busiest thread of the process in work */
    int32_t pid = 0;
    for (size_t i = 0; i < l->to->threads_count; i++) {
        const struct foreign_thread *t = &l->to->threads[i];
        if (t->stage != stage || (only != 0 && t->pid != only)) {
            continue;
        }
        if (t->pid != pid) {
            s->use_frac += of_process;
            s->processes_count++;
            of_process = 0;
            pid = t->pid;
        }
        double before = s->max_frac;
        double frac = add_thread(s, l->from, l->to, t);
        busiest = busiest == NULL || frac > before ? t : busiest;
        of_process = fmax(of_process, frac);
    }
    s->use_frac = s->processes_count > 0 ? (s->use_frac + of_process) / s->processes_count : 0;
    if (busiest != NULL) {
        judge_stage(s, l, busiest);
    }
}

size_t foreign_stages(const struct foreign_system *system, const struct foreign_looks *looks,
                      struct foreign_stage out[FOREIGN_STAGES_MAX])
{
    if (looks->to->at_ns <= looks->from->at_ns) {
        return 0;
    }
    for (size_t i = 0; i < system->stages_count; i++) {
        struct foreign_stage s = {.idle_frac = (double)NAN, .wait_frac = (double)NAN};
        uint32_t members = 0;
        memcpy(s.stage, system->stages[i], sizeof s.stage);
        sum_stage(looks, (uint32_t)i, 0, &s);
        for (size_t k = 0; k < system->processes_count; k++) {
            members += system->processes[k].stage == i ? 1 : 0;
        }
        if (s.processes_count < members) {
            s.quality = FOREIGN_ENDED;
        }
        out[i] = s;
    }
    return system->stages_count;
}

bool foreign_process_use(const struct foreign_system *system, const struct foreign_looks *looks,
                         size_t index, struct foreign_stage *out)
{
    const struct foreign_process *p = &system->processes[index];
    *out = (struct foreign_stage){.idle_frac = (double)NAN, .wait_frac = (double)NAN};
    memcpy(out->stage, system->stages[p->stage], sizeof out->stage);
    if (looks->to->at_ns <= looks->from->at_ns) {
        return false;
    }
    sum_stage(looks, p->stage, p->pid, out);
    if (out->processes_count == 0) {
        out->quality = FOREIGN_ENDED;
    }
    return out->processes_count > 0;
}

double foreign_pressure_frac(const struct foreign_look *from, const struct foreign_look *to)
{
    if (from->pressure_us < 0 || to->pressure_us < from->pressure_us || to->at_ns <= from->at_ns) {
        return (double)NAN;
    }
    return (double)(to->pressure_us - from->pressure_us) * 1e3 / (double)(to->at_ns - from->at_ns);
}
