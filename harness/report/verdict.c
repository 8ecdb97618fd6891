/*
 * verdict.c - from a summary to sentences (verdict.h). Decides nothing: what is flat, useful or
 * limited was decided in harness/analysis.
 */
#include "harness/report/verdict.h"

#include <math.h>
#include <string.h>

#include "harness/report/ceilings.h"
#include "harness/report/contrasts.h"
#include "harness/report/goodput.h"

enum {
    CURVES_TOLD = 6, /* in one sentence; the report has all */
    CELLS_TOLD = 4,
    POINTS_TOLD = 2
};

static uint32_t servers_of(const struct summary_point *p, const char *stage)
{
    for (uint32_t i = 0; i < p->stages_count; i++) {
        if (strcmp(p->stages[i].stage, stage) == 0) {
            return p->stages[i].servers_count;
        }
    }
    return 1;
}

void verdict_stage(struct text *t, const struct summary_point *p)
{
    const struct stage_verdict *v = &p->verdict;
    bool many = servers_of(p, v->first) > 1;
    if (p->load != SUMMARY_LOAD_FULL) {
        ceilings_tell_load(p, t);
        return;
    }
    switch (v->kind) {
    case STAGE_NAMED:
        text_add(t, "the %s%s (", text_stage(v->first), many ? "s limit" : " limits");
        text_percent(t, v->first_frac);
        text_add(t, " in use)");
        break;
    case STAGE_MIXED:
        text_add(t, "%s and %s limit together (", text_stage(v->first), text_stage(v->second));
        text_percent(t, v->first_frac);
        text_add(t, " and ");
        text_percent(t, v->second_frac);
        text_add(t, " in use)");
        break;
    case STAGE_UNEXPLAINED:
        if (v->first[0] == '\0') {
            text_add(t, "no stage was observed");
        } else {
            text_add(t, "no stage is full (busiest: %s, ", text_stage(v->first));
            text_percent(t, v->first_frac);
            if (p->gpu_busy_frac >= STAGE_LIMIT_FRAC) {
                text_add(t, "; GPUs compute ");
                text_percent(t, p->gpu_busy_frac);
                text_add(t, " of the time, but no request waits for a place");
            }
            text_add(t, ")");
        }
        break;
    }
}

/* ---- curves ---- */

static void with_label(struct text *t, const struct summary_curve *c, bool first)
{
    if (first) {
        text_add(t, "With %s extra ", c->label);
    } else if (c->by_api_servers) {
        text_add(t, "with %u ", c->api_servers_count);
    } else {
        text_add(t, "with %s ", c->label);
    }
}

static void tell_flat(struct text *t, const struct summary *s, const struct summary_curve *c,
                      bool first)
{
    with_label(t, c, first);
    if (first) {
        text_add(t, "%s ", s->plural);
    } else if (!s->curves[0].decided || s->curves[0].answer.status != SCALING_FLAT) {
        text_add(t, "they ");
    }
    if (first || !s->curves[0].decided || s->curves[0].answer.status != SCALING_FLAT) {
        text_add(t, "stop helping ");
    }
    text_add(t, "at %s: ", c->answer.text);
    verdict_stage(t, c->deciding);
}

static void tell_open(struct text *t, const struct summary *s, const struct summary_curve *c,
                      bool first)
{
    uint32_t last = c->points[c->points_count - 1]->along;
    with_label(t, c, first);
    text_add(t, "%s still help at %u (%s), no knee up to %u: ", first ? s->plural : "they", last,
             c->answer.text, last);
    verdict_stage(t, c->deciding);
}

static void tell_undecided(struct text *t, const struct summary *s, const struct summary_curve *c,
                           bool first)
{
    with_label(t, c, first);
    text_add(t, "%s", first ? s->plural : "they");
    if (c->points_count == 0) {
        text_add(t, " cannot be judged: no run there is evidence");
    } else if (c->answer.status == SCALING_TOO_FEW) {
        text_add(t, " cannot be judged from %u alone: ", c->points[0]->along);
        verdict_stage(t, c->deciding);
    } else if (c->answer.status == SCALING_NO_VARIANCE) {
        text_add(t, " cannot be judged: the noise is not known (one run of one batch a cell)");
    } else {
        text_add(t, " help through %u; beyond that the intervals are too wide to tell up to %u",
                 c->answer.lo, c->points[c->points_count - 1]->along);
    }
}

static void tell_curve(struct text *t, const struct summary *s, const struct summary_curve *c,
                       bool first)
{
    if (!c->decided) {
        tell_undecided(t, s, c, first);
    } else if (c->answer.status == SCALING_FLAT) {
        tell_flat(t, s, c, first);
    } else {
        tell_open(t, s, c, first);
    }
}

/* `at`: engine cores that the sentence speaks of, 0 at its beginning. Curves end where their
 * evidence does, so the next gain may have been measured at another count. */
static void tell_gain(struct text *t, const struct summary *s, const struct summary_curve *c,
                      uint32_t *at)
{
    bool first = *at == 0;
    if (first) {
        text_add(t, " At %u %s ", c->gain.cores_to, c->gain.cores_to == 1 ? s->noun : s->plural);
    } else if (c->gain.cores_to != *at) {
        text_add(t, "; at %u, ", c->gain.cores_to);
    } else {
        text_add(t, ", ");
    }
    *at = c->gain.cores_to;
    text_add(t, "%u%s carry ", c->api_servers_count, first ? " API servers" : "");
    bool alike = c->gain.lower < 0 && c->gain.upper > 0;
    if (alike) {
        text_add(t, "about as much as %u (%+.0f to %+.0f %%)", c->fewer->api_servers_count,
                 c->gain.lower * 100, c->gain.upper * 100);
    } else {
        text_add(t, "%.0f %% %s than %u", fabs(c->gain.gain) * 100,
                 c->gain.gain < 0 ? "less" : "more", c->fewer->api_servers_count);
    }
    if (c->foretold.known) {
        text_add(t, " (");
        ceilings_tell_foretold(c, t);
        text_add(t, ")");
    }
}

/* Of curves past their knee whose relief was not measured as well. */
static void tell_relief(struct text *t, const struct summary *s, uint32_t told)
{
    for (uint32_t i = 0; i < told; i++) {
        const struct summary_curve *c = &s->curves[i];
        bool measured = false;
        for (uint32_t k = 0; k < s->curves_count; k++) {
            measured = measured || s->curves[k].fewer == c;
        }
        if (measured || !c->decided || c->answer.status != SCALING_FLAT || !c->relief.known) {
            continue;
        }
        const struct ceilings_of of = {c->label, c->points[c->points_count - 1], &c->attribution,
                                       &c->relief};
        text_add(t, " At %u %s ", of.point->along, s->plural);
        ceilings_tell_relief(&of, t);
        text_add(t, ".");
    }
}

static void tell_curves(struct text *t, const struct summary *s)
{
    uint32_t told = s->curves_count < CURVES_TOLD ? s->curves_count : CURVES_TOLD;
    for (uint32_t i = 0; i < told; i++) {
        text_add(t, "%s", i > 0 ? "; " : "");
        tell_curve(t, s, &s->curves[i], i == 0);
    }
    if (told < s->curves_count) {
        text_add(t, "; report.md has %u more curves", s->curves_count - told);
    }
    text_add(t, ".");
    uint32_t at = 0;
    for (uint32_t i = 0; i < told; i++) {
        if (s->curves[i].fewer != NULL) {
            tell_gain(t, s, &s->curves[i], &at);
        }
    }
    text_add(t, "%s", at == 0 ? "" : ".");
    tell_relief(t, s, told);
}

/* ---- single points ---- */

static void tell_losses(struct text *t, const struct summary_point *p)
{
    uint64_t ended = p->ok_count + p->fail_count;
    if (ended == 0) {
        text_add(t, "no request ended in the window");
    } else if (p->fail_count == 0) {
        text_add(t, "none of %llu requests was lost", (unsigned long long)ended);
    } else {
        text_add(t, "%llu of %llu requests were lost", (unsigned long long)p->fail_count,
                 (unsigned long long)ended);
    }
    if (p->refused_count > 0) {
        text_add(t, ", %llu of the trace were refused", (unsigned long long)p->refused_count);
    }
}

static void tell_point(struct text *t, const struct summary_point *p)
{
    if (strcmp(p->cell->name, "single") != 0) {
        text_add(t, "%s: ", p->cell->name);
    }
    if (p->shown_count == 0) {
        text_add(t, "no valid run (%s).", p->reason);
        return;
    }
    text_rate(t, p->tok_per_s);
    text_add(t, " tokens/s");
    if (!isnan(p->tok_per_s_lo)) {
        text_add(t, " [");
        text_rate(t, p->tok_per_s_lo);
        text_add(t, ", ");
        text_rate(t, p->tok_per_s_hi);
        text_add(t, "]");
    }
    if (p->ttft_p99_ms > 0) {
        text_add(t, ", TTFT p99 %.0f ms", p->ttft_p99_ms);
    }
    text_add(t, "; ");
    verdict_stage(t, p);
    if (p->relief.known) {
        const struct ceilings_of of = {"", p, &p->attribution, &p->relief};
        text_add(t, ", ");
        ceilings_tell_relief(&of, t);
    }
    text_add(t, "; ");
    tell_losses(t, p);
    text_add(t, ".");
}

/* Cells whose load cannot show a limit, where the cells are not told one by one. */
static void tell_loads(struct text *t, const struct summary *s, enum summary_load load,
                       const char *words)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        count += s->points[i].load == load ? 1 : 0;
    }
    if (count == 0) {
        return;
    }
    text_add(t, " %s", words);
    uint32_t told = 0;
    for (uint32_t i = 0; i < s->points_count && count < s->points_count; i++) {
        if (s->points[i].load == load && told < CELLS_TOLD) {
            text_add(t, "%s%s", told > 0 ? ", " : " (", s->points[i].cell->name);
            told++;
        }
    }
    if (told > 0 && told < count) {
        text_add(t, " and %u more", count - told);
    }
    text_add(t, "%s: more engine cores cannot help there.", told > 0 ? ")" : " in any cell");
}

/* Of more than two cells only in what they differ: each stands in the table. */
static void tell_points(struct text *t, const struct summary *s)
{
    contrasts_tell(s, t);
    for (uint32_t i = 0; i < s->points_count && s->points_count <= POINTS_TOLD; i++) {
        text_add(t, "%s", t->used > 0 ? " " : "");
        tell_point(t, &s->points[i]);
    }
    if (s->points_count > POINTS_TOLD) {
        tell_loads(t, s, SUMMARY_LOAD_SERVED, "The load asks for no more");
        tell_loads(t, s, SUMMARY_LOAD_FEW, "The latency of single requests decides");
    }
}

/* ---- what is no evidence ---- */

static const struct summary_point *first_failure(const struct summary *s)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].worst != RUN_OK && s->points[i].worst != RUN_INTERRUPTED) {
            return &s->points[i];
        }
    }
    return NULL;
}

static void caveat_host(struct text *t, const struct summary *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        if (p->evidence || p->host_limited_count == 0) {
            continue;
        }
        if (count == 0) {
            text_add(t, "Host limited, so no evidence%s: ", s->scaling ? " for a knee" : "");
        }
        if (count < CELLS_TOLD) {
            text_add(t, "%s%s (", count > 0 ? ", " : "", p->cell->name);
            text_number(t, p->host_cores_used + fmax(0, p->others_cores_used), 1);
            text_add(t, " cores in use)");
        }
        count++;
    }
    if (count > CELLS_TOLD) {
        text_add(t, " and %u more", count - CELLS_TOLD);
    }
    text_add(t, "%s", count > 0 ? ". " : "");
}

static void caveat_runs(struct text *t, const struct summary *s)
{
    const struct summary_point *p = first_failure(s);
    uint32_t failed =
        s->outcomes[RUN_INVALID] + s->outcomes[RUN_SERVER_FAILED] + s->outcomes[RUN_CLIENT_FAILED];
    if (failed > 0 && p != NULL) {
        text_add(t, "%u of %u runs cannot be used, the first: %s: %s. ", failed, s->runs_count,
                 p->cell->name, p->reason);
    }
}

static void caveat_requests(struct text *t, const struct summary *s)
{
    uint64_t failed = 0;
    uint64_t mismatched = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        failed += s->points[i].fail_count;
        mismatched += s->points[i].mismatch_count;
    }
    if (failed > 0 && (s->scaling || s->points_count > POINTS_TOLD)) {
        text_add(t, "%llu requests failed. ", (unsigned long long)failed);
    }
    if (mismatched > 0) {
        text_add(t, "%llu requests had other token counts than asked for. ",
                 (unsigned long long)mismatched);
    }
}

static bool nothing_valid(const struct summary *s)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].valid_count > 0) {
            return false;
        }
    }
    return true;
}

static void tell_nothing(struct text *t, const struct summary *s)
{
    const struct summary_point *p = first_failure(s);
    if (s->runs_count == 0) {
        text_add(t, "Nothing was measured.");
        return;
    }
    if (s->runs_count == 1) {
        text_add(t, "The run gave no usable number");
    } else {
        text_add(t, "None of %u runs gave a usable number", s->runs_count);
    }
    if (p != NULL) {
        text_add(t, "%s: %s", s->runs_count == 1 ? "" : "; the first reason", p->reason);
    }
    text_add(t, ".");
}

static bool any_undecided(const struct summary *s)
{
    for (uint32_t i = 0; i < s->curves_count; i++) {
        if (!s->curves[i].decided) {
            return true;
        }
    }
    return false;
}

static void trim(char *text)
{
    size_t bytes = strlen(text);
    while (bytes > 0 && text[bytes - 1] == ' ') {
        text[--bytes] = '\0';
    }
}

/* What follows begins with a blank of its own. */
static void drop_blank(struct text *t)
{
    if (t->used > 0 && t->out[t->used - 1] == ' ') {
        t->out[--t->used] = '\0';
    }
}

void verdict_write(const struct summary *s, bool interrupted, struct report_conclusion *out)
{
    struct text verdict = text_into(out->verdict, sizeof out->verdict);
    struct text caveat = text_into(out->caveat, sizeof out->caveat);
    if (interrupted) {
        text_add(&verdict, "Interrupted after %u of %u runs. ", s->runs_count, s->planned_count);
    }
    if (s->scenario->general.mode == (uint32_t)SCENARIO_SIMULATE) {
        text_add(&verdict, VERDICT_SIMULATED);
    }
    if (nothing_valid(s)) {
        tell_nothing(&verdict, s);
        out->undecided = true;
    } else if (s->scaling) {
        tell_curves(&verdict, s);
        contrasts_tell(s, &verdict);
        out->undecided = any_undecided(s);
    } else {
        drop_blank(&verdict);
        tell_points(&verdict, s);
        out->undecided = false;
    }
    if (!interrupted && s->runs_count < s->planned_count) {
        text_add(&caveat, "Only %u of %u runs were made. ", s->runs_count, s->planned_count);
    }
    if (s->scenario->find.what == 0) { /* a search misses limits on purpose */
        out->slo_missed = goodput_tell_missed(s, &verdict);
        out->undecided = goodput_tell_undecided(s, &caveat) || out->undecided;
        text_add(&caveat, "%s", caveat.used > 0 ? " " : "");
    }
    caveat_host(&caveat, s);
    if (!nothing_valid(s)) {
        caveat_runs(&caveat, s);
    }
    caveat_requests(&caveat, s);
    trim(out->caveat);
}

/* ---- figures ---- */

static void title_curve(struct text *t, const struct summary_curve *c, bool first)
{
    text_add(t, "%s", first ? " " : ", ");
    if (!c->decided) {
        text_add(t, "undecided");
    } else if (c->answer.status == SCALING_FLAT) {
        text_add(t, "at %u", c->answer.last_helpful);
    } else {
        text_add(t, "not up to %u", c->answer.last_helpful);
    }
    if (first || !c->by_api_servers) {
        text_add(t, " with %s", c->label);
    } else {
        text_add(t, " with %u", c->api_servers_count);
    }
}

void verdict_title(const struct summary *s, char *out, size_t cap)
{
    struct text t = text_into(out, cap);
    if (!s->scaling) {
        text_add(&t, "%s", s->scenario->general.name);
        return;
    }
    bool any = false;
    for (uint32_t i = 0; i < s->curves_count; i++) {
        any = any || s->curves[i].decided;
    }
    if (!any) {
        text_add(&t, "Where extra %s stop helping is undecided", s->plural);
        return;
    }
    text_add(&t, "Extra %s stop helping", s->plural);
    for (uint32_t i = 0; i < s->curves_count && i < 4; i++) {
        title_curve(&t, &s->curves[i], i == 0);
    }
    text_add(&t, "%s", s->curves_count > 4 ? ", ..." : "");
}
