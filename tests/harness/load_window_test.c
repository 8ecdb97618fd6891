/*
 * load_window_test.c - windows that do not stay as planned: begun when a warm-up is told to be
 * over, made longer for the sake of request times, by hand on a made-up clock and with a real
 * client against the null server; and when a warm-up is over at all, on timelines written here.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "harness/load/account.h"
#include "harness/load/client.h"
#include "harness/load/null_server.h"
#include "harness/run/warmup.h"

#define MS ((int64_t)1000000)

static struct load_options open_options(uint32_t min_cycles)
{
    return (struct load_options){
        .targets = {{.host = "127.0.0.1", .port = 1}},
        .targets_count = 1,
        .model = "null",
        .mode = LOAD_OPEN_CONSTANT,
        .rate_per_s = 50,
        .connections_count = 64,
        .seed = 7,
        .prompt_tokens = {.lo = 4, .hi = 4},
        .output_tokens = {.lo = 10, .hi = 10},
        .stream = 1,
        .warmup_ns = 500 * MS,
        .window_ns = 1000 * MS,
        .drain_ns = 20000 * MS,
        .batches_count = 8,
        .min_cycles_count = min_cycles,
        .time_scale = 1,
    };
}

static struct load_shared region(const struct load_options *o)
{
    struct load_shared shared;
    assert_int_equal(load_shared_create(o, &shared, NULL), STATUS_OK);
    return shared;
}

/* A request that is due, sent, answered with all its tokens at once, and over. */
static void serve(struct account *a, int64_t due_ms, int64_t took_ms, uint32_t tokens)
{
    const struct schedule_item item = {.number = load_get(&a->shared->header->offered_count),
                                       .trace_index = SCHEDULE_NO_TRACE};
    struct load_record *r = account_begin(a, &item, 0, due_ms * MS);
    account_sent(a, r, due_ms * MS);
    account_content(a, r, tokens, false, (due_ms + took_ms) * MS);
    account_end(a, r, LOAD_OUTCOME_OK, (due_ms + took_ms) * MS);
}

/* ---- by hand ---- */

static void a_window_becomes_as_long_as_its_cycles_need(void **state)
{
    (void)state;
    /* Warm-up 10,000 .. 10,500 ms, window to 11,500, batches of 125 ms. */
    struct load_options o = open_options(10);
    struct load_shared shared = region(&o);
    struct load_header *h = shared.header;
    struct account a = {.shared = &shared};
    account_start(&a, 10000 * MS);
    serve(&a, 10100, 500, 1);  /* due before the window: its time does not count, its token does */
    serve(&a, 10500, 240, 2);  /* ends in batch 1 */
    serve(&a, 10600, 260, 4);  /* in batch 2 */
    serve(&a, 11100, 250, 16); /* in batch 6 */
    assert_false(account_extend_window(&a, 11399 * MS));
    assert_int_equal(load_get(&h->window_tokens[6][LOAD_API_SERVERS_MAX]), 16);
    /* Ten times 250 ms are 2.5 windows: three. */
    assert_true(account_extend_window(&a, 11400 * MS));
    assert_int_equal(atomic_load(&h->window_start_ns), 10500 * MS);
    assert_int_equal(atomic_load(&h->window_end_ns), 13500 * MS);
    assert_int_equal(atomic_load(&h->drain_end_ns), 33500 * MS);
    assert_int_equal(atomic_load(&h->batch_ns), 375 * MS);
    assert_int_equal(load_batch_tokens(h, 0), 1 + 2 + 4);
    assert_int_equal(load_batch_tokens(h, 1), 0);
    assert_int_equal(load_batch_tokens(h, 2), 16);
    assert_int_equal(load_get(&h->window_ok_count[0]), 3);
    assert_int_equal(load_get(&h->window_ok_count[2]), 1);
    serve(&a, 13000, 250, 32); /* ends 2,750 ms after the window began: batch 7 */
    assert_int_equal(load_batch_tokens(h, 7), 32);
    assert_int_equal(load_window_tokens(h), 55);
    assert_false(account_extend_window(&a, 13399 * MS));
    assert_false(account_extend_window(&a, 13400 * MS)); /* 3 s are 12 cycles */
    assert_int_equal(a.cycles_look_ns, INT64_MAX);
    load_shared_close(&shared);
}

static void a_window_is_not_made_longer_without_need(void **state)
{
    (void)state;
    struct load_options o = open_options(4);
    struct load_shared shared = region(&o);
    struct account a = {.shared = &shared};
    account_start(&a, 0);
    serve(&a, 600, 250, 1); /* 4 x 250 ms: just a window */
    assert_false(account_extend_window(&a, 1450 * MS));
    assert_int_equal(atomic_load(&shared.header->window_end_ns), 1500 * MS);
    load_shared_close(&shared);
    o = open_options(0);
    shared = region(&o);
    a = (struct account){.shared = &shared};
    account_start(&a, 0);
    serve(&a, 600, 800, 1);
    assert_false(account_extend_window(&a, 1450 * MS));
    load_shared_close(&shared);
}

static void it_is_made_longer_sixteen_times_at_most(void **state)
{
    (void)state;
    struct load_options o = open_options(1000);
    struct load_shared shared = region(&o);
    struct account a = {.shared = &shared};
    account_start(&a, 0);
    assert_true(account_extend_window(&a, 1400 * MS)); /* nothing has ended: twice */
    assert_int_equal(a.window_end_ns, 2500 * MS);
    serve(&a, 600, 1000, 1);
    assert_true(account_extend_window(&a, 2400 * MS));
    assert_int_equal(a.window_end_ns, 16500 * MS);
    assert_int_equal(a.batch_ns, 2000 * MS);
    assert_false(account_extend_window(&a, 16400 * MS));
    load_shared_close(&shared);
}

static void an_end_that_may_have_been_seen_is_not_moved(void **state)
{
    (void)state;
    struct load_options o = open_options(10);
    struct load_shared shared = region(&o);
    struct account a = {.shared = &shared};
    account_start(&a, 0);
    serve(&a, 600, 500, 1);
    assert_false(account_extend_window(&a, 1451 * MS));
    assert_int_equal(atomic_load(&shared.header->window_end_ns), 1500 * MS);
    load_shared_close(&shared);
}

static void a_warm_up_that_is_over_begins_the_window(void **state)
{
    (void)state;
    struct load_options o = open_options(0);
    o.warmup_ns = 60000 * MS;
    struct load_shared shared = region(&o);
    struct account a = {.shared = &shared};
    account_start(&a, 1000 * MS);
    account_begin_window(&a, 3000 * MS);
    assert_int_equal(atomic_load(&shared.header->window_start_ns), 3100 * MS);
    assert_int_equal(atomic_load(&shared.header->window_end_ns), 4100 * MS);
    assert_int_equal(atomic_load(&shared.header->batch_ns), 125 * MS);
    account_begin_window(&a, 3500 * MS); /* it stays */
    assert_int_equal(atomic_load(&shared.header->window_start_ns), 3100 * MS);
    load_shared_close(&shared);
}

static void cycles_need_an_open_load_and_a_second(void **state)
{
    (void)state;
    struct error error;
    struct load_options o = open_options(10);
    assert_int_equal(load_options_check(&o, &error), STATUS_OK);
    o.window_ns = 999 * MS;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    o = open_options(10);
    o.mode = LOAD_CLOSED;
    o.users_count = 4;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
}

/* ---- a real client ---- */

static pid_t start_client(struct load_shared *shared)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit((int)load_run(&shared->header->options, shared, NULL));
    }
    return pid;
}

static void wait_for_client(pid_t client)
{
    int result = -1;
    assert_int_equal(waitpid(client, &result, 0), client);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == STATUS_OK);
}

static void a_signal_ends_the_warm_up(void **state)
{
    (void)state;
    struct null_options none = {0};
    struct null_process server;
    assert_int_equal(null_start(&none, &server, NULL), STATUS_OK);
    struct load_options o = open_options(0);
    o.targets[0].port = server.port;
    o.warmup_ns = 600000 * MS;
    o.window_ns = 300 * MS;
    struct load_shared shared = region(&o);
    pid_t client = start_client(&shared);
    for (int i = 0; i < 20000 && load_get(&shared.header->sent_count) < 5; i++) {
        (void)usleep(1000);
    }
    int64_t before_ns = clock_now_ns();
    assert_int_equal(kill(client, LOAD_WINDOW_SIGNAL), 0);
    wait_for_client(client);
    null_stop(&server);
    const struct load_header *h = shared.header;
    int64_t start_ns = atomic_load(&h->window_start_ns);
    assert_true(start_ns >= before_ns + LOAD_WINDOW_NOTICE_NS);
    assert_int_equal(atomic_load(&h->window_end_ns), start_ns + 300 * MS);
    assert_int_equal(atomic_load(&h->window_cut), 0);
    assert_int_equal(atomic_load(&h->stopped), 0);
    assert_true(load_get(&h->outcome_count[LOAD_OUTCOME_OK]) >= 5 + 15);
    assert_true(load_window_tokens(h) > 0);
    load_shared_close(&shared);
}

static void check_longer_window(double rate_per_s)
{
    /* Ten sends 20 ms apart: a request takes at least 180 ms, ten of them more than a second. */
    struct null_options slow = {.events_each_send = 1, .send_gap_ns = 20 * MS};
    struct null_process server;
    assert_int_equal(null_start(&slow, &server, NULL), STATUS_OK);
    struct load_options o = open_options(10);
    o.targets[0].port = server.port;
    o.rate_per_s = rate_per_s;
    o.warmup_ns = 0;
    struct load_shared shared = region(&o);
    pid_t client = start_client(&shared);
    wait_for_client(client);
    null_stop(&server);
    const struct load_header *h = shared.header;
    int64_t start_ns = atomic_load(&h->window_start_ns);
    int64_t window_ns = atomic_load(&h->window_end_ns) - start_ns;
    assert_int_equal(window_ns % o.window_ns, 0);
    assert_true(window_ns >= 2 * o.window_ns && window_ns <= 16 * o.window_ns);
    assert_int_equal(atomic_load(&h->batch_ns), window_ns / 8);
    uint64_t due = 0;
    uint64_t ok[8] = {0};
    double sum_ns = 0;
    for (uint32_t i = 0; i < LOAD_RECORDS_COUNT && atomic_load(&shared.records[i].number_plus_1);
         i++) {
        const struct load_record *r = &shared.records[i];
        due++;
        assert_int_equal(atomic_load(&r->outcome), LOAD_OUTCOME_OK);
        sum_ns += (double)(r->t_last_ns - r->t_sched_ns);
        int64_t at_ns = r->t_last_ns - start_ns;
        if (at_ns < window_ns) {
            ok[at_ns * 8 / window_ns]++;
        }
    }
    /* Arrivals went on to the new end, and every batch has what ended in it. */
    assert_int_equal(due, llround(rate_per_s) * window_ns / o.window_ns);
    assert_true((double)window_ns >= 10 * sum_ns / (double)due * 0.9);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(load_get(&h->window_ok_count[i]), ok[i]);
    }
    load_shared_close(&shared);
}

static void a_client_goes_on_for_the_sake_of_its_cycles(void **state)
{
    (void)state;
    check_longer_window(50);
    check_longer_window(4); /* the last arrival before the old end is long past when it is moved */
}

/* ---- when a warm-up is over ---- */

/* 100 ms of the timeline each: the level that in-flight and tokens have come to. */
static void write_timeline(struct load_shared *shared, uint32_t count, double rise)
{
    struct random r = random_stream(3, "timeline", 0);
    for (uint32_t i = 0; i < count; i++) {
        double level = rise > 0 ? 1 - exp(-(double)i / rise) : 1;
        struct load_bucket *b = &shared->timeline[i];
        atomic_store(&b->inflight_plus_1, 1 + (uint32_t)lround(200 * level + random_normal(&r)));
        atomic_store(&b->tokens, (uint32_t)lround(1000 * level + 30 * random_normal(&r)));
    }
    atomic_store(&shared->header->start_ns, 1000 * MS);
    atomic_store(&shared->header->tokens, 1000);
    atomic_store(&shared->header->inflight, 200);
    atomic_store(&shared->header->outcome_count[LOAD_OUTCOME_OK], 200);
}

/* Half seconds since the load began, until the warm-up is over; `most`: it is not. */
static uint32_t half_seconds_until_over(const struct load_shared *shared, uint32_t most)
{
    struct warmup w = {0};
    for (uint32_t i = 1; i < most; i++) {
        if (warmup_is_over(&w, shared, (1000 + (int64_t)i * 500) * MS)) {
            assert_false(warmup_is_over(&w, shared, (1000 + (int64_t)most * 500) * MS));
            return i;
        }
    }
    return most;
}

static void a_load_that_has_settled_is_measured(void **state)
{
    (void)state;
    struct load_options o = open_options(0);
    struct load_shared shared = region(&o);
    write_timeline(&shared, 600, 0);
    /* 4 s are the least that tell something, and four looks in a row 1.5 s more. */
    uint32_t soon = half_seconds_until_over(&shared, 120);
    assert_in_range(soon, 11, 16);
    write_timeline(&shared, 600, 30);
    uint32_t later = half_seconds_until_over(&shared, 120);
    assert_in_range(later, soon + 8, 100);
    write_timeline(&shared, 600, 3000); /* a minute is not enough to rise by 20 % of it */
    assert_int_equal(half_seconds_until_over(&shared, 120), 120);
    load_shared_close(&shared);
}

static void nothing_is_settled_before_requests_have_ended(void **state)
{
    (void)state;
    struct load_options o = open_options(0);
    struct load_shared shared = region(&o);
    write_timeline(&shared, 600, 0);
    atomic_store(&shared.header->outcome_count[LOAD_OUTCOME_OK], 199);
    assert_int_equal(half_seconds_until_over(&shared, 60), 60);
    atomic_store(&shared.header->outcome_count[LOAD_OUTCOME_OK], 200);
    assert_true(half_seconds_until_over(&shared, 60) < 60);
    atomic_store(&shared.header->tokens, 0); /* a long prefill makes all of it nothing, steadily */
    assert_int_equal(half_seconds_until_over(&shared, 60), 60);
    load_shared_close(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_becomes_as_long_as_its_cycles_need),
        cmocka_unit_test(a_window_is_not_made_longer_without_need),
        cmocka_unit_test(it_is_made_longer_sixteen_times_at_most),
        cmocka_unit_test(an_end_that_may_have_been_seen_is_not_moved),
        cmocka_unit_test(a_warm_up_that_is_over_begins_the_window),
        cmocka_unit_test(cycles_need_an_open_load_and_a_second),
        cmocka_unit_test(a_signal_ends_the_warm_up),
        cmocka_unit_test(a_client_goes_on_for_the_sake_of_its_cycles),
        cmocka_unit_test(a_load_that_has_settled_is_measured),
        cmocka_unit_test(nothing_is_settled_before_requests_have_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
