/*
 * search.c - owns the bracket, the bisection, the replicates and the conclusion of search.h. Driven
 * by harness/run and by simulations in tests. Must not ask for a rate that cannot change the
 * answer, and must not take a run for evidence that its driver called invalid.
 */
#include "harness/analysis/search.h"

#include <math.h>

#include "engine/base/random.h"
#include "engine/base/status.h"
#include "harness/analysis/slo.h"
#include "harness/analysis/stats.h"

enum {
    BOOTSTRAPS = 400,
};

#define BRACKET_STEP   1.4142135623730951
#define CLIFF_SIGMAS   3.0
#define SAME_RATE_FRAC 1e-9

const char *search_status_name(enum search_status status)
{
    static const char *const names[] = {
#define X(name, text) [SEARCH_##name] = (text),
        SEARCH_STATUSES(X)
#undef X
    };
    ASSERT(status < SEARCH_STATUSES_COUNT);
    return names[status];
}

void search_init(struct search *s, const struct search_options *options)
{
    ASSERT(options->start_per_s > 0 && options->tolerance_frac > 0);
    ASSERT(options->points_max <= SEARCH_POINTS_MAX);
    ASSERT(options->replicates_count <= SEARCH_REPLICATES_MAX);
    *s = (struct search){.options = *options};
}

/* ---- which rate next ---- */

/* The last two rates of the bracket and one on each side, a step of the bracket away. */
static void begin_last(struct search *s)
{
    double step = s->hi / s->lo;
    s->last[0] = s->lo / step;
    s->last[1] = s->lo;
    s->last[2] = s->hi;
    s->last[3] = s->hi * step;
    s->last_begun = true;
}

static bool next_last(struct search *s, struct search_ask *ask)
{
    if (s->last_asked_count == s->options.replicates_count * SEARCH_LAST_RATES) {
        return false;
    }
    ask->per_s = s->last[s->last_asked_count % SEARCH_LAST_RATES];
    ask->replicate = 1 + s->last_asked_count / SEARCH_LAST_RATES;
    s->last_asked_count++;
    return true;
}

/* The next rate while there is no bracket; 0 beyond the range. */
static double widen(const struct search *s)
{
    const struct search_options *o = &s->options;
    if (!(s->lo > 0) && !(s->hi > 0)) {
        return o->start_per_s;
    }
    if (s->lo > 0) {
        return s->lo < o->most_per_s ? fmin(s->lo * BRACKET_STEP, o->most_per_s) : 0;
    }
    return s->hi > o->least_per_s ? fmax(s->hi / BRACKET_STEP, o->least_per_s) : 0;
}

/* 0: the bracket is as narrow as it is to be, or cannot be had. */
static double next_rate(const struct search *s)
{
    if (s->stopped_by_client || s->runs_count >= s->options.points_max) {
        return 0;
    }
    if (s->retry) {
        return s->asked.per_s;
    }
    if (!(s->lo > 0 && s->hi > 0)) {
        return widen(s);
    }
    bool narrow = s->hi / s->lo <= (1 + s->options.tolerance_frac) * (1 + SAME_RATE_FRAC);
    return narrow ? 0 : sqrt(s->lo * s->hi);
}

bool search_next(struct search *s, struct search_ask *ask)
{
    *ask = (struct search_ask){.replicate = 0};
    if (!s->last_begun) {
        ask->per_s = next_rate(s);
        if (ask->per_s > 0) {
            s->asked = *ask;
            return true;
        }
        if (!(s->lo > 0 && s->hi > 0) || s->stopped_by_client) {
            return false;
        }
        begin_last(s);
    }
    bool more = next_last(s, ask);
    s->asked = *ask;
    return more;
}

static void move_bracket(struct search *s, enum search_outcome outcome)
{
    double rate = s->asked.per_s;
    double half = sqrt(1 + s->options.tolerance_frac);
    switch (outcome) {
    case SEARCH_PASS:
        s->lo = rate;
        break;
    case SEARCH_FAIL:
        s->hi = rate;
        break;
    case SEARCH_UNDECIDED:
        s->lo = fmax(s->lo, rate / half);
        s->hi = s->hi > 0 ? fmin(s->hi, rate * half) : rate * half;
        break;
    case SEARCH_INVALID:
        s->stopped_by_client = s->retry;
        break;
    }
    s->retry = outcome == SEARCH_INVALID && !s->retry;
}

void search_tell(struct search *s, enum search_outcome outcome, double value)
{
    ASSERT(s->runs_count < SEARCH_RUNS_MAX);
    s->runs[s->runs_count++] =
        (struct search_run){s->asked.per_s, s->asked.replicate, outcome, value};
    if (!s->last_begun) {
        move_bracket(s, outcome);
    }
}

/* ---- conclusion ---- */

/* What was seen at one rate. */
struct level {
    double per_s;
    double fails; /* an undecided run is half of one */
    double weight;
    double value_sum;
    double value_sumsq;
    double values_count;
};

struct levels {
    struct level at[SEARCH_RUNS_MAX];
    uint32_t count;
};

static struct level *level_at(struct levels *l, double per_s)
{
    uint32_t i = 0;
    while (i < l->count && l->at[i].per_s < per_s * (1 - SAME_RATE_FRAC)) {
        i++;
    }
    if (i < l->count && l->at[i].per_s <= per_s * (1 + SAME_RATE_FRAC)) {
        return &l->at[i];
    }
    for (uint32_t k = l->count; k > i; k--) {
        l->at[k] = l->at[k - 1];
    }
    l->at[i] = (struct level){.per_s = per_s};
    l->count++;
    return &l->at[i];
}

/* Each run counts as often as its replicate was drawn; those that looked for the bracket once. */
static void gather(const struct search *s, const uint32_t *times, struct levels *out)
{
    out->count = 0;
    for (uint32_t i = 0; i < s->runs_count; i++) {
        const struct search_run *r = &s->runs[i];
        double weight = r->replicate == 0 || times == NULL ? 1 : times[r->replicate];
        if (r->outcome == SEARCH_INVALID || !(weight > 0)) {
            continue;
        }
        struct level *l = level_at(out, r->per_s);
        double fail = r->outcome == SEARCH_FAIL ? 1 : r->outcome == SEARCH_UNDECIDED ? 0.5 : 0;
        l->fails += weight * fail;
        l->weight += weight;
        if (!isnan(r->value)) {
            l->value_sum += weight * r->value;
            l->value_sumsq += weight * r->value * r->value;
            l->values_count += weight;
        }
    }
}

/* Where the monotone share of failures crosses one half, between neighbours in log rate. */
static double crossing(const struct levels *l)
{
    double fails[SEARCH_RUNS_MAX];
    double weights[SEARCH_RUNS_MAX];
    for (uint32_t i = 0; i < l->count; i++) {
        fails[i] = l->at[i].fails / l->at[i].weight;
        weights[i] = l->at[i].weight;
    }
    (void)slo_isotonic(fails, weights, l->count);
    for (uint32_t i = 0; i < l->count; i++) {
        if (fails[i] < 0.5) {
            continue;
        }
        if (i == 0) {
            return l->at[0].per_s;
        }
        double share = (0.5 - fails[i - 1]) / (fails[i] - fails[i - 1]);
        return l->at[i - 1].per_s * pow(l->at[i].per_s / l->at[i - 1].per_s, share);
    }
    return l->count > 0 ? l->at[l->count - 1].per_s : STATS_UNKNOWN;
}

static void bootstrap(const struct search *s, struct search_answer *out)
{
    static const double half = 0.5;
    double rates[BOOTSTRAPS];
    uint32_t replicates = s->last_asked_count / SEARCH_LAST_RATES;
    struct random random = random_stream(s->options.seed, "bootstrap of rates", 0);
    struct levels levels;
    for (uint32_t b = 0; b < BOOTSTRAPS; b++) {
        uint32_t times[SEARCH_REPLICATES_MAX + 2] = {0};
        for (uint32_t k = 0; k < replicates; k++) {
            times[random_range(&random, 1, (int64_t)replicates)]++;
        }
        gather(s, times, &levels);
        rates[b] = crossing(&levels);
    }
    stats_sort(rates, BOOTSTRAPS);
    double tail = (1 - s->options.confidence) * half;
    out->lo = stats_quantile(rates, BOOTSTRAPS, tail);
    out->hi = stats_quantile(rates, BOOTSTRAPS, 1 - tail);
    /* Few replicates that agree show no spread; the bracket is still all that was tested. */
    out->lo = fmin(out->lo, fmin(s->lo, out->per_s));
    out->hi = fmax(out->hi, fmax(s->hi, out->per_s));
}

static double mean_of(const struct level *l)
{
    return l->value_sum / l->values_count;
}

static double variance_of_mean(const struct level *l)
{
    double mean = mean_of(l);
    double n = l->values_count;
    return n > 1 ? fmax(0, l->value_sumsq / n - mean * mean) / (n - 1) : STATS_UNKNOWN;
}

/* The value of `b` is above that of `a` by more than `least` and by more than noise. */
static bool steps_up(const struct level *a, const struct level *b, double least)
{
    double sigma = sqrt(variance_of_mean(a) + variance_of_mean(b));
    double step = mean_of(b) - mean_of(a);
    return step > least && step > least + CLIFF_SIGMAS * sigma; /* false if it is not known */
}

static bool mostly_fails(const struct level *l)
{
    return l->fails > l->weight / 2;
}

static bool is_non_monotone(const struct levels *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        for (uint32_t k = i + 1; k < l->count; k++) {
            if (mostly_fails(&l->at[i]) && !mostly_fails(&l->at[k]) &&
                steps_up(&l->at[k], &l->at[i], 0)) {
                return true;
            }
        }
    }
    return false;
}

/* The index of the first rate past a cliff, 0 if there is none. */
static uint32_t cliff_at(const struct levels *l, double jump)
{
    for (uint32_t i = 1; i < l->count; i++) {
        if (mostly_fails(&l->at[i]) && !mostly_fails(&l->at[i - 1])) {
            return steps_up(&l->at[i - 1], &l->at[i], jump) ? i : 0;
        }
    }
    return 0;
}

static void conclude_unbracketed(const struct search *s, struct search_answer *out)
{
    if (s->lo > 0) {
        out->per_s = s->lo;
        out->lo = s->lo;
        out->status = s->stopped_by_client ? SEARCH_CLIENT_LIMITED : SEARCH_ABOVE_RANGE;
    } else {
        out->hi = s->hi > 0 ? s->hi : STATS_UNKNOWN;
        out->status = s->stopped_by_client ? SEARCH_CLIENT_LIMITED : SEARCH_BELOW_RANGE;
    }
}

void search_conclude(const struct search *s, struct search_answer *out)
{
    struct levels levels;
    gather(s, NULL, &levels);
    *out = (struct search_answer){.status = SEARCH_OK,
                                  .per_s = STATS_UNKNOWN,
                                  .lo = STATS_UNKNOWN,
                                  .hi = STATS_UNKNOWN,
                                  .points_count = levels.count,
                                  .runs_count = s->runs_count};
    if (!(s->lo > 0 && s->hi > 0) || s->stopped_by_client) {
        conclude_unbracketed(s, out);
        return;
    }
    if (s->last_asked_count < SEARCH_LAST_RATES) { /* no whole replicate: the bracket */
        out->per_s = s->lo;
        out->lo = s->lo;
        out->hi = s->hi;
        return;
    }
    out->per_s = crossing(&levels);
    bootstrap(s, out);
    uint32_t cliff = cliff_at(&levels, s->options.jump_frac);
    if (is_non_monotone(&levels)) {
        out->status = SEARCH_NON_MONOTONE;
    } else if (cliff > 0) {
        out->status = SEARCH_CLIFF;
        out->per_s = levels.at[cliff - 1].per_s;
        out->lo = fmin(out->lo, out->per_s);
    }
}
