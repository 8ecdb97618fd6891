/*
 * metrics.c - `harness metrics [NAME]`: prints the table of metrics, or all that it says of one.
 */
#include <string.h>

#include "harness/analysis/metric_text.h"
#include "harness/cli/cli.h"
#include "harness/scenario/nearest.h"

enum {
    LINE_WIDTH = 98,
    LABEL_WIDTH = 12,
    OTHER_WIDTH = 16,
    NAME_BYTES = 80,
};

/* `text` behind a label, broken between words so that lines stay within the width. */
static void print_wrapped(const char *label, int indent, const char *text)
{
    int column = indent;
    (void)printf("%-*s", indent, label);
    for (const char *word = text; *word != '\0'; word += strspn(word, " ")) {
        int bytes = (int)strcspn(word, " ");
        bool first = column == indent;
        if (!first && column + 1 + bytes > LINE_WIDTH) {
            (void)printf("\n%*s", indent, "");
            column = indent;
            first = true;
        }
        column += printf("%s%.*s", first ? "" : " ", bytes, word);
        word += bytes;
    }
    (void)putchar('\n');
}

static void print_others(const struct metric_text *m)
{
    bool any = false;
    for (int i = 0; i < METRIC_OTHERS_COUNT; i++) {
        char label[32];
        if (m->others[i] == NULL) {
            continue;
        }
        if (!any) {
            (void)printf("\nother tools, where\n");
            print_wrapped("", 2, metric_letters());
        }
        any = true;
        (void)snprintf(label, sizeof label, "  %s", metric_other_name((enum metric_other)i));
        print_wrapped(label, OTHER_WIDTH + 2, m->others[i]);
    }
}

/* "FILE:COLUMN,COLUMN ..." as a line a file. */
static void print_columns(const char *columns)
{
    const char *label = "columns";
    for (const char *at = columns; *at != '\0';) {
        char line[512];
        int file_bytes = (int)strcspn(at, ":");
        int bytes = (int)strcspn(at, " ");
        size_t used = (size_t)snprintf(line, sizeof line, "%.*s: ", file_bytes, at);
        for (int i = file_bytes + 1; i < bytes && used + 3 < sizeof line; i++) {
            line[used++] = at[i];
            if (at[i] == ',') {
                line[used++] = ' ';
            }
        }
        line[used] = '\0';
        print_wrapped(label, LABEL_WIDTH, line);
        label = "";
        at += bytes;
        at += *at == ' ';
    }
}

static void print_metric(const struct metric_text *m)
{
    (void)printf("%s%s%s%s\n", m->name, m->unit[0] != '\0' ? " (" : "", m->unit,
                 m->unit[0] != '\0' ? ")" : "");
    print_wrapped("", 2, m->definition);
    (void)putchar('\n');
    print_wrapped("formula", LABEL_WIDTH, m->formula);
    if (m->columns != NULL) {
        print_columns(m->columns);
    } else {
        print_wrapped("columns", LABEL_WIDTH, "none: no file of this version carries it");
    }
    if (m->also != NULL) {
        print_wrapped("also", LABEL_WIDTH, m->also);
    }
    print_others(m);
}

static void print_all(void)
{
    for (size_t i = 0; i < metric_text_count(); i++) {
        const struct metric_text *m = metric_text_at(i);
        (void)printf("%-18s %-13s %s\n", m->name, m->unit, m->formula);
    }
    (void)printf(
        "\nTimes are of the monotonic clock, taken at the socket: t_sched when a request was "
        "due, t_sent when its\nfirst send() returned, t_first and t_last when its first and "
        "last event with content were read.\nharness metrics NAME says more, also of a "
        "column: harness metrics ttft_sched_p99_ms\n");
}

static int unknown(const char *name)
{
    struct nearest nearest = {.word = name};
    char hint[128];
    char text[256];
    for (size_t i = 0; i < metric_text_count(); i++) {
        nearest_offer(&nearest, metric_text_at(i)->name);
    }
    (void)snprintf(text, sizeof text, "unknown metric '%.60s'%s (harness metrics lists them)", name,
                   nearest_hint(&nearest, hint, sizeof hint));
    return cli_usage_error("metrics", text);
}

int cli_metrics(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    char name[NAME_BYTES] = "";
    int option = 0;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option != 'h') {
            return cli_usage_error("metrics", "see the message above");
        }
        cli_help(stdout, "metrics", NULL);
        return EXIT_PASS;
    }
    if (optind == argc) {
        print_all();
        return EXIT_PASS;
    }
    for (int i = optind; i < argc; i++) { /* `harness metrics stable rate` is one name */
        size_t used = strlen(name);
        (void)snprintf(name + used, sizeof name - used, "%s%s", i > optind ? "_" : "", argv[i]);
    }
    const struct metric_text *metric = metric_text_find(name);
    if (metric == NULL) {
        return unknown(name);
    }
    print_metric(metric);
    return EXIT_PASS;
}
