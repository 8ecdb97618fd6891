/*
 * plot_spectrum.c - owns which runs' bins are drawn, and their sums (plot_spectrum.h). The bins are
 * those of hist.csv.
 */
#include "harness/report/plot_spectrum.h"

#include <math.h>
#include <stdlib.h>

#include "harness/report/table.h"

static bool shown(const struct summary_point *p, const struct run_result *r)
{
    return r->cell == p->cell && r->outcome == RUN_OK && !(p->evidence && r->host_limited);
}

static bool has_latency(const struct run_result *r)
{
    for (uint32_t i = 0; i < r->bins_count; i++) {
        if (r->bins[i].metric == RUN_TTFT_SCHED) {
            return true;
        }
    }
    return false;
}

/* The cell with the greatest rate: there requests wait most. NULL: none has latencies. */
static const struct summary_point *point_of(const struct data_source *d)
{
    const struct summary_point *best = NULL;
    for (uint32_t i = 0; i < d->summary->points_count; i++) {
        const struct summary_point *p = &d->summary->points[i];
        bool any = false;
        for (uint32_t k = 0; k < d->results_count && !any; k++) {
            any = shown(p, &d->results[k]) && has_latency(&d->results[k]);
        }
        if (any && (best == NULL || p->offered_rps > best->offered_rps)) {
            best = p;
        }
    }
    return best;
}

bool plot_spectrum_any(const struct data_source *d)
{
    return point_of(d) != NULL;
}

struct spectrum {
    uint64_t counts[HISTOGRAM_BUCKETS_COUNT];
    uint64_t total;
};

static void collect(const struct data_source *d, const struct summary_point *p, uint32_t metric,
                    struct spectrum *out)
{
    *out = (struct spectrum){.total = 0};
    for (uint32_t k = 0; k < d->results_count; k++) {
        const struct run_result *r = &d->results[k];
        for (uint32_t i = 0; shown(p, r) && i < r->bins_count; i++) {
            if (r->bins[i].metric == metric) {
                out->counts[r->bins[i].bucket] += r->bins[i].count;
                out->total += r->bins[i].count;
            }
        }
    }
}

struct spectrum_row {
    const char *cell;
    const char *metric;
    double one_of; /* one of so many requests takes at least ... */
    double ms;
};

static void write_row(struct table *t, const struct spectrum_row *row)
{
    table_text(t, "cell", row->cell);
    table_text(t, "metric", row->metric);
    table_number(t, "one_of", row->one_of);
    table_number(t, "ms", row->ms);
    table_end_row(t);
}

/* Ends at the last bin with 1 of as many as are in it, where a percentile of 100 % would lie at
 * infinity. */
static void write_rows(struct table *t, const char *cell, const char *metric,
                       const struct spectrum *s)
{
    uint64_t before = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS_COUNT; i++) {
        if (s->counts[i] > 0) {
            const struct spectrum_row row = {cell, metric,
                                             (double)s->total / (double)(s->total - before),
                                             (double)histogram_bucket_lo(i) / 1e6};
            write_row(t, &row);
            before += s->counts[i];
        }
    }
}

enum status plot_spectrum_write(const struct data_source *d, struct error *error)
{
    static const struct {
        const char *name;
        enum run_metric metric;
    } metrics[] = {{"e2el_sched", RUN_E2EL_SCHED},
                   {"e2el", RUN_E2EL},
                   {"ttft_sched", RUN_TTFT_SCHED},
                   {"ttft", RUN_TTFT}};
    const struct summary_point *p = point_of(d);
    const struct spectrum_row nothing = {.cell = "", .metric = ""};
    struct table t;
    TRY(table_open(&t, d->folder, "plot_spectrum.tsv", error));
    struct spectrum *s = malloc(sizeof *s);
    ASSERT(s != NULL);
    t.naming = true;
    t.tabs = true;
    write_row(&t, &nothing);
    t.naming = false;
    for (size_t i = 0; p != NULL && i < sizeof metrics / sizeof metrics[0]; i++) {
        collect(d, p, metrics[i].metric, s);
        write_rows(&t, p->cell->name, metrics[i].name, s);
    }
    free(s);
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}
