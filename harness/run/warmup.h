/*
 * warmup.h - when a warm-up is over: requests in flight and tokens have settled
 * (analysis/steady.h), and as many requests have ended as are in flight, so that about one request
 * time has passed and those of the first moment are gone. Asked while the load runs, of what the
 * client writes.
 */
#ifndef HARNESS_RUN_WARMUP_H
#define HARNESS_RUN_WARMUP_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/load/shared.h"

struct warmup {
    uint32_t looked_count;  /* 100 ms of the timeline that were there at the last look */
    uint32_t settled_count; /* looks in a row that found it settled */
    bool is_over;
};

/* True once: when it has just become so. Looks again with every half second more. */
bool warmup_is_over(struct warmup *w, const struct load_shared *client, int64_t now_ns);

#endif
