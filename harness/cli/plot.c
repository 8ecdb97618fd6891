/*
 * plot.c - `harness plot DIR`: draws the figures of a result folder again, from its files alone, in
 * any format: where gnuplot was missing, or for another one than [plots] asked for.
 */
#include <string.h>

#include "harness/cli/cli.h"
#include "harness/cli/place.h"
#include "harness/report/figures.h"

enum {
    OPTION_FORMAT = CLI_OPTION_OWN
};

static const char help_text[] =
    "  --format svg|png|dumb[,...]   dumb: text (default svg)\n"
    "Needs gnuplot. Writes to DIR/figures; what stands there in other formats stays.\n";

/* False: a word that is none of them. */
static bool take_formats(const char *text, uint32_t *out)
{
    static const char *const words[] = {"svg", "png", "dumb"};
    static const uint32_t bits[] = {SCENARIO_PLOT_SVG, SCENARIO_PLOT_PNG, SCENARIO_PLOT_DUMB};
    *out = 0;
    for (;; text++) {
        size_t bytes = strcspn(text, ",");
        uint32_t bit = 0;
        for (int i = 0; i < 3; i++) {
            bool same = strlen(words[i]) == bytes && memcmp(words[i], text, bytes) == 0;
            bit = same ? bits[i] : bit;
        }
        *out |= bit;
        text += bytes;
        if (bit == 0 || *text == '\0') {
            return bit != 0;
        }
    }
}

static int draw(const char *folder, uint32_t formats)
{
    char plots[PLACE_PATH_BYTES];
    struct figures figures;
    struct error error;
    uint32_t count = 0;
    place_find_plots(plots);
    if (figures_redraw(folder, plots, formats, &figures, &error) != STATUS_OK) {
        (void)fprintf(stderr, "harness plot: %s\n", error.text);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < FIGURES_COUNT; i++) {
        if (figures.list[i].formats != 0) {
            (void)printf("%s/figures/%s\n", folder, figures.list[i].name);
            count++;
        }
    }
    if (figures.problem[0] != '\0') {
        (void)fprintf(stderr, "harness plot: %s\n", figures.problem);
        return EXIT_RESULTS;
    }
    if (count == 0) {
        (void)fprintf(stderr, "harness plot: %s has nothing to draw\n", folder);
    }
    return EXIT_PASS;
}

int cli_plot(int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},
        {"format", required_argument, NULL, OPTION_FORMAT},
        {NULL, 0, NULL, 0},
    };
    uint32_t formats = SCENARIO_PLOT_SVG;
    int option = 0;
    while ((option = cli_option(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            cli_help(stdout, argv[0], help_text);
            return EXIT_PASS;
        }
        if (option != OPTION_FORMAT) {
            return EXIT_USAGE;
        }
        if (!take_formats(optarg, &formats)) {
            return cli_value_error(argv[0], "format", "svg, png or dumb", optarg);
        }
    }
    if (optind + 1 != argc) {
        return cli_usage_error(argv[0], "one result folder is needed");
    }
    return draw(argv[optind], formats);
}
