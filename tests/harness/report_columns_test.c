/*
 * report_columns_test.c - docs/results.md and the files agree: every column that is written is
 * described under its file's heading, and every column of a table there is written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/confirmed.h"
#include "harness/report/elasticity.h"
#include "harness/report/knees.h"
#include "helper_report.h"

enum {
    NAME_BYTES = 96,
    NAMES_MAX = 512
};

struct names {
    char name[NAMES_MAX][NAME_BYTES];
    uint32_t count;
};

static void names_add(struct names *n, const char *text, size_t bytes)
{
    assert_true(n->count < NAMES_MAX && bytes < NAME_BYTES);
    memcpy(n->name[n->count], text, bytes);
    n->name[n->count++][bytes] = '\0';
}

/* "a{b,c}d" is abd and acd. */
static void names_add_braces(struct names *n, const char *text)
{
    const char *open = strchr(text, '{');
    const char *close = open != NULL ? strchr(open, '}') : NULL;
    if (close == NULL) {
        names_add(n, text, strlen(text));
        return;
    }
    for (const char *at = open + 1; at <= close; at++) {
        char one[2 * NAME_BYTES];
        size_t bytes = strcspn(at, ",}");
        (void)snprintf(one, sizeof one, "%.*s%.*s%s", (int)(open - text), text, (int)bytes, at,
                       close + 1);
        names_add_braces(n, one);
        at += bytes;
    }
}

static void cut(char *text, const char *end)
{
    size_t bytes = strlen(text);
    if (bytes > strlen(end) && strcmp(text + bytes - strlen(end), end) == 0) {
        text[bytes - strlen(end)] = '\0';
    }
}

/* What stands in backticks from `at` to `end`. "`x_lo`, `_hi`" is x_lo and x_hi, "`x_frac`, `_lo`"
 * is x_frac and x_lo. */
static void names_in(struct names *n, const char *at, const char *end)
{
    char base[NAME_BYTES] = "";
    while ((at = memchr(at, '`', (size_t)(end - at))) != NULL) {
        const char *close = memchr(at + 1, '`', (size_t)(end - at - 1));
        char word[2 * NAME_BYTES];
        assert_non_null(close);
        size_t bytes = (size_t)(close - at - 1);
        if (at[1] == '_') {
            (void)snprintf(word, sizeof word, "%s%.*s", base, (int)bytes, at + 1);
        } else {
            (void)snprintf(word, sizeof word, "%.*s", (int)bytes, at + 1);
            (void)snprintf(base, sizeof base, "%.95s", word);
            cut(base, "_lo");
            cut(base, "_frac");
        }
        names_add_braces(n, word);
        at = close + 1;
    }
}

static bool named(const struct names *n, const char *column)
{
    for (uint32_t i = 0; i < n->count; i++) {
        if (fnmatch(n->name[i], column, 0) == 0) {
            return true;
        }
    }
    return false;
}

static bool written(const struct names *header, const char *pattern)
{
    for (uint32_t i = 0; i < header->count; i++) {
        if (fnmatch(pattern, header->name[i], 0) == 0) {
            return true;
        }
    }
    return false;
}

static struct names *header_of(const char *folder, const char *file)
{
    struct names *n = calloc(1, sizeof *n);
    char *text = file_text(folder, file);
    assert_non_null(n);
    if (text == NULL) {
        fail_msg("%s is missing", file);
    }
    const char *at = text;
    do {
        size_t bytes = strcspn(at, ",\n");
        names_add(n, at, bytes);
        at += bytes;
    } while (*at++ == ',');
    free(text);
    return n;
}

/* The text under "## FILE", up to the next heading. */
static const char *section(const char *docs, const char *file, const char **end)
{
    char heading[64];
    (void)snprintf(heading, sizeof heading, "\n## %s\n", file);
    const char *at = strstr(docs, heading);
    if (at == NULL) {
        fail_msg("docs/results.md has no heading for %s", file);
    }
    const char *next = strstr(at + strlen(heading), "\n## ");
    *end = next != NULL ? next : at + strlen(at);
    return at + strlen(heading);
}

static void check(const char *docs, const char *folder, const char *file)
{
    const char *end = NULL;
    const char *from = section(docs, file, &end);
    struct names *header = header_of(folder, file);
    struct names *anywhere = calloc(1, sizeof *anywhere);
    struct names *table = calloc(1, sizeof *table);
    assert_non_null(anywhere);
    assert_non_null(table);
    names_in(anywhere, from, end);
    for (const char *line = from; line < end; line += strcspn(line, "\n") + 1) {
        if (strncmp(line, "| `", 3) == 0) {
            names_in(table, line, strchr(line + 1, '|'));
        }
    }
    for (uint32_t i = 0; i < header->count; i++) {
        if (strcmp(header->name[i], "run_id") != 0 && !named(anywhere, header->name[i])) {
            fail_msg("%s: column %s is not in docs/results.md", file, header->name[i]);
        }
    }
    for (uint32_t i = 0; i < table->count; i++) {
        if (!written(header, table->name[i])) {
            fail_msg("docs/results.md: %s has no column %s", file, table->name[i]);
        }
    }
    free(table);
    free(anywhere);
    free(header);
}

static void every_column_is_described_and_written(void **state)
{
    static const char *const files[] = {
        "runs.csv",     "stages.csv", "launch.csv",  "threads.csv",  "hops.csv",
        "timeline.csv", "points.csv", "scaling.csv", "ceilings.csv", "requests.csv",
        "probe.csv",    "knee.csv",   "confirm.csv", "hist.csv",     "validation.csv"};
    /* Headers are written without rows. */
    static const struct elasticity elasticity;
    static const struct confirmed confirmed;
    static const struct knees knees;
    static struct run_request request;
    char folder[256];
    const char *root = getenv("HARNESS_SOURCE_DIR"); // NOLINT(concurrency-mt-unsafe)
    struct sweep sweep = sweep_make();
    struct report *report = NULL;
    struct report_conclusion conclusion;
    struct error error;
    (void)state;
    folder_make(folder);
    const struct report_options options = {
        .folder = folder, .plots_folder = folder, .scenario = sweep.scenario, .host = &sweep.host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_OK);
    sweep.results[0].requests = &request;
    sweep.results[0].requests_rows_count = 1;
    assert_int_equal(report_run(report, &sweep.results[0], &error), STATUS_OK);
    sweep.results[0].requests = NULL; /* not one to be freed */
    sweep.results[0].requests_rows_count = 0;
    report_elasticity(report, &elasticity);
    report_confirmed(report, &confirmed);
    report_knees(report, &knees);
    sweep.results[1].simulated = true;
    assert_int_equal(report_conclude(report, sweep.results, 2, false, &conclusion, &error),
                     STATUS_OK);
    report_close(report);
    char *docs = file_text(root != NULL ? root : ".", "docs/results.md");
    assert_non_null(docs);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        check(docs, folder, files[i]);
    }
    free(docs);
    folder_remove(folder);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_column_is_described_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
