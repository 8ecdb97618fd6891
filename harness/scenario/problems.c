/*
 * problems.c - owns the list of mistakes and how one is worded: place, key, sentence. Called by
 * every stage of reading a scenario. Must not print.
 */
#include "harness/scenario/problems.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void position_text(struct scenario_origin origin, char *out, size_t cap)
{
    if (origin.line == 0) {
        (void)snprintf(out, cap, "%s", origin.file);
    } else if (origin.column == 0) {
        (void)snprintf(out, cap, "%s:%u", origin.file, origin.line);
    } else {
        (void)snprintf(out, cap, "%s:%u:%u", origin.file, origin.line, origin.column);
    }
}

void origin_text(struct scenario_origin origin, char *out, size_t cap)
{
    origin.column = 0;
    position_text(origin, out, cap);
}

void problems_add(struct scenario_problems *problems, struct scenario_origin origin,
                  const char *fmt, ...)
{
    char text[SCENARIO_PROBLEM_BYTES];
    char position[SCENARIO_PROBLEM_BYTES / 4];
    char sentence[SCENARIO_PROBLEM_BYTES * 3 / 4 - 2];
    va_list args;

    position_text(origin, position, sizeof position);
    va_start(args, fmt);
    (void)vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    (void)snprintf(text, sizeof text, "%s: %s", position, sentence);
    for (uint32_t i = 0; i < problems->count; i++) {
        if (strcmp(problems->text[i], text) == 0) {
            return;
        }
    }
    if (problems->count == SCENARIO_PROBLEMS_MAX) {
        problems->dropped_count++;
        return;
    }
    memcpy(problems->text[problems->count++], text, sizeof text);
}
