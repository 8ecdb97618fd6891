/*
 * collective.h - all-reduce of small integer vectors between the data-parallel ranks of one
 * machine, through shared memory: the counterpart of vLLM's Gloo group on the CPU.
 *
 *     launcher:     collective_create(&options, &c, error);  // once for each use, see below
 *                   ... start ranks that inherit c.fd ...
 *     each rank:    collective_open(fd, rank, &c, error);    // on the thread that lives on
 *                   collective_all_reduce(&c, &call, values, error);
 *     all:          collective_close(&c);
 *
 * Ranks in lock-step need two: COLLECTIVE_STEP for what they agree on before each forward, and
 * COLLECTIVE_FINISH for the check whether a wave is over; so a rank that is in the one can never be
 * mistaken for being in the other.
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
    struct collective_header *header;
    struct collective_rank *ranks; /* [ranks_count] */
    uint64_t bytes;
    uint32_t rank; /* UINT32_MAX: the creator, which takes no part */
    uint32_t calls_count;
    int fd; /* close-on-exec: pass it on as a numbered descriptor */
    enum status broken;
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

/*
 * Replaces values[0 .. count) by the reduction over all ranks, each of which must call it. On
 * failure the values are unchanged:
 *   TIMEOUT   a rank did not come; names all that did not, and whether they ever joined
 *   DIED      a rank's thread ended without leaving, or left, or broke off
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
