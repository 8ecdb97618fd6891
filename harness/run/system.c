/*
 * system.c - owns one serving system as the harness sees it: private folder, ledger, launcher, and
 * the lines it says. Driven by measure.c and `harness serve`. Must not leave anything behind: every
 * failure ends in system_stop().
 */
#include "harness/run/system.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/model/host_profile.h"
#include "harness/run/child.h"

enum {
    STOP_MARGIN_NS = 2000000000,
    WAIT_SLICE_MS = 50,
    FOLDER_BYTES = 96
};

#define FOLDER_PREFIX "harness-"

/* ---- private folder of the ipc sockets ---- */

static const char *temporary_root(void)
{
    const char *root = getenv("TMPDIR");
    /* Addresses are words of a line, and a socket's path is short. */
    bool usable = root != NULL && strlen(root) < 40 && strpbrk(root, " \t\n") == NULL;
    return usable ? root : "/tmp";
}

static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char name[512];
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            (void)unlink(name);
        }
    }
    (void)closedir(folder);
    (void)rmdir(path);
}

/* Folders carry the number of the harness that made them: those of a killed harness are swept by
 * the next one. */
static void sweep_stale_folders(const char *root)
{
    DIR *folder = opendir(root);
    if (folder == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        const char *name = entry->d_name;
        size_t prefix = strlen(FOLDER_PREFIX);
        if (strncmp(name, FOLDER_PREFIX, prefix) != 0 || !isdigit((unsigned char)name[prefix])) {
            continue;
        }
        char path[512];
        struct stat st;
        long pid = strtol(name + prefix, NULL, 10);
        (void)snprintf(path, sizeof path, "%s/%s", root, name);
        if (stat(path, &st) == 0 && st.st_uid == getuid() && kill((pid_t)pid, 0) != 0 &&
            errno == ESRCH) {
            remove_folder(path);
        }
    }
    (void)closedir(folder);
}

static enum status make_folder(char out[FOLDER_BYTES], struct error *error)
{
    const char *root = temporary_root();
    sweep_stale_folders(root);
    (void)snprintf(out, FOLDER_BYTES, "%s/" FOLDER_PREFIX "%d-XXXXXX", root, (int)getpid());
    if (mkdtemp(out) == NULL) {
        return error_set(error, STATUS_IO, "cannot make a private folder under %s: %s", root,
                         strerror(errno));
    }
    return STATUS_OK;
}

/* ---- what the launcher says ---- */

static void fail(struct system *s, const char *text)
{
    if (!s->failed) {
        s->failed = true;
        (void)snprintf(s->reason, sizeof s->reason, "%.500s", text);
    }
}

static void take_line(struct system *s)
{
    s->line[s->line_bytes] = '\0';
    s->line_bytes = 0;
    char text[SYSTEM_LINE_BYTES + 32];
    if (strncmp(s->line, "ready ", 6) == 0) {
        s->ready = true;
        s->port = (uint32_t)strtoul(s->line + 6, NULL, 10);
    } else if (strncmp(s->line, "died ", 5) == 0) {
        (void)snprintf(text, sizeof text, "%s died", s->line + 5);
        fail(s, text);
    } else if (strncmp(s->line, "failed ", 7) == 0) {
        fail(s, s->line + 7);
    } else if (strncmp(s->line, "warning ", 8) == 0) {
        s->warnings_count++;
        (void)dprintf(s->log_fd >= 0 ? s->log_fd : STDERR_FILENO, "%s\n", s->line);
    }
}

/* False at the end of the pipe. */
static bool read_events(struct system *s)
{
    char bytes[1024];
    for (;;) {
        ssize_t count = read(s->events_fd, bytes, sizeof bytes);
        if (count < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (count == 0) {
            return false;
        }
        for (ssize_t i = 0; i < count; i++) {
            if (bytes[i] == '\n') {
                take_line(s);
            } else if (s->line_bytes < SYSTEM_LINE_BYTES - 1) {
                s->line[s->line_bytes++] = bytes[i];
            }
        }
    }
}

bool system_failed(struct system *s)
{
    bool open = read_events(s);
    int status = 0;
    if (s->running && child_ended(s->launcher, &status)) {
        char how[32];
        char text[64];
        s->running = false;
        (void)read_events(s);
        child_describe(status, how);
        (void)snprintf(text, sizeof text, "launcher (pid %d) %s", (int)s->launcher, how);
        fail(s, text);
    } else if (!open && s->running) {
        /* The pipe ends a moment before the process: the next look finds the reason. */
        (void)poll(NULL, 0, 1);
    }
    return s->failed;
}

/* ---- life ---- */

static enum status fill_host(struct topology *t, struct error *error)
{
    const struct host_profile *profile = host_profile_find(t->host.name);
    if (profile == NULL) {
        return error_set(error, STATUS_INVALID, "unknown host profile '%s'", t->host.name);
    }
    t->host.api_request_ns = ns_from_ps(profile->api_request);
    t->host.api_message_ns = ns_from_ps(profile->api_message);
    t->host.api_output_token_ns = ns_from_ps(profile->api_output_token);
    t->host.api_prompt_token_ns = ns_from_ps(profile->api_prompt_token);
    t->host.engine_step_ns =
        t->engine_step_ns > 0 ? t->engine_step_ns : ns_from_ps(profile->engine_step);
    t->host.engine_seq_ns = ns_from_ps(profile->engine_seq);
    t->host.coordinator_message_ns = ns_from_ps(profile->coordinator_message);
    return STATUS_OK;
}

static enum status start_launcher(struct system *s, int log_fd, struct error *error)
{
    int events[2];
    if (pipe2(events, O_CLOEXEC) != 0) {
        return error_set(error, STATUS_IO, "pipe: %s", strerror(errno));
    }
    char path[512];
    char role[] = "launcher";
    char parent_flag[] = "--parent";
    char parent[16];
    child_program_folder(path, sizeof path - 16);
    (void)strcat(path, "/harness-node"); // NOLINT: room was left above
    (void)snprintf(parent, sizeof parent, "%d", (int)getpid());
    char *arguments[] = {path, role, parent_flag, parent, NULL};
    struct child_options options = {
        .path = path,
        .arguments = arguments,
        .fd3 = s->ledger.fd,
        .fd4 = events[1],
        .stderr_fd = log_fd,
        .death_signal = SIGTERM,
    };
    enum status status = child_start(&options, &s->launcher, error);
    (void)close(events[1]);
    s->events_fd = events[0];
    s->running = status == STATUS_OK;
    (void)fcntl(s->events_fd, F_SETFL, O_NONBLOCK);
    return status;
}

static enum status wait_ready(struct system *s, const struct system_options *o, struct error *error)
{
    int64_t deadline = clock_now_ns() + o->start_timeout_ns;
    while (!s->ready) {
        struct pollfd fd = {.fd = s->events_fd, .events = POLLIN};
        (void)poll(&fd, 1, WAIT_SLICE_MS);
        if (system_failed(s)) {
            return error_set(error, STATUS_DIED, "%s", s->reason);
        }
        if (o->interrupted != NULL && o->interrupted()) {
            return error_set(error, STATUS_TIMEOUT, "interrupted");
        }
        if (clock_now_ns() > deadline) {
            return error_set(error, STATUS_TIMEOUT,
                             "the serving system did not start within %lld s",
                             (long long)(o->start_timeout_ns / 1000000000));
        }
    }
    return STATUS_OK;
}

enum status system_start(const struct system_options *options, struct system *out,
                         struct error *error)
{
    struct topology topology = options->topology;
    *out = (struct system){.events_fd = -1, .log_fd = options->log_fd, .ledger = {.fd = -1}};
    TRY(fill_host(&topology, error));
    TRY(make_folder(out->socket_dir, error));
    (void)snprintf(topology.socket_dir, sizeof topology.socket_dir, "%s", out->socket_dir);
    enum status status = ledger_create(&topology, &out->ledger, error);
    if (status == STATUS_OK) {
        status = start_launcher(out, options->log_fd, error);
    }
    if (status == STATUS_OK) {
        status = wait_ready(out, options, error);
    }
    if (status != STATUS_OK) {
        system_stop(out);
        system_free(out);
    }
    return status;
}

void system_stop(struct system *s)
{
    if (s->running) {
        int status;
        int64_t grace = s->ledger.topology->shutdown_grace_ns + STOP_MARGIN_NS;
        child_stop(s->launcher, SIGTERM, grace, &status);
        s->running = false;
    }
    if (s->events_fd >= 0) {
        (void)read_events(s);
        (void)close(s->events_fd);
        s->events_fd = -1;
    }
    if (s->socket_dir[0] != '\0') {
        remove_folder(s->socket_dir);
        s->socket_dir[0] = '\0';
    }
}

void system_free(struct system *s)
{
    if (s->ledger.fd >= 0) {
        ledger_close(&s->ledger);
        s->ledger.fd = -1;
    }
}
