/*
 * observe_outside.c - from the looks at a server of others to a run's result (observe.h). Called by
 * measure.c once the load is over. Must not take CPU time for work where it may be waiting: a
 * thread that launches kernels, or waits for those that do, spins while a device computes, so that
 * its CPU time can rule its stage out, but never name it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/observe.h"

enum {
    ROWS_BESIDE = 8 /* the client and what has no process */
};

static const char tokens_name[] = "vllm:generation_tokens_total";

/* ---- stages ---- */

static bool has_stage(const struct outside *o, const char *stage)
{
    for (size_t i = 0; o->found && i < o->system.processes_count; i++) {
        if (strcmp(o->system.stages[o->system.processes[i].stage], stage) == 0) {
            return true;
        }
    }
    return false;
}

/* Without workers of their own an engine core's main thread launches, too: one stage, since nobody
 * outside can tell how it divides its time. */
static const char *stage_of(const struct outside *o, const char *found)
{
    if (strcmp(found, "engine_core") == 0) {
        return has_stage(o, "worker") ? "scheduler" : "engine_thread";
    }
    return strcmp(found, "worker") == 0 ? "launch" : found;
}

static bool may_spin(const char *stage)
{
    return strcmp(stage, "scheduler") == 0 || strcmp(stage, "engine_thread") == 0 ||
           strcmp(stage, "launch") == 0;
}

static void judge_process(const struct outside *o, const struct foreign_stage *use,
                          struct run_stage *s)
{
    bool known = use->quality == FOREIGN_GOOD || use->quality == FOREIGN_TICKS;
    const char *quality = foreign_quality_text(use->quality);
    s->use_frac = known ? fmin(1, use->max_frac) : STATS_UNKNOWN;
    if (known && may_spin(s->stage) && use->max_frac >= STAGE_LIMIT_FRAC) {
        s->use_frac = STATS_UNKNOWN;
        quality = "low: may wait by spinning";
    } else if (known && o->system.by_order) {
        quality = "low: stage by descent";
    }
    (void)snprintf(s->quality, sizeof s->quality, "%s", quality);
}

/* The rank in "VLLM::EngineCore_DP3"; a title without one is the only engine core's. False: which
 * one it is cannot be told. */
static bool rank_of(const struct outside *o, const char *title, uint32_t *rank)
{
    const char *mark = strstr(title, "DP");
    char *end = NULL;
    unsigned long number = mark != NULL ? strtoul(mark + 2, &end, 10) : 0;
    uint32_t engines = 0;
    for (size_t i = 0; i < o->system.processes_count; i++) {
        engines +=
            strcmp(o->system.stages[o->system.processes[i].stage], "engine_core") == 0 ? 1 : 0;
    }
    *rank = (uint32_t)number;
    return mark != NULL ? end != mark + 2 && number < OUTSIDE_ENGINES_MAX : engines == 1;
}

static void name_process(const struct outside *o, size_t index, char out[32])
{
    const struct foreign_process *p = &o->system.processes[index];
    bool alone = true;
    for (size_t i = 0; i < o->system.processes_count; i++) {
        alone = alone && (i == index || strcmp(o->system.processes[i].title, p->title) != 0);
    }
    if (alone) {
        (void)snprintf(out, 32, "%s", p->title);
    } else {
        (void)snprintf(out, 32, "%.20s %d", p->title, (int)p->pid);
    }
}

static void fill_queue(const struct outside_queue *q, struct run_stage *s)
{
    if (q->looks_count > 0) {
        s->queue_mean_count = q->waiting_sum / q->looks_count;
        s->queue_max_count = q->waiting_max;
    }
}

static void add_process(const struct outside *o, size_t index, struct run_result *r)
{
    const struct foreign_looks looks = outside_looks(o);
    const struct foreign_process *p = &o->system.processes[index];
    struct foreign_stage use;
    bool alive = foreign_process_use(&o->system, &looks, index, &use);
    struct run_stage *s = observe_add_stage(r, stage_of(o, o->system.stages[p->stage]));
    s->source = "proc";
    name_process(o, index, s->instance);
    judge_process(o, &use, s);
    if (alive) {
        s->cpu_frac = use.max_frac;
        s->runq_wait_frac = use.wait_frac;
        s->spin_frac = use.quality == FOREIGN_SPINS ? use.idle_frac : STATS_UNKNOWN;
        s->ctx_switches_per_s = use.voluntary_per_s + use.involuntary_per_s;
        s->migrations_per_s = use.migrations_per_s;
    }
    uint32_t rank = 0;
    if (strcmp(o->system.stages[p->stage], "engine_core") == 0 && rank_of(o, p->title, &rank) &&
        o->queues[rank].looks_count > 0) {
        fill_queue(&o->queues[rank], s);
        s->source = "proc, prometheus";
    }
}

/* Engine cores that only the page tells of. */
static void add_queues(const struct outside *o, struct run_result *r)
{
    for (uint32_t i = 0; i < OUTSIDE_ENGINES_MAX; i++) {
        if (o->queues[i].looks_count > 0) {
            struct run_stage *s = observe_add_stage(r, "engine_thread");
            s->source = "prometheus";
            (void)snprintf(s->instance, sizeof s->instance, "engine %u", i);
            fill_queue(&o->queues[i], s);
        }
    }
}

/* A stage that exists and that nobody looked into. */
static void add_unseen(struct run_result *r, const char *stage)
{
    struct run_stage *s = observe_add_stage(r, stage);
    s->source = "";
    (void)snprintf(s->instance, sizeof s->instance, "not instrumented");
}

static void add_stages(const struct outside *o, struct run_result *r)
{
    bool seen = outside_is_seen(o);
    uint32_t before = 0;
    for (size_t i = 0; seen && i < o->system.processes_count; i++) {
        add_process(o, i, r);
    }
    if (!seen) {
        add_unseen(r, "api_server");
        before = r->stages_count;
        add_queues(o, r);
        if (r->stages_count == before) {
            add_unseen(r, "engine_thread");
        }
    }
    add_unseen(r, "gpu");
    add_unseen(r, "ipc");
}

/* ---- engine cores ---- */

static void fill_engines(const struct outside *o, struct run_result *r)
{
    double seconds = (double)(o->metrics_ns[1] - o->metrics_ns[0]) / 1e9;
    double rates[OUTSIDE_ENGINES_MAX] = {0};
    uint32_t count = 0;
    double sum = 0;
    double most = 0;
    if (!o->scraped[0] || !o->scraped[1] || !(seconds > 0)) {
        return;
    }
    r->prompt_tok_per_s = outside_since(o, "vllm:prompt_tokens_total", NULL) / seconds;
    for (uint32_t i = 0; i < OUTSIDE_ENGINES_MAX; i++) {
        char engine[16];
        (void)snprintf(engine, sizeof engine, "%u", i);
        double tokens = outside_since(o, tokens_name, engine);
        if (!isnan(tokens)) {
            rates[i] = tokens / seconds;
            sum += rates[i];
            most = fmax(most, rates[i]);
            count = i + 1;
        }
    }
    if (count > 0) {
        r->rank_jain = stats_jain(rates, count);
        r->dp_imbalance_frac = most > 0 ? 1 - sum / count / most : STATS_UNKNOWN;
    }
}

void observe_fill_outside(const struct outside *o, struct run_result *r)
{
    size_t rows = ROWS_BESIDE;
    rows += outside_is_seen(o) ? o->system.processes_count : OUTSIDE_ENGINES_MAX;
    r->stages = calloc(rows, sizeof *r->stages);
    ASSERT(r->stages != NULL);
    add_stages(o, r);
    observe_add_client(r);
    fill_engines(o, r);
    if (outside_is_seen(o)) {
        const struct foreign_looks looks = outside_looks(o);
        r->cpu_pressure_frac = foreign_pressure_frac(looks.from, looks.to);
    }
    observe_judge(r);
}
