/*
 * attribution.h - what a token costs each stage, by the runs made so far, and what follows for a
 * cell, run or not: at which throughput each stage would be full, which one is full first, and how
 * much the cell should carry. Pure functions on results; the rules are those of analysis/demand.h.
 *
 * Not to be confused with forecast.h, which knows closed forms and nothing measured. The one thing
 * taken from there is the ceiling of the GPUs: a step takes nearly as long with few sequences as
 * with many, so a GPU's busy time does not tell what it could carry. The closed form for full
 * batches does, times what runs with full batches (GPU in use at least 85 %) gave of it.
 */
#ifndef HARNESS_REPORT_ATTRIBUTION_H
#define HARNESS_REPORT_ATTRIBUTION_H

#include "harness/analysis/demand.h"
#include "harness/report/result.h"

enum {
    ATTRIBUTION_STAGES = 7
};

struct attribution_stage {
    const char *stage;    /* as in stages.csv */
    char source[48];      /* of the ceiling: "regression", "one load", "closed form" (of the GPUs,
                             before any run had full batches), "closed form x 0.991", "full batches"
                             (there is no closed form); "" if it is not known */
    double use_frac;      /* in the cell's runs; NAN: none, or not observed */
    double use_lo;        /* in the one that used it least */
    double busy_frac;     /* likewise: of a GPU all of its computing */
    struct demand demand; /* seconds a token; ceiling in tokens/s with the cell's servers */
};

struct attribution {
    uint32_t stages_count;
    struct attribution_stage stages[ATTRIBUTION_STAGES];
    struct demand_verdict verdict;   /* by the cell's own runs; first and next index `stages` */
    struct demand_capacity capacity; /* of the cell, by all runs */
};

/* Nothing differs but numbers of API servers and engine cores and the load. */
bool attribution_comparable(const struct scenario *s, const struct scenario_cell *a,
                            const struct scenario_cell *b);

/* Indices of runs that have something to say about `cell`: evidence, of comparable cells. Returns
 * how many, at most DEMAND_POINTS_MAX. */
size_t attribution_runs(const struct scenario *s, const struct run_result *results, uint32_t count,
                        const struct scenario_cell *cell,
                        const struct run_result *out[DEMAND_POINTS_MAX]);

/* What these runs say about the cell. */
void attribution_of(const struct scenario_cell *cell, const struct run_result *const *runs,
                    size_t count, struct attribution *out);

/* The cell with twice the servers of a stage: API servers, or engine cores with all that comes with
 * them. False if there is no such cell. */
bool attribution_relieve(const struct scenario_cell *cell, const char *stage,
                         struct scenario_cell *out);

/*
 * How much more than `rate` [lo, hi] a cell should carry. The stage that limits now is `use_frac`
 * in use: another may not come closer to its ceiling, so the lower end is that share of it.
 */
struct attribution_now {
    double rate;
    double lo;
    double hi;
    double use_frac;
};
struct attribution_gain {
    bool known;
    double gain; /* fraction */
    double lo;   /* 95 %; NAN: not known */
    double hi;
    const char *then; /* the stage that limits it */
};
struct attribution_gain attribution_gain_of(const struct attribution *a,
                                            const struct attribution_now *now);

/*
 * What the finished runs say of a cell of which none was made: the capacity, or what the load asks
 * for if that is less. The interval is that of the ceilings and of one run's noise.
 */
struct run_expectation attribution_expect(const struct scenario *s,
                                          const struct run_result *results, uint32_t count,
                                          const struct scenario_cell *cell);

#endif
