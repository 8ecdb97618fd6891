/*
 * load_compat.h - `harness load --compat`: what each tool that is asked for would have printed.
 */
#ifndef HARNESS_CLI_LOAD_COMPAT_H
#define HARNESS_CLI_LOAD_COMPAT_H

#include <stdint.h>

#include "harness/load/shared.h"

/* A table for each of the tools (bits of enum compat_tool), on the standard output. */
void load_compat_print(uint32_t tools, const struct load_shared *shared);

#endif
