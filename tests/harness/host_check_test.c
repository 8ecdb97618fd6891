/*
 * What would spoil a measurement: made-up hosts below tests/harness/doctor, whose values are known
 * from the files, and this host, where only what must hold anywhere is asserted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/probe/host_check.h"

#define FIXTURES "tests/harness/doctor/"
#define MIB      ((int64_t)1 << 20)

struct findings {
    struct host_finding of[HOST_FINDINGS_MAX];
    size_t count;
};

static struct findings judged(const struct host_state *state, const struct host_needs *needs)
{
    struct findings f;
    f.count = host_judge(state, needs, f.of);
    assert_true(f.count > 15);
    for (size_t i = 0; i < f.count; i++) {
        bool fine = f.of[i].severity == HOST_OK;
        assert_true(i == 0 || f.of[i].severity >= f.of[i - 1].severity);
        assert_true(f.of[i].seen[0] != '\0');
        assert_true(strlen(f.of[i].seen) < HOST_LINE_BYTES - 1);
        assert_true(fine == (f.of[i].why[0] == '\0'));
        /* Whatever is wrong has something that mends it. */
        assert_true(f.of[i].severity >= HOST_UNKNOWN || f.of[i].mend[0] != '\0');
    }
    return f;
}

static const struct host_finding *named(const struct findings *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->of[i].name, name) == 0) {
            return &f->of[i];
        }
    }
    fail_msg("no finding of '%s'", name);
    return f->of;
}

static void is(const struct findings *f, const char *name, enum host_severity severity)
{
    const struct host_finding *found = named(f, name);
    if (found->severity != severity) {
        fail_msg("%s: %d, not %d: %s", name, (int)found->severity, (int)severity, found->seen);
    }
}

static void quiet(struct host_state *s)
{
    s->timer_late_p50_us = 60;
    s->timer_late_p99_us = 200;
    s->others_cores = 0.01;
    s->steal_frac = 0;
    s->spin_wait_frac = 0.001;
}

static void a_good_host_is_fine(void **state)
{
    (void)state;
    struct host_state s;
    host_state_read(FIXTURES "good", &s);
    assert_string_equal(s.governor, "performance");
    assert_int_equal(s.cpus_online, 4);
    assert_int_equal(s.cpus_allowed, 4);
    assert_true(isinf(s.quota_cores));
    assert_int_equal(s.memory_limit_bytes, HOST_NO_LIMIT);
    assert_int_equal(s.files_hard, HOST_NO_LIMIT);
    assert_int_equal(s.tasks_max, 60000);
    assert_int_equal(s.ports_count, 28232);
    assert_int_equal(s.ports_waiting, 3);
    assert_int_equal(s.turbo, 0);
    assert_true(fabs(s.pressure_cpu_frac - 0.004) < 1e-9);
    /* Nothing was tried out yet. */
    struct findings f = judged(&s, NULL);
    is(&f, "timers", HOST_UNKNOWN);
    is(&f, "others", HOST_UNKNOWN);
    quiet(&s);
    f = judged(&s, NULL);
    for (size_t i = 0; i < f.count; i++) {
        is(&f, f.of[i].name, HOST_OK);
    }
}

static void a_bad_host_is_told_what_mends_it(void **state)
{
    (void)state;
    struct host_state s;
    host_state_read(FIXTURES "bad", &s);
    /* The group above has the tighter quota and the only memory limit. */
    assert_true(fabs(s.quota_cores - 1.5) < 1e-9);
    assert_string_equal(s.quota_path, "/sys/fs/cgroup/box/cpu.max");
    assert_int_equal(s.memory_limit_bytes, 512 * MIB);
    assert_int_equal(s.memory_used_bytes, 400 * MIB);
    assert_int_equal(s.tasks_max, 40);
    assert_int_equal(s.cpus_allowed, 4);
    assert_int_equal(s.swap_used_bytes, (int64_t)500000 * 1024);
    assert_string_equal(s.huge_pages, "always");
    quiet(&s);
    struct findings f = judged(&s, NULL);
    is(&f, "cpu quota", HOST_SPOILS);
    assert_non_null(strstr(named(&f, "cpu quota")->mend, "/sys/fs/cgroup/box/cpu.max"));
    is(&f, "governor", HOST_SPOILS);
    is(&f, "clock source", HOST_SPOILS);
    assert_non_null(strstr(named(&f, "clock source")->mend, "echo tsc"));
    is(&f, "memory", HOST_SPOILS); /* 112 MiB are left below the limit */
    is(&f, "pressure", HOST_SPOILS);
    is(&f, "backlog", HOST_SPOILS);
    static const char *const notes[] = {"turbo", "SMT",        "NUMA",       "processors",
                                        "swap",  "overcommit", "huge pages", "open files",
                                        "tasks", "ports"};
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        is(&f, notes[i], HOST_NOTE);
    }
}

static void version_1_control_groups_are_read(void **state)
{
    (void)state;
    struct host_state s;
    host_state_read(FIXTURES "old", &s);
    assert_true(fabs(s.quota_cores - 2.5) < 1e-9);
    assert_int_equal(s.memory_limit_bytes, 1024 * MIB);
    assert_int_equal(s.memory_used_bytes, 73741824);
    assert_int_equal(s.tasks_max, 77);
    assert_int_equal(s.governors_count, 2);
    struct findings f = judged(&s, NULL);
    is(&f, "cpu quota", HOST_SPOILS);
    is(&f, "governor", HOST_NOTE); /* some processors have another one */
    is(&f, "turbo", HOST_OK);
    is(&f, "memory", HOST_OK);
    is(&f, "clock source", HOST_UNKNOWN);
}

/* What could not be read is never fine. */
static void an_unreadable_host_is_unknown(void **state)
{
    (void)state;
    struct host_state s;
    struct host_needs needs = {.files_count = 1 << 20, .cores = 100};
    host_state_read(FIXTURES "nowhere", &s);
    struct findings f = judged(&s, NULL);
    for (size_t i = 0; i < f.count; i++) {
        is(&f, f.of[i].name, HOST_UNKNOWN);
    }
    f = judged(&s, &needs);
    for (size_t i = 0; i < f.count; i++) {
        is(&f, f.of[i].name, HOST_UNKNOWN);
    }
}

static void each_measured_value_has_its_limits(void **state)
{
    (void)state;
    struct host_state base;
    host_state_read(FIXTURES "good", &base);
    quiet(&base);
    static const struct {
        const char *name;
        double timer_us;
        double others_cores; /* of 4 */
        double steal_frac;
        double spin_frac;
        enum host_severity severity;
    } cases[] = {
        {"timers", 900, 0, 0, 0, HOST_OK},      {"timers", 1500, 0, 0, 0, HOST_NOTE},
        {"timers", 6000, 0, 0, 0, HOST_SPOILS}, {"others", 0, 0.05, 0, 0, HOST_OK},
        {"others", 0, 0.2, 0, 0, HOST_NOTE},    {"others", 0, 0.5, 0, 0, HOST_SPOILS},
        {"steal", 0, 0, 0.005, 0, HOST_OK},     {"steal", 0, 0, 0.02, 0, HOST_NOTE},
        {"steal", 0, 0, 0.10, 0, HOST_SPOILS},  {"waiting", 0, 0, 0, 0.005, HOST_OK},
        {"waiting", 0, 0, 0, 0.02, HOST_NOTE},  {"waiting", 0, 0, 0, 0.5, HOST_SPOILS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct host_state s = base;
        s.timer_late_p99_us = cases[i].timer_us;
        s.others_cores = cases[i].others_cores;
        s.steal_frac = cases[i].steal_frac;
        s.spin_wait_frac = cases[i].spin_frac;
        struct findings f = judged(&s, NULL);
        is(&f, cases[i].name, cases[i].severity);
    }
}

/* A cell just fits, or lacks one of something. */
static void needs_are_held_against_limits(void **state)
{
    (void)state;
    struct host_state s;
    host_state_read(FIXTURES "bad", &s); /* 300 files, 40 tasks, 1,000 ports of which 100 free */
    quiet(&s);
    struct host_needs needs = {.processes_count = 10,
                               .threads_count = 40,
                               .files_count = 300,
                               .connections_count = 64,
                               .memory_bytes = 112 << 20,
                               .cores = 1.12}; /* 75 % of 1.5 are 1.125 */
    struct findings f = judged(&s, &needs);
    is(&f, "tasks", HOST_OK);
    is(&f, "open files", HOST_OK);
    is(&f, "ports", HOST_OK);
    is(&f, "memory", HOST_OK);
    is(&f, "backlog", HOST_OK);
    is(&f, "processors", HOST_NOTE);
    needs.threads_count++;
    needs.files_count++;
    needs.connections_count = 101;
    needs.memory_bytes++;
    needs.cores = 1.13;
    f = judged(&s, &needs);
    is(&f, "tasks", HOST_SPOILS);
    is(&f, "open files", HOST_SPOILS);
    is(&f, "ports", HOST_SPOILS);
    is(&f, "memory", HOST_SPOILS);
    is(&f, "backlog", HOST_SPOILS);
    is(&f, "processors", HOST_SPOILS);
}

static void needs_of_a_topology(void **state)
{
    (void)state;
    struct topology t = {
        .api_servers_count = 4, .engines_count = 8, .tp = 1, .pp = 1, .async_depth = 2};
    struct host_needs needs;
    struct host_needs more;
    host_needs_of(&t, 640, &needs);
    /* 1 + 4 + 8 + 8 + 1 serving processes, the client and the harness. */
    assert_int_equal(needs.processes_count, 24);
    assert_true(needs.files_count > 640);
    assert_true(needs.threads_count > 24);
    assert_true(isnan(needs.cores));
    t.engines_count = 16;
    host_needs_of(&t, 10, &more);
    more.cores = 2;
    assert_true(more.threads_count > needs.threads_count);
    host_needs_merge(&needs, &more);
    assert_int_equal(needs.processes_count, more.processes_count);
    assert_int_equal(needs.connections_count, 640);
    assert_true(fabs(needs.cores - 2) < 1e-9);
}

/* On any Linux: what is tried out is a number, and a fraction where it is one. */
static void this_host_can_be_measured(void **state)
{
    (void)state;
    struct host_state s;
    host_state_read("", &s);
    host_state_measure(&s);
    assert_true(s.cpus_allowed > 0);
    assert_true(s.files_hard > 0);
    assert_true(s.timer_late_p50_us >= 0 && s.timer_late_p99_us >= s.timer_late_p50_us);
    assert_true(isnan(s.spin_wait_frac) || (s.spin_wait_frac >= 0 && s.spin_wait_frac <= 1.01));
    assert_true(isnan(s.steal_frac) || (s.steal_frac >= 0 && s.steal_frac <= 1.01));
    for (size_t i = 1; i < s.others_count; i++) {
        assert_true(s.others[i].cores <= s.others[i - 1].cores);
    }
    (void)judged(&s, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_host_is_fine),
        cmocka_unit_test(a_bad_host_is_told_what_mends_it),
        cmocka_unit_test(version_1_control_groups_are_read),
        cmocka_unit_test(an_unreadable_host_is_unknown),
        cmocka_unit_test(each_measured_value_has_its_limits),
        cmocka_unit_test(needs_are_held_against_limits),
        cmocka_unit_test(needs_of_a_topology),
        cmocka_unit_test(this_host_can_be_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
