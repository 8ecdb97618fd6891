/*
 * compat.h - the same requests in the words of other load tools: what each would print as TTFT,
 * TPOT, ITL, E2E, percentile and throughput for a stream that was recorded once. Pure functions: no
 * I/O, no clock, no allocation. `harness metrics` prints the formulas (metric_text.h).
 *
 *     struct compat_request r = {.sched_ns = ..., .sent_ns = ..., .done_ns = ..., .ok = true};
 *     compat_take_events(&r, events, count);
 *     compat_measure(COMPAT_VLLM, &r, &values);
 *
 * Stamps of a request: s scheduled, a sent, c1 first event with `choices`, f first with content, l
 * last with content, L last with `choices`, d [DONE] or the end of the body. NAN: the tool gives no
 * such number for this request.
 */
#ifndef HARNESS_ANALYSIS_COMPAT_H
#define HARNESS_ANALYSIS_COMPAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum compat_tool {
    COMPAT_VLLM,     /* vllm bench serve */
    COMPAT_GUIDELLM, /* GuideLLM */
    COMPAT_AIPERF,   /* AIPerf */
    COMPAT_MLPERF,   /* MLPerf loadgen, server scenario */
    COMPAT_SGLANG,   /* sglang.bench_serving */
    COMPAT_TOOLS_COUNT
};

/* "vllm", "guidellm", "aiperf", "mlperf", "sglang". */
const char *compat_tool_name(enum compat_tool tool);
/* False: no such tool. */
bool compat_tool_of(const char *name, enum compat_tool *tool);
/* "vllm" or "vllm,guidellm": bit i for the i-th tool, added to *tools. False: names no tool. */
bool compat_tools_of(const char *names, uint32_t *tools);

/* An event with `choices`, as a client read it. */
struct compat_event {
    int64_t at_ns;
    uint32_t tokens; /* of its text, by a tokenizer; 0: no content (a role, an empty delta) */
};

struct compat_request {
    int64_t sched_ns;
    int64_t sent_ns;
    int64_t done_ns;          /* of a failure: when it was noticed */
    int64_t first_choices_ns; /* valid with events_count > 0 */
    int64_t last_choices_ns;
    int64_t first_ns; /* valid with content_count > 0 */
    int64_t last_ns;
    size_t events_count;     /* with `choices` */
    size_t content_count;    /* of these, with content */
    uint32_t counted_tokens; /* over the text */
    uint32_t usage_tokens;   /* completion_tokens; 0: the server sent no usage */
    uint32_t asked_tokens;   /* max_tokens */
    bool ok;                 /* 2xx and a complete stream, empty or not */
    /* [events_count]; NULL where only stamps were kept: gaps and events in a window are then not
     * known. */
    const struct compat_event *events;
};

/* Takes the events, and the stamps and counts that follow from them. `events` must outlive it. */
void compat_take_events(struct compat_request *request, const struct compat_event *events,
                        size_t count);

struct compat_values {
    bool success;          /* enters the tool's latencies */
    uint32_t tokens_count; /* what the tool takes for the number of output tokens */
    double ttft_ms;
    double e2e_ms;
    double tpot_ms;        /* what the tool calls so, or its nearest */
    bool tpot_is_a_sample; /* enters the tool's TPOT distribution */
    double itl_request_ms; /* where ITL is one number a request; else NAN */
    size_t itl_gaps_count; /* where ITL is the pooled gaps: how many this request has */
};

void compat_measure(enum compat_tool tool, const struct compat_request *request,
                    struct compat_values *out);
/* The gaps, ms, into gaps_ms[0 .. itl_gaps_count); nothing for tools that pool none. Needs events.
 */
void compat_itl_gaps(enum compat_tool tool, const struct compat_request *request, double *gaps_ms);

/* The tool's percentile of sorted values, 0 <= p <= 1. NAN without values. */
double compat_percentile(enum compat_tool tool, const double *sorted, size_t count, double p);

/* What a tool without a fixed window cuts off: GuideLLM's warm-up and cool-down. */
struct compat_window {
    int64_t start_ns;
    int64_t end_ns;
};

struct compat_rates {
    double window_s;
    double requests_per_s;
    double output_tok_per_s;
};

/* Throughput over all requests of a run. `window` is used for GuideLLM alone and may be NULL: first
 * send to last end; it needs events. NAN where there is nothing to divide by, or the tool calls the
 * run invalid. */
struct compat_rates compat_rates_of(enum compat_tool tool, const struct compat_request *requests,
                                    size_t count, const struct compat_window *window);

/* NAN: the tool would print no such number. */
struct compat_spread {
    size_t samples_count;
    double mean_ms;
    double p50_ms;
    double p90_ms;
    double p99_ms;
};

/* A load in the words of one tool (run/observe_compat.h). */
struct compat_seen {
    bool is_known;         /* false: there was no load to judge */
    size_t requests_count; /* that were scheduled (closed loop: ended) in the window */
    size_t success_count;  /* of these, by the tool's judgement */
    size_t left_out_count; /* requests whose events were not all kept; in nothing here */
    struct compat_spread ttft;
    struct compat_spread tpot;
    struct compat_spread itl;
    struct compat_spread e2e;
    struct compat_rates rates;
};

#endif
