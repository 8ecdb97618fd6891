/*
 * forecast.h - what closed forms say of a cell before it runs, and the table that puts it beside
 * what was measured. Pure functions; the formulas are in sim/closed_form.h.
 */
#ifndef HARNESS_REPORT_FORECAST_H
#define HARNESS_REPORT_FORECAST_H

#include "harness/report/grid.h"
#include "harness/report/result.h"
#include "sim/closed_form.h"

struct summary;

struct forecast {
    bool known;
    const char *why; /* there is none; "" if there is */
    struct closed_form form;
};

struct forecast forecast_of(const struct scenario_cell *cell);

/* Mean time between a request's tokens; NAN where it is not told: nothing is, or tokens gather in
 * API servers on their way out. */
double forecast_token_gap_ms(const struct forecast *f);

/* Whether cells differ in how kernels are launched: that is what the scenario is about then. */
bool forecast_launching_varies(const struct summary *s);

/* Columns of the table that compares. */
enum {
    FORECAST_COLUMNS = 7
};
/*
 * A row for each quantity of each cell that was measured and has a prediction: throughput always,
 * and what lock-step, launching and sharing are about where the scenario has them. With `all`
 * also launches and token gaps of every cell.
 */
struct grid forecast_grid(const struct summary *s, bool all);
/* Why cells are not in it, once for each reason; nothing if all are. */
void forecast_missing(const struct summary *s, struct text *t);

#endif
