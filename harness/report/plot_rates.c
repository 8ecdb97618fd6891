/*
 * plot_rates.c - the rates of searches, for gnuplot (plot_rates.h). Driven by data.c. Computes only
 * means over the replicates of a rate; must not put a run that the client limited into one.
 */
#include "harness/report/plot_rates.h"

#include <math.h>
#include <stdlib.h>

#include "harness/report/table.h"

/* Two rates this near are one. */
#define SAME_RATE_FRAC 1e-9

static const char *const columns[] = {"offered_rps",  "achieved_rps", "tok_per_s",   "ttft_p50_ms",
                                      "ttft_p95_ms",  "ttft_p99_ms",  "tpot_p50_ms", "tpot_p95_ms",
                                      "tpot_p99_ms",  "e2el_p50_ms",  "e2el_p95_ms", "e2el_p99_ms",
#define X(name) #name,
                                      KNEES_STAGES(X)
#undef X
};

enum {
    COLUMNS_COUNT = sizeof columns / sizeof columns[0],
    FIRST_STAGE = COLUMNS_COUNT - KNEES_STAGES_COUNT
};

/* A row: one run of a rate, or the mean of its runs. */
struct plot_rate {
    double per_s;
    bool mean;
    bool evidence;
    double values[COLUMNS_COUNT];
};

static struct plot_rate row_of(const struct knees_point *p)
{
    const double values[FIRST_STAGE] = {p->offered_per_s, p->achieved_per_s, p->tok_per_s,
                                        p->ttft.p50_ms,   p->ttft.p95_ms,    p->ttft.p99_ms,
                                        p->tpot.p50_ms,   p->tpot.p95_ms,    p->tpot.p99_ms,
                                        p->e2el.p50_ms,   p->e2el.p95_ms,    p->e2el.p99_ms};
    struct plot_rate row = {.per_s = p->per_s, .evidence = p->valid && !p->host_limited};
    for (int i = 0; i < COLUMNS_COUNT; i++) {
        row.values[i] = i < FIRST_STAGE ? values[i] : p->use_frac[i - FIRST_STAGE];
    }
    return row;
}

/* Of the runs from..to, which are of one rate. False: the client limited all of them. */
static bool mean_of(const struct knees_point *points, uint32_t from, uint32_t to,
                    struct plot_rate *out)
{
    uint32_t counts[COLUMNS_COUNT] = {0};
    uint32_t valid = 0;
    *out = (struct plot_rate){.per_s = points[from].per_s, .mean = true, .evidence = true};
    for (uint32_t i = from; i < to; i++) {
        struct plot_rate row = row_of(&points[i]);
        for (int k = 0; k < COLUMNS_COUNT && points[i].valid; k++) {
            if (!isnan(row.values[k])) {
                out->values[k] += (row.values[k] - out->values[k]) / ++counts[k];
            }
        }
        valid += points[i].valid ? 1 : 0;
    }
    for (int k = 0; k < COLUMNS_COUNT; k++) {
        out->values[k] = counts[k] > 0 ? out->values[k] : STATS_UNKNOWN;
    }
    return valid > 0;
}

static void write_rate(struct table *t, uint32_t series, const struct plot_rate *row)
{
    table_count(t, "series", series);
    table_flag(t, "mean", row->mean);
    table_flag(t, "evidence", row->evidence);
    table_number(t, "rate_per_s", row->per_s);
    for (int i = 0; i < COLUMNS_COUNT; i++) {
        table_number(t, columns[i], row->values[i]);
    }
    table_flag(t, "end", true); /* an empty last field would be read as the line's end */
    table_end_row(t);
}

static int by_rate(const void *a, const void *b)
{
    const struct knees_point *x = a;
    const struct knees_point *y = b;
    if (fabs(x->per_s / y->per_s - 1) > SAME_RATE_FRAC) {
        return x->per_s < y->per_s ? -1 : 1;
    }
    return x->replicate < y->replicate ? -1 : x->replicate > y->replicate;
}

/* Rate by rate, so that the means are one line; each before its runs. */
static void write_rates(struct table *t, const struct knees_row *row, uint32_t series)
{
    struct plot_rate rate;
    struct knees_point *points = calloc(row->points_count + 1, sizeof *points);
    ASSERT(points != NULL);
    for (uint32_t i = 0; i < row->points_count; i++) {
        points[i] = row->points[i];
    }
    qsort(points, row->points_count, sizeof *points, by_rate);
    for (uint32_t from = 0, to = 0; from < row->points_count; from = to) {
        while (to < row->points_count &&
               fabs(points[to].per_s / points[from].per_s - 1) <= SAME_RATE_FRAC) {
            to++;
        }
        if (mean_of(points, from, to, &rate)) {
            write_rate(t, series, &rate);
        }
        for (uint32_t i = from; i < to; i++) {
            rate = row_of(&points[i]);
            write_rate(t, series, &rate);
        }
    }
    free(points);
}

static double limit_ms(int64_t limit_ns)
{
    return limit_ns > 0 ? (double)limit_ns / 1e6 : STATS_UNKNOWN;
}

static void write_knee(struct table *t, const struct knees_row *row, uint32_t series)
{
    static const struct scenario_slo none;
    const struct scenario_slo *limits = row->limits != NULL ? row->limits : &none;
    table_count(t, "series", series);
    table_text(t, "label", t->naming ? "" : row->cell->name);
    table_number(t, "capacity_rps", row->capacity_rps);
    table_number(t, "stable_rate_rps", row->stable.per_s);
    table_number(t, "slo_rate_rps", row->slo.per_s);
    table_number(t, "knee_rps", row->knee.per_s);
    table_number(t, "ttft_max_ms", limit_ms(limits->ttft_p99_max_ns));
    table_number(t, "tpot_max_ms", limit_ms(limits->tpot_p95_max_ns));
    table_flag(t, "end", true);
    table_end_row(t);
}

static enum status open_named(struct table *t, const char *folder, const char *name,
                              struct error *error)
{
    TRY(table_open(t, folder, name, error));
    t->tabs = true;
    t->naming = true;
    return STATUS_OK;
}

static enum status finish(struct table *t, struct error *error)
{
    enum status status = table_sync(t, error);
    table_close(t);
    return status;
}

enum status plot_rates_write(const struct knees *knees, const char *folder, struct error *error)
{
    static const struct plot_rate no_rate;
    static const struct knees_row no_row;
    struct table t;
    TRY(open_named(&t, folder, "plot_rates.tsv", error));
    write_rate(&t, 0, &no_rate);
    t.naming = false;
    for (uint32_t i = 0; i < knees->count; i++) {
        write_rates(&t, &knees->rows[i], i);
    }
    TRY(finish(&t, error));
    TRY(open_named(&t, folder, "plot_knees.tsv", error));
    write_knee(&t, &no_row, 0);
    t.naming = false;
    for (uint32_t i = 0; i < knees->count; i++) {
        write_knee(&t, &knees->rows[i], i);
    }
    return finish(&t, error);
}

bool plot_rates_any(const struct knees *knees)
{
    for (uint32_t i = 0; knees != NULL && i < knees->count; i++) {
        for (uint32_t k = 0; k < knees->rows[i].points_count; k++) {
            if (knees->rows[i].points[k].valid) {
                return true;
            }
        }
    }
    return false;
}
