/*
 * gpu_shared.h - one emulated GPU in shared memory, for the engine cores of several processes. It
 * has no thread: whoever touches it advances the model of gpu_share.h to now.
 *
 *     launcher:    gpu_shared_create(&options, &shared, error);  // once a GPU
 *                  ... start engine cores or workers that inherit shared.fd ...
 *     each of them: gpu_shared_open(fd, &shared, error);
 *                  gpu_options.shared = &shared; gpu_open_emulated(&gpu_options, &gpu, error);
 *     all:         gpu_shared_close(&shared);
 *
 * A process that dies loses its context, with what it had queued, as soon as another one touches
 * the GPU: within 10 ms while that one is busy. It can die at any moment, also while it changes the
 * state.
 */
#ifndef ENGINE_DEVICE_GPU_SHARED_H
#define ENGINE_DEVICE_GPU_SHARED_H

#include "engine/device/gpu.h"
#include "engine/device/gpu_share.h"

struct gpu_shared_header;

struct gpu_shared {
    struct gpu_shared_header *header;
    struct gpu_share_state *states; /* two: the one in force, and the one that is being made */
    struct gpu_share_op *ops;
    uint64_t bytes;
    int fd; /* close-on-exec: pass it on as a numbered descriptor */
};

/* How `topology` says that engine cores share a GPU; not for GPU_OWN (asserted). */
struct gpu_share_options gpu_shared_options(const struct topology *topology);

/* INVALID: bad options. IO: no shared memory. */
MUST_CHECK enum status gpu_shared_create(const struct gpu_share_options *options,
                                         struct gpu_shared *out, struct error *error);
/* Maps an inherited GPU; fd becomes the caller's GPU's. PROTOCOL: not one. */
MUST_CHECK enum status gpu_shared_open(int fd, struct gpu_shared *out, struct error *error);
void gpu_shared_close(struct gpu_shared *g);

/*
 * A change of the model: locked, advanced to now, contexts of the dead dropped. Nothing is changed
 * until the commit. The clock is read inside, so that times never run backwards.
 */
struct gpu_share_change {
    struct gpu_share share;
    struct gpu_share_state *state;
    uint32_t next; /* which of the two states this is */
    int64_t now_ns;
};
void gpu_shared_begin(struct gpu_shared *g, struct gpu_share_change *change);
void gpu_shared_commit(struct gpu_shared *g, const struct gpu_share_change *change);

/* A context that lives as long as the calling thread; GPU_SHARE_NONE when all are taken. */
uint32_t gpu_shared_attach(struct gpu_shared *g);
/* By the same thread. */
void gpu_shared_detach(struct gpu_shared *g, uint32_t context);

/* CLOCK_MONOTONIC and the model's time. To ns: rounded up, nothing is done before its time. */
time_ps gpu_shared_time(const struct gpu_shared *g, int64_t monotonic_ns);
int64_t gpu_shared_ns(const struct gpu_shared *g, time_ps t);

/* The back end of gpu.h on a context of options->shared. */
MUST_CHECK enum status gpu_context_open(const struct gpu_options *options, struct gpu *out,
                                        struct error *error);

#endif
