/*
 * quiet_test.c - quiet steps, taken at once and one by one: two engine cores get the same random
 * requests, one goes through every step, the other skips what engine_core_quiet() says. Each step
 * that was skipped must have been as foretold, and all others must be equal in every sequence,
 * block and message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/random.h"
#include "engine/core/engine_core.h"

enum {
    CASES = 150,
    LOOPS = 400,
    SEQS_MAX = 12
};

/* What the last turn of the loop did. */
struct driven {
    struct arena arena;
    struct engine_core *core;
    uint32_t sampled[2]; /* of plans in flight, oldest first */
    uint32_t in_flight;
    uint64_t step; /* completed */
    uint64_t hash;
    struct engine_core_messages messages;
    uint32_t planned_seqs;
    uint32_t planned_tokens;
    uint32_t planned_blocks;
    uint64_t planned_computed;
    uint32_t plans_count;
    bool completed;
    bool published;
};

static const uint32_t zeros[SEQS_MAX];

static void note(struct driven *d, uint64_t value)
{
    d->hash = random_at(d->hash ^ value, 2);
}

static void note_plan(struct driven *d, const struct step_plan *plan)
{
    d->planned_seqs = plan->seqs_count;
    d->planned_tokens = plan->tokens_count;
    d->planned_blocks = plan->block_ids_count;
    d->planned_computed = 0;
    d->plans_count++;
    d->sampled[d->in_flight] = 0;
    note(d, plan->step);
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        d->planned_computed += seq->computed_tokens;
        d->sampled[d->in_flight] += (seq->flags & STEP_SEQ_SAMPLES) != 0 ? 1 : 0;
        note(d, (uint64_t)seq->slot << 32 | seq->computed_tokens);
        note(d, (uint64_t)seq->scheduled_tokens << 32 | seq->flags);
        note(d, (uint64_t)seq->position << 32 | seq->blocks_first);
        note(d, seq->sample_key ^ seq->blocks_count);
    }
    for (uint32_t i = 0; i < plan->block_ids_count; i++) {
        note(d, plan->block_ids[i]);
    }
    for (uint32_t i = 0; i < plan->finished_slots_count; i++) {
        note(d, plan->finished_slots[i]);
    }
    d->in_flight++;
}

static void note_messages(struct driven *d)
{
    for (uint32_t i = 0; i < d->messages.count; i++) {
        const struct engine_outputs *outputs = &d->messages.items[i].outputs;
        note(d, (uint64_t)d->messages.items[i].client_index << 32 | outputs->outputs_count);
        for (uint32_t k = 0; k < outputs->outputs_count; k++) {
            const struct engine_output *o = &outputs->outputs[k];
            note(d, (uint64_t)o->id[0] << 32 | (uint64_t)o->id[1] << 16 | (uint64_t)o->id[2]);
            note(d, (uint64_t)o->finish << 32 | o->preemptions_count);
            note(d, o->first ? o->prefill.cached_tokens + 1U : 0);
        }
        note(d, outputs->finished_ids_count);
        if (outputs->stats != NULL) {
            note(d, (uint64_t)outputs->stats->running_count << 32 | outputs->stats->waiting_count);
            note(d, (uint64_t)(outputs->stats->kv_cache_usage * 1e9));
            note(d, outputs->stats->prefix_cache.hits_tokens);
            note(d, outputs->stats->preemptions_count);
        }
    }
}

static void publish(struct driven *d)
{
    struct scheduler_stats stats;
    if (engine_core_counts_changed(d->core, &stats)) {
        d->published = true;
        note(d, (uint64_t)stats.running_count << 32 | stats.waiting_count);
    }
}

/* One turn of the loop of engine_core.h, input excepted. */
static void turn(struct driven *d)
{
    const struct step_plan *plan;
    d->plans_count = 0;
    d->completed = false;
    d->published = false;
    publish(d);
    for (bool more = engine_core_has_work(d->core); more;) {
        struct step_result result = {.tokens = zeros};
        switch (engine_core_turn(d->core, 0, &plan)) {
        case ENGINE_TURN_SUBMIT:
            note_plan(d, plan);
            break;
        case ENGINE_TURN_AWAIT:
            result.step = ++d->step;
            result.tokens_count = d->sampled[0];
            d->sampled[0] = d->sampled[1];
            d->in_flight--;
            engine_core_complete(d->core, 0, &result, &d->messages);
            d->completed = true;
            note_messages(d);
            more = false;
            break;
        case ENGINE_TURN_DONE:
            more = false;
            break;
        }
    }
    publish(d);
}

static struct engine_core_options draw_options(struct random *r)
{
    uint32_t block_tokens = (uint32_t)random_range(r, 1, 9);
    return (struct engine_core_options){
        .clients_count = (uint32_t)random_range(r, 1, 3),
        .requests_max = 3 * SEQS_MAX,
        .max_model_len = 200,
        .max_num_seqs = (uint32_t)random_range(r, 1, SEQS_MAX),
        .max_num_batched_tokens = (uint32_t)random_range(r, SEQS_MAX, 100),
        .num_gpu_blocks = 1 + (uint32_t)random_range(r, 200, 800) / block_tokens,
        .block_tokens = block_tokens,
        .prefix_caching = random_range(r, 0, 1) == 1,
        .chunked_prefill = true,
        .reserve_full_isl = random_range(r, 0, 1) == 1,
        .async_depth = (uint32_t)random_range(r, 1, 2),
        .policy = random_range(r, 0, 1) == 0 ? POLICY_FCFS : POLICY_PRIORITY,
        .seed = 7,
    };
}

static void add(struct driven *d, const char *id, struct random r)
{
    struct error error;
    struct engine_request request = {
        .id = id,
        .prompt_tokens_count = (uint32_t)random_range(&r, 1, 80),
        .prompt_hash = (uint64_t)random_range(&r, 1, 4),
        .sampling = {.max_tokens = (uint32_t)random_range(&r, 1, 100),
                     .eos_token_id = TOKEN_NONE,
                     .n = 1},
        .client_index = 0,
        .priority = (int32_t)random_range(&r, 0, 2),
    };
    request.client_index = (uint32_t)random_range(&r, 0, 2);
    note(d, (uint64_t)engine_core_add(d->core, &request, 0, &error));
}

/* The steps that `ahead` skips, one by one. */
static void skip_steps(struct driven *each, struct driven *ahead,
                       const struct engine_core_quiet *quiet, uint64_t steps, uint32_t block_tokens)
{
    uint64_t hash = each->hash;
    for (uint64_t i = 0; i < steps; i++) {
        turn(each);
        assert_int_equal(each->plans_count, 1);
        assert_true(each->completed && !each->published);
        assert_int_equal(each->planned_seqs, quiet->seqs_count);
        assert_int_equal(each->planned_tokens, quiet->seqs_count);
        assert_int_equal(each->planned_blocks, quiet->blocks[i % block_tokens]);
        assert_int_equal(each->planned_computed, quiet->computed_tokens + i * quiet->seqs_count);
        assert_int_equal(each->messages.count, quiet->clients_count);
        uint32_t outputs = 0;
        for (uint32_t k = 0; k < each->messages.count; k++) {
            const struct engine_outputs *message = &each->messages.items[k].outputs;
            assert_int_equal(message->finished_ids_count, 0);
            outputs += message->outputs_count;
        }
        assert_int_equal(outputs, quiet->seqs_count);
    }
    each->hash = hash;
    engine_core_advance(ahead->core, steps);
    ahead->step += steps;
    assert_int_equal(each->step, ahead->step);
}

static void open(struct driven *d, const struct engine_core_options *options)
{
    struct error error = {.text = ""};
    *d = (struct driven){.hash = 1};
    assert_int_equal(arena_create(engine_core_arena_bytes(options), &d->arena, &error), STATUS_OK);
    if (engine_core_create(&d->arena, options, &d->core, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static void check(const struct driven *d)
{
    const char *broken = engine_core_check(d->core);
    if (broken != NULL) {
        fail_msg("%s", broken);
    }
}

/* Steps skipped. */
static uint64_t run_case(uint64_t number)
{
    struct random r = random_stream(5, "quiet", number);
    struct engine_core_options options = draw_options(&r);
    struct driven each;
    struct driven ahead;
    uint64_t skipped = 0;
    uint32_t rare = (uint32_t)random_range(&r, 1, 60);
    char id[16] = "";
    open(&each, &options);
    open(&ahead, &options);
    for (uint32_t loop = 0; loop < LOOPS; loop++) {
        struct engine_core_quiet quiet;
        if (random_range(&r, 0, rare) == 0) {
            (void)snprintf(id, sizeof id, "%03u", loop);
            struct random draw = random_stream(6, "request", number * LOOPS + loop);
            add(&each, id, draw);
            add(&ahead, id, draw);
        }
        if (id[0] != '\0' && random_range(&r, 0, 40) == 0) {
            engine_core_abort(each.core, id);
            engine_core_abort(ahead.core, id);
        }
        engine_core_quiet(ahead.core, &quiet);
        if (quiet.steps_count > 0) {
            uint64_t steps = (uint64_t)random_range(&r, 1, (int64_t)quiet.steps_count);
            skip_steps(&each, &ahead, &quiet, steps, options.block_tokens);
            skipped += steps;
        } else {
            turn(&each);
            turn(&ahead);
        }
        assert_true(each.hash == ahead.hash);
        check(&each);
        check(&ahead);
    }
    arena_destroy(&each.arena);
    arena_destroy(&ahead.arena);
    return skipped;
}

static void skipped_steps_leave_the_same_state(void **state)
{
    (void)state;
    uint64_t skipped = 0;
    for (uint64_t i = 0; i < CASES; i++) {
        skipped += run_case(i);
    }
    print_message("%llu steps skipped\n", (unsigned long long)skipped);
    assert_true(skipped > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(skipped_steps_leave_the_same_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
