/*
 * report.c - `harness report DIR`: concludes from the records of a session again and writes
 * report.md, report.html, figures and what they are drawn from; no run is made.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/cli/cli.h"
#include "harness/cli/place.h"
#include "harness/cli/run_command.h"
#include "harness/run/record.h"

static const char help_text[] =
    "  --set report.KEY=VALUE        another price or demand, for cost and number of systems\n"
    "  --set plots.KEY=VALUE         another format of the figures; both are repeatable\n"
    "  --only AXIS=VALUE[,...]       if the session had it\n"
    "Needs DIR/runs, as this revision of the program wrote it. Rows, records and manifest.json\n"
    "stay as they are. A session that was cut short gets the report of what there is.\n";

/* The scenario file is what the session recorded. */
static enum status load_config(void *ctx, const char *path, char *buffer, size_t cap, size_t *bytes,
                               struct error *error)
{
    const char *config = ctx;
    *bytes = strlen(config);
    if (*bytes > cap) {
        return error_set(error, STATUS_FULL, "%s: too long", path);
    }
    memcpy(buffer, config, *bytes);
    return STATUS_OK;
}

static int write_again(const char *name, const char *folder, struct cli_scenario *arguments,
                       const struct record_about *about)
{
    char path[PLACE_PATH_BYTES + 16];
    struct run_command command = {
        .name = name, .validates = strcmp(name, "validate") == 0, .progress_mode = PROGRESS_NONE};
    struct scenario_environment environment = scenario_environment_system();
    environment.ctx = about->config;
    environment.load = load_config;
    environment.recorded = true;
    (void)snprintf(path, sizeof path, "%s/runs/session", folder);
    (void)snprintf(command.folder, sizeof command.folder, "%s", folder);
    arguments->path = path;
    struct scenario *scenario = cli_scenario_open_in(arguments, &environment);
    if (scenario == NULL) {
        return EXIT_USAGE;
    }
    int status = EXIT_USAGE;
    if (record_has_plan(about, scenario)) {
        status = run_command_report(&command, scenario, &about->host);
    } else {
        (void)fprintf(stderr,
                      "harness %s: %s: its cells were others; the command was: %s\n"
                      "try: the same --only\n",
                      name, folder, about->host.command);
    }
    scenario_close(scenario);
    return status;
}

/* Only what a report says of the runs can change, not what they were. */
static bool is_of_report(const char *set)
{
    return strncmp(set, "report.", 7) == 0 || strncmp(set, "plots.", 6) == 0;
}

/* Or one of a session that died before its first run. */
static bool is_result_folder(const char *folder)
{
    char path[PLACE_PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/manifest.json", folder);
    return access(path, F_OK) == 0;
}

int cli_report(int argc, char **argv)
{
    static const struct option options[] = {
        {"set", required_argument, NULL, CLI_OPTION_SET},
        {"only", required_argument, NULL, CLI_OPTION_ONLY},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct cli_scenario arguments = {.path = NULL};
    struct record_about about;
    struct error error;
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, argv[0], help_text);
            return EXIT_PASS;
        }
        if (option == CLI_OPTION_SET && !is_of_report(optarg)) {
            return cli_value_error(argv[0], "set", "report.KEY=VALUE or plots.KEY=VALUE", optarg);
        }
        if (!cli_scenario_option(&arguments, option, optarg)) {
            return EXIT_USAGE;
        }
    }
    if (optind + 1 != argc || strlen(argv[optind]) >= PLACE_PATH_BYTES) {
        return cli_usage_error(argv[0], "one result folder is needed");
    }
    if (arguments.options.sets_count > CLI_SETS_MAX) {
        return cli_usage_error(argv[0], "too many --set options");
    }
    if (record_about_read(argv[optind], place_revision(), &about, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness %s: %s\n", argv[0], error.text);
        if (!is_result_folder(argv[optind])) {
            (void)fprintf(stderr,
                          "try: a folder with the results of harness run, sim or validate\n");
        }
        return EXIT_USAGE;
    }
    int status = write_again(argv[0], argv[optind], &arguments, &about);
    free(about.config);
    return status;
}
