/*
 * prometheus.h - what a server says of itself at /metrics: the Prometheus text format as samples,
 * sums over series, and histograms whose difference between two scrapes has quantiles.
 *
 *     struct prometheus before, after;
 *     TRY(prometheus_parse(text, bytes, &before, error));  ...measure...
 *     tokens = prometheus_sum(&after, "vllm:generation_tokens_total", NULL, NULL) - ...
 *
 * Pure functions over text that others wrote: every byte is checked, and memory is bounded. A line
 * that is no sample is left out and counted, with the number and reason of the first one.
 */
#ifndef HARNESS_PROBE_PROMETHEUS_H
#define HARNESS_PROBE_PROMETHEUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    PROMETHEUS_TEXT_BYTES_MAX = 32 << 20,
    PROMETHEUS_SAMPLES_MAX = 1 << 18,
    PROMETHEUS_LABELS_MAX = 1 << 20, /* of all samples */
    PROMETHEUS_BUCKETS_MAX = 128,
};

enum prometheus_type {
    PROMETHEUS_UNTYPED,
    PROMETHEUS_COUNTER,
    PROMETHEUS_GAUGE,
    PROMETHEUS_HISTOGRAM,
    PROMETHEUS_SUMMARY
};

struct prometheus_label {
    const char *name;
    const char *value; /* escapes resolved */
};

struct prometheus_sample {
    const char *name; /* with its _total, _bucket, _sum or _count */
    double value;     /* NAN and infinities as they stand there */
    uint32_t labels_first;
    uint32_t labels_count;
    enum prometheus_type type; /* of the family it stands in */
};

struct prometheus {
    struct prometheus_sample *samples; /* in the order of the text */
    size_t samples_count;
    struct prometheus_label *labels; /* of sample s: labels[s.labels_first ...] */
    size_t labels_count;
    uint32_t malformed_count;
    uint32_t malformed_line;   /* of the first one, from 1; 0: none */
    const char *malformed_why; /* "" */
    char *text;                /* what the strings above point into */
};

/* FULL: more than the limits above. Malformed lines are no error. */
MUST_CHECK enum status prometheus_parse(const char *text, size_t bytes, struct prometheus *out,
                                        struct error *error);
void prometheus_free(struct prometheus *p);

/* The value of a label, NULL if the sample has none of that name. */
const char *prometheus_label(const struct prometheus *p, const struct prometheus_sample *sample,
                             const char *name);
/* Sum of all samples called `name`, or of those with that label value (label NULL: all). NAN if
 * there is none. */
double prometheus_sum(const struct prometheus *p, const char *name, const char *label,
                      const char *value);

/* Buckets of one or several series added up, the counts cumulative as in the text. */
struct prometheus_histogram {
    double le[PROMETHEUS_BUCKETS_MAX]; /* ascending, the last one infinite */
    double at_most_count[PROMETHEUS_BUCKETS_MAX];
    uint32_t buckets_count;
    double count;
    double sum;
};

/* False: no such histogram, buckets without an infinite one, too many, or counts that fall. */
bool prometheus_histogram(const struct prometheus *p, const char *name, const char *label,
                          const char *value, struct prometheus_histogram *out);
/* What came between two scrapes. False when the buckets differ. A server that began anew in
 * between has counted less: then all of `after`. */
bool prometheus_since(const struct prometheus_histogram *before,
                      const struct prometheus_histogram *after, struct prometheus_histogram *out);
/* The bucket that a quantile lies in: above *lo, at most *hi (infinite in the last one). More is
 * not known: a straight line within a bucket would invent digits. False when nothing was counted.
 */
bool prometheus_quantile(const struct prometheus_histogram *h, double quantile, double *lo,
                         double *hi);

#endif
