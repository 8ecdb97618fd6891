/*
 * /metrics: the text is parsed line by line with a parser of its own and compared with what was
 * observed: types, labels, cumulative buckets, sums over API servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/ledger/metrics.h"

enum {
    SAMPLES_MAX = 40000,
    TEXT_BYTES = 64 * METRICS_ENGINE_TEXT_BYTES
};

/* One sample line, cut up. */
struct sample {
    char name[80];
    char engine[8];
    char le[16];
    char reason[32]; /* or whatever else tells the series of one engine core apart */
    char model[140];
    double value;
};

struct scrape {
    struct sample *samples;
    size_t count;
    char *text;
};

static void take_label(struct sample *s, const char *key, const char *value, size_t length)
{
    char *to = NULL;
    size_t cap = 0;
    if (strcmp(key, "engine") == 0) {
        to = s->engine;
        cap = sizeof s->engine;
    } else if (strcmp(key, "le") == 0) {
        to = s->le;
        cap = sizeof s->le;
    } else if (strcmp(key, "finished_reason") == 0 || strcmp(key, "reason") == 0 ||
               strcmp(key, "source") == 0 || strcmp(key, "sleep_state") == 0 ||
               (strcmp(s->name, "vllm:cache_config_info") == 0)) {
        to = s->reason;
        cap = sizeof s->reason;
    } else if (strcmp(key, "model_name") == 0) {
        to = s->model;
        cap = sizeof s->model;
    }
    assert_non_null(to);
    assert_true(length < cap);
    memcpy(to, value, length);
    to[length] = '\0';
}

/* name{key="value",...} number */
static void parse_sample(const char *line, struct sample *s)
{
    *s = (struct sample){.value = -1.0};
    size_t length = strcspn(line, "{");
    assert_true(line[length] == '{' && length < sizeof s->name);
    memcpy(s->name, line, length);
    const char *p = line + length;
    while (*p != '}') {
        p++; /* { or , */
        char key[32];
        size_t key_length = strcspn(p, "=");
        assert_true(key_length < sizeof key && p[key_length + 1] == '"');
        memcpy(key, p, key_length);
        key[key_length] = '\0';
        const char *value = p + key_length + 2;
        const char *end = value;
        while (*end != '"') {
            end += *end == '\\' ? 2 : 1;
        }
        take_label(s, key, value, (size_t)(end - value));
        p = end + 1;
        assert_true(*p == ',' || *p == '}');
    }
    assert_true(p[1] == ' ');
    char *end = NULL;
    s->value = strtod(p + 2, &end);
    assert_true(end > p + 2 && *end == '\0');
}

static struct scrape scrape(const struct ledger *l)
{
    struct scrape s = {.samples = calloc(SAMPLES_MAX, sizeof *s.samples),
                       .text = malloc(TEXT_BYTES)};
    assert_non_null(s.samples);
    assert_non_null(s.text);
    size_t cap = (size_t)l->topology->engines_count * METRICS_ENGINE_TEXT_BYTES;
    size_t used = metrics_render(l, s.text, cap);
    assert_true(used < cap && strlen(s.text) == used && s.text[used - 1] == '\n');
    char *copy = strdup(s.text);
    char *rest = NULL;
    char family[80] = "";
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char type[16];
        if (line[0] == '#') {
            (void)sscanf(line, "# TYPE %79s %15s", family, type);
            continue;
        }
        assert_true(s.count < SAMPLES_MAX);
        parse_sample(line, &s.samples[s.count]);
        /* Every sample belongs to the family announced last. */
        assert_memory_equal(s.samples[s.count].name, family, strlen(family));
        s.count++;
    }
    free(copy);
    return s;
}

static void scrape_free(struct scrape *s)
{
    free(s->samples);
    free(s->text);
}

static const struct sample *find(const struct scrape *s, const char *name, const char *engine,
                                 const char *le)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct sample *x = &s->samples[i];
        if (strcmp(x->name, name) == 0 && strcmp(x->engine, engine) == 0 &&
            (le == NULL || strcmp(x->le, le) == 0)) {
            return x;
        }
    }
    return NULL;
}

static double value_below(const struct scrape *s, const char *name, const char *engine,
                          const char *le)
{
    const struct sample *x = find(s, name, engine, le);
    if (x == NULL) {
        fail_msg("no %s of engine %s", name, engine);
        return -1.0;
    }
    return x->value;
}

static double value_of(const struct scrape *s, const char *name, const char *engine)
{
    return value_below(s, name, engine, NULL);
}

static double labelled(const struct scrape *s, const char *name, const char *engine,
                       const char *label)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct sample *x = &s->samples[i];
        if (strcmp(x->name, name) == 0 && strcmp(x->engine, engine) == 0 &&
            strcmp(x->reason, label) == 0) {
            return x->value;
        }
    }
    fail_msg("no %s of engine %s with %s", name, engine, label);
    return -1.0;
}

static struct ledger make(uint32_t a, uint32_t d, const char *model)
{
    struct topology t = {
        .api_servers_count = a, .engines_count = d, .tp = 1, .pp = 1, .max_model_len = 3000};
    (void)snprintf(t.model, sizeof t.model, "%s", model);
    struct ledger l;
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    return l;
}

/* Buckets of one histogram of one engine: cumulative, ending in +Inf = count. Returns how many
 * there are. */
static size_t check_histogram(const struct scrape *s, const char *name, const char *engine)
{
    char bucket[96];
    char count_name[96];
    (void)snprintf(bucket, sizeof bucket, "%s_bucket", name);
    (void)snprintf(count_name, sizeof count_name, "%s_count", name);
    double below = -1.0;
    double bound = -1.0;
    size_t found = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct sample *x = &s->samples[i];
        if (strcmp(x->name, bucket) != 0 || strcmp(x->engine, engine) != 0) {
            continue;
        }
        double le = strtod(x->le, NULL);
        assert_true(le > bound);
        assert_true(x->value >= below);
        below = x->value;
        bound = le;
        found++;
    }
    assert_true(isinf(bound));
    assert_true(fabs(below - value_of(s, count_name, engine)) < 0.5);
    return found;
}

static void histograms_add_up(void **state)
{
    (void)state;
    struct ledger l = make(3, 2, "meta-llama/Llama-3.1-8B");
    struct random random = random_stream(7, "metrics", 0);
    double sums[2][METRICS_HISTOGRAMS_COUNT] = {{0}};
    double under_half[2] = {0};
    uint64_t counts[2] = {0};
    for (int i = 0; i < 3000; i++) {
        uint32_t a = (uint32_t)random_range(&random, 0, 2);
        uint32_t e = (uint32_t)random_range(&random, 0, 1);
        struct metrics_engine *m = &l.metrics[a].engines[e];
        double seconds = random_exponential(&random);
        double tokens = (double)random_range(&random, 1, 5000);
        under_half[e] += seconds <= 0.5 ? 1.0 : 0.0;
        counts[e]++;
        for (int h = 0; h < METRICS_HISTOGRAMS_COUNT; h++) {
            double value = h < METRICS_PROMPT_TOKENS ? seconds : tokens;
            metrics_observe(m, (enum metrics_histogram)h, value);
            sums[e][h] += value;
        }
    }
    static const char *const NAMES[] = {
#define X(name, text, buckets) text,
        METRICS_HISTOGRAMS(X)
#undef X
    };
    struct scrape s = scrape(&l);
    for (int e = 0; e < 2; e++) {
        const char *engine = e == 0 ? "0" : "1";
        for (int h = 0; h < METRICS_HISTOGRAMS_COUNT; h++) {
            char name[96];
            assert_true(check_histogram(&s, NAMES[h], engine) > 5);
            (void)snprintf(name, sizeof name, "%s_sum", NAMES[h]);
            assert_true(fabs(value_of(&s, name, engine) - sums[e][h]) < 0.01);
            (void)snprintf(name, sizeof name, "%s_count", NAMES[h]);
            assert_true(fabs(value_of(&s, name, engine) - (double)counts[e]) < 0.5);
        }
        double half = value_below(&s, "vllm:e2e_request_latency_seconds_bucket", engine, "0.5");
        assert_true(fabs(half - under_half[e]) < 0.5);
    }
    assert_string_equal(s.samples[0].model, "meta-llama/Llama-3.1-8B");
    scrape_free(&s);
    ledger_close(&l);
}

static void bucket_lists_are_vllms(void **state)
{
    (void)state;
    struct ledger l = make(1, 1, "m");
    struct scrape s = scrape(&l);
    assert_int_equal(check_histogram(&s, "vllm:time_to_first_token_seconds", "0"), 22 + 1);
    assert_int_equal(check_histogram(&s, "vllm:inter_token_latency_seconds", "0"), 19 + 1);
    assert_int_equal(check_histogram(&s, "vllm:e2e_request_latency_seconds", "0"), 21 + 1);
    assert_int_equal(check_histogram(&s, "vllm:iteration_tokens_total", "0"), 13 + 1);
    /* max_model_len 3000: 1 2 5 10 20 50 100 200 500 1000 2000 */
    assert_int_equal(check_histogram(&s, "vllm:request_prompt_tokens", "0"), 11 + 1);
    assert_non_null(find(&s, "vllm:request_prompt_tokens_bucket", "0", "2000.0"));
    assert_null(find(&s, "vllm:request_prompt_tokens_bucket", "0", "5000.0"));
    assert_non_null(find(&s, "vllm:time_to_first_token_seconds_bucket", "0", "0.001"));
    assert_non_null(find(&s, "vllm:time_to_first_token_seconds_bucket", "0", "2560.0"));
    assert_non_null(find(&s, "vllm:iteration_tokens_total_bucket", "0", "16384.0"));
    assert_non_null(find(&s, "vllm:e2e_request_latency_seconds_bucket", "0", "7680.0"));
    scrape_free(&s);
    ledger_close(&l);
}

/* A bound belongs to its bucket (le), the smallest step above it does not. */
static void bounds_are_inclusive(void **state)
{
    (void)state;
    struct ledger l = make(1, 1, "m");
    struct metrics_engine *m = &l.metrics[0].engines[0];
    metrics_observe(m, METRICS_TTFT, 0.25);
    metrics_observe(m, METRICS_TTFT, 0.250001);
    metrics_observe(m, METRICS_TTFT, -1.0);
    metrics_observe(m, METRICS_TTFT, 1e6);
    metrics_observe(m, METRICS_PROMPT_TOKENS, 2500);
    struct scrape s = scrape(&l);
    static const char NAME[] = "vllm:time_to_first_token_seconds_bucket";
    assert_int_equal(value_below(&s, NAME, "0", "0.1"), 1);
    assert_int_equal(value_below(&s, NAME, "0", "0.25"), 2);
    assert_int_equal(value_below(&s, NAME, "0", "0.5"), 3);
    assert_int_equal(value_below(&s, NAME, "0", "2560.0"), 3);
    assert_int_equal(value_below(&s, NAME, "0", "+Inf"), 4);
    /* Counted beyond max_model_len's last bucket: only +Inf has it. */
    assert_int_equal(value_below(&s, "vllm:request_prompt_tokens_bucket", "0", "2000.0"), 0);
    assert_int_equal(value_below(&s, "vllm:request_prompt_tokens_bucket", "0", "+Inf"), 1);
    scrape_free(&s);
    ledger_close(&l);
}

static void counters_add_up_and_the_newest_gauge_wins(void **state)
{
    (void)state;
    struct ledger l = make(2, 2, "m");
    struct scheduler_stats stats = {.running_count = 3,
                                    .waiting_count = 4,
                                    .skipped_waiting_count = 1,
                                    .kv_cache_usage = 0.25,
                                    .prefix_cache = {.queries_tokens = 100, .hits_tokens = 16}};
    metrics_scheduler(&l.metrics[0].engines[1], &stats, 2000);
    stats.running_count = 9;
    stats.kv_cache_usage = 0.5;
    metrics_scheduler(&l.metrics[1].engines[1], &stats, 1000);
    ledger_add(&l.metrics[0].engines[1].counters[METRICS_GENERATION_TOKENS_TOTAL], 5);
    ledger_add(&l.metrics[1].engines[1].counters[METRICS_GENERATION_TOKENS_TOTAL], 6);
    ledger_add(&l.metrics[0].engines[1].success[FINISH_LENGTH], 2);
    ledger_add(&l.metrics[1].engines[1].success[FINISH_LENGTH], 2);
    struct ledger_thread *engine = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, 1, 0);
    ledger_add(&engine->preemptions_count, 13);
    struct scrape s = scrape(&l);
    assert_int_equal(value_of(&s, "vllm:num_requests_running", "1"), 3);
    assert_int_equal(value_of(&s, "vllm:num_requests_waiting", "1"), 5);
    assert_true(fabs(value_of(&s, "vllm:kv_cache_usage_perc", "1") - 0.25) < 1e-9);
    assert_int_equal(value_of(&s, "vllm:num_requests_running", "0"), 0);
    assert_int_equal(value_of(&s, "vllm:prefix_cache_queries_total", "1"), 200);
    assert_int_equal(value_of(&s, "vllm:prefix_cache_hits_total", "1"), 32);
    assert_int_equal(value_of(&s, "vllm:generation_tokens_total", "1"), 11);
    assert_int_equal(value_of(&s, "vllm:num_preemptions_total", "1"), 13);
    assert_int_equal(value_of(&s, "vllm:num_preemptions_total", "0"), 0);
    static const char by_reason[] = "vllm:num_requests_waiting_by_reason";
    assert_int_equal(labelled(&s, by_reason, "1", "capacity"), 4);
    assert_int_equal(labelled(&s, by_reason, "1", "deferred"), 1);
    assert_int_equal(labelled(&s, by_reason, "0", "capacity"), 0);
    size_t reasons = 0;
    for (size_t i = 0; i < s.count; i++) {
        const struct sample *x = &s.samples[i];
        if (strcmp(x->name, "vllm:request_success_total") == 0 && strcmp(x->engine, "1") == 0) {
            assert_int_equal(x->value, strcmp(x->reason, "length") == 0 ? 4 : 0);
            reasons++;
        }
    }
    assert_int_equal(reasons, METRICS_FINISH_REASONS);
    scrape_free(&s);
    ledger_close(&l);
}

static void prompt_tokens_are_split_by_source(void **state)
{
    (void)state;
    struct ledger l = make(2, 2, "m");
    ledger_add(&l.metrics[0].engines[1].counters[METRICS_PROMPT_TOKENS_TOTAL], 100);
    ledger_add(&l.metrics[1].engines[1].counters[METRICS_PROMPT_TOKENS_TOTAL], 50);
    ledger_add(&l.metrics[1].engines[1].counters[METRICS_PROMPT_TOKENS_CACHED], 32);
    struct scrape s = scrape(&l);
    static const char name[] = "vllm:prompt_tokens_by_source_total";
    assert_int_equal(value_of(&s, "vllm:prompt_tokens_total", "1"), 150);
    assert_int_equal(value_of(&s, "vllm:prompt_tokens_cached_total", "1"), 32);
    assert_int_equal(labelled(&s, name, "1", "local_compute"), 118);
    assert_int_equal(labelled(&s, name, "1", "local_cache_hit"), 32);
    assert_int_equal(labelled(&s, name, "1", "external_kv_transfer"), 0);
    assert_int_equal(labelled(&s, name, "0", "local_compute"), 0);
    scrape_free(&s);
    ledger_close(&l);
}

static void engines_are_awake_and_tell_their_cache(void **state)
{
    (void)state;
    struct ledger l = make(2, 2, "m");
    ledger_set(&l.metrics[1].engines[1].num_gpu_blocks, 4711);
    struct scrape s = scrape(&l);
    assert_int_equal(labelled(&s, "vllm:engine_sleep_state", "1", "awake"), 1);
    assert_int_equal(labelled(&s, "vllm:engine_sleep_state", "1", "weights_offloaded"), 0);
    assert_int_equal(labelled(&s, "vllm:engine_sleep_state", "1", "discard_all"), 0);
    assert_int_equal(labelled(&s, "vllm:cache_config_info", "1", "4711"), 1);
    assert_int_equal(labelled(&s, "vllm:cache_config_info", "0", "0"), 1);
    static const char *const zeros[] = {"vllm:external_prefix_cache_queries_total",
                                        "vllm:external_prefix_cache_hits_total",
                                        "vllm:mm_cache_queries_total", "vllm:mm_cache_hits_total"};
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++) {
        assert_int_equal(value_of(&s, zeros[i], "1"), 0);
    }
    /* 1 2 5 10 20 */
    assert_int_equal(check_histogram(&s, "vllm:request_params_n", "1"), 5 + 1);
    assert_non_null(find(&s, "vllm:request_params_n_bucket", "1", "20.0"));
    scrape_free(&s);
    ledger_close(&l);
}

static void every_family_is_announced_once(void **state)
{
    (void)state;
    struct ledger l = make(1, 64, "m");
    struct scrape s = scrape(&l);
    static const char *const FAMILIES[] = {
        "# TYPE vllm:num_requests_running gauge\n",
        "# TYPE vllm:kv_cache_usage_perc gauge\n",
        "# TYPE vllm:prompt_tokens_total counter\n",
        "# TYPE vllm:request_success_total counter\n",
        "# TYPE vllm:time_to_first_token_seconds histogram\n",
        "# TYPE vllm:iteration_tokens_total histogram\n",
    };
    for (size_t i = 0; i < sizeof FAMILIES / sizeof FAMILIES[0]; i++) {
        const char *at = strstr(s.text, FAMILIES[i]);
        assert_non_null(at);
        assert_null(strstr(at + 1, FAMILIES[i]));
    }
    assert_non_null(find(&s, "vllm:num_requests_running", "63", NULL));
    scrape_free(&s);
    ledger_close(&l);
}

/* The longest model name there can be, with characters that must be escaped, still fits the
 * promised space. */
static void model_names_are_escaped(void **state)
{
    (void)state;
    struct ledger l = make(1, 1, "a\"b\\c\nd");
    struct scrape s = scrape(&l);
    assert_string_equal(s.samples[0].model, "a\\\"b\\\\c\\nd");
    scrape_free(&s);
    ledger_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histograms_add_up),
        cmocka_unit_test(bucket_lists_are_vllms),
        cmocka_unit_test(bounds_are_inclusive),
        cmocka_unit_test(counters_add_up_and_the_newest_gauge_wins),
        cmocka_unit_test(prompt_tokens_are_split_by_source),
        cmocka_unit_test(engines_are_awake_and_tell_their_cache),
        cmocka_unit_test(every_family_is_announced_once),
        cmocka_unit_test(model_names_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
