/*
 * Topology arithmetic against the worked examples of the documentation: T = 2, D = 4 makes 17
 * processes with A = D, T = 4 at D = 1 makes 6, to each of which comes one launcher.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/ledger/topology.h"

static struct topology shape(uint32_t a, uint32_t d, uint32_t tp, uint32_t pp)
{
    return (struct topology){
        .api_servers_count = a, .engines_count = d, .tp = tp, .pp = pp, .executor = EXECUTOR_AUTO};
}

static void documented_examples_hold(void **state)
{
    (void)state;
    struct topology t = shape(4, 4, 2, 1);
    assert_int_equal(topology_processes(&t), 17 + 1);
    assert_int_equal(topology_gpus(&t), 8);
    assert_int_equal(topology_launching_threads(&t), 8);
    t = shape(1, 1, 4, 1);
    assert_int_equal(topology_processes(&t), 6 + 1);
    t = shape(8, 8, 1, 1);
    assert_int_equal(topology_processes(&t), 8 + 8 + 8 + 1 + 1);
}

static void one_engine_core_with_one_gpu_needs_no_worker(void **state)
{
    (void)state;
    struct topology t = shape(1, 1, 1, 1);
    assert_int_equal(topology_workers_per_engine(&t), 0);
    assert_int_equal(topology_processes(&t), 3);
    assert_int_equal(topology_launching_threads(&t), 1);
    assert_int_equal(topology_gpus(&t), 1);
}

static void a_setting_forces_either_executor(void **state)
{
    (void)state;
    struct topology t = shape(1, 1, 1, 1);
    t.executor = EXECUTOR_MULTIPROC;
    assert_int_equal(topology_workers_per_engine(&t), 1);
    assert_int_equal(topology_processes(&t), 4);
    t = shape(2, 4, 1, 1);
    assert_int_equal(topology_workers_per_engine(&t), 1);
    t.executor = EXECUTOR_UNIPROC;
    assert_int_equal(topology_workers_per_engine(&t), 0);
    assert_int_equal(topology_processes(&t), 1 + 2 + 4 + 1);
    assert_int_equal(topology_launching_threads(&t), 4);
    t.tp = 2;
    assert_int_equal(topology_workers_per_engine(&t), 2);
}

static void engine_cores_may_share_gpus(void **state)
{
    (void)state;
    struct topology t = shape(1, 10, 2, 1);
    t.engines_per_gpu = 4; /* not with GPUs of their own */
    assert_int_equal(topology_gpus(&t), 20);
    t.gpu_sharing = GPU_TIME_SLICED;
    assert_int_equal(topology_engines_per_gpu(&t), 4);
    assert_int_equal(topology_gpus(&t), 3 * 2);
    assert_int_equal(topology_launching_threads(&t), 20);
    assert_int_equal(topology_processes(&t), 1 + 1 + 10 * 3 + 1);
    assert_int_equal(topology_gpu_of(&t, 3, 1), 1);
    assert_int_equal(topology_gpu_of(&t, 4, 0), 2);
    assert_int_equal(topology_gpu_of(&t, 9, 1), 5);
    t.engines_per_gpu = 0;
    assert_int_equal(topology_engines_per_gpu(&t), 1);
}

/* 6 engine cores and 3 API servers on 3 nodes. */
static void nodes_share_a_group_or_are_groups(void **state)
{
    (void)state;
    struct topology t = shape(3, 6, 1, 1);
    assert_false(topology_spans_nodes(&t));
    t.nodes_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        t.nodes[i] = (struct topology_node){.engines_first = 2 * i, .engines_count = 2};
    }
    assert_int_equal(topology_node(&t, 2).engines_first, 4);
    assert_true(topology_spans_nodes(&t));
    assert_int_equal(topology_data_parallel_size(&t), 6);
    assert_int_equal(topology_processes(&t), 3 + 3 + 6 * 2 + 1);
    t.balancing = BALANCING_INDEPENDENT;
    assert_false(topology_spans_nodes(&t));
    assert_int_equal(topology_data_parallel_size(&t), 2);
    assert_int_equal(topology_processes(&t), 3 + 3 + 6 * 2 + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented_examples_hold),
        cmocka_unit_test(one_engine_core_with_one_gpu_needs_no_worker),
        cmocka_unit_test(a_setting_forces_either_executor),
        cmocka_unit_test(engine_cores_may_share_gpus),
        cmocka_unit_test(nodes_share_a_group_or_are_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
