/*
 * steady.h - where does the start of a run end? The rule MSER-5 on values of equal consecutive
 * intervals (requests in flight, tokens of each 100 ms): they are averaged by fives, and the
 * truncation is the number of averages whose removal makes the standard error of the mean of the
 * rest least. Pure functions; the measuring of a run and its report drive them.
 *
 * Only the first half is searched. A minimum at its end is none: the values still rise or fall, and
 * more of them are needed. A slow rise under noise has minima by chance, so the rest must not drift
 * either: its second half may differ from its first by a little, or by what noise makes.
 *
 * A start that was left out may be longer than it had to be, by chance; what counts is whether it
 * moves the mean, which `bias_frac` says.
 */
#ifndef HARNESS_ANALYSIS_STEADY_H
#define HARNESS_ANALYSIS_STEADY_H

#include <stdbool.h>
#include <stddef.h>

#define STEADY_BIAS_FRAC  0.05 /* of the mean of the rest: a start that moves it by more matters */
#define STEADY_DRIFT_FRAC 0.05 /* of the mean of the rest, from its first half to its second */
#define STEADY_DRIFT_T    2.0  /* standard errors of that difference */

enum {
    STEADY_BATCH_VALUES = 5,
    STEADY_VALUES_MIN = 40, /* fewer tell nothing: 8 averages */
    STEADY_LOOKS = 4 /* asked again with each average more: so many times in a row settled is it */
};

struct steady {
    bool is_known;          /* there were enough values; else the rest is not set */
    bool has_settled;       /* the start ends within the first half, and the rest does not drift */
    bool is_steady;         /* the start, wherever it ends, does not matter: bias_frac is small */
    size_t truncated_count; /* values of the start, a multiple of STEADY_BATCH_VALUES */
    double bias_frac;       /* |mean of all - mean of the rest| over the mean of the rest; INFINITY
                               when only the mean of the rest is 0 */
};

/* Values past the last full five are not looked at. */
struct steady steady_of(const double *values, size_t count);

#endif
