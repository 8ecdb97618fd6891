/*
 * wave_test.c - the wave state of one rank alone: what requests and START_DP_WAVE do, when an
 * all-reduce is due, what its result means, and what ranks agree on for a forward.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "engine/core/wave.h"

enum {
    WAVE = 5,
    RANKS = 3,
};

static struct wave make(uint32_t rank, uint32_t interval, bool first_step)
{
    const struct wave_options options = {
        .ranks_count = RANKS,
        .check_interval_steps = interval,
        .check_first_step = first_step,
        .confirm_running = true,
        .graph_tokens_max = 16,
        .dummy_graph = true,
    };
    struct wave w;
    assert_int_equal(wave_init(&w, &options, rank, NULL), STATUS_OK);
    w.current_wave = WAVE;
    return w;
}

static void assert_notice(struct wave *w, int64_t complete, int64_t start)
{
    struct wave_notice notice;
    assert_true(wave_take_notice(w, &notice));
    assert_int_equal(notice.wave_complete, complete);
    assert_int_equal(notice.start_wave, start);
}

static void assert_no_notice(struct wave *w)
{
    struct wave_notice notice;
    assert_false(wave_take_notice(w, &notice));
}

static void options_are_checked(void **state)
{
    (void)state;
    struct wave w;
    struct error error = {0};
    struct wave_options options = {.ranks_count = 2, .check_interval_steps = 32};
    assert_int_equal(wave_init(&w, &options, 2, &error), STATUS_INVALID);
    assert_ptr_equal(strstr(error.text, "wave.ranks_count"), error.text);
    options.check_interval_steps = 0;
    assert_int_equal(wave_init(&w, &options, 1, &error), STATUS_INVALID);
    assert_ptr_equal(strstr(error.text, "wave.check_interval_steps"), error.text);
}

static void independent_rank_has_no_waves(void **state)
{
    (void)state;
    struct wave w;
    struct wave_ballot ballot;
    const struct wave_options none = {0};
    assert_int_equal(wave_init(&w, &none, 7, NULL), STATUS_OK);
    wave_request(&w, 9, false);
    wave_start(&w, &(struct start_wave){.wave = 9, .exclude = -1});
    wave_pause(&w);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(wave_next(&w, (i & 1) != 0, (i & 2) != 0, &ballot), WAVE_NEED_NOTHING);
    }
    assert_int_equal(w.current_wave, 0);
    assert_false(w.engines_running);
    assert_no_notice(&w);
}

static void requests(void **state)
{
    (void)state;
    static const struct {
        uint32_t wave;
        bool running;
        bool paused;
        bool announce;
        uint32_t to_wave;
        bool to_running;
        int64_t start; /* -1: no notice */
    } rows[] = {
        {WAVE, false, false, false, WAVE, false, -1},
        {WAVE, true, false, false, WAVE, true, -1},
        {WAVE + 2, false, false, false, WAVE + 2, false, -1},
        {WAVE + 2, true, false, false, WAVE + 2, true, -1},
        {WAVE - 1, false, false, false, WAVE, true, WAVE},
        {WAVE - 1, true, false, false, WAVE, true, -1},
        {WAVE - 1, false, true, false, WAVE, false, -1},
        {0, false, false, false, WAVE, true, WAVE},
        {WAVE, false, false, true, WAVE, true, WAVE},
        {WAVE, false, true, true, WAVE, false, -1},
        {WAVE, true, false, true, WAVE, true, -1},
        {WAVE + 2, false, false, true, WAVE + 2, true, WAVE + 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wave w = make(1, 32, false);
        w.engines_running = rows[i].running;
        w.options.announce_start = rows[i].announce;
        wave_request(&w, rows[i].wave, rows[i].paused);
        assert_int_equal(w.current_wave, rows[i].to_wave);
        assert_int_equal(w.engines_running, rows[i].to_running);
        if (rows[i].start >= 0) {
            assert_notice(&w, -1, rows[i].start);
        }
        assert_no_notice(&w);
        wave_request(&w, rows[i].wave, rows[i].paused); /* the second tells nobody anything */
        assert_no_notice(&w);
    }
}

static void starts(void **state)
{
    (void)state;
    static const struct {
        uint32_t wave;
        int32_t exclude;
        bool ignore;
        bool taken;
    } rows[] = {
        {WAVE, -1, false, true},        {WAVE, 0, false, true},
        {WAVE, 1, false, false},        {WAVE + 1, -1, false, true},
        {WAVE + 1, 1, false, false},    {WAVE - 1, -1, false, false},
        {WAVE - 1, 0, false, false},    {WAVE, -1, true, false},
        {WAVE + 1, 2, true, false},     {WAVE, INT32_MIN, false, true},
        {WAVE, INT32_MAX, false, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wave w = make(1, 32, false);
        w.ignore_start_dp_wave = rows[i].ignore;
        const struct start_wave start = {.wave = rows[i].wave, .exclude = rows[i].exclude};
        wave_start(&w, &start);
        wave_start(&w, &start); /* again changes nothing */
        assert_int_equal(w.engines_running, rows[i].taken);
        assert_int_equal(w.current_wave, rows[i].taken ? rows[i].wave : WAVE);
        assert_no_notice(&w);
    }
}

/* Steps of a wave at which an all-reduce is due, each answered with "go on". */
static uint64_t check_steps(uint32_t interval, bool first_step)
{
    struct wave w = make(1, interval, first_step);
    struct wave_ballot ballot = {9, 9};
    uint64_t checks = 0;
    for (uint32_t step = 1; step <= 40; step++) {
        enum wave_need need = wave_next(&w, step % 3 != 0, true, &ballot);
        if (need == WAVE_NEED_DUMMY) {
            assert_int_equal(step % 3, 0);
            need = wave_next(&w, false, true, &ballot);
        }
        assert_int_equal(w.step_counter, step);
        if (need == WAVE_NEED_ALLREDUCE) {
            assert_int_equal(ballot.unfinished, 1);
            assert_int_equal(ballot.pending_pause, 0);
            checks |= UINT64_C(1) << step;
            const struct wave_ballot sum = {.unfinished = 1};
            wave_checked(&w, &sum);
            need = wave_next(&w, false, true, &ballot);
        }
        assert_int_equal(need, WAVE_NEED_NOTHING);
    }
    return checks;
}

static void checks_come_at_the_interval(void **state)
{
    (void)state;
    const uint64_t one = 1;
    assert_true(check_steps(32, false) == one << 32);
    assert_true(check_steps(32, true) == (one << 32 | one << 1));
    assert_true(check_steps(16, false) == (one << 16 | one << 32));
    assert_true(check_steps(16, true) == (one << 1 | one << 16 | one << 32));
    assert_true(check_steps(1, false) == (one << 41) - 2);
    assert_true(check_steps(1, true) == (one << 41) - 2);
}

static void idle_rank_joins_nothing(void **state)
{
    (void)state;
    struct wave w = make(0, 1, true);
    struct wave_ballot ballot;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wave_next(&w, false, false, &ballot), WAVE_NEED_NOTHING);
    }
    assert_int_equal(w.step_counter, 0);
    assert_int_equal(w.current_wave, WAVE);
    assert_no_notice(&w);
}

/* What a sum of ballots makes of a rank with a pause pending. */
static void results_of_checks(void **state)
{
    (void)state;
    static const struct {
        struct wave_ballot sum;
        bool runs;
        bool pauses;
    } rows[] = {
        {{0, 0}, false, false},   {{1, 0}, true, false},         {{RANKS, 0}, true, false},
        {{0, 1}, true, false},    {{0, RANKS - 1}, true, false}, {{0, RANKS}, false, true},
        {{2, RANKS}, true, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (uint32_t rank = 0; rank < 2; rank++) {
            struct wave w = make(rank, 1, false);
            struct wave_ballot ballot;
            if (rows[i].sum.pending_pause > 0) {
                wave_pause(&w);
            } else {
                wave_start(&w, &(struct start_wave){.wave = WAVE, .exclude = -1});
            }
            assert_int_equal(wave_next(&w, true, false, &ballot), WAVE_NEED_ALLREDUCE);
            assert_int_equal(ballot.unfinished, 0);
            assert_int_equal(ballot.pending_pause, rows[i].sum.pending_pause > 0);
            wave_checked(&w, &rows[i].sum);
            assert_int_equal(wave_next(&w, true, false, &ballot), WAVE_NEED_NOTHING);
            assert_int_equal(w.engines_running, rows[i].runs);
            assert_int_equal(w.ignore_start_dp_wave, rows[i].pauses);
            assert_int_equal(w.pending_pause, rows[i].sum.pending_pause > 0 && !rows[i].pauses);
            assert_int_equal(w.current_wave, rows[i].runs ? WAVE : WAVE + 1);
            assert_int_equal(w.step_counter, rows[i].runs ? 1 : 0);
            if (rank == 0 && !rows[i].runs) {
                assert_notice(&w, WAVE, -1);
            } else if (rank == 0 && !w.pending_pause) {
                assert_notice(&w, -1, WAVE);
            }
            assert_no_notice(&w);
            assert_null(wave_check(&w));
        }
    }
}

/* Rank 0 says once that it runs, also if the first step of the wave was at a check. */
static void running_is_confirmed_once(void **state)
{
    (void)state;
    for (int confirm = 0; confirm <= 1; confirm++) {
        struct wave w = make(0, 32, false);
        struct wave_ballot ballot;
        w.options.confirm_running = confirm != 0;
        assert_int_equal(wave_next(&w, true, true, &ballot), WAVE_NEED_NOTHING);
        assert_true(w.engines_running);
        if (confirm) {
            assert_notice(&w, -1, WAVE);
        }
        for (int i = 0; i < 20; i++) {
            assert_int_equal(wave_next(&w, true, true, &ballot), WAVE_NEED_NOTHING);
            assert_no_notice(&w);
        }
    }
}

static void resume_needs_all_ranks_paused(void **state)
{
    (void)state;
    for (int any = 0; any <= 1; any++) {
        struct wave w = make(0, 1, false);
        struct wave_ballot ballot;
        wave_pause(&w);
        assert_false(wave_resume(&w));
        assert_int_equal(wave_next(&w, false, false, &ballot), WAVE_NEED_DUMMY);
        assert_int_equal(wave_next(&w, false, false, &ballot), WAVE_NEED_ALLREDUCE);
        wave_checked(&w, &(struct wave_ballot){.unfinished = 1, .pending_pause = RANKS});
        assert_int_equal(wave_next(&w, false, false, &ballot), WAVE_NEED_NOTHING);
        assert_notice(&w, -1, WAVE);
        assert_false(wave_resume(&w)); /* somebody still finishes what ran */
        assert_int_equal(wave_next(&w, false, false, &ballot), WAVE_NEED_DUMMY);
        assert_int_equal(wave_next(&w, false, false, &ballot), WAVE_NEED_ALLREDUCE);
        wave_checked(&w, &(struct wave_ballot){0});
        assert_int_equal(wave_next(&w, false, false, &ballot), WAVE_NEED_NOTHING);
        assert_notice(&w, WAVE, -1);
        wave_start(&w, &(struct start_wave){.wave = WAVE + 1, .exclude = -1});
        assert_false(w.engines_running);
        assert_true(wave_resume(&w));
        wave_resumed(&w, any != 0);
        assert_int_equal(w.engines_running, any);
        wave_start(&w, &(struct start_wave){.wave = WAVE + 1, .exclude = -1});
        assert_true(w.engines_running);
    }
}

static void forwards_are_agreed_on(void **state)
{
    (void)state;
    struct wave w = make(0, 32, false);
    struct wave_forward dummy = wave_forward_dummy(&w);
    struct wave_forward decode = wave_forward_step(&w, 16, true);
    struct wave_forward large = wave_forward_step(&w, 17, true);
    struct wave_forward prefill = wave_forward_step(&w, 9, false);
    assert_true(dummy.graph && decode.graph && !large.graph && !prefill.graph);
    assert_int_equal(dummy.tokens_count, 1);
    struct wave_forward agreed = wave_forward_merge(dummy, decode);
    assert_true(agreed.graph);
    assert_int_equal(wave_forward_tokens(dummy, agreed), 16);
    agreed = wave_forward_merge(agreed, prefill);
    assert_false(agreed.graph);
    assert_int_equal(agreed.tokens_count, 16);
    assert_int_equal(wave_forward_tokens(dummy, agreed), 1);
    assert_int_equal(wave_forward_tokens(prefill, agreed), 9);
    w.options.dummy_graph = false;
    assert_false(wave_forward_dummy(&w).graph);
    w.options.dummy_graph = true;
    w.options.graph_tokens_max = 0;
    assert_false(wave_forward_dummy(&w).graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(independent_rank_has_no_waves),
        cmocka_unit_test(requests),
        cmocka_unit_test(starts),
        cmocka_unit_test(checks_come_at_the_interval),
        cmocka_unit_test(idle_rank_joins_nothing),
        cmocka_unit_test(results_of_checks),
        cmocka_unit_test(running_is_confirmed_once),
        cmocka_unit_test(resume_needs_all_ranks_paused),
        cmocka_unit_test(forwards_are_agreed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
