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
    double capacity = (double)INFINITY;
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
                  struct demand_stage *stages, struct demand_verdict *out)
{
    static struct demand_point points[4][POINTS];
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
        struct demand_stage judged[4];
        struct demand_verdict v;
        judge(stages, 3, seed, &capacity, judged, &v);
        assert_int_equal(v.kind, DEMAND_ONE);
        assert_int_equal(v.first, 0);
        assert_int_equal(v.next, 2);
        double relieved = fmin(2 / 52e-6, fmin(4 / 60e-6, 1.5 / 55e-6));
        judged[0].demand = demand_at(&judged[0].demand, 2);
        struct demand_capacity c = demand_capacity_of(judged, 3);
        assert_int_equal(c.first, 2);
        assert_true(fabs(c.rate / relieved - 1) < 0.02);
        assert_true(c.lo <= c.rate && c.rate <= c.hi);
        assert_true(fabs(v.explained_frac - 1) < 0.03);
    }
}

static void test_mixed_and_unexplained(void **state)
{
    (void)state;
    struct truth close[2] = {{"a", 100e-6, 1, 0, 0}, {"b", 98e-6, 1, 0, 0}};
    double capacity = 0;
    struct demand_stage judged[4];
    struct demand_verdict v;
    judge(close, 2, 1, &capacity, judged, &v);
    assert_int_equal(v.kind, DEMAND_MIXED);
    /* Something that nobody watches holds the system at a third of what the stages could do. */
    struct demand d = {.known = true, .ceiling_rate = 3000, .ceiling_lo = 2900, .ceiling_hi = 3100};
    struct demand_stage idle = {"gpu", d, 0.31};
    demand_judge(&idle, 1, 1000, &v);
    assert_int_equal(v.kind, DEMAND_UNEXPLAINED);
    assert_true(fabs(v.explained_frac - 1.0 / 3) < 1e-9);
}

/* However the idle part behaves when servers are added, the truth lies in the interval. */
static void test_more_servers_with_an_idle_part(void **state)
{
    (void)state;
    struct truth stage = {"api", 50e-6, 1, 0.1, 0};
    static struct demand_point points[1][POINTS];
    struct demand d;
    (void)measure(&stage, 1, 0.005, 7, points);
    demand_fit(points[0], POINTS, 1, 7, &d);
    struct demand twice = demand_at(&d, 2);
    assert_true(twice.ceiling_lo < 1.8 / 50e-6 && twice.ceiling_hi > 1.8 / 50e-6);
    assert_true(twice.ceiling_lo < 1.9 / 50e-6 && twice.ceiling_hi > 1.9 / 50e-6);
    assert_true(fabs(twice.ceiling_rate / (1.8 / 50e-6) - 1) < 0.02);
    struct demand same = demand_at(&d, 1);
    assert_true(fabs(same.ceiling_lo / d.ceiling_lo - 1) < 1e-12);
    assert_true(fabs(same.ceiling_hi / d.ceiling_hi - 1) < 1e-12);
}

static void test_one_load_by_the_utilisation_law(void **state)
{
    (void)state;
    struct demand_point points[3] = {{100, 0.50}, {101, 0.51}, {99, 0.49}};
    struct demand d;
    demand_of_use(points, 3, 2, &d);
    assert_true(d.known && fabs(d.demand_s - 5e-3) < 1e-4);
    assert_true(fabs(d.ceiling_rate - 400) < 5);
    assert_true(d.ceiling_lo < d.ceiling_rate && d.ceiling_rate < d.ceiling_hi);
    demand_of_use(points, 1, 2, &d);
    assert_true(fabs(d.ceiling_rate - 400) < 1e-9 && isnan(d.ceiling_lo));
    demand_of_use(points, 0, 2, &d);
    assert_false(d.known);
}

/* Many runs of a full stage are one load: they must not be taken for a demand of nothing. */
static void test_many_runs_at_the_limit(void **state)
{
    (void)state;
    struct demand_point points[6] = {{6536, 0.369}, {13079, 0.711}, {19207, 1},
                                     {19169, 1},    {19197, 1},     {19148, 1}};
    struct demand d;
    demand_fit(points, 6, 1, 1, &d);
    assert_true(d.known && !d.spins);
    assert_true(d.ceiling_lo > 17500 && d.ceiling_lo < 19207 && d.ceiling_hi > 19148);
}

/* Two loads make a line that nothing can contradict. */
static void test_two_loads_have_no_interval(void **state)
{
    (void)state;
    struct demand_point points[4] = {{100, 0.5}, {100.1, 0.5}, {200, 0.9}, {200.1, 0.91}};
    struct demand d;
    demand_fit(points, 4, 1, 1, &d);
    assert_true(d.known && d.ceiling_rate > 200 && isnan(d.ceiling_lo) && isnan(d.lo_s));
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
        cmocka_unit_test(test_more_servers_with_an_idle_part),
        cmocka_unit_test(test_one_load_by_the_utilisation_law),
        cmocka_unit_test(test_many_runs_at_the_limit),
        cmocka_unit_test(test_two_loads_have_no_interval),
        cmocka_unit_test(test_elasticity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
