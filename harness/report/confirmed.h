/*
 * confirmed.h - predictions of configurations that a sweep did not contain, beside what was then
 * measured of them: confirm.csv, their table, their sentences. harness/run/confirm.h makes the runs
 * and fills the rows.
 */
#ifndef HARNESS_REPORT_CONFIRMED_H
#define HARNESS_REPORT_CONFIRMED_H

#include <stdio.h>

#include "harness/report/grid.h"
#include "harness/report/summary.h"

enum {
    CONFIRMED_WORDS_BYTES = 160
};

enum confirmed_finding {
    CONFIRMED_INSIDE,
    CONFIRMED_OUTSIDE,
    CONFIRMED_NO_INTERVAL, /* measured, but the prediction had none */
    CONFIRMED_NOT          /* nothing was measured that is evidence: `reason` */
};

struct confirmed_row {
    char of[SUMMARY_LABEL_BYTES];     /* curve, or cell where there are none */
    const struct scenario_cell *cell; /* that the prediction starts from */
    const char *stage;                /* that limits it */
    char configuration[64];           /* "2 API servers" */
    double tok_per_s;                 /* of the cell */
    struct attribution_gain predicted;
    uint32_t runs_count;
    uint32_t evidence_count; /* of these */
    double measured_tok_per_s;
    char reason[CONFIRMED_WORDS_BYTES];
};

struct confirmed {
    struct confirmed_row *rows;
    uint32_t count;
    bool complete; /* false: stopped early */
};

void confirmed_free(struct confirmed *c);
/* Like the gain within a grid: the mean of what was measured lies in the interval or does not. */
enum confirmed_finding confirmed_judge(const struct confirmed_row *row);
/* confirm.csv in the folder. */
MUST_CHECK enum status confirmed_write(const struct confirmed *c, const char *folder,
                                       struct error *error);
struct grid confirmed_grid(const struct confirmed *c);
/* A chapter of report.md. */
void confirmed_markdown(const struct confirmed *c, FILE *out);
/* "2 API servers instead of those of api_servers=1,dp=4: predicted 37.4 k ..., inside." */
void confirmed_tell(const struct confirmed *c, struct text *t);

#endif
