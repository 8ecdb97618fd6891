/*
 * observe_test.c - what follows from two looks at a ledger and from the client's region, both
 * written by the test: steps a token, whose thread waits for results, and which latencies a closed
 * loop has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "harness/run/observe.h"

static void close_to(double got, double want, double frac)
{
    if (!(fabs(got - want) <= frac * (1e-9 + fabs(want)))) {
        fail_msg("got %.12g, want %.12g", got, want);
    }
}

/* Two ranks of two workers. Threads come up in no order. */
static void threads_are_put_together(void **state)
{
    static const struct scenario_cell cell;
    static const struct {
        enum ledger_thread_kind kind;
        uint32_t instance;
        uint32_t sub;
    } threads[] = {
        {THREAD_WORKER_MAIN, 1, 1},   {THREAD_ENGINE_MAIN, 1, 0},   {THREAD_WORKER_OUTPUT, 0, 1},
        {THREAD_WORKER_MAIN, 0, 1},   {THREAD_WORKER_OUTPUT, 1, 1}, {THREAD_WORKER_MAIN, 1, 0},
        {THREAD_WORKER_OUTPUT, 1, 0}, {THREAD_ENGINE_MAIN, 0, 0},   {THREAD_WORKER_MAIN, 0, 0},
    };
    enum {
        COUNT = sizeof threads / sizeof threads[0]
    };
    const struct topology t = {
        .api_servers_count = 1, .engines_count = 2, .tp = 2, .pp = 1, .lockstep = 1};
    struct ledger l;
    struct ledger_thread *slots[COUNT];
    struct observation a = {.taken = true};
    struct observation b = {.taken = true};
    struct run_result r = {.cell = &cell, .token_basis = ""};
    (void)state;
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        slots[i] = ledger_thread_claim(&l, threads[i].kind, threads[i].instance, threads[i].sub);
    }
    assert_int_equal(probe_snapshot(&l, &a.ledger, NULL), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        if (threads[i].kind == THREAD_WORKER_OUTPUT) { /* 0.1 s, 0.2 s, ... of 1 s */
            uint64_t tenths = 1 + threads[i].instance * 2 + threads[i].sub;
            ledger_add(&slots[i]->sync_wait_ns, tenths * 100000000);
        }
        if (threads[i].kind == THREAD_ENGINE_MAIN) { /* one rank works, one keeps it company */
            ledger_add(&slots[i]->steps_count, threads[i].instance == 0 ? 100 : 0);
            ledger_add(&slots[i]->dummy_steps_count, threads[i].instance == 0 ? 0 : 100);
            ledger_add(&slots[i]->output_tokens, threads[i].instance == 0 ? 50 : 0);
        }
    }
    ledger_add(&slots[0]->gpu_idle_absent_ns, 250000000);
    assert_int_equal(probe_snapshot(&l, &b.ledger, NULL), STATUS_OK);
    b.ledger.at_ns = a.ledger.at_ns + 1000000000;
    observe_fill(&a, &b, &t, &r);
    assert_int_equal(r.launchers_count, 4);
    for (uint32_t i = 0; i < 4; i++) { /* in the order of ranks and workers */
        assert_int_equal(r.launchers[i].instance, i / 2);
        assert_int_equal(r.launchers[i].sub, i % 2);
    }
    assert_true(isnan(r.launchers[0].output_wait_frac)); /* it has no such thread */
    for (uint32_t i = 1; i < 4; i++) {
        close_to(r.launchers[i].output_wait_frac, 0.1 * (i + 1), 1e-6);
    }
    close_to(r.launchers[3].gpu_absent_frac, 0.25, 1e-6);
    assert_int_equal(r.engines[0].instance, 0);
    close_to(r.rank_steps_per_tok, 4, 1e-6); /* 200 steps, 50 tokens */
    close_to(r.dp_sync_frac, 0.5, 1e-6);
    probe_snapshot_free(&a.ledger);
    probe_snapshot_free(&b.ledger);
    result_free(&r);
    ledger_close(&l);
}

static const struct run_stage *row(const struct run_result *r, const char *instance)
{
    uint32_t i = 0;
    while (i < r->stages_count && strcmp(r->stages[i].instance, instance) != 0) {
        i++;
    }
    if (i == r->stages_count) {
        fail_msg("no row '%s'", instance);
    }
    return &r->stages[i];
}

struct engine_threads {
    struct ledger_thread *main;
    struct ledger_thread *input;
    struct ledger_thread *output;
};

/* What one engine core's threads do in a second: 0.5, 0.05 and 0.4 of it are booked, under a lock
 * or each on its own. */
static void work_a_second(const struct engine_threads *e, bool locked)
{
    struct ledger_thread *threads[] = {e->main, e->input, e->output};
    static const uint64_t booked_ns[] = {500000000, 50000000, 400000000};
    static const uint64_t waited_ns[] = {300000000, 20000000, 500000000};
    for (int i = 0; i < 3; i++) {
        ledger_add(&threads[i]->occupancy_ns, booked_ns[i]);
        ledger_add(&threads[i]->cpu_ns, 10000000);
        ledger_add(&threads[i]->busy_ns, booked_ns[i] + (locked ? waited_ns[i] : 0));
        ledger_add(&threads[i]->lock_held_ns, locked ? booked_ns[i] : 0);
        ledger_add(&threads[i]->lock_wait_ns, locked ? waited_ns[i] : 0);
    }
    ledger_add(&e->main->output_tokens, 1000);
    ledger_add(&e->main->finished_count, 10);
    ledger_add(&e->main->queue_length_ns, 2500000000);
    ledger_set(&e->main->queue_max, 7);
}

static struct run_result observe_engines(bool locked, enum wait_mode wait)
{
    static const struct scenario_cell cell;
    const struct topology t = {.api_servers_count = 1,
                               .engines_count = 2,
                               .tp = 1,
                               .pp = 1,
                               .wait = (uint32_t)wait,
                               .interpreter_lock = locked};
    struct ledger l;
    struct engine_threads engines[2];
    struct observation a = {.taken = true};
    struct observation b = {.taken = true};
    struct run_result r = {.cell = &cell, .token_basis = ""};
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    for (uint32_t i = 0; i < 2; i++) {
        engines[i] = (struct engine_threads){
            .output = ledger_thread_claim(&l, THREAD_ENGINE_OUTPUT, i, 0),
            .main = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, i, 0),
            .input = ledger_thread_claim(&l, THREAD_ENGINE_INPUT, i, 0),
        };
    }
    assert_int_equal(probe_snapshot(&l, &a.ledger, NULL), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        work_a_second(&engines[i], locked);
        ledger_add(&engines[i].main->sync_wait_ns, 150000000);
        ledger_add(&engines[i].main->cpu_ns, 100000000);
    }
    assert_int_equal(probe_snapshot(&l, &b.ledger, NULL), STATUS_OK);
    b.ledger.at_ns = a.ledger.at_ns + 1000000000;
    observe_fill(&a, &b, &t, &r);
    probe_snapshot_free(&a.ledger);
    probe_snapshot_free(&b.ledger);
    ledger_close(&l);
    return r;
}

/* Threads that take turns are full together, though none of them is. */
static void an_interpreter_lock_is_a_stage(void **state)
{
    (void)state;
    struct run_result r = observe_engines(true, WAIT_BLOCK);
    const struct run_stage *lock = row(&r, "EngineCore_DP1 lock");
    assert_string_equal(lock->stage, "interpreter");
    close_to(lock->busy_frac, 0.95, 1e-9);
    close_to(lock->use_frac, 0.95, 1e-9);
    close_to(lock->occupancy_frac, 0.95, 1e-9);
    close_to(lock->queue_mean_count, 0.82, 1e-9); /* threads that wait for it */
    close_to(lock->service_us_per_tok, 950, 1e-9);
    close_to(lock->service_us_per_req, 95000, 1e-9);
    assert_true(isnan(lock->cpu_frac) && isnan(lock->wait_p50_us) && isnan(lock->spin_frac));
    /* What the threads have besides: their real CPU time. */
    close_to(row(&r, "EngineCore_DP1")->use_frac, 0.11, 1e-9);
    close_to(row(&r, "EngineCore_DP1")->busy_frac, 0.8, 1e-9);
    close_to(row(&r, "EngineCore_DP1")->occupancy_frac, 0.5, 1e-9);
    close_to(row(&r, "EngineCore_DP1 output")->use_frac, 0.01, 1e-9);
    assert_int_equal(r.verdict.kind, STAGE_NAMED);
    assert_string_equal(r.verdict.text, "interpreter");
    close_to(r.verdict.first_frac, 0.95, 1e-9);
    result_free(&r);
    /* Without a lock there is no such stage, and nobody is full. */
    r = observe_engines(false, WAIT_BLOCK);
    for (uint32_t i = 0; i < r.stages_count; i++) {
        assert_string_not_equal(r.stages[i].stage, "interpreter");
    }
    close_to(row(&r, "EngineCore_DP0")->use_frac, 0.5, 1e-9);
    assert_string_equal(r.verdict.text, "unexplained");
    result_free(&r);
}

static void spinning_is_time_in_waits_that_spin(void **state)
{
    (void)state;
    struct run_result r = observe_engines(false, WAIT_SPIN);
    close_to(row(&r, "EngineCore_DP0")->spin_frac, 0.11, 1e-9); /* not more than its CPU time */
    close_to(row(&r, "EngineCore_DP0 input")->spin_frac, 0, 1e-9);
    assert_true(isnan(row(&r, "client")->spin_frac));
    close_to(row(&r, "EngineCore_DP0")->queue_mean_count, 2.5, 1e-9);
    close_to(row(&r, "EngineCore_DP0")->queue_max_count, 7, 1e-9);
    assert_true(isnan(row(&r, "EngineCore_DP0 input")->queue_mean_count));
    assert_true(isnan(row(&r, "EngineCore_DP0")->ctx_switches_per_s)); /* nobody asked the kernel */
    result_free(&r);
    r = observe_engines(false, WAIT_BLOCK);
    close_to(row(&r, "EngineCore_DP0")->spin_frac, 0, 1e-9);
    result_free(&r);
}

/* One thread that the kernel knows all of, one of which it hides the migrations. */
static void the_kernel_is_asked_for_switches(void **state)
{
    static const struct scenario_cell cell;
    const struct topology t = {.api_servers_count = 2, .engines_count = 1, .tp = 1, .pp = 1};
    struct proc_thread before[] = {
        {.tid = 11, .voluntary_count = 100, .involuntary_count = 10, .migrations_count = 5},
        {.tid = 12, .migrations_count = -1}};
    struct proc_thread after[] = {{.tid = 12, .voluntary_count = 20, .migrations_count = -1},
                                  {.tid = 11,
                                   .runq_wait_ns = 500000000,
                                   .voluntary_count = 1100,
                                   .involuntary_count = 60,
                                   .migrations_count = 9}};
    struct ledger l;
    struct observation a = {.taken = true, .system_known = true};
    struct observation b = {.taken = true, .system_known = true};
    struct run_result r = {.cell = &cell, .token_basis = ""};
    (void)state;
    assert_int_equal(ledger_create(&t, &l, NULL), STATUS_OK);
    for (uint32_t i = 0; i < 2; i++) {
        ledger_thread_claim(&l, THREAD_API_MAIN, i, 0)->tid = (int32_t)(11 + i);
    }
    assert_int_equal(probe_snapshot(&l, &a.ledger, NULL), STATUS_OK);
    assert_int_equal(probe_snapshot(&l, &b.ledger, NULL), STATUS_OK);
    b.ledger.at_ns = a.ledger.at_ns + 2000000000;
    a.system = (struct proc_tree){.at_ns = 0, .threads = before, .threads_count = 2};
    b.system = (struct proc_tree){.at_ns = 2000000000, .threads = after, .threads_count = 2};
    observe_fill(&a, &b, &t, &r);
    close_to(row(&r, "ApiServer_0")->runq_wait_frac, 0.25, 1e-9);
    close_to(row(&r, "ApiServer_0")->ctx_switches_per_s, 525, 1e-9);
    close_to(row(&r, "ApiServer_0")->migrations_per_s, 2, 1e-9);
    close_to(row(&r, "ApiServer_1")->ctx_switches_per_s, 10, 1e-9);
    assert_true(isnan(row(&r, "ApiServer_1")->migrations_per_s));
    probe_snapshot_free(&a.ledger);
    probe_snapshot_free(&b.ledger);
    result_free(&r);
    ledger_close(&l);
}

static struct run_result fill(enum load_mode mode)
{
    struct load_options options = {.targets = {{.host = "127.0.0.1", .port = 1}},
                                   .targets_count = 1,
                                   .model = "m",
                                   .mode = mode,
                                   .users_count = 4,
                                   .rate_per_s = 10,
                                   .connections_count = 4,
                                   .prompt_tokens = {.lo = 1, .hi = 1},
                                   .output_tokens = {.lo = 9, .hi = 9},
                                   .api_servers_count = 1,
                                   .stream = 1,
                                   .window_ns = 1000000000,
                                   .batches_count = 2};
    struct load_shared shared;
    struct error error;
    struct run_result r = {.token_basis = ""};
    for (int i = 0; i < RUN_METRICS_COUNT; i++) {
        r.latency[i] = (struct run_latency){STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                            STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                            STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    }
    if (load_shared_create(&options, &shared, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    struct load_header *h = shared.header;
    atomic_store(&h->start_ns, 1);
    atomic_store(&h->window_start_ns, 1000000000);
    atomic_store(&h->window_end_ns, 2000000000);
    atomic_store(&h->end_ns, 2000000000);
    atomic_store(&h->batch_ns, 500000000);
    /* One request within the window, and 1,000 gaps of 1 .. 10 ms. */
    atomic_store(&h->offered_count, 1);
    struct load_record *record = &shared.records[0];
    *record = (struct load_record){.t_sched_ns = 1100000000,
                                   .t_sent_ns = 1100000000,
                                   .t_first_ns = 1200000000,
                                   .t_last_ns = 1600000000,
                                   .t_done_ns = 1600000000,
                                   .completion_tokens = 9,
                                   .token_basis = LOAD_BASIS_USAGE};
    atomic_store(&record->outcome, LOAD_OUTCOME_OK);
    atomic_store(&record->number_plus_1, 1);
    for (uint64_t i = 0; i < 1000; i++) {
        histogram_add(&h->icl, (i % 10 + 1) * 1000000, 1);
        histogram_add(&h->itl, (i % 10 + 1) * 500000, 2);
    }
    observe_fill_client(&shared, &r);
    load_shared_close(&shared);
    return r;
}

static void a_closed_loop_has_gaps_but_no_latencies(void **state)
{
    (void)state;
    struct run_result closed = fill(LOAD_CLOSED);
    struct run_result open = fill(LOAD_OPEN_POISSON);
    const struct run_result *both[] = {&closed, &open};
    for (int i = 0; i < 2; i++) {
        const struct run_latency *icl = &both[i]->latency[RUN_ICL];
        const struct run_latency *itl = &both[i]->latency[RUN_ITL];
        close_to(icl->mean_ms, 5.5, 1e-6);
        close_to(icl->p50_ms, 5, 0.02); /* the histogram's buckets */
        close_to(icl->p90_ms, 9, 0.02);
        close_to(icl->p99_ms, 10, 0.02);
        close_to(itl->mean_ms, 2.75, 1e-6);
        close_to(itl->p95_ms, 5, 0.02);
    }
    assert_int_equal(closed.ok_count, 1);
    close_to(open.latency[RUN_TTFT].mean_ms, 100, 1e-6);
    close_to(open.latency[RUN_TPOT].mean_ms, 50, 1e-6);
    for (int i = 0; i < RUN_METRICS_COUNT; i++) {
        bool gap = i == RUN_ICL || i == RUN_ITL;
        assert_true(gap || isnan(closed.latency[i].mean_ms));
    }
    result_free(&closed);
    result_free(&open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_put_together),
        cmocka_unit_test(an_interpreter_lock_is_a_stage),
        cmocka_unit_test(spinning_is_time_in_waits_that_spin),
        cmocka_unit_test(the_kernel_is_asked_for_switches),
        cmocka_unit_test(a_closed_loop_has_gaps_but_no_latencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
