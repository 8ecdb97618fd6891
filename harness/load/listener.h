/*
 * listener.h - the socket under the servers that test load clients: where they listen on loopback,
 * and how they take connections. No loop, no protocol.
 */
#ifndef HARNESS_LOAD_LISTENER_H
#define HARNESS_LOAD_LISTENER_H

#include <stdint.h>

#include "engine/base/status.h"

/* A listening, non-blocking socket on 127.0.0.1; port 0: any free one. */
MUST_CHECK enum status listener_open(uint32_t port, int *fd, uint32_t *actual_port,
                                     struct error *error);
/* The next waiting connection, non-blocking and without Nagle's delay; -1 when there is none. */
int listener_accept(int listen_fd);

#endif
