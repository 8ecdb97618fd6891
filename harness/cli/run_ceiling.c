/*
 * run_ceiling.c - what this machine's load client could do at most, measured before the runs of a
 * scenario that asks for it (run_command.h).
 */
#include <stdio.h>

#include "harness/cli/run_command.h"
#include "harness/load/ceiling.h"

void run_command_measure_ceiling(const struct run_command *command, const struct scenario *scenario,
                                 struct run_host *host)
{
    struct error error;
    struct load_ceiling_options options = {.connections_count = 0};
    struct load_ceiling ceiling;
    if (scenario->cells_count == 0 || scenario->general.mode == (uint32_t)SCENARIO_SIMULATE ||
        scenario->cells[0].client.ceiling != SCENARIO_CEILING_MEASURE) {
        return;
    }
    if (load_ceiling_measure(&options, &ceiling, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness %s: client ceiling not measured: %s\n", command->name,
                      error.text);
        return;
    }
    host->client_ceiling_rps = ceiling.requests_per_s;
    host->client_ceiling_tok_per_s = ceiling.tokens_per_s;
}
