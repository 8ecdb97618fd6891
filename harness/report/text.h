/*
 * text.h - sentences built piece by piece into a fixed buffer, and the words that a person reads
 * for counts, rates and stages. Pure functions: no I/O.
 */
#ifndef HARNESS_REPORT_TEXT_H
#define HARNESS_REPORT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct text {
    char *out;
    size_t cap;
    size_t used; /* without the NUL; never more than cap - 1 */
};

/* An empty text in `out`, cap >= 1. */
struct text text_into(char *out, size_t cap);
/* What does not fit is cut, and the text then ends in "...". */
void text_add(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "19.1 k", "412", "-" for NAN. */
void text_rate(struct text *t, double per_s);
/* "98 %", "-" for NAN. */
void text_percent(struct text *t, double frac);
/* "%.*f" or "-" for NAN. */
void text_number(struct text *t, double value, int decimals);

/* "API server", "GPU", "scheduler thread", ...: what a person calls a stage. */
const char *text_stage(const char *stage);
/* 'A', 'G', ...: one letter for a stage in a small cell; '?' for none of them. */
char text_stage_letter(const char *stage);

#endif
