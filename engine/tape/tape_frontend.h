/*
 * tape_frontend.h - the calls of an API server's process into engine/core/frontend.h, each of which
 * is written to the process's tape if it keeps one.
 *
 * Each function does what its namesake there does and gives what it gives. The text that the
 * detokenizer makes of a token is written too: it comes from outside of the front end. Looks that
 * change nothing and go to the ledger or to /metrics only are made on `frontend` itself.
 */
#ifndef ENGINE_TAPE_TAPE_FRONTEND_H
#define ENGINE_TAPE_TAPE_FRONTEND_H

#include "engine/core/frontend.h"
#include "engine/tape/tape.h"

struct tape_frontend_text {
    uint32_t token;
    uint32_t bytes;
    const char *text;
};

struct tape_frontend {
    struct frontend *frontend;
    struct tape *tape;        /* NULL: nothing is recorded */
    struct detokenizer inner; /* who makes the texts, */
    struct detokenizer outer; /* and who writes them down on the way */
    struct tape_code texts;   /* of the slice in work */
    uint32_t texts_count;
};

/* Fills f->frontend; *f may not move from then on. */
MUST_CHECK enum status tape_frontend_create(struct tape_frontend *f, struct arena *arena,
                                            const struct frontend_options *options,
                                            struct error *error);
MUST_CHECK enum status tape_frontend_submit(const struct tape_frontend *f,
                                            const struct frontend_request *request, time_ps now,
                                            struct frontend_send *send, struct error *error);
void tape_frontend_outputs_begin(const struct tape_frontend *f,
                                 const struct engine_outputs *message);
uint32_t tape_frontend_outputs_slice(struct tape_frontend *f, time_ps now);
bool tape_frontend_take(const struct tape_frontend *f, struct frontend_delta *delta);
bool tape_frontend_take_abort(const struct tape_frontend *f, struct frontend_abort *abort);
void tape_frontend_cancel(const struct tape_frontend *f, int32_t handle);
void tape_frontend_fail_all(const struct tape_frontend *f);
void tape_frontend_coordinator_state(const struct tape_frontend *f,
                                     const struct coordinator_state *state);

#endif
