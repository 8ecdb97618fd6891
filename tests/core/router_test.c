/*
 * router_test.c - the routing rule: its golden vectors, an independent statement of the rule over
 * random states, and the balance of bursts on stale counts.
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
    ENGINES_MAX = 64,
    CLIENTS_MAX = 16
};

static struct arena arena;

static struct router make_router(uint32_t engines, uint32_t client_index, uint32_t client_count)
{
    struct router r;
    arena.used_bytes = 0;
    router_init(&r, &arena, engines, client_index, client_count);
    for (uint32_t i = 0; i < engines; i++) {
        r.counts[i] = (struct engine_counts){0};
        r.inflight[i] = 0;
    }
    return r;
}

static uint32_t choice_for(const struct engine_counts *counts, uint32_t engines)
{
    struct router r = make_router(engines, 0, 1);
    router_publish(&r, counts, engines);
    return router_choose(&r, RANK_NONE);
}

static void golden_idle_engine_wins(void **state)
{
    (void)state;
    static const struct engine_counts lb[] = {{2, 1, 0.0}, {0, 0, 0.0}, {1, 0, 0.0}};
    struct router r = make_router(3, 0, 1);
    router_publish(&r, lb, 3);
    assert_int_equal(router_choose(&r, RANK_NONE), 1);
    assert_int_equal(r.counts[1].waiting, 1);
    assert_int_equal(r.inflight[1], 1);
    assert_int_equal(r.start, 1);
}

static void golden_reset_keeps_balance(void **state)
{
    (void)state;
    static const struct engine_counts zeros[4] = {{0}};
    struct router r = make_router(4, 0, 1);
    for (int i = 0; i < 4; i++) {
        (void)router_choose(&r, RANK_NONE);
    }
    router_publish(&r, zeros, 4);
    for (int i = 0; i < 4; i++) {
        (void)router_choose(&r, RANK_NONE);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r.inflight[i], 2);
    }
}

static void golden_loads(void **state)
{
    (void)state;
    static const struct engine_counts busy[] = {{5, 10, 0.0}, {0, 0, 0.0}};
    static const struct engine_counts full[] = {{5, 10, 1.0}, {0, 20, 0.2}};
    static const struct engine_counts roomy[] = {{5, 10, 0.2}, {0, 20, 0.2}};
    assert_int_equal(choice_for(busy, 2), 1);
    assert_int_equal(choice_for(full, 2), 1);
    assert_int_equal(choice_for(roomy, 2), 0);
}

static void golden_finished(void **state)
{
    (void)state;
    struct router r = make_router(2, 0, 1);
    uint32_t engine = router_choose(&r, RANK_NONE);
    router_finished(&r, engine);
    assert_int_equal(r.inflight[0], 0);
    assert_int_equal(r.inflight[1], 0);
}

static void pressure_counts_only_with_waiting(void **state)
{
    (void)state;
    /* A full cache without a queue costs nothing; half a cache costs nothing. */
    static const struct engine_counts idle_queue[] = {{0, 10, 1.0}, {0, 11, 0.0}};
    static const struct engine_counts half[] = {{4, 0, 0.5}, {5, 0, 0.0}};
    static const struct engine_counts above[] = {{4, 0, 0.55}, {5, 0, 0.0}};
    static const struct engine_counts broken[] = {{4, 0, (double)NAN}, {5, 0, 0.0}};
    static const struct engine_counts endless[] = {{4, 0, HUGE_VAL}, {4, 0, HUGE_VAL}};
    static const struct engine_counts endless_idle[] = {{0, 5, HUGE_VAL}, {0, 1, 0.0}};
    assert_int_equal(choice_for(idle_queue, 2), 0);
    assert_int_equal(choice_for(endless_idle, 2), 1);
    assert_int_equal(choice_for(half, 2), 0);
    assert_int_equal(choice_for(above, 2), 1); /* 4 + 6 * 4 * 0.05 = 5.2 > 5 */
    assert_int_equal(choice_for(broken, 2), 0);
    assert_int_equal(choice_for(endless, 2), 0);
}

static void clients_start_apart(void **state)
{
    (void)state;
    static const uint32_t want_of_4[] = {0, 2, 4, 6};
    for (uint32_t client = 0; client < 4; client++) {
        assert_int_equal(make_router(8, client, 4).start, want_of_4[client]);
    }
    static const uint32_t want_of_5[] = {0, 0, 1, 1, 2};
    for (uint32_t client = 0; client < 5; client++) {
        struct router r = make_router(3, client, 5);
        assert_int_equal(r.start, want_of_5[client]);
        assert_int_equal(router_choose(&r, RANK_NONE), want_of_5[client]);
    }
}

static void rank_wins_and_moves_nothing_else(void **state)
{
    (void)state;
    static const struct engine_counts lb[] = {{0, 0, 0.0}, {0, 0, 0.0}, {100, 100, 1.0}};
    struct router r = make_router(3, 0, 2);
    router_publish(&r, lb, 3);
    assert_int_equal(router_choose(&r, 2), 2);
    assert_int_equal(r.inflight[2], 1);
    assert_int_equal(r.counts[2].waiting, 100);
    assert_int_equal(r.start, 0);
}

static void publish_replaces_additions(void **state)
{
    (void)state;
    static const struct engine_counts lb[] = {{3, 4, 0.25}, {5, 6, 0.75}};
    struct router r = make_router(2, 0, 3);
    (void)router_choose(&r, RANK_NONE);
    assert_int_equal(r.counts[0].waiting, 3);
    router_publish(&r, lb, 2);
    assert_int_equal(r.counts[0].waiting, 3);
    assert_int_equal(r.counts[0].running, 4);
    assert_int_equal(r.counts[1].waiting, 5);
    assert_int_equal(r.counts[1].running, 6);
    assert_true(r.counts[1].kv_usage > 0.74 && r.counts[1].kv_usage < 0.76);
    /* A list of another length, which only a broken peer sends, must not be read or written past
     * its end. */
    static const struct engine_counts longer[] = {{1, 0, 0.0}, {2, 0, 0.0}, {9, 9, 0.0}};
    router_publish(&r, longer, 3);
    assert_int_equal(r.counts[1].waiting, 2);
    router_publish(&r, lb, 1);
    assert_int_equal(r.counts[0].waiting, 3);
    assert_int_equal(r.counts[1].waiting, 2);
}

/* The engine that the rule names, found by sorting out: among the lowest scores, the least distance
 * from start. */
static uint32_t oracle_choice(const struct router *r)
{
    double scores[ENGINES_MAX];
    double lowest = HUGE_VAL;
    for (uint32_t j = 0; j < r->engines_count; j++) {
        const struct engine_counts *c = &r->counts[j];
        double mine = (double)r->client_count * r->inflight[j];
        scores[j] = fmax(mine, (double)c->waiting + c->running) +
                    (c->waiting > 0 ? 6.0 * c->waiting * fmax(0.0, c->kv_usage - 0.5) : 0.0);
        lowest = fmin(lowest, scores[j]);
    }
    uint32_t best = 0;
    uint32_t best_distance = UINT32_MAX;
    for (uint32_t j = 0; j < r->engines_count; j++) {
        uint32_t distance = (j + r->engines_count - r->start) % r->engines_count;
        if (scores[j] <= lowest && distance < best_distance) {
            best = j;
            best_distance = distance;
        }
    }
    return best;
}

static void random_publish(struct router *r, struct random *random)
{
    struct engine_counts counts[ENGINES_MAX];
    for (uint32_t j = 0; j < r->engines_count; j++) {
        counts[j] = (struct engine_counts){
            .waiting = (uint32_t)random_range(random, 0, 3),
            .running = (uint32_t)random_range(random, 0, 4),
            .kv_usage = (double)random_range(random, 0, 4) / 4.0,
        };
    }
    router_publish(r, counts, r->engines_count);
}

static void equals_oracle(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct random random = random_stream(seed, "router", 0);
        uint32_t engines = (uint32_t)random_range(&random, 1, 9);
        uint32_t clients = (uint32_t)random_range(&random, 1, 4);
        uint32_t client = (uint32_t)random_range(&random, 0, clients - 1);
        struct router r = make_router(engines, client, clients);
        for (int i = 0; i < 500; i++) {
            uint32_t e = (uint32_t)random_range(&random, 0, engines - 1);
            if (random_range(&random, 0, 19) == 0) {
                random_publish(&r, &random);
            } else if (random_range(&random, 0, 2) == 0 && r.inflight[e] > 0) {
                router_finished(&r, e);
            } else {
                uint32_t want = oracle_choice(&r);
                uint32_t waiting = r.counts[want].waiting;
                assert_int_equal(router_choose(&r, RANK_NONE), want);
                assert_int_equal(r.counts[want].waiting, waiting + clients);
            }
        }
    }
}

/* k*n requests on a snapshot of zeros, republished at any moments: exactly k on each engine. */
static void burst_of_one_client_is_exact(void **state)
{
    (void)state;
    static const struct engine_counts zeros[ENGINES_MAX] = {{0}};
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct random random = random_stream(seed, "burst", 0);
        uint32_t engines = (uint32_t)random_range(&random, 1, ENGINES_MAX);
        uint32_t clients = (uint32_t)random_range(&random, 1, CLIENTS_MAX);
        uint32_t client = (uint32_t)random_range(&random, 0, clients - 1);
        uint32_t each = (uint32_t)random_range(&random, 1, 8);
        int64_t publish_every = random_range(&random, 1, 40);
        struct router r = make_router(engines, client, clients);
        for (uint32_t i = 0; i < each * engines; i++) {
            (void)router_choose(&r, RANK_NONE);
            if (random_range(&random, 1, publish_every) == 1) {
                router_publish(&r, zeros, engines);
            }
        }
        for (uint32_t j = 0; j < engines; j++) {
            assert_int_equal(r.inflight[j], each);
        }
    }
}

static void burst_of_many_clients_is_spread(void **state)
{
    (void)state;
    static const struct engine_counts zeros[ENGINES_MAX] = {{0}};
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct random random = random_stream(seed, "bursts", 0);
        uint32_t engines = (uint32_t)random_range(&random, 1, ENGINES_MAX);
        uint32_t clients = (uint32_t)random_range(&random, 1, CLIENTS_MAX);
        struct router routers[CLIENTS_MAX];
        arena.used_bytes = 0;
        for (uint32_t c = 0; c < clients; c++) {
            router_init(&routers[c], &arena, engines, c, clients);
            for (uint32_t j = 0; j < engines; j++) {
                routers[c].counts[j] = (struct engine_counts){0};
                routers[c].inflight[j] = 0;
            }
        }
        uint32_t total[ENGINES_MAX] = {0};
        for (int i = 0; i < 400; i++) {
            struct router *r = &routers[random_range(&random, 0, clients - 1)];
            total[router_choose(r, RANK_NONE)]++;
            if (random_range(&random, 0, 30) == 0) {
                router_publish(r, zeros, engines);
            }
        }
        uint32_t least = UINT32_MAX;
        uint32_t most = 0;
        for (uint32_t j = 0; j < engines; j++) {
            least = total[j] < least ? total[j] : least;
            most = total[j] > most ? total[j] : most;
        }
        assert_true(most - least <= clients);
    }
}

/* ---- every small burst ---- */

enum {
    SMALL_ENGINES = 8,
    SMALL_EACH = 8,
    SMALL_CLIENTS = 4
};

/* k*n requests of one client on frozen zeros: k on each engine, and after each n one more on each.
 */
static void every_small_burst_of_one_client(void **state)
{
    (void)state;
    static const enum router_rule rules[] = {ROUTER_SCORE, ROUTER_WEIGHTED_SUM, ROUTER_ROUND_ROBIN,
                                             ROUTER_RUST, ROUTER_WEIGHTED_SUM_FIXED_START};
    for (uint32_t i = 0; i < 5 * SMALL_ENGINES * SMALL_CLIENTS * SMALL_CLIENTS; i++) {
        uint32_t engines = i % SMALL_ENGINES + 1;
        uint32_t clients = i / SMALL_ENGINES % SMALL_CLIENTS + 1;
        uint32_t client = i / (SMALL_ENGINES * SMALL_CLIENTS) % SMALL_CLIENTS % clients;
        struct router r = make_router(engines, client, clients);
        router_set_rule(&r, rules[i / (SMALL_ENGINES * SMALL_CLIENTS * SMALL_CLIENTS)]);
        for (uint32_t k = 1; k <= SMALL_EACH; k++) {
            for (uint32_t j = 0; j < engines; j++) {
                (void)router_choose(&r, RANK_NONE);
            }
            for (uint32_t j = 0; j < engines; j++) {
                assert_int_equal(r.inflight[j], k);
            }
        }
    }
}

/* Which client sends the i-th request of `each` * clients. */
static uint32_t sender(int order, uint32_t i, uint32_t each, uint32_t clients)
{
    switch (order) {
    case 0:
        return i / each; /* one after the other */
    case 1:
        return i % clients; /* in turns */
    default:
        return clients - 1 - i / each;
    }
}

static void burst_of_clients(int order, uint32_t engines, uint32_t each, uint32_t clients)
{
    struct router routers[SMALL_CLIENTS];
    uint32_t total[SMALL_ENGINES] = {0};
    uint32_t least = UINT32_MAX;
    uint32_t most = 0;
    arena.used_bytes = 0;
    for (uint32_t c = 0; c < clients; c++) {
        router_init(&routers[c], &arena, engines, c, clients);
        for (uint32_t j = 0; j < engines; j++) {
            routers[c].counts[j] = (struct engine_counts){0};
            routers[c].inflight[j] = 0;
        }
    }
    for (uint32_t i = 0; i < each * clients; i++) {
        total[router_choose(&routers[sender(order, i, each, clients)], RANK_NONE)]++;
    }
    for (uint32_t j = 0; j < engines; j++) {
        least = total[j] < least ? total[j] : least;
        most = total[j] > most ? total[j] : most;
    }
    assert_true(most - least <= clients);
}

/* Clients that know of each other only frozen zeros: engines differ by one request a client. */
static void every_small_burst_of_many_clients(void **state)
{
    (void)state;
    for (int order = 0; order < 3; order++) {
        for (uint32_t engines = 1; engines <= SMALL_ENGINES; engines++) {
            for (uint32_t clients = 1; clients <= SMALL_CLIENTS; clients++) {
                for (uint32_t each = 1; each <= SMALL_EACH * engines; each++) {
                    burst_of_clients(order, engines, each, clients);
                }
            }
        }
    }
}

/*
 * On any frozen snapshot a burst fills up the valleys: no engine was given a request while another
 * stood lower. What a request adds is one for each client, since the others do the same.
 */
static void every_snapshot_is_levelled(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct random random = random_stream(seed, "snapshot", 0);
        uint32_t engines = (uint32_t)random_range(&random, 1, SMALL_ENGINES);
        uint32_t clients = (uint32_t)random_range(&random, 1, SMALL_CLIENTS);
        struct router r = make_router(engines, 0, clients);
        uint32_t base[SMALL_ENGINES];
        for (uint32_t j = 0; j < engines; j++) {
            r.counts[j].waiting = (uint32_t)random_range(&random, 0, 9);
            r.counts[j].running = (uint32_t)random_range(&random, 0, 9);
            base[j] = r.counts[j].waiting + r.counts[j].running;
        }
        int64_t requests = random_range(&random, 1, SMALL_EACH * engines);
        for (int64_t i = 0; i < requests; i++) {
            (void)router_choose(&r, RANK_NONE);
        }
        for (uint32_t i = 0; i < engines * engines; i++) {
            uint32_t given = i / engines;
            uint32_t other = i % engines;
            assert_true(r.inflight[given] == 0 || base[given] + clients * (r.inflight[given] - 1) <=
                                                      base[other] + clients * r.inflight[other]);
        }
    }
}

/* A rank asked for gets the request, however loaded it is and whatever the rule; the next free
 * choice starts where it would have. */
static void every_rank_asked_for_wins(void **state)
{
    (void)state;
    for (int rule = ROUTER_SCORE; rule <= ROUTER_WEIGHTED_SUM_FIXED_START; rule++) {
        for (uint32_t engines = 1; engines <= SMALL_ENGINES; engines++) {
            for (uint32_t rank = 0; rank < engines; rank++) {
                struct router r = make_router(engines, 0, 1);
                router_set_rule(&r, (enum router_rule)rule);
                r.counts[rank] = (struct engine_counts){1000, 1000, 1.0};
                for (uint32_t k = 1; k <= SMALL_EACH; k++) {
                    assert_int_equal(router_choose(&r, (int32_t)rank), rank);
                    assert_int_equal(r.inflight[rank], k);
                }
                assert_int_equal(r.counts[rank].waiting, 1000);
                assert_int_equal(r.start, 0);
            }
        }
    }
}

/* ---- other rules ---- */

static struct router make_other(uint32_t engines, uint32_t client, uint32_t clients,
                                enum router_rule rule)
{
    struct router r = make_router(engines, client, clients);
    router_set_rule(&r, rule);
    return r;
}

static void weighted_sum_vectors(void **state)
{
    (void)state;
    /* 4 * 2 + 1 = 9, 0 * 4 + 8 = 8: the default rule would take the first, with 3 against 8. */
    static const struct engine_counts lb[] = {{2, 1, 0.0}, {0, 8, 1.0}, {1, 5, 0.0}};
    struct router r = make_other(3, 0, 2, ROUTER_WEIGHTED_SUM);
    router_publish(&r, lb, 3);
    assert_int_equal(router_choose(&r, RANK_NONE), 1); /* 9 8 9 */
    assert_int_equal(r.counts[1].waiting, 2);
    assert_int_equal(r.start, 1);
    assert_int_equal(router_choose(&r, RANK_NONE), 2); /* 9 16 9, from 1 on */
    assert_int_equal(router_choose(&r, RANK_NONE), 0); /* 9 16 17 */
    assert_int_equal(router_choose(&r, 2), 2);
    assert_int_equal(r.start, 0);
    assert_int_equal(r.counts[2].waiting, 3);
    /* No floor of own requests: a publish that knows of none of them makes all equal. */
    static const struct engine_counts zeros[3] = {{0}};
    router_publish(&r, zeros, 3);
    assert_int_equal(r.inflight[2], 2);
    assert_int_equal(router_choose(&r, RANK_NONE), 0);
}

/* As before, but every scan starts at the client's first engine, also after a publish. */
static void fixed_start_vectors(void **state)
{
    (void)state;
    static const struct engine_counts lb[] = {{2, 1, 0.0}, {0, 8, 1.0}, {1, 5, 0.0}};
    static const struct engine_counts zeros[3] = {{0}};
    struct router r = make_other(3, 1, 2, ROUTER_WEIGHTED_SUM_FIXED_START);
    assert_int_equal(r.start, 1);
    router_publish(&r, lb, 3);
    assert_int_equal(router_choose(&r, RANK_NONE), 1); /* 9 8 9 */
    assert_int_equal(router_choose(&r, RANK_NONE), 2); /* 9 16 9, from 1 on */
    assert_int_equal(router_choose(&r, RANK_NONE), 0); /* 9 16 17 */
    for (int i = 0; i < 5; i++) {
        router_publish(&r, zeros, 3);
        assert_int_equal(router_choose(&r, RANK_NONE), 1);
    }
    assert_int_equal(router_choose(&r, RANK_NONE), 2);
    assert_int_equal(router_choose(&r, RANK_NONE), 0);
    assert_int_equal(router_choose(&r, RANK_NONE), 1); /* 8 8 8 */
    assert_int_equal(r.start, 1);
}

static void round_robin_vectors(void **state)
{
    (void)state;
    static const struct engine_counts lb[] = {{9, 9, 1.0}, {0, 0, 0.0}, {5, 5, 0.5}, {0, 1, 0.0}};
    struct router r = make_other(4, 1, 2, ROUTER_ROUND_ROBIN);
    router_publish(&r, lb, 4);
    static const uint32_t want[] = {2, 3, 0, 1, 2, 3};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(router_choose(&r, RANK_NONE), want[i]);
    }
    assert_int_equal(router_choose(&r, 3), 3);
    assert_int_equal(router_choose(&r, RANK_NONE), 0);
}

static void give_stats(struct router *r, uint32_t engine, uint32_t waiting, uint32_t running)
{
    const struct scheduler_stats stats = {
        .waiting_count = waiting, .running_count = running, .kv_cache_usage = 1.0};
    router_stats(r, engine, &stats);
}

static void rust_vectors(void **state)
{
    (void)state;
    static const struct engine_counts lb[] = {{9, 9, 1.0}, {9, 9, 1.0}, {0, 0, 0.0}};
    struct router r = make_other(3, 2, 4, ROUTER_RUST);
    router_publish(&r, lb, 3); /* not listened to */
    /* Own requests alone until counts come; the lowest rank wins ties. */
    static const uint32_t want[] = {0, 1, 2, 0, 1};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(router_choose(&r, RANK_NONE), want[i]);
    }
    give_stats(&r, 2, 1, 2);                           /* 2 2 3 */
    assert_int_equal(router_choose(&r, RANK_NONE), 0); /* 3 2 3 */
    assert_int_equal(router_choose(&r, RANK_NONE), 1); /* 3 3 3 */
    give_stats(&r, 0, 0, 4);                           /* 4 3 3 */
    assert_int_equal(router_choose(&r, RANK_NONE), 1); /* 4 4 3 */
    assert_int_equal(router_choose(&r, RANK_NONE), 2); /* 4 4 3: own 2 are among its 3 */
    assert_int_equal(router_choose(&r, RANK_NONE), 2); /* 4 4 3 */
    assert_int_equal(router_choose(&r, RANK_NONE), 2); /* 4 4 4 */
    assert_int_equal(router_choose(&r, RANK_NONE), 0);
    assert_int_equal(router_choose(&r, 1), 1);
    assert_int_equal(r.inflight[1], 5);
    give_stats(&r, 3, 0, 0); /* unknown */
    router_finished(&r, 2);
    give_stats(&r, 2, 0, 1); /* 4 5 3 */
    assert_int_equal(router_choose(&r, RANK_NONE), 2);
}

/* Only the Rust rule listens to what comes with outputs. */
static void stats_are_not_for_others(void **state)
{
    (void)state;
    struct router r = make_router(2, 0, 1);
    give_stats(&r, 0, 50, 50);
    assert_int_equal(r.counts[0].waiting, 0);
    assert_int_equal(router_choose(&r, RANK_NONE), 0);
}

static int set_up(void **state)
{
    (void)state;
    return arena_create(CLIENTS_MAX * router_arena_bytes(ENGINES_MAX), &arena, NULL) != STATUS_OK;
}

static int tear_down(void **state)
{
    (void)state;
    arena_destroy(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_idle_engine_wins),
        cmocka_unit_test(golden_reset_keeps_balance),
        cmocka_unit_test(golden_loads),
        cmocka_unit_test(golden_finished),
        cmocka_unit_test(pressure_counts_only_with_waiting),
        cmocka_unit_test(clients_start_apart),
        cmocka_unit_test(rank_wins_and_moves_nothing_else),
        cmocka_unit_test(publish_replaces_additions),
        cmocka_unit_test(equals_oracle),
        cmocka_unit_test(burst_of_one_client_is_exact),
        cmocka_unit_test(burst_of_many_clients_is_spread),
        cmocka_unit_test(every_small_burst_of_one_client),
        cmocka_unit_test(every_small_burst_of_many_clients),
        cmocka_unit_test(every_snapshot_is_levelled),
        cmocka_unit_test(every_rank_asked_for_wins),
        cmocka_unit_test(weighted_sum_vectors),
        cmocka_unit_test(fixed_start_vectors),
        cmocka_unit_test(round_robin_vectors),
        cmocka_unit_test(rust_vectors),
        cmocka_unit_test(stats_are_not_for_others),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
