/*
 * host.c - the state of the host a run runs on: cores that may be used, names, load, and how much
 * of the CPU others took. Reads /proc and /sys only; what a kernel does not offer is left empty.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/probe/proc_file.h"

enum {
    FILE_BYTES = 8192
};

static uint32_t affinity_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 0;
    }
    return (uint32_t)CPU_COUNT(&set);
}

/* Cores that the control group's quota amounts to (version 2, then version 1); 0: no limit. */
static double quota_cores(void)
{
    char text[128];
    double quota = 0.0;
    double period = 0.0;
    if (proc_file_read("/sys/fs/cgroup/cpu.max", text, sizeof text)) {
        return sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0.0 ? quota / period : 0.0;
    }
    if (proc_file_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, sizeof text) &&
        sscanf(text, "%lf", &quota) == 1 && quota > 0.0 &&
        proc_file_read("/sys/fs/cgroup/cpu/cpu.cfs_period_us", text, sizeof text) &&
        sscanf(text, "%lf", &period) == 1 && period > 0.0) {
        return quota / period;
    }
    return 0.0;
}

static uint64_t meminfo_bytes(const char *text, const char *key)
{
    char value[64];
    uint64_t kib = 0;
    if (!proc_file_value(text, key, value, sizeof value) || sscanf(value, "%" SCNu64, &kib) != 1) {
        return 0;
    }
    return kib * 1024;
}

static void read_names(struct proc_host *h)
{
    char text[FILE_BYTES];
    struct utsname name = {0};
    if (uname(&name) == 0) {
        (void)snprintf(h->kernel, sizeof h->kernel, "%.24s %.63s", name.sysname, name.release);
        (void)snprintf(h->hostname, sizeof h->hostname, "%.63s", name.nodename);
    }
    /* "model name" on x86, "Model" on some others; arm64 says neither. */
    if (proc_file_read("/proc/cpuinfo", text, sizeof text) &&
        !proc_file_value(text, "model name", h->cpu_model, sizeof h->cpu_model) &&
        !proc_file_value(text, "Model", h->cpu_model, sizeof h->cpu_model)) {
        (void)snprintf(h->cpu_model, sizeof h->cpu_model, "%.64s", name.machine);
    }
    const char *path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    if (proc_file_read(path, h->governor, sizeof h->governor)) {
        h->governor[strcspn(h->governor, "\n")] = '\0';
    }
}

enum status proc_host_read(struct proc_host *out, struct error *error)
{
    struct proc_host h = {0};
    char text[4096];
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online < 1) {
        return error_set(error, STATUS_IO, "cannot count the processors");
    }
    h.cores_count = (uint32_t)online;
    uint32_t allowed = affinity_cores();
    h.usable_cores = allowed > 0 ? allowed : h.cores_count;
    double quota = quota_cores();
    if (quota > 0.0 && quota < h.usable_cores) {
        h.usable_cores = quota;
    }
    read_names(&h);
    if (proc_file_read("/proc/loadavg", text, sizeof text)) {
        (void)sscanf(text, "%lf %lf %lf", &h.load[0], &h.load[1], &h.load[2]);
    }
    if (proc_file_read("/proc/meminfo", text, sizeof text)) {
        h.memory_bytes = meminfo_bytes(text, "MemTotal");
        h.memory_available_bytes = meminfo_bytes(text, "MemAvailable");
    }
    *out = h;
    return STATUS_OK;
}

enum status proc_cpu_read(struct proc_cpu *out, struct error *error)
{
    /* user nice system idle iowait irq softirq steal; guest time is contained in user and nice. */
    enum {
        USER,
        NICE,
        SYSTEM,
        IDLE,
        IOWAIT,
        IRQ,
        SOFTIRQ,
        STEAL,
        FIELDS
    };
    uint64_t t[FIELDS] = {0};
    char text[512];
    if (!proc_file_read("/proc/stat", text, sizeof text) ||
        sscanf(text,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               &t[USER], &t[NICE], &t[SYSTEM], &t[IDLE], &t[IOWAIT], &t[IRQ], &t[SOFTIRQ],
               &t[STEAL]) < SYSTEM + 1) {
        return error_set(error, STATUS_IO, "/proc/stat: cannot read the CPU times");
    }
    long ticks_per_s = sysconf(_SC_CLK_TCK);
    uint64_t tick_ns = 1000000000U / (uint64_t)(ticks_per_s > 0 ? ticks_per_s : 100);
    uint64_t busy = t[USER] + t[NICE] + t[SYSTEM] + t[IRQ] + t[SOFTIRQ] + t[STEAL];
    *out = (struct proc_cpu){
        .at_ns = clock_now_ns(), .busy_ns = busy * tick_ns, .steal_ns = t[STEAL] * tick_ns};
    return STATUS_OK;
}

double proc_others_frac(const struct proc_cpu *a, const struct proc_cpu *b, double own_cores,
                        uint32_t cores_count)
{
    if (b->at_ns <= a->at_ns || cores_count == 0) {
        return PROBE_UNKNOWN;
    }
    uint64_t busy_ns = b->busy_ns > a->busy_ns ? b->busy_ns - a->busy_ns : 0;
    double others = (double)busy_ns / (double)(b->at_ns - a->at_ns) - own_cores;
    return others > 0.0 ? others / cores_count : 0.0;
}
