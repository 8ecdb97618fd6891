/* trace_fuzz.c - any bytes as a trace file: an error or a trace whose counts add up, never a crash.
 */
#include <stddef.h>
#include <stdint.h>

#include "harness/load/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace_limits limits = {.requests_max = 1000, .max_model_len = 8192};
    struct trace trace;
    struct error error;
    struct trace_text text = {.name = "fuzz", .data = (const char *)data, .bytes = size};
    if (trace_parse(&text, TRACE_AUTO, &limits, &trace, &error) != STATUS_OK) {
        return 0;
    }
    ASSERT(trace.rows_count == trace.requests_count + trace.refused_zero_count +
                                   trace.refused_length_count + trace.refused_unsorted_count);
    int64_t before_ns = 0;
    for (uint32_t i = 0; i < trace.requests_count; i++) {
        const struct trace_request *request = &trace.requests[i];
        ASSERT(request->at_ns >= before_ns);
        ASSERT(request->prompt_tokens > 0 && request->output_tokens > 0);
        ASSERT(request->prompt_tokens + request->output_tokens <= 8192);
        ASSERT(request->blocks_first + request->blocks_count <= trace.block_ids_count);
        ASSERT(request->text_at + request->text_bytes <= trace.texts_bytes);
        before_ns = request->at_ns;
    }
    trace_free(&trace);
    return 0;
}
