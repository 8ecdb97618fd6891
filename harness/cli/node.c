/*
 * node.c - `harness node`: engine cores on this machine for the API servers of another one, where
 * `harness serve` is the head (serve.c). It stays until ^C, or until the head is gone.
 */
#include "harness/cli/serving.h"
#include "harness/run/address.h"

enum {
    OPTION_JOIN = SERVING_OPTION_OWN,
};

static const char help_text[] =
    "  --join HOST[:PORT]            the head: its --data-parallel-address and "
    "--data-parallel-rpc-port\n"
    "                                (default port 29550)\n"
    "  --data-parallel-size D        engine cores of all machines, as the head says\n"
    "  --data-parallel-size-local L  engine cores here (default 1)\n"
    "  --data-parallel-start-rank S  the first of them\n"
    "  --tensor-parallel-size T      as the head says\n"
    "  --record DIR                  every process writes its calls there: harness replay "
    "DIR\n" CLI_SCENARIO_HELP
    "  With a scenario FILE its first cell says the rest; the head needs the same one.\n"
    "\nthe head, on 10.0.0.1:\n"
    "  harness serve --host 0.0.0.0 --data-parallel-size 4 --data-parallel-size-local 2 \\\n"
    "    --data-parallel-address 10.0.0.1\n";

static int parse(struct serving *s, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        SERVING_OPTIONS,
        {"join", required_argument, NULL, OPTION_JOIN},
        {NULL, 0, NULL, 0},
    };
    const char *name = NULL;
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, &name)) != -1) {
        struct address head;
        if (option == 'h') {
            cli_help(stdout, "node", help_text);
            *done = true;
            return EXIT_PASS;
        }
        if (option != OPTION_JOIN) {
            if (!serving_option(s, option, name, optarg)) {
                return EXIT_USAGE;
            }
        } else if (address_parse(optarg, CLUSTER_RPC_PORT, &head)) {
            (void)snprintf(s->cluster.address, sizeof s->cluster.address, "%s", head.host);
            s->cluster.rpc_port = head.port;
        } else {
            return cli_value_error("node", name, "a known HOST or HOST:PORT", optarg);
        }
    }
    if (s->cluster.address[0] == '\0') {
        return cli_usage_error("node", "--join is missing: the address of the head");
    }
    return serving_operand(s, argc, argv) ? EXIT_PASS : EXIT_USAGE;
}

int cli_node(int argc, char **argv)
{
    struct serving serving = {
        .command = "node",
        .cluster = {.size_local = 1, .start_rank = CLUSTER_NOT_GIVEN, .headless = true},
    };
    bool done = false;
    int status = parse(&serving, argc, argv, &done);
    return status != EXIT_PASS || done ? status : serving_run(&serving);
}
