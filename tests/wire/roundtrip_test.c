/*
 * roundtrip_test.c - random messages written and read back must be equal; times to less than a
 * microsecond over the whole range, and exactly in a run's first hour.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "tests/wire/helper.h"

enum {
    ROUNDS = 400,
    ITEMS_MAX = 40,
    TOKENS_MAX = 3000
};

/* The memory behind one random message. */
struct world {
    struct random random;
    char texts[4 * ITEMS_MAX][REQUEST_ID_BYTES_MAX];
    uint32_t texts_count;
    uint32_t tokens[TOKENS_MAX];
    const char *list[2][ITEMS_MAX];
    struct engine_output outputs[ITEMS_MAX];
    struct scheduler_stats stats;
    struct utility_reply reply;
    struct engine_counts counts[ITEMS_MAX];
};

static int64_t draw(struct world *w, int64_t lo, int64_t hi)
{
    return random_range(&w->random, lo, hi);
}

static bool coin(struct world *w)
{
    return draw(w, 0, 1) != 0;
}

/* Of every width a MessagePack integer can have. */
static uint64_t wide(struct world *w, unsigned bits_max)
{
    return random_u64(&w->random) >> draw(w, 64 - (int64_t)bits_max, 63);
}

static uint32_t u32(struct world *w)
{
    return (uint32_t)wide(w, 32);
}

static const char *text(struct world *w)
{
    assert_true(w->texts_count < 4 * ITEMS_MAX);
    char *t = w->texts[w->texts_count];
    w->texts_count++;
    int64_t bytes = draw(w, 0, REQUEST_ID_BYTES_MAX - 1);
    for (int64_t i = 0; i < bytes; i++) {
        t[i] = (char)draw(w, 1, 127);
    }
    t[bytes] = '\0';
    return t;
}

static const char *text_or_null(struct world *w)
{
    return coin(w) ? text(w) : NULL;
}

static const char *const *texts(struct world *w, uint32_t which, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        w->list[which][i] = text(w);
    }
    return w->list[which];
}

static float small_float(struct world *w)
{
    return (float)draw(w, -300, 300) / 64.0F;
}

static time_ps any_time(struct world *w)
{
    return (time_ps)(random_u64(&w->random) >> draw(w, 1, 63)) % (9000000 * PS_PER_S);
}

static uint32_t tokens(struct world *w, uint32_t max)
{
    uint32_t count = (uint32_t)draw(w, 0, coin(w) ? 3 : max);
    for (uint32_t i = 0; i < count; i++) {
        w->tokens[i] = u32(w);
    }
    return count;
}

static void make_init(struct world *w, struct wire_init *init)
{
    init->clients_count = (uint32_t)draw(w, 1, ITEMS_MAX);
    for (uint32_t i = 0; i < init->clients_count; i++) {
        init->inputs[i] = text(w);
        init->outputs[i] = text(w);
    }
    init->coordinator_input = text_or_null(w);
    init->coordinator_output = text_or_null(w);
    init->frontend_stats_address = text_or_null(w);
    init->has_parallel_config = coin(w);
    if (init->has_parallel_config) {
        init->master_ip = text(w);
        init->master_port = (uint32_t)draw(w, 0, UINT16_MAX);
        init->master_ports_count = (uint32_t)draw(w, 0, 16);
        for (uint32_t i = 0; i < init->master_ports_count; i++) {
            init->master_ports[i] = u32(w);
        }
        init->data_parallel_size = u32(w);
    }
}

static void make_ready(struct world *w, struct wire_ready *ready)
{
    *ready =
        (struct wire_ready){wide(w, 63), wide(w, 63), wide(w, 63), text_or_null(w), text(w),
                            text(w),     u32(w),      u32(w),      u32(w),          u32(w),
                            u32(w),      u32(w),      u32(w),      text(w),         wide(w, 63)};
}

static void make_sampling(struct world *w, struct sampling_params *s)
{
    s->max_tokens = coin(w) ? 16 : u32(w);
    s->min_tokens = coin(w) ? 0 : u32(w);
    s->has_seed = coin(w);
    s->seed = s->has_seed ? (int64_t)random_u64(&w->random) : 0;
    s->eos_token_id = coin(w) ? TOKEN_NONE : (int32_t)wide(w, 31);
    s->stop_token_ids_count = coin(w) ? 0 : (uint32_t)draw(w, 0, STOP_TOKENS_MAX);
    for (uint32_t i = 0; i < s->stop_token_ids_count; i++) {
        s->stop_token_ids[i] = u32(w);
    }
    s->output_kind = (uint8_t)draw(w, 0, 2);
    s->n = coin(w) ? 1 : u32(w);
    s->temperature = coin(w) ? 1.0F : small_float(w);
    s->top_p = coin(w) ? 1.0F : small_float(w);
    s->top_k = coin(w) ? 0 : (int32_t)draw(w, INT32_MIN, INT32_MAX);
    s->min_p = coin(w) ? 0.0F : small_float(w);
    s->presence_penalty = coin(w) ? 0.0F : small_float(w);
    s->frequency_penalty = coin(w) ? 0.0F : small_float(w);
    s->repetition_penalty = coin(w) ? 1.0F : small_float(w);
}

static void make_request(struct world *w, struct engine_request *q)
{
    q->id = text(w);
    q->prompt_token_ids = w->tokens;
    q->prompt_tokens_count = tokens(w, TOKENS_MAX);
    make_sampling(w, &q->sampling);
    q->arrival_wall_ns = (int64_t)wide(w, 62);
    q->cache_salt = text_or_null(w);
    q->data_parallel_rank = coin(w) ? RANK_NONE : (int32_t)wide(w, 31);
    q->client_index = (uint32_t)draw(w, 0, WIRE_CLIENTS_MAX - 1);
    q->current_wave = u32(w);
    q->priority = (int32_t)draw(w, INT32_MIN, INT32_MAX);
    q->external_id = text_or_null(w);
    q->abort_immediately = coin(w);
}

static void make_output(struct world *w, struct engine_output *o)
{
    o->id = text(w);
    o->new_tokens_count = (uint32_t)draw(w, 0, 20);
    o->new_token_ids = w->tokens + draw(w, 0, TOKENS_MAX - 20);
    o->finish = coin(w) ? FINISH_NONE : (enum finish_reason)draw(w, FINISH_STOP, FINISH_REPETITION);
    o->stop_token_id = coin(w) ? TOKEN_NONE : (int32_t)wide(w, 31);
    o->first = coin(w);
    if (o->first) {
        o->queued_at = any_time(w);
        o->scheduled_at = any_time(w);
        o->preemptions_count = (uint32_t)draw(w, 0, 20);
        o->prefill = (struct prefill_stats){u32(w), u32(w), u32(w)};
    }
}

static void make_utility(struct world *w, struct utility_call *call)
{
    call->client_index = (uint32_t)draw(w, 0, 255);
    call->call_id = wide(w, 64);
    call->method = text(w);
    call->arguments_count = (uint32_t)draw(w, 0, UTILITY_ARGUMENTS_MAX);
    for (uint32_t i = 0; i < call->arguments_count; i++) {
        struct utility_argument *argument = &call->arguments[i];
        argument->kind =
            (enum utility_argument_kind)draw(w, UTILITY_ARGUMENT_NIL, UTILITY_ARGUMENT_STRING);
        argument->boolean = argument->kind == UTILITY_ARGUMENT_BOOL && coin(w);
        argument->integer = argument->kind == UTILITY_ARGUMENT_INT ? (int64_t)wide(w, 64) : 0;
        argument->string = argument->kind == UTILITY_ARGUMENT_STRING ? text(w) : NULL;
    }
}

static void make_reply(struct world *w, struct utility_reply *reply)
{
    *reply = (struct utility_reply){.call_id = wide(w, 64)};
    if (coin(w)) {
        reply->failure = text(w);
        return;
    }
    reply->kind = (enum utility_value_kind)draw(w, UTILITY_NIL, UTILITY_STRINGS);
    reply->boolean = reply->kind == UTILITY_BOOL && coin(w);
    if (reply->kind == UTILITY_STRINGS) {
        reply->strings_count = (uint32_t)draw(w, 0, ITEMS_MAX);
        reply->strings = texts(w, 0, reply->strings_count);
    }
}

static void make_stats(struct world *w, struct scheduler_stats *s)
{
    *s = (struct scheduler_stats){
        .running_count = u32(w),
        .waiting_count = u32(w),
        .skipped_waiting_count = u32(w),
        .step_counter = u32(w),
        .current_wave = u32(w),
        .kv_cache_usage = random_unit(&w->random),
        .prefix_cache = {wide(w, 63), wide(w, 63), wide(w, 63)},
    };
}

static void make_outputs(struct world *w, struct engine_outputs *o)
{
    *o = (struct engine_outputs){.engine_index = (uint32_t)draw(w, 0, UINT16_MAX),
                                 .timestamp = any_time(w),
                                 .wave_complete = -1,
                                 .start_wave = -1};
    int64_t purpose = draw(w, 0, 5);
    if (purpose == 0) {
        o->wave_complete = (int64_t)wide(w, 63);
    } else if (purpose == 1) {
        o->start_wave = (int64_t)wide(w, 63);
    } else if (purpose == 2) {
        make_reply(w, &w->reply);
        o->utility = &w->reply;
    } else {
        make_stats(w, &w->stats);
        (void)tokens(w, TOKENS_MAX);
        o->outputs = w->outputs;
        o->outputs_count = (uint32_t)draw(w, 0, ITEMS_MAX);
        for (uint32_t i = 0; i < o->outputs_count; i++) {
            w->outputs[i] = (struct engine_output){0};
            make_output(w, &w->outputs[i]);
        }
        o->finished_ids_count = (uint32_t)draw(w, 0, ITEMS_MAX);
        o->finished_ids = texts(w, 1, o->finished_ids_count);
        bool empty = o->outputs_count == 0 && o->finished_ids_count == 0;
        o->stats = empty || coin(w) ? &w->stats : NULL;
    }
}

static void make_counts(struct world *w, struct engine_outputs *o)
{
    make_stats(w, &w->stats);
    w->stats.prefix_cache = (struct prefix_cache_stats){0}; /* not for the coordinator */
    w->stats.step_counter = coin(w) ? 0 : w->stats.step_counter;
    *o = (struct engine_outputs){.engine_index = (uint32_t)draw(w, 0, UINT16_MAX),
                                 .stats = &w->stats,
                                 .timestamp = any_time(w),
                                 .wave_complete = -1,
                                 .start_wave = -1};
}

static void make_state(struct world *w, struct coordinator_state *s)
{
    if (coin(w)) {
        s->counts = w->counts;
        s->counts_count = (uint32_t)draw(w, 0, ITEMS_MAX);
        for (uint32_t i = 0; i < s->counts_count; i++) {
            w->counts[i] = (struct engine_counts){u32(w), u32(w), random_unit(&w->random)};
        }
    }
    s->wave = u32(w);
    s->running = coin(w);
}

static void make_message(struct world *w, struct message *m)
{
    w->texts_count = 0;
    switch (m->kind) {
    case MESSAGE_HELLO:
        m->hello = (struct wire_hello){coin(w) ? WIRE_HELLO : WIRE_READY, coin(w), coin(w),
                                       text_or_null(w)};
        break;
    case MESSAGE_INIT:
        make_init(w, &m->init);
        break;
    case MESSAGE_READY:
        make_ready(w, &m->ready);
        break;
    case MESSAGE_REQUEST:
        make_request(w, &m->request);
        break;
    case MESSAGE_ABORT:
        m->abort.count = (uint32_t)draw(w, 0, ITEMS_MAX);
        m->abort.ids = texts(w, 0, m->abort.count);
        break;
    case MESSAGE_UTILITY:
        make_utility(w, &m->utility);
        break;
    case MESSAGE_OUTPUTS:
        make_outputs(w, &m->outputs);
        break;
    case MESSAGE_COUNTS:
        make_counts(w, &m->outputs);
        break;
    case MESSAGE_STATE:
        make_state(w, &m->state);
        break;
    case MESSAGE_FIRST_REQUEST:
        m->first = (struct first_request){(uint32_t)wide(w, 31), u32(w)};
        break;
    case MESSAGE_START_WAVE:
        m->start = (struct start_wave){u32(w), coin(w) ? RANK_NONE : (int32_t)wide(w, 31)};
        break;
    }
}

static void random_messages_come_back(void **state)
{
    (void)state;
    struct world *w = calloc(1, sizeof *w);
    struct message *m = malloc(sizeof *m);
    struct message *got = malloc(sizeof *got);
    struct wire_buffer b = {0};
    struct wire_decoder *d;
    assert_true(w != NULL && m != NULL && got != NULL);
    assert_int_equal(wire_decoder_create(&d, NULL), STATUS_OK);
    w->random = random_stream(11, "roundtrip", 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int kind = MESSAGE_HELLO; kind <= MESSAGE_START_WAVE; kind++) {
            struct error error = {.text = ""};
            memset(m, 0, sizeof *m);
            m->kind = (enum message_kind)kind;
            got->kind = m->kind;
            make_message(w, m);
            wire_buffer_reset(&b);
            message_encode(&b, m);
            if (message_decode(d, b.data, b.bytes, got, &error) != STATUS_OK) {
                fail_msg("kind %d, round %d: %s", kind, round, error.text);
            }
            assert_message_equal(m, got);
        }
    }
    wire_decoder_free(d);
    wire_buffer_free(&b);
    free(w);
    free(m);
    free(got);
}

static time_ps back_and_forth(struct wire_decoder *d, struct wire_buffer *b, time_ps t)
{
    const struct scheduler_stats stats = {0};
    const struct engine_outputs o = {
        .stats = &stats, .timestamp = t, .wave_complete = -1, .start_wave = -1};
    struct engine_outputs got;
    wire_buffer_reset(b);
    wire_encode_outputs(b, &o);
    assert_int_equal(wire_decode_outputs(d, b->data, b->bytes, &got, NULL), STATUS_OK);
    return got.timestamp;
}

static void times_keep_their_microsecond(void **state)
{
    (void)state;
    struct random r = random_stream(5, "times", 0);
    struct wire_buffer b = {0};
    struct wire_decoder *d;
    assert_int_equal(wire_decoder_create(&d, NULL), STATUS_OK);
    for (int i = 0; i < 20000; i++) {
        time_ps t = random_range(&r, 0, 9000000 * PS_PER_S) >> random_range(&r, 0, 60);
        time_ps got = back_and_forth(d, &b, t);
        assert_true(got - t < PS_PER_US && t - got < PS_PER_US);
        assert_true(t > 3600 * PS_PER_S || got == t);
        assert_true(back_and_forth(d, &b, got) == got);
    }
    wire_decoder_free(d);
    wire_buffer_free(&b);
}

/* What a decoder hands out must survive its input, and the next call may reuse the memory. */
static void decoded_messages_do_not_need_their_input(void **state)
{
    (void)state;
    const char *const ids[] = {"one", "two"};
    const char *const *got = NULL;
    uint32_t count = 0;
    struct wire_buffer b = {0};
    struct wire_decoder *d;
    assert_int_equal(wire_decoder_create(&d, NULL), STATUS_OK);
    wire_encode_abort(&b, ids, 2);
    assert_int_equal(wire_decode_abort(d, b.data, b.bytes, &got, &count, NULL), STATUS_OK);
    memset(b.data, 0xee, b.bytes);
    assert_int_equal(count, 2);
    assert_string_equal(got[0], "one");
    assert_string_equal(got[1], "two");
    wire_decoder_free(d);
    wire_buffer_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_messages_come_back),
        cmocka_unit_test(times_keep_their_microsecond),
        cmocka_unit_test(decoded_messages_do_not_need_their_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
