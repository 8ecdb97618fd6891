/*
 * limits.h - what limits each point and curve of a summary, by ceilings (attribution.h) beside the
 * use that the verdict goes by, what relieving it should bring, and which law a curve follows. Pure
 * functions; the summary calls them as its last step.
 */
#ifndef HARNESS_REPORT_LIMITS_H
#define HARNESS_REPORT_LIMITS_H

#include "harness/report/summary.h"

/* Of a point whose verdict and rates are known. */
enum summary_load limits_load_of(const struct summary_point *p);
/* Attributions, reliefs, gains foretold and laws of the curves; without curves, of the points. */
void limits_attribute(struct summary *s, const struct run_result *results, uint32_t count);
/* The stage that limits a point by its use and by its ceiling alike; "" if there is none. */
const char *limits_stage(const struct summary_point *p, const struct attribution *a);

#endif
