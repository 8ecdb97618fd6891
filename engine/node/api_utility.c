/*
 * api_utility.c - routes that ask all engine cores to do something (vLLM's development routes):
 * pause, resume, caches. Driven by api_connection.c for requests and by api_server.c for replies.
 *
 * A call goes to every engine core; its connection waits until all have answered, however long a
 * pause takes. Answers are combined as vLLM's since 2026-08: caches are reset if all were; what
 * must be the same everywhere and is not, is an error; else the first engine core's counts.
 */
#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/node/api_server.h"

enum combination {
    COMBINE_NOTHING, /* no value */
    COMBINE_ALL,     /* true if all are */
    COMBINE_EQUAL,   /* an error if they differ */
};

enum {
    PARAMETERS_MAX = 2
};

/* A parameter of the query and the argument it becomes. */
struct parameter {
    const char *name;
    enum utility_argument_kind kind;
    const char *text; /* default of a string */
    bool boolean;     /* default of a bool */
};

struct api_utility {
    const char *path;
    enum http_verb verb;
    const char *method;
    enum combination combination;
    const char *body; /* with one %s for the combined bool, or none */
    struct parameter parameters[PARAMETERS_MAX];
    uint32_t parameters_count;
};

static const struct api_utility utilities[] = {
    {"/pause",
     HTTP_VERB_POST,
     "pause_scheduler",
     COMBINE_NOTHING,
     "{\"status\":\"paused\"}",
     {{"mode", UTILITY_ARGUMENT_STRING, "abort", false},
      {"clear_cache", UTILITY_ARGUMENT_BOOL, NULL, true}},
     2},
    {"/resume",
     HTTP_VERB_POST,
     "resume_scheduler",
     COMBINE_NOTHING,
     "{\"status\":\"resumed\"}",
     {{0}},
     0},
    {"/is_paused",
     HTTP_VERB_GET,
     "is_scheduler_paused",
     COMBINE_EQUAL,
     "{\"is_paused\":%s}",
     {{0}},
     0},
    {"/is_sleeping", HTTP_VERB_GET, "is_sleeping", COMBINE_EQUAL, "{\"is_sleeping\":%s}", {{0}}, 0},
    {"/reset_prefix_cache",
     HTTP_VERB_POST,
     "reset_prefix_cache",
     COMBINE_ALL,
     "{\"success\":%s}",
     {{"reset_running_requests", UTILITY_ARGUMENT_BOOL, NULL, false},
      {"reset_external", UTILITY_ARGUMENT_BOOL, NULL, false}},
     2},
    {"/reset_mm_cache", HTTP_VERB_POST, "reset_mm_cache", COMBINE_NOTHING, "", {{0}}, 0},
};

/* ---- query ---- */

/* The value of `name` in "a=b&c=d"; NULL if it is not there. Values here need no decoding. */
static const char *query_value(const char *query, const char *name, size_t *bytes)
{
    size_t name_bytes = strlen(name);
    while (*query != '\0') {
        size_t length = strcspn(query, "&");
        if (length > name_bytes && strncmp(query, name, name_bytes) == 0 &&
            query[name_bytes] == '=') {
            *bytes = length - name_bytes - 1;
            return query + name_bytes + 1;
        }
        query += length + (query[length] == '&' ? 1 : 0);
    }
    return NULL;
}

static bool is_word(const char *value, size_t bytes, const char *word)
{
    return strlen(word) == bytes && strncmp(value, word, bytes) == 0;
}

static bool parse_bool(const char *value, size_t bytes, bool *out)
{
    *out = is_word(value, bytes, "true") || is_word(value, bytes, "1");
    return *out || is_word(value, bytes, "false") || is_word(value, bytes, "0");
}

/* Modes are checked here, so that a wrong one is the caller's fault and reaches no engine core. */
static const char *known_mode(const char *value, size_t bytes)
{
    static const char *const modes[] = {"abort", "wait", "keep"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (is_word(value, bytes, modes[i])) {
            return modes[i];
        }
    }
    return NULL;
}

static enum status fill_argument(const struct parameter *p, const char *query,
                                 struct utility_argument *argument, struct openai_problem *problem)
{
    size_t bytes = 0;
    const char *value = query_value(query, p->name, &bytes);
    *argument =
        (struct utility_argument){.kind = p->kind, .string = p->text, .boolean = p->boolean};
    if (value == NULL) {
        return STATUS_OK;
    }
    if (p->kind == UTILITY_ARGUMENT_BOOL) {
        if (!parse_bool(value, bytes, &argument->boolean)) {
            openai_problem_set(problem, 400, p->name, "%s must be true or false.", p->name);
            return STATUS_INVALID;
        }
        return STATUS_OK;
    }
    argument->string = known_mode(value, bytes);
    if (argument->string == NULL) {
        openai_problem_set(problem, 400, p->name, "%s must be abort, wait or keep.", p->name);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

/* ---- call and answer ---- */

static void finish_call(struct connection *c)
{
    struct api_call call = c->call;
    struct openai_problem problem;
    c->call.utility = NULL;
    if (call.failure[0] == '\0' && call.utility->combination == COMBINE_EQUAL &&
        call.all_true != call.any_true) {
        (void)snprintf(call.failure, sizeof call.failure, "%s: engine cores differ",
                       call.utility->method);
    }
    if (call.failure[0] != '\0') {
        openai_problem_set(&problem, 500, NULL, "%s", call.failure);
        connection_problem(c, &problem);
        return;
    }
    /* The body is the text of the table, its only %s the combined value. */
    const char *body = call.utility->body;
    const char *hole = strstr(body, "%s");
    struct http_buffer text = {0};
    http_buffer_append(&text, body, hole != NULL ? (size_t)(hole - body) : strlen(body));
    if (hole != NULL) {
        http_buffer_text(&text, call.all_true ? "true" : "false");
        http_buffer_text(&text, hole + strlen("%s"));
    }
    connection_respond(c, 200, NULL, text.data != NULL ? text.data : "", text.bytes);
    http_buffer_free(&text);
}

static enum status send_calls(struct connection *c, struct utility_call *call, struct error *error)
{
    struct api_server *s = c->server;
    uint32_t engines = s->engines_count;
    c->call.first_id = s->calls_count + 1;
    s->calls_count += engines;
    for (uint32_t engine = 0; engine < engines; engine++) {
        call->call_id = c->call.first_id + engine;
        wire_buffer_reset(&s->buffer);
        wire_encode_utility(&s->buffer, call);
        TRY(api_send_request(s, s->engines_first + engine, WIRE_UTILITY, error));
    }
    return STATUS_OK;
}

static void begin_call(struct connection *c, const struct api_utility *utility, const char *query)
{
    struct api_server *s = c->server;
    struct openai_problem problem;
    struct error error;
    struct utility_call call = {.client_index = s->client_index,
                                .method = utility->method,
                                .arguments_count = utility->parameters_count};
    if (s->dead || s->stopping) {
        openai_problem_set(&problem, 503, NULL, "%s",
                           s->dead ? "the engine is dead" : "the server is shutting down");
        connection_problem(c, &problem);
        return;
    }
    for (uint32_t i = 0; i < utility->parameters_count; i++) {
        if (fill_argument(&utility->parameters[i], query, &call.arguments[i], &problem) !=
            STATUS_OK) {
            connection_problem(c, &problem);
            return;
        }
    }
    c->call =
        (struct api_call){.utility = utility, .waiting_count = s->engines_count, .all_true = true};
    if (send_calls(c, &call, &error) != STATUS_OK) {
        (void)snprintf(c->call.failure, sizeof c->call.failure, "%.150s", error.text);
        finish_call(c);
    }
}

bool api_utility_route(struct connection *c, const struct http_request *request)
{
    for (size_t i = 0; i < sizeof utilities / sizeof utilities[0]; i++) {
        const struct api_utility *utility = &utilities[i];
        if (strcmp(request->path, utility->path) != 0) {
            continue;
        }
        if (request->verb == utility->verb) {
            begin_call(c, utility, request->query);
            return true;
        }
        struct openai_problem problem;
        openai_problem_set(&problem, 405, NULL, "%s wants %s, not %s", request->path,
                           utility->verb == HTTP_VERB_POST ? "POST" : "GET", request->method);
        connection_problem(c, &problem);
        return true;
    }
    return false;
}

/* Calls are rare: the connections are looked through. NULL: its client is gone. */
static struct connection *waiting_for(struct api_server *s, uint64_t call_id)
{
    uint32_t engines = s->engines_count;
    for (struct connection *c = s->connections; c != NULL; c = c->next) {
        if (!c->closing && c->call.utility != NULL && call_id >= c->call.first_id &&
            call_id - c->call.first_id < engines) {
            return c;
        }
    }
    return NULL;
}

void api_utility_reply(struct api_server *s, const struct utility_reply *reply)
{
    struct connection *c = waiting_for(s, reply->call_id);
    if (c == NULL) {
        return;
    }
    struct api_call *call = &c->call;
    bool value = reply->kind == UTILITY_BOOL && reply->boolean;
    call->all_true = call->all_true && value;
    call->any_true = call->any_true || value;
    if (reply->failure != NULL && call->failure[0] == '\0') {
        (void)snprintf(call->failure, sizeof call->failure, "%s", reply->failure);
    }
    ASSERT(call->waiting_count > 0);
    call->waiting_count--;
    if (call->waiting_count == 0) {
        finish_call(c);
    }
}

void api_utility_fail_all(struct api_server *s)
{
    for (struct connection *c = s->connections; c != NULL; c = c->next) {
        if (!c->closing && c->call.utility != NULL) {
            c->keep_alive = false;
            (void)snprintf(c->call.failure, sizeof c->call.failure, "%s",
                           s->dead ? "the engine is dead" : "the server is shutting down");
            finish_call(c);
        }
    }
}
