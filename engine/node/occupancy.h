/*
 * occupancy.h - the emulated host: a thread is busy for the time its host profile says, without
 * burning CPU.
 *
 * busy_until accumulates: it moves by exactly the cost of each piece of work, and is set to the
 * present only when the thread wakes from a blocking wait that it entered with nothing left to do.
 * So late wake-ups do not add up, and what the thread really computes runs inside the booked time.
 * A result may leave only after occupancy_settle().
 *
 *     occupancy_wake(&o, now);                 // after a wait that blocked
 *     occupancy_charge(&o, 46000);             // one output token
 *     if (occupancy_due(&o, now)) { occupancy_settle(&o); write results; }
 *
 * Threads that share an interpreter take turns, as those of a Python process do: a piece of work
 * begins when all that was asked for before it, by any of them, is over. A piece ends with a call
 * that gives the lock away (a socket, a queue, a ring), so pieces run whole and in the order of
 * asking; one longer than Python's switch interval of 5 ms is cut there, and others come between.
 */
#ifndef ENGINE_NODE_OCCUPANCY_H
#define ENGINE_NODE_OCCUPANCY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/ledger/ledger.h"

enum {
    OCCUPANCY_SLICE_NS = 500000,
    INTERPRETER_SWITCH_NS = 5000000, /* sys.getswitchinterval() */
};

/* The interpreter lock of one process. The same rule as for a thread alone: its time is set to the
 * present only when a thread wakes while all others rest. */
struct interpreter {
    pthread_mutex_t lock; /* of the fields below */
    int64_t busy_until_ns;
    uint32_t awake_count; /* threads that are not in a blocking wait */
};

struct occupancy {
    int64_t busy_until_ns;
    struct ledger_thread *thread;
    struct interpreter *interpreter; /* NULL: the thread has one to itself */
    bool resting;
};

void interpreter_init(struct interpreter *interpreter, int64_t now_ns);

void occupancy_init(struct occupancy *o, struct ledger_thread *thread, int64_t now_ns);
/* From now on the thread takes turns with the others of `interpreter`. NULL: nothing happens. */
void occupancy_share(struct occupancy *o, struct interpreter *interpreter);
/* The thread is about to block with nothing left to do: others need not wait for it. */
void occupancy_rest(struct occupancy *o);
/* It did block, and woke. Not to be called after a wait that found something at once. */
void occupancy_wake(struct occupancy *o, int64_t now_ns);
/* Books a piece of work. With an interpreter, a piece beyond the switch interval also sleeps. */
void occupancy_charge(struct occupancy *o, int64_t cost_ns);
/* True if more than a slice is owed: time to sleep and let results leave. */
bool occupancy_due(const struct occupancy *o, int64_t now_ns);
/* Sleeps off what is owed. */
void occupancy_settle(struct occupancy *o);

#endif
