/*
 * limits.c - fills in what limits the points and curves of a summary, and what relieving it should
 * bring (limits.h). Driven by summary.c when points and curves stand. Pure; chooses which runs go
 * into attribution.c and nothing else.
 */
#include "harness/report/limits.h"

#include <math.h>
#include <string.h>

enum {
    LAW_DRAWS = 400 /* of the bootstrap of N* */
};

#define LOAD_SERVED_FRAC 0.95 /* of the requests offered: less is not all of the load */

enum summary_load limits_load_of(const struct summary_point *p)
{
    const struct scenario_load *load = &p->cell->load;
    bool full = p->verdict.kind != STAGE_UNEXPLAINED;
    if (full || p->shown_count == 0) {
        return SUMMARY_LOAD_FULL;
    }
    if (load->mode == SCENARIO_LOAD_CLOSED) {
        uint32_t users = p->run->users_count;
        bool few = users == 1 || (users > 0 && users < p->cell->topology.engines_count);
        return few ? SUMMARY_LOAD_FEW : SUMMARY_LOAD_FULL;
    }
    return p->achieved_rps >= LOAD_SERVED_FRAC * p->offered_rps ? SUMMARY_LOAD_SERVED
                                                                : SUMMARY_LOAD_FULL;
}

const char *limits_stage(const struct summary_point *p, const struct attribution *a)
{
    const char *stage = a->verdict.first >= 0 ? a->stages[a->verdict.first].stage : "";
    return p->verdict.kind == STAGE_NAMED && strcmp(p->verdict.first, stage) == 0 ? stage : "";
}

static struct attribution_gain gain_over(const struct summary_point *p,
                                         const struct attribution *more)
{
    const struct attribution_now now = {p->tok_per_s, p->tok_per_s_lo, p->tok_per_s_hi,
                                        p->verdict.first_frac};
    return attribution_gain_of(more, &now);
}

static struct attribution_gain relief_of(const struct summary_point *p,
                                         const struct run_result *const *runs, size_t count,
                                         const struct attribution *now)
{
    struct scenario_cell relieved;
    struct attribution then;
    const char *stage = limits_stage(p, now);
    if (stage[0] == '\0' || !attribution_relieve(p->cell, stage, &relieved)) {
        return (struct attribution_gain){.known = false, .then = ""};
    }
    attribution_of(&relieved, runs, count, &then);
    return gain_over(p, &then);
}

/* Of all comparable runs those that lie on the curve. */
static size_t runs_of_curve(const struct summary *s, const struct summary_curve *c,
                            const struct run_result *results, uint32_t count,
                            const struct run_result *out[DEMAND_POINTS_MAX])
{
    const struct scenario_cell *first = &s->scenario->cells[c->first];
    size_t kept = 0;
    size_t used = attribution_runs(s->scenario, results, count, first, out);
    for (size_t i = 0; i < used; i++) {
        if (summary_on_curve(s, c, out[i]->cell)) {
            out[kept++] = out[i];
        }
    }
    return kept;
}

static const struct summary_point *point_with(const struct summary_curve *c, uint32_t along)
{
    for (uint32_t i = 0; i < c->points_count; i++) {
        if (c->points[i]->along == along) {
            return c->points[i];
        }
    }
    return NULL;
}

/* What the runs with fewer API servers say of this curve, where the two are compared. */
static void foretell_gain(const struct summary *s, struct summary_curve *c,
                          const struct run_result *results, uint32_t count)
{
    static _Thread_local const struct run_result *runs[DEMAND_POINTS_MAX];
    struct attribution more;
    size_t used = runs_of_curve(s, c->fewer, results, count, runs);
    const struct summary_point *from = point_with(c->fewer, c->gain.cores_to);
    const struct summary_point *to = point_with(c, c->gain.cores_to);
    if (from == NULL || to == NULL) {
        return;
    }
    attribution_of(to->cell, runs, used, &more);
    c->foretold = gain_over(from, &more);
    c->foretold_holds = c->gain.gain >= c->foretold.lo && c->gain.gain <= c->foretold.hi;
}

static void attribute_curve(const struct summary *s, struct summary_curve *c,
                            const struct run_result *results, uint32_t count)
{
    static _Thread_local const struct run_result *runs[DEMAND_POINTS_MAX];
    if (c->points_count == 0) {
        return;
    }
    const struct summary_point *last = c->points[c->points_count - 1];
    size_t used = runs_of_curve(s, c, results, count, runs);
    attribution_of(last->cell, runs, used, &c->attribution);
    c->relief = relief_of(last, runs, used, &c->attribution);
    if (c->fewer != NULL) {
        foretell_gain(s, c, results, count);
    }
    laws_fit(c->cells, c->points_count, s->scenario->scaling.laws, s->scenario->general.seed,
             LAW_DRAWS, &c->laws);
}

static void attribute_point(const struct summary *s, struct summary_point *p,
                            const struct run_result *results, uint32_t count)
{
    static _Thread_local const struct run_result *runs[DEMAND_POINTS_MAX];
    size_t used = attribution_runs(s->scenario, results, count, p->cell, runs);
    p->attributed = p->evidence;
    if (p->attributed) {
        attribution_of(p->cell, runs, used, &p->attribution);
        p->relief = relief_of(p, runs, used, &p->attribution);
    }
}

void limits_attribute(struct summary *s, const struct run_result *results, uint32_t count)
{
    for (uint32_t i = 0; i < s->curves_count; i++) {
        attribute_curve(s, &s->curves[i], results, count);
    }
    for (uint32_t i = 0; i < s->points_count && !s->scaling; i++) {
        attribute_point(s, &s->points[i], results, count);
    }
}
