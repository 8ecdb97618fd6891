/*
 * Demands and the judgement over stages, on synthetic systems whose demands are known: throughput
 * is the least of load and ceilings, each stage's busy time its demand times the throughput plus
 * what it burns without work, with noise on top.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/base/random.h"
#include "harness/analysis/demand.h"

enum {
    LOADS = 8,
    REPEATS = 3,
    POINTS = LOADS * REPEATS,
};

struct truth {
    const char *name;
    double demand_s;
    double servers;
    double idle; /* servers busy without work */
    double use;  /* at the highest load, filled by measure() */
};

/* Loads from 20 to 130 % of the lowest ceiling. */
static double measure(struct truth *stages, size_t count, double noise, uint64_t seed,
                      struct demand_point points[][POINTS])
{
    struct random r = random_stream(seed, "system", 0);
    double capacity = INFINITY;
    for (size_t i = 0; i < count; i++) {
        capacity = fmin(capacity, (stages[i].servers - stages[i].idle) / stages[i].demand_s);
    }
    for (int k = 0; k < POINTS; k++) {
        double load = capacity * (0.2 + 1.1 * (k % LOADS) / (LOADS - 1.0));
        double rate = fmin(load, capacity) * (1.0 + noise * random_normal(&r));
        for (size_t i = 0; i < count; i++) {
            double busy = stages[i].idle + stages[i].demand_s * rate;
            points[i][k] = (struct demand_point){rate, busy * (1.0 + noise * random_normal(&r))};
        }
    }
    for (size_t i = 0; i < count; i++) {
        stages[i].use = (stages[i].idle + stages[i].demand_s * capacity) / stages[i].servers;
    }
    return capacity;
}

static void test_demand_and_its_interval(void **state)
{
    (void)state;
    int covered = 0;
    int ceiling_covered = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct truth stage = {"api", 50e-6, 2, 0.1, 0};
        static struct demand_point points[1][POINTS];
        struct demand d;
        double capacity = measure(&stage, 1, 0.03, seed, points);
        demand_fit(points[0], POINTS, 2, seed, &d);
        assert_true(d.known && !d.spins);
        assert_true(fabs(d.demand_s / 50e-6 - 1) < 0.15);
        covered += d.lo_s <= 50e-6 && d.hi_s >= 50e-6;
        ceiling_covered += d.ceiling_lo <= capacity && d.ceiling_hi >= capacity;
    }
    /* 95 % promised; the bootstrap of 24 runs gives a little less, and 200 trials vary. */
    assert_in_range(covered, 170, 200);
    assert_in_range(ceiling_covered, 160, 200);
}

static void test_without_noise_it_is_exact(void **state)
{
    (void)state;
    struct truth stage = {"gpu", 2e-3, 4, 0, 0};
    static struct demand_point points[1][POINTS];
    struct demand d;
    double capacity = measure(&stage, 1, 0, 1, points);
    demand_fit(points[0], POINTS, 4, 1, &d);
    assert_true(fabs(d.demand_s - 2e-3) < 1e-12);
    assert_true(fabs(d.ceiling_rate / capacity - 1) < 1e-9);
    assert_true(fabs(d.idle_busy_count) < 1e-9);
}

static void test_a_spinning_stage_is_not_a_limit(void **state)
{
    (void)state;
    struct random r = random_stream(3, "spin", 0);
    struct demand_point points[POINTS];
    for (int k = 0; k < POINTS; k++) {
        points[k] = (struct demand_point){100.0 * (1 + k % LOADS), 0.99 + 0.01 * random_unit(&r)};
    }
    struct demand d;
    demand_fit(points, POINTS, 1, 1, &d);
    assert_true(d.spins);
    assert_false(d.known);
    struct demand_stage stage = {"launch", d, 0.99};
    struct demand_verdict v;
    demand_judge(&stage, 1, 800, &v);
    assert_int_equal(v.kind, DEMAND_UNEXPLAINED);
    assert_int_equal(v.first, -1);
}

static void test_one_load_tells_nothing(void **state)
{
    (void)state;
    struct demand_point points[3] = {{100, 0.5}, {100.5, 0.5}, {99.5, 0.5}};
    struct demand d;
    demand_fit(points, 3, 1, 1, &d);
    assert_false(d.known);
    demand_fit(points, 0, 1, 1, &d);
    assert_false(d.known);
}

static void judge(struct truth *truths, size_t count, uint64_t seed, double *capacity,
                  struct demand_verdict *out)
{
    static struct demand_point points[4][POINTS];
    struct demand_stage stages[4];
    *capacity = measure(truths, count, 0.01, seed, points);
    for (size_t i = 0; i < count; i++) {
        stages[i] = (struct demand_stage){.name = truths[i].name, .use_lo = truths[i].use - 0.02};
        demand_fit(points[i], POINTS, truths[i].servers, seed, &stages[i].demand);
    }
    demand_judge(stages, count, *capacity, out);
}

/* The gain from twice the servers must come out as it does when they are really doubled. */
static void test_verdict_next_stage_and_gain(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct truth stages[3] = {{"api_server", 52e-6, 1, 0, 0},
                                  {"scheduler", 60e-6, 4, 0, 0},
                                  {"gpu", 55e-6, 1.5, 0, 0}};
        double capacity = 0;
        struct demand_verdict v;
        judge(stages, 3, seed, &capacity, &v);
        assert_int_equal(v.kind, DEMAND_ONE);
        assert_int_equal(v.first, 0);
        assert_int_equal(v.next, 2);
        double relieved = fmin(2 / 52e-6, fmin(4 / 60e-6, 1.5 / 55e-6));
        double truth = relieved / capacity - 1;
        assert_true(fabs(v.gain - truth) < 0.04);
        assert_true(v.gain_lo <= v.gain && v.gain <= v.gain_hi);
        assert_true(fabs(v.explained_frac - 1) < 0.03);
    }
}

static void test_mixed_and_unexplained(void **state)
{
    (void)state;
    struct truth close[2] = {{"a", 100e-6, 1, 0, 0}, {"b", 98e-6, 1, 0, 0}};
    double capacity = 0;
    struct demand_verdict v;
    judge(close, 2, 1, &capacity, &v);
    assert_int_equal(v.kind, DEMAND_MIXED);
    /* Something that nobody watches holds the system at a third of what the stages could do. */
    struct demand d = {.known = true, .ceiling_rate = 3000, .ceiling_lo = 2900, .ceiling_hi = 3100};
    struct demand_stage idle = {"gpu", d, 0.31};
    demand_judge(&idle, 1, 1000, &v);
    assert_int_equal(v.kind, DEMAND_UNEXPLAINED);
    assert_true(fabs(v.explained_frac - 1.0 / 3) < 1e-9);
    assert_true(isnan(v.gain));
}

/* X = 1/S for what limits, unchanged for what is idle, and half way for a mixture. */
static void test_elasticity(void **state)
{
    (void)state;
    double base[4] = {100, 101, 99, 100};
    double limiting[4] = {100 / 1.1, 101 / 1.1, 99 / 1.1, 100 / 1.1};
    struct demand_elasticity e = demand_elasticity_of(base, limiting, 4, 1.1);
    assert_true(fabs(e.value - 1) < 1e-9 && e.hi - e.lo < 1e-6);
    e = demand_elasticity_of(base, base, 4, 1.1);
    assert_true(fabs(e.value) < 1e-9);
    double half[4];
    for (int i = 0; i < 4; i++) {
        half[i] = base[i] / sqrt(1.1);
    }
    e = demand_elasticity_of(base, half, 4, 1.1);
    assert_true(fabs(e.value - 0.5) < 1e-9);
    e = demand_elasticity_of(base, half, 1, 1.1);
    assert_true(isnan(e.lo));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demand_and_its_interval),
        cmocka_unit_test(test_without_noise_it_is_exact),
        cmocka_unit_test(test_a_spinning_stage_is_not_a_limit),
        cmocka_unit_test(test_one_load_tells_nothing),
        cmocka_unit_test(test_verdict_next_stage_and_gain),
        cmocka_unit_test(test_mixed_and_unexplained),
        cmocka_unit_test(test_elasticity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
