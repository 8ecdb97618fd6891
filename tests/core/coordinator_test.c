/*
 * coordinator_test.c - when the coordinator publishes and what: fixed timelines, and random ones
 * against a poll loop written out as vLLM's is, for both publish rules.
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

static struct coordinator *make(enum coordinator_publish_rule rule)
{
    const struct coordinator_options options = {
        .engines_count = ENGINES,
        .publish_interval = 100 * PS_PER_MS,
        .heartbeat_interval = 5 * PS_PER_S,
        .rule = rule,
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

static void options_are_checked(void **state)
{
    (void)state;
    static const struct coordinator_options wrong[] = {
        {.engines_count = 0, .publish_interval = 100, .heartbeat_interval = 5000},
        {.engines_count = 1, .publish_interval = 0, .heartbeat_interval = 5000},
        {.engines_count = 1, .publish_interval = 100, .heartbeat_interval = 99},
        {.engines_count = 1,
         .publish_interval = 100,
         .heartbeat_interval = 5000,
         .settle_interval = -1},
    };
    static const char *const names[] = {"engines_count", "publish_interval", "heartbeat_interval",
                                        "settle_interval"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(arena_create(4096, &arena, NULL), STATUS_OK);
        struct coordinator *c = NULL;
        struct error error = {0};
        assert_int_equal(coordinator_create(&arena, &wrong[i], &c, &error), STATUS_INVALID);
        assert_ptr_equal(strstr(error.text, names[i]), error.text);
        assert_null(c);
        arena_destroy(&arena);
    }
}

static void first_publish_is_at_once_then_heartbeat(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE);
    struct coordinator_state out = {.wave = 77};
    assert_true(coordinator_deadline(c) <= 0);
    assert_true(coordinator_publish(c, 3, false, &out));
    assert_int_equal(out.counts_count, ENGINES);
    assert_int_equal(out.wave, 0);
    assert_false(out.running);
    for (uint32_t i = 0; i < ENGINES; i++) {
        assert_int_equal(out.counts[i].waiting, 0);
        assert_int_equal(out.counts[i].running, 0);
    }
    assert_true(coordinator_deadline(c) == 3 + 5 * PS_PER_S);
    assert_false(coordinator_publish(c, 2 + 5 * PS_PER_S, false, &out));
    assert_true(coordinator_publish(c, 3 + 5 * PS_PER_S, false, &out));
}

static void changed_counts_wait_for_the_interval(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE);
    struct coordinator_state out;
    assert_true(coordinator_publish(c, 0, false, &out));
    const struct scheduler_stats stats = {
        .running_count = 7, .waiting_count = 9, .kv_cache_usage = 0.5};
    coordinator_stats(c, 1, &stats);
    assert_true(coordinator_deadline(c) == 100 * PS_PER_MS);
    assert_false(coordinator_publish(c, 100 * PS_PER_MS - 1, false, &out));
    assert_true(coordinator_publish(c, 100 * PS_PER_MS, false, &out));
    assert_int_equal(out.counts[1].waiting, 9);
    assert_int_equal(out.counts[1].running, 7);
    assert_true(out.counts[1].kv_usage > 0.49 && out.counts[1].kv_usage < 0.51);
    assert_int_equal(out.counts[0].waiting, 0);
    assert_int_equal(out.counts[2].running, 0);
    /* Nothing new: the next is a heartbeat. */
    assert_true(coordinator_deadline(c) == 100 * PS_PER_MS + 5 * PS_PER_S);
}

static void late_change_is_published_at_once(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE);
    struct coordinator_state out;
    assert_true(coordinator_publish(c, 0, false, &out));
    coordinator_stats(c, 0, &(struct scheduler_stats){.running_count = 1});
    assert_true(coordinator_publish(c, 2 * PS_PER_S, false, &out));
    assert_int_equal(out.counts[0].running, 1);
}

static void busy_input_holds_up_only_the_old_rule(void **state)
{
    (void)state;
    struct coordinator_state out;
    struct coordinator *c = make(PUBLISH_WHEN_DUE);
    assert_true(coordinator_publish(c, 0, true, &out));
    arena_destroy(&arena);
    c = make(PUBLISH_WHEN_QUIET);
    assert_false(coordinator_publish(c, 0, true, &out));
    assert_true(coordinator_publish(c, 1, false, &out));
}

static void noise_changes_nothing(void **state)
{
    (void)state;
    struct coordinator *c = make(PUBLISH_WHEN_DUE);
    struct coordinator_state out;
    assert_true(coordinator_publish(c, 0, false, &out));
    coordinator_stats(c, ENGINES, &(struct scheduler_stats){.running_count = 5});
    coordinator_stats(c, UINT32_MAX, &(struct scheduler_stats){.running_count = 5});
    coordinator_first_request(c, &(struct first_request){.engine = 1, .wave = 4});
    assert_true(coordinator_deadline(c) == 5 * PS_PER_S);
    assert_true(coordinator_publish(c, 5 * PS_PER_S, false, &out));
    assert_false(out.running);
    assert_int_equal(out.wave, 0);
    for (uint32_t i = 0; i < ENGINES; i++) {
        assert_int_equal(out.counts[i].running, 0);
    }
    struct coordinator_counters counters = coordinator_counters(c);
    assert_int_equal(counters.stats_count, 0);
    assert_int_equal(counters.first_requests_count, 1);
    assert_int_equal(counters.publishes_count, 2);
}

/* --- random timelines --- */

enum {
    EVENTS = 400,
    PUBLISHES_MAX = 4000,
    READ_COST_US = 300
};

struct publish {
    int64_t at_us;
    uint32_t running[ENGINES];
};

struct timeline {
    int64_t at_us[EVENTS];
    uint32_t engine[EVENTS];
    uint32_t running[EVENTS];
    int64_t end_us;
};

/* Stretches of silence, of steady messages, and of floods faster than messages can be read. */
static void random_timeline(struct timeline *t, struct random *r)
{
    int64_t now_us = random_range(r, 0, 200000);
    int64_t gap_us = 1000;
    for (uint32_t i = 0; i < EVENTS; i++) {
        if (random_range(r, 0, 24) == 0) {
            static const int64_t gaps_us[] = {50, 200, 1000, 20000, 90000, 2000000};
            gap_us = gaps_us[random_range(r, 0, 5)];
        }
        now_us += random_range(r, 0, 2 * gap_us);
        t->at_us[i] = now_us;
        t->engine[i] = (uint32_t)random_range(r, 0, ENGINES - 1);
        t->running[i] = (uint32_t)random_range(r, 0, 1000);
    }
    t->end_us = now_us + 12000000;
}

/*
 * The loop as it is in the Python coordinator, dense mode, in integer microseconds: poll with a
 * time-out, one message a turn. Reading a message takes READ_COST_US.
 */
static uint32_t python_loop(const struct timeline *t, bool when_due, struct publish *out)
{
    uint32_t count = 0;
    uint32_t next = 0;
    uint32_t running[ENGINES] = {0};
    bool stats_changed = false;
    int64_t last_publish_us = -1000000000000;
    int64_t now_us = 0;
    while (now_us < t->end_us) {
        int64_t elapsed_us = now_us - last_publish_us;
        int64_t wait_for_us = stats_changed ? 100000 : 5000000;
        int64_t timeout_us = wait_for_us > elapsed_us ? wait_for_us - elapsed_us : 0;
        bool event = next < EVENTS && t->at_us[next] <= now_us + timeout_us;
        if (event && t->at_us[next] > now_us) {
            now_us = t->at_us[next];
        } else if (!event) {
            now_us += timeout_us;
        }
        bool due = now_us - last_publish_us >= wait_for_us;
        if (!event || (when_due && due)) {
            out[count].at_us = now_us;
            memcpy(out[count].running, running, sizeof running);
            count++;
            stats_changed = false;
            last_publish_us = now_us;
            continue;
        }
        running[t->engine[next]] = t->running[next];
        stats_changed = true;
        next++;
        now_us += READ_COST_US;
    }
    return count;
}

/* The same with the state machine, driven the way its header says. */
static uint32_t machine_loop(struct coordinator *c, const struct timeline *t, struct publish *out)
{
    uint32_t count = 0;
    uint32_t next = 0;
    time_ps now = 0;
    while (now < t->end_us * PS_PER_US) {
        time_ps deadline = coordinator_deadline(c);
        time_ps wake = deadline > now ? deadline : now;
        bool pending = next < EVENTS && t->at_us[next] * PS_PER_US <= wake;
        if (pending && t->at_us[next] * PS_PER_US > now) {
            now = t->at_us[next] * PS_PER_US;
        } else if (!pending) {
            now = wake;
        }
        struct coordinator_state state;
        if (coordinator_publish(c, now, pending, &state)) {
            out[count].at_us = now / PS_PER_US;
            for (uint32_t i = 0; i < ENGINES; i++) {
                out[count].running[i] = state.counts[i].running;
            }
            count++;
            continue;
        }
        assert_true(pending);
        const struct scheduler_stats stats = {.running_count = t->running[next]};
        coordinator_stats(c, t->engine[next], &stats);
        next++;
        now += READ_COST_US * PS_PER_US;
    }
    return count;
}

static void compare_with_python(enum coordinator_publish_rule rule)
{
    static struct timeline timeline;
    static struct publish want[PUBLISHES_MAX];
    static struct publish got[PUBLISHES_MAX];
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct random r = random_stream(seed, "coordinator", 0);
        random_timeline(&timeline, &r);
        uint32_t want_count = python_loop(&timeline, rule == PUBLISH_WHEN_DUE, want);
        struct coordinator *c = make(rule);
        uint32_t got_count = machine_loop(c, &timeline, got);
        assert_int_equal(got_count, want_count);
        for (uint32_t i = 0; i < want_count; i++) {
            assert_true(got[i].at_us == want[i].at_us);
            assert_memory_equal(got[i].running, want[i].running, sizeof got[i].running);
        }
        assert_int_equal(coordinator_counters(c).publishes_count, want_count);
        assert_int_equal(coordinator_counters(c).stats_count, EVENTS);
        arena_destroy(&arena);
    }
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

/* Under a flood the newest rule publishes every 100 ms and one message; the older one is starved
 * until it ends. */
static void flood_starves_only_the_old_rule(void **state)
{
    (void)state;
    static struct timeline timeline;
    static struct publish out[PUBLISHES_MAX];
    for (uint32_t i = 0; i < EVENTS; i++) {
        timeline.at_us[i] = 1000 + i;
    }
    timeline.end_us = EVENTS * READ_COST_US;
    uint32_t newest = machine_loop(make(PUBLISH_WHEN_DUE), &timeline, out);
    assert_int_equal(newest, 2);
    assert_true(out[1].at_us >= 100000 && out[1].at_us <= 100000 + READ_COST_US);
    arena_destroy(&arena);
    assert_int_equal(machine_loop(make(PUBLISH_WHEN_QUIET), &timeline, out), 1);
    assert_int_equal(out[0].at_us, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(options_are_checked, tear_down),
        cmocka_unit_test_teardown(first_publish_is_at_once_then_heartbeat, tear_down),
        cmocka_unit_test_teardown(changed_counts_wait_for_the_interval, tear_down),
        cmocka_unit_test_teardown(late_change_is_published_at_once, tear_down),
        cmocka_unit_test_teardown(busy_input_holds_up_only_the_old_rule, tear_down),
        cmocka_unit_test_teardown(noise_changes_nothing, tear_down),
        cmocka_unit_test_teardown(equals_python_loop_newest, tear_down),
        cmocka_unit_test_teardown(equals_python_loop_before, tear_down),
        cmocka_unit_test_teardown(flood_starves_only_the_old_rule, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
