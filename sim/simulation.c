/*
 * simulation.c - owns a simulation's creation, its run, and what can be read of it. Driven by
 * whoever simulates. Must not take part in what the threads do.
 */
#include "sim/simulation.h"

#include <stdlib.h>

#include "sim/simulation_options.h"
#include "sim/simulation_state.h"

#define STALL (3600 * PS_PER_S) /* no token for so long while requests are open */

/* ---- names ---- */

const char *simulation_hop_name(enum simulation_hop hop)
{
    static const char *const names[] = {
#define X(name, text) [SIMULATION_HOP_##name] = (text),
        SIMULATION_HOPS(X)
#undef X
    };
    return names[hop];
}

const char *simulation_thread_kind_name(enum simulation_thread_kind kind)
{
    static const char *const names[] = {
#define X(name, text) [SIMULATION_THREAD_##name] = (text),
        SIMULATION_THREAD_KINDS(X)
#undef X
    };
    return names[kind];
}

/* ---- creation ---- */

struct opening {
    struct simulation *s;
    uint32_t entity; /* next */
    uint32_t thread; /* next */
};

static void open_station(struct opening *o, struct station *station,
                         enum simulation_thread_kind kind, uint32_t instance, uint32_t sub)
{
    station->books = &o->s->books[o->thread++];
    station->books->kind = kind;
    station->books->instance = instance;
    station->books->sub = sub;
    station_open(&o->s->scene, station, o->entity++);
}

static enum status open_apis(struct opening *o, struct error *error)
{
    struct simulation *s = o->s;
    for (uint32_t i = 0; i < s->options.api_servers_count; i++) {
        struct api_thread *a = &s->apis[i];
        a->index = i;
        a->station.run = api_run;
        a->station.owner = a;
        open_station(o, &a->station, SIMULATION_THREAD_API, i, 0);
        TRY(api_open(s, a, error));
    }
    return STATUS_OK;
}

/* Threads of a class stand together: first all inputs, then all main threads, then all outputs. */
static enum status open_engines(struct opening *o, struct error *error)
{
    struct simulation *s = o->s;
    uint32_t count = s->options.engines_count;
    for (uint32_t i = 0; i < count; i++) {
        struct engine_thread *e = &s->engines[i];
        struct interpreter *lock = s->options.interpreter_lock ? &e->interpreter : NULL;
        e->index = i;
        e->workers = &s->workers[(size_t)i * workers_per_engine(s)];
        e->input.run = engine_input_run;
        e->station.run = engine_run;
        e->output.run = engine_output_run;
        e->input.owner = e->station.owner = e->output.owner = e;
        e->input.interpreter = e->station.interpreter = e->output.interpreter = lock;
        e->station.waits_spinning = s->options.wait == SIMULATION_SPIN;
        e->output.in_line = s->scene.cores_count == 0 && lock == NULL;
        TRY(engine_open(s, e, error));
    }
    for (uint32_t i = 0; i < count; i++) {
        open_station(o, &s->engines[i].input, SIMULATION_THREAD_ENGINE_INPUT, i, 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        open_station(o, &s->engines[i].station, SIMULATION_THREAD_ENGINE_MAIN, i, 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        open_station(o, &s->engines[i].output, SIMULATION_THREAD_ENGINE_OUTPUT, i, 0);
    }
    return STATUS_OK;
}

static uint32_t engines_per_gpu(const struct simulation_options *o)
{
    return o->gpu_sharing == SIMULATION_GPU_OWN ? 1 : o->engines_per_gpu;
}

static void open_worker(struct opening *o, struct worker *w)
{
    struct simulation *s = o->s;
    uint32_t rank = w->engine->index;
    if (s->options.uniproc) {
        w->books = w->engine->station.books;
    } else {
        /* The stages of a pipeline wait for each other. */
        bool in_line = s->scene.cores_count == 0 && s->options.gpu_sharing == SIMULATION_GPU_OWN &&
                       s->options.pp == 1;
        w->station.run = worker_run;
        w->output.run = worker_output_run;
        w->station.owner = w->output.owner = w;
        w->station.waits_spinning = w->output.waits_spinning = s->options.wait == SIMULATION_SPIN;
        w->station.in_line = w->output.in_line = in_line;
        open_station(o, &w->station, SIMULATION_THREAD_WORKER, rank, w->index);
        w->books = w->station.books;
        if (s->options.engine.async_depth > 1) {
            open_station(o, &w->output, SIMULATION_THREAD_WORKER_OUTPUT, rank, w->index);
        }
    }
    w->books->gpu = rank / engines_per_gpu(&s->options) * workers_per_engine(s) + w->index;
}

static enum status open_workers(struct opening *o, struct error *error)
{
    struct simulation *s = o->s;
    for (uint32_t i = 0; i < s->workers_count; i++) {
        struct worker *w = &s->workers[i];
        w->engine = &s->engines[i / workers_per_engine(s)];
        w->index = i % workers_per_engine(s);
        w->stage_index = w->index / s->options.tp;
        open_worker(o, w);
        TRY(launch_open(s, w, error));
    }
    return STATUS_OK;
}

static enum status open_gpus(struct simulation *s, struct error *error)
{
    const struct simulation_options *o = &s->options;
    if (o->gpu_sharing == SIMULATION_GPU_OWN) {
        return STATUS_OK;
    }
    s->gpus_count = (o->engines_count + o->engines_per_gpu - 1) / o->engines_per_gpu;
    s->gpus = calloc(s->gpus_count, sizeof *s->gpus);
    bool failed = s->gpus == NULL;
    struct gpu_share_options options =
        gpu_share_defaults(o->gpu_sharing == SIMULATION_GPU_TIME_SLICED ? GPU_SHARE_TIME_SLICED
                                                                        : GPU_SHARE_SIDE_BY_SIDE,
                           o->engines_per_gpu);
    options.queue_depth = o->queue_depth;
    for (uint32_t i = 0; i < s->gpus_count && !failed; i++) {
        struct gpu_shared_state *g = &s->gpus[i];
        g->share.state = &g->state;
        g->share.ops = calloc((size_t)o->engines_per_gpu * o->queue_depth, sizeof *g->share.ops);
        failed = g->share.ops == NULL;
        if (!failed) {
            gpu_share_init(&g->share, &options);
        }
    }
    return failed
               ? error_set(error, STATUS_NOMEM, "simulation: no memory for %u GPUs", s->gpus_count)
               : STATUS_OK;
}

static enum status allocate(struct simulation *s, struct error *error)
{
    const struct simulation_options *o = &s->options;
    uint32_t engines = o->engines_count;
    s->workers_count = engines * workers_per_engine(s);
    s->threads_count = 1 + o->api_servers_count + (engines > 1 ? 1 : 0) + 3 * engines;
    if (!o->uniproc) {
        s->threads_count += s->workers_count * (o->engine.async_depth > 1 ? 2 : 1);
    }
    cost_model_of(o->model, &s->cost_model);
    s->apis = calloc(o->api_servers_count, sizeof *s->apis);
    s->engines = calloc(engines, sizeof *s->engines);
    s->workers = calloc(s->workers_count, sizeof *s->workers);
    s->books = calloc(s->threads_count, sizeof *s->books);
    s->shown = calloc(s->threads_count, sizeof *s->shown);
    s->zero_tokens = calloc(o->engine.max_num_seqs, sizeof *s->zero_tokens);
    s->prompt = calloc(o->engine.max_model_len, sizeof *s->prompt);
    s->coordinator = engines > 1 ? calloc(1, sizeof *s->coordinator) : NULL;
    if (s->apis == NULL || s->engines == NULL || s->workers == NULL || s->books == NULL ||
        s->shown == NULL || s->zero_tokens == NULL || s->prompt == NULL ||
        (engines > 1 && s->coordinator == NULL)) {
        return error_set(error, STATUS_NOMEM, "simulation: no memory for %u threads",
                         s->threads_count);
    }
    TRY(scene_create(s->threads_count + 1, o->cores_count, &s->options.costs, &s->scene, error));
    s->scene.simulation = s;
    return STATUS_OK;
}

/* Where counts stand for the engine cores, threads that take no time need no letters and events:
 * they do at once what they are told. Nobody is overtaken, as at one time the coordinator and the
 * API servers come before who tells them, and input threads in the order of those. */
static void mark_free_threads(struct simulation *s)
{
    const struct simulation_options *o = &s->options;
    const struct simulation_costs *c = &o->costs;
    if (s->level == SIMULATION_L0 || !simulation_options_countable(o)) {
        return;
    }
    for (uint32_t i = 0; i < o->api_servers_count; i++) {
        s->apis[i].station.takes_no_time = true;
    }
    for (uint32_t i = 0; i < o->engines_count; i++) {
        s->engines[i].input.takes_no_time =
            simulation_cost_is_none(&c->engine_input) && o->extra.engine_input_request == 0;
    }
    if (s->coordinator != NULL) {
        s->coordinator->station.takes_no_time = simulation_cost_is_none(&c->coordinator_message) &&
                                                simulation_cost_is_none(&c->coordinator_publish) &&
                                                o->host.coordinator_message == 0;
    }
}

static enum status open_all(struct simulation *s, struct error *error)
{
    struct opening o = {.s = s, .entity = SCENE_CORES_ENTITY + 1};
    TRY(allocate(s, error));
    TRY(open_gpus(s, error));
    if (s->coordinator != NULL) {
        s->coordinator->station.run = coordinator_run;
        open_station(&o, &s->coordinator->station, SIMULATION_THREAD_COORDINATOR, 0, 0);
        TRY(coordinator_open(s, error));
    }
    TRY(open_apis(&o, error));
    TRY(open_engines(&o, error));
    TRY(open_workers(&o, error));
    s->client.station.run = client_run;
    open_station(&o, &s->client.station, SIMULATION_THREAD_CLIENT, 0, 0);
    mark_free_threads(s);
    return client_open(s, error);
}

enum status simulation_create(const struct simulation_options *options,
                              const struct simulation_source *source,
                              const struct simulation_observer *observer, struct simulation **out,
                              struct error *error)
{
    ASSERT((source->next == NULL) != (source->next_of_user == NULL));
    struct simulation_options resolved = *options;
    TRY(simulation_options_resolve(&resolved, error));
    struct simulation *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return error_set(error, STATUS_NOMEM, "simulation: out of memory");
    }
    s->options = resolved;
    s->source = *source;
    s->observer = observer != NULL ? *observer : (struct simulation_observer){.ctx = NULL};
    s->level = simulation_options_level(&s->options, &s->source, &s->observer);
    enum status status = open_all(s, error);
    if (status != STATUS_OK) {
        simulation_destroy(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

static void destroy_engines(struct simulation *s)
{
    for (uint32_t i = 0; s->engines != NULL && i < s->options.engines_count; i++) {
        struct engine_thread *e = &s->engines[i];
        station_close(&e->input);
        station_close(&e->station);
        station_close(&e->output);
        arena_destroy(&e->arena);
        free(e->stages);
        free(e->sampled_by);
    }
    for (uint32_t i = 0; s->workers != NULL && i < s->workers_count; i++) {
        station_close(&s->workers[i].station);
        station_close(&s->workers[i].output);
        free(s->workers[i].queue_ends);
    }
    for (uint32_t i = 0; s->gpus != NULL && i < s->gpus_count; i++) {
        free(s->gpus[i].share.ops);
    }
}

void simulation_destroy(struct simulation *s)
{
    if (s == NULL) {
        return;
    }
    parcels_destroy(s);
    destroy_engines(s);
    for (uint32_t i = 0; s->apis != NULL && i < s->options.api_servers_count; i++) {
        api_destroy(&s->apis[i]);
    }
    if (s->coordinator != NULL) {
        coordinator_destroy(s->coordinator);
    }
    client_destroy(&s->client);
    scene_destroy(&s->scene);
    free(s->apis);
    free(s->coordinator);
    free(s->engines);
    free(s->workers);
    free(s->gpus);
    free(s->books);
    free(s->shown);
    free(s->zero_tokens);
    free(s->prompt);
    free(s);
}

/* ---- the run ---- */

bool simulation_done(const struct simulation *s)
{
    const struct client_thread *c = &s->client;
    return c->exhausted && c->pending_count == 0 && c->inflight == 0;
}

static enum status stalled(const struct simulation *s, struct error *error)
{
    return error_set(error, STATUS_PROTOCOL,
                     "simulation: %llu requests are open and nothing happens any more (at %.6f s)",
                     (unsigned long long)s->client.inflight,
                     (double)s->scene.now / (double)PS_PER_S);
}

enum status simulation_run(struct simulation *s, time_ps until, struct error *error)
{
    uint32_t entity;
    while (!simulation_done(s)) {
        time_ps at = event_queue_next(&s->scene.queue, &entity);
        if (at == TIME_NEVER) {
            return stalled(s, error);
        }
        if (at > until) {
            s->scene.now = until > s->scene.now ? until : s->scene.now;
            return STATUS_OK;
        }
        scene_step(&s->scene, until);
        if (s->error.status != STATUS_OK) {
            return error_set(error, s->error.status, "simulation: %s", s->error.text);
        }
        if (s->client.inflight == 0) {
            s->progress_at = at;
        } else if (at - s->progress_at > STALL) {
            return stalled(s, error);
        }
    }
    return STATUS_OK;
}

/* ---- what can be read ---- */

time_ps simulation_now(const struct simulation *s)
{
    return s->scene.now;
}

enum simulation_level simulation_level(const struct simulation *s)
{
    return s->level;
}

struct simulation_queue simulation_queue(const struct simulation *s, uint32_t engine)
{
    ASSERT(engine < s->options.engines_count);
    /* The books of the main threads stand behind each other. */
    const struct simulation_thread *books = s->engines[0].station.books + engine;
    return (struct simulation_queue){.running_count = books->running_now,
                                     .waiting_count = books->waiting_now};
}

uint32_t simulation_kv_blocks(const struct simulation *s)
{
    return s->options.engine.num_gpu_blocks;
}

/* The wait that the thread is in, as far as it has lasted, and what follows from the rest. */
static void show(const struct simulation *s, struct station *station,
                 struct simulation_thread *shown)
{
    struct simulation_thread *books = station->books;
    time_ps now = station->cursor > s->scene.now ? station->cursor : s->scene.now;
    time_ps ongoing = station->waiting ? now - station->wait_since : 0;
    if (station->wait_books != NULL && ongoing > 0) {
        *station->wait_books += ongoing;
    }
    *shown = *books;
    if (station->wait_books != NULL && ongoing > 0) {
        *station->wait_books -= ongoing;
    }
    bool on_core = station->core != CORE_NONE && s->scene.cores[station->core].spinning;
    if (station->waiting && station->spinning && ongoing > 0) {
        time_ps since = s->scene.cores_count == 0 ? station->wait_since : station->spin_since;
        shown->cpu += s->scene.cores_count == 0 || on_core ? now - since : 0;
    }
    time_ps waited = shown->idle + shown->sync_wait + shown->queue_full;
    shown->busy = now > waited ? now - waited : 0;
    time_ps launching = 0;
    for (uint32_t i = 0; i < SIMULATION_LAUNCHES_COUNT; i++) {
        launching += shown->launch[i];
    }
    shown->prepare = launching > 0 && shown->busy > launching ? shown->busy - launching : 0;
}

const struct simulation_thread *simulation_threads(struct simulation *s, uint32_t *count)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < s->options.engines_count; i++) {
        if (s->engines[i].tally != NULL) {
            engine_flow_pass(&s->engines[i], s->scene.now);
        }
    }
    for (uint32_t i = 0; i < s->scene.queue.count; i++) {
        if (s->scene.stations[i] != NULL) {
            show(s, s->scene.stations[i], &s->shown[next++]);
        }
    }
    *count = next;
    return s->shown;
}

struct simulation_totals simulation_totals(const struct simulation *s)
{
    struct simulation_totals totals = s->totals;
    totals.events_count = s->scene.events_count;
    totals.log_hash = s->scene.log_hash;
    return totals;
}

/* Everything came back. */
static const char *check_done(const struct simulation *s)
{
    for (uint32_t i = 0; i < s->options.engines_count; i++) {
        const struct engine_thread *e = &s->engines[i];
        if ((e->tally != NULL ? tally_unfinished(e->tally) : engine_core_unfinished(e->core)) > 0) {
            return "all requests have ended, but an engine core holds some";
        }
    }
    for (uint32_t i = 0; i < s->options.api_servers_count; i++) {
        if (frontend_open(s->apis[i].frontend) > 0) {
            return "all requests have ended, but an API server waits for some";
        }
    }
    return NULL;
}

const char *simulation_check(const struct simulation *s)
{
    const char *broken =
        s->coordinator != NULL ? coordinator_check(s->coordinator->coordinator) : NULL;
    for (uint32_t i = 0; broken == NULL && i < s->options.engines_count; i++) {
        const struct engine_thread *e = &s->engines[i];
        broken = e->tally != NULL ? tally_check(e->tally) : engine_core_check(e->core);
    }
    for (uint32_t i = 0; broken == NULL && i < s->options.api_servers_count; i++) {
        /* Between the slices of a message its books are not closed. */
        if (s->apis[i].message == NULL) {
            broken = frontend_check(s->apis[i].frontend);
        }
    }
    if (broken == NULL && s->totals.sent_count - s->totals.ended_count != s->client.inflight) {
        broken = "requests were lost";
    }
    return broken == NULL && simulation_done(s) ? check_done(s) : broken;
}
