/*
 * trace.h - published request traces as they are: Azure's CSV
 * (TIMESTAMP,ContextTokens,GeneratedTokens) and Mooncake's JSON lines (timestamp in ms,
 * input_length, output_length, hash_ids: one id for each 512-token block of the prompt); and
 * requests as JSON lines of one's own (output_tokens, prompt or prompt_tokens or both, and
 * timestamp_ms if they have times).
 *
 * A row that cannot be read is an error naming file and line. A row that can be read but not sent
 * (no prompt or no output tokens, longer than the model allows, earlier than the row before it) is
 * refused and counted, never clipped. CRLF and a missing last newline are accepted. Driven by the
 * load client and by checks before a run; reads a file, nothing else.
 */
#ifndef HARNESS_LOAD_TRACE_H
#define HARNESS_LOAD_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "harness/load/options.h"

enum {
    TRACE_BLOCK_TOKENS = 512, /* tokens that one hash id stands for */
    TRACE_FILE_BYTES_MAX = 1 << 30,
};

struct trace_request {
    int64_t at_ns; /* since the first accepted request */
    uint32_t prompt_tokens;
    uint32_t output_tokens;
    uint32_t blocks_first; /* its hash ids: trace.block_ids[blocks_first .. + blocks_count) */
    uint32_t blocks_count; /* may cover less than the prompt: the rest is unique */
    uint32_t line;
    uint32_t text_bytes; /* its prompt: trace.texts[text_at .. + text_bytes); 0: made up */
    size_t text_at;
};

struct trace {
    struct trace_request *requests;
    uint32_t requests_count;
    uint64_t *block_ids;
    uint32_t block_ids_count;
    char *texts; /* prompts, one behind the other */
    size_t texts_bytes;
    enum trace_format format; /* what it turned out to be */
    uint32_t rows_count;      /* looked at: accepted and refused */
    uint32_t refused_zero_count;
    uint32_t refused_length_count;
    uint32_t refused_unsorted_count;
    uint32_t output_tokens_max;
};

struct trace_limits {
    uint64_t requests_max;  /* stop after this many accepted rows; 0: all */
    uint32_t max_model_len; /* prompt and output together; 0: no limit but LOAD_TOKENS_MAX each */
    bool timed;             /* every row must say when */
};

/* Caller frees with trace_free(). INVALID: "PATH:LINE: what". A trace without one acceptable row is
 * INVALID too. */
MUST_CHECK enum status trace_read(const char *path, enum trace_format format,
                                  const struct trace_limits *limits, struct trace *out,
                                  struct error *error);
/* A trace in memory; `name` stands for the path in errors. */
struct trace_text {
    const char *name;
    const char *data;
    size_t bytes;
};
MUST_CHECK enum status trace_parse(const struct trace_text *text, enum trace_format format,
                                   const struct trace_limits *limits, struct trace *out,
                                   struct error *error);
void trace_free(struct trace *trace);

#endif
