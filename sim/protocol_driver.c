/*
 * protocol_driver.c - the event loop of protocol_driver.h: the actor whose time comes first runs.
 * Ties go to the lower number, so that equal seeds repeat.
 */
#include "sim/protocol_driver.h"

#include <stdlib.h>
#include <string.h>

#include "sim/protocol_model.h"

/* Actors that are no processes. */
enum {
    ACTOR_WORKLOAD = PROTOCOL_PROCESSES_MAX,
    ACTOR_STOP,
    ACTOR_NONE,
};

static void consider(time_ps at, uint32_t actor, time_ps *best_at, uint32_t *best)
{
    if (at < *best_at) {
        *best_at = at;
        *best = actor;
    }
}

static uint32_t next_actor(const struct protocol *d, time_ps *at)
{
    uint32_t best = ACTOR_NONE;
    *at = TIME_NEVER;
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        consider(protocol_rank_next(d, e), e, at, &best);
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        consider(protocol_client_next(d, c), process_of_client(c), at, &best);
    }
    consider(protocol_coordinator_next(d), PROCESS_COORDINATOR, at, &best);
    consider(protocol_launcher_next(d), PROCESS_LAUNCHER, at, &best);
    consider(protocol_item_next(d), ACTOR_WORKLOAD, at, &best);
    if (d->stopping) {
        consider(protocol_stop_next(d), ACTOR_STOP, at, &best);
    }
    return best;
}

static bool run_actor(struct protocol *d, uint32_t actor)
{
    if (actor < PROTOCOL_RANKS_MAX) {
        d->quiet_publishes = 0;
        return protocol_rank_run(d, actor);
    }
    if (actor < PROCESS_COORDINATOR) {
        return protocol_client_run(d, actor - PROTOCOL_RANKS_MAX);
    }
    switch (actor) {
    case PROCESS_COORDINATOR:
        return protocol_coordinator_run(d);
    case PROCESS_LAUNCHER:
        return protocol_launcher_run(d);
    case ACTOR_WORKLOAD:
        d->quiet_publishes = 0;
        return protocol_item_run(d);
    case ACTOR_STOP:
        return protocol_stop_run(d);
    default:
        return protocol_fail(d, d->launcher.serving ? "I1" : "I10", "nothing can happen any more");
    }
}

static bool drive(struct protocol *d)
{
    for (uint32_t events = 0; events < PROTOCOL_EVENTS_MAX; events++) {
        d->report->events_count = events;
        if (d->stopping && protocol_all_dead(d)) {
            return protocol_check_stopped(d);
        }
        if (events == d->death_event && !d->stopping) {
            protocol_die(d);
        }
        if (!d->stopping && protocol_is_quiet(d)) {
            if (!protocol_check_quiet(d)) {
                return false;
            }
            if (d->next_item == d->items_count && d->quiet_publishes >= 2) {
                return protocol_check_end(d);
            }
        }
        time_ps at;
        uint32_t actor = next_actor(d, &at);
        d->now = at > d->now ? at : d->now;
        if (!run_actor(d, actor)) {
            return false;
        }
    }
    return protocol_fail(d, "I1", "no end after %d events", PROTOCOL_EVENTS_MAX);
}

/* ---- set-up ---- */

static size_t arena_bytes(const struct protocol *d, const struct frontend_options *frontend)
{
    return d->ranks_count * engine_core_arena_bytes(&d->engine_options) +
           d->clients_count * frontend_arena_bytes(frontend) +
           coordinator_arena_bytes(&d->coordinator_options) +
           startup_arena_bytes(&d->launcher.options);
}

static enum status create(struct protocol *d, struct error *error)
{
    struct frontend_options frontend = {
        .client_count = d->clients_count,
        .engines_count = d->ranks_count,
        .requests_max = PROTOCOL_REQUESTS_MAX,
        .max_model_len = PROTOCOL_MODEL_LEN,
        .router_rule = d->router_rule,
    };
    TRY(arena_create(arena_bytes(d, &frontend), &d->arena, error));
    d->launcher.barrier = startup_create(&d->arena, &d->launcher.options);
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        d->engine_options.engine_index = e;
        TRY(engine_core_create(&d->arena, &d->engine_options, &d->ranks[e].engine, error));
        d->ranks[e].complete_due = -1;
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        frontend.client_index = c;
        TRY(frontend_create(&d->arena, &frontend, &d->clients[c].frontend, error));
        d->clients[c].burst_clean = true;
        d->clients[c].start = d->ranks_count * c / d->clients_count;
    }
    d->model.last_wave = -1;
    d->model.last_step = -1;
    return coordinator_create(&d->arena, &d->coordinator_options, &d->coordinator, error);
}

enum status protocol_driver_run(uint64_t seed, struct protocol_report *out, struct error *error)
{
    struct protocol *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return error_set(error, STATUS_NOMEM, "protocol driver: out of memory");
    }

    memset(out, 0, offsetof(struct protocol_report, trace) + 1);
    d->seed = seed;
    d->report = out;
    d->config = random_stream(seed, "protocol-config", 0);
    d->events = random_stream(seed, "protocol-events", 0);
    protocol_draw_topology(d);
    protocol_draw_workload(d);
    protocol_draw_startup(d);
    protocol_draw_death(d);
    out->lockstep = d->lockstep;
    enum status status = create(d, error);
    if (status == STATUS_OK) {
        if (!drive(d)) {
            protocol_write_trace(d);
            status = error_set(error, STATUS_PROTOCOL, "seed %lu, event %lu, %s: %s",
                               (unsigned long)seed, (unsigned long)out->events_count,
                               out->invariant, d->failure);
        }
    }
    arena_destroy(&d->arena);
    free(d);
    return status;
}
