/*
 * contrasts.h - in what the cells of a scenario differ, as one or two sentences with the least and
 * the greatest of each quantity. Of a scenario with curves only what these do not say: how evenly
 * API servers are used, and how kernels are launched if that varies. Cells of different loads are
 * not compared. Pure functions on a summary.
 */
#ifndef HARNESS_REPORT_CONTRASTS_H
#define HARNESS_REPORT_CONTRASTS_H

#include "harness/report/summary.h"
#include "harness/report/text.h"

/* Adds nothing when no two cells can be compared. Sentences are apart by a blank. */
void contrasts_tell(const struct summary *s, struct text *t);

#endif
