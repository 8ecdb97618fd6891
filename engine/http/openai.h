/*
 * openai.h - bodies of the OpenAI-compatible endpoints, as vLLM serves them: requests in, answers
 * and errors out.
 *
 * Order in the API server, for one request:
 *
 *     openai_parse(kind, body, bytes, &request, &problem)  // grammar, types, ranges
 *     openai_check_model(&request, &limits, &problem)      // 404
 *     messages (if any) -> text by the chat template; text (if any) -> ids by the tokenizer
 *     openai_validate(&request, &limits, ids_count, &problem)  // lengths; sets max_tokens
 *
 * A failed call has filled `problem`, which openai_write_error() renders. Unknown fields are
 * ignored; known ones that this server cannot honour are refused, never dropped silently. No I/O,
 * no clock.
 */
#ifndef ENGINE_HTTP_OPENAI_H
#define ENGINE_HTTP_OPENAI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/http/buffer.h"

enum {
    OPENAI_STOP_STRINGS_MAX = 4,
    OPENAI_STOP_BYTES_MAX = 64, /* one stop string, the NUL included */
    OPENAI_STOP_TOKENS_MAX = 16,
    OPENAI_CHOICES_MAX = 128, /* n of one request */
    OPENAI_DEPTH_MAX = 32,
    OPENAI_STOP_TOKEN_NONE = -1,
};

enum openai_kind {
    OPENAI_COMPLETION,
    OPENAI_CHAT
};

/* An answer other than 200. */
struct openai_problem {
    int http_status;
    const char *type;  /* "BadRequestError", "NotFoundError" ...; static */
    const char *param; /* the field at fault, NULL if none; static */
    char message[400];
};

struct json_object;

/* Zeroed before first use; openai_parse() forgets what was in it. Strings live until then. */
struct openai_request {
    enum openai_kind kind;
    const char *model; /* NULL: not given, which means the served one */

    /* The prompt, one of three: text, token ids, or messages for the chat template. */
    const char *prompt_text; /* NUL-terminated, no NUL inside */
    size_t prompt_text_bytes;
    const uint32_t *prompt_token_ids;
    uint32_t prompt_tokens_count;
    const char *const *roles;
    const char *const *contents;
    uint32_t messages_count;
    bool add_generation_prompt;

    bool has_max_tokens; /* asked for; else the default, which openai_validate() clips */
    uint32_t max_tokens;
    uint32_t min_tokens;
    uint32_t choices_count; /* n */
    double temperature;
    double top_p;
    int32_t top_k; /* 0: off */
    double min_p;
    double presence_penalty;
    double frequency_penalty;
    double repetition_penalty;
    bool has_seed;
    int64_t seed;
    uint32_t stop_count;
    const char *stop[OPENAI_STOP_STRINGS_MAX];
    bool include_stop;
    uint32_t stop_token_ids_count;
    uint32_t stop_token_ids[OPENAI_STOP_TOKENS_MAX];
    bool ignore_eos;
    bool stream;
    bool include_usage;
    bool continuous_usage;
    int32_t priority;
    const char *cache_salt; /* NULL: none */
    const char *request_id; /* the vLLM field of the body; NULL: none */

    /* memory, kept between requests */
    struct json_object *root;
    uint32_t *token_ids_memory;
    size_t token_ids_cap;
    const char **messages_memory;
    size_t messages_cap;
};

struct openai_limits {
    const char *model_name;
    uint32_t max_model_len;
    uint32_t vocab_size; /* 0: token ids of a prompt are not checked */
};

/* INVALID: see *problem (always 400, or 500 when memory ran out). */
MUST_CHECK enum status openai_parse(enum openai_kind kind, const char *body, size_t bytes,
                                    struct openai_request *request, struct openai_problem *problem);
/* NOT_FOUND: another model than the served one was asked for (404). */
MUST_CHECK enum status openai_check_model(const struct openai_request *request,
                                          const struct openai_limits *limits,
                                          struct openai_problem *problem);
/* Checks the lengths and sets request->max_tokens. INVALID: see *problem (400). */
MUST_CHECK enum status openai_validate(struct openai_request *request,
                                       const struct openai_limits *limits,
                                       uint32_t prompt_tokens_count,
                                       struct openai_problem *problem);
/* Drops the parsed body: strings and token ids are gone, numbers and flags stay. */
void openai_request_release(struct openai_request *request);
void openai_request_free(struct openai_request *request);

/* "BadRequestError", "NotFoundError", "InternalServerError"; the phrase of other statuses. */
const char *openai_error_type(int http_status);
/* Fills *problem with the type that belongs to the status; for drivers' own errors. `param` must be
 * static. */
void openai_problem_set(struct openai_problem *problem, int http_status, const char *param,
                        const char *fmt, ...) PRINTF_LIKE(4, 5);
/* {"error":{"message":..,"type":..,"param":..,"code":..}} */
void openai_write_error(struct http_buffer *out, const struct openai_problem *problem);

/* One of an answer's texts; its index is its place. */
struct openai_choice {
    const char *text;
    size_t text_bytes;
    const char *finish_reason;
    const char *stop_string; /* NULL: none */
    int64_t stop_token_id;   /* OPENAI_STOP_TOKEN_NONE: none */
};

/* The parts of a whole answer of a request without `stream` that are not choices. */
struct openai_answer {
    enum openai_kind kind;
    const char *id;
    const char *model;
    int64_t created_s;
    uint64_t prompt_tokens;
    uint64_t completion_tokens; /* of all choices */
};

/* {"prompt_tokens":..,"total_tokens":..,"completion_tokens":..} */
void openai_write_usage(struct http_buffer *out, uint64_t prompt_tokens,
                        uint64_t completion_tokens);
/* "finish_reason":"stop","stop_reason":.. */
void openai_write_finish(struct http_buffer *out, const char *finish_reason,
                         const char *stop_string, int64_t stop_token_id);
/* begin, choice 0, 1, ..., end. */
void openai_write_begin(struct http_buffer *out, const struct openai_answer *answer);
void openai_write_choice(struct http_buffer *out, enum openai_kind kind, uint32_t index,
                         const struct openai_choice *choice);
void openai_write_end(struct http_buffer *out, const struct openai_answer *answer);
/* Body of GET /v1/models. */
void openai_write_models(struct http_buffer *out, const struct openai_limits *limits,
                         int64_t created_s);
/* Body of GET /version. */
void openai_write_version(struct http_buffer *out, const char *version);

#endif
