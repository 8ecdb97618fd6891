/*
 * host_check.c - reads the state of a host from files below a root: /proc, /sys and the control
 * group of this process with all groups above it (version 2 or 1). Judges nothing (host_judge.c)
 * and measures nothing (host_measure.c).
 */
#include "harness/probe/host_check.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/probe/proc_file.h"

enum {
    FILE_BYTES = 8192,
    PATH_BYTES = 512,
    CPUS_MAX = 4096,
};

static bool read_text(char *out, size_t cap, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The file of that name; without the line end. */
static bool read_text(char *out, size_t cap, const char *format, ...)
{
    char path[PATH_BYTES];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(path, sizeof path, format, list);
    va_end(list);
    if (length < 0 || (size_t)length >= sizeof path || !proc_file_read(path, out, cap)) {
        out[0] = '\0';
        return false;
    }
    size_t bytes = strlen(out);
    while (bytes > 0 && isspace((unsigned char)out[bytes - 1])) {
        out[--bytes] = '\0';
    }
    return true;
}

/* "max" and "unlimited" are HOST_NO_LIMIT, and so is what only a 64-bit limit can be. */
static int64_t number_of(const char *text)
{
    char *end = NULL;
    if (strncmp(text, "max", 3) == 0 || strncmp(text, "unlimited", 9) == 0) {
        return HOST_NO_LIMIT;
    }
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || value < 0) {
        return HOST_NO_NUMBER;
    }
    return errno != 0 || value > INT64_MAX / 4 ? HOST_NO_LIMIT : (int64_t)value;
}

static int64_t read_number(const char *root, const char *path)
{
    char text[128];
    return read_text(text, sizeof text, "%s%s", root, path) ? number_of(text) : HOST_NO_NUMBER;
}

/* How many numbers a list like "0-3,8,10-11" holds. */
static int64_t list_count(const char *list)
{
    int64_t count = 0;
    const char *at = list;
    while (isdigit((unsigned char)*at)) {
        char *end = NULL;
        long lo = strtol(at, &end, 10);
        long hi = lo;
        if (*end == '-') {
            hi = strtol(end + 1, &end, 10);
        }
        if (hi < lo || hi >= CPUS_MAX) {
            return HOST_NO_NUMBER;
        }
        count += hi - lo + 1;
        at = *end == ',' ? end + 1 : end;
    }
    return count > 0 && *at == '\0' ? count : HOST_NO_NUMBER;
}

static int64_t read_list(const char *root, const char *path)
{
    char text[1024];
    return read_text(text, sizeof text, "%s%s", root, path) ? list_count(text) : HOST_NO_NUMBER;
}

/* ---- processor ---- */

static void read_governors(const char *root, struct host_state *s)
{
    char text[HOST_WORD_BYTES];
    int64_t cpus = s->cpus_online > 0 ? s->cpus_online : 1;
    for (int64_t i = 0; i < cpus; i++) {
        if (!read_text(text, sizeof text,
                       "%s/sys/devices/system/cpu/cpu%" PRId64 "/cpufreq/scaling_governor", root,
                       i)) {
            continue;
        }
        if (s->governors_count < 1) {
            memcpy(s->governor, text, sizeof s->governor);
            s->governors_count = 1;
        } else if (strcmp(text, s->governor) != 0) {
            s->governors_count = 2;
        }
    }
}

static void read_processor(const char *root, struct host_state *s)
{
    char text[FILE_BYTES];
    char list[1024];
    s->cpus_online = read_list(root, "/sys/devices/system/cpu/online");
    s->cpus_allowed = HOST_NO_NUMBER;
    if (read_text(text, sizeof text, "%s/proc/self/status", root) &&
        proc_file_value(text, "Cpus_allowed_list", list, sizeof list)) {
        s->cpus_allowed = list_count(list);
    }
    s->numa_nodes = read_list(root, "/sys/devices/system/node/online");
    s->smt = read_number(root, "/sys/devices/system/cpu/smt/active");
    s->turbo = read_number(root, "/sys/devices/system/cpu/cpufreq/boost");
    int64_t no_turbo = read_number(root, "/sys/devices/system/cpu/intel_pstate/no_turbo");
    if (no_turbo != HOST_NO_NUMBER) {
        s->turbo = no_turbo == 0 ? 1 : 0;
    }
    s->governors_count = 0;
    read_governors(root, s);
}

/* ---- control groups ---- */

/* Where the group of `controller` ("" for version 2) hangs: its folder below the root, and the
 * group's path in it. False: this process is in none. */
static bool group_of(const char *root, const char *controller, char *folder, char *group)
{
    char text[FILE_BYTES];
    char *rest = NULL;
    if (!read_text(text, sizeof text, "%s/proc/self/cgroup", root)) {
        return false;
    }
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *names = strchr(line, ':');
        char *path = names != NULL ? strchr(names + 1, ':') : NULL;
        if (path == NULL) {
            continue;
        }
        *names++ = '\0';
        *path++ = '\0';
        char *inner = NULL;
        bool found = controller[0] == '\0' && names[0] == '\0';
        for (char *name = strtok_r(names, ",", &inner); name != NULL && controller[0] != '\0';
             name = strtok_r(NULL, ",", &inner)) {
            found = found || strcmp(name, controller) == 0;
        }
        if (found) {
            (void)snprintf(folder, PATH_BYTES, "/sys/fs/cgroup%s%s", controller[0] ? "/" : "",
                           controller);
            (void)snprintf(group, PATH_BYTES, "%.255s", strcmp(path, "/") == 0 ? "" : path);
            return true;
        }
    }
    return false;
}

/* The group above; false at the top. */
static bool parent_group(char *group)
{
    char *slash = strrchr(group, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    return true;
}

/* The least of a file's values in a group and all above it: all of them bind. */
static int64_t group_least(const char *root, const char *controller, const char *file,
                           char where[PATH_BYTES])
{
    char folder[PATH_BYTES];
    char group[PATH_BYTES];
    char text[128];
    int64_t least = HOST_NO_NUMBER;
    if (!group_of(root, controller, folder, group)) {
        return HOST_NO_NUMBER;
    }
    do {
        if (!read_text(text, sizeof text, "%s%.64s%.255s/%s", root, folder, group, file)) {
            continue;
        }
        int64_t value = number_of(text);
        if (value != HOST_NO_NUMBER && (least == HOST_NO_NUMBER || value < least)) {
            least = value;
            (void)snprintf(where, PATH_BYTES, "%.64s%.255s", folder, group);
        }
    } while (parent_group(group));
    return least;
}

/* Version 2: "QUOTA PERIOD" or "max PERIOD"; version 1: two files, -1 for none. */
static bool group_cores(const char *root, const char *folder, const char *group, bool unified,
                        double *cores)
{
    char text[128];
    double quota = 0;
    double period = 0;
    if (unified) {
        if (!read_text(text, sizeof text, "%s%.64s%.255s/cpu.max", root, folder, group)) {
            return false;
        }
        bool limited = sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0;
        *cores = limited ? quota / period : (double)INFINITY;
        return true;
    }
    if (!read_text(text, sizeof text, "%s%.64s%.255s/cpu.cfs_quota_us", root, folder, group) ||
        sscanf(text, "%lf", &quota) != 1 ||
        !read_text(text, sizeof text, "%s%.64s%.255s/cpu.cfs_period_us", root, folder, group) ||
        sscanf(text, "%lf", &period) != 1) {
        return false;
    }
    *cores = quota > 0 && period > 0 ? quota / period : (double)INFINITY;
    return true;
}

static void read_quota(const char *root, struct host_state *s)
{
    char folder[PATH_BYTES];
    char group[PATH_BYTES];
    for (int version = 2; version >= 1; version--) {
        bool unified = version == 2;
        if (!group_of(root, unified ? "" : "cpu", folder, group)) {
            continue;
        }
        do {
            double cores = 0;
            if (group_cores(root, folder, group, unified, &cores) &&
                (isnan(s->quota_cores) || cores < s->quota_cores)) {
                s->quota_cores = cores;
                (void)snprintf(s->quota_path, sizeof s->quota_path, "%.20s%.120s/%s", folder, group,
                               unified ? "cpu.max" : "cpu.cfs_quota_us");
            }
        } while (parent_group(group));
    }
    /* The top of a hierarchy has no such file: a process in it has no quota. */
    if (isnan(s->quota_cores) &&
        (group_of(root, "", folder, group) || group_of(root, "cpu", folder, group))) {
        s->quota_cores = (double)INFINITY;
    }
}

/* ---- memory and limits ---- */

static int64_t kib_of(const char *text, const char *key)
{
    char value[64];
    int64_t kib =
        proc_file_value(text, key, value, sizeof value) ? number_of(value) : HOST_NO_NUMBER;
    return kib >= 0 && kib < INT64_MAX / 1024 ? kib * 1024 : HOST_NO_NUMBER;
}

static void read_memory(const char *root, struct host_state *s)
{
    char text[FILE_BYTES];
    char where[PATH_BYTES] = "";
    s->memory_available_bytes = s->swap_bytes = s->swap_used_bytes = HOST_NO_NUMBER;
    if (read_text(text, sizeof text, "%s/proc/meminfo", root)) {
        s->memory_available_bytes = kib_of(text, "MemAvailable");
        s->swap_bytes = kib_of(text, "SwapTotal");
        int64_t left = kib_of(text, "SwapFree");
        if (s->swap_bytes >= 0 && left >= 0 && left <= s->swap_bytes) {
            s->swap_used_bytes = s->swap_bytes - left;
        }
    }
    const char *used = "memory.current";
    s->memory_limit_bytes = group_least(root, "", "memory.max", where);
    if (s->memory_limit_bytes == HOST_NO_NUMBER) {
        s->memory_limit_bytes = group_least(root, "memory", "memory.limit_in_bytes", where);
        used = "memory.usage_in_bytes";
    }
    s->memory_used_bytes = HOST_NO_NUMBER;
    if (where[0] != '\0' && read_text(text, 128, "%s%.319s/%s", root, where, used)) {
        s->memory_used_bytes = number_of(text);
    }
    s->overcommit = read_number(root, "/proc/sys/vm/overcommit_memory");
    /* "always [madvise] never": the one in brackets holds. */
    if (read_text(text, sizeof text, "%s/sys/kernel/mm/transparent_hugepage/enabled", root)) {
        (void)sscanf(text, "%*[^[][%47[^]]", s->huge_pages);
        if (text[0] == '[') {
            (void)sscanf(text, "[%47[^]]", s->huge_pages);
        }
    }
}

static int64_t lesser(int64_t a, int64_t b)
{
    if (a == HOST_NO_NUMBER || b == HOST_NO_NUMBER) {
        return a == HOST_NO_NUMBER ? b : a;
    }
    return a < b ? a : b;
}

/* "Max open files   1024   1048576   files" */
static void read_limits(const char *root, struct host_state *s)
{
    char text[FILE_BYTES];
    char value[128];
    char soft[32];
    char hard[32];
    char where[PATH_BYTES] = "";
    s->files_soft = s->files_hard = s->tasks_max = HOST_NO_NUMBER;
    if (read_text(text, sizeof text, "%s/proc/self/limits", root)) {
        if (proc_file_value(text, "Max open files", value, sizeof value) &&
            sscanf(value, "%31s %31s", soft, hard) == 2) {
            s->files_soft = number_of(soft);
            s->files_hard = number_of(hard);
        }
        if (proc_file_value(text, "Max processes", value, sizeof value) &&
            sscanf(value, "%31s", soft) == 1) {
            s->tasks_max = number_of(soft);
        }
    }
    s->tasks_max = lesser(s->tasks_max, group_least(root, "", "pids.max", where));
    s->tasks_max = lesser(s->tasks_max, group_least(root, "pids", "pids.max", where));
}

static void read_network(const char *root, struct host_state *s)
{
    char text[FILE_BYTES];
    char value[160];
    long lo = 0;
    long hi = 0;
    s->ports_count = s->ports_waiting = HOST_NO_NUMBER;
    if (read_text(text, sizeof text, "%s/proc/sys/net/ipv4/ip_local_port_range", root) &&
        sscanf(text, "%ld %ld", &lo, &hi) == 2 && hi >= lo) {
        s->ports_count = hi - lo + 1;
    }
    if (read_text(text, sizeof text, "%s/proc/net/sockstat", root) &&
        proc_file_value(text, "TCP", value, sizeof value)) {
        const char *waiting = strstr(value, " tw ");
        s->ports_waiting = waiting != NULL ? number_of(waiting + 4) : HOST_NO_NUMBER;
    }
    s->ports_reused = read_number(root, "/proc/sys/net/ipv4/tcp_tw_reuse");
    s->backlog_max = read_number(root, "/proc/sys/net/core/somaxconn");
}

/* "some avg10=1.50 avg60=..." of a resource */
static double read_pressure(const char *root, const char *resource)
{
    char text[256];
    double percent = 0;
    if (!read_text(text, sizeof text, "%s/proc/pressure/%s", root, resource) ||
        sscanf(text, "some avg10=%lf", &percent) != 1) {
        return (double)NAN;
    }
    return percent / 100;
}

void host_state_read(const char *root, struct host_state *out)
{
    struct host_state s = {
        .quota_cores = (double)NAN,
        .timer_late_p50_us = (double)NAN,
        .timer_late_p99_us = (double)NAN,
        .others_cores = (double)NAN,
        .steal_frac = (double)NAN,
        .spin_wait_frac = (double)NAN,
    };
    const char *clock = "/sys/devices/system/clocksource/clocksource0";
    read_processor(root, &s);
    read_quota(root, &s);
    (void)read_text(s.clock_source, sizeof s.clock_source, "%s%s/current_clocksource", root, clock);
    (void)read_text(s.clock_sources, sizeof s.clock_sources, "%s%s/available_clocksource", root,
                    clock);
    s.timer_slack_ns = read_number(root, "/proc/self/timerslack_ns");
    read_memory(root, &s);
    read_limits(root, &s);
    read_network(root, &s);
    s.pressure_cpu_frac = read_pressure(root, "cpu");
    s.pressure_memory_frac = read_pressure(root, "memory");
    s.pressure_io_frac = read_pressure(root, "io");
    *out = s;
}
