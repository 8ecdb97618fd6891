/*
 * value_source.c - the value of `source`: where a workload's requests come from, with the file they
 * stand in (value.h). Pure functions: the file is not looked at.
 */
#include <string.h>

#include "harness/scenario/value.h"

static const struct {
    const char *word;
    uint32_t source; /* enum scenario_source */
    bool may_have_file;
    bool needs_file;
} sources[] = {
    {"synthetic", SCENARIO_SOURCE_SYNTHETIC, false, false},
    {"trace", SCENARIO_SOURCE_TRACE, true, false},
    {"jsonl", SCENARIO_SOURCE_JSONL, true, true},
};

enum status value_source(const char *text, struct scenario_workload *out, struct error *error)
{
    size_t bytes = strcspn(text, " \t");
    const char *file = text + bytes + strspn(text + bytes, " \t");
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        if (strlen(sources[i].word) != bytes || strncmp(sources[i].word, text, bytes) != 0) {
            continue;
        }
        if (*file != '\0' && !sources[i].may_have_file) {
            return error_set(error, STATUS_INVALID, "%s has no file, found '%.40s'",
                             sources[i].word, file);
        }
        if (*file == '\0' && sources[i].needs_file) {
            return error_set(error, STATUS_INVALID, "%s needs its file: write %s FILE",
                             sources[i].word, sources[i].word);
        }
        if (strlen(file) >= sizeof out->source_file) {
            return error_set(error, STATUS_INVALID, "the file's name is longer than %zu characters",
                             sizeof out->source_file - 1);
        }
        out->source = sources[i].source;
        memset(out->source_file, 0, sizeof out->source_file);
        memcpy(out->source_file, file, strlen(file));
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID,
                     "unknown value '%.40s': write synthetic, trace FILE or jsonl FILE", text);
}
