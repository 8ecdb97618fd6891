/*
 * calibrate.c - `harness calibrate`: measures what the work of this code costs on this machine and
 * writes it as a file that a scenario names; and says of such files whether they are of this
 * machine.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/cli/cli.h"
#include "harness/cli/place.h"
#include "harness/run/calibrate.h"

enum {
    OPTION_GPU = CLI_OPTION_OWN,
    OPTION_MODEL,
    SEED = 1,
    TYPICAL_PROMPT = 128, /* the requests of the first sentence */
    TYPICAL_OUTPUT = 256,
    TYPICAL_BATCH = 40,
    FRESH_BYTES = PLACE_PATH_BYTES + 8,
};

#define OTHERS_CORES 0.2 /* used by others, from which on that is said */

static const char help_text[] =
    "  -o FILE              where to (default calibration.ini); replaces what is there\n"
    "  --quick              20 s instead of 80: wider intervals\n"
    "  --gpu NAME           whose steps are timed (default h100, emulated)\n"
    "  --model NAME         with this model (default llama-3.1-8b)\n"
    "Runs small systems here, one after the other, each with another kind of work, and finds what\n"
    "a piece of each costs in CPU time. Keep the machine quiet meanwhile. Then\n"
    "  harness sim FILE.ini --set simulation.costs=calibration.ini\n"
    "simulates this machine, here or anywhere.\n";

static volatile sig_atomic_t signal_seen;

static void on_signal(int number)
{
    signal_seen = number;
}

static bool interrupted(void)
{
    return signal_seen != 0;
}

static void tell(void *ctx, const struct calibrate_progress *p)
{
    (void)ctx;
    (void)fprintf(stderr, "%2u of %u: %s (about %.0f s left)\n", p->done_count + 1, p->all_count,
                  p->setup, p->left_s);
}

/* ---- whose a calibration is ---- */

bool cli_calibrations_fit(const char *command, const struct scenario *scenario, bool strict)
{
    struct calibration_machine here;
    bool fit = true;
    bool simulates = scenario->general.mode != (uint32_t)SCENARIO_MEASURE;
    place_machine(&here);
    for (uint32_t i = 0; i < scenario->calibrations_count && simulates; i++) {
        const struct calibration *c = &scenario->calibrations[i];
        char *text = NULL;
        size_t bytes = 0;
        FILE *file = open_memstream(&text, &bytes);
        if (file == NULL) {
            return !strict;
        }
        bool same = calibration_differences(&c->machine, &here, file) == 0;
        (void)fclose(file);
        if (!same) {
            (void)fprintf(stderr, "harness %s: %s was measured on another machine:\n%s%s", command,
                          c->path, text,
                          strict ? "refused, because of --strict\n"
                                 : "what is simulated is that one\n");
        }
        fit = fit && same;
        free(text);
    }
    return fit || !strict;
}

/* ---- what came out ---- */

static double us(const struct calibrate_result *r, enum calibration_term term)
{
    return (double)calibration_cost_of(&r->calibration.costs, term) / 1e6;
}

static void print_verdict(const struct calibrate_result *r)
{
    double token = us(r, CALIBRATION_API_MESSAGE_ITEM) + us(r, CALIBRATION_API_OUTPUT) +
                   us(r, CALIBRATION_API_WRITE);
    double request = us(r, CALIBRATION_API_REQUEST);
    double prompt_token = us(r, CALIBRATION_API_REQUEST_TOKEN);
    double message = us(r, CALIBRATION_API_MESSAGE);
    double each = token + message / TYPICAL_BATCH +
                  (request + prompt_token * TYPICAL_PROMPT) / TYPICAL_OUTPUT;
    (void)printf("An API server of this machine needs %.0f us of CPU a request + %.2f us a prompt "
                 "token + %.1f us a streamed token + %.1f us an engine core's message: of requests "
                 "of %d + %d tokens, in steps of %d sequences, one core carries %.0f tokens/s.\n",
                 request, prompt_token, token, message, TYPICAL_PROMPT, TYPICAL_OUTPUT,
                 TYPICAL_BATCH, 1e6 / each);
    if (r->others_cores > OTHERS_CORES) {
        (void)printf("Other programs used up to %.1f cores meanwhile: what they did to caches and "
                     "wake-ups is in these costs. Do it again on a quiet machine.\n",
                     r->others_cores);
    }
}

static const char *source_text(enum calibrate_source source)
{
    switch (source) {
    case CALIBRATE_MEASURED:
        return "";
    case CALIBRATE_SHARED:
        return "  divided as built in";
    case CALIBRATE_KEPT:
        break;
    }
    return "  not measured: built in";
}

static void print_costs(const struct calibrate_result *r)
{
    (void)printf("\n%-26s %10s   %s\n", "cost", "us", "95 % interval");
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        enum calibration_term term = (enum calibration_term)i;
        const struct calibration_interval *interval = &r->calibration.intervals[i];
        char text[64] = "";
        if (interval->known) {
            (void)snprintf(text, sizeof text, "%.3f to %.3f", (double)interval->lo / 1e6,
                           (double)interval->hi / 1e6);
        }
        const char *note = source_text(r->source[i]);
        (void)printf("%-26s %10.3f   %-*s%s\n", calibration_term_name(term), us(r, term),
                     note[0] != '\0' ? 22 : 0, text, note);
    }
}

static void print_threads(const struct calibrate_result *r)
{
    (void)printf("\n%-14s %8s %9s %13s %10s\n", "thread", "windows", "condition", "median error",
                 "explained");
    for (uint32_t i = 0; i < CALIBRATE_THREADS_COUNT; i++) {
        const struct calibrate_thread *t = &r->threads[i];
        bool fitted = !isnan(t->fit.error_frac) && t->cpu_ns > 0;
        (void)printf("%-14s %8u", t->name, t->windows_count);
        if (fitted) {
            (void)printf(" %9.1f %11.1f %% %8.0f %%\n", t->fit.condition, t->fit.error_frac * 100,
                         100 * t->explained_ns / t->cpu_ns);
        } else {
            (void)printf(" %9s %13s %10s\n", "-", "-", "-");
        }
    }
}

/* A term and those after it that it cannot be told from. */
static void print_group(const struct calibrate_thread *t, uint32_t first)
{
    (void)printf("cannot be told apart by these runs: %s", t->columns[first]);
    for (uint32_t i = first + 1; i < t->columns_count; i++) {
        if ((t->fit.terms[first].confused >> i & 1U) != 0) {
            (void)printf(" and %s", t->columns[i]);
        }
    }
    (void)printf("\n");
}

/* Each group once, by its first member. */
static void print_confusion(const struct calibrate_result *r)
{
    bool any = false;
    (void)printf("\n");
    for (uint32_t i = 0; i < CALIBRATE_THREADS_COUNT; i++) {
        const struct calibrate_thread *t = &r->threads[i];
        for (uint32_t k = 0; k < t->columns_count; k++) {
            uint32_t others = t->fit.terms[k].confused;
            if (others != 0 && (others & ((1U << k) - 1)) == 0) {
                print_group(t, k);
                any = true;
            }
        }
    }
    if (!any) {
        (void)printf("no two costs of a thread were confused by these runs\n");
    }
}

static void print_device(const struct calibration_device *d)
{
    static const char *const names[] = {"a step", "a sequence", "a KV token read", "a prompt token",
                                        "a prompt token x context"};
    (void)printf("\nsteps of %s on %s (emulated), ns: the cells left out of the fit are hit within "
                 "%.1f %%, condition %.0f\n",
                 d->model, d->gpu, d->held_out_error * 100, d->condition);
    for (int i = 0; i < CALIBRATION_STEP_TERMS_COUNT; i++) {
        (void)printf("  %-26s %12.4f   %.4f to %.4f\n", names[i], d->value[i] / 1e3, d->lo[i] / 1e3,
                     d->hi[i] / 1e3);
    }
}

/* ---- the file ---- */

static void name_fresh(const char *path, char out[FRESH_BYTES])
{
    (void)snprintf(out, FRESH_BYTES, "%s.new", path);
}

static void tell_unwritten(const char *path, int why)
{
    (void)fprintf(stderr, "harness calibrate: %s: cannot be written: %s\n", path,
                  strerror(why)); // NOLINT(concurrency-mt-unsafe): one thread
}

/* Asked before anything is measured. */
static bool can_write(const char *path)
{
    char fresh[FRESH_BYTES];
    struct stat info;
    int why = stat(path, &info) == 0 && S_ISDIR(info.st_mode) ? EISDIR : 0;
    name_fresh(path, fresh);
    FILE *file = why == 0 ? fopen(fresh, "we") : NULL;
    if (file == NULL) {
        tell_unwritten(path, why != 0 ? why : errno);
        return false;
    }
    (void)fclose(file);
    (void)remove(fresh);
    return true;
}

static int write_file(const char *path, const struct calibration *c)
{
    char fresh[FRESH_BYTES];
    name_fresh(path, fresh);
    FILE *file = fopen(fresh, "we");
    if (file != NULL) {
        calibration_write(c, file);
        bool good = ferror(file) == 0;
        good = fclose(file) == 0 && good;
        if (good && rename(fresh, path) == 0) {
            return EXIT_PASS;
        }
    }
    tell_unwritten(path, errno);
    (void)remove(fresh);
    return EXIT_RESULTS;
}

static void describe(struct calibration *c)
{
    struct tm utc;
    time_t now = (time_t)(clock_wall_ns() / 1000000000);
    (void)gmtime_r(&now, &utc);
    (void)strftime(c->date, sizeof c->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    (void)snprintf(c->revision, sizeof c->revision, "%s", place_revision());
    place_machine(&c->machine);
}

static int calibrate(const char *path, const struct calibrate_options *options)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct calibrate_result result;
    struct error error;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    place_raise_descriptor_limit();
    enum status status = calibrate_run(options, &result, &error);
    if (interrupted()) {
        (void)fprintf(stderr, "harness calibrate: interrupted, nothing was written\n");
        return signal_seen == SIGTERM ? EXIT_TERMINATED : EXIT_INTERRUPTED;
    }
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "harness calibrate: %s\n", error.text);
        return EXIT_SERVER;
    }
    describe(&result.calibration);
    int written = write_file(path, &result.calibration);
    print_verdict(&result);
    print_costs(&result);
    print_threads(&result);
    print_confusion(&result);
    print_device(&result.calibration.device);
    if (written == EXIT_PASS) {
        (void)printf("\nwritten: %s; simulate with it: --set simulation.costs=%s%s\n", path,
                     strpbrk(path, "./") == NULL ? "./" : "", path);
    }
    return written;
}

int cli_calibrate(int argc, char **argv)
{
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {"quick", no_argument, NULL, CLI_OPTION_QUICK},
                                            {"gpu", required_argument, NULL, OPTION_GPU},
                                            {"model", required_argument, NULL, OPTION_MODEL},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct calibrate_options calibration = {.gpu = "h100",
                                            .model = "llama-3.1-8b",
                                            .seed = SEED,
                                            .log_fd = -1,
                                            .progress = tell,
                                            .interrupted = interrupted};
    const char *path = "calibration.ini";
    int option = 0;
    while ((option = cli_option(argc, argv, "ho:", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "calibrate", help_text);
            return EXIT_PASS;
        }
        if (option == 'o') {
            path = optarg;
        } else if (option == CLI_OPTION_QUICK) {
            calibration.quick = true;
        } else if (option == OPTION_GPU) {
            calibration.gpu = optarg;
        } else if (option == OPTION_MODEL) {
            calibration.model = optarg;
        } else {
            return EXIT_USAGE;
        }
    }
    if (argc > optind) {
        return cli_usage_error("calibrate", "expected no operands");
    }
    if (strlen(path) >= PLACE_PATH_BYTES) {
        return cli_value_error("calibrate", "output", "a shorter path", path);
    }
    if (!cli_name_is_known("calibrate", "gpu", calibration.gpu, cli_gpu_at) ||
        !cli_name_is_known("calibrate", "model", calibration.model, cli_model_at)) {
        return EXIT_USAGE;
    }
    return can_write(path) ? calibrate(path, &calibration) : EXIT_RESULTS;
}
