/*
 * system.h - one serving system: started from a topology, watched, and ended without a trace. Of a
 * topology with nodes each node has a launcher of its own; the failure of any is the system's.
 *
 *     system_start(&options, &system, error);  // returns when it serves, or says why it does not
 *     ... http at system->launchers[i].host : port, counters in system->ledger ...
 *     if (system_failed(system)) system->reason says who died
 *     system_stop(system);                     // 5 s for everything; the ledger stays readable
 *     system_free(system);
 */
#ifndef HARNESS_RUN_SYSTEM_H
#define HARNESS_RUN_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/ledger/ledger.h"

enum {
    SYSTEM_LINE_BYTES = 4096,
    SYSTEM_ALL_NODES = 0, /* what a zeroed option means */
    SYSTEM_ONLY_HEAD = 1,
    SYSTEM_ONLY_JOINING = 2,
};

struct system_options {
    struct topology topology; /* socket_dir and host costs are filled here, and addresses of nodes
                                 that have none: 127.0.0.1, 127.0.0.2, ... */
    uint32_t which; /* SYSTEM_*: all nodes; or one, the others being on other machines: nodes[0],
                       or nodes[1], which joins nodes[0] */
    int log_fd;     /* stderr of all its processes; -1: the harness's own */
    int64_t start_timeout_ns;
    /* Asked while it starts; true gives up. May be NULL. */
    bool (*interrupted)(void);
};

/* One launcher, with all that it started. */
struct system_launcher {
    pid_t pid;
    int events_fd;
    char host[TOPOLOGY_HOST_BYTES]; /* of its API servers */
    uint32_t port;                  /* 0: it has none */
    bool joinable;                  /* other nodes can say HELLO to it */
    bool ready;
    bool running; /* it has not been reaped */
    char line[SYSTEM_LINE_BYTES];
    size_t line_bytes;
};

struct system {
    struct ledger ledger;
    struct system_launcher launchers[TOPOLOGY_NODES_MAX];
    uint32_t launchers_count;
    uint32_t port; /* of the first API servers */
    bool failed;
    char reason[512];
    char socket_dir[96];
    char unrecorded[512];    /* why a process's recording ended early; "": none did */
    uint32_t warnings_count; /* lines that begin with "warning"; each went to log_fd */
    int log_fd;
};

/* DIED with what a launcher said, TIMEOUT, or INVALID (unknown host profile, ...). Nothing is
 * left behind on failure. */
MUST_CHECK enum status system_start(const struct system_options *options, struct system *out,
                                    struct error *error);
/* Reads what the launchers said since; true if the system is no more (reason set). Does not block.
 */
bool system_failed(struct system *s);
/* Until something is said, or `timeout_ms`. */
void system_wait(const struct system *s, int timeout_ms);
void system_stop(struct system *s);
void system_free(struct system *s);

#endif
