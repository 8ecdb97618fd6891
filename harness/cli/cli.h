/*
 * cli.h - the commands of `harness`: their table, exit statuses and shared options.
 *
 * One command is one file with `int cli_<name>(int argc, char **argv)`: argv[0] is the command's
 * name, the return value an enum exit_status. Only this room prints to the terminal and ends the
 * process.
 */
#ifndef HARNESS_CLI_CLI_H
#define HARNESS_CLI_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "harness/scenario/scenario.h"

/* When several apply, the one that stands first in 8, 2, 6, 7, 5, 1, 4, 3 is returned; an interrupt
 * wins over all. */
enum exit_status {
    EXIT_PASS = 0,
    EXIT_REGRESSION = 1,
    EXIT_USAGE = 2, /* usage or scenario error */
    EXIT_INCONCLUSIVE = 3,
    EXIT_MISSED = 4,   /* an SLO or a threshold */
    EXIT_INVALID = 5,  /* the measurement cannot be used: client limited, lag, no steady state */
    EXIT_SERVER = 6,   /* did not start, died, or made no progress */
    EXIT_REQUESTS = 7, /* more request failures than allowed */
    EXIT_RESULTS = 8,  /* results could not be written */
    EXIT_INTERRUPTED = 130, /* SIGINT; partial results are kept */
    EXIT_TERMINATED = 143,  /* SIGTERM; partial results are kept */
};

/* Of two statuses the one that counts. */
int cli_worse(int a, int b);

struct cli_command {
    const char *name;
    const char *arguments; /* "FILE [options]" */
    const char *summary;
    const char *example;
    int (*run)(int argc, char **argv);
};

int cli_check(int argc, char **argv);
int cli_expand(int argc, char **argv);
int cli_keys(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_compare(int argc, char **argv);
int cli_plan(int argc, char **argv);
int cli_plot(int argc, char **argv);
int cli_report(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_sim(int argc, char **argv);
int cli_sim_check(int argc, char **argv); /* of `sim --check` */
int cli_node(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_load(int argc, char **argv);
int cli_null(int argc, char **argv);
int cli_mock(int argc, char **argv);
int cli_metrics(int argc, char **argv);
int cli_validate(int argc, char **argv);
int cli_replay(int argc, char **argv);
int cli_calibrate(int argc, char **argv);
int cli_client(int argc, char **argv);

/* cli_run() with a `--set` that wins over all others; NULL: none. argv[0] names the command. */
int cli_run_as(int argc, char **argv, const char *last_set);

/* Prints usage, summary and example of a command. `options` (may be NULL) are lines that explain
 * its options. */
void cli_help(FILE *out, const char *command, const char *options);
/* "harness NAME: MESSAGE" and where to find help, on stderr. Returns EXIT_USAGE. */
int cli_usage_error(const char *command, const char *message);
/* The next option as getopt_long() gives it, -1 at the end. '?' after a message about one that is
 * unknown or lacks its value. `name` (may be NULL) is set to its long name. */
int cli_option(int argc, char **argv, const char *shorts, const struct option *options,
               const char **name);
/* "--NAME wants WANTED, got 'GOT'". Returns EXIT_USAGE. */
int cli_value_error(const char *command, const char *name, const char *wanted, const char *got);

/* A name of a GPU or a model shape; NULL past the end. */
const char *cli_gpu_at(uint32_t index);
const char *cli_model_at(uint32_t index);
/* Whether name_at() has it; otherwise a message that names the nearest and all. */
bool cli_name_is_known(const char *command, const char *option, const char *name,
                       const char *(*name_at)(uint32_t index));

/* The address of this machine from which `host` (IPv4) is reached; false if there is no route. */
bool cli_address_towards(const char *host, char *out, size_t cap);

/* ---- options of every command that reads a scenario ---- */

enum {
    CLI_SETS_MAX = 64
};

struct cli_scenario {
    const char *path;
    const char *sets[CLI_SETS_MAX];
    char only[512]; /* all --only, as one */
    size_t only_bytes;
    struct scenario_options options;
};

/* Values of getopt_long() for the options below; a command's own values start at CLI_OPTION_OWN. */
enum {
    CLI_OPTION_SET = 256,
    CLI_OPTION_ONLY,
    CLI_OPTION_QUICK,
    CLI_OPTION_OWN
};

/* clang-format off */
#define CLI_SCENARIO_OPTIONS                             \
    {"set", required_argument, NULL, CLI_OPTION_SET},    \
    {"only", required_argument, NULL, CLI_OPTION_ONLY},  \
    {"quick", no_argument, NULL, CLI_OPTION_QUICK},      \
    {"help", no_argument, NULL, 'h'}

#define CLI_SCENARIO_HELP                                                          \
    "  --set SECTION.KEY=VALUE       override a value; repeatable. SECTION.NAME.KEY\n" \
    "                                for one of several sections\n"                    \
    "  --only AXIS=VALUE[,...]       only these cells; one axis twice: either value\n" \
    "  --quick                       the scenario's [quick] version\n"
/* clang-format on */

/* Takes one option of CLI_SCENARIO_OPTIONS. False if it is none of them. */
bool cli_scenario_option(struct cli_scenario *scenario, int option, const char *argument);
/* Takes the one operand, the scenario file; false (and a message) if it is missing or not alone. */
bool cli_scenario_operand(struct cli_scenario *scenario, const char *command, int argc,
                          char **argv);
/* Opens it. NULL after printing everything that is wrong to stderr. */
struct scenario *cli_scenario_open(const struct cli_scenario *scenario);
struct scenario *cli_scenario_open_in(const struct cli_scenario *scenario,
                                      const struct scenario_environment *environment);
/* For each cell the command that starts its server, as `harness run` does. */
void cli_showcmd(const struct cli_scenario *arguments, const struct scenario *scenario, FILE *out);
/* Says of each calibration that it simulates with in what its machine differs from this one. False:
 * one does, and that is not allowed. */
bool cli_calibrations_fit(const char *command, const struct scenario *scenario, bool strict);
/* Whether the traces that it replays can be read; a message for each one that cannot. */
bool cli_scenario_traces(const struct scenario *scenario);

#endif
