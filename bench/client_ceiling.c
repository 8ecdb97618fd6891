/*
 * client_ceiling.c - what the load client costs: requests and streamed tokens as fast as the null
 * server gives them (the ceiling), and tokens that come one by one on many connections, as a
 * serving system sends them. Prints one line each. Requests stand beside what a bare epoll pair of
 * client and server exchanges on the same machine, measured in turn with them.
 *
 *     client_ceiling [users [gap_ms [seconds]]]
 *
 * Defaults: 640 connections, a token each 12 ms, 2 s.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/load/bare.h"
#include "harness/load/ceiling.h"
#include "harness/load/client.h"
#include "harness/load/null_server.h"

enum {
    ROUNDS = 3,
    CONNECTIONS = 64,
    TARGET_REQUESTS_PER_S = 50000,
};

#define PAIR_WINDOW_NS ((int64_t)500000000)
#define TARGET_SHARE   0.70

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

/* The better one of the rounds of each: what disturbs only takes away. */
static enum status run_ceilings(struct error *error)
{
    struct load_ceiling best = {0};
    double pair_best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct load_ceiling_options options = {.connections_count = CONNECTIONS};
        struct load_ceiling ceiling;
        double pair = 0;
        TRY(bare_pair_measure(CONNECTIONS, PAIR_WINDOW_NS, &pair, error));
        TRY(load_ceiling_measure(&options, &ceiling, error));
        best = ceiling.requests_per_s > best.requests_per_s ? ceiling : best;
        pair_best = pair > pair_best ? pair : pair_best;
    }
    double share = best.requests_per_s / pair_best;
    bool met = best.requests_per_s >= TARGET_REQUESTS_PER_S || share >= TARGET_SHARE;
    printf("ceiling: %.0f requests/s (%.2f us of CPU each), %.0f tokens/s (%.3f us)\n",
           best.requests_per_s, best.request_cpu_us, best.tokens_per_s, best.token_cpu_us);
    printf("bare epoll pair: %.0f requests/s; the client reaches %.0f %% of it; %d/s or %.0f %% "
           "wanted: %s\n",
           pair_best, share * 100, TARGET_REQUESTS_PER_S, TARGET_SHARE * 100,
           met ? "met" : "missed");
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    struct error error = {0};
    enum status status = run_ceilings(&error);
    if (status == STATUS_OK) {
        status = run_paced((uint32_t)argument(argc, argv, 1, 640), argument(argc, argv, 2, 12),
                           argument(argc, argv, 3, 2), &error);
    }
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "client_ceiling: %s\n", error.text);
        return 1;
    }
    return 0;
}
