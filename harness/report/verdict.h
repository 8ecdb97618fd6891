/*
 * verdict.h - the sentences a person reads first: where extra engine cores stop helping, what
 * limits, and what of the session is no evidence. Pure functions.
 */
#ifndef HARNESS_REPORT_VERDICT_H
#define HARNESS_REPORT_VERDICT_H

#include "harness/report/report.h"
#include "harness/report/summary.h"
#include "harness/report/text.h"

/* What a verdict begins with where nothing was measured. */
#define VERDICT_SIMULATED "Simulated, not measured. "

/* Fills verdict, caveat and undecided. */
void verdict_write(const struct summary *s, bool interrupted, struct report_conclusion *out);
/* A short form for a figure's title: "Extra engine cores stop helping at 3 with 1 API server, ...".
 */
void verdict_title(const struct summary *s, char *out, size_t cap);
/* "the API servers limit (97 % busy)", "no stage is full (busiest: GPU, 61 %)". */
void verdict_stage(struct text *t, const struct summary_point *p);

#endif
