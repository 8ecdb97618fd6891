/*
 * nodes_test.c - which node has which ranks and API servers: scenarios that are divided evenly, and
 * what vLLM's flags say on each machine of a cluster. The oracle is the rule itself, by counting:
 * every rank and every API server belongs to one node.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/cluster.h"
#include "harness/run/system.h"
#include "helper_scenario.h"

static struct scenario_problems problems;

/* ---- scenarios ---- */

static struct topology read_topology(uint32_t servers, uint32_t engines, uint32_t nodes,
                                     const char *balancing)
{
    char text[512];
    struct scenario *scenario = NULL;
    (void)snprintf(text, sizeof text,
                   "[scenario]\nname = t\n[server s]\ntopology = api_servers=%u dp=%u\n"
                   "nodes = %u\nbalancing = %s\n[workload w]\n[load l]\nusers = 1\nmeasure = 1s\n",
                   servers, engines, nodes, balancing);
    if (memory_open(text, NULL, &scenario, &problems) != STATUS_OK) {
        fail_msg("%s", problems.text[0]);
    }
    struct topology t = scenario->cells[0].topology;
    scenario_close(scenario);
    return t;
}

/* How many nodes say that they have number i. */
static uint32_t owners(const struct topology *t, uint32_t i, bool of_engines)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < t->nodes_count; k++) {
        const struct topology_node *n = &t->nodes[k];
        uint32_t first = of_engines ? n->engines_first : n->api_servers_first;
        uint32_t many = of_engines ? n->engines_count : n->api_servers_count;
        count += i >= first && i < first + many;
    }
    return count;
}

static void assert_divided(const struct topology *t)
{
    for (uint32_t i = 0; i < t->engines_count + 3; i++) {
        assert_int_equal(owners(t, i, true), i < t->engines_count ? 1 : 0);
    }
    for (uint32_t i = 0; i < t->api_servers_count + 3; i++) {
        assert_int_equal(owners(t, i, false), i < t->api_servers_count ? 1 : 0);
    }
}

static void a_scenario_is_divided_evenly(void **state)
{
    static const char *const names[] = {"internal", "hybrid", "independent"};
    (void)state;
    for (uint32_t n = 2; n <= TOPOLOGY_NODES_MAX; n++) {
        for (uint32_t b = 0; b < 3; b++) {
            struct topology t = read_topology(b == 0 ? 3 : 2 * n, 4 * n, n, names[b]);
            assert_int_equal(t.nodes_count, n);
            assert_int_equal(t.balancing, b);
            assert_divided(&t);
            for (uint32_t k = 0; k < n; k++) {
                assert_int_equal(t.nodes[k].engines_count, 4);
                assert_int_equal(t.nodes[k].api_servers_count, b > 0 ? 2 : k == 0 ? 3 : 0);
            }
            assert_int_equal(topology_data_parallel_size(&t), b == 2 ? 4 : 4 * n);
        }
    }
}

static void one_node_is_no_node(void **state)
{
    (void)state;
    struct topology t = read_topology(2, 4, 1, "independent");
    assert_int_equal(t.nodes_count, 0);
    assert_int_equal(t.balancing, BALANCING_INTERNAL);
    assert_int_equal(topology_processes(&t), 1 + 2 + 4 * 2 + 1);
}

static void cells_say_their_nodes(void **state)
{
    static const char text[] =
        "[scenario]\nname = t\nrepeats = 1\n[server s]\ntopology = api_servers=4 dp=4\n"
        "nodes = %{nodes}\nbalancing = %{balancing}\n[workload w]\n[load l]\nusers = 8\n"
        "measure = 1s\n[sweep]\naxis.nodes = 1,4\naxis.balancing = internal,independent\n";
    struct scenario *scenario = NULL;
    char *out = NULL;
    size_t bytes = 0;
    (void)state;
    assert_int_equal(memory_open(text, NULL, &scenario, &problems), STATUS_OK);
    FILE *file = open_memstream(&out, &bytes);
    assert_non_null(file);
    scenario_write_cells(scenario, file);
    (void)fclose(file);
    assert_non_null(
        strstr(out, "nodes=1,balancing=internal     s: api_servers=4 dp=4 tp=1 pp=1  "));
    assert_non_null(strstr(out, "tp=1 pp=1 on 4 internal nodes  l: 8 users"));
    assert_non_null(strstr(out, "tp=1 pp=1 on 4 independent nodes  l: 8 users"));
    free(out);
    char *again = scenario_text(scenario);
    assert_non_null(strstr(again, "nodes = %{nodes}"));
    assert_non_null(strstr(again, "balancing = %{balancing}"));
    free(again);
    scenario_close(scenario);
}

/* ---- flags ---- */

static struct cluster_options head_of(int32_t local)
{
    return (struct cluster_options){.size_local = local,
                                    .start_rank = CLUSTER_NOT_GIVEN,
                                    .address = "10.0.0.1",
                                    .rpc_port = CLUSTER_RPC_PORT};
}

static struct cluster_options node_of(int32_t local, int32_t first)
{
    struct cluster_options o = head_of(local);
    o.start_rank = first;
    o.headless = true;
    return o;
}

static struct topology whole(uint32_t servers, uint32_t engines)
{
    return (struct topology){.api_servers_count = servers,
                             .engines_count = engines,
                             .tp = 1,
                             .pp = 1,
                             .listen_port = 8000};
}

static uint32_t apply(const struct cluster_options *o, struct topology *t)
{
    uint32_t which = UINT32_MAX;
    struct error error = {.text = ""};
    enum status status = cluster_apply(o, t, &which, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, STATUS_OK);
    return which;
}

static void one_machine_needs_no_nodes(void **state)
{
    (void)state;
    struct cluster_options options[] = {head_of(CLUSTER_NOT_GIVEN), head_of(4), head_of(4)};
    options[2].hybrid = true; /* vLLM: then the flag is without effect */
    for (int i = 0; i < 3; i++) {
        struct topology t = whole(2, 4);
        assert_int_equal(apply(&options[i], &t), SYSTEM_ALL_NODES);
        assert_int_equal(t.nodes_count, 0);
    }
}

/* A head with 1 of 4 ranks, and two machines that join it with 1 and 2. */
static void internal_balancing_has_one_head(void **state)
{
    (void)state;
    struct cluster_options o = head_of(1);
    struct topology t = whole(3, 4);
    assert_int_equal(apply(&o, &t), SYSTEM_ONLY_HEAD);
    assert_int_equal(t.nodes_count, 2);
    assert_int_equal(t.balancing, BALANCING_INTERNAL);
    assert_int_equal(t.handshake_port, 29550);
    assert_string_equal(t.nodes[0].host, "10.0.0.1");
    assert_int_equal(t.nodes[0].listen_port, 8000);
    assert_int_equal(t.nodes[0].engines_count, 1);
    assert_int_equal(t.nodes[0].api_servers_count, 3);
    assert_divided(&t);
    for (int32_t first = 1; first < 3; first++) {
        o = node_of(first, first);
        t = whole(1, 4);
        assert_int_equal(apply(&o, &t), SYSTEM_ONLY_JOINING);
        assert_int_equal(t.nodes[1].engines_first, first);
        assert_int_equal(t.nodes[1].engines_count, first);
        assert_int_equal(t.nodes[1].api_servers_count, 0);
        assert_string_equal(t.nodes[0].host, "10.0.0.1");
        assert_int_equal(t.engines_count, 4);
    }
}

static void a_head_may_have_api_servers_only(void **state)
{
    (void)state;
    struct cluster_options o = head_of(0);
    struct topology t = whole(2, 4);
    assert_int_equal(apply(&o, &t), SYSTEM_ONLY_HEAD);
    assert_int_equal(t.nodes[0].engines_count, 0);
    assert_divided(&t);
}

/* Three machines with 2 ranks and 3 API servers each: every number stands once among what they
 * start. */
static void hybrid_nodes_number_through(void **state)
{
    uint32_t ranks[9] = {0};
    uint32_t servers[9] = {0};
    (void)state;
    for (int32_t k = 0; k < 3; k++) {
        struct cluster_options o = head_of(2);
        struct topology t = whole(3, 6);
        o.hybrid = k != 1; /* a start rank means it too */
        o.start_rank = k == 0 ? CLUSTER_NOT_GIVEN : 2 * k;
        uint32_t which = apply(&o, &t);
        assert_int_equal(which, k == 0 ? SYSTEM_ONLY_HEAD : SYSTEM_ONLY_JOINING);
        assert_int_equal(t.balancing, BALANCING_HYBRID);
        assert_int_equal(t.api_servers_count, 9);
        const struct topology_node *here = &t.nodes[k == 0 ? 0 : 1];
        assert_int_equal(here->listen_port, 8000);
        assert_int_equal(here->engines_count, 2);
        assert_int_equal(here->api_servers_count, 3);
        for (uint32_t i = 0; i < 2; i++) {
            ranks[here->engines_first + i]++;
        }
        for (uint32_t i = 0; i < 3; i++) {
            servers[here->api_servers_first + i]++;
        }
    }
    for (int i = 0; i < 9; i++) {
        assert_true(i >= 6 || ranks[i] == 1);
        assert_int_equal(servers[i], 1);
    }
}

struct refusal {
    struct cluster_options options;
    uint32_t servers;
    uint32_t engines;
    const char *says;
};

static void flags_that_do_not_fit_are_named(void **state)
{
    const struct refusal rows[] = {
        {head_of(5), 1, 4, "--data-parallel-size-local: 5 is more than --data-parallel-size, 4"},
        {node_of(2, 3), 1, 4, "--data-parallel-start-rank: ranks 3 to 4, but --data-parallel-size"},
        {node_of(2, CLUSTER_NOT_GIVEN), 1, 4, "--data-parallel-start-rank is missing"},
        {node_of(0, 2), 1, 4, "only the head of internal balancing"},
        {{.size_local = 2, .start_rank = 2, .headless = true, .hybrid = true},
         1,
         4,
         "a headless node has no API servers to balance"},
        {{.size_local = 2, .start_rank = 1}, 1, 4, "all nodes are alike"},
        {{.size_local = 3, .start_rank = 0}, 1, 4, "all nodes are alike"},
        {{.size_local = 1, .start_rank = 0}, 17, 4, "--api-server-count: 17 on each of 4 nodes"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct topology t = whole(rows[i].servers, rows[i].engines);
        struct error error = {.text = ""};
        uint32_t which = 0;
        assert_int_equal(cluster_apply(&rows[i].options, &t, &which, &error), STATUS_INVALID);
        if (strstr(error.text, rows[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", error.text, rows[i].says);
        }
    }
    struct topology t = read_topology(2, 4, 2, "hybrid");
    struct cluster_options o = head_of(2);
    struct error error = {.text = ""};
    uint32_t which = 0;
    assert_int_equal(cluster_apply(&o, &t, &which, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "nodes of its own"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scenario_is_divided_evenly),
        cmocka_unit_test(one_node_is_no_node),
        cmocka_unit_test(cells_say_their_nodes),
        cmocka_unit_test(one_machine_needs_no_nodes),
        cmocka_unit_test(internal_balancing_has_one_head),
        cmocka_unit_test(a_head_may_have_api_servers_only),
        cmocka_unit_test(hybrid_nodes_number_through),
        cmocka_unit_test(flags_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
