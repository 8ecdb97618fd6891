/*
 * calibration_test.c - calibration files: what was written is read back to the picosecond, a
 * scenario simulates with it, every mistake is named with its place, another machine is told from
 * this one. And costs from windows whose CPU time was made of costs that are known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/report/simulated.h"
#include "harness/run/calibrate.h"
#include "helper_scenario.h"

enum {
    WINDOWS = 240,
};

#define SCENARIO(costs)                                                                \
    "[scenario]\nname = c\nmode = simulate\n[server s]\n[workload w]\nprompt = 8tok\n" \
    "output = 8tok\n[load l]\nmode = closed\nusers = 2\n[simulation]\ncosts = " costs "\n"

static char *text_of(const struct calibration *c)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    calibration_write(c, file);
    assert_int_equal(fclose(file), 0);
    return text;
}

/* Costs of all sizes, every third without an interval. */
static struct calibration example(void)
{
    struct calibration c = {.date = "2026-11-23T10:00:00Z",
                            .revision = "abc",
                            .machine = {.cpu_model = "A \"good\" CPU; # 1",
                                        .cores_count = 2,
                                        .kernel = "Linux 6",
                                        .compiler = "12.2.0",
                                        .device = "emulated"},
                            .device = {.gpu = "h100",
                                       .model = "llama-3.1-8b",
                                       .value = {5e9, 1.5, 43.6906667, 0, 1e-3},
                                       .lo = {4e9, 1, 43, 0, 0},
                                       .hi = {6e9, 2, 44, 0.5, 2e-3},
                                       .condition = 12.5,
                                       .held_out_error = 0.0125}};
    struct random random = random_stream(1, "calibration test", 0);
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        time_ps value = random_range(&random, 0, 1 << (i % 30));
        *calibration_cost(&c.costs, (enum calibration_term)i) = value;
        c.intervals[i].known = i % 3 != 0;
        c.intervals[i].lo = c.intervals[i].known ? value / 2 : 0;
        c.intervals[i].hi = c.intervals[i].known ? 2 * value : 0;
    }
    return c;
}

static enum status read_text(const char *text, struct calibration *out, char *said, size_t cap)
{
    const struct memory_file files[] = {{"c.ini", text}, {NULL, NULL}};
    struct memory memory = {.files = files};
    struct scenario_environment environment = memory_environment(&memory);
    static struct scenario_problems problems;
    problems = (struct scenario_problems){.count = 0};
    enum status status = calibration_read("c.ini", &environment, out, &problems);
    problems_join(&problems, said, cap);
    return status;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct calibration c = example();
    struct calibration back;
    char said[4096];
    char *text = text_of(&c);
    if (read_text(text, &back, said, sizeof said) != STATUS_OK) {
        fail_msg("%s", said);
    }
    assert_memory_equal(&back.costs, &c.costs, sizeof c.costs);
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        assert_int_equal(back.intervals[i].known, c.intervals[i].known);
        assert_int_equal(back.intervals[i].lo, c.intervals[i].lo);
        assert_int_equal(back.intervals[i].hi, c.intervals[i].hi);
    }
    assert_string_equal(back.machine.cpu_model, "A 'good' CPU; # 1");
    assert_string_equal(back.machine.governor, "");
    assert_int_equal(back.machine.cores_count, 2);
    assert_string_equal(back.date, c.date);
    assert_string_equal(back.device.gpu, "h100");
    assert_string_equal(back.device.model, "llama-3.1-8b");
    for (int i = 0; i < CALIBRATION_STEP_TERMS_COUNT; i++) {
        assert_memory_equal(&back.device.value[i], &c.device.value[i], sizeof(double));
        assert_memory_equal(&back.device.lo[i], &c.device.lo[i], sizeof(double));
        assert_memory_equal(&back.device.hi[i], &c.device.hi[i], sizeof(double));
    }
    assert_memory_equal(&back.device.held_out_error, &c.device.held_out_error, sizeof(double));
    assert_memory_equal(&back.device.condition, &c.device.condition, sizeof(double));
    char *again = text_of(&back);
    assert_non_null(strstr(again, "A 'good' CPU"));
    memcpy(c.machine.cpu_model, back.machine.cpu_model, sizeof c.machine.cpu_model);
    char *want = text_of(&c);
    assert_string_equal(again, want);
    free(want);
    free(again);
    free(text);
}

/* `from` in the text becomes `to`. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(at);
    assert_non_null(out);
    (void)sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void mistakes_have_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        const char *to;
        const char *said;
    } cases[] = {
        {"api_write.call", "api_wirte.call",
         "unknown key 'api_wirte.call' in [costs], did you mean 'api_write.call'?"},
        {"[costs]", "[cost]", "unknown section [cost] in a calibration, did you mean 'costs'?"},
        {"revision", "revison", "did you mean 'revision'?"},
        {"cores = 2", "cores = two", "cores: want a count of 1 or more, got 'two'"},
        {"wake = ", "wake = -", "wake: want a time and maybe its interval"},
        {"wake = ", "wake = 3 ", "wake: want a time and maybe its interval"},
        {"wake = ", "wake = 99999999999999999999us ", "wake: want a time"},
        {"wake = ", "wake = 3us 2us..1us ; ", "wake: want a time and maybe its interval"},
        {"wake = ", "; ", "[costs] lacks 'wake'"},
        {"date = ", "; ", "[calibration] lacks 'date'"},
        {"[costs]", "[costs]\n[costs x]", "unknown section [costs x]"},
        {"kv_token = ", "kv_tokens = ", "unknown key 'kv_tokens' in [device], did you mean"},
        {"kv_token = ", "kv_token = -", "kv_token: want three numbers: value, least, greatest"},
        {"condition = ", "condition = nan ", "condition: want a number"},
        {"\nmodel = ", "\n; ", "[device] lacks 'model'"},
    };
    struct calibration c = example();
    char *text = text_of(&c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct calibration out;
        char said[1 << 15];
        char *changed = replaced(text, cases[i].from, cases[i].to);
        assert_int_equal(read_text(changed, &out, said, sizeof said), STATUS_INVALID);
        if (strstr(said, cases[i].said) == NULL || strncmp(said, "c.ini", 5) != 0) {
            fail_msg("want '%s', got '%s'", cases[i].said, said);
        }
        free(changed);
    }
    free(text);
}

static void units_are_exact(void **state)
{
    (void)state;
    struct calibration c = example();
    struct calibration out;
    char said[4096];
    char *text = text_of(&c);
    char *changed = replaced(text, "wake = ", "wake = 1.2345678us 0.5ns..2ms ; ");
    assert_int_equal(read_text(changed, &out, said, sizeof said), STATUS_OK);
    assert_int_equal(out.costs.wake, 1234567);
    assert_int_equal(out.intervals[CALIBRATION_WAKE].lo, 500);
    assert_int_equal(out.intervals[CALIBRATION_WAKE].hi, 2 * PS_PER_MS);
    free(changed);
    free(text);
}

static const char two_cells[] =
    "[scenario]\nname = c\nmode = simulate\n[server s]\n[workload w]\nprompt = 8tok\n"
    "output = 8tok\n[load l]\nmode = closed\nusers = %{u}\n[simulation]\ncosts = missing.ini\n"
    "[sweep]\naxis.u = 2,3\n";

/* The file stands beside the scenario, in another folder than this one. */
static void a_scenario_simulates_with_it(void **state)
{
    (void)state;
    struct calibration c = example();
    char *text = text_of(&c);
    const struct memory_file files[] = {{"d/t.ini", SCENARIO("c.ini")},
                                        {"d/bad.ini", SCENARIO("missing.ini")},
                                        {"d/word.ini", SCENARIO("defautl")},
                                        {"d/cells.ini", two_cells},
                                        {"d/c.ini", text},
                                        {NULL, NULL}};
    struct memory memory = {.files = files};
    struct scenario_environment environment = memory_environment(&memory);
    static struct scenario_problems problems;
    struct scenario *scenario = NULL;
    char said[4096];
    enum status status = scenario_open("d/t.ini", &environment, NULL, &scenario, &problems);
    problems_join(&problems, said, sizeof said);
    if (status != STATUS_OK) {
        fail_msg("%s", said);
    }
    const struct scenario_simulation *simulation = &scenario->cells[0].simulation;
    assert_int_equal(scenario->calibrations_count, 1);
    assert_string_equal(simulated_costs_name(simulation), "c.ini");
    struct simulation_costs costs = simulated_costs(simulation);
    assert_memory_equal(&costs, &c.costs, sizeof costs);
    scenario_close(scenario);

    assert_int_equal(scenario_open("d/bad.ini", &environment, NULL, &scenario, &problems),
                     STATUS_INVALID);
    problems_join(&problems, said, sizeof said);
    assert_non_null(strstr(said, "cannot read 'd/missing.ini'"));
    /* Once, whatever number of cells, and nothing of what a file that is not there lacks. */
    assert_int_equal(scenario_open("d/cells.ini", &environment, NULL, &scenario, &problems),
                     STATUS_INVALID);
    assert_int_equal(problems.count, 1);
    assert_int_equal(scenario_open("d/word.ini", &environment, NULL, &scenario, &problems),
                     STATUS_INVALID);
    problems_join(&problems, said, sizeof said);
    assert_non_null(strstr(said, "did you mean 'default'?"));
    /* Its runs were made: then a lost file does not matter. */
    environment.recorded = true;
    assert_int_equal(scenario_open("d/bad.ini", &environment, NULL, &scenario, &problems),
                     STATUS_OK);
    scenario_close(scenario);
    free(text);
}

static void another_machine_is_named(void **state)
{
    (void)state;
    struct calibration c = example();
    struct calibration_machine here = c.machine;
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_int_equal(calibration_differences(&c.machine, &here, file), 0);
    here.cores_count = 8;
    (void)snprintf(here.kernel, sizeof here.kernel, "Linux 7");
    assert_int_equal(calibration_differences(&c.machine, &here, file), 2);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "cores: '2' there, '8' here\n"
                              "kernel: 'Linux 6' there, 'Linux 7' here\n");
    free(text);
}

/* ---- costs of windows ---- */

static double draw(struct random *random, double mean)
{
    return mean * (0.2 + 1.6 * random_unit(random));
}

/* One window: independent counts, and CPU times that follow from costs in ns written here. */
static struct calibrate_window window(struct random *random, uint32_t api_servers)
{
    struct calibrate_window w = {.api_servers_count = api_servers};
    double *client = w.of[CALIBRATE_CLIENT];
    double *api = w.of[THREAD_API_MAIN];
    double *coordinator = w.of[THREAD_COORDINATOR_MAIN];
    double *input = w.of[THREAD_ENGINE_INPUT];
    double *core = w.of[THREAD_ENGINE_MAIN];
    double *output = w.of[THREAD_ENGINE_OUTPUT];
    double *worker = w.of[THREAD_WORKER_MAIN];
    double *result = w.of[THREAD_WORKER_OUTPUT];
    double requests = draw(random, 300);
    double prompt = draw(random, 60000);
    double tokens = draw(random, 5000);
    double reads = draw(random, 3000);
    double messages = draw(random, 400);
    double steps = draw(random, 400);
    double seqs = draw(random, 4000);
    double published = draw(random, 100);
    double waits = draw(random, 200);
    double noise = 0.98 + 0.04 * random_unit(random);

    client[CALIBRATE_OUT] = api[CALIBRATE_REQUESTS] = core[CALIBRATE_REQUESTS] = requests;
    input[CALIBRATE_IN] = requests;
    api[CALIBRATE_PROMPT_TOKENS] = core[CALIBRATE_PROMPT_TOKENS] = prompt;
    client[CALIBRATE_IN] = reads;
    client[CALIBRATE_OUTPUT_TOKENS] = api[CALIBRATE_OUTPUT_TOKENS] = tokens;
    output[CALIBRATE_OUTPUT_TOKENS] = core[CALIBRATE_OUTPUT_TOKENS] = tokens;
    api[CALIBRATE_IN] = output[CALIBRATE_OUT] = messages;
    core[CALIBRATE_STEPS] = worker[CALIBRATE_IN] = result[CALIBRATE_OUT] = steps;
    core[CALIBRATE_SEQS] = seqs;
    coordinator[CALIBRATE_IN] = draw(random, 500);
    coordinator[CALIBRATE_OUT] = published;
    worker[CALIBRATE_LAUNCH_NS] = 3000000;
    for (uint32_t kind = 0; kind < CALIBRATE_KINDS; kind++) {
        w.of[kind][CALIBRATE_WAITS] = waits;
    }
    double woken = waits * 4000; /* wake_cpu */
    client[CALIBRATE_CPU_NS] =
        noise * (25000 * requests + 500 * prompt + 4500 * reads + 1600 * tokens) + woken;
    api[CALIBRATE_CPU_NS] =
        noise * (60000 * requests + 300 * prompt + 10000 * messages + 1900 * tokens + 6000 * reads +
                 9000 * published * api_servers) +
        woken;
    coordinator[CALIBRATE_CPU_NS] = noise * (20000 * coordinator[CALIBRATE_IN] + 10000 * published +
                                             5000 * published * api_servers) +
                                    waits * 7000; /* sleep_cpu */
    input[CALIBRATE_CPU_NS] = noise * (28000 * requests + 20 * prompt) + woken;
    core[CALIBRATE_CPU_NS] =
        noise * (5000 * requests + 20 * prompt + 22000 * steps + 400 * seqs) + woken;
    output[CALIBRATE_CPU_NS] = noise * (8000 * messages + 300 * tokens) + woken;
    worker[CALIBRATE_CPU_NS] = noise * (5000 * steps + 300 * seqs) + woken + 3000000;
    /* Of its waits as many as it sent results had a time-out, at most all. */
    double timed = fmin(waits, steps);
    result[CALIBRATE_CPU_NS] =
        noise * (3000 * steps + 200 * tokens) + timed * 7000 + (waits - timed) * 4000;
    return w;
}

static void assert_cost(const struct calibrate_result *r, enum calibration_term term, double ns)
{
    double got = (double)calibration_cost_of(&r->calibration.costs, term) / 1e3;
    const struct calibration_interval *interval = &r->calibration.intervals[term];
    /* A term may be small beside its neighbours; what is done for each token is less. */
    double slack = ns < 1000 ? 20 : 500;
    if (fabs(got - ns) > 0.1 * ns + slack || !interval->known ||
        (double)interval->lo / 1e3 > ns * 1.05 + 100 ||
        (double)interval->hi / 1e3 < ns * 0.95 - 100) {
        fail_msg("%s: want %g ns, got %g (%g to %g)", calibration_term_name(term), ns, got,
                 (double)interval->lo / 1e3, (double)interval->hi / 1e3);
    }
}

/* Two costs of one count: cost and interval of both together are those of the count. */
static void assert_shared(const struct calibrate_result *r, enum calibration_term one,
                          enum calibration_term other, double ns)
{
    const struct simulation_costs built_in = simulation_costs_default();
    const struct simulation_costs *costs = &r->calibration.costs;
    const struct calibration_interval *a = &r->calibration.intervals[one];
    const struct calibration_interval *b = &r->calibration.intervals[other];
    double sum = (double)(calibration_cost_of(costs, one) + calibration_cost_of(costs, other));
    double share = (double)calibration_cost_of(costs, one) / sum;
    double of_built_in = (double)calibration_cost_of(&built_in, one);
    of_built_in /= of_built_in + (double)calibration_cost_of(&built_in, other);
    assert_true(fabs(share - of_built_in) < 1e-3);
    assert_true(fabs(sum / 1e3 / ns - 1) < 0.1);
    assert_true((double)(a->lo + b->lo) <= sum && sum <= (double)(a->hi + b->hi));
    assert_true((double)(a->lo + b->lo) > 0.8 * sum && (double)(a->hi + b->hi) < 1.2 * sum);
    assert_true(fabs((double)a->hi / (double)(a->hi + b->hi) - of_built_in) < 1e-3);
}

static void known_costs_are_found(void **state)
{
    (void)state;
    struct random random = random_stream(2, "calibration test", 0);
    struct calibrate_window *windows = calloc(WINDOWS, sizeof *windows);
    struct calibrate_result r = {.others_cores = 0};
    assert_non_null(windows);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        windows[i] = window(&random, 1 + i % 4);
    }
    r.calibration.costs.wake_cpu = 4 * PS_PER_US;
    r.calibration.costs.sleep_cpu = 7 * PS_PER_US;
    calibrate_fit(windows, WINDOWS, 7, &r);
    assert_cost(&r, CALIBRATION_CLIENT_REQUEST, 25000);
    assert_cost(&r, CALIBRATION_CLIENT_REQUEST_TOKEN, 500);
    assert_cost(&r, CALIBRATION_CLIENT_READ, 4500);
    assert_cost(&r, CALIBRATION_CLIENT_READ_TOKEN, 1600);
    assert_cost(&r, CALIBRATION_API_REQUEST, 60000);
    assert_cost(&r, CALIBRATION_API_REQUEST_TOKEN, 300);
    assert_cost(&r, CALIBRATION_API_MESSAGE, 10000);
    assert_cost(&r, CALIBRATION_API_WRITE, 6000);
    assert_cost(&r, CALIBRATION_API_STATE, 9000);
    assert_cost(&r, CALIBRATION_COORDINATOR_MESSAGE, 20000);
    assert_cost(&r, CALIBRATION_COORDINATOR_PUBLISH, 10000);
    assert_cost(&r, CALIBRATION_COORDINATOR_RECEIVER, 5000);
    assert_cost(&r, CALIBRATION_ENGINE_INPUT, 28000);
    assert_cost(&r, CALIBRATION_ENGINE_INPUT_TOKEN, 20);
    assert_cost(&r, CALIBRATION_ENGINE_ADD, 5000);
    assert_cost(&r, CALIBRATION_ENGINE_ADD_TOKEN, 20);
    assert_cost(&r, CALIBRATION_ENGINE_OUTPUT, 8000);
    assert_cost(&r, CALIBRATION_ENGINE_OUTPUT_ITEM, 300);
    assert_cost(&r, CALIBRATION_WORKER_PLAN, 5000);
    assert_cost(&r, CALIBRATION_WORKER_PLAN_SEQ, 300);
    assert_cost(&r, CALIBRATION_WORKER_RESULT, 3000);
    assert_cost(&r, CALIBRATION_WORKER_RESULT_TOKEN, 200);
    /* Counted together: 22 us a step and 400 ns a sequence, divided as 12 to 10 and 100 to 300. */
    assert_cost(&r, CALIBRATION_ENGINE_STEP, 12000);
    assert_cost(&r, CALIBRATION_ENGINE_COMMIT, 10000);
    assert_cost(&r, CALIBRATION_ENGINE_STEP_SEQ, 100);
    assert_cost(&r, CALIBRATION_ENGINE_COMMIT_OUTPUT, 300);
    assert_shared(&r, CALIBRATION_ENGINE_STEP, CALIBRATION_ENGINE_COMMIT, 22000);
    assert_shared(&r, CALIBRATION_ENGINE_STEP_SEQ, CALIBRATION_ENGINE_COMMIT_OUTPUT, 400);
    assert_shared(&r, CALIBRATION_API_MESSAGE_ITEM, CALIBRATION_API_OUTPUT, 1900);
    assert_int_equal(r.source[CALIBRATION_ENGINE_STEP], CALIBRATE_SHARED);
    assert_int_equal(r.source[CALIBRATION_API_WRITE], CALIBRATE_MEASURED);
    assert_int_equal(r.source[CALIBRATION_COLLECTIVE], CALIBRATE_KEPT);
    for (uint32_t i = 0; i < CALIBRATE_THREADS_COUNT; i++) {
        assert_true(fabs(r.threads[i].explained_ns / r.threads[i].cpu_ns - 1) < 0.02);
        assert_true(r.threads[i].fit.error_frac > 0 && r.threads[i].fit.error_frac < 0.02);
        assert_int_equal(r.threads[i].windows_count, WINDOWS);
    }
    free(windows);
}

/* Waits of 4 us, those with a time-out of 7: found together, from counts that do not depend on each
 * other. */
static void waits_are_found(void **state)
{
    (void)state;
    struct random random = random_stream(3, "calibration test", 0);
    struct calibrate_window *windows = calloc(WINDOWS, sizeof *windows);
    struct calibrate_result r = {.others_cores = 0};
    assert_non_null(windows);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        windows[i] = window(&random, 1 + i % 4);
    }
    r.calibration.costs.wake_cpu = 25 * PS_PER_US;
    calibrate_waits(windows, WINDOWS, 7, &r);
    assert_in_range(r.calibration.costs.wake_cpu, 3 * PS_PER_US, 7 * PS_PER_US);
    assert_int_equal(r.calibration.costs.wake_cpu, r.calibration.costs.sleep_cpu);
    assert_true(r.calibration.intervals[CALIBRATION_WAKE_CPU].lo < r.calibration.costs.wake_cpu);
    assert_true(r.calibration.intervals[CALIBRATION_WAKE_CPU].hi <= 8 * PS_PER_US);
    assert_true(r.calibration.intervals[CALIBRATION_WAKE_CPU].hi > r.calibration.costs.wake_cpu);
    assert_int_equal(r.source[CALIBRATION_SLEEP_CPU], CALIBRATE_MEASURED);
    r.calibration.costs.wake_cpu = 25 * PS_PER_US;
    calibrate_waits(windows, 2, 7, &r); /* too few to fit anything: as it was */
    assert_int_equal(r.calibration.costs.wake_cpu, 25 * PS_PER_US);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        for (int kind = 0; kind < CALIBRATE_KINDS; kind++) {
            windows[i].of[kind][CALIBRATE_WAITS] = 0;
        }
    }
    r.calibration.costs.wake_cpu = 25 * PS_PER_US;
    calibrate_waits(windows, WINDOWS, 7, &r); /* not counted: as it was */
    assert_int_equal(r.calibration.costs.wake_cpu, 25 * PS_PER_US);
    free(windows);
}

static void nothing_seen_keeps_the_costs(void **state)
{
    (void)state;
    struct calibrate_window idle[4] = {{.api_servers_count = 1}};
    struct calibrate_result r = {.others_cores = 0};
    r.calibration.costs = simulation_costs_default();
    calibrate_fit(idle, 4, 7, &r);
    assert_int_equal(r.calibration.costs.api_write.call, 6 * PS_PER_US);
    assert_int_equal(r.source[CALIBRATION_API_WRITE], CALIBRATE_KEPT);
    assert_false(r.calibration.intervals[CALIBRATION_API_WRITE].known);
}

/* A device whose steps are linear is found to six digits; one that is not is told by the cells that
 * were held out. */
static void a_device_is_fitted(void **state)
{
    (void)state;
    static const double truth[CALIBRATION_STEP_TERMS_COUNT] = {5e9, 2e6, 44, 3e7, 5};
    struct random random = random_stream(9, "calibration test", 0);
    double x[60][CALIBRATION_STEP_TERMS_COUNT];
    double y[60];
    uint32_t count = 0;
    struct calibration_device d = {.gpu = ""};
    for (int i = 0; i < 60; i++) {
        double seqs = (double)random_range(&random, 1, 256);
        double prompt = i % 3 == 0 ? 0 : (double)random_range(&random, 1, 2000);
        x[i][0] = 1;
        x[i][1] = seqs;
        x[i][2] = seqs * (double)random_range(&random, 10, 2000);
        x[i][3] = prompt;
        x[i][4] = prompt * prompt / 2;
        y[i] = 0;
        for (int k = 0; k < CALIBRATION_STEP_TERMS_COUNT; k++) {
            y[i] += truth[k] * x[i][k];
        }
    }
    calibrate_device_fit(&x[0][0], y, 60, 1, &d);
    for (int k = 0; k < CALIBRATION_STEP_TERMS_COUNT; k++) {
        assert_true(fabs(d.value[k] / truth[k] - 1) < 1e-6);
    }
    assert_true(d.held_out_error < 1e-6);
    /* One of each five cells is not fitted to, and not always the one in the same place. */
    uint32_t places = 0;
    for (int i = 0; i < 60; i++) {
        double right = y[i];
        y[i] *= 2;
        calibrate_device_fit(&x[0][0], y, 60, 1, &d);
        bool held_out = fabs(d.held_out_error - 0.5) < 1e-3;
        assert_true(held_out || d.held_out_error < 0.2);
        assert_true(!held_out || fabs(d.value[0] / truth[0] - 1) < 1e-9);
        places |= held_out ? 1U << i % 5 : 0;
        count += held_out ? 1 : 0;
        y[i] = right;
    }
    assert_int_equal(count, 12);
    assert_int_equal(places, 31);
    calibrate_device_fit(&x[0][0], y, 4, 1, &d);
    assert_true(isnan(d.value[0]) && isnan(d.condition) && isnan(d.held_out_error));
}

/* Columns times coefficients are what a device with these coefficients takes for the step. */
static void columns_are_those_of_a_step(void **state)
{
    (void)state;
    static const struct step_fit fit = {5e9, 2e6, 44e3, 3e7, 5e3};
    static const uint32_t steps[][3] = {{1, 0, 0},   {1, 900, 0},      {64, 32, 0},
                                        {4, 256, 1}, {16, 1024, 2048}, {256, 32, 128}};
    struct gpu_shape gpu = *gpu_shape_find("h100");
    gpu.fit = &fit;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const uint32_t *s = steps[i];
        double x[CALIBRATION_STEP_TERMS_COUNT];
        struct step_load load = {.seqs_count = 0};
        for (uint32_t k = 0; k < s[0]; k++) {
            step_load_add(&load, s[1], 1, true);
        }
        if (s[2] > 0) {
            step_load_add(&load, 0, s[2], true);
        }
        calibrate_device_columns(s[0], s[1], s[2], x);
        double ps = fit.base * x[0] + fit.sequence * x[1] + fit.kv_token * x[2] +
                    fit.prompt_token * x[3] + fit.prompt_pair * x[4];
        double want = (double)cost_step(&gpu, model_shape_find("llama-3.1-8b"), 1, &load);
        assert_true(fabs(ps - want) < 2);
    }
}

/* 150 us between the stamps, less 20 until the receiver runs, 4 of its CPU time, 28 of work and
 * 0.02 for each of 32 tokens. */
static void a_link_is_what_is_left_of_an_idle_request(void **state)
{
    (void)state;
    struct calibrate_result r = {.others_cores = 0};
    struct calibrate_windows w = {.ipc_ns = {150000, 140000, 170000}, .ipc_prompt_tokens = 32};
    struct simulation_costs *c = &r.calibration.costs;
    const struct calibration_interval *interval = &r.calibration.intervals[CALIBRATION_IPC];
    c->wake = 20 * PS_PER_US;
    c->wake_cpu = 4 * PS_PER_US;
    c->engine_input.call = 28 * PS_PER_US;
    c->engine_input.token = 20 * PS_PER_NS;
    calibrate_ipc(&w, &r);
    assert_int_equal(c->ipc, 97360 * PS_PER_NS);
    assert_true(interval->known);
    assert_int_equal(interval->lo, 87360 * PS_PER_NS);
    assert_int_equal(interval->hi, 117360 * PS_PER_NS);
    assert_int_equal(r.source[CALIBRATION_IPC], CALIBRATE_MEASURED);
    w.ipc_ns = (struct stats_percentile){50000, STATS_UNKNOWN, STATS_UNKNOWN};
    calibrate_ipc(&w, &r); /* less than the work alone: a link takes no negative time */
    assert_int_equal(c->ipc, 0);
    assert_false(interval->known);
    c->ipc = 60 * PS_PER_US;
    w.ipc_ns.value = STATS_UNKNOWN;
    calibrate_ipc(&w, &r);
    assert_int_equal(c->ipc, 60 * PS_PER_US);
}

/* Each trial's is the cost with its name. */
static void trials_have_their_costs(void **state)
{
    (void)state;
    struct mechanics *m = calloc(1, sizeof *m);
    struct calibrate_result r = {.others_cores = 0};
    assert_non_null(m);
    for (int what = 0; what < MECHANICS_COUNT; what++) {
        m->count[what] = 20;
        for (int i = 0; i < 20; i++) {
            m->ns[what][i] = 100 + what;
        }
    }
    calibrate_mechanics(m, &r);
    const struct simulation_costs *c = &r.calibration.costs;
    const time_ps costs[MECHANICS_COUNT] = {
        [MECHANICS_WAKE] = c->wake,
        [MECHANICS_WAKE_CPU] = c->wake_cpu,
        [MECHANICS_SLEEP_LATE] = c->sleep_late,
        [MECHANICS_SLEEP_CPU] = c->sleep_cpu,
        [MECHANICS_SWITCH] = c->context_switch,
        [MECHANICS_TCP] = c->tcp,
        [MECHANICS_RING] = c->ring,
        [MECHANICS_POLL] = c->poll,
    };
    for (int what = 0; what < MECHANICS_COUNT; what++) {
        assert_int_equal(costs[what], (100 + what) * PS_PER_NS);
    }
    free(m);
}

static void trials_give_medians(void **state)
{
    (void)state;
    struct mechanics *m = calloc(1, sizeof *m);
    struct calibrate_result r = {.others_cores = 0};
    assert_non_null(m);
    for (uint32_t i = 0; i < 101; i++) { /* 10 .. 110, and one that was interrupted for long */
        m->ns[MECHANICS_WAKE][i] = i < 100 ? 10 + i : 1e9;
    }
    m->count[MECHANICS_WAKE] = 101;
    r.calibration.costs = simulation_costs_default();
    calibrate_mechanics(m, &r);
    assert_int_equal(r.calibration.costs.wake, 60 * PS_PER_NS);
    assert_true(r.calibration.intervals[CALIBRATION_WAKE].known);
    assert_true(r.calibration.intervals[CALIBRATION_WAKE].lo < 60 * PS_PER_NS);
    assert_true(r.calibration.intervals[CALIBRATION_WAKE].hi < 80 * PS_PER_NS);
    assert_int_equal(r.calibration.costs.tcp, simulation_costs_default().tcp);
    assert_int_equal(r.source[CALIBRATION_TCP], CALIBRATE_KEPT);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(mistakes_have_their_place),
        cmocka_unit_test(units_are_exact),
        cmocka_unit_test(a_scenario_simulates_with_it),
        cmocka_unit_test(another_machine_is_named),
        cmocka_unit_test(known_costs_are_found),
        cmocka_unit_test(waits_are_found),
        cmocka_unit_test(nothing_seen_keeps_the_costs),
        cmocka_unit_test(a_device_is_fitted),
        cmocka_unit_test(columns_are_those_of_a_step),
        cmocka_unit_test(a_link_is_what_is_left_of_an_idle_request),
        cmocka_unit_test(trials_have_their_costs),
        cmocka_unit_test(trials_give_medians),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
