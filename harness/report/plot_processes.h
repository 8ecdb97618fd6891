/*
 * plot_processes.h - plot_processes.tsv and plot_marks.tsv: the life of the processes of one run,
 * for figure 21-processes.
 */
#ifndef HARNESS_REPORT_PLOT_PROCESSES_H
#define HARNESS_REPORT_PLOT_PROCESSES_H

#include "harness/report/data.h"

MUST_CHECK enum status plot_processes_write(const struct data_source *source, struct error *error);

#endif
