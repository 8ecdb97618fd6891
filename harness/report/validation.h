/*
 * validation.h - simulated runs against measured ones of the same cells, requests and seeds: the
 * errors of throughput and latencies beside the spread from run to run, where more engine cores
 * stop helping in both, and which of it exceeds the limits that the simulator is held to. Writes
 * validation.csv, a chapter of report.md, a table and a sentence.
 *
 * Compared are pairs of runs, so that the randomness of the requests is in both sides; what is left
 * is the model's error and the machine's own scatter.
 */
#ifndef HARNESS_REPORT_VALIDATION_H
#define HARNESS_REPORT_VALIDATION_H

#include <stdio.h>

#include "harness/report/grid.h"
#include "harness/report/simulated.h"

/* Limits, as fractions. A p99 may also lie within so many standard deviations of the runs. */
#define VALIDATION_TOK_PER_S_MAX 0.03
#define VALIDATION_TTFT_P50_MAX  0.08
#define VALIDATION_TTFT_P99_MAX  0.20
#define VALIDATION_SPREADS_MAX   2.0

enum {
    VALIDATION_KNEE_STEPS_MAX = 1, /* of the grid */
    VALIDATION_RUNS_FIRM = 5       /* fewer make no firm spread */
};

enum validation_metric {
    VALIDATION_TTFT,
    VALIDATION_TPOT,
    VALIDATION_ITL,
    VALIDATION_E2EL,
    VALIDATION_METRICS_COUNT
};

enum validation_point {
    VALIDATION_MEAN,
    VALIDATION_P50,
    VALIDATION_P90,
    VALIDATION_P99,
    VALIDATION_POINTS_COUNT
};

enum validation_limit {
    VALIDATION_LIMIT_TOK_PER_S,
    VALIDATION_LIMIT_TTFT_P50,
    VALIDATION_LIMIT_TTFT_P99,
    VALIDATION_LIMITS_COUNT
};

/* One number of a cell: means over its pairs of runs. NAN: not known, or nothing to divide by. */
struct validation_value {
    double measured;
    double simulated;
    double spread;      /* standard deviation of the measured runs; NAN with fewer than two */
    double error_frac;  /* signed: (simulated - measured) / measured */
    double over_spread; /* |simulated - measured| / spread */
};

struct validation_latency {
    struct validation_value at[VALIDATION_POINTS_COUNT]; /* ms */
    /* Wasserstein distance over the measured mean, of all requests of the pairs, by the bins of
     * hist.csv: within 0.8 %. */
    double distance_frac;
};

struct validation_row {
    const struct scenario_cell *cell; /* the scenario's */
    uint32_t pairs_count;             /* replicates that are valid in both */
    bool judged;
    const char *why; /* it is not judged */
    struct validation_value tok_per_s;
    struct validation_latency latency[VALIDATION_METRICS_COUNT];
    bool exceeds[VALIDATION_LIMITS_COUNT];
};

struct validation_knee {
    char curve[SUMMARY_LABEL_BYTES];
    char measured[48];
    char simulated[48];
    double measured_count; /* last helpful engine core; NAN: undecided */
    double simulated_count;
    uint32_t steps; /* of the grid, from one to the other */
    bool judged;    /* decided in both */
    bool exceeds;
};

struct validation {
    struct validation_row *rows;
    uint32_t rows_count;
    struct validation_knee *knees;
    uint32_t knees_count;
    const char *plural; /* what the curves' axis counts */
};

/* `s` with simulated_add(). A cell without a pair has a row that says why. Owns nothing of `s`. */
struct validation *validation_of(const struct summary *s, const struct simulated_split *split);
void validation_free(struct validation *v);
/* Cells and knees that exceed a limit. */
uint32_t validation_exceeding(const struct validation *v);
/* Cells that were held against the limits. */
uint32_t validation_judged(const struct validation *v);
const char *validation_metric_name(enum validation_metric metric);

/* validation.csv in the folder. */
MUST_CHECK enum status validation_write(const struct validation *v, const char *folder,
                                        struct error *error);
/* A row a cell; errors in %. */
struct grid validation_grid(const struct validation *v);
/* A row a curve. */
struct grid validation_knees_grid(const struct validation *v);
/* A chapter of report.md. */
void validation_markdown(const struct validation *v, FILE *out);
/* The verdict. */
void validation_tell(const struct validation *v, struct text *t);

#endif
