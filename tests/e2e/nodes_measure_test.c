/*
 * nodes_measure_test.c - measured runs of systems on several nodes. Requests are spread over the
 * nodes that serve and none is lost; what one request was counted for at the client, in an API
 * server and in an engine core agrees; each API server sends to the engine cores that balancing
 * gives it and to no others. And the death of any node's process ends the run and is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "helper_measure.h"
#include "helper_system.h"

enum {
    NODES = 2,
    API_SERVERS = 4,
    ENGINES = 4,
    REQUESTS = 96,
};

/* All requests are over when the window is: none is censored. */
#define TEXT(balancing, load)                                       \
    "[scenario]\nname = nodes\nschema = 1\nseed = 5\n"              \
    "[server s]\ntopology = api_servers=4 dp=4 tp=1\nnodes = 2\n"   \
    "balancing = " balancing "\nhost_profile = native\n"            \
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\n" \
    "accept = reuseport\nmax_num_seqs = 4\nmax_model_len = 2048\n"  \
    "[client]\nbalance = yes\nmax_cpu = 100%\nmax_lag = p99 60s\n"  \
    "[workload w]\nprompt = 24tok\noutput = uniform lo=4tok hi=40tok\n[load l]\n" load

#define OPEN   "mode = open\nrate = 96/s\nwarmup = 0s\nmeasure = 1s\nbatches = 4\ndrain = 60s\n"
#define CLOSED "mode = closed\nusers = 16\nwarmup = 200ms\nmeasure = 800ms\nbatches = 4\n"

typedef void watcher(void *ctx, const struct measure_progress *progress);

static void run(const struct scenario *scenario, watcher *progress, struct run_result *out)
{
    struct measure_options options = {
        .scenario = scenario,
        .run = &scenario->runs[0],
        .log_fd = -1,
        .host = &e2e_host,
        .progress = progress,
    };
    e2e_measure(&options, out);
}

/* ---- who served whom ---- */

/* Whether balancing lets API server a send to engine core e, both halves of four. */
static bool may_serve(uint32_t balancing, uint32_t a, uint32_t e)
{
    return balancing == BALANCING_INTERNAL || a / 2 == e / 2;
}

static void assert_served(const struct run_result *r, uint32_t balancing)
{
    uint32_t by_server[API_SERVERS] = {0};
    uint32_t by_engine[ENGINES] = {0};
    assert_int_equal(r->requests_rows_count, r->requests_count);
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        const struct run_request *q = &r->requests[i];
        assert_int_equal(q->outcome, LOAD_OUTCOME_OK);
        assert_int_equal(q->output_tokens, q->output_tokens_asked);
        assert_true(q->api_server < API_SERVERS && q->engine < ENGINES);
        assert_true(may_serve(balancing, q->api_server, q->engine));
        by_server[q->api_server]++;
        by_engine[q->engine]++;
    }
    for (int i = 0; i < 4; i++) {
        assert_true(by_server[i] > 0);
        assert_true(by_engine[i] > 0);
    }
    /* In turn: half of the arrivals for each node, but for those that met a stall. */
    if (balancing != BALANCING_INTERNAL) {
        uint32_t first = by_server[0] + by_server[1];
        uint32_t second = by_server[2] + by_server[3];
        assert_true(first <= second + 8 && second <= first + 8);
    }
}

static void check_open(const char *text, uint32_t balancing, uint32_t processes)
{
    struct scenario *scenario = e2e_scenario(text);
    struct run_result r;
    assert_int_equal(topology_processes(&scenario->cells[0].topology), processes);
    run(scenario, NULL, &r);
    assert_string_equal(r.reason, "");
    assert_int_equal(r.outcome, RUN_OK);
    assert_int_equal(r.fail_count, 0);
    assert_true(r.requests_count > REQUESTS / 2);
    assert_served(&r, balancing);
    assert_int_equal(r.hops.requests_count, r.requests_count);
    assert_int_equal(r.tokens_mismatch_count, 0);
    assert_true(r.hops.residual_max_ms < 1);
    assert_int_equal(r.engines_count, ENGINES);
    assert_true(r.threads_known);
    assert_true(proc_thread_rows_agree(r.threads));
    result_free(&r);
    scenario_close(scenario);
}

/* Launchers + API servers + (engine core + worker) each + coordinators of the groups. */
static void internal_nodes_serve_as_one(void **state)
{
    (void)state;
    check_open(TEXT("internal", OPEN), BALANCING_INTERNAL, 2 + 4 + 4 * 2 + 1);
}

static void hybrid_nodes_serve_their_own(void **state)
{
    (void)state;
    check_open(TEXT("hybrid", OPEN), BALANCING_HYBRID, 2 + 4 + 4 * 2 + 1);
}

static void independent_nodes_know_nothing_of_each_other(void **state)
{
    (void)state;
    check_open(TEXT("independent", OPEN), BALANCING_INDEPENDENT, 2 + 4 + 4 * 2 + 2);
}

/* With balance four users for each API server, whose ports are two. */
static void users_are_spread_over_the_nodes(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(TEXT("hybrid", CLOSED));
    struct run_result r;
    run(scenario, NULL, &r);
    assert_string_equal(r.reason, "");
    assert_int_equal(r.fail_count, 0);
    assert_true(r.ok_count > 0 && r.inflight_max <= 16);
    double sum = 0;
    for (int i = 0; i < API_SERVERS; i++) {
        assert_true(r.api_tok_per_s[i] > 0);
        sum += r.api_tok_per_s[i];
    }
    assert_true(fabs(sum - r.output_tok_per_s.mean) < 0.01 * sum);
    result_free(&r);
    scenario_close(scenario);
}

/* ---- a node that dies ---- */

static struct doom {
    const char *comm;
    pid_t pid; /* 0: not yet */
} doom;

/* The last of that name: of the launchers the second node's. */
static pid_t find_below(const char *comm)
{
    struct proc_tree tree;
    pid_t pid = 0;
    assert_int_equal(proc_tree_read(getpid(), &tree, NULL), STATUS_OK);
    for (size_t i = 0; i < tree.processes_count; i++) {
        if (strcmp(tree.processes[i].comm, comm) == 0 && tree.processes[i].pid > pid) {
            pid = tree.processes[i].pid;
        }
    }
    proc_tree_free(&tree);
    return pid;
}

static void strike(void *ctx, const struct measure_progress *progress)
{
    (void)ctx;
    if (doom.pid == 0 && strcmp(progress->phase, "window") == 0 && progress->output_tok_per_s > 0) {
        doom.pid = find_below(doom.comm);
        assert_true(doom.pid > 0);
        assert_int_equal(kill(doom.pid, SIGKILL), 0);
    }
}

#define LONG "mode = closed\nusers = 16\nwarmup = 200ms\nmeasure = 60s\nbatches = 4\n"

static void assert_doomed(const char *text, const char *comm, const char *says)
{
    struct scenario *scenario = e2e_scenario(text);
    struct run_result r;
    doom = (struct doom){.comm = comm};
    run(scenario, strike, &r);
    assert_true(doom.pid > 0);
    assert_int_equal(r.outcome, RUN_SERVER_FAILED);
    bool lost = strcmp(comm, "launcher") == 0 && strstr(r.reason, "(connection lost)") != NULL;
    if (!lost && strstr(r.reason, says) == NULL) {
        fail_msg("'%s' does not say '%s'", r.reason, says);
    }
    result_free(&r);
    scenario_close(scenario);
}

static void the_death_of_a_joined_engine_ends_the_run(void **state)
{
    (void)state;
    assert_doomed(TEXT("internal", LONG), "EngineCore_DP3", "EngineCore_DP3");
    assert_doomed(TEXT("independent", LONG), "EngineCore_DP3", "EngineCore_DP3");
}

static void the_death_of_a_launcher_ends_the_run(void **state)
{
    (void)state;
    /* Who is heard first is a race: the harness that reaps it, or the other node. */
    assert_doomed(TEXT("hybrid", LONG), "launcher", "launcher (pid");
    assert_doomed(TEXT("independent", LONG), "launcher", "launcher (pid");
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(internal_nodes_serve_as_one),
        cmocka_unit_test(hybrid_nodes_serve_their_own),
        cmocka_unit_test(independent_nodes_know_nothing_of_each_other),
        cmocka_unit_test(users_are_spread_over_the_nodes),
        cmocka_unit_test(the_death_of_a_joined_engine_ends_the_run),
        cmocka_unit_test(the_death_of_a_launcher_ends_the_run),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
