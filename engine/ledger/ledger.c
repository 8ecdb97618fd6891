/*
 * ledger.c - the layout of the ledger's shared memory: makes it, opens it with every size checked,
 * hands out thread slots and request records. Driven by the harness (create, read) and by every
 * process of a serving system (open, write). It never blocks and takes no lock: each datum has one
 * writer.
 */
#include "engine/ledger/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/ledger/events.h"
#include "engine/ledger/metrics.h"

#define LEDGER_MAGIC UINT64_C(0x7265676465c0ffee)

enum {
    LEDGER_ALIGN = 4096,
    SERIAL_DIGITS = 8,
    SERIAL_INDEX_BITS = 22, /* 64 API servers x 2^16 places */
    SERIAL_ROUNDS = 1 << 10,
};

/* What a process must agree on before it may touch the rest; compared as a whole. */
struct ledger_layout {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint32_t topology_bytes;
    uint32_t thread_bytes;
    uint32_t record_bytes;
    uint32_t metrics_bytes;
    uint32_t threads_max;
    uint32_t records_count;
    uint32_t lane_bytes;
    uint32_t lanes_count;
    uint64_t threads_offset;
    uint64_t records_offset;
    uint64_t metrics_offset;
    uint64_t lanes_offset;
    uint64_t total_bytes;
};

struct ledger_header {
    struct ledger_layout layout;
    int64_t epoch_ns;
    struct topology topology;
    _Alignas(64) _Atomic uint32_t threads_claimed;
    struct ledger_ring {
        _Alignas(64) ledger_counter begun_count;
        ledger_counter lost_count;
    } rings[TOPOLOGY_API_SERVERS_MAX];
};

_Static_assert(sizeof(struct ledger_layout) == 88,
               "the layout is compared byte by byte: no padding");

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + LEDGER_ALIGN - 1) / LEDGER_ALIGN * LEDGER_ALIGN;
}

static struct ledger_layout layout_of(uint32_t api_servers_count)
{
    struct ledger_layout layout = {
        .magic = LEDGER_MAGIC,
        .version = LEDGER_VERSION,
        .header_bytes = sizeof(struct ledger_header),
        .topology_bytes = sizeof(struct topology),
        .thread_bytes = sizeof(struct ledger_thread),
        .record_bytes = sizeof(struct ledger_record),
        .metrics_bytes = sizeof(struct metrics_block),
        .threads_max = LEDGER_THREADS_MAX,
        .records_count = api_servers_count * (uint32_t)LEDGER_RECORDS_PER_API_SERVER,
        .lane_bytes = (uint32_t)event_lane_bytes(),
        .lanes_count = EVENT_LANES,
        .threads_offset = align_up(sizeof(struct ledger_header)),
    };
    uint64_t threads_bytes = (uint64_t)layout.threads_max * layout.thread_bytes;
    uint64_t records_bytes = (uint64_t)layout.records_count * layout.record_bytes;
    uint64_t metrics_bytes = (uint64_t)api_servers_count * layout.metrics_bytes;
    layout.records_offset = align_up(layout.threads_offset + threads_bytes);
    layout.metrics_offset = align_up(layout.records_offset + records_bytes);
    layout.lanes_offset = align_up(layout.metrics_offset + metrics_bytes);
    layout.total_bytes =
        align_up(layout.lanes_offset + (uint64_t)layout.lanes_count * layout.lane_bytes);
    return layout;
}

static enum status topology_check(const struct topology *t, struct error *error)
{
    if (t->api_servers_count < 1 || t->api_servers_count > TOPOLOGY_API_SERVERS_MAX) {
        return error_set(error, STATUS_INVALID, "ledger: want 1..%d API servers, got %u",
                         (int)TOPOLOGY_API_SERVERS_MAX, t->api_servers_count);
    }
    if (t->engines_count < 1 || t->engines_count > TOPOLOGY_ENGINES_MAX) {
        return error_set(error, STATUS_INVALID, "ledger: want 1..%d engine cores, got %u",
                         (int)TOPOLOGY_ENGINES_MAX, t->engines_count);
    }
    const uint32_t max = TOPOLOGY_WORKERS_PER_ENGINE_MAX;
    if (t->tp < 1 || t->pp < 1 || t->tp > max || t->pp > max || t->tp * t->pp > max) {
        return error_set(error, STATUS_INVALID,
                         "ledger: want 1..%u workers an engine core, got tp %u x pp %u", max, t->tp,
                         t->pp);
    }
    return STATUS_OK;
}

static enum status map(int fd, const struct ledger_layout *layout, struct ledger *out,
                       struct error *error)
{
    size_t bytes = (size_t)layout->total_bytes;
    unsigned char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return error_set(error, STATUS_IO, "ledger: cannot map %zu bytes: %s", bytes,
                         strerror(errno));
    }
    struct ledger_header *header = (void *)base;
    *out = (struct ledger){
        .header = header,
        .topology = &header->topology,
        .threads = (void *)(base + layout->threads_offset),
        .records = (void *)(base + layout->records_offset),
        .metrics = (void *)(base + layout->metrics_offset),
        .lanes = (void *)(base + layout->lanes_offset),
        .records_count = layout->records_count,
        .bytes = bytes,
        .fd = fd,
    };
    return STATUS_OK;
}

/* Sizes the file (sparse: pages appear as they are touched), maps it and writes the header. */
static enum status fill(int fd, const struct topology *topology, struct ledger *out,
                        struct error *error)
{
    struct ledger_layout layout = layout_of(topology->api_servers_count);
    if (ftruncate(fd, (off_t)layout.total_bytes) != 0) {
        return error_set(error, STATUS_IO, "ledger: cannot size it to %llu bytes: %s",
                         (unsigned long long)layout.total_bytes, strerror(errno));
    }
    /* A file that can no longer change size cannot turn a reader's load into SIGBUS. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        return error_set(error, STATUS_IO, "ledger: cannot seal it: %s", strerror(errno));
    }
    TRY(map(fd, &layout, out, error));
    out->header->topology = *topology;
    out->header->epoch_ns = clock_now_ns();
    out->header->layout = layout;
    return STATUS_OK;
}

enum status ledger_create(const struct topology *topology, struct ledger *out, struct error *error)
{
    TRY(topology_check(topology, error));
    int fd = memfd_create("harness-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return error_set(error, STATUS_IO, "ledger: memfd_create: %s", strerror(errno));
    }
    enum status status = fill(fd, topology, out, error);
    if (status != STATUS_OK) {
        (void)close(fd);
    }
    return status;
}

void ledger_set_handshake_port(struct ledger *l, uint32_t port)
{
    l->header->topology.handshake_port = port;
}

enum status ledger_open(int fd, struct ledger *out, struct error *error)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &st) != 0 || (seals & F_SEAL_SHRINK) == 0) {
        return error_set(error, STATUS_PROTOCOL, "fd %d is not a ledger (no sealed memfd)", fd);
    }
    struct ledger_header header;
    ssize_t got = pread(fd, &header, sizeof header, 0);
    if (got < (ssize_t)sizeof header.layout || header.layout.magic != LEDGER_MAGIC) {
        return error_set(error, STATUS_PROTOCOL, "fd %d is not a ledger", fd);
    }
    if (header.layout.version != LEDGER_VERSION) {
        return error_set(error, STATUS_PROTOCOL,
                         "ledger of version %u, want %d: the programs are of different builds",
                         header.layout.version, (int)LEDGER_VERSION);
    }
    struct error why;
    if (got != (ssize_t)sizeof header || topology_check(&header.topology, &why) != STATUS_OK) {
        return error_set(error, STATUS_PROTOCOL, "fd %d: the ledger's header is damaged", fd);
    }
    struct ledger_layout want = layout_of(header.topology.api_servers_count);
    if (memcmp(&want, &header.layout, sizeof want) != 0 || st.st_size < 0 ||
        (uint64_t)st.st_size != want.total_bytes) {
        return error_set(error, STATUS_PROTOCOL,
                         "ledger of another layout: the programs are of different builds");
    }
    return map(fd, &want, out, error);
}

void ledger_close(struct ledger *l)
{
    if (l->header == NULL) {
        return;
    }
    (void)munmap(l->header, l->bytes);
    (void)close(l->fd);
    *l = (struct ledger){.fd = -1};
}

int64_t ledger_epoch_ns(const struct ledger *l)
{
    return l->header->epoch_ns;
}

struct ledger_thread *ledger_thread_claim(struct ledger *l, enum ledger_thread_kind kind,
                                          uint32_t instance, uint32_t sub)
{
    uint32_t slot = atomic_fetch_add_explicit(&l->header->threads_claimed, 1, memory_order_relaxed);
    ASSERT(slot < LEDGER_THREADS_MAX);
    struct ledger_thread *t = &l->threads[slot];
    t->kind = (uint32_t)kind;
    t->instance = instance;
    t->sub = sub;
    t->pid = (int32_t)getpid();
    t->tid = (int32_t)gettid();
    int64_t now_ns = clock_now_ns();
    ledger_set(&t->started_ns, (uint64_t)now_ns);
    ledger_set(&t->beat_ns, (uint64_t)now_ns);
    atomic_store_explicit(&t->state, LEDGER_THREAD_LIVE, memory_order_release);
    return t;
}

void ledger_thread_end(struct ledger_thread *t)
{
    atomic_store_explicit(&t->state, LEDGER_THREAD_ENDED, memory_order_release);
}

uint32_t ledger_threads_count(const struct ledger *l)
{
    uint32_t claimed = atomic_load_explicit(&l->header->threads_claimed, memory_order_relaxed);
    return claimed < LEDGER_THREADS_MAX ? claimed : (uint32_t)LEDGER_THREADS_MAX;
}

uint64_t ledger_records_begun(const struct ledger *l, uint32_t api_server)
{
    ASSERT(api_server < l->topology->api_servers_count);
    return ledger_get(&l->header->rings[api_server].begun_count);
}

uint64_t ledger_records_lost(const struct ledger *l, uint32_t api_server)
{
    ASSERT(api_server < l->topology->api_servers_count);
    return ledger_get(&l->header->rings[api_server].lost_count);
}

uint32_t ledger_record_begin(struct ledger *l, uint32_t api_server, uint64_t n)
{
    ASSERT(api_server < l->topology->api_servers_count);
    struct ledger_ring *ring = &l->header->rings[api_server];
    const uint32_t per_server = LEDGER_RECORDS_PER_API_SERVER;
    uint32_t index = api_server * per_server + (uint32_t)(n % per_server);
    uint32_t serial = (uint32_t)(n / per_server % SERIAL_ROUNDS) << SERIAL_INDEX_BITS | index;
    struct ledger_record *record = &l->records[index];
    ledger_add(&ring->begun_count, 1);
    if (n >= per_server) {
        ledger_add(&ring->lost_count, 1);
    }
    atomic_store_explicit(&record->client_number, 0, memory_order_relaxed);
    atomic_store_explicit(&record->serial, serial, memory_order_release);
    for (int hop = 0; hop < HOPS_COUNT; hop++) {
        ledger_stamp(record, (enum ledger_hop)hop, 0);
    }
    record->api_server = api_server;
    record->engine = UINT32_MAX;
    record->prompt_tokens = 0;
    record->cached_tokens = 0;
    atomic_store_explicit(&record->output_tokens, 0, memory_order_relaxed);
    atomic_store_explicit(&record->finish, 0, memory_order_relaxed);
    return serial;
}

struct ledger_record *ledger_record_of_serial(struct ledger *l, uint32_t serial)
{
    uint32_t index = serial & ((1U << SERIAL_INDEX_BITS) - 1);
    if (index >= l->records_count) {
        return NULL;
    }
    struct ledger_record *record = &l->records[index];
    return atomic_load_explicit(&record->serial, memory_order_acquire) == serial ? record : NULL;
}

struct ledger_record *ledger_record_of_id(struct ledger *l, const char *internal_id)
{
    size_t length = strlen(internal_id);
    if (length < SERIAL_DIGITS + 1 || internal_id[length - SERIAL_DIGITS - 1] != '-') {
        return NULL;
    }
    uint32_t serial = 0;
    for (size_t i = length - SERIAL_DIGITS; i < length; i++) {
        char c = internal_id[i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = (uint32_t)(c - 'a') + 10;
        } else {
            return NULL;
        }
        serial = serial << 4 | digit;
    }
    return ledger_record_of_serial(l, serial);
}

const char *ledger_thread_kind_name(enum ledger_thread_kind kind)
{
    static const char *const names[THREAD_KINDS_COUNT] = {
#define X(name, kind, stage) [THREAD_##name] = (kind),
        LEDGER_THREAD_KINDS(X)
#undef X
    };
    ASSERT((unsigned)kind < THREAD_KINDS_COUNT);
    return names[kind];
}

const char *ledger_thread_stage(enum ledger_thread_kind kind)
{
    static const char *const stages[THREAD_KINDS_COUNT] = {
#define X(name, kind, stage) [THREAD_##name] = (stage),
        LEDGER_THREAD_KINDS(X)
#undef X
    };
    ASSERT((unsigned)kind < THREAD_KINDS_COUNT);
    return stages[kind];
}

const char *ledger_hop_name(enum ledger_hop hop)
{
    static const char *const names[HOPS_COUNT] = {
#define X(name, text) [HOP_##name] = (text),
        LEDGER_HOPS(X)
#undef X
    };
    ASSERT((unsigned)hop < HOPS_COUNT);
    return names[hop];
}

const char *ledger_launch_class_name(enum ledger_launch_class launch_class)
{
    static const char *const names[LAUNCH_CLASSES_COUNT] = {
#define X(name, text) [LAUNCH_CLASS_##name] = (text),
        LEDGER_LAUNCH_CLASSES(X)
#undef X
    };
    ASSERT((unsigned)launch_class < LAUNCH_CLASSES_COUNT);
    return names[launch_class];
}
