/*
 * cost_test.c - the roofline against the published-and-checked table of decode and prefill times on
 * an H100 (worked out by hand from the ceilings, in ms), and properties that must hold for every
 * GPU and model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/device/cost.h"

struct decode_row {
    const char *model;
    uint32_t context;
    double ms[6]; /* batch 1, 8, 32, 64, 128, 256; 0: does not fit */
};

static const uint32_t batches[6] = {1, 8, 32, 64, 128, 256};

static const struct decode_row decode_rows[] = {
    {"llama-3.2-1b", 128, {1.04, 1.06, 1.12, 1.20, 1.35, 1.67}},
    {"llama-3.2-1b", 1024, {1.05, 1.14, 1.43, 1.82, 2.61, 4.18}},
    {"llama-3.2-1b", 4096, {1.08, 1.40, 2.50, 3.97, 6.90, 12.8}},
    {"llama-3.2-1b", 8192, {1.13, 1.76, 3.94, 6.83, 12.6, 24.2}},
    {"llama-3.1-8b", 128, {5.43, 5.50, 5.72, 6.01, 6.59, 7.76}},
    {"llama-3.1-8b", 1024, {5.47, 5.81, 6.97, 8.51, 11.6, 17.8}},
    {"llama-3.1-8b", 4096, {5.61, 6.88, 11.3, 17.1, 0, 0}},
    {"llama-3.1-8b", 8192, {5.79, 8.32, 17.0, 0, 0, 0}},
    {"qwen2.5-0.5b", 128, {0.65, 0.66, 0.69, 0.74, 0.83, 1.01}},
    {"qwen2.5-0.5b", 1024, {0.65, 0.69, 0.81, 0.97, 1.30, 1.95}},
    {"qwen2.5-0.5b", 8192, {0.68, 0.92, 1.75, 2.85, 5.06, 9.47}},
};

struct prefill_row {
    const char *model;
    double ms[7]; /* 128 .. 8192 tokens; 0: not in the table */
};

static const struct prefill_row prefill_rows[] = {
    {"llama-3.2-1b", {1.14, 1.26, 1.90, 3.5, 7.0, 14.7, 33.6}},
    {"llama-3.1-8b", {5.8, 6.3, 10.8, 21, 43, 89, 196}},
    {"qwen2.5-0.5b", {0.71, 0.80, 1.06, 1.8, 3.4, 7.1, 16.9}},
};

static double step_ms(const char *gpu, const char *model, uint32_t tp, const struct step_load *load)
{
    return (double)cost_step(gpu_shape_find(gpu), model_shape_find(model), tp, load) / 1e9;
}

static struct step_load decode_load(uint32_t batch, uint32_t context)
{
    struct step_load load = {0};
    for (uint32_t i = 0; i < batch; i++) {
        step_load_add(&load, context - 1, 1, true);
    }
    return load;
}

static void assert_near(double got, double want, double fraction)
{
    if (fabs(got - want) > want * fraction + 0.005) { /* the table is rounded to 0.01 ms */
        fail_msg("got %.4f ms, want %.4f ms", got, want);
    }
}

static void decode_matches_table(void **state)
{
    (void)state;
    for (size_t r = 0; r < sizeof decode_rows / sizeof decode_rows[0]; r++) {
        const struct decode_row *row = &decode_rows[r];
        for (size_t b = 0; b < 6; b++) {
            struct step_load load = decode_load(batches[b], row->context);
            assert_int_equal(load.kv_read_tokens, (uint64_t)batches[b] * row->context);
            if (row->ms[b] > 0) {
                assert_near(step_ms("h100", row->model, 1, &load), row->ms[b], 0.02);
            }
        }
    }
}

static void prefill_matches_table(void **state)
{
    (void)state;
    for (size_t r = 0; r < sizeof prefill_rows / sizeof prefill_rows[0]; r++) {
        for (uint32_t i = 0; i < 7; i++) {
            struct step_load load = {0};
            step_load_add(&load, 0, 128U << i, true);
            assert_near(step_ms("h100", prefill_rows[r].model, 1, &load), prefill_rows[r].ms[i],
                        0.10);
        }
    }
}

static void chunks_add_up_to_the_whole(void **state)
{
    (void)state;
    struct step_load whole = {0};
    struct step_load chunks = {0};
    step_load_add(&whole, 0, 1000, true);
    for (uint32_t done = 0; done < 1000; done += 125) {
        step_load_add(&chunks, done, 125, done == 875);
    }
    assert_int_equal(whole.attention_pairs, 1000 * 1001 / 2);
    assert_int_equal(chunks.attention_pairs, whole.attention_pairs);
    assert_int_equal(chunks.tokens_count, 1000);
    assert_int_equal(chunks.sampled_count, 1);
    assert_int_equal(chunks.seqs_count, 8);
}

/* The short ways to a step's time give the long one's, to the picosecond. */
static void prepared_times_are_the_same(void **state)
{
    (void)state;
    struct random r = random_stream(3, "steps", 0);
    uint32_t decoded = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        const struct gpu_shape *gpu = gpu_shape_at(i % 7);
        const struct model_shape *shape = model_shape_at(i % 3);
        uint32_t seqs = (uint32_t)random_range(&r, 1, 512);
        uint64_t contexts = (uint64_t)random_range(&r, seqs, 1 << random_range(&r, 10, 24));
        uint32_t tp = (uint32_t)random_range(&r, 1, 2);
        struct step_ranks ranks = {.tp = tp, .ep = 1, .all_tokens = seqs};
        struct step_load load = {.seqs_count = seqs,
                                 .tokens_count = seqs,
                                 .kv_read_tokens = contexts,
                                 .attention_pairs = contexts,
                                 .sampled_count = seqs};
        struct cost_model model;
        struct cost_decodes decodes;
        struct step_cost cost;
        cost_step_ranks(gpu, shape, &ranks, &load, &cost);
        cost_model_of(shape, &model);
        assert_int_equal(cost_step_time(gpu, &model, &ranks, &load), cost.time);
        if (cost_decodes_of(gpu, &model, tp, seqs, &decodes)) {
            assert_int_equal(cost_decodes_time(&decodes, contexts), cost.time);
            decoded++;
        }
    }
    assert_true(decoded > 1000);
}

static void every_gpu_is_sane(void **state)
{
    (void)state;
    for (uint32_t g = 0; gpu_shape_at(g) != NULL; g++) {
        const struct gpu_shape *gpu = gpu_shape_at(g);
        assert_ptr_equal(gpu_shape_find(gpu->name), gpu);
        for (uint32_t m = 0; model_shape_at(m) != NULL; m++) {
            const struct model_shape *model = model_shape_at(m);
            struct step_load few = decode_load(1, 128);
            struct step_load many = decode_load(64, 128);
            struct step_load none = {0};
            time_ps floor = model_step_kernels(model) * gpu->kernel_gap;
            assert_true(cost_step(gpu, model, 1, &few) > floor);
            assert_true(cost_step(gpu, model, 1, &many) > cost_step(gpu, model, 1, &few));
            assert_int_equal(cost_step(gpu, model, 1, &none), 0);
        }
    }
    assert_null(gpu_shape_find("h1000"));
    for (const char *const *name = (const char *const[]){"h100", "h200", "a100", "l40s",
                                                         "rtx-pro-6000", "rtx-4090", "b200", NULL};
         *name != NULL; name++) {
        assert_non_null(gpu_shape_find(*name));
    }
}

static void tensor_parallel_divides_and_adds_all_reduces(void **state)
{
    (void)state;
    struct step_load load = decode_load(1, 128);
    const struct gpu_shape *gpu = gpu_shape_find("h100");
    const struct model_shape *model = model_shape_find("llama-3.1-8b");
    time_ps gaps = 324 * gpu->kernel_gap;
    time_ps one = cost_step(gpu, model, 1, &load) - gaps;
    time_ps two = cost_step(gpu, model, 2, &load) - gaps;
    /* 2 x 32 all-reduces of one bf16 row of 4,096: 10 us + 8,192 B / 300 GB/s = 10.027 us. */
    time_ps allreduces = 64 * (10 * PS_PER_US + 27307);
    assert_in_range(two - allreduces, one / 2 - 2, one / 2 + 2);
}

/*
 * Worked out by hand for qwen3-30b-a3b (48 layers, 128 experts of 3 x 2,048 x 768, 8 a token) on an
 * H100, decode: besides experts a step reads (0.9195 + 0.0126 + 0.3112) G = 1.230 G parameters
 * (attention with its norms, routers, LM head).
 */
static void experts_cost_what_they_are_reached_by(void **state)
{
    (void)state;
    const struct gpu_shape *gpu = gpu_shape_find("h100");
    const struct model_shape *model = model_shape_find("qwen3-30b-a3b");
    assert_non_null(model);
    double expert_ms = 3.0 * 2048 * 768 * 48 * 2 / 3.0e12 * 1e3; /* one in each layer: 0.151 */
    double dense_ms = 1.230e9 * 2 / 3.0e12 * 1e3;
    double gaps_ms = (14 * 48 + 4) * 1.3e-3;
    struct step_load load = decode_load(1, 1);
    assert_near(step_ms("h100", "qwen3-30b-a3b", 1, &load), gaps_ms + dense_ms + 8 * expert_ms,
                0.01);
    load = decode_load(256, 1); /* (1 - 1/16)^256: practically all */
    load.tokens_count = 256;
    double all_ms = step_ms("h100", "qwen3-30b-a3b", 1, &load);
    assert_true(all_ms > gaps_ms + dense_ms + 127.9 * expert_ms);
    assert_true(all_ms < (gaps_ms + dense_ms + 128 * expert_ms) * 1.06);

    /* Divided over 8 ranks of 4 tokens: 128 (1 - (15/16)^32) = 111.8 experts, an eighth here. */
    load = decode_load(4, 1);
    struct step_cost cost;
    struct step_ranks ranks = {.tp = 1, .ep = 8, .all_tokens = 32};
    cost_step_ranks(gpu, model, &ranks, &load, &cost);
    /* 2 x 48 exchanges of 28 rows of 2,048 bf16: 10 us + 114,688 B / 300 GB/s. */
    assert_in_range(cost.exchange, 96 * (10 * PS_PER_US + 382293) - 96,
                    96 * (10 * PS_PER_US + 382293) + 96);
    assert_near((double)(cost.time - cost.exchange) / 1e9,
                gaps_ms + dense_ms + 111.8 / 8 * expert_ms, 0.01);
    /* Dummy tokens of others still cost: the rank computes its experts for them. */
    struct step_ranks idle = {.tp = 1, .ep = 8, .all_tokens = 4};
    struct step_cost less;
    cost_step_ranks(gpu, model, &idle, &load, &less);
    assert_true(less.time < cost.time);
}

static void demands_are_parts_of_the_roofline(void **state)
{
    (void)state;
    const struct gpu_shape *gpu = gpu_shape_find("h100");
    const struct model_shape *model = model_shape_find("qwen2.5-0.5b");
    struct step_ranks ranks = {.tp = 1, .ep = 1, .all_tokens = 8};
    struct step_load load = decode_load(8, 128);
    struct step_cost cost;
    cost_step_ranks(gpu, model, &ranks, &load, &cost);
    assert_int_equal(cost.time, cost_step(gpu, model, 1, &load));
    /* 0.34 of 0.66 ms at full bandwidth, and hardly any FLOPs. */
    assert_in_range(cost.bandwidth_ppm, 505000, 530000);
    assert_in_range(cost.sm_ppm, 1000, 30000);
    load = (struct step_load){0};
    step_load_add(&load, 0, 8192, true);
    ranks.all_tokens = 8192;
    cost_step_ranks(gpu, model, &ranks, &load, &cost);
    assert_true(cost.sm_ppm > 900000 && cost.sm_ppm <= 1000000);
}

/* 2 sequences decode after 9 and 99 tokens (they read 10 and 100), one computes 5 tokens of a
 * prompt after 20: it reads 25, and sees 21 + 22 + 23 + 24 + 25 = 115 pairs, 90 beyond what it
 * reads. */
static void a_fitted_step_is_linear_in_what_it_does(void **state)
{
    (void)state;
    const struct step_fit fit = {
        .base = 1e9, .sequence = 1e6, .kv_token = 1e3, .prompt_token = 1e7, .prompt_pair = 1e2};
    struct gpu_shape gpu = *gpu_shape_find("h100");
    struct step_load load = {0};
    gpu.fit = &fit;
    step_load_add(&load, 9, 1, true);
    step_load_add(&load, 99, 1, true);
    step_load_add(&load, 20, 5, false);
    assert_int_equal(cost_step(&gpu, model_shape_find("llama-3.1-8b"), 1, &load),
                     1000000000 + 3 * 1000000 + 135 * 1000 + 4 * 10000000 + 90 * 100);
    assert_int_equal(cost_step(&gpu, model_shape_find("llama-3.1-8b"), 1, &(struct step_load){0}),
                     0);
}

static void host_profiles_carry_the_published_constants(void **state)
{
    (void)state;
    static const struct host_profile zero = {.name = "native"};
    const struct host_profile *native = host_profile_find("native");
    const struct host_profile *python = host_profile_find("vllm-python");
    assert_non_null(native);
    assert_non_null(python);
    assert_memory_equal(native, &zero, sizeof zero);
    /* The closed form for an API server: 256 output tokens, 128 prompt tokens, 29 tokens a
     * message: 19.0 k tokens/s. */
    double token_ps =
        (double)python->api_output_token +
        ((double)python->api_request + 128.0 * (double)python->api_prompt_token) / 256 +
        (double)python->api_message / 29;
    assert_in_range((uint64_t)(1e12 / token_ps), 18900, 19100);
    assert_int_equal(python->engine_step + 40 * python->engine_seq, 286 * PS_PER_US);
    assert_int_equal(python->coordinator_message, 50 * PS_PER_US);
    assert_int_equal(python->api_output_token_lo, 9700 * PS_PER_NS);
    assert_null(host_profile_find("python"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_matches_table),
        cmocka_unit_test(prefill_matches_table),
        cmocka_unit_test(chunks_add_up_to_the_whole),
        cmocka_unit_test(prepared_times_are_the_same),
        cmocka_unit_test(every_gpu_is_sane),
        cmocka_unit_test(tensor_parallel_divides_and_adds_all_reduces),
        cmocka_unit_test(experts_cost_what_they_are_reached_by),
        cmocka_unit_test(demands_are_parts_of_the_roofline),
        cmocka_unit_test(a_fitted_step_is_linear_in_what_it_does),
        cmocka_unit_test(host_profiles_carry_the_published_constants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
