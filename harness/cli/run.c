/*
 * run.c - `harness run FILE`: measures every cell of a scenario on a real serving system and writes
 * a result folder.
 *
 * Each run starts its own system and its own client and ends both; its rows are on disk before the
 * next run begins, and before them a record from which --resume writes them again. ^C once ends the
 * run in work, keeps what was measured and concludes from it; twice ends at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "harness/cli/cli.h"
#include "harness/load/ceiling.h"
#include "harness/report/attribution.h"
#include "harness/report/ceilings.h"
#include "harness/report/elasticity.h"
#include "harness/report/progress.h"
#include "harness/report/report.h"
#include "harness/run/child.h"
#include "harness/run/find.h"
#include "harness/run/intervene.h"
#include "harness/run/measure.h"
#include "harness/run/record.h"

enum {
    OPTION_OUTPUT = CLI_OPTION_OWN,
    OPTION_DRY_RUN,
    OPTION_RESUME,
    OPTION_PROGRESS,
    PATH_BYTES = 512,
};

#define COOL_DOWN_SLICE_NS ((int64_t)50000000)

static volatile sig_atomic_t signal_seen;

static void on_signal(int number)
{
    if (signal_seen != 0) {
        _exit(128 + number);
    }
    signal_seen = number;
}

static bool interrupted(void)
{
    return signal_seen != 0;
}

struct run_command {
    struct cli_scenario arguments;
    char folder[PATH_BYTES];
    bool dry_run;
    bool resume;
    enum progress_mode progress_mode;
    char command_line[1024];
};

/* A session of runs. */
struct session {
    const struct run_command *command;
    struct scenario *scenario;
    struct run_host host;
    struct report *report;
    struct progress *progress;
    struct run_result *results;
    uint32_t results_count;
    char folder[PATH_BYTES];
    bool *made; /* by run: an earlier session did */
    struct record_texts texts;
    uint32_t skipped_count;
    int log_fd;
    int status;
    int64_t started_ns;
    const struct scenario_run *run; /* the one in work */
    uint32_t run_index;
    struct knees knees;       /* a row for each cell whose rates were searched for */
    uint32_t find_runs_count; /* runs of all searches, or the number of a probe's next run */
    struct elasticity elasticity;
};

static const char help_text[] = CLI_SCENARIO_HELP
    "  -o DIR                        result folder (default: results/NAME-TIME)\n"
    "  --resume DIR                  make the runs that are missing in a result folder\n"
    "  --dry-run                     print the cells, their order and the expected time\n"
    "  --progress auto|none|line|table\n";

/* ---- arguments ---- */

static bool take_progress(struct run_command *c, const char *word)
{
    static const char *const words[] = {"auto", "none", "line", "table"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(word, words[i]) == 0) {
            c->progress_mode = (enum progress_mode)i;
            return true;
        }
    }
    return false;
}

static void join_arguments(struct run_command *c, int argc, char **argv)
{
    size_t used = (size_t)snprintf(c->command_line, sizeof c->command_line, "harness");
    for (int i = 0; i < argc && used < sizeof c->command_line; i++) {
        used +=
            (size_t)snprintf(c->command_line + used, sizeof c->command_line - used, " %s", argv[i]);
    }
}

/* EXIT_PASS: go on. */
static int parse(struct run_command *c, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        CLI_SCENARIO_OPTIONS,
        {"output", required_argument, NULL, 'o'},
        {"resume", required_argument, NULL, OPTION_RESUME},
        {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
        {"progress", required_argument, NULL, OPTION_PROGRESS},
        {NULL, 0, NULL, 0},
    };
    int option = 0;
    join_arguments(c, argc, argv);
    while ((option = cli_option(argc, argv, "ho:", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "run", help_text);
            *done = true;
            return EXIT_PASS;
        }
        if (option == 'o' || option == OPTION_RESUME) {
            if (c->folder[0] != '\0') {
                return cli_usage_error("run", "one folder: -o DIR or --resume DIR");
            }
            (void)snprintf(c->folder, sizeof c->folder, "%s", optarg);
            c->resume = option == OPTION_RESUME;
        } else if (option == OPTION_DRY_RUN) {
            c->dry_run = true;
        } else if (option == OPTION_PROGRESS) {
            if (!take_progress(c, optarg)) {
                return cli_usage_error("run", "--progress wants auto, none, line or table");
            }
        } else if (!cli_scenario_option(&c->arguments, option, optarg)) {
            return EXIT_USAGE;
        }
    }
    return cli_scenario_operand(&c->arguments, "run", argc, argv) ? EXIT_PASS : EXIT_USAGE;
}

/* ---- preparation ---- */

static void utc_now(struct tm *utc)
{
    time_t now = (time_t)(clock_wall_ns() / 1000000000);
    (void)gmtime_r(&now, utc);
}

static uint64_t hash_cells(const struct scenario *s)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < s->cells_count; i++) {
        hash = hash64(&s->cells[i].topology, sizeof s->cells[i].topology, hash);
        hash = hash64(&s->cells[i].load, sizeof s->cells[i].load, hash);
        hash = hash64(&s->cells[i].workload, sizeof s->cells[i].workload, hash);
    }
    return hash;
}

static void describe_host(struct session *s)
{
    struct error error;
    if (proc_host_read(&s->host.host, &error) != STATUS_OK) {
        s->host.host = (struct proc_host){.cores_count = 0};
    }
    s->host.client_ceiling_rps = STATS_UNKNOWN;
    s->host.client_ceiling_tok_per_s = STATS_UNKNOWN;
    (void)snprintf(s->host.git_rev, sizeof s->host.git_rev, "%s", HARNESS_REVISION);
    struct tm utc;
    utc_now(&utc);
    (void)strftime(s->host.started_utc, sizeof s->host.started_utc, "%Y-%m-%dT%H:%M:%SZ", &utc);
    (void)snprintf(s->host.command, sizeof s->host.command, "%s", s->command->command_line);
    (void)snprintf(s->host.config_hash, sizeof s->host.config_hash, "%016llx",
                   (unsigned long long)hash_cells(s->scenario));
}

static void choose_folder(const struct session *s, char out[PATH_BYTES])
{
    if (s->command->folder[0] != '\0') {
        (void)snprintf(out, PATH_BYTES, "%s", s->command->folder);
        return;
    }
    char stamp[32];
    struct tm utc;
    utc_now(&utc);
    (void)strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
    (void)mkdir("results", 0777);
    (void)snprintf(out, PATH_BYTES, "results/%s-%s", s->scenario->general.name, stamp);
}

/* Beside the source tree, beside an installed program, or where the environment says. */
static void find_plots(char out[PATH_BYTES])
{
    static const char *const places[] = {"../../../plots", "../share/harness/plots", "../plots"};
    char folder[PATH_BYTES - 64];
    const char *named = getenv("HARNESS_PLOTS"); // NOLINT(concurrency-mt-unsafe): one thread
    child_program_folder(folder, sizeof folder);
    if (named != NULL) {
        (void)snprintf(out, PATH_BYTES, "%s", named);
        return;
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        (void)snprintf(out, PATH_BYTES, "%s/%s", folder, places[i]);
        if (access(out, R_OK) == 0) {
            return;
        }
    }
    (void)snprintf(out, PATH_BYTES, "plots");
}

static int open_log(const char *folder)
{
    char path[PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/system.log", folder);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

/* Sockets of all systems and users of a scenario: the soft limit goes up to the hard one. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int status_of(const struct run_result *r)
{
    int failed = r->fail_count > 0 ? EXIT_REQUESTS : EXIT_PASS;
    switch (r->outcome) {
    case RUN_OK:
        return failed;
    case RUN_INVALID:
    case RUN_CLIENT_FAILED:
        return cli_worse(failed, EXIT_INVALID);
    case RUN_SERVER_FAILED:
        return EXIT_SERVER;
    case RUN_SKIPPED:
        return EXIT_INCONCLUSIVE;
    case RUN_INTERRUPTED:
        return signal_seen == SIGTERM ? EXIT_TERMINATED : EXIT_INTERRUPTED;
    }
    return EXIT_PASS;
}

/* What the client can do here, if the scenario asks for it: a point near it says more about the
 * client. */
static void measure_ceiling(struct session *s)
{
    struct error error;
    struct load_ceiling_options options = {.connections_count = 0};
    struct load_ceiling ceiling;
    if (s->scenario->cells_count == 0 ||
        s->scenario->cells[0].client.ceiling != SCENARIO_CEILING_MEASURE) {
        return;
    }
    if (load_ceiling_measure(&options, &ceiling, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness run: client ceiling not measured: %s\n", error.text);
        return;
    }
    s->host.client_ceiling_rps = ceiling.requests_per_s;
    s->host.client_ceiling_tok_per_s = ceiling.tokens_per_s;
}

/* Whether runs.csv has rows: then a folder without records is of another kind of session. */
static bool has_rows(const char *folder)
{
    char path[PATH_BYTES + 16];
    int lines = 0;
    (void)snprintf(path, sizeof path, "%s/runs.csv", folder);
    FILE *file = fopen(path, "re");
    for (int c = file != NULL ? fgetc(file) : EOF; c != EOF; c = fgetc(file)) {
        lines += c == '\n' ? 1 : 0;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return lines > 1;
}

/* Whether the folder's session can go on. One that died before its first record begins anew. */
static int check_resume(struct session *s, const char *folder, bool *resumes)
{
    struct error error;
    struct run_host now = s->host;
    enum status status = record_session(folder, s->scenario, &now, &s->host, stderr, &error);
    *resumes = status == STATUS_OK;
    if (status == STATUS_OK) {
        return EXIT_PASS;
    }
    if (status != STATUS_NOT_FOUND) {
        (void)fprintf(stderr, "harness run: --resume: %s\n", error.text);
        return EXIT_USAGE;
    }
    if (access(folder, F_OK) != 0 || has_rows(folder)) {
        (void)fprintf(stderr, "harness run: --resume: %s: %s\n", folder,
                      access(folder, F_OK) != 0 ? "no such folder"
                                                : "it has results, but no records of its runs");
        return EXIT_USAGE;
    }
    return EXIT_PASS;
}

/* What an earlier session finished goes into this one as it was. */
static enum status take_records(struct session *s, const char *folder, struct error *error)
{
    for (uint32_t i = 0; i < s->scenario->runs_count; i++) {
        struct run_result *r = &s->results[s->results_count];
        enum status status = record_read(folder, s->scenario, i, &s->texts, r, error);
        if (status == STATUS_OK && record_is_final(r)) {
            s->made[i] = true;
            s->results_count++;
            s->status = cli_worse(s->status, status_of(r));
            TRY(report_run(s->report, r, error));
        } else if (status == STATUS_OK) {
            result_free(r);
        } else if (status == STATUS_INVALID) {
            (void)fprintf(stderr, "%s: the run is made again\n", error->text);
        } else if (status != STATUS_NOT_FOUND) {
            return status;
        }
    }
    return report_resumed(s->report, error);
}

static int allocate(struct session *s)
{
    s->results = calloc(s->scenario->runs_count, sizeof *s->results);
    s->made = calloc(s->scenario->runs_count, sizeof *s->made);
    if (s->results == NULL || s->made == NULL) {
        (void)fprintf(stderr, "harness run: out of memory\n");
        return EXIT_RESULTS;
    }
    return EXIT_PASS;
}

static int open_session(struct session *s)
{
    char *folder = s->folder;
    struct error error;
    char plots[PATH_BYTES];
    bool resumes = false;
    choose_folder(s, folder);
    find_plots(plots);
    int answer = s->command->resume ? check_resume(s, folder, &resumes) : EXIT_PASS;
    if (answer != EXIT_PASS) {
        return answer;
    }
    if (!resumes) {
        measure_ceiling(s);
    }
    struct report_options options = {.folder = folder,
                                     .plots_folder = plots,
                                     .scenario = s->scenario,
                                     .host = &s->host,
                                     .resumes = resumes};
    enum status status = report_create(&options, &s->report, &error);
    answer = allocate(s);
    if (status == STATUS_OK && answer == EXIT_PASS) {
        status = resumes ? take_records(s, folder, &error)
                         : record_begin(folder, s->scenario, &s->host, &error);
    }
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "harness run: %s\n", error.text);
        return EXIT_RESULTS;
    }
    if (answer != EXIT_PASS) {
        return answer;
    }
    s->log_fd = open_log(folder);
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    return EXIT_PASS;
}

/* ---- runs ---- */

static void on_progress(void *ctx, const struct measure_progress *m)
{
    struct session *s = ctx;
    struct progress_state state = {
        .run_index = s->run_index,
        .cell = &s->scenario->cells[s->run->cell],
        .replicate = s->run->replicate,
        .phase = m->phase,
        .phase_s = m->phase_s,
        .phase_total_s = m->phase_total_s,
        .output_tok_per_s = m->output_tok_per_s,
        .sent_count = m->sent_count,
        .done_count = m->done_count,
        .inflight = m->inflight,
    };
    progress_update(s->progress, &state, clock_now_ns());
}

static bool over_budget(const struct session *s)
{
    int64_t budget = s->scenario->general.budget_ns;
    return budget > 0 && clock_now_ns() - s->started_ns > budget;
}

/* Said before the run, so that it can be wrong. */
static struct run_expectation expect_run(struct session *s)
{
    const struct scenario_cell *cell = &s->scenario->cells[s->run->cell];
    struct run_expectation e = attribution_expect(s->scenario, s->results, s->results_count, cell);
    char line[256];
    struct text t = text_into(line, sizeof line);
    if (e.known) {
        ceilings_tell_expected(cell, &e, &t);
        progress_note(s->progress, line);
    }
    return e;
}

static void run_one(struct session *s, uint32_t index)
{
    s->run = &s->scenario->runs[index];
    struct run_expectation expected = expect_run(s);
    s->run_index = index;
    struct measure_options options = {
        .scenario = s->scenario,
        .run = s->run,
        .order_index = index,
        .log_fd = s->log_fd,
        .host = &s->host,
        .progress = on_progress,
        .ctx = s,
        .interrupted = interrupted,
    };
    struct run_result *result = &s->results[s->results_count++];
    measure_run(&options, result);
    result->expected = expected;
    struct error error;
    /* The record first: a row that somebody has read can be written again. */
    if (record_write(s->folder, result, &error) != STATUS_OK ||
        report_run(s->report, result, &error) != STATUS_OK) {
        progress_note(s->progress, error.text);
        s->status = cli_worse(s->status, EXIT_RESULTS);
    }
    s->status = cli_worse(s->status, status_of(result));
    progress_run_done(s->progress, result, clock_now_ns());
}

/* The budget is used up: a row in runs.csv for each run that is not made. */
static void skip_from(struct session *s, uint32_t index)
{
    struct error error;
    for (uint32_t i = index; i < s->scenario->runs_count; i++) {
        struct run_result skipped;
        struct measure_options options = {
            .scenario = s->scenario, .run = &s->scenario->runs[i], .order_index = i};
        if (s->made[i]) {
            continue;
        }
        measure_skipped(&options, "the budget was used up", &skipped);
        s->skipped_count++;
        if (report_run(s->report, &skipped, &error) != STATUS_OK) {
            progress_note(s->progress, error.text);
            s->status = cli_worse(s->status, EXIT_RESULTS);
            return;
        }
    }
    progress_note(s->progress, "budget reached: the remaining runs are skipped");
    s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
}

static void cool_down(const struct session *s)
{
    int64_t end_ns = clock_now_ns() + s->scenario->general.cooldown_ns;
    for (int64_t now = clock_now_ns(); now < end_ns && !interrupted(); now = clock_now_ns()) {
        clock_sleep_until_ns(end_ns < now + COOL_DOWN_SLICE_NS ? end_ns : now + COOL_DOWN_SLICE_NS);
    }
}

/* ---- rates ---- */

/* One run of a search or of a probe: of `cell`, which is not one of the scenario's. */
static bool measure_cell(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                         struct run_result *out)
{
    struct session *s = ctx;
    struct error error;
    struct scenario view = *s->scenario;
    const struct scenario_run run = {.replicate = replicate,
                                     .seed = s->scenario->general.seed + replicate};
    view.cells = cell;
    struct measure_options options = {
        .scenario = &view,
        .run = &run,
        .order_index = s->find_runs_count++,
        .log_fd = s->log_fd,
        .host = &s->host,
        .progress = on_progress,
        .ctx = s,
        .interrupted = interrupted,
    };
    measure_run(&options, out);
    if (report_run(s->report, out, &error) != STATUS_OK) {
        progress_note(s->progress, error.text);
        s->status = cli_worse(s->status, EXIT_RESULTS);
    }
    if (out->outcome == RUN_SERVER_FAILED || out->outcome == RUN_INTERRUPTED) {
        progress_note(s->progress, out->reason);
        s->status = cli_worse(s->status, status_of(out));
    }
    cool_down(s);
    return s->status != EXIT_RESULTS && !interrupted() && !over_budget(s);
}

static void note_rate(void *ctx, const char *text)
{
    const struct session *s = ctx;
    progress_note(s->progress, text);
}

static int status_of_rates(const struct knees_row *row)
{
    int status = row->complete ? EXIT_PASS : EXIT_INCONCLUSIVE;
    const struct search_answer *const answers[] = {
        (row->what & SCENARIO_FIND_STABLE_RATE) != 0 ? &row->stable : NULL,
        (row->what & SCENARIO_FIND_SLO_RATE) != 0 ? &row->slo : NULL};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        if (answers[i] == NULL) {
            continue;
        }
        if (answers[i]->status == SEARCH_CLIENT_LIMITED) {
            status = cli_worse(status, EXIT_INVALID);
        } else if (answers[i]->status == SEARCH_BELOW_RANGE ||
                   answers[i]->status == SEARCH_ABOVE_RANGE) {
            status = cli_worse(status, EXIT_INCONCLUSIVE);
        }
    }
    return status;
}

static void find_one(struct session *s, uint32_t index)
{
    s->run = &s->scenario->runs[index];
    s->run_index = index;
    const struct find_options options = {
        .scenario = s->scenario,
        .cell = &s->scenario->cells[s->run->cell],
        .measure = measure_cell,
        .note = note_rate,
        .ctx = s,
    };
    struct run_result *result = &s->results[s->results_count++];
    struct knees_row *row = &s->knees.rows[s->knees.count++];
    find_cell(&options, row, result);
    s->status = cli_worse(s->status, status_of(result));
    s->status = cli_worse(s->status, status_of_rates(row));
    progress_run_done(s->progress, result, clock_now_ns());
}

static void find_all(struct session *s)
{
    s->knees.rows = calloc(s->scenario->runs_count, sizeof *s->knees.rows);
    ASSERT(s->knees.rows != NULL);
    s->started_ns = clock_now_ns();
    s->progress = progress_begin(stderr, s->command->progress_mode, s->scenario, STATS_UNKNOWN,
                                 s->started_ns);
    for (uint32_t i = 0; i < s->scenario->runs_count; i++) {
        find_one(s, i);
        if (s->results[i].outcome == RUN_SERVER_FAILED || s->status == EXIT_RESULTS ||
            interrupted()) {
            break;
        }
        if (over_budget(s)) {
            progress_note(s->progress, "budget reached: what was not measured is left out");
            s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
            break;
        }
    }
    progress_end(s->progress);
    report_knees(s->report, &s->knees);
}

static void print_knees(const struct session *s)
{
    struct grid g = knees_grid(&s->knees);
    if (grid_rows(&g) > 0) {
        grid_plain(&g, s->knees.count, stdout);
        (void)printf("\n");
    }
    grid_free(&g);
}

/* ---- elasticity ---- */

/* After all runs: what some stages of one cell would cost if they were slower. */
static void probe(struct session *s)
{
    char line[1024];
    const struct intervene_options options = {
        .scenario = s->scenario,
        .results = s->results,
        .results_count = s->results_count,
        .measure = measure_cell,
        .ctx = s,
    };
    if (scenario_probe_runs(s->scenario) == 0 || interrupted() || s->skipped_count > 0 ||
        s->status == EXIT_RESULTS || s->status == EXIT_SERVER || s->results_count == 0) {
        return;
    }
    struct text t = text_into(line, sizeof line);
    text_add(&t, "elasticity probe: %u runs", scenario_probe_runs(s->scenario));
    progress_note(s->progress, line);
    s->run = &s->scenario->runs[s->scenario->runs_count - 1];
    s->find_runs_count = s->scenario->runs_count;
    intervene_probe(&options, &s->elasticity);
    if (!s->elasticity.complete) {
        s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
    }
    report_elasticity(s->report, &s->elasticity);
}

static void print_elasticity(const struct session *s)
{
    struct grid g = elasticity_grid(&s->elasticity);
    if (grid_rows(&g) > 0) {
        grid_plain(&g, ELASTICITY_ROWS_MAX, stdout);
        (void)printf("\n");
    }
    grid_free(&g);
}

/* ---- the session ---- */

static void run_all(struct session *s)
{
    int64_t total_ns = scenario_total_ns(s->scenario);
    s->started_ns = clock_now_ns();
    s->progress =
        progress_begin(stderr, s->command->progress_mode, s->scenario,
                       total_ns >= 0 ? (double)total_ns / 1e9 : STATS_UNKNOWN, s->started_ns);
    progress_resume(s->progress, s->results_count);
    for (uint32_t i = 0; i < s->scenario->runs_count && !interrupted(); i++) {
        if (s->made[i]) {
            continue;
        }
        if (over_budget(s)) {
            skip_from(s, i);
            break;
        }
        run_one(s, i);
        if (s->results[s->results_count - 1].outcome == RUN_SERVER_FAILED ||
            s->status == EXIT_RESULTS) {
            break;
        }
        cool_down(s);
    }
    probe(s);
    progress_end(s->progress);
}

static void conclude(struct session *s, const char *folder)
{
    struct report_conclusion conclusion = {.verdict = ""};
    struct error error;
    if (report_conclude(s->report, s->results, s->results_count, interrupted(), &conclusion,
                        &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness run: %s\n", error.text);
        s->status = cli_worse(s->status, EXIT_RESULTS);
    }
    if (conclusion.undecided) {
        s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
    }
    (void)printf("%s\n", conclusion.verdict);
    if (conclusion.caveat[0] != '\0') {
        (void)printf("%s\n", conclusion.caveat);
    }
    (void)printf("\n");
    print_knees(s);
    print_elasticity(s);
    report_print_table(s->scenario, s->results, s->results_count, stdout);
    (void)printf("\nresults: %s (report.html, report.md, runs.csv, %u figures)\n", folder,
                 conclusion.figures_count);
    if (s->skipped_count > 0) {
        (void)printf("skipped: %u of %u runs, the budget was used up; --resume %s makes them\n",
                     s->skipped_count, s->scenario->runs_count, folder);
    }
    for (uint32_t i = 0; i < s->results_count; i++) {
        const struct run_result *r = &s->results[i];
        if (r->outcome != RUN_OK) {
            (void)fprintf(stderr, "%s %s: %s\n", r->run_id, r->cell->name, r->reason);
        }
    }
}

static void close_session(struct session *s)
{
    for (uint32_t i = 0; i < s->results_count; i++) {
        result_free(&s->results[i]);
    }
    free(s->results);
    knees_free(&s->knees);
    free(s->made);
    report_close(s->report);
    if (s->log_fd >= 0) {
        (void)close(s->log_fd);
    }
}

int cli_run(int argc, char **argv)
{
    struct run_command command = {.progress_mode = PROGRESS_AUTO};
    bool done = false;
    int status = parse(&command, argc, argv, &done);
    if (status != EXIT_PASS || done) {
        return status;
    }
    struct session session = {.command = &command, .status = EXIT_PASS, .log_fd = -1};
    session.scenario = cli_scenario_open(&command.arguments);
    if (session.scenario == NULL) {
        return EXIT_USAGE;
    }
    if (command.dry_run) {
        scenario_write_cells(session.scenario, stdout);
        if (session.scenario->find.what == 0) { /* a search decides its runs as it goes */
            scenario_write_runs(session.scenario, stdout);
        }
        scenario_close(session.scenario);
        return EXIT_PASS;
    }
    if (command.resume && session.scenario->find.what != 0) {
        scenario_close(session.scenario);
        return cli_usage_error("run", "--resume: a search for rates is made as a whole");
    }
    if (!cli_scenario_traces(session.scenario)) {
        scenario_close(session.scenario);
        return EXIT_USAGE;
    }
    describe_host(&session);
    status = open_session(&session);
    if (status == EXIT_PASS) {
        if (session.scenario->find.what != 0) {
            find_all(&session);
        } else {
            run_all(&session);
        }
        conclude(&session, session.folder);
        status = session.status;
    }
    close_session(&session);
    scenario_close(session.scenario);
    return status;
}
