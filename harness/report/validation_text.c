/*
 * validation_text.c - what a person reads of a validation (validation.h): tables, the chapter of
 * report.md, the sentence. Computes no errors.
 */
#include "harness/report/validation.h"

#include <math.h>
#include <string.h>

enum {
    NAMED_MAX = 4 /* cells in a sentence */
};

/* ---- pieces ---- */

/* "+0.4", "-": without the sign of percent, which the column's name has. */
static void error_cell(struct grid *g, double frac)
{
    struct text t = grid_cell(g);
    if (isnan(frac)) {
        text_add(&t, "-");
    } else {
        text_add(&t, "%+.1f", frac * 100);
    }
}

static void share_cell(struct grid *g, double frac)
{
    grid_number(g, frac * 100, 1);
}

static const char *limit_name(enum validation_limit limit)
{
    static const char *const names[VALIDATION_LIMITS_COUNT] = {
        [VALIDATION_LIMIT_TOK_PER_S] = "tokens/s",
        [VALIDATION_LIMIT_TTFT_P50] = "TTFT p50",
        [VALIDATION_LIMIT_TTFT_P99] = "TTFT p99"};
    return names[limit];
}

static const struct validation_value *value_of(const struct validation_row *row,
                                               enum validation_limit limit)
{
    const struct validation_latency *ttft = &row->latency[VALIDATION_TTFT];
    switch (limit) {
    case VALIDATION_LIMIT_TTFT_P50:
        return &ttft->at[VALIDATION_P50];
    case VALIDATION_LIMIT_TTFT_P99:
        return &ttft->at[VALIDATION_P99];
    case VALIDATION_LIMIT_TOK_PER_S:
    case VALIDATION_LIMITS_COUNT:
        break;
    }
    return &row->tok_per_s;
}

static void finding_cell(struct grid *g, const struct validation_row *row)
{
    struct text t = grid_cell(g);
    if (!row->judged) {
        text_add(&t, "not judged: %s", row->why);
        return;
    }
    for (int i = 0; i < VALIDATION_LIMITS_COUNT; i++) {
        if (row->exceeds[i]) {
            text_add(&t, "%s%s",
                     t.used > 0 ? ", " : "exceeded: ", limit_name((enum validation_limit)i));
        }
    }
    text_add(&t, "%s", t.used > 0 ? "" : "within");
}

/* ---- tables ---- */

/* The time between tokens that a load has: of requests, or, where those are cut off, of gaps. */
static const struct validation_value *token_time_of(const struct validation_row *row)
{
    const struct validation_value *tpot = &row->latency[VALIDATION_TPOT].at[VALIDATION_MEAN];
    return isnan(tpot->error_frac) ? &row->latency[VALIDATION_ITL].at[VALIDATION_MEAN] : tpot;
}

static bool any_ttft(const struct validation *v)
{
    bool any = false;
    for (uint32_t i = 0; i < v->rows_count; i++) {
        any = any || !isnan(v->rows[i].latency[VALIDATION_TTFT].at[VALIDATION_MEAN].error_frac);
    }
    return any;
}

static void ttft_cells(struct grid *g, const struct validation_row *row)
{
    const struct validation_latency *ttft = &row->latency[VALIDATION_TTFT];
    grid_number(g, ttft->at[VALIDATION_P50].measured, 1);
    for (int point = 0; point < VALIDATION_POINTS_COUNT; point++) {
        error_cell(g, ttft->at[point].error_frac);
    }
    grid_number(g, ttft->at[VALIDATION_P99].over_spread, 1);
    share_cell(g, ttft->distance_frac);
    error_cell(g, row->latency[VALIDATION_E2EL].at[VALIDATION_MEAN].error_frac);
}

struct grid validation_grid(const struct validation *v)
{
    static const char *const columns[] = {"<cell", "tokens/s",       "+- %",    "simulated",
                                          "error", "between tokens", "<finding"};
    static const char *const with_ttft[] = {
        "<cell",   "tokens/s", "+- %", "simulated", "error",    "between tokens", "TTFT p50 ms",
        "mean",    "p50",      "p90",  "p99",       "/ spread", "distance",       "end to end mean",
        "<finding"};
    bool ttft = any_ttft(v);
    struct grid g = ttft ? grid_of(with_ttft, sizeof with_ttft / sizeof with_ttft[0])
                         : grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < v->rows_count; i++) {
        const struct validation_row *row = &v->rows[i];
        grid_text(&g, row->cell->name);
        grid_rate(&g, row->tok_per_s.measured);
        share_cell(&g, row->tok_per_s.spread / row->tok_per_s.measured);
        grid_rate(&g, row->tok_per_s.simulated);
        error_cell(&g, row->tok_per_s.error_frac);
        error_cell(&g, token_time_of(row)->error_frac);
        if (ttft) {
            ttft_cells(&g, row);
        }
        finding_cell(&g, row);
    }
    return g;
}

struct grid validation_knees_grid(const struct validation *v)
{
    static const char *const columns[] = {"<more stop helping at", "measured", "simulated",
                                          "grid steps apart", "<finding"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < v->knees_count; i++) {
        const struct validation_knee *k = &v->knees[i];
        grid_text(&g, k->curve);
        grid_text(&g, k->measured);
        grid_text(&g, k->simulated);
        grid_number(&g, k->judged ? k->steps : STATS_UNKNOWN, 0);
        grid_text(&g, !k->judged ? "not judged: undecided" : k->exceeds ? "exceeded" : "within");
    }
    return g;
}

/* Every latency of every cell. */
static struct grid latencies_grid(const struct validation *v)
{
    static const char *const columns[] = {"<cell",        "<latency", "measured ms", "+- %",
                                          "simulated ms", "mean",     "/ spread",    "p50",
                                          "p90",          "p99",      "distance"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < v->rows_count; i++) {
        for (int m = 0; m < VALIDATION_METRICS_COUNT; m++) {
            const struct validation_latency *l = &v->rows[i].latency[m];
            const struct validation_value *mean = &l->at[VALIDATION_MEAN];
            if (isnan(mean->error_frac)) {
                continue;
            }
            grid_text(&g, v->rows[i].cell->name);
            grid_text(&g, validation_metric_name((enum validation_metric)m));
            grid_number(&g, mean->measured, 2);
            share_cell(&g, mean->spread / mean->measured);
            grid_number(&g, mean->simulated, 2);
            error_cell(&g, mean->error_frac);
            grid_number(&g, mean->over_spread, 1);
            for (int point = VALIDATION_P50; point < VALIDATION_POINTS_COUNT; point++) {
                error_cell(&g, l->at[point].error_frac);
            }
            share_cell(&g, l->distance_frac);
        }
    }
    return g;
}

static void write_grid(struct grid g, FILE *out)
{
    if (grid_rows(&g) > 0) {
        (void)fputc('\n', out);
        grid_markdown(&g, out);
    }
    grid_free(&g);
}

void validation_markdown(const struct validation *v, FILE *out)
{
    (void)fprintf(
        out,
        "\n## Simulation against measurement\n\nThe same requests and seeds, simulated "
        "before they were measured. Errors in %% of the measured value, signed; *+-* and "
        "*spread*: standard deviation of the measured runs of a cell (of %d and more it "
        "is firm); *distance*: Wasserstein distance over the measured mean. Limits: "
        "tokens/s %.0f %%, TTFT p50 %.0f %%, TTFT p99 %.0f %% or %.0f spreads, where more "
        "stop helping %d step of the grid. `validation.csv` has every number.\n",
        VALIDATION_RUNS_FIRM, VALIDATION_TOK_PER_S_MAX * 100, VALIDATION_TTFT_P50_MAX * 100,
        VALIDATION_TTFT_P99_MAX * 100, VALIDATION_SPREADS_MAX, VALIDATION_KNEE_STEPS_MAX);
    write_grid(validation_grid(v), out);
    write_grid(validation_knees_grid(v), out);
    write_grid(latencies_grid(v), out);
}

/* ---- the sentence ---- */

static void name_cell(struct text *t, const char *name, uint32_t index)
{
    if (index < NAMED_MAX) {
        text_add(t, "%s%s", index > 0 ? "; " : "", name);
    } else if (index == NAMED_MAX) {
        text_add(t, "; ...");
    }
}

/* "api_servers=1,dp=8 (TTFT p50 +9.1 %, TTFT p99 +31.0 %)" */
static void tell_excess(struct text *t, const struct validation_row *row, uint32_t index)
{
    bool first = true;
    name_cell(t, row->cell->name, index);
    for (int i = 0; i < VALIDATION_LIMITS_COUNT && index < NAMED_MAX; i++) {
        enum validation_limit limit = (enum validation_limit)i;
        if (row->exceeds[i]) {
            text_add(t, "%s%s %+.1f %%", first ? " (" : ", ", limit_name(limit),
                     value_of(row, limit)->error_frac * 100);
            first = false;
        }
    }
    text_add(t, "%s", first ? "" : ")");
}

static void tell_excesses(const struct validation *v, struct text *t)
{
    uint32_t told = 0;
    text_add(t, "The simulation exceeds its limits: ");
    for (uint32_t i = 0; i < v->rows_count; i++) {
        const struct validation_row *row = &v->rows[i];
        for (int k = 0; k < VALIDATION_LIMITS_COUNT; k++) {
            if (row->exceeds[k]) {
                tell_excess(t, row, told++);
                break;
            }
        }
    }
    for (uint32_t i = 0; i < v->knees_count; i++) {
        if (v->knees[i].exceeds) {
            name_cell(t, v->knees[i].curve, told);
            text_add(t, "%s", told < NAMED_MAX ? " (where more stop helping)" : "");
            told++;
        }
    }
    text_add(t, ". ");
}

/* The greatest error of the judged cells; NAN: none knows it. */
static double greatest(const struct validation *v, enum validation_limit limit)
{
    double most = STATS_UNKNOWN;
    for (uint32_t i = 0; i < v->rows_count; i++) {
        double error = fabs(value_of(&v->rows[i], limit)->error_frac);
        most = v->rows[i].judged && !(error <= most) && !isnan(error) ? error : most;
    }
    return most;
}

static void tell_greatest(const struct validation *v, struct text *t)
{
    uint32_t judged = validation_judged(v);
    text_add(t, "Throughput within %.1f %% in ", greatest(v, VALIDATION_LIMIT_TOK_PER_S) * 100);
    if (judged < v->rows_count) {
        text_add(t, "%u of %u cells", judged, v->rows_count);
    } else if (judged == 1) {
        text_add(t, "the one cell");
    } else {
        text_add(t, "all %u cells", judged);
    }
    for (int i = VALIDATION_LIMIT_TTFT_P50; i < VALIDATION_LIMITS_COUNT; i++) {
        double most = greatest(v, (enum validation_limit)i);
        if (!isnan(most)) {
            text_add(t, ", %s within %.1f %%", limit_name((enum validation_limit)i), most * 100);
        }
    }
}

static void tell_knees(const struct validation *v, struct text *t)
{
    uint32_t judged = 0;
    uint32_t most = 0;
    for (uint32_t i = 0; i < v->knees_count; i++) {
        judged += v->knees[i].judged ? 1 : 0;
        most = v->knees[i].judged && v->knees[i].steps > most ? v->knees[i].steps : most;
    }
    if (judged == 0) {
        return;
    }
    text_add(t, "; extra %s stop helping at the same count", v->plural);
    if (most > 0) {
        text_add(t, " or at most %u grid step%s apart", most, most == 1 ? "" : "s");
    }
    text_add(t, " in %u of %u curve%s", judged, v->knees_count, v->knees_count == 1 ? "" : "s");
}

static void tell_unjudged(const struct validation *v, struct text *t)
{
    uint32_t told = 0;
    for (uint32_t i = 0; i < v->rows_count; i++) {
        if (!v->rows[i].judged) {
            text_add(t, "%s", told == 0 ? " Not judged: " : "");
            name_cell(t, v->rows[i].cell->name, told);
            if (told++ < NAMED_MAX) {
                text_add(t, " (%s)", v->rows[i].why);
            }
        }
    }
    text_add(t, "%s", told > 0 ? "." : "");
}

void validation_tell(const struct validation *v, struct text *t)
{
    if (validation_judged(v) > 0) {
        if (validation_exceeding(v) > 0) {
            tell_excesses(v, t);
        }
        tell_greatest(v, t);
        tell_knees(v, t);
        text_add(t, ".");
    } else {
        text_add(t, "Simulation and measurement cannot be compared.");
    }
    tell_unjudged(v, t);
}
