/*
 * What a mean over a whole run hides and a window inside it shows, on a simulated queue of known
 * capacity: the bias published with the method, and none in the window. When capacity counts as
 * known, what overload leaves of it, and where a curve of latency bends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "engine/base/random.h"
#include "harness/analysis/capacity.h"
#include "harness/analysis/knee.h"

enum {
    SLOTS = 64,
    RUNS = 150,
    ROWS = 5,
    REQUESTS_MAX = 50 * SLOTS,
    BATCHES = 20,
};

static const double SERVICE_CV = 0.53; /* mean 1 s: the capacity is SLOTS a second */
static const double WARMUP_S = 1.5;

/* All requests at once; the times at which they end. Returns when the last one started. */
static double run_all(uint32_t requests, uint64_t seed, double *ends)
{
    struct random services = random_stream(seed, "services", 0);
    double spread = sqrt(log(1.0 + SERVICE_CV * SERVICE_CV));
    double free_at[SLOTS] = {0};
    double last_start = 0;
    for (uint32_t i = 0; i < requests; i++) {
        int earliest = 0;
        for (int k = 1; k < SLOTS; k++) {
            earliest = free_at[k] < free_at[earliest] ? k : earliest;
        }
        last_start = free_at[earliest];
        free_at[earliest] += exp(spread * random_normal(&services) - spread * spread / 2.0);
        ends[i] = free_at[earliest];
    }
    return last_start;
}

static double whole_run(const double *ends, uint32_t requests)
{
    double end = 0;
    for (uint32_t i = 0; i < requests; i++) {
        end = fmax(end, ends[i]);
    }
    return requests / end;
}

/* Batch means between the warm-up and the end of the backlog; no mean if there is no such time. */
static struct stats_mean steady_window(const double *ends, uint32_t requests, double backlog_end_s)
{
    double counts[BATCHES] = {0};
    double width = (backlog_end_s - WARMUP_S) / BATCHES;
    if (width * BATCHES < 1) {
        return stats_mean_of(NULL, 0);
    }
    for (uint32_t i = 0; i < requests; i++) {
        double batch = floor((ends[i] - WARMUP_S) / width);
        if (batch >= 0 && batch < BATCHES) {
            counts[(int)batch] += 1 / width;
        }
    }
    return stats_mean_of(counts, BATCHES);
}

static void whole_runs_are_biased_and_windows_are_not(void **state)
{
    (void)state;
    static const uint32_t per_slot[ROWS] = {2, 5, 10, 20, 50};
    static const double published[ROWS] = {0.52, 0.72, 0.84, 0.91, 0.96};
    static double ends[REQUESTS_MAX];
    for (int row = 0; row < ROWS; row++) {
        double whole = 0;
        double window = 0;
        uint32_t windows = 0;
        uint32_t requests = per_slot[row] * SLOTS;
        for (uint64_t seed = 0; seed < RUNS; seed++) {
            double backlog_end_s = run_all(requests, seed, ends);
            struct stats_mean m = steady_window(ends, requests, backlog_end_s);
            whole += whole_run(ends, requests) / SLOTS / RUNS;
            window += isnan(m.mean) ? 0 : m.mean / SLOTS;
            windows += isnan(m.mean) ? 0 : 1;
        }
        print_message("%2u requests a slot: whole run %.3f, window %.3f of %u\n", per_slot[row],
                      whole, window / windows, windows);
        assert_true(fabs(whole - published[row]) < 0.02);
        if (per_slot[row] == 2) {
            assert_int_equal(windows, 0); /* there is no steady state to look at */
        } else {
            assert_int_equal(windows, RUNS);
            assert_true(fabs(window / windows - 1) < 0.015);
        }
    }
}

static void capacity_needs_a_narrow_interval_of_independent_batches(void **state)
{
    (void)state;
    struct random r = random_stream(1, "batches", 0);
    double even[BATCHES];
    double wide[BATCHES];
    double drift[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        double noise = random_normal(&r);
        even[i] = 100 + noise;
        wide[i] = 100 + 20 * noise;
        drift[i] = 100 + 0.3 * i;
    }
    struct stats_mean m = stats_mean_of(even, BATCHES);
    assert_int_equal(capacity_judge(&m), CAPACITY_KNOWN);
    m = stats_mean_of(wide, BATCHES);
    assert_int_equal(capacity_judge(&m), CAPACITY_WIDE);
    m = stats_mean_of(drift, BATCHES);
    assert_int_equal(capacity_judge(&m), CAPACITY_DEPENDENT);
    m = stats_mean_of(even, 1); /* no interval */
    assert_int_equal(capacity_judge(&m), CAPACITY_WIDE);
}

static void overload_droop_is_what_is_lost_of_the_peak(void **state)
{
    (void)state;
    assert_true(fabs(capacity_overload_droop(75, 100) - 0.25) < 1e-12);
    assert_true(fabs(capacity_overload_droop(101, 100)) < 1e-12);
    assert_true(isnan(capacity_overload_droop(STATS_UNKNOWN, 100)));
    assert_true(isnan(capacity_overload_droop(75, STATS_UNKNOWN)));
}

/* Latency of M/M/1 with service rate 100, in no order. Power is greatest at half the capacity. */
static void knee_is_where_latency_turns_up(void **state)
{
    (void)state;
    static const double rates[] = {90, 10, 50, 70, 30, 98, 80, 60, 40, 20};
    enum {
        COUNT = sizeof rates / sizeof rates[0]
    };
    struct knee_point points[COUNT];
    struct knee knee;
    for (int i = 0; i < COUNT; i++) {
        points[i] = (struct knee_point){rates[i], rates[i], 1000 / (100 - rates[i])};
    }
    knee_find(points, COUNT, &knee);
    /* Where the slope of the scaled curve is 1: 1000 / (100 - x)^2 = (500 - 11.1) / 88, at 86.6. */
    assert_true(knee.per_s >= 80 && knee.per_s <= 90);
    assert_true(knee.lo < knee.per_s && knee.per_s < knee.hi);
    assert_true(fabs(knee.power_per_s - 50) < 1e-12);
    assert_true(points[0].offered_per_s < points[1].offered_per_s);
}

static void straight_and_short_curves_have_no_knee(void **state)
{
    (void)state;
    struct knee_point points[8];
    struct knee knee;
    for (int i = 0; i < 8; i++) {
        points[i] = (struct knee_point){1 + i, 1 + i, 10 + i};
    }
    knee_find(points, 8, &knee);
    assert_true(isnan(knee.per_s) && fabs(knee.power_per_s - 8) < 1e-12);
    points[3].latency_ms = 1000;
    knee_find(points, KNEE_POINTS_MIN - 1, &knee);
    assert_true(isnan(knee.per_s));
    knee_find(points, 0, &knee);
    assert_true(isnan(knee.per_s) && isnan(knee.power_per_s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_runs_are_biased_and_windows_are_not),
        cmocka_unit_test(capacity_needs_a_narrow_interval_of_independent_batches),
        cmocka_unit_test(overload_droop_is_what_is_lost_of_the_peak),
        cmocka_unit_test(knee_is_where_latency_turns_up),
        cmocka_unit_test(straight_and_short_curves_have_no_knee),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
