/*
 * openai_parse.c - request bodies to struct openai_request: grammar (json-c, strict), types,
 * ranges, and the refusal of what this server cannot honour. Driven by the API server, once for
 * each request. It knows neither the model nor its limits; those are openai_validate.c's.
 */
#include <json-c/json.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/http/openai.h"

enum {
    COMPLETION_TOKENS_DEFAULT = 16,
    TOKEN_IDS_KEPT = 1 << 16, /* room that a connection keeps for its next prompt */
};

/* What is read, and where a refusal goes. */
struct reader {
    struct openai_request *request;
    struct openai_problem *problem;
    struct json_object *object;
};

#define REFUSE(r, param, ...) \
    (openai_problem_set((r)->problem, 400, (param), __VA_ARGS__), STATUS_INVALID)

static enum status out_of_memory(const struct reader *r)
{
    openai_problem_set(r->problem, 500, NULL, "The server is out of memory.");
    return STATUS_NOMEM;
}

static const char *type_text(struct json_object *value)
{
    return json_type_to_name(json_object_get_type(value));
}

/* The member of the object being read; NULL when it is absent or null, which are the same. */
static struct json_object *member(const struct reader *r, const char *name)
{
    struct json_object *value = NULL;
    (void)json_object_object_get_ex(r->object, name, &value);
    return value;
}

static enum status read_bool(const struct reader *r, const char *name, bool *out)
{
    struct json_object *value = member(r, name);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_object_is_type(value, json_type_boolean)) {
        return REFUSE(r, name, "%s must be a boolean, got %s.", name, type_text(value));
    }
    *out = json_object_get_boolean(value) != 0;
    return STATUS_OK;
}

/* A string without NUL; untouched when absent. */
static enum status read_string(const struct reader *r, const char *name, const char **out)
{
    struct json_object *value = member(r, name);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_object_is_type(value, json_type_string)) {
        return REFUSE(r, name, "%s must be a string, got %s.", name, type_text(value));
    }
    const char *text = json_object_get_string(value);
    if (strlen(text) != (size_t)json_object_get_string_len(value)) {
        return REFUSE(r, name, "%s must not contain NUL characters.", name);
    }
    *out = text;
    return STATUS_OK;
}

/* An integer, also when it is written with a fraction of zero. False: `value` is none, or beyond 64
 * bits. */
static bool integer_value(struct json_object *value, int64_t *out)
{
    if (json_object_is_type(value, json_type_int)) {
        *out = json_object_get_int64(value);
        return *out < INT64_MAX || json_object_get_uint64(value) <= INT64_MAX;
    }
    if (!json_object_is_type(value, json_type_double)) {
        return false;
    }
    double number = json_object_get_double(value);
    if (!(number >= -9007199254740992.0 && number <= 9007199254740992.0)) {
        return false;
    }
    *out = (int64_t)number;
    return !(number < (double)*out) && !(number > (double)*out);
}

/* *present says whether the member is there; *out is untouched when not. */
static enum status read_integer(const struct reader *r, const char *name, int64_t *out,
                                bool *present)
{
    struct json_object *value = member(r, name);
    *present = value != NULL;
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!integer_value(value, out)) {
        return REFUSE(r, name, "%s must be an integer, got %s.", name,
                      json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    }
    return STATUS_OK;
}

struct number_rule {
    const char *name;
    double low;
    double high;
    bool low_open; /* `low` itself is not allowed */
    const char *want;
};

/* A finite number within the rule's bounds; untouched when absent. */
static enum status read_number(const struct reader *r, const struct number_rule *rule, double *out)
{
    struct json_object *value = member(r, rule->name);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_object_is_type(value, json_type_int) &&
        !json_object_is_type(value, json_type_double)) {
        return REFUSE(r, rule->name, "%s must be a number, got %s.", rule->name, type_text(value));
    }
    double number = json_object_get_double(value);
    bool low_ok = rule->low_open ? number > rule->low : number >= rule->low;
    if (!low_ok || !(number <= rule->high)) {
        return REFUSE(r, rule->name, "%s must be %s, got %s.", rule->name, rule->want,
                      json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    }
    *out = number;
    return STATUS_OK;
}

static enum status read_sampling_numbers(const struct reader *r)
{
    static const struct number_rule temperature = {"temperature", 0, 1e9, false, "non-negative"};
    static const struct number_rule top_p = {"top_p", 0, 1, true, "in (0, 1]"};
    static const struct number_rule min_p = {"min_p", 0, 1, false, "in [0, 1]"};
    static const struct number_rule presence = {"presence_penalty", -2, 2, false, "in [-2, 2]"};
    static const struct number_rule frequency = {"frequency_penalty", -2, 2, false, "in [-2, 2]"};
    static const struct number_rule repetition = {"repetition_penalty", 0, 1e9, true,
                                                  "greater than zero"};
    struct openai_request *q = r->request;
    q->temperature = 1;
    q->top_p = 1;
    q->repetition_penalty = 1;
    TRY(read_number(r, &temperature, &q->temperature));
    TRY(read_number(r, &top_p, &q->top_p));
    TRY(read_number(r, &min_p, &q->min_p));
    TRY(read_number(r, &presence, &q->presence_penalty));
    TRY(read_number(r, &frequency, &q->frequency_penalty));
    return read_number(r, &repetition, &q->repetition_penalty);
}

static enum status read_max_tokens(const struct reader *r)
{
    struct openai_request *q = r->request;
    bool chat = q->kind == OPENAI_CHAT;
    const char *name =
        chat && member(r, "max_completion_tokens") != NULL ? "max_completion_tokens" : "max_tokens";
    int64_t value = 0;
    TRY(read_integer(r, name, &value, &q->has_max_tokens));
    if (!q->has_max_tokens) {
        /* null asks for all that fits, also where leaving it out means a small number */
        bool all = chat || json_object_object_get_ex(r->object, "max_tokens", NULL);
        q->max_tokens = all ? UINT32_MAX : COMPLETION_TOKENS_DEFAULT;
        return STATUS_OK;
    }
    if (value < 1) {
        return REFUSE(r, name, "%s must be at least 1, got %lld.", name, (long long)value);
    }
    q->max_tokens = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
    return STATUS_OK;
}

/* best_of would generate more choices than are returned. */
static enum status read_choices_count(const struct reader *r)
{
    bool present;
    int64_t n = 1;
    TRY(read_integer(r, "n", &n, &present));
    if (n < 1 || n > OPENAI_CHOICES_MAX) {
        return REFUSE(r, "n", "n must be between 1 and %d, got %lld.", OPENAI_CHOICES_MAX,
                      (long long)n);
    }
    int64_t best_of = n;
    TRY(read_integer(r, "best_of", &best_of, &present));
    if (best_of != n) {
        return REFUSE(r, "best_of", "best_of must be equal to n, got %lld.", (long long)best_of);
    }
    r->request->choices_count = (uint32_t)n;
    return STATUS_OK;
}

/* As vLLM's: equal choices are of no use. */
static enum status check_greedy(const struct reader *r)
{
    const double greedy_below = 1e-5;
    if (r->request->temperature < greedy_below && r->request->choices_count > 1) {
        return REFUSE(r, "n", "n must be 1 when using greedy sampling, got %u.",
                      r->request->choices_count);
    }
    return STATUS_OK;
}

static enum status read_sampling_integers(const struct reader *r)
{
    struct openai_request *q = r->request;
    bool present;
    int64_t value = 0;
    TRY(read_max_tokens(r));
    TRY(read_integer(r, "min_tokens", &value, &present));
    if (present && (value < 0 || value > UINT32_MAX)) {
        return REFUSE(r, "min_tokens", "min_tokens must be greater than or equal to 0, got %lld.",
                      (long long)value);
    }
    q->min_tokens = present ? (uint32_t)value : 0;
    TRY(read_integer(r, "top_k", &value, &present));
    if (present && (value < -1 || value > INT32_MAX)) {
        return REFUSE(r, "top_k", "top_k must be 0 (disable), or at least 1, got %lld.",
                      (long long)value);
    }
    q->top_k = present && value > 0 ? (int32_t)value : 0;
    TRY(read_integer(r, "seed", &q->seed, &q->has_seed));
    TRY(read_integer(r, "priority", &value, &present));
    if (present && (value < INT32_MIN || value > INT32_MAX)) {
        return REFUSE(r, "priority", "priority must fit 32 bits, got %lld.", (long long)value);
    }
    q->priority = present ? (int32_t)value : 0;
    return read_choices_count(r);
}

static enum status add_stop(const struct reader *r, struct json_object *value)
{
    struct openai_request *q = r->request;
    if (!json_object_is_type(value, json_type_string)) {
        return REFUSE(r, "stop", "stop must be a string or a list of strings, got %s.",
                      value == NULL ? "null" : type_text(value));
    }
    const char *text = json_object_get_string(value);
    size_t bytes = (size_t)json_object_get_string_len(value);
    if (bytes == 0) {
        return REFUSE(r, "stop", "stop cannot contain an empty string.");
    }
    if (strlen(text) != bytes) {
        return REFUSE(r, "stop", "stop must not contain NUL characters.");
    }
    if (bytes >= OPENAI_STOP_BYTES_MAX) {
        return REFUSE(r, "stop", "stop strings have at most %d bytes, got %zu.",
                      OPENAI_STOP_BYTES_MAX - 1, bytes);
    }
    if (q->stop_count == OPENAI_STOP_STRINGS_MAX) {
        return REFUSE(r, "stop", "stop has at most %d strings.", OPENAI_STOP_STRINGS_MAX);
    }
    q->stop[q->stop_count] = text;
    q->stop_count++;
    return STATUS_OK;
}

static enum status read_stop(const struct reader *r)
{
    struct json_object *value = member(r, "stop");
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_object_is_type(value, json_type_array)) {
        return add_stop(r, value);
    }
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        TRY(add_stop(r, json_object_array_get_idx(value, i)));
    }
    return STATUS_OK;
}

static enum status read_stop_token_ids(const struct reader *r)
{
    struct openai_request *q = r->request;
    static const char name[] = "stop_token_ids";
    struct json_object *value = member(r, name);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_object_is_type(value, json_type_array)) {
        return REFUSE(r, name, "%s must be a list of integers, got %s.", name, type_text(value));
    }
    size_t count = json_object_array_length(value);
    if (count > OPENAI_STOP_TOKENS_MAX) {
        return REFUSE(r, name, "%s has at most %d ids, got %zu.", name, OPENAI_STOP_TOKENS_MAX,
                      count);
    }
    for (size_t i = 0; i < count; i++) {
        int64_t id = 0;
        if (!integer_value(json_object_array_get_idx(value, i), &id) || id < 0 || id > INT32_MAX) {
            return REFUSE(r, name, "%s must hold token ids, element %zu is none.", name, i);
        }
        q->stop_token_ids[i] = (uint32_t)id;
    }
    q->stop_token_ids_count = (uint32_t)count;
    return STATUS_OK;
}

static enum status read_stream(const struct reader *r)
{
    struct openai_request *q = r->request;
    TRY(read_bool(r, "stream", &q->stream));
    struct json_object *options = member(r, "stream_options");
    if (options == NULL) {
        return STATUS_OK;
    }
    if (!q->stream) {
        return REFUSE(r, "stream_options",
                      "Stream options can only be defined when `stream=True`.");
    }
    if (!json_object_is_type(options, json_type_object)) {
        return REFUSE(r, "stream_options", "stream_options must be an object, got %s.",
                      type_text(options));
    }
    struct reader inner = {q, r->problem, options};
    q->include_usage = true; /* the default of both where stream_options is given */
    TRY(read_bool(&inner, "include_usage", &q->include_usage));
    return read_bool(&inner, "continuous_usage_stats", &q->continuous_usage);
}

/* false, 0, "", [] and {} ask for nothing. */
static bool asks_for_something(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return false;
    case json_type_boolean:
    case json_type_int:
    case json_type_double:
        return json_object_get_boolean(value) != 0;
    case json_type_string:
        return json_object_get_string_len(value) > 0;
    case json_type_array:
        return json_object_array_length(value) > 0;
    case json_type_object:
        return json_object_object_length(value) > 0;
    default:
        return true;
    }
}

/* Fields of the API that change the answer in ways this server cannot give. */
static enum status refuse_unsupported(const struct reader *r)
{
    static const char *const names[] = {
        "echo",
        "logprobs",
        "top_logprobs",
        "prompt_logprobs",
        "suffix",
        "logit_bias",
        "use_beam_search",
        "tools",
        "functions",
        "structured_outputs",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "prompt_embeds",
        "truncate_prompt_tokens",
        "allowed_token_ids",
        "bad_words",
        "continue_final_message",
        "chat_template",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "kv_transfer_params",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct json_object *value = member(r, names[i]);
        /* zero log probabilities of a completion still are those of the chosen tokens */
        bool logprobs = value != NULL && strstr(names[i], "logprobs") != NULL &&
                        strcmp(names[i], "top_logprobs") != 0 &&
                        json_object_is_type(value, json_type_int);
        if (logprobs || asks_for_something(value)) {
            return REFUSE(r, names[i], "%s is not supported by this server.", names[i]);
        }
    }
    struct json_object *format = member(r, "response_format");
    struct json_object *type = NULL;
    if (format == NULL) {
        return STATUS_OK;
    }
    if (!json_object_is_type(format, json_type_object) ||
        !json_object_object_get_ex(format, "type", &type) ||
        !json_object_is_type(type, json_type_string) ||
        strcmp(json_object_get_string(type), "text") != 0) {
        return REFUSE(r, "response_format",
                      "response_format is not supported by this server, except type 'text'.");
    }
    return STATUS_OK;
}

static enum status read_token_ids(const struct reader *r, struct json_object *array)
{
    struct openai_request *q = r->request;
    size_t count = json_object_array_length(array);
    if (count > UINT32_MAX) {
        return REFUSE(r, "prompt", "prompt has too many token ids.");
    }
    if (count > q->token_ids_cap) {
        uint32_t *ids = realloc(q->token_ids_memory, count * sizeof *ids);
        if (ids == NULL) {
            return out_of_memory(r);
        }
        q->token_ids_memory = ids;
        q->token_ids_cap = count;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t id = 0;
        if (!integer_value(json_object_array_get_idx(array, i), &id) || id < 0 || id > INT32_MAX) {
            return REFUSE(r, "prompt", "prompt must hold token ids, element %zu is none.", i);
        }
        q->token_ids_memory[i] = (uint32_t)id;
    }
    q->prompt_token_ids = q->token_ids_memory;
    q->prompt_tokens_count = (uint32_t)count;
    return STATUS_OK;
}

static enum status read_prompt_text(const struct reader *r, struct json_object *value)
{
    struct openai_request *q = r->request;
    q->prompt_text = json_object_get_string(value);
    q->prompt_text_bytes = (size_t)json_object_get_string_len(value);
    if (strlen(q->prompt_text) != q->prompt_text_bytes) {
        return REFUSE(r, "prompt", "prompt must not contain NUL characters.");
    }
    return STATUS_OK;
}

static enum status read_prompt(const struct reader *r)
{
    struct json_object *value = member(r, "prompt");
    if (json_object_is_type(value, json_type_array) && json_object_array_length(value) > 0) {
        struct json_object *first = json_object_array_get_idx(value, 0);
        bool list = json_object_is_type(first, json_type_array) ||
                    json_object_is_type(first, json_type_string);
        if (list && json_object_array_length(value) > 1) {
            return REFUSE(r, "prompt",
                          "prompt must be one prompt: this server takes one a request, got %zu.",
                          (size_t)json_object_array_length(value));
        }
        value = list ? first : value;
    }
    if (!asks_for_something(value)) {
        return REFUSE(r, "prompt", "prompt must be provided and non-empty.");
    }
    if (json_object_is_type(value, json_type_string)) {
        return read_prompt_text(r, value);
    }
    if (json_object_is_type(value, json_type_array)) {
        return read_token_ids(r, value);
    }
    return REFUSE(r, "prompt", "prompt must be a string or a list of token ids, got %s.",
                  type_text(value));
}

/* Joins the texts of a content list with line ends, as vLLM does, and puts the string in the list's
 * place. */
static enum status join_parts(const struct reader *r, struct json_object *message,
                              struct json_object *parts)
{
    struct http_buffer text = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_object_array_length(parts) && status == STATUS_OK; i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        struct json_object *type = NULL;
        struct json_object *value = NULL;
        bool is_text = json_object_is_type(part, json_type_object) &&
                       json_object_object_get_ex(part, "type", &type) &&
                       json_object_is_type(type, json_type_string) &&
                       strcmp(json_object_get_string(type), "text") == 0 &&
                       json_object_object_get_ex(part, "text", &value) &&
                       json_object_is_type(value, json_type_string);
        if (!is_text) {
            status =
                REFUSE(r, "messages", "messages: only content parts of type 'text' are supported.");
            break;
        }
        http_buffer_append(&text, "\n", i > 0 ? 1 : 0);
        http_buffer_append(&text, json_object_get_string(value),
                           (size_t)json_object_get_string_len(value));
    }
    if (status == STATUS_OK && (text.failed || text.bytes > INT_MAX)) {
        status = out_of_memory(r);
    }
    if (status == STATUS_OK) {
        struct json_object *joined =
            json_object_new_string_len(text.data == NULL ? "" : text.data, (int)text.bytes);
        status = joined == NULL || json_object_object_add(message, "content", joined) != 0
                     ? out_of_memory(r)
                     : STATUS_OK;
    }
    http_buffer_free(&text);
    return status;
}

static enum status read_message(const struct reader *r, struct json_object *message,
                                const char **role, const char **content)
{
    struct reader inner = {r->request, r->problem, message};
    *role = NULL;
    *content = NULL;
    if (!json_object_is_type(message, json_type_object)) {
        return REFUSE(r, "messages", "messages must hold objects.");
    }
    struct json_object *parts = member(&inner, "content");
    if (json_object_is_type(parts, json_type_array)) {
        TRY(join_parts(r, message, parts));
    }
    TRY(read_string(&inner, "role", role));
    TRY(read_string(&inner, "content", content));
    if (*role == NULL || **role == '\0') {
        return REFUSE(r, "messages", "messages: each message must have a role.");
    }
    if (*content == NULL && strcmp(*role, "assistant") != 0) {
        return REFUSE(r, "messages", "messages: a message of role '%s' must have content.", *role);
    }
    if (*content == NULL) {
        *content = "";
    }
    return STATUS_OK;
}

static enum status read_messages(const struct reader *r)
{
    struct openai_request *q = r->request;
    struct json_object *messages = member(r, "messages");
    q->add_generation_prompt = true;
    TRY(read_bool(r, "add_generation_prompt", &q->add_generation_prompt));
    if (!json_object_is_type(messages, json_type_array) ||
        json_object_array_length(messages) == 0) {
        return REFUSE(r, "messages", "messages must be a non-empty list of messages.");
    }
    size_t count = json_object_array_length(messages);
    if (count > q->messages_cap) {
        const char **memory =
            (const char **)realloc((void *)q->messages_memory, 2 * count * sizeof *memory);
        if (memory == NULL) {
            return out_of_memory(r);
        }
        q->messages_memory = memory;
        q->messages_cap = count;
    }
    const char **roles = q->messages_memory;
    const char **contents = q->messages_memory + count;
    for (size_t i = 0; i < count; i++) {
        struct json_object *message = json_object_array_get_idx(messages, i);
        TRY(read_message(r, message, &roles[i], &contents[i]));
    }
    q->roles = roles;
    q->contents = contents;
    q->messages_count = (uint32_t)count;
    return STATUS_OK;
}

/* Forgets the last request, not its memory. */
static void request_reset(struct openai_request *request)
{
    struct openai_request kept = *request;
    (void)json_object_put(kept.root);
    *request = (struct openai_request){
        .token_ids_memory = kept.token_ids_memory,
        .token_ids_cap = kept.token_ids_cap,
        .messages_memory = kept.messages_memory,
        .messages_cap = kept.messages_cap,
    };
}

/* The body as one JSON object, nothing behind it but blanks. */
static enum status parse_json(const struct reader *r, const char *body, size_t bytes)
{
    if (bytes == 0 || bytes > INT_MAX || memchr(body, '\0', bytes) != NULL) {
        return REFUSE(r, NULL, "The body is not valid JSON: %s.",
                      bytes == 0        ? "it is empty"
                      : bytes > INT_MAX ? "it is too large"
                                        : "it holds a NUL byte");
    }
    /* json-c has a check of its own, but lets surrogates and overlong forms through */
    if (!http_utf8_valid(body, bytes)) {
        return REFUSE(r, NULL, "The body is not valid JSON: it is not UTF-8.");
    }
    struct json_tokener *tokener = json_tokener_new_ex(OPENAI_DEPTH_MAX + 1);
    if (tokener == NULL) {
        return out_of_memory(r);
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    struct json_object *root = json_tokener_parse_ex(tokener, body, (int)bytes);
    enum json_tokener_error failure = json_tokener_get_error(tokener);
    size_t end = json_tokener_get_parse_end(tokener);
    json_tokener_free(tokener);
    r->request->root = root;
    while (end < bytes && strchr(" \t\r\n", body[end]) != NULL) {
        end++;
    }
    if (failure != json_tokener_success) {
        return REFUSE(r, NULL, "The body is not valid JSON: %s at byte %zu.",
                      failure == json_tokener_continue ? "unexpected end"
                                                       : json_tokener_error_desc(failure),
                      end);
    }
    if (end < bytes) {
        return REFUSE(r, NULL, "The body is not valid JSON: unexpected character at byte %zu.",
                      end);
    }
    if (!json_object_is_type(root, json_type_object)) {
        return REFUSE(r, NULL, "The body must be a JSON object, got %s.", type_text(root));
    }
    return STATUS_OK;
}

enum status openai_parse(enum openai_kind kind, const char *body, size_t bytes,
                         struct openai_request *request, struct openai_problem *problem)
{
    struct reader r = {request, problem, NULL};
    request_reset(request);
    request->kind = kind;
    TRY(parse_json(&r, body, bytes));
    r.object = request->root;
    TRY(read_string(&r, "model", &request->model));
    TRY(kind == OPENAI_CHAT ? read_messages(&r) : read_prompt(&r));
    TRY(read_sampling_integers(&r));
    TRY(read_sampling_numbers(&r));
    TRY(check_greedy(&r));
    TRY(read_stop(&r));
    TRY(read_stop_token_ids(&r));
    TRY(read_stream(&r));
    TRY(read_bool(&r, "ignore_eos", &request->ignore_eos));
    TRY(read_bool(&r, "include_stop_str_in_output", &request->include_stop));
    TRY(read_string(&r, "cache_salt", &request->cache_salt));
    TRY(read_string(&r, "request_id", &request->request_id));
    return refuse_unsupported(&r);
}

void openai_request_release(struct openai_request *request)
{
    (void)json_object_put(request->root);
    request->root = NULL;
    request->model = NULL;
    request->prompt_text = NULL;
    request->prompt_token_ids = NULL;
    request->messages_count = 0;
    request->stop_count = 0;
    request->cache_salt = NULL;
    request->request_id = NULL;
    if (request->token_ids_cap > TOKEN_IDS_KEPT) {
        free(request->token_ids_memory);
        request->token_ids_memory = NULL;
        request->token_ids_cap = 0;
    }
}

void openai_request_free(struct openai_request *request)
{
    (void)json_object_put(request->root);
    free(request->token_ids_memory);
    free((void *)request->messages_memory);
    *request = (struct openai_request){0};
}
