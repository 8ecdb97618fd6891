/*
 * report_csv_test.c - the result folder's CSV files and manifest: columns as they are published,
 * values read back by libcsv, empty for what was not measured, errors that name the file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <csv.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper_report.h"

enum {
    FIELDS_MAX = 40000
};

/* A CSV file as libcsv reads it. */
struct sheet {
    char *fields[FIELDS_MAX];
    uint32_t fields_count;
    uint32_t row_start[4096];
    uint32_t rows_count; /* header included */
};

static void on_field(void *text, size_t bytes, void *ctx)
{
    struct sheet *s = ctx;
    assert_true(s->fields_count < FIELDS_MAX);
    s->fields[s->fields_count] = calloc(bytes + 1, 1);
    assert_non_null(s->fields[s->fields_count]);
    memcpy(s->fields[s->fields_count++], text, bytes);
}

static void on_row(int end, void *ctx)
{
    struct sheet *s = ctx;
    (void)end;
    s->row_start[++s->rows_count] = s->fields_count;
}

static struct sheet *sheet_read(const char *folder, const char *name)
{
    struct csv_parser parser;
    struct sheet *s = calloc(1, sizeof *s);
    char *text = file_text(folder, name);
    assert_non_null(s);
    if (text == NULL) {
        fail_msg("%s is missing", name);
    }
    assert_int_equal(csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI), 0);
    assert_int_equal(csv_parse(&parser, text, strlen(text), on_field, on_row, s), strlen(text));
    assert_int_equal(csv_fini(&parser, on_field, on_row, s), 0);
    csv_free(&parser);
    free(text);
    return s;
}

static void sheet_free(struct sheet *s)
{
    for (uint32_t i = 0; i < s->fields_count; i++) {
        free(s->fields[i]);
    }
    free(s);
}

static uint32_t columns(const struct sheet *s)
{
    return s->row_start[1];
}

static const char *cell(const struct sheet *s, uint32_t row, const char *column)
{
    for (uint32_t i = 0; i < columns(s); i++) {
        if (strcmp(s->fields[i], column) == 0) {
            return s->fields[s->row_start[row] + i];
        }
    }
    fail_msg("no column %s", column);
    return NULL;
}

static void check_rectangle(const struct sheet *s)
{
    for (uint32_t i = 0; i < s->rows_count; i++) {
        assert_int_equal(s->row_start[i + 1] - s->row_start[i], columns(s));
    }
}

static struct report *create(const char *folder, const struct sweep *sweep)
{
    struct report *report = NULL;
    struct error error;
    struct report_options options = {.folder = folder,
                                     .plots_folder = "no-plots",
                                     .scenario = sweep->scenario,
                                     .host = &sweep->host};
    if (report_create(&options, &report, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    return report;
}

static void write_runs(struct report *report, const struct sweep *sweep)
{
    struct error error;
    for (uint32_t i = 0; i < sweep->count; i++) {
        if (report_run(report, &sweep->results[i], &error) != STATUS_OK) {
            fail_msg("%s", error.text);
        }
    }
}

static const char header[] =
    "schema,run_id,scenario,cell,server,api_servers_count,dp_count,engine_cores_count,gpus_count,"
    "workload,load_mode,arrival,offered_rps,users_count,replicate,order_index,seed,start_utc,"
    "warmup_s,window_s,window_cycles,steady,requests_count,ok_count,fail_count,dropped_count,"
    "fail_frac,sent_rps,achieved_rps,achieved_ratio,achieved_ratio_lo,achieved_ratio_hi,"
    "prompt_tok_per_s,output_tok_per_s,output_tok_per_s_lo,output_tok_per_s_hi,goodput_rps,"
    "good_frac,good_frac_lo,good_frac_hi,inflight_mean,inflight_max,backlog_slope_per_s,"
    "little_residual_frac,"
    "ttft_mean_ms,ttft_p50_ms,ttft_p90_ms,ttft_p95_ms,ttft_p99_ms,ttft_p999_ms,"
    "ttft_sched_mean_ms,ttft_sched_p50_ms,ttft_sched_p90_ms,ttft_sched_p95_ms,ttft_sched_p99_ms,"
    "ttft_sched_p999_ms,"
    "tpot_mean_ms,tpot_p50_ms,tpot_p90_ms,tpot_p95_ms,tpot_p99_ms,tpot_p999_ms,"
    "icl_mean_ms,icl_p50_ms,icl_p90_ms,icl_p95_ms,icl_p99_ms,icl_p999_ms,"
    "itl_mean_ms,itl_p50_ms,itl_p90_ms,itl_p95_ms,itl_p99_ms,itl_p999_ms,"
    "e2el_mean_ms,e2el_p50_ms,e2el_p90_ms,e2el_p95_ms,e2el_p99_ms,e2el_p999_ms,"
    "e2el_sched_mean_ms,e2el_sched_p50_ms,e2el_sched_p90_ms,e2el_sched_p95_ms,e2el_sched_p99_ms,"
    "e2el_sched_p999_ms,"
    "ttft_sched_p99_lo_ms,ttft_sched_p99_hi_ms,tpot_p99_lo_ms,tpot_p99_hi_ms,"
    "e2el_sched_p99_lo_ms,e2el_sched_p99_hi_ms,ttft_sched_p99_all_ms,e2el_sched_p99_all_ms,"
    "stall_max_p99_ms,lag_p50_ms,lag_p99_ms,lag_max_ms,client_cpu_frac,client_ceiling_frac,"
    "token_basis,itl_basis,n_eff_frac,valid,invalid_reason,bottleneck,bottleneck_util_frac,"
    "launch_busy_frac,gpu_busy_frac,gpu_starved_frac,dp_imbalance_frac,git_rev,server_rev,host,"
    "kernel,cpu_model,gpu_model,driver,governor,config_hash,"
    "censored_count,host_limited,host_cores_used,others_cores_used,outcome,tokens_mismatch_count,"
    "api_min_share,api_max_share,rank_jain,hops_residual_max_ms,reason,"
    "rank_steps_per_tok,launches_per_s,predicted_output_tok_per_s,predicted_limit,"
    "predicted_rank_steps_per_tok,predicted_itl_mean_ms,predicted_launches_per_s,"
    "forecast_output_tok_per_s,forecast_lo,forecast_hi,forecast_stage,prediction_error_frac,"
    "dp_sync_frac,stranded_frac,slo,cpu_pressure_frac,mode\n";

static void runs_have_the_published_columns(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    struct report *report = create(folder, &sweep);
    char *empty = file_text(folder, "runs.csv");
    assert_string_equal(empty, header);
    free(empty);
    write_runs(report, &sweep);
    char *text = file_text(folder, "runs.csv");
    assert_int_equal(strncmp(text, header, strlen(header)), 0);
    assert_null(strstr(text + 1, "schema,")); /* once */
    free(text);
    struct sheet *runs = sheet_read(folder, "runs.csv");
    assert_int_equal(runs->rows_count, 1 + 36);
    check_rectangle(runs);
    sheet_free(runs);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void near_text(const char *text, double value)
{
    if (fabs(strtod(text, NULL) - value) > 1e-5 * fabs(value)) {
        fail_msg("%s is not %.9g", text, value);
    }
}

static void values_come_back(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    sweep.results[1].latency[RUN_E2EL_SCHED].p99_all_ms = (double)INFINITY;
    sweep.results[1].fail_count = 3;
    struct report *report = create(folder, &sweep);
    write_runs(report, &sweep);
    struct sheet *runs = sheet_read(folder, "runs.csv");
    for (uint32_t i = 0; i < sweep.count; i++) {
        const struct run_result *r = &sweep.results[i];
        assert_string_equal(cell(runs, i + 1, "run_id"), r->run_id);
        assert_string_equal(cell(runs, i + 1, "cell"), r->cell->name);
        assert_string_equal(cell(runs, i + 1, "cpu_model"), "Some CPU, \"fast\"");
        assert_int_equal(strtoull(cell(runs, i + 1, "seed"), NULL, 10), r->seed);
        near_text(cell(runs, i + 1, "output_tok_per_s"), r->output_tok_per_s.mean);
        near_text(cell(runs, i + 1, "output_tok_per_s_lo"), r->output_tok_per_s.lo);
        near_text(cell(runs, i + 1, "api_min_share"), 1.0 / r->cell->topology.api_servers_count);
        assert_string_equal(cell(runs, i + 1, "bottleneck"), r->verdict.text);
    }
    /* Not measured is empty, zero is zero, infinity is a value. */
    assert_string_equal(cell(runs, 1, "offered_rps"), "");
    assert_string_equal(cell(runs, 1, "ttft_p99_ms"), "");
    assert_string_equal(cell(runs, 1, "goodput_rps"), "");
    assert_string_equal(cell(runs, 1, "fail_count"), "0");
    assert_string_equal(cell(runs, 2, "fail_count"), "3");
    near_text(cell(runs, 2, "fail_frac"), 3.0 / 400);
    assert_string_equal(cell(runs, 2, "e2el_sched_p99_all_ms"), "inf");
    assert_string_equal(cell(runs, 1, "valid"), "1");
    sheet_free(runs);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void other_files_have_their_rows(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    uint32_t stages = 0;
    uint32_t launchers = 0;
    (void)state;
    folder_make(folder);
    struct report *report = create(folder, &sweep);
    write_runs(report, &sweep);
    for (uint32_t i = 0; i < sweep.count; i++) {
        stages += sweep.results[i].stages_count;
        launchers += sweep.results[i].launchers_count;
    }
    const struct {
        const char *name;
        uint32_t rows;
    } files[] = {{"stages.csv", stages},
                 {"launch.csv", launchers},
                 {"threads.csv", 36 * PROC_THREAD_ROWS},
                 {"timeline.csv", 36 * 6},
                 {"hops.csv", 36}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct sheet *s = sheet_read(folder, files[i].name);
        assert_int_equal(s->rows_count, 1 + files[i].rows);
        assert_string_equal(s->fields[0], "run_id");
        check_rectangle(s);
        sheet_free(s);
    }
    struct sheet *threads = sheet_read(folder, "threads.csv");
    assert_string_equal(cell(threads, PROC_THREAD_ROWS, "kind"), "library");
    assert_string_equal(cell(threads, PROC_THREAD_ROWS, "expected_count"), "");
    assert_string_equal(cell(threads, PROC_THREAD_ROWS, "counted_proc"), "2");
    sheet_free(threads);
    assert_null(file_text(folder, "requests.csv")); /* closed loop: no rows, no file */
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void expectations_stand_beside_what_came(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    double rate = sweep.results[1].output_tok_per_s.mean;
    sweep.results[1].expected =
        (struct run_expectation){true, rate / 1.1, rate / 1.2, rate / 1.05, "gpu"};
    sweep.results[2].expected =
        (struct run_expectation){true, 100, STATS_UNKNOWN, STATS_UNKNOWN, "api_server"};
    sweep_fail(&sweep.results[2], RUN_INVALID, "no number to compare with");
    struct report *report = create(folder, &sweep);
    write_runs(report, &sweep);
    struct sheet *runs = sheet_read(folder, "runs.csv");
    assert_string_equal(cell(runs, 1, "forecast_output_tok_per_s"), "");
    assert_string_equal(cell(runs, 1, "prediction_error_frac"), "");
    near_text(cell(runs, 2, "forecast_output_tok_per_s"), rate / 1.1);
    near_text(cell(runs, 2, "forecast_lo"), rate / 1.2);
    near_text(cell(runs, 2, "prediction_error_frac"), 0.1);
    assert_string_equal(cell(runs, 2, "forecast_stage"), "gpu");
    assert_string_equal(cell(runs, 3, "forecast_lo"), "");
    assert_string_equal(cell(runs, 3, "forecast_output_tok_per_s"), "100");
    assert_string_equal(cell(runs, 3, "prediction_error_frac"), "");
    sheet_free(runs);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

/* The first row of a curve has the chosen law; the weights of a curve's laws add up to one. */
static void curves_have_laws_and_ceilings(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    struct report_conclusion conclusion;
    struct error error;
    double weights = 0;
    uint32_t chosen = 0;
    (void)state;
    folder_make(folder);
    struct report *report = create(folder, &sweep);
    assert_int_equal(
        report_conclude(report, sweep.results, sweep.count, false, &conclusion, &error), STATUS_OK);
    struct sheet *s = sheet_read(folder, "scaling.csv");
    check_rectangle(s);
    assert_int_equal(s->rows_count, 1 + 3 * 5);
    for (uint32_t i = 1; i < s->rows_count; i++) {
        bool first = (i - 1) % 5 == 0;
        assert_string_equal(cell(s, i, "model_chosen"), first ? "1" : "0");
        assert_true((cell(s, i, "n_star")[0] == '\0') || first);
        weights += strtod(cell(s, i, "aicc_weight"), NULL);
        chosen += first ? 1 : 0;
    }
    assert_int_equal(chosen, SWEEP_SERVERS);
    assert_true(fabs(weights - SWEEP_SERVERS) < 1e-4);
    /* 19.1 k at 6.6 k an engine core. */
    near_text(cell(s, 1, "last_helpful_cores"), 3);
    assert_true(fabs(strtod(cell(s, 1, "n_star"), NULL) - 18.75 / 6.6) < 0.15);
    sheet_free(s);
    s = sheet_read(folder, "ceilings.csv");
    check_rectangle(s);
    assert_int_equal(s->rows_count, 1 + 3 * 4); /* api_server, scheduler, gpu, ipc */
    assert_string_equal(cell(s, 1, "stage"), "api_server");
    assert_string_equal(cell(s, 1, "servers_count"), "1");
    assert_string_equal(cell(s, 1, "place"), "lowest");
    assert_true(strtod(cell(s, 1, "ceiling_tok_per_s_lo"), NULL) <=
                strtod(cell(s, 1, "ceiling_tok_per_s"), NULL));
    sheet_free(s);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void requests_are_written_when_there_are_some(void **state)
{
    char folder[256];
    struct error error;
    struct sweep sweep = sweep_make();
    struct run_result *r = &sweep.results[0];
    (void)state;
    folder_make(folder);
    r->requests = calloc(2, sizeof *r->requests);
    assert_non_null(r->requests);
    r->requests_rows_count = 2;
    r->requests[0] = (struct run_request){.number = 7,
                                          .outcome = LOAD_OUTCOME_OK,
                                          .trace_line = 12,
                                          .api_server = 0,
                                          .engine = 3,
                                          .ttft_ms = 12.5,
                                          .e2el_ms = 99};
    r->requests[0].parts.us[PROBE_PART_QUEUE] = 42;
    r->requests[1] = (struct run_request){.number = 8,
                                          .outcome = LOAD_OUTCOME_DROPPED,
                                          .api_server = UINT32_MAX,
                                          .engine = UINT32_MAX,
                                          .ttft_ms = STATS_UNKNOWN};
    struct report *report = create(folder, &sweep);
    assert_int_equal(report_run(report, r, &error), STATUS_OK);
    struct sheet *s = sheet_read(folder, "requests.csv");
    assert_int_equal(s->rows_count, 3);
    assert_int_equal(columns(s), 14 + PROBE_PARTS_COUNT);
    assert_string_equal(cell(s, 1, "engine"), "3");
    assert_string_equal(cell(s, 1, "queue_us"), "42");
    assert_string_equal(cell(s, 2, "outcome"), "dropped");
    assert_string_equal(cell(s, 2, "engine"), "");
    assert_string_equal(cell(s, 2, "trace_line"), "");
    assert_string_equal(cell(s, 2, "ttft_ms"), "");
    sheet_free(s);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void failed_runs_are_rows_too(void **state)
{
    char folder[256];
    struct error error;
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    sweep_fail(&sweep.results[0], RUN_SERVER_FAILED, "EngineCore_DP0 died: killed, signal 9");
    sweep.results[0].cell = &sweep.scenario->cells[0];
    struct report *report = create(folder, &sweep);
    assert_int_equal(report_run(report, &sweep.results[0], &error), STATUS_OK);
    struct sheet *runs = sheet_read(folder, "runs.csv");
    assert_string_equal(cell(runs, 1, "outcome"), "server_failed");
    assert_string_equal(cell(runs, 1, "valid"), "0");
    assert_string_equal(cell(runs, 1, "reason"), "EngineCore_DP0 died: killed, signal 9");
    assert_string_equal(cell(runs, 1, "output_tok_per_s"), "");
    assert_string_equal(cell(runs, 1, "window_s"), "");
    assert_string_equal(cell(runs, 1, "bottleneck"), "");
    sheet_free(runs);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

/* ---- folders ---- */

static void expect_refused(const char *folder, const struct sweep *sweep, const char *words)
{
    struct report *report = NULL;
    struct error error;
    struct report_options options = {.folder = folder,
                                     .plots_folder = "no-plots",
                                     .scenario = sweep->scenario,
                                     .host = &sweep->host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_IO);
    assert_null(report);
    if (strstr(error.text, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.text, words);
    }
}

static void bad_folders_are_refused(void **state)
{
    char folder[256];
    char path[512];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    (void)snprintf(path, sizeof path, "%s/file", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    expect_refused(folder, &sweep, "not a result folder");
    assert_null(file_text(folder, "runs.csv"));
    assert_null(file_text(folder, ".lock"));
    (void)snprintf(path, sizeof path, "%s/file/below", folder);
    expect_refused(path, &sweep, "cannot be made");
    folder_remove(folder);
    sweep_free(&sweep);
}

static void deep_folders_are_made(void **state)
{
    char folder[256];
    char path[512];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    (void)snprintf(path, sizeof path, "%s/a/b/c", folder);
    report_close(create(path, &sweep));
    report_close(create(path, &sweep)); /* again: its own earlier results */
    char *text = file_text(path, "runs.csv");
    assert_string_equal(text, header);
    free(text);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void another_scenario_is_refused(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    struct sweep other = sweep_of("[scenario]\nname = other\n[server s]\n[workload w]\n[load l]\n"
                                  "users = 1\nmeasure = 1s\n");
    (void)state;
    folder_make(folder);
    report_close(create(folder, &sweep));
    expect_refused(folder, &other, "scenario fake_sweep");
    folder_remove(folder);
    sweep_free(&sweep);
    sweep_free(&other);
}

static void a_second_run_at_the_same_time_is_refused(void **state)
{
    char folder[256];
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    struct report *first = create(folder, &sweep);
    expect_refused(folder, &sweep, "another run is writing");
    report_close(first);
    report_close(create(folder, &sweep));
    folder_remove(folder);
    sweep_free(&sweep);
}

static void a_full_disk_is_named(void **state)
{
    char folder[256];
    char path[512];
    struct sweep sweep = sweep_make();
    (void)state;
    if (access("/dev/full", W_OK) != 0) {
        skip(); /* nothing here plays a full disk */
    }
    folder_make(folder);
    report_close(create(folder, &sweep));
    /* Written beside its name first. */
    (void)snprintf(path, sizeof path, "%s/stages.csv.new", folder);
    assert_int_equal(symlink("/dev/full", path), 0);
    expect_refused(folder, &sweep, "stages.csv");
    folder_remove(folder);
    sweep_free(&sweep);
}

/* ---- manifest ---- */

static bool manifest_flag(const char *folder, const char *key)
{
    char *text = file_text(folder, "manifest.json");
    struct json_object *o = json_tokener_parse(text);
    struct json_object *value = NULL;
    assert_non_null(o);
    assert_true(json_object_object_get_ex(o, key, &value) != 0);
    bool flag = json_object_get_boolean(value) != 0;
    (void)json_object_put(o);
    free(text);
    return flag;
}

static void the_manifest_tells_a_whole_session_from_a_cut_one(void **state)
{
    char folder[256];
    struct error error;
    struct report_conclusion conclusion;
    struct sweep sweep = sweep_make();
    (void)state;
    folder_make(folder);
    struct report *report = create(folder, &sweep);
    assert_false(manifest_flag(folder, "complete"));
    write_runs(report, &sweep);
    assert_false(manifest_flag(folder, "complete"));
    assert_int_equal(report_conclude(report, sweep.results, 7, true, &conclusion, &error),
                     STATUS_OK);
    assert_false(manifest_flag(folder, "complete"));
    assert_true(manifest_flag(folder, "interrupted"));
    assert_int_equal(
        report_conclude(report, sweep.results, sweep.count, false, &conclusion, &error), STATUS_OK);
    assert_true(manifest_flag(folder, "complete"));
    assert_false(manifest_flag(folder, "interrupted"));
    char *text = file_text(folder, "manifest.json");
    assert_non_null(strstr(text, "\"run_id\": \"r0035\""));
    assert_non_null(strstr(text, conclusion.verdict));
    free(text);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_have_the_published_columns),
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(other_files_have_their_rows),
        cmocka_unit_test(expectations_stand_beside_what_came),
        cmocka_unit_test(curves_have_laws_and_ceilings),
        cmocka_unit_test(requests_are_written_when_there_are_some),
        cmocka_unit_test(failed_runs_are_rows_too),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(deep_folders_are_made),
        cmocka_unit_test(another_scenario_is_refused),
        cmocka_unit_test(a_second_run_at_the_same_time_is_refused),
        cmocka_unit_test(a_full_disk_is_named),
        cmocka_unit_test(the_manifest_tells_a_whole_session_from_a_cut_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
