/*
 * session.c - what a session's records are about, and whether that is what is asked for now
 * (record.h): every value of the scenario, the runs in their order, program and machine.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/hash.h"
#include "harness/run/record.h"
#include "harness/run/record_file.h"

enum {
    KIND_SESSION = 1,
    WORD_BYTES = 128
};

/* The head of the file; every value of the scenario follows as text. */
struct session_head {
    struct run_host host;
    uint64_t plan_hash;
    uint64_t traces_hash;
    uint32_t runs_count;
};

static const struct record_kind session_kind = {.kind = KIND_SESSION,
                                                .shape = sizeof(struct session_head)};

static void name_file(const char *folder, char out[RECORD_PATH_BYTES])
{
    (void)snprintf(out, RECORD_PATH_BYTES, "%s/runs/session", folder);
}

/* Cells and runs by name and number: what --only, an axis or the order change. */
static uint64_t hash_plan(const struct scenario *s)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < s->runs_count; i++) {
        const struct scenario_run *run = &s->runs[i];
        const char *name = s->cells[run->cell].name;
        const uint64_t numbers[] = {run->cell, run->replicate, run->seed};
        hash = hash64(name, strlen(name), hash);
        hash = hash64(numbers, sizeof numbers, hash);
    }
    return hash;
}

static uint64_t hash_file(const char *path, uint64_t hash)
{
    unsigned char block[1 << 14];
    FILE *file = fopen(path, "rbe");
    for (size_t got = 1; file != NULL && got > 0;) {
        got = fread(block, 1, sizeof block, file);
        hash = hash64(block, got, hash);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return hash;
}

/* What the traces say: their paths are values of the scenario. */
static uint64_t hash_traces(const struct scenario *s)
{
    const char *last = "";
    uint64_t hash = 0;
    for (uint32_t i = 0; i < s->cells_count; i++) {
        const struct scenario_workload *w = &s->cells[i].workload;
        if (w->source == SCENARIO_SOURCE_TRACE && strcmp(w->trace, last) != 0) {
            hash = hash_file(w->trace, hash);
            last = w->trace;
        }
    }
    return hash;
}

/* ---- to begin one ---- */

static void remove_old(const char *runs_folder)
{
    char path[RECORD_PATH_BYTES * 2];
    /* First: without it the rest is nothing. */
    (void)snprintf(path, sizeof path, "%s/session", runs_folder);
    (void)unlink(path);
    DIR *folder = opendir(runs_folder);
    if (folder == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] == 'r' || strstr(entry->d_name, ".new") != NULL) {
            (void)snprintf(path, sizeof path, "%s/%s", runs_folder, entry->d_name);
            (void)unlink(path);
        }
    }
    (void)closedir(folder);
}

static char *config_text(const struct scenario *scenario)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (file != NULL) {
        scenario_write(scenario, file);
        (void)fclose(file);
    }
    return text;
}

enum status record_begin(const char *folder, const struct scenario *scenario,
                         const struct run_host *host, struct error *error)
{
    char path[RECORD_PATH_BYTES];
    struct session_head head = {.host = *host,
                                .plan_hash = hash_plan(scenario),
                                .traces_hash = hash_traces(scenario),
                                .runs_count = scenario->runs_count};
    (void)snprintf(path, sizeof path, "%s/runs", folder);
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        return error_set(error, STATUS_IO, "%s: cannot be made: %s", path, strerror(errno));
    }
    remove_old(path);
    char *config = config_text(scenario);
    size_t bytes = config != NULL ? strlen(config) + 1 : 0;
    unsigned char *data = malloc(sizeof head + bytes);
    if (config == NULL || data == NULL) {
        free(config);
        free(data);
        return error_set(error, STATUS_NOMEM, "no memory for the record of a session");
    }
    memcpy(data, &head, sizeof head);
    memcpy(data + sizeof head, config, bytes);
    name_file(folder, path);
    enum status status = record_file_write(path, &session_kind, data, sizeof head + bytes, error);
    free(config);
    free(data);
    return status;
}

/* ---- to compare with one ---- */

/* One `key = value` of a scenario's text. */
struct entry {
    char section[WORD_BYTES];
    char key[WORD_BYTES];
    char value[SCENARIO_TEXT_BYTES * 2 + 8];
};

/* It is behind the last "  ; ". */
static void cut_origin(char *value)
{
    char *mark = NULL;
    for (char *at = strstr(value, "  ; "); at != NULL; at = strstr(at + 1, "  ; ")) {
        mark = at;
    }
    if (mark != NULL) {
        *mark = '\0';
    }
}

/* The next one after `at`, without its origin; NULL at the end. `e` keeps the section. */
static const char *next_entry(const char *at, struct entry *e)
{
    while (*at != '\0') {
        size_t bytes = strcspn(at, "\n");
        const char *line = at;
        const char *equals = memmem(line, bytes, " = ", 3);
        at += bytes + (line[bytes] == '\n' ? 1 : 0);
        if (line[0] == '[') {
            (void)snprintf(e->section, sizeof e->section, "%.*s", (int)(bytes > 2 ? bytes - 2 : 0),
                           line + 1);
        } else if (equals != NULL) {
            (void)snprintf(e->key, sizeof e->key, "%.*s", (int)(equals - line), line);
            (void)snprintf(e->value, sizeof e->value, "%.*s",
                           (int)(bytes - (size_t)(equals - line) - 3), equals + 3);
            cut_origin(e->value);
            return at;
        }
    }
    return NULL;
}

static bool find_entry(const char *text, const struct entry *wanted, struct entry *out)
{
    *out = (struct entry){.section = ""};
    for (const char *at = next_entry(text, out); at != NULL; at = next_entry(at, out)) {
        if (strcmp(out->section, wanted->section) == 0 && strcmp(out->key, wanted->key) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t tell_values(const char *was, const char *is, bool both, FILE *out)
{
    struct entry e = {.section = ""};
    struct entry other;
    uint32_t count = 0;
    for (const char *at = next_entry(is, &e); at != NULL; at = next_entry(at, &e)) {
        bool found = find_entry(was, &e, &other);
        if (found && (!both || strcmp(e.value, other.value) == 0)) {
            continue;
        }
        (void)fprintf(out, "  [%s] %s: ", e.section, e.key);
        if (found) {
            (void)fprintf(out, "was %s, is %s\n", other.value, e.value);
        } else {
            (void)fprintf(out, "%s %s\n", both ? "was not set, is" : "is not set, was", e.value);
        }
        count++;
    }
    return count;
}

static uint32_t tell_text(const char *what, const char *was, const char *is, FILE *out)
{
    if (strcmp(was, is) == 0) {
        return 0;
    }
    (void)fprintf(out, "  %s: was %s, is %s\n", what, was, is);
    return 1;
}

static uint32_t tell_cores(const struct run_host *was, const struct run_host *is, FILE *out)
{
    double more = is->host.usable_cores - was->host.usable_cores;
    if (was->host.cores_count == is->host.cores_count && more < 0.01 && more > -0.01) {
        return 0;
    }
    (void)fprintf(out, "  CPUs: were %u (%.2f usable), are %u (%.2f usable)\n",
                  was->host.cores_count, was->host.usable_cores, is->host.cores_count,
                  is->host.usable_cores);
    return 1;
}

/* Tools that are asked for again; not asked for, they are those of the session. */
static uint32_t tell_tools(const struct run_host *was, const struct run_host *is, FILE *out)
{
    if (is->compat_tools == 0 || is->compat_tools == was->compat_tools) {
        return 0;
    }
    (void)fprintf(out, "  --compat: other tools than before\n");
    return 1;
}

static uint32_t tell_all(const struct session_head *was, const char *config,
                         const struct scenario *scenario, const struct run_host *host, FILE *out)
{
    char *now = config_text(scenario);
    uint32_t count = 0;
    if (now != NULL) {
        count += tell_values(config, now, true, out);
        count += tell_values(now, config, false, out);
    }
    free(now);
    if (count == 0 && was->plan_hash != hash_plan(scenario)) {
        (void)fprintf(out, "  cells: were others (%u runs, now %u), as with another --only\n",
                      was->runs_count, scenario->runs_count);
        count++;
    }
    if (count == 0 && was->traces_hash != hash_traces(scenario)) {
        (void)fprintf(out, "  trace: its content was another\n");
        count++;
    }
    count += tell_tools(&was->host, host, out);
    count += tell_text("program", was->host.git_rev, host->git_rev, out);
    count += tell_text("host", was->host.host.hostname, host->host.hostname, out);
    count += tell_text("kernel", was->host.host.kernel, host->host.kernel, out);
    count += tell_text("CPU", was->host.host.cpu_model, host->host.cpu_model, out);
    return count + tell_cores(&was->host, host, out);
}

/* The caller frees *config, the text of the session's values. */
static enum status read_session(const char *folder, struct session_head *head, char **config,
                                struct error *error)
{
    char path[RECORD_PATH_BYTES];
    unsigned char *data = NULL;
    size_t bytes = 0;
    name_file(folder, path);
    TRY(record_file_read(path, &session_kind, &data, &bytes, error));
    if (bytes <= sizeof *head) {
        free(data);
        return error_set(error, STATUS_INVALID, "%s: damaged", path);
    }
    size_t text_bytes = bytes - sizeof *head;
    char *text = calloc(text_bytes + 1, 1); /* what is read need not end with a NUL */
    if (text != NULL) {
        memcpy(head, data, sizeof *head);
        memcpy(text, data + sizeof *head, text_bytes);
    }
    free(data);
    *config = text;
    return text != NULL ? STATUS_OK
                        : error_set(error, STATUS_NOMEM, "no memory for the record of a session");
}

enum status record_session(const char *folder, const struct scenario *scenario,
                           const struct run_host *host, struct run_host *out, FILE *differences,
                           struct error *error)
{
    struct session_head head;
    char *config = NULL;
    TRY(read_session(folder, &head, &config, error));
    uint32_t count = tell_all(&head, config, scenario, host, differences);
    free(config);
    if (count > 0) {
        return error_set(error, STATUS_INVALID, "%s: its runs were of another configuration",
                         folder);
    }
    *out = head.host;
    return STATUS_OK;
}

/* ---- to read one ---- */

enum status record_about_read(const char *folder, const char *git_rev, struct record_about *out,
                              struct error *error)
{
    struct session_head head;
    char *config = NULL;
    TRY(read_session(folder, &head, &config, error));
    if (strcmp(head.host.git_rev, git_rev) != 0) {
        free(config);
        return error_set(error, STATUS_INVALID,
                         "%s: written by revision %s of this program and read by that one only; "
                         "this is %s",
                         folder, head.host.git_rev, git_rev);
    }
    *out = (struct record_about){.host = head.host, .config = config, .plan_hash = head.plan_hash};
    return STATUS_OK;
}

bool record_has_plan(const struct record_about *about, const struct scenario *scenario)
{
    return about->plan_hash == hash_plan(scenario);
}
