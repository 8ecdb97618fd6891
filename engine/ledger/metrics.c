/*
 * metrics.c - vLLM's Prometheus metrics: bucket lists, observation, and the text exposition over
 * all API servers' blocks. Observing is the owner's (an API server's main thread); rendering only
 * reads and may run in any process.
 */
#include "engine/ledger/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    INF_CELL = METRICS_BUCKETS_MAX - 1,
    LABEL_BYTES = 160
};

static const double bounds_ttft[] = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                     0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                     20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
static const double bounds_token[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                                      0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
static const double bounds_request[] = {0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                                        5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                                        60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
/* The whole 1-2-5 series is counted; what lies beyond max_model_len is folded into +Inf when
 * rendered. */
static const double bounds_length[] = {1,   2,   5,   10,  20,  50,  100, 200, 500,
                                       1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5,
                                       1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8};
static const double bounds_choices[] = {1, 2, 5, 10, 20};
static const double bounds_iteration[] = {1,   8,    16,   32,   64,   128,  256,
                                          512, 1024, 2048, 4096, 8192, 16384};

struct bucket_set {
    const double *bounds;
    uint32_t count;
    bool tokens; /* lengths, not seconds */
};

enum bucket_set_id {
    SET_TTFT,
    SET_TOKEN,
    SET_REQUEST,
    SET_LENGTH,
    SET_CHOICES,
    SET_ITERATION
};

#define SET(list, is_tokens)                            \
    {                                                   \
        list, sizeof(list) / sizeof(list)[0], is_tokens \
    }

static const struct bucket_set bucket_sets[] = {
    [SET_TTFT] = SET(bounds_ttft, false),          [SET_TOKEN] = SET(bounds_token, false),
    [SET_REQUEST] = SET(bounds_request, false),    [SET_LENGTH] = SET(bounds_length, true),
    [SET_ITERATION] = SET(bounds_iteration, true), [SET_CHOICES] = SET(bounds_choices, true),
};

_Static_assert(sizeof bounds_length / sizeof *bounds_length < INF_CELL, "METRICS_BUCKETS_MAX");

struct histogram {
    const char *name;
    enum bucket_set_id set;
};

static const struct histogram histograms[METRICS_HISTOGRAMS_COUNT] = {
#define X(name, text, buckets) [METRICS_##name] = {text, SET_##buckets},
    METRICS_HISTOGRAMS(X)
#undef X
};

static const char *const histogram_help[METRICS_HISTOGRAMS_COUNT] = {
    [METRICS_TTFT] = "Histogram of time to first token in seconds.",
    [METRICS_ITL] = "Histogram of inter-token latency in seconds.",
    [METRICS_TPOT] = "Histogram of time_per_output_token_seconds per request.",
    [METRICS_E2E] = "Histogram of e2e request latency in seconds.",
    [METRICS_QUEUE] = "Histogram of time spent in WAITING phase for request.",
    [METRICS_INFERENCE] = "Histogram of time spent in RUNNING phase for request.",
    [METRICS_PREFILL] = "Histogram of time spent in PREFILL phase for request.",
    [METRICS_DECODE] = "Histogram of time spent in DECODE phase for request.",
    [METRICS_PROMPT_TOKENS] = "Number of prefill tokens processed.",
    [METRICS_GENERATION_TOKENS] = "Number of generation tokens processed.",
    [METRICS_MAX_GENERATION_TOKENS] = "Histogram of maximum number of requested generation tokens.",
    [METRICS_PREFILL_KV_TOKENS] =
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    [METRICS_N] = "Histogram of the n request parameter.",
    [METRICS_MAX_TOKENS] = "Histogram of the max_tokens request parameter.",
    [METRICS_ITERATION_TOKENS] = "Histogram of number of tokens per engine_step.",
};

static const char *const counter_names[METRICS_COUNTERS_COUNT] = {
#define X(name, text) [METRICS_##name] = text "_total",
    METRICS_COUNTERS(X)
#undef X
};

static const char *const counter_help[METRICS_COUNTERS_COUNT] = {
    [METRICS_PROMPT_TOKENS_TOTAL] = "Number of prefill tokens processed.",
    [METRICS_GENERATION_TOKENS_TOTAL] = "Number of generation tokens processed.",
    [METRICS_PROMPT_TOKENS_CACHED] = "Number of cached prompt tokens (local + external).",
    [METRICS_EXTERNAL_PREFIX_QUERIES] =
        ("External prefix cache queries from KV connector cross-instance cache sharing, in terms "
         "of number of queried tokens."),
    [METRICS_EXTERNAL_PREFIX_HITS] =
        ("External prefix cache hits from KV connector cross-instance cache sharing, in terms of "
         "number of cached tokens."),
    [METRICS_MM_CACHE_QUERIES] = "Multi-modal cache queries, in terms of number of queried items.",
    [METRICS_MM_CACHE_HITS] = "Multi-modal cache hits, in terms of number of cached items.",
    [METRICS_PREFIX_QUERIES] = "Prefix cache queries, in terms of number of queried tokens.",
    [METRICS_PREFIX_HITS] = "Prefix cache hits, in terms of number of cached tokens.",
    [METRICS_PREEMPTIONS] = "Cumulative number of preemptions from the engine.",
};

static const char *const finish_names[METRICS_FINISH_REASONS] = {
    [FINISH_STOP] = "stop",   [FINISH_LENGTH] = "length",         [FINISH_ABORT] = "abort",
    [FINISH_ERROR] = "error", [FINISH_REPETITION] = "repetition",
};

void metrics_observe(struct metrics_engine *m, enum metrics_histogram h, double value)
{
    ASSERT((unsigned)h < METRICS_HISTOGRAMS_COUNT);
    const struct bucket_set *set = &bucket_sets[histograms[h].set];
    struct metrics_cells *cells = &m->histograms[h];
    /* Two clocks may disagree by a little; a negative duration counts as none (and so does NaN). */
    if (!(value > 0.0)) {
        value = 0.0;
    }
    uint32_t cell = 0;
    while (cell < set->count && value > set->bounds[cell]) {
        cell++;
    }
    ledger_add(&cells->buckets[cell < set->count ? cell : INF_CELL], 1);
    ledger_add(&cells->sum_us, (uint64_t)((set->tokens ? value : value * 1e6) + 0.5));
    ledger_add(&cells->count, 1);
}

void metrics_scheduler(struct metrics_engine *m, const struct scheduler_stats *stats,
                       int64_t now_ns)
{
    double usage = stats->kv_cache_usage > 0.0 ? stats->kv_cache_usage : 0.0;
    ledger_set(&m->running, stats->running_count);
    ledger_set(&m->waiting, stats->waiting_count);
    ledger_set(&m->skipped, stats->skipped_waiting_count);
    ledger_set(&m->kv_usage_ppm, (uint64_t)((usage < 1.0 ? usage : 1.0) * 1e6 + 0.5));
    ledger_set(&m->gauge_at_ns, (uint64_t)now_ns);
    ledger_add(&m->counters[METRICS_PREFIX_QUERIES], stats->prefix_cache.queries_tokens);
    ledger_add(&m->counters[METRICS_PREFIX_HITS], stats->prefix_cache.hits_tokens);
}

struct text {
    char *out;
    size_t cap;
    size_t used;
};

static void put(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->out + t->used, t->cap - t->used, fmt, args);
    va_end(args);
    ASSERT(n >= 0 && (size_t)n < t->cap - t->used);
    t->used += (size_t)n;
}

struct render {
    const struct ledger *l;
    struct text text;
    char model[LABEL_BYTES]; /* escaped */
};

static void escape_label(const char *in, size_t in_cap, char out[LABEL_BYTES])
{
    size_t n = 0;
    for (size_t i = 0; i < in_cap && in[i] != '\0' && n + 2 < LABEL_BYTES; i++) {
        char c = in[i];
        if (c == '\\' || c == '"' || c == '\n') {
            out[n++] = '\\';
            c = (char)(c == '\n' ? 'n' : c);
        }
        out[n++] = c;
    }
    out[n] = '\0';
}

static void put_head(struct render *r, const char *name, const char *help, const char *type)
{
    put(&r->text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A bound as Prometheus clients write it: always visibly a floating-point number. */
static void format_bound(double bound, char out[32])
{
    int length = snprintf(out, 32, "%g", bound);
    ASSERT(length > 0 && length < 29);
    if (strpbrk(out, ".e") == NULL) {
        (void)snprintf(out + length, 32 - (size_t)length, ".0");
    }
}

static uint64_t preemptions_of(const struct ledger *l, uint32_t engine)
{
    uint32_t count = ledger_threads_count(l);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct ledger_thread *t = &l->threads[i];
        if (atomic_load_explicit(&t->state, memory_order_acquire) != LEDGER_THREAD_FREE &&
            t->kind == (uint32_t)THREAD_ENGINE_MAIN && t->instance == engine) {
            sum += ledger_get(&t->preemptions_count);
        }
    }
    return sum;
}

static uint64_t counter_sum(const struct ledger *l, uint32_t engine, int counter)
{
    /* Preemptions are not on the wire: the engine core counts them in its own slot. */
    uint64_t sum = counter == METRICS_PREEMPTIONS ? preemptions_of(l, engine) : 0;
    for (uint32_t a = 0; a < l->topology->api_servers_count; a++) {
        sum += ledger_get(&l->metrics[a].engines[engine].counters[counter]);
    }
    return sum;
}

static void render_counters(struct render *r)
{
    for (int c = 0; c < METRICS_COUNTERS_COUNT; c++) {
        const char *name = counter_names[c];
        put_head(r, name, counter_help[c], "counter");
        for (uint32_t e = 0; e < r->l->topology->engines_count; e++) {
            put(&r->text, "%s{engine=\"%u\",model_name=\"%s\"} %llu.0\n", name, e, r->model,
                (unsigned long long)counter_sum(r->l, e, c));
        }
    }
}

static void render_success(struct render *r)
{
    put_head(r, "vllm:request_success_total", "Count of successfully processed requests.",
             "counter");
    for (uint32_t e = 0; e < r->l->topology->engines_count; e++) {
        for (int reason = 0; reason < METRICS_FINISH_REASONS; reason++) {
            uint64_t sum = 0;
            for (uint32_t a = 0; a < r->l->topology->api_servers_count; a++) {
                sum += ledger_get(&r->l->metrics[a].engines[e].success[reason]);
            }
            put(&r->text,
                "vllm:request_success_total{engine=\"%u\",finished_reason=\"%s\","
                "model_name=\"%s\"} %llu.0\n",
                e, finish_names[reason], r->model, (unsigned long long)sum);
        }
    }
}

/* The block that heard from this engine core last: only one API server gets the stats of a step. */
static const struct metrics_engine *newest_gauges(const struct ledger *l, uint32_t engine)
{
    const struct metrics_engine *best = &l->metrics[0].engines[engine];
    for (uint32_t a = 1; a < l->topology->api_servers_count; a++) {
        const struct metrics_engine *m = &l->metrics[a].engines[engine];
        if (ledger_get(&m->gauge_at_ns) > ledger_get(&best->gauge_at_ns)) {
            best = m;
        }
    }
    return best;
}

static void put_gauge(struct render *r, const char *name, uint32_t engine, uint64_t value)
{
    put(&r->text, "%s{engine=\"%u\",model_name=\"%s\"} %llu.0\n", name, engine, r->model,
        (unsigned long long)value);
}

/* A sample with one more label. */
static void put_labelled(struct render *r, const char *name, uint32_t engine, const char *label,
                         uint64_t value)
{
    put(&r->text, "%s{engine=\"%u\",model_name=\"%s\",%s} %llu.0\n", name, engine, r->model, label,
        (unsigned long long)value);
}

static void render_waiting(struct render *r)
{
    static const char name[] = "vllm:num_requests_waiting";
    static const char reason_name[] = "vllm:num_requests_waiting_by_reason";
    const uint32_t engines = r->l->topology->engines_count;
    put_head(r, name, "Number of requests waiting to be processed.", "gauge");
    for (uint32_t e = 0; e < engines; e++) {
        const struct metrics_engine *m = newest_gauges(r->l, e);
        put_gauge(r, name, e, ledger_get(&m->waiting) + ledger_get(&m->skipped));
    }
    put_head(r, reason_name, "Number of requests waiting to be processed, by reason.", "gauge");
    for (uint32_t e = 0; e < engines; e++) {
        const struct metrics_engine *m = newest_gauges(r->l, e);
        put_labelled(r, reason_name, e, "reason=\"capacity\"", ledger_get(&m->waiting));
        put_labelled(r, reason_name, e, "reason=\"deferred\"", ledger_get(&m->skipped));
    }
}

static void render_gauges(struct render *r)
{
    const uint32_t engines = r->l->topology->engines_count;
    static const char running_name[] = "vllm:num_requests_running";
    static const char usage_name[] = "vllm:kv_cache_usage_perc";
    put_head(r, running_name, "Number of requests in model execution batches.", "gauge");
    for (uint32_t e = 0; e < engines; e++) {
        put_gauge(r, running_name, e, ledger_get(&newest_gauges(r->l, e)->running));
    }
    render_waiting(r);
    put_head(r, usage_name, "KV-cache usage. 1 means 100 percent usage.", "gauge");
    for (uint32_t e = 0; e < engines; e++) {
        uint64_t ppm = ledger_get(&newest_gauges(r->l, e)->kv_usage_ppm);
        put(&r->text, "%s{engine=\"%u\",model_name=\"%s\"} %llu.%06llu\n", usage_name, e, r->model,
            (unsigned long long)(ppm / 1000000), (unsigned long long)(ppm % 1000000));
    }
}

/* Nothing here ever sleeps: always awake. */
static void render_sleep_state(struct render *r)
{
    static const char name[] = "vllm:engine_sleep_state";
    put_head(r, name,
             "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is "
             "awake; weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level "
             "2.",
             "gauge");
    for (uint32_t e = 0; e < r->l->topology->engines_count; e++) {
        put_labelled(r, name, e, "sleep_state=\"awake\"", 1);
        put_labelled(r, name, e, "sleep_state=\"weights_offloaded\"", 0);
        put_labelled(r, name, e, "sleep_state=\"discard_all\"", 0);
    }
}

static void render_sources(struct render *r)
{
    static const char name[] = "vllm:prompt_tokens_by_source_total";
    put_head(r, name, "Number of prompt tokens by source.", "counter");
    for (uint32_t e = 0; e < r->l->topology->engines_count; e++) {
        uint64_t all = counter_sum(r->l, e, METRICS_PROMPT_TOKENS_TOTAL);
        uint64_t cached = counter_sum(r->l, e, METRICS_PROMPT_TOKENS_CACHED);
        /* Two counters of a running writer: the first may lag behind. */
        put_labelled(r, name, e, "source=\"local_compute\"", all > cached ? all - cached : 0);
        put_labelled(r, name, e, "source=\"local_cache_hit\"", cached);
        put_labelled(r, name, e, "source=\"external_kv_transfer\"", 0);
    }
}

static void render_cache_config(struct render *r)
{
    const struct topology *t = r->l->topology;
    static const char name[] = "vllm:cache_config_info";
    put_head(r, name, "Information of the LLMEngine CacheConfig", "gauge");
    for (uint32_t e = 0; e < t->engines_count; e++) {
        uint64_t blocks = 0;
        for (uint32_t a = 0; a < t->api_servers_count; a++) {
            uint64_t known = ledger_get(&r->l->metrics[a].engines[e].num_gpu_blocks);
            blocks = known > blocks ? known : blocks;
        }
        put(&r->text,
            "%s{block_size=\"%u\",cache_dtype=\"auto\",enable_prefix_caching=\"%s\","
            "engine=\"%u\",gpu_memory_utilization=\"0.9\",num_gpu_blocks=\"%llu\"} 1.0\n",
            name, t->block_tokens, t->prefix_caching != 0 ? "True" : "False", e,
            (unsigned long long)blocks);
    }
}

static uint64_t cell_sum(const struct ledger *l, uint32_t engine, int h, uint32_t cell)
{
    uint64_t sum = 0;
    for (uint32_t a = 0; a < l->topology->api_servers_count; a++) {
        sum += ledger_get(&l->metrics[a].engines[engine].histograms[h].buckets[cell]);
    }
    return sum;
}

static void render_histogram(struct render *r, int h, uint32_t engine)
{
    const struct bucket_set *set = &bucket_sets[histograms[h].set];
    const char *name = histograms[h].name;
    bool capped = histograms[h].set == SET_LENGTH;
    uint64_t total = 0;
    for (uint32_t cell = 0; cell < set->count; cell++) {
        total += cell_sum(r->l, engine, h, cell);
        if (capped && set->bounds[cell] > (double)r->l->topology->max_model_len) {
            continue;
        }
        char bound[32];
        format_bound(set->bounds[cell], bound);
        put(&r->text, "%s_bucket{engine=\"%u\",le=\"%s\",model_name=\"%s\"} %llu.0\n", name, engine,
            bound, r->model, (unsigned long long)total);
    }
    /* The count is the sum of the cells, so that a scrape amid an observation still adds up. */
    total += cell_sum(r->l, engine, h, INF_CELL);
    uint64_t sum = 0;
    for (uint32_t a = 0; a < r->l->topology->api_servers_count; a++) {
        sum += ledger_get(&r->l->metrics[a].engines[engine].histograms[h].sum_us);
    }
    put(&r->text, "%s_bucket{engine=\"%u\",le=\"+Inf\",model_name=\"%s\"} %llu.0\n", name, engine,
        r->model, (unsigned long long)total);
    put(&r->text, "%s_count{engine=\"%u\",model_name=\"%s\"} %llu.0\n", name, engine, r->model,
        (unsigned long long)total);
    uint64_t unit = set->tokens ? 1 : 1000000;
    put(&r->text, "%s_sum{engine=\"%u\",model_name=\"%s\"} %llu.%06llu\n", name, engine, r->model,
        (unsigned long long)(sum / unit), (unsigned long long)(sum % unit));
}

size_t metrics_render(const struct ledger *l, char *out, size_t cap)
{
    ASSERT(cap > 0);
    struct render r = {.l = l, .text = {.out = out, .cap = cap}};
    out[0] = '\0';
    escape_label(l->topology->model, sizeof l->topology->model, r.model);
    render_gauges(&r);
    render_sleep_state(&r);
    render_cache_config(&r);
    render_counters(&r);
    render_sources(&r);
    render_success(&r);
    for (int h = 0; h < METRICS_HISTOGRAMS_COUNT; h++) {
        put_head(&r, histograms[h].name, histogram_help[h], "histogram");
        for (uint32_t e = 0; e < l->topology->engines_count; e++) {
            render_histogram(&r, h, e);
        }
    }
    return r.text.used;
}
