/*
 * gpu_share.h - the model of one GPU that several contexts (engine cores) share, as a pure object:
 * no clock, no memory of its own, no locks; `now` comes in. The emulated device drives it in real
 * time from shared memory (gpu_shared.h), tests and the simulator in virtual time.
 *
 *     struct gpu_share g = {&state, ops};            // ops: [contexts_max * queue_depth]
 *     gpu_share_init(&g, &options);
 *     uint32_t c = gpu_share_attach(&g);
 *     gpu_share_advance(&g, now);                    // before every change: past work is done
 *     gpu_share_launch(&g, c, &op);
 *     gpu_share_record(&g, c, 0);
 *     time_ps at = gpu_share_predict_event(&g, c, 0); // sleep until then, advance, ask again
 *
 * Each context has one in-order queue. Two ways of sharing:
 * - time-sliced: one context at a time, round robin over those with runnable work. A slice ends
 *   when its quantum is over and another context has work, or when its queue has been empty for the
 *   grace time; a change of context takes the switch cost, during which nothing runs.
 * - side by side: all contexts with runnable work progress together, each slowed down by
 *   max(1, sum of SM demands, sum of bandwidth demands), times 1 + overhead when there are several.
 *
 * A prediction assumes that nothing more arrives. Arrivals only postpone it, so it is a safe time
 * to sleep until.
 *
 * Time of the GPU is booked to contexts: busy, idle while a host was late, idle while no host had
 * work, and lost to switching. Side by side, busy is the part of the GPU's capacity that the
 * context used, so that a GPU's contexts sum to its use.
 */
#ifndef ENGINE_DEVICE_GPU_SHARE_H
#define ENGINE_DEVICE_GPU_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/time.h"

enum {
    GPU_SHARE_CONTEXTS_MAX = 64,
    GPU_SHARE_EVENTS_MAX = 32,
    GPU_SHARE_WHOLE_PPM = 1000000, /* demand of work that needs all of the GPU's SMs or bandwidth */
};
#define GPU_SHARE_NONE UINT32_MAX

enum gpu_share_mode {
    GPU_SHARE_TIME_SLICED,
    GPU_SHARE_SIDE_BY_SIDE
};

struct gpu_share_options {
    enum gpu_share_mode mode;
    uint32_t contexts_max;
    uint32_t queue_depth; /* launches a context's queue holds */
    time_ps quantum;
    time_ps switch_cost;
    time_ps grace; /* at most switch_cost, so that predictions are lower bounds */
    uint32_t overhead_ppm;
};

struct gpu_share_op {
    time_ps runnable; /* not before; and not before the ops in front of it are done */
    time_ps work;     /* its time when it runs alone */
    uint32_t sm_ppm;  /* what it needs while it runs alone */
    uint32_t bandwidth_ppm;
};

struct gpu_share_event {
    uint64_t launches; /* done with the context's so many-th launch */
    time_ps done;      /* TIME_NEVER until then */
};

struct gpu_share_context {
    bool attached;
    bool pending; /* the host has work that is not launched yet, since `ready` */
    uint32_t open_events_count;
    time_ps ready;
    uint64_t launched;
    uint64_t done;
    time_ps left; /* work left of the launch at the head */
    time_ps end;  /* of the last launch that is done */
    time_ps busy;
    time_ps late;   /* GPU idle, this context's host had work ready */
    time_ps absent; /* GPU idle, no host had work; booked to the context that ended it */
    time_ps switching;
    struct gpu_share_event events[GPU_SHARE_EVENTS_MAX];
};

struct gpu_share_state {
    struct gpu_share_options options;
    time_ps now;
    uint32_t current;  /* time-sliced: whose context is loaded */
    uint32_t incoming; /* time-sliced: being switched to */
    time_ps switch_end;
    time_ps slice_end;
    time_ps idle_since; /* time-sliced: the current context has had nothing to run */
    time_ps gap_begin;  /* the GPU is idle since; TIME_NEVER while it is not */
    time_ps occupied;   /* at least one context ran */
    uint64_t switches_count;
    struct gpu_share_context contexts[GPU_SHARE_CONTEXTS_MAX];
};

struct gpu_share {
    struct gpu_share_state *state;
    struct gpu_share_op *ops; /* entries of launches in flight never change */
};

/* Uncalibrated: quantum 2 ms, switch 100 us, grace 10 us, overhead 0. Room for one launch queue of
 * 1,024 in each of `contexts_max` contexts. */
struct gpu_share_options gpu_share_defaults(enum gpu_share_mode mode, uint32_t contexts_max);
/* NULL, or what is wrong with the options, in words. */
const char *gpu_share_check(const struct gpu_share_options *options);
/* Bytes of the state that are in use with so many contexts: what a copy has to carry. */
uint64_t gpu_share_state_bytes(uint32_t contexts_max);
void gpu_share_init(struct gpu_share *g, const struct gpu_share_options *options);

/* A free context, GPU_SHARE_NONE when all are taken. */
uint32_t gpu_share_attach(struct gpu_share *g);
/* Drops the context with what it has queued. */
void gpu_share_detach(struct gpu_share *g, uint32_t context);

/* Everything that happens until `now`. Earlier than the last `now`: nothing. */
void gpu_share_advance(struct gpu_share *g, time_ps now);
/* The context's host has work from now on and has not launched all of it. */
void gpu_share_ready(struct gpu_share *g, uint32_t context, time_ps ready);
bool gpu_share_full(const struct gpu_share *g, uint32_t context);
/* The queue must have room (asserted). */
void gpu_share_launch(struct gpu_share *g, uint32_t context, const struct gpu_share_op *op);
/* Done when all that the context launched so far is; the host has launched what it had. */
void gpu_share_record(struct gpu_share *g, uint32_t context, uint32_t event);
/* When it was done; TIME_NEVER: not yet. */
time_ps gpu_share_event_done(const struct gpu_share *g, uint32_t context, uint32_t event);
/* Not later than the time at which it will be done; the time itself if nothing arrives and the
 * answer is at most some hundred launches away. */
time_ps gpu_share_predict_event(const struct gpu_share *g, uint32_t context, uint32_t event);
/* The same for room in a full queue. */
time_ps gpu_share_predict_room(const struct gpu_share *g, uint32_t context);

/*
 * The closed forms: the shortest period of a step of T_h on the host and T_g on the GPU, strictly
 * one after the other, when `contexts` engine cores share the GPU. The best case: near the knee
 * contexts also wait for each other by chance.
 */
time_ps gpu_share_period(const struct gpu_share_options *options, uint32_t contexts_count,
                         time_ps host, const struct gpu_share_op *op);

#endif
