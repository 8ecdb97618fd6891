/*
 * trace_mooncake.c - Mooncake's traces: one JSON object a line with timestamp (ms), input_length,
 * output_length and, if the trace has them, hash_ids. Driven by trace_parse(); no I/O.
 */
#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "harness/load/trace_reader.h"

enum {
    DEPTH_MAX = 8
};

static enum status read_count(struct trace_reader *r, const struct json_object *row,
                              const char *key, uint64_t *value)
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

static enum status read_time(struct trace_reader *r, const struct json_object *row, int64_t *ns)
{
    struct json_object *field = NULL;
    const double ms_max = 1e12;
    if (!json_object_object_get_ex(row, "timestamp", &field)) {
        return trace_reader_error(r, "timestamp is missing");
    }
    double ms = json_object_get_double(field);
    bool is_number =
        json_object_is_type(field, json_type_int) || json_object_is_type(field, json_type_double);
    if (!is_number || !(ms >= 0.0 && ms <= ms_max)) {
        return trace_reader_error(r, "timestamp: want a number of milliseconds, 0..%g", ms_max);
    }
    *ns = (int64_t)llround(ms * 1e6);
    return STATUS_OK;
}

static enum status read_blocks(struct trace_reader *r, const struct json_object *row,
                               uint32_t *blocks_count)
{
    struct json_object *field = NULL;
    *blocks_count = 0;
    if (!json_object_object_get_ex(row, "hash_ids", &field) || field == NULL) {
        return STATUS_OK;
    }
    if (!json_object_is_type(field, json_type_array)) {
        return trace_reader_error(r, "hash_ids: want an array of numbers");
    }
    size_t count = json_object_array_length(field);
    for (size_t i = 0; i < count; i++) {
        const struct json_object *id = json_object_array_get_idx(field, i);
        if (!json_object_is_type(id, json_type_int)) {
            return trace_reader_error(r, "hash_ids: want an array of numbers");
        }
        TRY(trace_reader_block(r, (uint64_t)json_object_get_int64(id)));
        (*blocks_count)++;
    }
    return STATUS_OK;
}

static enum status read_row(struct trace_reader *r, const struct json_object *object)
{
    struct trace_row row = {0};
    TRY(read_time(r, object, &row.time_ns));
    TRY(read_count(r, object, "input_length", &row.prompt_tokens));
    TRY(read_count(r, object, "output_length", &row.output_tokens));
    TRY(read_blocks(r, object, &row.blocks_count));
    return trace_reader_row(r, &row);
}

static enum status feed_line(struct trace_reader *r, void *ctx, const char *line, size_t bytes)
{
    struct json_tokener *tokener = ctx;
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
        status = read_row(r, object);
    }
    (void)json_object_put(object);
    return status;
}

enum status trace_parse_mooncake(struct trace_reader *r, const char *data, size_t bytes)
{
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    if (tokener == NULL) {
        return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    enum status status = trace_reader_lines(r, data, bytes, feed_line, tokener);
    json_tokener_free(tokener);
    return status;
}
