/*
 * foreign_server_test.c - runs on servers of others, for which `harness serve` and `harness mock`
 * stand in: attached and launched; commands that fail, die in the middle, or never answer; nothing
 * of a launched server survives its run or its harness.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/report/rows.h"
#include "harness/run/child.h"
#include "harness/run/fetch.h"
#include "helper_measure.h"
#include "helper_system.h"

enum {
    TEXT_BYTES = 4096,
    SERVER_EXIT = 6,
    USAGE_EXIT = 2,
};

#define LOAD                                                                                       \
    "[client]\nmax_cpu = 100%%\nmax_lag = p99 60s\n[workload w]\nprompt = 24tok\noutput = 16tok\n" \
    "[load l]\nmode = open\nrate = 60/s\nwarmup = 100ms\nmeasure = %s\ndrain = 20s\nbatches = "    \
    "2\ninflight_max = 64\n"
#define HEAD "[scenario]\nname = foreign\nseed = 3\nrepeats = 1\ncooldown = 0s\n[server s]\n"
#define TITLES                                                                               \
    "stage.api_server = title ApiServer_*\nstage.engine = title EngineCore*\nstage.worker =" \
    " title Worker_DP*\nstage.coordinator = title DPCoordinator*\n"
#define SERVE \
    " serve --set server.wait=block --set 'server.device=emulated gpu=h100 model=qwen2.5-0.5b'"

static char program[512]; /* harness */

/* ---- helpers ---- */

/* What is left of a group becomes this program's to reap. */
static bool nobody_is_left(void *ctx)
{
    (void)ctx;
    int status = 0;
    pid_t pid = 1;
    while (pid > 0) {
        pid = waitpid(-1, &status, WNOHANG);
    }
    return pid < 0;
}

static void assert_nobody_is_left(void)
{
    if (!e2e_wait(nobody_is_left, NULL, GONE_MS)) {
        fail_msg("processes of a launched server are alive after %d ms", GONE_MS);
    }
}

/* One run of the scenario. The caller frees the result, then closes the scenario. */
static struct scenario *measure(const char *text, struct run_result *out)
{
    struct scenario *scenario = e2e_scenario(text);
    struct run_host host = e2e_host;
    host.compat_tools = 1U << COMPAT_VLLM;
    struct measure_options options = {
        .scenario = scenario,
        .run = &scenario->runs[0],
        .log_fd = -1,
        .host = &host,
    };
    measure_run(&options, out);
    return scenario;
}

static uint32_t rows_of(const struct run_result *r, const char *stage)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->stages_count; i++) {
        count += strcmp(r->stages[i].stage, stage) == 0 ? 1 : 0;
    }
    return count;
}

static const struct run_stage *row_of(const struct run_result *r, const char *instance)
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

static void assert_ok(const struct run_result *r)
{
    if (r->outcome != RUN_OK) {
        fail_msg("%s: %s", rows_outcome_name(r->outcome), r->reason);
    }
    assert_true(r->ok_count > 0);
    assert_int_equal(r->fail_count, 0);
    assert_true(r->output_tok_per_s.mean > 0);
}

static void assert_server_failed(const struct run_result *r, const char *words)
{
    assert_int_equal(r->outcome, RUN_SERVER_FAILED);
    if (strstr(r->reason, words) == NULL || strstr(r->reason, "'s'") == NULL) {
        fail_msg("want '%s' and the server's name in: %s", words, r->reason);
    }
}

/* ---- runs ---- */

static void a_launched_server_is_measured(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    struct run_result r;
    uint32_t port = e2e_free_port();
    (void)snprintf(text, sizeof text,
                   HEAD "launch = %s" SERVE
                        " --port %u --api-server-count 2 --data-parallel-size 2\n"
                        "url = http://localhost:%u\nstart_timeout = 30s\n"
                        "counters = prometheus /metrics every 100ms, proc\n" TITLES LOAD,
                   program, port, port, "1s");
    struct scenario *scenario = measure(text, &r);
    assert_ok(&r);
    assert_string_equal(r.server_rev, "harness-0.1.0");
    /* Two API servers and two engine cores with a worker each; what has no process is not seen. */
    assert_int_equal(rows_of(&r, "api_server"), 2);
    assert_int_equal(rows_of(&r, "scheduler"), 2);
    assert_int_equal(rows_of(&r, "launch"), 2);
    assert_int_equal(rows_of(&r, "coordinator"), 1);
    const struct run_stage *engine = row_of(&r, "EngineCore_DP1");
    assert_string_equal(engine->source, "proc, prometheus");
    assert_true(engine->cpu_frac > 0 && engine->ctx_switches_per_s > 0);
    assert_true(engine->queue_mean_count >= 0 && engine->queue_max_count >= 0);
    assert_true(isnan(engine->busy_frac) && isnan(engine->occupancy_frac));
    assert_non_null(strstr(r.verdict.text, "not instrumented: gpu, ipc"));
    if (!(r.rank_jain > 0.5 && r.prompt_tok_per_s > 0)) {
        fail_msg("Jain's index %f, %f prompt tokens/s", r.rank_jain, r.prompt_tok_per_s);
    }
    /* The ledger's alone. */
    assert_int_equal(r.launchers_count, 0);
    assert_false(r.threads_known);
    assert_int_equal(r.hops.requests_count, 0);
    assert_true(isnan(r.gpu_busy_frac) && isnan(r.launch_busy_frac));
    result_free(&r);
    scenario_close(scenario);
    assert_nobody_is_left();
}

static void an_attached_server_is_left_alone(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    struct run_result r;
    struct system system;
    struct topology t = e2e_topology(1, 1);
    t.executor = EXECUTOR_UNIPROC;
    t.accept = ACCEPT_SHARED; /* the launcher listens, too: it is how the tree is found */
    e2e_start(&t, &system);
    (void)snprintf(text, sizeof text,
                   HEAD "attach = http://127.0.0.1:%u\ncounters = proc\n" TITLES LOAD, system.port,
                   "500ms");
    struct scenario *scenario = measure(text, &r);
    assert_ok(&r);
    assert_int_equal(rows_of(&r, "api_server"), 1);
    assert_int_equal(rows_of(&r, "engine_thread"), 1);
    assert_string_equal(row_of(&r, "EngineCore_DP0")->source, "proc");
    assert_true(isnan(r.rank_jain)); /* its page was not asked for */
    result_free(&r);
    scenario_close(scenario);
    assert_false(system_failed(&system));
    struct load_target target = {.host = "127.0.0.1", .port = system.port};
    struct http_buffer body = {0};
    assert_int_equal(fetch_page(&target, "/health", &body), 200);
    http_buffer_free(&body);
    e2e_stop(&system);
}

/* Without pages but the models', and one process. */
static void a_mock_is_measured(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    struct run_result r;
    uint32_t port = e2e_free_port();
    (void)snprintf(text, sizeof text,
                   HEAD "launch = %s mock --port %u --ttft 10ms --itl 2ms\n"
                        "url = http://127.0.0.1:%u\nmodel = m\n" LOAD,
                   program, port, port, "500ms");
    struct scenario *scenario = measure(text, &r);
    assert_ok(&r);
    assert_string_equal(r.server_rev, "");
    assert_true(isnan(r.rank_jain));
    assert_int_equal(rows_of(&r, "api_server"), 1); /* who listens */
    /* The mock's first event has text: vLLM's time to first token is the same as this one's. */
    const struct compat_seen *vllm = &r.compat[COMPAT_VLLM];
    assert_true(vllm->is_known && !r.compat[COMPAT_GUIDELLM].is_known);
    assert_int_equal(vllm->success_count, r.ok_count);
    assert_int_equal(vllm->left_out_count, 0);
    assert_true(fabs(vllm->ttft.mean_ms - r.latency[RUN_TTFT].mean_ms) < 1e-6);
    assert_true(fabs(vllm->tpot.mean_ms - r.latency[RUN_TPOT].mean_ms) < 1e-6);
    result_free(&r);
    scenario_close(scenario);
    assert_nobody_is_left();
}

/* ---- failures ---- */

static void commands_that_fail(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        const char *words;
    } rows[] = {
        {"sh -c 'exit 3'", "died: its command ended with exit status 3"},
        {"/nowhere/vllm serve m", "died: its command ended with exit status 127"},
        {"sh -c 'kill -9 $$'", "died: its command ended with signal 9"},
        {"sleep 1000", "did not answer at http://127.0.0.1:"},
        {"sleep 1000 & exit 4", "ended with exit status 4"}, /* and who is left behind */
        {"trap '' TERM; sleep 0.2; exit 5", "ended with exit status 5"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[TEXT_BYTES];
        struct run_result r;
        (void)snprintf(text, sizeof text,
                       HEAD "launch = \"%s\"\nurl = http://127.0.0.1:%u\nstart_timeout = 1s\n" LOAD,
                       rows[i].command, e2e_free_port(), "500ms");
        struct scenario *scenario = measure(text, &r);
        assert_server_failed(&r, rows[i].words);
        result_free(&r);
        scenario_close(scenario);
        assert_nobody_is_left();
    }
}

static void a_server_dies_under_load(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    struct run_result r;
    uint32_t port = e2e_free_port();
    (void)snprintf(text, sizeof text,
                   HEAD "launch = timeout -s KILL 3 %s" SERVE " --port %u\n"
                        "url = http://127.0.0.1:%u\n" LOAD,
                   program, port, port, "25s");
    struct scenario *scenario = measure(text, &r);
    assert_server_failed(&r, "died: its command ended with signal 9");
    assert_true(r.requests_count > 0);
    result_free(&r);
    scenario_close(scenario);
    assert_nobody_is_left();
}

static void somebody_has_the_port(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    struct run_result r;
    struct system system;
    struct topology t = e2e_topology(1, 1);
    e2e_start(&t, &system);
    (void)snprintf(text, sizeof text, HEAD "launch = sleep 1000\nurl = http://127.0.0.1:%u\n" LOAD,
                   system.port, "500ms");
    struct scenario *scenario = measure(text, &r);
    assert_server_failed(&r, "before it is launched");
    result_free(&r);
    scenario_close(scenario);
    e2e_stop(&system);
    (void)snprintf(text, sizeof text, HEAD "attach = http://127.0.0.1:%u\n" LOAD, e2e_free_port(),
                   "500ms");
    scenario = measure(text, &r);
    assert_server_failed(&r, "nobody serves at http://127.0.0.1:");
    result_free(&r);
    scenario_close(scenario);
}

/* ---- the command ---- */

static char folder[128];
static char file[160];

static void write_scenario(const char *text)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    (void)fputs(text, out);
    assert_int_equal(fclose(out), 0);
}

static pid_t start_run(const char *how, const char *compat)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        FILE *log = freopen("/dev/null", "w", stdout);
        log = log != NULL ? freopen("/dev/null", "w", stderr) : NULL;
        (void)execl(program, program, "run", file, how, folder, "--progress", "none",
                    compat != NULL ? "--compat" : NULL, compat, (char *)NULL);
        _exit(log != NULL ? 127 : 126);
    }
    return pid;
}

static int end_of(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_folder(void)
{
    (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    (void)unlink(file);
}

/* runs.csv; freed by the caller. */
static char *read_runs(void)
{
    char path[192];
    char *text = calloc(1, 1 << 16);
    assert_non_null(text);
    (void)snprintf(path, sizeof path, "%s/runs.csv", folder);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    assert_true(fread(text, 1, (1 << 16) - 1, in) > 0);
    (void)fclose(in);
    return text;
}

/* The columns of other tools are the last, and a session that goes on keeps them. */
static void compat_columns_survive_a_resume(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    uint32_t port = e2e_free_port();
    (void)snprintf(text, sizeof text,
                   HEAD "launch = %s mock --port %u --ttft 10ms --itl 2ms\n"
                        "url = http://127.0.0.1:%u\nmodel = m\n" LOAD,
                   program, port, port, "500ms");
    write_scenario(text);
    assert_int_equal(end_of(start_run("-o", "vllm,sglang")), 0);
    char *first = read_runs();
    assert_non_null(strstr(first, ",vllm_ok_count,vllm_left_out_count,vllm_requests_per_s,"));
    assert_non_null(strstr(first, ",sglang_e2e_p90_ms,sglang_e2e_p99_ms\n"));
    assert_null(strstr(first, "guidellm"));
    assert_int_equal(end_of(start_run("--resume", NULL)), 0);
    char *second = read_runs();
    assert_string_equal(second, first);
    assert_int_equal(end_of(start_run("--resume", "guidellm")), USAGE_EXIT);
    free(first);
    free(second);
    remove_folder();
    assert_nobody_is_left();
}

static bool it_answers(void *ctx)
{
    struct http_buffer body = {0};
    bool answered = fetch_page(ctx, "/health", &body) == 200;
    http_buffer_free(&body);
    return answered;
}

static void no_server_survives_its_harness(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    struct load_target target = {.host = "127.0.0.1", .port = e2e_free_port()};
    (void)snprintf(text, sizeof text,
                   HEAD "launch = %s" SERVE " --port %u\nurl = http://127.0.0.1:%u\n" LOAD, program,
                   target.port, target.port, "60s");
    write_scenario(text);
    pid_t pid = start_run("-o", NULL);
    assert_true(e2e_wait(it_answers, &target, HANG_MS));
    (void)kill(pid, SIGKILL);
    assert_nobody_is_left();
    remove_folder();
}

static void a_failed_launch_is_status_6(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    (void)snprintf(text, sizeof text, HEAD "launch = \"sh -c 'exit 3'\"\n" LOAD, "500ms");
    write_scenario(text);
    assert_int_equal(end_of(start_run("-o", NULL)), SERVER_EXIT);
    remove_folder();
}

int main(int argc, char **argv)
{
    e2e_client(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_launched_server_is_measured),
        cmocka_unit_test(an_attached_server_is_left_alone),
        cmocka_unit_test(a_mock_is_measured),
        cmocka_unit_test(commands_that_fail),
        cmocka_unit_test(a_server_dies_under_load),
        cmocka_unit_test(somebody_has_the_port),
        cmocka_unit_test(compat_columns_survive_a_resume),
        cmocka_unit_test(no_server_survives_its_harness),
        cmocka_unit_test(a_failed_launch_is_status_6),
    };
    e2e_begin();
    child_program_folder(program, sizeof program - 16);
    (void)strcat(program, "/harness"); // NOLINT: room was left above
    (void)snprintf(folder, sizeof folder, "%s/foreign", getenv("TMPDIR"));
    (void)snprintf(file, sizeof file, "%s.ini", folder);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
