/*
 * occupancy.c - owns the arithmetic of emulated host time: what is charged, until when, and
 * sleeping it off. Called by the thread that is occupied. Must not restart from the present at each
 * slice, which would lose every late wake-up's time.
 */
#include "engine/node/occupancy.h"

#include "engine/base/clock.h"

void occupancy_init(struct occupancy *o, struct ledger_thread *thread, int64_t now_ns)
{
    *o = (struct occupancy){.busy_until_ns = now_ns, .thread = thread};
}

void occupancy_wake(struct occupancy *o, int64_t now_ns)
{
    if (o->busy_until_ns < now_ns) {
        o->busy_until_ns = now_ns;
    }
}

void occupancy_charge(struct occupancy *o, int64_t cost_ns)
{
    if (cost_ns > 0) {
        o->busy_until_ns += cost_ns;
        ledger_add(&o->thread->occupancy_ns, (uint64_t)cost_ns);
    }
}

bool occupancy_due(const struct occupancy *o, int64_t now_ns)
{
    return o->busy_until_ns - now_ns > OCCUPANCY_SLICE_NS;
}

void occupancy_settle(struct occupancy *o)
{
    clock_sleep_until_ns(o->busy_until_ns);
}
