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

static bool loads_differ(const struct demand_point *points, size_t count)
{
    double lo = INFINITY;
    double hi = 0;
    for (size_t i = 0; i < count; i++) {
        lo = fmin(lo, points[i].rate);
        hi = fmax(hi, points[i].rate);
    }
    return count >= 2 && hi > lo * (1.0 + SAME_RATE);
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
        for (size_t i = 0; i < count; i++) {
            picked[i] = (uint32_t)random_range(&random, 0, (int64_t)count - 1);
        }
        struct line line = least_squares(points, picked, count);
        if (!isnan(line.slope)) {
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

void demand_fit(const struct demand_point *points, size_t count, double servers, uint64_t seed,
                struct demand *out)
{
    uint32_t all[DEMAND_POINTS_MAX];
    ASSERT(count <= DEMAND_POINTS_MAX && servers > 0);
    *out = (struct demand){.demand_s = UNKNOWN,
                           .lo_s = UNKNOWN,
                           .hi_s = UNKNOWN,
                           .idle_busy_count = UNKNOWN,
                           .ceiling_rate = UNKNOWN,
                           .ceiling_lo = UNKNOWN,
                           .ceiling_hi = UNKNOWN};
    if (!loads_differ(points, count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        all[i] = (uint32_t)i;
    }
    struct line line = least_squares(points, all, count);
    bootstrap(points, count, servers, seed, out);
    out->demand_s = line.slope;
    out->idle_busy_count = line.intercept;
    out->ceiling_rate = ceiling_of(line, servers);
    out->spins = line.intercept > IDLE_BUSY * servers || !(out->lo_s > 0);
    out->known = !out->spins;
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

/* Twice the first stage's servers: it is full at twice its ceiling, unless the next is full before.
 */
static void predict_gain(const struct demand *first, const struct demand *next, double rate,
                         struct demand_verdict *out)
{
    double limit = 2.0 * first->ceiling_rate;
    double limit_lo = 2.0 * first->ceiling_lo;
    double limit_hi = 2.0 * first->ceiling_hi;
    if (next != NULL) {
        limit = fmin(limit, next->ceiling_rate);
        limit_lo = fmin(limit_lo, next->ceiling_lo);
        limit_hi = fmin(limit_hi, next->ceiling_hi);
    }
    out->gain = fmax(0, limit / rate - 1.0);
    out->gain_lo = isnan(limit_lo) ? UNKNOWN : fmax(0, limit_lo / rate - 1.0);
    out->gain_hi = isnan(limit_hi) ? UNKNOWN : fmax(0, limit_hi / rate - 1.0);
}

void demand_judge(const struct demand_stage *stages, size_t count, double rate_max,
                  struct demand_verdict *out)
{
    *out = (struct demand_verdict){.kind = DEMAND_UNEXPLAINED,
                                   .first = lowest_ceiling(stages, count, -1),
                                   .next = -1,
                                   .explained_frac = UNKNOWN,
                                   .gain = UNKNOWN,
                                   .gain_lo = UNKNOWN,
                                   .gain_hi = UNKNOWN};
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
    predict_gain(&first->demand, next == NULL ? NULL : &next->demand, rate_max, out);
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
