/* client.c - `harness __client`: the load client's process, started by the harness with its shared
 * region as descriptor 3. */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "harness/cli/cli.h"
#include "harness/load/client.h"

enum {
    SHARED_FD = 3
};

int cli_client(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct error error;
    struct load_shared shared;
    (void)prctl(PR_SET_NAME, (unsigned long)(uintptr_t) "load_client", 0UL, 0UL, 0UL);
    (void)signal(SIGPIPE, SIG_IGN);
    if (load_shared_open(SHARED_FD, &shared, &error) != STATUS_OK) {
        (void)fprintf(stderr, "load client: %s\n", error.text);
        return EXIT_INVALID;
    }
    if (load_run(&shared.header->options, &shared, &error) == STATUS_OK) {
        return EXIT_PASS;
    }
    if (shared.header->error_text[0] == '\0') { /* else whoever started the client tells it */
        (void)fprintf(stderr, "load client: %s\n", error.text);
    }
    return EXIT_INVALID;
}
