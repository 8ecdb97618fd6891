/*
 * comparison.c - from the rows of two sets of runs to verdicts (comparison.h): which runs belong
 * together, which are left out, and why a metric cannot be judged. Prints nothing.
 */
#include "harness/report/comparison.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/analysis/stats.h"

enum column {
    CELL,
    START,
    SEED,
    VALID,
    OK_COUNT,
    FAIL_COUNT,
    HOST,
    KERNEL,
    CPU_MODEL,
    GOVERNOR,
    CONFIG,
    COLUMNS_FIXED
};

static const char *const fixed_columns[COLUMNS_FIXED] = {
    [CELL] = "cell",         [START] = "start_utc",    [SEED] = "seed",
    [VALID] = "valid",       [OK_COUNT] = "ok_count",  [FAIL_COUNT] = "fail_count",
    [HOST] = "host",         [KERNEL] = "kernel",      [CPU_MODEL] = "cpu_model",
    [GOVERNOR] = "governor", [CONFIG] = "config_hash",
};

/* One run of either side. */
struct run {
    const struct past_runs *side;
    uint32_t row;
    bool changed;
};

/* The runs of one cell; with pairs, 2 k and 2 k + 1 belong together. */
struct group {
    struct run runs[2 * GATE_RUNS_MAX];
    uint32_t runs_count;
    bool paired;
    const char *refused; /* why nothing can be concluded; NULL: it can */
};

static const char *field(const struct run *run, enum column column)
{
    return past_runs_field(run->side, run->row, (uint32_t)column);
}

static bool usable(const struct run *run)
{
    return strcmp(field(run, VALID), "1") == 0;
}

/* ---- which runs belong together ---- */

static int by_start(const void *a, const void *b)
{
    const struct run *x = a;
    const struct run *y = b;
    int order = strcmp(field(x, START), field(y, START)); /* ISO 8601 sorts as text */
    if (order != 0) {
        return order;
    }
    return x->changed != y->changed ? (x->changed ? 1 : -1) : (x->row > y->row) - (x->row < y->row);
}

static int by_seed(const void *a, const void *b)
{
    const struct run *x = a;
    const struct run *y = b;
    int order = strcmp(field(x, SEED), field(y, SEED));
    return order != 0 ? order : (x->changed ? 1 : 0) - (y->changed ? 1 : 0);
}

static bool all_pairs(const struct group *g)
{
    bool pairs = g->runs_count > 0 && g->runs_count % 2 == 0;
    for (uint32_t i = 0; i + 1 < g->runs_count && pairs; i += 2) {
        pairs = g->runs[i].changed != g->runs[i + 1].changed &&
                strcmp(field(&g->runs[i], SEED), field(&g->runs[i + 1], SEED)) == 0;
    }
    return pairs;
}

/* A simulated row names no host. */
static bool simulated(const struct run *run)
{
    return field(run, HOST)[0] == '\0';
}

static const char *host_difference(const struct group *g)
{
    static const struct {
        enum column column;
        const char *why;
    } parts[] = {{HOST, "measured on different machines"},
                 {KERNEL, "measured under different kernels"},
                 {CPU_MODEL, "measured on different CPUs"},
                 {GOVERNOR, "measured under different frequency governors"}};
    for (uint32_t i = 1; i < g->runs_count; i++) {
        if (simulated(&g->runs[i]) != simulated(&g->runs[0])) {
            return "some runs were simulated, others measured";
        }
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
            if (strcmp(field(&g->runs[i], parts[k].column), field(&g->runs[0], parts[k].column)) !=
                0) {
                return parts[k].why;
            }
        }
    }
    return NULL;
}

static enum status gather(struct group *g, const struct past_runs *side, bool changed,
                          const char *cell, struct error *error)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < side->rows_count; i++) {
        if (strcmp(past_runs_field(side, i, CELL), cell) != 0) {
            continue;
        }
        if (++count > GATE_RUNS_MAX) {
            return error_set(error, STATUS_INVALID, "cell '%s' has more than %d runs", cell,
                             GATE_RUNS_MAX);
        }
        g->runs[g->runs_count++] = (struct run){side, i, changed};
    }
    return STATUS_OK;
}

static void arrange(struct group *g)
{
    uint32_t of_side[2] = {0, 0};
    for (uint32_t i = 0; i < g->runs_count; i++) {
        of_side[g->runs[i].changed]++;
    }
    if (of_side[0] == 0 || of_side[1] == 0) {
        g->refused = of_side[0] == 0 ? "the base has no run of this cell"
                                     : "the changed version has no run of this cell";
        return;
    }
    g->refused = host_difference(g);
    qsort(g->runs, g->runs_count, sizeof g->runs[0], simulated(&g->runs[0]) ? by_seed : by_start);
    g->paired = all_pairs(g);
}

/* ---- values ---- */

struct values {
    double of[2][GATE_RUNS_MAX];
    uint32_t count[2];
    uint32_t not_positive; /* values without a ratio */
    uint32_t known;        /* values of usable runs, of both sides */
};

static double value_of(const struct run *run, uint32_t column, struct values *v)
{
    double value = past_runs_number(run->side, run->row, column);
    if (isnan(value) || !usable(run)) {
        return STATS_UNKNOWN;
    }
    v->known++;
    if (value > 0 && !isinf(value)) {
        return value;
    }
    v->not_positive++;
    return STATS_UNKNOWN;
}

/* Of a pair both values or none are taken. */
static void values_of(const struct group *g, uint32_t column, struct values *v)
{
    *v = (struct values){.known = 0};
    for (uint32_t i = 0; i < g->runs_count; i += g->paired ? 2 : 1) {
        const struct run *runs = &g->runs[i];
        double first = value_of(&runs[0], column, v);
        double second = g->paired ? value_of(&runs[1], column, v) : 0;
        if (isnan(first) || isnan(second)) {
            continue;
        }
        v->of[runs[0].changed][v->count[runs[0].changed]++] = first;
        if (g->paired) {
            v->of[runs[1].changed][v->count[runs[1].changed]++] = second;
        }
    }
}

static double median_of(const double *values, uint32_t count)
{
    double sorted[GATE_RUNS_MAX] = {0};
    memcpy(sorted, values, count * sizeof *values);
    stats_sort(sorted, count);
    return count == 0 ? STATS_UNKNOWN : 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
}

/* ---- rows ---- */

static const struct gate_effect no_effect = {
    .change_frac = STATS_UNKNOWN,
    .change_lo_frac = STATS_UNKNOWN,
    .change_hi_frac = STATS_UNKNOWN,
    .p_worse = STATS_UNKNOWN,
    .p_better = STATS_UNKNOWN,
    .least_p = 1,
    .detectable_frac = STATS_UNKNOWN,
};

/* NULL: out of memory. */
static struct comparison_row *add_row(struct comparison *c, const char *cell, const char *metric)
{
    if (c->rows_count == c->rows_cap) {
        uint32_t cap = c->rows_cap == 0 ? 32 : 2 * c->rows_cap;
        struct comparison_row *grown = realloc(c->rows, cap * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        c->rows = grown;
        c->rows_cap = cap;
    }
    struct comparison_row *row = &c->rows[c->rows_count++];
    *row = (struct comparison_row){.cell = cell,
                                   .metric = metric,
                                   .base = STATS_UNKNOWN,
                                   .changed = STATS_UNKNOWN,
                                   .effect = no_effect,
                                   .p = STATS_UNKNOWN,
                                   .verdict = GATE_INCONCLUSIVE};
    return row;
}

static enum status out_of_memory(struct error *error)
{
    return error_set(error, STATUS_NOMEM, "out of memory");
}

static struct gate_rule rule_of(const struct comparison_options *o,
                                const struct comparison_metric *metric)
{
    return (struct gate_rule){.higher_is_better = metric != NULL && metric->higher_is_better,
                              .tolerance_frac = metric != NULL ? metric->tolerance_frac : 0,
                              .alpha = o->alpha,
                              .looks_count = o->looks_count};
}

/* Fails or invalid runs of a cell; no row where the changed version has none of them. */
static enum status add_failures(struct comparison *c, const struct comparison_options *o,
                                const char *cell, const char *metric, const struct gate_failures *f)
{
    if (f->changed_failed == 0 || f->base_count == 0) {
        return STATUS_OK;
    }
    struct comparison_row *row = add_row(c, cell, metric);
    if (row == NULL) {
        return STATUS_NOMEM;
    }
    row->counts_failures = true;
    row->rule = rule_of(o, NULL);
    row->base = (double)f->base_failed / (double)f->base_count;
    row->changed = (double)f->changed_failed / (double)f->changed_count;
    row->effect.p_worse = gate_fisher_p(f);
    row->effect.base_count = (uint32_t)f->base_count;
    row->effect.changed_count = (uint32_t)f->changed_count;
    (void)snprintf(row->why, sizeof row->why, "%llu of %llu, was %llu of %llu",
                   (unsigned long long)f->changed_failed, (unsigned long long)f->changed_count,
                   (unsigned long long)f->base_failed, (unsigned long long)f->base_count);
    return STATUS_OK;
}

static uint64_t count_of(const struct run *run, enum column column)
{
    return strtoull(field(run, column), NULL, 10);
}

static enum status compare_failures(struct comparison *c, const struct comparison_options *o,
                                    const char *cell, const struct group *g)
{
    struct gate_failures requests = {0};
    struct gate_failures runs = {0};
    for (uint32_t i = 0; i < g->runs_count; i++) {
        const struct run *run = &g->runs[i];
        uint64_t failed = count_of(run, FAIL_COUNT);
        uint64_t all = failed + count_of(run, OK_COUNT);
        if (run->changed) {
            requests.changed_failed += failed;
            requests.changed_count += all;
            runs.changed_failed += usable(run) ? 0 : 1;
            runs.changed_count++;
        } else {
            requests.base_failed += failed;
            requests.base_count += all;
            runs.base_failed += usable(run) ? 0 : 1;
            runs.base_count++;
        }
    }
    TRY(add_failures(c, o, cell, "fail_frac", &requests));
    return add_failures(c, o, cell, "invalid_runs_frac", &runs);
}

static void compare_values(struct comparison_row *row, const struct group *g,
                           const struct values *v)
{
    row->base = median_of(v->of[0], v->count[0]);
    row->changed = median_of(v->of[1], v->count[1]);
    if (g->refused != NULL) {
        (void)snprintf(row->why, sizeof row->why, "%s", g->refused);
    } else if (v->count[0] == 0 || v->count[1] == 0) {
        (void)snprintf(row->why, sizeof row->why, "%s",
                       v->not_positive > 0 ? "a value of 0 has no ratio"
                                           : "not enough valid runs that have it");
    } else if (g->paired) {
        gate_compare_pairs(v->of[0], v->of[1], v->count[0], &row->rule, &row->effect);
    } else {
        const struct gate_samples samples = {v->of[0], v->count[0], v->of[1], v->count[1]};
        gate_compare_unpaired(&samples, &row->rule, &row->effect);
    }
}

static bool both_usable(const struct group *g)
{
    bool of_side[2] = {false, false};
    for (uint32_t i = 0; i < g->runs_count; i++) {
        of_side[g->runs[i].changed] = of_side[g->runs[i].changed] || usable(&g->runs[i]);
    }
    return of_side[0] && of_side[1];
}

static enum status compare_cell(struct comparison *c, const struct comparison_options *o,
                                const char *cell, struct error *error)
{
    struct group g = {.runs_count = 0};
    TRY(gather(&g, &c->base, false, cell, error));
    TRY(gather(&g, &c->changed, true, cell, error));
    arrange(&g);
    for (uint32_t i = 1; i < g.runs_count; i++) {
        c->configurations_differ =
            c->configurations_differ ||
            strcmp(field(&g.runs[0], CONFIG), field(&g.runs[i], CONFIG)) != 0;
    }
    if (compare_failures(c, o, cell, &g) != STATUS_OK) {
        return out_of_memory(error);
    }
    for (uint32_t i = 0; i < o->metrics_count; i++) {
        struct values v;
        values_of(&g, COLUMNS_FIXED + i, &v);
        if (v.known == 0 && g.refused == NULL && both_usable(&g)) {
            continue; /* this kind of run does not have it */
        }
        struct comparison_row *row = add_row(c, cell, o->metrics[i].column);
        if (row == NULL) {
            return out_of_memory(error);
        }
        row->rule = rule_of(o, &o->metrics[i]);
        compare_values(row, &g, &v);
    }
    return STATUS_OK;
}

/* ---- verdicts ---- */

static void explain(struct comparison_row *row, size_t compared)
{
    const struct gate_effect *e = &row->effect;
    double level = row->rule.alpha / row->rule.looks_count;
    if (row->verdict != GATE_INCONCLUSIVE || row->why[0] != '\0') {
        return;
    }
    if (e->least_p > level) {
        (void)snprintf(row->why, sizeof row->why, "%u and %u runs %s show nothing: it takes %u %s",
                       e->base_count, e->changed_count, e->paired ? "in pairs" : "unpaired",
                       gate_pairs_needed(&row->rule, 1),
                       e->paired ? "pairs" : "pairs of runs that alternate");
    } else if (e->least_p * (double)compared > level) {
        (void)snprintf(row->why, sizeof row->why,
                       "among %zu comparisons a regression takes %u pairs to show", compared,
                       gate_pairs_needed(&row->rule, compared));
    } else {
        (void)snprintf(row->why, sizeof row->why,
                       "excludes neither no change nor one beyond %.3g %%",
                       100 * row->rule.tolerance_frac);
    }
}

/* Failures and metrics are each adjusted among themselves. */
static enum status judge(struct comparison *c, struct error *error)
{
    double *p = calloc(6 * (size_t)c->rows_count + 1, sizeof *p);
    size_t n = c->rows_count;
    size_t compared = 0;
    if (p == NULL) {
        return out_of_memory(error);
    }
    for (size_t i = 0; i < n; i++) {
        const struct comparison_row *row = &c->rows[i];
        bool failure = row->counts_failures;
        p[i] = failure ? STATS_UNKNOWN : row->effect.p_worse;
        p[n + i] = failure ? STATS_UNKNOWN : row->effect.p_better;
        p[2 * n + i] = failure ? row->effect.p_worse : STATS_UNKNOWN;
        compared += isnan(p[i]) ? 0 : 1;
    }
    for (size_t k = 0; k < 3; k++) {
        gate_holm(p + k * n, n, p + (3 + k) * n);
    }
    for (size_t i = 0; i < n; i++) {
        struct comparison_row *row = &c->rows[i];
        bool failure = row->counts_failures;
        row->p = failure ? p[5 * n + i] : p[3 * n + i];
        if (row->effect.least_p * (double)compared > row->rule.alpha / row->rule.looks_count) {
            row->effect.detectable_frac = STATS_UNKNOWN;
        }
        if (failure) {
            bool worse = row->p <= row->rule.alpha / row->rule.looks_count;
            row->verdict = worse ? GATE_REGRESSION : GATE_OK;
        } else {
            row->verdict = gate_judge(&row->effect, &row->rule, row->p, p[4 * n + i]);
        }
        explain(row, compared);
    }
    free(p);
    return STATUS_OK;
}

static bool seen_before(const struct past_runs *runs, uint32_t row)
{
    for (uint32_t i = 0; i < row; i++) {
        if (strcmp(past_runs_field(runs, i, CELL), past_runs_field(runs, row, CELL)) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_cell(const struct past_runs *runs, const char *cell)
{
    for (uint32_t i = 0; i < runs->rows_count; i++) {
        if (strcmp(past_runs_field(runs, i, CELL), cell) == 0) {
            return true;
        }
    }
    return false;
}

enum status comparison_make(struct comparison *c, const struct comparison_options *options,
                            struct error *error)
{
    const char *columns[COLUMNS_FIXED + COMPARISON_METRICS_MAX];
    uint32_t count = COLUMNS_FIXED + options->metrics_count;
    ASSERT(options->metrics_count <= COMPARISON_METRICS_MAX && options->looks_count > 0);
    *c = (struct comparison){.rows_count = 0};
    memcpy(columns, fixed_columns, sizeof fixed_columns);
    for (uint32_t i = 0; i < options->metrics_count; i++) {
        columns[COLUMNS_FIXED + i] = options->metrics[i].column;
    }
    TRY(past_runs_read(&c->base, options->base, columns, count, error));
    TRY(past_runs_read(&c->changed, options->changed, columns, count, error));
    for (uint32_t i = 0; i < c->base.rows_count; i++) {
        if (!seen_before(&c->base, i)) {
            TRY(compare_cell(c, options, past_runs_field(&c->base, i, CELL), error));
        }
    }
    for (uint32_t i = 0; i < c->changed.rows_count; i++) {
        const char *cell = past_runs_field(&c->changed, i, CELL);
        if (!seen_before(&c->changed, i) && !has_cell(&c->base, cell)) {
            TRY(compare_cell(c, options, cell, error));
        }
    }
    return judge(c, error);
}

void comparison_free(struct comparison *c)
{
    past_runs_free(&c->base);
    past_runs_free(&c->changed);
    free(c->rows);
    *c = (struct comparison){.rows_count = 0};
}

uint32_t comparison_count(const struct comparison *c, enum gate_verdict verdict)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->rows_count; i++) {
        count += c->rows[i].verdict == verdict ? 1 : 0;
    }
    return count;
}

enum gate_verdict comparison_verdict(const struct comparison *c)
{
    if (comparison_count(c, GATE_REGRESSION) > 0) {
        return GATE_REGRESSION;
    }
    bool open = c->rows_count == 0 || comparison_count(c, GATE_INCONCLUSIVE) > 0;
    return open ? GATE_INCONCLUSIVE : GATE_OK;
}
