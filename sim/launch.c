/*
 * launch.c - owns what a step's launches cost the launching thread and when the GPU is done with
 * them: the queue and the bookkeeping of engine/device/gpu_emulated.c on a GPU of its own, and
 * engine/device/gpu_share on a shared one. Driven by the launching thread. Times of steps are those
 * of engine/device/cost.h, which the emulated device uses, too.
 *
 * A step is one copy of metadata, then one graph or the step's kernels; launches are numbered from
 * 0 in this order. The queue is bounded: a launch that finds it full waits for room.
 */
#include <stdlib.h>

#include "sim/simulation_state.h"

#define SUBMIT_LATENCY (3 * PS_PER_US) /* SUBMIT_LATENCY_NS of engine/device/launch_cost.h */
#define PPM            ((time_ps)1000000)

/* ---- what a step takes ---- */

/* What a worker uploads for a step (engine/device/emulated.c). */
static uint64_t metadata_bytes(const struct step_plan *plan)
{
    return 12ULL * plan->tokens_count + 16ULL * plan->seqs_count + 4ULL * plan->block_ids_count;
}

/* Sequences that compute a token each; a quiet plan says only how many. */
static void add_quiet_plan(const struct step_plan *plan, uint64_t computed_tokens,
                           struct step_load *load)
{
    uint64_t contexts = computed_tokens + plan->seqs_count;
    *load = (struct step_load){.seqs_count = plan->seqs_count,
                               .tokens_count = plan->seqs_count,
                               .kv_read_tokens = contexts,
                               .attention_pairs = contexts,
                               .sampled_count = plan->seqs_count};
}

static bool add_plan(const struct step_plan *plan, struct step_load *load)
{
    bool uniform = true;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        bool samples = (seq->flags & STEP_SEQ_SAMPLES) != 0;
        step_load_add(load, seq->computed_tokens, seq->scheduled_tokens, samples);
        uniform = uniform && seq->scheduled_tokens == 1;
    }
    return uniform;
}

void launch_plan(const struct engine_thread *e, struct flight *f, const struct wave_forward *agreed,
                 uint64_t all_tokens)
{
    const struct simulation *s = simulation_of(&e->station);
    const struct simulation_options *o = &s->options;
    const struct step_plan *plan = e->plan;
    struct step_load load = {0};
    uint64_t bytes = plan != NULL ? metadata_bytes(plan) : 0;
    bool graph = o->graphs;
    if (plan == &e->quiet_plan) {
        add_quiet_plan(plan, e->quiet_computed_tokens, &load);
    } else if (plan != NULL) {
        graph = add_plan(plan, &load) && graph;
    }
    graph = graph && load.seqs_count <= SIMULATION_GRAPH_SEQS_MAX;
    f->seqs_count = load.seqs_count;
    f->sampled_count = load.sampled_count;
    if (agreed != NULL) {
        graph = graph && agreed->graph;
        load.tokens_count =
            agreed->tokens_count > load.tokens_count ? agreed->tokens_count : load.tokens_count;
    }
    f->launches = load.tokens_count > 0;
    if (!f->launches) {
        return;
    }
    uint32_t ep = o->model->experts_count > 0 ? o->engines_count : 1;
    struct step_ranks ranks = {.tp = o->tp,
                               .ep = ep,
                               .all_tokens =
                                   all_tokens > 0 ? all_tokens : (uint64_t)ep * load.tokens_count};
    struct step_cost cost;
    cost_step_ranks(o->gpu, o->model, &ranks, &load, &cost);
    f->gpu_time = cost.time + cost.time / PPM * o->gpu_slower_ppm;
    f->sm_ppm = cost.sm_ppm;
    f->bandwidth_ppm = cost.bandwidth_ppm;
    f->graph = graph;
    f->kernels_count = s->kernels_count;
    f->kernel_time = graph ? 0 : f->gpu_time / f->kernels_count;
    f->copy_time = (time_ps)((double)bytes / o->gpu->pcie_bytes_per_s * (double)PS_PER_S);
}

/* ---- one launch ---- */

struct one_launch {
    enum simulation_launch kind;
    time_ps cpu;
    time_ps work;
};

static uint32_t launches_of(const struct flight *f)
{
    if (!f->launches) {
        return 0;
    }
    return 1 + (f->graph ? 1 : f->kernels_count);
}

static struct one_launch launch_at(const struct simulation_options *o, const struct flight *f,
                                   uint32_t index)
{
    struct one_launch l = {.cpu = o->gpu->launch + o->launch_extra};
    if (index == 0) {
        l.kind = SIMULATION_LAUNCH_COPY;
        l.work = f->copy_time;
    } else if (f->graph) {
        l.kind = SIMULATION_LAUNCH_GRAPH;
        l.cpu = o->gpu->graph_launch + o->gpu->graph_node * f->kernels_count + o->launch_extra;
        l.work = f->gpu_time;
    } else {
        l.kind = SIMULATION_LAUNCH_KERNEL;
        l.work = index < f->kernels_count
                     ? f->kernel_time
                     : f->gpu_time - f->kernel_time * (time_ps)(f->kernels_count - 1);
    }
    return l;
}

/* ---- a GPU of its own ---- */

static void own_retire(struct worker *w, uint32_t depth, time_ps now)
{
    while (w->queue_count > 0 && w->queue_ends[w->queue_first] <= now) {
        w->queue_first = w->queue_first + 1 < depth ? w->queue_first + 1 : 0;
        w->queue_count--;
    }
}

static void own_enqueue(struct worker *w, uint32_t depth, time_ps now, time_ps work)
{
    struct simulation_thread *books = w->books;
    time_ps begin = now + SUBMIT_LATENCY;
    begin = begin > w->gpu_end ? begin : w->gpu_end;
    time_ps late_since = w->gpu_end > w->gpu_ready ? w->gpu_end : w->gpu_ready;
    late_since = late_since < begin ? late_since : begin;
    books->gpu_idle_late += begin - late_since;
    books->gpu_idle_absent += late_since - w->gpu_end;
    books->gpu_busy += work;
    w->gpu_end = begin + work;
    uint32_t last = w->queue_first + w->queue_count;
    w->queue_ends[last < depth ? last : last - depth] = w->gpu_end;
    w->queue_count++;
}

/* ---- a shared GPU ---- */

static void shared_book(struct worker *w)
{
    const struct gpu_share_context *x = &w->share->state->contexts[w->context];
    w->books->gpu_busy = x->busy;
    w->books->gpu_idle_late = x->late;
    w->books->gpu_idle_absent = x->absent;
    w->books->gpu_switch = x->switching;
}

static void shared_enqueue(struct worker *w, const struct flight *f, time_ps now,
                           const struct one_launch *l)
{
    /* A copy takes its time in the queue but slows nobody down. */
    bool copy = l->kind == SIMULATION_LAUNCH_COPY;
    struct gpu_share_op op = {.runnable = now + SUBMIT_LATENCY,
                              .work = l->work,
                              .sm_ppm = copy ? 0 : f->sm_ppm,
                              .bandwidth_ppm = copy ? 0 : f->bandwidth_ppm};
    gpu_share_launch(w->share, w->context, &op);
}

/* ---- launching ---- */

void launch_begin(struct worker *w, struct station *on, uint64_t flight)
{
    const struct flight *f = &w->engine->flights[flight % FLIGHTS_MAX];
    w->launching = flight;
    w->next_launch = 0;
    if (!f->launches) {
        return;
    }
    w->gpu_ready = on->cursor;
    if (w->share != NULL) {
        gpu_share_advance(w->share, on->now);
        gpu_share_ready(w->share, w->context, on->cursor);
    }
}

/* The queue is full at the cursor until *room. */
static bool full(struct worker *w, const struct station *on, uint32_t depth, time_ps *room)
{
    if (w->share != NULL) {
        if (gpu_share_full(w->share, w->context)) {
            *room = gpu_share_predict_room(w->share, w->context);
            return true;
        }
        return false;
    }
    if (w->queue_count == depth) {
        own_retire(w, depth, on->cursor);
    }
    *room = w->queue_ends[w->queue_first];
    return w->queue_count == depth;
}

static void end_launching(struct worker *w, struct flight *f)
{
    uint32_t place = (uint32_t)(w->launching % FLIGHTS_MAX);
    f->workers_launched++;
    if (w->share != NULL) {
        gpu_share_record(w->share, w->context, place);
        shared_book(w);
        return;
    }
    w->flight_done[place] = w->gpu_end;
    f->done = w->gpu_end > f->done ? w->gpu_end : f->done;
}

/* The kernels of a step from `next_launch` to the last but one, as far as the queue of the worker's
 * own GPU has room for certain: as launching them one by one, without asking each time. */
static void own_launch_kernels(struct worker *w, struct station *on, const struct flight *f)
{
    const struct simulation_options *o = &simulation_of(on)->options;
    uint32_t room = o->queue_depth - w->queue_count;
    uint32_t left = f->kernels_count - w->next_launch;
    uint32_t count = left < room ? left : room;
    time_ps cpu = o->gpu->launch + o->launch_extra;
    time_ps now = on->cursor;
    for (uint32_t i = 0; i < count; i++) {
        now += cpu;
        own_enqueue(w, o->queue_depth, now, f->kernel_time);
    }
    station_work(on, cpu * (time_ps)count);
    on->books->launches_count[SIMULATION_LAUNCH_KERNEL] += count;
    on->books->launch[SIMULATION_LAUNCH_KERNEL] += cpu * (time_ps)count;
    w->next_launch += count;
}

bool launch_more(struct worker *w, struct station *on)
{
    const struct simulation_options *o = &simulation_of(on)->options;
    struct flight *f = &w->engine->flights[w->launching % FLIGHTS_MAX];
    uint32_t launches = launches_of(f);
    if (w->share != NULL) {
        gpu_share_advance(w->share, on->now);
    }
    while (w->next_launch < launches) {
        struct one_launch l = launch_at(o, f, w->next_launch);
        time_ps room;
        if (full(w, on, o->queue_depth, &room)) {
            station_wait(on, 0, &on->books->queue_full);
            station_wait_spins(on);
            station_wait_until(on, room);
            return false;
        }
        station_work(on, l.cpu);
        on->books->launches_count[l.kind]++;
        on->books->launch[l.kind] += l.cpu;
        if (w->share != NULL) {
            shared_enqueue(w, f, on->cursor, &l);
        } else {
            own_enqueue(w, o->queue_depth, on->cursor, l.work);
        }
        w->next_launch++;
        if (w->share == NULL && !f->graph && w->next_launch < f->kernels_count) {
            own_launch_kernels(w, on, f);
        }
    }
    end_launching(w, f);
    return true;
}

/* A shared GPU says when it was done only afterwards; until then, when to ask again. */
static bool shared_done(struct worker *w, struct station *on, uint64_t flight)
{
    uint32_t place = (uint32_t)(flight % FLIGHTS_MAX);
    gpu_share_advance(w->share, on->now);
    shared_book(w);
    if (gpu_share_event_done(w->share, w->context, place) <= on->cursor) {
        return true;
    }
    station_wait(on, 0, &on->books->sync_wait);
    station_wait_spins(on);
    station_wait_until(on, gpu_share_predict_event(w->share, w->context, place));
    return false;
}

bool launch_done(struct worker *w, struct station *on, uint64_t flight, bool all)
{
    uint32_t place = (uint32_t)(flight % FLIGHTS_MAX);
    if (w->share != NULL) {
        return shared_done(w, on, flight);
    }
    const struct flight *f = &w->engine->flights[place];
    time_ps done = all ? f->done : w->flight_done[place];
    if (done <= on->cursor) {
        return true;
    }
    station_wait(on, 0, &on->books->sync_wait);
    station_wait_spins(on);
    station_wait_until(on, done);
    return false;
}

/* ---- creation ---- */

enum status launch_open(struct simulation *s, struct worker *w, struct error *error)
{
    const struct simulation_options *o = &s->options;
    if (o->gpu_sharing == SIMULATION_GPU_OWN) {
        w->queue_ends = calloc(o->queue_depth, sizeof *w->queue_ends);
        if (w->queue_ends == NULL) {
            return error_set(error, STATUS_NOMEM, "simulation: no memory for %u launches",
                             o->queue_depth);
        }
        return STATUS_OK;
    }
    w->share = &s->gpus[w->engine->index / o->engines_per_gpu].share;
    w->context = gpu_share_attach(w->share);
    ASSERT(w->context != GPU_SHARE_NONE);
    return STATUS_OK;
}
