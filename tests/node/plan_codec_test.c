/*
 * plan_codec_test.c - plans and results survive the trip, and every truncation and every changed
 * word of an encoded plan is either refused or decodes to something inside its bytes (address
 * sanitizer watches).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/node/plan_codec.h"

enum {
    SLOTS = 64
};

static const struct step_seq seqs[] = {
    {.slot = 3,
     .scheduled_tokens = 5,
     .flags = STEP_SEQ_NEW | STEP_SEQ_SAMPLES,
     .sample_key = 0x123456789abcdef0,
     .position = 0,
     .blocks_first = 0,
     .blocks_count = 2,
     .tokens_first = 0,
     .tokens_count = 5},
    {.slot = 63,
     .computed_tokens = 99,
     .scheduled_tokens = 1,
     .blocks_first = 2,
     .blocks_count = 1},
    {.slot = 0, .computed_tokens = 7, .scheduled_tokens = 1, .position = 8},
};
static const uint32_t blocks[] = {11, 12, 13};
static const uint32_t tokens[] = {101, 102, 103, 104, 105};
static const uint32_t finished[] = {9, 62};

static const struct step_plan sample = {
    .step = 1ULL << 40,
    .seqs = seqs,
    .seqs_count = 3,
    .tokens_count = 7,
    .block_ids = blocks,
    .block_ids_count = 3,
    .token_ids = tokens,
    .token_ids_count = 5,
    .finished_slots = finished,
    .finished_slots_count = 2,
};

/* In a block of exactly its size, so that reading past it is caught. */
static void *encode(const struct step_plan *plan, size_t *bytes)
{
    *bytes = plan_encoded_bytes(plan);
    void *data = malloc(*bytes);
    assert_non_null(data);
    plan_encode(plan, data);
    return data;
}

static void plan_survives_the_trip(void **state)
{
    (void)state;
    size_t bytes = 0;
    void *data = encode(&sample, &bytes);
    struct step_plan plan;
    assert_int_equal(plan_decode(data, bytes, SLOTS, &plan, NULL), STATUS_OK);
    assert_int_equal(plan.step, sample.step);
    assert_int_equal(plan.seqs_count, 3);
    assert_int_equal(plan.tokens_count, 7);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(plan.seqs[i].slot, seqs[i].slot);
        assert_int_equal(plan.seqs[i].computed_tokens, seqs[i].computed_tokens);
        assert_int_equal(plan.seqs[i].sample_key, seqs[i].sample_key);
        assert_int_equal(plan.seqs[i].position, seqs[i].position);
        assert_int_equal(plan.seqs[i].flags, seqs[i].flags);
    }
    assert_int_equal(plan.block_ids_count, 3);
    assert_memory_equal(plan.block_ids, blocks, sizeof blocks);
    assert_int_equal(plan.token_ids_count, 5);
    assert_memory_equal(plan.token_ids, tokens, sizeof tokens);
    assert_int_equal(plan.finished_slots_count, 2);
    assert_memory_equal(plan.finished_slots, finished, sizeof finished);
    free(data);

    static const struct step_plan empty = {.step = 5};
    data = encode(&empty, &bytes);
    assert_int_equal(plan_decode(data, bytes, SLOTS, &plan, NULL), STATUS_OK);
    assert_int_equal(plan.step, 5);
    assert_int_equal(plan.seqs_count + plan.finished_slots_count, 0);
    free(data);
}

static void an_agreement_travels_with_the_plan(void **state)
{
    (void)state;
    size_t bytes = 0;
    void *data = encode(&sample, &bytes);
    struct step_plan plan;
    struct device_lockstep got = {.tokens = 99};
    const struct device_lockstep agreed = {.tokens = 16, .all_tokens = 48, .graphs = true};
    assert_false(plan_decode_agreed(data, &got));
    plan_encode_agreed(data, &agreed);
    assert_int_equal(plan_decode(data, bytes, SLOTS, &plan, NULL), STATUS_OK);
    assert_int_equal(plan.tokens_count, 7);
    assert_true(plan_decode_agreed(data, &got));
    assert_int_equal(got.tokens, 16);
    assert_int_equal(got.all_tokens, 48);
    assert_true(got.graphs);
    free(data);
}

static void every_other_length_is_refused(void **state)
{
    (void)state;
    size_t whole = 0;
    unsigned char *data = encode(&sample, &whole);
    for (size_t bytes = 0; bytes < whole; bytes++) {
        void *cut = malloc(bytes + 1);
        assert_non_null(cut);
        memcpy(cut, data, bytes);
        struct step_plan plan;
        struct error error;
        assert_int_equal(plan_decode(cut, bytes, SLOTS, &plan, &error), STATUS_PROTOCOL);
        free(cut);
    }
    free(data);
}

/* Reads all that the plan claims to hold. */
static uint64_t sum_of(const struct step_plan *plan)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *s = &plan->seqs[i];
        for (uint32_t b = 0; b < s->blocks_count; b++) {
            sum += plan->block_ids[s->blocks_first + b];
        }
        for (uint32_t t = 0; t < s->tokens_count; t++) {
            sum += plan->token_ids[s->tokens_first + t];
        }
        assert_in_range(s->slot, 0, SLOTS - 1);
    }
    for (uint32_t i = 0; i < plan->finished_slots_count; i++) {
        assert_in_range(plan->finished_slots[i], 0, SLOTS - 1);
    }
    return sum;
}

static void changed_words_stay_inside(void **state)
{
    (void)state;
    static const uint32_t values[] = {0, 1, 4, 63, 64, 0x7fffffff, 0x80000000, UINT32_MAX};
    size_t bytes = 0;
    unsigned char *data = encode(&sample, &bytes);
    uint32_t refused = 0;
    uint64_t sum = 0;
    for (size_t at = 0; at + 4 <= bytes; at += 4) {
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            uint32_t saved;
            struct step_plan plan;
            memcpy(&saved, data + at, sizeof saved);
            memcpy(data + at, &values[v], sizeof saved);
            if (plan_decode(data, bytes, SLOTS, &plan, NULL) == STATUS_OK) {
                sum += sum_of(&plan);
            } else {
                refused++;
            }
            memcpy(data + at, &saved, sizeof saved);
        }
    }
    assert_true(refused > 50 && sum > 0);
    free(data);
}

static void each_fault_is_refused(void **state)
{
    (void)state;
    struct step_seq bad[3];
    struct step_plan plan = sample;
    struct step_plan out;
    size_t bytes = 0;
    plan.seqs = bad;
    for (int fault = 0; fault < 5; fault++) {
        memcpy(bad, seqs, sizeof bad);
        plan.tokens_count = 7;
        if (fault == 0) {
            bad[1].slot = SLOTS;
        } else if (fault == 1) {
            bad[1].blocks_first = 3;
        } else if (fault == 2) {
            bad[0].tokens_count = 6;
        } else if (fault == 3) {
            plan.tokens_count = 8;
        } else {
            bad[0].blocks_first = UINT32_MAX; /* first + count wraps round to 1 */
        }
        void *data = encode(&plan, &bytes);
        assert_int_equal(plan_decode(data, bytes, SLOTS, &out, NULL), STATUS_PROTOCOL);
        free(data);
    }
    void *data = encode(&sample, &bytes);
    assert_int_equal(plan_decode(data, bytes, SLOTS - 2, &out, NULL), STATUS_PROTOCOL);
    free(data);
}

static void result_survives_the_trip(void **state)
{
    (void)state;
    struct step_result result = {.step = 77, .tokens = tokens, .tokens_count = 5};
    struct step_result out;
    size_t bytes = result_encoded_bytes(&result);
    void *data = malloc(bytes);
    assert_non_null(data);
    result_encode(&result, data);
    assert_int_equal(result_decode(data, bytes, 5, &out, NULL), STATUS_OK);
    assert_int_equal(out.step, 77);
    assert_int_equal(out.tokens_count, 5);
    assert_memory_equal(out.tokens, tokens, sizeof tokens);
    assert_int_equal(result_decode(data, bytes, 4, &out, NULL), STATUS_PROTOCOL);
    for (size_t cut = 0; cut < bytes; cut++) {
        assert_int_equal(result_decode(data, cut, 5, &out, NULL), STATUS_PROTOCOL);
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_survives_the_trip),
        cmocka_unit_test(an_agreement_travels_with_the_plan),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(changed_words_stay_inside),
        cmocka_unit_test(each_fault_is_refused),
        cmocka_unit_test(result_survives_the_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
