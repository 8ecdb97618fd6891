/*
 * The looks between the edges of a window, on a ledger that the test writes, and the intervals of
 * stages.csv against Student's t by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/observe.h"

static void close_to(double got, double want)
{
    if (!(fabs(got - want) <= 1e-6 * (1 + fabs(want)))) {
        fail_msg("got %.12g, want %.12g", got, want);
    }
}

static struct ledger make(const struct topology *t)
{
    struct ledger l;
    assert_int_equal(ledger_create(t, &l, NULL), STATUS_OK);
    return l;
}

static const struct topology one_of_each = {
    .api_servers_count = 1, .engines_count = 2, .tp = 1, .pp = 1};

/* Looks a second apart: the test sets the clock back. */
static void look(struct batches *b, const struct ledger *l)
{
    batches_look(b, l);
    b->at_ns[b->looks_count - 1] = (int64_t)b->looks_count * 1000000000;
}

static void a_batch_is_what_grew_between_two_looks(void **state)
{
    (void)state;
    struct ledger l = make(&one_of_each);
    struct batches b = {.looks_count = 0};
    double fracs[LOAD_BATCHES_MAX] = {0};
    struct ledger_thread *first = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, 0, 0);
    struct ledger_thread *second = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, 1, 0);
    assert_int_equal(batches_add(&b, 0, BATCHES_BUSY, fracs), 0);
    ledger_add(&first->busy_ns, 5000000000);
    look(&b, &l);
    assert_int_equal(batches_add(&b, 0, BATCHES_BUSY, fracs), 0);
    struct ledger_thread *late = ledger_thread_claim(&l, THREAD_API_MAIN, 0, 0);
    for (int i = 1; i <= 3; i++) {
        ledger_add(&first->busy_ns, (uint64_t)i * 100000000);
        ledger_add(&first->gpu_busy_ns, 250000000);
        ledger_add(&first->gpu_switch_ns, 50000000);
        ledger_add(&second->lock_held_ns, 400000000);
        ledger_add(&late->busy_ns, 100000000);
        look(&b, &l);
    }
    assert_int_equal(batches_add(&b, 0, BATCHES_BUSY, fracs), 3);
    close_to(fracs[0], 0.1);
    close_to(fracs[1], 0.2);
    close_to(fracs[2], 0.3);
    assert_int_equal(batches_add(&b, 0, BATCHES_GPU, fracs), 3);
    assert_int_equal(batches_add(&b, 1, BATCHES_LOCK, fracs), 3);
    close_to(fracs[2], 0.3 + 0.3 + 0.4);                          /* they add up */
    assert_int_equal(batches_add(&b, 2, BATCHES_BUSY, fracs), 0); /* it came later */
    for (int i = 0; i < 2 * LOAD_BATCHES_MAX; i++) {
        batches_look(&b, &l);
    }
    assert_int_equal(batches_add(&b, 0, BATCHES_BUSY, fracs), LOAD_BATCHES_MAX);
    batches_free(&b);
    ledger_close(&l);
}

static const struct run_stage *row(const struct run_result *r, const char *instance)
{
    uint32_t i = 0;
    while (i < r->stages_count && strcmp(r->stages[i].instance, instance) != 0) {
        i++;
    }
    if (i == r->stages_count) {
        fail_msg("no row '%s'", instance);
    }
    return &r->stages[i];
}

/* Use of 0.4, 0.5 and 0.6 in three batches: the standard deviation is 0.1, and the 97.5 % point of
 * Student's t with 2 degrees of freedom 4.30265. */
static void intervals_are_students_t_of_the_batches(void **state)
{
    static const struct scenario_cell cell;
    const double half = 4.3026527299 * 0.1 / sqrt(3);
    struct observation a = {.taken = true};
    struct observation b = {.taken = true};
    struct run_result r = {.cell = &cell, .token_basis = ""};
    struct batches between = {.looks_count = 0};
    struct topology t = one_of_each;
    (void)state;
    t.executor = (uint32_t)EXECUTOR_UNIPROC;
    t.gpu_sharing = (uint32_t)GPU_TIME_SLICED;
    t.engines_per_gpu = 2;
    struct ledger l = make(&t);
    struct ledger_thread *slots[2];
    for (uint32_t i = 0; i < 2; i++) {
        slots[i] = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, i, 0);
    }
    assert_int_equal(probe_snapshot(&l, &a.ledger, NULL), STATUS_OK);
    look(&between, &l);
    for (uint64_t tenths = 4; tenths <= 6; tenths++) {
        ledger_add(&slots[0]->busy_ns, tenths * 100000000);
        ledger_add(&slots[1]->busy_ns, 50000000);
        /* Together 0.4, 0.5 and 0.6 of the GPU that they share. */
        ledger_add(&slots[0]->gpu_busy_ns, tenths * 100000000 - 200000000);
        ledger_add(&slots[1]->gpu_busy_ns, 200000000);
        look(&between, &l);
    }
    assert_int_equal(probe_snapshot(&l, &b.ledger, NULL), STATUS_OK);
    b.ledger.at_ns = a.ledger.at_ns + 3000000000;
    observe_fill(&a, &b, &t, &r);
    assert_true(isnan(row(&r, "EngineCore_DP0")->busy_lo)); /* nobody looked in between */
    result_free(&r);
    b.between = &between;
    observe_fill(&a, &b, &t, &r);
    close_to(row(&r, "EngineCore_DP0")->busy_frac, 0.5);
    close_to(row(&r, "EngineCore_DP0")->busy_lo, 0.5 - half);
    close_to(row(&r, "EngineCore_DP0")->busy_hi, 0.5 + half);
    close_to(row(&r, "EngineCore_DP1")->busy_lo, 0.05);
    close_to(row(&r, "EngineCore_DP1")->busy_hi, 0.05);
    close_to(row(&r, "gpu 0")->busy_frac, 0.5);
    close_to(row(&r, "gpu 0")->busy_lo, 0.5 - half);
    close_to(row(&r, "gpu 0")->busy_hi, 0.5 + half);
    assert_true(isnan(row(&r, "client")->busy_lo));
    probe_snapshot_free(&a.ledger);
    probe_snapshot_free(&b.ledger);
    batches_free(&between);
    result_free(&r);
    ledger_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_what_grew_between_two_looks),
        cmocka_unit_test(intervals_are_students_t_of_the_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
