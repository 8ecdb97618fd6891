/*
 * spawn.h - a child process of the launcher: started from this same executable with the ledger, an
 * event pipe and, for API servers, the listening socket as descriptors 3, 4, 5, and whatever else
 * it inherits behind them; its lines and its end come as callbacks on the libuv loop.
 */
#ifndef ENGINE_NODE_SPAWN_H
#define ENGINE_NODE_SPAWN_H

#include <stdbool.h>
#include <uv.h>

#include "engine/base/status.h"

enum {
    SPAWN_LINE_MAX = 4096
};

struct spawn_options {
    const char *role; /* first argument of harness-node */
    uint32_t index;
    uint32_t node;
    int listen_fd; /* -1: none */
    /* Inherited from COLLECTIVE_STEP_FD on, in this order; -1: none. */
    const int *fds;
    uint32_t fds_count;
};

/* Zeroed by the caller, which sets owner and callbacks; must stay where it is while live. */
struct spawn {
    uv_process_t process;
    uv_pipe_t events;
    void *owner;
    void (*on_line)(struct spawn *child, const char *line);
    /* `how`: "signal 9" or "exit status 1". Called after the last line. */
    void (*on_exit)(struct spawn *child, const char *how);
    char name[32];
    uint32_t index;
    int pid;
    bool live;
    bool exited;
    bool events_closed;
    int exit_status; /* once exited; 0 after a signal */
    int term_signal; /* 0: none */
    char how[32];
    char line[SPAWN_LINE_MAX];
    size_t line_bytes;
    char chunk[SPAWN_LINE_MAX];
};

MUST_CHECK enum status spawn_start(uv_loop_t *loop, struct spawn *child,
                                   const struct spawn_options *options, struct error *error);

#endif
