/*
 * mock_plan.h - when the mock sends what: the schedule of one stream, from the options and the
 * request's number alone. The server (mock_server.c) follows it and stamps what it did. Pure: no
 * I/O, no clock, no state; equal arguments give equal answers.
 *
 * A stream's token events are sent in writes of `events_each_write`. Times are offsets from the
 * arrival of the request, in server time: a clock that stands still in a stall.
 */
#ifndef HARNESS_LOAD_MOCK_PLAN_H
#define HARNESS_LOAD_MOCK_PLAN_H

#include <stdbool.h>
#include <stdint.h>

enum {
    MOCK_EVENTS_EACH_WRITE_MAX = 32,
    MOCK_TOKENS_MAX = 1 << 20, /* of one request */
};

#define MOCK_NO_RESET UINT32_MAX

enum mock_usage {
    MOCK_USAGE_ASKED, /* a usage event if the request asks for one */
    MOCK_USAGE_ALWAYS,
    MOCK_USAGE_NEVER
};

/* Shares are 0..1, of streams or of writes; which ones they hit is drawn from the seed. */
struct mock_options {
    uint64_t seed;
    int64_t ttft_ns;
    int64_t itl_ns;
    uint32_t tokens_default;    /* of a request without max_tokens; 0: 128 */
    uint32_t tokens_each_event; /* 0: 1 */
    uint32_t events_each_write; /* 0: 1; at most MOCK_EVENTS_EACH_WRITE_MAX */
    double cut_share;           /* of writes: cut inside their last event; the rest comes later */
    int64_t cut_gap_ns;
    int64_t stall_at_ns; /* after the first request */
    int64_t stall_for_ns;
    double reset_share; /* of streams: a TCP reset in mid-stream */
    double empty_share; /* of writes: an event without text half a gap before it */
    double error_share; /* of requests: 500 at once */
    uint32_t usage;     /* enum mock_usage */
};

struct mock_plan {
    uint64_t request;
    uint32_t tokens_count;
    uint32_t events_count; /* with tokens */
    uint32_t writes_count;
    uint32_t reset_write; /* in whose place the reset comes; MOCK_NO_RESET */
    bool error;
    int64_t phase_ns; /* 0 .. itl_ns: streams that begin together do not send together */
};

/* `tokens` is 1 or more. */
void mock_plan_make(const struct mock_options *options, uint64_t request, uint32_t tokens,
                    struct mock_plan *plan);
/* Events with tokens that are complete after `write`. */
uint32_t mock_plan_events_through(const struct mock_options *options, const struct mock_plan *plan,
                                  uint32_t write);
/* Tokens up to and with `event`. */
uint32_t mock_plan_tokens_through(const struct mock_options *options, const struct mock_plan *plan,
                                  uint32_t event);
/* When a write is due: when the last token in it is. */
int64_t mock_plan_due_ns(const struct mock_options *options, const struct mock_plan *plan,
                         uint32_t write);
/* When the event without text before a write is due; -1: there is none. */
int64_t mock_plan_empty_ns(const struct mock_options *options, const struct mock_plan *plan,
                           uint32_t write);
/* Where in its last event, of `bytes`, a write is cut: 1 .. bytes - 1; 0: not at all. */
uint32_t mock_plan_cut(const struct mock_options *options, const struct mock_plan *plan,
                       uint32_t write, uint32_t bytes);

/* All streams stand still for for_ns from start_ns; for_ns 0: never. */
struct mock_stall {
    int64_t start_ns;
    int64_t for_ns;
};

int64_t mock_server_time_ns(const struct mock_stall *stall, int64_t real_ns);
/* The first real time after which the server's clock shows more than server_ns. */
int64_t mock_real_time_ns(const struct mock_stall *stall, int64_t server_ns);

#endif
