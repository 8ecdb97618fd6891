/*
 * server.h - a server of others during a run: one that runs already, or a command that is started
 * for the run, awaited, watched and ended with all that it started.
 *
 *     TRY(server_start(&options, &server, error));  // it answers; its model and version are known
 *     ... http at server.target ...
 *     if (server_failed(&server)) server.reason says how it ended
 *     server_stop(&server);                         // one that runs already is left alone
 */
#ifndef HARNESS_RUN_SERVER_H
#define HARNESS_RUN_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "engine/base/status.h"
#include "harness/load/options.h"
#include "harness/scenario/scenario.h"

struct server_options {
    const struct scenario_foreign *foreign;
    const char *name; /* of its section */
    int log_fd;       /* what it says; -1: as the harness's */
    /* Asked while it starts; true gives up. May be NULL. */
    bool (*interrupted)(void);
    /* Told while it starts, ten times a second. May be NULL. */
    void (*waiting)(void *ctx, double waited_s, double timeout_s);
    void *ctx;
};

struct server {
    struct load_target target;
    char model[sizeof((struct load_options *)0)->model];
    char revision[48]; /* what it says at /version; "": nothing */
    char name[SCENARIO_NAME_BYTES];
    pid_t pid; /* of the process group; 0: it was not started here */
    bool running;
    bool failed;
    char reason[512];
};

/* DIED or TIMEOUT with how it ended or where nobody answers; INVALID, NOT_FOUND: its host or its
 * model. Nothing is left behind on failure. */
MUST_CHECK enum status server_start(const struct server_options *options, struct server *out,
                                    struct error *error);
/* Does not block. */
bool server_failed(struct server *s);
/* SIGTERM to all of the command's processes, after a grace of 15 s SIGKILL. */
void server_stop(struct server *s);

/* The first id of /v1/models. TIMEOUT: no answer; NOT_FOUND: there is none, or it is too long. */
MUST_CHECK enum status server_model(const struct load_target *server, char *out, size_t cap,
                                    struct error *error);

#endif
