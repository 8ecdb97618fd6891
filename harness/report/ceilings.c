/*
 * ceilings.c - tables and sentences of ceilings.h. Driven by the report and by the command that
 * runs. Decides nothing: what limits and what is foretold was decided in attribution.c.
 */
#include "harness/report/ceilings.h"

#include <math.h>
#include <string.h>

#include "harness/report/limits.h"

/* A GPU that computes this much longer than it is in use had places free in its batches. */
#define IDLE_PLACES_FRAC 0.05

bool ceilings_next(const struct summary *s, uint32_t index, struct ceilings_of *out)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < s->curves_count; i++) {
        const struct summary_curve *c = &s->curves[i];
        if (c->points_count > 0 && seen++ == index) {
            *out = (struct ceilings_of){c->label, c->points[c->points_count - 1], &c->attribution,
                                        &c->relief};
            return true;
        }
    }
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        if (p->attributed && seen++ == index) {
            *out = (struct ceilings_of){p->cell->name, p, &p->attribution, &p->relief};
            return true;
        }
    }
    return false;
}

/* ---- pieces ---- */

static void add_bounds(struct text *t, double lo, double hi, int decimals)
{
    if (!isnan(lo) && !isnan(hi)) {
        text_add(t, " [%.*f, %.*f]", decimals, lo, decimals, hi);
    }
}

static void add_rates(struct text *t, double rate, double lo, double hi)
{
    text_rate(t, rate);
    if (!isnan(lo) && !isnan(hi)) {
        text_add(t, " [");
        text_rate(t, lo);
        text_add(t, ", ");
        text_rate(t, hi);
        text_add(t, "]");
    }
}

void ceilings_tell_gain(const struct attribution_gain *g, struct text *t)
{
    text_add(t, "%+.0f %%", g->gain * 100);
    add_bounds(t, g->lo * 100, g->hi * 100, 0);
}

void ceilings_tell_relief(const struct ceilings_of *c, struct text *t)
{
    struct scenario_cell relieved;
    const char *stage = limits_stage(c->point, c->attribution);
    if (!c->relief->known || !attribution_relieve(c->point->cell, stage, &relieved)) {
        return;
    }
    const struct topology *topology = &relieved.topology;
    bool same = strcmp(c->relief->then, stage) == 0;
    if (strcmp(stage, "api_server") == 0) {
        text_add(t, "%u API servers", topology->api_servers_count);
    } else {
        text_add(t, "%u engine cores", topology->engines_count);
        if (topology->gpu_sharing != (uint32_t)GPU_OWN) {
            text_add(t, " on %u GPUs", topology_gpus(topology));
        }
    }
    text_add(t, " should carry ");
    ceilings_tell_gain(c->relief, t);
    text_add(t, ", then the %ss limit%s", text_stage(c->relief->then), same ? " again" : "");
}

void ceilings_tell_foretold(const struct summary_curve *c, struct text *t)
{
    const struct attribution_gain *g = &c->foretold;
    if (c->fewer == NULL || !g->known) {
        return;
    }
    text_add(t, "the runs with %u predicted ", c->fewer->api_servers_count);
    ceilings_tell_gain(g, t);
    text_add(t, ", the %ss limiting", text_stage(g->then));
    if (!isnan(g->lo)) {
        text_add(t, ": %s", c->foretold_holds ? "inside" : "outside");
    }
}

void ceilings_tell_load(const struct summary_point *p, struct text *t)
{
    switch (p->load) {
    case SUMMARY_LOAD_FULL:
        break;
    case SUMMARY_LOAD_SERVED:
        text_add(t, "the load asks for no more: more engine cores cannot help");
        break;
    case SUMMARY_LOAD_FEW:
        text_add(t,
                 "%u request%s at a time: the latency of a single request decides, more engine "
                 "cores cannot help",
                 p->run->users_count, p->run->users_count == 1 ? "" : "s");
        if (p->dp_sync_frac > 0) {
            text_add(t, "; ");
            text_percent(t, p->dp_sync_frac);
            text_add(t, " of the rank-steps are dummies beside those of other ranks (dp_sync)");
        }
        break;
    }
}

/* ---- ceilings ---- */

static void stage_row(struct grid *g, const struct ceilings_of *c, uint32_t index)
{
    const struct attribution_stage *s = &c->attribution->stages[index];
    const struct demand *d = &s->demand;
    grid_text(g, c->label);
    grid_text(g, c->point->cell->name);
    grid_text(g, s->stage);
    struct text t = grid_cell(g);
    text_number(&t, d->demand_s * 1e6, 1);
    if (d->known) {
        add_bounds(&t, d->lo_s * 1e6, d->hi_s * 1e6, 1);
    }
    grid_number(g, d->servers, 0);
    t = grid_cell(g);
    if (d->known) {
        add_rates(&t, d->ceiling_rate, d->ceiling_lo, d->ceiling_hi);
    } else {
        text_add(&t, "%s", d->spins ? "does not grow with load" : "-");
    }
    t = grid_cell(g);
    text_percent(&t, s->use_frac);
    if (strcmp(s->stage, "gpu") == 0 && s->busy_frac - s->use_frac > IDLE_PLACES_FRAC) {
        text_add(&t, " (computing ");
        text_percent(&t, s->busy_frac);
        text_add(&t, ")");
    }
    grid_text(g, s->source);
    const struct demand_verdict *v = &c->attribution->verdict;
    grid_text(g, (int)index == v->first ? "lowest" : (int)index == v->next ? "next" : "");
}

struct grid ceilings_grid(const struct summary *s)
{
    static const char *const columns[] = {
        "<of",    "<at",   "<stage", "us a token [95 %]", "servers", "ceiling tokens/s [95 %]",
        "in use", "<from", "<"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    struct ceilings_of c;
    for (uint32_t i = 0; ceilings_next(s, i, &c); i++) {
        for (uint32_t k = 0; k < c.attribution->stages_count; k++) {
            stage_row(&g, &c, k);
        }
    }
    return g;
}

/* ---- laws ---- */

static void law_row(struct grid *g, const struct summary_curve *c, enum law law)
{
    const struct laws *l = &c->laws;
    const struct law_fit *f = &l->fits[law];
    grid_text(g, c->label);
    grid_text(g, law_name(law));
    grid_percent(g, f->weight);
    grid_rate(g, f->gamma);
    grid_number(g, f->alpha, 4);
    grid_number(g, f->beta, 5);
    struct text t = grid_cell(g);
    if (isinf(f->plateau)) {
        text_add(&t, "none");
    } else {
        text_rate(&t, f->plateau);
    }
    t = grid_cell(g);
    if (law == l->chosen && l->best_known) {
        text_add(&t, "%.1f", l->best);
        add_bounds(&t, l->best_lo, l->best_hi, 1);
    } else if (law == l->chosen) {
        text_add(&t, "> %u", l->cores_max);
    }
    grid_text(g, law == l->chosen ? "chosen" : "");
}

struct grid ceilings_laws_grid(const struct summary *s)
{
    static const char *const columns[] = {"<curve", "<law", "weight %",          "gamma, tokens/s",
                                          "alpha",  "beta", "plateau, tokens/s", "N*",
                                          "<"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < s->curves_count; i++) {
        for (int k = 0; k < LAWS_COUNT && s->curves[i].laws.known; k++) {
            if (s->curves[i].laws.fits[k].fitted) {
                law_row(&g, &s->curves[i], (enum law)k);
            }
        }
    }
    return g;
}

/* ---- what was expected of cells ---- */

static bool was_tested(const struct run_result *r)
{
    return r->expected.known && r->outcome == RUN_OK && r->output_tok_per_s.mean > 0;
}

/* 1 inside, 0 outside, -1: no interval. */
static int inside(const struct run_result *r)
{
    const struct run_expectation *e = &r->expected;
    double rate = r->output_tok_per_s.mean;
    if (isnan(e->lo) || isnan(e->hi)) {
        return -1;
    }
    return rate >= e->lo && rate <= e->hi ? 1 : 0;
}

struct grid ceilings_expected_grid(const struct run_result *results, uint32_t count)
{
    static const char *const columns[] = {
        "<cell",     "<run", "expected tokens/s [95 %]", "<expected limit", "measured",
        "differs %", "<"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < count; i++) {
        const struct run_result *r = &results[i];
        if (!was_tested(r)) {
            continue;
        }
        grid_text(&g, r->cell->name);
        grid_text(&g, r->run_id);
        struct text t = grid_cell(&g);
        add_rates(&t, r->expected.tok_per_s, r->expected.lo, r->expected.hi);
        grid_text(&g, r->expected.stage);
        grid_rate(&g, r->output_tok_per_s.mean);
        t = grid_cell(&g);
        text_add(&t, "%+.1f", (r->output_tok_per_s.mean / r->expected.tok_per_s - 1) * 100);
        int in = inside(r);
        grid_text(&g, in < 0 ? "no interval" : in > 0 ? "inside" : "outside");
    }
    return g;
}

void ceilings_tell_expected(const struct scenario_cell *cell, const struct run_expectation *e,
                            struct text *t)
{
    text_add(t, "expected of %s: ", cell->name);
    add_rates(t, e->tok_per_s, e->lo, e->hi);
    text_add(t, " tokens/s, limited by %s", text_stage(e->stage));
}

void ceilings_tell_errors(const struct run_result *results, uint32_t count, struct text *t)
{
    double sum = 0;
    uint32_t tested = 0;
    uint32_t bounded = 0;
    uint32_t held = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct run_result *r = &results[i];
        if (was_tested(r)) {
            sum += fabs(r->output_tok_per_s.mean / r->expected.tok_per_s - 1);
            tested++;
            bounded += inside(r) >= 0 ? 1 : 0;
            held += inside(r) > 0 ? 1 : 0;
        }
    }
    if (tested > 0) {
        text_add(t, "Cells foretold before they ran: %u, mean absolute error %.1f %%", tested,
                 sum / tested * 100);
    }
    if (bounded > 0) {
        text_add(t, ", %u of the %u with an interval inside it", held, bounded);
    }
}
