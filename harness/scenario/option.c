/*
 * option.c - owns the table of all sections and keys. Read by the parser, `harness keys` and
 * `harness expand`. Pure data and look-ups: a new key is a new row.
 */
#include "harness/scenario/option.h"

#include <stdio.h>
#include <string.h>

#include "harness/scenario/nearest.h"

#define SECOND_NS ((int64_t)1000000000)
#define DAY_NS    (86400 * SECOND_NS)

struct option_formats {
    uint32_t format;
};

/* The start of a row: kind, key, type and where the value goes. */
#define AT(type_, kind_, key_, struct_, field_)                                           \
    .type = (type_), .kind = (kind_), .key = (key_), .offset = offsetof(struct_, field_), \
    .bytes = sizeof(((struct_ *)NULL)->field_)

static const struct option_kind kinds[] = {
    {"scenario", false, false, sizeof(struct scenario_general),
     "what the scenario is and how often it runs"},
    {"server", true, true, sizeof(struct option_server),
     "a serving system, started and stopped for each run"},
    {"client", false, true, sizeof(struct scenario_client),
     "the load client and when its own load spoils a point"},
    {"simulation", false, true, sizeof(struct scenario_simulation),
     "what runs in virtual time take the host for"},
    {"workload", true, true, sizeof(struct scenario_workload), "what the requests look like"},
    {"load", true, true, sizeof(struct scenario_load),
     "when requests are sent, and what is measured"},
    {"slo", true, false, sizeof(struct scenario_slo), "limits that a request must keep"},
    {"sweep", false, false, sizeof(struct option_sweep),
     "axes: one cell for each combination of their values"},
    {"find", false, false, sizeof(struct scenario_find),
     "rates to search for in each cell, instead of running it once for each repeat"},
    {"probe", false, false, sizeof(struct scenario_probe),
     "stages to slow on purpose after all runs, to see whether they limit"},
    {"scaling", false, false, sizeof(struct scenario_scaling),
     "along which axis extra cores are judged"},
    {"plots", false, false, sizeof(struct option_formats), "figures"},
    {"report", false, false, sizeof(struct scenario_report),
     "the written report, and the demand that it plans for"},
};

static const struct option options[] = {
    {AT(OPTION_NAME, "scenario", "name", struct scenario_general, name), .required = true,
     .help = "name of the scenario, used for the results folder"},
    {AT(OPTION_COUNT, "scenario", "schema", struct scenario_general, schema), .min = 1,
     .max = 1000000, .initial = "1", .help = "version of this format"},
    {AT(OPTION_TEXT, "scenario", "question", struct scenario_general, question),
     .help = "the question that the scenario answers, in one line"},
    {AT(OPTION_SEED, "scenario", "seed", struct scenario_general, seed), .initial = "1",
     .help = "seed of everything random; replicate r uses seed + r"},
    {AT(OPTION_COUNT, "scenario", "repeats", struct scenario_general, repeats_count), .min = 1,
     .max = 1000, .initial = "5", .help = "replicates of each cell"},
    {AT(OPTION_CHOICE, "scenario", "order", struct scenario_general, order),
     .choices = "interleaved|shuffled|sequential", .initial = "interleaved",
     .help =
         "interleaved: all cells once, then again; sequential: all replicates of a cell in a row"},
    {AT(OPTION_CHOICE, "scenario", "mode", struct scenario_general, mode),
     .choices = "measure|simulate|both", .initial = "measure",
     .help =
         "measure: on real processes; simulate: in virtual time; both: all runs simulated, then "
         "all measured, and the report compares them"},
    {AT(OPTION_TIME, "scenario", "cooldown", struct scenario_general, cooldown_ns), .max = DAY_NS,
     .initial = "2s", .help = "pause after each run"},
    {AT(OPTION_TIME, "scenario", "budget", struct scenario_general, budget_ns), .max = 30 * DAY_NS,
     .initial = "0s",
     .help = "no run is started past this, the rest is listed as skipped; 0s: none"},

    {AT(OPTION_TOPOLOGY, "server", "topology", struct option_server, topology),
     .initial = "api_servers=1 dp=1 tp=1 pp=1",
     .help = "api_servers=A dp=D tp=T pp=P: API servers, engine cores, tensor- and "
             "pipeline-parallel workers of each"},
    {AT(OPTION_COUNT, "server", "nodes", struct option_server, topology.nodes_count), .min = 1,
     .max = TOPOLOGY_NODES_MAX, .initial = "1",
     .help = "machines stood in for by loopback addresses, each with a launcher and an equal share "
             "of the engine cores; topology counts all nodes"},
    {AT(OPTION_CHOICE, "server", "balancing", struct option_server, topology.balancing),
     .choices = "internal|hybrid|independent", .initial = "internal",
     .help = "who chooses the engine core: the API servers of the first node among all; those of "
             "each node among its own; or nodes that know nothing of each other (replicas)"},
    {AT(OPTION_DEVICE, "server", "device", struct option_server, topology),
     .initial = "emulated gpu=h100 model=llama-3.1-8b",
     .help = "emulated gpu=NAME model=NAME: the GPU stood in for and the model whose shape sets "
             "the times"},
    {AT(OPTION_PINS, "server", "pin", struct option_server, pins), .initial = "auto",
     .help = "CPUs of processes, as system:0-3 api:0,1 engine:2-3 worker:3 coordinator:0 client:4; "
             "workers follow their engine core, all others system; auto: as cores says"},
    {AT(OPTION_COUNT, "server", "cores", struct option_server, cores_count),
     .max = TOPOLOGY_CPUS_MAX, .initial = "0",
     .help = "CPUs of the whole serving system, the first of this machine, the load client on the "
             "others if there are any; 0: all CPUs for everybody"},
    {AT(OPTION_LAUNCH, "server", "launch", struct option_server, topology.launch),
     .choices = "graph|eager", .initial = "graph",
     .help = "graph: one launch a step; eager: one launch a kernel. A command line, which has a "
             "blank or a '/', is a server of others that is started for each run"},
    {AT(OPTION_WORD, "server", "host_profile", struct option_server, topology.host.name),
     .choices = "native|vllm-python", .initial = "native",
     .help = "added service times of the host: none, or those published for a Python front end"},
    {AT(OPTION_COUNT, "server", "async_depth", struct option_server, topology.async_depth),
     .min = 1, .max = 2, .initial = "2",
     .help = "batches in flight in an engine core; 2 is asynchronous scheduling"},
    {AT(OPTION_CHOICE, "server", "wait", struct option_server, wait), .choices = "block|spin|auto",
     .initial = "auto",
     .help =
         "how engine cores and workers wait; auto spins if there are enough CPUs for all of them"},
    {AT(OPTION_CHOICE, "server", "executor", struct option_server, topology.executor),
     .choices = "auto|uniproc|multiproc", .initial = "auto",
     .help = "worker on the engine core's own thread, or in processes of their own; auto: as vLLM"},
    {AT(OPTION_CHOICE, "server", "accept", struct option_server, topology.accept),
     .choices = "shared|reuseport", .initial = "shared",
     .help = "one accept queue for all API servers, or one each (SO_REUSEPORT)"},
    {AT(OPTION_COUNT, "server", "max_num_seqs", struct option_server, topology.max_num_seqs),
     .min = 1, .max = 65536, .initial = "256",
     .help = "sequences that an engine core runs at once"},
    {AT(OPTION_COUNT, "server", "max_num_batched_tokens", struct option_server,
        topology.max_num_batched_tokens),
     .min = 1, .max = 1 << 20, .initial = "8192", .help = "tokens of one step of an engine core"},
    {AT(OPTION_COUNT, "server", "max_model_len", struct option_server, topology.max_model_len),
     .min = 2, .max = 1 << 20, .initial = "8192",
     .help = "tokens of prompt and output of one request"},
    {AT(OPTION_COUNT, "server", "block_tokens", struct option_server, topology.block_tokens),
     .min = 1, .max = 1024, .initial = "16", .help = "tokens of a KV cache block"},
    {AT(OPTION_COUNT, "server", "num_gpu_blocks", struct option_server, topology.num_gpu_blocks),
     .max = 1 << 24, .initial = "0",
     .help = "KV cache blocks of an engine core; 0: what fits in 90 % of the GPU's memory"},
    {AT(OPTION_SWITCH, "server", "prefix_caching", struct option_server, topology.prefix_caching),
     .initial = "yes", .help = "reuse the KV cache of equal prompt starts"},
    {AT(OPTION_SWITCH, "server", "chunked_prefill", struct option_server, topology.chunked_prefill),
     .initial = "yes", .help = "compute long prompts in pieces beside running sequences"},
    {AT(OPTION_CHOICE, "server", "policy", struct option_server, topology.priority_policy),
     .choices = "fcfs|priority", .initial = "fcfs",
     .help = "which waiting request is admitted first"},
    {AT(OPTION_COUNT, "server", "long_prefill_token_threshold", struct option_server,
        topology.long_prefill_token_threshold),
     .max = 1 << 20, .initial = "0",
     .help = "prompt tokens of one request in one step; 0: no limit of its own"},
    {AT(OPTION_TIME, "server", "publish_interval", struct option_server,
        topology.publish_interval_ns),
     .min = 100000, .max = 60 * SECOND_NS, .initial = "100ms",
     .help = "how often the coordinator publishes the engine cores' request counts"},
    {AT(OPTION_TIME, "server", "heartbeat_interval", struct option_server,
        topology.heartbeat_interval_ns),
     .min = 100000, .max = 60 * SECOND_NS, .initial = "5s",
     .help =
         "how often the coordinator publishes when no count changed; at least publish_interval"},
    {AT(OPTION_BOOL, "server", "publish", struct option_server, publish), .initial = "yes",
     .help = "engine cores tell the coordinator their request counts; no: API servers know only "
             "their own requests, as in vLLM before dense ranks published"},
    {AT(OPTION_CHOICE, "server", "router", struct option_server, topology.router_rule),
     .choices = "score|weighted_sum|round_robin|rust|weighted_sum_fixed_start", .initial = "score",
     .help = "how an API server chooses the engine core of a request; score: vLLM's since 2026-07, "
             "weighted_sum: before, weighted_sum_fixed_start: before ties rotated, rust: the Rust "
             "front end's"},
    {AT(OPTION_TIME, "server", "launch_extra", struct option_server, topology.launch_extra_ns),
     .max = SECOND_NS, .initial = "0us", .help = "CPU time added to each launch, for experiments"},
    {AT(OPTION_COUNT, "server", "queue_depth", struct option_server, topology.queue_depth),
     .min = 1, .max = 1 << 20, .initial = "1024",
     .help = "launches that a device queue holds before the launcher must wait"},
    {AT(OPTION_BOOL, "server", "lockstep", struct option_server, lockstep), .initial = "no",
     .help =
         "engine cores step together, as mixture-of-experts models need; without effect at dp=1"},
    {AT(OPTION_COUNT, "server", "finish_check", struct option_server, topology.finish_check_steps),
     .min = 1, .max = 1024, .initial = "32",
     .help = "lock-step: steps between two looks whether all ranks have finished; older vLLM: 16"},
    {AT(OPTION_BOOL, "server", "finish_check_first", struct option_server, finish_check_first),
     .initial = "no", .help = "lock-step: look at the first step of a wave too"},
    {AT(OPTION_BOOL, "server", "dummy_graph", struct option_server, dummy_graph), .initial = "yes",
     .help = "lock-step: ranks without work step with a graph too; no: then nobody uses one"},
    {AT(OPTION_TIME, "server", "collective_timeout", struct option_server,
        topology.collective_timeout_ns),
     .min = 1000000, .max = 3600 * SECOND_NS, .initial = "10s",
     .help = "lock-step: how long ranks wait for one that does not come"},
    {AT(OPTION_CHOICE, "server", "gpu_sharing", struct option_server, topology.gpu_sharing),
     .choices = "own|time_sliced|side_by_side", .initial = "own",
     .help = "GPUs of engine cores: their own, one shared in turns, or one used at the same time"},
    {AT(OPTION_COUNT, "server", "engines_per_gpu", struct option_server, topology.engines_per_gpu),
     .min = 1, .max = 64, .initial = "1", .help = "engine cores that share a GPU"},
    {AT(OPTION_TIME, "server", "engine_step", struct option_server, topology.engine_step_ns),
     .max = SECOND_NS, .initial = "0us",
     .help = "host time of an engine core's step instead of the profile's; 0us: the profile's"},
    {AT(OPTION_SWITCH, "server", "interpreter_lock", struct option_server,
        topology.interpreter_lock),
     .initial = "no",
     .help = "the main, input and output threads of an engine core take turns in host time, as "
             "under Python's interpreter lock"},
    {AT(OPTION_SWITCH, "server", "record", struct option_server, topology.record), .initial = "no",
     .help =
         "write down every call of the processes into their state machines, for harness replay"},
    {AT(OPTION_TIME, "server", "engine_input_request", struct option_server,
        topology.host.engine_input_request_ns),
     .max = SECOND_NS, .initial = "0us",
     .help = "host time of an engine core's input thread for a request; nothing is published"},
    {AT(OPTION_TIME, "server", "engine_output_message", struct option_server,
        topology.host.engine_output_message_ns),
     .max = SECOND_NS, .initial = "0us",
     .help = "host time of an engine core's output thread for a message"},
    {AT(OPTION_TIME, "server", "engine_output_token", struct option_server,
        topology.host.engine_output_token_ns),
     .max = SECOND_NS, .initial = "0us", .help = "and for each token in it"},

    {AT(OPTION_URL, "server", "attach", struct option_server, foreign.attach),
     .help = "http://HOST:PORT of a server of others that runs already and is left alone"},
    {AT(OPTION_URL, "server", "url", struct option_server, foreign.url),
     .help = "with launch = COMMAND: where that server answers; without it http://127.0.0.1:8000"},
    {AT(OPTION_TEXT, "server", "model", struct option_server, foreign.model),
     .help = "of a server of others: the model that is asked for; without it, or auto, the first "
             "of its /v1/models"},
    {AT(OPTION_COUNTERS, "server", "counters", struct option_server, foreign.counters),
     .help = "of a server of others: where it is counted, any of 'prometheus /PAGE every TIME' and "
             "'proc' (its processes on this machine); without it prometheus /metrics every 1s, "
             "proc"},
    {AT(OPTION_TITLE, "server", "stage.api_server", struct option_server,
        foreign.titles[SCENARIO_STAGE_API_SERVER]),
     .help = "title PATTERN of these processes of a server of others, with '*', '?' and [..]; "
             "without it title VLLM::APIServer*"},
    {AT(OPTION_TITLE, "server", "stage.coordinator", struct option_server,
        foreign.titles[SCENARIO_STAGE_COORDINATOR]),
     .help = "the same; without it title VLLM::DPCoordinator*"},
    {AT(OPTION_TITLE, "server", "stage.engine", struct option_server,
        foreign.titles[SCENARIO_STAGE_ENGINE]),
     .help = "the same; without it title VLLM::EngineCore*"},
    {AT(OPTION_TITLE, "server", "stage.worker", struct option_server,
        foreign.titles[SCENARIO_STAGE_WORKER]),
     .help = "the same; without it title VLLM::Worker*"},
    {AT(OPTION_COUNT, "server", "slots", struct option_server, foreign.slots_count), .min = 1,
     .max = 1 << 20,
     .help = "of a server of others: sequences that it runs at once, all engine cores together; "
             "[find] and first_outputs = residual need it"},
    {AT(OPTION_TIME, "server", "start_timeout", struct option_server, foreign.start_timeout_ns),
     .min = SECOND_NS, .max = DAY_NS,
     .help = "with launch = COMMAND: how long that server may take until it answers; without it "
             "10min"},

    {AT(OPTION_BOOL, "client", "balance", struct scenario_client, balance), .initial = "yes",
     .help = "spread requests equally over the API servers, and check that it worked"},
    {AT(OPTION_PERCENT, "client", "max_cpu", struct scenario_client, max_cpu_frac), .min = 1,
     .max = 100, .initial = "70%",
     .help = "CPU use of a client thread beyond which a point is invalid"},
    {AT(OPTION_QUANTILE_TIME, "client", "max_lag", struct scenario_client, max_lag),
     .initial = "p99 5ms", .help = "send time behind schedule beyond which a point is invalid"},
    {AT(OPTION_CHOICE, "client", "ceiling", struct scenario_client, ceiling),
     .choices = "off|measure", .initial = "off",
     .help = "measure: find the client's own limit against a null server first"},
    {AT(OPTION_PERCENT, "client", "max_ceiling", struct scenario_client, max_ceiling_frac),
     .min = 1, .max = 100, .initial = "50%",
     .help = "ceiling = measure: share of that limit beyond which a point is invalid"},

    {.type = OPTION_COSTS,
     .kind = "simulation",
     .key = "costs",
     .choices = "default|none",
     .initial = "default",
     .bytes = sizeof(struct scenario_simulation),
     .help = "CPU times of the processes' own work and of messages between them: as they were "
             "measured; none: only the host profile, launches and GPUs take time; FILE.ini: what "
             "`harness calibrate` wrote, from this file's folder"},
    {AT(OPTION_COUNT, "simulation", "cores", struct scenario_simulation, cores_count), .max = 1024,
     .initial = "0",
     .help = "CPU cores that all threads share; 0: one each; $ncpus: as many as here"},
    {AT(OPTION_BOOL, "simulation", "free_client", struct scenario_simulation, free_client),
     .initial = "no",
     .help =
         "whether the load client takes no time: for systems that a client of one thread, as the "
         "real one is, could not load"},

    {.type = OPTION_SOURCE,
     .kind = "workload",
     .key = "source",
     .choices = "synthetic|trace|jsonl",
     .initial = "synthetic",
     .bytes = sizeof(struct scenario_workload),
     .help = "lengths drawn here, taken from a trace (trace FILE: Azure CSV or Mooncake JSON "
             "lines), or requests with their prompts (jsonl FILE)"},
    {AT(OPTION_TEXT, "workload", "trace", struct scenario_workload, trace),
     .help = "path of the trace, from the working directory, if it does not stand in source"},
    {AT(OPTION_NUMBER, "workload", "time_scale", struct scenario_workload, time_scale), .min = 0,
     .max = 1000000, .initial = "1", .help = "the trace's times are divided by this"},
    {AT(OPTION_COUNT, "workload", "requests", struct scenario_workload, requests_count),
     .max = 1 << 30, .initial = "0", .help = "requests of the trace, from its start; 0: all"},
    {AT(OPTION_LENGTHS, "workload", "prompt", struct scenario_workload, prompt), .min = 1,
     .max = 1 << 20, .initial = "128tok",
     .help = "128tok, uniform lo=.. hi=.., or lognormal mean=.. sd=.. min=.. max=.."},
    {AT(OPTION_LENGTHS, "workload", "output", struct scenario_workload, output), .min = 1,
     .max = 1 << 20, .initial = "128tok", .help = "as prompt"},
    {AT(OPTION_PERCENT, "workload", "shared_prefix", struct scenario_workload, shared_prefix_frac),
     .max = 100, .initial = "0%", .help = "share of each prompt that all requests have in common"},
    {AT(OPTION_BOOL, "workload", "stream", struct scenario_workload, stream), .initial = "yes",
     .help = "responses as server-sent events"},
    {AT(OPTION_BOOL, "workload", "ignore_eos", struct scenario_workload, ignore_eos),
     .initial = "yes", .help = "exactly as many output tokens as asked for"},
    {AT(OPTION_NUMBER, "workload", "temperature", struct scenario_workload, temperature), .min = 0,
     .max = 2, .initial = "0", .help = "sampling temperature sent with each request"},

    {AT(OPTION_CHOICE, "load", "mode", struct scenario_load, mode), .choices = "closed|open|trace",
     .initial = "closed",
     .help = "closed: users that wait for their answer; open: arrivals at a rate; trace: its own "
             "times"},
    {AT(OPTION_COUNT, "load", "users", struct scenario_load, users_count),
     .max = SCENARIO_INFLIGHT_MAX, .initial = "0",
     .help = "closed: requests kept in flight; arithmetic over axes, as 2 * %{dp} * 40"},
    {AT(OPTION_TIME, "load", "think", struct scenario_load, think_mean_ns), .max = DAY_NS,
     .initial = "0s",
     .help = "closed: mean of the exponential time from an answer to the user's next request"},
    {AT(OPTION_COUNT, "load", "turns", struct scenario_load, turns_count), .min = 1, .max = 1000,
     .initial = "1",
     .help = "closed: requests of a session, each prompt an extension of the one before"},
    {AT(OPTION_ARRIVAL, "load", "arrival", struct scenario_load, arrival), .initial = "poisson",
     .help = "open: poisson, constant, gamma cv=2, or bursts of=32 every=2s"},
    {AT(OPTION_RATE, "load", "rate", struct scenario_load, rate_per_s), .max = 10000000,
     .initial = "0/s", .help = "open: mean arrivals"},
    {AT(OPTION_TIME, "load", "warmup", struct scenario_load, warmup_ns), .choices = "auto",
     .max = DAY_NS, .initial = "0s",
     .help = "load before the window; auto: until requests in flight and tokens/s have settled"},
    {AT(OPTION_TIME, "load", "warmup_max", struct scenario_load, warmup_max_ns),
     .min = 5 * SECOND_NS, .max = 600 * SECOND_NS, .initial = "60s",
     .help = "what warmup = auto takes at most"},
    {AT(OPTION_TIME, "load", "measure", struct scenario_load, measure_ns), .choices = "all",
     .min = 1000000, .max = 30 * DAY_NS, .initial = "60s",
     .help = "the window; all: to the end of the trace"},
    {AT(OPTION_COUNT, "load", "measure_min_cycles", struct scenario_load, measure_min_cycles_count),
     .max = 1000, .initial = "0",
     .help = "open: mean request times that the window must have; a shorter one is made up to 16 "
             "times as long; 0: any"},
    {AT(OPTION_COUNT, "load", "batches", struct scenario_load, batches_count), .min = 2,
     .max = 1000, .initial = "20", .help = "parts of the window for batch means"},
    {AT(OPTION_TIME, "load", "drain", struct scenario_load, drain_ns), .max = DAY_NS,
     .initial = "30s", .help = "open and trace: time for the last requests to finish"},
    {AT(OPTION_COUNT, "load", "inflight_max", struct scenario_load, inflight_max_count), .min = 1,
     .max = SCENARIO_INFLIGHT_MAX, .initial = "8192",
     .help = "requests in flight beyond which on_inflight_max says what happens"},
    {AT(OPTION_CHOICE, "load", "on_inflight_max", struct scenario_load, on_inflight_max),
     .choices = "invalid|drop|wait", .initial = "invalid",
     .help =
         "open and trace: invalid: arrivals wait, and a point where they get too late (max_lag) "
         "is invalid; drop: they fail; wait: they are sent later, which lag shows"},
    {AT(OPTION_CHOICE, "load", "first_outputs", struct scenario_load, first_outputs),
     .choices = "plain|residual", .initial = "plain",
     .help = "residual: first outputs of closed-loop users drawn so that the run starts in steady "
             "state"},

    {AT(OPTION_TIME, "slo", "ttft_p99_max", struct scenario_slo, ttft_p99_max_ns), .max = DAY_NS,
     .initial = "0s", .help = "time to the first token; 0s: no limit"},
    {AT(OPTION_TIME, "slo", "tpot_p95_max", struct scenario_slo, tpot_p95_max_ns), .max = DAY_NS,
     .initial = "0s", .help = "time per output token; 0s: no limit"},
    {AT(OPTION_PERCENT, "slo", "error_max", struct scenario_slo, error_max_frac), .max = 100,
     .initial = "0.1%", .help = "failed requests"},
    {AT(OPTION_CHOICE, "slo", "clock", struct scenario_slo, sent_clock),
     .choices = "scheduled|sent", .initial = "scheduled",
     .help = "where the time to the first token starts"},

    {.type = OPTION_LIST,
     .kind = "sweep",
     .key = "axis.*",
     .help = "values of an axis: 1,2,4  1..8  1..8*2  10..100+10  word,word; used as %{NAME}. Axes "
             "named server, "
             "workload, load and slo choose sections"},
    {AT(OPTION_TEXT, "sweep", "combine", struct option_sweep, combine), .initial = "cross",
     .help = "cross: all combinations; zip: first with first, second with second; link a:b: these "
             "axes as zip does, all combinations with the others"},
    {AT(OPTION_CONDITION, "sweep", "skip", struct option_sweep, skip),
     .help = "cells to leave out: comparisons of axes, as api_servers > 2*dp"},
    {AT(OPTION_NAME, "sweep", "server", struct option_sweep, server),
     .help = "the [server] of all cells, when there are several"},
    {AT(OPTION_NAME, "sweep", "workload", struct option_sweep, workload),
     .help = "the [workload] of all cells, when there are several"},
    {AT(OPTION_NAME, "sweep", "load", struct option_sweep, load),
     .help = "the [load] of all cells, when there are several"},
    {AT(OPTION_NAME, "sweep", "slo", struct option_sweep, slo),
     .help = "the [slo] of all cells, when there are several; without it that of [find]"},

    {AT(OPTION_SET, "find", "what", struct scenario_find, what),
     .choices = "capacity|stable_rate|slo_rate|knee",
     .help = "any of capacity (throughput with a backlog), stable_rate (the greatest rate at which "
             "the backlog does not grow), slo_rate (the greatest within the limits of slo), knee "
             "(where latency bends)"},
    {AT(OPTION_NAME, "find", "slo", struct scenario_find, slo),
     .help = "the [slo] of slo_rate, when there are several"},
    {AT(OPTION_PERCENT, "find", "start", struct scenario_find, start_frac), .min = 1, .max = 150,
     .initial = "50%", .help = "first rate, of the measured capacity"},
    {AT(OPTION_PERCENT, "find", "tolerance", struct scenario_find, tolerance_frac), .min = 1,
     .max = 50, .initial = "5%",
     .help = "the search ends when the rate that fails is at most this above the one that passes"},
    {AT(OPTION_PERCENT, "find", "confidence", struct scenario_find, confidence), .min = 50,
     .max = 99, .initial = "95%", .help = "of the limits' test and of the intervals"},
    {AT(OPTION_COUNT, "find", "points_max", struct scenario_find, points_max), .min = 2, .max = 64,
     .initial = "12",
     .help = "rates that each search tries at most, without its replicates ([scenario] repeats)"},

    {AT(OPTION_ELASTICITY, "probe", "elasticity", struct scenario_probe, elasticity),
     .choices = SCENARIO_PROBE_STAGES,
     .help = "stages that are slowed, one at a time, to see what throughput loses: top2 by=10%, or "
             "names of stages, as api_server, gpu by=10%"},
    {AT(OPTION_COUNT, "probe", "pairs", struct scenario_probe, pairs_count), .min = 2, .max = 32,
     .initial = "3", .help = "runs with and without each stage slowed, of the same seeds"},
    {AT(OPTION_TEXT, "probe", "cell", struct scenario_probe, cell),
     .help = "the cell that is probed, by its name, as api_servers=1,dp=4; without it the one that "
             "decides the first curve, or has the greatest throughput"},

    {AT(OPTION_NAME, "scaling", "along", struct scenario_scaling, along),
     .help = "axis along which throughput should grow; one curve for each value of the others"},
    {AT(OPTION_PERCENT, "scaling", "useful_gain", struct scenario_scaling, useful_gain_frac),
     .min = 1, .max = 100, .initial = "20%",
     .help = "gain of the first core's worth below which a core does not help"},
    {AT(OPTION_SET, "scaling", "models", struct scenario_scaling, laws),
     .choices = "linear|contention|usl|plateau|contention+plateau",
     .initial = "linear,contention,usl,plateau,contention+plateau",
     .help = "laws of scaling that are fitted and weighed against each other"},

    {AT(OPTION_SET, "plots", "format", struct option_formats, format), .choices = "svg|png|dumb",
     .initial = "svg", .help = "any of svg, png, dumb (text)"},
    {AT(OPTION_SET, "report", "format", struct scenario_report, formats), .choices = "md|html",
     .initial = "md", .help = "any of md, html"},
    {AT(OPTION_PRICE, "report", "price", struct scenario_report, price_per_gpu_hour),
     .max = 1000000, .help = "what a GPU costs, as 2.50 per gpu-hour, in any currency"},
    {AT(OPTION_DEMAND, "report", "demand", struct scenario_report, demand),
     .help =
         "requests that a service must take, as 120/s peak, 35/s mean: the report says how many "
         "systems that takes"},
};

/* The names of engine/device's table, which this room may not include. */
static const char *const gpus[] = {"h100",         "h200",     "a100", "l40s",
                                   "rtx-pro-6000", "rtx-4090", "b200"};

const struct option *option_at(uint32_t index)
{
    return index < sizeof options / sizeof options[0] ? &options[index] : NULL;
}

const struct option_kind *option_kind_at(uint32_t index)
{
    return index < sizeof kinds / sizeof kinds[0] ? &kinds[index] : NULL;
}

const char *option_gpu_at(uint32_t index)
{
    return index < sizeof gpus / sizeof gpus[0] ? gpus[index] : NULL;
}

bool option_is_wildcard(const struct option *option)
{
    return option->key[strlen(option->key) - 1] == '*';
}

bool option_is_foreign(const char *key)
{
    static const char *const keys[] = {"launch",   "attach", "url",          "model",
                                       "counters", "slots",  "start_timeout"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return strncmp(key, "stage.", 6) == 0;
}

bool option_is_command(const char *text)
{
    return strpbrk(text, " \t/") != NULL;
}

static bool matches(const struct option *option, const char *key)
{
    if (!option_is_wildcard(option)) {
        return strcmp(option->key, key) == 0;
    }
    size_t bytes = strlen(option->key) - 1;
    return strncmp(option->key, key, bytes) == 0 && key[bytes] != '\0';
}

const struct option *option_find(const char *kind, const char *key)
{
    for (uint32_t i = 0; option_at(i) != NULL; i++) {
        if (strcmp(options[i].kind, kind) == 0 && matches(&options[i], key)) {
            return &options[i];
        }
    }
    return NULL;
}

const struct option_kind *option_kind_find(const char *name)
{
    for (uint32_t i = 0; option_kind_at(i) != NULL; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

const char *option_key_hint(const char *kind, const char *key, char *out, size_t cap)
{
    struct nearest nearest = {.word = key};
    for (uint32_t i = 0; option_at(i) != NULL; i++) {
        if (strcmp(options[i].kind, kind) == 0) {
            nearest_offer(&nearest, options[i].key);
        }
    }
    return nearest_hint(&nearest, out, cap);
}

const char *option_kind_hint(const char *name, char *out, size_t cap)
{
    struct nearest nearest = {.word = name};
    for (uint32_t i = 0; option_kind_at(i) != NULL; i++) {
        nearest_offer(&nearest, kinds[i].name);
    }
    nearest_offer(&nearest, "defaults");
    nearest_offer(&nearest, "quick");
    return nearest_hint(&nearest, out, cap);
}

const char *option_pin_name(uint32_t index)
{
    return index == OPTION_PIN_CLIENT ? "client" : topology_pin_name((enum topology_pin)index);
}

const char *option_type_text(enum option_type type)
{
    static const char *const texts[] = {
        [OPTION_TEXT] = "text",
        [OPTION_COUNT] = "count",
        [OPTION_SEED] = "count",
        [OPTION_NUMBER] = "number",
        [OPTION_TIME] = "time",
        [OPTION_RATE] = "rate",
        [OPTION_PERCENT] = "percent",
        [OPTION_BOOL] = "yes or no",
        [OPTION_SWITCH] = "yes or no",
        [OPTION_CHOICE] = "one of",
        [OPTION_WORD] = "one of",
        [OPTION_SET] = "any of",
        [OPTION_SOURCE] = "one of",
        [OPTION_PRICE] = "price",
        [OPTION_DEMAND] = "rates",
        [OPTION_LENGTHS] = "tokens",
        [OPTION_ARRIVAL] = "arrivals",
        [OPTION_QUANTILE_TIME] = "quantile and time",
        [OPTION_TOPOLOGY] = "topology",
        [OPTION_DEVICE] = "device",
        [OPTION_PINS] = "CPUs",
        [OPTION_LAUNCH] = "a command line or",
        [OPTION_URL] = "URL",
        [OPTION_COUNTERS] = "counters",
        [OPTION_TITLE] = "title and pattern",
        [OPTION_ELASTICITY] = "stages and slow-down",
        [OPTION_COSTS] = "a calibration file or",
        [OPTION_LIST] = "list",
        [OPTION_CONDITION] = "condition",
        [OPTION_NAME] = "name",
    };
    return texts[type];
}
