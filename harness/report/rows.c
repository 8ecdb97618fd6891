/*
 * rows.c - rows of the CSV files that grow by every run (rows.h). One function a file names its
 * columns and writes its rows. Computes nothing but ratios of what the result holds.
 */
#include "harness/report/rows.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "harness/report/compat_columns.h"
#include "harness/report/event_lines.h"
#include "harness/report/forecast.h"
#include "harness/report/goodput.h"
#include "harness/report/launching.h"

static const char *load_mode_name(const struct scenario_load *load)
{
    static const char *const names[] = {"closed", "open", "trace"};
    return load->mode < sizeof names / sizeof names[0] ? names[load->mode] : "";
}

static void describe_arrival(const struct scenario_load *load, char *out, size_t cap)
{
    const struct scenario_arrival *a = &load->arrival;
    out[0] = '\0';
    if (load->mode == SCENARIO_LOAD_TRACE) {
        (void)snprintf(out, cap, "trace");
    } else if (load->mode == SCENARIO_LOAD_OPEN) {
        switch ((enum scenario_arrival_kind)a->kind) {
        case SCENARIO_ARRIVAL_POISSON:
            (void)snprintf(out, cap, "poisson");
            break;
        case SCENARIO_ARRIVAL_CONSTANT:
            (void)snprintf(out, cap, "constant");
            break;
        case SCENARIO_ARRIVAL_GAMMA:
            (void)snprintf(out, cap, "gamma cv=%g", a->cv);
            break;
        case SCENARIO_ARRIVAL_BURSTS:
            (void)snprintf(out, cap, "bursts of=%u every=%gs", a->burst_count,
                           (double)a->burst_every_ns / 1e9);
            break;
        }
    }
}

const char *rows_outcome_name(enum run_outcome outcome)
{
    static const char *const names[] = {"ok",          "invalid", "server_failed", "client_failed",
                                        "interrupted", "skipped"};
    return names[outcome];
}

void rows_api_shares(const struct run_result *r, double *least, double *greatest)
{
    double sum = 0;
    uint32_t count = r->cell->topology.api_servers_count;
    *least = STATS_UNKNOWN;
    *greatest = STATS_UNKNOWN;
    for (uint32_t i = 0; i < count && i < LOAD_API_SERVERS_MAX; i++) {
        sum += isnan(r->api_tok_per_s[i]) ? 0 : r->api_tok_per_s[i];
    }
    for (uint32_t i = 0; i < count && i < LOAD_API_SERVERS_MAX && sum > 0; i++) {
        double share = isnan(r->api_tok_per_s[i]) ? 0 : r->api_tok_per_s[i] / sum;
        *least = fmin(share, *least);
        *greatest = fmax(share, *greatest);
    }
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : STATS_UNKNOWN;
}

static bool known(const struct run_result *r)
{
    return r->window_s > 0;
}

/* ---- runs.csv ---- */

int64_t rows_count_or_unknown(uint32_t count)
{
    return count > 0 ? (int64_t)count : -1;
}

static void run_identity(struct table *t, const struct rows *rows, const struct run_result *r)
{
    char arrival[64];
    const struct scenario_cell *c = r->cell;
    describe_arrival(&c->load, arrival, sizeof arrival);
    table_count(t, "schema", ROWS_SCHEMA);
    table_text(t, "run_id", r->run_id);
    table_text(t, "scenario", rows->scenario->general.name);
    table_text(t, "cell", c->name);
    table_text(t, "server", c->server);
    table_known(t, "api_servers_count", rows_count_or_unknown(c->topology.api_servers_count));
    table_known(t, "dp_count", rows_count_or_unknown(c->topology.engines_count));
    table_known(t, "engine_cores_count", rows_count_or_unknown(c->topology.engines_count));
    table_known(t, "gpus_count", rows_count_or_unknown(topology_gpus(&c->topology)));
    table_text(t, "workload", c->workload.name);
    table_text(t, "load_mode", load_mode_name(&c->load));
    table_text(t, "arrival", arrival);
    table_number(t, "offered_rps", r->offered_rps);
    table_known(t, "users_count", r->users_count > 0 ? (int64_t)r->users_count : -1);
    table_count(t, "replicate", r->replicate);
    table_count(t, "order_index", r->order_index);
    table_count(t, "seed", r->seed);
    table_text(t, "start_utc", r->start_utc);
    table_number(t, "warmup_s", r->warmup_s);
    table_number(t, "window_s", known(r) ? r->window_s : STATS_UNKNOWN);
    table_number(t, "window_cycles", ratio(r->window_s * 1e3, r->latency[RUN_E2EL].mean_ms));
    table_number(t, "steady", r->steady_flag);
}

/* Closed loop: the window's edges cut most requests, so Little's law says nothing. */
static double little_residual(const struct run_result *r)
{
    if (r->cell->load.mode == SCENARIO_LOAD_CLOSED) {
        return STATS_UNKNOWN;
    }
    double expected = r->achieved_rps * r->latency[RUN_E2EL].mean_ms / 1e3;
    return ratio(fabs(r->inflight_mean - expected), r->inflight_mean);
}

static void run_rates(struct table *t, const struct run_result *r)
{
    const struct stats_mean *x = &r->output_tok_per_s;
    const struct goodput good = goodput_of(&r->slo, r->window_s);
    table_count(t, "requests_count", r->requests_count);
    table_count(t, "ok_count", r->ok_count);
    table_count(t, "fail_count", r->fail_count);
    table_count(t, "dropped_count", r->dropped_count);
    table_number(t, "fail_frac", ratio((double)r->fail_count, (double)r->requests_count));
    table_number(t, "sent_rps", r->sent_rps);
    table_number(t, "achieved_rps", r->achieved_rps);
    table_number(t, "achieved_ratio", ratio(r->achieved_rps, r->offered_rps));
    table_number(t, "achieved_ratio_lo", r->achieved_ratio_lo);
    table_number(t, "achieved_ratio_hi", r->achieved_ratio_hi);
    table_number(t, "prompt_tok_per_s", r->prompt_tok_per_s);
    table_number(t, "output_tok_per_s", x->mean);
    table_number(t, "output_tok_per_s_lo", x->lo);
    table_number(t, "output_tok_per_s_hi", x->hi);
    table_number(t, "goodput_rps", good.rps);
    table_number(t, "good_frac", good.frac);
    table_number(t, "good_frac_lo", good.lo);
    table_number(t, "good_frac_hi", good.hi);
    table_number(t, "inflight_mean", r->inflight_mean);
    table_number(t, "inflight_max", r->inflight_max);
    table_number(t, "backlog_slope_per_s", r->backlog_slope_per_s);
    table_number(t, "little_residual_frac", little_residual(r));
}

static void metric_number(struct table *t, const char *metric, const char *part, double value)
{
    char column[48];
    (void)snprintf(column, sizeof column, "%s_%s_ms", metric, part);
    table_number(t, column, value);
}

static const char *const metrics[RUN_METRICS_COUNT] = {"ttft", "ttft_sched", "tpot",      "icl",
                                                       "itl",  "e2el",       "e2el_sched"};

static void run_latencies(struct table *t, const struct run_result *r)
{
    static const enum run_metric bounded[] = {RUN_TTFT_SCHED, RUN_TPOT, RUN_E2EL_SCHED};
    for (int i = 0; i < RUN_METRICS_COUNT; i++) {
        const struct run_latency *l = &r->latency[i];
        metric_number(t, metrics[i], "mean", l->mean_ms);
        metric_number(t, metrics[i], "p50", l->p50_ms);
        metric_number(t, metrics[i], "p90", l->p90_ms);
        metric_number(t, metrics[i], "p95", l->p95_ms);
        metric_number(t, metrics[i], "p99", l->p99_ms);
        metric_number(t, metrics[i], "p999", l->p999_ms);
    }
    for (size_t i = 0; i < sizeof bounded / sizeof bounded[0]; i++) {
        metric_number(t, metrics[bounded[i]], "p99_lo", r->latency[bounded[i]].p99_lo_ms);
        metric_number(t, metrics[bounded[i]], "p99_hi", r->latency[bounded[i]].p99_hi_ms);
    }
    table_number(t, "ttft_sched_p99_all_ms", r->latency[RUN_TTFT_SCHED].p99_all_ms);
    table_number(t, "e2el_sched_p99_all_ms", r->latency[RUN_E2EL_SCHED].p99_all_ms);
    table_number(t, "stall_max_p99_ms", r->stall_max_p99_ms);
    table_number(t, "lag_p50_ms", r->lag_p50_ms);
    table_number(t, "lag_p99_ms", r->lag_p99_ms);
    table_number(t, "lag_max_ms", r->lag_max_ms);
}

static void run_judgement(struct table *t, const struct run_result *r)
{
    bool have_itl = !isnan(r->latency[RUN_ITL].mean_ms);
    table_number(t, "client_cpu_frac", r->client_cpu_frac);
    table_number(t, "client_ceiling_frac", r->client_ceiling_frac);
    table_text(t, "token_basis", r->token_basis);
    table_text(t, "itl_basis", have_itl ? "chunk" : "");
    table_number(t, "n_eff_frac", r->n_eff_frac);
    table_flag(t, "valid", r->outcome == RUN_OK);
    table_text(t, "invalid_reason", r->outcome == RUN_INVALID ? r->reason : "");
    table_text(t, "bottleneck", r->stages_count > 0 ? r->verdict.text : "");
    table_number(t, "bottleneck_util_frac",
                 r->stages_count > 0 ? r->verdict.first_frac : STATS_UNKNOWN);
    table_number(t, "launch_busy_frac", r->launch_busy_frac);
    table_number(t, "gpu_busy_frac", r->gpu_busy_frac);
    table_number(t, "gpu_starved_frac", r->gpu_starved_frac);
    table_number(t, "dp_imbalance_frac", r->dp_imbalance_frac);
}

static void run_provenance(struct table *t, const struct rows *rows, const struct run_result *r)
{
    const struct run_host *h = rows->host;
    table_text(t, "git_rev", h->git_rev);
    bool own = r->cell->foreign.kind == SCENARIO_SERVER_OWN;
    table_text(t, "server_rev", own ? h->git_rev : r->server_rev);
    /* The machine that simulates has no part in the row. */
    table_text(t, "host", r->simulated ? "" : h->host.hostname);
    table_text(t, "kernel", r->simulated ? "" : h->host.kernel);
    table_text(t, "cpu_model", r->simulated ? "" : h->host.cpu_model);
    table_text(t, "gpu_model", r->cell->topology.gpu);
    table_text(t, "driver", own ? "emulated" : "");
    table_text(t, "governor", r->simulated ? "" : h->host.governor);
    table_text(t, "config_hash", h->config_hash);
}

static void run_prediction(struct table *t, const struct run_result *r)
{
    const struct forecast f = forecast_of(r->cell);
    const struct closed_form *form = &f.form;
    table_number(t, "rank_steps_per_tok", r->rank_steps_per_tok);
    table_number(t, "launches_per_s", launching_rate(r));
    table_number(t, "predicted_output_tok_per_s", f.known ? form->tok_per_s : STATS_UNKNOWN);
    table_text(t, "predicted_limit", f.known ? closed_form_limit_name(form->limit) : "");
    table_number(t, "predicted_rank_steps_per_tok",
                 f.known ? form->rank_steps_per_tok : STATS_UNKNOWN);
    table_number(t, "predicted_itl_mean_ms", forecast_token_gap_ms(&f));
    table_number(t, "predicted_launches_per_s",
                 f.known ? form->kernels_per_s + form->graphs_per_s : STATS_UNKNOWN);
}

static void run_expectation(struct table *t, const struct run_result *r)
{
    const struct run_expectation *e = &r->expected;
    double measured = r->outcome == RUN_OK ? r->output_tok_per_s.mean : STATS_UNKNOWN;
    table_number(t, "forecast_output_tok_per_s", e->known ? e->tok_per_s : STATS_UNKNOWN);
    table_number(t, "forecast_lo", e->known ? e->lo : STATS_UNKNOWN);
    table_number(t, "forecast_hi", e->known ? e->hi : STATS_UNKNOWN);
    table_text(t, "forecast_stage", e->known ? e->stage : "");
    table_number(t, "prediction_error_frac",
                 e->known ? measured / e->tok_per_s - 1 : STATS_UNKNOWN);
}

static void run_row(struct table *t, const struct rows *rows, const struct run_result *r)
{
    double least;
    double greatest;
    rows_api_shares(r, &least, &greatest);
    run_identity(t, rows, r);
    run_rates(t, r);
    run_latencies(t, r);
    run_judgement(t, r);
    run_provenance(t, rows, r);
    table_count(t, "censored_count", r->censored_count);
    table_flag(t, "host_limited", r->host_limited);
    table_number(t, "host_cores_used", r->host_cores_used);
    table_number(t, "others_cores_used", r->others_cores_used);
    table_text(t, "outcome", rows_outcome_name(r->outcome));
    table_count(t, "tokens_mismatch_count", r->tokens_mismatch_count);
    table_number(t, "api_min_share", least);
    table_number(t, "api_max_share", greatest);
    table_number(t, "rank_jain", r->rank_jain);
    table_number(t, "hops_residual_max_ms",
                 r->hops.requests_count > 0 ? r->hops.residual_max_ms : STATS_UNKNOWN);
    table_text(t, "reason", r->reason);
    run_prediction(t, r);
    run_expectation(t, r);
    table_number(t, "dp_sync_frac", r->dp_sync_frac);
    table_number(t, "stranded_frac", r->stranded_frac);
    table_text(t, "slo", r->cell->slo.name);
    table_number(t, "cpu_pressure_frac", r->cpu_pressure_frac);
    table_text(t, "mode", r->simulated ? "simulated" : "measured");
    compat_columns(t, r, rows->host->compat_tools); /* the last ones: not every session has them */
    table_end_row(t);
}

/* ---- stages.csv ---- */

static uint32_t servers_of(const struct run_result *r, const char *stage)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->stages_count; i++) {
        count += strcmp(r->stages[i].stage, stage) == 0 ? 1 : 0;
    }
    return count;
}

static void stage_row(struct table *t, const struct run_result *r, const struct run_stage *s)
{
    double frac = s->use_frac;
    table_text(t, "run_id", r->run_id);
    table_text(t, "stage", s->stage);
    table_text(t, "instance", s->instance);
    table_count(t, "servers_count", servers_of(r, s->stage));
    table_number(t, "busy_frac", s->busy_frac);
    table_number(t, "busy_lo", s->busy_lo);
    table_number(t, "busy_hi", s->busy_hi);
    table_number(t, "cpu_frac", s->cpu_frac);
    table_number(t, "spin_frac", s->spin_frac);
    table_number(t, "runq_wait_frac", s->runq_wait_frac);
    table_number(t, "queue_mean_count", s->queue_mean_count);
    table_number(t, "queue_max_count", s->queue_max_count);
    table_number(t, "wait_p50_us", s->wait_p50_us);
    table_number(t, "wait_p99_us", s->wait_p99_us);
    table_number(t, "service_us_per_req", s->service_us_per_req);
    table_number(t, "service_us_per_tok", s->service_us_per_tok);
    table_number(t, "demand_us", ratio(frac * 1e6, r->achieved_rps));
    table_text(t, "demand_lo_us", "");
    table_text(t, "demand_hi_us", "");
    table_text(t, "ceiling_rps", "");
    table_number(t, "ctx_switches_per_s", s->ctx_switches_per_s);
    table_number(t, "migrations_per_s", s->migrations_per_s);
    table_text(t, "source", s->source);
    table_text(t, "quality", s->quality[0] != '\0' ? s->quality : isnan(frac) ? "none" : "counted");
    table_number(t, "occupancy_frac", s->occupancy_frac);
    table_number(t, "use_frac", frac);
    table_number(t, "messages_per_s", s->messages_per_s);
    table_end_row(t);
}

/* ---- launch.csv ---- */

void rows_launcher_name(const struct probe_rates *launcher, char out[32])
{
    if (launcher->kind == THREAD_WORKER_MAIN) {
        (void)snprintf(out, 32, "Worker_DP%u_%u", launcher->instance, launcher->sub);
    } else {
        (void)snprintf(out, 32, "EngineCore_DP%u", launcher->instance);
    }
}

static const struct probe_rates *engine_of(const struct run_result *r,
                                           const struct probe_rates *launcher)
{
    for (uint32_t i = 0; i < r->engines_count; i++) {
        if (r->engines[i].instance == launcher->instance) {
            return &r->engines[i];
        }
    }
    return launcher;
}

double rows_launches_per_step(const struct run_result *r, const struct probe_rates *launcher)
{
    const struct probe_rates *engine = engine_of(r, launcher);
    return ratio(launcher->launches_per_s[LAUNCH_CLASS_KERNEL] +
                     launcher->launches_per_s[LAUNCH_CLASS_GRAPH],
                 engine->steps_per_s + engine->dummy_steps_per_s);
}

static void launch_margin(struct table *t, const struct run_result *r, const struct probe_rates *l)
{
    const struct launching_margin m = launching_margin_of(l, &r->cell->topology);
    table_number(t, "copy_launch_mean_us", l->launch_mean_us[LAUNCH_CLASS_COPY]);
    table_number(t, "syncs_per_s", l->launches_per_s[LAUNCH_CLASS_SYNC]);
    table_number(t, "output_thread_wait_frac", l->output_wait_frac);
    table_number(t, "gpu_idle_late_frac", l->gpu_idle_frac);
    table_number(t, "gpu_idle_absent_frac", l->gpu_absent_frac);
    table_number(t, "launch_cost_us", m.cost_us);
    table_number(t, "critical_launch_cost_us", m.critical_us);
    table_number(t, "launch_cost_ratio", m.ratio);
    table_number(t, "spare_launch_cost_us", m.spare_us);
}

static void launch_row(struct table *t, const struct run_result *r, const struct probe_rates *l)
{
    char name[32];
    const struct probe_rates *engine = engine_of(r, l);
    double kernels = l->launches_per_s[LAUNCH_CLASS_KERNEL];
    double graphs = l->launches_per_s[LAUNCH_CLASS_GRAPH];
    rows_launcher_name(l, name);
    table_text(t, "run_id", r->run_id);
    table_count(t, "dp_rank", l->instance);
    table_text(t, "thread", name);
    table_number(t, "launches_per_s", kernels);
    table_number(t, "graph_launches_per_s", graphs);
    table_number(t, "launches_per_step", rows_launches_per_step(r, l));
    table_number(t, "launch_p50_us", l->launch_p50_us);
    table_number(t, "launch_p99_us", l->launch_p99_us);
    table_number(t, "launch_api_frac", l->launch_frac);
    table_number(t, "prepare_frac", l->prepare_frac);
    table_number(t, "sync_wait_frac", l->sync_wait_frac);
    table_number(t, "idle_frac", l->idle_frac);
    table_number(t, "cpu_frac", l->cpu_frac);
    table_number(t, "gpu_idle_gap_us_p50", l->gpu_gap_p50_us);
    table_number(t, "gpu_starved_frac", l->gpu_idle_frac);
    table_number(t, "batch_mean_count", engine->batch_mean);
    table_number(t, "step_p50_us", engine->step_p50_us);
    table_number(t, "step_p99_us", engine->step_p99_us);
    table_text(t, "source", r->simulated ? "simulated" : "ledger");
    table_number(t, "queue_full_frac", l->queue_full_frac);
    table_number(t, "launch_mean_us", l->launch_mean_us[LAUNCH_CLASS_KERNEL]);
    table_number(t, "graph_launch_mean_us", l->launch_mean_us[LAUNCH_CLASS_GRAPH]);
    table_number(t, "launch_max_us", (double)l->launch_max_ns / 1e3);
    table_number(t, "copies_per_s", l->launches_per_s[LAUNCH_CLASS_COPY]);
    table_number(t, "gpu_busy_frac", l->gpu_busy_frac);
    table_number(t, "steps_per_s", engine->steps_per_s);
    table_number(t, "step_mean_us", engine->step_mean_us);
    table_known(t, "pid", r->simulated ? -1 : l->pid);
    table_known(t, "tid", r->simulated ? -1 : l->tid);
    table_number(t, "gpu_switch_frac", l->gpu_switch_frac);
    table_number(t, "waves_per_s", engine->waves_per_s);
    table_number(t, "dummy_steps_per_s", engine->dummy_steps_per_s);
    table_number(t, "collective_wait_frac", engine->collective_wait_frac);
    launch_margin(t, r, l);
    table_end_row(t);
}

/* ---- threads.csv, timeline.csv, hist.csv, hops.csv, requests.csv ---- */

static void thread_row(struct table *t, const struct run_result *r,
                       const struct proc_thread_row *row)
{
    table_text(t, "run_id", r->run_id);
    table_text(t, "kind", row->kind);
    table_known(t, "expected_count", row->expected_count);
    table_known(t, "counted_ledger", row->counted_ledger);
    table_known(t, "counted_proc", row->counted_proc);
    table_end_row(t);
}

static void second_row(struct table *t, const struct run_result *r, const struct run_second *s)
{
    table_text(t, "run_id", r->run_id);
    table_number(t, "at_s", s->at_s);
    table_text(t, "phase", s->phase);
    table_number(t, "offered_per_s", s->offered_per_s);
    table_number(t, "sent_per_s", s->sent_per_s);
    table_number(t, "done_per_s", s->done_per_s);
    table_number(t, "output_tok_per_s", s->output_tok_per_s);
    table_number(t, "inflight", s->inflight);
    table_end_row(t);
}

static void bin_row(struct table *t, const struct run_result *r, const struct run_bin *bin)
{
    table_text(t, "run_id", r->run_id);
    table_text(t, "metric", metrics[bin->metric]);
    table_number(t, "lo_us", (double)histogram_bucket_lo(bin->bucket) / 1e3);
    table_number(t, "hi_us", (double)histogram_bucket_lo(bin->bucket + 1) / 1e3);
    table_count(t, "count", bin->count);
    table_end_row(t);
}

static void hops_row(struct table *t, const struct run_result *r)
{
    bool any = r->hops.requests_count > 0;
    table_text(t, "run_id", r->run_id);
    table_count(t, "requests_count", r->hops.requests_count);
    table_number(t, "residual_max_ms", any ? r->hops.residual_max_ms : STATS_UNKNOWN);
    table_number(t, "negative_max_ms", any ? r->hops.negative_max_ms : STATS_UNKNOWN);
    for (int i = 0; i < PROBE_PARTS_COUNT; i++) {
        char column[48];
        (void)snprintf(column, sizeof column, "%s_ms", probe_part_name((enum probe_part)i));
        table_number(t, column, any ? r->hops.mean_ms[i] : STATS_UNKNOWN);
    }
    table_end_row(t);
}

static int64_t index_or_unknown(uint32_t index)
{
    return index == UINT32_MAX ? -1 : (int64_t)index;
}

static void request_row(struct table *t, const struct run_result *r, const struct run_request *q)
{
    table_text(t, "run_id", r->run_id);
    table_count(t, "number", q->number);
    table_text(t, "outcome", load_outcome_name(q->outcome));
    table_known(t, "trace_line", q->trace_line > 0 ? (int64_t)q->trace_line : -1);
    table_known(t, "api_server", index_or_unknown(q->api_server));
    table_known(t, "engine", index_or_unknown(q->engine));
    table_count(t, "prompt_tokens_asked", q->prompt_tokens_asked);
    table_count(t, "prompt_tokens", q->prompt_tokens);
    table_count(t, "output_tokens_asked", q->output_tokens_asked);
    table_count(t, "output_tokens", q->output_tokens);
    table_number(t, "sched_ms", q->sched_ms);
    table_number(t, "lag_ms", q->lag_ms);
    table_number(t, "ttft_ms", q->ttft_ms);
    table_number(t, "e2el_ms", q->e2el_ms);
    for (int i = 0; i < PROBE_PARTS_COUNT; i++) {
        char column[48];
        (void)snprintf(column, sizeof column, "%s_us", probe_part_name((enum probe_part)i));
        table_number(t, column, q->parts.us[i]);
    }
    table_end_row(t);
}

/* ---- files ---- */

static enum status begin(struct table *t, struct error *error)
{
    t->naming = false;
    return table_sync(t, error);
}

#define FRESH ".new" /* behind the name of a file that is not in its place yet */

static enum status open_named(struct table *t, const struct rows *rows, const char *name,
                              struct error *error)
{
    char fresh[48];
    (void)snprintf(fresh, sizeof fresh, "%s%s", name, rows->published ? "" : FRESH);
    TRY(table_open(t, rows->folder, fresh, error));
    t->naming = true;
    return STATUS_OK;
}

/* Fields of headers come from rows about nothing. */
static const struct scenario_cell no_cell;

enum status rows_open(struct rows *rows, const char *folder, const struct scenario *scenario,
                      const struct run_host *host, struct error *error)
{
    const struct run_result none = {.cell = &no_cell};
    const struct run_stage no_stage = {.source = ""};
    const struct probe_rates no_launcher = {.kind = THREAD_ENGINE_MAIN};
    const struct proc_thread_row no_thread = {.kind = ""};
    const struct run_second no_second = {.phase = ""};
    const struct run_bin no_bin = {.count = 0};
    *rows = (struct rows){.scenario = scenario, .host = host, .folder = folder};
    TRY(open_named(&rows->runs, rows, "runs.csv", error));
    TRY(open_named(&rows->stages, rows, "stages.csv", error));
    TRY(open_named(&rows->launch, rows, "launch.csv", error));
    TRY(open_named(&rows->threads, rows, "threads.csv", error));
    TRY(open_named(&rows->timeline, rows, "timeline.csv", error));
    TRY(open_named(&rows->hops, rows, "hops.csv", error));
    TRY(open_named(&rows->hist, rows, "hist.csv", error));
    TRY(open_named(&rows->events, rows, "events.jsonl", error));
    run_row(&rows->runs, rows, &none);
    stage_row(&rows->stages, &none, &no_stage);
    launch_row(&rows->launch, &none, &no_launcher);
    thread_row(&rows->threads, &none, &no_thread);
    second_row(&rows->timeline, &none, &no_second);
    hops_row(&rows->hops, &none);
    bin_row(&rows->hist, &none, &no_bin);
    TRY(begin(&rows->runs, error));
    TRY(begin(&rows->stages, error));
    TRY(begin(&rows->launch, error));
    TRY(begin(&rows->threads, error));
    TRY(begin(&rows->timeline, error));
    TRY(begin(&rows->events, error));
    TRY(begin(&rows->hist, error));
    return begin(&rows->hops, error);
}

static enum status write_requests(struct rows *rows, const struct run_result *r,
                                  struct error *error)
{
    if (r->requests_rows_count == 0) {
        return STATUS_OK;
    }
    if (rows->requests.file == NULL) {
        const struct run_request nothing = {.number = 0};
        TRY(open_named(&rows->requests, rows, "requests.csv", error));
        request_row(&rows->requests, r, &nothing);
        TRY(begin(&rows->requests, error));
    }
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        request_row(&rows->requests, r, &r->requests[i]);
    }
    return table_sync(&rows->requests, error);
}

static enum status publish(struct table *t, struct error *error)
{
    char fresh[TABLE_PATH_BYTES];
    if (t->file == NULL) {
        return STATUS_OK;
    }
    (void)snprintf(fresh, sizeof fresh, "%s", t->path);
    t->path[strlen(t->path) - strlen(FRESH)] = '\0';
    if (rename(fresh, t->path) != 0) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", t->path, strerror(errno));
    }
    return STATUS_OK;
}

enum status rows_publish(struct rows *rows, struct error *error)
{
    rows->published = true;
    TRY(publish(&rows->stages, error));
    TRY(publish(&rows->launch, error));
    TRY(publish(&rows->threads, error));
    TRY(publish(&rows->timeline, error));
    TRY(publish(&rows->hops, error));
    TRY(publish(&rows->hist, error));
    TRY(publish(&rows->requests, error));
    TRY(publish(&rows->events, error));
    return publish(&rows->runs, error);
}

static enum status write_parts(struct rows *rows, const struct run_result *r, struct error *error)
{
    for (uint32_t i = 0; i < r->stages_count; i++) {
        stage_row(&rows->stages, r, &r->stages[i]);
    }
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        launch_row(&rows->launch, r, &r->launchers[i]);
    }
    for (size_t i = 0; i < PROC_THREAD_ROWS && r->threads_known; i++) {
        thread_row(&rows->threads, r, &r->threads[i]);
    }
    for (uint32_t i = 0; i < r->seconds_count; i++) {
        second_row(&rows->timeline, r, &r->seconds[i]);
    }
    hops_row(&rows->hops, r);
    for (uint32_t i = 0; i < r->bins_count; i++) {
        bin_row(&rows->hist, r, &r->bins[i]);
    }
    event_lines_write(r, rows->events.file);
    TRY(table_sync(&rows->stages, error));
    TRY(table_sync(&rows->launch, error));
    TRY(table_sync(&rows->threads, error));
    TRY(table_sync(&rows->timeline, error));
    TRY(table_sync(&rows->hops, error));
    TRY(table_sync(&rows->hist, error));
    TRY(table_sync(&rows->events, error));
    return write_requests(rows, r, error);
}

enum status rows_write(struct rows *rows, const struct run_result *r, struct error *error)
{
    if (r->outcome != RUN_SKIPPED) {
        TRY(write_parts(rows, r, error));
    }
    /* Last: a run that stands in runs.csv has all its other rows. */
    run_row(&rows->runs, rows, r);
    return table_sync(&rows->runs, error);
}

void rows_close(struct rows *rows)
{
    table_close(&rows->runs);
    table_close(&rows->stages);
    table_close(&rows->launch);
    table_close(&rows->threads);
    table_close(&rows->timeline);
    table_close(&rows->hops);
    table_close(&rows->hist);
    table_close(&rows->requests);
    table_close(&rows->events);
}
