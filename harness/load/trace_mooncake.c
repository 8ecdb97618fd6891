/*
 * trace_mooncake.c - Mooncake's traces: one JSON object a line with timestamp (ms), input_length,
 * output_length and, if the trace has them, hash_ids. Driven by trace_parse(); no I/O.
 */
#include <json-c/json.h>

#include "harness/load/trace_reader.h"

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
    TRY(trace_json_time(r, object, "timestamp", &row.time_ns));
    TRY(trace_json_count(r, object, "input_length", &row.prompt_tokens));
    TRY(trace_json_count(r, object, "output_length", &row.output_tokens));
    TRY(read_blocks(r, object, &row.blocks_count));
    return trace_reader_row(r, &row);
}

enum status trace_parse_mooncake(struct trace_reader *r, const char *data, size_t bytes)
{
    return trace_parse_json(r, data, bytes, read_row);
}
