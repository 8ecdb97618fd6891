/*
 * table.c - CSV writing (table.h). Owns the stream; knows nothing of what the columns mean.
 */
#include "harness/report/table.h"

#include <csv.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum status table_open(struct table *t, const char *folder, const char *name, struct error *error)
{
    *t = (struct table){.file = NULL};
    (void)snprintf(t->path, sizeof t->path, "%s/%s", folder, name);
    t->file = fopen(t->path, "we");
    if (t->file == NULL) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", t->path, strerror(errno));
    }
    return STATUS_OK;
}

static void put_plain(struct table *t, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        bool harmless = *at != '\t' && *at != '\n' && *at != '\r' && *at != '"';
        (void)fputc(harmless ? *at : ' ', t->file);
    }
}

/* libcsv quotes every field that it writes; a field that needs no quotes goes out bare, which every
 * reader of the format takes and which reads better. */
static void put(struct table *t, const char *text)
{
    size_t bytes = strlen(text);
    bool quotes = strpbrk(text, ",\"\r\n") != NULL ||
                  (bytes > 0 && (text[0] == ' ' || text[bytes - 1] == ' '));
    if (t->in_row) {
        (void)fputc(t->tabs ? '\t' : ',', t->file);
    }
    t->in_row = true;
    if (t->tabs) {
        put_plain(t, text);
    } else if (quotes) {
        (void)csv_fwrite(t->file, text, bytes);
    } else {
        (void)fwrite(text, 1, bytes, t->file);
    }
}

/* A row of JSON: `value` as it would stand in the CSV. */
static void put_member(struct table *t, const char *column, const char *value, bool number)
{
    struct json_object *member = NULL; /* null */
    if (number && value[0] != '\0') {
        member = json_object_new_double_s(strtod(value, NULL), value);
    } else if (value[0] != '\0') {
        member = json_object_new_string(value);
    }
    if (t->row == NULL) {
        t->row = json_object_new_object();
    }
    (void)json_object_object_add(t->row, column, member);
}

static void put_number(struct table *t, const char *column, const char *text)
{
    if (t->objects != NULL) {
        put_member(t, column, text, strstr(text, "inf") == NULL); /* JSON has no infinity */
    } else {
        table_text(t, column, text);
    }
}

void table_text(struct table *t, const char *column, const char *value)
{
    if (t->objects != NULL) {
        put_member(t, column, value != NULL ? value : "", false);
    } else if (t->naming) {
        put(t, column);
    } else {
        put(t, value != NULL ? value : "");
    }
}

void table_number(struct table *t, const char *column, double value)
{
    char text[32] = "";
    if (isinf(value)) {
        (void)snprintf(text, sizeof text, "%s", value > 0 ? "inf" : "-inf");
    } else if (!isnan(value)) {
        (void)snprintf(text, sizeof text, "%.6g", value);
        /* A program around this one may have chosen a locale with a decimal comma. */
        char *comma = strchr(text, ',');
        if (comma != NULL) {
            *comma = '.';
        }
    }
    put_number(t, column, text);
}

void table_count(struct table *t, const char *column, uint64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    put_number(t, column, text);
}

void table_known(struct table *t, const char *column, int64_t value)
{
    char text[32] = "";
    if (value >= 0) {
        (void)snprintf(text, sizeof text, "%" PRId64, value);
    }
    put_number(t, column, text);
}

void table_flag(struct table *t, const char *column, bool value)
{
    put_number(t, column, value ? "1" : "0");
}

void table_end_row(struct table *t)
{
    if (t->objects != NULL) {
        (void)json_object_array_add(t->objects, t->row);
        t->row = NULL;
        return;
    }
    (void)fputc('\n', t->file);
    t->in_row = false;
}

enum status table_sync(struct table *t, struct error *error)
{
    /* A pipe or a special file cannot be synced; its writes were checked all the same. */
    if (fflush(t->file) != 0 || ferror(t->file) != 0 ||
        (fdatasync(fileno(t->file)) != 0 && errno != EINVAL && errno != EROFS)) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", t->path, strerror(errno));
    }
    return STATUS_OK;
}

void table_close(struct table *t)
{
    if (t->file != NULL) {
        (void)fclose(t->file);
        t->file = NULL;
    }
}
