/*
 * analysis_compat_test.c - small recorded streams against values worked out by hand for each tool:
 * a role before the first token, several tokens an event, one token, nothing at all, a failure in
 * between; percentile rules on lists where they differ; throughput windows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "harness/analysis/compat.h"

#define MS     ((int64_t)1000000)
#define NONE   __builtin_nan("")
#define ALL(x) x, (sizeof(x) / sizeof(x)[0])

/* All requests are due at 90 ms and sent at 100 ms. */

/* A role at 120, 4 tokens in 3 events, an end without text at 171, [DONE] at 175. */
static const struct compat_event chat[] = {
    {120 * MS, 0}, {140 * MS, 1}, {155 * MS, 2}, {170 * MS, 1}, {171 * MS, 0}};
/* 9 tokens in 3 events; the client's tokenizer counts 9, usage says 10. */
static const struct compat_event batched[] = {{150 * MS, 3}, {180 * MS, 3}, {240 * MS, 3}};
static const struct compat_event single[] = {{130 * MS, 1}};
static const struct compat_event broken[] = {{110 * MS, 1}, {115 * MS, 1}};

static struct compat_request request_of(const struct compat_event *events, size_t count,
                                        int64_t done_ns)
{
    struct compat_request r = {.sched_ns = 90 * MS,
                               .sent_ns = 100 * MS,
                               .done_ns = done_ns,
                               .asked_tokens = 16,
                               .ok = true};
    compat_take_events(&r, events, count);
    return r;
}

struct expected {
    bool success;
    uint32_t tokens;
    double ttft;
    double e2e;
    double tpot;
    bool sample;
    double itl;
    size_t gaps;
};

static void check_number(double got, double want)
{
    if (isnan(want)) {
        assert_true(isnan(got));
    } else {
        assert_true(fabs(got - want) < 1e-9);
    }
}

static void check(enum compat_tool tool, const struct compat_request *r, struct expected want)
{
    struct compat_values got;
    compat_measure(tool, r, &got);
    assert_int_equal(got.success, want.success);
    assert_int_equal(got.tokens_count, want.tokens);
    check_number(got.ttft_ms, want.ttft);
    check_number(got.e2e_ms, want.e2e);
    check_number(got.tpot_ms, want.tpot);
    assert_int_equal(got.tpot_is_a_sample, want.sample);
    check_number(got.itl_request_ms, want.itl);
    assert_int_equal(got.itl_gaps_count, want.gaps);
}

static void check_gaps(enum compat_tool tool, const struct compat_request *r, const double *want,
                       size_t count)
{
    double got[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    compat_itl_gaps(tool, r, got);
    for (size_t i = 0; i < count; i++) {
        check_number(got[i], want[i]);
    }
    check_number(got[count], -1); /* nothing behind them */
}

static void empty_first_delta(void **state)
{
    (void)state;
    struct compat_request r = request_of(ALL(chat), 175 * MS);
    r.usage_tokens = 4;
    check(COMPAT_VLLM, &r,
          (struct expected){true, 4, 20, 71, 51.0 / 3, true, NONE, 4}); /* role to end */
    check(COMPAT_GUIDELLM, &r, (struct expected){true, 4, 40, 75, 70.0 / 4, true, 10, 0});
    check(COMPAT_AIPERF, &r, (struct expected){true, 4, 40, 70, 10, true, 10, 0});
    check(COMPAT_MLPERF, &r, (struct expected){true, 4, 50, 80, 10, true, NONE, 0});
    check(COMPAT_SGLANG, &r, (struct expected){true, 4, 40, 75, 35.0 / 3, true, NONE, 2});
    check_gaps(COMPAT_VLLM, &r, (const double[]){20, 15, 15, 1}, 4);
    check_gaps(COMPAT_SGLANG, &r, (const double[]){15, 15}, 2);
    check_gaps(COMPAT_AIPERF, &r, NULL, 0);
}

static void several_tokens_an_event(void **state)
{
    (void)state;
    struct compat_request r = request_of(ALL(batched), 241 * MS);
    r.usage_tokens = 10;
    check(COMPAT_VLLM, &r, (struct expected){true, 10, 50, 140, 10, true, NONE, 2});
    check(COMPAT_GUIDELLM, &r, (struct expected){true, 10, 50, 141, 14, true, 10, 0});
    check(COMPAT_AIPERF, &r,
          (struct expected){true, 9, 50, 140, 90.0 / 8, true, 90.0 / 8, 0}); /* its own count */
    check(COMPAT_MLPERF, &r, (struct expected){true, 10, 60, 150, 10, true, NONE, 0});
    check(COMPAT_SGLANG, &r, (struct expected){true, 10, 50, 141, 91.0 / 9, true, NONE, 2});
    check_gaps(COMPAT_VLLM, &r, (const double[]){30, 60}, 2); /* not divided by the tokens */
    check_gaps(COMPAT_SGLANG, &r, (const double[]){30, 60}, 2);
    r.usage_tokens = 0; /* no usage: a tokenizer, or what was asked for */
    check(COMPAT_VLLM, &r, (struct expected){true, 9, 50, 140, 90.0 / 8, true, NONE, 2});
    check(COMPAT_GUIDELLM, &r, (struct expected){true, 9, 50, 141, 140.0 / 9, true, 90.0 / 8, 0});
    check(COMPAT_SGLANG, &r, (struct expected){true, 16, 50, 141, 91.0 / 15, true, NONE, 2});
}

static void one_token(void **state)
{
    (void)state;
    struct compat_request r = request_of(ALL(single), 132 * MS);
    r.usage_tokens = 1;
    check(COMPAT_VLLM, &r, (struct expected){true, 1, 30, 30, 0, false, NONE, 0});
    check(COMPAT_GUIDELLM, &r, (struct expected){true, 1, 30, 32, 30, true, NONE, 0});
    check(COMPAT_AIPERF, &r, (struct expected){true, 1, 30, 30, NONE, false, NONE, 0});
    check(COMPAT_MLPERF, &r, (struct expected){true, 1, 40, 40, NONE, false, NONE, 0});
    check(COMPAT_SGLANG, &r, (struct expected){true, 1, 30, 32, NONE, false, NONE, 0});
    for (int tool = 0; tool < COMPAT_TOOLS_COUNT; tool++) {
        check_gaps((enum compat_tool)tool, &r, NULL, 0);
    }
}

static void nothing_came(void **state)
{
    (void)state;
    struct compat_request r = request_of(NULL, 0, 145 * MS); /* 200 and [DONE], no event */
    check(COMPAT_VLLM, &r, (struct expected){false, 0, NONE, NONE, NONE, false, NONE, 0});
    check(COMPAT_GUIDELLM, &r, (struct expected){true, 0, NONE, 45, NONE, false, NONE, 0});
    check(COMPAT_AIPERF, &r, (struct expected){false, 0, NONE, NONE, NONE, false, NONE, 0});
    check(COMPAT_MLPERF, &r, (struct expected){false, 0, NONE, NONE, NONE, false, NONE, 0});
    /* A success of 16 tokens at 0 ms: what a dead server looks like. */
    check(COMPAT_SGLANG, &r, (struct expected){true, 16, 0, 45, 3, true, NONE, 0});
}

static void failure_in_between(void **state)
{
    (void)state;
    struct compat_request r = request_of(ALL(broken), 116 * MS);
    r.ok = false;
    for (int tool = 0; tool < COMPAT_TOOLS_COUNT; tool++) {
        struct compat_values got;
        compat_measure((enum compat_tool)tool, &r, &got);
        assert_false(got.success);
        assert_false(got.tpot_is_a_sample);
        assert_true(isnan(got.ttft_ms) && isnan(got.e2e_ms) && isnan(got.tpot_ms));
        assert_int_equal(got.itl_gaps_count, 0);
        check_gaps((enum compat_tool)tool, &r, NULL, 0);
    }
}

static void percentile_rules_differ(void **state)
{
    (void)state;
    static const double ten[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 100};
    static const struct {
        double p;
        double interpolated;
        double nearest_rank;
        double floor_place;
    } rows[] = {{0.50, 5.5, 5, 6},  {0.90, 9 + 0.1 * 91, 9, 100}, {0.99, 9 + 0.91 * 91, 100, 100},
                {0.25, 3.25, 3, 3}, {1.00, 100, 100, 100},        {0.00, 1, 1, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double p = rows[i].p;
        check_number(compat_percentile(COMPAT_VLLM, ten, 10, p), rows[i].interpolated);
        check_number(compat_percentile(COMPAT_SGLANG, ten, 10, p), rows[i].interpolated);
        check_number(compat_percentile(COMPAT_AIPERF, ten, 10, p), rows[i].interpolated);
        check_number(compat_percentile(COMPAT_GUIDELLM, ten, 10, p), rows[i].nearest_rank);
        check_number(compat_percentile(COMPAT_MLPERF, ten, 10, p), rows[i].floor_place);
    }
    static const double failed[] = {1, HUGE_VAL, HUGE_VAL};
    assert_true(isinf(compat_percentile(COMPAT_AIPERF, failed, 3, 0.99)));
    for (int tool = 0; tool < COMPAT_TOOLS_COUNT; tool++) {
        check_number(compat_percentile((enum compat_tool)tool, ten, 1, 0.99), 1);
        assert_true(isnan(compat_percentile((enum compat_tool)tool, ten, 0, 0.5)));
    }
}

static void check_rates(enum compat_tool tool, const struct compat_request *requests, size_t count,
                        const struct compat_window *window, const double want[3])
{
    struct compat_rates got = compat_rates_of(tool, requests, count, window);
    check_number(got.window_s, want[0]);
    check_number(got.requests_per_s, want[1]);
    check_number(got.output_tok_per_s, want[2]);
}

static void throughput_windows_differ(void **state)
{
    (void)state;
    struct compat_request r[4];
    r[0] = request_of(ALL(chat), 175 * MS); /* 4 tokens */
    r[0].usage_tokens = 4;
    r[1] = request_of(ALL(batched), 300 * MS); /* 10 by usage, 9 counted; ends at 240 or 300 */
    r[1].usage_tokens = 10;
    r[2] = request_of(ALL(single), 132 * MS);
    r[2].usage_tokens = 1;
    r[3] = request_of(ALL(broken), 400 * MS); /* noticed late */
    r[3].sent_ns = 50 * MS;
    r[3].ok = false;

    /* The failure widens the run of vLLM and SGLang (50..400 ms) and is in no numerator. */
    check_rates(COMPAT_VLLM, r, 4, NULL, (const double[]){0.35, 3 / 0.35, 15 / 0.35});
    check_rates(COMPAT_SGLANG, r, 4, NULL, (const double[]){0.35, 3 / 0.35, 15 / 0.35});
    check_rates(COMPAT_AIPERF, r, 4, NULL, (const double[]){0.14, 3 / 0.14, 14 / 0.14});
    check_rates(COMPAT_MLPERF, r, 4, NULL, (const double[]){NONE, NONE, NONE});
    /* Without it: 90 (due) to 240 ms, and one of the three marks the begin. */
    check_rates(COMPAT_MLPERF, r, 3, NULL, (const double[]){0.15, 2 / 0.15, 15 / 0.15});
    /* 140..200 ms: r[0] ends in it with its 4 tokens, r[1] emits 6 of 9. */
    struct compat_window window = {140 * MS, 200 * MS};
    check_rates(COMPAT_GUIDELLM, r, 4, &window, (const double[]){0.06, 1 / 0.06, 10 / 0.06});
    check_rates(COMPAT_VLLM, r, 0, NULL, (const double[]){NONE, NONE, NONE});
}

static void tools_have_names(void **state)
{
    (void)state;
    enum compat_tool tool = COMPAT_VLLM;
    assert_true(compat_tool_of("mlperf", &tool));
    assert_int_equal(tool, COMPAT_MLPERF);
    assert_false(compat_tool_of("mlPerf ", &tool));
    for (int i = 0; i < COMPAT_TOOLS_COUNT; i++) {
        assert_true(compat_tool_of(compat_tool_name((enum compat_tool)i), &tool));
        assert_int_equal(tool, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_first_delta),
        cmocka_unit_test(several_tokens_an_event),
        cmocka_unit_test(one_token),
        cmocka_unit_test(nothing_came),
        cmocka_unit_test(failure_in_between),
        cmocka_unit_test(percentile_rules_differ),
        cmocka_unit_test(throughput_windows_differ),
        cmocka_unit_test(tools_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
