/*
 * protocol_plan_test.c - plans of faults: as text and back, what is refused, that a plan that is
 * given runs as the same plan that was drawn, and that shrinking finds what a failure needs, by a
 * failure whose needs are known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "sim/protocol_shrink.h"

static struct protocol_plan parsed(const char *text)
{
    struct protocol_plan plan;
    struct error error;
    if (protocol_plan_parse(text, &plan, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    return plan;
}

static void assert_same_text(const char *text, const char *want)
{
    char out[PROTOCOL_PLAN_BYTES];
    struct protocol_plan plan = parsed(text);
    protocol_plan_write(&plan, out);
    assert_string_equal(out, want);
}

static void a_plan_reads_as_it_is_written(void **state)
{
    (void)state;
    struct protocol_plan plan = parsed("pause rank 2 at 130 for 40; slow rank 1 x8; "
                                       "crash api 0 at 300.25; ranks 3; requests 0,31; end at 9");
    assert_int_equal(plan.faults_count, 3);
    assert_int_equal(plan.faults[0].kind, PROTOCOL_PAUSE);
    assert_int_equal(plan.faults[0].process, 2);
    assert_int_equal(plan.faults[0].at_us, 130000);
    assert_int_equal(plan.faults[0].for_us, 40000);
    assert_int_equal(plan.faults[1].kind, PROTOCOL_SLOW);
    assert_int_equal(plan.faults[1].factor, 8);
    assert_int_equal(plan.faults[2].process, PROTOCOL_RANKS_MAX);
    assert_int_equal(plan.faults[2].at_us, 300250);
    assert_int_equal(plan.ranks_count, 3);
    assert_true(plan.requests == 0x80000001U);
    assert_int_equal(plan.end_us, 9000);
}

static void text_survives_both_ways(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "none",
        "delay coordinator to rank 3 by 0.001 at 5 for 4000",
        "reorder by 40 at 130.010 for 400; reorder by 1",
        "pause launcher for 5; rejoin rank 1 at 2; rejoin api 3 at 2 for 7",
        "ranks 2; apis 1; requests 0,5; end at 400.125",
        "without cancels; without aborts; without pauses; without stalls; without bad-start",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_same_text(lines[i], lines[i]);
    }
    assert_same_text("", "none");
    assert_same_text(" ;  crash   rank 0 ; none", "crash rank 0");
}

static void what_is_no_plan_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const lines[][2] = {
        {"stop rank 1 at 3", "stop rank 1 at 3"},
        {"crash rank 4 at 3", "crash PROCESS"},
        {"crash rank 1 at -3", "crash PROCESS"},
        {"crash rank 1 at 3 for 4", "crash PROCESS"},
        {"crash rank 1 at nan", "crash PROCESS"},
        {"crash rank 1 at 99999999", "crash PROCESS"},
        {"none; pause api 0 at 3", "pause PROCESS"},
        {"pause api 0 at 3 for 0", "pause PROCESS"},
        {"slow rank 1 x1", "slow rank N"},
        {"slow api 1 x4", "slow rank N"},
        {"delay rank 1 by 4", "delay PROCESS to PROCESS"},
        {"rejoin launcher at 4 for 4", "rejoin rank N"},
        {"rejoin api 1 at 4", "rejoin rank N"},
        {"rejoin rank 1 at 4 for 4", "rejoin rank N"},
        {"requests 32", "requests N"},
        {"requests 1,", "requests N"},
        {"ranks 0", "ranks N"},
        {"without hope", "without cancels"},
        {"end 4", "end at MS"},
        {"crash rank 0; crash rank 0; crash rank 0; crash rank 0; crash rank 0; crash rank 0; "
         "crash rank 0; crash rank 0; crash rank 0",
         "more than 8"},
    };
    struct protocol_plan plan = {.end_us = 7};
    struct error error;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(protocol_plan_parse(lines[i][0], &plan, &error), STATUS_INVALID);
        if (strstr(error.text, lines[i][1]) == NULL) {
            fail_msg("%s: %s", lines[i][0], error.text);
        }
    }
    assert_int_equal(plan.end_us, 7);
}

/* Drawn, written, read and given back: the same run, event for event. */
static void a_drawn_plan_given_as_text_repeats_the_run(void **state)
{
    (void)state;
    static struct protocol_report drawn;
    static struct protocol_report given;
    struct error error;
    char text[PROTOCOL_PLAN_BYTES];
    char again[PROTOCOL_PLAN_BYTES];
    uint32_t faults = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        assert_int_equal(protocol_driver_run(seed, &drawn, &error), STATUS_OK);
        protocol_plan_write(&drawn.plan, text);
        struct protocol_plan plan = parsed(text);
        assert_int_equal(protocol_driver_replay(seed, &plan, &given, &error), STATUS_OK);
        assert_true(given.digest == drawn.digest);
        assert_non_null(strstr(given.trace, "plan: "));
        protocol_plan_write(&given.plan, again);
        assert_string_equal(again, text);
        faults += plan.faults_count;
    }
    assert_true(faults > 150);
}

static void a_plan_changes_the_run_that_it_is_for(void **state)
{
    (void)state;
    static struct protocol_report without;
    static struct protocol_report with;
    struct error error;
    struct protocol_plan none = parsed("none");
    struct protocol_plan less = parsed("ranks 2; apis 1; requests 0,2; without pauses");
    struct protocol_plan crash = parsed("crash launcher at 1");
    uint64_t ended = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        assert_int_equal(protocol_driver_replay(seed, &none, &without, &error), STATUS_OK);
        for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
            assert_true(without.faults_count[k] == 0);
        }
        assert_int_equal(protocol_driver_replay(seed, &less, &with, &error), STATUS_OK);
        assert_true(with.ranks_count <= 2 && with.clients_count == 1);
        assert_true(with.requests_count <= 2 && with.pauses_count == 0);
        assert_int_equal(protocol_driver_replay(seed, &crash, &with, &error), STATUS_OK);
        assert_true(with.deaths_count == 1 && with.requests_count == 0);
        ended += with.deaths_count;
    }
    assert_true(ended == 100);
}

static void a_plan_for_processes_that_are_not_there_is_refused(void **state)
{
    (void)state;
    static struct protocol_report report;
    struct error error;
    struct protocol_plan plan = parsed("ranks 2; crash rank 2 at 10");
    assert_int_equal(protocol_driver_replay(3, &plan, &report, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "no rank 2"));
}

/* ---- shrinking ---- */

/* Fails exactly if rank 1 is paused for at least 16 ms, rank 0 is slow and request 5 is sent to a
 * system of at least 3 ranks. */
static bool needs_two_faults(void *user, const struct protocol_plan *plan)
{
    bool paused = false;
    bool slow = false;
    (*(uint32_t *)user)++;
    for (uint32_t i = 0; i < plan->faults_count; i++) {
        const struct protocol_fault *f = &plan->faults[i];
        paused |= f->kind == PROTOCOL_PAUSE && f->process == 1 && f->for_us >= 16000;
        slow |= f->kind == PROTOCOL_SLOW && f->process == 0;
    }
    return paused && slow && plan->ranks_count >= 3 && (plan->requests >> 5 & 1) != 0;
}

static void shrinking_leaves_what_the_failure_needs(void **state)
{
    (void)state;
    static struct protocol_report failed = {
        .ranks_count = 4,
        .clients_count = 3,
        .requests = 0xfff,
        .end_us = 5000000,
        .parts = PROTOCOL_CANCELS | PROTOCOL_STALLS,
    };
    uint32_t asked = 0;
    struct protocol_shrink shrink = {.fails = needs_two_faults, .user = &asked, .runs_max = 500};
    struct protocol_plan plan =
        parsed("crash api 0 at 300; pause rank 1 at 1130.5 for 512; reorder by 5; "
               "slow rank 0 x16 at 7; pause rank 2 at 5 for 9");
    char text[PROTOCOL_PLAN_BYTES];
    protocol_shrink(&shrink, &failed, &plan);
    protocol_plan_write(&plan, text);
    assert_string_equal(text, "pause rank 1 at 1000 for 16; slow rank 0 x2; ranks 3; apis 1; "
                              "requests 5; without cancels; without stalls; end at 5000");
    assert_int_equal(asked, shrink.runs_count);
    assert_true(asked < 100);
}

static void shrinking_ends_when_it_may_ask_no_more(void **state)
{
    (void)state;
    static struct protocol_report failed = {.ranks_count = 4, .clients_count = 1, .requests = 63};
    uint32_t asked = 0;
    struct protocol_shrink shrink = {.fails = needs_two_faults, .user = &asked, .runs_max = 3};
    struct protocol_plan plan = parsed("pause rank 1 for 512; slow rank 0 x16; reorder by 5");
    protocol_shrink(&shrink, &failed, &plan);
    assert_int_equal(asked, 3);
    assert_true(needs_two_faults(&asked, &plan));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_reads_as_it_is_written),
        cmocka_unit_test(text_survives_both_ways),
        cmocka_unit_test(what_is_no_plan_is_refused_by_name),
        cmocka_unit_test(a_drawn_plan_given_as_text_repeats_the_run),
        cmocka_unit_test(a_plan_changes_the_run_that_it_is_for),
        cmocka_unit_test(a_plan_for_processes_that_are_not_there_is_refused),
        cmocka_unit_test(shrinking_leaves_what_the_failure_needs),
        cmocka_unit_test(shrinking_ends_when_it_may_ask_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
