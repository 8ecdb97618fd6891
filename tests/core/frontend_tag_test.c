/*
 * frontend_tag_test.c - outputs that bring their request's tag back, and frontend_pull(): against a
 * front end that gets the same outputs by their ids, in slices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/random.h"
#include "engine/core/frontend.h"

enum {
    REQUESTS_MAX = 300,
    MESSAGES = 400
};

struct side {
    struct arena arena;
    struct frontend *f;
};

static void make(struct side *side)
{
    const struct frontend_options options = {
        .client_count = 1, .engines_count = 2, .requests_max = REQUESTS_MAX, .max_model_len = 100};
    assert_int_equal(arena_create(frontend_arena_bytes(&options), &side->arena, NULL), STATUS_OK);
    assert_int_equal(frontend_create(&side->arena, &options, &side->f, NULL), STATUS_OK);
}

static struct frontend_send submit(struct side *side, uint32_t serial)
{
    struct frontend_request request = {.external_id = "cmpl",
                                       .serial = serial,
                                       .prompt_tokens_count = 10,
                                       .data_parallel_rank = RANK_NONE,
                                       .stream = serial % 5 != 0};
    struct frontend_send send;
    assert_int_equal(frontend_submit(side->f, &request, 0, &send, NULL), STATUS_OK);
    return send;
}

static struct engine_output output_of(const char *id, uint64_t tag)
{
    return (struct engine_output){.id = id,
                                  .new_tokens_count = 1,
                                  .finish = FINISH_NONE,
                                  .stop_token_id = TOKEN_NONE,
                                  .tag = tag};
}

/* Serial of the delta that the only output of a message gives; -1: it gives none. */
static int64_t gives(struct side *side, struct engine_output output)
{
    const struct engine_outputs message = {
        .outputs = &output, .outputs_count = 1, .wave_complete = -1, .start_wave = -1};
    frontend_outputs_begin(side->f, &message);
    const struct frontend_delta *delta = frontend_pull(side->f);
    int64_t serial = delta != NULL ? (int64_t)delta->serial : -1;
    assert_null(frontend_pull(side->f));
    assert_null(frontend_check(side->f));
    return serial;
}

static void a_tag_names_its_request_while_it_lives(void **state)
{
    (void)state;
    struct side side;
    make(&side);
    struct frontend_send send = submit(&side, 7);
    uint64_t first = send.request.tag;
    int32_t handle = send.handle;
    uint64_t second = submit(&side, 8).request.tag;
    assert_int_equal(frontend_tag_serial(first), 7);
    assert_int_equal(gives(&side, output_of("nobody", second)), 8);
    assert_int_equal(gives(&side, output_of("nobody", first)), 7);
    assert_int_equal(gives(&side, output_of("nobody", 0)), -1);
    struct engine_output last = output_of("nobody", first);
    last.finish = FINISH_LENGTH;
    assert_int_equal(gives(&side, last), 7);
    assert_int_equal(gives(&side, output_of("nobody", first)), -1);
    const char *ids[] = {"cmpl-00000007"};
    frontend_outputs_begin(side.f,
                           &(struct engine_outputs){.finished_ids = ids, .finished_ids_count = 1});
    assert_int_equal(submit(&side, 9).handle, handle); /* the slot is another's */
    assert_int_equal(gives(&side, output_of("nobody", first)), -1);
    assert_int_equal(gives(&side, output_of("nobody", (uint64_t)(REQUESTS_MAX + 1) << 32 | 7)), -1);
    arena_destroy(&side.arena);
}

/* ---- the same by ids, in slices ---- */

struct live {
    char id[REQUEST_ID_BYTES_MAX];
    uint64_t tag;
};

struct script {
    struct random random;
    struct live live[REQUESTS_MAX];
    uint32_t live_count;
    uint32_t serial; /* next */
    struct engine_output outputs[REQUESTS_MAX];
    const char *finished[REQUESTS_MAX];
    struct live gone[REQUESTS_MAX]; /* ids of this message's ended requests */
    struct engine_outputs message;
};

static uint32_t draw(struct script *s, uint32_t hi)
{
    return (uint32_t)random_range(&s->random, 0, hi);
}

static void end_live(struct script *s, uint32_t index)
{
    struct live *gone = &s->gone[s->message.finished_ids_count];
    *gone = s->live[index];
    s->finished[s->message.finished_ids_count++] = gone->id;
    s->live[index] = s->live[--s->live_count];
}

/* Most requests get a token, some end with or without one. */
static void write_message(struct script *s)
{
    s->message = (struct engine_outputs){.engine_index = draw(s, 1),
                                         .outputs = s->outputs,
                                         .finished_ids = s->finished,
                                         .timestamp = (time_ps)s->serial,
                                         .wave_complete = -1,
                                         .start_wave = -1};
    for (uint32_t i = s->live_count; i-- > 0;) {
        uint32_t what = draw(s, 99);
        if (what < 80) {
            struct engine_output *o = &s->outputs[s->message.outputs_count++];
            *o = output_of(s->live[i].id, s->live[i].tag);
            o->new_tokens_count = draw(s, 9) == 0 ? draw(s, 3) : 1;
            o->finish = what < 3 ? FINISH_LENGTH : FINISH_NONE;
        }
        if (what < 3 || what == 99) {
            end_live(s, i);
            if (what < 3) {
                s->outputs[s->message.outputs_count - 1].id =
                    s->finished[s->message.finished_ids_count - 1];
            }
        }
    }
}

static void same_delta(const struct frontend_delta *a, const struct frontend_delta *b)
{
    assert_int_equal(a->serial, b->serial);
    assert_int_equal(a->handle, b->handle);
    assert_int_equal(a->new_tokens_count, b->new_tokens_count);
    assert_int_equal(a->outputs_count, b->outputs_count);
    assert_int_equal(a->output_tokens_count, b->output_tokens_count);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->first, b->first);
    assert_int_equal(a->engine, b->engine);
    assert_int_equal(a->first_token_at, b->first_token_at);
    assert_int_equal(a->last_token_at, b->last_token_at);
}

/* One side by tags, pulled; the other by ids, in slices, with every delta taken. */
static void deliver(struct script *s, struct side *pulled, struct side *sliced)
{
    static struct engine_output without_tags[REQUESTS_MAX];
    struct engine_outputs message = s->message;
    for (uint32_t i = 0; i < message.outputs_count; i++) {
        without_tags[i] = s->outputs[i];
        without_tags[i].tag = 0;
        s->outputs[i].id = "nobody";
    }
    message.outputs = without_tags;
    frontend_outputs_begin(pulled->f, &s->message);
    frontend_outputs_begin(sliced->f, &message);
    do {
        struct frontend_delta want;
        while (frontend_take(sliced->f, &want)) {
            const struct frontend_delta *got = frontend_pull(pulled->f);
            assert_non_null(got);
            same_delta(got, &want);
        }
    } while (frontend_outputs_slice(sliced->f, 0) > 0);
    assert_null(frontend_pull(pulled->f));
    assert_null(frontend_check(pulled->f));
    assert_null(frontend_check(sliced->f));
}

static void pulls_what_slices_give(void **state)
{
    (void)state;
    static struct script s;
    struct side pulled;
    struct side sliced;
    make(&pulled);
    make(&sliced);
    s.random = random_stream(1, "pull", 0);
    for (int round = 0; round < MESSAGES; round++) {
        while (s.live_count < REQUESTS_MAX - 1 && draw(&s, 9) != 0) {
            struct live *live = &s.live[s.live_count++];
            const struct frontend_send send = submit(&pulled, s.serial);
            live->tag = send.request.tag;
            memcpy(live->id, send.request.id, strlen(send.request.id) + 1);
            assert_int_equal(submit(&sliced, s.serial).handle, send.handle);
            s.serial++;
        }
        write_message(&s);
        deliver(&s, &pulled, &sliced);
    }
    assert_true(s.serial > 1000);
    arena_destroy(&pulled.arena);
    arena_destroy(&sliced.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tag_names_its_request_while_it_lives),
        cmocka_unit_test(pulls_what_slices_give),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
