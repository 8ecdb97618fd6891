/*
 * load_compat.c - prints the load in the words of other tools (load_compat.h). Driven by load.c
 * after the load has ended; computes nothing itself.
 */
#include "harness/cli/load_compat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/run/observe_compat.h"

static void print_number(const char *name, double value)
{
    if (isnan(value)) {
        (void)printf("   %s %9s", name, "-");
    } else {
        (void)printf("   %s %9.2f", name, value);
    }
}

static void print_spread(const char *tool, const char *metric, const struct compat_spread *s)
{
    char name[32];
    (void)snprintf(name, sizeof name, "%s_%s_ms", tool, metric);
    (void)printf("  %-17s", name);
    print_number("mean", s->mean_ms);
    print_number("p50", s->p50_ms);
    print_number("p90", s->p90_ms);
    print_number("p99", s->p99_ms);
    (void)printf("   of %zu\n", s->samples_count);
}

static void print_tool(enum compat_tool tool, const struct load_shared *shared)
{
    struct compat_seen seen;
    struct error error;
    const char *name = compat_tool_name(tool);
    if (observe_compat(shared, tool, &seen, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness load: --compat %s: %s\n", name, error.text);
        return;
    }
    (void)printf("as %s would say it: %zu of %zu requests successful", name, seen.success_count,
                 seen.requests_count);
    if (isnan(seen.rates.requests_per_s)) {
        (void)printf(", no throughput\n");
    } else {
        (void)printf(", %.2f requests/s, %.1f output tokens/s over %.1f s\n",
                     seen.rates.requests_per_s, seen.rates.output_tok_per_s, seen.rates.window_s);
    }
    print_spread(name, "ttft", &seen.ttft);
    print_spread(name, "tpot", &seen.tpot);
    print_spread(name, "itl", &seen.itl);
    print_spread(name, "e2e", &seen.e2e);
    if (seen.left_out_count > 0) {
        (void)printf("  without %zu requests: only the first %d events were kept\n",
                     seen.left_out_count, OBSERVE_COMPAT_EVENTS_MAX);
    }
}

void load_compat_print(uint32_t tools, const struct load_shared *shared)
{
    for (uint32_t i = 0; i < COMPAT_TOOLS_COUNT; i++) {
        if ((tools & 1U << i) != 0) {
            print_tool((enum compat_tool)i, shared);
        }
    }
}
