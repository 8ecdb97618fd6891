/*
 * launching.h - who launches kernels, how often, at which share of its time, and how much dearer a
 * launch may become until this thread holds up its GPU. Pure functions on what was measured.
 */
#ifndef HARNESS_REPORT_LAUNCHING_H
#define HARNESS_REPORT_LAUNCHING_H

#include "harness/report/grid.h"
#include "harness/report/result.h"

struct summary;

/*
 * A launching thread and its GPU, by a launch (kernels, graphs and copies). NAN without launches,
 * and on a shared GPU, whose time is not this thread's alone.
 */
struct launching_margin {
    double cost_us;     /* thread time of a launch */
    double critical_us; /* at which launching, and preparing beside it, takes as long as the GPU
                           computes: c_crit */
    double ratio;       /* cost / critical: 1 and more, and the thread is the limit */
    double spare_us;    /* added cost of each launch at which it becomes 1 */
};

struct launching_margin launching_margin_of(const struct probe_rates *thread,
                                            const struct topology *topology);
/* Kernels and graphs of all launching threads. */
double launching_rate(const struct run_result *r);

/*
 * Threads of each cell's first shown run: one row each, or least, mean and greatest where a cell
 * has more than `threads_max`; with threads_max 0 only the mean. Rows are short enough for a
 * terminal.
 */
struct grid launching_grid(const struct summary *s, uint32_t threads_max);
/* What its columns mean, in some lines of at most 100 columns. */
const char *launching_legend(void);

#endif
