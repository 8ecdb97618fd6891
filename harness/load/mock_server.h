/*
 * mock_server.h - ground truth for load clients: an OpenAI-compatible server whose streams follow a
 * known schedule (mock_plan.h), and which stamps every event when it sends it. A client's error is
 * its own stamp minus the mock's, both of CLOCK_MONOTONIC on one machine.
 *
 *     struct mock_shared *shared;
 *     mock_shared_create(stamps_max, &shared, error);
 *     listener_open(port, &listen_fd, &port, error);
 *     mock_serve(listen_fd, stop_fd, &options, shared, error);   // in a thread or a child process
 *     mock_write_stamps(shared, file);
 *     mock_shared_destroy(shared);
 *
 * A stamp is taken right before the send() that carries an event's last byte, so a client cannot
 * have read the event before it. In chat, the role's delta goes out with the head, before any
 * token.
 */
#ifndef HARNESS_LOAD_MOCK_SERVER_H
#define HARNESS_LOAD_MOCK_SERVER_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/base/status.h"
#include "harness/load/histogram.h"
#include "harness/load/mock_plan.h"

#define MOCK_NO_REQUEST_ID UINT64_MAX

/* X(NAME, "text"): what was sent. */
#define MOCK_KINDS(X)                                                             \
    X(HEAD, "head")   /* status line and headers; in chat the role's delta too */ \
    X(EMPTY, "empty") /* a delta without text */                                  \
    X(TOKEN, "token")                                                             \
    X(USAGE, "usage")                                                             \
    X(DONE, "done")     /* [DONE] */                                              \
    X(ANSWER, "answer") /* whole, to a request without `stream` */                \
    X(ERROR, "error")   /* 500 */                                                 \
    X(RESET, "reset")   /* the connection was reset */

enum mock_kind {
#define X(name, text) MOCK_KIND_##name,
    MOCK_KINDS(X)
#undef X
    MOCK_KINDS_COUNT
};

const char *mock_kind_name(enum mock_kind kind);

struct mock_stamp {
    uint64_t request;    /* from 0, by arrival */
    uint64_t request_id; /* the number in X-Request-Id; MOCK_NO_REQUEST_ID: none */
    int64_t scheduled_ns;
    int64_t sent_ns;
    uint32_t event; /* from 0 within the request */
    uint32_t kind;  /* enum mock_kind */
    uint32_t tokens;
    uint32_t padding;
};

/* Shared between processes; the mock is the only writer. */
struct mock_shared {
    size_t bytes;
    uint64_t stamps_max;
    _Atomic uint64_t stamps_count; /* complete ones */
    _Atomic uint64_t stamps_lost_count;
    _Atomic uint64_t connections_count;
    _Atomic uint64_t requests_count; /* with a plan: without those refused */
    _Atomic uint64_t finished_count; /* sent to the end, errors included */
    _Atomic uint64_t errors_count;   /* of these: 500 on purpose */
    _Atomic uint64_t resets_count;   /* on purpose */
    _Atomic uint64_t left_count;     /* the client went away in mid-stream */
    _Atomic uint64_t refused_count;  /* no request that it understands: 400, 404 */
    _Atomic uint64_t tokens;
    struct histogram lag; /* sent - scheduled of every stamp, ns: the mock's own */
    struct mock_stamp stamps[];
};

/* Pages cost nothing until they are used. */
MUST_CHECK enum status mock_shared_create(uint64_t stamps_max, struct mock_shared **out,
                                          struct error *error);
void mock_shared_destroy(struct mock_shared *shared);

/* Serves until stop_fd is readable (-1: for ever). Takes listen_fd, a socket of listener_open(). */
MUST_CHECK enum status mock_serve(int listen_fd, int stop_fd, const struct mock_options *options,
                                  struct mock_shared *shared, struct error *error);

/* CSV: request,request_id,event,kind,tokens,scheduled_ns,sent_ns. Failures stay in ferror(). */
void mock_write_stamps(const struct mock_shared *shared, FILE *file);

#endif
