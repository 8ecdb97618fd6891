/*
 * value.h - one value's text turned into what its row of the option table wants. Pure functions.
 */
#ifndef HARNESS_SCENARIO_VALUE_H
#define HARNESS_SCENARIO_VALUE_H

#include "harness/scenario/option.h"

/* Values of $ncpus and $ngpus. */
struct value_machine {
    uint32_t cpus_count;
    uint32_t gpus_count;
    struct topology_cpus cpus; /* none: 0 .. cpus_count - 1 */
};

/* Writes the value at base + option->offset. `base` is the struct of the option's kind. INVALID
 * with a sentence. */
MUST_CHECK enum status value_parse(const struct option *option, const char *text,
                                   const struct value_machine *machine, void *base,
                                   struct error *error);
/* "auto" (no sets) or "api:0-1 client:2". */
MUST_CHECK enum status value_pins(const char *text, struct topology_cpus out[OPTION_PINS_COUNT],
                                  struct error *error);
/* "graph", "eager", or a command line. */
MUST_CHECK enum status value_launch(const char *text, const char *choices,
                                    struct option_server *out, struct error *error);
/* "http://HOST:PORT"; without a port 80. */
MUST_CHECK enum status value_url(const char *text, struct scenario_address *out,
                                 struct error *error);
/* "prometheus /metrics every 1s, proc", or one of the two. */
MUST_CHECK enum status value_counters(const char *text, struct scenario_counters *out,
                                      struct error *error);
/* "title PATTERN". */
MUST_CHECK enum status value_title(const char *text, char *out, size_t cap, struct error *error);
/* "top2 by=10%" or "api_server, gpu by=10%"; `stages`: "a|b", the i-th is bit i. */
MUST_CHECK enum status value_elasticity(const char *text, const char *stages,
                                        struct scenario_elasticity *out, struct error *error);
/* "synthetic", "trace", "trace FILE" or "jsonl FILE". */
MUST_CHECK enum status value_source(const char *text, struct scenario_workload *out,
                                    struct error *error);
/* "default", "none", or the name of a file: one with a '.' or a '/'. */
MUST_CHECK enum status value_costs(const char *text, struct scenario_simulation *out,
                                   struct error *error);
/* "60s", "250ms", "50us" to ns; 0 or more. */
MUST_CHECK enum status value_time(const char *text, int64_t *out_ns, struct error *error);
/* Whether the text has the form of a list or range of several values. */
bool value_is_list(const char *text);

/* Receives the values of a list one by one. */
struct value_list_sink {
    void *ctx;
    enum status (*put)(void *ctx, const char *value, struct error *error);
};

/* The items of `1,2,4`, `1..8`, `1..8*2`, `10..100+10`, `50%..120%+10%`, `a,b` in order. */
MUST_CHECK enum status value_list(const char *text, const struct value_list_sink *sink,
                                  struct error *error);

#endif
