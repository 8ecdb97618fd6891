/*
 * nearest.h - "did you mean ...?": the known name that is closest to a mistyped one.
 *
 * Distance: optimal string alignment (insert, delete, replace, swap of neighbours), case ignored.
 */
#ifndef HARNESS_SCENARIO_NEAREST_H
#define HARNESS_SCENARIO_NEAREST_H

#include <stddef.h>
#include <stdint.h>

/* Start with all fields zero but `word`; then offer every candidate. */
struct nearest {
    const char *word;
    const char *best; /* NULL while nothing is near enough to be a likely slip */
    uint32_t best_distance;
};

void nearest_offer(struct nearest *nearest, const char *candidate);
/* ", did you mean 'x'?" or "". */
const char *nearest_hint(const struct nearest *nearest, char *out, size_t cap);

#endif
