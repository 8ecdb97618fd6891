/*
 * server.c - owns the life of a launched command and the question whether a server answers
 * (server.h). Driven by measure.c and `harness load`. Must not leave a process behind, also when
 * the harness is killed: a shell in the command's process group ends that group when it is told to,
 * or when its parent is gone.
 */
#include "harness/run/server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <json-c/json.h>

#include "engine/base/clock.h"
#include "harness/run/address.h"
#include "harness/run/child.h"
#include "harness/run/fetch.h"

enum {
    POLL_NS = 100000000,
    GRACE_S = 15,
    HTTP_OK = 200,
    HTTP_NOT_FOUND = 404,
    SHELL_SIGNALLED = 128, /* a shell's exit status: this and the signal */
};

#define SECOND_NS     ((int64_t)1000000000)
#define GONE_NS       (2 * SECOND_NS) /* of killed processes, until they are no more */
#define STOP_NS       ((GRACE_S + 1) * SECOND_NS)
#define PORT_GRACE_NS (5 * SECOND_NS) /* for the server of the run before */

/* $1: tenths of a second from SIGTERM to SIGKILL, $2: the command. Told to end it, the shell goes
 * with its group: nobody may be there any more to look after what is left. */
static const char guard[] =
    "finish() {\n"
    "    trap '' TERM\n"
    "    kill -TERM 0\n"
    "    i=0\n"
    "    while kill -0 $child 2>/dev/null && [ $i -lt $1 ]; do sleep 0.1; i=$((i + 1)); done\n"
    "    kill -KILL 0\n"
    "}\n"
    "trap \"finish $1\" TERM\n"
    "sh -c \"$2\" </dev/null &\n"
    "child=$!\n"
    "wait $child\n";

/* ---- pages ---- */

/* The string at `key` of an object; "" if there is none. */
static const char *string_at(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(object, key, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : "";
}

static struct json_object *fetch_json(const struct load_target *server, const char *path,
                                      uint32_t *status)
{
    struct http_buffer body = {0};
    *status = fetch_page(server, path, &body);
    http_buffer_append(&body, "", 1);
    struct json_object *root =
        *status == HTTP_OK && !body.failed ? json_tokener_parse(body.data) : NULL;
    http_buffer_free(&body);
    return root;
}

enum status server_model(const struct load_target *server, char *out, size_t cap,
                         struct error *error)
{
    uint32_t answer = 0;
    struct json_object *root = fetch_json(server, "/v1/models", &answer);
    struct json_object *data = NULL;
    const char *id = "";
    if (json_object_object_get_ex(root, "data", &data) &&
        json_object_is_type(data, json_type_array) && json_object_array_length(data) > 0) {
        id = string_at(json_object_array_get_idx(data, 0), "id");
    }
    enum status status = STATUS_OK;
    if (answer == 0) {
        status = error_set(error, STATUS_TIMEOUT, "no answer at http://%s:%u/v1/models",
                           server->host, server->port);
    } else if (id[0] == '\0') {
        status = error_set(error, STATUS_NOT_FOUND, "no model at http://%s:%u/v1/models",
                           server->host, server->port);
    } else if (strlen(id) >= cap) {
        status = error_set(error, STATUS_NOT_FOUND,
                           "the model's name at http://%s:%u/v1/models is longer than %zu "
                           "characters",
                           server->host, server->port, cap - 1);
    } else {
        (void)snprintf(out, cap, "%s", id);
    }
    (void)json_object_put(root);
    return status;
}

static void read_revision(struct server *s)
{
    uint32_t answer = 0;
    struct json_object *root = fetch_json(&s->target, "/version", &answer);
    (void)snprintf(s->revision, sizeof s->revision, "%s", string_at(root, "version"));
    (void)json_object_put(root);
}

/* Who has no /health says by its models that it serves. */
static bool answers(const struct load_target *server)
{
    struct http_buffer body = {0};
    uint32_t status = fetch_page(server, "/health", &body);
    if (status == HTTP_NOT_FOUND) {
        status = fetch_page(server, "/v1/models", &body);
    }
    http_buffer_free(&body);
    return status == HTTP_OK;
}

/* ---- the command ---- */

static void describe_end(int status, char out[32])
{
    child_describe(status, out);
    if (WIFEXITED(status) && WEXITSTATUS(status) > SHELL_SIGNALLED) {
        (void)snprintf(out, 32, "signal %d", WEXITSTATUS(status) - SHELL_SIGNALLED);
    }
}

bool server_failed(struct server *s)
{
    int status = 0;
    if (s->running && child_ended(s->pid, &status)) {
        char how[32];
        s->running = false;
        s->failed = true;
        describe_end(status, how);
        (void)snprintf(s->reason, sizeof s->reason,
                       "server '%s' died: its command ended with %s; what it said is in system.log",
                       s->name, how);
    }
    return s->failed;
}

void server_stop(struct server *s)
{
    int status = 0;
    if (s->running) {
        child_stop(s->pid, SIGTERM, STOP_NS, &status);
        s->running = false;
    }
    if (s->pid == 0) {
        return;
    }
    /* Whoever is left in the group, also when the command ended by itself. */
    int64_t deadline_ns = clock_now_ns() + GONE_NS;
    (void)kill(-s->pid, SIGKILL);
    while (kill(-s->pid, 0) == 0 && clock_now_ns() < deadline_ns) {
        clock_sleep_until_ns(clock_now_ns() + POLL_NS / 10);
    }
    s->pid = 0;
}

static enum status launch(struct server *s, const struct server_options *o, struct error *error)
{
    char shell[] = "/bin/sh";
    char flag[] = "-c";
    char name[] = "harness-guard";
    char grace[16];
    char script[sizeof guard];
    char command[SCENARIO_COMMAND_BYTES];
    char *arguments[] = {shell, flag, script, name, grace, command, NULL};
    memcpy(script, guard, sizeof guard);
    memcpy(command, o->foreign->command, sizeof command);
    (void)snprintf(grace, sizeof grace, "%d", GRACE_S * 10);
    struct child_options child = {
        .path = shell,
        .arguments = arguments,
        .fd3 = -1,
        .fd4 = -1,
        .stderr_fd = o->log_fd,
        .death_signal = SIGTERM,
    };
    TRY(child_start(&child, &s->pid, error));
    s->running = true;
    return STATUS_OK;
}

static bool interrupted(const struct server_options *o)
{
    return o->interrupted != NULL && o->interrupted();
}

/* An old server would be measured in place of the one that is started. */
static enum status wait_for_port(const struct server *s, const struct server_options *o,
                                 struct error *error)
{
    int64_t deadline_ns = clock_now_ns() + PORT_GRACE_NS;
    struct http_buffer body = {0};
    while (fetch_page(&s->target, "/health", &body) != 0) {
        if (clock_now_ns() > deadline_ns || interrupted(o)) {
            http_buffer_free(&body);
            return error_set(error, STATUS_INVALID,
                             "server '%s': somebody answers at http://%s:%u before it is launched "
                             "(measure that one with attach, end it, or set url)",
                             s->name, s->target.host, s->target.port);
        }
        clock_sleep_until_ns(clock_now_ns() + POLL_NS);
    }
    http_buffer_free(&body);
    return STATUS_OK;
}

static enum status wait_for_answer(struct server *s, const struct server_options *o,
                                   struct error *error)
{
    int64_t begun_ns = clock_now_ns();
    int64_t timeout_ns = o->foreign->start_timeout_ns;
    while (!answers(&s->target)) {
        int64_t waited_ns = clock_now_ns() - begun_ns;
        if (server_failed(s)) {
            return error_set(error, STATUS_DIED, "%s", s->reason);
        }
        if (interrupted(o)) {
            return error_set(error, STATUS_TIMEOUT, "interrupted");
        }
        if (waited_ns > timeout_ns) {
            return error_set(error, STATUS_TIMEOUT,
                             "server '%s' did not answer at http://%s:%u within %.0f s "
                             "(start_timeout); what it said is in system.log",
                             s->name, s->target.host, s->target.port, (double)timeout_ns / 1e9);
        }
        if (o->waiting != NULL) {
            o->waiting(o->ctx, (double)waited_ns / 1e9, (double)timeout_ns / 1e9);
        }
        clock_sleep_until_ns(clock_now_ns() + POLL_NS);
    }
    return STATUS_OK;
}

static enum status begin(struct server *s, const struct server_options *o, struct error *error)
{
    const struct scenario_foreign *f = o->foreign;
    struct address address;
    if (!address_parse(f->url.host, f->url.port, &address)) {
        return error_set(error, STATUS_INVALID, "server '%s': nobody knows the host %s", s->name,
                         f->url.host);
    }
    (void)snprintf(s->target.host, sizeof s->target.host, "%s", address.host);
    s->target.port = address.port;
    if (f->kind == SCENARIO_SERVER_LAUNCHED) {
        TRY(wait_for_port(s, o, error));
        TRY(launch(s, o, error));
        TRY(wait_for_answer(s, o, error));
    } else if (!answers(&s->target)) {
        return error_set(error, STATUS_TIMEOUT, "server '%s': nobody serves at http://%s:%u",
                         s->name, f->url.host, f->url.port);
    }
    (void)snprintf(s->model, sizeof s->model, "%s", f->model);
    if (s->model[0] == '\0') {
        TRY(server_model(&s->target, s->model, sizeof s->model, error));
    }
    read_revision(s);
    return STATUS_OK;
}

enum status server_start(const struct server_options *options, struct server *out,
                         struct error *error)
{
    *out = (struct server){.pid = 0};
    (void)snprintf(out->name, sizeof out->name, "%s", options->name);
    enum status status = begin(out, options, error);
    if (status != STATUS_OK) {
        server_stop(out);
    }
    return status;
}
