/*
 * engine_queue_test.c - the queues inside an engine core: order under several writers, the
 * high-water mark, waits that end, and items that own everything they point to. Copies are compared
 * by their wire encoding with that of the original, whose memory is overwritten in between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/node/engine_queue.h"
#include "engine/wire/wire.h"

enum {
    WRITERS = 4,
    ITEMS_EACH = 2000,
    SHORT_NS = 20000000,
    LONG_NS = 2000000000, /* never waited for in full */
};

static void free_list(struct queue_item *item)
{
    while (item != NULL) {
        struct queue_item *next = item->next;
        free(item);
        item = next;
    }
}

static void items_come_in_order_and_all_at_once(void **state)
{
    (void)state;
    struct queue q;
    queue_init(&q);
    assert_null(queue_take_all(&q, 0));
    assert_int_equal(queue_count_max(&q), 0);
    queue_push(&q, queue_item_abort("a"));
    queue_push(&q, queue_item_plain(ITEM_FAILED));
    queue_push(&q, queue_item_abort("c"));
    assert_int_equal(queue_count_max(&q), 3);
    struct queue_item *items = queue_take_all(&q, LONG_NS);
    assert_int_equal(items->kind, ITEM_ABORT);
    assert_string_equal(items->as.abort_id, "a");
    assert_int_equal(items->next->kind, ITEM_FAILED);
    assert_string_equal(items->next->next->as.abort_id, "c");
    assert_null(items->next->next->next);
    assert_null(queue_take_all(&q, 0));
    queue_push(&q, queue_item_plain(ITEM_DEAD));
    struct queue_item *last = queue_take_all(&q, 0);
    assert_int_equal(last->kind, ITEM_DEAD);
    assert_null(last->next);
    assert_int_equal(queue_count_max(&q), 3);
    free_list(items);
    free_list(last);
}

/* An item waits from the moment it was pushed until its reader says that its turn has come. */
static void waits_begin_with_the_push(void **state)
{
    (void)state;
    struct queue q;
    queue_init(&q);
    int64_t before_ns = clock_now_ns();
    queue_push(&q, queue_item_plain(ITEM_DEAD));
    int64_t after_ns = clock_now_ns();
    struct queue_item *item = queue_take_all(&q, 0);
    assert_in_range(queue_waited_ns(item, after_ns + 1000), 1000, after_ns - before_ns + 1000);
    assert_int_equal(queue_waited_ns(item, before_ns - 1), 0);
    free_list(item);
}

static void an_empty_wait_ends(void **state)
{
    (void)state;
    struct queue q;
    queue_init(&q);
    int64_t begin_ns = clock_now_ns();
    assert_null(queue_take_all(&q, SHORT_NS));
    assert_true(clock_now_ns() - begin_ns >= SHORT_NS);
}

struct writer {
    pthread_t thread;
    struct queue *queue;
    uint32_t index;
};

static void *write_items(void *context)
{
    const struct writer *w = context;
    for (uint64_t i = 0; i < ITEMS_EACH; i++) {
        struct utility_call call = {
            .client_index = w->index, .call_id = i, .method = "get_supported_tasks"};
        queue_push(w->queue, queue_item_utility(&call));
    }
    return NULL;
}

/* Each writer's items arrive once each and in its order, and a reader that waits is woken. */
static void writers_do_not_lose_items(void **state)
{
    (void)state;
    struct queue q;
    struct writer writers[WRITERS];
    uint64_t next[WRITERS] = {0};
    queue_init(&q);
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.queue = &q, .index = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_items, &writers[i]), 0);
    }
    uint64_t seen = 0;
    uint64_t most = 0;
    while (seen < (uint64_t)WRITERS * ITEMS_EACH) {
        uint64_t taken = 0;
        struct queue_item *items = queue_take_all(&q, (int64_t)10 * LONG_NS);
        assert_non_null(items);
        for (struct queue_item *item = items; item != NULL; item = item->next) {
            assert_int_equal(item->kind, ITEM_UTILITY);
            assert_in_range(item->as.utility.client_index, 0, WRITERS - 1);
            assert_int_equal(item->as.utility.call_id, next[item->as.utility.client_index]++);
            assert_string_equal(item->as.utility.method, "get_supported_tasks");
            taken++;
        }
        seen += taken;
        most = taken > most ? taken : most;
        free_list(items);
    }
    for (uint32_t i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        assert_int_equal(next[i], ITEMS_EACH);
    }
    assert_null(queue_take_all(&q, 0));
    assert_in_range(queue_count_max(&q), most, (uint64_t)WRITERS * ITEMS_EACH);
}

/* ---- deep copies ---- */

static void assert_same_bytes(struct wire_buffer *want, struct wire_buffer *got)
{
    assert_int_equal(got->bytes, want->bytes);
    assert_memory_equal(got->data, want->data, want->bytes);
    wire_buffer_free(want);
    wire_buffer_free(got);
}

static void check_request(uint32_t tokens, const char *salt)
{
    char id[64] = "cmpl-0-17-0000002a";
    char external[64] = "cmpl-0-17";
    char salt_copy[32] = "";
    uint32_t prompt[40];
    for (uint32_t i = 0; i < 40; i++) {
        prompt[i] = i * i;
    }
    if (salt != NULL) {
        (void)strncpy(salt_copy, salt, sizeof salt_copy - 1);
    }
    struct engine_request request = {
        .id = id,
        .prompt_token_ids = prompt,
        .prompt_tokens_count = tokens,
        .prompt_hash = 99,
        .sampling = {.max_tokens = 7, .eos_token_id = TOKEN_NONE, .n = 1, .top_p = 1.0F},
        .cache_salt = salt != NULL ? salt_copy : NULL,
        .data_parallel_rank = RANK_NONE,
        .client_index = 3,
        .external_id = external,
    };
    struct wire_buffer want = {0};
    struct wire_buffer got = {0};
    wire_encode_request(&want, &request);
    struct queue_item *item = queue_item_request(&request);
    memset(id, 'x', sizeof id - 1);
    memset(external, 'x', sizeof external - 1);
    memset(salt_copy, 'x', sizeof salt_copy - 1);
    memset(prompt, 0xff, sizeof prompt);
    assert_int_equal(item->kind, ITEM_ADD);
    assert_int_equal(item->as.request.prompt_hash, 99);
    wire_encode_request(&got, &item->as.request);
    assert_same_bytes(&want, &got);
    free(item);
}

static void requests_are_copied_deeply(void **state)
{
    (void)state;
    check_request(1, NULL);
    check_request(39, "salt");
    check_request(40, "");
    check_request(7, "1234567"); /* with its NUL exactly one word */
}

struct texts {
    char ids[3][24];
    uint32_t tokens[3][5];
};

static void fill_texts(struct texts *t)
{
    for (uint32_t i = 0; i < 3; i++) {
        (void)strcpy(t->ids[i], "request-0");
        t->ids[i][8] = (char)('0' + i);
        for (uint32_t k = 0; k < 5; k++) {
            t->tokens[i][k] = 1000 * i + k;
        }
    }
}

/* 0..3 outputs, 0..2 finished ids, with and without statistics; a message is never empty. */
static void outputs_are_copied_deeply(void **state)
{
    (void)state;
    for (uint32_t variant = 0; variant < 24; variant++) {
        struct texts t;
        fill_texts(&t);
        struct engine_output rows[3];
        for (uint32_t i = 0; i < 3; i++) {
            rows[i] = (struct engine_output){
                .id = t.ids[i],
                .new_token_ids = t.tokens[i],
                .new_tokens_count = (i + variant) % 5 + 1,
                .finish = i == 1 ? FINISH_LENGTH : FINISH_NONE,
                .stop_token_id = TOKEN_NONE,
            };
        }
        const char *finished[2] = {t.ids[1], t.ids[2]};
        struct scheduler_stats stats = {.running_count = 5, .kv_cache_usage = 0.25};
        struct engine_outputs outputs = {
            .engine_index = 2,
            .outputs = rows,
            .outputs_count = variant % 4,
            .stats = variant / 4 % 2 == 0 ? &stats : NULL,
            .timestamp = 123456789,
            .finished_ids = finished,
            .finished_ids_count = variant / 8,
            .wave_complete = -1,
            .start_wave = -1,
        };
        struct wire_buffer want = {0};
        struct wire_buffer got = {0};
        if (outputs.outputs_count + outputs.finished_ids_count == 0 && outputs.stats == NULL) {
            continue;
        }
        wire_encode_outputs(&want, &outputs);
        struct queue_item *item = queue_item_outputs(4, &outputs);
        memset(&t, 'x', sizeof t);
        memset(rows, 0xee, sizeof rows);
        memset(&stats, 0xee, sizeof stats);
        memset(finished, 0, sizeof finished);
        assert_int_equal(item->kind, ITEM_OUTPUTS);
        assert_int_equal(item->client, 4);
        wire_encode_outputs(&got, &item->as.outputs);
        assert_same_bytes(&want, &got);
        free(item);
    }
}

static void utility_arguments_are_copied_deeply(void **state)
{
    (void)state;
    struct queue_item *item;
    {
        char mode[] = "wait";
        char method[] = "pause_scheduler";
        struct utility_call call = {.client_index = 2,
                                    .call_id = 5,
                                    .method = method,
                                    .arguments_count = 2,
                                    .arguments = {{UTILITY_ARGUMENT_STRING, false, 0, mode},
                                                  {UTILITY_ARGUMENT_BOOL, true, 0, NULL}}};
        item = queue_item_utility(&call);
        memset(mode, 'x', sizeof mode - 1);
        memset(method, 'x', sizeof method - 1);
    }
    const struct utility_call *copy = &item->as.utility;
    assert_string_equal(copy->method, "pause_scheduler");
    assert_int_equal(copy->arguments_count, 2);
    assert_string_equal(copy->arguments[0].string, "wait");
    assert_true(copy->arguments[1].boolean);
    assert_null(copy->arguments[1].string);
    free(item);
}

static void utility_replies_are_copied_deeply(void **state)
{
    (void)state;
    char first[16] = "generate";
    char second[16] = "embed";
    char failure[16] = "no such thing";
    const char *strings[2] = {first, second};
    for (int failed = 0; failed < 2; failed++) {
        struct utility_reply reply = {.call_id = 77,
                                      .failure = failed != 0 ? failure : NULL,
                                      .kind = UTILITY_STRINGS,
                                      .strings = strings,
                                      .strings_count = 2};
        struct engine_outputs outputs = {
            .engine_index = 1, .utility = &reply, .wave_complete = -1, .start_wave = -1};
        struct queue_item *item = queue_item_outputs(0, &outputs);
        const struct utility_reply *copy = item->as.outputs.utility;
        strings[0] = NULL;
        first[0] = 'x';
        failure[0] = 'x';
        memset(&reply, 0xee, sizeof reply);
        assert_int_equal(copy->call_id, 77);
        assert_int_equal(copy->strings_count, 2);
        assert_string_equal(copy->strings[0], "generate");
        assert_string_equal(copy->strings[1], "embed");
        if (failed != 0) {
            assert_string_equal(copy->failure, "no such thing");
        } else {
            assert_null(copy->failure);
        }
        strings[0] = first;
        first[0] = 'g';
        failure[0] = 'n';
        free(item);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_in_order_and_all_at_once),
        cmocka_unit_test(waits_begin_with_the_push),
        cmocka_unit_test(an_empty_wait_ends),
        cmocka_unit_test(writers_do_not_lose_items),
        cmocka_unit_test(requests_are_copied_deeply),
        cmocka_unit_test(outputs_are_copied_deeply),
        cmocka_unit_test(utility_arguments_are_copied_deeply),
        cmocka_unit_test(utility_replies_are_copied_deeply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
