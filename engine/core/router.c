/*
 * router.c - the load-balancing rule of one API server: published loads, own exact in-flight
 * counts, and an optimistic addition for each request placed since the last publish. Driven by
 * frontend.c and by nothing else that shares its state. It must not look at a clock or at the
 * contents of a request: equal calls give equal choices.
 */
#include "engine/core/router.h"

#include <string.h>

#include "engine/base/status.h"

#define SCORE_NONE UINT64_MAX /* above every score's bits: where a node has less than its fan */

enum {
    WAITING_WEIGHT = 4 /* of the weighted sums */
};
static const double kv_penalty_weight = 6.0;
static const double kv_penalty_from = 0.5;

/* Scores of a level of the tree, a last node with less than its fan filled up. */
static uint32_t padded(uint32_t scores_count)
{
    return (scores_count + ROUTER_FAN - 1) / ROUTER_FAN * ROUTER_FAN;
}

size_t router_arena_bytes(uint32_t engines_count)
{
    size_t bytes =
        ARENA_BYTES(engines_count, struct engine_counts) + ARENA_BYTES(engines_count, uint32_t);
    uint32_t scores = padded(engines_count);
    bytes += ARENA_BYTES(scores, uint64_t);
    while (scores > ROUTER_FAN) {
        scores = padded(scores / ROUTER_FAN);
        bytes += ARENA_BYTES(scores, uint64_t);
    }
    return bytes;
}

void router_init(struct router *r, struct arena *arena, uint32_t engines_count,
                 uint32_t client_index, uint32_t client_count)
{
    ASSERT(engines_count > 0);
    ASSERT(client_index < client_count);
    *r = (struct router){
        .counts = ARENA_NEW(arena, struct engine_counts, engines_count),
        .inflight = ARENA_NEW(arena, uint32_t, engines_count),
        .levels_count = 1,
        .stale = true,
        .engines_count = engines_count,
        .client_count = client_count,
        /* Clients begin at places spread over the engines, so that their first ties fall apart. */
        .start = (uint32_t)((uint64_t)engines_count * client_index / client_count),
    };
    uint32_t scores = padded(engines_count);
    r->levels[0] = ARENA_NEW(arena, uint64_t, scores);
    while (scores > ROUTER_FAN) {
        scores = padded(scores / ROUTER_FAN);
        r->levels[r->levels_count++] = ARENA_NEW(arena, uint64_t, scores);
    }
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

/* ---- the tree ---- */

static uint64_t score_bits(const struct router *r, uint32_t engine)
{
    double value = score(r, engine);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint64_t lowest_of(const uint64_t *scores)
{
    uint64_t lowest = scores[0];
    for (uint32_t i = 1; i < ROUTER_FAN; i++) {
        lowest = scores[i] < lowest ? scores[i] : lowest;
    }
    return lowest;
}

static void make_tree(struct router *r)
{
    uint32_t count = r->engines_count;
    for (uint32_t i = 0; i < count; i++) {
        r->levels[0][i] = score_bits(r, i);
    }
    for (uint32_t level = 0; level < r->levels_count; level++) {
        if (level > 0) {
            count = padded(count) / ROUTER_FAN;
            for (uint32_t i = 0; i < count; i++) {
                r->levels[level][i] = lowest_of(&r->levels[level - 1][(size_t)i * ROUTER_FAN]);
            }
        }
        for (uint32_t i = count; i < padded(count); i++) {
            r->levels[level][i] = SCORE_NONE;
        }
    }
    r->stale = false;
}

/* The engine's score may be another now. */
static void renew(struct router *r, uint32_t engine)
{
    if (r->stale || r->rule == ROUTER_ROUND_ROBIN) {
        return;
    }
    uint64_t lowest = score_bits(r, engine);
    uint32_t node = engine;
    for (uint32_t level = 0; level < r->levels_count; level++) {
        if (r->levels[level][node] == lowest) {
            return;
        }
        r->levels[level][node] = lowest;
        node /= ROUTER_FAN;
        lowest = lowest_of(&r->levels[level][(size_t)node * ROUTER_FAN]);
    }
}

/* The first of scores[from .. end) that is `score`, or `end`. */
static uint32_t find(const uint64_t *scores, uint32_t from, uint32_t end, uint64_t score)
{
    while (from < end && scores[from] != score) {
        from++;
    }
    return from;
}

/* The first engine with the lowest score, from `start` on; all scores are equal in a round robin.
 */
static uint32_t lowest_score(struct router *r, uint32_t start)
{
    if (r->rule == ROUTER_ROUND_ROBIN) {
        return start;
    }
    if (r->stale) {
        make_tree(r);
    }
    uint32_t top = r->levels_count - 1;
    uint64_t lowest = lowest_of(r->levels[top]);
    uint32_t level = 0;
    uint32_t parent = start / ROUTER_FAN;
    uint32_t end = (parent + 1) * ROUTER_FAN;
    uint32_t at = find(r->levels[0], start, end, lowest);
    /* Up, until there is one under a node behind; behind the last engine comes the first. */
    while (at == end) {
        bool wraps = level == top;
        at = wraps ? 0 : parent + 1;
        level += wraps ? 0 : 1;
        parent /= ROUTER_FAN;
        end = (parent + 1) * ROUTER_FAN;
        at = find(r->levels[level], at, end, lowest);
    }
    for (; level > 0; level--) {
        at *= ROUTER_FAN;
        at = find(r->levels[level - 1], at, at + ROUTER_FAN, lowest);
    }
    return at;
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
    renew(r, engine);
    return engine;
}

void router_finished(struct router *r, uint32_t engine)
{
    ASSERT(engine < r->engines_count);
    ASSERT(r->inflight[engine] > 0);
    r->inflight[engine]--;
    renew(r, engine);
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
    r->stale = true;
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
    renew(r, engine);
}
