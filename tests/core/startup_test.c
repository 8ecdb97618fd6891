/*
 * startup_test.c - the start-up barrier: what it refuses, and in which order it tells INIT,
 * whatever the order in which engine cores and API servers come.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/core/startup.h"

/* Ranks 2..5, of which this launcher started 3 and 4; two API servers. */
static const struct startup_options middle = {
    .engines_first = 2,
    .engines_count = 4,
    .local_first = 3,
    .local_count = 2,
    .remote_headless = true,
    .config_hash = "abc",
    .api_servers_count = 2,
};

static const struct startup_message hello_local = {.local = true};
static const struct startup_message ready_local = {
    .ready = true, .local = true, .config_hash = "abc"};
static const struct startup_message hello_remote = {.headless = true};
static const struct startup_message ready_remote = {
    .ready = true, .headless = true, .config_hash = "abc"};

static struct arena arena;

static struct startup *make(const struct startup_options *options)
{
    assert_int_equal(arena_create(startup_arena_bytes(options), &arena, NULL), STATUS_OK);
    struct startup *s = startup_create(&arena, options);
    assert_false(startup_serving(s));
    return s;
}

static void hears(struct startup *s, uint32_t rank, const struct startup_message *message)
{
    struct error error;
    if (startup_heard(s, rank, message, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static void refuses(struct startup *s, uint32_t rank, const struct startup_message *message,
                    const char *text)
{
    struct error error = {0};
    uint32_t before = startup_engines_ready(s);
    assert_int_equal(startup_heard(s, rank, message, &error), STATUS_PROTOCOL);
    if (strstr(error.text, text) == NULL) {
        fail_msg("want '%s' in '%s'", text, error.text);
    }
    assert_int_equal(startup_engines_ready(s), before);
}

static void bind_all(struct startup *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(startup_api_server_bound(s, NULL), STATUS_OK);
    }
}

static void tells(struct startup *s, uint32_t want)
{
    uint32_t rank = UINT32_MAX;
    assert_true(startup_take_init(s, &rank));
    assert_int_equal(rank, want);
}

static void tells_nobody(struct startup *s)
{
    uint32_t rank = UINT32_MAX;
    assert_false(startup_take_init(s, &rank));
    assert_int_equal(rank, UINT32_MAX);
}

/* What each state does with each message: HELLO and READY are legal in one state each. */
static void each_state_takes_its_own_message_only(void **state)
{
    (void)state;
    struct startup *s = make(&middle);
    bind_all(s, 2);
    refuses(s, 3, &ready_local, "before HELLO");
    hears(s, 3, &hello_local);
    refuses(s, 3, &hello_local, "HELLO before it was sent INIT");
    refuses(s, 3, &ready_local, "READY before it was sent INIT");
    tells(s, 3);
    tells_nobody(s);
    refuses(s, 3, &hello_local, "HELLO after INIT");
    tells_nobody(s);
    hears(s, 3, &ready_local);
    assert_int_equal(startup_engines_ready(s), 1);
    refuses(s, 3, &ready_local, "READY after READY");
    refuses(s, 3, &hello_local, "HELLO after READY");
    tells_nobody(s);
    arena_destroy(&arena);
}

static void ranks_that_are_not_expected_are_refused(void **state)
{
    (void)state;
    struct startup *s = make(&middle);
    bind_all(s, 2);
    static const uint32_t unknown[] = {0, 1, 6, 258, UINT16_MAX, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        refuses(s, unknown[i], &hello_remote, "unknown");
        refuses(s, unknown[i], &ready_remote, "unknown");
    }
    tells_nobody(s);
    arena_destroy(&arena);
}

static void place_must_be_what_the_launcher_knows(void **state)
{
    (void)state;
    struct startup *s = make(&middle);
    for (uint32_t rank = 2; rank <= 5; rank++) {
        bool local = rank == 3 || rank == 4;
        for (uint32_t bits = 0; bits < 4; bits++) {
            struct startup_message m = {.local = bits % 2 != 0, .headless = bits / 2 != 0};
            if (m.local != local) {
                refuses(s, rank, &m, m.local ? "was started by" : "was not started by");
            } else if (m.headless == local) { /* remote nodes have no API servers here */
                refuses(s, rank, &m, local ? "no API servers" : "its own API servers");
            }
        }
        hears(s, rank, local ? &hello_local : &hello_remote);
    }
    arena_destroy(&arena);
}

/* With balancing outside, other nodes have API servers of their own. */
static void remote_nodes_may_be_expected_to_have_api_servers(void **state)
{
    (void)state;
    struct startup_options options = middle;
    options.remote_headless = false;
    struct startup *s = make(&options);
    refuses(s, 2, &hello_remote, "no API servers");
    hears(s, 2, &(struct startup_message){0});
    hears(s, 3, &hello_local);
    arena_destroy(&arena);
}

static void place_is_looked_at_again_at_ready(void **state)
{
    (void)state;
    struct startup *s = make(&middle);
    bind_all(s, 2);
    hears(s, 2, &hello_remote);
    tells(s, 2);
    refuses(s, 2, &ready_local, "was started by");
    hears(s, 2, &ready_remote);
    arena_destroy(&arena);
}

static void configuration_is_compared_at_ready(void **state)
{
    (void)state;
    static const char *const other[] = {NULL, "", "ab", "abd", "abcd", "ABC"};
    struct startup *s = make(&middle);
    bind_all(s, 2);
    struct startup_message m = hello_local;
    m.config_hash = "not looked at yet";
    hears(s, 3, &m);
    tells(s, 3);
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        m = ready_local;
        m.config_hash = other[i];
        refuses(s, 3, &m, "configured differently");
    }
    hears(s, 3, &ready_local);
    arena_destroy(&arena);
}

static void independent_ranks_may_report_any_configuration(void **state)
{
    (void)state;
    struct startup_options options = middle;
    options.config_hash = NULL;
    struct startup *s = make(&options);
    bind_all(s, 2);
    hears(s, 3, &hello_local);
    hears(s, 4, &hello_local);
    tells(s, 3);
    tells(s, 4);
    hears(s, 3, &(struct startup_message){.ready = true, .local = true});
    hears(s, 4, &ready_local);
    assert_int_equal(startup_engines_ready(s), 2);
    arena_destroy(&arena);
}

static void init_waits_for_all_api_servers_and_goes_lowest_rank_first(void **state)
{
    (void)state;
    struct startup *s = make(&middle);
    hears(s, 5, &hello_remote);
    hears(s, 3, &hello_local);
    tells_nobody(s);
    bind_all(s, 1);
    tells_nobody(s);
    hears(s, 4, &hello_local);
    bind_all(s, 1);
    tells(s, 3);
    tells(s, 4);
    tells(s, 5);
    tells_nobody(s);
    hears(s, 2, &hello_remote); /* late */
    tells(s, 2);
    tells_nobody(s);
    arena_destroy(&arena);
}

static void a_node_without_api_servers_tells_init_at_once(void **state)
{
    (void)state;
    const struct startup_options options = {
        .engines_first = 2, .engines_count = 1, .local_first = 2, .local_count = 1};
    struct startup *s = make(&options);
    hears(s, 2, &hello_local);
    tells(s, 2);
    assert_int_equal(startup_api_server_bound(s, NULL), STATUS_PROTOCOL);
    hears(s, 2, &ready_local);
    assert_true(startup_serving(s));
    arena_destroy(&arena);
}

static void api_servers_beyond_the_expected_are_refused(void **state)
{
    (void)state;
    struct error error = {0};
    struct startup *s = make(&middle);
    assert_int_equal(startup_api_server_ready(s, &error), STATUS_PROTOCOL);
    bind_all(s, 1);
    assert_int_equal(startup_api_server_ready(s, &error), STATUS_OK);
    assert_int_equal(startup_api_server_ready(s, &error), STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "than the 1 that"));
    bind_all(s, 1);
    assert_int_equal(startup_api_server_bound(s, &error), STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "more than 2"));
    assert_int_equal(startup_api_server_ready(s, &error), STATUS_OK);
    assert_int_equal(startup_api_server_ready(s, &error), STATUS_PROTOCOL);
    assert_int_equal(startup_api_servers_ready(s), 2);
    assert_false(startup_serving(s));
    arena_destroy(&arena);
}

/* ---- any order ---- */

enum {
    RANKS_MAX = 5
};

/* The rules as sets of what was heard, one bit a rank. */
struct record {
    struct startup_options options;
    uint32_t greeted;
    uint32_t told;
    uint32_t ready;
    uint32_t bound;
    uint32_t serving;
};

static struct startup_options draw_options(struct random *r)
{
    struct startup_options o = {
        .engines_first = (uint32_t)random_range(r, 0, 3),
        .engines_count = (uint32_t)random_range(r, 1, RANKS_MAX),
        .remote_headless = random_range(r, 0, 1) != 0,
        .config_hash = random_range(r, 0, 1) != 0 ? "h" : NULL,
        .api_servers_count = (uint32_t)random_range(r, 0, 4),
    };
    o.local_count = (uint32_t)random_range(r, 0, o.engines_count);
    o.local_first = o.engines_first + (uint32_t)random_range(r, 0, o.engines_count - o.local_count);
    return o;
}

static bool expected(const struct record *x, uint32_t rank, const struct startup_message *m)
{
    const struct startup_options *o = &x->options;
    if (rank < o->engines_first || rank >= o->engines_first + o->engines_count) {
        return false;
    }
    uint32_t bit = 1U << rank;
    bool local = rank >= o->local_first && rank < o->local_first + o->local_count;
    bool place = m->local == local && m->headless == (local ? false : o->remote_headless);
    bool same = o->config_hash == NULL ||
                (m->config_hash != NULL && strcmp(m->config_hash, o->config_hash) == 0);
    if (!m->ready) {
        return place && (x->greeted & bit) == 0;
    }
    return place && same && (x->told & bit) != 0 && (x->ready & bit) == 0;
}

static void one_message(struct startup *s, struct record *x, struct random *r)
{
    const struct startup_options *o = &x->options;
    uint32_t last = o->engines_first + o->engines_count;
    uint32_t rank = (uint32_t)random_range(r, o->engines_first, last - 1);
    if (random_range(r, 0, 9) == 0) {
        rank = (uint32_t)random_range(r, 0, last + 1);
    }
    bool local = rank >= o->local_first && rank < o->local_first + o->local_count;
    bool odd = random_range(r, 0, 4) == 0;
    struct startup_message m = {
        .ready = random_range(r, 0, 1) != 0,
        .local = odd ? random_range(r, 0, 1) != 0 : local,
        .headless = odd ? random_range(r, 0, 1) != 0 : !local && o->remote_headless,
        .config_hash = odd && random_range(r, 0, 1) != 0 ? "other" : "h",
    };
    bool want = expected(x, rank, &m);
    assert_int_equal(startup_heard(s, rank, &m, NULL) == STATUS_OK, want);
    if (want && m.ready) {
        x->ready |= 1U << rank;
    } else if (want) {
        x->greeted |= 1U << rank;
    }
}

static void one_api_server(struct startup *s, struct record *x, struct random *r)
{
    if (random_range(r, 0, 1) != 0) {
        bool want = x->bound < x->options.api_servers_count;
        assert_int_equal(startup_api_server_bound(s, NULL) == STATUS_OK, want);
        x->bound += want;
    } else {
        bool want = x->serving < x->bound;
        assert_int_equal(startup_api_server_ready(s, NULL) == STATUS_OK, want);
        x->serving += want;
    }
}

static void one_init(struct startup *s, struct record *x)
{
    uint32_t due = x->bound == x->options.api_servers_count ? x->greeted & ~x->told : 0;
    uint32_t rank = 0;
    assert_int_equal(startup_take_init(s, &rank), due != 0);
    if (due != 0) {
        assert_int_equal(rank, __builtin_ctz(due));
        x->told |= 1U << rank;
    }
}

static bool one_start(uint64_t seed)
{
    struct random r = random_stream(seed, "startup", 0);
    struct record x = {.options = draw_options(&r)};
    struct startup *s = make(&x.options);
    bool serving = false;
    for (uint32_t i = 0; i < 60; i++) {
        switch (random_range(&r, 0, 3)) {
        case 0:
            one_api_server(s, &x, &r);
            break;
        case 1:
            one_init(s, &x);
            break;
        default:
            one_message(s, &x, &r);
            break;
        }
        uint32_t ready = (uint32_t)__builtin_popcount(x.ready);
        serving = ready == x.options.engines_count && x.serving == x.options.api_servers_count;
        assert_int_equal(startup_engines_ready(s), ready);
        assert_int_equal(startup_api_servers_ready(s), x.serving);
        assert_int_equal(startup_serving(s), serving);
    }
    arena_destroy(&arena);
    return serving;
}

static void any_order_follows_the_rules(void **state)
{
    (void)state;
    uint32_t served = 0;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        served += one_start(seed);
    }
    assert_in_range(served, 300, 2700); /* both ends are reached */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_takes_its_own_message_only),
        cmocka_unit_test(ranks_that_are_not_expected_are_refused),
        cmocka_unit_test(place_must_be_what_the_launcher_knows),
        cmocka_unit_test(remote_nodes_may_be_expected_to_have_api_servers),
        cmocka_unit_test(place_is_looked_at_again_at_ready),
        cmocka_unit_test(configuration_is_compared_at_ready),
        cmocka_unit_test(independent_ranks_may_report_any_configuration),
        cmocka_unit_test(init_waits_for_all_api_servers_and_goes_lowest_rank_first),
        cmocka_unit_test(a_node_without_api_servers_tells_init_at_once),
        cmocka_unit_test(api_servers_beyond_the_expected_are_refused),
        cmocka_unit_test(any_order_follows_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
