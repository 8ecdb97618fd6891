/*
 * mechanics.c - owns the trials of mechanics.h. Each is two threads of this process at most; the
 * main one takes the samples. Must not trust a single one: other programs run in between, so that
 * whoever reads them takes medians.
 */
#include "harness/probe/mechanics.h"

#include <errno.h>
#include <linux/futex.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/clock.h"

enum {
    WAKES_COUNT = 400,
    WAKES_A_SAMPLE = 10, /* of CPU time, which is read before and after them */
    PAUSE_NS = 300000,   /* between two: the other thread must block */
    SLEEPS_COUNT = 300,
    SLEEP_NS = 500000,
    ROUNDS_COUNT = 100, /* of handing to and fro, one sample */
    ROUND_SAMPLES = 200,
    SENDS_COUNT = 300,
};

/* What two threads hand each other. */
struct pair {
    _Alignas(64) _Atomic uint32_t word;
    _Alignas(64) _Atomic int64_t seen_ns;
    _Atomic uint32_t seen;
    _Atomic bool over;
    bool yields;
    int cpu; /* -1: anywhere */
    int fd;
    struct mechanics *out;
};

static void add(struct mechanics *m, enum mechanics_what what, double ns)
{
    if (m->count[what] < MECHANICS_SAMPLES_MAX) {
        m->ns[what][m->count[what]++] = ns > 0 ? ns : 0;
    }
}

static int by_size(const void *a, const void *b)
{
    const double *left = a;
    const double *right = b;
    return (*left > *right) - (*left < *right);
}

static void pin_self(int cpu)
{
    cpu_set_t set;
    if (cpu >= 0) {
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        (void)sched_setaffinity(0, sizeof set, &set);
    }
}

static enum status start(pthread_t *thread, void *(*run)(void *pair), struct pair *pair,
                         struct error *error)
{
    int rc = pthread_create(thread, NULL, run, pair);
    return rc == 0 ? STATUS_OK
                   : error_set(error, STATUS_NOMEM, "cannot start a thread: %s", strerror(rc));
}

/* ---- blocking ---- */

static void futex(_Atomic uint32_t *word, int what, uint32_t value)
{
    (void)syscall(SYS_futex, word, what | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* Blocks until the word changes, over and over, and says when it ran again. */
static void *sleeper(void *argument)
{
    struct pair *p = argument;
    uint32_t last = 0;
    int64_t cpu_ns = clock_thread_cpu_ns();
    while (!atomic_load(&p->over)) {
        futex(&p->word, FUTEX_WAIT, last);
        uint32_t now = atomic_load(&p->word);
        if (now == last || atomic_load(&p->over)) { /* woken to end is no sample */
            continue;
        }
        atomic_store(&p->seen_ns, clock_now_ns());
        last = now;
        atomic_store(&p->seen, now);
        if (now % WAKES_A_SAMPLE == 0) {
            int64_t cpu_now_ns = clock_thread_cpu_ns();
            add(p->out, MECHANICS_WAKE_CPU, (double)(cpu_now_ns - cpu_ns) / WAKES_A_SAMPLE);
            cpu_ns = cpu_now_ns;
        }
    }
    return NULL;
}

static enum status measure_wakes(struct mechanics *out, struct error *error)
{
    struct pair p = {.cpu = -1, .out = out};
    pthread_t thread;
    TRY(start(&thread, sleeper, &p, error));
    for (uint32_t i = 1; i <= WAKES_COUNT; i++) {
        clock_sleep_until_ns(clock_now_ns() + PAUSE_NS);
        int64_t begin_ns = clock_now_ns();
        atomic_store(&p.word, i);
        futex(&p.word, FUTEX_WAKE, 1);
        while (atomic_load(&p.seen) != i) {
            (void)sched_yield();
        }
        add(out, MECHANICS_WAKE, (double)(atomic_load(&p.seen_ns) - begin_ns));
    }
    atomic_store(&p.over, true);
    atomic_store(&p.word, 0);
    futex(&p.word, FUTEX_WAKE, 1);
    (void)pthread_join(thread, NULL);
    return STATUS_OK;
}

static void measure_sleeps(struct mechanics *out)
{
    for (int i = 0; i < SLEEPS_COUNT; i++) {
        int64_t cpu_ns = clock_thread_cpu_ns();
        int64_t deadline_ns = clock_now_ns() + SLEEP_NS;
        clock_sleep_until_ns(deadline_ns);
        add(out, MECHANICS_SLEEP_LATE, (double)(clock_now_ns() - deadline_ns));
        add(out, MECHANICS_SLEEP_CPU, (double)(clock_thread_cpu_ns() - cpu_ns));
    }
}

/* ---- handing over ---- */

static void await_turn(struct pair *p, uint32_t parity)
{
    while (atomic_load_explicit(&p->word, memory_order_acquire) % 2 != parity &&
           !atomic_load_explicit(&p->over, memory_order_relaxed)) {
        if (p->yields) {
            (void)sched_yield();
        }
    }
}

static void *returner(void *argument)
{
    struct pair *p = argument;
    pin_self(p->cpu);
    while (!atomic_load_explicit(&p->over, memory_order_relaxed)) {
        await_turn(p, 1);
        if (!atomic_load_explicit(&p->over, memory_order_relaxed)) {
            atomic_fetch_add_explicit(&p->word, 1, memory_order_release);
        }
    }
    return NULL;
}

/* One way, in ns, sorted. */
static enum status hand_over(struct pair *p, double samples[ROUND_SAMPLES], struct error *error)
{
    pthread_t thread;
    TRY(start(&thread, returner, p, error));
    for (int i = 0; i < ROUND_SAMPLES; i++) {
        int64_t begin_ns = clock_now_ns();
        for (int round = 0; round < ROUNDS_COUNT; round++) {
            atomic_fetch_add_explicit(&p->word, 1, memory_order_release);
            await_turn(p, 0);
        }
        samples[i] = (double)(clock_now_ns() - begin_ns) / (2.0 * ROUNDS_COUNT);
    }
    atomic_store(&p->over, true);
    (void)pthread_join(thread, NULL);
    qsort(samples, ROUND_SAMPLES, sizeof samples[0], by_size);
    return STATUS_OK;
}

static double yield_alone_ns(void)
{
    int64_t begin_ns = clock_now_ns();
    for (int i = 0; i < ROUND_SAMPLES * ROUNDS_COUNT; i++) {
        (void)sched_yield();
    }
    return (double)(clock_now_ns() - begin_ns) / (ROUND_SAMPLES * ROUNDS_COUNT);
}

/* Two threads on one CPU that yield to each other. */
static enum status measure_switches(struct mechanics *out, int cpu, struct error *error)
{
    double samples[ROUND_SAMPLES];
    struct pair p = {.cpu = cpu, .yields = true};
    cpu_set_t before;
    if (cpu < 0 || sched_getaffinity(0, sizeof before, &before) != 0) {
        return STATUS_OK;
    }
    pin_self(cpu);
    double yield_ns = yield_alone_ns();
    enum status status = hand_over(&p, samples, error);
    (void)sched_setaffinity(0, sizeof before, &before);
    for (int i = 0; i < ROUND_SAMPLES && status == STATUS_OK; i++) {
        add(out, MECHANICS_SWITCH, samples[i] - yield_ns);
    }
    return status;
}

static enum status measure_ring(struct mechanics *out, struct error *error)
{
    double spinning[ROUND_SAMPLES];
    double yielding[ROUND_SAMPLES];
    struct pair p = {.cpu = -1};
    struct pair q = {.cpu = -1, .yields = true};
    TRY(hand_over(&p, spinning, error));
    TRY(hand_over(&q, yielding, error));
    for (int i = 0; i < ROUND_SAMPLES; i++) {
        add(out, MECHANICS_RING, spinning[i]);
        add(out, MECHANICS_POLL, yielding[i] - spinning[i]);
    }
    return STATUS_OK;
}

/* ---- a socket ---- */

/* Two ends of a connection over loopback. */
static enum status connect_ends(int ends[2], struct error *error)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[1] = -1;
    bool good = listener >= 0 && ends[0] >= 0 &&
                bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
                listen(listener, 1) == 0 &&
                getsockname(listener, (struct sockaddr *)&address, &bytes) == 0 &&
                connect(ends[0], (struct sockaddr *)&address, sizeof address) == 0;
    ends[1] = good ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    good = ends[1] >= 0 && setsockopt(ends[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0;
    int why = errno;
    if (listener >= 0) {
        (void)close(listener);
    }
    if (!good && ends[0] >= 0) {
        (void)close(ends[0]);
    }
    if (!good && ends[1] >= 0) {
        (void)close(ends[1]);
    }
    return good ? STATUS_OK
                : error_set(error, STATUS_IO, "no connection over loopback: %s", strerror(why));
}

static void *reader(void *argument)
{
    struct pair *p = argument;
    uint32_t count = 0;
    char byte;
    while (!atomic_load_explicit(&p->over, memory_order_relaxed)) {
        if (recv(p->fd, &byte, 1, MSG_DONTWAIT) == 1) {
            atomic_store(&p->seen_ns, clock_now_ns());
            atomic_store(&p->seen, ++count);
        }
    }
    return NULL;
}

static enum status send_bytes(int fd, struct pair *p, struct mechanics *out, struct error *error)
{
    for (uint32_t i = 1; i <= SENDS_COUNT; i++) {
        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) {
            return error_set(error, STATUS_IO, "send over loopback: %s", strerror(errno));
        }
        int64_t sent_ns = clock_now_ns();
        while (atomic_load(&p->seen) != i) {
            (void)sched_yield();
        }
        add(out, MECHANICS_TCP, (double)(atomic_load(&p->seen_ns) - sent_ns));
    }
    return STATUS_OK;
}

static enum status measure_tcp(struct mechanics *out, struct error *error)
{
    int ends[2];
    pthread_t thread;
    TRY(connect_ends(ends, error));
    struct pair p = {.fd = ends[1]};
    enum status status = start(&thread, reader, &p, error);
    if (status == STATUS_OK) {
        status = send_bytes(ends[0], &p, out, error);
        atomic_store(&p.over, true);
        (void)pthread_join(thread, NULL);
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
    return status;
}

/* ---- all of it ---- */

/* The first CPU this process may use; -1: not known. `*count`: how many it may. */
static int first_cpu(int *count)
{
    cpu_set_t set;
    *count = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return -1;
    }
    *count = CPU_COUNT(&set);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET((size_t)i, &set)) {
            return i;
        }
    }
    return -1;
}

enum status mechanics_measure(struct mechanics *out, struct error *error)
{
    int cpus_count = 0;
    int cpu = first_cpu(&cpus_count);
    int slack_ns = prctl(PR_GET_TIMERSLACK);
    memset(out, 0, sizeof *out);
    clock_precise_sleeps();
    measure_sleeps(out);
    enum status status = measure_wakes(out, error);
    if (slack_ns > 0) {
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)slack_ns);
    }
    TRY(status);
    TRY(measure_switches(out, cpu, error));
    if (cpus_count > 1) {
        TRY(measure_ring(out, error));
        TRY(measure_tcp(out, error));
    }
    for (int i = 0; i < MECHANICS_COUNT; i++) {
        qsort(out->ns[i], out->count[i], sizeof out->ns[i][0], by_size);
    }
    return STATUS_OK;
}
