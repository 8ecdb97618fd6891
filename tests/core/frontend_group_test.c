/*
 * frontend_group_test.c - a front end that manages only some ranks of a data-parallel group: it
 * routes to those, by their part of the counts that are published for all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/core/frontend.h"

static struct arena arena;
static struct frontend *f;

static struct frontend_options options_of(uint32_t first, uint32_t count, uint32_t group)
{
    return (struct frontend_options){.client_count = 1,
                                     .engines_first = first,
                                     .engines_count = count,
                                     .group_count = group,
                                     .requests_max = 32,
                                     .max_model_len = 100};
}

static void make(uint32_t first, uint32_t count, uint32_t group)
{
    struct frontend_options options = options_of(first, count, group);
    assert_int_equal(arena_create(frontend_arena_bytes(&options), &arena, NULL), STATUS_OK);
    assert_int_equal(frontend_create(&arena, &options, &f, NULL), STATUS_OK);
}

static int tear_down(void **state)
{
    (void)state;
    arena_destroy(&arena);
    return 0;
}

static enum status submit(uint32_t serial, int32_t rank, struct frontend_send *send)
{
    struct frontend_request request = {.external_id = "cmpl",
                                       .serial = serial,
                                       .prompt_tokens_count = 10,
                                       .data_parallel_rank = rank};
    return frontend_submit(f, &request, 0, send, NULL);
}

static void routes_to_its_own_by_their_counts(void **state)
{
    (void)state;
    make(2, 2, 5);
    /* Least loaded of all is rank 0, of its own rank 3. */
    static const struct engine_counts counts[5] = {
        {0, 0, 0}, {0, 9, 0}, {0, 7, 0}, {0, 5, 0}, {0, 1, 0}};
    frontend_coordinator_state(f, &(struct coordinator_state){counts, 5, 0, true});
    assert_int_equal(frontend_router(f)->counts[0].running, 7);
    assert_int_equal(frontend_router(f)->counts[1].running, 5);
    struct frontend_send send;
    assert_int_equal(submit(1, RANK_NONE, &send), STATUS_OK);
    assert_int_equal(send.engine, 3);
    /* Counts of too few ranks say nothing about its own. */
    frontend_coordinator_state(f, &(struct coordinator_state){counts, 2, 0, true});
    assert_int_equal(frontend_router(f)->counts[0].running, 7);
}

static void a_wished_rank_counts_from_its_first(void **state)
{
    (void)state;
    make(2, 2, 5);
    struct frontend_send send;
    assert_int_equal(submit(1, 0, &send), STATUS_OK);
    assert_int_equal(send.engine, 2);
    assert_int_equal(send.request.data_parallel_rank, 0);
    assert_int_equal(submit(2, 2, &send), STATUS_INVALID);
    frontend_cancel(f, 0);
    struct frontend_abort abort_request;
    assert_true(frontend_take_abort(f, &abort_request));
    assert_int_equal(abort_request.engine, 2);
}

/* One managed rank of a larger group has a coordinator to tell. */
static void a_single_one_of_a_group_sends_first_requests(void **state)
{
    (void)state;
    make(3, 1, 4);
    struct frontend_send send;
    assert_int_equal(submit(1, RANK_NONE, &send), STATUS_OK);
    assert_int_equal(send.engine, 3);
    assert_true(send.first_request);
}

static void a_delta_names_the_rank(void **state)
{
    (void)state;
    make(2, 2, 4);
    struct frontend_send send;
    assert_int_equal(submit(1, 1, &send), STATUS_OK);
    frontend_fail_all(f);
    struct frontend_delta delta;
    assert_true(frontend_take(f, &delta));
    assert_int_equal(delta.engine, 3);
}

static void must_be_of_the_group(void **state)
{
    (void)state;
    struct frontend_options options = options_of(3, 2, 4);
    struct error error;
    assert_int_equal(arena_create(frontend_arena_bytes(&options), &arena, NULL), STATUS_OK);
    assert_int_equal(frontend_create(&arena, &options, &f, &error), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(routes_to_its_own_by_their_counts, tear_down),
        cmocka_unit_test_teardown(a_wished_rank_counts_from_its_first, tear_down),
        cmocka_unit_test_teardown(a_single_one_of_a_group_sends_first_requests, tear_down),
        cmocka_unit_test_teardown(a_delta_names_the_rank, tear_down),
        cmocka_unit_test_teardown(must_be_of_the_group, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
