/*
 * simulation.h - a whole serving system under a virtual clock: client, API servers, coordinator,
 * engine cores with their threads, workers and GPUs. Every decision is made by the objects of
 * engine/core, the same object code that the real processes drive; this room owns only what the
 * operating system, the sockets and the device do in reality: when a thread runs, how long its work
 * takes, when a message arrives, when a GPU is done (law 1; docs/simulator.md).
 *
 *     TRY(simulation_create(&options, &source, &observer, &sim, error));
 *     TRY(simulation_run(sim, warmup, error));       // counters before ...
 *     before = copy of simulation_threads(sim, &count);
 *     TRY(simulation_run(sim, warmup + window, error)); // ... and after
 *     simulation_destroy(sim);
 *
 * One thread, no clock, no I/O. The result depends on the options and on what the source gives
 * alone: equal input gives the same event log to the byte on every machine and with every compiler.
 * After creation memory grows only with what is in flight.
 */
#ifndef SIM_SIMULATION_H
#define SIM_SIMULATION_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/time.h"
#include "engine/core/engine_core.h"
#include "engine/core/router.h"
#include "engine/device/cost.h"
#include "engine/model/host_profile.h"
#include "engine/model/shapes.h"

enum {
    SIMULATION_API_SERVERS_MAX = 64,
    SIMULATION_ENGINES_MAX = 4096,
    SIMULATION_TP_MAX = 16,
    SIMULATION_PP_MAX = 8,
    SIMULATION_CORES_MAX = 1024,
    SIMULATION_GRAPH_SEQS_MAX = 512, /* as EMULATED_GRAPH_SEQS_MAX of engine/device/emulated.h */
};

/*
 * CPU time of one piece of work: call + item x items + token x tokens. Bytes have no term of their
 * own: those of every message here are linear in its items and tokens, so nothing could tell the
 * two apart.
 */
struct simulation_cost {
    time_ps call;
    time_ps item;
    time_ps token;
};

/* What the real machine and the native C code take. What a host profile adds is apart from this. */
struct simulation_costs {
    /* client (one thread) */
    struct simulation_cost client_request; /* a request is sent; tokens: rendered after that */
    struct simulation_cost client_read;    /* a read of a connection; items: events, tokens */
    /* API server */
    struct simulation_cost api_request; /* HTTP to ADD; tokens: of the prompt */
    struct simulation_cost api_message; /* an engine core's message; items: outputs in it */
    struct simulation_cost api_output;  /* a delta becomes an event; tokens in it */
    struct simulation_cost api_write;   /* a connection's write, system call included */
    struct simulation_cost api_state;   /* the coordinator's message */
    /* coordinator */
    struct simulation_cost coordinator_message;
    struct simulation_cost coordinator_publish; /* items: receivers */
    /* engine core */
    struct simulation_cost engine_input;  /* input thread, a message; tokens: of the prompt */
    struct simulation_cost engine_add;    /* main thread, an ADD; tokens: of the prompt */
    struct simulation_cost engine_step;   /* main thread: plan and submit; items: sequences */
    struct simulation_cost engine_commit; /* main thread: a result taken in; items: outputs */
    struct simulation_cost engine_output; /* output thread, a message; items: outputs */
    /* worker; without workers of their own the engine core's main thread pays those two */
    struct simulation_cost worker_plan;   /* besides launches; items: sequences */
    struct simulation_cost worker_result; /* wait, answer; items: tokens sampled */
    /* threads */
    time_ps wake;           /* a blocked thread runs so long after what woke it */
    time_ps wake_cpu;       /* CPU time of blocking and of being woken */
    time_ps sleep_late;     /* a timed sleep ends so late */
    time_ps sleep_cpu;      /* CPU time of a timed sleep */
    time_ps poll;           /* a spinning thread sees what it waits for so late */
    time_ps context_switch; /* CPU time when a core changes to another thread */
    /* links: from the sender's last instruction to readable at the receiver */
    time_ps tcp;        /* client - API server */
    time_ps ipc;        /* ZeroMQ between processes, its I/O threads included */
    time_ps ring;       /* shared memory between engine core and worker */
    time_ps collective; /* from the last rank's arrival to the result at all */
};

/* Measured on the 2-core machine that docs/simulator.md names; sources beside each number. */
struct simulation_costs simulation_costs_default(void);
/* All zero: only the host profile, launches and GPUs take time. */
struct simulation_costs simulation_costs_none(void);

/* Host costs that no profile has (as struct topology_host of engine/ledger/topology.h). */
struct simulation_extra_costs {
    time_ps engine_input_request;
    time_ps engine_output_message;
    time_ps engine_output_token;
};

/*
 * How much is gone through step by step. Levels give the same requests the same times, and threads
 * the same work, to the picosecond; what a level does not do one by one it does not count one by
 * one: events, turns, and messages and writes behind the engine cores.
 */
enum simulation_level {
    SIMULATION_L0, /* every step through the engine core, every token through the API server */
    /*
     * Steps in which an engine core does nothing but decode (engine_core_quiet()) are one event and
     * no message each; a request's tokens of such steps come with its next. For systems in which
     * nothing behind the engine core takes time or a place and nobody looks: no client and API
     * server costs, no output thread's, no wake-ups and late sleeps, a core for each thread, no
     * interpreter lock, no lock-step, no prompts, no observer.read, no witness.
     */
    SIMULATION_L1,
    /*
     * The same, and steps that nobody can tell apart are no events: an engine core is an array of
     * counts (engine/core/tally.h) that is brought up to date when a request comes to it, one of
     * its requests gets its first or its last token, or somebody reads. Besides, wants GPUs that
     * are not shared, whose queue holds all launches of the steps in flight, first come first
     * served, no prefix caching, no long_prefill_token_threshold, and not ROUTER_RUST. Where these
     * hold, L1 goes by counts as well, each step being an event.
     */
    SIMULATION_L2,
};

/* Times that a thread's histograms in the ledger hold (struct ledger_thread), one by one. */
enum simulation_span {
    SIMULATION_SPAN_WAIT,   /* of what it takes in, in front of it */
    SIMULATION_SPAN_STEP,   /* engine core: from submission to completion */
    SIMULATION_SPAN_LAUNCH, /* one kernel or graph, time in a full queue left out */
    SIMULATION_SPAN_GAP,    /* a GPU of its own: idle between two kernels or graphs */
    SIMULATION_SPANS_COUNT
};

/* What happens now and then, as the events of engine/ledger/events.h with these names. */
enum simulation_event_kind {
    SIMULATION_EVENT_PUBLISHED,       /* coordinator: counts changed?, messages since the last */
    SIMULATION_EVENT_START_WAVE_SENT, /* coordinator: wave */
    SIMULATION_EVENT_WAVE_PUBLISHED,  /* coordinator: wave, does it run? */
    SIMULATION_EVENT_FIRST_STATE,     /* API server: wave */
    SIMULATION_EVENT_WAVE_BEGAN,      /* engine core: wave */
    SIMULATION_EVENT_WAVE_ENDED,      /* engine core: wave */
};

/*
 * Who is told of what sums do not say. What one thread does comes in the order of its time;
 * threads may be told of ahead of each other. Both functions are there.
 */
struct simulation_event;
struct simulation_witness {
    void *ctx;
    /* `count` times of the same length, of the thread with this index in simulation_threads(). */
    void (*lasted)(void *ctx, uint32_t thread, enum simulation_span what, time_ps time,
                   uint32_t count);
    void (*happened)(void *ctx, const struct simulation_event *event);
};

enum simulation_gpus {
    SIMULATION_GPU_OWN,
    SIMULATION_GPU_TIME_SLICED,
    SIMULATION_GPU_SIDE_BY_SIDE
};

enum simulation_wait {
    SIMULATION_BLOCK,
    SIMULATION_SPIN
};

/* Zero is a valid value of every field that says so; simulation_options_default() sets the rest. */
struct simulation_options {
    uint32_t api_servers_count; /* A */
    uint32_t engines_count;     /* D */
    uint32_t tp;
    uint32_t pp; /* pipeline stages, each on GPUs of its own */
    /* Workers are processes of their own: always with D x tp x pp > 1 (as vLLM); else as said. */
    bool workers;
    bool uniproc; /* engine cores launch themselves, also with D > 1; excludes `workers`, and more
                     than one of them */

    const struct model_shape *model;
    const struct gpu_shape *gpu;
    enum simulation_gpus gpu_sharing;
    uint32_t engines_per_gpu; /* with sharing, at least 1 */
    uint32_t gpu_slower_ppm;  /* a step takes so much longer */
    uint32_t queue_depth;     /* launches that a GPU's queue holds */
    bool graphs;
    time_ps launch_extra; /* added CPU time of each launch */
    enum simulation_wait wait;

    bool lockstep; /* only with D > 1 */
    uint32_t finish_check_steps;
    bool finish_check_first;
    bool dummy_eager;

    /*
     * As the engine core's own; these are filled in here: engine_index, clients_count,
     * pipeline_stages, wave. num_gpu_blocks 0: what fits beside the weights. requests_max bounds
     * what one engine core, or API server, holds; more is refused.
     */
    struct engine_core_options engine;
    enum router_rule router_rule;
    bool publish_off; /* engine cores tell the coordinator no counts */
    time_ps publish_interval;
    time_ps heartbeat_interval;

    struct host_profile host;
    struct simulation_extra_costs extra;
    bool interpreter_lock; /* an engine core's three threads take turns in host time */
    struct simulation_costs costs;
    uint32_t cores_count; /* modelled CPU cores; 0: as many as there are threads */
    uint64_t seed;
    enum simulation_level level_max;          /* L0 where this one would not be exact */
    const struct simulation_witness *witness; /* NULL: nobody is told */
};

/* A = D = tp = 1, engine core as vLLM's defaults, graphs, depth 2, blocking waits, native host, the
 * default costs, unlimited cores, the highest level; model and gpu are still to be set. */
struct simulation_options simulation_options_default(void);

struct simulation_request {
    uint64_t number; /* unique */
    time_ps at;      /* when the client is to send it */
    uint32_t user;   /* closed loop: whose; else any number. Its API server is user mod A. */
    uint32_t prompt_tokens;
    uint32_t output_tokens; /* at least 1; it ends with these */
    uint64_t prompt_hash;   /* stands for the prompt where source.prompt is NULL: equal hashes are
                               equal prompts, different ones share no block */
};

/* Where requests come from. `next` for an open loop, else `next_of_user`; the other is NULL. */
struct simulation_source {
    void *ctx;
    /* The next request, in order of `at`. False: there is none (for ever). */
    bool (*next)(void *ctx, struct simulation_request *request);
    /* Closed loop: what `user` sends next, its request before having ended at `now` (0 before its
     * first); `at` >= now. False: this user is done. Called for all users at the start. */
    bool (*next_of_user)(void *ctx, uint32_t user, time_ps now, struct simulation_request *request);
    uint32_t users_count; /* of a closed loop */
    /* Writes the prompt's token ids; called when the engine core receives the request. NULL: the
     * prompt's hash stands for it. */
    void (*prompt)(void *ctx, const struct simulation_request *request, uint32_t *token_ids);
};

/* Hops of a request as LEDGER_HOPS of engine/ledger/ledger.h, in the same order. */
#define SIMULATION_HOPS(X)                      \
    X(API_RECEIVED, "api_received")             \
    X(API_SENT, "api_sent")                     \
    X(ENGINE_RECEIVED, "engine_received")       \
    X(ENGINE_SCHEDULED, "engine_scheduled")     \
    X(ENGINE_FIRST_TOKEN, "engine_first_token") \
    X(API_FIRST_OUTPUT, "api_first_output")     \
    X(API_FIRST_WRITE, "api_first_write")       \
    X(ENGINE_LAST_TOKEN, "engine_last_token")   \
    X(API_LAST_OUTPUT, "api_last_output")       \
    X(API_LAST_WRITE, "api_last_write")

enum simulation_hop {
#define X(name, text) SIMULATION_HOP_##name,
    SIMULATION_HOPS(X)
#undef X
    SIMULATION_HOPS_COUNT
};
const char *simulation_hop_name(enum simulation_hop hop);

/* Tokens of one request that the client read at once. */
struct simulation_read {
    uint64_t number;
    time_ps at;
    uint32_t tokens;
    bool first;
    bool last;
};

struct simulation_end {
    const struct simulation_request *request;
    time_ps sent;
    time_ps first;                       /* its first token was read; 0: none was */
    time_ps ended;                       /* its last event was read */
    time_ps hops[SIMULATION_HOPS_COUNT]; /* 0: not reached */
    uint32_t output_tokens;
    uint32_t cached_tokens;
    uint32_t engine;
    uint32_t api_server;
    bool failed; /* refused */
};

/* What the client sees, in order of time. Every function may be NULL. None may look at the
 * simulation: it is called in the middle of what happens at its time. */
struct simulation_observer {
    void *ctx;
    void (*sent)(void *ctx, const struct simulation_request *request, time_ps now);
    void (*read)(void *ctx, const struct simulation_read *read);
    void (*ended)(void *ctx, const struct simulation_end *end);
};

/* X(NAME, "kind"): the names are those of the ledger's kinds, and "client". */
#define SIMULATION_THREAD_KINDS(X)    \
    X(API, "api_server")              \
    X(COORDINATOR, "coordinator")     \
    X(ENGINE_MAIN, "engine_core")     \
    X(ENGINE_INPUT, "engine_input")   \
    X(ENGINE_OUTPUT, "engine_output") \
    X(WORKER, "worker")               \
    X(WORKER_OUTPUT, "worker_output") \
    X(CLIENT, "client")

enum simulation_thread_kind {
#define X(name, text) SIMULATION_THREAD_##name,
    SIMULATION_THREAD_KINDS(X)
#undef X
    SIMULATION_THREAD_KINDS_COUNT
};
const char *simulation_thread_kind_name(enum simulation_thread_kind kind);

struct simulation_event {
    enum simulation_event_kind kind;
    enum simulation_thread_kind by;
    uint32_t instance;
    time_ps at;
    int64_t value[2];
};

enum simulation_launch {
    SIMULATION_LAUNCH_KERNEL,
    SIMULATION_LAUNCH_GRAPH,
    SIMULATION_LAUNCH_COPY,
    SIMULATION_LAUNCH_SYNC,
    SIMULATION_LAUNCHES_COUNT
};

/*
 * What one thread did since the start; each field means what it means in struct ledger_thread, in
 * ps. Work is booked when it begins, so a reading between two runs may contain the rest of the
 * pieces that are being worked on (at most some milliseconds).
 */
struct simulation_thread {
    enum simulation_thread_kind kind;
    uint32_t instance; /* API server, engine core */
    uint32_t sub;      /* worker of its engine core */
    uint32_t gpu;      /* launching threads: which GPU */
    time_ps busy;      /* not waiting; occupancy and waits for a core included */
    time_ps occupancy;
    time_ps cpu;      /* spinning included */
    time_ps cpu_wait; /* runnable, all cores taken */
    uint64_t turns_count;
    uint64_t messages_in_count;
    uint64_t messages_out_count;
    uint64_t requests_count;
    uint64_t finished_count;
    uint64_t failed_count;
    uint64_t prompt_tokens;
    uint64_t output_tokens;
    uint64_t queue_max;   /* these two: engine core, and its output thread */
    time_ps queue_length; /* x time */
    time_ps lock_held;    /* interpreter lock */
    time_ps lock_wait;
    /* engine core */
    uint64_t steps_count;
    uint64_t backlog_steps_count;
    uint64_t step_seqs;
    uint64_t step_tokens;
    time_ps step;
    uint64_t running_now;
    uint64_t waiting_now;
    uint64_t preemptions_count;
    uint64_t kv_used_blocks;
    uint64_t waves_count;
    uint64_t dummy_steps_count;
    time_ps collective_wait;
    /* launching threads */
    uint64_t launches_count[SIMULATION_LAUNCHES_COUNT];
    time_ps launch[SIMULATION_LAUNCHES_COUNT];
    time_ps launch_max;
    time_ps prepare;
    time_ps queue_full;
    time_ps sync_wait;
    time_ps idle;
    time_ps gpu_busy;
    time_ps gpu_idle_late;
    time_ps gpu_idle_absent;
    time_ps gpu_switch;
};

struct simulation;

/* INVALID names the option that is out of range. The options' pointers and the source's and
 * observer's contexts must outlive the simulation. */
MUST_CHECK enum status simulation_create(const struct simulation_options *options,
                                         const struct simulation_source *source,
                                         const struct simulation_observer *observer,
                                         struct simulation **out, struct error *error);
void simulation_destroy(struct simulation *s);

/*
 * All events up to and including `until`, or until the source has no more requests and all have
 * ended (TIME_NEVER: that alone). INVALID: the source broke its rules. PROTOCOL: nothing can happen
 * any more and requests are open.
 */
MUST_CHECK enum status simulation_run(struct simulation *s, time_ps until, struct error *error);
/* All requests that the source had have ended. */
bool simulation_done(const struct simulation *s);
time_ps simulation_now(const struct simulation *s);
/* Every thread of the system, the client's included; valid until the next call. */
const struct simulation_thread *simulation_threads(struct simulation *s, uint32_t *count);
enum simulation_level simulation_level(const struct simulation *s);
/* Requests that run and wait at one engine core, as it counted last. Unlike simulation_threads() it
 * looks at nothing else. */
struct simulation_queue {
    uint64_t running_count;
    uint64_t waiting_count;
};
struct simulation_queue simulation_queue(const struct simulation *s, uint32_t engine);
/* KV blocks of each engine core, as given or found. */
uint32_t simulation_kv_blocks(const struct simulation *s);

struct simulation_totals {
    uint64_t events_count;
    uint64_t sent_count;
    uint64_t ended_count; /* failed ones included */
    uint64_t failed_count;
    uint64_t output_tokens; /* read by the client */
    uint64_t inflight_max;
    uint64_t log_hash; /* of every event so far: time, thread and what it did */
};
struct simulation_totals simulation_totals(const struct simulation *s);

/* Invariants of every object; NULL: all hold. For tests. */
const char *simulation_check(const struct simulation *s);

#endif
