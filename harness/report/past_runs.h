/*
 * past_runs.h - runs.csv of finished result folders, read back: chosen columns of every run as
 * text. Driven by comparison.c. Writes nothing.
 */
#ifndef HARNESS_REPORT_PAST_RUNS_H
#define HARNESS_REPORT_PAST_RUNS_H

#include <stdint.h>

#include "engine/base/status.h"

struct past_runs {
    uint32_t columns_count;
    uint32_t rows_count;
    uint32_t rows_cap;
    char **fields; /* rows_count x columns_count; never NULL, "" where nothing stands */
};

/*
 * Rows of FOLDER/runs.csv; without that file those of all FOLDER/X/runs.csv, X in the order of
 * names. A column that a file lacks is an error that names the nearest one. past_runs_free() is
 * due after errors, too.
 */
MUST_CHECK enum status past_runs_read(struct past_runs *runs, const char *folder,
                                      const char *const *columns, uint32_t columns_count,
                                      struct error *error);
const char *past_runs_field(const struct past_runs *runs, uint32_t row, uint32_t column);
/* NAN where nothing stands. */
double past_runs_number(const struct past_runs *runs, uint32_t row, uint32_t column);
void past_runs_free(struct past_runs *runs);

#endif
