/*
 * simulate_seen.h - what a run in virtual time sees of its threads besides sums: single waits,
 * steps, launches and gaps, in histograms as those of the ledger; and events, as the lanes of
 * engine/ledger/events.h keep them. Private to simulate.c.
 */
#ifndef HARNESS_RUN_SIMULATE_SEEN_H
#define HARNESS_RUN_SIMULATE_SEEN_H

#include "harness/load/shared.h"
#include "harness/report/result.h"
#include "sim/simulation.h"

struct simulate_seen;

/* With the first events: everybody is ready when virtual time begins. */
MUST_CHECK enum status simulate_seen_create(const struct topology *topology,
                                            struct simulate_seen **out, struct error *error);
void simulate_seen_free(struct simulate_seen *seen);
struct simulation_witness simulate_seen_witness(struct simulate_seen *seen);

/* The histograms of the thread with this index in simulation_threads(), as they are now. */
void simulate_seen_times(const struct simulate_seen *seen, uint32_t thread,
                         struct ledger_thread *out);
/* All events and the load client's, at the end; once. */
void simulate_seen_events(struct simulate_seen *seen, const struct load_header *client,
                          struct run_result *r);

#endif
