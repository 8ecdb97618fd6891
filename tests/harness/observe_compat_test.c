/*
 * observe_compat_test.c - a load region written by hand, with the events of two requests mixed,
 * against what each tool makes of it: which requests count, which events are whose, what is left
 * out. The formulas themselves have their own test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "harness/run/observe_compat.h"

#define MS ((int64_t)1000000)

static void make_region(struct load_shared *shared, uint64_t events_max)
{
    struct load_options o = {
        .targets = {{.host = "127.0.0.1", .port = 1}},
        .targets_count = 1,
        .mode = LOAD_OPEN_CONSTANT,
        .rate_per_s = 10,
        .connections_count = 4,
        .prompt_tokens = {.lo = 1, .hi = 1},
        .output_tokens = {.lo = 3, .hi = 3},
        .window_ns = 1000 * MS,
        .batches_count = 1,
        .events_max = events_max,
    };
    assert_int_equal(load_shared_create(&o, shared, NULL), STATUS_OK);
    shared->header->window_start_ns = 1000 * MS;
    shared->header->window_end_ns = 2000 * MS;
}

static void add_record(struct load_shared *shared, const struct load_record *record)
{
    uint64_t rank = load_get(&shared->header->offered_count);
    shared->records[rank] = *record;
    load_add(&shared->header->offered_count, 1);
}

static void add_event(struct load_shared *shared, uint64_t number, int64_t at_ns, uint32_t tokens)
{
    uint64_t count = load_get(&shared->header->events_count);
    shared->events[count] = (struct load_event){.number = number, .at_ns = at_ns, .tokens = tokens};
    load_add(&shared->header->events_count, 1);
}

static struct load_record record_of(uint64_t number, int64_t sent_ns, uint32_t content_events)
{
    return (struct load_record){.number_plus_1 = number + 1,
                                .outcome = LOAD_OUTCOME_OK,
                                .t_sched_ns = sent_ns,
                                .t_sent_ns = sent_ns,
                                .t_done_ns = sent_ns + 100 * MS,
                                .output_tokens_asked = 3,
                                .completion_tokens = 3,
                                .content_events_count = content_events,
                                .token_basis = LOAD_BASIS_USAGE};
}

/* Request 0 in the warm-up, 1 and 2 in the window, 3 in it but not all of its events kept, 4 cut
 * off by the client. An event of request 1 without text comes first. */
static void fill(struct load_shared *shared)
{
    make_region(shared, 64);
    for (uint64_t i = 0; i < 5; i++) {
        struct load_record r = record_of(i, (i == 0 ? 900 : 1100) * MS, i == 3 ? 2 : 3);
        r.outcome = i == 4 ? LOAD_OUTCOME_CANCELLED : LOAD_OUTCOME_OK;
        add_record(shared, &r);
    }
    add_event(shared, 0, 910 * MS, 1);
    add_event(shared, 0, 990 * MS, 1);
    add_event(shared, 0, 1005 * MS, 1);
    add_event(shared, 1, 1110 * MS, 0);
    add_event(shared, 2, 1120 * MS, 1);
    add_event(shared, 1, 1130 * MS, 1);
    add_event(shared, 3, 1131 * MS, 1);
    add_event(shared, 2, 1140 * MS, 1);
    add_event(shared, 1, 1150 * MS, 1);
    add_event(shared, 2, 1170 * MS, 1);
    add_event(shared, 1, 1190 * MS, 1);
}

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-9) {
        fail_msg("got %f, want %f", got, want);
    }
}

static void each_tool_sees_the_requests_of_the_window(void **state)
{
    (void)state;
    struct load_shared shared;
    struct compat_seen seen;
    fill(&shared);
    assert_int_equal(observe_compat(&shared, COMPAT_VLLM, &seen, NULL), STATUS_OK);
    assert_int_equal(seen.requests_count, 2);
    assert_int_equal(seen.success_count, 2);
    assert_int_equal(seen.left_out_count, 1);
    near(seen.ttft.mean_ms, (10 + 20) / 2.0); /* the event without text counts */
    near(seen.e2e.mean_ms, (90 + 70) / 2.0);
    near(seen.tpot.mean_ms, (40 + 25) / 2.0);
    assert_int_equal(seen.itl.samples_count, 3 + 2);
    near(seen.itl.p50_ms, 20); /* of 20, 20, 40; 20, 30 */
    near(seen.rates.requests_per_s, 2 / 0.1);
    near(seen.rates.output_tok_per_s, 6 / 0.1);

    assert_int_equal(observe_compat(&shared, COMPAT_AIPERF, &seen, NULL), STATUS_OK);
    near(seen.ttft.mean_ms, (30 + 20) / 2.0);
    assert_int_equal(seen.itl.samples_count, 2);
    near(seen.itl.mean_ms, (30 + 25) / 2.0);
    load_shared_close(&shared);
}

/* GuideLLM counts what happens in the window: an event of the warm-up's request too. */
static void a_tool_with_a_window_counts_what_happens_in_it(void **state)
{
    (void)state;
    struct load_shared shared;
    struct compat_seen seen;
    fill(&shared);
    shared.records[0].t_done_ns = 1006 * MS;
    assert_int_equal(observe_compat(&shared, COMPAT_GUIDELLM, &seen, NULL), STATUS_OK);
    assert_int_equal(seen.requests_count, 2);
    near(seen.rates.window_s, 1);
    near(seen.rates.requests_per_s, 3);
    near(seen.rates.output_tok_per_s, 7);
    load_shared_close(&shared);
}

static void without_events_nothing_is_said(void **state)
{
    (void)state;
    struct load_shared shared;
    struct compat_seen seen;
    make_region(&shared, 0);
    assert_int_equal(observe_compat(&shared, COMPAT_SGLANG, &seen, NULL), STATUS_INVALID);
    load_shared_close(&shared);
    make_region(&shared, 8);
    assert_int_equal(observe_compat(&shared, COMPAT_SGLANG, &seen, NULL), STATUS_OK);
    assert_int_equal(seen.requests_count, 0);
    assert_true(isnan(seen.ttft.p50_ms) && isnan(seen.rates.requests_per_s));
    load_shared_close(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tool_sees_the_requests_of_the_window),
        cmocka_unit_test(a_tool_with_a_window_counts_what_happens_in_it),
        cmocka_unit_test(without_events_nothing_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
