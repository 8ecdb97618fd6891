/*
 * comparison_text.c - a comparison on paper (comparison.h): the sentence first, then the table.
 * Concludes nothing.
 */
#include <math.h>
#include <string.h>

#include "harness/report/comparison.h"
#include "harness/report/text.h"

enum {
    SENTENCE_BYTES = 1024,
    NAMED_MAX = 3 /* rows named in the sentence */
};

static const char *plural(uint32_t count)
{
    return count == 1 ? "" : "s";
}

/* Of a better or worse metric: "output_tok_per_s of dp=2 by 7.1 % (at least 5.2 %)". */
static void add_change(struct text *t, const struct comparison_row *row)
{
    const struct gate_effect *e = &row->effect;
    if (row->counts_failures) {
        text_add(t, "%s of %s: %s", row->metric, row->cell, row->why);
        return;
    }
    double least = e->change_frac < 0 ? e->change_hi_frac : e->change_lo_frac;
    text_add(t, "%s of %s %s by %.3g %% (at least %.3g %%)", row->metric, row->cell,
             e->change_frac < 0 ? "fell" : "rose", 100 * fabs(e->change_frac), 100 * fabs(least));
}

static void add_rows(struct text *t, const struct comparison *c, enum gate_verdict verdict)
{
    uint32_t named = 0;
    for (uint32_t i = 0; i < c->rows_count; i++) {
        const struct comparison_row *row = &c->rows[i];
        if (row->verdict != verdict) {
            continue;
        }
        if (named == NAMED_MAX) {
            text_add(t, "; ...");
            return;
        }
        text_add(t, "%s", named++ > 0 ? "; " : " ");
        if (verdict == GATE_INCONCLUSIVE) {
            text_add(t, "%s of %s: %s", row->metric, row->cell, row->why);
        } else {
            add_change(t, row);
        }
    }
}

static void sentence(const struct comparison *c, struct text *t)
{
    uint32_t all = c->rows_count;
    uint32_t worse = comparison_count(c, GATE_REGRESSION);
    uint32_t open = comparison_count(c, GATE_INCONCLUSIVE);
    uint32_t better = comparison_count(c, GATE_IMPROVEMENT);
    if (all == 0) {
        text_add(t, "Inconclusive: these runs have none of the metrics.");
        return;
    }
    if (worse > 0) {
        text_add(t, "Regression in %u of %u comparison%s:", worse, all, plural(all));
        add_rows(t, c, GATE_REGRESSION);
    } else if (open > 0) {
        text_add(t, "Inconclusive in %u of %u comparison%s:", open, all, plural(all));
        add_rows(t, c, GATE_INCONCLUSIVE);
    } else {
        text_add(t, "No regression: %u comparison%s, none worse beyond its tolerance", all,
                 plural(all));
    }
    if (better > 0) {
        text_add(t, ". Improvement:");
        add_rows(t, c, GATE_IMPROVEMENT);
    }
    text_add(t, ".");
}

static void print_percent(FILE *out, int width, double frac)
{
    if (isnan(frac)) {
        (void)fprintf(out, " %*s", width, "-");
    } else {
        (void)fprintf(out, " %+*.2f", width, 100 * frac);
    }
}

static void print_value(FILE *out, double value)
{
    if (isnan(value)) {
        (void)fprintf(out, " %11s", "-");
    } else {
        (void)fprintf(out, " %11.5g", value);
    }
}

static void print_row(FILE *out, const struct comparison_row *row, int cell_width)
{
    const struct gate_effect *e = &row->effect;
    char runs[32];
    (void)snprintf(runs, sizeof runs, "%u%s%u", e->base_count, e->paired ? "=" : "|",
                   e->changed_count);
    (void)fprintf(out, "%-*s %-20s %7s", cell_width, row->cell, row->metric,
                  row->counts_failures ? "" : runs);
    print_value(out, row->base);
    print_value(out, row->changed);
    print_percent(out, 8, e->change_frac);
    print_percent(out, 8, e->change_lo_frac);
    print_percent(out, 8, e->change_hi_frac);
    if (isnan(row->p)) {
        (void)fprintf(out, " %7s", "-");
    } else {
        (void)fprintf(out, " %7.4f", row->p);
    }
    if (isnan(e->detectable_frac)) {
        (void)fprintf(out, " %6s", "-");
    } else {
        (void)fprintf(out, " %6.1f", 100 * e->detectable_frac);
    }
    (void)fprintf(out, "  %s%s%s\n", gate_verdict_name(row->verdict),
                  row->why[0] != '\0' ? ": " : "", row->why);
}

void comparison_print(const struct comparison *c, const struct comparison_options *options,
                      FILE *out)
{
    char words[SENTENCE_BYTES];
    struct text t = text_into(words, sizeof words);
    int cell_width = 4;
    sentence(c, &t);
    (void)fprintf(out, "%s\n\nbase    %s (%u run%s)\nchanged %s (%u run%s)\n", words, options->base,
                  c->base.rows_count, plural(c->base.rows_count), options->changed,
                  c->changed.rows_count, plural(c->changed.rows_count));
    if (c->configurations_differ) {
        (void)fprintf(out,
                      "Their configurations differ: more than the version may have changed.\n");
    }
    for (uint32_t i = 0; i < c->rows_count; i++) {
        int width = (int)strlen(c->rows[i].cell);
        cell_width = width > cell_width ? width : cell_width;
    }
    (void)fprintf(out, "\n%-*s %-20s %7s %11s %11s %8s %8s %8s %7s %6s  %s\n", cell_width, "cell",
                  "metric", "runs", "base", "changed", "change %", "least %", "most %", "p worse",
                  "find %", "verdict");
    for (uint32_t i = 0; i < c->rows_count; i++) {
        print_row(out, &c->rows[i], cell_width);
    }
    (void)fprintf(out,
                  "\nruns: n=n in pairs, n|m unpaired; least, most: each holds with %.4g %%; "
                  "find: the worsening that 4 of 5\nsuch comparisons find.\n",
                  100 * (1 - options->alpha / options->looks_count));
}

void comparison_annotate(const struct comparison *c, FILE *out)
{
    for (uint32_t i = 0; i < c->rows_count; i++) {
        const struct comparison_row *row = &c->rows[i];
        char words[SENTENCE_BYTES];
        struct text t = text_into(words, sizeof words);
        bool worse = row->verdict == GATE_REGRESSION;
        if (!worse && row->verdict != GATE_INCONCLUSIVE) {
            continue;
        }
        if (worse) {
            add_change(&t, row);
        } else {
            text_add(&t, "%s of %s: %s", row->metric, row->cell, row->why);
        }
        (void)fprintf(out, "::%s title=harness compare::", worse ? "error" : "warning");
        for (const char *at = words; *at != '\0'; at++) { /* a per cent sign starts an escape */
            (void)fputs(*at == '%' ? "%25" : (char[]){*at, '\0'}, out);
        }
        (void)fputc('\n', out);
    }
}
