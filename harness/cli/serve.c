/*
 * serve.c - `harness serve`: starts one serving system and leaves it up until ^C, for curl, for
 * other clients, and for a look at its threads. The system is the first cell of a scenario, or the
 * one described below.
 */
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "harness/cli/cli.h"
#include "harness/run/measure.h"
#include "harness/run/system.h"

enum {
    OPTION_PORT = CLI_OPTION_OWN,
    OPTION_HOST,
    OPTION_API_SERVERS,
    OPTION_DP,
    OPTION_TP
};

#define DEFAULT_NAME "(default)"
#define DEFAULT_PORT 8000

static const char default_scenario[] =
    "[scenario]\nname = serve\nschema = 1\n"
    "[server default]\ntopology = api_servers=1 dp=1 tp=1\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nhost_profile = native\nmax_model_len = 8192\n"
    "[workload none]\nprompt = 128tok\noutput = 128tok\n"
    "[load none]\nmode = closed\nusers = 1\nwarmup = 1s\nmeasure = 1s\n";

static const char help_text[] =
    "  --port N, --host ADDRESS      where to listen (default 127.0.0.1:8000; port 0: any)\n"
    "  --api-server-count A          as in vLLM; likewise\n"
    "  --data-parallel-size D\n"
    "  --tensor-parallel-size T\n" CLI_SCENARIO_HELP
    "  With a scenario FILE the first of its cells is served.\n";

static volatile sig_atomic_t signal_seen;

static void on_signal(int number)
{
    signal_seen = number;
}

static bool interrupted(void)
{
    return signal_seen != 0;
}

struct serve_command {
    struct cli_scenario arguments;
    long port;
    const char *host;
    long counts[3]; /* A, D, T; 0: as the scenario says */
};

static enum status load_default(void *ctx, const char *path, char *buffer, size_t cap,
                                size_t *bytes, struct error *error)
{
    (void)ctx;
    if (strcmp(path, DEFAULT_NAME) != 0 || sizeof default_scenario > cap) {
        return error_set(error, STATUS_NOT_FOUND, "no such file: %s", path);
    }
    *bytes = sizeof default_scenario - 1;
    memcpy(buffer, default_scenario, *bytes);
    return STATUS_OK;
}

static struct scenario *open_scenario(const struct serve_command *c)
{
    if (c->arguments.path != NULL) {
        return cli_scenario_open(&c->arguments);
    }
    struct scenario_environment environment = scenario_environment_system();
    struct scenario_options options = c->arguments.options;
    struct scenario_problems *problems = calloc(1, sizeof *problems);
    struct scenario *out = NULL;
    environment.load = load_default;
    options.sets = c->arguments.sets;
    if (problems != NULL &&
        scenario_open(DEFAULT_NAME, &environment, &options, &out, problems) != STATUS_OK) {
        for (uint32_t i = 0; i < problems->count; i++) {
            (void)fprintf(stderr, "%s\n", problems->text[i]);
        }
        out = NULL;
    }
    free(problems);
    return out;
}

static bool take_number(const char *text, long lo, long hi, long *out)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < lo || value > hi) {
        return false;
    }
    *out = value;
    return true;
}

static bool take_own(struct serve_command *c, int option, const char *argument)
{
    switch (option) {
    case OPTION_PORT:
        return take_number(argument, 0, 65535, &c->port);
    case OPTION_HOST:
        c->host = argument;
        return true;
    case OPTION_API_SERVERS:
        return take_number(argument, 1, TOPOLOGY_API_SERVERS_MAX, &c->counts[0]);
    case OPTION_DP:
        return take_number(argument, 1, TOPOLOGY_ENGINES_MAX, &c->counts[1]);
    case OPTION_TP:
        return take_number(argument, 1, TOPOLOGY_WORKERS_PER_ENGINE_MAX, &c->counts[2]);
    default:
        return false;
    }
}

static int parse(struct serve_command *c, int argc, char **argv, bool *done)
{
    static const struct option options[] = {
        CLI_SCENARIO_OPTIONS,
        {"port", required_argument, NULL, OPTION_PORT},
        {"host", required_argument, NULL, OPTION_HOST},
        {"api-server-count", required_argument, NULL, OPTION_API_SERVERS},
        {"data-parallel-size", required_argument, NULL, OPTION_DP},
        {"tensor-parallel-size", required_argument, NULL, OPTION_TP},
        {NULL, 0, NULL, 0},
    };
    int option = 0;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, "serve", help_text);
            *done = true;
            return EXIT_PASS;
        }
        bool own = option >= OPTION_PORT;
        if (own && !take_own(c, option, optarg)) {
            return cli_usage_error("serve", "a number is out of range");
        }
        if (!own && !cli_scenario_option(&c->arguments, option, optarg)) {
            return cli_usage_error("serve", "see the message above");
        }
    }
    if (argc - optind > 1) {
        return cli_usage_error("serve", "expected at most one scenario file");
    }
    c->arguments.path = argc > optind ? argv[optind] : NULL;
    return EXIT_PASS;
}

static struct topology choose_topology(const struct serve_command *c, const struct scenario *s)
{
    struct topology t = measure_topology(&s->cells[0], s->general.seed);
    (void)snprintf(t.listen_host, sizeof t.listen_host, "%s", c->host);
    t.listen_port = (uint32_t)c->port;
    t.api_servers_count = c->counts[0] > 0 ? (uint32_t)c->counts[0] : t.api_servers_count;
    t.engines_count = c->counts[1] > 0 ? (uint32_t)c->counts[1] : t.engines_count;
    t.tp = c->counts[2] > 0 ? (uint32_t)c->counts[2] : t.tp;
    return t;
}

static int serve(const struct serve_command *c, const struct scenario *s)
{
    struct system system;
    struct error error;
    struct system_options options = {
        .topology = choose_topology(c, s),
        .log_fd = -1,
        .start_timeout_ns = (int64_t)600 * 1000000000,
        .interrupted = interrupted,
    };
    if (system_start(&options, &system, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness serve: %s\n", error.text);
        return interrupted() ? EXIT_INTERRUPTED : EXIT_SERVER;
    }
    const struct topology *t = system.ledger.topology;
    (void)printf("serving %s on %s: http://%s:%u  (%u API server%s, %u engine core%s; expected: %u "
                 "processes, "
                 "%u launching thread%s; ^C ends it)\n",
                 t->model, t->gpu, t->listen_host, system.port, t->api_servers_count,
                 t->api_servers_count == 1 ? "" : "s", t->engines_count,
                 t->engines_count == 1 ? "" : "s", topology_processes(t),
                 topology_launching_threads(t), topology_launching_threads(t) == 1 ? "" : "s");
    (void)fflush(stdout);
    while (!interrupted() && !system_failed(&system)) {
        struct pollfd fd = {.fd = system.events_fd, .events = POLLIN};
        (void)poll(&fd, 1, 1000);
    }
    bool failed = system.failed;
    if (failed) {
        (void)fprintf(stderr, "harness serve: %s\n", system.reason);
    }
    system_stop(&system);
    system_free(&system);
    return failed ? EXIT_SERVER : EXIT_PASS;
}

int cli_serve(int argc, char **argv)
{
    struct serve_command command = {.port = DEFAULT_PORT, .host = "127.0.0.1"};
    bool done = false;
    int status = parse(&command, argc, argv, &done);
    if (status != EXIT_PASS || done) {
        return status;
    }
    struct scenario *scenario = open_scenario(&command);
    if (scenario == NULL) {
        return EXIT_USAGE;
    }
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    status = serve(&command, scenario);
    scenario_close(scenario);
    return status;
}
