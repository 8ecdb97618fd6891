/*
 * observer.h - looks at a serving system of others while `harness load` drives it: whose processes
 * are which stage, how busy their threads were in the window, and what its /metrics say of it.
 */
#ifndef HARNESS_CLI_OBSERVER_H
#define HARNESS_CLI_OBSERVER_H

#include "harness/load/options.h"
#include "harness/probe/foreign.h"
#include "harness/probe/prometheus.h"

enum observer_look {
    OBSERVER_IDLE_FROM,
    OBSERVER_IDLE_TO,
    OBSERVER_FROM,
    OBSERVER_TO,
    OBSERVER_LOOKS_COUNT
};

struct observer {
    struct foreign_pattern patterns[FOREIGN_PATTERNS_MAX];
    size_t patterns_count;
    bool wanted;
    struct load_target server;
    struct foreign_system system;
    struct foreign_look looks[OBSERVER_LOOKS_COUNT];
    bool taken[OBSERVER_LOOKS_COUNT];
    struct prometheus metrics[2]; /* at FROM and TO */
    bool scraped[2];
};

/* Value of --observe: "auto", or TITLE=STAGE, several separated by commas. False: it is neither. */
bool observer_option(struct observer *o, const char *text);
/* Finds the processes of the server and looks at them before there is load: takes 0.5 s. False
 * after a message. */
bool observer_begin(struct observer *o, const struct load_target *server);
/* To be called often, with the client's phase (enum load_phase). */
void observer_tick(struct observer *o, uint32_t phase);
void observer_print(const struct observer *o);
void observer_free(struct observer *o);

#endif
