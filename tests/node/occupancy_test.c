/*
 * occupancy_test.c - the emulated host's time accounting: deadlines accumulate by exactly the
 * costs, whatever the sleeps do, and only a wait with nothing to do moves them to the present.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_add_up_exactly),
        cmocka_unit_test(only_rest_moves_the_deadline),
        cmocka_unit_test(a_slice_is_owed_before_it_is_due),
        cmocka_unit_test(late_sleeps_do_not_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
