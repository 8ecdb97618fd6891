/*
 * record_file.c - writes and reads one checked file (record_file.h). Knows nothing of its content.
 */
#include "harness/run/record_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/hash.h"

enum {
    VERSION = 1
};

#define MAGIC     UINT64_C(0x647263657268) /* "hrecrd", read as a number */
#define BYTES_MAX ((size_t)1 << 30)

struct header {
    uint64_t magic;
    uint32_t version;
    uint32_t kind;
    uint64_t shape;
    uint64_t bytes;
    uint64_t hash; /* of the content */
};

static bool put_all(int fd, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    while (bytes > 0) {
        ssize_t put = write(fd, at, bytes);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return false;
        }
        at += put;
        bytes -= (size_t)put;
    }
    return true;
}

/* A name that was renamed is on disk once its folder is. */
static void sync_folder(const char *path)
{
    char folder[RECORD_PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) {
        *slash = '\0';
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            (void)fsync(fd);
            (void)close(fd);
        }
    }
}

enum status record_file_write(const char *path, const struct record_kind *kind, const void *data,
                              size_t bytes, struct error *error)
{
    char fresh[RECORD_PATH_BYTES + 8];
    const struct header header = {.magic = MAGIC,
                                  .version = VERSION,
                                  .kind = kind->kind,
                                  .shape = kind->shape,
                                  .bytes = bytes,
                                  .hash = hash64(data, bytes, 0)};
    (void)snprintf(fresh, sizeof fresh, "%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool good = fd >= 0 && put_all(fd, &header, sizeof header) && put_all(fd, data, bytes) &&
                fsync(fd) == 0;
    int why = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (good && rename(fresh, path) != 0) {
        why = errno;
        good = false;
    }
    if (!good) {
        return error_set(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(why));
    }
    sync_folder(path);
    return STATUS_OK;
}

static bool is_sound(const struct header *h, const struct record_kind *kind, size_t file_bytes)
{
    return h->magic == MAGIC && h->version == VERSION && h->kind == kind->kind &&
           h->shape == kind->shape && h->bytes == file_bytes - sizeof *h;
}

static enum status read_open(int fd, const char *path, const struct record_kind *kind,
                             unsigned char **out, size_t *bytes, struct error *error)
{
    struct stat st;
    struct header header;
    size_t have = fstat(fd, &st) == 0 && st.st_size >= 0 ? (size_t)st.st_size : 0;
    if (have < sizeof header || have > BYTES_MAX ||
        read(fd, &header, sizeof header) != (ssize_t)sizeof header ||
        !is_sound(&header, kind, have)) {
        return error_set(error, STATUS_INVALID, "%s: damaged, or written by another version", path);
    }
    *bytes = have - sizeof header;
    *out = malloc(*bytes + 1);
    if (*out == NULL) {
        return error_set(error, STATUS_NOMEM, "%s: no memory to read it", path);
    }
    size_t got = 0;
    ssize_t part = 1;
    while (got < *bytes && part > 0) {
        part = read(fd, *out + got, *bytes - got);
        got += part > 0 ? (size_t)part : 0;
    }
    if (got != *bytes || hash64(*out, got, 0) != header.hash) {
        free(*out);
        *out = NULL;
        return error_set(error, STATUS_INVALID, "%s: damaged", path);
    }
    (*out)[got] = '\0';
    return STATUS_OK;
}

enum status record_file_read(const char *path, const struct record_kind *kind, unsigned char **out,
                             size_t *bytes, struct error *error)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
                         strerror(errno));
    }
    enum status status = read_open(fd, path, kind, out, bytes, error);
    (void)close(fd);
    return status;
}
