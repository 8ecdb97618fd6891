/*
 * table.h - one CSV file, written field by field through libcsv: RFC 4180 but
 * for line ends (LF, as the tools around it expect), one header row, C locale. The same rows may
 * become JSON objects instead.
 *
 * The same function names the columns and writes the rows: in naming mode each field puts its
 * column's name instead of its value, so that header and rows cannot differ.
 *
 *     TRY(table_open(&t, folder, "runs.csv", error));
 *     t.naming = true;  write_row(&t, &nothing);  t.naming = false;
 *     write_row(&t, &result);  TRY(table_sync(&t, error));
 *
 * A failed write is kept by the stream and reported by table_sync(), which names the file.
 */
#ifndef HARNESS_REPORT_TABLE_H
#define HARNESS_REPORT_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/base/status.h"

enum {
    TABLE_PATH_BYTES = 640
};

struct json_object;

struct table {
    FILE *file;                  /* NULL: not open */
    struct json_object *objects; /* an array: rows are added to it, unknown fields as null, and
                                    nothing is written; NULL: CSV */
    struct json_object *row;     /* the one in work */
    char path[TABLE_PATH_BYTES];
    bool naming;
    bool in_row;
    bool tabs; /* fields apart by tabs and never quoted, for gnuplot: it cuts a quoted text at a
                  comma */
};

/* Truncates what was there. IO names the file. */
MUST_CHECK enum status table_open(struct table *t, const char *folder, const char *name,
                                  struct error *error);
/* NULL is an empty field. */
void table_text(struct table *t, const char *column, const char *value);
/* Six significant digits, the same on every machine; NAN is an empty field, infinity "inf". */
void table_number(struct table *t, const char *column, double value);
void table_count(struct table *t, const char *column, uint64_t value);
/* Negative: unknown, an empty field. */
void table_known(struct table *t, const char *column, int64_t value);
/* 1 or 0. */
void table_flag(struct table *t, const char *column, bool value);
void table_end_row(struct table *t);
/* Everything written so far is with the kernel and on its way to the disk. IO names the file. */
MUST_CHECK enum status table_sync(struct table *t, struct error *error);
/* Accepts one that is not open. What was not synced may be lost. */
void table_close(struct table *t);

#endif
