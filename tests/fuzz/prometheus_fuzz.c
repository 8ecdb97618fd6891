/* prometheus_fuzz.c - any bytes as metrics: samples that lie inside the text and labels, histograms
 * whose counts rise and whose quantiles lie in a bucket, never a crash. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness/probe/prometheus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_histogram(const struct prometheus *p, const char *bucket_name)
{
    struct prometheus_histogram h;
    struct prometheus_histogram none;
    char name[64];
    size_t bytes = strlen(bucket_name);
    if (bytes < 7 || bytes >= sizeof name || strcmp(bucket_name + bytes - 7, "_bucket") != 0) {
        return;
    }
    memcpy(name, bucket_name, bytes - 7);
    name[bytes - 7] = '\0';
    if (!prometheus_histogram(p, name, NULL, NULL, &h)) {
        return;
    }
    ASSERT(h.buckets_count > 0 && h.buckets_count <= PROMETHEUS_BUCKETS_MAX);
    for (uint32_t i = 1; i < h.buckets_count; i++) {
        ASSERT(h.le[i] > h.le[i - 1] && h.at_most_count[i] >= h.at_most_count[i - 1]);
    }
    double lo = 0;
    double hi = 0;
    if (prometheus_quantile(&h, 0.5, &lo, &hi)) {
        ASSERT(lo <= hi && hi <= h.le[h.buckets_count - 1]);
    }
    ASSERT(prometheus_since(&h, &h, &none) && !(none.count > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prometheus p;
    struct error error;
    if (prometheus_parse((const char *)data, size, &p, &error) != STATUS_OK) {
        return 0;
    }
    ASSERT(p.samples_count <= PROMETHEUS_SAMPLES_MAX && p.labels_count <= PROMETHEUS_LABELS_MAX);
    ASSERT((p.malformed_count == 0) == (p.malformed_line == 0));
    size_t labels_count = 0;
    for (size_t i = 0; i < p.samples_count; i++) {
        const struct prometheus_sample *s = &p.samples[i];
        ASSERT(s->labels_first == labels_count);
        labels_count += s->labels_count;
        ASSERT(s->name[0] != '\0' && strlen(s->name) < size);
        for (uint32_t k = 0; k < s->labels_count; k++) {
            const char *name = p.labels[s->labels_first + k].name;
            ASSERT(name[0] != '\0' && prometheus_label(&p, s, name) != NULL);
        }
        if (i < 64) {
            (void)prometheus_sum(&p, s->name, NULL, NULL);
            check_histogram(&p, s->name);
        }
    }
    ASSERT(labels_count == p.labels_count);
    prometheus_free(&p);
    return 0;
}
