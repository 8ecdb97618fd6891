/*
 * measure_test.c - whole measured runs: a closed loop and a small trace. Every request is accounted
 * for, tokens are the trace's, the hops of a request add up to what the client saw, counts of
 * threads agree, no stage is busy for longer than the time there was. And runs in which something
 * dies or stops: they end, say what it was, and keep what was measured.
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
    TRACE_ROWS_MAX = 256
};

#define TRACE_PATH "tests/e2e/trace.csv"

static const char closed_text[] =
    "[scenario]\nname = closed\nschema = 1\nseed = 3\n"
    "[server s]\ntopology = api_servers=2 dp=2 tp=1\nhost_profile = native\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\naccept = reuseport\n"
    "max_num_seqs = 8\nmax_model_len = 512\n"
    "[client]\nbalance = yes\nmax_cpu = 100%\n"
    "[workload w]\nprompt = 24tok\noutput = uniform lo=8tok hi=40tok\n"
    "[load l]\nmode = closed\nusers = 12\nwarmup = 300ms\nmeasure = 1200ms\nbatches = 4\n";

static const char trace_text[] =
    "[scenario]\nname = trace\nschema = 1\nseed = 3\n"
    "[server s]\ntopology = api_servers=2 dp=2 tp=1\nhost_profile = vllm-python\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\naccept = reuseport\n"
    "max_num_seqs = 8\nmax_model_len = 512\n"
    "[client]\nmax_cpu = 100%\nmax_lag = p99 60s\n"
    "[workload w]\nsource = trace\ntrace = " TRACE_PATH "\n"
    "[load l]\nmode = trace\nwarmup = 0s\nmeasure = all\ndrain = 60s\n";

/* Long answers and one rank of two workers: when something stops, nothing goes on beside it. */
static const char doomed_text[] =
    "[scenario]\nname = doomed\nschema = 1\nseed = 3\n"
    "[server s]\ntopology = api_servers=1 dp=1 tp=2\nhost_profile = native\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nwait = block\naccept = reuseport\n"
    "max_num_seqs = 8\nmax_model_len = 2048\n"
    "[client]\nmax_cpu = 100%\n"
    "[workload w]\nprompt = 24tok\noutput = 1500tok\n"
    "[load l]\nmode = closed\nusers = 8\nwarmup = 300ms\nmeasure = 60s\nbatches = 4\n";

/* ---- running ---- */

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

static void assert_sane_stages(const struct run_result *r)
{
    bool seen_client = false;
    assert_true(r->stages_count > 0);
    for (uint32_t i = 0; i < r->stages_count; i++) {
        const struct run_stage *s = &r->stages[i];
        if (!(s->busy_frac >= 0 && s->busy_frac <= 1.02)) {
            fail_msg("%s %s: busy %f", s->stage, s->instance, s->busy_frac);
        }
        seen_client |= strcmp(s->stage, "client") == 0;
    }
    assert_true(seen_client);
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        const struct probe_rates *t = &r->launchers[i];
        assert_true(t->launch_frac >= 0 && t->launch_frac <= 1.02);
        assert_true(t->gpu_busy_frac >= 0 && t->gpu_busy_frac <= 1.02);
        assert_true(t->launches_per_s[LAUNCH_CLASS_GRAPH] > 0);
    }
    assert_int_equal(r->launchers_count, 2);
    assert_int_equal(r->engines_count, 2);
    assert_true(r->threads_known);
    assert_true(proc_thread_rows_agree(r->threads));
}

/*
 * The hops must telescope to the client's own times; a residual would mean stamps of different
 * requests. Stamps are taken before what they precede, so none can be negative, but for the first:
 * the client stamps after send() has returned, and the server may have read by then for as long as
 * the client was off its CPU.
 */
static void assert_hops(const struct run_result *r)
{
    assert_true(r->hops.requests_count > 0);
    assert_true(r->hops.residual_max_ms < 1);
    assert_int_equal(r->tokens_mismatch_count, 0);
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        for (int k = 0; k < PROBE_PARTS_COUNT; k++) {
            double us = r->requests[i].parts.us[k];
            if (k != PROBE_PART_NET_IN && !(us >= -1.0)) {
                fail_msg("request %u: %s %f us", i, probe_part_name((enum probe_part)k), us);
            }
        }
    }
}

/* ---- runs that succeed ---- */

static void a_closed_loop_is_accounted_for(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(closed_text);
    struct run_result r;
    run(scenario, NULL, &r);
    assert_string_equal(r.reason, "");
    assert_int_equal(r.outcome, RUN_OK);
    assert_true(r.ok_count > 0);
    assert_int_equal(r.fail_count, 0);
    assert_int_equal(r.requests_count, r.ok_count + r.censored_count);
    assert_true(r.censored_count <= 12);
    assert_int_equal(r.users_count, 12);
    assert_true(r.inflight_max <= 12);
    assert_true(r.output_tok_per_s.mean > 0);
    assert_string_equal(r.token_basis, "usage");
    assert_sane_stages(&r);
    assert_hops(&r);
    /* Six users on each API server, which is what balance promises. */
    double sum = 0;
    for (int i = 0; i < LOAD_API_SERVERS_MAX; i++) {
        sum += isnan(r.api_tok_per_s[i]) ? 0 : r.api_tok_per_s[i];
    }
    assert_true(fabs(sum - r.output_tok_per_s.mean) < 0.01 * sum);
    assert_true(r.api_tok_per_s[0] > 0.3 * sum && r.api_tok_per_s[1] > 0.3 * sum);
    /* The engine cores made what the client got, but for what was on its way at the two looks. */
    double made = r.engine_tok_per_s[0] + r.engine_tok_per_s[1];
    assert_true(fabs(made - sum) * r.window_s < 0.1 * sum * r.window_s + 12 * 40);
    result_free(&r);
    scenario_close(scenario);
}

struct trace_row {
    uint32_t prompt;
    uint32_t output;
};

/* Read here once more, without the code under test. The file's lines count from 1, the header is
 * line 1. */
static uint32_t read_trace(struct trace_row rows[TRACE_ROWS_MAX])
{
    FILE *file = fopen(TRACE_PATH, "r");
    uint32_t count = 0;
    char line[128];
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    while (count < TRACE_ROWS_MAX && fgets(line, sizeof line, file) != NULL) {
        assert_int_equal(sscanf(line, "%*[^,],%u,%u", &rows[count].prompt, &rows[count].output), 2);
        count++;
    }
    (void)fclose(file);
    return count;
}

static void a_trace_is_replayed_row_by_row(void **state)
{
    (void)state;
    static struct trace_row rows[TRACE_ROWS_MAX];
    uint32_t count = read_trace(rows);
    struct scenario *scenario = e2e_scenario(trace_text);
    struct run_result r;
    run(scenario, NULL, &r);
    assert_string_equal(r.reason, "");
    assert_int_equal(r.outcome, RUN_OK);
    assert_int_equal(r.trace_refused_count, 0);
    assert_int_equal(r.requests_rows_count, count);
    assert_int_equal(r.hops.requests_count, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct run_request *q = &r.requests[i];
        assert_int_equal(q->outcome, LOAD_OUTCOME_OK);
        assert_int_equal(q->trace_line, i + 2);
        assert_int_equal(q->prompt_tokens_asked, rows[i].prompt);
        assert_int_equal(q->prompt_tokens, rows[i].prompt);
        assert_int_equal(q->output_tokens_asked, rows[i].output);
        assert_int_equal(q->output_tokens, rows[i].output);
        assert_true(q->engine < 2 && q->api_server < 2);
        assert_true(q->ttft_ms > 0 && q->e2el_ms >= q->ttft_ms);
        assert_true(i == 0 || q->sched_ms >= r.requests[i - 1].sched_ms);
    }
    assert_sane_stages(&r);
    assert_hops(&r);
    result_free(&r);
    scenario_close(scenario);
}

/* ---- runs in which something dies ---- */

static struct doom {
    const char *comm;
    int signal;
    pid_t pid; /* 0: not yet */
} doom;

static pid_t find_below(const char *comm)
{
    struct proc_tree tree;
    pid_t pid = 0;
    assert_int_equal(proc_tree_read(getpid(), &tree, NULL), STATUS_OK);
    for (size_t i = 0; i < tree.processes_count; i++) {
        if (strcmp(tree.processes[i].comm, comm) == 0) {
            pid = tree.processes[i].pid;
        }
    }
    proc_tree_free(&tree);
    return pid;
}

/* In the window, once tokens flow. */
static void strike(void *ctx, const struct measure_progress *progress)
{
    (void)ctx;
    if (doom.pid == 0 && strcmp(progress->phase, "window") == 0 && progress->output_tok_per_s > 0) {
        doom.pid = find_below(doom.comm);
        assert_true(doom.pid > 0);
        assert_int_equal(kill(doom.pid, doom.signal), 0);
    }
}

static void run_doomed(const char *comm, int signal_number, struct run_result *r)
{
    struct scenario *scenario = e2e_scenario(doomed_text);
    doom = (struct doom){.comm = comm, .signal = signal_number};
    run(scenario, strike, r);
    assert_true(doom.pid > 0);
    assert_true(r->requests_count > 0 || r->seconds_count > 0);
    assert_int_equal(r->ok_count, 0);
    r->cell = NULL;
    scenario_close(scenario);
}

static void assert_says(const struct run_result *r, const char *words)
{
    if (strstr(r->reason, words) == NULL) {
        fail_msg("'%s' does not say '%s'", r->reason, words);
    }
}

static void a_dead_client_ends_the_run(void **state)
{
    (void)state;
    struct run_result r;
    char pid[32];
    run_doomed("load_client", SIGKILL, &r);
    assert_int_equal(r.outcome, RUN_CLIENT_FAILED);
    (void)snprintf(pid, sizeof pid, "pid %d", (int)doom.pid);
    assert_says(&r, "load client");
    assert_says(&r, pid);
    assert_says(&r, "signal 9");
    result_free(&r);
}

static void a_dead_worker_ends_the_run(void **state)
{
    (void)state;
    struct run_result r;
    run_doomed("Worker_DP0_1", SIGKILL, &r);
    assert_int_equal(r.outcome, RUN_SERVER_FAILED);
    assert_says(&r, "Worker_DP0_1");
    assert_says(&r, "signal 9");
    result_free(&r);
}

static void a_dead_launcher_ends_the_run(void **state)
{
    (void)state;
    struct run_result r;
    run_doomed("launcher", SIGKILL, &r);
    assert_int_equal(r.outcome, RUN_SERVER_FAILED);
    assert_says(&r, "launcher");
    result_free(&r);
}

/* Nothing is dead, and nothing happens: the alarm of 15 s names a stage. */
static void a_stopped_worker_raises_the_alarm(void **state)
{
    (void)state;
    if (!e2e_full()) {
        skip(); /* it waits for the 15 s alarm: only in ./dev test --full */
    }
    struct run_result r;
    run_doomed("Worker_DP0_0", SIGSTOP, &r);
    assert_int_equal(r.outcome, RUN_SERVER_FAILED);
    assert_says(&r, "no progress for 15 s");
    assert_says(&r, "stage launch");
    char pid[32];
    (void)snprintf(pid, sizeof pid, "pid %d", (int)doom.pid);
    assert_says(&r, pid);
    result_free(&r);
}

/* The system has nothing to do then, but it is the client that stands still. */
static void a_stopped_client_raises_the_alarm(void **state)
{
    (void)state;
    if (!e2e_full()) {
        skip(); /* it waits for the 15 s alarm: only in ./dev test --full */
    }
    struct run_result r;
    run_doomed("load_client", SIGSTOP, &r);
    assert_int_equal(r.outcome, RUN_SERVER_FAILED);
    assert_says(&r, "no progress for 15 s");
    assert_says(&r, "stage client");
    result_free(&r);
}

static bool interrupt_now(void)
{
    return doom.pid != 0;
}

static void interrupt(void *ctx, const struct measure_progress *progress)
{
    (void)ctx;
    if (strcmp(progress->phase, "window") == 0) {
        doom.pid = 1;
    }
}

static void an_interrupted_run_keeps_what_it_has(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(doomed_text);
    struct run_result r;
    struct measure_options options = {
        .scenario = scenario,
        .run = &scenario->runs[0],
        .log_fd = -1,
        .host = &e2e_host,
        .progress = interrupt,
        .interrupted = interrupt_now,
    };
    doom = (struct doom){.comm = ""};
    measure_run(&options, &r);
    assert_int_equal(r.outcome, RUN_INTERRUPTED);
    assert_int_equal(r.fail_count, 0);
    e2e_assert_no_children();
    result_free(&r);
    scenario_close(scenario);
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_closed_loop_is_accounted_for),
        cmocka_unit_test(a_trace_is_replayed_row_by_row),
        cmocka_unit_test(a_dead_client_ends_the_run),
        cmocka_unit_test(a_dead_worker_ends_the_run),
        cmocka_unit_test(a_dead_launcher_ends_the_run),
        cmocka_unit_test(a_stopped_worker_raises_the_alarm),
        cmocka_unit_test(a_stopped_client_raises_the_alarm),
        cmocka_unit_test(an_interrupted_run_keeps_what_it_has),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
