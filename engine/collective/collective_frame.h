/*
 * collective_frame.h - what ranks say to each other over TCP, and its bytes. All numbers are
 * little-endian: magic, kind and length of the body, 4 bytes each, then the body.
 *
 *     HELLO    version, rank, ranks, name: 32 bytes, zeros behind the text   a rank, first of all
 *     JOINED   nothing                                          rank 0: the hello is accepted
 *     READY    nothing                                          rank 0: all have joined
 *     CALL     number, operation, tag (8), count, values        a rank's values
 *     RESULT   the same                                         rank 0: all ranks' values reduced
 *     WAITING  number, ranks that came (8, a bit each)          rank 0, to those that wait with it
 *     BREAK    status, text                                     there will be no further result
 *     LEAVE    nothing                                          the sender leaves in good order
 */
#ifndef ENGINE_COLLECTIVE_COLLECTIVE_FRAME_H
#define ENGINE_COLLECTIVE_COLLECTIVE_FRAME_H

#include <stddef.h>

#include "engine/collective/collective_transport.h"

enum {
    FRAME_VERSION = 1,
    FRAME_HEAD_BYTES = 12,
    FRAME_TEXT_MAX = 400,
    FRAME_BYTES_MAX = FRAME_HEAD_BYTES + 20 + 4 * COLLECTIVE_VALUES_MAX,
};

enum collective_frame_kind {
    FRAME_HELLO,
    FRAME_JOINED,
    FRAME_READY,
    FRAME_CALL,
    FRAME_RESULT,
    FRAME_WAITING,
    FRAME_BREAK,
    FRAME_LEAVE,
    FRAME_KINDS_COUNT
};

struct collective_frame {
    enum collective_frame_kind kind;
    uint32_t number; /* CALL, RESULT, WAITING: of the call; 0: still joining */
    union {
        struct {
            uint32_t version;
            uint32_t rank;
            uint32_t ranks_count;
            char name[COLLECTIVE_NAME_MAX];
        } hello;
        struct collective_contribution call; /* and result */
        uint64_t came;
        struct {
            enum status status; /* not OK */
            char text[FRAME_TEXT_MAX + 1];
        } end;
    } as;
};

/* Returns the number of bytes, at most FRAME_BYTES_MAX. */
uint32_t collective_frame_encode(const struct collective_frame *frame, uint8_t *out);
/* The frame that the data begin with. Puts its number of bytes into *used; 0: more are needed.
 * PROTOCOL: these bytes begin no frame, whatever follows them. */
MUST_CHECK enum status collective_frame_decode(const uint8_t *data, size_t bytes,
                                               struct collective_frame *out, uint32_t *used,
                                               struct error *error);

#endif
