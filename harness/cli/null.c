/*
 * null.c - `harness null`: what the load client can do on this machine at most, measured against a
 * server without a model.
 *
 * With --serve it only starts that server, for other load clients.
 */
#include <stdlib.h>

#include "harness/cli/cli.h"
#include "harness/load/ceiling.h"
#include "harness/load/listener.h"
#include "harness/load/null_server.h"

enum {
    OPTION_SERVE = CLI_OPTION_OWN,
    OPTION_PORT
};

static const char help_text[] = "  --serve             only serve: answers every POST at once with "
                                "as many tokens as it asks for\n"
                                "  --port N            with --serve: where (default 8000)\n";

static int serve(uint32_t port)
{
    struct error error;
    struct null_options options = {.port = port};
    int fd = -1;
    uint32_t actual = 0;
    if (listener_open(port, &fd, &actual, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness null: %s\n", error.text);
        return EXIT_SERVER;
    }
    (void)printf("null server: http://127.0.0.1:%u  (^C ends it)\n", actual);
    (void)fflush(stdout);
    if (null_serve(fd, &options, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness null: %s\n", error.text);
    }
    return EXIT_SERVER;
}

static int measure(void)
{
    struct error error;
    struct load_ceiling_options options = {.connections_count = 0};
    struct load_ceiling ceiling;
    if (load_ceiling_measure(&options, &ceiling, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness null: %s\n", error.text);
        return EXIT_INVALID;
    }
    (void)printf(
        "client ceiling on this machine: %.0f non-streamed requests/s, %.0f streamed tokens/s "
        "(client and null server share its cores)\n",
        ceiling.requests_per_s, ceiling.tokens_per_s);
    return EXIT_PASS;
}

int cli_null(int argc, char **argv)
{
    static const struct option options[] = {{"serve", no_argument, NULL, OPTION_SERVE},
                                            {"port", required_argument, NULL, OPTION_PORT},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    bool only_serve = false;
    bool port_given = false;
    unsigned long port = 8000;
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "null", help_text);
            return EXIT_PASS;
        }
        if (option == OPTION_SERVE) {
            only_serve = true;
        } else if (option == OPTION_PORT) {
            char *end = NULL;
            port = strtoul(optarg, &end, 10);
            if (end == optarg || *end != '\0' || port > 65535) {
                return cli_value_error("null", "port", "0 to 65535", optarg);
            }
            port_given = true;
        } else {
            return EXIT_USAGE;
        }
    }
    if (argc > optind || (port_given && !only_serve)) {
        return cli_usage_error("null",
                               argc > optind ? "expected no operands" : "--port needs --serve");
    }
    return only_serve ? serve((uint32_t)port) : measure();
}
