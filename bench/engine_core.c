/*
 * engine_core.c - how many requests a second one core carries through engine/core/engine_core,
 * without any device: the scheduler's own cost. The ceiling beside it is the least any scheduler
 * that looks at every running sequence in each step can cost: a loop over an array that counts the
 * sequences' tokens up and replaces those that end.
 *
 *     ./dev bench engine_core
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/core/engine_core.h"

enum {
    PROMPT_TOKENS = 512,
    OUTPUT_TOKENS = 256,
    REQUESTS = 10000,
    MODEL_LEN = 1024,
    IDS_BYTES = 16
};

static double now_s(void)
{
    return (double)clock_now_ns() / 1e9;
}

static void add(struct engine_core *core, uint32_t number)
{
    char id[IDS_BYTES];
    struct error error;
    (void)snprintf(id, sizeof id, "r%u", number);
    struct engine_request request = {
        .id = id,
        .prompt_tokens_count = PROMPT_TOKENS,
        .prompt_hash = number,
        .sampling = {.max_tokens = OUTPUT_TOKENS, .eos_token_id = TOKEN_NONE, .n = 1},
        .data_parallel_rank = RANK_NONE,
    };
    enum status status = engine_core_add(core, &request, 0, &error);
    ASSERT(status == STATUS_OK);
}

/* Keeps `seqs` running and as many waiting until all requests went through. */
static double requests_per_s(uint32_t seqs)
{
    struct arena arena;
    struct error error;
    struct engine_core *core;
    struct engine_core_options options = {
        .clients_count = 1,
        .requests_max = seqs * 4,
        .max_model_len = MODEL_LEN,
        .max_num_seqs = seqs,
        .max_num_batched_tokens = 8192,
        .num_gpu_blocks = seqs * (MODEL_LEN / 16) + 1,
        .block_tokens = 16,
        .prefix_caching = true,
        .chunked_prefill = true,
        .reserve_full_isl = true,
        .async_depth = 2,
    };
    uint32_t *tokens = calloc(seqs, sizeof *tokens);
    enum status status = arena_create(engine_core_arena_bytes(&options), &arena, &error);
    ASSERT(status == STATUS_OK && tokens != NULL);
    status = engine_core_create(&arena, &options, &core, &error);
    ASSERT(status == STATUS_OK);
    uint64_t in_flight[16] = {0};
    uint32_t samples[16] = {0};
    uint64_t submitted = 0;
    uint64_t completed = 0;
    uint32_t added = 0;
    double start = now_s();
    while (added < REQUESTS || engine_core_has_work(core)) {
        while (added < REQUESTS && engine_core_unfinished(core) < seqs * 2) {
            add(core, added++);
        }
        const struct step_plan *plan;
        struct engine_core_messages messages;
        switch (engine_core_turn(core, 0, &plan)) {
        case ENGINE_TURN_SUBMIT:
            samples[submitted % 16] = 0;
            for (uint32_t i = 0; i < plan->seqs_count; i++) {
                samples[submitted % 16] += (plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0;
            }
            in_flight[submitted++ % 16] = plan->step;
            break;
        case ENGINE_TURN_AWAIT: {
            struct step_result result = {.step = in_flight[completed % 16],
                                         .tokens = tokens,
                                         .tokens_count = samples[completed % 16]};
            completed++;
            engine_core_complete(core, 0, &result, &messages);
            break;
        }
        case ENGINE_TURN_DONE:
            break;
        }
    }
    double elapsed = now_s() - start;
    arena_destroy(&arena);
    free(tokens);
    return REQUESTS / elapsed;
}

static double ceiling_requests_per_s(uint32_t seqs)
{
    volatile uint32_t *left = calloc(seqs, sizeof *left);
    ASSERT(left != NULL);
    uint64_t done = 0;
    for (uint32_t i = 0; i < seqs; i++) {
        left[i] = 1 + i * OUTPUT_TOKENS / seqs;
    }
    double start = now_s();
    while (done < REQUESTS) {
        for (uint32_t i = 0; i < seqs; i++) {
            left[i] -= 1;
            if (left[i] == 0) {
                left[i] = OUTPUT_TOKENS;
                done++;
            }
        }
    }
    double elapsed = now_s() - start;
    free((void *)(uintptr_t)left);
    return (double)done / elapsed;
}

int main(void)
{
    static const uint32_t sizes[] = {40, 256, 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        double rate = requests_per_s(sizes[i]);
        double ceiling = ceiling_requests_per_s(sizes[i]);
        (void)printf("engine_core seqs=%u requests_per_s=%.0f steps_tokens_per_s=%.0f "
                     "ceiling_requests_per_s=%.0f\n",
                     sizes[i], rate, rate * OUTPUT_TOKENS, ceiling);
    }
    return 0;
}
