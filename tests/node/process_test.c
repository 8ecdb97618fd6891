/*
 * process_test.c - what every process of the serving system does first, and its lines to its
 * parent: in forked children with the ledger and the event pipe where the launcher puts them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/node/process.h"

enum {
    OUTPUT_BYTES = 16384,
    HIGH_FD = 20,
    GONE_MS = 8000, /* a hang, not a speed */
};

struct outcome {
    int status;
    char said[OUTPUT_BYTES]; /* all lines on the event pipe */
};

typedef int body(void *ctx);

static int with_ledger; /* descriptor of a ledger, or of something that is none */

static void be_child(body *run, void *ctx, int event_fd)
{
    int ledger = fcntl(with_ledger, F_DUPFD, HIGH_FD);
    int event = fcntl(event_fd, F_DUPFD, HIGH_FD);
    (void)dup2(ledger, LEDGER_FD);
    (void)dup2(event, EVENT_FD);
    (void)close(event);
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)dup2(quiet, STDERR_FILENO);
    _exit(run(ctx));
}

static void in_child(body *run, void *ctx, struct outcome *out)
{
    int events[2];
    assert_int_equal(pipe2(events, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(events[0]);
        be_child(run, ctx, events[1]);
    }
    assert_true(pid > 0);
    (void)close(events[1]);
    size_t bytes = 0;
    ssize_t got;
    while ((got = read(events[0], out->said + bytes, OUTPUT_BYTES - 1 - bytes)) > 0) {
        bytes += (size_t)got;
    }
    out->said[bytes] = '\0';
    (void)close(events[0]);
    assert_int_equal(waitpid(pid, &out->status, 0), pid);
}

static int open_ledger(void **state)
{
    static struct ledger ledger;
    struct topology t = {.api_servers_count = 1, .engines_count = 1, .tp = 1, .pp = 1};
    (void)state;
    assert_int_equal(ledger_create(&t, &ledger, NULL), STATUS_OK);
    with_ledger = ledger.fd;
    return 0;
}

/* ---- beginning ---- */

static int begin(void *ctx)
{
    char **arguments = ctx;
    int count = 0;
    while (arguments[count] != NULL) {
        count++;
    }
    struct process process;
    if (process_begin(count, arguments, "ApiServer_%d", &process) != STATUS_OK) {
        return 3;
    }
    char name[17] = "";
    (void)prctl(PR_GET_NAME, (unsigned long)(uintptr_t)name, 0UL, 0UL, 0UL);
    process_event("began %s %d %u", name, (int)process.index, process.topology->engines_count);
    return 0;
}

static void begin_with(const char *first, const char *second, struct outcome *out)
{
    char role[] = "api_server";
    char a[64];
    char b[64];
    (void)snprintf(a, sizeof a, "%s", first != NULL ? first : "");
    (void)snprintf(b, sizeof b, "%s", second != NULL ? second : "");
    char *arguments[] = {role, first != NULL ? a : NULL, second != NULL ? b : NULL, NULL};
    in_child(begin, arguments, out);
}

static void arguments_are_checked(void **state)
{
    (void)state;
    static struct outcome out;
    static const char *const wrong[][2] = {
        {"--index", NULL}, {"--index", "x"},          {"--index", "-1"},  {"--index", "7x"},
        {"--index", ""},   {"--index", "2147483648"}, {"--verbose", "1"}, {"--parent", "all"},
        {"--node", "1"}, /* the ledger's topology has one node only */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        begin_with(wrong[i][0], wrong[i][1], &out);
        assert_int_equal(WEXITSTATUS(out.status), 3);
        assert_int_equal(strncmp(out.said, "failed ", 7), 0);
        assert_ptr_equal(strchr(out.said, '\n'), out.said + strlen(out.said) - 1);
    }
    begin_with("--index", "7", &out);
    assert_int_equal(out.status, 0);
    assert_string_equal(out.said, "began ApiServer_7 7 1\n");
}

static void a_ledger_must_be_there(void **state)
{
    (void)state;
    static struct outcome out;
    int ledger = with_ledger;
    with_ledger = open("/dev/zero", O_RDWR | O_CLOEXEC);
    begin_with("--index", "0", &out);
    (void)close(with_ledger);
    with_ledger = ledger;
    assert_int_equal(WEXITSTATUS(out.status), 3);
    assert_int_equal(strncmp(out.said, "failed ", 7), 0);
}

/* The parent died before the child could ask to be told. */
static void a_stranger_as_parent_ends_the_process(void **state)
{
    (void)state;
    static struct outcome out;
    char pid[16];
    (void)snprintf(pid, sizeof pid, "%d", (int)getppid());
    begin_with("--parent", pid, &out);
    assert_int_equal(WEXITSTATUS(out.status), EXIT_FAILURE);
    assert_string_equal(out.said, "");
}

/* ---- lines ---- */

static int say_much(void *ctx)
{
    (void)ctx;
    static char text[PIPE_BUF * 2];
    memset(text, 'a', sizeof text - 1);
    process_event("two\nlines");
    process_event("%s", text);
    process_event("%s", "");
    return 0;
}

static void events_are_single_lines_of_bounded_length(void **state)
{
    (void)state;
    static struct outcome out;
    in_child(say_much, NULL, &out);
    const char *second = strchr(out.said, '\n') + 1;
    assert_int_equal(strncmp(out.said, "two lines\n", 10), 0);
    size_t bytes = strspn(second, "a");
    assert_true(bytes > 1000 && bytes < PIPE_BUF);
    assert_string_equal(second + bytes, "\n\n");
}

static int warn_often(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < 50; i++) {
        process_warning("number %d", i);
    }
    clock_sleep_until_ns(clock_now_ns() + 1100000000);
    process_warning("late");
    return 0;
}

/* A peer that sends nonsense as fast as it can must not fill the log. */
static void warnings_are_held_back(void **state)
{
    (void)state;
    static struct outcome out;
    in_child(warn_often, NULL, &out);
    assert_string_equal(out.said,
                        "warning number 0\nwarning late (and 49 more since the last warning)\n");
}

static int speak_to_nobody(void *ctx)
{
    (void)ctx;
    struct process process;
    char role[] = "worker";
    char *arguments[] = {role, NULL};
    int broken[2];
    if (process_begin(1, arguments, "worker", &process) != STATUS_OK || pipe(broken) != 0) {
        return 1;
    }
    (void)dup2(broken[1], EVENT_FD);
    (void)close(broken[0]);
    process_event("anyone?");
    return 0;
}

static void a_parent_that_hears_nothing_is_no_reason_to_die(void **state)
{
    (void)state;
    static struct outcome out;
    in_child(speak_to_nobody, NULL, &out);
    assert_int_equal(out.status, 0);
}

/* ---- death with the parent ---- */

static void a_process_dies_with_its_parent(void **state)
{
    (void)state;
    int life[2]; /* both ends of it are closed once both children are gone */
    char line[2];
    assert_int_equal(pipe(life), 0);
    pid_t parent = fork();
    if (parent == 0) {
        (void)close(life[0]);
        pid_t child = fork();
        if (child == 0) {
            struct process process;
            char role[] = "worker";
            char *arguments[] = {role, NULL};
            (void)dup2(with_ledger, HIGH_FD);
            (void)dup2(life[1], HIGH_FD + 1);
            (void)dup2(HIGH_FD, LEDGER_FD);
            (void)dup2(HIGH_FD + 1, EVENT_FD);
            (void)close(HIGH_FD + 1);
            if (process_begin(1, arguments, "worker", &process) == STATUS_OK) {
                process_event("x");
                (void)pause();
            }
            _exit(0);
        }
        (void)pause();
        _exit(0);
    }
    (void)close(life[1]);
    assert_int_equal(read(life[0], line, 2), 2); /* the grandchild is tied now */
    assert_memory_equal(line, "x\n", 2);
    assert_int_equal(kill(parent, SIGKILL), 0);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    struct pollfd end = {.fd = life[0], .events = POLLIN}; /* comes when the grandchild ends */
    assert_int_equal(poll(&end, 1, GONE_MS), 1);
    assert_int_equal(read(life[0], line, 2), 0);
    (void)close(life[0]);
}

/* ---- turns ---- */

static void busy_is_what_is_not_waiting(void **state)
{
    (void)state;
    struct ledger_thread t = {0};
    ledger_set(&t.started_ns, 1000000000);
    ledger_add(&t.idle_ns, 300000000);
    ledger_add(&t.sync_wait_ns, 50000000);
    process_turn(&t, 2000000000);
    assert_int_equal(ledger_get(&t.busy_ns), 650000000);
    assert_int_equal(ledger_get(&t.beat_ns), 2000000000);
    assert_int_equal(ledger_get(&t.turns_count), 1);
    ledger_add(&t.idle_ns, 5000000000); /* a clock edge: never below zero */
    process_turn(&t, 2000000001);
    assert_int_equal(ledger_get(&t.busy_ns), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(a_ledger_must_be_there),
        cmocka_unit_test(a_stranger_as_parent_ends_the_process),
        cmocka_unit_test(events_are_single_lines_of_bounded_length),
        cmocka_unit_test(warnings_are_held_back),
        cmocka_unit_test(a_parent_that_hears_nothing_is_no_reason_to_die),
        cmocka_unit_test(a_process_dies_with_its_parent),
        cmocka_unit_test(busy_is_what_is_not_waiting),
    };
    return cmocka_run_group_tests(tests, open_ledger, NULL);
}
