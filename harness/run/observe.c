/*
 * observe.c - owns the looks at a running system, and what follows from the difference of two:
 * stages, launching threads, engine cores, host use, the limiting stage. Called by measure.c at the
 * edges of the window. Must not guess: what could not be read stays unknown.
 */
#include "harness/run/observe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum status read_system(const struct system *system, struct proc_tree *out,
                               struct error *error)
{
    int32_t pids[TOPOLOGY_NODES_MAX];
    for (uint32_t i = 0; i < system->launchers_count; i++) {
        pids[i] = system->launchers[i].pid;
    }
    return proc_trees_read(pids, system->launchers_count, out, error);
}

void observe(const struct system *system, struct observation *out)
{
    struct error error;
    *out = (struct observation){.taken = false};
    if (probe_snapshot(&system->ledger, &out->ledger, &error) != STATUS_OK) {
        return;
    }
    out->taken = true;
    out->system_known = read_system(system, &out->system, &error) == STATUS_OK;
    out->harness_known = proc_tree_read(getpid(), &out->harness, &error) == STATUS_OK;
    out->host_known = proc_cpu_read(&out->host, &error) == STATUS_OK;
}

void observe_around(struct observation *out)
{
    struct error error;
    *out = (struct observation){.taken = true};
    out->harness_known = proc_tree_read(getpid(), &out->harness, &error) == STATUS_OK;
    out->host_known = proc_cpu_read(&out->host, &error) == STATUS_OK;
}

void observation_free(struct observation *o)
{
    if (o->taken) {
        probe_snapshot_free(&o->ledger);
        proc_tree_free(&o->system);
        proc_tree_free(&o->harness);
    }
    *o = (struct observation){.taken = false};
}

/* ---- stages ---- */

static void name_instance(const struct probe_rates *t, char out[32])
{
    switch (t->kind) {
    case THREAD_API_MAIN:
        (void)snprintf(out, 32, "ApiServer_%u", t->instance);
        return;
    case THREAD_ENGINE_MAIN:
        (void)snprintf(out, 32, "EngineCore_DP%u", t->instance);
        return;
    case THREAD_ENGINE_INPUT:
        (void)snprintf(out, 32, "EngineCore_DP%u input", t->instance);
        return;
    case THREAD_ENGINE_OUTPUT:
        (void)snprintf(out, 32, "EngineCore_DP%u output", t->instance);
        return;
    case THREAD_WORKER_MAIN:
        (void)snprintf(out, 32, "Worker_DP%u_%u", t->instance, t->sub);
        return;
    case THREAD_WORKER_OUTPUT:
        (void)snprintf(out, 32, "Worker_DP%u_%u output", t->instance, t->sub);
        return;
    case THREAD_LAUNCHER_MAIN:
    case THREAD_COORDINATOR_MAIN:
    case THREAD_KINDS_COUNT:
        break;
    }
    (void)snprintf(out, 32, "%s", ledger_thread_kind_name(t->kind));
}

/* What the kernel knows of a thread, between two looks. */
struct scheduling {
    double runq_wait_frac;
    double ctx_switches_per_s;
    double migrations_per_s;
};

static const struct proc_thread *find_thread(const struct observation *o, int32_t tid)
{
    for (size_t i = 0; o->system_known && i < o->system.threads_count; i++) {
        if (o->system.threads[i].tid == tid) {
            return &o->system.threads[i];
        }
    }
    return NULL;
}

static double growth_per_s(int64_t from, int64_t to, double seconds)
{
    return from >= 0 && to >= from ? (double)(to - from) / seconds : STATS_UNKNOWN;
}

static struct scheduling scheduling_of(const struct observation *a, const struct observation *b,
                                       int32_t tid)
{
    const struct proc_thread *first = find_thread(a, tid);
    const struct proc_thread *last = find_thread(b, tid);
    if (first == NULL || last == NULL) {
        return (struct scheduling){STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    }
    double seconds = (double)(b->system.at_ns - a->system.at_ns) / 1e9;
    return (struct scheduling){
        .runq_wait_frac =
            growth_per_s((int64_t)first->runq_wait_ns, (int64_t)last->runq_wait_ns, seconds) / 1e9,
        .ctx_switches_per_s =
            growth_per_s(first->voluntary_count, last->voluntary_count, seconds) +
            growth_per_s(first->involuntary_count, last->involuntary_count, seconds),
        .migrations_per_s = growth_per_s(first->migrations_count, last->migrations_count, seconds),
    };
}

static bool launches(const struct probe_rates *t, const struct topology *topology)
{
    return t->kind == THREAD_WORKER_MAIN ||
           (t->kind == THREAD_ENGINE_MAIN && topology_workers_per_engine(topology) == 0);
}

static double per(double frac, double rate_per_s)
{
    return rate_per_s > 0 ? frac * 1e6 / rate_per_s : STATS_UNKNOWN;
}

/* Threads that read a queue of this program's own; ZeroMQ does not tell how long its queues are. */
static bool has_queue(enum ledger_thread_kind kind)
{
    return kind == THREAD_ENGINE_MAIN || kind == THREAD_ENGINE_OUTPUT;
}

static bool spins(const struct probe_rates *t, const struct topology *topology)
{
    return topology->wait == WAIT_SPIN &&
           (t->kind == THREAD_ENGINE_MAIN || t->kind == THREAD_WORKER_MAIN);
}

/* Time in waits that spin. An engine core's main thread sleeps on its input queue, a worker does
 * not on its ring; a ring that is empty for long is slept on too, so CPU time is a bound. */
static double spin_frac(const struct probe_rates *t, const struct topology *topology)
{
    double waits = t->sync_wait_frac + t->queue_full_frac;
    if (!spins(t, topology) && !(topology->wait == WAIT_SPIN && t->kind == THREAD_WORKER_OUTPUT)) {
        return 0;
    }
    return fmin(t->cpu_frac, waits + (t->kind == THREAD_WORKER_MAIN ? t->idle_frac : 0));
}

static bool takes_turns(const struct probe_rates *t, const struct topology *topology)
{
    return topology->interpreter_lock != 0 &&
           (t->kind == THREAD_ENGINE_MAIN || t->kind == THREAD_ENGINE_INPUT ||
            t->kind == THREAD_ENGINE_OUTPUT);
}

/* Booked time that is spent under an interpreter lock is use of the lock, not of the thread. */
static double use_of_thread(const struct probe_rates *t, const struct topology *topology)
{
    struct stage_use use = {.stage = t->stage,
                            .busy_frac = t->busy_frac,
                            .cpu_frac = t->cpu_frac,
                            .occupancy_frac = t->occupancy_frac,
                            .spins = spins(t, topology)};
    if (takes_turns(t, topology)) {
        double own = fmax(0, t->busy_frac - t->lock_held_frac - t->lock_wait_frac);
        use.busy_frac = use.spins ? own : STATS_UNKNOWN;
        use.occupancy_frac = STATS_UNKNOWN;
    }
    return stage_use_frac(&use);
}

struct run_stage *observe_add_stage(struct run_result *r, const char *stage)
{
    struct run_stage *s = &r->stages[r->stages_count++];
    *s = (struct run_stage){
        .use_frac = STATS_UNKNOWN,
        .busy_frac = STATS_UNKNOWN,
        .cpu_frac = STATS_UNKNOWN,
        .occupancy_frac = STATS_UNKNOWN,
        .runq_wait_frac = STATS_UNKNOWN,
        .queue_max_count = STATS_UNKNOWN,
        .service_us_per_req = STATS_UNKNOWN,
        .service_us_per_tok = STATS_UNKNOWN,
        .messages_per_s = STATS_UNKNOWN,
        .busy_lo = STATS_UNKNOWN,
        .busy_hi = STATS_UNKNOWN,
        .spin_frac = STATS_UNKNOWN,
        .queue_mean_count = STATS_UNKNOWN,
        .wait_p50_us = STATS_UNKNOWN,
        .wait_p99_us = STATS_UNKNOWN,
        .ctx_switches_per_s = STATS_UNKNOWN,
        .migrations_per_s = STATS_UNKNOWN,
        .source = "ledger",
    };
    (void)snprintf(s->stage, sizeof s->stage, "%s", stage);
    return s;
}

static struct run_stage *find_row(const struct run_result *r, const char *instance)
{
    for (uint32_t i = 0; i < r->stages_count; i++) {
        if (strcmp(r->stages[i].instance, instance) == 0) {
            return &r->stages[i];
        }
    }
    return NULL;
}

static void add_thread_stage(struct run_result *r, const struct probe_rates *t,
                             const struct scheduling *kernel, const struct topology *topology)
{
    struct run_stage *s = observe_add_stage(r, t->stage);
    name_instance(t, s->instance);
    s->use_frac = use_of_thread(t, topology);
    s->busy_frac = t->busy_frac;
    s->cpu_frac = t->cpu_frac;
    s->occupancy_frac = t->occupancy_frac;
    s->runq_wait_frac = kernel->runq_wait_frac;
    s->ctx_switches_per_s = kernel->ctx_switches_per_s;
    s->migrations_per_s = kernel->migrations_per_s;
    s->spin_frac = spin_frac(t, topology);
    s->service_us_per_req = per(t->busy_frac, t->finished_per_s);
    s->service_us_per_tok = per(t->busy_frac, t->output_tokens_per_s);
    s->messages_per_s = t->messages_in_per_s + t->messages_out_per_s;
    s->wait_p50_us = t->wait_p50_us;
    s->wait_p99_us = t->wait_p99_us;
    if (has_queue(t->kind)) {
        s->queue_max_count = (double)t->queue_max;
        s->queue_mean_count = t->queue_mean;
    }
}

static void name_lock(uint32_t rank, char out[32])
{
    (void)snprintf(out, 32, "EngineCore_DP%u lock", rank);
}

/* A row for each interpreter lock: it is a server that one thread at a time uses. */
static void add_lock_stage(struct run_result *r, const struct probe_rates *t)
{
    char name[sizeof r->stages[0].instance];
    name_lock(t->instance, name);
    struct run_stage *s = find_row(r, name);
    if (s == NULL) {
        s = observe_add_stage(r, "interpreter");
        (void)snprintf(s->instance, sizeof s->instance, "%s", name);
        s->busy_frac = s->use_frac = s->occupancy_frac = s->queue_mean_count = 0;
    }
    s->busy_frac += t->lock_held_frac;
    s->use_frac += t->lock_held_frac;
    s->occupancy_frac += t->lock_held_frac;
    s->queue_mean_count += t->lock_wait_frac;
}

static void fill_lock_service(struct run_result *r)
{
    for (uint32_t i = 0; i < r->engines_count; i++) {
        char name[sizeof r->stages[0].instance];
        name_lock(r->engines[i].instance, name);
        struct run_stage *s = find_row(r, name);
        if (s != NULL) {
            s->use_frac = fmin(1, s->use_frac);
            s->service_us_per_req = per(s->busy_frac, r->engines[i].finished_per_s);
            s->service_us_per_tok = per(s->busy_frac, r->engines[i].output_tokens_per_s);
        }
    }
}

/*
 * Share of the steps of engine core `rank` that left requests waiting. A memory-bound GPU is busy
 * at any batch size, so "busy" alone says nothing: it limits only while its engine core cannot take
 * more.
 */
static double backlog_frac(const struct observation *a, const struct observation *b, uint32_t rank)
{
    for (uint32_t i = 0; i < a->ledger.threads_count; i++) {
        const struct ledger_thread *first = &a->ledger.threads[i];
        const struct ledger_thread *last = &b->ledger.threads[i];
        if (first->kind == THREAD_ENGINE_MAIN && first->instance == rank) {
            uint64_t steps = ledger_get(&last->steps_count) - ledger_get(&first->steps_count);
            uint64_t backlog =
                ledger_get(&last->backlog_steps_count) - ledger_get(&first->backlog_steps_count);
            return steps > 0 ? (double)backlog / (double)steps : 0;
        }
    }
    return STATS_UNKNOWN;
}

static void name_gpu(const struct probe_rates *t, const struct topology *topology, char out[32])
{
    if (topology_engines_per_gpu(topology) > 1) {
        (void)snprintf(out, 32, "gpu %u", topology_gpu_of(topology, t->instance, t->sub));
    } else {
        (void)snprintf(out, 32, "gpu %u.%u", t->instance, t->sub);
    }
}

/* A row for each GPU: what its contexts used of it adds up. */
static void add_gpu_stage(struct run_result *r, const struct probe_rates *t, double backlog,
                          const struct topology *topology)
{
    char name[sizeof r->stages[0].instance];
    name_gpu(t, topology, name);
    struct run_stage *s = find_row(r, name);
    if (s == NULL) {
        s = observe_add_stage(r, "gpu");
        (void)snprintf(s->instance, sizeof s->instance, "%s", name);
        s->busy_frac = s->use_frac = 0;
    }
    s->busy_frac += t->gpu_busy_frac + t->gpu_switch_frac;
    s->use_frac += (t->gpu_busy_frac + t->gpu_switch_frac) * backlog;
}

void observe_add_client(struct run_result *r)
{
    struct run_stage *s = observe_add_stage(r, "client");
    s->use_frac = s->busy_frac = s->cpu_frac = r->client_cpu_frac;
    s->service_us_per_tok = per(r->client_cpu_frac, r->output_tok_per_s.mean);
    s->source = "proc";
    (void)snprintf(s->instance, sizeof s->instance, "client");
}

/* The launcher waits by design; the client is judged by its own limit, not as a stage of the
 * system. */
static bool judged(const struct run_stage *s)
{
    return strcmp(s->stage, "launcher") != 0 && strcmp(s->stage, "client") != 0;
}

void observe_judge(struct run_result *r)
{
    struct stage_use *uses = calloc(r->stages_count + 1, sizeof *uses);
    struct stage_summary summaries[STAGES_MAX];
    ASSERT(uses != NULL);
    size_t count = 0;
    for (uint32_t i = 0; i < r->stages_count; i++) {
        if (judged(&r->stages[i])) {
            uses[count++] = (struct stage_use){.stage = r->stages[i].stage,
                                               .busy_frac = r->stages[i].use_frac,
                                               .cpu_frac = STATS_UNKNOWN,
                                               .occupancy_frac = STATS_UNKNOWN};
        }
    }
    stages_limiting(summaries, stages_summarise(uses, count, summaries), &r->verdict);
    free(uses);
}

/* ---- what follows from two looks ---- */

static void fill_engine_shares(const struct topology *topology, struct run_result *r)
{
    double most = 0;
    double sum = 0;
    double prompt = 0;
    double steps = 0;
    double dummies = 0;
    r->ranks_count = topology->engines_count;
    r->engine_tok_per_s =
        calloc(r->ranks_count > 0 ? r->ranks_count : 1, sizeof *r->engine_tok_per_s);
    ASSERT(r->engine_tok_per_s != NULL);
    for (uint32_t i = 0; i < r->engines_count; i++) {
        double rate = r->engines[i].output_tokens_per_s;
        steps += r->engines[i].steps_per_s + r->engines[i].dummy_steps_per_s;
        dummies += r->engines[i].dummy_steps_per_s;
        r->engine_tok_per_s[r->engines[i].instance] = rate;
        most = rate > most ? rate : most;
        sum += rate;
        prompt += r->engines[i].prompt_tokens_per_s;
    }
    r->prompt_tok_per_s = prompt;
    r->rank_steps_per_tok = sum > 0 ? steps / sum : STATS_UNKNOWN;
    r->dp_sync_frac = topology_lockstep(topology) && steps > 0 ? dummies / steps : STATS_UNKNOWN;
    r->rank_jain = stats_jain(r->engine_tok_per_s, r->engines_count);
    r->dp_imbalance_frac = most > 0 ? 1 - sum / r->engines_count / most : STATS_UNKNOWN;
}

/*
 * While a queue still grows behind the engine cores they make more tokens than reach the clients.
 * The use of the stages that make them is what they would need for the throughput that was really
 * served, so that the stage behind them is named and not both.
 */
static void scale_engine_use(struct run_result *r)
{
    double made = 0;
    for (uint32_t i = 0; i < r->engines_count; i++) {
        made += r->engines[i].output_tokens_per_s;
    }
    if (!(made > r->output_tok_per_s.mean) || strcmp(r->token_basis, "usage") != 0) {
        return;
    }
    for (uint32_t i = 0; i < r->stages_count; i++) {
        struct run_stage *s = &r->stages[i];
        if (strcmp(s->stage, "gpu") == 0 || strcmp(s->stage, "launch") == 0 ||
            strcmp(s->stage, "scheduler") == 0 || strcmp(s->stage, "interpreter") == 0) {
            s->use_frac *= r->output_tok_per_s.mean / made;
        }
    }
}

static void fill_launchers(struct run_result *r, const struct topology *topology)
{
    double busy = 0;
    double gpu = 0;
    double starved = 0;
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        busy += r->launchers[i].prepare_frac + r->launchers[i].launch_frac;
        gpu += r->launchers[i].gpu_busy_frac;
        starved += r->launchers[i].gpu_idle_frac;
    }
    if (r->launchers_count > 0) {
        r->launch_busy_frac = busy / r->launchers_count;
        uint32_t sharing = topology_engines_per_gpu(topology);
        double gpus = sharing > 1 ? topology_gpus(topology) : r->launchers_count;
        r->gpu_busy_frac = gpu / gpus;
        r->gpu_starved_frac = starved / gpus;
    }
}

static void fill_host_use(const struct observation *a, const struct observation *b,
                          struct run_result *r)
{
    struct error error;
    struct proc_host host;
    if (!a->harness_known || !b->harness_known || !a->host_known || !b->host_known ||
        proc_host_read(&host, &error) != STATUS_OK) {
        r->host_limited = true; /* unknown is no evidence */
        return;
    }
    r->host_cores_used = proc_tree_cores_used(&a->harness, &b->harness);
    r->others_cores_used =
        proc_others_frac(&a->host, &b->host, r->host_cores_used, host.cores_count) *
        host.cores_count;
    r->host_limited =
        stages_host_limited(r->host_cores_used + r->others_cores_used, host.usable_cores);
}

/* Asynchronous workers wait for results on a thread of their own. */
static void join_output_thread(struct run_result *r, const struct probe_rates *output)
{
    for (uint32_t i = 0; i < r->launchers_count; i++) {
        struct probe_rates *t = &r->launchers[i];
        if (t->kind == THREAD_WORKER_MAIN && t->instance == output->instance &&
            t->sub == output->sub) {
            t->output_wait_frac = output->sync_wait_frac;
        }
    }
}

/* ---- intervals of what was busy ---- */

/* What each row did in each batch, summed over the threads that the row stands for. */
struct batch_row {
    uint32_t count;
    double fracs[LOAD_BATCHES_MAX];
};

static void add_batches(const struct run_result *r, struct batch_row *rows, const char *instance,
                        const struct batches *between, const uint32_t place[2])
{
    const struct run_stage *s = find_row(r, instance);
    struct batch_row *row = s != NULL ? &rows[s - r->stages] : NULL;
    /* A thread is one row; only the launchers of several nodes have the same name. */
    bool taken = row != NULL && row->count > 0 && place[1] == BATCHES_BUSY;
    if (row != NULL && !taken) {
        row->count = batches_add(between, place[0], (enum batches_part)place[1], row->fracs);
    }
}

static void fill_interval(struct run_stage *s, const struct batch_row *row)
{
    double half = stats_mean_of(row->fracs, row->count).half_width;
    s->busy_lo = isnan(half) ? STATS_UNKNOWN : fmax(0, s->busy_frac - half);
    s->busy_hi = s->busy_frac + half;
}

static void fill_intervals(const struct observation *b, const struct topology *topology,
                           struct run_result *r)
{
    if (b->between == NULL) {
        return;
    }
    struct batch_row *rows = calloc(r->stages_count + 1, sizeof *rows);
    ASSERT(rows != NULL);
    for (uint32_t i = 0; i < b->ledger.threads_count; i++) {
        const struct ledger_thread *slot = &b->ledger.threads[i];
        const struct probe_rates t = {.kind = (enum ledger_thread_kind)slot->kind,
                                      .instance = slot->instance,
                                      .sub = slot->sub};
        char name[sizeof r->stages[0].instance];
        name_instance(&t, name);
        add_batches(r, rows, name, b->between, (const uint32_t[]){i, BATCHES_BUSY});
        if (takes_turns(&t, topology)) {
            name_lock(t.instance, name);
            add_batches(r, rows, name, b->between, (const uint32_t[]){i, BATCHES_LOCK});
        }
        if (launches(&t, topology)) {
            name_gpu(&t, topology, name);
            add_batches(r, rows, name, b->between, (const uint32_t[]){i, BATCHES_GPU});
        }
    }
    for (uint32_t i = 0; i < r->stages_count; i++) {
        fill_interval(&r->stages[i], &rows[i]);
    }
    free(rows);
}

static int by_rank(const void *a, const void *b)
{
    const struct probe_rates *x = a;
    const struct probe_rates *y = b;
    return x->instance != y->instance ? (x->instance > y->instance) - (x->instance < y->instance)
                                      : (x->sub > y->sub) - (x->sub < y->sub);
}

void observe_fill(const struct observation *a, const struct observation *b,
                  const struct topology *topology, struct run_result *r)
{
    uint32_t slots = b->ledger.threads_count;
    r->stages = calloc((size_t)slots * 3 + 1, sizeof *r->stages);
    r->launchers = calloc(slots, sizeof *r->launchers);
    r->engines = calloc(slots, sizeof *r->engines);
    ASSERT(r->stages != NULL && r->launchers != NULL && r->engines != NULL);
    for (uint32_t i = 0; i < slots; i++) {
        struct probe_rates t;
        if (!probe_diff(&a->ledger, &b->ledger, i, &t)) {
            continue;
        }
        const struct scheduling kernel = scheduling_of(a, b, t.tid);
        add_thread_stage(r, &t, &kernel, topology);
        if (takes_turns(&t, topology)) {
            add_lock_stage(r, &t);
        }
        if (t.kind == THREAD_ENGINE_MAIN && r->engines_count < topology->engines_count) {
            r->engines[r->engines_count++] = t;
        }
        if (launches(&t, topology)) {
            r->launchers[r->launchers_count++] = t;
            add_gpu_stage(r, &t, backlog_frac(a, b, t.instance), topology);
        }
    }
    for (uint32_t i = 0; i < slots; i++) {
        struct probe_rates t;
        if (probe_diff(&a->ledger, &b->ledger, i, &t) && t.kind == THREAD_WORKER_OUTPUT) {
            join_output_thread(r, &t);
        }
    }
    qsort(r->launchers, r->launchers_count, sizeof *r->launchers, by_rank);
    qsort(r->engines, r->engines_count, sizeof *r->engines, by_rank);
    observe_add_client(r);
    fill_lock_service(r);
    fill_intervals(b, topology, r);
    fill_engine_shares(topology, r);
    scale_engine_use(r);
    fill_launchers(r, topology);
    observe_judge(r);
}

void observe_fill_host(const struct observation *a, const struct observation *b,
                       const struct topology *topology, struct run_result *r)
{
    fill_host_use(a, b, r);
    if (b->system_known) {
        proc_thread_rows(topology, &b->ledger, &b->system, r->threads);
        r->threads_known = true;
    }
}
