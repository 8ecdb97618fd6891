/*
 * measure.c - owns one run from start to result: system, client, the two looks at the edges of the
 * window, and whatever ends it early. Driven by `harness run`, once a run. Must not lose what was
 * measured: every way out leads through the result.
 */
#include "harness/run/measure.h"

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/load/client.h"
#include "harness/probe/proc_file.h"
#include "harness/run/child.h"
#include "harness/run/live.h"
#include "harness/run/observe.h"
#include "harness/run/observe_compat.h"
#include "harness/run/recording.h"
#include "harness/run/server.h"
#include "harness/run/system.h"
#include "harness/run/warmup.h"

enum {
    START_TIMEOUT_S = 60,
    CLIENT_FD = 3,
    TICK_NS = 20000000,
    PROGRESS_NS = 100000000,
    CLIENT_STOP_NS = 2000000000,
};

#define NO_PROGRESS_NS         ((int64_t)15000000000)
#define FOREIGN_NO_PROGRESS_NS ((int64_t)120000000000)
#define STALL_TIE_NS           ((int64_t)1000000000)
#define SHUTDOWN_GRACE_NS      ((int64_t)5000000000)

/* The run being measured. */
struct session {
    const struct measure_options *options;
    struct run_result *result;
    struct system system;
    struct server server; /* in place of `system`, if it is another's */
    struct outside outside;
    struct load_shared client;
    pid_t client_pid;
    bool client_running;
    struct observation before;
    struct observation after;
    struct batches batches; /* of the window */
    bool draining;          /* it was told to, by an interrupt */
    int64_t progress_ns;    /* last report */
    uint64_t progress_tokens;
    struct live live;
    uint64_t seen_tokens; /* for the no-progress alarm */
    int64_t seen_ns;
    uint32_t phase;
    int64_t phase_ns;
    struct warmup warmup;
    uint64_t looks_count;    /* at the engine cores' queues, in the window */
    uint64_t stranded_count; /* of these: requests waited while there was a place elsewhere */
};

static void conclude(struct session *m, enum run_outcome outcome, const char *reason)
{
    if (m->result->outcome == RUN_OK) {
        m->result->outcome = outcome;
        (void)snprintf(m->result->reason, sizeof m->result->reason, "%s", reason);
    }
}

static bool is_foreign(const struct session *m)
{
    return m->result->cell->foreign.kind != SCENARIO_SERVER_OWN;
}

struct topology measure_topology(const struct scenario_cell *cell, uint64_t seed)
{
    struct topology t = cell->topology;
    /* Nodes have addresses of their own. */
    (void)snprintf(t.listen_host, sizeof t.listen_host, "%s", t.nodes_count > 0 ? "" : "127.0.0.1");
    t.listen_port = 0;
    t.seed = seed;
    t.shutdown_grace_ns = SHUTDOWN_GRACE_NS;
    return t;
}

/* ---- load client ---- */

static enum load_mode mode_of(const struct scenario_load *load)
{
    if (load->mode == SCENARIO_LOAD_CLOSED) {
        return LOAD_CLOSED;
    }
    if (load->mode == SCENARIO_LOAD_TRACE) {
        return LOAD_TRACE;
    }
    switch ((enum scenario_arrival_kind)load->arrival.kind) {
    case SCENARIO_ARRIVAL_POISSON:
        break;
    case SCENARIO_ARRIVAL_CONSTANT:
        return LOAD_OPEN_CONSTANT;
    case SCENARIO_ARRIVAL_GAMMA:
        return LOAD_OPEN_GAMMA;
    case SCENARIO_ARRIVAL_BURSTS:
        return LOAD_OPEN_BURSTS;
    }
    return LOAD_OPEN_POISSON;
}

_Static_assert((int)SCENARIO_CONNECTIONS_MAX == (int)LOAD_CONNECTIONS_MAX, "one limit");
_Static_assert((int)SCENARIO_INFLIGHT_MAX == (int)LOAD_INFLIGHT_MAX, "one limit");

struct load_options measure_load(const struct scenario_cell *cell, uint64_t seed)
{
    const struct scenario_load *load = &cell->load;
    const struct scenario_workload *work = &cell->workload;
    struct load_options o = {
        .mode = mode_of(load),
        .users_count = load->users_count,
        .think_mean_ns = load->think_mean_ns,
        .turns_count = load->turns_count,
        .rate_per_s = load->rate_per_s,
        .gap_cv = load->arrival.cv,
        .burst_count = load->arrival.burst_count,
        .burst_every_ns = load->arrival.burst_every_ns,
        .requests_max = work->requests_count,
        .seed = seed,
        .prompt_tokens = scenario_range(&work->prompt),
        .output_tokens = scenario_range(&work->output),
        .residual_first_outputs = load->first_outputs == SCENARIO_FIRST_RESIDUAL,
        .shared_prefix = work->shared_prefix_frac,
        .max_model_len = cell->topology.max_model_len,
        .time_scale = work->time_scale,
        .temperature = work->temperature,
        .stream = work->stream,
        .ignore_eos = work->ignore_eos,
        .warmup_ns = load->warmup_ns,
        .window_ns = load->measure_ns == SCENARIO_MEASURE_ALL ? 0 : load->measure_ns,
        .min_cycles_count = load->mode == SCENARIO_LOAD_OPEN ? load->measure_min_cycles_count : 0,
        .drain_ns = load->drain_ns,
        .batches_count = load->batches_count,
        .connections_count = load->inflight_max_count,
        .on_full = load->on_inflight_max == SCENARIO_FULL_DROP ? LOAD_FULL_DROP : LOAD_FULL_WAIT,
        .balance = cell->client.balance,
        .api_servers_count = cell->topology.api_servers_count,
    };
    /* Slots that the first requests fill at once; the other users' first requests queue and begin
     * later. */
    uint32_t slots = scenario_slots(cell);
    o.residual_users_count = slots < load->users_count ? slots : load->users_count;
    (void)snprintf(o.model, sizeof o.model, "%s", cell->topology.model);
    if (work->source != SCENARIO_SOURCE_SYNTHETIC) {
        o.trace_format = work->source == SCENARIO_SOURCE_JSONL ? TRACE_REQUESTS_JSONL : TRACE_AUTO;
        (void)snprintf(o.trace_path, sizeof o.trace_path, "%s", work->trace);
    }
    return o;
}

static struct load_options client_options(const struct session *m)
{
    struct load_options o = measure_load(m->result->cell, m->options->run->seed);
    o.events_max = m->options->host->compat_tools != 0 ? OBSERVE_COMPAT_EVENTS_MAX : 0;
    if (is_foreign(m)) {
        o.targets[o.targets_count++] = m->server.target;
        o.api_servers_count = 1; /* one address, whoever stands behind it */
        memcpy(o.model, m->server.model, sizeof o.model);
    }
    for (uint32_t i = 0; i < m->system.launchers_count; i++) {
        const struct system_launcher *l = &m->system.launchers[i];
        if (l->port > 0) {
            struct load_target *target = &o.targets[o.targets_count++];
            (void)snprintf(target->host, sizeof target->host, "%s", l->host);
            target->port = l->port;
        }
    }
    return o;
}

static enum status start_client(struct session *m, struct error *error)
{
    struct load_options o = client_options(m);
    TRY(load_options_check(&o, error));
    TRY(load_shared_create(&o, &m->client, error));
    char path[] = "/proc/self/exe";
    char role[] = "__client";
    char *arguments[] = {path, role, NULL};
    struct child_options child = {
        .path = path,
        .arguments = arguments,
        .fd3 = m->client.fd,
        .fd4 = -1,
        .stderr_fd = m->options->log_fd,
        .cpus = &m->result->cell->client.cpus,
        .death_signal = SIGKILL,
    };
    TRY(child_start(&child, &m->client_pid, error));
    m->client_running = true;
    return STATUS_OK;
}

static uint32_t client_phase(const struct session *m)
{
    return atomic_load_explicit(&m->client.header->phase, memory_order_acquire);
}

/* ---- watching ---- */

static const char *phase_name(uint32_t phase)
{
    static const char *const names[] = {"start", "connect", "warmup", "window", "drain", "stop"};
    return phase < sizeof names / sizeof names[0] ? names[phase] : "stop";
}

static double phase_total_s(const struct session *m, uint32_t phase)
{
    const struct load_header *h = m->client.header;
    int64_t start_ns = atomic_load(&h->window_start_ns);
    if (phase == LOAD_PHASE_WARMUP) {
        return (double)(start_ns - atomic_load(&h->start_ns)) / 1e9;
    }
    if (phase == LOAD_PHASE_WINDOW) {
        return (double)(atomic_load(&h->window_end_ns) - start_ns) / 1e9;
    }
    return STATS_UNKNOWN;
}

static uint64_t done_count(const struct load_header *h)
{
    uint64_t done = 0;
    for (int i = LOAD_OUTCOME_OK; i < LOAD_OUTCOMES_COUNT; i++) {
        done += load_get(&h->outcome_count[i]);
    }
    return done;
}

static void report_progress(struct session *m, int64_t now)
{
    if (m->options->progress == NULL || now - m->progress_ns < PROGRESS_NS) {
        return;
    }
    const struct load_header *h = m->client.header;
    uint64_t tokens = load_get(&h->tokens);
    uint64_t done = done_count(h);
    uint32_t phase = client_phase(m);
    live_look(&m->live, &m->client, done, now);
    struct measure_progress p = {
        .phase = phase_name(phase),
        .phase_s = (double)(now - m->phase_ns) / 1e9,
        .phase_total_s = phase_total_s(m, phase),
        .output_tok_per_s =
            (double)(tokens - m->progress_tokens) * 1e9 / (double)(now - m->progress_ns),
        .sent_count = load_get(&h->sent_count),
        .done_count = done,
        .inflight = load_get(&h->inflight),
        .client = m->live.seen,
    };
    m->progress_ns = now;
    m->progress_tokens = tokens;
    m->options->progress(m->options->ctx, &p);
}

/* By a signal or a debugger. */
static bool is_stopped(int32_t pid)
{
    char path[64];
    char text[512];
    struct proc_stat stat;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    return proc_file_read(path, text, sizeof text) && proc_stat_parse(text, &stat) &&
           (stat.state == 'T' || stat.state == 't');
}

/* Towards the device. */
static int depth_of(const struct ledger_thread *t)
{
    return t->kind == THREAD_WORKER_MAIN ? 2 : t->kind == THREAD_ENGINE_MAIN ? 1 : 0;
}

/*
 * Where a hang more likely is: at a stopped process; else where the loop turned longest ago; of two
 * that stood still at about the same time the one nearer to the device, because the other waits for
 * it.
 */
static bool more_suspect(const struct ledger_thread *a, const struct ledger_thread *b)
{
    bool stopped = is_stopped(a->pid);
    if (stopped != is_stopped(b->pid)) {
        return stopped;
    }
    int64_t later_ns = (int64_t)ledger_get(&a->beat_ns) - (int64_t)ledger_get(&b->beat_ns);
    if (later_ns > STALL_TIE_NS || later_ns < -STALL_TIE_NS) {
        return later_ns < 0;
    }
    return depth_of(a) > depth_of(b);
}

/* Threads in the ledger; a server of others has none. */
static uint32_t threads_count(const struct session *m)
{
    return is_foreign(m) ? 0 : ledger_threads_count(&m->system.ledger);
}

/* For want of steps to see, a server of others may take long over a prompt. */
static int64_t patience_ns(const struct session *m)
{
    return is_foreign(m) ? FOREIGN_NO_PROGRESS_NS : NO_PROGRESS_NS;
}

static void name_stalled(const struct session *m, char *out, size_t cap)
{
    const struct ledger *l = &m->system.ledger;
    const struct ledger_thread *suspect = NULL;
    if (is_stopped(m->client_pid)) {
        (void)snprintf(out, cap,
                       "no progress for %d s: load client (pid %d, stage client) is stopped",
                       (int)(patience_ns(m) / 1000000000), (int)m->client_pid);
        return;
    }
    for (uint32_t i = 0; i < threads_count(m); i++) {
        const struct ledger_thread *t = &l->threads[i];
        bool candidate = t->kind == THREAD_API_MAIN || t->kind == THREAD_WORKER_MAIN ||
                         t->kind == THREAD_ENGINE_MAIN;
        if (candidate && (suspect == NULL || more_suspect(t, suspect))) {
            suspect = t;
        }
    }
    if (suspect == NULL) {
        (void)snprintf(out, cap, "no progress for %d s%s%s", (int)(patience_ns(m) / 1000000000),
                       is_foreign(m) ? ": server " : "", m->server.name);
        return;
    }
    double age = (double)(clock_now_ns() - (int64_t)ledger_get(&suspect->beat_ns)) / 1e9;
    (void)snprintf(out, cap, "no progress for 15 s: %s %u (pid %d, stage %s) %s for %.0f s",
                   ledger_thread_kind_name(suspect->kind), suspect->instance, (int)suspect->pid,
                   ledger_thread_stage(suspect->kind),
                   is_stopped(suspect->pid) ? "is stopped and has not turned its loop"
                                            : "has not turned its loop",
                   age);
}

static bool stalled(struct session *m, int64_t now)
{
    /* Steps too: a long prefill, or answers that are not streamed, make no token for a while. */
    const struct load_header *h = m->client.header;
    uint64_t tokens = load_get(&h->tokens) + done_count(h);
    for (uint32_t i = 0; i < threads_count(m); i++) {
        tokens += ledger_get(&m->system.ledger.threads[i].output_tokens);
    }
    if (tokens != m->seen_tokens || load_get(&m->client.header->inflight) == 0) {
        m->seen_tokens = tokens;
        m->seen_ns = now;
    }
    return now - m->seen_ns > patience_ns(m);
}

static void client_ended(struct session *m, int status)
{
    char how[32];
    char text[128];
    m->client_running = false;
    child_describe(status, how);
    if (client_phase(m) == LOAD_PHASE_DONE && status == 0) {
        return;
    }
    if (atomic_load(&m->client.header->server_lost) != 0) {
        (void)snprintf(text, sizeof text, "no connection to the serving system%s%s for 2 s",
                       is_foreign(m) ? " " : "", m->server.name);
        conclude(m, RUN_SERVER_FAILED, text);
        return;
    }
    if (client_phase(m) == LOAD_PHASE_DONE) { /* it ended by itself and said why */
        conclude(m, RUN_CLIENT_FAILED, m->client.header->error_text);
        return;
    }
    (void)snprintf(text, sizeof text, "load client (pid %d) died: %s", (int)m->client_pid, how);
    conclude(m, RUN_CLIENT_FAILED, text);
}

/* The client ends its arrivals and drains, which an open loop takes time for. False: there is
 * nothing to wait for. */
static bool interrupt(struct session *m)
{
    conclude(m, RUN_INTERRUPTED, "interrupted");
    if (m->client_running && !m->draining) {
        m->draining = true;
        (void)kill(m->client_pid, LOAD_DRAIN_SIGNAL);
    }
    return m->client_running;
}

/* Requests that wait where there is no place, while there is one elsewhere, were sent wrongly: by
 * counts that are old, or by a rule that looks at none. */
static void look_at_queues(struct session *m)
{
    const struct ledger *l = &m->system.ledger;
    uint64_t places = l->topology->max_num_seqs;
    bool waits = false;
    bool has_room = false;
    for (uint32_t i = 0; i < ledger_threads_count(l); i++) {
        const struct ledger_thread *t = &l->threads[i];
        if (t->kind == THREAD_ENGINE_MAIN) {
            uint64_t running = ledger_get(&t->running_now);
            uint64_t waiting = ledger_get(&t->waiting_now);
            waits = waits || (waiting > 0 && running >= places);
            has_room = has_room || (waiting == 0 && running < places);
        }
    }
    m->looks_count++;
    m->stranded_count += waits && has_room ? 1 : 0;
}

/* At the edges of the window's batches, as near as this loop turns. */
static void look_at_batches(struct session *m, int64_t now)
{
    const struct batches *b = &m->batches;
    int64_t batch_ns = atomic_load_explicit(&m->client.header->batch_ns, memory_order_relaxed);
    if (b->looks_count > 0 && batch_ns > 0 && now - b->at_ns[b->looks_count - 1] >= batch_ns) {
        batches_look(&m->batches, &m->system.ledger);
    }
}

static void show(struct session *m)
{
    const struct measure_look look = {
        .system = &m->system, .client = &m->client, .client_pid = m->client_pid};
    if (m->options->look != NULL) {
        m->options->look(m->options->ctx, &look);
    }
}

/* Why the serving system is no more; NULL: it is. */
static const char *failure_of(struct session *m)
{
    if (is_foreign(m)) {
        return server_failed(&m->server) ? m->server.reason : NULL;
    }
    return system_failed(&m->system) ? m->system.reason : NULL;
}

/* One look at everything that can end a run early. False: it is over. */
static bool watch(struct session *m)
{
    int status;
    int64_t now = clock_now_ns();
    char text[256];
    if (m->options->interrupted != NULL && m->options->interrupted() && !interrupt(m)) {
        return false;
    }
    const char *failure = failure_of(m);
    if (failure != NULL) {
        conclude(m, RUN_SERVER_FAILED, failure);
        return false;
    }
    if (m->client_running && child_ended(m->client_pid, &status)) {
        client_ended(m, status);
        failure = failure_of(m);
        if (failure != NULL && m->result->outcome == RUN_CLIENT_FAILED) {
            m->result->outcome = RUN_OK; /* the client lost its server: that is the reason */
            conclude(m, RUN_SERVER_FAILED, failure);
        }
        return false;
    }
    if (stalled(m, now)) {
        name_stalled(m, text, sizeof text);
        conclude(m, RUN_SERVER_FAILED, text);
        return false;
    }
    uint32_t phase = client_phase(m);
    if (phase != m->phase) {
        m->phase = phase;
        m->phase_ns = now;
    }
    if (phase == LOAD_PHASE_WARMUP && m->result->cell->load.warmup_auto &&
        warmup_is_over(&m->warmup, &m->client, now)) {
        (void)kill(m->client_pid, LOAD_WINDOW_SIGNAL);
    }
    if (phase == LOAD_PHASE_WINDOW && !is_foreign(m)) {
        look_at_queues(m);
        look_at_batches(m, now);
        show(m);
    }
    report_progress(m, now);
    return true;
}

/* Watches until `deadline` of the client's clock is known and reached. */
static bool watch_until(struct session *m, const _Atomic int64_t *deadline_ns)
{
    for (;;) {
        int64_t deadline = atomic_load_explicit(deadline_ns, memory_order_acquire);
        int64_t now = clock_now_ns();
        if (deadline > 0 && now >= deadline) {
            return true;
        }
        if (!watch(m)) {
            return false;
        }
        int64_t wake = now + TICK_NS;
        clock_sleep_until_ns(deadline > 0 && deadline < wake ? deadline : wake);
    }
}

static void watch_to_end(struct session *m)
{
    while (watch(m)) {
        clock_sleep_until_ns(clock_now_ns() + TICK_NS);
    }
}

static void look_before(struct session *m)
{
    if (is_foreign(m)) {
        observe_around(&m->before);
        outside_tick(&m->outside, LOAD_PHASE_WINDOW);
        return;
    }
    observe(&m->system, &m->before);
    batches_look(&m->batches, &m->system.ledger);
}

static void look_after(struct session *m)
{
    if (is_foreign(m)) {
        observe_around(&m->after);
        outside_tick(&m->outside, LOAD_PHASE_DRAIN);
        return;
    }
    look_at_batches(m, clock_now_ns());
    observe(&m->system, &m->after);
}

static void run_load(struct session *m)
{
    struct error error;
    if (start_client(m, &error) != STATUS_OK) {
        conclude(m, RUN_CLIENT_FAILED, error.text);
        return;
    }
    m->seen_ns = m->progress_ns = m->phase_ns = clock_now_ns();
    live_begin(&m->live, m->client_pid, m->phase_ns);
    if (!watch_until(m, &m->client.header->window_start_ns)) {
        return;
    }
    if (m->draining) { /* interrupted before the window */
        watch_to_end(m);
        return;
    }
    look_before(m);
    if (watch_until(m, &m->client.header->window_end_ns)) {
        look_after(m);
        watch_to_end(m);
    }
}

/* ---- result ---- */

void measure_begin(const struct measure_options *o, struct run_result *r)
{
    *r = (struct run_result){
        .cell = &o->scenario->cells[o->run->cell],
        .order_index = o->order_index,
        .replicate = o->run->replicate,
        .seed = o->run->seed,
        .simulated = o->run->simulated,
        .outcome = RUN_OK,
        .token_basis = "",
        .client_ceiling_frac = STATS_UNKNOWN,
        .rank_steps_per_tok = STATS_UNKNOWN,
        .launch_busy_frac = STATS_UNKNOWN,
        .gpu_busy_frac = STATS_UNKNOWN,
        .gpu_starved_frac = STATS_UNKNOWN,
        .host_cores_used = STATS_UNKNOWN,
        .others_cores_used = STATS_UNKNOWN,
        .rank_jain = STATS_UNKNOWN,
        .dp_imbalance_frac = STATS_UNKNOWN,
        .dp_sync_frac = STATS_UNKNOWN,
        .stranded_frac = STATS_UNKNOWN,
        .client_cpu_frac = STATS_UNKNOWN,
        .stall_max_p99_ms = STATS_UNKNOWN,
        .lag_p50_ms = STATS_UNKNOWN,
        .lag_p99_ms = STATS_UNKNOWN,
        .lag_max_ms = STATS_UNKNOWN,
        .offered_rps = STATS_UNKNOWN,
        .sent_rps = STATS_UNKNOWN,
        .achieved_rps = STATS_UNKNOWN,
        .prompt_tok_per_s = STATS_UNKNOWN,
        .inflight_mean = STATS_UNKNOWN,
        .inflight_max = STATS_UNKNOWN,
        .achieved_ratio_lo = STATS_UNKNOWN,
        .achieved_ratio_hi = STATS_UNKNOWN,
        .backlog_slope_per_s = STATS_UNKNOWN,
        .n_eff_frac = STATS_UNKNOWN,
        .steady_flag = STATS_UNKNOWN,
        .cpu_pressure_frac = STATS_UNKNOWN,
    };
    r->output_tok_per_s = stats_mean_of(NULL, 0);
    for (size_t i = 0; i < RUN_METRICS_COUNT; i++) {
        r->latency[i] = (struct run_latency){STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                             STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                             STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    }
    for (size_t i = 0; i < PROBE_PARTS_COUNT; i++) {
        r->hops.mean_ms[i] = STATS_UNKNOWN;
    }
    stages_limiting(NULL, 0, &r->verdict);
    (void)snprintf(r->run_id, sizeof r->run_id, "r%04u", o->order_index);
}

static void stamp_start(struct run_result *r)
{
    time_t now = (time_t)(clock_wall_ns() / 1000000000);
    struct tm utc;
    (void)gmtime_r(&now, &utc);
    (void)strftime(r->start_utc, sizeof r->start_utc, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static void compare_with_ceiling(const struct run_host *host, struct run_result *r)
{
    double requests = r->sent_rps / host->client_ceiling_rps;
    double tokens = r->output_tok_per_s.mean / host->client_ceiling_tok_per_s;
    if (!isnan(requests) && !isnan(tokens)) {
        r->client_ceiling_frac = fmax(requests, tokens);
    }
}

/* The p99 of the send lag; of too few requests for one, the greatest. */
static double late_ms(const struct run_result *r)
{
    return isnan(r->lag_p99_ms) ? r->lag_max_ms : r->lag_p99_ms;
}

/* Requests were sent too late, and not because they were to wait. */
static bool is_late(const struct session *m)
{
    const struct run_result *r = m->result;
    const struct scenario_load *load = &r->cell->load;
    bool may_wait =
        load->on_inflight_max == SCENARIO_FULL_WAIT && load_get(&m->client.header->full_count) > 0;
    int64_t limit_ns = r->cell->client.max_lag.time_ns;
    return load->mode != SCENARIO_LOAD_CLOSED && !may_wait && limit_ns > 0 &&
           late_ms(r) * 1e6 > (double)limit_ns;
}

/* Rules that make a measured point no evidence (law 4). */
static void judge(struct session *m)
{
    struct run_result *r = m->result;
    const struct scenario_client *limits = &r->cell->client;
    char text[256];
    if (r->outcome != RUN_OK) {
        return;
    }
    if (!m->before.taken || !m->after.taken) {
        conclude(m, RUN_INVALID, "the window's edges were not observed");
    } else if (r->client_cpu_frac > limits->max_cpu_frac) {
        (void)snprintf(text, sizeof text,
                       "client limited: it used %.0f %% of a core, limit %.0f %%",
                       r->client_cpu_frac * 100, limits->max_cpu_frac * 100);
        conclude(m, RUN_INVALID, text);
    } else if (r->client_ceiling_frac > limits->max_ceiling_frac) {
        (void)snprintf(text, sizeof text,
                       "client limited: at %.0f %% of its measured ceiling, limit %.0f %%",
                       r->client_ceiling_frac * 100, limits->max_ceiling_frac * 100);
        conclude(m, RUN_INVALID, text);
    } else if (is_late(m)) {
        uint64_t full = load_get(&m->client.header->full_count);
        if (full > 0 && r->cell->load.on_inflight_max != SCENARIO_FULL_DROP) {
            (void)snprintf(
                text, sizeof text,
                "%llu arrivals found all connections busy: the system cannot keep up with "
                "this rate, or inflight_max is too low",
                (unsigned long long)full);
        } else {
            (void)snprintf(text, sizeof text, "client limited: lag %.1f ms, limit %.1f ms",
                           late_ms(r), (double)limits->max_lag.time_ns / 1e6);
        }
        conclude(m, RUN_INVALID, text);
    } else if (!(r->output_tok_per_s.mean > 0)) {
        conclude(m, RUN_INVALID, "nothing was served in the window");
    }
}

static void fill_requests(struct session *m)
{
    struct error error;
    struct probe_requests seen;
    if (is_foreign(m)) {
        struct probe_request none = {.client_number = 0};
        seen = (struct probe_requests){.rows = &none};
        observe_fill_requests(&m->client, &seen, m->result);
        return;
    }
    if (probe_requests_read(&m->system.ledger, &seen, &error) == STATUS_OK) {
        observe_fill_requests(&m->client, &seen, m->result);
        probe_requests_free(&seen);
    }
}

static void fill_stages(struct session *m)
{
    struct run_result *r = m->result;
    if (is_foreign(m)) {
        observe_fill_outside(&m->outside, r);
    } else {
        observe_fill(&m->before, &m->after, m->system.ledger.topology, r);
    }
    observe_fill_host(&m->before, &m->after, m->system.ledger.topology, r);
}

/* The requests as other tools would tell of them. */
static void fill_compat(struct session *m)
{
    struct error error;
    for (uint32_t i = 0; i < COMPAT_TOOLS_COUNT; i++) {
        if ((m->options->host->compat_tools & 1U << i) != 0 &&
            observe_compat(&m->client, (enum compat_tool)i, &m->result->compat[i], &error) !=
                STATUS_OK) {
            conclude(m, RUN_CLIENT_FAILED, error.text);
        }
    }
}

static void finish(struct session *m)
{
    struct run_result *r = m->result;
    if (m->before.taken && !m->after.taken) { /* cut short: what was counted so far is kept */
        look_after(m);
    }
    if (m->client_running) {
        int status;
        child_stop(m->client_pid, SIGTERM, CLIENT_STOP_NS, &status);
    }
    if (m->client.header != NULL) {
        observe_fill_client(&m->client, r);
        fill_requests(m);
        fill_compat(m);
    }
    outside_end(&m->outside);
    if (m->before.taken && m->after.taken) {
        m->after.between = &m->batches;
        fill_stages(m);
    }
    if (m->looks_count > 0 && r->cell->topology.engines_count > 1) {
        r->stranded_frac = (double)m->stranded_count / (double)m->looks_count;
    }
    compare_with_ceiling(m->options->host, r);
    judge(m);
    if (is_foreign(m)) {
        outside_free(&m->outside);
        server_stop(&m->server);
    } else {
        system_stop(&m->system);
        if (m->system.unrecorded[0] != '\0') {
            (void)snprintf(r->unrecorded, sizeof r->unrecorded, "%s", m->system.unrecorded);
        }
        observe_fill_events(&m->system.ledger, &m->client, r);
        system_free(&m->system);
    }
    if (m->client.header != NULL) {
        load_shared_close(&m->client);
    }
    observation_free(&m->before);
    observation_free(&m->after);
    batches_free(&m->batches);
}

void measure_skipped(const struct measure_options *options, const char *reason,
                     struct run_result *out)
{
    measure_begin(options, out);
    out->outcome = RUN_SKIPPED;
    (void)snprintf(out->reason, sizeof out->reason, "%s", reason);
}

static void tell_waiting(void *ctx, double waited_s, double timeout_s)
{
    const struct session *m = ctx;
    const struct measure_progress p = {
        .phase = "start",
        .phase_s = waited_s,
        .phase_total_s = timeout_s,
        .output_tok_per_s = STATS_UNKNOWN,
        .client = PROGRESS_CLIENT_UNKNOWN,
    };
    if (m->options->progress != NULL) {
        m->options->progress(m->options->ctx, &p);
    }
}

static enum status start_foreign(struct session *m, struct error *error)
{
    const struct scenario_cell *cell = m->result->cell;
    const struct scenario_foreign *f = &cell->foreign;
    struct server_options server = {
        .foreign = f,
        .name = cell->server,
        .log_fd = m->options->log_fd,
        .interrupted = m->options->interrupted,
        .waiting = tell_waiting,
        .ctx = m,
    };
    TRY(server_start(&server, &m->server, error));
    (void)snprintf(m->result->server_rev, sizeof m->result->server_rev, "%s", m->server.revision);
    const struct outside_options outside = outside_options_of(f, &m->server.target);
    struct error unseen;
    if (outside_begin(&m->outside, &outside, &unseen) != STATUS_OK && m->options->log_fd >= 0) {
        (void)dprintf(m->options->log_fd,
                      "warning server '%s': its processes are not observed: %s\n", cell->server,
                      unseen.text);
    }
    return STATUS_OK;
}

/* A run whose recording fails is measured all the same. */
static void begin_recording(const struct session *m, struct topology *t)
{
    char folder[TOPOLOGY_PATH_BYTES + 16];
    struct error error;
    if (t->record == 0 || m->options->folder == NULL) {
        return;
    }
    int bytes =
        snprintf(folder, sizeof folder, "%s/records/%s", m->options->folder, m->result->run_id);
    if (bytes < 0 || (size_t)bytes >= sizeof folder) {
        (void)error_set(&error, STATUS_IO, "the path of the results is too long for recordings");
    } else if (recording_begin(t, folder, m->options->host->git_rev, &error) == STATUS_OK) {
        return;
    }
    (void)snprintf(m->result->unrecorded, sizeof m->result->unrecorded, "%s", error.text);
}

static enum status start_own(struct session *m, struct error *error)
{
    const struct measure_options *options = m->options;
    struct system_options system = {
        .topology = measure_topology(m->result->cell, options->run->seed),
        .log_fd = options->log_fd,
        .start_timeout_ns = (int64_t)START_TIMEOUT_S * 1000000000,
        .interrupted = options->interrupted,
    };
    begin_recording(m, &system.topology);
    return system_start(&system, &m->system, error);
}

void measure_run(const struct measure_options *options, struct run_result *out)
{
    struct session m = {.options = options, .result = out};
    struct error error;
    measure_begin(options, out);
    stamp_start(out);
    if ((is_foreign(&m) ? start_foreign(&m, &error) : start_own(&m, &error)) != STATUS_OK) {
        bool stopped = options->interrupted != NULL && options->interrupted();
        conclude(&m, stopped ? RUN_INTERRUPTED : RUN_SERVER_FAILED, error.text);
        return;
    }
    run_load(&m);
    finish(&m);
}
