/*
 * plan.c - `harness plan FILE`: what the demand of a scenario takes and costs, by closed forms,
 * before anything is run. `harness run` plans with what it measured.
 */
#include "harness/cli/cli.h"

#include "harness/report/plan.h"

static const char help_text[] = CLI_SCENARIO_HELP
    "Nothing is started: what a system takes is its throughput with a backlog by closed forms, "
    "which\nkeeps no limit on latency. harness run plans with the rates it finds ([find]).\n";

int cli_plan(int argc, char **argv)
{
    static const struct option options[] = {CLI_SCENARIO_OPTIONS, {NULL, 0, NULL, 0}};
    struct cli_scenario arguments = {.path = NULL};
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "plan", help_text);
            return EXIT_PASS;
        }
        if (!cli_scenario_option(&arguments, option, optarg)) {
            return EXIT_USAGE;
        }
    }
    if (!cli_scenario_operand(&arguments, "plan", argc, argv)) {
        return EXIT_USAGE;
    }
    struct scenario *scenario = cli_scenario_open(&arguments);
    if (scenario == NULL) {
        return EXIT_USAGE;
    }
    int status = EXIT_PASS;
    if (scenario->report.demand.peak_per_s > 0) {
        struct plan p = plan_predicted(scenario);
        plan_print(&p, stdout);
        status = p.best != NULL ? EXIT_PASS : EXIT_INCONCLUSIVE;
        plan_free(&p);
    } else {
        status =
            cli_usage_error("plan", "[report] has no demand: --set 'report.demand=120/s peak'");
    }
    scenario_close(scenario);
    return status;
}
