/*
 * probe.h - reads a running (or ended) serving system's ledger: snapshots of every thread's
 * counters, rates between two of them, and the hops of each request. Only reads; driven by the
 * harness's commands.
 *
 *     struct probe_snapshot a, b;
 *     TRY(probe_snapshot(&ledger, &a, error));  ...measure...  TRY(probe_snapshot(&ledger, &b,
 * error)); struct probe_rates r; for (uint32_t i = 0; i < b.threads_count; i++) if (probe_diff(&a,
 * &b, i, &r)) ...
 */
#ifndef HARNESS_PROBE_PROBE_H
#define HARNESS_PROBE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/ledger/ledger.h"

#define PROBE_UNKNOWN __builtin_nan("") /* NAN: nothing to divide by, or a stamp is missing */

/* Copy of all claimed slots. Read its counters with ledger_get(). */
struct probe_snapshot {
    int64_t at_ns; /* CLOCK_MONOTONIC */
    uint32_t threads_count;
    struct ledger_thread
        *threads; /* [threads_count]; slot i is the same thread in every snapshot */
};

MUST_CHECK enum status probe_snapshot(const struct ledger *l, struct probe_snapshot *out,
                                      struct error *error);
void probe_snapshot_free(struct probe_snapshot *s);

/* What one thread did between two snapshots. Fractions are of wall time (or of its life, if it
 * started in between). */
struct probe_rates {
    enum ledger_thread_kind kind;
    const char *stage;
    uint32_t instance;
    uint32_t sub;
    int32_t pid;
    int32_t tid;
    bool live; /* at the second snapshot */
    double wall_s;
    double busy_frac;
    double occupancy_frac;
    double cpu_frac;
    double turns_per_s;
    double messages_in_per_s;
    double messages_out_per_s;
    double bytes_in_per_s;
    double bytes_out_per_s;
    double requests_per_s;
    double finished_per_s;
    uint64_t failed_count;
    double prompt_tokens_per_s;
    double output_tokens_per_s;
    uint64_t output_tokens;
    uint64_t occupancy_ns;
    uint64_t queue_max;    /* since the start of the run */
    double queue_mean;     /* of a queue of this program's own */
    double lock_held_frac; /* interpreter lock */
    double lock_wait_frac;
    /* From histograms (engine/ledger/histogram.h): within 6.25 %. NAN: fewer than 5 samples for a
     * median, than 299 for a 99th percentile. */
    double wait_p50_us;
    double wait_p99_us;
    double step_p50_us;
    double step_p99_us;
    double launch_p50_us;
    double launch_p99_us;
    double gpu_gap_p50_us;
    /* engine core */
    double steps_per_s;
    double batch_mean; /* sequences a step; NAN without steps */
    double step_mean_us;
    double waves_per_s; /* lock-step */
    double dummy_steps_per_s;
    double collective_wait_frac; /* of sync_wait_frac: for other ranks */
    uint64_t preemptions_count;
    uint64_t running_now;
    uint64_t waiting_now;
    uint64_t kv_used_blocks;
    /* launching threads; means are NAN without launches of the class */
    double launches_per_s[LAUNCH_CLASSES_COUNT];
    double launch_mean_us[LAUNCH_CLASSES_COUNT];
    double launch_frac; /* time inside launch calls, SYNC left out */
    double prepare_frac;
    double queue_full_frac;
    double sync_wait_frac;
    double idle_frac;
    double gpu_busy_frac;
    double gpu_idle_frac;    /* starved: device idle while work was ready on the host */
    double gpu_absent_frac;  /* device idle, and no host had work for it */
    double gpu_switch_frac;  /* shared GPU: changing to this thread's context */
    uint64_t launch_max_ns;  /* since the start of the run */
    double output_wait_frac; /* a worker that schedules asynchronously: its output thread's time
                                waiting for results, idle_frac of the launching thread meanwhile.
                                NAN: it waits itself (sync_wait_frac), or the reader of a whole
                                system has not joined the two */
};

/* Slot `index` of `b` against `a`. False: the slot was not in use yet at b, or no time passed. */
bool probe_diff(const struct probe_snapshot *a, const struct probe_snapshot *b, uint32_t index,
                struct probe_rates *out);

/* One request as the serving system saw it. */
struct probe_request {
    uint64_t client_number; /* the number in X-Request-Id: joins with the client's own record */
    int64_t hop_ns[HOPS_COUNT];
    uint32_t api_server;
    uint32_t engine; /* UINT32_MAX: never routed */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t output_tokens;
    uint32_t finish; /* enum finish_reason + 1; 0 while open */
};

struct probe_requests {
    struct probe_request *rows; /* sorted by client_number */
    size_t count;
    uint64_t
        begun_count; /* requests that ever got a record, those without a client number included */
    uint64_t lost_count; /* overwritten since: their hops are not known */
};

MUST_CHECK enum status probe_requests_read(const struct ledger *l, struct probe_requests *out,
                                           struct error *error);
void probe_requests_free(struct probe_requests *r);
/* Of rows that came in another order: as probe_requests_find() needs them. */
void probe_requests_sort(struct probe_requests *r);
const struct probe_request *probe_requests_find(const struct probe_requests *r,
                                                uint64_t client_number);

/*
 * A request's time, hop by hop. The parts of `ttft` telescope to first - sent exactly, those of
 * `e2e` to last - sent, where sent, first and last are the client's stamps. X(NAME, "name", where
 * it ends)
 */
#define PROBE_TTFT_PARTS(X)                             \
    X(NET_IN, "client_to_api", API_RECEIVED)            \
    X(API_IN, "api_in", API_SENT)                       \
    X(IPC_IN, "ipc_in", ENGINE_RECEIVED)                \
    X(QUEUE, "queue", ENGINE_SCHEDULED)                 \
    X(PREFILL, "prefill", ENGINE_FIRST_TOKEN)           \
    X(FIRST_IPC_OUT, "first_ipc_out", API_FIRST_OUTPUT) \
    X(FIRST_API_OUT, "first_api_out", API_FIRST_WRITE)

enum probe_part {
#define X(name, text, hop) PROBE_PART_##name,
    PROBE_TTFT_PARTS(X)
#undef X
    PROBE_PART_FIRST_NET_OUT, /* written by the API server to read by the client */
    PROBE_PART_DECODE,        /* first to last token on the engine core */
    PROBE_PART_LAST_IPC_OUT,
    PROBE_PART_LAST_API_OUT,
    PROBE_PART_LAST_NET_OUT,
    PROBE_PARTS_COUNT
};

const char *probe_part_name(enum probe_part part);

struct probe_parts {
    double us[PROBE_PARTS_COUNT]; /* NAN: one of the two stamps is missing. May be negative: two
                                     clocks' edges */
};

/*
 * ttft = NET_IN + API_IN + IPC_IN + QUEUE + PREFILL + FIRST_IPC_OUT + FIRST_API_OUT + FIRST_NET_OUT
 * e2e  = NET_IN + API_IN + IPC_IN + QUEUE + PREFILL + DECODE + LAST_IPC_OUT + LAST_API_OUT +
 * LAST_NET_OUT Client stamps of 0 leave the parts that need them NAN.
 */
void probe_request_parts(const struct probe_request *r, int64_t sent_ns, int64_t first_ns,
                         int64_t last_ns, struct probe_parts *out);

#endif
