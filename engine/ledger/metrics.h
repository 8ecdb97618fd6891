/*
 * metrics.h - vLLM's Prometheus metrics of one API server, in shared memory so that any server can
 * answer /metrics for all.
 *
 * Counters and histograms are one writer's (the API server's main thread); /metrics adds up all
 * blocks. Gauges hold what the last scheduler stats from each engine core said, with the time, and
 * the most recent block wins.
 */
#ifndef ENGINE_LEDGER_METRICS_H
#define ENGINE_LEDGER_METRICS_H

#include "engine/core/message.h"
#include "engine/ledger/ledger.h"

enum {
    METRICS_BUCKETS_MAX = 32,
    METRICS_ENGINE_TEXT_BYTES = 128 << 10, /* of the exposition, for each engine core */
};

/* X(NAME, "vllm:name", bucket set) */
#define METRICS_HISTOGRAMS(X)                                                  \
    X(TTFT, "vllm:time_to_first_token_seconds", TTFT)                          \
    X(ITL, "vllm:inter_token_latency_seconds", TOKEN)                          \
    X(TPOT, "vllm:request_time_per_output_token_seconds", TOKEN)               \
    X(E2E, "vllm:e2e_request_latency_seconds", REQUEST)                        \
    X(QUEUE, "vllm:request_queue_time_seconds", REQUEST)                       \
    X(INFERENCE, "vllm:request_inference_time_seconds", REQUEST)               \
    X(PREFILL, "vllm:request_prefill_time_seconds", REQUEST)                   \
    X(DECODE, "vllm:request_decode_time_seconds", REQUEST)                     \
    X(PROMPT_TOKENS, "vllm:request_prompt_tokens", LENGTH)                     \
    X(GENERATION_TOKENS, "vllm:request_generation_tokens", LENGTH)             \
    X(MAX_GENERATION_TOKENS, "vllm:request_max_num_generation_tokens", LENGTH) \
    X(MAX_TOKENS, "vllm:request_params_max_tokens", LENGTH)                    \
    X(PREFILL_KV_TOKENS, "vllm:request_prefill_kv_computed_tokens", LENGTH)    \
    X(N, "vllm:request_params_n", CHOICES)                                     \
    X(ITERATION_TOKENS, "vllm:iteration_tokens_total", ITERATION)

enum metrics_histogram {
#define X(name, text, buckets) METRICS_##name,
    METRICS_HISTOGRAMS(X)
#undef X
    METRICS_HISTOGRAMS_COUNT
};

#define METRICS_COUNTERS(X)                                          \
    X(PROMPT_TOKENS_TOTAL, "vllm:prompt_tokens")                     \
    X(PROMPT_TOKENS_CACHED, "vllm:prompt_tokens_cached")             \
    X(GENERATION_TOKENS_TOTAL, "vllm:generation_tokens")             \
    X(PREFIX_QUERIES, "vllm:prefix_cache_queries")                   \
    X(PREFIX_HITS, "vllm:prefix_cache_hits")                         \
    X(PREEMPTIONS, "vllm:num_preemptions")                           \
    X(EXTERNAL_PREFIX_QUERIES, "vllm:external_prefix_cache_queries") \
    X(EXTERNAL_PREFIX_HITS, "vllm:external_prefix_cache_hits")       \
    X(MM_CACHE_QUERIES, "vllm:mm_cache_queries")                     \
    X(MM_CACHE_HITS, "vllm:mm_cache_hits")

enum metrics_counter {
#define X(name, text) METRICS_##name,
    METRICS_COUNTERS(X)
#undef X
    METRICS_COUNTERS_COUNT
};

enum {
    METRICS_FINISH_REASONS = 5
}; /* enum finish_reason 0..4 */

struct metrics_engine {
    ledger_counter counters[METRICS_COUNTERS_COUNT];
    ledger_counter success[METRICS_FINISH_REASONS];
    ledger_counter gauge_at_ns; /* when the gauges below were set */
    ledger_counter running;
    ledger_counter waiting;        /* for room */
    ledger_counter skipped;        /* put off by the scheduler for another reason */
    ledger_counter kv_usage_ppm;   /* parts per million */
    ledger_counter num_gpu_blocks; /* as the engine core announced them */
    struct metrics_cells {
        ledger_counter buckets[METRICS_BUCKETS_MAX]; /* not cumulative; the last is +Inf */
        ledger_counter sum_us;                       /* microseconds, or tokens */
        ledger_counter count;
    } histograms[METRICS_HISTOGRAMS_COUNT];
};

struct metrics_block {
    struct metrics_engine engines[TOPOLOGY_ENGINES_MAX];
};

/* `value` in seconds for times, tokens for lengths. Owner only. */
void metrics_observe(struct metrics_engine *m, enum metrics_histogram h, double value);
/* Scheduler stats that came with an engine's message. */
void metrics_scheduler(struct metrics_engine *m, const struct scheduler_stats *stats,
                       int64_t now_ns);
/*
 * Prometheus text exposition over all API servers' blocks, every series labelled model_name and
 * engine (cache_config_info: engine alone, like vLLM's). Returns the bytes written without the NUL;
 * `cap` of METRICS_ENGINE_TEXT_BYTES for each engine core is always enough (asserted).
 */
size_t metrics_render(const struct ledger *l, char *out, size_t cap);

#endif
