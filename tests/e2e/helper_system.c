/*
 * helper_system.c - see helper_system.h. Serves only the tests of this folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "helper_system.h"

enum {
    POLL_MS = 5,
    PATH_BYTES = 320
};

static char folder[32];

void e2e_begin(void)
{
    (void)strcpy(folder, "/tmp/e2e-XXXXXX");
    if (mkdtemp(folder) == NULL || setenv("TMPDIR", folder, 1) != 0) {
        perror(folder);
        exit(EXIT_FAILURE);
    }
    (void)signal(SIGPIPE, SIG_IGN);
}

/* The thread sanitizer makes a file there when a process begins and removes it at once, unless the
 * process is killed in between. */
static void remove_sanitizer_files(void)
{
    glob_t found;
    char pattern[PATH_BYTES];
    (void)snprintf(pattern, sizeof pattern, "%s/tsan.rodata.*", folder);
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            (void)unlink(found.gl_pathv[i]);
        }
        globfree(&found);
    }
}

int e2e_end(int failures)
{
    remove_sanitizer_files();
    if (rmdir(folder) != 0) {
        (void)fprintf(stderr, "%s: %s\n", folder, strerror(errno));
        return EXIT_FAILURE;
    }
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

bool e2e_full(void)
{
    const char *full = getenv("HARNESS_TEST_FULL");
    return full != NULL && strcmp(full, "1") == 0;
}

void e2e_sleep_ms(int64_t ms)
{
    clock_sleep_until_ns(clock_now_ns() + ms * 1000000);
}

bool e2e_wait(bool (*met)(void *ctx), void *ctx, int64_t limit_ms)
{
    int64_t deadline = clock_now_ns() + limit_ms * 1000000;
    while (!met(ctx)) {
        if (clock_now_ns() > deadline) {
            return false;
        }
        e2e_sleep_ms(POLL_MS);
    }
    return true;
}

uint32_t e2e_free_port(void)
{
    enum {
        FIRST = 20000,
        COUNT = 9000 /* below those that the kernel gives away */
    };
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t port = FIRST + ((uint32_t)getpid() + i) % COUNT;
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        int rc = bind(fd, (const struct sockaddr *)&address, sizeof address);
        (void)close(fd);
        if (rc == 0) {
            return port;
        }
    }
    fail_msg("no free port");
    return 0;
}

struct topology e2e_topology(uint32_t api_servers, uint32_t engines)
{
    return (struct topology){
        .api_servers_count = api_servers,
        .engines_count = engines,
        .tp = 1,
        .pp = 1,
        .accept = ACCEPT_REUSEPORT,
        .wait = WAIT_BLOCK,
        .executor = EXECUTOR_AUTO,
        .async_depth = 2,
        .listen_host = "127.0.0.1",
        .model = "qwen2.5-0.5b",
        .gpu = "h100",
        .launch = LAUNCH_GRAPH,
        .queue_depth = 1024,
        .max_num_seqs = 16,
        .max_num_batched_tokens = 2048,
        .max_model_len = 512,
        .block_tokens = 16,
        .prefix_caching = 1,
        .chunked_prefill = 1,
        .seed = 1,
        .host = {.name = "native"},
        .publish_interval_ns = 100000000,
        .heartbeat_interval_ns = 5000000000,
        .shutdown_grace_ns = 5000000000,
    };
}

void e2e_start(const struct topology *topology, struct system *out)
{
    struct error error = {.text = ""};
    struct system_options options = {
        .topology = *topology, .log_fd = -1, .start_timeout_ns = (int64_t)60 * 1000000000};
    enum status status = system_start(&options, out, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, STATUS_OK);
}

void e2e_stop(struct system *s)
{
    struct remains remains = remains_of(s);
    uint32_t launchers_count = s->launchers_count;
    pid_t launchers[TOPOLOGY_NODES_MAX];
    for (uint32_t i = 0; i < launchers_count; i++) {
        launchers[i] = s->launchers[i].pid;
    }
    system_stop(s);
    system_free(s);
    remains_assert_none(&remains);
    assert_false(remains_folder(&remains));
    for (uint32_t i = 0; i < launchers_count; i++) {
        assert_int_equal(waitpid(launchers[i], NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
    }
}

/* ---- remains ---- */

struct remains remains_of(const struct system *s)
{
    struct stat st;
    struct remains r;
    assert_int_equal(fstat(s->ledger.fd, &st), 0);
    r.ledger_device = st.st_dev;
    r.ledger_inode = st.st_ino;
    (void)snprintf(r.folder, sizeof r.folder, "%s", s->socket_dir);
    return r;
}

static bool holds_ledger(const struct remains *r, const char *pid)
{
    char path[PATH_BYTES];
    struct stat st;
    (void)snprintf(path, sizeof path, "/proc/%s/fd/%d", pid, LEDGER_FD);
    return stat(path, &st) == 0 && st.st_dev == r->ledger_device && st.st_ino == r->ledger_inode;
}

uint32_t remains_processes(const struct remains *r)
{
    uint32_t count = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
        if (isdigit((unsigned char)entry->d_name[0]) &&
            strtol(entry->d_name, NULL, 10) != (long)getpid() && holds_ledger(r, entry->d_name)) {
            count++;
        }
    }
    (void)closedir(proc);
    return count;
}

bool remains_folder(const struct remains *r)
{
    struct stat st;
    return stat(r->folder, &st) == 0;
}

static bool processes_gone(void *ctx)
{
    return remains_processes(ctx) == 0;
}

void remains_assert_none(const struct remains *r)
{
    struct remains copy = *r;
    assert_true(e2e_wait(processes_gone, &copy, GONE_MS));
}

void e2e_assert_no_children(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* ---- ledger ---- */

struct ledger_thread *e2e_thread(const struct system *s, enum ledger_thread_kind kind,
                                 uint32_t instance, uint32_t sub)
{
    for (uint32_t i = 0; i < ledger_threads_count(&s->ledger); i++) {
        struct ledger_thread *t = &s->ledger.threads[i];
        if (t->kind == (uint32_t)kind && t->instance == instance && t->sub == sub) {
            return t;
        }
    }
    return NULL;
}

uint64_t e2e_sum(const struct system *s, enum ledger_thread_kind kind, size_t offset)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < ledger_threads_count(&s->ledger); i++) {
        const struct ledger_thread *t = &s->ledger.threads[i];
        if (t->kind == (uint32_t)kind) {
            sum += ledger_get((const ledger_counter *)(const void *)((const char *)t + offset));
        }
    }
    return sum;
}
