/*
 * device_test.c - the emulated device: launches of each kind of step, booked device time against
 * the roofline, tokens against their distribution and their independence of batching, the memory
 * plan against numbers worked out by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/device/cost.h"
#include "engine/device/device.h"
#include "engine/device/gpu_shared.h"

enum {
    SLOTS = 600,
    EOS = 257
};

struct fixture {
    struct topology topology;
    struct ledger_thread thread;
    struct device device;
    struct step_seq seqs[SLOTS];
};

static struct topology topology_of(const char *model, const char *gpu)
{
    struct topology t = {
        .engines_count = 1,
        .tp = 1,
        .pp = 1,
        .queue_depth = 1024,
        .block_tokens = 16,
        .async_depth = 2,
    };
    (void)snprintf(t.model, sizeof t.model, "%s", model);
    (void)snprintf(t.gpu, sizeof t.gpu, "%s", gpu);
    return t;
}

static void open_device(struct fixture *f, uint32_t worker)
{
    struct device_options options = {
        .topology = &f->topology,
        .worker = worker,
        .requests_max = SLOTS,
        .thread = &f->thread,
    };
    f->thread = (struct ledger_thread){0};
    assert_int_equal(device_open(&options, &f->device, NULL), STATUS_OK);
}

static struct step_plan plan_of(struct fixture *f, uint64_t step, uint32_t seqs, uint32_t tokens)
{
    for (uint32_t i = 0; i < seqs; i++) {
        f->seqs[i] = (struct step_seq){
            .slot = i,
            .computed_tokens = tokens == 1 ? 127 : 0,
            .scheduled_tokens = tokens,
            .flags = STEP_SEQ_SAMPLES | STEP_SEQ_IGNORE_EOS,
            .sample_key = 1000 + i,
            .position = (uint32_t)step,
        };
    }
    return (struct step_plan){
        .step = step, .seqs = f->seqs, .seqs_count = seqs, .tokens_count = seqs * tokens};
}

/* Submits and waits; gives the device time that was booked, in ns. */
static uint64_t run_step(struct fixture *f, const struct step_plan *plan,
                         struct device_result *result)
{
    uint64_t before = f->thread.gpu_busy_ns;
    assert_int_equal(device_submit(&f->device, plan, NULL), STATUS_OK);
    device_wait(&f->device, plan->step, result);
    assert_true(device_poll(&f->device, plan->step));
    assert_int_equal(result->step.step, plan->step);
    return f->thread.gpu_busy_ns - before;
}

static uint64_t roofline_ns(const struct fixture *f, const struct step_plan *plan)
{
    struct step_load load = {0};
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        step_load_add(&load, plan->seqs[i].computed_tokens, plan->seqs[i].scheduled_tokens, true);
    }
    return (uint64_t)ns_from_ps(cost_step(gpu_shape_find(f->topology.gpu),
                                          model_shape_find(f->topology.model), f->topology.tp,
                                          &load));
}

static void assert_launches(const struct fixture *f, uint64_t kernels, uint64_t graphs,
                            uint64_t copies)
{
    assert_int_equal(f->thread.launches_count[LAUNCH_CLASS_KERNEL], kernels);
    assert_int_equal(f->thread.launches_count[LAUNCH_CLASS_GRAPH], graphs);
    assert_int_equal(f->thread.launches_count[LAUNCH_CLASS_COPY], copies);
}

static void steps_launch_what_the_mode_says(void **state)
{
    (void)state;
    struct fixture f = {.topology = topology_of("llama-3.2-1b", "h100")};
    struct device_result result;
    open_device(&f, 0);
    struct step_plan plan = plan_of(&f, 1, 8, 1);
    (void)run_step(&f, &plan, &result);
    assert_launches(&f, 0, 1, 1);
    plan = plan_of(&f, 2, 8, 16); /* prefill: eager */
    (void)run_step(&f, &plan, &result);
    assert_launches(&f, 164, 1, 2);
    plan = plan_of(&f, 3, 8, 1);
    f.seqs[7].scheduled_tokens = 2; /* mixed: eager */
    plan.tokens_count = 9;
    (void)run_step(&f, &plan, &result);
    assert_launches(&f, 2 * 164, 1, 3);
    plan = plan_of(&f, 4, 512, 1);
    (void)run_step(&f, &plan, &result);
    assert_launches(&f, 2 * 164, 2, 4);
    plan = plan_of(&f, 5, 513, 1); /* above the largest graph */
    (void)run_step(&f, &plan, &result);
    assert_launches(&f, 3 * 164, 2, 5);
    plan = (struct step_plan){.step = 6}; /* only brings finished slots */
    assert_int_equal(run_step(&f, &plan, &result), 0);
    assert_int_equal(result.step.tokens_count, 0);
    assert_launches(&f, 3 * 164, 2, 5);
    device_close(&f.device);

    f.topology.launch = LAUNCH_EAGER;
    open_device(&f, 0);
    plan = plan_of(&f, 1, 8, 1);
    (void)run_step(&f, &plan, &result);
    assert_launches(&f, 164, 0, 1);
    device_close(&f.device);
}

static void booked_time_is_the_roofline(void **state)
{
    (void)state;
    static const struct {
        uint32_t seqs;
        uint32_t tokens;
    } batches[] = {{1, 1}, {40, 1}, {1, 500}, {4, 33}};
    for (uint32_t launch = LAUNCH_GRAPH; launch <= LAUNCH_EAGER; launch++) {
        struct fixture f = {.topology = topology_of("llama-3.1-8b", "h100")};
        f.topology.launch = launch;
        open_device(&f, 0);
        for (uint32_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
            struct step_plan plan = plan_of(&f, i + 1, batches[i].seqs, batches[i].tokens);
            struct device_result result;
            uint64_t busy_ns = run_step(&f, &plan, &result);
            uint64_t want_ns = roofline_ns(&f, &plan);
            /* The copy adds at most 0.2 us: 6.4 KB at 50 GB/s. */
            assert_in_range(busy_ns, want_ns, want_ns + 200);
            assert_true(result.done_ns - result.started_ns >= (int64_t)want_ns);
            assert_true(clock_now_ns() >= result.done_ns);
        }
        device_close(&f.device);
    }
}

static void launch_bound_host_starves_the_device(void **state)
{
    (void)state;
    struct device_result result;
    struct fixture f = {.topology = topology_of("qwen2.5-0.5b", "h100")};
    f.topology.launch = LAUNCH_EAGER;
    f.topology.launch_extra_ns = 100000; /* 244 x 102 us of host against 0.65 ms of GPU */
    open_device(&f, 0);
    struct step_plan plan = plan_of(&f, 1, 1, 1);
    (void)run_step(&f, &plan, &result);
    assert_true(f.thread.gpu_idle_ns > 5 * f.thread.gpu_busy_ns);
    device_close(&f.device);
    /* The same launch cost once a graph: the step is one launch. */
    f.topology.launch = LAUNCH_GRAPH;
    open_device(&f, 0);
    plan = plan_of(&f, 1, 1, 1);
    (void)run_step(&f, &plan, &result);
    int64_t step_ns = result.done_ns - result.started_ns;
    assert_true(step_ns < 244 * 100000);
    device_close(&f.device);
}

static void steps_queue_up_behind_each_other(void **state)
{
    (void)state;
    struct fixture f = {.topology = topology_of("llama-3.1-8b", "h100")};
    struct device_result results[DEVICE_STEPS_IN_FLIGHT_MAX];
    open_device(&f, 0);
    for (uint64_t step = 1; step <= DEVICE_STEPS_IN_FLIGHT_MAX; step++) {
        struct step_plan plan = plan_of(&f, step, 1, 1);
        assert_int_equal(device_submit(&f.device, &plan, NULL), STATUS_OK);
    }
    for (uint64_t step = 1; step <= DEVICE_STEPS_IN_FLIGHT_MAX; step++) {
        device_wait(&f.device, step, &results[step - 1]);
        assert_int_equal(results[step - 1].step.tokens[0],
                         device_emulated_token(1000, (uint32_t)step, true));
        if (step > 1) {
            assert_true(results[step - 1].started_ns >= results[step - 2].done_ns - 1);
        }
    }
    device_close(&f.device);
}

static void tokens_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    struct fixture f = {.topology = topology_of("qwen2.5-0.5b", "h100")};
    struct device_result both;
    struct device_result one;
    open_device(&f, 0);
    struct step_plan plan = plan_of(&f, 1, 3, 1);
    f.seqs[1].flags = 0; /* a chunk that samples nothing */
    (void)run_step(&f, &plan, &both);
    assert_int_equal(both.step.tokens_count, 2);
    uint32_t last = both.step.tokens[1];
    assert_int_equal(both.step.tokens[0], device_emulated_token(1000, 1, true));
    plan = plan_of(&f, 2, 1, 1);
    f.seqs[0].sample_key = 1002;
    f.seqs[0].position = 1;
    (void)run_step(&f, &plan, &one);
    assert_int_equal(one.step.tokens[0], last);
    device_close(&f.device);
}

static void token_distribution(void **state)
{
    (void)state;
    uint32_t seen[128] = {0};
    for (uint32_t i = 0; i < 95000; i++) {
        uint32_t token = device_emulated_token(7, i, true);
        assert_in_range(token, 32, 126);
        seen[token]++;
    }
    for (uint32_t c = 32; c <= 126; c++) {
        assert_in_range(seen[c], 840, 1160); /* 1,000 each, five standard deviations */
    }
    uint64_t total = 0;
    uint32_t longest = 0;
    for (uint64_t key = 0; key < 4000; key++) {
        uint32_t length = 1;
        while (device_emulated_token(key, length - 1, false) != EOS) {
            length++;
        }
        total += length;
        longest = length > longest ? length : longest;
        /* Whether it may end does not change what it says before. */
        assert_true(length < 3 ||
                    device_emulated_token(key, 1, false) == device_emulated_token(key, 1, true));
    }
    assert_in_range(total, 4000 * 186, 4000 * 214); /* mean 200, standard error 3 */
    assert_int_equal(longest, 1000);
}

static void memory_plan_matches_hand_computation(void **state)
{
    (void)state;
    struct error error;
    uint32_t blocks = 0;
    struct topology t = topology_of("llama-3.1-8b", "h100");
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, (72000000000 - 16060522496) / (131072 * 16));
    t.num_gpu_blocks = 1000;
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, 1000);
    t.num_gpu_blocks = 30000;
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "30000"));
    assert_non_null(strstr(error.text, "26674"));

    t = topology_of("llama-3.1-70b", "h100");
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "141.1 GB"));
    assert_non_null(strstr(error.text, "72.0 GB"));
    t.tp = 4;
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, (72000000000 - 35276853248) / (327680 / 4 * 16));
    t.tp = 16; /* more ranks than the 8 KV heads: heads are repeated */
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, (72000000000 - 8819213312) / (327680 / 8 * 16));
    assert_int_equal(blocks, 96406);

    t = topology_of("llama-9", "h100");
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "llama-9"));
    t = topology_of("llama-3.1-8b", "tpu");
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "tpu"));
}

static void shared_memory_is_divided(void **state)
{
    (void)state;
    struct error error;
    uint32_t blocks = 0;
    struct topology t = topology_of("qwen2.5-0.5b", "h100");
    t.engines_count = 10;
    t.engines_per_gpu = 10; /* means nothing with GPUs of their own */
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, (72000000000 - 988065536) / (12288 * 16));
    t.gpu_sharing = GPU_SIDE_BY_SIDE; /* each a tenth, with weights of its own */
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, (7200000000 - 988065536) / (12288 * 16));
    t = topology_of("llama-3.1-8b", "h100");
    t.gpu_sharing = GPU_TIME_SLICED;
    t.engines_per_gpu = 5;
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "16.1 GB"));
    assert_non_null(strstr(error.text, "14.4 GB"));
    assert_non_null(strstr(error.text, "for 5 engine cores"));

    /* Experts are divided over the data-parallel ranks: 28.99 of 30.53 G parameters. */
    t = topology_of("qwen3-30b-a3b", "h100");
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, (72000000000 - 61064245248) / (98304 * 16));
    t.engines_count = 8;
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, &error), STATUS_OK);
    assert_int_equal(blocks, (72000000000 - (61064245248 - 57982058496 / 8 * 7)) / (98304 * 16));
}

static void devices_on_one_gpu_slow_each_other_down(void **state)
{
    (void)state;
    struct fixture f = {.topology = topology_of("llama-3.2-1b", "h100")};
    struct fixture g;
    struct gpu_shared shared;
    f.topology.engines_count = 2;
    f.topology.gpu_sharing = GPU_TIME_SLICED;
    f.topology.engines_per_gpu = 2;
    g = f;
    struct gpu_share_options share = gpu_shared_options(&f.topology);
    assert_int_equal(gpu_shared_create(&share, &shared, NULL), STATUS_OK);
    struct device_options options = {
        .topology = &f.topology, .requests_max = SLOTS, .thread = &f.thread, .gpu_shared = &shared};
    assert_int_equal(device_open(&options, &f.device, NULL), STATUS_OK);
    options.topology = &g.topology;
    options.thread = &g.thread;
    options.rank = 1;
    assert_int_equal(device_open(&options, &g.device, NULL), STATUS_OK);
    struct device_result first;
    struct device_result second;
    struct step_plan plan = plan_of(&f, 1, 1, 1);
    struct step_plan other = plan_of(&g, 1, 1, 1);
    assert_int_equal(device_submit(&f.device, &plan, NULL), STATUS_OK);
    assert_int_equal(device_submit(&g.device, &other, NULL), STATUS_OK);
    device_wait(&f.device, 1, &first);
    device_wait(&g.device, 1, &second);
    assert_int_equal(first.step.tokens[0], second.step.tokens[0]);
    /* One after the other, and a switch between. */
    uint64_t step_ns = roofline_ns(&f, &plan);
    assert_true(second.done_ns - first.started_ns >= (int64_t)(2 * step_ns + 100000));
    device_close(&f.device);
    device_close(&g.device);
    gpu_shared_close(&shared);
}

static void lock_step_pads_and_runs_dummies(void **state)
{
    (void)state;
    struct device_result result;
    struct fixture f = {.topology = topology_of("qwen3-30b-a3b", "h100")};
    f.topology.engines_count = 4;
    open_device(&f, 0);
    struct step_plan plan = plan_of(&f, 1, 1, 1);
    uint64_t one_ns = run_step(&f, &plan, &result);
    struct device_lockstep agreed = {.tokens = 32, .graphs = true};
    device_lockstep(&f.device, &agreed);
    plan = plan_of(&f, 2, 1, 1);
    uint64_t padded_ns = run_step(&f, &plan, &result);
    assert_int_equal(result.step.tokens_count, 1);
    assert_true(padded_ns > one_ns + one_ns / 4); /* reaches more experts */
    assert_launches(&f, 0, 2, 2);
    /* A dummy batch among three ranks of 10 tokens, eager because one of them must be. */
    agreed = (struct device_lockstep){.tokens = 1, .all_tokens = 31, .graphs = false};
    device_lockstep(&f.device, &agreed);
    plan = (struct step_plan){.step = 3};
    uint64_t dummy_ns = run_step(&f, &plan, &result);
    assert_int_equal(result.step.tokens_count, 0);
    assert_launches(&f, 14 * 48 + 4, 2, 3);
    assert_true(dummy_ns > one_ns && dummy_ns < padded_ns);
    /* Each agreement counts once. */
    plan = plan_of(&f, 4, 1, 1);
    assert_in_range(run_step(&f, &plan, &result), one_ns - 1, one_ns + 1);
    assert_launches(&f, 14 * 48 + 4, 3, 4);
    device_close(&f.device);
}

static void bad_plans_are_refused(void **state)
{
    (void)state;
    struct error error;
    struct fixture f = {.topology = topology_of("qwen2.5-0.5b", "h100")};
    open_device(&f, 0);
    struct step_plan plan = plan_of(&f, 1, 1, 1);
    f.seqs[0].slot = SLOTS;
    assert_int_equal(device_submit(&f.device, &plan, &error), STATUS_INVALID);
    plan.seqs_count = SLOTS + 1;
    assert_int_equal(device_submit(&f.device, &plan, &error), STATUS_INVALID);
    assert_launches(&f, 0, 0, 0);
    device_close(&f.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_launch_what_the_mode_says),
        cmocka_unit_test(booked_time_is_the_roofline),
        cmocka_unit_test(launch_bound_host_starves_the_device),
        cmocka_unit_test(steps_queue_up_behind_each_other),
        cmocka_unit_test(tokens_do_not_depend_on_the_batch),
        cmocka_unit_test(token_distribution),
        cmocka_unit_test(memory_plan_matches_hand_computation),
        cmocka_unit_test(shared_memory_is_divided),
        cmocka_unit_test(devices_on_one_gpu_slow_each_other_down),
        cmocka_unit_test(lock_step_pads_and_runs_dummies),
        cmocka_unit_test(bad_plans_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
