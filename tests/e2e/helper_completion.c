/*
 * helper_completion.c - see helper_http.h: what an answer of the completion endpoints says, and
 * what /metrics counts.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper_http.h"

static struct json_object *member(struct json_object *object, const char *name)
{
    struct json_object *value = NULL;
    (void)json_object_object_get_ex(object, name, &value);
    return value;
}

static void take_text(struct completion *c, struct json_object *value)
{
    if (value == NULL || !json_object_is_type(value, json_type_string)) {
        return;
    }
    size_t bytes = (size_t)json_object_get_string_len(value);
    if (c->text_bytes + bytes >= sizeof c->text) {
        c->malformed = true;
        return;
    }
    memcpy(c->text + c->text_bytes, json_object_get_string(value), bytes);
    c->text_bytes += bytes;
    c->text[c->text_bytes] = '\0';
}

static void take_name(char *out, size_t cap, struct json_object *value)
{
    if (value != NULL) {
        (void)snprintf(out, cap, "%s", json_object_get_string(value));
    }
}

/* A message of a chat answer, or a delta of a chat stream. */
static void take_message(struct completion *c, struct json_object *message)
{
    if (message != NULL) {
        take_name(c->role, sizeof c->role, member(message, "role"));
        take_text(c, member(message, "content"));
    }
}

static void take_choice(struct completion *c, struct json_object *choice)
{
    struct json_object *index = member(choice, "index");
    c->malformed |= index == NULL || json_object_get_int(index) != 0;
    take_text(c, member(choice, "text"));
    take_message(c, member(choice, "message"));
    take_message(c, member(choice, "delta"));
    take_name(c->finish, sizeof c->finish, member(choice, "finish_reason"));
    take_name(c->stop_reason, sizeof c->stop_reason, member(choice, "stop_reason"));
}

static void take_usage(struct completion *c, struct json_object *usage)
{
    if (usage == NULL) {
        return;
    }
    c->has_usage = true;
    c->usage_events_count++;
    c->prompt_tokens = json_object_get_int64(member(usage, "prompt_tokens"));
    c->completion_tokens = json_object_get_int64(member(usage, "completion_tokens"));
    c->total_tokens = json_object_get_int64(member(usage, "total_tokens"));
}

static void take_object(struct completion *c, const char *text, size_t bytes)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *root = json_tokener_parse_ex(tokener, text, (int)bytes);
    json_tokener_free(tokener);
    if (root == NULL || !json_object_is_type(root, json_type_object)) {
        c->malformed = true;
        (void)json_object_put(root);
        return;
    }
    struct json_object *error = member(root, "error");
    struct json_object *choices = member(root, "choices");
    if (error != NULL) {
        take_name(c->error, sizeof c->error, member(error, "message"));
        take_name(c->error_type, sizeof c->error_type, member(error, "type"));
        c->error_code = json_object_get_int64(member(error, "code"));
    } else if (choices == NULL || !json_object_is_type(choices, json_type_array)) {
        c->malformed = true;
    }
    for (size_t i = 0; choices != NULL && i < json_object_array_length(choices); i++) {
        take_choice(c, json_object_array_get_idx(choices, i));
    }
    take_name(c->object, sizeof c->object, member(root, "object"));
    take_name(c->id, sizeof c->id, member(root, "id"));
    take_usage(c, member(root, "usage"));
    (void)json_object_put(root);
}

static void take_events(struct completion *c, const char *text)
{
    for (const char *at = text; *at != '\0';) {
        const char *end = strstr(at, "\n\n");
        if (end == NULL || strncmp(at, "data: ", 6) != 0) {
            c->malformed = true; /* a cut stream ends here too */
            return;
        }
        c->malformed |= c->done; /* nothing may follow [DONE] */
        size_t bytes = (size_t)(end - at) - 6;
        if (bytes == 6 && strncmp(at + 6, "[DONE]", 6) == 0) {
            c->done = true;
        } else {
            c->events_count++;
            take_object(c, at + 6, bytes);
        }
        at = end + 2;
    }
}

void completion_read(const struct answer *a, struct completion *out)
{
    *out = (struct completion){.status = a->status, .api_server = -1};
    if (a->head == NULL || a->body == NULL) {
        return;
    }
    const char *server = answer_header(a, "X-Api-Server");
    out->api_server = server[0] != '\0' ? atoi(server) : -1;
    if (strstr(answer_header(a, "Content-Type"), "text/event-stream") != NULL) {
        take_events(out, a->body);
    } else {
        take_object(out, a->body, a->body_bytes);
    }
}

void completion_post(uint32_t port, const char *path, const char *json, struct completion *out)
{
    struct answer a = http_post(port, path, json);
    completion_read(&a, out);
    answer_free(&a);
}

double metric_sum(const char *text, const char *name, const char *label)
{
    double sum = -1;
    size_t bytes = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n');
        const char *space = end != NULL ? memrchr(line, ' ', (size_t)(end - line)) : NULL;
        bool named = strncmp(line, name, bytes) == 0 && (line[bytes] == '{' || line[bytes] == ' ');
        if (named && space != NULL &&
            (label[0] == '\0' ||
             memmem(line, (size_t)(space - line), label, strlen(label)) != NULL)) {
            sum = (sum < 0 ? 0 : sum) + strtod(space + 1, NULL);
        }
        line = end != NULL ? end + 1 : NULL;
    }
    return sum;
}
