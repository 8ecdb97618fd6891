/*
 * nodes_test.c - systems of several launchers, on loopback addresses that stand for machines: every
 * way of balancing answers with the tokens that one launcher's system gives, on every rank; and
 * whatever dies on one node, both sides end by themselves and name it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    REQUESTS = 8,
    TEXT_BYTES = 256,
    TOKENS = 40,
    STREAMS = 3,
    NODES_GONE_MS = 10000, /* a heartbeat of 5 s, and what a launcher has to end its own */
};

/* ---- topologies ---- */

/* Engine cores and API servers of each node; the ends of the lists are 0. */
struct shape {
    enum balancing balancing;
    uint32_t nodes_count;
    uint32_t engines[TOPOLOGY_NODES_MAX];
    uint32_t api_servers[TOPOLOGY_NODES_MAX];
    bool lockstep;
};

static struct topology topology_of(const struct shape *shape)
{
    struct topology t = e2e_topology(0, 0);
    t.balancing = (uint32_t)shape->balancing;
    t.lockstep = shape->lockstep;
    t.nodes_count = shape->nodes_count;
    for (uint32_t i = 0; i < shape->nodes_count; i++) {
        t.nodes[i] = (struct topology_node){
            .engines_first = t.engines_count,
            .engines_count = shape->engines[i],
            .api_servers_first = t.api_servers_count,
            .api_servers_count = shape->api_servers[i],
        };
        (void)snprintf(t.nodes[i].host, sizeof t.nodes[i].host, "127.0.0.%u", i + 1);
        t.engines_count += shape->engines[i];
        t.api_servers_count += shape->api_servers[i];
    }
    return t;
}

static const struct shape internal = {BALANCING_INTERNAL, 2, {2, 2}, {2, 0}, false};
static const struct shape hybrid = {BALANCING_HYBRID, 2, {2, 2}, {1, 1}, false};

/* ---- answers ---- */

static void post(uint32_t port, int32_t rank, uint32_t number, char text[TEXT_BYTES])
{
    char json[200];
    char headers[64] = "";
    struct completion c;
    (void)snprintf(json, sizeof json,
                   "{\"prompt\":\"question %u\",\"max_tokens\":%d,\"ignore_eos\":true,"
                   "\"seed\":%u,\"stream\":true}",
                   number, TOKENS, number);
    if (rank >= 0) {
        (void)snprintf(headers, sizeof headers, "X-data-parallel-rank: %d\r\n", rank);
    }
    struct answer a = http_post_with(port, "/v1/completions", headers, json);
    completion_read(&a, &c);
    answer_free(&a);
    assert_int_equal(c.status, 200);
    assert_string_equal(c.error, "");
    assert_string_equal(c.finish, "length");
    assert_int_equal(c.text_bytes, TOKENS);
    assert_true(c.done);
    (void)snprintf(text, TEXT_BYTES, "%.200s", c.text);
}

/* What a system of one launcher says. */
static char expected[REQUESTS][TEXT_BYTES];

static int ask_one_launcher(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 1);
    struct system system;
    e2e_start(&t, &system);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        post(system.port, -1, i, expected[i]);
    }
    e2e_stop(&system);
    return 0;
}

/* Ranks that the API servers of a port choose among. */
static uint32_t ranks_behind(const struct topology *t, uint32_t node)
{
    bool all = t->balancing == (uint32_t)BALANCING_INTERNAL;
    return all ? t->engines_count : t->nodes[node].engines_count;
}

static void assert_ranks_used(const struct system *s)
{
    uint64_t sum = 0;
    for (uint32_t rank = 0; rank < s->ledger.topology->engines_count; rank++) {
        const struct ledger_thread *thread = e2e_thread(s, THREAD_ENGINE_MAIN, rank, 0);
        assert_non_null(thread);
        assert_true(ledger_get(&thread->requests_count) > 0);
        sum += ledger_get(&thread->requests_count);
    }
    assert_int_equal(sum, E2E_SUM(s, THREAD_API_MAIN, requests_count));
}

/* Each rank by its number behind each port, and as many as the servers place themselves. */
static void serve_and_check(const struct shape *shape)
{
    struct topology t = topology_of(shape);
    struct system system;
    e2e_start(&t, &system);
    for (uint32_t node = 0; node < t.nodes_count; node++) {
        uint32_t port = system.launchers[node].port;
        uint32_t ranks = ranks_behind(&t, node);
        assert_int_equal(port == 0, t.nodes[node].api_servers_count == 0);
        for (uint32_t i = 0; port != 0 && i < REQUESTS; i++) {
            char text[TEXT_BYTES];
            post(port, i < ranks ? (int32_t)i : -1, i, text);
            assert_string_equal(text, expected[i]);
        }
    }
    assert_ranks_used(&system);
    struct remains remains = remains_of(&system);
    assert_int_equal(remains_processes(&remains), topology_processes(&t));
    assert_false(system_failed(&system));
    e2e_stop(&system);
}

static void internal_balancing(void **state)
{
    (void)state;
    serve_and_check(&internal);
}

static void internal_balancing_in_lockstep(void **state)
{
    (void)state;
    struct shape shape = internal;
    shape.lockstep = true;
    serve_and_check(&shape);
}

static void a_head_without_engine_cores(void **state)
{
    (void)state;
    serve_and_check(&(struct shape){BALANCING_INTERNAL, 2, {0, 2}, {2, 0}, false});
    serve_and_check(&(struct shape){BALANCING_INTERNAL, 2, {0, 1}, {1, 0}, false});
    serve_and_check(&(struct shape){BALANCING_INTERNAL, 2, {0, 2}, {1, 0}, true});
}

static void hybrid_balancing(void **state)
{
    (void)state;
    serve_and_check(&hybrid);
    serve_and_check(&(struct shape){BALANCING_HYBRID, 2, {1, 1}, {1, 2}, false});
}

static void hybrid_balancing_in_lockstep(void **state)
{
    (void)state;
    struct shape shape = hybrid;
    shape.lockstep = true;
    serve_and_check(&shape);
}

static void independent_nodes(void **state)
{
    (void)state;
    serve_and_check(&(struct shape){BALANCING_INDEPENDENT, 3, {2, 2, 2}, {1, 1, 1}, true});
    serve_and_check(&(struct shape){BALANCING_INDEPENDENT, 2, {1, 1}, {1, 1}, false});
}

/* A rank that the port's API servers do not serve is the caller's mistake. */
static void local_ranks_only(void **state)
{
    (void)state;
    struct topology t = topology_of(&hybrid);
    struct system system;
    e2e_start(&t, &system);
    for (uint32_t node = 0; node < 2; node++) {
        struct answer a =
            http_post_with(system.launchers[node].port, "/v1/completions",
                           "X-data-parallel-rank: 2\r\n", "{\"prompt\":\"x\",\"max_tokens\":1}");
        assert_int_equal(a.status, 400);
        answer_free(&a);
    }
    e2e_stop(&system);
}

/* Engine cores of one GPU must be on one node. */
static void a_gpu_is_on_one_node(void **state)
{
    (void)state;
    struct system_options options = {
        .topology = topology_of(&(struct shape){BALANCING_INTERNAL, 2, {1, 3}, {1, 0}, false}),
        .log_fd = -1,
        .start_timeout_ns = (int64_t)HANG_MS * 1000000,
    };
    struct system system;
    struct error error;
    options.topology.gpu_sharing = GPU_TIME_SLICED;
    options.topology.engines_per_gpu = 2;
    assert_int_equal(system_start(&options, &system, &error), STATUS_DIED);
    assert_non_null(strstr(error.text, "engine core 1, which shares a GPU"));
    e2e_assert_no_children();
}

/* ---- deaths ---- */

static bool failed(void *ctx)
{
    return system_failed(ctx);
}

static struct topology slow_topology(const struct shape *shape)
{
    struct topology t = topology_of(shape);
    (void)snprintf(t.model, sizeof t.model, "llama-3.1-8b"); /* a step takes 5 ms */
    t.max_model_len = 2048;
    return t;
}

static void open_streams(const struct system *s, struct link links[STREAMS])
{
    for (int i = 0; i < STREAMS; i++) {
        char headers[64];
        (void)snprintf(headers, sizeof headers, "X-data-parallel-rank: %d\r\n", i % 2);
        char *text = http_request_text("/v1/completions", headers,
                                       "{\"prompt\":\"long\",\"max_tokens\":2000,"
                                       "\"ignore_eos\":true,\"stream\":true}");
        uint32_t last = s->launchers[1].port != 0 ? s->launchers[1].port : s->port;
        assert_true(link_open(&links[i], i == 0 ? s->port : last));
        assert_true(link_text(&links[i], text));
        free(text);
    }
    for (int i = 0; i < STREAMS; i++) {
        assert_true(link_more(&links[i], HANG_MS));
    }
}

/* No stream hangs, and none that its API server could still answer ends as if it were complete. */
static void assert_streams_ended(struct link links[STREAMS])
{
    for (int i = 0; i < STREAMS; i++) {
        assert_true(link_drain(&links[i], NODES_GONE_MS));
        struct answer a = link_answer(&links[i]);
        struct completion c;
        completion_read(&a, &c);
        assert_string_equal(c.finish, "");
        answer_free(&a);
        link_close(&links[i]);
    }
}

/* `names`: what the reason may call the dead, by who was first to notice. */
static void kill_and_check(const struct shape *shape, enum ledger_thread_kind kind,
                           uint32_t instance, const char *const names[2])
{
    struct topology t = slow_topology(shape);
    struct system system;
    struct link links[STREAMS];
    e2e_start(&t, &system);
    struct remains remains = remains_of(&system);
    const struct ledger_thread *thread = e2e_thread(&system, kind, instance, 0);
    assert_non_null(thread);
    open_streams(&system, links);
    int64_t begin_ns = clock_now_ns();
    assert_int_equal(kill(thread->pid, SIGKILL), 0);
    assert_true(e2e_wait(failed, &system, NODES_GONE_MS));
    assert_streams_ended(links);
    remains_assert_none(&remains); /* before any help of system_stop() */
    assert_true(clock_now_ns() - begin_ns < (int64_t)NODES_GONE_MS * 1000000);
    if (strstr(system.reason, names[0]) == NULL && strstr(system.reason, names[1]) == NULL) {
        fail_msg("'%s' names neither '%s' nor '%s'", system.reason, names[0], names[1]);
    }
    system_stop(&system);
    system_free(&system);
    assert_false(remains_folder(&remains));
    e2e_assert_no_children();
}

static void an_engine_core_of_another_node_dies(void **state)
{
    (void)state;
    static const char *const names[2] = {"EngineCore_DP3 (connection lost)", "EngineCore_DP3 (pid"};
    kill_and_check(&internal, THREAD_ENGINE_MAIN, 3, names);
    kill_and_check(&hybrid, THREAD_ENGINE_MAIN, 3, names);
}

static void an_engine_core_of_the_head_dies(void **state)
{
    (void)state;
    static const char *const names[2] = {"EngineCore_DP0 (pid", "EngineCore_DP0 (pid"};
    kill_and_check(&internal, THREAD_ENGINE_MAIN, 0, names);
}

static void a_headless_launcher_dies(void **state)
{
    (void)state;
    static const char *const names[2] = {"(connection lost)", "launcher (pid"};
    kill_and_check(&internal, THREAD_LAUNCHER_MAIN, 1, names);
    kill_and_check(&hybrid, THREAD_LAUNCHER_MAIN, 1, names);
}

static void the_head_dies(void **state)
{
    (void)state;
    static const char *const names[2] = {"(connection lost)", "launcher (pid"};
    struct shape shape = hybrid;
    kill_and_check(&internal, THREAD_LAUNCHER_MAIN, 0, names);
    kill_and_check(&hybrid, THREAD_LAUNCHER_MAIN, 0, names);
    shape.lockstep = true;
    kill_and_check(&shape, THREAD_LAUNCHER_MAIN, 0, names);
}

static void the_coordinator_dies(void **state)
{
    (void)state;
    static const char *const names[2] = {"DPCoordinator (pid", "DPCoordinator (connection lost)"};
    kill_and_check(&hybrid, THREAD_COORDINATOR_MAIN, 0, names);
}

/* Its connection is there and says nothing, as that of a machine without power. */
static void an_engine_core_that_stops_is_missed(void **state)
{
    (void)state;
    struct topology t = topology_of(&internal);
    struct system system;
    e2e_start(&t, &system);
    struct remains remains = remains_of(&system);
    const struct ledger_thread *thread = e2e_thread(&system, THREAD_ENGINE_MAIN, 3, 0);
    assert_non_null(thread);
    assert_int_equal(kill(thread->pid, SIGSTOP), 0);
    assert_true(e2e_wait(failed, &system, NODES_GONE_MS));
    assert_non_null(strstr(system.reason, "EngineCore_DP3 (connection lost)"));
    remains_assert_none(&remains);
    system_stop(&system);
    system_free(&system);
    e2e_assert_no_children();
}

/* ---- nodes that do not share a ledger ---- */

struct part {
    struct system_options options;
    struct system system;
    struct error error;
    enum status status;
    pthread_t thread;
    _Atomic bool started;
    _Atomic bool over;
};

/* A launcher ends when the thread that started it does. */
static void *part_main(void *context)
{
    struct part *p = context;
    p->status = system_start(&p->options, &p->system, &p->error);
    p->started = true;
    while (!p->over) {
        e2e_sleep_ms(5);
    }
    return NULL;
}

static void start_parts(struct part parts[2], const struct shape *shape)
{
    uint32_t port = e2e_free_port();
    for (uint32_t i = 0; i < 2; i++) {
        parts[i].started = false;
        parts[i].over = false;
        parts[i].options.topology = topology_of(shape);
        parts[i].options.topology.handshake_port = port;
        parts[i].options.which = i == 0 ? SYSTEM_ONLY_HEAD : SYSTEM_ONLY_JOINING;
        parts[i].options.log_fd = -1;
        parts[i].options.start_timeout_ns = (int64_t)HANG_MS * 1000000;
    }
}

static void run_parts(struct part parts[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&parts[i].thread, NULL, part_main, &parts[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++) {
        while (!parts[i].started) {
            e2e_sleep_ms(5);
        }
    }
}

static void end_parts(struct part parts[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        parts[i].over = true;
        assert_int_equal(pthread_join(parts[i].thread, NULL), 0);
    }
}

/* A node that joins knows only itself and where the head is. */
static void a_node_joins_from_elsewhere(void **state)
{
    (void)state;
    static struct part parts[2];
    char text[TEXT_BYTES];
    struct shape shape = internal;
    shape.lockstep = true;
    start_parts(parts, &shape);
    struct topology_node *head = &parts[1].options.topology.nodes[0];
    head->engines_count = 0;
    head->api_servers_count = 0;
    run_parts(parts);
    assert_string_equal(parts[0].error.text, "");
    assert_string_equal(parts[1].error.text, "");
    for (uint32_t i = 0; i < REQUESTS; i++) {
        post(parts[0].system.port, (int32_t)(i % 4), i, text);
        assert_string_equal(text, expected[i]);
    }
    e2e_stop(&parts[1].system);
    e2e_stop(&parts[0].system);
    end_parts(parts);
}

static void a_node_configured_differently_is_refused(void **state)
{
    (void)state;
    static struct part parts[2];
    struct shape shape = internal;
    shape.lockstep = true;
    start_parts(parts, &shape);
    parts[1].options.topology.finish_check_steps = 7;
    run_parts(parts);
    assert_int_equal(parts[0].status, STATUS_DIED);
    assert_non_null(strstr(parts[0].error.text, "is configured differently"));
    if (parts[1].status == STATUS_OK) { /* it was ready, and lost the head a moment later */
        assert_true(e2e_wait(failed, &parts[1].system, NODES_GONE_MS));
        system_stop(&parts[1].system);
        system_free(&parts[1].system);
    }
    end_parts(parts);
    e2e_assert_no_children();
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(internal_balancing),
        cmocka_unit_test(internal_balancing_in_lockstep),
        cmocka_unit_test(a_head_without_engine_cores),
        cmocka_unit_test(hybrid_balancing),
        cmocka_unit_test(hybrid_balancing_in_lockstep),
        cmocka_unit_test(independent_nodes),
        cmocka_unit_test(local_ranks_only),
        cmocka_unit_test(a_gpu_is_on_one_node),
        cmocka_unit_test(an_engine_core_of_another_node_dies),
        cmocka_unit_test(an_engine_core_of_the_head_dies),
        cmocka_unit_test(a_headless_launcher_dies),
        cmocka_unit_test(the_head_dies),
        cmocka_unit_test(the_coordinator_dies),
        cmocka_unit_test(an_engine_core_that_stops_is_missed),
        cmocka_unit_test(a_node_joins_from_elsewhere),
        cmocka_unit_test(a_node_configured_differently_is_refused),
    };
    return e2e_end(cmocka_run_group_tests(tests, ask_one_launcher, NULL));
}
