/*
 * helper_scenario.c - see helper_scenario.h. Serves only the tests of harness/scenario.
 */
#include "helper_scenario.h"

#include <stdlib.h>
#include <string.h>

static enum status load(void *ctx, const char *path, char *buffer, size_t cap, size_t *bytes,
                        struct error *error)
{
    const struct memory *memory = ctx;
    for (const struct memory_file *f = memory->files; f->path != NULL; f++) {
        if (strcmp(f->path, path) == 0) {
            *bytes = strlen(f->text);
            if (*bytes > cap) {
                return error_set(error, STATUS_FULL, "too large");
            }
            memcpy(buffer, f->text, *bytes);
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_NOT_FOUND, "no such file");
}

static const char *variable(void *ctx, const char *name)
{
    const struct memory *memory = ctx;
    for (const char *const *v = memory->variables; v != NULL && *v != NULL; v += 2) {
        if (strcmp(v[0], name) == 0) {
            return v[1];
        }
    }
    return NULL;
}

struct scenario_environment memory_environment(struct memory *memory)
{
    return (struct scenario_environment){
        .ctx = memory, .load = load, .variable = variable, .cpus_count = 16, .gpus_count = 2};
}

enum status memory_open(const char *text, const struct scenario_options *options,
                        struct scenario **out, struct scenario_problems *problems)
{
    const struct memory_file files[] = {{"t.ini", text}, {NULL, NULL}};
    const char *const variables[] = {"SEQS", "77", "QUOTED", "a\"b", "EMPTY", "", NULL};
    struct memory memory = {.files = files, .variables = variables};
    struct scenario_environment environment = memory_environment(&memory);
    return scenario_open("t.ini", &environment, options, out, problems);
}

void problems_join(const struct scenario_problems *problems, char *out, size_t cap)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < problems->count && used < cap; i++) {
        used +=
            (size_t)snprintf(out + used, cap - used, "%s%s", i == 0 ? "" : "\n", problems->text[i]);
    }
}

char *scenario_text(const struct scenario *scenario)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (file == NULL) {
        abort();
    }
    scenario_write(scenario, file);
    (void)fclose(file);
    return text;
}
