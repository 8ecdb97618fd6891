/*
 * options.h - everything that decides what the load client does, as plain fixed-size data: the
 * harness writes it at the head of the shared region (shared.h) and the client process reads it
 * there. No pointers, no allocation, no I/O.
 */
#ifndef HARNESS_LOAD_OPTIONS_H
#define HARNESS_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "harness/load/lengths.h"

enum {
    LOAD_API_SERVERS_MAX = 64,
    LOAD_TARGETS_MAX = 16,
    LOAD_BATCHES_MAX = 64,
    LOAD_CONNECTIONS_MAX = 1 << 16, /* of a client with sockets */
    LOAD_INFLIGHT_MAX = 1 << 20,    /* of a simulated one */
    LOAD_TOKENS_MAX = 1 << 20,      /* of one prompt or one output */
    LOAD_TURNS_MAX = 1000,
    LOAD_EVENTS_MAX = 1 << 24,  /* that can be kept one by one */
    LOAD_WINDOW_TIMES_MAX = 16, /* the window asked for, for the sake of min_cycles_count */
};

enum load_mode {
    LOAD_CLOSED,        /* users_count users, each sends its next request when its last one ended */
    LOAD_OPEN_POISSON,  /* rate_per_s, exponential gaps */
    LOAD_OPEN_CONSTANT, /* rate_per_s, equal gaps */
    LOAD_OPEN_GAMMA,  /* rate_per_s, gamma distributed gaps with coefficient of variation gap_cv */
    LOAD_OPEN_BURSTS, /* burst_count at once, every burst_every_ns, the first at the start */
    LOAD_TRACE        /* the times of the trace, divided by time_scale */
};

/* What an arrival does when every connection is busy. It is counted in full_count in either case.
 */
enum load_full {
    LOAD_FULL_WAIT, /* goes out late; its lag shows it */
    LOAD_FULL_DROP  /* recorded as dropped */
};

enum trace_format {
    TRACE_AUTO, /* by the first line: '{' is JSON lines (requests if they name output_tokens, else
                   Mooncake's), anything else CSV */
    TRACE_AZURE_CSV,
    TRACE_MOONCAKE_JSONL,
    TRACE_REQUESTS_JSONL
};

struct load_target {
    char host[128]; /* IPv4 address, or "unix:PATH" (then the port is not used) */
    uint32_t port;
};

struct load_options {
    /* Servers that serve the same: connections are divided evenly among them, and open modes send
     * to each in turn. */
    struct load_target targets[LOAD_TARGETS_MAX];
    uint32_t targets_count;
    char model[64];
    uint32_t mode;         /* enum load_mode */
    uint32_t users_count;  /* closed: users, each with a connection of its own */
    int64_t think_mean_ns; /* closed: exponential time between an answer and the user's next request
                            */
    uint32_t turns_count;  /* closed: requests of a session, each prompt an extension of the one
                              before (schedule.h); 0, 1: requests have nothing to do with each other
                            */
    double rate_per_s;     /* open, but for LOAD_OPEN_BURSTS */
    double gap_cv;         /* LOAD_OPEN_GAMMA: 0.01..10; 1 is Poisson */
    uint32_t burst_count;
    int64_t burst_every_ns;
    uint64_t requests_max; /* 0: no limit but the window (and the trace's end) */
    uint64_t seed;

    /* Lengths. With a trace the lengths are the trace's, whatever the mode (from its start again
     * when it ends, except in LOAD_TRACE). */
    struct load_range prompt_tokens;
    struct load_range output_tokens;
    uint32_t residual_first_outputs; /* bool, closed: see schedule.h */
    uint32_t residual_users_count;   /* how many users that concerns; 0: all */
    double shared_prefix;   /* fraction 0..1 of a prompt that is common to all; not for traces with
                               hash ids */
    char trace_path[512];   /* "": no trace */
    uint32_t trace_format;  /* enum trace_format */
    uint32_t max_model_len; /* requests of a trace that do not fit are refused and counted; 0: no
                               limit */
    double time_scale;      /* 4: four times as fast */

    double temperature;        /* sent with every request */
    uint32_t stream;           /* bool */
    uint32_t ignore_eos;       /* bool */
    uint32_t continuous_usage; /* bool: ask for the token count in every event */

    int64_t warmup_ns;         /* at most: LOAD_WINDOW_SIGNAL ends it earlier */
    int64_t window_ns;         /* 0, open modes with an end: up to the last arrival */
    uint32_t min_cycles_count; /* open modes: a window that turns out shorter than that many mean
                                  request times is made twice, three times, ... as long, at most
                                  LOAD_WINDOW_TIMES_MAX times; 0: it never is */
    int64_t
        drain_ns; /* open: how long requests may finish after the window; 0: aborted at its end */
    uint32_t batches_count;
    uint64_t events_max; /* how many events with `choices` are kept one by one (shared.h); 0: none
                          */

    uint32_t connections_count; /* open modes: opened before the load starts. Closed: users_count */
    uint32_t on_full;           /* enum load_full */
    uint32_t balance; /* bool: every API server gets an equal number of connections. Of several
                         targets the first has API servers 0, 1, ..., the next as many more */
    uint32_t api_servers_count;
    int64_t connect_timeout_ns; /* for all connections before the load starts; 0: 10 s */
    int64_t request_timeout_ns; /* 0: none */
    int64_t
        pace_spin_ns; /* open: busy-wait this long before a send time (at most 50 us); 0: none */
};

/* Whether users hold sessions of several requests. */
bool load_has_sessions(const struct load_options *o);
/* The longest prompt that can come up, by the ranges of the lengths. */
uint64_t load_prompt_tokens_max(const struct load_options *o);
/* Connections that are opened before the load starts. */
uint32_t load_connections_count(const struct load_options *o);
/* INVALID with the name of the option that makes no sense. */
MUST_CHECK enum status load_options_check(const struct load_options *o, struct error *error);

#endif
