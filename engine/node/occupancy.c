/*
 * occupancy.c - owns the arithmetic of emulated host time: what is charged, until when, whose turn
 * it is, and sleeping it off. Called by the thread that is occupied. Must not restart from the
 * present at each slice, which would lose every late wake-up's time.
 */
#include "engine/node/occupancy.h"

#include "engine/base/clock.h"

void interpreter_init(struct interpreter *interpreter, int64_t now_ns)
{
    *interpreter = (struct interpreter){.busy_until_ns = now_ns};
    (void)pthread_mutex_init(&interpreter->lock, NULL);
}

void occupancy_init(struct occupancy *o, struct ledger_thread *thread, int64_t now_ns)
{
    *o = (struct occupancy){.busy_until_ns = now_ns, .thread = thread};
}

void occupancy_share(struct occupancy *o, struct interpreter *interpreter)
{
    o->interpreter = interpreter;
    if (interpreter != NULL) {
        (void)pthread_mutex_lock(&interpreter->lock);
        interpreter->awake_count++;
        (void)pthread_mutex_unlock(&interpreter->lock);
    }
}

void occupancy_rest(struct occupancy *o)
{
    struct interpreter *i = o->interpreter;
    if (i == NULL || o->resting) {
        return;
    }
    o->resting = true;
    (void)pthread_mutex_lock(&i->lock);
    i->awake_count--;
    (void)pthread_mutex_unlock(&i->lock);
}

/* Call with the lock held. */
static void awake(struct occupancy *o)
{
    o->interpreter->awake_count += o->resting ? 1 : 0;
    o->resting = false;
}

void occupancy_wake(struct occupancy *o, int64_t now_ns)
{
    struct interpreter *i = o->interpreter;
    if (o->busy_until_ns < now_ns) {
        o->busy_until_ns = now_ns;
    }
    if (i == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&i->lock);
    awake(o);
    /* While another thread has work, its late wake-ups are nobody's rest. */
    if (i->awake_count == 1 && i->busy_until_ns < now_ns) {
        i->busy_until_ns = now_ns;
    }
    (void)pthread_mutex_unlock(&i->lock);
}

/* The next piece of the interpreter's time. */
static void take_turn(struct occupancy *o, int64_t cost_ns)
{
    struct interpreter *i = o->interpreter;
    (void)pthread_mutex_lock(&i->lock);
    awake(o);
    int64_t waited_ns = i->busy_until_ns - o->busy_until_ns; /* for the turns of others */
    i->busy_until_ns += cost_ns;
    o->busy_until_ns = i->busy_until_ns;
    (void)pthread_mutex_unlock(&i->lock);
    ledger_add(&o->thread->lock_held_ns, (uint64_t)cost_ns);
    ledger_add(&o->thread->lock_wait_ns, waited_ns > 0 ? (uint64_t)waited_ns : 0);
}

void occupancy_charge(struct occupancy *o, int64_t cost_ns)
{
    if (cost_ns <= 0) {
        return;
    }
    ledger_add(&o->thread->occupancy_ns, (uint64_t)cost_ns);
    if (o->interpreter == NULL) {
        o->busy_until_ns += cost_ns;
        return;
    }
    for (; cost_ns > INTERPRETER_SWITCH_NS; cost_ns -= INTERPRETER_SWITCH_NS) {
        take_turn(o, INTERPRETER_SWITCH_NS);
        occupancy_settle(o);
    }
    take_turn(o, cost_ns);
}

bool occupancy_due(const struct occupancy *o, int64_t now_ns)
{
    return o->busy_until_ns - now_ns > OCCUPANCY_SLICE_NS;
}

void occupancy_settle(struct occupancy *o)
{
    clock_sleep_until_ns(o->busy_until_ns);
}
