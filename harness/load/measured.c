/* measured.c - reads measured runs of others; see measured.h for the format. */
#include "harness/load/measured.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEPTH_MAX = 8
};

/* A request as it stands in the file: seconds. Doubles keep a Unix time to 0.2 us. */
struct row {
    double arrival_s;
    double queued_s;
    double scheduled_s;
    double first_s;
    double last_s;
    uint32_t prompt_tokens;
    uint32_t output_tokens;
};

struct reader {
    const char *name;
    struct json_tokener *tokener;
    struct row *rows;
    size_t count;
    size_t cap;
    size_t line;
    struct error *error;
};

static enum status bad(const struct reader *r, const char *field, const char *want)
{
    return error_set(r->error, STATUS_INVALID, "%s:%zu: %s: want %s", r->name, r->line, field,
                     want);
}

static enum status read_seconds(const struct reader *r, const struct json_object *object,
                                const char *key, double *out)
{
    const double most_s = 2.5e9; /* differences fit in ns, and Unix times of a while */
    struct json_object *field = NULL;
    if (!json_object_object_get_ex(object, key, &field)) {
        return bad(r, key, "this field");
    }
    *out = json_object_get_double(field);
    bool is_number =
        json_object_is_type(field, json_type_int) || json_object_is_type(field, json_type_double);
    return is_number && *out >= 0.0 && *out <= most_s ? STATUS_OK
                                                      : bad(r, key, "seconds, 0 to 2.5e9");
}

static enum status read_tokens(const struct reader *r, const struct json_object *object,
                               const char *key, uint32_t *out)
{
    const int64_t most = 1 << 30;
    struct json_object *field = NULL;
    if (!json_object_object_get_ex(object, key, &field)) {
        return bad(r, key, "this field");
    }
    int64_t tokens = json_object_get_int64(field);
    if (!json_object_is_type(field, json_type_int) || tokens < 1 || tokens > most) {
        return bad(r, key, "at least one token");
    }
    *out = (uint32_t)tokens;
    return STATUS_OK;
}

static enum status read_row(const struct reader *r, const struct json_object *object,
                            struct row *row)
{
    TRY(read_tokens(r, object, "input_toks", &row->prompt_tokens));
    TRY(read_tokens(r, object, "output_toks", &row->output_tokens));
    TRY(read_seconds(r, object, "arrival_time", &row->arrival_s));
    TRY(read_seconds(r, object, "queued_ts", &row->queued_s));
    TRY(read_seconds(r, object, "scheduled_ts", &row->scheduled_s));
    TRY(read_seconds(r, object, "first_token_ts", &row->first_s));
    TRY(read_seconds(r, object, "last_token_ts", &row->last_s));
    bool in_order = row->queued_s <= row->scheduled_s && row->scheduled_s <= row->first_s &&
                    row->first_s <= row->last_s;
    return in_order ? STATUS_OK
                    : bad(r, "queued_ts, scheduled_ts, first_token_ts, last_token_ts",
                          "times in this order");
}

static enum status keep_row(struct reader *r, const struct row *row)
{
    if (r->count == MEASURED_REQUESTS_MAX) {
        return error_set(r->error, STATUS_FULL, "%s:%zu: more than %d requests", r->name, r->line,
                         MEASURED_REQUESTS_MAX);
    }
    if (r->count == r->cap) {
        size_t cap = r->cap > 0 ? 2 * r->cap : 256;
        struct row *rows = reallocarray(r->rows, cap, sizeof *rows);
        if (rows == NULL) {
            return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
        }
        r->rows = rows;
        r->cap = cap;
    }
    r->rows[r->count++] = *row;
    return STATUS_OK;
}

static enum status read_line(struct reader *r, const char *line, size_t bytes)
{
    while (bytes > 0 && (line[bytes - 1] == '\n' || line[bytes - 1] == '\r')) {
        bytes--;
    }
    if (bytes == 0) {
        return STATUS_OK;
    }
    if (bytes > INT_MAX) {
        return bad(r, "line", "fewer than 2^31 characters");
    }
    struct row row;
    json_tokener_reset(r->tokener);
    struct json_object *object = json_tokener_parse_ex(r->tokener, line, (int)bytes);
    bool whole = json_tokener_get_error(r->tokener) == json_tokener_success &&
                 json_tokener_get_parse_end(r->tokener) == bytes &&
                 json_object_is_type(object, json_type_object);
    enum status status =
        whole ? read_row(r, object, &row) : bad(r, "line", "one JSON object and nothing else");
    (void)json_object_put(object);
    return status == STATUS_OK ? keep_row(r, &row) : status;
}

static int by_arrival(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    return (x->arrival_s > y->arrival_s) - (x->arrival_s < y->arrival_s);
}

/* Seconds of the engine's clock into ns since the first arrival. */
static enum status convert(struct reader *r, struct measured_run *out)
{
    struct measured_request *requests = calloc(r->count, sizeof *requests);
    double ahead_s = HUGE_VAL; /* the engine's clock less the arrivals' */
    if (requests == NULL) {
        return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
    }
    qsort(r->rows, r->count, sizeof *r->rows, by_arrival);
    for (size_t i = 0; i < r->count; i++) {
        ahead_s = fmin(ahead_s, r->rows[i].queued_s - r->rows[i].arrival_s);
    }
    double zero_s = r->rows[0].arrival_s;
    for (size_t i = 0; i < r->count; i++) {
        const struct row *row = &r->rows[i];
        requests[i] = (struct measured_request){
            .arrival_ns = llround((row->arrival_s - zero_s) * 1e9),
            .queued_ns = llround((row->queued_s - ahead_s - zero_s) * 1e9),
            .scheduled_ns = llround((row->scheduled_s - ahead_s - zero_s) * 1e9),
            .first_ns = llround((row->first_s - ahead_s - zero_s) * 1e9),
            .last_ns = llround((row->last_s - ahead_s - zero_s) * 1e9),
            .prompt_tokens = row->prompt_tokens,
            .output_tokens = row->output_tokens,
        };
    }
    *out = (struct measured_run){.requests = requests, .count = (uint32_t)r->count};
    return STATUS_OK;
}

static enum status read_lines(struct reader *r, FILE *in)
{
    char *line = NULL;
    size_t cap = 0;
    enum status status = STATUS_OK;
    ssize_t bytes = getline(&line, &cap, in);
    for (; bytes >= 0 && status == STATUS_OK; bytes = getline(&line, &cap, in)) {
        r->line++;
        status = read_line(r, line, (size_t)bytes);
    }
    free(line);
    if (status == STATUS_OK && ferror(in)) {
        status = error_set(r->error, STATUS_IO, "%s: %s", r->name, strerror(errno));
    }
    if (status == STATUS_OK && r->count == 0) {
        status = error_set(r->error, STATUS_INVALID, "%s: no request in it", r->name);
    }
    return status;
}

enum status measured_parse(const char *name, FILE *in, struct measured_run *out,
                           struct error *error)
{
    struct reader r = {.name = name, .tokener = json_tokener_new_ex(DEPTH_MAX), .error = error};
    if (r.tokener == NULL) {
        return error_set(error, STATUS_NOMEM, "%s: out of memory", name);
    }
    json_tokener_set_flags(r.tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    enum status status = read_lines(&r, in);
    if (status == STATUS_OK) {
        status = convert(&r, out);
    }
    json_tokener_free(r.tokener);
    free(r.rows);
    return status;
}

enum status measured_read(const char *path, struct measured_run *out, struct error *error)
{
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
                         strerror(errno));
    }
    enum status status = measured_parse(path, in, out, error);
    (void)fclose(in);
    return status;
}

void measured_free(struct measured_run *run)
{
    free(run->requests);
    *run = (struct measured_run){0};
}
