/*
 * stability.h - does a system keep up with an open load? A test with three outcomes on what arrived
 * and what was completed in each batch of a window. Pure functions; the search for the greatest
 * stable rate drives them.
 *
 * A plain "achieved over offered < 0.98" calls one in five healthy systems at 95 % load saturated
 * when the window is 15 mean request times long. Here the ratio has an interval, a growing backlog
 * is a t test of its own, and what neither shows is undecided: the window is doubled, twice at
 * most, with the error probability divided among the looks.
 */
#ifndef HARNESS_ANALYSIS_STABILITY_H
#define HARNESS_ANALYSIS_STABILITY_H

#include <stddef.h>
#include <stdint.h>

#define STABILITY_SATURATED_BELOW 0.98 /* upper bound of the ratio under this: saturated */
#define STABILITY_STABLE_ABOVE    0.96 /* lower bound over this: may be stable */
#define STABILITY_SLOPE_FRAC      0.01 /* growth of the backlog that matters, of the rate */

enum {
    STABILITY_LOOKS = 3 /* the window, twice and four times as long */
};

enum stability_outcome {
    STABILITY_UNDECIDED,
    STABILITY_STABLE,
    STABILITY_SATURATED
};

/* Requests that arrived, and that were completed, in one batch of the window. */
struct stability_batch {
    double arrived_count;
    double completed_count;
};

struct stability {
    enum stability_outcome outcome;
    double ratio;    /* completed over arrived; NAN without arrivals */
    double ratio_lo; /* one-sided bounds: judged at the look's share of 5 %; NAN below 3 batches */
    double ratio_hi;
    double slope_frac; /* growth of the backlog over the arrival rate */
    double slope_p;    /* one-sided p of no growth */
};

/* Ratio and growth alone; bounds of the ratio at `alpha` on each side. `outcome` is undecided. */
void stability_measure(const struct stability_batch *batches, size_t count, double alpha,
                       struct stability *out);

/* `look`: 0 for the first window, 1 after doubling it, 2 after doubling it again; the batches are
 * those of the whole window so far, all of equal length. */
void stability_judge(const struct stability_batch *batches, size_t count, uint32_t look,
                     struct stability *out);

#endif
