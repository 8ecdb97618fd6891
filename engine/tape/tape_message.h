/*
 * tape_message.h - the fields of the messages of engine/core/message.h, for tape_code.h. All of
 * them: two messages with the same bytes here have the same bytes on the wire.
 *
 * Each walk takes a copy of the struct: reading fills it.
 */
#ifndef ENGINE_TAPE_TAPE_MESSAGE_H
#define ENGINE_TAPE_TAPE_MESSAGE_H

#include "engine/core/message.h"
#include "engine/tape/tape_code.h"

void tape_sampling_walk(struct tape_code *c, struct sampling_params *p);
/* Without the prompt's tokens only their number and hash. */
void tape_request_walk(struct tape_code *c, struct engine_request *r, bool prompt);
void tape_stats_walk(struct tape_code *c, struct scheduler_stats *s);
void tape_outputs_walk(struct tape_code *c, struct engine_outputs *m);
void tape_state_walk(struct tape_code *c, struct coordinator_state *s);
/* enum finish_reason */
void tape_finish_walk(struct tape_code *c, enum finish_reason *finish);
/* What a call returned: a status, and why if it is not OK. */
struct tape_result {
    uint32_t status; /* enum status */
    const char *why;
};
void tape_result_walk(struct tape_code *c, struct tape_result *r);

#endif
