/*
 * station.c - owns threads under the virtual clock: letters, waits, occupancy, and who has a core.
 * Driven by simulation.c and by the threads' own segments. Must not know what a thread does.
 *
 * Cores: a segment holds its core to its end. Threads without one stand in a queue, first come
 * first served; a spinning thread gives its core to whoever needs it (it yields in its loop) and
 * takes one again when what it waits for is there.
 */
#include "sim/station.h"

#include <stdlib.h>
#include <string.h>

enum {
    INBOX_FIRST_CAPACITY = 16
};

/* ---- letters ---- */

static void inbox_grow(struct inbox *b)
{
    uint32_t capacity = b->capacity == 0 ? INBOX_FIRST_CAPACITY : 2 * b->capacity;
    struct letter *letters = malloc(capacity * sizeof *letters);
    ASSERT(letters != NULL);
    for (uint32_t i = 0; i < b->count; i++) {
        letters[i] = b->letters[(b->first + i) & (b->capacity - 1)];
    }
    free(b->letters);
    b->letters = letters;
    b->capacity = capacity;
    b->first = 0;
}

static bool later(const struct letter *a, const struct letter *b)
{
    return a->at > b->at || (a->at == b->at && a->from > b->from);
}

static void inbox_put(struct inbox *b, const struct letter *letter)
{
    if (b->count == 0) {
        b->first = 0; /* an inbox that is emptied in between stays in one cache line */
    } else if (b->count == b->capacity) {
        inbox_grow(b);
    }
    uint32_t mask = b->capacity - 1;
    uint32_t place = b->first + b->count;
    while (place != b->first && later(&b->letters[(place - 1) & mask], letter)) {
        b->letters[place & mask] = b->letters[(place - 1) & mask];
        place--;
    }
    b->letters[place & mask] = *letter;
    b->count++;
}

/* ---- occupancy ---- */

static void rest(struct station *s)
{
    if (s->interpreter != NULL && !s->resting) {
        s->resting = true;
        s->interpreter->awake_count--;
    }
}

static void awake(struct station *s)
{
    if (s->resting) {
        s->resting = false;
        s->interpreter->awake_count++;
    }
}

/* It blocked, and runs again at `now`. */
static void wake(struct station *s, time_ps now)
{
    struct interpreter *i = s->interpreter;
    s->busy_until = s->busy_until > now ? s->busy_until : now;
    if (i == NULL) {
        return;
    }
    awake(s);
    if (i->awake_count == 1 && i->busy_until < now) {
        i->busy_until = now;
    }
}

void station_occupy(struct station *s, time_ps cost)
{
    s->books->occupancy += cost;
    if (s->interpreter == NULL) {
        s->busy_until += cost;
        return;
    }
    awake(s);
    time_ps waited = s->interpreter->busy_until - s->busy_until; /* for the turns of others */
    s->interpreter->busy_until += cost;
    s->busy_until = s->interpreter->busy_until;
    s->books->lock_held += cost;
    s->books->lock_wait += waited > 0 ? waited : 0;
}

/* ---- waits ---- */

static time_ps latency(const struct station *s)
{
    if (s->books_waits) {
        return 0;
    }
    return s->spinning ? s->scene->costs->poll : s->scene->costs->wake;
}

/* What the thread waits for is there at `at`: when it runs on. */
static time_ps wait_end(const struct station *s, time_ps at)
{
    return at <= s->wait_since ? s->wait_since : at + latency(s);
}

static time_ps earliest_letter(const struct station *s)
{
    time_ps earliest = TIME_NEVER;
    uint32_t all = s->letters_count > 0 ? s->wait_mask : 0;
    for (uint32_t mask = all; mask != 0; mask &= mask - 1) {
        const struct inbox *b = &s->inboxes[__builtin_ctz(mask)];
        if (b->count > 0) {
            time_ps at = b->letters[b->first & (b->capacity - 1)].at;
            earliest = at < earliest ? at : earliest;
        }
    }
    return earliest;
}

void station_wait(struct station *s, uint32_t inboxes_mask, time_ps *books)
{
    s->waiting = true;
    s->spinning = false;
    s->timed = false;
    s->wait_mask = inboxes_mask;
    s->wait_books = books;
    s->wait_since = s->cursor;
    s->wait_until = TIME_NEVER;
    s->rest_min = 0;
}

void station_wait_until(struct station *s, time_ps until)
{
    const struct simulation_costs *costs = s->scene->costs;
    s->timed = true;
    s->wait_until = s->wait_since;
    if (until > s->wait_since) {
        s->wait_until = until + (s->spinning ? costs->poll : costs->sleep_late);
    }
}

void station_release(struct station *s, time_ps at)
{
    s->wait_until = wait_end(s, at);
    if (!s->queued) {
        event_queue_set(&s->scene->queue, s->entity, s->wait_until);
    }
}

/* When the wait ends, as things stand. */
static time_ps wait_time(const struct station *s)
{
    time_ps at = earliest_letter(s);
    time_ps end = at == TIME_NEVER ? TIME_NEVER : wait_end(s, at);
    return end < s->wait_until ? end : s->wait_until;
}

/* The wait is over at `now`. */
static void end_wait(struct station *s, time_ps now)
{
    const struct simulation_costs *costs = s->scene->costs;
    time_ps ready = s->scene->cores_count > 0 ? s->runnable_since : now;
    s->waiting = false;
    if (s->books_waits) {
        return;
    }
    s->waited = ready > s->wait_since ? now - s->wait_since : 0;
    if (s->waited == 0) {
        return; /* it did not block; to be without a core is no wait of its own */
    }
    if (s->wait_books != NULL) {
        *s->wait_books += s->waited;
    }
    if (!s->spinning) {
        station_work(s, s->timed ? costs->sleep_cpu : costs->wake_cpu);
    } else if (s->scene->cores_count == 0) {
        s->books->cpu += s->waited;
    }
    if (s->waited > s->rest_min) {
        wake(s, now);
    }
}

/* ---- segments ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
    return hash ^ hash >> 29;
}

/* One segment, beginning at `now`, on a core. */
static void run_segment(struct station *s, time_ps now)
{
    struct scene *scene = s->scene;
    s->now = now;
    s->cursor = now;
    if (s->waiting) {
        end_wait(s, now);
    }
    s->private_next = false;
    s->next_at = now;
    uint64_t what = (uint64_t)s->entity << 8 | s->phase;
    s->books->turns_count++;
    s->run(s);
    if (s->waiting) {
        rest(s);
    }
    scene->events_count++;
    scene->log_hash = mix(mix(scene->log_hash, (uint64_t)now), what ^ (uint64_t)s->cursor << 24);
}

static time_ps next_time(const struct station *s)
{
    return s->waiting ? wait_time(s) : s->next_at;
}

/* As many cores as threads: all segments until one depends on what others do. */
static void run_free(struct station *s, time_ps now)
{
    run_segment(s, now);
    while (!s->waiting && s->private_next) {
        run_segment(s, s->next_at);
    }
}

/* A thread that only `from` feeds works its letters off, ahead of the clock. */
static void run_ahead(struct station *s)
{
    for (time_ps at = next_time(s); at != TIME_NEVER; at = next_time(s)) {
        run_free(s, at);
    }
}

void station_send(struct station *to, uint32_t inbox, const struct letter *letter)
{
    inbox_put(&to->inboxes[inbox], letter);
    to->letters_count++;
    if (!to->waiting || to->queued || (to->wait_mask >> inbox & 1U) == 0) {
        return;
    }
    if (to->in_line) {
        run_ahead(to);
        return;
    }
    time_ps end = wait_end(to, letter->at);
    if (end < event_queue_of(&to->scene->queue, to->entity)) {
        event_queue_set(&to->scene->queue, to->entity, end);
    }
}

/* ---- cores ---- */

static void set_cores_time(struct scene *scene)
{
    time_ps next = TIME_NEVER;
    for (uint32_t i = 0; i < scene->cores_count; i++) {
        const struct core *c = &scene->cores[i];
        if (c->holder != NULL && !c->spinning && c->until < next) {
            next = c->until;
        }
    }
    event_queue_set(&scene->queue, SCENE_CORES_ENTITY, next);
}

static void take_core(struct station *s, uint32_t index, time_ps now)
{
    struct core *c = &s->scene->cores[index];
    if (c->spinning) {
        c->holder->books->cpu += now - c->holder->spin_since;
        c->holder->core = CORE_NONE;
        c->holder->displaced = true;
        s->scene->displaced_count++;
    }
    s->scene->displaced_count -= s->displaced ? 1 : 0;
    s->displaced = false;
    c->spinning = false;
    c->holder = s;
    s->core = (int32_t)index;
}

/* Its last core, or a free one, or a spinning thread's; none: CORE_NONE. */
static int32_t find_core(const struct station *s)
{
    const struct scene *scene = s->scene;
    int32_t spinning = CORE_NONE;
    int32_t free_core = CORE_NONE;
    for (uint32_t i = 0; i < scene->cores_count; i++) {
        const struct core *c = &scene->cores[i];
        if (c->holder == NULL && (free_core == CORE_NONE || c->last == s)) {
            free_core = (int32_t)i;
        }
        if (c->spinning && spinning == CORE_NONE) {
            spinning = (int32_t)i;
        }
    }
    return free_core != CORE_NONE ? free_core : spinning;
}

/* A segment on the core that it has. */
static void run_on_core(struct station *s, time_ps now)
{
    struct core *c = &s->scene->cores[s->core];
    if (c->spinning) {
        c->spinning = false;
        s->books->cpu += now - s->spin_since;
    }
    if (c->last != s) {
        c->last = s;
        s->books->cpu += s->scene->costs->context_switch;
        now += s->scene->costs->context_switch;
    }
    run_segment(s, now);
    c->until = s->cursor;
    event_queue_set(&s->scene->queue, s->entity, next_time(s));
    set_cores_time(s->scene);
}

static void enqueue(struct station *s)
{
    s->queued = true;
    s->next_runnable = NULL;
    *s->scene->runnable_last = s;
    s->scene->runnable_last = &s->next_runnable;
    event_queue_set(&s->scene->queue, s->entity, TIME_NEVER);
}

/* Threads that waited for a core, as far as there are some. */
static void serve_runnable(struct scene *scene, time_ps now)
{
    while (scene->runnable != NULL) {
        struct station *s = scene->runnable;
        int32_t index = find_core(s);
        if (index == CORE_NONE) {
            return;
        }
        scene->runnable = s->next_runnable;
        if (scene->runnable == NULL) {
            scene->runnable_last = &scene->runnable;
        }
        s->queued = false;
        s->books->cpu_wait += now - s->runnable_since;
        take_core(s, (uint32_t)index, now);
        run_on_core(s, now);
    }
}

/* A spinning thread that had to give up its core takes one that nobody else wants. */
static void serve_displaced(struct scene *scene, time_ps now)
{
    uint32_t entity = 0;
    for (uint32_t i = 0; i < scene->cores_count; i++) {
        struct core *c = &scene->cores[i];
        while (c->holder == NULL && scene->displaced_count > 0) {
            struct station *s = scene->stations[++entity];
            if (s != NULL && s->displaced) {
                take_core(s, i, now);
                c->spinning = true;
                s->spin_since = now;
            }
        }
    }
}

static void cores_event(struct scene *scene, time_ps now)
{
    for (uint32_t i = 0; i < scene->cores_count; i++) {
        struct core *c = &scene->cores[i];
        if (c->holder == NULL || c->spinning || c->until > now) {
            continue;
        }
        if (c->holder->waiting && c->holder->spinning) {
            c->spinning = true;
            c->holder->spin_since = now;
            continue;
        }
        c->holder->core = CORE_NONE;
        c->holder = NULL;
    }
    serve_runnable(scene, now);
    serve_displaced(scene, now);
    set_cores_time(scene);
}

static void run_limited(struct station *s, time_ps now)
{
    s->runnable_since = now;
    if (s->core == CORE_NONE) {
        int32_t index = s->scene->runnable == NULL ? find_core(s) : CORE_NONE;
        if (index == CORE_NONE) {
            enqueue(s);
            return;
        }
        take_core(s, (uint32_t)index, now);
    }
    run_on_core(s, now);
}

/* ---- scene ---- */

enum status scene_create(uint32_t entities_count, uint32_t cores_count,
                         const struct simulation_costs *costs, struct scene *out,
                         struct error *error)
{
    *out = (struct scene){.costs = costs, .cores_count = cores_count};
    out->runnable_last = &out->runnable;
    TRY(event_queue_create(entities_count, &out->queue, error));
    out->stations = calloc(entities_count, sizeof(struct station *));
    out->cores = calloc(cores_count > 0 ? cores_count : 1, sizeof *out->cores);
    if (out->stations == NULL || out->cores == NULL) {
        return error_set(error, STATUS_NOMEM, "simulation: no memory for %u threads",
                         entities_count);
    }
    return STATUS_OK;
}

void scene_destroy(struct scene *scene)
{
    event_queue_destroy(&scene->queue);
    free(scene->stations);
    free(scene->cores);
}

void scene_step(struct scene *scene, time_ps until)
{
    uint32_t entity;
    time_ps at = event_queue_next(&scene->queue, &entity);
    ASSERT(at >= scene->now && at != TIME_NEVER);
    if (entity == SCENE_CORES_ENTITY) {
        scene->now = at;
        cores_event(scene, at);
        return;
    }
    struct station *s = scene->stations[entity];
    if (scene->cores_count > 0) {
        scene->now = at;
        run_limited(s, at);
        return;
    }
    do {
        bool last = at > scene->now || entity > scene->latest_entity;
        scene->latest_entity = last ? entity : scene->latest_entity;
        scene->now = at;
        run_free(s, at);
        at = next_time(s);
    } while (at <= until && event_queue_stays(&scene->queue, entity, at));
    event_queue_set(&scene->queue, entity, at);
}

void station_open(struct scene *scene, struct station *s, uint32_t entity)
{
    s->scene = scene;
    s->entity = entity;
    s->core = CORE_NONE;
    scene->stations[entity] = s;
    for (uint32_t i = 0; i < INBOXES_MAX; i++) {
        inbox_grow(&s->inboxes[i]);
    }
    if (s->interpreter != NULL) {
        s->interpreter->awake_count++;
    }
    station_wait(s, (1U << INBOXES_MAX) - 1, &s->books->idle);
    rest(s);
}

void station_close(struct station *s)
{
    for (uint32_t i = 0; i < INBOXES_MAX; i++) {
        free(s->inboxes[i].letters);
    }
}
