/*
 * client.h - the load client: one thread, one epoll loop, non-blocking keep-alive connections
 * opened before the load starts. It runs in the calling process, which is a child of the harness
 * made for it, and leaves everything it measures in the shared region while it happens (shared.h).
 *
 *     CONNECT -> WARMUP -> WINDOW -> DRAIN (open) or abort (closed) -> DONE
 *
 * SIGTERM stops it cleanly: open requests are recorded as cancelled. LOAD_DRAIN_SIGNAL ends the
 * window and the arrivals, and the load drains as at its planned end. LOAD_WINDOW_SIGNAL ends the
 * warm-up: the window begins LOAD_WINDOW_NOTICE_NS later. SIGINT is the caller's affair.
 */
#ifndef HARNESS_LOAD_CLIENT_H
#define HARNESS_LOAD_CLIENT_H

#include <signal.h>

#include "harness/load/shared.h"

#define LOAD_DRAIN_SIGNAL  SIGUSR1
#define LOAD_WINDOW_SIGNAL SIGUSR2

/* Runs one load to its end. OK: also when it was stopped by SIGTERM (header->stopped). DIED: there
 * was no connection to the server for 2 s. TIMEOUT, IO, PROTOCOL: the connections could not be
 * opened or balanced. The records are kept in every case. */
MUST_CHECK enum status load_run(const struct load_options *options, struct load_shared *shared,
                                struct error *error);

#endif
