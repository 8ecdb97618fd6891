/*
 * plot_ceilings.c - the ceilings of ceilings.csv, for gnuplot (plot_ceilings.h). Driven by data.c
 * and figures.c. Must not draw conclusions: which ceiling is the lowest was decided in
 * attribution.c.
 */
#include "harness/report/plot_ceilings.h"

#include "harness/report/ceilings.h"
#include "harness/report/table.h"
#include "harness/report/text.h"

/* How a ceiling is drawn. */
enum place {
    PLACE_OTHER,
    PLACE_NEXT,
    PLACE_LOWEST
};

static void write_row(struct table *t, const char *title, const struct ceilings_of *c,
                      uint32_t index)
{
    const struct attribution_stage *s = &c->attribution->stages[index];
    const struct demand_verdict *v = &c->attribution->verdict;
    const struct demand *d = &s->demand;
    enum place place = (int)index == v->first  ? PLACE_LOWEST
                       : (int)index == v->next ? PLACE_NEXT
                                               : PLACE_OTHER;
    table_text(t, "title", title);
    table_text(t, "stage", s->stage);
    table_count(t, "place", (uint64_t)place);
    table_number(t, "ceiling_tok_per_s", d->known ? d->ceiling_rate : STATS_UNKNOWN);
    table_number(t, "ceiling_tok_per_s_lo", d->known ? d->ceiling_lo : STATS_UNKNOWN);
    table_number(t, "ceiling_tok_per_s_hi", d->known ? d->ceiling_hi : STATS_UNKNOWN);
    table_number(t, "tok_per_s", c->point->tok_per_s);
    table_flag(t, "end", true); /* an empty last field would be read as the line's end */
    table_end_row(t);
}

/* "2 API servers, 8 engine cores"; of a cell that is on no curve its name. */
static void say_title(const struct summary *s, const struct ceilings_of *c, struct text *t)
{
    text_add(t, "%s", c->label);
    if (s->scaling) {
        text_add(t, ", %u %s", c->point->along, c->point->along == 1 ? s->noun : s->plural);
    }
}

static void write_panels(struct table *t, const struct summary *s)
{
    struct ceilings_of c;
    for (uint32_t i = 0; ceilings_next(s, i, &c); i++) {
        char title[192];
        struct text said = text_into(title, sizeof title);
        say_title(s, &c, &said);
        for (uint32_t k = 0; k < c.attribution->stages_count; k++) {
            table_count(t, "panel", i);
            write_row(t, title, &c, k);
        }
    }
}

enum status plot_ceilings_write(const struct summary *s, const char *folder, struct error *error)
{
    static const struct attribution nothing = {.stages_count = 1};
    static const struct summary_point no_point;
    const struct ceilings_of none = {.label = "", .point = &no_point, .attribution = &nothing};
    struct table t;
    TRY(table_open(&t, folder, "plot_ceilings.tsv", error));
    t.tabs = true;
    t.naming = true;
    table_count(&t, "panel", 0);
    write_row(&t, "", &none, 0);
    t.naming = false;
    write_panels(&t, s);
    enum status status = table_sync(&t, error);
    table_close(&t);
    return status;
}

bool plot_ceilings_any(const struct summary *s)
{
    struct ceilings_of c;
    for (uint32_t i = 0; ceilings_next(s, i, &c); i++) {
        for (uint32_t k = 0; k < c.attribution->stages_count; k++) {
            if (c.attribution->stages[k].demand.known) {
                return true;
            }
        }
    }
    return false;
}
