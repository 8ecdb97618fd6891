/*
 * The choice among scaling laws by simulation: 200 curves from each known truth, 5 replicates at 2
 * % noise. The figures asked for are those published with the method (docs/questions.md names
 * them): the true law is chosen in 88 to 100 % of the curves; a USL alone puts the maximum of
 * "linear to 4, then flat" at 5.9 when tested to 8 and at 8.4 when tested to 16; where it is the
 * truth it finds 9.7, and where the maximum is far outside the range nobody can tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/base/random.h"
#include "harness/analysis/laws.h"
#include "harness/analysis/stats.h"

enum {
    CURVES = 200,
    REPLICATES = 5,
    DRAWS = 60,
};

static const uint32_t GRID[] = {1, 2, 3, 4, 6, 8, 12, 16};
enum {
    TO_8 = 6,
    TO_16 = 8
};

struct truth {
    const char *name;
    enum law law;
    struct law_fit fit;
};

#define NEVER ((double)INFINITY)

static const struct truth LINEAR = {"linear", LAW_LINEAR, {.gamma = 6600, .plateau = NEVER}};
static const struct truth CONTENTION = {
    "contention 0.05", LAW_CONTENTION, {.gamma = 6600, .alpha = 0.05, .plateau = NEVER}};
static const struct truth USL_NEAR = {
    "USL 0.05 0.01", LAW_USL, {.gamma = 6600, .alpha = 0.05, .beta = 0.01, .plateau = NEVER}};
static const struct truth USL_FAR = {
    "USL 0.10 0.002", LAW_USL, {.gamma = 6600, .alpha = 0.10, .beta = 0.002, .plateau = NEVER}};
static const struct truth PLATEAU = {
    "linear to 4", LAW_PLATEAU, {.gamma = 6600, .plateau = 4 * 6600}};
static const struct truth BENT_PLATEAU = {
    "contention to 4",
    LAW_CONTENTION_PLATEAU,
    {.gamma = 6600, .alpha = 0.05, .plateau = 4 * 6600 / 1.15}};

static void measure(const struct truth *truth, uint64_t seed, size_t count,
                    struct scaling_cell *cells)
{
    struct random random = random_stream(seed, truth->name, 0);
    for (size_t i = 0; i < count; i++) {
        double x = law_at(truth->law, &truth->fit, GRID[i]);
        cells[i] = (struct scaling_cell){.cores = GRID[i], .replicates_count = REPLICATES};
        for (int r = 0; r < REPLICATES; r++) {
            cells[i].rates[r] = x * (1.0 + 0.02 * random_normal(&random));
        }
    }
}

static double chosen_share(const struct truth *truth, size_t count)
{
    struct scaling_cell cells[TO_16];
    uint32_t right = 0;
    for (uint64_t seed = 0; seed < CURVES; seed++) {
        struct laws laws;
        measure(truth, seed, count, cells);
        laws_fit(cells, count, LAWS_ALL, seed, 0, &laws);
        assert_true(laws.known);
        double weights = 0;
        for (int i = 0; i < LAWS_COUNT; i++) {
            weights += laws.fits[i].weight;
        }
        assert_true(fabs(weights - 1.0) < 1e-9);
        right += laws.chosen == truth->law;
    }
    return (double)right / CURVES;
}

/* 88 % less three standard errors of 200 draws. */
static void test_the_true_law_is_chosen(void **state)
{
    (void)state;
    const struct truth *truths[] = {&LINEAR, &CONTENTION, &USL_NEAR, &PLATEAU, &BENT_PLATEAU};
    for (size_t i = 0; i < sizeof truths / sizeof truths[0]; i++) {
        for (size_t count = TO_8; count <= TO_16; count += TO_16 - TO_8) {
            double share = chosen_share(truths[i], count);
            if (share < 0.81) {
                fail_msg("%s to %u: chosen in %.3f", truths[i]->name, GRID[count - 1], share);
            }
        }
    }
}

/* 2.5, 50 and 97.5 % of a USL's maximum over many curves. */
static void usl_best(const struct truth *truth, size_t count, double out[3])
{
    struct scaling_cell cells[TO_16];
    double best[CURVES];
    for (uint64_t seed = 0; seed < CURVES; seed++) {
        struct laws laws;
        measure(truth, seed, count, cells);
        laws_fit(cells, count, LAWS_ALL, seed, 0, &laws);
        best[seed] = law_best_cores(LAW_USL, &laws.fits[LAW_USL]);
    }
    stats_sort(best, CURVES);
    out[0] = stats_quantile(best, CURVES, 0.025);
    out[1] = stats_quantile(best, CURVES, 0.5);
    out[2] = stats_quantile(best, CURVES, 0.975);
}

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("got %.3f, want %.3f +- %.3f", got, want, tolerance);
    }
}

static void test_a_usl_alone_misleads_on_a_plateau(void **state)
{
    (void)state;
    double best[3];
    usl_best(&PLATEAU, TO_8, best);
    assert_near(best[0], 5.8, 0.1);
    assert_near(best[1], 5.9, 0.1);
    assert_near(best[2], 6.0, 0.1);
    usl_best(&PLATEAU, TO_16, best);
    assert_near(best[0], 8.2, 0.15);
    assert_near(best[1], 8.4, 0.1);
    assert_near(best[2], 8.5, 0.15);
}

static void test_a_usl_finds_its_own_maximum(void **state)
{
    (void)state;
    double best[3];
    usl_best(&USL_NEAR, TO_8, best);
    assert_near(best[0], 9.0, 0.2);
    assert_near(best[1], 9.7, 0.2);
    assert_near(best[2], 10.7, 0.3);
    usl_best(&USL_FAR, TO_8, best);
    assert_near(best[0], 15, 1.5);
    assert_near(best[1], 21, 1.5);
    assert_true(best[2] > 100);
}

/* With no beta in truth, about half of the fits find one that is not positive: no maximum. */
static void test_no_maximum_where_there_is_none(void **state)
{
    (void)state;
    struct scaling_cell cells[TO_8];
    uint32_t none = 0;
    for (uint64_t seed = 0; seed < CURVES; seed++) {
        struct laws laws;
        measure(&CONTENTION, seed, TO_8, cells);
        laws_fit(cells, TO_8, LAWS_ALL, seed, 0, &laws);
        none += isinf(law_best_cores(LAW_USL, &laws.fits[LAW_USL])) != 0;
    }
    assert_near((double)none / CURVES, 0.5, 0.12);
}

/* The maximum is told where the data bound it, and refused beyond 1.5 times the range. */
static void test_a_maximum_is_told_only_within_reach(void **state)
{
    (void)state;
    struct scaling_cell cells[TO_16];
    uint32_t near_known = 0;
    uint32_t near_right = 0;
    uint32_t far_known = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct laws laws;
        measure(&USL_NEAR, seed, TO_16, cells);
        laws_fit(cells, TO_16, LAWS_ALL, seed, DRAWS, &laws);
        near_known += laws.best_known;
        near_right += laws.best_lo <= 9.747 && laws.best_hi >= 9.747;
        measure(&USL_FAR, seed, TO_8, cells);
        laws_fit(cells, TO_8, LAWS_ALL, seed, DRAWS, &laws);
        far_known += laws.best_known;
    }
    assert_int_equal(near_known, 20);
    assert_true(near_right >= 16);
    assert_true(far_known <= 8); /* only where another law was chosen */
}

static void test_too_little_is_not_fitted(void **state)
{
    (void)state;
    struct scaling_cell cells[TO_16];
    struct laws laws;
    measure(&LINEAR, 1, 1, cells);
    laws_fit(cells, 1, LAWS_ALL, 1, DRAWS, &laws);
    assert_true(laws.fits[LAW_LINEAR].fitted);
    assert_false(laws.fits[LAW_CONTENTION].fitted);
    assert_false(laws.fits[LAW_USL].fitted);
    measure(&LINEAR, 1, 2, cells);
    laws_fit(cells, 2, LAWS_ALL, 1, DRAWS, &laws);
    assert_false(laws.fits[LAW_USL].fitted);
    assert_false(laws.fits[LAW_CONTENTION_PLATEAU].fitted);
    laws_fit(cells, 0, LAWS_ALL, 1, DRAWS, &laws);
    assert_false(laws.known);
}

/* Without the plateau the same flat curve is the best of what is left. */
static void test_only_laws_asked_for_are_fitted(void **state)
{
    (void)state;
    struct scaling_cell cells[TO_16];
    struct laws laws;
    measure(&PLATEAU, 1, TO_16, cells);
    laws_fit(cells, TO_16, 1U << LAW_LINEAR | 1U << LAW_CONTENTION, 1, 0, &laws);
    assert_int_equal(laws.chosen, LAW_CONTENTION);
    for (int i = 0; i < LAWS_COUNT; i++) {
        assert_int_equal(laws.fits[i].fitted, i == LAW_LINEAR || i == LAW_CONTENTION);
    }
    assert_true(fabs(laws.fits[LAW_LINEAR].weight + laws.fits[LAW_CONTENTION].weight - 1) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_true_law_is_chosen),
        cmocka_unit_test(test_a_usl_alone_misleads_on_a_plateau),
        cmocka_unit_test(test_a_usl_finds_its_own_maximum),
        cmocka_unit_test(test_no_maximum_where_there_is_none),
        cmocka_unit_test(test_a_maximum_is_told_only_within_reach),
        cmocka_unit_test(test_too_little_is_not_fitted),
        cmocka_unit_test(test_only_laws_asked_for_are_fitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
