/*
 * svg.c - copies an SVG tag by tag (svg.h). Keeps a short list of elements, so that no script, link
 * or foreign content can come into the page by way of a drawing; must not fetch or draw anything.
 */
#include "harness/report/svg.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "harness/report/markup.h"

enum {
    NAME_BYTES = 32
};

static const char *const shapes[] = {
    "svg",  "g",       "defs",     "use",   "path",    "circle",   "ellipse",        "rect", "line",
    "text", "polygon", "polyline", "tspan", "pattern", "clipPath", "linearGradient", "stop",
};

/* A tag from '<' to '>'. */
struct tag {
    char name[NAME_BYTES];
    bool closing; /* </g> */
    bool empty;   /* <g/> */
    const char *attributes;
    const char *end; /* behind the '>' */
};

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == ':' || c == '_';
}

static const char *skip_blank(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* Behind the tag's '>', which a quoted '>' is not. NULL: the text ends before. */
static const char *tag_end(const char *at)
{
    char quote = '\0';
    for (; *at != '\0'; at++) {
        if (quote != '\0' && *at == quote) {
            quote = '\0';
        } else if (quote != '\0') {
            continue;
        } else if (*at == '"' || *at == '\'') {
            quote = *at;
        } else if (*at == '>') {
            return at + 1;
        }
    }
    return NULL;
}

/* `at` is at the '<'. */
static bool read_tag(const char *at, struct tag *t)
{
    size_t used = 0;
    *t = (struct tag){.end = tag_end(at)};
    if (t->end == NULL) {
        return false;
    }
    at++;
    t->closing = *at == '/';
    at += t->closing ? 1 : 0;
    while (is_name(*at) && used + 1 < sizeof t->name) {
        t->name[used++] = *at++;
    }
    t->attributes = at;
    t->empty = t->end[-2] == '/';
    return true;
}

static bool is_shape(const struct tag *t)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(t->name, shapes[i]) == 0) {
            return true;
        }
    }
    return false;
}

struct attribute {
    const char *name;
    size_t name_bytes;
    const char *value;
    size_t value_bytes;
};

/* The next NAME="VALUE" before `end`; false: there is none. */
static bool read_attribute(const char **at, const char *end, struct attribute *a)
{
    const char *p = skip_blank(*at);
    a->name = p;
    while (p < end && is_name(*p)) {
        p++;
    }
    a->name_bytes = (size_t)(p - a->name);
    p = skip_blank(p);
    if (a->name_bytes == 0 || p >= end || *p != '=') {
        return false;
    }
    p = skip_blank(p + 1);
    const char *close = p < end && (*p == '"' || *p == '\'') ? strchr(p + 1, *p) : NULL;
    if (close == NULL || close >= end) {
        return false;
    }
    a->value = p + 1;
    a->value_bytes = (size_t)(close - a->value);
    *at = close + 1;
    return true;
}

static bool is_called(const struct attribute *a, const char *name)
{
    return a->name_bytes == strlen(name) && strncasecmp(a->name, name, a->name_bytes) == 0;
}

static bool holds(const struct attribute *a, const char *words)
{
    return memmem(a->value, a->value_bytes, words, strlen(words)) != NULL;
}

static void write_value(const struct attribute *a, size_t from, FILE *out)
{
    for (size_t i = from; i < a->value_bytes; i++) {
        switch (a->value[i]) {
        case '"':
            (void)fputs("&quot;", out);
            break;
        case '<':
            (void)fputs("&lt;", out);
            break;
        default:
            (void)fputc(a->value[i], out);
        }
    }
}

/* References lead only into the same drawing. */
static void write_attribute(const struct attribute *a, const char *prefix, FILE *out)
{
    bool reference = is_called(a, "href") || is_called(a, "xlink:href");
    if (is_called(a, "id")) {
        (void)fprintf(out, " id=\"%s-", prefix);
        write_value(a, 0, out);
        (void)fputc('"', out);
    } else if (reference && a->value_bytes > 1 && a->value[0] == '#') {
        (void)fprintf(out, " href=\"#%s-", prefix);
        write_value(a, 1, out);
        (void)fputc('"', out);
    } else if (a->value_bytes > 5 && strncmp(a->value, "url(#", 5) == 0) {
        (void)fprintf(out, " %.*s=\"url(#%s-", (int)a->name_bytes, a->name, prefix);
        write_value(a, 5, out);
        (void)fputc('"', out);
    } else if (!reference && strncasecmp(a->name, "on", 2) != 0 &&
               strncasecmp(a->name, "xmlns", 5) != 0 && !is_called(a, "class") &&
               !is_called(a, "style") && !holds(a, "url(")) {
        (void)fprintf(out, " %.*s=\"", (int)a->name_bytes, a->name);
        write_value(a, 0, out);
        (void)fputc('"', out);
    }
}

static void write_tag(const struct tag *t, const char *prefix, FILE *out)
{
    struct attribute a;
    const char *at = t->attributes;
    if (t->closing) {
        (void)fprintf(out, "</%s>", t->name);
        return;
    }
    (void)fprintf(out, "<%s", t->name);
    while (read_attribute(&at, t->end, &a)) {
        write_attribute(&a, prefix, out);
    }
    (void)fputs(t->empty ? "/>" : ">", out);
}

/* The drawing's size comes from the page; the view box keeps its proportions. */
static void write_root(const struct tag *t, const char *label, FILE *out)
{
    struct attribute a;
    const char *at = t->attributes;
    (void)fputs("<svg role=\"img\" aria-label=\"", out);
    markup_escape(label, out);
    (void)fputc('"', out);
    while (read_attribute(&at, t->end, &a)) {
        if (is_called(&a, "viewBox")) {
            (void)fputs(" viewBox=\"", out);
            write_value(&a, 0, out);
            (void)fputc('"', out);
        }
    }
    (void)fputc('>', out);
}

/* Behind the element that `t` opens. */
static const char *skip_element(const struct tag *t)
{
    struct tag inner;
    const char *at = t->end;
    uint32_t depth = t->closing || t->empty || t->name[0] == '\0' ? 0 : 1;
    while (depth > 0) {
        at = strchr(at, '<');
        if (at == NULL || !read_tag(at, &inner)) {
            return t->end + strlen(t->end);
        }
        if (strcmp(inner.name, t->name) == 0 && !inner.empty) {
            depth = inner.closing ? depth - 1 : depth + 1;
        }
        at = inner.end;
    }
    return at;
}

bool svg_inline(const char *svg, const char *prefix, const char *label, FILE *out)
{
    struct tag t;
    const char *at = strstr(svg, "<svg");
    if (at == NULL || !read_tag(at, &t)) {
        return false;
    }
    write_root(&t, label, out);
    for (at = t.end; *at != '\0'; at = is_shape(&t) ? t.end : skip_element(&t)) {
        size_t text_bytes = strcspn(at, "<");
        (void)fwrite(at, 1, text_bytes, out);
        at += text_bytes;
        if (*at == '\0' || !read_tag(at, &t) || (t.closing && strcmp(t.name, "svg") == 0)) {
            break;
        }
        if (is_shape(&t)) {
            write_tag(&t, prefix, out);
        }
    }
    (void)fputs("</svg>\n", out);
    return true;
}
