/*
 * shares.h - how evenly API servers and engine cores were used, and what an uneven use may come
 * from. Pure functions.
 */
#ifndef HARNESS_REPORT_SHARES_H
#define HARNESS_REPORT_SHARES_H

#include "harness/report/grid.h"
#include "harness/report/result.h"

struct summary;
struct summary_point;

#define SHARES_ALARM   1.25 /* greatest share over the mean one: more is uneven */
#define STRANDED_ALARM 0.05 /* of the looks: more is no accident */

/* Greatest of `count` values over their mean; NAN without any above 0. */
double shares_peak(const double *values, uint32_t count);
/* "27/5/0/0", "least 3, greatest 9 of 12" where there are more than eight; "-" without any. */
void shares_tell(struct text *t, const double *values, uint32_t count);
/* A row a cell, of its first shown run. */
struct grid shares_grid(const struct summary *s);
/* A sentence for what of this run is uneven and where that may come from; nothing if nothing is. */
void shares_alarm(const struct run_result *r, struct text *t);
/* "api_servers", "engine_cores", "stranded_requests" of a cell's first shown run, joined by '+';
 * "" without an alarm. */
const char *shares_alarm_name(const struct summary_point *p);

#endif
