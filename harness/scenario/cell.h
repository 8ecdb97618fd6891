/*
 * cell.h - from settings to cells: the sweep's axes, the choice of sections, %{axis} in values,
 * checks across keys.
 */
#ifndef HARNESS_SCENARIO_CELL_H
#define HARNESS_SCENARIO_CELL_H

#include "harness/scenario/settings.h"

size_t cell_arena_bytes(void);
/* Fills everything of the scenario but its settings, which it reads. Wrong values become problems.
 */
void cell_expand(struct scenario *scenario, const struct scenario_options *options,
                 struct scenario_problems *problems);

/* The sections that one cell is made of. */
struct cell_sections {
    struct settings_section *server;
    struct settings_section *client;
    struct settings_section *simulation;
    struct settings_section *workload;
    struct settings_section *load;
    bool rate_is_searched; /* by [find]: the load needs none of its own */
    bool measured;         /* on this machine, at least once */
    bool simulated;
};

/* Settles what depends on several keys (wait = auto) and adds problems for values that do not fit
 * each other. */
void cell_check(struct scenario_cell *cell, const struct option_server *server,
                const struct cell_sections *sections, const struct value_machine *machine,
                struct scenario_problems *problems);

/*
 * Of a cell whose server is another's: fills in what is left to defaults, and adds problems for
 * keys that only the project's own system has. The cell's topology is then all zero.
 */
void cell_foreign(struct scenario_cell *cell, const struct option_server *server,
                  const struct cell_sections *sections, struct scenario_problems *problems);
/* Problems for keys that only servers of others have, in a section of the project's own. */
void cell_own(const struct option_server *server, const struct cell_sections *sections,
              struct scenario_problems *problems);
/* Whether the section's server is another's, by the text of its keys. */
bool cell_section_is_foreign(const struct settings_section *server);

#endif
