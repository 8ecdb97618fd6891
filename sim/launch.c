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

#define PPM ((time_ps)1000000)

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

/* The same with the plan itself: one token each. */
static void add_decodes(const struct step_plan *plan, struct step_load *load)
{
    uint64_t contexts = plan->seqs_count;
    uint32_t sampled_count = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        contexts += plan->seqs[i].computed_tokens;
        sampled_count += (plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0 ? 1 : 0;
    }
    *load = (struct step_load){.seqs_count = plan->seqs_count,
                               .tokens_count = plan->seqs_count,
                               .kv_read_tokens = contexts,
                               .attention_pairs = contexts,
                               .sampled_count = sampled_count};
}

/* True: all compute one token each. */
static bool add_plan(const struct step_plan *plan, struct step_load *load)
{
    if (plan->tokens_count == plan->seqs_count) {
        add_decodes(plan, load);
        return true;
    }
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        bool samples = (seq->flags & STEP_SEQ_SAMPLES) != 0;
        step_load_add(load, seq->computed_tokens, seq->scheduled_tokens, samples);
    }
    return false;
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
    struct step_cost cost = {.time = 0};
    if (o->gpu_sharing == SIMULATION_GPU_OWN) { /* nobody shares what it leaves of the GPU */
        cost.time = cost_step_time(o->gpu, &s->cost_model, &ranks, &load);
    } else {
        cost_step_model(o->gpu, &s->cost_model, &ranks, &load, &cost);
    }
    time_ps stage_time = cost.time / o->pp; /* stages are equal */
    f->gpu_time = stage_time + stage_time / PPM * o->gpu_slower_ppm;
    f->handover = o->pp > 1 ? cost_handover(o->gpu, o->model, o->tp, load.tokens_count) : 0;
    f->sm_ppm = cost.sm_ppm;
    f->bandwidth_ppm = cost.bandwidth_ppm;
    f->graph = graph;
    f->kernels_count = (s->cost_model.kernels_count + o->pp - 1) / o->pp;
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
        l.cpu = graph_launch_time(o, f->kernels_count);
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
    time_ps before = w->gpu_end;
    w->gpu_gap += gpu_take(w, now, work) - before;
    uint32_t last = w->queue_first + w->queue_count;
    w->queue_ends[last < depth ? last : last - depth] = w->gpu_end;
    w->queue_count++;
}

/* The GPU itself waits for another stage; until then no host keeps it waiting. */
static void own_wait(struct worker *w, uint32_t depth, time_ps now)
{
    time_ps visible = w->not_before - GPU_SUBMIT_LATENCY;
    w->gpu_ready = w->gpu_ready > w->not_before ? w->gpu_ready : w->not_before;
    w->not_before = 0;
    own_enqueue(w, depth, now > visible ? now : visible, 0);
}

/* A kernel or a graph. Copies before it are no idle time, but do not end a gap either. */
static void own_compute(struct worker *w, uint32_t depth, time_ps now, time_ps work)
{
    own_enqueue(w, depth, now, work);
    if (w->gpu_gap > 0) {
        tell_spans(simulation_of(&w->engine->station), w->books, SIMULATION_SPAN_GAP, w->gpu_gap,
                   1);
    }
    w->gpu_gap = 0;
}

/* Is the GPU busy when a kernel that is launched by `now` could begin, and so with all kernels of
 * that length that follow it, `cpu` after each other? Then it is never idle in between. */
static bool own_is_behind(const struct worker *w, time_ps now, time_ps cpu, time_ps work)
{
    return w->gpu_gap == 0 && w->gpu_end >= now + GPU_SUBMIT_LATENCY && work >= cpu;
}

/* Kernels for a GPU that is behind. */
static void own_append(struct worker *w, uint32_t depth, uint32_t count, time_ps work)
{
    uint32_t place = w->queue_first + w->queue_count;
    place = place < depth ? place : place - depth;
    for (uint32_t i = 0; i < count; i++) {
        w->gpu_end += work;
        w->queue_ends[place] = w->gpu_end;
        place = place + 1 < depth ? place + 1 : 0;
    }
    w->queue_count += count;
    w->books->gpu_busy += work * (time_ps)count;
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
    struct gpu_share_op op = {.runnable = now + GPU_SUBMIT_LATENCY,
                              .work = l->work,
                              .sm_ppm = copy ? 0 : f->sm_ppm,
                              .bandwidth_ppm = copy ? 0 : f->bandwidth_ppm};
    gpu_share_launch(w->share, w->context, &op);
}

/* ---- launching ---- */

bool launch_await(struct worker *w, struct station *on, uint64_t flight)
{
    const struct simulation *s = simulation_of(on);
    const struct engine_thread *e = w->engine;
    const struct flight *f = &e->flights[flight % FLIGHTS_MAX];
    uint64_t needs = w->stage_index > 0 ? flight : f->needs;
    w->not_before = needs > 0 ? 1 : 0; /* what is taken was done long ago */
    if (needs <= e->taken) {
        return true;
    }
    uint32_t from = (w->stage_index > 0 ? w->stage_index : s->options.pp) - 1;
    const struct stage *stage = stage_of(s, e, needs, from);
    if (stage->launched_count == s->options.tp) {
        w->not_before = stage->done + (w->stage_index > 0 ? f->handover : 0);
        return true;
    }
    w->awaited = stage;
    station_wait(on, 0, &on->books->sync_wait);
    station_wait_spins(on);
    return false;
}

void launch_begin(struct worker *w, struct station *on, uint64_t flight)
{
    const struct flight *f = &w->engine->flights[flight % FLIGHTS_MAX];
    w->launching = flight;
    w->next_launch = 0;
    if (!f->launches) {
        w->not_before = 0;
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

/* Whoever waits for this stage's launches of the flight goes on when the last worker has made them.
 */
static void tell_stages(struct worker *w)
{
    struct engine_thread *e = w->engine;
    const struct simulation *s = simulation_of(&e->station);
    struct stage *stage = stage_of(s, e, w->launching, w->stage_index);
    stage->launched_count++;
    stage->done = w->gpu_end > stage->done ? w->gpu_end : stage->done;
    if (stage->launched_count < s->options.tp) {
        return;
    }
    for (uint32_t i = 0; i < workers_per_engine(s); i++) {
        if (e->workers[i].awaited == stage) {
            e->workers[i].awaited = NULL;
            station_release(&e->workers[i].station, w->station.cursor);
        }
    }
}

static void end_launching(struct worker *w, struct flight *f)
{
    uint32_t place = (uint32_t)(w->launching % FLIGHTS_MAX);
    const struct simulation_options *o = &simulation_of(&w->engine->station)->options;
    bool last = w->stage_index == o->pp - 1;
    f->workers_launched += last ? 1 : 0;
    if (w->share != NULL) {
        gpu_share_record(w->share, w->context, place);
        shared_book(w);
        return;
    }
    w->flight_done[place] = w->gpu_end;
    f->done = last && w->gpu_end > f->done ? w->gpu_end : f->done;
    if (o->pp > 1) {
        tell_stages(w);
    }
}

static void book_launches(const struct station *on, enum simulation_launch kind, time_ps cpu,
                          uint32_t count)
{
    struct simulation_thread *books = on->books;
    books->launches_count[kind] += count;
    books->launch[kind] += cpu * (time_ps)count;
    books->launch_max = cpu > books->launch_max ? cpu : books->launch_max;
    if (kind == SIMULATION_LAUNCH_KERNEL || kind == SIMULATION_LAUNCH_GRAPH) {
        tell_spans(simulation_of(on), books, SIMULATION_SPAN_LAUNCH, cpu, count);
    }
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
    uint32_t i = 0;
    while (i < count && !own_is_behind(w, now + cpu, cpu, f->kernel_time)) {
        now += cpu;
        own_compute(w, o->queue_depth, now, f->kernel_time);
        i++;
    }
    own_append(w, o->queue_depth, count - i, f->kernel_time);
    station_work(on, cpu * (time_ps)count);
    book_launches(on, SIMULATION_LAUNCH_KERNEL, cpu, count);
    w->next_launch += count;
}

/* False: there is no room, and the segment ends with waiting for it. */
static bool has_room(struct worker *w, struct station *on, uint32_t depth)
{
    time_ps room;
    if (full(w, on, depth, &room)) {
        station_wait(on, 0, &on->books->queue_full);
        station_wait_spins(on);
        station_wait_until(on, room);
        return false;
    }
    return true;
}

bool launch_more(struct worker *w, struct station *on)
{
    const struct simulation_options *o = &simulation_of(on)->options;
    struct flight *f = &w->engine->flights[w->launching % FLIGHTS_MAX];
    uint32_t launches = launches_of(f);
    if (w->share != NULL) {
        gpu_share_advance(w->share, on->now);
    }
    if (w->not_before > 0) {
        time_ps cpu = o->gpu->launch + o->launch_extra;
        if (!has_room(w, on, o->queue_depth)) {
            return false;
        }
        station_work(on, cpu);
        book_launches(on, SIMULATION_LAUNCH_SYNC, cpu, 1);
        own_wait(w, o->queue_depth, on->cursor);
    }
    while (w->next_launch < launches) {
        struct one_launch l = launch_at(o, f, w->next_launch);
        if (!has_room(w, on, o->queue_depth)) {
            return false;
        }
        station_work(on, l.cpu);
        book_launches(on, l.kind, l.cpu, 1);
        if (w->share != NULL) {
            shared_enqueue(w, f, on->cursor, &l);
        } else if (l.kind == SIMULATION_LAUNCH_COPY) {
            own_enqueue(w, o->queue_depth, on->cursor, l.work);
        } else {
            own_compute(w, o->queue_depth, on->cursor, l.work);
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
        w->gpu_gap = -TIME_NEVER;
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
