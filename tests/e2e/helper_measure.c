/*
 * helper_measure.c - how a test program measures runs: scenarios from memory, and itself as the
 * load client. Driven by the tests' main() and their cases. Must not judge a result.
 */
#include "helper_measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "harness/load/client.h"
#include "helper_system.h"

enum {
    CLIENT_FD = 3
};

const struct run_host e2e_host = {.client_ceiling_rps = STATS_UNKNOWN,
                                  .client_ceiling_tok_per_s = STATS_UNKNOWN};

void e2e_client(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || strcmp(argv[1], "__client") != 0) {
        return;
    }
    struct error error;
    struct load_shared shared;
    (void)pthread_setname_np(pthread_self(), "load_client");
    if (load_shared_open(CLIENT_FD, &shared, &error) != STATUS_OK) {
        exit(EXIT_FAILURE); // NOLINT(concurrency-mt-unsafe): before any thread
    }
    enum status status = load_run(&shared.header->options, &shared, &error);
    load_shared_close(&shared);
    exit(status == STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE); // NOLINT(concurrency-mt-unsafe)
}

static const char *text_of_scenario;

static enum status load(void *ctx, const char *path, char *buffer, size_t cap, size_t *bytes,
                        struct error *error)
{
    (void)ctx;
    *bytes = strlen(text_of_scenario);
    if (strcmp(path, "e2e") != 0 || *bytes > cap) {
        return error_set(error, STATUS_NOT_FOUND, "no such file");
    }
    memcpy(buffer, text_of_scenario, *bytes);
    return STATUS_OK;
}

struct scenario *e2e_scenario(const char *text)
{
    static struct scenario_problems problems;
    struct scenario *scenario = NULL;
    struct scenario_environment environment = scenario_environment_system();
    environment.load = load;
    text_of_scenario = text;
    if (scenario_open("e2e", &environment, NULL, &scenario, &problems) != STATUS_OK) {
        fail_msg("%s", problems.count > 0 ? problems.text[0] : "?");
    }
    return scenario;
}

void e2e_measure(const struct measure_options *options, struct run_result *out)
{
    measure_run(options, out);
    e2e_assert_no_children();
}
