/*
 * helper_report.h - a made-up sweep for the tests of harness/report: 3 x 6 cells whose throughput
 * is a table known to the test, with the stages, threads, hops and seconds that would go with it.
 */
#ifndef TESTS_HARNESS_HELPER_REPORT_H
#define TESTS_HARNESS_HELPER_REPORT_H

#include "harness/report/report.h"

enum {
    SWEEP_SERVERS = 3,
    SWEEP_CORES = 6
};

extern const uint32_t sweep_servers[SWEEP_SERVERS]; /* 1, 2, 4 */
extern const uint32_t sweep_cores[SWEEP_CORES];     /* 1, 2, 3, 4, 6, 8 */
/* Thousand tokens/s of A x D. With 1 API server flat from 3 on, with 2 from 6 on, with 4 not. */
extern const double sweep_table[SWEEP_SERVERS][SWEEP_CORES];

struct sweep {
    struct scenario *scenario;
    struct run_host host;
    struct run_result *results;
    uint32_t count;
};

/* The whole sweep, two replicates a cell. */
struct sweep sweep_make(void);
/* Results for any scenario text; rates by the table's rule from what the cells' topologies are. */
struct sweep sweep_of(const char *scenario_text);
void sweep_free(struct sweep *s);
/* Makes a run one that failed: no numbers, only outcome and reason. */
void sweep_fail(struct run_result *r, enum run_outcome outcome, const char *reason);

/* A fresh folder of this test below TMPDIR; removed with folder_remove(). */
void folder_make(char out[256]);
void folder_remove(const char *folder);
/* The whole file, freed by the caller; NULL if it is not there. */
char *file_text(const char *folder, const char *name);

#endif
