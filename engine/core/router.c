/*
 * router.c - the load-balancing rule of one API server: published loads, own exact in-flight
 * counts, and an optimistic addition for each request placed since the last publish. Driven by
 * frontend.c and by nothing else that shares its state. It must not look at a clock or at the
 * contents of a request: equal calls give equal choices.
 */
#include "engine/core/router.h"

#include "engine/base/status.h"

enum {
    WAITING_WEIGHT = 4 /* of the weighted sums */
};
static const double kv_penalty_weight = 6.0;
static const double kv_penalty_from = 0.5;

size_t router_arena_bytes(uint32_t engines_count)
{
    return ARENA_BYTES(engines_count, struct engine_counts) + ARENA_BYTES(engines_count, uint32_t);
}

void router_init(struct router *r, struct arena *arena, uint32_t engines_count,
                 uint32_t client_index, uint32_t client_count)
{
    ASSERT(engines_count > 0);
    ASSERT(client_index < client_count);
    *r = (struct router){
        .counts = ARENA_NEW(arena, struct engine_counts, engines_count),
        .inflight = ARENA_NEW(arena, uint32_t, engines_count),
        .engines_count = engines_count,
        .client_count = client_count,
        /* Clients begin at places spread over the engines, so that their first ties fall apart. */
        .start = (uint32_t)((uint64_t)engines_count * client_index / client_count),
    };
}

void router_set_rule(struct router *r, enum router_rule rule)
{
    r->rule = rule;
}

static double default_score(const struct router *r, uint32_t engine)
{
    const struct engine_counts *counts = &r->counts[engine];
    uint64_t own = (uint64_t)r->client_count * r->inflight[engine];
    uint64_t published = (uint64_t)counts->waiting + counts->running;
    double value = (double)(own > published ? own : published);
    /* Written so that a usage which is not a number counts as no pressure. */
    if (counts->waiting > 0 && counts->kv_usage > kv_penalty_from) {
        value += kv_penalty_weight * counts->waiting * (counts->kv_usage - kv_penalty_from);
    }
    return value;
}

static double score(const struct router *r, uint32_t engine)
{
    const struct engine_counts *counts = &r->counts[engine];
    uint64_t published = (uint64_t)counts->waiting + counts->running;
    switch (r->rule) {
    case ROUTER_SCORE:
        break;
    case ROUTER_WEIGHTED_SUM:
    case ROUTER_WEIGHTED_SUM_FIXED_START:
        return (double)((uint64_t)WAITING_WEIGHT * counts->waiting + counts->running);
    case ROUTER_RUST:
        return (double)(r->inflight[engine] > published ? r->inflight[engine] : published);
    case ROUTER_ROUND_ROBIN:
        return 0.0;
    }
    return default_score(r, engine);
}

/* The first engine with the lowest score, from `start` on; all scores are equal in a round robin.
 */
static uint32_t lowest_score(const struct router *r, uint32_t start)
{
    uint32_t best = start;
    if (r->rule == ROUTER_ROUND_ROBIN) {
        return best;
    }
    double best_score = score(r, best);
    for (uint32_t k = 1; k < r->engines_count; k++) {
        uint32_t engine = (start + k) % r->engines_count;
        double engine_score = score(r, engine);
        if (engine_score < best_score) {
            best = engine;
            best_score = engine_score;
        }
    }
    return best;
}

uint32_t router_choose(struct router *r, int32_t rank)
{
    uint32_t engine;
    if (rank == RANK_NONE && r->rule == ROUTER_RUST) {
        engine = lowest_score(r, 0);
    } else if (rank == RANK_NONE) {
        engine = lowest_score(r, r->start);
        r->counts[engine].waiting += r->client_count;
        if (r->rule != ROUTER_WEIGHTED_SUM_FIXED_START) {
            r->start = (r->start + 1) % r->engines_count;
        }
    } else {
        ASSERT(rank >= 0 && (uint32_t)rank < r->engines_count);
        engine = (uint32_t)rank;
    }
    r->inflight[engine]++;
    return engine;
}

void router_finished(struct router *r, uint32_t engine)
{
    ASSERT(engine < r->engines_count);
    ASSERT(r->inflight[engine] > 0);
    r->inflight[engine]--;
}

void router_publish(struct router *r, const struct engine_counts *counts, uint32_t count)
{
    if (r->rule == ROUTER_RUST) {
        return;
    }
    /* A list of another length comes from a peer: what fits is taken. */
    uint32_t known = count < r->engines_count ? count : r->engines_count;
    for (uint32_t i = 0; i < known; i++) {
        r->counts[i] = counts[i];
    }
}

void router_stats(struct router *r, uint32_t engine, const struct scheduler_stats *stats)
{
    if (r->rule != ROUTER_RUST || engine >= r->engines_count) {
        return;
    }
    r->counts[engine] = (struct engine_counts){
        .waiting = stats->waiting_count,
        .running = stats->running_count,
        .kv_usage = stats->kv_cache_usage,
    };
}
