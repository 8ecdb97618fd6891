/*
 * answer.c - prints a session's answer as CSV or JSON (answer.h). Called once, at the end of
 * `harness run`; the rows are those of the result folder's files, from the same code.
 */
#include "harness/report/answer.h"

#include <json-c/json.h>
#include <string.h>

#include "harness/report/data.h"
#include "harness/report/knees.h"
#include "harness/report/simulated.h"
#include "harness/report/table.h"

enum {
    ANSWER_SCHEMA = 1
};

bool answer_format_of(const char *word, enum answer_format *out)
{
    static const char *const words[] = {"text", "csv", "json"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(word, words[i]) == 0) {
            *out = (enum answer_format)i;
            return true;
        }
    }
    return false;
}

static void put(struct json_object *to, const char *key, struct json_object *value)
{
    (void)json_object_object_add(to, key, value);
}

static void print_json(const struct answer *a, const struct summary *s, FILE *out)
{
    struct json_object *o = json_object_new_object();
    struct table cells = {.objects = json_object_new_array()};
    struct table curves = {.objects = json_object_new_array()};
    struct table rates = {.objects = json_object_new_array()};
    data_points(s, &cells);
    data_curves(s, &curves);
    knees_rows(a->knees, &rates);
    put(o, "schema", json_object_new_int(ANSWER_SCHEMA));
    put(o, "scenario", json_object_new_string(a->scenario->general.name));
    put(o, "verdict", json_object_new_string(a->conclusion->verdict));
    put(o, "caveat", json_object_new_string(a->conclusion->caveat));
    put(o, "exit_status", json_object_new_int(a->exit_status));
    put(o, "folder", json_object_new_string(a->folder));
    put(o, "cells", cells.objects);
    put(o, "curves", curves.objects);
    put(o, "rates", rates.objects);
    (void)fprintf(
        out, "%s\n",
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    (void)json_object_put(o);
}

void answer_print(const struct answer *a, enum answer_format format, FILE *out)
{
    struct simulated_split split;
    simulated_split(a->results, a->results_count, &split);
    struct summary *s = summary_build(a->scenario, split.shown, split.shown_count);
    simulated_add(s, &split);
    struct table rows = {.file = out};
    if (format == ANSWER_JSON) {
        print_json(a, s, out);
    } else if (a->knees->count > 0) {
        knees_rows(a->knees, &rows);
    } else {
        data_points(s, &rows);
    }
    summary_free(s);
    simulated_split_free(&split);
}
