/*
 * shared.h - what the load client measures, in shared memory: one memfd that the harness creates,
 * fills with options and hands to the client by inheritance. The client is the only writer and
 * writes as things happen, so that nothing measured is lost when the client or the server dies; the
 * harness maps it too and may read at any time (relaxed loads).
 *
 *     harness:  load_shared_create(&options, &shared, error); start the client with shared.fd
 * inherited client:   load_shared_open(fd, &shared, error); load_run(&shared.header->options,
 * &shared, error); harness:  wait for header->phase >= LOAD_PHASE_WARMUP, then snapshot the
 * server's counters at window_start_ns and window_end_ns, which stand there before they happen
 *
 * All times are CLOCK_MONOTONIC in ns; 0 means that it did not happen.
 */
#ifndef HARNESS_LOAD_SHARED_H
#define HARNESS_LOAD_SHARED_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "harness/load/histogram.h"
#include "harness/load/options.h"

enum {
    LOAD_SHARED_VERSION = 3,
    LOAD_RECORDS_COUNT =
        1 << 20, /* a ring: older requests are overwritten and counted in records_lost */
    LOAD_BUCKETS_COUNT = 1 << 16, /* of the timeline; the last one takes what comes later */
    LOAD_BUCKET_NS = 100000000,
};

#define LOAD_API_SERVER_NONE UINT32_MAX
/* How long before it happens the window's edge is moved: time to hear of it. */
#define LOAD_WINDOW_NOTICE_NS ((int64_t)100000000)

enum load_phase {
    LOAD_PHASE_INIT,
    LOAD_PHASE_CONNECT,
    LOAD_PHASE_WARMUP,
    LOAD_PHASE_WINDOW,
    LOAD_PHASE_DRAIN,
    LOAD_PHASE_DONE /* records and counters are final */
};

/* X(NAME, "text"): how a request ended. */
#define LOAD_OUTCOMES(X)                                                                   \
    X(OPEN, "open")       /* not ended (yet) */                                            \
    X(OK, "ok")           /* 2xx, a terminal event, a finish_reason, at least 1 token */   \
    X(CONNECT, "connect") /* no connection */                                              \
    X(TIMEOUT, "timeout")                                                                  \
    X(HTTP_4XX, "http_4xx")                                                                \
    X(HTTP_5XX, "http_5xx")   /* an error event in a stream too */                         \
    X(RESET, "reset")         /* connection lost before the status line, or by a reset */  \
    X(TRUNCATED, "truncated") /* ended without its terminal event or finish_reason */      \
    X(EMPTY, "empty")         /* complete, without a token */                              \
    X(PARSE, "parse")         /* no HTTP, or an event that is no JSON object */            \
    X(CANCELLED, "cancelled") /* aborted by the client at the end: censored, no failure */ \
    X(DROPPED, "dropped")     /* never sent */

enum load_outcome {
#define X(name, text) LOAD_OUTCOME_##name,
    LOAD_OUTCOMES(X)
#undef X
    LOAD_OUTCOMES_COUNT
};

const char *load_outcome_name(enum load_outcome outcome);

/* Where completion_tokens comes from. */
enum load_token_basis {
    LOAD_BASIS_NONE,
    LOAD_BASIS_USAGE,
    LOAD_BASIS_TOKEN_IDS,
    LOAD_BASIS_EVENTS
};

struct load_record {
    _Atomic uint64_t number_plus_1; /* 0: unused. Written last when a record begins */
    _Atomic uint32_t outcome;       /* enum load_outcome. Written last when it ends */
    uint32_t connection;            /* closed: the user */
    int64_t t_sched_ns;
    int64_t t_sent_ns;  /* first send() returned */
    int64_t t_hdr_ns;   /* response head complete */
    int64_t t_evt_ns;   /* first event */
    int64_t t_first_ns; /* first event with content */
    int64_t t_last_ns;  /* last one */
    int64_t t_done_ns;  /* [DONE] or end of body; of a failure: when it was noticed */
    uint32_t prompt_tokens_asked;
    uint32_t output_tokens_asked;
    uint32_t prompt_tokens; /* by usage, else 0 */
    uint32_t completion_tokens;
    uint32_t content_events_count;
    uint32_t
        coalesced_events_count; /* content events that came with an earlier one in the same read */
    int64_t stall_max_ns;       /* greatest gap between content events */
    double gap_sumsq_ms2; /* sum of the squares of these gaps; their sum is t_last - t_first */
    uint32_t http_status;
    uint32_t api_server;  /* LOAD_API_SERVER_NONE */
    uint32_t trace_line;  /* 0: none */
    uint32_t token_basis; /* enum load_token_basis */
};

/* One event with `choices`, kept if load_options.events_max asks for it; the first of them. Those
 * of one request stand in the order of their times, between those of others. */
struct load_event {
    uint64_t number; /* of the request */
    int64_t at_ns;
    uint32_t tokens; /* 0: without content. Where the server names no count: 1 */
    uint32_t padding;
};

/* 100 ms of the run, from start_ns. */
struct load_bucket {
    _Atomic uint32_t offered_count; /* by t_sched */
    _Atomic uint32_t sent_count;
    _Atomic uint32_t done_count; /* any outcome but dropped */
    _Atomic uint32_t tokens;
    _Atomic uint32_t inflight_max;
    _Atomic uint32_t inflight_plus_1; /* at the last change within the bucket; 0: no change */
};

typedef _Atomic uint64_t load_counter;

struct load_header {
    uint32_t magic;
    uint32_t version;
    uint64_t bytes;
    struct load_options options;

    _Atomic uint32_t phase; /* enum load_phase */
    _Atomic int32_t pid;
    _Atomic int64_t start_ns; /* of the load: the warm-up begins */
    _Atomic int64_t window_start_ns;
    _Atomic int64_t window_end_ns; /* moved forward if the load ends before it, back (at least
                                      LOAD_WINDOW_NOTICE_NS / 2 before it) if the window is made
                                      longer */
    _Atomic int64_t batch_ns;      /* width of a batch; a window that is cut leaves its last batches
                                      short or empty, one that is made longer can too */
    _Atomic int64_t drain_end_ns;
    _Atomic int64_t end_ns;
    _Atomic int64_t cpu_window_start_ns; /* CPU time of the client's thread */
    _Atomic int64_t cpu_window_end_ns;
    _Atomic uint32_t window_cut;  /* bool: the load ended before its window */
    _Atomic uint32_t stopped;     /* bool: by SIGTERM */
    _Atomic uint32_t server_lost; /* bool: no connection for 2 s */

    _Atomic uint32_t status; /* enum status that load_run() ended with; valid in LOAD_PHASE_DONE */
    char error_text[500];    /* what it said */

    load_counter offered_count; /* taken from the schedule, sent or not */
    load_counter sent_count;
    load_counter outcome_count[LOAD_OUTCOMES_COUNT];
    load_counter records_lost;
    load_counter inflight;
    load_counter inflight_max;
    load_counter inflight_window_ns; /* integral of in-flight over the window */
    load_counter events_count;       /* kept */
    load_counter events_lost_count;  /* no room for them */
    load_counter tokens;
    load_counter content_events_count;
    load_counter coalesced_events_count;
    load_counter reads_count;
    load_counter turns_count;
    load_counter bytes_in;
    load_counter full_count; /* arrivals that found every connection busy */
    load_counter connects_count;
    load_counter connect_failures_count;
    load_counter connect_ns_sum;
    load_counter connect_ns_max;
    load_counter balance_tries_count; /* connections opened to balance them */
    load_counter trace_requests_count;
    load_counter trace_refused_zero_count;
    load_counter trace_refused_length_count;
    load_counter trace_refused_unsorted_count;
    /* connections per API server: when the load starts with `balance`, else as responses name it */
    load_counter connections_count[LOAD_API_SERVERS_MAX];

    /* Tokens emitted in each batch of the window; the last column takes those of an unknown API
     * server. */
    load_counter window_tokens[LOAD_BATCHES_MAX][LOAD_API_SERVERS_MAX + 1];
    /* Requests with outcome ok whose last token lies in the batch. */
    load_counter window_ok_count[LOAD_BATCHES_MAX];
    struct histogram icl; /* gaps between content events in the window, ns */
    struct histogram itl; /* the same divided by, and weighted with, the later event's tokens */
};

struct load_shared {
    struct load_header *header;
    struct load_bucket *timeline; /* [LOAD_BUCKETS_COUNT] */
    struct load_record *records;  /* [LOAD_RECORDS_COUNT], a request's place: its rank among
                                    those that began, modulo that */
    struct load_event *events;    /* [options.events_max] */
    size_t bytes;
    int fd;
};

/* Pages are touched as they are used: the region is large but costs little. */
MUST_CHECK enum status load_shared_create(const struct load_options *options,
                                          struct load_shared *out, struct error *error);
/* PROTOCOL: not a load region, or of another version. Takes `fd`. */
MUST_CHECK enum status load_shared_open(int fd, struct load_shared *out, struct error *error);
void load_shared_close(struct load_shared *shared);

/* Owner-only addition: a plain load and store, no locked instruction. */
static inline void load_add(load_counter *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}
static inline uint64_t load_get(const load_counter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}
/* Tokens of a batch over all API servers. */
uint64_t load_batch_tokens(const struct load_header *header, uint32_t batch);
/* Tokens of the window by API server (LOAD_API_SERVERS_MAX: unknown ones). */
uint64_t load_window_tokens_of(const struct load_header *header, uint32_t api_server);
uint64_t load_window_tokens(const struct load_header *header);

#endif
