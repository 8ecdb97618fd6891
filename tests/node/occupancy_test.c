/*
 * occupancy_test.c - the emulated host's time accounting: deadlines accumulate by exactly the
 * costs, whatever the sleeps do, and only a wait with nothing to do moves them to the present.
 * Threads under an interpreter lock take turns: their booked times never overlap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/node/occupancy.h"

static void costs_add_up_exactly(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct occupancy o;
    occupancy_init(&o, &thread, 1000);
    assert_int_equal(o.busy_until_ns, 1000);
    for (int i = 0; i < 1000; i++) {
        occupancy_charge(&o, 46000);
    }
    occupancy_charge(&o, 0);
    occupancy_charge(&o, -5);
    assert_int_equal(o.busy_until_ns, 1000 + 46000000);
    assert_int_equal(ledger_get(&thread.occupancy_ns), 46000000);
}

static void only_rest_moves_the_deadline(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct occupancy o;
    occupancy_init(&o, &thread, 0);
    occupancy_charge(&o, 5000);
    occupancy_wake(&o, 3000); /* woke while still busy: nothing is forgiven */
    assert_int_equal(o.busy_until_ns, 5000);
    occupancy_charge(&o, 1000);
    assert_int_equal(o.busy_until_ns, 6000);
    occupancy_wake(&o, 9000); /* rested: time that nobody used does not come back */
    assert_int_equal(o.busy_until_ns, 9000);
    occupancy_charge(&o, 1000);
    assert_int_equal(o.busy_until_ns, 10000);
    assert_int_equal(ledger_get(&thread.occupancy_ns), 7000);
}

static void a_slice_is_owed_before_it_is_due(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct occupancy o;
    occupancy_init(&o, &thread, 0);
    assert_false(occupancy_due(&o, 0));
    occupancy_charge(&o, OCCUPANCY_SLICE_NS);
    assert_false(occupancy_due(&o, 0));
    occupancy_charge(&o, 1);
    assert_true(occupancy_due(&o, 0));
    assert_false(occupancy_due(&o, 1));
    assert_false(occupancy_due(&o, (int64_t)10 * OCCUPANCY_SLICE_NS));
}

/* Work in slices, each slept off late by what the kernel adds: the end is where the sum says, not
 * later. */
static void late_sleeps_do_not_add_up(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct occupancy o;
    int64_t begin_ns = clock_now_ns();
    uint32_t slept_count = 0;
    occupancy_init(&o, &thread, begin_ns);
    for (int i = 0; i < 400; i++) {
        occupancy_charge(&o, 46000);
        if (occupancy_due(&o, clock_now_ns())) {
            occupancy_settle(&o);
            assert_true(clock_now_ns() >= o.busy_until_ns);
            slept_count++;
        }
    }
    occupancy_settle(&o);
    assert_int_equal(o.busy_until_ns, begin_ns + 400 * 46000);
    assert_true(clock_now_ns() >= begin_ns + 400 * 46000);
    assert_in_range(slept_count, 1, 37); /* 18.4 ms in slices of more than 500 us */
    occupancy_settle(&o);                /* nothing is owed any more: returns */
}

/* ---- interpreter ---- */

enum {
    SHARERS = 3,
    PIECES = 100,
    PIECE_NS = 200000
};

struct piece {
    int64_t begin_ns;
    int64_t end_ns;
};

struct sharer {
    struct ledger_thread thread;
    struct occupancy occupancy;
    struct piece pieces[PIECES];
};

static void init_sharers(struct sharer *sharers, struct interpreter *interpreter, int64_t now_ns)
{
    for (uint32_t i = 0; i < SHARERS; i++) {
        sharers[i] = (struct sharer){0};
        occupancy_init(&sharers[i].occupancy, &sharers[i].thread, now_ns);
        occupancy_share(&sharers[i].occupancy, interpreter);
    }
}

/* Whoever asks later comes later, whatever each has cost before. */
static void turns_come_in_the_order_of_asking(void **state)
{
    (void)state;
    static const uint32_t order[] = {0, 1, 0, 2, 2, 1, 0, 0, 2, 1};
    struct interpreter interpreter;
    struct sharer sharers[SHARERS];
    int64_t want_ns = 5000;
    uint64_t sums[SHARERS] = {0};
    uint64_t waits[SHARERS] = {0};
    int64_t last_ns[SHARERS] = {5000, 5000, 5000}; /* end of the thread's last piece */
    interpreter_init(&interpreter, 5000);
    init_sharers(sharers, &interpreter, 5000);
    for (uint32_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        int64_t cost_ns = 1000 * (int64_t)(i + 1);
        occupancy_charge(&sharers[order[i]].occupancy, cost_ns);
        waits[order[i]] += (uint64_t)(want_ns - last_ns[order[i]]);
        want_ns += cost_ns;
        last_ns[order[i]] = want_ns;
        sums[order[i]] += (uint64_t)cost_ns;
        assert_int_equal(sharers[order[i]].occupancy.busy_until_ns, want_ns);
    }
    for (uint32_t i = 0; i < SHARERS; i++) {
        assert_int_equal(ledger_get(&sharers[i].thread.occupancy_ns), sums[i]);
        assert_int_equal(ledger_get(&sharers[i].thread.lock_held_ns), sums[i]);
        assert_int_equal(ledger_get(&sharers[i].thread.lock_wait_ns), waits[i]);
    }
    assert_int_equal(waits[1], 1000 + 12000 + 24000); /* what others did before each of its turns */
}

/* A thread that rests does not hold the others' time back, and one that works loses none of it to
 * another's wake-up. */
static void only_a_rest_of_all_moves_the_interpreter(void **state)
{
    (void)state;
    struct interpreter interpreter;
    struct sharer sharers[SHARERS];
    struct occupancy *main = &sharers[0].occupancy;
    struct occupancy *input = &sharers[1].occupancy;
    struct occupancy *output = &sharers[2].occupancy;
    interpreter_init(&interpreter, 0);
    init_sharers(sharers, &interpreter, 0);
    occupancy_charge(main, 1000);
    occupancy_rest(input);
    occupancy_rest(output);
    occupancy_wake(input, 1500); /* main is late with its next piece, but has not rested */
    occupancy_charge(input, 100);
    assert_int_equal(input->busy_until_ns, 1100);
    occupancy_rest(input);
    occupancy_rest(input); /* waits in pieces */
    occupancy_charge(main, 1000);
    assert_int_equal(main->busy_until_ns, 2100);
    occupancy_rest(main);
    occupancy_wake(output, 5000); /* nobody worked from 2100 to 5000 */
    occupancy_charge(output, 100);
    assert_int_equal(output->busy_until_ns, 5100);
    occupancy_charge(main, 50); /* its wait found something at once: no time passed */
    assert_int_equal(main->busy_until_ns, 5150);
    occupancy_rest(main);
    occupancy_rest(output);
    occupancy_wake(main, 5120); /* before what was booked is over: nothing is forgiven */
    occupancy_charge(main, 50);
    assert_int_equal(main->busy_until_ns, 5200);
    /* Asked for at 6000, when what main booked is long over: nobody has the lock. */
    uint64_t waited_ns = ledger_get(&input->thread->lock_wait_ns);
    occupancy_wake(input, 6000);
    occupancy_charge(input, 10);
    assert_int_equal(ledger_get(&input->thread->lock_wait_ns), waited_ns);
}

static void *work_off(void *context)
{
    struct sharer *s = context;
    for (uint32_t i = 0; i < PIECES; i++) {
        occupancy_charge(&s->occupancy, PIECE_NS);
        s->pieces[i].end_ns = s->occupancy.busy_until_ns;
        s->pieces[i].begin_ns = s->pieces[i].end_ns - PIECE_NS;
        if (occupancy_due(&s->occupancy, clock_now_ns())) {
            occupancy_settle(&s->occupancy);
            assert_true(clock_now_ns() >= s->pieces[i].end_ns);
        }
    }
    occupancy_settle(&s->occupancy);
    return NULL;
}

static int by_begin(const void *a, const void *b)
{
    const struct piece *x = a;
    const struct piece *y = b;
    return x->begin_ns < y->begin_ns ? -1 : x->begin_ns > y->begin_ns;
}

/* All three have a backlog to the end: not a moment is idle, none is used twice. */
static void threads_of_one_interpreter_never_overlap(void **state)
{
    (void)state;
    static struct sharer sharers[SHARERS];
    static struct piece all[SHARERS * PIECES];
    struct interpreter interpreter;
    pthread_t threads[SHARERS];
    int64_t begin_ns = clock_now_ns();
    interpreter_init(&interpreter, begin_ns);
    init_sharers(sharers, &interpreter, begin_ns);
    for (uint32_t i = 0; i < SHARERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work_off, &sharers[i]), 0);
    }
    for (uint32_t i = 0; i < SHARERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(ledger_get(&sharers[i].thread.occupancy_ns), PIECES * PIECE_NS);
        for (uint32_t k = 0; k < PIECES; k++) {
            all[i * PIECES + k] = sharers[i].pieces[k];
        }
    }
    qsort(all, SHARERS * PIECES, sizeof all[0], by_begin);
    for (uint32_t k = 0; k < SHARERS * PIECES; k++) {
        assert_int_equal(all[k].begin_ns, begin_ns + (int64_t)k * PIECE_NS);
    }
    assert_true(clock_now_ns() >= begin_ns + (int64_t)SHARERS * PIECES * PIECE_NS);
}

/* Without a lock each has its own time: together more than there was. */
static void without_an_interpreter_threads_overlap(void **state)
{
    (void)state;
    static struct sharer sharers[SHARERS];
    pthread_t threads[SHARERS];
    int64_t begin_ns = clock_now_ns();
    init_sharers(sharers, NULL, begin_ns);
    for (uint32_t i = 0; i < SHARERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work_off, &sharers[i]), 0);
    }
    for (uint32_t i = 0; i < SHARERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(sharers[i].occupancy.busy_until_ns, begin_ns + PIECES * PIECE_NS);
        assert_int_equal(ledger_get(&sharers[i].thread.lock_held_ns), 0); /* there is none */
    }
}

static void *ask_while_held(void *context)
{
    struct sharer *s = context;
    clock_sleep_until_ns(s->occupancy.busy_until_ns + 1000000);
    occupancy_charge(&s->occupancy, PIECE_NS);
    return NULL;
}

/* Python takes the lock from a holder after 5 ms if somebody wants it. */
static void a_long_piece_is_cut_at_the_switch_interval(void **state)
{
    (void)state;
    static struct sharer sharers[SHARERS];
    struct interpreter interpreter;
    pthread_t thread;
    const int64_t long_ns = (int64_t)40 * INTERPRETER_SWITCH_NS;
    int64_t begin_ns = clock_now_ns();
    interpreter_init(&interpreter, begin_ns);
    init_sharers(sharers, &interpreter, begin_ns);
    assert_int_equal(pthread_create(&thread, NULL, ask_while_held, &sharers[1]), 0);
    occupancy_charge(&sharers[0].occupancy, long_ns);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(ledger_get(&sharers[0].thread.occupancy_ns), long_ns);
    /* Late only by what this machine is late with waking. */
    assert_true(sharers[1].occupancy.busy_until_ns < begin_ns + long_ns / 2);
    assert_int_equal(
        (sharers[1].occupancy.busy_until_ns - begin_ns - PIECE_NS) % INTERPRETER_SWITCH_NS, 0);
    assert_int_equal(sharers[0].occupancy.busy_until_ns, begin_ns + long_ns + PIECE_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_add_up_exactly),
        cmocka_unit_test(only_rest_moves_the_deadline),
        cmocka_unit_test(a_slice_is_owed_before_it_is_due),
        cmocka_unit_test(late_sleeps_do_not_add_up),
        cmocka_unit_test(turns_come_in_the_order_of_asking),
        cmocka_unit_test(only_a_rest_of_all_moves_the_interpreter),
        cmocka_unit_test(threads_of_one_interpreter_never_overlap),
        cmocka_unit_test(without_an_interpreter_threads_overlap),
        cmocka_unit_test(a_long_piece_is_cut_at_the_switch_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
