/*
 * foreign_find.c - which processes of this host are which stage of a serving system: by title, or
 * by who listens on its port and who is whose child (foreign.h).
 */
#include <ctype.h>
#include <dirent.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/probe/foreign.h"
#include "harness/probe/proc.h"
#include "harness/probe/proc_file.h"

enum {
    PATH_BYTES = 320,
    INODES_MAX = 128,
    LISTENERS_MAX = 256,
    DEPTH_MAX = 64,
    LISTEN_STATE = 0x0A,
};

bool foreign_pattern_parse(const char *text, struct foreign_pattern *out)
{
    const char *equals = strrchr(text, '=');
    size_t title = equals != NULL ? (size_t)(equals - text) : 0;
    size_t stage = equals != NULL ? strlen(equals + 1) : 0;
    if (title == 0 || title >= sizeof out->title || stage == 0 || stage >= sizeof out->stage) {
        return false;
    }
    memcpy(out->title, text, title);
    out->title[title] = '\0';
    memcpy(out->stage, equals + 1, stage + 1);
    return true;
}

size_t foreign_patterns_known(struct foreign_pattern out[FOREIGN_PATTERNS_MAX])
{
    static const char *const patterns[] = {
        "*::APIServer*=api_server", "*::EngineCore*=engine_core",
        "*::Worker*=worker",        "*::DPCoordinator*=coordinator",
        "ApiServer_*=api_server",   "EngineCore*=engine_core",
        "Worker_DP*=worker",        "DPCoordinator=coordinator",
    };
    size_t count = sizeof patterns / sizeof patterns[0];
    for (size_t i = 0; i < count; i++) {
        bool ok = foreign_pattern_parse(patterns[i], &out[i]);
        ASSERT(ok);
    }
    return count;
}

/* ---- the list ---- */

static uint32_t stage_named(struct foreign_system *s, const char *name)
{
    size_t i = 0;
    while (i < s->stages_count && strcmp(s->stages[i], name) != 0) {
        i++;
    }
    ASSERT(i < FOREIGN_STAGES_MAX);
    if (i == s->stages_count) {
        (void)snprintf(s->stages[s->stages_count++], FOREIGN_STAGE_BYTES, "%s", name);
    }
    return (uint32_t)i;
}

/* Its name, which is cut after 15 characters; as a whole where a title that it gave itself begins
 * with it. */
static void read_title(int32_t pid, char out[FOREIGN_NAME_BYTES])
{
    char path[PATH_BYTES];
    char name[64];
    char title[512];
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/comm", pid);
    if (!proc_file_read(path, name, sizeof name)) {
        name[0] = '\0';
    }
    name[strcspn(name, "\n")] = '\0';
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/cmdline", pid);
    bool longer =
        proc_file_read(path, title, sizeof title) && strncmp(title, name, strlen(name)) == 0;
    (void)snprintf(out, FOREIGN_NAME_BYTES, "%.31s", longer ? title : name);
}

static bool add(struct foreign_system *s, int32_t pid, const char *stage)
{
    if (s->processes_count == FOREIGN_PROCESSES_MAX) {
        return false;
    }
    struct foreign_process *p = &s->processes[s->processes_count++];
    *p = (struct foreign_process){.pid = pid, .stage = stage_named(s, stage)};
    read_title(pid, p->title);
    return true;
}

static enum status too_many(struct error *error)
{
    return error_set(error, STATUS_FULL, "more than %d processes fit", (int)FOREIGN_PROCESSES_MAX);
}

/* The next process of /proc; -1 at the end. */
static int32_t next_pid(DIR *dir)
{
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char *end = NULL;
        long pid = strtol(entry->d_name, &end, 10);
        if (isdigit((unsigned char)entry->d_name[0]) && *end == '\0' && pid > 0 &&
            pid <= INT32_MAX) {
            return (int32_t)pid;
        }
    }
    return -1;
}

/* ---- by title ---- */

/* Its name or the first word of its command line: a title that a process gave itself stands there
 * as a whole. */
static bool title_fits(int32_t pid, const char *pattern)
{
    char path[PATH_BYTES];
    char text[512];
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/comm", pid);
    if (proc_file_read(path, text, sizeof text)) {
        text[strcspn(text, "\n")] = '\0';
        if (fnmatch(pattern, text, 0) == 0) {
            return true;
        }
    }
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/cmdline", pid);
    return proc_file_read(path, text, sizeof text) && text[0] != '\0' &&
           fnmatch(pattern, text, 0) == 0;
}

/* The stage of the first pattern that fits; NULL if none does. */
static const char *stage_by_title(int32_t pid, const struct foreign_pattern *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (title_fits(pid, patterns[i].title)) {
            return patterns[i].stage;
        }
    }
    return NULL;
}

enum status foreign_by_title(const struct foreign_pattern *patterns, size_t count,
                             struct foreign_system *out, struct error *error)
{
    struct foreign_system *s = calloc(1, sizeof *s);
    DIR *dir = opendir("/proc");
    bool full = false;
    if (s == NULL || dir == NULL || count > FOREIGN_PATTERNS_MAX) {
        free(s);
        if (dir != NULL) {
            (void)closedir(dir);
        }
        return error_set(error, STATUS_IO, "cannot list the processes");
    }
    for (size_t i = 0; i < count; i++) {
        (void)stage_named(s, patterns[i].stage);
    }
    int32_t pid = 0;
    while (!full && (pid = next_pid(dir)) > 0) {
        const char *stage = pid != getpid() ? stage_by_title(pid, patterns, count) : NULL;
        full = stage != NULL && !add(s, pid, stage);
    }
    (void)closedir(dir);
    enum status status = full ? too_many(error) : STATUS_OK;
    if (status == STATUS_OK && s->processes_count == 0) {
        status = error_set(error, STATUS_NOT_FOUND, "no process is called like '%.60s'%s",
                           count > 0 ? patterns[0].title : "", count > 1 ? " and so on" : "");
    }
    if (status == STATUS_OK) {
        *out = *s;
    }
    free(s);
    return status;
}

/* ---- by port ---- */

struct listeners {
    uint64_t inodes[INODES_MAX];
    size_t inodes_count;
    int32_t pids[LISTENERS_MAX];
    size_t pids_count;
};

/* Sockets that listen on the port, of /proc/net/tcp or tcp6. */
static void read_sockets(const char *path, uint32_t port, struct listeners *l)
{
    char line[512];
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL && l->inodes_count < INODES_MAX) {
        unsigned local = 0;
        unsigned state = 0;
        uint64_t inode = 0;
        if (sscanf(line, " %*[^:]: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %" SCNu64, &local,
                   &state, &inode) == 3 &&
            local == port && state == LISTEN_STATE && inode > 0) {
            l->inodes[l->inodes_count++] = inode;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static bool holds_socket(int32_t pid, const struct listeners *l)
{
    char path[PATH_BYTES];
    char link[64];
    bool found = false;
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/fd", pid);
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
        uint64_t inode = 0;
        (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/fd/%.20s", pid, entry->d_name);
        ssize_t bytes = readlink(path, link, sizeof link - 1);
        link[bytes > 0 ? bytes : 0] = '\0';
        if (sscanf(link, "socket:[%" SCNu64 "]", &inode) != 1) {
            continue;
        }
        for (size_t i = 0; i < l->inodes_count; i++) {
            found = found || l->inodes[i] == inode;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return found;
}

static void find_listeners(uint32_t port, struct listeners *l)
{
    read_sockets("/proc/net/tcp", port, l);
    read_sockets("/proc/net/tcp6", port, l);
    DIR *dir = l->inodes_count > 0 ? opendir("/proc") : NULL;
    int32_t pid = 0;
    while (dir != NULL && l->pids_count < LISTENERS_MAX && (pid = next_pid(dir)) > 0) {
        if (holds_socket(pid, l)) {
            l->pids[l->pids_count++] = pid;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

static bool listens(const struct listeners *l, int32_t pid)
{
    for (size_t i = 0; i < l->pids_count; i++) {
        if (l->pids[i] == pid) {
            return true;
        }
    }
    return false;
}

static int32_t parent_of(int32_t pid)
{
    char path[PATH_BYTES];
    char text[1024];
    struct proc_stat stat;
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/stat", pid);
    return proc_file_read(path, text, sizeof text) && proc_stat_parse(text, &stat) ? stat.parent_pid
                                                                                   : -1;
}

/* The listener that no listener is above; where several have the same parent, that parent. */
static int32_t top_of(const struct listeners *l)
{
    int32_t top = -1;
    for (size_t i = 0; i < l->pids_count; i++) {
        int32_t parent = parent_of(l->pids[i]);
        if (listens(l, parent)) {
            continue;
        }
        if (top == -1) {
            top = l->pids[i];
        } else if (parent > 1 && (parent == top || parent == parent_of(top))) {
            top = parent;
        }
    }
    return top;
}

static bool has_children(const struct proc_tree *tree, int32_t pid, const struct listeners *l,
                         bool that_listen)
{
    for (size_t i = 0; i < tree->processes_count; i++) {
        const struct proc_process *p = &tree->processes[i];
        if (p->parent_pid == pid && (!that_listen || listens(l, p->pid))) {
            return true;
        }
    }
    return false;
}

static const char *role_of(const struct proc_tree *tree, const struct proc_process *p, int32_t top,
                           const struct listeners *l)
{
    bool siblings_have = false;
    if (has_children(tree, p->pid, l, true)) {
        return "launcher";
    }
    if (listens(l, p->pid)) {
        return "api_server";
    }
    if (p->parent_pid != top) {
        return p->pid == top ? "launcher" : "worker";
    }
    for (size_t i = 0; i < tree->processes_count; i++) {
        const struct proc_process *q = &tree->processes[i];
        siblings_have = siblings_have || (q->parent_pid == top && !listens(l, q->pid) &&
                                          has_children(tree, q->pid, l, false));
    }
    return siblings_have && !has_children(tree, p->pid, l, false) ? "other" : "engine_core";
}

/* A server with one process for HTTP may leave that its own name: it is who listens. */
static const char *untitled_role(const struct foreign_system *s, const struct proc_tree *tree,
                                 int32_t pid, const struct listeners *l)
{
    bool wanted = false;
    for (size_t i = 0; i < s->stages_count; i++) {
        wanted = wanted || strcmp(s->stages[i], "api_server") == 0;
    }
    return wanted && listens(l, pid) && !has_children(tree, pid, l, true) ? "api_server" : "other";
}

/* Every process of the tree, by title if any of them has one that fits. */
static bool add_tree(struct foreign_system *s, const struct proc_tree *tree,
                     const struct foreign_pattern *patterns, size_t count,
                     const struct listeners *l)
{
    bool titles = false;
    for (size_t i = 0; i < tree->processes_count; i++) {
        titles = titles || stage_by_title(tree->processes[i].pid, patterns, count) != NULL;
    }
    s->by_order = !titles;
    for (size_t i = 0; i < count && titles; i++) {
        (void)stage_named(s, patterns[i].stage);
    }
    for (size_t i = 0; i < tree->processes_count && titles; i++) {
        const char *stage = stage_by_title(tree->processes[i].pid, patterns, count);
        stage = stage != NULL ? stage : untitled_role(s, tree, tree->processes[i].pid, l);
        if (!add(s, tree->processes[i].pid, stage)) {
            return false;
        }
    }
    return true;
}

static bool add_by_order(struct foreign_system *s, const struct proc_tree *tree, int32_t top,
                         const struct listeners *l)
{
    for (size_t i = 0; i < tree->processes_count; i++) {
        const struct proc_process *p = &tree->processes[i];
        if (!add(s, p->pid, role_of(tree, p, top, l))) {
            return false;
        }
    }
    return true;
}

enum status foreign_by_port(uint32_t port, const struct foreign_pattern *patterns, size_t count,
                            struct foreign_system *out, struct error *error)
{
    struct listeners l = {.inodes_count = 0};
    struct proc_tree tree;
    find_listeners(port, &l);
    int32_t top = top_of(&l);
    if (top <= 0 || count > FOREIGN_PATTERNS_MAX) {
        return error_set(error, STATUS_NOT_FOUND,
                         "no process that may be looked at listens on port %" PRIu32, port);
    }
    TRY(proc_tree_read(top, &tree, error));
    struct foreign_system *s = calloc(1, sizeof *s);
    bool fits = s != NULL && add_tree(s, &tree, patterns, count, &l) &&
                (!s->by_order || add_by_order(s, &tree, top, &l));
    proc_tree_free(&tree);
    if (fits) {
        *out = *s;
    }
    free(s);
    return fits ? STATUS_OK : too_many(error);
}
