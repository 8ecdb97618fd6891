/*
 * bare.h - the least that a client can do: epoll, recv, a stamp, send. No parser, no records. What
 * it reaches on this machine is the ceiling that the load client is held against: whatever it lacks
 * too is the machine's or the server's and not the client's. Driven by accuracy.c and by
 * benchmarks.
 */
#ifndef HARNESS_LOAD_BARE_H
#define HARNESS_LOAD_BARE_H

#include <stdint.h>

#include "engine/base/status.h"

struct bare_streams {
    uint32_t port; /* of 127.0.0.1 */
    uint32_t count;
    uint32_t tokens; /* of each stream, an event each */
};

/* Opens a connection for each stream, asks on all of them at once (X-Request-Id 0, 1, ...), and
 * reads them to their ends. seen_ns[stream * tokens + event]: when the read returned that had the
 * event's last byte. IO: a stream ended early. TIMEOUT: nothing came for 10 s. */
MUST_CHECK enum status bare_read_streams(const struct bare_streams *streams, int64_t *seen_ns,
                                         struct error *error);

/* Requests a second between a bare client and a bare server (a child process that answers every
 * read with the same bytes), of the sizes that the load client and the null server exchange. */
MUST_CHECK enum status bare_pair_measure(uint32_t connections_count, int64_t window_ns,
                                         double *requests_per_s, struct error *error);

#endif
