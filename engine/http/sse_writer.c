/*
 * sse_writer.c - renders streams of completion and chat chunks. Driven by the API server, once for
 * each delta of each request: the invariant parts of an event are copied from the writer's pieces,
 * only text and numbers are rendered.
 */
#include <string.h>

#include "engine/base/status.h"
#include "engine/http/http_parser.h"
#include "engine/http/openai.h"
#include "engine/http/sse.h"

/* The size of an HTTP chunk is written with a fixed number of digits, so that it can be filled in
 * afterwards. */
enum {
    SIZE_DIGITS = 8,
    CHUNK_OVERHEAD_BYTES = SIZE_DIGITS + 2
};

static const char data_prefix[] = "data: ";
static const char plain_completion_end[] = "\",\"logprobs\":null,\"finish_reason\":null}]}";
static const char plain_chat_end[] = "\"},\"logprobs\":null,\"finish_reason\":null}]}";

/* Begins an HTTP chunk with a `data: ` event in it; returns where the chunk begins. */
static size_t event_begin(struct http_buffer *out)
{
    size_t start = out->bytes;
    http_buffer_append(out, "00000000\r\n", CHUNK_OVERHEAD_BYTES);
    return start;
}

static void event_end(struct http_buffer *out, size_t start)
{
    static const char hex[] = "0123456789abcdef";
    http_buffer_append(out, "\n\n\r\n", 4);
    if (out->failed) {
        return;
    }
    size_t size = out->bytes - start - CHUNK_OVERHEAD_BYTES - 2;
    ASSERT(size <= UINT32_MAX);
    for (size_t i = SIZE_DIGITS; i > 0; i--) {
        out->data[start + i - 1] = hex[size & 15];
        size >>= 4;
    }
}

void sse_writer_open(struct sse_writer *w, const struct sse_stream_options *options)
{
    struct http_buffer *b = &w->pieces;
    http_buffer_clear(b);
    w->chat = options->chat;
    w->include_usage = options->include_usage;
    w->continuous_usage = options->include_usage && options->continuous_usage;
    http_buffer_text(b, data_prefix);
    http_buffer_text(b, "{\"id\":\"");
    http_buffer_json(b, options->id, strlen(options->id));
    http_buffer_text(b, w->chat ? "\",\"object\":\"chat.completion.chunk\",\"created\":"
                                : "\",\"object\":\"text_completion\",\"created\":");
    http_buffer_i64(b, options->created_s);
    http_buffer_text(b, ",\"model\":\"");
    http_buffer_json(b, options->model, strlen(options->model));
    http_buffer_text(b, "\",\"choices\":");
    w->head_bytes = b->bytes;
    http_buffer_text(b, w->chat ? "[{\"index\":0,\"delta\":{\"content\":\""
                                : "[{\"index\":0,\"text\":\"");
    w->prefix_bytes = b->bytes;
}

void sse_writer_free(struct sse_writer *w)
{
    http_buffer_free(&w->pieces);
    *w = (struct sse_writer){0};
}

void sse_write_head(struct http_buffer *out, int32_t api_server, bool keep_alive)
{
    http_buffer_text(out, "HTTP/1.1 200 OK\r\n"
                          "Content-Type: text/event-stream; charset=utf-8\r\n"
                          "Cache-Control: no-cache\r\n"
                          "Transfer-Encoding: chunked\r\n");
    if (api_server != HTTP_API_SERVER_NONE) {
        http_buffer_text(out, "X-Api-Server: ");
        http_buffer_i64(out, api_server);
        http_buffer_text(out, "\r\n");
    }
    http_buffer_text(out, keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
}

/* Up to the text. Nearly all requests have one choice: only that start is kept ready. */
static void append_delta_start(const struct sse_writer *w, struct http_buffer *out, uint32_t index)
{
    if (index == 0) {
        http_buffer_append(out, w->pieces.data, w->prefix_bytes);
        return;
    }
    http_buffer_append(out, w->pieces.data, w->head_bytes);
    http_buffer_text(out, "[{\"index\":");
    http_buffer_u64(out, index);
    http_buffer_text(out, w->chat ? ",\"delta\":{\"content\":\"" : ",\"text\":\"");
}

/* What follows a choice's text when the stream's last delta, or one with usage, is written. */
static void append_delta_end(const struct sse_writer *w, struct http_buffer *out,
                             const struct sse_delta *delta)
{
    http_buffer_text(out, w->chat ? "\"},\"logprobs\":null," : "\",\"logprobs\":null,");
    if (delta->finish_reason == NULL) {
        http_buffer_text(out, "\"finish_reason\":null}]");
    } else {
        openai_write_finish(out, delta->finish_reason, delta->stop_string, delta->stop_token_id);
        http_buffer_text(out, "}]");
    }
    if (w->continuous_usage) {
        http_buffer_text(out, ",\"usage\":");
        openai_write_usage(out, delta->prompt_tokens, delta->completion_tokens);
    }
    http_buffer_text(out, "}");
}

void sse_write_role(const struct sse_writer *w, struct http_buffer *out, uint32_t index,
                    uint64_t prompt_tokens)
{
    if (!w->chat) {
        return;
    }
    out->failed |= w->pieces.failed;
    size_t start = event_begin(out);
    http_buffer_append(out, w->pieces.data, w->head_bytes);
    http_buffer_text(out, "[{\"index\":");
    http_buffer_u64(out, index);
    http_buffer_text(out, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                          "\"logprobs\":null,\"finish_reason\":null}]");
    if (w->continuous_usage) {
        http_buffer_text(out, ",\"usage\":");
        openai_write_usage(out, prompt_tokens, 0);
    }
    http_buffer_text(out, "}");
    event_end(out, start);
}

void sse_write_delta(const struct sse_writer *w, struct http_buffer *out,
                     const struct sse_delta *delta)
{
    out->failed |= w->pieces.failed;
    size_t start = event_begin(out);
    append_delta_start(w, out, delta->index);
    http_buffer_json(out, delta->text, delta->text_bytes);
    if (delta->finish_reason != NULL || w->continuous_usage) {
        append_delta_end(w, out, delta);
    } else if (w->chat) {
        http_buffer_append(out, plain_chat_end, sizeof plain_chat_end - 1);
    } else {
        http_buffer_append(out, plain_completion_end, sizeof plain_completion_end - 1);
    }
    event_end(out, start);
}

void sse_write_usage(const struct sse_writer *w, struct http_buffer *out, uint64_t prompt_tokens,
                     uint64_t completion_tokens)
{
    if (!w->include_usage) {
        return;
    }
    out->failed |= w->pieces.failed;
    size_t start = event_begin(out);
    http_buffer_append(out, w->pieces.data, w->head_bytes);
    http_buffer_text(out, "[],\"usage\":");
    openai_write_usage(out, prompt_tokens, completion_tokens);
    http_buffer_text(out, "}");
    event_end(out, start);
}

void sse_write_event(struct http_buffer *out, const char *json, size_t json_bytes)
{
    size_t start = event_begin(out);
    http_buffer_append(out, data_prefix, sizeof data_prefix - 1);
    http_buffer_append(out, json, json_bytes);
    event_end(out, start);
}

void sse_write_done(struct http_buffer *out)
{
    static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    http_buffer_append(out, end, sizeof end - 1);
}
