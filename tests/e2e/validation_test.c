/*
 * validation_test.c - `harness validate` of a scenario: two corners of the validation grid, one of
 * which the engine core limits and the other the API server, simulated and then measured. Asserts
 * what holds on a machine that other programs disturb; the limits proper are for a quiet one. The
 * folder is judged again to the same words; one with runs of one kind has nothing to compare. And
 * requests that others measured are scored.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/analysis/stats.h"
#include "harness/run/child.h"
#include "helper_system.h"

enum {
    TRIES = 2,
    TEXT_BYTES = 1 << 16,
    PATH_BYTES = 1024
};

/* Of throughput and of the time between tokens; the reference results lie below 1 %. */
static const double error_max = 0.10;

static char root[64]; /* of this program's files */

static const char corners[] =
    "[scenario]\nname = corners\nschema = 1\nseed = 20260917\nrepeats = 1\ncooldown = 0s\n"
    "[server engine]\ntopology = api_servers=%{api_servers} dp=%{dp} tp=1\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nlaunch = graph\nhost_profile = vllm-python\n"
    "async_depth = 2\nwait = block\naccept = reuseport\nmax_num_seqs = 40\nmax_model_len = 2048\n"
    "[client]\nbalance = yes\nmax_lag = p99 1s\nmax_cpu = 100%\n"
    "[workload chat]\nprompt = 128tok\noutput = uniform lo=128tok hi=384tok\n"
    "[load closed]\nmode = closed\nusers = 2 * %{dp} * 40\nfirst_outputs = residual\n"
    "warmup = 1s\nmeasure = 2s\nbatches = 4\n"
    "[sweep]\naxis.api_servers = 4,1\naxis.dp = 1,4\ncombine = zip\n";

/* `harness WORD ARGUMENTS`; its exit status, and what it printed. */
static int harness(const char *word, const char *arguments, char out[TEXT_BYTES])
{
    char program[512];
    char command[PATH_BYTES];
    child_program_folder(program, sizeof program);
    (void)snprintf(command, sizeof command, "%s/harness %s %s 2>%s/errors", program, word,
                   arguments, root);
    FILE *pipe = popen(command, "r"); // NOLINT(cert-env33-c): a test's own words
    assert_non_null(pipe);
    size_t bytes = fread(out, 1, TEXT_BYTES - 1, pipe);
    out[bytes] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int validate(const char *arguments, char out[TEXT_BYTES])
{
    return harness("validate", arguments, out);
}

/* Field `column` of the row of validation.csv that begins so; NAN: there is no number. */
static double number_of(const char *csv, const char *row, uint32_t column)
{
    char *end = NULL;
    const char *at = strstr(csv, row);
    if (at == NULL) {
        fail_msg("validation.csv has no row %s", row);
        return 0;
    }
    for (at += strlen(row); column > 0; column--) {
        at += strcspn(at, ",\n") + 1;
    }
    double value = strtod(at, &end);
    return end == at ? STATS_UNKNOWN : value;
}

static char *read_csv(void)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/out/validation.csv", root);
    FILE *file = fopen(path, "r");
    char *text = calloc(1, TEXT_BYTES);
    assert_true(file != NULL && text != NULL);
    assert_true(fread(text, 1, TEXT_BYTES - 1, file) > 0);
    assert_int_equal(fclose(file), 0);
    return text;
}

/* The greatest error of both cells; NAN: the host limited one of them. */
static double greatest_error(const char *csv)
{
    static const char *const rows[] = {"\n1,\"api_servers=4,dp=1\",output_tok_per_s,1/s,",
                                       "\n1,\"api_servers=1,dp=4\",output_tok_per_s,1/s,",
                                       "\n1,\"api_servers=4,dp=1\",itl,ms,",
                                       "\n1,\"api_servers=1,dp=4\",itl,ms,"};
    double most = 0;
    if (strstr(csv, "host limited") != NULL) {
        return STATS_UNKNOWN;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        /* pairs, then of the mean: measured, simulated, spread, error */
        assert_true(number_of(csv, rows[i], 0) <= 1);
        double measured = number_of(csv, rows[i], 1);
        double simulated = number_of(csv, rows[i], 2);
        double error = number_of(csv, rows[i], 4);
        assert_true(isnan(error) || fabs((simulated - measured) / measured - error) < 1e-3);
        if (isnan(error)) {
            return STATS_UNKNOWN;
        }
        most = fmax(most, fabs(error));
    }
    return most;
}

static void two_corners_are_as_simulated(void **state)
{
    (void)state;
    static char printed[TEXT_BYTES];
    char scenario[PATH_BYTES];
    char arguments[PATH_BYTES];
    double error = STATS_UNKNOWN;
    (void)snprintf(scenario, sizeof scenario, "%s/corners.ini", root);
    FILE *file = fopen(scenario, "w");
    assert_true(file != NULL && fputs(corners, file) >= 0 && fclose(file) == 0);
    (void)snprintf(arguments, sizeof arguments,
                   "%s/corners.ini -o %s/out --progress none --set plots.format=dumb", root, root);
    for (int i = 0; i < TRIES && !(error <= error_max); i++) {
        int status = validate(arguments, printed);
        if (status != 0 && status != 3 && status != 4) {
            fail_msg("exit status %d: see %s/errors", status, root);
        }
        char *csv = read_csv();
        error = greatest_error(csv);
        free(csv);
    }
    if (isnan(error)) {
        skip(); /* this machine has no room for it */
    }
    if (!(error <= error_max)) {
        fail_msg("simulation and measurement are %.1f %% apart:\n%s", error * 100, printed);
    }
}

/* From the records alone, the sentence first. */
static void the_folder_is_judged_again(void **state)
{
    (void)state;
    static char first[TEXT_BYTES];
    static char again[TEXT_BYTES];
    char folder[PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%s/out", root);
    int status = validate(folder, first);
    assert_int_equal(validate(folder, again), status);
    assert_string_equal(first, again);
    const char *sentence = strstr(first, "Throughput within ");
    const char *nothing = strstr(first, "Simulation and measurement cannot be compared.");
    assert_true(sentence != NULL || nothing == first);
    assert_true(sentence == NULL || sentence < strchr(first, '\n'));
}

/* Runs of one kind alone: there is nothing to compare, and no table that says otherwise. */
static void a_folder_without_pairs_is_told(void **state)
{
    (void)state;
    static char printed[TEXT_BYTES];
    char words[PATH_BYTES];
    (void)snprintf(words, sizeof words,
                   "%s/corners.ini -o %s/sim --progress none --set plots.format=dumb", root, root);
    int status = harness("sim", words, printed);
    assert_true(status == 0 || status == 3);
    (void)snprintf(words, sizeof words, "%s/sim/validation.csv", root); /* of a session before */
    FILE *stale = fopen(words, "w");
    assert_true(stale != NULL && fclose(stale) == 0);
    (void)snprintf(words, sizeof words, "%s/sim", root);
    assert_int_equal(validate(words, printed), 3);
    assert_non_null(strstr(printed, "Nothing was simulated and measured: there are simulated runs "
                                    "only."));
    assert_null(strstr(printed, "validation.csv"));
    (void)snprintf(words, sizeof words, "%s/sim/validation.csv", root);
    assert_int_equal(access(words, F_OK), -1);
}

/* A row of the table of a file of requests: "NAME MEASURED SIMULATED MEAN% P50% P90% P99%
 * DISTANCE%"; all requests are alike, so that each error is the same. */
static void assert_row(const char *printed, const char *name, double measured_ms)
{
    char head[16];
    double value[7];
    (void)snprintf(head, sizeof head, "\n  %s ", name);
    const char *row = strstr(printed, head);
    assert_non_null(row);
    row += strlen(head);
    assert_int_equal(sscanf(row, "%lf %lf %lf%% %lf%% %lf%% %lf%% %lf%%", &value[0], &value[1],
                            &value[2], &value[3], &value[4], &value[5], &value[6]),
                     7);
    assert_true(fabs(value[0] - measured_ms) < 0.06);
    assert_true(value[1] > 1 && value[1] < measured_ms / 100);
    double error = (value[1] - measured_ms) / measured_ms * 100;
    for (int i = 2; i < 6; i++) {
        assert_true(fabs(value[i] - error) < 0.11);
    }
    assert_true(fabs(value[6] + error) < 0.11); /* the one distribution moved as a whole */
}

/* Requests far apart that took 10 s to their first token and 2 s for each of ten more: a system
 * that is some hundred times slower than the simulated one. */
static void requests_of_others_are_scored(void **state)
{
    (void)state;
    static char printed[TEXT_BYTES];
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/requests.jsonl", root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 20; i++) {
        int at = 1000 * i;
        (void)fprintf(file,
                      "{\"input_toks\": 100, \"output_toks\": 11, \"arrival_time\": %d, "
                      "\"queued_ts\": %d, \"scheduled_ts\": %d, \"first_token_ts\": %d, "
                      "\"last_token_ts\": %d}\n",
                      at, at, at + 1, at + 10, at + 30);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(validate(path, printed), 0);
    assert_int_equal(strncmp(printed, "20 requests of ", 15), 0);
    assert_row(printed, "ttft", 10000);
    assert_row(printed, "tpot", 2000);
    assert_row(printed, "e2el", 30000);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_corners_are_as_simulated),
        cmocka_unit_test(the_folder_is_judged_again),
        cmocka_unit_test(a_folder_without_pairs_is_told),
        cmocka_unit_test(requests_of_others_are_scored),
    };
    e2e_begin();
    (void)snprintf(root, sizeof root, "/tmp/harness-validation-XXXXXX");
    if (mkdtemp(root) == NULL) {
        return 1;
    }
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures == 0) {
        (void)nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    return e2e_end(failures);
}
