/*
 * validate.c - `harness validate`: how far simulation and measurement are apart, good and bad. Of a
 * scenario both are made here (run.c), of a result folder they are there (report.c). Any other file
 * is a run that somebody else measured, replayed request by request; with --fit the device is
 * fitted to the first requests and the others are scored.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/analysis/prediction_error.h"
#include "harness/cli/cli.h"
#include "harness/run/validate.h"

enum {
    OPTION_MODEL = CLI_OPTION_OWN,
    OPTION_GPU,
    OPTION_SEQS,
    OPTION_TOKENS,
    OPTION_DEPTH,
    OPTION_FIT
};

static const char help_text[] =
    "FILE.ini: a scenario. Its cells are simulated, then measured, and held against each other;\n"
    "it takes the options of harness run. Exit status 4: an error exceeds its limit (tokens/s\n"
    "3 %, TTFT p50 8 %, TTFT p99 20 % and twice the spread of the runs, where more engine cores\n"
    "stop helping one step of the grid); 3: nothing could be compared.\n"
    "DIR: a result folder of such a session; it takes the options of harness report.\n"
    "FILE: a file of measured requests. Options:\n"
    "  --model NAME                  its shape (default llama-3.1-8b)\n"
    "  --gpu NAME                    (default h100)\n"
    "  --max-num-seqs N              sequences that the engine core ran at once (default 256)\n"
    "  --max-num-batched-tokens N    tokens of one of its steps (default 8192)\n"
    "  --async-depth N               1, or 2 with asynchronous scheduling (default 2)\n"
    "  --fit N                       fit the device to the first N requests, score the others\n";

struct arguments {
    struct validate_system system;
    const char *path;
    uint32_t fit_count; /* 0: none */
};

/* ---- the table ---- */

static void print_percent(double frac)
{
    if (isnan(frac)) {
        (void)printf(" %8s", "");
    } else {
        (void)printf(" %+7.1f%%", 100 * frac);
    }
}

/* The known ones of one latency, in a row of the table. */
static enum status print_metric(const char *name, const double *predicted, const double *measured,
                                uint32_t count)
{
    double *got = calloc(count, sizeof *got);
    double *want = calloc(count, sizeof *want);
    size_t known = 0;
    if (got == NULL || want == NULL) {
        free(got);
        free(want);
        return STATUS_NOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!isnan(predicted[i]) && !isnan(measured[i])) {
            got[known] = predicted[i];
            want[known] = measured[i];
            known++;
        }
    }
    struct prediction_error e = prediction_error_of(got, known, want, known);
    (void)printf("  %-6s %10.1f %10.1f", name, 1e3 * e.measured_mean, 1e3 * e.predicted_mean);
    print_percent(e.mean_frac);
    print_percent(e.p50_frac);
    print_percent(e.p90_frac);
    print_percent(e.p99_frac);
    (void)printf(" %7.1f%%\n", 100 * e.distance_frac);
    free(got);
    free(want);
    return STATUS_OK;
}

enum metric {
    TTFT,
    TPOT,
    E2EL,
    METRICS_COUNT
};

static double metric_of(const struct validate_times *times, enum metric metric)
{
    return metric == TTFT ? times->ttft_s : metric == TPOT ? times->tpot_s : times->e2el_s;
}

static enum status print_errors(const struct validate_times *predicted,
                                const struct validate_times *measured, uint32_t first,
                                uint32_t count)
{
    static const char *const names[METRICS_COUNT] = {"ttft", "tpot", "e2el"};
    double *values = calloc(2 * (size_t)count, sizeof *values);
    enum status status = values == NULL ? STATUS_NOMEM : STATUS_OK;
    (void)printf("         measured  simulated    error of\n"
                 "  mean   ms         ms             mean      p50      p90      p99 distance\n");
    for (enum metric m = TTFT; m < METRICS_COUNT && status == STATUS_OK; m++) {
        for (uint32_t i = 0; i < count; i++) {
            values[i] = metric_of(&predicted[first + i], m);
            values[count + i] = metric_of(&measured[first + i], m);
        }
        status = print_metric(names[m], values, values + count, count);
    }
    free(values);
    return status;
}

/* ---- the fit ---- */

static void print_fit(const struct validate_fit *fit)
{
    (void)printf("\ndevice, by %u simulations; condition "
                 "number %.0f%s\n",
                 fit->simulations_count, fit->condition,
                 fit->condition > 100 ? ": some of these cannot be told apart by this run" : "");
    const double *factor = fit->factor_95;
#define X(field, name, unit, ps)                                                           \
    (void)printf("  %-24s %9.4g %-2s  [%.4g, %.4g]\n", name, fit->step.field / (ps), unit, \
                 fit->step.field / *factor / (ps), fit->step.field * *factor / (ps));      \
    factor++;
    VALIDATE_COEFFICIENTS(X)
#undef X
    double delay_ms = (double)fit->delay / 1e9;
    (void)printf("  %-24s %9.4g %-2s  [%.4g, %.4g]\n", "delay of a request", delay_ms, "ms",
                 delay_ms / *factor, delay_ms * *factor);
}

/* How many it takes is not known before; more than a few thousand it never are. */
static void print_progress(uint32_t simulations_count)
{
    if (simulations_count % 10 == 0) {
        (void)fprintf(stderr, "\rfitting: %u simulations ", simulations_count);
    }
}

/* ---- the command ---- */

struct session {
    const struct arguments *arguments;
    struct measured_run run;
    struct validate_times *measured;
    struct validate_times *predicted;
};

static enum status simulate(struct session *s, const struct validate_system *system, time_ps delay,
                            struct error *error)
{
    const struct arguments *a = s->arguments;
    TRY(validate_simulate(system, &s->run, delay, s->predicted, error));
    return print_errors(s->predicted, s->measured, a->fit_count, s->run.count - a->fit_count);
}

static enum status validate(struct session *s, struct error *error)
{
    const struct arguments *a = s->arguments;
    struct validate_fit fit;
    TRY(measured_read(a->path, &s->run, error));
    if (a->fit_count >= s->run.count) {
        return error_set(error, STATUS_INVALID, "--fit %u leaves none of the %u requests to score",
                         a->fit_count, s->run.count);
    }
    s->measured = calloc(s->run.count, sizeof *s->measured);
    s->predicted = calloc(s->run.count, sizeof *s->predicted);
    if (s->measured == NULL || s->predicted == NULL) {
        return error_set(error, STATUS_NOMEM, "out of memory");
    }
    validate_measured(&s->run, s->measured);
    (void)printf("%u requests of %s", s->run.count, a->path);
    if (a->fit_count > 0) {
        (void)printf(", the last %u scored", s->run.count - a->fit_count);
    }
    (void)printf("\n\n%s as in the table of GPUs, nothing fitted\n", a->system.gpu->name);
    TRY(simulate(s, &a->system, 0, error));
    if (a->fit_count == 0) {
        return STATUS_OK;
    }
    bool is_watched = isatty(STDERR_FILENO) != 0;
    struct validate_system system = a->system;
    system.progress = is_watched ? print_progress : NULL;
    TRY(validate_fit(&system, &s->run, a->fit_count, &fit, error));
    if (is_watched) {
        (void)fprintf(stderr, "\r%*s\r", 40, "");
    }
    struct gpu_shape gpu = *a->system.gpu;
    struct validate_system fitted = a->system;
    gpu.fit = &fit.step;
    fitted.gpu = &gpu;
    (void)printf("\nfitted to the first %u\n", a->fit_count);
    TRY(simulate(s, &fitted, fit.delay, error));
    print_fit(&fit);
    return STATUS_OK;
}

static bool read_count(const char *text, uint32_t most, uint32_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    *out = (uint32_t)value;
    return errno == 0 && end != text && *end == '\0' && value >= 1 && value <= most;
}

static int take_option(struct arguments *a, int option, const char *name)
{
    uint32_t *count = NULL;
    uint32_t most = 1 << 20;
    switch (option) {
    case OPTION_MODEL:
        a->system.model = model_shape_find(optarg);
        return cli_name_is_known("validate", name, optarg, cli_model_at) ? EXIT_PASS : EXIT_USAGE;
    case OPTION_GPU:
        a->system.gpu = gpu_shape_find(optarg);
        return cli_name_is_known("validate", name, optarg, cli_gpu_at) ? EXIT_PASS : EXIT_USAGE;
    case OPTION_SEQS:
        count = &a->system.max_num_seqs;
        most = 65536;
        break;
    case OPTION_TOKENS:
        count = &a->system.max_num_batched_tokens;
        break;
    case OPTION_DEPTH:
        count = &a->system.async_depth;
        most = 2;
        break;
    case OPTION_FIT:
        count = &a->fit_count;
        break;
    default:
        return EXIT_USAGE;
    }
    char wanted[32];
    (void)snprintf(wanted, sizeof wanted, "1 to %u", most);
    return read_count(optarg, most, count) ? EXIT_PASS
                                           : cli_value_error("validate", name, wanted, optarg);
}

static int validate_requests(int argc, char **argv)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, OPTION_MODEL},
        {"gpu", required_argument, NULL, OPTION_GPU},
        {"max-num-seqs", required_argument, NULL, OPTION_SEQS},
        {"max-num-batched-tokens", required_argument, NULL, OPTION_TOKENS},
        {"async-depth", required_argument, NULL, OPTION_DEPTH},
        {"fit", required_argument, NULL, OPTION_FIT},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    struct arguments a = {.system = {.model = model_shape_find("llama-3.1-8b"),
                                     .gpu = gpu_shape_find("h100"),
                                     .max_num_seqs = 256,
                                     .max_num_batched_tokens = 8192,
                                     .async_depth = 2}};
    const char *name = NULL;
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, &name)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "validate", help_text);
            return EXIT_PASS;
        }
        int exit = take_option(&a, option, name);
        if (exit != EXIT_PASS) {
            return exit;
        }
    }
    if (argc - optind != 1) {
        return cli_usage_error(
            "validate",
            "expected a scenario (.ini), a result folder or one file of measured requests");
    }
    a.path = argv[optind];
    struct session session = {.arguments = &a};
    struct error error = {.text = "out of memory"};
    enum status status = validate(&session, &error);
    measured_free(&session.run);
    free(session.measured);
    free(session.predicted);
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "harness validate: %s\n", error.text);
    }
    return status == STATUS_OK ? EXIT_PASS : EXIT_USAGE;
}

static bool is_scenario(const char *word)
{
    size_t bytes = strlen(word);
    return bytes > 4 && strcmp(word + bytes - 4, ".ini") == 0;
}

static bool is_folder(const char *word)
{
    struct stat info;
    return stat(word, &info) == 0 && S_ISDIR(info.st_mode);
}

int cli_validate(int argc, char **argv)
{
    bool folder = false;
    for (int i = 1; i < argc; i++) {
        if (is_scenario(argv[i])) {
            return cli_run_as(argc, argv, "scenario.mode=both");
        }
        folder = folder || is_folder(argv[i]);
    }
    return folder ? cli_report(argc, argv) : validate_requests(argc, argv);
}
