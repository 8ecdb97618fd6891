/*
 * request.c - renders requests. Driven by the load client for each request ahead of its send time,
 * so it is kept cheap: token ids are drawn and printed in one pass.
 */
#include "harness/load/request.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/base/status.h"

enum {
    TOKEN_ID_BYTES_MAX = 6,   /* "30000," */
    LENGTH_DIGITS = 10,       /* of Content-Length, filled in afterwards */
    REST_OF_BODY_BYTES = 512, /* a first guess, the buffer grows */
};

/* Where ids go: an array, or JSON text at `text`. */
struct id_sink {
    uint32_t *ids;
    char *text;
};

static void put_id(struct id_sink *sink, uint32_t id)
{
    if (sink->ids != NULL) {
        *sink->ids++ = id;
        return;
    }
    char digits[TOKEN_ID_BYTES_MAX];
    uint32_t count = 0;
    do {
        digits[count++] = (char)('0' + id % 10);
        id /= 10;
    } while (id > 0);
    while (count > 0) {
        *sink->text++ = digits[--count];
    }
    *sink->text++ = ',';
}

static void put_stream(struct id_sink *sink, struct random stream, uint32_t count)
{
    const uint32_t span = REQUEST_TOKEN_ID_HI - REQUEST_TOKEN_ID_LO + 1;
    for (uint32_t i = 0; i < count; i++) {
        /* 32 random bits scaled to the span: a bias of 1e-5 does not matter to a synthetic prompt.
         */
        uint64_t bits = random_u64(&stream) >> 32;
        put_id(sink, REQUEST_TOKEN_ID_LO + (uint32_t)((bits * span) >> 32));
    }
}

static void put_prompt(struct id_sink *sink, const struct load_options *o,
                       const struct trace *trace, const struct schedule_item *item)
{
    uint32_t shared = 0;
    if (load_has_sessions(o)) {
        put_stream(sink, random_stream(o->seed, "sessions", item->session), item->prompt_tokens);
        return;
    }
    if (item->trace_index != SCHEDULE_NO_TRACE &&
        trace->requests[item->trace_index].blocks_count > 0) {
        const struct trace_request *request = &trace->requests[item->trace_index];
        for (uint32_t i = 0; i < request->blocks_count && shared < item->prompt_tokens; i++) {
            uint32_t left = item->prompt_tokens - shared;
            uint32_t count = left < TRACE_BLOCK_TOKENS ? left : TRACE_BLOCK_TOKENS;
            uint64_t block_id = trace->block_ids[request->blocks_first + i];
            put_stream(sink, random_stream(o->seed, "blocks", block_id), count);
            shared += count;
        }
    } else {
        shared = (uint32_t)(o->shared_prefix * (double)item->prompt_tokens);
        put_stream(sink, random_stream(o->seed, "prefix", 0), shared);
    }
    put_stream(sink, random_stream(o->seed, "prompts", item->number), item->prompt_tokens - shared);
}

void request_prompt(const struct load_options *options, const struct trace *trace,
                    const struct schedule_item *item, uint32_t *ids)
{
    struct id_sink sink = {.ids = ids};
    put_prompt(&sink, options, trace, item);
}

/* The prompt that the trace has; false: it is to be made up. */
static bool write_text(struct http_buffer *out, const struct trace *trace,
                       const struct schedule_item *item)
{
    const struct trace_request *request =
        item->trace_index != SCHEDULE_NO_TRACE ? &trace->requests[item->trace_index] : NULL;
    if (request == NULL || request->text_bytes == 0) {
        return false;
    }
    http_buffer_text(out, "\"");
    http_buffer_json(out, trace->texts + request->text_at, request->text_bytes);
    http_buffer_text(out, "\"");
    return true;
}

static void write_ids(struct http_buffer *out, const struct load_options *o,
                      const struct trace *trace, const struct schedule_item *item)
{
    http_buffer_text(out, "[");
    char *text = http_buffer_reserve(out, (size_t)item->prompt_tokens * TOKEN_ID_BYTES_MAX +
                                              REST_OF_BODY_BYTES);
    if (text == NULL) {
        return;
    }
    struct id_sink sink = {.text = text};
    put_prompt(&sink, o, trace, item);
    out->bytes += (size_t)(sink.text - text) - 1; /* the last comma goes */
    http_buffer_text(out, "]");
}

static void write_body(struct http_buffer *out, const struct load_options *o,
                       const struct trace *trace, const struct schedule_item *item)
{
    http_buffer_text(out, "{\"model\":\"");
    http_buffer_json(out, o->model, strlen(o->model));
    http_buffer_text(out, "\",\"prompt\":");
    if (!write_text(out, trace, item)) {
        write_ids(out, o, trace, item);
    }
    http_buffer_text(out, ",\"max_tokens\":");
    http_buffer_u64(out, item->output_tokens);
    char temperature[48];
    (void)snprintf(temperature, sizeof temperature, ",\"temperature\":%g", o->temperature);
    http_buffer_text(out, temperature);
    if (o->ignore_eos) {
        http_buffer_text(out, ",\"ignore_eos\":true");
    }
    if (o->stream) {
        http_buffer_text(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true");
        http_buffer_text(out, o->continuous_usage ? ",\"continuous_usage_stats\":true}" : "}");
    }
    http_buffer_text(out, "}");
}

static void write_length(char *digits, size_t bytes)
{
    for (int i = LENGTH_DIGITS - 1; i >= 0; i--) {
        digits[i] = (char)('0' + bytes % 10);
        bytes /= 10;
    }
}

void request_write(struct http_buffer *out, const struct load_options *options,
                   const struct trace *trace, const struct schedule_item *item)
{
    http_buffer_clear(out);
    http_buffer_text(out, "POST /v1/completions HTTP/1.1\r\nHost: ");
    /* Rendered before it is known whose turn it is: with several servers, the first one's name. */
    const char *host = options->targets[0].host;
    http_buffer_text(out, strncmp(host, "unix:", 5) == 0 ? "localhost" : host);
    http_buffer_text(out, "\r\nContent-Type: application/json\r\nX-Request-Id: ");
    http_buffer_u64(out, item->number);
    http_buffer_text(out, "\r\nContent-Length: ");
    size_t length_at = out->bytes;
    http_buffer_text(out, "0000000000\r\n\r\n");
    size_t body_at = out->bytes;
    write_body(out, options, trace, item);
    if (!out->failed) {
        write_length(out->data + length_at, out->bytes - body_at);
    }
}

void request_write_health(struct http_buffer *out)
{
    http_buffer_clear(out);
    http_buffer_text(out, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
}
