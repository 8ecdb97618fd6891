/*
 * status_test.c - status texts and error_set(): every status has a text of its own, errors are cut
 * and never overrun.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "engine/base/status.h"

static void texts_are_distinct(void **state)
{
    (void)state;
    for (int i = 0; i < STATUS_COUNT; i++) {
        const char *text = status_text((enum status)i);
        assert_non_null(text);
        assert_true(strlen(text) > 0);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(text, status_text((enum status)j));
        }
    }
}

static void numbers_are_fixed(void **state)
{
    (void)state;
    /* They stand in result files. */
    assert_int_equal(STATUS_OK, 0);
    assert_int_equal(STATUS_NOMEM, 1);
    assert_int_equal(STATUS_INVALID, 2);
    assert_int_equal(STATUS_NOT_FOUND, 3);
    assert_int_equal(STATUS_FULL, 4);
    assert_int_equal(STATUS_IO, 5);
    assert_int_equal(STATUS_PROTOCOL, 6);
    assert_int_equal(STATUS_TIMEOUT, 7);
    assert_int_equal(STATUS_UNSUPPORTED, 8);
    assert_int_equal(STATUS_DIED, 9);
}

static void a_number_from_a_file_may_be_unknown(void **state)
{
    (void)state;
    volatile int number = 1000;
    assert_string_equal(status_text((enum status)number), "unknown status");
    number = -1;
    assert_string_equal(status_text((enum status)number), "unknown status");
}

static void error_is_formatted(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(error_set(&error, STATUS_INVALID, "%s:%d: %s", "a.ini", 12, "bad"),
                     STATUS_INVALID);
    assert_int_equal(error.status, STATUS_INVALID);
    assert_string_equal(error.text, "a.ini:12: bad");
}

static void error_may_be_unwanted(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, STATUS_IO, "%d", 1), STATUS_IO);
}

static void long_error_is_cut(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct {
        struct error error;
        char guard[16];
    } box;
    memset(box.guard, 'g', sizeof box.guard);
    (void)error_set(&box.error, STATUS_FULL, "%s", text);
    assert_int_equal(strlen(box.error.text), sizeof box.error.text - 1);
    for (size_t i = 0; i < sizeof box.guard; i++) {
        assert_int_equal(box.guard[i], 'g');
    }
}

static enum status tried(enum status given, int *after)
{
    TRY(given);
    (*after)++;
    return STATUS_OK;
}

static void try_returns_early(void **state)
{
    (void)state;
    int after = 0;
    assert_int_equal(tried(STATUS_TIMEOUT, &after), STATUS_TIMEOUT);
    assert_int_equal(after, 0);
    assert_int_equal(tried(STATUS_OK, &after), STATUS_OK);
    assert_int_equal(after, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_distinct),
        cmocka_unit_test(numbers_are_fixed),
        cmocka_unit_test(a_number_from_a_file_may_be_unknown),
        cmocka_unit_test(error_is_formatted),
        cmocka_unit_test(error_may_be_unwanted),
        cmocka_unit_test(long_error_is_cut),
        cmocka_unit_test(try_returns_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
