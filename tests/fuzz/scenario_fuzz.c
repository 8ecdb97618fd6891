/*
 * scenario_fuzz.c - any bytes as a scenario: read, resolved and expanded from memory. What is
 * accepted must also be written as a scenario that is accepted again and gives as many cells and
 * runs.
 *
 * The input is the scenario file; an include of "self.ini" is the input again, of any other name a
 * small fixed file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness/scenario/scenario.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const char *text;
    size_t bytes;
};

static enum status load(void *ctx, const char *path, char *buffer, size_t cap, size_t *bytes,
                        struct error *error)
{
    static const struct input fixed = {"[defaults load]\nusers = 3\n", 26};
    const struct input *input = ctx;
    size_t path_bytes = strlen(path);
    if (path_bytes < 8 || strcmp(path + path_bytes - 8, "self.ini") != 0) {
        input = &fixed;
    }
    if (input->bytes > cap) {
        return error_set(error, STATUS_FULL, "too large");
    }
    if (input->bytes > 0) {
        memcpy(buffer, input->text, input->bytes);
    }
    *bytes = input->bytes;
    return STATUS_OK;
}

static const char *variable(void *ctx, const char *name)
{
    (void)ctx;
    return name[0] == 'S' ? "17" : NULL;
}

static struct scenario *open_input(struct input *input, const struct scenario_options *options)
{
    static struct scenario_problems problems;
    struct scenario *scenario = NULL;
    struct scenario_environment environment = {
        .ctx = input, .load = load, .variable = variable, .cpus_count = 4, .gpus_count = 1};
    enum status status = scenario_open("self.ini", &environment, options, &scenario, &problems);
    if ((status == STATUS_OK) != (problems.count == 0)) {
        abort(); /* a refused scenario must say why */
    }
    return scenario;
}

static void write_again(const struct scenario *first)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (file == NULL) {
        return;
    }
    scenario_write(first, file);
    (void)fclose(file);
    struct input input = {text, bytes};
    struct scenario *second = bytes <= SCENARIO_FILE_BYTES_MAX ? open_input(&input, NULL) : NULL;
    if (bytes <= SCENARIO_FILE_BYTES_MAX &&
        (second == NULL || second->cells_count != first->cells_count ||
         second->runs_count != first->runs_count ||
         memcmp(second->cells, first->cells, first->cells_count * sizeof *first->cells) != 0)) {
        abort();
    }
    scenario_close(second);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    const struct scenario_options quick = {.quick = true};
    struct scenario *scenario = open_input(&input, NULL);
    if (scenario != NULL) {
        write_again(scenario);
    }
    scenario_close(scenario);
    scenario_close(open_input(&input, &quick));
    return 0;
}
