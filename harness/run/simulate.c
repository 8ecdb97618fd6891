/*
 * simulate.c - owns one run in virtual time from the cell to the result (simulate.h): phases, the
 * two looks at the edges of the window, and whatever ends it early. Driven by the commands that run
 * scenarios. Must not let anything of this machine into a result.
 */
#include "harness/run/simulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/batches.h"
#include "harness/run/observe.h"
#include "harness/run/simulate_load.h"
#include "harness/run/simulate_seen.h"
#include "harness/run/warmup.h"

#define TICK_NS ((int64_t)20000000) /* as a measured run looks at its system */

struct session {
    const struct measure_options *options;
    struct run_result *result;
    struct simulation *simulation;
    struct simulate_load *load;
    struct simulate_seen *seen;
    struct simulation_witness witness; /* fills it */
    struct observation before;
    struct observation after;
    struct warmup warmup;
    struct batches batches; /* of the window */
    time_ps cpu_before;     /* of all threads */
    time_ps cpu_after;
    int64_t now_ns;
    uint64_t looks_count; /* at the engine cores' queues, in the window */
    uint64_t stranded_count;
    uint64_t progress_tokens;
    int64_t progress_ns;
};

static void conclude(struct session *m, enum run_outcome outcome, const char *reason)
{
    if (m->result->outcome == RUN_OK) {
        m->result->outcome = outcome;
        (void)snprintf(m->result->reason, sizeof m->result->reason, "%s", reason);
    }
}

/* ---- looks ---- */

static enum ledger_thread_kind kind_of(enum simulation_thread_kind kind)
{
    switch (kind) {
    case SIMULATION_THREAD_API:
        return THREAD_API_MAIN;
    case SIMULATION_THREAD_COORDINATOR:
        return THREAD_COORDINATOR_MAIN;
    case SIMULATION_THREAD_ENGINE_MAIN:
        return THREAD_ENGINE_MAIN;
    case SIMULATION_THREAD_ENGINE_INPUT:
        return THREAD_ENGINE_INPUT;
    case SIMULATION_THREAD_ENGINE_OUTPUT:
        return THREAD_ENGINE_OUTPUT;
    case SIMULATION_THREAD_WORKER:
        return THREAD_WORKER_MAIN;
    case SIMULATION_THREAD_WORKER_OUTPUT:
        return THREAD_WORKER_OUTPUT;
    case SIMULATION_THREAD_CLIENT:
    case SIMULATION_THREAD_KINDS_COUNT:
        break;
    }
    return THREAD_KINDS_COUNT;
}

static void set_ps(ledger_counter *counter, time_ps value)
{
    ledger_set(counter, (uint64_t)ns_from_ps(value));
}

static void fill_launching(struct ledger_thread *to, const struct simulation_thread *t)
{
    static const enum ledger_launch_class classes[SIMULATION_LAUNCHES_COUNT] = {
        [SIMULATION_LAUNCH_KERNEL] = LAUNCH_CLASS_KERNEL,
        [SIMULATION_LAUNCH_GRAPH] = LAUNCH_CLASS_GRAPH,
        [SIMULATION_LAUNCH_COPY] = LAUNCH_CLASS_COPY,
        [SIMULATION_LAUNCH_SYNC] = LAUNCH_CLASS_SYNC};
    for (int i = 0; i < SIMULATION_LAUNCHES_COUNT; i++) {
        ledger_set(&to->launches_count[classes[i]], t->launches_count[i]);
        set_ps(&to->launch_ns[classes[i]], t->launch[i]);
    }
    set_ps(&to->launch_max_ns, t->launch_max);
    set_ps(&to->prepare_ns, t->prepare);
    set_ps(&to->queue_full_ns, t->queue_full);
    set_ps(&to->sync_wait_ns, t->sync_wait);
    set_ps(&to->idle_ns, t->idle);
    set_ps(&to->gpu_busy_ns, t->gpu_busy);
    set_ps(&to->gpu_idle_ns, t->gpu_idle_late);
    set_ps(&to->gpu_idle_late_ns, t->gpu_idle_late);
    set_ps(&to->gpu_idle_absent_ns, t->gpu_idle_absent);
    set_ps(&to->gpu_switch_ns, t->gpu_switch);
}

static void fill_slot(struct ledger_thread *to, const struct simulation_thread *t)
{
    to->kind = kind_of(t->kind);
    to->instance = t->instance;
    to->sub = t->sub;
    atomic_store(&to->state, LEDGER_THREAD_LIVE);
    ledger_set(&to->started_ns, (uint64_t)SIMULATE_EPOCH_NS);
    set_ps(&to->busy_ns, t->busy);
    set_ps(&to->occupancy_ns, t->occupancy);
    set_ps(&to->cpu_ns, t->cpu);
    ledger_set(&to->turns_count, t->turns_count);
    ledger_set(&to->messages_in_count, t->messages_in_count);
    ledger_set(&to->messages_out_count, t->messages_out_count);
    ledger_set(&to->requests_count, t->requests_count);
    ledger_set(&to->finished_count, t->finished_count);
    ledger_set(&to->failed_count, t->failed_count);
    ledger_set(&to->prompt_tokens, t->prompt_tokens);
    ledger_set(&to->output_tokens, t->output_tokens);
    ledger_set(&to->queue_max, t->queue_max);
    set_ps(&to->queue_length_ns, t->queue_length);
    set_ps(&to->lock_held_ns, t->lock_held);
    set_ps(&to->lock_wait_ns, t->lock_wait);
    ledger_set(&to->steps_count, t->steps_count);
    ledger_set(&to->backlog_steps_count, t->backlog_steps_count);
    ledger_set(&to->step_seqs, t->step_seqs);
    ledger_set(&to->step_tokens, t->step_tokens);
    set_ps(&to->step_ns, t->step);
    ledger_set(&to->running_now, t->running_now);
    ledger_set(&to->waiting_now, t->waiting_now);
    ledger_set(&to->preemptions_count, t->preemptions_count);
    ledger_set(&to->kv_used_blocks, t->kv_used_blocks);
    ledger_set(&to->waves_count, t->waves_count);
    ledger_set(&to->dummy_steps_count, t->dummy_steps_count);
    set_ps(&to->collective_wait_ns, t->collective_wait);
    fill_launching(to, t);
}

/* Waits for a core, as the kernel would tell them, where there are fewer cores than threads. */
static void look_at_cores(const struct simulation_thread *threads, uint32_t count,
                          struct observation *out)
{
    struct proc_tree *tree = &out->system;
    tree->threads = calloc(count, sizeof *tree->threads);
    ASSERT(tree->threads != NULL);
    tree->at_ns = out->ledger.at_ns;
    for (uint32_t i = 0; i < count; i++) {
        if (threads[i].kind != SIMULATION_THREAD_CLIENT) {
            int32_t tid = (int32_t)tree->threads_count + 1;
            out->ledger.threads[tree->threads_count].tid = tid;
            tree->threads[tree->threads_count++] =
                (struct proc_thread){.tid = tid,
                                     .runq_wait_ns = (uint64_t)ns_from_ps(threads[i].cpu_wait),
                                     .voluntary_count = -1,
                                     .involuntary_count = -1,
                                     .migrations_count = -1};
        }
    }
    out->system_known = true;
}

/* What the threads counted, as a ledger's snapshot would hold it; the client's CPU time goes where
 * the client leaves it. */
static void look(struct session *m, struct observation *out, time_ps *cpu,
                 _Atomic int64_t *client_cpu_ns)
{
    uint32_t count = 0;
    const struct simulation_thread *threads = simulation_threads(m->simulation, &count);
    struct probe_snapshot *s = &out->ledger;
    *out = (struct observation){.taken = true};
    s->threads = aligned_alloc(_Alignof(struct ledger_thread), count * sizeof *s->threads);
    ASSERT(s->threads != NULL);
    memset(s->threads, 0, count * sizeof *s->threads);
    s->at_ns = m->now_ns;
    *cpu = 0;
    for (uint32_t i = 0; i < count; i++) {
        *cpu += threads[i].cpu;
        if (threads[i].kind == SIMULATION_THREAD_CLIENT) {
            ASSERT(i + 1 == count); /* the others keep their places, by which they are looked up */
            atomic_store(client_cpu_ns, ns_from_ps(threads[i].cpu));
        } else {
            fill_slot(&s->threads[s->threads_count++], &threads[i]);
        }
    }
    if (m->result->cell->simulation.cores_count > 0) {
        look_at_cores(threads, count, out);
    }
}

/* At an edge of the window, with the histograms of times. */
static void look_at_edge(struct session *m, struct observation *out, time_ps *cpu,
                         _Atomic int64_t *client_cpu_ns)
{
    look(m, out, cpu, client_cpu_ns);
    for (uint32_t i = 0; i < out->ledger.threads_count; i++) {
        simulate_seen_times(m->seen, i, &out->ledger.threads[i]);
    }
}

/* At the edges of the window's batches. */
static void look_at_batches(struct session *m)
{
    const struct batches *b = &m->batches;
    int64_t batch_ns = m->load->account.batch_ns;
    if (b->looks_count == 0 || m->now_ns - b->at_ns[b->looks_count - 1] < batch_ns) {
        return;
    }
    struct observation seen;
    _Atomic int64_t client_cpu_ns;
    time_ps cpu;
    look(m, &seen, &cpu, &client_cpu_ns);
    batches_look_at(&m->batches, seen.ledger.threads, seen.ledger.threads_count, m->now_ns);
    observation_free(&seen);
}

/* As measure.c: requests that wait at a full engine core while there is a place elsewhere. */
static void look_at_queues(struct session *m)
{
    const struct topology *t = &m->result->cell->topology;
    bool waits = false;
    bool has_room = false;
    for (uint32_t i = 0; i < t->engines_count && !(waits && has_room); i++) {
        struct simulation_queue q = simulation_queue(m->simulation, i);
        waits = waits || (q.waiting_count > 0 && q.running_count >= t->max_num_seqs);
        has_room = has_room || (q.waiting_count == 0 && q.running_count < t->max_num_seqs);
    }
    m->looks_count++;
    m->stranded_count += waits && has_room ? 1 : 0;
}

/* ---- phases ---- */

static enum load_phase phase_of(const struct session *m)
{
    return (enum load_phase)atomic_load(&m->load->shared.header->phase);
}

static int64_t phase_end_ns(const struct session *m)
{
    const struct load_header *h = m->load->shared.header;
    switch (phase_of(m)) {
    case LOAD_PHASE_WARMUP:
        return atomic_load(&h->window_start_ns);
    case LOAD_PHASE_WINDOW:
        return atomic_load(&h->window_end_ns);
    case LOAD_PHASE_INIT:
    case LOAD_PHASE_CONNECT:
    case LOAD_PHASE_DRAIN:
    case LOAD_PHASE_DONE:
        break;
    }
    return atomic_load(&h->drain_end_ns);
}

static void tell_progress(struct session *m)
{
    static const char *const names[] = {"start", "connect", "warmup", "window", "drain", "stop"};
    const struct load_header *h = m->load->shared.header;
    int64_t since_ns = m->now_ns - m->progress_ns;
    if (m->options->progress == NULL || since_ns <= 0) {
        return;
    }
    uint64_t tokens = load_get(&h->tokens);
    const struct measure_progress p = {
        .phase = names[phase_of(m)],
        .phase_s = (double)(m->now_ns - SIMULATE_EPOCH_NS) / 1e9,
        .phase_total_s = (double)(phase_end_ns(m) - SIMULATE_EPOCH_NS) / 1e9,
        .output_tok_per_s = (double)(tokens - m->progress_tokens) * 1e9 / (double)since_ns,
        .sent_count = load_get(&h->sent_count),
        .done_count = load_get(&h->outcome_count[LOAD_OUTCOME_OK]),
        .inflight = load_get(&h->inflight),
        .client = PROGRESS_CLIENT_UNKNOWN,
    };
    m->progress_ns = m->now_ns;
    m->progress_tokens = tokens;
    m->options->progress(m->options->ctx, &p);
}

/* Takes the phases that are due; false when the load is over. */
static bool advance(struct session *m)
{
    struct load_header *h = m->load->shared.header;
    struct account *a = &m->load->account;
    if (phase_of(m) == LOAD_PHASE_WARMUP && m->now_ns >= a->window_start_ns) {
        look_at_edge(m, &m->before, &m->cpu_before, &h->cpu_window_start_ns);
        batches_look_at(&m->batches, m->before.ledger.threads, m->before.ledger.threads_count,
                        m->now_ns);
        atomic_store(&h->phase, LOAD_PHASE_WINDOW);
    }
    if (phase_of(m) == LOAD_PHASE_WINDOW && m->now_ns >= a->window_end_ns) {
        look_at_edge(m, &m->after, &m->cpu_after, &h->cpu_window_end_ns);
        atomic_store(&h->phase, LOAD_PHASE_DRAIN);
    }
    bool over = m->load->exhausted && simulation_done(m->simulation);
    if (over && phase_of(m) != LOAD_PHASE_DRAIN) {
        m->now_ns = simulate_ns(simulation_now(m->simulation));
        return false;
    }
    bool drained = simulation_done(m->simulation) || a->inflight == 0;
    return phase_of(m) != LOAD_PHASE_DRAIN ||
           (!drained && m->now_ns < atomic_load(&h->drain_end_ns));
}

/* What a measured run decides every so often while it goes on. */
static void watch(struct session *m)
{
    struct account *a = &m->load->account;
    if (phase_of(m) == LOAD_PHASE_WARMUP && m->result->cell->load.warmup_auto &&
        warmup_is_over(&m->warmup, &m->load->shared, m->now_ns)) {
        account_begin_window(a, m->now_ns);
    }
    if (phase_of(m) == LOAD_PHASE_WINDOW) {
        (void)account_extend_window(a, m->now_ns);
        look_at_queues(m);
        look_at_batches(m);
    }
    tell_progress(m);
}

/* Where the loop must stop: the end of a phase, and of a batch of the window. */
static int64_t next_edge_ns(const struct session *m)
{
    const struct batches *b = &m->batches;
    int64_t end_ns = phase_end_ns(m);
    if (phase_of(m) != LOAD_PHASE_WINDOW || b->looks_count == 0) {
        return end_ns;
    }
    int64_t batch_end_ns = b->at_ns[b->looks_count - 1] + m->load->account.batch_ns;
    bool first = batch_end_ns > m->now_ns && batch_end_ns < end_ns;
    return first ? batch_end_ns : end_ns;
}

static void run_load(struct session *m)
{
    struct error error;
    while (advance(m)) {
        if (m->options->interrupted != NULL && m->options->interrupted()) {
            conclude(m, RUN_INTERRUPTED, "interrupted");
            return;
        }
        int64_t end_ns = next_edge_ns(m);
        int64_t next_ns = m->now_ns + TICK_NS < end_ns ? m->now_ns + TICK_NS : end_ns;
        if (simulation_run(m->simulation, simulate_ps(next_ns), &error) != STATUS_OK) {
            conclude(m, RUN_SERVER_FAILED, error.text);
            return;
        }
        m->now_ns = next_ns;
        watch(m);
    }
}

/* ---- result ---- */

static void judge(struct session *m)
{
    struct run_result *r = m->result;
    uint64_t full = load_get(&m->load->shared.header->full_count);
    char text[256];
    if (!m->before.taken || !m->after.taken) {
        conclude(m, RUN_INVALID, "the load ended before its window");
    } else if (r->client_cpu_frac > r->cell->client.max_cpu_frac) {
        (void)snprintf(text, sizeof text,
                       "client limited: it used %.0f %% of a simulated core, limit %.0f %%; "
                       "simulation.free_client = yes takes it out",
                       r->client_cpu_frac * 100, r->cell->client.max_cpu_frac * 100);
        conclude(m, RUN_INVALID, text);
    } else if (full > 0) {
        (void)snprintf(text, sizeof text,
                       "%llu arrivals found inflight_max requests in flight, which a simulated "
                       "client does not hold back: the system cannot keep up with this rate, or "
                       "inflight_max is too low",
                       (unsigned long long)full);
        conclude(m, RUN_INVALID, text);
    } else if (!(r->output_tok_per_s.mean > 0)) {
        conclude(m, RUN_INVALID, "nothing was served in the window");
    }
}

static void end_load(struct session *m)
{
    const struct load_options *o = m->load->options;
    struct load_header *h = m->load->shared.header;
    account_cut(&m->load->account, m->now_ns);
    if (m->before.taken && !m->after.taken) { /* cut short: what was counted so far is kept */
        look_at_edge(m, &m->after, &m->cpu_after, &h->cpu_window_end_ns);
    }
    bool waited = o->mode != LOAD_CLOSED && o->drain_ns > 0 && m->result->outcome == RUN_OK;
    simulate_load_end(m->load, waited ? LOAD_OUTCOME_TIMEOUT : LOAD_OUTCOME_CANCELLED, m->now_ns);
}

/* The host is the simulated one; without a limit of its own it limits nothing. */
static void fill_host(const struct session *m, struct run_result *r)
{
    uint32_t cores = r->cell->simulation.cores_count;
    int64_t wall_ns = m->after.ledger.at_ns - m->before.ledger.at_ns;
    double used_ns = (double)ns_from_ps(m->cpu_after - m->cpu_before);
    r->host_cores_used = wall_ns > 0 ? used_ns / (double)wall_ns : STATS_UNKNOWN;
    r->others_cores_used = 0;
    r->host_limited = cores > 0 && stages_host_limited(r->host_cores_used, cores);
}

/* The kernel knows none of the threads, and there are none of a launcher. */
static void fill_threads(const struct session *m, struct run_result *r)
{
    const struct proc_tree nobody = {.at_ns = 0};
    proc_thread_rows(&r->cell->topology, &m->after.ledger, &nobody, r->threads);
    for (int i = 0; i < PROC_THREAD_ROWS; i++) {
        r->threads[i].counted_proc = -1;
    }
    r->threads[THREAD_LAUNCHER_MAIN].counted_ledger = -1;
    r->threads_known = true;
}

static void finish(struct session *m)
{
    struct run_result *r = m->result;
    observe_fill_client(&m->load->shared, r);
    observe_fill_requests(&m->load->shared, &m->load->seen, r);
    if (m->before.taken && m->after.taken) {
        m->after.between = &m->batches;
        observe_fill(&m->before, &m->after, &r->cell->topology, r);
        fill_host(m, r);
        fill_threads(m, r);
    }
    for (uint32_t i = 0; i < r->stages_count; i++) {
        r->stages[i].source = "simulated";
    }
    simulate_seen_events(m->seen, m->load->shared.header, r);
    if (m->looks_count > 0 && r->cell->topology.engines_count > 1) {
        r->stranded_frac = (double)m->stranded_count / (double)m->looks_count;
    }
    judge(m);
}

static enum status start(struct session *m, struct error *error)
{
    struct simulation_options system;
    const struct scenario_cell *cell = m->result->cell;
    struct load_options load = measure_load(cell, m->options->run->seed);
    (void)snprintf(load.targets[0].host, sizeof load.targets[0].host, "simulated");
    load.targets[0].port = 1;
    load.targets_count = 1;
    TRY(simulate_system(cell, m->options->run->seed, &system, error));
    TRY(simulate_load_create(&load, &m->load, error));
    TRY(simulate_seen_create(&cell->topology, &m->seen, error));
    m->witness = simulate_seen_witness(m->seen);
    system.witness = &m->witness;
    const struct simulation_source source = simulate_load_source(m->load);
    const struct simulation_observer observer = simulate_load_observer(m->load);
    TRY(simulation_create(&system, &source, &observer, &m->simulation, error));
    m->now_ns = m->progress_ns = SIMULATE_EPOCH_NS;
    atomic_store(&m->load->shared.header->phase, LOAD_PHASE_WARMUP);
    return STATUS_OK;
}

void simulate_run(const struct measure_options *options, struct run_result *out)
{
    struct session m = {.options = options, .result = out};
    struct error error;
    measure_begin(options, out);
    if (start(&m, &error) == STATUS_OK) {
        run_load(&m);
        end_load(&m);
        finish(&m);
    } else {
        conclude(&m, RUN_SERVER_FAILED, error.text);
    }
    simulation_destroy(m.simulation);
    simulate_load_free(m.load);
    simulate_seen_free(m.seen);
    observation_free(&m.before);
    observation_free(&m.after);
    batches_free(&m.batches);
}
