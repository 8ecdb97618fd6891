/*
 * search.h - the greatest rate at which a system still passes a test, with as few runs as can be: a
 * state machine that says which rate to try next, is told how it went, and concludes. Pure: no I/O,
 * no clock, no allocation; harness/run drives it, and so can a simulation.
 *
 *     search_init(&s, &options);
 *     while (search_next(&s, &ask)) {
 *         ... load the system with ask.per_s, arrivals by the seed of ask.replicate ...
 *         search_tell(&s, outcome, value);
 *     }
 *     search_conclude(&s, &answer);
 *
 * From a start the rate grows or shrinks by the square root of 2 until one rate passes and a higher
 * one fails; then it is halved in its logarithm until the two are within the tolerance. Last,
 * replicates with other arrivals at these two rates and one on each side, replicate by replicate,
 * so that slow changes of the machine do not look like effects. The share that failed is made
 * monotone in the rate (pool adjacent violators); the answer is where it crosses one half, with a
 * bootstrap over the replicates.
 */
#ifndef HARNESS_ANALYSIS_SEARCH_H
#define HARNESS_ANALYSIS_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SEARCH_POINTS_MAX = 64,
    SEARCH_REPLICATES_MAX = 12,
    SEARCH_LAST_RATES = 4,
    SEARCH_RUNS_MAX = SEARCH_POINTS_MAX + SEARCH_LAST_RATES * SEARCH_REPLICATES_MAX,
};

enum search_outcome {
    SEARCH_PASS,
    SEARCH_FAIL,
    SEARCH_UNDECIDED, /* the boundary itself, as near as can be told */
    SEARCH_INVALID,   /* says nothing of the system: the client or the host was the limit */
};

/* X(NAME, "text") */
#define SEARCH_STATUSES(X)                                                                 \
    X(OK, "ok")                                                                            \
    X(BELOW_RANGE, "below_range") /* the least rate fails */                               \
    X(ABOVE_RANGE, "above_range") /* the greatest rate passes */                           \
    X(CLIFF, "cliff") /* the response jumps: the answer is the last rate that passed */    \
    X(NON_MONOTONE, "non_monotone")     /* a higher rate passes where a lower one fails */ \
    X(CLIENT_LIMITED, "client_limited") /* the answer is the least the system does */

enum search_status {
#define X(name, text) SEARCH_##name,
    SEARCH_STATUSES(X)
#undef X
    SEARCH_STATUSES_COUNT
};

const char *search_status_name(enum search_status status);

struct search_options {
    double start_per_s;
    double least_per_s;
    double most_per_s;
    double tolerance_frac;     /* ends when hi/lo <= 1 + this */
    double jump_frac;          /* a step of the value between neighbours beyond this, and beyond 3
                                  standard errors, is a cliff */
    double confidence;         /* of the interval */
    uint32_t points_max;       /* without the replicates; at most SEARCH_POINTS_MAX */
    uint32_t replicates_count; /* at most SEARCH_REPLICATES_MAX; 0: the bracket is the answer */
    uint64_t seed;             /* of the bootstrap */
};

struct search_ask {
    double per_s;
    uint32_t replicate; /* 0: looking for the bracket; 1..: replicates */
};

struct search_run {
    double per_s;
    uint32_t replicate;
    enum search_outcome outcome;
    double value; /* grows with the rate: share lost, share over the limit; NAN: not known */
};

struct search {
    struct search_options options;
    struct search_run runs[SEARCH_RUNS_MAX];
    uint32_t runs_count;
    double lo;                      /* greatest rate that passed; 0: none */
    double hi;                      /* least rate that failed; 0: none */
    double last[SEARCH_LAST_RATES]; /* rates of the replicates */
    uint32_t last_asked_count;
    bool last_begun;
    bool retry; /* the rate before was invalid once */
    bool stopped_by_client;
    struct search_ask asked;
};

struct search_answer {
    enum search_status status;
    double per_s; /* NAN: none */
    double lo;    /* NAN: not known, as beyond a limit of the range */
    double hi;
    uint32_t points_count; /* different rates */
    uint32_t runs_count;
};

void search_init(struct search *s, const struct search_options *options);
/* False: nothing is left to ask. */
bool search_next(struct search *s, struct search_ask *ask);
/* How the rate went that search_next() asked for. */
void search_tell(struct search *s, enum search_outcome outcome, double value);
/* At any time, from what was told so far. */
void search_conclude(const struct search *s, struct search_answer *out);

#endif
