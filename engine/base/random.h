/*
 * random.h - named random streams and stateless draws.
 *
 * Every source of randomness is a stream of its own, derived from (seed, stream name, entity):
 * changing how many numbers one purpose draws does not move another's. Streams are xoshiro256++
 * seeded by splitmix64. Stateless draws (random_at) depend only on their key, so they are equal
 * whatever the order of events is.
 */
#ifndef ENGINE_BASE_RANDOM_H
#define ENGINE_BASE_RANDOM_H

#include <stdint.h>

#include "engine/base/time.h"

struct random {
    uint64_t s[4];
};

/* The stream `name` (e.g. "arrivals") of `entity` under `seed`. */
struct random random_stream(uint64_t seed, const char *name, uint64_t entity);
uint64_t random_u64(struct random *r);
/* Uniform in [0, 1), 53 bits. */
double random_unit(struct random *r);
/* Uniform integer in [lo, hi], both included, without modulo bias. */
int64_t random_range(struct random *r, int64_t lo, int64_t hi);
/* Exponential with mean 1. */
double random_exponential(struct random *r);
/* Standard normal (polar method, one value a call). */
double random_normal(struct random *r);
/* Inter-arrival time of a Poisson process of `rate_per_s`, in ps (exact to 1 ps: its mean is
 * tested). */
time_ps random_interval_ps(struct random *r, double rate_per_s);
/* A well-mixed 64-bit value of two keys. Stateless. */
uint64_t random_at(uint64_t key_a, uint64_t key_b);

#endif
