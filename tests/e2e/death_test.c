/*
 * death_test.c - whatever dies, everything ends: each kind of process is killed while answers are
 * streaming. The reason names it, every open request ends with an error or a lost connection and
 * none hangs, no process and no socket folder survives, and what the ledger held stays readable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/probe/probe.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    STREAMS = 6,
    WHOLES = 4, /* not streamed: they have got nothing when the end comes */
    OPEN = STREAMS + WHOLES,
    FIRST_NUMBER = 5000,
};

/* A step of this model takes 5 ms: its 2,000 tokens are not made before the death. */
static struct topology slow_topology(void)
{
    struct topology t = e2e_topology(2, 2);
    (void)snprintf(t.model, sizeof t.model, "llama-3.1-8b");
    t.max_model_len = 2048;
    return t;
}

static void open_requests(const struct system *s, struct link links[OPEN])
{
    for (int i = 0; i < OPEN; i++) {
        char headers[64];
        (void)snprintf(headers, sizeof headers, "X-Request-Id: %d\r\n", FIRST_NUMBER + i);
        char *text = http_request_text("/v1/completions", headers,
                                       i < STREAMS ? "{\"prompt\":\"long\",\"max_tokens\":2000,"
                                                     "\"ignore_eos\":true,\"stream\":true}"
                                                   : "{\"prompt\":\"long\",\"max_tokens\":2000,"
                                                     "\"ignore_eos\":true}");
        assert_true(link_open(&links[i], s->port));
        assert_true(link_text(&links[i], text));
        free(text);
    }
    for (int i = 0; i < STREAMS; i++) {
        assert_true(link_more(&links[i], HANG_MS)); /* tokens flow */
    }
}

static bool failed(void *ctx)
{
    return system_failed(ctx);
}

/* How the requests ended: those whose API server lived must have been told. */
static void assert_ended(struct link links[OPEN], bool told)
{
    for (int i = 0; i < OPEN; i++) {
        assert_true(link_drain(&links[i], GONE_MS));
        struct answer a = link_answer(&links[i]);
        struct completion c;
        completion_read(&a, &c);
        assert_string_equal(c.finish, "");
        if (told) { /* 500: its engine core died; 503: the others end because of a death */
            assert_int_equal(c.status, i < STREAMS ? 200 : c.error_code);
            assert_true(c.error_code == 500 || c.error_code == 503);
            assert_string_not_equal(c.error, "");
            assert_false(c.malformed);
        }
        answer_free(&a);
        link_close(&links[i]);
    }
}

static void assert_ledger_readable(const struct system *s)
{
    struct probe_requests seen;
    assert_int_equal(probe_requests_read(&s->ledger, &seen, NULL), STATUS_OK);
    assert_int_equal(seen.begun_count, OPEN);
    for (uint64_t i = 0; i < STREAMS; i++) {
        const struct probe_request *r = probe_requests_find(&seen, FIRST_NUMBER + i);
        assert_non_null(r);
        assert_true(r->output_tokens > 0 && r->output_tokens < 2000);
        assert_int_not_equal(r->hop_ns[HOP_API_FIRST_WRITE], 0);
    }
    probe_requests_free(&seen);
}

/* `told`: the API servers outlive the victim and can say what happened. */
static void kill_and_check(enum ledger_thread_kind kind, uint32_t instance, const char *name,
                           bool told)
{
    struct topology t = slow_topology();
    struct system system;
    struct link links[OPEN];
    char victim[64];
    e2e_start(&t, &system);
    struct remains remains = remains_of(&system);
    struct ledger_thread *thread = e2e_thread(&system, kind, instance, 0);
    assert_non_null(thread);
    open_requests(&system, links);
    int64_t begin_ns = clock_now_ns();
    assert_int_equal(kill(thread->pid, SIGKILL), 0);
    assert_true(e2e_wait(failed, &system, GONE_MS));
    assert_ended(links, told);
    remains_assert_none(&remains); /* before any help of system_stop() */
    assert_true(clock_now_ns() - begin_ns < (int64_t)GONE_MS * 1000000);
    (void)snprintf(victim, sizeof victim, "%s (pid %d", name, (int)thread->pid);
    if (strstr(system.reason, victim) == NULL || strstr(system.reason, "signal 9") == NULL) {
        fail_msg("'%s' does not name '%s' and signal 9", system.reason, victim);
    }
    system_stop(&system);
    assert_ledger_readable(&system);
    system_free(&system);
    assert_false(remains_folder(&remains));
    e2e_assert_no_children();
}

static void an_api_server_dies(void **state)
{
    (void)state;
    kill_and_check(THREAD_API_MAIN, 1, "ApiServer_1", false);
}

static void an_engine_core_dies(void **state)
{
    (void)state;
    kill_and_check(THREAD_ENGINE_MAIN, 0, "EngineCore_DP0", true);
}

static void a_worker_dies(void **state)
{
    (void)state;
    kill_and_check(THREAD_WORKER_MAIN, 1, "Worker_DP1_0", true);
}

static void the_coordinator_dies(void **state)
{
    (void)state;
    kill_and_check(THREAD_COORDINATOR_MAIN, 0, "DPCoordinator", true);
}

static void the_launcher_dies(void **state)
{
    (void)state;
    kill_and_check(THREAD_LAUNCHER_MAIN, 0, "launcher", false);
}

/* A stop while answers stream is no failure, and the clients are told. */
static void a_stop_ends_open_requests(void **state)
{
    (void)state;
    struct topology t = slow_topology();
    struct system system;
    struct link links[OPEN];
    e2e_start(&t, &system);
    open_requests(&system, links);
    assert_false(system_failed(&system));
    struct remains remains = remains_of(&system);
    system_stop(&system);
    assert_false(system.failed);
    assert_ended(links, true);
    system_free(&system);
    remains_assert_none(&remains);
    assert_false(remains_folder(&remains));
    e2e_assert_no_children();
}

/* ---- the harness itself dies ---- */

/* A process that starts a system, says what it is, and waits to be killed. */
static pid_t start_harness(struct remains *remains)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t test = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
        if (getppid() != test) {
            _exit(1);
        }
        struct topology t = slow_topology();
        struct system_options options = {
            .topology = t, .log_fd = -1, .start_timeout_ns = (int64_t)60 * 1000000000};
        static struct system system;
        if (system_start(&options, &system, NULL) != STATUS_OK) {
            _exit(1);
        }
        struct remains r = remains_of(&system);
        if (write(pipe_fds[1], &r, sizeof r) != (ssize_t)sizeof r) {
            _exit(1);
        }
        for (;;) {
            (void)pause();
        }
    }
    assert_true(pid > 0);
    (void)close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], remains, sizeof *remains), sizeof *remains);
    (void)close(pipe_fds[0]);
    return pid;
}

static bool folder_gone(void *ctx)
{
    return !remains_folder(ctx);
}

static void the_harness_dies(void **state)
{
    (void)state;
    struct remains remains;
    pid_t pid = start_harness(&remains);
    assert_int_equal(remains_processes(&remains), 1 + 2 + 2 + 2 + 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    remains_assert_none(&remains);
    assert_true(e2e_wait(folder_gone, &remains, GONE_MS));
}

static pid_t find_launcher(pid_t harness)
{
    char path[64];
    long pid = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)harness, (int)harness);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld", &pid), 1);
    (void)fclose(file);
    return (pid_t)pid;
}

/* Both at once: nobody is left to remove the folder, so the next system that starts does. */
static void harness_and_launcher_die(void **state)
{
    (void)state;
    struct remains remains;
    struct system next;
    pid_t pid = start_harness(&remains);
    pid_t launcher = find_launcher(pid);
    assert_int_equal(kill(launcher, SIGSTOP), 0); /* else it may see the other's death first */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(kill(launcher, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    remains_assert_none(&remains);
    assert_true(remains_folder(&remains));
    struct topology t = e2e_topology(1, 1);
    e2e_start(&t, &next);
    assert_false(remains_folder(&remains));
    e2e_stop(&next);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_api_server_dies), cmocka_unit_test(an_engine_core_dies),
        cmocka_unit_test(a_worker_dies),      cmocka_unit_test(the_coordinator_dies),
        cmocka_unit_test(the_launcher_dies),  cmocka_unit_test(a_stop_ends_open_requests),
        cmocka_unit_test(the_harness_dies),   cmocka_unit_test(harness_and_launcher_die),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
