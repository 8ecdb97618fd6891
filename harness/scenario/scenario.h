/*
 * scenario.h - a scenario file, read, checked and expanded: what a run needs to know, as plain
 * data.
 *
 *     scenario_open("scenarios/saturation.ini", &environment, &options, &scenario, problems)
 *         -> scenario->cells: one fully resolved configuration for each point of the sweep
 *         -> scenario->runs:  cells x replicates in the order they are to be run
 *
 * The grammar is described in docs/scenarios.md; option.c holds the table of all keys. This room
 * reads files only through the loader of its environment, starts nothing and prints only to a FILE
 * that the caller gives.
 */
#ifndef HARNESS_SCENARIO_SCENARIO_H
#define HARNESS_SCENARIO_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/base/status.h"
#include "engine/ledger/topology.h"
#include "harness/load/lengths.h"
#include "harness/scenario/problems.h"

enum {
    SCENARIO_SCHEMA = 1, /* newest format this program reads */
    SCENARIO_NAME_BYTES = 64,
    SCENARIO_TEXT_BYTES = 512,
    SCENARIO_AXES_MAX = 6,
    SCENARIO_AXIS_VALUES_MAX = 256,
    SCENARIO_CELLS_MAX = 4096,
    SCENARIO_RUNS_MAX = 65536,
    SCENARIO_SLOS_MAX = 8,
    SCENARIO_CALIBRATIONS_MAX = 8,
    SCENARIO_FILE_BYTES_MAX = 256 << 10,
    SCENARIO_ENGINES_MAX = 4096,     /* of a simulated system; TOPOLOGY_ENGINES_MAX of a real one */
    SCENARIO_INFLIGHT_MAX = 1 << 20, /* of a simulated client */
    SCENARIO_CONNECTIONS_MAX = 1 << 16, /* of a real one */
};

/* Time between runs that is not warm-up, window or cool-down: starting and stopping the system. An
 * estimate. */
#define SCENARIO_START_STOP_NS ((int64_t)1000000000)

enum scenario_order {
    SCENARIO_INTERLEAVED,
    SCENARIO_SHUFFLED,
    SCENARIO_SEQUENTIAL
};

enum scenario_mode {
    SCENARIO_MEASURE,  /* real processes, on the clock of this machine */
    SCENARIO_SIMULATE, /* in virtual time */
    SCENARIO_BOTH      /* all runs simulated, then all of them measured */
};

struct scenario_general {
    char name[SCENARIO_NAME_BYTES];
    char question[SCENARIO_TEXT_BYTES];
    uint32_t schema;
    uint64_t seed;
    uint32_t repeats_count;
    uint32_t order; /* enum scenario_order */
    uint32_t mode;  /* enum scenario_mode */
    int64_t cooldown_ns;
    int64_t budget_ns; /* no run is started past this; 0: none */
};

struct scenario_quantile_time {
    double quantile; /* 0.99 */
    int64_t time_ns;
};

enum scenario_ceiling {
    SCENARIO_CEILING_OFF,
    SCENARIO_CEILING_MEASURE
};

struct scenario_client {
    bool balance; /* spread requests over the API servers' connections and check that the shares are
                     equal */
    double max_cpu_frac;
    struct scenario_quantile_time max_lag;
    uint32_t ceiling; /* enum scenario_ceiling */
    double max_ceiling_frac;
    struct topology_cpus cpus; /* where it runs; none: anywhere */
};

enum scenario_costs {
    SCENARIO_COSTS_DEFAULT, /* simulation_costs_default() (sim/simulation.h) */
    SCENARIO_COSTS_NONE,    /* simulation_costs_none() */
    SCENARIO_COSTS_FILE     /* of a calibration */
};

struct calibration; /* calibration.h */

/* What a simulated run takes for granted of the host. */
struct scenario_simulation {
    uint32_t costs;                        /* enum scenario_costs */
    uint32_t cores_count;                  /* CPU cores of the host; 0: one for each thread */
    bool free_client;                      /* the load client takes no time */
    char costs_file[SCENARIO_TEXT_BYTES];  /* COSTS_FILE: as it stands there */
    const struct calibration *calibration; /* COSTS_FILE: what was read; the scenario's */
};

enum scenario_lengths_kind {
    SCENARIO_LENGTHS_FIXED,
    SCENARIO_LENGTHS_UNIFORM,
    SCENARIO_LENGTHS_LOGNORMAL
};

/* Tokens of a prompt or an output. */
struct scenario_lengths {
    uint32_t kind; /* enum scenario_lengths_kind */
    uint32_t lo;   /* least value; FIXED: lo = hi = mean */
    uint32_t hi;   /* greatest value */
    uint32_t mean; /* LOGNORMAL: of the distribution before it is limited to lo..hi */
    uint32_t sd;   /* LOGNORMAL */
};
/* As the load client draws them. */
struct load_range scenario_range(const struct scenario_lengths *lengths);

enum scenario_source {
    SCENARIO_SOURCE_SYNTHETIC,
    SCENARIO_SOURCE_TRACE,
    SCENARIO_SOURCE_JSONL
};

struct scenario_workload {
    char name[SCENARIO_NAME_BYTES];
    uint32_t source;                       /* enum scenario_source */
    char source_file[SCENARIO_TEXT_BYTES]; /* as it stands behind the source */
    char trace[SCENARIO_TEXT_BYTES];       /* its path, wherever it stands; relative to the working
                                              directory */
    double time_scale;                     /* trace times are divided by this */
    uint32_t requests_count;               /* of the trace, from its start; 0: all */
    struct scenario_lengths prompt;
    struct scenario_lengths output;
    double shared_prefix_frac;
    bool stream;
    bool ignore_eos;
    double temperature;
};

enum scenario_load_mode {
    SCENARIO_LOAD_CLOSED,
    SCENARIO_LOAD_OPEN,
    SCENARIO_LOAD_TRACE
};
enum scenario_arrival_kind {
    SCENARIO_ARRIVAL_POISSON,
    SCENARIO_ARRIVAL_CONSTANT,
    SCENARIO_ARRIVAL_GAMMA,
    SCENARIO_ARRIVAL_BURSTS,
};
/* What becomes of a point, or of an arrival, when inflight_max requests are in flight. */
enum scenario_on_full {
    SCENARIO_FULL_INVALID, /* the arrival waits; the point is invalid if that makes it too late */
    SCENARIO_FULL_DROP,    /* it is not sent and counts as failed */
    SCENARIO_FULL_WAIT     /* it waits, and the point says how long */
};
enum scenario_first_outputs {
    SCENARIO_FIRST_PLAIN,
    SCENARIO_FIRST_RESIDUAL
};

struct scenario_arrival {
    uint32_t kind;          /* enum scenario_arrival_kind */
    double cv;              /* GAMMA: coefficient of variation */
    uint32_t burst_count;   /* BURSTS: requests in a burst ... */
    int64_t burst_every_ns; /* ... and the time from burst to burst */
};

#define SCENARIO_MEASURE_ALL ((int64_t)-1)

struct scenario_load {
    char name[SCENARIO_NAME_BYTES];
    uint32_t mode;                   /* enum scenario_load_mode */
    uint32_t users_count;            /* CLOSED */
    int64_t think_mean_ns;           /* CLOSED */
    uint32_t turns_count;            /* CLOSED: requests of a session */
    struct scenario_arrival arrival; /* OPEN */
    double rate_per_s;               /* OPEN; of bursts, what they come to */
    int64_t warmup_ns;               /* with warmup_auto: at most */
    bool warmup_auto;                /* it ends when the load has settled */
    int64_t warmup_max_ns;
    int64_t measure_ns; /* the window; SCENARIO_MEASURE_ALL: to the end of the trace */
    uint32_t measure_min_cycles_count; /* OPEN: mean request times the window has at least; 0: any
                                        */
    uint32_t batches_count;            /* of the window, for batch means */
    int64_t drain_ns;
    uint32_t inflight_max_count;
    uint32_t on_inflight_max; /* enum scenario_on_full */
    uint32_t first_outputs;   /* enum scenario_first_outputs */
};

struct scenario_scaling {
    char along[SCENARIO_NAME_BYTES]; /* axis; "" when nothing is to be said about scaling */
    double useful_gain_frac;
    uint32_t laws; /* to be fitted: bit i for the i-th of enum law */
};

struct scenario_slo {
    char name[SCENARIO_NAME_BYTES];
    int64_t ttft_p99_max_ns; /* 0: no limit */
    int64_t tpot_p95_max_ns; /* 0: no limit */
    double error_max_frac;
    uint32_t sent_clock; /* bool: limits hold on the clock of sending, not of the schedule */
};

/* What [find] looks for; bit i: the i-th word of the table's choices. */
enum scenario_find_what {
    SCENARIO_FIND_CAPACITY = 1,
    SCENARIO_FIND_STABLE_RATE = 2,
    SCENARIO_FIND_SLO_RATE = 4,
    SCENARIO_FIND_KNEE = 8
};

struct scenario_find {
    uint32_t what; /* SCENARIO_FIND_*; 0: nothing is searched, the cells are run as they are */
    char slo[SCENARIO_NAME_BYTES];
    double start_frac; /* of capacity */
    double tolerance_frac;
    double confidence;
    uint32_t points_max;
};

/* Stages that an elasticity probe can slow, in the order of SCENARIO_PROBE_STAGES. */
#define SCENARIO_PROBE_STAGES "api_server|scheduler|launch|gpu|coordinator|ipc|interpreter"

struct scenario_elasticity {
    uint32_t top_count; /* the most used ones; 0: those of `stages`; both 0: no probe */
    uint32_t stages;    /* bit i: the i-th of SCENARIO_PROBE_STAGES */
    double by_frac;     /* 0.1: 10 % slower */
};

struct scenario_probe {
    struct scenario_elasticity elasticity;
    uint32_t pairs_count;           /* of runs, with and without a stage slowed */
    char cell[SCENARIO_TEXT_BYTES]; /* "": the one that decides */
};

/* Bit i: the i-th format of the table's choices. */
enum scenario_plot_format {
    SCENARIO_PLOT_SVG = 1,
    SCENARIO_PLOT_PNG = 2,
    SCENARIO_PLOT_DUMB = 4
};
enum scenario_report_format {
    SCENARIO_REPORT_MD = 1,
    SCENARIO_REPORT_HTML = 2
};

/* Who serves. */
enum scenario_server_kind {
    SCENARIO_SERVER_OWN,      /* the project's own system, as the cell's topology says */
    SCENARIO_SERVER_ATTACHED, /* of others; it runs already and is left alone */
    SCENARIO_SERVER_LAUNCHED  /* of others; a command starts it for each run */
};

/* Stages of a server of others that have processes, as the keys stage.NAME of [server]. */
enum scenario_server_stage {
    SCENARIO_STAGE_API_SERVER,
    SCENARIO_STAGE_COORDINATOR,
    SCENARIO_STAGE_ENGINE,
    SCENARIO_STAGE_WORKER,
    SCENARIO_STAGES_COUNT
};

enum {
    SCENARIO_COMMAND_BYTES = 1024,
    SCENARIO_HOST_BYTES = 128,
    SCENARIO_TITLE_BYTES = 96,
    SCENARIO_PATH_BYTES = 64
};

struct scenario_address {
    char host[SCENARIO_HOST_BYTES]; /* a name, or an IPv4 address */
    uint32_t port;                  /* 0: not given */
};

/* Where a server of others is counted. */
struct scenario_counters {
    bool given;
    bool proc;                            /* its processes, if they run on this machine */
    char prometheus[SCENARIO_PATH_BYTES]; /* page; "": none */
    int64_t every_ns;                     /* between two looks at that page */
};

/* A server of others; all zero (kind) for the project's own. */
struct scenario_foreign {
    uint32_t kind; /* enum scenario_server_kind */
    struct scenario_address attach;
    struct scenario_address url; /* where it answers */
    char command[SCENARIO_COMMAND_BYTES];
    char model[SCENARIO_NAME_BYTES]; /* "": the first that it names */
    struct scenario_counters counters;
    char titles[SCENARIO_STAGES_COUNT][SCENARIO_TITLE_BYTES]; /* of its processes */
    uint32_t slots_count; /* sequences that it runs at once, in all engine cores; 0: not told */
    int64_t start_timeout_ns;
};

/* Requests a second that a service must take; 0: not said. */
struct scenario_demand {
    double peak_per_s;
    double mean_per_s;
};

struct scenario_report {
    uint32_t formats;          /* SCENARIO_REPORT_* */
    double price_per_gpu_hour; /* in a currency of the reader's; 0: not said */
    struct scenario_demand demand;
};

struct scenario_axis {
    const char *name;
    const char *values[SCENARIO_AXIS_VALUES_MAX];
    uint32_t values_count;
};

struct scenario_cell {
    char name[SCENARIO_TEXT_BYTES]; /* "api_servers=1,dp=2"; "single" without a sweep */
    char server[SCENARIO_NAME_BYTES];
    uint32_t axis_value[SCENARIO_AXES_MAX]; /* index into scenario.axes[i].values */
    struct topology topology; /* seed, listen address and socket_dir are the runner's; host: only
                                 its name is set. All zero for a server of others */
    struct scenario_foreign foreign;
    struct scenario_client client;
    struct scenario_simulation simulation;
    struct scenario_load load;
    struct scenario_workload workload;
    struct scenario_slo slo; /* name "": none is in force */
};

struct scenario_run {
    uint32_t cell;      /* index into cells */
    uint32_t replicate; /* 0.. */
    uint64_t seed;      /* equal for all cells of a replicate: common random numbers */
    bool simulated;
};

struct scenario_settings; /* every value with its origin */

struct scenario {
    struct scenario_general general;
    struct scenario_scaling scaling;
    struct scenario_slo slos[SCENARIO_SLOS_MAX];
    uint32_t slos_count;
    struct scenario_find find;
    struct scenario_probe probe;
    uint32_t plot_formats; /* SCENARIO_PLOT_* */
    struct scenario_report report;
    struct scenario_axis axes[SCENARIO_AXES_MAX];
    uint32_t axes_count;
    struct scenario_cell *cells;
    uint32_t cells_count;
    uint32_t cells_skipped_count;     /* left out by `skip` */
    struct calibration *calibrations; /* that cells simulate with, each file once */
    uint32_t calibrations_count;
    struct scenario_run *runs;
    uint32_t runs_count;
    struct scenario_settings *settings;
};

/* What the reading of a scenario takes from outside. */
struct scenario_environment {
    void *ctx;
    /* Reads a whole file of at most `cap` bytes. NOT_FOUND, IO or FULL with a sentence. */
    enum status (*load)(void *ctx, const char *path, char *buffer, size_t cap, size_t *bytes,
                        struct error *error);
    /* The value of an environment variable, NULL if unset. */
    const char *(*variable)(void *ctx, const char *name);
    uint32_t cpus_count;       /* $ncpus */
    uint32_t gpus_count;       /* $ngpus */
    struct topology_cpus cpus; /* those that may be pinned to; none: 0 .. cpus_count - 1 */
    bool recorded;             /* its runs were made: what only simulating them needs is not read */
};

struct scenario_options {
    bool quick; /* apply the [quick] section */
    const char *const
        *sets; /* "section.key=value" or "section.name.key=value"; they win over everything */
    uint32_t sets_count;
    const char *only; /* "dp=4,api_servers=2"; NULL: all cells */
};

/* Real files, real environment, the CPUs this process may use. */
struct scenario_environment scenario_environment_system(void);
/*
 * Reads, checks and expands. INVALID: `problems` says all that is wrong. The scenario must be
 * closed with scenario_close(). `options` may be NULL.
 */
MUST_CHECK enum status scenario_open(const char *path,
                                     const struct scenario_environment *environment,
                                     const struct scenario_options *options, struct scenario **out,
                                     struct scenario_problems *problems);
void scenario_close(struct scenario *scenario);

/* Expected wall time of one run of a cell, start and cool-down included, a warm-up at its longest;
 * -1 if a trace, a search or the requests' own times decide. */
int64_t scenario_run_ns(const struct scenario *scenario, const struct scenario_cell *cell);
/* Runs of the elasticity probe; 0: none. */
uint32_t scenario_probe_runs(const struct scenario *scenario);
/* The same of a run that may be simulated: then -1, what a simulation costs is not known before. */
int64_t scenario_expected_ns(const struct scenario *scenario, const struct scenario_run *run);
/* Of all measured runs, those of a probe included; -1 if unknown, or if all are simulated. */
int64_t scenario_total_ns(const struct scenario *scenario);
/* The value of `axis` ("dp") in a cell, NULL if there is no such axis. */
const char *scenario_axis_value(const struct scenario *scenario, const struct scenario_cell *cell,
                                const char *axis);

/* Sequences that its engine cores run at once, all together; 0: not told. */
uint32_t scenario_slots(const struct scenario_cell *cell);
/* Fills nodes[0 .. nodes_count - 1]: equal shares of the engine cores, and of the API servers
 * unless balancing is internal (then node 0 has them all). Hosts and ports stay empty. */
void scenario_split_nodes(struct topology *t);

/* Every value as `key = value  ; origin`, section by section: a scenario file of its own that
 * expands to the same cells. */
void scenario_write(const struct scenario *scenario, FILE *out);
/* One line for each cell: name, users, runs; then the expected time. */
void scenario_write_cells(const struct scenario *scenario, FILE *out);
/* " api:0-1 client:2" for each process kind that is pinned; nothing if none is. */
void scenario_write_pins(const struct scenario_cell *cell, FILE *out);
/* One line for each run in its order, with when it should start; then whether the budget is enough.
 */
void scenario_write_runs(const struct scenario *scenario, FILE *out);
/* The table of keys: all ("" or NULL), of a section ("load"), or one key ("load.users"). NOT_FOUND
 * names the nearest. */
MUST_CHECK enum status scenario_write_keys(const char *which, FILE *out, struct error *error);

#endif
