/*
 * plan.c - owns the arithmetic of capacity planning and how it is written (plan.h). Driven by the
 * report, by `harness run` and by `harness plan`. Must not plan with a rate that was not shown: a
 * row without one stays empty.
 */
#include "harness/report/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/ceilings.h"

enum {
    PRINT_ROWS_MAX = 20
};

#define ROUNDING 1e-9 /* of a count of systems: 3.0000000001 are 3 */

/* ---- one row ---- */

void plan_fill(const struct scenario_report *report, struct plan_row *row)
{
    const struct scenario_demand *d = &report->demand;
    bool known = row->per_s > 0;
    bool priced = known && report->price_per_gpu_hour > 0 && row->gpus_count > 0;
    double all = STATS_UNKNOWN; /* systems, the spare one included */
    row->systems = known ? ceil(d->peak_per_s / row->per_s - ROUNDING) : STATS_UNKNOWN;
    all = row->systems + 1;
    row->headroom_frac = row->systems * row->per_s / d->peak_per_s - 1;
    row->mean_use_frac = d->mean_per_s > 0 ? d->mean_per_s / (all * row->per_s) : STATS_UNKNOWN;
    row->cost_per_hour =
        priced ? all * row->gpus_count * report->price_per_gpu_hour : STATS_UNKNOWN;
    double million_per_hour = row->output_tokens * 3600 / 1e6; /* for one request a second */
    row->cost_at_peak = row->cost_per_hour / (d->peak_per_s * million_per_hour);
    row->cost_at_mean =
        d->mean_per_s > 0 ? row->cost_per_hour / (d->mean_per_s * million_per_hour) : STATS_UNKNOWN;
}

static uint32_t gpus_of(const struct scenario_cell *cell)
{
    return cell->foreign.kind == SCENARIO_SERVER_OWN ? topology_gpus(&cell->topology) : 0;
}

static double mean_output(const struct scenario_workload *w)
{
    struct load_range range = scenario_range(&w->output);
    return w->source == SCENARIO_SOURCE_SYNTHETIC ? lengths_mean(&range) : STATS_UNKNOWN;
}

/* ---- from what was found ---- */

/* The rate that is sure: of an interval its lower end, of "at least" that. */
static double sure(const struct search_answer *a)
{
    bool open = a->status == SEARCH_ABOVE_RANGE || a->status == SEARCH_CLIENT_LIMITED;
    return open || isnan(a->lo) ? a->per_s : fmin(a->lo, a->per_s);
}

static void take_rate(struct plan_row *row, const struct knees_row *k)
{
    if ((k->what & SCENARIO_FIND_SLO_RATE) != 0) {
        row->basis = PLAN_SLO_RATE;
        row->per_s = sure(&k->slo);
    } else if ((k->what & SCENARIO_FIND_STABLE_RATE) != 0) {
        row->basis = PLAN_STABLE_RATE;
        row->per_s = sure(&k->stable);
    } else {
        row->basis = PLAN_CAPACITY;
        row->per_s = k->capacity_lo;
    }
}

/* Users without think time who keep a system full show its capacity; other loads do not. */
static void take_capacity(struct plan_row *row, const struct summary_point *p)
{
    const struct scenario_load *load = &p->cell->load;
    bool full = load->mode == SCENARIO_LOAD_CLOSED && load->think_mean_ns == 0 &&
                p->load == SUMMARY_LOAD_FULL && p->evidence && p->achieved_rps > 0;
    row->basis = PLAN_CAPACITY;
    row->per_s = full ? p->achieved_rps * p->tok_per_s_lo / p->tok_per_s : STATS_UNKNOWN;
}

static void tell_first(const struct summary *s, const struct summary_point *p, struct plan_row *row)
{
    struct text t = text_into(row->first, sizeof row->first);
    struct ceilings_of c;
    for (uint32_t i = 0; ceilings_next(s, i, &c); i++) {
        if (c.point == p) {
            ceilings_tell_relief(&c, &t);
        }
    }
    if (row->first[0] == '\0' && p->verdict.kind == STAGE_NAMED) {
        text_add(&t, "more of the %s", text_stage(p->verdict.first));
    }
}

static const struct knees_row *knees_of(const struct knees *knees, const struct scenario_cell *cell)
{
    for (uint32_t i = 0; knees != NULL && i < knees->count; i++) {
        if (knees->rows[i].cell == cell) {
            return &knees->rows[i];
        }
    }
    return NULL;
}

static struct plan plan_new(const struct scenario *s, uint32_t room)
{
    struct plan p = {.report = &s->report};
    p.rows = calloc(room > 0 ? room : 1, sizeof *p.rows);
    ASSERT(p.rows != NULL);
    return p;
}

/* Fewest GPUs; where they are not known, fewest systems. */
static double worth(const struct plan_row *row)
{
    return (row->systems + 1) * (row->gpus_count > 0 ? row->gpus_count : 1);
}

static void choose(struct plan *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        const struct plan_row *row = &p->rows[i];
        if (row->systems > 0 && (p->best == NULL || worth(row) < worth(p->best))) {
            p->best = row;
        }
    }
}

struct plan plan_of(const struct summary *s, const struct knees *knees)
{
    struct plan plan = plan_new(s->scenario, s->points_count);
    for (uint32_t i = 0; plan.report->demand.peak_per_s > 0 && i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        const struct knees_row *k = knees_of(knees, p->cell);
        struct plan_row *row = &plan.rows[plan.count++];
        row->cell = p->cell;
        row->gpus_count = gpus_of(p->cell);
        row->output_tokens =
            p->achieved_rps > 0 ? p->tok_per_s / p->achieved_rps : mean_output(&p->cell->workload);
        if (k != NULL) {
            take_rate(row, k);
        } else {
            take_capacity(row, p);
        }
        tell_first(s, p, row);
        plan_fill(plan.report, row);
    }
    choose(&plan);
    return plan;
}

struct plan plan_predicted(const struct scenario *s)
{
    struct plan plan = plan_new(s, s->cells_count);
    for (uint32_t i = 0; plan.report->demand.peak_per_s > 0 && i < s->cells_count; i++) {
        struct scenario_cell cell = s->cells[i];
        struct plan_row *row = &plan.rows[plan.count++];
        cell.load.mode = SCENARIO_LOAD_CLOSED;
        cell.load.users_count = 2 * cell.topology.engines_count * cell.topology.max_num_seqs;
        struct forecast f = forecast_of(&cell);
        *row = (struct plan_row){.cell = &s->cells[i],
                                 .basis = PLAN_PREDICTED,
                                 .per_s = STATS_UNKNOWN,
                                 .output_tokens = mean_output(&cell.workload),
                                 .gpus_count = gpus_of(&cell)};
        if (f.known) {
            row->per_s = f.form.tok_per_s / row->output_tokens;
            (void)snprintf(row->first, sizeof row->first, "more of what limits: %s",
                           closed_form_limit_name(f.form.limit));
        } else {
            (void)snprintf(row->first, sizeof row->first, "%s", f.why);
        }
        plan_fill(plan.report, row);
    }
    choose(&plan);
    return plan;
}

void plan_free(struct plan *p)
{
    free(p->rows);
    *p = (struct plan){.report = NULL};
}

/* ---- for a person ---- */

const char *plan_basis_name(enum plan_basis basis)
{
    static const char *const names[] = {[PLAN_SLO_RATE] = "SLO rate",
                                        [PLAN_STABLE_RATE] = "stable rate",
                                        [PLAN_CAPACITY] = "capacity",
                                        [PLAN_PREDICTED] = "predicted capacity"};
    return names[basis];
}

struct grid plan_grid(const struct plan *p)
{
    static const char *const columns[] = {
        "<cell",       "<by",       "one takes/s",   "GPUs of one", "systems + 1",
        "GPUs in all", "room %",    "use at mean %", "cost/h",      "cost/M tokens at peak",
        "at mean",     "<add first"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < p->count; i++) {
        const struct plan_row *row = &p->rows[i];
        bool gpus = row->gpus_count > 0;
        grid_text(&g, row->cell->name);
        grid_text(&g, plan_basis_name(row->basis));
        grid_number(&g, row->per_s, 1);
        grid_number(&g, gpus ? row->gpus_count : STATS_UNKNOWN, 0);
        struct text t = grid_cell(&g);
        text_number(&t, row->systems, 0);
        text_add(&t, "%s", row->systems > 0 ? " + 1" : "");
        grid_number(&g, gpus ? (row->systems + 1) * row->gpus_count : STATS_UNKNOWN, 0);
        grid_percent(&g, row->headroom_frac);
        grid_percent(&g, row->mean_use_frac);
        grid_number(&g, row->cost_per_hour, 2);
        grid_number(&g, row->cost_at_peak, 3);
        grid_number(&g, row->cost_at_mean, 3);
        grid_text(&g, row->first[0] != '\0' ? row->first : "-");
    }
    return g;
}

static void tell_cost(const struct plan *p, const struct plan_row *row, struct text *t)
{
    if (isnan(row->cost_per_hour)) {
        return;
    }
    text_add(t, " They cost %.2f an hour", row->cost_per_hour);
    if (!isnan(row->cost_at_peak)) {
        text_add(t, ", %.3f a million output tokens at the peak", row->cost_at_peak);
    }
    if (!isnan(row->cost_at_mean)) {
        text_add(t, " and %.3f at the mean of %.4g/s", row->cost_at_mean,
                 p->report->demand.mean_per_s);
    }
    text_add(t, ".");
}

void plan_tell(const struct plan *p, struct text *t)
{
    static const char *const bounds[] = {
        [PLAN_SLO_RATE] = "within the SLO",
        [PLAN_STABLE_RATE] = "without a growing backlog",
        [PLAN_CAPACITY] = "with a backlog: no limit on latency is kept",
        [PLAN_PREDICTED] = "with a backlog, by the closed form: nothing was run"};
    const struct plan_row *row = p->best;
    if (!(p->report->demand.peak_per_s > 0)) {
        return;
    }
    if (row == NULL) {
        text_add(t, "No rate is known to plan %.4g/s with: [find] what = slo_rate measures one.",
                 p->report->demand.peak_per_s);
        return;
    }
    text_add(t, "%.4g/s at the peak: %.0f system%s of %s and a spare one",
             p->report->demand.peak_per_s, row->systems, row->systems > 1 ? "s" : "",
             row->cell->name);
    if (row->gpus_count > 0) {
        text_add(t, " (%.0f GPUs)", (row->systems + 1) * row->gpus_count);
    }
    text_add(t, "; one %s %.4g/s %s.",
             row->basis == PLAN_PREDICTED ? "should take" : "takes at least", row->per_s,
             bounds[row->basis]);
    tell_cost(p, row, t);
    text_add(t, " With one missing the peak may still grow by %.0f %%.", row->headroom_frac * 100);
    if (row->first[0] != '\0') {
        text_add(t, " To add first: %s.", row->first);
    }
}

void plan_markdown(const struct summary *s, const struct knees *knees, FILE *out)
{
    char line[1024];
    struct text t = text_into(line, sizeof line);
    struct plan p = plan_of(s, knees);
    plan_tell(&p, &t);
    if (line[0] != '\0') {
        struct grid g = plan_grid(&p);
        (void)fprintf(out,
                      "\n## Capacity planning\n\n%s\n\n"
                      "How many systems as each cell's the demand takes: its peak over what "
                      "one takes, rounded up, and one to spare. Rates are lower bounds. Room: "
                      "how much the peak may grow while one is missing. Costs count all, the "
                      "spare one included, in the currency of the price.\n\n",
                      line);
        grid_markdown(&g, out);
        grid_free(&g);
    }
    plan_free(&p);
}

void plan_print(const struct plan *p, FILE *out)
{
    char line[1024];
    struct text t = text_into(line, sizeof line);
    plan_tell(p, &t);
    if (line[0] == '\0') {
        return;
    }
    struct grid g = plan_grid(p);
    (void)fprintf(out, "\n%s\n\n", line);
    if (grid_rows(&g) > 0) {
        grid_plain(&g, PRINT_ROWS_MAX, out);
    }
    grid_free(&g);
}
