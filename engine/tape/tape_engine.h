/*
 * tape_engine.h - the calls of an engine core's process into engine/core/engine_core.h, each of
 * which is written to the process's tape if it keeps one.
 *
 * Each function does what its namesake there does and gives what it gives. Looks that change
 * nothing and go to the ledger only (waiting, wave) are made on `core` itself.
 */
#ifndef ENGINE_TAPE_TAPE_ENGINE_H
#define ENGINE_TAPE_TAPE_ENGINE_H

#include "engine/core/engine_core.h"
#include "engine/tape/tape.h"

struct tape_engine {
    struct engine_core *core;
    struct tape *tape; /* NULL: nothing is recorded */
};

/* Fills e->core. */
MUST_CHECK enum status tape_engine_create(struct tape_engine *e, struct arena *arena,
                                          const struct engine_core_options *options,
                                          struct error *error);
MUST_CHECK enum status tape_engine_add(const struct tape_engine *e,
                                       const struct engine_request *request, time_ps now,
                                       struct error *error);
void tape_engine_abort(const struct tape_engine *e, const char *id);
bool tape_engine_has_work(const struct tape_engine *e);
enum engine_turn tape_engine_turn(const struct tape_engine *e, time_ps now,
                                  const struct step_plan **plan);
void tape_engine_complete(const struct tape_engine *e, time_ps now,
                          const struct step_result *result, struct engine_core_messages *messages);
bool tape_engine_counts_changed(const struct tape_engine *e, struct scheduler_stats *stats);
void tape_engine_start_wave(const struct tape_engine *e, const struct start_wave *start);
enum wave_need tape_engine_wave_next(const struct tape_engine *e, struct wave_ballot *ballot);
void tape_engine_wave_checked(const struct tape_engine *e, const struct wave_ballot *sum);
bool tape_engine_take_notice(const struct tape_engine *e, time_ps now,
                             struct engine_outputs *notice);
struct wave_forward tape_engine_forward(const struct tape_engine *e, const struct step_plan *plan);
void tape_engine_pause(const struct tape_engine *e, enum pause_mode mode);
bool tape_engine_pause_done(const struct tape_engine *e);
enum pause_state tape_engine_pause_state(const struct tape_engine *e);
bool tape_engine_reset_prefix_cache(const struct tape_engine *e);
enum resume_outcome tape_engine_resume(const struct tape_engine *e, bool *unfinished);
void tape_engine_resumed(const struct tape_engine *e, bool any_unfinished);

#endif
