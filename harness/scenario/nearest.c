/*
 * nearest.c - owns the distance between two names and the choice of the nearest. Called wherever a
 * name is not known. Pure functions on bounded memory.
 */
#include "harness/scenario/nearest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
    WORD_BYTES_MAX = 64
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static int folded(char c)
{
    return tolower((unsigned char)c);
}

static uint32_t distance(const char *a, const char *b)
{
    size_t a_bytes = strlen(a);
    size_t b_bytes = strlen(b);
    if (a_bytes >= WORD_BYTES_MAX || b_bytes >= WORD_BYTES_MAX) {
        return UINT32_MAX;
    }
    uint32_t rows[3][WORD_BYTES_MAX] = {{0}};
    uint32_t *before = rows[0];
    uint32_t *last = rows[1];
    uint32_t *now = rows[2];
    for (uint32_t j = 0; j <= b_bytes; j++) {
        last[j] = j;
    }
    for (uint32_t i = 1; i <= a_bytes; i++) {
        now[0] = i;
        for (uint32_t j = 1; j <= b_bytes; j++) {
            uint32_t cost = folded(a[i - 1]) == folded(b[j - 1]) ? 0 : 1;
            now[j] = least(least(last[j] + 1, now[j - 1] + 1), last[j - 1] + cost);
            if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
                folded(a[i - 2]) == folded(b[j - 1])) {
                now[j] = least(now[j], before[j - 2] + 1);
            }
        }
        uint32_t *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[b_bytes];
}

void nearest_offer(struct nearest *nearest, const char *candidate)
{
    size_t bytes = strlen(nearest->word);
    uint32_t limit = bytes < 6 ? 1 + (uint32_t)(bytes / 5) : 1 + (uint32_t)(bytes / 3);
    uint32_t d = distance(nearest->word, candidate);
    if (d <= limit && (nearest->best == NULL || d < nearest->best_distance)) {
        nearest->best = candidate;
        nearest->best_distance = d;
    }
}

const char *nearest_hint(const struct nearest *nearest, char *out, size_t cap)
{
    out[0] = '\0';
    if (nearest->best != NULL) {
        (void)snprintf(out, cap, ", did you mean '%s'?", nearest->best);
    }
    return out;
}
