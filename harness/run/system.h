/*
 * system.h - one serving system: started from a topology, watched, and ended without a trace.
 *
 *     system_start(&options, &system, error);  // returns when it serves, or says why it does not
 *     ... http at 127.0.0.1:system->port, counters in system->ledger ...
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
    SYSTEM_LINE_BYTES = 4096
};

struct system_options {
    struct topology topology; /* socket_dir and host costs are filled here */
    int log_fd;               /* stderr of all its processes; -1: the harness's own */
    int64_t start_timeout_ns;
    /* Asked while it starts; true gives up. May be NULL. */
    bool (*interrupted)(void);
};

struct system {
    struct ledger ledger;
    pid_t launcher;
    int events_fd;
    uint32_t port;
    bool ready;
    bool failed;
    bool running; /* the launcher has not been reaped */
    char reason[512];
    char socket_dir[96];
    char line[SYSTEM_LINE_BYTES];
    size_t line_bytes;
    uint32_t warnings_count; /* lines that begin with "warning"; each went to log_fd */
    int log_fd;
};

/* DIED with what the launcher said, TIMEOUT, or INVALID (unknown host profile, ...). Nothing is
 * left behind on failure. */
MUST_CHECK enum status system_start(const struct system_options *options, struct system *out,
                                    struct error *error);
/* Reads what the launcher said since; true if the system is no more (reason set). Does not block.
 */
bool system_failed(struct system *s);
void system_stop(struct system *s);
void system_free(struct system *s);

#endif
