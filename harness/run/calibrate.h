/*
 * calibrate.h - what the work of this code costs on this machine: short runs of real systems, each
 * set up so that other kinds of work prevail in each thread, what their threads counted and the CPU
 * time that it took, and a regression of one on the other. Driven by `harness calibrate`.
 *
 * CPU time of a thread in a window = sum of (cost x count) + blocking waits x wake_cpu + launches.
 * The CPU time of a wait is what makes all threads agree best; latencies come from trials of their
 * own (harness/probe/mechanics.h), that of ZeroMQ from the stamps of requests in an idle system.
 */
#ifndef HARNESS_RUN_CALIBRATE_H
#define HARNESS_RUN_CALIBRATE_H

#include "harness/analysis/regression.h"
#include "harness/probe/mechanics.h"
#include "harness/report/result.h"
#include "harness/scenario/calibration.h"

enum {
    CALIBRATE_WINDOWS_MAX = 1024,
    CALIBRATE_THREADS_COUNT = 8, /* kinds of threads that are fitted */
    CALIBRATE_CLIENT = THREAD_KINDS_COUNT,
    CALIBRATE_KINDS,
};

/* What is counted of all threads of a kind together. */
enum calibrate_field {
    CALIBRATE_CPU_NS,
    CALIBRATE_WAITS, /* times it left its CPU by itself */
    CALIBRATE_IN,    /* messages; client: reads */
    CALIBRATE_OUT,   /* messages; client: requests sent */
    CALIBRATE_REQUESTS,
    CALIBRATE_PROMPT_TOKENS,
    CALIBRATE_OUTPUT_TOKENS,
    CALIBRATE_STEPS,
    CALIBRATE_SEQS,
    CALIBRATE_LAUNCH_NS,
    CALIBRATE_FIELDS_COUNT
};

/* The growth of these counts over a part of a run. */
struct calibrate_window {
    uint32_t api_servers_count;
    double of[CALIBRATE_KINDS][CALIBRATE_FIELDS_COUNT];
};

/* How a cost came about. */
enum calibrate_source {
    CALIBRATE_KEPT,     /* not measured: the built-in value */
    CALIBRATE_MEASURED, /* by itself */
    CALIBRATE_SHARED,   /* counted together with another: their sum is divided as built in */
};

struct calibrate_thread {
    const char *name;
    struct regression fit;
    uint32_t windows_count;
    double cpu_ns;       /* of all windows */
    double explained_ns; /* what costs x counts, waits and launches come to */
    const char *columns[REGRESSION_TERMS_MAX];
    uint32_t columns_count;
};

struct calibrate_result {
    struct calibration calibration;
    enum calibrate_source source[CALIBRATION_TERMS_COUNT];
    struct calibrate_thread threads[CALIBRATE_THREADS_COUNT];
    double others_cores; /* CPU that others used meanwhile, in cores, at most; NAN: not known */
};

/*
 * Costs of handlers, into out->calibration, whose wake_cpu and sleep_cpu are taken as they are.
 * Pure. Kinds of work that no window has keep their costs.
 */
void calibrate_fit(const struct calibrate_window *windows, uint32_t count, uint64_t seed,
                   struct calibrate_result *out);
/*
 * Before it: the CPU time of a wait, with or without a time-out, which makes counts and CPU times
 * of all threads agree best. In a trial it says little: a CPU that has nothing else to do goes to
 * rest in each wait and comes back, which takes several times as long. Pure; without counts of
 * waits, or with too few windows, those of the trials stay.
 */
void calibrate_waits(const struct calibrate_window *windows, uint32_t count, uint64_t seed,
                     struct calibrate_result *out);
/* Costs of waits and links, with intervals, from trials. Pure. */
void calibrate_mechanics(const struct mechanics *m, struct calibrate_result *out);

struct calibrate_progress {
    const char *setup;
    uint32_t done_count;
    uint32_t all_count;
    double left_s; /* about */
};

struct calibrate_options {
    bool quick;
    const char *gpu; /* whose steps are timed, with which model */
    const char *model;
    uint64_t seed;
    int log_fd; /* of the systems' processes; -1: the caller's stderr */
    void (*progress)(void *ctx, const struct calibrate_progress *progress);
    void *ctx;
    bool (*interrupted)(void);
};

/* Everything but date, revision and machine of out->calibration. DIED: a system did not start or
 * failed. INVALID: a device with room for too few steps. IO: the kernel says nothing of threads.
 * FULL: interrupted. */
MUST_CHECK enum status calibrate_run(const struct calibrate_options *options,
                                     struct calibrate_result *out, struct error *error);

/* ---- parts of calibrate_run() ---- */

/* What the set-ups brought. */
struct calibrate_windows {
    struct calibrate_window *rows; /* [CALIBRATE_WINDOWS_MAX] */
    uint32_t count;
    struct stats_percentile ipc_ns;
    double ipc_prompt_tokens;
    double others_cores; /* greatest of all set-ups */
};
/* The link of ZeroMQ from the stamps of the idle system, after all other costs. Without stamps it
 * stays; it is at least 0. Pure. */
void calibrate_ipc(const struct calibrate_windows *windows, struct calibrate_result *out);
uint32_t calibrate_setups_count(void);
const char *calibrate_setup_name(uint32_t index);
/* Runs one of the set-ups. Windows are added; ipc_ns becomes the median time between a request's
 * stamps on both sides of ZeroMQ where the set-up is an idle system. */
MUST_CHECK enum status calibrate_setup_run(const struct calibrate_options *options, uint32_t index,
                                           struct calibrate_windows *out, struct error *error);
double calibrate_setup_s(const struct calibrate_options *options);
/* Steps of a device over a grid, in a process of its own. */
MUST_CHECK enum status calibrate_device(const struct calibrate_options *options,
                                        struct calibration_device *out, struct error *error);
/* What the coefficients of struct step_fit are multiplied by, for a step that decodes `seqs` tokens
 * behind `context` others each and computes one prompt; 0: none. Pure. */
void calibrate_device_columns(uint32_t seqs, uint32_t context, uint32_t prompt,
                              double x[CALIBRATION_STEP_TERMS_COUNT]);
/* The fit alone: x[count][CALIBRATION_STEP_TERMS_COUNT] and times in ps. One cell of five is held
 * out. NAN: what too few cells cannot tell. Pure. */
void calibrate_device_fit(const double *x, const double *y, uint32_t count, uint64_t seed,
                          struct calibration_device *out);

#endif
