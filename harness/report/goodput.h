/*
 * goodput.h - requests that keep an [slo]: how many a second, and in which cells the limits are
 * kept or missed. Pure functions on what runs counted; rows, summary, verdict and the reports are
 * written from it.
 */
#ifndef HARNESS_REPORT_GOODPUT_H
#define HARNESS_REPORT_GOODPUT_H

#include "harness/analysis/slo.h"
#include "harness/report/grid.h"
#include "harness/report/result.h"

struct summary;
struct summary_point;

/* All NAN where no [slo] was applied. */
struct goodput {
    double rps;
    double frac; /* of all requests due in the window */
    double lo;   /* 95 %: exact binomial, requests that come together count as fewer */
    double hi;
};

struct goodput goodput_of(const struct run_slo *slo, double window_s);

/* Counts of several runs of a cell; the inflation is the mean by requests. */
void goodput_add(struct run_slo *sum, const struct run_slo *slo);

/* How one cell stands to its [slo], by all its runs that are shown. */
struct goodput_state {
    struct slo_test ttft; /* of limits that are not set: passed, with nothing over */
    struct slo_test tpot;
    enum slo_outcome errors;
    enum slo_outcome all; /* fails if one does, passes if all do */
};

struct goodput_state goodput_judge(const struct scenario_slo *slo, const struct run_slo *counted);

/* A sentence with the cells that miss limits, and which; nothing if none does. True: one does. */
bool goodput_tell_missed(const struct summary *s, struct text *t);
/* The same of cells where too little was measured to tell. */
bool goodput_tell_undecided(const struct summary *s, struct text *t);
/* "kept", "missed" or "undecided"; "" where no [slo] was applied. */
const char *goodput_status(const struct summary_point *p);
/* A row a cell to which an [slo] was applied; no rows: to none. */
struct grid goodput_grid(const struct summary *s);
/* The table with its heading; nothing if it has no rows. */
void goodput_markdown(const struct summary *s, FILE *out);

#endif
