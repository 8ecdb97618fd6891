/*
 * stats.c - SchedulerStats (with its PrefixCacheStats) and PrefillStats, the maps that ride in
 * engine outputs. Knows their keys; holds no state. What is not measured here (speculative
 * decoding, LoRA, connectors, graphs) is written as its default.
 */
#include "engine/wire/stats.h"

#include "engine/wire/writer.h"

#define STATS_KEYS(X)                                         \
    X(RUNNING, "num_running_reqs")                            \
    X(WAITING, "num_waiting_reqs")                            \
    X(SKIPPED_WAITING, "num_skipped_waiting_reqs")            \
    X(STEP_COUNTER, "step_counter")                           \
    X(CURRENT_WAVE, "current_wave")                           \
    X(KV_CACHE_USAGE, "kv_cache_usage")                       \
    X(ITERATION_DETAILS, "iteration_details")                 \
    X(PREFIX_CACHE, "prefix_cache_stats")                     \
    X(CONNECTOR_PREFIX_CACHE, "connector_prefix_cache_stats") \
    X(KV_CACHE_EVICTIONS, "kv_cache_eviction_events")         \
    X(SPEC_DECODING, "spec_decoding_stats")                   \
    X(KV_CONNECTOR, "kv_connector_stats")                     \
    X(WAITING_LORA, "waiting_lora_adapters")                  \
    X(RUNNING_LORA, "running_lora_adapters")                  \
    X(CUDAGRAPH, "cudagraph_stats")                           \
    X(PERF, "perf_stats")

enum stats_key {
#define X(name, text) STATS_##name,
    STATS_KEYS(X)
#undef X
    STATS_KEYS_COUNT
};

static const char *const stats_keys[] = {
#define X(name, text) text,
    STATS_KEYS(X)
#undef X
        NULL,
};

enum {
    CACHE_RESET,
    CACHE_REQUESTS,
    CACHE_QUERIES,
    CACHE_HITS,
    CACHE_PREEMPTED
};
static const char *const cache_keys[] = {
    "reset",          "requests", "queries", "hits", "preempted_requests", "preempted_queries",
    "preempted_hits", NULL};
enum {
    CACHE_KEYS_COUNT = sizeof cache_keys / sizeof cache_keys[0] - 1
};

enum {
    PREFILL_PROMPT,
    PREFILL_COMPUTED,
    PREFILL_CACHED,
    PREFILL_LOCAL,
    PREFILL_EXTERNAL
};
static const char *const prefill_keys[] = {"num_prompt_tokens",
                                           "num_computed_tokens",
                                           "num_cached_tokens",
                                           "num_local_cached_tokens",
                                           "num_external_cached_tokens",
                                           "num_cache_creation_tokens",
                                           NULL};
enum {
    PREFILL_KEYS_COUNT = sizeof prefill_keys / sizeof prefill_keys[0] - 1
};

static void put_prefix_cache(struct wire_buffer *b, const struct prefix_cache_stats *cache)
{
    wire_put_map(b, CACHE_KEYS_COUNT);
    wire_put_key_bool(b, cache_keys[CACHE_RESET], false);
    wire_put_key_uint(b, cache_keys[CACHE_REQUESTS], cache->requests_count);
    wire_put_key_uint(b, cache_keys[CACHE_QUERIES], cache->queries_tokens);
    wire_put_key_uint(b, cache_keys[CACHE_HITS], cache->hits_tokens);
    for (uint32_t i = CACHE_PREEMPTED; i < CACHE_KEYS_COUNT; i++) {
        wire_put_key_uint(b, cache_keys[i], 0);
    }
}

void wire_put_stats(struct wire_buffer *b, const struct scheduler_stats *stats)
{
    wire_put_map16(b, STATS_KEYS_COUNT);
    wire_put_key_uint(b, stats_keys[STATS_RUNNING], stats->running_count);
    wire_put_key_uint(b, stats_keys[STATS_WAITING], stats->waiting_count);
    wire_put_key_uint(b, stats_keys[STATS_SKIPPED_WAITING], stats->skipped_waiting_count);
    wire_put_key_uint(b, stats_keys[STATS_STEP_COUNTER], stats->step_counter);
    wire_put_key_uint(b, stats_keys[STATS_CURRENT_WAVE], stats->current_wave);
    wire_put_key_double(b, stats_keys[STATS_KV_CACHE_USAGE], stats->kv_cache_usage);
    wire_put_key_nil(b, stats_keys[STATS_ITERATION_DETAILS]);
    wire_put_string(b, stats_keys[STATS_PREFIX_CACHE]);
    put_prefix_cache(b, &stats->prefix_cache);
    wire_put_key_nil(b, stats_keys[STATS_CONNECTOR_PREFIX_CACHE]);
    wire_put_string(b, stats_keys[STATS_KV_CACHE_EVICTIONS]);
    wire_put_array(b, 0);
    wire_put_key_nil(b, stats_keys[STATS_SPEC_DECODING]);
    wire_put_key_nil(b, stats_keys[STATS_KV_CONNECTOR]);
    wire_put_string(b, stats_keys[STATS_WAITING_LORA]);
    wire_put_map(b, 0);
    wire_put_string(b, stats_keys[STATS_RUNNING_LORA]);
    wire_put_map(b, 0);
    wire_put_key_nil(b, stats_keys[STATS_CUDAGRAPH]);
    wire_put_key_nil(b, stats_keys[STATS_PERF]);
}

void wire_put_counts(struct wire_buffer *b, const struct scheduler_stats *stats)
{
    const uint32_t optional[] = {
        [STATS_SKIPPED_WAITING] = stats->skipped_waiting_count,
        [STATS_STEP_COUNTER] = stats->step_counter,
        [STATS_CURRENT_WAVE] = stats->current_wave,
    };
    uint32_t count = 3;
    for (uint32_t key = STATS_SKIPPED_WAITING; key <= STATS_CURRENT_WAVE; key++) {
        count += optional[key] != 0;
    }
    wire_put_map(b, count);
    wire_put_key_uint(b, stats_keys[STATS_RUNNING], stats->running_count);
    wire_put_key_uint(b, stats_keys[STATS_WAITING], stats->waiting_count);
    for (uint32_t key = STATS_SKIPPED_WAITING; key <= STATS_CURRENT_WAVE; key++) {
        if (optional[key] != 0) {
            wire_put_key_uint(b, stats_keys[key], optional[key]);
        }
    }
    wire_put_key_double(b, stats_keys[STATS_KV_CACHE_USAGE], stats->kv_cache_usage);
}

static void get_prefix_cache(struct wire_reader *r, struct prefix_cache_stats *cache)
{
    if (wire_get_nil(r)) {
        return;
    }
    uint32_t count = wire_get_map(r, "prefix_cache_stats");
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        uint32_t key = wire_get_key(r, "prefix_cache_stats", cache_keys);
        switch (key) {
        case CACHE_REQUESTS:
            cache->requests_count = wire_get_uint(r, "prefix_cache_stats.requests", INT64_MAX);
            break;
        case CACHE_QUERIES:
            cache->queries_tokens = wire_get_uint(r, "prefix_cache_stats.queries", INT64_MAX);
            break;
        case CACHE_HITS:
            cache->hits_tokens = wire_get_uint(r, "prefix_cache_stats.hits", INT64_MAX);
            break;
        default:
            wire_skip(r, "an ignored key of prefix_cache_stats", 1);
        }
    }
}

void wire_get_stats(struct wire_reader *r, struct scheduler_stats *out)
{
    *out = (struct scheduler_stats){0};
    uint32_t *const counters[] = {
        [STATS_RUNNING] = &out->running_count,
        [STATS_WAITING] = &out->waiting_count,
        [STATS_SKIPPED_WAITING] = &out->skipped_waiting_count,
        [STATS_STEP_COUNTER] = &out->step_counter,
        [STATS_CURRENT_WAVE] = &out->current_wave,
    };
    uint32_t count = wire_get_map(r, "scheduler_stats");
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        uint32_t key = wire_get_key(r, "scheduler_stats", stats_keys);
        if (key <= STATS_CURRENT_WAVE) {
            *counters[key] = wire_get_u32(r, stats_keys[key]);
        } else if (key == STATS_KV_CACHE_USAGE) {
            out->kv_cache_usage = wire_get_double(r, stats_keys[key]);
        } else if (key == STATS_PREFIX_CACHE) {
            get_prefix_cache(r, &out->prefix_cache);
        } else {
            wire_skip(r, "an ignored key of scheduler_stats", 1);
        }
    }
}

void wire_put_prefill_stats(struct wire_buffer *b, const struct prefill_stats *prefill)
{
    const uint32_t values[PREFILL_KEYS_COUNT] = {
        [PREFILL_PROMPT] = prefill->prompt_tokens,
        [PREFILL_COMPUTED] = prefill->computed_tokens,
        [PREFILL_CACHED] = prefill->cached_tokens,
        [PREFILL_LOCAL] = prefill->cached_tokens,
        [PREFILL_EXTERNAL] = 0,
    };
    wire_put_map(b, PREFILL_KEYS_COUNT);
    for (uint32_t i = 0; i < PREFILL_KEYS_COUNT; i++) {
        wire_put_key_uint(b, prefill_keys[i], values[i]);
    }
}

void wire_get_prefill_stats(struct wire_reader *r, struct prefill_stats *out)
{
    uint32_t count = wire_get_map(r, "prefill_stats");
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        switch (wire_get_key(r, "prefill_stats", prefill_keys)) {
        case PREFILL_PROMPT:
            out->prompt_tokens = wire_get_u32(r, prefill_keys[PREFILL_PROMPT]);
            break;
        case PREFILL_COMPUTED:
            out->computed_tokens = wire_get_u32(r, prefill_keys[PREFILL_COMPUTED]);
            break;
        case PREFILL_CACHED:
            out->cached_tokens = wire_get_u32(r, prefill_keys[PREFILL_CACHED]);
            break;
        default:
            wire_skip(r, "an ignored key of prefill_stats", 1);
        }
    }
}
