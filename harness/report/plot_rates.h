/*
 * plot_rates.h - plot_rates.tsv and plot_knees.tsv: what a search measured at each rate, and what
 * it found in each cell, for the figures of searches.
 */
#ifndef HARNESS_REPORT_PLOT_RATES_H
#define HARNESS_REPORT_PLOT_RATES_H

#include "harness/report/knees.h"

MUST_CHECK enum status plot_rates_write(const struct knees *knees, const char *folder,
                                        struct error *error);
/* Whether there is anything to draw. */
bool plot_rates_any(const struct knees *knees);

#endif
