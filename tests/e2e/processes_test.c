/*
 * processes_test.c - every configuration has exactly the processes and threads that the documented
 * formulas name, counted from /proc and from the ledger, under the documented names; and when it
 * ends nothing of it is left.
 *
 * The formulas are written out here once more, from the documentation and not from topology.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/probe/proc.h"
#include "helper_http.h"
#include "helper_system.h"

struct shape {
    uint32_t a;
    uint32_t d;
    uint32_t tp;
    uint32_t pp;
    enum executor_kind executor;
    uint32_t async_depth;
    bool lockstep;
};

static uint32_t launching_of(const struct shape *s)
{
    return s->d * s->tp * s->pp;
}

static uint32_t workers_of(const struct shape *s)
{
    uint32_t workers = s->tp * s->pp;
    bool own_thread = workers == 1 && (s->executor == EXECUTOR_UNIPROC ||
                                       (s->executor == EXECUTOR_AUTO && s->d == 1));
    return own_thread ? 0 : workers;
}

static uint32_t processes_of(const struct shape *s)
{
    return 1 + s->a + s->d + s->d * workers_of(s) + (s->d > 1 ? 1 : 0);
}

/* Every rank must have launched before launching threads can be counted. In lock-step one request
 * makes all of them launch. */
static void use_every_rank(const struct system *s, uint32_t ranks)
{
    for (uint32_t rank = 0; rank < ranks; rank++) {
        char header[64];
        (void)snprintf(header, sizeof header, "X-data-parallel-rank: %u\r\n", rank);
        struct answer a = http_post_with(s->port, "/v1/completions", header,
                                         "{\"prompt\":\"p\",\"max_tokens\":3}");
        assert_int_equal(a.status, 200);
        answer_free(&a);
    }
}

static uint32_t named(const struct proc_tree *tree, const char *name)
{
    uint32_t count = 0;
    for (size_t i = 0; i < tree->processes_count; i++) {
        count += strcmp(tree->processes[i].comm, name) == 0 ? 1 : 0;
    }
    return count;
}

static void assert_names(const struct proc_tree *tree, const struct shape *s)
{
    char name[PROC_COMM_BYTES * 2];
    assert_int_equal(named(tree, "launcher"), 1);
    assert_int_equal(named(tree, "DPCoordinator"), s->d > 1 ? 1 : 0);
    for (uint32_t i = 0; i < s->a; i++) {
        (void)snprintf(name, sizeof name, "ApiServer_%u", i);
        assert_int_equal(named(tree, name), 1);
    }
    for (uint32_t rank = 0; rank < s->d; rank++) {
        (void)snprintf(name, sizeof name, "EngineCore_DP%u", rank);
        assert_int_equal(named(tree, name), 1);
        for (uint32_t w = 0; w < workers_of(s); w++) {
            (void)snprintf(name, sizeof name, "Worker_DP%u_%u", rank, w);
            assert_int_equal(named(tree, name), 1);
        }
    }
}

static void assert_row(const struct proc_thread_row rows[PROC_THREAD_ROWS], const char *kind,
                       int64_t expected, bool in_ledger, bool in_proc)
{
    for (int i = 0; i < PROC_THREAD_ROWS; i++) {
        if (strcmp(rows[i].kind, kind) == 0) {
            assert_int_equal(rows[i].expected_count, expected);
            assert_int_equal(rows[i].counted_ledger, in_ledger ? expected : -1);
            assert_int_equal(rows[i].counted_proc, in_proc ? expected : -1);
            return;
        }
    }
    fail_msg("no row '%s'", kind);
}

/* A worker whose output nobody reads may launch its first step after the client has the last token:
 * looks again until the rows agree, for 20 s at most. */
static void read_rows(const struct system *system, struct proc_tree *tree,
                      struct probe_snapshot *ledger, struct proc_thread_row *rows)
{
    for (int tries = 0; tries < 400; tries++) {
        assert_int_equal(proc_tree_read(system->launchers[0].pid, tree, NULL), STATUS_OK);
        assert_int_equal(probe_snapshot(&system->ledger, ledger, NULL), STATUS_OK);
        proc_thread_rows(system->ledger.topology, ledger, tree, rows);
        if (proc_thread_rows_agree(rows)) {
            return;
        }
        proc_tree_free(tree);
        probe_snapshot_free(ledger);
        e2e_sleep_ms(50);
    }
    for (int i = 0; i < PROC_THREAD_ROWS; i++) {
        print_error("%s: expected %lld, ledger %lld, /proc %lld\n", rows[i].kind,
                    (long long)rows[i].expected_count, (long long)rows[i].counted_ledger,
                    (long long)rows[i].counted_proc);
    }
    fail_msg("the rows of threads.csv do not agree");
}

static void assert_counts(const struct system *system, const struct shape *s)
{
    struct proc_tree tree;
    struct probe_snapshot ledger;
    struct proc_thread_row rows[PROC_THREAD_ROWS];
    int64_t workers = s->d * workers_of(s);
    read_rows(system, &tree, &ledger, rows);
    assert_int_equal(tree.processes_count, processes_of(s));
    assert_names(&tree, s);
    assert_row(rows, "processes", processes_of(s), false, true);
    assert_row(rows, "launching", launching_of(s), true, true);
    assert_row(rows, "launcher", 1, true, true);
    assert_row(rows, "api_server", s->a, true, true);
    assert_row(rows, "coordinator", s->d > 1 ? 1 : 0, true, true);
    assert_row(rows, "engine_core", s->d, true, true);
    assert_row(rows, "engine_input", s->d, true, true);
    assert_row(rows, "engine_output", s->d, true, true);
    assert_row(rows, "worker", workers, true, true);
    assert_row(rows, "worker_output", s->async_depth > 1 ? workers : 0, true, true);
    proc_tree_free(&tree);
    probe_snapshot_free(&ledger);
}

static uint64_t launches_of(const struct ledger_thread *t)
{
    return ledger_get(&t->launches_count[LAUNCH_CLASS_KERNEL]) +
           ledger_get(&t->launches_count[LAUNCH_CLASS_GRAPH]) +
           ledger_get(&t->launches_count[LAUNCH_CLASS_COPY]);
}

/* The parts of a launching thread's time are its life up to its last turn. False between the
 * writing of two of them. */
static bool parts_add_up(void *ctx)
{
    const struct ledger_thread *t = ctx;
    uint64_t parts_ns = ledger_get(&t->prepare_ns) + ledger_get(&t->queue_full_ns) +
                        ledger_get(&t->sync_wait_ns) + ledger_get(&t->idle_ns);
    for (int c = 0; c < LAUNCH_CLASSES_COUNT; c++) {
        parts_ns += ledger_get(&t->launch_ns[c]);
    }
    return parts_ns == ledger_get(&t->beat_ns) - ledger_get(&t->started_ns);
}

/* Exactly the workers' main threads launch, or the engine cores' where there are no workers. */
static void assert_launching_threads(const struct system *system, const struct shape *s)
{
    enum ledger_thread_kind kind = workers_of(s) > 0 ? THREAD_WORKER_MAIN : THREAD_ENGINE_MAIN;
    uint32_t launching = 0;
    for (uint32_t i = 0; i < ledger_threads_count(&system->ledger); i++) {
        struct ledger_thread *t = &system->ledger.threads[i];
        if (t->kind == (uint32_t)kind) {
            assert_true(launches_of(t) > 0);
            assert_true(e2e_wait(parts_add_up, t, HANG_MS));
            launching++;
        } else {
            assert_int_equal(launches_of(t), 0);
        }
    }
    assert_int_equal(launching, launching_of(s));
}

static void run_shape(const struct shape *s)
{
    struct system system;
    struct topology t = e2e_topology(s->a, s->d);
    t.tp = s->tp;
    t.pp = s->pp;
    t.executor = (uint32_t)s->executor;
    t.async_depth = s->async_depth;
    t.lockstep = s->lockstep ? 1 : 0;
    e2e_start(&t, &system);
    assert_int_equal(topology_processes(system.ledger.topology), processes_of(s));
    use_every_rank(&system, s->lockstep ? 1 : s->d);
    assert_counts(&system, s);
    assert_launching_threads(&system, s);
    assert_int_equal(strncmp(system.socket_dir, getenv("TMPDIR"), strlen(getenv("TMPDIR"))), 0);
    assert_false(system_failed(&system));
    e2e_stop(&system);
}

static void counts_follow_the_formulas(void **state)
{
    (void)state;
    for (uint32_t cell = 0; cell < 3 * 3 * 2; cell++) {
        struct shape s = {.a = 1U << cell % 3,
                          .d = 1U << cell / 3 % 3,
                          .tp = 1 + cell / 9,
                          .pp = 1,
                          .executor = EXECUTOR_AUTO,
                          .async_depth = 2};
        run_shape(&s);
    }
}

static void other_settings_follow_them_too(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {.a = 1, .d = 1, .tp = 1, .pp = 2, .async_depth = 2},
        {.a = 1, .d = 1, .tp = 2, .pp = 2, .async_depth = 2},
        {.a = 1, .d = 2, .tp = 2, .pp = 2, .async_depth = 1},
        {.a = 1, .d = 2, .tp = 2, .pp = 1, .async_depth = 1},
        {.a = 1, .d = 1, .tp = 1, .pp = 1, .executor = EXECUTOR_MULTIPROC, .async_depth = 2},
        {.a = 2, .d = 2, .tp = 1, .pp = 1, .executor = EXECUTOR_UNIPROC, .async_depth = 2},
        {.a = 1, .d = 2, .tp = 1, .pp = 1, .async_depth = 2, .lockstep = true},
        {.a = 1, .d = 2, .tp = 2, .pp = 2, .async_depth = 2, .lockstep = true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        run_shape(&shapes[i]);
    }
}

static void the_accept_queue_may_be_shared(void **state)
{
    (void)state;
    struct system system;
    struct topology t = e2e_topology(2, 1);
    t.accept = ACCEPT_SHARED;
    e2e_start(&t, &system);
    for (int i = 0; i < 10; i++) {
        struct completion c;
        completion_post(system.port, "/v1/completions", "{\"prompt\":\"p\",\"max_tokens\":2}", &c);
        assert_int_equal(c.status, 200);
    }
    e2e_stop(&system);
}

/* The reason names what is wrong, and nothing is left of a system that did not come up. */
static void a_failed_start_leaves_nothing(void **state)
{
    (void)state;
    struct system first;
    struct system second;
    struct error error = {.text = ""};
    struct topology t = e2e_topology(1, 2);
    e2e_start(&t, &first);
    t.listen_port = first.port;
    struct system_options options = {
        .topology = t, .log_fd = -1, .start_timeout_ns = (int64_t)60 * 1000000000};
    assert_int_equal(system_start(&options, &second, &error), STATUS_DIED);
    char port[16];
    (void)snprintf(port, sizeof port, ":%u", first.port);
    assert_non_null(strstr(error.text, port));
    assert_non_null(strstr(error.text, "in use"));
    options.topology = e2e_topology(1, 1);
    (void)snprintf(options.topology.host.name, sizeof options.topology.host.name, "abacus");
    assert_int_equal(system_start(&options, &second, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "abacus"));
    options.topology = e2e_topology(1, 1);
    (void)snprintf(options.topology.model, sizeof options.topology.model, "abacus-1b");
    assert_int_not_equal(system_start(&options, &second, &error), STATUS_OK);
    assert_non_null(strstr(error.text, "abacus-1b"));
    use_every_rank(&first, 2);
    e2e_stop(&first);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_follow_the_formulas),
        cmocka_unit_test(other_settings_follow_them_too),
        cmocka_unit_test(the_accept_queue_may_be_shared),
        cmocka_unit_test(a_failed_start_leaves_nothing),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
