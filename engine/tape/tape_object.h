/*
 * tape_object.h - what tape_replay.c knows of each object of engine/core that is taped, and what
 * the object's own file needs to play its calls. Included by the files of this folder only.
 */
#ifndef ENGINE_TAPE_TAPE_OBJECT_H
#define ENGINE_TAPE_TAPE_OBJECT_H

#include "engine/tape/tape_coordinator.h"
#include "engine/tape/tape_engine.h"
#include "engine/tape/tape_frontend.h"
#include "engine/tape/tape_replay.h"
#include "engine/tape/tape_startup.h"

enum {
    TAPE_PLANS_MAX = 32,
    /* Of objects that are made again: what the processes of this program make, and room. */
    TAPE_REQUESTS_MAX = 1 << 16,
    TAPE_MODEL_LEN_MAX = 1 << 21,
    TAPE_RANKS_MAX = 4096,
    TAPE_BLOCKS_MAX = 1 << 28,
};

struct tape_call {
    const char *name;
    bool asks;    /* it has a frame of its own before the answer */
    bool answers; /* it has an answer */
    bool within;  /* it is no call: its frame stands between another's question and answer */
};

struct tape_player {
    struct tape_reader *reader;
    struct tape *tape;       /* of the object that is made again: compared, frame by frame */
    struct tape_frame frame; /* the call in work */
    struct tape_code code;   /* its fields */
    struct arena arena;
    struct tape_summary *summary;
    enum status status; /* why the comparing ended, if it is not OK */
    struct error error;
    uint32_t expected_count; /* frames of this call that were compared */

    struct tape_engine engine;
    struct tape_player_plan {
        uint64_t step;
        uint32_t samples_count;
    } plans[TAPE_PLANS_MAX]; /* submitted and not completed, the oldest first */
    uint32_t plans_count;
    const struct step_plan *last_plan;

    struct tape_frontend frontend;
    struct detokenizer detokenizer;
    struct frontend_options frontend_options;
    struct tape_code held; /* the message in work: it must live until its last slice */
    struct engine_outputs held_message;
    uint32_t held_outputs; /* of it, not processed yet */
    struct tape_code texts_code;
    const struct tape_frontend_text *texts; /* of the slice in work */
    uint32_t texts_count;

    struct tape_coordinator coordinator;
    bool actions_wait; /* of the last message */

    struct tape_startup startup;
};

struct tape_object {
    const struct tape_call *calls;
    uint32_t calls_count;
    /* Reads the fields of a frame; for printing. */
    void (*walk)(struct tape_code *c, uint32_t call);
    /* Makes the call of player->frame. */
    enum status (*play)(struct tape_player *p, uint32_t call, struct error *error);
};

extern const struct tape_object tape_engine_object;
extern const struct tape_object tape_frontend_object;
extern const struct tape_object tape_coordinator_object;
extern const struct tape_object tape_startup_object;

/* After all fields of a call were read. */
MUST_CHECK enum status tape_player_read(const struct tape_player *p, const char *call,
                                        struct error *error);
/* `possible` is false: no process can have made this call here. */
MUST_CHECK enum status tape_player_check(const struct tape_player *p, bool possible,
                                         const char *call, const char *why, struct error *error);
void tape_player_at(struct tape_player *p, time_ps now);

#endif
