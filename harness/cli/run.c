/*
 * run.c - `harness run FILE`: measures every cell of a scenario on a real serving system, or
 * simulates it (`harness sim FILE`), and writes a result folder.
 *
 * Each run starts its own system and its own client and ends both; its rows are on disk before the
 * next run begins, and before them a record from which --resume writes them again. ^C once ends the
 * run in work, keeps what was measured and concludes from it; twice ends at once.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/cli/cli.h"
#include "harness/cli/place.h"
#include "harness/cli/run_command.h"
#include "harness/report/attribution.h"
#include "harness/report/ceilings.h"
#include "harness/report/elasticity.h"
#include "harness/report/manifest.h"
#include "harness/report/past_runs.h"
#include "harness/report/progress.h"
#include "harness/report/report.h"
#include "harness/run/child.h"
#include "harness/run/confirm.h"
#include "harness/run/find.h"
#include "harness/run/intervene.h"
#include "harness/run/measure.h"
#include "harness/run/record.h"
#include "harness/run/simulate_pool.h"

enum {
    PATH_BYTES = PLACE_PATH_BYTES,
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
    struct simulate_pool *pool; /* simulates ahead; NULL: one run at a time */
    uint32_t *pool_runs;
    struct knees knees;       /* a row for each cell whose rates were searched for */
    uint32_t find_runs_count; /* runs of all searches, or the number of a probe's next run */
    bool replays;             /* a search that resumes: its runs so far come from the records */
    struct elasticity elasticity;
    struct confirmed confirmed;
    bool reports;         /* from records alone: no run is made */
    bool was_interrupted; /* the session that is reported again */
};

/* ---- preparation ---- */

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
        (void)fprintf(stderr, "harness %s: --resume: %s\n", s->command->name, error.text);
        return EXIT_USAGE;
    }
    if (access(folder, F_OK) != 0 || place_has_rows(folder)) {
        (void)fprintf(stderr, "harness %s: --resume: %s: %s\n", s->command->name, folder,
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
        (void)fprintf(stderr, "harness %s: out of memory\n", s->command->name);
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
    place_choose_folder(s->command->folder, s->scenario->general.name, folder);
    place_find_plots(plots);
    int answer = s->command->resume ? check_resume(s, folder, &resumes) : EXIT_PASS;
    if (answer != EXIT_PASS) {
        return answer;
    }
    if (!resumes) {
        run_command_measure_ceiling(s->command, s->scenario, &s->host);
    }
    struct report_options options = {.folder = folder,
                                     .plots_folder = plots,
                                     .scenario = s->scenario,
                                     .host = &s->host,
                                     .resumes = resumes};
    enum status status = report_create(&options, &s->report, &error);
    answer = allocate(s);
    if (status == STATUS_OK && answer == EXIT_PASS) {
        s->replays = resumes && s->scenario->find.what != 0;
        status = s->replays ? STATUS_OK
                 : resumes  ? take_records(s, folder, &error)
                            : record_begin(folder, s->scenario, &s->host, &error);
    }
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "harness %s: %s\n", s->command->name, error.text);
        return EXIT_RESULTS;
    }
    if (answer != EXIT_PASS) {
        return answer;
    }
    s->log_fd = place_open_log(folder);
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    place_raise_descriptor_limit();
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
        .client = m->client,
    };
    progress_update(s->progress, &state, clock_now_ns());
}

static bool over_budget(const struct session *s)
{
    int64_t budget = s->scenario->general.budget_ns;
    return budget > 0 && !s->reports && clock_now_ns() - s->started_ns > budget;
}

/* Results that are of the same kind as `simulated`: those of the other kind stand before them. */
static const struct run_result *results_of(const struct session *s, bool simulated, uint32_t *count)
{
    uint32_t first = 0;
    while (first < s->results_count && s->results[first].simulated != simulated) {
        first++;
    }
    *count = s->results_count - first;
    return s->results + first;
}

/* Said before the run, so that it can be wrong. */
static struct run_expectation expect_run(struct session *s)
{
    uint32_t count = 0;
    const struct scenario_cell *cell = &s->scenario->cells[s->run->cell];
    const struct run_result *results = results_of(s, s->run->simulated, &count);
    struct run_expectation e = attribution_expect(s->scenario, results, count, cell);
    char line[256];
    struct text t = text_into(line, sizeof line);
    if (e.known) {
        ceilings_tell_expected(cell, &e, &t);
        progress_note(s->progress, line);
    }
    return e;
}

static void make_run(struct session *s, const struct measure_options *o, struct run_result *out)
{
    if (!o->run->simulated) {
        measure_run(o, out);
    } else if (s->pool != NULL) {
        simulate_pool_take(s->pool, out);
    } else {
        simulate_run(o, out);
    }
    if (out->unrecorded[0] != '\0') {
        progress_note(s->progress, out->unrecorded);
        s->status = cli_worse(s->status, EXIT_RESULTS);
    }
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
        .folder = s->folder,
        .host = &s->host,
        .progress = on_progress,
        .ctx = s,
        .interrupted = interrupted,
    };
    struct run_result *result = &s->results[s->results_count++];
    make_run(s, &options, result);
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

static void cool_down(const struct session *s, bool simulated)
{
    int64_t end_ns = clock_now_ns() + (simulated ? 0 : s->scenario->general.cooldown_ns);
    for (int64_t now = clock_now_ns(); now < end_ns && !interrupted(); now = clock_now_ns()) {
        clock_sleep_until_ns(end_ns < now + COOL_DOWN_SLICE_NS ? end_ns : now + COOL_DOWN_SLICE_NS);
    }
}

/* ---- rates ---- */

static void keep_status(struct session *s, enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        progress_note(s->progress, error->text);
        s->status = cli_worse(s->status, EXIT_RESULTS);
    }
}

/* Rows of an earlier session are all written again: those to come stand behind them. */
static void end_replay(struct session *s)
{
    struct error error;
    char line[128];
    struct text t = text_into(line, sizeof line);
    if (s->replays) {
        s->replays = false;
        text_add(&t, "resumed behind %u runs", s->find_runs_count);
        progress_note(s->progress, line);
        keep_status(s, report_resumed(s->report, &error), &error);
    }
}

/* What a search asks next follows from the results before: as long as these are the recorded ones,
 * so is the next. */
static bool take_run(struct session *s, const struct record_wanted *wanted, struct run_result *out)
{
    struct error error;
    if (!s->replays) {
        return false;
    }
    enum status status = record_read_wanted(s->folder, wanted, &s->texts, out, &error);
    if (status == STATUS_OK && (s->reports || record_is_final(out))) {
        keep_status(s, report_run(s->report, out, &error), &error);
        s->find_runs_count++;
        return true;
    }
    if (status == STATUS_OK) {
        result_free(out);
    } else if (status != STATUS_NOT_FOUND) {
        (void)fprintf(stderr, "%s: %s\n", error.text,
                      s->reports ? "left out, with what followed" : "the search goes on from here");
    }
    end_replay(s);
    return false;
}

/* What searches and probes run: real systems, if the scenario measures any. */
static bool is_virtual(const struct session *s)
{
    return s->scenario->general.mode == (uint32_t)SCENARIO_SIMULATE;
}

/* The simulated host's. */
static double virtual_cores(const struct session *s)
{
    uint32_t cores = s->scenario->cells[0].simulation.cores_count;
    return cores > 0 ? cores : (double)INFINITY;
}

/* One run of a search or of a probe: of `cell`, which is not one of the scenario's. */
static bool measure_cell(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                         struct run_result *out)
{
    struct session *s = ctx;
    struct error error;
    struct scenario view = *s->scenario;
    const struct scenario_run run = {.replicate = replicate,
                                     .seed = s->scenario->general.seed + replicate,
                                     .simulated = is_virtual(s)};
    const struct record_wanted wanted = {cell, &run, s->find_runs_count};
    if (take_run(s, &wanted, out)) {
        return s->status != EXIT_RESULTS && !interrupted();
    }
    view.cells = cell;
    struct measure_options options = {
        .scenario = &view,
        .run = &run,
        .order_index = s->find_runs_count,
        .log_fd = s->log_fd,
        .folder = s->folder,
        .host = &s->host,
        .progress = on_progress,
        .ctx = s,
        .interrupted = interrupted,
    };
    if (s->reports) { /* the session came no further */
        measure_begin(&options, out);
        out->outcome = RUN_INTERRUPTED;
        (void)snprintf(out->reason, sizeof out->reason, "it was not made");
        return false;
    }
    s->find_runs_count++;
    make_run(s, &options, out);
    keep_status(s, record_write(s->folder, out, &error), &error);
    keep_status(s, report_run(s->report, out, &error), &error);
    if (out->outcome == RUN_SERVER_FAILED || out->outcome == RUN_INTERRUPTED) {
        progress_note(s->progress, out->reason);
        s->status = cli_worse(s->status, status_of(out));
    }
    cool_down(s, run.simulated);
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
        uint32_t before = s->find_runs_count;
        find_one(s, i);
        if (s->reports && s->find_runs_count == before) { /* this cell was not begun */
            free(s->knees.rows[--s->knees.count].points);
            result_free(&s->results[--s->results_count]);
        }
        if ((s->reports && !s->replays) || s->results[i].outcome == RUN_SERVER_FAILED ||
            s->status == EXIT_RESULTS || interrupted()) {
            break;
        }
        if (over_budget(s)) {
            progress_note(s->progress, "budget reached: what was not measured is left out");
            s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
            break;
        }
    }
    end_replay(s);
    progress_end(s->progress);
    report_knees(s->report, &s->knees);
}

/* ---- elasticity ---- */

/* Runs that are none of the scenario's come behind all of those. */
static bool all_was_run(const struct session *s)
{
    return !interrupted() && s->skipped_count == 0 && s->status != EXIT_RESULTS &&
           s->status != EXIT_SERVER && s->results_count > 0;
}

/* After all runs: what some stages of one cell would cost if they were slower. */
static void probe(struct session *s)
{
    char line[1024];
    uint32_t count = 0;
    const struct run_result *results = results_of(s, is_virtual(s), &count);
    const struct intervene_options options = {
        .scenario = s->scenario,
        .results = results,
        .results_count = count,
        .measure = measure_cell,
        .ctx = s,
    };
    if (scenario_probe_runs(s->scenario) == 0 || !all_was_run(s)) {
        return;
    }
    struct text t = text_into(line, sizeof line);
    text_add(&t, "elasticity probe: %u runs", scenario_probe_runs(s->scenario));
    progress_note(s->progress, line);
    intervene_probe(&options, &s->elasticity);
    if (!s->elasticity.complete) {
        s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
    }
    report_elasticity(s->report, &s->elasticity);
}

/* ---- predictions ---- */

/* After all runs: the configurations that they predict, as far as none of them is of these. */
static void confirm(struct session *s)
{
    uint32_t count = 0;
    const struct run_result *results = results_of(s, is_virtual(s), &count);
    const struct confirm_options options = {
        .scenario = s->scenario,
        .results = results,
        .results_count = count,
        .usable_cores = is_virtual(s) ? virtual_cores(s) : s->host.host.usable_cores,
        .measure = measure_cell,
        .ctx = s,
    };
    if ((!s->command->confirm && !s->reports) || !all_was_run(s)) {
        return;
    }
    progress_note(s->progress, "putting predictions to the test");
    confirm_predictions(&options, &s->confirmed);
    if (!s->confirmed.complete) {
        s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
    }
    report_confirmed(s->report, &s->confirmed);
}

/* ---- the session ---- */

/* Threads for the simulated runs that are to be made. */
static void start_pool(struct session *s)
{
    struct error error;
    uint32_t count = 0;
    s->pool_runs = calloc(s->scenario->runs_count, sizeof *s->pool_runs);
    ASSERT(s->pool_runs != NULL);
    for (uint32_t i = 0; i < s->scenario->runs_count; i++) {
        if (s->scenario->runs[i].simulated && !s->made[i]) {
            s->pool_runs[count++] = i;
        }
    }
    const struct simulate_pool_options options = {.scenario = s->scenario,
                                                  .runs = s->pool_runs,
                                                  .runs_count = count,
                                                  .threads_count = s->command->jobs_count,
                                                  .interrupted = interrupted};
    if (count > 1 && simulate_pool_start(&options, &s->pool, &error) != STATUS_OK) {
        progress_note(s->progress, error.text);
    }
}

static void stop_pool(struct session *s)
{
    simulate_pool_stop(s->pool);
    free(s->pool_runs);
    s->pool = NULL;
    s->pool_runs = NULL;
}

static void run_all(struct session *s)
{
    int64_t total_ns = scenario_total_ns(s->scenario);
    s->started_ns = clock_now_ns();
    s->progress =
        progress_begin(stderr, s->command->progress_mode, s->scenario,
                       total_ns >= 0 ? (double)total_ns / 1e9 : STATS_UNKNOWN, s->started_ns);
    progress_resume(s->progress, s->results_count);
    if (s->command->jobs_count > 1) {
        start_pool(s);
    }
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
        cool_down(s, s->run->simulated);
    }
    stop_pool(s);
    s->run = &s->scenario->runs[s->scenario->runs_count - 1];
    s->find_runs_count = s->scenario->runs_count;
    probe(s);
    confirm(s);
    progress_end(s->progress);
}

/* What `harness validate` is asked: the rest is in the folder. */
static void print_validation(const struct session *s, const struct report_conclusion *conclusion,
                             const char *folder)
{
    bool compared = conclusion->validation[0] != '\0';
    if (compared) {
        (void)printf("%s\n\n", conclusion->validation);
    } else {
        bool any = s->results_count > 0;
        (void)printf("Nothing was simulated and measured: there are %s.\n\n",
                     !any                      ? "no runs"
                     : s->results[0].simulated ? "simulated runs only"
                                               : "measured runs only");
    }
    report_print_validation(s->report, stdout);
    (void)printf("results: %s (report.html, report.md%s)\n", folder,
                 compared ? ", validation.csv" : "");
}

static void print_tables(const struct session *s, const struct report_conclusion *conclusion,
                         const char *folder)
{
    (void)printf("%s\n", conclusion->verdict);
    if (conclusion->caveat[0] != '\0') {
        (void)printf("%s\n", conclusion->caveat);
    }
    (void)printf("\n");
    report_print_besides(s->report, stdout);
    report_print_table(s->scenario, s->results, s->results_count, stdout);
    report_print_plan(s->scenario, s->results, s->results_count, &s->knees, stdout);
    (void)printf("\nresults: %s (report.html, report.md, runs.csv, %u figures)\n", folder,
                 conclusion->figures_count);
    if (s->skipped_count > 0) {
        (void)printf("skipped: %u of %u runs, the budget was used up; --resume %s makes them\n",
                     s->skipped_count, s->scenario->runs_count, folder);
    }
}

static void conclude(struct session *s, const char *folder)
{
    struct report_conclusion conclusion = {.verdict = ""};
    struct error error;
    if (report_conclude(s->report, s->results, s->results_count,
                        interrupted() || s->was_interrupted, &conclusion, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness %s: %s\n", s->command->name, error.text);
        s->status = cli_worse(s->status, EXIT_RESULTS);
    }
    if (conclusion.slo_missed) {
        s->status = cli_worse(s->status, EXIT_MISSED);
    }
    if (s->command->validates && conclusion.deviates) {
        s->status = cli_worse(s->status, EXIT_MISSED);
    }
    if (conclusion.undecided || (s->command->validates && !conclusion.validated)) {
        s->status = cli_worse(s->status, EXIT_INCONCLUSIVE);
    }
    if (s->command->validates && s->command->format == ANSWER_TEXT) {
        print_validation(s, &conclusion, folder);
    } else if (s->command->format == ANSWER_TEXT) {
        print_tables(s, &conclusion, folder);
    } else {
        const struct answer answer = {.scenario = s->scenario,
                                      .results = s->results,
                                      .results_count = s->results_count,
                                      .knees = &s->knees,
                                      .conclusion = &conclusion,
                                      .folder = folder,
                                      .exit_status = s->status};
        answer_print(&answer, s->command->format, stdout);
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
    confirmed_free(&s->confirmed);
    free(s->made);
    report_close(s->report);
    if (s->log_fd >= 0) {
        (void)close(s->log_fd);
    }
}

/* ---- again, from records alone ---- */

/* runs.csv tells of runs that were not made for want of time: those have no record. */
static void take_skipped(struct session *s)
{
    static const char *const columns[] = {"run_id", "outcome"};
    struct error error;
    struct past_runs rows;
    enum status status = past_runs_read(&rows, s->folder, columns, 2, &error);
    for (uint32_t i = 0; status == STATUS_OK && i < rows.rows_count; i++) {
        uint32_t index = (uint32_t)strtoul(past_runs_field(&rows, i, 0) + 1, NULL, 10);
        struct run_result skipped = {.outcome = RUN_SKIPPED, .order_index = index};
        if (strcmp(past_runs_field(&rows, i, 1), "skipped") == 0 &&
            index < s->scenario->runs_count) {
            keep_status(s, report_run(s->report, &skipped, &error), &error);
            s->skipped_count++;
        }
    }
    past_runs_free(&rows);
}

/* The command asked for it, not the scenario. */
static bool has_confirmed(const struct session *s)
{
    char path[PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/confirm.csv", s->folder);
    return access(path, R_OK) == 0;
}

static void take_all(struct session *s)
{
    struct error error;
    for (uint32_t i = 0; i < s->scenario->runs_count; i++) {
        struct run_result *r = &s->results[s->results_count];
        enum status status = record_read(s->folder, s->scenario, i, &s->texts, r, &error);
        s->results_count += status == STATUS_OK ? 1 : 0;
        if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
            (void)fprintf(stderr, "%s: left out\n", error.text);
        }
    }
    take_skipped(s);
    s->run = &s->scenario->runs[s->scenario->runs_count - 1];
    s->find_runs_count = s->scenario->runs_count;
    if (s->results_count == s->scenario->runs_count) {
        probe(s);
        if (has_confirmed(s)) {
            confirm(s);
        }
    }
}

static int report_again(struct session *s)
{
    char plots[PATH_BYTES];
    struct error error;
    place_find_plots(plots);
    const struct report_options options = {.folder = s->folder,
                                           .plots_folder = plots,
                                           .scenario = s->scenario,
                                           .host = &s->host,
                                           .again = true};
    if (report_create(&options, &s->report, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness %s: %s\n", s->command->name, error.text);
        return EXIT_RESULTS;
    }
    if (allocate(s) != EXIT_PASS) {
        return EXIT_RESULTS;
    }
    if (s->scenario->find.what != 0) {
        find_all(s);
    } else {
        take_all(s);
    }
    s->status = EXIT_PASS; /* what the runs were is told by the session's own */
    conclude(s, s->folder);
    return s->command->validates || s->status == EXIT_RESULTS ? s->status : EXIT_PASS;
}

int run_command_report(const struct run_command *command, struct scenario *scenario,
                       const struct run_host *host)
{
    struct session session = {.command = command,
                              .scenario = scenario,
                              .host = *host,
                              .log_fd = -1,
                              .replays = true,
                              .reports = true,
                              .was_interrupted = manifest_interrupted(command->folder)};
    (void)snprintf(session.folder, sizeof session.folder, "%s", command->folder);
    int status = report_again(&session);
    close_session(&session);
    return status;
}

int cli_run(int argc, char **argv)
{
    return cli_run_as(argc, argv, NULL);
}

int cli_run_as(int argc, char **argv, const char *last_set)
{
    struct run_command command = {.name = argv[0],
                                  .validates = strcmp(argv[0], "validate") == 0,
                                  .progress_mode = PROGRESS_AUTO,
                                  .jobs_count = 1};
    bool done = false;
    int status = run_command_parse(&command, argc, argv, &done);
    if (status != EXIT_PASS || done) {
        return status;
    }
    if (last_set != NULL) {
        if (command.arguments.options.sets_count == CLI_SETS_MAX) {
            return cli_usage_error(command.name, "too many --set options");
        }
        (void)cli_scenario_option(&command.arguments, CLI_OPTION_SET, last_set);
    }
    struct session session = {.command = &command, .status = EXIT_PASS, .log_fd = -1};
    session.scenario = cli_scenario_open(&command.arguments);
    if (session.scenario == NULL) {
        return EXIT_USAGE;
    }
    if (command.showcmd) {
        cli_showcmd(&command.arguments, session.scenario, stdout);
        scenario_close(session.scenario);
        return EXIT_PASS;
    }
    if (command.dry_run) {
        scenario_write_cells(session.scenario, stdout);
        if (session.scenario->find.what == 0) { /* a search decides its runs as it goes */
            scenario_write_runs(session.scenario, stdout);
        }
        scenario_close(session.scenario);
        return EXIT_PASS;
    }
    if (command.confirm && session.scenario->find.what != 0) {
        scenario_close(session.scenario);
        return cli_usage_error(command.name,
                               "--confirm: a search for rates predicts no configuration");
    }
    if (!cli_scenario_traces(session.scenario)) {
        scenario_close(session.scenario);
        return EXIT_USAGE;
    }
    if (!cli_calibrations_fit(command.name, session.scenario, command.strict)) {
        scenario_close(session.scenario);
        return EXIT_INVALID;
    }
    place_describe(session.scenario, command.command_line, &session.host);
    session.host.compat_tools = command.compat_tools;
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
