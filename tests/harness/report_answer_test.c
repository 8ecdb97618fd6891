/*
 * report_answer_test.c - the answer of `harness run --format`: the CSV is points.csv byte for byte,
 * and the JSON holds the same fields, null where the CSV is empty.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <csv.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/answer.h"
#include "harness/report/knees.h"
#include "helper_report.h"

static const struct knees no_knees;

/* The sweep's answer in one format, and points.csv of its folder. */
static void answer_of(enum answer_format format, char **answer, char **points)
{
    char folder[256];
    struct error error;
    struct report *report = NULL;
    struct report_conclusion conclusion;
    struct sweep sweep = sweep_make();
    folder_make(folder);
    const struct report_options options = {.folder = folder,
                                           .plots_folder = "no-plots",
                                           .scenario = sweep.scenario,
                                           .host = &sweep.host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_OK);
    for (uint32_t i = 0; i < sweep.count; i++) {
        assert_int_equal(report_run(report, &sweep.results[i], &error), STATUS_OK);
    }
    assert_int_equal(
        report_conclude(report, sweep.results, sweep.count, false, &conclusion, &error), STATUS_OK);
    const struct answer what = {.scenario = sweep.scenario,
                                .results = sweep.results,
                                .results_count = sweep.count,
                                .knees = &no_knees,
                                .conclusion = &conclusion,
                                .folder = "a \"folder\"",
                                .exit_status = 3};
    size_t bytes = 0;
    FILE *out = open_memstream(answer, &bytes);
    assert_non_null(out);
    answer_print(&what, format, out);
    assert_int_equal(fclose(out), 0);
    *points = file_text(folder, "points.csv");
    assert_non_null(*points);
    report_close(report);
    folder_remove(folder);
    sweep_free(&sweep);
}

static void csv_is_points_csv(void **state)
{
    char *answer = NULL;
    char *points = NULL;
    (void)state;
    answer_of(ANSWER_CSV, &answer, &points);
    assert_string_equal(answer, points);
    free(answer);
    free(points);
}

/* Holds each field that libcsv reads against the member of the same name. */
struct comparison {
    struct json_object *cells;
    char *columns[128];
    uint32_t columns_count;
    uint32_t row;
    uint32_t column;
    uint32_t numbers_count;
    uint32_t nulls_count;
};

static void on_field(void *text, size_t bytes, void *ctx)
{
    struct comparison *c = ctx;
    char *field = calloc(bytes + 1, 1);
    assert_non_null(field);
    memcpy(field, text, bytes);
    if (c->row == 0) {
        assert_true(c->columns_count < 128);
        c->columns[c->columns_count++] = field;
        return;
    }
    struct json_object *member = NULL;
    struct json_object *cell = json_object_array_get_idx(c->cells, c->row - 1);
    assert_true(json_object_object_get_ex(cell, c->columns[c->column++], &member) != 0);
    if (bytes == 0) {
        assert_null(member);
        c->nulls_count++;
    } else {
        assert_string_equal(json_object_get_string(member), field);
        c->numbers_count += json_object_is_type(member, json_type_string) ? 0 : 1;
    }
    free(field);
}

static void on_row(int end, void *ctx)
{
    struct comparison *c = ctx;
    (void)end;
    c->row++;
    c->column = 0;
}

static void json_has_the_fields_of_the_csv(void **state)
{
    char *answer = NULL;
    char *points = NULL;
    struct csv_parser parser;
    (void)state;
    answer_of(ANSWER_JSON, &answer, &points);
    struct json_object *o = json_tokener_parse(answer);
    assert_non_null(o);
    assert_int_equal(json_object_get_int(json_object_object_get(o, "exit_status")), 3);
    assert_string_equal(json_object_get_string(json_object_object_get(o, "folder")),
                        "a \"folder\"");
    assert_int_equal(json_object_array_length(json_object_object_get(o, "rates")), 0);
    /* Three numbers of API servers, each with at least the law that was chosen. */
    assert_true(json_object_array_length(json_object_object_get(o, "curves")) >= 3);
    struct comparison c = {.cells = json_object_object_get(o, "cells")};
    assert_int_equal(json_object_array_length(c.cells), SWEEP_SERVERS * SWEEP_CORES);
    assert_int_equal(csv_init(&parser, CSV_STRICT), 0);
    assert_int_equal(csv_parse(&parser, points, strlen(points), on_field, on_row, &c),
                     strlen(points));
    assert_int_equal(csv_fini(&parser, on_field, on_row, &c), 0);
    csv_free(&parser);
    assert_int_equal(c.row, 1 + SWEEP_SERVERS * SWEEP_CORES);
    assert_true(c.numbers_count > 10 * SWEEP_SERVERS * SWEEP_CORES);
    assert_true(c.nulls_count > 0);
    for (uint32_t i = 0; i < c.columns_count; i++) {
        free(c.columns[i]);
    }
    (void)json_object_put(o);
    free(answer);
    free(points);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_is_points_csv),
        cmocka_unit_test(json_has_the_fields_of_the_csv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
