/*
 * mechanics.h - what this machine takes for what every thread of a serving system does: block and
 * be woken, sleep to a time, change places on a core, hand something over by a socket or by shared
 * memory. Takes about a second and a half; starts threads of its own and ends them, changes nothing
 * else. Driven by the calibration.
 */
#ifndef HARNESS_PROBE_MECHANICS_H
#define HARNESS_PROBE_MECHANICS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    MECHANICS_SAMPLES_MAX = 400
};

enum mechanics_what {
    MECHANICS_WAKE,       /* from the waker's call to the woken thread's next instruction */
    MECHANICS_WAKE_CPU,   /* CPU time of blocking and of being woken */
    MECHANICS_SLEEP_LATE, /* how late a timed sleep ends */
    MECHANICS_SLEEP_CPU,  /* CPU time of one */
    MECHANICS_SWITCH,     /* a core changes to another thread */
    MECHANICS_TCP,        /* from the end of a send on loopback to readable */
    MECHANICS_RING,       /* from a store to a load of another core that sees it */
    MECHANICS_POLL,       /* how much later a thread sees it that yields as it spins */
    MECHANICS_COUNT
};

/* Samples of each, sorted, in ns. Of one CPU there are none of what needs two. */
struct mechanics {
    double ns[MECHANICS_COUNT][MECHANICS_SAMPLES_MAX];
    uint32_t count[MECHANICS_COUNT];
};

MUST_CHECK enum status mechanics_measure(struct mechanics *out, struct error *error);

#endif
