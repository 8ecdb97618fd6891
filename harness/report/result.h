/*
 * result.h - what one run (a cell of the sweep, one replicate) measured: filled by harness/run,
 * written by this room.
 *
 * NAN stands for "not measured" or "cannot be told" and becomes an empty CSV field, never a zero
 * (law 3). Times are ms or us where the name says so. Everything is owned by the result;
 * result_free() releases it. Runs are kept on disk by harness/run/record.c, which knows every
 * pointer in here: a new one is added there.
 */
#ifndef HARNESS_REPORT_RESULT_H
#define HARNESS_REPORT_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ledger/events.h"
#include "harness/analysis/compat.h"
#include "harness/analysis/scaling.h"
#include "harness/analysis/stages.h"
#include "harness/analysis/stats.h"
#include "harness/load/shared.h"
#include "harness/probe/probe.h"
#include "harness/probe/proc.h"
#include "harness/scenario/scenario.h"

enum run_outcome {
    RUN_OK,
    RUN_INVALID, /* measured, but no evidence: client too slow, no steady state, ... (exit status 5)
                  */
    RUN_SERVER_FAILED, /* did not start, died, or made no progress (exit status 6) */
    RUN_CLIENT_FAILED, /* the load client died (exit status 5) */
    RUN_INTERRUPTED,   /* ^C */
    RUN_SKIPPED, /* never started: the budget was used up. A row of runs.csv and nothing else */
};

/* A latency metric of a run. */
struct run_latency {
    double mean_ms;
    double p50_ms;
    double p90_ms;
    double p95_ms;
    double p99_ms; /* NAN where there are too few samples */
    double p999_ms;
    double p99_lo_ms;
    double p99_hi_ms;
    double p99_all_ms; /* every failure as +inf */
};

enum run_metric {
    RUN_TTFT,
    RUN_TTFT_SCHED,
    RUN_TPOT,
    RUN_ICL,
    RUN_ITL,
    RUN_E2EL,
    RUN_E2EL_SCHED,
    RUN_METRICS_COUNT
};

/* One thread or device in one stage: a row of stages.csv. */
struct run_stage {
    char stage[STAGE_NAME_BYTES];
    char instance[32]; /* "ApiServer_0", "EngineCore_DP3", "gpu 3", "client" */
    double use_frac;   /* what the verdict is made of: busy, of a GPU only with a backlog at its
                          engine core */
    double busy_frac;
    double cpu_frac;
    double occupancy_frac;
    double runq_wait_frac;
    double queue_max_count;
    double service_us_per_req;
    double service_us_per_tok;
    double messages_per_s;
    double busy_lo; /* 95 %, by the batches of the window */
    double busy_hi;
    double spin_frac;
    double queue_mean_count;
    double wait_p50_us;
    double wait_p99_us;
    double ctx_switches_per_s;
    double migrations_per_s;
    const char *source; /* "ledger", "proc" */
    char quality[32];   /* "": "counted", or "none" where its use is not known */
};

/* One second of a run: a row of timeline.csv. */
struct run_second {
    double at_s; /* since the load began; the row covers the second before it */
    double offered_per_s;
    double sent_per_s;
    double done_per_s;
    double output_tok_per_s;
    double inflight;
    const char *phase; /* "warmup", "window", "drain" */
};

/* Mean time of a request in each hop, over the requests that have all stamps. */
struct run_hops {
    double mean_ms[PROBE_PARTS_COUNT];
    uint64_t requests_count; /* joined with the client's records */
    double residual_max_ms;  /* greatest |sum of the hops - what the client saw| */
    double negative_max_ms; /* greatest amount by which a hop was negative: two processes' stamps */
};

/* One request of an open or trace load: a row of requests.csv. */
struct run_request {
    uint64_t number;
    enum load_outcome outcome;
    uint32_t trace_line; /* 0: none */
    uint32_t api_server; /* UINT32_MAX: never answered */
    uint32_t engine;     /* UINT32_MAX: never routed */
    uint32_t prompt_tokens_asked;
    uint32_t prompt_tokens;
    uint32_t output_tokens_asked;
    uint32_t output_tokens;
    double sched_ms; /* since the load began */
    double lag_ms;
    double ttft_ms; /* from t_sent */
    double e2el_ms;
    struct probe_parts parts; /* its hops, in us */
};

/* Requests that one limit of an [slo] is about, and those over it. */
struct run_limit {
    uint64_t requests_count;
    uint64_t over_count;
    double inflation; /* of slo_judge() (analysis/slo.h); 0 without requests */
};

/* The requests due in the window against the limits of the [slo] in force. Failed ones, and those
 * that did not end, are over each limit. */
struct run_slo {
    bool is_known; /* false: no [slo], a closed loop, or no window */
    struct run_limit ttft;
    struct run_limit tpot; /* those with a time per token */
    struct run_limit any;  /* all of them; over at least one limit */
    uint64_t failed_count; /* without those that did not end: what error_max is about */
};

/* Part of a distribution: a row of hist.csv. */
struct run_bin {
    uint32_t metric; /* enum run_metric */
    uint32_t bucket; /* load/histogram.h, of ns */
    uint64_t count;
};

/* Something that happened in a process of the system or its load client: a line of events.jsonl. */
struct run_event {
    int64_t at_ns;    /* since the ledger was made, just before the launcher was started */
    uint32_t process; /* enum ledger_thread_kind of its main thread; THREAD_KINDS_COUNT: the load
                         client */
    uint32_t instance;
    uint32_t number; /* in its process, from 0 */
    uint32_t what;   /* enum event_kind */
    struct event_note note;
};

/* What the runs before said of a cell that had not run yet (report/attribution.h). */
struct run_expectation {
    bool known; /* false: nothing was said */
    double tok_per_s;
    double lo; /* 95 %; NAN: not known */
    double hi;
    const char *stage; /* which one was expected to limit; "load": none, too little is asked for */
};

struct run_result {
    const struct scenario_cell *cell; /* borrowed from the scenario */
    uint32_t order_index;             /* 0, 1, ... in the order of running */
    uint32_t replicate;
    uint64_t seed;
    bool simulated;     /* in virtual time */
    char run_id[48];    /* "r0007" */
    char start_utc[32]; /* "2026-11-22T10:00:00Z" */
    enum run_outcome outcome;
    char reason[512];     /* why it is not RUN_OK; "" otherwise */
    char unrecorded[512]; /* why a recording that was wanted is not whole; "" otherwise */
    char server_rev[48];  /* of a server of others, as it says itself; "": it does not */

    double warmup_s;
    double window_s;
    uint32_t users_count;               /* 0 in open modes */
    double offered_rps;                 /* NAN in closed loop */
    struct stats_mean output_tok_per_s; /* by batch means */
    double prompt_tok_per_s;
    uint64_t requests_count; /* scheduled in the window */
    uint64_t ok_count;
    uint64_t fail_count;
    uint64_t censored_count; /* aborted by the client at the window's end */
    uint64_t dropped_count;
    double sent_rps;
    double achieved_rps;
    double inflight_mean;
    double inflight_max;
    double achieved_ratio_lo; /* of open and trace loads, as all that follows */
    double achieved_ratio_hi;
    double backlog_slope_per_s;
    double n_eff_frac;  /* independent requests that one of the window is worth */
    double steady_flag; /* 1: the window began in steady state; 0: it did not; closed loops too */
    struct run_slo slo;
    struct run_latency latency[RUN_METRICS_COUNT];
    double stall_max_p99_ms;
    double lag_p50_ms;
    double lag_p99_ms;
    double lag_max_ms;
    double client_cpu_frac;
    double client_ceiling_frac;
    const char *token_basis; /* "usage", "events", "" */

    double
        api_tok_per_s[LOAD_API_SERVERS_MAX]; /* share of each API server, NAN beyond their number */
    double *engine_tok_per_s;                /* by rank */
    uint32_t ranks_count;                    /* of engine_tok_per_s */
    double rank_jain;                        /* Jain index of the engine cores' tokens */
    double dp_imbalance_frac;                /* 1 - mean/max of the engine cores' tokens */
    double dp_sync_frac;       /* lock-step: rank-steps without a token of the rank; NAN without */
    double stranded_frac;      /* looks at which requests waited at a full engine core while
                                  another had a free place; NAN: one engine core */
    double rank_steps_per_tok; /* steps and dummy steps of all engine cores a token they made */
    double launch_busy_frac;   /* mean over launching threads: preparing + launching */
    double gpu_busy_frac;
    double gpu_starved_frac;
    double host_cores_used; /* serving system + client + harness */
    double others_cores_used;
    double cpu_pressure_frac; /* of the time somebody on the host waited for a CPU (PSI) */
    bool host_limited;        /* no evidence for a knee (analysis/stages.h) */
    struct stage_verdict verdict;

    struct run_stage *stages;
    uint32_t stages_count;
    struct probe_rates *launchers; /* launching threads, one row of launch.csv each */
    uint32_t launchers_count;
    struct probe_rates *engines; /* engine core main threads: batch mean, step time */
    uint32_t engines_count;
    struct proc_thread_row threads[PROC_THREAD_ROWS];
    bool threads_known;
    struct run_second *seconds;
    uint32_t seconds_count;
    struct run_request *requests; /* open and trace loads only, in order of their numbers */
    uint32_t requests_rows_count;
    struct run_event *events; /* in the order of time; none of a system that did not start */
    uint32_t events_count;
    struct run_bin *bins; /* metric by metric, ascending */
    uint32_t bins_count;
    struct run_hops hops;
    uint64_t trace_refused_count;
    struct run_expectation expected;
    struct compat_seen compat[COMPAT_TOOLS_COUNT]; /* of those that run_host asks for */
    uint64_t tokens_mismatch_count; /* ok requests whose prompt or output tokens were not what was
                                       asked */
};

/* Once for all runs of a session. */
struct run_host {
    struct proc_host host;
    char git_rev[48];
    char config_hash[24];
    char started_utc[32];
    char command[1024];
    double
        client_ceiling_rps; /* non-streamed requests/s against a null server; NAN: not measured */
    double client_ceiling_tok_per_s; /* streamed tokens/s */
    uint32_t compat_tools;           /* bit i: the i-th enum compat_tool has columns in runs.csv */
};

void result_free(struct run_result *r);

#endif
