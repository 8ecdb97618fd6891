/*
 * resume_test.c - `harness run` killed with SIGKILL at times drawn from a seed, also while it
 * resumes, until a last call comes to its end: every run is there exactly once, and a row that
 * stood in a file after any of the kills stands there unchanged at the end. ^C once drains and
 * concludes, twice ends at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "harness/run/child.h"
#include "helper_system.h"

enum {
    RUNS = 4,
    KILLS = 6,
    KILL_LATEST_MS = 2500,
    KILL_EARLY_MS = 40, /* while it reads and writes what was there */
    FILE_BYTES = 1 << 20,
    FILES = 7,
    INTERRUPTED = 130,
};

/* runs.csv first: a run that stands there has all its rows in the others. */
static const char *const files[FILES] = {"runs.csv",    "stages.csv",   "launch.csv",
                                         "threads.csv", "timeline.csv", "requests.csv",
                                         "hops.csv"};

static const char scenario_text[] =
    "[scenario]\nname = resume\nschema = 1\nseed = 3\nrepeats = 2\ncooldown = 0s\n"
    "[server s]\ntopology = api_servers=1 dp=%{dp} tp=1\nwait = block\naccept = reuseport\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nmax_num_seqs = 8\nmax_model_len = 512\n"
    "[client]\nmax_cpu = 100%\nmax_lag = p99 60s\n"
    "[workload w]\nprompt = 24tok\noutput = uniform lo=8tok hi=40tok\n"
    "[load l]\nmode = open\nrate = 60/s\nwarmup = 50ms\nmeasure = 300ms\ndrain = 5s\nbatches = 2\n"
    "[sweep]\naxis.dp = 1,2\n";

static char root[64];      /* of this program's files */
static char scenario[128]; /* the file */
static char folder[128];   /* of results */

/* ---- the command ---- */

static const char same[] = "scenario.seed=3";

static pid_t start(const char *how, const char *set, const char *set_too)
{
    char program[512];
    child_program_folder(program, sizeof program - 16);
    (void)strcat(program, "/harness"); // NOLINT: room was left above
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        FILE *log = freopen("/dev/null", "w", stdout);
        log = log != NULL ? freopen("/dev/null", "w", stderr) : NULL;
        (void)execl(program, program, "run", scenario, how, folder, "--progress", "none", "--set",
                    set, "--set", set_too, (char *)NULL);
        _exit(log != NULL ? 127 : 126);
    }
    return pid;
}

static int wait_for(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool no_children(void *ctx)
{
    (void)ctx;
    int status = 0;
    pid_t pid = 1;
    while (pid > 0) {
        pid = waitpid(-1, &status, WNOHANG);
    }
    return pid < 0;
}

/* What a killed harness had started ends by itself, and becomes this program's to reap. */
static void assert_nothing_lives(void)
{
    if (!e2e_wait(no_children, NULL, GONE_MS)) {
        fail_msg("processes of a killed harness are alive after %d ms", GONE_MS);
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_all(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- what stands in the files ---- */

/* The whole lines of a file that are rows of `run_id`, one after the other. */
static void read_rows(const char *name, const char *run_id, char *out)
{
    static char text[FILE_BYTES];
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    size_t bytes = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    size_t used = 0;
    if (file != NULL) {
        (void)fclose(file);
    }
    text[bytes] = '\0';
    char *end = NULL;
    for (char *line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        /* runs.csv begins with its schema. */
        const char *id = strncmp(line, "1,", 2) == 0 ? line + 2 : line;
        if (strncmp(id, run_id, strlen(run_id)) == 0 && id[strlen(run_id)] == ',') {
            memcpy(out + used, line, (size_t)(end + 1 - line));
            used += (size_t)(end + 1 - line);
        }
    }
    out[used] = '\0';
}

/* The rows of each run in each file once it was seen in runs.csv; NULL: not seen yet. */
static char *seen[RUNS][FILES];

static void forget(void)
{
    for (size_t i = 0; i < (size_t)RUNS * FILES; i++) {
        free(seen[i / FILES][i % FILES]);
        seen[i / FILES][i % FILES] = NULL;
    }
}

/* Runs in runs.csv. Rows that were seen before must be the same; new ones are kept. */
static uint32_t look(void)
{
    static char rows[FILE_BYTES];
    uint32_t count = 0;
    for (uint32_t run = 0; run < RUNS; run++) {
        char id[16];
        (void)snprintf(id, sizeof id, "r%04u", run);
        read_rows(files[0], id, rows);
        count += rows[0] != '\0' ? 1 : 0;
        for (uint32_t i = 0; i < FILES && rows[0] != '\0'; i++) {
            read_rows(files[i], id, rows);
            if (seen[run][i] == NULL) {
                assert_true(rows[0] != '\0');
                seen[run][i] = strdup(rows);
                assert_non_null(seen[run][i]);
            } else if (strcmp(rows, seen[run][i]) != 0) {
                fail_msg("rows of %s in %s have changed\nwas %s\nis  %s", id, files[i],
                         seen[run][i], rows);
            }
        }
    }
    return count;
}

static uint32_t lines_of(const char *text)
{
    uint32_t lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n' ? 1 : 0;
    }
    return lines;
}

/* ---- tests ---- */

static void kill_and_resume(uint64_t seed)
{
    struct random random = random_stream(seed, "kill", 0);
    const char *how = "-o";
    for (uint32_t i = 0; i < KILLS; i++) {
        int64_t latest = i % 2 == 0 ? KILL_LATEST_MS : KILL_EARLY_MS;
        pid_t pid = start(how, same, same);
        e2e_sleep_ms(random_range(&random, 0, latest));
        (void)kill(pid, SIGKILL);
        int status = wait_for(pid);
        assert_true(status == 128 + SIGKILL || status == 0);
        assert_nothing_lives();
        (void)look();
        how = access(folder, F_OK) == 0 ? "--resume" : "-o";
    }
    assert_int_equal(wait_for(start(how, same, same)), 0);
    assert_int_equal(look(), RUNS);
    for (uint32_t run = 0; run < RUNS; run++) {
        assert_int_equal(lines_of(seen[run][0]), 1); /* runs.csv */
        assert_int_equal(lines_of(seen[run][6]), 1); /* hops.csv */
    }
    /* Nothing is missing any more: the same again, and another configuration is refused. */
    assert_int_equal(wait_for(start("--resume", same, same)), 0);
    assert_int_equal(look(), RUNS);
    assert_int_equal(wait_for(start("--resume", same, "load.rate=61/s")), 2);
    assert_int_equal(look(), RUNS);
    forget();
    remove_all(folder);
}

static void a_killed_session_is_completed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= (e2e_full() ? 8U : 1U); seed++) {
        kill_and_resume(seed);
    }
}

/* It has begun, and takes signals. */
static bool has_begun(void *ctx)
{
    char path[256];
    (void)ctx;
    (void)snprintf(path, sizeof path, "%s/system.log", folder);
    return access(path, F_OK) == 0;
}

/* The field of a run's row in runs.csv; none before it may hold a comma. */
static long field_of(const char *run_id, const char *column)
{
    static char rows[FILE_BYTES];
    static char header[FILE_BYTES];
    char path[256];
    (void)snprintf(path, sizeof path, "%s/runs.csv", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(header, sizeof header, file));
    (void)fclose(file);
    read_rows("runs.csv", run_id, rows);
    char *name = header;
    char *value = rows;
    while (strncmp(name, column, strlen(column)) != 0) {
        name = strchr(name, ',');
        value = strchr(value, ',');
        assert_non_null(name);
        assert_non_null(value);
        name++;
        value++;
    }
    return strtol(value, NULL, 10);
}

/* Some requests are always in flight: those are waited for. */
static void one_interrupt_drains_and_concludes(void **state)
{
    (void)state;
    pid_t pid = start("-o", "server.launch_extra=100us", "load.measure=60s");
    assert_true(e2e_wait(has_begun, NULL, HANG_MS));
    e2e_sleep_ms(2000);
    (void)kill(pid, SIGINT);
    assert_int_equal(wait_for(pid), INTERRUPTED);
    assert_nothing_lives();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/report.md", folder);
    assert_int_equal(access(path, R_OK), 0);
    static char rows[FILE_BYTES];
    read_rows("runs.csv", "r0000", rows);
    assert_non_null(strstr(rows, ",interrupted,"));
    assert_true(field_of("r0000", "requests_count") > 0);
    assert_int_equal(field_of("r0000", "ok_count"), field_of("r0000", "requests_count"));
    remove_all(folder);
}

/* No run is started once it is used up; each call has the budget anew. */
static void a_budget_is_kept_and_the_rest_is_listed(void **state)
{
    (void)state;
    static char rows[FILE_BYTES];
    const char *how = "-o";
    for (uint32_t made = 1; made <= RUNS; made++) {
        /* 3: inconclusive */
        assert_int_equal(wait_for(start(how, same, "scenario.budget=1ms")), made < RUNS ? 3 : 0);
        for (uint32_t run = 0; run < RUNS; run++) {
            char id[16];
            (void)snprintf(id, sizeof id, "r%04u", run);
            read_rows("runs.csv", id, rows);
            assert_int_equal(lines_of(rows), 1);
            assert_int_equal(strstr(rows, ",skipped,") != NULL, run >= made);
            read_rows("stages.csv", id, rows);
            assert_int_equal(rows[0] == '\0', run >= made);
        }
        how = "--resume";
    }
    remove_all(folder);
}

/* Launches are so slow that the drain would take all its 5 s. */
static void a_second_interrupt_ends_at_once(void **state)
{
    (void)state;
    char path[256];
    pid_t pid = start("-o", same, "server.launch_extra=20ms");
    assert_true(e2e_wait(has_begun, NULL, HANG_MS));
    e2e_sleep_ms(1500);
    (void)kill(pid, SIGINT);
    e2e_sleep_ms(300);
    (void)kill(pid, SIGINT);
    assert_int_equal(wait_for(pid), INTERRUPTED);
    assert_nothing_lives();
    (void)snprintf(path, sizeof path, "%s/report.md", folder);
    assert_int_not_equal(access(path, F_OK), 0);
    remove_all(folder);
}

int main(void)
{
    e2e_begin();
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
    (void)snprintf(root, sizeof root, "%s/resume", getenv("TMPDIR"));
    (void)mkdir(root, 0777);
    (void)snprintf(scenario, sizeof scenario, "%s/resume.ini", root);
    (void)snprintf(folder, sizeof folder, "%s/out", root);
    FILE *file = fopen(scenario, "w");
    if (file == NULL || fputs(scenario_text, file) < 0 || fclose(file) != 0) {
        return EXIT_FAILURE;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_interrupt_ends_at_once),
        cmocka_unit_test(one_interrupt_drains_and_concludes),
        cmocka_unit_test(a_budget_is_kept_and_the_rest_is_listed),
        /* Last: a call that comes to its end sweeps up after those that did not. */
        cmocka_unit_test(a_killed_session_is_completed),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    remove_all(root);
    return e2e_end(failures);
}
