/*
 * analysis_steady_test.c - where the start of a series ends: by hand, against the definition
 * computed anew for every truncation, and on seeded random series with and without a start.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/random.h"
#include "harness/analysis/steady.h"

enum {
    VALUES = 300, /* half a minute of 100 ms */
    TRIALS = 2000
};

/* The score of a truncation as it is defined: sum of squares over the square of how many. */
static double score_of(const double *values, size_t count, size_t truncated)
{
    size_t batches = count / 5;
    size_t rest = batches - truncated;
    double mean = 0;
    double sum = 0;
    for (size_t i = truncated * 5; i < batches * 5; i++) {
        mean += values[i] / (double)(rest * 5);
    }
    for (size_t i = truncated; i < batches; i++) {
        double batch = 0;
        for (size_t k = 0; k < 5; k++) {
            batch += values[i * 5 + k] / 5;
        }
        sum += (batch - mean) * (batch - mean);
    }
    return sum / (double)(rest * rest);
}

static size_t truncation_by_definition(const double *values, size_t count)
{
    size_t best = 0;
    for (size_t d = 1; d <= count / 5 / 2; d++) {
        best = score_of(values, count, d) < score_of(values, count, best) ? d : best;
    }
    return best * 5;
}

static void a_start_by_hand(void **state)
{
    (void)state;
    /* Two averages of 0, then ten between 9 and 11. */
    double values[60] = {0};
    for (size_t i = 10; i < 60; i++) {
        values[i] = i / 5 % 2 == 0 ? 9 : 11;
    }
    struct steady s = steady_of(values, 60);
    assert_true(s.is_known && s.has_settled);
    assert_int_equal(s.truncated_count, 10);
    /* Mean of all 500/60 = 8.333, of the rest 10. */
    assert_true(fabs(s.bias_frac - 1.0 / 6.0) < 1e-12);
    assert_false(s.is_steady);
}

static void what_is_constant_is_steady_from_the_start(void **state)
{
    (void)state;
    double values[43];
    for (size_t i = 0; i < 43; i++) {
        values[i] = 7;
    }
    struct steady s = steady_of(values, 43);
    assert_true(s.is_known && s.has_settled && s.is_steady);
    assert_int_equal(s.truncated_count, 0);
    assert_false(steady_of(values, 39).is_known);
    assert_true(steady_of(values, 40).is_known);
}

static void a_series_that_dies_out_is_not_steady(void **state)
{
    (void)state;
    double values[50] = {5, 5, 5, 5, 5};
    struct steady s = steady_of(values, 50);
    assert_int_equal(s.truncated_count, 5);
    assert_true(isinf(s.bias_frac));
    assert_false(s.is_steady);
}

static void a_rise_has_not_settled(void **state)
{
    (void)state;
    double values[VALUES];
    for (size_t i = 0; i < VALUES; i++) {
        values[i] = (double)i;
    }
    struct steady s = steady_of(values, VALUES);
    assert_false(s.has_settled);
    assert_false(s.is_steady);
    assert_int_equal(s.truncated_count, VALUES / 2);
}

/* A queue-like series: each value remembers the one before by `memory`; the mean approaches 100
 * from 0 with a time constant of `start` values. */
static void draw(struct random *r, double memory, double start, double *values, size_t count)
{
    double noise = random_normal(r);
    double fresh = sqrt(1 - memory * memory);
    for (size_t i = 0; i < count; i++) {
        double mean = start > 0 ? 100 * (1 - exp(-(double)i / start)) : 100;
        noise = memory * noise + fresh * random_normal(r);
        values[i] = mean + 10 * noise;
    }
}

static void the_truncation_is_the_one_defined(void **state)
{
    (void)state;
    struct random r = random_stream(1, "definition", 0);
    for (size_t t = 0; t < 300; t++) {
        double values[VALUES];
        size_t count = 40 + (size_t)random_range(&r, 0, VALUES - 40);
        draw(&r, 0.5, (double)(t % 5) * 10, values, count);
        assert_int_equal(steady_of(values, count).truncated_count,
                         truncation_by_definition(values, count));
    }
}

struct shares {
    double settled;
    double steady;
    double truncated; /* mean, of those that settled */
};

static struct shares simulate(const char *name, double memory, double start, size_t count)
{
    struct random r = random_stream(7, name, count);
    struct shares out = {0};
    for (size_t t = 0; t < TRIALS; t++) {
        double values[VALUES];
        draw(&r, memory, start, values, count);
        struct steady s = steady_of(values, count);
        out.settled += s.has_settled ? 1.0 / TRIALS : 0;
        out.steady += s.is_steady ? 1.0 / TRIALS : 0;
        out.truncated += s.has_settled ? (double)s.truncated_count : 0;
    }
    out.truncated /= out.settled * TRIALS;
    print_message("%s memory %.2f start %.0f, %zu values: settled %.3f steady %.3f left out %.1f\n",
                  name, memory, start, count, out.settled, out.steady, out.truncated);
    return out;
}

static void what_has_no_start_is_called_steady(void **state)
{
    (void)state;
    struct shares plain = simulate("no start", 0, 0, VALUES);
    assert_true(plain.settled > 0.9 && plain.steady > 0.999);
    struct shares queue = simulate("no start", 0.9, 0, VALUES);
    assert_true(queue.settled > 0.65 && queue.steady > 0.95);
    struct shares few = simulate("no start", 0, 0, 40);
    assert_true(few.steady > 0.95);
}

static void a_start_is_found_once_it_is_past(void **state)
{
    (void)state;
    /* 2 s to settle by 1/e, half a minute watched: most of it (3 time constants) is left out. */
    struct shares past = simulate("start", 0.5, 20, VALUES);
    assert_true(past.settled > 0.9);
    assert_true(past.truncated > 30 && past.truncated < 110);
    /* A start as long as what was watched is not past, and is seen in the mean. */
    struct shares rising = simulate("start", 0.5, 200, 100);
    assert_true(rising.settled < 0.3);
    assert_true(rising.steady < 0.05);
}

/* Asked again with every five values more, as while a run warms up: the level that the mean has
 * reached when the answer is yes, which a look too many must not make too low. */
static void asked_again_and_again_it_waits_for_the_start_to_pass(void **state)
{
    (void)state;
    for (int start = 10; start <= 50; start += 20) {
        struct random r = random_stream(9, "online", (uint64_t)start);
        double level = 0;
        double waited = 0;
        double low = 0;
        for (size_t t = 0; t < TRIALS; t++) {
            double values[VALUES];
            size_t count = STEADY_VALUES_MIN - 5;
            draw(&r, 0.5, start, values, VALUES);
            for (uint32_t looks = 0; looks < STEADY_LOOKS && count < VALUES;) {
                count += 5;
                looks = steady_of(values, count).has_settled ? looks + 1 : 0;
            }
            double reached = 1 - exp(-(double)count / start);
            level += reached / TRIALS;
            waited += (double)count / TRIALS;
            low += reached < 0.9 ? 1.0 / TRIALS : 0;
        }
        print_message("online, start %d: level %.3f, below 0.9 in %.3f, after %.0f values\n", start,
                      level, low, waited);
        assert_true(level > 0.95 && low < 0.1);
        assert_true(waited < 10 * start);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_by_hand),
        cmocka_unit_test(what_is_constant_is_steady_from_the_start),
        cmocka_unit_test(a_series_that_dies_out_is_not_steady),
        cmocka_unit_test(a_rise_has_not_settled),
        cmocka_unit_test(the_truncation_is_the_one_defined),
        cmocka_unit_test(what_has_no_start_is_called_steady),
        cmocka_unit_test(a_start_is_found_once_it_is_past),
        cmocka_unit_test(asked_again_and_again_it_waits_for_the_start_to_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
