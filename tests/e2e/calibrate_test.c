/*
 * calibrate_test.c - `harness calibrate --quick` here: it writes a file that can be read, whose
 * costs account for about the CPU time that the threads took; a scenario simulates with it, the
 * same bytes each time; a file of another machine is told and, with --strict, refused. Nothing is
 * asked of the costs themselves: other programs run on this machine.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/run/child.h"
#include "harness/scenario/calibration.h"

enum {
    ARGUMENTS_MAX = 12,
    PATH_BYTES = 256,
    INVALID = 5,
};

static char root[64]; /* of this program's files */

static const char scenario_text[] =
    "[scenario]\nname = calibrated\nseed = 3\nrepeats = 2\ncooldown = 0s\nmode = simulate\n"
    "[server s]\ntopology = api_servers=2 dp=2 tp=1\nhost_profile = native\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nmax_num_seqs = 8\nmax_model_len = 512\n"
    "[simulation]\ncosts = calibration.ini\ncores = 2\n"
    "[workload w]\nprompt = 24tok\noutput = uniform lo=8tok hi=40tok\n"
    "[load l]\nmode = open\nrate = 120/s\nwarmup = 200ms\nmeasure = 800ms\ndrain = 5s\n"
    "batches = 4\n";

static void path_of(const char *name, char out[PATH_BYTES])
{
    (void)snprintf(out, PATH_BYTES, "%s/%s", root, name);
}

static void write_file(const char *name, const char *text)
{
    char path[PATH_BYTES];
    path_of(name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static char *read_file(const char *name)
{
    char path[PATH_BYTES];
    struct stat info;
    path_of(name, path);
    if (stat(path, &info) != 0) {
        fail_msg("%s is missing", path);
    }
    char *data = calloc((size_t)info.st_size + 1, 1);
    FILE *file = fopen(path, "r");
    assert_non_null(data);
    assert_non_null(file);
    assert_int_equal(fread(data, 1, (size_t)info.st_size, file), info.st_size);
    (void)fclose(file);
    return data;
}

/* harness WORD ... in the folder of this program's files; its exit status. What it says goes to
 * the file `log`. */
static int harness(const char *log, const char *const *words)
{
    char program[512];
    char *arguments[ARGUMENTS_MAX] = {program};
    child_program_folder(program, sizeof program - 16);
    (void)strcat(program, "/harness"); // NOLINT: room was left above
    for (int i = 0; words[i] != NULL; i++) {
        assert_true(i + 2 < ARGUMENTS_MAX);
        arguments[i + 1] = strdup(words[i]);
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        bool there = chdir(root) == 0 && freopen(log, "w", stdout) != NULL;
        _exit(there && dup2(1, 2) == 2 ? execv(program, arguments) : 99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (int i = 1; arguments[i] != NULL; i++) {
        free(arguments[i]);
    }
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int simulate(const char *folder, const char *jobs, bool strict)
{
    const char *words[] = {
        "sim", "s.ini", "-o", folder, "-j", jobs, "--progress", "none", strict ? "--strict" : NULL,
        NULL};
    return harness("sim.log", words);
}

static void assert_same(const char *name)
{
    char first[PATH_BYTES];
    char second[PATH_BYTES];
    (void)snprintf(first, sizeof first, "one/%s", name);
    (void)snprintf(second, sizeof second, "two/%s", name);
    char *a = read_file(first);
    char *b = read_file(second);
    assert_string_equal(a, b);
    free(a);
    free(b);
}

/* The last column of the thread's row of the table. */
static double explained_percent(const char *said, const char *thread)
{
    char line[64];
    double windows;
    double condition;
    double error;
    double explained = -1;
    (void)snprintf(line, sizeof line, "\n%s ", thread);
    const char *at = strstr(said, line);
    if (at == NULL || sscanf(at + strlen(line), "%lf %lf %lf %% %lf %%", &windows, &condition,
                             &error, &explained) != 4) {
        fail_msg("no row of %s in: %s", thread, said);
    }
    return explained;
}

static double us_of(const struct calibration *c, enum calibration_term term)
{
    return (double)calibration_cost_of(&c->costs, term) / 1e6;
}

/* The sentence's costs are the file's, and what a core carries follows from them: requests of 128 +
 * 256 tokens in steps of 40. */
static void assert_sentence(const char *said, const struct calibration *c)
{
    double request;
    double prompt_token;
    double token;
    double message;
    double tokens_per_s;
    const char *at = strstr(said, "An API server of this machine needs ");
    assert_non_null(at);
    assert_int_equal(sscanf(at,
                            "An API server of this machine needs %lf us of CPU a request + %lf us "
                            "a prompt token + %lf us a streamed token + %lf us an engine core's "
                            "message: of requests of 128 + 256 tokens, in steps of 40 sequences, "
                            "one core carries %lf tokens/s.",
                            &request, &prompt_token, &token, &message, &tokens_per_s),
                     5);
    assert_true(fabs(request - us_of(c, CALIBRATION_API_REQUEST)) < 0.51);
    assert_true(fabs(prompt_token - us_of(c, CALIBRATION_API_REQUEST_TOKEN)) < 0.006);
    assert_true(fabs(message - us_of(c, CALIBRATION_API_MESSAGE)) < 0.06);
    double each = us_of(c, CALIBRATION_API_MESSAGE_ITEM) + us_of(c, CALIBRATION_API_OUTPUT) +
                  us_of(c, CALIBRATION_API_WRITE);
    assert_true(fabs(token - each) < 0.06);
    each +=
        us_of(c, CALIBRATION_API_MESSAGE) / 40 +
        (us_of(c, CALIBRATION_API_REQUEST) + 128 * us_of(c, CALIBRATION_API_REQUEST_TOKEN)) / 256;
    assert_true(fabs(tokens_per_s * each / 1e6 - 1) < 1e-3);
}

static void it_measures_and_writes(void **state)
{
    (void)state;
    static const char *const threads[] = {"client",       "api_server",   "coordinator",
                                          "engine_input", "engine_core",  "engine_output",
                                          "worker",       "worker_output"};
    static struct scenario_problems problems;
    struct scenario_environment environment = scenario_environment_system();
    struct calibration c;
    char path[PATH_BYTES];
    const char *const words[] = {"calibrate", "--quick", NULL};
    int status = harness("calibrate.log", words);
    char *said = read_file("calibrate.log");
    if (status != 0) {
        fail_msg("exit status %d: %s", status, said);
    }
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        double percent = explained_percent(said, threads[i]);
        if (!(percent > 50 && percent < 200)) {
            fail_msg("costs explain %g %% of the CPU time of %s", percent, threads[i]);
        }
    }
    path_of("calibration.ini", path);
    if (calibration_read(path, &environment, &c, &problems) != STATUS_OK) {
        fail_msg("%s", problems.text[0]);
    }
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        time_ps cost = calibration_cost_of(&c.costs, (enum calibration_term)i);
        assert_true(cost >= 0 && cost < PS_PER_S);
    }
    assert_sentence(said, &c);
    assert_true(c.costs.api_request.call > 0);
    assert_true(c.costs.api_output.call + c.costs.api_write.call > 0);
    assert_true(c.costs.engine_input.call > 0);
    assert_true(c.costs.wake > 0);
    assert_true(c.costs.wake_cpu > 0);
    /* A step of the emulated device reads 16 GB of weights at 3 TB/s, in ps; whoever comes late to
     * its end makes it longer. */
    assert_true(c.device.value[0] > 2e9 && c.device.value[0] < 2e10);
    assert_true(c.device.held_out_error < 1 && c.device.condition < 30);
    assert_true(c.machine.cpu_model[0] != '\0' && c.machine.cores_count > 0);
    free(said);
}

static void it_simulates_the_same_each_time(void **state)
{
    (void)state;
    write_file("s.ini", scenario_text);
    int status = simulate("one", "1", true); /* this machine's */
    char *said = read_file("sim.log");
    if (status != 0 && status != 3) {
        fail_msg("exit status %d: %s", status, said);
    }
    assert_int_equal(simulate("two", "2", false), status);
    assert_same("runs.csv");
    assert_same("stages.csv");
    assert_same("hops.csv");
    char *manifest = read_file("one/manifest.json");
    assert_non_null(strstr(manifest, "\"costs\": \"calibration.ini\""));
    assert_non_null(strstr(manifest, "\"costs_hash\""));
    free(manifest);
    free(said);
}

static void another_machine_is_told(void **state)
{
    (void)state;
    char *text = read_file("calibration.ini");
    char *cores = strstr(text, "\ncores = ");
    assert_non_null(cores);
    cores[strlen("\ncores = ")] = '9'; /* 9, or 90-odd */
    write_file("calibration.ini", text);
    int status = simulate("three", "1", false);
    char *said = read_file("sim.log");
    assert_true(status == 0 || status == 3);
    assert_non_null(strstr(said, "calibration.ini was measured on another machine:\ncores: '9"));
    free(said);
    assert_int_equal(simulate("four", "1", true), INVALID);
    said = read_file("sim.log");
    assert_non_null(strstr(said, "refused, because of --strict"));
    free(said);
    free(text);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/harness-calibrate-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_measures_and_writes),
        cmocka_unit_test(it_simulates_the_same_each_time),
        cmocka_unit_test(another_machine_is_told),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
