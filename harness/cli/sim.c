/*
 * sim.c - `harness sim FILE`: `harness run` of a scenario in virtual time, whatever its mode says;
 * `harness sim --check`: the fault search of sim_check.c.
 */
#include <string.h>

#include "harness/cli/cli.h"

int cli_sim(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--check") == 0) {
        return cli_sim_check(argc, argv);
    }
    return cli_run_as(argc, argv, "scenario.mode=simulate");
}
