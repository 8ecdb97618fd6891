/*
 * launching.c - rows about launching threads (launching.h). Computes only ratios of what the
 * threads counted.
 */
#include "harness/report/launching.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/rows.h"
#include "harness/report/summary.h"

enum {
    COLUMNS = 14,
    CELL_BYTES = 22, /* of its name, where a line is one cell's */
    NUMBERS = COLUMNS - 1
};

/* The columns behind the thread's name. */
struct line {
    double kernels_per_s;
    double graphs_per_s;
    double launches_per_step;
    double prepare_frac;
    double launch_frac;
    double queue_full_frac;
    double wait_frac;
    double idle_frac;
    double gpu_busy_frac;
    double gpu_late_frac;
    double gpu_absent_frac;
    double ratio;
    double spare_us;
};

static double launches_per_s(const struct probe_rates *t)
{
    return t->launches_per_s[LAUNCH_CLASS_KERNEL] + t->launches_per_s[LAUNCH_CLASS_GRAPH] +
           t->launches_per_s[LAUNCH_CLASS_COPY];
}

struct launching_margin launching_margin_of(const struct probe_rates *thread,
                                            const struct topology *topology)
{
    struct launching_margin m = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    double launches = launches_per_s(thread);
    if (!(launches > 0)) {
        return m;
    }
    m.cost_us = thread->launch_frac * 1e6 / launches;
    if (topology->gpu_sharing != (uint32_t)GPU_OWN) {
        return m;
    }
    /* Without asynchronous scheduling the GPU waits while its step is prepared. */
    double beside_frac = topology->async_depth > 1 ? thread->prepare_frac : 0;
    m.critical_us = (thread->gpu_busy_frac - beside_frac) * 1e6 / launches;
    m.ratio = m.critical_us > 0 ? m.cost_us / m.critical_us : (double)INFINITY;
    m.spare_us = m.critical_us - m.cost_us;
    return m;
}

double launching_rate(const struct run_result *r)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        sum += r->launchers[i].launches_per_s[LAUNCH_CLASS_KERNEL] +
               r->launchers[i].launches_per_s[LAUNCH_CLASS_GRAPH];
    }
    return r->launchers_count > 0 ? sum : STATS_UNKNOWN;
}

static struct line line_of(const struct run_result *r, const struct probe_rates *t)
{
    struct launching_margin m = launching_margin_of(t, &r->cell->topology);
    bool elsewhere = !isnan(t->output_wait_frac);
    return (struct line){
        .kernels_per_s = t->launches_per_s[LAUNCH_CLASS_KERNEL],
        .graphs_per_s = t->launches_per_s[LAUNCH_CLASS_GRAPH],
        .launches_per_step = rows_launches_per_step(r, t),
        .prepare_frac = t->prepare_frac,
        .launch_frac = t->launch_frac,
        .queue_full_frac = t->queue_full_frac,
        .wait_frac = elsewhere ? t->output_wait_frac : t->sync_wait_frac,
        .idle_frac = t->idle_frac,
        .gpu_busy_frac = t->gpu_busy_frac,
        .gpu_late_frac = t->gpu_idle_frac,
        .gpu_absent_frac = t->gpu_absent_frac,
        .ratio = m.ratio,
        .spare_us = m.spare_us,
    };
}

static void numbers_of(const struct line *l, double out[NUMBERS])
{
    const double all[NUMBERS] = {l->kernels_per_s, l->graphs_per_s,    l->launches_per_step,
                                 l->prepare_frac,  l->launch_frac,     l->queue_full_frac,
                                 l->wait_frac,     l->idle_frac,       l->gpu_busy_frac,
                                 l->gpu_late_frac, l->gpu_absent_frac, l->ratio,
                                 l->spare_us};
    for (int i = 0; i < NUMBERS; i++) {
        out[i] = all[i];
    }
}

static void add_numbers(struct grid *g, const double n[NUMBERS], bool elsewhere)
{
    grid_rate(g, n[0]);
    grid_rate(g, n[1]);
    grid_number(g, n[2], n[2] < 10 ? 1 : 0);
    for (int i = 3; i < 11; i++) {
        struct text t = grid_cell(g);
        text_number(&t, n[i] * 100, 0);
        text_add(&t, "%s", i == 6 && elsewhere ? "*" : "");
    }
    grid_number(g, n[11], 2);
    grid_number(g, n[12], 1);
}

/* What becomes of the column of several threads. */
enum fold {
    FOLD_LEAST,
    FOLD_MEAN,
    FOLD_GREATEST
};

static double folded(const double *values, uint32_t count, enum fold fold)
{
    double least = STATS_UNKNOWN;
    double greatest = STATS_UNKNOWN;
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        least = fmin(least, values[i]);
        greatest = fmax(greatest, values[i]);
        sum += values[i];
    }
    return fold == FOLD_LEAST ? least : fold == FOLD_MEAN ? sum / count : greatest;
}

static bool waits_elsewhere(const struct run_result *r)
{
    return !isnan(r->launchers[0].output_wait_frac);
}

static void add_folded(struct grid *g, const struct run_result *r, enum fold fold, const char *what)
{
    double numbers[NUMBERS];
    uint32_t count = r->launchers_count;
    double *column = calloc(count, sizeof *column);
    ASSERT(column != NULL);
    for (int k = 0; k < NUMBERS; k++) {
        for (uint32_t i = 0; i < count; i++) {
            struct line l = line_of(r, &r->launchers[i]);
            double n[NUMBERS];
            numbers_of(&l, n);
            column[i] = n[k];
        }
        numbers[k] = folded(column, count, fold);
    }
    free(column);
    grid_text(g, what);
    add_numbers(g, numbers, waits_elsewhere(r));
}

static void add_threads(struct grid *g, const struct run_result *r)
{
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        char name[32];
        double numbers[NUMBERS];
        struct line l = line_of(r, &r->launchers[i]);
        rows_launcher_name(&r->launchers[i], name);
        numbers_of(&l, numbers);
        struct text t = grid_cell(g);
        text_add(&t, " %s", name);
        add_numbers(g, numbers, waits_elsewhere(r));
    }
}

static void add_heading(struct grid *g, const struct run_result *r)
{
    struct text t = grid_cell(g);
    text_add(&t, "%s", r->cell->name);
    for (int i = 1; i < COLUMNS; i++) {
        grid_text(g, "");
    }
}

/* "launch=eager,tp=1,dp=2", or without the axes' names where that is long: "eager,1,2". */
static void tell_cell(struct text *t, const char *name)
{
    bool all = strlen(name) <= CELL_BYTES;
    const char *value = name;
    for (const char *c = name; *c != '\0' && !all; c++) {
        value = *c == '=' ? c + 1 : value;
        if (c[1] == ',' || c[1] == '\0') {
            text_add(t, "%.*s%s", (int)(c + 1 - value), value, c[1] == ',' ? "," : "");
        }
    }
    text_add(t, "%s", all ? name : "");
}

static void add_cell(struct grid *g, const struct run_result *r, uint32_t threads_max)
{
    if (threads_max == 0) {
        char what[GRID_CELL_BYTES];
        struct text t = text_into(what, sizeof what);
        text_add(&t, "%u x ", r->launchers_count);
        tell_cell(&t, r->cell->name);
        add_folded(g, r, FOLD_MEAN, what);
        return;
    }
    add_heading(g, r);
    if (r->launchers_count <= threads_max) {
        add_threads(g, r);
        return;
    }
    char what[32];
    struct text t = text_into(what, sizeof what);
    text_add(&t, " mean of %u", r->launchers_count);
    add_folded(g, r, FOLD_LEAST, " least");
    add_folded(g, r, FOLD_MEAN, what);
    add_folded(g, r, FOLD_GREATEST, " greatest");
}

struct grid launching_grid(const struct summary *s, uint32_t threads_max)
{
    static const char *const columns[COLUMNS] = {"<thread", "kern/s", "graph/s", "/step", "prep",
                                                 "lnch",    "full",   "wait",    "idle",  "GPU",
                                                 "late",    "abst",   "c/crit",  "+us"};
    struct grid g = grid_of(columns, COLUMNS);
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct run_result *r = s->points[i].run;
        if (r != NULL && r->launchers_count > 0) {
            add_cell(&g, r, threads_max);
        }
    }
    return g;
}

const char *launching_legend(void)
{
    return "prep, lnch, full, wait, idle: % of the thread's time preparing, launching, blocked on "
           "a full\n"
           "device queue, waiting for results (*: its worker's output thread does), idle. GPU, "
           "late, abst:\n"
           "% that the GPU computed for it, was idle because the host was late, or had no work; "
           "the rest is\n"
           "others' on a shared GPU. c/crit: cost of a launch / that at which launching takes as "
           "long as the\n"
           "GPU computes; +us: what each launch may cost more until then.\n";
}
