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
    ACTOR_FAULT,
    ACTOR_NONE,
};

static void consider(time_ps at, uint32_t actor, time_ps *best_at, uint32_t *best)
{
    if (at < *best_at) {
        *best_at = at;
        *best = actor;
    }
}

/* A process that is stopped goes on when it is let. */
static time_ps thawed(const struct protocol *d, uint32_t process, time_ps at)
{
    return at > d->frozen_until[process] ? at : d->frozen_until[process];
}

static uint32_t next_actor(const struct protocol *d, time_ps *at)
{
    uint32_t best = ACTOR_NONE;
    *at = TIME_NEVER;
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        consider(thawed(d, e, protocol_rank_next(d, e)), e, at, &best);
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        uint32_t process = process_of_client(c);
        consider(thawed(d, process, protocol_client_next(d, c)), process, at, &best);
    }
    consider(thawed(d, PROCESS_COORDINATOR, protocol_coordinator_next(d)), PROCESS_COORDINATOR, at,
             &best);
    consider(thawed(d, PROCESS_LAUNCHER, protocol_launcher_next(d)), PROCESS_LAUNCHER, at, &best);
    consider(protocol_fault_next(d), ACTOR_FAULT, at, &best);
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
    case ACTOR_FAULT:
        return protocol_fault_run(d);
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

static enum status prepare(struct protocol *d, const struct protocol_plan *plan,
                           struct error *error)
{
    protocol_draw_topology(d);
    protocol_draw_workload(d);
    protocol_draw_startup(d);
    if (plan != NULL) {
        d->plan = *plan;
    } else {
        protocol_draw_plan(d);
    }
    struct protocol_report *out = d->report;
    out->plan = d->plan;
    out->parts = protocol_parts(d);
    TRY(protocol_apply_plan(d, error));
    protocol_begin_life(d);
    out->lockstep = d->lockstep;
    out->ranks_count = d->ranks_count;
    out->clients_count = d->clients_count;
    for (uint32_t i = 0; i < d->requests_count; i++) {
        out->requests |= d->requests[i].left_out ? 0 : 1U << i;
    }
    return create(d, error);
}

static enum status run(uint64_t seed, const struct protocol_plan *plan, bool traced,
                       struct protocol_report *out, struct error *error)
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
    enum status status = prepare(d, plan, error);
    if (status == STATUS_OK) {
        bool good = drive(d);
        out->end_us = (uint32_t)(d->now / PS_PER_US + 1);
        if (!good || traced) {
            protocol_write_trace(d);
        }
        if (!good) {
            status = error_set(error, STATUS_PROTOCOL, "seed %lu, event %lu, %s: %s",
                               (unsigned long)seed, (unsigned long)out->events_count,
                               out->invariant, d->failure);
        }
    }
    arena_destroy(&d->arena);
    free(d);
    return status;
}

enum status protocol_driver_run(uint64_t seed, struct protocol_report *out, struct error *error)
{
    return run(seed, NULL, false, out, error);
}

enum status protocol_driver_replay(uint64_t seed, const struct protocol_plan *plan,
                                   struct protocol_report *out, struct error *error)
{
    return run(seed, plan, true, out, error);
}
