/*
 * clock.h - the real clocks. Only process mains, devices and the load client read them; engine/core
 * never does.
 */
#ifndef ENGINE_BASE_CLOCK_H
#define ENGINE_BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC in ns: the same origin in every process of the machine. */
int64_t clock_now_ns(void);
/* Wall clock in ns since 1970. For file names and OpenAI's `created`, never for durations. */
int64_t clock_wall_ns(void);
/* CPU time of the calling thread in ns. A real system call (about 500 ns): sample it, do not call
 * it per event. */
int64_t clock_thread_cpu_ns(void);
/* Sleeps until CLOCK_MONOTONIC reaches deadline_ns (returns at once if it has). Burns no CPU;
 * retries on EINTR. */
void clock_sleep_until_ns(int64_t deadline_ns);
/* Timer slack of the calling thread to 1 ns, so that timed sleeps wake as near to the deadline as
 * the kernel can. */
void clock_precise_sleeps(void);

#endif
