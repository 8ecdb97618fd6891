/* scheduler_test.c - what a step computes, in cases worked out by hand from vLLM's rules. Slots are
 * 0, 1, ... as added. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/core/helper_core.h"

enum {
    TOKEN = 5 /* what the workers sample where it does not matter */
};

static void test_prompts_longer_than_the_budget_are_computed_in_chunks(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.max_num_batched_tokens = 10;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 25, 2);
    small_add(&e, "b", 8, 2);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 10, false});
    assert_null(small_output(&e, "a"));
    assert_int_equal(small_stats(&e)->running_count, 1);
    assert_int_equal(small_stats(&e)->waiting_count, 1);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 10, 10, false});
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 20, 5, true}, {1, 0, 5, false});
    assert_non_null(small_output(&e, "a"));
    assert_null(small_output(&e, "b"));
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 25, 1, true}, {1, 5, 3, true});
    assert_int_equal(small_output(&e, "a")->finish, FINISH_LENGTH);
    const struct step_plan *last = small_step(&e, TOKEN);
    ASSERT_PLAN(last, {1, 8, 1, true});
    assert_int_equal(last->finished_slots_count, 1);
    assert_int_equal(last->finished_slots[0], 0);
    small_close(&e);
}

static void test_long_prefill_threshold_caps_each_prompt(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.max_num_batched_tokens = 10;
    options.long_prefill_token_threshold = 4;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 9, 1);
    small_add(&e, "b", 6, 1);
    small_add(&e, "c", 5, 1);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 4, false}, {1, 0, 4, false}, {2, 0, 2, false});
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 4, 4, false}, {1, 4, 2, true}, {2, 2, 3, true});
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 8, 1, true});
    small_close(&e);
}

static void test_without_chunking_a_prompt_waits_for_its_budget(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.max_model_len = 32;
    options.max_num_batched_tokens = 32;
    options.chunked_prefill = false;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 20, 9);
    small_add(&e, "b", 20, 9);
    small_add(&e, "c", 4, 9); /* would fit, but stands behind b */
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 20, true});
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 20, 1, true}, {1, 0, 20, true}, {2, 0, 4, true});
    small_close(&e);
}

static void test_the_last_running_request_gives_way_and_comes_back_first(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.num_gpu_blocks = 1 + 6;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 8, 6);
    small_add(&e, "b", 8, 6);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 8, true}, {1, 0, 8, true});
    for (uint32_t i = 0; i < 4; i++) { /* the third block of each holds four more */
        ASSERT_PLAN(small_step(&e, 10 + i), {0, 8 + i, 1, true}, {1, 8 + i, 1, true});
    }
    small_add(&e, "c", 1, 6);
    /* a needs a fourth block: b goes, nobody is admitted in the same step. */
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 12, 1, true});
    assert_int_equal(small_stats(&e)->preemptions_count, 1);
    assert_int_equal(small_stats(&e)->waiting_count, 2);
    assert_int_equal(small_output(&e, "a")->finish, FINISH_LENGTH);
    /* b has 13 tokens by now and starts over, before c. */
    const struct step_plan *plan = small_step(&e, TOKEN);
    ASSERT_PLAN(plan, {1, 0, 13, true}, {2, 0, 1, true});
    assert_int_equal(plan->seqs[0].flags & STEP_SEQ_NEW, STEP_SEQ_NEW);
    assert_int_equal(plan->seqs[0].position, 5);
    assert_int_equal(plan->seqs[0].tokens_count, 13);
    const uint32_t *tokens = plan->token_ids + plan->seqs[0].tokens_first;
    assert_int_equal(tokens[0], 'b' * 1000);
    assert_int_equal(tokens[8], TOKEN);
    assert_int_equal(tokens[12], 13);
    assert_int_equal(small_output(&e, "b")->finish, FINISH_LENGTH);
    small_close(&e);
}

static void add_with_priority(struct small_engine *e, const char *id, uint32_t prompt_tokens_count,
                              int32_t priority)
{
    struct engine_request request =
        small_request(id, (uint32_t)id[0] * 1000, prompt_tokens_count, 20);
    request.priority = priority;
    assert_int_equal(engine_core_add(e->core, &request, e->now, NULL), STATUS_OK);
}

static void test_priority_decides_who_is_admitted_first(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.policy = POLICY_PRIORITY;
    options.max_num_seqs = 2;
    struct small_engine e;
    small_open(&e, &options);
    add_with_priority(&e, "a", 4, 3);
    add_with_priority(&e, "b", 4, 1);
    add_with_priority(&e, "c", 4, 1);
    add_with_priority(&e, "d", 4, 0);
    ASSERT_PLAN(small_step(&e, TOKEN), {3, 0, 4, true}, {1, 0, 4, true});
    small_close(&e);
}

/* a (unimportant) runs before b (important). When b needs a block, a gives way although it was
 * planned already. */
static void test_priority_takes_back_what_the_step_had_given(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.policy = POLICY_PRIORITY;
    options.num_gpu_blocks = 1 + 5;
    options.max_model_len = 20;
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request a = small_request("a", 1000, 6, 12);
    a.priority = 5;
    assert_int_equal(engine_core_add(e.core, &a, 0, NULL), STATUS_OK);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 6, true});
    struct engine_request b = small_request("b", 2000, 12, 8);
    assert_int_equal(engine_core_add(e.core, &b, 0, NULL), STATUS_OK);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 6, 1, true}, {1, 0, 12, true});
    /* Both fill: a has 2 blocks with 7 tokens, b 3 with 12; b's next token needs a block that only
     * a can give. */
    ASSERT_PLAN(small_step(&e, TOKEN), {1, 12, 1, true});
    assert_int_equal(small_stats(&e)->preemptions_count, 1);
    assert_null(small_output(&e, "a"));
    small_close(&e);
}

/* The unimportant one needs the block itself: it gives way, and the step does nothing for those
 * behind it. */
static void test_priority_request_that_gives_way_itself_ends_the_step(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.policy = POLICY_PRIORITY;
    options.num_gpu_blocks = 1 + 5;
    options.max_model_len = 20;
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request a = small_request("a", 1000, 7, 12);
    a.priority = 5;
    assert_int_equal(engine_core_add(e.core, &a, 0, NULL), STATUS_OK);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 7, true});
    struct engine_request b = small_request("b", 2000, 9, 8);
    assert_int_equal(engine_core_add(e.core, &b, 0, NULL), STATUS_OK);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 7, 1, true}, {1, 0, 9, true});
    const struct step_plan *empty = small_step(&e, TOKEN);
    assert_int_equal(empty->seqs_count, 0);
    assert_int_equal(small_stats(&e)->preemptions_count, 1);
    assert_int_equal(small_stats(&e)->running_count, 1);
    /* b is served; a (9 tokens, 3 blocks) does not fit beside it. */
    ASSERT_PLAN(small_step(&e, TOKEN), {1, 9, 1, true});
    small_close(&e);
}

/* b is the least important of four; it runs in the middle and has been served when c needs a block.
 * d is still served. */
static void test_priority_picks_the_least_important_and_goes_on_behind_it(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.policy = POLICY_PRIORITY;
    options.num_gpu_blocks = 1 + 4;
    options.max_model_len = 16;
    options.reserve_full_isl = false;
    struct small_engine e;
    small_open(&e, &options);
    add_with_priority(&e, "a", 1, 0);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 1, true});
    add_with_priority(&e, "b", 2, 5);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 1, 1, true}, {1, 0, 2, true});
    add_with_priority(&e, "c", 4, 3);
    add_with_priority(&e, "d", 1, 4);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 2, 1, true}, {1, 2, 1, true}, {2, 0, 4, true},
                {3, 0, 1, true});
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 3, 1, true}, {2, 4, 1, true}, {3, 1, 1, true});
    assert_null(small_output(&e, "b"));
    small_close(&e);
}

/*
 * As above, in the middle of a prompt: the blocks which the step had entered into the prefix cache
 * were never filled, so only what earlier steps computed is a hit afterwards.
 */
static void test_blocks_of_a_step_taken_back_are_not_cached(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.policy = POLICY_PRIORITY;
    options.prefix_caching = true;
    options.reserve_full_isl = false;
    options.long_prefill_token_threshold = 8;
    options.num_gpu_blocks = 1 + 7;
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request a = small_request("a", 1000, 28, 1);
    a.priority = 5;
    assert_int_equal(engine_core_add(e.core, &a, 0, NULL), STATUS_OK);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 8, false});
    struct engine_request b = small_request("b", 2000, 4, 2);
    assert_int_equal(engine_core_add(e.core, &b, 0, NULL), STATUS_OK);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 8, 8, false}, {1, 0, 4, true});
    /* 5 of 7 blocks are held; a gets the last two for its next 8 tokens, then b needs one. */
    ASSERT_PLAN(small_step(&e, TOKEN), {1, 4, 1, true});
    assert_int_equal(small_output(&e, "b")->finish, FINISH_LENGTH);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 16, 8, false});
    assert_int_equal(small_stats(&e)->preemptions_count, 1);
    small_close(&e);
}

static void test_the_first_that_does_not_fit_holds_up_the_others(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.num_gpu_blocks = 1 + 8;
    options.max_model_len = 32;
    options.max_num_batched_tokens = 16;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 12, 3);
    small_add(&e, "b", 24, 3); /* 6 blocks of the 5 left */
    small_add(&e, "c", 4, 3);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 12, true});
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 12, 1, true});
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 13, 1, true});
    ASSERT_PLAN(small_step(&e, TOKEN), {1, 0, 16, false});
    small_close(&e);

    /* Without the gate, the first chunk is enough to enter. */
    options.reserve_full_isl = false;
    small_open(&e, &options);
    small_add(&e, "a", 12, 3);
    small_add(&e, "b", 24, 3);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 12, true}, {1, 0, 4, false});
    small_close(&e);
}

static void test_watermark_applies_only_beside_running_requests(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.num_gpu_blocks = 1 + 10;
    options.watermark = 0.2; /* floor(0.2 * 11) = 2 blocks */
    options.max_model_len = 41;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 40, 1);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 40, true});
    small_add(&e, "b", 2, 9);
    small_add(&e, "c", 32, 1); /* 8 + 2 > 9 */
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 2, true});
    engine_core_abort(e.core, "c");
    small_add(&e, "d", 28, 1); /* 7 + 2 = 9 */
    const struct step_plan *plan = small_step(&e, TOKEN);
    assert_int_equal(plan->seqs_count, 2);
    assert_int_equal(plan->seqs[1].scheduled_tokens, 28);
    small_close(&e);
}

static void add_prompt(struct small_engine *e, const char *id, uint32_t first,
                       uint32_t prompt_tokens_count, const char *salt)
{
    struct engine_request request = small_request(id, first, prompt_tokens_count, 4);
    request.cache_salt = salt;
    assert_int_equal(engine_core_add(e->core, &request, e->now, NULL), STATUS_OK);
}

static void test_prefix_hits_never_cover_the_last_token(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.prefix_caching = true;
    struct small_engine e;
    small_open(&e, &options);
    add_prompt(&e, "a", 100, 16, NULL);
    ASSERT_PLAN(small_step(&e, TOKEN), {0, 0, 16, true});
    assert_int_equal(small_stats(&e)->prefix_cache.queries_tokens, 16);
    assert_int_equal(small_stats(&e)->prefix_cache.hits_tokens, 0);
    add_prompt(&e, "b", 100, 16, NULL); /* all of it is known: 3 of 4 blocks */
    add_prompt(&e, "c", 100, 17, NULL); /* one token more: 4 blocks */
    add_prompt(&e, "d", 100, 17, "x");  /* salted: none */
    add_prompt(&e, "f", 101, 17, NULL); /* other tokens: none */
    const struct step_plan *plan = small_step(&e, TOKEN);
    ASSERT_PLAN(plan, {0, 16, 1, true}, {1, 12, 4, true}, {2, 16, 1, true}, {3, 0, 17, true},
                {4, 0, 17, true});
    /* The hits are the blocks of a, named to the worker together with the new ones. */
    assert_int_equal(plan->seqs[1].blocks_count, 4);
    assert_int_equal(plan->block_ids[plan->seqs[1].blocks_first + 2], 3);
    assert_int_equal(small_output(&e, "b")->prefill.cached_tokens, 12);
    assert_int_equal(small_output(&e, "b")->prefill.computed_tokens, 4);
    assert_int_equal(small_stats(&e)->prefix_cache.requests_count, 4);
    assert_int_equal(small_stats(&e)->prefix_cache.hits_tokens, 28);
    small_close(&e);
}

static void test_outputs_extend_the_cached_prefix(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.prefix_caching = true;
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request a = small_request("a", 100, 6, 4);
    assert_int_equal(engine_core_add(e.core, &a, 0, NULL), STATUS_OK);
    for (uint32_t i = 0; i < 4; i++) { /* outputs 106 .. 109; 109 is never computed */
        (void)small_step(&e, 106 + i);
    }
    assert_int_equal(small_output(&e, "a")->finish, FINISH_LENGTH);
    struct engine_request b = small_request("b", 100, 20, 4);
    assert_int_equal(engine_core_add(e.core, &b, 0, NULL), STATUS_OK);
    const struct step_plan *plan = small_step(&e, TOKEN);
    assert_int_equal(plan->seqs[0].computed_tokens, 8);
    small_close(&e);
}

static void test_depth_two_plans_a_step_before_its_token_is_known(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.async_depth = 2;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 4, 3);
    ASSERT_PLAN(small_submit(&e), {0, 0, 4, true});
    const struct step_plan *second = small_submit(&e);
    ASSERT_PLAN(second, {0, 4, 1, true});
    assert_int_equal(second->seqs[0].position, 1);
    small_complete(&e, TOKEN);
    const struct step_plan *third = small_submit(&e);
    ASSERT_PLAN(third, {0, 5, 1, true});
    assert_int_equal(third->seqs[0].position, 2);
    small_complete(&e, TOKEN);
    /* The token in flight is the third and last: nothing is planned after it. */
    small_complete(&e, TOKEN);
    assert_int_equal(small_output(&e, "a")->finish, FINISH_LENGTH);
    const struct step_plan *last = small_submit(&e);
    assert_int_equal(last->seqs_count, 0);
    assert_int_equal(last->finished_slots_count, 1);
    small_complete(&e, TOKEN);
    assert_false(engine_core_has_work(e.core));
    small_close(&e);
}

static void test_a_stop_at_depth_two_wastes_one_step_and_holds_its_blocks(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.async_depth = 2;
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request a = small_request("a", 0, 4, 9);
    a.sampling.eos_token_id = TOKEN;
    assert_int_equal(engine_core_add(e.core, &a, 0, NULL), STATUS_OK);
    (void)small_submit(&e);
    ASSERT_PLAN(small_submit(&e), {0, 4, 1, true});
    small_complete(&e, TOKEN);
    assert_int_equal(small_output(&e, "a")->finish, FINISH_STOP);
    assert_true(small_reported(&e, "a"));
    assert_int_equal(small_stats(&e)->running_count, 0);
    assert_true(small_stats(&e)->kv_cache_usage > 0.0);
    (void)small_submit(&e);
    small_complete(&e, TOKEN);
    assert_null(small_output(&e, "a"));
    assert_false(small_reported(&e, "a"));
    assert_false(small_stats(&e)->kv_cache_usage > 0.0);
    small_complete(&e, TOKEN);
    assert_false(engine_core_has_work(e.core));
    small_close(&e);
}

struct stop_case {
    uint32_t min_tokens;
    uint32_t max_tokens;
    int32_t eos;
    uint32_t stop_id; /* 0: none */
    uint32_t prompt_tokens_count;
    uint32_t outputs_count; /* expected; outputs are 1, 2, 3, ... */
    enum finish_reason finish;
    int32_t stop_token_id;
};

static void test_stop_rules(void **state)
{
    (void)state;
    static const struct stop_case cases[] = {
        {0, 5, TOKEN_NONE, 0, 4, 5, FINISH_LENGTH, TOKEN_NONE},
        {0, 5, 3, 0, 4, 3, FINISH_STOP, TOKEN_NONE},
        {0, 5, TOKEN_NONE, 2, 4, 2, FINISH_STOP, 2},
        {0, 5, 2, 2, 4, 2, FINISH_STOP, TOKEN_NONE},   /* end of sequence comes first */
        {3, 5, 2, 0, 4, 5, FINISH_LENGTH, TOKEN_NONE}, /* too early to count */
        {2, 5, 2, 0, 4, 2, FINISH_STOP, TOKEN_NONE},
        {0, 2, 2, 0, 4, 2, FINISH_STOP, TOKEN_NONE},              /* before length */
        {0, 99, TOKEN_NONE, 0, 60, 4, FINISH_LENGTH, TOKEN_NONE}, /* max_model_len 64 */
        {50, 99, 2, 0, 60, 4, FINISH_LENGTH, TOKEN_NONE},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const struct stop_case *want = &cases[c];
        struct engine_core_options options = small_options();
        struct small_engine e;
        small_open(&e, &options);
        struct engine_request a =
            small_request("a", 0, want->prompt_tokens_count, want->max_tokens);
        a.sampling.min_tokens = want->min_tokens;
        a.sampling.eos_token_id = want->eos;
        a.sampling.stop_token_ids_count = want->stop_id != 0;
        a.sampling.stop_token_ids[0] = want->stop_id;
        assert_int_equal(engine_core_add(e.core, &a, 0, NULL), STATUS_OK);
        for (uint32_t i = 1; i <= want->outputs_count; i++) {
            assert_int_equal(engine_core_unfinished(e.core), 1);
            (void)small_step(&e, i);
            assert_int_equal(small_output(&e, "a")->new_token_ids[0], i);
        }
        assert_int_equal(small_output(&e, "a")->finish, want->finish);
        assert_int_equal(small_output(&e, "a")->stop_token_id, want->stop_token_id);
        assert_int_equal(engine_core_unfinished(e.core), 0);
        small_close(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_longer_than_the_budget_are_computed_in_chunks),
        cmocka_unit_test(test_long_prefill_threshold_caps_each_prompt),
        cmocka_unit_test(test_without_chunking_a_prompt_waits_for_its_budget),
        cmocka_unit_test(test_the_last_running_request_gives_way_and_comes_back_first),
        cmocka_unit_test(test_priority_decides_who_is_admitted_first),
        cmocka_unit_test(test_priority_takes_back_what_the_step_had_given),
        cmocka_unit_test(test_priority_request_that_gives_way_itself_ends_the_step),
        cmocka_unit_test(test_priority_picks_the_least_important_and_goes_on_behind_it),
        cmocka_unit_test(test_blocks_of_a_step_taken_back_are_not_cached),
        cmocka_unit_test(test_the_first_that_does_not_fit_holds_up_the_others),
        cmocka_unit_test(test_watermark_applies_only_beside_running_requests),
        cmocka_unit_test(test_prefix_hits_never_cover_the_last_token),
        cmocka_unit_test(test_outputs_extend_the_cached_prefix),
        cmocka_unit_test(test_depth_two_plans_a_step_before_its_token_is_known),
        cmocka_unit_test(test_a_stop_at_depth_two_wastes_one_step_and_holds_its_blocks),
        cmocka_unit_test(test_stop_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
