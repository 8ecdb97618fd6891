/*
 * knees.c - owns how rates that were searched for are written (knees.h). Driven by report.c. Must
 * not show a number without its interval, or a limit of the client as one of the system.
 */
#include "harness/report/knees.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/analysis/stats.h"
#include "harness/report/table.h"

enum {
    SCHEMA = 1
};

void knees_free(struct knees *k)
{
    for (uint32_t i = 0; i < k->count; i++) {
        free(k->rows[i].points);
    }
    free(k->rows);
    *k = (struct knees){.count = 0};
}

static bool has(const struct knees_row *row, enum scenario_find_what what)
{
    return (row->what & (uint32_t)what) != 0;
}

/* Better known first: a cliff is an answer, the end of a range is less of one. */
static int badness(enum search_status status)
{
    static const int order[] = {
        [SEARCH_OK] = 0,          [SEARCH_CLIFF] = 1,       [SEARCH_NON_MONOTONE] = 2,
        [SEARCH_ABOVE_RANGE] = 3, [SEARCH_BELOW_RANGE] = 4, [SEARCH_CLIENT_LIMITED] = 5};
    return order[status];
}

static enum search_status worst(const struct knees_row *row)
{
    enum search_status status = SEARCH_OK;
    if (has(row, SCENARIO_FIND_STABLE_RATE)) {
        status = row->stable.status;
    }
    if (has(row, SCENARIO_FIND_SLO_RATE) && badness(row->slo.status) > badness(status)) {
        status = row->slo.status;
    }
    return status;
}

const char *knees_status(const struct knees_row *row)
{
    if (!row->complete) {
        return "incomplete";
    }
    enum search_status status = worst(row);
    bool wide = status == SEARCH_OK && row->capacity_verdict != CAPACITY_KNOWN;
    return wide ? "capacity_wide" : search_status_name(status);
}

/* ---- knee.csv ---- */

/* How the response looks at the boundary of the SLO, else of stability. */
static const char *boundary(const struct knees_row *row)
{
    const struct search_answer *a = has(row, SCENARIO_FIND_SLO_RATE) ? &row->slo : &row->stable;
    if (!has(row, SCENARIO_FIND_SLO_RATE) && !has(row, SCENARIO_FIND_STABLE_RATE)) {
        return "";
    }
    return a->status == SEARCH_CLIFF          ? "cliff"
           : a->status == SEARCH_NON_MONOTONE ? "non_monotone"
           : a->status == SEARCH_OK           ? "smooth"
                                              : "";
}

static uint32_t rates_count(const struct knees_row *row)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < row->points_count; i++) {
        uint32_t k = 0;
        while (k < i && fabs(row->points[k].per_s / row->points[i].per_s - 1) > 1e-9) {
            k++;
        }
        count += k == i ? 1 : 0;
    }
    return count;
}

static void write_row(struct table *t, const struct knees_row *row)
{
    bool stable = has(row, SCENARIO_FIND_STABLE_RATE);
    bool slo = has(row, SCENARIO_FIND_SLO_RATE);
    table_count(t, "schema", SCHEMA);
    table_text(t, "cell", t->naming ? "" : row->cell->name);
    table_number(t, "capacity_rps", row->capacity_rps);
    table_number(t, "capacity_lo", row->capacity_lo);
    table_number(t, "capacity_hi", row->capacity_hi);
    table_number(t, "stable_rate_rps", row->stable.per_s);
    table_number(t, "stable_lo", row->stable.lo);
    table_number(t, "stable_hi", row->stable.hi);
    table_number(t, "slo_rate_rps", row->slo.per_s);
    table_number(t, "slo_lo", row->slo.lo);
    table_number(t, "slo_hi", row->slo.hi);
    table_text(t, "binding_limit", row->binding);
    table_text(t, "boundary", boundary(row));
    table_number(t, "knee_rps", row->knee.per_s);
    table_number(t, "knee_lo", row->knee.lo);
    table_number(t, "knee_hi", row->knee.hi);
    table_number(t, "overload_droop_frac", row->overload_droop_frac);
    table_count(t, "points_count", rates_count(row));
    table_count(t, "runs_count", row->runs_count);
    table_text(t, "status", knees_status(row));
    table_text(t, "stable_status", stable ? search_status_name(row->stable.status) : "");
    table_text(t, "slo_status", slo ? search_status_name(row->slo.status) : "");
    table_number(t, "power_rps", row->knee.power_per_s);
    table_end_row(t);
}

void knees_rows(const struct knees *k, struct table *out)
{
    static const struct knees_row nothing;
    out->naming = out->objects == NULL;
    if (out->naming) {
        write_row(out, &nothing);
    }
    out->naming = false;
    for (uint32_t i = 0; i < k->count; i++) {
        write_row(out, &k->rows[i]);
    }
}

enum status knees_write(const struct knees *k, const char *folder, struct error *error)
{
    struct table t;
    TRY(table_open(&t, folder, "knee.csv", error));
    knees_rows(k, &t);
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

/* ---- for a person ---- */

static void add_interval(struct text *t, double value, double lo, double hi)
{
    if (isnan(value)) {
        text_add(t, "-");
        return;
    }
    text_add(t, "%.4g", value);
    if (!isnan(lo) || !isnan(hi)) {
        text_add(t, " [");
        text_number(t, lo, lo < 100 ? 1 : 0);
        text_add(t, ", ");
        text_number(t, hi, hi < 100 ? 1 : 0);
        text_add(t, "]");
    }
}

static void interval_cell(struct grid *g, double value, double lo, double hi)
{
    struct text t = grid_cell(g);
    add_interval(&t, value, lo, hi);
}

struct grid knees_grid(const struct knees *k)
{
    static const char *const columns[] = {"<cell",       "<capacity/s",      "<stable rate/s",
                                          "<SLO rate/s", "<first limit",     "<knee/s",
                                          "power/s",     "overload loses %", "<status"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < k->count; i++) {
        const struct knees_row *row = &k->rows[i];
        grid_text(&g, row->cell->name);
        interval_cell(&g, row->capacity_rps, row->capacity_lo, row->capacity_hi);
        interval_cell(&g, row->stable.per_s, row->stable.lo, row->stable.hi);
        interval_cell(&g, row->slo.per_s, row->slo.lo, row->slo.hi);
        grid_text(&g, row->binding[0] != '\0' ? row->binding : "-");
        interval_cell(&g, row->knee.per_s, row->knee.lo, row->knee.hi);
        grid_number(&g, row->knee.power_per_s, 1);
        grid_percent(&g, row->overload_droop_frac);
        grid_text(&g, knees_status(row));
    }
    return g;
}

static const char *stability_name(enum stability_outcome outcome)
{
    return outcome == STABILITY_STABLE      ? "stable"
           : outcome == STABILITY_SATURATED ? "saturated"
                                            : "undecided";
}

static const char *slo_name(enum slo_outcome outcome)
{
    return outcome == SLO_PASS ? "kept" : outcome == SLO_FAIL ? "missed" : "undecided";
}

static struct grid points_grid(const struct knees_row *row)
{
    static const char *const columns[] = {
        "rate/s", "replicate",    "window s", "<done of arrived", "<backlog",
        "<host",  "over limit %", "<SLO",     "e2el p50 ms",      "tokens/s"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    bool slo = has(row, SCENARIO_FIND_SLO_RATE);
    for (uint32_t i = 0; i < row->points_count; i++) {
        const struct knees_point *p = &row->points[i];
        grid_number(&g, p->per_s, 1);
        grid_number(&g, p->replicate, 0);
        grid_number(&g, p->window_s, 1);
        struct text t = grid_cell(&g);
        text_number(&t, p->stability.ratio, 3);
        if (!isnan(p->stability.ratio_lo)) {
            text_add(&t, " [%.3f, %.3f]", p->stability.ratio_lo, p->stability.ratio_hi);
        }
        grid_text(&g, !p->valid ? "client limited" : stability_name(p->stability.outcome));
        grid_text(&g, p->host_limited ? "limited" : "-");
        grid_percent(&g, slo ? p->over_frac : STATS_UNKNOWN);
        grid_text(&g, slo && p->valid ? slo_name(p->slo) : "-");
        grid_number(&g, p->e2el.p50_ms, 1);
        grid_rate(&g, p->tok_per_s);
    }
    return g;
}

/* What a status means for the number that it stands beside. */
static const char *status_words(enum search_status status)
{
    static const char *const words[] = {
        [SEARCH_OK] = "found",
        [SEARCH_BELOW_RANGE] = "not found: even the least rate tried misses it",
        [SEARCH_ABOVE_RANGE] = "at least this: even the greatest rate tried keeps it",
        [SEARCH_CLIFF] = "the response jumps between two neighbouring rates, and this is the last "
                         "one before",
        [SEARCH_NON_MONOTONE] = "uncertain: a higher rate passed where a lower one failed",
        [SEARCH_CLIENT_LIMITED] = "at least this: beyond it the load client or the host was the "
                                  "limit, which is no evidence against the system"};
    return words[status];
}

static void tell_status(const struct knees_row *row, FILE *out)
{
    (void)fprintf(out, "- %s: capacity %s", row->cell->name,
                  row->capacity_verdict == CAPACITY_KNOWN ? "is known to 2 %"
                                                          : "is not known to 2 %");
    if (has(row, SCENARIO_FIND_STABLE_RATE)) {
        (void)fprintf(out, "; stable rate: %s", status_words(row->stable.status));
    }
    if (has(row, SCENARIO_FIND_SLO_RATE)) {
        (void)fprintf(out, "; SLO rate: %s", status_words(row->slo.status));
    }
    if (row->binding[0] != '\0') {
        (void)fprintf(out, "; the limit that is missed first is %s", row->binding);
    }
    if (boundary(row)[0] != '\0') {
        (void)fprintf(out, "; boundary: %s", boundary(row));
    }
    (void)fprintf(out, "%s.\n",
                  row->complete ? "" : "; the search was stopped early and --resume goes on");
}

void knees_markdown(const struct knees *k, FILE *out)
{
    (void)fputs("\n## Rates\n\nRequests per second with 95 % or the chosen confidence. Capacity: "
                "with a backlog at every engine core. Stable rate: the greatest at which the "
                "backlog does not grow. SLO rate: the greatest within the limits, waiting "
                "included. Knee: where the median latency bends, between the rates tested on "
                "either side; power: where throughput over latency is greatest. The last two "
                "depend on the rates that were tested.\n\n",
                out);
    struct grid g = knees_grid(k);
    grid_markdown(&g, out);
    grid_free(&g);
    (void)fputc('\n', out);
    for (uint32_t i = 0; i < k->count; i++) {
        tell_status(&k->rows[i], out);
    }
    for (uint32_t i = 0; i < k->count; i++) {
        g = points_grid(&k->rows[i]);
        (void)fprintf(out, "\nRuns of %s, in the order of measuring:\n\n", k->rows[i].cell->name);
        grid_markdown(&g, out);
        grid_free(&g);
    }
}

static void tell_answer(struct text *t, const char *what, const struct search_answer *a)
{
    if (isnan(a->per_s)) {
        text_add(t, ", no %s found (%s)", what, search_status_name(a->status));
        return;
    }
    text_add(t, ", %s ", what);
    bool open = a->status == SEARCH_ABOVE_RANGE || a->status == SEARCH_CLIENT_LIMITED;
    text_add(t, "%s", open ? "at least " : "");
    add_interval(t, a->per_s, open ? STATS_UNKNOWN : a->lo, open ? STATS_UNKNOWN : a->hi);
    if (a->status != SEARCH_OK) {
        text_add(t, " (%s)", search_status_name(a->status));
    }
}

void knees_tell(const struct knees *k, struct text *t)
{
    for (uint32_t i = 0; i < k->count; i++) {
        const struct knees_row *row = &k->rows[i];
        text_add(t, "%s", i > 0 ? " " : "");
        if (k->count > 1) {
            text_add(t, "%s: ", row->cell->name);
        }
        text_add(t, "%sapacity ", k->count > 1 ? "c" : "C");
        add_interval(t, row->capacity_rps, row->capacity_lo, row->capacity_hi);
        text_add(t, " requests/s");
        if (has(row, SCENARIO_FIND_STABLE_RATE)) {
            tell_answer(t, "stable rate", &row->stable);
        }
        if (has(row, SCENARIO_FIND_SLO_RATE)) {
            tell_answer(t, "rate within the SLO", &row->slo);
        }
        if (has(row, SCENARIO_FIND_KNEE) && !isnan(row->knee.per_s)) {
            text_add(t, ", knee at ");
            add_interval(t, row->knee.per_s, row->knee.lo, row->knee.hi);
        }
        text_add(t, "%s.", row->complete ? "" : " (stopped early)");
    }
}
