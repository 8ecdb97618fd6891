/*
 * compat_columns.c - names and values of the columns (compat_columns.h). Computes nothing.
 */
#include "harness/report/compat_columns.h"

#include <stdio.h>

#include "harness/analysis/stats.h"

enum {
    COLUMN_BYTES = 48
};

static const char *name_of(enum compat_tool tool, const char *what, const char *part,
                           char out[COLUMN_BYTES])
{
    (void)snprintf(out, COLUMN_BYTES, "%s_%s%s", compat_tool_name(tool), what, part);
    return out;
}

static void spread_columns(struct table *t, enum compat_tool tool, const char *metric,
                           const struct compat_spread *s)
{
    char name[COLUMN_BYTES];
    table_number(t, name_of(tool, metric, "_mean_ms", name), s->mean_ms);
    table_number(t, name_of(tool, metric, "_p50_ms", name), s->p50_ms);
    table_number(t, name_of(tool, metric, "_p90_ms", name), s->p90_ms);
    table_number(t, name_of(tool, metric, "_p99_ms", name), s->p99_ms);
}

static void tool_columns(struct table *t, enum compat_tool tool, const struct compat_seen *s)
{
    static const struct compat_spread nothing = {0, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                                 STATS_UNKNOWN};
    char name[COLUMN_BYTES];
    bool known = s->is_known;
    table_known(t, name_of(tool, "ok_count", "", name), known ? (int64_t)s->success_count : -1);
    table_known(t, name_of(tool, "left_out_count", "", name),
                known ? (int64_t)s->left_out_count : -1);
    table_number(t, name_of(tool, "requests_per_s", "", name),
                 known ? s->rates.requests_per_s : STATS_UNKNOWN);
    table_number(t, name_of(tool, "output_tok_per_s", "", name),
                 known ? s->rates.output_tok_per_s : STATS_UNKNOWN);
    spread_columns(t, tool, "ttft", known ? &s->ttft : &nothing);
    spread_columns(t, tool, "tpot", known ? &s->tpot : &nothing);
    spread_columns(t, tool, "itl", known ? &s->itl : &nothing);
    spread_columns(t, tool, "e2e", known ? &s->e2e : &nothing);
}

void compat_columns(struct table *t, const struct run_result *r, uint32_t tools)
{
    for (uint32_t i = 0; i < COMPAT_TOOLS_COUNT; i++) {
        if ((tools & 1U << i) != 0) {
            tool_columns(t, (enum compat_tool)i, &r->compat[i]);
        }
    }
}
