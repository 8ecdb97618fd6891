/*
 * report_contrasts_test.c - what is said of cells that are no curve: least and greatest with the
 * cells that had them, nothing about what is alike, and no comparison across loads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "harness/report/contrasts.h"
#include "helper_report.h"

#define HEAD   "[scenario]\nname = c\nrepeats = 1\n[workload w]\n"
#define CLOSED "users = 64\nmeasure = 1s\n"

/* Made alike, so that a test says what differs. */
static void make_alike(struct sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->count; i++) {
        struct run_result *r = &sweep->results[i];
        r->output_tok_per_s.mean = 5000;
        r->rank_jain = 1;
        r->host_cores_used = 0.5;
        r->latency[RUN_ITL].mean_ms = 5;
        r->latency[RUN_TTFT].p99_ms = 100;
        r->rank_steps_per_tok = 1;
        strcpy(r->verdict.first, "gpu");
        r->verdict.kind = STAGE_NAMED;
    }
}

static void expect(const struct sweep *sweep, const char *sentences)
{
    char out[1024];
    struct text t = text_into(out, sizeof out);
    struct summary *s = summary_build(sweep->scenario, sweep->results, sweep->count);
    contrasts_tell(s, &t);
    summary_free(s);
    assert_string_equal(out, sentences);
}

static void one_cell_has_nothing_to_differ_from(void **state)
{
    struct sweep sweep = sweep_of(HEAD "[server s]\n[load l]\n" CLOSED);
    (void)state;
    expect(&sweep, "");
    sweep_free(&sweep);
}

static void what_differs_is_told_with_its_cells(void **state)
{
    struct sweep sweep =
        sweep_of(HEAD "[server s]\ntopology = api_servers=1 dp=4 tp=1\nrouter = %{router}\n"
                      "[load l]\n" CLOSED "[sweep]\naxis.router = score,weighted_sum,rust\n");
    (void)state;
    make_alike(&sweep);
    expect(&sweep, "Over 3 cells: tokens/s alike, 5.0 k to 5.0 k.");
    sweep.results[1].rank_jain = 0.34;
    sweep.results[2].rank_jain = 0.95;
    sweep.results[2].host_cores_used = 0.7; /* 1.4 times: less than is told */
    expect(&sweep, "Over 3 cells: evenness of engine cores (Jain's index, 1 is even) 0.34 "
                   "(router=weighted_sum) to 1.00 (router=score); tokens/s alike, 5.0 k to 5.0 k.");
    sweep.results[0].output_tok_per_s.mean = 4000;
    sweep.results[1].rank_jain = 1;
    expect(&sweep, "Over 3 cells: tokens/s 4.0 k (router=score) to 5.0 k (router=weighted_sum).");
    sweep_free(&sweep);
}

static void loads_are_not_compared(void **state)
{
    struct sweep sweep =
        sweep_of(HEAD "[server s]\ntopology = api_servers=1 dp=2 tp=1\nrouter = %{router}\n"
                      "[load open]\nmode = open\nrate = 50/s\nmeasure = 1s\n"
                      "[load closed]\n" CLOSED
                      "[sweep]\naxis.load = open,closed\naxis.router = score,rust\n");
    (void)state;
    make_alike(&sweep);
    sweep.results[0].output_tok_per_s.mean = 1000;
    sweep.results[1].output_tok_per_s.mean = 1000;
    expect(&sweep,
           "Over 2 cells of load open: tokens/s alike, 1.0 k to 1.0 k; TTFT p99 alike, "
           "100 ms to 100 ms. Over 2 cells of load closed: tokens/s alike, 5.0 k to 5.0 k.");
    sweep.results[1].latency[RUN_TTFT].p99_ms = 300;
    sweep.results[3].latency[RUN_TTFT].p99_ms = 900; /* closed: not a latency of this load */
    expect(&sweep, "Over 2 cells of load open: TTFT p99 100 ms (load=open,router=score) to 300 ms "
                   "(load=open,router=rust); tokens/s alike, 1.0 k to 1.0 k. "
                   "Over 2 cells of load closed: tokens/s alike, 5.0 k to 5.0 k.");
    sweep_free(&sweep);
}

static void a_limit_that_passes_on_is_told(void **state)
{
    struct sweep sweep =
        sweep_of(HEAD "[server s]\nlaunch = eager\nlaunch_extra = %{extra}us\n[load l]\n" CLOSED
                      "[sweep]\naxis.extra = 0,4,20\n");
    (void)state;
    make_alike(&sweep);
    strcpy(sweep.results[2].verdict.first, "launch");
    expect(&sweep, "Between extra=4 and extra=20 the limit passes from the GPU to the launching "
                   "worker. Over 3 cells: tokens/s alike, 5.0 k to 5.0 k.");
    sweep_free(&sweep);
}

/* Of a second the GPU computes 900 ms; launches that take 450 ms of it cost half of the critical
 * cost, with 950 ms they cost more. */
static void the_critical_cost_of_a_launch_is_told(void **state)
{
    struct sweep sweep =
        sweep_of(HEAD "[server s]\nlaunch = eager\nlaunch_extra = %{extra}us\n[load l]\n" CLOSED
                      "[sweep]\naxis.extra = 0,4\n");
    (void)state;
    make_alike(&sweep);
    for (uint32_t i = 0; i < 2; i++) {
        struct probe_rates *t = &sweep.results[i].launchers[0];
        t->launches_per_s[LAUNCH_CLASS_GRAPH] = 0;
        t->launches_per_s[LAUNCH_CLASS_KERNEL] = 100;
        t->prepare_frac = 0;
        t->gpu_busy_frac = 0.9;
        t->launch_frac = i == 0 ? 0.45 : 0.95;
    }
    expect(&sweep, "Between extra=0 and extra=4 launching begins to take longer than the GPU "
                   "computes. Over 2 cells: cost of a launch over the critical one 0.50 (extra=0) "
                   "to 1.06 (extra=4); time of one in launch calls 45 % (extra=0) to 95 % "
                   "(extra=4); tokens/s alike, 5.0 k to 5.0 k.");
    sweep_free(&sweep);
}

static void a_curve_speaks_for_itself(void **state)
{
    struct sweep sweep = sweep_make();
    (void)state;
    expect(&sweep, "");
    for (uint32_t i = 0; i < sweep.count; i++) { /* all that 2 API servers serve goes to one */
        if (sweep.results[i].cell->topology.api_servers_count == 2) {
            sweep.results[i].api_tok_per_s[0] += sweep.results[i].api_tok_per_s[1];
            sweep.results[i].api_tok_per_s[1] = 0;
        }
    }
    expect(&sweep, "Over 18 cells: greatest share of an API server over the mean 1.00 "
                   "(api_servers=4,dp=1) to 2.00 (api_servers=2,dp=1).");
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_cell_has_nothing_to_differ_from),
        cmocka_unit_test(what_differs_is_told_with_its_cells),
        cmocka_unit_test(loads_are_not_compared),
        cmocka_unit_test(a_limit_that_passes_on_is_told),
        cmocka_unit_test(the_critical_cost_of_a_launch_is_told),
        cmocka_unit_test(a_curve_speaks_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
