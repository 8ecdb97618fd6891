/*
 * stability.c - owns the test of stability.h: a ratio estimator over batches, and Student's t on
 * the growth of the backlog from batch to batch, which unlike the backlog itself is nearly
 * independent. Driven by the search for rates. Must not call a system stable or saturated that the
 * window cannot tell.
 */
#include "harness/analysis/stability.h"

#include <math.h>
#include <stdbool.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

#define ALPHA 0.05

struct sums {
    double arrived;
    double completed;
};

static struct sums sum_of(const struct stability_batch *batches, size_t count)
{
    struct sums s = {0, 0};
    for (size_t i = 0; i < count; i++) {
        s.arrived += batches[i].arrived_count;
        s.completed += batches[i].completed_count;
    }
    return s;
}

/* Standard error of sum(completed)/sum(arrived), by the residuals completed - ratio x arrived. */
static double ratio_error(const struct stability_batch *batches, size_t count, double ratio,
                          double mean_arrived)
{
    double n = (double)count;
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double r = batches[i].completed_count - ratio * batches[i].arrived_count;
        sum += r * r;
    }
    return sqrt(sum / (n - 1.0) / n) / mean_arrived;
}

static void judge_growth(const struct stability_batch *batches, size_t count, double mean_arrived,
                         struct stability *out)
{
    double n = (double)count;
    double mean = 0;
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        mean += (batches[i].arrived_count - batches[i].completed_count) / n;
    }
    for (size_t i = 0; i < count; i++) {
        double d = batches[i].arrived_count - batches[i].completed_count - mean;
        sum += d * d;
    }
    double error = sqrt(sum / (n - 1.0) / n);
    out->slope_frac = mean / mean_arrived;
    if (error > 0) {
        out->slope_p = 1.0 - stats_student_cdf(mean / error, n - 1.0);
    } else {
        out->slope_p = mean > 0 ? 0.0 : 1.0;
    }
}

void stability_measure(const struct stability_batch *batches, size_t count, double alpha,
                       struct stability *out)
{
    *out = (struct stability){.ratio = STATS_UNKNOWN,
                              .ratio_lo = STATS_UNKNOWN,
                              .ratio_hi = STATS_UNKNOWN,
                              .slope_frac = STATS_UNKNOWN,
                              .slope_p = STATS_UNKNOWN};
    struct sums s = sum_of(batches, count);
    if (!(s.arrived > 0)) {
        return;
    }
    out->ratio = s.completed / s.arrived;
    if (count < 3) {
        return;
    }
    double mean_arrived = s.arrived / (double)count;
    double t = stats_student_quantile(1.0 - alpha, (double)count - 1.0);
    double margin = t * ratio_error(batches, count, out->ratio, mean_arrived);
    out->ratio_lo = out->ratio - margin;
    out->ratio_hi = out->ratio + margin;
    judge_growth(batches, count, mean_arrived, out);
}

void stability_judge(const struct stability_batch *batches, size_t count, uint32_t look,
                     struct stability *out)
{
    double alpha = ALPHA / STABILITY_LOOKS;
    ASSERT(look < STABILITY_LOOKS);
    stability_measure(batches, count, alpha, out);
    bool grows = out->slope_p < alpha;
    if (out->ratio_hi < STABILITY_SATURATED_BELOW ||
        (grows && out->slope_frac > STABILITY_SLOPE_FRAC)) {
        out->outcome = STABILITY_SATURATED;
    } else if (out->ratio_lo > STABILITY_STABLE_ABOVE && !grows) {
        out->outcome = STABILITY_STABLE;
    }
}
