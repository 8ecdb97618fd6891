/*
 * trace.c - reads a trace file into memory, chooses the format, and decides which rows are
 * accepted. Driven by trace_read() and trace_parse(); the grammar of each format is in
 * trace_azure.c, trace_mooncake.c and trace_requests.c.
 */
#include "harness/load/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/load/trace_reader.h"

bool trace_reader_full(const struct trace_reader *r)
{
    return r->limits->requests_max > 0 && r->trace.requests_count >= r->limits->requests_max;
}

enum status trace_reader_error(struct trace_reader *r, const char *fmt, ...)
{
    char text[300];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return error_set(r->error, STATUS_INVALID, "%s:%u: %s", r->name, r->line, text);
}

/* Room for one more item of `item_bytes` behind the first `count`. */
static void *grown(void *items, size_t count, size_t *cap, size_t item_bytes)
{
    if (count < *cap) {
        return items;
    }
    size_t cap_new = *cap == 0 ? 1024 : *cap * 2;
    void *moved = realloc(items, cap_new * item_bytes);
    if (moved != NULL) {
        *cap = cap_new;
    }
    return moved;
}

enum status trace_reader_block(struct trace_reader *r, uint64_t block_id)
{
    uint64_t *ids =
        grown(r->trace.block_ids, r->trace.block_ids_count, &r->block_ids_cap, sizeof *ids);
    if (ids == NULL) {
        return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
    }
    r->trace.block_ids = ids;
    ids[r->trace.block_ids_count++] = block_id;
    return STATUS_OK;
}

enum status trace_reader_text(struct trace_reader *r, const char *text, uint32_t bytes)
{
    if (bytes == 0) {
        return STATUS_OK;
    }
    size_t need = r->trace.texts_bytes + bytes;
    if (need > r->texts_cap) {
        size_t cap = need > 2 * r->texts_cap ? need : 2 * r->texts_cap;
        char *moved = realloc(r->trace.texts, cap);
        if (moved == NULL) {
            return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
        }
        r->trace.texts = moved;
        r->texts_cap = cap;
    }
    memcpy(r->trace.texts + r->trace.texts_bytes, text, bytes);
    r->trace.texts_bytes = need;
    return STATUS_OK;
}

static bool fits(const struct trace_reader *r, const struct trace_row *row)
{
    if (row->prompt_tokens > LOAD_TOKENS_MAX || row->output_tokens > LOAD_TOKENS_MAX) {
        return false;
    }
    uint64_t total = row->prompt_tokens + row->output_tokens;
    return r->limits->max_model_len == 0 || total <= r->limits->max_model_len;
}

enum status trace_reader_row(struct trace_reader *r, const struct trace_row *row)
{
    struct trace *t = &r->trace;
    uint32_t *refused = NULL;
    t->rows_count++;
    if (row->prompt_tokens == 0 || row->output_tokens == 0) {
        refused = &t->refused_zero_count;
    } else if (!fits(r, row)) {
        refused = &t->refused_length_count;
    } else if (t->requests_count > 0 && row->time_ns < r->last_ns) {
        refused = &t->refused_unsorted_count;
    }
    if (refused != NULL) {
        (*refused)++;
        t->block_ids_count -= row->blocks_count;
        t->texts_bytes -= row->text_bytes;
        return STATUS_OK;
    }
    struct trace_request *requests =
        grown(t->requests, t->requests_count, &r->requests_cap, sizeof *requests);
    if (requests == NULL) {
        return error_set(r->error, STATUS_NOMEM, "%s: out of memory", r->name);
    }
    if (t->requests_count == 0) {
        r->first_ns = row->time_ns;
    }
    r->last_ns = row->time_ns;
    t->requests = requests;
    t->requests[t->requests_count++] = (struct trace_request){
        .at_ns = row->time_ns - r->first_ns,
        .prompt_tokens = (uint32_t)row->prompt_tokens,
        .output_tokens = (uint32_t)row->output_tokens,
        .blocks_first = t->block_ids_count - row->blocks_count,
        .blocks_count = row->blocks_count,
        .line = r->line,
        .text_bytes = row->text_bytes,
        .text_at = t->texts_bytes - row->text_bytes,
    };
    if (row->output_tokens > t->output_tokens_max) {
        t->output_tokens_max = (uint32_t)row->output_tokens;
    }
    return STATUS_OK;
}

enum status trace_reader_lines(struct trace_reader *r, const char *data, size_t bytes,
                               trace_line_fn *line_fn, void *ctx)
{
    size_t at = 0;
    while (at < bytes && !trace_reader_full(r)) {
        const char *end = memchr(data + at, '\n', bytes - at);
        size_t next = end == NULL ? bytes : (size_t)(end - data) + 1;
        r->line++;
        TRY(line_fn(r, ctx, data + at, next - at));
        at = next;
    }
    return STATUS_OK;
}

/* `text` begins with '{'. */
static enum trace_format guess_json(const char *text, size_t bytes)
{
    static const char key[] = "\"output_tokens\"";
    const char *end = memchr(text, '\n', bytes);
    size_t line_bytes = end != NULL ? (size_t)(end - text) : bytes;
    return memmem(text, line_bytes, key, sizeof key - 1) != NULL ? TRACE_REQUESTS_JSONL
                                                                 : TRACE_MOONCAKE_JSONL;
}

static enum trace_format guess_format(const char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (strchr(" \t\r\n", data[i]) == NULL || data[i] == '\0') {
            return data[i] == '{' ? guess_json(data + i, bytes - i) : TRACE_AZURE_CSV;
        }
    }
    return TRACE_AZURE_CSV;
}

static enum status parse_as(struct trace_reader *r, enum trace_format format, const char *data,
                            size_t bytes)
{
    switch (format) {
    case TRACE_MOONCAKE_JSONL:
        return trace_parse_mooncake(r, data, bytes);
    case TRACE_REQUESTS_JSONL:
        return trace_parse_requests(r, data, bytes);
    case TRACE_AUTO:
    case TRACE_AZURE_CSV:
        break;
    }
    return trace_parse_azure(r, data, bytes);
}

static enum status check_not_empty(const struct trace_reader *r)
{
    const struct trace *t = &r->trace;
    if (t->requests_count > 0) {
        return STATUS_OK;
    }
    return error_set(r->error, STATUS_INVALID,
                     "%s: no request can be sent: %u rows, refused %u for zero tokens, "
                     "%u for their length",
                     r->name, t->rows_count, t->refused_zero_count, t->refused_length_count);
}

enum status trace_parse(const struct trace_text *text, enum trace_format format,
                        const struct trace_limits *limits, struct trace *out, struct error *error)
{
    struct trace_reader reader = {.name = text->name, .limits = limits, .error = error};
    enum trace_format actual =
        format == TRACE_AUTO ? guess_format(text->data, text->bytes) : format;
    reader.trace.format = actual;
    enum status status = parse_as(&reader, actual, text->data, text->bytes);
    if (status == STATUS_OK) {
        status = check_not_empty(&reader);
    }
    if (status != STATUS_OK) {
        trace_free(&reader.trace);
        return status;
    }
    *out = reader.trace;
    return STATUS_OK;
}

static enum status read_all(int fd, const char *path, char **data, size_t *bytes,
                            struct error *error)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > TRACE_FILE_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "%s: want a regular file of at most %d bytes", path,
                         TRACE_FILE_BYTES_MAX);
    }
    size_t size = (size_t)info.st_size;
    char *memory = malloc(size + 1);
    if (memory == NULL) {
        return error_set(error, STATUS_NOMEM, "%s: out of memory", path);
    }
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, memory + got, size - got);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            free(memory);
            return error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    *data = memory;
    *bytes = got;
    return STATUS_OK;
}

enum status trace_read(const char *path, enum trace_format format,
                       const struct trace_limits *limits, struct trace *out, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
                         strerror(errno));
    }
    char *data = NULL;
    size_t bytes = 0;
    enum status status = read_all(fd, path, &data, &bytes, error);
    (void)close(fd);
    if (status == STATUS_OK) {
        struct trace_text text = {.name = path, .data = data, .bytes = bytes};
        status = trace_parse(&text, format, limits, out, error);
    }
    free(data);
    return status;
}

void trace_free(struct trace *trace)
{
    free(trace->requests);
    free(trace->block_ids);
    free(trace->texts);
    *trace = (struct trace){0};
}
