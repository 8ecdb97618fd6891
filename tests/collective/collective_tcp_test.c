/*
 * collective_tcp_test.c - what only ranks over TCP can meet: strangers and false ranks at the port
 * where they join, ranks that come late or never, connections that end, frames that do not belong
 * there. Raw sockets play those. What both transports promise is checked by collective_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "engine/collective/collective_frame.h"
#include "helper_group.h"

enum {
    RANKS = 3,
    CALLS = 100,
    STRANGERS = 240, /* a third says nothing, more than rank 0 keeps */
};
static const int64_t short_ns = 150000000;
static const int64_t patient_ns = 1500000000; /* a busy machine has run everybody by then */

static enum status connect_as(const struct group *g, uint32_t rank, int64_t timeout_ns,
                              struct collective *out, struct error *error)
{
    struct collective_place place = {.host = "127.0.0.1", .port = g->port, .rank = rank};
    return collective_connect(&g->options, &place, timeout_ns, out, error);
}

static int all_calls(struct collective *c)
{
    return group_run_calls(c, CALLS) ? 0 : 1;
}

/* ---- raw sockets ---- */

static struct sockaddr_in address_of(uint32_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* Once rank 0 is there. */
static int raw_connect(uint32_t port)
{
    struct sockaddr_in a = address_of(port);
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            return fd;
        }
        (void)close(fd);
        clock_sleep_until_ns(clock_now_ns() + 5000000);
    }
}

static void raw_send(int fd, const struct collective_frame *frame)
{
    uint8_t bytes[FRAME_BYTES_MAX];
    uint32_t length = collective_frame_encode(frame, bytes);
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
}

/* False: the connection ended. */
static bool raw_receive(int fd, struct collective_frame *frame)
{
    uint8_t bytes[FRAME_BYTES_MAX];
    uint32_t used = 0;
    for (size_t have = 0; used == 0; have++) {
        if (recv(fd, bytes + have, 1, 0) != 1) {
            return false;
        }
        assert_int_equal(collective_frame_decode(bytes, have + 1, frame, &used, NULL), STATUS_OK);
    }
    return true;
}

static struct collective_frame hello_of(uint32_t rank)
{
    return (struct collective_frame){
        .kind = FRAME_HELLO,
        .as.hello = {
            .version = FRAME_VERSION, .rank = rank, .ranks_count = RANKS, .name = "finish check"}};
}

static struct collective_frame call_of(uint32_t number, uint64_t tag)
{
    return (struct collective_frame){
        .kind = FRAME_CALL, .number = number, .as.call = {.tag = tag, .count = 1, .values = {1}}};
}

static int raw_join(uint32_t port, uint32_t rank, uint32_t ranks_count)
{
    struct collective_frame frame = hello_of(rank);
    frame.as.hello.ranks_count = ranks_count;
    int fd = raw_connect(port);
    raw_send(fd, &frame);
    assert_true(raw_receive(fd, &frame));
    assert_int_equal(frame.kind, FRAME_JOINED);
    return fd;
}

/* ---- joining ---- */

static void ranks_join_in_any_order(void **state)
{
    (void)state;
    for (uint32_t first = 0; first < RANKS; first++) {
        struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
        pid_t pids[RANKS];
        for (uint32_t i = 0; i < RANKS; i++) {
            uint32_t r = (first + i) % RANKS;
            pids[r] = group_start(&g, r, all_calls);
            clock_sleep_until_ns(clock_now_ns() + short_ns / 3);
        }
        for (uint32_t r = 0; r < RANKS; r++) {
            assert_rank_exit(pids[r], 0);
        }
        group_close(&g);
    }
}

/* None of these is a rank. */
static int send_strange(uint32_t port, uint32_t i)
{
    struct collective_frame hello = hello_of(1);
    struct collective_frame call = call_of(1, 1);
    uint8_t bytes[FRAME_BYTES_MAX];
    uint32_t length = collective_frame_encode(&hello, bytes);
    int fd = raw_connect(port);
    switch (i % 6) {
    case 0: /* nothing at all */
        length = 0;
        break;
    case 1:
        length = 18;
        memcpy(bytes, "GET / HTTP/1.1\r\n\r\n", length);
        break;
    case 2: /* a piece of a hello */
        length -= 1 + i % 40;
        break;
    case 3: /* a frame without end */
        memset(bytes + 8, 0xff, 4);
        break;
    case 4: /* a name that does not end */
        memset(bytes + length - COLLECTIVE_NAME_MAX, 'x', COLLECTIVE_NAME_MAX);
        break;
    case 5: /* not a hello */
        length = collective_frame_encode(&call, bytes);
        break;
    }
    (void)send(fd, bytes, length, MSG_NOSIGNAL);
    return fd;
}

static void strangers_disturb_nobody(void **state)
{
    (void)state;
    struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    pid_t pids[RANKS];
    int fds[STRANGERS];
    pids[0] = group_start(&g, 0, all_calls);
    for (uint32_t i = 0; i < STRANGERS; i++) {
        fds[i] = send_strange(g.port, i);
        if (i == STRANGERS / 2) {
            pids[1] = group_start(&g, 1, all_calls);
        }
    }
    pids[2] = group_start(&g, 2, all_calls);
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_rank_exit(pids[r], 0);
    }
    for (uint32_t i = 0; i < STRANGERS; i++) {
        uint8_t byte;
        assert_true(recv(fds[i], &byte, 1, 0) <= 0); /* closed, and without an answer */
        (void)close(fds[i]);
    }
    group_close(&g);
}

static void false_ranks_are_told_why(void **state)
{
    (void)state;
    struct collective_frame hellos[6];
    for (int i = 0; i < 6; i++) {
        hellos[i] = hello_of(1);
    }
    hellos[0].as.hello.version = 77;
    (void)snprintf(hellos[1].as.hello.name, COLLECTIVE_NAME_MAX, "step");
    hellos[2].as.hello.ranks_count = RANKS + 1;
    hellos[3].as.hello.rank = 0;
    hellos[4].as.hello.rank = RANKS;
    hellos[5].as.hello.rank = UINT32_MAX;
    static const char *const whys[] = {"speaks version 1, not 77",
                                       "is in 'finish check'",
                                       "expects 3 ranks, not 4",
                                       "rank 0 of 3",
                                       "rank 3 of 3",
                                       "rank 4294967295 of 3"};
    struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    pid_t pids[RANKS];
    pids[0] = group_start(&g, 0, all_calls);
    for (int i = 0; i < 6; i++) {
        struct collective_frame answer;
        int fd = raw_connect(g.port);
        raw_send(fd, &hellos[i]);
        assert_true(raw_receive(fd, &answer));
        assert_int_equal(answer.kind, FRAME_BREAK);
        assert_int_equal(answer.as.end.status, STATUS_PROTOCOL);
        assert_non_null(strstr(answer.as.end.text, whys[i]));
        assert_false(raw_receive(fd, &answer));
        (void)close(fd);
    }
    /* Who says nothing is sent away after a while, not only in the end. */
    uint8_t byte;
    int silent = raw_connect(g.port);
    assert_int_equal(recv(silent, &byte, 1, 0), 0);
    (void)close(silent);
    pids[1] = group_start(&g, 1, all_calls);
    pids[2] = group_start(&g, 2, all_calls);
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_rank_exit(pids[r], 0);
    }
    group_close(&g);
}

/* Whoever listens there before rank 0 does: the rank tries again. */
static void a_rank_that_is_not_answered_tries_again(void **state)
{
    (void)state;
    struct group g = group_create(TRANSPORT_TCP, 2, WAIT_BLOCK);
    assert_int_equal(listen(g.port_fd, 4), 0);
    pid_t pid = group_start(&g, 1, all_calls);
    for (int i = 0; i < 3; i++) {
        int fd = -1;
        while (fd < 0) {
            fd = accept(g.port_fd, NULL, NULL);
        }
        (void)close(fd);
    }
    (void)close(g.port_fd);
    g.port_fd = -1;
    pid_t root = group_start(&g, 0, all_calls);
    assert_rank_exit(root, 0);
    assert_rank_exit(pid, 0);
    group_close(&g);
}

/* Which of two rank 1 comes first is open; the other is refused and the first goes on. */
static void a_second_rank_of_the_same_number_is_refused(void **state)
{
    (void)state;
    struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    pid_t pids[RANKS + 1];
    for (uint32_t i = 0; i < 3; i++) {
        pids[i] = group_start(&g, i < 2 ? i : 1, all_calls);
    }
    int how = 0;
    pid_t refused = waitpid(-1, &how, 0);
    assert_true(refused == pids[1] || refused == pids[2]);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 100);
    struct error error;
    struct collective c;
    assert_int_equal(connect_as(&g, 1, long_ns, &c, &error), STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "finish check: rank 1 is refused: rank 1 has joined"));
    pids[3] = group_start(&g, 2, all_calls);
    assert_rank_exit(pids[0], 0);
    assert_rank_exit(refused == pids[1] ? pids[2] : pids[1], 0);
    assert_rank_exit(pids[3], 0);
    group_close(&g);
}

static struct group joining; /* of the process that is not the test */

/* Gives up before rank 2 comes, and then can name it, as rank 0 told it. */
static int joins_for_a_short_time(void)
{
    struct collective c;
    struct error error;
    if (connect_as(&joining, 1, patient_ns, &c, &error) != STATUS_TIMEOUT) {
        return 1;
    }
    return strstr(error.text, "rank 1 waited 1.500 s for rank 2 (never joined) at") != NULL ? 0 : 2;
}

static void who_never_joins_is_named(void **state)
{
    (void)state;
    struct error error;
    struct collective c;
    joining = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    int64_t begin_ns = clock_now_ns();
    assert_int_equal(connect_as(&joining, 0, short_ns, &c, &error), STATUS_TIMEOUT);
    assert_true(clock_now_ns() - begin_ns >= short_ns);
    assert_string_equal(error.text, "finish check: rank 0 waited 0.150 s for rank 1 (never "
                                    "joined), 2 (never joined)");
    begin_ns = clock_now_ns();
    assert_int_equal(connect_as(&joining, 1, short_ns, &c, &error), STATUS_TIMEOUT);
    assert_true(clock_now_ns() - begin_ns >= short_ns);
    assert_non_null(strstr(error.text, "rank 1 waited 0.150 s for rank 0 (never joined) at 127."));
    assert_non_null(strstr(error.text, "Connection refused"));
    pid_t pid = fork();
    if (pid == 0) {
        _exit(joins_for_a_short_time());
    }
    /* It hears of the other's end at once. */
    assert_int_equal(connect_as(&joining, 0, long_ns, &c, &error), STATUS_DIED);
    assert_non_null(strstr(error.text, "rank 1 broke off: finish check: rank 1 waited"));
    assert_rank_exit(pid, 0);
    group_close(&joining);
}

static void a_rank_that_ends_before_all_have_joined_is_named_on_all(void **state)
{
    (void)state;
    joining = group_create(TRANSPORT_TCP, RANKS + 1, WAIT_BLOCK);
    pid_t pid = fork();
    if (pid == 0) {
        struct collective c;
        struct error error;
        enum status status = connect_as(&joining, 0, long_ns, &c, &error);
        _exit(status == STATUS_DIED &&
                      strstr(error.text, "rank 1 died before all had joined") != NULL
                  ? 0
                  : 1);
    }
    int other = raw_join(joining.port, 2, RANKS + 1);
    (void)close(raw_join(joining.port, 1, RANKS + 1));
    struct collective_frame frame;
    do {
        assert_true(raw_receive(other, &frame));
    } while (frame.kind == FRAME_WAITING);
    assert_int_equal(frame.kind, FRAME_BREAK);
    assert_non_null(strstr(frame.as.end.text, "rank 1 died before all had joined"));
    (void)close(other);
    assert_rank_exit(pid, 0);
    group_close(&joining);
}

/* A sign that rank 0 will never come, after some attempts. */
static const char *give_up_hope(void *ctx)
{
    uint32_t *asked = ctx;
    return ++*asked == 3 ? "its machine is gone" : NULL;
}

static void nobody_waits_for_what_is_hopeless(void **state)
{
    (void)state;
    uint32_t asked = 0;
    struct collective c;
    struct error error;
    struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    struct collective_place place = {
        .host = "127.0.0.1", .port = g.port, .rank = 1, .hopeless = give_up_hope, .ctx = &asked};
    assert_int_equal(collective_connect(&g.options, &place, long_ns, &c, &error), STATUS_DIED);
    assert_non_null(strstr(error.text, "rank 1 waits for rank 0 no more: its machine is gone"));
    assert_int_equal(asked, 3);
    group_close(&g);
}

static void bad_places_are_refused(void **state)
{
    (void)state;
    struct error error;
    struct collective c;
    struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    struct group bad = g;
    struct collective_place place = {.host = "no.address", .port = g.port};
    assert_int_equal(connect_as(&g, RANKS, long_ns, &c, &error), STATUS_INVALID);
    for (uint32_t rank = 0; rank < 2; rank++) {
        place.rank = rank;
        assert_int_equal(collective_connect(&g.options, &place, long_ns, &c, &error),
                         STATUS_INVALID);
    }
    bad.port = 0;
    assert_int_equal(connect_as(&bad, 0, long_ns, &c, &error), STATUS_INVALID);
    bad.port = 65536;
    assert_int_equal(connect_as(&bad, 0, long_ns, &c, &error), STATUS_INVALID);
    bad = g;
    bad.options.ranks_count = 0;
    assert_int_equal(connect_as(&bad, 0, long_ns, &c, &error), STATUS_INVALID);
    bad.options.ranks_count = COLLECTIVE_RANKS_MAX + 1;
    assert_int_equal(connect_as(&bad, 0, long_ns, &c, &error), STATUS_INVALID);
    assert_int_equal(listen(g.port_fd, 1), 0);
    assert_int_equal(connect_as(&g, 0, long_ns, &c, &error), STATUS_IO);
    assert_non_null(strstr(error.text, "cannot listen at 127.0.0.1:"));
    group_close(&g);
    /* One rank needs nobody. */
    int32_t value = 7;
    g = group_create(TRANSPORT_TCP, 1, WAIT_SPIN);
    assert_int_equal(connect_as(&g, 0, 0, &c, &error), STATUS_OK);
    assert_int_equal(group_call(&c, 1, 0, &value, &error), STATUS_OK);
    assert_int_equal(value, 7);
    collective_close(&c);
    group_close(&g);
}

/* ---- calls ---- */

struct two {
    const struct group *first;
    const struct group *second;
    uint32_t rank;
    bool ok;
    pthread_t id;
};

/* Goes to one or the other, as the same random numbers say on all ranks, and is late by another. */
static void *two_main(void *context)
{
    struct two *t = context;
    struct collective c[2];
    t->ok = group_join(t->first, t->rank, &c[0]) && group_join(t->second, t->rank, &c[1]);
    for (uint32_t n = 0; t->ok && n < CALLS; n++) {
        int32_t value = (int32_t)(n * t->rank);
        int64_t late_ns = (int64_t)(random_at(t->rank, n) % 600000) - 300000;
        clock_sleep_until_ns(clock_now_ns() + late_ns);
        t->ok = group_call(&c[random_at(99, n) % 2], n, long_ns, &value, NULL) == STATUS_OK &&
                value == (int32_t)(n * (8 * 7 / 2));
    }
    collective_close(&c[0]);
    collective_close(&c[1]);
    return NULL;
}

static void two_collectives_interleave_with_late_ranks(void **state)
{
    (void)state;
    for (int wait = WAIT_BLOCK; wait <= WAIT_SPIN; wait++) {
        struct group first = group_create(TRANSPORT_TCP, 8, (enum wait_mode)wait);
        struct group second = group_beside(&first);
        struct two ranks[8];
        for (uint32_t r = 0; r < 8; r++) {
            ranks[r] = (struct two){.first = &first, .second = &second, .rank = r};
            assert_int_equal(pthread_create(&ranks[r].id, NULL, two_main, &ranks[r]), 0);
        }
        for (uint32_t r = 0; r < 8; r++) {
            assert_int_equal(pthread_join(ranks[r].id, NULL), 0);
            assert_true(ranks[r].ok);
        }
        group_close(&second);
        group_close(&first);
    }
}

static int stays(struct collective *c)
{
    (void)c;
    (void)pause();
    return 0;
}

static int hears_that_1_broke_off(struct collective *c)
{
    struct error error;
    int32_t value = 1;
    return group_call(c, 5, long_ns, &value, &error) == STATUS_DIED && value == 1 &&
                   strstr(error.text, "rank 1 broke off") != NULL
               ? 0
               : 1;
}

static void end(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Rank 0 waits too, and tells it who is missing. */
static void a_time_out_elsewhere_names_the_missing_rank(void **state)
{
    (void)state;
    struct error error;
    struct collective c;
    int32_t value = 1;
    struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    pid_t waits = group_start(&g, 0, hears_that_1_broke_off);
    pid_t missing = group_start(&g, 2, stays);
    assert_true(group_join(&g, 1, &c));
    assert_int_equal(group_call(&c, 5, patient_ns, &value, &error), STATUS_TIMEOUT);
    assert_string_equal(error.text,
                        "finish check: rank 1 waited 1.500 s in call 1 (tag 5) for rank 2");
    assert_int_equal(group_call(&c, 6, long_ns, &value, &error), STATUS_TIMEOUT);
    assert_rank_exit(waits, 0);
    end(missing);
    collective_close(&c);
    group_close(&g);
    /* And if rank 0 itself does not come, it is that. */
    g = group_create(TRANSPORT_TCP, RANKS, WAIT_SPIN);
    missing = group_start(&g, 0, stays);
    waits = group_start(&g, 2, stays);
    assert_true(group_join(&g, 1, &c));
    assert_int_equal(group_call(&c, 5, short_ns, &value, &error), STATUS_TIMEOUT);
    assert_non_null(strstr(error.text, "for rank 0"));
    end(missing);
    end(waits);
    collective_close(&c);
    group_close(&g);
}

static int dies_after_two(struct collective *c)
{
    int32_t value = 1;
    for (uint64_t tag = 1; tag <= 2; tag++) {
        if (group_call(c, tag, long_ns, &value, NULL) != STATUS_OK) {
            return 1;
        }
    }
    return raise(SIGKILL);
}

static int waits_in_the_third(struct collective *c, const char *text)
{
    struct error error;
    for (uint64_t tag = 1; tag <= 2; tag++) {
        int32_t value = 1;
        if (group_call(c, tag, long_ns, &value, NULL) != STATUS_OK) {
            return 1;
        }
    }
    int32_t value = 1;
    enum status status = group_call(c, 3, long_ns, &value, &error);
    return status == STATUS_DIED && strstr(error.text, text) != NULL && value == 1 ? 0 : 2;
}

static int loses_0(struct collective *c)
{
    return waits_in_the_third(c, "finish check: rank 0 died before call 3");
}

static int loses_2(struct collective *c)
{
    return waits_in_the_third(c, "finish check: rank 2 died before call 3");
}

static void a_death_is_named_on_all_ranks(void **state)
{
    (void)state;
    for (uint32_t dead = 0; dead <= 2; dead += 2) {
        struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
        pid_t pids[RANKS];
        for (uint32_t r = 0; r < RANKS; r++) {
            group_body *lives = dead == 0 ? loses_0 : loses_2;
            pids[r] = group_start(&g, r, r == dead ? dies_after_two : lives);
        }
        for (uint32_t r = 0; r < RANKS; r++) {
            if (r != dead) {
                assert_rank_exit(pids[r], 0);
            }
        }
        assert_int_equal(waitpid(pids[dead], NULL, 0), pids[dead]);
        group_close(&g);
    }
}

static int breaks_off(struct collective *c)
{
    int32_t value = 1;
    collective_break_off(c);
    return group_call(c, 5, long_ns, &value, NULL) == STATUS_DIED ? 0 : 1;
}

static void breaking_off_ends_the_calls_of_all(void **state)
{
    (void)state;
    struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
    pid_t pids[RANKS] = {group_start(&g, 0, hears_that_1_broke_off), group_start(&g, 1, breaks_off),
                         group_start(&g, 2, hears_that_1_broke_off)};
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_rank_exit(pids[r], 0);
    }
    group_close(&g);
}

static int calls_with_another(struct collective *c)
{
    struct collective_call call = {
        .tag = 9, .op = COLLECTIVE_SUM, .count = 2, .timeout_ns = long_ns};
    int32_t values[3] = {1, 1, 1};
    struct error error;
    call.tag += c->rank == 1 && c->name[0] == 't';
    call.op = c->rank == 1 && c->name[0] == 'o' ? COLLECTIVE_MAX : COLLECTIVE_SUM;
    call.count += c->rank == 1 && c->name[0] == 'c';
    return collective_all_reduce(c, &call, values, &error) == STATUS_PROTOCOL && values[0] == 1 &&
                   strstr(error.text, "that of rank 1") != NULL
               ? 0
               : 1;
}

static void any_disagreement_is_seen_by_all(void **state)
{
    (void)state;
    static const char *const what[] = {"tag", "operation", "count"};
    for (int i = 0; i < 3; i++) {
        struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
        g.options.name = what[i];
        pid_t pids[RANKS];
        for (uint32_t r = 0; r < RANKS; r++) {
            pids[r] = group_start(&g, r, calls_with_another);
        }
        for (uint32_t r = 0; r < RANKS; r++) {
            assert_rank_exit(pids[r], 0);
        }
        group_close(&g);
    }
}

static int hears_rubbish_of_1(struct collective *c)
{
    struct error error;
    int32_t value = 1;
    return group_call(c, 1, long_ns, &value, &error) == STATUS_PROTOCOL && value == 1 &&
                   strstr(error.text, "finish check: rank 1 sent") != NULL
               ? 0
               : 1;
}

/* It comes twice at once, and rank 0 may have the values it needs before it reads on. */
static int hears_a_call_twice(struct collective *c)
{
    int32_t value = 1;
    enum status status = group_call(c, 1, long_ns, &value, NULL);
    if (status == STATUS_OK) {
        status = group_call(c, 1, long_ns, &value, NULL);
    }
    return status == STATUS_PROTOCOL ? 0 : 1;
}

/* A rank that joined and then sends what does not belong there: all others see it. */
static void frames_that_do_not_belong_end_the_call(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
        struct collective_frame frame = call_of(i == 0 ? 2 : 1, 1);
        group_body *hears = i == 2 ? hears_a_call_twice : hears_rubbish_of_1;
        pid_t pids[2] = {group_start(&g, 0, hears), group_start(&g, 2, hears)};
        int fd = raw_join(g.port, 1, RANKS);
        /* Before all have joined it would be another error. */
        struct collective_frame ready = {.kind = FRAME_HELLO};
        while (ready.kind != FRAME_READY) {
            assert_true(raw_receive(fd, &ready));
        }
        frame.kind = i == 1 ? FRAME_RESULT : FRAME_CALL;
        uint8_t bytes[2 * FRAME_BYTES_MAX];
        uint32_t length = collective_frame_encode(&frame, bytes);
        if (i == 2) {
            length += collective_frame_encode(&frame, bytes + length);
        } else if (i == 3) {
            length = 7;
            memcpy(bytes, "rubbish", length);
        }
        assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
        assert_rank_exit(pids[0], 0);
        assert_rank_exit(pids[1], 0);
        (void)close(fd);
        group_close(&g);
    }
}

static int hears_rubbish_of_0(struct collective *c)
{
    struct error error;
    int32_t value = 5;
    return group_call(c, 1, long_ns, &value, &error) == STATUS_PROTOCOL && value == 5 ? 0 : 1;
}

/* The test is a rank 0 that answers with the result of something else. */
static void false_results_are_not_taken(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct group g = group_create(TRANSPORT_TCP, RANKS, WAIT_BLOCK);
        struct collective_frame frame;
        assert_int_equal(listen(g.port_fd, 4), 0);
        pid_t pid = group_start(&g, 1, hears_rubbish_of_0);
        int fd = -1;
        while (fd < 0) {
            fd = accept(g.port_fd, NULL, NULL);
        }
        assert_true(raw_receive(fd, &frame));
        assert_int_equal(frame.kind, FRAME_HELLO);
        assert_int_equal(frame.as.hello.rank, 1);
        frame.kind = FRAME_JOINED;
        raw_send(fd, &frame);
        frame.kind = FRAME_READY;
        raw_send(fd, &frame);
        assert_true(raw_receive(fd, &frame));
        assert_int_equal(frame.kind, FRAME_CALL);
        frame.kind = i == 0 ? FRAME_CALL : FRAME_RESULT;
        frame.number += i == 1;
        frame.as.call.tag += i == 2;
        frame.as.call.op += i == 3;
        frame.as.call.count += i == 4;
        raw_send(fd, &frame);
        assert_rank_exit(pid, 0);
        (void)close(fd);
        group_close(&g);
    }
}

/* ---- frames ---- */

static void frames_have_these_bytes(void **state)
{
    (void)state;
    static const uint8_t call[] = {'L', 'L', 'O', 'C', 3, 0, 0, 0, 28,   0,    0,    0,    /**/
                                   7,   0,   0,   0,   2, 0, 0, 0, 1,    2,    3,    4,    /**/
                                   5,   6,   7,   8,   2, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, /**/
                                   0,   0,   0,   0x80};
    struct collective_frame frame = {.kind = FRAME_CALL,
                                     .number = 7,
                                     .as.call = {.tag = 0x0807060504030201,
                                                 .op = COLLECTIVE_MAX,
                                                 .count = 2,
                                                 .values = {-2, INT32_MIN}}};
    uint8_t bytes[FRAME_BYTES_MAX];
    uint32_t used;
    assert_int_equal(collective_frame_encode(&frame, bytes), sizeof call);
    assert_memory_equal(bytes, call, sizeof call);
    for (size_t have = 0; have < sizeof call; have++) {
        struct collective_frame piece;
        assert_int_equal(collective_frame_decode(call, have, &piece, &used, NULL), STATUS_OK);
        assert_int_equal(used, 0);
    }
    /* The largest fits. */
    frame.as.call.count = COLLECTIVE_VALUES_MAX;
    assert_int_equal(collective_frame_encode(&frame, bytes), FRAME_BYTES_MAX);
    struct collective_frame again;
    assert_int_equal(collective_frame_decode(bytes, sizeof bytes, &again, &used, NULL), STATUS_OK);
    assert_int_equal(used, FRAME_BYTES_MAX);
    assert_int_equal(again.as.call.values[1], INT32_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_have_these_bytes),
        cmocka_unit_test(ranks_join_in_any_order),
        cmocka_unit_test(strangers_disturb_nobody),
        cmocka_unit_test(false_ranks_are_told_why),
        cmocka_unit_test(a_rank_that_is_not_answered_tries_again),
        cmocka_unit_test(a_second_rank_of_the_same_number_is_refused),
        cmocka_unit_test(who_never_joins_is_named),
        cmocka_unit_test(a_rank_that_ends_before_all_have_joined_is_named_on_all),
        cmocka_unit_test(nobody_waits_for_what_is_hopeless),
        cmocka_unit_test(bad_places_are_refused),
        cmocka_unit_test(two_collectives_interleave_with_late_ranks),
        cmocka_unit_test(a_time_out_elsewhere_names_the_missing_rank),
        cmocka_unit_test(a_death_is_named_on_all_ranks),
        cmocka_unit_test(breaking_off_ends_the_calls_of_all),
        cmocka_unit_test(any_disagreement_is_seen_by_all),
        cmocka_unit_test(frames_that_do_not_belong_end_the_call),
        cmocka_unit_test(false_results_are_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
