/*
 * laws.c - owns the fits of laws.h: closed forms where there are any, Levenberg-Marquardt
 * (cminpack) for contention and USL, a scan over where the plateau begins for the two laws that
 * have one. Driven by the report. Must not print, and must not choose a law that the data cannot
 * tell.
 */
#include "harness/analysis/laws.h"

#include <cminpack.h>
#include <math.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/base/status.h"
#include "harness/analysis/stats.h"

enum {
    OBSERVATIONS_MAX = SCALING_CELLS_MAX * SCALING_REPLICATES_MAX,
    CURVE_PARAMETERS_MAX = 3, /* ln gamma, alpha, beta */
    WORK = OBSERVATIONS_MAX * CURVE_PARAMETERS_MAX + 5 * CURVE_PARAMETERS_MAX + OBSERVATIONS_MAX,
    DRAWS_MAX = 1000,
};

#define BEST_RANGE_MAX 1.5
#define FIT_TOLERANCE  1e-10
#define START_ALPHA    0.02
#define START_BETA     0.001

/* One replicate at one count of engine cores. */
struct observation {
    double cores;
    double log_rate;
};

struct observations {
    uint32_t count;
    uint32_t levels_count; /* different counts of engine cores */
    struct observation at[OBSERVATIONS_MAX];
};

static const char *const names[LAWS_COUNT] = {"linear", "contention", "usl", "plateau",
                                              "contention+plateau"};
static const uint32_t parameters_of[LAWS_COUNT] = {1, 2, 3, 2, 3};

const char *law_name(enum law law)
{
    return names[law];
}

/* ---- the laws ---- */

double law_at(enum law law, const struct law_fit *fit, double cores)
{
    (void)law;
    double below = 1.0 + fit->alpha * (cores - 1.0) + fit->beta * cores * (cores - 1.0);
    return fmin(fit->gamma * cores / below, fit->plateau);
}

double law_best_cores(enum law law, const struct law_fit *fit)
{
    if (law == LAW_USL) {
        return fit->beta > 0 && fit->alpha < 1 ? sqrt((1.0 - fit->alpha) / fit->beta)
                                               : (double)INFINITY;
    }
    if (isinf(fit->plateau)) {
        return (double)INFINITY;
    }
    /* Where gamma N / (1 + alpha (N - 1)) reaches the plateau. */
    double slope = fit->gamma - fit->plateau * fit->alpha;
    return slope > 0 ? fit->plateau * (1.0 - fit->alpha) / slope : (double)INFINITY;
}

/* ---- fits ---- */

static double residual_sum(const struct observations *o, enum law law, const struct law_fit *fit)
{
    double sum = 0;
    for (uint32_t i = 0; i < o->count; i++) {
        double r = o->at[i].log_rate - log(law_at(law, fit, o->at[i].cores));
        sum += r * r;
    }
    return sum;
}

/* What the solver sees: observations, and from how many parameters a curve is made. */
struct curve_problem {
    const struct observations *o;
    uint32_t first_count; /* only the first so many observations: those below the plateau */
    int parameters_count;
};

static struct law_fit curve_of(const double *x, int parameters_count)
{
    return (struct law_fit){.gamma = exp(x[0]),
                            .alpha = parameters_count > 1 ? x[1] : 0,
                            .beta = parameters_count > 2 ? x[2] : 0,
                            .plateau = (double)INFINITY};
}

static int curve_residuals(void *problem, int count, int parameters_count, const double *x,
                           double *residuals, int flag)
{
    (void)flag;
    const struct curve_problem *p = problem;
    struct law_fit fit = curve_of(x, parameters_count);
    for (int i = 0; i < count; i++) {
        residuals[i] = p->o->at[i].log_rate - log(law_at(LAW_USL, &fit, p->o->at[i].cores));
    }
    return 0;
}

static double mean_log_worth(const struct observations *o, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += o->at[i].log_rate - log(o->at[i].cores);
    }
    return sum / count;
}

/* gamma, and alpha and beta as far as asked, from the first so many observations. */
static struct law_fit fit_curve(struct curve_problem *p)
{
    static _Thread_local double residuals[OBSERVATIONS_MAX];
    static _Thread_local double work[WORK];
    int pivots[CURVE_PARAMETERS_MAX];
    double x[CURVE_PARAMETERS_MAX] = {mean_log_worth(p->o, p->first_count), START_ALPHA,
                                      START_BETA};
    if (p->parameters_count > 1) {
        (void)lmdif1(curve_residuals, p, (int)p->first_count, p->parameters_count, x, residuals,
                     FIT_TOLERANCE, pivots, work, WORK);
    }
    return curve_of(x, p->parameters_count);
}

/* The plateau begins after each level in turn; the best of these fits is taken. */
static bool fit_plateau(const struct observations *o, enum law law, struct law_fit *out)
{
    double least = (double)INFINITY;
    for (uint32_t i = 1; i < o->count; i++) {
        bool border = o->at[i].cores > o->at[i - 1].cores;
        bool enough = law == LAW_PLATEAU || o->at[i - 1].cores > o->at[0].cores;
        if (!border || !enough) {
            continue;
        }
        struct curve_problem p = {o, i, law == LAW_PLATEAU ? 1 : 2};
        struct law_fit fit = fit_curve(&p);
        double sum = 0;
        for (uint32_t k = i; k < o->count; k++) {
            sum += o->at[k].log_rate;
        }
        fit.plateau = exp(sum / (o->count - i));
        double residual = residual_sum(o, law, &fit);
        if (residual < least) {
            least = residual;
            *out = fit;
        }
    }
    return least < (double)INFINITY;
}

/* Least squares on logarithms: Gaussian likelihood with a variance of its own (one parameter more).
 */
static void judge(const struct observations *o, enum law law, struct law_fit *fit)
{
    double n = o->count;
    double k = parameters_of[law] + 1.0;
    double sum = residual_sum(o, law, fit);
    fit->noise = n > parameters_of[law] ? sqrt(sum / (n - parameters_of[law])) : 0;
    fit->aicc = n - k - 1.0 > 0
                    ? n * log(fmax(sum, 1e-300) / n) + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0)
                    : (double)INFINITY;
    fit->parameters_count = parameters_of[law];
}

static void fit_law(const struct observations *o, enum law law, struct law_fit *out)
{
    *out = (struct law_fit){.aicc = (double)INFINITY};
    if (o->levels_count < parameters_of[law] || o->count <= parameters_of[law]) {
        return;
    }
    struct law_fit fit = *out;
    bool fitted = true;
    if (law == LAW_PLATEAU || law == LAW_CONTENTION_PLATEAU) {
        fitted = fit_plateau(o, law, &fit);
    } else {
        struct curve_problem p = {o, o->count, (int)parameters_of[law]};
        fit = fit_curve(&p);
    }
    if (fitted) {
        judge(o, law, &fit);
        fit.fitted = true;
        *out = fit;
    }
}

/* Contention and coherence cost something: a fit that gains from them only follows the noise. */
static bool eligible(const struct law_fit *fit)
{
    return fit->fitted && fit->alpha >= 0 && fit->beta >= 0;
}

static void weigh(struct laws *l)
{
    double least = (double)INFINITY;
    double sum = 0;
    for (int i = 0; i < LAWS_COUNT; i++) {
        if (eligible(&l->fits[i]) && l->fits[i].aicc < least) {
            least = l->fits[i].aicc;
            l->chosen = (enum law)i;
            l->known = true;
        }
    }
    for (int i = 0; l->known && i < LAWS_COUNT; i++) {
        bool counts = eligible(&l->fits[i]) && !isinf(l->fits[i].aicc);
        l->fits[i].weight = counts ? exp((least - l->fits[i].aicc) / 2.0) : 0;
        sum += l->fits[i].weight;
    }
    for (int i = 0; l->known && i < LAWS_COUNT; i++) {
        l->fits[i].weight /= sum;
    }
}

/* ---- where the chosen law ends ---- */

/* The same law on data drawn from its fit and residuals: its best count of cores varies so much. */
static uint32_t bootstrap(const struct observations *o, const struct laws *l, struct random *random,
                          uint32_t draws, double *best)
{
    static _Thread_local struct observations drawn;
    const struct law_fit *fit = &l->fits[l->chosen];
    uint32_t count = 0;
    for (uint32_t d = 0; d < draws; d++) {
        drawn = (struct observations){.count = o->count, .levels_count = o->levels_count};
        for (uint32_t i = 0; i < o->count; i++) {
            drawn.at[i] = o->at[i];
            drawn.at[i].log_rate =
                log(law_at(l->chosen, fit, o->at[i].cores)) + fit->noise * random_normal(random);
        }
        struct law_fit again;
        fit_law(&drawn, l->chosen, &again);
        if (again.fitted) {
            best[count++] = law_best_cores(l->chosen, &again);
        }
    }
    return count;
}

static void bound_best(const struct observations *o, struct laws *l, uint64_t seed, uint32_t draws)
{
    static _Thread_local double best[DRAWS_MAX];
    struct random random = random_stream(seed, "laws", 0);
    l->best = law_best_cores(l->chosen, &l->fits[l->chosen]);
    l->best_lo = STATS_UNKNOWN;
    l->best_hi = STATS_UNKNOWN;
    uint32_t count = bootstrap(o, l, &random, draws < DRAWS_MAX ? draws : DRAWS_MAX, best);
    if (count == 0) {
        return;
    }
    stats_sort(best, count);
    l->best_lo = stats_quantile(best, count, 0.025);
    l->best_hi = stats_quantile(best, count, 0.975);
    l->best_known = l->best_hi <= BEST_RANGE_MAX * l->cores_max;
}

void laws_fit(const struct scaling_cell *cells, size_t count, uint32_t which, uint64_t seed,
              uint32_t draws, struct laws *out)
{
    static _Thread_local struct observations o;
    ASSERT(count <= SCALING_CELLS_MAX);
    o.count = 0;
    o.levels_count = (uint32_t)count;
    *out = (struct laws){0};
    for (size_t i = 0; i < count; i++) {
        for (uint32_t r = 0; r < cells[i].replicates_count; r++) {
            o.at[o.count++] = (struct observation){cells[i].cores, log(cells[i].rates[r])};
        }
        out->cores_max = cells[i].cores;
    }
    for (int i = 0; i < LAWS_COUNT; i++) {
        if ((which >> i & 1) != 0) {
            fit_law(&o, (enum law)i, &out->fits[i]);
        }
    }
    weigh(out);
    if (out->known) {
        bound_best(&o, out, seed, draws);
    }
}
