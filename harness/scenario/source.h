/*
 * source.h - the text of a scenario: lines, comments, quotes, continuations, sections, includes. It
 * knows no key.
 *
 * Reads a file and all it includes through the environment's loader and gives sections with their
 * entries in the order they stand. Everything is bounded and nothing is copied that is not needed;
 * strings live in the arena.
 */
#ifndef HARNESS_SCENARIO_SOURCE_H
#define HARNESS_SCENARIO_SOURCE_H

#include "engine/base/arena.h"
#include "harness/scenario/problems.h"
#include "harness/scenario/scenario.h"

enum {
    SOURCE_FILES_MAX = 32,
    SOURCE_INCLUDE_DEPTH_MAX = 8,
    SOURCE_SECTIONS_MAX = 64,
    SOURCE_ENTRIES_MAX = 2048,
    SOURCE_KEY_BYTES = 64,
    SOURCE_VALUE_BYTES = 1024,
};

struct source_entry {
    const char *key;
    const char *value; /* quotes and comments removed */
    struct scenario_origin key_origin;
    struct scenario_origin value_origin;
    struct source_entry *next;
};

struct source_section {
    const char *kind;
    const char *name; /* "" if none */
    struct scenario_origin origin;
    struct source_entry *first;
    struct source_entry *last;
};

struct source {
    struct source_section sections[SOURCE_SECTIONS_MAX];
    uint32_t sections_count;
    uint32_t entries_count;
};

/* The bytes as a string in the arena. */
const char *source_copy(struct arena *arena, const char *text, size_t bytes);
/* Memory that source_read() may take from its arena. */
size_t source_arena_bytes(void);
void source_read(struct source *source, const char *path,
                 const struct scenario_environment *environment, struct arena *arena,
                 struct scenario_problems *problems);

#endif
