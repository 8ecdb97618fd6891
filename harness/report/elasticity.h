/*
 * elasticity.h - what an elasticity probe found: how much throughput a stage's slow-down costs, and
 * whether that agrees with what was observed. Its file probe.csv, its figure's, its table, its
 * sentence.
 * harness/run/intervene.h makes the runs and fills the rows.
 */
#ifndef HARNESS_REPORT_ELASTICITY_H
#define HARNESS_REPORT_ELASTICITY_H

#include <stdio.h>

#include "harness/analysis/demand.h"
#include "harness/analysis/stages.h"
#include "harness/report/grid.h"
#include "harness/scenario/scenario.h"

enum {
    ELASTICITY_ROWS_MAX = 6,
    ELASTICITY_PAIRS_MAX = 32
};

enum elasticity_finding {
    ELASTICITY_LIMITS, /* throughput loses at least half of what the stage does */
    ELASTICITY_IDLE,   /* less than half */
    ELASTICITY_OPEN    /* the interval has both, or there is none */
};

enum elasticity_agreement {
    ELASTICITY_CONFIRMED,
    ELASTICITY_CONTRADICTED,
    ELASTICITY_UNDECIDED
};

struct elasticity_row {
    char stage[STAGE_NAME_BYTES];
    double use_frac; /* in the run without a slow-down */
    bool slowable;   /* false: its time cannot be made longer, nothing was measured */
    uint32_t pairs_count;
    double base_tok_per_s[ELASTICITY_PAIRS_MAX];
    double slowed_tok_per_s[ELASTICITY_PAIRS_MAX];
    struct demand_elasticity elasticity;
    enum elasticity_finding finding;
    enum elasticity_agreement agreement;
};

struct elasticity {
    const struct scenario_cell *cell; /* NULL: no run was evidence, so that nothing was probed */
    struct stage_verdict observed;
    bool load_limits; /* observed: the load asks for no more, so that no stage should limit */
    double by_frac;
    uint32_t runs_count;
    uint32_t host_limited_count; /* of these */
    uint32_t unusable_count;     /* not counted in a pair */
    bool complete;
    struct elasticity_row rows[ELASTICITY_ROWS_MAX];
    uint32_t rows_count;
};

enum elasticity_finding elasticity_judge(const struct demand_elasticity *e);
/* Does a finding bear out what was observed? */
enum elasticity_agreement elasticity_compare(const struct elasticity *e,
                                             const struct elasticity_row *row);
/* Fills in what follows from the rates of a row's pairs. */
void elasticity_conclude(const struct elasticity *e, struct elasticity_row *row);

/* probe.csv in the folder. */
MUST_CHECK enum status elasticity_write(const struct elasticity *e, const char *folder,
                                        struct error *error);
/* plot_probe.tsv there, for figure 19-elasticity. */
MUST_CHECK enum status elasticity_plot(const struct elasticity *e, const char *folder,
                                       struct error *error);
/* Whether there is anything to draw. */
bool elasticity_any(const struct elasticity *e);
struct grid elasticity_grid(const struct elasticity *e);
/* A chapter of report.md. */
void elasticity_markdown(const struct elasticity *e, FILE *out);
/* "Observed: the API server limits; slowing it by 10 % costs ...: confirmed." */
void elasticity_tell(const struct elasticity *e, struct text *t);

#endif
