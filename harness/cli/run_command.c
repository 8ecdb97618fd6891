/*
 * run_command.c - the arguments of `harness run` and `harness sim` (run_command.h).
 */
#include "harness/cli/run_command.h"

#include <stdlib.h>
#include <string.h>

#include "harness/analysis/compat.h"
#include "harness/run/simulate_pool.h"

enum {
    OPTION_OUTPUT = CLI_OPTION_OWN,
    OPTION_DRY_RUN,
    OPTION_RESUME,
    OPTION_CONFIRM,
    OPTION_PROGRESS,
    OPTION_SHOWCMD,
    OPTION_COMPAT,
    OPTION_FORMAT,
    OPTION_STRICT,
};

static const char help_text[] = CLI_SCENARIO_HELP
    "  -o DIR                        result folder (default: results/NAME-TIME)\n"
    "  --resume DIR                  make the runs that are missing in a result folder\n"
    "  -j N                          simulate N runs at once (default 1); measured runs are made\n"
    "                                one by one\n"
    "  --confirm                     after the runs, run the next configurations they predict\n"
    "  --dry-run                     print the cells, their order and the expected time\n"
    "  --showcmd                     print the command that starts each cell's server\n"
    "  --compat TOOL[,TOOL]          also columns as vllm, guidellm, aiperf, mlperf or sglang\n"
    "                                would print them\n"
    "  --format text|csv|json        what stdout gets at the end: tables, a row a cell (a search:\n"
    "                                a row a cell of knee.csv), or one JSON object\n"
    "  --strict                      refuse a calibration (simulation.costs) of another machine\n"
    "  --progress auto|none|line|table|jsonl   on stderr; jsonl: a JSON object a line\n";

static bool take_progress(struct run_command *c, const char *word)
{
    static const char *const words[] = {"auto", "none", "line", "table", "jsonl"};
    for (int i = 0; i < 5; i++) {
        if (strcmp(word, words[i]) == 0) {
            c->progress_mode = (enum progress_mode)i;
            return true;
        }
    }
    return false;
}

static void join_arguments(struct run_command *c, int argc, char **argv)
{
    size_t used = (size_t)snprintf(c->command_line, sizeof c->command_line, "harness");
    for (int i = 0; i < argc && used < sizeof c->command_line; i++) {
        used +=
            (size_t)snprintf(c->command_line + used, sizeof c->command_line - used, " %s", argv[i]);
    }
}

static bool take_jobs(struct run_command *c, const char *text)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    bool good = text[0] >= '1' && text[0] <= '9' && *end == '\0' && value <= SIMULATE_THREADS_MAX;
    c->jobs_count = good ? (uint32_t)value : 0;
    return good;
}

int run_command_parse(struct run_command *c, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        CLI_SCENARIO_OPTIONS,
        {"output", required_argument, NULL, 'o'},
        {"jobs", required_argument, NULL, 'j'},
        {"resume", required_argument, NULL, OPTION_RESUME},
        {"confirm", no_argument, NULL, OPTION_CONFIRM},
        {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
        {"progress", required_argument, NULL, OPTION_PROGRESS},
        {"showcmd", no_argument, NULL, OPTION_SHOWCMD},
        {"compat", required_argument, NULL, OPTION_COMPAT},
        {"format", required_argument, NULL, OPTION_FORMAT},
        {"strict", no_argument, NULL, OPTION_STRICT},
        {NULL, 0, NULL, 0},
    };
    int option = 0;
    join_arguments(c, argc, argv);
    while ((option = cli_option(argc, argv, "ho:j:", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, c->name, help_text);
            *done = true;
            return EXIT_PASS;
        }
        if (option == 'o' || option == OPTION_RESUME) {
            if (c->folder[0] != '\0') {
                return cli_usage_error(c->name, "one folder: -o DIR or --resume DIR");
            }
            (void)snprintf(c->folder, sizeof c->folder, "%s", optarg);
            c->resume = option == OPTION_RESUME;
        } else if (option == 'j') {
            if (!take_jobs(c, optarg)) {
                return cli_value_error(c->name, "jobs", "1 to 256", optarg);
            }
        } else if (option == OPTION_CONFIRM) {
            c->confirm = true;
        } else if (option == OPTION_DRY_RUN) {
            c->dry_run = true;
        } else if (option == OPTION_STRICT) {
            c->strict = true;
        } else if (option == OPTION_SHOWCMD) {
            c->showcmd = true;
        } else if (option == OPTION_COMPAT) {
            if (!compat_tools_of(optarg, &c->compat_tools)) {
                return cli_value_error(c->name, "compat",
                                       "vllm, guidellm, aiperf, mlperf or sglang", optarg);
            }
        } else if (option == OPTION_FORMAT) {
            if (!answer_format_of(optarg, &c->format)) {
                return cli_value_error(c->name, "format", "text, csv or json", optarg);
            }
        } else if (option == OPTION_PROGRESS) {
            if (!take_progress(c, optarg)) {
                return cli_value_error(c->name, "progress", "auto, none, line, table or jsonl",
                                       optarg);
            }
        } else if (!cli_scenario_option(&c->arguments, option, optarg)) {
            return EXIT_USAGE;
        }
    }
    return cli_scenario_operand(&c->arguments, c->name, argc, argv) ? EXIT_PASS : EXIT_USAGE;
}
