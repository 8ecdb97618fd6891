/*
 * svg.h - a drawing that gnuplot wrote, as a part of an HTML page. Several of them share one page,
 * so the names inside each get a prefix; what is not a shape, a text or a group is left out.
 */
#ifndef HARNESS_REPORT_SVG_H
#define HARNESS_REPORT_SVG_H

#include <stdbool.h>
#include <stdio.h>

/*
 * `svg` is the whole file, `prefix` a name that no other drawing of the page has, `label` what the
 * drawing shows. Writes nothing and returns false if it is no SVG.
 */
bool svg_inline(const char *svg, const char *prefix, const char *label, FILE *out);

#endif
