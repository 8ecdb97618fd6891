/*
 * value_pins.c - the value of `pin`: which processes run on which CPUs, as
 * `api:0-1 engine:2-5,8 client:6` (value.h). Pure functions; whether the machine has these CPUs is
 * asked in cell_check.c.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/scenario/value.h"

/* Index in the sets of option_server, OPTION_PINS_COUNT if the word names none. */
static uint32_t pin_index(const char *word, size_t bytes)
{
    for (uint32_t i = 0; i < OPTION_PINS_COUNT; i++) {
        const char *name = option_pin_name(i);
        if (strlen(name) == bytes && strncmp(name, word, bytes) == 0) {
            return i;
        }
    }
    return OPTION_PINS_COUNT;
}

/* A CPU's number; NULL if there is none or it is too great. */
static const char *read_cpu(const char *at, uint32_t *out)
{
    char *end = NULL;
    unsigned long cpu = isdigit((unsigned char)*at) ? strtoul(at, &end, 10) : TOPOLOGY_CPUS_MAX;
    *out = (uint32_t)cpu;
    return cpu < TOPOLOGY_CPUS_MAX ? end : NULL;
}

/* `0-3,8`, up to a blank or the end; NULL if it is no such list. */
static const char *read_cpus(const char *at, struct topology_cpus *out)
{
    for (;;) {
        uint32_t first = 0;
        at = read_cpu(at, &first);
        uint32_t last = first;
        if (at != NULL && *at == '-') {
            at = read_cpu(at + 1, &last);
        }
        if (at == NULL || last < first) {
            return NULL;
        }
        for (uint32_t cpu = first; cpu <= last; cpu++) {
            topology_cpus_add(out, cpu);
        }
        if (*at != ',') {
            return *at == ' ' || *at == '\0' ? at : NULL;
        }
        at++;
    }
}

enum status value_pins(const char *text, struct topology_cpus out[OPTION_PINS_COUNT],
                       struct error *error)
{
    struct topology_cpus sets[OPTION_PINS_COUNT];
    const char *at = text;
    memset(sets, 0, sizeof sets);
    memset(out, 0, sizeof sets);
    if (strcmp(text, "auto") == 0) {
        return STATUS_OK;
    }
    while (*at != '\0') {
        size_t bytes = strcspn(at, ": ");
        uint32_t index = at[bytes] == ':' ? pin_index(at, bytes) : OPTION_PINS_COUNT;
        if (index == OPTION_PINS_COUNT) {
            return error_set(error, STATUS_INVALID,
                             "'%.40s' names no processes: write auto or, of system:, api:, "
                             "engine:, worker:, coordinator:, client:, as in api:0-1 engine:2,3",
                             at);
        }
        if (topology_cpus_count(&sets[index]) > 0) {
            return error_set(error, STATUS_INVALID, "'%s:' is given twice", option_pin_name(index));
        }
        const char *end = read_cpus(at + bytes + 1, &sets[index]);
        if (end == NULL) {
            return error_set(error, STATUS_INVALID,
                             "'%.40s' is no list of CPUs: write %s:0-3 or %s:0,2", at,
                             option_pin_name(index), option_pin_name(index));
        }
        at = end + strspn(end, " ");
    }
    memcpy(out, sets, sizeof sets);
    return STATUS_OK;
}
