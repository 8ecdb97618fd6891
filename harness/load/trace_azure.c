/*
 * trace_azure.c - Azure's CSV traces: a header row with TIMESTAMP, ContextTokens and
 * GeneratedTokens (in any order, others ignored), times like "2023-11-16 18:15:46.6805900". libcsv
 * splits the fields. Driven by trace_parse(); no I/O.
 */
#include <csv.h>
#include <string.h>

#include "harness/load/trace_reader.h"

enum column {
    COLUMN_TIMESTAMP,
    COLUMN_CONTEXT,
    COLUMN_GENERATED,
    COLUMNS_COUNT
};

enum {
    FIELD_BYTES_MAX = 64,
    FIELDS_MAX = 64,
    NOT_A_COLUMN = COLUMNS_COUNT
};

static const char *const column_names[COLUMNS_COUNT] = {"TIMESTAMP", "ContextTokens",
                                                        "GeneratedTokens"};

struct azure {
    struct trace_reader *reader;
    uint32_t column_of_field[FIELDS_MAX];
    bool has_header;
    uint32_t field; /* of the row being read */
    char text[COLUMNS_COUNT][FIELD_BYTES_MAX];
    bool present[COLUMNS_COUNT];
    enum status status;
};

static bool digits(const char **text, uint32_t count, uint64_t *value)
{
    *value = 0;
    for (uint32_t i = 0; i < count; i++, (*text)++) {
        if (**text < '0' || **text > '9') {
            return false;
        }
        *value = *value * 10 + (uint64_t)(**text - '0');
    }
    return true;
}

static bool literal(const char **text, char c)
{
    if (**text != c) {
        return false;
    }
    (*text)++;
    return true;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar (years counted from March). */
static int64_t days_of_date(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t month_from_march = (month + 9) % 12;
    int64_t era_days = y / 400 * 146097;
    int64_t y_of_era = y % 400;
    int64_t day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    return era_days + y_of_era * 365 + y_of_era / 4 - y_of_era / 100 + day_of_year - 719468;
}

/* ".6805900": up to nine digits. */
static bool parse_fraction(const char **text, int64_t *ns)
{
    *ns = 0;
    if (!literal(text, '.')) {
        return true;
    }
    int64_t unit = 100000000;
    uint32_t count = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++, count++) {
        *ns += (**text - '0') * unit;
        unit /= 10;
    }
    return count >= 1 && count <= 9;
}

static bool parse_time(const char *text, int64_t *ns)
{
    uint64_t year;
    uint64_t month;
    uint64_t day;
    uint64_t hour;
    uint64_t minute;
    uint64_t second;
    int64_t fraction_ns;
    bool ok = digits(&text, 4, &year) && literal(&text, '-') && digits(&text, 2, &month) &&
              literal(&text, '-') && digits(&text, 2, &day) &&
              (literal(&text, ' ') || literal(&text, 'T')) && digits(&text, 2, &hour) &&
              literal(&text, ':') && digits(&text, 2, &minute) && literal(&text, ':') &&
              digits(&text, 2, &second) && parse_fraction(&text, &fraction_ns);
    if (ok && strcmp(text, "+00:00") != 0 && strcmp(text, "Z") != 0 && *text != '\0') {
        return false;
    }
    /* 2^63 ns end in 2262. */
    if (!ok || year < 1970 || year > 2260 || month < 1 || month > 12 || day < 1 || day > 31 ||
        hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    int64_t days = days_of_date((int64_t)year, (int64_t)month, (int64_t)day);
    int64_t seconds = (int64_t)(hour * 3600 + minute * 60 + second);
    *ns = (days * 86400 + seconds) * 1000000000 + fraction_ns;
    return true;
}

static bool parse_count(const char *text, uint64_t *value)
{
    size_t count = strlen(text);
    return count >= 1 && count <= 12 && digits(&text, (uint32_t)count, value);
}

static void header_field(struct azure *a, const char *text, size_t bytes)
{
    uint32_t column = 0;
    while (column < COLUMNS_COUNT && (strlen(column_names[column]) != bytes ||
                                      memcmp(column_names[column], text, bytes) != 0)) {
        column++;
    }
    a->column_of_field[a->field] = column;
    if (column == COLUMNS_COUNT) {
        return;
    }
    if (a->present[column]) {
        a->status = trace_reader_error(a->reader, "column %s stands twice", column_names[column]);
    }
    a->present[column] = true;
}

static void on_field(void *text, size_t bytes, void *ctx)
{
    struct azure *a = ctx;
    if (a->status != STATUS_OK) {
        return;
    }
    if (a->field >= FIELDS_MAX) {
        a->status = trace_reader_error(a->reader, "more than %d columns", FIELDS_MAX);
        return;
    }
    if (!a->has_header) {
        header_field(a, text, bytes);
    } else if (a->column_of_field[a->field] != NOT_A_COLUMN) {
        uint32_t column = a->column_of_field[a->field];
        if (bytes >= FIELD_BYTES_MAX || memchr(text, '\0', bytes) != NULL) {
            a->status =
                trace_reader_error(a->reader, "%s: want a time or a count", column_names[column]);
            return;
        }
        if (bytes > 0) {
            memcpy(a->text[column], text, bytes);
        }
        a->text[column][bytes] = '\0';
        a->present[column] = true;
    }
    a->field++;
}

static void end_of_header(struct azure *a)
{
    for (uint32_t i = 0; i < COLUMNS_COUNT; i++) {
        if (!a->present[i]) {
            a->status =
                trace_reader_error(a->reader, "no column %s in the header row", column_names[i]);
            return;
        }
    }
    a->has_header = true;
}

static void end_of_data(struct azure *a)
{
    for (uint32_t i = 0; i < COLUMNS_COUNT; i++) {
        if (!a->present[i]) {
            a->status = trace_reader_error(a->reader, "%s is missing", column_names[i]);
            return;
        }
    }
    struct trace_row row = {0};
    if (!parse_time(a->text[COLUMN_TIMESTAMP], &row.time_ns)) {
        a->status = trace_reader_error(
            a->reader, "TIMESTAMP: want a time like 2023-11-16 18:15:46.6805900, got \"%s\"",
            a->text[COLUMN_TIMESTAMP]);
    } else if (!parse_count(a->text[COLUMN_CONTEXT], &row.prompt_tokens)) {
        a->status = trace_reader_error(a->reader, "ContextTokens: want a count, got \"%s\"",
                                       a->text[COLUMN_CONTEXT]);
    } else if (!parse_count(a->text[COLUMN_GENERATED], &row.output_tokens)) {
        a->status = trace_reader_error(a->reader, "GeneratedTokens: want a count, got \"%s\"",
                                       a->text[COLUMN_GENERATED]);
    } else {
        a->status = trace_reader_row(a->reader, &row);
    }
}

static void on_row(int terminator, void *ctx)
{
    (void)terminator;
    struct azure *a = ctx;
    if (a->status == STATUS_OK && !trace_reader_full(a->reader)) {
        if (a->has_header) {
            end_of_data(a);
        } else {
            end_of_header(a);
        }
    }
    a->field = 0;
    memset(a->present, 0, sizeof a->present);
}

struct azure_parse {
    struct azure *azure;
    struct csv_parser *csv;
};

static enum status feed_line(struct trace_reader *r, void *ctx, const char *line, size_t bytes)
{
    struct azure_parse *p = ctx;
    if (csv_parse(p->csv, line, bytes, on_field, on_row, p->azure) != bytes) {
        return trace_reader_error(r, "%s", csv_strerror(csv_error(p->csv)));
    }
    return p->azure->status;
}

enum status trace_parse_azure(struct trace_reader *r, const char *data, size_t bytes)
{
    struct azure azure = {.reader = r};
    struct csv_parser csv;
    if (csv_init(&csv, CSV_STRICT | CSV_STRICT_FINI) != 0) {
        return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
    }
    struct azure_parse parse = {.azure = &azure, .csv = &csv};
    enum status status = trace_reader_lines(r, data, bytes, feed_line, &parse);
    /* A last line without a line end is a row too. */
    if (status == STATUS_OK && csv_fini(&csv, on_field, on_row, &azure) != 0) {
        status = trace_reader_error(r, "%s", csv_strerror(csv_error(&csv)));
    }
    if (status == STATUS_OK) {
        status = azure.status;
    }
    csv_free(&csv);
    if (status == STATUS_OK && !azure.has_header) {
        r->line = 1;
        status = trace_reader_error(r, "empty: want a header row with TIMESTAMP");
    }
    return status;
}
