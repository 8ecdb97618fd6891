/*
 * sim_test.c - scenarios in virtual time: every file that a measured session writes, with the same
 * columns, and the same bytes whenever and on however many threads it is simulated; conservation of
 * requests, tokens and time; throughput and knee where closed forms say them, the planted
 * bottleneck named; sessions that simulate and measure; what cannot be simulated is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/report/forecast.h"
#include "harness/run/child.h"
#include "harness/run/simulate.h"
#include "helper_measure.h"
#include "helper_system.h"

enum {
    ARGUMENTS_MAX = 16,
    PATH_BYTES = 256,
    LINE_BYTES = 1 << 15,
    USAGE = 2,
};

static char root[64]; /* of this program's files */

/* Two cells, so that there is an order; an open load, so that there are rows of requests. */
#define SYSTEM(mode)                                                                              \
    "[scenario]\nname = sim\nschema = 1\nseed = 3\nrepeats = 2\ncooldown = 0s\nmode = " mode "\n" \
    "[server s]\ntopology = api_servers=2 dp=%{dp} tp=1\nhost_profile = vllm-python\n"            \
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nwait = block\naccept = reuseport\n"           \
    "max_num_seqs = 8\nmax_model_len = 512\n"                                                     \
    "[client]\nmax_cpu = 100%\nmax_lag = p99 60s\n"                                               \
    "[workload w]\nprompt = 24tok\noutput = uniform lo=8tok hi=40tok\n"                           \
    "[load l]\nmode = open\nrate = 120/s\nwarmup = 200ms\nmeasure = 800ms\ndrain = 5s\n"          \
    "batches = 4\n[sweep]\naxis.dp = 1,2\n[scaling]\nalong = dp\n"

static const char both_text[] = SYSTEM("both");
static const char measured_text[] = SYSTEM("measure");

/* ---- the command ---- */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* harness WORD ...; its exit status. What it says goes to `log`. */
static int harness(const char *log, const char *const *words)
{
    char program[512];
    char *arguments[ARGUMENTS_MAX] = {program};
    child_program_folder(program, sizeof program - 16);
    (void)strcat(program, "/harness"); // NOLINT: room was left above
    for (int i = 0; words[i] != NULL; i++) {
        assert_true(i + 2 < ARGUMENTS_MAX);
        arguments[i + 1] = strdup(words[i]);
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        FILE *out = freopen(log, "w", stdout);
        _exit(out != NULL && dup2(1, 2) == 2 ? execv(program, arguments) : 99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (int i = 1; arguments[i] != NULL; i++) {
        free(arguments[i]);
    }
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void path_of(const char *folder, const char *name, char out[PATH_BYTES])
{
    (void)snprintf(out, PATH_BYTES, "%s/%s/%s", root, folder, name);
}

/* Simulates or measures a scenario of this program into a folder of its own. */
static void run_into(const char *verb, const char *text, const char *folder, const char *jobs)
{
    char scenario[PATH_BYTES];
    char results[PATH_BYTES];
    char log[PATH_BYTES];
    (void)snprintf(scenario, sizeof scenario, "%s/%s.ini", root, folder);
    (void)snprintf(results, sizeof results, "%s/%s", root, folder);
    (void)snprintf(log, sizeof log, "%s/%s.log", root, folder);
    write_file(scenario, text);
    const char *const words[] = {verb, scenario,     "-o",   results, "-j",
                                 jobs, "--progress", "none", "--set", "plots.format=dumb",
                                 NULL};
    int status = harness(log, words);
    if (status != 0 && status != 3) { /* 3: too short to decide where more stops helping */
        fail_msg("harness %s: exit status %d: see %s", verb, status, log);
    }
}

static char *read_file(const char *folder, const char *name, size_t *bytes)
{
    char path[PATH_BYTES];
    struct stat info;
    path_of(folder, name, path);
    if (stat(path, &info) != 0) {
        fail_msg("%s is missing", path);
    }
    char *data = calloc((size_t)info.st_size + 1, 1);
    FILE *file = fopen(path, "r");
    assert_true(data != NULL && file != NULL);
    *bytes = fread(data, 1, (size_t)info.st_size, file);
    assert_int_equal(*bytes, info.st_size);
    assert_int_equal(fclose(file), 0);
    return data;
}

static void assert_same_file(const char *a, const char *b, const char *name)
{
    size_t first_bytes = 0;
    size_t second_bytes = 0;
    char *first = read_file(a, name, &first_bytes);
    char *second = read_file(b, name, &second_bytes);
    if (first_bytes != second_bytes || memcmp(first, second, first_bytes) != 0) {
        fail_msg("%s of %s and %s differ", name, a, b);
    }
    free(first);
    free(second);
}

static void assert_same_columns(const char *a, const char *b, const char *name)
{
    size_t bytes = 0;
    char *first = read_file(a, name, &bytes);
    char *second = read_file(b, name, &bytes);
    first[strcspn(first, "\n")] = '\0';
    second[strcspn(second, "\n")] = '\0';
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static const char *const rows_files[] = {"runs.csv", "stages.csv",   "launch.csv", "timeline.csv",
                                         "hops.csv", "requests.csv", "hist.csv",   "threads.csv"};
static const char *const drawn_files[] = {"points.csv", "scaling.csv", "plot_points.csv",
                                          "plot_about.tsv", "plot_curves.tsv"};
enum {
    ROWS_FILES = sizeof rows_files / sizeof rows_files[0],
    DRAWN_FILES = sizeof drawn_files / sizeof drawn_files[0]
};

/* ---- cells of rows ---- */

/* The field of `column` in row `row` (0: the first below the header); "" past the end. */
static void field_of(const char *data, const char *column, uint32_t row, char out[LINE_BYTES])
{
    char header[LINE_BYTES];
    uint32_t index = 0;
    size_t length = strcspn(data, "\n");
    assert_true(length < sizeof header);
    (void)snprintf(header, sizeof header, "%.*s", (int)length, data);
    char *save = NULL;
    const char *word = strtok_r(header, ",", &save);
    while (word != NULL && strcmp(word, column) != 0) {
        index++;
        word = strtok_r(NULL, ",", &save);
    }
    assert_non_null(word);
    for (uint32_t i = 0; i <= row && *data != '\0'; i++) {
        data += strcspn(data, "\n");
        data += *data != '\0' ? 1 : 0;
    }
    bool quoted = false;
    size_t used = 0;
    for (; *data != '\0' && *data != '\n'; data++) {
        quoted = *data == '"' ? !quoted : quoted;
        if (*data == ',' && !quoted) {
            if (index-- == 0) {
                break;
            }
        } else if (index == 0 && *data != '"') {
            out[used++] = *data;
        }
    }
    out[used] = '\0';
}

static double number_of(const char *data, const char *column, uint32_t row)
{
    char text[LINE_BYTES];
    field_of(data, column, row, text);
    return text[0] != '\0' ? strtod(text, NULL) : (double)NAN;
}

static bool is_number(const char *data, const char *column, uint32_t row, double value)
{
    return fabs(number_of(data, column, row) - value) < 1e-9;
}

/* ---- the files ---- */

static void files_are_those_of_a_measured_session(void **state)
{
    (void)state;
    run_into("sim", measured_text, "once", "1");
    run_into("run", measured_text, "measured", "1");
    for (int i = 0; i < ROWS_FILES; i++) {
        assert_same_columns("once", "measured", rows_files[i]);
    }
    for (int i = 0; i < DRAWN_FILES; i++) {
        assert_same_columns("once", "measured", drawn_files[i]);
    }
    size_t bytes = 0;
    char *runs = read_file("once", "runs.csv", &bytes);
    char text[LINE_BYTES];
    for (uint32_t i = 0; i < 4; i++) {
        field_of(runs, "mode", i, text);
        assert_string_equal(text, "simulated");
        field_of(runs, "start_utc", i, text);
        assert_string_equal(text, "");
        assert_true(number_of(runs, "output_tok_per_s", i) > 0);
        assert_true(is_number(runs, "fail_count", i, 0));
    }
    free(runs);
    char *manifest = read_file("once", "manifest.json", &bytes);
    assert_non_null(strstr(manifest, "\"mode\": \"simulate\""));
    assert_non_null(strstr(manifest, "\"costs_hash\""));
    free(manifest);
}

static void equal_seeds_give_equal_bytes(void **state)
{
    (void)state;
    run_into("sim", measured_text, "first", "1");
    run_into("sim", measured_text, "again", "1");
    run_into("sim", measured_text, "side_by_side", "2");
    for (int i = 0; i < ROWS_FILES; i++) {
        assert_same_file("first", "again", rows_files[i]);
        assert_same_file("first", "side_by_side", rows_files[i]);
    }
    for (int i = 0; i < DRAWN_FILES; i++) {
        assert_same_file("first", "again", drawn_files[i]);
        assert_same_file("first", "side_by_side", drawn_files[i]);
    }
    assert_same_file("first", "again", "events.jsonl");
    assert_same_file("first", "side_by_side", "events.jsonl");
    size_t bytes = 0; /* and replicates have seeds of their own */
    char *runs = read_file("first", "runs.csv", &bytes);
    assert_false(is_number(runs, "output_tok_per_s", 0, number_of(runs, "output_tok_per_s", 2)));
    free(runs);
}

static void both_stand_side_by_side(void **state)
{
    (void)state;
    size_t bytes = 0;
    char text[LINE_BYTES];
    run_into("run", both_text, "both", "2");
    char *runs = read_file("both", "runs.csv", &bytes);
    for (uint32_t i = 0; i < 8; i++) { /* all simulated ones first */
        field_of(runs, "mode", i, text);
        assert_string_equal(text, i < 4 ? "simulated" : "measured");
    }
    char *points = read_file("both", "points.csv", &bytes);
    for (uint32_t i = 0; i < 2; i++) {
        double simulated = number_of(points, "simulated_output_tok_per_s", i);
        double measured = number_of(points, "output_tok_per_s", i);
        double error = number_of(points, "simulation_error_frac", i);
        double runs_mean =
            (number_of(runs, "output_tok_per_s", i) + number_of(runs, "output_tok_per_s", i + 2)) /
            2;
        assert_true(fabs(simulated / runs_mean - 1) < 1e-4);
        assert_true(fabs(simulated / measured - 1 - error) < 1e-3);
        assert_true(is_number(points, "runs_count", i, 2)); /* the measured ones */
    }
    free(points);
    free(runs);
    char *report = read_file("both", "report.md", &bytes);
    assert_non_null(strstr(report, "simulation error %"));
    free(report);
}

/* ---- what a run conserves ---- */

static void simulate(const struct scenario *scenario, uint32_t index, struct run_result *out)
{
    const struct measure_options options = {.scenario = scenario, .run = &scenario->runs[index]};
    simulate_run(&options, out);
    if (out->outcome != RUN_OK) {
        fail_msg("%s", out->reason);
    }
}

static void assert_hops_of(const struct run_request *q)
{
    double to_first = 0;
    double to_last = 0;
    for (int k = 0; k < PROBE_PARTS_COUNT; k++) {
        double us = q->parts.us[k];
        assert_true(us >= 0);
        to_first += k <= PROBE_PART_FIRST_NET_OUT ? us : 0;
        to_last += k <= PROBE_PART_PREFILL || k >= PROBE_PART_DECODE ? us : 0;
    }
    assert_true(fabs(to_first - q->ttft_ms * 1e3) < 0.01);
    assert_true(fabs(to_last - q->e2el_ms * 1e3) < 0.01);
}

static void requests_tokens_and_time_are_conserved(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(measured_text);
    struct run_result r;
    simulate(scenario, 1, &r);
    double tokens = 0;
    double sum_ms = 0;
    uint32_t due = 0;
    for (uint32_t i = 0; i < r.requests_rows_count; i++) {
        const struct run_request *q = &r.requests[i];
        assert_int_equal(q->outcome, LOAD_OUTCOME_OK);
        assert_int_equal(q->output_tokens, q->output_tokens_asked);
        assert_int_equal(q->prompt_tokens, q->prompt_tokens_asked);
        assert_true(q->api_server < 2 && q->engine < 2);
        assert_hops_of(q);
        tokens += q->output_tokens;
        bool in_window = q->sched_ms >= 200 && q->sched_ms < 1000;
        due += in_window ? 1 : 0;
        sum_ms += in_window ? q->e2el_ms : 0;
    }
    uint32_t changes = 0; /* which connection leads to which API server is luck: half of them */
    for (uint32_t i = 1; i < r.requests_rows_count; i++) {
        changes += r.requests[i].api_server != r.requests[i - 1].api_server ? 1 : 0;
    }
    assert_in_range(changes, r.requests_rows_count / 4, r.requests_rows_count * 3 / 4);
    assert_int_equal(r.requests_count, due);
    assert_int_equal(r.ok_count, due);
    assert_int_equal(r.tokens_mismatch_count, 0);
    assert_true(fabs(sum_ms / due - r.latency[RUN_E2EL].mean_ms) < 1e-6);
    double shown = 0;
    for (uint32_t i = 0; i < r.seconds_count; i++) {
        shown += r.seconds[i].output_tok_per_s;
    }
    assert_true(fabs(shown - tokens) < 0.5);
    /* No stage is busy for longer than there was, but for the piece of work at the window's edge.
     */
    for (uint32_t i = 0; i < r.stages_count; i++) {
        assert_true(r.stages[i].busy_frac >= 0 && r.stages[i].busy_frac < 1.02);
    }
    assert_string_equal(r.stages[0].source, "simulated");
    result_free(&r);
    scenario_close(scenario);
}

/* ---- what threads count ---- */

static const struct run_stage *stage_of(const struct run_result *r, const char *instance)
{
    uint32_t at = 0;
    while (at < r->stages_count && strcmp(r->stages[at].instance, instance) != 0) {
        at++;
    }
    assert_true(at < r->stages_count);
    return &r->stages[at];
}

static bool is_near(double value, double expected, double within)
{
    return fabs(value - expected) <= within;
}

static void simulated_threads_are_the_expected_ones(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(measured_text);
    struct run_result r;
    simulate(scenario, 1, &r);
    assert_true(r.threads_known && proc_thread_rows_agree(r.threads));
    for (int i = 0; i < PROC_THREAD_ROWS; i++) {
        bool counted = i != THREAD_LAUNCHER_MAIN && i < THREAD_KINDS_COUNT;
        assert_true(!counted || r.threads[i].counted_ledger == r.threads[i].expected_count);
        assert_int_equal(r.threads[i].counted_proc, -1);
    }
    assert_int_equal(r.threads[THREAD_WORKER_MAIN].counted_ledger, 2);
    result_free(&r);
    scenario_close(scenario);
}

/* In the order of time, from the moment at which all are ready; the coordinator publishes. */
static void events_are_those_of_virtual_time(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(measured_text);
    struct run_result r;
    simulate(scenario, 1, &r);
    uint32_t counts[EVENT_KINDS_COUNT] = {0};
    for (uint32_t i = 0; i < r.events_count; i++) {
        const struct run_event *e = &r.events[i];
        counts[e->what]++;
        assert_true(i == 0 || e->at_ns >= r.events[i - 1].at_ns);
        assert_true(e->what != EVENT_WINDOW_BEGAN || e->at_ns == 200000000);
        assert_true(e->what != EVENT_WINDOW_ENDED || e->at_ns == 1000000000);
        bool ready = e->what == EVENT_READY || e->what == EVENT_LISTENING;
        assert_true(!ready || e->at_ns == 0);
    }
    assert_int_equal(counts[EVENT_READY], 3); /* two engine cores and the coordinator */
    assert_int_equal(counts[EVENT_LISTENING], 2);
    assert_int_equal(counts[EVENT_LOAD_BEGAN], 1);
    assert_int_equal(counts[EVENT_FIRST_STATE], 2);
    assert_in_range(counts[EVENT_PUBLISHED], 5, 11); /* every 100 ms while counts change */
    assert_int_equal(counts[EVENT_STARTED] + counts[EVENT_SPAWNED] + counts[EVENT_EXITED], 0);
    result_free(&r);
    scenario_close(scenario);
}

/* ---- what closed forms say ---- */

#define CLOSED(topology_)                                                                         \
    "[scenario]\nname = closed\nschema = 1\nseed = 5\nrepeats = 1\nmode = simulate\n"             \
    "[server s]\ntopology = " topology_ "\nhost_profile = vllm-python\nwait = block\n"            \
    "device = emulated gpu=h100 model=llama-3.1-8b\naccept = reuseport\nmax_num_seqs = 40\n"      \
    "max_model_len = 2048\n[simulation]\ncosts = none\n"                                          \
    "[workload w]\nprompt = 128tok\noutput = uniform lo=128tok hi=384tok\n"                       \
    "[load l]\nusers = 2 * %{dp} * 40\nfirst_outputs = residual\nwarmup = 1500ms\nmeasure = 4s\n" \
    "batches = 8\n[sweep]\naxis.dp = 1,4\n"

/* One engine core is its GPU's; four behind one API server are that one's. */
static void throughput_is_that_of_the_closed_form(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(CLOSED("api_servers=1 dp=%{dp} tp=1"));
    static const char *const limits[] = {"gpu", "api_server"};
    assert_int_equal(scenario->runs_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        struct run_result r;
        simulate(scenario, i, &r);
        const struct forecast f = forecast_of(r.cell);
        assert_true(f.known);
        if (!(fabs(r.output_tok_per_s.mean / f.form.tok_per_s - 1) < 0.03)) {
            fail_msg("%s: simulated %.0f, closed form %.0f tokens/s", r.cell->name,
                     r.output_tok_per_s.mean, f.form.tok_per_s);
        }
        assert_string_equal(r.verdict.first, limits[i]);
        result_free(&r);
    }
    scenario_close(scenario);
}

/* 80 users and 40 places of one engine core: the other 40 requests wait there. A request is
 * scheduled when one of the 40 before it ends; by Little's law it waits as long as those take. */
static void queues_are_those_of_the_closed_form(void **state)
{
    (void)state;
    struct scenario *scenario = e2e_scenario(CLOSED("api_servers=1 dp=%{dp} tp=1"));
    struct run_result r;
    simulate(scenario, 0, &r);
    const struct run_stage *s = stage_of(&r, "EngineCore_DP0");
    double wait_s = 40 / (r.output_tok_per_s.mean / 256);
    assert_true(is_near(s->queue_mean_count, 40, 1));
    assert_true(is_near(s->queue_max_count, 80, 40));
    assert_true(is_near(s->wait_p50_us / 1e6, wait_s, 0.25 * wait_s));
    assert_true(r.launchers[0].launch_p50_us > 0 && r.launchers[0].launch_max_ns > 0);
    assert_true(is_near(r.engines[0].step_p50_us, r.engines[0].step_mean_us,
                        0.1 * r.engines[0].step_mean_us));
    result_free(&r);
    scenario_close(scenario);
}

/* What its three threads book is the time in which their lock is held. */
static void a_lock_is_used_as_its_threads_are_occupied(void **state)
{
    (void)state;
    struct scenario *scenario =
        e2e_scenario(CLOSED("api_servers=1 dp=%{dp} tp=1\ninterpreter_lock = yes"));
    struct run_result r;
    simulate(scenario, 0, &r);
    const struct run_stage *lock = stage_of(&r, "EngineCore_DP0 lock");
    double booked = stage_of(&r, "EngineCore_DP0")->occupancy_frac +
                    stage_of(&r, "EngineCore_DP0 input")->occupancy_frac +
                    stage_of(&r, "EngineCore_DP0 output")->occupancy_frac;
    assert_true(booked > 0);
    assert_true(is_near(lock->busy_frac, booked, 1e-9));
    assert_true(is_near(lock->use_frac, booked, 0.02 * booked)); /* for what was served */
    assert_true(lock->queue_mean_count >= 0 && lock->queue_mean_count < 3);
    assert_true(lock->busy_lo <= lock->busy_frac && lock->busy_frac <= lock->busy_hi);
    result_free(&r);
    scenario_close(scenario);
}

/* ---- planted bottlenecks ---- */

static struct scenario *open_file(const char *path)
{
    static const char *const sets[] = {"scenario.mode=simulate"};
    static struct scenario_problems problems;
    const struct scenario_environment environment = scenario_environment_system();
    const struct scenario_options options = {.sets = sets, .sets_count = 1};
    struct scenario *scenario = NULL;
    if (scenario_open(path, &environment, &options, &scenario, &problems) != STATUS_OK) {
        fail_msg("%s", problems.count > 0 ? problems.text[0] : path);
    }
    return scenario;
}

static void planted_bottlenecks_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *stage; /* NULL: none is full */
    } planted[] = {
        {"scenarios/bottlenecks/api_server.ini", "api_server"},
        {"scenarios/bottlenecks/launch.ini", "launch"},
        {"scenarios/bottlenecks/gpu.ini", "gpu"},
        {"scenarios/bottlenecks/shared_gpu.ini", "gpu"},
        {"scenarios/bottlenecks/lockstep.ini", NULL},
    };
    for (size_t i = 0; i < sizeof planted / sizeof planted[0]; i++) {
        struct scenario *scenario = open_file(planted[i].path);
        struct run_result r;
        simulate(scenario, 0, &r);
        if (planted[i].stage == NULL) {
            assert_int_equal(r.verdict.kind, STAGE_UNEXPLAINED);
            assert_true(r.dp_sync_frac > 0.5); /* six of eight ranks step for others */
        } else if (r.verdict.kind != STAGE_NAMED ||
                   strcmp(r.verdict.first, planted[i].stage) != 0) {
            fail_msg("%s: %s", planted[i].path, r.verdict.text);
        }
        result_free(&r);
        scenario_close(scenario);
    }
}

/* A client that cannot read what is made spoils a run in virtual time, too. */
static void a_client_that_limits_spoils_the_run(void **state)
{
    (void)state;
    struct scenario *scenario = open_file("scenarios/bottlenecks/client.ini");
    struct run_result r;
    const struct measure_options options = {.scenario = scenario, .run = &scenario->runs[0]};
    simulate_run(&options, &r);
    assert_int_equal(r.outcome, RUN_INVALID);
    assert_non_null(strstr(r.reason, "client limited"));
    double limited = r.output_tok_per_s.mean;
    result_free(&r);
    scenario->cells[0].simulation.free_client = true;
    simulate_run(&options, &r);
    assert_int_equal(r.outcome, RUN_OK);
    assert_true(r.output_tok_per_s.mean > limited);
    result_free(&r);
    scenario_close(scenario);
}

/* The knees that decisions for this scenario were made by: 3, 6 and beyond 8. */
static void saturation_has_its_knees(void **state)
{
    (void)state;
    char results[PATH_BYTES];
    char log[PATH_BYTES];
    size_t bytes = 0;
    static const double last[] = {3, 6, 8};
    static const char *const told[] = {"3 [3, 4)", "6 [6, 8)", "> 8"};
    (void)snprintf(results, sizeof results, "%s/saturation", root);
    (void)snprintf(log, sizeof log, "%s/saturation.log", root);
    const char *const words[] = {
        "sim",   "scenarios/saturation.ini", "-o",         results, "-j", "2",
        "--set", "plots.format=dumb",        "--progress", "none",  NULL};
    assert_int_equal(harness(log, words), 0);
    char *scaling = read_file("saturation", "scaling.csv", &bytes);
    uint32_t curve = 0;
    for (uint32_t row = 0; curve < 3; row++) {
        char text[LINE_BYTES];
        if (!is_number(scaling, "api_servers_count", row, 1 << curve)) {
            continue; /* other laws of the curve before */
        }
        assert_true(is_number(scaling, "last_helpful_cores", row, last[curve]));
        field_of(scaling, "last_helpful_text", row, text);
        assert_string_equal(text, told[curve]);
        curve++;
    }
    free(scaling);
}

/* ---- what is refused ---- */

static void what_has_no_model_is_refused(void **state)
{
    (void)state;
    static const char *const sets[] = {"server.topology=api_servers=1 dp=1 tp=1 pp=9",
                                       "server.nodes=2", "workload.stream=no",
                                       "scenario.mode=nothing"};
    char scenario[PATH_BYTES];
    char log[PATH_BYTES];
    (void)snprintf(scenario, sizeof scenario, "%s/refused.ini", root);
    (void)snprintf(log, sizeof log, "%s/refused.log", root);
    write_file(scenario, both_text);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        const char *const words[] = {"run", scenario, "--set", sets[i], "--dry-run", NULL};
        if (harness(log, words) != USAGE) {
            fail_msg("%s is not refused", sets[i]);
        }
    }
    const char *const many = "server.topology=api_servers=1 dp=4096 tp=1";
    const char *const measured[] = {"run", scenario, "--set", many, "--dry-run", NULL};
    const char *const simulated[] = {"sim", scenario, "--set", many, "--dry-run", NULL};
    assert_int_equal(harness(log, measured), USAGE);
    assert_int_equal(harness(log, simulated), 0);
    const char *const jobs[] = {"sim", scenario, "-j", "0", NULL};
    assert_int_equal(harness(log, jobs), USAGE);
}

/* ---- this program's files ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_those_of_a_measured_session),
        cmocka_unit_test(equal_seeds_give_equal_bytes),
        cmocka_unit_test(both_stand_side_by_side),
        cmocka_unit_test(requests_tokens_and_time_are_conserved),
        cmocka_unit_test(simulated_threads_are_the_expected_ones),
        cmocka_unit_test(events_are_those_of_virtual_time),
        cmocka_unit_test(throughput_is_that_of_the_closed_form),
        cmocka_unit_test(queues_are_those_of_the_closed_form),
        cmocka_unit_test(a_lock_is_used_as_its_threads_are_occupied),
        cmocka_unit_test(planted_bottlenecks_are_named),
        cmocka_unit_test(a_client_that_limits_spoils_the_run),
        cmocka_unit_test(saturation_has_its_knees),
        cmocka_unit_test(what_has_no_model_is_refused),
    };
    e2e_client(argc, argv);
    e2e_begin();
    (void)snprintf(root, sizeof root, "/tmp/harness_sim_test-XXXXXX");
    if (mkdtemp(root) == NULL) {
        return 1;
    }
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    (void)nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return e2e_end(failures);
}
