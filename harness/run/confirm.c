/*
 * confirm.c - owns which predictions are put to the test, with which load, and which cannot be
 * (confirm.h). Driven by `harness run --confirm` after the runs of a scenario. Must not run what
 * the host cannot carry: it would say nothing of the prediction.
 */
#include "harness/run/confirm.h"

#include <math.h>
#include <stdlib.h>

#include "harness/report/ceilings.h"
#include "harness/report/limits.h"

/* A cell of the sweep with these servers, all else equal: it was measured with the others. */
static bool in_sweep(const struct scenario *s, const struct scenario_cell *of,
                     const struct scenario_cell *wanted)
{
    for (uint32_t i = 0; i < s->cells_count; i++) {
        const struct scenario_cell *c = &s->cells[i];
        if (attribution_comparable(s, c, of) &&
            c->topology.api_servers_count == wanted->topology.api_servers_count &&
            c->topology.engines_count == wanted->topology.engines_count) {
            return true;
        }
    }
    return false;
}

/* Twice the servers need a load that can fill them. */
static void scale_load(struct scenario_cell *cell, bool engines)
{
    struct scenario_load *load = &cell->load;
    if (load->mode == SCENARIO_LOAD_CLOSED) {
        load->users_count *= engines ? 2 : 1;
    } else {
        load->rate_per_s *= 2;
        load->arrival.burst_every_ns /= 2;
        load->inflight_max_count *= 2;
    }
}

/* Why the prediction cannot be tested here; nothing if it can. */
static void judge_before(const struct confirm_options *o, const struct summary_point *p,
                         const struct scenario_cell *cell, const struct attribution_gain *g,
                         struct text *why)
{
    double cores = p->host_cores_used * (1 + g->gain) + fmax(0, p->others_cores_used);
    const struct forecast f = forecast_of(cell);
    if (p->cell->foreign.kind != SCENARIO_SERVER_OWN) {
        text_add(why, "the server is of others and has the servers that its command says");
    } else if (cell->load.mode == SCENARIO_LOAD_TRACE) {
        text_add(why, "a trace offers no more than it has");
    } else if (o->usable_cores > 0 && stages_host_limited(cores, o->usable_cores)) {
        text_add(why,
                 "it needs about %.1f of the %.1f cores of this host, of which %.0f %% may be used",
                 cores, o->usable_cores, STAGE_HOST_LIMIT_FRAC * 100);
    } else if (f.known && f.form.limit == CLOSED_FORM_LOAD &&
               f.form.tok_per_s < p->tok_per_s * (1 + g->gain)) {
        text_add(why, "the load asks for no more than %.0f tokens/s", f.form.tok_per_s);
    }
}

static void prepare(const struct confirm_options *o, const struct ceilings_of *of,
                    struct scenario_cell *cell, struct confirmed_row *row)
{
    const struct summary_point *p = of->point;
    const struct topology *now = &p->cell->topology;
    const struct topology *then = &cell->topology;
    bool engines = then->engines_count != now->engines_count;
    struct text words = text_into(row->configuration, sizeof row->configuration);
    struct text why = text_into(row->reason, sizeof row->reason);
    (void)snprintf(row->of, sizeof row->of, "%s", of->label);
    row->cell = p->cell;
    row->tok_per_s = p->tok_per_s;
    row->predicted = *of->relief;
    row->measured_tok_per_s = STATS_UNKNOWN;
    if (engines) {
        text_add(&words, "%u engine cores", then->engines_count);
    } else {
        text_add(&words, "%u API servers", then->api_servers_count);
    }
    scale_load(cell, engines);
    (void)snprintf(cell->name, sizeof cell->name, "%.400s with %s", p->cell->name,
                   row->configuration);
    judge_before(o, p, cell, of->relief, &why);
}

/* What the summary predicts of cells that the sweep does not have. */
static void choose(const struct confirm_options *o, struct confirmed *out,
                   struct scenario_cell **cells)
{
    struct summary *s = summary_build(o->scenario, o->results, o->results_count);
    struct ceilings_of of;
    uint32_t most = s->curves_count + s->points_count + 1;
    out->rows = calloc(most, sizeof *out->rows);
    *cells = calloc(most, sizeof(struct scenario_cell));
    ASSERT(out->rows != NULL && *cells != NULL);
    for (uint32_t i = 0; ceilings_next(s, i, &of); i++) {
        struct scenario_cell *cell = &(*cells)[out->count];
        const char *stage = limits_stage(of.point, of.attribution);
        if (!of.relief->known || !attribution_relieve(of.point->cell, stage, cell) ||
            in_sweep(o->scenario, of.point->cell, cell)) {
            continue;
        }
        struct confirmed_row *row = &out->rows[out->count++];
        row->stage = stage;
        prepare(o, &of, cell, row);
    }
    summary_free(s);
}

static void keep_reason(struct confirmed_row *row, const struct run_result *r)
{
    struct text t = text_into(row->reason, sizeof row->reason);
    if (r->outcome != RUN_OK) {
        text_add(&t, "%s", r->reason);
    } else {
        text_add(&t, "the host was the limit (%.1f cores in use)", r->host_cores_used);
    }
}

/* False: stop. */
static bool run_test(const struct confirm_options *o, struct scenario_cell *cell,
                     struct confirmed_row *row)
{
    bool more = true;
    double sum = 0;
    for (uint32_t k = 0; more && k < o->scenario->general.repeats_count; k++) {
        struct run_result r;
        more = o->measure(o->ctx, cell, k, &r);
        more = more && r.outcome != RUN_SERVER_FAILED && r.outcome != RUN_INTERRUPTED;
        row->runs_count++;
        if (r.outcome == RUN_OK && !r.host_limited) {
            sum += r.output_tok_per_s.mean;
            row->evidence_count++;
        } else {
            keep_reason(row, &r);
        }
        result_free(&r);
    }
    row->measured_tok_per_s = row->evidence_count > 0 ? sum / row->evidence_count : STATS_UNKNOWN;
    return more;
}

void confirm_predictions(const struct confirm_options *options, struct confirmed *out)
{
    struct scenario_cell *cells = NULL;
    *out = (struct confirmed){.complete = true};
    choose(options, out, &cells);
    for (uint32_t i = 0; i < out->count; i++) {
        struct confirmed_row *row = &out->rows[i];
        if (row->reason[0] != '\0') {
            continue; /* cannot be tested */
        }
        if (!out->complete) {
            (void)snprintf(row->reason, sizeof row->reason, "the session ended before");
        } else {
            out->complete = run_test(options, &cells[i], row);
        }
    }
    free(cells);
}
