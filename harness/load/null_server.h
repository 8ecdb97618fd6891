/*
 * null_server.h - an HTTP server without a model: it answers GET with 200 and a POST with as many
 * tokens as max_tokens asks for, as one JSON body or as a stream of events, at once. What the load
 * client does against it is the client's ceiling. It can also misbehave on purpose, for tests of
 * the client.
 *
 *     struct null_process server;
 *     null_start(&options, &server, error);      // a child process, dies with its parent
 *     ... server.port ...
 *     null_stop(&server);
 */
#ifndef HARNESS_LOAD_NULL_SERVER_H
#define HARNESS_LOAD_NULL_SERVER_H

#include <stdint.h>
#include <sys/types.h>

#include "engine/base/status.h"

enum null_fault {
    NULL_FAULT_NONE,
    NULL_FAULT_CLOSE,     /* closes without an answer */
    NULL_FAULT_RESET,     /* half a stream, then a TCP reset */
    NULL_FAULT_CUT,       /* half a stream, then an orderly close */
    NULL_FAULT_NO_DONE,   /* a complete HTTP answer without finish_reason and [DONE] */
    NULL_FAULT_EMPTY,     /* a complete stream without a token */
    NULL_FAULT_MALFORMED, /* an event that is no JSON */
    NULL_FAULT_NO_HTTP,   /* bytes that are no HTTP answer */
    NULL_FAULT_STATUS_400,
    NULL_FAULT_STATUS_500,
    NULL_FAULT_ERROR_EVENT, /* an error in mid-stream */
    NULL_FAULT_STALL        /* half a stream, then nothing */
};

struct null_options {
    uint32_t port;              /* 0: any free one */
    uint32_t api_servers_count; /* plays so many: each connection belongs to one, unevenly; 0: says
                                   nothing */
    uint64_t seed;
    uint32_t
        fault; /* enum null_fault, of requests whose X-Request-Id is a multiple of fault_period */
    uint32_t fault_period;      /* 0: none */
    uint32_t tokens_each_event; /* 0: 1 */
    uint32_t events_each_send;  /* 0: the whole answer at once */
    int64_t send_gap_ns;        /* between sends of events_each_send */
};

struct null_process {
    pid_t pid;
    uint32_t port;
};

/* Serves until the process is ended; returns only when it fails. Takes listen_fd, a socket of
 * listener_open(). */
MUST_CHECK enum status null_serve(int listen_fd, const struct null_options *options,
                                  struct error *error);
MUST_CHECK enum status null_start(const struct null_options *options, struct null_process *out,
                                  struct error *error);
void null_stop(struct null_process *process);

#endif
