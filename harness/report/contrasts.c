/*
 * contrasts.c - least and greatest over cells (contrasts.h). Owns the list of quantities and how
 * far apart cells must be for one to be told; driven by verdict.c. Says nothing about causes.
 */
#include "harness/report/contrasts.h"

#include <math.h>
#include <string.h>

#include "harness/report/launching.h"

enum {
    TOLD_MAX = 4,   /* in one sentence, throughput besides */
    FIRST_TOKEN = 3 /* in `quantities` */
};

struct quantity {
    const char *name;
    const char *unit; /* behind a value */
    double (*of)(const struct summary_point *p);
    double apart; /* told from this greatest / least on */
    int decimals; /* -1: a rate */
};

/* Dense ranks take as many steps as their batches are small: only lock-step has an answer here. */
static double rank_steps(const struct summary_point *p)
{
    return topology_lockstep(&p->cell->topology) ? p->rank_steps_per_tok : STATS_UNKNOWN;
}

static double balance(const struct summary_point *p)
{
    return p->cell->topology.engines_count > 1 ? p->rank_jain : STATS_UNKNOWN;
}

static double api_peak(const struct summary_point *p)
{
    uint32_t servers = p->cell->topology.api_servers_count;
    return servers > 1 ? p->api_max_share * servers : STATS_UNKNOWN;
}

static double first_token_ms(const struct summary_point *p)
{
    return p->cell->load.mode == (uint32_t)SCENARIO_LOAD_CLOSED ? STATS_UNKNOWN : p->ttft_p99_ms;
}

static double token_gap_ms(const struct summary_point *p)
{
    return p->itl_mean_ms;
}

static double host_cores(const struct summary_point *p)
{
    return p->host_cores_used;
}

static double launching_threads(const struct summary_point *p)
{
    return p->launch.threads_count;
}

static double launches(const struct summary_point *p)
{
    return p->launches_per_s;
}

static double launching_percent(const struct summary_point *p)
{
    return p->launch.launch_frac * 100;
}

/* Cost of a launch over that at which launching takes as long as the GPU computes. */
static double launch_cost(const struct summary_point *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < p->run->launchers_count; i++) {
        sum += launching_margin_of(&p->run->launchers[i], &p->cell->topology).ratio;
    }
    return p->run->launchers_count > 0 ? sum / p->run->launchers_count : STATS_UNKNOWN;
}

static double throughput(const struct summary_point *p)
{
    return p->tok_per_s;
}

static const struct quantity quantities[] = {
    {"rank-steps a token", "", rank_steps, 1.2, 2},
    {"evenness of engine cores (Jain's index, 1 is even)", "", balance, 1.1, 2},
    {"greatest share of an API server over the mean", "", api_peak, 1.15, 2},
    {"TTFT p99", " ms", first_token_ms, 1.25, 0},
    {"time between tokens", " ms", token_gap_ms, 1.25, 1},
    {"CPU cores in use", "", host_cores, 1.5, 2},
};
/* What curves of throughput do not say. */
static const struct quantity shares[] = {
    {"greatest share of an API server over the mean", "", api_peak, 1.15, 2},
};
/* Where cells differ in how kernels are launched. */
static const struct quantity launching[] = {
    {"launching threads", "", launching_threads, 1.1, 0},
    {"launches/s of all", "", launches, 1.25, -1},
    {"cost of a launch over the critical one", "", launch_cost, 1.25, 2},
    {"time of one in launch calls", " %", launching_percent, 1.25, 0},
};
static const struct quantity rate = {"tokens/s", "", throughput, 1.1, -1};

struct extremes {
    const struct summary_point *least;
    const struct summary_point *greatest;
    uint32_t count;
};

static const char *load_of(const struct summary *s, const struct summary_point *p)
{
    const char *load = scenario_axis_value(s->scenario, p->cell, "load");
    return load != NULL ? load : "";
}

static struct extremes extremes_of(const struct summary *s, const char *load,
                                   const struct quantity *q)
{
    struct extremes e = {.count = 0};
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        if (p->shown_count == 0 || strcmp(load_of(s, p), load) != 0 || !(q->of(p) > 0)) {
            continue;
        }
        e.least = e.count == 0 || q->of(p) < q->of(e.least) ? p : e.least;
        e.greatest = e.count == 0 || q->of(p) > q->of(e.greatest) ? p : e.greatest;
        e.count++;
    }
    return e;
}

static bool apart(const struct extremes *e, const struct quantity *q)
{
    return e->count > 1 && q->of(e->greatest) >= q->apart * q->of(e->least);
}

static void value(struct text *t, const struct summary_point *p, const struct quantity *q)
{
    if (q->decimals < 0) {
        text_rate(t, q->of(p));
    } else {
        text_number(t, q->of(p), q->decimals);
    }
    text_add(t, "%s", q->unit);
}

static void tell(struct text *t, const struct extremes *e, const struct quantity *q)
{
    bool differ = apart(e, q);
    text_add(t, "%s%s%s ", t->used > 0 ? "; " : "", q->name, differ ? "" : " alike,");
    value(t, e->least, q);
    if (differ) {
        text_add(t, " (%s)", e->least->cell->name);
    }
    text_add(t, " to ");
    value(t, e->greatest, q);
    if (differ) {
        text_add(t, " (%s)", e->greatest->cell->name);
    }
}

static void tell_apart(const struct summary *s, const char *load, const struct quantity *list,
                       size_t count, struct text *t)
{
    uint32_t told = 0;
    for (size_t i = 0; i < count && told < TOLD_MAX; i++) {
        struct extremes e = extremes_of(s, load, &list[i]);
        if (apart(&e, &list[i])) {
            tell(t, &e, &list[i]);
            told++;
        }
    }
}

static void tell_group(const struct summary *s, const char *load, struct text *t)
{
    char out[1024];
    struct text part = text_into(out, sizeof out);
    struct extremes all = extremes_of(s, load, &rate);
    struct extremes waits = extremes_of(s, load, &quantities[FIRST_TOKEN]);
    if (all.count < 2) {
        return;
    }
    if (forecast_launching_varies(s)) {
        tell_apart(s, load, launching, sizeof launching / sizeof launching[0], &part);
    }
    if (s->scaling) {
        tell_apart(s, load, shares, sizeof shares / sizeof shares[0], &part);
    } else {
        tell_apart(s, load, quantities, sizeof quantities / sizeof quantities[0], &part);
        tell(&part, &all, &rate);
        if (waits.count > 1 && !apart(&waits, &quantities[FIRST_TOKEN])) {
            tell(&part, &waits, &quantities[FIRST_TOKEN]);
        }
    }
    if (out[0] != '\0') {
        text_add(t, "%sOver %u cells%s%s: %s.", t->used > 0 ? " " : "", all.count,
                 load[0] != '\0' ? " of load " : "", load, out);
    }
}

static void tell_step(const struct summary_point *a, const struct summary_point *b, struct text *t)
{
    if (launch_cost(a) < 1 && launch_cost(b) >= 1) {
        text_add(t, "%sBetween %s and %s launching begins to take longer than the GPU computes.",
                 t->used > 0 ? " " : "", a->cell->name, b->cell->name);
    } else if (a->verdict.kind == STAGE_NAMED && b->verdict.kind == STAGE_NAMED &&
               strcmp(a->verdict.first, b->verdict.first) != 0) {
        text_add(t, "%sBetween %s and %s the limit passes from the %s to the %s.",
                 t->used > 0 ? " " : "", a->cell->name, b->cell->name, text_stage(a->verdict.first),
                 text_stage(b->verdict.first));
    }
}

/* Of a sweep along one axis: where one stage takes over from another as the limit. */
static void tell_passage(const struct summary *s, struct text *t)
{
    const struct summary_point *last = NULL;
    for (uint32_t i = 0; s->scenario->axes_count == 1 && i < s->points_count; i++) {
        if (s->points[i].shown_count == 0) {
            continue;
        }
        if (last != NULL) {
            tell_step(last, &s->points[i], t);
        }
        last = &s->points[i];
    }
}

void contrasts_tell(const struct summary *s, struct text *t)
{
    if (!s->scaling) {
        tell_passage(s, t);
    }
    for (uint32_t i = 0; i < s->points_count; i++) {
        bool seen = false;
        for (uint32_t k = 0; k < i; k++) {
            seen = seen || strcmp(load_of(s, &s->points[k]), load_of(s, &s->points[i])) == 0;
        }
        if (!seen) {
            tell_group(s, load_of(s, &s->points[i]), t);
        }
    }
}
