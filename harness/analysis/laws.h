/*
 * laws.h - which law of scaling a curve follows: linear, contention (Amdahl), the universal
 * scalability law, a plateau, or contention up to a plateau. Each is fitted to all replicates on
 * relative residuals; the corrected Akaike criterion (AICc) weighs them against each other. Pure
 * functions; the report drives them.
 *
 * With N engine cores and X(1) = gamma:
 *   linear               X = gamma N
 *   contention           X = gamma N / (1 + alpha (N - 1))
 *   USL                  X = gamma N / (1 + alpha (N - 1) + beta N (N - 1))          [Gunther 1993]
 *   plateau              X = min(gamma N, plateau)
 *   contention+plateau   X = min(gamma N / (1 + alpha (N - 1)), plateau)
 *
 * The fit alone misleads where another stage fills up: a USL fitted to "linear to 4, then flat"
 * puts its maximum wherever the tested range ends. So a maximum is told only for a law that was
 * chosen, and only up to 1.5 times the range tested.
 */
#ifndef HARNESS_ANALYSIS_LAWS_H
#define HARNESS_ANALYSIS_LAWS_H

#include "harness/analysis/scaling.h"

enum law {
    LAW_LINEAR,
    LAW_CONTENTION,
    LAW_USL,
    LAW_PLATEAU,
    LAW_CONTENTION_PLATEAU,
    LAWS_COUNT
};

/* "linear", "contention", "usl", "plateau", "contention+plateau". */
const char *law_name(enum law law);

struct law_fit {
    bool fitted;    /* false: not asked for, or fewer observations or levels than parameters */
    double gamma;   /* units of the rates */
    double alpha;   /* 0 where the law has none */
    double beta;    /* likewise */
    double plateau; /* INFINITY where the law has none */
    double noise;   /* standard deviation of relative residuals */
    double aicc;    /* INFINITY when not fitted or too few observations to correct */
    double weight;  /* Akaike weight, 0..1; 0 too for a fit with a negative alpha or beta, which no
                       system has */
    uint32_t parameters_count;
};

/* X of a fitted law at `cores` (which may be a fraction). */
double law_at(enum law law, const struct law_fit *fit, double cores);
/* Cores at which the law's throughput is greatest, or stops growing; INFINITY if it always grows.
 */
double law_best_cores(enum law law, const struct law_fit *fit);

struct laws {
    struct law_fit fits[LAWS_COUNT];
    enum law chosen;    /* least AICc; meaningless if !known */
    bool known;         /* at least one law was fitted */
    uint32_t cores_max; /* largest count tested */
    double best;        /* N*: law_best_cores() of the chosen one, by all observations */
    double best_lo;     /* 95 % by bootstrap over residuals */
    double best_hi;     /* INFINITY: not bounded by the data */
    bool best_known;    /* best_hi is at most 1.5 x cores_max: print it, else "> cores_max" */
};

enum {
    LAWS_ALL = (1 << LAWS_COUNT) - 1
};

/*
 * Cells sorted by cores, rates > 0. `which`: bit i for the i-th law. `seed` feeds the bootstrap
 * (`draws` of it, 0: no interval, then best_known is false).
 */
void laws_fit(const struct scaling_cell *cells, size_t count, uint32_t which, uint64_t seed,
              uint32_t draws, struct laws *out);

#endif
