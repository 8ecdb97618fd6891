/*
 * value_foreign.c - the values that say which server of others is measured and where it is counted
 * (value.h). Pure functions: whether anybody answers there is asked when a run begins.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/scenario/nearest.h"
#include "harness/scenario/value.h"

enum {
    HINT_BYTES = 128,
    PART_BYTES = 160
};

#define EVERY_LEAST_NS ((int64_t)100000000)

static const char *const launch_words[] = {"graph", "eager"};

enum status value_launch(const char *text, const char *choices, struct option_server *out,
                         struct error *error)
{
    struct nearest nearest = {.word = text};
    char hint[HINT_BYTES];
    for (uint32_t i = 0; i < sizeof launch_words / sizeof launch_words[0]; i++) {
        if (strcmp(text, launch_words[i]) == 0) {
            out->topology.launch = i;
            out->foreign.command[0] = '\0';
            return STATUS_OK;
        }
        nearest_offer(&nearest, launch_words[i]);
    }
    if (!option_is_command(text)) {
        return error_set(error, STATUS_INVALID,
                         "unknown value '%.40s'%s (one of %s, or a command line: it has a blank "
                         "or a '/')",
                         text, nearest_hint(&nearest, hint, sizeof hint), choices);
    }
    if (strlen(text) >= sizeof out->foreign.command) {
        return error_set(error, STATUS_INVALID, "longer than %zu characters",
                         sizeof out->foreign.command - 1);
    }
    (void)snprintf(out->foreign.command, sizeof out->foreign.command, "%s", text);
    return STATUS_OK;
}

enum status value_url(const char *text, struct scenario_address *out, struct error *error)
{
    static const char scheme[] = "http://";
    struct scenario_address a = {.port = 80};
    const char *host = text + sizeof scheme - 1;
    char *end = NULL;
    if (strncmp(text, scheme, sizeof scheme - 1) != 0) {
        return error_set(error, STATUS_INVALID, "'%.60s' is no URL: write http://127.0.0.1:8000",
                         text);
    }
    size_t bytes = strcspn(host, ":/");
    const char *rest = host + bytes;
    if (*rest == ':') {
        unsigned long port = strtoul(rest + 1, &end, 10);
        bool digit = rest[1] >= '0' && rest[1] <= '9';
        a.port = digit && port < 65536 ? (uint32_t)port : 0;
        rest = end;
    }
    if (bytes == 0 || bytes >= sizeof a.host || a.port == 0 ||
        (*rest != '\0' && strcmp(rest, "/") != 0)) {
        return error_set(error, STATUS_INVALID,
                         "'%.60s' is no host and port: write http://127.0.0.1:8000, without a path",
                         text);
    }
    memcpy(a.host, host, bytes);
    *out = a;
    return STATUS_OK;
}

/* The i-th part of "a, b", without blanks round it; false past the end. */
static bool take_part(const char **at, char out[PART_BYTES])
{
    if (*at == NULL) {
        return false;
    }
    *at += strspn(*at, " \t");
    size_t bytes = strcspn(*at, ",");
    const char *next = (*at)[bytes] == ',' ? *at + bytes + 1 : NULL;
    while (bytes > 0 && ((*at)[bytes - 1] == ' ' || (*at)[bytes - 1] == '\t')) {
        bytes--;
    }
    (void)snprintf(out, PART_BYTES, "%.*s", (int)(bytes < PART_BYTES ? bytes : PART_BYTES - 1),
                   *at);
    *at = next;
    return true;
}

static enum status take_prometheus(const char *part, struct scenario_counters *out,
                                   struct error *error)
{
    char page[PART_BYTES];
    char every[PART_BYTES];
    int used = 0;
    if (sscanf(part, "prometheus %159s every %159s%n", page, every, &used) != 2 ||
        part[used] != '\0' || page[0] != '/' || strlen(page) >= sizeof out->prometheus) {
        return error_set(error, STATUS_INVALID, "'%.60s': write prometheus /metrics every 1s",
                         part);
    }
    TRY(value_time(every, &out->every_ns, error));
    if (out->every_ns < EVERY_LEAST_NS) {
        return error_set(error, STATUS_INVALID, "every %.40s: want 100ms or more", every);
    }
    (void)snprintf(out->prometheus, sizeof out->prometheus, "%.63s", page);
    return STATUS_OK;
}

enum status value_counters(const char *text, struct scenario_counters *out, struct error *error)
{
    struct scenario_counters c = {.given = true};
    char part[PART_BYTES];
    char hint[HINT_BYTES];
    for (const char *at = text; take_part(&at, part);) {
        struct nearest nearest = {.word = part};
        nearest_offer(&nearest, "proc");
        nearest_offer(&nearest, "prometheus");
        bool proc = strcmp(part, "proc") == 0;
        bool prometheus = strncmp(part, "prometheus", strlen("prometheus")) == 0;
        if ((proc && c.proc) || (prometheus && c.prometheus[0] != '\0')) {
            return error_set(error, STATUS_INVALID, "'%.60s' is one too many", part);
        }
        if (proc) {
            c.proc = true;
        } else if (prometheus) {
            TRY(take_prometheus(part, &c, error));
        } else {
            return error_set(error, STATUS_INVALID,
                             "unknown '%.60s'%s (any of proc, prometheus /metrics every 1s)", part,
                             nearest_hint(&nearest, hint, sizeof hint));
        }
    }
    *out = c;
    return STATUS_OK;
}

enum status value_title(const char *text, char *out, size_t cap, struct error *error)
{
    static const char word[] = "title ";
    const char *pattern = text + sizeof word - 1;
    if (strncmp(text, word, sizeof word - 1) != 0 || pattern[strspn(pattern, " ")] == '\0') {
        return error_set(error, STATUS_INVALID, "'%.60s': write title VLLM::APIServer*", text);
    }
    pattern += strspn(pattern, " ");
    if (strlen(pattern) >= cap) {
        return error_set(error, STATUS_INVALID, "longer than %zu characters", cap - 1);
    }
    memset(out, 0, cap);
    (void)snprintf(out, cap, "%s", pattern);
    return STATUS_OK;
}
