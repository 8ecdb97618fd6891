/*
 * events_test.c - what processes note of their own lives, from real systems: the start-up in the
 * order of the protocol, one end for each start, a launcher that does nothing while it serves,
 * publishes no closer than their interval and heartbeats no closer than theirs, waves that begin
 * and end on all ranks as often as the counters say, and the end of a process that was killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/observe.h"
#include "helper_http.h"
#include "helper_measure.h"
#include "helper_system.h"

enum {
    API_SERVERS = 2,
    ENGINES = 2,
    RANKS = 3,
    REQUESTS = 4,
};

static const char closed_text[] =
    "[scenario]\nname = events\nschema = 1\nseed = 3\n"
    "[server s]\ntopology = api_servers=2 dp=2 tp=1\nhost_profile = native\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\naccept = reuseport\n"
    "max_num_seqs = 8\nmax_model_len = 512\n"
    "[client]\nbalance = yes\nmax_cpu = 100%\n"
    "[workload w]\nprompt = 24tok\noutput = uniform lo=8tok hi=40tok\n"
    "[load l]\nmode = closed\nusers = 12\nwarmup = 200ms\nmeasure = 700ms\nbatches = 2\n";

/* ---- looking for events ---- */

/* Which events: of this process, and about that one; -1 means any. */
struct which {
    int process;
    int instance;
    int what;
    int of;
    int of_instance;
};

static bool fits(const struct run_event *e, const struct which *w)
{
    return (w->process < 0 || e->process == (uint32_t)w->process) &&
           (w->instance < 0 || e->instance == (uint32_t)w->instance) &&
           (w->what < 0 || e->what == (uint32_t)w->what) &&
           (w->of < 0 || (e->note.about && e->note.kind == (uint32_t)w->of)) &&
           (w->of_instance < 0 || e->note.instance == (uint32_t)w->of_instance);
}

static uint32_t count_of(const struct run_result *r, struct which w)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->events_count; i++) {
        count += fits(&r->events[i], &w) ? 1 : 0;
    }
    return count;
}

/* The first that fits, or the last. */
static const struct run_event *find(const struct run_result *r, struct which w, bool last)
{
    const struct run_event *found = NULL;
    for (uint32_t i = 0; i < r->events_count; i++) {
        if (fits(&r->events[i], &w) && (last || found == NULL)) {
            found = &r->events[i];
        }
    }
    if (found == NULL) {
        fail_msg("process %d %d noted no %s of %d %d", w.process, w.instance,
                 event_name((enum event_kind)w.what), w.of, w.of_instance);
    }
    return found;
}

static const struct run_event *only(const struct run_result *r, struct which w)
{
    if (count_of(r, w) > 1) {
        fail_msg("process %d %d noted %s of %d %d %u times", w.process, w.instance,
                 event_name((enum event_kind)w.what), w.of, w.of_instance, count_of(r, w));
    }
    return find(r, w, false);
}

/* What the launcher notes of a process. */
static const struct run_event *told(const struct run_result *r, enum event_kind what, int of,
                                    uint32_t instance)
{
    return only(r, (struct which){THREAD_LAUNCHER_MAIN, 0, (int)what, of, (int)instance});
}

static const struct run_event *self(const struct run_result *r, enum event_kind what, int process,
                                    uint32_t instance)
{
    return only(r, (struct which){process, (int)instance, (int)what, -1, -1});
}

static void assert_order(const struct run_event *const events[], size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (events[i - 1]->at_ns > events[i]->at_ns) {
            fail_msg("%s (process %u %u, %lld ns) comes after %s (process %u %u, %lld ns)",
                     event_name((enum event_kind)events[i - 1]->what), events[i - 1]->process,
                     events[i - 1]->instance, (long long)events[i - 1]->at_ns,
                     event_name((enum event_kind)events[i]->what), events[i]->process,
                     events[i]->instance, (long long)events[i]->at_ns);
        }
    }
}

#define ASSERT_ORDER(...)                                             \
    do {                                                              \
        const struct run_event *const in_order[] = {__VA_ARGS__};     \
        assert_order(in_order, sizeof in_order / sizeof in_order[0]); \
    } while (0)

/* ---- a measured run ---- */

static void check_engine(const struct run_result *r, uint32_t rank)
{
    const int kind = THREAD_ENGINE_MAIN;
    ASSERT_ORDER(told(r, EVENT_SPAWNED, kind, rank), self(r, EVENT_STARTED, kind, rank),
                 self(r, EVENT_HELLO_SENT, kind, rank), self(r, EVENT_INIT_HEARD, kind, rank),
                 self(r, EVENT_DEVICE_READY, kind, rank), self(r, EVENT_READY, kind, rank),
                 told(r, EVENT_SIGNAL_SENT, kind, rank), told(r, EVENT_EXITED, kind, rank));
    ASSERT_ORDER(told(r, EVENT_SPAWNED, kind, rank), told(r, EVENT_HELLO_HEARD, kind, rank),
                 told(r, EVENT_INIT_SENT, kind, rank), told(r, EVENT_READY_HEARD, kind, rank),
                 self(r, EVENT_SERVING, THREAD_LAUNCHER_MAIN, 0));
    /* All are subscribed before any is ready. */
    ASSERT_ORDER(self(r, EVENT_DEVICE_READY, kind, rank),
                 self(r, EVENT_READY, THREAD_COORDINATOR_MAIN, 0),
                 self(r, EVENT_READY, kind, rank));
    assert_int_equal(told(r, EVENT_SPAWNED, kind, rank)->note.value[0],
                     self(r, EVENT_STARTED, kind, rank)->note.value[0]);
    assert_int_equal(told(r, EVENT_EXITED, kind, rank)->note.value[1], SIGTERM);
    assert_int_equal(count_of(r, (struct which){kind, -1, EVENT_WAVE_BEGAN, -1, -1}), 0);
}

static void check_api_server(const struct run_result *r, uint32_t index)
{
    const int kind = THREAD_API_MAIN;
    const int launcher = THREAD_LAUNCHER_MAIN;
    ASSERT_ORDER(
        told(r, EVENT_SPAWNED, kind, index), self(r, EVENT_STARTED, kind, index),
        told(r, EVENT_ADDRESSES_HEARD, kind, index),
        find(r, (struct which){launcher, 0, EVENT_INIT_SENT, -1, -1}, false),
        self(r, EVENT_ENGINES_HEARD, kind, index), self(r, EVENT_LISTENING, kind, index),
        told(r, EVENT_READY_HEARD, kind, index), self(r, EVENT_SERVING, launcher, 0),
        told(r, EVENT_SIGNAL_SENT, kind, index), told(r, EVENT_EXITED, kind, index),
        find(r, (struct which){launcher, 0, EVENT_SIGNAL_SENT, THREAD_ENGINE_MAIN, -1}, false));
    assert_int_equal(self(r, EVENT_ENGINES_HEARD, kind, index)->note.value[0], ENGINES);
    ASSERT_ORDER(self(r, EVENT_STARTED, kind, index), self(r, EVENT_FIRST_STATE, kind, index));
    /* It ends by itself. */
    assert_int_equal(told(r, EVENT_EXITED, kind, index)->note.value[0], 0);
    assert_int_equal(told(r, EVENT_EXITED, kind, index)->note.value[1], 0);
}

/* One kind after the other, the coordinator first. */
static void check_launcher(const struct run_result *r)
{
    const int launcher = THREAD_LAUNCHER_MAIN;
    const struct which engines = {launcher, 0, EVENT_SPAWNED, THREAD_ENGINE_MAIN, -1};
    const struct which servers = {launcher, 0, EVENT_SPAWNED, THREAD_API_MAIN, -1};
    const struct which exits = {launcher, 0, EVENT_EXITED, -1, -1};
    const struct run_event *serving = self(r, EVENT_SERVING, launcher, 0);
    const struct run_event *signal_sent =
        find(r, (struct which){launcher, 0, EVENT_SIGNAL_SENT, -1, -1}, false);
    ASSERT_ORDER(self(r, EVENT_STARTED, launcher, 0), self(r, EVENT_HTTP_BOUND, launcher, 0),
                 told(r, EVENT_SPAWNED, THREAD_COORDINATOR_MAIN, 0),
                 self(r, EVENT_STARTED, THREAD_COORDINATOR_MAIN, 0),
                 told(r, EVENT_ADDRESSES_HEARD, THREAD_COORDINATOR_MAIN, 0),
                 find(r, engines, false), find(r, engines, true), find(r, servers, false),
                 find(r, servers, true), serving, self(r, EVENT_LOAD_BEGAN, THREAD_KINDS_COUNT, 0),
                 self(r, EVENT_WINDOW_BEGAN, THREAD_KINDS_COUNT, 0),
                 self(r, EVENT_WINDOW_ENDED, THREAD_KINDS_COUNT, 0), signal_sent,
                 find(r, exits, false), find(r, exits, true), self(r, EVENT_DONE, launcher, 0));
    assert_int_equal(count_of(r, engines), ENGINES);
    assert_int_equal(count_of(r, servers), API_SERVERS);
    assert_int_equal(count_of(r, exits), ENGINES + API_SERVERS + 1);
    assert_int_equal(serving->note.value[0], self(r, EVENT_HTTP_BOUND, launcher, 0)->note.value[0]);
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        bool meanwhile = e->at_ns > serving->at_ns && e->at_ns < signal_sent->at_ns;
        assert_false(meanwhile && e->process == (uint32_t)launcher);
    }
}

/* Of the first node. Returns how many had nothing new. */
static uint32_t check_publishes(const struct run_result *r, int64_t interval_ns,
                                int64_t heartbeat_ns)
{
    const struct run_event *before = NULL;
    uint32_t nothing_new = 0;
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        if (e->what != EVENT_PUBLISHED) {
            continue;
        }
        bool changed = e->note.value[0] != 0;
        int64_t gap = before != NULL ? e->at_ns - before->at_ns : INT64_MAX;
        if (gap < (changed ? interval_ns : heartbeat_ns)) {
            fail_msg("a publish (changed: %d) %lld ns after the one before", changed,
                     (long long)gap);
        }
        /* Counts change by messages only. */
        assert_true(!changed || e->note.value[1] > 0);
        nothing_new += changed ? 0 : 1;
        before = e;
    }
    assert_non_null(before);
    return nothing_new;
}

static void a_run_tells_its_life_in_order(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(closed_text);
    struct run_result r;
    const struct measure_options options = {
        .scenario = scenario, .run = &scenario->runs[0], .log_fd = -1, .host = &e2e_host};
    e2e_measure(&options, &r);
    assert_string_equal(r.reason, "");
    for (uint32_t i = 0; i < r.events_count; i++) {
        assert_true(r.events[i].at_ns >= (i > 0 ? r.events[i - 1].at_ns : 0));
    }
    check_launcher(&r);
    for (uint32_t i = 0; i < ENGINES; i++) {
        check_engine(&r, i);
    }
    for (uint32_t i = 0; i < API_SERVERS; i++) {
        check_api_server(&r, i);
    }
    assert_int_equal(count_of(&r, (struct which){-1, -1, EVENT_SUBSCRIBED, -1, -1}), ENGINES);
    const struct topology *t = &scenario->cells[0].topology;
    assert_true(count_of(&r, (struct which){-1, -1, EVENT_PUBLISHED, -1, -1}) > 3);
    (void)check_publishes(&r, t->publish_interval_ns, t->heartbeat_interval_ns);
    assert_int_equal(count_of(&r, (struct which){-1, -1, EVENT_EVENTS_LOST, -1, -1}), 0);
    result_free(&r);
    scenario_close(scenario);
}

/* ---- systems without a load client ---- */

static struct run_result end_and_read(struct system *s)
{
    const struct load_shared no_client = {.header = NULL};
    struct run_result r = {.outcome = RUN_OK};
    system_stop(s);
    observe_fill_events(&s->ledger, &no_client, &r);
    system_free(s);
    e2e_assert_no_children();
    return r;
}

static void ask(const struct system *s, uint32_t tokens)
{
    struct completion c;
    char json[128];
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"alone\",\"max_tokens\":%u,\"ignore_eos\":true}", tokens);
    completion_post(s->port, "/v1/completions", json, &c);
    assert_int_equal(c.status, 200);
}

/* The interval is asserted exactly, the number of heartbeats from below: a machine may be slow. */
static void heartbeats_come_when_nothing_changes(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 2);
    struct system s;
    t.publish_interval_ns = 50000000;
    t.heartbeat_interval_ns = 200000000;
    e2e_start(&t, &s);
    e2e_sleep_ms(900);
    ask(&s, 30);
    e2e_sleep_ms(300);
    struct run_result r = end_and_read(&s);
    const struct which publishes = {-1, -1, EVENT_PUBLISHED, -1, -1};
    uint32_t nothing_new = check_publishes(&r, t.publish_interval_ns, t.heartbeat_interval_ns);
    assert_true(nothing_new >= 3);
    assert_true(count_of(&r, publishes) > nothing_new);
    result_free(&r);
}

static const struct run_event *wave_edge(const struct run_result *r, enum event_kind what,
                                         uint32_t rank, uint32_t number)
{
    for (uint32_t i = 0; i < r->events_count; i++) {
        const struct run_event *e = &r->events[i];
        if (e->what == (uint32_t)what && e->instance == rank && number-- == 0) {
            return e;
        }
    }
    fail_msg("rank %u has not enough of %s", rank, event_name(what));
    return NULL;
}

static bool waves_are_over(void *ctx)
{
    const struct system *s = ctx;
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        uint64_t waves = ledger_get(&e2e_thread(s, THREAD_ENGINE_MAIN, rank, 0)->waves_count);
        least = waves < least ? waves : least;
        most = waves > most ? waves : most;
    }
    return least == most && most > 0;
}

/* Each request is a wave of its own, or begins one that it shares with the next. */
static void waves_begin_and_end_on_all_ranks(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, RANKS);
    struct system s;
    t.lockstep = 1;
    e2e_start(&t, &s);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        ask(&s, 20);
        e2e_sleep_ms(150);
    }
    assert_true(e2e_wait(waves_are_over, &s, HANG_MS));
    uint64_t waves = ledger_get(&e2e_thread(&s, THREAD_ENGINE_MAIN, 0, 0)->waves_count);
    struct run_result r = end_and_read(&s);
    for (int rank = 0; rank < RANKS; rank++) {
        const struct which began = {THREAD_ENGINE_MAIN, rank, EVENT_WAVE_BEGAN, -1, -1};
        const struct which ended = {THREAD_ENGINE_MAIN, rank, EVENT_WAVE_ENDED, -1, -1};
        assert_int_equal(count_of(&r, began), waves);
        assert_int_equal(count_of(&r, ended), waves);
    }
    for (uint32_t i = 0; i < waves; i++) {
        /* No rank is past a wave that another has not begun: each forward needs all. */
        for (uint32_t rank = 0; rank < RANKS; rank++) {
            const struct run_event *began = wave_edge(&r, EVENT_WAVE_BEGAN, rank, i);
            assert_int_equal(began->note.value[0], i);
            for (uint32_t other = 0; other < RANKS; other++) {
                const struct run_event *ended = wave_edge(&r, EVENT_WAVE_ENDED, other, i);
                assert_int_equal(ended->note.value[0], i);
                ASSERT_ORDER(began, ended);
            }
        }
    }
    /* The coordinator tells the API servers of each start and each end. */
    uint32_t starts = 0;
    uint32_t ends = 0;
    for (uint32_t i = 0; i < r.events_count; i++) {
        if (r.events[i].what == EVENT_WAVE_PUBLISHED) {
            starts += r.events[i].note.value[1] != 0 ? 1 : 0;
            ends += r.events[i].note.value[1] == 0 ? 1 : 0;
        }
    }
    assert_int_equal(starts, waves);
    assert_int_equal(ends, waves);
    assert_true(count_of(&r, (struct which){-1, -1, EVENT_START_WAVE_SENT, -1, -1}) >= waves);
    result_free(&r);
}

static bool has_failed(void *ctx)
{
    return system_failed(ctx);
}

/* Its end is the first, and the others were told to end because of it. */
static void a_killed_process_is_seen_to_end(void **state)
{
    (void)state;
    struct topology t = e2e_topology(2, 2);
    struct system s;
    e2e_start(&t, &s);
    assert_int_equal(kill(e2e_thread(&s, THREAD_ENGINE_MAIN, 1, 0)->pid, SIGKILL), 0);
    assert_true(e2e_wait(has_failed, &s, GONE_MS));
    struct run_result r = end_and_read(&s);
    const int launcher = THREAD_LAUNCHER_MAIN;
    const struct run_event *end = told(&r, EVENT_EXITED, THREAD_ENGINE_MAIN, 1);
    assert_int_equal(end->note.value[1], SIGKILL);
    ASSERT_ORDER(self(&r, EVENT_SERVING, launcher, 0), end,
                 find(&r, (struct which){launcher, 0, EVENT_SIGNAL_SENT, -1, -1}, false),
                 self(&r, EVENT_DONE, launcher, 0));
    assert_ptr_equal(find(&r, (struct which){launcher, 0, EVENT_EXITED, -1, -1}, false), end);
    assert_int_equal(
        count_of(&r, (struct which){launcher, 0, EVENT_SIGNAL_SENT, THREAD_ENGINE_MAIN, 1}), 0);
    assert_int_equal(count_of(&r, (struct which){launcher, 0, EVENT_EXITED, -1, -1}), 2 + 2 + 1);
    result_free(&r);
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_tells_its_life_in_order),
        cmocka_unit_test(heartbeats_come_when_nothing_changes),
        cmocka_unit_test(waves_begin_and_end_on_all_ranks),
        cmocka_unit_test(a_killed_process_is_seen_to_end),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
