/*
 * Metrics of others: a text written by hand with known sums and quantiles, the text that our own
 * API servers render against what was observed, and lines that are none.
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

#include "engine/ledger/metrics.h"
#include "harness/probe/prometheus.h"

enum {
    TEXT_BYTES = 1 << 16
};

static struct prometheus parsed(const char *text)
{
    struct prometheus p;
    struct error error;
    assert_int_equal(prometheus_parse(text, strlen(text), &p, &error), STATUS_OK);
    return p;
}

static struct prometheus parsed_file(const char *path)
{
    char *text = calloc(1, TEXT_BYTES);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, TEXT_BYTES - 1, file) > 0);
    (void)fclose(file);
    struct prometheus p = parsed(text);
    free(text);
    return p;
}

static const struct prometheus_sample *sample(const struct prometheus *p, const char *name)
{
    for (size_t i = 0; i < p->samples_count; i++) {
        if (strcmp(p->samples[i].name, name) == 0) {
            return &p->samples[i];
        }
    }
    fail_msg("no %s", name);
    return p->samples;
}

static void is(double value, double expected)
{
    assert_true(fabs(value - expected) <= 1e-9 * fmax(1, fabs(expected)));
}

static void quantile_lies_in(const struct prometheus_histogram *h, double quantile, double above,
                             double at_most)
{
    double lo = 0;
    double hi = 0;
    assert_true(prometheus_quantile(h, quantile, &lo, &hi));
    is(lo, above);
    assert_true(isinf(at_most) ? isinf(hi) != 0 : fabs(hi - at_most) < 1e-9);
}

/* A text as vLLM writes it; the figures expected are computed by hand from the file. */
static void vllm_metrics_are_read(void **state)
{
    (void)state;
    struct prometheus p = parsed_file("tests/harness/prometheus/vllm.txt");
    assert_int_equal(p.malformed_count, 0);
    assert_int_equal(p.samples_count, 33);
    is(prometheus_sum(&p, "vllm:num_requests_running", NULL, NULL), 40);
    is(prometheus_sum(&p, "vllm:num_requests_running", "engine", "1"), 23);
    is(prometheus_sum(&p, "vllm:generation_tokens_total", NULL, NULL), 2000000);
    is(prometheus_sum(&p, "vllm:request_success_total", "finished_reason", "length"), 85);
    assert_true(isnan(prometheus_sum(&p, "vllm:request_success_total", "engine", "7")));
    assert_true(isnan(prometheus_sum(&p, "vllm:request_success", NULL, NULL)));
    assert_true(isnan(prometheus_sum(&p, "vllm:kv_cache_usage_perc", "engine", "1")));

    assert_int_equal(sample(&p, "vllm:num_requests_running")->type, PROMETHEUS_GAUGE);
    assert_int_equal(sample(&p, "vllm:generation_tokens_total")->type, PROMETHEUS_COUNTER);
    assert_int_equal(sample(&p, "vllm:time_to_first_token_seconds_sum")->type,
                     PROMETHEUS_HISTOGRAM);
    assert_int_equal(sample(&p, "process_open_fds")->type, PROMETHEUS_UNTYPED);
    const struct prometheus_sample *info = sample(&p, "vllm:cache_config_info");
    assert_string_equal(prometheus_label(&p, info, "note"),
                        "a \"quoted\" path C:\\kv, and a line\nend");
    assert_string_equal(prometheus_label(&p, info, "num_gpu_blocks"), "27819");
    assert_null(prometheus_label(&p, info, "model_name"));
    is(sample(&p, "http_requests_total")->value, 125);
    prometheus_free(&p);
}

static void histograms_have_quantiles(void **state)
{
    (void)state;
    struct prometheus p = parsed_file("tests/harness/prometheus/vllm.txt");
    struct prometheus_histogram all;
    struct prometheus_histogram first;
    struct prometheus_histogram rest;
    const char *name = "vllm:time_to_first_token_seconds";
    assert_true(prometheus_histogram(&p, name, NULL, NULL, &all));
    assert_true(prometheus_histogram(&p, name, "engine", "0", &first));
    assert_int_equal(all.buckets_count, 5);
    is(all.count, 125);
    is(all.sum, 20.75);
    is(all.at_most_count[2], 40);
    quantile_lies_in(&all, 0.5, 0.1, 0.25);
    /* Rank 10 of 125 is the last one of (0.001, 0.005], rank 40 of (0.005, 0.1]. */
    quantile_lies_in(&all, 0.08, 0.001, 0.005);
    quantile_lies_in(&all, 0.081, 0.005, 0.1);
    quantile_lies_in(&all, 0.32, 0.005, 0.1);
    quantile_lies_in(&all, 0.99, 0.25, (double)INFINITY);

    /* All less engine 0 is engine 1. */
    assert_true(prometheus_since(&first, &all, &rest));
    is(rest.count, 25);
    is(rest.sum, 1.25);
    quantile_lies_in(&rest, 0.4, 0.001, 0.005);
    /* A server that began anew. */
    assert_true(prometheus_since(&all, &first, &rest));
    is(rest.count, 100);
    struct prometheus_histogram other;
    assert_true(prometheus_histogram(&p, "vllm:iteration_tokens_total", NULL, NULL, &other));
    assert_false(prometheus_since(&other, &all, &rest));
    assert_false(prometheus_histogram(&p, "vllm:num_requests_running", NULL, NULL, &other));
    prometheus_free(&p);

    p = parsed("h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n"
               "g_bucket{le=\"1\"} 3\n"
               "e_bucket{le=\"+Inf\"} 0\n");
    assert_false(prometheus_histogram(&p, "h", NULL, NULL, &other)); /* falls */
    assert_false(prometheus_histogram(&p, "g", NULL, NULL, &other)); /* no end */
    assert_true(prometheus_histogram(&p, "e", NULL, NULL, &other));
    double lo = 0;
    double hi = 0;
    assert_false(prometheus_quantile(&other, 0.5, &lo, &hi));
    prometheus_free(&p);
}

/* What is no sample is counted, its neighbours are read. */
static void malformed_lines_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "a{b=\"c} 1",
        "a{b=c} 1",
        "{b=\"c\"} 1",
        "a{b=\"c\"",
        "1a 2",
        "a 0x10",
        "a 1 2 3",
        "a{b=\"\\x\"} 1",
        "a",
        "a{b\"1\"} 3",
        "a{b=\"c\" d=\"\"} 1",
        "a one",
        "a{=\"c\"} 1",
        "a{b=\"c\"}",
        "a-b 1",
        "a 1 x",
        "# TYPE",
        "a{b=\"c\",,} 1",
        "a 1e",
        "a nano",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[160];
        bool comment = bad[i][0] == '#';
        (void)snprintf(text, sizeof text, "x{l=\"1\"} 1\n\n%s%s\ny{l=\"2\"} 2\n", bad[i],
                       comment ? " " : "");
        struct prometheus p = parsed(text);
        assert_int_equal(p.samples_count, 2);
        assert_int_equal(p.labels_count, 2);
        assert_int_equal(p.malformed_count, 1);
        assert_int_equal(p.malformed_line, 3);
        assert_true(p.malformed_why[0] != '\0');
        assert_string_equal(prometheus_label(&p, &p.samples[1], "l"), "2");
        prometheus_free(&p);
    }
    struct prometheus p;
    struct error error;
    assert_int_equal(prometheus_parse("a\0b 1\nc 2", 9, &p, &error), STATUS_OK);
    assert_int_equal(p.samples_count, 1);
    assert_int_equal(p.malformed_line, 1);
    is(p.samples[0].value, 2);
    prometheus_free(&p);
    assert_int_equal(prometheus_parse("", (size_t)PROMETHEUS_TEXT_BYTES_MAX + 1, &p, &error),
                     STATUS_FULL);
}

static void odd_but_sound_lines_are_read(void **state)
{
    (void)state;
    struct prometheus p = parsed("# TYPE a counter\r\n"
                                 "a_total{x=\"1\"} 1 # {trace_id=\"q\"} 0.67 1.5\r\n"
                                 "a_total { x = \"2\" , } +Inf 12\r\n"
                                 "b -Inf\n\tc{} NaN\n# EOF");
    assert_int_equal(p.malformed_count, 0);
    assert_int_equal(p.samples_count, 4);
    is(p.samples[0].value, 1);
    assert_int_equal(p.samples[0].type, PROMETHEUS_COUNTER);
    assert_true(isinf(p.samples[1].value) && p.samples[1].value > 0);
    assert_string_equal(prometheus_label(&p, &p.samples[1], "x"), "2");
    assert_true(isinf(p.samples[2].value) && p.samples[2].value < 0);
    assert_int_equal(p.samples[2].type, PROMETHEUS_UNTYPED);
    assert_true(isnan(p.samples[3].value));
    prometheus_free(&p);
}

static void more_samples_than_the_limit_are_refused(void **state)
{
    (void)state;
    size_t lines = (size_t)PROMETHEUS_SAMPLES_MAX + 1;
    char *text = malloc(lines * 4 + 1);
    struct prometheus p;
    struct error error;
    assert_non_null(text);
    for (size_t i = 0; i < lines; i++) {
        memcpy(text + 4 * i, "a 1\n", 4);
    }
    assert_int_equal(prometheus_parse(text, (lines - 1) * 4, &p, &error), STATUS_OK);
    is(prometheus_sum(&p, "a", NULL, NULL), PROMETHEUS_SAMPLES_MAX);
    prometheus_free(&p);
    assert_int_equal(prometheus_parse(text, lines * 4, &p, &error), STATUS_FULL);
    free(text);
}

/* Everything that two API servers observed is found again in what they render. */
static void own_metrics_are_read(void **state)
{
    (void)state;
    struct topology t = {.api_servers_count = 2,
                         .engines_count = 2,
                         .tp = 1,
                         .pp = 1,
                         .max_model_len = 8192,
                         .block_tokens = 16,
                         .max_num_seqs = 8};
    struct ledger l;
    (void)snprintf(t.model, sizeof t.model, "llama-3.1-8b");
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    for (int i = 0; i < 100; i++) {
        struct metrics_engine *m = &l.metrics[i % 2].engines[i < 60 ? 0 : 1];
        metrics_observe(m, METRICS_TTFT, i < 60 ? 0.03 : 0.3);
        metrics_observe(m, METRICS_PROMPT_TOKENS, 100);
    }
    size_t cap = (size_t)2 * METRICS_ENGINE_TEXT_BYTES;
    char *text = malloc(cap);
    assert_non_null(text);
    size_t bytes = metrics_render(&l, text, cap);
    struct prometheus p;
    struct error error;
    assert_int_equal(prometheus_parse(text, bytes, &p, &error), STATUS_OK);
    assert_int_equal(p.malformed_count, 0);
    struct prometheus_histogram h;
    assert_true(prometheus_histogram(&p, "vllm:time_to_first_token_seconds", "engine", "0", &h));
    is(h.count, 60);
    is(h.sum, 60 * 0.03);
    quantile_lies_in(&h, 0.5, 0.02, 0.04);
    assert_true(prometheus_histogram(&p, "vllm:time_to_first_token_seconds", NULL, NULL, &h));
    is(h.count, 100);
    is(prometheus_sum(&p, "vllm:request_prompt_tokens_sum", NULL, NULL), 10000);
    assert_int_equal(sample(&p, "vllm:generation_tokens_total")->type, PROMETHEUS_COUNTER);
    prometheus_free(&p);
    free(text);
    ledger_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vllm_metrics_are_read),
        cmocka_unit_test(histograms_have_quantiles),
        cmocka_unit_test(malformed_lines_are_named),
        cmocka_unit_test(odd_but_sound_lines_are_read),
        cmocka_unit_test(more_samples_than_the_limit_are_refused),
        cmocka_unit_test(own_metrics_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
