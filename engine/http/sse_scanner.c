/*
 * sse_scanner.c - finds the events of a stream in body bytes and reads what a load client records
 * of each. Driven by the load client on every read of every stream, so it copies only events that
 * are split and reads JSON by skipping, not by building: of an event that is not JSON it promises
 * only to notice when the part it reads is broken.
 */
#include <string.h>

#include "engine/http/sse.h"

struct cursor {
    const char *p;
    const char *end;
};

struct span {
    const char *data;
    size_t bytes;
};

enum walk {
    WALK_ITEM,
    WALK_END,
    WALK_BAD
};

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\r' || *c->p == '\t')) {
        c->p++;
    }
}

static bool at_char(const struct cursor *c, char want)
{
    return c->p < c->end && *c->p == want;
}

/* Reads past a string; *inside is what stands between its quotes, escapes untouched. */
static bool read_string(struct cursor *c, struct span *inside)
{
    if (!at_char(c, '"')) {
        return false;
    }
    const char *p = c->p + 1;
    const char *end = c->end;
    inside->data = p;
    while (p < end && *p != '"') {
        p += *p == '\\' ? 2 : 1;
    }
    if (p >= end) {
        return false;
    }
    inside->bytes = (size_t)(p - inside->data);
    c->p = p + 1;
    return true;
}

static bool skip_nested(struct cursor *c)
{
    size_t depth = 0;
    struct span ignored;
    while (c->p < c->end) {
        switch (*c->p) {
        case '"':
            if (!read_string(c, &ignored)) {
                return false;
            }
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth--;
            break;
        default:
            break;
        }
        c->p++;
        if (depth == 0) {
            return true;
        }
    }
    return false;
}

static bool skip_value(struct cursor *c)
{
    struct span ignored;
    if (at_char(c, '"')) {
        return read_string(c, &ignored);
    }
    if (at_char(c, '{') || at_char(c, '[')) {
        return skip_nested(c);
    }
    const char *from = c->p;
    while (c->p < c->end && ((*c->p >= 'a' && *c->p <= 'z') || (*c->p >= '0' && *c->p <= '9') ||
                             *c->p == '-' || *c->p == '+' || *c->p == '.' || *c->p == 'E')) {
        c->p++;
    }
    return c->p > from;
}

/* Steps to the next element behind an opening bracket, or past the closing one. */
static enum walk next_item(struct cursor *c, bool *first, char close)
{
    skip_space(c);
    if (at_char(c, close)) {
        c->p++;
        return WALK_END;
    }
    if (!*first) {
        if (!at_char(c, ',')) {
            return WALK_BAD;
        }
        c->p++;
        skip_space(c);
    }
    *first = false;
    return c->p < c->end ? WALK_ITEM : WALK_BAD;
}

/* The same for an object: reads the key and stops at its value. */
static enum walk next_member(struct cursor *c, bool *first, struct span *key)
{
    enum walk walk = next_item(c, first, '}');
    if (walk != WALK_ITEM) {
        return walk;
    }
    if (!read_string(c, key)) {
        return WALK_BAD;
    }
    skip_space(c);
    if (!at_char(c, ':')) {
        return WALK_BAD;
    }
    c->p++;
    skip_space(c);
    return WALK_ITEM;
}

/* `name` is a literal, so that its length is known to the compiler. */
#define KEY_IS(key, name) \
    ((key)->bytes == sizeof(name) - 1 && memcmp((key)->data, name, sizeof(name) - 1) == 0)

/* Elements of an array; 0 for any other value. */
static bool count_elements(struct cursor *c, uint32_t *count)
{
    *count = 0;
    if (!at_char(c, '[')) {
        return skip_value(c);
    }
    c->p++;
    bool first = true;
    enum walk walk;
    while ((walk = next_item(c, &first, ']')) == WALK_ITEM) {
        if (!skip_value(c)) {
            return false;
        }
        ++*count;
    }
    return walk == WALK_END;
}

/* Notes content in a string that is not empty; other values are passed over. */
static bool read_text(struct cursor *c, struct sse_event *event)
{
    struct span text;
    if (!at_char(c, '"')) {
        return skip_value(c);
    }
    if (!read_string(c, &text)) {
        return false;
    }
    event->has_content |= text.bytes > 0;
    return true;
}

static bool read_array_content(struct cursor *c, struct sse_event *event, bool token_ids)
{
    uint32_t count;
    if (!count_elements(c, &count)) {
        return false;
    }
    event->has_content |= count > 0;
    event->token_ids_count += token_ids ? count : 0;
    return true;
}

/* One member of a delta (or of the message of an answer that was not streamed). */
static bool read_delta_member(struct cursor *c, const struct span *key, struct sse_event *event)
{
    if (KEY_IS(key, "content") || KEY_IS(key, "reasoning_content") || KEY_IS(key, "reasoning")) {
        return read_text(c, event);
    }
    if (KEY_IS(key, "token_ids")) {
        return read_array_content(c, event, true);
    }
    if (KEY_IS(key, "tool_calls")) {
        return read_array_content(c, event, false);
    }
    return skip_value(c);
}

/* Hands each member of an object to `read`, which must use up the value; other values are passed
 * over. */
static bool read_object(struct cursor *c, struct sse_event *event,
                        bool (*read)(struct cursor *, const struct span *, struct sse_event *))
{
    if (!at_char(c, '{')) {
        return skip_value(c);
    }
    c->p++;
    bool first = true;
    struct span key;
    enum walk walk;
    while ((walk = next_member(c, &first, &key)) == WALK_ITEM) {
        if (!read(c, &key, event)) {
            return false;
        }
    }
    return walk == WALK_END;
}

static bool read_choice_member(struct cursor *c, const struct span *key, struct sse_event *event)
{
    if (KEY_IS(key, "text")) {
        return read_text(c, event);
    }
    if (KEY_IS(key, "delta") || KEY_IS(key, "message")) {
        return read_object(c, event, read_delta_member);
    }
    if (KEY_IS(key, "token_ids")) {
        return read_array_content(c, event, true);
    }
    if (KEY_IS(key, "finish_reason")) {
        event->has_finish |= at_char(c, '"');
    }
    return skip_value(c);
}

static bool read_choices(struct cursor *c, struct sse_event *event)
{
    if (!at_char(c, '[')) {
        return skip_value(c);
    }
    c->p++;
    bool first = true;
    enum walk walk;
    while ((walk = next_item(c, &first, ']')) == WALK_ITEM) {
        event->choices_count++;
        if (!read_object(c, event, read_choice_member)) {
            return false;
        }
    }
    return walk == WALK_END;
}

/* A count that is no number is 0; beyond 32 bits it stays at the greatest. */
static bool read_count(struct cursor *c, uint32_t *count)
{
    uint64_t value = 0;
    for (const char *p = c->p; p < c->end && *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (uint64_t)(*p - '0');
        value = value > UINT32_MAX ? UINT32_MAX : value;
    }
    *count = (uint32_t)value;
    return skip_value(c);
}

static bool read_usage_member(struct cursor *c, const struct span *key, struct sse_event *event)
{
    if (KEY_IS(key, "prompt_tokens")) {
        return read_count(c, &event->prompt_tokens);
    }
    if (KEY_IS(key, "completion_tokens")) {
        return read_count(c, &event->completion_tokens);
    }
    return skip_value(c);
}

static bool read_top_member(struct cursor *c, const struct span *key, struct sse_event *event)
{
    if (KEY_IS(key, "choices")) {
        return read_choices(c, event);
    }
    if (KEY_IS(key, "usage")) {
        event->has_usage |= at_char(c, '{');
        return read_object(c, event, read_usage_member);
    }
    if (KEY_IS(key, "error")) {
        event->has_error |= !at_char(c, 'n');
    }
    return skip_value(c);
}

static void read_event(const char *data, size_t bytes, struct sse_event *event)
{
    struct cursor c = {data, data + bytes};
    *event = (struct sse_event){0};
    skip_space(&c);
    if (at_char(&c, '{') && read_object(&c, event, read_top_member)) {
        skip_space(&c);
        if (c.p == c.end) {
            return;
        }
    }
    *event = (struct sse_event){.malformed = true};
    if (c.end - c.p >= 6 && memcmp(c.p, "[DONE]", 6) == 0) {
        c.p += 6;
        skip_space(&c);
        event->done = c.p == c.end;
        event->malformed = !event->done;
    }
}

/* Length of the line end at data[at..bytes), 0 when there is none. */
static size_t line_end(const char *data, size_t bytes, size_t at)
{
    if (at < bytes && data[at] == '\n') {
        return 1;
    }
    return at + 1 < bytes && data[at] == '\r' && data[at + 1] == '\n' ? 2 : 0;
}

static bool is_data_line(const struct span *line)
{
    return line->bytes >= 5 && memcmp(line->data, "data:", 5) == 0;
}

/* Keeps the beginning of a line whose end has not come. */
static void keep_line(struct sse_scanner *s, const char *data, size_t bytes)
{
    size_t room = SSE_EVENT_BYTES_MAX - s->line.bytes;
    size_t fits = bytes < room ? bytes : room;
    http_buffer_append(&s->line, data, fits);
    struct span line = {s->line.data, s->line.bytes};
    s->oversized |= s->line.failed || (fits < bytes && is_data_line(&line));
}

/* Keeps a data line until the blank line behind it. */
static void keep_data(struct sse_scanner *s, const struct span *value)
{
    if (s->carry.bytes + value->bytes + 1 > SSE_EVENT_BYTES_MAX) {
        s->oversized = true;
        return;
    }
    if (s->has_data) {
        http_buffer_append(&s->carry, "\n", 1);
    }
    http_buffer_append(&s->carry, value->data, value->bytes);
    s->has_data = true;
    s->oversized |= s->carry.failed;
}

/* The event that ends here; false when nothing but comments came since the last one. */
static bool dispatch(struct sse_scanner *s, struct sse_event *event)
{
    bool any = s->has_data || s->oversized;
    if (s->oversized) {
        *event = (struct sse_event){.malformed = true};
    } else if (s->has_data) {
        read_event(s->carry.data, s->carry.bytes, event);
    }
    s->oversized = false;
    s->has_data = false;
    http_buffer_clear(&s->carry);
    return any;
}

bool sse_scanner_next(struct sse_scanner *s, const char *data, size_t bytes, size_t *at,
                      struct sse_event *event)
{
    while (*at < bytes) {
        const char *from = data + *at;
        const char *newline = memchr(from, '\n', bytes - *at);
        if (newline == NULL) {
            keep_line(s, from, bytes - *at);
            *at = bytes;
            return false;
        }
        *at = (size_t)(newline - data) + 1;
        struct span line = {from, (size_t)(newline - from)};
        if (s->line.bytes > 0) {
            keep_line(s, line.data, line.bytes);
            line = (struct span){s->line.data, s->line.bytes};
            http_buffer_clear(&s->line);
        }
        if (line.bytes > 0 && line.data[line.bytes - 1] == '\r') {
            line.bytes--;
        }
        if (line.bytes == 0) {
            if (dispatch(s, event)) {
                return true;
            }
            continue;
        }
        if (!is_data_line(&line) || s->oversized) {
            continue;
        }
        size_t skip = line.bytes > 5 && line.data[5] == ' ' ? 6 : 5;
        struct span value = {line.data + skip, line.bytes - skip};
        size_t blank = line_end(data, bytes, *at);
        if (!s->has_data && blank > 0) {
            *at += blank;
            read_event(value.data, value.bytes, event);
            return true;
        }
        keep_data(s, &value);
    }
    return false;
}

void sse_scanner_reset(struct sse_scanner *s)
{
    http_buffer_clear(&s->carry);
    http_buffer_clear(&s->line);
    s->oversized = false;
    s->has_data = false;
}

void sse_scanner_free(struct sse_scanner *s)
{
    http_buffer_free(&s->carry);
    http_buffer_free(&s->line);
    *s = (struct sse_scanner){0};
}
