/*
 * outside.h - a serving system of others, seen from outside while it is driven: its processes, as
 * far as they run on this machine, and what its metrics page says.
 *
 *     TRY(outside_begin(&outside, &options, error));   // finds its processes; takes 0.5 s
 *     outside_tick(&outside, phase of the client);      // often, until the load is over
 *     outside_end(&outside);                            // now everything below may be read
 *     ...
 *     outside_free(&outside);
 *
 * The page is fetched on a thread of its own: a server that is full answers late, and nobody is to
 * wait for it. A struct outside must stay where it is between begin and end.
 */
#ifndef HARNESS_RUN_OUTSIDE_H
#define HARNESS_RUN_OUTSIDE_H

#include <pthread.h>

#include "harness/load/options.h"
#include "harness/probe/foreign.h"
#include "harness/probe/prometheus.h"
#include "harness/scenario/scenario.h"

enum {
    OUTSIDE_ENGINES_MAX = 256 /* that are told apart */
};

enum outside_look {
    OUTSIDE_IDLE_FROM,
    OUTSIDE_IDLE_TO,
    OUTSIDE_FROM,
    OUTSIDE_TO,
    OUTSIDE_LOOKS_COUNT
};

struct outside_options {
    struct load_target server;
    struct foreign_pattern patterns[FOREIGN_PATTERNS_MAX];
    size_t patterns_count; /* 0: its processes are not looked at */
    char page[64];         /* "/metrics"; "": none */
    int64_t every_ns;      /* between two looks at the page's gauges in the window; 0: none */
};

/* Requests waiting at an engine core, over the looks at the page. */
struct outside_queue {
    double waiting_sum;
    double waiting_max;
    uint32_t looks_count;
};

struct outside {
    struct outside_options options;
    bool found; /* processes */
    struct foreign_system system;
    struct foreign_look looks[OUTSIDE_LOOKS_COUNT];
    bool taken[OUTSIDE_LOOKS_COUNT];
    struct prometheus metrics[2]; /* at FROM and TO */
    int64_t metrics_ns[2];
    bool scraped[2];
    struct outside_queue queues[OUTSIDE_ENGINES_MAX];
    pthread_t thread;
    bool scraping;
    int wake_fd; /* says that the window is over */
};

/* As [server] says where it is counted. */
struct outside_options outside_options_of(const struct scenario_foreign *foreign,
                                          const struct load_target *server);
/* NOT_FOUND: it has no processes that may be looked at; the page is fetched all the same. */
MUST_CHECK enum status outside_begin(struct outside *o, const struct outside_options *options,
                                     struct error *error);
/* With the client's phase (enum load_phase). */
void outside_tick(struct outside *o, uint32_t phase);
/* Waits for the last page. */
void outside_end(struct outside *o);
void outside_free(struct outside *o);

/* Whether both looks round the window were taken. */
bool outside_is_seen(const struct outside *o);
/* The looks, those before the load if there are any. */
struct foreign_looks outside_looks(const struct outside *o);
/* What a counter of the page grew by, of one engine core or of all (NULL); NAN: it has none. */
double outside_since(const struct outside *o, const char *name, const char *engine);

#endif
