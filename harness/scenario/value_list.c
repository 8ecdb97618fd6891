/*
 * value_list.c - lists and ranges of sweep axes (value.h). Pure functions.
 */
#include "harness/scenario/value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    ITEM_BYTES_MAX = 64,
    UNIT_BYTES_MAX = 8
};

static const int64_t range_number_max = 1000000000000;

/* A whole number with the unit that follows it, as 50% or 10ms. */
struct quantity {
    int64_t number;
    char unit[UNIT_BYTES_MAX];
};

static const char *quantity_read(const char *at, struct quantity *out)
{
    struct quantity q = {.number = 0};
    if (!isdigit((unsigned char)*at)) {
        return NULL;
    }
    for (; isdigit((unsigned char)*at); at++) {
        q.number = q.number * 10 + (*at - '0');
        if (q.number > range_number_max) {
            return NULL;
        }
    }
    size_t bytes = 0;
    while (isalpha((unsigned char)at[bytes]) || at[bytes] == '%' || at[bytes] == '/') {
        bytes++;
    }
    if (bytes >= sizeof q.unit) {
        return NULL;
    }
    memcpy(q.unit, at, bytes);
    *out = q;
    return at + bytes;
}

struct range {
    struct quantity first;
    struct quantity last;
    struct quantity step;
    bool geometric;
};

/* False if the text is not `a..b`, `a..b*f` or `a..b+s`. */
static bool range_read(const char *text, struct range *out)
{
    struct range r = {.step = {.number = 1}};
    const char *at = quantity_read(text, &r.first);
    if (at == NULL || strncmp(at, "..", 2) != 0) {
        return false;
    }
    at = quantity_read(at + 2, &r.last);
    if (at == NULL) {
        return false;
    }
    memcpy(r.step.unit, r.first.unit, sizeof r.step.unit);
    r.geometric = *at == '*';
    if (*at == '*' || *at == '+') {
        at = quantity_read(at + 1, &r.step);
    }
    if (at == NULL || *at != '\0') {
        return false;
    }
    *out = r;
    return true;
}

static enum status range_check(const struct range *r, const char *text, struct error *error)
{
    const char *step_unit = r->geometric ? "" : r->first.unit;
    if (strcmp(r->first.unit, r->last.unit) != 0 || strcmp(r->step.unit, step_unit) != 0) {
        return error_set(error, STATUS_INVALID, "the range '%.40s' mixes units", text);
    }
    if (r->first.number > r->last.number) {
        return error_set(error, STATUS_INVALID, "the range '%.40s' goes down", text);
    }
    if (r->geometric && (r->step.number < 2 || r->first.number == 0)) {
        return error_set(error, STATUS_INVALID,
                         "the range '%.40s' does not grow: start at 1 or more, factor 2 or more",
                         text);
    }
    if (r->step.number == 0) {
        return error_set(error, STATUS_INVALID, "the range '%.40s' has step 0", text);
    }
    return STATUS_OK;
}

static enum status range_put(const struct range *r, const struct value_list_sink *sink,
                             struct error *error)
{
    int64_t number = r->first.number;
    while (number <= r->last.number) {
        char value[ITEM_BYTES_MAX];
        (void)snprintf(value, sizeof value, "%" PRId64 "%s", number, r->first.unit);
        TRY(sink->put(sink->ctx, value, error));
        if (r->geometric) {
            if (__builtin_mul_overflow(number, r->step.number, &number)) {
                break;
            }
        } else {
            number += r->step.number;
        }
    }
    return STATUS_OK;
}

static enum status item_put(const char *item, const struct value_list_sink *sink,
                            struct error *error)
{
    struct range range;
    if (range_read(item, &range)) {
        TRY(range_check(&range, item, error));
        return range_put(&range, sink, error);
    }
    if (strstr(item, "..") != NULL) {
        return error_set(error, STATUS_INVALID,
                         "'%.40s' is no range: write 1..8, 1..8*2 or 10..100+10", item);
    }
    return sink->put(sink->ctx, item, error);
}

enum status value_list(const char *text, const struct value_list_sink *sink, struct error *error)
{
    for (const char *at = text; at != NULL;) {
        char item[ITEM_BYTES_MAX];
        at += strspn(at, " \t");
        size_t bytes = strcspn(at, ",");
        const char *next = at[bytes] == ',' ? at + bytes + 1 : NULL;
        while (bytes > 0 && (at[bytes - 1] == ' ' || at[bytes - 1] == '\t')) {
            bytes--;
        }
        if (bytes == 0) {
            return error_set(error, STATUS_INVALID, "a value of the list is missing");
        }
        if (bytes >= sizeof item) {
            return error_set(error, STATUS_INVALID,
                             "a value of the list is longer than %d characters",
                             ITEM_BYTES_MAX - 1);
        }
        memcpy(item, at, bytes);
        item[bytes] = '\0';
        TRY(item_put(item, sink, error));
        at = next;
    }
    return STATUS_OK;
}

bool value_is_list(const char *text)
{
    struct range range;
    size_t digits = strspn(text, "0123456789");
    const char *rest = text + digits + strspn(text + digits, " ");
    return range_read(text, &range) || (digits > 0 && *rest == ',');
}
