/*
 * gpu_share.c - owns the event model of a GPU shared by several contexts: who runs when, how fast,
 * and to whom the GPU's time is booked. Driven with a `now` by the shared device, the tests and the
 * simulator. Pure: must not read a clock, allocate or lock.
 *
 * All state lies in one struct and the ops of launches in flight never change, so a prediction is
 * the same code run on a copy of the struct.
 */
#include "engine/device/gpu_share.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "engine/base/status.h"

enum {
    PREDICT_EVENTS_MAX = 512 /* of the model; the time reached by then is a lower bound */
};

struct gpu_share_options gpu_share_defaults(enum gpu_share_mode mode, uint32_t contexts_max)
{
    return (struct gpu_share_options){
        .mode = mode,
        .contexts_max = contexts_max,
        .queue_depth = 1024,
        .quantum = 2 * PS_PER_MS,
        .switch_cost = 100 * PS_PER_US,
        .grace = 10 * PS_PER_US,
    };
}

const char *gpu_share_check(const struct gpu_share_options *o)
{
    if (o->contexts_max == 0 || o->contexts_max > GPU_SHARE_CONTEXTS_MAX) {
        return "want 1 to 64 contexts a GPU";
    }
    if (o->queue_depth == 0) {
        return "queue_depth: want at least 1 launch";
    }
    if (o->mode == GPU_SHARE_TIME_SLICED &&
        (o->quantum <= 0 || o->grace < 0 || o->switch_cost < o->grace)) {
        return "want a quantum above 0 and a grace time from 0 to the switch cost";
    }
    return NULL;
}

uint64_t gpu_share_state_bytes(uint32_t contexts_max)
{
    return offsetof(struct gpu_share_state, contexts) +
           (uint64_t)contexts_max * sizeof(struct gpu_share_context);
}

void gpu_share_init(struct gpu_share *g, const struct gpu_share_options *options)
{
    ASSERT(gpu_share_check(options) == NULL);
    memset(g->state, 0, gpu_share_state_bytes(options->contexts_max));
    g->state->options = *options;
    g->state->current = GPU_SHARE_NONE;
    g->state->incoming = GPU_SHARE_NONE;
}

uint32_t gpu_share_attach(struct gpu_share *g)
{
    for (uint32_t c = 0; c < g->state->options.contexts_max; c++) {
        struct gpu_share_context *x = &g->state->contexts[c];
        if (!x->attached) {
            *x = (struct gpu_share_context){
                .attached = true, .ready = g->state->now, .end = g->state->now};
            return c;
        }
    }
    return GPU_SHARE_NONE;
}

void gpu_share_detach(struct gpu_share *g, uint32_t context)
{
    struct gpu_share_state *s = g->state;
    if (context == s->current || context == s->incoming) {
        s->current = GPU_SHARE_NONE;
        s->incoming = GPU_SHARE_NONE;
    }
    s->contexts[context] = (struct gpu_share_context){0};
}

static const struct gpu_share_op *op_at(const struct gpu_share *g, uint32_t c, uint64_t launch)
{
    uint32_t depth = g->state->options.queue_depth;
    return &g->ops[(uint64_t)c * depth + launch % depth];
}

/* When the launch at the head may run; TIME_NEVER without one. */
static time_ps runnable_at(const struct gpu_share *g, uint32_t c)
{
    const struct gpu_share_context *x = &g->state->contexts[c];
    return x->done < x->launched ? op_at(g, c, x->done)->runnable : TIME_NEVER;
}

static bool is_runnable(const struct gpu_share *g, uint32_t c)
{
    return runnable_at(g, c) <= g->state->now;
}

static void finish_head(struct gpu_share *g, uint32_t c)
{
    struct gpu_share_context *x = &g->state->contexts[c];
    x->done++;
    x->end = g->state->now;
    x->left = x->done < x->launched ? op_at(g, c, x->done)->work : 0;
    for (uint32_t e = 0; e < GPU_SHARE_EVENTS_MAX && x->open_events_count > 0; e++) {
        if (x->events[e].done == TIME_NEVER && x->events[e].launches <= x->done) {
            x->events[e].done = g->state->now;
            x->open_events_count--;
        }
    }
}

/*
 * The idle time that began at gap_begin ends now, because context `c` begins. The part since the
 * first host had work is booked to that host's context as late, the part before to `c` as absent.
 */
static void end_gap(struct gpu_share *g, uint32_t c)
{
    struct gpu_share_state *s = g->state;
    if (s->gap_begin == TIME_NEVER) {
        return;
    }
    uint32_t blamed = c;
    for (uint32_t i = 0; i < s->options.contexts_max; i++) {
        const struct gpu_share_context *x = &s->contexts[i];
        if (x->attached && x->pending && x->ready < s->contexts[blamed].ready) {
            blamed = i;
        }
    }
    time_ps ready = s->contexts[blamed].ready;
    ready = ready > s->gap_begin ? ready : s->gap_begin;
    ready = ready < s->now ? ready : s->now;
    s->contexts[c].absent += ready - s->gap_begin;
    s->contexts[blamed].late += s->now - ready;
    s->gap_begin = TIME_NEVER;
}

static void begin_gap(struct gpu_share_state *s)
{
    if (s->gap_begin == TIME_NEVER) {
        s->gap_begin = s->now;
    }
}

/* ---- time-sliced ---- */

/* The first context after the current one that has runnable work at `at`; the current one is not
 * asked. */
static uint32_t next_in_turn(const struct gpu_share *g, time_ps at)
{
    const struct gpu_share_state *s = g->state;
    uint32_t count = s->options.contexts_max;
    uint32_t from = s->current == GPU_SHARE_NONE ? count - 1 : s->current;
    for (uint32_t i = 1; i <= count; i++) {
        uint32_t c = (from + i) % count;
        if (c != s->current && runnable_at(g, c) <= at) {
            return c;
        }
    }
    return GPU_SHARE_NONE;
}

static time_ps others_runnable_at(const struct gpu_share *g)
{
    time_ps first = TIME_NEVER;
    for (uint32_t c = 0; c < g->state->options.contexts_max; c++) {
        time_ps at = c == g->state->current ? TIME_NEVER : runnable_at(g, c);
        first = at < first ? at : first;
    }
    return first;
}

/* Nothing has to be saved when no context is loaded: then the change is free. */
static void begin_switch(struct gpu_share *g)
{
    struct gpu_share_state *s = g->state;
    uint32_t next = next_in_turn(g, s->now);
    ASSERT(next != GPU_SHARE_NONE);
    end_gap(g, next);
    bool loaded = s->current != GPU_SHARE_NONE;
    s->incoming = next;
    s->switch_end = s->now + (loaded ? s->options.switch_cost : 0);
    s->switches_count += loaded ? 1 : 0;
}

/* Each of the three below moves to the next event or to `until`; false: at `until`, nothing left to
 * do there. */
static bool step_switching(struct gpu_share *g, time_ps until)
{
    struct gpu_share_state *s = g->state;
    time_ps to = s->switch_end < until ? s->switch_end : until;
    s->contexts[s->incoming].switching += to - s->now;
    s->now = to;
    if (s->switch_end > until) {
        return false;
    }
    s->current = s->incoming;
    s->incoming = GPU_SHARE_NONE;
    s->slice_end = s->now + s->options.quantum;
    return true;
}

static bool step_running(struct gpu_share *g, time_ps until)
{
    struct gpu_share_state *s = g->state;
    struct gpu_share_context *x = &s->contexts[s->current];
    end_gap(g, s->current);
    if (s->slice_end <= s->now && s->idle_since < s->now) {
        s->slice_end = s->now + s->options.quantum; /* the old one passed while it was idle */
    }
    time_ps end = s->now + x->left;
    time_ps to = end < s->slice_end ? end : s->slice_end;
    bool reached = to <= until;
    to = reached ? to : until;
    x->busy += to - s->now;
    s->occupied += to - s->now;
    x->left -= to - s->now;
    s->now = to;
    s->idle_since = to;
    if (reached && to == end) {
        finish_head(g, s->current);
    } else if (reached && next_in_turn(g, s->now) != GPU_SHARE_NONE) {
        begin_switch(g);
    } else if (reached) {
        s->slice_end = s->now + s->options.quantum;
    }
    return reached;
}

static bool step_idle(struct gpu_share *g, time_ps until)
{
    struct gpu_share_state *s = g->state;
    bool loaded = s->current != GPU_SHARE_NONE;
    time_ps own = loaded ? runnable_at(g, s->current) : TIME_NEVER;
    time_ps others = others_runnable_at(g);
    time_ps keeps_until = s->idle_since + s->options.grace;
    keeps_until = keeps_until < s->slice_end ? keeps_until : s->slice_end;
    time_ps leaves = loaded && keeps_until > others ? keeps_until : others;
    leaves = leaves > s->now ? leaves : s->now;
    time_ps next = own <= leaves ? own : leaves;
    time_ps to = next < until ? next : until;
    /* While others wait for the grace time to pass, the GPU is lost to sharing, not to a host. */
    time_ps shared_from = others > s->now ? others : s->now;
    if (loaded && shared_from < to) {
        if (shared_from > s->now) {
            begin_gap(s);
        }
        s->now = shared_from;
        end_gap(g, s->current);
        s->contexts[s->current].switching += to - shared_from;
    } else if (to > s->now) {
        begin_gap(s);
    }
    s->now = to;
    if (next > until) {
        return false;
    }
    if (own > leaves) {
        begin_switch(g);
    }
    return true;
}

static bool step_time_sliced(struct gpu_share *g, time_ps until)
{
    const struct gpu_share_state *s = g->state;
    if (s->incoming != GPU_SHARE_NONE) {
        return step_switching(g, until);
    }
    if (s->current != GPU_SHARE_NONE && is_runnable(g, s->current)) {
        return step_running(g, until);
    }
    return step_idle(g, until);
}

/* ---- side by side ---- */

struct demand {
    uint32_t contexts_count; /* with something to run */
    uint64_t sm_ppm;
    uint64_t bandwidth_ppm;
    double slow_down;
    double capacity_ppm; /* max(1, sum of the scarcer resource) */
};

static struct demand demand_now(const struct gpu_share *g)
{
    const struct gpu_share_state *s = g->state;
    struct demand d = {0};
    for (uint32_t c = 0; c < s->options.contexts_max; c++) {
        if (is_runnable(g, c)) {
            const struct gpu_share_op *op = op_at(g, c, s->contexts[c].done);
            d.contexts_count++;
            d.sm_ppm += op->sm_ppm;
            d.bandwidth_ppm += op->bandwidth_ppm;
        }
    }
    uint64_t most = d.sm_ppm > d.bandwidth_ppm ? d.sm_ppm : d.bandwidth_ppm;
    d.capacity_ppm = (double)(most > GPU_SHARE_WHOLE_PPM ? most : GPU_SHARE_WHOLE_PPM);
    d.slow_down = d.capacity_ppm / GPU_SHARE_WHOLE_PPM;
    if (d.contexts_count > 1) {
        d.slow_down *= 1.0 + s->options.overhead_ppm / 1e6;
    }
    return d;
}

static time_ps end_side_by_side(const struct gpu_share_state *s, uint32_t c, const struct demand *d)
{
    return s->now + (time_ps)ceil((double)s->contexts[c].left * d->slow_down);
}

/* The running contexts progress until `to`; those whose launch ends then finish it. */
static void progress(struct gpu_share *g, const struct demand *d, time_ps to)
{
    struct gpu_share_state *s = g->state;
    bool by_bandwidth = d->bandwidth_ppm >= d->sm_ppm;
    time_ps from = s->now;
    bool ended[GPU_SHARE_CONTEXTS_MAX] = {0};
    for (uint32_t c = 0; c < s->options.contexts_max; c++) {
        if (!is_runnable(g, c)) {
            continue;
        }
        struct gpu_share_context *x = &s->contexts[c];
        const struct gpu_share_op *op = op_at(g, c, x->done);
        double share = by_bandwidth ? op->bandwidth_ppm : op->sm_ppm;
        x->busy += llround((double)(to - from) * share / d->capacity_ppm);
        ended[c] = end_side_by_side(s, c, d) <= to;
        time_ps done = llround((double)(to - from) / d->slow_down);
        x->left = done < x->left ? x->left - done : 0;
    }
    s->occupied += to - from;
    s->now = to;
    for (uint32_t c = 0; c < s->options.contexts_max; c++) {
        if (ended[c]) {
            finish_head(g, c);
        }
    }
}

static bool step_side_by_side(struct gpu_share *g, time_ps until)
{
    struct gpu_share_state *s = g->state;
    struct demand d = demand_now(g);
    time_ps next = TIME_NEVER;
    uint32_t first = GPU_SHARE_NONE; /* of those that run */
    for (uint32_t c = 0; c < s->options.contexts_max; c++) {
        bool runs = is_runnable(g, c);
        time_ps at = runs ? end_side_by_side(s, c, &d) : runnable_at(g, c);
        next = at < next ? at : next;
        first = runs && first == GPU_SHARE_NONE ? c : first;
    }
    time_ps to = next < until ? next : until;
    if (d.contexts_count == 0) {
        if (to > s->now) {
            begin_gap(s);
        }
        s->now = to;
        return next <= until;
    }
    end_gap(g, first);
    progress(g, &d, to);
    return next <= until;
}

/* ---- the interface ---- */

static bool step(struct gpu_share *g, time_ps until)
{
    return g->state->options.mode == GPU_SHARE_TIME_SLICED ? step_time_sliced(g, until)
                                                           : step_side_by_side(g, until);
}

void gpu_share_advance(struct gpu_share *g, time_ps now)
{
    if (now < g->state->now) {
        return;
    }
    while (step(g, now)) {
    }
}

void gpu_share_ready(struct gpu_share *g, uint32_t context, time_ps ready)
{
    g->state->contexts[context].ready = ready;
    g->state->contexts[context].pending = true;
}

bool gpu_share_full(const struct gpu_share *g, uint32_t context)
{
    const struct gpu_share_context *x = &g->state->contexts[context];
    return x->launched - x->done == g->state->options.queue_depth;
}

void gpu_share_launch(struct gpu_share *g, uint32_t context, const struct gpu_share_op *op)
{
    struct gpu_share_context *x = &g->state->contexts[context];
    ASSERT(x->attached && !gpu_share_full(g, context) && op->work >= 0);
    uint32_t depth = g->state->options.queue_depth;
    g->ops[(uint64_t)context * depth + x->launched % depth] = *op;
    if (x->launched == x->done) {
        x->left = op->work;
    }
    x->launched++;
}

void gpu_share_record(struct gpu_share *g, uint32_t context, uint32_t event)
{
    ASSERT(event < GPU_SHARE_EVENTS_MAX);
    struct gpu_share_context *x = &g->state->contexts[context];
    struct gpu_share_event *e = &x->events[event];
    x->open_events_count -= e->done == TIME_NEVER ? 1 : 0;
    e->launches = x->launched;
    e->done = x->launched == x->done ? x->end : TIME_NEVER;
    x->open_events_count += e->done == TIME_NEVER ? 1 : 0;
    x->pending = false;
}

time_ps gpu_share_event_done(const struct gpu_share *g, uint32_t context, uint32_t event)
{
    ASSERT(event < GPU_SHARE_EVENTS_MAX);
    return g->state->contexts[context].events[event].done;
}

static time_ps predict(const struct gpu_share *g, uint32_t context, uint64_t launches)
{
    struct gpu_share_state copy;
    memcpy(&copy, g->state, gpu_share_state_bytes(g->state->options.contexts_max));
    struct gpu_share future = {&copy, g->ops};
    const struct gpu_share_context *x = &copy.contexts[context];
    ASSERT(launches <= x->launched);
    for (uint32_t i = 0; i < PREDICT_EVENTS_MAX && x->done < launches; i++) {
        (void)step(&future, TIME_NEVER - 1);
    }
    return copy.now;
}

time_ps gpu_share_predict_event(const struct gpu_share *g, uint32_t context, uint32_t event)
{
    time_ps done = gpu_share_event_done(g, context, event);
    return done != TIME_NEVER
               ? done
               : predict(g, context, g->state->contexts[context].events[event].launches);
}

time_ps gpu_share_predict_room(const struct gpu_share *g, uint32_t context)
{
    const struct gpu_share_context *x = &g->state->contexts[context];
    return gpu_share_full(g, context) ? predict(g, context, x->done + 1) : g->state->now;
}

time_ps gpu_share_period(const struct gpu_share_options *options, uint32_t contexts_count,
                         time_ps host, const struct gpu_share_op *op)
{
    time_ps alone = host + op->work;
    if (contexts_count < 2) {
        return alone;
    }
    double gpu = (double)contexts_count;
    if (options->mode == GPU_SHARE_TIME_SLICED) {
        gpu *= (double)(op->work + options->switch_cost);
    } else {
        uint32_t most = op->sm_ppm > op->bandwidth_ppm ? op->sm_ppm : op->bandwidth_ppm;
        gpu *= (double)op->work * most / GPU_SHARE_WHOLE_PPM * (1.0 + options->overhead_ppm / 1e6);
    }
    time_ps shared = llround(gpu);
    return shared > alone ? shared : alone;
}
