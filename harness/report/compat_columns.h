/*
 * compat_columns.h - columns of runs.csv in the words of other load tools, for sessions that ask
 * for them (`harness run --compat`). Formulas: analysis/compat.h.
 */
#ifndef HARNESS_REPORT_COMPAT_COLUMNS_H
#define HARNESS_REPORT_COMPAT_COLUMNS_H

#include "harness/report/result.h"
#include "harness/report/table.h"

/* Of each of the tools (bits of enum compat_tool), in the order of that enum. */
void compat_columns(struct table *t, const struct run_result *r, uint32_t tools);

#endif
