/*
 * gpu_shared.c - owns the shared memory of a GPU that several processes use: its lock, its two
 * copies of the model's state, and who is alive. Driven by the launcher, which makes it, and by
 * gpu_context.c. Must stay usable when a process dies at any instruction.
 *
 * A change is made on the copy that is not in force and becomes valid by one store, so a dead
 * process leaves the state as it was before its last change. An op is written to a place of its
 * ring that the valid state does not use.
 */
#include "engine/device/gpu_shared.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/device/life_lock.h"

enum {
    GPU_SHARED_MAGIC = 0x47505553,
    GPU_SHARED_VERSION = 1,
    LOOK_FOR_DEAD_NS = 10000000,
};

struct gpu_shared_header {
    uint32_t magic;
    uint32_t version;
    uint64_t bytes;
    struct gpu_share_options options;
    int64_t origin_ns;
    int64_t looked_ns; /* under the mutex: when the dead were looked for last */
    pthread_mutex_t mutex;
    _Atomic uint32_t in_force; /* which of the two states is */
    struct life_lock lives[GPU_SHARE_CONTEXTS_MAX];
};

static const uint64_t states_offset = (sizeof(struct gpu_shared_header) + 63) / 64 * 64;
static const uint64_t ops_offset =
    (states_offset + 2 * sizeof(struct gpu_share_state) + 63) / 64 * 64;

struct gpu_share_options gpu_shared_options(const struct topology *topology)
{
    ASSERT(topology->gpu_sharing != (uint32_t)GPU_OWN);
    bool sliced = topology->gpu_sharing == (uint32_t)GPU_TIME_SLICED;
    struct gpu_share_options o =
        gpu_share_defaults(sliced ? GPU_SHARE_TIME_SLICED : GPU_SHARE_SIDE_BY_SIDE,
                           topology_engines_per_gpu(topology));
    o.queue_depth = topology->queue_depth;
    return o;
}

static uint64_t bytes_of(const struct gpu_share_options *o)
{
    return ops_offset + (uint64_t)o->contexts_max * o->queue_depth * sizeof(struct gpu_share_op);
}

static enum status map(int fd, uint64_t bytes, struct gpu_shared *out, struct error *error)
{
    unsigned char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return error_set(error, STATUS_IO, "shared GPU: mmap of %llu bytes: %s",
                         (unsigned long long)bytes, strerror(errno));
    }
    void *states = base + states_offset;
    void *ops = base + ops_offset;
    *out = (struct gpu_shared){
        .header = (void *)base, .states = states, .ops = ops, .bytes = bytes, .fd = fd};
    return STATUS_OK;
}

static void set_up(struct gpu_shared *g, const struct gpu_share_options *options)
{
    struct gpu_shared_header *h = g->header;
    h->bytes = g->bytes;
    h->options = *options;
    h->origin_ns = clock_now_ns();
    life_mutex_init(&h->mutex);
    for (uint32_t c = 0; c < options->contexts_max; c++) {
        life_lock_init(&h->lives[c]);
    }
    struct gpu_share share = {&g->states[0], g->ops};
    gpu_share_init(&share, options);
    h->version = GPU_SHARED_VERSION;
    h->magic = GPU_SHARED_MAGIC;
}

enum status gpu_shared_create(const struct gpu_share_options *options, struct gpu_shared *out,
                              struct error *error)
{
    const char *wrong = gpu_share_check(options);
    if (wrong != NULL) {
        return error_set(error, STATUS_INVALID, "shared GPU: %s", wrong);
    }
    int fd = memfd_create("gpu", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set(error, STATUS_IO, "shared GPU: memfd_create: %s", strerror(errno));
    }
    struct gpu_shared g;
    enum status status = STATUS_OK;
    if (ftruncate(fd, (off_t)bytes_of(options)) != 0) {
        status = error_set(error, STATUS_IO, "shared GPU: ftruncate: %s", strerror(errno));
    } else {
        status = map(fd, bytes_of(options), &g, error);
    }
    if (status != STATUS_OK) {
        (void)close(fd);
        return status;
    }
    set_up(&g, options);
    *out = g;
    return STATUS_OK;
}

enum status gpu_shared_open(int fd, struct gpu_shared *out, struct error *error)
{
    struct stat info;
    struct gpu_shared g;
    if (fstat(fd, &info) != 0 || (uint64_t)info.st_size <= ops_offset) {
        return error_set(error, STATUS_PROTOCOL, "shared GPU: descriptor %d is not one", fd);
    }
    TRY(map(fd, (uint64_t)info.st_size, &g, error));
    const struct gpu_shared_header *h = g.header;
    if (h->magic != GPU_SHARED_MAGIC || h->version != GPU_SHARED_VERSION ||
        gpu_share_check(&h->options) != NULL || bytes_of(&h->options) != g.bytes) {
        (void)munmap(g.header, g.bytes);
        return error_set(error, STATUS_PROTOCOL,
                         "shared GPU: descriptor %d is not one of version %d", fd,
                         GPU_SHARED_VERSION);
    }
    *out = g;
    return STATUS_OK;
}

void gpu_shared_close(struct gpu_shared *g)
{
    if (g->header != NULL) {
        (void)munmap(g->header, g->bytes);
        (void)close(g->fd);
        *g = (struct gpu_shared){.fd = -1};
    }
}

time_ps gpu_shared_time(const struct gpu_shared *g, int64_t monotonic_ns)
{
    return ps_from_ns(monotonic_ns - g->header->origin_ns);
}

int64_t gpu_shared_ns(const struct gpu_shared *g, time_ps t)
{
    return g->header->origin_ns + ns_from_ps(t + PS_PER_NS - 1);
}

static void drop_dead(struct gpu_shared *g, struct gpu_share *share, int64_t now_ns)
{
    struct gpu_shared_header *h = g->header;
    if (now_ns - h->looked_ns < LOOK_FOR_DEAD_NS) {
        return;
    }
    h->looked_ns = now_ns;
    for (uint32_t c = 0; c < h->options.contexts_max; c++) {
        if (share->state->contexts[c].attached && !life_lock_held(&h->lives[c])) {
            gpu_share_detach(share, c);
        }
    }
}

void gpu_shared_begin(struct gpu_shared *g, struct gpu_share_change *change)
{
    struct gpu_shared_header *h = g->header;
    if (life_mutex_lock(&h->mutex)) {
        h->looked_ns = 0; /* its owner died here: drop its context now */
    }
    uint32_t in_force = atomic_load_explicit(&h->in_force, memory_order_relaxed);
    change->next = 1 - in_force;
    change->state = &g->states[change->next];
    change->share = (struct gpu_share){change->state, g->ops};
    memcpy(change->state, &g->states[in_force], gpu_share_state_bytes(h->options.contexts_max));
    change->now_ns = clock_now_ns();
    drop_dead(g, &change->share, change->now_ns);
    gpu_share_advance(&change->share, gpu_shared_time(g, change->now_ns));
}

void gpu_shared_commit(struct gpu_shared *g, const struct gpu_share_change *change)
{
    atomic_store_explicit(&g->header->in_force, change->next, memory_order_release);
    ASSERT(pthread_mutex_unlock(&g->header->mutex) == 0);
}

uint32_t gpu_shared_attach(struct gpu_shared *g)
{
    struct gpu_share_change change;
    gpu_shared_begin(g, &change);
    uint32_t context = gpu_share_attach(&change.share);
    if (context != GPU_SHARE_NONE) {
        life_lock_hold(&g->header->lives[context]);
    }
    gpu_shared_commit(g, &change);
    return context;
}

void gpu_shared_detach(struct gpu_shared *g, uint32_t context)
{
    struct gpu_share_change change;
    gpu_shared_begin(g, &change);
    gpu_share_detach(&change.share, context);
    gpu_shared_commit(g, &change);
    life_lock_release(&g->header->lives[context]);
}
