/*
 * scenario_foreign_test.c - servers of others in scenarios: what a cell knows of them, the
 * sentences for keys that do not fit, and what --dry-run and `expand` print. The oracle is what
 * stands here, written from docs/scenarios.md and not from the program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper_scenario.h"

/* Seven lines; what a row adds to the [server s] starts on line 8. */
#define GOOD "[scenario]\nname = t\n[workload w]\n[load l]\nusers = 4\nmeasure = 1s\n[server s]\n"

struct row {
    const char *text;
    const char *expected; /* all problems, one a line; "" if the scenario is right */
};

static const struct row rows[] = {
    {GOOD "attach = http://127.0.0.1:8000\n", ""},
    {GOOD "attach = http://gpu-box/\n", ""},
    {GOOD "launch = vllm serve m\n", ""},
    {GOOD "launch = ./serve.sh\n", ""},
    {GOOD "launch = eager\n", ""},
    {GOOD "attach = 127.0.0.1:8000\n",
     "t.ini:8:10: attach: '127.0.0.1:8000' is no URL: write http://127.0.0.1:8000"},
    {GOOD "attach = https://127.0.0.1:8000\n",
     "t.ini:8:10: attach: 'https://127.0.0.1:8000' is no URL: write http://127.0.0.1:8000"},
    {GOOD "attach = http://a:99999\n", "t.ini:8:10: attach: 'http://a:99999' is no host and port: "
                                       "write http://127.0.0.1:8000, without a path"},
    {GOOD "attach = http://a:80/v1\n", "t.ini:8:10: attach: 'http://a:80/v1' is no host and port: "
                                       "write http://127.0.0.1:8000, without a path"},
    {GOOD "attach = http://:80\n", "t.ini:8:10: attach: 'http://:80' is no host and port: "
                                   "write http://127.0.0.1:8000, without a path"},
    {GOOD "launch = eagr\n",
     "t.ini:8:10: launch: unknown value 'eagr', did you mean 'eager'? (one of graph|eager, or a "
     "command line: it has a blank or a '/')"},
    {GOOD "attach = http://a:80\nlaunch = vllm serve m\n",
     "t.ini:9:10: launch: not beside attach: that server runs already (where a launched one "
     "answers is url)"},
    {GOOD "attach = http://a:80\nstart_timeout = 5s\nurl = http://a:81\n",
     "t.ini:10:7: url: not beside attach: that server runs already\n"
     "t.ini:9:17: start_timeout: not beside attach: that server runs already"},
    {GOOD "attach = http://a:80\ntopology = api_servers=1 dp=2\n",
     "t.ini:9:12: topology: means nothing beside attach: it is a key of the project's own serving "
     "system"},
    {GOOD "launch = vllm serve m\nmax_num_seqs = 8\n",
     "t.ini:9:16: max_num_seqs: means nothing beside launch = COMMAND LINE: it is a key of the "
     "project's own serving system"},
    {GOOD "slots = 8\n", "t.ini:8:9: slots: only servers of others have it: those with attach = "
                         "URL or launch = COMMAND LINE"},
    {GOOD "stage.engine = title x\n",
     "t.ini:8:16: stage.engine: only servers of others have it: those with attach = URL or "
     "launch = COMMAND LINE"},
    {GOOD "attach = http://a:80\nstage.engin = title x\n",
     "t.ini:9:1: unknown key 'stage.engin', did you mean 'stage.engine'?"},
    {GOOD "attach = http://a:80\nstage.engine = VLLM::*\n",
     "t.ini:9:16: stage.engine: 'VLLM::*': write title VLLM::APIServer*"},
    {GOOD "attach = http://a:80\ncounters = prometheus /m, prometheus /n every 1s\n",
     "t.ini:9:12: counters: 'prometheus /m': write prometheus /metrics every 1s"},
    {GOOD "attach = http://a:80\ncounters = prometheus /m every 50ms\n",
     "t.ini:9:12: counters: every 50ms: want 100ms or more"},
    {GOOD "attach = http://a:80\ncounters = proc, proc\n",
     "t.ini:9:12: counters: 'proc' is one too many"},
    {GOOD "attach = http://a:80\ncounters = prco\n",
     "t.ini:9:12: counters: unknown 'prco', did you mean 'proc'? (any of proc, prometheus "
     "/metrics every 1s)"},
    {GOOD "attach = http://a:80\n[find]\nwhat = capacity\n[load m]\nmode = open\n[sweep]\nload = "
          "m\n",
     "t.ini:10:8: what: [server s] needs slots, the sequences that it runs at once: capacity is "
     "measured with twice as many users"},
    {GOOD "attach = http://a:80\nslots = 9\n[find]\nwhat = capacity\n[load m]\nmode = open\n"
          "[sweep]\nload = m\n",
     ""},
    {GOOD "attach = http://a:80\n[defaults load]\nfirst_outputs = residual\n",
     "t.ini:10:17: first_outputs: residual needs slots in [server s], the sequences that it runs "
     "at once"},
    {"[scenario]\nmode = simulate\nname = t\n[workload w]\n[load l]\nusers = 4\n[server s]\n"
     "attach = http://a:80\n",
     "t.ini:7:2: server s: a server of others cannot be simulated"},
    {GOOD "attach = http://a:80\n[probe]\nelasticity = top2 by=10%\n",
     "t.ini:10:14: elasticity: the stages of [server s] cannot be slowed: it is a server of "
     "others"},
};

static void wrong_keys_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct scenario_problems problems;
        struct scenario *scenario = NULL;
        char text[4096];
        enum status status = memory_open(rows[i].text, NULL, &scenario, &problems);
        problems_join(&problems, text, sizeof text);
        if (strcmp(text, rows[i].expected) != 0) {
            fail_msg("%s\n---- want\n%s\n---- got\n%s", rows[i].text, rows[i].expected, text);
        }
        assert_int_equal(status, rows[i].expected[0] == '\0' ? STATUS_OK : STATUS_INVALID);
        scenario_close(scenario);
    }
}

static struct scenario *open_good(const char *text)
{
    static struct scenario_problems problems;
    struct scenario *scenario = NULL;
    if (memory_open(text, NULL, &scenario, &problems) != STATUS_OK) {
        fail_msg("%s", problems.text[0]);
    }
    return scenario;
}

static void a_server_that_runs_already(void **state)
{
    (void)state;
    struct scenario *s = open_good(
        GOOD "attach = http://gpu-box:9000\nmodel = m\nslots = 2 * 64\n"
             "counters = proc, prometheus /stats every 250ms\nstage.engine = title Eng*\n");
    const struct scenario_foreign *f = &s->cells[0].foreign;
    assert_int_equal(f->kind, SCENARIO_SERVER_ATTACHED);
    assert_string_equal(f->url.host, "gpu-box");
    assert_int_equal(f->url.port, 9000);
    assert_string_equal(f->model, "m");
    assert_true(f->counters.proc);
    assert_string_equal(f->counters.prometheus, "/stats");
    assert_int_equal(f->counters.every_ns, 250000000);
    assert_string_equal(f->titles[SCENARIO_STAGE_ENGINE], "Eng*");
    assert_string_equal(f->titles[SCENARIO_STAGE_API_SERVER], "VLLM::APIServer*");
    assert_int_equal(scenario_slots(&s->cells[0]), 128);
    assert_int_equal(s->cells[0].topology.engines_count, 0);
    assert_false(s->cells[0].client.balance);
    scenario_close(s);
}

static void what_is_not_given(void **state)
{
    (void)state;
    struct scenario *s = open_good(GOOD "launch = vllm serve m\nmodel = auto\n");
    const struct scenario_foreign *f = &s->cells[0].foreign;
    assert_int_equal(f->kind, SCENARIO_SERVER_LAUNCHED);
    assert_string_equal(f->command, "vllm serve m");
    assert_string_equal(f->url.host, "127.0.0.1");
    assert_int_equal(f->url.port, 8000);
    assert_string_equal(f->model, "");
    assert_true(f->counters.proc);
    assert_string_equal(f->counters.prometheus, "/metrics");
    assert_int_equal(f->counters.every_ns, 1000000000);
    assert_int_equal(f->start_timeout_ns, 600000000000);
    assert_string_equal(f->titles[SCENARIO_STAGE_API_SERVER], "VLLM::APIServer*");
    assert_string_equal(f->titles[SCENARIO_STAGE_COORDINATOR], "VLLM::DPCoordinator*");
    assert_string_equal(f->titles[SCENARIO_STAGE_ENGINE], "VLLM::EngineCore*");
    assert_string_equal(f->titles[SCENARIO_STAGE_WORKER], "VLLM::Worker*");
    assert_int_equal(scenario_slots(&s->cells[0]), 0);
    scenario_close(s);
}

/* The project's own system beside a server of others, and what it had before it had. */
static void own_and_foreign_side_by_side(void **state)
{
    (void)state;
    struct scenario *s =
        open_good(GOOD "launch = vllm serve m -d %{dp}\nurl = http://127.0.0.1:80%{dp}0\n"
                       "[server own]\ntopology = api_servers=2 dp=%{dp}\nlaunch = "
                       "eager\n[sweep]\naxis.server = s,own\naxis.dp = 1,2\n");
    assert_int_equal(s->cells_count, 4);
    assert_string_equal(s->cells[1].foreign.command, "vllm serve m -d 2");
    assert_int_equal(s->cells[1].foreign.url.port, 8020);
    assert_int_equal(s->cells[3].foreign.kind, SCENARIO_SERVER_OWN);
    assert_string_equal(s->cells[3].foreign.command, "");
    assert_int_equal(s->cells[3].topology.engines_count, 2);
    assert_int_equal(s->cells[3].topology.launch, LAUNCH_EAGER);
    scenario_close(s);
}

static void what_is_printed_before_a_run(void **state)
{
    (void)state;
    static const char expected[] =
        "   1  dp=1  s: launched, at http://127.0.0.1:8000  l: 4 users  w  4.0s a run\n"
        "      $ vllm serve m -d 1\n"
        "   2  dp=2  s: launched, at http://127.0.0.1:8000  l: 4 users  w  4.0s a run\n"
        "      $ vllm serve m -d 2\n"
        "2 cells x 5 replicates = 10 runs, about 40.0s and what launched servers take\n";
    char text[2048] = "";
    struct scenario *s = open_good(GOOD "launch = vllm serve m -d %{dp}\n[sweep]\naxis.dp = 1,2\n");
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    scenario_write_cells(s, out);
    (void)fclose(out);
    assert_string_equal(text, expected);
    scenario_close(s);
    s = open_good(GOOD "attach = http://gpu-box:9000\n");
    out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    scenario_write_cells(s, out);
    (void)fclose(out);
    assert_string_equal(
        text, "   1  single  s: attached, http://gpu-box:9000  l: 4 users  w  4.0s a run\n"
              "1 cell x 5 replicates = 5 runs, about 20.0s\n");
    scenario_close(s);
}

/* `harness expand` prints a scenario that is right, and the same. */
static void expanded_scenarios_are_scenarios(void **state)
{
    (void)state;
    struct scenario *s =
        open_good(GOOD "launch = vllm serve m --x 'a;b' -d %{dp}\ncounters = proc\nslots = 8\n"
                       "[sweep]\naxis.dp = 1,2\n");
    char *text = scenario_text(s);
    struct scenario *again = open_good(text);
    assert_int_equal(again->cells_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_memory_equal(&again->cells[i].foreign, &s->cells[i].foreign,
                            sizeof s->cells[i].foreign);
    }
    free(text);
    scenario_close(again);
    scenario_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_keys_are_named),
        cmocka_unit_test(a_server_that_runs_already),
        cmocka_unit_test(what_is_not_given),
        cmocka_unit_test(own_and_foreign_side_by_side),
        cmocka_unit_test(what_is_printed_before_a_run),
        cmocka_unit_test(expanded_scenarios_are_scenarios),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
