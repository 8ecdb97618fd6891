/*
 * knee.c - owns Kneedle and the power of knee.h. Driven by the search for rates once all its
 * points are measured. Must not name a knee of a curve that does not bend.
 */
#include "harness/analysis/knee.h"

#include <stdlib.h>

#include "harness/analysis/stats.h"

/* Below the chord by less than this share of the range: as good as straight. */
#define BEND_LEAST 0.1

static int by_rate(const void *a, const void *b)
{
    const struct knee_point *x = a;
    const struct knee_point *y = b;
    return (x->offered_per_s > y->offered_per_s) - (x->offered_per_s < y->offered_per_s);
}

static double power_of(const struct knee_point *p)
{
    return p->achieved_per_s / p->latency_ms;
}

/* How far below the chord from the first to the last point, both axes scaled to 0..1. */
static double depth(const struct knee_point *points, size_t count, size_t at)
{
    const struct knee_point *a = &points[0];
    const struct knee_point *b = &points[count - 1];
    double x =
        (points[at].offered_per_s - a->offered_per_s) / (b->offered_per_s - a->offered_per_s);
    double y = (points[at].latency_ms - a->latency_ms) / (b->latency_ms - a->latency_ms);
    return x - y;
}

void knee_find(struct knee_point *points, size_t count, struct knee *out)
{
    *out = (struct knee){STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    if (count == 0) {
        return;
    }
    qsort(points, count, sizeof *points, by_rate);
    size_t strongest = 0;
    size_t deepest = 0;
    bool bends = count >= KNEE_POINTS_MIN &&
                 points[count - 1].offered_per_s > points[0].offered_per_s &&
                 points[count - 1].latency_ms > points[0].latency_ms;
    for (size_t i = 0; i < count; i++) {
        strongest = power_of(&points[i]) > power_of(&points[strongest]) ? i : strongest;
        if (bends && depth(points, count, i) > depth(points, count, deepest)) {
            deepest = i;
        }
    }
    out->power_per_s = points[strongest].offered_per_s;
    if (bends && depth(points, count, deepest) >= BEND_LEAST) {
        out->per_s = points[deepest].offered_per_s;
        out->lo = points[deepest - 1].offered_per_s;
        out->hi = points[deepest + 1].offered_per_s;
    }
}
