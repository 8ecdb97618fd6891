/*
 * report.h - a result folder: CSV rows as runs end, then scaling, figures, the verdict,
 * report.md and report.html.
 *
 *     report_create(&options, &report, error);          // IO: not writable or in use by another
 * run (exit status 8) report_run(report, &result, error);               // after each run: rows in
 * every CSV, on disk when it returns report_conclude(report, results, count, &conclusion, error);
 *     report_close(report);
 *
 * Everything measured is on disk before the next run starts, so that nothing is lost when something
 * dies. Figures are drawn by gnuplot from the CSV files alone; without gnuplot they come as text,
 * with a note.
 */
#ifndef HARNESS_REPORT_REPORT_H
#define HARNESS_REPORT_REPORT_H

#include <stdio.h>

#include "harness/report/result.h"

struct report;
struct knees;
struct elasticity;
struct confirmed;

struct report_options {
    const char *folder; /* made if missing; an existing one must be empty or of an earlier run of
                           the same name */
    const char *plots_folder; /* where the gnuplot scripts are */
    const struct scenario *scenario;
    const struct run_host *host;
    bool again;   /* a session's rows and manifest stay, what is concluded is written again */
    bool resumes; /* the rows of an earlier session are written again before they are replaced */
};

/* The answer of a whole session. Texts are complete sentences. */
struct report_conclusion {
    char verdict[1536]; /* the first thing a person reads: where extra engine cores stop helping,
                           and what limits */
    char caveat[512]; /* "" or why part of the range is no evidence (host limited, invalid runs) */
    uint32_t figures_count; /* SVG files drawn */
    char validation[1024];  /* runs that were simulated and measured: how far apart; "" without */
    bool undecided;         /* some curve or SLO could not be decided (exit status 3) */
    bool slo_missed;        /* some cell misses a limit of its [slo] (exit status 4) */
    bool validated;         /* some cell was held against the limits of validation.h */
    bool deviates;          /* and one of them is exceeded */
};

MUST_CHECK enum status report_create(const struct report_options *options, struct report **out,
                                     struct error *error);
/* Of a session that resumes: all earlier runs have gone through report_run(). */
MUST_CHECK enum status report_resumed(struct report *r, struct error *error);
MUST_CHECK enum status report_run(struct report *r, const struct run_result *result,
                                  struct error *error);
/* `results` are all runs so far in order of running; `interrupted` marks the session as incomplete.
 */
MUST_CHECK enum status report_conclude(struct report *r, const struct run_result *results,
                                       uint32_t count, bool interrupted,
                                       struct report_conclusion *conclusion, struct error *error);
/* What a search for rates found: report_conclude() writes it beside the runs, and its sentence is
 * the verdict. `knees` must outlive the report. */
void report_knees(struct report *r, const struct knees *knees);
/* What a probe of elasticity found: report_conclude() writes it, and its sentence follows the
 * verdict. `elasticity` must outlive the report. */
void report_elasticity(struct report *r, const struct elasticity *elasticity);
/* What predictions that were put to the test gave; in the same way. */
void report_confirmed(struct report *r, const struct confirmed *confirmed);
void report_close(struct report *r);

/* Simulation against measurement, of a session that did both. */
void report_print_validation(const struct report *r, FILE *out);
/* The tables of what was done besides the runs of the scenario: searches, probes, confirmations. */
void report_print_besides(const struct report *r, FILE *out);
/* The tables a person sees at the end, to `out`: one row a cell, predictions beside measurements,
 * who launches, and what was used unevenly. */
void report_print_table(const struct scenario *scenario, const struct run_result *results,
                        uint32_t count, FILE *out);
/* What the demand of [report] takes and costs; nothing without one. `knees` may be NULL. */
void report_print_plan(const struct scenario *scenario, const struct run_result *results,
                       uint32_t count, const struct knees *knees, FILE *out);

#endif
