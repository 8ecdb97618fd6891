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

static double runq_wait_frac(const struct observation *a, const struct observation *b, int32_t tid)
{
    if (!a->system_known || !b->system_known) {
        return STATS_UNKNOWN;
    }
    const struct proc_thread *first = NULL;
    const struct proc_thread *last = NULL;
    for (size_t i = 0; i < a->system.threads_count; i++) {
        first = a->system.threads[i].tid == tid ? &a->system.threads[i] : first;
    }
    for (size_t i = 0; i < b->system.threads_count; i++) {
        last = b->system.threads[i].tid == tid ? &b->system.threads[i] : last;
    }
    if (first == NULL || last == NULL) {
        return STATS_UNKNOWN;
    }
    return (double)(last->runq_wait_ns - first->runq_wait_ns) /
           (double)(b->system.at_ns - a->system.at_ns);
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

static void add_thread_stage(struct run_result *r, const struct probe_rates *t, double runq_wait,
                             bool spinning)
{
    struct stage_use use = {.stage = t->stage,
                            .busy_frac = t->busy_frac,
                            .cpu_frac = t->cpu_frac,
                            .occupancy_frac = t->occupancy_frac,
                            .spins = spinning};
    struct run_stage *s = &r->stages[r->stages_count++];
    *s = (struct run_stage){
        .use_frac = stage_use_frac(&use),
        .busy_frac = t->busy_frac,
        .cpu_frac = t->cpu_frac,
        .occupancy_frac = t->occupancy_frac,
        .runq_wait_frac = runq_wait,
        .queue_max_count = has_queue(t->kind) ? (double)t->queue_max : STATS_UNKNOWN,
        .service_us_per_req = per(t->busy_frac, t->finished_per_s),
        .service_us_per_tok = per(t->busy_frac, t->output_tokens_per_s),
        .messages_per_s = t->messages_in_per_s + t->messages_out_per_s,
        .source = "ledger",
    };
    (void)snprintf(s->stage, sizeof s->stage, "%s", t->stage);
    name_instance(t, s->instance);
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

/* A row for each GPU: what its contexts used of it adds up. */
static void add_gpu_stage(struct run_result *r, const struct probe_rates *t, double backlog,
                          const struct topology *topology)
{
    char name[sizeof r->stages[0].instance];
    bool shared = topology_engines_per_gpu(topology) > 1;
    (void)snprintf(name, sizeof name, "gpu %u.%u", t->instance, t->sub);
    if (shared) {
        (void)snprintf(name, sizeof name, "gpu %u", topology_gpu_of(topology, t->instance, t->sub));
    }
    for (uint32_t i = 0; shared && i < r->stages_count; i++) {
        if (strcmp(r->stages[i].instance, name) == 0) {
            r->stages[i].busy_frac += t->gpu_busy_frac + t->gpu_switch_frac;
            r->stages[i].use_frac += (t->gpu_busy_frac + t->gpu_switch_frac) * backlog;
            return;
        }
    }
    struct run_stage *s = &r->stages[r->stages_count++];
    *s = (struct run_stage){
        .use_frac = (t->gpu_busy_frac + t->gpu_switch_frac) * backlog,
        .busy_frac = t->gpu_busy_frac + t->gpu_switch_frac,
        .cpu_frac = STATS_UNKNOWN,
        .occupancy_frac = STATS_UNKNOWN,
        .runq_wait_frac = STATS_UNKNOWN,
        .queue_max_count = STATS_UNKNOWN,
        .service_us_per_req = STATS_UNKNOWN,
        .service_us_per_tok = STATS_UNKNOWN,
        .messages_per_s = STATS_UNKNOWN,
        .source = "ledger",
    };
    (void)snprintf(s->stage, sizeof s->stage, "gpu");
    (void)snprintf(s->instance, sizeof s->instance, "%s", name);
}

static void add_client_stage(struct run_result *r)
{
    struct run_stage *s = &r->stages[r->stages_count++];
    *s = (struct run_stage){
        .use_frac = r->client_cpu_frac,
        .busy_frac = r->client_cpu_frac,
        .cpu_frac = r->client_cpu_frac,
        .occupancy_frac = STATS_UNKNOWN,
        .runq_wait_frac = STATS_UNKNOWN,
        .queue_max_count = STATS_UNKNOWN,
        .service_us_per_req = STATS_UNKNOWN,
        .service_us_per_tok = per(r->client_cpu_frac, r->output_tok_per_s.mean),
        .messages_per_s = STATS_UNKNOWN,
        .source = "proc",
    };
    (void)snprintf(s->stage, sizeof s->stage, "client");
    (void)snprintf(s->instance, sizeof s->instance, "client");
}

/* The launcher waits by design; the client is judged by its own limit, not as a stage of the
 * system. */
static bool judged(const struct run_stage *s)
{
    return strcmp(s->stage, "launcher") != 0 && strcmp(s->stage, "client") != 0;
}

static void decide_verdict(struct run_result *r)
{
    struct stage_use *uses = calloc(r->stages_count, sizeof *uses);
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
            strcmp(s->stage, "scheduler") == 0) {
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

static void fill_host(const struct observation *a, const struct observation *b,
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
    r->stages = calloc((size_t)slots * 2 + 1, sizeof *r->stages);
    r->launchers = calloc(slots, sizeof *r->launchers);
    r->engines = calloc(slots, sizeof *r->engines);
    ASSERT(r->stages != NULL && r->launchers != NULL && r->engines != NULL);
    for (uint32_t i = 0; i < slots; i++) {
        struct probe_rates t;
        if (!probe_diff(&a->ledger, &b->ledger, i, &t)) {
            continue;
        }
        add_thread_stage(r, &t, runq_wait_frac(a, b, t.tid), spins(&t, topology));
        if (t.kind == THREAD_ENGINE_MAIN && r->engines_count < TOPOLOGY_ENGINES_MAX) {
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
    add_client_stage(r);
    fill_engine_shares(topology, r);
    scale_engine_use(r);
    fill_launchers(r, topology);
    fill_host(a, b, r);
    if (b->system_known) {
        proc_thread_rows(topology, &b->ledger, &b->system, r->threads);
        r->threads_known = true;
    }
    decide_verdict(r);
}
