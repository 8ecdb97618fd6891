/*
 * protocol_shrink.h - makes the plan of a run that fails smaller while the run still fails: fewer
 * faults, requests, ranks and API servers, an earlier end, shorter and weaker faults. Whether a
 * smaller run fails is asked of the caller, who may run it in a process of its own.
 */
#ifndef SIM_PROTOCOL_SHRINK_H
#define SIM_PROTOCOL_SHRINK_H

#include <stdbool.h>

#include "sim/protocol_driver.h"

struct protocol_shrink {
    /* Whether a run of this plan fails in the same way. */
    bool (*fails)(void *user, const struct protocol_plan *plan);
    void *user;
    uint32_t runs_max;   /* at most so many questions */
    uint32_t runs_count; /* asked */
};

/* `plan` is one that fails, as the report of its run (`failed`) says; it stays one that fails. */
void protocol_shrink(struct protocol_shrink *shrink, const struct protocol_report *failed,
                     struct protocol_plan *plan);

#endif
