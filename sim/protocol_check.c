/*
 * protocol_check.c - the invariants that can be told from looking at the objects after an event,
 * and those of moments at which nothing is left to happen. Driven by the other protocol_*.c.
 */
#include "sim/protocol_model.h"

static uint32_t wave_of(const struct protocol *d, uint32_t rank)
{
    return engine_core_wave(d->ranks[rank].engine)->current_wave;
}

static uint32_t highest_wave(const struct protocol *d)
{
    uint32_t wave = 0;
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        wave = wave_of(d, e) > wave ? wave_of(d, e) : wave;
    }
    return wave;
}

bool protocol_check_rank(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    const char *broken = wave_check(engine_core_wave(r->engine));
    PROTOCOL_REQUIRE(d, "I4", broken == NULL, "rank %u: %s", rank, broken);
    if (!d->lockstep) {
        return true;
    }
    bool running = engine_core_wave(r->engine)->engines_running;
    PROTOCOL_REQUIRE(d, "I3", wave_of(d, rank) >= r->last_wave, "rank %u goes back to wave %u",
                     rank, wave_of(d, rank));
    PROTOCOL_REQUIRE(d, "I4", running || !r->last_running,
                     "rank %u goes idle without a check in wave %u", rank, wave_of(d, rank));
    r->last_wave = wave_of(d, rank);
    r->last_running = running;
    return true;
}

bool protocol_check_engine(struct protocol *d, uint32_t rank)
{
    const char *broken = engine_core_check(d->ranks[rank].engine);
    PROTOCOL_REQUIRE(d, "I8", broken == NULL, "rank %u: %s", rank, broken);
    return true;
}

bool protocol_check_client(struct protocol *d, uint32_t client)
{
    struct protocol_client *c = &d->clients[client];
    const char *broken = frontend_check(c->frontend);
    PROTOCOL_REQUIRE(d, "I7", broken == NULL, "client %u: %s", client, broken);
    const struct router *router = frontend_router(c->frontend);
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        PROTOCOL_REQUIRE(d, "I7", router->inflight[e] == c->inflight[e],
                         "client %u books %u requests in flight at engine %u, there are %u", client,
                         router->inflight[e], e, c->inflight[e]);
        bool known = router->counts[e].waiting == c->counts[e].waiting &&
                     router->counts[e].running == c->counts[e].running;
        PROTOCOL_REQUIRE(d, "I9", known || d->router_rule == ROUTER_ROUND_ROBIN,
                         "client %u knows %u waiting %u running at engine %u, was told %u and %u",
                         client, router->counts[e].waiting, router->counts[e].running, e,
                         c->counts[e].waiting, c->counts[e].running);
    }
    uint32_t wave = frontend_current_wave(c->frontend);
    PROTOCOL_REQUIRE(d, "I3", wave >= c->last_wave && wave <= d->model.wave,
                     "client %u goes from wave %u to %u, the coordinator is at %u", client,
                     c->last_wave, wave, d->model.wave);
    c->last_wave = wave;
    return true;
}

bool protocol_check_coordinator(struct protocol *d)
{
    const char *broken = coordinator_check(d->coordinator);
    PROTOCOL_REQUIRE(d, "core", broken == NULL, "%s", broken);
    uint32_t wave = coordinator_current_wave(d->coordinator);
    bool running = coordinator_engines_running(d->coordinator);
    PROTOCOL_REQUIRE(d, d->lockstep ? "I5" : "I12", running == d->model.running,
                     "the coordinator believes running %d, evidence says %d", running,
                     d->model.running);
    PROTOCOL_REQUIRE(d, "I3", wave == d->model.wave, "the coordinator is at wave %u, want %u", wave,
                     d->model.wave);
    PROTOCOL_REQUIRE(d, "I3", wave <= highest_wave(d),
                     "the coordinator is at wave %u, no rank is beyond %u", wave, highest_wave(d));
    bool evidence = d->model.start_told || !d->coordinator_options.believe_engines_only;
    PROTOCOL_REQUIRE(d, "I5", !running || evidence, "running without a word of a rank");
    return true;
}

/* ---- nothing is left to happen ---- */

bool protocol_is_quiet(const struct protocol *d)
{
    if (d->live_messages > 0 || !d->ready_sent) {
        return false;
    }
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        if (d->ranks[e].wait == RANK_RUNNABLE) {
            return false;
        }
    }
    return true;
}

static bool check_idle(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    PROTOCOL_REQUIRE(d, "I2", r->wait == RANK_IDLE, "rank %u waits for ever in %s, wave %u step %u",
                     rank, r->wait == RANK_IN_FORWARD ? "a forward" : "an all-reduce",
                     wave_of(d, rank), r->wave_steps);
    bool paused = d->admin == ADMIN_PAUSED;
    PROTOCOL_REQUIRE(d, "I1", paused || r->held_count == 0, "rank %u sleeps with %u requests", rank,
                     r->held_count);
    PROTOCOL_REQUIRE(d, "I7", engine_core_unfinished(r->engine) == r->held_count,
                     "rank %u counts %u requests, it holds %u", rank,
                     engine_core_unfinished(r->engine), r->held_count);
    PROTOCOL_REQUIRE(d, "I7", paused || !r->usage_left, "rank %u is empty and uses blocks", rank);
    PROTOCOL_REQUIRE(d, "I3",
                     !d->lockstep || wave_of(d, rank) == coordinator_current_wave(d->coordinator),
                     "rank %u is at wave %u, the coordinator at %u", rank, wave_of(d, rank),
                     coordinator_current_wave(d->coordinator));
    return true;
}

/* After two publishes, as the first may still be of a step boundary. */
static bool check_agreement(struct protocol *d, uint32_t client)
{
    const struct protocol_client *c = &d->clients[client];
    if (d->quiet_publishes < 2 || c->subscribe_at > d->last_publish ||
        c->lost_until > d->last_publish) {
        return true;
    }
    const struct frontend *f = c->frontend;
    PROTOCOL_REQUIRE(d, "I3",
                     frontend_current_wave(f) == coordinator_current_wave(d->coordinator) &&
                         !frontend_engines_running(f),
                     "client %u believes wave %u, running %d", client, frontend_current_wave(f),
                     frontend_engines_running(f));
    if (d->admin != ADMIN_NONE || d->router_rule == ROUTER_RUST) {
        return true;
    }
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        const struct engine_counts *counts = &frontend_router(f)->counts[e];
        PROTOCOL_REQUIRE(d, "I11", counts->waiting + counts->running == 0,
                         "client %u still knows of %u waiting, %u running at engine %u", client,
                         counts->waiting, counts->running, e);
    }
    return true;
}

static bool check_deadline(struct protocol *d)
{
    const struct coordinator_options *o = &d->coordinator_options;
    time_ps since =
        d->last_publish > d->last_coordinator_input ? d->last_publish : d->last_coordinator_input;
    time_ps wait = d->model.changed ? o->publish_interval : o->heartbeat_interval;
    PROTOCOL_REQUIRE(d, "I3",
                     coordinator_deadline(d->coordinator) <= since + wait + o->settle_interval,
                     "clients that missed something are not told again in time");
    return true;
}

bool protocol_check_quiet(struct protocol *d)
{
    d->report->quiet_count++;
    PROTOCOL_EVENT(d, QUIET, d->quiet_publishes, coordinator_current_wave(d->coordinator));
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        if (!check_idle(d, e)) {
            return false;
        }
    }
    PROTOCOL_REQUIRE(d, "I4", d->admin == ADMIN_NONE || d->admin == ADMIN_PAUSED,
                     "%u calls to pause or resume are never answered", d->replies_wanted);
    PROTOCOL_REQUIRE(d, "I5", !coordinator_engines_running(d->coordinator),
                     "the coordinator believes that idle ranks run wave %u",
                     coordinator_current_wave(d->coordinator));
    for (uint32_t c = 0; c < d->clients_count; c++) {
        if (!protocol_client_take(d, c) || !check_agreement(d, c)) {
            return false;
        }
        uint32_t held = 0;
        for (uint32_t i = 0; i < d->requests_count; i++) {
            held += d->requests[i].client == c && d->requests[i].held;
        }
        /* A paused engine core reports what was aborted when it steps again. */
        PROTOCOL_REQUIRE(
            d, "I7", d->admin == ADMIN_PAUSED || frontend_inflight(d->clients[c].frontend) == held,
            "client %u has %u requests in flight, engine cores hold %u", c,
            frontend_inflight(d->clients[c].frontend), held);
    }
    return check_deadline(d);
}

bool protocol_check_end(struct protocol *d)
{
    for (uint32_t i = 0; i < d->requests_count; i++) {
        const struct protocol_request *q = &d->requests[i];
        if (q->left_out) {
            continue;
        }
        PROTOCOL_REQUIRE(d, "I1", q->delta_finished || q->cancelled, "%s never ended", q->id);
        PROTOCOL_REQUIRE(d, "I7", q->id_back, "the end of %s was never reported", q->id);
        PROTOCOL_REQUIRE(d, "I1", q->last_seen || q->abort_seen,
                         "%s was neither finished nor aborted", q->id);
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        PROTOCOL_REQUIRE(d, "I7",
                         frontend_inflight(d->clients[c].frontend) == 0 &&
                             frontend_open(d->clients[c].frontend) == 0,
                         "client %u did not drain", c);
    }
    return true;
}
