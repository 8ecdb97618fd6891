/*
 * demand.h - service demands and what follows from them: how much of a stage one unit of work
 * takes, at which throughput the stage would be full, which stage limits, which is next and by how
 * much relieving the first would help. Operational analysis (utilisation law B/T = X D; Denning and
 * Buzen 1978): no assumption about distributions. Pure functions; the report drives them.
 *
 * Rates are in any unit of work a second (requests, tokens) as long as it is the same throughout;
 * demands are seconds for one of them.
 */
#ifndef HARNESS_ANALYSIS_DEMAND_H
#define HARNESS_ANALYSIS_DEMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DEMAND_POINTS_MAX = 512,
    DEMAND_STAGES_MAX = 16,
};

/* One run: throughput, and how many of the stage's servers were busy on average (0 .. servers). */
struct demand_point {
    double rate;
    double busy_count;
};

struct demand {
    bool known;      /* false: fewer than two different rates, or a spinning stage */
    bool spins;      /* busy whatever the rate: its time says nothing about work */
    double demand_s; /* slope of busy_count on rate */
    double lo_s;     /* 95 % by bootstrap over the runs; NAN with fewer than three loads */
    double hi_s;
    double idle_busy_count; /* intercept: busy without work */
    double worst_s;         /* most busy time a unit took in a run of at least half the top rate */
    double servers;         /* that the ceiling is for */
    double ceiling_rate;    /* rate at which all servers would be busy */
    double ceiling_lo;
    double ceiling_hi;
};

/* Regresses busy_count on rate over runs at different loads. `servers`: m of the stage. */
void demand_fit(const struct demand_point *points, size_t count, double servers, uint64_t seed,
                struct demand *out);
/* Where all runs have one load: demand = busy_count / rate, 95 % by Student's t over the runs (NAN
 * with one). Cannot tell work from spinning. */
void demand_of_use(const struct demand_point *points, size_t count, double servers,
                   struct demand *out);
/*
 * The same with another number of servers. What a server is busy with besides work is taken to come
 * with each of them; the interval spans the two other readings as well: that it does not grow, and
 * that it was work (worst_s), since servers with less to do work less efficiently.
 */
struct demand demand_at(const struct demand *d, double servers);

/* A stage as the judgement sees it. */
struct demand_stage {
    const char *name;
    struct demand demand;
    double
        use_lo; /* lower 95 % bound of its use at the highest load, 0..1; NAN: not instrumented */
};

enum demand_verdict_kind {
    DEMAND_ONE,         /* one stage limits */
    DEMAND_MIXED,       /* two ceilings within 5 % of each other, both in use */
    DEMAND_UNEXPLAINED, /* no stage is in use enough */
};

struct demand_verdict {
    enum demand_verdict_kind kind;
    int first;             /* index of the lowest ceiling, -1: none known */
    int next;              /* the second lowest, -1: none */
    double explained_frac; /* highest rate over the lowest ceiling; NAN: none known */
};

/* `rate_max`: the highest throughput measured. */
void demand_judge(const struct demand_stage *stages, size_t count, double rate_max,
                  struct demand_verdict *out);

/* Throughput that the stages allow: the least of their ceilings. */
struct demand_capacity {
    int first;   /* index of the stage whose ceiling it is, -1: none known */
    double rate; /* NAN: none known */
    double lo;   /* 95 %, from the intervals of the ceilings; NAN: not known */
    double hi;
};
struct demand_capacity demand_capacity_of(const struct demand_stage *stages, size_t count);

/*
 * Elasticity of throughput to a stage's service time: -d ln X / d ln S, from paired runs with and
 * without the stage made `slowdown` (1.10) times as slow. About 1 for what limits, 0 for what is
 * idle. lo, hi: 95 % by Student's t over the pairs; NAN with fewer than two.
 */
struct demand_elasticity {
    double value;
    double lo;
    double hi;
};
struct demand_elasticity demand_elasticity_of(const double *base_rates, const double *slowed_rates,
                                              size_t pairs, double slowdown);

#endif
