/*
 * metric_text.c - the table of metrics and the look-ups in it (metric_text.h). The formulas of
 * other tools are those that compat.c computes.
 */
#include "harness/analysis/metric_text.h"

#include <fnmatch.h>
#include <stdbool.h>
#include <string.h>

enum {
    NAME_BYTES = 80
};

static const struct metric_text metrics[] = {
    /* ---- latencies of a request ---- */
    {.name = "ttft",
     .also = "time_to_first_token",
     .unit = "ms",
     .definition = "time to first token: from the first send() of a request to the read() of its "
                   "first event with content (text, reasoning, tool arguments or token ids)",
     .formula = "t_first - t_sent",
     .columns = "runs.csv:ttft_*_ms points.csv:ttft_p50_ms,ttft_p99_ms requests.csv:ttft_ms",
     .others = {[METRIC_VLLM] = "c1 - a, which may be an event without text (a role in chat)",
                [METRIC_GUIDELLM] = "f - a",
                [METRIC_AIPERF] = "f - a",
                [METRIC_INFERENCE_PERF] = "f - a",
                [METRIC_MLPERF] = "first token - s: what is called ttft_sched here",
                [METRIC_SGLANG] = "f - a; 0 where nothing came, which counts as a success"}},
    {.name = "ttft_sched",
     .unit = "ms",
     .definition =
         "time to first token from when the request was due, so that time it waited for a "
         "late client or a free connection is in it",
     .formula = "t_first - t_sched",
     .columns = "runs.csv:ttft_sched_*_ms",
     .others = {[METRIC_VLLM] = "only in the newest extra fields",
                [METRIC_GUIDELLM] = "not given; delays are averaged apart",
                [METRIC_AIPERF] = "effective_ metrics, from the issue of a credit",
                [METRIC_INFERENCE_PERF] = "not given; schedule_delay apart",
                [METRIC_MLPERF] = "first token - s, called TTFT"}},
    {.name = "e2el",
     .also = "e2e latency request_latency",
     .unit = "ms",
     .definition = "end-to-end latency: from the first send() of a request to its last event with "
                   "content",
     .formula = "t_last - t_sent",
     .columns = "runs.csv:e2el_*_ms points.csv:e2el_p50_ms,e2el_p99_ms requests.csv:e2el_ms",
     .others = {[METRIC_VLLM] = "L - a",
                [METRIC_GUIDELLM] = "d - a",
                [METRIC_AIPERF] = "l - a",
                [METRIC_INFERENCE_PERF] = "d - a",
                [METRIC_MLPERF] = "complete - s: what is called e2el_sched here",
                [METRIC_SGLANG] = "d - a"}},
    {.name = "e2el_sched",
     .unit = "ms",
     .definition = "end-to-end latency from when the request was due",
     .formula = "t_last - t_sched",
     .columns = "runs.csv:e2el_sched_*_ms",
     .others = {[METRIC_MLPERF] = "complete - s, called latency"}},
    {.name = "tpot",
     .also = "time_per_output_token",
     .unit = "ms",
     .definition = "time per output token after the first, one number a request; requests with one "
                   "token have none",
     .formula = "(t_last - t_first) / (n - 1), n >= 2",
     .columns = "runs.csv:tpot_*_ms points.csv:tpot_p50_ms",
     .others = {[METRIC_VLLM] = "(L - c1) / (n - 1); n = 1: 0 for goodput, no sample",
                [METRIC_GUIDELLM] = "(l - a) / n: the first token's time is in it",
                [METRIC_AIPERF] = "called ITL: (l - f) / (n - 1), n by the client's tokenizer",
                [METRIC_INFERENCE_PERF] = "(l - f) / (n - 1); NTPOT = (d - a) / n",
                [METRIC_MLPERF] = "(last - first) / (n - 1), n told by the system",
                [METRIC_SGLANG] = "(d - f) / (n - 1); without usage n is the requested length"}},
    {.name = "icl",
     .also = "inter_chunk_latency",
     .unit = "ms",
     .definition =
         "inter-chunk latency: gaps between consecutive events with content, those of all "
         "requests pooled, however many tokens an event holds",
     .formula = "t_event(i) - t_event(i - 1)",
     .columns = "runs.csv:icl_*_ms",
     .others = {[METRIC_VLLM] = "called ITL: gaps of events with choices, pooled",
                [METRIC_AIPERF] = "the same, called ICL",
                [METRIC_SGLANG] = "called ITL; divided by the accepted length when speculating"}},
    {.name = "itl",
     .also = "inter_token_latency",
     .unit = "ms",
     .definition = "inter-token latency: the gaps of icl divided by, and weighted with, the tokens "
                   "of the later event; itl_basis says how tokens were counted",
     .formula = "icl / tokens of the event, counted that many times",
     .columns = "runs.csv:itl_*_ms points.csv:itl_mean_ms",
     .others = {[METRIC_VLLM] = "gaps of events with choices, pooled: what is called icl here",
                [METRIC_GUIDELLM] = "(l - f) / (n - 1), one a request: what is called tpot here",
                [METRIC_AIPERF] = "(l - f) / (n - 1), one a request: what is called tpot here",
                [METRIC_INFERENCE_PERF] = "text is tokenized again; 0 between tokens of one chunk",
                [METRIC_SGLANG] = "gaps of events with content: what is called icl here"}},
    {.name = "stall",
     .also = "stall_max",
     .unit = "ms",
     .definition = "the greatest gap between events with content within a request",
     .formula = "max over i of icl(i) of a request; the column is the p99 over requests",
     .columns = "runs.csv:stall_max_p99_ms"},
    {.name = "lag",
     .also = "schedule_delay",
     .unit = "ms",
     .definition = "how late the client itself was: a run whose client was late is not valid",
     .formula = "t_sent - t_sched",
     .columns = "runs.csv:lag_p50_ms,lag_p99_ms,lag_max_ms requests.csv:lag_ms",
     .others =
         {[METRIC_GUIDELLM] = "averages of the delay", [METRIC_INFERENCE_PERF] = "schedule_delay"}},
    {.name = "percentile",
     .also = "p50 p90 p95 p99 p999",
     .unit = "ms",
     .definition =
         "a latency column's percentile over successes; empty below 29 (p90), 59 (p95), "
         "299 (p99) and 2,995 (p99.9) samples. _p99_all_: with every failure as infinite; "
         "_p99_lo_, _p99_hi_: 95 % interval by order statistics",
     .formula = "smallest x with F(x) >= p (nearest rank)",
     .columns = "runs.csv:*_p99_lo_ms,*_p99_hi_ms,*_p99_all_ms",
     .others = {[METRIC_VLLM] = "linear interpolation; p99 unless asked",
                [METRIC_GUIDELLM] = "nearest rank",
                [METRIC_AIPERF] = "linear interpolation; adj_ metrics count failures as infinite",
                [METRIC_INFERENCE_PERF] = "linear interpolation",
                [METRIC_MLPERF] = "sorted[floor(n p)]",
                [METRIC_SGLANG] = "linear interpolation"}},

    /* ---- rates ---- */
    {.name = "offered",
     .also = "offered_rate request_rate",
     .unit = "requests/s",
     .definition = "load that was due, sent or not; a closed loop has none",
     .formula = "requests with t_sched in the window / window",
     .columns = "runs.csv:offered_rps points.csv:offered_rps timeline.csv:offered_per_s"},
    {.name = "sent",
     .also = "sent_rate",
     .unit = "requests/s",
     .definition = "load that reached the server",
     .formula = "requests with t_sched in the window that were sent / window",
     .columns = "runs.csv:sent_rps timeline.csv:sent_per_s"},
    {.name = "achieved",
     .also = "achieved_rate request_throughput",
     .unit = "requests/s",
     .definition = "requests that were served; achieved_ratio is its share of what was offered",
     .formula = "successes with t_last in the window / window",
     .columns = "runs.csv:achieved_rps,achieved_ratio* points.csv:achieved_rps "
                "timeline.csv:done_per_s",
     .others = {[METRIC_VLLM] = "successes / (first start to last end): ramp and drain are in it",
                [METRIC_GUIDELLM] = "from events; warm-up and cool-down cut off",
                [METRIC_AIPERF] = "successes / (first send to last response)",
                [METRIC_INFERENCE_PERF] = "of a stage",
                [METRIC_MLPERF] = "(requests - 1) / last completion",
                [METRIC_SGLANG] = "successes / whole run"}},
    {.name = "output_tok_per_s",
     .also = "output_throughput token_throughput throughput tokens_per_s tok_per_s",
     .unit = "tokens/s",
     .definition = "output tokens emitted in the window, whichever requests they belong to, with "
                   "a 95 % interval by batch means",
     .formula = "tokens read in the window / window",
     .columns = "runs.csv:output_tok_per_s* points.csv:output_tok_per_s* "
                "timeline.csv:output_tok_per_s plot_points.csv:tok_per_s*",
     .others = {[METRIC_VLLM] = "tokens of successes / (first start to last end)",
                [METRIC_GUIDELLM] = "from events; warm-up and cool-down cut off",
                [METRIC_AIPERF] = "tokens of successes / (first send to last response)",
                [METRIC_INFERENCE_PERF] = "of a stage",
                [METRIC_MLPERF] = "tokens / last completion",
                [METRIC_SGLANG] = "(usage, else requested tokens) / whole run"}},
    {.name = "prompt_tok_per_s",
     .also = "input_throughput",
     .unit = "tokens/s",
     .definition = "prompt tokens of the requests that were sent in the window",
     .formula = "prompt tokens / window",
     .columns = "runs.csv:prompt_tok_per_s"},
    {.name = "goodput",
     .also = "good_frac",
     .unit = "requests/s",
     .definition =
         "requests due in the window that succeed within every limit of the SLO; good_frac "
         "is their share of all that were due, failed and dropped ones included",
     .formula = "good requests / window; good_frac with an exact binomial 95 % interval",
     .columns = "runs.csv:goodput_rps,good_frac*,slo points.csv:goodput_rps,good_frac*,slo_status",
     .others = {[METRIC_VLLM] = "successes within every limit of ttft, tpot, e2el / run",
                [METRIC_AIPERF] = "the same, and a share that counts errors",
                [METRIC_INFERENCE_PERF] = "% of successes",
                [METRIC_MLPERF] = "none: the percentile passes or fails"}},
    {.name = "n",
     .also = "output_tokens tokens token_basis",
     .unit = "tokens",
     .definition =
         "output tokens of a request: usage.completion_tokens, else token ids, else events "
         "with content (token_basis says which); never the requested length",
     .formula = "usage, else counted",
     .columns = "requests.csv:output_tokens runs.csv:token_basis,itl_basis",
     .others = {[METRIC_VLLM] = "usage, else the client's tokenizer",
                [METRIC_GUIDELLM] = "usage, else counted",
                [METRIC_AIPERF] = "the client's tokenizer; usage by option",
                [METRIC_INFERENCE_PERF] = "the client's tokenizer",
                [METRIC_MLPERF] = "told by the system under test",
                [METRIC_SGLANG] = "usage, else the requested length"}},
    {.name = "failures",
     .also = "fail_count fail_frac success ok_count dropped_count censored_count",
     .unit = "requests",
     .definition = "of the requests due in the window those that did not succeed; a success is 2xx "
                   "with a terminal event, a finish reason and at least one token. Dropped ones "
                   "(never sent) are failures, censored ones (ended by the client) are not",
     .formula = "fail_frac = fail_count / requests_count",
     .columns =
         "runs.csv:fail_count,fail_frac,ok_count,dropped_count,censored_count,requests_count "
         "points.csv:fail_count,ok_count,dropped_count,censored_count",
     .others = {[METRIC_VLLM] = "left out of latencies and of numerators",
                [METRIC_GUIDELLM] = "a block of their own",
                [METRIC_AIPERF] = "adj_ metrics count them as infinite",
                [METRIC_INFERENCE_PERF] = "left out",
                [METRIC_MLPERF] = "make the run INVALID",
                [METRIC_SGLANG] = "left out; an empty 200 is a success"}},

    /* ---- the load in the system ---- */
    {.name = "inflight",
     .also = "inflight_mean inflight_max concurrency",
     .unit = "requests",
     .definition = "requests that were sent and have not ended",
     .formula = "mean: time integral over the window / window",
     .columns = "runs.csv:inflight_mean,inflight_max timeline.csv:inflight"},
    {.name = "backlog_slope",
     .unit = "requests/s",
     .definition = "growth of the requests in the system: what a load above the stable rate leaves",
     .formula = "(requests due - requests completed) in the window / window",
     .columns = "runs.csv:backlog_slope_per_s"},
    {.name = "little_residual",
     .unit = "",
     .definition = "how far the run is from Little's law; over 5 % it had edges or lost requests. "
                   "Empty in closed loop",
     .formula = "abs(inflight_mean - achieved_rps x mean e2el) / inflight_mean",
     .columns = "runs.csv:little_residual_frac"},
    {.name = "n_eff",
     .unit = "",
     .definition = "independent requests that one of the window's is worth, by how much the "
                   "batches differ in requests whose ttft_sched is over the median",
     .formula = "variance between batches if independent / as it is, at most 1",
     .columns = "runs.csv:n_eff_frac"},
    {.name = "steady",
     .also = "mser mser_5 steady_state",
     .unit = "",
     .definition = "whether the window began in steady state: 0 if the start of tokens and of "
                   "requests in flight, by MSER-5 since the load began, reaches into it and moves "
                   "its mean by more than 5 %, or they still drift in it",
     .formula = "truncation d of averages of five values with the least "
                "sum((x - mean)^2) / (n - d)^2, d <= n / 2",
     .columns = "runs.csv:steady"},
    {.name = "histogram",
     .also = "hist distribution spectrum",
     .unit = "us",
     .definition = "requests (of icl gaps, of itl tokens) by latency, in bins of 1/128 of a power "
                   "of two: what the percentiles are taken from, and the spectrum drawn",
     .formula = "count of lo_us <= x < hi_us",
     .columns = "hist.csv:lo_us,hi_us,count"},

    /* ---- saturation ---- */
    {.name = "capacity",
     .unit = "requests/s",
     .definition = "throughput under a persistent backlog: a closed loop with more users than the "
                   "system has places, by batch means until the half-width is 2 %",
     .formula = "achieved, with a backlog",
     .columns = "knee.csv:capacity_rps,capacity_lo,capacity_hi,overload_droop_frac",
     .others = {[METRIC_VLLM] =
                    "usually read from a burst of N requests, whose ramp and drain make "
                    "it too low: by 16 % at N = 10 x the places"}},
    {.name = "stable_rate",
     .unit = "requests/s",
     .definition = "greatest open-loop rate at which the backlog does not grow: lower bound of "
                   "achieved / offered above 0.96 and no significant slope",
     .formula = "greatest rate judged stable, by bisection",
     .columns = "knee.csv:stable_*",
     .others = {[METRIC_GUIDELLM] = "sweep between one request at a time and all at once"}},
    {.name = "slo_rate",
     .also = "slo",
     .unit = "requests/s",
     .definition =
         "greatest open-loop rate that meets every limit of the SLO on the scheduled clock: "
         "exact binomial bound of the share over the limit at most 1 - p",
     .formula = "greatest rate that passes, by bisection",
     .columns = "knee.csv:slo_*",
     .others = {[METRIC_MLPERF] =
                    "the score of the server scenario: a rate whose percentile passes"}},
    {.name = "knee",
     .unit = "requests/s",
     .definition = "rate at which latency begins to rise faster than throughput: shown, never a "
                   "criterion. Not the count at which engine cores stop helping (last_helpful)",
     .formula = "Kneedle on (offered, p50 e2el); cross-check: greatest throughput / latency",
     .columns = "knee.csv:knee_*,power_rps"},
    {.name = "last_helpful",
     .also = "last_helpful_cores scaling useful_gain efficiency",
     .unit = "engine cores",
     .definition =
         "count through which one more engine core adds at least useful_gain (20 %) of "
         "what the first one gives; not helping is said only when the one-sided 95 % upper "
         "bound of the gain is below that",
     .formula = "g = (X(k') - X(k)) / ((k' - k) X(1)); efficiency = X(k) / (k X(1))",
     .columns = "scaling.csv:last_helpful_*,efficiency_at_max_frac,gain_over_fewer_* "
                "plot_points.csv:efficiency_frac*"},
    {.name = "scaling_model",
     .also = "usl n_star gamma alpha beta",
     .unit = "",
     .definition = "law of throughput over engine cores chosen by AICc; n_star, where it peaks",
     .formula = "X(k) = gamma k / (1 + alpha (k - 1) + beta k (k - 1)), and simpler ones",
     .columns = "scaling.csv:model,model_chosen,gamma_rps,gamma_tok_per_s,alpha,beta,plateau_cores,"
                "plateau_tok_per_s,n_star*,aicc_weight"},
    {.name = "predicted",
     .also = "prediction closed_form",
     .unit = "",
     .definition =
         "what closed forms say from the emulated system's own costs, to be compared with "
         "what was measured",
     .formula = "see docs/results.md for each column",
     .columns = "runs.csv:predicted_* points.csv:predicted_* scaling.csv:predicted_* "
                "plot_points.csv:predicted_*"},
    {.name = "simulated",
     .also = "simulation mode simulation_error simulated_output_tok_per_s",
     .unit = "",
     .definition = "what runs in virtual time said of a cell that was measured, too (scenario.mode "
                   "= both); mode: whether a run was measured or simulated",
     .formula = "simulation_error_frac = simulated / measured - 1",
     .columns = "runs.csv:mode points.csv:simulated_*,simulation_error_frac "
                "plot_points.csv:simulated_*"},

    {.name = "forecast",
     .also = "foretold prediction_error",
     .unit = "",
     .definition = "throughput of a cell as the runs before it let expect, said before it ran, and "
                   "how far off that was",
     .formula = "least of the stages' ceilings; error: measured / forecast - 1",
     .columns = "runs.csv:forecast_*,prediction_error_frac scaling.csv:foretold_*"},

    /* ---- stages ---- */
    {.name = "use",
     .also = "utilization utilisation busy bottleneck use_frac",
     .unit = "",
     .definition =
         "share of the time in which a thread worked (CPU time and emulated occupancy "
         "together) or a device computed. The limiting stage is the one with at least 85 % "
         "that is 5 points ahead of the next",
     .formula = "(CPU + occupancy) / window; busy: wall time between waits / window",
     .columns = "stages.csv:use_frac,busy_*,cpu_frac,spin_frac,occupancy_frac "
                "runs.csv:bottleneck,bottleneck_util_frac "
                "points.csv:bottleneck_util_frac,second_util_frac,headroom "
                "scaling.csv:limited_by_util_frac launch.csv:cpu_frac"},
    {.name = "queue",
     .also = "wait runq_wait queue_length",
     .unit = "",
     .definition = "work that waits for a thread, and a thread that waits for a core. The queue of "
                   "an interpreter lock is the threads that wait for it",
     .formula = "queue_mean_count: integral of the length / window; wait: from the hop before to "
                "being taken in; runq_wait_frac: runnable but not running / window",
     .columns = "stages.csv:queue_*_count,wait_*_us,runq_wait_frac"},
    {.name = "demand",
     .also = "service_demand service_time ceiling",
     .unit = "us",
     .definition = "time of a stage that one request (or token) of the whole system takes; its "
                   "inverse is the stage's ceiling",
     .formula = "use / achieved",
     .columns = "stages.csv:demand_*us,service_us_per_req,service_us_per_tok,ceiling_rps "
                "ceilings.csv:demand_*us,idle_busy_count,ceiling_tok_per_s*,spins"},
    {.name = "relief",
     .also = "relief_gain explained",
     .unit = "",
     .definition = "what twice the servers of the limiting stage should bring, and the stage that "
                   "would limit then; explained_frac: how much of the lowest ceiling was reached",
     .formula = "least of the ceilings with that stage doubled / throughput - 1",
     .columns = "scaling.csv:relief_gain_*,relief_then,lowest_ceiling,next_stage,explained_frac"},
    {.name = "messages",
     .unit = "1/s",
     .definition = "messages into and out of a thread",
     .formula = "counted / window",
     .columns = "stages.csv:messages_per_s"},
    {.name = "hops",
     .also = "hop queue_ms prefill_ms",
     .unit = "ms",
     .definition =
         "a request's time in each part of the way, from stamps of all processes; ttft is "
         "the sum of the first eight. The residual is what they differ from what the client "
         "saw",
     .formula = "stamp at the end of a part - stamp at its begin",
     .columns = "hops.csv:*_ms requests.csv:*_us runs.csv:hops_residual_max_ms"},

    /* ---- launching threads and devices ---- */
    {.name = "launches",
     .also = "kernel_launches graph_launches",
     .unit = "1/s",
     .definition = "kernels, graphs and copies that a launching thread gave to its device",
     .formula = "counted / window",
     .columns = "launch.csv:launches_per_s,graph_launches_per_s,copies_per_s,launches_per_step,"
                "syncs_per_s runs.csv:launches_per_s "
                "points.csv:kernel_launches_per_s,graph_launches_per_s"},
    {.name = "launch_cost",
     .also = "launch_time critical_launch_cost",
     .unit = "us",
     .definition = "time of one launch call; at the critical cost launching takes as long as the "
                   "device computes",
     .formula = "time inside launch calls / launches",
     .columns = "launch.csv:launch_*_us,graph_launch_*_us,copy_launch_*_us,launch_cost_*,"
                "critical_launch_cost_us,spare_launch_cost_us"},
    {.name = "launch_busy",
     .also = "launch_share",
     .unit = "",
     .definition = "how a launching thread spends its time: preparing inputs, launching, blocked "
                   "by a full queue, waiting for results (of them for other ranks), idle",
     .formula = "time in that state / window; launch_busy = preparing + launching",
     .columns = "launch.csv:launch_api_frac,prepare_frac,queue_full_frac,sync_wait_frac,idle_frac,"
                "collective_wait_frac,output_thread_wait_frac runs.csv:launch_busy_frac "
                "points.csv:launch_busy_frac plot_launch.csv:other_frac"},
    {.name = "gpu_busy",
     .also = "gpu gpu_starved gpu_utilization",
     .unit = "",
     .definition =
         "share of the time in which a device computed; starved: idle while work was ready "
         "on the host; switching: between threads that share it",
     .formula = "time in that state / window",
     .columns = "launch.csv:gpu_*_frac,gpu_idle_gap_* runs.csv:gpu_busy_frac,gpu_starved_frac "
                "points.csv:gpu_busy_frac,gpu_starved_frac"},
    {.name = "steps",
     .also = "step batch waves rank_steps",
     .unit = "1/s",
     .definition = "forward passes of a rank, and sequences in one; in lock-step also waves, and "
                   "dummy steps without tokens",
     .formula = "counted / window; rank_steps_per_tok: steps of all ranks / tokens",
     .columns = "launch.csv:steps_per_s,step_*_us,batch_mean_count,waves_per_s,dummy_steps_per_s "
                "runs.csv:rank_steps_per_tok,dp_sync_frac "
                "points.csv:batch_mean_count,rank_steps_per_tok,dp_sync_frac"},

    /* ---- fairness and the machine ---- */
    {.name = "balance",
     .also = "jain imbalance share",
     .unit = "",
     .definition =
         "how evenly API servers and ranks shared the tokens: least and greatest share of "
         "an API server, Jain's index of the ranks (1: equal, 1/D: one has all)",
     .formula = "rank_jain = (sum x)^2 / (D sum x^2); dp_imbalance_frac = 1 - mean / greatest",
     .columns =
         "runs.csv:api_min_share,api_max_share,rank_jain,dp_imbalance_frac,stranded_frac "
         "points.csv:api_min_share,api_max_share,rank_jain,dp_imbalance_frac,stranded_frac,alarm"},
    {.name = "elasticity",
     .also = "probe slowed",
     .unit = "",
     .definition = "share of a stage's slow-down that throughput loses: about 1 for the stage that "
                   "limits, 0 for one that waits",
     .formula = "-ln(slowed tokens/s / tokens/s) / ln(1 + slower_frac)",
     .columns = "probe.csv:elasticity*,finding,agreement,loss_frac,slower_frac"},
    {.name = "client",
     .also = "client_cpu client_ceiling",
     .unit = "",
     .definition = "how near the load client was to its own limits: a run above them is not valid",
     .formula = "CPU time of its thread / window; rate / what it can do at most",
     .columns = "runs.csv:client_cpu_frac,client_ceiling_frac points.csv:client_cpu_frac"},
    {.name = "host_cores",
     .also = "host_limited others_cores",
     .unit = "cores",
     .definition = "CPU used by this measurement and by everything else. Above 75 % of the usable "
                   "cores the run is host limited, and no evidence for a knee. Switches and "
                   "migrations: how often a thread left its CPU, and went to another one",
     .formula = "CPU seconds / s; switches: /proc/PID/task/TID/status and sched",
     .columns = "runs.csv:host_cores_used,others_cores_used,host_limited "
                "points.csv:host_cores_used,others_cores_used "
                "stages.csv:ctx_switches_per_s,migrations_per_s"},
    {.name = "cpu_pressure",
     .also = "psi pressure",
     .unit = "",
     .definition = "runs on servers of others: share of the window in which somebody on this host "
                   "was ready to run and waited for a CPU",
     .formula = "growth of total= in /proc/pressure/cpu / window",
     .columns = "runs.csv:cpu_pressure_frac"},
    {.name = "compat",
     .also = "vllm guidellm aiperf mlperf sglang",
     .unit = "",
     .definition = "the same requests as another load tool would have printed them, with its own "
                   "percentiles (harness run --compat)",
     .formula = "harness/analysis/compat.h",
     .columns = "runs.csv:vllm_*,guidellm_*,aiperf_*,mlperf_*,sglang_*"},
};

enum {
    METRICS_COUNT = sizeof metrics / sizeof metrics[0]
};

size_t metric_text_count(void)
{
    return METRICS_COUNT;
}

const struct metric_text *metric_text_at(size_t index)
{
    return &metrics[index];
}

const char *metric_other_name(enum metric_other other)
{
    static const char *const names[] = {"vLLM",           "GuideLLM", "AIPerf",
                                        "inference-perf", "MLPerf",   "SGLang"};
    return names[other];
}

const char *metric_letters(void)
{
    return "s scheduled, a sent, c1 / L first / last event with choices, f / l first / last event "
           "with content, d [DONE] or end of body, n output tokens";
}

static bool is_word(const char *words, const char *word)
{
    size_t bytes = strlen(word);
    for (const char *at = words; at != NULL && *at != '\0'; at += strcspn(at, " ")) {
        at += *at == ' ';
        if (strncmp(at, word, bytes) == 0 && (at[bytes] == ' ' || at[bytes] == '\0')) {
            return true;
        }
    }
    return false;
}

/* Length of the longest pattern that the column fits: the more of it is literal, the closer it
 * is. 0: none. */
static size_t column_fit(const char *columns, const char *column)
{
    char pattern[NAME_BYTES];
    size_t best = 0;
    for (const char *at = columns; at != NULL && *at != '\0';) {
        size_t bytes = strcspn(at, " ,:");
        bool is_file = at[bytes] == ':';
        if (!is_file && bytes < sizeof pattern) {
            memcpy(pattern, at, bytes);
            pattern[bytes] = '\0';
            best = bytes > best && fnmatch(pattern, column, 0) == 0 ? bytes : best;
        }
        at += bytes + (at[bytes] != '\0');
    }
    return best;
}

/* As names are spelt in the table. */
static void normalize(const char *name, char out[NAME_BYTES])
{
    static const char from[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ -";
    static const char to[] = "abcdefghijklmnopqrstuvwxyz__";
    size_t i = 0;
    for (; name[i] != '\0' && i + 1 < NAME_BYTES; i++) {
        const char *at = strchr(from, name[i]);
        const char *folded = at != NULL ? &to[at - from] : &name[i];
        out[i] = *folded;
    }
    out[i] = '\0';
}

const struct metric_text *metric_text_find(const char *name)
{
    char word[NAME_BYTES];
    const struct metric_text *best = NULL;
    size_t best_fit = 0;
    normalize(name, word);
    for (size_t i = 0; i < METRICS_COUNT; i++) {
        if (strcmp(metrics[i].name, word) == 0 || is_word(metrics[i].also, word)) {
            return &metrics[i];
        }
        size_t fit = column_fit(metrics[i].columns, word);
        if (fit > best_fit) {
            best_fit = fit;
            best = &metrics[i];
        }
    }
    return best;
}
