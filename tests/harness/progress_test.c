/*
 * progress_test.c - what progress writes to a file and to a terminal: a line every 10 s, a row a
 * run, a live line no wider than the screen, and an end that is estimated from what runs took.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "harness/report/progress.h"
#include "helper_report.h"

#define SECOND INT64_C(1000000000)

static struct progress_state state_of(const struct sweep *sweep, uint32_t run)
{
    return (struct progress_state){.run_index = run,
                                   .cell = sweep->results[run].cell,
                                   .replicate = sweep->results[run].replicate,
                                   .phase = "window",
                                   .phase_s = 2,
                                   .phase_total_s = 4,
                                   .output_tok_per_s = 13200,
                                   .sent_count = 500,
                                   .done_count = 420,
                                   .inflight = 80,
                                   .client = PROGRESS_CLIENT_UNKNOWN};
}

static uint32_t count_lines(const char *text)
{
    uint32_t lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n' ? 1 : 0;
    }
    return lines;
}

static void expect(const char *text, const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", text, words);
    }
}

static void files_get_a_line_every_ten_seconds(void **unused)
{
    char text[4096] = "";
    struct sweep sweep = sweep_make();
    struct progress_state state = state_of(&sweep, 0);
    FILE *out = tmpfile();
    (void)unused;
    assert_non_null(out);
    struct progress *p = progress_begin(out, PROGRESS_AUTO, sweep.scenario, 100, 0);
    for (int64_t t = 0; t <= 25 * SECOND; t += SECOND / 10) {
        progress_update(p, &state, t);
    }
    /* Run 1 of 36 took 30 s, and all have the same length: 35 x 30 s are left. */
    progress_run_done(p, &sweep.results[0], 30 * SECOND);
    progress_note(p, "budget reached");
    progress_end(p);
    rewind(out);
    size_t bytes = fread(text, 1, sizeof text - 1, out);
    text[bytes] = '\0';
    assert_int_equal(count_lines(text), 1 + 2 + 1 + 1);
    expect(text, "fake_sweep: 18 cells, 36 runs, about 1:40\n");
    expect(text,
           "[1/36 api_servers=1,dp=1 rep 1/2] window 2/4s  13.2 k tok/s  done 420  inflight 80  "
           "ETA ");
    expect(text, "[1/36 api_servers=1,dp=1 rep 1] ok: 6.6 k tok/s, gpu  ETA 17:30\n");
    expect(text, "budget reached\n");
    assert_null(strchr(text, '\033'));
    (void)fclose(out);
    sweep_free(&sweep);
}

static const struct progress_client seen = {.offered_per_s = 210.04,
                                            .done_per_s = 208.66,
                                            .ttft_p99_ms = 231.4,
                                            .lag_p99_ms = 0.34,
                                            .cpu_frac = 0.184};

static const char *member(const struct json_object *o, const char *key)
{
    return json_object_get_string(json_object_object_get(o, key));
}

/* Every line is an object by itself, whatever stands in a reason. */
static void programs_get_an_object_a_line(void **unused)
{
    static const char *const events[] = {"begin",    "resumed", "progress", "progress",
                                         "run_done", "note",    "end"};
    char line[4096] = "";
    struct sweep sweep = sweep_make();
    struct progress_state state = state_of(&sweep, 1);
    struct json_object *objects[7] = {NULL};
    uint32_t count = 0;
    FILE *out = tmpfile();
    (void)unused;
    assert_non_null(out);
    sweep_fail(&sweep.results[1], RUN_SERVER_FAILED, "it said \"no\"\nand died");
    struct progress *p = progress_begin(out, PROGRESS_JSONL, sweep.scenario, 100, 0);
    progress_resume(p, 1);
    for (int64_t t = 0; t <= 2 * SECOND; t += SECOND / 10) {
        state.client = t > SECOND ? seen : PROGRESS_CLIENT_UNKNOWN;
        progress_update(p, &state, t);
    }
    progress_run_done(p, &sweep.results[1], 30 * SECOND);
    progress_note(p, "budget reached");
    progress_end(p);
    rewind(out);
    while (fgets(line, sizeof line, out) != NULL) {
        assert_true(count < 7);
        objects[count] = json_tokener_parse(line);
        assert_non_null(objects[count]);
        assert_string_equal(json_object_get_string(json_object_object_get(objects[count], "event")),
                            events[count]);
        count++;
    }
    assert_int_equal(count, 7);
    assert_int_equal(json_object_get_int(json_object_object_get(objects[0], "runs")), 36);
    assert_int_equal(json_object_get_int(json_object_object_get(objects[2], "run")), 2);
    assert_int_equal(json_object_get_int(json_object_object_get(objects[2], "inflight")), 80);
    assert_null(json_object_object_get(objects[2], "ttft_p99_ms"));
    assert_string_equal(member(objects[3], "offered_per_s"), "210.04");
    assert_string_equal(member(objects[3], "done_per_s"), "208.66");
    assert_string_equal(member(objects[3], "ttft_p99_ms"), "231.4");
    assert_string_equal(member(objects[3], "lag_p99_ms"), "0.34");
    assert_string_equal(member(objects[3], "client_cpu_frac"), "0.184");
    assert_string_equal(json_object_get_string(json_object_object_get(objects[4], "reason")),
                        "it said \"no\"\nand died");
    /* The one run of this session took 30 s, and 34 more of the same length are to come. */
    assert_int_equal(json_object_get_int(json_object_object_get(objects[4], "remaining_s")), 1020);
    for (uint32_t i = 0; i < count; i++) {
        (void)json_object_put(objects[i]);
    }
    (void)fclose(out);
    sweep_free(&sweep);
}

static void failed_runs_say_why(void **unused)
{
    char text[4096] = "";
    struct sweep sweep = sweep_make();
    FILE *out = tmpfile();
    (void)unused;
    assert_non_null(out);
    sweep_fail(&sweep.results[0], RUN_SERVER_FAILED, "ApiServer_0 died");
    struct progress *p = progress_begin(out, PROGRESS_LINE, sweep.scenario, STATS_UNKNOWN, 0);
    progress_run_done(p, &sweep.results[0], SECOND);
    progress_end(p);
    rewind(out);
    size_t bytes = fread(text, 1, sizeof text - 1, out);
    text[bytes] = '\0';
    expect(text, "fake_sweep: 18 cells, 36 runs\n"); /* how long is not known */
    expect(text, "server_failed: ApiServer_0 died");
    (void)fclose(out);
    sweep_free(&sweep);
}

/* What a terminal of `columns` columns receives. */
static void on_terminal(const struct sweep *sweep, unsigned short columns, char *text, size_t cap)
{
    int host = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(host >= 0);
    assert_int_equal(grantpt(host), 0);
    assert_int_equal(unlockpt(host), 0);
    int device = open(ptsname(host), O_RDWR | O_NOCTTY);
    assert_true(device >= 0);
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    assert_int_equal(ioctl(device, TIOCSWINSZ, &size), 0);
    FILE *out = fdopen(device, "w");
    assert_non_null(out);
    struct progress_state state = state_of(sweep, 0);
    state.client = seen;
    struct progress *p = progress_begin(out, PROGRESS_TABLE, sweep->scenario, 100, 0);
    for (int64_t t = 0; t <= SECOND; t += SECOND / 100) {
        progress_update(p, &state, t);
    }
    progress_run_done(p, &sweep->results[0], 2 * SECOND);
    progress_end(p);
    assert_int_equal(fcntl(host, F_SETFL, O_NONBLOCK), 0);
    size_t used = 0;
    for (;;) {
        ssize_t got = read(host, text + used, cap - 1 - used);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
    }
    text[used] = '\0';
    (void)fclose(out);
    (void)close(host);
}

static void terminals_get_a_live_line(void **unused)
{
    char text[16384];
    struct sweep sweep = sweep_make();
    uint32_t live = 0;
    (void)unused;
    assert_int_equal(setenv("TERM", "xterm", 1), 0);
    assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
    on_terminal(&sweep, 50, text, sizeof text);
    assert_int_equal(unsetenv("NO_COLOR"), 0);
    for (const char *at = text; (at = strstr(at, "\r[1/36")) != NULL; at++) {
        const char *end = strstr(at, "\033[K");
        assert_non_null(end);
        assert_true(end - (at + 1) <= 49); /* a full line would scroll */
        live++;
    }
    assert_int_equal(live, 10); /* at most ten a second */
    expect(text, "\r\033[K");   /* gone before the row comes */
    expect(text, "limited by");
    expect(text, "r0000  api_servers=1,dp=1");
    assert_null(strstr(text, "\033[1m"));
    on_terminal(&sweep, 120, text, sizeof text);
    expect(text, "\033[1m");
    sweep_free(&sweep);
}

/* Narrower terminals lose the less important parts, then the end of the cell's name; the estimate
 * stays. */
static void lines_hold_what_the_width_has_room_for(void **unused)
{
    static const struct {
        unsigned short columns;
        const char *line;
    } cases[] = {
        {200, "\r[1/36 api_servers=1,dp=1 rep 1/2] window 2/4s  13.2 k tok/s  off 210.0/s  "
              "done 208.7/s  inflight 80  ttft p99 231ms  lag p99 0.3ms  cli 18%  ETA "},
        {100, "\r[1/36 api_servers=1,dp=1 rep 1/2] window 2/4s  13.2 k tok/s  off 210.0/s  "
              "done 208.7/s  ETA "},
        {90, "\r[1/36 api_servers=1,dp=1 rep 1/2] window 2/4s  13.2 k tok/s  done 208.7/s  ETA "},
        {55, "\r[1/36 api_servers=1,dp= rep 1/2] window 2/4s  ETA "},
    };
    char text[16384];
    struct sweep sweep = sweep_make();
    (void)unused;
    assert_int_equal(setenv("TERM", "xterm", 1), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        on_terminal(&sweep, cases[i].columns, text, sizeof text);
        expect(text, cases[i].line);
    }
    sweep_free(&sweep);
}

static void silence_is_possible(void **unused)
{
    struct sweep sweep = sweep_make();
    struct progress_state state = state_of(&sweep, 0);
    FILE *out = tmpfile();
    (void)unused;
    assert_non_null(out);
    struct progress *p = progress_begin(out, PROGRESS_NONE, sweep.scenario, 100, 0);
    progress_update(p, &state, 60 * SECOND);
    progress_run_done(p, &sweep.results[0], 61 * SECOND);
    progress_note(p, "note");
    progress_end(p);
    assert_int_equal(fseek(out, 0, SEEK_END), 0);
    assert_int_equal(ftell(out), 0);
    (void)fclose(out);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_get_a_line_every_ten_seconds),
        cmocka_unit_test(failed_runs_say_why),
        cmocka_unit_test(programs_get_an_object_a_line),
        cmocka_unit_test(terminals_get_a_live_line),
        cmocka_unit_test(lines_hold_what_the_width_has_room_for),
        cmocka_unit_test(silence_is_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
