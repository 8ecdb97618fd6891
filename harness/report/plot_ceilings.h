/*
 * plot_ceilings.h - plot_ceilings.tsv: what each stage could carry beside what was measured, for
 * figure 09-ceilings.
 */
#ifndef HARNESS_REPORT_PLOT_CEILINGS_H
#define HARNESS_REPORT_PLOT_CEILINGS_H

#include "harness/report/summary.h"

MUST_CHECK enum status plot_ceilings_write(const struct summary *summary, const char *folder,
                                           struct error *error);
/* Whether there is anything to draw. */
bool plot_ceilings_any(const struct summary *summary);

#endif
