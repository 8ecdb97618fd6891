/*
 * analysis_regression_test.c - costs from synthetic counts: exact where nothing is random, inside
 * their intervals as often as these promise where it is, at least 0, not moved by disturbed
 * windows, and said to be confused exactly where their counts move together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/base/random.h"
#include "harness/analysis/regression.h"

enum {
    ROWS = 60,
    TERMS = 3,
    PROBLEMS = 100,
    INSIDE_LEAST = PROBLEMS * TERMS * 87 / 100,
    INSIDE_MOST = PROBLEMS * TERMS * 99 / 100,
};

static const double truth[TERMS] = {40.0, 0.5, 9.0};

struct problem {
    double x[ROWS * TERMS];
    double y[ROWS];
};

/* Counts as of six set-ups: in each other ones prevail. `noise`: relative, of one window. */
static struct problem make(struct random *random, double noise)
{
    static const double levels[6][TERMS] = {{900, 14000, 900}, {200, 400000, 200},
                                            {10, 300, 3000},   {30, 2000, 12000},
                                            {300, 9000, 9000}, {100, 90000, 4000}};
    struct problem p;
    for (int i = 0; i < ROWS; i++) {
        p.y[i] = 0;
        for (int k = 0; k < TERMS; k++) {
            double count = levels[i % 6][k] * (0.8 + 0.4 * random_unit(random));
            p.x[i * TERMS + k] = count;
            p.y[i] += count * truth[k];
        }
        p.y[i] *= fmax(0.1, 1 + noise * random_normal(random));
    }
    return p;
}

static struct regression fit(const struct problem *p, uint64_t seed)
{
    struct regression out;
    const struct regression_rows rows = {
        .x = p->x, .y = p->y, .size = p->y, .rows_count = ROWS, .terms_count = TERMS};
    regression_fit(&rows, seed, &out);
    return out;
}

static void without_noise_costs_are_exact(void **state)
{
    (void)state;
    struct random random = random_stream(1, "regression test", 0);
    struct problem p = make(&random, 0);
    struct regression r = fit(&p, 1);
    for (int k = 0; k < TERMS; k++) {
        assert_true(fabs(r.terms[k].value / truth[k] - 1) < 1e-6);
        assert_true(fabs(r.terms[k].lo / truth[k] - 1) < 1e-6);
        assert_int_equal(r.terms[k].confused, 0);
    }
    assert_true(r.error_frac < 1e-6);
    assert_true(r.condition > 1 && r.condition < REGRESSION_CONDITION_MAX);
    assert_true(fabs(regression_of(&r, p.x, TERMS) / p.y[0] - 1) < 1e-6);
}

/* 95 % intervals of 300 costs: a binomial count outside 0.87 .. 0.99 has a probability below 1e-6
 * if the true coverage is 0.94. */
static void intervals_hold_the_truth(void **state)
{
    (void)state;
    uint32_t inside = 0;
    for (uint64_t seed = 0; seed < PROBLEMS; seed++) {
        struct random random = random_stream(seed, "regression test", 1);
        struct problem p = make(&random, 0.08);
        struct regression r = fit(&p, seed);
        for (int k = 0; k < TERMS; k++) {
            assert_true(r.terms[k].lo <= r.terms[k].value && r.terms[k].value <= r.terms[k].hi);
            inside += r.terms[k].lo <= truth[k] && truth[k] <= r.terms[k].hi ? 1 : 0;
        }
    }
    assert_true(inside >= INSIDE_LEAST && inside <= INSIDE_MOST);
}

static void disturbed_windows_move_little(void **state)
{
    (void)state;
    struct random random = random_stream(3, "regression test", 0);
    struct problem p = make(&random, 0.02);
    for (int i = 0; i < ROWS; i += 10) {
        p.y[i] *= 2.5;
    }
    struct regression r = fit(&p, 3);
    for (int k = 0; k < TERMS; k++) {
        assert_true(fabs(r.terms[k].value / truth[k] - 1) < 0.1);
    }
}

/* What would be best with a negative cost has none. */
static void no_cost_is_negative(void **state)
{
    (void)state;
    struct random random = random_stream(4, "regression test", 0);
    struct problem p = make(&random, 0);
    for (int i = 0; i < ROWS; i++) {
        p.y[i] = 50 * p.x[i * TERMS] - 0.01 * p.x[i * TERMS + 1] + 9 * p.x[i * TERMS + 2];
    }
    for (int i = 0; i < ROWS; i++) {
        p.y[i] = fmax(p.y[i], 0);
    }
    struct regression r = fit(&p, 4);
    assert_true(!(r.terms[1].value > 0) && !(r.terms[1].lo > 0));
    assert_true(r.terms[0].value >= 0 && r.terms[2].value >= 0);
}

static void counts_that_move_together_are_named(void **state)
{
    (void)state;
    struct random random = random_stream(5, "regression test", 0);
    struct problem p = make(&random, 0.03);
    for (int i = 0; i < ROWS; i++) {
        p.y[i] -= truth[1] * p.x[i * TERMS + 1];
        p.x[i * TERMS + 1] = p.x[i * TERMS] * (16 + 0.01 * random_unit(&random));
        p.y[i] = fmax(p.y[i], 0) + truth[1] * p.x[i * TERMS + 1];
    }
    struct regression r = fit(&p, 5);
    assert_true(r.condition > REGRESSION_CONDITION_MAX);
    assert_int_equal((int)r.terms[0].confused, 2);
    assert_int_equal((int)r.terms[1].confused, 1);
    assert_int_equal(r.terms[2].confused, 0);
    /* Their sum is known all the same: 40 + 16 x 0.5. */
    assert_true(fabs((r.terms[0].value + 16 * r.terms[1].value) / 48 - 1) < 0.2);
}

static void what_did_not_happen_is_unknown(void **state)
{
    (void)state;
    struct random random = random_stream(6, "regression test", 0);
    struct problem p = make(&random, 0.02);
    struct regression r;
    for (int i = 0; i < ROWS; i++) {
        p.y[i] -= truth[1] * p.x[i * TERMS + 1];
        p.y[i] = fmax(p.y[i], 1);
        p.x[i * TERMS + 1] = 0;
    }
    r = fit(&p, 6);
    assert_true(isnan(r.terms[1].value) && isnan(r.terms[1].lo) && isnan(r.terms[1].hi));
    assert_true(!isnan(r.terms[0].value));
    const struct regression_rows few = {
        .x = p.x, .y = p.y, .size = p.y, .rows_count = 2, .terms_count = TERMS};
    regression_fit(&few, 6, &r);
    assert_true(isnan(r.terms[0].value) && isnan(r.condition) && isnan(r.error_frac));
    const struct regression_rows none = {.x = p.x, .y = p.y, .size = p.y, .terms_count = TERMS};
    regression_fit(&none, 6, &r);
    assert_true(isnan(r.terms[2].value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_noise_costs_are_exact),
        cmocka_unit_test(intervals_hold_the_truth),
        cmocka_unit_test(disturbed_windows_move_little),
        cmocka_unit_test(no_cost_is_negative),
        cmocka_unit_test(counts_that_move_together_are_named),
        cmocka_unit_test(what_did_not_happen_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
