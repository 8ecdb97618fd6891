/*
 * regression.c - owns the arithmetic of regression.h. Driven by the calibration. There are few
 * terms, so that the non-negative optimum is found among the least squares of all their subsets;
 * no search can end beside it.
 */
#include "harness/analysis/regression.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/base/status.h"
#include "harness/analysis/stats.h"

enum {
    N = REGRESSION_TERMS_MAX,
    DRAWS = 400,
    HUBER_ROUNDS = 4,
    SWEEPS = 30,
};

#define UNKNOWN      STATS_UNKNOWN
#define HUBER        1.345  /* 95 % as efficient as least squares where nothing is disturbed */
#define MAD_TO_SIGMA 1.4826 /* of a normal distribution */
#define FLOOR_FRAC   0.1 /* of the median size: what the error of a small one is taken to be of */
#define SINGULAR     1e-12
#define LEAST_LAMBDA 1e-14
#define PROPORTION   0.5 /* Belsley: of a variance, what makes a term part of a dependency */

/* Sums of squares and products of weighted rows. */
struct normal {
    double xx[N][N];
    double xy[N];
};

struct work {
    const struct regression_rows *rows;
    double *scale;  /* [rows]: 1 over what the error of a row is like */
    double *weight; /* [rows]: less than 1 where a row lies far off */
    double *errors; /* [rows] */
    size_t *picked; /* [rows]: rows of this draw */
};

/* ---- least squares ---- */

static void add_row(struct normal *n, const double *x, double y, uint32_t terms, double weight)
{
    for (uint32_t i = 0; i < terms; i++) {
        n->xy[i] += weight * x[i] * y;
        for (uint32_t k = 0; k < terms; k++) {
            n->xx[i][k] += weight * x[i] * x[k];
        }
    }
}

static struct normal normal_of(const struct work *w)
{
    const struct regression_rows *r = w->rows;
    struct normal n = {.xy = {0}};
    for (size_t i = 0; i < r->rows_count; i++) {
        size_t at = w->picked[i];
        double weight = w->weight[at] * w->scale[at] * w->scale[at];
        add_row(&n, &r->x[at * r->terms_count], r->y[at], r->terms_count, weight);
    }
    return n;
}

/* Cholesky, in place. False: the terms of the subset depend on each other. */
static bool factor(double a[N][N], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        double whole = a[i][i];
        for (uint32_t k = 0; k < i; k++) {
            whole -= a[i][k] * a[i][k];
        }
        if (!(whole > SINGULAR * a[i][i])) {
            return false;
        }
        a[i][i] = sqrt(whole);
        for (uint32_t j = i + 1; j < count; j++) {
            double sum = a[j][i];
            for (uint32_t k = 0; k < i; k++) {
                sum -= a[j][k] * a[i][k];
            }
            a[j][i] = sum / a[i][i];
        }
    }
    return true;
}

static void solve_factored(double a[N][N], uint32_t count, double *b)
{
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            b[i] -= a[i][k] * b[k];
        }
        b[i] /= a[i][i];
    }
    for (uint32_t i = count; i-- > 0;) {
        for (uint32_t k = i + 1; k < count; k++) {
            b[i] -= a[k][i] * b[k];
        }
        b[i] /= a[i][i];
    }
}

/* Least squares of the terms in `subset`. What it takes off the sum of squares; negative: there is
 * no solution of at least 0. */
static double solve_subset(const struct normal *n, uint32_t terms, uint32_t subset, double *out)
{
    double a[N][N];
    double b[N];
    uint32_t index[N];
    uint32_t count = 0;
    double gain = 0;
    memset(out, 0, N * sizeof *out);
    for (uint32_t i = 0; i < terms; i++) {
        if ((subset >> i & 1U) != 0) {
            index[count++] = i;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        b[i] = n->xy[index[i]];
        for (uint32_t k = 0; k < count; k++) {
            a[i][k] = n->xx[index[i]][index[k]];
        }
    }
    if (!factor(a, count)) {
        return -1;
    }
    solve_factored(a, count, b);
    for (uint32_t i = 0; i < count; i++) {
        if (!(b[i] >= 0)) {
            return -1;
        }
        out[index[i]] = b[i];
        gain += b[i] * n->xy[index[i]];
    }
    return gain;
}

static void solve(const struct normal *n, uint32_t terms, double best[N])
{
    double at[N];
    double best_gain = 0;
    memset(best, 0, N * sizeof *best);
    for (uint32_t subset = 1; subset < 1U << terms; subset++) {
        double gain = solve_subset(n, terms, subset, at);
        if (gain > best_gain) {
            best_gain = gain;
            memcpy(best, at, sizeof at);
        }
    }
}

static double fitted(const struct regression_rows *r, size_t row, const double *terms)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->terms_count; i++) {
        sum += r->x[row * r->terms_count + i] * terms[i];
    }
    return sum;
}

/* Huber's weights: rows far off count as if they were nearer. */
static void weigh(struct work *w, const double *terms)
{
    const struct regression_rows *r = w->rows;
    for (size_t i = 0; i < r->rows_count; i++) {
        size_t at = w->picked[i];
        w->errors[i] = fabs(fitted(r, at, terms) - r->y[at]) * w->scale[at];
    }
    stats_sort(w->errors, r->rows_count);
    double sigma = MAD_TO_SIGMA * stats_quantile(w->errors, r->rows_count, 0.5);
    for (size_t i = 0; i < r->rows_count; i++) {
        double off = fabs(fitted(r, i, terms) - r->y[i]) * w->scale[i];
        w->weight[i] = off > HUBER * sigma && sigma > 0 ? HUBER * sigma / off : 1;
    }
}

static void fit_picked(struct work *w, double terms[N])
{
    for (size_t i = 0; i < w->rows->rows_count; i++) {
        w->weight[i] = 1;
    }
    for (int round = 0; round < HUBER_ROUNDS; round++) {
        struct normal n = normal_of(w);
        solve(&n, w->rows->terms_count, terms);
        weigh(w, terms);
    }
}

/* ---- what can be told apart ---- */

/* One rotation that makes a[p][q] zero; `vectors` turns with it. */
static void rotate(double a[N][N], double vectors[N][N], uint32_t count, uint32_t p, uint32_t q)
{
    double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
    double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1);
    double s = t * c;
    for (uint32_t k = 0; k < count; k++) {
        double kp = a[k][p];
        double kq = a[k][q];
        a[k][p] = c * kp - s * kq;
        a[k][q] = s * kp + c * kq;
    }
    for (uint32_t k = 0; k < count; k++) {
        double pk = a[p][k];
        double qk = a[q][k];
        a[p][k] = c * pk - s * qk;
        a[q][k] = s * pk + c * qk;
        double vp = vectors[k][p];
        double vq = vectors[k][q];
        vectors[k][p] = c * vp - s * vq;
        vectors[k][q] = s * vp + c * vq;
    }
}

/* Every element beside the diagonal once. */
static void sweep(double a[N][N], double vectors[N][N], uint32_t count)
{
    for (uint32_t p = 0; p + 1 < count; p++) {
        for (uint32_t q = p + 1; q < count; q++) {
            if (fabs(a[p][q]) > LEAST_LAMBDA) {
                rotate(a, vectors, count, p, q);
            }
        }
    }
}

/* Eigenvalues end on the diagonal of `a`, their vectors in the columns of `vectors`. */
static void jacobi(double a[N][N], double vectors[N][N], uint32_t count)
{
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t k = 0; k < N; k++) {
            vectors[i][k] = i == k ? 1 : 0;
        }
    }
    for (int i = 0; i < SWEEPS; i++) {
        sweep(a, vectors, count);
    }
}

/* Terms that one nearly constant combination of columns takes most of their variance from. */
static uint32_t dependent_terms(double a[N][N], double vectors[N][N], uint32_t count, uint32_t k)
{
    uint32_t mask = 0;
    for (uint32_t j = 0; j < count; j++) {
        double all = 0;
        for (uint32_t i = 0; i < count; i++) {
            all += vectors[j][i] * vectors[j][i] / fmax(a[i][i], LEAST_LAMBDA);
        }
        double part = vectors[j][k] * vectors[j][k] / fmax(a[k][k], LEAST_LAMBDA);
        mask |= part > PROPORTION * all ? 1U << j : 0;
    }
    return mask;
}

/* `used`: the terms that occur; `n` holds their rows as they were weighted. */
static void diagnose(const struct normal *n, const uint32_t *used, uint32_t count,
                     struct regression *out)
{
    double a[N][N];
    double vectors[N][N];
    double most = 0;
    double least = (double)INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < count; k++) {
            double lengths = sqrt(n->xx[used[i]][used[i]] * n->xx[used[k]][used[k]]);
            a[i][k] = n->xx[used[i]][used[k]] / lengths;
        }
    }
    jacobi(a, vectors, count);
    for (uint32_t i = 0; i < count; i++) {
        most = fmax(most, a[i][i]);
        least = fmin(least, fmax(a[i][i], LEAST_LAMBDA));
    }
    out->condition = sqrt(most / least);
    for (uint32_t k = 0; k < count; k++) {
        if (sqrt(most / fmax(a[k][k], LEAST_LAMBDA)) <= REGRESSION_CONDITION_MAX) {
            continue;
        }
        uint32_t mask = dependent_terms(a, vectors, count, k);
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t j = 0; j < count; j++) {
                bool both = (mask >> i & 1U) != 0 && (mask >> j & 1U) != 0 && i != j;
                out->terms[used[i]].confused |= both ? 1U << used[j] : 0;
            }
        }
    }
}

/* ---- all of it ---- */

/* Windows drawn with replacement. */
static void bootstrap(struct work *w, uint64_t seed, const uint32_t *used, uint32_t count,
                      struct regression *out)
{
    struct random random = random_stream(seed, "regression", 0);
    size_t rows = w->rows->rows_count;
    double *values = calloc((size_t)N * DRAWS, sizeof *values);
    ASSERT(values != NULL);
    for (size_t draw = 0; draw < DRAWS; draw++) {
        double terms[N];
        for (size_t i = 0; i < rows; i++) {
            w->picked[i] = (size_t)random_range(&random, 0, (int64_t)rows - 1);
        }
        fit_picked(w, terms);
        for (uint32_t i = 0; i < N; i++) {
            values[(size_t)i * DRAWS + draw] = terms[i];
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        double *of_term = &values[(size_t)used[i] * DRAWS];
        stats_sort(of_term, DRAWS);
        out->terms[used[i]].lo = stats_quantile(of_term, DRAWS, 0.025);
        out->terms[used[i]].hi = stats_quantile(of_term, DRAWS, 0.975);
    }
    free(values);
}

static void scale_rows(struct work *w)
{
    const struct regression_rows *r = w->rows;
    memcpy(w->errors, r->size, r->rows_count * sizeof *r->size);
    stats_sort(w->errors, r->rows_count);
    double floor = FLOOR_FRAC * stats_quantile(w->errors, r->rows_count, 0.5);
    for (size_t i = 0; i < r->rows_count; i++) {
        double size = r->size[i] + floor;
        w->scale[i] = size > 0 ? 1 / size : 1;
    }
}

/* All rows, each once. */
static struct work work_on(const struct regression_rows *rows)
{
    struct work w = {
        .rows = rows,
        .scale = calloc(rows->rows_count, sizeof *w.scale),
        .weight = calloc(rows->rows_count, sizeof *w.weight),
        .errors = calloc(rows->rows_count, sizeof *w.errors),
        .picked = calloc(rows->rows_count, sizeof *w.picked),
    };
    ASSERT(w.scale != NULL && w.weight != NULL && w.errors != NULL && w.picked != NULL);
    scale_rows(&w);
    for (size_t i = 0; i < rows->rows_count; i++) {
        w.picked[i] = i;
    }
    return w;
}

static void work_free(struct work *w)
{
    free(w->scale);
    free(w->weight);
    free(w->errors);
    free(w->picked);
}

static double error_of(struct work *w, const double *terms)
{
    const struct regression_rows *r = w->rows;
    size_t known = 0;
    for (size_t i = 0; i < r->rows_count; i++) {
        if (r->size[i] > 0) {
            w->errors[known++] = fabs(fitted(r, i, terms) - r->y[i]) / r->size[i];
        }
    }
    stats_sort(w->errors, known);
    return known > 0 ? stats_quantile(w->errors, known, 0.5) : UNKNOWN;
}

static uint32_t used_terms(const struct regression_rows *r, uint32_t used[N])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->terms_count; i++) {
        bool any = false;
        for (size_t row = 0; row < r->rows_count; row++) {
            any = any || r->x[row * r->terms_count + i] > 0;
        }
        if (any) {
            used[count++] = i;
        }
    }
    return count;
}

void regression_fit(const struct regression_rows *rows, uint64_t seed, struct regression *out)
{
    uint32_t used[N];
    double terms[N];
    ASSERT(rows->terms_count <= N && rows->rows_count <= REGRESSION_ROWS_MAX);
    *out = (struct regression){.condition = UNKNOWN, .error_frac = UNKNOWN};
    for (uint32_t i = 0; i < N; i++) {
        out->terms[i] = (struct regression_term){UNKNOWN, UNKNOWN, UNKNOWN, 0};
    }
    uint32_t count = used_terms(rows, used);
    if (count == 0 || rows->rows_count <= count) {
        return;
    }
    struct work w = work_on(rows);
    fit_picked(&w, terms);
    struct normal n = normal_of(&w);
    diagnose(&n, used, count, out);
    for (uint32_t i = 0; i < count; i++) {
        out->terms[used[i]].value = terms[used[i]];
    }
    out->error_frac = error_of(&w, terms);
    bootstrap(&w, seed, used, count, out);
    work_free(&w);
}

double regression_distance(const struct regression_rows *rows)
{
    uint32_t used[N];
    double terms[N];
    double sum = 0;
    uint32_t count = used_terms(rows, used);
    if (count == 0 || rows->rows_count <= count) {
        return UNKNOWN;
    }
    struct work w = work_on(rows);
    fit_picked(&w, terms);
    for (size_t i = 0; i < rows->rows_count; i++) {
        sum += fabs(fitted(rows, i, terms) - rows->y[i]) * w.scale[i];
    }
    work_free(&w);
    return sum / (double)rows->rows_count;
}

double regression_of(const struct regression *fit, const double *x, uint32_t terms_count)
{
    double sum = 0;
    for (uint32_t i = 0; i < terms_count; i++) {
        sum += isnan(fit->terms[i].value) ? 0 : x[i] * fit->terms[i].value;
    }
    return sum;
}
