/*
 * simulation_options.h - the check of a simulation's options. Private to the files of simulation.h.
 */
#ifndef SIM_SIMULATION_OPTIONS_H
#define SIM_SIMULATION_OPTIONS_H

#include "sim/simulation.h"

/* Decides what was left open: whether engine cores launch themselves, and KV blocks. INVALID names
 * the option that is out of range. */
MUST_CHECK enum status simulation_options_resolve(struct simulation_options *o,
                                                  struct error *error);
/* The highest one that is exact for this system, and asked for. */
enum simulation_level simulation_options_level(const struct simulation_options *o,
                                               const struct simulation_source *source,
                                               const struct simulation_observer *observer);
/* Does it take no time, whatever the number of items and tokens? */
bool simulation_cost_is_none(const struct simulation_cost *c);
/* Are engine cores, workers and GPUs simple enough for engine_flow.c? */
bool simulation_options_countable(const struct simulation_options *o);

#endif
