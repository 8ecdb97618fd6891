/*
 * helper_scenario.h - scenarios from memory: files and environment variables are tables of a test.
 */
#ifndef TESTS_HARNESS_HELPER_SCENARIO_H
#define TESTS_HARNESS_HELPER_SCENARIO_H

#include "harness/scenario/scenario.h"

struct memory_file {
    const char *path;
    const char *text;
};

/* Both tables end with a NULL path or name; `variables` alternates names and values. */
struct memory {
    const struct memory_file *files;
    const char *const *variables;
};

/* 16 CPUs, 2 GPUs. */
struct scenario_environment memory_environment(struct memory *memory);
/* Opens the one file "t.ini" with `text`. */
enum status memory_open(const char *text, const struct scenario_options *options,
                        struct scenario **out, struct scenario_problems *problems);
/* All problems, one a line. */
void problems_join(const struct scenario_problems *problems, char *out, size_t cap);
/* What scenario_write() gives; freed by the caller. */
char *scenario_text(const struct scenario *scenario);

#endif
