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
};

static const struct golden goldens[] = {
    {"llama-3.2-1b", 1235814400, 2470000000, 32 * 1024, 164},
    {"llama-3.1-8b", 8030261248, 15010000000, 128 * 1024, 324},
    {"qwen2.5-0.5b", 494032768, 990000000, 12 * 1024, 244},
    {"llama-3.1-70b", 70553706496, 139010000000, 320 * 1024, 804},
    {"qwen2.5-32b", 32763876352, 63970000000, 256 * 1024, 644},
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
        assert_int_equal(model_weight_bytes(m), 2 * g->parameters);
        assert_in_range(model_step_weight_bytes(m), g->step_bytes - 5000000,
                        g->step_bytes + 5000000);
        assert_int_equal(model_kv_token_bytes(m), g->kv_token_bytes);
        assert_int_equal(model_step_kernels(m), g->kernels);
    }
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
        cmocka_unit_test(listing_is_complete_and_findable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
