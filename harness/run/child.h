/*
 * child.h - a program started by the harness with chosen descriptors, tied to the harness's life.
 *
 * The child is in its own process group, so that ^C in a terminal reaches the harness alone, which
 * then ends its children in order.
 */
#ifndef HARNESS_RUN_CHILD_H
#define HARNESS_RUN_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/status.h"
#include "engine/ledger/topology.h"

struct child_options {
    const char *path;
    char *const *arguments;
    int fd3; /* become descriptors 3 and 4; -1: none */
    int fd4;
    int stderr_fd;                    /* -1: as the harness's */
    const struct topology_cpus *cpus; /* where it runs; NULL or none: as its parent */
    int death_signal;                 /* sent to the child when the harness dies */
};

MUST_CHECK enum status child_start(const struct child_options *options, pid_t *pid,
                                   struct error *error);
/* True if it ended; *status as from waitpid(). Does not block. */
bool child_ended(pid_t pid, int *status);
/* Waits at most `wait_ns` for the end, then kills. */
void child_stop(pid_t pid, int signal_number, int64_t wait_ns, int *status);
/* "signal 9" or "exit status 1". */
void child_describe(int status, char out[32]);
/* The folder of the running program, without a slash at its end. */
void child_program_folder(char *out, size_t cap);

#endif
