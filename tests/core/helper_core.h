/* helper_core.h - a small engine core for tests that work cases out by hand: one call a step,
 * tokens given by the test. */
#ifndef TESTS_CORE_HELPER_CORE_H
#define TESTS_CORE_HELPER_CORE_H

#include "engine/core/engine_core.h"

struct small_engine {
    struct arena arena;
    struct engine_core *core;
    time_ps now;
    const struct step_plan *plans[2]; /* submitted, oldest first */
    uint32_t plans_count;
    struct engine_core_messages messages; /* of the last completed step */
};

/* Blocks of 4 tokens, 32 of them, 8 sequences, budget 64, length 64, chunked, no caching, depth 1,
 * FCFS. */
struct engine_core_options small_options(void);
void small_open(struct small_engine *e, const struct engine_core_options *options);
void small_close(struct small_engine *e);
/* A request with the prompt first, first + 1, ... that ignores the end of sequence. */
struct engine_request small_request(const char *id, uint32_t first, uint32_t prompt_tokens_count,
                                    uint32_t max_tokens);
void small_add(struct small_engine *e, const char *id, uint32_t prompt_tokens_count,
               uint32_t max_tokens);
/* Turns until a plan comes, which must; it is submitted. */
const struct step_plan *small_submit(struct small_engine *e);
/* The engine must ask for a result; the oldest plan samples `token` everywhere. */
void small_complete(struct small_engine *e, uint32_t token);
/* One step at depth 1; the plan stays readable until the next. */
const struct step_plan *small_step(struct small_engine *e, uint32_t token);
/* The output of `id` in the last messages, NULL if none. */
const struct engine_output *small_output(const struct small_engine *e, const char *id);
/* True if the last messages report the end of `id`. */
bool small_reported(const struct small_engine *e, const char *id);
const struct scheduler_stats *small_stats(const struct small_engine *e);
/* The invariants hold. */
void small_check(const struct small_engine *e);

/* A plan as (slot, computed, scheduled, samples) for each sequence. */
struct planned {
    uint32_t slot;
    uint32_t computed;
    uint32_t scheduled;
    bool samples;
};
void assert_plan(const struct step_plan *plan, const struct planned *want, uint32_t count);
#define ASSERT_PLAN(plan, ...)                                 \
    assert_plan((plan), (const struct planned[]){__VA_ARGS__}, \
                sizeof((const struct planned[]){__VA_ARGS__}) / sizeof(struct planned))

#endif
