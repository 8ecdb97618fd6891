/*
 * stages.c - the limiting-stage rule. Pure functions.
 */
#include "harness/analysis/stages.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

static double known_or_zero(double x)
{
    return isnan(x) ? 0.0 : x;
}

double stage_use_frac(const struct stage_use *use)
{
    bool cpu_counts = !use->spins && !isnan(use->cpu_frac);
    double cpu = cpu_counts ? use->cpu_frac : 0.0;
    double occupancy = known_or_zero(use->occupancy_frac);
    if (!cpu_counts && isnan(use->occupancy_frac)) {
        /* A device, or a spinning thread without booked costs: only its own busy time tells. */
        return isnan(use->busy_frac) ? STATS_UNKNOWN : fmin(1.0, fmax(0.0, use->busy_frac));
    }
    /*
     * The union of two sets of times is no shorter than the longer and no longer than both. Busy
     * time lies in between, but it is wall time and contains waits for a core, which are not this
     * stage's work.
     */
    double least = fmax(cpu, occupancy);
    double most = cpu + occupancy;
    if (use->spins && !isnan(use->busy_frac)) {
        most = fmax(least, use->busy_frac);
    }
    double estimate = isnan(use->busy_frac) ? least : fmin(most, fmax(least, use->busy_frac));
    return fmin(1.0, estimate);
}

static struct stage_summary *stage_named(struct stage_summary *stages, size_t *count,
                                         const char *name)
{
    for (size_t i = 0; i < *count; i++) {
        if (strncmp(stages[i].stage, name, sizeof stages[i].stage - 1) == 0) {
            return &stages[i];
        }
    }
    ASSERT(*count < STAGES_MAX);
    struct stage_summary *stage = &stages[(*count)++];
    *stage = (struct stage_summary){.servers_count = 0};
    (void)snprintf(stage->stage, sizeof stage->stage, "%s", name);
    return stage;
}

size_t stages_summarise(const struct stage_use *uses, size_t count,
                        struct stage_summary out[STAGES_MAX])
{
    size_t stages_count = 0;
    uint32_t observed[STAGES_MAX] = {0};
    for (size_t i = 0; i < count; i++) {
        struct stage_summary *stage = stage_named(out, &stages_count, uses[i].stage);
        stage->servers_count++;
        double use = stage_use_frac(&uses[i]);
        if (isnan(use)) {
            continue;
        }
        observed[stage - out]++;
        stage->use_frac += use;
        stage->max_frac = fmax(stage->max_frac, use);
        stage->cpu_frac += known_or_zero(uses[i].cpu_frac);
        stage->occupancy_frac += known_or_zero(uses[i].occupancy_frac);
    }
    for (size_t i = 0; i < stages_count; i++) {
        out[i].instrumented = observed[i] > 0;
        double n = out[i].instrumented ? observed[i] : STATS_UNKNOWN;
        out[i].use_frac /= n;
        out[i].cpu_frac /= n;
        out[i].occupancy_frac /= n;
        out[i].max_frac = out[i].instrumented ? out[i].max_frac : STATS_UNKNOWN;
    }
    return stages_count;
}

static void list_unobserved(const struct stage_summary *stages, size_t count,
                            struct stage_verdict *out)
{
    const char *lead = "; not instrumented: ";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(out->text);
        if (!stages[i].instrumented) {
            (void)snprintf(out->text + used, sizeof out->text - used, "%s%s", lead,
                           stages[i].stage);
            lead = ", ";
        }
    }
}

void stages_limiting(const struct stage_summary *stages, size_t count, struct stage_verdict *out)
{
    const struct stage_summary *first = NULL;
    const struct stage_summary *second = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!stages[i].instrumented) {
            continue;
        }
        if (first == NULL || stages[i].use_frac > first->use_frac) {
            second = first;
            first = &stages[i];
        } else if (second == NULL || stages[i].use_frac > second->use_frac) {
            second = &stages[i];
        }
    }
    *out = (struct stage_verdict){.kind = STAGE_UNEXPLAINED,
                                  .first_frac = first != NULL ? first->use_frac : STATS_UNKNOWN,
                                  .second_frac = second != NULL ? second->use_frac : STATS_UNKNOWN,
                                  .headroom = STATS_UNKNOWN};
    (void)snprintf(out->first, sizeof out->first, "%s", first != NULL ? first->stage : "");
    (void)snprintf(out->second, sizeof out->second, "%s", second != NULL ? second->stage : "");
    double next = second != NULL ? second->use_frac : 0.0;
    if (first != NULL && first->use_frac >= STAGE_LIMIT_FRAC) {
        out->kind = first->use_frac - next >= STAGE_LEAD_FRAC ? STAGE_NAMED : STAGE_MIXED;
    }
    switch (out->kind) {
    case STAGE_NAMED:
        out->headroom = next > 0.0 ? fmin(2.0, out->first_frac / next) : 2.0;
        (void)snprintf(out->text, sizeof out->text, "%s", out->first);
        break;
    case STAGE_MIXED:
        out->headroom = 1.0;
        (void)snprintf(out->text, sizeof out->text, "mixed(%s, %s)", out->first, out->second);
        break;
    case STAGE_UNEXPLAINED:
        (void)snprintf(out->text, sizeof out->text, "unexplained");
        break;
    }
    list_unobserved(stages, count, out);
}

bool stages_host_limited(double cpu_cores_used, double host_cores)
{
    return cpu_cores_used > STAGE_HOST_LIMIT_FRAC * host_cores;
}
