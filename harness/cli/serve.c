/*
 * serve.c - `harness serve`: starts one serving system and leaves it up until ^C, for curl, for
 * other clients, and for a look at its threads. The system is the first cell of a scenario, or the
 * default one of serving.c. With --data-parallel-size-local it is the part of one machine: the head
 * that others join (node.c), or with hybrid balancing one of several that serve.
 */
#include "harness/cli/serving.h"
#include "harness/run/address.h"

#include <string.h>

enum {
    OPTION_PORT = SERVING_OPTION_OWN,
    OPTION_HOST,
    OPTION_API_SERVERS,
    OPTION_ADDRESS,
    OPTION_RPC_PORT,
    OPTION_HYBRID,
    DEFAULT_PORT = 8000,
};

static const char help_text[] =
    "  --port N, --host ADDRESS      where to listen (default 127.0.0.1:8000; port 0: any)\n"
    "  --api-server-count A          as in vLLM; likewise\n"
    "  --data-parallel-size D\n"
    "  --tensor-parallel-size T\n"
    "  --record DIR                  every process writes its calls there: harness replay DIR\n"
    "several machines, as in vLLM:\n"
    "  --data-parallel-size-local L  engine cores here; the others join with harness node\n"
    "  --data-parallel-address IP, --data-parallel-rpc-port N\n"
    "                                of the head: where others join (default 127.0.0.1:29550)\n"
    "  --data-parallel-hybrid-lb     each machine serves its own engine cores\n"
    "  --data-parallel-start-rank S  first rank here; not the head unless 0 (implies hybrid)\n"
    "a scenario:\n" CLI_SCENARIO_HELP "  With a scenario FILE the first of its cells is served.\n"
    "\nhead of two machines, without and with hybrid balancing:\n"
    "  harness serve --host 0.0.0.0 --data-parallel-size 4 --data-parallel-size-local 2 \\\n"
    "    --data-parallel-address 10.0.0.1\n"
    "  harness serve --host 0.0.0.0 --data-parallel-size 4 --data-parallel-size-local 2 \\\n"
    "    --data-parallel-address 10.0.0.1 --data-parallel-hybrid-lb\n"
    "and on the second one:\n"
    "  harness node --join 10.0.0.1 --data-parallel-size 4 --data-parallel-size-local 2 \\\n"
    "    --data-parallel-start-rank 2\n"
    "  harness serve --host 0.0.0.0 --data-parallel-size 4 --data-parallel-size-local 2 \\\n"
    "    --data-parallel-address 10.0.0.1 --data-parallel-hybrid-lb --data-parallel-start-rank 2\n";

static bool take_own(struct serving *s, int option, const char *name, const char *argument)
{
    int32_t number = 0;
    struct address address;
    switch (option) {
    case OPTION_PORT:
        return serving_number(s, name, argument, (struct serving_range){0, 65535}, &s->port);
    case OPTION_HOST:
        if (strchr(argument, ':') != NULL || !address_parse(argument, CLUSTER_RPC_PORT, &address)) {
            (void)cli_value_error(s->command, name, "an address of this machine without a port",
                                  argument);
            return false;
        }
        (void)snprintf(s->host, sizeof s->host, "%s", address.host);
        return true;
    case OPTION_API_SERVERS:
        return serving_number(s, name, argument,
                              (struct serving_range){1, TOPOLOGY_API_SERVERS_MAX}, &s->counts[0]);
    case OPTION_RPC_PORT:
        if (!serving_number(s, name, argument, (struct serving_range){1, 65535}, &number)) {
            return false;
        }
        s->cluster.rpc_port = (uint32_t)number;
        return true;
    case OPTION_ADDRESS:
        if (strchr(argument, ':') != NULL || !address_parse(argument, CLUSTER_RPC_PORT, &address)) {
            (void)cli_value_error(s->command, name, "an address without a port", argument);
            return false;
        }
        (void)snprintf(s->cluster.address, sizeof s->cluster.address, "%s", address.host);
        return true;
    case OPTION_HYBRID:
        s->cluster.hybrid = true;
        return true;
    default:
        return false;
    }
}

static int parse(struct serving *s, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        SERVING_OPTIONS,
        {"port", required_argument, NULL, OPTION_PORT},
        {"host", required_argument, NULL, OPTION_HOST},
        {"api-server-count", required_argument, NULL, OPTION_API_SERVERS},
        {"data-parallel-address", required_argument, NULL, OPTION_ADDRESS},
        {"data-parallel-rpc-port", required_argument, NULL, OPTION_RPC_PORT},
        {"data-parallel-hybrid-lb", no_argument, NULL, OPTION_HYBRID},
        {NULL, 0, NULL, 0},
    };
    const char *name = NULL;
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, &name)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "serve", help_text);
            *done = true;
            return EXIT_PASS;
        }
        if (option < OPTION_PORT ? !serving_option(s, option, name, optarg)
                                 : !take_own(s, option, name, optarg)) {
            return EXIT_USAGE;
        }
    }
    return serving_operand(s, argc, argv) ? EXIT_PASS : EXIT_USAGE;
}

int cli_serve(int argc, char **argv)
{
    struct serving serving = {
        .command = "serve",
        .cluster = {.size_local = CLUSTER_NOT_GIVEN,
                    .start_rank = CLUSTER_NOT_GIVEN,
                    .address = "127.0.0.1",
                    .rpc_port = CLUSTER_RPC_PORT},
        .port = DEFAULT_PORT,
    };
    bool done = false;
    int status = parse(&serving, argc, argv, &done);
    return status != EXIT_PASS || done ? status : serving_run(&serving);
}
