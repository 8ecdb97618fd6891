/*
 * pins_test.c - CPUs of processes: each kind runs where its pin says, by what the kernel tells of
 * every thread; kinds without a pin follow the process that started them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/probe/proc.h"
#include "helper_system.h"

enum {
    LIST_BYTES = 128
};

/* The first two CPUs of this machine. */
static uint32_t cpus[2];

static bool find_cpus(void)
{
    cpu_set_t set;
    uint32_t found = 0;
    CPU_ZERO(&set);
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    for (uint32_t i = 0; i < CPU_SETSIZE && found < 2; i++) {
        if (CPU_ISSET(i, &set)) {
            cpus[found++] = i;
        }
    }
    return found == 2;
}

static struct topology_cpus only(uint32_t cpu)
{
    struct topology_cpus set = {{0}};
    topology_cpus_add(&set, cpu);
    return set;
}

static void allowed_of(const struct proc_thread *t, char out[LIST_BYTES])
{
    char path[64];
    char line[256];
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)t->pid, (int)t->tid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    (void)strcpy(out, "?");
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "Cpus_allowed_list:", 18) == 0) {
            (void)snprintf(out, LIST_BYTES, "%.*s", (int)strcspn(line + 19, "\n"), line + 19);
        }
    }
    (void)fclose(file);
}

/* Every thread of every process whose name begins so; returns how many processes there are. */
static uint32_t assert_on(const struct proc_tree *tree, const char *name, uint32_t cpu)
{
    uint32_t count = 0;
    char want[16];
    (void)snprintf(want, sizeof want, "%u", cpu);
    for (size_t i = 0; i < tree->processes_count; i++) {
        const struct proc_process *p = &tree->processes[i];
        if (strncmp(p->comm, name, strlen(name)) != 0) {
            continue;
        }
        count++;
        for (size_t k = 0; k < tree->threads_count; k++) {
            char got[LIST_BYTES];
            if (tree->threads[k].pid == p->pid) {
                allowed_of(&tree->threads[k], got);
                if (strcmp(got, want) != 0) {
                    fail_msg("%s (thread %s) may run on %s, not on %s", p->comm,
                             tree->threads[k].comm, got, want);
                }
            }
        }
    }
    return count;
}

/* A running system of 2 API servers and 2 engine cores with a worker each. */
static void assert_places(const struct topology *t, const uint32_t want[PINS_COUNT])
{
    struct system s;
    struct proc_tree tree;
    struct error error;
    e2e_start(t, &s);
    assert_int_equal(proc_tree_read(s.launchers[0].pid, &tree, &error), STATUS_OK);
    assert_int_equal(assert_on(&tree, "launcher", want[PIN_SYSTEM]), 1);
    assert_int_equal(assert_on(&tree, "ApiServer_", want[PIN_API_SERVER]), 2);
    assert_int_equal(assert_on(&tree, "EngineCore_DP", want[PIN_ENGINE_CORE]), 2);
    assert_int_equal(assert_on(&tree, "Worker_DP", want[PIN_WORKER]), 2);
    assert_int_equal(assert_on(&tree, "DPCoordinator", want[PIN_COORDINATOR]), 1);
    proc_tree_free(&tree);
    e2e_stop(&s);
}

static void each_kind_is_where_its_pin_says(void **state)
{
    (void)state;
    if (!find_cpus()) {
        skip(); /* one CPU: everything is on it */
    }
    const uint32_t a = cpus[0];
    const uint32_t b = cpus[1];
    struct topology t = e2e_topology(2, 2);
    for (uint32_t i = 0; i < PINS_COUNT; i++) {
        t.pins[i] = only(i % 2 == 0 ? a : b);
    }
    assert_places(&t, (const uint32_t[PINS_COUNT]){a, b, a, b, a});
    for (uint32_t i = 0; i < PINS_COUNT; i++) {
        t.pins[i] = only(i % 2 == 0 ? b : a);
    }
    assert_places(&t, (const uint32_t[PINS_COUNT]){b, a, b, a, b});
}

static void others_follow_who_started_them(void **state)
{
    (void)state;
    if (!find_cpus()) {
        skip(); /* one CPU: everything is on it */
    }
    struct topology t = e2e_topology(2, 2);
    t.pins[PIN_SYSTEM] = only(cpus[1]);
    t.pins[PIN_ENGINE_CORE] = only(cpus[0]);
    assert_places(&t, (const uint32_t[PINS_COUNT]){cpus[1], cpus[1], cpus[0], cpus[0], cpus[1]});
}

/* A CPU that no machine of a test has: said, and nothing is left behind. */
static void a_cpu_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 1);
    t.pins[PIN_API_SERVER] = only(TOPOLOGY_CPUS_MAX - 1);
    struct system_options options = {
        .topology = t, .log_fd = -1, .start_timeout_ns = (int64_t)HANG_MS * 1000000};
    struct system s;
    struct error error;
    assert_int_not_equal(system_start(&options, &s, &error), STATUS_OK);
    assert_non_null(strstr(error.text, "cannot run the api on CPUs 1023"));
    e2e_assert_no_children();
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_where_its_pin_says),
        cmocka_unit_test(others_follow_who_started_them),
        cmocka_unit_test(a_cpu_that_is_not_there_is_an_error),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
