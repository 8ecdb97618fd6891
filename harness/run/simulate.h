/*
 * simulate.h - one run in virtual time (sim/simulation.h): the counterpart of measure_run(). It
 * fills what a measured run fills - the load client's region, two looks at the threads' counters,
 * the hops of each request - and the same functions conclude from it.
 *
 * The result depends on the cell and the seed alone: no clock of this machine is in it, so that
 * equal seeds give equal rows on every machine. Pure but for memory and the reading of a trace;
 * several runs may be made at once.
 */
#ifndef HARNESS_RUN_SIMULATE_H
#define HARNESS_RUN_SIMULATE_H

#include "harness/run/measure.h"
#include "sim/simulation.h"

/* The caller frees *out with result_free(). log_fd and host of the options are not used. Times of
 * the progress are virtual. */
void simulate_run(const struct measure_options *options, struct run_result *out);

/* The system that a cell stands for. INVALID: a name in it is unknown. */
MUST_CHECK enum status simulate_system(const struct scenario_cell *cell, uint64_t seed,
                                       struct simulation_options *out, struct error *error);

#endif
