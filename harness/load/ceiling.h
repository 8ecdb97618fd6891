/*
 * ceiling.h - how much the load client can do on this machine at most: measured against the null
 * server, which shares the machine. A measurement that comes near this says more about the client
 * than about the server.
 */
#ifndef HARNESS_LOAD_CEILING_H
#define HARNESS_LOAD_CEILING_H

#include <stdint.h>

#include "engine/base/status.h"

struct load_ceiling_options {
    uint32_t connections_count; /* 0: 64 */
    int64_t window_ns;          /* of each of the two parts; 0: 0.5 s */
    uint32_t stream_tokens;     /* of a streamed answer; 0: 256 */
};

struct load_ceiling {
    double requests_per_s; /* not streamed, one token each */
    double request_cpu_us; /* CPU time of the client for one of these */
    double tokens_per_s;   /* streamed, an event a token; many come in one read */
    double token_cpu_us;   /* this is a lower bound: a real server's tokens come one by one */
    uint64_t failed_count;
};

/* Takes about twice the window. Starts a child process and ends it again. */
MUST_CHECK enum status load_ceiling_measure(const struct load_ceiling_options *options,
                                            struct load_ceiling *out, struct error *error);

#endif
