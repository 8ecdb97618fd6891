/*
 * combine.c - reads `combine` of [sweep] and counts combinations of axis values (combine.h). Called
 * by cell.c, which reports its errors with the place of the key; keeps nothing.
 */
#include "harness/scenario/combine.h"

#include <stdio.h>
#include <string.h>

#include "harness/scenario/nearest.h"

#define BLANKS " \t"

enum {
    HINT_BYTES = 128
};

/* The axis of that name; axes_count if there is none. */
static uint32_t axis_of(const struct scenario *scenario, const char *name, size_t bytes)
{
    uint32_t i = 0;
    while (i < scenario->axes_count && (strlen(scenario->axes[i].name) != bytes ||
                                        memcmp(scenario->axes[i].name, name, bytes) != 0)) {
        i++;
    }
    return i;
}

static enum status no_axis(const struct scenario *scenario, const char *name, size_t bytes,
                           struct error *error)
{
    char word[SCENARIO_TEXT_BYTES];
    char hint[HINT_BYTES];
    (void)snprintf(word, sizeof word, "%.*s", (int)bytes, name);
    struct nearest nearest = {.word = word};
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        nearest_offer(&nearest, scenario->axes[i].name);
    }
    return error_set(error, STATUS_INVALID, "link: there is no axis '%.64s' under [sweep]%s", word,
                     nearest_hint(&nearest, hint, sizeof hint));
}

/* One group, "a:b:c". `linked` has the axes of all groups so far. */
static enum status read_group(const char *text, size_t bytes, const struct scenario *scenario,
                              bool *linked, struct combine *out, struct error *error)
{
    uint32_t members[SCENARIO_AXES_MAX];
    uint32_t count = 0;
    uint32_t leader = SCENARIO_AXES_MAX;
    for (size_t at = 0; at <= bytes; count++) {
        size_t end = at;
        while (end < bytes && text[end] != ':') {
            end++;
        }
        uint32_t axis = axis_of(scenario, text + at, end - at);
        if (axis == scenario->axes_count) {
            return no_axis(scenario, text + at, end - at, error);
        }
        if (linked[axis]) {
            return error_set(error, STATUS_INVALID, "link: the axis '%s' stands twice",
                             scenario->axes[axis].name);
        }
        linked[axis] = true;
        members[count] = axis;
        leader = axis < leader ? axis : leader;
        at = end + 1;
    }
    if (count < 2) {
        return error_set(error, STATUS_INVALID, "link: with which axis? As in link %s:other",
                         scenario->axes[members[0]].name);
    }
    for (uint32_t i = 0; i < count; i++) {
        out->leader[members[i]] = leader;
    }
    return STATUS_OK;
}

static enum status read_groups(const char *text, const struct scenario *scenario,
                               struct combine *out, struct error *error)
{
    bool linked[SCENARIO_AXES_MAX] = {false};
    text += strspn(text, BLANKS);
    if (*text == '\0') {
        return error_set(error, STATUS_INVALID, "link: which axes? As in link a:b");
    }
    while (*text != '\0') {
        size_t bytes = strcspn(text, BLANKS);
        TRY(read_group(text, bytes, scenario, linked, out, error));
        text += bytes;
        text += strspn(text, BLANKS);
    }
    return STATUS_OK;
}

enum status combine_read(const char *text, const struct scenario *scenario, struct combine *out,
                         struct error *error)
{
    size_t word = strcspn(text, BLANKS);
    bool zip = strcmp(text, "zip") == 0;
    bool link = word == strlen("link") && memcmp(text, "link", word) == 0;
    if (!zip && !link && strcmp(text, "cross") != 0) {
        return error_set(error, STATUS_INVALID, "'%.60s' is none of cross, zip, link a:b", text);
    }
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        out->leader[i] = zip ? 0 : i;
    }
    if (link) {
        TRY(read_groups(text + word, scenario, out, error));
    }
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        const struct scenario_axis *axis = &scenario->axes[i];
        const struct scenario_axis *leader = &scenario->axes[out->leader[i]];
        if (axis->values_count != leader->values_count) {
            return error_set(error, STATUS_INVALID,
                             "%s needs axes of equal length, %s has %u values and %s has %u",
                             zip ? "zip" : "link", leader->name, leader->values_count, axis->name,
                             axis->values_count);
        }
    }
    return STATUS_OK;
}

uint64_t combine_count(const struct combine *combine, const struct scenario *scenario)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < scenario->axes_count && count <= SCENARIO_CELLS_MAX; i++) {
        count *= combine->leader[i] == i ? scenario->axes[i].values_count : 1;
    }
    return count;
}

void combine_pick(const struct combine *combine, const struct scenario *scenario, uint64_t n,
                  struct scenario_cell *cell)
{
    for (uint32_t i = scenario->axes_count; i-- > 0;) {
        uint32_t count = scenario->axes[i].values_count;
        if (combine->leader[i] == i) {
            cell->axis_value[i] = (uint32_t)(n % count);
            n /= count;
        }
    }
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        cell->axis_value[i] = cell->axis_value[combine->leader[i]];
    }
}
