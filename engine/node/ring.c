/*
 * ring.c - owns the layout of the shared-memory ring and the waiting on it. Driven by the executor
 * and the workers. Must not trust sizes that it reads from shared memory, and must not wait without
 * a bound.
 *
 * Sleeping: a side that finds nothing to do reads the signal word, raises its waiting count, looks
 * again and sleeps on the word. The other side changes its flags, then the word, then looks at the
 * count. So either the sleeper sees the flags or the other side sees the count, and a hop costs one
 * futex call, or none if nobody sleeps. A process that dies asleep leaves its count raised, which
 * costs a needless call and nothing else.
 */
#include "engine/node/ring.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"

enum {
    RING_MAGIC = 0x52494e47,
    RING_VERSION = 1,
    SPIN_AFTER_READ_NS = 1000000000,
    SPIN_TURNS_A_CHECK = 256,
    SLEEP_SLICE_NS = 100000000,
    PAGE_BYTES = 4096,
};

struct chunk_meta {
    _Atomic uint8_t written;
    _Atomic uint8_t read[RING_READERS_MAX];
    uint32_t part_bytes;
    uint64_t total_bytes; /* of the message this is a part of */
};

/* A futex word and how many sleep on it, on a cache line of its own. */
struct bell {
    _Atomic uint32_t signal;
    _Atomic uint32_t waiting;
    unsigned char pad[56];
};

struct ring_header {
    uint32_t magic;
    uint32_t version;
    uint32_t readers_count;
    uint32_t chunk_bytes;
    _Atomic uint32_t cancelled;
    unsigned char pad[44];
    struct bell written; /* readers sleep here */
    struct bell freed;   /* the writer sleeps here */
    struct chunk_meta chunks[RING_CHUNKS];
};

_Static_assert(sizeof(struct ring_header) <= PAGE_BYTES, "the chunks begin on the second page");

static size_t ring_bytes(uint32_t chunk_bytes)
{
    size_t pages = ((size_t)chunk_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    return PAGE_BYTES + RING_CHUNKS * pages * PAGE_BYTES;
}

static unsigned char *chunk_data(const struct ring *r)
{
    size_t stride = (ring_bytes(r->chunk_bytes) - PAGE_BYTES) / RING_CHUNKS;
    return r->chunks + r->next * stride;
}

static enum status map_ring(int fd, size_t bytes, int reader, struct ring *out, struct error *error)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return error_set(error, STATUS_IO, "ring: mmap of %zu bytes: %s", bytes, strerror(errno));
    }
    *out = (struct ring){
        .header = base,
        .chunks = (unsigned char *)base + PAGE_BYTES,
        .map_bytes = bytes,
        .fd = fd,
        .reader = reader,
    };
    return STATUS_OK;
}

enum status ring_create(uint32_t chunk_bytes, uint32_t readers_count, int reader, struct ring *out,
                        struct error *error)
{
    ASSERT(chunk_bytes > 0 && chunk_bytes <= RING_MESSAGE_BYTES_MAX);
    ASSERT(readers_count > 0 && readers_count <= RING_READERS_MAX);
    size_t bytes = ring_bytes(chunk_bytes);
    int fd = memfd_create("ring", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set(error, STATUS_IO, "ring: memfd_create: %s", strerror(errno));
    }
    enum status status = STATUS_OK;
    if (ftruncate(fd, (off_t)bytes) != 0) {
        status = error_set(error, STATUS_IO, "ring: ftruncate: %s", strerror(errno));
    } else {
        status = map_ring(fd, bytes, reader, out, error);
    }
    if (status != STATUS_OK) {
        (void)close(fd);
        return status;
    }
    out->readers_count = readers_count;
    out->chunk_bytes = chunk_bytes;
    out->header->readers_count = readers_count;
    out->header->chunk_bytes = chunk_bytes;
    out->header->version = RING_VERSION;
    out->header->magic = RING_MAGIC;
    return STATUS_OK;
}

static enum status check_ring(const struct ring *r, struct error *error)
{
    const struct ring_header *h = r->header;
    bool sizes = h->chunk_bytes > 0 && h->chunk_bytes <= RING_MESSAGE_BYTES_MAX &&
                 h->readers_count > 0 && h->readers_count <= RING_READERS_MAX;
    if (h->magic != RING_MAGIC || h->version != RING_VERSION || !sizes ||
        r->map_bytes != ring_bytes(h->chunk_bytes)) {
        return error_set(error, STATUS_PROTOCOL, "ring: descriptor %d is not a ring of version %d",
                         r->fd, RING_VERSION);
    }
    if (r->reader >= (int)h->readers_count) {
        return error_set(error, STATUS_PROTOCOL, "ring: reader %d of a ring with %u readers",
                         r->reader, h->readers_count);
    }
    return STATUS_OK;
}

static enum status attach(int fd, int reader, struct ring *out, struct error *error)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || info.st_size < PAGE_BYTES) {
        return error_set(error, STATUS_PROTOCOL, "ring: descriptor %d is not a ring", fd);
    }
    TRY(map_ring(fd, (size_t)info.st_size, reader, out, error));
    enum status status = check_ring(out, error);
    if (status != STATUS_OK) {
        (void)munmap(out->header, out->map_bytes);
        return status;
    }
    out->readers_count = out->header->readers_count;
    out->chunk_bytes = out->header->chunk_bytes;
    return STATUS_OK;
}

enum status ring_attach(int fd, int reader, struct ring *out, struct error *error)
{
    struct ring r;
    enum status status = attach(fd, reader, &r, error);
    if (status == STATUS_OK) {
        *out = r;
    } else if (fd >= 0) {
        (void)close(fd);
    }
    return status;
}

void ring_close(struct ring *r)
{
    if (r->header != NULL) {
        (void)munmap(r->header, r->map_bytes);
        (void)close(r->fd);
        free(r->parts);
        *r = (struct ring){.fd = -1};
    }
}

static void bell_ring(struct bell *b)
{
    atomic_fetch_add_explicit(&b->signal, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&b->waiting, memory_order_seq_cst) > 0) {
        (void)syscall(SYS_futex, &b->signal, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
}

static bool chunk_readable(const struct ring *r)
{
    struct chunk_meta *meta = &r->header->chunks[r->next];
    /* The read flag first: the writer clears it after `written`, so a cleared one comes with a true
     * `written`. */
    return atomic_load_explicit(&meta->read[r->reader], memory_order_acquire) == 0 &&
           atomic_load_explicit(&meta->written, memory_order_acquire) != 0;
}

static bool chunk_free(const struct ring *r)
{
    struct chunk_meta *meta = &r->header->chunks[r->next];
    if (atomic_load_explicit(&meta->written, memory_order_relaxed) == 0) {
        return true;
    }
    for (uint32_t i = 0; i < r->readers_count; i++) {
        if (atomic_load_explicit(&meta->read[i], memory_order_acquire) == 0) {
            return false;
        }
    }
    return true;
}

static bool chunk_ready(const struct ring *r)
{
    return r->reader == RING_WRITER ? chunk_free(r) : chunk_readable(r);
}

/* Why a wait must end although the chunk is not ready; OK to go on waiting. */
static enum status wait_verdict(const struct ring *r, const struct ring_wait *wait, int64_t now_ns,
                                struct error *error)
{
    struct pollfd death = {.fd = wait->death_fd, .events = POLLIN};
    if (wait->death_fd >= 0 && poll(&death, 1, 0) > 0) {
        /* What the other side wrote before it died is still to be read. */
        return chunk_ready(r) ? STATUS_OK
                              : error_set(error, STATUS_DIED, "ring: the other side died");
    }
    if (now_ns >= wait->deadline_ns) {
        return error_set(error, STATUS_TIMEOUT, "ring: %s until the deadline",
                         r->reader == RING_WRITER ? "full" : "no message");
    }
    return STATUS_OK;
}

/* Spins until the chunk is ready (true), or the spinning time is over or the wait must be judged
 * (false). */
static bool spin_turns(const struct ring *r)
{
    for (int turn = 0; turn < SPIN_TURNS_A_CHECK; turn++) {
        if (chunk_ready(r)) {
            return true;
        }
        (void)sched_yield();
    }
    return false;
}

static void sleep_on(const struct ring *r, struct bell *b, int64_t until_ns)
{
    uint32_t seen = atomic_load_explicit(&b->signal, memory_order_seq_cst);
    atomic_fetch_add_explicit(&b->waiting, 1, memory_order_seq_cst);
    if (!chunk_ready(r) && !ring_cancelled(r)) {
        struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
        (void)syscall(SYS_futex, &b->signal, FUTEX_WAIT_BITSET, seen, &until, NULL,
                      FUTEX_BITSET_MATCH_ANY);
    }
    atomic_fetch_sub_explicit(&b->waiting, 1, memory_order_seq_cst);
}

/* Until the chunk `next` is ready for this side. */
static enum status wait_ready(const struct ring *r, const struct ring_wait *wait,
                              struct error *error)
{
    struct bell *bell = r->reader == RING_WRITER ? &r->header->freed : &r->header->written;
    bool may_spin = wait->mode == WAIT_SPIN && r->reader != RING_WRITER;
    int64_t slice_end_ns = 0;
    while (!ring_cancelled(r)) {
        if (chunk_ready(r)) {
            return STATUS_OK;
        }
        int64_t now_ns = clock_now_ns();
        if (now_ns >= slice_end_ns) {
            TRY(wait_verdict(r, wait, now_ns, error));
            slice_end_ns = now_ns + SLEEP_SLICE_NS;
        }
        if (now_ns >= wait->deadline_ns) {
            slice_end_ns = 0;
        } else if (may_spin && now_ns - r->last_read_ns < SPIN_AFTER_READ_NS) {
            (void)spin_turns(r);
        } else {
            int64_t end_ns = slice_end_ns < wait->deadline_ns ? slice_end_ns : wait->deadline_ns;
            sleep_on(r, bell, end_ns);
        }
    }
    return error_set(error, STATUS_DIED, "ring: cancelled");
}

static void write_part(struct ring *r, const unsigned char *data, uint32_t part_bytes,
                       uint64_t total_bytes)
{
    struct chunk_meta *meta = &r->header->chunks[r->next];
    atomic_store_explicit(&meta->written, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    memcpy(chunk_data(r), data, part_bytes);
    meta->part_bytes = part_bytes;
    meta->total_bytes = total_bytes;
    for (uint32_t i = 0; i < r->readers_count; i++) {
        atomic_store_explicit(&meta->read[i], 0, memory_order_release);
    }
    atomic_store_explicit(&meta->written, 1, memory_order_release);
    bell_ring(&r->header->written);
    r->next = (r->next + 1) % RING_CHUNKS;
}

enum status ring_write(struct ring *r, const void *data, size_t bytes, const struct ring_wait *wait,
                       struct error *error)
{
    ASSERT(r->reader == RING_WRITER);
    if (bytes == 0 || bytes > RING_MESSAGE_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "ring: message of %zu bytes, want 1 .. %d", bytes,
                         RING_MESSAGE_BYTES_MAX);
    }
    if (r->broken) {
        return error_set(error, STATUS_PROTOCOL, "ring: broken by an unfinished message");
    }
    const unsigned char *from = data;
    size_t sent = 0;
    while (sent < bytes) {
        enum status status = wait_ready(r, wait, error);
        if (status != STATUS_OK) {
            r->broken = sent > 0;
            return status;
        }
        size_t rest = bytes - sent;
        uint32_t part = rest < r->chunk_bytes ? (uint32_t)rest : r->chunk_bytes;
        write_part(r, from + sent, part, bytes);
        sent += part;
    }
    return STATUS_OK;
}

void ring_release(struct ring *r)
{
    if (r->holding) {
        struct chunk_meta *meta = &r->header->chunks[r->next];
        atomic_store_explicit(&meta->read[r->reader], 1, memory_order_release);
        bell_ring(&r->header->freed);
        r->next = (r->next + 1) % RING_CHUNKS;
        r->holding = false;
    }
}

/* Adds the part in chunk `next` to the message being put together. */
static enum status take_part(struct ring *r, uint32_t part_bytes, uint64_t total_bytes,
                             struct error *error)
{
    if (r->parts_cap < total_bytes) {
        unsigned char *grown = realloc(r->parts, total_bytes);
        if (grown == NULL) {
            return error_set(error, STATUS_NOMEM, "ring: no memory for a message of %llu bytes",
                             (unsigned long long)total_bytes);
        }
        r->parts = grown;
        r->parts_cap = total_bytes;
    }
    memcpy(r->parts + r->parts_used, chunk_data(r), part_bytes);
    r->parts_used += part_bytes;
    r->holding = true;
    ring_release(r);
    return STATUS_OK;
}

enum status ring_read(struct ring *r, const struct ring_wait *wait, const void **data,
                      size_t *bytes, struct error *error)
{
    ASSERT(r->reader != RING_WRITER);
    ring_release(r);
    for (;;) {
        TRY(wait_ready(r, wait, error));
        const struct chunk_meta *meta = &r->header->chunks[r->next];
        uint32_t part = meta->part_bytes;
        uint64_t total = meta->total_bytes;
        if (part == 0 || part > r->chunk_bytes || total > RING_MESSAGE_BYTES_MAX ||
            r->parts_used + part > total) {
            return error_set(error, STATUS_PROTOCOL, "ring: part of %u bytes in a message of %llu",
                             part, (unsigned long long)total);
        }
        if (wait->mode == WAIT_SPIN) {
            r->last_read_ns = clock_now_ns();
        }
        if (part == total) {
            r->holding = true;
            *data = chunk_data(r);
            *bytes = part;
            return STATUS_OK;
        }
        TRY(take_part(r, part, total, error));
        if (r->parts_used == total) {
            *data = r->parts;
            *bytes = r->parts_used;
            r->parts_used = 0;
            return STATUS_OK;
        }
    }
}

void ring_cancel(struct ring *r)
{
    atomic_store_explicit(&r->header->cancelled, 1, memory_order_seq_cst);
    bell_ring(&r->header->written);
    bell_ring(&r->header->freed);
}

bool ring_readable(const struct ring *r)
{
    ASSERT(r->reader != RING_WRITER);
    return chunk_readable(r);
}

bool ring_cancelled(const struct ring *r)
{
    return atomic_load_explicit(&r->header->cancelled, memory_order_seq_cst) != 0;
}
