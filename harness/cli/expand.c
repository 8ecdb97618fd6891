/*
 * expand.c - `harness expand FILE`: every value of a scenario with the place that set it; with
 * --cells the cells of its sweep.
 */
#include "harness/cli/cli.h"

enum {
    OPTION_CELLS = CLI_OPTION_OWN
};

int cli_expand(int argc, char **argv)
{
    static const struct option options[] = {
        CLI_SCENARIO_OPTIONS, {"cells", no_argument, NULL, OPTION_CELLS}, {NULL, 0, NULL, 0}};
    struct cli_scenario arguments = {.path = NULL};
    bool cells = false;
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "expand",
                     CLI_SCENARIO_HELP
                     "  --cells                       the cells and runs of the sweep\n");
            return EXIT_PASS;
        }
        if (option == OPTION_CELLS) {
            cells = true;
        } else if (!cli_scenario_option(&arguments, option, optarg)) {
            return EXIT_USAGE;
        }
    }
    if (!cli_scenario_operand(&arguments, "expand", argc, argv)) {
        return EXIT_USAGE;
    }
    struct scenario *scenario = cli_scenario_open(&arguments);
    if (scenario == NULL) {
        return EXIT_USAGE;
    }
    if (cells) {
        scenario_write_cells(scenario, stdout);
    } else {
        scenario_write(scenario, stdout);
    }
    scenario_close(scenario);
    return EXIT_PASS;
}
