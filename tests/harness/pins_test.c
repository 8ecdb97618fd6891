/*
 * pins_test.c - which CPUs a cell's processes get from `pin` and `cores`, what is refused, and what
 * a budget leaves of the runs before any is made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper_scenario.h"

#define REST "[workload w]\n[load l]\nusers = 4\nmeasure = 8s\nwarmup = 1s\n[client]\n[slo s]\n"

/* CPUs 0..3 and 8..11: not all of a machine, as in a container. */
static enum status open_with(const char *server, struct scenario **out,
                             struct scenario_problems *problems)
{
    static char text[2048];
    struct scenario_environment environment;
    struct memory memory = {.files = NULL};
    (void)snprintf(text, sizeof text,
                   "[scenario]\nname = pins\nrepeats = 2\ncooldown = 0s\nbudget = 25s\n"
                   "[server s]\n%s\n" REST,
                   server);
    const struct memory_file files[] = {{"t.ini", text}, {NULL, NULL}};
    memory.files = files;
    environment = memory_environment(&memory);
    environment.cpus_count = 8;
    for (uint32_t i = 0; i < 4; i++) {
        topology_cpus_add(&environment.cpus, i);
        topology_cpus_add(&environment.cpus, 8 + i);
    }
    return scenario_open("t.ini", &environment, NULL, out, problems);
}

static void assert_pins(const char *server, uint32_t cell, const char *wanted)
{
    static struct scenario_problems problems;
    struct scenario *s = NULL;
    char text[512] = "";
    if (open_with(server, &s, &problems) != STATUS_OK) {
        fail_msg("%s: %s", server, problems.text[0]);
    }
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    assert_non_null(out);
    scenario_write_pins(&s->cells[cell], out);
    (void)fclose(out);
    assert_string_equal(text, wanted);
    scenario_close(s);
}

static void assert_refused(const char *server, const char *why)
{
    static struct scenario_problems problems;
    struct scenario *s = NULL;
    char all[2048];
    assert_int_equal(open_with(server, &s, &problems), STATUS_INVALID);
    problems_join(&problems, all, sizeof all);
    if (strstr(all, why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", all, why);
    }
}

static void pins_are_sets_of_cpus(void **unused)
{
    (void)unused;
    assert_pins("", 0, "");
    assert_pins("pin = auto", 0, "");
    assert_pins("pin = api:0-1 engine:2,3,8 client:11", 0, " api:0-1 engine:2-3,8 client:11");
    assert_pins("pin = client:8-9  worker:3 coordinator:0 system:0-3", 0,
                " system:0-3 worker:3 coordinator:0 client:8-9");
}

static void cores_are_an_axis(void **unused)
{
    (void)unused;
    static const char axis[] = "cores = %{cores}\n[sweep]\naxis.cores = 1,5,8";
    assert_pins(axis, 0, " system:0 client:1-3,8-11");
    assert_pins(axis, 1, " system:0-3,8 client:9-11");
    assert_pins(axis, 2, " system:0-3,8-11"); /* none is left for the client alone */
}

static void mistakes_are_told(void **unused)
{
    (void)unused;
    assert_refused("pin = api:0-4", "CPU 4 is none of those that this process may use: 0-3,8-11");
    assert_refused("pin = client:7", "client: CPU 7");
    assert_refused("pin = apis:0", "'apis:0' names no processes");
    assert_refused("pin = api", "names no processes");
    assert_refused("pin = api:", "is no list of CPUs");
    assert_refused("pin = api:3-1", "is no list of CPUs");
    assert_refused("pin = api:0,", "is no list of CPUs");
    assert_refused("pin = api:0x1", "is no list of CPUs");
    assert_refused("pin = api:1024", "is no list of CPUs");
    assert_refused("pin = api:0 api:1", "given twice");
    assert_refused("cores = 9", "9 are more than the 8 CPUs");
    assert_refused("cores = 2\npin = api:0", "set one of them");
}

static void waiting_spins_only_with_cpus_for_all(void **unused)
{
    (void)unused;
    static struct scenario_problems problems;
    struct scenario *s = NULL;
    /* 1 + 1 x (1 + 1) + 1 threads spin. */
    assert_int_equal(open_with("cores = 4", &s, &problems), STATUS_OK);
    assert_int_equal(s->cells[0].topology.wait, WAIT_SPIN);
    scenario_close(s);
    assert_int_equal(open_with("cores = 3", &s, &problems), STATUS_OK);
    assert_int_equal(s->cells[0].topology.wait, WAIT_BLOCK);
    scenario_close(s);
}

/* 6 runs of 10 s (1 s start and stop, 1 s warm-up, 8 s window) in 25 s: those at 0, 10 and 20 s. */
static void a_budget_is_judged_before_any_run(void **unused)
{
    (void)unused;
    static struct scenario_problems problems;
    struct scenario *s = NULL;
    char text[2048] = "";
    assert_int_equal(open_with("cores = %{cores}\n[sweep]\naxis.cores = 1,2,3", &s, &problems),
                     STATUS_OK);
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    assert_non_null(out);
    scenario_write_runs(s, out);
    (void)fclose(out);
    assert_non_null(strstr(text, "r0002  0:00:20      cores=3 rep 1\n"));
    assert_non_null(strstr(text, "r0003  0:00:30      cores=1 rep 2  skipped\n"));
    assert_non_null(strstr(text, "budget: 25.0s: NOT enough, 3 of 6 runs would be skipped\n"));
    scenario_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pins_are_sets_of_cpus),
        cmocka_unit_test(cores_are_an_axis),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(waiting_spins_only_with_cpus_for_all),
        cmocka_unit_test(a_budget_is_judged_before_any_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
