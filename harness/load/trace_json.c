/*
 * trace_json.c - JSON lines as the trace formats share them: a line is an object, and its fields
 * are counts or times (trace_reader.h). Driven by the formats' parsers; no I/O.
 */
#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "harness/load/trace_reader.h"

enum {
    DEPTH_MAX = 8
};

struct lines {
    struct json_tokener *tokener;
    trace_object_fn *row_fn;
};

enum status trace_json_count(struct trace_reader *r, const struct json_object *row, const char *key,
                             uint64_t *value)
{
    struct json_object *field = NULL;
    if (!json_object_object_get_ex(row, key, &field)) {
        return trace_reader_error(r, "%s is missing", key);
    }
    int64_t number = json_object_get_int64(field);
    if (!json_object_is_type(field, json_type_int) || number < 0 || number == INT64_MAX) {
        return trace_reader_error(r, "%s: want a count", key);
    }
    *value = (uint64_t)number;
    return STATUS_OK;
}

enum status trace_json_time(struct trace_reader *r, const struct json_object *row, const char *key,
                            int64_t *ns)
{
    struct json_object *field = NULL;
    const double ms_max = 8e12; /* a date of this century in ms too */
    if (!json_object_object_get_ex(row, key, &field)) {
        return trace_reader_error(r, "%s is missing", key);
    }
    double ms = json_object_get_double(field);
    bool is_number =
        json_object_is_type(field, json_type_int) || json_object_is_type(field, json_type_double);
    if (!is_number || !(ms >= 0.0 && ms <= ms_max)) {
        return trace_reader_error(r, "%s: want a number of milliseconds, 0..%g", key, ms_max);
    }
    *ns = (int64_t)llround(ms * 1e6);
    return STATUS_OK;
}

static enum status feed_line(struct trace_reader *r, void *ctx, const char *line, size_t bytes)
{
    const struct lines *lines = ctx;
    struct json_tokener *tokener = lines->tokener;
    while (bytes > 0 && strchr(" \t\r\n", line[bytes - 1]) != NULL && line[bytes - 1] != '\0') {
        bytes--;
    }
    if (bytes == 0) {
        return STATUS_OK;
    }
    if (bytes > INT_MAX) {
        return trace_reader_error(r, "line too long");
    }
    json_tokener_reset(tokener);
    struct json_object *object = json_tokener_parse_ex(tokener, line, (int)bytes);
    enum json_tokener_error problem = json_tokener_get_error(tokener);
    enum status status;
    if (problem != json_tokener_success || json_tokener_get_parse_end(tokener) != bytes) {
        status = trace_reader_error(
            r, "no JSON object: %s",
            problem == json_tokener_success ? "text behind it" : json_tokener_error_desc(problem));
    } else if (!json_object_is_type(object, json_type_object)) {
        status = trace_reader_error(r, "want a JSON object");
    } else {
        status = lines->row_fn(r, object);
    }
    (void)json_object_put(object);
    return status;
}

enum status trace_parse_json(struct trace_reader *r, const char *data, size_t bytes,
                             trace_object_fn *row_fn)
{
    struct lines lines = {.tokener = json_tokener_new_ex(DEPTH_MAX), .row_fn = row_fn};
    if (lines.tokener == NULL) {
        return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
    }
    json_tokener_set_flags(lines.tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    enum status status = trace_reader_lines(r, data, bytes, feed_line, &lines);
    json_tokener_free(lines.tokener);
    return status;
}
