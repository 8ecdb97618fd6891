/*
 * host_measure.c - what only trying out shows of a host: how late its timers wake, how long a
 * spinning thread waits for a processor, and who else uses the processors meanwhile. Takes about
 * two seconds, one of them spinning on one core; changes nothing but this thread's timer slack,
 * which it puts back.
 */
#include "harness/probe/host_check.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/probe/proc.h"
#include "harness/probe/proc_file.h"

enum {
    SLEEPS_COUNT = 200,
    MEDIAN = SLEEPS_COUNT / 2, /* indices of the sorted ones */
    P99 = SLEEPS_COUNT * 99 / 100,
    SLEEP_NS = 1000000,
    SPIN_NS = 500000000,
    LOOK_NS = 2000000000,
};

static int by_size(const void *a, const void *b)
{
    const int64_t *left = a;
    const int64_t *right = b;
    return (*left > *right) - (*left < *right);
}

/* As the load client sleeps: to a deadline, with a timer slack of 1 ns. */
static void measure_timer(struct host_state *s)
{
    int64_t late_ns[SLEEPS_COUNT];
    int slack_ns = prctl(PR_GET_TIMERSLACK);
    clock_precise_sleeps();
    for (int i = 0; i < SLEEPS_COUNT; i++) {
        int64_t deadline_ns = clock_now_ns() + SLEEP_NS;
        clock_sleep_until_ns(deadline_ns);
        late_ns[i] = clock_now_ns() - deadline_ns;
    }
    if (slack_ns > 0) {
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)slack_ns);
    }
    qsort(late_ns, SLEEPS_COUNT, sizeof late_ns[0], by_size);
    s->timer_late_p50_us = (double)late_ns[MEDIAN] / 1e3;
    s->timer_late_p99_us = (double)late_ns[P99] / 1e3;
}

static bool runq_wait_ns(uint64_t *out)
{
    char text[128];
    uint64_t cpu_ns = 0;
    return proc_file_read("/proc/thread-self/schedstat", text, sizeof text) &&
           sscanf(text, "%" SCNu64 " %" SCNu64, &cpu_ns, out) == 2;
}

/* A thread that never sleeps should never wait for a processor either. */
static void measure_spin(struct host_state *s)
{
    uint64_t before = 0;
    uint64_t after = 0;
    int64_t begun_ns = clock_now_ns();
    if (!runq_wait_ns(&before)) {
        return;
    }
    while (clock_now_ns() - begun_ns < SPIN_NS) {
    }
    int64_t took_ns = clock_now_ns() - begun_ns;
    if (runq_wait_ns(&after) && after >= before) {
        s->spin_wait_frac = (double)(after - before) / (double)took_ns;
    }
}

static void note_other(struct host_state *s, const struct host_other *other)
{
    size_t at = s->others_count;
    while (at > 0 && s->others[at - 1].cores < other->cores) {
        if (at < HOST_OTHERS) {
            s->others[at] = s->others[at - 1];
        }
        at--;
    }
    if (at < HOST_OTHERS) {
        s->others[at] = *other;
        s->others_count += s->others_count < HOST_OTHERS ? 1 : 0;
    }
}

/* Own use is this process's; kernel threads and others' processes are found below the two roots
 * of every tree, pids 1 and 2, whatever of them this process may see. */
static void compare_trees(const struct proc_tree *a, const struct proc_tree *b,
                          struct host_state *s)
{
    double wall_ns = (double)(b->at_ns - a->at_ns);
    for (size_t i = 0; i < b->processes_count; i++) {
        const struct proc_process *p = &b->processes[i];
        const struct proc_process *before = proc_tree_find(a, p->pid);
        uint64_t from_ns = before != NULL ? before->total_cpu_ns : 0;
        if (p->pid == getpid() || p->total_cpu_ns <= from_ns) {
            continue;
        }
        struct host_other other = {.pid = p->pid,
                                   .cores = (double)(p->total_cpu_ns - from_ns) / wall_ns};
        memcpy(other.comm, p->comm, sizeof other.comm);
        if (other.cores >= 0.01) {
            note_other(s, &other);
        }
    }
}

static double own_cpu_ns(void)
{
    struct proc_tree own;
    struct error error;
    if (proc_tree_read(getpid(), &own, &error) != STATUS_OK) {
        return 0;
    }
    const struct proc_process *p = proc_tree_find(&own, getpid());
    double cpu_ns = p != NULL ? (double)p->cpu_ns : 0;
    proc_tree_free(&own);
    return cpu_ns;
}

void host_state_measure(struct host_state *state)
{
    static const int32_t roots[] = {1, 2};
    struct error error;
    struct proc_tree before = {0};
    struct proc_tree after = {0};
    struct proc_cpu cpu_before;
    struct proc_cpu cpu_after;
    bool trees = proc_trees_read(roots, 2, &before, &error) == STATUS_OK;
    bool cpus = proc_cpu_read(&cpu_before, &error) == STATUS_OK;
    double own_before_ns = own_cpu_ns();
    int64_t begun_ns = clock_now_ns();

    measure_timer(state);
    measure_spin(state);
    clock_sleep_until_ns(begun_ns + LOOK_NS);

    double own_ns = own_cpu_ns() - own_before_ns;
    if (cpus && proc_cpu_read(&cpu_after, &error) == STATUS_OK) {
        double wall_ns = (double)(cpu_after.at_ns - cpu_before.at_ns);
        double cores = state->cpus_online > 0 ? (double)state->cpus_online : 1;
        state->steal_frac = (double)(cpu_after.steal_ns - cpu_before.steal_ns) / (wall_ns * cores);
        state->others_cores = proc_others_frac(&cpu_before, &cpu_after, own_ns / wall_ns, 1);
    }
    if (trees && proc_trees_read(roots, 2, &after, &error) == STATUS_OK) {
        compare_trees(&before, &after, state);
    }
    proc_tree_free(&before);
    proc_tree_free(&after);
}
