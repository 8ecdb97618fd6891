/*
 * batches.h - looks at the ledger at the edges of a window's batches, for the interval of each use:
 * what the mean over the window would be worth if the batches were drawn again.
 *
 * A look copies three counters a thread and nothing else. Threads that were not there at the first
 * look have no interval.
 */
#ifndef HARNESS_RUN_BATCHES_H
#define HARNESS_RUN_BATCHES_H

#include "engine/ledger/ledger.h"
#include "harness/load/options.h"

/* X(NAME): what of a thread's slot is looked at. */
enum batches_part {
    BATCHES_BUSY, /* the thread's own time between waits */
    BATCHES_GPU,  /* its device: computing, and changing to it */
    BATCHES_LOCK, /* holding the interpreter lock */
    BATCHES_PARTS
};

struct batches {
    uint32_t looks_count;
    uint32_t slots_count;
    int64_t at_ns[LOAD_BATCHES_MAX + 1];
    uint64_t *values_ns; /* [LOAD_BATCHES_MAX + 1][slots_count][BATCHES_PARTS]; NULL: no look */
};

/* The next edge; those beyond LOAD_BATCHES_MAX batches are left out. */
void batches_look(struct batches *b, const struct ledger *l);
/* The same of slots that stand elsewhere, at another clock's time. */
void batches_look_at(struct batches *b, const struct ledger_thread *slots, uint32_t slots_count,
                     int64_t at_ns);
void batches_free(struct batches *b);
/* Adds the share of time of each batch to `fracs`: a device that several threads use is their sum.
 * Returns the number of batches; 0: this slot was not looked at. */
uint32_t batches_add(const struct batches *b, uint32_t slot, enum batches_part part,
                     double fracs[LOAD_BATCHES_MAX]);

#endif
