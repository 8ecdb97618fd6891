/*
 * attribution.c - from runs to demands, ceilings and expectations (attribution.h). Owns which runs
 * may be compared and how many servers a stage has; driven by the summary and by the command that
 * runs. Must not use a run that is no evidence, or one of the cell that it foretells.
 */
#include "harness/report/attribution.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/forecast.h"

/* ---- which runs ---- */

static bool is_evidence(const struct run_result *r)
{
    return r->outcome == RUN_OK && r->output_tok_per_s.mean > 0 && !r->host_limited;
}

/* API servers, engine cores or the load: what may differ. */
static bool axis_is_free(const struct scenario *s, uint32_t axis)
{
    static const char *const loads[] = {"rate", "rps", "users", "concurrency"};
    const char *name = s->axes[axis].name;
    bool servers = true;
    bool engines = true;
    for (uint32_t i = 0; i < s->cells_count; i++) {
        const struct scenario_cell *c = &s->cells[i];
        unsigned long value = strtoul(s->axes[axis].values[c->axis_value[axis]], NULL, 10);
        servers = servers && value == c->topology.api_servers_count;
        engines = engines && value == c->topology.engines_count;
    }
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        if (strcmp(name, loads[i]) == 0) {
            return true;
        }
    }
    return servers || engines;
}

bool attribution_comparable(const struct scenario *s, const struct scenario_cell *a,
                            const struct scenario_cell *b)
{
    for (uint32_t i = 0; i < s->axes_count; i++) {
        if (a->axis_value[i] != b->axis_value[i] && !axis_is_free(s, i)) {
            return false;
        }
    }
    return true;
}

size_t attribution_runs(const struct scenario *s, const struct run_result *results, uint32_t count,
                        const struct scenario_cell *cell,
                        const struct run_result *out[DEMAND_POINTS_MAX])
{
    size_t used = 0;
    for (uint32_t i = 0; i < count && used < DEMAND_POINTS_MAX; i++) {
        if (is_evidence(&results[i]) && attribution_comparable(s, results[i].cell, cell)) {
            out[used++] = &results[i];
        }
    }
    return used;
}

/* ---- stages ---- */

static const char *const stage_names[ATTRIBUTION_STAGES] = {
    "api_server", "scheduler", "launch", "gpu", "ipc", "coordinator", "interpreter"};

enum {
    STAGE_GPU = 3
};

static double servers_of(const struct topology *t, const char *stage)
{
    double engines = t->engines_count;
    if (strcmp(stage, "api_server") == 0) {
        return t->api_servers_count;
    }
    if (strcmp(stage, "coordinator") == 0) {
        return engines > 1 ? 1 : 0;
    }
    if (strcmp(stage, "launch") == 0) {
        return engines * topology_workers_per_engine(t);
    }
    if (strcmp(stage, "gpu") == 0) {
        return topology_gpus(t);
    }
    return strcmp(stage, "ipc") == 0 ? 2 * engines : engines;
}

/* Mean over the stage's rows of a run; NAN: not observed. */
static double busy_mean(const struct run_result *r, const char *stage)
{
    double sum = 0;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < r->stages_count; i++) {
        if (strcmp(r->stages[i].stage, stage) == 0) {
            sum += r->stages[i].busy_frac;
            seen++;
        }
    }
    return seen > 0 ? sum / seen : STATS_UNKNOWN;
}

/* How many of a stage's servers were in use on average; NAN: not observed. */
static double busy_count(const struct run_result *r, const char *stage)
{
    double sum = 0;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < r->stages_count; i++) {
        if (strcmp(r->stages[i].stage, stage) == 0) {
            sum += r->stages[i].use_frac;
            seen++;
        }
    }
    return seen > 0 ? sum : STATS_UNKNOWN;
}

static void use_in_cell(const struct scenario_cell *cell, const struct run_result *const *runs,
                        size_t count, struct attribution_stage *out)
{
    double servers = servers_of(&cell->topology, out->stage);
    double sum = 0;
    double computing = 0;
    uint32_t seen = 0;
    out->use_lo = STATS_UNKNOWN;
    for (size_t i = 0; i < count; i++) {
        double busy = runs[i]->cell == cell ? busy_count(runs[i], out->stage) : STATS_UNKNOWN;
        if (!isnan(busy) && servers > 0) {
            sum += busy / servers;
            computing += busy_mean(runs[i], out->stage);
            out->use_lo = fmin(out->use_lo, busy / servers);
            seen++;
        }
    }
    out->use_frac = seen > 0 ? sum / seen : STATS_UNKNOWN;
    out->busy_frac = seen > 0 ? computing / seen : STATS_UNKNOWN;
}

static void name_source(struct attribution_stage *s, const char *text)
{
    (void)snprintf(s->source, sizeof s->source, "%s", s->demand.known ? text : "");
}

/* ---- ceilings ---- */

static void regress(const struct scenario_cell *cell, const struct run_result *const *runs,
                    size_t count, struct attribution_stage *out)
{
    static _Thread_local struct demand_point points[DEMAND_POINTS_MAX];
    double servers = 0; /* of the run with the highest rate: the ceiling is near it */
    double top = 0;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        double rate = runs[i]->output_tok_per_s.mean;
        double busy = busy_count(runs[i], out->stage);
        if (isnan(busy)) {
            continue;
        }
        points[used++] = (struct demand_point){rate, busy};
        if (rate > top) {
            top = rate;
            servers = servers_of(&runs[i]->cell->topology, out->stage);
        }
    }
    if (servers <= 0 || used == 0) {
        return;
    }
    demand_fit(points, used, servers, cell->topology.seed, &out->demand);
    name_source(out, "regression");
    if (!out->demand.known && !out->demand.spins) {
        demand_of_use(points, used, servers, &out->demand);
        name_source(out, "one load");
    }
    out->demand = demand_at(&out->demand, servers_of(&cell->topology, out->stage));
}

/* Half the width of a run's own interval, relatively: how far another run may lie from it. */
static double noise_of(const struct run_result *const *runs, size_t count)
{
    double sum = 0;
    uint32_t seen = 0;
    for (size_t i = 0; i < count; i++) {
        double half = runs[i]->output_tok_per_s.half_width / runs[i]->output_tok_per_s.mean;
        if (!isnan(half)) {
            sum += half;
            seen++;
        }
    }
    return seen > 0 ? sum / seen : STATS_UNKNOWN;
}

/* Tokens/s of all engine cores with full batches by closed form, else the number of GPUs. */
static double full_batches(const struct scenario_cell *cell, bool *known)
{
    struct forecast f = forecast_of(cell);
    *known = f.known;
    return f.known ? f.form.engines_tok_per_s : topology_gpus(&cell->topology);
}

static void ceiling_of_gpus(const struct scenario_cell *cell, const struct run_result *const *runs,
                            size_t count, struct attribution_stage *out)
{
    double servers = topology_gpus(&cell->topology);
    double sum = 0;
    double lo = STATS_UNKNOWN;
    double hi = STATS_UNKNOWN;
    uint32_t full = 0;
    bool closed;
    double base = full_batches(cell, &closed);
    for (size_t i = 0; i < count; i++) {
        bool same;
        double of_run = full_batches(runs[i]->cell, &same);
        double use = busy_count(runs[i], "gpu") / servers_of(&runs[i]->cell->topology, "gpu");
        if (use >= STAGE_LIMIT_FRAC && same == closed) {
            double share = runs[i]->output_tok_per_s.mean / fmin(1, use) / of_run;
            sum += share;
            lo = fmin(lo, share);
            hi = fmax(hi, share);
            full++;
        }
    }
    double share = full > 0 ? sum / full : 1;
    double noise = noise_of(runs, count);
    struct demand *d = &out->demand;
    d->servers = servers;
    d->known = closed || full > 0;
    d->ceiling_rate = d->known ? base * share : STATS_UNKNOWN;
    d->ceiling_lo = base * lo * (1 - noise);
    d->ceiling_hi = base * hi * (1 + noise);
    d->demand_s = servers / d->ceiling_rate;
    d->lo_s = servers / d->ceiling_hi;
    d->hi_s = servers / d->ceiling_lo;
    name_source(out, closed ? "closed form" : "full batches");
    if (closed && full > 0) {
        (void)snprintf(out->source, sizeof out->source, "closed form x %.3f", share);
    }
    if (closed && forecast_of(cell).form.limit == CLOSED_FORM_TURNS) {
        size_t length = strlen(out->source);
        (void)snprintf(out->source + length, sizeof out->source - length, ", host + gpu");
    }
}

static bool seen_in(const char *stage, const struct run_result *const *runs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!isnan(busy_count(runs[i], stage))) {
            return true;
        }
    }
    return false;
}

void attribution_of(const struct scenario_cell *cell, const struct run_result *const *runs,
                    size_t count, struct attribution *out)
{
    struct demand_stage stages[ATTRIBUTION_STAGES];
    double rate = 0;
    *out = (struct attribution){.stages_count = 0};
    for (uint32_t i = 0; i < ATTRIBUTION_STAGES; i++) {
        struct attribution_stage *s = &out->stages[out->stages_count];
        if (servers_of(&cell->topology, stage_names[i]) <= 0 ||
            !(i == STAGE_GPU || seen_in(stage_names[i], runs, count))) {
            continue;
        }
        *s = (struct attribution_stage){.stage = stage_names[i]};
        demand_of_use(NULL, 0, servers_of(&cell->topology, s->stage), &s->demand);
        use_in_cell(cell, runs, count, s);
        if (i == STAGE_GPU) {
            ceiling_of_gpus(cell, runs, count, s);
        } else {
            regress(cell, runs, count, s);
        }
        stages[out->stages_count++] = (struct demand_stage){s->stage, s->demand, s->use_lo};
    }
    for (size_t i = 0; i < count; i++) {
        rate = runs[i]->cell == cell ? fmax(rate, runs[i]->output_tok_per_s.mean) : rate;
    }
    demand_judge(stages, out->stages_count, rate > 0 ? rate : STATS_UNKNOWN, &out->verdict);
    out->capacity = demand_capacity_of(stages, out->stages_count);
}

/* ---- what follows ---- */

bool attribution_relieve(const struct scenario_cell *cell, const char *stage,
                         struct scenario_cell *out)
{
    struct topology *t = &out->topology;
    *out = *cell;
    if (t->nodes_count > 0 || strcmp(stage, "coordinator") == 0) {
        return false;
    }
    if (strcmp(stage, "api_server") == 0) {
        t->api_servers_count *= 2;
        return t->api_servers_count <= TOPOLOGY_API_SERVERS_MAX;
    }
    t->engines_count *= 2;
    return t->engines_count <= TOPOLOGY_ENGINES_MAX;
}

struct attribution_gain attribution_gain_of(const struct attribution *a,
                                            const struct attribution_now *now)
{
    const struct demand_capacity *c = &a->capacity;
    struct attribution_gain g = {.known = c->first >= 0 && now->rate > 0,
                                 .gain = STATS_UNKNOWN,
                                 .lo = STATS_UNKNOWN,
                                 .hi = STATS_UNKNOWN,
                                 .then = ""};
    if (g.known) {
        g.gain = c->rate / now->rate - 1;
        g.lo = c->lo * fmin(1, now->use_frac) / now->hi - 1;
        g.hi = c->hi / now->lo - 1;
        g.then = a->stages[c->first].stage;
    }
    return g;
}

struct run_expectation attribution_expect(const struct scenario *s,
                                          const struct run_result *results, uint32_t count,
                                          const struct scenario_cell *cell)
{
    static _Thread_local const struct run_result *runs[DEMAND_POINTS_MAX];
    struct run_expectation e = {false, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, ""};
    size_t used = attribution_runs(s, results, count, cell, runs);
    for (uint32_t i = 0; i < count; i++) {
        if (results[i].cell == cell) {
            return e;
        }
    }
    struct attribution a;
    attribution_of(cell, runs, used, &a);
    if (used == 0 || a.capacity.first < 0) {
        return e;
    }
    struct forecast f = forecast_of(cell);
    bool asked_less = f.known && f.form.limit == CLOSED_FORM_LOAD;
    double most = asked_less ? f.form.tok_per_s : (double)INFINITY;
    double noise = noise_of(runs, used);
    e.known = true;
    e.tok_per_s = fmin(a.capacity.rate, most);
    e.lo = isnan(a.capacity.lo) ? STATS_UNKNOWN : fmin(a.capacity.lo, most) * (1 - noise);
    e.hi = isnan(a.capacity.hi) ? STATS_UNKNOWN : fmin(a.capacity.hi, most) * (1 + noise);
    e.stage = most < a.capacity.rate ? "load" : a.stages[a.capacity.first].stage;
    return e;
}
