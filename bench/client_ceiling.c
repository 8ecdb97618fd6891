/*
 * client_ceiling.c - what the load client costs: requests and streamed tokens as fast as the null
 * server gives them (the ceiling), and tokens that come one by one on many connections, as a
 * serving system sends them. Prints one line each.
 *
 *     client_ceiling [users [gap_ms [seconds]]]
 *
 * Defaults: 640 connections, a token each 12 ms, 2 s.
 */
#include <stdio.h>
#include <stdlib.h>

#include "harness/load/ceiling.h"
#include "harness/load/client.h"
#include "harness/load/null_server.h"

static long argument(int argc, char **argv, int index, long otherwise)
{
    return argc > index ? strtol(argv[index], NULL, 10) : otherwise;
}

static enum status run_paced(uint32_t users, int64_t gap_ms, int64_t seconds, struct error *error)
{
    struct null_options null_options = {.events_each_send = 1, .send_gap_ns = gap_ms * 1000000};
    struct null_process server;
    TRY(null_start(&null_options, &server, error));
    struct load_options o = {
        .targets = {{.host = "127.0.0.1", .port = server.port}},
        .targets_count = 1,
        .model = "null",
        .mode = LOAD_CLOSED,
        .users_count = users,
        .prompt_tokens = {.lo = 128, .hi = 128},
        .output_tokens = {.lo = 128, .hi = 384},
        .residual_first_outputs = 1,
        .stream = 1,
        .warmup_ns = 500000000,
        .window_ns = seconds * 1000000000,
        .batches_count = 8,
    };
    struct load_shared shared;
    enum status status = load_shared_create(&o, &shared, error);
    if (status == STATUS_OK) {
        status = load_run(&shared.header->options, &shared, error);
        const struct load_header *h = shared.header;
        double tokens = (double)load_window_tokens(h);
        double cpu_us = (double)(h->cpu_window_end_ns - h->cpu_window_start_ns) * 1e-3;
        printf("paced: %u connections, %.0f tokens/s, %.2f us of CPU a token, %.1f %% of a core, "
               "%.2f reads a turn, %.1f %% of events coalesced\n",
               users, tokens / (double)seconds, cpu_us / tokens, cpu_us * 1e-4 / (double)seconds,
               (double)load_get(&h->reads_count) / (double)load_get(&h->turns_count),
               100.0 * (double)load_get(&h->coalesced_events_count) /
                   (double)load_get(&h->content_events_count));
        load_shared_close(&shared);
    }
    null_stop(&server);
    return status;
}

int main(int argc, char **argv)
{
    struct error error = {0};
    struct load_ceiling_options options = {0};
    struct load_ceiling ceiling;
    enum status status = load_ceiling_measure(&options, &ceiling, &error);
    if (status == STATUS_OK) {
        printf("ceiling: %.0f requests/s (%.2f us of CPU each), %.0f tokens/s (%.3f us)\n",
               ceiling.requests_per_s, ceiling.request_cpu_us, ceiling.tokens_per_s,
               ceiling.token_cpu_us);
        status = run_paced((uint32_t)argument(argc, argv, 1, 640), argument(argc, argv, 2, 12),
                           argument(argc, argv, 3, 2), &error);
    }
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "client_ceiling: %s\n", error.text);
        return 1;
    }
    return 0;
}
