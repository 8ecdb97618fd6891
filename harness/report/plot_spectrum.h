/*
 * plot_spectrum.h - plot_spectrum.tsv: the distributions of four latencies in the cell with the
 * greatest rate, for the figure of the percentile spectrum.
 */
#ifndef HARNESS_REPORT_PLOT_SPECTRUM_H
#define HARNESS_REPORT_PLOT_SPECTRUM_H

#include "harness/report/data.h"

MUST_CHECK enum status plot_spectrum_write(const struct data_source *source, struct error *error);
/* Whether there is anything to draw: open and trace loads have latencies. */
bool plot_spectrum_any(const struct data_source *source);

#endif
