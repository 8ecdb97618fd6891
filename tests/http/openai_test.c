/*
 * openai_test.c - request bodies of the OpenAI endpoints: what is read, every refusal with its
 * words, the limits of the served model, and the bodies of answers read back by json-c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/http/openai.h"

static const struct openai_limits served = {"llama", 100, 1000};

/* Parses a copy of exact size, so that reading past it would be seen. */
static enum status parse(enum openai_kind kind, const char *body, size_t bytes,
                         struct openai_request *request, struct openai_problem *problem)
{
    char *copy = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, body, bytes);
    *problem = (struct openai_problem){0};
    enum status status = openai_parse(kind, copy, bytes, request, problem);
    free(copy);
    return status;
}

static void assert_parses(enum openai_kind kind, const char *body, struct openai_request *request)
{
    struct openai_problem problem;
    enum status status = parse(kind, body, strlen(body), request, &problem);
    if (status != STATUS_OK) {
        print_error("%s\n-> %s\n", body, problem.message);
    }
    assert_int_equal(status, STATUS_OK);
}

static bool near(double a, double b)
{
    return a - b < 1e-12 && b - a < 1e-12;
}

static void completion_fields_are_read(void **state)
{
    (void)state;
    struct openai_request q = {0};
    assert_parses(
        OPENAI_COMPLETION,
        "{\"model\":\"llama\",\"prompt\":\"Gr\\u00fc\\u00dfe \\ud83d\\ude00\",\"max_tokens\":7,"
        "\"min_tokens\":2,\"temperature\":0,\"top_p\":0.5,\"top_k\":40,\"min_p\":0.1,"
        "\"presence_penalty\":-2,\"frequency_penalty\":2.0,\"repetition_penalty\":1.1,"
        "\"seed\":-9223372036854775808,\"n\":1,\"best_of\":1,\"stop\":[\"a\",\"\\n\\n\"],"
        "\"stop_token_ids\":[1,2,2147483647],\"ignore_eos\":true,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true},"
        "\"priority\":-3,\"user\":\"u\",\"unknown\":{\"x\":[1]},\"logprobs\":null,"
        "\"echo\":false,\"include_stop_str_in_output\":true,\"cache_salt\":\"s\","
        "\"request_id\":\"r\",\"response_format\":{\"type\":\"text\"}} \r\n",
        &q);
    assert_string_equal(q.model, "llama");
    assert_string_equal(q.prompt_text, "Gr\xC3\xBC\xC3\x9F"
                                       "e \xF0\x9F\x98\x80");
    assert_int_equal(q.prompt_text_bytes, strlen(q.prompt_text));
    assert_null(q.prompt_token_ids);
    assert_true(q.has_max_tokens);
    assert_int_equal(q.max_tokens, 7);
    assert_int_equal(q.min_tokens, 2);
    assert_true(near(q.temperature, 0) && near(q.top_p, 0.5) && near(q.min_p, 0.1));
    assert_true(near(q.presence_penalty, -2) && near(q.frequency_penalty, 2));
    assert_true(near(q.repetition_penalty, 1.1));
    assert_int_equal(q.top_k, 40);
    assert_true(q.has_seed);
    assert_true(q.seed == INT64_MIN);
    assert_int_equal(q.stop_count, 2);
    assert_string_equal(q.stop[0], "a");
    assert_string_equal(q.stop[1], "\n\n");
    assert_int_equal(q.stop_token_ids_count, 3);
    assert_int_equal(q.stop_token_ids[2], INT32_MAX);
    assert_true(q.ignore_eos && q.stream && q.include_usage && q.continuous_usage &&
                q.include_stop);
    assert_int_equal(q.priority, -3);
    assert_string_equal(q.cache_salt, "s");
    assert_string_equal(q.request_id, "r");

    assert_int_equal(q.choices_count, 1);
    assert_parses(OPENAI_COMPLETION, "{\"prompt\":\"x\",\"n\":128,\"best_of\":128}", &q);
    assert_int_equal(q.choices_count, 128);

    /* the next request begins with defaults */
    assert_parses(OPENAI_COMPLETION, "{\"prompt\":[1,2.0,3],\"top_k\":-1,\"stop\":\"x\"}", &q);
    assert_null(q.model);
    assert_null(q.prompt_text);
    assert_int_equal(q.prompt_tokens_count, 3);
    assert_int_equal(q.prompt_token_ids[1], 2);
    assert_true(near(q.temperature, 1) && near(q.top_p, 1) && near(q.repetition_penalty, 1));
    assert_true(near(q.min_p, 0) && near(q.presence_penalty, 0) && near(q.frequency_penalty, 0));
    assert_false(q.has_seed || q.has_max_tokens || q.stream || q.include_usage || q.ignore_eos);
    assert_int_equal(q.top_k, 0);
    assert_int_equal(q.stop_count, 1);
    assert_int_equal(q.stop_token_ids_count, 0);
    assert_null(q.cache_salt);
    assert_int_equal(q.choices_count, 1);

    assert_parses(OPENAI_COMPLETION, "{\"prompt\":[[4,5]],\"stream\":true,\"stream_options\":{}}",
                  &q);
    assert_int_equal(q.prompt_tokens_count, 2);
    assert_int_equal(q.prompt_token_ids[0], 4);
    assert_true(q.include_usage);
    assert_parses(OPENAI_COMPLETION, "{\"prompt\":[\"one\"]}", &q);
    assert_string_equal(q.prompt_text, "one");
    openai_request_free(&q);
}

static void chat_messages_are_read(void **state)
{
    (void)state;
    struct openai_request q = {0};
    assert_parses(OPENAI_CHAT,
                  "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},"
                  "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                  "{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\",\"content\":null},"
                  "{\"role\":\"user\",\"content\":[]}],\"max_tokens\":5,"
                  "\"max_completion_tokens\":6,\"logprobs\":false,\"tools\":[]}",
                  &q);
    assert_int_equal(q.messages_count, 4);
    assert_string_equal(q.roles[0], "system");
    assert_string_equal(q.contents[0], "Be brief.");
    assert_string_equal(q.contents[1], "a\nb");
    assert_string_equal(q.roles[2], "assistant");
    assert_string_equal(q.contents[2], "");
    assert_string_equal(q.contents[3], "");
    assert_true(q.add_generation_prompt);
    assert_int_equal(q.max_tokens, 6);
    assert_parses(OPENAI_CHAT,
                  "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                  "\"add_generation_prompt\":false}",
                  &q);
    assert_int_equal(q.messages_count, 1);
    assert_false(q.add_generation_prompt);
    openai_request_free(&q);
}

struct refusal {
    enum openai_kind kind;
    const char *body;
    const char *param; /* NULL: none */
    const char *message;
};

#define P "\"prompt\":\"x\","
#define M "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"

static const struct refusal refusals[] = {
    {OPENAI_COMPLETION, "", NULL, "The body is not valid JSON: it is empty."},
    {OPENAI_COMPLETION, "{", NULL, "The body is not valid JSON: unexpected end at byte 1."},
    {OPENAI_COMPLETION, "[]", NULL, "The body must be a JSON object, got array."},
    {OPENAI_COMPLETION, "{}x", NULL, "The body is not valid JSON: unexpected character at byte 2."},
    {OPENAI_COMPLETION, "{" P "\"n\":129}", "n", "n must be between 1 and 128, got 129."},
    {OPENAI_COMPLETION, "{" P "\"n\":0}", "n", "n must be between 1 and 128, got 0."},
    {OPENAI_CHAT, "{" M "\"n\":-1}", "n", "n must be between 1 and 128, got -1."},
    {OPENAI_COMPLETION, "{" P "\"n\":\"2\"}", "n", "n must be an integer, got \"2\"."},
    {OPENAI_COMPLETION, "{" P "\"n\":2,\"best_of\":3}", "best_of",
     "best_of must be equal to n, got 3."},
    {OPENAI_COMPLETION, "{" P "\"n\":2,\"temperature\":0}", "n",
     "n must be 1 when using greedy sampling, got 2."},
    {OPENAI_COMPLETION, "{}", "prompt", "prompt must be provided and non-empty."},
    {OPENAI_COMPLETION, "{\"prompt\":\"\"}", "prompt", "prompt must be provided and non-empty."},
    {OPENAI_COMPLETION, "{\"prompt\":[]}", "prompt", "prompt must be provided and non-empty."},
    {OPENAI_COMPLETION, "{\"prompt\":[[]]}", "prompt", "prompt must be provided and non-empty."},
    {OPENAI_COMPLETION, "{\"prompt\":[\"a\",\"b\"]}", "prompt",
     "prompt must be one prompt: this server takes one a request, got 2."},
    {OPENAI_COMPLETION, "{\"prompt\":[[1],[2],[3]]}", "prompt",
     "prompt must be one prompt: this server takes one a request, got 3."},
    {OPENAI_COMPLETION, "{\"prompt\":[1,-1]}", "prompt",
     "prompt must hold token ids, element 1 is none."},
    {OPENAI_COMPLETION, "{\"prompt\":[1,\"a\"]}", "prompt",
     "prompt must hold token ids, element 1 is none."},
    {OPENAI_COMPLETION, "{\"prompt\":[2147483648]}", "prompt",
     "prompt must hold token ids, element 0 is none."},
    {OPENAI_COMPLETION, "{\"prompt\":[1.5]}", "prompt",
     "prompt must hold token ids, element 0 is none."},
    {OPENAI_COMPLETION, "{\"prompt\":7}", "prompt",
     "prompt must be a string or a list of token ids, got int."},
    {OPENAI_COMPLETION, "{\"prompt\":\"a\\u0000b\"}", "prompt",
     "prompt must not contain NUL characters."},
    {OPENAI_COMPLETION, "{" P "\"model\":1}", "model", "model must be a string, got int."},
    {OPENAI_COMPLETION, "{" P "\"max_tokens\":0}", "max_tokens",
     "max_tokens must be at least 1, got 0."},
    {OPENAI_COMPLETION, "{" P "\"max_tokens\":-5}", "max_tokens",
     "max_tokens must be at least 1, got -5."},
    {OPENAI_COMPLETION, "{" P "\"max_tokens\":1.5}", "max_tokens",
     "max_tokens must be an integer, got 1.5."},
    {OPENAI_COMPLETION, "{" P "\"max_tokens\":\"5\"}", "max_tokens",
     "max_tokens must be an integer, got \"5\"."},
    {OPENAI_CHAT, "{" M "\"max_completion_tokens\":0}", "max_completion_tokens",
     "max_completion_tokens must be at least 1, got 0."},
    {OPENAI_COMPLETION, "{" P "\"min_tokens\":-1}", "min_tokens",
     "min_tokens must be greater than or equal to 0, got -1."},
    {OPENAI_COMPLETION, "{" P "\"temperature\":-0.5}", "temperature",
     "temperature must be non-negative, got -0.5."},
    {OPENAI_COMPLETION, "{" P "\"temperature\":\"hot\"}", "temperature",
     "temperature must be a number, got string."},
    {OPENAI_COMPLETION, "{" P "\"temperature\":1e999}", "temperature",
     "temperature must be non-negative, got 1e999."},
    {OPENAI_COMPLETION, "{" P "\"temperature\":NaN}", "temperature",
     "temperature must be non-negative, got NaN."},
    {OPENAI_COMPLETION, "{" P "\"temperature\":Infinity}", "temperature",
     "temperature must be non-negative, got Infinity."},
    {OPENAI_COMPLETION, "{" P "\"top_p\":0}", "top_p", "top_p must be in (0, 1], got 0."},
    {OPENAI_COMPLETION, "{" P "\"top_p\":1.5}", "top_p", "top_p must be in (0, 1], got 1.5."},
    {OPENAI_COMPLETION, "{" P "\"min_p\":2}", "min_p", "min_p must be in [0, 1], got 2."},
    {OPENAI_COMPLETION, "{" P "\"top_k\":-2}", "top_k",
     "top_k must be 0 (disable), or at least 1, got -2."},
    {OPENAI_COMPLETION, "{" P "\"presence_penalty\":3}", "presence_penalty",
     "presence_penalty must be in [-2, 2], got 3."},
    {OPENAI_COMPLETION, "{" P "\"frequency_penalty\":-3}", "frequency_penalty",
     "frequency_penalty must be in [-2, 2], got -3."},
    {OPENAI_COMPLETION, "{" P "\"repetition_penalty\":0}", "repetition_penalty",
     "repetition_penalty must be greater than zero, got 0."},
    {OPENAI_COMPLETION, "{" P "\"seed\":9223372036854775808}", "seed",
     "seed must be an integer, got 9223372036854775808."},
    {OPENAI_COMPLETION, "{" P "\"priority\":3000000000}", "priority",
     "priority must fit 32 bits, got 3000000000."},
    {OPENAI_COMPLETION, "{" P "\"stop\":\"\"}", "stop", "stop cannot contain an empty string."},
    {OPENAI_COMPLETION, "{" P "\"stop\":[\"a\",null]}", "stop",
     "stop must be a string or a list of strings, got null."},
    {OPENAI_COMPLETION, "{" P "\"stop\":5}", "stop",
     "stop must be a string or a list of strings, got int."},
    {OPENAI_COMPLETION, "{" P "\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "stop",
     "stop has at most 4 strings."},
    {OPENAI_COMPLETION,
     "{" P "\"stop\":\"0123456789012345678901234567890123456789012345678901234567890123\"}", "stop",
     "stop strings have at most 63 bytes, got 64."},
    {OPENAI_COMPLETION, "{" P "\"stop_token_ids\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}",
     "stop_token_ids", "stop_token_ids has at most 16 ids, got 17."},
    {OPENAI_COMPLETION, "{" P "\"stop_token_ids\":[-1]}", "stop_token_ids",
     "stop_token_ids must hold token ids, element 0 is none."},
    {OPENAI_COMPLETION, "{" P "\"stop_token_ids\":1}", "stop_token_ids",
     "stop_token_ids must be a list of integers, got int."},
    {OPENAI_COMPLETION, "{" P "\"stream\":1}", "stream", "stream must be a boolean, got int."},
    {OPENAI_COMPLETION, "{" P "\"stream_options\":{}}", "stream_options",
     "Stream options can only be defined when `stream=True`."},
    {OPENAI_COMPLETION, "{" P "\"stream\":true,\"stream_options\":1}", "stream_options",
     "stream_options must be an object, got int."},
    {OPENAI_COMPLETION, "{" P "\"echo\":true}", "echo", "echo is not supported by this server."},
    {OPENAI_COMPLETION, "{" P "\"logprobs\":0}", "logprobs",
     "logprobs is not supported by this server."},
    {OPENAI_CHAT, "{" M "\"logprobs\":true}", "logprobs",
     "logprobs is not supported by this server."},
    {OPENAI_CHAT, "{" M "\"tools\":[{\"type\":\"function\"}]}", "tools",
     "tools is not supported by this server."},
    {OPENAI_CHAT, "{" M "\"response_format\":{\"type\":\"json_object\"}}", "response_format",
     "response_format is not supported by this server, except type 'text'."},
    {OPENAI_CHAT, "{}", "messages", "messages must be a non-empty list of messages."},
    {OPENAI_CHAT, "{\"messages\":[]}", "messages",
     "messages must be a non-empty list of messages."},
    {OPENAI_CHAT, "{\"messages\":[1]}", "messages", "messages must hold objects."},
    {OPENAI_CHAT, "{\"messages\":[{\"content\":\"x\"}]}", "messages",
     "messages: each message must have a role."},
    {OPENAI_CHAT, "{\"messages\":[{\"role\":\"user\"}]}", "messages",
     "messages: a message of role 'user' must have content."},
    {OPENAI_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":3}]}", "content",
     "content must be a string, got int."},
    {OPENAI_CHAT,
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]}",
     "messages", "messages: only content parts of type 'text' are supported."},
};

static void refusals_say_what_is_wrong(void **state)
{
    (void)state;
    struct openai_request q = {0};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct openai_problem problem;
        const struct refusal *want = &refusals[i];
        if (parse(want->kind, want->body, strlen(want->body), &q, &problem) != STATUS_INVALID) {
            fail_msg("accepted: %s", want->body);
        }
        assert_string_equal(problem.message, want->message);
        assert_int_equal(problem.http_status, 400);
        assert_string_equal(problem.type, "BadRequestError");
        if (want->param == NULL) {
            assert_null(problem.param);
        } else {
            assert_string_equal(problem.param, want->param);
        }
    }
    openai_request_free(&q);
}

/* Whether a body of raw bytes is refused as invalid JSON. */
static bool bad_json(const char *body, size_t bytes)
{
    struct openai_request q = {0};
    struct openai_problem problem;
    bool refused = parse(OPENAI_COMPLETION, body, bytes, &q, &problem) != STATUS_OK;
    bool json = strncmp(problem.message, "The body is not valid JSON: ", 28) == 0;
    openai_request_free(&q);
    return refused && json;
}

static bool depth_refused(size_t depth)
{
    char body[400] = "{\"prompt\":\"x\",\"a\":";
    size_t at = strlen(body);
    for (size_t i = 1; i < depth; i++) {
        body[at] = '[';
        at++;
    }
    body[at] = '1';
    at++;
    for (size_t i = 1; i < depth; i++) {
        body[at] = ']';
        at++;
    }
    body[at] = '}';
    return bad_json(body, at + 1);
}

static void json_is_read_strictly(void **state)
{
    (void)state;
#define BAD(text) assert_true(bad_json(text, sizeof(text) - 1))
    BAD("{\"prompt\":\"x\"} {}");
    BAD("{\"prompt\":\"x\"}\0");
    BAD("{\"prompt\":\"x\0y\"}");
    BAD("{\"prompt\":\"\xC3\"}");
    BAD("{\"prompt\":\"\xED\xA0\x80\"}");
    BAD("{\"prompt\":\"\xC0\xAF\"}");
    BAD("{\"prompt\":\"\xF4\x90\x80\x80\"}");
    BAD("{\"prompt\":\"x\",}");
    BAD("{'prompt':'x'}");
    BAD("{\"prompt\":\"x\",\"seed\":01}");
    BAD("{\"prompt\":\"x\" /* c */}");
    assert_false(depth_refused(OPENAI_DEPTH_MAX));
    assert_true(depth_refused(OPENAI_DEPTH_MAX + 1));
}

static void another_model_is_not_found(void **state)
{
    (void)state;
    struct openai_request q = {0};
    struct openai_problem problem = {0};
    assert_parses(OPENAI_COMPLETION, "{\"model\":\"gpt\",\"prompt\":\"x\"}", &q);
    assert_int_equal(openai_check_model(&q, &served, &problem), STATUS_NOT_FOUND);
    struct http_buffer out = {0};
    openai_write_error(&out, &problem);
    http_buffer_append(&out, "", 1);
    assert_string_equal(out.data,
                        "{\"error\":{\"message\":\"The model `gpt` does not exist.\",\"type\":"
                        "\"NotFoundError\",\"param\":\"model\",\"code\":404}}");
    assert_parses(OPENAI_COMPLETION, "{\"model\":\"llama\",\"prompt\":\"x\"}", &q);
    assert_int_equal(openai_check_model(&q, &served, &problem), STATUS_OK);
    assert_parses(OPENAI_COMPLETION, "{\"prompt\":\"x\"}", &q);
    assert_int_equal(openai_check_model(&q, &served, &problem), STATUS_OK);
    openai_problem_set(&problem, 503, NULL, "say \"%s\"", "no");
    http_buffer_clear(&out);
    openai_write_error(&out, &problem);
    http_buffer_append(&out, "", 1);
    assert_string_equal(out.data, "{\"error\":{\"message\":\"say \\\"no\\\"\",\"type\":\"Service "
                                  "Unavailable\",\"param\":null,\"code\":503}}");
    http_buffer_free(&out);
    openai_request_free(&q);
}

struct length_case {
    enum openai_kind kind;
    const char *body;
    uint32_t prompt_tokens;
    uint32_t max_tokens; /* 0: refused */
    const char *message;
};

static const struct length_case lengths[] = {
    {OPENAI_COMPLETION, "{\"prompt\":\"x\"}", 10, 16, NULL},
    {OPENAI_COMPLETION, "{\"prompt\":\"x\"}", 90, 10, NULL},
    {OPENAI_COMPLETION, "{\"prompt\":\"x\",\"max_tokens\":null}", 10, 90, NULL},
    {OPENAI_CHAT, "{" M "\"x\":1}", 10, 90, NULL},
    {OPENAI_COMPLETION, "{" P "\"max_tokens\":90}", 10, 90, NULL},
    {OPENAI_COMPLETION, "{" P "\"max_tokens\":91}", 10, 0,
     "'max_tokens' or 'max_completion_tokens' is too large: 91. This model's maximum context "
     "length is 100 tokens and your request has 10 input tokens (91 > 100 - 10)."},
    {OPENAI_COMPLETION, "{\"prompt\":\"x\"}", 99, 1, NULL},
    {OPENAI_COMPLETION, "{\"prompt\":\"x\"}", 100, 0,
     "This model's maximum context length is 100 tokens. However, your request has 100 input "
     "tokens. Please reduce the length of the input messages."},
    {OPENAI_COMPLETION, "{\"prompt\":\"x\"}", 0, 0, "The decoder prompt cannot be empty"},
    {OPENAI_COMPLETION, "{" P "\"min_tokens\":17}", 10, 0,
     "min_tokens must be less than or equal to max_tokens=16, got 17."},
    {OPENAI_COMPLETION, "{" P "\"min_tokens\":16}", 10, 16, NULL},
    {OPENAI_COMPLETION, "{\"prompt\":[999]}", 1, 16, NULL},
    {OPENAI_COMPLETION, "{\"prompt\":[5,1000]}", 2, 0, "Token id 1000 is out of vocabulary"},
};

static void lengths_are_checked_against_the_model(void **state)
{
    (void)state;
    struct openai_request q = {0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct openai_problem problem = {0};
        assert_parses(lengths[i].kind, lengths[i].body, &q);
        enum status status = openai_validate(&q, &served, lengths[i].prompt_tokens, &problem);
        if (lengths[i].max_tokens > 0) {
            assert_int_equal(status, STATUS_OK);
            assert_int_equal(q.max_tokens, lengths[i].max_tokens);
        } else {
            assert_int_equal(status, STATUS_INVALID);
            assert_int_equal(problem.http_status, 400);
            assert_string_equal(problem.message, lengths[i].message);
        }
    }
    openai_request_free(&q);
}

static void bodies_of_answers_are_those_of_the_api(void **state)
{
    (void)state;
    struct openai_answer answer = {
        .kind = OPENAI_COMPLETION,
        .id = "cmpl-1",
        .model = "llama",
        .created_s = 1700000000,
        .prompt_tokens = 5,
        .completion_tokens = 3,
    };
    struct openai_choice choice = {.text = "a\"b",
                                   .text_bytes = 3,
                                   .finish_reason = "length",
                                   .stop_token_id = OPENAI_STOP_TOKEN_NONE};
    struct http_buffer out = {0};
    openai_write_begin(&out, &answer);
    openai_write_choice(&out, answer.kind, 0, &choice);
    openai_write_end(&out, &answer);
    http_buffer_append(&out, "", 1);
    assert_string_equal(out.data,
                        "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1700000000,"
                        "\"model\":\"llama\",\"choices\":[{\"index\":0,\"text\":\"a\\\"b\","
                        "\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}],"
                        "\"usage\":{\"prompt_tokens\":5,\"total_tokens\":8,"
                        "\"completion_tokens\":3}}");
    answer.kind = OPENAI_CHAT;
    struct openai_choice second = choice;
    choice.finish_reason = "stop";
    choice.stop_string = "E";
    second.text = "";
    second.text_bytes = 0;
    http_buffer_clear(&out);
    openai_write_begin(&out, &answer);
    openai_write_choice(&out, answer.kind, 0, &choice);
    openai_write_choice(&out, answer.kind, 1, &second);
    openai_write_end(&out, &answer);
    http_buffer_append(&out, "", 1);
    assert_string_equal(out.data,
                        "{\"id\":\"cmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,"
                        "\"model\":\"llama\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                        "\"assistant\",\"content\":\"a\\\"b\"},\"logprobs\":null,"
                        "\"finish_reason\":\"stop\",\"stop_reason\":\"E\"},"
                        "{\"index\":1,\"message\":{\"role\":"
                        "\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                        "\"finish_reason\":\"length\",\"stop_reason\":null}],"
                        "\"usage\":{\"prompt_tokens\":5,\"total_tokens\":8,"
                        "\"completion_tokens\":3}}");
    http_buffer_clear(&out);
    openai_write_models(&out, &served, 1);
    http_buffer_append(&out, "", 1);
    assert_string_equal(out.data,
                        "{\"object\":\"list\",\"data\":[{\"id\":\"llama\",\"object\":\"model\","
                        "\"created\":1,\"owned_by\":\"harness\",\"root\":\"llama\",\"parent\":null,"
                        "\"max_model_len\":100,\"permission\":[]}]}");
    http_buffer_clear(&out);
    openai_write_version(&out, "0.1.0");
    http_buffer_append(&out, "", 1);
    assert_string_equal(out.data, "{\"version\":\"0.1.0\"}");
    http_buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completion_fields_are_read),
        cmocka_unit_test(chat_messages_are_read),
        cmocka_unit_test(refusals_say_what_is_wrong),
        cmocka_unit_test(json_is_read_strictly),
        cmocka_unit_test(another_model_is_not_found),
        cmocka_unit_test(lengths_are_checked_against_the_model),
        cmocka_unit_test(bodies_of_answers_are_those_of_the_api),
    };
    return cmocka_run_group_tests_name("openai", tests, NULL, NULL);
}
