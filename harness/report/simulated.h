/*
 * simulated.h - sessions that simulate and measure the same runs: the measured ones make the
 * report, the simulated ones stand beside them as what was predicted. Where nothing was measured
 * the simulated runs are the report.
 */
#ifndef HARNESS_REPORT_SIMULATED_H
#define HARNESS_REPORT_SIMULATED_H

#include "harness/report/summary.h"
#include "sim/simulation.h"

/* A session's results by what they are for; copies that share all that results own. */
struct simulated_split {
    struct run_result *shown; /* what the report is about */
    uint32_t shown_count;
    struct run_result *beside; /* simulated ones to compare with */
    uint32_t beside_count;
};

void simulated_split(const struct run_result *results, uint32_t count, struct simulated_split *out);
void simulated_split_free(struct simulated_split *split);
/* The constants of [simulation] costs, and their name: a calibration's is its file's. */
struct simulation_costs simulated_costs(const struct scenario_simulation *simulation);
const char *simulated_costs_name(const struct scenario_simulation *simulation);
/* Fills what points and curves hold of the simulated runs. */
void simulated_add(struct summary *s, const struct simulated_split *split);

#endif
