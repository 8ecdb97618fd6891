/*
 * data.h - the CSV files written once a session ends: points.csv and scaling.csv for a reader, and
 * plot_*.csv and plot_*.tsv, from which the figures are drawn. A figure needs no other file.
 */
#ifndef HARNESS_REPORT_DATA_H
#define HARNESS_REPORT_DATA_H

#include "harness/report/summary.h"

struct data_source {
    const char *folder;
    const struct summary *summary;
    const struct run_host *host;
    const struct run_result *timeline; /* the run that the timeline shows; NULL: none */
};

MUST_CHECK enum status data_write(const struct data_source *source, struct error *error);

#endif
