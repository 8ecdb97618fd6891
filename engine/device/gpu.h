/*
 * gpu.h - the launch-level table under a device: one context with one in-order queue of work. Every
 * launch goes through the functions below, which count it by class in the launching thread's ledger
 * slot.
 *
 *     gpu_open_emulated(&options, &gpu, error);
 *     gpu_launch_copy(gpu, bytes); gpu_launch_graph(gpu, nodes, time);
 *     gpu_event_record(gpu, 0);             // done when everything launched so far is
 *     gpu_event_wait(gpu, 0);               // maybe on another thread
 *     gpu_close(gpu);
 *
 * One thread launches; any thread may query or wait for an event that the launching thread has told
 * it of.
 *
 * An event is a word in pinned memory that the preceding launch writes when it ends: recording one
 * costs no driver call and is not counted. A wait is not counted here either: it is the waiting
 * thread's, which books it in its own slot.
 */
#ifndef ENGINE_DEVICE_GPU_H
#define ENGINE_DEVICE_GPU_H

#include "engine/device/cost.h"
#include "engine/ledger/ledger.h"

enum {
    GPU_OPS_VERSION = 1,
    GPU_EVENTS_MAX = 32
};

struct gpu_shared;

struct gpu_options {
    const struct gpu_shape *shape;
    uint32_t queue_depth;    /* launches the queue holds; a graph is one */
    int64_t launch_extra_ns; /* CPU time added to each launch */
    enum wait_mode wait; /* WAIT_BLOCK sleeps, WAIT_SPIN spins, for a full queue and for events */
    struct ledger_thread *thread; /* the launching thread */
    struct gpu_shared *shared; /* a context on this GPU (gpu_shared.h), which stays the caller's and
                                  whose own queue depth counts; NULL: a GPU of its own */
};

/* What one call into the table did. */
struct gpu_call {
    int64_t returned_ns;   /* CLOCK_MONOTONIC at its end */
    int64_t queue_full_ns; /* of it, blocked on a full queue */
    int64_t begins_ns;     /* when the GPU begins the work; 0 if the back end cannot know */
};

struct gpu_ops {
    const char *name;
    uint32_t version; /* GPU_OPS_VERSION */
    /* All required. device_time: what an emulated GPU takes; a real one takes what it takes. */
    void (*kernel)(void *state, time_ps device_time, struct gpu_call *call);
    void (*graph)(void *state, uint32_t nodes_count, time_ps device_time, struct gpu_call *call);
    void (*copy)(void *state, uint64_t bytes, struct gpu_call *call);
    /* Memory operation in the queue: work behind it begins no earlier than not_before_ns. */
    void (*memop)(void *state, int64_t not_before_ns, struct gpu_call *call);
    /* The host has work from now on: idle time of the GPU before this moment is nobody's fault. */
    void (*work_ready)(void *state, int64_t now_ns);
    /* When the event will be done; 0 if the back end cannot know yet. */
    int64_t (*event_record)(void *state, uint32_t event);
    bool (*event_query)(void *state, uint32_t event);
    /* Returns when the event is done; gives the time at which the GPU did it. */
    int64_t (*event_wait)(void *state, uint32_t event);
    void (*close)(void *state);
    /* Optional: what the work launched from now on needs of a GPU that it shares with others. */
    void (*demand)(void *state, uint32_t sm_ppm, uint32_t bandwidth_ppm);
};

struct gpu {
    const struct gpu_ops *ops;
    void *state; /* owned by the back end */
    struct ledger_thread *thread;
};

/*
 * The emulated GPU. Calibrates the launch loop against this thread's CPU clock (about 20 ms), and
 * sets the calling thread's timer slack to 1 ns, so call it on the launching thread. INVALID:
 * queue_depth is 0. FULL: the shared GPU has no context left.
 */
MUST_CHECK enum status gpu_open_emulated(const struct gpu_options *options, struct gpu *out,
                                         struct error *error);

/* Each returns when the GPU begins the work (0 if unknown). */
int64_t gpu_launch_graph(struct gpu *gpu, uint32_t nodes_count, time_ps device_time);
int64_t gpu_launch_copy(struct gpu *gpu, uint64_t bytes);
/* `count` kernels one after the other, `device_time` in all; the remainder of the division goes to
 * the last. */
int64_t gpu_launch_kernels(struct gpu *gpu, uint32_t count, time_ps device_time);
/* Counted with the class SYNC. */
void gpu_launch_memop(struct gpu *gpu, int64_t not_before_ns);

void gpu_work_ready(struct gpu *gpu, int64_t now_ns);
/* Parts in a million of the GPU's SMs and memory bandwidth that the work launched from now on uses
 * while it runs alone. */
void gpu_work_demand(struct gpu *gpu, uint32_t sm_ppm, uint32_t bandwidth_ppm);
/* When it will be done, 0 if unknown. */
int64_t gpu_event_record(struct gpu *gpu, uint32_t event);
bool gpu_event_query(struct gpu *gpu, uint32_t event);
int64_t gpu_event_wait(struct gpu *gpu, uint32_t event);
void gpu_close(struct gpu *gpu);

/*
 * Books as `preparing` what the thread did besides launching, being blocked on a full queue,
 * waiting for results and idling, so that the five add up to its life so far. gpu_work_ready() does
 * it too: a thread that runs steps need not call it.
 */
void gpu_thread_turn(struct ledger_thread *thread, int64_t now_ns);

#endif
