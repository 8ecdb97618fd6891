/*
 * frontend_test.c - single behaviours of the front end, each with its expected deltas written out:
 * ids, refusals, routing, slices, merging, hold-back, stop strings, aborts, FIRST_REQ, stamps,
 * failure. frontend_random_test.c covers the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/frontend.h"

enum {
    REQUESTS_MAX = 300,
    MODEL_LEN = 1000
};

static struct arena arena;
static struct frontend *f;

/* One byte a token. */
static uint32_t append_byte(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap)
{
    (void)ctx;
    (void)state;
    if (cap == 0) {
        return 0;
    }
    out[0] = (char)token;
    return 1;
}

static const struct detokenizer byte_detokenizer = {NULL, append_byte};

static void make(uint32_t engines, const struct detokenizer *detokenizer)
{
    const struct frontend_options options = {
        .client_index = 0,
        .client_count = 1,
        .engines_count = engines,
        .requests_max = REQUESTS_MAX,
        .max_model_len = MODEL_LEN,
        .text_bytes_max = 2048,
        .detokenizer = detokenizer,
    };
    assert_int_equal(arena_create(frontend_arena_bytes(&options), &arena, NULL), STATUS_OK);
    assert_int_equal(frontend_create(&arena, &options, &f, NULL), STATUS_OK);
}

static int tear_down(void **state)
{
    (void)state;
    arena_destroy(&arena);
    return 0;
}

static struct frontend_request request_of(uint32_t serial, bool stream)
{
    return (struct frontend_request){
        .external_id = "cmpl",
        .serial = serial,
        .prompt_tokens_count = 10,
        .data_parallel_rank = RANK_NONE,
        .stream = stream,
    };
}

static struct frontend_send submit(const struct frontend_request *request)
{
    struct frontend_send send;
    assert_int_equal(frontend_submit(f, request, 0, &send, NULL), STATUS_OK);
    return send;
}

static struct frontend_send submit_plain(uint32_t serial, bool stream)
{
    struct frontend_request request = request_of(serial, stream);
    return submit(&request);
}

/* One message with one output of `text`'s bytes as tokens. The id is finished in it if there is a
 * finish reason. */
static void give(const char *id, const char *text, enum finish_reason finish)
{
    uint32_t tokens[256];
    uint32_t count = 0;
    for (; text[count] != '\0'; count++) {
        tokens[count] = (unsigned char)text[count];
    }
    const struct engine_output output = {
        .id = id,
        .new_token_ids = tokens,
        .new_tokens_count = count,
        .finish = finish,
        .stop_token_id = TOKEN_NONE,
    };
    const char *const ids[] = {id};
    const struct engine_outputs message = {
        .outputs = &output,
        .outputs_count = 1,
        .finished_ids = ids,
        .finished_ids_count = finish == FINISH_NONE ? 0 : 1,
        .wave_complete = -1,
        .start_wave = -1,
    };
    frontend_outputs_begin(f, &message);
    assert_int_equal(frontend_outputs_slice(f, 0), 1);
    assert_int_equal(frontend_outputs_slice(f, 0), 0);
}

static void give_finished(const char *id)
{
    const char *const ids[] = {id};
    const struct engine_outputs message = {.finished_ids = ids, .finished_ids_count = 1};
    frontend_outputs_begin(f, &message);
}

static struct frontend_delta take_text(const char *want)
{
    struct frontend_delta delta;
    assert_true(frontend_take(f, &delta));
    assert_int_equal(delta.text_bytes, strlen(want));
    assert_memory_equal(delta.text, want, strlen(want));
    return delta;
}

static void assert_nothing_left(void)
{
    struct frontend_delta delta;
    struct frontend_abort abort;
    assert_false(frontend_take(f, &delta));
    assert_false(frontend_take_abort(f, &abort));
    assert_int_equal(frontend_open(f), 0);
    assert_int_equal(frontend_inflight(f), 0);
    assert_null(frontend_check(f));
}

/* --- submit --- */

static void id_is_external_and_serial(void **state)
{
    (void)state;
    make(2, &byte_detokenizer);
    static const uint32_t prompt[] = {4, 5, 6};
    struct frontend_request request = request_of(0xdeadbe0fU, true);
    request.external_id = "cmpl-7";
    request.prompt_token_ids = prompt;
    request.prompt_tokens_count = 3;
    request.prompt_hash = 99;
    request.priority = -4;
    request.arrival_wall_ns = 123;
    request.sampling.max_tokens = 17;
    struct frontend_send send = submit(&request);
    assert_string_equal(send.request.id, "cmpl-7-deadbe0f");
    assert_string_equal(send.request.external_id, "cmpl-7");
    assert_ptr_equal(send.request.prompt_token_ids, prompt);
    assert_int_equal(send.request.prompt_tokens_count, 3);
    assert_int_equal(send.request.prompt_hash, 99);
    assert_int_equal(send.request.priority, -4);
    assert_int_equal(send.request.arrival_wall_ns, 123);
    assert_int_equal(send.request.sampling.max_tokens, 17);
    assert_int_equal(send.request.sampling.output_kind, 1);
    assert_int_equal(send.request.data_parallel_rank, RANK_NONE);
    request = request_of(0, false);
    send = submit(&request);
    assert_string_equal(send.request.id, "cmpl-00000000");
    assert_int_equal(send.request.sampling.output_kind, 2);
}

static void assert_refused(const struct frontend_request *request, enum status want,
                           const char *word)
{
    struct frontend_send send = {.handle = -77};
    struct error error = {0};
    assert_int_equal(frontend_submit(f, request, 0, &send, &error), want);
    assert_non_null(strstr(error.text, word));
    assert_int_equal(send.handle, -77);
    assert_null(frontend_check(f));
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    make(2, &byte_detokenizer);
    char id[200];
    memset(id, 'x', sizeof id);
    id[REQUEST_ID_BYTES_MAX - 1 - 9] = '\0';
    struct frontend_request request = request_of(1, true);
    request.external_id = id;
    struct frontend_send send = submit(&request);
    assert_int_equal(strlen(send.request.id), REQUEST_ID_BYTES_MAX - 1);
    assert_refused(&request, STATUS_INVALID, "in use");
    id[REQUEST_ID_BYTES_MAX - 1 - 9] = 'x';
    id[REQUEST_ID_BYTES_MAX - 9] = '\0';
    assert_refused(&request, STATUS_INVALID, "longer");

    request = request_of(2, true);
    request.data_parallel_rank = 2;
    assert_refused(&request, STATUS_INVALID, "rank");
    request.data_parallel_rank = -2;
    assert_refused(&request, STATUS_INVALID, "rank");
    request = request_of(2, true);
    request.prompt_tokens_count = 0;
    assert_refused(&request, STATUS_INVALID, "prompt");
    request.prompt_tokens_count = MODEL_LEN;
    assert_refused(&request, STATUS_INVALID, "prompt");
    request = request_of(2, true);
    request.stop_count = 5;
    assert_refused(&request, STATUS_INVALID, "stop");
    request.stop_count = 1;
    request.stop[0] = "";
    assert_refused(&request, STATUS_INVALID, "stop");
    char stop[65];
    memset(stop, 's', 64);
    stop[64] = '\0';
    request.stop[0] = stop;
    assert_refused(&request, STATUS_INVALID, "stop");
    stop[63] = '\0';
    (void)submit(&request);
}

static void full_until_both_lives_end(void **state)
{
    (void)state;
    make(3, &byte_detokenizer);
    char ids[REQUESTS_MAX][REQUEST_ID_BYTES_MAX];
    int32_t handles[REQUESTS_MAX];
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct frontend_send send = submit_plain(i, true);
        handles[i] = send.handle;
        (void)snprintf(ids[i], sizeof ids[i], "%s", send.request.id);
    }
    struct frontend_request more = request_of(REQUESTS_MAX, true);
    assert_refused(&more, STATUS_FULL, "300");
    /* Cancelled, the engine still holds it. */
    frontend_cancel(f, handles[5]);
    assert_int_equal(frontend_open(f), REQUESTS_MAX - 1);
    assert_int_equal(frontend_inflight(f), REQUESTS_MAX);
    assert_refused(&more, STATUS_FULL, "300");
    give_finished(ids[5]);
    assert_int_equal(submit(&more).handle, handles[5]);
    /* Finished by the engine, the consumer has not taken it. */
    more.serial++;
    give(ids[7], "x", FINISH_LENGTH);
    assert_refused(&more, STATUS_FULL, "300");
    (void)take_text("x");
    assert_int_equal(submit(&more).handle, handles[7]);
}

static void routes_by_counts_and_rank(void **state)
{
    (void)state;
    make(3, &byte_detokenizer);
    static const struct engine_counts counts[] = {{2, 1, 0.0}, {0, 0, 0.0}, {1, 0, 0.0}};
    const struct coordinator_state published = {counts, 3, 0, false};
    frontend_coordinator_state(f, &published);
    assert_int_equal(submit_plain(0, true).engine, 1);
    assert_int_equal(frontend_router(f)->inflight[1], 1);
    struct frontend_request request = request_of(1, true);
    request.data_parallel_rank = 0;
    struct frontend_send send = submit(&request);
    assert_int_equal(send.engine, 0);
    assert_int_equal(send.request.data_parallel_rank, 0);
}

static void first_request_once_a_publish(void **state)
{
    (void)state;
    make(2, &byte_detokenizer);
    const struct coordinator_state wave_3 = {NULL, 0, 3, false};
    const struct coordinator_state running = {NULL, 0, 4, true};
    assert_true(submit_plain(0, true).first_request);
    assert_false(submit_plain(1, true).first_request);
    frontend_coordinator_state(f, &wave_3);
    struct frontend_send send = submit_plain(2, true);
    assert_true(send.first_request);
    assert_int_equal(send.wave, 3);
    assert_int_equal(send.request.current_wave, 3);
    assert_false(submit_plain(3, true).first_request);
    frontend_coordinator_state(f, &running);
    send = submit_plain(4, true);
    assert_false(send.first_request);
    assert_int_equal(send.request.current_wave, 4);
}

/* A wave change carries no counts: those before stay, and so do own additions. */
static void wave_change_keeps_counts(void **state)
{
    (void)state;
    make(2, &byte_detokenizer);
    static const struct engine_counts counts[] = {{0, 3, 0.0}, {0, 1, 0.0}};
    frontend_coordinator_state(f, &(struct coordinator_state){counts, 2, 6, true});
    assert_int_equal(submit_plain(0, true).engine, 1);
    frontend_coordinator_state(f, &(struct coordinator_state){NULL, 0, 7, false});
    assert_int_equal(frontend_router(f)->counts[0].running, 3);
    assert_int_equal(frontend_router(f)->counts[1].running, 1);
    assert_int_equal(frontend_router(f)->counts[1].waiting, 1);
    assert_int_equal(frontend_current_wave(f), 7);
    assert_false(frontend_engines_running(f));
    struct frontend_send send = submit_plain(1, true);
    assert_true(send.first_request);
    assert_int_equal(send.request.current_wave, 7);
    assert_true(frontend_engines_running(f));
    /* A stale state is believed as it comes: the engine core sorts it out. */
    frontend_coordinator_state(f, &(struct coordinator_state){counts, 2, 6, true});
    assert_int_equal(submit_plain(2, true).wave, 6);
}

static void router_rule_is_an_option(void **state)
{
    (void)state;
    const struct frontend_options options = {
        .client_count = 1,
        .engines_count = 3,
        .requests_max = REQUESTS_MAX,
        .max_model_len = MODEL_LEN,
        .router_rule = ROUTER_RUST,
    };
    assert_int_equal(arena_create(frontend_arena_bytes(&options), &arena, NULL), STATUS_OK);
    assert_int_equal(frontend_create(&arena, &options, &f, NULL), STATUS_OK);
    const struct scheduler_stats stats = {.running_count = 5};
    frontend_outputs_begin(f, &(struct engine_outputs){.engine_index = 0, .stats = &stats});
    static const uint32_t want[] = {1, 2, 1, 2};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(submit_plain(i, true).engine, want[i]);
    }
}

static void single_engine_has_no_first_request(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    assert_false(submit_plain(0, true).first_request);
}

/* --- deltas --- */

static void slices_are_of_128(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    static char ids[REQUESTS_MAX][REQUEST_ID_BYTES_MAX];
    static struct engine_output outputs[REQUESTS_MAX];
    static const char *finished[REQUESTS_MAX];
    static const uint32_t token = 'z';
    int32_t handles[REQUESTS_MAX];
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct frontend_send send = submit_plain(i, true);
        handles[i] = send.handle;
        (void)snprintf(ids[i], sizeof ids[i], "%s", send.request.id);
        outputs[i] = (struct engine_output){
            .id = ids[i], .new_token_ids = &token, .new_tokens_count = 1, .finish = FINISH_LENGTH};
        finished[i] = ids[i];
    }
    const struct engine_outputs message = {
        .outputs = outputs,
        .outputs_count = REQUESTS_MAX,
        .finished_ids = finished,
        .finished_ids_count = REQUESTS_MAX,
    };
    frontend_outputs_begin(f, &message);
    /* Finished ids are booked before any output is looked at. */
    assert_int_equal(frontend_inflight(f), 0);
    assert_int_equal(frontend_router(f)->inflight[0], 0);
    struct frontend_delta delta;
    assert_false(frontend_take(f, &delta));
    assert_int_equal(frontend_outputs_slice(f, 0), 128);
    for (uint32_t i = 0; i < 128; i++) {
        assert_int_equal(take_text("z").serial, i);
    }
    assert_false(frontend_take(f, &delta));
    frontend_cancel(f, handles[200]);
    assert_int_equal(frontend_outputs_slice(f, 0), 128);
    assert_int_equal(frontend_outputs_slice(f, 0), REQUESTS_MAX - 256);
    assert_int_equal(frontend_outputs_slice(f, 0), 0);
    for (uint32_t i = 128; i < REQUESTS_MAX; i++) {
        if (i != 200) {
            assert_int_equal(take_text("z").serial, i);
        }
    }
    assert_nothing_left();
}

static void deltas_merge_in_order_of_readiness(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    char a[REQUEST_ID_BYTES_MAX];
    char b[REQUEST_ID_BYTES_MAX];
    (void)snprintf(a, sizeof a, "%s", submit_plain(1, true).request.id);
    (void)snprintf(b, sizeof b, "%s", submit_plain(2, true).request.id);
    give(b, "x", FINISH_NONE);
    give(a, "he", FINISH_NONE);
    give(b, "yz", FINISH_NONE);
    give(a, "llo", FINISH_NONE);
    struct frontend_delta delta = take_text("xyz");
    assert_int_equal(delta.serial, 2);
    assert_int_equal(delta.outputs_count, 2);
    assert_int_equal(delta.new_tokens_count, 3);
    assert_true(delta.first);
    give(b, "!", FINISH_LENGTH);
    delta = take_text("hello");
    assert_int_equal(delta.serial, 1);
    assert_int_equal(delta.prompt_tokens_count, 10);
    assert_int_equal(delta.finish, FINISH_NONE);
    delta = take_text("!");
    assert_false(delta.first);
    assert_int_equal(delta.new_tokens_count, 1);
    assert_int_equal(delta.output_tokens_count, 4);
    assert_int_equal(delta.finish, FINISH_LENGTH);
    give(a, "", FINISH_ABORT);
    assert_int_equal(take_text("").finish, FINISH_ABORT);
    assert_nothing_left();
}

static void unstreamed_request_gets_one_delta(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_send send = submit_plain(1, false);
    struct frontend_delta delta;
    for (int i = 0; i < 20; i++) {
        give(send.request.id, "ab", FINISH_NONE);
        assert_false(frontend_take(f, &delta));
    }
    give(send.request.id, "c", FINISH_LENGTH);
    delta = take_text("ababababababababababababababababababababc");
    assert_true(delta.first);
    assert_int_equal(delta.new_tokens_count, 41);
    assert_int_equal(delta.outputs_count, 21);
    assert_nothing_left();
}

static void stop_token_is_counted_but_no_text(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_request request = request_of(1, true);
    give(submit(&request).request.id, "ab.", FINISH_STOP);
    assert_int_equal(take_text("ab").new_tokens_count, 3);
    request.include_stop = true;
    give(submit(&request).request.id, "ab.", FINISH_STOP);
    assert_int_equal(take_text("ab.").new_tokens_count, 3);
    assert_nothing_left();
}

static void text_is_held_back_while_a_stop_may_come(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_request request = request_of(1, true);
    request.stop_count = 2;
    request.stop[0] = "END";
    request.stop[1] = "##";
    struct frontend_send send = submit(&request);
    give(send.request.id, "a", FINISH_NONE);
    (void)take_text("");
    give(send.request.id, "bcd", FINISH_NONE);
    (void)take_text("ab");
    give(send.request.id, "EN", FINISH_NONE);
    (void)take_text("cd");
    give(send.request.id, "G", FINISH_NONE);
    (void)take_text("E");
    give(send.request.id, "E", FINISH_NONE);
    give(send.request.id, "N", FINISH_NONE);
    (void)take_text("NG");
    give(send.request.id, "Dxyz", FINISH_NONE);
    struct frontend_delta delta = take_text("");
    assert_int_equal(delta.finish, FINISH_STOP);
    assert_string_equal(delta.stop_string, "END");
    assert_int_equal(delta.output_tokens_count, 10);
    struct frontend_abort abort;
    assert_true(frontend_take_abort(f, &abort));
    assert_string_equal(abort.id, send.request.id);
    assert_int_equal(abort.engine, 0);
    /* The engine goes on until it reads the ABORT. */
    give(send.request.id, "more", FINISH_NONE);
    assert_int_equal(frontend_open(f), 0);
    assert_int_equal(frontend_inflight(f), 1);
    give_finished(send.request.id);
    assert_nothing_left();
}

static void held_text_comes_with_the_end(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_request request = request_of(1, true);
    request.stop_count = 1;
    request.stop[0] = "STOP";
    struct frontend_send send = submit(&request);
    give(send.request.id, "abSTO", FINISH_NONE);
    (void)take_text("ab");
    give(send.request.id, "x", FINISH_LENGTH);
    struct frontend_delta delta = take_text("STOx");
    assert_int_equal(delta.finish, FINISH_LENGTH);
    assert_null(delta.stop_string);
    assert_nothing_left();
}

static void included_stop_string_needs_no_hold(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_request request = request_of(1, true);
    request.stop_count = 1;
    request.stop[0] = "STOP";
    request.include_stop = true;
    struct frontend_send send = submit(&request);
    give(send.request.id, "abST", FINISH_NONE);
    (void)take_text("abST");
    give(send.request.id, "O", FINISH_NONE);
    (void)take_text("O");
    give(send.request.id, "Px", FINISH_LENGTH);
    struct frontend_delta delta = take_text("P");
    assert_int_equal(delta.finish, FINISH_STOP);
    assert_string_equal(delta.stop_string, "STOP");
    /* The engine had finished by itself: nothing to abort. */
    assert_nothing_left();
}

static void stop_strings_wait_for_min_tokens(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_request request = request_of(1, false);
    request.stop_count = 1;
    request.stop[0] = "xx";
    request.sampling.min_tokens = 3;
    struct frontend_send send = submit(&request);
    give(send.request.id, "xxaxbxx", FINISH_LENGTH);
    assert_string_equal(take_text("xxaxb").stop_string, "xx");
    /* A match may begin within the first min_tokens tokens. */
    request.serial = 2;
    send = submit(&request);
    give(send.request.id, "axxx", FINISH_LENGTH);
    (void)take_text("ax");
    assert_nothing_left();
}

static void stamps_are_the_engines(void **state)
{
    (void)state;
    make(2, &byte_detokenizer);
    struct frontend_send send = submit_plain(1, true);
    static const uint32_t token = 'a';
    struct engine_output output = {
        .id = send.request.id,
        .new_token_ids = &token,
        .new_tokens_count = 1,
        .finish = FINISH_NONE,
        .stop_token_id = TOKEN_NONE,
        .first = true,
        .queued_at = 11,
        .scheduled_at = 12,
        .prefill = {.cached_tokens = 6},
    };
    struct engine_outputs message = {.outputs = &output, .outputs_count = 1, .timestamp = 20};
    frontend_outputs_begin(f, &message);
    (void)frontend_outputs_slice(f, 1000);
    struct frontend_delta delta = take_text("a");
    assert_int_equal(delta.queued_at, 11);
    assert_int_equal(delta.scheduled_at, 12);
    assert_int_equal(delta.first_token_at, 20);
    assert_int_equal(delta.last_token_at, 20);
    assert_int_equal(delta.cached_tokens, 6);
    output.first = false;
    output.queued_at = 0;
    output.finish = FINISH_STOP;
    output.stop_token_id = 'a';
    message.timestamp = 30;
    frontend_outputs_begin(f, &message);
    (void)frontend_outputs_slice(f, 1000);
    delta = take_text("");
    assert_int_equal(delta.queued_at, 11);
    assert_int_equal(delta.first_token_at, 20);
    assert_int_equal(delta.last_token_at, 30);
    assert_int_equal(delta.cached_tokens, 6);
    assert_int_equal(delta.stop_token_id, 'a');
    assert_int_equal(delta.engine, send.engine);
    give_finished(send.request.id);
    assert_nothing_left();
}

static void without_detokenizer_only_counts(void **state)
{
    (void)state;
    make(1, NULL);
    struct frontend_send send = submit_plain(1, true);
    const struct engine_output output = {
        .id = send.request.id, .new_tokens_count = 3, .finish = FINISH_NONE};
    const struct engine_outputs message = {.outputs = &output, .outputs_count = 1};
    frontend_outputs_begin(f, &message);
    (void)frontend_outputs_slice(f, 0);
    struct frontend_delta delta;
    assert_true(frontend_take(f, &delta));
    assert_int_equal(delta.new_tokens_count, 3);
    assert_int_equal(delta.text_bytes, 0);
    give(send.request.id, "x", FINISH_LENGTH);
    assert_true(frontend_take(f, &delta));
    assert_int_equal(delta.output_tokens_count, 4);
    assert_nothing_left();
}

/* --- ends --- */

static void cancel_books_one_abort(void **state)
{
    (void)state;
    make(2, &byte_detokenizer);
    struct frontend_request request = request_of(1, true);
    request.data_parallel_rank = 1;
    struct frontend_send send = submit(&request);
    give(send.request.id, "a", FINISH_NONE);
    frontend_cancel(f, send.handle);
    struct frontend_delta delta;
    assert_false(frontend_take(f, &delta));
    struct frontend_abort abort;
    assert_true(frontend_take_abort(f, &abort));
    assert_int_equal(abort.engine, 1);
    assert_string_equal(abort.id, send.request.id);
    give(send.request.id, "b", FINISH_NONE);
    give_finished(send.request.id);
    give_finished(send.request.id);
    assert_nothing_left();
}

static void no_abort_for_what_ended_meanwhile(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_send send = submit_plain(1, true);
    frontend_cancel(f, send.handle);
    give(send.request.id, "b", FINISH_LENGTH);
    assert_nothing_left();
    send = submit_plain(2, true);
    give(send.request.id, "b", FINISH_LENGTH);
    frontend_cancel(f, send.handle);
    assert_nothing_left();
}

static void stop_hit_then_cancel_is_one_abort(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_request request = request_of(1, true);
    request.stop_count = 1;
    request.stop[0] = "x";
    struct frontend_send send = submit(&request);
    give(send.request.id, "x", FINISH_NONE);
    struct frontend_abort abort;
    assert_true(frontend_take_abort(f, &abort));
    frontend_cancel(f, send.handle);
    assert_false(frontend_take_abort(f, &abort));
    give_finished(send.request.id);
    assert_nothing_left();
}

static void cancel_of_what_is_over_does_nothing(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_send send = submit_plain(1, true);
    give(send.request.id, "b", FINISH_LENGTH);
    (void)take_text("b");
    frontend_cancel(f, send.handle);
    assert_nothing_left();
    send = submit_plain(2, true);
    frontend_cancel(f, send.handle);
    frontend_cancel(f, send.handle);
    struct frontend_abort abort;
    assert_true(frontend_take_abort(f, &abort));
    assert_false(frontend_take_abort(f, &abort));
    give_finished(send.request.id);
    assert_nothing_left();
}

static void unknown_ids_are_dropped(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    give("cmpl-00000001", "abc", FINISH_LENGTH);
    assert_nothing_left();
}

/* Outputs count from the ADD until the request is over here, whatever its engine still sends. */
static void a_handle_is_found_while_outputs_count(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    assert_int_equal(frontend_handle_of(f, "cmpl-00000001"), FRONTEND_HANDLE_NONE);
    struct frontend_request request = request_of(1, true);
    request.stop_count = 1;
    request.stop[0] = "x";
    struct frontend_send send = submit(&request);
    char id[REQUEST_ID_BYTES_MAX];
    (void)strcpy(id, send.request.id);
    struct frontend_send other = submit_plain(2, false);
    assert_int_equal(frontend_handle_of(f, id), send.handle);
    assert_int_equal(frontend_handle_of(f, other.request.id), other.handle);
    give(id, "a", FINISH_NONE);
    assert_int_equal(frontend_handle_of(f, id), send.handle);
    give(id, "x", FINISH_NONE); /* stopped here, the engine has not heard of it */
    assert_int_equal(frontend_handle_of(f, id), FRONTEND_HANDLE_NONE);
    frontend_cancel(f, other.handle);
    assert_int_equal(frontend_handle_of(f, "cmpl-00000002"), FRONTEND_HANDLE_NONE);
}

static void dropped_by_the_engine_is_told(void **state)
{
    (void)state;
    make(1, &byte_detokenizer);
    struct frontend_send send = submit_plain(1, true);
    give(send.request.id, "a", FINISH_NONE);
    give_finished(send.request.id);
    assert_int_equal(take_text("a").finish, FINISH_ABORT);
    assert_nothing_left();
}

static void failure_ends_everything(void **state)
{
    (void)state;
    make(2, &byte_detokenizer);
    struct frontend_send cancelled = submit_plain(1, true);
    struct frontend_send done = submit_plain(2, true);
    struct frontend_send silent = submit_plain(3, false);
    give(done.request.id, "a", FINISH_LENGTH);
    give(silent.request.id, "b", FINISH_NONE);
    frontend_cancel(f, cancelled.handle);
    frontend_fail_all(f);
    assert_null(frontend_check(f));
    assert_int_equal(frontend_inflight(f), 0);
    assert_int_equal(take_text("a").finish, FINISH_LENGTH);
    struct frontend_delta delta = take_text("b");
    assert_int_equal(delta.finish, FINISH_ERROR);
    assert_int_equal(delta.serial, 3);
    give_finished(cancelled.request.id);
    assert_nothing_left();
    (void)submit_plain(4, true);
    assert_null(frontend_check(f));
}

static void options_are_checked(void **state)
{
    (void)state;
    const struct frontend_options good = {
        .client_count = 1,
        .engines_count = 1,
        .requests_max = 1,
        .max_model_len = 2,
        .text_bytes_max = 64,
        .detokenizer = &byte_detokenizer,
    };
    struct frontend_options wrong[6];
    for (int i = 0; i < 6; i++) {
        wrong[i] = good;
    }
    wrong[0].client_index = 1;
    wrong[1].engines_count = 0;
    wrong[2].requests_max = 0;
    wrong[3].requests_max = UINT32_MAX;
    wrong[4].max_model_len = 1;
    wrong[5].text_bytes_max = 63;
    static const char *const words[] = {"client_index", "engines_count", "requests_max",
                                        "requests_max", "max_model_len", "text_bytes_max"};
    assert_int_equal(arena_create(1 << 20, &arena, NULL), STATUS_OK);
    for (int i = 0; i < 6; i++) {
        struct error error = {0};
        struct frontend *out = NULL;
        assert_int_equal(frontend_create(&arena, &wrong[i], &out, &error), STATUS_INVALID);
        assert_ptr_equal(strstr(error.text, words[i]), error.text);
        assert_null(out);
    }
    assert_int_equal(frontend_create(&arena, &good, &f, NULL), STATUS_OK);
}

/* One message of `engine` with one token for each id; every delta must be of the request named. */
static void give_each(uint32_t engine, const char *const *ids, const uint32_t *serials,
                      uint32_t count)
{
    static const uint32_t token = 'a';
    struct engine_output outputs[4];
    for (uint32_t i = 0; i < count; i++) {
        outputs[i] = (struct engine_output){.id = ids[i],
                                            .new_token_ids = &token,
                                            .new_tokens_count = 1,
                                            .finish = FINISH_NONE,
                                            .stop_token_id = TOKEN_NONE};
    }
    const struct engine_outputs message = {.engine_index = engine,
                                           .outputs = outputs,
                                           .outputs_count = count,
                                           .wave_complete = -1,
                                           .start_wave = -1};
    frontend_outputs_begin(f, &message);
    assert_int_equal(frontend_outputs_slice(f, 0), count);
    for (uint32_t i = 0; i < count; i++) {
        struct frontend_delta delta;
        assert_true(frontend_take(f, &delta));
        assert_int_equal(delta.serial, serials[i]);
        assert_int_equal(delta.new_tokens_count, 1);
    }
    assert_null(frontend_check(f));
}

/* Whatever order outputs came in before: the id decides, also when a slot has a new owner. */
static void outputs_in_any_order(void **state)
{
    (void)state;
    make(2, NULL);
    char ids[4][REQUEST_ID_BYTES_MAX];
    for (uint32_t i = 0; i < 3; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "%s", submit_plain(i, true).request.id);
    }
    give_each(0, (const char *[]){ids[0], ids[1], ids[2]}, (uint32_t[]){0, 1, 2}, 3);
    give_each(0, (const char *[]){ids[0], ids[1], ids[2]}, (uint32_t[]){0, 1, 2}, 3);
    give_each(0, (const char *[]){ids[2], ids[0], ids[1]}, (uint32_t[]){2, 0, 1}, 3);
    give_each(1, (const char *[]){ids[1]}, (uint32_t[]){1}, 1);
    give_each(7, (const char *[]){ids[2], ids[1]}, (uint32_t[]){2, 1}, 2);
    give_each(0, (const char *[]){ids[2], ids[1]}, (uint32_t[]){2, 1}, 2);
    struct frontend_delta delta;
    give(ids[1], "z", FINISH_STOP);
    assert_true(frontend_take(f, &delta));
    (void)snprintf(ids[3], sizeof ids[3], "%s", submit_plain(3, true).request.id);
    give_each(0, (const char *[]){ids[2], ids[3]}, (uint32_t[]){2, 3}, 2);
    give_each(0, (const char *[]){ids[2], ids[0], ids[3]}, (uint32_t[]){2, 0, 3}, 3);
    frontend_outputs_begin(f, &(struct engine_outputs){.engine_index = 0});
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(outputs_in_any_order),
        TEST(id_is_external_and_serial),
        TEST(bad_requests_are_refused),
        TEST(full_until_both_lives_end),
        TEST(routes_by_counts_and_rank),
        TEST(first_request_once_a_publish),
        TEST(wave_change_keeps_counts),
        TEST(router_rule_is_an_option),
        TEST(single_engine_has_no_first_request),
        TEST(slices_are_of_128),
        TEST(deltas_merge_in_order_of_readiness),
        TEST(unstreamed_request_gets_one_delta),
        TEST(stop_token_is_counted_but_no_text),
        TEST(text_is_held_back_while_a_stop_may_come),
        TEST(held_text_comes_with_the_end),
        TEST(included_stop_string_needs_no_hold),
        TEST(stop_strings_wait_for_min_tokens),
        TEST(stamps_are_the_engines),
        TEST(without_detokenizer_only_counts),
        TEST(cancel_books_one_abort),
        TEST(no_abort_for_what_ended_meanwhile),
        TEST(stop_hit_then_cancel_is_one_abort),
        TEST(cancel_of_what_is_over_does_nothing),
        TEST(unknown_ids_are_dropped),
        TEST(a_handle_is_found_while_outputs_count),
        TEST(dropped_by_the_engine_is_told),
        TEST(failure_ends_everything),
        TEST(options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
