/*
 * value_elasticity.c - the value of `elasticity`: which stages a probe slows and by how much, as
 * `top2 by=10%` or `api_server, gpu by=10%` (value.h). Pure functions; whether a stage can be
 * slowed is asked when its use is known.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "harness/scenario/value.h"

enum {
    TOP_MAX = 4
};

#define BY_LEAST 0.01
#define BY_MOST  1.0

/* Index of the word in "a|b|c", -1 if it is none. */
static int stage_index(const char *stages, const char *word, size_t bytes)
{
    int index = 0;
    for (const char *at = stages; *at != '\0'; index++) {
        size_t length = strcspn(at, "|");
        if (length == bytes && strncmp(at, word, bytes) == 0) {
            return index;
        }
        at += length + (at[length] == '|' ? 1 : 0);
    }
    return -1;
}

/* "by=10%" to the end. */
static enum status read_by(const char *text, double *out, struct error *error)
{
    char *end = NULL;
    bool number = strncmp(text, "by=", 3) == 0 && isdigit((unsigned char)text[3]);
    *out = number ? strtod(text + 3, &end) / 100 : 0;
    if (!number || strcmp(end, "%") != 0 || !(*out >= BY_LEAST && *out <= BY_MOST)) {
        return error_set(error, STATUS_INVALID,
                         "write by=10%%, of 1%% to 100%%, at the end, not '%.40s'", text);
    }
    return STATUS_OK;
}

enum status value_elasticity(const char *text, const char *stages, struct scenario_elasticity *out,
                             struct error *error)
{
    struct scenario_elasticity value = {.by_frac = 0};
    const char *at = text;
    bool top = strncmp(text, "top", 3) == 0 && text[3] >= '1' && text[3] <= '0' + TOP_MAX &&
               (text[4] == ' ' || text[4] == '\0');
    if (top) {
        value.top_count = (uint32_t)(text[3] - '0');
        at += 4 + strspn(text + 4, " ");
    }
    while (!top && *at != '\0' && strncmp(at, "by=", 3) != 0) {
        size_t bytes = strcspn(at, ", ");
        int index = stage_index(stages, at, bytes);
        if (index < 0) {
            return error_set(error, STATUS_INVALID,
                             "'%.*s' is no stage: top1 to top4, or any of %s, then by=10%%",
                             (int)(bytes < 40 ? bytes : 40), at, stages);
        }
        value.stages |= UINT32_C(1) << (uint32_t)index;
        at += bytes + strspn(at + bytes, ", ");
    }
    if (value.top_count == 0 && value.stages == 0) {
        return error_set(error, STATUS_INVALID, "no stage before by=: top2 by=10%%");
    }
    TRY(read_by(at, &value.by_frac, error));
    *out = value;
    return STATUS_OK;
}
