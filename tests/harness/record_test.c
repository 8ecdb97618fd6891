/*
 * record_test.c - records of runs: what comes back writes the same CSV rows, byte for byte; a file
 * that is cut or changed anywhere is refused; a session goes on only if nothing of it has changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/run/record.h"
#include "helper_report.h"

enum {
    TEXT_BYTES = 4096,
    CUTS = 97 /* a prime: cuts and flips fall everywhere in a record */
};

static const char *const files[] = {"runs.csv",    "stages.csv",   "launch.csv",
                                    "threads.csv", "timeline.csv", "requests.csv",
                                    "hops.csv",    "hist.csv",     "events.jsonl"};

static void begin(const struct sweep *sweep, char folder[256])
{
    struct error error;
    folder_make(folder);
    (void)mkdir(folder, 0777);
    assert_int_equal(record_begin(folder, sweep->scenario, &sweep->host, &error), STATUS_OK);
}

/* All rows of the results, as text of each file. */
static void write_rows(const struct sweep *sweep, const struct run_result *results,
                       char *out[sizeof files / sizeof files[0]])
{
    char folder[256];
    struct error error;
    struct report *report = NULL;
    folder_make(folder);
    struct report_options options = {.folder = folder,
                                     .plots_folder = "plots",
                                     .scenario = sweep->scenario,
                                     .host = &sweep->host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_OK);
    for (uint32_t i = 0; i < sweep->count; i++) {
        assert_int_equal(report_run(report, &results[i], &error), STATUS_OK);
    }
    report_close(report);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        out[i] = file_text(folder, files[i]);
    }
    folder_remove(folder);
}

static void what_comes_back_writes_the_same_rows(void **unused)
{
    (void)unused;
    char folder[256];
    struct error error;
    struct sweep sweep = sweep_make();
    struct record_texts *texts = calloc(1, sizeof *texts);
    struct run_result *read = calloc(sweep.count, sizeof *read);
    char *before[sizeof files / sizeof files[0]];
    char *after[sizeof files / sizeof files[0]];
    assert_non_null(texts);
    assert_non_null(read);
    /* Words that only this run has: they must come from the file, not from this program. */
    char basis[] = "a basis";
    sweep.results[1].token_basis = basis;
    sweep.results[2].expected = (struct run_expectation){
        .known = true, .tok_per_s = 7, .lo = 6, .hi = 8, .stage = "api_server"};
    begin(&sweep, folder);
    for (uint32_t i = 0; i < sweep.count; i++) {
        assert_int_equal(record_write(folder, &sweep.results[i], &error), STATUS_OK);
    }
    write_rows(&sweep, sweep.results, before);
    (void)strcpy(basis, "another");
    for (uint32_t i = 0; i < sweep.count; i++) {
        if (record_read(folder, sweep.scenario, i, texts, &read[i], &error) != STATUS_OK) {
            fail_msg("%s", error.text);
        }
        assert_ptr_equal(read[i].cell, sweep.results[i].cell);
        assert_true(record_is_final(&read[i]));
    }
    write_rows(&sweep, read, after);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        assert_true((before[i] == NULL) == (after[i] == NULL));
        if (before[i] != NULL) {
            assert_string_equal(before[i], after[i]);
        }
        free(before[i]);
        free(after[i]);
    }
    for (uint32_t i = 0; i < sweep.count; i++) {
        result_free(&read[i]);
    }
    free(read);
    free(texts);
    folder_remove(folder);
    sweep_free(&sweep);
}

/* A search makes runs of one cell that differ in their load alone. */
static void a_run_of_another_load_is_refused(void **unused)
{
    (void)unused;
    char folder[256];
    struct error error;
    struct run_result read;
    struct sweep sweep = sweep_make();
    struct record_texts *texts = calloc(1, sizeof *texts);
    struct scenario_cell cell = *sweep.results[0].cell;
    struct record_wanted wanted = {&cell, &sweep.scenario->runs[0], 0};
    assert_non_null(texts);
    begin(&sweep, folder);
    assert_int_equal(record_write(folder, &sweep.results[0], &error), STATUS_OK);
    assert_int_equal(record_read_wanted(folder, &wanted, texts, &read, &error), STATUS_OK);
    assert_ptr_equal(read.cell, &cell);
    result_free(&read);
    cell.load.rate_per_s += 1e-9;
    assert_int_equal(record_read_wanted(folder, &wanted, texts, &read, &error), STATUS_INVALID);
    cell = *sweep.results[0].cell;
    cell.load.measure_ns *= 2;
    assert_int_equal(record_read_wanted(folder, &wanted, texts, &read, &error), STATUS_INVALID);
    cell = *sweep.results[0].cell;
    wanted.run = &sweep.scenario->runs[sweep.count - 1]; /* another replicate */
    assert_int_equal(record_read_wanted(folder, &wanted, texts, &read, &error), STATUS_INVALID);
    free(texts);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void write_bytes(const char *path, const char *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static void damage_is_noticed_wherever_it_is(void **unused)
{
    (void)unused;
    char folder[256];
    char path[300];
    struct error error;
    struct run_result result;
    struct stat st;
    struct sweep sweep = sweep_make();
    struct record_texts *texts = calloc(1, sizeof *texts);
    assert_non_null(texts);
    begin(&sweep, folder);
    assert_int_equal(record_write(folder, &sweep.results[0], &error), STATUS_OK);
    (void)snprintf(path, sizeof path, "%s/runs/r0000.run", folder);
    assert_int_equal(stat(path, &st), 0);
    size_t bytes = (size_t)st.st_size;
    char *whole = malloc(bytes);
    FILE *file = fopen(path, "rb");
    assert_non_null(whole);
    assert_non_null(file);
    assert_int_equal(fread(whole, 1, bytes, file), bytes);
    (void)fclose(file);
    for (size_t i = 0; i < CUTS; i++) {
        size_t at = bytes * i / CUTS;
        write_bytes(path, whole, at);
        assert_int_equal(record_read(folder, sweep.scenario, 0, texts, &result, &error),
                         STATUS_INVALID);
        whole[at] = (char)(whole[at] ^ 0x10);
        write_bytes(path, whole, bytes);
        assert_int_equal(record_read(folder, sweep.scenario, 0, texts, &result, &error),
                         STATUS_INVALID);
        whole[at] = (char)(whole[at] ^ 0x10);
    }
    write_bytes(path, whole, bytes);
    assert_int_equal(record_read(folder, sweep.scenario, 0, texts, &result, &error), STATUS_OK);
    result_free(&result);
    /* A sound file under another run's name. */
    (void)snprintf(path, sizeof path, "%s/runs/r0001.run", folder);
    write_bytes(path, whole, bytes);
    assert_int_equal(record_read(folder, sweep.scenario, 1, texts, &result, &error),
                     STATUS_INVALID);
    assert_int_equal(record_read(folder, sweep.scenario, 2, texts, &result, &error),
                     STATUS_NOT_FOUND);
    free(whole);
    free(texts);
    folder_remove(folder);
    sweep_free(&sweep);
}

/* What record_session() says of a folder; its lines go to `out`. */
static enum status compare(const char *folder, const struct sweep *now, char out[TEXT_BYTES])
{
    struct error error;
    struct run_host host;
    memset(out, 0, TEXT_BYTES);
    FILE *file = fmemopen(out, TEXT_BYTES - 1, "w");
    assert_non_null(file);
    enum status status = record_session(folder, now->scenario, &now->host, &host, file, &error);
    (void)fclose(file);
    return status;
}

static void only_the_same_session_goes_on(void **unused)
{
    (void)unused;
    static const char head[] = "[scenario]\nname = x\nrepeats = 2\n[server s]\n[workload w]\n"
                               "[load l]\nusers = 4\n";
    char folder[256];
    char other[1024];
    char text[TEXT_BYTES];
    struct sweep was = sweep_of(head);
    begin(&was, folder);
    assert_int_equal(compare(folder, &was, text), STATUS_OK);
    assert_string_equal(text, "");

    (void)snprintf(other, sizeof other, "# moved by a line\n%s", head);
    struct sweep moved = sweep_of(other);
    moved.host = was.host;
    assert_int_equal(compare(folder, &moved, text), STATUS_OK);
    sweep_free(&moved);

    (void)snprintf(other, sizeof other, "%s[client]\nmax_cpu = 50%%\n[slo s]\nerror_max = 1%%\n",
                   head);
    struct sweep more = sweep_of(other);
    more.host = was.host;
    assert_int_equal(compare(folder, &more, text), STATUS_INVALID);
    assert_non_null(strstr(text, "[client] max_cpu: was 70%, is 50%"));
    assert_non_null(strstr(text, "[slo s] error_max: was not set, is 1%"));
    assert_null(strstr(text, "users"));
    sweep_free(&more);

    char trace[300];
    (void)snprintf(trace, sizeof trace, "%s/trace.csv", folder);
    write_bytes(trace, "a", 1);
    (void)snprintf(other, sizeof other,
                   "[scenario]\nname = x\n[server s]\n[workload w]\nsource = trace\n"
                   "trace = %s\n[load l]\nmode = trace\n",
                   trace);
    struct sweep traced = sweep_of(other);
    struct error error;
    assert_int_equal(record_begin(folder, traced.scenario, &traced.host, &error), STATUS_OK);
    assert_int_equal(compare(folder, &traced, text), STATUS_OK);
    write_bytes(trace, "b", 1);
    assert_int_equal(compare(folder, &traced, text), STATUS_INVALID);
    assert_non_null(strstr(text, "trace: its content"));
    sweep_free(&traced);
    assert_int_equal(record_begin(folder, was.scenario, &was.host, &error), STATUS_OK);

    (void)snprintf(was.host.git_rev, sizeof was.host.git_rev, "another");
    assert_int_equal(compare(folder, &was, text), STATUS_INVALID);
    assert_non_null(strstr(text, "program"));

    /* A new session in the folder leaves nothing of the old one. */
    struct run_result result;
    struct record_texts *texts = calloc(1, sizeof *texts);
    assert_non_null(texts);
    assert_int_equal(record_write(folder, &was.results[0], &error), STATUS_OK);
    assert_int_equal(record_begin(folder, was.scenario, &was.host, &error), STATUS_OK);
    assert_int_equal(compare(folder, &was, text), STATUS_OK);
    assert_int_equal(record_read(folder, was.scenario, 0, texts, &result, &error),
                     STATUS_NOT_FOUND);
    free(texts);
    folder_remove(folder);
    assert_int_equal(compare(folder, &was, text), STATUS_NOT_FOUND);
    sweep_free(&was);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_back_writes_the_same_rows),
        cmocka_unit_test(a_run_of_another_load_is_refused),
        cmocka_unit_test(damage_is_noticed_wherever_it_is),
        cmocka_unit_test(only_the_same_session_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
