/*
 * tally_test.c - an engine core and its tally get the same random requests and go through the same
 * loop: every turn, plan, row, count and free block must be the same; steps that the tally calls
 * quiet are taken one by one by the engine core, and at once by the tally.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/random.h"
#include "engine/core/tally.h"

enum {
    CASES = 300,
    LOOPS = 500,
    SEQS_MAX = 12,
    DEPTH_MAX = 2
};

static const uint32_t zeros[SEQS_MAX];

struct pair {
    struct engine_core_options options;
    struct arena core_arena;
    struct arena tally_arena;
    struct engine_core *core;
    struct tally *tally;
    uint32_t sampled[DEPTH_MAX + 1]; /* of plans in flight, oldest first */
    uint32_t in_flight;
    uint64_t completed;
    uint64_t row; /* the tally says: nothing to see before this step */
    uint64_t skipped;
    uint64_t preemptions_count;
    uint64_t ended_waiting_count;
};

static struct engine_core_options draw_options(struct random *r)
{
    uint32_t block_tokens = (uint32_t)random_range(r, 1, 9);
    struct engine_core_options options = {
        .clients_count = (uint32_t)random_range(r, 1, 3),
        .requests_max = 3 * SEQS_MAX,
        .max_model_len = 200,
        .max_num_seqs = (uint32_t)random_range(r, 1, SEQS_MAX),
        .max_num_batched_tokens = (uint32_t)random_range(r, SEQS_MAX, 100),
        .num_gpu_blocks = 1 + (uint32_t)random_range(r, 200, 900) / block_tokens,
        .block_tokens = block_tokens,
        .chunked_prefill = true,
        .reserve_full_isl = random_range(r, 0, 1) == 1,
        .watermark = (double)random_range(r, 0, 1) * 0.05,
        .async_depth = (uint32_t)random_range(r, 1, DEPTH_MAX),
        .seed = 7,
    };
    if (random_range(r, 0, 3) == 0) {
        options.chunked_prefill = false;
        options.max_num_batched_tokens = 200 + (uint32_t)random_range(r, 0, 100);
    }
    return options;
}

static void open(struct pair *p, const struct engine_core_options *options)
{
    struct error error = {.text = ""};
    *p = (struct pair){.options = *options};
    assert_int_equal(arena_create(engine_core_arena_bytes(options), &p->core_arena, &error),
                     STATUS_OK);
    assert_int_equal(arena_create(tally_arena_bytes(options), &p->tally_arena, &error), STATUS_OK);
    if (engine_core_create(&p->core_arena, options, &p->core, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    tally_create(&p->tally_arena, options, &p->tally);
}

static void add(struct pair *p, struct random *r, uint32_t number, time_ps now)
{
    char id[16];
    struct error error;
    struct error other;
    (void)snprintf(id, sizeof id, "%u", number);
    struct tally_request counted = {
        .number = number,
        .prompt_tokens = (uint32_t)random_range(r, 1, random_range(r, 0, 1) == 0 ? 20 : 199),
        .max_tokens = (uint32_t)random_range(r, 1, random_range(r, 0, 2) == 0 ? 4 : 120),
        .client_index = (uint32_t)random_range(r, 0, p->options.clients_count - 1),
    };
    struct engine_request request = {
        .id = id,
        .prompt_tokens_count = counted.prompt_tokens,
        .prompt_hash = number,
        .sampling = {.max_tokens = counted.max_tokens, .eos_token_id = TOKEN_NONE, .n = 1},
        .client_index = counted.client_index,
    };
    enum status status = engine_core_add(p->core, &request, now, &error);
    if (status == STATUS_INVALID) {
        return; /* it would never fit */
    }
    assert_int_equal(tally_add(p->tally, &counted, now, &other), status);
    p->row = 0;
}

static void check_plan(struct pair *p, const struct step_plan *plan,
                       const struct tally_plan *counts)
{
    uint64_t contexts = 0;
    uint64_t attention_pairs = 0;
    uint32_t sampled = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        for (uint64_t k = 1; k <= seq->scheduled_tokens; k++) {
            attention_pairs += seq->computed_tokens + k;
        }
        contexts += seq->computed_tokens + seq->scheduled_tokens;
        sampled += (seq->flags & STEP_SEQ_SAMPLES) != 0 ? 1 : 0;
    }
    assert_int_equal(counts->seqs_count, plan->seqs_count);
    assert_int_equal(counts->tokens_count, plan->tokens_count);
    assert_int_equal(counts->blocks_count, plan->block_ids_count);
    assert_int_equal(counts->sampled_count, sampled);
    assert_int_equal(counts->kv_read_tokens, contexts);
    assert_int_equal(counts->attention_pairs, attention_pairs);
    assert_int_equal(counts->step, plan->step);
    p->sampled[p->in_flight++] = sampled;
}

static void check_stats(const struct scheduler_stats *a, const struct scheduler_stats *b)
{
    assert_int_equal(a->running_count, b->running_count);
    assert_int_equal(a->waiting_count, b->waiting_count);
    assert_int_equal(a->preemptions_count, b->preemptions_count);
    assert_memory_equal(&a->kv_cache_usage, &b->kv_cache_usage, sizeof a->kv_cache_usage);
}

static bool publish(struct pair *p)
{
    struct scheduler_stats stats;
    struct scheduler_stats counted;
    bool changed = engine_core_counts_changed(p->core, &stats);
    assert_int_equal(tally_counts_changed(p->tally, &counted), changed);
    if (changed) {
        check_stats(&stats, &counted);
    }
    return changed;
}

static struct engine_core_messages complete_core(struct pair *p)
{
    struct engine_core_messages messages;
    struct step_result result = {
        .step = ++p->completed, .tokens = zeros, .tokens_count = p->sampled[0]};
    engine_core_complete(p->core, 0, &result, &messages);
    p->in_flight--;
    memmove(p->sampled, p->sampled + 1, p->in_flight * sizeof p->sampled[0]);
    return messages;
}

/* The rows of one message, in order. */
static uint32_t check_rows(const struct pair *p, const struct engine_client_message *message,
                           const struct tally_result *result)
{
    uint32_t next = 0;
    uint32_t found = 0;
    for (uint32_t i = 0; i < message->outputs.outputs_count; i++) {
        const struct engine_output *o = &message->outputs.outputs[i];
        if (!o->first && o->finish == FINISH_NONE) {
            continue;
        }
        while (next < result->rows_count &&
               result->rows[next].client_index != message->client_index) {
            next++;
        }
        assert_true(next < result->rows_count);
        const struct tally_row *row = &result->rows[next++];
        char id[16];
        (void)snprintf(id, sizeof id, "%u", (uint32_t)row->number);
        assert_string_equal(o->id, id);
        assert_int_equal(row->first, o->first);
        assert_int_equal(row->last, o->finish == FINISH_LENGTH);
        if (o->first) {
            assert_int_equal(row->scheduled_at, o->scheduled_at);
            assert_int_equal(row->queued_at, o->queued_at);
            assert_int_equal(row->preemptions_count, o->preemptions_count);
        }
        found++;
    }
    (void)p;
    return found;
}

static void complete(struct pair *p)
{
    struct tally_result result;
    struct engine_core_messages messages = complete_core(p);
    uint32_t waiting = tally_waiting(p->tally);
    tally_complete(p->tally, &result);
    uint32_t found = 0;
    uint32_t finished = 0;
    uint32_t outputs = 0;
    for (uint32_t i = 0; i < messages.count; i++) {
        found += check_rows(p, &messages.items[i], &result);
        finished += messages.items[i].outputs.finished_ids_count;
        outputs += messages.items[i].outputs.outputs_count;
    }
    struct scheduler_stats counted;
    tally_stats(p->tally, &counted);
    check_stats(messages.items[0].outputs.stats, &counted);
    assert_int_equal(found, result.rows_count);
    assert_int_equal(finished, result.finished_count);
    assert_int_equal(outputs, result.plan->sampled_count);
    assert_int_equal(messages.count,
                     result.plan->clients_count > 0 ? result.plan->clients_count : 1);
    p->ended_waiting_count += tally_waiting(p->tally) < waiting ? 1 : 0;
    p->preemptions_count = counted.preemptions_count;
    if (result.rows_count > 0) {
        assert_true(p->row <= p->completed);
    }
}

/* Both wait for a result: as many quiet steps as `steps`, at most. */
static void skip_steps(struct pair *p, uint64_t steps)
{
    struct tally_quiet quiet;
    tally_quiet(p->tally, &quiet);
    steps = steps < quiet.steps_count ? steps : quiet.steps_count;
    for (uint64_t i = 0; i < steps; i++) {
        const struct step_plan *plan;
        struct scheduler_stats stats;
        struct engine_core_messages messages = complete_core(p);
        for (uint32_t k = 0; k < messages.count; k++) {
            assert_int_equal(messages.items[k].outputs.finished_ids_count, 0);
            for (uint32_t o = 0; o < messages.items[k].outputs.outputs_count; o++) {
                assert_false(messages.items[k].outputs.outputs[o].first);
            }
        }
        assert_false(engine_core_counts_changed(p->core, &stats));
        assert_int_equal(engine_core_turn(p->core, 0, &plan), ENGINE_TURN_SUBMIT);
        uint64_t step = quiet.next_step + i;
        struct tally_plan counts = {
            .step = step,
            .seqs_count = quiet.seqs_count,
            .tokens_count = quiet.seqs_count,
            .sampled_count = quiet.seqs_count,
            .blocks_count = quiet.step_blocks[step % p->options.block_tokens],
            .kv_read_tokens = quiet.kv_read_tokens + i * quiet.seqs_count,
            .attention_pairs = quiet.kv_read_tokens + i * quiet.seqs_count,
        };
        check_plan(p, plan, &counts);
        assert_int_equal(engine_core_turn(p->core, 0, &plan), ENGINE_TURN_AWAIT);
    }
    tally_advance(p->tally, steps);
    p->skipped += steps;
    assert_null(tally_check(p->tally));
}

/* One turn of the loop of engine_core.h, input excepted. */
static void turn(struct pair *p, struct random *r, time_ps now)
{
    const struct step_plan *plan;
    const struct tally_plan *counts;
    (void)publish(p);
    assert_int_equal(tally_has_work(p->tally), engine_core_has_work(p->core));
    for (bool more = engine_core_has_work(p->core); more;) {
        enum engine_turn what = engine_core_turn(p->core, now, &plan);
        assert_int_equal(tally_turn(p->tally, now, &counts), what);
        if (what == ENGINE_TURN_SUBMIT) {
            check_plan(p, plan, counts);
            continue;
        }
        if (what == ENGINE_TURN_AWAIT) {
            uint64_t row = tally_next_row(p->tally);
            p->row = row > p->row ? row : p->row;
            if (random_range(r, 0, 1) == 0) {
                skip_steps(p, (uint64_t)random_range(r, 1, 40));
            }
            complete(p);
        }
        more = false;
    }
    if (publish(p)) {
        assert_true(p->row <= p->completed);
    }
    assert_int_equal(tally_waiting(p->tally), engine_core_waiting(p->core));
    assert_int_equal(tally_unfinished(p->tally), engine_core_unfinished(p->core));
}

static void check(const struct pair *p)
{
    const char *broken = tally_check(p->tally);
    if (broken != NULL) {
        fail_msg("%s", broken);
    }
}

struct seen {
    uint64_t skipped;
    uint64_t preemptions_count;
    uint64_t ended_waiting_count;
};

static void run_case(uint64_t number, struct seen *seen)
{
    struct random r = random_stream(5, "tally", number);
    struct engine_core_options options = draw_options(&r);
    struct pair p;
    int64_t rare = random_range(&r, 1, 40);
    open(&p, &options);
    for (uint32_t loop = 0; loop < LOOPS; loop++) {
        time_ps now = loop;
        if (loop < LOOPS / 2 || random_range(&r, 0, 10) > 0) {
            for (int64_t n = random_range(&r, 0, rare); n == 0; n = random_range(&r, 0, 3)) {
                add(&p, &r, loop * 100 + (uint32_t)random_range(&r, 0, 99), now);
            }
        }
        turn(&p, &r, now);
        check(&p);
    }
    seen->skipped += p.skipped;
    seen->preemptions_count += p.preemptions_count;
    seen->ended_waiting_count += p.ended_waiting_count;
    arena_destroy(&p.core_arena);
    arena_destroy(&p.tally_arena);
}

static void counts_are_those_of_an_engine_core(void **state)
{
    (void)state;
    struct seen seen = {0};
    for (uint64_t i = 0; i < CASES; i++) {
        run_case(i, &seen);
    }
    print_message("%llu steps at once, %llu preemptions, %llu ended while they waited\n",
                  (unsigned long long)seen.skipped, (unsigned long long)seen.preemptions_count,
                  (unsigned long long)seen.ended_waiting_count);
    assert_true(seen.skipped > 10000);
    assert_true(seen.preemptions_count > 100);
    assert_true(seen.ended_waiting_count > 0);
}

static void what_does_not_fit_is_not_taken(void **state)
{
    (void)state;
    struct random r = random_stream(5, "tally", 0);
    struct engine_core_options options = draw_options(&r);
    assert_true(tally_fits(&options));
    options.prefix_caching = true;
    assert_false(tally_fits(&options));
    options.prefix_caching = false;
    options.policy = POLICY_PRIORITY;
    assert_false(tally_fits(&options));
    options.policy = POLICY_FCFS;
    options.long_prefill_token_threshold = 10;
    assert_false(tally_fits(&options));
    options.long_prefill_token_threshold = 0;
    options.pipeline_stages = 2;
    assert_false(tally_fits(&options));
    options.pipeline_stages = 1;
    options.wave.ranks_count = 2;
    assert_false(tally_fits(&options));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_those_of_an_engine_core),
        cmocka_unit_test(what_does_not_fit_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
