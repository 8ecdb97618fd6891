/*
 * validation.c - owns how simulated runs are held against measured ones (validation.h): which runs
 * are pairs, the errors, the limits, validation.csv. Driven by report.c. Must not judge a cell by
 * what the host could not carry, nor fill in what one side does not know.
 */
#include "harness/report/validation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/analysis/prediction_error.h"
#include "harness/load/histogram.h"
#include "harness/report/table.h"

enum {
    SCHEMA = 1
};

static const enum run_metric run_metrics[VALIDATION_METRICS_COUNT] = {
    [VALIDATION_TTFT] = RUN_TTFT,
    [VALIDATION_TPOT] = RUN_TPOT,
    [VALIDATION_ITL] = RUN_ITL,
    [VALIDATION_E2EL] = RUN_E2EL,
};

const char *validation_metric_name(enum validation_metric metric)
{
    static const char *const names[] = {"ttft", "tpot", "itl", "e2el"};
    return names[metric];
}

/* ---- pairs ---- */

struct pair {
    const struct run_result *measured;
    const struct run_result *simulated;
};

struct pairs {
    struct pair at[SCALING_REPLICATES_MAX];
    uint32_t count;
    bool host_limited;
};

static const struct run_result *simulated_of(const struct simulated_split *split,
                                             const struct run_result *measured)
{
    for (uint32_t i = 0; i < split->beside_count; i++) {
        const struct run_result *r = &split->beside[i];
        if (r->cell == measured->cell && r->replicate == measured->replicate) {
            return r;
        }
    }
    return NULL;
}

static void gather(const struct simulated_split *split, const struct scenario_cell *cell,
                   bool host_limited, struct pairs *out)
{
    *out = (struct pairs){.host_limited = host_limited};
    for (uint32_t i = 0; i < split->shown_count; i++) {
        const struct run_result *r = &split->shown[i];
        const struct run_result *other = r->cell == cell ? simulated_of(split, r) : NULL;
        bool valid = other != NULL && r->outcome == RUN_OK && other->outcome == RUN_OK;
        if (valid && r->host_limited == host_limited && out->count < SCALING_REPLICATES_MAX) {
            out->at[out->count++] = (struct pair){r, other};
        }
    }
}

/* Those that are evidence; if there are none, those that the host limited. */
static void pairs_of(const struct simulated_split *split, const struct scenario_cell *cell,
                     struct pairs *out)
{
    gather(split, cell, false, out);
    if (out->count == 0) {
        gather(split, cell, true, out);
    }
}

/* ---- errors ---- */

static struct validation_value value_of(const double *measured, const double *simulated,
                                        uint32_t count)
{
    struct validation_value v = {.measured = stats_mean_of(measured, count).mean,
                                 .simulated = stats_mean_of(simulated, count).mean,
                                 .spread = STATS_UNKNOWN,
                                 .error_frac = STATS_UNKNOWN,
                                 .over_spread = STATS_UNKNOWN};
    if (v.measured > 0) {
        v.error_frac = (v.simulated - v.measured) / v.measured;
    }
    if (count >= 2) {
        v.spread = stats_mean_of(measured, count).std_error * sqrt(count);
        v.over_spread = prediction_error_over_spread(v.simulated, measured, count);
    }
    return v;
}

static double latency_at(const struct run_result *r, enum run_metric metric,
                         enum validation_point point)
{
    const struct run_latency *l = &r->latency[metric];
    const double at[VALIDATION_POINTS_COUNT] = {l->mean_ms, l->p50_ms, l->p90_ms, l->p99_ms};
    return at[point];
}

static struct validation_value throughput_of(const struct pairs *p)
{
    double measured[SCALING_REPLICATES_MAX];
    double simulated[SCALING_REPLICATES_MAX];
    for (uint32_t i = 0; i < p->count; i++) {
        measured[i] = p->at[i].measured->output_tok_per_s.mean;
        simulated[i] = p->at[i].simulated->output_tok_per_s.mean;
    }
    return value_of(measured, simulated, p->count);
}

/* Over the pairs in which both sides know it. */
static struct validation_value latency_of(const struct pairs *p, enum run_metric metric,
                                          enum validation_point point)
{
    double measured[SCALING_REPLICATES_MAX];
    double simulated[SCALING_REPLICATES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        measured[count] = latency_at(p->at[i].measured, metric, point);
        simulated[count] = latency_at(p->at[i].simulated, metric, point);
        count += isnan(measured[count]) || isnan(simulated[count]) ? 0 : 1;
    }
    return value_of(measured, simulated, count);
}

static void add_bins(const struct run_result *r, enum run_metric metric, double *counts)
{
    for (uint32_t i = 0; i < r->bins_count; i++) {
        if (r->bins[i].metric == (uint32_t)metric) {
            counts[r->bins[i].bucket] += (double)r->bins[i].count;
        }
    }
}

/* In the unit of the bins, over the mean of the measured ones. */
static double distance_of(const struct pairs *p, enum run_metric metric)
{
    double *values = calloc((size_t)3 * HISTOGRAM_BUCKETS_COUNT, sizeof *values);
    ASSERT(values != NULL);
    double *measured = values + HISTOGRAM_BUCKETS_COUNT;
    double *simulated = measured + HISTOGRAM_BUCKETS_COUNT;
    double sum = 0;
    double count = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        add_bins(p->at[i].measured, metric, measured);
        add_bins(p->at[i].simulated, metric, simulated);
    }
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS_COUNT; i++) {
        double width = i + 1 < HISTOGRAM_BUCKETS_COUNT
                           ? (double)(histogram_bucket_lo(i + 1) - histogram_bucket_lo(i))
                           : 0;
        values[i] = (double)histogram_bucket_lo(i) + width / 2;
        sum += measured[i] * values[i];
        count += measured[i];
    }
    double distance =
        prediction_distance_of_counts(values, simulated, measured, HISTOGRAM_BUCKETS_COUNT);
    free(values);
    return sum > 0 ? distance / (sum / count) : STATS_UNKNOWN;
}

/* ---- judgement ---- */

static bool is_over(const struct validation_value *v, double limit)
{
    return fabs(v->error_frac) > limit; /* what is not known exceeds nothing */
}

static void judge(struct validation_row *row)
{
    const struct validation_value *p50 = &row->latency[VALIDATION_TTFT].at[VALIDATION_P50];
    const struct validation_value *p99 = &row->latency[VALIDATION_TTFT].at[VALIDATION_P99];
    row->exceeds[VALIDATION_LIMIT_TOK_PER_S] = is_over(&row->tok_per_s, VALIDATION_TOK_PER_S_MAX);
    row->exceeds[VALIDATION_LIMIT_TTFT_P50] = is_over(p50, VALIDATION_TTFT_P50_MAX);
    row->exceeds[VALIDATION_LIMIT_TTFT_P99] =
        is_over(p99, VALIDATION_TTFT_P99_MAX) && !(p99->over_spread <= VALIDATION_SPREADS_MAX);
}

static void fill_row(const struct simulated_split *split, const struct scenario_cell *cell,
                     struct validation_row *row)
{
    struct pairs pairs;
    pairs_of(split, cell, &pairs);
    *row = (struct validation_row){.cell = cell, .pairs_count = pairs.count, .why = ""};
    row->tok_per_s = throughput_of(&pairs);
    for (int m = 0; m < VALIDATION_METRICS_COUNT; m++) {
        struct validation_latency *l = &row->latency[m];
        for (int point = 0; point < VALIDATION_POINTS_COUNT; point++) {
            l->at[point] = latency_of(&pairs, run_metrics[m], (enum validation_point)point);
        }
        bool known = !isnan(l->at[VALIDATION_MEAN].error_frac);
        l->distance_frac = known ? distance_of(&pairs, run_metrics[m]) : STATS_UNKNOWN;
    }
    if (pairs.count == 0) {
        row->why = "no run is valid in both";
    } else if (pairs.host_limited) {
        row->why = "host limited";
    } else if (isnan(row->tok_per_s.error_frac)) {
        row->why = "throughput unknown";
    } else {
        row->judged = true;
        judge(row);
    }
}

/* From one count of engine cores to the other, by the counts that the scenario has. */
static uint32_t steps_between(const struct summary *s, uint32_t a, uint32_t b)
{
    uint32_t lo = a < b ? a : b;
    uint32_t hi = a < b ? b : a;
    uint32_t steps = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        uint32_t along = s->points[i].along;
        bool counted = along <= lo || along > hi;
        for (uint32_t k = 0; k < i && !counted; k++) {
            counted = s->points[k].along == along;
        }
        steps += counted ? 0 : 1;
    }
    return steps;
}

static void fill_knee(const struct summary *s, const struct summary_curve *c,
                      struct validation_knee *k)
{
    const struct scaling_last_helpful *measured = &c->answer;
    const struct scaling_last_helpful *simulated = &c->simulated_answer;
    *k = (struct validation_knee){
        .measured_count = c->decided ? measured->last_helpful : STATS_UNKNOWN,
        .simulated_count = c->simulated_decided ? simulated->last_helpful : STATS_UNKNOWN,
        .judged = c->decided && c->simulated_decided};
    (void)snprintf(k->curve, sizeof k->curve, "%s", c->label);
    (void)snprintf(k->measured, sizeof k->measured, "%s",
                   c->decided ? measured->text : "undecided");
    (void)snprintf(k->simulated, sizeof k->simulated, "%s",
                   c->simulated_decided ? simulated->text : "undecided");
    if (k->judged) {
        k->steps = steps_between(s, measured->last_helpful, simulated->last_helpful);
        k->exceeds = k->steps > VALIDATION_KNEE_STEPS_MAX;
    }
}

struct validation *validation_of(const struct summary *s, const struct simulated_split *split)
{
    struct validation *v = calloc(1, sizeof *v);
    ASSERT(v != NULL);
    v->rows = calloc(s->points_count + 1, sizeof *v->rows);
    v->knees = calloc(s->curves_count + 1, sizeof *v->knees);
    ASSERT(v->rows != NULL && v->knees != NULL);
    v->plural = s->plural;
    for (uint32_t i = 0; i < s->points_count; i++) {
        fill_row(split, s->points[i].cell, &v->rows[v->rows_count++]);
    }
    for (uint32_t i = 0; i < s->curves_count && s->scaling; i++) {
        fill_knee(s, &s->curves[i], &v->knees[v->knees_count++]);
    }
    return v;
}

void validation_free(struct validation *v)
{
    if (v != NULL) {
        free(v->rows);
        free(v->knees);
        free(v);
    }
}

static bool row_exceeds(const struct validation_row *row)
{
    bool any = false;
    for (int i = 0; i < VALIDATION_LIMITS_COUNT; i++) {
        any = any || row->exceeds[i];
    }
    return any;
}

uint32_t validation_exceeding(const struct validation *v)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->rows_count; i++) {
        count += row_exceeds(&v->rows[i]) ? 1 : 0;
    }
    for (uint32_t i = 0; i < v->knees_count; i++) {
        count += v->knees[i].exceeds ? 1 : 0;
    }
    return count;
}

uint32_t validation_judged(const struct validation *v)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->rows_count; i++) {
        count += v->rows[i].judged ? 1 : 0;
    }
    return count;
}

/* ---- validation.csv ---- */

/* A quantity of a cell, or of a curve. */
struct line {
    const char *cell;
    const char *quantity;
    const char *unit;
    uint32_t pairs_count;
    bool judged;
    const char *exceeds; /* "", "mean", "p50 p99", "steps" */
    const char *reason;
    struct validation_latency values; /* of a single number: in `at[VALIDATION_MEAN]` */
    int64_t steps;                    /* -1: no knee */
};

static void write_value(struct table *t, const char *prefix, const struct validation_value *v)
{
    const struct {
        const char *name;
        double value;
    } columns[] = {{"measured", v->measured},
                   {"simulated", v->simulated},
                   {"spread", v->spread},
                   {"error_frac", v->error_frac},
                   {"over_spread", v->over_spread}};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s_%s", prefix, columns[i].name);
        table_number(t, name, columns[i].value);
    }
}

static void write_line(struct table *t, const struct line *l)
{
    static const char *const prefixes[] = {"mean", "p50", "p90", "p99"};
    table_count(t, "schema", SCHEMA);
    table_text(t, "cell", l->cell);
    table_text(t, "quantity", l->quantity);
    table_text(t, "unit", l->unit);
    table_count(t, "pairs_count", l->pairs_count);
    for (int point = 0; point < VALIDATION_POINTS_COUNT; point++) {
        write_value(t, prefixes[point], &l->values.at[point]);
    }
    table_number(t, "distance_frac", l->values.distance_frac);
    table_known(t, "grid_steps", l->steps);
    table_flag(t, "judged", l->judged);
    table_text(t, "exceeds", l->exceeds);
    table_text(t, "reason", l->reason);
    table_end_row(t);
}

static struct validation_latency single(struct validation_value v)
{
    static const struct validation_value unknown = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                                    STATS_UNKNOWN, STATS_UNKNOWN};
    return (struct validation_latency){{v, unknown, unknown, unknown}, STATS_UNKNOWN};
}

static void write_row(struct table *t, const struct validation_row *row)
{
    bool p50 = row->exceeds[VALIDATION_LIMIT_TTFT_P50];
    bool p99 = row->exceeds[VALIDATION_LIMIT_TTFT_P99];
    struct line l = {.cell = row->cell->name,
                     .quantity = "output_tok_per_s",
                     .unit = "1/s",
                     .pairs_count = row->pairs_count,
                     .judged = row->judged,
                     .exceeds = row->exceeds[VALIDATION_LIMIT_TOK_PER_S] ? "mean" : "",
                     .reason = row->why,
                     .values = single(row->tok_per_s),
                     .steps = -1};
    write_line(t, &l);
    for (int m = 0; m < VALIDATION_METRICS_COUNT; m++) {
        bool is_ttft = m == VALIDATION_TTFT;
        l.quantity = validation_metric_name((enum validation_metric)m);
        l.unit = "ms";
        l.values = row->latency[m];
        l.judged = row->judged && is_ttft;
        l.exceeds = !is_ttft ? "" : p50 && p99 ? "p50 p99" : p50 ? "p50" : p99 ? "p99" : "";
        if (!isnan(l.values.at[VALIDATION_MEAN].error_frac)) {
            write_line(t, &l);
        }
    }
}

static void write_knee(struct table *t, const struct validation_knee *k)
{
    struct validation_value v = {k->measured_count, k->simulated_count, STATS_UNKNOWN,
                                 STATS_UNKNOWN, STATS_UNKNOWN};
    const struct line l = {.cell = k->curve,
                           .quantity = "last_helpful",
                           .unit = "",
                           .judged = k->judged,
                           .exceeds = k->exceeds ? "steps" : "",
                           .reason = k->judged ? "" : "undecided",
                           .values = single(v),
                           .steps = k->judged ? (int64_t)k->steps : -1};
    write_line(t, &l);
}

enum status validation_write(const struct validation *v, const char *folder, struct error *error)
{
    static const struct line nothing = {.cell = ""};
    struct table t;
    TRY(table_open(&t, folder, "validation.csv", error));
    t.naming = true;
    write_line(&t, &nothing);
    t.naming = false;
    for (uint32_t i = 0; i < v->rows_count; i++) {
        write_row(&t, &v->rows[i]);
    }
    for (uint32_t i = 0; i < v->knees_count; i++) {
        write_knee(&t, &v->knees[i]);
    }
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}
