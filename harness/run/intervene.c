/*
 * intervene.c - owns which cell and stages a probe takes, how a stage is made slower, and the order
 * of the runs (intervene.h). Driven by `harness run` after the runs of a scenario. Must not slow
 * the load client, and must not take a run that is no evidence into a pair.
 */
#include "harness/run/intervene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/host_profile.h"
#include "harness/report/summary.h"

#define OCCUPANCY_LEAST 0.8 /* of a thread's use: then booked costs are what it does */

/* ---- slowing a stage ---- */

/* Means over the threads of a stage. */
struct service {
    uint32_t servers_count;
    double use_frac;
    double occupancy_frac;
};

static struct service service_of(const struct run_result *r, const char *stage)
{
    struct service s = {.servers_count = 0};
    for (uint32_t i = 0; i < r->stages_count; i++) {
        const struct run_stage *t = &r->stages[i];
        if (strcmp(t->stage, stage) == 0 && !isnan(t->use_frac)) {
            s.servers_count++;
            s.use_frac += t->use_frac;
            s.occupancy_frac += isnan(t->occupancy_frac) ? 0 : t->occupancy_frac;
        }
    }
    if (s.servers_count > 0) {
        s.use_frac /= s.servers_count;
        s.occupancy_frac /= s.servers_count;
    }
    return s;
}

static int64_t part_of(int64_t cost_ns, double by)
{
    return llround((double)cost_ns * by);
}

/*
 * CPU time runs inside what is booked, so that booking only what a service should take longer
 * would be lost in it: all of the time, and what it should take longer, is booked.
 */
static int64_t booked_ns(const struct service *s, double by, double units_per_s)
{
    double missing = (1 + by) * s->use_frac - s->occupancy_frac;
    return missing > 0 && units_per_s > 0 ? llround(missing / units_per_s * 1e9) : 0;
}

static bool booked_already(const struct service *s)
{
    return s->occupancy_frac >= OCCUPANCY_LEAST * s->use_frac;
}

static bool slow_api_server(const struct run_result *r, const struct service *s, double by,
                            struct topology *t)
{
    const struct host_profile *p = host_profile_find(t->host.name);
    if (p != NULL && booked_already(s)) {
        t->added.api_request_ns = part_of(ns_from_ps(p->api_request), by);
        t->added.api_message_ns = part_of(ns_from_ps(p->api_message), by);
        t->added.api_output_token_ns = part_of(ns_from_ps(p->api_output_token), by);
        t->added.api_prompt_token_ns = part_of(ns_from_ps(p->api_prompt_token), by);
    } else {
        double each_per_s = r->output_tok_per_s.mean / s->servers_count;
        t->added.api_output_token_ns = booked_ns(s, by, each_per_s);
    }
    return t->added.api_output_token_ns > 0;
}

static bool slow_engine_core(const struct run_result *r, const struct service *s, double by,
                             struct topology *t)
{
    const struct host_profile *p = host_profile_find(t->host.name);
    double steps_per_s = 0;
    if (p != NULL && booked_already(s)) {
        int64_t step_ns = t->engine_step_ns > 0 ? t->engine_step_ns : ns_from_ps(p->engine_step);
        t->added.engine_step_ns = part_of(step_ns, by);
        t->added.engine_seq_ns = part_of(ns_from_ps(p->engine_seq), by);
        return t->added.engine_step_ns > 0 || t->added.engine_seq_ns > 0;
    }
    for (uint32_t i = 0; i < r->engines_count; i++) {
        steps_per_s += r->engines[i].steps_per_s + r->engines[i].dummy_steps_per_s;
    }
    t->added.engine_step_ns = booked_ns(s, by, steps_per_s / s->servers_count);
    return t->added.engine_step_ns > 0;
}

static bool slow_launches(const struct run_result *r, const struct service *s, double by,
                          struct topology *t)
{
    double launches_per_s = 0;
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        for (int c = 0; c < LAUNCH_CLASSES_COUNT; c++) {
            launches_per_s += c != LAUNCH_CLASS_SYNC ? r->launchers[i].launches_per_s[c] : 0;
        }
    }
    double each_ns = s->use_frac * s->servers_count / launches_per_s * 1e9;
    int64_t extra_ns = launches_per_s > 0 ? llround(each_ns * by) : 0;
    t->launch_extra_ns += extra_ns;
    return extra_ns > 0;
}

static bool slow_coordinator(const struct service *s, double by, struct topology *t)
{
    const struct host_profile *p = host_profile_find(t->host.name);
    if (p == NULL || !booked_already(s)) {
        return false;
    }
    t->added.coordinator_message_ns = part_of(ns_from_ps(p->coordinator_message), by);
    return t->added.coordinator_message_ns > 0;
}

/* No profile has costs of these threads: what a scenario sets reaches them as it is. */
static bool slow_io(double by, struct topology *t)
{
    struct topology_host *h = &t->host;
    int64_t before_ns =
        h->engine_input_request_ns + h->engine_output_message_ns + h->engine_output_token_ns;
    h->engine_input_request_ns += part_of(h->engine_input_request_ns, by);
    h->engine_output_message_ns += part_of(h->engine_output_message_ns, by);
    h->engine_output_token_ns += part_of(h->engine_output_token_ns, by);
    return before_ns > 0;
}

bool intervene_slow(const struct run_result *base, const char *stage, double by,
                    struct scenario_cell *out)
{
    struct service s = service_of(base, stage);
    struct topology *t = &out->topology;
    *out = *base->cell;
    if (s.servers_count == 0) {
        return false;
    }
    if (strcmp(stage, "api_server") == 0) {
        return slow_api_server(base, &s, by, t);
    }
    if (strcmp(stage, "scheduler") == 0) {
        return slow_engine_core(base, &s, by, t);
    }
    if (strcmp(stage, "launch") == 0) {
        return slow_launches(base, &s, by, t);
    }
    if (strcmp(stage, "gpu") == 0) {
        t->gpu_slower_ppm = (uint32_t)lround(by * 1e6);
        return true;
    }
    if (strcmp(stage, "coordinator") == 0) {
        return slow_coordinator(&s, by, t);
    }
    if (strcmp(stage, "interpreter") == 0) { /* all that is done while holding it */
        bool step = slow_engine_core(base, &s, by, t);
        return slow_io(by, t) || step;
    }
    return strcmp(stage, "ipc") == 0 && slow_io(by, t);
}

/* ---- which cell, which stages ---- */

static const struct summary_point *point_of(const struct summary *s, const char *name)
{
    const struct summary_point *best = NULL;
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct summary_point *p = &s->points[i];
        bool named = name[0] == '\0' || strcmp(p->cell->name, name) == 0;
        if (named && p->shown_count > 0 && (best == NULL || p->tok_per_s > best->tok_per_s)) {
            best = p;
        }
    }
    for (uint32_t i = 0; i < s->curves_count && name[0] == '\0'; i++) {
        if (s->curves[i].deciding != NULL) {
            return s->curves[i].deciding;
        }
    }
    return best;
}

static bool can_be_asked_for(const struct stage_summary *stage)
{
    return stage->instrumented && strcmp(stage->stage, "client") != 0 &&
           strcmp(stage->stage, "launcher") != 0;
}

static void add_row(struct elasticity *e, const struct stage_summary *stage)
{
    ASSERT(e->rows_count < ELASTICITY_ROWS_MAX);
    struct elasticity_row *row = &e->rows[e->rows_count++];
    (void)snprintf(row->stage, sizeof row->stage, "%s", stage->stage);
    row->use_frac = stage->use_frac;
}

static bool has_row(const struct elasticity *e, const char *stage)
{
    for (uint32_t i = 0; i < e->rows_count; i++) {
        if (strcmp(e->rows[i].stage, stage) == 0) {
            return true;
        }
    }
    return false;
}

static void choose_most_used(struct elasticity *e, const struct summary_point *p, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct stage_summary *most = NULL;
        for (uint32_t k = 0; k < p->stages_count; k++) {
            const struct stage_summary *stage = &p->stages[k];
            if (can_be_asked_for(stage) && !has_row(e, stage->stage) &&
                (most == NULL || stage->use_frac > most->use_frac)) {
                most = stage;
            }
        }
        if (most != NULL) {
            add_row(e, most);
        }
    }
}

static bool is_listed(uint32_t stages, const char *stage)
{
    const char *at = SCENARIO_PROBE_STAGES;
    for (uint32_t bit = 0; *at != '\0'; bit++) {
        size_t bytes = strcspn(at, "|");
        if ((stages >> bit & 1U) != 0 && strlen(stage) == bytes && strncmp(at, stage, bytes) == 0) {
            return true;
        }
        at += bytes + (at[bytes] == '|' ? 1 : 0);
    }
    return false;
}

static void choose(const struct intervene_options *o, struct elasticity *e)
{
    const struct scenario_probe *probe = &o->scenario->probe;
    struct summary *s = summary_build(o->scenario, o->results, o->results_count);
    const struct summary_point *p = point_of(s, probe->cell);
    if (p != NULL) {
        e->cell = p->cell;
        e->observed = p->verdict;
        e->load_limits = p->load != SUMMARY_LOAD_FULL;
        choose_most_used(e, p, probe->elasticity.top_count);
        for (uint32_t i = 0; i < p->stages_count; i++) {
            if (can_be_asked_for(&p->stages[i]) &&
                is_listed(probe->elasticity.stages, p->stages[i].stage)) {
                add_row(e, &p->stages[i]);
            }
        }
    }
    summary_free(s);
}

/* ---- runs ---- */

struct session {
    const struct intervene_options *options;
    struct elasticity *out;
    struct run_result first; /* run without a slow-down: what a service takes */
    bool first_known;
    bool stopped;
};

/* Tokens/s of one run; NAN: it is no evidence. `row` NULL: without a slow-down. */
static double measure(struct session *s, const struct elasticity_row *row, uint32_t pair)
{
    struct elasticity *e = s->out;
    struct scenario_cell cell = *e->cell;
    struct run_result r;
    if (row != NULL && !intervene_slow(&s->first, row->stage, e->by_frac, &cell)) {
        return STATS_UNKNOWN;
    }
    (void)snprintf(cell.name, sizeof cell.name, "%.400s slowed=%s", e->cell->name,
                   row != NULL ? row->stage : "none");
    bool more = s->options->measure(s->options->ctx, &cell, pair, &r);
    bool usable = r.outcome == RUN_OK;
    double rate = usable ? r.output_tok_per_s.mean : STATS_UNKNOWN;
    e->runs_count++;
    e->host_limited_count += r.host_limited ? 1 : 0;
    e->unusable_count += usable ? 0 : 1;
    s->stopped = !more || r.outcome == RUN_SERVER_FAILED || r.outcome == RUN_INTERRUPTED;
    if (row == NULL && usable && !s->first_known) {
        s->first = r; /* freed at the end */
        s->first.cell = e->cell;
        s->first_known = true;
    } else {
        result_free(&r);
    }
    return rate;
}

static void keep_pair(struct elasticity_row *row, double base, double slowed)
{
    if (base > 0 && slowed > 0) {
        row->base_tok_per_s[row->pairs_count] = base;
        row->slowed_tok_per_s[row->pairs_count++] = slowed;
    }
}

static void run_pair(struct session *s, uint32_t pair)
{
    struct elasticity *e = s->out;
    double slowed[ELASTICITY_ROWS_MAX] = {0};
    bool base_last = pair % 2 == 1;
    double base = base_last ? STATS_UNKNOWN : measure(s, NULL, pair);
    for (uint32_t i = 0; i < e->rows_count; i++) {
        uint32_t k = base_last ? e->rows_count - 1 - i : i;
        bool wanted = !s->stopped && s->first_known && e->rows[k].slowable;
        slowed[k] = wanted ? measure(s, &e->rows[k], pair) : STATS_UNKNOWN;
    }
    if (base_last && !s->stopped) {
        base = measure(s, NULL, pair);
    }
    for (uint32_t i = 0; i < e->rows_count; i++) {
        keep_pair(&e->rows[i], base, slowed[i]);
    }
}

static void see_what_can_be_slowed(struct session *s)
{
    struct scenario_cell slowed;
    for (uint32_t i = 0; i < s->out->rows_count && s->first_known; i++) {
        struct elasticity_row *row = &s->out->rows[i];
        row->slowable = intervene_slow(&s->first, row->stage, s->out->by_frac, &slowed);
    }
}

void intervene_probe(const struct intervene_options *options, struct elasticity *out)
{
    const struct scenario_probe *probe = &options->scenario->probe;
    struct session s = {.options = options, .out = out};
    *out = (struct elasticity){.by_frac = probe->elasticity.by_frac};
    choose(options, out);
    for (uint32_t i = 0; i < out->rows_count; i++) {
        out->rows[i].slowable = true; /* until a run says otherwise */
    }
    uint32_t pairs = out->rows_count > 0 ? probe->pairs_count : 0;
    for (uint32_t pair = 0; pair < pairs && !s.stopped; pair++) {
        run_pair(&s, pair);
    }
    see_what_can_be_slowed(&s);
    for (uint32_t i = 0; i < out->rows_count; i++) {
        elasticity_conclude(out, &out->rows[i]);
    }
    out->complete = out->cell != NULL && !s.stopped;
    if (s.first_known) {
        result_free(&s.first);
    }
}
