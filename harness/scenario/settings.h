/*
 * settings.h - the values of a scenario before they become structs: for each section, each key's
 * text and its origin.
 *
 * Precedence, weakest first: table default, [defaults KIND], inherited sections, the section
 * itself, [quick] when asked for, the command line.
 */
#ifndef HARNESS_SCENARIO_SETTINGS_H
#define HARNESS_SCENARIO_SETTINGS_H

#include "engine/base/arena.h"
#include "harness/scenario/option.h"
#include "harness/scenario/source.h"
#include "harness/scenario/value.h"

enum {
    SETTINGS_PER_SECTION_MAX = 64,
    SETTINGS_SECTIONS_MAX = 80
};

struct setting {
    const struct option *option;
    const char *key;
    const char *text; /* ${...} replaced, %{...} not; NULL: unset */
    struct scenario_origin origin;
    bool reported; /* its value is known to be wrong */
};

struct settings_section {
    const struct option_kind *kind;
    const char *name;
    struct scenario_origin origin;
    struct setting items[SETTINGS_PER_SECTION_MAX];
    uint32_t items_count;
};

struct scenario_settings {
    struct arena arena;
    struct value_machine machine;
    struct settings_section sections[SETTINGS_SECTIONS_MAX];
    uint32_t sections_count;
    const char *path; /* of the scenario file */
};

/* What settings_resolve() may take from the arena, for options with `sets_count` overrides. */
size_t settings_arena_bytes(uint32_t sets_count);
void settings_resolve(struct scenario_settings *settings, const struct source *source,
                      const struct scenario_environment *environment,
                      const struct scenario_options *options, struct scenario_problems *problems);
/* NULL if there is none. An unnamed kind has the name "". */
struct settings_section *settings_find(struct scenario_settings *settings, const char *kind,
                                       const char *name);
/* NULL if the key is not there. */
struct setting *settings_item(struct settings_section *section, const char *key);

#endif
