/*
 * buffer.c - growth, decimal numbers and JSON string escaping for the writers of this room. Driven
 * by them on each event, so nothing here formats through stdio.
 */
#include "engine/http/buffer.h"

#include <stdlib.h>
#include <string.h>

enum {
    BUFFER_BYTES_MIN = 512,
    DECIMAL_BYTES_MAX = 20,
    ESCAPED_BYTES_MAX = 6
};

void http_buffer_free(struct http_buffer *b)
{
    free(b->data);
    *b = (struct http_buffer){0};
}

void http_buffer_clear(struct http_buffer *b)
{
    b->bytes = 0;
    b->failed = false;
}

char *http_buffer_reserve(struct http_buffer *b, size_t bytes)
{
    if (b->cap_bytes - b->bytes >= bytes && b->data != NULL) {
        return b->data + b->bytes;
    }
    if (bytes > SIZE_MAX / 4 || b->bytes > SIZE_MAX / 4) {
        b->failed = true;
        return NULL;
    }
    size_t cap = b->cap_bytes < BUFFER_BYTES_MIN ? BUFFER_BYTES_MIN : b->cap_bytes;
    while (cap < b->bytes + bytes) {
        cap *= 2;
    }
    char *data = realloc(b->data, cap);
    if (data == NULL) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->cap_bytes = cap;
    return data + b->bytes;
}

void http_buffer_append(struct http_buffer *b, const void *data, size_t bytes)
{
    char *to = http_buffer_reserve(b, bytes);
    if (to != NULL && bytes > 0) {
        memcpy(to, data, bytes);
        b->bytes += bytes;
    }
}

void http_buffer_text(struct http_buffer *b, const char *text)
{
    http_buffer_append(b, text, strlen(text));
}

void http_buffer_u64(struct http_buffer *b, uint64_t value)
{
    char digits[DECIMAL_BYTES_MAX];
    size_t at = sizeof digits;
    do {
        at--;
        digits[at] = (char)('0' + (char)(value % 10));
        value /= 10;
    } while (value > 0);
    http_buffer_append(b, digits + at, sizeof digits - at);
}

void http_buffer_i64(struct http_buffer *b, int64_t value)
{
    uint64_t magnitude = (uint64_t)value;
    if (value < 0) {
        http_buffer_append(b, "-", 1);
        magnitude = 0 - magnitude;
    }
    http_buffer_u64(b, magnitude);
}

/* Bytes that a JSON string holds as they are, without a look at their neighbours. */
static bool plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

/* Range of the second byte behind `lead`, which excludes overlong forms, surrogates and what is
 * beyond U+10FFFF. Returns the length of the character, 0 when no character begins with `lead`. */
static size_t utf8_lead(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
        return 2;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        *low = lead == 0xE0 ? 0xA0 : 0x80;
        *high = lead == 0xED ? 0x9F : 0xBF;
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        *low = lead == 0xF0 ? 0x90 : 0x80;
        *high = lead == 0xF4 ? 0x8F : 0xBF;
        return 4;
    }
    return 0;
}

/* Length of the character at text[0..bytes), bytes > 0 and text[0] not ASCII. When it is none,
 * *valid is false and the length is that of its longest beginning that could have become one, at
 * least 1. */
static size_t utf8_length(const unsigned char *text, size_t bytes, bool *valid)
{
    unsigned char low;
    unsigned char high;
    size_t want = utf8_lead(text[0], &low, &high);
    size_t got = 1;
    while (got < want && got < bytes && text[got] >= low && text[got] <= high) {
        got++;
        low = 0x80;
        high = 0xBF;
    }
    *valid = want > 0 && got == want;
    return got;
}

/* Escapes one ASCII character that is not plain into out[]; returns the bytes. */
static size_t escape_ascii(unsigned char c, char out[ESCAPED_BYTES_MAX])
{
    static const char hex[] = "0123456789abcdef";
    static const char from[] = "\"\\\n\r\t\b\f";
    static const char to[] = "\"\\nrtbf";
    if (c == 0x7F) {
        out[0] = (char)c;
        return 1;
    }
    const char *found = c == 0 ? NULL : strchr(from, c);
    out[0] = '\\';
    if (found != NULL) {
        out[1] = to[found - from];
        return 2;
    }
    out[1] = 'u';
    out[2] = '0';
    out[3] = '0';
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return ESCAPED_BYTES_MAX;
}

void http_buffer_json(struct http_buffer *b, const char *text, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end = p + bytes;
    if (bytes > SIZE_MAX / 4 / ESCAPED_BYTES_MAX ||
        http_buffer_reserve(b, bytes * ESCAPED_BYTES_MAX) == NULL) {
        b->failed = true;
        return;
    }
    char *to = b->data + b->bytes;
    while (p < end) {
        if (plain(*p)) {
            *to++ = (char)*p++;
            continue;
        }
        if (*p < 0x80) {
            to += escape_ascii(*p++, to);
            continue;
        }
        bool valid;
        size_t length = utf8_length(p, (size_t)(end - p), &valid);
        memcpy(to, valid ? (const char *)p : "\xEF\xBF\xBD", valid ? length : 3);
        to += valid ? length : 3;
        p += length;
    }
    b->bytes = (size_t)(to - b->data);
}

bool http_utf8_valid(const char *text, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0;
    bool valid = true;
    while (at < bytes && valid) {
        uint64_t word;
        if (bytes - at >= sizeof word) {
            memcpy(&word, p + at, sizeof word);
            if ((word & 0x8080808080808080U) == 0) {
                at += sizeof word;
                continue;
            }
        }
        at += p[at] < 0x80 ? 1 : utf8_length(p + at, bytes - at, &valid);
    }
    return valid;
}
