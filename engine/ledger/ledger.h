/*
 * ledger.h - the shared memory where every process of a serving system counts what it does, and
 * where the harness reads it (law 3: what is measured is counted where it happens).
 *
 * One memfd, passed by inheritance, mapped by all (the harness writes the topology once and reads
 * from then on). It holds
 *   - the topology (configuration, read-only for all but the harness);
 *   - one slot a thread: who it is, and its counters. Only the owning thread writes a slot; readers
 * take relaxed loads;
 *   - one record a request: a time stamp for each hop. Each stamp has exactly one writer;
 *   - one metrics block an API server: vLLM's Prometheus counters and histograms (metrics.h);
 *   - one lane of events a process (events.h).
 * All times are CLOCK_MONOTONIC in ns, which is the same clock in all processes of a machine.
 *
 *     harness:   ledger_create(&topology, &ledger, error); start launcher with ledger.fd inherited
 * as fd 3 process:   ledger_open(3, &ledger, error); struct ledger_thread *me =
 * ledger_thread_claim(&ledger, THREAD_ENGINE_MAIN, rank, 0); ledger_add(&me->steps_count, 1);
 */
#ifndef ENGINE_LEDGER_LEDGER_H
#define ENGINE_LEDGER_LEDGER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/ledger/histogram.h"
#include "engine/ledger/topology.h"

enum {
    LEDGER_VERSION = 2,
    LEDGER_THREADS_MAX = 4096, /* the largest topology (64 x 16 workers) has 2,306 */
    LEDGER_FD = 3,             /* where the launcher and its children inherit the ledger */
    LEDGER_RECORDS_PER_API_SERVER =
        1 << 16, /* a ring; older requests are overwritten and counted as lost */
};

/* X(NAME, "kind", "stage"): every kind of thread there is. The kind is what threads.csv and /proc
 * comparisons use. */
#define LEDGER_THREAD_KINDS(X)                        \
    X(LAUNCHER_MAIN, "launcher", "launcher")          \
    X(API_MAIN, "api_server", "api_server")           \
    X(COORDINATOR_MAIN, "coordinator", "coordinator") \
    X(ENGINE_MAIN, "engine_core", "scheduler")        \
    X(ENGINE_INPUT, "engine_input", "ipc")            \
    X(ENGINE_OUTPUT, "engine_output", "ipc")          \
    X(WORKER_MAIN, "worker", "launch")                \
    X(WORKER_OUTPUT, "worker_output", "worker_output")

enum ledger_thread_kind {
#define X(name, kind, stage) THREAD_##name,
    LEDGER_THREAD_KINDS(X)
#undef X
    THREAD_KINDS_COUNT
};

const char *ledger_thread_kind_name(enum ledger_thread_kind kind);
const char *ledger_thread_stage(enum ledger_thread_kind kind);

enum ledger_thread_state {
    LEDGER_THREAD_FREE,
    LEDGER_THREAD_LIVE,
    LEDGER_THREAD_ENDED
};

/* X(launch class): what the launch-level table of engine/device/gpu.h counts. */
#define LEDGER_LAUNCH_CLASSES(X) \
    X(KERNEL, "kernel")          \
    X(GRAPH, "graph")            \
    X(COPY, "copy")              \
    X(SYNC, "sync")

enum ledger_launch_class {
#define X(name, text) LAUNCH_CLASS_##name,
    LEDGER_LAUNCH_CLASSES(X)
#undef X
    LAUNCH_CLASSES_COUNT
};

typedef _Atomic uint64_t ledger_counter;

/* One thread. Busy time is what is not waiting; cpu_ns is sampled from the thread's CPU clock at
 * turns of its loop. */
struct ledger_thread {
    /* enum ledger_thread_state; set last when claimed. Slots share no cache line: each has another
     * writer. */
    _Alignas(64) _Atomic uint32_t state;
    uint32_t kind;     /* enum ledger_thread_kind */
    uint32_t instance; /* API server index, engine rank, ... */
    uint32_t sub;      /* worker index within its engine core */
    int32_t pid;
    int32_t tid;
    ledger_counter started_ns;
    ledger_counter beat_ns;      /* last turn of its loop: for the no-progress alarm */
    ledger_counter busy_ns;      /* wall time between waits, emulated occupancy included */
    ledger_counter occupancy_ns; /* emulated host time booked by the host profile */
    ledger_counter cpu_ns;       /* real CPU time */
    ledger_counter turns_count;  /* turns of its loop */
    ledger_counter messages_in_count;
    ledger_counter messages_out_count;
    ledger_counter bytes_in;
    ledger_counter bytes_out;
    ledger_counter requests_count; /* requests accepted (API server, engine core) */
    ledger_counter finished_count; /* requests ended (API server, engine core) */
    ledger_counter failed_count;   /* requests ended with an error */
    ledger_counter prompt_tokens;
    ledger_counter
        output_tokens; /* tokens handled (API server: written to clients; engine core: sampled) */
    ledger_counter queue_max; /* high-water mark of the queue that queue_length_ns is of */
    /* engine core */
    ledger_counter steps_count;
    ledger_counter
        backlog_steps_count; /* steps that left requests waiting: the batch could not be larger */
    ledger_counter
        step_seqs; /* sum of sequences over steps: batch mean = step_seqs / steps_count */
    ledger_counter step_tokens; /* sum of scheduled tokens */
    ledger_counter step_ns;     /* sum of the times from submit to completion */
    ledger_counter running_now;
    ledger_counter waiting_now;
    ledger_counter preemptions_count;
    ledger_counter kv_used_blocks;
    /* engine core in lock-step */
    ledger_counter waves_count;        /* that this rank saw end */
    ledger_counter dummy_steps_count;  /* forwards without tokens, for the sake of others */
    ledger_counter collective_wait_ns; /* of sync_wait_ns: for other ranks */
    /* launching threads */
    ledger_counter launches_count[LAUNCH_CLASSES_COUNT];
    ledger_counter
        launch_ns[LAUNCH_CLASSES_COUNT]; /* inside launch calls, queue-full time excluded */
    ledger_counter prepare_ns; /* all but the other four: plans taken, inputs built, results sent;
                                  on an engine core that launches itself scheduling too */
    ledger_counter queue_full_ns; /* blocked because the device queue was full */
    ledger_counter sync_wait_ns;  /* waiting for results */
    ledger_counter idle_ns;       /* waiting for work */
    ledger_counter gpu_busy_ns;   /* device time of this thread's steps */
    ledger_counter gpu_idle_ns;   /* device idle between two of this thread's steps while work was
                                     ready on the host */
    ledger_counter launch_max_ns;
    /* Where a GPU's time goes that runs nothing, from its first moment to its last launch's begin;
     * with gpu_busy_ns, and summed over the threads that share a GPU, it is all of its time. */
    ledger_counter gpu_idle_late_ns;   /* the host had work ready and had not launched it */
    ledger_counter gpu_idle_absent_ns; /* no host had work for it */
    ledger_counter gpu_switch_ns;      /* shared GPU: changing to this thread's context */
    /* Length of its queue x time, whose growth over a time is the mean length. Engine core:
     * requests without a place, those that were just received included; its output thread:
     * messages. */
    ledger_counter queue_length_ns;
    /* Emulated interpreter lock that the threads of an engine core take in turn. */
    ledger_counter lock_held_ns;
    ledger_counter lock_wait_ns;      /* from asking for it to having it */
    struct ledger_histogram waits;    /* of what the thread takes in, in front of it */
    struct ledger_histogram steps;    /* engine core: from submission to completion */
    struct ledger_histogram launches; /* one kernel or graph, queue-full time excluded */
    struct ledger_histogram gaps;     /* device of its own: idle between two kernels or graphs */
};

/* Hops of a request, in the order in which they happen. The client's own stamps (sent, first, last)
 * stand in its records. */
#define LEDGER_HOPS(X)                                                                           \
    X(API_RECEIVED, "api_received")             /* request's last byte read by the API server */ \
    X(API_SENT, "api_sent")                     /* ADD handed to the socket */                   \
    X(ENGINE_RECEIVED, "engine_received")       /* decoded by the engine core's input thread */  \
    X(ENGINE_SCHEDULED, "engine_scheduled")     /* first in a submitted step */                  \
    X(ENGINE_FIRST_TOKEN, "engine_first_token") /* step with its first token completed */        \
    X(API_FIRST_OUTPUT, "api_first_output")     /* that message decoded by the API server */     \
    X(API_FIRST_WRITE, "api_first_write")       /* first event written to the client's socket */ \
    X(ENGINE_LAST_TOKEN, "engine_last_token")                                                    \
    X(API_LAST_OUTPUT, "api_last_output")                                                        \
    X(API_LAST_WRITE, "api_last_write")

enum ledger_hop {
#define X(name, text) HOP_##name,
    LEDGER_HOPS(X)
#undef X
    HOPS_COUNT
};
const char *ledger_hop_name(enum ledger_hop hop);
const char *ledger_launch_class_name(enum ledger_launch_class launch_class);

/*
 * One request. Its record is number n mod LEDGER_RECORDS_PER_API_SERVER of its API server's ring.
 * `serial` names ring place and round: bits 0-15 the place, 16-21 the API server, 22-31 the round;
 * it is also the 8 hex digits at the end of the request's internal id, which is how an engine core
 * finds the record.
 */
struct ledger_record {
    _Atomic uint64_t client_number; /* number in the client's X-Request-Id + 1; 0: record unused or
                                       request without one */
    _Atomic int64_t hop_ns[HOPS_COUNT]; /* 0: not reached */
    _Atomic uint32_t serial; /* whose record this is: late stamps of an overwritten request miss */
    uint32_t api_server;
    uint32_t engine; /* rank, UINT32_MAX until routed */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    _Atomic uint32_t output_tokens;
    _Atomic uint32_t finish; /* enum finish_reason + 1; 0 while open */
};

struct ledger_header;

struct ledger {
    struct ledger_header *header;
    const struct topology *topology;
    struct ledger_thread *threads; /* [LEDGER_THREADS_MAX] */
    struct ledger_record *records; /* [records_count] */
    struct metrics_block *metrics; /* [api_servers_count], see metrics.h */
    struct event_lane *lanes;      /* [EVENT_LANES], see events.h */
    uint32_t records_count;
    size_t bytes;
    int fd;
};

/* Harness: a new ledger with `topology` in it. Pages are touched as they are used. */
MUST_CHECK enum status ledger_create(const struct topology *topology, struct ledger *out,
                                     struct error *error);
/* A process of the system: maps an inherited ledger. PROTOCOL: not a ledger, or of another version.
 */
MUST_CHECK enum status ledger_open(int fd, struct ledger *out, struct error *error);
void ledger_close(struct ledger *l);
/* Harness, before it starts the launchers that join node 0: where node 0 listens for them. */
void ledger_set_handshake_port(struct ledger *l, uint32_t port);

/* The run clock's origin: CLOCK_MONOTONIC in ns when the ledger was created. */
int64_t ledger_epoch_ns(const struct ledger *l);

/* A slot for the calling thread (pid and tid are its own). Aborts when LEDGER_THREADS_MAX are
 * taken. */
struct ledger_thread *ledger_thread_claim(struct ledger *l, enum ledger_thread_kind kind,
                                          uint32_t instance, uint32_t sub);
void ledger_thread_end(struct ledger_thread *t);
/* Number of slots that were ever claimed: readers look at threads[0 .. count). */
uint32_t ledger_threads_count(const struct ledger *l);

/* Owner-only addition: a plain load and store, no locked instruction. */
static inline void ledger_add(ledger_counter *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}
static inline void ledger_set(ledger_counter *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}
static inline uint64_t ledger_get(const ledger_counter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}
static inline void ledger_stamp(struct ledger_record *record, enum ledger_hop hop, int64_t now_ns)
{
    atomic_store_explicit(&record->hop_ns[hop], now_ns, memory_order_relaxed);
}

/* The thread takes in a request that has waited for it since the hop; nothing without that stamp.
 */
static inline void ledger_add_wait(struct ledger_thread *thread, const struct ledger_record *record,
                                   enum ledger_hop since, int64_t now_ns)
{
    int64_t since_ns = atomic_load_explicit(&record->hop_ns[since], memory_order_relaxed);
    if (since_ns > 0) {
        ledger_histogram_add(&thread->waits, now_ns - since_ns);
    }
}

/* Requests of `api_server` that got a record, and how many of those records were overwritten since.
 */
uint64_t ledger_records_begun(const struct ledger *l, uint32_t api_server);
uint64_t ledger_records_lost(const struct ledger *l, uint32_t api_server);

/* A fresh record of API server `api_server` (its n-th request); clears what the ring held there.
 * Returns its serial. */
uint32_t ledger_record_begin(struct ledger *l, uint32_t api_server, uint64_t n);
/* NULL: the ring has given the place to a later request since, or `serial` names none. */
struct ledger_record *ledger_record_of_serial(struct ledger *l, uint32_t serial);
/* The record named by an internal request id (its last 8 hex digits), or NULL likewise. */
struct ledger_record *ledger_record_of_id(struct ledger *l, const char *internal_id);

#endif
