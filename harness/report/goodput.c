/*
 * goodput.c - owns what is said about limits that are kept or missed (goodput.h). Driven by rows,
 * summary and verdict. Must not call a limit missed that too few requests, or a host without CPU
 * left, let appear so.
 */
#include "harness/report/goodput.h"

#include <math.h>

#include "harness/report/summary.h"

enum {
    CELLS_TOLD = 4
};

#define BOUND_CONFIDENCE 0.975 /* on each side of a two-sided 95 % interval */
#define JUDGE_CONFIDENCE 0.95
#define TTFT_P           0.99
#define TPOT_P           0.95

struct goodput goodput_of(const struct run_slo *slo, double window_s)
{
    struct goodput out = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    const struct run_limit *any = &slo->any;
    struct slo_test test;
    if (!slo->is_known || any->requests_count == 0 || !(window_s > 0)) {
        return out;
    }
    slo_judge((double)any->requests_count, (double)any->over_count, any->inflation, TTFT_P,
              BOUND_CONFIDENCE, &test);
    out.rps = (double)(any->requests_count - any->over_count) / window_s;
    out.frac = 1 - (double)any->over_count / (double)any->requests_count;
    out.lo = 1 - test.over_hi;
    out.hi = 1 - test.over_lo;
    return out;
}

static void add_limit(struct run_limit *sum, const struct run_limit *limit)
{
    uint64_t count = sum->requests_count + limit->requests_count;
    if (count > 0) {
        double weighted = sum->inflation * (double)sum->requests_count +
                          limit->inflation * (double)limit->requests_count;
        *sum = (struct run_limit){.requests_count = count,
                                  .over_count = sum->over_count + limit->over_count,
                                  .inflation = weighted / (double)count};
    }
}

void goodput_add(struct run_slo *sum, const struct run_slo *slo)
{
    if (slo->is_known) {
        sum->is_known = true;
        sum->failed_count += slo->failed_count;
        add_limit(&sum->ttft, &slo->ttft);
        add_limit(&sum->tpot, &slo->tpot);
        add_limit(&sum->any, &slo->any);
    }
}

/* ---- kept or missed ---- */

static struct slo_test judge_limit(const struct run_limit *limit, int64_t limit_ns, double p)
{
    struct slo_test out = {.outcome = SLO_PASS};
    if (limit_ns > 0) {
        out = (struct slo_test){.outcome = SLO_UNDECIDED};
    }
    if (limit_ns > 0 && limit->requests_count > 0) {
        slo_judge((double)limit->requests_count, (double)limit->over_count, limit->inflation, p,
                  JUDGE_CONFIDENCE, &out);
    }
    return out;
}

static enum slo_outcome worse(enum slo_outcome a, enum slo_outcome b)
{
    if (a == SLO_FAIL || b == SLO_FAIL) {
        return SLO_FAIL;
    }
    return a == SLO_PASS && b == SLO_PASS ? SLO_PASS : SLO_UNDECIDED;
}

struct goodput_state goodput_judge(const struct scenario_slo *slo, const struct run_slo *counted)
{
    double failed = (double)counted->failed_count;
    double allowed = slo->error_max_frac * (double)counted->any.requests_count;
    struct goodput_state s = {
        .ttft = judge_limit(&counted->ttft, slo->ttft_p99_max_ns, TTFT_P),
        .tpot = judge_limit(&counted->tpot, slo->tpot_p95_max_ns, TPOT_P),
        .errors = failed > allowed ? SLO_FAIL : SLO_PASS,
    };
    s.all = worse(s.errors, worse(s.ttft.outcome, s.tpot.outcome));
    return s;
}

/* A host without CPU left can show that limits are kept, not that the system misses them. */
static enum slo_outcome outcome_of(const struct summary_point *p, struct goodput_state *s)
{
    *s = goodput_judge(&p->cell->slo, &p->slo);
    return s->all == SLO_FAIL && !p->evidence ? SLO_UNDECIDED : s->all;
}

const char *goodput_status(const struct summary_point *p)
{
    static const char *const words[] = {
        [SLO_UNDECIDED] = "undecided", [SLO_PASS] = "kept", [SLO_FAIL] = "missed"};
    struct goodput_state state;
    return p->slo.is_known ? words[outcome_of(p, &state)] : "";
}

/* ---- sentences ---- */

static void tell_limit(struct text *t, const char *name, const struct run_limit *limit,
                       double limit_ms, double p)
{
    text_add(t, "%s (%.3g %% of %llu requests over %.6g ms, %.0f %% may be)", name,
             100 * (double)limit->over_count / (double)limit->requests_count,
             (unsigned long long)limit->requests_count, limit_ms, 100 * (1 - p));
}

static void tell_missed(struct text *t, const struct summary_point *p,
                        const struct goodput_state *s)
{
    const struct scenario_slo *slo = &p->cell->slo;
    const char *lead = "";
    text_add(t, "%s misses ", p->cell->name);
    if (s->ttft.outcome == SLO_FAIL) {
        tell_limit(t, "ttft_p99_max", &p->slo.ttft, (double)slo->ttft_p99_max_ns / 1e6, TTFT_P);
        lead = " and ";
    }
    if (s->tpot.outcome == SLO_FAIL) {
        text_add(t, "%s", lead);
        tell_limit(t, "tpot_p95_max", &p->slo.tpot, (double)slo->tpot_p95_max_ns / 1e6, TPOT_P);
        lead = " and ";
    }
    if (s->errors == SLO_FAIL) {
        text_add(t, "%serror_max (%llu of %llu requests failed, %.4g %% may)", lead,
                 (unsigned long long)p->slo.failed_count,
                 (unsigned long long)p->slo.any.requests_count, 100 * slo->error_max_frac);
    }
    text_add(t, " of [slo %s]", slo->name);
}

static void tell_undecided(struct text *t, const struct summary_point *p,
                           const struct goodput_state *s)
{
    text_add(t, "%s (%s)", p->cell->name,
             s->all == SLO_FAIL ? "missed, but the host was busy"
                                : "too few requests to tell either way");
}

static bool tell(const struct summary *s, enum slo_outcome wanted, const char *lead, struct text *t)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        struct goodput_state state;
        if (!p->slo.is_known || outcome_of(p, &state) != wanted) {
            continue;
        }
        if (count < CELLS_TOLD) {
            text_add(t, "%s", count > 0 ? "; " : lead);
            if (wanted == SLO_FAIL) {
                tell_missed(t, p, &state);
            } else {
                tell_undecided(t, p, &state);
            }
        }
        count++;
    }
    if (count > CELLS_TOLD) {
        text_add(t, "; and %u cells more", count - CELLS_TOLD);
    }
    text_add(t, "%s", count > 0 ? "." : "");
    return count > 0;
}

bool goodput_tell_missed(const struct summary *s, struct text *t)
{
    return tell(s, SLO_FAIL, " SLO: ", t);
}

bool goodput_tell_undecided(const struct summary *s, struct text *t)
{
    return tell(s, SLO_UNDECIDED, "SLO undecided: ", t);
}

/* ---- a table ---- */

static void over_cell(struct grid *g, const struct run_limit *limit, int64_t limit_ns)
{
    double share = (double)limit->over_count / (double)limit->requests_count;
    struct text t = grid_cell(g);
    text_number(&t, limit_ns > 0 && limit->requests_count > 0 ? 100 * share : STATS_UNKNOWN, 2);
}

struct grid goodput_grid(const struct summary *s)
{
    static const char *const columns[] = {"<cell",
                                          "<SLO",
                                          "requests",
                                          "good/s",
                                          "good %",
                                          "<95 % interval",
                                          "failed",
                                          "over TTFT limit %",
                                          "over TPOT limit %",
                                          "<limits"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        const struct scenario_slo *slo = &p->cell->slo;
        if (!p->slo.is_known) {
            continue;
        }
        grid_text(&g, p->cell->name);
        grid_text(&g, slo->name);
        grid_number(&g, (double)p->slo.any.requests_count, 0);
        grid_number(&g, p->goodput.rps, 2);
        grid_number(&g, 100 * p->goodput.frac, 2);
        struct text t = grid_cell(&g);
        text_add(&t, "%.2f to %.2f", 100 * p->goodput.lo, 100 * p->goodput.hi);
        grid_number(&g, (double)p->slo.failed_count, 0);
        over_cell(&g, &p->slo.ttft, slo->ttft_p99_max_ns);
        over_cell(&g, &p->slo.tpot, slo->tpot_p95_max_ns);
        grid_text(&g, goodput_status(p));
    }
    return g;
}

void goodput_markdown(const struct summary *s, FILE *out)
{
    struct grid g = goodput_grid(s);
    if (grid_rows(&g) > 0) {
        (void)fputs(
            "\n## Limits\n\nGood are requests that succeed within every limit of the [slo], "
            "of all that were due in the window. A limit is kept or missed when an exact "
            "binomial bound (95 %) says so, with all runs of the cell together.\n\n",
            out);
        grid_markdown(&g, out);
    }
    grid_free(&g);
}
