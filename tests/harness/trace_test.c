/*
 * trace_test.c - reading both published trace formats: small fixtures written here with the line
 * ends and the missing last newline of the originals, refusals that are counted, and errors that
 * name the line. Real files are read if HARNESS_TRACES names their folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/load/trace.h"

static const char AZURE[] = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
                            "2023-11-16 18:15:46.6805900,374,44\r\n"
                            "2023-11-16 18:15:50.9951690,396,109\r\n"
                            "2023-11-17 00:00:00.0000001,1,2";

static const char MOONCAKE[] =
    "{\"timestamp\": 1000, \"input_length\": 1025, \"output_length\": 5, \"hash_ids\": [0, 1, 2]}\n"
    "{\"timestamp\": 1500, \"input_length\": 600, \"output_length\": 7, \"hash_ids\": [0, 9]}\n"
    "\n"
    "{\"timestamp\": 1500.25, \"input_length\": 3, \"output_length\": 1}";

static enum status parse(const char *text, const struct trace_limits *limits, struct trace *trace,
                         struct error *error)
{
    struct trace_text source = {.name = "t", .data = text, .bytes = strlen(text)};
    return trace_parse(&source, TRACE_AUTO, limits, trace, error);
}

static void azure_rows_are_read(void **state)
{
    (void)state;
    struct trace_limits limits = {0};
    struct trace trace;
    assert_int_equal(parse(AZURE, &limits, &trace, NULL), STATUS_OK);
    assert_int_equal(trace.format, TRACE_AZURE_CSV);
    assert_int_equal(trace.requests_count, 3);
    assert_int_equal(trace.requests[0].at_ns, 0);
    assert_int_equal(trace.requests[1].at_ns, 4314579000);
    /* 18:15:46.68059 to midnight are 20,653.31941 s; and 100 ns more. */
    assert_int_equal(trace.requests[2].at_ns, 20653319410100);
    assert_int_equal(trace.requests[1].prompt_tokens, 396);
    assert_int_equal(trace.requests[1].output_tokens, 109);
    assert_int_equal(trace.requests[2].output_tokens, 2);
    assert_int_equal(trace.requests[2].line, 4);
    assert_int_equal(trace.output_tokens_max, 109);
    trace_free(&trace);
}

static void mooncake_rows_are_read(void **state)
{
    (void)state;
    struct trace_limits limits = {0};
    struct trace trace;
    assert_int_equal(parse(MOONCAKE, &limits, &trace, NULL), STATUS_OK);
    assert_int_equal(trace.format, TRACE_MOONCAKE_JSONL);
    assert_int_equal(trace.requests_count, 3);
    assert_int_equal(trace.requests[1].at_ns, 500000000);
    assert_int_equal(trace.requests[2].at_ns, 500250000);
    assert_int_equal(trace.requests[2].line, 4);
    assert_int_equal(trace.requests[2].blocks_count, 0);
    assert_int_equal(trace.requests[0].blocks_count, 3);
    const uint64_t *ids = &trace.block_ids[trace.requests[1].blocks_first];
    assert_int_equal(trace.requests[1].blocks_count, 2);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 9);
    trace_free(&trace);
}

static void refusals_are_counted_never_clipped(void **state)
{
    (void)state;
    const char text[] = "TIMESTAMP,GeneratedTokens,Other,ContextTokens\n"
                        "2023-11-16 18:15:46,0,x,5\n"   /* no output */
                        "2023-11-16 18:15:46,5,x,0\n"   /* no prompt */
                        "2023-11-16 18:15:47,10,x,90\n" /* exactly fits */
                        "2023-11-16 18:15:47,10,x,91\n" /* one too long */
                        "2023-11-16 18:15:46.5,1,x,1\n" /* earlier than the row before */
                        "2023-11-16 18:15:47,1,x,1\n";  /* the same time is in order */
    struct trace_limits limits = {.max_model_len = 100};
    struct trace trace;
    assert_int_equal(parse(text, &limits, &trace, NULL), STATUS_OK);
    assert_int_equal(trace.rows_count, 6);
    assert_int_equal(trace.requests_count, 2);
    assert_int_equal(trace.refused_zero_count, 2);
    assert_int_equal(trace.refused_length_count, 1);
    assert_int_equal(trace.refused_unsorted_count, 1);
    assert_int_equal(trace.requests[0].prompt_tokens, 90);
    assert_int_equal(trace.requests[0].output_tokens, 10);
    trace_free(&trace);
}

static void a_refused_row_takes_its_blocks_along(void **state)
{
    (void)state;
    const char text[] =
        "{\"timestamp\":0,\"input_length\":600,\"output_length\":0,\"hash_ids\":[7,8]}\r\n"
        "{\"timestamp\":0,\"input_length\":600,\"output_length\":1,\"hash_ids\":[5,6]}\r\n";
    struct trace_limits limits = {0};
    struct trace trace;
    assert_int_equal(parse(text, &limits, &trace, NULL), STATUS_OK);
    assert_int_equal(trace.block_ids_count, 2);
    assert_int_equal(trace.block_ids[trace.requests[0].blocks_first], 5);
    trace_free(&trace);
}

static void a_limit_stops_reading(void **state)
{
    (void)state;
    const char text[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                        "2023-11-16 18:15:46,1,1\n"
                        "2023-11-16 18:15:47,1,1\n"
                        "not looked at";
    struct trace_limits limits = {.requests_max = 2};
    struct trace trace;
    assert_int_equal(parse(text, &limits, &trace, NULL), STATUS_OK);
    assert_int_equal(trace.requests_count, 2);
    trace_free(&trace);
}

static void errors_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"", "t:1: empty: want a header row with TIMESTAMP"},
        {"A,B\n1,2\n", "t:1: no column TIMESTAMP in the header row"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n", "t: no request can be sent: 0 rows"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46,1,1\r\nx,1,1\r\n",
         "t:3: TIMESTAMP: want a time like"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-16 18:15:46,1,1\n",
         "t:2: TIMESTAMP: want a time like"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,-1,1\n",
         "t:2: ContextTokens: want a count, got \"-1\""},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1\n",
         "t:2: GeneratedTokens is missing"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,\"2", "t:2: "},
        {"{\"timestamp\":0,\"input_length\":1,\"output_length\":1}\n{\"timestamp\":0}",
         "t:2: input_length is missing"},
        {"{\"timestamp\":0,\"input_length\":1.5,\"output_length\":1}",
         "t:1: input_length: want a count"},
        {"{\"timestamp\":-1,\"input_length\":1,\"output_length\":1}", "t:1: timestamp: want"},
        {"{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":[\"a\"]}",
         "t:1: hash_ids: want an array of numbers"},
        {"{\"timestamp\":0,\"input_length\":1,\"output_length\":1", "t:1: no JSON object"},
        {"{\"timestamp\":0,\"input_length\":1,\"output_length\":1} x", "t:1: no JSON object"},
        {"{\"timestamp\":0,\"input_length\":0,\"output_length\":1}",
         "t: no request can be sent: 1 rows, refused 1 for zero tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trace_limits limits = {0};
        struct trace trace = {.rows_count = 77};
        struct error error = {0};
        assert_int_equal(parse(cases[i].text, &limits, &trace, &error), STATUS_INVALID);
        if (strncmp(error.text, cases[i].error, strlen(cases[i].error)) != 0) {
            fail_msg("case %zu: got \"%s\", want \"%s\"", i, error.text, cases[i].error);
        }
        assert_int_equal(trace.rows_count, 77); /* untouched */
    }
}

static void a_file_is_read(void **state)
{
    (void)state;
    char path[] = "/tmp/trace_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, AZURE, sizeof AZURE - 1), (int)sizeof AZURE - 1);
    (void)close(fd);
    struct trace_limits limits = {0};
    struct trace trace;
    struct error error;
    assert_int_equal(trace_read(path, TRACE_AUTO, &limits, &trace, &error), STATUS_OK);
    assert_int_equal(trace.requests_count, 3);
    trace_free(&trace);
    (void)unlink(path);
    assert_int_equal(trace_read(path, TRACE_AUTO, &limits, &trace, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, path));
}

static void check_real(const char *folder, const char *name, uint32_t rows)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (access(path, R_OK) != 0) {
        return;
    }
    struct trace_limits limits = {0};
    struct trace trace;
    assert_int_equal(trace_read(path, TRACE_AUTO, &limits, &trace, NULL), STATUS_OK);
    assert_int_equal(trace.rows_count, rows);
    assert_int_equal(trace.requests_count + trace.refused_zero_count + trace.refused_length_count +
                         trace.refused_unsorted_count,
                     rows);
    trace_free(&trace);
}

static void real_traces_are_read_whole(void **state)
{
    (void)state;
    const char *folder = getenv("HARNESS_TRACES");
    if (folder == NULL) {
        skip(); /* real traces are not shipped; fixtures of both formats are read above */
    }
    check_real(folder, "AzureLLMInferenceTrace_conv.csv", 19366);
    check_real(folder, "mooncake_conversation_trace.jsonl", 12031);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(azure_rows_are_read),
        cmocka_unit_test(mooncake_rows_are_read),
        cmocka_unit_test(refusals_are_counted_never_clipped),
        cmocka_unit_test(a_refused_row_takes_its_blocks_along),
        cmocka_unit_test(a_limit_stops_reading),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(real_traces_are_read_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
