/*
 * scenario_test.c - right scenarios: the shipped ones expanded against their published description,
 * precedence and origins, includes, lists, arithmetic, order of runs, and `expand` output that
 * reads back to the same cells.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "harness/analysis/laws.h"
#include "helper_scenario.h"

#define REST "[server s]\n[workload w]\n[load l]\nusers = 1\nmeasure = 1s\n"
#define GOOD "[scenario]\nname = t\n" REST

static struct scenario_problems problems;

static struct scenario *open_text(const char *text, const struct scenario_options *options)
{
    struct scenario *scenario = NULL;
    if (memory_open(text, options, &scenario, &problems) != STATUS_OK) {
        fail_msg("%s", problems.text[0]);
    }
    return scenario;
}

static struct scenario *open_shipped(const char *name, const struct scenario_options *options)
{
    const char *root = getenv("HARNESS_SOURCE_DIR");
    struct scenario_environment environment = scenario_environment_system();
    struct scenario *scenario = NULL;
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/scenarios/%s.ini", root != NULL ? root : ".", name);
    environment.cpus_count = 2;
    if (scenario_open(path, &environment, options, &scenario, &problems) != STATUS_OK) {
        fail_msg("%s", problems.text[0]);
    }
    return scenario;
}

static bool written(const struct scenario *scenario, const char *line)
{
    char *text = scenario_text(scenario);
    bool found = strstr(text, line) != NULL;
    if (!found) {
        print_message("%s", text);
    }
    free(text);
    return found;
}

/* ---- shipped scenarios ---- */

static void check_saturation_cell(const struct scenario_cell *c, uint32_t a, uint32_t d)
{
    const struct topology *t = &c->topology;
    char name[64];
    (void)snprintf(name, sizeof name, "api_servers=%u,dp=%u", a, d);
    assert_string_equal(c->name, name);
    assert_int_equal(t->api_servers_count, a);
    assert_int_equal(t->engines_count, d);
    assert_int_equal(t->tp * t->pp, 1);
    assert_int_equal(t->max_num_seqs, 40);
    assert_int_equal(t->async_depth, 2);
    assert_int_equal(t->wait, WAIT_BLOCK);
    assert_int_equal(t->accept, ACCEPT_REUSEPORT);
    assert_int_equal(t->launch, LAUNCH_GRAPH);
    assert_string_equal(t->host.name, "vllm-python");
    assert_string_equal(t->gpu, "h100");
    assert_string_equal(t->model, "llama-3.1-8b");
    assert_int_equal(c->load.mode, SCENARIO_LOAD_CLOSED);
    assert_int_equal(c->load.users_count, 2 * d * 40);
    assert_int_equal(c->load.first_outputs, SCENARIO_FIRST_RESIDUAL);
    assert_int_equal(c->load.warmup_ns, 1500000000);
    assert_int_equal(c->load.batches_count, 8);
    assert_int_equal(c->workload.prompt.kind, SCENARIO_LENGTHS_FIXED);
    assert_int_equal(c->workload.prompt.lo, 128);
    assert_int_equal(c->workload.output.kind, SCENARIO_LENGTHS_UNIFORM);
    assert_int_equal(c->workload.output.lo, 128);
    assert_int_equal(c->workload.output.hi, 384);
    assert_int_equal(c->workload.output.mean, 256);
    assert_true(c->workload.ignore_eos && c->workload.stream);
    assert_true(c->client.balance);
}

static void test_saturation(void **state)
{
    static const uint32_t a[] = {1, 2, 4};
    static const uint32_t d[] = {1, 2, 3, 4, 6, 8};
    struct scenario *s = open_shipped("saturation", NULL);
    (void)state;
    assert_int_equal(s->cells_count, 18);
    assert_int_equal(s->runs_count, 36);
    for (uint32_t i = 0; i < 18; i++) {
        check_saturation_cell(&s->cells[i], a[i / 6], d[i % 6]);
        assert_int_equal(s->cells[i].load.measure_ns, 4000000000);
        assert_int_equal(scenario_run_ns(s, &s->cells[i]), 6500000000);
    }
    for (uint32_t i = 0; i < 36;
         i++) { /* all cells, then all again, with the seed of the replicate */
        assert_int_equal(s->runs[i].cell, i % 18);
        assert_int_equal(s->runs[i].replicate, i / 18);
        assert_int_equal(s->runs[i].seed, 20260917 + i / 18);
    }
    assert_int_equal(scenario_total_ns(s), 36 * INT64_C(6500000000));
    assert_string_equal(s->scaling.along, "dp");
    assert_true(s->scaling.useful_gain_frac > 0.1999 && s->scaling.useful_gain_frac < 0.2001);
    assert_int_equal(s->scaling.laws, LAWS_ALL);
    assert_string_equal(scenario_axis_value(s, &s->cells[7], "api_servers"), "2");
    assert_string_equal(scenario_axis_value(s, &s->cells[7], "dp"), "2");
    assert_null(scenario_axis_value(s, &s->cells[7], "tp"));
    scenario_close(s);
}

static void test_saturation_quick(void **state)
{
    static const uint32_t a[] = {1, 4};
    static const uint32_t d[] = {1, 2, 3, 4, 8};
    const struct scenario_options quick = {.quick = true};
    struct scenario *s = open_shipped("saturation", &quick);
    (void)state;
    assert_int_equal(s->cells_count, 10);
    assert_int_equal(s->runs_count, 10);
    for (uint32_t i = 0; i < 10; i++) {
        check_saturation_cell(&s->cells[i], a[i / 5], d[i % 5]);
        assert_int_equal(s->cells[i].load.measure_ns, 2000000000);
    }
    assert_int_equal(scenario_total_ns(s), INT64_C(45000000000));
    scenario_close(s);
}

static void test_other_shipped(void **state)
{
    const struct scenario_options quick = {.quick = true};
    const char *const set = "workload.trace=/data/conv.csv";
    const struct scenario_options trace = {.sets = &set, .sets_count = 1};
    (void)state;
    struct scenario *s = open_shipped("smoke", NULL);
    assert_int_equal(s->cells_count, 4);
    assert_int_equal(scenario_total_ns(s), INT64_C(10000000000));
    scenario_close(s);
    scenario_close(open_shipped("smoke", &quick));
    scenario_close(open_shipped("azure_conversation", &quick));
    s = open_shipped("azure_conversation", &trace);
    assert_int_equal(s->runs_count, 1);
    assert_string_equal(s->cells[0].name, "single");
    assert_string_equal(s->cells[0].workload.trace, "/data/conv.csv");
    assert_int_equal(s->cells[0].workload.requests_count, 2000);
    assert_true(s->cells[0].workload.time_scale > 3.999 && s->cells[0].workload.time_scale < 4.001);
    assert_int_equal(s->cells[0].load.mode, SCENARIO_LOAD_TRACE);
    assert_true(s->cells[0].load.measure_ns == SCENARIO_MEASURE_ALL);
    assert_true(s->cells[0].topology.max_model_len > 14089); /* longest sequence of the trace */
    assert_int_equal(scenario_total_ns(s), -1);
    scenario_close(s);
}

/* What a simulation takes is not known before, and stands in no sum. */
static void test_times_of_simulated_runs(void **state)
{
    static const char *const both[] = {"scenario.mode=both"};
    const struct scenario_options options = {.sets = both, .sets_count = 1};
    char text[8192] = "";
    (void)state;
    struct scenario *s = open_shipped("deepseek_r1", NULL);
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    assert_int_equal(scenario_total_ns(s), -1);
    scenario_write_cells(s, out);
    scenario_write_runs(s, out);
    (void)fclose(out);
    assert_non_null(strstr(text, "  6min 00s of virtual time a run\n"));
    assert_non_null(strstr(text,
                           "18 cells x 1 replicate = 18 runs (simulated), in virtual time: how "
                           "long they take shows after the first\n"));
    assert_non_null(strstr(text, "r0017  -  "));
    scenario_close(s);
    s = open_shipped("smoke", NULL);
    int64_t measured_ns = scenario_total_ns(s);
    uint32_t runs = s->runs_count;
    scenario_close(s);
    s = open_shipped("smoke", &options);
    assert_int_equal(s->runs_count, 2 * runs);
    assert_true(measured_ns > 0);
    assert_int_equal(scenario_total_ns(s), measured_ns);
    scenario_close(s);
}

/* The scenarios about routing: what they ask for, and how long they may take. */
static void test_shipped_routing(void **state)
{
    const struct scenario_options quick = {.quick = true};
    (void)state;
    struct scenario *s = open_shipped("silent_ranks", NULL);
    assert_int_equal(s->cells_count, 6);
    assert_int_equal(s->cells[0].topology.publish_off, 1);
    assert_int_equal(s->cells[0].topology.router_rule, 4); /* weighted_sum_fixed_start */
    assert_int_equal(s->cells[0].topology.heartbeat_interval_ns, 250000000);
    assert_int_equal(s->cells[1].topology.publish_off, 0);
    scenario_close(s);
    s = open_shipped("stale_counts", NULL);
    const struct scenario_load *bursts = &s->cells[0].load;
    double in_a_burst = bursts->rate_per_s * (double)bursts->arrival.burst_every_ns / 1e9;
    assert_int_equal(bursts->arrival.kind, SCENARIO_ARRIVAL_BURSTS);
    assert_true(in_a_burst > bursts->arrival.burst_count - 0.001);
    assert_true(in_a_burst < bursts->arrival.burst_count + 0.001);
    assert_int_equal(s->cells[0].topology.heartbeat_interval_ns, 5000000000);
    scenario_close(s);
    static const char *const names[] = {"silent_ranks", "stale_counts", "api_servers"};
    for (int i = 0; i < 3; i++) {
        s = open_shipped(names[i], &quick);
        assert_in_range(scenario_total_ns(s), 1, INT64_C(90000000000));
        scenario_close(s);
    }
}

/* ---- precedence and origins ---- */

static void test_precedence(void **state)
{
    static const char text[] = "[scenario]\n"
                               "name = t\n"
                               "[defaults load]\n" /* stands before and counts for all */
                               "warmup = 1s\n"
                               "drain = 2s\n"
                               "batches = 3\n"
                               "measure = 4s\n"
                               "[load base]\n"
                               "drain = 20s\n"
                               "batches = 30\n"
                               "users = 1\n"
                               "[load l]\n"
                               "inherit = base\n"
                               "batches = 300\n"
                               "[server s]\n"
                               "[workload w]\n"
                               "[sweep]\n"
                               "load = l\n"
                               "[quick]\n"
                               "load.l.measure = 40s\n"
                               "load.users = 50\n";
    const char *const sets[] = {"load.users = 500", "load.l.inflight_max=600"};
    struct scenario_options options = {.sets = sets, .sets_count = 2};
    (void)state;
    struct scenario *s = open_text(text, &options);
    assert_true(written(s, "\n[load l]\n"
                           "mode = closed  ; default\n"
                           "users = 500  ; command line\n"
                           "think = 0s  ; default\n"
                           "turns = 1  ; default\n"
                           "arrival = poisson  ; default\n"
                           "rate = 0/s  ; default\n"
                           "warmup = 1s  ; t.ini:4\n"
                           "warmup_max = 60s  ; default\n"
                           "measure = 4s  ; t.ini:7\n"
                           "measure_min_cycles = 0  ; default\n"
                           "batches = 300  ; t.ini:14\n"
                           "drain = 20s  ; t.ini:9\n"
                           "inflight_max = 600  ; command line\n"));
    assert_true(written(s, "\n[load base]\n"
                           "mode = closed  ; default\n"
                           "users = 500  ; command line\n"));
    assert_int_equal(s->cells[0].load.users_count, 500);
    assert_int_equal(s->cells[0].load.warmup_ns, 1000000000);
    assert_int_equal(s->cells[0].load.inflight_max_count, 600);
    scenario_close(s);
    options = (struct scenario_options){.quick = true};
    s = open_text(text, &options);
    assert_true(written(s, "measure = 40s  ; t.ini:20\n"));
    assert_int_equal(s->cells[0].load.measure_ns, 40000000000);
    assert_int_equal(s->cells[0].load.users_count, 50);
    scenario_close(s);
}

/* ---- text: comments, quotes, continuations, variables ---- */

static const char *question_of(const char *value, struct scenario **out)
{
    char text[2048];
    (void)snprintf(text, sizeof text, "[scenario]\nname = t\nquestion = %s\n" REST, value);
    *out = open_text(text, NULL);
    return (*out)->general.question;
}

static void test_text(void **state)
{
    static const struct {
        const char *value;
        const char *expected;
    } rows[] = {
        {"plain words", "plain words"},
        {"a # comment", "a"},
        {"a ; comment", "a"},
        {"a#b;c", "a#b;c"},
        {"\"a # b ; c\"", "a # b ; c"},
        {"\"  kept  \"  ", "  kept  "},
        {"one \"two # three\" four ; five", "one two # three four"},
        {"one \\\n  two \\ ; note\n\tthree", "one two three"},
        {"one \\\n", "one"},
        {"\\\none", "one"},
        {"back\\slash \"end\\\"", "back\\slash end\\"},
        {"${SEQS} seqs", "77 seqs"},
        {"${NOPE:-none} here", "none here"},
        {"${NOPE:-}", ""},
        {"${EMPTY:-x}", ""},
        {"5 $ and 100%", "5 $ and 100%"},
        {"a = b [c]", "a = b [c]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scenario *s = NULL;
        assert_string_equal(question_of(rows[i].value, &s), rows[i].expected);
        char *again = scenario_text(s);
        struct scenario *second = open_text(again, NULL);
        assert_string_equal(second->general.question, rows[i].expected);
        free(again);
        scenario_close(second);
        scenario_close(s);
    }
}

/* ---- numbers ---- */

static void test_counts(void **state)
{
    static const struct {
        const char *text;
        uint32_t expected;
    } rows[] = {{"7", 7},           {"4Ki", 4096},           {"2M", 2000000},
                {"1K", 1000},       {"2Mi", 2097152},        {"2 * 3 + 4", 10},
                {"2 + 3 * 4", 14},  {"(2 + 3) * 4", 20},     {"7 / 2", 3},
                {"$ncpus - 1", 15}, {"$ngpus * 8", 16},      {"10 - 2 - 3", 5},
                {"-1 + 5", 4},      {"2 * %{dp} * 40", 240}, {"${SEQS} * %{dp}", 231}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[512];
        (void)snprintf(text, sizeof text,
                       GOOD "batches = 2\n[workload v]\nrequests = %s\n"
                            "[sweep]\naxis.dp = 3\nworkload = v\n",
                       rows[i].text);
        struct scenario *s = open_text(text, NULL);
        assert_int_equal(s->cells[0].workload.requests_count, rows[i].expected);
        scenario_close(s);
    }
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t expected;
    } rows[] = {{"60s", 60000000000},
                {"250ms", 250000000},
                {"50us", 50000},
                {"7ns", 7},
                {"1.5s", 1500000000},
                {"2min", 120000000000},
                {"0.5h", 1800000000000},
                {"0.000000001s", 1},
                {"0s", 0},
                {"1.25us", 1250}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, GOOD "warmup = %s\n", rows[i].text);
        struct scenario *s = open_text(text, NULL);
        assert_true(s->cells[0].load.warmup_ns == rows[i].expected);
        scenario_close(s);
    }
}

static void test_other_values(void **state)
{
    static const char text[] =
        GOOD "mode = open\nrate = 12 * %{dp}/s\narrival = constant\n"
             "[client]\nmax_lag = p99.9 250us\nmax_cpu = 62.5%\nmax_ceiling = 20%\n"
             "[slo interactive]\nttft_p99_max = 500ms\nclock = sent\n"
             "[plots]\nformat = svg, dumb\n"
             "[sweep]\naxis.dp = 3\n[defaults workload]\n"
             "prompt = uniform lo=16tok hi=2Kitok\n";
    (void)state;
    struct scenario *s = open_text(text, NULL);
    const struct scenario_cell *c = &s->cells[0];
    assert_true(c->load.rate_per_s > 35.999 && c->load.rate_per_s < 36.001);
    assert_int_equal(c->load.arrival.kind, SCENARIO_ARRIVAL_CONSTANT);
    assert_true(c->client.max_lag.quantile > 0.99899 && c->client.max_lag.quantile < 0.99901);
    assert_int_equal(c->client.max_lag.time_ns, 250000);
    assert_true(c->client.max_cpu_frac > 0.62499 && c->client.max_cpu_frac < 0.62501);
    assert_true(c->client.max_ceiling_frac > 0.19999 && c->client.max_ceiling_frac < 0.20001);
    assert_int_equal(s->slos_count, 1);
    assert_string_equal(s->slos[0].name, "interactive");
    assert_int_equal(s->slos[0].ttft_p99_max_ns, 500000000);
    assert_int_equal(s->slos[0].sent_clock, 1);
    assert_int_equal(s->plot_formats, SCENARIO_PLOT_SVG | SCENARIO_PLOT_DUMB);
    assert_int_equal(c->workload.prompt.kind, SCENARIO_LENGTHS_UNIFORM);
    assert_int_equal(c->workload.prompt.lo, 16);
    assert_int_equal(c->workload.prompt.hi, 2048);
    scenario_close(s);
}

/* Windows, sources and demands: what is said, and what is meant if nothing is. */
static void test_windows_and_sources(void **state)
{
    static const char text[] = GOOD "mode = open\nrate = 3/s\nwarmup = auto\nwarmup_max = 20s\n"
                                    "measure_min_cycles = 30\non_inflight_max = wait\n"
                                    "[defaults workload]\nsource = jsonl my/prompts.jsonl\n"
                                    "[report]\nprice = 2.50 per gpu-hour\n"
                                    "demand = 120/s peak, 35.5/s mean\n";
    (void)state;
    struct scenario *s = open_text(text, NULL);
    const struct scenario_cell *c = &s->cells[0];
    assert_true(c->load.warmup_auto);
    assert_int_equal(c->load.warmup_ns, 20000000000);
    assert_int_equal(c->load.measure_min_cycles_count, 30);
    assert_int_equal(c->load.on_inflight_max, SCENARIO_FULL_WAIT);
    assert_int_equal(c->workload.source, SCENARIO_SOURCE_JSONL);
    assert_string_equal(c->workload.trace, "my/prompts.jsonl");
    assert_true(s->report.price_per_gpu_hour > 2.4999 && s->report.price_per_gpu_hour < 2.5001);
    assert_true(s->report.demand.peak_per_s > 119.999 && s->report.demand.peak_per_s < 120.001);
    assert_true(s->report.demand.mean_per_s > 35.499 && s->report.demand.mean_per_s < 35.501);
    assert_int_equal(scenario_run_ns(s, c), -1);
    scenario_close(s);
    s = open_text(GOOD "mode = trace\nmeasure_min_cycles = 0\n[defaults workload]\n"
                       "source = trace a b.csv\n[report]\ndemand = 7/s peak\n",
                  NULL);
    c = &s->cells[0];
    assert_false(c->load.warmup_auto);
    assert_int_equal(c->load.warmup_ns, 0);
    assert_int_equal(c->load.on_inflight_max, SCENARIO_FULL_INVALID);
    assert_int_equal(c->workload.source, SCENARIO_SOURCE_TRACE);
    assert_string_equal(c->workload.trace, "a b.csv");
    assert_true(s->report.price_per_gpu_hour <= 0 && s->report.demand.mean_per_s <= 0);
    scenario_close(s);
}

/* The [slo] in force: none, the only one, the one of [sweep], of an axis, or of a search. */
static void test_slo_in_force(void **state)
{
    static const struct {
        const char *text;
        const char *first; /* of the first cell */
        const char *last;
    } rows[] = {
        {GOOD, "", ""},
        {GOOD "[slo a]\n", "a", "a"},
        {GOOD "[slo a]\n[slo b]\n[sweep]\nslo = b\n", "b", "b"},
        {GOOD "[slo a]\n[slo b]\n[sweep]\naxis.slo = b,a\n", "b", "a"},
        {GOOD "mode = open\n[slo a]\nttft_p99_max = 1s\n[slo b]\ninherit = a\n[find]\n"
              "what = slo_rate\nslo = b\n",
         "b", "b"},
        {GOOD "mode = open\n[slo a]\nttft_p99_max = 1s\n[slo b]\ninherit = a\n[find]\n"
              "what = slo_rate\nslo = b\n[sweep]\nslo = a\n",
         "a", "a"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scenario *s = open_text(rows[i].text, NULL);
        assert_string_equal(s->cells[0].slo.name, rows[i].first);
        assert_string_equal(s->cells[s->cells_count - 1].slo.name, rows[i].last);
        scenario_close(s);
    }
    struct scenario *s = open_text(GOOD "[slo a]\ntpot_p95_max = 20ms\nclock = sent\n", NULL);
    assert_int_equal(s->cells[0].slo.tpot_p95_max_ns, 20000000);
    assert_int_equal(s->cells[0].slo.sent_clock, 1);
    scenario_close(s);
}

/* wait = auto spins only with a CPU for each API server, engine core, worker and one more. */
static void test_wait_auto(void **state)
{
    (void)state;
    struct scenario *s = open_text(GOOD "[sweep]\naxis.dp = 7,8\n[defaults server]\n"
                                        "topology = api_servers=1 dp=%{dp}\n",
                                   NULL);
    assert_int_equal(s->cells[0].topology.wait, WAIT_SPIN);  /* 1 + 7 + 7 + 1 = 16 CPUs */
    assert_int_equal(s->cells[1].topology.wait, WAIT_BLOCK); /* 18 */
    scenario_close(s);
}

/* ---- sweeps ---- */

/* The names of all cells, a blank between two. */
static void join_names(const struct scenario *s, char *out, size_t cap)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < s->cells_count; i++) {
        int bytes = snprintf(out + used, cap - used, "%s%s", i == 0 ? "" : " ", s->cells[i].name);
        assert_true(bytes > 0 && (size_t)bytes < cap - used);
        used += (size_t)bytes;
    }
}

static void test_lists(void **state)
{
    static const struct {
        const char *text;
        const char *expected; /* cell names; NULL: an error */
    } rows[] = {
        {"1,2,4", "x=1 x=2 x=4"},
        {"1..4", "x=1 x=2 x=3 x=4"},
        {"5..5", "x=5"},
        {"1..8*2", "x=1 x=2 x=4 x=8"},
        {"1..10*3", "x=1 x=3 x=9"},
        {"10..40+10", "x=10 x=20 x=30 x=40"},
        {"10..35+10", "x=10 x=20 x=30"},
        {"50%..90%+20%", "x=50% x=70% x=90%"},
        {"1..3, 8", "x=1 x=2 x=3 x=8"},
        {"graph , eager", "x=graph x=eager"},
        {"1,,2", NULL},
        {"1,", NULL},
        {"4..1", NULL},
        {"0..8*2", NULL},
        {"1..8*1", NULL},
        {"1..8+0", NULL},
        {"1ms..8s", NULL},
        {"1..", NULL},
        {"1..300", NULL},
        {"a..b", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[512];
        char names[1024] = "";
        struct scenario *s = NULL;
        (void)snprintf(text, sizeof text, GOOD "[sweep]\naxis.x = %s\n", rows[i].text);
        enum status status = memory_open(text, NULL, &s, &problems);
        assert_int_equal(status, rows[i].expected != NULL ? STATUS_OK : STATUS_INVALID);
        if (s != NULL) {
            join_names(s, names, sizeof names);
        }
        assert_string_equal(names, rows[i].expected != NULL ? rows[i].expected : "");
        scenario_close(s);
    }
}

static void check_cells(const char *sweep, const struct scenario_options *options,
                        const char *expected)
{
    char text[1024];
    char names[1024];
    (void)snprintf(text, sizeof text, GOOD "[sweep]\n%s", sweep);
    struct scenario *s = open_text(text, options);
    join_names(s, names, sizeof names);
    assert_string_equal(names, expected);
    scenario_close(s);
}

static void test_sweeps(void **state)
{
    const struct scenario_options one = {.only = "b=4,a=2"};
    const struct scenario_options either = {.only = "a=1, a=2, b=3"};
    (void)state;
    check_cells("axis.a = 1,2\naxis.b = 3,4\n", NULL, "a=1,b=3 a=1,b=4 a=2,b=3 a=2,b=4");
    check_cells("axis.a = 1,2\naxis.b = 3,4\ncombine = zip\n", NULL, "a=1,b=3 a=2,b=4");
    check_cells("axis.a = 1,2\naxis.b = 3,4\naxis.c = 5,6\ncombine = link c:a\n", NULL,
                "a=1,b=3,c=5 a=1,b=4,c=5 a=2,b=3,c=6 a=2,b=4,c=6");
    check_cells("axis.a = 1,2\naxis.b = 3,4,7\naxis.c = 5,6\naxis.d = 7,8,9\n"
                "combine = link a:c  b:d\n",
                NULL,
                "a=1,b=3,c=5,d=7 a=1,b=4,c=5,d=8 a=1,b=7,c=5,d=9 a=2,b=3,c=6,d=7 "
                "a=2,b=4,c=6,d=8 a=2,b=7,c=6,d=9");
    check_cells("axis.a = 1,2\naxis.b = 1..4\nskip = a > 2*b or b >= 3 and a == 1\n", NULL,
                "a=1,b=1 a=1,b=2 a=2,b=1 a=2,b=2 a=2,b=3 a=2,b=4");
    check_cells("axis.a = 1,2\naxis.b = 3,4\n", &one, "a=2,b=4");
    check_cells("axis.a = 1,2,3\naxis.b = 3,4\n", &either, "a=1,b=3 a=2,b=3");
}

static void test_chosen_sections(void **state)
{
    (void)state;
    struct scenario *s = open_text(GOOD "[server big]\nmax_num_seqs = 9\n[load k]\nusers = 5\n"
                                        "[sweep]\naxis.server = big,s\nload = k\n",
                                   NULL);
    assert_int_equal(s->cells_count, 2);
    assert_string_equal(s->cells[0].server, "big");
    assert_int_equal(s->cells[0].topology.max_num_seqs, 9);
    assert_string_equal(s->cells[1].server, "s");
    assert_int_equal(s->cells[1].topology.max_num_seqs, 256);
    assert_string_equal(s->cells[1].load.name, "k");
    assert_int_equal(s->cells[1].load.users_count, 5);
    scenario_close(s);
}

static void test_order(void **state)
{
    uint32_t seen[3][4] = {{0}};
    uint32_t moved = 0;
    (void)state;
    struct scenario *s = open_text("[scenario]\nname = t\nrepeats = 3\norder = sequential\n" REST
                                   "[sweep]\naxis.a = 1..4\n",
                                   NULL);
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(s->runs[i].cell, i / 3);
        assert_int_equal(s->runs[i].replicate, i % 3);
    }
    scenario_close(s);
    s = open_text("[scenario]\nname = t\nrepeats = 3\norder = shuffled\n" REST
                  "[sweep]\naxis.a = 1..4\n",
                  NULL);
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(s->runs[i].replicate, i / 4);
        seen[s->runs[i].replicate][s->runs[i].cell]++;
        moved += s->runs[i].cell != i % 4 ? 1 : 0;
    }
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(seen[i / 4][i % 4], 1);
    }
    assert_true(moved > 0);
    scenario_close(s);
}

/* ---- includes ---- */

static enum status open_files(const struct memory_file *files, struct scenario **out)
{
    struct memory memory = {.files = files};
    struct scenario_environment environment = memory_environment(&memory);
    return scenario_open(files[0].path, &environment, NULL, out, &problems);
}

static void test_include(void **state)
{
    /* relative to the file that includes; the section of the includer goes on after it */
    static const struct memory_file files[] = {
        {"d/t.ini", "[scenario]\nname = t\ninclude = sub/common.ini ; shared\nseed = 3\n"},
        {"d/sub/common.ini", "[server s]\nmax_num_seqs = 5\ninclude = more.ini\n"},
        {"d/sub/more.ini", "[workload w]\n[load l]\nusers = 1\n"},
        {NULL, NULL}};
    struct scenario *s = NULL;
    (void)state;
    assert_int_equal(open_files(files, &s), STATUS_OK);
    assert_int_equal(s->general.seed, 3);
    assert_true(written(s, "max_num_seqs = 5  ; d/sub/common.ini:2\n"));
    assert_true(written(s, "users = 1  ; d/sub/more.ini:3\n"));
    scenario_close(s);
}

static void test_include_cycle(void **state)
{
    static const struct memory_file cycle[] = {{"a.ini", "include = b.ini\n" GOOD},
                                               {"b.ini", "include = c.ini\n"},
                                               {"c.ini", "\n  include = a.ini\n"},
                                               {NULL, NULL}};
    struct scenario *s = NULL;
    (void)state;
    assert_int_equal(open_files(cycle, &s), STATUS_INVALID);
    assert_int_equal(problems.count, 1);
    assert_string_equal(problems.text[0], "c.ini:2:13: 'a.ini' includes itself");
}

static void test_include_depth(void **state)
{
    static char names[11][8];
    static char texts[11][256];
    struct memory_file files[12] = {{NULL, NULL}};
    struct scenario *s = NULL;
    (void)state;
    for (int last = 8; last <= 9; last++) { /* the first file and `last` files below it */
        for (int i = 0; i <= last; i++) {
            (void)snprintf(names[i], sizeof names[i], "%d.ini", i);
            (void)snprintf(texts[i], sizeof texts[i], "include = %d.ini\n", i + 1);
            files[i] = (struct memory_file){names[i], i < last ? texts[i] : GOOD};
        }
        files[last + 1] = (struct memory_file){NULL, NULL};
        enum status status = open_files(files, &s);
        assert_int_equal(status, last == 8 ? STATUS_OK : STATUS_INVALID);
        if (status == STATUS_OK) {
            scenario_close(s);
        }
    }
    assert_string_equal(problems.text[0], "8.ini:1:11: includes are nested more than 8 deep");
}

/* ---- round trip ---- */

static void check_same(const struct scenario *a, const struct scenario *b)
{
    assert_int_equal(a->cells_count, b->cells_count);
    assert_int_equal(a->runs_count, b->runs_count);
    assert_memory_equal(&a->general, &b->general, sizeof a->general);
    assert_memory_equal(&a->scaling, &b->scaling, sizeof a->scaling);
    assert_memory_equal(a->slos, b->slos, sizeof a->slos);
    assert_memory_equal(a->cells, b->cells, a->cells_count * sizeof *a->cells);
    for (uint32_t i = 0; i < a->runs_count; i++) {
        assert_int_equal(a->runs[i].cell, b->runs[i].cell);
        assert_int_equal(a->runs[i].replicate, b->runs[i].replicate);
        assert_true(a->runs[i].seed == b->runs[i].seed);
    }
}

static void check_round_trip(struct scenario *first)
{
    char *text = scenario_text(first);
    struct memory_file files[] = {{"t.ini", text}, {NULL, NULL}};
    struct memory memory = {.files = files};
    struct scenario_environment environment = memory_environment(&memory);
    struct scenario *second = NULL;
    if (scenario_open("t.ini", &environment, NULL, &second, &problems) != STATUS_OK) {
        fail_msg("%s in\n%s", problems.text[0], text);
    }
    check_same(first, second);
    scenario_close(second);
    scenario_close(first);
    free(text);
}

static void test_round_trip(void **state)
{
    const struct scenario_options quick = {.quick = true};
    (void)state;
    check_round_trip(open_shipped("saturation", NULL));
    check_round_trip(open_shipped("saturation", &quick));
    check_round_trip(open_shipped("smoke", NULL));
    check_round_trip(open_shipped("azure_conversation", NULL));
    check_round_trip(open_text(
        GOOD "[slo a]\nerror_max = 2%\n[slo b]\ninherit = a\n[client]\nceiling = measure\n"
             "[sweep]\naxis.a = 1..6\nskip = a > 2 and a != 5\nslo = b\n[defaults scenario]\n"
             "order = shuffled\nrepeats = 7\nquestion = \" # ; \\\"\n",
        NULL));
}

static void test_keys(void **state)
{
    char *text = NULL;
    size_t bytes = 0;
    struct error error = {.status = STATUS_OK};
    (void)state;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    assert_int_equal(scenario_write_keys("load.users", out, &error), STATUS_OK);
    (void)fflush(out);
    assert_non_null(strstr(text, "count, 0 to 1048576, default 0"));
    assert_int_equal(scenario_write_keys(NULL, out, &error), STATUS_OK);
    assert_int_equal(scenario_write_keys("laod", out, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.text, "unknown section 'laod', did you mean 'load'?");
    assert_int_equal(scenario_write_keys("load.user", out, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.text, "unknown key 'user', did you mean 'users'?");
    (void)fclose(out);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_saturation_quick),
        cmocka_unit_test(test_other_shipped),
        cmocka_unit_test(test_shipped_routing),
        cmocka_unit_test(test_times_of_simulated_runs),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_slo_in_force),
        cmocka_unit_test(test_other_values),
        cmocka_unit_test(test_windows_and_sources),
        cmocka_unit_test(test_wait_auto),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_sweeps),
        cmocka_unit_test(test_chosen_sections),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_include),
        cmocka_unit_test(test_include_cycle),
        cmocka_unit_test(test_include_depth),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
