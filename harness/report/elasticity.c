/*
 * elasticity.c - owns how an elasticity probe is judged and written (elasticity.h). Driven by
 * report.c and harness/run/intervene.c. Must not hide that a probe and an observation disagree.
 */
#include "harness/report/elasticity.h"

#include <math.h>
#include <string.h>

#include "harness/analysis/stats.h"
#include "harness/report/table.h"

enum {
    SCHEMA = 1
};

#define LIMIT_LEAST 0.5 /* of elasticity: above it a stage limits */
#define SHARE_LEAST 0.2 /* of one of two stages that limit together */

/* ---- judgement ---- */

enum elasticity_finding elasticity_judge(const struct demand_elasticity *e)
{
    if (e->lo >= LIMIT_LEAST) {
        return ELASTICITY_LIMITS;
    }
    return e->hi < LIMIT_LEAST ? ELASTICITY_IDLE : ELASTICITY_OPEN;
}

enum elasticity_agreement elasticity_compare(const struct elasticity *e,
                                             const struct elasticity_row *row)
{
    const struct stage_verdict *v = &e->observed;
    bool first = strcmp(row->stage, v->first) == 0;
    bool second = strcmp(row->stage, v->second) == 0;
    bool limits = row->finding == ELASTICITY_LIMITS;
    bool agrees = !limits;
    if (row->finding == ELASTICITY_OPEN) {
        return ELASTICITY_UNDECIDED;
    }
    if (v->kind == STAGE_NAMED && !e->load_limits && first) {
        agrees = limits;
    } else if (v->kind == STAGE_MIXED && !e->load_limits && (first || second)) {
        agrees = limits || row->elasticity.hi >= SHARE_LEAST;
    }
    return agrees ? ELASTICITY_CONFIRMED : ELASTICITY_CONTRADICTED;
}

void elasticity_conclude(const struct elasticity *e, struct elasticity_row *row)
{
    row->elasticity = (struct demand_elasticity){STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    if (row->pairs_count > 0) {
        row->elasticity = demand_elasticity_of(row->base_tok_per_s, row->slowed_tok_per_s,
                                               row->pairs_count, 1 + e->by_frac);
    }
    row->finding = elasticity_judge(&row->elasticity);
    row->agreement = elasticity_compare(e, row);
}

static double mean(const double *values, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += values[i];
    }
    return count > 0 ? sum / count : STATS_UNKNOWN;
}

/* Share of throughput that the slow-down costs. */
static double loss_of(const struct elasticity_row *row)
{
    return 1 - mean(row->slowed_tok_per_s, row->pairs_count) /
                   mean(row->base_tok_per_s, row->pairs_count);
}

static const char *finding_name(const struct elasticity_row *row)
{
    static const char *const names[] = {"limits", "does_not_limit", "undecided"};
    return row->slowable ? names[row->finding] : "not_slowed";
}

static const char *agreement_name(const struct elasticity_row *row)
{
    static const char *const names[] = {"confirmed", "contradicted", "undecided"};
    return row->slowable ? names[row->agreement] : "";
}

static bool observed_to_limit(const struct elasticity *e, const struct elasticity_row *row)
{
    const struct stage_verdict *v = &e->observed;
    bool first = strcmp(row->stage, v->first) == 0;
    bool second = strcmp(row->stage, v->second) == 0;
    return !e->load_limits &&
           ((v->kind != STAGE_UNEXPLAINED && first) || (v->kind == STAGE_MIXED && second));
}

/* ---- probe.csv ---- */

static void write_row(struct table *t, const struct elasticity *e, const struct elasticity_row *row)
{
    table_count(t, "schema", SCHEMA);
    table_text(t, "cell", t->naming ? "" : e->cell->name);
    table_text(t, "stage", row->stage);
    table_text(t, "observed_bottleneck", e->load_limits ? "load" : e->observed.text);
    table_number(t, "use_frac", row->use_frac);
    table_number(t, "slower_frac", e->by_frac);
    table_count(t, "pairs_count", row->pairs_count);
    table_number(t, "base_tok_per_s", mean(row->base_tok_per_s, row->pairs_count));
    table_number(t, "slowed_tok_per_s", mean(row->slowed_tok_per_s, row->pairs_count));
    table_number(t, "loss_frac", loss_of(row));
    table_number(t, "elasticity", row->elasticity.value);
    table_number(t, "elasticity_lo", row->elasticity.lo);
    table_number(t, "elasticity_hi", row->elasticity.hi);
    table_text(t, "finding", finding_name(row));
    table_text(t, "agreement", agreement_name(row));
    table_count(t, "runs_count", e->runs_count);
    table_count(t, "host_limited_runs_count", e->host_limited_count);
    table_end_row(t);
}

enum status elasticity_write(const struct elasticity *e, const char *folder, struct error *error)
{
    static const struct elasticity nothing;
    static const struct elasticity_row no_row;
    struct table t;
    TRY(table_open(&t, folder, "probe.csv", error));
    t.naming = true;
    write_row(&t, &nothing, &no_row);
    t.naming = false;
    for (uint32_t i = 0; i < e->rows_count; i++) {
        write_row(&t, e, &e->rows[i]);
    }
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

/* ---- plot_probe.tsv ---- */

static const char *say_observed(const struct elasticity *e, const struct elasticity_row *row)
{
    if (e->load_limits) {
        return "the load limits";
    }
    if (e->observed.kind == STAGE_UNEXPLAINED) {
        return "no stage is full";
    }
    if (!observed_to_limit(e, row)) {
        return "does not limit";
    }
    return e->observed.kind == STAGE_MIXED ? "limits with another" : "limits";
}

static const char *say_found(const struct elasticity_row *row)
{
    static const char *const words[] = {"limits", "does not limit", "undecided"};
    return row->slowable ? words[row->finding] : "cannot be slowed";
}

static void plot_row(struct table *t, const struct elasticity *e, const struct elasticity_row *row)
{
    table_text(t, "cell", t->naming ? "" : e->cell->name);
    table_text(t, "stage", row->stage);
    table_number(t, "slower_frac", e->by_frac);
    table_number(t, "elasticity", row->pairs_count > 0 ? row->elasticity.value : STATS_UNKNOWN);
    table_number(t, "elasticity_lo", row->pairs_count > 0 ? row->elasticity.lo : STATS_UNKNOWN);
    table_number(t, "elasticity_hi", row->pairs_count > 0 ? row->elasticity.hi : STATS_UNKNOWN);
    table_text(t, "observed", say_observed(e, row));
    table_text(t, "found", say_found(row));
    table_text(t, "agreement", agreement_name(row));
    table_flag(t, "end", true); /* an empty last field would be read as the line's end */
    table_end_row(t);
}

enum status elasticity_plot(const struct elasticity *e, const char *folder, struct error *error)
{
    static const struct elasticity nothing;
    static const struct elasticity_row no_row;
    struct table t;
    TRY(table_open(&t, folder, "plot_probe.tsv", error));
    t.tabs = true;
    t.naming = true;
    plot_row(&t, &nothing, &no_row);
    t.naming = false;
    for (uint32_t i = 0; i < e->rows_count; i++) {
        plot_row(&t, e, &e->rows[i]);
    }
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

bool elasticity_any(const struct elasticity *e)
{
    for (uint32_t i = 0; e != NULL && i < e->rows_count; i++) {
        if (e->rows[i].pairs_count > 0) {
            return true;
        }
    }
    return false;
}

/* ---- for a person ---- */

static void add_elasticity(struct text *t, const struct demand_elasticity *e)
{
    text_number(t, e->value, 2);
    if (!isnan(e->lo)) {
        text_add(t, " [%.2f, %.2f]", e->lo, e->hi);
    }
}

struct grid elasticity_grid(const struct elasticity *e)
{
    static const char *const columns[] = {"<stage slowed", "use %",    "pairs",
                                          "tokens/s",      "slowed",   "loss %",
                                          "<elasticity",   "<finding", "<observation"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < e->rows_count; i++) {
        const struct elasticity_row *row = &e->rows[i];
        grid_text(&g, row->stage);
        grid_percent(&g, row->use_frac);
        grid_number(&g, row->pairs_count, 0);
        grid_rate(&g, mean(row->base_tok_per_s, row->pairs_count));
        grid_rate(&g, mean(row->slowed_tok_per_s, row->pairs_count));
        struct text t = grid_cell(&g);
        text_number(&t, loss_of(row) * 100, 1);
        t = grid_cell(&g);
        add_elasticity(&t, &row->elasticity);
        grid_text(&g, finding_name(row));
        grid_text(&g, row->slowable ? agreement_name(row) : "-");
    }
    return g;
}

void elasticity_markdown(const struct elasticity *e, FILE *out)
{
    (void)fprintf(out,
                  "\n## Elasticity\n\nRuns of %s with one stage's service %.0f %% longer, each "
                  "beside one without of the same seed. Elasticity is the share of the slow-down "
                  "that throughput loses: about 1 for the stage that limits, 0 for one that "
                  "waits.\n\n",
                  e->cell != NULL ? e->cell->name : "no cell", e->by_frac * 100);
    struct grid g = elasticity_grid(e);
    if (grid_rows(&g) > 0) {
        grid_markdown(&g, out);
    }
    grid_free(&g);
    if (e->host_limited_count > 0) {
        (void)fprintf(out,
                      "\nThe host had little CPU left in %u of %u runs: what it takes from all "
                      "stages hides what one of them takes.\n",
                      e->host_limited_count, e->runs_count);
    }
    if (e->unusable_count > 0) {
        (void)fprintf(out, "\n%u runs could not be used.\n", e->unusable_count);
    }
}

static void tell_observed(const struct elasticity *e, struct text *t)
{
    const struct stage_verdict *v = &e->observed;
    if (e->load_limits) {
        text_add(t, "observed: the load asks for no more");
    } else if (v->kind == STAGE_NAMED) {
        text_add(t, "observed: %s", text_stage(v->first));
    } else if (v->kind == STAGE_MIXED) {
        text_add(t, "observed: %s and %s together", text_stage(v->first), text_stage(v->second));
    } else {
        text_add(t, "observed: no stage is full");
    }
}

static void tell_row(const struct elasticity *e, const struct elasticity_row *row, struct text *t)
{
    bool observed = observed_to_limit(e, row);
    if (!row->slowable) {
        text_add(t, "; the %s cannot be slowed here", text_stage(row->stage));
        return;
    }
    if (row->pairs_count == 0) {
        text_add(t, "; no pair of runs shows what slowing the %s costs", text_stage(row->stage));
        return;
    }
    text_add(t, "; slowing the %s by %.0f %% costs %.1f %% of throughput (elasticity ",
             text_stage(row->stage), e->by_frac * 100, loss_of(row) * 100);
    add_elasticity(t, &row->elasticity);
    switch (row->agreement) {
    case ELASTICITY_CONFIRMED:
        text_add(t, "): %s", observed ? "confirmed" : "it does not limit");
        break;
    case ELASTICITY_UNDECIDED:
        text_add(t, "): undecided");
        break;
    case ELASTICITY_CONTRADICTED:
        text_add(t, "): %s, against what was observed: trust the probe",
                 row->finding == ELASTICITY_LIMITS ? "it limits" : "it does not limit");
        break;
    }
}

void elasticity_tell(const struct elasticity *e, struct text *t)
{
    if (e->cell == NULL) {
        text_add(t, "Nothing was probed: no run is evidence.");
        return;
    }
    text_add(t, "Probe of %s: ", e->cell->name);
    tell_observed(e, t);
    for (uint32_t i = 0; i < e->rows_count; i++) {
        tell_row(e, &e->rows[i], t);
    }
    text_add(t, "%s.", e->complete ? "" : " (stopped early)");
}
