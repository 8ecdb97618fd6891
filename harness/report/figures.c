/*
 * figures.c - starts gnuplot for each figure (figures.h). Reads no data: the scripts do. Only which
 * figures a session has is kept in its folder, for drawing them again.
 */
#include "harness/report/figures.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/report/elasticity.h"
#include "harness/report/plot_ceilings.h"
#include "harness/report/plot_rates.h"
#include "harness/report/plot_spectrum.h"
#include "harness/report/table.h"
#include "harness/report/text.h"

enum {
    PATH_BYTES = 640,
    SETUP_BYTES = 2048,
    LINE_BYTES = 128,
    GRID_ROWS = 18,
    GRID_COLUMNS = 60
};

#define LIST_NAME "plot_figures.tsv"

static const struct {
    uint32_t bit;
    const char *name;
    const char *suffix;
} formats[] = {
    {SCENARIO_PLOT_SVG, "svg", "svg"},
    {SCENARIO_PLOT_PNG, "png", "png"},
    {SCENARIO_PLOT_DUMB, "dumb", "txt"},
};

/* ---- what there is to draw ---- */

static bool has_launch(const struct summary *s)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].shown_count > 0 && s->points[i].launch.threads_count > 0) {
            return true;
        }
    }
    return false;
}

static bool has_curve(const struct summary *s)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->scaling && s->points[i].shown_count > 0) {
            return true;
        }
    }
    return false;
}

enum sight {
    SIGHT_LATENCY, /* of open loads; a closed loop's is made by its users */
    SIGHT_OFFERED,
    SIGHT_GOODPUT,
    SIGHT_STARVED,
    SIGHT_SHARES,
    SIGHT_PREDICTED
};

static bool is_known(const struct summary_point *p, enum sight what)
{
    switch (what) {
    case SIGHT_LATENCY:
        return !isnan(p->ttft_p50_ms) && !isnan(p->tpot_p50_ms);
    case SIGHT_OFFERED:
        return !isnan(p->offered_rps);
    case SIGHT_GOODPUT:
        return !isnan(p->goodput.rps);
    case SIGHT_STARVED:
        return !isnan(p->gpu_starved_frac);
    case SIGHT_SHARES:
        return p->cell->topology.engines_count * p->cell->topology.api_servers_count > 1;
    case SIGHT_PREDICTED:
        return p->forecast.known || p->simulated.known;
    }
    return false;
}

static bool has(const struct summary *s, enum sight what)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].shown_count > 0 && is_known(&s->points[i], what)) {
            return true;
        }
    }
    return false;
}

static bool has_lag(const struct data_source *d)
{
    for (uint32_t i = 0; i < d->results_count; i++) {
        if (!isnan(d->results[i].lag_max_ms)) {
            return true;
        }
    }
    return false;
}

enum needs {
    NEEDS_CURVE,
    NEEDS_RATES, /* a search for them */
    NEEDS_LATENCY,
    NEEDS_OFFERED,
    NEEDS_PERCENTILES,
    NEEDS_GOODPUT,
    NEEDS_CEILINGS,
    NEEDS_LAUNCHES,
    NEEDS_STARVED,
    NEEDS_TIMELINE,
    NEEDS_EVENTS,
    NEEDS_SPECTRUM,
    NEEDS_LAG,
    NEEDS_SHARES,
    NEEDS_ELASTICITY, /* stages that were slowed on purpose */
    NEEDS_PREDICTED
};

/* In the order in which they are shown. */
static const struct {
    const char *name;
    const char *caption;
    const char *reading;
    enum needs needs;
} known_figures[FIGURES_COUNT] = {
    {"01-capacity", "Throughput against the number of engine cores",
     "A curve that leaves the dashed line and goes flat has found its limit; the ring marks "
     "the "
     "last count that helps, hollow points are no evidence.",
     NEEDS_CURVE},
    {"02-efficiency", "Parallel efficiency",
     "At 100 % each further one adds as much as the first; the lower the curve, the more of "
     "them wait.",
     NEEDS_CURVE},
    {"03-limits", "Throughput and limiting stage of each cell",
     "Along a row the letter changes where another stage becomes the limit.", NEEDS_CURVE},
    {"04-latency", "Latency against throughput",
     "Latency stays low until the system is nearly full and then turns upwards: useful "
     "throughput ends before that turn.",
     NEEDS_LATENCY},
    {"04-rates", "Latency against throughput in the search for rates",
     "Latency stays low until the system is nearly full and then turns upwards at the knee; "
     "the rate within the limits is where a curve crosses its limit, before capacity.",
     NEEDS_RATES},
    {"05-offered", "Requests finished against requests offered",
     "On the dashed line all that is asked for is served; a point below it is overload.",
     NEEDS_OFFERED},
    {"05-rates", "Requests finished against requests offered in the search for rates",
     "On the dashed line all that is offered is served; the curves leave it at the stable "
     "rate. Hollow points are no evidence.",
     NEEDS_RATES},
    {"06-percentiles", "Percentiles of latency against requests offered",
     "Tails leave the median first: the rate at which a percentile crosses its limit is the "
     "greatest that the limit allows.",
     NEEDS_PERCENTILES},
    {"07-goodput", "Requests within the limits against requests offered",
     "The bold line leaves the dashed one where requests begin to miss a limit, which is "
     "before throughput (thin) ends.",
     NEEDS_GOODPUT},
    {"08-stages", "How busy each stage is",
     "The first stage to reach the dashed line limits; the distance of the others to it is "
     "what "
     "they have to spare.",
     NEEDS_CURVE},
    {"08-rates", "How busy each stage is at each rate",
     "The stage that reaches the dashed line as the rate nears capacity is the one to add to.",
     NEEDS_RATES},
    {"09-ceilings", "What each stage could carry",
     "Throughput (line) ends at the lowest ceiling; relieving that stage helps as far as the next "
     "one, and a line clearly below all of them is not explained by any.",
     NEEDS_CEILINGS},
    {"10-launch", "How the launching threads spend their time",
     "Preparing and launching is work that a GPU may have to wait for; waiting and idle is "
     "spare.",
     NEEDS_LAUNCHES},
    {"11-starved", "How long GPUs starve",
     "A bar is the time in which work was ready on the host while the GPU had none; above it "
     "stands how many launches a step takes.",
     NEEDS_STARVED},
    {"12-timeline", "One run, second by second",
     "In the window (white) the curves should be level: if they still rise or fall, the window "
     "began too early.",
     NEEDS_TIMELINE},
    {"13-spectrum", "Latency spectrum, from the schedule and from sending",
     "Where solid and dashed part, requests waited for a connection or for the client: the "
     "clock that starts at sending does not see it.",
     NEEDS_SPECTRUM},
    {"14-lag", "How late the load client sent",
     "The client is a fair observer while it sends within 1 ms of the schedule; above that, "
     "its "
     "own delay is in every latency.",
     NEEDS_LAG},
    {"15-pareto", "Speed for a user against yield of a GPU",
     "Up and to the right is better; of two points, one that is lower and further left is "
     "never "
     "worth choosing.",
     NEEDS_LATENCY},
    {"16-imbalance", "How evenly the work is spread",
     "1 is the fair share of the busiest engine core or API server; above the dashed line it "
     "carries over a quarter more than its part.",
     NEEDS_SHARES},
    {"19-elasticity", "What slowing a stage on purpose costs",
     "At 1 throughput loses as much as the stage does, so that stage limits; at 0 it waits; "
     "below each bar stands whether that agrees with what was observed.",
     NEEDS_ELASTICITY},
    {"20-predicted", "Throughput against what was predicted",
     "A point on the dashed line is as closed forms said before anything ran; below it "
     "something costs time that they do not know.",
     NEEDS_PREDICTED},
    {"21-processes", "The processes of one run from start to end",
     "A bar begins when the launcher starts the process and is dark until it is ready; ticks "
     "are what launcher and coordinator do, and between start and end the launcher has none.",
     NEEDS_EVENTS},
};

static bool is_wanted(const struct data_source *d, enum needs needs)
{
    const struct summary *s = d->summary;
    switch (needs) {
    case NEEDS_CURVE:
        return has_curve(s);
    case NEEDS_RATES:
        return plot_rates_any(d->knees);
    case NEEDS_LATENCY:
        return has(s, SIGHT_LATENCY);
    case NEEDS_OFFERED:
        return has(s, SIGHT_OFFERED);
    case NEEDS_PERCENTILES:
        return has(s, SIGHT_LATENCY) && has(s, SIGHT_OFFERED);
    case NEEDS_GOODPUT:
        return has(s, SIGHT_GOODPUT);
    case NEEDS_CEILINGS:
        return plot_ceilings_any(s);
    case NEEDS_LAUNCHES:
        return has_launch(s);
    case NEEDS_STARVED:
        return has(s, SIGHT_STARVED);
    case NEEDS_TIMELINE:
        return d->timeline != NULL;
    case NEEDS_EVENTS:
        return d->timeline != NULL && d->timeline->events_count > 0;
    case NEEDS_SPECTRUM:
        return plot_spectrum_any(d);
    case NEEDS_LAG:
        return has_lag(d);
    case NEEDS_SHARES:
        return has(s, SIGHT_SHARES);
    case NEEDS_ELASTICITY:
        return elasticity_any(d->elasticity);
    case NEEDS_PREDICTED:
        return has_curve(s) && has(s, SIGHT_PREDICTED);
    }
    return false;
}

static void list_figures(const struct data_source *d, struct figures *f)
{
    for (size_t i = 0; i < FIGURES_COUNT; i++) {
        f->list[i] = (struct figure){.name = known_figures[i].name,
                                     .caption = known_figures[i].caption,
                                     .reading = known_figures[i].reading,
                                     .wanted = is_wanted(d, known_figures[i].needs)};
    }
}

/* Which figures the session has, for figures_redraw(). */
static enum status write_list(const char *folder, const struct figures *f, struct error *error)
{
    struct table t;
    TRY(table_open(&t, folder, LIST_NAME, error));
    t.tabs = true;
    t.naming = true;
    table_text(&t, "figure", "");
    table_end_row(&t);
    t.naming = false;
    for (size_t i = 0; i < FIGURES_COUNT; i++) {
        if (f->list[i].wanted) {
            table_text(&t, "figure", f->list[i].name);
            table_end_row(&t);
        }
    }
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

/* Marks those that stand in the folder's list as wanted. */
static enum status read_list(const char *folder, struct figures *f, struct error *error)
{
    char path[PATH_BYTES];
    char line[LINE_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", folder, LIST_NAME);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return error_set(error, STATUS_NOT_FOUND,
                         "%s: %s: no folder of results, or its session did not come to its end",
                         path, strerror(errno));
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; i < FIGURES_COUNT; i++) {
            f->list[i].name = known_figures[i].name;
            f->list[i].wanted |= strcmp(line, known_figures[i].name) == 0;
        }
    }
    (void)fclose(file);
    return STATUS_OK;
}

/* ---- gnuplot ---- */

/* gnuplot's single-quoted strings know one escape: a quote is doubled. */
static bool quote(const char *text, char *out, size_t cap)
{
    size_t used = 0;
    for (const char *at = text; *at != '\0'; at++) {
        if (used + 3 > cap || *at == '\n') {
            return false;
        }
        out[used++] = *at;
        if (*at == '\'') {
            out[used++] = '\'';
        }
    }
    out[used] = '\0';
    return true;
}

/* Exit status of the child, or -1 with errno when it could not be started. */
static int spawn_gnuplot(const char *setup, const char *script, const char *log)
{
    char program[] = "gnuplot";
    char option[] = "-e";
    char setup_copy[SETUP_BYTES];
    char script_copy[PATH_BYTES];
    (void)snprintf(setup_copy, sizeof setup_copy, "%s", setup);
    (void)snprintf(script_copy, sizeof script_copy, "%s", script);
    char *arguments[] = {program, option, setup_copy, script_copy, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = 0;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return -1;
    }
    int flags = O_WRONLY | O_CREAT | O_APPEND;
    int failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    failed |= posix_spawn_file_actions_addopen(&actions, 1, log, flags, 0666);
    failed |= posix_spawn_file_actions_adddup2(&actions, 1, 2);
    failed = failed != 0 ? failed : posix_spawnp(&pid, program, &actions, NULL, arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) {
        errno = failed;
        return -1;
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool is_written(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && info.st_size > 0;
}

struct drawing {
    const char *folder;
    const char *plots_folder;
    struct figures *figures;
    bool missing; /* gnuplot cannot be started at all */
};

static void draw(struct drawing *d, struct figure *figure, size_t format)
{
    char folder[SETUP_BYTES / 2 - 64];
    char setup[SETUP_BYTES];
    char script[PATH_BYTES];
    char output[PATH_BYTES];
    char log[PATH_BYTES];
    struct text problem = {.out = d->figures->problem, .cap = sizeof d->figures->problem};
    (void)snprintf(script, sizeof script, "%s/%s.gp", d->plots_folder, figure->name);
    (void)snprintf(log, sizeof log, "%s/figures/gnuplot.log", d->folder);
    (void)snprintf(output, sizeof output, "%s/figures/%s.%s", d->folder, figure->name,
                   formats[format].suffix);
    if (!quote(d->folder, folder, sizeof folder)) {
        text_add(&problem, "the folder's name is too long");
        return;
    }
    (void)snprintf(setup, sizeof setup, "folder='%s'; format='%s'", folder, formats[format].name);
    (void)unlink(output);
    if (access(script, R_OK) != 0) {
        d->missing = true;
        text_add(&problem, "no script %s", script);
        return;
    }
    int status = spawn_gnuplot(setup, script, log);
    if (status == 0 && is_written(output)) {
        figure->formats |= formats[format].bit;
        d->figures->svg_count += formats[format].bit == SCENARIO_PLOT_SVG ? 1 : 0;
    } else if (status == -1 || status == 127) {
        d->missing = true;
        text_add(&problem, "gnuplot cannot be started: %s",
                 strerror(status == -1 ? errno : ENOENT));
    } else {
        (void)unlink(output);
        text_add(&problem, "gnuplot failed on %s (status %d): see figures/gnuplot.log",
                 figure->name, status);
    }
}

static void draw_own(const struct drawing *d, const struct summary *s)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/figures/01-capacity.txt", d->folder);
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        figures_write_text(s, file);
        (void)fclose(file);
    }
}

static void draw_wanted(struct drawing *d, uint32_t chosen)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/figures", d->folder);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof path, "%s/figures/gnuplot.log", d->folder);
    (void)unlink(path);
    for (size_t i = 0; i < FIGURES_COUNT; i++) {
        for (size_t f = 0; f < sizeof formats / sizeof formats[0] && !d->missing; f++) {
            if (d->figures->list[i].wanted && (chosen & formats[f].bit) != 0) {
                draw(d, &d->figures->list[i], f);
            }
        }
    }
    if (d->figures->problem[0] == '\0') {
        (void)unlink(path); /* only remarks about empty series */
    }
}

void figures_draw(const struct data_source *data, const char *plots_folder, struct figures *out)
{
    const struct summary *s = data->summary;
    struct error error;
    *out = (struct figures){.svg_count = 0};
    list_figures(data, out);
    if (write_list(data->folder, out, &error) != STATUS_OK) {
        (void)snprintf(out->problem, sizeof out->problem, "%.250s", error.text);
    }
    struct drawing d = {.folder = data->folder, .plots_folder = plots_folder, .figures = out};
    draw_wanted(&d, s->scenario->plot_formats);
    out->text_only = d.missing && has_curve(s);
    if (out->text_only) {
        draw_own(&d, s);
    }
}

enum status figures_redraw(const char *folder, const char *plots_folder, uint32_t chosen,
                           struct figures *out, struct error *error)
{
    struct drawing d = {.folder = folder, .plots_folder = plots_folder, .figures = out};
    *out = (struct figures){.svg_count = 0};
    TRY(read_list(folder, out, error));
    draw_wanted(&d, chosen);
    return STATUS_OK;
}

/* ---- without gnuplot ---- */

struct canvas {
    char cells[GRID_ROWS][GRID_COLUMNS + 1];
    double rate_max;
    uint32_t along_max;
};

static char curve_letter(uint32_t index)
{
    return (char)(index < 26 ? 'a' + (int)index : '#');
}

static void place(struct canvas *g, const struct summary_point *p, char letter)
{
    double x = (double)p->along / g->along_max * (GRID_COLUMNS - 1);
    double y = p->tok_per_s / g->rate_max * (GRID_ROWS - 1);
    char *cell = &g->cells[GRID_ROWS - 1 - (int)lround(y)][(int)lround(x)];
    if (*cell == ' ') {
        *cell = letter;
    } else {
        *cell = '*';
    }
}

void figures_write_text(const struct summary *s, FILE *out)
{
    struct canvas g = {.rate_max = 0};
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        g.rate_max = fmax(g.rate_max, p->tok_per_s);
        g.along_max = p->shown_count > 0 && p->along > g.along_max ? p->along : g.along_max;
    }
    if (!(g.rate_max > 0) || g.along_max == 0) {
        (void)fprintf(out, "Nothing to draw.\n");
        return;
    }
    for (size_t i = 0; i < GRID_ROWS; i++) {
        memset(g.cells[i], ' ', GRID_COLUMNS);
        g.cells[i][GRID_COLUMNS] = '\0';
    }
    for (uint32_t i = 0; i < s->points_count; i++) {
        int curve = summary_curve_of(s, &s->points[i]);
        if (s->points[i].shown_count > 0 && curve >= 0) {
            place(&g, &s->points[i], curve_letter((uint32_t)curve));
        }
    }
    (void)fprintf(out, "thousand tokens/s against %s\n\n", s->plural);
    for (size_t i = 0; i < GRID_ROWS; i++) {
        double rate = g.rate_max * (double)(GRID_ROWS - 1 - i) / (GRID_ROWS - 1);
        (void)fprintf(out, "%8.1f |%s\n", rate / 1e3, g.cells[i]);
    }
    (void)fprintf(out, "%8s +", "");
    for (int i = 0; i < GRID_COLUMNS; i++) {
        (void)fputc('-', out);
    }
    (void)fprintf(out, "\n%9s 0%*u %s\n\n", "", GRID_COLUMNS - 1, g.along_max, s->plural);
    for (uint32_t i = 0; i < s->curves_count; i++) {
        (void)fprintf(out, "  %c  %s: %s\n", curve_letter(i), s->curves[i].label,
                      s->curves[i].answer.text);
    }
    (void)fprintf(out, "  *  several at one place\n");
}
