/*
 * protocol_shrink.c - greedy: each part is tried in turn, and what the failure does without stays
 * out, until nothing more can go.
 */
#include "sim/protocol_shrink.h"

/* Keeps `smaller` in *plan if it fails as well. */
static bool try_plan(struct protocol_shrink *s, const struct protocol_plan *smaller,
                     struct protocol_plan *plan)
{
    if (s->runs_count == s->runs_max) {
        return false;
    }
    s->runs_count++;
    if (!s->fails(s->user, smaller)) {
        return false;
    }
    *plan = *smaller;
    return true;
}

static bool drop_faults(struct protocol_shrink *s, struct protocol_plan *plan)
{
    bool changed = false;
    for (uint32_t i = plan->faults_count; i-- > 0;) {
        struct protocol_plan smaller = *plan;
        smaller.faults_count--;
        for (uint32_t k = i; k < smaller.faults_count; k++) {
            smaller.faults[k] = smaller.faults[k + 1];
        }
        smaller.faults[smaller.faults_count] = (struct protocol_fault){0};
        changed = try_plan(s, &smaller, plan) || changed;
    }
    return changed;
}

/* Runs of requests that are left out together get shorter, down to single ones. */
static bool drop_requests(struct protocol_shrink *s, struct protocol_plan *plan)
{
    bool changed = false;
    for (uint32_t width = PROTOCOL_REQUESTS_MAX / 2; width > 0; width /= 2) {
        for (uint32_t first = 0; first < PROTOCOL_REQUESTS_MAX; first += width) {
            struct protocol_plan smaller = *plan;
            smaller.requests &= ~(((1U << width) - 1) << first);
            if (smaller.requests != plan->requests && smaller.requests != 0) {
                changed = try_plan(s, &smaller, plan) || changed;
            }
        }
    }
    return changed;
}

static bool drop_parts(struct protocol_shrink *s, uint32_t parts, struct protocol_plan *plan)
{
    bool changed = false;
    for (uint32_t part = PROTOCOL_CANCELS; part <= PROTOCOL_BAD_START; part *= 2) {
        struct protocol_plan smaller = *plan;
        smaller.without |= parts & part;
        if (smaller.without != plan->without) {
            changed = try_plan(s, &smaller, plan) || changed;
        }
    }
    return changed;
}

/* From the fewest on: the first number that fails is the smallest. */
static bool drop_processes(struct protocol_shrink *s, bool lockstep, struct protocol_plan *plan)
{
    bool changed = false;
    for (uint32_t n = lockstep ? 2 : 1; n < plan->ranks_count; n++) {
        struct protocol_plan smaller = *plan;
        smaller.ranks_count = n;
        changed = try_plan(s, &smaller, plan) || changed;
    }
    for (uint32_t n = 1; n < plan->clients_count; n++) {
        struct protocol_plan smaller = *plan;
        smaller.clients_count = n;
        changed = try_plan(s, &smaller, plan) || changed;
    }
    return changed;
}

/* Half of a value, rounded to whole milliseconds while it has some. */
static uint32_t half(uint32_t us)
{
    return us >= 2000 ? us / 2000 * 1000 : us / 2;
}

static bool weaken_faults(struct protocol_shrink *s, struct protocol_plan *plan)
{
    bool changed = false;
    for (uint32_t i = 0; i < plan->faults_count; i++) {
        struct protocol_plan smaller = *plan;
        smaller.faults[i].for_us = half(smaller.faults[i].for_us);
        if (smaller.faults[i].for_us > 0) {
            changed = try_plan(s, &smaller, plan) || changed;
        }
        smaller = *plan;
        smaller.faults[i].by_us = half(smaller.faults[i].by_us);
        if (smaller.faults[i].by_us > 0) {
            changed = try_plan(s, &smaller, plan) || changed;
        }
        smaller = *plan;
        smaller.faults[i].factor /= 2;
        if (smaller.faults[i].factor > 1) {
            changed = try_plan(s, &smaller, plan) || changed;
        }
    }
    return changed;
}

/* Earlier or later, at a rounder time: a line that is easier to read. */
static bool round_times(struct protocol_shrink *s, struct protocol_plan *plan)
{
    bool changed = false;
    for (uint32_t i = 0; i < plan->faults_count; i++) {
        for (uint32_t unit = 1000000; unit >= 1000; unit /= 10) {
            struct protocol_plan smaller = *plan;
            uint32_t at = plan->faults[i].at_us;
            smaller.faults[i].at_us = (at + unit / 2) / unit * unit;
            if (at % unit != 0 && try_plan(s, &smaller, plan)) {
                changed = true;
                break;
            }
        }
    }
    return changed;
}

void protocol_shrink(struct protocol_shrink *shrink, const struct protocol_report *failed,
                     struct protocol_plan *plan)
{
    /* What the seed has, said as numbers that can be made smaller. */
    struct protocol_plan whole = *plan;
    whole.ranks_count = failed->ranks_count;
    whole.clients_count = failed->clients_count;
    whole.requests = failed->requests;
    whole.end_us = failed->end_us;
    if (!try_plan(shrink, &whole, plan)) {
        whole.end_us = plan->end_us;
        (void)try_plan(shrink, &whole, plan);
    }
    bool changed = true;
    while (changed && shrink->runs_count < shrink->runs_max) {
        changed = drop_faults(shrink, plan);
        changed = drop_requests(shrink, plan) || changed;
        changed = drop_parts(shrink, failed->parts, plan) || changed;
        changed = drop_processes(shrink, failed->lockstep, plan) || changed;
        changed = weaken_faults(shrink, plan) || changed;
        changed = round_times(shrink, plan) || changed;
    }
}
