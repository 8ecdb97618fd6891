/*
 * comparison.h - two sets of finished runs, the base and a changed version, held against each
 * other cell by cell and metric by metric (analysis/gate.h). `harness compare` drives it.
 *
 * Runs are paired where those of a cell alternated in time with equal seeds, and where both were
 * simulated (pairs of equal seeds); else they are not, and then only runs of one machine, kernel
 * and CPU can be told apart from a change of the host.
 */
#ifndef HARNESS_REPORT_COMPARISON_H
#define HARNESS_REPORT_COMPARISON_H

#include <stdint.h>
#include <stdio.h>

#include "engine/base/status.h"
#include "harness/analysis/gate.h"
#include "harness/report/past_runs.h"

enum {
    COMPARISON_METRICS_MAX = 32,
    COMPARISON_WHY_BYTES = 160,
    COMPARISON_NAME_BYTES = 64
};

struct comparison_metric {
    char column[COMPARISON_NAME_BYTES]; /* of runs.csv */
    bool higher_is_better;
    double tolerance_frac;
};

struct comparison_options {
    const char *base; /* result folder, or a folder of such */
    const char *changed;
    struct comparison_metric metrics[COMPARISON_METRICS_MAX];
    uint32_t metrics_count;
    double alpha;
    uint32_t looks_count;
};

struct comparison_row {
    const char *cell;
    const char *metric;   /* "fail_frac", "invalid_runs_frac", or one of the options */
    bool counts_failures; /* the first two of these */
    struct gate_rule rule;
    double base; /* median of the runs */
    double changed;
    struct gate_effect effect;
    double p; /* towards worse, adjusted for all rows; of failures, for all cells */
    enum gate_verdict verdict;
    char why[COMPARISON_WHY_BYTES]; /* "" where the figures say it */
};

struct comparison {
    struct past_runs base;
    struct past_runs changed;
    struct comparison_row *rows;
    uint32_t rows_count;
    uint32_t rows_cap;
    bool configurations_differ;
};

/* comparison_free() is due after errors, too. The options must outlive it. */
MUST_CHECK enum status comparison_make(struct comparison *c,
                                       const struct comparison_options *options,
                                       struct error *error);
void comparison_free(struct comparison *c);
uint32_t comparison_count(const struct comparison *c, enum gate_verdict verdict);
/* Regression if any row is, else inconclusive if any is or there are none, else ok. */
enum gate_verdict comparison_verdict(const struct comparison *c);
/* One sentence and a table. */
void comparison_print(const struct comparison *c, const struct comparison_options *options,
                      FILE *out);

/* Regressions and what is inconclusive as annotations of GitHub Actions, a line each. */
void comparison_annotate(const struct comparison *c, FILE *out);

#endif
