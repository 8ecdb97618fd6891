/*
 * grid.c - tables of short texts (grid.h). Owns their memory; knows nothing of what they say.
 */
#include "harness/report/grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct grid grid_of(const char *const *columns, uint32_t columns_count)
{
    ASSERT(columns_count > 0);
    return (struct grid){.columns = columns, .columns_count = columns_count};
}

struct text grid_cell(struct grid *g)
{
    if (g->cells_count == g->cells_room) {
        g->cells_room = g->cells_room > 0 ? 2 * g->cells_room : 64;
        g->cells = realloc(g->cells, g->cells_room * sizeof *g->cells);
        ASSERT(g->cells != NULL);
    }
    return text_into(g->cells[g->cells_count++], GRID_CELL_BYTES);
}

void grid_text(struct grid *g, const char *text)
{
    struct text t = grid_cell(g);
    text_add(&t, "%s", text);
}

void grid_number(struct grid *g, double value, int decimals)
{
    struct text t = grid_cell(g);
    text_number(&t, value, decimals);
}

void grid_rate(struct grid *g, double per_s)
{
    struct text t = grid_cell(g);
    text_rate(&t, per_s);
}

void grid_percent(struct grid *g, double frac)
{
    grid_number(g, frac * 100, 0);
}

uint32_t grid_rows(const struct grid *g)
{
    return g->cells_count / g->columns_count;
}

static bool to_the_left(const struct grid *g, uint32_t column)
{
    return g->columns[column][0] == '<';
}

static const char *name_of(const struct grid *g, uint32_t column)
{
    return g->columns[column] + (to_the_left(g, column) ? 1 : 0);
}

void grid_markdown(const struct grid *g, FILE *out)
{
    ASSERT(g->columns_count > 0);
    (void)fputc('|', out);
    for (uint32_t i = 0; i < g->columns_count; i++) {
        (void)fprintf(out, " %s |", name_of(g, i));
    }
    (void)fputs("\n|", out);
    for (uint32_t i = 0; i < g->columns_count; i++) {
        (void)fputs(to_the_left(g, i) ? "---|" : "---:|", out);
    }
    (void)fputc('\n', out);
    for (uint32_t i = 0; i < g->cells_count; i++) {
        (void)fputs(i % g->columns_count == 0 ? "| " : " ", out);
        for (const char *at = g->cells[i]; *at != '\0'; at++) {
            if (*at == '|') { /* would end the cell */
                (void)fputc('\\', out);
            }
            (void)fputc(*at, out);
        }
        (void)fputs((i + 1) % g->columns_count == 0 ? " |\n" : " |", out);
    }
}

static int width_of(const struct grid *g, uint32_t column)
{
    size_t most = strlen(name_of(g, column));
    for (uint32_t i = column; i < g->cells_count; i += g->columns_count) {
        size_t bytes = strlen(g->cells[i]);
        most = bytes > most ? bytes : most;
    }
    return (int)most;
}

static void plain_cell(const struct grid *g, uint32_t column, const char *text, FILE *out)
{
    int width = width_of(g, column);
    bool last = column + 1 == g->columns_count;
    if (to_the_left(g, column)) {
        (void)fprintf(out, "%-*s", last ? 0 : width, text);
    } else {
        (void)fprintf(out, "%*s", width, text);
    }
    (void)fputs(last ? "\n" : " ", out);
}

void grid_plain(const struct grid *g, uint32_t rows_max, FILE *out)
{
    uint32_t rows = grid_rows(g);
    uint32_t shown = rows < rows_max ? rows : rows_max;
    for (uint32_t i = 0; i < g->columns_count; i++) {
        plain_cell(g, i, name_of(g, i), out);
    }
    for (uint32_t i = 0; i < shown * g->columns_count; i++) {
        plain_cell(g, i % g->columns_count, g->cells[i], out);
    }
    if (shown < rows) {
        (void)fprintf(out, "... report.md has %u more rows\n", rows - shown);
    }
}

void grid_free(struct grid *g)
{
    free(g->cells);
    *g = (struct grid){.columns = g->columns, .columns_count = g->columns_count};
}
