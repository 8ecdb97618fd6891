/*
 * check.c - `harness check FILE`: is the scenario right? Prints all that is wrong, or one line that
 * sums it up.
 */
#include "harness/cli/cli.h"

int cli_check(int argc, char **argv)
{
    static const struct option options[] = {CLI_SCENARIO_OPTIONS, {NULL, 0, NULL, 0}};
    struct cli_scenario arguments = {.path = NULL};
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "check", CLI_SCENARIO_HELP);
            return EXIT_PASS;
        }
        if (!cli_scenario_option(&arguments, option, optarg)) {
            return EXIT_USAGE;
        }
    }
    if (!cli_scenario_operand(&arguments, "check", argc, argv)) {
        return EXIT_USAGE;
    }
    struct scenario *scenario = cli_scenario_open(&arguments);
    if (scenario == NULL) {
        return EXIT_USAGE;
    }
    if (!cli_scenario_traces(scenario)) {
        scenario_close(scenario);
        return EXIT_USAGE;
    }
    (void)printf("%s: ok, %u cell%s, %u run%s\n", arguments.path, scenario->cells_count,
                 scenario->cells_count == 1 ? "" : "s", scenario->runs_count,
                 scenario->runs_count == 1 ? "" : "s");
    scenario_close(scenario);
    return EXIT_PASS;
}
