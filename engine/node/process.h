/*
 * process.h - what every process of the serving system does first and how it speaks to the
 * launcher.
 *
 * Descriptors are fixed: 3 the ledger, 4 a pipe to whoever started the process (events, one a
 * line), 5 the HTTP listening socket (API servers under the shared accept policy); engine cores
 * have 6 and 7, the collectives of lock-step, and from 8 on the shared GPU of each of their
 * workers. A process dies with its parent (PR_SET_PDEATHSIG), so that nothing outlives a SIGKILL of
 * the launcher.
 */
#ifndef ENGINE_NODE_PROCESS_H
#define ENGINE_NODE_PROCESS_H

#include "engine/base/time.h"
#include "engine/ledger/ledger.h"

enum {
    EVENT_FD = 4,
    LISTEN_FD = 5,
    COLLECTIVE_STEP_FD = 6,
    COLLECTIVE_FINISH_FD = 7,
    GPU_FD = 8, /* of worker 0; the next ones follow */
    PROCESS_FDS_END = GPU_FD + TOPOLOGY_WORKERS_PER_ENGINE_MAX,
    PROCESS_INDEX_NONE = -1,
};

struct process {
    struct ledger ledger;
    const struct topology *topology;
    int32_t index; /* --index N, PROCESS_INDEX_NONE if not given */
};

/*
 * Parses `--index N --parent PID`, names the process `name_format` with its index ("ApiServer_%d"),
 * ties it to its parent, maps the ledger. On failure the reason went to EVENT_FD and to stderr.
 */
MUST_CHECK enum status process_begin(int argc, char **argv, const char *name_format,
                                     struct process *out);

/* One line to the parent: "ready", "address ...", "failed ...", "died ...". */
void process_event(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* "warning ...", at most one a second; those held back are counted in the next one. */
void process_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* "failed <text>" to the parent and to stderr; returns EXIT_FAILURE for a main to return. */
int process_fail(const struct error *error);

/* Now on the run clock. */
time_ps process_now(const struct process *p);
time_ps process_run_time(const struct process *p, int64_t monotonic_ns);

/*
 * Once a loop turn of the calling thread: its beat, its busy time (what it lived less what it
 * waited: idle, for results, for a full queue), and at most every 50 ms its CPU time.
 */
void process_turn(struct ledger_thread *thread, int64_t now_ns);
/* The thread's loop begins: its busy time counts from now on. */
void process_started(struct ledger_thread *thread);

/* "ipc://DIR/NAME" in the topology's private directory. */
void process_address(const struct process *p, const char *name, uint32_t index, char out[128]);

/*
 * Hash, in hex, of the settings that must be equal on all ranks in lock-step: an engine core
 * reports it, the launcher compares.
 */
enum {
    PARALLEL_HASH_BYTES = 17
};
void process_parallel_hash(const struct topology *t, char out[PARALLEL_HASH_BYTES]);

int launcher_main(int argc, char **argv);
int api_server_main(int argc, char **argv);
int coordinator_main(int argc, char **argv);
int engine_core_main(int argc, char **argv);

#endif
