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
 */
#ifndef ENGINE_NODE_OCCUPANCY_H
#define ENGINE_NODE_OCCUPANCY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ledger/ledger.h"

enum {
    OCCUPANCY_SLICE_NS = 500000
};

struct occupancy {
    int64_t busy_until_ns;
    struct ledger_thread *thread;
};

void occupancy_init(struct occupancy *o, struct ledger_thread *thread, int64_t now_ns);
void occupancy_wake(struct occupancy *o, int64_t now_ns);
void occupancy_charge(struct occupancy *o, int64_t cost_ns);
/* True if more than a slice is owed: time to sleep and let results leave. */
bool occupancy_due(const struct occupancy *o, int64_t now_ns);
/* Sleeps off what is owed. */
void occupancy_settle(struct occupancy *o);

#endif
