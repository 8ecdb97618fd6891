/*
 * closed_form.h - what a serving system ought to do, by formulas: throughput and what limits it,
 * time per step and per token, launches, and the launch cost at which the host becomes the limit.
 * Pure functions; the reports put them beside what was measured. The device's costs are those of
 * the emulated device (engine/device/cost.h, gpu_share.h), so that a difference is one of queues,
 * threads and processes and not of arithmetic.
 *
 * With s sequences in progress, of which an engine core has b a step (s spread evenly):
 *
 * - GPU: T_g(b) = roofline of one step: max(bytes / bandwidth, FLOPs / peak) + kernels x gap.
 *   One step in N (output tokens) of each sequence computes its prompt.
 * - host: T_h(b) = engine_step + b x engine_seq of the host profile.
 * - launching: T_l = copy + (graph launch + nodes x node, or kernels x launch), each with the
 *   added launch cost; a step that computes prompts has no graph.
 * - one engine core alone: P = max(T_g, T_h, T_l) with asynchronous scheduling (T_h + T_l on one
 *   thread where the engine core launches itself), else one after the other: T_h + T_l + T_g with
 *   a graph, T_h + max(T_l, T_g) with kernels.
 * - E engine cores on one GPU: max(P, E x (T_g + switch)) in turns, max(P, E x T_g x u) side by
 *   side, u the share of bandwidth or SMs that a step needs (gpu_share_period()).
 * - lock-step: every rank steps when any does. P is that of the fullest rank, and tokens are
 *   exchanged with all ranks; rank-steps a token are D / s, so D / c with c <= D requests, and
 *   8 / 9 for 9 requests on 8 ranks.
 * - API servers: A / (t + (r + p x P) / N + m / (b / A)): t output token, r request, p prompt
 *   token, m message, of the host profile.
 * - throughput: s / P(s), and the API servers' where that is less: then s is what makes both equal.
 * - c_crit: the cost of one launch at which launching steps takes as long as the GPU does,
 *   T_g / launches (means over all steps, copies included); (T_g - T_h) / launches where the same
 *   thread prepares the next step meanwhile.
 */
#ifndef SIM_CLOSED_FORM_H
#define SIM_CLOSED_FORM_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/model/host_profile.h"

struct closed_form_system {
    const char *model;
    const char *gpu;
    uint32_t api_servers_count;
    uint32_t engines_count;
    uint32_t tp;
    uint32_t engines_per_gpu; /* 1: each has its own */
    bool side_by_side;        /* how they share one */
    bool lockstep;
    bool graphs;
    bool dummy_graphs; /* lock-step: steps without tokens use a graph, too */
    bool async;        /* asynchronous scheduling */
    bool workers;      /* launching is a process of its own */
    uint32_t max_num_seqs;
    time_ps launch_extra; /* added to each launch */
    struct host_profile host;
};

struct closed_form_load {
    double prompt_tokens;          /* mean, as computed: cached ones left out */
    double output_tokens;          /* mean */
    double output_variance_tokens; /* tokens squared */
    double users_count;            /* of a closed loop; 0: an open one */
    double requests_per_s;         /* of an open one */
};

enum closed_form_limit {
    CLOSED_FORM_GPU,
    CLOSED_FORM_HOST,   /* the engine core's thread */
    CLOSED_FORM_LAUNCH, /* the launching thread */
    CLOSED_FORM_TURNS,  /* host and GPU one after the other: neither is busy all the time */
    CLOSED_FORM_API_SERVER,
    CLOSED_FORM_LOAD, /* fewer users than places in the batches, or requests than could be served */
};

struct closed_form {
    double tok_per_s;
    enum closed_form_limit limit;
    double engines_tok_per_s; /* with full batches and API servers that cost nothing */
    double api_tok_per_s;     /* all API servers; INFINITY when their host costs nothing */
    double alone_tok_per_s;   /* one engine core with a GPU of its own, full batch, nothing else */
    double gpu_knee_engines;  /* on one GPU: more stop helping here; 0: nothing is shared */
    double streams_count;     /* sequences in progress */
    double batch_seqs;        /* of them in a step */
    /* A step, mean over those with and without prompts. */
    double step_us; /* period */
    double gpu_us;
    double host_us;
    double launch_us;
    double token_gap_ms; /* between two tokens of a request */
    double rank_steps_per_tok;
    double steps_per_s;   /* all ranks, dummies included */
    double kernels_per_s; /* all launching threads */
    double graphs_per_s;
    double critical_launch_us; /* c_crit; negative: the host alone takes longer than the GPU */
};

/* "gpu", "scheduler", "launch", "api_server" as in stages.csv; "host + gpu", "load". */
const char *closed_form_limit_name(enum closed_form_limit limit);

/* False: model or GPU unknown, or a load of nothing. */
bool closed_form_predict(const struct closed_form_system *system,
                         const struct closed_form_load *load, struct closed_form *out);

/* Tokens/s of one API server whose messages hold batch_seqs tokens; INFINITY for a free host. */
double closed_form_api_server(const struct host_profile *host, double prompt_tokens,
                              double output_tokens, double batch_seqs);

#endif
