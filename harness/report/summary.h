/*
 * summary.h - from all runs of a session to points (replicates of a cell merged) and curves (points
 * along the scaling axis), with what each curve says about where more stops helping. Pure functions
 * on the results; report.md, the CSV files and the verdict are written from it.
 */
#ifndef HARNESS_REPORT_SUMMARY_H
#define HARNESS_REPORT_SUMMARY_H

#include "harness/analysis/laws.h"
#include "harness/report/attribution.h"
#include "harness/report/forecast.h"
#include "harness/report/goodput.h"
#include "harness/report/result.h"

enum {
    SUMMARY_LABEL_BYTES = 96
};

/* Where launching threads spend their time; means over threads and runs. NAN: not observed. */
struct summary_launch {
    uint32_t threads_count; /* of one run */
    double kernels_per_s;   /* of one thread */
    double graphs_per_s;
    double prepare_frac;
    double launch_frac;
    double queue_full_frac;
    double sync_wait_frac;
    double idle_frac;
    double other_frac; /* the rest: scheduling and messages on the same thread */
    double batch_mean; /* sequences a step */
};

/* Whether the load could show a limit of the system at all. */
enum summary_load {
    SUMMARY_LOAD_FULL,   /* as far as can be told */
    SUMMARY_LOAD_SERVED, /* open loop or trace, all of it is served and no stage is full */
    SUMMARY_LOAD_FEW, /* closed loop with fewer users than engine cores, or one: latency decides */
};

/* What simulated runs of the same cell said, where it was measured too. */
struct summary_simulated {
    bool known;
    double tok_per_s;
    double itl_mean_ms;
    double rank_steps_per_tok;
    double launches_per_s;
    struct stage_verdict verdict;
};

/* One cell. Numbers are means over the runs shown: those that are evidence, or, if there is none,
 * those that were valid but host limited. */
struct summary_point {
    const struct scenario_cell *cell;
    uint32_t along;      /* its value on the scaling axis; 0 without one */
    uint32_t runs_count; /* attempted */
    uint32_t valid_count;
    uint32_t shown_count;
    uint32_t host_limited_count;
    bool evidence; /* at least one valid run that the host did not limit */
    enum run_outcome worst;
    const char *reason;        /* of the first run that is not ok; "" */
    struct scaling_cell rates; /* of the runs shown */
    double tok_per_s;          /* NAN: no valid run */
    double tok_per_s_lo;
    double tok_per_s_hi;
    double achieved_rps;
    double offered_rps;
    double ttft_p50_ms;
    double ttft_p99_ms;
    double tpot_p50_ms;
    double e2el_p50_ms;
    double e2el_p99_ms;
    struct run_latency ttft_sched; /* means of the runs' percentiles */
    struct run_latency tpot;
    struct run_slo slo; /* sums */
    struct goodput goodput;
    double client_cpu_frac; /* greatest */
    double host_cores_used;
    double others_cores_used; /* greatest */
    double launch_busy_frac;
    double gpu_busy_frac;
    double gpu_starved_frac;
    double dp_imbalance_frac;
    double dp_sync_frac;
    double stranded_frac;
    double rank_jain;
    double api_min_share;
    double api_max_share;
    uint64_t ok_count;
    uint64_t fail_count;
    uint64_t censored_count;
    uint64_t dropped_count;
    uint64_t refused_count;
    uint64_t mismatch_count;
    struct stage_verdict verdict; /* most frequent of the runs shown */
    enum summary_load load;
    bool attributed; /* scenarios without curves: by the runs of all comparable cells */
    struct attribution attribution;
    struct attribution_gain relief;          /* with twice the servers of the stage that limits */
    struct stage_summary stages[STAGES_MAX]; /* servers_count: of one run */
    uint32_t stages_count;
    struct summary_launch launch;
    const struct run_result *run; /* the first one shown; NULL: none */
    struct forecast forecast;     /* by closed forms, before anything ran */
    struct summary_simulated simulated;
    double itl_mean_ms;
    double rank_steps_per_tok;
    double launches_per_s; /* kernels and graphs of all launching threads, of `run` */
};

/* Predicted from a host profile's constants: what an API server carries at both ends of the
 * published range. */
struct summary_prediction {
    bool known; /* false: no emulated host, or lengths that only a trace knows */
    const char *profile;
    double token_us; /* constant in use and its published range */
    double token_lo_us;
    double token_hi_us;
    double ceiling;      /* tokens/s of one API server */
    double ceiling_fast; /* with token_lo_us */
    double ceiling_slow; /* with token_hi_us */
    double knee;         /* engine cores that the curve's API servers can feed */
    double knee_fast;
    double knee_slow;
};

/* Points along the scaling axis, all else equal. */
struct summary_curve {
    char label[SUMMARY_LABEL_BYTES]; /* "2 API servers" */
    bool by_api_servers;             /* the label says all that sets this curve apart */
    uint32_t api_servers_count;
    uint32_t points_count; /* evidence only, sorted along the axis */
    uint32_t first;        /* its first cell in the scenario */
    const struct summary_point *points[SCALING_CELLS_MAX];
    struct scaling_cell cells[SCALING_CELLS_MAX];
    struct scaling_efficiency efficiency[SCALING_CELLS_MAX];
    struct scaling_last_helpful answer;
    bool decided;
    struct scaling_last_helpful simulated_answer; /* of simulated runs, beside measured ones */
    bool simulated_decided;
    const struct summary_point *deciding; /* just past the knee, or the last one; NULL: no points */
    struct summary_prediction prediction;
    const struct summary_curve *fewer; /* same but fewer API servers, NULL: none */
    struct scaling_gain gain;          /* over it, at the largest common count of engine cores */
    struct attribution_gain foretold;  /* the same gain by the runs of `fewer` alone */
    bool foretold_holds;               /* the gain measured lies inside the interval */
    struct attribution attribution;    /* of its last point, by the curve's runs alone */
    struct attribution_gain relief;    /* there, with twice the servers of the stage that limits */
    struct laws laws;
};

struct summary {
    const struct scenario *scenario;
    bool scaling;                 /* there is a scaling axis with numbers on it */
    const char *noun;             /* what the axis counts: "engine core" */
    const char *plural;           /* "engine cores" */
    struct summary_point *points; /* in the scenario's order; only cells that were run */
    uint32_t points_count;
    struct summary_curve *curves;
    uint32_t curves_count;
    uint32_t runs_count;
    uint32_t planned_count; /* runs of their kind, measured or simulated, in the scenario */
    uint32_t outcomes[RUN_INTERRUPTED + 1];
};

/* Borrows results and scenario. Freed with summary_free(). */
struct summary *summary_build(const struct scenario *scenario, const struct run_result *results,
                              uint32_t count);
void summary_free(struct summary *s);
/* All but the scaling axis agrees with the curve. */
bool summary_on_curve(const struct summary *s, const struct summary_curve *c,
                      const struct scenario_cell *cell);
/* Index of the curve that the point lies on, -1 if none. */
int summary_curve_of(const struct summary *s, const struct summary_point *point);
/* The run whose timeline says most: first valid one of the deciding (or largest) cell. NULL: none.
 */
const struct run_result *summary_timeline_run(const struct summary *s,
                                              const struct run_result *results, uint32_t count);

#endif
