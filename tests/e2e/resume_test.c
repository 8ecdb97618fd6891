/*
 * resume_test.c - `harness run` killed with SIGKILL at times drawn from a seed, also while it
 * resumes, until a last call comes to its end: every run is there exactly once, a row that stood in
 * a file after any of the kills stands there unchanged at the end, every CSV file can be read after
 * each kill, and in the end the rows are those of a session that nobody killed. A search for rates
 * goes on in the same way. A report that is written again from the records is the session's. ^C
 * once drains and concludes, twice ends at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
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
    RUNS_MAX = 64, /* of a search */
    KILLS = 6,
    SEARCH_KILLS = 3,
    COLUMNS_MAX = 256,
    KILL_LATEST_MS = 2500,
    KILL_EARLY_MS = 40, /* while it reads and writes what was there */
    FILE_BYTES = 1 << 22,
    FILES = 9,
    INTERRUPTED = 130,
};

/* runs.csv first: a run that stands there has all its rows in the others. */
static const char *const files[FILES] = {"runs.csv",    "stages.csv",   "launch.csv",
                                         "threads.csv", "timeline.csv", "requests.csv",
                                         "hops.csv",    "hist.csv",     "events.jsonl"};

static const char scenario_text[] =
    "[scenario]\nname = resume\nschema = 1\nseed = 3\nrepeats = 2\ncooldown = 0s\n"
    "[server s]\ntopology = api_servers=1 dp=%{dp} tp=1\nwait = block\naccept = reuseport\n"
    "device = emulated gpu=h100 model=qwen2.5-0.5b\nmax_num_seqs = 8\nmax_model_len = 512\n"
    "[client]\nmax_cpu = 100%\nmax_lag = p99 60s\n"
    "[workload w]\nprompt = 24tok\noutput = uniform lo=8tok hi=40tok\n"
    "[load l]\nmode = open\nrate = 60/s\nwarmup = 50ms\nmeasure = 300ms\ndrain = 5s\nbatches = 2\n"
    "[sweep]\naxis.dp = 1,2\n";

/* As short as a search can be; what it finds is not asked. */
static const char search_text[] =
    "[scenario]\nname = resume_search\nschema = 1\nseed = 3\nrepeats = 1\ncooldown = 0s\n"
    "[server s]\ntopology = api_servers=1 dp=1 tp=1\nwait = block\naccept = reuseport\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nmax_num_seqs = 16\nmax_model_len = 512\n"
    "[client]\nmax_cpu = 100%\nmax_lag = p99 60s\n"
    "[workload w]\nprompt = 24tok\noutput = 4tok\n"
    "[load l]\nmode = open\narrival = constant\nwarmup = 100ms\nmeasure = 200ms\ndrain = 300ms\n"
    "inflight_max = 512\n"
    "[find]\nwhat = capacity, stable_rate\nstart = 60%\ntolerance = 45%\npoints_max = 3\n";

static char root[64];          /* of this program's files */
static char scenario[128];     /* the file */
static char sweep_file[128];   /* with scenario_text */
static char search_file[128];  /* with search_text */
static char folder[128];       /* of results */
static char out_folder[128];   /* of a session that is killed */
static char whole_folder[128]; /* of one that is not */

/* ---- the command ---- */

static const char same[] = "scenario.seed=3";
static const char no_change[] = "plots.format=svg";

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

/* `harness report` of the folder. */
static pid_t start_report(const char *set)
{
    char program[512];
    child_program_folder(program, sizeof program - 16);
    (void)strcat(program, "/harness"); // NOLINT: room was left above
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        FILE *log = freopen("/dev/null", "w", stdout);
        log = log != NULL ? freopen("/dev/null", "w", stderr) : NULL;
        (void)execl(program, program, "report", folder, "--set", set, (char *)NULL);
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
    static const char json[] = "{\"run_id\":\"";
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
        id = strncmp(line, json, sizeof json - 1) == 0 ? line + sizeof json - 1 : id;
        if (strncmp(id, run_id, strlen(run_id)) == 0 && strchr(",\"", id[strlen(run_id)]) != NULL) {
            memcpy(out + used, line, (size_t)(end + 1 - line));
            used += (size_t)(end + 1 - line);
        }
    }
    out[used] = '\0';
}

/* The rows of each run in each file once it was seen in runs.csv; NULL: not seen yet. */
static char *seen[RUNS_MAX][FILES];

static void forget(void)
{
    for (size_t i = 0; i < (size_t)RUNS_MAX * FILES; i++) {
        free(seen[i / FILES][i % FILES]);
        seen[i / FILES][i % FILES] = NULL;
    }
}

/* Runs in runs.csv. Rows that were seen before must be the same; new ones are kept. */
static uint32_t look(void)
{
    static char rows[FILE_BYTES];
    uint32_t count = 0;
    for (uint32_t run = 0; run < RUNS_MAX; run++) {
        char id[16];
        (void)snprintf(id, sizeof id, "r%04u", run);
        read_rows(files[0], id, rows);
        bool made = rows[0] != '\0';
        count += made ? 1 : 0;
        for (uint32_t i = 0; i < FILES && made; i++) {
            read_rows(files[i], id, rows);
            if (seen[run][i] == NULL) {
                /* A closed loop, as that of a search, has no requests of its own. */
                assert_true(rows[0] != '\0' || strcmp(files[i], "requests.csv") == 0 ||
                            strcmp(files[i], "hops.csv") == 0);
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

/* A file of the folder; the caller frees it. */
static char *read_file(const char *name, size_t *bytes)
{
    char path[256];
    char *text = calloc(1, FILE_BYTES);
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(text);
    assert_non_null(file);
    *bytes = fread(text, 1, FILE_BYTES - 1, file);
    (void)fclose(file);
    return text;
}

static int unlink_file(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return unlink(path);
}

/* The fields of the row at `at`, unquoted in place. Returns what is behind the row; NULL: the file
 * ends before the row does. */
static char *split_row(char *at, char *fields[COLUMNS_MAX], uint32_t *count)
{
    bool quoted = false;
    char *to = at;
    *count = 0;
    fields[(*count)++] = at;
    for (; *at != '\0'; at++) {
        char c = *at;
        if (c == '"' && quoted && at[1] == '"') {
            *to++ = *at++;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == ',' || c == '\n')) {
            *to++ = '\0';
            if (c == '\n') {
                return at + 1;
            }
            assert_true(*count < COLUMNS_MAX);
            fields[(*count)++] = to;
        } else {
            *to++ = c;
        }
    }
    return NULL;
}

/* All rows are as long as the header; only the last may lack its end. */
static void check_csv(const char *name)
{
    char *fields[COLUMNS_MAX];
    uint32_t columns = 0;
    uint32_t count = 0;
    size_t bytes = 0;
    char *text = read_file(name, &bytes);
    assert_int_equal(strlen(text), bytes); /* no hole */
    char *at = split_row(text, fields, &columns);
    while (at != NULL && *at != '\0') {
        at = split_row(at, fields, &count);
        if (at != NULL && count != columns) {
            fail_msg("%s: a row of %u fields under a header of %u: %s,...", name, count, columns,
                     fields[0]);
        }
    }
    free(text);
}

static void check_files(void)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry = NULL;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        size_t bytes = strlen(entry->d_name);
        if (bytes > 4 && strcmp(entry->d_name + bytes - 4, ".csv") == 0) {
            check_csv(entry->d_name);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
}

static const char *const keys[][5] = {
    {"runs.csv", "run_id", "cell", "replicate", "seed"},
    {"stages.csv", "run_id", "stage", "instance", NULL},
    {"launch.csv", "run_id", "dp_rank", "thread", NULL},
    {"threads.csv", "run_id", "kind", NULL, NULL},
    {"requests.csv", "run_id", "number", "prompt_tokens_asked", "output_tokens_asked"},
    {"hops.csv", "run_id", NULL, NULL, NULL},
};

enum {
    KEYS = sizeof keys / sizeof keys[0]
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Threads come in the order in which they registered. */
static char *sort_lines(char *text)
{
    static char *lines[FILE_BYTES / 8];
    size_t count = 0;
    char *out = calloc(1, FILE_BYTES);
    assert_non_null(out);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(count < sizeof lines / sizeof lines[0]);
        lines[count++] = line;
    }
    qsort((void *)lines, count, sizeof lines[0], by_text);
    char *end = out;
    for (size_t i = 0; i < count; i++) {
        end = stpcpy(stpcpy(end, lines[i]), "\n");
    }
    free(text);
    return out;
}

/* What the rows of a file are about, one line each; the caller frees it. */
static char *read_keys(const char *const key[5])
{
    char *header[COLUMNS_MAX];
    char *fields[COLUMNS_MAX];
    uint32_t columns = 0;
    uint32_t count = 0;
    size_t bytes = 0;
    size_t used = 0;
    char *text = read_file(key[0], &bytes);
    char *out = calloc(1, FILE_BYTES);
    assert_non_null(out);
    char *at = split_row(text, header, &columns);
    while (at != NULL && *at != '\0') {
        at = split_row(at, fields, &count);
        assert_non_null(at);
        for (uint32_t i = 1; i < 5 && key[i] != NULL; i++) {
            uint32_t k = 0;
            while (k < columns && strcmp(header[k], key[i]) != 0) {
                k++;
            }
            assert_true(k < count);
            used += (size_t)snprintf(out + used, FILE_BYTES - used, "%s ", fields[k]);
            assert_true(used < FILE_BYTES);
        }
        out[used - 1] = '\n';
    }
    free(text);
    return sort_lines(out);
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

static void use(const char *file, const char *into)
{
    (void)snprintf(scenario, sizeof scenario, "%s", file);
    (void)snprintf(folder, sizeof folder, "%s", into);
}

/* What the rows of the folder are about is what those of a session are about that was not killed.
 */
static void compare_with_whole(void)
{
    char *mine[KEYS];
    for (size_t i = 0; i < KEYS; i++) {
        mine[i] = read_keys(keys[i]);
    }
    use(sweep_file, whole_folder);
    assert_int_equal(wait_for(start("-o", same, same)), 0);
    for (size_t i = 0; i < KEYS; i++) {
        char *whole = read_keys(keys[i]);
        if (strcmp(mine[i], whole) != 0) {
            fail_msg("%s: rows of\n%s\nin place of\n%s", keys[i][0], mine[i], whole);
        }
        assert_true(lines_of(whole) >= RUNS);
        free(whole);
        free(mine[i]);
    }
    remove_all(folder);
    use(sweep_file, out_folder);
}

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
        check_files();
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
    check_files();
    compare_with_whole();
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

/* ---- a report without a run ---- */

enum {
    KEPT = 5 /* of told[]: what a report does not touch */
};

static const char *const told[] = {"runs.csv",        "stages.csv", "requests.csv", "timeline.csv",
                                   "manifest.json",   "report.md",  "report.html",  "points.csv",
                                   "plot_points.csv", "probe.csv"};

enum {
    TOLD = sizeof told / sizeof told[0]
};

static bool has(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, R_OK) == 0;
}

/* What the session said is said again; the caller has the files of before. */
static void assert_told_again(char *before[TOLD])
{
    size_t bytes = 0;
    for (size_t i = 0; i < TOLD; i++) {
        if (before[i] == NULL) {
            assert_false(has(told[i]));
            continue;
        }
        char *now = read_file(told[i], &bytes);
        if (strcmp(now, before[i]) != 0) {
            fail_msg("%s is not what it was", told[i]);
        }
        free(now);
    }
}

/* Of the session that stands in the folder: its own report, then one with a demand. */
static void report_again(void)
{
    char *before[TOLD];
    size_t bytes = 0;
    for (size_t i = 0; i < TOLD; i++) {
        before[i] = has(told[i]) ? read_file(told[i], &bytes) : NULL;
        assert_true(i < KEPT || before[i] == NULL || unlink_file(told[i]) == 0);
    }
    assert_int_equal(wait_for(start_report(no_change)), 0);
    assert_told_again(before);
    assert_null(strstr(before[5], "120/s"));
    assert_int_equal(wait_for(start_report("report.demand=120/s peak")), 0);
    char *report = read_file("report.md", &bytes);
    assert_non_null(strstr(report, "120/s"));
    free(report);
    assert_int_equal(wait_for(start_report("load.rate=61/s")), 2);
    assert_int_equal(wait_for(start_report("report.price=much")), 2);
    assert_int_equal(wait_for(start_report(no_change)), 0);
    assert_told_again(before);
    for (size_t i = 0; i < TOLD; i++) {
        free(before[i]);
    }
}

/* Whole, with a probe, and with runs for which there was no time. */
static void a_report_is_written_again_from_records(void **state)
{
    (void)state;
    char path[64];
    assert_int_equal(wait_for(start("-o", "scenario.mode=simulate", "probe.elasticity=gpu by=10%")),
                     0);
    assert_true(has("probe.csv"));
    report_again();
    /* A run that has no record is missing, and the report says so. */
    (void)snprintf(path, sizeof path, "runs/r%04d.run", RUNS - 1);
    assert_int_equal(unlink_file(path), 0);
    assert_int_equal(unlink_file("probe.csv"), 0);
    assert_int_equal(wait_for(start_report(no_change)), 0);
    size_t bytes = 0;
    char *points = read_file("points.csv", &bytes);
    assert_int_equal(lines_of(points), 1 + RUNS / 2);
    free(points);
    assert_int_equal(unlink_file("runs/session"), 0);
    assert_int_equal(wait_for(start_report(no_change)), 2);
    remove_all(folder);
    assert_int_equal(wait_for(start_report(no_change)), 2);
    assert_int_equal(wait_for(start("-o", "scenario.mode=simulate", "scenario.budget=1us")), 3);
    report_again();
    remove_all(folder);
}

/* A call that is waited for until it has written the rows of a run, or has ended. */
struct call {
    pid_t pid;
    uint32_t run;
};

static bool has_row(void *ctx)
{
    const struct call *call = ctx;
    static char rows[FILE_BYTES];
    siginfo_t ended = {.si_pid = 0};
    char id[16];
    (void)snprintf(id, sizeof id, "r%04u", call->run);
    read_rows("runs.csv", id, rows);
    (void)waitid(P_PID, (id_t)call->pid, &ended, WEXITED | WNOHANG | WNOWAIT);
    return rows[0] != '\0' || ended.si_pid != 0;
}

/* The host may be too busy for a rate to be missed: then the status is not 0, the search whole all
 * the same. */
static bool is_search_status(int status)
{
    return status == 0 || status == 3 || status == 5;
}

/* Each call is killed when it has got further than the one before. */
static void a_killed_search_goes_on(void **state)
{
    (void)state;
    struct random random = random_stream(7, "kill", 0);
    const char *how = "-o";
    uint32_t runs = 0;
    size_t bytes = 0;
    use(search_file, out_folder);
    for (uint32_t i = 0; i < SEARCH_KILLS; i++) {
        struct call call = {.pid = start(how, same, same), .run = runs};
        assert_true(e2e_wait(has_row, &call, HANG_MS));
        e2e_sleep_ms(random_range(&random, 0, 400));
        (void)kill(call.pid, SIGKILL);
        int status = wait_for(call.pid);
        assert_true(status == 128 + SIGKILL || (i > 0 && is_search_status(status)));
        assert_nothing_lives();
        assert_true(look() > runs || status != 128 + SIGKILL);
        runs = look();
        check_files();
        how = "--resume";
    }
    assert_true(is_search_status(wait_for(start(how, same, same))));
    assert_true(look() >= runs);
    runs = look();
    char *knee = read_file("knee.csv", &bytes);
    assert_int_equal(lines_of(knee), 2);
    assert_null(strstr(knee, "incomplete"));
    /* Nothing is left to measure: the same results lead to the same answer. */
    assert_true(is_search_status(wait_for(start("--resume", same, same))));
    assert_int_equal(look(), runs);
    char *again = read_file("knee.csv", &bytes);
    assert_string_equal(again, knee);
    free(again);
    /* So they do without a system. */
    assert_int_equal(unlink_file("knee.csv"), 0);
    assert_int_equal(wait_for(start_report(no_change)), 0);
    assert_int_equal(look(), runs);
    again = read_file("knee.csv", &bytes);
    assert_string_equal(again, knee);
    free(again);
    free(knee);
    forget();
    remove_all(folder);
    use(sweep_file, out_folder);
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

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

int main(void)
{
    e2e_begin();
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
    (void)snprintf(root, sizeof root, "%s/resume", getenv("TMPDIR"));
    (void)mkdir(root, 0777);
    (void)snprintf(sweep_file, sizeof sweep_file, "%s/resume.ini", root);
    (void)snprintf(search_file, sizeof search_file, "%s/search.ini", root);
    (void)snprintf(out_folder, sizeof out_folder, "%s/out", root);
    (void)snprintf(whole_folder, sizeof whole_folder, "%s/whole", root);
    write_file(sweep_file, scenario_text);
    write_file(search_file, search_text);
    use(sweep_file, out_folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_interrupt_ends_at_once),
        cmocka_unit_test(one_interrupt_drains_and_concludes),
        cmocka_unit_test(a_budget_is_kept_and_the_rest_is_listed),
        cmocka_unit_test(a_report_is_written_again_from_records),
        /* Last: a call that comes to its end sweeps up after those that did not. */
        cmocka_unit_test(a_killed_session_is_completed),
        cmocka_unit_test(a_killed_search_goes_on),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    remove_all(root);
    return e2e_end(failures);
}
