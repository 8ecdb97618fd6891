/*
 * demand.c - owns the arithmetic of demand.h: least squares of busy time on throughput, a bootstrap
 * over runs, and the judgement over stages. Driven by the report. Must not take a stage that spins
 * for one that works.
 */
#include "harness/analysis/demand.h"

#include <math.h>

#include "engine/base/random.h"
#include "engine/base/status.h"
#include "harness/analysis/stats.h"

enum {
    DRAWS = 400
};

#define USE_LIMIT 0.85
#define LEAD      0.05
#define IDLE_BUSY 0.9  /* of its servers busy without work: it spins */
#define SAME_RATE 0.02 /* rates closer than this, relatively, are one load */
#define UNKNOWN   STATS_UNKNOWN

struct line {
    double slope;
    double intercept;
};

static struct line least_squares(const struct demand_point *points, const uint32_t *picked,
                                 size_t count)
{
    double x = 0;
    double y = 0;
    double xx = 0;
    double xy = 0;
    for (size_t i = 0; i < count; i++) {
        const struct demand_point *p = &points[picked[i]];
        x += p->rate / (double)count;
        y += p->busy_count / (double)count;
    }
    for (size_t i = 0; i < count; i++) {
        const struct demand_point *p = &points[picked[i]];
        xx += (p->rate - x) * (p->rate - x);
        xy += (p->rate - x) * (p->busy_count - y);
    }
    double slope = xx > 0 ? xy / xx : UNKNOWN;
    return (struct line){slope, y - slope * x};
}

/* Counted up to three, which is all that matters: none, a line, a line that may be wrong. */
static int loads_count(const struct demand_point *points, size_t count)
{
    double lo = (double)INFINITY;
    double hi = 0;
    for (size_t i = 0; i < count; i++) {
        lo = fmin(lo, points[i].rate);
        hi = fmax(hi, points[i].rate);
    }
    if (count < 2 || hi <= lo * (1.0 + SAME_RATE)) {
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        if (points[i].rate > lo * (1.0 + SAME_RATE) && points[i].rate * (1.0 + SAME_RATE) < hi) {
            return 3;
        }
    }
    return 2;
}

static double worst_of(const struct demand_point *points, size_t count)
{
    double top = 0;
    double worst = UNKNOWN;
    for (size_t i = 0; i < count; i++) {
        top = fmax(top, points[i].rate);
    }
    for (size_t i = 0; i < count; i++) {
        if (points[i].rate >= top / 2) {
            worst = fmax(worst, points[i].busy_count / points[i].rate);
        }
    }
    return worst;
}

static double ceiling_of(struct line line, double servers)
{
    return line.slope > 0 ? (servers - line.intercept) / line.slope : (double)INFINITY;
}

/* Runs are drawn with replacement; draws that hold one load only say nothing and are repeated. */
static void bootstrap(const struct demand_point *points, size_t count, double servers,
                      uint64_t seed, struct demand *out)
{
    struct random random = random_stream(seed, "demand", 0);
    static _Thread_local double slopes[DRAWS];
    static _Thread_local double ceilings[DRAWS];
    uint32_t picked[DEMAND_POINTS_MAX];
    size_t drawn = 0;
    for (int tries = 0; drawn < DRAWS && tries < 4 * DRAWS; tries++) {
        double lo = (double)INFINITY;
        double hi = 0;
        for (size_t i = 0; i < count; i++) {
            picked[i] = (uint32_t)random_range(&random, 0, (int64_t)count - 1);
            lo = fmin(lo, points[picked[i]].rate);
            hi = fmax(hi, points[picked[i]].rate);
        }
        struct line line = least_squares(points, picked, count);
        if (hi > lo * (1.0 + SAME_RATE)) {
            slopes[drawn] = line.slope;
            ceilings[drawn++] = ceiling_of(line, servers);
        }
    }
    if (drawn < DRAWS / 2) {
        return;
    }
    stats_sort(slopes, drawn);
    stats_sort(ceilings, drawn);
    out->lo_s = stats_quantile(slopes, drawn, 0.025);
    out->hi_s = stats_quantile(slopes, drawn, 0.975);
    out->ceiling_lo = stats_quantile(ceilings, drawn, 0.025);
    out->ceiling_hi = stats_quantile(ceilings, drawn, 0.975);
}

static struct demand unknown_demand(double servers)
{
    return (struct demand){.demand_s = UNKNOWN,
                           .lo_s = UNKNOWN,
                           .hi_s = UNKNOWN,
                           .idle_busy_count = UNKNOWN,
                           .worst_s = UNKNOWN,
                           .servers = servers,
                           .ceiling_rate = UNKNOWN,
                           .ceiling_lo = UNKNOWN,
                           .ceiling_hi = UNKNOWN};
}

void demand_fit(const struct demand_point *points, size_t count, double servers, uint64_t seed,
                struct demand *out)
{
    uint32_t all[DEMAND_POINTS_MAX];
    ASSERT(count <= DEMAND_POINTS_MAX && servers > 0);
    *out = unknown_demand(servers);
    int loads = loads_count(points, count);
    if (loads < 2) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        all[i] = (uint32_t)i;
    }
    struct line line = least_squares(points, all, count);
    if (loads > 2) {
        bootstrap(points, count, servers, seed, out);
    }
    out->demand_s = line.slope;
    out->idle_busy_count = line.intercept;
    out->worst_s = worst_of(points, count);
    out->ceiling_rate = ceiling_of(line, servers);
    out->spins = line.intercept > IDLE_BUSY * servers || !(line.slope > 0) || out->lo_s <= 0;
    out->known = !out->spins;
}

void demand_of_use(const struct demand_point *points, size_t count, double servers,
                   struct demand *out)
{
    double ratios[DEMAND_POINTS_MAX];
    ASSERT(count <= DEMAND_POINTS_MAX && servers > 0);
    *out = unknown_demand(servers);
    for (size_t i = 0; i < count; i++) {
        ratios[i] = points[i].busy_count / points[i].rate;
    }
    struct stats_mean m = stats_mean_of(ratios, count);
    if (!(m.mean > 0)) {
        return;
    }
    out->known = true;
    out->demand_s = m.mean;
    out->lo_s = m.lo;
    out->hi_s = m.hi;
    out->idle_busy_count = 0;
    out->worst_s = worst_of(points, count);
    out->ceiling_rate = servers / m.mean;
    out->ceiling_lo = servers / m.hi;
    out->ceiling_hi = m.lo > 0 ? servers / m.lo : UNKNOWN;
}

struct demand demand_at(const struct demand *d, double servers)
{
    struct demand out = *d;
    double factor = servers / d->servers;
    out.servers = servers;
    out.ceiling_rate *= factor;
    out.ceiling_lo *= factor;
    out.ceiling_hi *= factor;
    if (d->known && servers > d->servers && !isnan(out.ceiling_lo)) {
        double as_one = (servers - d->idle_busy_count) / d->demand_s;
        double lo = as_one * d->ceiling_lo / d->ceiling_rate;
        double hi = as_one * d->ceiling_hi / d->ceiling_rate;
        out.ceiling_lo = fmin(out.ceiling_lo, fmin(lo, servers / d->worst_s));
        out.ceiling_hi = fmax(out.ceiling_hi, hi);
    }
    return out;
}

/* ---- judgement ---- */

static int lowest_ceiling(const struct demand_stage *stages, size_t count, int except)
{
    int lowest = -1;
    for (size_t i = 0; i < count; i++) {
        bool better =
            stages[i].demand.known && (int)i != except &&
            (lowest < 0 || stages[i].demand.ceiling_rate < stages[lowest].demand.ceiling_rate);
        lowest = better ? (int)i : lowest;
    }
    return lowest;
}

struct demand_capacity demand_capacity_of(const struct demand_stage *stages, size_t count)
{
    struct demand_capacity c = {
        .first = lowest_ceiling(stages, count, -1), .rate = UNKNOWN, .lo = UNKNOWN, .hi = UNKNOWN};
    if (c.first < 0) {
        return c;
    }
    const struct demand *first = &stages[c.first].demand;
    c.rate = first->ceiling_rate;
    c.lo = first->ceiling_lo;
    c.hi = first->ceiling_hi;
    for (size_t i = 0; i < count && !isnan(c.lo); i++) {
        if (stages[i].demand.known) {
            c.lo = fmin(c.lo, stages[i].demand.ceiling_lo);
            c.hi = fmin(c.hi, stages[i].demand.ceiling_hi);
        }
    }
    return c;
}

void demand_judge(const struct demand_stage *stages, size_t count, double rate_max,
                  struct demand_verdict *out)
{
    *out = (struct demand_verdict){.kind = DEMAND_UNEXPLAINED,
                                   .first = lowest_ceiling(stages, count, -1),
                                   .next = -1,
                                   .explained_frac = UNKNOWN};
    if (out->first < 0) {
        return;
    }
    out->next = lowest_ceiling(stages, count, out->first);
    const struct demand_stage *first = &stages[out->first];
    const struct demand_stage *next = out->next < 0 ? NULL : &stages[out->next];
    out->explained_frac = rate_max / first->demand.ceiling_rate;
    if (!(first->use_lo >= USE_LIMIT)) {
        return;
    }
    bool close = next != NULL && next->use_lo >= USE_LIMIT - LEAD &&
                 next->demand.ceiling_rate < first->demand.ceiling_rate * (1.0 + LEAD);
    out->kind = close ? DEMAND_MIXED : DEMAND_ONE;
}

struct demand_elasticity demand_elasticity_of(const double *base_rates, const double *slowed_rates,
                                              size_t pairs, double slowdown)
{
    double values[DEMAND_POINTS_MAX];
    ASSERT(pairs <= DEMAND_POINTS_MAX && slowdown > 1);
    for (size_t i = 0; i < pairs; i++) {
        values[i] = -log(slowed_rates[i] / base_rates[i]) / log(slowdown);
    }
    struct stats_mean m = stats_mean_of(values, pairs);
    return (struct demand_elasticity){m.mean, m.lo, m.hi};
}
