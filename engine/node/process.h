/*
 * process.h - what every process of the serving system does first and how it speaks to the
 * launcher.
 *
 * Descriptors are fixed: 3 the ledger, 4 a pipe to whoever started the process (events, one a
 * line), 5 the HTTP listening socket (API servers under the shared accept policy); engine cores
 * have 6 and 7, the collectives of lock-step, and from 8 on the shared GPU of each of their
 * workers. A process dies with its parent (PR_SET_PDEATHSIG), so that nothing outlives a SIGKILL of
 * the launcher.
 *
 * Several launchers ("nodes", topology.h) make one system: `launcher --index K --parent PID` starts
 * what topology_node(t, K) names, without --index node 0. On one machine all inherit the same
 * ledger and use the same socket_dir. What a launcher says on descriptor 4:
 *
 *     joinable HOST:PORT   node 0 of internal and hybrid balancing: its handshake socket is bound.
 *                          The other launchers find it as nodes[0].host and handshake_port in their
 *                          ledger; if that is 0, whoever starts them waits for this line and puts
 *                          PORT there first (ledger_set_handshake_port()). With a port that is
 *                          known from the start all may be started at once, in any order.
 *     ready PORT           everything that this node starts serves; PORT 0: it is headless
 *     died ..., failed ... why it ends; the first such line is the reason. A node that loses the
 *                          connection to another's process says "died NAME (connection lost)"
 *     unrecorded FILE: WHY   a recording ended before its process (process_tape())
 *     warning waiting for engine cores ...   those that are not ready, every 10 s of the start
 *     stopped              last line
 */
#ifndef ENGINE_NODE_PROCESS_H
#define ENGINE_NODE_PROCESS_H

#include "engine/base/time.h"
#include "engine/ledger/events.h"
#include "engine/tape/tape.h"

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
    uint32_t node; /* --node K of a launcher's children; launchers have it as their --index */
    struct topology_node own; /* what this node's launcher starts */
    struct event_lane *lane;  /* of this process in the ledger; NULL: it has none */
};

/*
 * Parses `--index N --node K --parent PID`, names the process `name_format` with its index
 * ("ApiServer_%d"), ties it to its parent, maps the ledger. On failure the reason went to EVENT_FD
 * and to stderr.
 */
MUST_CHECK enum status process_begin(int argc, char **argv, const char *name_format,
                                     struct process *out);
/* Before the process has a second thread: the calling thread, and what it starts from now on, runs
 * on these CPUs only. Without a set of its own it stays where its parent put it. */
MUST_CHECK enum status process_pin(const struct topology *t, enum topology_pin pin,
                                   struct error *error);

/* A launcher's --index is its node. INVALID: the topology has no such node. */
MUST_CHECK enum status process_take_node(struct process *p, uint32_t node, struct error *error);

/* Takes the lane of the process whose main thread is of this kind, and notes its start. */
void process_take_lane(struct process *p, enum ledger_thread_kind kind, uint32_t instance);
/* Main thread only. Nothing without a lane; `note` may be NULL. */
void process_note(const struct process *p, enum event_kind what, const struct event_note *note);

/*
 * The tape of this process, if the topology wants recordings: topology.record_dir/KIND-INDEX.rec.
 * NULL: it wants none, or the file cannot be made; then, or when it can take no more later, the
 * parent hears "unrecorded ..." and the process goes on without.
 */
struct tape *process_tape(const struct process *p, enum tape_kind kind, uint32_t index);

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
/* "tcp://HOST:PORT" of node 0. */
void process_head_address(const struct process *p, uint32_t port, char out[128]);
/* IPv4 address at which node `index` listens. */
const char *process_host(const struct process *p, uint32_t index);

/* Its engine cores say HELLO to node 0 over TCP; node 0's start-up waits for them. */
bool process_joins(const struct process *p);
/* Is this engine core one of this node's? */
bool process_has_engine(const struct process *p, uint32_t rank);
/* Do API servers use the engine cores of their own node only? */
bool process_serves_own_only(const struct process *p);
/* The data-parallel group of this node begins at this rank. */
uint32_t process_group_first(const struct process *p);

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
int device_times_main(int argc, char **argv);

#endif
