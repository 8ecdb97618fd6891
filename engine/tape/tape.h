/*
 * tape.h - the file that a process of the serving system writes its calls into engine/core to: what
 * it asked and what the state machine answered, one frame after the other.
 *
 *     "HARNTAPE", uint32 version, uint32 0
 *     frame: uint32 bytes, uint32 check, bytes[], zeros up to a multiple of 8
 *     ...
 *     eight zeros where the next frame would begin, if the process was ended
 *
 * A frame's first byte is the call, with TAPE_ANSWER if it is what came back. The first frame is
 * the creation of the object: who the process is, and its options. Numbers are little-endian.
 *
 * The file is the buffer: a piece of it is mapped, and length and check of a frame are written, in
 * one store, after all else of it. So whatever ends the process, SIGKILL too, the frames written
 * before are there, and of the one in work its head is zero.
 * Space is reserved a piece at a time, so that a full disk is an error and no SIGBUS; then the
 * recording ends, and the process goes on without it.
 */
#ifndef ENGINE_TAPE_TAPE_H
#define ENGINE_TAPE_TAPE_H

#include "engine/tape/tape_code.h"

enum {
    TAPE_VERSION = 1,
    TAPE_CREATE = 0,    /* the call of the first frame */
    TAPE_ANSWER = 0x40, /* added to the call: what came back */
    TAPE_REVISION_BYTES = 48,
};

/* Processes, by the object of engine/core that they drive. */
enum tape_kind {
    TAPE_API_SERVER,
    TAPE_ENGINE_CORE,
    TAPE_COORDINATOR,
    TAPE_LAUNCHER,
    TAPE_KINDS_COUNT,
};

/* "api", "engine", "coordinator", "launcher": the file of one is NAME-INDEX.rec. */
const char *tape_kind_name(enum tape_kind kind);

/* Whose tape it is: begins the first frame. */
struct tape_owner {
    uint32_t kind; /* enum tape_kind */
    uint32_t index;
    const char *revision; /* of the program's sources */
};
void tape_owner_walk(struct tape_code *c, struct tape_owner *owner);

struct tape;

struct tape_options {
    const char *path;
    struct tape_owner owner; /* `revision` must live as long as the tape */
    /* Called once, if the file can take no more. */
    void (*lost)(const struct error *why);
};

/* Replaces a file of that name. IO names it. */
MUST_CHECK enum status tape_create(const struct tape_options *options, struct tape **out,
                                   struct error *error);
/* A tape that is no file: each frame goes to `take` (without length and check). */
struct tape *tape_to(const struct tape_owner *owner,
                     void (*take)(void *ctx, const unsigned char *data, size_t bytes), void *ctx);
/* Cuts the file where its frames end. NULL: nothing happens. */
void tape_close(struct tape *t);

/* Begins a frame; its fields are written to what comes back. */
struct tape_code *tape_begin(struct tape *t, uint32_t call);
/* The frame is complete: from here on nothing that happens to the process can lose it. */
void tape_end(struct tape *t);
const struct tape_owner *tape_owner(const struct tape *t);

/* ---- reading ---- */

struct tape_reader {
    const unsigned char *data; /* the whole file */
    size_t bytes;
    size_t at;
    uint64_t frames_count; /* read so far */
    bool mapped;
};

struct tape_frame {
    const unsigned char *data;
    size_t bytes; /* at least 1 */
    size_t offset;
    uint64_t number; /* from 0 */
};

/* IO, or PROTOCOL: it is no tape, or of another version. `data` is borrowed. */
MUST_CHECK enum status tape_reader_init(struct tape_reader *r, const void *data, size_t bytes,
                                        struct error *error);
MUST_CHECK enum status tape_reader_open(struct tape_reader *r, const char *path,
                                        struct error *error);
void tape_reader_close(struct tape_reader *r);
/* NOT_FOUND: there is none behind. PROTOCOL names the offset at which the file is damaged. */
MUST_CHECK enum status tape_read(struct tape_reader *r, struct tape_frame *frame,
                                 struct error *error);

#endif
