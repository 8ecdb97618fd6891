/*
 * coordinator_wave_test.c - the coordinator of ranks in lock-step: the transition table for both
 * variants, READY, snapshots of one step boundary, and when it publishes against a poll loop
 * written out as vLLM's is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "engine/base/random.h"
#include "engine/core/coordinator.h"

enum {
    ENGINES = 3
};

static struct arena arena;

static struct coordinator *make(enum coordinator_publish_rule rule, bool evidence)
{
    const struct coordinator_options options = {
        .engines_count = ENGINES,
        .publish_interval = 100 * PS_PER_MS,
        .heartbeat_interval = 5 * PS_PER_S,
        .rule = rule,
        .lockstep = true,
        .settle_interval = 50 * PS_PER_MS,
        .believe_engines_only = evidence,
    };
    assert_int_equal(arena_create(coordinator_arena_bytes(&options), &arena, NULL), STATUS_OK);
    struct coordinator *c = NULL;
    assert_int_equal(coordinator_create(&arena, &options, &c, NULL), STATUS_OK);
    return c;
}

static int tear_down(void **state)
{
    (void)state;
    arena_destroy(&arena);
    return 0;
}

static void notice(struct coordinator *c, uint32_t engine, int64_t complete, int64_t start)
{
    const struct engine_outputs outputs = {
        .engine_index = engine, .wave_complete = complete, .start_wave = start};
    coordinator_outputs(c, &outputs);
}

static void give_stats(struct coordinator *c, uint32_t engine, uint32_t wave, uint32_t step,
                       uint32_t running)
{
    const struct scheduler_stats stats = {
        .current_wave = wave, .step_counter = step, .running_count = running};
    const struct engine_outputs outputs = {
        .engine_index = engine, .stats = &stats, .wave_complete = -1, .start_wave = -1};
    coordinator_outputs(c, &outputs);
}

/* ---- transitions ---- */

enum {
    WAVE = 5,
    NO_START = -1,   /* nothing is sent to the engine cores */
    START_ALL = -2,  /* START_DP_WAVE that excludes nobody */
    FROM_ENGINE = 2, /* who speaks */
};

struct transition {
    bool running;     /* before, in wave WAVE */
    char event;       /* F: FIRST_REQ, S: start_wave, C: wave_complete */
    uint32_t wave;    /* of the message */
    bool evidence;    /* believe_engines_only */
    uint32_t to_wave; /* after */
    bool to_running;
    bool publishes;
    int start; /* NO_START, START_ALL, or the engine that START_DP_WAVE leaves out */
};

static const struct transition transitions[] = {
    /* Idle. */
    {false, 'F', WAVE, false, WAVE, true, true, FROM_ENGINE},
    {false, 'F', WAVE - 1, false, WAVE, true, true, START_ALL},
    {false, 'F', WAVE, true, WAVE, false, false, FROM_ENGINE},
    {false, 'F', WAVE - 1, true, WAVE, false, false, START_ALL},
    {false, 'S', WAVE, false, WAVE, true, true, FROM_ENGINE},
    {false, 'S', WAVE + 1, false, WAVE + 1, true, true, FROM_ENGINE},
    {false, 'S', WAVE - 1, false, WAVE, false, false, NO_START},
    {false, 'S', WAVE, true, WAVE, true, true, FROM_ENGINE},
    {false, 'S', WAVE + 1, true, WAVE + 1, true, true, FROM_ENGINE},
    {false, 'S', WAVE - 1, true, WAVE, false, false, NO_START},
    {false, 'C', WAVE, false, WAVE + 1, false, true, NO_START},
    {false, 'C', WAVE + 2, false, WAVE + 3, false, true, NO_START},
    {false, 'C', WAVE - 1, false, WAVE, false, false, NO_START},
    {false, 'C', WAVE, true, WAVE + 1, false, true, NO_START},
    /* Running. */
    {true, 'F', WAVE, false, WAVE, true, false, NO_START},
    {true, 'F', WAVE - 1, false, WAVE, true, false, NO_START},
    {true, 'F', WAVE, true, WAVE, true, false, NO_START},
    {true, 'F', WAVE - 1, true, WAVE, true, false, NO_START},
    {true, 'S', WAVE + 1, false, WAVE + 1, true, true, FROM_ENGINE},
    {true, 'S', WAVE, false, WAVE, true, false, NO_START},
    {true, 'S', WAVE - 1, false, WAVE, true, false, NO_START},
    {true, 'S', WAVE + 1, true, WAVE + 1, true, true, FROM_ENGINE},
    {true, 'S', WAVE, true, WAVE, true, false, NO_START},
    {true, 'C', WAVE, false, WAVE + 1, false, true, NO_START},
    {true, 'C', WAVE + 1, false, WAVE + 2, false, true, NO_START},
    {true, 'C', WAVE - 1, false, WAVE, true, false, NO_START},
    {true, 'C', WAVE, true, WAVE + 1, false, true, NO_START},
    {true, 'C', WAVE - 1, true, WAVE, true, false, NO_START},
};

static void drop_actions(struct coordinator *c)
{
    struct coordinator_action action;
    while (coordinator_take_action(c, &action)) {
    }
}

static void check_actions(struct coordinator *c, const struct transition *t)
{
    struct coordinator_action action;
    if (t->start != NO_START) {
        assert_true(coordinator_take_action(c, &action));
        assert_int_equal(action.kind, COORDINATOR_START_WAVE);
        assert_int_equal(action.start.wave, t->to_wave);
        assert_int_equal(action.start.exclude, t->start == START_ALL ? -1 : t->start);
    }
    if (t->publishes) {
        assert_true(coordinator_take_action(c, &action));
        assert_int_equal(action.kind, COORDINATOR_PUBLISH);
        assert_null(action.state.counts);
        assert_int_equal(action.state.wave, t->to_wave);
        assert_int_equal(action.state.running, t->to_running);
    }
    assert_false(coordinator_take_action(c, &action));
}

static void transition_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof transitions / sizeof *transitions; i++) {
        const struct transition *t = &transitions[i];
        struct coordinator *c = make(PUBLISH_WHEN_DUE, t->evidence);
        notice(c, 0, WAVE - 1, -1);
        drop_actions(c);
        if (t->running) {
            notice(c, 0, -1, WAVE);
            drop_actions(c);
        }
        struct coordinator_state before;
        time_ps deadline = coordinator_deadline(c);
        if (t->event == 'F') {
            const struct first_request first = {.engine = FROM_ENGINE, .wave = t->wave};
            coordinator_first_request(c, &first);
        } else if (t->event == 'S') {
            notice(c, FROM_ENGINE, -1, t->wave);
        } else {
            notice(c, 0, t->wave, -1);
        }
        check_actions(c, t);
        assert_int_equal(coordinator_current_wave(c), t->to_wave);
        assert_int_equal(coordinator_engines_running(c), t->to_running);
        /* A wave change is no publish of counts and does not put one off. */
        assert_true(coordinator_deadline(c) == deadline);
        assert_true(coordinator_publish(c, 60 * PS_PER_MS, false, &before) ||
                    coordinator_publish(c, 200 * PS_PER_MS, false, &before));
        assert_int_equal(before.wave, t->to_wave);
        assert_int_equal(before.running, t->to_running);
        assert_non_null(before.counts);
        assert_null(coordinator_check(c));
        arena_destroy(&arena);
    }
    (void)make(PUBLISH_WHEN_DUE, true);
}

/* One message may carry counts and a notice; an end comes before a start. */
static void stats_and_notice_in_one(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE, true);
    const struct scheduler_stats stats = {.running_count = 4};
    const struct engine_outputs outputs = {
        .engine_index = 1, .stats = &stats, .wave_complete = 0, .start_wave = 7};
    coordinator_outputs(c, &outputs);
    assert_int_equal(coordinator_current_wave(c), 1);
    assert_false(coordinator_engines_running(c));
    drop_actions(c);
    struct coordinator_state out;
    assert_false(coordinator_publish(c, 0, false, &out));
    assert_true(coordinator_publish(c, 50 * PS_PER_MS, false, &out));
    assert_int_equal(out.counts[1].running, 4);
}

static void nonsense_from_peers(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE, true);
    struct coordinator_action action;
    notice(c, 0, UINT32_MAX, -1);
    notice(c, 0, -1, (int64_t)UINT32_MAX + 1);
    assert_false(coordinator_take_action(c, &action));
    coordinator_first_request(c, &(struct first_request){.engine = UINT32_MAX, .wave = 0});
    assert_true(coordinator_take_action(c, &action));
    assert_int_equal(action.start.exclude, -1);
    notice(c, ENGINES, -1, 0);
    assert_true(coordinator_take_action(c, &action));
    assert_int_equal(action.start.exclude, -1);
    drop_actions(c);
    give_stats(c, ENGINES, 9, 9, 9);
    assert_int_equal(coordinator_counters(c).stats_count, 0);
}

/* READY when the last has subscribed, and again for one that comes late. */
static void ready_after_all_and_for_late_ones(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE, true);
    struct coordinator_action action;
    for (uint32_t i = 1; i <= ENGINES + 2; i++) {
        coordinator_subscribe(c);
        assert_int_equal(coordinator_take_action(c, &action), i >= ENGINES);
        if (i >= ENGINES) {
            assert_int_equal(action.kind, COORDINATOR_READY);
            assert_false(coordinator_take_action(c, &action));
        }
    }
}

/* ---- snapshots ---- */

static void counts_are_of_one_step(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE, true);
    struct coordinator_state out;
    assert_true(coordinator_publish(c, 60 * PS_PER_MS, false, &out));
    for (uint32_t e = 0; e < ENGINES; e++) {
        give_stats(c, e, 0, 1, 10 + e);
    }
    give_stats(c, 0, 0, 2, 20);
    give_stats(c, 1, 0, 2, 21);
    assert_true(coordinator_publish(c, 160 * PS_PER_MS, true, &out));
    for (uint32_t e = 0; e < ENGINES; e++) {
        assert_int_equal(out.counts[e].running, 10 + e);
    }
    /* Counts changed since, but no later step closed this one: silence is waited for. */
    assert_true(coordinator_deadline(c) == 260 * PS_PER_MS);
    give_stats(c, 2, 0, 2, 22);
    assert_false(coordinator_publish(c, 255 * PS_PER_MS, false, &out));
    assert_true(coordinator_deadline(c) == 305 * PS_PER_MS);
    assert_false(coordinator_publish(c, 305 * PS_PER_MS, true, &out));
    assert_true(coordinator_publish(c, 305 * PS_PER_MS, false, &out));
    for (uint32_t e = 0; e < ENGINES; e++) {
        assert_int_equal(out.counts[e].running, 20 + e);
    }
    assert_true(coordinator_deadline(c) == 5305 * PS_PER_MS);
    /* A later wave is a later step; an earlier step is late and closes nothing. */
    give_stats(c, 0, 1, 1, 30);
    give_stats(c, 1, 0, 9, 31);
    assert_int_equal(coordinator_counters(c).late_stats_count, 1);
    assert_null(coordinator_check(c));
}

/* ---- publishing against vLLM's loop ---- */

enum {
    EVENTS = 400,
    PUBLISHES_MAX = 8000,
    READ_COST_US = 300
};

struct publish {
    int64_t at_us;
    uint32_t running[ENGINES];
};

struct event {
    int64_t at_us;
    uint32_t engine; /* ENGINES: a FIRST_REQ */
    uint32_t wave;
    uint32_t step;
    uint32_t running;
};

static struct event events[EVENTS];
static int64_t end_us;

/* Ranks that step together, some late, with silences and floods. */
static void random_events(struct random *r)
{
    int64_t now_us = random_range(r, 0, 200000);
    int64_t gap_us = 1000;
    uint32_t wave = 0;
    uint32_t step = 0;
    for (uint32_t i = 0; i < EVENTS; i++) {
        if (random_range(r, 0, 24) == 0) {
            static const int64_t gaps_us[] = {50, 200, 1000, 20000, 49000, 90000, 2000000};
            gap_us = gaps_us[random_range(r, 0, 6)];
        }
        now_us += random_range(r, 0, 2 * gap_us);
        step += random_range(r, 0, 2) == 0 ? 1 : 0;
        if (random_range(r, 0, 30) == 0) {
            wave++;
            step = 0;
        }
        events[i] = (struct event){
            .at_us = now_us,
            .engine = (uint32_t)random_range(r, 0, 8 * ENGINES) % (ENGINES + 1),
            .wave = wave,
            .step = step - (step > 0 && random_range(r, 0, 4) == 0 ? 1 : 0),
            .running = (uint32_t)random_range(r, 0, 1000),
        };
    }
    end_us = now_us + 12000000;
}

/* State of the Python coordinator that its stats rule touches. */
struct python {
    uint32_t running[ENGINES];
    uint32_t snapshot[ENGINES];
    bool has_snapshot;
    bool stats_changed;
    int64_t last_wave;
    int64_t last_step;
};

static void python_stats(struct python *p, const struct event *e)
{
    if (e->engine == ENGINES) {
        return;
    }
    if (e->wave > p->last_wave || (e->wave == p->last_wave && e->step > p->last_step)) {
        if (p->stats_changed) {
            memcpy(p->snapshot, p->running, sizeof p->running);
            p->has_snapshot = true;
        }
        p->last_wave = e->wave;
        p->last_step = e->step;
    }
    p->running[e->engine] = e->running;
    p->stats_changed = true;
}

static void python_publish(struct python *p, struct publish *out)
{
    if (p->has_snapshot) {
        memcpy(out->running, p->snapshot, sizeof p->snapshot);
        p->has_snapshot = false;
    } else {
        memcpy(out->running, p->running, sizeof p->running);
        p->stats_changed = false;
    }
}

static uint32_t python_loop(bool when_due, struct publish *out)
{
    struct python p = {.last_wave = -1, .last_step = -1};
    uint32_t count = 0;
    uint32_t next = 0;
    int64_t last_publish_us = -1000000000000;
    int64_t now_us = 0;
    while (now_us < end_us) {
        int64_t elapsed_us = now_us - last_publish_us;
        int64_t wait_for_us = p.stats_changed ? 100000 : 5000000;
        int64_t timeout_us = p.has_snapshot ? 0 : 50000;
        if (wait_for_us - elapsed_us > timeout_us) {
            timeout_us = wait_for_us - elapsed_us;
        }
        bool event = next < EVENTS && events[next].at_us <= now_us + timeout_us;
        if (event && events[next].at_us > now_us) {
            now_us = events[next].at_us;
        } else if (!event) {
            now_us += timeout_us;
        }
        bool due = now_us - last_publish_us >= wait_for_us && p.has_snapshot;
        if (!event || (when_due && due)) {
            out[count].at_us = now_us;
            python_publish(&p, &out[count]);
            count++;
            last_publish_us = now_us;
            continue;
        }
        python_stats(&p, &events[next]);
        next++;
        now_us += READ_COST_US;
    }
    return count;
}

static void machine_message(struct coordinator *c, const struct event *e)
{
    if (e->engine == ENGINES) {
        coordinator_first_request(c, &(struct first_request){.engine = 0, .wave = e->wave});
    } else {
        give_stats(c, e->engine, e->wave, e->step, e->running);
    }
    drop_actions(c);
}

static void keep_publish(const struct coordinator_state *state, time_ps now, struct publish *out)
{
    out->at_us = now / PS_PER_US;
    for (uint32_t i = 0; i < ENGINES; i++) {
        out->running[i] = state->counts[i].running;
    }
}

/* The same with the state machine, driven as its header says: coordinator_publish() after every
 * message, and when the deadline passed. */
static uint32_t machine_loop(struct coordinator *c, struct publish *out)
{
    uint32_t count = 0;
    uint32_t next = 0;
    time_ps now = 0;
    struct coordinator_state state;
    while (now < end_us * PS_PER_US) {
        time_ps deadline = coordinator_deadline(c);
        time_ps wake = deadline > now ? deadline : now;
        bool pending = next < EVENTS && events[next].at_us * PS_PER_US <= wake;
        if (pending && events[next].at_us * PS_PER_US > now) {
            now = events[next].at_us * PS_PER_US;
        } else if (!pending) {
            now = wake;
        }
        if (coordinator_publish(c, now, pending, &state)) {
            keep_publish(&state, now, &out[count++]);
            continue;
        }
        assert_true(pending);
        machine_message(c, &events[next]);
        next++;
        now += READ_COST_US * PS_PER_US;
        /* Also tells the time at which the message was done. */
        if (coordinator_publish(c, now, true, &state)) {
            keep_publish(&state, now, &out[count++]);
        }
    }
    return count;
}

static void compare_with_python(enum coordinator_publish_rule rule)
{
    static struct publish want[PUBLISHES_MAX];
    static struct publish got[PUBLISHES_MAX];
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct random r = random_stream(seed, "lockstep coordinator", 0);
        random_events(&r);
        uint32_t want_count = python_loop(rule == PUBLISH_WHEN_DUE, want);
        struct coordinator *c = make(rule, true);
        uint32_t got_count = machine_loop(c, got);
        assert_int_equal(got_count, want_count);
        for (uint32_t i = 0; i < want_count; i++) {
            assert_true(got[i].at_us == want[i].at_us);
            assert_memory_equal(got[i].running, want[i].running, sizeof got[i].running);
        }
        arena_destroy(&arena);
    }
    (void)make(rule, true);
}

static void equals_python_loop_newest(void **state)
{
    (void)state;
    compare_with_python(PUBLISH_WHEN_DUE);
}

static void equals_python_loop_before(void **state)
{
    (void)state;
    compare_with_python(PUBLISH_WHEN_QUIET);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(transition_table),          TEST(stats_and_notice_in_one),
        TEST(nonsense_from_peers),       TEST(ready_after_all_and_for_late_ones),
        TEST(counts_are_of_one_step),    TEST(equals_python_loop_newest),
        TEST(equals_python_loop_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
