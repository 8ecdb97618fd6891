/*
 * shared.c - creates and maps the load client's shared region. Owns the memfd and the mapping;
 * nothing here writes what is measured.
 */
#include "harness/load/shared.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAGIC = 0x44414f4c, /* "LOAD" */
    PAGE_BYTES = 4096
};

_Static_assert(sizeof(struct load_record) == 128, "a record is two cache lines");

const char *load_outcome_name(enum load_outcome outcome)
{
    static const char *const names[LOAD_OUTCOMES_COUNT] = {
#define X(name, text) text,
        LOAD_OUTCOMES(X)
#undef X
    };
    ASSERT(outcome < LOAD_OUTCOMES_COUNT);
    return names[outcome];
}

static size_t pages(size_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static size_t timeline_offset(void)
{
    return pages(sizeof(struct load_header));
}

static size_t records_offset(void)
{
    return timeline_offset() + pages(sizeof(struct load_bucket) * LOAD_BUCKETS_COUNT);
}

static size_t events_offset(void)
{
    return records_offset() + pages(sizeof(struct load_record) * LOAD_RECORDS_COUNT);
}

static size_t region_bytes(uint64_t events_max)
{
    return events_offset() + pages(sizeof(struct load_event) * events_max);
}

static void place(struct load_shared *shared, void *base, size_t bytes_count, int fd)
{
    unsigned char *bytes = base;
    *shared = (struct load_shared){
        .header = base,
        .timeline = (struct load_bucket *)(void *)(bytes + timeline_offset()),
        .records = (struct load_record *)(void *)(bytes + records_offset()),
        .events = (struct load_event *)(void *)(bytes + events_offset()),
        .bytes = bytes_count,
        .fd = fd,
    };
}

static enum status map(int fd, size_t bytes, struct load_shared *out, struct error *error)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) {
        return error_set(error, STATUS_IO, "load: mapping the shared region: %s", strerror(errno));
    }
    place(out, base, bytes, fd);
    return STATUS_OK;
}

enum status load_shared_create(const struct load_options *options, struct load_shared *out,
                               struct error *error)
{
    TRY(load_options_check(options, error));
    int fd = memfd_create("load", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set(error, STATUS_IO, "load: memfd_create: %s", strerror(errno));
    }
    size_t bytes = region_bytes(options->events_max);
    if (ftruncate(fd, (off_t)bytes) != 0) {
        enum status status =
            error_set(error, STATUS_IO, "load: sizing the shared region: %s", strerror(errno));
        (void)close(fd);
        return status;
    }
    enum status status = map(fd, bytes, out, error);
    if (status != STATUS_OK) {
        (void)close(fd);
        return status;
    }
    out->header->options = *options;
    out->header->bytes = bytes;
    out->header->version = LOAD_SHARED_VERSION;
    out->header->magic = MAGIC;
    return STATUS_OK;
}

enum status load_shared_open(int fd, struct load_shared *out, struct error *error)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || info.st_size < (off_t)region_bytes(0) ||
        info.st_size > (off_t)region_bytes(LOAD_EVENTS_MAX)) {
        return error_set(error, STATUS_PROTOCOL, "load: descriptor %d is no load region", fd);
    }
    struct load_shared shared;
    TRY(map(fd, (size_t)info.st_size, &shared, error));
    const struct load_header *h = shared.header;
    if (h->magic != MAGIC || h->version != LOAD_SHARED_VERSION || h->bytes != shared.bytes ||
        region_bytes(h->options.events_max) != shared.bytes) {
        (void)munmap(shared.header, shared.bytes);
        return error_set(error, STATUS_PROTOCOL,
                         "load: descriptor %d is no load region of version %d", fd,
                         LOAD_SHARED_VERSION);
    }
    *out = shared;
    return STATUS_OK;
}

void load_shared_close(struct load_shared *shared)
{
    if (shared->header == NULL) {
        return;
    }
    (void)munmap(shared->header, shared->bytes);
    (void)close(shared->fd);
    *shared = (struct load_shared){.fd = -1};
}

uint64_t load_batch_tokens(const struct load_header *header, uint32_t batch)
{
    ASSERT(batch < LOAD_BATCHES_MAX);
    uint64_t sum = 0;
    for (uint32_t i = 0; i <= LOAD_API_SERVERS_MAX; i++) {
        sum += load_get(&header->window_tokens[batch][i]);
    }
    return sum;
}

uint64_t load_window_tokens_of(const struct load_header *header, uint32_t api_server)
{
    ASSERT(api_server <= LOAD_API_SERVERS_MAX);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < header->options.batches_count; i++) {
        sum += load_get(&header->window_tokens[i][api_server]);
    }
    return sum;
}

uint64_t load_window_tokens(const struct load_header *header)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i <= LOAD_API_SERVERS_MAX; i++) {
        sum += load_window_tokens_of(header, i);
    }
    return sum;
}
