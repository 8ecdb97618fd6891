/*
 * pipeline.c - owns the shared memory of pipeline.h and the waiting on it. Driven by the executor,
 * which makes it, and by the devices of the workers. Must not wait for a process that is gone: the
 * engine core cancels, or dies and takes its workers with it.
 *
 * An entry's time is written before its step number and read after it. The bell is a futex word
 * that every publication changes.
 */
#include "engine/device/pipeline.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PIPELINE_MAGIC = 0x50495045,
    SLEEP_SLICE_NS = 100000000,
};

struct entry {
    _Atomic uint64_t step;
    _Atomic int64_t done_ns;
};

struct pipeline_header {
    uint32_t magic;
    uint32_t workers_count;
    _Atomic uint32_t cancelled;
    _Atomic uint32_t bell;
    _Atomic uint32_t waiting;
    struct entry entries[TOPOLOGY_WORKERS_PER_ENGINE_MAX][PIPELINE_STEPS];
};

static enum status map(int fd, struct pipeline *out, struct error *error)
{
    void *base = mmap(NULL, sizeof *out->header, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return error_set(error, STATUS_IO, "pipeline: mmap: %s", strerror(errno));
    }
    *out = (struct pipeline){.header = base, .fd = fd};
    return STATUS_OK;
}

enum status pipeline_create(uint32_t workers_count, struct pipeline *out, struct error *error)
{
    ASSERT(workers_count > 0 && workers_count <= TOPOLOGY_WORKERS_PER_ENGINE_MAX);
    int fd = memfd_create("pipeline", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set(error, STATUS_IO, "pipeline: memfd_create: %s", strerror(errno));
    }
    enum status status = STATUS_OK;
    if (ftruncate(fd, (off_t)sizeof *out->header) != 0) {
        status = error_set(error, STATUS_IO, "pipeline: ftruncate: %s", strerror(errno));
    } else {
        status = map(fd, out, error);
    }
    if (status != STATUS_OK) {
        (void)close(fd);
        return status;
    }
    out->header->workers_count = workers_count;
    out->header->magic = PIPELINE_MAGIC;
    return STATUS_OK;
}

static enum status map_checked(int fd, struct pipeline *out, struct error *error)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || info.st_size != (off_t)sizeof *out->header) {
        return error_set(error, STATUS_PROTOCOL, "pipeline: descriptor %d is not one", fd);
    }
    TRY(map(fd, out, error));
    const struct pipeline_header *h = out->header;
    if (h->magic != PIPELINE_MAGIC || h->workers_count > TOPOLOGY_WORKERS_PER_ENGINE_MAX) {
        (void)munmap(out->header, sizeof *out->header);
        return error_set(error, STATUS_PROTOCOL, "pipeline: descriptor %d is not one", fd);
    }
    return STATUS_OK;
}

enum status pipeline_open(int fd, struct pipeline *out, struct error *error)
{
    struct pipeline p;
    enum status status = map_checked(fd, &p, error);
    if (status == STATUS_OK) {
        *out = p;
    } else if (fd >= 0) {
        (void)close(fd);
    }
    return status;
}

void pipeline_close(struct pipeline *p)
{
    if (p->header != NULL) {
        (void)munmap(p->header, sizeof *p->header);
        (void)close(p->fd);
        *p = (struct pipeline){.fd = -1};
    }
}

static void ring_bell(struct pipeline_header *h)
{
    atomic_fetch_add_explicit(&h->bell, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&h->waiting, memory_order_seq_cst) > 0) {
        (void)syscall(SYS_futex, &h->bell, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
}

void pipeline_publish(struct pipeline *p, uint32_t worker, uint64_t step, int64_t done_ns)
{
    ASSERT(worker < p->header->workers_count);
    struct entry *entry = &p->header->entries[worker][step % PIPELINE_STEPS];
    atomic_store_explicit(&entry->done_ns, done_ns, memory_order_relaxed);
    atomic_store_explicit(&entry->step, step, memory_order_release);
    ring_bell(p->header);
}

/* True if all have published; then *done_ns is the latest. */
static bool look(const struct pipeline *p, const struct pipeline_wait *wait, int64_t *done_ns)
{
    int64_t latest_ns = 0;
    for (uint32_t i = 0; i < wait->workers_count; i++) {
        struct entry *entry =
            &p->header->entries[wait->first_worker + i][wait->step % PIPELINE_STEPS];
        uint64_t step = atomic_load_explicit(&entry->step, memory_order_acquire);
        if (step < wait->step) {
            return false;
        }
        int64_t own_ns = atomic_load_explicit(&entry->done_ns, memory_order_relaxed);
        latest_ns = step == wait->step && own_ns > latest_ns ? own_ns : latest_ns;
    }
    *done_ns = latest_ns;
    return true;
}

static bool cancelled(const struct pipeline *p)
{
    return atomic_load_explicit(&p->header->cancelled, memory_order_seq_cst) != 0;
}

/* Until the bell rings, at most a slice. */
static void sleep_on(struct pipeline *p, const struct pipeline_wait *wait)
{
    static const struct timespec slice = {.tv_nsec = SLEEP_SLICE_NS};
    struct pipeline_header *h = p->header;
    int64_t unused_ns;
    uint32_t seen = atomic_load_explicit(&h->bell, memory_order_seq_cst);
    atomic_fetch_add_explicit(&h->waiting, 1, memory_order_seq_cst);
    if (!look(p, wait, &unused_ns) && !cancelled(p)) {
        (void)syscall(SYS_futex, &h->bell, FUTEX_WAIT, seen, &slice, NULL, 0);
    }
    atomic_fetch_sub_explicit(&h->waiting, 1, memory_order_seq_cst);
}

enum status pipeline_await(struct pipeline *p, const struct pipeline_wait *wait, int64_t *done_ns,
                           struct error *error)
{
    ASSERT(wait->first_worker + wait->workers_count <= p->header->workers_count);
    while (!look(p, wait, done_ns)) {
        if (cancelled(p)) {
            return error_set(error, STATUS_DIED, "pipeline: cancelled");
        }
        if (wait->mode == WAIT_SPIN) {
            (void)sched_yield();
        } else {
            sleep_on(p, wait);
        }
    }
    return STATUS_OK;
}

void pipeline_cancel(struct pipeline *p)
{
    atomic_store_explicit(&p->header->cancelled, 1, memory_order_seq_cst);
    ring_bell(p->header);
}
