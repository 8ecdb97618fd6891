/*
 * compare.c - `harness compare BASE CHANGED`: is the changed version slower, as far as two sets of
 * finished runs can tell? Starts nothing and writes nothing.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cli/cli.h"
#include "harness/report/comparison.h"

static const char default_metrics[] =
    "output_tok_per_s:up:3%,ttft_sched_p99_ms:down:8%,itl_p99_ms:down:8%";

static const char help_text[] =
    "  --metrics NAME:up|down:TOLERANCE%[,...]\n"
    "                                columns of runs.csv, which way is better, and the worsening\n"
    "                                that is accepted; default output_tok_per_s:up:3%,\n"
    "                                ttft_sched_p99_ms:down:8%,itl_p99_ms:down:8%\n"
    "  --alpha PERCENT               a false alarm in so many comparisons at most; default 5%\n"
    "  --looks N                     how often this comparison is made while runs are added: "
    "alpha\n"
    "                                is split over them; default 1\n"
    "BASE and CHANGED are result folders, or folders that hold several (pair/1, pair/2 ...).\n"
    "exit status: 0 no regression, 1 regression, 3 inconclusive\n";

/* "5%" or "0.5%"; NAN if it is none within (0, 100). */
static double percent_of(const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);
    bool sound = end != text && strcmp(end, "%") == 0 && value > 0 && value < 100;
    return sound ? value / 100 : (double)NAN;
}

static bool add_metric(struct comparison_options *o, char *text)
{
    char *save = NULL;
    const char *name = strtok_r(text, ":", &save);
    const char *way = strtok_r(NULL, ":", &save);
    const char *tolerance = strtok_r(NULL, ":", &save);
    if (tolerance == NULL || strtok_r(NULL, ":", &save) != NULL ||
        o->metrics_count == COMPARISON_METRICS_MAX || strlen(name) >= COMPARISON_NAME_BYTES ||
        (strcmp(way, "up") != 0 && strcmp(way, "down") != 0)) {
        return false;
    }
    for (uint32_t i = 0; i < o->metrics_count; i++) {
        if (strcmp(o->metrics[i].column, name) == 0) {
            return false;
        }
    }
    struct comparison_metric *metric = &o->metrics[o->metrics_count++];
    (void)snprintf(metric->column, sizeof metric->column, "%s", name);
    metric->higher_is_better = strcmp(way, "up") == 0;
    metric->tolerance_frac = percent_of(tolerance);
    return !isnan(metric->tolerance_frac);
}

static bool set_metrics(struct comparison_options *o, const char *list)
{
    char *copy = strdup(list);
    char *save = NULL;
    bool sound = copy != NULL;
    o->metrics_count = 0;
    for (char *item = sound ? strtok_r(copy, ",", &save) : NULL; item != NULL && sound;
         item = strtok_r(NULL, ",", &save)) {
        sound = add_metric(o, item);
    }
    free(copy);
    return sound && o->metrics_count > 0;
}

/* EXIT_PASS if the option was taken. */
static int take(struct comparison_options *o, int option, const char *name, const char *value)
{
    if (option == 'm' && !set_metrics(o, value)) {
        return cli_value_error("compare", name, "different NAME:up|down:TOLERANCE% apart by commas",
                               value);
    }
    if (option == 'a') {
        o->alpha = percent_of(value);
        if (!(o->alpha < 0.5)) {
            return cli_value_error("compare", name, "a percentage below 50 like 5%", value);
        }
    }
    if (option == 'l') {
        char *end = NULL;
        long looks = strtol(value, &end, 10);
        if (end == value || *end != '\0' || looks < 1 || looks > 100) {
            return cli_value_error("compare", name, "a number from 1 to 100", value);
        }
        o->looks_count = (uint32_t)looks;
    }
    return EXIT_PASS;
}

static int compare(const struct comparison_options *options)
{
    struct comparison comparison;
    struct error error;
    int status = EXIT_USAGE;
    if (comparison_make(&comparison, options, &error) == STATUS_OK) {
        enum gate_verdict verdict = comparison_verdict(&comparison);
        comparison_print(&comparison, options, stdout);
        if (getenv("GITHUB_ACTIONS") != NULL) { // NOLINT(concurrency-mt-unsafe): no threads
            comparison_annotate(&comparison, stdout);
        }
        status = verdict == GATE_REGRESSION     ? EXIT_REGRESSION
                 : verdict == GATE_INCONCLUSIVE ? EXIT_INCONCLUSIVE
                                                : EXIT_PASS;
    } else {
        (void)fprintf(stderr, "harness compare: %s\n", error.text);
    }
    comparison_free(&comparison);
    return status;
}

int cli_compare(int argc, char **argv)
{
    static const struct option known[] = {{"metrics", required_argument, NULL, 'm'},
                                          {"alpha", required_argument, NULL, 'a'},
                                          {"looks", required_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct comparison_options options = {.alpha = 0.05, .looks_count = 1};
    const char *name = NULL;
    int option = 0;
    (void)set_metrics(&options, default_metrics);
    while ((option = cli_option(argc, argv, "h", known, &name)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "compare", help_text);
            return EXIT_PASS;
        }
        if (option == '?' || take(&options, option, name, optarg) != EXIT_PASS) {
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 2) {
        return cli_usage_error("compare", "wants two folders: BASE and CHANGED");
    }
    options.base = argv[optind];
    options.changed = argv[optind + 1];
    return compare(&options);
}
