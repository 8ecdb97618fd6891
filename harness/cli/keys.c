/*
 * keys.c - `harness keys [SECTION[.KEY]]`: what may stand in a scenario, from the table that also
 * reads it.
 */
#include "harness/cli/cli.h"

int cli_keys(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct error error = {.status = STATUS_OK};
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option != 'h') {
            return EXIT_USAGE;
        }
        cli_help(stdout, "keys", NULL);
        return EXIT_PASS;
    }
    if (argc - optind > 1) {
        return cli_usage_error("keys", "expected at most one section or section.key");
    }
    if (scenario_write_keys(optind < argc ? argv[optind] : NULL, stdout, &error) != STATUS_OK) {
        return cli_usage_error("keys", error.text);
    }
    return EXIT_PASS;
}
