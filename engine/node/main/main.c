/* main.c - harness-node: every process of the serving system, chosen by its first argument. Started
 * by the harness only. */
#include <stdio.h>
#include <string.h>

#include "engine/node/executor.h"
#include "engine/node/process.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} roles[] = {
    {"launcher", launcher_main},       {"api_server", api_server_main},
    {"coordinator", coordinator_main}, {"engine_core", engine_core_main},
    {"worker", worker_main},           {"device", device_times_main},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(argv[1], roles[i].name) == 0) {
            return roles[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(
        stderr,
        "harness-node is started by `harness run` and `harness serve`; it has no use by itself.\n");
    return 2;
}
