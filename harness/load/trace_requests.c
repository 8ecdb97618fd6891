/*
 * trace_requests.c - requests as JSON lines: one object a line with output_tokens, the prompt
 * itself (`prompt`), its length (`prompt_tokens`) or both, and timestamp_ms if the requests have
 * times. Other fields are passed over. Driven by trace_parse(); no I/O.
 */
#include <json-c/json.h>

#include "harness/load/trace_reader.h"

/* A prompt without a length counts a token a byte, as the tokenizer of the emulated model does. */
static enum status read_prompt(struct trace_reader *r, const struct json_object *object,
                               struct trace_row *row)
{
    struct json_object *field = NULL;
    bool has_text = json_object_object_get_ex(object, "prompt", &field);
    bool has_count = json_object_object_get_ex(object, "prompt_tokens", NULL);
    if (!has_text && !has_count) {
        return trace_reader_error(r, "want prompt or prompt_tokens, or both");
    }
    if (has_text) {
        if (!json_object_is_type(field, json_type_string)) {
            return trace_reader_error(r, "prompt: want a string");
        }
        row->text_bytes = (uint32_t)json_object_get_string_len(field);
        row->prompt_tokens = row->text_bytes;
        TRY(trace_reader_text(r, json_object_get_string(field), row->text_bytes));
    }
    bool is_empty = has_text && row->text_bytes == 0;
    return has_count && !is_empty
               ? trace_json_count(r, object, "prompt_tokens", &row->prompt_tokens)
               : STATUS_OK;
}

static enum status read_row(struct trace_reader *r, const struct json_object *object)
{
    struct trace_row row = {.time_ns = r->last_ns};
    bool timed = json_object_object_get_ex(object, "timestamp_ms", NULL);
    if (r->limits->timed && !timed) {
        return trace_reader_error(r, "timestamp_ms is missing, which mode = trace needs");
    }
    if (timed) {
        TRY(trace_json_time(r, object, "timestamp_ms", &row.time_ns));
    }
    TRY(trace_json_count(r, object, "output_tokens", &row.output_tokens));
    TRY(read_prompt(r, object, &row));
    return trace_reader_row(r, &row);
}

enum status trace_parse_requests(struct trace_reader *r, const char *data, size_t bytes)
{
    return trace_parse_json(r, data, bytes, read_row);
}
