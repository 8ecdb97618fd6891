/*
 * plan.h - capacity planning: how many systems like a cell's a demand takes, what they cost, how
 * much more they would take, and what to add to one first. From the rates that were found for each
 * cell, always at their lower bounds; without any run from closed forms, as a prediction. Pure
 * functions but for what they write; the demand and the price are those of [report].
 */
#ifndef HARNESS_REPORT_PLAN_H
#define HARNESS_REPORT_PLAN_H

#include <stdio.h>

#include "harness/report/grid.h"
#include "harness/report/knees.h"
#include "harness/report/summary.h"

/* What the rate of a system is: the first of these that was looked for. */
enum plan_basis {
    PLAN_SLO_RATE,
    PLAN_STABLE_RATE,
    PLAN_CAPACITY, /* with a backlog: requests wait as long as they must */
    PLAN_PREDICTED /* capacity by the closed form */
};

/* Numbers are NAN where they are not known. */
struct plan_row {
    const struct scenario_cell *cell;
    enum plan_basis basis;
    double per_s;         /* requests/s that one system takes at least */
    double output_tokens; /* of a request, mean */
    uint32_t gpus_count;  /* of one system; 0: not known */
    double systems;       /* for the peak, without a spare one */
    double headroom_frac; /* how much the peak may grow while one of systems + 1 is missing */
    double mean_use_frac; /* of systems + 1, at the mean demand */
    double cost_per_hour; /* of systems + 1 */
    double cost_at_peak;  /* of a million output tokens, if the demand were the peak all the time */
    double cost_at_mean;  /* and if it were the mean, with the same systems */
    char first[GRID_CELL_BYTES]; /* what to add to a system first; "": not known */
};

struct plan {
    const struct scenario_report *report;
    struct plan_row *rows;
    uint32_t count;
    const struct plan_row *best; /* fewest GPUs with the spare one; NULL: none is known */
};

/* The rest of a row, of which cell, basis, per_s and output_tokens are known. */
void plan_fill(const struct scenario_report *report, struct plan_row *row);
/* By what was measured; `knees` may be NULL. No rows without a demand. */
struct plan plan_of(const struct summary *s, const struct knees *knees);
/* By closed forms, of all cells that have one. */
struct plan plan_predicted(const struct scenario *s);
void plan_free(struct plan *p);

const char *plan_basis_name(enum plan_basis basis);
struct grid plan_grid(const struct plan *p);
/* What the best row comes to, in sentences; nothing without a demand. */
void plan_tell(const struct plan *p, struct text *t);
/* A chapter of report.md; nothing without a demand. */
void plan_markdown(const struct summary *s, const struct knees *knees, FILE *out);
/* The same for a terminal. */
void plan_print(const struct plan *p, FILE *out);

#endif
