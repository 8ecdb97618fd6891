/*
 * The limiting-stage rule: who is named, when two are, when nobody is, and what is not known stays
 * not known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "harness/analysis/stages.h"
#include "harness/analysis/stats.h"

static void close_to(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9)) {
        fail_msg("got %.10g, want %.10g", got, want);
    }
}

static struct stage_use thread_use(const char *stage, double busy, double cpu, double occupancy)
{
    return (struct stage_use){
        .stage = stage, .busy_frac = busy, .cpu_frac = cpu, .occupancy_frac = occupancy};
}

static struct stage_use device_use(double busy)
{
    return thread_use("gpu", busy, STATS_UNKNOWN, STATS_UNKNOWN);
}

static struct stage_verdict verdict_of(const struct stage_use *uses, size_t count)
{
    struct stage_summary stages[STAGES_MAX];
    struct stage_verdict verdict;
    stages_limiting(stages, stages_summarise(uses, count, stages), &verdict);
    return verdict;
}

static void cpu_inside_occupancy_is_not_counted_twice(void **state)
{
    (void)state;
    struct stage_use use = thread_use("api_server", 0.71, 0.26, 0.70);
    close_to(stage_use_frac(&use), 0.71);
    use.busy_frac = 0.99; /* contains waits for a core */
    close_to(stage_use_frac(&use), 0.96);
    use.busy_frac = 0.2;
    close_to(stage_use_frac(&use), 0.70);
    use.busy_frac = STATS_UNKNOWN;
    close_to(stage_use_frac(&use), 0.70);
    use = thread_use("api_server", 1.2, 0.9, 0.9);
    close_to(stage_use_frac(&use), 1.0);
}

static void spinning_is_not_work(void **state)
{
    (void)state;
    struct stage_use use = thread_use("scheduler", 0.3, 1.0, 0.0);
    close_to(stage_use_frac(&use), 1.0);
    use.spins = true;
    close_to(stage_use_frac(&use), 0.3);
    use.cpu_frac = 0.9;
    use.busy_frac = 0.1;
    use.occupancy_frac = 0.2;
    close_to(stage_use_frac(&use), 0.2);
}

static void the_busiest_stage_is_named(void **state)
{
    (void)state;
    struct stage_use uses[] = {
        thread_use("api_server", 0.98, 0.3, 0.97),
        thread_use("scheduler", 0.1, 0.05, 0.08),
        thread_use("scheduler", 0.1, 0.05, 0.10),
        device_use(0.60),
        device_use(0.50),
        thread_use("launch", 0.2, 0.2, 0.0),
    };
    struct stage_verdict v = verdict_of(uses, 6);
    assert_int_equal(v.kind, STAGE_NAMED);
    assert_string_equal(v.text, "api_server");
    assert_string_equal(v.second, "gpu");
    close_to(v.first_frac, 0.98);
    close_to(v.second_frac, 0.55);
    close_to(v.headroom, 0.98 / 0.55);
}

static void two_close_ones_are_mixed(void **state)
{
    (void)state;
    struct stage_use uses[] = {thread_use("api_server", 0.95, 0.95, 0.0), device_use(0.97)};
    struct stage_verdict v = verdict_of(uses, 2);
    assert_int_equal(v.kind, STAGE_MIXED);
    assert_string_equal(v.text, "mixed(gpu, api_server)");
    /* The second may itself lie under the limit: no clear lead is no clear lead. */
    uses[0] = thread_use("api_server", 0.84, 0.84, 0.0);
    uses[1] = device_use(0.86);
    assert_int_equal(verdict_of(uses, 2).kind, STAGE_MIXED);
    uses[0] = thread_use("api_server", 0.80, 0.80, 0.0);
    assert_string_equal(verdict_of(uses, 2).text, "gpu");
}

static void idle_stages_explain_nothing(void **state)
{
    (void)state;
    struct stage_use uses[] = {thread_use("api_server", 0.84, 0.84, 0.0), device_use(0.2)};
    struct stage_verdict v = verdict_of(uses, 2);
    assert_int_equal(v.kind, STAGE_UNEXPLAINED);
    assert_string_equal(v.text, "unexplained");
    assert_string_equal(v.first, "api_server");
    v = verdict_of(uses, 0);
    assert_int_equal(v.kind, STAGE_UNEXPLAINED);
    assert_string_equal(v.first, "");
    assert_true(isnan(v.first_frac));
}

static void what_was_not_observed_is_listed_not_zero(void **state)
{
    (void)state;
    double none = STATS_UNKNOWN;
    struct stage_use uses[] = {thread_use("api_server", 0.9, 0.9, 0.0), device_use(none),
                               thread_use("ipc", none, none, none), device_use(none)};
    struct stage_summary stages[STAGES_MAX];
    assert_int_equal(stages_summarise(uses, 4, stages), 3);
    assert_int_equal(stages[1].servers_count, 2);
    assert_false(stages[1].instrumented);
    assert_true(isnan(stages[1].use_frac) && isnan(stages[1].max_frac));
    assert_string_equal(verdict_of(uses, 4).text, "api_server; not instrumented: gpu, ipc");
}

static void a_stage_is_the_mean_of_its_servers(void **state)
{
    (void)state;
    struct stage_use uses[] = {device_use(1.0), device_use(0.5), device_use(STATS_UNKNOWN)};
    struct stage_summary stages[STAGES_MAX];
    assert_int_equal(stages_summarise(uses, 3, stages), 1);
    close_to(stages[0].use_frac, 0.75);
    close_to(stages[0].max_frac, 1.0);
    assert_int_equal(stages[0].servers_count, 3);
}

static void a_crowded_host_is_no_evidence(void **state)
{
    (void)state;
    assert_false(stages_host_limited(1.33, 2.0));
    assert_false(stages_host_limited(1.5, 2.0));
    assert_true(stages_host_limited(1.51, 2.0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_inside_occupancy_is_not_counted_twice),
        cmocka_unit_test(spinning_is_not_work),
        cmocka_unit_test(the_busiest_stage_is_named),
        cmocka_unit_test(two_close_ones_are_mixed),
        cmocka_unit_test(idle_stages_explain_nothing),
        cmocka_unit_test(what_was_not_observed_is_listed_not_zero),
        cmocka_unit_test(a_stage_is_the_mean_of_its_servers),
        cmocka_unit_test(a_crowded_host_is_no_evidence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
