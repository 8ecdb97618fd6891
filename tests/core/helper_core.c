/* helper_core.c - see helper_core.h. Fails the running test when an expectation does not hold. */
#include "tests/core/helper_core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

enum {
    PROMPT_MAX = 64
};

struct engine_core_options small_options(void)
{
    return (struct engine_core_options){
        .clients_count = 1,
        .requests_max = 16,
        .max_model_len = PROMPT_MAX,
        .max_num_seqs = 8,
        .max_num_batched_tokens = 64,
        .num_gpu_blocks = 33,
        .block_tokens = 4,
        .chunked_prefill = true,
        .reserve_full_isl = true,
        .async_depth = 1,
        .policy = POLICY_FCFS,
        .seed = 7,
    };
}

void small_open(struct small_engine *e, const struct engine_core_options *options)
{
    struct error error = {0};
    *e = (struct small_engine){0};
    assert_int_equal(arena_create(engine_core_arena_bytes(options), &e->arena, &error), STATUS_OK);
    enum status status = engine_core_create(&e->arena, options, &e->core, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, STATUS_OK);
}

void small_close(struct small_engine *e)
{
    small_check(e);
    arena_destroy(&e->arena);
}

struct engine_request small_request(const char *id, uint32_t first, uint32_t prompt_tokens_count,
                                    uint32_t max_tokens)
{
    static uint32_t prompt[PROMPT_MAX];
    for (uint32_t i = 0; i < PROMPT_MAX; i++) {
        prompt[i] = first + i;
    }
    return (struct engine_request){
        .id = id,
        .prompt_token_ids = prompt,
        .prompt_tokens_count = prompt_tokens_count,
        .sampling = {.max_tokens = max_tokens, .eos_token_id = TOKEN_NONE},
        .data_parallel_rank = RANK_NONE,
    };
}

void small_add(struct small_engine *e, const char *id, uint32_t prompt_tokens_count,
               uint32_t max_tokens)
{
    struct engine_request request =
        small_request(id, (uint32_t)id[0] * 1000, prompt_tokens_count, max_tokens);
    assert_int_equal(engine_core_add(e->core, &request, e->now, NULL), STATUS_OK);
    small_check(e);
}

const struct step_plan *small_submit(struct small_engine *e)
{
    const struct step_plan *plan = NULL;
    enum engine_turn turn = engine_core_turn(e->core, e->now, &plan);
    if (turn == ENGINE_TURN_DONE) { /* the pipeline has room: next round */
        turn = engine_core_turn(e->core, e->now, &plan);
    }
    assert_int_equal(turn, ENGINE_TURN_SUBMIT);
    assert_true(e->plans_count < 2);
    e->plans[e->plans_count++] = plan;
    small_check(e);
    return plan;
}

void small_complete(struct small_engine *e, uint32_t token)
{
    const struct step_plan *unused = NULL;
    enum engine_turn turn = engine_core_turn(e->core, e->now, &unused);
    assert_int_equal(turn, ENGINE_TURN_AWAIT);
    const struct step_plan *plan = e->plans[0];
    uint32_t tokens[16];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        if ((plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0) {
            tokens[count++] = token;
        }
    }
    struct step_result result = {.step = plan->step, .tokens = tokens, .tokens_count = count};
    e->now += PS_PER_MS;
    engine_core_complete(e->core, e->now, &result, &e->messages);
    e->plans[0] = e->plans[1];
    e->plans_count--;
    small_check(e);
}

const struct step_plan *small_step(struct small_engine *e, uint32_t token)
{
    const struct step_plan *plan = small_submit(e);
    small_complete(e, token);
    return plan;
}

const struct engine_output *small_output(const struct small_engine *e, const char *id)
{
    for (uint32_t i = 0; i < e->messages.count; i++) {
        const struct engine_outputs *outputs = &e->messages.items[i].outputs;
        for (uint32_t j = 0; j < outputs->outputs_count; j++) {
            if (strcmp(outputs->outputs[j].id, id) == 0) {
                return &outputs->outputs[j];
            }
        }
    }
    return NULL;
}

bool small_reported(const struct small_engine *e, const char *id)
{
    for (uint32_t i = 0; i < e->messages.count; i++) {
        const struct engine_outputs *outputs = &e->messages.items[i].outputs;
        for (uint32_t j = 0; j < outputs->finished_ids_count; j++) {
            if (strcmp(outputs->finished_ids[j], id) == 0) {
                return true;
            }
        }
    }
    return false;
}

const struct scheduler_stats *small_stats(const struct small_engine *e)
{
    assert_true(e->messages.count > 0);
    return e->messages.items[0].outputs.stats;
}

void small_check(const struct small_engine *e)
{
    const char *broken = engine_core_check(e->core);
    if (broken != NULL) {
        fail_msg("%s", broken);
    }
}

void assert_plan(const struct step_plan *plan, const struct planned *want, uint32_t count)
{
    uint32_t tokens = 0;
    assert_int_equal(plan->seqs_count, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        assert_int_equal(seq->slot, want[i].slot);
        assert_int_equal(seq->computed_tokens, want[i].computed);
        assert_int_equal(seq->scheduled_tokens, want[i].scheduled);
        assert_int_equal((seq->flags & STEP_SEQ_SAMPLES) != 0, want[i].samples);
        tokens += want[i].scheduled;
    }
    assert_int_equal(plan->tokens_count, tokens);
}
