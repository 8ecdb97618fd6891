/*
 * launch_cost.c - owns the burning of CPU time for launches, and the two ways of waiting for a GPU.
 * Driven by the back ends of gpu.h, on the launching thread.
 */
#include "engine/device/launch_cost.h"

#include <sched.h>

#include "engine/base/clock.h"

enum {
    CALIBRATION_ROUNDS = 20,
    CALIBRATION_ROUND_NS = 1000000,
};

/* A chain of dependent multiplications: its time is proportional to `loops` and it cannot be
 * shortened. */
static void burn(uint64_t loops)
{
    uint64_t x = loops;
    for (uint64_t i = 0; i < loops; i++) {
        x = x * 6364136223846793005ULL + 1442695040888963407ULL;
        __asm__ volatile("" : "+r"(x));
    }
}

void launch_cost_burn(double loops)
{
    burn((uint64_t)loops);
}

/* Loops a ns of CPU time: the best of several rounds, because every disturbance only makes a round
 * slower. */
static double loops_per_ns(void)
{
    uint64_t loops = 10000;
    double best = 0.0;
    for (int round = 0; round < CALIBRATION_ROUNDS; round++) {
        int64_t begin_ns = clock_thread_cpu_ns();
        burn(loops);
        int64_t spent_ns = clock_thread_cpu_ns() - begin_ns;
        double rate = (double)loops / (double)(spent_ns > 0 ? spent_ns : 1);
        best = rate > best ? rate : best;
        loops = (uint64_t)(best * CALIBRATION_ROUND_NS) + 1;
    }
    return best;
}

struct launch_cost launch_cost_calibrate(const struct gpu_shape *shape, int64_t extra_ns)
{
    double rate = loops_per_ns();
    return (struct launch_cost){
        .kernel_loops = ((double)shape->launch / 1e3 + (double)extra_ns) * rate,
        .graph_loops = ((double)shape->graph_launch / 1e3 + (double)extra_ns) * rate,
        .node_loops = (double)shape->graph_node / 1e3 * rate,
    };
}

void launch_wait_until(bool spin, int64_t deadline_ns)
{
    if (!spin) {
        clock_sleep_until_ns(deadline_ns);
        return;
    }
    while (clock_now_ns() < deadline_ns) {
        (void)sched_yield();
    }
}
