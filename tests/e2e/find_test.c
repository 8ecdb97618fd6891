/*
 * find_test.c - a search for rates on a real serving system, as small as it can be: arrivals at
 * equal gaps, answers of equal length. What is found stands in its order, and each status is one
 * that the runs allow. How fast the system is on this machine is not asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "harness/run/find.h"
#include "helper_measure.h"
#include "helper_system.h"

static const char scenario_text[] =
    "[scenario]\nname = find\nschema = 1\nseed = 3\nrepeats = 1\n"
    "[server s]\ntopology = api_servers=1 dp=1 tp=1\nhost_profile = native\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nwait = block\naccept = reuseport\n"
    "max_num_seqs = 16\nmax_model_len = 512\n"
    "[client]\nmax_cpu = 100%\nmax_lag = p99 1s\n"
    "[workload w]\nprompt = 24tok\noutput = 4tok\n"
    "[load l]\nmode = open\narrival = constant\nwarmup = 200ms\nmeasure = 500ms\ndrain = 500ms\n"
    "inflight_max = 512\n"
    "[slo slow]\nttft_p99_max = 80ms\n"
    "[find]\nwhat = capacity, stable_rate, slo_rate\nstart = 60%\ntolerance = 45%\npoints_max = "
    "4\n";

struct seen {
    const struct scenario *scenario;
    uint32_t runs;
    bool host_limited;
};

static bool measure(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out)
{
    struct seen *seen = ctx;
    struct scenario view = *seen->scenario;
    const struct scenario_run run = {.replicate = replicate,
                                     .seed = seen->scenario->general.seed + replicate};
    view.cells = cell;
    struct measure_options options = {.scenario = &view,
                                      .run = &run,
                                      .order_index = seen->runs++,
                                      .log_fd = -1,
                                      .host = &e2e_host};
    e2e_measure(&options, out);
    seen->host_limited |= out->host_limited || out->outcome != RUN_OK;
    return true;
}

static bool is_answer(const struct search_answer *a)
{
    return a->status == SEARCH_OK || a->status == SEARCH_CLIFF || a->status == SEARCH_NON_MONOTONE;
}

static void rates_stand_in_their_order(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(scenario_text);
    struct seen seen = {.scenario = scenario};
    struct find_options options = {
        .scenario = scenario, .cell = &scenario->cells[0], .measure = measure, .ctx = &seen};
    struct knees_row row;
    struct run_result capacity;
    find_cell(&options, &row, &capacity);
    assert_true(row.complete);
    assert_int_equal(row.runs_count, seen.runs);
    assert_int_equal(capacity.outcome, RUN_OK);
    assert_int_equal(capacity.users_count, 32);
    assert_true(row.capacity_rps > 0 && row.points_count > 0);
    for (uint32_t i = 0; i < row.points_count; i++) {
        const struct knees_point *p = &row.points[i];
        if (p->valid) { /* arrivals came at the rate that was asked for */
            assert_true(fabs(p->offered_per_s * p->window_s - p->per_s * p->window_s) <= 2);
        }
    }
    if (seen.host_limited) {
        print_message("the host was busy: the order of the rates is not judged\n");
    } else {
        assert_true(is_answer(&row.stable) && is_answer(&row.slo));
        assert_true(row.stable.lo <= row.capacity_rps * 1.05);
        assert_true(row.slo.lo <= row.capacity_rps);
        assert_true(row.stable.per_s <= row.stable.hi && row.slo.per_s <= row.slo.hi);
    }
    result_free(&capacity);
    free(row.points);
    scenario_close(scenario);
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_stand_in_their_order),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
