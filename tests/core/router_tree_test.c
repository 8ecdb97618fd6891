/*
 * router_tree_test.c - the router among many engines, where it finds the lowest score without
 * looking at all of them: each choice against a scan of all scores as the rules state them, over
 * random publishes, choices, ends and counts, for numbers of engines around the tree's node sizes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/base/random.h"
#include "engine/core/router.h"

enum {
    ENGINES_MAX = 4100,
    OPERATIONS = 1500
};

static double stated_score(const struct router *r, uint32_t engine)
{
    const struct engine_counts *c = &r->counts[engine];
    double load = (double)c->waiting + c->running;
    switch (r->rule) {
    case ROUTER_SCORE:
        return fmax((double)r->client_count * r->inflight[engine], load) +
               (c->waiting > 0 ? 6.0 * c->waiting * fmax(0.0, c->kv_usage - 0.5) : 0.0);
    case ROUTER_RUST:
        return fmax(r->inflight[engine], load);
    case ROUTER_WEIGHTED_SUM:
    case ROUTER_WEIGHTED_SUM_FIXED_START:
        return 4.0 * c->waiting + c->running;
    case ROUTER_ROUND_ROBIN:
        break;
    }
    return 0.0;
}

static uint32_t scan(const struct router *r)
{
    uint32_t start = r->rule == ROUTER_RUST ? 0 : r->start;
    uint32_t best = start;
    for (uint32_t k = 1; k < r->engines_count; k++) {
        uint32_t engine = (start + k) % r->engines_count;
        if (stated_score(r, engine) < stated_score(r, best)) {
            best = engine;
        }
    }
    return best;
}

static void publish(struct router *r, struct random *random)
{
    static struct engine_counts counts[ENGINES_MAX];
    int64_t most = random_range(random, 0, 5); /* 0: all are equal */
    for (uint32_t i = 0; i < r->engines_count; i++) {
        counts[i] = (struct engine_counts){
            .waiting = (uint32_t)random_range(random, 0, most),
            .running = (uint32_t)random_range(random, 0, most),
            .kv_usage = (double)random_range(random, 0, 4) / 4.0,
        };
    }
    router_publish(r, counts, r->engines_count);
}

static void operate(struct router *r, struct random *random)
{
    uint32_t engine = (uint32_t)random_range(random, 0, r->engines_count - 1);
    int64_t what = random_range(random, 0, 99);
    if (what == 0) {
        publish(r, random);
    } else if (what < 30) {
        if (r->inflight[engine] > 0) {
            router_finished(r, engine);
        }
    } else if (what < 35) {
        assert_int_equal(router_choose(r, (int32_t)engine), engine);
    } else if (what < 45) {
        const struct scheduler_stats stats = {
            .waiting_count = (uint32_t)random_range(random, 0, 2),
            .running_count = (uint32_t)random_range(random, 0, 2),
        };
        router_stats(r, engine, &stats);
    } else {
        uint32_t want = scan(r);
        assert_int_equal(router_choose(r, RANK_NONE), want);
    }
}

static void run(enum router_rule rule, uint32_t engines, uint32_t clients, uint64_t seed)
{
    struct random random = random_stream(seed, "router_tree", engines);
    uint32_t client = (uint32_t)random_range(&random, 0, clients - 1);
    struct arena arena;
    assert_int_equal(arena_create(router_arena_bytes(engines), &arena, NULL), STATUS_OK);
    struct router r;
    router_init(&r, &arena, engines, client, clients);
    router_set_rule(&r, rule);
    int operations = engines > 1000 ? OPERATIONS / 5 : OPERATIONS;
    for (int i = 0; i < operations; i++) {
        operate(&r, &random);
    }
    arena_destroy(&arena);
}

static void equals_a_scan(void **state)
{
    (void)state;
    static const uint32_t engines[] = {1, 2, 7, 8, 9, 16, 63, 64, 65, 72, 100, 511, 512, 513, 4096};
    for (int rule = ROUTER_SCORE; rule <= ROUTER_WEIGHTED_SUM_FIXED_START; rule++) {
        for (uint32_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
            for (uint32_t clients = 1; clients <= 64; clients *= 8) {
                run((enum router_rule)rule, engines[i], clients, i + clients);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_a_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
