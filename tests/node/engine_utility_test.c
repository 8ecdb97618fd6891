/*
 * UTILITY calls against a real engine core without a process: what is answered at once, what waits
 * for the engine core to be idle, and what fails with which words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "engine/node/engine_utility.h"

enum {
    STEPS_LIMIT = 1000,
    PROMPT_TOKENS = 8
};

struct fixture {
    struct arena arena;
    struct engine_core *core;
    struct tape_engine untaped; /* of core */
    struct engine_utility utility;
    time_ps now;
};

static int set_up(void **state)
{
    static struct fixture f;
    struct engine_core_options options = {
        .clients_count = 2,
        .requests_max = 64,
        .max_model_len = 64,
        .max_num_seqs = 8,
        .max_num_batched_tokens = 64,
        .num_gpu_blocks = 32,
        .block_tokens = 4,
        .prefix_caching = true,
        .chunked_prefill = true,
        .async_depth = 1,
    };
    f = (struct fixture){.now = 1};
    assert_int_equal(arena_create(engine_core_arena_bytes(&options), &f.arena, NULL), STATUS_OK);
    assert_int_equal(engine_core_create(&f.arena, &options, &f.core, NULL), STATUS_OK);
    f.untaped.core = f.core;
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    assert_null(engine_core_check(f->core));
    arena_destroy(&f->arena);
    return 0;
}

static void add(struct fixture *f, const char *id, uint32_t max_tokens)
{
    static const uint32_t prompt[PROMPT_TOKENS] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct engine_request request = {
        .id = id,
        .prompt_token_ids = prompt,
        .prompt_tokens_count = PROMPT_TOKENS,
        .sampling = {.max_tokens = max_tokens, .eos_token_id = TOKEN_NONE},
        .data_parallel_rank = RANK_NONE,
    };
    assert_int_equal(engine_core_add(f->core, &request, f->now, NULL), STATUS_OK);
}

/* One step; false if there was nothing to do. Returns how many cached tokens its first outputs
 * had. */
static bool step(struct fixture *f, uint32_t *cached)
{
    static const uint32_t tokens[8] = {65, 65, 65, 65, 65, 65, 65, 65};
    const struct step_plan *plan = NULL;
    const struct step_plan *submitted = NULL;
    for (;;) {
        switch (engine_core_turn(f->core, ++f->now, &plan)) {
        case ENGINE_TURN_SUBMIT:
            submitted = plan;
            break;
        case ENGINE_TURN_AWAIT: {
            assert_non_null(submitted);
            struct step_result result = {.step = submitted->step, .tokens = tokens};
            for (uint32_t i = 0; i < submitted->seqs_count; i++) {
                result.tokens_count += (submitted->seqs[i].flags & STEP_SEQ_SAMPLES) != 0;
            }
            struct engine_core_messages messages;
            engine_core_complete(f->core, ++f->now, &result, &messages);
            for (uint32_t m = 0; cached != NULL && m < messages.count; m++) {
                const struct engine_outputs *o = &messages.items[m].outputs;
                for (uint32_t i = 0; i < o->outputs_count; i++) {
                    *cached += o->outputs[i].prefill.cached_tokens;
                }
            }
            return true;
        }
        case ENGINE_TURN_DONE:
            return false;
        }
    }
}

static uint32_t run_to_the_end(struct fixture *f)
{
    uint32_t cached = 0;
    for (uint32_t i = 0; engine_core_has_work(f->core); i++) {
        assert_true(i < STEPS_LIMIT);
        assert_true(step(f, &cached));
    }
    return cached;
}

static struct utility_call call_of(const char *method)
{
    static uint64_t call_id = UINT64_MAX - 100;
    return (struct utility_call){.client_index = 1, .call_id = call_id++, .method = method};
}

static struct utility_reply ask(struct fixture *f, const struct utility_call *call)
{
    struct utility_reply reply;
    assert_true(engine_utility_call(&f->utility, &f->untaped, call, &reply));
    assert_true(reply.call_id == call->call_id);
    return reply;
}

static bool ask_bool(struct fixture *f, const char *method)
{
    struct utility_call call = call_of(method);
    struct utility_reply reply = ask(f, &call);
    assert_null(reply.failure);
    assert_int_equal(reply.kind, UTILITY_BOOL);
    return reply.boolean;
}

static void ask_void(struct fixture *f, const char *method)
{
    struct utility_call call = call_of(method);
    struct utility_reply reply = ask(f, &call);
    assert_null(reply.failure);
    assert_int_equal(reply.kind, UTILITY_NIL);
}

/* The reply is put off. */
static struct utility_call pause_with(struct fixture *f, const char *mode, bool clear_cache)
{
    struct utility_call call = call_of("pause_scheduler");
    struct utility_reply reply;
    call.arguments_count = 2;
    call.arguments[0] = (struct utility_argument){.kind = UTILITY_ARGUMENT_STRING, .string = mode};
    call.arguments[1] =
        (struct utility_argument){.kind = UTILITY_ARGUMENT_BOOL, .boolean = clear_cache};
    assert_false(engine_utility_call(&f->utility, &f->untaped, &call, &reply));
    return call;
}

static bool due(struct fixture *f, uint64_t call_id, struct utility_reply *reply)
{
    uint32_t client = 77;
    if (!engine_utility_due(&f->utility, &f->untaped, &client, reply)) {
        return false;
    }
    assert_int_equal(client, 1);
    assert_true(reply->call_id == call_id);
    return true;
}

static void calls_at_start_up_are_answered(void **state)
{
    struct fixture *f = *state;
    struct utility_call call = call_of("get_supported_tasks");
    struct utility_reply reply = ask(f, &call);
    assert_int_equal(reply.kind, UTILITY_STRINGS);
    assert_int_equal(reply.strings_count, 1);
    assert_string_equal(reply.strings[0], "generate");
    ask_void(f, "reset_mm_cache");
    ask_void(f, "reset_encoder_cache");
    assert_false(ask_bool(f, "is_sleeping"));
    assert_false(ask_bool(f, "is_scheduler_paused"));
}

/* With any tags or none, also what only a list of strings could be. */
static void nothing_sleeps_and_no_adapter_is_loaded(void **state)
{
    struct fixture *f = *state;
    assert_true(ask_bool(f, "wake_up"));
    struct utility_call call = call_of("wake_up");
    call.arguments_count = 1;
    assert_true(ask(f, &call).boolean);
    call = call_of("list_loras");
    struct utility_reply reply = ask(f, &call);
    assert_null(reply.failure);
    assert_int_equal(reply.kind, UTILITY_STRINGS); /* an empty array, of whatever */
    assert_int_equal(reply.strings_count, 0);
}

static void count_dummy(void *ctx)
{
    uint32_t *count = ctx;
    (*count)++;
}

static void an_independent_rank_makes_a_dummy_at_once(void **state)
{
    struct fixture *f = *state;
    uint32_t count = 0;
    f->utility.dummy_batch = count_dummy;
    f->utility.ctx = &count;
    ask_void(f, "execute_dummy_batch");
    assert_int_equal(count, 1);
    assert_false(engine_core_has_work(f->core));
    add(f, "a", 3);
    assert_true(step(f, NULL));
    ask_void(f, "execute_dummy_batch");
    assert_int_equal(count, 2);
    (void)run_to_the_end(f);
}

static bool count_barrier(void *ctx, bool unfinished)
{
    uint32_t *count = ctx;
    (*count)++;
    return unfinished;
}

/* One loop without input; true if it made a dummy. */
static bool idle_loop(struct engine_core *core, uint32_t *checks)
{
    const struct step_plan *plan = NULL;
    struct wave_ballot ballot;
    bool dummy = false;
    assert_int_equal(engine_core_turn(core, 1, &plan), ENGINE_TURN_DONE);
    for (;;) {
        switch (engine_core_wave_next(core, &ballot)) {
        case WAVE_NEED_NOTHING:
            return dummy;
        case WAVE_NEED_DUMMY:
            dummy = true;
            break;
        case WAVE_NEED_ALLREDUCE: /* the other rank has nothing either */
            assert_int_equal(ballot.unfinished, 0);
            (*checks)++;
            engine_core_wave_checked(core, &ballot);
            break;
        }
    }
}

/* Rank `rank` of `ranks_count` in lock-step. */
static void create_in_lockstep(struct fixture *f, uint32_t rank, uint32_t ranks_count,
                               uint32_t check_interval_steps)
{
    struct engine_core_options options = {
        .engine_index = rank,
        .clients_count = 2,
        .requests_max = 64,
        .max_model_len = 64,
        .max_num_seqs = 8,
        .max_num_batched_tokens = 64,
        .num_gpu_blocks = 32,
        .block_tokens = 4,
        .async_depth = 1,
        .wave = {.ranks_count = ranks_count,
                 .check_interval_steps = check_interval_steps,
                 .announce_start = true},
    };
    assert_int_equal(arena_create(engine_core_arena_bytes(&options), &f->arena, NULL), STATUS_OK);
    assert_int_equal(engine_core_create(&f->arena, &options, &f->core, NULL), STATUS_OK);
    f->untaped.core = f->core;
}

/* The whole group steps, told through the coordinator, and comes to rest again. */
static void in_lockstep_a_dummy_is_a_step_of_all_ranks(void **state)
{
    (void)state;
    static struct fixture f;
    struct engine_outputs notice;
    uint32_t checks = 0;
    create_in_lockstep(&f, 1, 2, 4);
    assert_false(idle_loop(f.core, &checks));
    ask_void(&f, "execute_dummy_batch");
    assert_true(engine_core_take_notice(f.core, 1, &notice));
    assert_int_equal(notice.start_wave, 0);
    assert_false(engine_core_take_notice(f.core, 1, &notice));
    assert_true(idle_loop(f.core, &checks));
    ask_void(&f, "execute_dummy_batch"); /* the wave runs: its next step will do */
    assert_false(engine_core_take_notice(f.core, 1, &notice));
    for (uint32_t i = 1; i < 4; i++) {
        assert_int_equal(checks, 0);
        assert_true(idle_loop(f.core, &checks));
    }
    assert_int_equal(checks, 1);
    assert_false(idle_loop(f.core, &checks));
    assert_int_equal(engine_core_wave(f.core)->current_wave, 1);
    arena_destroy(&f.arena);
}

static void what_is_not_known_fails_with_words(void **state)
{
    struct fixture *f = *state;
    struct utility_call call = call_of("save_sharded_state");
    struct utility_reply reply = ask(f, &call);
    assert_string_equal(reply.failure, "unknown utility method 'save_sharded_state'");
    call = call_of("reset_prefix_cache");
    call.arguments_count = 3;
    assert_non_null(ask(f, &call).failure);
    call.arguments_count = 1;
    call.arguments[0] = (struct utility_argument){.kind = UTILITY_ARGUMENT_INT, .integer = 1};
    assert_non_null(ask(f, &call).failure);
    call = call_of("pause_scheduler");
    call.arguments_count = 1;
    call.arguments[0] = (struct utility_argument){.kind = UTILITY_ARGUMENT_STRING, .string = "x"};
    assert_string_equal(ask(f, &call).failure,
                        "pause_scheduler: unknown mode 'x', want abort, wait or keep");
    assert_false(ask_bool(f, "is_scheduler_paused"));
}

static void prefixes_are_forgotten_only_when_nothing_runs(void **state)
{
    struct fixture *f = *state;
    add(f, "a", 4);
    assert_true(step(f, NULL));
    assert_false(ask_bool(f, "reset_prefix_cache"));
    struct utility_call call = call_of("reset_prefix_cache");
    call.arguments_count = 1;
    call.arguments[0] = (struct utility_argument){.kind = UTILITY_ARGUMENT_BOOL, .boolean = true};
    assert_non_null(ask(f, &call).failure);
    (void)run_to_the_end(f);
    add(f, "b", 1);
    assert_true(run_to_the_end(f) > 0); /* the prompt of "a" is known */
    assert_true(ask_bool(f, "reset_prefix_cache"));
    add(f, "c", 1);
    assert_int_equal(run_to_the_end(f), 0);
    add(f, "d", 1);
    assert_true(run_to_the_end(f) > 0);
}

static void a_pause_is_answered_when_nothing_is_left_to_do(void **state)
{
    struct fixture *f = *state;
    struct utility_reply reply;
    add(f, "a", 5);
    assert_true(step(f, NULL));
    struct utility_call call = pause_with(f, "wait", true);
    assert_true(ask_bool(f, "is_scheduler_paused"));
    uint32_t steps = 0;
    while (!due(f, call.call_id, &reply)) {
        assert_true(step(f, NULL));
        steps++;
    }
    assert_null(reply.failure);
    assert_in_range(steps, 4, 5); /* 4 tokens, and perhaps a step that only reports the end */
    /* What comes now waits, and its prompt is unknown: the cache was cleared. */
    add(f, "b", 1);
    assert_false(engine_core_has_work(f->core));
    ask_void(f, "resume_scheduler");
    assert_false(ask_bool(f, "is_scheduler_paused"));
    assert_int_equal(run_to_the_end(f), 0);
    /* Idle, and the cache is kept. */
    call = pause_with(f, "abort", false);
    assert_true(due(f, call.call_id, &reply));
    ask_void(f, "resume_scheduler");
    add(f, "c", 1);
    assert_true(run_to_the_end(f) > 0);
}

static void pauses_end_requests_or_freeze_them(void **state)
{
    struct fixture *f = *state;
    struct utility_reply reply;
    add(f, "a", 5);
    assert_true(step(f, NULL));
    struct utility_call call = pause_with(f, "keep", false);
    while (!due(f, call.call_id, &reply)) {
        assert_true(step(f, NULL));
    }
    assert_int_equal(engine_core_unfinished(f->core), 1);
    call = pause_with(f, "abort", false);
    while (!due(f, call.call_id, &reply)) {
        assert_true(step(f, NULL));
    }
    assert_int_equal(engine_core_unfinished(f->core), 0);
}

static void a_pause_that_is_lifted_early_fails(void **state)
{
    struct fixture *f = *state;
    struct utility_reply reply;
    add(f, "a", 5);
    assert_true(step(f, NULL));
    struct utility_call call = pause_with(f, "wait", true);
    assert_false(due(f, call.call_id, &reply));
    ask_void(f, "resume_scheduler");
    assert_true(due(f, call.call_id, &reply));
    assert_non_null(reply.failure);
    assert_false(due(f, call.call_id, &reply));
    (void)run_to_the_end(f);
}

/* Behind a resume that waits for a pause, calls are taken one after the other, in their order. */
static void in_lockstep_a_resume_waits_for_the_pause_before_it(void **state)
{
    (void)state;
    static struct fixture f;
    struct utility_reply reply;
    uint32_t checks = 0;
    uint32_t barriers = 0;
    f.utility.any_unfinished = count_barrier;
    f.utility.ctx = &barriers;
    create_in_lockstep(&f, 0, 1, 2);
    struct utility_call first = pause_with(&f, "keep", false);
    struct utility_call resume = call_of("resume_scheduler");
    assert_false(engine_utility_call(&f.utility, &f.untaped, &resume, &reply));
    struct utility_call second = pause_with(&f, "keep", false);
    while (!due(&f, first.call_id, &reply)) {
        assert_true(idle_loop(f.core, &checks));
    }
    assert_null(reply.failure);
    assert_int_equal(checks, 1);
    assert_int_equal(barriers, 0);
    assert_true(due(&f, resume.call_id, &reply));
    assert_null(reply.failure);
    assert_int_equal(barriers, 1);
    assert_false(ask_bool(&f, "is_scheduler_paused"));
    while (!due(&f, second.call_id, &reply)) {
        assert_true(idle_loop(f.core, &checks));
    }
    assert_null(reply.failure);
    assert_int_equal(checks, 2);
    ask_void(&f, "resume_scheduler");
    assert_int_equal(barriers, 2);
    arena_destroy(&f.arena);
}

static void too_many_pauses_are_refused(void **state)
{
    struct fixture *f = *state;
    struct utility_reply reply;
    add(f, "a", 5);
    assert_true(step(f, NULL));
    struct utility_call first = pause_with(f, "wait", true);
    for (uint32_t i = 1; i < ENGINE_UTILITY_PENDING_MAX; i++) {
        (void)pause_with(f, "wait", true);
    }
    struct utility_call call = call_of("pause_scheduler");
    assert_non_null(ask(f, &call).failure);
    (void)run_to_the_end(f);
    for (uint64_t i = 0; i < ENGINE_UTILITY_PENDING_MAX; i++) {
        assert_true(due(f, first.call_id + i, &reply)); /* in the order of the calls */
    }
    assert_false(due(f, 0, &reply));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(calls_at_start_up_are_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_known_fails_with_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_sleeps_and_no_adapter_is_loaded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_independent_rank_makes_a_dummy_at_once, set_up,
                                        tear_down),
        cmocka_unit_test(in_lockstep_a_dummy_is_a_step_of_all_ranks),
        cmocka_unit_test_setup_teardown(prefixes_are_forgotten_only_when_nothing_runs, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_pause_is_answered_when_nothing_is_left_to_do, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(pauses_end_requests_or_freeze_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pause_that_is_lifted_early_fails, set_up, tear_down),
        cmocka_unit_test(in_lockstep_a_resume_waits_for_the_pause_before_it),
        cmocka_unit_test_setup_teardown(too_many_pauses_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
