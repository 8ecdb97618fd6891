/*
 * tape.c - the frames of a tape in its file (tape.h). Driven by the taped objects on the one thread
 * of a process that calls engine/core, and by tape_replay.c. It must not end its process, whatever
 * the file system does.
 */
#include "engine/tape/tape.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/hash.h"

enum {
    PIECE_BYTES_MAX = 1 << 20, /* of the file that is mapped at once; more for a longer frame */
    PAGE_BYTES = 1 << 16,      /* a multiple of the page size of every machine */
    HEAD_BYTES = 16,
    FRAME_HEAD_BYTES = 8,
    FRAME_ALIGN = 8, /* also of heads, for the one store */
    PATH_BYTES = 1024,
};

static const char magic[8] = {'H', 'A', 'R', 'N', 'T', 'A', 'P', 'E'};
static const char *const kind_names[TAPE_KINDS_COUNT] = {"api", "engine", "coordinator",
                                                         "launcher"};

struct tape {
    struct tape_owner owner;
    struct tape_code code;
    void (*take)(void *ctx, const unsigned char *data, size_t bytes); /* in place of a file */
    void *ctx;
    void (*lost)(const struct error *why);
    int fd; /* -1: no more is written */
    unsigned char *piece;
    size_t piece_bytes;
    size_t piece_at; /* in the file */
    size_t used;     /* of the file */
    char path[PATH_BYTES];
};

const char *tape_kind_name(enum tape_kind kind)
{
    return kind_names[kind];
}

void tape_owner_walk(struct tape_code *c, struct tape_owner *owner)
{
    tape_word(c, "process", &owner->kind, kind_names, TAPE_KINDS_COUNT);
    tape_u32(c, "index", &owner->index);
    tape_text(c, "revision", &owner->revision);
}

const struct tape_owner *tape_owner(const struct tape *t)
{
    return &t->owner;
}

/* ---- the file ---- */

static size_t frame_bytes(size_t body_bytes)
{
    return FRAME_HEAD_BYTES + (body_bytes + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
}

static uint32_t check_of(const unsigned char *data, size_t bytes)
{
    return (uint32_t)hash64(data, bytes, TAPE_VERSION);
}

static void drop_piece(struct tape *t)
{
    if (t->piece != NULL) {
        (void)munmap(t->piece, t->piece_bytes);
        t->piece = NULL;
        t->piece_bytes = 0;
    }
}

/* Maps the piece of the file in which the next `bytes` are. */
static enum status map_piece(struct tape *t, size_t bytes, struct error *error)
{
    if (t->piece != NULL && t->used + bytes <= t->piece_at + t->piece_bytes) {
        return STATUS_OK;
    }
    drop_piece(t);
    size_t at = t->used / PAGE_BYTES * PAGE_BYTES;
    size_t need = (t->used - at + bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    size_t length = at < PIECE_BYTES_MAX ? at : PIECE_BYTES_MAX; /* as much again */
    length = length > need ? length : need;
    int failed = posix_fallocate(t->fd, (off_t)at, (off_t)length);
    if (failed != 0) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", t->path, strerror(failed));
    }
    void *piece = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, (off_t)at);
    if (piece == MAP_FAILED) {
        return error_set(error, STATUS_IO, "%s: cannot be mapped: %s", t->path, strerror(errno));
    }
    t->piece = piece;
    t->piece_bytes = length;
    t->piece_at = at;
    return STATUS_OK;
}

static void close_file(struct tape *t)
{
    drop_piece(t);
    if (t->fd >= 0) {
        /* What is behind the frames are zeros, which stand for the end as well. */
        int rc = ftruncate(t->fd, (off_t)t->used);
        (void)rc;
        (void)close(t->fd);
        t->fd = -1;
    }
}

static void append(struct tape *t, const unsigned char *data, size_t bytes)
{
    struct error error;
    if (map_piece(t, frame_bytes(bytes), &error) != STATUS_OK) {
        close_file(t);
        t->lost(&error);
        return;
    }
    unsigned char *frame = t->piece + (t->used - t->piece_at);
    const uint32_t head[2] = {(uint32_t)bytes, check_of(data, bytes)};
    uint64_t both;
    memcpy(&both, head, sizeof both);
    memcpy(frame + FRAME_HEAD_BYTES, data, bytes);
    atomic_store_explicit((_Atomic uint64_t *)(void *)frame, both, memory_order_release);
    t->used += frame_bytes(bytes);
}

enum status tape_create(const struct tape_options *options, struct tape **out, struct error *error)
{
    const uint32_t numbers[2] = {TAPE_VERSION, 0};
    struct tape *t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    t->owner = options->owner;
    t->lost = options->lost;
    (void)snprintf(t->path, sizeof t->path, "%s", options->path);
    t->fd = open(t->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    enum status status = STATUS_OK;
    if (t->fd < 0) {
        status = error_set(error, STATUS_IO, "%s: cannot be made: %s", t->path, strerror(errno));
    } else {
        status = map_piece(t, HEAD_BYTES, error);
    }
    if (status != STATUS_OK) {
        tape_close(t);
        return status;
    }
    memcpy(t->piece, magic, sizeof magic);
    memcpy(t->piece + sizeof magic, numbers, sizeof numbers);
    t->used = HEAD_BYTES;
    *out = t;
    return STATUS_OK;
}

struct tape *tape_to(const struct tape_owner *owner,
                     void (*take)(void *ctx, const unsigned char *data, size_t bytes), void *ctx)
{
    struct tape *t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    *t = (struct tape){.owner = *owner, .take = take, .ctx = ctx, .fd = -1};
    return t;
}

void tape_close(struct tape *t)
{
    if (t != NULL) {
        close_file(t);
        tape_code_free(&t->code);
        free(t);
    }
}

struct tape_code *tape_begin(struct tape *t, uint32_t call)
{
    tape_code_write(&t->code);
    tape_u32(&t->code, "call", &call);
    return &t->code;
}

void tape_end(struct tape *t)
{
    if (t->take != NULL) {
        t->take(t->ctx, t->code.data, t->code.bytes);
    } else if (t->fd >= 0) {
        append(t, t->code.data, t->code.bytes);
    }
}

/* ---- reading ---- */

enum status tape_reader_init(struct tape_reader *r, const void *data, size_t bytes,
                             struct error *error)
{
    uint32_t version = 0;
    if (bytes < HEAD_BYTES || memcmp(data, magic, sizeof magic) != 0) {
        return error_set(error, STATUS_PROTOCOL, "is no recording of a process");
    }
    memcpy(&version, (const unsigned char *)data + sizeof magic, sizeof version);
    if (version != TAPE_VERSION) {
        return error_set(error, STATUS_PROTOCOL,
                         "is a recording of format %u, this program reads format %d", version,
                         TAPE_VERSION);
    }
    *r = (struct tape_reader){.data = data, .bytes = bytes, .at = HEAD_BYTES};
    return STATUS_OK;
}

enum status tape_reader_open(struct tape_reader *r, const char *path, struct error *error)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        const char *why = fd < 0 ? strerror(errno) : "is no file";
        if (fd >= 0) {
            (void)close(fd);
        }
        return error_set(error, STATUS_IO, "%s", why);
    }
    size_t bytes = (size_t)st.st_size;
    void *data = bytes > 0 ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    (void)close(fd);
    if (data == MAP_FAILED) {
        return error_set(error, STATUS_IO, "cannot be mapped: %s", strerror(errno));
    }
    enum status status = tape_reader_init(r, data, bytes, error);
    if (status == STATUS_OK) {
        r->mapped = true;
    } else if (data != NULL) {
        (void)munmap(data, bytes);
    }
    return status;
}

void tape_reader_close(struct tape_reader *r)
{
    if (r->mapped) {
        (void)munmap((void *)(uintptr_t)r->data, r->bytes);
    }
    *r = (struct tape_reader){0};
}

static bool only_zeros(const struct tape_reader *r)
{
    for (size_t i = r->at; i < r->bytes; i++) {
        if (r->data[i] != 0) {
            return false;
        }
    }
    return true;
}

enum status tape_read(struct tape_reader *r, struct tape_frame *frame, struct error *error)
{
    uint32_t head[2];
    size_t left = r->bytes - r->at;
    if (left < sizeof head) {
        return only_zeros(r)
                   ? STATUS_NOT_FOUND
                   : error_set(error, STATUS_PROTOCOL,
                               "offset %zu: cut off: %zu bytes are no frame", r->at, left);
    }
    memcpy(head, r->data + r->at, sizeof head);
    if (head[0] == 0 && head[1] == 0) {
        return STATUS_NOT_FOUND; /* behind it, what the process had of the frame it was ended in */
    }
    if (head[0] == 0) {
        return error_set(error, STATUS_PROTOCOL, "offset %zu: damaged: a frame of no bytes", r->at);
    }
    if (head[0] > left - sizeof head || frame_bytes(head[0]) > left) {
        return error_set(error, STATUS_PROTOCOL,
                         "offset %zu: cut off: a frame of %u bytes, %zu are left", r->at, head[0],
                         left - sizeof head);
    }
    const unsigned char *data = r->data + r->at + sizeof head;
    if (check_of(data, head[0]) != head[1]) {
        return error_set(error, STATUS_PROTOCOL,
                         "offset %zu: damaged: a frame of %u bytes has another check sum", r->at,
                         head[0]);
    }
    *frame = (struct tape_frame){
        .data = data, .bytes = head[0], .offset = r->at, .number = r->frames_count};
    r->at += frame_bytes(head[0]);
    r->frames_count++;
    return STATUS_OK;
}
