/*
 * steady.c - owns the rule of steady.h. Driven online while a run warms up, where it is asked again
 * with more values, and afterwards for the window. Must not call a series settled of which it has
 * only seen the rise.
 */
#include "harness/analysis/steady.h"

#include <math.h>

static double batch_at(const double *values, size_t batch)
{
    double sum = 0;
    for (size_t i = 0; i < STEADY_BATCH_VALUES; i++) {
        sum += values[batch * STEADY_BATCH_VALUES + i];
    }
    return sum / STEADY_BATCH_VALUES;
}

/* Mean and sum of squares about it, by Welford's recurrence. */
struct moments {
    double count;
    double mean;
    double squares;
};

static void take(struct moments *m, double value)
{
    double delta = value - m->mean;
    m->count++;
    m->mean += delta / m->count;
    m->squares += delta * (value - m->mean);
}

static struct moments moments_of(const double *values, size_t first, size_t end)
{
    struct moments m = {0};
    for (size_t i = first; i < end; i++) {
        take(&m, batch_at(values, i));
    }
    return m;
}

/* Batches first .. end - 1: does their second half differ from the first? */
static bool drifts(const double *values, size_t first, size_t end)
{
    size_t half = (end - first) / 2;
    struct moments a = moments_of(values, first, first + half);
    struct moments b = moments_of(values, end - half, end);
    double difference = fabs(b.mean - a.mean);
    double variance = (a.squares + b.squares) / (2 * (double)half - 2);
    return difference > STEADY_DRIFT_FRAC * fabs(a.mean + b.mean) / 2 &&
           difference > STEADY_DRIFT_T * sqrt(variance * 2 / (double)half);
}

/* From the last batch to the first: each truncation's rest is the one before and a batch more. */
struct steady steady_of(const double *values, size_t count)
{
    struct steady out = {0};
    struct moments all = {0};
    size_t batches = count / STEADY_BATCH_VALUES;
    size_t truncated = batches / 2;
    double least = 0;
    double rest_mean = 0;
    if (count < STEADY_VALUES_MIN) {
        return out;
    }
    for (size_t first = batches; first-- > 0;) {
        take(&all, batch_at(values, first));
        double score = all.squares / (all.count * all.count);
        if (first == batches / 2 || (first < batches / 2 && score <= least)) {
            least = score;
            truncated = first;
            rest_mean = all.mean;
        }
    }
    out.is_known = true;
    out.has_settled = truncated < batches / 2 && !drifts(values, truncated, batches);
    out.truncated_count = truncated * STEADY_BATCH_VALUES;
    double bias = fabs(all.mean - rest_mean);
    if (bias > 0) {
        out.bias_frac = fabs(rest_mean) > 0 ? bias / fabs(rest_mean) : (double)INFINITY;
    }
    out.is_steady = out.bias_frac <= STEADY_BIAS_FRAC;
    return out;
}
