/*
 * lockstep_test.c - engine cores in lock-step with coordinator and front ends: each known race as a
 * sequence of messages, what waves cost, pause and resume, and random deliveries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/random.h"
#include "tests/core/helper_lockstep.h"

static struct lockstep s;

static const struct lockstep_options two_ranks = {
    .ranks_count = 2, .clients_count = 2, .check_interval_steps = 32, .evidence = true};

static int tear_down(void **state)
{
    (void)state;
    lockstep_close(&s);
    return 0;
}

static const struct start_wave *sent_start(uint32_t rank)
{
    const struct link *l = &s.starts[rank];
    assert_true(l->count > 0);
    return &l->notes[l->first].start;
}

static void deliver_notices(uint32_t rank)
{
    while (deliver_from_rank(&s, rank)) {
    }
}

static void assert_coordinator(uint32_t wave, bool running)
{
    assert_int_equal(coordinator_current_wave(s.coordinator), wave);
    assert_int_equal(coordinator_engines_running(s.coordinator), running);
}

static void assert_ranks(uint32_t wave, bool running)
{
    for (uint32_t r = 0; r < s.options.ranks_count; r++) {
        assert_int_equal(rank_wave(&s, r), wave);
        assert_int_equal(rank_running(&s, r), running);
    }
}

/*
 * Client 0's request runs alone through wave 0, and no front end hears of it: the ranks are idle in
 * wave 1. The coordinator knows what the notices delivered say: all of them, or none of rank 0.
 */
static void finish_wave_unheard(bool rank_0_heard)
{
    (void)lockstep_submit(&s, 0, 1, 3);
    assert_true(deliver_first(&s, 0));
    assert_true(deliver_to_rank(&s, 0, 1));
    for (uint32_t r = 0; r < s.options.ranks_count; r++) {
        assert_true(deliver_start(&s, r));
    }
    ranks_run(&s);
    deliver_notices(1);
    if (rank_0_heard) {
        deliver_notices(0);
    }
    assert_ranks(1, false);
    for (uint32_t r = 0; r < s.options.ranks_count; r++) {
        assert_false(rank_blocked(&s, r));
    }
    assert_int_equal(s.finished[FINISH_LENGTH], 1);
}

/* ---- races ---- */

static void stale_request_restarts(void **state)
{
    (void)state;
    lockstep_open(&s, &two_ranks);
    finish_wave_unheard(true);
    assert_coordinator(1, false);
    /* The client believes that wave 0 runs: no FIRST_REQ. */
    (void)lockstep_submit(&s, 0, 1, 3);
    assert_int_equal(s.first_requests, 1);
    while (deliver_start(&s, 0) || deliver_start(&s, 1)) {
    }
    assert_true(deliver_to_rank(&s, 0, 1));
    ranks_run(&s);
    assert_true(rank_running(&s, 1));
    assert_true(rank_blocked(&s, 1));
    assert_false(rank_blocked(&s, 0));
    assert_true(deliver_from_rank(&s, 1));
    assert_coordinator(1, true);
    assert_int_equal(sent_start(0)->wave, 1);
    assert_int_equal(sent_start(0)->exclude, 1);
    assert_true(deliver_start(&s, 0));
    ranks_run(&s);
    assert_int_equal(s.finished[FINISH_LENGTH], 2);
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_coordinator(2, false);
}

static void start_overtakes_complete(void **state)
{
    (void)state;
    lockstep_open(&s, &two_ranks);
    finish_wave_unheard(false);
    assert_coordinator(0, false);
    (void)lockstep_submit(&s, 0, 1, 3);
    assert_true(deliver_to_rank(&s, 0, 1));
    ranks_run(&s);
    assert_true(deliver_from_rank(&s, 1)); /* start_wave 1 */
    assert_coordinator(1, true);
    deliver_notices(0); /* start_wave 0 and wave_complete 0: both late */
    assert_coordinator(1, true);
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_coordinator(2, false);
    assert_int_equal(s.finished[FINISH_LENGTH], 2);
}

static void stale_first_request_excludes_nobody(void **state)
{
    (void)state;
    lockstep_open(&s, &two_ranks);
    finish_wave_unheard(true);
    (void)lockstep_submit(&s, 1, 1, 3); /* client 1 knows of no wave at all */
    assert_int_equal(s.first_requests, 2);
    while (deliver_start(&s, 0) || deliver_start(&s, 1)) {
    }
    assert_true(deliver_first(&s, 1));
    assert_int_equal(sent_start(0)->wave, 1);
    assert_int_equal(sent_start(1)->exclude, -1);
    assert_coordinator(1, false);
    /* The target hears of the wave before its request comes. */
    assert_true(deliver_start(&s, 1));
    ranks_run(&s);
    assert_true(rank_running(&s, 1));
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_int_equal(s.finished[FINISH_LENGTH], 2);
}

static void two_first_requests(void **state)
{
    (void)state;
    for (int evidence = 0; evidence <= 1; evidence++) {
        struct lockstep_options options = two_ranks;
        options.evidence = evidence != 0;
        lockstep_open(&s, &options);
        (void)lockstep_submit(&s, 0, 0, 3);
        (void)lockstep_submit(&s, 1, 1, 3);
        assert_int_equal(s.first_requests, 2);
        assert_true(deliver_first(&s, 0));
        assert_true(deliver_first(&s, 1));
        assert_coordinator(0, evidence == 0);
        /* Believing at once ignores the second; waiting for evidence sends it too. */
        assert_int_equal(s.starts[0].count, evidence == 0 ? 1 : 2);
        assert_int_equal(s.states[0].count, evidence == 0 ? 1 : 0);
        lockstep_settle(&s);
        lockstep_assert_quiet(&s);
        assert_int_equal(s.finished[FINISH_LENGTH], 2);
        assert_coordinator(1, false);
        lockstep_close(&s);
    }
    lockstep_open(&s, &two_ranks);
}

static void first_request_while_wave_is_over(void **state)
{
    (void)state;
    lockstep_open(&s, &two_ranks);
    finish_wave_unheard(false);
    assert_true(deliver_from_rank(&s, 0)); /* start_wave 0, and not yet its end */
    assert_coordinator(0, true);
    while (deliver_start(&s, 0) || deliver_start(&s, 1)) {
    }
    (void)lockstep_submit(&s, 1, 1, 3);
    assert_true(deliver_first(&s, 1));
    assert_int_equal(s.starts[0].count, 0); /* ignored */
    assert_true(deliver_to_rank(&s, 1, 1));
    ranks_run(&s);
    assert_true(rank_blocked(&s, 1));
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_int_equal(s.finished[FINISH_LENGTH], 2);
}

/*
 * A request comes while all ranks are paused, and is cancelled. Its FIRST_REQ must not make the
 * coordinator believe for ever that somebody runs: the next request would wake nobody.
 */
static void first_request_while_paused(bool evidence, uint32_t ranks, enum pause_mode mode)
{
    const struct lockstep_options options = {
        .ranks_count = ranks, .clients_count = 1, .check_interval_steps = 16, .evidence = evidence};
    lockstep_open(&s, &options);
    lockstep_pause(&s, mode);
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    uint64_t forwards = s.ranks[0].forwards;
    int32_t handle = lockstep_submit(&s, 0, ranks - 1, 2);
    assert_int_equal(s.first_requests, ranks > 1);
    lockstep_settle(&s);
    assert_coordinator(1, ranks > 1 && !evidence);
    assert_ranks(1, false);
    assert_int_equal(s.ranks[0].forwards, forwards);
    lockstep_cancel(&s, 0, handle);
    lockstep_settle(&s);
    lockstep_resume(&s);
    lockstep_settle(&s);
    for (uint32_t r = 0; r < ranks; r++) {
        assert_int_equal(s.ranks[r].resumes_done, 1);
    }
    (void)lockstep_submit(&s, 0, ranks - 1, 2);
    lockstep_settle(&s);
    if (evidence || ranks == 1) {
        lockstep_assert_quiet(&s);
        assert_int_equal(s.finished[FINISH_LENGTH], 1);
    } else {
        assert_true(rank_blocked(&s, ranks - 1)); /* the defect of believing */
        assert_int_equal(s.finished[FINISH_LENGTH], 0);
    }
}

static void paused_ranks_and_first_requests(void **state)
{
    (void)state;
    static const enum pause_mode modes[] = {PAUSE_ABORT, PAUSE_WAIT, PAUSE_KEEP};
    for (uint32_t ranks = 1; ranks <= RANKS_MAX; ranks++) {
        for (int i = 0; i < 6; i++) {
            first_request_while_paused(i >= 3, ranks, modes[i % 3]);
            lockstep_close(&s);
        }
    }
    lockstep_open(&s, &two_ranks);
}

/* START_DP_WAVE everywhere before the request: the wave ends empty at its first check, and the
 * request is stale. */
static void wave_that_ends_before_its_request(void **state)
{
    (void)state;
    struct lockstep_options options = two_ranks;
    options.check_first_step = true;
    lockstep_open(&s, &options);
    (void)lockstep_submit(&s, 0, 1, 3);
    assert_true(deliver_first(&s, 0));
    for (uint32_t r = 0; r < 2; r++) {
        s.starts[r].notes[s.starts[r].first].start.exclude = -1;
        assert_true(deliver_start(&s, r));
    }
    ranks_run(&s);
    assert_ranks(1, false);
    assert_int_equal(s.ranks[0].dummies, 1);
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_int_equal(s.finished[FINISH_LENGTH], 1);
    assert_coordinator(2, false);
}

/* The first request after idle, message by message: three ranks, two clients, five waves ago. */
static void first_request_after_idle(void **state)
{
    (void)state;
    const struct lockstep_options options = {
        .ranks_count = 3, .clients_count = 2, .check_interval_steps = 4, .evidence = true};
    lockstep_open(&s, &options);
    for (uint32_t wave = 0; wave < 5; wave++) {
        (void)lockstep_submit(&s, 0, wave % 3, 2);
        lockstep_settle(&s);
        lockstep_assert_quiet(&s);
    }
    assert_coordinator(5, false);
    uint32_t before = s.first_requests;
    (void)lockstep_submit(&s, 0, 2, 6);
    assert_int_equal(s.first_requests, before + 1);
    const struct link *firsts = &s.firsts[0];
    assert_int_equal(firsts->notes[firsts->first].first.engine, 2);
    assert_int_equal(firsts->notes[firsts->first].first.wave, 5);
    assert_true(deliver_first(&s, 0));
    assert_int_equal(sent_start(0)->wave, 5);
    assert_int_equal(sent_start(0)->exclude, 2);
    assert_int_equal(s.states[1].count, 0);
    assert_coordinator(5, false);
    assert_true(deliver_to_rank(&s, 0, 2));
    assert_true(deliver_start(&s, 2));
    ranks_run(&s);
    assert_true(rank_blocked(&s, 2)); /* in its first forward */
    assert_true(deliver_start(&s, 0));
    ranks_run(&s);
    assert_true(rank_blocked(&s, 0)); /* in a dummy: rank 1 has not come */
    assert_int_equal(s.from_rank[0].count, 0);
    assert_true(deliver_start(&s, 1));
    /* Up to the loop after the first step. */
    while (s.from_rank[0].count == 0) {
        for (uint32_t r = 0; r < 3; r++) {
            (void)rank_step(&s, r);
        }
    }
    assert_int_equal(s.from_rank[0].notes[s.from_rank[0].first].outputs.start_wave, 5);
    assert_true(deliver_from_rank(&s, 0));
    assert_coordinator(5, true);
    assert_int_equal(sent_start(1)->exclude, 0);
    assert_true(deliver_state(&s, 1));
    assert_true(frontend_engines_running(s.frontends[1]));
    (void)lockstep_submit(&s, 1, 1, 3);
    assert_int_equal(s.first_requests, before + 1);
    assert_true(deliver_to_rank(&s, 1, 1));
    ranks_run(&s);
    assert_ranks(6, false);
    deliver_notices(0);
    assert_coordinator(6, false);
    /* Client 1 has not heard of the end. */
    (void)lockstep_submit(&s, 1, 1, 1);
    assert_int_equal(s.first_requests, before + 1);
    assert_true(deliver_to_rank(&s, 1, 1));
    ranks_run(&s);
    deliver_notices(1);
    assert_coordinator(6, true);
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_coordinator(7, false);
    assert_int_equal(s.finished[FINISH_LENGTH], 8);
}

/* A request that is cancelled before its rank's first step, of which everybody else was told. */
static void cancelled_before_the_first_step(void **state)
{
    (void)state;
    for (int announce = 0; announce <= 1; announce++) {
        struct lockstep_options options = two_ranks;
        options.announce_start = announce != 0;
        lockstep_open(&s, &options);
        int32_t handle = lockstep_submit(&s, 0, 1, 3);
        lockstep_cancel(&s, 0, handle);
        assert_true(deliver_first(&s, 0));
        assert_int_equal(sent_start(0)->exclude, 1);
        assert_true(deliver_to_rank(&s, 0, 1));
        assert_true(deliver_to_rank(&s, 0, 1));
        lockstep_settle(&s);
        if (announce) {
            lockstep_assert_quiet(&s);
        } else {
            assert_true(rank_blocked(&s, 0)); /* until rank 1 gets something to do */
            assert_false(rank_blocked(&s, 1));
        }
        lockstep_close(&s);
    }
    lockstep_open(&s, &two_ranks);
}

/* A request sent while paused that comes after the resume; its START_DP_WAVE was dropped. */
static void request_that_arrives_after_the_resume(void **state)
{
    (void)state;
    for (int announce = 0; announce <= 1; announce++) {
        struct lockstep_options options = two_ranks;
        options.announce_start = announce != 0;
        lockstep_open(&s, &options);
        lockstep_pause(&s, PAUSE_KEEP);
        lockstep_settle(&s);
        (void)lockstep_submit(&s, 1, 1, 3);
        assert_true(deliver_first(&s, 1));
        assert_true(deliver_start(&s, 0) && deliver_start(&s, 1));
        ranks_run(&s);
        lockstep_resume(&s);
        assert_true(deliver_to_rank(&s, 0, 0) && deliver_to_rank(&s, 0, 1));
        ranks_run(&s);
        assert_int_equal(s.ranks[1].resumes_done, 1);
        lockstep_settle(&s);
        if (announce) {
            lockstep_assert_quiet(&s);
            assert_int_equal(s.finished[FINISH_LENGTH], 1);
        } else {
            assert_true(rank_blocked(&s, 1));
        }
        lockstep_close(&s);
    }
    lockstep_open(&s, &two_ranks);
}

/* ---- what waves cost ---- */

/* Forwards of a wave for one request of `tokens` tokens that is alone. */
static uint64_t forwards_of(uint32_t tokens, uint32_t interval, bool first, uint32_t depth)
{
    const struct lockstep_options options = {.ranks_count = 3,
                                             .clients_count = 1,
                                             .check_interval_steps = interval,
                                             .check_first_step = first,
                                             .evidence = true,
                                             .async_depth = depth};
    lockstep_open(&s, &options);
    (void)lockstep_submit(&s, 0, 2, tokens);
    assert_true(deliver_to_rank(&s, 0, 2));
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_int_equal(s.finished[FINISH_LENGTH], 1);
    assert_int_equal(s.ranks[2].steps, tokens);
    assert_int_equal(s.ranks[0].steps, 0);
    uint64_t forwards = s.ranks[0].forwards;
    assert_int_equal(s.ranks[0].dummies, forwards);
    assert_int_equal(s.ranks[2].dummies + s.ranks[2].steps, forwards);
    lockstep_close(&s);
    return forwards;
}

static void wave_lasts_whole_intervals(void **state)
{
    (void)state;
    assert_int_equal(forwards_of(1, 32, false, 1), 32);
    assert_int_equal(forwards_of(32, 32, false, 1), 32);
    assert_int_equal(forwards_of(33, 32, false, 1), 64);
    assert_int_equal(forwards_of(1, 32, true, 1), 1);
    assert_int_equal(forwards_of(2, 32, true, 1), 32);
    assert_int_equal(forwards_of(1, 16, false, 1), 16);
    assert_int_equal(forwards_of(17, 16, true, 1), 32);
    assert_int_equal(forwards_of(5, 1, false, 1), 5);
    /* At depth 2 a step's end is seen one step later. */
    assert_int_equal(forwards_of(5, 1, false, 2), 6);
    assert_int_equal(forwards_of(1, 1, true, 2), 2);
    assert_int_equal(forwards_of(32, 32, false, 2), 64);
    assert_int_equal(forwards_of(31, 32, false, 2), 32);
    lockstep_open(&s, &two_ranks);
}

/* Each forward runs as many tokens as the largest, with graphs only if nobody computes a prompt. */
static void ranks_agree_on_each_forward(void **state)
{
    (void)state;
    const struct lockstep_options options = {
        .ranks_count = 3, .clients_count = 1, .check_interval_steps = 8, .evidence = true};
    lockstep_open(&s, &options);
    (void)lockstep_submit(&s, 0, 1, 4);
    (void)lockstep_submit(&s, 0, 1, 2);
    assert_true(deliver_to_rank(&s, 0, 1));
    assert_true(deliver_to_rank(&s, 0, 1));
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_int_equal(s.ranks[0].forwards, 8);
    static const uint32_t tokens[8] = {6, 2, 1, 1, 1, 1, 1, 1};
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(s.agreed[i].tokens_count, tokens[i]);
        assert_int_equal(s.agreed[i].graph, i > 0);
        assert_int_equal(s.forward_step[i], i);
    }
}

/* Counts name the wave and the step at which they were true: before the first step of a request,
 * after it, and after its last. */
static void counts_carry_wave_and_step(void **state)
{
    (void)state;
    const struct lockstep_options options = {
        .ranks_count = 2, .clients_count = 1, .check_interval_steps = 8, .evidence = true};
    static const struct scheduler_stats want[] = {
        {.waiting_count = 1}, {.running_count = 1}, {.step_counter = 2}};
    lockstep_open(&s, &options);
    for (uint32_t wave = 0; wave < 3; wave++) {
        (void)lockstep_submit(&s, 0, 1, 3);
        assert_true(deliver_first(&s, 0) && deliver_start(&s, 0) && deliver_to_rank(&s, 0, 1));
        ranks_run(&s);
        assert_int_equal(s.from_rank[1].count, 3);
        for (uint32_t i = 0; i < 3; i++) {
            const struct link *l = &s.from_rank[1];
            const struct scheduler_stats *got = &l->notes[(l->first + i) % LINK_MAX].stats;
            assert_int_equal(got->current_wave, wave);
            assert_int_equal(got->step_counter, want[i].step_counter);
            assert_int_equal(got->running_count, want[i].running_count);
            assert_int_equal(got->waiting_count, want[i].waiting_count);
        }
        lockstep_settle(&s);
        lockstep_assert_quiet(&s);
    }
}

/* ---- pause and resume ---- */

static void pause_modes(uint32_t ranks, uint32_t depth, enum pause_mode mode)
{
    const struct lockstep_options options = {.ranks_count = ranks,
                                             .clients_count = 1,
                                             .check_interval_steps = 4,
                                             .evidence = true,
                                             .async_depth = depth};
    lockstep_open(&s, &options);
    for (uint32_t i = 0; i < 6; i++) { /* 4 run at once: 2 wait on the last rank */
        (void)lockstep_submit(&s, 0, ranks - 1, 40);
    }
    (void)lockstep_submit(&s, 0, 0, 10);
    while (deliver_to_rank(&s, 0, ranks - 1) || deliver_to_rank(&s, 0, 0)) {
    }
    while (deliver_first(&s, 0)) {
    }
    for (uint32_t r = 0; r < ranks; r++) {
        (void)deliver_start(&s, r);
    }
    for (int i = 0; i < 30; i++) {
        for (uint32_t r = 0; r < ranks; r++) {
            (void)rank_step(&s, r);
        }
    }
    lockstep_pause(&s, mode);
    (void)lockstep_submit(&s, 0, 0, 5); /* comes behind the pause */
    lockstep_settle(&s);
    assert_ranks(1, false);
    assert_coordinator(1, false);
    uint32_t unfinished = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        assert_false(rank_blocked(&s, r));
        assert_int_equal(s.ranks[r].pauses_done, 1);
        assert_true(engine_core_wave(s.ranks[r].core)->ignore_start_dp_wave);
        unfinished += engine_core_unfinished(s.ranks[r].core);
    }
    uint32_t held = mode == PAUSE_ABORT ? 1 : mode == PAUSE_WAIT ? 3 : 8;
    if (ranks == 1 && mode == PAUSE_WAIT) {
        held = 4; /* the seventh request waited behind the other six */
    }
    assert_int_equal(unfinished, held);
    assert_int_equal(s.finished[FINISH_ABORT], mode == PAUSE_ABORT ? 7 : 0);
    lockstep_resume(&s);
    lockstep_settle(&s);
    lockstep_assert_quiet(&s);
    assert_int_equal(s.finished[FINISH_LENGTH], mode == PAUSE_ABORT ? 1 : 8);
    for (uint32_t r = 0; r < ranks; r++) {
        assert_int_equal(s.ranks[r].resumes_done, 1);
        assert_int_equal(s.ranks[r].resumes_waiting, 0);
    }
}

static void pause_and_resume(void **state)
{
    (void)state;
    static const enum pause_mode modes[] = {PAUSE_ABORT, PAUSE_WAIT, PAUSE_KEEP};
    for (uint32_t ranks = 1; ranks <= RANKS_MAX; ranks++) {
        for (uint32_t i = 0; i < 6; i++) {
            pause_modes(ranks, 1 + i / 3, modes[i % 3]);
            lockstep_close(&s);
        }
    }
    lockstep_open(&s, &two_ranks);
}

/* A pause that one rank has not got yet keeps all stepping, and none gives up START_DP_WAVE. */
static void pause_waits_for_all_ranks(void **state)
{
    (void)state;
    struct lockstep_options options = two_ranks;
    options.check_interval_steps = 2;
    lockstep_open(&s, &options);
    lockstep_pause(&s, PAUSE_KEEP);
    assert_true(deliver_to_rank(&s, 0, 0));
    ranks_run(&s);
    assert_true(rank_blocked(&s, 0)); /* its dummy needs rank 1 */
    lockstep_resume(&s);
    assert_true(deliver_to_rank(&s, 0, 0));
    /* Rank 1 is woken by something else, and both step for as long as the pause is pending. */
    (void)lockstep_submit(&s, 1, 1, 1);
    assert_true(deliver_to_rank(&s, 1, 1));
    for (int i = 0; i < 200; i++) {
        (void)rank_step(&s, i % 2 == 0 ? 0 : 1);
    }
    assert_int_equal(s.ranks[0].resumes_waiting, 1);
    assert_true(s.ranks[0].forwards > 10);
    assert_ranks(0, true);
    assert_false(engine_core_wave(s.ranks[0].core)->ignore_start_dp_wave);
    assert_int_equal(s.finished[FINISH_LENGTH], 1);
    lockstep_settle(&s);
    assert_int_equal(s.ranks[0].pauses_done, 1);
    assert_int_equal(s.ranks[1].pauses_done, 1);
    assert_ranks(1, false);
}

/*
 * A resume comes behind a pause, before the pause's answer: to `early` while the pause is pending,
 * to the other rank when it is over. Both must resume, or one would wait for the other for ever.
 */
static void resume_behind_a_pending_pause(void **state)
{
    (void)state;
    for (uint32_t early = 0; early < 2; early++) {
        uint32_t late = 1 - early;
        lockstep_close(&s);
        lockstep_open(&s, &two_ranks);
        lockstep_pause(&s, PAUSE_KEEP);
        assert_true(deliver_to_rank(&s, 0, early));
        lockstep_resume(&s);
        assert_true(deliver_to_rank(&s, 0, early));
        ranks_run(&s);
        assert_int_equal(s.ranks[early].resumes_waiting, 1);
        assert_true(deliver_to_rank(&s, 0, late));
        ranks_run(&s);
        assert_int_equal(s.ranks[late].pauses_done, 1);
        assert_int_equal(s.ranks[early].pauses_done, 1);
        assert_int_equal(s.ranks[early].resumes_done, 0); /* in the barrier */
        assert_true(deliver_to_rank(&s, 0, late));
        ranks_run(&s);
        assert_int_equal(s.ranks[early].resumes_done, 1);
        assert_int_equal(s.ranks[late].resumes_done, 1);
        (void)lockstep_submit(&s, 0, early, 2);
        lockstep_settle(&s);
        lockstep_assert_quiet(&s);
        assert_int_equal(s.finished[FINISH_LENGTH], 1);
    }
}

/* ---- random deliveries ---- */

struct random_plan {
    struct random random;
    uint32_t submitted;
    uint32_t cancelled;
    uint32_t pauses;
    bool paused; /* a pause was sent and its resume was not */
    int32_t handles[CLIENTS_MAX];
};

static uint32_t pick(struct random_plan *p, uint32_t count)
{
    return (uint32_t)random_range(&p->random, 0, count - 1);
}

/* Every rank has answered every pause: only then may a user resume. */
static bool all_paused(const struct random_plan *p)
{
    for (uint32_t r = 0; r < s.options.ranks_count; r++) {
        if (s.ranks[r].pauses_done < p->pauses) {
            return false;
        }
    }
    return true;
}

static void random_user(struct random_plan *p, bool unruly)
{
    uint32_t client = pick(p, s.options.clients_count);
    uint32_t what = pick(p, 40);
    if (what < 4 && frontend_inflight(s.frontends[client]) < 20) {
        p->handles[client] =
            lockstep_submit(&s, client, pick(p, s.options.ranks_count), 1 + pick(p, 6));
        p->submitted++;
    } else if (unruly && what == 4 && p->handles[client] >= 0) {
        lockstep_cancel(&s, client, p->handles[client]);
        p->handles[client] = -1;
    } else if (unruly && what == 5 && pick(p, 4) == 0) {
        if (!p->paused) {
            static const enum pause_mode modes[] = {PAUSE_ABORT, PAUSE_WAIT, PAUSE_KEEP};
            lockstep_pause(&s, modes[pick(p, 3)]);
            p->paused = true;
            p->pauses++;
        } else if (all_paused(p)) {
            lockstep_resume(&s);
            p->paused = false;
        }
    }
}

static void random_event(struct random_plan *p)
{
    uint32_t rank = pick(p, s.options.ranks_count);
    uint32_t client = pick(p, s.options.clients_count);
    switch (pick(p, 10)) {
    case 0:
        (void)deliver_to_rank(&s, client, rank);
        break;
    case 1:
        (void)deliver_start(&s, rank);
        break;
    case 2:
        (void)deliver_from_rank(&s, rank);
        break;
    case 3:
        (void)deliver_first(&s, client);
        break;
    case 4:
        (void)deliver_state(&s, client);
        break;
    case 5:
        if (pick(p, 20) == 0 && s.states[0].count < LINK_MAX / 2) {
            coordinator_tick(&s);
        }
        break;
    default:
        (void)rank_step(&s, rank);
        break;
    }
}

static void random_run(uint64_t seed, bool unruly)
{
    struct random_plan p = {.random = random_stream(seed, "lockstep", unruly ? 1 : 0),
                            .handles = {-1, -1}};
    static const uint32_t intervals[] = {1, 2, 7, 16, 32};
    const struct lockstep_options options = {
        .ranks_count = 1 + pick(&p, RANKS_MAX),
        .clients_count = 1 + pick(&p, CLIENTS_MAX),
        .check_interval_steps = intervals[pick(&p, 5)],
        .check_first_step = pick(&p, 2) == 0,
        .evidence = unruly || pick(&p, 2) == 0,
        .announce_start = unruly || pick(&p, 2) == 0,
        .async_depth = 1 + pick(&p, 2),
    };
    lockstep_open(&s, &options);
    uint32_t events = 200 + pick(&p, 2000);
    for (uint32_t i = 0; i < events; i++) {
        if (pick(&p, 12) == 0) {
            random_user(&p, unruly);
        }
        random_event(&p);
    }
    lockstep_settle(&s);
    if (p.paused) {
        assert_true(all_paused(&p));
        lockstep_resume(&s);
        lockstep_settle(&s);
    }
    lockstep_assert_quiet(&s);
    if (!unruly) {
        assert_int_equal(s.finished[FINISH_LENGTH], p.submitted);
    }
    lockstep_close(&s);
}

/* Requests and nothing else: as in vLLM, with and without evidence and announcements. */
static void random_requests(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        random_run(seed, false);
    }
    lockstep_open(&s, &two_ranks);
}

/* With cancels, pauses and resumes. */
static void random_everything(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        random_run(seed, true);
    }
    lockstep_open(&s, &two_ranks);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stale_request_restarts),
        TEST(start_overtakes_complete),
        TEST(stale_first_request_excludes_nobody),
        TEST(two_first_requests),
        TEST(first_request_while_wave_is_over),
        TEST(paused_ranks_and_first_requests),
        TEST(wave_that_ends_before_its_request),
        TEST(first_request_after_idle),
        TEST(cancelled_before_the_first_step),
        TEST(request_that_arrives_after_the_resume),
        TEST(wave_lasts_whole_intervals),
        TEST(ranks_agree_on_each_forward),
        TEST(counts_carry_wave_and_step),
        TEST(pause_and_resume),
        TEST(pause_waits_for_all_ranks),
        TEST(resume_behind_a_pending_pause),
        TEST(random_requests),
        TEST(random_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
