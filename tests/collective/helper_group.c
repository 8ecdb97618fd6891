/*
 * helper_group.c - owns how tests make and join a collective of either transport. Used by the tests
 * of this folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/random.h"
#include "helper_group.h"

struct group group_create(enum transport transport, uint32_t ranks_count, enum wait_mode wait)
{
    struct group g = {
        .transport = transport,
        .options = {.name = "finish check", .ranks_count = ranks_count, .wait = (uint32_t)wait},
        .port_fd = -1};
    if (transport == TRANSPORT_TCP) {
        assert_int_equal(collective_reserve_port("127.0.0.1", &g.port, &g.port_fd, NULL),
                         STATUS_OK);
    } else {
        assert_int_equal(collective_create(&g.options, &g.made, NULL), STATUS_OK);
    }
    return g;
}

struct group group_beside(const struct group *first)
{
    if (first->transport == TRANSPORT_SHARED) {
        return group_create(TRANSPORT_SHARED, first->options.ranks_count,
                            (enum wait_mode)first->options.wait);
    }
    struct group g = *first;
    g.port_fd = -1;
    g.options.name = "step";
    return g;
}

bool group_join(const struct group *g, uint32_t rank, struct collective *out)
{
    if (g->transport == TRANSPORT_SHARED) {
        return collective_open(dup(g->made.fd), rank, out, NULL) == STATUS_OK;
    }
    struct collective_place place = {.host = "127.0.0.1", .port = g->port, .rank = rank};
    return collective_connect(&g->options, &place, long_ns, out, NULL) == STATUS_OK;
}

void group_close(struct group *g)
{
    collective_close(&g->made);
    if (g->port_fd >= 0) {
        (void)close(g->port_fd);
    }
}

pid_t group_start(const struct group *g, uint32_t rank, group_body *body)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct collective c;
        if (g->port_fd >= 0) { /* as a rank has it not in earnest */
            (void)close(g->port_fd);
        }
        if (!group_join(g, rank, &c)) {
            _exit(100);
        }
        int result = body(&c);
        collective_close(&c);
        _exit(result);
    }
    assert_true(pid > 0);
    return pid;
}

void assert_rank_exit(pid_t pid, int want)
{
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), want);
}

/* ---- calls ---- */

enum {
    VALUES = 12
};

static int32_t input(uint32_t rank, uint32_t call, uint32_t i)
{
    return (int32_t)(random_at(rank * 1000 + i, call) % 2000001) - 1000000;
}

static int32_t expected(enum collective_op op, uint32_t ranks, uint32_t call, uint32_t i)
{
    int32_t result = input(0, call, i);
    for (uint32_t r = 1; r < ranks; r++) {
        int32_t v = input(r, call, i);
        if (op == COLLECTIVE_SUM) {
            result += v;
        } else if ((op == COLLECTIVE_MIN) == (v < result)) {
            result = v;
        }
    }
    return result;
}

bool group_run_calls(struct collective *c, uint32_t calls)
{
    for (uint32_t n = 0; n < calls; n++) {
        int32_t values[VALUES];
        struct collective_call call = {.tag = n / 2,
                                       .op = (enum collective_op)(n % 3),
                                       .count = 1 + n % VALUES,
                                       .timeout_ns = long_ns};
        for (uint32_t i = 0; i < VALUES; i++) {
            values[i] = input(c->rank, n, i);
        }
        if (collective_all_reduce(c, &call, values, NULL) != STATUS_OK) {
            return false;
        }
        for (uint32_t i = 0; i < VALUES; i++) {
            int32_t want =
                i < call.count ? expected(call.op, c->ranks_count, n, i) : input(c->rank, n, i);
            if (values[i] != want) {
                return false;
            }
        }
    }
    return true;
}

enum status group_call(struct collective *c, uint64_t tag, int64_t timeout_ns, int32_t *value,
                       struct error *error)
{
    struct collective_call call = {
        .tag = tag, .op = COLLECTIVE_SUM, .count = 1, .timeout_ns = timeout_ns};
    return collective_all_reduce(c, &call, value, error);
}
