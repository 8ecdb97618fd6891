/*
 * record.h - the finished runs of a session, kept whole in its result folder, so that a session
 * that died is completed from where it was (`harness run --resume`).
 *
 *     DIR/runs/session     what was measured, with which program, on which machine
 *     DIR/runs/r0007.run   a run's whole result: the CSV rows and the report follow from it
 *
 * Each file is written beside its name, synced and renamed: it is there whole or not at all. Files
 * are read only by the revision of the program that wrote them, so they hold structs as they are;
 * sizes and a hash of the content are checked all the same.
 */
#ifndef HARNESS_RUN_RECORD_H
#define HARNESS_RUN_RECORD_H

#include <stdio.h>

#include "harness/report/result.h"

enum {
    RECORD_TEXTS_MAX = 128,
    RECORD_TEXT_BYTES = 48
};

/* Words that results which were read point to. They must outlive them and may not move. */
struct record_texts {
    char text[RECORD_TEXTS_MAX][RECORD_TEXT_BYTES];
    uint32_t count;
};

/* Removes what an earlier session left, then says what this one is. */
MUST_CHECK enum status record_begin(const char *folder, const struct scenario *scenario,
                                    const struct run_host *host, struct error *error);
/*
 * The session of `folder`, if it is the one that `scenario` on `host` would be: `*out` is then the
 * host as it was written, with the client's ceiling. NOT_FOUND: the folder has none. INVALID: it is
 * another; one line for each difference went to `differences`.
 */
MUST_CHECK enum status record_session(const char *folder, const struct scenario *scenario,
                                      const struct run_host *host, struct run_host *out,
                                      FILE *differences, struct error *error);

/* What a folder's session was about, for who makes no run. */
struct record_about {
    struct run_host host; /* as it was written, with the client's ceiling */
    char *config;         /* every value of the scenario, as a scenario file; the caller frees it */
    uint64_t plan_hash;
};
/* NOT_FOUND: the folder has no records. INVALID: they are damaged or of another revision of the
 * program than `git_rev`. */
MUST_CHECK enum status record_about_read(const char *folder, const char *git_rev,
                                         struct record_about *out, struct error *error);
/* Whether `scenario` has the session's cells and runs. */
bool record_has_plan(const struct record_about *about, const struct scenario *scenario);

/* On disk when it returns OK. IO names the file. */
MUST_CHECK enum status record_write(const char *folder, const struct run_result *result,
                                    struct error *error);
/*
 * The result of scenario->runs[index]. NOT_FOUND: it was not made. INVALID: the file is damaged or
 * of another run, also of a cell with another name or load. The caller frees *out with
 * result_free().
 */
MUST_CHECK enum status record_read(const char *folder, const struct scenario *scenario,
                                   uint32_t index, struct record_texts *texts,
                                   struct run_result *out, struct error *error);
/* The same of a run that is not one of a scenario's: a search decides its runs as it goes. */
struct record_wanted {
    const struct scenario_cell *cell; /* out->cell */
    const struct scenario_run *run;   /* its replicate and seed */
    uint32_t index;
};
MUST_CHECK enum status record_read_wanted(const char *folder, const struct record_wanted *wanted,
                                          struct record_texts *texts, struct run_result *out,
                                          struct error *error);
/* Whether a result is final: made again, it would be another measurement of the same. Runs that
 * were cut short are none. */
bool record_is_final(const struct run_result *result);

#endif
