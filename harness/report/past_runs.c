/*
 * past_runs.c - reads runs.csv through libcsv (past_runs.h). A row whose fields are not as many as
 * the header's ends the reading with an error: nothing is guessed.
 */
#include "harness/report/past_runs.h"

#include <csv.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/analysis/stats.h"
#include "harness/scenario/nearest.h"

enum {
    PATH_BYTES = 1024,
    BLOCK_BYTES = 65536,
    FIELDS_MAX = 1024, /* of a row */
    NAME_BYTES = 80,
    UNWANTED = -1
};

struct reader {
    struct past_runs *runs;
    const char *path;
    const char *const *columns;
    int32_t wanted_of[FIELDS_MAX]; /* field -> index in columns, or UNWANTED */
    char names[FIELDS_MAX][NAME_BYTES];
    uint32_t header_count; /* 0: the header was not read yet */
    uint32_t field;
    uint32_t line; /* the last one read whole */
    enum status status;
    struct error *error;
};

static bool add_row(struct past_runs *runs)
{
    if (runs->rows_count == runs->rows_cap) {
        uint32_t cap = runs->rows_cap == 0 ? 64 : 2 * runs->rows_cap;
        size_t bytes = (size_t)cap * runs->columns_count * sizeof *runs->fields;
        char **grown = realloc(runs->fields, bytes);
        if (grown == NULL) {
            return false;
        }
        runs->fields = grown;
        runs->rows_cap = cap;
    }
    size_t first = (size_t)runs->rows_count * runs->columns_count;
    memset(runs->fields + first, 0, runs->columns_count * sizeof *runs->fields);
    runs->rows_count++;
    return true;
}

static void header_field(struct reader *r, const char *text, size_t bytes)
{
    int32_t *wanted = &r->wanted_of[r->field];
    (void)snprintf(r->names[r->field], NAME_BYTES, "%.*s", (int)bytes, bytes > 0 ? text : "");
    *wanted = UNWANTED;
    for (uint32_t i = 0; i < r->runs->columns_count; i++) {
        if (strcmp(r->names[r->field], r->columns[i]) == 0) {
            *wanted = (int32_t)i;
        }
    }
}

static void data_field(struct reader *r, const char *text, size_t bytes)
{
    if (r->field == 0 && !add_row(r->runs)) {
        r->status = error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->path);
        return;
    }
    if (r->field >= r->header_count || r->wanted_of[r->field] == UNWANTED) {
        return;
    }
    size_t row = r->runs->rows_count - 1;
    char *copy = calloc(bytes + 1, 1); /* the field ends without a NUL */
    if (copy == NULL) {
        r->status = error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->path);
        return;
    }
    if (bytes > 0) {
        memcpy(copy, text, bytes);
    }
    r->runs->fields[row * r->runs->columns_count + (uint32_t)r->wanted_of[r->field]] = copy;
}

static void on_field(void *text, size_t bytes, void *ctx)
{
    struct reader *r = ctx;
    if (r->status != STATUS_OK) {
        return;
    }
    if (r->field >= FIELDS_MAX) {
        r->status = error_set(r->error, STATUS_INVALID, "%s:%u: more than %d columns", r->path,
                              r->line + 1, FIELDS_MAX);
    } else if (r->header_count == 0) {
        header_field(r, text, bytes);
    } else {
        data_field(r, text, bytes);
    }
    r->field++;
}

static void end_of_header(struct reader *r)
{
    r->header_count = r->field;
    for (uint32_t i = 0; i < r->runs->columns_count; i++) {
        struct nearest nearest = {.word = r->columns[i]};
        char hint[128];
        bool found = false;
        for (uint32_t f = 0; f < r->header_count; f++) {
            found = found || r->wanted_of[f] == (int32_t)i;
            nearest_offer(&nearest, r->names[f]);
        }
        if (!found) {
            r->status = error_set(r->error, STATUS_INVALID, "%s has no column '%s'%s", r->path,
                                  r->columns[i], nearest_hint(&nearest, hint, sizeof hint));
            return;
        }
    }
}

static void on_row(int terminator, void *ctx)
{
    (void)terminator;
    struct reader *r = ctx;
    r->line++;
    if (r->status == STATUS_OK && r->header_count == 0) {
        end_of_header(r);
    } else if (r->status == STATUS_OK && r->field != r->header_count) {
        r->status = error_set(r->error, STATUS_INVALID,
                              "%s:%u: %u fields under a header of %u; harness run --resume writes "
                              "the file of a killed run again",
                              r->path, r->line, r->field, r->header_count);
    }
    r->field = 0;
}

static enum status parse(struct reader *r, FILE *file)
{
    struct csv_parser csv;
    char block[BLOCK_BYTES];
    size_t bytes;
    if (csv_init(&csv, CSV_STRICT | CSV_STRICT_FINI) != 0) {
        return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->path);
    }
    bool sound = true;
    while (sound && r->status == STATUS_OK && (bytes = fread(block, 1, sizeof block, file)) > 0) {
        sound = csv_parse(&csv, block, bytes, on_field, on_row, r) == bytes;
    }
    sound = sound && csv_fini(&csv, on_field, on_row, r) == 0;
    if (r->status == STATUS_OK && ferror(file) != 0) {
        r->status = error_set(r->error, STATUS_IO, "%s: %s", r->path, strerror(errno));
    } else if (r->status == STATUS_OK && !sound) {
        r->status = error_set(r->error, STATUS_INVALID, "%s:%u: %s", r->path, r->line + 1,
                              csv_strerror(csv_error(&csv)));
    } else if (r->status == STATUS_OK && r->header_count == 0) {
        r->status = error_set(r->error, STATUS_INVALID, "%s is empty", r->path);
    }
    csv_free(&csv);
    return r->status;
}

static enum status read_file(struct past_runs *runs, const char *path, const char *const *columns,
                             struct error *error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    struct reader *r = calloc(1, sizeof *r);
    enum status status = STATUS_NOMEM;
    if (r == NULL) {
        status = error_set(error, STATUS_NOMEM, "%s: out of memory", path);
    } else {
        r->runs = runs;
        r->path = path;
        r->columns = columns;
        r->error = error;
        status = parse(r, file);
    }
    free(r);
    (void)fclose(file);
    return status;
}

static enum status read_folders(struct past_runs *runs, const char *folder,
                                const char *const *columns, struct error *error)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    uint32_t files_count = 0;
    enum status status = STATUS_OK;
    if (count < 0) {
        return error_set(error, STATUS_IO, "%s: %s", folder, strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES];
        (void)snprintf(path, sizeof path, "%s/%s/runs.csv", folder, entries[i]->d_name);
        bool up = entries[i]->d_name[0] == '.';
        free(entries[i]);
        if (status == STATUS_OK && !up && access(path, F_OK) == 0) {
            status = read_file(runs, path, columns, error);
            files_count++;
        }
    }
    free((void *)entries);
    if (status == STATUS_OK && files_count == 0) {
        return error_set(error, STATUS_NOT_FOUND,
                         "%s holds neither runs.csv nor result folders with one", folder);
    }
    return status;
}

enum status past_runs_read(struct past_runs *runs, const char *folder, const char *const *columns,
                           uint32_t columns_count, struct error *error)
{
    char path[PATH_BYTES];
    *runs = (struct past_runs){.columns_count = columns_count};
    (void)snprintf(path, sizeof path, "%s/runs.csv", folder);
    if (access(path, F_OK) == 0) {
        return read_file(runs, path, columns, error);
    }
    return read_folders(runs, folder, columns, error);
}

const char *past_runs_field(const struct past_runs *runs, uint32_t row, uint32_t column)
{
    ASSERT(row < runs->rows_count && column < runs->columns_count);
    return runs->fields[(size_t)row * runs->columns_count + column];
}

double past_runs_number(const struct past_runs *runs, uint32_t row, uint32_t column)
{
    const char *text = past_runs_field(runs, row, column);
    char *end = NULL;
    double value = strtod(text, &end);
    return *text != '\0' && *end == '\0' ? value : STATS_UNKNOWN;
}

void past_runs_free(struct past_runs *runs)
{
    size_t count = (size_t)runs->rows_count * runs->columns_count;
    for (size_t i = 0; i < count; i++) {
        free(runs->fields[i]);
    }
    free((void *)runs->fields);
    *runs = (struct past_runs){0};
}
