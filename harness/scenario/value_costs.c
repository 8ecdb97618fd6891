/*
 * value_costs.c - the value of `costs`: built-in costs by their word, or the file of a calibration
 * (value.h). Pure functions: the file is not looked at.
 */
#include <string.h>

#include "harness/scenario/nearest.h"
#include "harness/scenario/value.h"

enum status value_costs(const char *text, struct scenario_simulation *out, struct error *error)
{
    static const struct {
        const char *word;
        enum scenario_costs costs;
    } words[] = {{"default", SCENARIO_COSTS_DEFAULT}, {"none", SCENARIO_COSTS_NONE}};
    struct nearest nearest = {.word = text};
    char hint[64];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        nearest_offer(&nearest, words[i].word);
        if (strcmp(words[i].word, text) == 0) {
            out->costs = (uint32_t)words[i].costs;
            return STATUS_OK;
        }
    }
    if (strpbrk(text, "./") == NULL) {
        return error_set(error, STATUS_INVALID,
                         "unknown value '%.40s'%s (default, none, or the file of a calibration, "
                         "NAME.ini)",
                         text, nearest_hint(&nearest, hint, sizeof hint));
    }
    if (strlen(text) >= sizeof out->costs_file) {
        return error_set(error, STATUS_INVALID, "the file's name is longer than %zu characters",
                         sizeof out->costs_file - 1);
    }
    out->costs = (uint32_t)SCENARIO_COSTS_FILE;
    memset(out->costs_file, 0, sizeof out->costs_file);
    memcpy(out->costs_file, text, strlen(text));
    return STATUS_OK;
}
