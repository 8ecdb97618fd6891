/*
 * observe_compat.h - a load's requests in the words of another load tool: its percentiles and
 * throughput over what the client kept (load_options.events_max). Driven by `harness load
 * --compat` and `harness run --compat`; formulas are compat.h's.
 */
#ifndef HARNESS_RUN_OBSERVE_COMPAT_H
#define HARNESS_RUN_OBSERVE_COMPAT_H

#include "engine/base/status.h"
#include "harness/analysis/compat.h"
#include "harness/load/shared.h"

enum {
    OBSERVE_COMPAT_EVENTS_MAX = 1 << 22 /* that a client is asked to keep for it */
};

/* After the load has ended. INVALID: no events were asked for; NOMEM. */
MUST_CHECK enum status observe_compat(const struct load_shared *client, enum compat_tool tool,
                                      struct compat_seen *out, struct error *error);

#endif
