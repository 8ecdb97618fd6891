/*
 * tape_coordinator.h - the calls of the coordinator's process into engine/core/coordinator.h, each
 * of which is written to the process's tape if it keeps one. Each function does what its namesake
 * there does and gives what it gives.
 */
#ifndef ENGINE_TAPE_TAPE_COORDINATOR_H
#define ENGINE_TAPE_TAPE_COORDINATOR_H

#include "engine/core/coordinator.h"
#include "engine/tape/tape.h"

struct tape_coordinator {
    struct coordinator *coordinator;
    struct tape *tape; /* NULL: nothing is recorded */
};

/* Fills k->coordinator. */
MUST_CHECK enum status tape_coordinator_create(struct tape_coordinator *k, struct arena *arena,
                                               const struct coordinator_options *options,
                                               struct error *error);
void tape_coordinator_subscribe(const struct tape_coordinator *k);
void tape_coordinator_outputs(const struct tape_coordinator *k,
                              const struct engine_outputs *outputs);
void tape_coordinator_first_request(const struct tape_coordinator *k,
                                    const struct first_request *first);
bool tape_coordinator_take_action(const struct tape_coordinator *k,
                                  struct coordinator_action *action);
time_ps tape_coordinator_deadline(const struct tape_coordinator *k);
bool tape_coordinator_publish(const struct tape_coordinator *k, time_ps now, bool input_pending,
                              struct coordinator_state *state);

#endif
