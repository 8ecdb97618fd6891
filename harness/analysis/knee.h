/*
 * knee.h - where a curve of latency against load bends. Two views that need no limit on latency:
 * Kneedle (Satopaa et al. 2011: the point of a convex curve farthest below its chord) and power
 * (Kleinrock: the greatest throughput over latency). Pure functions. They are shown, never judged
 * by: both depend on the range of rates that was tested.
 */
#ifndef HARNESS_ANALYSIS_KNEE_H
#define HARNESS_ANALYSIS_KNEE_H

#include <stdbool.h>
#include <stddef.h>

struct knee_point {
    double offered_per_s;
    double achieved_per_s;
    double latency_ms; /* p50 of the time to the last token */
};

/* Between tested rates: lo and hi are the neighbours of the point chosen. */
struct knee {
    double per_s; /* NAN: fewer than KNEE_POINTS_MIN points, or no bend */
    double lo;
    double hi;
    double power_per_s; /* the offered rate with the greatest power; NAN without points */
};

enum {
    KNEE_POINTS_MIN = 5
};

/* Sorts `points` by offered rate. Values must be known and above 0. */
void knee_find(struct knee_point *points, size_t count, struct knee *out);

#endif
