/*
 * observe_series.c - owns two things that follow from what the load client kept in time and value:
 * the bins of a latency's distribution (hist.csv), and whether a window began in steady state.
 * Called by observe_client.c. Must not call a start settled that reaches into the window and
 * matters there.
 */
#include <math.h>
#include <stdlib.h>

#include "harness/analysis/steady.h"
#include "harness/run/observe.h"

/* ---- distributions ---- */

static void add_bin(struct run_result *r, enum run_metric metric, uint32_t bucket, uint64_t count)
{
    if ((r->bins_count & (r->bins_count - 1)) == 0) { /* full at powers of two */
        uint32_t room = r->bins_count > 0 ? 2 * r->bins_count : 1;
        struct run_bin *bins = realloc(r->bins, room * sizeof *bins);
        ASSERT(bins != NULL);
        r->bins = bins;
    }
    r->bins[r->bins_count++] =
        (struct run_bin){.metric = (uint32_t)metric, .bucket = bucket, .count = count};
}

void observe_add_samples(struct run_result *r, enum run_metric metric, const double *sorted_ms,
                         size_t count)
{
    size_t first = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bucket = histogram_bucket((uint64_t)llround(fmax(0, sorted_ms[i]) * 1e6));
        bool last = i + 1 == count ||
                    histogram_bucket((uint64_t)llround(fmax(0, sorted_ms[i + 1]) * 1e6)) != bucket;
        if (last) {
            add_bin(r, metric, bucket, i + 1 - first);
            first = i + 1;
        }
    }
}

void observe_add_gaps(struct run_result *r, enum run_metric metric, const struct histogram *gaps)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS_COUNT; i++) {
        uint64_t count = atomic_load_explicit(&gaps->counts[i], memory_order_relaxed);
        if (count > 0) {
            add_bin(r, metric, i, count);
        }
    }
}

/* ---- steady state ---- */

static double mean_of(const double *values, size_t from, size_t to)
{
    double sum = 0;
    for (size_t i = from; i < to; i++) {
        sum += values[i];
    }
    return sum / (double)(to - from);
}

/* `window_from`: the first value of the window. A truncation behind it may be chance: then the mean
 * of the window is nearly the same without what lies before it. */
static double steady_flag(const double *values, size_t count, size_t window_from)
{
    struct steady s = steady_of(values, count);
    if (!s.is_known || window_from >= count) {
        return STATS_UNKNOWN;
    }
    if (s.truncated_count <= window_from && s.has_settled) {
        return 1;
    }
    if (s.truncated_count <= window_from) { /* of what did not settle the window may be steady */
        s = steady_of(values + window_from, count - window_from);
        return !s.is_known ? STATS_UNKNOWN : s.has_settled && s.is_steady ? 1 : 0;
    }
    double all = mean_of(values, window_from, count);
    double rest = mean_of(values, s.truncated_count, count);
    return fabs(all - rest) <= STEADY_BIAS_FRAC * rest ? 1 : 0;
}

void observe_fill_steady(const struct load_shared *client, struct run_result *r)
{
    size_t count = (size_t)((r->warmup_s + r->window_s) * 1e9 / LOAD_BUCKET_NS + 1e-6);
    size_t window_from = (size_t)ceil(r->warmup_s * 1e9 / LOAD_BUCKET_NS - 1e-6);
    r->steady_flag = STATS_UNKNOWN;
    if (!(r->window_s > 0) || count >= LOAD_BUCKETS_COUNT) {
        return;
    }
    double *tokens = calloc(count + 1, sizeof *tokens);
    double *inflight = calloc(count + 1, sizeof *inflight);
    ASSERT(tokens != NULL && inflight != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct load_bucket *b = &client->timeline[i];
        uint32_t changed = atomic_load_explicit(&b->inflight_plus_1, memory_order_relaxed);
        tokens[i] = atomic_load_explicit(&b->tokens, memory_order_relaxed);
        inflight[i] = changed > 0 ? changed - 1 : i > 0 ? inflight[i - 1] : 0;
    }
    double by_tokens = steady_flag(tokens, count, window_from);
    double by_inflight = steady_flag(inflight, count, window_from);
    if (!isnan(by_tokens) && !isnan(by_inflight)) {
        r->steady_flag = by_tokens > 0 && by_inflight > 0 ? 1 : 0;
    }
    free(tokens);
    free(inflight);
}
