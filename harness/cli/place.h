/*
 * place.h - where the results of a session go, and what is said of the machine and the program that
 * make them.
 */
#ifndef HARNESS_CLI_PLACE_H
#define HARNESS_CLI_PLACE_H

#include "harness/report/result.h"
#include "harness/scenario/calibration.h"

enum {
    PLACE_PATH_BYTES = 512
};

void place_describe(const struct scenario *scenario, const char *command_line,
                    struct run_host *out);
/* Of the program's source. */
const char *place_revision(void);
/* Of what costs depend on, this machine and this program. */
void place_machine(struct calibration_machine *out);
/* `asked`, or if that is "" results/NAME-TIME. */
void place_choose_folder(const char *asked, const char *scenario, char out[PLACE_PATH_BYTES]);
/* Beside the source tree, beside an installed program, or where the environment says. */
void place_find_plots(char out[PLACE_PATH_BYTES]);
/* stderr of processes; -1: it cannot be written. */
int place_open_log(const char *folder);
/* Sockets of all systems and users of a scenario: the soft limit goes up to the hard one. */
void place_raise_descriptor_limit(void);
/* Whether runs.csv has rows: then a folder without records is of another kind of session. */
bool place_has_rows(const char *folder);

#endif
