/*
 * record_file.h - one checked file of a session's records: a header with version, kind and hash
 * before the content. Serves record.c and session.c only.
 */
#ifndef HARNESS_RUN_RECORD_FILE_H
#define HARNESS_RUN_RECORD_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    RECORD_PATH_BYTES = 640
};

/* What a file is about; `shape` changes when the structs in it do. */
struct record_kind {
    uint32_t kind;
    uint64_t shape;
};

/* Replaces the file in one step; both it and its name are on disk when it returns OK. */
MUST_CHECK enum status record_file_write(const char *path, const struct record_kind *kind,
                                         const void *data, size_t bytes, struct error *error);
/* The caller frees *out. NOT_FOUND: no such file. INVALID: damaged, or of another kind or shape. */
MUST_CHECK enum status record_file_read(const char *path, const struct record_kind *kind,
                                        unsigned char **out, size_t *bytes, struct error *error);

#endif
