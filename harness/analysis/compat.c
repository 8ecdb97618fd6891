/*
 * compat.c - other tools' arithmetic over recorded streams (compat.h). Each rule stands once, next
 * to the tools that share it. Driven by tests and by what compares results across tools.
 */
#include "harness/analysis/compat.h"

#include <math.h>
#include <string.h>

#include "engine/base/status.h"
#include "harness/analysis/stats.h"

const char *compat_tool_name(enum compat_tool tool)
{
    static const char *const names[] = {"vllm", "guidellm", "aiperf", "mlperf", "sglang"};
    return names[tool];
}

bool compat_tool_of(const char *name, enum compat_tool *tool)
{
    for (int i = 0; i < COMPAT_TOOLS_COUNT; i++) {
        if (strcmp(name, compat_tool_name((enum compat_tool)i)) == 0) {
            *tool = (enum compat_tool)i;
            return true;
        }
    }
    return false;
}

bool compat_tools_of(const char *names, uint32_t *tools)
{
    bool any = false;
    while (*names != '\0') {
        char name[16];
        enum compat_tool tool;
        size_t bytes = strcspn(names, ",");
        if (bytes >= sizeof name) {
            return false;
        }
        memcpy(name, names, bytes);
        name[bytes] = '\0';
        if (!compat_tool_of(name, &tool)) {
            return false;
        }
        *tools |= 1U << tool;
        any = true;
        names += bytes;
        names += *names == ',' && names[1] != '\0';
    }
    return any;
}

static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

void compat_take_events(struct compat_request *request, const struct compat_event *events,
                        size_t count)
{
    request->events = events;
    request->events_count = count;
    request->content_count = 0;
    request->counted_tokens = 0;
    for (size_t i = 0; i < count; i++) {
        const struct compat_event *e = &events[i];
        if (i == 0) {
            request->first_choices_ns = e->at_ns;
        }
        request->last_choices_ns = e->at_ns;
        if (e->tokens == 0) {
            continue;
        }
        if (request->content_count++ == 0) {
            request->first_ns = e->at_ns;
        }
        request->last_ns = e->at_ns;
        request->counted_tokens += e->tokens;
    }
}

/* A time divided by the tokens after the first: NAN where there are none. */
static double each_ms(int64_t ns, uint32_t tokens)
{
    return tokens > 1 ? ms(ns) / (tokens - 1) : STATS_UNKNOWN;
}

static void measure_vllm(const struct compat_request *r, struct compat_values *out)
{
    out->success = r->ok && r->events_count > 0;
    out->tokens_count = r->usage_tokens > 0 ? r->usage_tokens : r->counted_tokens;
    if (!out->success) {
        return;
    }
    out->ttft_ms = ms(r->first_choices_ns - r->sent_ns);
    out->e2e_ms = ms(r->last_choices_ns - r->sent_ns);
    /* One token: 0 where goodput is judged, but no sample of the distribution. */
    out->tpot_is_a_sample = out->tokens_count > 1;
    out->tpot_ms = out->tpot_is_a_sample
                       ? each_ms(r->last_choices_ns - r->first_choices_ns, out->tokens_count)
                       : 0;
    out->itl_gaps_count = r->events_count - 1;
}

static void measure_guidellm(const struct compat_request *r, struct compat_values *out)
{
    out->success = r->ok;
    out->tokens_count = r->usage_tokens > 0 ? r->usage_tokens : r->counted_tokens;
    if (!out->success) {
        return;
    }
    out->e2e_ms = ms(r->done_ns - r->sent_ns);
    if (r->content_count == 0 || out->tokens_count == 0) {
        return;
    }
    out->ttft_ms = ms(r->first_ns - r->sent_ns);
    out->tpot_ms = ms(r->last_ns - r->sent_ns) / out->tokens_count; /* the first token's time too */
    out->tpot_is_a_sample = true;
    out->itl_request_ms = each_ms(r->last_ns - r->first_ns, out->tokens_count);
}

static void measure_aiperf(const struct compat_request *r, struct compat_values *out)
{
    out->success = r->ok && r->content_count > 0;
    out->tokens_count = r->counted_tokens;
    if (!out->success) {
        return;
    }
    out->ttft_ms = ms(r->first_ns - r->sent_ns);
    out->e2e_ms = ms(r->last_ns - r->sent_ns);
    out->itl_request_ms = each_ms(r->last_ns - r->first_ns, out->tokens_count);
    out->tpot_ms = out->itl_request_ms; /* no other number of this kind */
    out->tpot_is_a_sample = out->tokens_count > 1;
}

static void measure_mlperf(const struct compat_request *r, struct compat_values *out)
{
    out->success = r->ok && r->content_count > 0;
    out->tokens_count = r->usage_tokens > 0 ? r->usage_tokens : r->counted_tokens;
    if (!out->success) {
        return;
    }
    /* The system under test tells first token and completion: here its last token. */
    out->ttft_ms = ms(r->first_ns - r->sched_ns);
    out->e2e_ms = ms(r->last_ns - r->sched_ns);
    out->tpot_ms = each_ms(r->last_ns - r->first_ns, out->tokens_count);
    out->tpot_is_a_sample = out->tokens_count > 1;
}

static void measure_sglang(const struct compat_request *r, struct compat_values *out)
{
    out->success = r->ok; /* an empty answer too */
    out->tokens_count = r->usage_tokens > 0 ? r->usage_tokens : r->asked_tokens;
    if (!out->success) {
        return;
    }
    /* Nothing came: the first token's time stays at its initial 0. */
    int64_t ttft_ns = r->content_count > 0 ? r->first_ns - r->sent_ns : 0;
    int64_t e2e_ns = r->done_ns - r->sent_ns;
    out->ttft_ms = ms(ttft_ns);
    out->e2e_ms = ms(e2e_ns);
    out->tpot_ms = each_ms(e2e_ns - ttft_ns, out->tokens_count);
    out->tpot_is_a_sample = out->tokens_count > 1;
    out->itl_gaps_count = r->content_count > 0 ? r->content_count - 1 : 0;
}

void compat_measure(enum compat_tool tool, const struct compat_request *request,
                    struct compat_values *out)
{
    *out = (struct compat_values){.ttft_ms = STATS_UNKNOWN,
                                  .e2e_ms = STATS_UNKNOWN,
                                  .tpot_ms = STATS_UNKNOWN,
                                  .itl_request_ms = STATS_UNKNOWN};
    switch (tool) {
    case COMPAT_VLLM:
        measure_vllm(request, out);
        break;
    case COMPAT_GUIDELLM:
        measure_guidellm(request, out);
        break;
    case COMPAT_AIPERF:
        measure_aiperf(request, out);
        break;
    case COMPAT_MLPERF:
        measure_mlperf(request, out);
        break;
    case COMPAT_SGLANG:
        measure_sglang(request, out);
        break;
    case COMPAT_TOOLS_COUNT:
        break;
    }
}

void compat_itl_gaps(enum compat_tool tool, const struct compat_request *request, double *gaps_ms)
{
    struct compat_values values;
    const struct compat_event *before = NULL;
    ASSERT(request->events != NULL || request->events_count == 0);
    compat_measure(tool, request, &values);
    for (size_t i = 0; i < request->events_count && values.itl_gaps_count > 0; i++) {
        const struct compat_event *e = &request->events[i];
        if (tool != COMPAT_VLLM && e->tokens == 0) {
            continue;
        }
        if (before != NULL) {
            *gaps_ms++ = ms(e->at_ns - before->at_ns);
        }
        before = e;
    }
}

/* ---- over many requests ---- */

static double interpolated(const double *sorted, size_t count, double p)
{
    double place = p * (double)(count - 1);
    size_t below = (size_t)place;
    size_t above = below + 1 < count ? below + 1 : below;
    double part = place - (double)below;
    /* Not below + part x (above - below): failures may be infinite on both sides. */
    return part > 0 ? sorted[below] * (1 - part) + sorted[above] * part : sorted[below];
}

double compat_percentile(enum compat_tool tool, const double *sorted, size_t count, double p)
{
    if (count == 0) {
        return STATS_UNKNOWN;
    }
    if (tool == COMPAT_MLPERF) {
        size_t place = (size_t)((double)count * p);
        return sorted[place < count ? place : count - 1];
    }
    if (tool == COMPAT_GUIDELLM) {
        return p > 0 ? stats_quantile(sorted, count, p) : sorted[0];
    }
    return interpolated(sorted, count, p);
}

/* First begin and last end, as a tool sees them, and what was counted. */
struct totals {
    uint64_t requests_count; /* successes */
    uint64_t tokens;
    int64_t begin_ns;
    int64_t end_ns;
    bool failed; /* any */
};

static void widen(struct totals *t, int64_t begin_ns, int64_t end_ns)
{
    t->begin_ns = begin_ns < t->begin_ns ? begin_ns : t->begin_ns;
    t->end_ns = end_ns > t->end_ns ? end_ns : t->end_ns;
}

static struct totals totals_of(enum compat_tool tool, const struct compat_request *requests,
                               size_t count)
{
    struct totals t = {.begin_ns = INT64_MAX, .end_ns = INT64_MIN};
    for (size_t i = 0; i < count; i++) {
        const struct compat_request *r = &requests[i];
        struct compat_values values;
        compat_measure(tool, r, &values);
        t.failed = t.failed || !values.success;
        t.requests_count += values.success;
        t.tokens += values.success ? values.tokens_count : 0;
        if (tool == COMPAT_MLPERF) {
            widen(&t, r->sched_ns, values.success ? r->last_ns : r->done_ns);
        } else if (tool == COMPAT_AIPERF && values.success) {
            widen(&t, r->sent_ns, r->last_ns);
        } else if (tool != COMPAT_AIPERF) {
            widen(&t, r->sent_ns, r->done_ns);
        }
    }
    return t;
}

/* Of what happened within the window, whoever it belongs to. */
static void count_within(const struct compat_request *requests, size_t count, struct totals *t)
{
    t->requests_count = 0;
    t->tokens = 0;
    for (size_t i = 0; i < count; i++) {
        const struct compat_request *r = &requests[i];
        t->requests_count += r->ok && r->done_ns >= t->begin_ns && r->done_ns <= t->end_ns;
        for (size_t k = 0; k < r->events_count && r->ok && r->events != NULL; k++) {
            const struct compat_event *e = &r->events[k];
            t->tokens += e->at_ns >= t->begin_ns && e->at_ns <= t->end_ns ? e->tokens : 0;
        }
    }
}

struct compat_rates compat_rates_of(enum compat_tool tool, const struct compat_request *requests,
                                    size_t count, const struct compat_window *window)
{
    struct compat_rates rates = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    struct totals t = totals_of(tool, requests, count);
    if (tool == COMPAT_GUIDELLM) {
        if (window != NULL) {
            t.begin_ns = window->start_ns;
            t.end_ns = window->end_ns;
        }
        count_within(requests, count, &t);
    }
    if (t.end_ns <= t.begin_ns || (tool == COMPAT_MLPERF && t.failed)) {
        return rates;
    }
    /* The first of MLPerf's requests marks the begin and is not counted. */
    double completed = (double)t.requests_count - (tool == COMPAT_MLPERF ? 1 : 0);
    rates.window_s = (double)(t.end_ns - t.begin_ns) / 1e9;
    rates.requests_per_s = completed / rates.window_s;
    rates.output_tok_per_s = (double)t.tokens / rates.window_s;
    return rates;
}
