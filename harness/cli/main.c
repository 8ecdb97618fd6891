/*
 * main.c - the program `harness`: finds the command and runs it. The table below is all that a new
 * command needs here.
 */
#include "harness/cli/cli.h"

#include <stddef.h>
#include <string.h>

#include "harness/scenario/nearest.h"

#ifndef HARNESS_VERSION
#define HARNESS_VERSION "0.1.0"
#endif

static const struct cli_command commands[] = {
    {"run", "FILE [options]", "measure every cell of a scenario; write CSV, figures and a verdict",
     "harness run scenarios/saturation.ini --quick", cli_run},
    {"sim", "FILE [options]",
     "run a scenario in virtual time: the same rows, figures and verdict without its processes; "
     "with --check: search the protocol for faults",
     "harness sim scenarios/saturation.ini -j 2", cli_sim},
    {"serve", "[FILE] [options]", "start a serving system and leave it up until ^C",
     "harness serve --api-server-count 2 --data-parallel-size 4", cli_serve},
    {"node", "--join HOST [options]", "engine cores here for the API servers of another machine",
     "harness node --join 10.0.0.1:29550 --data-parallel-size 4 --data-parallel-size-local 2 "
     "--data-parallel-start-rank 2",
     cli_node},
    {"load", "URL ... [options]", "drive any OpenAI-compatible server and print what it gave",
     "harness load http://127.0.0.1:8000 --rate 20 --measure 30", cli_load},
    {"null", "[options]", "measure what the load client itself can do here", "harness null",
     cli_null},
    {"mock", "[options]", "serve streams on a known schedule, to judge load clients",
     "harness mock --ttft 50ms --itl 10ms --stamps stamps.csv", cli_mock},
    {"check", "FILE [options]", "say everything that is wrong with a scenario",
     "harness check scenarios/saturation.ini", cli_check},
    {"expand", "FILE [options]", "print every value with its origin, or the cells of the sweep",
     "harness expand scenarios/saturation.ini --quick --cells", cli_expand},
    {"keys", "[SECTION[.KEY]]", "list the sections and keys of scenarios",
     "harness keys load.users", cli_keys},
    {"metrics", "[NAME]", "explain a metric: definition, formula, unit, and other tools' formulas",
     "harness metrics tpot", cli_metrics},
    {"plan", "FILE [options]", "how many systems a demand takes and what they cost, as predicted",
     "harness plan scenarios/rates.ini --set 'report.demand=120/s peak' "
     "--set 'report.price=2.50 per gpu-hour'",
     cli_plan},
    {"plot", "DIR [options]", "draw the figures of a result folder again",
     "harness plot results/x --format png", cli_plot},
    {"report", "DIR [options]",
     "write the report of a result folder again, with another price, demand or format",
     "harness report results/x --set 'report.price=2.50 per gpu-hour' "
     "--set 'report.demand=120/s peak'",
     cli_report},
    {"validate", "FILE [options]",
     "hold the simulator against real runs: of a scenario, or of requests somebody else measured",
     "harness validate scenarios/validation.ini --quick", cli_validate},
    {"calibrate", "[options]",
     "measure what the work of this code costs on this machine, for simulations of it",
     "harness calibrate -o calibration.ini", cli_calibrate},
    {"compare", "BASE CHANGED [options]",
     "is the changed version slower, as far as two sets of finished runs can tell",
     "harness compare results/base results/changed", cli_compare},
    {"replay", "FILE|DIR ... [options]",
     "the recorded calls of real processes again: do they answer the same, byte for byte",
     "harness replay results/x/records/r0000", cli_replay},
    {"doctor", "[FILE] [options]", "what on this host would spoil a measurement, and what mends it",
     "harness doctor scenarios/saturation.ini", cli_doctor},
};

enum {
    COMMANDS_COUNT = sizeof commands / sizeof commands[0]
};

static const struct cli_command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

int cli_worse(int a, int b)
{
    static const int order[] = {EXIT_INTERRUPTED, EXIT_TERMINATED,  EXIT_RESULTS, EXIT_USAGE,
                                EXIT_SERVER,      EXIT_REQUESTS,    EXIT_INVALID, EXIT_REGRESSION,
                                EXIT_MISSED,      EXIT_INCONCLUSIVE};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (a == order[i] || b == order[i]) {
            return order[i];
        }
    }
    return EXIT_PASS;
}

void cli_help(FILE *out, const char *command, const char *options)
{
    const struct cli_command *c = find(command);
    if (c == NULL) {
        return;
    }
    (void)fprintf(out, "usage: harness %s %s\n%s\n", c->name, c->arguments, c->summary);
    if (options != NULL) {
        (void)fprintf(out, "\noptions:\n%s", options);
    }
    (void)fprintf(out, "\nexample:\n  %s\n", c->example);
}

int cli_usage_error(const char *command, const char *message)
{
    (void)fprintf(stderr, "harness %s: %s\ntry: harness %s --help\n", command, message, command);
    return EXIT_USAGE;
}

static void help(FILE *out)
{
    (void)fprintf(out, "usage: harness COMMAND [arguments]\n"
                       "Measures and simulates data-parallel LLM serving.\n\ncommands:\n");
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        (void)fprintf(out, "  %-10s %-22s %s\n", commands[i].name, commands[i].arguments,
                      commands[i].summary);
    }
    (void)fprintf(out, "\nexamples:\n");
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        (void)fprintf(out, "  %s\n", commands[i].example);
    }
    (void)fprintf(out, "\nharness COMMAND --help explains a command, harness --version prints the "
                       "version.\n"
                       "exit statuses: 0 pass, 1 regression, 2 usage or scenario error, "
                       "3 inconclusive, 4 limit missed,\n"
                       "5 measurement invalid, 6 server failed, 7 too many failed requests, "
                       "8 results not written, 130/143 interrupted\n");
}

static int unknown(const char *name)
{
    struct nearest nearest = {.word = name};
    char hint[128];
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        nearest_offer(&nearest, commands[i].name);
    }
    (void)fprintf(stderr, "harness: unknown command '%.60s'%s\ntry: harness --help\n", name,
                  nearest_hint(&nearest, hint, sizeof hint));
    return EXIT_USAGE;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "__client") == 0) { /* the load client's process, started by `run` */
        return cli_client(argc - 1, argv + 1);
    }
    const struct cli_command *command = find(argv[1]);
    if (command != NULL) {
        return command->run(argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("harness %s\n", HARNESS_VERSION);
        return EXIT_PASS;
    }
    if (strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0 &&
        strcmp(argv[1], "help") != 0) {
        return unknown(argv[1]);
    }
    help(stdout);
    return EXIT_PASS;
}

int main(int argc, char **argv)
{
    int status = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        (void)fprintf(stderr, "harness: cannot write to standard output\n");
        return cli_worse(status, EXIT_RESULTS);
    }
    return status;
}
