/*
 * metric_text_test.c - `harness metrics` knows every metric that result files hold: the columns are
 * taken from the files' own headers, and each must lead to the metric it belongs to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/analysis/metric_text.h"
#include "harness/report/rows.h"
#include "helper_report.h"

static void check_found(const char *name, const char *metric)
{
    const struct metric_text *m = metric_text_find(name);
    if (m == NULL) {
        fail_msg("'%s' is not known", name);
    } else {
        assert_string_equal(m->name, metric);
    }
}

static void names_and_columns_lead_to_their_metric(void **state)
{
    (void)state;
    static const char *const names[] = {
        "ttft",     "ttft_sched",       "tpot", "icl",   "itl",      "e2el",     "e2el_sched",
        "goodput",  "offered",          "sent", "lag",   "achieved", "inflight", "output_tok_per_s",
        "capacity", "prompt_tok_per_s", "knee", "stall", "slo_rate", "use",      "stable_rate"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        check_found(names[i], names[i]);
    }
    check_found("stable rate", "stable_rate");
    check_found("SLO rate", "slo_rate");
    check_found("TTFT", "ttft");
    check_found("Time-to-First-Token", "ttft");
    check_found("ttft_p99_ms", "ttft");
    check_found("ttft_sched_p99_ms", "ttft_sched"); /* not ttft, which fits less of it */
    check_found("e2el_sched_p50_ms", "e2el_sched");
    check_found("output_tok_per_s_lo", "output_tok_per_s");
    check_found("lag_ms", "lag");
    check_found("good_frac_hi", "goodput");
    assert_null(metric_text_find("ttf"));
    assert_null(metric_text_find(""));
    assert_null(metric_text_find("request"));
    assert_null(metric_text_find("runs.csv"));
}

/* What carries a measured quantity says its unit at the end. */
static bool is_measured(const char *column)
{
    static const char *const units[] = {"_ms",   "_us",    "_rps",     "_per_s",
                                        "_frac", "_share", "_per_tok", "_per_req"};
    size_t bytes = strlen(column);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t unit = strlen(units[i]);
        if (bytes > unit && strcmp(column + bytes - unit, units[i]) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t check_header(const char *folder, const char *file)
{
    char *text = file_text(folder, file);
    char *rest = NULL;
    uint32_t count = 0;
    assert_non_null(text);
    text[strcspn(text, "\n")] = '\0';
    for (char *c = strtok_r(text, ",", &rest); c != NULL; c = strtok_r(NULL, ",", &rest)) {
        if (is_measured(c)) {
            count++;
            if (metric_text_find(c) == NULL) {
                fail_msg("column %s of %s belongs to no metric", c, file);
            }
        }
    }
    free(text);
    return count;
}

static void every_measured_column_is_known(void **state)
{
    (void)state;
    char folder[256];
    struct sweep s = sweep_make();
    struct rows rows;
    folder_make(folder);
    assert_int_equal(rows_open(&rows, folder, s.scenario, &s.host, NULL), STATUS_OK);
    assert_int_equal(rows_publish(&rows, NULL), STATUS_OK);
    rows_close(&rows);
    assert_true(check_header(folder, "runs.csv") >= 60);
    assert_true(check_header(folder, "stages.csv") >= 15);
    assert_true(check_header(folder, "launch.csv") >= 20);
    assert_true(check_header(folder, "timeline.csv") >= 4);
    assert_true(check_header(folder, "hops.csv") >= 12);
    folder_remove(folder);
    sweep_free(&s);
}

/* Two metrics must not answer to one name: the second could never be asked for. */
static void names_are_unambiguous(void **state)
{
    (void)state;
    for (size_t i = 0; i < metric_text_count(); i++) {
        const struct metric_text *m = metric_text_at(i);
        char also[256] = "";
        char *rest = NULL;
        check_found(m->name, m->name);
        assert_true(strlen(m->definition) > 10 && strlen(m->formula) > 3 && m->unit != NULL);
        assert_true(m->also == NULL || strlen(m->also) < sizeof also);
        (void)snprintf(also, sizeof also, "%s", m->also != NULL ? m->also : "");
        for (char *w = strtok_r(also, " ", &rest); w != NULL; w = strtok_r(NULL, " ", &rest)) {
            check_found(w, m->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_columns_lead_to_their_metric),
        cmocka_unit_test(every_measured_column_is_known),
        cmocka_unit_test(names_are_unambiguous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
