/*
 * html.h - report.html of a session: what report.md says, with the figures and everything else in
 * the one file. It fetches nothing and runs nothing.
 */
#ifndef HARNESS_REPORT_HTML_H
#define HARNESS_REPORT_HTML_H

#include "harness/report/markdown.h"

/* Writes report.html into `folder`, from the report.md and the figures that are there already. IO
 * names the file. */
MUST_CHECK enum status html_write(const struct markdown *m, const char *folder,
                                  struct error *error);

#endif
