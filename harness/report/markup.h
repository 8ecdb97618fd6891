/*
 * markup.h - the Markdown that report.md is written in, as HTML: headings of the second level,
 * paragraphs, tables, lists, fenced text, `code` and **weight**. Everything else is text, and every
 * text is escaped.
 */
#ifndef HARNESS_REPORT_MARKUP_H
#define HARNESS_REPORT_MARKUP_H

#include <stddef.h>
#include <stdio.h>

/* `text` as text or as a quoted attribute. */
void markup_escape(const char *text, FILE *out);
/* Each section of `markdown`, whose first line is a heading, becomes a <section> with an id. */
void markup_write(const char *markdown, FILE *out);
/* Links to the sections that markup_write() makes. */
void markup_contents(const char *markdown, FILE *out);

#endif
