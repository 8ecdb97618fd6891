/*
 * scenario_options.c - the options of every command that reads a scenario, and the printing of its
 * mistakes (cli.h).
 */
#include "harness/cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_scenario_option(struct cli_scenario *scenario, int option, const char *argument)
{
    struct scenario_options *o = &scenario->options;
    switch (option) {
    case CLI_OPTION_SET:
        if (o->sets_count < CLI_SETS_MAX) {
            scenario->sets[o->sets_count] = argument;
        }
        o->sets_count++; /* too many are refused by cli_scenario_operand() */
        return true;
    case CLI_OPTION_ONLY:
        scenario->only_bytes += (size_t)snprintf(
            scenario->only + scenario->only_bytes, sizeof scenario->only - scenario->only_bytes,
            "%s%s", scenario->only_bytes > 0 ? "," : "", argument);
        if (scenario->only_bytes >= sizeof scenario->only) {
            (void)fprintf(stderr, "harness: --only is too long\n");
            return false;
        }
        o->only = scenario->only;
        return true;
    case CLI_OPTION_QUICK:
        o->quick = true;
        return true;
    default:
        return false;
    }
}

bool cli_scenario_operand(struct cli_scenario *scenario, const char *command, int argc, char **argv)
{
    if (scenario->options.sets_count > CLI_SETS_MAX) {
        (void)cli_usage_error(command, "too many --set options");
        return false;
    }
    if (argc - optind != 1) {
        (void)cli_usage_error(command, "expected one scenario file");
        return false;
    }
    scenario->path = argv[optind];
    return true;
}

struct scenario *cli_scenario_open(const struct cli_scenario *scenario)
{
    struct scenario_environment environment = scenario_environment_system();
    return cli_scenario_open_in(scenario, &environment);
}

struct scenario *cli_scenario_open_in(const struct cli_scenario *scenario,
                                      const struct scenario_environment *environment)
{
    struct scenario_options options = scenario->options;
    struct scenario *out = NULL;
    struct scenario_problems *problems = calloc(1, sizeof *problems);
    if (problems == NULL) {
        (void)fprintf(stderr, "harness: out of memory\n");
        return NULL;
    }
    options.sets = scenario->sets;
    if (scenario_open(scenario->path, environment, &options, &out, problems) != STATUS_OK) {
        for (uint32_t i = 0; i < problems->count; i++) {
            (void)fprintf(stderr, "%s\n", problems->text[i]);
        }
        if (problems->dropped_count > 0) {
            (void)fprintf(stderr, "... and %u more\n", problems->dropped_count);
        }
        out = NULL;
    }
    free(problems);
    return out;
}

bool cli_scenario_traces(const struct scenario *scenario)
{
    const char *missing = "";
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        const char *trace = scenario->cells[i].workload.trace;
        if (trace[0] != '\0' && strcmp(trace, missing) != 0 && access(trace, R_OK) != 0) {
            (void)fprintf(stderr,
                          "workload.trace: %s: %s (traces are not shipped; name the file with "
                          "--set workload.trace=FILE)\n",
                          trace, strerror(errno)); // NOLINT(concurrency-mt-unsafe): one thread
            missing = trace;
        }
    }
    return missing[0] == '\0';
}
