/*
 * plot_cells.h - plot_cells.tsv and plot_runs.tsv: a row a cell and a row a run, for the figures
 * that are about single cells or runs and not about the curves of plot_points.csv.
 */
#ifndef HARNESS_REPORT_PLOT_CELLS_H
#define HARNESS_REPORT_PLOT_CELLS_H

#include "harness/report/data.h"

MUST_CHECK enum status plot_cells_write(const struct data_source *source, struct error *error);

#endif
