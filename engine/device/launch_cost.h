/*
 * launch_cost.h - the CPU time that a launch on an emulated GPU costs its thread, as calibrated
 * instructions: when the kernel takes the core away, the launch takes longer, as in reality.
 * Private to this room.
 */
#ifndef ENGINE_DEVICE_LAUNCH_COST_H
#define ENGINE_DEVICE_LAUNCH_COST_H

#include <stdint.h>

#include "engine/device/cost.h"

struct launch_cost {
    double kernel_loops;
    double graph_loops;
    double node_loops;
};

enum {
    SUBMIT_LATENCY_NS = 3000, /* from the launch call to the GPU's front end: published 3-5 us */
};

/* Measures this thread's speed (about 20 ms). extra_ns: added to each launch. */
struct launch_cost launch_cost_calibrate(const struct gpu_shape *shape, int64_t extra_ns);
void launch_cost_burn(double loops);
/* Sleeps until the deadline, or spins and yields like the driver's automatic mode, so that an
 * oversubscribed machine still moves on. */
void launch_wait_until(bool spin, int64_t deadline_ns);

#endif
