/*
 * tape_replay.h - a tape played back: the object of engine/core is made again with the recorded
 * options, gets the recorded calls, and must answer each of them with the recorded bytes.
 *
 *     tape_reader_open(&reader, path, &error);
 *     tape_replay(&reader, &summary, &error);
 *
 * Nothing of the tape is trusted. What no process could have asked is refused before the object is
 * called, so that a damaged file is an error and no broken invariant.
 */
#ifndef ENGINE_TAPE_TAPE_REPLAY_H
#define ENGINE_TAPE_TAPE_REPLAY_H

#include "engine/tape/tape.h"

enum {
    TAPE_DIFFERENCE_BYTES = 1024
};

struct tape_summary {
    uint32_t kind; /* enum tape_kind */
    uint32_t index;
    char revision[TAPE_REVISION_BYTES]; /* of the program that recorded */
    uint64_t calls_count;               /* replayed, the creation left out */
    uint64_t in_count;                  /* messages that other processes sent */
    uint64_t out_count;                 /* and those for other processes */
    uint64_t tokens_count;
    time_ps first_at; /* times of calls; both 0: they had none */
    time_ps last_at;
    bool differs; /* the replay ended at the first difference: */
    uint64_t difference_call;
    time_ps difference_at;
    char difference[TAPE_DIFFERENCE_BYTES]; /* what was expected and what came */
};

/*
 * OK: to the end, or to the first difference. PROTOCOL: the tape is damaged, the error names the
 * offset; the summary is of what came before. NOMEM, or INVALID for an object larger than this
 * machine or this program makes.
 */
MUST_CHECK enum status tape_replay(struct tape_reader *reader, struct tape_summary *out,
                                   struct error *error);
/* Each call as a line: number, time, call, fields, and behind " -> " what it answered. */
MUST_CHECK enum status tape_print(struct tape_reader *reader, FILE *out, struct error *error);

#endif
