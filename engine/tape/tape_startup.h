/*
 * tape_startup.h - the calls of a launcher into engine/core/startup.h, each of which is written to
 * the launcher's tape if it keeps one. Each function does what its namesake there does and gives
 * what it gives; whether the system serves, and who is missing, is asked of `startup` itself.
 */
#ifndef ENGINE_TAPE_TAPE_STARTUP_H
#define ENGINE_TAPE_TAPE_STARTUP_H

#include "engine/core/startup.h"
#include "engine/tape/tape.h"

struct tape_startup {
    struct startup *startup;
    struct tape *tape; /* NULL: nothing is recorded */
};

/* Fills s->startup. */
void tape_startup_create(struct tape_startup *s, struct arena *arena,
                         const struct startup_options *options);
MUST_CHECK enum status tape_startup_heard(const struct tape_startup *s, uint32_t rank,
                                          const struct startup_message *message,
                                          struct error *error);
MUST_CHECK enum status tape_startup_api_server_bound(const struct tape_startup *s,
                                                     struct error *error);
MUST_CHECK enum status tape_startup_api_server_ready(const struct tape_startup *s,
                                                     struct error *error);
bool tape_startup_take_init(const struct tape_startup *s, uint32_t *rank);

#endif
