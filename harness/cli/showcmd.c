/*
 * showcmd.c - `harness run --showcmd`: the command that starts each cell's server, for a shell
 * (cli.h). Starts nothing.
 */
#include <string.h>

#include "harness/cli/cli.h"

/* A word of a shell's command line. */
static void write_word(const char *word, FILE *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=./:,@%";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        (void)fprintf(out, "%s", word);
        return;
    }
    (void)fputc('\'', out);
    for (const char *at = word; *at != '\0'; at++) {
        (void)fprintf(out, *at == '\'' ? "'\\''" : "%c", *at);
    }
    (void)fputc('\'', out);
}

static void write_own(const struct cli_scenario *arguments, const struct scenario_cell *cell,
                      bool swept, FILE *out)
{
    (void)fprintf(out, "harness serve ");
    write_word(arguments->path, out);
    (void)fprintf(out, "%s", arguments->options.quick ? " --quick" : "");
    for (uint32_t i = 0; i < arguments->options.sets_count; i++) {
        (void)fprintf(out, " --set ");
        write_word(arguments->sets[i], out);
    }
    if (swept) {
        (void)fprintf(out, " --only ");
        write_word(cell->name, out);
    }
    (void)fputc('\n', out);
}

void cli_showcmd(const struct cli_scenario *arguments, const struct scenario *scenario, FILE *out)
{
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        const struct scenario_cell *cell = &scenario->cells[i];
        const struct scenario_foreign *f = &cell->foreign;
        (void)fprintf(out, "# %s\n", cell->name);
        switch ((enum scenario_server_kind)f->kind) {
        case SCENARIO_SERVER_OWN:
            write_own(arguments, cell, scenario->axes_count > 0, out);
            break;
        case SCENARIO_SERVER_ATTACHED:
            (void)fprintf(out, "# attached: http://%s:%u\n", f->url.host, f->url.port);
            break;
        case SCENARIO_SERVER_LAUNCHED:
            (void)fprintf(out, "%s\n", f->command);
            break;
        }
    }
}
