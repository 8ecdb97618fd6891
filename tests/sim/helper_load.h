/*
 * helper_load.h - a load for simulations and what comes of it: a closed or an open loop of random
 * lengths, and an observer that holds every request against what it must have gone through.
 */
#ifndef TESTS_SIM_HELPER_LOAD_H
#define TESTS_SIM_HELPER_LOAD_H

#include "engine/base/random.h"
#include "sim/simulation.h"

enum {
    LOAD_REQUESTS_MAX = 1 << 20
};

struct test_load {
    /* what is asked for */
    uint64_t requests_count; /* in all */
    uint32_t users_count;    /* 0: open */
    double requests_per_s;   /* open */
    uint32_t prompt_tokens;
    uint32_t output_lo;
    uint32_t output_hi;
    uint32_t prompts_count; /* different prompts; 0: each its own */
    uint64_t seed;
    time_ps count_from; /* tokens read from here on are counted */
    /* state */
    struct random arrivals;
    time_ps at;
    uint64_t next;
    /* what came */
    uint8_t *ended; /* [requests_count] */
    uint32_t *tokens;
    uint64_t sent_count;
    uint64_t ended_count;
    uint64_t failed_count;
    uint64_t wrong_count; /* hops out of order, tokens missing, ended twice ... */
    uint64_t counted_tokens;
    uint64_t cached_tokens;
    time_ps last_at;
    /* Modulo 2^64, in which equal sums are equal. */
    uint64_t residence;         /* sum of ended - sent */
    uint64_t inflight_integral; /* of requests in flight over time */
    uint64_t inflight;
    time_ps changed_at;
    double wait_sum_s; /* sent to received by the API server */
};

/* Allocates; the source and the observer stand for it. */
void test_load_begin(struct test_load *load, struct simulation_source *source,
                     struct simulation_observer *observer);
void test_load_end(struct test_load *load);

/* Llama-3.1-8B on H100s, no cost but the GPU's, 40 sequences. */
struct simulation_options test_options(uint32_t api_servers, uint32_t engines);

/* Runs `load` to its end, or to `until`; fails the test if anything is wrong. Gives the totals. */
struct simulation_totals test_run(const struct simulation_options *options, struct test_load *load,
                                  time_ps until);
/* Output tokens a second of a closed loop between warm-up and end. */
double test_throughput(const struct simulation_options *options, struct test_load *load,
                       time_ps warmup, time_ps window);

#endif
