/*
 * client_test.c - the load client in front of a real system, and at its own limit: sessions find
 * their earlier prompts in the engine core's prefix cache, as far as blocks go; a client that is
 * asked for more than it can do makes `harness load` end with the status that says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/load/client.h"
#include "harness/load/null_server.h"
#include "harness/load/schedule.h"
#include "helper_system.h"

#define MS ((int64_t)1000000)

enum {
    USERS = 5,
    TURNS = 4,
    REQUESTS = 60,
    EXIT_INVALID_POINT = 5,
    NOT_RUN = 126
};

/* ---- sessions ---- */

static const struct ledger_record *find_record(const struct ledger *l, uint64_t number)
{
    uint32_t i = 0;
    while (i < l->records_count && atomic_load(&l->records[i].client_number) != number + 1) {
        i++;
    }
    assert_true(i < l->records_count);
    return &l->records[i];
}

static void check_cached_tokens(const struct system *s, const struct load_options *o)
{
    struct schedule schedule;
    uint64_t hits = 0;
    uint32_t block = s->ledger.topology->block_tokens;
    schedule_init(&schedule, o, NULL);
    for (uint32_t user = 0; user < USERS; user++) {
        uint32_t before_tokens = 0;
        struct schedule_item item;
        for (uint64_t rank = 0; schedule_of_user(&schedule, user, rank, &item); rank++) {
            const struct ledger_record *r = find_record(&s->ledger, item.number);
            assert_int_equal(r->prompt_tokens, item.prompt_tokens);
            uint32_t known = rank % TURNS == 0 ? 0 : before_tokens / block * block;
            assert_int_equal(r->cached_tokens, known);
            before_tokens = item.prompt_tokens;
            hits += known;
        }
    }
    assert_true(hits > 0);
}

static void sessions_find_their_prefix(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 1);
    struct system s;
    struct load_shared shared;
    t.prefix_caching = 1;
    e2e_start(&t, &s);
    struct load_options o = {
        .targets = {{.host = "127.0.0.1", .port = s.port}},
        .targets_count = 1,
        .mode = LOAD_CLOSED,
        .users_count = USERS,
        .turns_count = TURNS,
        .think_mean_ns = 5 * MS,
        .requests_max = REQUESTS,
        .seed = 11,
        .prompt_tokens = {.lo = 20, .hi = 60},
        .output_tokens = {.lo = 3, .hi = 9},
        .stream = 1,
        .ignore_eos = 1,
        .window_ns = 60000 * MS,
        .batches_count = 1,
    };
    (void)snprintf(o.model, sizeof o.model, "%s", t.model);
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_run(&shared.header->options, &shared, NULL), STATUS_OK);
    assert_int_equal(load_get(&shared.header->outcome_count[LOAD_OUTCOME_OK]), REQUESTS);
    check_cached_tokens(&s, &o);
    load_shared_close(&shared);
    e2e_stop(&s);
}

/* ---- overload ---- */

/* The path of a program beside this one; false: it is not there. */
static bool program_beside(const char *name, char *path, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", path, cap - 1);
    assert_true(n > 0);
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    assert_non_null(slash);
    (void)snprintf(slash + 1, cap - (size_t)(slash + 1 - path), "%s", name);
    return access(path, X_OK) == 0;
}

static int exit_of(char *const *arguments)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(null_fd, STDOUT_FILENO);
        (void)dup2(null_fd, STDERR_FILENO);
        (void)execv(arguments[0], arguments);
        _exit(NOT_RUN);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* 20,000 requests of 2,000 tokens within 20 ms are beyond any core. The server answers them all. */
static void an_overloaded_client_says_so(void **state)
{
    (void)state;
    char path[512];
    char command[1024];
    char *arguments[32];
    size_t count = 0;
    struct null_options options = {0};
    struct null_process server;
    assert_true(program_beside("harness", path, sizeof path));
    assert_int_equal(null_start(&options, &server, NULL), STATUS_OK);
    (void)snprintf(command, sizeof command,
                   "%s load http://127.0.0.1:%u --model m --rate 1000000 --requests 20000 "
                   "--prompt 2000 --output 1 --no-stream --warmup 0 --measure 1 --drain 120",
                   path, server.port);
    char *rest = command;
    char *word;
    while ((word = strsep(&rest, " ")) != NULL && count + 1 < sizeof arguments / sizeof(char *)) {
        arguments[count++] = word;
    }
    arguments[count] = NULL;
    assert_int_equal(exit_of(arguments), EXIT_INVALID_POINT);
    null_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_find_their_prefix),
        cmocka_unit_test(an_overloaded_client_says_so),
    };
    e2e_begin();
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
