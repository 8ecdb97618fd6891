/*
 * prometheus_query.c - sums, histograms and quantiles over the samples of a scrape (prometheus.h).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/probe/prometheus.h"

enum {
    NAME_BYTES = 256,
};

const char *prometheus_label(const struct prometheus *p, const struct prometheus_sample *sample,
                             const char *name)
{
    for (uint32_t i = 0; i < sample->labels_count; i++) {
        const struct prometheus_label *label = &p->labels[sample->labels_first + i];
        if (strcmp(label->name, name) == 0) {
            return label->value;
        }
    }
    return NULL;
}

static bool matches(const struct prometheus *p, const struct prometheus_sample *sample,
                    const char *label, const char *value)
{
    const char *found = label != NULL ? prometheus_label(p, sample, label) : NULL;
    return label == NULL || (found != NULL && strcmp(found, value) == 0);
}

double prometheus_sum(const struct prometheus *p, const char *name, const char *label,
                      const char *value)
{
    double sum = 0;
    bool any = false;
    for (size_t i = 0; i < p->samples_count; i++) {
        const struct prometheus_sample *s = &p->samples[i];
        if (strcmp(s->name, name) == 0 && matches(p, s, label, value)) {
            sum += s->value;
            any = true;
        }
    }
    return any ? sum : (double)NAN;
}

/* Its place in ascending order; made when it is new. False: no room. */
static bool add_bucket(struct prometheus_histogram *h, double le, double count)
{
    uint32_t at = 0;
    while (at < h->buckets_count && h->le[at] < le) {
        at++;
    }
    if (at == h->buckets_count || h->le[at] > le) {
        if (h->buckets_count == PROMETHEUS_BUCKETS_MAX) {
            return false;
        }
        size_t behind = h->buckets_count - at;
        memmove(&h->le[at + 1], &h->le[at], behind * sizeof h->le[0]);
        memmove(&h->at_most_count[at + 1], &h->at_most_count[at],
                behind * sizeof h->at_most_count[0]);
        h->le[at] = le;
        h->at_most_count[at] = 0;
        h->buckets_count++;
    }
    h->at_most_count[at] += count;
    return true;
}

static bool le_of(const char *text, double *out)
{
    char *end = NULL;
    if (text == NULL) {
        return false;
    }
    *out = strtod(text, &end);
    return end != text && *end == '\0' && !isnan(*out);
}

static bool sound(const struct prometheus_histogram *h)
{
    for (uint32_t i = 0; i < h->buckets_count; i++) {
        double before = i > 0 ? h->at_most_count[i - 1] : 0;
        if (!(h->at_most_count[i] >= before) || isinf(h->at_most_count[i])) {
            return false;
        }
    }
    return h->buckets_count > 0 && isinf(h->le[h->buckets_count - 1]) &&
           h->le[h->buckets_count - 1] > 0;
}

bool prometheus_histogram(const struct prometheus *p, const char *name, const char *label,
                          const char *value, struct prometheus_histogram *out)
{
    char bucket[NAME_BYTES];
    char total[NAME_BYTES];
    struct prometheus_histogram h = {.buckets_count = 0};
    (void)snprintf(bucket, sizeof bucket, "%.200s_bucket", name);
    (void)snprintf(total, sizeof total, "%.200s_sum", name);
    for (size_t i = 0; i < p->samples_count; i++) {
        const struct prometheus_sample *s = &p->samples[i];
        double le = 0;
        if (strcmp(s->name, bucket) != 0 || !matches(p, s, label, value)) {
            continue;
        }
        if (!le_of(prometheus_label(p, s, "le"), &le) || !add_bucket(&h, le, s->value)) {
            return false;
        }
    }
    if (!sound(&h)) {
        return false;
    }
    h.count = h.at_most_count[h.buckets_count - 1];
    h.sum = prometheus_sum(p, total, label, value);
    *out = h;
    return true;
}

bool prometheus_since(const struct prometheus_histogram *before,
                      const struct prometheus_histogram *after, struct prometheus_histogram *out)
{
    struct prometheus_histogram h = *after;
    if (before->buckets_count != after->buckets_count) {
        return false;
    }
    for (uint32_t i = 0; i < after->buckets_count; i++) {
        if (before->le[i] < after->le[i] || before->le[i] > after->le[i]) {
            return false;
        }
    }
    for (uint32_t i = 0; i < after->buckets_count && before->count <= after->count; i++) {
        h.at_most_count[i] = after->at_most_count[i] - before->at_most_count[i];
    }
    if (before->count <= after->count) {
        h.count = after->count - before->count;
        h.sum = after->sum - before->sum;
    }
    *out = h;
    return sound(out);
}

bool prometheus_quantile(const struct prometheus_histogram *h, double quantile, double *lo,
                         double *hi)
{
    double rank = quantile * h->count;
    uint32_t at = 0;
    if (!(h->count > 0)) {
        return false;
    }
    while (at + 1 < h->buckets_count && h->at_most_count[at] < rank) {
        at++;
    }
    *lo = at > 0 ? h->le[at - 1] : fmin(h->le[0], 0);
    *hi = h->le[at];
    return true;
}
