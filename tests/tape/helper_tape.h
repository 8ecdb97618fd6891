/*
 * helper_tape.h - small taped processes for tests: an engine core and a front end that talk to each
 * other as the real processes do, and copies of their tapes with something changed.
 */
#ifndef TESTS_TAPE_HELPER_TAPE_H
#define TESTS_TAPE_HELPER_TAPE_H

#include "engine/tape/tape_coordinator.h"
#include "engine/tape/tape_engine.h"
#include "engine/tape/tape_frontend.h"
#include "engine/tape/tape_replay.h"
#include "engine/tape/tape_startup.h"

enum {
    TAPE_PATH_BYTES = 256
};

/* A folder for the files of a test program; removed with them at its end. */
void tape_folder_make(void);
void tape_folder_remove(void);
void tape_path(const char *name, char out[TAPE_PATH_BYTES]);
/* A tape in that folder; it must never be lost. */
struct tape *tape_open(const char *name, enum tape_kind kind, uint32_t index);

/*
 * Writes engine-0.rec, api-0.rec, coordinator-0.rec and launcher-0.rec: some tens of requests, a
 * few of them cancelled, with stop strings and with text in pieces; returns the tokens that the
 * front end gave.
 */
uint64_t tape_small_system(uint64_t seed, bool lockstep);

/* Replays a file of the folder, which must be readable to its end. */
void tape_replayed(const char *name, struct tape_summary *out);

/* Copies a tape; `change` may alter a frame's bytes in place (true: it did) or say that nothing
 * behind it is copied (*bytes = 0). The copy is well-formed. */
struct tape_change {
    bool (*change)(void *ctx, uint64_t number, unsigned char *data, size_t *bytes);
    void *ctx;
};
uint32_t tape_copy(const char *from, const char *to, const struct tape_change *change);

#endif
