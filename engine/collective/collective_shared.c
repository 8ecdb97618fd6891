/*
 * collective_shared.c - owns the shared memory of an all-reduce and the waiting in it. Driven by
 * collective.c. Must not wait without a bound, and must not give a result that not all ranks took
 * part in.
 *
 * Each rank writes its values of its n-th call to one of two places of its own, then counts itself
 * in. The last to come publishes n as completed and wakes the others; then each rank reads all
 * values and reduces them itself, in the order of the ranks. A rank writes over a place two calls
 * later, and it can only be there when all have completed the call in between, and so have read.
 */
#include "engine/collective/collective_transport.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/device/life_lock.h"

enum {
    COLLECTIVE_MAGIC = 0x434f4c4c,
    COLLECTIVE_VERSION = 1,
    SLEEP_SLICE_NS = 20000000, /* between looks at who is alive */
    SPINS_A_CHECK = 64,
};

enum membership {
    NEVER_JOINED,
    JOINED,
    LEFT
};

struct collective_rank {
    _Alignas(64) _Atomic uint32_t arrived; /* number of its newest call */
    _Atomic uint32_t membership;
    struct life_lock life;
    struct collective_contribution contributions[2];
};

struct collective_header {
    uint32_t magic;
    uint32_t version;
    uint32_t ranks_count;
    uint32_t wait;
    char name[COLLECTIVE_NAME_MAX];
    _Alignas(64) _Atomic uint32_t arrivals;  /* of all ranks in all calls, modulo 2^32 */
    _Atomic uint32_t broken_by;              /* rank + 1; 0: nobody */
    _Alignas(64) _Atomic uint32_t completed; /* calls; the word that ranks sleep on */
};

static uint64_t bytes_of(uint32_t ranks_count)
{
    return sizeof(struct collective_header) + ranks_count * sizeof(struct collective_rank);
}

static enum status map(int fd, uint64_t bytes, struct collective *out, struct error *error)
{
    unsigned char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return error_set(error, STATUS_IO, "collective: mmap of %llu bytes: %s",
                         (unsigned long long)bytes, strerror(errno));
    }
    void *ranks = base + sizeof(struct collective_header);
    *out = (struct collective){
        .header = (void *)base, .ranks = ranks, .bytes = bytes, .rank = UINT32_MAX, .fd = fd};
    return STATUS_OK;
}

enum status collective_create(const struct collective_options *options, struct collective *out,
                              struct error *error)
{
    uint32_t ranks_count = options->ranks_count;
    if (ranks_count == 0 || ranks_count > COLLECTIVE_RANKS_MAX) {
        return error_set(error, STATUS_INVALID, "collective: want 1 to %d ranks, got %u",
                         COLLECTIVE_RANKS_MAX, ranks_count);
    }
    int fd = memfd_create("collective", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set(error, STATUS_IO, "collective: memfd_create: %s", strerror(errno));
    }
    enum status status = STATUS_OK;
    if (ftruncate(fd, (off_t)bytes_of(ranks_count)) != 0) {
        status = error_set(error, STATUS_IO, "collective: ftruncate: %s", strerror(errno));
    } else {
        status = map(fd, bytes_of(ranks_count), out, error);
    }
    if (status != STATUS_OK) {
        (void)close(fd);
        return status;
    }
    struct collective_header *h = out->header;
    h->ranks_count = ranks_count;
    h->wait = options->wait;
    (void)snprintf(h->name, sizeof h->name, "%s", options->name);
    memcpy(out->name, h->name, sizeof out->name);
    out->ranks_count = ranks_count;
    for (uint32_t r = 0; r < ranks_count; r++) {
        life_lock_init(&out->ranks[r].life);
    }
    h->version = COLLECTIVE_VERSION;
    h->magic = COLLECTIVE_MAGIC;
    return STATUS_OK;
}

static enum status check(const struct collective *c, uint32_t rank, struct error *error)
{
    const struct collective_header *h = c->header;
    if (h->magic != COLLECTIVE_MAGIC || h->version != COLLECTIVE_VERSION ||
        h->ranks_count > COLLECTIVE_RANKS_MAX || c->bytes != bytes_of(h->ranks_count)) {
        return error_set(error, STATUS_PROTOCOL,
                         "collective: descriptor %d is not one of version %d", c->fd,
                         COLLECTIVE_VERSION);
    }
    if (rank >= h->ranks_count) {
        return error_set(error, STATUS_PROTOCOL, "%s: rank %u of %u", h->name, rank,
                         h->ranks_count);
    }
    if (atomic_load(&c->ranks[rank].membership) != NEVER_JOINED) {
        return error_set(error, STATUS_PROTOCOL, "%s: rank %u has joined already", h->name, rank);
    }
    return STATUS_OK;
}

enum status collective_open(int fd, uint32_t rank, struct collective *out, struct error *error)
{
    struct stat info;
    struct collective c;
    if (fstat(fd, &info) != 0 || (uint64_t)info.st_size < sizeof(struct collective_header)) {
        return error_set(error, STATUS_PROTOCOL, "collective: descriptor %d is not one", fd);
    }
    TRY(map(fd, (uint64_t)info.st_size, &c, error));
    enum status status = check(&c, rank, error);
    if (status != STATUS_OK) {
        (void)munmap(c.header, c.bytes);
        return status;
    }
    life_lock_hold(&c.ranks[rank].life);
    atomic_store(&c.ranks[rank].membership, JOINED);
    c.rank = rank;
    c.ranks_count = c.header->ranks_count;
    (void)snprintf(c.name, sizeof c.name, "%s", c.header->name);
    *out = c;
    return STATUS_OK;
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void futex_sleep(_Atomic uint32_t *word, uint32_t value, int64_t ns)
{
    struct timespec span = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, &span, NULL, 0);
}

void shared_break_off(struct collective *c)
{
    uint32_t nobody = 0;
    (void)atomic_compare_exchange_strong(&c->header->broken_by, &nobody, c->rank + 1);
    futex_wake_all(&c->header->completed);
}

void shared_close(struct collective *c)
{
    if (c->rank != UINT32_MAX) {
        atomic_store(&c->ranks[c->rank].membership, LEFT);
        life_lock_release(&c->ranks[c->rank].life);
    }
    (void)munmap(c->header, c->bytes);
    (void)close(c->fd);
}

/* Call numbers wrap around; they never differ by more than 1 between ranks. */
static bool has_arrived(const struct collective *c, uint32_t rank)
{
    uint32_t ahead = atomic_load(&c->ranks[rank].arrived) - c->calls_count;
    return ahead < UINT32_MAX / 2;
}

static enum status timed_out(const struct collective *c, const struct collective_call *call,
                             struct error *error)
{
    uint64_t missing = 0;
    uint64_t joined = 0;
    for (uint32_t r = 0; r < c->ranks_count; r++) {
        missing |= (uint64_t)!has_arrived(c, r) << r;
        joined |= (uint64_t)(atomic_load(&c->ranks[r].membership) != NEVER_JOINED) << r;
    }
    char names[300];
    collective_name_ranks(missing, joined, names);
    return collective_timed_out(c, call, names, error);
}

/* Is there a rank that cannot come any more? */
static enum status look_for_dead(const struct collective *c, struct error *error)
{
    const struct collective_header *h = c->header;
    uint32_t broken_by = atomic_load(&h->broken_by);
    for (uint32_t r = 0; r < h->ranks_count; r++) {
        uint32_t membership = atomic_load(&c->ranks[r].membership);
        if (r == c->rank || membership == NEVER_JOINED || has_arrived(c, r)) {
            continue;
        }
        if (membership == LEFT) {
            return error_set(error, STATUS_DIED, "%s: rank %u has left before call %u", c->name, r,
                             c->calls_count);
        }
        /* It may leave in good order in between. */
        bool dead =
            !life_lock_held(&c->ranks[r].life) && atomic_load(&c->ranks[r].membership) == JOINED;
        if (dead && !has_arrived(c, r)) {
            return error_set(error, STATUS_DIED, "%s: rank %u died before call %u", c->name, r,
                             c->calls_count);
        }
    }
    if (broken_by != 0) {
        return error_set(error, STATUS_DIED, "%s: rank %u broke off", c->name, broken_by - 1);
    }
    return STATUS_OK;
}

static bool is_complete(const struct collective *c)
{
    uint32_t ahead = atomic_load(&c->header->completed) - c->calls_count;
    return ahead < UINT32_MAX / 2;
}

static void pause_once(const struct collective *c, int64_t until_ns)
{
    struct collective_header *h = c->header;
    if (h->wait == (uint32_t)WAIT_SPIN) {
        for (int i = 0; i < SPINS_A_CHECK && !is_complete(c); i++) {
            (void)sched_yield();
        }
        return;
    }
    int64_t left_ns = until_ns - clock_now_ns();
    if (left_ns > 0) {
        futex_sleep(&h->completed, c->calls_count - 1,
                    left_ns < SLEEP_SLICE_NS ? left_ns : SLEEP_SLICE_NS);
    }
}

static enum status wait_for_all(const struct collective *c, const struct collective_call *call,
                                struct error *error)
{
    int64_t now_ns = clock_now_ns();
    int64_t deadline_ns = now_ns + call->timeout_ns;
    int64_t look_ns = now_ns + SLEEP_SLICE_NS;
    while (!is_complete(c)) {
        if (now_ns >= look_ns || atomic_load(&c->header->broken_by) != 0) {
            TRY(look_for_dead(c, error));
            look_ns = now_ns + SLEEP_SLICE_NS;
        }
        if (now_ns >= deadline_ns) {
            return timed_out(c, call, error);
        }
        pause_once(c, look_ns < deadline_ns ? look_ns : deadline_ns);
        now_ns = clock_now_ns();
    }
    return STATUS_OK;
}

enum status shared_run_call(struct collective *c, const struct collective_call *call,
                            int32_t *values, struct error *error)
{
    struct collective_header *h = c->header;
    collective_contribution_set(&c->ranks[c->rank].contributions[c->calls_count % 2], call, values);
    atomic_store(&c->ranks[c->rank].arrived, c->calls_count);
    if (atomic_fetch_add(&h->arrivals, 1) + 1 == c->calls_count * h->ranks_count) {
        atomic_store(&h->completed, c->calls_count);
        futex_wake_all(&h->completed);
    } else {
        TRY(wait_for_all(c, call, error));
    }
    const struct collective_contribution *all[COLLECTIVE_RANKS_MAX];
    for (uint32_t r = 0; r < h->ranks_count; r++) {
        all[r] = &c->ranks[r].contributions[c->calls_count % 2];
    }
    return collective_reduce(c, all, values, error);
}
