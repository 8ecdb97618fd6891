/*
 * live.c - reads the load client's region while the client writes it (live.h). Driven by the loop
 * that watches a run. Must not write there, and must cost little: a run is being measured.
 *
 * A request counts for the time to its first token as soon as that came: the newest requests that
 * have ended would be the short ones.
 */
#include "harness/run/live.h"

#include "harness/analysis/stats.h"

#define LOOK_EVERY_NS ((int64_t)1000000000)

/* A field that the client writes while this is read. */
static int64_t peek(const int64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static int64_t cpu_ns(const struct live *live)
{
    struct timespec t;
    if (!live->cpu_known || clock_gettime(live->cpu_clock, &t) != 0) {
        return -1;
    }
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double p99_of(double *values_ms, size_t count)
{
    stats_sort(values_ms, count);
    return stats_percentile_of(values_ms, count, (double)count, 0.99).value;
}

struct tail {
    double ms[LIVE_TAIL_REQUESTS];
    size_t count;
};

static void push(struct tail *t, int64_t from_ns, int64_t to_ns)
{
    if (from_ns > 0 && to_ns >= from_ns && t->count < LIVE_TAIL_REQUESTS) {
        t->ms[t->count++] = (double)(to_ns - from_ns) / 1e6;
    }
}

/* From the newest request back. */
static void look_at_tails(struct live *live, const struct load_shared *client)
{
    struct tail first = {.count = 0};
    struct tail lag = {.count = 0};
    uint64_t begun = load_get(&client->header->offered_count);
    bool open = client->header->options.mode != LOAD_CLOSED;
    uint64_t looks = begun < LIVE_LOOK_RECORDS ? begun : LIVE_LOOK_RECORDS;
    for (uint64_t i = 1; i <= looks && first.count < LIVE_TAIL_REQUESTS; i++) {
        const struct load_record *r = &client->records[(begun - i) % LOAD_RECORDS_COUNT];
        push(&first, peek(&r->t_sent_ns), peek(&r->t_first_ns));
        if (open) {
            push(&lag, peek(&r->t_sched_ns), peek(&r->t_sent_ns));
        }
    }
    live->seen.ttft_p99_ms = p99_of(first.ms, first.count);
    live->seen.lag_p99_ms = p99_of(lag.ms, lag.count);
}

void live_begin(struct live *live, pid_t client_pid, int64_t now_ns)
{
    *live = (struct live){.seen = PROGRESS_CLIENT_UNKNOWN, .at_ns = now_ns};
    live->cpu_known = clock_getcpuclockid(client_pid, &live->cpu_clock) == 0;
    live->cpu_ns = cpu_ns(live);
}

void live_look(struct live *live, const struct load_shared *client, uint64_t done_count,
               int64_t now_ns)
{
    if (atomic_load_explicit(&client->header->start_ns, memory_order_relaxed) == 0) {
        live->at_ns = now_ns; /* it connects */
        live->cpu_ns = cpu_ns(live);
        return;
    }
    if (now_ns - live->at_ns < LOOK_EVERY_NS) {
        return;
    }
    double seconds = (double)(now_ns - live->at_ns) / 1e9;
    uint64_t offered = load_get(&client->header->offered_count);
    int64_t cpu = cpu_ns(live);
    bool open = client->header->options.mode != LOAD_CLOSED;
    live->seen.offered_per_s =
        open ? (double)(offered - live->offered_count) / seconds : STATS_UNKNOWN;
    live->seen.done_per_s = (double)(done_count - live->done_count) / seconds;
    live->seen.cpu_frac = cpu >= 0 && live->cpu_ns >= 0
                              ? (double)(cpu - live->cpu_ns) / 1e9 / seconds
                              : STATS_UNKNOWN;
    look_at_tails(live, client);
    live->at_ns = now_ns;
    live->offered_count = offered;
    live->done_count = done_count;
    live->cpu_ns = cpu;
}
