/*
 * The marginal-gain test by simulation: it must find a known break, and must not find one where
 * there is none. The closed form of the API server against the figures it was checked with by
 * measurement.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/base/random.h"
#include "harness/analysis/scaling.h"

static const double USEFUL = 0.20;

static void close_to(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("got %.10g, want %.10g +- %g", got, want, tolerance);
    }
}

enum truth {
    LINEAR_TO_4,
    LINEAR,
    AMDAHL
};

static double truth_at(enum truth truth, uint32_t cores)
{
    double k = cores;
    switch (truth) {
    case LINEAR_TO_4:
        return k < 4.0 ? k : 4.0;
    case LINEAR:
        return k;
    case AMDAHL:
        return k / (1.0 + 0.05 * (k - 1.0));
    }
    return 0.0;
}

static const uint32_t GRID[] = {1, 2, 3, 4, 6, 8};
enum {
    GRID_COUNT = 6
};

static void measure(struct scaling_cell cells[GRID_COUNT], enum truth truth, uint32_t replicates,
                    double noise, struct random *random)
{
    for (int i = 0; i < GRID_COUNT; i++) {
        cells[i] = (struct scaling_cell){.cores = GRID[i], .replicates_count = replicates};
        for (uint32_t r = 0; r < replicates; r++) {
            double x = 6600.0 * truth_at(truth, GRID[i]);
            cells[i].rates[r] = x * (1.0 + noise * random_normal(random));
        }
    }
}

/* Runs that report `last` as the last helpful count; 0 counts those where nothing is flat. */
static int count_found(enum truth truth, uint32_t replicates, uint32_t last, int trials)
{
    struct random random = random_stream(11, "scaling", (uint64_t)truth * 100 + replicates);
    int found = 0;
    for (int trial = 0; trial < trials; trial++) {
        struct scaling_cell cells[GRID_COUNT];
        struct scaling_last_helpful out;
        measure(cells, truth, replicates, 0.02, &random);
        scaling_last_helpful(cells, GRID_COUNT, USEFUL, &out);
        if (last == 0) {
            found += out.status == SCALING_ABOVE_RANGE;
        } else {
            found += out.status == SCALING_FLAT && out.last_helpful == last;
        }
    }
    return found;
}

static void a_break_at_four_is_found(void **state)
{
    (void)state;
    assert_in_range(count_found(LINEAR_TO_4, 5, 4, 1000), 998, 1000);
    assert_in_range(count_found(LINEAR_TO_4, 2, 4, 1000), 980, 1000);
}

static void it_never_fires_without_a_break(void **state)
{
    (void)state;
    assert_int_equal(count_found(LINEAR, 5, 0, 1000), 1000);
    assert_int_equal(count_found(AMDAHL, 5, 0, 1000), 1000);
    assert_int_equal(count_found(LINEAR, 2, 0, 1000), 1000);
}

/* A step whose true gain equals the limit is called flat in at most 5 % of the runs: the size of
 * the test. */
static void its_size_is_five_per_cent(void **state)
{
    (void)state;
    enum {
        TRIALS = 4000
    };
    struct random random = random_stream(12, "size", 0);
    int fired = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        struct scaling_cell cells[4];
        static const double RATES[] = {100, 200, 300, 320};
        for (uint32_t i = 0; i < 4; i++) {
            cells[i] = (struct scaling_cell){.cores = i + 1, .replicates_count = 5};
            for (int r = 0; r < 5; r++) {
                cells[i].rates[r] = RATES[i] * (1.0 + 0.02 * random_normal(&random));
            }
        }
        struct scaling_last_helpful out;
        scaling_last_helpful(cells, 4, USEFUL, &out);
        fired += out.status == SCALING_FLAT;
    }
    close_to((double)fired / TRIALS, 0.05, 4.0 * sqrt(0.05 * 0.95 / TRIALS));
}

static struct scaling_cell one(uint32_t cores, double rate, double batch_std_error)
{
    return (struct scaling_cell){.cores = cores,
                                 .replicates_count = 1,
                                 .rates = {rate},
                                 .batch_std_error = batch_std_error,
                                 .batches_count = 8};
}

static void one_replicate_takes_the_batches(void **state)
{
    (void)state;
    /* The measured series of two API servers: 6 [6, 8). */
    struct scaling_cell cells[] = {one(1, 6600, 40),   one(2, 13200, 80),  one(3, 19900, 120),
                                   one(4, 26400, 160), one(6, 37500, 220), one(8, 36700, 220)};
    struct scaling_last_helpful out;
    scaling_last_helpful(cells, 6, USEFUL, &out);
    assert_string_equal(out.text, "6 [6, 8)");
    assert_int_equal(out.lo, 6);
    assert_int_equal(out.hi, 8);
    assert_int_equal(out.gains_count, 5);
    close_to(out.gains[3].gain, (37500.0 - 26400.0) / (2.0 * 6600.0), 1e-12);
    assert_true(out.gains[3].lower < out.gains[3].gain && out.gains[3].gain < out.gains[3].upper);
    /* One API server: flat from 3 on, and it is the first flat step that counts. */
    struct scaling_cell flat[] = {one(1, 6600, 40),   one(2, 13200, 80),  one(3, 19100, 100),
                                  one(4, 18900, 100), one(6, 18600, 100), one(8, 18400, 100)};
    scaling_last_helpful(flat, 6, USEFUL, &out);
    assert_string_equal(out.text, "3 [3, 4)");
    /* Four: nothing flat. */
    struct scaling_cell up[] = {one(1, 6600, 40), one(4, 26500, 100), one(8, 52000, 300)};
    scaling_last_helpful(up, 3, USEFUL, &out);
    assert_string_equal(out.text, "> 8");
    assert_int_equal(out.hi, 0);
    assert_int_equal(out.last_helpful, 8);
}

static void noise_widens_the_answer(void **state)
{
    (void)state;
    /* The step 4 -> 6 gains 0.23 a core: useful by its mean, but not shown to be. */
    struct scaling_cell cells[] = {one(1, 100, 2), one(2, 200, 4), one(4, 400, 8), one(6, 446, 9),
                                   one(8, 440, 9)};
    struct scaling_last_helpful out;
    scaling_last_helpful(cells, 5, USEFUL, &out);
    assert_string_equal(out.text, "6 [4, 8)");
}

static void what_can_not_be_told_is_not_told(void **state)
{
    (void)state;
    struct scaling_last_helpful out;
    struct scaling_cell cells[] = {one(1, 100, 0), one(2, 100, 0)};
    scaling_last_helpful(cells, 2, USEFUL, &out);
    assert_int_equal(out.status, SCALING_NO_VARIANCE);
    assert_string_equal(out.text, "undecided");
    assert_true(isnan(out.gains[0].upper));
    scaling_last_helpful(cells, 1, USEFUL, &out);
    assert_int_equal(out.status, SCALING_TOO_FEW);
    scaling_last_helpful(cells, 0, USEFUL, &out);
    assert_int_equal(out.status, SCALING_TOO_FEW);
}

static void a_grid_may_start_above_one(void **state)
{
    (void)state;
    struct scaling_cell cells[] = {one(2, 200, 1), one(4, 400, 2), one(8, 410, 2)};
    struct scaling_last_helpful out;
    scaling_last_helpful(cells, 3, USEFUL, &out);
    assert_string_equal(out.text, "4 [4, 8)");
    close_to(out.gains[0].gain, 1.0, 1e-12);
    close_to(out.gains[1].gain, 10.0 / (4.0 * 100.0), 1e-12);
}

/* The delta method's standard error against the spread of simulated gains, first step (shared unit)
 * and a later one. */
static void gain_bounds_have_the_right_width(void **state)
{
    (void)state;
    enum {
        TRIALS = 4000
    };
    struct random random = random_stream(13, "width", 0);
    int below[2] = {0};
    for (int trial = 0; trial < TRIALS; trial++) {
        struct scaling_cell cells[GRID_COUNT];
        struct scaling_last_helpful out;
        measure(cells, LINEAR, 3, 0.03, &random);
        scaling_last_helpful(cells, GRID_COUNT, USEFUL, &out);
        below[0] += out.gains[0].upper < 1.0;
        below[1] += out.gains[3].upper < 1.0;
    }
    for (int i = 0; i < 2; i++) {
        close_to((double)below[i] / TRIALS, 0.05, 0.02);
    }
}

static void efficiency_by_hand(void **state)
{
    (void)state;
    struct scaling_cell cells[] = {one(1, 100, 1), one(4, 300, 3)};
    struct scaling_efficiency table[2];
    scaling_efficiency_table(cells, 2, table);
    close_to(table[0].efficiency, 1.0, 1e-12);
    close_to(table[1].speedup, 3.0, 1e-12);
    close_to(table[1].efficiency, 0.75, 1e-12);
    close_to(table[1].hi - table[1].rate, 3.0 * 2.364624, 1e-5);
    close_to(table[1].rate - table[1].lo, 3.0 * 2.364624, 1e-5);
}

static void another_api_server_helps_or_not(void **state)
{
    (void)state;
    struct scaling_cell fewer = one(4, 18900, 100);
    struct scaling_cell more = one(4, 26400, 100);
    struct scaling_gain gain = scaling_relative_gain(&fewer, &more);
    close_to(gain.gain, 26400.0 / 18900.0 - 1.0, 1e-12);
    assert_true(gain.lower > USEFUL);
    more.rates[0] = 19000;
    gain = scaling_relative_gain(&fewer, &more);
    assert_true(gain.upper < USEFUL);
    fewer.batch_std_error = 0.0;
    assert_true(isnan(scaling_relative_gain(&fewer, &more).lower));
}

static void api_servers_feed_so_many_engine_cores(void **state)
{
    (void)state;
    close_to(scaling_api_server_knee(19.0e3, 2, 6.6e3), 5.7576, 1e-4);
    assert_true(isinf(scaling_api_server_knee((double)INFINITY, 2, 6600)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_break_at_four_is_found),
        cmocka_unit_test(it_never_fires_without_a_break),
        cmocka_unit_test(its_size_is_five_per_cent),
        cmocka_unit_test(one_replicate_takes_the_batches),
        cmocka_unit_test(noise_widens_the_answer),
        cmocka_unit_test(what_can_not_be_told_is_not_told),
        cmocka_unit_test(a_grid_may_start_above_one),
        cmocka_unit_test(gain_bounds_have_the_right_width),
        cmocka_unit_test(efficiency_by_hand),
        cmocka_unit_test(another_api_server_helps_or_not),
        cmocka_unit_test(api_servers_feed_so_many_engine_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
