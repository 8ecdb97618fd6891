/*
 * lengths.h - token counts of prompts and outputs as distributions: uniform, or log-normal within
 * limits. Pure functions, shared by the load client, which draws, and by those who check a scenario
 * or predict from it.
 */
#ifndef HARNESS_LOAD_LENGTHS_H
#define HARNESS_LOAD_LENGTHS_H

#include <stdint.h>

#include "engine/base/random.h"

/*
 * lo..hi, both included. sd == 0: uniform (a fixed length has lo == hi). Else log-normal with this
 * mean and standard deviation, rounded to whole tokens, where what falls outside lo..hi is drawn
 * again: the mean of what remains is lengths_mean().
 */
struct load_range {
    uint32_t lo;
    uint32_t hi;
    uint32_t mean;
    uint32_t sd;
};

/* Of a log-normal range at least this share must lie within its limits, or drawing takes long. */
#define LENGTHS_INSIDE_MIN 0.01

uint32_t lengths_draw(const struct load_range *range, struct random *r);
/* The share of the distribution within lo..hi; 1 if uniform. */
double lengths_inside_frac(const struct load_range *range);
/* The mean of what is drawn, but for what rounding does to lengths of a few tokens. */
double lengths_mean(const struct load_range *range);

#endif
