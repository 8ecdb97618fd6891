/*
 * observer.h - `harness load --observe`: whose processes are looked at, and the tables of what was
 * seen of them (run/outside.h).
 */
#ifndef HARNESS_CLI_OBSERVER_H
#define HARNESS_CLI_OBSERVER_H

#include "harness/run/outside.h"

struct observer {
    bool wanted;
    struct outside_options options;
    struct outside outside;
};

/* Value of --observe: "auto", or TITLE=STAGE, several separated by commas. False: it is neither. */
bool observer_option(struct observer *o, const char *text);
/* Finds the processes of the server and looks at them before there is load: takes 0.5 s. False
 * after a message. */
bool observer_begin(struct observer *o, const struct load_target *server);
/* To be called often, with the client's phase (enum load_phase). */
void observer_tick(struct observer *o, uint32_t phase);
/* After the load. */
void observer_print(struct observer *o);
void observer_free(struct observer *o);

#endif
