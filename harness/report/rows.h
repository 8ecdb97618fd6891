/*
 * rows.h - the files that grow by every run: runs, stages, launch, threads, timeline, hops and
 * requests as CSV, events as JSON lines. Columns are documented in docs/results.md; new ones are
 * appended at the end.
 */
#ifndef HARNESS_REPORT_ROWS_H
#define HARNESS_REPORT_ROWS_H

#include "harness/report/result.h"
#include "harness/report/table.h"

enum {
    ROWS_SCHEMA = 1 /* of runs.csv */
};

struct rows {
    const struct scenario *scenario;
    const struct run_host *host;
    const char *folder;
    struct table runs;
    struct table stages;
    struct table launch;
    struct table threads;
    struct table timeline;
    struct table hops;
    struct table hist;
    struct table requests; /* opened by the first run that has rows */
    struct table events;   /* JSON lines: event_lines.h */
    bool published;        /* the files have their names */
};

/* `folder`, scenario and host must outlive `rows`. Every file but requests.csv has its header when
 * this returns, under a name that ends in ".new" until rows_publish(). rows_close() is due even
 * after a failure. */
MUST_CHECK enum status rows_open(struct rows *rows, const char *folder,
                                 const struct scenario *scenario, const struct run_host *host,
                                 struct error *error);
/* Puts the files in the place of those that stand there, runs.csv last. */
MUST_CHECK enum status rows_publish(struct rows *rows, struct error *error);
/* On disk when it returns OK. */
MUST_CHECK enum status rows_write(struct rows *rows, const struct run_result *r,
                                  struct error *error);
void rows_close(struct rows *rows);

/* "EngineCore_DP0" or "Worker_DP0_1": the thread that a row of launch.csv is about. */
void rows_launcher_name(const struct probe_rates *launcher, char out[32]);
/* Kernels and graphs a step of its engine core, steps without tokens included. */
double rows_launches_per_step(const struct run_result *r, const struct probe_rates *launcher);
/* Least and greatest share of an API server in the window's tokens; NAN without tokens. */
void rows_api_shares(const struct run_result *r, double *least, double *greatest);
/* For table_known(): of a server of others no count is known, and its topology is all zero. */
int64_t rows_count_or_unknown(uint32_t count);
const char *rows_outcome_name(enum run_outcome outcome);
#endif
