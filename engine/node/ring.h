/*
 * ring.h - the shared-memory ring between an engine core and its workers: one writer, 1 to 16
 * readers that all get every message, 10 chunks. It is a memfd passed by inheritance; pages are
 * touched as they are used.
 *
 *     ring_create(chunk_bytes, readers_count, RING_WRITER, &ring, error);  // ring.fd to readers
 *     ring_attach(fd, 0, &ring, error);                 // reader 0, in another process
 *     ring_write(&ring, data, bytes, &wait, error);
 *     ring_read(&ring, &wait, &data, &bytes, error);    // valid until the next ring_read()
 *
 * As in vLLM a chunk has one written flag and one read flag a reader, a chunk is free when all have
 * read it, and a message larger than a chunk goes another way: there through a socket beside the
 * ring, here in several chunks one after the other. vLLM's readers spin for 1 s after their last
 * read, then sleep; that is WAIT_SPIN. WAIT_BLOCK sleeps at once.
 *
 * A writer or reader may die at any moment: nothing is locked, and every wait ends at its deadline
 * or when `death_fd` becomes readable. One thread uses a struct ring at a time.
 */
#ifndef ENGINE_NODE_RING_H
#define ENGINE_NODE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/ledger/topology.h"

enum {
    RING_CHUNKS = 10,
    RING_READERS_MAX = TOPOLOGY_WORKERS_PER_ENGINE_MAX,
    RING_WRITER = -1,
    RING_PLAN_CHUNK_BYTES = 16 << 20,
    RING_RESPONSE_CHUNK_BYTES = 24 << 20,
    RING_MESSAGE_BYTES_MAX = 1 << 30,
};

struct ring_header;

struct ring {
    struct ring_header *header;
    unsigned char *chunks;
    size_t map_bytes;
    int fd;
    int reader; /* index, or RING_WRITER */
    uint32_t readers_count;
    uint32_t chunk_bytes;
    uint32_t next;        /* chunk to write or read next */
    bool holding;         /* the last read message lies in chunk `next` */
    bool broken;          /* a message was left unfinished */
    int64_t last_read_ns; /* CLOCK_MONOTONIC */
    unsigned char *parts; /* a message of several chunks is put together here */
    size_t parts_cap;
    size_t parts_used;
};

struct ring_wait {
    enum wait_mode mode;
    int64_t deadline_ns; /* CLOCK_MONOTONIC */
    int death_fd;        /* readable: the other side died; -1 none. Looked at every 100 ms. */
};

MUST_CHECK enum status ring_create(uint32_t chunk_bytes, uint32_t readers_count, int reader,
                                   struct ring *out, struct error *error);
/* Takes over `fd`, also on failure. PROTOCOL: not a ring, or the reader index is beyond its
 * readers. */
MUST_CHECK enum status ring_attach(int fd, int reader, struct ring *out, struct error *error);
void ring_close(struct ring *r);

/*
 * TIMEOUT: the ring stayed full until the deadline. DIED: cancelled, or death_fd is readable.
 * INVALID: bytes is 0 or more than RING_MESSAGE_BYTES_MAX. A message that fails after its first
 * chunk breaks the ring: later writes are PROTOCOL.
 */
MUST_CHECK enum status ring_write(struct ring *r, const void *data, size_t bytes,
                                  const struct ring_wait *wait, struct error *error);
/* TIMEOUT, DIED as above (what was written before is read first, unless cancelled); PROTOCOL: sizes
 * that cannot be. */
MUST_CHECK enum status ring_read(struct ring *r, const struct ring_wait *wait, const void **data,
                                 size_t *bytes, struct error *error);
/* Reader: a message (or the first part of one) is there; ring_read() would not block for it. */
bool ring_readable(const struct ring *r);
/* Frees the chunk of the last message before the next ring_read() does. */
void ring_release(struct ring *r);
/* From either side: every wait, now or later, ends with DIED. */
void ring_cancel(struct ring *r);
bool ring_cancelled(const struct ring *r);

#endif
