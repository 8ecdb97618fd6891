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

/* ---- what launchers say ---- */

static void fail(struct system *s, const char *text)
{
    if (!s->failed) {
        s->failed = true;
        (void)snprintf(s->reason, sizeof s->reason, "%.500s", text);
    }
}

static void take_ready(struct system *s, struct system_launcher *l, const char *port)
{
    l->ready = true;
    l->port = (uint32_t)strtoul(port, NULL, 10);
    s->port = s->port == 0 ? l->port : s->port;
}

static void take_joinable(struct system *s, struct system_launcher *l)
{
    const char *colon = strrchr(l->line, ':');
    l->joinable = true;
    if (colon != NULL && s->ledger.topology->handshake_port == 0) {
        ledger_set_handshake_port(&s->ledger, (uint32_t)strtoul(colon + 1, NULL, 10));
    }
}

static void take_line(struct system *s, struct system_launcher *l)
{
    l->line[l->line_bytes] = '\0';
    l->line_bytes = 0;
    char text[SYSTEM_LINE_BYTES + 32];
    if (strncmp(l->line, "ready ", 6) == 0) {
        take_ready(s, l, l->line + 6);
    } else if (strncmp(l->line, "joinable ", 9) == 0) {
        take_joinable(s, l);
    } else if (strncmp(l->line, "died ", 5) == 0) {
        (void)snprintf(text, sizeof text, "%s died", l->line + 5);
        fail(s, text);
    } else if (strncmp(l->line, "failed ", 7) == 0) {
        fail(s, l->line + 7);
    } else if (strncmp(l->line, "unrecorded ", 11) == 0) {
        (void)snprintf(s->unrecorded, sizeof s->unrecorded, "recording %.490s", l->line + 11);
    } else if (strncmp(l->line, "warning ", 8) == 0) {
        s->warnings_count++;
        (void)dprintf(s->log_fd >= 0 ? s->log_fd : STDERR_FILENO, "%s\n", l->line);
    }
}

/* False at the end of the pipe. */
static bool read_events(struct system *s, struct system_launcher *l)
{
    char bytes[1024];
    for (;;) {
        ssize_t count = read(l->events_fd, bytes, sizeof bytes);
        if (count < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (count == 0) {
            return false;
        }
        for (ssize_t i = 0; i < count; i++) {
            if (bytes[i] == '\n') {
                take_line(s, l);
            } else if (l->line_bytes < SYSTEM_LINE_BYTES - 1) {
                l->line[l->line_bytes++] = bytes[i];
            }
        }
    }
}

static void look_at(struct system *s, struct system_launcher *l)
{
    int status = 0;
    bool open = read_events(s, l);
    if (l->running && child_ended(l->pid, &status)) {
        char how[32];
        char text[64];
        l->running = false;
        (void)read_events(s, l);
        child_describe(status, how);
        (void)snprintf(text, sizeof text, "launcher (pid %d) %s", (int)l->pid, how);
        fail(s, text);
    } else if (!open && l->running) {
        /* The pipe ends a moment before the process: the next look finds the reason. */
        (void)poll(NULL, 0, 1);
    }
}

bool system_failed(struct system *s)
{
    for (uint32_t i = 0; i < s->launchers_count; i++) {
        look_at(s, &s->launchers[i]);
    }
    return s->failed;
}

void system_wait(const struct system *s, int timeout_ms)
{
    struct pollfd fds[TOPOLOGY_NODES_MAX];
    for (uint32_t i = 0; i < s->launchers_count; i++) {
        fds[i] = (struct pollfd){.fd = s->launchers[i].events_fd, .events = POLLIN};
    }
    (void)poll(fds, s->launchers_count, timeout_ms);
}

/* ---- life ---- */

static enum status fill_host(struct topology *t, struct error *error)
{
    const struct host_profile *profile = host_profile_find(t->host.name);
    if (profile == NULL) {
        return error_set(error, STATUS_INVALID, "unknown host profile '%s'", t->host.name);
    }
    const struct topology_host *added = &t->added;
    int64_t step_ns = t->engine_step_ns > 0 ? t->engine_step_ns : ns_from_ps(profile->engine_step);
    t->host.api_request_ns = ns_from_ps(profile->api_request) + added->api_request_ns;
    t->host.api_message_ns = ns_from_ps(profile->api_message) + added->api_message_ns;
    t->host.api_output_token_ns =
        ns_from_ps(profile->api_output_token) + added->api_output_token_ns;
    t->host.api_prompt_token_ns =
        ns_from_ps(profile->api_prompt_token) + added->api_prompt_token_ns;
    t->host.engine_step_ns = step_ns + added->engine_step_ns;
    t->host.engine_seq_ns = ns_from_ps(profile->engine_seq) + added->engine_seq_ns;
    t->host.coordinator_message_ns =
        ns_from_ps(profile->coordinator_message) + added->coordinator_message_ns;
    return STATUS_OK;
}

/* Where the HTTP of a node is, and where its sockets for other nodes are. */
static void fill_addresses(struct topology *t)
{
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        if (t->nodes[i].host[0] == '\0') {
            (void)snprintf(t->nodes[i].host, sizeof t->nodes[i].host, "127.0.0.%u", i + 1);
        }
    }
}

static enum status spawn_launcher(struct system *s, struct system_launcher *l, uint32_t node,
                                  struct error *error)
{
    int events[2];
    if (pipe2(events, O_CLOEXEC) != 0) {
        return error_set(error, STATUS_IO, "pipe: %s", strerror(errno));
    }
    char path[512];
    char role[] = "launcher";
    char parent_flag[] = "--parent";
    char parent[16];
    char index_flag[] = "--index";
    char index[16];
    char *arguments[7] = {path, role, parent_flag, parent, NULL};
    child_program_folder(path, sizeof path - 16);
    (void)strcat(path, "/harness-node"); // NOLINT: room was left above
    (void)snprintf(parent, sizeof parent, "%d", (int)getpid());
    (void)snprintf(index, sizeof index, "%u", node);
    if (s->ledger.topology->nodes_count > 0) {
        arguments[4] = index_flag;
        arguments[5] = index;
    }
    struct child_options options = {
        .path = path,
        .arguments = arguments,
        .fd3 = s->ledger.fd,
        .fd4 = events[1],
        .stderr_fd = s->log_fd,
        .death_signal = SIGTERM,
    };
    enum status status = child_start(&options, &l->pid, error);
    (void)close(events[1]);
    l->events_fd = events[0];
    l->running = status == STATUS_OK;
    (void)fcntl(l->events_fd, F_SETFL, O_NONBLOCK);
    return status;
}

static enum status start_launcher(struct system *s, uint32_t node, struct error *error)
{
    const struct topology *t = s->ledger.topology;
    struct system_launcher *l = &s->launchers[s->launchers_count++];
    const char *host = t->listen_host[0] != '\0' ? t->listen_host : t->nodes[node].host;
    l->events_fd = -1;
    (void)snprintf(l->host, sizeof l->host, "%s", host);
    return spawn_launcher(s, l, node, error);
}

static bool all_ready(const struct system *s)
{
    for (uint32_t i = 0; i < s->launchers_count; i++) {
        if (!s->launchers[i].ready) {
            return false;
        }
    }
    return true;
}

static bool can_join(const struct system *s)
{
    return s->launchers[0].joinable;
}

static enum status wait_for(struct system *s, bool (*met)(const struct system *s),
                            const struct system_options *o, int64_t deadline_ns,
                            struct error *error)
{
    while (!met(s)) {
        system_wait(s, WAIT_SLICE_MS);
        if (system_failed(s)) {
            return error_set(error, STATUS_DIED, "%s", s->reason);
        }
        if (o->interrupted != NULL && o->interrupted()) {
            return error_set(error, STATUS_TIMEOUT, "interrupted");
        }
        if (clock_now_ns() > deadline_ns) {
            return error_set(error, STATUS_TIMEOUT,
                             "the serving system did not start within %lld s",
                             (long long)(o->start_timeout_ns / 1000000000));
        }
    }
    return STATUS_OK;
}

/* The head is first: the others read in the ledger where it listens. Independent nodes wait for
 * nobody. */
static enum status start_launchers(struct system *s, const struct system_options *o,
                                   struct error *error)
{
    const struct topology *t = s->ledger.topology;
    int64_t deadline_ns = clock_now_ns() + o->start_timeout_ns;
    bool joined = t->balancing != (uint32_t)BALANCING_INDEPENDENT;
    if (o->which == SYSTEM_ONLY_JOINING) {
        TRY(start_launcher(s, 1, error));
        return wait_for(s, all_ready, o, deadline_ns, error);
    }
    TRY(start_launcher(s, 0, error));
    if (o->which == SYSTEM_ALL_NODES && t->nodes_count > 1) {
        if (joined) {
            TRY(wait_for(s, can_join, o, deadline_ns, error));
        }
        for (uint32_t i = 1; i < t->nodes_count; i++) {
            TRY(start_launcher(s, i, error));
        }
    }
    return wait_for(s, all_ready, o, deadline_ns, error);
}

enum status system_start(const struct system_options *options, struct system *out,
                         struct error *error)
{
    struct topology topology = options->topology;
    *out = (struct system){.log_fd = options->log_fd, .ledger = {.fd = -1}};
    TRY(fill_host(&topology, error));
    if (options->which == SYSTEM_ALL_NODES) {
        fill_addresses(&topology);
    }
    TRY(make_folder(out->socket_dir, error));
    (void)snprintf(topology.socket_dir, sizeof topology.socket_dir, "%s", out->socket_dir);
    enum status status = ledger_create(&topology, &out->ledger, error);
    if (status == STATUS_OK) {
        status = start_launchers(out, options, error);
    }
    if (status != STATUS_OK) {
        system_stop(out);
        system_free(out);
    }
    return status;
}

void system_stop(struct system *s)
{
    for (uint32_t i = 0; i < s->launchers_count; i++) {
        if (s->launchers[i].running) {
            (void)kill(s->launchers[i].pid, SIGTERM);
        }
    }
    int64_t deadline_ns = clock_now_ns() + STOP_MARGIN_NS;
    if (s->launchers_count > 0) {
        deadline_ns += s->ledger.topology->shutdown_grace_ns;
    }
    for (uint32_t i = 0; i < s->launchers_count; i++) {
        struct system_launcher *l = &s->launchers[i];
        if (l->running) {
            int status;
            child_stop(l->pid, SIGTERM, deadline_ns - clock_now_ns(), &status);
            l->running = false;
        }
        if (l->events_fd >= 0) {
            (void)read_events(s, l);
            (void)close(l->events_fd);
            l->events_fd = -1;
        }
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
