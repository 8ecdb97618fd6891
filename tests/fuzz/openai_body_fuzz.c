/*
 * openai_body_fuzz.c - request bodies: the first byte's lowest bit chooses the endpoint. What is
 * accepted keeps the promises of openai.h; what is refused gives an error body.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/http/openai.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_accepted(struct openai_request *q)
{
    const struct openai_limits limits = {"m", 64, 300};
    struct openai_problem problem;
    ASSERT((q->prompt_text != NULL) + (q->prompt_token_ids != NULL) + (q->roles != NULL) == 1);
    ASSERT(q->prompt_text == NULL || strlen(q->prompt_text) == q->prompt_text_bytes);
    ASSERT(q->temperature >= 0 && q->top_p > 0 && q->top_p <= 1 && q->repetition_penalty > 0);
    ASSERT(q->top_k >= 0 && q->max_tokens > 0 && q->stop_count <= OPENAI_STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < q->stop_count; i++) {
        ASSERT(strlen(q->stop[i]) > 0 && strlen(q->stop[i]) < OPENAI_STOP_BYTES_MAX);
    }
    for (uint32_t i = 0; i < q->messages_count; i++) {
        ASSERT(strlen(q->roles[i]) > 0);
        ASSERT(q->contents[i] != NULL && strlen(q->contents[i]) < SIZE_MAX);
    }
    uint32_t tokens = q->prompt_token_ids != NULL ? q->prompt_tokens_count : 10;
    if (openai_validate(q, &limits, tokens, &problem) == STATUS_OK) {
        ASSERT(tokens + q->max_tokens <= limits.max_model_len);
        ASSERT(q->min_tokens <= q->max_tokens);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct openai_request request = {0};
    struct openai_problem problem = {0};
    enum openai_kind kind = (data[0] & 1) != 0 ? OPENAI_CHAT : OPENAI_COMPLETION;
    for (int round = 0; round < 2; round++) {
        if (openai_parse(kind, (const char *)data + 1, size - 1, &request, &problem) == STATUS_OK) {
            check_accepted(&request);
            continue;
        }
        struct http_buffer out = {0};
        ASSERT(problem.http_status == 400);
        openai_write_error(&out, &problem);
        ASSERT(!out.failed && out.bytes > 40 && http_utf8_valid(out.data, out.bytes));
        http_buffer_free(&out);
    }
    openai_request_free(&request);
    return 0;
}
