/*
 * gate.c - exact rank tests, their bounds and the verdict on a metric (gate.h). Null distributions
 * are counted in integers, so nothing is approximated. Pure functions.
 */
#include "harness/analysis/gate.h"

#include <math.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

enum {
    WALSH_MAX = GATE_RUNS_MAX * (GATE_RUNS_MAX + 1) / 2,
    SHIFTS_MAX = GATE_RUNS_MAX * GATE_RUNS_MAX,
};

static const double power = 0.8; /* of what is called detectable */

/* ---- null distributions ---- */

/* How many outcomes of equal probability give each value 0 .. last of a statistic. */
struct counts {
    size_t last;
    uint64_t ways[SHIFTS_MAX + 1];
};

/* The sum of the ranks 1 .. n whose sign is positive. */
static void count_signed_ranks(size_t n, struct counts *c)
{
    *c = (struct counts){.last = n * (n + 1) / 2, .ways = {1}};
    for (size_t rank = 1; rank <= n; rank++) {
        for (size_t t = c->last; t >= rank; t--) {
            c->ways[t] += c->ways[t - rank];
        }
    }
}

/*
 * The number of pairs (a, b) with a < b of m and n values in random order: the coefficients of the
 * product of (1 - q^(n + i)) / (1 - q^i), i = 1 .. m. Unsigned numbers wrap, and every partial
 * product that matters fits, so the result is exact.
 */
static void count_pairs(size_t m, size_t n, struct counts *c)
{
    *c = (struct counts){.last = m * n, .ways = {1}};
    for (size_t i = 1; i <= m; i++) {
        for (size_t u = c->last; u >= n + i; u--) {
            c->ways[u] -= c->ways[u - n - i];
        }
        for (size_t u = i; u <= c->last; u++) {
            c->ways[u] += c->ways[u - i];
        }
    }
}

static double total_of(const struct counts *c)
{
    double total = 0;
    for (size_t t = 0; t <= c->last; t++) {
        total += (double)c->ways[t];
    }
    return total;
}

/* Probability of `least` or more. */
static double tail_of(const struct counts *c, size_t least)
{
    double sum = 0;
    for (size_t t = least; t <= c->last; t++) {
        sum += (double)c->ways[t];
    }
    return sum / total_of(c);
}

/* How many of the sorted values from an end may lie beyond the truth with probability alpha at
 * most; the next one is the bound. -1: not even none. */
static int64_t cut_of(const struct counts *c, double alpha)
{
    double allowed = alpha * total_of(c) * (1 + 1e-12);
    double sum = 0;
    int64_t cut = -1;
    for (size_t t = 0; t <= c->last; t++) {
        sum += (double)c->ways[t];
        if (sum > allowed) {
            break;
        }
        cut = (int64_t)t;
    }
    return cut;
}

static struct gate_bounds bounds_of(const double *sorted, const struct counts *c, double alpha)
{
    int64_t cut = cut_of(c, alpha);
    if (cut < 0 || (size_t)cut >= c->last) {
        return (struct gate_bounds){.lo = STATS_UNKNOWN, .hi = STATS_UNKNOWN};
    }
    return (struct gate_bounds){.lo = sorted[cut], .hi = sorted[c->last - 1 - (size_t)cut]};
}

static double median_of(const double *sorted, size_t count)
{
    return count == 0 ? STATS_UNKNOWN : 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
}

/* ---- pairs ---- */

/* The averages of each two differences and of each with itself. */
static size_t walsh_averages(const double *d, size_t count, double out[WALSH_MAX])
{
    ASSERT(count <= GATE_RUNS_MAX);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = i; j < count; j++) {
            out[used++] = 0.5 * (d[i] + d[j]);
        }
    }
    stats_sort(out, used);
    return used;
}

double gate_centre(const double *differences, size_t count)
{
    double averages[WALSH_MAX];
    size_t used = walsh_averages(differences, count, averages);
    return median_of(averages, used);
}

struct gate_bounds gate_centre_bounds(const double *differences, size_t count, double alpha)
{
    double averages[WALSH_MAX];
    struct counts c;
    (void)walsh_averages(differences, count, averages);
    count_signed_ranks(count, &c);
    return bounds_of(averages, &c, alpha);
}

/* Averages of exactly 0 count against a difference. */
static size_t positive(const double *values, size_t count)
{
    size_t positive_count = 0;
    for (size_t i = 0; i < count; i++) {
        positive_count += values[i] > 0;
    }
    return positive_count;
}

double gate_signed_rank_p(const double *differences, size_t count)
{
    double averages[WALSH_MAX];
    struct counts c;
    size_t used = walsh_averages(differences, count, averages);
    count_signed_ranks(count, &c);
    return used == 0 ? STATS_UNKNOWN : tail_of(&c, positive(averages, used));
}

double gate_sign_flip_p(const double *differences, size_t count)
{
    ASSERT(count <= GATE_SIGN_FLIP_MAX);
    double observed = 0;
    double magnitude = 0;
    for (size_t i = 0; i < count; i++) {
        observed += differences[i];
        magnitude += fabs(differences[i]);
    }
    /* Sums that are equal but for rounding are equal. */
    double least = observed - 1e-12 * magnitude;
    uint32_t patterns = 1U << count;
    uint32_t reached = 0;
    for (uint32_t pattern = 0; pattern < patterns; pattern++) {
        double sum = 0;
        for (size_t i = 0; i < count; i++) {
            sum += (pattern >> i & 1U) != 0 ? -differences[i] : differences[i];
        }
        reached += sum >= least;
    }
    return count == 0 ? STATS_UNKNOWN : (double)reached / (double)patterns;
}

/* ---- two samples ---- */

static size_t shifts_of(const struct gate_samples *s, double out[SHIFTS_MAX])
{
    ASSERT(s->base_count <= GATE_RUNS_MAX && s->changed_count <= GATE_RUNS_MAX);
    size_t used = 0;
    for (size_t i = 0; i < s->base_count; i++) {
        for (size_t j = 0; j < s->changed_count; j++) {
            out[used++] = s->changed[j] - s->base[i];
        }
    }
    stats_sort(out, used);
    return used;
}

double gate_shift(const struct gate_samples *s)
{
    double shifts[SHIFTS_MAX];
    size_t used = shifts_of(s, shifts);
    return median_of(shifts, used);
}

struct gate_bounds gate_shift_bounds(const struct gate_samples *s, double alpha)
{
    double shifts[SHIFTS_MAX];
    struct counts c;
    (void)shifts_of(s, shifts);
    count_pairs(s->base_count, s->changed_count, &c);
    return bounds_of(shifts, &c, alpha);
}

double gate_mann_whitney_p(const struct gate_samples *s)
{
    double shifts[SHIFTS_MAX];
    struct counts c;
    size_t used = shifts_of(s, shifts);
    count_pairs(s->base_count, s->changed_count, &c);
    return used == 0 ? STATS_UNKNOWN : tail_of(&c, positive(shifts, used));
}

/* ---- failures, several comparisons ---- */

static double log_choose(double n, double k)
{
    int sign;
    return lgamma_r(n + 1, &sign) - lgamma_r(k + 1, &sign) - lgamma_r(n - k + 1, &sign);
}

double gate_fisher_p(const struct gate_failures *f)
{
    ASSERT(f->base_failed <= f->base_count && f->changed_failed <= f->changed_count);
    uint64_t failed = f->base_failed + f->changed_failed;
    uint64_t most = failed < f->changed_count ? failed : f->changed_count;
    double all = log_choose((double)(f->base_count + f->changed_count), (double)failed);
    double p = 0;
    for (uint64_t k = f->changed_failed; k <= most; k++) {
        p += exp(log_choose((double)f->changed_count, (double)k) +
                 log_choose((double)f->base_count, (double)(failed - k)) - all);
    }
    return p < 1 ? p : 1;
}

void gate_holm(const double *p, size_t count, double *adjusted)
{
    size_t compared = 0;
    for (size_t i = 0; i < count; i++) {
        compared += isnan(p[i]) ? 0 : 1;
    }
    /* The k-th smallest of n is multiplied by n - k + 1, and none gets below those before it. */
    for (size_t i = 0; i < count; i++) {
        adjusted[i] = isnan(p[i]) ? STATS_UNKNOWN : 0;
        for (size_t j = 0; j < count && !isnan(p[i]); j++) {
            size_t smaller = 0;
            for (size_t k = 0; k < count; k++) {
                smaller += p[k] < p[j];
            }
            if (p[j] <= p[i]) {
                adjusted[i] = fmax(adjusted[i], fmin(1, p[j] * (double)(compared - smaller)));
            }
        }
    }
}

/* ---- a metric of two versions ---- */

static double level_of(const struct gate_rule *rule)
{
    return rule->alpha / (rule->looks_count > 1 ? rule->looks_count : 1);
}

/* What the tolerance is as a log ratio, towards worse or towards better. */
static double tolerance_of(const struct gate_rule *rule, bool worse)
{
    bool upwards = rule->higher_is_better != worse;
    return upwards ? log1p(rule->tolerance_frac) : -log1p(-rule->tolerance_frac);
}

static double variance_of(const double *values, size_t count, double *dof)
{
    struct stats_mean m = stats_mean_of(values, count);
    *dof = (double)count - 1;
    return m.std_error * m.std_error * (double)count;
}

/*
 * A true worsening that is called a regression with probability `power`, for estimates that err by
 * `std_error`: the bound must exclude 0 and the estimate exceed the tolerance. By Student's t,
 * which the rank tests come close to; never where they cannot reject at all.
 */
static double detectable(const struct gate_rule *rule, double std_error, double dof)
{
    if (!(dof >= 1)) {
        return STATS_UNKNOWN;
    }
    double margin = stats_student_quantile(power, dof) * std_error;
    double sure = stats_student_quantile(1 - level_of(rule), dof) * std_error + margin;
    double worse = fmax(sure, tolerance_of(rule, true) + margin);
    return rule->higher_is_better ? -expm1(-worse) : expm1(worse);
}

static void finish(struct gate_effect *e, const struct gate_rule *rule, double centre,
                   const struct gate_bounds *bounds)
{
    e->change_frac = expm1(centre);
    e->change_lo_frac = expm1(bounds->lo);
    e->change_hi_frac = expm1(bounds->hi);
    if (rule->higher_is_better) {
        double p = e->p_worse;
        e->p_worse = e->p_better;
        e->p_better = p;
    }
    if (e->least_p > level_of(rule)) {
        e->detectable_frac = STATS_UNKNOWN;
    }
}

static double pairs_p(const double *d, uint32_t count)
{
    return count <= GATE_SIGN_FLIP_MAX ? gate_sign_flip_p(d, count) : gate_signed_rank_p(d, count);
}

void gate_compare_pairs(const double *base, const double *changed, uint32_t count,
                        const struct gate_rule *rule, struct gate_effect *effect)
{
    ASSERT(count <= GATE_RUNS_MAX);
    double up[GATE_RUNS_MAX] = {0};
    double down[GATE_RUNS_MAX] = {0};
    double dof;
    for (uint32_t i = 0; i < count; i++) {
        up[i] = log(changed[i] / base[i]);
        down[i] = -up[i];
    }
    struct gate_bounds bounds = gate_centre_bounds(up, count, level_of(rule));
    double variance = variance_of(up, count, &dof);
    *effect =
        (struct gate_effect){.paired = true,
                             .base_count = count,
                             .changed_count = count,
                             .p_worse = pairs_p(up, count),
                             .p_better = pairs_p(down, count),
                             .least_p = ldexp(1, -(int)count),
                             .detectable_frac = detectable(rule, sqrt(variance / count), dof)};
    finish(effect, rule, gate_centre(up, count), &bounds);
}

void gate_compare_unpaired(const struct gate_samples *s, const struct gate_rule *rule,
                           struct gate_effect *effect)
{
    ASSERT(s->base_count <= GATE_RUNS_MAX && s->changed_count <= GATE_RUNS_MAX);
    double base[GATE_RUNS_MAX] = {0};
    double changed[GATE_RUNS_MAX] = {0};
    for (size_t i = 0; i < s->base_count; i++) {
        base[i] = log(s->base[i]);
    }
    for (size_t i = 0; i < s->changed_count; i++) {
        changed[i] = log(s->changed[i]);
    }
    double n = (double)s->base_count;
    double m = (double)s->changed_count;
    struct gate_samples forth = {base, s->base_count, changed, s->changed_count};
    struct gate_samples back = {changed, s->changed_count, base, s->base_count};
    struct gate_bounds bounds = gate_shift_bounds(&forth, level_of(rule));
    double base_dof;
    double changed_dof;
    double squares = variance_of(base, s->base_count, &base_dof) * base_dof;
    squares += variance_of(changed, s->changed_count, &changed_dof) * changed_dof;
    double dof = base_dof + changed_dof;
    double std_error = sqrt(squares / dof * (1 / n + 1 / m));
    *effect = (struct gate_effect){.base_count = (uint32_t)s->base_count,
                                   .changed_count = (uint32_t)s->changed_count,
                                   .p_worse = gate_mann_whitney_p(&forth),
                                   .p_better = gate_mann_whitney_p(&back),
                                   .least_p = exp(-log_choose(n + m, n)),
                                   .detectable_frac = detectable(rule, std_error, dof)};
    finish(effect, rule, gate_shift(&forth), &bounds);
}

enum gate_verdict gate_judge(const struct gate_effect *effect, const struct gate_rule *rule,
                             double p_worse, double p_better)
{
    bool up = rule->higher_is_better;
    double sign = up ? -1 : 1;
    double worse = sign * log1p(effect->change_frac);
    double worse_least = sign * log1p(up ? effect->change_hi_frac : effect->change_lo_frac);
    double worse_most = sign * log1p(up ? effect->change_lo_frac : effect->change_hi_frac);
    double level = level_of(rule);
    if (worse_least > 0 && worse > tolerance_of(rule, true) && p_worse <= level) {
        return GATE_REGRESSION;
    }
    if (worse_most < 0 && -worse > tolerance_of(rule, false) && p_better <= level) {
        return GATE_IMPROVEMENT;
    }
    return worse_most < tolerance_of(rule, true) ? GATE_OK : GATE_INCONCLUSIVE;
}

const char *gate_verdict_name(enum gate_verdict verdict)
{
    static const char *const names[] = {"ok", "improvement", "inconclusive", "regression"};
    return names[verdict];
}

uint32_t gate_pairs_needed(const struct gate_rule *rule, size_t comparisons)
{
    uint32_t pairs = 1;
    while (pairs < GATE_RUNS_MAX && ldexp((double)comparisons, -(int)pairs) > level_of(rule)) {
        pairs++;
    }
    return pairs;
}
