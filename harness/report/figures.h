/*
 * figures.h - runs gnuplot on the scripts of plots/ and says which figures there are. Without
 * gnuplot the capacity curves come as text.
 */
#ifndef HARNESS_REPORT_FIGURES_H
#define HARNESS_REPORT_FIGURES_H

#include "harness/report/data.h"

enum {
    FIGURES_COUNT = 22
};

struct figure {
    const char *name;    /* "01-capacity": script plots/NAME.gp, files figures/NAME.svg ... */
    const char *caption; /* what it shows */
    const char *reading; /* how to read it, in one sentence */
    bool wanted;         /* there is something to draw */
    uint32_t formats;    /* SCENARIO_PLOT_* that were drawn */
};

struct figures {
    struct figure list[FIGURES_COUNT];
    uint32_t svg_count;
    bool text_only;    /* gnuplot or its scripts are missing: figures/01-capacity.txt is our own */
    char problem[256]; /* why not everything was drawn; "" if it was */
};

/* Draws from the plot_* files that data_write() made. Never fails: a figure that cannot be drawn is
 * named in `problem`. Waits for gnuplot; starts it without a shell. */
void figures_draw(const struct data_source *data, const char *plots_folder, struct figures *out);

/* Draws the figures of a finished session again, from its folder alone: those that its
 * plot_figures.tsv names. `formats`: SCENARIO_PLOT_*. NOT_FOUND without that file. */
MUST_CHECK enum status figures_redraw(const char *folder, const char *plots_folder,
                                      uint32_t formats, struct figures *out, struct error *error);

/* Throughput against the scaling axis, one letter a curve, as plain text. */
void figures_write_text(const struct summary *summary, FILE *out);

#endif
