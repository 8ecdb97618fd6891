/*
 * frontend_random_test.c - the front end between fake engines and fake consumers, all driven at
 * random: any grouping of tokens into outputs and messages, any moment of taking, cancels, stop
 * strings, refusals and drops by an engine, aborts that arrive late. Whatever happens, each
 * request's text equals what a search over its whole text gives, it ends exactly once, and all
 * bookkeeping drains to zero.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/core/frontend.h"

enum {
    REQUESTS = 400,
    SLOTS = 180,
    TOKENS_MAX = 60,
    TOKEN_BYTES_MAX = 4,
    TEXT_MAX = TOKENS_MAX * TOKEN_BYTES_MAX + 64,
    STOPS_MAX = 3,
    OUTPUTS_MAX = 600,
    ABORTS_MAX = 2 * REQUESTS,
};

/* What a request was asked for, what its engine did with it, and what its consumer saw. */
struct life {
    char id[REQUEST_ID_BYTES_MAX];
    uint32_t engine;
    int32_t handle;
    uint64_t tag;
    bool stream;
    bool include_stop;
    uint32_t min_tokens;
    uint32_t stop_count;
    char stops[STOPS_MAX][16];
    uint32_t tokens[TOKENS_MAX]; /* the engine's */
    uint32_t planned_tokens;
    enum finish_reason planned_finish;
    bool dropped; /* the engine gives it up after planned_tokens, without a last output */
    uint32_t emitted_tokens;
    bool at_engine;
    bool abort_arrived;
    bool submitted;
    bool cancelled;
    uint32_t aborts;
    char text[TEXT_MAX];
    uint32_t text_bytes;
    uint32_t deltas;
    uint32_t firsts;
    uint32_t tokens_seen;
    enum finish_reason finish; /* as told to the consumer */
    char stop_string[16];      /* as told to the consumer, "" for none */
};

struct world {
    struct arena arena;
    struct frontend *f;
    struct random random;
    uint32_t engines;
    uint32_t submitted;
    struct life lives[REQUESTS];
    uint32_t abort_serials[ABORTS_MAX]; /* on their way to the engines */
    uint32_t aborts_sent;
    uint32_t aborts_arrived;
    /* the message under way */
    struct engine_outputs message;
    struct engine_output outputs[OUTPUTS_MAX];
    const char *finished[OUTPUTS_MAX];
};

static struct world world;

static uint32_t draw(uint32_t lo, uint32_t hi)
{
    return (uint32_t)random_range(&world.random, lo, hi);
}

/* Few letters, so that stop strings are hit; one token is only half a character and completes with
 * the next token. */
static const char *const pieces[] = {"a", "b", "c", "ab", "", "\xc3\xa9", "bca", NULL};
enum {
    HALF_TOKEN = 7,
    VOCABULARY = 8
};
static const char half_piece[] = "\xc3\xbc";

static uint32_t append(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap)
{
    (void)ctx;
    if (token == HALF_TOKEN) {
        *state = 1;
        return 0;
    }
    char piece[16];
    int bytes = snprintf(piece, sizeof piece, "%s%s", *state == 1 ? half_piece : "", pieces[token]);
    *state = 0;
    assert_true(bytes >= 0 && (uint32_t)bytes <= cap);
    memcpy(out, piece, (size_t)bytes);
    return (uint32_t)bytes;
}

static const struct detokenizer detokenizer = {NULL, append};

/* --- the oracle: a search over the whole text --- */

struct expectation {
    char text[TEXT_MAX];
    uint32_t text_bytes;
    uint32_t tokens;
    enum finish_reason finish;
    const char *stop_string;
};

/* The stop string that comes first in the list among those that end at `end`, or NULL. */
static const char *stop_ending_at(const struct life *life, const char *text, uint32_t end)
{
    for (uint32_t i = 0; i < life->stop_count; i++) {
        size_t bytes = strlen(life->stops[i]);
        if (bytes <= end && memcmp(text + end - bytes, life->stops[i], bytes) == 0) {
            return life->stops[i];
        }
    }
    return NULL;
}

/* What the consumer of a request whose engine emitted these tokens and then ended it so must have
 * seen. */
static void expect_of(const struct life *life, enum finish_reason engine_finish,
                      struct expectation *out)
{
    uint32_t ends[TOKENS_MAX + 1] = {0};
    uint64_t state = 0;
    out->text_bytes = 0;
    uint32_t text_tokens = life->emitted_tokens;
    if (engine_finish == FINISH_STOP && text_tokens > 0 && !life->include_stop) {
        text_tokens--;
    }
    for (uint32_t i = 0; i < life->emitted_tokens; i++) {
        if (i < text_tokens) {
            out->text_bytes += append(NULL, &state, life->tokens[i], out->text + out->text_bytes,
                                      TEXT_MAX - out->text_bytes);
        }
        ends[i + 1] = out->text_bytes;
    }
    out->tokens = life->emitted_tokens;
    out->finish = engine_finish;
    out->stop_string = NULL;
    if (life->min_tokens >= life->emitted_tokens) {
        return;
    }
    for (uint32_t end = ends[life->min_tokens] + 1; end <= out->text_bytes; end++) {
        const char *stop = stop_ending_at(life, out->text, end);
        if (stop != NULL) {
            out->stop_string = stop;
            out->finish = FINISH_STOP;
            out->text_bytes = life->include_stop ? end : end - (uint32_t)strlen(stop);
            out->tokens = 0;
            while (ends[out->tokens] < end) {
                out->tokens++;
            }
            return;
        }
    }
}

static void check_life(const struct life *life)
{
    struct expectation want;
    /* An engine that was told to abort, or gave up, sent no last output. */
    bool cut = life->dropped || life->emitted_tokens < life->planned_tokens;
    enum finish_reason engine_finish = cut ? FINISH_ABORT : life->planned_finish;
    assert_true(life->aborts <= 1);
    assert_false(life->at_engine);
    if (life->cancelled) {
        /* What it saw before must be the beginning of what it would have seen. */
        expect_of(life, engine_finish, &want);
        assert_true(life->text_bytes <= want.text_bytes);
        assert_memory_equal(life->text, want.text, life->text_bytes);
        assert_int_equal(life->finish, FINISH_NONE);
        return;
    }
    expect_of(life, engine_finish, &want);
    assert_int_equal(life->finish, want.finish);
    assert_int_equal(life->text_bytes, want.text_bytes);
    assert_memory_equal(life->text, want.text, want.text_bytes);
    assert_int_equal(life->tokens_seen, want.tokens);
    assert_string_equal(life->stop_string, want.stop_string == NULL ? "" : want.stop_string);
    assert_int_equal(life->firsts, want.tokens > 0 ? 1 : 0);
    assert_true(life->stream || life->deltas == 1);
}

/* --- requests --- */

static void random_stops(struct life *life)
{
    static const char *const letters[] = {"a", "b", "c", "\xc3\xa9", "\xc3\xbc"};
    life->stop_count = draw(0, 3) == 0 ? draw(1, STOPS_MAX) : 0;
    life->include_stop = draw(0, 1) == 1;
    for (uint32_t i = 0; i < life->stop_count; i++) {
        uint32_t length = draw(1, 7);
        for (uint32_t k = 0; k < length; k++) {
            const char *letter = letters[draw(0, 15) < 13 ? draw(0, 2) : draw(3, 4)];
            memcpy(life->stops[i] + strlen(life->stops[i]), letter, strlen(letter) + 1);
        }
    }
}

static void random_plan(struct life *life)
{
    static const enum finish_reason reasons[] = {FINISH_STOP, FINISH_LENGTH, FINISH_LENGTH,
                                                 FINISH_ABORT, FINISH_REPETITION};
    life->stream = draw(0, 3) > 0;
    life->min_tokens = draw(0, 2) == 0 ? draw(0, 20) : 0;
    life->finish = FINISH_NONE;
    random_stops(life);
    life->planned_tokens = draw(1, TOKENS_MAX);
    life->planned_finish = reasons[draw(0, 4)];
    life->dropped = draw(0, 19) == 0;
    if (draw(0, 19) == 0) {
        /* The engine refuses it. */
        life->planned_tokens = 0;
        life->planned_finish = FINISH_ERROR;
        life->dropped = false;
    }
    for (uint32_t i = 0; i < TOKENS_MAX; i++) {
        life->tokens[i] = draw(0, VOCABULARY - 1);
    }
}

static void submit_one(void)
{
    if (world.submitted == REQUESTS) {
        return;
    }
    uint32_t serial = world.submitted;
    struct life *life = &world.lives[serial];
    memset(life, 0, sizeof *life);
    random_plan(life);
    struct frontend_request request = {
        .external_id = draw(0, 1) == 0 ? "cmpl-a" : "chatcmpl-bbbbbbbbbbbbbbbbbbbbbb",
        .serial = serial,
        .prompt_tokens_count = 5,
        .data_parallel_rank = draw(0, 5) == 0 ? (int32_t)draw(0, world.engines - 1) : RANK_NONE,
        .stream = life->stream,
        .stop_count = life->stop_count,
        .include_stop = life->include_stop,
    };
    request.sampling.min_tokens = life->min_tokens;
    for (uint32_t i = 0; i < life->stop_count; i++) {
        request.stop[i] = life->stops[i];
    }
    struct frontend_send send;
    uint32_t before = frontend_inflight(world.f);
    enum status status = frontend_submit(world.f, &request, 0, &send, NULL);
    if (status == STATUS_FULL) {
        assert_int_equal(frontend_inflight(world.f), before);
        return;
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(request.data_parallel_rank == RANK_NONE ||
                (uint32_t)request.data_parallel_rank == send.engine);
    (void)snprintf(life->id, sizeof life->id, "%s", send.request.id);
    life->engine = send.engine;
    life->handle = send.handle;
    life->tag = send.request.tag;
    life->at_engine = true;
    life->submitted = true;
    world.submitted++;
}

static void cancel_one(void)
{
    if (world.submitted == 0) {
        return;
    }
    struct life *life = &world.lives[draw(0, world.submitted - 1)];
    if (!life->cancelled && life->finish == FINISH_NONE) {
        frontend_cancel(world.f, life->handle);
        life->cancelled = true;
    }
}

/* --- consumers --- */

static bool take_one(void)
{
    struct frontend_delta delta;
    if (!frontend_take(world.f, &delta)) {
        return false;
    }
    struct life *life = &world.lives[delta.serial];
    assert_true(life->submitted && !life->cancelled);
    assert_int_equal(life->finish, FINISH_NONE);
    assert_int_equal(delta.handle, life->handle);
    assert_int_equal(delta.engine, life->engine);
    assert_true(life->text_bytes + delta.text_bytes <= TEXT_MAX);
    if (delta.text_bytes > 0) {
        /* Never the rest of a character. */
        assert_true(((unsigned char)delta.text[0] & 0xc0U) != 0x80U);
        memcpy(life->text + life->text_bytes, delta.text, delta.text_bytes);
    }
    life->text_bytes += delta.text_bytes;
    life->deltas++;
    life->firsts += delta.first ? 1 : 0;
    life->tokens_seen += delta.new_tokens_count;
    assert_int_equal(life->tokens_seen, delta.output_tokens_count);
    life->finish = delta.finish;
    if (delta.stop_string != NULL) {
        (void)snprintf(life->stop_string, sizeof life->stop_string, "%s", delta.stop_string);
    }
    return true;
}

static void take_aborts(void)
{
    struct frontend_abort abort;
    while (frontend_take_abort(world.f, &abort)) {
        uint32_t serial = 0;
        while (serial < world.submitted && strcmp(world.lives[serial].id, abort.id) != 0) {
            serial++;
        }
        assert_true(serial < world.submitted);
        struct life *life = &world.lives[serial];
        assert_int_equal(abort.engine, life->engine);
        assert_true(life->at_engine);
        life->aborts++;
        world.abort_serials[world.aborts_sent++] = serial;
    }
}

/* --- engines --- */

static void arrive_aborts(void)
{
    while (world.aborts_arrived < world.aborts_sent && draw(0, 2) > 0) {
        world.lives[world.abort_serials[world.aborts_arrived++]].abort_arrived = true;
    }
}

/* One step's output of one request at its engine. */
static void step_request(struct life *life)
{
    struct engine_outputs *message = &world.message;
    bool over = life->abort_arrived;
    if (!over) {
        uint32_t left = life->planned_tokens - life->emitted_tokens;
        uint32_t count = draw(0, 3) == 0 ? draw(0, 4) : 1;
        count = count < left ? count : left;
        over = life->emitted_tokens + count == life->planned_tokens;
        struct engine_output *output = &world.outputs[message->outputs_count++];
        *output = (struct engine_output){
            .id = life->id,
            .new_token_ids = &life->tokens[life->emitted_tokens],
            .new_tokens_count = count,
            .finish = over && !life->dropped ? life->planned_finish : FINISH_NONE,
            .stop_token_id = TOKEN_NONE,
            .first = life->emitted_tokens == 0,
            .tag = draw(0, 1) == 0 ? life->tag : 0,
        };
        life->emitted_tokens += count;
    }
    if (over) {
        life->at_engine = false;
        world.finished[message->finished_ids_count++] = life->id;
    }
}

static void random_event(void)
{
    switch (draw(0, 5)) {
    case 0:
        submit_one();
        break;
    case 1:
        if (draw(0, 3) == 0) {
            cancel_one();
        }
        break;
    case 2:
        take_aborts();
        break;
    default:
        for (uint32_t i = draw(0, 30); i > 0 && take_one(); i--) {
        }
        break;
    }
}

static void step_engine(uint32_t engine, uint32_t percent)
{
    world.message = (struct engine_outputs){
        .engine_index = engine,
        .outputs = world.outputs,
        .finished_ids = world.finished,
        .timestamp = 1,
        .wave_complete = -1,
        .start_wave = -1,
    };
    arrive_aborts();
    for (uint32_t serial = 0; serial < world.submitted; serial++) {
        struct life *life = &world.lives[serial];
        if (life->at_engine && life->engine == engine && draw(0, 99) < percent) {
            step_request(life);
        }
    }
    frontend_outputs_begin(world.f, &world.message);
    uint32_t done = 0;
    uint32_t slice = 0;
    do {
        for (uint32_t i = draw(0, 3); i > 0; i--) {
            random_event();
        }
        slice = frontend_outputs_slice(world.f, 0);
        uint32_t left = world.message.outputs_count - done;
        assert_int_equal(slice, left < 128 ? left : 128);
        done += slice;
        assert_null(frontend_check(world.f));
    } while (slice > 0);
}

static bool all_over(void)
{
    return world.submitted == REQUESTS && frontend_open(world.f) == 0 &&
           frontend_inflight(world.f) == 0;
}

static void run_seed(uint64_t seed)
{
    memset(&world, 0, sizeof world);
    world.random = random_stream(seed, "frontend", 0);
    world.engines = draw(1, 4);
    const struct frontend_options options = {
        .client_index = 0,
        .client_count = draw(1, 3),
        .engines_count = world.engines,
        .requests_max = SLOTS,
        .max_model_len = 100,
        .text_bytes_max = TEXT_MAX,
        .detokenizer = &detokenizer,
    };
    assert_int_equal(arena_create(frontend_arena_bytes(&options), &world.arena, NULL), STATUS_OK);
    assert_int_equal(frontend_create(&world.arena, &options, &world.f, NULL), STATUS_OK);
    size_t used_bytes = world.arena.used_bytes;
    uint32_t percent = draw(20, 100);
    uint32_t burst = draw(0, 200);
    for (uint32_t i = 0; i < burst; i++) {
        submit_one();
    }
    for (int turn = 0; !all_over(); turn++) {
        assert_true(turn < 20000);
        random_event();
        step_engine(draw(0, world.engines - 1), percent);
    }
    assert_int_equal(world.arena.used_bytes, used_bytes);
    assert_null(frontend_check(world.f));
    assert_false(take_one());
    for (uint32_t engine = 0; engine < world.engines; engine++) {
        assert_int_equal(frontend_router(world.f)->inflight[engine], 0);
    }
    for (uint32_t serial = 0; serial < REQUESTS; serial++) {
        check_life(&world.lives[serial]);
    }
    arena_destroy(&world.arena);
}

static void random_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        run_seed(seed);
    }
}

/* The worlds above must have held what they are there for. */
static void random_lives_are_rich(void **state)
{
    (void)state;
    uint32_t cancelled = 0;
    uint32_t stopped = 0;
    uint32_t aborted = 0;
    uint32_t merged = 0;
    uint32_t errors = 0;
    for (uint64_t seed = 100; seed < 103; seed++) {
        run_seed(seed);
        for (uint32_t serial = 0; serial < REQUESTS; serial++) {
            const struct life *life = &world.lives[serial];
            cancelled += life->cancelled ? 1 : 0;
            stopped += life->stop_string[0] != '\0' ? 1 : 0;
            aborted += life->aborts;
            merged += life->stream && life->deltas < life->tokens_seen ? 1 : 0;
            errors += life->finish == FINISH_ERROR ? 1 : 0;
        }
    }
    assert_true(cancelled > 20);
    assert_true(stopped > 60);
    assert_true(aborted > 60);
    assert_true(merged > 100);
    assert_true(errors > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives),
        cmocka_unit_test(random_lives_are_rich),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
