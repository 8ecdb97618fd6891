/*
 * ceiling.c - two closed-loop loads against the null server, one without and one with streaming.
 * Driven by the harness before a run; the client runs in the calling process.
 */
#include "harness/load/ceiling.h"

#include <stdbool.h>

#include "harness/load/client.h"
#include "harness/load/null_server.h"

enum {
    CONNECTIONS_DEFAULT = 64,
    STREAM_TOKENS_DEFAULT = 256,
    WARMUP_NS = 100000000,
    WINDOW_DEFAULT_NS = 500000000,
    PROMPT_TOKENS = 8,
};

static struct load_options load_of(const struct load_ceiling_options *o, uint32_t port, bool stream)
{
    uint32_t tokens = o->stream_tokens > 0 ? o->stream_tokens : STREAM_TOKENS_DEFAULT;
    struct load_range output = {.lo = stream ? tokens : 1, .hi = stream ? tokens : 1};
    return (struct load_options){
        .targets = {{.host = "127.0.0.1", .port = port}},
        .targets_count = 1,
        .model = "null",
        .mode = LOAD_CLOSED,
        .users_count = o->connections_count > 0 ? o->connections_count : CONNECTIONS_DEFAULT,
        .prompt_tokens = {.lo = PROMPT_TOKENS, .hi = PROMPT_TOKENS},
        .output_tokens = output,
        .stream = stream,
        .warmup_ns = WARMUP_NS,
        .window_ns = o->window_ns > 0 ? o->window_ns : WINDOW_DEFAULT_NS,
        .batches_count = 1,
    };
}

struct load_sums {
    double window_s;
    double cpu_us;
    uint64_t ok_count; /* in the window */
    uint64_t tokens;
    uint64_t failed_count;
};

static void sum_up(const struct load_header *header, struct load_sums *sums)
{
    int64_t window_ns = atomic_load(&header->window_end_ns) - atomic_load(&header->window_start_ns);
    int64_t cpu_ns =
        atomic_load(&header->cpu_window_end_ns) - atomic_load(&header->cpu_window_start_ns);
    *sums = (struct load_sums){
        .window_s = (double)(window_ns > 0 ? window_ns : 1) * 1e-9,
        .cpu_us = (double)cpu_ns * 1e-3,
        .ok_count = load_get(&header->window_ok_count[0]),
        .tokens = load_window_tokens(header),
    };
    for (uint32_t i = 0; i < LOAD_OUTCOMES_COUNT; i++) {
        if (i != LOAD_OUTCOME_OK && i != LOAD_OUTCOME_CANCELLED) {
            sums->failed_count += load_get(&header->outcome_count[i]);
        }
    }
}

static enum status run_one(const struct load_options *options, struct load_sums *sums,
                           struct error *error)
{
    struct load_shared shared;
    TRY(load_shared_create(options, &shared, error));
    enum status status = load_run(&shared.header->options, &shared, error);
    if (status == STATUS_OK) {
        sum_up(shared.header, sums);
    }
    load_shared_close(&shared);
    return status;
}

enum status load_ceiling_measure(const struct load_ceiling_options *options,
                                 struct load_ceiling *out, struct error *error)
{
    struct null_options null_options = {0};
    struct null_process server;
    struct load_sums plain = {0};
    struct load_sums streamed = {0};
    TRY(null_start(&null_options, &server, error));
    struct load_options load = load_of(options, server.port, false);
    enum status status = run_one(&load, &plain, error);
    if (status == STATUS_OK) {
        load = load_of(options, server.port, true);
        status = run_one(&load, &streamed, error);
    }
    null_stop(&server);
    if (status != STATUS_OK) {
        return status;
    }
    if (plain.ok_count == 0 || streamed.tokens == 0) {
        return error_set(error, STATUS_TIMEOUT,
                         "client ceiling: nothing was answered within the window");
    }
    *out = (struct load_ceiling){
        .requests_per_s = (double)plain.ok_count / plain.window_s,
        .request_cpu_us = plain.cpu_us / (double)plain.ok_count,
        .tokens_per_s = (double)streamed.tokens / streamed.window_s,
        .token_cpu_us = streamed.cpu_us / (double)streamed.tokens,
        .failed_count = plain.failed_count + streamed.failed_count,
    };
    return STATUS_OK;
}
