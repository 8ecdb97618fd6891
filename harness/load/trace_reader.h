/*
 * trace_reader.h - what the trace formats share (private to harness/load/trace*.c): the rows'
 * way into a trace with all refusals, and errors with a line number.
 */
#ifndef HARNESS_LOAD_TRACE_READER_H
#define HARNESS_LOAD_TRACE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness/load/trace.h"

struct trace_reader {
    const char *name;
    uint32_t line; /* of the text being read, from 1 */
    const struct trace_limits *limits;
    struct trace trace;
    size_t requests_cap;
    size_t block_ids_cap;
    size_t texts_cap;
    int64_t first_ns; /* time of the first accepted row */
    int64_t last_ns;  /* of the last accepted row */
    struct error *error;
};

struct trace_row {
    int64_t time_ns; /* on the trace's own clock */
    uint64_t prompt_tokens;
    uint64_t output_tokens;
    uint32_t blocks_count; /* already appended with trace_reader_block() */
    uint32_t text_bytes;   /* already appended with trace_reader_text() */
};

bool trace_reader_full(const struct trace_reader *r);
/* INVALID with "NAME:LINE: " before the text. */
enum status trace_reader_error(struct trace_reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
MUST_CHECK enum status trace_reader_block(struct trace_reader *r, uint64_t block_id);
MUST_CHECK enum status trace_reader_text(struct trace_reader *r, const char *text, uint32_t bytes);
/* Accepts the row or refuses and counts it (its blocks and its text are taken back). Fails only for
 * lack of memory. */
MUST_CHECK enum status trace_reader_row(struct trace_reader *r, const struct trace_row *row);
/* Calls `line_fn` for every line, its '\n' included, until it fails or the trace is full. */
typedef enum status trace_line_fn(struct trace_reader *r, void *ctx, const char *line,
                                  size_t bytes);
MUST_CHECK enum status trace_reader_lines(struct trace_reader *r, const char *data, size_t bytes,
                                          trace_line_fn *line_fn, void *ctx);

struct json_object;
/* JSON lines: calls `row_fn` for each line that is an object. Blank lines are passed over. */
typedef enum status trace_object_fn(struct trace_reader *r, const struct json_object *row);
MUST_CHECK enum status trace_parse_json(struct trace_reader *r, const char *data, size_t bytes,
                                        trace_object_fn *row_fn);
/* A field that counts something, and one that is a time in ms. */
MUST_CHECK enum status trace_json_count(struct trace_reader *r, const struct json_object *row,
                                        const char *key, uint64_t *value);
MUST_CHECK enum status trace_json_time(struct trace_reader *r, const struct json_object *row,
                                       const char *key, int64_t *ns);

MUST_CHECK enum status trace_parse_azure(struct trace_reader *r, const char *data, size_t bytes);
MUST_CHECK enum status trace_parse_mooncake(struct trace_reader *r, const char *data, size_t bytes);
MUST_CHECK enum status trace_parse_requests(struct trace_reader *r, const char *data, size_t bytes);

#endif
