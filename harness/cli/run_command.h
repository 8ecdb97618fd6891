/*
 * run_command.h - what the command line of `harness run`, `harness sim` and `harness validate
 * FILE.ini` asks for.
 */
#ifndef HARNESS_CLI_RUN_COMMAND_H
#define HARNESS_CLI_RUN_COMMAND_H

#include "harness/cli/cli.h"
#include "harness/cli/place.h"
#include "harness/report/answer.h"
#include "harness/report/progress.h"

struct run_command {
    const char *name; /* "run", "sim", "validate" */
    bool validates;   /* judges the simulation, and tells of nothing else */
    struct cli_scenario arguments;
    uint32_t jobs_count; /* simulated runs at once */
    char folder[PLACE_PATH_BYTES];
    bool dry_run;
    bool resume;
    bool confirm;
    bool showcmd;
    bool strict;           /* no calibrations of other machines */
    uint32_t compat_tools; /* bits of enum compat_tool */
    enum progress_mode progress_mode;
    enum answer_format format; /* of what stdout gets at the end */
    char command_line[1024];
};

/* The report of the session in `command->folder` again, from its records: no run is made. */
int run_command_report(const struct run_command *command, struct scenario *scenario,
                       const struct run_host *host);

/* What the client can do here, if the scenario asks for it: a point near it says more about the
 * client. */
void run_command_measure_ceiling(const struct run_command *command, const struct scenario *scenario,
                                 struct run_host *host);

/* `c->name` is set. EXIT_PASS: go on, unless `done`. */
int run_command_parse(struct run_command *c, int argc, char **argv, bool *done);

#endif
