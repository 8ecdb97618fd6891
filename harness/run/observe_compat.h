/*
 * observe_compat.h - a load's requests in the words of another load tool: its percentiles and
 * throughput over what the client kept (load_options.events_max). Driven by `harness load
 * --compat`; formulas are compat.h's.
 */
#ifndef HARNESS_RUN_OBSERVE_COMPAT_H
#define HARNESS_RUN_OBSERVE_COMPAT_H

#include "engine/base/status.h"
#include "harness/analysis/compat.h"
#include "harness/load/shared.h"

/* NAN: the tool would print no such number. */
struct compat_spread {
    size_t samples_count;
    double mean_ms;
    double p50_ms;
    double p90_ms;
    double p99_ms;
};

struct observe_compat {
    size_t requests_count; /* that were scheduled (closed loop: ended) in the window */
    size_t success_count;  /* of these, by the tool's judgement */
    size_t left_out_count; /* requests whose events were not all kept; in nothing here */
    struct compat_spread ttft;
    struct compat_spread tpot;
    struct compat_spread itl;
    struct compat_spread e2e;
    struct compat_rates rates;
};

/* After the load has ended. INVALID: no events were asked for; NOMEM. */
MUST_CHECK enum status observe_compat(const struct load_shared *client, enum compat_tool tool,
                                      struct observe_compat *out, struct error *error);

#endif
