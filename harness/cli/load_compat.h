/*
 * load_compat.h - `harness load --compat`: which tools are asked for, and what each would have
 * printed.
 */
#ifndef HARNESS_CLI_LOAD_COMPAT_H
#define HARNESS_CLI_LOAD_COMPAT_H

#include <stdbool.h>

#include "harness/analysis/compat.h"
#include "harness/load/shared.h"

enum {
    LOAD_COMPAT_EVENTS_MAX = 1 << 22
};

struct load_compat {
    bool wanted[COMPAT_TOOLS_COUNT];
};

/* "vllm" or "vllm,guidellm"; false: names no tool. */
bool load_compat_option(struct load_compat *c, const char *text);
bool load_compat_wanted(const struct load_compat *c);
/* A table for each tool, on the standard output. */
void load_compat_print(const struct load_compat *c, const struct load_shared *shared);

#endif
