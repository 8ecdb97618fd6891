/*
 * problems.h - where a value came from, and the list of everything that is wrong with a scenario.
 *
 * A scenario is judged as a whole: every stage of reading it adds what it finds here and goes on,
 * so that a user sees all mistakes at once. Bounded: what does not fit is counted. The list is only
 * filled here; a command prints it.
 */
#ifndef HARNESS_SCENARIO_PROBLEMS_H
#define HARNESS_SCENARIO_PROBLEMS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    SCENARIO_PROBLEMS_MAX = 64,
    SCENARIO_PROBLEM_BYTES = 512
};

/* line 0: `file` is no file but "default" or "command line". column 0: the whole line. Columns
 * count bytes from 1. */
struct scenario_origin {
    const char *file;
    uint32_t line;
    uint32_t column;
};

struct scenario_problems {
    uint32_t count;
    uint32_t dropped_count;                                   /* found after the list was full */
    char text[SCENARIO_PROBLEMS_MAX][SCENARIO_PROBLEM_BYTES]; /* "file:line:column: sentence" */
};

/* Adds "origin: sentence", unless the very same line is already there. */
void problems_add(struct scenario_problems *problems, struct scenario_origin origin,
                  const char *fmt, ...) PRINTF_LIKE(3, 4);
/* "file:line" or "default". */
void origin_text(struct scenario_origin origin, char *out, size_t cap);

#endif
