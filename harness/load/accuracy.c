/*
 * accuracy.c - the same streams read by a bare reader and by the load client, joined with the
 * mock's stamps by request and event (accuracy.h). Driven by benchmarks and tests.
 */
#include "harness/load/accuracy.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/load/bare.h"
#include "harness/load/client.h"
#include "harness/load/listener.h"
#include "harness/load/mock_server.h"

enum {
    EVENTS_BESIDE_TOKENS = 4, /* of a stream: head, usage, [DONE] */
    PROMPT_TOKENS = 8,
    SETTLE_NS = 1000000,
    SETTLE_TRIES = 2000,
};

#define LONGEST_NS ((int64_t)600000000000)

struct mock_child {
    pid_t pid;
    uint32_t port;
    struct mock_shared *shared;
};

static enum status mock_child_start(const struct accuracy_options *o, struct mock_child *out,
                                    struct error *error)
{
    struct mock_options options = {.ttft_ns = o->ttft_ns, .itl_ns = o->itl_ns};
    uint64_t stamps_max = (uint64_t)o->streams_count * (o->tokens + EVENTS_BESIDE_TOKENS);
    int fd = -1;
    *out = (struct mock_child){.pid = -1};
    TRY(mock_shared_create(stamps_max, &out->shared, error));
    enum status status = listener_open(0, &fd, &out->port, error);
    if (status != STATUS_OK) {
        mock_shared_destroy(out->shared);
        return status;
    }
    pid_t parent = getpid();
    out->pid = fork();
    if (out->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            (void)!mock_serve(fd, -1, &options, out->shared, NULL);
        }
        _exit(1);
    }
    (void)close(fd);
    if (out->pid < 0) {
        mock_shared_destroy(out->shared);
        return error_set(error, STATUS_IO, "mock: fork: %s", strerror(errno));
    }
    return STATUS_OK;
}

/* The last stamps are written after the bytes they stand for may have been read. */
static void mock_child_settle(const struct mock_child *mock, uint32_t streams_count)
{
    for (uint32_t i = 0; i < SETTLE_TRIES; i++) {
        if (mock->shared->finished_count + mock->shared->left_count >= streams_count) {
            return;
        }
        clock_sleep_until_ns(clock_now_ns() + SETTLE_NS);
    }
}

static void mock_child_end(struct mock_child *mock)
{
    (void)kill(mock->pid, SIGKILL);
    while (waitpid(mock->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    mock_shared_destroy(mock->shared);
}

/* ---- joining ---- */

static int compare(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static double quantile_ms(int64_t *values, size_t count, double p)
{
    if (count == 0) {
        return __builtin_nan("");
    }
    qsort(values, count, sizeof *values, compare);
    size_t rank = (size_t)ceil(p * (double)count);
    return (double)values[rank > 0 ? rank - 1 : 0] * 1e-6;
}

/* sent_ns[stream * tokens + event] by the mock's stamps; 0: none. */
static enum status read_stamps(const struct accuracy_options *o, const struct mock_shared *shared,
                               int64_t *sent_ns, struct error *error)
{
    uint32_t *next = calloc(o->streams_count, sizeof *next);
    if (next == NULL) {
        return error_set(error, STATUS_NOMEM, "accuracy: out of memory");
    }
    for (uint64_t i = 0; i < shared->stamps_count; i++) {
        const struct mock_stamp *t = &shared->stamps[i];
        if (t->kind == MOCK_KIND_TOKEN && t->request_id < o->streams_count &&
            next[t->request_id] < o->tokens) {
            sent_ns[t->request_id * o->tokens + next[t->request_id]++] = t->sent_ns;
        }
    }
    free(next);
    return STATUS_OK;
}

static void count_events(const struct accuracy_options *o, const int64_t *sent_ns,
                         const int64_t *seen_ns, struct accuracy_errors *out)
{
    for (size_t i = 0; i < (size_t)o->streams_count * o->tokens; i++) {
        if (sent_ns[i] == 0 || seen_ns[i] == 0) {
            out->missing_count++;
        } else {
            out->events_count++;
            out->negative_count += seen_ns[i] < sent_ns[i];
        }
    }
}

/* `values` is room for as many as there are events. */
static void judge(const struct accuracy_options *o, const int64_t *sent_ns, const int64_t *seen_ns,
                  int64_t *values, struct accuracy_errors *out)
{
    size_t count = 0;
    for (size_t s = 0; s < o->streams_count; s++) {
        size_t i = s * o->tokens;
        if (sent_ns[i] != 0 && seen_ns[i] != 0) {
            values[count++] = seen_ns[i] - sent_ns[i];
        }
    }
    out->ttft_p50_ms = quantile_ms(values, count, 0.50);
    out->ttft_p99_ms = quantile_ms(values, count, 0.99);
    count = 0;
    for (size_t i = 0; i < (size_t)o->streams_count * o->tokens; i++) {
        bool known = i % o->tokens > 0 && sent_ns[i] != 0 && seen_ns[i] != 0 &&
                     sent_ns[i - 1] != 0 && seen_ns[i - 1] != 0;
        if (known) {
            values[count++] = llabs((seen_ns[i] - seen_ns[i - 1]) - (sent_ns[i] - sent_ns[i - 1]));
        }
    }
    out->itl_p50_ms = quantile_ms(values, count, 0.50);
    out->itl_p99_ms = quantile_ms(values, count, 0.99);
}

static enum status join(const struct accuracy_options *o, const struct mock_shared *shared,
                        const int64_t *seen_ns, struct accuracy_errors *out, struct error *error)
{
    size_t count = (size_t)o->streams_count * o->tokens;
    int64_t *sent_ns = calloc(count, sizeof *sent_ns);
    int64_t *values = calloc(count, sizeof *values);
    enum status status = error_set(error, STATUS_NOMEM, "accuracy: out of memory");
    if (sent_ns != NULL && values != NULL) {
        status = read_stamps(o, shared, sent_ns, error);
    }
    if (status == STATUS_OK) {
        *out = (struct accuracy_errors){.mock_lag_p99_ms =
                                            (double)histogram_quantile(&shared->lag, 0.99) * 1e-6};
        count_events(o, sent_ns, seen_ns, out);
        judge(o, sent_ns, seen_ns, values, out);
    }
    free(sent_ns);
    free(values);
    return status;
}

/* ---- the two readers ---- */

/* What the client kept of its events, as seen_ns[stream * tokens + event]. */
static enum status take_events(const struct accuracy_options *o, const struct load_shared *shared,
                               int64_t *seen_ns, struct error *error)
{
    uint32_t *next = calloc(o->streams_count, sizeof *next);
    if (next == NULL) {
        return error_set(error, STATUS_NOMEM, "accuracy: out of memory");
    }
    uint64_t count = load_get(&shared->header->events_count);
    for (uint64_t i = 0; i < count; i++) {
        const struct load_event *e = &shared->events[i];
        if (e->tokens > 0 && e->number < o->streams_count && next[e->number] < o->tokens) {
            seen_ns[e->number * o->tokens + next[e->number]++] = e->at_ns;
        }
    }
    free(next);
    return STATUS_OK;
}

static enum status read_with_client(const struct accuracy_options *o, uint32_t port,
                                    int64_t *seen_ns, double *cpu_frac, struct error *error)
{
    struct load_shared shared;
    struct load_options options = {
        .targets = {{.host = "127.0.0.1", .port = port}},
        .targets_count = 1,
        .model = "mock",
        .mode = LOAD_CLOSED,
        .users_count = o->streams_count,
        .requests_max = o->streams_count,
        .prompt_tokens = {.lo = PROMPT_TOKENS, .hi = PROMPT_TOKENS},
        .output_tokens = {.lo = o->tokens, .hi = o->tokens},
        .stream = 1,
        .window_ns = LONGEST_NS, /* ends with its requests */
        .batches_count = 1,
        .events_max = (uint64_t)o->streams_count * (o->tokens + EVENTS_BESIDE_TOKENS),
    };
    TRY(load_shared_create(&options, &shared, error));
    enum status status = load_run(&shared.header->options, &shared, error);
    if (status == STATUS_OK) {
        const struct load_header *h = shared.header;
        int64_t window_ns = h->window_end_ns - h->window_start_ns;
        *cpu_frac = window_ns > 0 ? (double)(h->cpu_window_end_ns - h->cpu_window_start_ns) /
                                        (double)window_ns
                                  : __builtin_nan("");
        status = take_events(o, &shared, seen_ns, error);
    }
    load_shared_close(&shared);
    return status;
}

/* cpu_frac NULL: by the bare reader. */
static enum status measure_one(const struct accuracy_options *o, struct accuracy_errors *out,
                               double *cpu_frac, struct error *error)
{
    struct mock_child mock;
    int64_t *seen_ns = calloc((size_t)o->streams_count * o->tokens, sizeof *seen_ns);
    if (seen_ns == NULL) {
        return error_set(error, STATUS_NOMEM, "accuracy: out of memory");
    }
    enum status status = mock_child_start(o, &mock, error);
    if (status != STATUS_OK) {
        free(seen_ns);
        return status;
    }
    struct bare_streams streams = {
        .port = mock.port, .count = o->streams_count, .tokens = o->tokens};
    status = cpu_frac != NULL ? read_with_client(o, mock.port, seen_ns, cpu_frac, error)
                              : bare_read_streams(&streams, seen_ns, error);
    if (status == STATUS_OK) {
        mock_child_settle(&mock, o->streams_count);
        status = join(o, mock.shared, seen_ns, out, error);
    }
    mock_child_end(&mock);
    free(seen_ns);
    return status;
}

enum status accuracy_measure(const struct accuracy_options *options, struct accuracy *out,
                             struct error *error)
{
    ASSERT(options->streams_count > 0 && options->tokens > 1);
    TRY(measure_one(options, &out->bare, NULL, error));
    return measure_one(options, &out->client, &out->client_cpu_frac, error);
}
