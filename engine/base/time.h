/*
 * time.h - the one time type: integer picoseconds since the start of the run, real or virtual.
 *
 * Picoseconds because one KV token costs a device about 0.1 ns, and because integer series of step
 * times sum exactly. 2^63 ps are 106 days. Files and shared memory carry nanoseconds. No double
 * seconds past a parser.
 */
#ifndef ENGINE_BASE_TIME_H
#define ENGINE_BASE_TIME_H

#include <stdint.h>

typedef int64_t time_ps;

#define PS_PER_NS  ((time_ps)1000)
#define PS_PER_US  ((time_ps)1000000)
#define PS_PER_MS  ((time_ps)1000000000)
#define PS_PER_S   ((time_ps)1000000000000)
#define TIME_NEVER INT64_MAX

static inline int64_t ns_from_ps(time_ps t)
{
    return t / PS_PER_NS;
}

static inline time_ps ps_from_ns(int64_t ns)
{
    return ns * PS_PER_NS;
}

#endif
