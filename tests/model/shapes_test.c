/*
 * shapes_test.c - the model table against published parameter counts (model cards, exact numbers
 * from the checkpoints) and against the byte and kernel counts worked out by hand in the design
 * notes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/model/shapes.h"

struct golden {
    const char *name;
    uint64_t parameters;
    uint64_t step_bytes; /* to 10 MB */
    uint64_t kv_token_bytes;
    uint32_t kernels;
    uint32_t weight_bytes;
};

static const struct golden goldens[] = {
    {"llama-3.2-1b", 1235814400, 2470000000, 32 * 1024, 164, 2},
    {"llama-3.1-8b", 8030261248, 15010000000, 128 * 1024, 324, 2},
    {"qwen2.5-0.5b", 494032768, 990000000, 12 * 1024, 244, 2},
    {"llama-3.1-70b", 70553706496, 139010000000, 320 * 1024, 804, 2},
    {"qwen2.5-32b", 32763876352, 63970000000, 256 * 1024, 644, 2},
    /* What is read besides experts. */
    {"qwen3-30b-a3b", 30532122624, 2460000000, 96 * 1024, 676, 2},
    /* The checkpoint has 671,026,419,200 without the head for two tokens at once; 58 x 256 of them
     * are biases of the routers, which are left out. Read besides experts: all but 58 x 256 x 3 x
     * 7168 x 2048 and the input embedding. KV: 61 x (512 + 64) x 2 bytes. */
    {"deepseek-r1", 671026404352, 16190000000, 70272, 1325, 1},
};

static void shapes_match_published_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
        const struct golden *g = &goldens[i];
        const struct model_shape *m = model_shape_find(g->name);
        assert_non_null(m);
        assert_string_equal(m->name, g->name);
        assert_int_equal(model_parameters(m), g->parameters);
        assert_int_equal(model_weight_bytes(m), g->weight_bytes * g->parameters);
        assert_in_range(model_step_weight_bytes(m), g->step_bytes - 5000000,
                        g->step_bytes + 5000000);
        assert_int_equal(model_kv_token_bytes(m), g->kv_token_bytes);
        assert_int_equal(model_step_kernels(m), g->kernels);
    }
}

static void experts_are_reached_with_the_expected_number(void **state)
{
    (void)state;
    const struct model_shape *m = model_shape_find("qwen3-30b-a3b");
    assert_non_null(m);
    /* The model card: 30.5 B in total, 3.3 B activated. */
    assert_in_range(model_active_parameters(m), 3300000000, 3399999999);
    assert_int_equal(model_expert_parameters(m), 3 * 2048 * 768);
    assert_int_equal(model_parameters(m) - model_active_parameters(m),
                     48 * 120 * model_expert_parameters(m));
    /* 128 (1 - (120/128)^n), by hand: 8, 15.5, 51.6 for 1, 2, 8 tokens. */
    static const struct {
        uint64_t tokens;
        double low;
        double high;
    } reached[] = {{0, 0, 0}, {1, 7.999, 8.001}, {2, 15.49, 15.51}, {8, 51.5, 51.7}};
    for (size_t i = 0; i < sizeof reached / sizeof reached[0]; i++) {
        double n = model_experts_reached(m, reached[i].tokens);
        assert_true(n >= reached[i].low && n <= reached[i].high);
    }
    assert_true(model_experts_reached(m, 1000000) <= 128.0);
    /* Its paper: 671 B in total, 37 B activated; the first three layers have no experts. */
    const struct model_shape *large = model_shape_find("deepseek-r1");
    assert_non_null(large);
    assert_int_equal(model_expert_layers(large), 58);
    assert_in_range(model_active_parameters(large), 37000000000, 37999999999);
    assert_int_equal(model_parameters(large) - model_active_parameters(large),
                     58 * 248 * model_expert_parameters(large));
    /* Attention: 128 heads x 61 layers x 2 FLOPs x (512 + 64 for Q.K, 512 for P.V). */
    assert_int_equal(model_pair_flops(large), 128ULL * 61 * 2 * 1088);
    assert_int_equal(model_pair_flops(m), 32ULL * 48 * 4 * 128);
    const struct model_shape *dense = model_shape_find("llama-3.1-8b");
    assert_int_equal(model_active_parameters(dense), model_parameters(dense));
    assert_int_equal(model_expert_parameters(dense), 0);
    assert_true(model_experts_reached(dense, 5) <= 0.0);
}

static void listing_is_complete_and_findable(void **state)
{
    (void)state;
    uint32_t count = 0;
    while (model_shape_at(count) != NULL) {
        assert_ptr_equal(model_shape_find(model_shape_at(count)->name), model_shape_at(count));
        count++;
    }
    assert_int_equal(count, sizeof goldens / sizeof goldens[0]);
    assert_null(model_shape_find("llama-3.1-8"));
    assert_null(model_shape_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_match_published_sizes),
        cmocka_unit_test(experts_are_reached_with_the_expected_number),
        cmocka_unit_test(listing_is_complete_and_findable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
