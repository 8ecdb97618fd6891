/*
 * random.c - generators and distributions of random.h. Pure but for the stream given; equal on
 * every machine, so nothing here may depend on the platform's own generators.
 */
#include "engine/base/random.h"

#include <math.h>
#include <string.h>

#include "engine/base/hash.h"
#include "engine/base/status.h"

static uint64_t splitmix(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15ULL;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

struct random random_stream(uint64_t seed, const char *name, uint64_t entity)
{
    uint64_t state = seed ^ hash64(name, strlen(name), entity);
    struct random r;
    for (int i = 0; i < 4; i++) {
        r.s[i] = splitmix(&state);
    }
    return r;
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t random_u64(struct random *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotl(s[0] + s[3], 23) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double random_unit(struct random *r)
{
    return (double)(random_u64(r) >> 11) * 0x1.0p-53;
}

int64_t random_range(struct random *r, int64_t lo, int64_t hi)
{
    ASSERT(lo <= hi);
    uint64_t span = (uint64_t)hi - (uint64_t)lo + 1;
    if (span == 0) {
        return (int64_t)random_u64(r);
    }
    uint64_t limit = UINT64_MAX - UINT64_MAX % span;
    uint64_t draw;
    do {
        draw = random_u64(r);
    } while (draw >= limit);
    return (int64_t)((uint64_t)lo + draw % span);
}

double random_exponential(struct random *r)
{
    return -log1p(-random_unit(r));
}

double random_normal(struct random *r)
{
    double u;
    double v;
    double s;
    do {
        u = 2.0 * random_unit(r) - 1.0;
        v = 2.0 * random_unit(r) - 1.0;
        s = u * u + v * v;
    } while (s >= 1.0 || s <= 0.0);
    return u * sqrt(-2.0 * log(s) / s);
}

time_ps random_interval_ps(struct random *r, double rate_per_s)
{
    ASSERT(rate_per_s > 0.0);
    return (time_ps)llround(random_exponential(r) / rate_per_s * (double)PS_PER_S);
}

uint64_t random_at(uint64_t key_a, uint64_t key_b)
{
    uint64_t state = key_a + 0x9e3779b97f4a7c15ULL * key_b;
    uint64_t first = splitmix(&state);
    return first ^ splitmix(&state);
}
