/*
 * summary.c - points and curves (summary.h). Pure but for memory; every rule of inference is in
 * harness/analysis, this file only chooses what goes into it.
 *
 * A run that is not valid, or that the host limited, is never evidence for a knee: it does not
 * enter a curve.
 */
#include "harness/report/summary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/host_profile.h"
#include "harness/report/launching.h"
#include "harness/report/limits.h"
#include "harness/report/rows.h"
#include "harness/report/text.h"

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count > 0 ? count : 1, bytes);
    ASSERT(memory != NULL);
    return memory;
}

/* ---- which runs count ---- */

static bool valid(const struct run_result *r)
{
    return r->outcome == RUN_OK && r->output_tok_per_s.mean > 0;
}

static bool is_evidence(const struct run_result *r)
{
    return valid(r) && !r->host_limited;
}

static bool shown(const struct summary_point *p, const struct run_result *r)
{
    return r->cell == p->cell && (p->evidence ? is_evidence(r) : valid(r));
}

/* ---- the scaling axis ---- */

/* A whole number above 0 that the axis holds for this cell, or 0. */
static uint32_t axis_number(const struct scenario *s, const struct scenario_cell *cell,
                            const char *axis)
{
    const char *text = scenario_axis_value(s, cell, axis);
    char *end = NULL;
    if (text == NULL || text[0] < '0' || text[0] > '9') {
        return 0;
    }
    unsigned long value = strtoul(text, &end, 10);
    return *end == '\0' && value <= UINT32_MAX ? (uint32_t)value : 0;
}

static bool counts_engines(const struct scenario *s, const char *axis)
{
    for (uint32_t i = 0; i < s->cells_count; i++) {
        if (axis_number(s, &s->cells[i], axis) != s->cells[i].topology.engines_count) {
            return false;
        }
    }
    return s->cells_count > 0;
}

static bool counts_api_servers(const struct scenario *s, const char *axis)
{
    for (uint32_t i = 0; i < s->cells_count; i++) {
        if (axis_number(s, &s->cells[i], axis) != s->cells[i].topology.api_servers_count) {
            return false;
        }
    }
    return s->cells_count > 0;
}

static void choose_axis(struct summary *s)
{
    const char *along = s->scenario->scaling.along;
    s->scaling = along[0] != '\0' && s->scenario->cells_count > 0;
    for (uint32_t i = 0; i < s->scenario->cells_count && s->scaling; i++) {
        s->scaling = axis_number(s->scenario, &s->scenario->cells[i], along) > 0;
    }
    s->noun = along;
    s->plural = along;
    if (s->scaling && counts_engines(s->scenario, along)) {
        s->noun = "engine core";
        s->plural = "engine cores";
    } else if (s->scaling && counts_api_servers(s->scenario, along)) {
        s->noun = "API server";
        s->plural = "API servers";
    }
}

/* ---- points ---- */

struct average {
    double sum;
    uint32_t count;
};

static void take(struct average *a, double value)
{
    if (!isnan(value)) {
        a->sum += value;
        a->count++;
    }
}

static double mean_of(const struct average *a)
{
    return a->count > 0 ? a->sum / a->count : STATS_UNKNOWN;
}

/* Mean over the shown runs of the double at `offset` of a result. */
static double mean_field(const struct summary_point *p, const struct run_result *results,
                         uint32_t count, size_t offset)
{
    struct average a = {0};
    for (uint32_t i = 0; i < count; i++) {
        if (shown(p, &results[i])) {
            double value;
            memcpy(&value, (const char *)&results[i] + offset, sizeof value);
            take(&a, value);
        }
    }
    return mean_of(&a);
}

static void count_run(struct summary_point *p, const struct run_result *r)
{
    p->runs_count++;
    p->valid_count += valid(r) ? 1 : 0;
    p->host_limited_count += valid(r) && r->host_limited ? 1 : 0;
    p->evidence = p->evidence || is_evidence(r);
    p->ok_count += r->ok_count;
    p->fail_count += r->fail_count;
    p->censored_count += r->censored_count;
    p->dropped_count += r->dropped_count;
    p->refused_count += r->trace_refused_count;
    p->mismatch_count += r->tokens_mismatch_count;
    p->others_cores_used = fmax(p->others_cores_used, r->others_cores_used);
    p->client_cpu_frac = fmax(p->client_cpu_frac, r->client_cpu_frac);
    if (r->outcome != RUN_OK && p->worst == RUN_OK) {
        p->worst = r->outcome;
        p->reason = r->reason;
    }
}

static void collect_rates(struct summary_point *p, const struct run_result *results, uint32_t count)
{
    struct average error = {0};
    for (uint32_t i = 0; i < count; i++) {
        const struct run_result *r = &results[i];
        if (!shown(p, r) || p->rates.replicates_count >= SCALING_REPLICATES_MAX) {
            continue;
        }
        p->rates.rates[p->rates.replicates_count++] = r->output_tok_per_s.mean;
        if (r->output_tok_per_s.count >= 2) {
            take(&error, r->output_tok_per_s.std_error);
            p->rates.batches_count = r->output_tok_per_s.count;
        }
    }
    p->shown_count = p->rates.replicates_count;
    p->rates.cores = p->along > 0 ? p->along : 1;
    p->rates.batch_std_error = error.count > 0 ? mean_of(&error) : 0;
}

static void average_fields(struct summary_point *p, const struct run_result *results,
                           uint32_t count)
{
    const struct {
        double *to;
        size_t from;
    } fields[] = {
        {&p->tok_per_s, offsetof(struct run_result, output_tok_per_s.mean)},
        {&p->achieved_rps, offsetof(struct run_result, achieved_rps)},
        {&p->offered_rps, offsetof(struct run_result, offered_rps)},
        {&p->ttft_p50_ms, offsetof(struct run_result, latency[RUN_TTFT].p50_ms)},
        {&p->ttft_p99_ms, offsetof(struct run_result, latency[RUN_TTFT].p99_ms)},
        {&p->tpot_p50_ms, offsetof(struct run_result, latency[RUN_TPOT].p50_ms)},
        {&p->e2el_p50_ms, offsetof(struct run_result, latency[RUN_E2EL].p50_ms)},
        {&p->e2el_p99_ms, offsetof(struct run_result, latency[RUN_E2EL].p99_ms)},
        {&p->host_cores_used, offsetof(struct run_result, host_cores_used)},
        {&p->launch_busy_frac, offsetof(struct run_result, launch_busy_frac)},
        {&p->gpu_busy_frac, offsetof(struct run_result, gpu_busy_frac)},
        {&p->gpu_starved_frac, offsetof(struct run_result, gpu_starved_frac)},
        {&p->dp_sync_frac, offsetof(struct run_result, dp_sync_frac)},
        {&p->stranded_frac, offsetof(struct run_result, stranded_frac)},
        {&p->dp_imbalance_frac, offsetof(struct run_result, dp_imbalance_frac)},
        {&p->rank_jain, offsetof(struct run_result, rank_jain)},
        {&p->itl_mean_ms, offsetof(struct run_result, latency[RUN_ITL].mean_ms)},
        {&p->rank_steps_per_tok, offsetof(struct run_result, rank_steps_per_tok)},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        *fields[i].to = mean_field(p, results, count, fields[i].from);
    }
    for (uint32_t i = 0; i < count; i++) {
        double least;
        double greatest;
        if (shown(p, &results[i])) {
            p->run = p->run != NULL ? p->run : &results[i];
            rows_api_shares(&results[i], &least, &greatest);
            p->api_min_share = fmin(p->api_min_share, least);
            p->api_max_share = fmax(p->api_max_share, greatest);
        }
    }
}

/* Means of a latency's numbers, each over the runs that have it. */
static struct run_latency mean_latency(const struct summary_point *p,
                                       const struct run_result *results, uint32_t count,
                                       enum run_metric metric)
{
    struct run_latency out;
    double means[sizeof out / sizeof(double)];
    size_t at = offsetof(struct run_result, latency) + (size_t)metric * sizeof out;
    for (size_t i = 0; i < sizeof means / sizeof means[0]; i++) {
        means[i] = mean_field(p, results, count, at + i * sizeof means[0]);
    }
    memcpy(&out, means, sizeof out);
    return out;
}

static void collect_slo(struct summary_point *p, const struct run_result *results, uint32_t count)
{
    double window_s = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (shown(p, &results[i])) {
            goodput_add(&p->slo, &results[i].slo);
            window_s += results[i].window_s;
        }
    }
    p->goodput = goodput_of(&p->slo, window_s);
    p->ttft_sched = mean_latency(p, results, count, RUN_TTFT_SCHED);
    p->tpot = mean_latency(p, results, count, RUN_TPOT);
}

static void summarise_stages(struct summary_point *p, const struct run_result *results,
                             uint32_t count)
{
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += shown(p, &results[i]) ? results[i].stages_count : 0;
    }
    struct stage_use *uses = allocate(total, sizeof *uses);
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; shown(p, &results[i]) && k < results[i].stages_count; k++) {
            const struct run_stage *stage = &results[i].stages[k];
            uses[used++] = (struct stage_use){.stage = stage->stage,
                                              .busy_frac = stage->use_frac,
                                              .cpu_frac = STATS_UNKNOWN,
                                              .occupancy_frac = STATS_UNKNOWN};
        }
    }
    p->stages_count = (uint32_t)stages_summarise(uses, used, p->stages);
    for (uint32_t i = 0; i < p->stages_count; i++) {
        p->stages[i].servers_count /= p->shown_count;
    }
    free(uses);
}

static uint32_t verdict_votes(const struct summary_point *p, const struct run_result *results,
                              uint32_t count, const char *text)
{
    uint32_t votes = 0;
    for (uint32_t i = 0; i < count; i++) {
        votes += shown(p, &results[i]) && strcmp(results[i].verdict.text, text) == 0 ? 1 : 0;
    }
    return votes;
}

/* The most frequent text; its numbers are means over the runs that say so. */
static void elect_verdict(struct summary_point *p, const struct run_result *results, uint32_t count)
{
    uint32_t most = 0;
    struct average first = {0};
    struct average second = {0};
    struct average headroom = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t votes =
            shown(p, &results[i]) ? verdict_votes(p, results, count, results[i].verdict.text) : 0;
        if (votes > most) {
            most = votes;
            p->verdict = results[i].verdict;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (shown(p, &results[i]) && strcmp(results[i].verdict.text, p->verdict.text) == 0) {
            take(&first, results[i].verdict.first_frac);
            take(&second, results[i].verdict.second_frac);
            take(&headroom, results[i].verdict.headroom);
        }
    }
    p->verdict.first_frac = mean_of(&first);
    p->verdict.second_frac = mean_of(&second);
    p->verdict.headroom = mean_of(&headroom);
}

static double known_or_zero(double x)
{
    return isnan(x) ? 0 : x;
}

static void summarise_launch(struct summary_point *p, const struct run_result *results,
                             uint32_t count)
{
    struct average a[8] = {{0}};
    struct average batch = {0};
    struct summary_launch *l = &p->launch;
    for (uint32_t i = 0; i < count; i++) {
        const struct run_result *r = &results[i];
        if (!shown(p, r)) {
            continue;
        }
        l->threads_count = r->launchers_count;
        for (uint32_t k = 0; k < r->launchers_count; k++) {
            const struct probe_rates *t = &r->launchers[k];
            double told = known_or_zero(t->prepare_frac) + known_or_zero(t->launch_frac) +
                          known_or_zero(t->queue_full_frac) + known_or_zero(t->sync_wait_frac) +
                          known_or_zero(t->idle_frac);
            take(&a[0], t->launches_per_s[LAUNCH_CLASS_KERNEL]);
            take(&a[1], t->launches_per_s[LAUNCH_CLASS_GRAPH]);
            take(&a[2], t->prepare_frac);
            take(&a[3], t->launch_frac);
            take(&a[4], t->queue_full_frac);
            take(&a[5], t->sync_wait_frac);
            take(&a[6], t->idle_frac);
            take(&a[7], fmax(0, 1 - told));
        }
        for (uint32_t k = 0; k < r->engines_count; k++) {
            take(&batch, r->engines[k].batch_mean);
        }
    }
    l->kernels_per_s = mean_of(&a[0]);
    l->graphs_per_s = mean_of(&a[1]);
    l->prepare_frac = mean_of(&a[2]);
    l->launch_frac = mean_of(&a[3]);
    l->queue_full_frac = mean_of(&a[4]);
    l->sync_wait_frac = mean_of(&a[5]);
    l->idle_frac = mean_of(&a[6]);
    l->other_frac = mean_of(&a[7]);
    l->batch_mean = mean_of(&batch);
}

static void build_point(struct summary *s, const struct scenario_cell *cell,
                        const struct run_result *results, uint32_t count)
{
    struct summary_point point = {.cell = cell,
                                  .reason = "",
                                  .others_cores_used = STATS_UNKNOWN,
                                  .client_cpu_frac = STATS_UNKNOWN,
                                  .tok_per_s_lo = STATS_UNKNOWN,
                                  .tok_per_s_hi = STATS_UNKNOWN,
                                  .api_min_share = STATS_UNKNOWN,
                                  .api_max_share = STATS_UNKNOWN};
    for (uint32_t i = 0; i < count; i++) {
        if (results[i].cell == cell) {
            count_run(&point, &results[i]);
        }
    }
    if (point.runs_count == 0) {
        return;
    }
    point.along = s->scaling ? axis_number(s->scenario, cell, s->scenario->scaling.along) : 0;
    collect_rates(&point, results, count);
    average_fields(&point, results, count);
    collect_slo(&point, results, count);
    point.launches_per_s = point.run != NULL ? launching_rate(point.run) : STATS_UNKNOWN;
    point.forecast = forecast_of(cell);
    summarise_launch(&point, results, count);
    stages_limiting(NULL, 0, &point.verdict);
    if (point.shown_count > 0) {
        summarise_stages(&point, results, count);
        elect_verdict(&point, results, count);
    }
    point.load = limits_load_of(&point);
    s->points[s->points_count++] = point;
}

/* Intervals with the noise pooled over all points; those of a curve are replaced by the curve's. */
static void bound_points(struct summary *s)
{
    struct scaling_cell *cells = allocate(s->points_count, sizeof *cells);
    struct scaling_efficiency *rows = allocate(s->points_count, sizeof *rows);
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].shown_count > 0) {
            cells[count++] = s->points[i].rates;
        }
    }
    if (count > 0) {
        scaling_efficiency_table(cells, count, rows);
    }
    count = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        if (s->points[i].shown_count > 0) {
            s->points[i].tok_per_s_lo = rows[count].lo;
            s->points[i].tok_per_s_hi = rows[count++].hi;
        }
    }
    free(cells);
    free(rows);
}

/* ---- curves ---- */

static bool same_curve(const struct scenario *s, const struct scenario_cell *a,
                       const struct scenario_cell *b)
{
    for (uint32_t i = 0; i < s->axes_count; i++) {
        if (strcmp(s->axes[i].name, s->scaling.along) != 0 &&
            a->axis_value[i] != b->axis_value[i]) {
            return false;
        }
    }
    return true;
}

static void label_curve(const struct scenario *s, const struct scenario_cell *cell,
                        struct summary_curve *c)
{
    struct text t = text_into(c->label, sizeof c->label);
    uint32_t servers = cell->topology.api_servers_count;
    c->by_api_servers = true;
    bool servers_told = false;
    for (uint32_t i = 0; i < s->axes_count; i++) {
        const struct scenario_axis *axis = &s->axes[i];
        if (strcmp(axis->name, s->scaling.along) == 0 || axis->values_count < 2) {
            continue;
        }
        const char *lead = t.used > 0 ? ", " : "";
        if (counts_api_servers(s, axis->name)) {
            text_add(&t, "%s%u API server%s", lead, servers, servers == 1 ? "" : "s");
            servers_told = true;
        } else {
            text_add(&t, "%s%s=%s", lead, axis->name, axis->values[cell->axis_value[i]]);
            c->by_api_servers = false;
        }
    }
    if (t.used == 0 && cell->foreign.kind != SCENARIO_SERVER_OWN) {
        text_add(&t, "%s", cell->server);
        c->by_api_servers = false;
    } else if (t.used == 0 && !counts_api_servers(s, s->scaling.along)) {
        text_add(&t, "%u API server%s", servers, servers == 1 ? "" : "s");
    } else if (t.used == 0) {
        uint32_t engines = cell->topology.engines_count;
        text_add(&t, "%u engine core%s", engines, engines == 1 ? "" : "s");
    }
    c->by_api_servers = c->by_api_servers && (servers_told || t.used > 0) &&
                        !counts_api_servers(s, s->scaling.along);
    c->api_servers_count = servers;
}

static int by_along(const void *a, const void *b)
{
    const struct summary_point *const *x = a;
    const struct summary_point *const *y = b;
    return ((*x)->along > (*y)->along) - ((*x)->along < (*y)->along);
}

static void gather_points(const struct summary *s, struct summary_curve *c)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        if (p->evidence && count < SCALING_CELLS_MAX &&
            same_curve(s->scenario, p->cell, &s->scenario->cells[c->first])) {
            c->points[count++] = p;
        }
    }
    qsort((void *)c->points, count, sizeof(const struct summary_point *), by_along);
    for (uint32_t i = 0; i < count; i++) {
        if (c->points_count > 0 && c->points[c->points_count - 1]->along == c->points[i]->along) {
            continue; /* the same count twice on the axis */
        }
        c->points[c->points_count] = c->points[i];
        c->cells[c->points_count++] = c->points[i]->rates;
    }
}

static void answer_curve(const struct summary *s, struct summary_curve *c)
{
    scaling_last_helpful(c->cells, c->points_count, s->scenario->scaling.useful_gain_frac,
                         &c->answer);
    if (c->points_count == 0) {
        return;
    }
    scaling_efficiency_table(c->cells, c->points_count, c->efficiency);
    c->deciding = c->points[c->points_count - 1];
    for (uint32_t i = 0; i < c->points_count; i++) {
        if (c->answer.status == SCALING_FLAT && c->points[i]->along == c->answer.hi) {
            c->deciding = c->points[i];
        }
    }
    /* "They still help" is only said when each step was shown to be useful. */
    c->decided =
        c->answer.status == SCALING_FLAT || (c->answer.status == SCALING_ABOVE_RANGE &&
                                             c->answer.lo == c->points[c->points_count - 1]->along);
}

static double mean_length(const struct scenario_lengths *l)
{
    struct load_range range = scenario_range(l);
    return lengths_mean(&range);
}

static double microseconds(time_ps t)
{
    return (double)t / (double)PS_PER_US;
}

/* Closed form with what the engine cores' batches were past the knee. */
static void predict(struct summary_curve *c)
{
    const struct scenario_cell *cell = c->deciding != NULL ? c->deciding->cell : NULL;
    const struct host_profile *h =
        cell != NULL ? host_profile_find(cell->topology.host.name) : NULL;
    if (h == NULL || h->api_output_token == 0 ||
        cell->workload.source != SCENARIO_SOURCE_SYNTHETIC || c->points[0]->along == 0) {
        return;
    }
    struct summary_prediction *p = &c->prediction;
    double prompt = mean_length(&cell->workload.prompt);
    double output = mean_length(&cell->workload.output);
    double batch = c->deciding->launch.batch_mean;
    batch = batch > 0 ? batch : cell->topology.max_num_seqs;
    batch = fmax(1, batch / c->api_servers_count); /* an engine core's message to one of them */
    struct host_profile host = *h;
    double per_core = c->points[0]->tok_per_s / c->points[0]->along;
    p->known = per_core > 0 && output > 0;
    p->profile = h->name;
    p->token_us = microseconds(h->api_output_token);
    p->token_lo_us = microseconds(h->api_output_token_lo);
    p->token_hi_us = microseconds(h->api_output_token_hi);
    p->ceiling = closed_form_api_server(&host, prompt, output, batch);
    host.api_output_token = h->api_output_token_lo;
    p->ceiling_fast = closed_form_api_server(&host, prompt, output, batch);
    host.api_output_token = h->api_output_token_hi;
    p->ceiling_slow = closed_form_api_server(&host, prompt, output, batch);
    p->knee = scaling_api_server_knee(p->ceiling, c->api_servers_count, per_core);
    p->knee_fast = scaling_api_server_knee(p->ceiling_fast, c->api_servers_count, per_core);
    p->knee_slow = scaling_api_server_knee(p->ceiling_slow, c->api_servers_count, per_core);
}

/* Gain over the curve with the next fewer API servers, where both have the largest count. */
static void compare_curve(struct summary *s, struct summary_curve *c)
{
    for (uint32_t i = 0; i < s->curves_count; i++) {
        const struct summary_curve *other = &s->curves[i];
        if (other->by_api_servers && c->by_api_servers &&
            other->api_servers_count < c->api_servers_count && other->points_count > 0 &&
            (c->fewer == NULL || other->api_servers_count > c->fewer->api_servers_count)) {
            c->fewer = other;
        }
    }
    bool found = false;
    for (uint32_t i = 0; c->fewer != NULL && i < c->points_count; i++) {
        for (uint32_t k = 0; k < c->fewer->points_count; k++) {
            if (c->fewer->cells[k].cores == c->cells[i].cores) {
                c->gain = scaling_relative_gain(&c->fewer->cells[k], &c->cells[i]);
                found = true;
            }
        }
    }
    c->fewer = found ? c->fewer : NULL;
}

static void build_curves(struct summary *s)
{
    const struct scenario *scenario = s->scenario;
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        bool known = false;
        for (uint32_t k = 0; k < s->curves_count && !known; k++) {
            known = same_curve(scenario, &scenario->cells[s->curves[k].first], &scenario->cells[i]);
        }
        if (!known) {
            s->curves[s->curves_count].first = i;
            label_curve(scenario, &scenario->cells[i], &s->curves[s->curves_count]);
            s->curves_count++;
        }
    }
    for (uint32_t i = 0; i < s->curves_count; i++) {
        struct summary_curve *c = &s->curves[i];
        gather_points(s, c);
        answer_curve(s, c);
        predict(c);
    }
    for (uint32_t i = 0; i < s->curves_count; i++) {
        compare_curve(s, &s->curves[i]);
    }
}

static uint32_t curves_possible(const struct summary *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->scenario->cells_count; i++) {
        bool first = true;
        for (uint32_t k = 0; k < i && first; k++) {
            first = !same_curve(s->scenario, &s->scenario->cells[k], &s->scenario->cells[i]);
        }
        count += first ? 1 : 0;
    }
    return count;
}

/* A curve's intervals pool its own noise, and are the ones that its answer rests on. */
static void copy_bounds(struct summary *s)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        struct summary_point *p = &s->points[i];
        int index = summary_curve_of(s, p);
        for (uint32_t k = 0; index >= 0 && k < s->curves[index].points_count; k++) {
            if (s->curves[index].points[k] == p) {
                p->tok_per_s_lo = s->curves[index].efficiency[k].lo;
                p->tok_per_s_hi = s->curves[index].efficiency[k].hi;
            }
        }
    }
}

struct summary *summary_build(const struct scenario *scenario, const struct run_result *results,
                              uint32_t count)
{
    struct summary *s = allocate(1, sizeof *s);
    s->scenario = scenario;
    s->runs_count = count;
    s->planned_count =
        scenario->runs_count / (scenario->general.mode == (uint32_t)SCENARIO_BOTH ? 2 : 1);
    s->points = allocate(scenario->cells_count, sizeof *s->points);
    for (uint32_t i = 0; i < count; i++) {
        s->outcomes[results[i].outcome]++;
    }
    choose_axis(s);
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        build_point(s, &scenario->cells[i], results, count);
    }
    bound_points(s);
    s->curves = allocate(s->scaling ? curves_possible(s) : 0, sizeof *s->curves);
    if (s->scaling) {
        build_curves(s);
        copy_bounds(s);
    }
    limits_attribute(s, results, count);
    return s;
}

void summary_free(struct summary *s)
{
    if (s != NULL) {
        free(s->points);
        free(s->curves);
        free(s);
    }
}

bool summary_on_curve(const struct summary *s, const struct summary_curve *c,
                      const struct scenario_cell *cell)
{
    return same_curve(s->scenario, &s->scenario->cells[c->first], cell);
}

int summary_curve_of(const struct summary *s, const struct summary_point *point)
{
    for (uint32_t i = 0; i < s->curves_count; i++) {
        if (same_curve(s->scenario, &s->scenario->cells[s->curves[i].first], point->cell)) {
            return (int)i;
        }
    }
    return -1;
}

const struct run_result *summary_timeline_run(const struct summary *s,
                                              const struct run_result *results, uint32_t count)
{
    const struct scenario_cell *wanted = NULL;
    const struct run_result *any = NULL;
    for (uint32_t i = 0; i < s->curves_count && wanted == NULL; i++) {
        wanted = s->curves[i].deciding != NULL ? s->curves[i].deciding->cell : NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct run_result *r = &results[i];
        if (r->seconds_count == 0) {
            continue;
        }
        if (r->cell == wanted && valid(r)) {
            return r;
        }
        if (any == NULL || (valid(r) && !valid(any))) {
            any = r;
        }
    }
    return any;
}
