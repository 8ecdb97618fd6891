/*
 * closed_form_test.c - the predictions against figures worked out by hand before they were
 * programmed, against a prototype's measurements, and against laws that hold for any figures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "sim/closed_form.h"

static struct host_profile profile(const char *name)
{
    const struct host_profile *p = host_profile_find(name);
    assert_non_null(p);
    return *p;
}

static void within(double value, double want, double frac)
{
    if (!(fabs(value - want) <= frac * fabs(want))) {
        fail_msg("%.5g is not %.5g within %.1f %%", value, want, frac * 100);
    }
}

static struct closed_form predict(const struct closed_form_system *s,
                                  const struct closed_form_load *l)
{
    struct closed_form f;
    assert_true(closed_form_predict(s, l, &f));
    return f;
}

/* ---- saturation ---- */

static struct closed_form saturation(uint32_t api_servers, uint32_t engines)
{
    const struct closed_form_system s = {.model = "llama-3.1-8b",
                                         .gpu = "h100",
                                         .api_servers_count = api_servers,
                                         .engines_count = engines,
                                         .tp = 1,
                                         .engines_per_gpu = 1,
                                         .graphs = true,
                                         .async = true,
                                         .workers = engines > 1,
                                         .max_num_seqs = 40,
                                         .host = profile("vllm-python")};
    const struct closed_form_load l = {.prompt_tokens = 128,
                                       .output_tokens = 256,
                                       .output_variance_tokens = (257.0 * 257 - 1) / 12,
                                       .users_count = 2.0 * engines * 40};
    return predict(&s, &l);
}

static void an_api_server_carries_19000(void **state)
{
    (void)state;
    const struct host_profile python = profile("vllm-python");
    const struct host_profile native = profile("native");
    double want = 1e6 / (46 + (1000 + 2 * 128.0) / 256 + 50 / 29.0);
    double got = closed_form_api_server(&python, 128, 256, 29);
    assert_true(fabs(got - want) < 1e-6);
    within(got, 19.0e3, 0.003);
    assert_true(isinf(closed_form_api_server(&native, 128, 256, 29)));
}

/* What a prototype of the whole system measured, in thousand tokens/s. */
static void the_saturation_table(void **state)
{
    static const uint32_t servers[] = {1, 2, 4};
    static const uint32_t cores[] = {1, 2, 3, 4, 6, 8};
    static const double measured[3][6] = {{6.6, 13.2, 19.1, 18.9, 18.6, 18.4},
                                          {6.6, 13.2, 19.9, 26.4, 37.5, 36.7},
                                          {6.6, 13.2, 19.9, 26.5, 39.7, 52.0}};
    (void)state;
    for (int a = 0; a < 3; a++) {
        for (int d = 0; d < 6; d++) {
            struct closed_form f = saturation(servers[a], cores[d]);
            print_message("%u x %u: %.2f (measured %.1f) by %s, batch %.1f\n", servers[a], cores[d],
                          f.tok_per_s / 1e3, measured[a][d], closed_form_limit_name(f.limit),
                          f.batch_seqs);
            within(f.tok_per_s, measured[a][d] * 1e3, 0.02);
            bool flat = a == 0 ? cores[d] > 3 : a == 1 && cores[d] >= 6;
            if (cores[d] != 3 || a > 0) { /* 1 x 3 is at the edge */
                assert_int_equal(f.limit, flat ? CLOSED_FORM_API_SERVER : CLOSED_FORM_GPU);
            }
        }
    }
}

/* ---- one shared GPU ---- */

static struct closed_form shared(bool side_by_side, uint32_t engines)
{
    struct closed_form_system s = {.model = "qwen2.5-0.5b",
                                   .gpu = "h100",
                                   .api_servers_count = 1,
                                   .engines_count = engines,
                                   .tp = 1,
                                   .engines_per_gpu = engines,
                                   .side_by_side = side_by_side,
                                   .graphs = true,
                                   .workers = engines > 1,
                                   .max_num_seqs = 8,
                                   .host = profile("native")};
    s.host.engine_step = 2 * PS_PER_MS;
    const struct closed_form_load l = {.prompt_tokens = 123, /* contexts of 256 */
                                       .output_tokens = 256,
                                       .output_variance_tokens = (129.0 * 129 - 1) / 12,
                                       .users_count = 16.0 * engines};
    return predict(&s, &l);
}

/* Worked out before any of this was written: 3.0 k alone; in turns flat at 10.5 k from 3.5; side by
 * side 22.7 k from 7.6. */
static void a_shared_gpu_as_predicted(void **state)
{
    (void)state;
    for (uint32_t d = 1; d <= 3; d++) {
        within(shared(false, d).tok_per_s, 3.0e3 * d, 0.015);
        within(shared(true, d).tok_per_s, 3.0e3 * d, 0.015);
        assert_int_equal(shared(false, d).limit, CLOSED_FORM_TURNS);
    }
    for (uint32_t d = 4; d <= 10; d += 2) {
        within(shared(false, d).tok_per_s, 10.5e3, 0.015);
        assert_int_equal(shared(false, d).limit, CLOSED_FORM_GPU);
    }
    within(shared(true, 6).tok_per_s, 18.0e3, 0.015);
    within(shared(true, 8).tok_per_s, 22.7e3, 0.015);
    within(shared(true, 10).tok_per_s, 22.7e3, 0.015);
    within(shared(false, 4).gpu_knee_engines, 3.5, 0.015);
    within(shared(true, 8).gpu_knee_engines, 7.6, 0.015);
    within(shared(true, 8).alone_tok_per_s, 3.0e3, 0.015);
}

/* ---- lock-step ---- */

static struct closed_form lockstep(double users, bool dummy_graphs)
{
    const struct closed_form_system s = {.model = "qwen3-30b-a3b",
                                         .gpu = "h100",
                                         .api_servers_count = 1,
                                         .engines_count = 8,
                                         .tp = 1,
                                         .engines_per_gpu = 1,
                                         .lockstep = true,
                                         .graphs = true,
                                         .dummy_graphs = dummy_graphs,
                                         .async = true,
                                         .workers = true,
                                         .max_num_seqs = 8,
                                         .host = profile("native")};
    const struct closed_form_load l = {
        .prompt_tokens = 64, .output_tokens = 1024, .users_count = users};
    return predict(&s, &l);
}

static void rank_steps_are_ranks_over_requests(void **state)
{
    (void)state;
    for (int c = 1; c <= 64; c++) {
        within(lockstep(c, true).rank_steps_per_tok, 8.0 / c, 1e-9);
    }
    within(lockstep(9, true).rank_steps_per_tok, 0.89, 0.01);
    within(lockstep(1000, true).rank_steps_per_tok, 1.0 / 8, 1e-9); /* batches are full */
}

static void a_token_takes_as_long_for_one_as_for_eight(void **state)
{
    (void)state;
    struct closed_form one = lockstep(1, true);
    struct closed_form eight = lockstep(8, true);
    within(eight.token_gap_ms, one.token_gap_ms, 0.03);
    within(eight.tok_per_s, 8 * one.tok_per_s, 0.03);
    assert_true(lockstep(9, true).token_gap_ms > one.token_gap_ms);
    /* All ranks launch a graph a step; eagerly 14 kernels in each of 48 layers and 4 more. */
    within(one.graphs_per_s, 8 * 1e3 / one.token_gap_ms, 0.01);
    assert_true(one.kernels_per_s < 0.02 * one.graphs_per_s * (48 * 14 + 4));
    struct closed_form eager = lockstep(1, false);
    assert_true(fabs(eager.graphs_per_s) < 1e-9);
    within(eager.kernels_per_s, (48 * 14 + 4) * 8 * 1e3 / eager.token_gap_ms, 1e-6);
}

/* ---- launching ---- */

static struct closed_form eager_8b(time_ps extra, bool graphs, bool workers)
{
    const struct closed_form_system s = {.model = "llama-3.1-8b",
                                         .gpu = "h100",
                                         .api_servers_count = 1,
                                         .engines_count = 1,
                                         .tp = 1,
                                         .engines_per_gpu = 1,
                                         .graphs = graphs,
                                         .async = true,
                                         .workers = workers,
                                         .max_num_seqs = 1,
                                         .launch_extra = extra,
                                         .host = profile("native")};
    const struct closed_form_load l = {.prompt_tokens = 1, .output_tokens = 1e6, .users_count = 2};
    return predict(&s, &l);
}

/* 324 kernels and a copy of 2 us each. */
static void the_launcher_is_the_limit_past_c_crit(void **state)
{
    (void)state;
    struct closed_form f = eager_8b(0, false, false);
    double critical = f.critical_launch_us;
    within(f.launch_us, 325 * 2.0, 1e-6);
    within(critical, f.gpu_us / 325, 1e-3);
    assert_int_equal(f.limit, CLOSED_FORM_GPU);
    time_ps at = (time_ps)((critical - 2) * 1e6);
    struct closed_form below = eager_8b(at - 200000, false, false);
    struct closed_form above = eager_8b(at + 200000, false, false);
    struct closed_form twice = eager_8b(at + at + 2000000, false, false);
    within(below.step_us, f.step_us, 1e-6);
    assert_int_equal(below.limit, CLOSED_FORM_GPU);
    within(above.step_us, 325 * (critical + 0.2), 1e-3);
    assert_int_equal(above.limit, CLOSED_FORM_LAUNCH);
    within(twice.tok_per_s, f.tok_per_s / 2, 0.01);
    within(f.kernels_per_s, 324 * f.tok_per_s, 1e-6);
    /* A graph is one launch: 2.5 us, 1 ns a node, and the copy. */
    struct closed_form graph = eager_8b(0, true, false);
    within(graph.launch_us, 2.0 + 2.5 + 0.324, 1e-3);
    within(graph.graphs_per_s, graph.tok_per_s, 1e-3);
    within(graph.critical_launch_us, graph.gpu_us / 2, 1e-3);
}

/* One sequence of 8 G parameters at a context of half a million: 15.01 GB of weights. */
static void a_step_reads_the_weights(void **state)
{
    (void)state;
    struct closed_form_system s = {.model = "llama-3.1-8b",
                                   .gpu = "h100",
                                   .api_servers_count = 1,
                                   .engines_count = 1,
                                   .tp = 1,
                                   .engines_per_gpu = 1,
                                   .graphs = true,
                                   .async = true,
                                   .max_num_seqs = 1,
                                   .host = profile("native")};
    struct closed_form_load l = {.prompt_tokens = 127, .output_tokens = 2, .users_count = 1};
    l.output_tokens = 2000;
    struct closed_form f = predict(&s, &l);
    /* 15.01 GB, 1,127 tokens of KV of 128 KiB, 324 gaps of 1.3 us. */
    double want = (15.01e9 + 1127 * 131072.0) / 3.0e9 + 324 * 1.3e-3;
    within(f.gpu_us / 1e3, want, 0.005);
    /* Open: half of what it could do is what it is asked for. */
    l.users_count = 0;
    l.requests_per_s = f.tok_per_s / 2 / l.output_tokens;
    struct closed_form half = predict(&s, &l);
    within(half.tok_per_s, f.tok_per_s / 2, 1e-6);
    assert_int_equal(half.limit, CLOSED_FORM_LOAD);
    within(half.token_gap_ms, f.token_gap_ms, 1e-6);
}

/* However short outputs are, and with them however many prompts a step has: the b
 * sequences in progress are in it once. */
static void a_step_has_each_sequence_once(void **state)
{
    static const double output_tokens[] = {1, 1.5, 3, 15, 16, 17, 1000};
    (void)state;
    const struct closed_form_system s = {
        .model = "llama-3.1-8b",
        .gpu = "h100",
        .api_servers_count = 1,
        .engines_count = 1,
        .tp = 1,
        .engines_per_gpu = 1,
        .max_num_seqs = 16,
        .host = {.engine_step = 126 * PS_PER_US, .engine_seq = 4 * PS_PER_US}};
    for (size_t i = 0; i < sizeof output_tokens / sizeof output_tokens[0]; i++) {
        const struct closed_form_load l = {
            .prompt_tokens = 20, .output_tokens = output_tokens[i], .users_count = 16};
        struct closed_form f = predict(&s, &l);
        within(f.batch_seqs, 16, 1e-9);
        within(f.host_us, 126 + 4 * 16, 1e-9);
    }
}

static void what_is_not_known_is_not_predicted(void **state)
{
    (void)state;
    struct closed_form f;
    struct closed_form_system s = {.model = "llama-3.1-8b",
                                   .gpu = "abacus",
                                   .api_servers_count = 1,
                                   .engines_count = 1,
                                   .tp = 1,
                                   .engines_per_gpu = 1,
                                   .max_num_seqs = 1};
    struct closed_form_load l = {.prompt_tokens = 1, .output_tokens = 8, .users_count = 1};
    assert_false(closed_form_predict(&s, &l, &f));
    s.gpu = "h100";
    assert_true(closed_form_predict(&s, &l, &f));
    l.output_tokens = 0;
    assert_false(closed_form_predict(&s, &l, &f));
    l = (struct closed_form_load){.prompt_tokens = 1, .output_tokens = 8};
    assert_false(closed_form_predict(&s, &l, &f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_api_server_carries_19000),
        cmocka_unit_test(the_saturation_table),
        cmocka_unit_test(a_shared_gpu_as_predicted),
        cmocka_unit_test(rank_steps_are_ranks_over_requests),
        cmocka_unit_test(a_token_takes_as_long_for_one_as_for_eight),
        cmocka_unit_test(the_launcher_is_the_limit_past_c_crit),
        cmocka_unit_test(a_step_reads_the_weights),
        cmocka_unit_test(a_step_has_each_sequence_once),
        cmocka_unit_test(what_is_not_known_is_not_predicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
