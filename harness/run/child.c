/*
 * child.c - owns how the harness starts, watches and ends a process of its own. Called by system.c
 * and measure.c. Must not leave a child behind: each has a signal for the death of its parent, and
 * a stop ends in SIGKILL.
 */
#include "harness/run/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"

enum {
    POLL_NS = 5000000,
    FIRST_FREE_FD = 10
};

/* Moves `fd` to `target` without regard to what stood there; both may be in each other's way, so
 * callers dup high first. */
static int raised(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD, FIRST_FREE_FD);
}

static bool pin(const struct topology_cpus *cpus)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpus == NULL || topology_cpus_count(cpus) == 0) {
        return true;
    }
    for (uint32_t cpu = 0; cpu < TOPOLOGY_CPUS_MAX; cpu++) {
        if (topology_cpus_has(cpus, cpu)) {
            CPU_SET(cpu, &set);
        }
    }
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

static void run_child(const struct child_options *o, pid_t parent)
{
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, (unsigned long)o->death_signal, 0UL, 0UL, 0UL);
    if (getppid() != parent) {
        _exit(127);
    }
    int fd3 = raised(o->fd3);
    int fd4 = raised(o->fd4);
    int err = raised(o->stderr_fd);
    if ((fd3 >= 0 && dup2(fd3, 3) < 0) || (fd4 >= 0 && dup2(fd4, 4) < 0) ||
        (err >= 0 && (dup2(err, STDERR_FILENO) < 0 || dup2(err, STDOUT_FILENO) < 0))) {
        _exit(127);
    }
    if (fd3 >= 0) {
        (void)close(fd3);
    }
    if (fd4 >= 0) {
        (void)close(fd4);
    }
    if (err >= 0) {
        (void)close(err);
    }
    if (!pin(o->cpus)) {
        _exit(126);
    }
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execv(o->path, o->arguments);
    _exit(127);
}

enum status child_start(const struct child_options *options, pid_t *pid, struct error *error)
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        return error_set(error, STATUS_IO, "cannot start %s: %s", options->path, strerror(errno));
    }
    if (child == 0) {
        run_child(options, parent);
    }
    *pid = child;
    return STATUS_OK;
}

bool child_ended(pid_t pid, int *status)
{
    return waitpid(pid, status, WNOHANG) == pid;
}

void child_stop(pid_t pid, int signal_number, int64_t wait_ns, int *status)
{
    int64_t deadline = clock_now_ns() + wait_ns;
    (void)kill(pid, signal_number);
    while (clock_now_ns() < deadline) {
        if (child_ended(pid, status)) {
            return;
        }
        clock_sleep_until_ns(clock_now_ns() + POLL_NS);
    }
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, status, 0) < 0 && errno == EINTR) {
    }
}

void child_describe(int status, char out[32])
{
    if (WIFSIGNALED(status)) {
        (void)snprintf(out, 32, "signal %d", WTERMSIG(status));
    } else {
        (void)snprintf(out, 32, "exit status %d", WEXITSTATUS(status));
    }
}

void child_program_folder(char *out, size_t cap)
{
    ssize_t bytes = readlink("/proc/self/exe", out, cap - 1);
    out[bytes > 0 ? bytes : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
}
