/*
 * text.c - bounded sentences and the words for stages (text.h). Writes only to the caller's buffer.
 */
#include "harness/report/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text text_into(char *out, size_t cap)
{
    ASSERT(cap >= 1);
    out[0] = '\0';
    return (struct text){.out = out, .cap = cap};
}

void text_add(struct text *t, const char *fmt, ...)
{
    va_list arguments;
    size_t room = t->cap - t->used;
    va_start(arguments, fmt);
    int bytes = vsnprintf(t->out + t->used, room, fmt, arguments);
    va_end(arguments);
    ASSERT(bytes >= 0);
    if ((size_t)bytes < room) {
        t->used += (size_t)bytes;
        return;
    }
    t->used = t->cap - 1;
    if (t->cap > 4) {
        memcpy(t->out + t->cap - 4, "...", 4);
    }
}

void text_number(struct text *t, double value, int decimals)
{
    if (isnan(value)) {
        text_add(t, "-");
    } else {
        text_add(t, "%.*f", decimals, value);
    }
}

void text_rate(struct text *t, double per_s)
{
    if (isnan(per_s)) {
        text_add(t, "-");
    } else if (per_s >= 1e6) {
        text_add(t, "%.2f M", per_s / 1e6);
    } else if (per_s >= 1e3) {
        text_add(t, "%.1f k", per_s / 1e3);
    } else {
        text_add(t, "%.0f", per_s);
    }
}

void text_percent(struct text *t, double frac)
{
    if (isnan(frac)) {
        text_add(t, "-");
    } else {
        text_add(t, "%.0f %%", round(frac * 100) + 0.0); /* no "-0" */
    }
}

static const struct {
    const char *stage;
    const char *words;
    char letter;
} stages[] = {
    {"api_server", "API server", 'A'},
    {"gpu", "GPU", 'G'},
    {"scheduler", "engine core", 'E'},
    {"launch", "launching worker", 'L'},
    {"coordinator", "coordinator", 'C'},
    {"ipc", "engine core I/O thread", 'I'},
    {"launcher", "launcher", 'R'},
    {"client", "load client", 'X'},
    {"interpreter", "interpreter lock", 'P'},
};

const char *text_stage(const char *stage)
{
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        if (strcmp(stages[i].stage, stage) == 0) {
            return stages[i].words;
        }
    }
    return stage;
}

char text_stage_letter(const char *stage)
{
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        if (strcmp(stages[i].stage, stage) == 0) {
            return stages[i].letter;
        }
    }
    return '?';
}
