/*
 * confirmed.c - owns how predictions that were put to the test are judged and written
 * (confirmed.h). Driven by report.c and harness/run/confirm.c. Must not call a prediction wrong for
 * what the host could not carry.
 */
#include "harness/report/confirmed.h"

#include <math.h>
#include <stdlib.h>

#include "harness/report/table.h"

enum {
    SCHEMA = 1
};

void confirmed_free(struct confirmed *c)
{
    free(c->rows);
    *c = (struct confirmed){.count = 0};
}

/* ---- judgement ---- */

/* A bound of the gain as throughput. */
static double rate_at(const struct confirmed_row *row, double gain)
{
    return row->tok_per_s * (1 + gain);
}

enum confirmed_finding confirmed_judge(const struct confirmed_row *row)
{
    if (row->evidence_count == 0) {
        return CONFIRMED_NOT;
    }
    if (isnan(row->predicted.lo) || isnan(row->predicted.hi)) {
        return CONFIRMED_NO_INTERVAL;
    }
    bool inside = row->measured_tok_per_s >= rate_at(row, row->predicted.lo) &&
                  row->measured_tok_per_s <= rate_at(row, row->predicted.hi);
    return inside ? CONFIRMED_INSIDE : CONFIRMED_OUTSIDE;
}

static const char *finding_name(const struct confirmed_row *row)
{
    static const char *const names[] = {
        [CONFIRMED_INSIDE] = "inside",
        [CONFIRMED_OUTSIDE] = "outside",
        [CONFIRMED_NO_INTERVAL] = "no_interval",
        [CONFIRMED_NOT] = "not_confirmable",
    };
    return names[confirmed_judge(row)];
}

/* ---- confirm.csv ---- */

static void write_row(struct table *t, const struct confirmed_row *row)
{
    const struct attribution_gain *g = &row->predicted;
    table_count(t, "schema", SCHEMA);
    table_text(t, "of", row->of);
    table_text(t, "cell", t->naming ? "" : row->cell->name);
    table_text(t, "stage", row->stage);
    table_text(t, "configuration", row->configuration);
    table_number(t, "cell_tok_per_s", row->tok_per_s);
    table_number(t, "predicted_tok_per_s", rate_at(row, g->gain));
    table_number(t, "predicted_tok_per_s_lo", rate_at(row, g->lo));
    table_number(t, "predicted_tok_per_s_hi", rate_at(row, g->hi));
    table_text(t, "predicted_limit", g->then);
    table_number(t, "measured_tok_per_s", row->measured_tok_per_s);
    table_text(t, "finding", t->naming ? "" : finding_name(row));
    table_count(t, "runs_count", row->runs_count);
    table_count(t, "evidence_runs_count", row->evidence_count);
    table_text(t, "reason", row->reason);
    table_end_row(t);
}

enum status confirmed_write(const struct confirmed *c, const char *folder, struct error *error)
{
    static const struct confirmed_row nothing;
    struct table t;
    TRY(table_open(&t, folder, "confirm.csv", error));
    t.naming = true;
    write_row(&t, &nothing);
    t.naming = false;
    for (uint32_t i = 0; i < c->count; i++) {
        write_row(&t, &c->rows[i]);
    }
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

/* ---- for a person ---- */

static void add_predicted(struct text *t, const struct confirmed_row *row)
{
    text_rate(t, rate_at(row, row->predicted.gain));
    if (!isnan(row->predicted.lo) && !isnan(row->predicted.hi)) {
        text_add(t, " [");
        text_rate(t, rate_at(row, row->predicted.lo));
        text_add(t, ", ");
        text_rate(t, rate_at(row, row->predicted.hi));
        text_add(t, "]");
    }
}

struct grid confirmed_grid(const struct confirmed *c)
{
    static const char *const columns[] = {
        "<of",          "<cell",     "tokens/s", "<with",   "predicted tokens/s [95 %]",
        "<then limits", "differs %", "measured", "<finding"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct confirmed_row *row = &c->rows[i];
        grid_text(&g, row->of);
        grid_text(&g, row->cell->name);
        grid_rate(&g, row->tok_per_s);
        grid_text(&g, row->configuration);
        struct text t = grid_cell(&g);
        add_predicted(&t, row);
        grid_text(&g, row->predicted.then);
        double predicted = rate_at(row, row->predicted.gain);
        grid_number(&g, (row->measured_tok_per_s / predicted - 1) * 100, 1);
        grid_rate(&g, row->measured_tok_per_s);
        grid_text(&g, finding_name(row));
    }
    return g;
}

void confirmed_markdown(const struct confirmed *c, FILE *out)
{
    (void)fputs("\n## Predictions put to the test\n\nThe sweep says what twice the servers of the "
                "stage that limits a curve's last cell (without curves: a cell) should bring. "
                "Where that configuration was not one of its cells, it was run after the sweep. "
                "The interval was said before.\n\n",
                out);
    struct grid g = confirmed_grid(c);
    if (grid_rows(&g) > 0) {
        grid_markdown(&g, out);
    } else {
        (void)fputs("Nothing to test: what was predicted is in the sweep, or nothing was.\n", out);
    }
    grid_free(&g);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct confirmed_row *row = &c->rows[i];
        if (row->reason[0] != '\0') {
            (void)fprintf(out, "\n- %s with %s: %s.\n", row->cell->name, row->configuration,
                          row->reason);
        }
    }
}

static void tell_row(const struct confirmed_row *row, struct text *t)
{
    text_add(t, " %s with %s: predicted ", row->cell->name, row->configuration);
    add_predicted(t, row);
    text_add(t, " tokens/s, ");
    switch (confirmed_judge(row)) {
    case CONFIRMED_INSIDE:
    case CONFIRMED_OUTSIDE:
    case CONFIRMED_NO_INTERVAL:
        text_add(t, "measured ");
        text_rate(t, row->measured_tok_per_s);
        text_add(t, ": %s",
                 confirmed_judge(row) == CONFIRMED_INSIDE    ? "inside"
                 : confirmed_judge(row) == CONFIRMED_OUTSIDE ? "outside"
                                                             : "the prediction has no interval");
        break;
    case CONFIRMED_NOT:
        text_add(t, "not confirmable: %s", row->reason);
        break;
    }
    text_add(t, ".");
}

void confirmed_tell(const struct confirmed *c, struct text *t)
{
    text_add(t, "%s",
             c->count > 0 ? "Put to the test:"
                          : "Nothing to put to the test: what was predicted is among the cells, "
                            "or nothing was.");
    for (uint32_t i = 0; i < c->count; i++) {
        tell_row(&c->rows[i], t);
    }
}
