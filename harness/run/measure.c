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
#include "harness/run/observe.h"
#include "harness/run/system.h"

enum {
    START_TIMEOUT_S = 60,
    CLIENT_FD = 3,
    TICK_NS = 20000000,
    PROGRESS_NS = 100000000,
    CLIENT_STOP_NS = 2000000000,
};

#define CEILING_FRAC_MAX  0.5
#define NO_PROGRESS_NS    ((int64_t)15000000000)
#define STALL_TIE_NS      ((int64_t)1000000000)
#define SHUTDOWN_GRACE_NS ((int64_t)5000000000)

/* The run being measured. */
struct session {
    const struct measure_options *options;
    struct run_result *result;
    struct system system;
    struct load_shared client;
    pid_t client_pid;
    bool client_running;
    struct observation before;
    struct observation after;
    bool draining;       /* it was told to, by an interrupt */
    int64_t progress_ns; /* last report */
    uint64_t progress_tokens;
    uint64_t seen_tokens; /* for the no-progress alarm */
    int64_t seen_ns;
    uint32_t phase;
    int64_t phase_ns;
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

static struct load_options client_options(const struct session *m)
{
    const struct scenario_cell *cell = m->result->cell;
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
        .seed = m->options->run->seed,
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
        .drain_ns = load->drain_ns,
        .batches_count = load->batches_count,
        .connections_count = load->inflight_max_count,
        .balance = cell->client.balance,
        .api_servers_count = cell->topology.api_servers_count,
    };
    /* Slots that the first requests fill at once; the other users' first requests queue and begin
     * later. */
    uint32_t slots = cell->topology.engines_count * cell->topology.max_num_seqs;
    o.residual_users_count = slots < load->users_count ? slots : load->users_count;
    for (uint32_t i = 0; i < m->system.launchers_count; i++) {
        const struct system_launcher *l = &m->system.launchers[i];
        if (l->port > 0) {
            struct load_target *target = &o.targets[o.targets_count++];
            (void)snprintf(target->host, sizeof target->host, "%s", l->host);
            target->port = l->port;
        }
    }
    (void)snprintf(o.model, sizeof o.model, "%s", cell->topology.model);
    if (work->source == SCENARIO_SOURCE_TRACE) {
        (void)snprintf(o.trace_path, sizeof o.trace_path, "%s", work->trace);
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
    const struct load_options *o = &m->client.header->options;
    if (phase == LOAD_PHASE_WARMUP) {
        return (double)o->warmup_ns / 1e9;
    }
    if (phase == LOAD_PHASE_WINDOW) {
        return o->window_ns > 0 ? (double)o->window_ns / 1e9 : STATS_UNKNOWN;
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
    uint32_t phase = client_phase(m);
    struct measure_progress p = {
        .phase = phase_name(phase),
        .phase_s = (double)(now - m->phase_ns) / 1e9,
        .phase_total_s = phase_total_s(m, phase),
        .output_tok_per_s =
            (double)(tokens - m->progress_tokens) * 1e9 / (double)(now - m->progress_ns),
        .sent_count = load_get(&h->sent_count),
        .done_count = done_count(h),
        .inflight = load_get(&h->inflight),
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

static void name_stalled(const struct session *m, char *out, size_t cap)
{
    const struct ledger *l = &m->system.ledger;
    const struct ledger_thread *suspect = NULL;
    if (is_stopped(m->client_pid)) {
        (void)snprintf(out, cap,
                       "no progress for 15 s: load client (pid %d, stage client) is stopped",
                       (int)m->client_pid);
        return;
    }
    for (uint32_t i = 0; i < ledger_threads_count(l); i++) {
        const struct ledger_thread *t = &l->threads[i];
        bool candidate = t->kind == THREAD_API_MAIN || t->kind == THREAD_WORKER_MAIN ||
                         t->kind == THREAD_ENGINE_MAIN;
        if (candidate && (suspect == NULL || more_suspect(t, suspect))) {
            suspect = t;
        }
    }
    if (suspect == NULL) {
        (void)snprintf(out, cap, "no progress for 15 s");
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
    for (uint32_t i = 0; i < ledger_threads_count(&m->system.ledger); i++) {
        tokens += ledger_get(&m->system.ledger.threads[i].output_tokens);
    }
    if (tokens != m->seen_tokens || load_get(&m->client.header->inflight) == 0) {
        m->seen_tokens = tokens;
        m->seen_ns = now;
    }
    return now - m->seen_ns > NO_PROGRESS_NS;
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
        conclude(m, RUN_SERVER_FAILED, "no connection to the serving system for 2 s");
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

/* One look at everything that can end a run early. False: it is over. */
static bool watch(struct session *m)
{
    int status;
    int64_t now = clock_now_ns();
    char text[256];
    if (m->options->interrupted != NULL && m->options->interrupted() && !interrupt(m)) {
        return false;
    }
    if (system_failed(&m->system)) {
        conclude(m, RUN_SERVER_FAILED, m->system.reason);
        return false;
    }
    if (m->client_running && child_ended(m->client_pid, &status)) {
        client_ended(m, status);
        if (system_failed(&m->system) && m->result->outcome == RUN_CLIENT_FAILED) {
            m->result->outcome = RUN_OK; /* the client lost its server: that is the reason */
            conclude(m, RUN_SERVER_FAILED, m->system.reason);
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
    if (phase == LOAD_PHASE_WINDOW) {
        look_at_queues(m);
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

static void run_load(struct session *m)
{
    struct error error;
    if (start_client(m, &error) != STATUS_OK) {
        conclude(m, RUN_CLIENT_FAILED, error.text);
        return;
    }
    m->seen_ns = m->progress_ns = m->phase_ns = clock_now_ns();
    if (!watch_until(m, &m->client.header->window_start_ns)) {
        return;
    }
    if (m->draining) { /* interrupted before the window */
        watch_to_end(m);
        return;
    }
    observe(&m->system, &m->before);
    if (watch_until(m, &m->client.header->window_end_ns)) {
        observe(&m->system, &m->after);
        watch_to_end(m);
    }
}

/* ---- result ---- */

static void begin_result(const struct measure_options *o, struct run_result *r)
{
    *r = (struct run_result){
        .cell = &o->scenario->cells[o->run->cell],
        .order_index = o->order_index,
        .replicate = o->run->replicate,
        .seed = o->run->seed,
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
    } else if (r->client_ceiling_frac > CEILING_FRAC_MAX) {
        (void)snprintf(text, sizeof text, "client limited: at %.0f %% of its measured ceiling",
                       r->client_ceiling_frac * 100);
        conclude(m, RUN_INVALID, text);
    } else if (r->cell->load.mode != SCENARIO_LOAD_CLOSED && limits->max_lag.time_ns > 0 &&
               late_ms(r) * 1e6 > (double)limits->max_lag.time_ns) {
        uint64_t full = load_get(&m->client.header->full_count);
        if (full > 0) {
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

static void finish(struct session *m)
{
    struct run_result *r = m->result;
    if (m->before.taken && !m->after.taken) { /* cut short: what was counted so far is kept */
        observe(&m->system, &m->after);
    }
    if (m->client_running) {
        int status;
        child_stop(m->client_pid, SIGTERM, CLIENT_STOP_NS, &status);
    }
    if (m->client.header != NULL) {
        observe_fill_client(&m->client, r);
        observe_fill_requests(&m->client, &m->system.ledger, r);
    }
    if (m->before.taken && m->after.taken) {
        observe_fill(&m->before, &m->after, m->system.ledger.topology, r);
    }
    if (m->looks_count > 0 && r->cell->topology.engines_count > 1) {
        r->stranded_frac = (double)m->stranded_count / (double)m->looks_count;
    }
    compare_with_ceiling(m->options->host, r);
    judge(m);
    system_stop(&m->system);
    system_free(&m->system);
    if (m->client.header != NULL) {
        load_shared_close(&m->client);
    }
    observation_free(&m->before);
    observation_free(&m->after);
}

void measure_skipped(const struct measure_options *options, const char *reason,
                     struct run_result *out)
{
    begin_result(options, out);
    out->outcome = RUN_SKIPPED;
    out->start_utc[0] = '\0';
    (void)snprintf(out->reason, sizeof out->reason, "%s", reason);
}

void measure_run(const struct measure_options *options, struct run_result *out)
{
    struct session m = {.options = options, .result = out};
    struct error error;
    begin_result(options, out);
    struct system_options system = {
        .topology = measure_topology(out->cell, options->run->seed),
        .log_fd = options->log_fd,
        .start_timeout_ns = (int64_t)START_TIMEOUT_S * 1000000000,
        .interrupted = options->interrupted,
    };
    if (system_start(&system, &m.system, &error) != STATUS_OK) {
        bool stopped = options->interrupted != NULL && options->interrupted();
        conclude(&m, stopped ? RUN_INTERRUPTED : RUN_SERVER_FAILED, error.text);
        return;
    }
    run_load(&m);
    finish(&m);
}
