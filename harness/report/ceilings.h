/*
 * ceilings.h - the words and tables for what attribution.h found: demands and ceilings of each
 * stage, what more servers should bring and whether they did, how well cells were foretold, and the
 * laws of scaling. Computes nothing but averages; report.md, the verdict and the terminal use it.
 */
#ifndef HARNESS_REPORT_CEILINGS_H
#define HARNESS_REPORT_CEILINGS_H

#include "harness/report/grid.h"
#include "harness/report/summary.h"

/* Called for each attribution of a summary: of a curve's last point, or of each point where there
 * are no curves. `label` says of what. */
struct ceilings_of {
    const char *label;
    const struct summary_point *point;
    const struct attribution *attribution;
    const struct attribution_gain *relief;
};
/* The `index`th of them; false: there are no more. */
bool ceilings_next(const struct summary *s, uint32_t index, struct ceilings_of *out);

/* A row a stage: demand, servers, ceiling, use. */
struct grid ceilings_grid(const struct summary *s);
/* A row a curve and law that could be fitted. */
struct grid ceilings_laws_grid(const struct summary *s);
/* A row a cell that was foretold and then measured. */
struct grid ceilings_expected_grid(const struct run_result *results, uint32_t count);

/* "2 API servers should carry +38 % [31, 44], then the GPUs limit"; nothing if that is not known.
 */
void ceilings_tell_relief(const struct ceilings_of *c, struct text *t);
/* "+38 % [31, 44]" */
void ceilings_tell_gain(const struct attribution_gain *g, struct text *t);
/* "the runs with 1 predicted +100 % [91, 108], the API servers limiting: inside"; nothing if they
 * did not. */
void ceilings_tell_foretold(const struct summary_curve *c, struct text *t);
/* "the load asks for no more: more engine cores cannot help"; nothing where the load may show a
 * limit. */
void ceilings_tell_load(const struct summary_point *p, struct text *t);
/* "expected of api_servers=1,dp=3: 19.2 k tokens/s [19.0 k, 19.4 k], the API server limits" */
void ceilings_tell_expected(const struct scenario_cell *cell, const struct run_expectation *e,
                            struct text *t);
/* Mean absolute error and how many lay inside, of the runs with an expectation; nothing if none. */
void ceilings_tell_errors(const struct run_result *results, uint32_t count, struct text *t);

#endif
