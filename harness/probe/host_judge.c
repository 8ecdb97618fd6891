/*
 * host_judge.c - from the state of a host to findings: what spoils measurements here, what is to
 * be known when reading them, and the command that mends it. Pure functions.
 *
 * A number that could not be read gives HOST_UNKNOWN with the file that was missing, never OK.
 */
#include "harness/probe/host_check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MIB ((int64_t)1 << 20)

/* A send that is 5 ms late makes a run invalid (the client's default limit). */
#define TIMER_SPOILS_US    5000.0
#define TIMER_NOTE_US      1000.0
#define HOST_LIMIT_FRAC    0.75 /* of the cores: more, and a cell is host_limited */
#define OTHERS_SPOILS_FRAC 0.10
#define OTHERS_NOTE_FRAC   0.02
#define WAIT_SPOILS_FRAC   0.05
#define WAIT_NOTE_FRAC     0.01

enum {
    PORTS_FEW = 2048,
    BACKLOG_FEW = 128,
    BACKLOG_DEFAULT = 1024,
    FILES_FEW = 4096,
    TASKS_FEW = 1024,
};

struct judge {
    const struct host_state *state;
    const struct host_needs *needs;
    struct host_finding *finding; /* being written */
};

static void see(struct judge *j, enum host_severity severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void mend(struct judge *j, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void see(struct judge *j, enum host_severity severity, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    j->finding->severity = severity;
    (void)vsnprintf(j->finding->seen, sizeof j->finding->seen, format, list);
    va_end(list);
}

static void mend(struct judge *j, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)vsnprintf(j->finding->mend, sizeof j->finding->mend, format, list);
    va_end(list);
}

static void not_read(struct judge *j, const char *file)
{
    see(j, HOST_UNKNOWN, "could not be read: no %s", file);
}

/* Of three ranges the one that a value lies in. */
static enum host_severity grade(double value, double note, double spoils)
{
    if (value > spoils) {
        return HOST_SPOILS;
    }
    return value > note ? HOST_NOTE : HOST_OK;
}

/* Cores that may be used: online, allowed, and within the quota; NAN if none is known. */
static double usable_cores(const struct host_state *s)
{
    double cores = (double)NAN;
    const int64_t counts[] = {s->cpus_online, s->cpus_allowed};
    for (size_t i = 0; i < 2; i++) {
        if (counts[i] > 0 && (isnan(cores) || (double)counts[i] < cores)) {
            cores = (double)counts[i];
        }
    }
    return s->quota_cores < cores ? s->quota_cores : cores;
}

/* ---- processor ---- */

static void judge_governor(struct judge *j)
{
    const struct host_state *s = j->state;
    if (s->governor[0] == '\0') {
        not_read(j, "cpufreq/scaling_governor (usual in a virtual machine; ask whoever runs it)");
        return;
    }
    bool slow = strcmp(s->governor, "powersave") == 0 || strcmp(s->governor, "conservative") == 0;
    bool fast = strcmp(s->governor, "performance") == 0 && s->governors_count == 1;
    enum host_severity severity = slow ? HOST_SPOILS : HOST_NOTE;
    see(j, fast ? HOST_OK : severity, "%s%s", s->governor,
        s->governors_count > 1 ? " on the first processor, another one on others" : "");
    if (!fast) {
        mend(j, "echo performance | sudo tee "
                "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor");
    }
}

static void judge_turbo(struct judge *j)
{
    if (j->state->turbo == HOST_NO_NUMBER) {
        not_read(j, "intel_pstate/no_turbo, no cpufreq/boost");
    } else if (j->state->turbo == 0) {
        see(j, HOST_OK, "off");
    } else {
        see(j, HOST_NOTE, "on");
        mend(j, "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo  "
                "(others: echo 0 to cpufreq/boost)");
    }
}

static void judge_smt(struct judge *j)
{
    if (j->state->smt == HOST_NO_NUMBER) {
        not_read(j, "/sys/devices/system/cpu/smt/active");
    } else if (j->state->smt == 0) {
        see(j, HOST_OK, "one thread a core");
    } else {
        see(j, HOST_NOTE, "two threads share a core");
        mend(j, "echo off | sudo tee /sys/devices/system/cpu/smt/control");
    }
}

static void judge_numa(struct judge *j)
{
    if (j->state->numa_nodes == HOST_NO_NUMBER) {
        not_read(j, "/sys/devices/system/node/online");
        return;
    }
    see(j, j->state->numa_nodes > 1 ? HOST_NOTE : HOST_OK, "%" PRId64 " node%s",
        j->state->numa_nodes, j->state->numa_nodes > 1 ? "s" : "");
    if (j->state->numa_nodes > 1) {
        mend(j, "numactl --cpunodebind=0 --membind=0 harness run FILE");
    }
}

static void judge_cores(struct judge *j)
{
    const struct host_state *s = j->state;
    if (s->cpus_online == HOST_NO_NUMBER || s->cpus_allowed == HOST_NO_NUMBER) {
        not_read(j, "/sys/devices/system/cpu/online or Cpus_allowed_list");
        return;
    }
    bool fewer = s->cpus_allowed < s->cpus_online;
    see(j, fewer ? HOST_NOTE : HOST_OK, "%" PRId64 " of %" PRId64 " may be used", s->cpus_allowed,
        s->cpus_online);
    if (fewer) {
        mend(j, "taskset -pc 0-%" PRId64 " $$  (a cpuset: that of the container)",
             s->cpus_online - 1);
    }
    if (j->needs == NULL || isnan(j->needs->cores)) {
        return;
    }
    double usable = usable_cores(s);
    if (j->needs->cores > HOST_LIMIT_FRAC * usable) {
        see(j, HOST_SPOILS, "%.1f usable; the largest cell is predicted to use %.1f, over 75 %%",
            usable, j->needs->cores);
        mend(j, "leave the largest cells out (--only), or take %.0f cores",
             ceil(j->needs->cores / HOST_LIMIT_FRAC));
    }
}

static void judge_quota(struct judge *j)
{
    const struct host_state *s = j->state;
    if (isnan(s->quota_cores)) {
        not_read(j, "/proc/self/cgroup");
    } else if (isinf(s->quota_cores)) {
        see(j, HOST_OK, "none");
    } else {
        bool binds = s->cpus_online < 0 || s->quota_cores < (double)s->cpus_online;
        see(j, binds ? HOST_SPOILS : HOST_OK, "%.2f cores of %" PRId64 " (%.120s)", s->quota_cores,
            s->cpus_online, s->quota_path);
        bool unified = strstr(s->quota_path, "cpu.max") != NULL;
        if (binds) {
            mend(j, "echo %s | sudo tee %.120s  (docker: --cpus=0, and --cpuset-cpus instead)",
                 unified ? "max" : "-1", s->quota_path);
        }
    }
}

/* ---- time ---- */

static void judge_clock(struct judge *j)
{
    static const char *const fast[] = {"tsc", "arch_sys_counter", "kvm-clock",
                                       "hyperv_clocksource_tsc_page", "timebase"};
    const struct host_state *s = j->state;
    if (s->clock_source[0] == '\0') {
        not_read(j, "clocksource0/current_clocksource");
        return;
    }
    for (size_t i = 0; i < sizeof fast / sizeof fast[0]; i++) {
        if (strcmp(s->clock_source, fast[i]) == 0) {
            see(j, HOST_OK, "%s", s->clock_source);
            return;
        }
    }
    see(j, HOST_SPOILS, "%s (there are: %.100s)", s->clock_source, s->clock_sources);
    if (strstr(s->clock_sources, "tsc") != NULL) {
        mend(j, "echo tsc | sudo tee "
                "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    } else {
        mend(j, "boot with tsc=reliable, or take another host");
    }
}

static void judge_timer(struct judge *j)
{
    const struct host_state *s = j->state;
    if (isnan(s->timer_late_p99_us)) {
        see(j, HOST_UNKNOWN, "not measured");
        return;
    }
    see(j, grade(s->timer_late_p99_us, TIMER_NOTE_US, TIMER_SPOILS_US),
        "sleeps of 1 ms wake %.0f us late (median), %.0f us (p99)", s->timer_late_p50_us,
        s->timer_late_p99_us);
    if (j->finding->severity != HOST_OK) {
        mend(j, "end what else runs here; then boot with cpuidle.off=1, or fewer virtual machines");
    }
}

/* ---- limits ---- */

static void judge_memory(struct judge *j)
{
    const struct host_state *s = j->state;
    int64_t left = s->memory_available_bytes;
    bool grouped = false;
    if (s->memory_limit_bytes >= 0 && s->memory_limit_bytes != HOST_NO_LIMIT &&
        s->memory_used_bytes >= 0) {
        int64_t group_left = s->memory_limit_bytes > s->memory_used_bytes
                                 ? s->memory_limit_bytes - s->memory_used_bytes
                                 : 0;
        grouped = left == HOST_NO_NUMBER || group_left < left;
        left = grouped ? group_left : left;
    }
    if (left == HOST_NO_NUMBER) {
        not_read(j, "/proc/meminfo");
        return;
    }
    int64_t wanted = j->needs != NULL ? (int64_t)j->needs->memory_bytes : 256 * MIB;
    see(j, left < wanted ? HOST_SPOILS : HOST_OK,
        "%" PRId64 " MiB free%s, about %" PRId64 " MiB needed", left / MIB,
        grouped ? " below the control group's limit" : "", wanted / MIB);
    if (left < wanted) {
        mend(j, grouped ? "raise memory.max of the control group (docker: --memory)"
                        : "end what else runs here, or leave the largest cells out (--only)");
    }
}

static void judge_swap(struct judge *j)
{
    const struct host_state *s = j->state;
    if (s->swap_bytes == HOST_NO_NUMBER || s->swap_used_bytes == HOST_NO_NUMBER) {
        not_read(j, "/proc/meminfo");
        return;
    }
    see(j, s->swap_used_bytes > 0 ? HOST_NOTE : HOST_OK,
        "%" PRId64 " MiB of %" PRId64 " MiB in use", s->swap_used_bytes / MIB, s->swap_bytes / MIB);
    if (s->swap_used_bytes > 0) {
        mend(j, "sudo swapoff -a");
    }
}

static void judge_overcommit(struct judge *j)
{
    if (j->state->overcommit == HOST_NO_NUMBER) {
        not_read(j, "/proc/sys/vm/overcommit_memory");
        return;
    }
    bool strict = j->state->overcommit == 2;
    see(j, strict ? HOST_NOTE : HOST_OK, "overcommit_memory = %" PRId64, j->state->overcommit);
    if (strict) {
        mend(j, "sudo sysctl vm.overcommit_memory=0");
    }
}

static void judge_huge_pages(struct judge *j)
{
    const char *mode = j->state->huge_pages;
    if (mode[0] == '\0') {
        not_read(j, "/sys/kernel/mm/transparent_hugepage/enabled");
        return;
    }
    bool always = strcmp(mode, "always") == 0;
    see(j, always ? HOST_NOTE : HOST_OK, "%s", mode);
    if (always) {
        mend(j, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled");
    }
}

static void judge_files(struct judge *j)
{
    const struct host_state *s = j->state;
    if (s->files_hard == HOST_NO_NUMBER) {
        not_read(j, "/proc/self/limits");
        return;
    }
    int64_t wanted = j->needs != NULL ? j->needs->files_count : FILES_FEW;
    enum host_severity short_of = j->needs != NULL ? HOST_SPOILS : HOST_NOTE;
    char hard[32];
    (void)snprintf(hard, sizeof hard, "%" PRId64, s->files_hard);
    see(j, s->files_hard < wanted ? short_of : HOST_OK,
        "%s a process (raised from the soft limit when a run starts), %" PRId64 " %s",
        s->files_hard == HOST_NO_LIMIT ? "any number" : hard, wanted,
        j->needs != NULL ? "needed" : "are plenty");
    if (s->files_hard < wanted) {
        mend(j, "sudo prlimit --pid $$ --nofile=%" PRId64 ":%" PRId64 "  (docker: --ulimit nofile)",
             wanted * 2, wanted * 2);
    }
}

static void judge_tasks(struct judge *j)
{
    int64_t max = j->state->tasks_max;
    if (max == HOST_NO_NUMBER) {
        not_read(j, "/proc/self/limits, no pids.max");
        return;
    }
    int64_t wanted = j->needs != NULL ? j->needs->threads_count : TASKS_FEW;
    enum host_severity short_of = j->needs != NULL ? HOST_SPOILS : HOST_NOTE;
    if (max == HOST_NO_LIMIT) {
        see(j, HOST_OK, "no limit");
    } else if (j->needs != NULL) {
        see(j, max < wanted ? short_of : HOST_OK,
            "at most %" PRId64 "; %" PRIu32 " processes with %" PRId64 " threads needed", max,
            j->needs->processes_count, wanted);
    } else {
        see(j, max < wanted ? short_of : HOST_OK, "at most %" PRId64, max);
    }
    if (max < wanted) {
        mend(j, "ulimit -u %" PRId64 "; and pids.max of the control group (docker: --pids-limit)",
             wanted * 2);
    }
}

static void judge_ports(struct judge *j)
{
    const struct host_state *s = j->state;
    if (s->ports_count == HOST_NO_NUMBER) {
        not_read(j, "/proc/sys/net/ipv4/ip_local_port_range");
        return;
    }
    /* Between two of the same host those of ended connections are used again (tcp_tw_reuse 1 and
     * 2 on loopback), so that they only count where that is off. */
    int64_t waiting = s->ports_waiting > 0 ? s->ports_waiting : 0;
    int64_t left = s->ports_reused > 0 ? s->ports_count : s->ports_count - waiting;
    int64_t wanted = j->needs != NULL ? (int64_t)j->needs->connections_count : PORTS_FEW;
    enum host_severity short_of = j->needs != NULL ? HOST_SPOILS : HOST_NOTE;
    see(j, left < wanted ? short_of : HOST_OK,
        "%" PRId64 " ports, %" PRId64 " of ended connections in TIME_WAIT%s%s", s->ports_count,
        waiting, s->ports_waiting < 0 ? " (not readable)" : "",
        s->ports_reused > 0 ? ", used again" : "");
    if (left < wanted) {
        mend(j, "sudo sysctl net.ipv4.ip_local_port_range='1024 65000' net.ipv4.tcp_tw_reuse=1");
    }
}

static void judge_backlog(struct judge *j)
{
    int64_t max = j->state->backlog_max;
    if (max == HOST_NO_NUMBER) {
        not_read(j, "/proc/sys/net/core/somaxconn");
        return;
    }
    int64_t wanted = BACKLOG_FEW;
    if (j->needs != NULL) {
        int64_t all = j->needs->connections_count;
        wanted = all < BACKLOG_DEFAULT ? all : BACKLOG_DEFAULT;
    }
    see(j, max < wanted ? HOST_SPOILS : HOST_OK,
        "%" PRId64 " connections may wait to be accepted, %" PRId64 " needed", max, wanted);
    if (max < wanted) {
        mend(j, "sudo sysctl net.core.somaxconn=4096");
    }
}

/* ---- others ---- */

static void judge_pressure(struct judge *j)
{
    static const char *const names[] = {"cpu", "memory", "io"};
    static const double note[] = {0.10, 0.01, 0.10};
    const struct host_state *s = j->state;
    const double fracs[] = {s->pressure_cpu_frac, s->pressure_memory_frac, s->pressure_io_frac};
    enum host_severity worst = HOST_OK;
    char text[HOST_LINE_BYTES] = "";
    size_t used = 0;
    for (size_t i = 0; i < 3; i++) {
        if (isnan(fracs[i])) {
            worst = worst == HOST_OK ? HOST_UNKNOWN : worst;
            continue;
        }
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %.0f %%",
                                 used > 0 ? ", " : "", names[i], fracs[i] * 100);
        enum host_severity severity = grade(fracs[i], note[i], 4 * note[i]);
        worst = severity < worst ? severity : worst;
    }
    if (used == 0) {
        not_read(j, "/proc/pressure (boot with psi=1)");
        return;
    }
    see(j, worst, "of the last 10 s somebody waited for: %s", text);
    if (worst <= HOST_NOTE) {
        mend(j, "end what else runs here, and wait 10 s: ps -eo pid,pcpu,rss,comm --sort -pcpu");
    }
}

static void judge_others(struct judge *j)
{
    const struct host_state *s = j->state;
    char text[HOST_LINE_BYTES] = "";
    size_t used = 0;
    if (isnan(s->others_cores)) {
        see(j, HOST_UNKNOWN, "not measured");
        return;
    }
    for (size_t i = 0; i < s->others_count && used < sizeof text; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.15s (%" PRId32 ") %.2f",
                                 i == 0 ? ": " : ", ", s->others[i].comm, s->others[i].pid,
                                 s->others[i].cores);
    }
    double cores = s->cpus_online > 0 ? (double)s->cpus_online : 1;
    see(j, grade(s->others_cores / cores, OTHERS_NOTE_FRAC, OTHERS_SPOILS_FRAC),
        "%.2f cores in use by others for 2 s%s", s->others_cores, text);
    if (j->finding->severity != HOST_OK) {
        mend(j, "end them, or wait: ps -eo pid,pcpu,comm --sort -pcpu | head");
    }
}

static void judge_spin(struct judge *j)
{
    const struct host_state *s = j->state;
    if (isnan(s->spin_wait_frac)) {
        not_read(j, "/proc/thread-self/schedstat (or not measured)");
        return;
    }
    see(j, grade(s->spin_wait_frac, WAIT_NOTE_FRAC, WAIT_SPOILS_FRAC),
        "a thread that never sleeps waited %.1f %% of 0.5 s for a processor",
        s->spin_wait_frac * 100);
    if (j->finding->severity != HOST_OK) {
        mend(j, "end what else runs here: ps -eo pid,pcpu,comm --sort -pcpu | head");
    }
}

static void judge_steal(struct judge *j)
{
    const struct host_state *s = j->state;
    if (isnan(s->steal_frac)) {
        see(j, HOST_UNKNOWN, "not measured");
        return;
    }
    see(j, grade(s->steal_frac, WAIT_NOTE_FRAC, WAIT_SPOILS_FRAC),
        "%.1f %% of the processors' time for 2 s", s->steal_frac * 100);
    if (j->finding->severity != HOST_OK) {
        mend(j, "take a host with processors of its own, or measure when its neighbours sleep");
    }
}

static const struct {
    const char *name;
    void (*judge)(struct judge *j);
    const char *why;
} checks[] = {
    {"processors", judge_cores, "past 75 % of the cores a cell is host_limited: no evidence"},
    {"cpu quota", judge_quota,
     "a group that used up its share stands still for the rest of each 100 ms: stalls in all "
     "tails"},
    {"governor", judge_governor,
     "idle cores clock down: a light load looks slower than a heavy one, TTFT up to twice as long"},
    {"turbo", judge_turbo, "the clock depends on how many cores are busy: scaling looks worse"},
    {"SMT", judge_smt, "a busy neighbour takes about a third of a core: counts are not of cores"},
    {"NUMA", judge_numa, "memory of another node is slower: runs differ by where threads land"},
    {"clock source", judge_clock,
     "reading the time is a slow system call: stamps cost what they measure"},
    {"timers", judge_timer, "the client sends late by as much; past 5 ms its runs are invalid"},
    {"others", judge_others, "they take what the system under test is measured to have"},
    {"waiting", judge_spin, "every thread here waits as long: it counts as time of the system"},
    {"steal", judge_steal, "the hypervisor gave it to others: threads stand still unseen"},
    {"pressure", judge_pressure, "something is short already before the load begins"},
    {"memory", judge_memory, "too little, and the kernel kills a process in the middle of a run"},
    {"swap", judge_swap, "a page that comes back from disk is milliseconds late"},
    {"overcommit", judge_overcommit, "shared rings are mapped larger than they are used"},
    {"huge pages", judge_huge_pages, "compaction stops threads for milliseconds"},
    {"open files", judge_files, "a connection that cannot be opened is a failed request"},
    {"tasks", judge_tasks, "a process or thread that cannot be started ends the run"},
    {"ports", judge_ports, "without a free port a connection cannot be opened"},
    {"backlog", judge_backlog, "a connection beyond it is asked for again after 1 s: TTFT of 1 s"},
};

size_t host_judge(const struct host_state *state, const struct host_needs *needs,
                  struct host_finding out[HOST_FINDINGS_MAX])
{
    enum {
        COUNT = sizeof checks / sizeof checks[0]
    };
    _Static_assert(COUNT <= (int)HOST_FINDINGS_MAX, "room for all findings");
    struct host_finding found[COUNT];
    size_t count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        struct judge j = {.state = state, .needs = needs, .finding = &found[i]};
        found[i] = (struct host_finding){.name = checks[i].name, .why = checks[i].why};
        checks[i].judge(&j);
        if (found[i].severity == HOST_OK) {
            found[i].why = "";
        }
    }
    /* Equal ones stay in the order of the table. */
    for (int severity = HOST_SPOILS; severity <= (int)HOST_OK; severity++) {
        for (size_t i = 0; i < COUNT; i++) {
            if ((int)found[i].severity == severity) {
                out[count++] = found[i];
            }
        }
    }
    return count;
}
