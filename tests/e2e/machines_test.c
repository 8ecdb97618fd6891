/*
 * machines_test.c - two nodes that share nothing but a cable: each in a network namespace of its
 * own, with a ledger and a harness of its own. They serve together, and when the cable is cut both
 * end, though no process died. Skipped, with the reason, where namespaces cannot be made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper_http.h"
#include "helper_system.h"

enum {
    MACHINES = 2,
    REQUESTS = 4,
    TEXT_BYTES = 128,
    TOKENS = 30,
    PORT = 29550,
    CUT_MS = 15000, /* a heartbeat of 5 s, noticed on either side in turn */
};

enum stage {
    STAGE_NEW,
    STAGE_NAMESPACE, /* has one of its own */
    STAGE_LINKED,    /* the cable has been laid, and its end has an address */
    STAGE_STARTED,
    STAGE_ASKED,
    STAGE_OVER,
};

/* A thread in a namespace of its own; what it starts is there too. */
struct machine {
    uint32_t index;
    struct machine *other;
    pthread_t thread;
    _Atomic int stage; /* enum stage; also written by the test, to go on */
    _Atomic int tid;
    char problem[128]; /* why there is no namespace or cable: the test is skipped */
    struct system_options options;
    struct system system;
    struct error error;
    struct completion answers[REQUESTS];
};

static struct machine machines[MACHINES];

static void wait_stage(const struct machine *m, int stage)
{
    while (m->stage < stage) {
        e2e_sleep_ms(5);
    }
}

/* Says why not, and that it is over. */
static bool give_up(struct machine *m, const char *what)
{
    (void)snprintf(m->problem, sizeof m->problem, "%s: %s", what, strerror(errno));
    m->stage = STAGE_OVER;
    return false;
}

static bool enter_namespace(struct machine *m)
{
    if (unshare(CLONE_NEWNET) != 0) {
        return give_up(m, "cannot make a network namespace");
    }
    m->tid = gettid();
    m->stage = STAGE_NAMESPACE;
    wait_stage(m->other, STAGE_NAMESPACE);
    return m->other->problem[0] == '\0';
}

/* The head lays the cable to the other's namespace. */
static bool connect_cable(struct machine *m)
{
    char command[256];
    if (m->index > 0) {
        wait_stage(m->other, STAGE_LINKED);
    } else {
        (void)snprintf(command, sizeof command,
                       "ip link add cable type veth peer name cable netns %d", m->other->tid);
        if (system(command) != 0) { // NOLINT: a fixed command
            return give_up(m, "cannot make a veth pair with ip");
        }
    }
    (void)snprintf(command, sizeof command,
                   "ip link set lo up && ip addr add 10.77.0.%u/24 dev cable && "
                   "ip link set cable up",
                   m->index + 1);
    if (m->other->problem[0] != '\0' || system(command) != 0) { // NOLINT: a fixed command
        return give_up(m, "cannot set an address with ip");
    }
    m->stage = STAGE_LINKED;
    wait_stage(m->other, STAGE_LINKED);
    return true;
}

static void ask(uint32_t port, uint32_t number, uint32_t rank, struct completion *out)
{
    char json[200];
    char headers[64];
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"question %u\",\"max_tokens\":%d,\"ignore_eos\":true,"
                   "\"seed\":%u,\"stream\":true}",
                   number, TOKENS, number);
    (void)snprintf(headers, sizeof headers, "X-data-parallel-rank: %u\r\n", rank);
    struct answer a = http_post_with(port, "/v1/completions", headers, json);
    completion_read(&a, out);
    answer_free(&a);
}

static void cut_cable(void)
{
    if (system("ip link set cable down") != 0) { // NOLINT: a fixed command
        perror("ip");
    }
}

static void *machine_main(void *context)
{
    struct machine *m = context;
    if (!enter_namespace(m) || !connect_cable(m)) {
        m->stage = STAGE_OVER;
        return NULL;
    }
    (void)!system_start(&m->options, &m->system, &m->error);
    m->stage = STAGE_STARTED;
    wait_stage(m->other, STAGE_STARTED);
    bool serves = m->error.text[0] == '\0' && m->other->error.text[0] == '\0';
    if (m->index == 0 && serves) {
        for (uint32_t i = 0; i < REQUESTS; i++) {
            ask(m->system.port, i, i % 2, &m->answers[i]);
        }
        cut_cable();
    }
    m->stage = STAGE_ASKED;
    wait_stage(m, STAGE_OVER); /* launchers end when the thread that started them does */
    return NULL;
}

/* Rank 0 on the head, rank 1 on the other machine, in lock-step. */
static struct topology topology_of(uint32_t machine)
{
    struct topology t = e2e_topology(1, 2);
    t.lockstep = 1;
    t.nodes_count = MACHINES;
    t.handshake_port = PORT;
    t.nodes[0] = (struct topology_node){.host = "10.77.0.1"};
    t.nodes[1] =
        (struct topology_node){.host = "10.77.0.2", .engines_first = 1, .engines_count = 1};
    if (machine == 0) {
        t.nodes[0].engines_count = 1;
        t.nodes[0].api_servers_count = 1;
    }
    return t;
}

static bool failed(void *ctx)
{
    return system_failed(ctx);
}

static void assert_ended(struct machine *m)
{
    struct remains remains = remains_of(&m->system);
    assert_true(e2e_wait(failed, &m->system, CUT_MS));
    if (strstr(m->system.reason, "connection lost") == NULL) {
        fail_msg("'%s' does not say that a connection was lost", m->system.reason);
    }
    remains_assert_none(&remains);
    system_stop(&m->system);
    system_free(&m->system);
}

static void assert_answers(void)
{
    struct topology t = e2e_topology(1, 1);
    struct system one;
    e2e_start(&t, &one);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct completion want;
        ask(one.port, i, 0, &want);
        assert_int_equal(machines[0].answers[i].status, 200);
        assert_int_equal(want.text_bytes, TOKENS);
        assert_string_equal(machines[0].answers[i].text, want.text);
    }
    e2e_stop(&one);
}

static void two_machines_and_a_cut_cable(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MACHINES; i++) {
        struct machine *m = &machines[i];
        m->index = i;
        m->other = &machines[1 - i];
        m->options = (struct system_options){
            .topology = topology_of(i),
            .which = i == 0 ? SYSTEM_ONLY_HEAD : SYSTEM_ONLY_JOINING,
            .log_fd = -1,
            .start_timeout_ns = (int64_t)HANG_MS * 1000000,
        };
    }
    for (uint32_t i = 0; i < MACHINES; i++) {
        assert_int_equal(pthread_create(&machines[i].thread, NULL, machine_main, &machines[i]), 0);
    }
    wait_stage(&machines[0], STAGE_ASKED);
    wait_stage(&machines[1], STAGE_ASKED);
    bool skipped = machines[0].problem[0] != '\0' || machines[1].problem[0] != '\0';
    if (!skipped) {
        assert_string_equal(machines[0].error.text, "");
        assert_string_equal(machines[1].error.text, "");
        assert_ended(&machines[0]);
        assert_ended(&machines[1]);
        assert_answers();
    }
    for (uint32_t i = 0; i < MACHINES; i++) {
        machines[i].stage = STAGE_OVER;
        assert_int_equal(pthread_join(machines[i].thread, NULL), 0);
    }
    e2e_assert_no_children();
    if (skipped) {
        print_message("skipped: %s%s\n", machines[0].problem, machines[1].problem);
        skip(); /* this machine gives a user no network namespaces */
    }
}

/* Who is not root may be it in a namespace of users; a program with threads cannot enter one. */
static void become_root(void)
{
    char map[64];
    uid_t user = getuid();
    if (user == 0 || unshare(CLONE_NEWUSER) != 0) {
        return;
    }
    (void)snprintf(map, sizeof map, "0 %u 1", (unsigned)user);
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, map, strlen(map));
        (void)close(fd);
    }
}

int main(void)
{
    become_root();
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_machines_and_a_cut_cable),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
