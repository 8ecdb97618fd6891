/*
 * /proc reading against processes that the test starts itself, with known names, parents, threads
 * and CPU use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/probe/proc.h"
#include "harness/probe/proc_file.h"

static void stat_lines_are_parsed(void **state)
{
    (void)state;
    struct proc_stat s;
    assert_true(
        proc_stat_parse("15825 (a) b (c) R 15820 15820 4967 0 -1 4194304 100 0 0 0 71 29 0 0 20 0 "
                        "1 0 239451 3133440 390 18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 "
                        "17 5 0 0 0 0 0 1 2 3 4 5 6 7 0",
                        &s));
    assert_string_equal(s.comm, "a) b (c");
    assert_int_equal(s.state, 'R');
    assert_int_equal(s.parent_pid, 15820);
    assert_int_equal(s.user_ticks, 71);
    assert_int_equal(s.system_ticks, 29);
    assert_int_equal(s.last_cpu, 5);
    static const char *const BAD[] = {
        "",
        "1",
        "1 (",
        "1 (a",
        "1 )a(",
        "1 (a)",
        "1 (a) ",
        "1 (a) R",
        "1 (a) R 1 2 3",
        "1 (a) R -1 15820 4967 0 -1 4194304 100 0 0 0 71 29 0 0 20 0 1 0 2 3 3 1 1 2 3 0 0 0 0 0 0 "
        "0 0 0 17 5",
        "1 (a) R 9999999999 15820 4967 0 -1 4194304 100 0 0 0 71 29 0 0 20 0 1 0 2 3 3 1 1 2 3 0 0 "
        "0 0 0 0 0 0 "
        "0 17 5",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_false(proc_stat_parse(BAD[i], &s));
    }
    /* A name longer than any that the kernel gives is cut, not followed. */
    char text[256] = "1 (";
    memset(text + 3, 'x', 100);
    (void)strcpy(text + 103, ") R 1 2 3");
    assert_false(proc_stat_parse(text, &s));
}

static void values_of_a_file_are_found(void **state)
{
    (void)state;
    char value[16];
    static const char TEXT[] =
        "MemTotalX: 1 kB\nMemTotal:   123 kB\nmodel name\t: A very long name indeed\n";
    assert_true(proc_file_value(TEXT, "MemTotal", value, sizeof value));
    assert_string_equal(value, "123 kB");
    assert_true(proc_file_value(TEXT, "model name", value, sizeof value));
    assert_string_equal(value, "A very long nam");
    assert_false(proc_file_value(TEXT, "Mem", value, sizeof value));
    assert_false(proc_file_value("", "Mem", value, sizeof value));
    assert_int_equal(
        proc_file_count("se.nr_migrations   :        12\nnr_switches : 9\n", "se.nr_migrations"),
        12);
    assert_int_equal(proc_file_count("voluntary_ctxt_switches:\t40\n"
                                     "nonvoluntary_ctxt_switches:\t3\n",
                                     "nonvoluntary_ctxt_switches"),
                     3);
    assert_int_equal(proc_file_count("a: -1\nb: 1.5\nc: 7 kB\nd:\ne: 0\n", "a"), -1);
    assert_int_equal(proc_file_count("a: -1\nb: 1.5\nc: 7 kB\nd:\ne: 0\n", "b"), -1);
    assert_int_equal(proc_file_count("a: -1\nb: 1.5\nc: 7 kB\nd:\ne: 0\n", "d"), -1);
    assert_int_equal(proc_file_count("a: -1\nb: 1.5\nc: 7 kB\nd:\ne: 0\n", "e"), 0);
    assert_int_equal(proc_file_count("", "a"), -1);
    assert_false(proc_file_read("/proc/no/such/file", value, sizeof value));
}

static void name_self(const char *name)
{
    (void)prctl(PR_SET_NAME, (unsigned long)(uintptr_t)name, 0UL, 0UL, 0UL);
}

static void *named_thread(void *name)
{
    name_self(name);
    (void)pause();
    return NULL;
}

static void *unnamed_thread(void *argument)
{
    (void)pause();
    return argument;
}

static char input_name[] = "engine_input";
static char output_name[] = "engine_output";

static _Noreturn void play_engine_core(void)
{
    name_self("EngineCore_DP0");
    pthread_t thread;
    (void)pthread_create(&thread, NULL, named_thread, input_name);
    (void)pthread_create(&thread, NULL, named_thread, output_name);
    (void)pthread_create(&thread, NULL, unnamed_thread, NULL);
    for (;;) {
        (void)pause();
    }
}

static pid_t start(const char *name)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
        name_self(name);
        for (;;) {
            (void)pause();
        }
    }
    return pid;
}

/* A launcher with one API server and one engine core, as processes that only wait. */
static pid_t start_system(void)
{
    pid_t launcher = fork();
    if (launcher == 0) {
        name_self("launcher");
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
        (void)start("ApiServer_0");
        pid_t engine = fork();
        if (engine == 0) {
            (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
            play_engine_core();
        }
        for (;;) {
            (void)pause();
        }
    }
    return launcher;
}

/* Reads the tree until it has that many threads that a kind is known of; fails after 10 s. */
static struct proc_tree wait_for_threads(pid_t root, size_t wanted)
{
    int64_t deadline_ns = clock_now_ns() + 10000000000;
    for (;;) {
        struct proc_tree tree;
        assert_int_equal(proc_tree_read(root, &tree, NULL), STATUS_OK);
        size_t known = 0;
        for (size_t i = 0; i < tree.threads_count; i++) {
            known += proc_thread_kind(&tree.threads[i]) < THREAD_KINDS_COUNT;
        }
        if (known == wanted && tree.threads_count == wanted + 1) {
            return tree;
        }
        proc_tree_free(&tree);
        assert_true(clock_now_ns() < deadline_ns);
        clock_sleep_until_ns(clock_now_ns() + 5000000);
    }
}

/* A copy of the row of `kind`, which must be there. */
static struct proc_thread_row row_of(const struct proc_thread_row rows[PROC_THREAD_ROWS],
                                     const char *kind)
{
    size_t i = 0;
    while (i < PROC_THREAD_ROWS && strcmp(rows[i].kind, kind) != 0) {
        i++;
    }
    assert_true(i < PROC_THREAD_ROWS);
    return rows[i < PROC_THREAD_ROWS ? i : 0];
}

static void claim_system(struct ledger *l)
{
    (void)ledger_thread_claim(l, THREAD_LAUNCHER_MAIN, 0, 0);
    (void)ledger_thread_claim(l, THREAD_API_MAIN, 0, 0);
    struct ledger_thread *engine = ledger_thread_claim(l, THREAD_ENGINE_MAIN, 0, 0);
    ledger_add(&engine->launches_count[LAUNCH_CLASS_GRAPH], 1);
    (void)ledger_thread_claim(l, THREAD_ENGINE_INPUT, 0, 0);
    (void)ledger_thread_claim(l, THREAD_ENGINE_OUTPUT, 0, 0);
}

/* The slot that has launched becomes that of the model system's engine core. */
static void name_launching_thread(struct ledger *l, const struct proc_tree *tree)
{
    for (size_t i = 0; i < tree->threads_count; i++) {
        if (proc_thread_kind(&tree->threads[i]) == THREAD_ENGINE_MAIN) {
            l->threads[2].pid = tree->threads[i].pid;
            l->threads[2].tid = tree->threads[i].tid;
        }
    }
}

static void three_counts_stand_side_by_side(void **state)
{
    (void)state;
    struct topology t = {.api_servers_count = 1, .engines_count = 1, .tp = 1, .pp = 1};
    struct ledger l;
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    claim_system(&l);
    struct probe_snapshot snapshot;
    pid_t root = start_system();
    struct proc_tree tree = wait_for_threads(root, 5);
    name_launching_thread(&l, &tree);
    assert_int_equal(probe_snapshot(&l, &snapshot, NULL), STATUS_OK);
    assert_int_equal(tree.processes_count, 3);
    assert_int_equal(tree.processes[0].pid, root);
    assert_string_equal(tree.processes[0].comm, "launcher");
    struct proc_thread_row rows[PROC_THREAD_ROWS];
    proc_thread_rows(&t, &snapshot, &tree, rows);
    static const char *const KINDS[] = {"launcher", "api_server", "engine_core", "engine_input",
                                        "engine_output"};
    for (size_t i = 0; i < 5; i++) {
        const struct proc_thread_row row = row_of(rows, KINDS[i]);
        assert_int_equal(row.expected_count, 1);
        assert_int_equal(row.counted_ledger, 1);
        assert_int_equal(row.counted_proc, 1);
    }
    assert_int_equal(row_of(rows, "processes").expected_count, 3);
    assert_int_equal(row_of(rows, "processes").counted_proc, 3);
    assert_int_equal(row_of(rows, "launching").expected_count, 1);
    assert_int_equal(row_of(rows, "launching").counted_ledger, 1);
    assert_int_equal(row_of(rows, "launching").counted_proc, 1);
    assert_int_equal(row_of(rows, "library").counted_proc,
                     1); /* the thread without a name of its own */
    assert_int_equal(row_of(rows, "worker").counted_proc, 0);
    assert_true(proc_thread_rows_agree(rows));
    /* A thread that the ledger has and /proc has not. */
    snapshot.threads[2].tid = 0;
    proc_thread_rows(&t, &snapshot, &tree, rows);
    assert_int_equal(row_of(rows, "launching").counted_proc, 0);
    assert_false(proc_thread_rows_agree(rows));
    snapshot.threads[2].tid = l.threads[2].tid;
    /* One more API server expected than there is: that must show. */
    t.api_servers_count = 2;
    proc_thread_rows(&t, &snapshot, &tree, rows);
    assert_false(proc_thread_rows_agree(rows));
    proc_tree_free(&tree);
    (void)kill(root, SIGKILL);
    assert_int_equal(waitpid(root, NULL, 0), root);
    struct error error;
    assert_int_equal(proc_tree_read(root, &tree, &error), STATUS_NOT_FOUND);
    probe_snapshot_free(&snapshot);
    ledger_close(&l);
}

static void expected_threads_follow_the_shape(void **state)
{
    (void)state;
    struct topology t = {
        .api_servers_count = 4, .engines_count = 8, .tp = 2, .pp = 1, .async_depth = 2};
    static const uint32_t WANT[THREAD_KINDS_COUNT] = {
        [THREAD_LAUNCHER_MAIN] = 1, [THREAD_API_MAIN] = 4,      [THREAD_COORDINATOR_MAIN] = 1,
        [THREAD_ENGINE_MAIN] = 8,   [THREAD_ENGINE_INPUT] = 8,  [THREAD_ENGINE_OUTPUT] = 8,
        [THREAD_WORKER_MAIN] = 16,  [THREAD_WORKER_OUTPUT] = 16};
    uint32_t mains = 0;
    for (int k = 0; k < THREAD_KINDS_COUNT; k++) {
        assert_int_equal(proc_expected_threads(&t, (enum ledger_thread_kind)k), WANT[k]);
    }
    mains = WANT[THREAD_LAUNCHER_MAIN] + WANT[THREAD_API_MAIN] + WANT[THREAD_COORDINATOR_MAIN] +
            WANT[THREAD_ENGINE_MAIN] + WANT[THREAD_WORKER_MAIN];
    assert_int_equal(mains, topology_processes(&t));
    t.async_depth = 1;
    assert_int_equal(proc_expected_threads(&t, THREAD_WORKER_OUTPUT), 0);
}

/* A process that goes to sleep 50 times more between two readings. */
static void sleeps_are_counted_by_the_kernel(void **state)
{
    enum {
        SLEEPS = 50
    };
    int go[2];
    int done[2];
    char byte = 0;
    (void)state;
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(done), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
        (void)!read(go[0], &byte, 1);
        for (int i = 0; i < SLEEPS; i++) {
            clock_sleep_until_ns(clock_now_ns() + 1000000);
        }
        (void)!write(done[1], &byte, 1);
        (void)pause();
        _exit(0);
    }
    struct proc_tree a;
    struct proc_tree b;
    assert_int_equal(proc_tree_read(child, &a, NULL), STATUS_OK);
    assert_int_equal(write(go[1], &byte, 1), 1);
    assert_int_equal(read(done[0], &byte, 1), 1);
    assert_int_equal(proc_tree_read(child, &b, NULL), STATUS_OK);
    assert_int_equal(b.threads_count, 1);
    char text[8192];
    assert_true(proc_file_read("/proc/self/status", text, sizeof text));
    if (strstr(text, "\nvoluntary_ctxt_switches:") !=
        NULL) { /* it waits in read() and pause(), too */
        assert_in_range(b.threads[0].voluntary_count - a.threads[0].voluntary_count, SLEEPS,
                        SLEEPS + 5);
        assert_true(b.threads[0].involuntary_count >= a.threads[0].involuntary_count);
    }
    assert_true(b.threads[0].migrations_count >= a.threads[0].migrations_count);
    proc_tree_free(&a);
    proc_tree_free(&b);
    (void)kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    for (int i = 0; i < 2; i++) {
        (void)close(go[i]);
        (void)close(done[i]);
    }
}

static void cpu_time_is_seen_where_it_is_burnt(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
        for (volatile uint64_t i = 0;; i = i + 1) {
        }
    }
    struct proc_tree a;
    struct proc_tree b;
    struct proc_cpu host_a;
    struct proc_cpu host_b;
    assert_int_equal(proc_cpu_read(&host_a, NULL), STATUS_OK);
    assert_int_equal(proc_tree_read(child, &a, NULL), STATUS_OK);
    int64_t deadline_ns = clock_now_ns() + 20000000000;
    double burnt_s = 0.0;
    do {
        clock_sleep_until_ns(clock_now_ns() + 100000000);
        assert_int_equal(proc_tree_read(child, &b, NULL), STATUS_OK);
        burnt_s = proc_tree_cores_used(&a, &b) * (double)(b.at_ns - a.at_ns) / 1e9;
        proc_tree_free(&b);
        assert_true(clock_now_ns() < deadline_ns);
    } while (burnt_s < 0.2);
    assert_int_equal(proc_tree_read(child, &b, NULL), STATUS_OK);
    double cores = proc_tree_cores_used(&a, &b);
    assert_true(cores > 0.0 && cores < 1.05);
    assert_int_equal(b.threads_count, 1);
    assert_true(b.threads[0].cpu_ns >= a.threads[0].cpu_ns + 150000000);
    assert_int_equal(proc_cpu_read(&host_b, NULL), STATUS_OK);
    assert_true(host_b.busy_ns >=
                host_a.busy_ns + 150000000); /* the child's part at least, in ticks */
    proc_tree_free(&a);
    proc_tree_free(&b);
    (void)kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void others_are_what_is_not_own(void **state)
{
    (void)state;
    struct proc_cpu a = {.at_ns = 0, .busy_ns = 1000000000};
    struct proc_cpu b = {.at_ns = 2000000000, .busy_ns = 4000000000};
    /* 1.5 cores busy, 1.0 of them our own, on 2 cores. */
    assert_true(fabs(proc_others_frac(&a, &b, 1.0, 2) - 0.25) < 1e-12);
    assert_true(fabs(proc_others_frac(&a, &b, 1.7, 2)) < 1e-12);
    assert_true(isnan(proc_others_frac(&b, &b, 0.0, 2)));
}

static void the_host_has_a_name_and_cores(void **state)
{
    (void)state;
    struct proc_host h;
    assert_int_equal(proc_host_read(&h, NULL), STATUS_OK);
    assert_int_equal(h.cores_count, sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(h.usable_cores > 0.0 && h.usable_cores <= h.cores_count);
    assert_true(strlen(h.kernel) > 0 && strlen(h.cpu_model) > 0 && strlen(h.hostname) > 0);
    assert_true(h.memory_bytes > h.memory_available_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stat_lines_are_parsed),
        cmocka_unit_test(values_of_a_file_are_found),
        cmocka_unit_test(three_counts_stand_side_by_side),
        cmocka_unit_test(expected_threads_follow_the_shape),
        cmocka_unit_test(cpu_time_is_seen_where_it_is_burnt),
        cmocka_unit_test(sleeps_are_counted_by_the_kernel),
        cmocka_unit_test(others_are_what_is_not_own),
        cmocka_unit_test(the_host_has_a_name_and_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
