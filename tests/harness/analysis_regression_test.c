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
#include <stdlib.h>

#include "engine/base/random.h"
#include "harness/analysis/regression.h"

enum {
    ROWS = 60,
    TERMS = 3,
    PROBLEMS = 100,
    INSIDE_LEAST = PROBLEMS * TERMS * 87 / 100,
    INSIDE_MOST = PROBLEMS * TERMS * 99 / 100,
    OUTSIDE_MOST = 24,
    ONE_ROWS = 101,
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
 * if the true coverage is 0.94; more than 24 beyond one end, of 9 expected, one of 1e-5. */
static void intervals_hold_the_truth(void **state)
{
    (void)state;
    uint32_t inside = 0;
    uint32_t below = 0;
    for (uint64_t seed = 0; seed < PROBLEMS; seed++) {
        struct random random = random_stream(seed, "regression test", 1);
        struct problem p = make(&random, 0.08);
        struct regression r = fit(&p, seed);
        for (int k = 0; k < TERMS; k++) {
            assert_true(r.terms[k].lo <= r.terms[k].value && r.terms[k].value <= r.terms[k].hi);
            inside += r.terms[k].lo <= truth[k] && truth[k] <= r.terms[k].hi ? 1 : 0;
            below += truth[k] < r.terms[k].lo ? 1 : 0;
        }
    }
    assert_true(inside >= INSIDE_LEAST && inside <= INSIDE_MOST);
    assert_true(below >= 1 && below <= OUTSIDE_MOST);
    assert_true(PROBLEMS * TERMS - inside - below <= OUTSIDE_MOST);
}

/* ---- what the fit is, by its definition ---- */

static struct regression fit_of(const double *x, const double *y, const double *size, size_t count,
                                uint32_t terms)
{
    struct regression out;
    const struct regression_rows rows = {
        .x = x, .y = y, .size = size, .rows_count = count, .terms_count = terms};
    regression_fit(&rows, 1, &out);
    return out;
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/*
 * One term whose x is 1: Huber's estimate of where values lie. It is where the errors, each cut off
 * at 1.345 standard deviations of the middle ones, add up to 0.
 */
static void one_term_is_hubers_mean(void **state)
{
    (void)state;
    double x[ONE_ROWS];
    double y[ONE_ROWS];
    double size[ONE_ROWS];
    double off[ONE_ROWS];
    double sum = 0;
    double distance = 0;
    struct random random = random_stream(7, "regression test", 0);
    for (int i = 0; i < ONE_ROWS; i++) {
        x[i] = 1;
        size[i] = 2;
        y[i] = (i % 8 == 0 ? 16 : 10) + random_normal(&random);
    }
    struct regression r = fit_of(x, y, size, ONE_ROWS, 1);
    double value = r.terms[0].value;
    for (int i = 0; i < ONE_ROWS; i++) {
        off[i] = fabs(y[i] - value);
        distance += off[i] / (size[i] + 0.1 * 2) / ONE_ROWS;
    }
    qsort(off, ONE_ROWS, sizeof off[0], by_size);
    double median = off[ONE_ROWS / 2];
    double cut = 1.345 * 1.4826 * median;
    for (int i = 0; i < ONE_ROWS; i++) {
        sum += fmax(-cut, fmin(cut, y[i] - value)) / ONE_ROWS;
    }
    assert_true(fabs(sum) < 0.02);
    assert_true(fabs(r.error_frac - median / 2) < 1e-12);
    assert_true(fabs(r.condition - 1) < 1e-12);
    const struct regression_rows rows = {
        .x = x, .y = y, .size = size, .rows_count = ONE_ROWS, .terms_count = 1};
    assert_true(fabs(regression_distance(&rows) / distance - 1) < 1e-9);
}

/*
 * The interval of a mean of normal errors is 1.96 s / sqrt(n) to either side; Huber's is 2.6 %
 * wider. Mean of 20 such, as each bootstrap has errors of its own.
 */
static void intervals_are_as_wide_as_a_means(void **state)
{
    (void)state;
    double x[ONE_ROWS];
    double y[ONE_ROWS];
    double below = 0;
    double above = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct random random = random_stream(seed, "regression test", 2);
        for (int i = 0; i < ONE_ROWS; i++) {
            x[i] = 1;
            y[i] = 50 + random_normal(&random);
        }
        const struct regression_term term = fit_of(x, y, x, ONE_ROWS, 1).terms[0];
        below += (term.value - term.lo) / 20;
        above += (term.hi - term.value) / 20;
    }
    double want = 1.96 * 1.026 / sqrt(ONE_ROWS);
    assert_true(fabs(below / want - 1) < 0.08);
    assert_true(fabs(above / want - 1) < 0.08);
}

/*
 * 30 small rows that want 10, ten a thousand times as large that want 11: each counts the same, so
 * that the mean is 10.25, or a little less, as the ten lie far off. And a row that is next to
 * nothing counts nothing, however far off.
 */
static void rows_count_by_their_size(void **state)
{
    (void)state;
    double x[40];
    double y[40];
    for (int i = 0; i < 40; i++) {
        x[i] = i % 4 == 0 ? 1000 : 1;
        y[i] = x[i] * (i % 4 == 0 ? 11 : 10);
    }
    double value = fit_of(x, y, y, 40, 1).terms[0].value;
    assert_true(value > 10.05 && value < 10.25);
    for (int i = 0; i < 40; i++) {
        x[i] = i % 4 == 0 ? 1e-4 : 1;
        y[i] = i % 4 == 0 ? 1e-3 * (1 + i) : 10 + 0.1 * (i % 3 - 1);
    }
    value = fit_of(x, y, y, 40, 1).terms[0].value;
    assert_true(fabs(value - 10) < 0.01);
}

/* Two columns with a cosine of 1/sqrt(2): eigenvalues 1 +- that, whose ratio's root is known. */
static void the_condition_is_that_of_the_columns(void **state)
{
    (void)state;
    double x[40 * 2];
    double y[40];
    double ones[40];
    for (int i = 0; i < 40; i++) {
        x[i * 2] = 3;
        x[i * 2 + 1] = i % 2 == 0 ? 70 : 0;
        y[i] = x[i * 2] + x[i * 2 + 1];
        ones[i] = 1;
    }
    struct regression r = fit_of(x, y, ones, 40, 2);
    assert_true(fabs(r.condition - sqrt((1 + sqrt(0.5)) / (1 - sqrt(0.5)))) < 1e-6);
}

/* The first of four never happens; the next two always together, and only they are confused. */
static void terms_keep_their_places(void **state)
{
    (void)state;
    double x[ROWS * 4];
    double y[ROWS];
    struct random random = random_stream(8, "regression test", 0);
    for (int i = 0; i < ROWS; i++) {
        double *at = &x[i * 4];
        at[0] = 0;
        at[1] = 100 + 900 * random_unit(&random);
        at[2] = 2 * at[1] * (1 + 0.001 * random_unit(&random));
        at[3] = 100 + 900 * random_unit(&random);
        y[i] = 3 * at[1] + 1 * at[2] + 7 * at[3];
    }
    struct regression r = fit_of(x, y, y, ROWS, 4);
    assert_true(isnan(r.terms[0].value) && isnan(r.terms[0].hi));
    assert_int_equal(r.terms[0].confused, 0);
    assert_int_equal((int)r.terms[1].confused, 1 << 2);
    assert_int_equal((int)r.terms[2].confused, 1 << 1);
    assert_int_equal(r.terms[3].confused, 0);
    assert_true(fabs(r.terms[3].value - 7) < 1e-3);
    assert_true(r.terms[3].lo <= r.terms[3].value && r.terms[3].value <= r.terms[3].hi);
    assert_true(fabs(r.terms[1].value + 2 * r.terms[2].value - 5) < 0.01);
    double one[4] = {5, 0, 0, 2}; /* what is not known counts as 0 */
    assert_true(fabs(regression_of(&r, one, 4) - 14) < 0.01);
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
    assert_true(fabs(r.terms[1].value) + fabs(r.terms[1].lo) < 1e-12 && r.terms[1].hi >= 0);
    assert_true(r.terms[0].value > 0 && r.terms[2].value > 0);
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
        cmocka_unit_test(one_term_is_hubers_mean),
        cmocka_unit_test(intervals_are_as_wide_as_a_means),
        cmocka_unit_test(rows_count_by_their_size),
        cmocka_unit_test(the_condition_is_that_of_the_columns),
        cmocka_unit_test(terms_keep_their_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
