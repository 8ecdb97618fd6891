/*
 * manifest.h - manifest.json of a result folder: what was run, on what, with which outcome, and
 * whether the session came to its end.
 */
#ifndef HARNESS_REPORT_MANIFEST_H
#define HARNESS_REPORT_MANIFEST_H

#include "harness/report/report.h"

struct manifest {
    const char *folder;
    const struct scenario *scenario;
    const struct run_host *host;
    const struct run_result *results;
    uint32_t results_count;
    bool complete; /* false while the session goes on, and for good if it dies */
    bool interrupted;
    const struct report_conclusion *conclusion; /* NULL: none yet */
};

/* Replaces the file in one step. IO names it. */
MUST_CHECK enum status manifest_write(const struct manifest *m, struct error *error);
/* Name of the scenario that `folder` holds results of; "" without a readable manifest. */
void manifest_scenario(const char *folder, char out[SCENARIO_NAME_BYTES]);
/* Whether the session in `folder` was interrupted, or died before its end. */
bool manifest_interrupted(const char *folder);

#endif
