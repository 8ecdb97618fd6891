/*
 * forecast.c - from a cell to the closed forms of sim/closed_form.h, and the table that compares
 * (forecast.h). Must not adjust a prediction by anything that was measured.
 */
#include "harness/report/forecast.h"

#include <math.h>
#include <string.h>

#include "harness/report/launching.h"
#include "harness/report/summary.h"

static double mean_of(const struct scenario_lengths *l)
{
    struct load_range range = scenario_range(l);
    return lengths_mean(&range);
}

/* Of a lognormal length before it is limited to lo..hi. */
static double variance_of(const struct scenario_lengths *l)
{
    double values = (double)l->hi - l->lo + 1;
    double sd = l->sd;
    return l->kind == SCENARIO_LENGTHS_LOGNORMAL ? sd * sd : (values * values - 1) / 12;
}

static struct closed_form_system system_of(const struct topology *t,
                                           const struct host_profile *host)
{
    struct closed_form_system s = {
        .model = t->model,
        .gpu = t->gpu,
        .api_servers_count = t->api_servers_count,
        .engines_count = t->engines_count,
        .tp = t->tp,
        .engines_per_gpu = topology_engines_per_gpu(t),
        .side_by_side = t->gpu_sharing == (uint32_t)GPU_SIDE_BY_SIDE,
        .lockstep = topology_lockstep(t),
        .graphs = t->launch == (uint32_t)LAUNCH_GRAPH,
        .dummy_graphs = t->dummy_eager == 0,
        .async = t->async_depth > 1,
        .workers = topology_workers_per_engine(t) > 0,
        .max_num_seqs = t->max_num_seqs,
        .launch_extra = ps_from_ns(t->launch_extra_ns),
        .host = *host,
    };
    if (t->engine_step_ns > 0) {
        s.host.engine_step = ps_from_ns(t->engine_step_ns);
    }
    return s;
}

static struct closed_form_load load_of(const struct scenario_cell *cell)
{
    const struct scenario_workload *w = &cell->workload;
    bool closed = cell->load.mode == SCENARIO_LOAD_CLOSED;
    return (struct closed_form_load){
        .prompt_tokens = mean_of(&w->prompt) * (1 - w->shared_prefix_frac),
        .output_tokens = mean_of(&w->output),
        .output_variance_tokens = variance_of(&w->output),
        .users_count = closed ? cell->load.users_count : 0,
        .requests_per_s = closed ? 0 : cell->load.rate_per_s,
    };
}

/* Why no formula holds; NULL if they do. */
static const char *unpredictable(const struct scenario_cell *cell, const struct host_profile *host)
{
    const struct topology *t = &cell->topology;
    if (cell->foreign.kind != SCENARIO_SERVER_OWN) {
        return "it is a server of others";
    }
    if (t->pp > 1) {
        return "no formula for pipeline stages";
    }
    if (cell->load.mode == SCENARIO_LOAD_TRACE ||
        cell->workload.source != SCENARIO_SOURCE_SYNTHETIC) {
        return "lengths and times are a trace's";
    }
    if (!cell->workload.ignore_eos) {
        return "outputs may end early (ignore_eos = no)";
    }
    if (t->host.engine_input_request_ns > 0 || t->host.engine_output_message_ns > 0 ||
        t->host.engine_output_token_ns > 0) {
        return "no formula for the engine core's I/O threads";
    }
    return host == NULL ? "costs of the host are not known" : NULL;
}

struct forecast forecast_of(const struct scenario_cell *cell)
{
    const struct host_profile *host = host_profile_find(cell->topology.host.name);
    struct forecast f = {.why = unpredictable(cell, host)};
    if (f.why != NULL) {
        return f;
    }
    struct closed_form_system system = system_of(&cell->topology, host);
    struct closed_form_load load = load_of(cell);
    f.known = closed_form_predict(&system, &load, &f.form);
    f.why = f.known ? "" : "costs of the device are not known";
    return f;
}

double forecast_token_gap_ms(const struct forecast *f)
{
    return f->known && f->form.limit != CLOSED_FORM_API_SERVER ? f->form.token_gap_ms
                                                               : STATS_UNKNOWN;
}

/* ---- the table ---- */

struct quantity {
    const char *name;
    double predicted;
    double measured;
    int decimals; /* -1: a rate */
    double simulated;
};

static void value_cell(struct grid *g, double value, int decimals)
{
    if (decimals < 0) {
        grid_rate(g, value);
    } else {
        grid_number(g, value, decimals);
    }
}

/* Simulated runs stand beside measured ones: two more columns. */
static bool has_beside(const struct grid *g)
{
    return g->columns_count > FORECAST_COLUMNS;
}

static void beside_cells(struct grid *g, const struct quantity *q)
{
    value_cell(g, q->simulated, q->decimals);
    struct text t = grid_cell(g);
    if (q->measured > 0 && !isnan(q->simulated)) {
        text_add(&t, "%+.1f", (q->simulated / q->measured - 1) * 100);
    } else {
        text_add(&t, "-");
    }
}

static void add_row(struct grid *g, const struct summary_point *p, const struct quantity *q)
{
    bool rate = q->decimals < 0;
    bool beside = has_beside(g) && !isnan(q->simulated);
    if ((isnan(q->predicted) && !beside) || isnan(q->measured)) {
        return;
    }
    grid_text(g, p->cell->name);
    grid_text(g, q->name);
    value_cell(g, q->predicted, q->decimals);
    value_cell(g, q->measured, q->decimals);
    struct text t = grid_cell(g);
    if (q->predicted > 0) {
        text_add(&t, "%+.1f", (q->measured / q->predicted - 1) * 100);
    } else {
        text_add(&t, "-");
    }
    if (has_beside(g)) {
        beside_cells(g, q);
    }
    bool throughput = rate && strcmp(q->name, "tokens/s") == 0;
    grid_text(g, throughput ? closed_form_limit_name(p->forecast.form.limit) : "");
    t = grid_cell(g);
    text_add(&t, "%s", p->evidence ? "" : "host limited");
}

bool forecast_launching_varies(const struct summary *s)
{
    const struct topology *a = &s->points[0].cell->topology;
    for (uint32_t i = 1; i < s->points_count; i++) {
        const struct topology *b = &s->points[i].cell->topology;
        if (a->launch != b->launch || a->launch_extra_ns != b->launch_extra_ns || a->tp != b->tp) {
            return true;
        }
    }
    return false;
}

/* Where the engine cores of a curve fill the GPU that they share. */
static void add_knee(struct grid *g, const struct summary *s, uint32_t curve)
{
    const struct summary_curve *c = &s->curves[curve];
    double knee = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct forecast *f = &s->points[i].forecast;
        if (f->known && f->form.gpu_knee_engines > 0 &&
            summary_curve_of(s, &s->points[i]) == (int)curve) {
            knee = f->form.gpu_knee_engines;
        }
    }
    if (knee > 0) {
        grid_text(g, c->label);
        grid_text(g, "engine cores that fill a GPU");
        grid_number(g, knee, 1);
        grid_text(g, c->decided ? c->answer.text : "undecided");
        grid_text(g, "-");
        if (has_beside(g)) {
            grid_text(g, c->simulated_decided ? c->simulated_answer.text : "undecided");
            grid_text(g, "-");
        }
        grid_text(g, "");
        grid_text(g, "");
    }
}

/* Where more stop helping: what the simulated runs said, and what the measured ones. */
static void add_simulated_knee(struct grid *g, const struct summary *s,
                               const struct summary_curve *c)
{
    struct text t;
    grid_text(g, c->label);
    t = grid_cell(g);
    text_add(&t, "last helpful %s", s->noun);
    grid_text(g, "-");
    grid_text(g, c->decided ? c->answer.text : "undecided");
    grid_text(g, "-");
    grid_text(g, c->simulated_answer.text);
    grid_text(g, "-");
    grid_text(g, "");
    grid_text(g, "");
}

static double known_or(const struct summary_simulated *s, double value)
{
    return s->known ? value : STATS_UNKNOWN;
}

/* Mean over the launching threads. */
static double critical_launch_us(const struct run_result *r)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        sum += launching_margin_of(&r->launchers[i], &r->cell->topology).critical_us;
    }
    return r->launchers_count > 0 ? sum / r->launchers_count : STATS_UNKNOWN;
}

/* Which quantities of a point are compared. */
static void add_point(struct grid *g, const struct summary *s, const struct summary_point *p,
                      bool all)
{
    const struct closed_form *f = &p->forecast.form;
    const struct summary_simulated *sim = &p->simulated;
    bool known = p->forecast.known;
    bool lockstep = topology_lockstep(&p->cell->topology);
    bool shares = p->cell->topology.gpu_sharing != (uint32_t)GPU_OWN;
    bool launching = all || forecast_launching_varies(s);
    const struct quantity rows[] = {
        {"tokens/s", known ? f->tok_per_s : STATS_UNKNOWN, p->tok_per_s, -1,
         known_or(sim, sim->tok_per_s)},
        {"rank-steps a token", known ? f->rank_steps_per_tok : STATS_UNKNOWN, p->rank_steps_per_tok,
         3, known_or(sim, sim->rank_steps_per_tok)},
        {"ms between tokens", forecast_token_gap_ms(&p->forecast), p->itl_mean_ms, 2,
         known_or(sim, sim->itl_mean_ms)},
        {"c_crit, us a launch", shares || !known ? STATS_UNKNOWN : f->critical_launch_us,
         critical_launch_us(p->run), 1, STATS_UNKNOWN},
        {"launches/s", known ? f->kernels_per_s + f->graphs_per_s : STATS_UNKNOWN,
         p->launches_per_s, -1, known_or(sim, sim->launches_per_s)},
    };
    const bool shown[] = {true, lockstep, lockstep || all, launching, launching};
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        if (shown[k]) {
            add_row(g, p, &rows[k]);
        }
    }
}

static bool any_simulated(const struct summary *s)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].simulated.known) {
            return true;
        }
    }
    return false;
}

struct grid forecast_grid(const struct summary *s, bool all)
{
    static const char *const columns[FORECAST_COLUMNS] = {
        "<cell", "<quantity", "predicted", "measured", "differs %", "<limit predicted", "<"};
    static const char *const simulated[FORECAST_COLUMNS] = {
        "<cell", "<quantity", "predicted", "simulated", "differs %", "<limit predicted", "<"};
    static const char *const beside[FORECAST_COLUMNS + 2] = {
        "<cell",     "<quantity",          "predicted",        "measured", "differs %",
        "simulated", "simulation error %", "<limit predicted", "<"};
    bool compares = any_simulated(s);
    bool is_virtual = s->scenario->general.mode == (uint32_t)SCENARIO_SIMULATE;
    struct grid g = compares ? grid_of(beside, FORECAST_COLUMNS + 2)
                             : grid_of(is_virtual ? simulated : columns, FORECAST_COLUMNS);
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        if (p->shown_count > 0 && (p->forecast.known || p->simulated.known)) {
            add_point(&g, s, p, all);
        }
    }
    for (uint32_t i = 0; i < s->curves_count; i++) {
        add_knee(&g, s, i);
        if (compares && s->curves[i].simulated_decided) {
            add_simulated_knee(&g, s, &s->curves[i]);
        }
    }
    return g;
}

void forecast_missing(const struct summary *s, struct text *t)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct forecast *f = &s->points[i].forecast;
        bool told = f->known;
        for (uint32_t k = 0; k < i; k++) {
            const struct forecast *earlier = &s->points[k].forecast;
            told = told || (!earlier->known && strcmp(earlier->why, f->why) == 0);
        }
        if (!told) {
            text_add(t, "%s%s: %s", t->used > 0 ? "; " : "", s->points[i].cell->name, f->why);
        }
    }
}
