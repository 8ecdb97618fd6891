/*
 * probe_mechanics_test.c - trials of waits and links, held against what holds on any machine: times
 * that are part of others are no longer than these, samples are as many as were taken, and the
 * process is afterwards what it was before. No time is asked for: other programs run here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "engine/base/clock.h"
#include "harness/probe/mechanics.h"

enum {
    SLACK_NS = 51000, /* another one than a process has by itself */
};

static double process_cpu_ns(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint32_t entries(const char *folder)
{
    uint32_t count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        count += e->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(dir);
    return count;
}

static double sum(const struct mechanics *m, enum mechanics_what what)
{
    double all = 0;
    for (uint32_t i = 0; i < m->count[what]; i++) {
        assert_true(m->ns[what][i] >= 0);
        assert_true(i == 0 || m->ns[what][i - 1] <= m->ns[what][i]);
        all += m->ns[what][i];
    }
    return all;
}

static void trials_are_part_of_the_time_they_take(void **state)
{
    (void)state;
    struct mechanics *m = calloc(1, sizeof *m);
    struct error error;
    cpu_set_t before;
    cpu_set_t after;
    assert_non_null(m);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(prctl(PR_SET_TIMERSLACK, (unsigned long)SLACK_NS), 0);
    uint32_t descriptors = entries("/proc/self/fd");
    uint32_t threads = entries("/proc/self/task");
    int64_t begin_ns = clock_now_ns();
    double cpu_ns = process_cpu_ns();
    m->count[MECHANICS_TCP] = 3; /* what was in it is gone */
    if (mechanics_measure(m, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    cpu_ns = process_cpu_ns() - cpu_ns;
    double wall_ns = (double)(clock_now_ns() - begin_ns);

    assert_int_equal(m->count[MECHANICS_WAKE], 400);
    assert_int_equal(m->count[MECHANICS_WAKE_CPU], 40);
    assert_int_equal(m->count[MECHANICS_SLEEP_LATE], 300);
    assert_int_equal(m->count[MECHANICS_SLEEP_CPU], 300);
    assert_int_equal(m->count[MECHANICS_SWITCH], 200);
    uint32_t of_two = CPU_COUNT(&before) > 1 ? 1 : 0;
    assert_int_equal(m->count[MECHANICS_TCP], 300 * of_two);
    assert_int_equal(m->count[MECHANICS_RING], 200 * of_two);
    assert_int_equal(m->count[MECHANICS_POLL], 200 * of_two);

    /* 300 sleeps of 0.5 ms and 400 pauses of 0.3 ms, each as late as it was, and the wake-ups. */
    double late_ns = sum(m, MECHANICS_SLEEP_LATE);
    double handed_ns = 200 * (sum(m, MECHANICS_RING) + sum(m, MECHANICS_SWITCH));
    assert_true(late_ns > 0 && sum(m, MECHANICS_WAKE) > 0);
    assert_true(300 * 500e3 + late_ns + 400 * 300e3 + sum(m, MECHANICS_WAKE) +
                    sum(m, MECHANICS_TCP) + handed_ns <=
                wall_ns);
    /* A sample of a wake-up's CPU time is the mean of ten. */
    double woken_ns = 10 * sum(m, MECHANICS_WAKE_CPU);
    assert_true(woken_ns > 0 && sum(m, MECHANICS_SLEEP_CPU) > 0);
    assert_true(woken_ns + sum(m, MECHANICS_SLEEP_CPU) <= cpu_ns);
    (void)sum(m, MECHANICS_POLL);
    /* Most of a sleep is none of its CPU time. */
    assert_true(m->ns[MECHANICS_SLEEP_CPU][150] < 250e3);

    assert_int_equal(prctl(PR_GET_TIMERSLACK), SLACK_NS);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    assert_int_equal(entries("/proc/self/fd"), descriptors);
    /* The kernel lists a thread for a moment after it was joined. */
    for (int i = 0; i < 5000 && entries("/proc/self/task") != threads; i++) {
        clock_sleep_until_ns(clock_now_ns() + 1000000);
    }
    assert_int_equal(entries("/proc/self/task"), threads);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trials_are_part_of_the_time_they_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
