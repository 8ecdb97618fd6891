/*
 * Comparisons of written runs.csv files: which runs are paired, what is refused, and that planted
 * changes come out as what they are.
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
#include <sys/stat.h>
#include <unistd.h>

#include "harness/report/comparison.h"

enum {
    PATH_BYTES = 256,
    TEXT_BYTES = 4096,
};

static const char header[] = "run_id,ttft_sched_p99_ms,cell,start_utc,seed,valid,ok_count,"
                             "fail_count,host,kernel,cpu_model,governor,config_hash,"
                             "output_tok_per_s\n";

/* One folder of runs of the cell "dp=2". */
struct runs {
    const char *name;
    uint32_t count;
    uint32_t first_s;  /* start of the first run */
    uint32_t period_s; /* from one to the next */
    double tok_per_s;
    double ttft_ms; /* 0: empty */
    const char *host;
    const char *kernel;
    uint32_t failed;
    uint32_t invalid; /* of the first runs */
    uint32_t seed;
};

struct place {
    char folder[PATH_BYTES];
    char base[PATH_BYTES + 8];
    char changed[PATH_BYTES + 8];
};

static int make_place(void **state)
{
    static struct place place;
    (void)snprintf(place.folder, sizeof place.folder, "/tmp/comparison_test.XXXXXX");
    assert_non_null(mkdtemp(place.folder));
    (void)snprintf(place.base, sizeof place.base, "%s/base", place.folder);
    (void)snprintf(place.changed, sizeof place.changed, "%s/new", place.folder);
    *state = &place;
    return 0;
}

static int remove_place(void **state)
{
    static const char *const files[] = {"base/runs.csv",  "new/runs.csv", "new/1/runs.csv",
                                        "new/2/runs.csv", "base",         "new/1",
                                        "new/2",          "new"};
    const struct place *place = *state;
    char path[2 * PATH_BYTES];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", place->folder, files[i]);
        (void)remove(path);
    }
    return rmdir(place->folder);
}

static void write_text(const char *folder, const char *text)
{
    char path[2 * PATH_BYTES];
    (void)mkdir(folder, 0700);
    (void)snprintf(path, sizeof path, "%s/runs.csv", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Values differ by 0.1 % from run to run, the same way in both versions. */
static void write_runs(const char *folder, const struct runs *r)
{
    char text[TEXT_BYTES];
    size_t used = (size_t)snprintf(text, sizeof text, "%s", header);
    for (uint32_t i = 0; i < r->count; i++) {
        double noise = 1 + 0.001 * i;
        uint32_t at = r->first_s + i * r->period_s;
        char ttft[32] = "";
        if (r->ttft_ms > 0) {
            (void)snprintf(ttft, sizeof ttft, "%.6g", r->ttft_ms * noise);
        }
        used += (size_t)snprintf(
            text + used, sizeof text - used,
            "r%u,%s,\"dp=2,tp=1\",2026-01-01T00:%02u:%02uZ,%u,%d,1000,%u,%s,%s,cpu,,abc,%.6g\n", i,
            ttft, at / 60, at % 60, r->seed + i, i >= r->invalid ? 1 : 0, r->failed, r->host,
            r->kernel, r->tok_per_s * noise);
        assert_true(used < sizeof text);
    }
    write_text(folder, text);
}

static const struct runs usual = {.count = 6,
                                  .period_s = 20,
                                  .tok_per_s = 1000,
                                  .ttft_ms = 50,
                                  .host = "vm",
                                  .kernel = "6.1",
                                  .seed = 1};

static enum status compare(const struct place *place, struct comparison *c, struct error *error)
{
    static struct comparison_options options;
    options = (struct comparison_options){
        .base = place->base,
        .changed = place->changed,
        .metrics = {{"output_tok_per_s", true, 0.03}, {"ttft_sched_p99_ms", false, 0.08}},
        .metrics_count = 2,
        .alpha = 0.05,
        .looks_count = 1};
    return comparison_make(c, &options, error);
}

static void make(const struct place *place, const struct runs *base, const struct runs *changed,
                 struct comparison *c)
{
    struct error error = {.text = ""};
    write_runs(place->base, base);
    write_runs(place->changed, changed);
    if (compare(place, c, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static void alternating_runs_are_paired(void **state)
{
    struct comparison c;
    struct runs changed = usual;
    changed.first_s = 10;
    changed.tok_per_s = 900;
    make(*state, &usual, &changed, &c);
    assert_int_equal(c.rows_count, 2);
    assert_true(c.rows[0].effect.paired);
    assert_int_equal(c.rows[0].effect.base_count, 6);
    assert_true(fabs(c.rows[0].effect.change_frac + 0.1) < 1e-5);
    assert_true(fabs(c.rows[0].p - 2.0 / 64) < 1e-12); /* Holm: the smaller of two */
    assert_int_equal(c.rows[0].verdict, GATE_REGRESSION);
    assert_int_equal(c.rows[1].verdict, GATE_OK);
    assert_string_equal(c.rows[0].cell, "dp=2,tp=1");
    assert_int_equal(comparison_verdict(&c), GATE_REGRESSION);
    comparison_free(&c);
}

static void blocks_and_other_seeds_are_not_paired(void **state)
{
    struct comparison c;
    struct runs changed = usual;
    changed.first_s = 600;
    make(*state, &usual, &changed, &c);
    assert_false(c.rows[0].effect.paired);
    assert_int_equal(comparison_verdict(&c), GATE_OK);
    comparison_free(&c);
    changed = usual;
    changed.first_s = 10;
    changed.seed = 100;
    make(*state, &usual, &changed, &c);
    assert_false(c.rows[0].effect.paired);
    comparison_free(&c);
}

static void other_hosts_are_inconclusive(void **state)
{
    struct comparison c;
    struct runs changed = usual;
    changed.tok_per_s = 500;
    changed.kernel = "6.2";
    make(*state, &usual, &changed, &c);
    assert_int_equal(comparison_verdict(&c), GATE_INCONCLUSIVE);
    assert_non_null(strstr(c.rows[0].why, "kernels"));
    comparison_free(&c);
    changed.host = ""; /* as simulated runs have it */
    make(*state, &usual, &changed, &c);
    assert_int_equal(comparison_verdict(&c), GATE_INCONCLUSIVE);
    assert_non_null(strstr(c.rows[0].why, "simulated"));
    comparison_free(&c);
}

static void simulated_runs_are_paired_by_seed(void **state)
{
    struct comparison c;
    struct runs base = usual;
    base.host = "";
    struct runs changed = base;
    changed.first_s = 900;
    changed.ttft_ms = 60;
    make(*state, &base, &changed, &c);
    assert_true(c.rows[0].effect.paired);
    assert_int_equal(c.rows[0].verdict, GATE_OK);
    assert_int_equal(c.rows[1].verdict, GATE_REGRESSION);
    comparison_free(&c);
}

static void few_pairs_are_inconclusive(void **state)
{
    struct comparison c;
    struct runs base = usual;
    struct runs changed = usual;
    base.count = changed.count = 4;
    changed.first_s = 10;
    changed.tok_per_s = 100;
    make(*state, &base, &changed, &c);
    assert_int_equal(comparison_verdict(&c), GATE_INCONCLUSIVE);
    assert_non_null(strstr(c.rows[0].why, "5 pairs"));
    comparison_free(&c);
    base.count = changed.count = 5; /* enough for one metric, not for two */
    make(*state, &base, &changed, &c);
    assert_int_equal(c.rows[0].verdict, GATE_INCONCLUSIVE);
    assert_non_null(strstr(c.rows[0].why, "6 pairs"));
    comparison_free(&c);
}

static void failures_come_first(void **state)
{
    struct comparison c;
    struct runs changed = usual;
    changed.first_s = 10;
    changed.failed = 5;
    make(*state, &usual, &changed, &c);
    assert_string_equal(c.rows[0].metric, "fail_frac");
    assert_int_equal(c.rows[0].verdict, GATE_REGRESSION); /* 30 of 6030, was 0 of 6000 */
    comparison_free(&c);
    changed.failed = 0;
    changed.invalid = 6;
    make(*state, &usual, &changed, &c);
    assert_string_equal(c.rows[0].metric, "invalid_runs_frac");
    assert_int_equal(c.rows[0].verdict, GATE_REGRESSION);
    assert_int_equal(c.rows[1].verdict, GATE_INCONCLUSIVE);
    comparison_free(&c);
}

static void an_invalid_run_takes_its_pair_along(void **state)
{
    struct comparison c;
    struct runs changed = usual;
    changed.first_s = 10;
    changed.invalid = 1;
    make(*state, &usual, &changed, &c);
    assert_string_equal(c.rows[1].metric, "output_tok_per_s");
    assert_true(c.rows[1].effect.paired);
    assert_int_equal(c.rows[1].effect.base_count, 5);
    assert_true(fabs(c.rows[1].base - 1003) < 1e-9); /* the median of the last five */
    comparison_free(&c);
}

static void unknown_metrics_have_no_row_and_missing_cells_one(void **state)
{
    const struct place *place = *state;
    struct comparison c;
    struct error error;
    struct runs base = usual;
    base.ttft_ms = 0;
    make(place, &base, &base, &c);
    assert_int_equal(c.rows_count, 1);
    comparison_free(&c);
    write_text(place->changed, header);
    assert_int_equal(compare(place, &c, &error), STATUS_OK);
    assert_int_equal(comparison_verdict(&c), GATE_INCONCLUSIVE);
    assert_non_null(strstr(c.rows[0].why, "no run"));
    comparison_free(&c);
}

static void a_folder_of_folders_is_one_side(void **state)
{
    const struct place *place = *state;
    char path[2 * PATH_BYTES];
    struct comparison c;
    struct error error;
    struct runs half = usual;
    write_runs(place->base, &usual);
    (void)mkdir(place->changed, 0700);
    half.count = 3;
    half.first_s = 10;
    (void)snprintf(path, sizeof path, "%s/1", place->changed);
    write_runs(path, &half);
    half.first_s = 70;
    half.seed = 4;
    (void)snprintf(path, sizeof path, "%s/2", place->changed);
    write_runs(path, &half);
    assert_int_equal(compare(place, &c, &error), STATUS_OK);
    assert_int_equal(c.changed.rows_count, 6);
    assert_true(c.rows[0].effect.paired);
    comparison_free(&c);
}

static void damaged_files_are_named(void **state)
{
    const struct place *place = *state;
    struct comparison c;
    struct error error;
    char text[TEXT_BYTES];
    write_runs(place->base, &usual);
    assert_int_equal(compare(place, &c, &error), STATUS_IO); /* no folder */
    comparison_free(&c);
    (void)snprintf(text, sizeof text, "%sr0,1,dp=2\n", header);
    write_text(place->changed, text);
    assert_int_equal(compare(place, &c, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "runs.csv:2: 3 fields under a header of 14"));
    comparison_free(&c);
    write_text(place->changed, "cell,start_utc,output_tok_per\n");
    assert_int_equal(compare(place, &c, &error), STATUS_INVALID);
    comparison_free(&c);
    write_text(place->changed, "");
    assert_int_equal(compare(place, &c, &error), STATUS_INVALID);
    comparison_free(&c);
}

static void the_sentence_names_what_changed(void **state)
{
    struct comparison c;
    struct runs changed = usual;
    struct comparison_options options = {
        .base = "a", .changed = "b", .alpha = 0.05, .looks_count = 1};
    char *text = NULL;
    size_t bytes = 0;
    changed.first_s = 10;
    changed.tok_per_s = 900;
    changed.ttft_ms = 25;
    make(*state, &usual, &changed, &c);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    comparison_print(&c, &options, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "Regression in 1 of 2 comparisons: output_tok_per_s of dp=2,tp=1 "
                                 "fell by 10 % (at least 10 %). Improvement: ttft_sched_p99_ms of "
                                 "dp=2,tp=1 fell by 50 % (at least 50 %).\n"));
    free(text);
    out = open_memstream(&text, &bytes);
    assert_non_null(out);
    comparison_annotate(&c, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text,
                        "::error title=harness compare::output_tok_per_s of dp=2,tp=1 fell by "
                        "10 %25 (at least 10 %25)\n");
    free(text);
    comparison_free(&c);
}

#define PLACED(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACED(alternating_runs_are_paired),
        PLACED(blocks_and_other_seeds_are_not_paired),
        PLACED(other_hosts_are_inconclusive),
        PLACED(simulated_runs_are_paired_by_seed),
        PLACED(few_pairs_are_inconclusive),
        PLACED(failures_come_first),
        PLACED(an_invalid_run_takes_its_pair_along),
        PLACED(unknown_metrics_have_no_row_and_missing_cells_one),
        PLACED(a_folder_of_folders_is_one_side),
        PLACED(damaged_files_are_named),
        PLACED(the_sentence_names_what_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
