/*
 * openai_write.c - bodies of answers, errors and the small informational endpoints. Driven by the
 * API server; appends to the connection's buffer.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/http/http_parser.h"
#include "engine/http/openai.h"

static void put_string(struct http_buffer *out, const char *text)
{
    http_buffer_text(out, "\"");
    http_buffer_json(out, text, strlen(text));
    http_buffer_text(out, "\"");
}

const char *openai_error_type(int http_status)
{
    switch (http_status) {
    case 400:
        return "BadRequestError";
    case 404:
        return "NotFoundError";
    case 500:
        return "InternalServerError";
    default:
        return http_status_phrase(http_status);
    }
}

void openai_problem_set(struct openai_problem *problem, int http_status, const char *param,
                        const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    problem->http_status = http_status;
    problem->type = openai_error_type(http_status);
    problem->param = param;
    (void)vsnprintf(problem->message, sizeof problem->message, fmt, args);
    va_end(args);
}

void openai_write_error(struct http_buffer *out, const struct openai_problem *problem)
{
    http_buffer_text(out, "{\"error\":{\"message\":");
    put_string(out, problem->message);
    http_buffer_text(out, ",\"type\":");
    put_string(out, problem->type);
    http_buffer_text(out, ",\"param\":");
    if (problem->param == NULL) {
        http_buffer_text(out, "null");
    } else {
        put_string(out, problem->param);
    }
    http_buffer_text(out, ",\"code\":");
    http_buffer_i64(out, problem->http_status);
    http_buffer_text(out, "}}");
}

void openai_write_usage(struct http_buffer *out, uint64_t prompt_tokens, uint64_t completion_tokens)
{
    http_buffer_text(out, "{\"prompt_tokens\":");
    http_buffer_u64(out, prompt_tokens);
    http_buffer_text(out, ",\"total_tokens\":");
    http_buffer_u64(out, prompt_tokens + completion_tokens);
    http_buffer_text(out, ",\"completion_tokens\":");
    http_buffer_u64(out, completion_tokens);
    http_buffer_text(out, "}");
}

void openai_write_finish(struct http_buffer *out, const char *finish_reason,
                         const char *stop_string, int64_t stop_token_id)
{
    http_buffer_text(out, "\"finish_reason\":");
    put_string(out, finish_reason);
    http_buffer_text(out, ",\"stop_reason\":");
    if (stop_string != NULL) {
        put_string(out, stop_string);
    } else if (stop_token_id != OPENAI_STOP_TOKEN_NONE) {
        http_buffer_i64(out, stop_token_id);
    } else {
        http_buffer_text(out, "null");
    }
}

void openai_write_begin(struct http_buffer *out, const struct openai_answer *answer)
{
    bool chat = answer->kind == OPENAI_CHAT;
    http_buffer_text(out, "{\"id\":");
    put_string(out, answer->id);
    http_buffer_text(out, chat ? ",\"object\":\"chat.completion\",\"created\":"
                               : ",\"object\":\"text_completion\",\"created\":");
    http_buffer_i64(out, answer->created_s);
    http_buffer_text(out, ",\"model\":");
    put_string(out, answer->model);
    http_buffer_text(out, ",\"choices\":[");
}

void openai_write_choice(struct http_buffer *out, enum openai_kind kind, uint32_t index,
                         const struct openai_choice *choice)
{
    bool chat = kind == OPENAI_CHAT;
    http_buffer_text(out, index > 0 ? ",{\"index\":" : "{\"index\":");
    http_buffer_u64(out, index);
    http_buffer_text(out,
                     chat ? ",\"message\":{\"role\":\"assistant\",\"content\":\"" : ",\"text\":\"");
    http_buffer_json(out, choice->text, choice->text_bytes);
    http_buffer_text(out, chat ? "\"},\"logprobs\":null," : "\",\"logprobs\":null,");
    openai_write_finish(out, choice->finish_reason, choice->stop_string, choice->stop_token_id);
    http_buffer_text(out, "}");
}

void openai_write_end(struct http_buffer *out, const struct openai_answer *answer)
{
    http_buffer_text(out, "],\"usage\":");
    openai_write_usage(out, answer->prompt_tokens, answer->completion_tokens);
    http_buffer_text(out, "}");
}

void openai_write_models(struct http_buffer *out, const struct openai_limits *limits,
                         int64_t created_s)
{
    http_buffer_text(out, "{\"object\":\"list\",\"data\":[{\"id\":");
    put_string(out, limits->model_name);
    http_buffer_text(out, ",\"object\":\"model\",\"created\":");
    http_buffer_i64(out, created_s);
    http_buffer_text(out, ",\"owned_by\":\"harness\",\"root\":");
    put_string(out, limits->model_name);
    http_buffer_text(out, ",\"parent\":null,\"max_model_len\":");
    http_buffer_u64(out, limits->max_model_len);
    http_buffer_text(out, ",\"permission\":[]}]}");
}

void openai_write_version(struct http_buffer *out, const char *version)
{
    http_buffer_text(out, "{\"version\":");
    put_string(out, version);
    http_buffer_text(out, "}");
}
