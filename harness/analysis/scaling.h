/*
 * scaling.h - when do extra engine cores stop helping, and what was to be expected: the
 * marginal-gain test on a gapped grid, the efficiency table, the gain of another API server, and
 * how many engine cores API servers can feed. Pure functions; the report drives them.
 */
#ifndef HARNESS_ANALYSIS_SCALING_H
#define HARNESS_ANALYSIS_SCALING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCALING_CELLS_MAX = 64,
    SCALING_REPLICATES_MAX = 64
};

/* Throughput measured with `cores` engine cores (all else equal), one value a replicate. */
struct scaling_cell {
    uint32_t cores;
    uint32_t replicates_count;
    double rates[SCALING_REPLICATES_MAX];
    /* Mean over the replicates of each one's standard error by batch means, and its batches. 0: not
     * known. */
    double batch_std_error;
    uint32_t batches_count;
};

/* Step from one cell of the grid to the next. */
struct scaling_gain {
    uint32_t cores_from;
    uint32_t cores_to;
    double gain;  /* (X(to) - X(from)) / ((to - from) X(1)): 1 is perfect, 0 is nothing */
    double lower; /* one-sided 95 % bounds; NAN when no variance is known */
    double upper;
};

enum scaling_status {
    SCALING_FLAT,        /* extra cores stop helping within the range tested */
    SCALING_ABOVE_RANGE, /* they still help at the last cell */
    SCALING_NO_VARIANCE, /* one replicate and no batches: nothing can be told */
    SCALING_TOO_FEW,     /* fewer than two cells */
};

struct scaling_last_helpful {
    enum scaling_status status;
    uint32_t last_helpful; /* FLAT: helpful through here; otherwise the largest count tested */
    uint32_t lo; /* largest count whose gains were all shown to be useful; "6 [6, 8)": lo 6, hi 8 */
    uint32_t hi; /* first count tested that was shown not to help; 0 when nothing is flat */
    uint32_t gains_count;
    struct scaling_gain gains[SCALING_CELLS_MAX];
    char text[48]; /* "6 [6, 8)", "> 8", "undecided" */
};

/*
 * Cells sorted by cores, each with at least one replicate. `useful_gain` is a fraction (0.20). The
 * first step whose upper bound lies under it is where cores stop helping. X(1) is the first cell's
 * rate over its cores when 1 was not tested.
 */
void scaling_last_helpful(const struct scaling_cell *cells, size_t count, double useful_gain,
                          struct scaling_last_helpful *out);

struct scaling_efficiency {
    uint32_t cores;
    double rate; /* mean over replicates */
    double lo;   /* 95 % interval; NAN when no variance is known */
    double hi;
    double speedup;    /* X(k) / X(1) */
    double efficiency; /* X(k) / (k X(1)) */
};

/* out[count], one row a cell. */
void scaling_efficiency_table(const struct scaling_cell *cells, size_t count,
                              struct scaling_efficiency *out);

/*
 * Relative gain of `more` over `fewer` (same engine cores, more API servers), with one-sided 95 %
 * bounds. Where the lower bound is above useful_gain the API tier was the limit. cores_from and
 * cores_to are copied from the cells.
 */
struct scaling_gain scaling_relative_gain(const struct scaling_cell *fewer,
                                          const struct scaling_cell *more);

/* Engine cores that `api_servers` can feed when each makes rate_per_core tokens/s; INFINITY for a
 * free host. */
double scaling_api_server_knee(double ceiling_tokens_per_s, uint32_t api_servers,
                               double rate_per_core);

#endif
