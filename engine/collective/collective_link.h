/*
 * collective_link.h - one TCP connection between two ranks, frame by frame. It never waits to read.
 */
#ifndef ENGINE_COLLECTIVE_COLLECTIVE_LINK_H
#define ENGINE_COLLECTIVE_COLLECTIVE_LINK_H

#include "engine/collective/collective_frame.h"

struct collective_link {
    int fd; /* not blocking; -1: none */
    uint32_t buffered;
    uint8_t buffer[FRAME_BYTES_MAX];
};

enum link_news {
    LINK_NOTHING, /* so far */
    LINK_FRAME,
    LINK_ENDED,  /* the other side closed it or died */
    LINK_RUBBISH /* what came is no frame: *error says why */
};

/* Takes over a connected socket that does not block. */
void collective_link_init(struct collective_link *link, int fd);
enum link_news collective_link_read(struct collective_link *link, struct collective_frame *frame,
                                    struct error *error);
/* False: it did not go out whole by then, and nothing will go out any more. What came in before can
 * still be read. */
bool collective_link_write(struct collective_link *link, const struct collective_frame *frame,
                           int64_t deadline_ns);
/* What was written last still arrives. */
void collective_link_close(struct collective_link *link);

#endif
