/*
 * router.h - chooses the engine core of a request inside one API server, and keeps that server's
 * exact in-flight counts.
 *
 * The default rule is vLLM's since 2026-07: the lowest max(clients * own in-flight, published
 * waiting + running), plus 6 * waiting * max(0, kv usage - 0.5) when something waits; the scan
 * starts one engine further each time and the earliest wins ties; the chosen engine's waiting count
 * grows by the number of clients until the next publish. Other rules are for comparison. A rank
 * that the user asks for always wins.
 *
 * A choice, and the end of a request, take O(log engines), a publish O(engines).
 */
#ifndef ENGINE_CORE_ROUTER_H
#define ENGINE_CORE_ROUTER_H

#include "engine/base/arena.h"
#include "engine/core/message.h"

enum {
    ROUTER_FAN = 8, /* scores under one node of the tree */
    ROUTER_LEVELS_MAX = 11
};

enum router_rule {
    ROUTER_SCORE,        /* as above */
    ROUTER_WEIGHTED_SUM, /* before: lowest 4 * waiting + running; rotation and additions the same */
    ROUTER_ROUND_ROBIN,
    /* The Rust front end: lowest max(own in-flight, waiting + running), own in-flight alone until
     * an engine's first counts; the lowest rank wins ties. Counts are those that engine cores send
     * with their outputs, not the coordinator's; nothing is added in between. */
    ROUTER_RUST,
    /* Before 2026-07-06: as ROUTER_WEIGHTED_SUM, but the scan always starts where the client began,
     * so that one engine wins every tie. Each publish makes ties; when it brings zeros for ever
     * (ranks that publish nothing), the first request after it goes to that engine. */
    ROUTER_WEIGHTED_SUM_FIXED_START,
};

struct router {
    struct engine_counts *counts; /* [engines_count], published plus own additions since */
    uint32_t *inflight;           /* [engines_count], this client's unfinished requests */
    /* A tree of the lowest scores: levels[0] are the engines', each further level the lowest of
     * ROUTER_FAN of the one below, the last is one node's. Scores are not negative, so that their
     * bits are in their order. */
    uint64_t *levels[ROUTER_LEVELS_MAX];
    uint32_t levels_count;
    bool stale; /* the tree is made again before the next choice */
    uint32_t engines_count;
    uint32_t client_count;
    uint32_t start; /* where the next scan begins */
    enum router_rule rule;
};

size_t router_arena_bytes(uint32_t engines_count);
void router_init(struct router *r, struct arena *arena, uint32_t engines_count,
                 uint32_t client_index, uint32_t client_count);
/* Another rule than ROUTER_SCORE; before the first choice. */
void router_set_rule(struct router *r, enum router_rule rule);
/* `rank` is the user's wish (X-data-parallel-rank) or RANK_NONE. Books the request on the engine.
 */
uint32_t router_choose(struct router *r, int32_t rank);
/* A request that router_choose() placed on `engine` ended. */
void router_finished(struct router *r, uint32_t engine);
/* Whole replacement by what the coordinator published (own optimistic additions are dropped, as in
 * vLLM). */
void router_publish(struct router *r, const struct engine_counts *counts, uint32_t count);
/* Counts that came with an engine core's outputs; only ROUTER_RUST takes them. */
void router_stats(struct router *r, uint32_t engine, const struct scheduler_stats *stats);

#endif
