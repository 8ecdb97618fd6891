/* tape_fuzz.c - any bytes as the recording of a process, or, behind a first byte that is not 0, as
 * its frames (two bytes of length before each), so that check sums are no wall: replayed and
 * printed, an error or a result, never a crash. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/hash.h"
#include "engine/tape/tape_replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const unsigned char head[16] = {'H', 'A', 'R', 'N', 'T', 'A', 'P', 'E', TAPE_VERSION};

/* A well-formed file of these frames. */
static unsigned char *make_file(const uint8_t *data, size_t size, size_t *bytes)
{
    unsigned char *file = calloc(1, sizeof head + size * 12 + 32);
    ASSERT(file != NULL);
    size_t used = sizeof head;
    memcpy(file, head, sizeof head);
    for (size_t at = 0; at + 2 < size;) {
        uint32_t length = data[at] | (uint32_t)data[at + 1] << 8;
        at += 2;
        length = length < size - at ? length : (uint32_t)(size - at);
        if (length == 0) {
            continue;
        }
        uint32_t check = (uint32_t)hash64(data + at, length, TAPE_VERSION);
        memcpy(file + used, &length, 4);
        memcpy(file + used + 4, &check, 4);
        memcpy(file + used + 8, data + at, length);
        used += 8 + (length + 7) / 8 * 8;
        at += length;
    }
    *bytes = used;
    return file;
}

static void try_file(const unsigned char *file, size_t bytes)
{
    struct tape_reader reader;
    struct tape_summary summary;
    struct error error = {0};
    if (tape_reader_init(&reader, file, bytes, &error) != STATUS_OK) {
        ASSERT(error.text[0] != '\0');
        return;
    }
    if (tape_replay(&reader, &summary, &error) != STATUS_OK) {
        ASSERT(error.text[0] != '\0');
    } else {
        ASSERT(!summary.differs || summary.difference[0] != '\0');
    }
    FILE *nowhere = fopen("/dev/null", "w");
    if (nowhere != NULL && tape_reader_init(&reader, file, bytes, &error) == STATUS_OK) {
        (void)!tape_print(&reader, nowhere, &error);
    }
    if (nowhere != NULL) {
        (void)fclose(nowhere);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    if (data[0] == 0) {
        try_file(data + 1, size - 1);
        return 0;
    }
    size_t bytes;
    unsigned char *file = make_file(data + 1, size - 1, &bytes);
    try_file(file, bytes);
    free(file);
    return 0;
}
