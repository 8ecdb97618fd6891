/*
 * option.c - getopt_long() for the commands, with mistakes told in the same words everywhere
 * (cli.h). Driven by each command's parse function; knows none of their options.
 */
#include <stdlib.h>
#include <string.h>

#include "harness/cli/cli.h"
#include "harness/scenario/nearest.h"
#include "sim/simulation.h"

static void tell(int got, const char *command, const char *word, const struct option *options)
{
    struct nearest nearest = {.word = word};
    char text[224];
    for (const struct option *o = options; o->name != NULL; o++) {
        nearest_offer(&nearest, o->name);
    }
    if (got == ':') {
        (void)snprintf(text, sizeof text, "%s%.60s needs a value", strlen(word) > 1 ? "--" : "-",
                       word);
    } else if (optopt == 0) {
        (void)snprintf(text, sizeof text, "unknown option --%.60s%s%s%s", word,
                       nearest.best != NULL ? ", did you mean --" : "",
                       nearest.best != NULL ? nearest.best : "", nearest.best != NULL ? "?" : "");
    } else if (optopt > 127) {
        (void)snprintf(text, sizeof text, "--%.60s takes no value", word);
    } else {
        (void)snprintf(text, sizeof text, "unknown option -%c", optopt);
    }
    (void)cli_usage_error(command, text);
}

int cli_option(int argc, char **argv, const char *shorts, const struct option *options,
               const char **name)
{
    int index = -1;
    char letters[16];
    (void)snprintf(letters, sizeof letters, ":%s", shorts);
    opterr = 0;
    int got = getopt_long(argc, argv, letters, options, &index); // NOLINT(concurrency-mt-unsafe)
    if (got == '?' || got == ':') {
        char word[64];
        const char *last = argv[optind - 1];
        (void)snprintf(word, sizeof word, "%s", last + strspn(last, "-"));
        word[strcspn(word, "=")] = '\0';
        tell(got, argv[0], word, options);
        return '?';
    }
    if (name != NULL) {
        *name = index >= 0 ? options[index].name : "";
    }
    return got;
}

int cli_value_error(const char *command, const char *name, const char *wanted, const char *got)
{
    char text[224];
    (void)snprintf(text, sizeof text, "--%s wants %s, got '%.60s'", name, wanted, got);
    return cli_usage_error(command, text);
}

const char *cli_gpu_at(uint32_t index)
{
    const struct gpu_shape *shape = gpu_shape_at(index);
    return shape != NULL ? shape->name : NULL;
}

const char *cli_model_at(uint32_t index)
{
    const struct model_shape *shape = model_shape_at(index);
    return shape != NULL ? shape->name : NULL;
}

bool cli_name_is_known(const char *command, const char *option, const char *name,
                       const char *(*name_at)(uint32_t index))
{
    struct nearest nearest = {.word = name};
    char hint[128];
    char all[300] = "";
    char text[600];
    for (uint32_t i = 0; name_at(i) != NULL; i++) {
        size_t used = strlen(all);
        if (strcmp(name_at(i), name) == 0) {
            return true;
        }
        nearest_offer(&nearest, name_at(i));
        (void)snprintf(all + used, sizeof all - used, "%s%s", i == 0 ? "" : ", ", name_at(i));
    }
    (void)snprintf(text, sizeof text, "--%s: unknown name '%.60s'%s (known: %s)", option, name,
                   nearest_hint(&nearest, hint, sizeof hint), all);
    (void)cli_usage_error(command, text);
    return false;
}
