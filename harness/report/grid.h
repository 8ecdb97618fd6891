/*
 * grid.h - a table of short texts, built cell by cell and then written as Markdown or in columns
 * for a terminal.
 *
 *     static const char *const columns[] = {"<cell", "tokens/s"};  // <: to the left
 *     struct grid g = grid_of(columns, 2);
 *     struct text t = grid_cell(&g); text_add(&t, "%s", name);
 *     t = grid_cell(&g); text_rate(&t, rate);
 *     grid_plain(&g, 20, stdout);  grid_free(&g);
 */
#ifndef HARNESS_REPORT_GRID_H
#define HARNESS_REPORT_GRID_H

#include <stdio.h>

#include "harness/report/text.h"

enum {
    GRID_CELL_BYTES = 128
};

struct grid {
    const char *const *columns; /* the caller's */
    uint32_t columns_count;
    uint32_t cells_count;
    uint32_t cells_room;
    char (*cells)[GRID_CELL_BYTES];
};

struct grid grid_of(const char *const *columns, uint32_t columns_count);
/* The next cell, row by row; to be filled before the one after it is asked for. */
struct text grid_cell(struct grid *g);
/* A whole cell. */
void grid_text(struct grid *g, const char *text);
void grid_number(struct grid *g, double value, int decimals);
void grid_rate(struct grid *g, double per_s);
/* Without the sign, which the column's name has. */
void grid_percent(struct grid *g, double frac);
uint32_t grid_rows(const struct grid *g);
void grid_markdown(const struct grid *g, FILE *out);
/* At most `rows_max` rows; then a line says how many report.md has besides. */
void grid_plain(const struct grid *g, uint32_t rows_max, FILE *out);
void grid_free(struct grid *g);

#endif
