/*
 * pipeline_test.c - one engine core over a pipeline of GPUs: how many batches it keeps in flight,
 * how requests fall into them, and that none is computed twice at once. Cases worked out by hand,
 * and rules that hold at every step of longer runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/core/helper_core.h"

enum {
    FLIGHTS_MAX = 8,
    SLOTS_MAX = 16,
};

/* Like struct small_engine, but with more than two steps in flight. */
struct line {
    struct small_engine engine;
    struct engine_core_options options;
    const struct step_plan *plans[FLIGHTS_MAX + 1]; /* oldest first */
    uint32_t plans_count;
    uint32_t plans_count_max;
};

static void line_open(struct line *l, uint32_t stages, uint32_t async_depth, uint32_t budget)
{
    *l = (struct line){.options = small_options()};
    l->options.pipeline_stages = stages;
    l->options.async_depth = async_depth;
    l->options.max_num_batched_tokens = budget;
    small_open(&l->engine, &l->options);
}

/* No request of a submitted plan samples in more steps at once than it may. */
static void note_plan(struct line *l, const struct step_plan *plan)
{
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        uint32_t sampling = 0;
        for (uint32_t p = 0; p < l->plans_count; p++) {
            for (uint32_t j = 0; j < l->plans[p]->seqs_count; j++) {
                const struct step_seq *other = &l->plans[p]->seqs[j];
                sampling +=
                    other->slot == seq->slot && (other->flags & STEP_SEQ_SAMPLES) != 0 ? 1 : 0;
            }
        }
        assert_true(sampling < l->options.async_depth || (seq->flags & STEP_SEQ_SAMPLES) == 0);
    }
    assert_true(l->plans_count < FLIGHTS_MAX);
    l->plans[l->plans_count++] = plan;
    l->plans_count_max = l->plans_count > l->plans_count_max ? l->plans_count : l->plans_count_max;
    small_check(&l->engine);
}

/* Submits all that there is room for, until the engine core wants a result (true) or has nothing
 * to do (false). */
static bool line_fill(struct line *l)
{
    for (int turn = 0; turn < 100; turn++) {
        const struct step_plan *plan = NULL;
        switch (engine_core_turn(l->engine.core, l->engine.now, &plan)) {
        case ENGINE_TURN_SUBMIT:
            note_plan(l, plan);
            break;
        case ENGINE_TURN_AWAIT:
            return true;
        case ENGINE_TURN_DONE:
            if (l->plans_count == 0) {
                return false;
            }
            break;
        }
    }
    fail_msg("turns without end");
    return false;
}

static void line_complete(struct line *l)
{
    uint32_t tokens[SLOTS_MAX];
    uint32_t count = 0;
    const struct step_plan *plan = l->plans[0];
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        if ((plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0) {
            tokens[count++] = 'x';
        }
    }
    struct step_result result = {.step = plan->step, .tokens = tokens, .tokens_count = count};
    l->engine.now += PS_PER_MS;
    engine_core_complete(l->engine.core, l->engine.now, &result, &l->engine.messages);
    l->plans_count--;
    for (uint32_t i = 0; i < l->plans_count; i++) {
        l->plans[i] = l->plans[i + 1];
    }
    small_check(&l->engine);
}

/* Until nothing is left to do. */
static void line_finish(struct line *l)
{
    while (line_fill(l)) {
        line_complete(l);
    }
    assert_false(engine_core_has_work(l->engine.core));
    small_close(&l->engine);
}

static void one_batch_a_stage_and_one_more_if_asynchronous(void **state)
{
    (void)state;
    for (uint32_t stages = 1; stages <= 4; stages++) {
        for (uint32_t depth = 1; depth <= 2; depth++) {
            static struct line l;
            /* The budget makes each prompt a step of its own, so there are 8 batches. */
            line_open(&l, stages, depth, 8);
            static const char *const ids[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
            for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
                small_add(&l.engine, ids[i], 8, 10);
            }
            line_finish(&l);
            assert_int_equal(l.plans_count_max, stages - 1 + depth);
        }
    }
}

/* Two groups, two stages: each stage works on one while the other has the other. */
static void groups_take_turns(void **state)
{
    (void)state;
    static struct line l;
    line_open(&l, 2, 2, 8);
    small_add(&l.engine, "a", 8, 6);
    small_add(&l.engine, "b", 8, 6);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 3);
    ASSERT_PLAN(l.plans[0], {0, 0, 8, true});
    ASSERT_PLAN(l.plans[1], {1, 0, 8, true});
    ASSERT_PLAN(l.plans[2], {0, 8, 1, true}); /* its first token is on the last stage by then */
    line_complete(&l);
    assert_true(line_fill(&l));
    ASSERT_PLAN(l.plans[2], {1, 8, 1, true});
    line_complete(&l);
    assert_true(line_fill(&l));
    ASSERT_PLAN(l.plans[2], {0, 9, 1, true});
    line_finish(&l);
}

/* With nothing else to compute, a request's next step is planned ahead as without a pipeline. */
static void one_request_alone_is_planned_ahead(void **state)
{
    (void)state;
    static struct line l;
    line_open(&l, 4, 2, 64);
    small_add(&l.engine, "a", 8, 5);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 2);
    ASSERT_PLAN(l.plans[1], {0, 8, 1, true});
    line_complete(&l);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 2);
    line_finish(&l);
}

/* Without asynchronous scheduling a request is in one step at a time. */
static void synchronous_requests_wait_for_their_token(void **state)
{
    (void)state;
    static struct line l;
    line_open(&l, 3, 1, 64);
    small_add(&l.engine, "a", 8, 3);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 1); /* nothing else to compute */
    small_add(&l.engine, "b", 8, 3);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 1); /* the engine core waits for a result: no new plan */
    line_complete(&l);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 1);
    ASSERT_PLAN(l.plans[0], {0, 8, 1, true}, {1, 0, 8, true});
    line_finish(&l);
}

/* The chunks of a prompt follow each other through the stages. */
static void chunks_need_not_wait(void **state)
{
    (void)state;
    static struct line l;
    line_open(&l, 4, 1, 8);
    small_add(&l.engine, "a", 30, 3);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 4);
    ASSERT_PLAN(l.plans[0], {0, 0, 8, false});
    ASSERT_PLAN(l.plans[1], {0, 8, 8, false});
    ASSERT_PLAN(l.plans[2], {0, 16, 8, false});
    ASSERT_PLAN(l.plans[3], {0, 24, 6, true});
    line_complete(&l);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 3); /* the next token needs the last chunk's */
    line_finish(&l);
}

/* Blocks of an aborted request are free when the last of its steps is done, not before. */
static void blocks_are_held_while_any_stage_writes_them(void **state)
{
    (void)state;
    static struct line l;
    line_open(&l, 4, 1, 8);
    small_add(&l.engine, "a", 24, 3);
    assert_true(line_fill(&l));
    assert_int_equal(l.plans_count, 3);
    engine_core_abort(l.engine.core, "a");
    for (int step = 0; step < 3; step++) {
        line_complete(&l);
        double usage = small_stats(&l.engine)->kv_cache_usage;
        assert_true(step < 2 ? usage > 0.1 : usage < 0.001);
    }
    line_finish(&l);
}

/* A preempted request comes back when all results of its steps are in. */
static void preempted_requests_come_back_whole(void **state)
{
    (void)state;
    static struct line l;
    l.options = small_options();
    line_open(&l, 3, 2, 16);
    small_close(&l.engine);
    l.options.num_gpu_blocks = 17; /* 16 for use: not enough for all sequences */
    small_open(&l.engine, &l.options);
    uint32_t ended = 0;
    static const char *const ids[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++) {
        small_add(&l.engine, ids[i], 10, 30);
    }
    while (line_fill(&l)) {
        line_complete(&l);
        for (size_t i = 0; i < 4; i++) {
            const struct engine_output *o = small_output(&l.engine, ids[i]);
            ended += o != NULL && o->finish == FINISH_LENGTH ? 1 : 0;
        }
    }
    assert_int_equal(ended, 4);
    assert_true(small_stats(&l.engine)->preemptions_count > 0);
    small_close(&l.engine);
}

static void too_many_stages_are_refused(void **state)
{
    (void)state;
    struct engine_core_options options = small_options();
    struct arena arena;
    struct engine_core *core = NULL;
    struct error error;
    options.pipeline_stages = ENGINE_PIPELINE_STAGES_MAX + 1;
    assert_int_equal(arena_create(1 << 20, &arena, NULL), STATUS_OK);
    assert_int_equal(engine_core_create(&arena, &options, &core, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "pipeline_stages"));
    arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_batch_a_stage_and_one_more_if_asynchronous),
        cmocka_unit_test(groups_take_turns),
        cmocka_unit_test(one_request_alone_is_planned_ahead),
        cmocka_unit_test(synchronous_requests_wait_for_their_token),
        cmocka_unit_test(chunks_need_not_wait),
        cmocka_unit_test(blocks_are_held_while_any_stage_writes_them),
        cmocka_unit_test(preempted_requests_come_back_whole),
        cmocka_unit_test(too_many_stages_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
