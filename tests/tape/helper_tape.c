/* helper_tape.c - see helper_tape.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "helper_tape.h"

enum {
    MODEL_LEN = 96,
    REQUESTS = 40,
    LOOPS_MAX = 4000,
    VOCABULARY = 200,
    TEXT_BYTES = 4,
};

static char folder[TAPE_PATH_BYTES / 2];

void tape_folder_make(void)
{
    const char *root = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%.64s/tape-XXXXXX", root != NULL ? root : "/tmp");
    assert_non_null(mkdtemp(folder));
}

void tape_folder_remove(void)
{
    char path[TAPE_PATH_BYTES * 2];
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    for (struct dirent *e = readdir(entries); e != NULL; e = readdir(entries)) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        (void)unlink(path);
    }
    (void)closedir(entries);
    assert_int_equal(rmdir(folder), 0);
}

void tape_path(const char *name, char out[TAPE_PATH_BYTES])
{
    (void)snprintf(out, TAPE_PATH_BYTES, "%s/%.64s", folder, name);
}

static void never_lost(const struct error *why)
{
    fail_msg("%s", why->text);
}

struct tape *tape_open(const char *name, enum tape_kind kind, uint32_t index)
{
    char path[TAPE_PATH_BYTES];
    struct tape *t = NULL;
    struct error error;
    tape_path(name, path);
    struct tape_options options = {
        .path = path,
        .owner = {.kind = (uint32_t)kind, .index = index, .revision = "test"},
        .lost = never_lost};
    assert_int_equal(tape_create(&options, &t, &error), STATUS_OK);
    return t;
}

/* ---- a small system ---- */

/* Two tokens make one character of two bytes, others one or three. */
static uint32_t append(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap)
{
    (void)ctx;
    if (token % 7 == 0) {
        *state += 1;
        if (*state % 2 == 1 || cap < 2) {
            return 0;
        }
        memcpy(out, "\xc3\xa9", 2);
        return 2;
    }
    uint32_t bytes = token % 5 == 0 ? 3 : 1;
    for (uint32_t i = 0; i < bytes && i < cap; i++) {
        out[i] = (char)('a' + token % 26);
    }
    return bytes < cap ? bytes : cap;
}

static const struct detokenizer detokenizer = {.append = append};

struct small {
    struct random random;
    struct arena arenas[4];
    struct tape_engine engine;
    struct tape_frontend frontend;
    struct tape_coordinator coordinator;
    struct tape_startup startup;
    time_ps now;
    uint32_t sent_count;
    int32_t handles[REQUESTS];
    const struct step_plan *plans[4];
    uint32_t plans_count;
    uint64_t tokens_count;
    bool lockstep;
};

static uint32_t below(struct small *s, uint32_t count)
{
    return (uint32_t)random_range(&s->random, 0, count - 1);
}

static struct arena *arena_of(struct small *s, uint32_t i, size_t bytes)
{
    assert_int_equal(arena_create(bytes, &s->arenas[i], NULL), STATUS_OK);
    return &s->arenas[i];
}

static void make_engine(struct small *s)
{
    struct engine_core_options o = {.clients_count = 1,
                                    .requests_max = 64,
                                    .max_model_len = MODEL_LEN,
                                    .max_num_seqs = 6,
                                    .max_num_batched_tokens = 48,
                                    .num_gpu_blocks = 40,
                                    .block_tokens = 4,
                                    .prefix_caching = true,
                                    .chunked_prefill = true,
                                    .async_depth = 2};
    if (s->lockstep) {
        o.wave = (struct wave_options){.ranks_count = 2,
                                       .check_interval_steps = 4,
                                       .confirm_running = true,
                                       .announce_start = true,
                                       .graph_tokens_max = 64,
                                       .dummy_graph = true};
    }
    struct arena *a = arena_of(s, 0, engine_core_arena_bytes(&o));
    s->engine.tape = tape_open("engine-0.rec", TAPE_ENGINE_CORE, 0);
    assert_int_equal(tape_engine_create(&s->engine, a, &o, NULL), STATUS_OK);
}

static void make_others(struct small *s)
{
    struct frontend_options f = {.client_count = 1,
                                 .engines_count = 2,
                                 .requests_max = 64,
                                 .max_model_len = MODEL_LEN,
                                 .text_bytes_max = MODEL_LEN * TEXT_BYTES,
                                 .detokenizer = &detokenizer};
    struct arena *a = arena_of(s, 1, frontend_arena_bytes(&f));
    s->frontend.tape = tape_open("api-0.rec", TAPE_API_SERVER, 0);
    assert_int_equal(tape_frontend_create(&s->frontend, a, &f, NULL), STATUS_OK);

    struct coordinator_options c = {.engines_count = 2,
                                    .publish_interval = 100 * PS_PER_MS,
                                    .heartbeat_interval = 5 * PS_PER_S,
                                    .settle_interval = 50 * PS_PER_MS,
                                    .lockstep = s->lockstep,
                                    .believe_engines_only = true};
    a = arena_of(s, 2, coordinator_arena_bytes(&c));
    s->coordinator.tape = tape_open("coordinator-0.rec", TAPE_COORDINATOR, 0);
    assert_int_equal(tape_coordinator_create(&s->coordinator, a, &c, NULL), STATUS_OK);

    struct startup_options b = {
        .engines_count = 2, .local_count = 2, .config_hash = "0123", .api_servers_count = 1};
    a = arena_of(s, 3, startup_arena_bytes(&b));
    s->startup.tape = tape_open("launcher-0.rec", TAPE_LAUNCHER, 0);
    tape_startup_create(&s->startup, a, &b);
}

static void start_up(struct small *s)
{
    struct startup_message m = {.local = true, .config_hash = "0123"};
    struct error error;
    uint32_t rank;
    assert_int_equal(tape_startup_heard(&s->startup, 0, &m, &error), STATUS_OK);
    assert_int_equal(tape_startup_heard(&s->startup, 7, &m, &error), STATUS_PROTOCOL);
    assert_int_equal(tape_startup_heard(&s->startup, 1, &m, &error), STATUS_OK);
    assert_int_equal(tape_startup_api_server_bound(&s->startup, &error), STATUS_OK);
    while (tape_startup_take_init(&s->startup, &rank)) {
        m.ready = true;
        assert_int_equal(tape_startup_heard(&s->startup, rank, &m, &error), STATUS_OK);
    }
    assert_int_equal(tape_startup_api_server_ready(&s->startup, &error), STATUS_OK);
    assert_true(startup_serving(s->startup.startup));
}

static void take_actions(struct small *s)
{
    struct coordinator_action action;
    struct coordinator_state state;
    while (tape_coordinator_take_action(&s->coordinator, &action)) {
        if (action.kind == COORDINATOR_START_WAVE) {
            tape_engine_start_wave(&s->engine, &action.start);
        } else if (action.kind == COORDINATOR_PUBLISH) {
            tape_frontend_coordinator_state(&s->frontend, &action.state);
        }
    }
    if (tape_coordinator_deadline(&s->coordinator) <= s->now &&
        tape_coordinator_publish(&s->coordinator, s->now, false, &state)) {
        tape_frontend_coordinator_state(&s->frontend, &state);
    }
}

/* All go to engine core 0; the ids of some are as long as the process allows. */
static void submit(struct small *s)
{
    uint32_t prompt[MODEL_LEN];
    char id[40];
    uint32_t number = s->sent_count++;
    uint32_t tokens = 1 + below(s, MODEL_LEN / 2);
    for (uint32_t i = 0; i < tokens; i++) {
        prompt[i] = i < 16 ? i : below(s, VOCABULARY);
    }
    (void)snprintf(id, sizeof id, "cmpl-%u%s", number, number % 5 == 0 ? "-and-a-long-name" : "");
    struct frontend_request r = {.external_id = id,
                                 .serial = number,
                                 .prompt_token_ids = prompt,
                                 .prompt_tokens_count = tokens,
                                 .prompt_hash = hash64(prompt, tokens * sizeof *prompt, 0),
                                 .sampling = {.max_tokens = 1 + number * 5 % 30,
                                              .eos_token_id = number % 3 == 0 ? 3 : TOKEN_NONE,
                                              .temperature = 0.5F,
                                              .n = 1},
                                 .data_parallel_rank = 0,
                                 .stream = number % 4 != 1,
                                 .stop_count = number % 6 == 0 ? 1 : 0,
                                 .stop = {"ab"}};
    struct frontend_send send;
    struct error error;
    s->handles[number] = FRONTEND_HANDLE_NONE;
    assert_int_equal(tape_frontend_submit(&s->frontend, &r, s->now, &send, &error), STATUS_OK);
    s->handles[number] = send.handle;
    if (send.first_request) {
        tape_coordinator_first_request(&s->coordinator,
                                       &(struct first_request){send.engine, send.wave});
        take_actions(s);
    }
    send.request.tag = 0; /* as it comes over the wire */
    (void)!tape_engine_add(&s->engine, &send.request, s->now, &error);
}

static void deliver(struct small *s, const struct engine_outputs *outputs)
{
    struct engine_outputs message = *outputs;
    struct frontend_delta delta;
    struct frontend_abort abort_request;
    tape_frontend_outputs_begin(&s->frontend, &message);
    uint32_t count;
    do {
        count = tape_frontend_outputs_slice(&s->frontend, s->now);
        while (tape_frontend_take(&s->frontend, &delta)) {
            s->tokens_count += delta.new_tokens_count;
        }
    } while (count > 0);
    while (tape_frontend_take_abort(&s->frontend, &abort_request)) {
        tape_engine_abort(&s->engine, abort_request.id);
    }
}

static void complete(struct small *s)
{
    const struct step_plan *plan = s->plans[0];
    uint32_t tokens[64];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        if ((plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0) {
            tokens[count++] = below(s, VOCABULARY);
        }
    }
    struct step_result result = {.step = plan->step, .tokens = tokens, .tokens_count = count};
    struct engine_core_messages messages;
    s->plans[0] = s->plans[1];
    s->plans[1] = s->plans[2];
    s->plans_count--;
    tape_engine_complete(&s->engine, s->now, &result, &messages);
    for (uint32_t i = 0; i < messages.count; i++) {
        deliver(s, &messages.items[i].outputs);
    }
}

static void publish(struct small *s)
{
    struct scheduler_stats stats;
    struct engine_outputs notice;
    while (tape_engine_take_notice(&s->engine, s->now, &notice)) {
        tape_coordinator_outputs(&s->coordinator, &notice);
        take_actions(s);
    }
    if (tape_engine_counts_changed(&s->engine, &stats)) {
        tape_coordinator_outputs(&s->coordinator, &(struct engine_outputs){.stats = &stats,
                                                                           .timestamp = s->now,
                                                                           .wave_complete = -1,
                                                                           .start_wave = -1});
        take_actions(s);
    }
}

/* The other rank has nothing to do. */
static void follow_wave(struct small *s)
{
    struct wave_ballot ballot;
    for (;;) {
        switch (tape_engine_wave_next(&s->engine, &ballot)) {
        case WAVE_NEED_NOTHING:
            publish(s);
            return;
        case WAVE_NEED_DUMMY:
            (void)tape_engine_forward(&s->engine, NULL);
            break;
        case WAVE_NEED_ALLREDUCE:
            tape_engine_wave_checked(&s->engine, &ballot);
            break;
        }
    }
}

static void turn(struct small *s)
{
    const struct step_plan *plan;
    for (;;) {
        s->now += 100 * PS_PER_US;
        switch (tape_engine_turn(&s->engine, s->now, &plan)) {
        case ENGINE_TURN_SUBMIT:
            s->plans[s->plans_count++] = plan;
            (void)tape_engine_forward(&s->engine, plan);
            break;
        case ENGINE_TURN_AWAIT:
            s->now += 3 * PS_PER_MS;
            complete(s);
            return;
        case ENGINE_TURN_DONE:
            return;
        }
    }
}

/* A pause in the middle, and the resume when it is done. */
static void pause_or_resume(struct small *s, uint32_t loop)
{
    bool unfinished = false;
    if (loop == 20) {
        tape_engine_pause(&s->engine, PAUSE_KEEP);
    } else if (loop > 20 && tape_engine_pause_state(&s->engine) != UNPAUSED &&
               tape_engine_pause_done(&s->engine)) {
        (void)tape_engine_reset_prefix_cache(&s->engine);
        if (tape_engine_resume(&s->engine, &unfinished) == RESUME_ALLREDUCE) {
            tape_engine_resumed(&s->engine, true);
        }
    }
}

uint64_t tape_small_system(uint64_t seed, bool lockstep)
{
    static struct small s;
    s = (struct small){.lockstep = lockstep, .now = PS_PER_S};
    s.random = random_stream(seed, "small system", 0);
    make_engine(&s);
    make_others(&s);
    start_up(&s);
    tape_coordinator_subscribe(&s.coordinator);
    take_actions(&s);
    tape_coordinator_subscribe(&s.coordinator);
    take_actions(&s);
    uint32_t loop = 0;
    while ((s.sent_count < REQUESTS || tape_engine_has_work(&s.engine)) && loop < LOOPS_MAX) {
        if (s.sent_count < REQUESTS && below(&s, 3) != 0) {
            submit(&s);
        }
        if (loop % 9 == 4 && s.handles[s.sent_count - 1] != FRONTEND_HANDLE_NONE &&
            s.sent_count % 2 == 0) {
            tape_frontend_cancel(&s.frontend, s.handles[s.sent_count - 1]);
            s.handles[s.sent_count - 1] = FRONTEND_HANDLE_NONE;
        }
        publish(&s);
        turn(&s);
        publish(&s);
        follow_wave(&s);
        if (!lockstep) {
            pause_or_resume(&s, loop);
        }
        loop++;
    }
    assert_true(loop < LOOPS_MAX);
    tape_frontend_fail_all(&s.frontend);
    tape_close(s.engine.tape);
    tape_close(s.frontend.tape);
    tape_close(s.coordinator.tape);
    tape_close(s.startup.tape);
    tape_code_free(&s.frontend.texts);
    for (uint32_t i = 0; i < 4; i++) {
        arena_destroy(&s.arenas[i]);
    }
    return s.tokens_count;
}

/* ---- tapes ---- */

void tape_replayed(const char *name, struct tape_summary *out)
{
    struct tape_reader reader;
    struct error error;
    char path[TAPE_PATH_BYTES];
    tape_path(name, path);
    if (tape_reader_open(&reader, path, &error) != STATUS_OK ||
        tape_replay(&reader, out, &error) != STATUS_OK) {
        fail_msg("%s: %s", name, error.text);
    }
    tape_reader_close(&reader);
}

uint32_t tape_copy(const char *from, const char *to, const struct tape_change *change)
{
    struct tape_reader reader;
    struct tape_frame frame;
    struct error error;
    char path[TAPE_PATH_BYTES];
    uint32_t changes = 0;
    tape_path(from, path);
    assert_int_equal(tape_reader_open(&reader, path, &error), STATUS_OK);
    struct tape *t = tape_open(to, TAPE_ENGINE_CORE, 0);
    while (tape_read(&reader, &frame, &error) == STATUS_OK) {
        unsigned char *data = malloc(frame.bytes);
        size_t bytes = frame.bytes;
        assert_non_null(data);
        memcpy(data, frame.data, bytes);
        changes += change->change(change->ctx, frame.number, data, &bytes) ? 1 : 0;
        if (bytes == 0) {
            free(data);
            break;
        }
        const struct tape_code body = {.data = data + 1, .bytes = bytes - 1};
        tape_code_append(tape_begin(t, data[0]), &body);
        tape_end(t);
        free(data);
    }
    tape_close(t);
    tape_reader_close(&reader);
    return changes;
}
