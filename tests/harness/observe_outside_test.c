/*
 * observe_outside_test.c - what a run says of a server of others, from looks that are written down
 * here: two looks one second apart, CPU times of threads, pages of metrics. Expected uses and
 * verdicts follow from these numbers by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/run/observe.h"

enum {
    THREADS_MAX = 8,
    SECOND_NS = 1000000000,
};

/* A process of one thread, which uses `percent` of a core in the window and `idle_percent` before.
 */
struct part {
    const char *stage;
    const char *title;
    int32_t percent;
    int32_t idle_percent;
};

static struct foreign_thread threads[OUTSIDE_LOOKS_COUNT][THREADS_MAX];

static uint32_t stage_index(struct foreign_system *s, const char *stage)
{
    for (uint32_t i = 0; i < s->stages_count; i++) {
        if (strcmp(s->stages[i], stage) == 0) {
            return i;
        }
    }
    (void)snprintf(s->stages[s->stages_count], FOREIGN_STAGE_BYTES, "%s", stage);
    return (uint32_t)s->stages_count++;
}

static struct outside outside_of(const struct part *parts, uint32_t count)
{
    struct outside o = {.found = true};
    for (uint32_t k = 0; k < OUTSIDE_LOOKS_COUNT; k++) {
        o.taken[k] = true;
        o.looks[k] = (struct foreign_look){
            .at_ns = (int64_t)k * SECOND_NS, .threads = threads[k], .exact = true};
    }
    /* The pressure of the host grew by a quarter of the window. */
    o.looks[OUTSIDE_FROM].pressure_us = 1000000;
    o.looks[OUTSIDE_TO].pressure_us = 1250000;
    for (uint32_t i = 0; i < count; i++) {
        struct foreign_process *p = &o.system.processes[o.system.processes_count++];
        *p = (struct foreign_process){.pid = 100 + (int32_t)i,
                                      .stage = stage_index(&o.system, parts[i].stage)};
        (void)snprintf(p->title, sizeof p->title, "%s", parts[i].title);
        uint64_t cpu_ns = 0;
        for (uint32_t k = 0; k < OUTSIDE_LOOKS_COUNT; k++) {
            threads[k][i] = (struct foreign_thread){.pid = p->pid,
                                                    .tid = p->pid,
                                                    .stage = p->stage,
                                                    .cpu_ns = cpu_ns,
                                                    .voluntary_count = 100 * k,
                                                    .migrations_count = -1};
            int32_t percent = k == OUTSIDE_FROM ? parts[i].percent : parts[i].idle_percent;
            cpu_ns += (uint64_t)percent * (SECOND_NS / 100);
            o.looks[k].threads_count = count;
            o.looks[k].processes_count = count;
        }
    }
    return o;
}

static const struct run_stage *row(const struct run_result *r, const char *instance)
{
    uint32_t i = 0;
    while (i < r->stages_count && strcmp(r->stages[i].instance, instance) != 0) {
        i++;
    }
    if (i == r->stages_count) {
        fail_msg("no row of %s", instance);
    }
    return &r->stages[i];
}

static struct run_result fill(const struct outside *o)
{
    struct run_result r = {.client_cpu_frac = 0.1,
                           .token_basis = "",
                           .rank_jain = STATS_UNKNOWN,
                           .dp_imbalance_frac = STATS_UNKNOWN,
                           .prompt_tok_per_s = STATS_UNKNOWN,
                           .cpu_pressure_frac = STATS_UNKNOWN};
    observe_fill_outside(o, &r);
    return r;
}

static void a_full_api_server_is_named(void **state)
{
    (void)state;
    static const struct part parts[] = {
        {"api_server", "VLLM::APIServer_0", 95, 1},
        {"engine_core", "VLLM::EngineCore_DP0", 99, 1},
        {"coordinator", "VLLM::DPCoordinator", 2, 1},
    };
    struct outside o = outside_of(parts, 3);
    struct run_result r = fill(&o);
    const struct run_stage *api = row(&r, "VLLM::APIServer_0");
    assert_true(fabs(api->use_frac - 0.95) < 1e-9 && fabs(api->cpu_frac - 0.95) < 1e-9);
    assert_string_equal(api->quality, "good");
    assert_string_equal(api->source, "proc");
    assert_true(fabs(api->ctx_switches_per_s - 100) < 1e-6 && isnan(api->migrations_per_s));
    /* Its thread launches, and may be waiting for the GPU: that it is busy says nothing. */
    const struct run_stage *engine = row(&r, "VLLM::EngineCore_DP0");
    assert_string_equal(engine->stage, "engine_thread");
    assert_true(isnan(engine->use_frac) && fabs(engine->cpu_frac - 0.99) < 1e-9);
    assert_string_equal(engine->quality, "low: may wait by spinning");
    assert_string_equal(r.verdict.first, "api_server");
    assert_int_equal(r.verdict.kind, STAGE_NAMED);
    assert_string_equal(r.verdict.text, "api_server; not instrumented: engine_thread, gpu, ipc");
    assert_true(fabs(r.cpu_pressure_frac - 0.25) < 1e-9);
    result_free(&r);
}

static void engine_cores_below_a_full_core_are_ruled_out(void **state)
{
    (void)state;
    static const struct part parts[] = {
        {"api_server", "python3", 30, 1},
        {"engine_core", "VLLM::EngineCore_DP0", 84, 1},
        {"worker", "VLLM::Worker_TP0", 50, 99},
        {"api_server", "python3", 40, 1},
    };
    struct outside o = outside_of(parts, 4);
    struct run_result r = fill(&o);
    /* With a worker the engine core schedules only. */
    const struct run_stage *engine = row(&r, "VLLM::EngineCore_DP0");
    assert_string_equal(engine->stage, "scheduler");
    assert_true(fabs(engine->use_frac - 0.84) < 1e-9);
    /* As busy before the load: it spins. */
    const struct run_stage *worker = row(&r, "VLLM::Worker_TP0");
    assert_string_equal(worker->stage, "launch");
    assert_string_equal(worker->quality, "low: spins");
    assert_true(isnan(worker->use_frac) && fabs(worker->spin_frac - 0.99) < 1e-9);
    /* The same name twice. */
    assert_true(fabs(row(&r, "python3 100")->use_frac - 0.30) < 1e-9);
    assert_true(fabs(row(&r, "python3 103")->use_frac - 0.40) < 1e-9);
    assert_int_equal(r.verdict.kind, STAGE_UNEXPLAINED);
    assert_non_null(strstr(r.verdict.text, "not instrumented: launch, gpu, ipc"));
    result_free(&r);
}

static void take_page(struct outside *o, int which, const char *text)
{
    struct error error;
    assert_int_equal(prometheus_parse(text, strlen(text), &o->metrics[which], &error), STATUS_OK);
    o->scraped[which] = true;
}

/* 300 and 100 tokens in 2 s: Jain's index 400^2 / (2 x (300^2 + 100^2)) = 0.8. */
static void pages_tell_of_engine_cores(void **state)
{
    (void)state;
    static const struct part parts[] = {
        {"engine_core", "VLLM::EngineCore_DP1", 10, 1},
        {"engine_core", "VLLM::EngineCore_DP0", 10, 1},
    };
    struct outside o = outside_of(parts, 2);
    o.metrics_ns[1] = 2 * (int64_t)SECOND_NS;
    take_page(&o, 0,
              "vllm:generation_tokens_total{engine=\"0\"} 1000\n"
              "vllm:generation_tokens_total{engine=\"1\"} 50\nvllm:prompt_tokens_total 10\n");
    take_page(&o, 1,
              "vllm:generation_tokens_total{engine=\"0\"} 1300\n"
              "vllm:generation_tokens_total{engine=\"1\"} 150\nvllm:prompt_tokens_total 70\n");
    o.queues[1] = (struct outside_queue){.waiting_sum = 12, .waiting_max = 9, .looks_count = 4};
    struct run_result r = fill(&o);
    assert_true(fabs(r.rank_jain - 0.8) < 1e-9);
    assert_true(fabs(r.dp_imbalance_frac - (1 - 200.0 / 300)) < 1e-9);
    assert_true(fabs(r.prompt_tok_per_s - 30) < 1e-9);
    const struct run_stage *second = row(&r, "VLLM::EngineCore_DP1");
    assert_string_equal(second->source, "proc, prometheus");
    assert_true(fabs(second->queue_mean_count - 3) < 1e-9);
    assert_true(fabs(second->queue_max_count - 9) < 1e-9);
    assert_string_equal(row(&r, "VLLM::EngineCore_DP0")->source, "proc");
    assert_true(isnan(row(&r, "VLLM::EngineCore_DP0")->queue_max_count));
    result_free(&r);
    prometheus_free(&o.metrics[0]);
    prometheus_free(&o.metrics[1]);
}

/* On another machine: only the page is there. */
static void what_is_not_seen_is_not_claimed(void **state)
{
    (void)state;
    struct outside o = {.found = false};
    o.queues[0] = (struct outside_queue){.waiting_sum = 5, .waiting_max = 5, .looks_count = 5};
    struct run_result r = fill(&o);
    const struct run_stage *engine = row(&r, "engine 0");
    assert_string_equal(engine->source, "prometheus");
    assert_true(isnan(engine->use_frac) && isnan(engine->cpu_frac));
    assert_true(fabs(engine->queue_mean_count - 1) < 1e-9);
    assert_string_equal(r.verdict.first, "");
    assert_non_null(
        strstr(r.verdict.text, "not instrumented: api_server, engine_thread, gpu, ipc"));
    assert_true(isnan(r.cpu_pressure_frac) && isnan(r.rank_jain));
    result_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_api_server_is_named),
        cmocka_unit_test(engine_cores_below_a_full_core_are_ruled_out),
        cmocka_unit_test(pages_tell_of_engine_cores),
        cmocka_unit_test(what_is_not_seen_is_not_claimed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
