/*
 * accuracy.h - how wrong the load client's times are: many streams of the mock, read by the load
 * client and, before that, by a bare epoll reader (bare.h), each event's stamp against the mock's
 * own at send(). What the client is wrong by beyond the bare reader is the client's.
 */
#ifndef HARNESS_LOAD_ACCURACY_H
#define HARNESS_LOAD_ACCURACY_H

#include <stdint.h>

#include "engine/base/status.h"

struct accuracy_options {
    uint32_t streams_count; /* all at once */
    uint32_t tokens;        /* of each, an event each; 2 or more */
    int64_t ttft_ns;
    int64_t itl_ns;
};

/* Stamp of the reader minus that of the mock. */
struct accuracy_errors {
    uint64_t events_count;   /* that both stamped */
    uint64_t missing_count;  /* that the mock sent, or should have, and the reader has not */
    uint64_t negative_count; /* read before they were sent: cannot be */
    double ttft_p50_ms;      /* of the first events */
    double ttft_p99_ms;
    double itl_p50_ms; /* of the gaps: by how much each differs from the mock's, without sign */
    double itl_p99_ms;
    double mock_lag_p99_ms; /* the mock's own, behind its schedule; in no error */
};

struct accuracy {
    struct accuracy_errors bare;
    struct accuracy_errors client;
    double client_cpu_frac; /* of a core, from the first request to the last answer */
};

/* Starts a mock for each reader and ends it again; the client runs in the calling process. */
MUST_CHECK enum status accuracy_measure(const struct accuracy_options *options,
                                        struct accuracy *out, struct error *error);

#endif
