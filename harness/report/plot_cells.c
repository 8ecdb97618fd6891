/*
 * plot_cells.c - what single cells and runs measured, for gnuplot (plot_cells.h). Computes only
 * ratios of what the summary and the results hold.
 */
#include "harness/report/plot_cells.h"

#include <math.h>
#include <string.h>

#include "harness/report/table.h"
#include "harness/report/text.h"

/* Points of one line: those of a curve, or without a scaling axis those of a topology. */
struct series {
    uint32_t index;
    const struct summary_point *first;
    int curve; /* -1: none */
};

static bool same_topology(const struct scenario_cell *a, const struct scenario_cell *b)
{
    return strcmp(a->server, b->server) == 0 &&
           a->topology.api_servers_count == b->topology.api_servers_count &&
           a->topology.engines_count == b->topology.engines_count;
}

static bool belongs(const struct summary *s, const struct summary_point *p, const struct series *of)
{
    return p->shown_count > 0 && summary_curve_of(s, p) == of->curve &&
           (of->curve >= 0 || same_topology(p->cell, of->first->cell));
}

static void label_series(const struct summary *s, const struct series *series, struct text *t)
{
    const struct scenario_cell *cell = series->first->cell;
    if (series->curve >= 0) {
        text_add(t, "%s", s->curves[series->curve].label);
    } else if (cell->foreign.kind != SCENARIO_SERVER_OWN) {
        text_add(t, "%s", cell->server);
    } else {
        text_add(t, "%s, %u API x %u", cell->server, cell->topology.api_servers_count,
                 cell->topology.engines_count);
    }
}

/* Of one launching thread: each takes part in every step of its engine core. */
static double launches_per_step(const struct data_source *d, const struct summary_point *p)
{
    double launches = 0;
    double steps = 0;
    for (uint32_t i = 0; i < d->results_count; i++) {
        const struct run_result *r = &d->results[i];
        if (r->cell != p->cell || r->launchers_count == 0 || r->engines_count == 0) {
            continue;
        }
        for (uint32_t k = 0; k < r->launchers_count; k++) {
            launches += (r->launchers[k].launches_per_s[LAUNCH_CLASS_KERNEL] +
                         r->launchers[k].launches_per_s[LAUNCH_CLASS_GRAPH]) /
                        r->launchers_count;
        }
        for (uint32_t k = 0; k < r->engines_count; k++) {
            steps +=
                (r->engines[k].steps_per_s + r->engines[k].dummy_steps_per_s) / r->engines_count;
        }
    }
    return steps > 0 ? launches / steps : STATS_UNKNOWN;
}

static void percentiles(struct table *t, const char *metric, const struct run_latency *l)
{
    const struct {
        const char *name;
        double ms;
    } levels[] = {{"p50", l->p50_ms}, {"p90", l->p90_ms}, {"p95", l->p95_ms}, {"p99", l->p99_ms}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        char column[48];
        (void)snprintf(column, sizeof column, "%s_%s_ms", metric, levels[i].name);
        table_number(t, column, levels[i].ms);
    }
}

static double limit_ms(int64_t limit_ns)
{
    return limit_ns > 0 ? (double)limit_ns / 1e6 : STATS_UNKNOWN;
}

/* An empty last field would be read as the line's end, so `end` is always there. */
static void cell_row(struct table *t, const struct data_source *d, const struct series *series,
                     const struct summary_point *p)
{
    char label[64] = "";
    char series_label[SUMMARY_LABEL_BYTES];
    const struct topology *topology = &p->cell->topology;
    struct text said = text_into(series_label, sizeof series_label);
    const struct summary_curve *c = series->curve >= 0 ? &d->summary->curves[series->curve] : NULL;
    data_label_cell(d->summary, p, label);
    label_series(d->summary, series, &said);
    table_text(t, "label", label);
    table_count(t, "series", series->index);
    table_text(t, "series_label", series_label);
    table_count(t, "colour", c != NULL ? data_colour(c, (uint32_t)series->curve) : series->index);
    table_flag(t, "evidence", p->evidence);
    table_number(t, "offered_rps", p->offered_rps);
    table_number(t, "achieved_rps", p->achieved_rps);
    table_number(t, "ttft_p50_ms", p->ttft_p50_ms);
    table_number(t, "ttft_p99_ms", p->ttft_p99_ms);
    table_number(t, "user_tok_per_s", 1e3 / p->tpot_p50_ms);
    table_number(t, "gpu_tok_per_s", p->tok_per_s / fmax(1, topology_gpus(topology)));
    table_number(t, "gpu_starved_frac", p->gpu_starved_frac);
    table_number(t, "launches_per_step", launches_per_step(d, p));
    table_number(t, "api_peak", p->api_max_share * topology->api_servers_count);
    table_number(t, "engine_peak", 1 / (1 - p->dp_imbalance_frac));
    percentiles(t, "ttft_sched", &p->ttft_sched);
    percentiles(t, "tpot", &p->tpot);
    table_number(t, "ttft_max_ms", limit_ms(p->cell->slo.ttft_p99_max_ns));
    table_number(t, "tpot_max_ms", limit_ms(p->cell->slo.tpot_p95_max_ns));
    table_number(t, "goodput_rps", p->goodput.rps);
    table_number(t, "good_frac_lo", p->goodput.lo);
    table_number(t, "good_frac_hi", p->goodput.hi);
    table_flag(t, "end", true);
    table_end_row(t);
}

static void series_rows(struct table *t, const struct data_source *d, const struct series *series)
{
    for (uint32_t i = 0; i < d->summary->points_count; i++) {
        const struct summary_point *p = &d->summary->points[i];
        if (belongs(d->summary, p, series)) {
            cell_row(t, d, series, p);
        }
    }
}

/* Series by series, so that each is one unbroken line. */
static void all_rows(struct table *t, const struct data_source *d)
{
    const struct summary *s = d->summary;
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        const struct series series = {count, p, summary_curve_of(s, p)};
        bool told = p->shown_count == 0;
        for (uint32_t k = 0; k < i && !told; k++) {
            told = belongs(s, &s->points[k], &series);
        }
        if (!told) {
            series_rows(t, d, &series);
            count++;
        }
    }
}

static enum status write_cells(const struct data_source *d, struct error *error)
{
    static const struct scenario_cell no_cell;
    const struct summary_point none = {.cell = &no_cell};
    const struct series naming = {0, &none, -1};
    struct table t;
    TRY(table_open(&t, d->folder, "plot_cells.tsv", error));
    t.naming = true;
    t.tabs = true;
    cell_row(&t, d, &naming, &none);
    t.naming = false;
    all_rows(&t, d);
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

static void run_row(struct table *t, const struct run_result *r)
{
    table_count(t, "order_index", r->order_index);
    table_number(t, "lag_p50_ms", r->lag_p50_ms);
    table_number(t, "lag_p99_ms", r->lag_p99_ms);
    table_number(t, "lag_max_ms", r->lag_max_ms);
    table_flag(t, "valid", r->outcome == RUN_OK);
    table_end_row(t);
}

static enum status write_runs(const struct data_source *d, struct error *error)
{
    static const struct run_result none;
    struct table t;
    TRY(table_open(&t, d->folder, "plot_runs.tsv", error));
    t.naming = true;
    t.tabs = true;
    run_row(&t, &none);
    t.naming = false;
    for (uint32_t i = 0; i < d->results_count; i++) {
        run_row(&t, &d->results[i]);
    }
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

enum status plot_cells_write(const struct data_source *d, struct error *error)
{
    TRY(write_cells(d, error));
    return write_runs(d, error);
}
