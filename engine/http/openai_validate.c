/*
 * openai_validate.c - checks a parsed request against the served model: its name, its context
 * length, its vocabulary. Driven by the API server when the number of prompt tokens is known. The
 * wording is vLLM's, because clients match on it.
 */
#include <string.h>

#include "engine/http/openai.h"

enum status openai_check_model(const struct openai_request *request,
                               const struct openai_limits *limits, struct openai_problem *problem)
{
    if (request->model == NULL || strcmp(request->model, limits->model_name) == 0) {
        return STATUS_OK;
    }
    openai_problem_set(problem, 404, "model", "The model `%s` does not exist.", request->model);
    return STATUS_NOT_FOUND;
}

static enum status check_vocabulary(const struct openai_request *request,
                                    const struct openai_limits *limits,
                                    struct openai_problem *problem)
{
    if (limits->vocab_size == 0 || request->prompt_token_ids == NULL) {
        return STATUS_OK;
    }
    for (uint32_t i = 0; i < request->prompt_tokens_count; i++) {
        if (request->prompt_token_ids[i] >= limits->vocab_size) {
            openai_problem_set(problem, 400, "prompt", "Token id %u is out of vocabulary",
                               request->prompt_token_ids[i]);
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

enum status openai_validate(struct openai_request *request, const struct openai_limits *limits,
                            uint32_t prompt_tokens_count, struct openai_problem *problem)
{
    uint32_t model_len = limits->max_model_len;
    if (prompt_tokens_count == 0) {
        openai_problem_set(problem, 400, "prompt", "The decoder prompt cannot be empty");
        return STATUS_INVALID;
    }
    if (prompt_tokens_count >= model_len) {
        openai_problem_set(problem, 400, "input_tokens",
                           "This model's maximum context length is %u tokens. However, your "
                           "request has %u input tokens. Please reduce the length of the input "
                           "messages.",
                           model_len, prompt_tokens_count);
        return STATUS_INVALID;
    }
    uint32_t room = model_len - prompt_tokens_count;
    if (request->has_max_tokens && request->max_tokens > room) {
        openai_problem_set(problem, 400, "max_tokens",
                           "'max_tokens' or 'max_completion_tokens' is too large: %u. This "
                           "model's maximum context length is %u tokens and your request has %u "
                           "input tokens (%u > %u - %u).",
                           request->max_tokens, model_len, prompt_tokens_count, request->max_tokens,
                           model_len, prompt_tokens_count);
        return STATUS_INVALID;
    }
    uint32_t max_tokens = request->max_tokens < room ? request->max_tokens : room;
    if (request->min_tokens > max_tokens) {
        openai_problem_set(problem, 400, "min_tokens",
                           "min_tokens must be less than or equal to max_tokens=%u, got %u.",
                           max_tokens, request->min_tokens);
        return STATUS_INVALID;
    }
    TRY(check_vocabulary(request, limits, problem));
    request->max_tokens = max_tokens;
    return STATUS_OK;
}
