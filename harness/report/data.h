/*
 * data.h - the CSV files written once a session ends: points.csv and scaling.csv for a reader, and
 * plot_*.csv and plot_*.tsv, from which the figures are drawn. A figure needs no other file.
 */
#ifndef HARNESS_REPORT_DATA_H
#define HARNESS_REPORT_DATA_H

#include "harness/report/summary.h"

struct elasticity;
struct knees;
struct table;

struct data_source {
    const char *folder;
    const struct summary *summary;
    const struct run_host *host;
    const struct run_result *timeline; /* the run that the timeline shows; NULL: none */
    const struct run_result *results;
    uint32_t results_count;
    const struct knees *knees;           /* NULL: no rates were searched for */
    const struct elasticity *elasticity; /* NULL: no stage was slowed */
};

MUST_CHECK enum status data_write(const struct data_source *source, struct error *error);
/* The rows of points.csv and of scaling.csv into any table; a CSV gets its header. */
void data_points(const struct summary *summary, struct table *out);
void data_curves(const struct summary *summary, struct table *out);

/* The same topology has the same colour in every figure and every scenario. */
uint32_t data_colour(const struct summary_curve *curve, uint32_t index);
/* "1 API x 3" where API servers and engine cores are all that sets cells apart, else the name. */
void data_label_cell(const struct summary *s, const struct summary_point *p, char out[64]);

#endif
