/*
 * collective_test.c - the all-reduce between threads and between processes, through shared memory
 * and over TCP: results against a serial reduction of the same random values, and every way in
 * which a rank can fail to take part ends with an error that names it, never with values. Time-outs
 * are bounded from below only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "helper_group.h"

enum {
    RANKS = 4,
    CALLS = 200,
};
static const int64_t short_ns = 150000000;
/* Each test that takes one as its state runs with both. */
static enum transport shared = TRANSPORT_SHARED;
static enum transport tcp = TRANSPORT_TCP;

/* ---- threads ---- */

struct rank_thread {
    const struct group *group;
    uint32_t rank;
    bool ok;
    pthread_t id;
};

static void *rank_main(void *context)
{
    struct rank_thread *t = context;
    struct collective c;
    if (!group_join(t->group, t->rank, &c)) {
        return NULL;
    }
    struct collective mine = c;
    if (t->group->transport == TRANSPORT_SHARED) {
        /* All threads through one mapping, so that a race detector sees that they share it. */
        mine.header = t->group->made.header;
        mine.ranks = t->group->made.ranks;
    }
    t->ok = group_run_calls(&mine, CALLS);
    collective_close(&c);
    return NULL;
}

static void threads_reduce(enum transport transport, enum wait_mode wait)
{
    struct group group = group_create(transport, RANKS, wait);
    struct rank_thread threads[RANKS] = {0};
    for (uint32_t r = 0; r < RANKS; r++) {
        threads[r].group = &group;
        threads[r].rank = r;
        assert_int_equal(pthread_create(&threads[r].id, NULL, rank_main, &threads[r]), 0);
    }
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_int_equal(pthread_join(threads[r].id, NULL), 0);
        assert_true(threads[r].ok);
    }
    group_close(&group);
}

static void threads_reduce_asleep(void **state)
{
    threads_reduce(*(const enum transport *)*state, WAIT_BLOCK);
}

static void threads_reduce_spinning(void **state)
{
    threads_reduce(*(const enum transport *)*state, WAIT_SPIN);
}

/* ---- processes ---- */

static int all_calls(struct collective *c)
{
    return group_run_calls(c, CALLS) ? 0 : 1;
}

static void processes_reduce(void **state)
{
    enum transport transport = *(const enum transport *)*state;
    struct group made = group_create(transport, RANKS, WAIT_BLOCK);
    pid_t pids[RANKS];
    for (uint32_t r = 0; r < RANKS; r++) {
        pids[r] = group_start(&made, r, all_calls);
    }
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_rank_exit(pids[r], 0);
    }
    group_close(&made);
}

/* Two collectives of one system do not disturb each other, in whatever order ranks come to them. */
static struct group second;

static int both(struct collective *c)
{
    struct collective other;
    if (!group_join(&second, c->rank, &other)) {
        return 101;
    }
    bool ok = group_run_calls(c, 3) && group_run_calls(&other, CALLS) && group_run_calls(c, CALLS);
    collective_close(&other);
    return ok ? 0 : 1;
}

static void two_instances_are_independent(void **state)
{
    enum transport transport = *(const enum transport *)*state;
    struct group made = group_create(transport, RANKS, WAIT_BLOCK);
    second = group_beside(&made);
    pid_t pids[RANKS];
    for (uint32_t r = 0; r < RANKS; r++) {
        pids[r] = group_start(&made, r, both);
    }
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_rank_exit(pids[r], 0);
    }
    group_close(&made);
    group_close(&second);
}

/* ---- failures: the test itself is rank 0 ---- */

static struct collective join(const struct group *group, uint32_t rank)
{
    struct collective c;
    assert_true(group_join(group, rank, &c));
    return c;
}

/* Calls 1 to 5, and stays. */
static int one_call_fewer(struct collective *c)
{
    for (uint64_t tag = 1; tag <= 5; tag++) {
        int32_t value = 1;
        if (group_call(c, tag, long_ns, &value, NULL) != STATUS_OK || value != 3) {
            return 1;
        }
    }
    (void)pause();
    return 0;
}

/* Calls 1 to 6; the sixth ends because the test breaks off, and value stays as it was. */
static int sixth_breaks(struct collective *c)
{
    struct error error;
    int32_t value = 1;
    for (uint64_t tag = 1; tag <= 5; tag++) {
        value = 1;
        if (group_call(c, tag, long_ns, &value, NULL) != STATUS_OK || value != 3) {
            return 1;
        }
    }
    value = 1;
    enum status status = group_call(c, 6, long_ns, &value, &error);
    if (status != STATUS_DIED || value != 1 || strstr(error.text, "rank 0 broke off") == NULL) {
        return 2;
    }
    return group_call(c, 7, long_ns, &value, NULL) == STATUS_DIED ? 0 : 3;
}

static void a_missing_call_ends_in_a_time_out_that_names_the_rank(void **state)
{
    enum transport transport = *(const enum transport *)*state;
    struct error error;
    struct group made = group_create(transport, 3, WAIT_BLOCK);
    pid_t short_one = group_start(&made, 1, one_call_fewer);
    pid_t other = group_start(&made, 2, sixth_breaks);
    struct collective c = join(&made, 0);
    int32_t value = 1;
    for (uint64_t tag = 1; tag <= 5; tag++) {
        value = 1;
        assert_int_equal(group_call(&c, tag, long_ns, &value, &error), STATUS_OK);
        assert_int_equal(value, 3);
    }
    value = 42;
    int64_t begin_ns = clock_now_ns();
    assert_int_equal(group_call(&c, 6, short_ns * 4, &value, &error), STATUS_TIMEOUT);
    assert_true(clock_now_ns() - begin_ns >= short_ns * 4);
    assert_int_equal(value, 42);
    assert_non_null(strstr(error.text, "finish check: rank 0 waited 0.600 s in call 6 (tag 6)"));
    assert_non_null(strstr(error.text, "for rank 1"));
    assert_null(strstr(error.text, "never joined"));
    /* Broken from here on. */
    assert_int_equal(group_call(&c, 7, long_ns, &value, &error), STATUS_TIMEOUT);
    assert_rank_exit(other, 0);
    assert_int_equal(kill(short_one, SIGKILL), 0);
    assert_int_equal(waitpid(short_one, NULL, 0), short_one);
    collective_close(&c);
    group_close(&made);
}

static void time_out_names_all_that_are_missing(void **state)
{
    (void)state;
    for (int wait = WAIT_BLOCK; wait <= WAIT_SPIN; wait++) {
        struct error error;
        struct group made = group_create(TRANSPORT_SHARED, 4, (enum wait_mode)wait);
        struct collective c = join(&made, 1);
        int32_t value = 1;
        assert_int_equal(group_call(&c, 9, short_ns, &value, &error), STATUS_TIMEOUT);
        assert_non_null(strstr(error.text, "0 (never joined), 2 (never joined), 3 (never joined)"));
        collective_close(&c);
        group_close(&made);
    }
}

/* Leaves out the call with tag 2: its later calls meet earlier ones of the others. */
static int leaves_one_out(struct collective *c)
{
    int32_t value = 1;
    if (group_call(c, 1, long_ns, &value, NULL) != STATUS_OK || value != 2) {
        return 1;
    }
    value = 1000;
    return group_call(c, 3, long_ns, &value, NULL) == STATUS_PROTOCOL && value == 1000 ? 0 : 2;
}

static void misaligned_calls_never_mix_values(void **state)
{
    enum transport transport = *(const enum transport *)*state;
    struct error error;
    struct group made = group_create(transport, 2, WAIT_BLOCK);
    pid_t pid = group_start(&made, 1, leaves_one_out);
    struct collective c = join(&made, 0);
    int32_t value = 1;
    assert_int_equal(group_call(&c, 1, long_ns, &value, &error), STATUS_OK);
    value = 5;
    assert_int_equal(group_call(&c, 2, long_ns, &value, &error), STATUS_PROTOCOL);
    assert_int_equal(value, 5);
    assert_non_null(strstr(error.text, "call 2 of rank 0 has tag 2"));
    assert_non_null(strstr(error.text, "of rank 1 3"));
    assert_rank_exit(pid, 0);
    collective_close(&c);
    group_close(&made);
}

static int dies(struct collective *c)
{
    int32_t value = 1;
    (void)group_call(c, 1, long_ns, &value, NULL);
    (void)kill(getpid(), SIGKILL);
    return 0;
}

static int leaves(struct collective *c)
{
    int32_t value = 1;
    return group_call(c, 1, long_ns, &value, NULL) == STATUS_OK ? 0 : 1;
}

static void the_dead_and_the_gone_are_named_at_once(void **state)
{
    enum transport transport = *(const enum transport *)*state;
    static const struct {
        group_body *body;
        const char *text;
    } cases[] = {{dies, "rank 1 died before call 2"}, {leaves, "rank 1 has left before call 2"}};
    for (int i = 0; i < 4; i++) {
        struct error error;
        struct group made = group_create(transport, 2, i < 2 ? WAIT_BLOCK : WAIT_SPIN);
        pid_t pid = group_start(&made, 1, cases[i % 2].body);
        struct collective c = join(&made, 0);
        int32_t value = 1;
        assert_int_equal(group_call(&c, 1, long_ns, &value, &error), STATUS_OK);
        int64_t begin_ns = clock_now_ns();
        value = 3;
        /* The child is a zombie by then. */
        assert_int_equal(group_call(&c, 2, long_ns, &value, &error), STATUS_DIED);
        assert_non_null(strstr(error.text, cases[i % 2].text));
        assert_int_equal(value, 3);
        assert_true(clock_now_ns() - begin_ns < long_ns);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        collective_close(&c);
        group_close(&made);
    }
}

static void bad_use_is_refused(void **state)
{
    (void)state;
    struct error error;
    struct collective c;
    struct collective_options options = {.name = "step", .ranks_count = 0};
    assert_int_equal(collective_create(&options, &c, &error), STATUS_INVALID);
    options.ranks_count = COLLECTIVE_RANKS_MAX + 1;
    assert_int_equal(collective_create(&options, &c, &error), STATUS_INVALID);
    struct group made = group_create(TRANSPORT_SHARED, 1, WAIT_BLOCK);
    assert_int_equal(collective_open(made.made.fd, 1, &c, &error), STATUS_PROTOCOL);
    assert_int_equal(collective_open(-1, 0, &c, &error), STATUS_PROTOCOL);
    struct collective alone = join(&made, 0);
    assert_int_equal(collective_open(made.made.fd, 0, &c, &error), STATUS_PROTOCOL);
    /* One rank needs nobody; sums that do not fit are an error only with several. */
    int32_t value = INT32_MAX;
    assert_int_equal(group_call(&alone, 1, 0, &value, &error), STATUS_OK);
    assert_int_equal(value, INT32_MAX);
    collective_close(&alone);
    group_close(&made);
}

static int adds_one(struct collective *c)
{
    int32_t value = 1;
    return group_call(c, 1, long_ns, &value, NULL) == STATUS_INVALID && value == 1 ? 0 : 1;
}

static void sums_that_do_not_fit_are_an_error_on_all_ranks(void **state)
{
    enum transport transport = *(const enum transport *)*state;
    struct error error;
    struct group made = group_create(transport, 2, WAIT_BLOCK);
    pid_t pid = group_start(&made, 1, adds_one);
    struct collective c = join(&made, 0);
    int32_t value = INT32_MAX;
    assert_int_equal(group_call(&c, 1, long_ns, &value, &error), STATUS_INVALID);
    assert_int_equal(value, INT32_MAX);
    assert_rank_exit(pid, 0);
    collective_close(&c);
    group_close(&made);
}

/* ---- what ranks agree on before a forward ---- */

static int agrees(struct collective *c)
{
    struct collective_step own = {.tokens = 7 * c->rank, .graph = true};
    struct collective_agreement a;
    if (collective_agree(c, 1, long_ns, &own, &a, NULL) != STATUS_OK) {
        return 1;
    }
    /* All can use graphs: everybody pads to the largest, 14. */
    if (!a.graph || a.largest_tokens != 14 || a.own_tokens != 14 || a.all_tokens != 3 * 14) {
        return 2;
    }
    own.graph = c->rank != 1;
    if (collective_agree(c, 2, long_ns, &own, &a, NULL) != STATUS_OK) {
        return 3;
    }
    return !a.graph && a.largest_tokens == 14 && a.own_tokens == own.tokens && a.all_tokens == 21
               ? 0
               : 4;
}

static void ranks_agree_on_a_step(void **state)
{
    enum transport transport = *(const enum transport *)*state;
    struct group made = group_create(transport, 3, WAIT_BLOCK);
    pid_t pids[3];
    for (uint32_t r = 0; r < 3; r++) {
        pids[r] = group_start(&made, r, agrees);
    }
    for (uint32_t r = 0; r < 3; r++) {
        assert_rank_exit(pids[r], 0);
    }
    group_close(&made);
}

#define WITH_BOTH(test)                           \
    {#test "_shared", test, NULL, NULL, &shared}, \
    {                                             \
#test "_tcp", test, NULL, NULL, &tcp      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BOTH(threads_reduce_asleep),
        WITH_BOTH(threads_reduce_spinning),
        WITH_BOTH(processes_reduce),
        WITH_BOTH(two_instances_are_independent),
        WITH_BOTH(a_missing_call_ends_in_a_time_out_that_names_the_rank),
        cmocka_unit_test(time_out_names_all_that_are_missing),
        WITH_BOTH(misaligned_calls_never_mix_values),
        WITH_BOTH(the_dead_and_the_gone_are_named_at_once),
        cmocka_unit_test(bad_use_is_refused),
        WITH_BOTH(sums_that_do_not_fit_are_an_error_on_all_ranks),
        WITH_BOTH(ranks_agree_on_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
