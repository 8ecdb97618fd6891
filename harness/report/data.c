/*
 * data.c - writes what a summary holds as CSV (data.h). Computes nothing.
 */
#include "harness/report/data.h"

#include <math.h>
#include <string.h>

#include "harness/report/ceilings.h"
#include "harness/report/elasticity.h"
#include "harness/report/plot_ceilings.h"
#include "harness/report/plot_cells.h"
#include "harness/report/plot_processes.h"
#include "harness/report/plot_rates.h"
#include "harness/report/plot_spectrum.h"
#include "harness/report/rows.h"
#include "harness/report/shares.h"
#include "harness/report/table.h"
#include "harness/report/text.h"
#include "harness/report/verdict.h"

enum {
    COLOURS_COUNT = 7,
    BARS_MAX = 48 /* in the figure of launching threads */
};

#define LAW_WEIGHT_LEAST 0.5 /* a law is drawn that has as much weight as all others together */

static enum status open_table(struct table *t, const struct data_source *d, const char *name,
                              struct error *error)
{
    TRY(table_open(t, d->folder, name, error));
    t->naming = true;
    return STATUS_OK;
}

static enum status finish_table(struct table *t, struct error *error)
{
    enum status status = table_sync(t, error);
    table_close(t);
    return status;
}

/* ---- points.csv ---- */

static const char *point_status(const struct summary_point *p)
{
    if (p->shown_count == 0) {
        return rows_outcome_name(p->worst);
    }
    return p->evidence ? "ok" : "host_limited";
}

static void point_rates(struct table *t, const struct summary_point *p)
{
    table_number(t, "output_tok_per_s", p->tok_per_s);
    table_number(t, "output_tok_per_s_lo", p->tok_per_s_lo);
    table_number(t, "output_tok_per_s_hi", p->tok_per_s_hi);
    table_number(t, "offered_rps", p->offered_rps);
    table_number(t, "achieved_rps", p->achieved_rps);
    table_number(t, "ttft_p50_ms", p->ttft_p50_ms);
    table_number(t, "ttft_p99_ms", p->ttft_p99_ms);
    table_number(t, "tpot_p50_ms", p->tpot_p50_ms);
    table_number(t, "e2el_p50_ms", p->e2el_p50_ms);
    table_number(t, "e2el_p99_ms", p->e2el_p99_ms);
    table_count(t, "ok_count", p->ok_count);
    table_count(t, "fail_count", p->fail_count);
    table_count(t, "censored_count", p->censored_count);
    table_count(t, "dropped_count", p->dropped_count);
    table_count(t, "trace_refused_count", p->refused_count);
    table_count(t, "tokens_mismatch_count", p->mismatch_count);
}

/* What simulated runs of the cell said, where it was measured too. */
static void point_simulated(struct table *t, const struct summary_point *p)
{
    const struct summary_simulated *m = &p->simulated;
    table_number(t, "simulated_output_tok_per_s", m->known ? m->tok_per_s : STATS_UNKNOWN);
    table_number(t, "simulation_error_frac",
                 m->known ? m->tok_per_s / p->tok_per_s - 1 : STATS_UNKNOWN);
    table_number(t, "simulated_itl_mean_ms", m->known ? m->itl_mean_ms : STATS_UNKNOWN);
    table_text(t, "simulated_bottleneck", m->known ? m->verdict.text : "");
}

static const char *const load_limits[] = {"", "demand", "single_request"};

static void point_row(struct table *t, const struct summary_point *p)
{
    const struct topology *topology = &p->cell->topology;
    const struct closed_form *form = &p->forecast.form;
    bool known = p->forecast.known;
    bool judged = p->stages_count > 0;
    table_text(t, "cell", p->cell->name);
    table_text(t, "server", p->cell->server);
    table_known(t, "api_servers_count", rows_count_or_unknown(topology->api_servers_count));
    table_known(t, "engine_cores_count", rows_count_or_unknown(topology->engines_count));
    table_known(t, "gpus_count", rows_count_or_unknown(topology_gpus(topology)));
    table_text(t, "workload", p->cell->workload.name);
    table_count(t, "runs_count", p->runs_count);
    table_count(t, "valid_runs_count", p->valid_count);
    table_count(t, "host_limited_runs_count", p->host_limited_count);
    point_rates(t, p);
    table_text(t, "bottleneck", judged ? p->verdict.text : "");
    table_number(t, "bottleneck_util_frac", judged ? p->verdict.first_frac : STATS_UNKNOWN);
    table_text(t, "second_stage", judged ? p->verdict.second : "");
    table_number(t, "second_util_frac", judged ? p->verdict.second_frac : STATS_UNKNOWN);
    table_number(t, "headroom", judged ? p->verdict.headroom : STATS_UNKNOWN);
    table_number(t, "launch_busy_frac", p->launch_busy_frac);
    table_number(t, "gpu_busy_frac", p->gpu_busy_frac);
    table_number(t, "gpu_starved_frac", p->gpu_starved_frac);
    table_number(t, "dp_imbalance_frac", p->dp_imbalance_frac);
    table_number(t, "rank_jain", p->rank_jain);
    table_number(t, "api_min_share", p->api_min_share);
    table_number(t, "api_max_share", p->api_max_share);
    table_number(t, "client_cpu_frac", p->client_cpu_frac);
    table_number(t, "host_cores_used", p->host_cores_used);
    table_number(t, "others_cores_used", p->others_cores_used);
    table_number(t, "launching_threads_count", (double)p->launch.threads_count);
    table_number(t, "kernel_launches_per_s", p->launch.kernels_per_s);
    table_number(t, "graph_launches_per_s", p->launch.graphs_per_s);
    table_number(t, "batch_mean_count", p->launch.batch_mean);
    table_text(t, "status", point_status(p));
    table_number(t, "itl_mean_ms", p->itl_mean_ms);
    table_number(t, "rank_steps_per_tok", p->rank_steps_per_tok);
    table_number(t, "predicted_output_tok_per_s", known ? form->tok_per_s : STATS_UNKNOWN);
    table_text(t, "predicted_limit", known ? closed_form_limit_name(form->limit) : "");
    table_text(t, "load_limit", load_limits[p->load]);
    table_number(t, "dp_sync_frac", p->dp_sync_frac);
    table_number(t, "stranded_frac", p->stranded_frac);
    table_text(t, "alarm", shares_alarm_name(p));
    table_text(t, "slo", p->cell->slo.name);
    table_number(t, "goodput_rps", p->goodput.rps);
    table_number(t, "good_frac", p->goodput.frac);
    table_number(t, "good_frac_lo", p->goodput.lo);
    table_number(t, "good_frac_hi", p->goodput.hi);
    table_text(t, "slo_status", goodput_status(p));
    point_simulated(t, p);
    table_end_row(t);
}

static const struct scenario_cell no_cell;

void data_points(const struct summary *summary, struct table *out)
{
    const struct summary_point none = {.cell = &no_cell};
    out->naming = out->objects == NULL;
    if (out->naming) {
        point_row(out, &none);
    }
    out->naming = false;
    for (uint32_t i = 0; i < summary->points_count; i++) {
        point_row(out, &summary->points[i]);
    }
}

static enum status write_points(const struct data_source *d, struct error *error)
{
    struct table t;
    TRY(open_table(&t, d, "points.csv", error));
    data_points(d->summary, &t);
    return finish_table(&t, error);
}

/* ---- scaling.csv ---- */

static const char *curve_status(const struct summary_curve *c)
{
    if (c->points_count == 0) {
        return "no_evidence";
    }
    if (!c->decided) {
        return c->answer.status == SCALING_TOO_FEW ? "too_few" : "undecided";
    }
    return c->answer.status == SCALING_FLAT ? "ok" : "above_range";
}

static const char *limit_of(const struct summary_point *p)
{
    return p->load != SUMMARY_LOAD_FULL ? load_limits[p->load] : p->verdict.text;
}

static void curve_answer(struct table *t, const struct summary_curve *c)
{
    bool flat = c->decided && c->answer.status == SCALING_FLAT;
    bool told = c->points_count > 0 && c->answer.status != SCALING_TOO_FEW &&
                c->answer.status != SCALING_NO_VARIANCE;
    double efficiency =
        c->points_count > 0 ? c->efficiency[c->points_count - 1].efficiency : STATS_UNKNOWN;
    table_known(t, "last_helpful_cores", c->decided ? (int64_t)c->answer.last_helpful : -1);
    table_known(t, "last_helpful_lo", told ? (int64_t)c->answer.lo : -1);
    table_number(t, "last_helpful_hi",
                 flat ? c->answer.hi : (told ? __builtin_inf() : STATS_UNKNOWN));
    table_number(t, "efficiency_at_max_frac", efficiency);
    table_text(t, "limited_by", c->deciding != NULL ? limit_of(c->deciding) : "");
    table_text(t, "status", curve_status(c));
}

static double told(double value)
{
    return isinf(value) ? STATS_UNKNOWN : value;
}

/* `law`: LAWS_COUNT if none could be fitted. */
static void curve_law(struct table *t, const struct summary_curve *c, int law)
{
    static const struct law_fit nothing = {.plateau = __builtin_inf()};
    const struct laws *l = &c->laws;
    bool fitted = law < LAWS_COUNT;
    const struct law_fit *f = fitted ? &l->fits[law] : &nothing;
    bool best = fitted && law == (int)l->chosen && l->best_known;
    bool flat = !isinf(f->plateau);
    table_text(t, "model", fitted ? law_name((enum law)law) : "none");
    table_text(t, "gamma_rps", "");
    table_number(t, "alpha", fitted ? f->alpha : STATS_UNKNOWN);
    table_number(t, "beta", fitted ? f->beta : STATS_UNKNOWN);
    table_number(t, "plateau_cores", flat ? told(law_best_cores((enum law)law, f)) : STATS_UNKNOWN);
    table_number(t, "n_star", best ? l->best : STATS_UNKNOWN);
    table_number(t, "n_star_lo", best ? l->best_lo : STATS_UNKNOWN);
    table_number(t, "n_star_hi", best ? l->best_hi : STATS_UNKNOWN);
    table_number(t, "aicc_weight", fitted ? f->weight : STATS_UNKNOWN);
}

static void curve_relief(struct table *t, const struct summary_curve *c)
{
    const struct attribution_gain *r = &c->relief;
    const struct attribution_gain *f = &c->foretold;
    const struct demand_verdict *v = &c->attribution.verdict;
    bool any = c->points_count > 0;
    bool bounded = f->known && !isnan(f->lo);
    const struct attribution_stage *s = c->attribution.stages;
    table_text(t, "lowest_ceiling", any && v->first >= 0 ? s[v->first].stage : "");
    table_text(t, "next_stage", any && v->next >= 0 ? s[v->next].stage : "");
    table_number(t, "explained_frac", any ? v->explained_frac : STATS_UNKNOWN);
    table_number(t, "relief_gain_frac", r->known ? r->gain : STATS_UNKNOWN);
    table_number(t, "relief_gain_lo", r->known ? r->lo : STATS_UNKNOWN);
    table_number(t, "relief_gain_hi", r->known ? r->hi : STATS_UNKNOWN);
    table_text(t, "relief_then", r->known ? r->then : "");
    table_number(t, "foretold_gain_frac", f->known ? f->gain : STATS_UNKNOWN);
    table_number(t, "foretold_gain_lo", f->known ? f->lo : STATS_UNKNOWN);
    table_number(t, "foretold_gain_hi", f->known ? f->hi : STATS_UNKNOWN);
    table_known(t, "foretold_holds", bounded ? (int64_t)c->foretold_holds : -1);
}

static void curve_row(struct table *t, const struct summary_curve *c, int law)
{
    const struct summary_prediction *p = &c->prediction;
    bool compared = c->fewer != NULL;
    bool fitted = law < LAWS_COUNT;
    const struct law_fit *f = &c->laws.fits[fitted ? law : 0];
    table_known(t, "api_servers_count", rows_count_or_unknown(c->api_servers_count));
    curve_law(t, c, law);
    curve_answer(t, c);
    table_text(t, "curve", c->label);
    table_text(t, "last_helpful_text", c->answer.text);
    table_number(t, "limited_by_util_frac",
                 c->deciding != NULL ? c->deciding->verdict.first_frac : STATS_UNKNOWN);
    table_count(t, "cells_count", c->points_count);
    table_number(t, "gain_over_fewer_frac", compared ? c->gain.gain : STATS_UNKNOWN);
    table_number(t, "gain_over_fewer_lo", compared ? c->gain.lower : STATS_UNKNOWN);
    table_number(t, "gain_over_fewer_hi", compared ? c->gain.upper : STATS_UNKNOWN);
    table_known(t, "fewer_api_servers_count", compared ? (int64_t)c->fewer->api_servers_count : -1);
    table_number(t, "predicted_ceiling_tok_per_s", p->known ? p->ceiling : STATS_UNKNOWN);
    table_number(t, "predicted_knee_cores", p->known ? p->knee : STATS_UNKNOWN);
    table_number(t, "predicted_knee_slow_cores", p->known ? p->knee_slow : STATS_UNKNOWN);
    table_number(t, "predicted_knee_fast_cores", p->known ? p->knee_fast : STATS_UNKNOWN);
    table_flag(t, "model_chosen", fitted && law == (int)c->laws.chosen);
    table_number(t, "gamma_tok_per_s", fitted ? f->gamma : STATS_UNKNOWN);
    table_number(t, "plateau_tok_per_s", fitted ? told(f->plateau) : STATS_UNKNOWN);
    curve_relief(t, c);
    table_end_row(t);
}

/* The chosen law first, so that the first row of a curve holds its answer. */
static void curve_rows(struct table *t, const struct summary_curve *c)
{
    curve_row(t, c, c->laws.known ? (int)c->laws.chosen : LAWS_COUNT);
    for (int i = 0; i < LAWS_COUNT && c->laws.known; i++) {
        if (c->laws.fits[i].fitted && i != (int)c->laws.chosen) {
            curve_row(t, c, i);
        }
    }
}

void data_curves(const struct summary *summary, struct table *out)
{
    static const struct summary_curve none;
    out->naming = out->objects == NULL;
    if (out->naming) {
        curve_row(out, &none, LAWS_COUNT);
    }
    out->naming = false;
    for (uint32_t i = 0; i < summary->curves_count; i++) {
        curve_rows(out, &summary->curves[i]);
    }
}

static enum status write_scaling(const struct data_source *d, struct error *error)
{
    struct table t;
    TRY(open_table(&t, d, "scaling.csv", error));
    data_curves(d->summary, &t);
    return finish_table(&t, error);
}

/* ---- ceilings.csv ---- */

static void ceiling_row(struct table *t, const struct ceilings_of *c, uint32_t index)
{
    const struct attribution_stage *s = &c->attribution->stages[index];
    const struct demand *d = &s->demand;
    const struct demand_verdict *v = &c->attribution->verdict;
    table_text(t, "of", c->label);
    table_text(t, "cell", c->point->cell->name);
    table_text(t, "stage", s->stage);
    table_number(t, "servers_count", d->servers);
    table_number(t, "demand_us", d->known ? d->demand_s * 1e6 : STATS_UNKNOWN);
    table_number(t, "demand_lo_us", d->known ? d->lo_s * 1e6 : STATS_UNKNOWN);
    table_number(t, "demand_hi_us", d->known ? d->hi_s * 1e6 : STATS_UNKNOWN);
    table_number(t, "idle_busy_count", d->known ? d->idle_busy_count : STATS_UNKNOWN);
    table_number(t, "ceiling_tok_per_s", d->known ? d->ceiling_rate : STATS_UNKNOWN);
    table_number(t, "ceiling_tok_per_s_lo", d->known ? d->ceiling_lo : STATS_UNKNOWN);
    table_number(t, "ceiling_tok_per_s_hi", d->known ? d->ceiling_hi : STATS_UNKNOWN);
    table_number(t, "use_frac", s->use_frac);
    table_flag(t, "spins", d->spins);
    table_text(t, "source", s->source);
    table_text(t, "place", (int)index == v->first ? "lowest" : (int)index == v->next ? "next" : "");
    table_end_row(t);
}

static enum status write_ceilings(const struct data_source *d, struct error *error)
{
    static const struct attribution nothing = {.stages_count = 1};
    const struct summary_point none = {.cell = &no_cell};
    struct ceilings_of c = {.label = "", .point = &none, .attribution = &nothing};
    struct table t;
    TRY(open_table(&t, d, "ceilings.csv", error));
    ceiling_row(&t, &c, 0);
    t.naming = false;
    for (uint32_t i = 0; ceilings_next(d->summary, i, &c); i++) {
        for (uint32_t k = 0; k < c.attribution->stages_count; k++) {
            ceiling_row(&t, &c, k);
        }
    }
    return finish_table(&t, error);
}

/* ---- plot_* ---- */

uint32_t data_colour(const struct summary_curve *c, uint32_t index)
{
    static const uint32_t by_servers[] = {0, 0, 1, 4, 2, 5, 6, 4, 3};
    if (!c->by_api_servers) {
        return index % COLOURS_COUNT;
    }
    uint32_t servers = c->api_servers_count;
    return servers < sizeof by_servers / sizeof by_servers[0] ? by_servers[servers]
                                                              : servers % COLOURS_COUNT;
}

static void describe_provenance(const struct data_source *d, char *out, size_t cap)
{
    struct text t = text_into(out, cap);
    const struct run_host *h = d->host;
    const struct scenario_cell *cell =
        d->summary->points_count > 0 ? d->summary->points[0].cell : NULL;
    text_add(&t, "%s", d->summary->scenario->general.name);
    if (cell != NULL && cell->foreign.kind != SCENARIO_SERVER_OWN) {
        text_add(&t, "  |  %s, a server of others", cell->server);
    } else if (cell != NULL) {
        text_add(&t, "  |  %s on emulated %s, host profile %s", cell->topology.model,
                 cell->topology.gpu, cell->topology.host.name);
    }
    if (d->summary->scenario->general.mode == (uint32_t)SCENARIO_SIMULATE) {
        /* Neither machine nor time matter: equal runs give equal files. */
        text_add(&t, "  |  simulated  |  rev %s", h->git_rev[0] != '\0' ? h->git_rev : "unknown");
        return;
    }
    text_add(&t, "  |  %s, %u cores", h->host.hostname, h->host.cores_count);
    text_add(&t, "  |  rev %s  |  %s", h->git_rev[0] != '\0' ? h->git_rev : "unknown",
             h->started_utc);
}

static void title_launch(const struct summary *s, char *out, size_t cap)
{
    struct text t = text_into(out, cap);
    double most = 0;
    const struct summary_point *busiest = NULL;
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_launch *l = &s->points[i].launch;
        if (l->prepare_frac + l->launch_frac > most) {
            most = l->prepare_frac + l->launch_frac;
            busiest = &s->points[i];
        }
    }
    text_add(&t, "Threads that launch kernels");
    if (busiest != NULL) {
        text_add(&t, " prepare and launch at most ");
        text_percent(&t, most);
        text_add(&t, " of their time (%s)", busiest->cell->name);
    }
}

static void title_timeline(const struct data_source *d, char *out, size_t cap)
{
    struct text t = text_into(out, cap);
    const struct run_result *r = d->timeline;
    if (r == NULL) {
        return;
    }
    text_add(&t, "Run %s (%s): ", r->run_id, r->cell->name);
    text_rate(&t, r->output_tok_per_s.mean);
    text_add(&t, " tokens/s in its window");
}

static double efficiency_least(const struct summary *s, const struct summary_curve **which)
{
    double least = STATS_UNKNOWN;
    for (uint32_t i = 0; i < s->curves_count; i++) {
        const struct summary_curve *c = &s->curves[i];
        if (c->points_count > 0 && !(c->efficiency[c->points_count - 1].efficiency >= least)) {
            least = c->efficiency[c->points_count - 1].efficiency;
            *which = c;
        }
    }
    return least;
}

static void title_efficiency(const struct summary *s, char *out, size_t cap)
{
    struct text t = text_into(out, cap);
    const struct summary_curve *c = NULL;
    double least = efficiency_least(s, &c);
    text_add(&t, "Parallel efficiency");
    if (c != NULL) {
        text_add(&t, " falls to ");
        text_percent(&t, least);
        text_add(&t, " at %u %s with %s", c->points[c->points_count - 1]->along, s->plural,
                 c->label);
    }
}

static void about_row(struct table *t, const struct data_source *d)
{
    const struct summary *s = d->summary;
    char text[320];
    table_text(t, "scenario", s->scenario->general.name);
    table_text(t, "noun", s->noun);
    table_text(t, "plural", s->plural);
    describe_provenance(d, text, sizeof text);
    table_text(t, "provenance", text);
    verdict_title(s, text, sizeof text);
    table_text(t, "title_capacity", text);
    title_efficiency(s, text, sizeof text);
    table_text(t, "title_efficiency", text);
    title_launch(s, text, sizeof text);
    table_text(t, "title_launch", text);
    title_timeline(d, text, sizeof text);
    table_text(t, "title_timeline", text);
    table_number(t, "window_start_s", d->timeline != NULL ? d->timeline->warmup_s : 0);
    table_number(t, "window_end_s",
                 d->timeline != NULL ? d->timeline->warmup_s + d->timeline->window_s : 0);
    table_text(t, "verb",
               s->scenario->general.mode == (uint32_t)SCENARIO_SIMULATE ? "simulated" : "measured");
    table_end_row(t);
}

static enum status write_about(const struct data_source *d, struct error *error)
{
    struct table t;
    TRY(open_table(&t, d, "plot_about.tsv", error));
    t.tabs = true;
    about_row(&t, d);
    t.naming = false;
    about_row(&t, d);
    return finish_table(&t, error);
}

static void say_answer(const struct summary_curve *c, char *out, size_t cap)
{
    struct text t = text_into(out, cap);
    if (c->points_count == 0) {
        text_add(&t, "no evidence");
    } else if (!c->decided) {
        text_add(&t, "undecided");
    } else if (c->answer.status == SCALING_FLAT) {
        text_add(&t, "more stop helping at %s", c->answer.text);
    } else {
        text_add(&t, "more still help at %u (%s)", c->answer.last_helpful, c->answer.text);
    }
}

/* The chosen law, to be drawn from the first count tested to the last; empty if the data do not
 * tell the laws apart. */
static void plot_law(struct table *t, const struct summary_curve *c)
{
    const struct laws *l = &c->laws;
    const struct law_fit *f = &l->fits[l->chosen];
    bool drawn = l->known && c->points_count > 1 && f->weight >= LAW_WEIGHT_LEAST;
    table_text(t, "law", drawn ? law_name(l->chosen) : "");
    table_number(t, "law_weight", drawn ? f->weight : STATS_UNKNOWN);
    table_number(t, "law_gamma_tok_per_s", drawn ? f->gamma : STATS_UNKNOWN);
    table_number(t, "law_alpha", drawn ? f->alpha : STATS_UNKNOWN);
    table_number(t, "law_beta", drawn ? f->beta : STATS_UNKNOWN);
    table_number(t, "law_plateau_tok_per_s", drawn ? told(f->plateau) : STATS_UNKNOWN);
    table_number(t, "law_from_cores", drawn ? c->points[0]->along : STATS_UNKNOWN);
    table_number(t, "law_to_cores", drawn ? l->cores_max : STATS_UNKNOWN);
    table_flag(t, "end", true); /* an empty last field would be read as the line's end */
}

static void plot_curve_row(struct table *t, const struct summary_curve *c, uint32_t index)
{
    char text[96];
    bool flat = c->decided && c->answer.status == SCALING_FLAT;
    double mark = STATS_UNKNOWN;
    for (uint32_t i = 0; i < c->points_count && flat; i++) {
        mark = c->points[i]->along == c->answer.last_helpful ? c->points[i]->tok_per_s : mark;
    }
    bool any = c->points_count > 0;
    table_count(t, "curve", index);
    table_text(t, "label", c->label);
    table_count(t, "colour", data_colour(c, index));
    table_number(t, "last_helpful_cores", flat ? c->answer.last_helpful : STATS_UNKNOWN);
    table_number(t, "last_helpful_tok_per_s", mark);
    say_answer(c, text, sizeof text);
    table_text(t, "answer", text);
    table_number(t, "one_core_tok_per_s",
                 any ? c->points[0]->tok_per_s / fmax(1, c->points[0]->along) : STATS_UNKNOWN);
    plot_law(t, c);
    table_end_row(t);
}

static enum status write_plot_curves(const struct data_source *d, struct error *error)
{
    static const struct summary_curve none;
    struct table t;
    TRY(open_table(&t, d, "plot_curves.tsv", error));
    t.tabs = true;
    plot_curve_row(&t, &none, 0);
    t.naming = false;
    for (uint32_t i = 0; i < d->summary->curves_count; i++) {
        plot_curve_row(&t, &d->summary->curves[i], i);
    }
    return finish_table(&t, error);
}

static double or_else(double value, double otherwise)
{
    return isnan(value) ? otherwise : value;
}

static double use_of(const struct summary_point *p, const char *stage)
{
    for (uint32_t i = 0; i < p->stages_count; i++) {
        if (strcmp(p->stages[i].stage, stage) == 0) {
            return p->stages[i].use_frac;
        }
    }
    return STATS_UNKNOWN;
}

/* How many smaller values the axis has among the points: the place of a point on an axis of
 * categories. */
static uint32_t place_of(const struct summary *s, const struct summary_point *p)
{
    uint32_t smaller = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        bool first = s->points[i].along < p->along;
        for (uint32_t k = 0; k < i && first; k++) {
            first = s->points[k].along != s->points[i].along;
        }
        smaller += first ? 1 : 0;
    }
    return smaller;
}

static void plot_point_row(struct table *t, const struct summary *s, const struct summary_point *p,
                           int curve)
{
    static const char *const stages[] = {"api_server",  "scheduler", "launch", "gpu",
                                         "coordinator", "ipc",       "client"};
    double one = STATS_UNKNOWN;
    if (curve >= 0 && s->curves[curve].points_count > 0) {
        const struct summary_point *first = s->curves[curve].points[0];
        one = first->tok_per_s / fmax(1, first->along);
    }
    char letter[2] = {'?', '\0'};
    if (p->verdict.kind != STAGE_UNEXPLAINED) {
        letter[0] = text_stage_letter(p->verdict.first);
    }
    if (p->verdict.kind == STAGE_MIXED) {
        letter[0] = 'M';
    }
    double scale = one * fmax(1, p->along);
    table_known(t, "curve", curve);
    table_count(t, "cores", p->along);
    table_number(t, "tok_per_s", p->tok_per_s);
    table_number(t, "tok_per_s_lo", or_else(p->tok_per_s_lo, p->tok_per_s));
    table_number(t, "tok_per_s_hi", or_else(p->tok_per_s_hi, p->tok_per_s));
    table_number(t, "efficiency_frac", p->tok_per_s / scale);
    table_number(t, "efficiency_lo", or_else(p->tok_per_s_lo, p->tok_per_s) / scale);
    table_number(t, "efficiency_hi", or_else(p->tok_per_s_hi, p->tok_per_s) / scale);
    table_flag(t, "evidence", p->evidence);
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        table_number(t, stages[i], use_of(p, stages[i]));
    }
    table_number(t, "predicted_tok_per_s",
                 p->forecast.known ? p->forecast.form.tok_per_s : STATS_UNKNOWN);
    /* A field that may be empty cannot be last: gnuplot would read the line's end as text. */
    table_text(t, "letter", letter);
    table_count(t, "place", place_of(s, p));
    table_number(t, "simulated_tok_per_s",
                 p->simulated.known ? p->simulated.tok_per_s : STATS_UNKNOWN);
    table_flag(t, "simulated_known", p->simulated.known);
    table_end_row(t);
}

static void plot_points_of(struct table *t, const struct summary *s, int curve)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        if (p->shown_count > 0 && summary_curve_of(s, p) == curve) {
            plot_point_row(t, s, p, curve);
        }
    }
}

/* Curve by curve; within one in the order of the axis as the scenario gives it. */
static enum status write_plot_points(const struct data_source *d, struct error *error)
{
    const struct summary_point none = {.cell = &no_cell};
    struct table t;
    TRY(open_table(&t, d, "plot_points.csv", error));
    plot_point_row(&t, d->summary, &none, -1);
    t.naming = false;
    for (uint32_t i = 0; i < d->summary->curves_count; i++) {
        plot_points_of(&t, d->summary, (int)i);
    }
    return finish_table(&t, error);
}

void data_label_cell(const struct summary *s, const struct summary_point *p, char out[64])
{
    struct text t = text_into(out, 64);
    int curve = summary_curve_of(s, p);
    if (curve >= 0 && s->curves[curve].by_api_servers) {
        text_add(&t, "%u API x %u", p->cell->topology.api_servers_count,
                 p->cell->topology.engines_count);
    } else {
        text_add(&t, "%s", p->cell->name);
    }
}

static void plot_launch_row(struct table *t, const struct summary *s, const struct summary_point *p)
{
    const struct summary_launch *l = &p->launch;
    char label[64];
    data_label_cell(s, p, label);
    table_text(t, "cell", label);
    table_number(t, "prepare_frac", or_else(l->prepare_frac, 0));
    table_number(t, "launch_frac", or_else(l->launch_frac, 0));
    table_number(t, "queue_full_frac", or_else(l->queue_full_frac, 0));
    table_number(t, "other_frac", or_else(l->other_frac, 0));
    table_number(t, "sync_wait_frac", or_else(l->sync_wait_frac, 0));
    table_number(t, "idle_frac", or_else(l->idle_frac, 0));
    table_number(t, "kernels_per_s", or_else(l->kernels_per_s, 0));
    table_number(t, "graphs_per_s", or_else(l->graphs_per_s, 0));
    table_end_row(t);
}

static enum status write_plot_launch(const struct data_source *d, struct error *error)
{
    static const struct summary nothing;
    const struct summary_point none = {.cell = &no_cell};
    struct table t;
    uint32_t rows = 0;
    TRY(open_table(&t, d, "plot_launch.csv", error));
    plot_launch_row(&t, &nothing, &none);
    t.naming = false;
    for (uint32_t i = 0; i < d->summary->points_count && rows < BARS_MAX; i++) {
        const struct summary_point *p = &d->summary->points[i];
        if (p->shown_count > 0 && p->launch.threads_count > 0) {
            plot_launch_row(&t, d->summary, p);
            rows++;
        }
    }
    return finish_table(&t, error);
}

static void plot_second_row(struct table *t, const struct run_second *s)
{
    table_number(t, "at_s", s->at_s);
    table_number(t, "offered_per_s", s->offered_per_s);
    table_number(t, "sent_per_s", s->sent_per_s);
    table_number(t, "done_per_s", s->done_per_s);
    table_number(t, "output_tok_per_s", s->output_tok_per_s);
    table_number(t, "inflight", s->inflight);
    table_end_row(t);
}

/* A closed loop ends with its window: a second that reaches past it is cut, and its counts are no
 * rates. */
static bool is_cut(const struct run_result *r, const struct run_second *s)
{
    return r->cell->load.mode == SCENARIO_LOAD_CLOSED && s->at_s > r->warmup_s + r->window_s + 0.05;
}

static enum status write_plot_timeline(const struct data_source *d, struct error *error)
{
    const struct run_second none = {.phase = ""};
    struct table t;
    TRY(open_table(&t, d, "plot_timeline.csv", error));
    plot_second_row(&t, &none);
    t.naming = false;
    for (uint32_t i = 0; d->timeline != NULL && i < d->timeline->seconds_count; i++) {
        if (!is_cut(d->timeline, &d->timeline->seconds[i])) {
            plot_second_row(&t, &d->timeline->seconds[i]);
        }
    }
    return finish_table(&t, error);
}

enum status data_write(const struct data_source *d, struct error *error)
{
    TRY(write_points(d, error));
    TRY(write_scaling(d, error));
    TRY(write_ceilings(d, error));
    TRY(write_about(d, error));
    TRY(write_plot_curves(d, error));
    TRY(write_plot_points(d, error));
    TRY(write_plot_launch(d, error));
    TRY(plot_cells_write(d, error));
    TRY(plot_processes_write(d, error));
    TRY(plot_spectrum_write(d, error));
    TRY(plot_ceilings_write(d->summary, d->folder, error));
    if (d->knees != NULL) {
        TRY(plot_rates_write(d->knees, d->folder, error));
    }
    if (d->elasticity != NULL) {
        TRY(elasticity_plot(d->elasticity, d->folder, error));
    }
    return write_plot_timeline(d, error);
}
