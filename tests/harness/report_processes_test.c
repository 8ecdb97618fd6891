/*
 * report_processes_test.c - from events to what is shown: lines of events.jsonl, the life of each
 * process, the sentences about launcher and coordinator, and the figure, for a made-up run whose
 * times are known, for one with more processes than the figure has rows, and for none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/report/event_lines.h"
#include "harness/report/processes.h"
#include "harness/run/record.h"
#include "helper_report.h"

enum {
    EVENTS_MAX = 2048,
    CLIENT = THREAD_KINDS_COUNT
};

static const char scenario_text[] = "[scenario]\nname = one\n[server s]\n"
                                    "topology = api_servers=1 dp=2 tp=1\nlockstep = %s\n"
                                    "[workload w]\n[load l]\nusers = 1\nmeasure = 1s\n";

static struct sweep make(bool lockstep)
{
    char text[512];
    (void)snprintf(text, sizeof text, scenario_text, lockstep ? "yes" : "no");
    struct sweep s = sweep_of(text);
    s.results[0].events = calloc(EVENTS_MAX, sizeof *s.results[0].events);
    assert_non_null(s.results[0].events);
    return s;
}

/* Noted by that process itself. */
static struct run_event *add(struct run_result *r, double ms, uint32_t process, uint32_t instance,
                             enum event_kind what)
{
    assert_true(r->events_count < EVENTS_MAX);
    struct run_event *e = &r->events[r->events_count];
    *e = (struct run_event){.at_ns = (int64_t)(ms * 1e6),
                            .process = process,
                            .instance = instance,
                            .number = r->events_count++,
                            .what = (uint32_t)what};
    return e;
}

static void tell(struct run_result *r, double ms, enum event_kind what, uint32_t of,
                 uint32_t instance)
{
    struct run_event *e = add(r, ms, THREAD_LAUNCHER_MAIN, 0, what);
    e->note.about = true;
    e->note.kind = of;
    e->note.instance = instance;
}

static void publish(struct run_result *r, double ms, bool changed, int64_t messages)
{
    struct run_event *e = add(r, ms, THREAD_COORDINATOR_MAIN, 0, EVENT_PUBLISHED);
    e->note.value[0] = changed ? 1 : 0;
    e->note.value[1] = messages;
}

static void wave(struct run_result *r, double ms, bool runs)
{
    if (runs) {
        add(r, ms, THREAD_COORDINATOR_MAIN, 0, EVENT_START_WAVE_SENT);
    }
    add(r, ms, THREAD_COORDINATOR_MAIN, 0, EVENT_WAVE_PUBLISHED)->note.value[1] = runs ? 1 : 0;
    for (uint32_t rank = 0; rank < 2; rank++) {
        add(r, ms + 1, THREAD_ENGINE_MAIN, rank, runs ? EVENT_WAVE_BEGAN : EVENT_WAVE_ENDED);
    }
}

static void start(struct run_result *r)
{
    add(r, 5, THREAD_LAUNCHER_MAIN, 0, EVENT_STARTED);
    tell(r, 10, EVENT_SPAWNED, THREAD_COORDINATOR_MAIN, 0);
    add(r, 12, THREAD_COORDINATOR_MAIN, 0, EVENT_STARTED);
    tell(r, 15, EVENT_SPAWNED, THREAD_ENGINE_MAIN, 0);
    tell(r, 16, EVENT_SPAWNED, THREAD_ENGINE_MAIN, 1);
    tell(r, 17, EVENT_SPAWNED, THREAD_API_MAIN, 0);
    add(r, 20, THREAD_ENGINE_MAIN, 1, EVENT_STARTED);
    add(r, 22, THREAD_ENGINE_MAIN, 0, EVENT_STARTED);
    add(r, 24, THREAD_API_MAIN, 0, EVENT_STARTED);
    add(r, 55, THREAD_COORDINATOR_MAIN, 0, EVENT_READY);
    add(r, 60, THREAD_ENGINE_MAIN, 1, EVENT_READY);
    add(r, 62, THREAD_ENGINE_MAIN, 0, EVENT_READY);
    tell(r, 63, EVENT_READY_HEARD, THREAD_ENGINE_MAIN, 0);
    add(r, 70, THREAD_API_MAIN, 0, EVENT_LISTENING);
    add(r, 71.5, THREAD_LAUNCHER_MAIN, 0, EVENT_SERVING)->note.value[0] = 8000;
}

static void end(struct run_result *r)
{
    tell(r, 3100, EVENT_SIGNAL_SENT, THREAD_API_MAIN, 0);
    tell(r, 3110, EVENT_EXITED, THREAD_API_MAIN, 0);
    for (uint32_t i = 0; i < 2; i++) {
        tell(r, 3111 + i, EVENT_SIGNAL_SENT, THREAD_ENGINE_MAIN, i);
    }
    tell(r, 3113, EVENT_SIGNAL_SENT, THREAD_COORDINATOR_MAIN, 0);
    for (uint32_t i = 0; i < 2; i++) {
        tell(r, 3120 + i, EVENT_EXITED, THREAD_ENGINE_MAIN, i);
    }
    tell(r, 3123, EVENT_EXITED, THREAD_COORDINATOR_MAIN, 0);
    add(r, 3124, THREAD_LAUNCHER_MAIN, 0, EVENT_DONE);
}

static void serve(struct run_result *r, bool lockstep)
{
    publish(r, 56, false, 0);
    add(r, 100, CLIENT, 0, EVENT_LOAD_BEGAN);
    publish(r, 900, true, 3); /* before the window */
    add(r, 1000, CLIENT, 0, EVENT_WINDOW_BEGAN);
    publish(r, 1050, true, 5);
    publish(r, 1150, true, 6);
    if (lockstep) {
        wave(r, 1200, true);
        wave(r, 1260, false);
    }
    publish(r, 1310, false, 1);
    add(r, 3000, CLIENT, 0, EVENT_WINDOW_ENDED);
}

static void fill(struct run_result *r, bool lockstep)
{
    start(r);
    serve(r, lockstep);
    end(r);
}

static void assert_ms(double got_s, double want_ms)
{
    if (!(fabs(got_s * 1e3 - want_ms) < 1e-6)) {
        fail_msg("%.6f ms instead of %.6f", got_s * 1e3, want_ms);
    }
}

/* ---- what it becomes ---- */

static void each_life_has_its_times(void **state)
{
    (void)state;
    static const char *const names[] = {"launcher", "DPCoordinator", "EngineCore_DP0",
                                        "EngineCore_DP1", "ApiServer_0"};
    static const double times[][5] = {{STATS_UNKNOWN, 5, 71.5, STATS_UNKNOWN, 3124},
                                      {10, 12, 55, 3113, 3123},
                                      {15, 22, 62, 3111, 3120},
                                      {16, 20, 60, 3112, 3121},
                                      {17, 24, 70, 3100, 3110}};
    struct sweep sweep = make(false);
    fill(&sweep.results[0], false);
    struct process_lives l = process_lives_of(&sweep.results[0]);
    assert_int_equal(l.spans_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        const struct process_span *s = &l.spans[i];
        assert_string_equal(s->name, names[i]);
        assert_true(i > 0 || (isnan(s->spawned_s) && isnan(s->stop_s)));
        if (i > 0) {
            assert_ms(s->spawned_s, times[i][0]);
            assert_ms(s->stop_s, times[i][3]);
        }
        assert_ms(s->started_s, times[i][1]);
        assert_ms(s->ready_s, times[i][2]);
        assert_ms(s->ended_s, times[i][4]);
    }
    assert_ms(l.serving_s, 71.5);
    assert_ms(l.window_s[0], 1000);
    assert_ms(l.window_s[1], 3000);
    assert_ms(l.stop_s, 3100);
    assert_ms(l.done_s, 3124);
    process_lives_free(&l);
    sweep_free(&sweep);
}

static void assert_told(const struct run_result *r, const char *want)
{
    char text[1024];
    struct text t = text_into(text, sizeof text);
    processes_tell(r, &t);
    assert_string_equal(text, want);
}

static void sentences_hold_the_windows_counts(void **state)
{
    (void)state;
    struct sweep sweep = make(false);
    assert_told(&sweep.results[0], "");
    fill(&sweep.results[0], false);
    /* 5 + 6 + 1 messages in 2 s. */
    assert_told(
        &sweep.results[0],
        "The launcher had everything ready 72 ms after it was started. In the window it "
        "did nothing. The coordinator published 3 times in 2.0 s, 100 to 160 ms apart, 2 of "
        "these because counts had changed, and took in 6 messages/s. From the first signal to the "
        "end of the last process it took "
        "24 ms.");
    sweep_free(&sweep);
    sweep = make(true);
    fill(&sweep.results[0], true);
    assert_told(
        &sweep.results[0],
        "The launcher had everything ready 72 ms after it was started. In the window it "
        "did nothing. The coordinator published 3 times in 2.0 s, 100 to 160 ms apart, 2 of "
        "these because counts had changed, and took in 6 messages/s. Waves that began: 1; "
        "START_DP_WAVE sent: 1. From the "
        "first signal to the end of the last process it took 24 ms.");
    sweep_free(&sweep);
}

static void assert_lines(const struct run_result *r, const char *want)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    event_lines_write(r, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, want);
    free(text);
}

static void lines_are_objects(void **state)
{
    (void)state;
    struct sweep sweep = make(false);
    struct run_result *r = &sweep.results[0];
    assert_lines(r, "");
    add(r, 0.0259999, THREAD_LAUNCHER_MAIN, 0, EVENT_STARTED)->note.value[0] = 4711;
    tell(r, 1234.5, EVENT_EXITED, THREAD_ENGINE_MAIN, 3);
    r->events[1].note.value[1] = 9;
    publish(r, 2000, true, 12);
    add(r, 2001, CLIENT, 0, EVENT_WINDOW_ENDED);
    assert_lines(r, "{\"run_id\":\"r0000\",\"t_ms\":0.025,\"process\":\"launcher\",\"instance\":0,"
                    "\"event\":\"started\",\"pid\":4711}\n"
                    "{\"run_id\":\"r0000\",\"t_ms\":1234.500,\"process\":\"launcher\","
                    "\"instance\":0,\"event\":\"exited\",\"of\":\"engine_core\","
                    "\"of_instance\":3,\"status\":0,\"signal\":9}\n"
                    "{\"run_id\":\"r0000\",\"t_ms\":2000.000,\"process\":\"coordinator\","
                    "\"instance\":0,\"event\":\"published\",\"changed\":1,\"messages\":12}\n"
                    "{\"run_id\":\"r0000\",\"t_ms\":2001.000,\"process\":\"client\","
                    "\"instance\":0,\"event\":\"window_ended\"}\n");
    sweep_free(&sweep);
}

/* A row a sort of event; two launchers' or ranks' events are one row. */
static void the_table_counts_sorts(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    struct sweep sweep = make(true);
    fill(&sweep.results[0], true);
    struct grid g = processes_grid(&sweep.results[0]);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    grid_markdown(&g, out);
    assert_int_equal(fclose(out), 0);
    static const char *const rows[] = {
        "| launcher | spawned | engine_core | 2 | 15.0 | 16.0 |\n",
        "| engine_core x 2 | started |  | 2 | 20.0 | 22.0 |\n",
        "| coordinator | published: counts changed |  | 3 | 900.0 | 1150.0 |\n",
        "| coordinator | published: nothing new |  | 2 | 56.0 | 1310.0 |\n",
        "| coordinator | wave_published: it runs |  | 1 | 1200.0 |  |\n",
        "| coordinator | wave_published: over |  | 1 | 1260.0 |  |\n",
        "| client | load_began |  | 1 | 100.0 |  |\n",
        "| launcher | done |  | 1 | 3124.0 |  |\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strstr(text, rows[i]) == NULL) {
            fail_msg("no row %sin\n%s", rows[i], text);
        }
    }
    free(text);
    grid_free(&g);
    sweep_free(&sweep);
}

/* ---- reports ---- */

static bool have_gnuplot(void)
{
    static const char *const places[] = {"/usr/bin/gnuplot", "/usr/local/bin/gnuplot",
                                         "/bin/gnuplot"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (access(places[i], X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static void write_report(const char *folder, const struct sweep *sweep)
{
    char plots[512];
    const char *root = getenv("HARNESS_SOURCE_DIR"); // NOLINT(concurrency-mt-unsafe)
    struct report *report = NULL;
    struct error error;
    struct report_conclusion conclusion;
    (void)snprintf(plots, sizeof plots, "%s/plots", root != NULL ? root : ".");
    sweep->scenario->plot_formats = SCENARIO_PLOT_SVG | SCENARIO_PLOT_DUMB;
    const struct report_options options = {
        .folder = folder, .plots_folder = plots, .scenario = sweep->scenario, .host = &sweep->host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_OK);
    assert_int_equal(report_run(report, &sweep->results[0], &error), STATUS_OK);
    assert_int_equal(
        report_conclude(report, sweep->results, sweep->count, false, &conclusion, &error),
        STATUS_OK);
    report_close(report);
}

static void expect_in(const char *folder, const char *name, const char *words)
{
    char *text = file_text(folder, name);
    if (text == NULL) {
        fail_msg("%s is missing", name);
    } else if (strstr(text, words) == NULL) {
        fail_msg("%s does not say \"%s\"", name, words);
    }
    free(text);
}

static uint32_t lines_in(const char *folder, const char *name)
{
    char *text = file_text(folder, name);
    uint32_t count = 0;
    assert_non_null(text);
    for (const char *at = text; *at != '\0'; at++) {
        count += *at == '\n' ? 1 : 0;
    }
    free(text);
    return count;
}

static void the_figure_shows_every_process(void **state)
{
    (void)state;
    char folder[256];
    struct sweep sweep = make(true);
    fill(&sweep.results[0], true);
    folder_make(folder);
    write_report(folder, &sweep);
    assert_int_equal(lines_in(folder, "plot_processes.tsv"), 1 + 5);
    assert_int_equal(lines_in(folder, "events.jsonl"), sweep.results[0].events_count);
    expect_in(folder, "report.md", "## What launcher and coordinator do");
    expect_in(folder, "report.html", "What launcher and coordinator do");
    /* A wave is a mark from its begin to its end. */
    expect_in(folder, "plot_marks.tsv", "1.201\t1.261\t2\t4\n");
    if (!have_gnuplot()) {
        folder_remove(folder);
        sweep_free(&sweep);
        skip(); /* another test says what stands in for figures */
    }
    static const char *const words[] = {"launcher",
                                        "DPCoordinator",
                                        "EngineCore_DP1",
                                        "ApiServer_0",
                                        "ready after 72 ms, ended in 24 ms",
                                        "takes part in a wave"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        expect_in(folder, "figures/21-processes.svg", words[i]);
    }
    expect_in(folder, "figures/21-processes.txt", "EngineCore_DP1");
    folder_remove(folder);
    sweep_free(&sweep);
}

/* Of 64 engine cores the figure shows the first eight, and all other processes. */
static void many_processes_are_cut(void **state)
{
    (void)state;
    char folder[256];
    struct sweep sweep = make(false);
    struct run_result *r = &sweep.results[0];
    start(r);
    for (uint32_t i = 2; i < 64; i++) {
        tell(r, 72 + i, EVENT_SPAWNED, THREAD_ENGINE_MAIN, i);
    }
    serve(r, false);
    end(r);
    folder_make(folder);
    write_report(folder, &sweep);
    assert_int_equal(lines_in(folder, "plot_processes.tsv"), 1 + 1 + 1 + 8 + 1);
    expect_in(folder, "plot_processes.tsv", "EngineCore_DP7");
    expect_in(folder, "plot_processes.tsv", "(the first 8 of each kind)");
    if (have_gnuplot()) {
        expect_in(folder, "figures/21-processes.svg", "EngineCore_DP7");
    }
    folder_remove(folder);
    sweep_free(&sweep);
}

/* It never served, or nothing was noted at all. */
static void what_did_not_happen_is_not_shown(void **state)
{
    (void)state;
    char folder[256];
    struct sweep sweep = make(false);
    folder_make(folder);
    write_report(folder, &sweep);
    assert_int_equal(lines_in(folder, "events.jsonl"), 0);
    assert_int_equal(lines_in(folder, "plot_processes.tsv"), 1);
    char *report = file_text(folder, "report.md");
    assert_non_null(report);
    assert_null(strstr(report, "What launcher and coordinator do"));
    free(report);
    folder_remove(folder);

    add(&sweep.results[0], 5, THREAD_LAUNCHER_MAIN, 0, EVENT_STARTED);
    tell(&sweep.results[0], 6, EVENT_SPAWNED, THREAD_ENGINE_MAIN, 0);
    folder_make(folder);
    write_report(folder, &sweep);
    assert_int_equal(lines_in(folder, "plot_processes.tsv"), 1 + 2);
    if (have_gnuplot()) {
        expect_in(folder, "figures/21-processes.svg", "EngineCore_DP0");
    }
    folder_remove(folder);
    sweep_free(&sweep);
}

static void a_resumed_session_has_the_same_lines(void **state)
{
    (void)state;
    char folder[256];
    struct error error;
    struct run_result back;
    struct sweep sweep = make(true);
    struct record_texts *texts = calloc(1, sizeof *texts);
    assert_non_null(texts);
    fill(&sweep.results[0], true);
    folder_make(folder);
    assert_int_equal(record_begin(folder, sweep.scenario, &sweep.host, &error), STATUS_OK);
    assert_int_equal(record_write(folder, &sweep.results[0], &error), STATUS_OK);
    if (record_read(folder, sweep.scenario, 0, texts, &back, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    event_lines_write(&sweep.results[0], out);
    assert_int_equal(fclose(out), 0);
    assert_true(bytes > 1000);
    assert_lines(&back, text);
    free(text);
    free(texts);
    result_free(&back);
    folder_remove(folder);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_life_has_its_times),
        cmocka_unit_test(sentences_hold_the_windows_counts),
        cmocka_unit_test(lines_are_objects),
        cmocka_unit_test(the_table_counts_sorts),
        cmocka_unit_test(the_figure_shows_every_process),
        cmocka_unit_test(many_processes_are_cut),
        cmocka_unit_test(what_did_not_happen_is_not_shown),
        cmocka_unit_test(a_resumed_session_has_the_same_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
