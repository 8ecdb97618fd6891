/*
 * markdown.h - report.md of a session: the verdict first, then figures, tables and provenance.
 */
#ifndef HARNESS_REPORT_MARKDOWN_H
#define HARNESS_REPORT_MARKDOWN_H

#include "harness/report/confirmed.h"
#include "harness/report/elasticity.h"
#include "harness/report/figures.h"
#include "harness/report/knees.h"
#include "harness/report/report.h"
#include "harness/report/summary.h"
#include "harness/report/validation.h"

struct markdown {
    const struct summary *summary;
    const struct run_result *results;
    uint32_t results_count;
    const struct run_host *host;
    const struct knees *knees;           /* NULL: none */
    const struct elasticity *elasticity; /* NULL: none */
    const struct confirmed *confirmed;   /* NULL: none */
    const struct validation *validation; /* NULL: none */
    const struct report_conclusion *conclusion;
    const struct figures *figures;
};

/* The caller checks the stream. */
void markdown_write(const struct markdown *m, FILE *out);

#endif
