/*
 * executor.c - owns an engine core's workers: starts them, sends them plans, collects results,
 * notices their death. Driven by the engine core's main thread; executor_death_fd() may be polled
 * and executor_dead_worker() called by its monitor. Must not leave a worker behind: each dies with
 * the thread that started it, and at the end of its control socket.
 */
#include "engine/node/executor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/device/gpu_shared.h"
#include "engine/device/pipeline.h"
#include "engine/node/plan_codec.h"
#include "engine/node/ring.h"
#include "engine/node/worker.h"

static const int64_t execute_timeout_ns = 300LL * 1000000000; /* vLLM's execute_model timeout */
static const int64_t start_timeout_ns = 120LL * 1000000000;
static const int64_t stop_grace_ns = 2LL * 1000000000;

enum {
    INHERITED_FDS = WORKER_FDS_END - LEDGER_FD,
    FD_ABOVE_INHERITED = 64,
    FLIGHTS_MAX = DEVICE_STEPS_IN_FLIGHT_MAX
};

struct worker_child {
    pid_t pid; /* 0: not started, or reaped */
    int pid_fd;
    int control_fd;
};

/* A step between its submission and the engine core's taking its result. */
struct flight {
    uint64_t step; /* the engine core's number; 0: a dummy, which has none */
    uint32_t tokens_count;
    uint32_t *tokens;
};

struct executor {
    struct executor_options options;
    const struct topology *topology;
    uint32_t workers_count; /* 0: the device runs on the calling thread */
    uint32_t kv_blocks;
    struct device device;
    struct ring plans;
    struct ring responses;
    struct pipeline pipeline; /* if there are several workers */
    unsigned char *encoded;
    size_t encoded_cap;
    struct gpu_shared gpu; /* if the device on the calling thread shares one */
    struct flight flights[FLIGHTS_MAX];
    uint64_t
        submitted;     /* steps that the device got, dummies included: its own numbers, from 1 on */
    uint64_t received; /* results of them that are here */
    uint64_t taken;    /* of these, given to the engine core, or a dummy's */
    uint32_t *tokens;  /* [FLIGHTS_MAX * requests_max] */
    int death_fd;      /* epoll over the workers' pid descriptors; -1 without workers */
    struct worker_child workers[TOPOLOGY_WORKERS_PER_ENGINE_MAX];
    char *dead_worker; /* text of executor_dead_worker(), DEAD_TEXT_BYTES */
};

enum {
    DEAD_TEXT_BYTES = 640
};

/* ---- starting ---- */

struct child_arguments {
    char title[32];
    char rank[16];
    char worker[16];
    char requests_max[16];
    char *argv[9];
};

static void fill_arguments(const struct executor *x, uint32_t worker, struct child_arguments *a)
{
    static char role[] = "worker";
    static char rank_flag[] = "--rank";
    static char worker_flag[] = "--worker";
    static char requests_flag[] = "--requests-max";
    uint32_t global = x->options.rank * x->workers_count + worker;
    (void)snprintf(a->title, sizeof a->title, "VllmWorker-%u", global);
    (void)snprintf(a->rank, sizeof a->rank, "%u", x->options.rank);
    (void)snprintf(a->worker, sizeof a->worker, "%u", worker);
    (void)snprintf(a->requests_max, sizeof a->requests_max, "%u", x->options.requests_max);
    char *const argv[] = {a->title,  role,          rank_flag,       a->rank, worker_flag,
                          a->worker, requests_flag, a->requests_max, NULL};
    _Static_assert(sizeof argv == sizeof a->argv, "all arguments and the NULL");
    memcpy(a->argv, argv, sizeof argv);
}

/* Between fork and exec: only calls that are safe after a fork of a program with threads. */
_Noreturn static void child_exec(const int fds[INHERITED_FDS], char *const argv[], pid_t parent)
{
    int high[INHERITED_FDS];
    sigset_t none;
    (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
    if (getppid() != parent) { /* it died before the line above */
        _exit(127);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    /* First out of the way, so that no target number is still a source. */
    for (int i = 0; i < INHERITED_FDS; i++) {
        high[i] = fds[i] >= 0 ? fcntl(fds[i], F_DUPFD, FD_ABOVE_INHERITED) : -1;
    }
    for (int i = 0; i < INHERITED_FDS; i++) {
        if (fds[i] < 0) {
            (void)close(LEDGER_FD + i);
        } else if (high[i] < 0 || dup2(high[i], LEDGER_FD + i) < 0) {
            _exit(127);
        }
    }
    (void)close_range(WORKER_FDS_END, ~0U, 0);
    (void)execv("/proc/self/exe", argv);
    _exit(127);
}

static enum status start_worker(struct executor *x, uint32_t index, struct error *error)
{
    struct worker_child *child = &x->workers[index];
    struct child_arguments arguments;
    int control[2];
    fill_arguments(x, index, &arguments);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
        return error_set(error, STATUS_IO, "worker %u: socketpair: %s", index, strerror(errno));
    }
    /* A program that is no engine core's process (a test) has no event pipe. */
    int events = fcntl(EVENT_FD, F_GETFD) >= 0 ? EVENT_FD : STDERR_FILENO;
    int gpu = x->topology->gpu_sharing != (uint32_t)GPU_OWN ? GPU_FD + (int)index : -1;
    int pipeline = x->workers_count > 1 ? x->pipeline.fd : -1;
    int fds[INHERITED_FDS] = {
        x->options.ledger->fd, events, x->plans.fd, x->responses.fd, control[1], pipeline, gpu};
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        child_exec(fds, arguments.argv, parent);
    }
    int fork_errno = errno;
    (void)close(control[1]);
    child->control_fd = control[0];
    if (pid < 0) {
        return error_set(error, STATUS_IO, "worker %u: fork: %s", index, strerror(fork_errno));
    }
    child->pid = pid;
    child->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0U);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    if (child->pid_fd < 0 || epoll_ctl(x->death_fd, EPOLL_CTL_ADD, child->pid_fd, &event) != 0) {
        return error_set(error, STATUS_IO, "worker %u: pidfd: %s", index, strerror(errno));
    }
    return STATUS_OK;
}

/* False: nothing there (yet), or the worker is gone. */
static bool receive_report(const struct worker_child *child, struct worker_report *report)
{
    ssize_t bytes = recv(child->control_fd, report, sizeof *report, MSG_DONTWAIT);
    if (bytes != (ssize_t)sizeof *report) {
        return false;
    }
    report->text[sizeof report->text - 1] = '\0';
    return true;
}

static enum status await_ready(struct executor *x, uint32_t index, int64_t deadline_ns,
                               struct error *error)
{
    struct pollfd control = {.fd = x->workers[index].control_fd, .events = POLLIN};
    struct worker_report report;
    char name[16];
    worker_name(x->options.rank, index, name);
    int64_t left_ns = deadline_ns - clock_now_ns();
    while (poll(&control, 1, left_ns > 0 ? (int)(left_ns / 1000000) : 0) < 0 && errno == EINTR) {
        left_ns = deadline_ns - clock_now_ns();
    }
    if (control.revents == 0) {
        return error_set(error, STATUS_TIMEOUT, "%s was not ready within %lld s", name,
                         (long long)(start_timeout_ns / 1000000000));
    }
    if (!receive_report(&x->workers[index], &report)) {
        return error_set(error, STATUS_DIED, "%s ended before it was ready", name);
    }
    if (report.status != (uint32_t)STATUS_OK) {
        enum status status =
            report.status < (uint32_t)STATUS_COUNT ? (enum status)report.status : STATUS_PROTOCOL;
        return error_set(error, status, "%s: %.400s", name, report.text);
    }
    x->kv_blocks = report.kv_blocks < x->kv_blocks ? report.kv_blocks : x->kv_blocks;
    return STATUS_OK;
}

static enum status start_workers(struct executor *x, struct error *error)
{
    x->kv_blocks = UINT32_MAX;
    TRY(ring_create(RING_PLAN_CHUNK_BYTES, x->workers_count, RING_WRITER, &x->plans, error));
    TRY(ring_create(RING_RESPONSE_CHUNK_BYTES, 1, 0, &x->responses, error));
    if (x->workers_count > 1) {
        TRY(pipeline_create(x->workers_count, &x->pipeline, error));
    }
    x->death_fd = epoll_create1(EPOLL_CLOEXEC);
    if (x->death_fd < 0) {
        return error_set(error, STATUS_IO, "executor: epoll_create1: %s", strerror(errno));
    }
    for (uint32_t i = 0; i < x->workers_count; i++) {
        TRY(start_worker(x, i, error));
    }
    int64_t deadline_ns = clock_now_ns() + start_timeout_ns;
    for (uint32_t i = 0; i < x->workers_count; i++) {
        TRY(await_ready(x, i, deadline_ns, error));
    }
    return STATUS_OK;
}

static enum status start_in_thread(struct executor *x, struct error *error)
{
    struct device_options options = {
        .topology = x->topology,
        .rank = x->options.rank,
        .requests_max = x->options.requests_max,
        .thread = x->options.thread,
        .epoch_ns = ledger_epoch_ns(x->options.ledger),
    };
    if (x->topology->gpu_sharing != (uint32_t)GPU_OWN) {
        TRY(gpu_shared_open(GPU_FD, &x->gpu, error));
        options.gpu_shared = &x->gpu;
    }
    TRY(device_open(&options, &x->device, error));
    x->kv_blocks = device_kv_blocks(&x->device);
    return STATUS_OK;
}

enum status executor_start(const struct executor_options *options, struct executor **out,
                           struct error *error)
{
    ASSERT(options->requests_max > 0);
    struct executor *x = calloc(1, sizeof *x);
    uint32_t *tokens = calloc((size_t)FLIGHTS_MAX * options->requests_max, sizeof *tokens);
    char *dead_worker = calloc(1, DEAD_TEXT_BYTES);
    if (x == NULL || tokens == NULL || dead_worker == NULL) {
        free(x);
        free(tokens);
        free(dead_worker);
        return error_set(error, STATUS_NOMEM, "executor: no memory for %u requests",
                         options->requests_max);
    }
    x->options = *options;
    x->topology = options->ledger->topology;
    x->workers_count = topology_workers_per_engine(x->topology);
    x->tokens = tokens;
    for (uint32_t i = 0; i < FLIGHTS_MAX; i++) {
        x->flights[i].tokens = tokens + (size_t)i * options->requests_max;
    }
    x->dead_worker = dead_worker;
    x->death_fd = -1;
    for (uint32_t i = 0; i < TOPOLOGY_WORKERS_PER_ENGINE_MAX; i++) {
        x->workers[i] = (struct worker_child){.pid_fd = -1, .control_fd = -1};
    }
    enum status status = x->workers_count > 0 ? start_workers(x, error) : start_in_thread(x, error);
    if (status != STATUS_OK) {
        executor_stop(x);
        return status;
    }
    *out = x;
    return STATUS_OK;
}

/* ---- steps ---- */

uint32_t executor_kv_blocks(const struct executor *x)
{
    return x->kv_blocks;
}

/* A failure of a ring: if a worker died, that is the reason. */
static enum status ring_failure(const struct executor *x, enum status status, struct error *error)
{
    if (status == STATUS_DIED) {
        const char *who = executor_dead_worker(x);
        return error_set(error, STATUS_DIED, "%s", who[0] != '\0' ? who : "the executor stops");
    }
    return status;
}

static struct ring_wait step_wait(const struct executor *x)
{
    return (struct ring_wait){
        .mode = (enum wait_mode)x->topology->wait,
        .deadline_ns = clock_now_ns() + execute_timeout_ns,
        .death_fd = x->death_fd,
    };
}

static enum status grow_encoded(struct executor *x, size_t bytes, struct error *error)
{
    if (bytes > x->encoded_cap) {
        unsigned char *grown = realloc(x->encoded, 2 * bytes);
        if (grown == NULL) {
            return error_set(error, STATUS_NOMEM, "executor: no memory for a plan of %zu bytes",
                             bytes);
        }
        x->encoded = grown;
        x->encoded_cap = 2 * bytes;
    }
    return STATUS_OK;
}

static enum status send_plan(struct executor *x, const struct step_plan *plan,
                             const struct device_lockstep *agreed, struct error *error)
{
    if (x->workers_count == 0) {
        if (agreed != NULL) {
            device_lockstep(&x->device, agreed);
        }
        return device_submit(&x->device, plan, error);
    }
    size_t bytes = plan_encoded_bytes(plan);
    TRY(grow_encoded(x, bytes, error));
    plan_encode(plan, x->encoded);
    if (agreed != NULL) {
        plan_encode_agreed(x->encoded, agreed);
    }
    struct ring_wait wait = step_wait(x);
    return ring_failure(x, ring_write(&x->plans, x->encoded, bytes, &wait, error), error);
}

enum status executor_submit(struct executor *x, const struct step_plan *plan,
                            const struct device_lockstep *agreed, struct error *error)
{
    ASSERT(x->submitted - x->taken < FLIGHTS_MAX);
    struct step_plan numbered = *plan;
    numbered.step = ++x->submitted;
    x->flights[numbered.step % FLIGHTS_MAX].step = plan->step;
    return send_plan(x, &numbered, agreed, error);
}

static struct step_result wait_in_thread(struct executor *x, uint64_t step)
{
    struct device_result done;
    device_wait(&x->device, step, &done);
    ledger_add(&x->options.thread->launches_count[LAUNCH_CLASS_SYNC], 1);
    return done.step;
}

static void keep_result(struct executor *x, const struct step_result *result)
{
    struct flight *flight = &x->flights[result->step % FLIGHTS_MAX];
    flight->tokens_count = result->tokens_count;
    if (result->tokens_count > 0) {
        memcpy(flight->tokens, result->tokens, result->tokens_count * sizeof *flight->tokens);
    }
    x->received = result->step;
}

/* Waits for the next result of the device. */
static enum status receive_result(struct executor *x, struct error *error)
{
    uint64_t step = x->received + 1;
    struct step_result got;
    ASSERT(step <= x->submitted);
    if (x->workers_count == 0) {
        got = wait_in_thread(x, step);
        keep_result(x, &got);
        return STATUS_OK;
    }
    struct ring_wait wait = step_wait(x);
    const void *data = NULL;
    size_t bytes = 0;
    enum status status = ring_read(&x->responses, &wait, &data, &bytes, error);
    TRY(ring_failure(x, status, error));
    TRY(result_decode(data, bytes, x->options.requests_max, &got, error));
    if (got.step != step) {
        return error_set(error, STATUS_PROTOCOL, "result of step %llu, want step %llu",
                         (unsigned long long)got.step, (unsigned long long)step);
    }
    keep_result(x, &got);
    ring_release(&x->responses);
    return STATUS_OK;
}

/* Dummies that are over leave no result. */
static void skip_dummies(struct executor *x)
{
    while (x->taken < x->received && x->flights[(x->taken + 1) % FLIGHTS_MAX].step == 0) {
        x->taken++;
    }
}

enum status executor_dummy(struct executor *x, const struct device_lockstep *agreed,
                           struct error *error)
{
    struct step_plan nothing = {.step = 0};
    TRY(executor_submit(x, &nothing, agreed, error));
    while (x->received < x->submitted) {
        TRY(receive_result(x, error));
    }
    skip_dummies(x);
    return STATUS_OK;
}

bool executor_ready(struct executor *x, uint64_t step)
{
    uint64_t next = x->taken + 1;
    ASSERT(x->flights[next % FLIGHTS_MAX].step == step);
    if (next <= x->received) {
        return true;
    }
    return x->workers_count == 0 ? device_poll(&x->device, next) : ring_readable(&x->responses);
}

enum status executor_wait(struct executor *x, uint64_t step, struct step_result *result,
                          struct error *error)
{
    uint64_t next = x->taken + 1;
    const struct flight *flight = &x->flights[next % FLIGHTS_MAX];
    ASSERT(next <= x->submitted && flight->step == step);
    if (next > x->received) {
        TRY(receive_result(x, error));
    }
    *result = (struct step_result){
        .step = step, .tokens = flight->tokens, .tokens_count = flight->tokens_count};
    x->taken = next;
    skip_dummies(x);
    return STATUS_OK;
}

/* ---- death and end ---- */

int executor_death_fd(const struct executor *x)
{
    return x->death_fd;
}

const char *executor_dead_worker(const struct executor *x)
{
    for (uint32_t i = 0; i < x->workers_count && x->dead_worker[0] == '\0'; i++) {
        const struct worker_child *child = &x->workers[i];
        siginfo_t info = {0};
        if (child->pid == 0 ||
            waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid == 0) {
            continue;
        }
        struct worker_report report = {0};
        char name[16];
        worker_name(x->options.rank, i, name);
        bool reason = receive_report(child, &report) && report.text[0] != '\0';
        (void)snprintf(x->dead_worker, DEAD_TEXT_BYTES, "%s (pid %d, %s %d)%s%s", name,
                       (int)child->pid, info.si_code == CLD_EXITED ? "exit status" : "signal",
                       info.si_status, reason ? ": " : "", report.text);
    }
    return x->dead_worker;
}

static void stop_worker(struct worker_child *child, int64_t deadline_ns)
{
    if (child->pid != 0) {
        struct pollfd end = {.fd = child->pid_fd, .events = POLLIN};
        int64_t left_ns = deadline_ns - clock_now_ns();
        if (child->pid_fd < 0 || poll(&end, 1, left_ns > 0 ? (int)(left_ns / 1000000) : 0) <= 0) {
            (void)kill(child->pid, SIGKILL);
        }
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        child->pid = 0;
    }
    if (child->pid_fd >= 0) {
        (void)close(child->pid_fd);
    }
    child->pid_fd = -1;
}

void executor_stop(struct executor *x)
{
    if (x == NULL) {
        return;
    }
    if (x->plans.header != NULL) {
        ring_cancel(&x->plans);
    }
    if (x->responses.header != NULL) {
        ring_cancel(&x->responses);
    }
    if (x->pipeline.header != NULL) {
        pipeline_cancel(&x->pipeline);
    }
    for (uint32_t i = 0; i < x->workers_count; i++) {
        if (x->workers[i].control_fd >= 0) {
            (void)close(x->workers[i].control_fd);
        }
    }
    int64_t deadline_ns = clock_now_ns() + stop_grace_ns;
    for (uint32_t i = 0; i < x->workers_count; i++) {
        stop_worker(&x->workers[i], deadline_ns);
    }
    if (x->death_fd >= 0) {
        (void)close(x->death_fd);
    }
    ring_close(&x->plans);
    ring_close(&x->responses);
    pipeline_close(&x->pipeline);
    device_close(&x->device);
    gpu_shared_close(&x->gpu);
    free(x->encoded);
    free(x->tokens);
    free(x->dead_worker);
    free(x);
}
