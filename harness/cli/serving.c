/*
 * serving.c - owns a system in the foreground: flags to topology, start, what is said of it, ^C.
 * Driven by serve.c and node.c.
 */
#include "harness/cli/serving.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cli/place.h"
#include "harness/run/measure.h"
#include "harness/run/recording.h"

#define DEFAULT_NAME "(default)"

static const char default_scenario[] =
    "[scenario]\nname = serve\nschema = 1\n"
    "[server default]\ntopology = api_servers=1 dp=1 tp=1\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nhost_profile = native\nmax_model_len = 8192\n"
    "[workload none]\nprompt = 128tok\noutput = 128tok\n"
    "[load none]\nmode = closed\nusers = 1\nwarmup = 1s\nmeasure = 1s\n";

static volatile sig_atomic_t signal_seen;

static void on_signal(int number)
{
    signal_seen = number;
}

static bool interrupted(void)
{
    return signal_seen != 0;
}

/* ---- arguments ---- */

bool serving_number(const struct serving *s, const char *name, const char *text,
                    struct serving_range range, int32_t *out)
{
    char wanted[48];
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < range.lo || value > range.hi) {
        (void)snprintf(wanted, sizeof wanted, "a number from %d to %d", range.lo, range.hi);
        (void)cli_value_error(s->command, name, wanted, text);
        return false;
    }
    *out = (int32_t)value;
    return true;
}

static bool take(struct serving *s, int option, const char *name, const char *argument)
{
    switch (option) {
    case SERVING_OPTION_DP:
        return serving_number(s, name, argument, (struct serving_range){1, TOPOLOGY_ENGINES_MAX},
                              &s->counts[1]);
    case SERVING_OPTION_DP_LOCAL:
        return serving_number(s, name, argument, (struct serving_range){0, TOPOLOGY_ENGINES_MAX},
                              &s->cluster.size_local);
    case SERVING_OPTION_START_RANK:
        return serving_number(s, name, argument,
                              (struct serving_range){0, TOPOLOGY_ENGINES_MAX - 1},
                              &s->cluster.start_rank);
    case SERVING_OPTION_TP:
        return serving_number(s, name, argument,
                              (struct serving_range){1, TOPOLOGY_WORKERS_PER_ENGINE_MAX},
                              &s->counts[2]);
    case SERVING_OPTION_RECORD:
        s->record = argument;
        return true;
    default:
        return false;
    }
}

bool serving_option(struct serving *s, int option, const char *name, const char *argument)
{
    return option < SERVING_OPTION_DP ? cli_scenario_option(&s->arguments, option, argument)
                                      : take(s, option, name, argument);
}

bool serving_operand(struct serving *s, int argc, char **argv)
{
    if (argc - optind > 1) {
        (void)cli_usage_error(s->command, "expected at most one scenario file");
        return false;
    }
    s->arguments.path = argc > optind ? argv[optind] : NULL;
    return true;
}

/* ---- scenario ---- */

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

static struct scenario *open_scenario(const struct serving *s)
{
    if (s->arguments.path != NULL) {
        return cli_scenario_open(&s->arguments);
    }
    struct scenario_environment environment = scenario_environment_system();
    struct scenario_options options = s->arguments.options;
    struct scenario_problems *problems = calloc(1, sizeof *problems);
    struct scenario *out = NULL;
    environment.load = load_default;
    options.sets = s->arguments.sets;
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

static enum status choose_topology(const struct serving *s, const struct scenario *scenario,
                                   struct topology *t, uint32_t *which, struct error *error)
{
    uint32_t *const counts[] = {&t->api_servers_count, &t->engines_count, &t->tp};
    if (scenario->cells[0].foreign.kind != SCENARIO_SERVER_OWN) {
        return error_set(error, STATUS_INVALID,
                         "[server %s] is a server of others: its command is printed by harness run "
                         "FILE --showcmd",
                         scenario->cells[0].server);
    }
    *t = measure_topology(&scenario->cells[0], scenario->general.seed);
    for (int i = 0; i < 3; i++) {
        if (s->counts[i] > 0 && t->nodes_count > 0) {
            return error_set(error, STATUS_INVALID,
                             "the scenario has nodes of its own: its counts are set with --set "
                             "server.topology=...");
        }
        *counts[i] = s->counts[i] > 0 ? (uint32_t)s->counts[i] : *counts[i];
    }
    t->listen_port = (uint32_t)s->port;
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        t->nodes[i].listen_port = t->listen_port;
    }
    if (t->nodes_count == 0) {
        (void)snprintf(t->listen_host, sizeof t->listen_host, "%s",
                       s->host[0] != '\0' ? s->host : "127.0.0.1");
    }
    TRY(cluster_apply(&s->cluster, t, which, error));
    if (*which == SYSTEM_ONLY_JOINING &&
        !cli_address_towards(t->nodes[0].host, t->nodes[1].host, sizeof t->nodes[1].host)) {
        return error_set(error, STATUS_INVALID, "there is no route to %s", t->nodes[0].host);
    }
    return STATUS_OK;
}

/* ---- what is said ---- */

static const char *plural(uint32_t count)
{
    return count == 1 ? "" : "s";
}

static void say_waiting(const struct serving *s, const struct topology *t, uint32_t which)
{
    const struct topology_node *others = &t->nodes[1];
    if (which == SYSTEM_ONLY_JOINING) {
        (void)printf(
            "joining %s:%u with engine cores %u to %u of %u; waits up to 10 minutes for all "
            "of them  (^C ends it)\n",
            t->nodes[0].host, t->handshake_port, others->engines_first,
            others->engines_first + others->engines_count - 1, t->engines_count);
    } else if (which == SYSTEM_ONLY_HEAD && t->balancing == (uint32_t)BALANCING_HYBRID) {
        (void)printf("waiting at %s:%u for engine cores %u to %u, for example\n"
                     "  harness serve --data-parallel-hybrid-lb --data-parallel-address %s "
                     "--data-parallel-rpc-port %u --data-parallel-size %u "
                     "--data-parallel-size-local %u --data-parallel-start-rank %u\n",
                     t->nodes[0].host, t->handshake_port, others->engines_first,
                     t->engines_count - 1, t->nodes[0].host, t->handshake_port, t->engines_count,
                     t->nodes[0].engines_count, others->engines_first);
    } else if (which == SYSTEM_ONLY_HEAD) {
        (void)printf("waiting at %s:%u for engine cores %u to %u, for example\n"
                     "  harness node --join %s:%u --data-parallel-size %u "
                     "--data-parallel-size-local %u --data-parallel-start-rank %u%s%s\n",
                     t->nodes[0].host, t->handshake_port, others->engines_first,
                     t->engines_count - 1, t->nodes[0].host, t->handshake_port, t->engines_count,
                     others->engines_count, others->engines_first,
                     s->arguments.path != NULL ? " " : "",
                     s->arguments.path != NULL ? s->arguments.path : "");
    }
    (void)fflush(stdout);
}

static void say_joined(const struct topology *t)
{
    const struct topology_node *here = &t->nodes[1];
    (void)printf("joined %s:%u: engine cores %u to %u of %u serve %s on %s  (^C ends it)\n",
                 t->nodes[0].host, t->handshake_port, here->engines_first,
                 here->engines_first + here->engines_count - 1, t->engines_count, t->model, t->gpu);
}

static void say_serving(const struct system *system, uint32_t which)
{
    const struct topology *t = system->ledger.topology;
    (void)printf("serving %s on %s:", t->model, t->gpu);
    for (uint32_t i = 0; i < system->launchers_count; i++) {
        const struct system_launcher *l = &system->launchers[i];
        if (l->port > 0) {
            (void)printf(" http://%s:%u", l->host, l->port);
        }
    }
    if (which == SYSTEM_ALL_NODES) {
        uint32_t launching = topology_launching_threads(t);
        (void)printf("  (%u API server%s, %u engine core%s; expected: %u processes, %u launching "
                     "thread%s; ^C ends it)\n",
                     t->api_servers_count, plural(t->api_servers_count), t->engines_count,
                     plural(t->engines_count), topology_processes(t), launching, plural(launching));
    } else {
        const struct topology_node *here = &t->nodes[which == SYSTEM_ONLY_JOINING ? 1 : 0];
        (void)printf("  (%u API server%s, %u of %u engine cores here; ^C ends it)\n",
                     here->api_servers_count, plural(here->api_servers_count), here->engines_count,
                     t->engines_count);
    }
}

/* ---- life ---- */

static int serve(const struct serving *s, const struct scenario *scenario)
{
    struct system system;
    struct error error;
    struct system_options options = {
        .log_fd = -1,
        .start_timeout_ns = (int64_t)600 * 1000000000,
        .interrupted = interrupted,
    };
    if (choose_topology(s, scenario, &options.topology, &options.which, &error) != STATUS_OK) {
        return cli_usage_error(s->command, error.text);
    }
    if (options.topology.record != 0 && s->record == NULL) {
        return cli_usage_error(s->command,
                               "the scenario has record = yes: --record DIR is missing");
    }
    if (s->record != NULL &&
        recording_begin(&options.topology, s->record, place_revision(), &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness %s: %s\n", s->command, error.text);
        return EXIT_RESULTS;
    }
    say_waiting(s, &options.topology, options.which);
    if (system_start(&options, &system, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness %s: %s\n", s->command, error.text);
        return interrupted() ? EXIT_INTERRUPTED : EXIT_SERVER;
    }
    if (options.which == SYSTEM_ONLY_JOINING && system.port == 0) {
        say_joined(system.ledger.topology);
    } else {
        say_serving(&system, options.which);
    }
    (void)fflush(stdout);
    while (!interrupted() && !system_failed(&system)) {
        system_wait(&system, 1000);
    }
    bool failed = system.failed;
    if (failed) {
        (void)fprintf(stderr, "harness %s: %s\n", s->command, system.reason);
    }
    system_stop(&system);
    bool unrecorded = system.unrecorded[0] != '\0';
    if (unrecorded) {
        (void)fprintf(stderr, "harness %s: %s\n", s->command, system.unrecorded);
    }
    system_free(&system);
    return unrecorded ? EXIT_RESULTS : failed ? EXIT_SERVER : EXIT_PASS;
}

int serving_run(const struct serving *serving)
{
    struct scenario *scenario = open_scenario(serving);
    if (scenario == NULL) {
        return EXIT_USAGE;
    }
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int status = serve(serving, scenario);
    scenario_close(scenario);
    return status;
}
