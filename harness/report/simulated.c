/*
 * simulated.c - simulated runs beside measured ones (simulated.h). Computes nothing: a summary of
 * the simulated runs is made by the same rules, and its numbers are put beside the measured ones.
 */
#include "harness/report/simulated.h"

#include <stdlib.h>
#include <string.h>

#include "harness/scenario/calibration.h"

struct simulation_costs simulated_costs(const struct scenario_simulation *simulation)
{
    switch ((enum scenario_costs)simulation->costs) {
    case SCENARIO_COSTS_NONE:
        return simulation_costs_none();
    case SCENARIO_COSTS_FILE:
        ASSERT(simulation->calibration != NULL);
        return simulation->calibration->costs;
    case SCENARIO_COSTS_DEFAULT:
        break;
    }
    return simulation_costs_default();
}

const char *simulated_costs_name(const struct scenario_simulation *simulation)
{
    if (simulation->costs == (uint32_t)SCENARIO_COSTS_FILE) {
        return simulation->costs_file;
    }
    return simulation->costs == (uint32_t)SCENARIO_COSTS_NONE ? "none" : "default";
}

void simulated_split(const struct run_result *results, uint32_t count, struct simulated_split *out)
{
    bool measured = false;
    *out = (struct simulated_split){.shown = calloc(count > 0 ? count : 1, sizeof *out->shown),
                                    .beside = calloc(count > 0 ? count : 1, sizeof *out->beside)};
    ASSERT(out->shown != NULL && out->beside != NULL);
    for (uint32_t i = 0; i < count; i++) {
        measured = measured || !results[i].simulated;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (measured && results[i].simulated) {
            out->beside[out->beside_count++] = results[i];
        } else {
            out->shown[out->shown_count++] = results[i];
        }
    }
}

void simulated_split_free(struct simulated_split *split)
{
    free(split->shown);
    free(split->beside);
    *split = (struct simulated_split){.shown = NULL};
}

static void add_point(struct summary *s, const struct summary_point *from)
{
    for (uint32_t i = 0; i < s->points_count; i++) {
        struct summary_point *p = &s->points[i];
        if (p->cell == from->cell && from->shown_count > 0) {
            p->simulated = (struct summary_simulated){
                .known = true,
                .tok_per_s = from->tok_per_s,
                .itl_mean_ms = from->itl_mean_ms,
                .rank_steps_per_tok = from->rank_steps_per_tok,
                .launches_per_s = from->launches_per_s,
                .verdict = from->verdict,
            };
        }
    }
}

static void add_curve(struct summary *s, const struct summary_curve *from)
{
    for (uint32_t i = 0; i < s->curves_count; i++) {
        struct summary_curve *c = &s->curves[i];
        if (strcmp(c->label, from->label) == 0 && from->decided) {
            c->simulated_answer = from->answer;
            c->simulated_decided = true;
        }
    }
}

void simulated_add(struct summary *s, const struct simulated_split *split)
{
    if (split->beside_count == 0) {
        return;
    }
    struct summary *other = summary_build(s->scenario, split->beside, split->beside_count);
    for (uint32_t i = 0; i < other->points_count; i++) {
        add_point(s, &other->points[i]);
    }
    for (uint32_t i = 0; i < other->curves_count; i++) {
        add_curve(s, &other->curves[i]);
    }
    summary_free(other);
}
