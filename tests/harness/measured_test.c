/*
 * measured_test.c - a measured run of others as it stands in its file, worked out by hand, and what
 * is wrong with those that cannot be read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "harness/load/measured.h"

static enum status parse(const char *text, struct measured_run *out, struct error *error)
{
    char copy[2048];
    (void)snprintf(copy, sizeof copy, "%s", text);
    FILE *in = fmemopen(copy, strlen(copy), "r");
    assert_non_null(in);
    enum status status = measured_parse("a.jsonl", in, out, error);
    (void)fclose(in);
    return status;
}

#define ROW(in, out, arrival, queued, scheduled, first, last)                                     \
    "{\"request_id\": \"x\", \"input_toks\": " #in ", \"output_toks\": " #out                     \
    ", \"arrival_time\": " #arrival ", \"queued_ts\": " #queued ", \"scheduled_ts\": " #scheduled \
    ", \"first_token_ts\": " #first ", \"last_token_ts\": " #last "}"

/* The second row came first, and was queued 0.25 s faster than the other, which shows in no time.
 */
static void times_are_since_the_first_arrival_on_the_engines_clock(void **state)
{
    (void)state;
    struct measured_run run;
    struct error error;
    const char *text = ROW(7, 3, 1001.5, 52.0, 52.5, 53.0, 55.0) "\r\n\n" ROW(9, 1, 1000.0, 50.25,
                                                                              50.25, 50.5, 50.5);
    assert_int_equal(parse(text, &run, &error), STATUS_OK);
    assert_int_equal(run.count, 2);
    const struct measured_request *a = &run.requests[0];
    const struct measured_request *b = &run.requests[1];
    assert_int_equal(a->prompt_tokens, 9);
    assert_int_equal(a->output_tokens, 1);
    assert_int_equal(a->arrival_ns, 0);
    assert_int_equal(a->queued_ns, 0);
    assert_int_equal(a->scheduled_ns, 0);
    assert_int_equal(a->first_ns, 250000000);
    assert_int_equal(a->last_ns, 250000000);
    assert_int_equal(b->arrival_ns, 1500000000);
    assert_int_equal(b->queued_ns, 1750000000);
    assert_int_equal(b->scheduled_ns, 2250000000);
    assert_int_equal(b->first_ns, 2750000000);
    assert_int_equal(b->last_ns, 4750000000);
    measured_free(&run);
}

static void what_is_wrong_is_said_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"", "a.jsonl: no request in it"},
        {"\n\n", "a.jsonl: no request in it"},
        {"{", "a.jsonl:1: line: want one JSON object and nothing else"},
        {"[]", "a.jsonl:1: line: want one JSON object and nothing else"},
        {"\n{} {}", "a.jsonl:2: line: want one JSON object and nothing else"},
        {"{\"output_toks\": 1}", "a.jsonl:1: input_toks: want this field"},
        {ROW(0, 1, 1, 1, 1, 1, 1), "a.jsonl:1: input_toks: want at least one token"},
        {ROW(1, 1.5, 1, 1, 1, 1, 1), "a.jsonl:1: output_toks: want at least one token"},
        {ROW(1, 1, -1, 1, 1, 1, 1), "a.jsonl:1: arrival_time: want seconds, 0 to 2.5e9"},
        {ROW(1, 1, 1, "1", 1, 1, 1), "a.jsonl:1: queued_ts: want seconds, 0 to 2.5e9"},
        {ROW(1, 1, 1, 1, 1, 3, 2),
         "a.jsonl:1: queued_ts, scheduled_ts, first_token_ts, last_token_ts: want times in this "
         "order"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct measured_run run;
        struct error error;
        assert_int_not_equal(parse(cases[i].text, &run, &error), STATUS_OK);
        assert_string_equal(error.text, cases[i].says);
    }
    struct measured_run run;
    struct error error;
    assert_int_equal(measured_read("no/such/file", &run, &error), STATUS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_since_the_first_arrival_on_the_engines_clock),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
