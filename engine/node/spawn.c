/*
 * spawn.c - owns one child of the launcher: its start with fixed descriptors, the lines it says,
 * its end. Driven by the launcher's libuv loop. Must not report an end before the child's last
 * line: the reason comes before its consequence.
 */
#include "engine/node/spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/ledger/ledger.h"
#include "engine/node/process.h"

/* The end is reported once both the exit status and the end of the event pipe are there: last words
 * first. */
static void finish_if_over(struct spawn *child)
{
    if (child->exited && child->events_closed && child->live) {
        child->live = false;
        child->on_exit(child, child->how);
    }
}

static void take_byte(struct spawn *child, char byte)
{
    if (byte != '\n') {
        if (child->line_bytes < SPAWN_LINE_MAX - 1) {
            child->line[child->line_bytes++] = byte;
        }
        return;
    }
    child->line[child->line_bytes] = '\0';
    child->line_bytes = 0;
    child->on_line(child, child->line);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    struct spawn *child = handle->data;
    *buffer = uv_buf_init(child->chunk, sizeof child->chunk);
}

static void on_events_closed(uv_handle_t *handle)
{
    struct spawn *child = handle->data;
    child->events_closed = true;
    finish_if_over(child);
}

static void on_read(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer)
{
    struct spawn *child = stream->data;
    for (ssize_t i = 0; i < bytes; i++) {
        take_byte(child, buffer->base[i]);
    }
    if (bytes < 0) {
        uv_close((uv_handle_t *)stream, on_events_closed);
    }
}

static void on_process_exit(uv_process_t *process, int64_t exit_status, int term_signal)
{
    struct spawn *child = process->data;
    child->exit_status = (int)exit_status;
    child->term_signal = term_signal;
    if (term_signal != 0) {
        (void)snprintf(child->how, sizeof child->how, "signal %d", term_signal);
    } else {
        (void)snprintf(child->how, sizeof child->how, "exit status %d", (int)exit_status);
    }
    child->exited = true;
    uv_close((uv_handle_t *)process, NULL);
    finish_if_over(child);
}

static const char *name_of(const char *role)
{
    if (strcmp(role, "api_server") == 0) {
        return "ApiServer_%u";
    }
    return strcmp(role, "engine_core") == 0 ? "EngineCore_DP%u" : "DPCoordinator";
}

static void set_name(struct spawn *child, const char *role)
{
    const char *format = name_of(role);
    const char *mark = strchr(format, '%');
    if (mark == NULL) {
        (void)snprintf(child->name, sizeof child->name, "%s", format);
    } else {
        (void)snprintf(child->name, sizeof child->name, "%.*s%u", (int)(mark - format), format,
                       child->index);
    }
}

enum status spawn_start(uv_loop_t *loop, struct spawn *child, const struct spawn_options *options,
                        struct error *error)
{
    child->index = options->index;
    set_name(child, options->role);
    (void)uv_pipe_init(loop, &child->events, 0);
    child->events.data = child;
    child->process.data = child;
    uv_stdio_container_t stdio[PROCESS_FDS_END] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        [LEDGER_FD] = {.flags = UV_INHERIT_FD, .data.fd = LEDGER_FD},
        [EVENT_FD] = {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
                      .data.stream = (uv_stream_t *)&child->events},
        [LISTEN_FD] = {.flags = UV_IGNORE},
    };
    if (options->listen_fd >= 0) {
        stdio[LISTEN_FD].flags = UV_INHERIT_FD;
        stdio[LISTEN_FD].data.fd = options->listen_fd;
    }
    ASSERT(options->fds_count <= PROCESS_FDS_END - COLLECTIVE_STEP_FD);
    for (uint32_t i = 0; i < options->fds_count; i++) {
        stdio[COLLECTIVE_STEP_FD + i].flags = options->fds[i] >= 0 ? UV_INHERIT_FD : UV_IGNORE;
        stdio[COLLECTIVE_STEP_FD + i].data.fd = options->fds[i];
    }
    char name[] = "harness-node"; /* what ps shows; the file is this same executable */
    char role[32];
    char index_flag[] = "--index";
    char index[16];
    char node_flag[] = "--node";
    char node[16];
    char parent_flag[] = "--parent";
    char parent[16];
    (void)snprintf(role, sizeof role, "%s", options->role);
    (void)snprintf(index, sizeof index, "%u", options->index);
    (void)snprintf(node, sizeof node, "%u", options->node);
    (void)snprintf(parent, sizeof parent, "%d", (int)getpid());
    char *arguments[] = {name, role, index_flag, index, node_flag, node, parent_flag, parent, NULL};
    uv_process_options_t process = {
        .exit_cb = on_process_exit,
        .file = "/proc/self/exe",
        .args = arguments,
        .stdio_count = COLLECTIVE_STEP_FD + (int)options->fds_count,
        .stdio = stdio,
    };
    int rc = uv_spawn(loop, &child->process, &process);
    if (rc != 0) {
        return error_set(error, STATUS_IO, "cannot start %s: %s", child->name, uv_strerror(rc));
    }
    child->pid = child->process.pid;
    child->live = true;
    (void)uv_read_start((uv_stream_t *)&child->events, on_alloc, on_read);
    return STATUS_OK;
}
