/*
 * serving.h - what `harness serve` and `harness node` have in common: vLLM's flags, the scenario or
 * the default one, and a system that is left up until ^C or until it fails.
 */
#ifndef HARNESS_CLI_SERVING_H
#define HARNESS_CLI_SERVING_H

#include "harness/cli/cli.h"
#include "harness/run/cluster.h"
#include "harness/run/system.h"

/* Values of getopt_long(); a command's own values start at SERVING_OPTION_OWN. */
enum {
    SERVING_OPTION_DP = CLI_OPTION_OWN,
    SERVING_OPTION_DP_LOCAL,
    SERVING_OPTION_START_RANK,
    SERVING_OPTION_TP,
    SERVING_OPTION_RECORD,
    SERVING_OPTION_OWN
};

/* clang-format off */
#define SERVING_OPTIONS                                                                 \
    CLI_SCENARIO_OPTIONS,                                                               \
    {"data-parallel-size", required_argument, NULL, SERVING_OPTION_DP},                 \
    {"data-parallel-size-local", required_argument, NULL, SERVING_OPTION_DP_LOCAL},     \
    {"data-parallel-start-rank", required_argument, NULL, SERVING_OPTION_START_RANK},   \
    {"tensor-parallel-size", required_argument, NULL, SERVING_OPTION_TP},               \
    {"record", required_argument, NULL, SERVING_OPTION_RECORD}
/* clang-format on */

struct serving {
    const char *command; /* "serve" */
    struct cli_scenario arguments;
    struct cluster_options cluster;
    int32_t counts[3]; /* A here, D of all machines, T; 0: as the scenario says */
    int32_t port;
    char host[64];      /* "": not given */
    const char *record; /* folder for recordings; NULL: not given */
};

/* Takes one option of SERVING_OPTIONS; false and a message if it cannot be used. */
bool serving_option(struct serving *serving, int option, const char *name, const char *argument);

/* What a number on the command line may be. */
struct serving_range {
    int32_t lo;
    int32_t hi;
};

/* False and a message if it is no such number. */
bool serving_number(const struct serving *serving, const char *name, const char *text,
                    struct serving_range range, int32_t *out);
/* Takes at most one operand, the scenario file; false and a message if there are more. */
bool serving_operand(struct serving *serving, int argc, char **argv);
/* Starts it, says where it serves, and waits. Returns an enum exit_status. */
int serving_run(const struct serving *serving);

#endif
