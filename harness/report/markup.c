/*
 * markup.c - from lines of Markdown to HTML elements (markup.h). Knows the subset that markdown.c
 * writes and nothing of what it says; must not pass on any tag that it finds.
 */
#include "harness/report/markup.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct line {
    const char *text;
    size_t bytes; /* without the line break */
};

static struct line line_at(const char *at)
{
    return (struct line){at, strcspn(at, "\n")};
}

static const char *after(struct line l)
{
    return l.text + l.bytes + (l.text[l.bytes] == '\n' ? 1 : 0);
}

static bool starts(struct line l, const char *with)
{
    return l.bytes >= strlen(with) && strncmp(l.text, with, strlen(with)) == 0;
}

/* ---- text ---- */

static void escape_char(char c, FILE *out)
{
    switch (c) {
    case '<':
        (void)fputs("&lt;", out);
        break;
    case '>':
        (void)fputs("&gt;", out);
        break;
    case '&':
        (void)fputs("&amp;", out);
        break;
    case '"':
        (void)fputs("&quot;", out);
        break;
    case '\'':
        (void)fputs("&#39;", out);
        break;
    default: /* control characters have no place in HTML, not even escaped */
        (void)fputc((unsigned char)c < ' ' && c != '\n' && c != '\t' ? ' ' : c, out);
    }
}

void markup_escape(const char *text, FILE *out)
{
    for (; *text != '\0'; text++) {
        escape_char(*text, out);
    }
}

/* `code` and **weight**; a mark without its partner is text. */
static void write_text(const char *at, size_t bytes, FILE *out)
{
    const char *end = at + bytes;
    bool strong = false;
    while (at < end) {
        size_t left = (size_t)(end - at);
        const char *close = *at == '`' ? memchr(at + 1, '`', left - 1) : NULL;
        if (close != NULL) {
            (void)fputs("<code>", out);
            for (at++; at < close; at++) {
                escape_char(*at, out);
            }
            (void)fputs("</code>", out);
            at++;
        } else if (left >= 2 && at[0] == '*' && at[1] == '*' &&
                   (strong || memmem(at + 2, left - 2, "**", 2) != NULL)) {
            (void)fputs(strong ? "</strong>" : "<strong>", out);
            strong = !strong;
            at += 2;
        } else if (left >= 2 && at[0] == '\\' && at[1] == '|') {
            (void)fputc('|', out);
            at += 2;
        } else {
            escape_char(*at++, out);
        }
    }
    (void)fputs(strong ? "</strong>" : "", out);
}

static char slug_char(char c)
{
    static const char upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char lower[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    const char *at = memchr(upper, c, sizeof upper - 1);
    if (at != NULL) {
        return lower[at - upper];
    }
    if (memchr(lower, c, sizeof lower - 1) != NULL) {
        return c;
    }
    return '-';
}

/* "Which stage limits where" -> "which-stage-limits-where". */
static void write_slug(struct line title, FILE *out)
{
    for (size_t i = 0; i < title.bytes; i++) {
        (void)fputc(slug_char(title.text[i]), out);
    }
}

/* ---- tables ---- */

/* The next cell of a row, without blanks around it; false: the row has no more. */
static bool next_cell(const char **at, const char *end, struct line *cell)
{
    const char *p = *at;
    if (p >= end || *p != '|') {
        return false;
    }
    const char *close = ++p;
    while (close < end && (*close != '|' || close[-1] == '\\')) {
        close++;
    }
    if (close >= end) {
        return false;
    }
    *at = close;
    while (p < close && *p == ' ') {
        p++;
    }
    while (close > p && close[-1] == ' ') {
        close--;
    }
    *cell = (struct line){p, (size_t)(close - p)};
    return true;
}

/* "-1 %", "6.6 k .. 6.7 k", "> 8", "-"; not "18.9 k: api_server", which is a sentence. */
static bool is_number(struct line cell)
{
    static const char begin[] = "+->0123456789";
    uint32_t letters_count = 0;
    for (size_t i = 0; i < cell.bytes; i++) {
        char lower = (char)(cell.text[i] | ' ');
        letters_count += lower >= 'a' && lower <= 'z' ? 1 : 0;
    }
    return cell.bytes > 0 && memchr(begin, cell.text[0], sizeof begin - 1) != NULL &&
           letters_count <= 2;
}

/* Its numbers stand to the right, and so does the head of a column whose first value is one. */
static void write_row(struct line row, struct line values, bool head, FILE *out)
{
    const char *at = row.text;
    const char *value_at = values.text;
    struct line cell;
    struct line value = {"", 0};
    (void)fputs("<tr>", out);
    for (uint32_t i = 0; next_cell(&at, row.text + row.bytes, &cell); i++) {
        bool told = next_cell(&value_at, values.text + values.bytes, &value);
        bool name = head || i == 0;
        (void)fputs(name ? "<th" : "<td", out);
        (void)fputs(i > 0 && told && is_number(value) ? " class=\"number\"" : "", out);
        (void)fputs(head ? " scope=\"col\">" : name ? " scope=\"row\">" : ">", out);
        write_text(cell.text, cell.bytes, out);
        (void)fputs(name ? "</th>" : "</td>", out);
    }
    (void)fputs("</tr>\n", out);
}

/* The box scrolls, not the page; that it can be reached by keyboard is what tabindex is for. */
static const char *write_table(const char *at, struct line title, FILE *out)
{
    struct line head = line_at(at);
    struct line l = line_at(after(head));
    l = starts(l, "|-") ? line_at(after(l)) : l;
    (void)fputs("<div class=\"table\" role=\"region\" tabindex=\"0\" aria-label=\"", out);
    for (size_t i = 0; i < title.bytes; i++) {
        escape_char(title.text[i], out);
    }
    (void)fputs("\"><table>\n<thead>\n", out);
    write_row(head, l, true, out);
    (void)fputs("</thead>\n<tbody>\n", out);
    for (; starts(l, "|"); l = line_at(after(l))) {
        write_row(l, l, false, out);
    }
    (void)fputs("</tbody>\n</table></div>\n", out);
    return l.text;
}

/* ---- blocks ---- */

static const char *write_list(const char *at, FILE *out)
{
    struct line l = line_at(at);
    (void)fputs("<ul>\n", out);
    for (; starts(l, "- "); l = line_at(after(l))) {
        (void)fputs("<li>", out);
        write_text(l.text + 2, l.bytes - 2, out);
        (void)fputs("</li>\n", out);
    }
    (void)fputs("</ul>\n", out);
    return l.text;
}

static const char *write_fenced(const char *at, FILE *out)
{
    struct line l = line_at(after(line_at(at)));
    (void)fputs("<pre>", out);
    for (; *l.text != '\0' && !starts(l, "```"); l = line_at(after(l))) {
        for (size_t i = 0; i < l.bytes; i++) {
            escape_char(l.text[i], out);
        }
        (void)fputc('\n', out);
    }
    (void)fputs("</pre>\n", out);
    return after(l);
}

static const char *write_paragraph(const char *at, FILE *out)
{
    struct line l = line_at(at);
    (void)fputs("<p>", out);
    do {
        write_text(l.text, l.bytes, out);
        (void)fputc('\n', out);
        l = line_at(after(l));
    } while (l.bytes > 0 && !starts(l, "|") && !starts(l, "- ") && !starts(l, "```") &&
             !starts(l, "## "));
    (void)fputs("</p>\n", out);
    return l.text;
}

static struct line title_of(struct line heading)
{
    return (struct line){heading.text + 3, heading.bytes - 3};
}

static void open_section(struct line title, FILE *out)
{
    (void)fputs("<section id=\"", out);
    write_slug(title, out);
    (void)fputs("\">\n<h2>", out);
    write_text(title.text, title.bytes, out);
    (void)fputs("</h2>\n", out);
}

void markup_write(const char *markdown, FILE *out)
{
    const char *at = markdown;
    struct line title = {"", 0};
    bool open = false;
    while (*at != '\0') {
        struct line l = line_at(at);
        if (starts(l, "## ")) {
            title = title_of(l);
            (void)fputs(open ? "</section>\n" : "", out);
            open_section(title, out);
            open = true;
            at = after(l);
        } else if (starts(l, "|")) {
            at = write_table(at, title, out);
        } else if (starts(l, "- ")) {
            at = write_list(at, out);
        } else if (starts(l, "```")) {
            at = write_fenced(at, out);
        } else if (l.bytes > 0) {
            at = write_paragraph(at, out);
        } else {
            at = after(l);
        }
    }
    (void)fputs(open ? "</section>\n" : "", out);
}

void markup_contents(const char *markdown, FILE *out)
{
    for (const char *at = markdown; *at != '\0'; at = after(line_at(at))) {
        struct line l = line_at(at);
        if (starts(l, "## ")) {
            (void)fputs("<li><a href=\"#", out);
            write_slug(title_of(l), out);
            (void)fputs("\">", out);
            write_text(l.text + 3, l.bytes - 3, out);
            (void)fputs("</a></li>\n", out);
        }
    }
}
