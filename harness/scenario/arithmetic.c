/*
 * arithmetic.c - owns the recursive descent over sums and conditions. Called by value.c and cell.c.
 * Must not overflow: each operation is checked, and depth is bounded.
 */
#include "harness/scenario/arithmetic.h"

#include <ctype.h>
#include <string.h>

enum {
    DEPTH_MAX = 16,
    NAME_BYTES_MAX = 64
};

struct parser {
    const char *at;
    const struct arithmetic_scope *scope;
    struct error *error;
    uint32_t depth;
};

static enum status sum(struct parser *p, int64_t *out);

static void skip_blanks(struct parser *p)
{
    while (*p->at == ' ' || *p->at == '\t') {
        p->at++;
    }
}

static enum status too_large(struct parser *p)
{
    return error_set(p->error, STATUS_INVALID, "the result is too large");
}

static int64_t suffix_factor(struct parser *p)
{
    static const struct {
        const char *suffix;
        int64_t factor;
    } suffixes[] = {{"Ki", 1LL << 10}, {"Mi", 1LL << 20}, {"Gi", 1LL << 30}, {"K", 1000},
                    {"k", 1000},       {"M", 1000000},    {"G", 1000000000}};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t bytes = strlen(suffixes[i].suffix);
        if (strncmp(p->at, suffixes[i].suffix, bytes) == 0 &&
            !isalnum((unsigned char)p->at[bytes])) {
            p->at += bytes;
            return suffixes[i].factor;
        }
    }
    return 1;
}

static enum status number(struct parser *p, int64_t *out)
{
    int64_t value = 0;
    while (isdigit((unsigned char)*p->at)) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *p->at - '0', &value)) {
            return too_large(p);
        }
        p->at++;
    }
    if (__builtin_mul_overflow(value, suffix_factor(p), &value)) {
        return too_large(p);
    }
    if (isalpha((unsigned char)*p->at) || *p->at == '_' || *p->at == '.') {
        return error_set(p->error, STATUS_INVALID, "'%.20s' does not belong to a whole number",
                         p->at);
    }
    *out = value;
    return STATUS_OK;
}

static enum status name(struct parser *p, int64_t *out)
{
    char text[NAME_BYTES_MAX];
    size_t bytes = 0;
    do {
        if (bytes + 1 == sizeof text) {
            return error_set(p->error, STATUS_INVALID, "a name is too long");
        }
        text[bytes++] = *p->at++;
    } while (isalnum((unsigned char)*p->at) || *p->at == '_');
    text[bytes] = '\0';
    return p->scope->lookup(p->scope->ctx, text, out, p->error);
}

static enum status factor(struct parser *p, int64_t *out)
{
    skip_blanks(p);
    if (isdigit((unsigned char)*p->at)) {
        return number(p, out);
    }
    if (isalpha((unsigned char)*p->at) || *p->at == '_' || *p->at == '$') {
        return name(p, out);
    }
    if (*p->at != '(' && *p->at != '-') {
        return error_set(p->error, STATUS_INVALID, "expected a whole number, found '%.20s'",
                         *p->at == '\0' ? "end of value" : p->at);
    }
    if (p->depth == DEPTH_MAX) {
        return error_set(p->error, STATUS_INVALID, "nested too deeply");
    }
    int64_t value = 0;
    bool negative = *p->at == '-';
    p->at++;
    p->depth++;
    TRY(negative ? factor(p, &value) : sum(p, &value));
    p->depth--;
    if (negative) {
        if (__builtin_sub_overflow(0, value, &value)) {
            return too_large(p);
        }
        *out = value;
        return STATUS_OK;
    }
    skip_blanks(p);
    if (*p->at != ')') {
        return error_set(p->error, STATUS_INVALID, "a ')' is missing");
    }
    p->at++;
    *out = value;
    return STATUS_OK;
}

static enum status product(struct parser *p, int64_t *out)
{
    int64_t value = 0;
    TRY(factor(p, &value));
    for (;;) {
        skip_blanks(p);
        char op = *p->at;
        if (op != '*' && op != '/') {
            *out = value;
            return STATUS_OK;
        }
        int64_t right = 0;
        p->at++;
        TRY(factor(p, &right));
        if (op == '/' && right == 0) {
            return error_set(p->error, STATUS_INVALID, "division by zero");
        }
        if (op == '*' ? __builtin_mul_overflow(value, right, &value)
                      : (value == INT64_MIN && right == -1)) {
            return too_large(p);
        }
        if (op == '/') {
            value /= right;
        }
    }
}

static enum status sum(struct parser *p, int64_t *out)
{
    int64_t value = 0;
    TRY(product(p, &value));
    for (;;) {
        skip_blanks(p);
        char op = *p->at;
        if (op != '+' && op != '-') {
            *out = value;
            return STATUS_OK;
        }
        int64_t right = 0;
        p->at++;
        TRY(product(p, &right));
        if (op == '+' ? __builtin_add_overflow(value, right, &value)
                      : __builtin_sub_overflow(value, right, &value)) {
            return too_large(p);
        }
    }
}

static enum status compare(struct parser *p, bool *out)
{
    int64_t left = 0;
    int64_t right = 0;
    TRY(sum(p, &left));
    skip_blanks(p);
    char op = *p->at;
    bool equal = op != '\0' && p->at[1] == '=';
    if ((op != '<' && op != '>' && op != '=' && op != '!') ||
        ((op == '=' || op == '!') && !equal)) {
        return error_set(p->error, STATUS_INVALID,
                         "expected a comparison (< <= > >= == !=), found '%.20s'",
                         op == '\0' ? "end of value" : p->at);
    }
    p->at += equal ? 2 : 1;
    TRY(sum(p, &right));
    switch (op) {
    case '<':
        *out = equal ? left <= right : left < right;
        break;
    case '>':
        *out = equal ? left >= right : left > right;
        break;
    case '=':
        *out = left == right;
        break;
    default:
        *out = left != right;
        break;
    }
    return STATUS_OK;
}

static bool word(struct parser *p, const char *text)
{
    size_t bytes = strlen(text);
    skip_blanks(p);
    if (strncmp(p->at, text, bytes) != 0 || isalnum((unsigned char)p->at[bytes]) ||
        p->at[bytes] == '_') {
        return false;
    }
    p->at += bytes;
    return true;
}

static enum status all(struct parser *p, bool *out)
{
    bool value = true;
    do {
        bool one = false;
        TRY(compare(p, &one));
        value = value && one;
    } while (word(p, "and"));
    *out = value;
    return STATUS_OK;
}

static enum status finished(struct parser *p)
{
    skip_blanks(p);
    if (*p->at != '\0') {
        return error_set(p->error, STATUS_INVALID, "unexpected '%.20s'", p->at);
    }
    return STATUS_OK;
}

enum status arithmetic_integer(const char *text, const struct arithmetic_scope *scope, int64_t *out,
                               struct error *error)
{
    struct parser p = {.at = text, .scope = scope, .error = error};
    int64_t value = 0;
    TRY(sum(&p, &value));
    TRY(finished(&p));
    *out = value;
    return STATUS_OK;
}

enum status arithmetic_condition(const char *text, const struct arithmetic_scope *scope, bool *out,
                                 struct error *error)
{
    struct parser p = {.at = text, .scope = scope, .error = error};
    bool value = false;
    do {
        bool one = false;
        TRY(all(&p, &one));
        value = value || one;
    } while (word(&p, "or"));
    TRY(finished(&p));
    *out = value;
    return STATUS_OK;
}
