/*
 * option.h - the one table of all sections and keys: their types, units, ranges, defaults and help.
 *
 * It drives the parser, the defaults, `harness keys` and `harness expand`. A row writes its value
 * at `offset` of the struct of its kind (option_kind.bytes long); a new key is a new row and a new
 * field.
 */
#ifndef HARNESS_SCENARIO_OPTION_H
#define HARNESS_SCENARIO_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "harness/scenario/scenario.h"

/* What a value looks like, and the C type it is stored as. */
enum option_type {
    OPTION_TEXT,          /* char[option.bytes] */
    OPTION_COUNT,         /* uint32_t; arithmetic */
    OPTION_SEED,          /* uint64_t; arithmetic */
    OPTION_NUMBER,        /* double */
    OPTION_TIME,          /* int64_t ns; `choices` holds a word that stands for -1 */
    OPTION_RATE,          /* double, a second */
    OPTION_PERCENT,       /* double, 1 = 100 % */
    OPTION_BOOL,          /* bool */
    OPTION_SWITCH,        /* uint32_t 0 or 1 */
    OPTION_CHOICE,        /* uint32_t: index in `choices` */
    OPTION_WORD,          /* char[option.bytes]: one of `choices` */
    OPTION_SET,           /* uint32_t: bit i for the i-th of `choices` */
    OPTION_SOURCE,        /* struct scenario_workload: source and source_file */
    OPTION_PRICE,         /* double */
    OPTION_DEMAND,        /* struct scenario_demand */
    OPTION_LENGTHS,       /* struct scenario_lengths */
    OPTION_ARRIVAL,       /* struct scenario_arrival */
    OPTION_QUANTILE_TIME, /* struct scenario_quantile_time */
    OPTION_TOPOLOGY,      /* struct topology: the four counts */
    OPTION_DEVICE,        /* struct topology: gpu and model */
    OPTION_PINS,          /* struct topology_cpus[OPTION_PINS_COUNT] */
    OPTION_LAUNCH,        /* struct option_server: how kernels are launched, or a command line */
    OPTION_URL,           /* struct scenario_address */
    OPTION_COUNTERS,      /* struct scenario_counters */
    OPTION_TITLE,         /* char[option.bytes] */
    OPTION_ELASTICITY,    /* struct scenario_elasticity; `choices`: the stages */
    OPTION_COSTS,         /* struct scenario_simulation: costs and costs_file */
    OPTION_LIST,          /* kept as text: values of an axis */
    OPTION_CONDITION,     /* kept as text */
    OPTION_NAME,          /* char[option.bytes]: name of a section or an axis */
};

/* min and max: of counts, numbers, rates; of percents in whole percents; of times in ns. min ==
 * max: no limits. */
struct option {
    const char *kind;
    const char *key; /* "axis.*" stands for any key that starts with "axis." */
    enum option_type type;
    const char *choices; /* "a|b|c"; NULL */
    int64_t min;
    int64_t max;
    const char *initial; /* value when nobody sets it; NULL: unset, the field stays 0 */
    bool required;
    size_t offset;
    size_t bytes;
    const char *help;
};

struct option_kind {
    const char *name;
    bool named; /* [server NAME]; else one section without a name, which is there even if unwritten
                 */
    bool by_cell; /* values may use %{axis} */
    size_t bytes; /* of the struct that holds its values */
    const char *help;
};

enum {
    OPTION_PIN_CLIENT = PINS_COUNT, /* behind those of enum topology_pin */
    OPTION_PINS_COUNT
};
/* "system", "api", ..., "client". */
const char *option_pin_name(uint32_t index);

/* Values of a [server]: a topology and what becomes part of it once all keys are known. */
struct option_server {
    struct topology topology;
    uint32_t wait; /* 0 block, 1 spin, 2 auto */
    bool publish;
    bool lockstep;
    bool finish_check_first;
    bool dummy_graph;
    uint32_t cores_count; /* CPUs of the serving system; 0: no such limit */
    struct topology_cpus pins[OPTION_PINS_COUNT];
    struct scenario_foreign foreign;
};

/* Values of [sweep]; its axes are kept apart. */
struct option_sweep {
    char combine[SCENARIO_TEXT_BYTES];
    char skip[SCENARIO_TEXT_BYTES];
    char server[SCENARIO_NAME_BYTES];
    char workload[SCENARIO_NAME_BYTES];
    char load[SCENARIO_NAME_BYTES];
    char slo[SCENARIO_NAME_BYTES];
};

/* NULL past the end. */
const struct option *option_at(uint32_t index);
const struct option_kind *option_kind_at(uint32_t index);
/* NULL if unknown. */
const struct option *option_find(const char *kind, const char *key);
const struct option_kind *option_kind_find(const char *name);
bool option_is_wildcard(const struct option *option);
/* Whether the key of [server] is about servers of others. */
bool option_is_foreign(const char *key);
/* Whether the value of `launch` is a command line: it has a blank or a '/'. */
bool option_is_command(const char *text);
/* ", did you mean 'x'?" or "". */
const char *option_key_hint(const char *kind, const char *key, char *out, size_t cap);
const char *option_kind_hint(const char *name, char *out, size_t cap);
/* "time", "count", "yes or no", ... */
const char *option_type_text(enum option_type type);
/* The i-th name of a GPU that can be emulated, NULL past the end. */
const char *option_gpu_at(uint32_t index);

#endif
