/* engine_core_test.c - the loop, the messages and the refusals of an engine core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/base/random.h"
#include "tests/core/helper_core.h"

enum {
    TOKEN = 5
};

static void add_for_client(struct small_engine *e, const char *id, uint32_t client)
{
    struct engine_request request = small_request(id, 0, 4, 3);
    request.client_index = client;
    assert_int_equal(engine_core_add(e->core, &request, e->now, NULL), STATUS_OK);
}

static void test_outputs_are_grouped_by_client(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.clients_count = 3;
    options.engine_index = 6;
    struct small_engine e;
    small_open(&e, &options);
    e.now = 10;
    add_for_client(&e, "a", 2);
    add_for_client(&e, "b", 0);
    add_for_client(&e, "c", 2);
    e.now = 20;
    (void)small_step(&e, TOKEN);
    assert_int_equal(e.messages.count, 2);
    const struct engine_client_message *first = &e.messages.items[0];
    const struct engine_client_message *second = &e.messages.items[1];
    assert_int_equal(first->client_index, 2);
    assert_int_equal(first->outputs.outputs_count, 2);
    assert_string_equal(first->outputs.outputs[1].id, "c");
    assert_int_equal(first->outputs.engine_index, 6);
    assert_true(first->outputs.timestamp == e.now);
    assert_non_null(first->outputs.stats);
    assert_int_equal(first->outputs.stats->running_count, 3);
    assert_int_equal(second->client_index, 0);
    assert_int_equal(second->outputs.outputs_count, 1);
    assert_null(second->outputs.stats);
    const struct engine_output *a = small_output(&e, "a");
    assert_true(a->first && a->queued_at == 10 && a->scheduled_at == 20);
    assert_int_equal(a->prefill.prompt_tokens, 4);
    (void)small_step(&e, TOKEN);
    assert_false(small_output(&e, "a")->first);
    (void)small_step(&e, TOKEN);
    assert_int_equal(e.messages.items[0].outputs.finished_ids_count, 2);
    assert_int_equal(e.messages.items[1].outputs.finished_ids_count, 1);
    assert_true(small_reported(&e, "b"));
    small_close(&e);
}

static void test_a_step_without_outputs_gives_statistics_to_client_0(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.clients_count = 2;
    options.max_num_batched_tokens = 8;
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request request = small_request("a", 0, 12, 3);
    request.client_index = 1;
    assert_int_equal(engine_core_add(e.core, &request, 0, NULL), STATUS_OK);
    (void)small_step(&e, TOKEN);
    assert_int_equal(e.messages.count, 1);
    assert_int_equal(e.messages.items[0].client_index, 0);
    assert_int_equal(e.messages.items[0].outputs.outputs_count, 0);
    assert_non_null(e.messages.items[0].outputs.stats);
    small_close(&e);
}

static void test_an_abort_gives_the_id_back_and_nothing_else(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    struct small_engine e;
    small_open(&e, &options);
    engine_core_abort(e.core, "never-added");
    assert_false(engine_core_has_work(e.core));
    small_add(&e, "a", 4, 9);
    small_add(&e, "b", 4, 9);
    (void)small_step(&e, TOKEN);
    engine_core_abort(e.core, "a");
    engine_core_abort(e.core, "a");
    assert_int_equal(engine_core_unfinished(e.core), 1);
    const struct step_plan *plan = small_step(&e, TOKEN);
    ASSERT_PLAN(plan, {1, 4, 1, true});
    assert_int_equal(plan->finished_slots[0], 0);
    assert_null(small_output(&e, "a"));
    assert_true(small_reported(&e, "a"));
    (void)small_step(&e, TOKEN);
    assert_false(small_reported(&e, "a"));

    /* The last one: a step without tokens brings its id back and tells the workers. */
    engine_core_abort(e.core, "b");
    assert_int_equal(engine_core_unfinished(e.core), 0);
    assert_true(engine_core_has_work(e.core));
    plan = small_step(&e, TOKEN);
    assert_int_equal(plan->tokens_count, 0);
    assert_int_equal(plan->finished_slots_count, 1);
    assert_true(small_reported(&e, "b"));
    assert_false(small_stats(&e)->kv_cache_usage > 0.0);
    assert_false(engine_core_has_work(e.core));
    const struct step_plan *none = NULL;
    assert_int_equal(engine_core_turn(e.core, 0, &none), ENGINE_TURN_DONE);
    small_close(&e);
}

static void test_abort_immediately(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request request = small_request("a", 0, 4, 3);
    request.abort_immediately = true;
    assert_int_equal(engine_core_add(e.core, &request, 0, NULL), STATUS_OK);
    assert_int_equal(engine_core_unfinished(e.core), 0);
    const struct step_plan *plan = small_step(&e, TOKEN);
    assert_int_equal(plan->seqs_count, 0);
    assert_int_equal(plan->finished_slots_count, 0); /* no worker ever saw it */
    assert_true(small_reported(&e, "a"));
    small_close(&e);
}

/* Without lock-step: two sequences run, a third waits, then each kind of pause. */
static void pause_in_mode(enum pause_mode mode)
{
    struct engine_core_options options = small_options();
    options.max_num_seqs = 2;
    struct small_engine e;
    small_open(&e, &options);
    small_add(&e, "a", 4, 2);
    small_add(&e, "b", 4, 3);
    small_add(&e, "c", 4, 1);
    (void)small_step(&e, TOKEN);
    assert_false(engine_core_pause_done(e.core));
    engine_core_pause(e.core, mode);
    uint32_t steps = 0;
    while (engine_core_has_work(e.core)) {
        assert_false(engine_core_pause_done(e.core));
        const struct step_plan *plan = small_step(&e, TOKEN);
        assert_true(plan->tokens_count == 0 || mode == PAUSE_WAIT);
        steps++;
    }
    assert_true(engine_core_pause_done(e.core));
    small_add(&e, "d", 4, 1);
    assert_false(engine_core_has_work(e.core));
    static const uint32_t unfinished[] = {1, 2, 4};
    static const uint32_t steps_want[] = {1, 3, 0}; /* the last one only brings ids */
    assert_int_equal(engine_core_unfinished(e.core), unfinished[mode]);
    assert_int_equal(steps, steps_want[mode]);
    bool any = false;
    assert_int_equal(engine_core_resume(e.core, &any), RESUME_DONE);
    assert_int_equal(engine_core_resume(e.core, &any), RESUME_DONE);
    assert_int_equal(engine_core_pause_state(e.core), UNPAUSED);
    while (engine_core_has_work(e.core)) {
        (void)small_step(&e, TOKEN);
    }
    assert_int_equal(engine_core_unfinished(e.core), 0);
    small_close(&e);
}

static void test_pause_and_resume(void **state)
{
    (void)state;
    pause_in_mode(PAUSE_ABORT);
    pause_in_mode(PAUSE_WAIT);
    pause_in_mode(PAUSE_KEEP);
}

static void test_counts_are_published_only_when_they_change(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    struct small_engine e;
    struct scheduler_stats stats;
    small_open(&e, &options);
    assert_false(engine_core_counts_changed(e.core, &stats));
    small_add(&e, "a", 4, 2);
    assert_true(engine_core_counts_changed(e.core, &stats));
    assert_int_equal(stats.waiting_count, 1);
    assert_int_equal(stats.running_count, 0);
    assert_false(engine_core_counts_changed(e.core, &stats));
    (void)small_step(&e, TOKEN);
    assert_true(engine_core_counts_changed(e.core, &stats));
    assert_int_equal(stats.waiting_count, 0);
    assert_int_equal(stats.running_count, 1);
    assert_true(stats.kv_cache_usage > 0.0);
    (void)small_step(&e, TOKEN);
    assert_true(engine_core_counts_changed(e.core, &stats));
    assert_int_equal(stats.running_count, 0);
    small_close(&e);
}

static void expect_refused(struct small_engine *e, const struct engine_request *request,
                           const char *word)
{
    struct error error = {0};
    assert_int_equal(engine_core_add(e->core, request, 0, &error), STATUS_INVALID);
    if (strstr(error.text, word) == NULL) {
        fail_msg("\"%s\" does not speak of %s", error.text, word);
    }
}

static void test_requests_that_can_never_run_are_refused(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.num_gpu_blocks = 1 + 6;
    options.requests_max = 2;
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request bad = small_request("a", 0, 0, 3);
    expect_refused(&e, &bad, "prompt");
    bad = small_request("a", 0, 64, 3);
    expect_refused(&e, &bad, "prompt");
    bad = small_request("a", 0, 4, 0);
    expect_refused(&e, &bad, "max_tokens");
    bad = small_request("", 0, 4, 3);
    expect_refused(&e, &bad, "id");
    char longest[REQUEST_ID_BYTES_MAX + 1];
    memset(longest, 'x', sizeof longest);
    longest[REQUEST_ID_BYTES_MAX] = '\0';
    bad = small_request(longest, 0, 4, 3);
    expect_refused(&e, &bad, "id");
    bad = small_request("a", 0, 4, 3);
    bad.client_index = 1;
    expect_refused(&e, &bad, "client");
    bad = small_request("a", 0, 20, 6); /* 25 computed tokens in 24 */
    expect_refused(&e, &bad, "KV");
    bad = small_request("a", 0, 4, 3);
    bad.sampling.stop_token_ids_count = STOP_TOKENS_MAX + 1;
    expect_refused(&e, &bad, "stop");

    small_add(&e, "a", 20, 5);
    bad = small_request("a", 0, 4, 3);
    expect_refused(&e, &bad, "id");
    longest[REQUEST_ID_BYTES_MAX - 1] = '\0';
    small_add(&e, longest, 4, 3);
    bad = small_request("c", 0, 4, 3);
    assert_int_equal(engine_core_add(e.core, &bad, 0, NULL), STATUS_FULL);
    assert_int_equal(engine_core_unfinished(e.core), 2);
    small_close(&e);
}

struct bad_options {
    const char *word;
    struct engine_core_options options;
};

static void test_options_out_of_range_are_named(void **state)
{
    (void)state;
    struct bad_options cases[12];
    for (size_t i = 0; i < 12; i++) {
        cases[i].options = small_options();
    }
    cases[0].word = "clients_count";
    cases[0].options.clients_count = 0;
    cases[1].word = "requests_max";
    cases[1].options.requests_max = 0;
    cases[2].word = "max_model_len";
    cases[2].options.max_model_len = 1;
    cases[3].word = "max_num_seqs";
    cases[3].options.max_num_seqs = 0;
    cases[4].word = "num_gpu_blocks";
    cases[4].options.num_gpu_blocks = 1;
    cases[5].word = "block_tokens";
    cases[5].options.block_tokens = 0;
    cases[6].word = "max_num_batched_tokens";
    cases[6].options.max_num_batched_tokens = 7;
    cases[7].word = "chunked";
    cases[7].options.chunked_prefill = false;
    cases[7].options.max_num_batched_tokens = 63;
    cases[8].word = "watermark";
    cases[8].options.watermark = 1.0;
    cases[9].word = "watermark";
    cases[9].options.watermark = (double)NAN;
    cases[10].word = "async_depth";
    cases[10].options.async_depth = 3;
    cases[11].word = "policy";
    cases[11].options.policy = (enum scheduling_policy)2;
    struct arena arena;
    assert_int_equal(arena_create(1 << 20, &arena, NULL), STATUS_OK);
    for (size_t i = 0; i < 12; i++) {
        struct error error = {0};
        struct engine_core *core = NULL;
        assert_int_equal(engine_core_create(&arena, &cases[i].options, &core, &error),
                         STATUS_INVALID);
        assert_null(core);
        if (strstr(error.text, cases[i].word) == NULL) {
            fail_msg("\"%s\" does not name %s", error.text, cases[i].word);
        }
    }
    arena_destroy(&arena);
}

static void test_sampling_keys(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    struct small_engine e;
    small_open(&e, &options);
    struct engine_request request = small_request("a", 0, 4, 3);
    request.prompt_hash = 99;
    assert_int_equal(engine_core_add(e.core, &request, 0, NULL), STATUS_OK);
    request.id = "b";
    request.sampling.has_seed = true;
    request.sampling.seed = -3;
    assert_int_equal(engine_core_add(e.core, &request, 0, NULL), STATUS_OK);
    const struct step_plan *plan = small_step(&e, TOKEN);
    assert_true(plan->seqs[0].sample_key == random_at(random_at(options.seed, 99), 0));
    assert_true(plan->seqs[1].sample_key == random_at(random_at((uint64_t)-3, 99), 0));
    assert_int_equal(plan->seqs[0].flags, STEP_SEQ_NEW | STEP_SEQ_SAMPLES | STEP_SEQ_IGNORE_EOS);
    assert_int_equal(plan->seqs[0].tokens_count, 4);
    assert_int_equal(plan->token_ids[plan->seqs[0].tokens_first + 3], 3);
    small_close(&e);
}

/* Simulations know prompts by their hash alone: equal hashes share blocks, others do not. */
static void test_prompts_known_by_hash_share_blocks(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    options.prefix_caching = true;
    struct small_engine e;
    small_open(&e, &options);
    static const uint64_t hashes[] = {7, 7, 8};
    static const char *const ids[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        struct engine_request request = small_request(ids[i], 0, 13, 3);
        request.prompt_token_ids = NULL;
        request.prompt_hash = hashes[i];
        assert_int_equal(engine_core_add(e.core, &request, 0, NULL), STATUS_OK);
    }
    const struct step_plan *plan = small_step(&e, TOKEN);
    ASSERT_PLAN(plan, {0, 0, 13, true}, {1, 12, 1, true}, {2, 0, 13, true});
    assert_int_equal(plan->token_ids_count, 0);
    small_close(&e);
}

static void test_announced_memory_is_enough_for_any_options(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 17, 64, 1000};
    for (size_t i = 0; i < 5; i++) {
        for (uint32_t depth = 1; depth <= 2; depth++) {
            struct engine_core_options options = small_options();
            options.clients_count = sizes[i];
            options.requests_max = sizes[4 - i];
            options.max_num_seqs = sizes[i];
            options.max_num_batched_tokens = 2000;
            options.num_gpu_blocks = 1 + sizes[i];
            options.block_tokens = sizes[(i + 1) % 5];
            options.async_depth = depth;
            struct small_engine e;
            small_open(&e, &options); /* asserts inside the arena */
            small_close(&e);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_are_grouped_by_client),
        cmocka_unit_test(test_a_step_without_outputs_gives_statistics_to_client_0),
        cmocka_unit_test(test_an_abort_gives_the_id_back_and_nothing_else),
        cmocka_unit_test(test_abort_immediately),
        cmocka_unit_test(test_pause_and_resume),
        cmocka_unit_test(test_counts_are_published_only_when_they_change),
        cmocka_unit_test(test_requests_that_can_never_run_are_refused),
        cmocka_unit_test(test_options_out_of_range_are_named),
        cmocka_unit_test(test_sampling_keys),
        cmocka_unit_test(test_prompts_known_by_hash_share_blocks),
        cmocka_unit_test(test_announced_memory_is_enough_for_any_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
