/*
 * report.c - a result folder from its creation to its last line (report.h). Owns the folder's lock
 * and the open CSV files; driven by the commands that measure.
 */
#include "harness/report/report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/report/ceilings.h"
#include "harness/report/confirmed.h"
#include "harness/report/data.h"
#include "harness/report/elasticity.h"
#include "harness/report/figures.h"
#include "harness/report/forecast.h"
#include "harness/report/goodput.h"
#include "harness/report/html.h"
#include "harness/report/knees.h"
#include "harness/report/launching.h"
#include "harness/report/manifest.h"
#include "harness/report/markdown.h"
#include "harness/report/plan.h"
#include "harness/report/rows.h"
#include "harness/report/shares.h"
#include "harness/report/simulated.h"
#include "harness/report/summary.h"
#include "harness/report/text.h"
#include "harness/report/validation.h"
#include "harness/report/verdict.h"

enum {
    PATH_BYTES = 512
};

struct report {
    char folder[PATH_BYTES];
    char plots_folder[PATH_BYTES];
    const struct scenario *scenario;
    const struct run_host *host;
    struct rows rows;
    const struct knees *knees;           /* NULL: no rates were searched for */
    const struct elasticity *elasticity; /* NULL: no stage was slowed */
    const struct confirmed *confirmed;   /* NULL: no prediction was put to the test */
    struct validation *validation;       /* NULL: not concluded, or nothing was simulated beside */
    int lock_fd;
    bool again;    /* rows and manifest stay as they are */
    bool *skipped; /* by run */
};

/* ---- folder ---- */

static enum status make_folder(const char *path, struct error *error)
{
    char part[PATH_BYTES];
    for (const char *at = path;; at++) {
        if (*at != '\0' && (*at != '/' || at == path)) {
            continue;
        }
        (void)snprintf(part, sizeof part, "%.*s", (int)(at - path), path);
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            return error_set(error, STATUS_IO, "%s: cannot be made: %s", part, strerror(errno));
        }
        if (*at == '\0') {
            return STATUS_OK;
        }
    }
}

/* The lock goes away with the process, whatever happens to it. */
static enum status lock_folder(struct report *r, struct error *error)
{
    char path[PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/.lock", r->folder);
    r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->lock_fd < 0) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", r->folder, strerror(errno));
    }
    if (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return error_set(error, STATUS_IO,
                         errno == EWOULDBLOCK ? "%s: another run is writing its results here"
                                              : "%s: cannot be locked",
                         r->folder);
    }
    return STATUS_OK;
}

static bool is_empty(const char *folder)
{
    static const char *const ours[] = {".", "..", ".lock", "system.log"};
    DIR *directory = opendir(folder);
    const struct dirent *entry = NULL;
    bool empty = directory != NULL;
    while (empty && (entry = readdir(directory)) != NULL) { // NOLINT(concurrency-mt-unsafe)
        empty = false;
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
            empty = empty || strcmp(entry->d_name, ours[i]) == 0;
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return empty;
}

static enum status check_owner(const struct report *r, struct error *error)
{
    char earlier[SCENARIO_NAME_BYTES];
    if (is_empty(r->folder)) {
        return STATUS_OK;
    }
    manifest_scenario(r->folder, earlier);
    if (earlier[0] == '\0') {
        return error_set(error, STATUS_IO,
                         "%s: not empty and not a result folder: choose another with -o",
                         r->folder);
    }
    if (strcmp(earlier, r->scenario->general.name) != 0) {
        return error_set(error, STATUS_IO,
                         "%s: holds results of scenario %s: choose another with -o", r->folder,
                         earlier);
    }
    return STATUS_OK;
}

static void remove_file(const struct report *r, const char *name)
{
    char path[PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/%s", r->folder, name);
    (void)unlink(path);
}

/* What an earlier run left and this one may not write again. */
static void remove_stale(const struct report *r)
{
    static const char *const names[] = {
        "requests.csv",   "report.md",      "report.html",     "points.csv",  "scaling.csv",
        "ceilings.csv",   "knee.csv",       "probe.csv",       "confirm.csv", "validation.csv",
        "plot_rates.tsv", "plot_knees.tsv", "plot_figures.tsv"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        remove_file(r, names[i]);
    }
}

static enum status prepare(struct report *r, bool resumes, struct error *error)
{
    const struct manifest begun = {
        .folder = r->folder, .scenario = r->scenario, .host = r->host, .complete = false};
    if (!r->again) {
        TRY(make_folder(r->folder, error));
    }
    TRY(check_owner(r, error)); /* first: a folder that is not ours gets no lock file */
    TRY(lock_folder(r, error));
    r->skipped = calloc(r->scenario->runs_count, sizeof *r->skipped);
    if (r->skipped == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for a report");
    }
    if (r->again) {
        return STATUS_OK;
    }
    if (!resumes) {
        remove_stale(r);
    }
    TRY(manifest_write(&begun, error));
    TRY(rows_open(&r->rows, r->folder, r->scenario, r->host, error));
    return resumes ? STATUS_OK : rows_publish(&r->rows, error);
}

enum status report_create(const struct report_options *options, struct report **out,
                          struct error *error)
{
    if (strlen(options->folder) >= PATH_BYTES || strlen(options->plots_folder) >= PATH_BYTES) {
        return error_set(error, STATUS_IO, "%.100s...: the folder's name is too long",
                         options->folder);
    }
    struct report *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for a report");
    }
    (void)snprintf(r->folder, sizeof r->folder, "%s", options->folder);
    (void)snprintf(r->plots_folder, sizeof r->plots_folder, "%s", options->plots_folder);
    r->scenario = options->scenario;
    r->host = options->host;
    r->lock_fd = -1;
    r->again = options->again;
    enum status status = prepare(r, options->resumes, error);
    if (status != STATUS_OK) {
        report_close(r);
        return status;
    }
    *out = r;
    return STATUS_OK;
}

enum status report_resumed(struct report *r, struct error *error)
{
    return r->again ? STATUS_OK : rows_publish(&r->rows, error);
}

enum status report_run(struct report *r, const struct run_result *result, struct error *error)
{
    if (result->outcome == RUN_SKIPPED) {
        r->skipped[result->order_index] = true;
    }
    return r->again ? STATUS_OK : rows_write(&r->rows, result, error);
}

void report_knees(struct report *r, const struct knees *knees)
{
    r->knees = knees;
}

void report_elasticity(struct report *r, const struct elasticity *elasticity)
{
    r->elasticity = elasticity;
}

void report_confirmed(struct report *r, const struct confirmed *confirmed)
{
    r->confirmed = confirmed;
}

/* ---- conclusion ---- */

static void write_skipped(const struct report *r, FILE *out)
{
    bool any = false;
    for (uint32_t i = 0; i < r->scenario->runs_count; i++) {
        const struct scenario_run *run = &r->scenario->runs[i];
        if (r->skipped[i]) {
            (void)fprintf(out, "%s| r%04u | %s | %u |\n",
                          any ? ""
                              : "\n## Skipped\n\nThe budget was used up before these runs. "
                                "`harness run --resume` makes them.\n\n"
                                "| run | cell | replicate |\n|---|---|---|\n",
                          i, r->scenario->cells[run->cell].name, run->replicate);
            any = true;
        }
    }
}

static enum status write_markdown(const struct report *r, const struct markdown *m,
                                  struct error *error)
{
    char path[PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/report.md", r->folder);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    markdown_write(m, file);
    write_skipped(r, file);
    bool good = fflush(file) == 0 && ferror(file) == 0;
    int why = errno;
    good = fclose(file) == 0 && good;
    return good ? STATUS_OK
                : error_set(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(why));
}

static enum status write_all(struct report *r, const struct markdown *parts,
                             struct figures *figures, struct error *error)
{
    const struct data_source data = {
        .folder = r->folder,
        .summary = parts->summary,
        .host = r->host,
        .timeline = summary_timeline_run(parts->summary, parts->results, parts->results_count),
        .results = parts->results,
        .results_count = parts->results_count,
        .knees = r->knees,
        .elasticity = r->elasticity,
    };
    TRY(data_write(&data, error));
    if (r->knees != NULL) {
        TRY(knees_write(r->knees, r->folder, error));
    }
    if (r->elasticity != NULL) {
        TRY(elasticity_write(r->elasticity, r->folder, error));
    }
    if (r->confirmed != NULL) {
        TRY(confirmed_write(r->confirmed, r->folder, error));
    }
    if (r->validation != NULL) {
        TRY(validation_write(r->validation, r->folder, error));
    } else {
        remove_file(r, "validation.csv"); /* of more records than there are now */
    }
    figures_draw(&data, r->plots_folder, figures);
    TRY(write_markdown(r, parts, error));
    return html_write(parts, r->folder, error);
}

/* A reason may hold what a server said: a line of it could be taken for a heading. */
static void one_line(char *text)
{
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '\n' || *at == '\r') {
            *at = ' ';
        }
    }
}

/* What was done besides the runs of the scenario. */
static void tell_besides(const struct report *r, struct report_conclusion *c)
{
    if (r->knees != NULL) {
        bool is_virtual = r->scenario->general.mode == (uint32_t)SCENARIO_SIMULATE;
        struct text t = text_into(c->verdict, sizeof c->verdict);
        text_add(&t, "%s", is_virtual ? VERDICT_SIMULATED : "");
        knees_tell(r->knees, &t);
    }
    if (r->elasticity != NULL) {
        struct text t = {c->verdict, sizeof c->verdict, strlen(c->verdict)};
        text_add(&t, " ");
        elasticity_tell(r->elasticity, &t);
    }
    if (r->confirmed != NULL) {
        struct text t = {c->verdict, sizeof c->verdict, strlen(c->verdict)};
        text_add(&t, " ");
        confirmed_tell(r->confirmed, &t);
    }
    if (r->validation != NULL) {
        struct text t = text_into(c->validation, sizeof c->validation);
        validation_tell(r->validation, &t);
        c->validated = validation_judged(r->validation) > 0;
        c->deviates = validation_exceeding(r->validation) > 0;
        t = (struct text){c->verdict, sizeof c->verdict, strlen(c->verdict)};
        text_add(&t, " Simulated beside: %s", c->validation);
    }
}

enum status report_conclude(struct report *r, const struct run_result *results, uint32_t count,
                            bool interrupted, struct report_conclusion *conclusion,
                            struct error *error)
{
    struct report_conclusion c = {.figures_count = 0};
    struct figures figures;
    struct simulated_split split;
    simulated_split(results, count, &split);
    struct summary *s = summary_build(r->scenario, split.shown, split.shown_count);
    simulated_add(s, &split);
    validation_free(r->validation);
    r->validation = split.beside_count > 0 ? validation_of(s, &split) : NULL;
    const struct markdown parts = {.summary = s,
                                   .results = split.shown,
                                   .results_count = split.shown_count,
                                   .host = r->host,
                                   .knees = r->knees,
                                   .elasticity = r->elasticity,
                                   .confirmed = r->confirmed,
                                   .validation = r->validation,
                                   .conclusion = &c,
                                   .figures = &figures};
    verdict_write(s, interrupted, &c);
    tell_besides(r, &c);
    one_line(c.verdict);
    one_line(c.caveat);
    enum status status = write_all(r, &parts, &figures, error);
    if (status == STATUS_OK) {
        c.figures_count = figures.svg_count;
    }
    if (status == STATUS_OK && !r->again) {
        const struct manifest done = {.folder = r->folder,
                                      .scenario = r->scenario,
                                      .host = r->host,
                                      .results = results,
                                      .results_count = count,
                                      .complete = !interrupted && count == r->scenario->runs_count,
                                      .interrupted = interrupted,
                                      .conclusion = &c};
        status = manifest_write(&done, error);
    }
    if (status == STATUS_OK) {
        *conclusion = c;
    }
    summary_free(s);
    simulated_split_free(&split);
    return status;
}

void report_close(struct report *r)
{
    if (r == NULL) {
        return;
    }
    rows_close(&r->rows);
    if (r->lock_fd >= 0) {
        (void)close(r->lock_fd);
    }
    validation_free(r->validation);
    free(r->skipped);
    free(r);
}

/* ---- tables for a person ---- */

enum {
    LIMITS_ROWS_MAX = 20,
    FORECAST_ROWS_MAX = 24,
    CEILINGS_ROWS_MAX = 20,
    LAUNCHING_ROWS_MAX = 13, /* with title, header and legend one screen */
    LAUNCHING_THREADS_MAX = 8,
    ALARMS_MAX = 4
};

/* Of open loops: what a user waits for shows there first. */
static bool any_first_token(const struct summary *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->points_count; i++) {
        any = any || s->points[i].ttft_p99_ms > 0;
    }
    return any;
}

static void print_first_token(const struct summary_point *p, FILE *out)
{
    char ms[32];
    struct text t = text_into(ms, sizeof ms);
    text_number(&t, p->ttft_p99_ms > 0 ? p->ttft_p99_ms : STATS_UNKNOWN, 0);
    (void)fprintf(out, "  %11s", ms);
}

static void print_point(const struct summary_point *p, int width, bool first_token, FILE *out)
{
    char rate[32];
    char use[32];
    char gpu[32];
    double half = (p->tok_per_s_hi - p->tok_per_s_lo) / 2 / p->tok_per_s;
    struct text t = text_into(rate, sizeof rate);
    text_rate(&t, p->tok_per_s);
    if (!isnan(half)) {
        text_add(&t, " +-%.1f %%", half * 100);
    }
    t = text_into(use, sizeof use);
    text_percent(&t, p->verdict.first_frac);
    t = text_into(gpu, sizeof gpu);
    text_percent(&t, p->gpu_busy_frac);
    const char *limit = p->verdict.kind == STAGE_NAMED   ? p->verdict.first
                        : p->verdict.kind == STAGE_MIXED ? "mixed"
                                                         : "unexplained";
    (void)fprintf(out, "%-*s  %-17s  %-12s %6s  %6s", width, p->cell->name, rate,
                  p->stages_count > 0 ? limit : "-", use, gpu);
    t = text_into(rate, sizeof rate);
    text_number(&t, p->host_cores_used, 2);
    (void)fprintf(out, "  %6s", rate);
    if (first_token) {
        print_first_token(p, out);
    }
    (void)fprintf(out, "  %8llu  %6llu  %s%s%s\n", (unsigned long long)p->ok_count,
                  (unsigned long long)p->fail_count,
                  p->shown_count == 0 ? rows_outcome_name(p->worst) : "",
                  p->shown_count > 0 && p->valid_count < p->runs_count ? "some runs invalid" : "",
                  p->shown_count > 0 && !p->evidence ? "host limited" : "");
}

static void print_limits(const struct summary *s, FILE *out)
{
    struct grid g = goodput_grid(s);
    if (grid_rows(&g) > 0) {
        (void)fprintf(out, "\nLimits\n");
        grid_plain(&g, LIMITS_ROWS_MAX, out);
    }
    grid_free(&g);
}

static void print_forecast(const struct summary *s, FILE *out)
{
    struct grid g = forecast_grid(s, false);
    if (grid_rows(&g) > 0) {
        (void)fprintf(out, "\nPrediction and measurement\n");
        grid_plain(&g, FORECAST_ROWS_MAX, out);
    }
    grid_free(&g);
}

static void print_ceilings(const struct summary *s, FILE *out)
{
    struct grid g = ceilings_grid(s);
    if (grid_rows(&g) > 0) {
        (void)fprintf(out, "\nCeilings of the stages\n");
        grid_plain(&g, CEILINGS_ROWS_MAX, out);
    }
    grid_free(&g);
}

static void print_expected(const struct run_result *results, uint32_t count, FILE *out)
{
    char line[256];
    struct text t = text_into(line, sizeof line);
    ceilings_tell_errors(results, count, &t);
    if (line[0] != '\0') {
        (void)fprintf(out, "\n%s\n", line);
    }
}

static void print_launching(const struct summary *s, FILE *out)
{
    struct grid g = launching_grid(s, LAUNCHING_THREADS_MAX);
    if (grid_rows(&g) > LAUNCHING_ROWS_MAX) {
        grid_free(&g);
        g = launching_grid(s, 0);
    }
    if (grid_rows(&g) > 0) {
        (void)fprintf(out, "\nWho launches kernels\n");
        grid_plain(&g, LAUNCHING_ROWS_MAX, out);
        (void)fputs(launching_legend(), out);
    }
    grid_free(&g);
}

static void print_alarms(const struct summary *s, FILE *out)
{
    uint32_t told = 0;
    for (uint32_t i = 0; i < s->points_count && told < ALARMS_MAX; i++) {
        const struct run_result *r = s->points[i].run;
        char alarm[512];
        struct text t = text_into(alarm, sizeof alarm);
        if (r == NULL) {
            continue;
        }
        shares_alarm(r, &t);
        if (alarm[0] != '\0') {
            (void)fprintf(out, "%s%s: %s\n", told == 0 ? "\n" : "", r->cell->name, alarm);
            told++;
        }
    }
}

static void print_besides(struct grid g, const char *title, FILE *out)
{
    if (grid_rows(&g) > 0) {
        (void)fputs(title, out);
        grid_plain(&g, grid_rows(&g), out);
        (void)fputc('\n', out);
    }
    grid_free(&g);
}

void report_print_validation(const struct report *r, FILE *out)
{
    if (r->validation != NULL) {
        print_besides(validation_grid(r->validation), "", out);
        print_besides(validation_knees_grid(r->validation), "", out);
    }
}

void report_print_besides(const struct report *r, FILE *out)
{
    if (r->knees != NULL) {
        print_besides(knees_grid(r->knees), "", out);
    }
    if (r->elasticity != NULL) {
        print_besides(elasticity_grid(r->elasticity), "", out);
    }
    if (r->confirmed != NULL) {
        print_besides(confirmed_grid(r->confirmed), "Predictions put to the test\n", out);
    }
}

void report_print_table(const struct scenario *scenario, const struct run_result *results,
                        uint32_t count, FILE *out)
{
    struct simulated_split split;
    simulated_split(results, count, &split);
    struct summary *s = summary_build(scenario, split.shown, split.shown_count);
    simulated_add(s, &split);
    int width = 4;
    for (uint32_t i = 0; i < s->points_count; i++) {
        int bytes = (int)strlen(s->points[i].cell->name);
        width = bytes > width ? bytes : width;
    }
    bool first_token = any_first_token(s);
    (void)fprintf(out, "%-*s  %-17s  %-12s %6s  %6s  %6s%s  %8s  %6s\n", width, "cell", "tokens/s",
                  "limited by", "use", "GPU", "cores", first_token ? "  TTFT p99 ms" : "", "ok",
                  "failed");
    for (uint32_t i = 0; i < s->points_count; i++) {
        print_point(&s->points[i], width, first_token, out);
    }
    print_limits(s, out);
    print_forecast(s, out);
    print_ceilings(s, out);
    print_expected(split.shown, split.shown_count, out);
    print_launching(s, out);
    print_alarms(s, out);
    summary_free(s);
    simulated_split_free(&split);
}

void report_print_plan(const struct scenario *scenario, const struct run_result *results,
                       uint32_t count, const struct knees *knees, FILE *out)
{
    struct simulated_split split;
    simulated_split(results, count, &split);
    struct summary *s = summary_build(scenario, split.shown, split.shown_count);
    struct plan p = plan_of(s, knees);
    plan_print(&p, out);
    plan_free(&p);
    summary_free(s);
    simulated_split_free(&split);
}
