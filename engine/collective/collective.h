/*
 * collective.h - all-reduce of small integer vectors between data-parallel ranks: the counterpart
 * of vLLM's Gloo group on the CPU. Ranks of one machine meet in shared memory, ranks of several
 * over TCP, in a star round rank 0. Only the way in differs:
 *
 *     launcher:     collective_create(&options, &c, error);  // once for each use, see below
 *                   ... start ranks that inherit c.fd ...
 *     each rank:    collective_open(fd, rank, &c, error);    // on the thread that lives on
 * or
 *     each rank:    collective_connect(&options, &place, timeout_ns, &c, error);
 * then
 *                   collective_all_reduce(&c, &call, values, error);
 *     all:          collective_close(&c);
 *
 * Ranks in lock-step need two: one for what they agree on before each forward, and one for the
 * check whether a wave is over; so a rank that is in the one can never be mistaken for being in the
 * other.
 *
 * A call ends with the same values on every rank, or with an error. It never ends with values of
 * different calls mixed: each rank's n-th call meets the others' n-th, and the calls must agree in
 * tag, operation and count. After an error the collective is broken on this rank, and this rank
 * tells the others.
 */
#ifndef ENGINE_COLLECTIVE_COLLECTIVE_H
#define ENGINE_COLLECTIVE_COLLECTIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/ledger/topology.h"

enum {
    COLLECTIVE_RANKS_MAX = TOPOLOGY_ENGINES_MAX,
    COLLECTIVE_VALUES_MAX = 8 * COLLECTIVE_RANKS_MAX,
    COLLECTIVE_NAME_MAX = 32,
};

enum collective_op {
    COLLECTIVE_SUM,
    COLLECTIVE_MIN,
    COLLECTIVE_MAX
};

struct collective_options {
    const char *name; /* for errors: "step", "finish check"; at most 31 bytes */
    uint32_t ranks_count;
    uint32_t wait; /* enum wait_mode: sleep, or spin and yield */
};

struct collective_header;
struct collective_rank;

struct collective {
    char name[COLLECTIVE_NAME_MAX];
    uint32_t ranks_count;
    uint32_t rank; /* UINT32_MAX: the creator, which takes no part */
    uint32_t calls_count;
    enum status broken;
    /* Either shared memory, */
    struct collective_header *header;
    struct collective_rank *ranks; /* [ranks_count] */
    uint64_t bytes;
    int fd; /* close-on-exec: pass it on as a numbered descriptor; -1 over TCP */
    /* or connections. */
    struct collective_star *star;
};

struct collective_call {
    uint64_t tag; /* what the call is about, e.g. the wave and the step in it; equal on all ranks */
    enum collective_op op;
    uint32_t count; /* of values, 1 .. COLLECTIVE_VALUES_MAX */
    int64_t timeout_ns;
};

/* INVALID: no rank or too many. IO: no shared memory. */
MUST_CHECK enum status collective_create(const struct collective_options *options,
                                         struct collective *out, struct error *error);
/* Takes the place of `rank`, for as long as the calling thread lives. fd becomes the collective's.
 * PROTOCOL: not a collective, or the rank is not in it or taken. */
MUST_CHECK enum status collective_open(int fd, uint32_t rank, struct collective *out,
                                       struct error *error);

/* Where the ranks of several machines meet: rank 0 listens there, the others connect. */
struct collective_place {
    const char *host; /* IPv4 address */
    uint32_t port;
    uint32_t rank; /* the caller's */
    /* Asked while rank 0 is not there, on the calling thread: why it will not come any more; NULL:
     * it may. No function: only the time limits the wait. */
    const char *(*hopeless)(void *ctx);
    void *ctx;
};
/*
 * Returns when all ranks have joined, so they may come in any order. Collectives of the same ranks
 * may use one port, one after the other in the same order on all ranks.
 *   INVALID   rank, number of ranks or place make no sense
 *   IO        rank 0 cannot listen there
 *   TIMEOUT   names the ranks that never joined, as far as this rank knows
 *   DIED      a rank joined, and ended or gave up before the others came; or it is hopeless
 *   PROTOCOL  rank 0 refuses this rank: it has another name or number of ranks, or is there already
 */
MUST_CHECK enum status collective_connect(const struct collective_options *options,
                                          const struct collective_place *place, int64_t timeout_ns,
                                          struct collective *out, struct error *error);
/* Finds a port for rank 0 (with *port 0: any free one) and keeps it from others while *fd is open;
 * rank 0 can listen there meanwhile. IO, INVALID. */
MUST_CHECK enum status collective_reserve_port(const char *host, uint32_t *port, int *fd,
                                               struct error *error);

/*
 * Replaces values[0 .. count) by the reduction over all ranks, each of which must call it. On
 * failure the values are unchanged:
 *   TIMEOUT   a rank did not come; names all that did not, and whether they ever joined. (Over TCP
 *             only rank 0 knows of the others: if it did not come itself, only it is named.)
 *   DIED      a rank's thread (over TCP: its connection) ended without leaving, or the rank left,
 *             or broke off
 *   PROTOCOL  the ranks' calls do not agree; names one that differs
 *   INVALID   a sum does not fit
 */
MUST_CHECK enum status collective_all_reduce(struct collective *c,
                                             const struct collective_call *call, int32_t *values,
                                             struct error *error);
/* Ends the calls of all ranks with DIED, now and later: this rank will not come again. */
void collective_break_off(struct collective *c);
/* Leaves: by the thread that opened it. Ranks that still wait for this one get DIED. */
void collective_close(struct collective *c);

/*
 * What the ranks agree on before a forward, by one all-reduce of a matrix with a column for each
 * rank, as vLLM does it.
 */
struct collective_step {
    uint32_t tokens; /* that the rank has to compute; 1 in a dummy batch */
    bool graph;      /* it can use a graph for them */
};
struct collective_agreement {
    uint32_t largest_tokens;
    uint64_t all_tokens; /* sum over the ranks of what each will compute, padding included */
    uint32_t own_tokens; /* what this rank has to compute: with graphs, as many as the largest */
    bool graph;          /* every rank can */
};
MUST_CHECK enum status collective_agree(struct collective *c, uint64_t tag, int64_t timeout_ns,
                                        const struct collective_step *own,
                                        struct collective_agreement *out, struct error *error);

#endif
